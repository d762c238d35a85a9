
# Random DAGs, random outcomes, and clears, marks, pauses, cancels, triggers and
# backfills in between: what becomes of each run must be what FlowpgModel says.
#
# Each DAG, its script of outcomes and what is done to it follow from one seed.
# FLOWPG_SEED is the first one, FLOWPG_ROUNDS the number of rounds, FLOWPG_DAGS that
# of DAGs in each.  A DAG that comes out differently is shown as SQL, with what
# was expected; FLOWPG_SEED=<its seed> FLOWPG_ROUNDS=1 FLOWPG_DAGS=1 plays it alone.

use strict;
use warnings;

use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FlowpgTest;
use FlowpgModel;

my $first_seed = $ENV{FLOWPG_SEED} // 1;
my $nrounds = $ENV{FLOWPG_ROUNDS} // 5;
my $ndags = $ENV{FLOWPG_DAGS} // 500;

# Simulated days, counted from 1970-01-01, as in FlowpgModel.
my $SECONDS_PER_DAY = 86400;
my $first_day = 19_723;    # 2024-01-01
my @steps = (2, 1, 3);     # days from one look at a DAG to the next
my $ntries = 8;            # attempts of a task that the script knows

my $nshown = 0;            # DAGs that came out differently
my %total = map { $_ => 0 } qw(runs tasks attempts acts);
my %states;                # how often tasks ended so

# ------------------------------------------------------------------------
# Numbers that look random and follow from a seed on every machine.

sub FlowpgRandom::new
{
	my ($class, $seed) = @_;
	my $self = bless { state => ($seed * 2_654_435_761 + 97) % 4_294_967_291 || 1 }, $class;

	$self->int(2) foreach 1 .. 8;
	return $self;
}

# 0 to n - 1
sub FlowpgRandom::int
{
	my ($self, $n) = @_;
	my $x = $self->{state};

	$x ^= ($x << 13) & 0xFFFFFFFF;
	$x ^= $x >> 17;
	$x ^= ($x << 5) & 0xFFFFFFFF;
	$self->{state} = $x;
	return ($x >> 3) % $n;
}

sub FlowpgRandom::percent
{
	my ($self, $percent) = @_;

	return $self->int(100) < $percent;
}

sub FlowpgRandom::pick
{
	my ($self, @values) = @_;

	return $values[ $self->int(scalar @values) ];
}

sub FlowpgRandom::some
{
	my ($self, $n, @values) = @_;

	push @values, splice(@values, $self->int(scalar @values), 1) foreach 1 .. @values;
	return @values[ 0 .. ($n < @values ? $n : @values) - 1 ];
}

# ------------------------------------------------------------------------
# SQL

sub quoted
{
	my ($value) = @_;

	return 'NULL' unless defined $value;
	return quoted_array(@$value) if ref $value;
	return $value if $value =~ /^-?\d+$/;
	$value =~ s/'/''/g;
	return "'$value'";
}

sub quoted_array
{
	return "'{" . join(',', @_) . "}'";
}

sub day_text
{
	my ($day) = @_;
	my @t = gmtime($day * $SECONDS_PER_DAY);

	return sprintf '%04d-%02d-%02d', $t[5] + 1900, $t[4] + 1, $t[3];
}

sub time_text
{
	my ($seconds) = @_;
	my @t = gmtime($seconds);

	return sprintf '%s %02d:%02d:%02d+00', day_text(int($seconds / $SECONDS_PER_DAY)), @t[ 2, 1, 0 ];
}

# A function with arguments by name; undef is not given.
sub call
{
	my ($function, %arguments) = @_;

	return "SELECT $function(" . join(', ', map { "$_ => " . quoted($arguments{$_}) } grep { defined $arguments{$_} } sort keys %arguments) . ')';
}

# ------------------------------------------------------------------------
# A DAG from its seed

sub random_dag
{
	my ($seed, $start) = @_;
	my $random = FlowpgRandom->new($seed);
	my %dag = (
		seed => $seed,
		random => $random,
		id => "p$seed" . ($random->percent(5) ? q{ d'été, "x" %s} : ''),
		start => $start,
		catchup => $random->percent(80),
		# compared at every step, for no limit can hold up what is due
		is_exact => $random->percent(60),
		depends_on_past => $random->percent(25),
		retries => $random->pick(0, 0, 1, 2),
		retry_delay => $random->pick(0, 60, 120, 180),
		has_backoff => $random->percent(30),
		tasks => []);
	$dag{max_retry_delay} = 200 if $dag{has_backoff} && $random->percent(50);
	my $n = 1 + $random->int($random->pick(3, 8, 12));
	my @ids = $random->some($n, 'a' .. 'l');

	push @{ $dag{tasks} }, random_task(\%dag, $_, $ids[$_]) foreach 0 .. $n - 1;
	choose_branches(\%dag);
	random_script(\%dag, $_) foreach @{ $dag{tasks} };
	$dag{outcome} = sub { return outcome(@_) };
	$dag{depends_on_any_past} = grep { $_->{depends_on_past} } @{ $dag{tasks} };
	$dag{has_branch} = grep { $_->{operator} eq 'branch' } @{ $dag{tasks} };
	$dag{definition} = [ define_dag(\%dag) ];
	$dag{model} = FlowpgModel->new(\%dag);
	$dag{log} = [];
	return \%dag;
}

sub random_task
{
	my ($dag, $i, $id) = @_;
	my $random = $dag->{random};
	my @up = $random->some($random->pick(0, 1, 1, 2, 2, 3, 4), 0 .. $i - 1);
	my %task = (
		id => $id,
		up => \@up,
		operator => $random->pick(('sql') x 7, 'check', 'check', 'sensor', 'sensor', 'branch', 'branch'),
		rule => $random->percent(45) ? 'all_success' : $random->pick(FlowpgModel::rules()),
		own_depends_on_past => $random->percent(8) ? $random->pick('true', 'false') : undef,
		own_retries => $random->percent(20) ? $random->int(4) : undef,
		own_retry_delay => $random->percent(20) ? $random->pick(0, 90, 150) : undef);

	$task{depends_on_past} = defined $task{own_depends_on_past} ? $task{own_depends_on_past} eq 'true' : $dag->{depends_on_past};
	$task{retries} = $task{own_retries} // $dag->{retries};
	$task{retry_delay} = $task{own_retry_delay} // $dag->{retry_delay};
	$task{has_backoff} = $dag->{has_backoff};
	$task{max_retry_delay} = $dag->{max_retry_delay};
	$task{is_warning} = $random->percent(40);
	$task{soft_fail} = $random->percent(50);
	$task{gives_up} = $random->percent(50);

	# Below a branch, `always` would run or not by what comes first.
	$task{rule} = 'all_done'
	  if $task{rule} eq 'always' && grep { $dag->{tasks}[$_]{operator} eq 'branch' } @up;
	return \%task;
}

# Which tasks a branch yields, day by day.
sub choose_branches
{
	my ($dag) = @_;
	my $tasks = $dag->{tasks};

	foreach my $i (grep { $tasks->[$_]{operator} eq 'branch' } 0 .. $#$tasks)
	{
		my @down = map { $_->{id} } grep { grep { $_ == $i } @{ $_->{up} } } @$tasks;

		foreach my $day (script_days($dag))
		{
			$tasks->[$i]{follow}{$day} = [ sort $dag->{random}->some($dag->{random}->int(@down + 1), @down) ];
		}
	}
	return;
}

# Some days before the start, for backfills.
sub script_days
{
	my ($dag) = @_;
	my $days = 0;

	$days += $_ foreach @steps;
	return $dag->{start} - 2 .. $dag->{start} + $days;
}

# Which attempts fail, and when a sensor's condition becomes true.
sub random_script
{
	my ($dag, $task) = @_;
	my $random = $dag->{random};
	my $character = $random->int(10);

	foreach my $day (script_days($dag))
	{
		my $is_bad = $character == 0 || ($character <= 3 && $random->percent(40));

		foreach my $try (1 .. $ntries)
		{
			next if $character > 5;
			$task->{fails}{$day}{$try} = $random->pick('error', 'false') if $is_bad ? $random->percent(85) : $random->percent(15);
		}
		next if $task->{operator} ne 'sensor';
		$task->{true_at}{$day} =
		  !$task->{gives_up} ? ($day + 1) * $SECONDS_PER_DAY + $random->pick(-60, -60, 100, 200, 700)
		  : $random->percent(50) ? $day * $SECONDS_PER_DAY
		  : undef;
	}
	return;
}

sub outcome
{
	my ($task, $day, $try, $now) = @_;
	my $failure = $task->{fails}{$day}{$try};
	my $operator = $task->{operator};

	if (defined $failure && $operator eq 'check')
	{
		return { failed => $failure eq 'error' || !$task->{is_warning} };
	}
	return { failed => 1 } if defined $failure;
	if ($operator eq 'sensor')
	{
		my $true_at = $task->{true_at}{$day};

		return {} if defined $true_at && $true_at <= $now;
		return $task->{gives_up} ? { timed_out => 1 } : { poke_at => $now + 300 };
	}
	return { follow => $task->{follow}{$day} };
}

# ------------------------------------------------------------------------
# The same for flowpg

my %task_sql = (
	sql => q{SELECT attempt(run.dag_id, run.task_id, run.ds, run.try_number); INSERT INTO effect VALUES (run.run_id, run.task_id, run.try_number)},
	check => q{SELECT attempt(run.dag_id, run.task_id, run.ds, run.try_number)},
	sensor => q{SELECT attempt(run.dag_id, run.task_id, run.ds, run.try_number) AND is_true(run.dag_id, run.task_id, run.ds)},
	branch => q{SELECT follow(run.dag_id, run.task_id, run.ds, run.try_number)});

# Its definition call by call, or as one document.
sub define_dag
{
	my ($dag) = @_;
	my $random = $dag->{random};
	my %definition = (
		dag_id => $dag->{id},
		schedule => '@daily',
		start_date => day_text($dag->{start}),
		catchup => $dag->{catchup} ? 'true' : 'false',
		depends_on_past => $dag->{depends_on_past} ? 'true' : undef,
		retries => $dag->{retries},
		retry_delay => "$dag->{retry_delay} s",
		retry_exponential_backoff => $dag->{has_backoff} ? 'true' : undef,
		max_retry_delay => $dag->{max_retry_delay} && "$dag->{max_retry_delay} s",
		priority => $random->percent(20) ? $random->int(5) : undef,
		max_active_runs => $dag->{is_exact} ? undef : $random->pick(1, 1, 2, 3),
		max_active_tasks => $random->percent(30) ? 1 + $random->int(3) : undef);
	my @tasks = map { define_task($dag, $_) } @{ $dag->{tasks} };

	return 'SELECT flow_apply(' . quoted(document(\%definition, @tasks)) . ')'
	  if $random->percent(20);
	return (
		call('flow_create_dag', %definition),
		map { my $operator = delete $_->{operator}; call("flow_add_$operator", dag_id => $dag->{id}, %$_) } @tasks);
}

sub define_task
{
	my ($dag, $task) = @_;
	my $random = $dag->{random};
	my %definition = (
		task_id => $task->{id},
		operator => $task->{operator},
		upstream => @{ $task->{up} } ? [ map { $dag->{tasks}[$_]{id} } @{ $task->{up} } ] : undef,
		trigger_rule => $task->{rule},
		depends_on_past => $task->{own_depends_on_past},
		retries => $task->{own_retries},
		retry_delay => defined $task->{own_retry_delay} ? "$task->{own_retry_delay} s" : undef,
		priority_weight => $random->percent(20) ? $random->int(10) : undef);

	$definition{ $task->{operator} =~ /^(check|sensor)$/ ? 'condition' : 'command' } = $task_sql{ $task->{operator} };
	$definition{in_transaction} = 'false' if $task->{operator} eq 'sql' && $random->percent(5);
	$definition{severity} = 'warn' if $task->{operator} eq 'check' && $task->{is_warning};
	if ($task->{operator} eq 'sensor')
	{
		$definition{poke_interval} = '5 minutes';
		$definition{timeout} = '1 microsecond' if $task->{gives_up};
		$definition{soft_fail} = 'true' if $task->{soft_fail};
	}
	if ($random->percent(20))
	{
		$definition{pool} = $random->pick('narrow', 'middle');
		$definition{pool_slots} = 1 + $random->int(2) if $definition{pool} eq 'middle';
	}
	return \%definition;
}

sub document
{
	my ($dag, @tasks) = @_;

	return object(%$dag, tasks => '[' . join(', ', map { object(%$_) } @tasks) . ']');
}

# JSON; what looks like it already is taken as it is.
sub object
{
	my (%members) = @_;

	return '{' . join(', ', map { json_string($_) . ': ' . json($members{$_}) } grep { defined $members{$_} } sort keys %members) . '}';
}

sub json
{
	my ($value) = @_;

	return '[' . join(', ', map { json_string($_) } @$value) . ']' if ref $value;
	return $value =~ /^(-?\d+|true|false|\[\{.*)$/ ? $value : json_string($value);
}

sub json_string
{
	my ($value) = @_;

	$value =~ s/(["\\])/\\$1/g;
	return qq{"$value"};
}

# is_wanted: code that is given a task, a day and a try_number.
sub script_sql
{
	my ($dag, $is_wanted) = @_;
	my @fails;
	my @answers;

	foreach my $task (@{ $dag->{tasks} })
	{
		foreach my $day (sort keys %{ $task->{fails} })
		{
			push @fails, join ', ', map { quoted($_) } $dag->{id}, $task->{id}, day_text($day), $_, $task->{fails}{$day}{$_}
			  foreach grep { $is_wanted->($task, $day, $_) } sort keys %{ $task->{fails}{$day} };
		}
		next unless $task->{operator} eq 'sensor' || $task->{operator} eq 'branch';
		foreach my $day (grep { $is_wanted->($task, $_, 1) } script_days($dag))
		{
			my $true_at = $task->{true_at}{$day};

			push @answers, join ', ', (map { quoted($_) } $dag->{id}, $task->{id}, day_text($day)),
			  defined $true_at ? quoted(time_text($true_at)) : 'NULL', quoted_array(@{ $task->{follow}{$day} // [] });
		}
	}
	return ((@fails ? 'INSERT INTO failure VALUES (' . join('), (', @fails) . ')' : ()),
		(@answers ? 'INSERT INTO answer VALUES (' . join('), (', @answers) . ')' : ()));
}

# ------------------------------------------------------------------------
# What is done to a DAG between two steps: the SQL, and what the model is told
# once it has been done.  Only what cannot depend on the order in which tasks
# happen to run.

sub random_acts
{
	my ($dags, $day, $is_settled) = @_;

	return { map { $_->{seed} => scalar random_act($_, $day, $is_settled) } @$dags };
}

sub random_act
{
	my ($dag, $day, $is_settled) = @_;
	my $random = $dag->{random};
	my $model = $dag->{model};
	my $now = $dag->{now};
	my @runs = map { $model->{runs}{$_} } sort keys %{ $model->{runs} };
	my $id = quoted($dag->{id});

	return if $dag->{differs};
	if ($model->{is_paused})
	{
		if ($random->percent(60))
		{
			my $skip_missed = $random->percent(40);

			return [ "SELECT flow_resume($id, skip_missed => " . ($skip_missed ? 'true' : 'false') . ')', sub { $model->resume($skip_missed, $now); return } ];
		}
		return $random->percent(50) ? random_backfill($dag, $day) : random_trigger($dag, $day);
	}
	# others could change what a run that is under way does meanwhile
	return if !$is_settled && !$dag->{is_exact};
	return unless @runs && $random->percent(70);

	my $kind = $random->int(100);

	return random_clear($dag, $day) if $kind < 45;
	return random_mark($dag, @runs) if $kind < 60;
	return random_cancel($dag, @runs) if $kind < 72;
	return [ "SELECT flow_pause($id)", sub { $model->pause; return } ] if $kind < 78;
	return unless $is_settled;
	return $random->percent(65) ? random_backfill($dag, $day) : random_trigger($dag, $day);
}

sub random_clear
{
	my ($dag, $day) = @_;
	my $random = $dag->{random};
	my ($from, $to, $task_ids);
	my $downstream = $random->percent(70);
	my $only_failed = $random->percent(30);

	$from = $dag->{start} - 2 + $random->int($day - $dag->{start} + 2) if $random->percent(90);
	$to = ($from // $dag->{start}) + $random->int(3) if $random->percent(90);
	$task_ids = [ $random->some(1 + $random->int(2), map { $_->{id} } @{ $dag->{tasks} }) ] if $random->percent(80);
	# what stands below a branch runs again with it
	$downstream = 1 if $dag->{has_branch};

	return [
		call(
			'flow_clear',
			dag_id => $dag->{id},
			start_date => defined $from ? day_text($from) : undef,
			end_date => defined $to ? day_text($to) : undef,
			task_ids => $task_ids,
			downstream => $downstream ? 'true' : 'false',
			only_failed => $only_failed ? 'true' : 'false'),
		sub { return $dag->{model}->clear($from, $to, $task_ids, $downstream, $only_failed) }
	];
}

sub random_mark
{
	my ($dag, @runs) = @_;
	my $random = $dag->{random};
	my $run = $random->pick(@runs);
	my $i = $random->int(scalar @{ $dag->{tasks} });
	my $task_id = $dag->{tasks}[$i]{id};
	my $state = $random->pick(qw(success failed skipped));

	# a branch that runs again would find tasks below it that do not
	return if grep { $dag->{tasks}[$_]{operator} eq 'branch' } keys %{ $dag->{model}->with_downstream($i) };
	return [ "SELECT flow_mark($run->{run_id}, " . quoted($task_id) . ", '$state')", sub { $dag->{model}->mark($run, $task_id, $state); return } ];
}

sub random_cancel
{
	my ($dag, @runs) = @_;

	@runs = grep { $_->{state} eq 'running' } @runs or return;
	my $run = $dag->{random}->pick(@runs);

	return [ "SELECT flow_cancel_run($run->{run_id})", sub { $dag->{model}->cancel($run); return } ];
}

sub random_trigger
{
	my ($dag, $day) = @_;
	my $of = $dag->{start} - 2 + $dag->{random}->int($day - $dag->{start} + 2);

	# which run is the one before a manual one?
	return if $dag->{depends_on_any_past};
	$dag->{has_manual} = 1;
	return [ call('flow_trigger', dag_id => $dag->{id}, logical_date => day_text($of)), sub { $dag->{model}->trigger($_[0], $of); return $_[0] } ];
}

sub random_backfill
{
	my ($dag, $day) = @_;
	my $random = $dag->{random};
	my $model = $dag->{model};
	my $from = $dag->{start} - 2 + $random->int($day - $dag->{start} + 2);
	my $to = $from + $random->int(4);
	my $now = $dag->{now};
	my $reprocess = $random->pick(qw(none failed completed));
	my $ignores_past = $random->percent(30);

	return if $dag->{has_manual};
	if ($dag->{depends_on_any_past} && !$ignores_past)
	{
		# the first interval of the range is also the first one to run
		$reprocess = 'completed';
		return if $model->{runs}{$from} && $model->{runs}{$from}{state} eq 'running';
	}
	return [
		call(
			'flow_backfill',
			dag_id => $dag->{id},
			start_date => day_text($from),
			end_date => day_text($to),
			reprocess => $reprocess,
			max_active_runs => $dag->{is_exact} || $random->percent(50) ? undef : 1 + $random->int(2),
			run_backwards => !$dag->{depends_on_any_past} && $random->percent(30) ? 'true' : undef,
			ignore_depends_on_past => $ignores_past ? 'true' : undef),
		sub { $model->backfill($from, $to, $reprocess, $ignores_past, $now); return $_[0] }
	];
}

# ------------------------------------------------------------------------
# Playing

my $node = new_node(
	'property', conf => q{
flowpg.simulated_now = '2024-01-01 00:00:00+00'
max_connections = 60
});

$node->safe_psql('postgres', q{
CREATE TABLE failure (dag_id text, task_id text, ds date, try_number int, how text, PRIMARY KEY (dag_id, task_id, ds, try_number));
CREATE TABLE answer (dag_id text, task_id text, ds date, true_at timestamptz, follow text[], PRIMARY KEY (dag_id, task_id, ds));
CREATE TABLE effect (run_id bigint, task_id text, try_number int);
CREATE INDEX ON effect (run_id);
CREATE TABLE dag_of_round (n int, dag_id text);
SELECT flow_create_pool('narrow', 1), flow_create_pool('middle', 3);

-- raises, or is false, where the script says so
CREATE FUNCTION attempt(dag_id text, task_id text, ds date, try_number int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	how text;
BEGIN
	SELECT f.how INTO how FROM failure f WHERE (f.dag_id, f.task_id, f.ds, f.try_number) = ($1, $2, $3, $4);
	IF how = 'error' OR (how = 'false' AND (SELECT operator <> 'check' FROM flow.task t WHERE (t.dag_id, t.task_id) = ($1, $2))) THEN
		RAISE EXCEPTION 'attempt % fails', try_number;
	END IF;
	RETURN how IS NULL;
END $$;
CREATE FUNCTION is_true(dag_id text, task_id text, ds date) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce((SELECT a.true_at <= flow.clock_now() FROM answer a WHERE (a.dag_id, a.task_id, a.ds) = ($1, $2, $3)), false);
END $$;
CREATE FUNCTION follow(dag_id text, task_id text, ds date, try_number int) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
	PERFORM attempt(dag_id, task_id, ds, try_number);
	RETURN (SELECT a.follow FROM answer a WHERE (a.dag_id, a.task_id, a.ds) = ($1, $2, $3));
END $$;
});

# What there is of the runs of a round; the last line says when something is to
# be looked at next.
my $look = q{
SELECT 'run', d.n, r.run_id, r.run_type, extract(epoch FROM r.logical_date)::bigint / 86400, r.state
FROM dag_of_round d JOIN flow.dag_run r USING (dag_id) ORDER BY r.run_id;
SELECT 'task', t.run_id, t.task_id, t.try_number, t.state || CASE WHEN t.state LIKE 'up_for%' THEN ' ' || to_char(t.retry_at, 'HH24:MI:SS') ELSE '' END
FROM dag_of_round d JOIN flow.dag_run r USING (dag_id) JOIN flow.task_run t USING (run_id);
SELECT 'covered', d.n, c.covered FROM dag_of_round d JOIN flow.coverage c USING (dag_id);
SELECT 'effect', e.run_id, string_agg(e.task_id || e.try_number, ' ' ORDER BY e.task_id, e.try_number)
FROM dag_of_round d JOIN flow.dag_run r USING (dag_id) JOIN effect e USING (run_id) GROUP BY 2;
SELECT 'next', extract(epoch FROM max(t.retry_at))::bigint
FROM dag_of_round d JOIN flow.dag_run r USING (dag_id) JOIN flow.task_run t USING (run_id)
WHERE r.state = 'running' AND t.state IN ('up_for_retry', 'up_for_reschedule');
};

# Does the acts, goes on to a time and looks; returns when something is to be
# looked at next.
sub step
{
	my ($dags, $now, $acts, $is_settled) = @_;
	my @sql;
	my @acted;

	foreach my $dag (grep { $acts->{ $_->{seed} } } @$dags)
	{
		my $act = $acts->{ $dag->{seed} };

		push @{ $dag->{log} }, $act->[0];
		push @acted, [ $dag, $act->[1] ];
		push @sql, "SELECT 'act', $#acted, ($act->[0]);";
	}
	@sql = ('BEGIN;', @sql, 'COMMIT;') if @sql;
	push @sql, "DO \$\$BEGIN PERFORM flow_advance('" . time_text($now) . "'); END\$\$;", $look;

	my %seen;
	foreach my $line (split /\n/, $node->safe_psql('postgres', join "\n", @sql))
	{
		my ($kind, @fields) = split /\|/, $line, -1;

		push @{ $seen{$kind} }, \@fields;
	}
	foreach my $answer (@{ $seen{act} })
	{
		my ($dag, $tell) = @{ $acted[ $answer->[0] ] };
		my $expected = $tell->($answer->[1]);

		differs($dag, "the act gave $answer->[1], expected $expected") if defined $expected && $expected ne $answer->[1];
		$total{acts}++;
	}
	foreach my $dag (@$dags)
	{
		$dag->{now} = $now;
		push @{ $dag->{log} }, "SELECT flow_advance('" . time_text($now) . "')";
		$dag->{model}->advance($now);
	}
	compare($dags, \%seen, $is_settled);
	return $seen{next}[0][0];
}

# Those whose states depend on limits are compared when all has settled.
sub compare
{
	my ($dags, $seen, $is_settled) = @_;
	my %tasks;
	my %runs;
	my %effect = map { $_->[0] => $_->[1] } @{ $seen->{effect} };
	my %covered = map { $_->[0] => $_->[1] } @{ $seen->{covered} };
	my $must_settle = !defined $seen->{next}[0][0] || $seen->{next}[0][0] eq '';

	foreach my $field (@{ $seen->{task} })
	{
		$tasks{ $field->[0] }{ $field->[1] } = $field;
	}
	push @{ $runs{ $_->[0] } }, $_ foreach @{ $seen->{run} };
	foreach my $n (0 .. $#$dags)
	{
		my $dag = $dags->[$n];
		my $model = $dag->{model};
		my (%got, %expected);

		foreach my $run (@{ $runs{$n} })
		{
			my (undef, $run_id, $run_type, $day, $state) = @$run;
			my $key = $run_type eq 'manual' ? "manual $run_id" : $day;

			$model->{runs}{$key}{run_id} = $run_id if $model->{runs}{$key};
			$got{$key} = join ' ', $state,
			  map { my $t = $tasks{$run_id}{ $_->{id} }; "$_->{id}=" . ($t->[3] // '') . '/' . ($t->[2] || 0) } @{ $dag->{tasks} };
			$got{$key} .= " ($effect{$run_id})" if defined $effect{$run_id};
		}
		next unless $dag->{is_exact} || $must_settle;
		foreach my $key (keys %{ $model->{runs} })
		{
			$expected{$key} = expected_of($dag, $model->{runs}{$key});
		}
		if (!$dag->{has_manual} && $must_settle)
		{
			$got{covered} = $covered{$n} // '{}';
			$expected{covered} = expected_coverage($model);
		}
		foreach my $key (sort keys %{ { %got, %expected } })
		{
			my ($got, $expected) = ($got{$key} // 'nothing', $expected{$key} // 'nothing');

			differs($dag, ($key =~ /^\d+$/ ? day_text($key) : $key) . ":\n  got      $got\n  expected $expected") if $got ne $expected;
		}
	}
	return;
}

sub expected_of
{
	my ($dag, $run) = @_;
	my @done;
	my @tasks;

	foreach my $i (sort { $dag->{tasks}[$a]{id} cmp $dag->{tasks}[$b]{id} } 0 .. $#{ $dag->{tasks} })
	{
		push @done, map { "$dag->{tasks}[$i]{id}$_" } @{ $run->{tasks}[$i]{done} } if $dag->{tasks}[$i]{operator} eq 'sql';
	}
	foreach my $i (0 .. $#{ $dag->{tasks} })
	{
		my $task_run = $run->{tasks}[$i];
		my $state = $task_run->{state} // '';

		$state .= time_text($task_run->{at}) =~ s/.* (.*)\+00/ $1/r if $state =~ /^up_for/;
		push @tasks, "$dag->{tasks}[$i]{id}=$state/$task_run->{try}";
	}
	return join ' ', $run->{state}, @tasks, @done ? '(' . join(' ', @done) . ')' : ();
}

sub expected_coverage
{
	my ($model) = @_;
	my @ranges;

	foreach my $day (sort { $a <=> $b } grep { $model->{runs}{$_}{state} eq 'success' } keys %{ $model->{runs} })
	{
		if (@ranges && $ranges[-1][1] == $day)
		{
			$ranges[-1][1]++;
		}
		else
		{
			push @ranges, [ $day, $day + 1 ];
		}
	}
	return '{' . join(',', map { '["' . day_text($_->[0]) . ' 00:00:00+00","' . day_text($_->[1]) . ' 00:00:00+00")' } @ranges) . '}';
}

# Shows a DAG with all that has been done, and the part of the script that has
# mattered; once.
sub differs
{
	my ($dag, $how) = @_;

	return if $dag->{differs}++;
	return if ++$nshown > 5;
	my %days = map { $_->{day} => 1 } values %{ $dag->{model}{runs} };
	my ($ntried) = sort { $b <=> $a } map { $_->{try} } map { @{ $_->{tasks} } } values %{ $dag->{model}{runs} };
	my $has_mattered = sub { return $days{ $_[1] } && $_[2] <= $ntried + 1 };

	diag(join "\n", "seed $dag->{seed}, at " . time_text($dag->{now}) . ": $how",
		map { "$_;" } @{ $dag->{definition} }, script_sql($dag, $has_mattered), @{ $dag->{log} });
	return;
}

sub play_round
{
	my ($round) = @_;
	my $since = time;
	my $day = $first_day + $round * 10;
	my @dags = map { random_dag($first_seed + $round * $ndags + $_, $day) } 0 .. $ndags - 1;

	$_->{now} = $day * $SECONDS_PER_DAY foreach @dags;
	$node->safe_psql('postgres', "SELECT flow_advance('" . time_text($day * $SECONDS_PER_DAY) . "')");
	define($node, join ";\n",
		'TRUNCATE dag_of_round',
		(map { "INSERT INTO dag_of_round VALUES ($_, " . quoted($dags[$_]{id}) . ')' } 0 .. $#dags),
		(map { (@{ $_->{definition} }, script_sql($_, sub { return 1 })) } @dags));

	foreach my $days (@steps)
	{
		$day += $days;
		my $now = $day * $SECONDS_PER_DAY;
		my $next = step(\@dags, $now, {});

		# what is in memory is only what the tables say
		restart_scheduler() if $days == $steps[1];
		restart_server() if $days == $steps[2];
		# while runs are under way
		$next = step(\@dags, $now, random_acts(\@dags, $day, 0));
		$now = settle(\@dags, $now, $next);
		# when they have ended
		foreach (1 .. 2)
		{
			$next = step(\@dags, $now, random_acts(\@dags, $day, 1));
			$now = settle(\@dags, $now, $next);
		}
	}

	foreach my $dag (@dags)
	{
		my @tasks = map { @{ $_->{tasks} } } values %{ $dag->{model}{runs} };

		$total{runs} += keys %{ $dag->{model}{runs} };
		$total{tasks} += @tasks;
		$total{attempts} += $_->{try} foreach @tasks;
		$states{ $_->{state} // 'waits for ever' }++ foreach @tasks;
	}
	my $ndiffering = grep { $_->{differs} } @dags;
	is($ndiffering, 0, sprintf 'round %d: DAGs %d to %d', $round + 1, $dags[0]{seed}, $dags[-1]{seed});
	note(sprintf '%.1f s', time - $since);

	$node->safe_psql('postgres', 'SELECT flow_drop_dag(dag_id) FROM dag_of_round');
	return $ndiffering == 0;
}

sub restart_scheduler
{
	my $pid = scheduler_pid($node);

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_scheduler($node, not_pid => $pid);
	return;
}

sub restart_server
{
	$node->restart;
	wait_for_scheduler($node);
	return;
}

# From one retry or poke to the next, until nothing waits for a time.
sub settle
{
	my ($dags, $now, $next) = @_;

	while (defined $next && $next ne '')
	{
		die "something goes on for more than a day" if $next - $now > $SECONDS_PER_DAY / 2;
		$now = $next;
		$next = step($dags, $now, {});
	}
	return $now;
}

# ------------------------------------------------------------------------

# The model knows the rules, by the cases of test/vectors.
{
	my ($nrows, @wrong) = (0);

	open my $file, '<', dirname(__FILE__) . '/../vectors/trigger_rule_matrix.csv' or die "could not open the matrix: $!";
	while (my $line = <$file>)
	{
		chomp $line;
		my ($rule, $ntotal, $nsuccess, $nskipped, $nfailed, $nupstream_failed, $nopen, $decision) = split /,/, $line;

		next if $rule eq 'rule' || ($rule eq 'all_done' && $nopen > 0);
		$nrows++;
		push @wrong, $line
		  if $decision ne FlowpgModel::decide($rule, ('success') x $nsuccess, ('skipped') x $nskipped, ('failed') x $nfailed,
			('upstream_failed') x $nupstream_failed, (undef) x $nopen);
	}
	close $file;
	is(join("\n", @wrong), '', "the model decides like all $nrows cases of the matrix");
}

foreach my $round (0 .. $nrounds - 1)
{
	play_round($round);
}
note("$total{runs} runs with $total{tasks} tasks, $total{attempts} attempts; $total{acts} acts");

note(join ', ', map { "$_: $states{$_}" } sort keys %states);

$node->stop;
done_testing();
