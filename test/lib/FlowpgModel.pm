
=pod

=head1 NAME

FlowpgModel - what should become of a DAG's runs, computed from the rules alone

=head1 SYNOPSIS

  my $model = FlowpgModel->new($dag);
  $model->advance($now);            # due runs are made, all goes on as far as it can
  my $n = $model->clear($from, $to, \@task_ids, $downstream, $only_failed);
  $model->advance($now);

=head1 DESCRIPTION

A second opinion for property tests.  It knows neither processes nor limits nor
an order in which tasks run: at each moment of simulated time it repeats "what
may go on does" until nothing changes, which must lead to the same end as
flowpg's scheduler does.  It is written from the rules as the README states them,
and short enough to be checked against that by reading.

A DAG is a hash:

  start       first day; days are counted from 1970-01-01
  catchup     true: runs of all days, else of the latest one only
  tasks       array of hashes, upstream tasks before those that wait for them:
    id, operator (sql, check, sensor, branch), rule, up (indexes), depends_on_past,
    retries, retry_delay (seconds), has_backoff, max_retry_delay, soft_fail
  outcome     code: ($task, $day, $try_number, $now) -> a hash with
    failed      the attempt fails
    poke_at     a sensor's condition is not true; looked at again at this time
    timed_out   a sensor's condition is not true, and its time is over
    follow      the task_ids that a branch yields

Runs are kept in C<runs>, under their day, or "manual <run_id>": hashes with
C<day>, C<state> and C<tasks>, each with C<state>, C<try>, C<at> (when it is tried
or looked at again) and C<done> (the attempts that succeeded).

=cut

package FlowpgModel;

use strict;
use warnings;

use Carp;
use List::Util qw(max);

my $SECONDS_PER_DAY = 86400;

my %is_final = map { $_ => 1 } qw(success failed skipped upstream_failed cancelled);
my %is_failure = map { $_ => 1 } qw(failed upstream_failed cancelled);

# What a trigger rule makes of upstream tasks that have all ended, in the states
# that are the keys of the hash; failed includes cancelled.
my %finished = (
	all_success => sub { any_failed(@_) ? 'upstream_failed' : $_[0]{skipped} ? 'skipped' : 'run' },
	all_failed => sub { $_[0]{success} || $_[0]{skipped} ? 'skipped' : 'run' },
	all_done => sub { 'run' },
	one_success => sub { $_[0]{success} ? 'run' : any_failed(@_) ? 'upstream_failed' : 'skipped' },
	one_failed => sub { any_failed(@_) ? 'run' : 'skipped' },
	one_done => sub { $_[0]{success} || $_[0]{failed} ? 'run' : 'skipped' },
	none_failed => sub { any_failed(@_) ? 'upstream_failed' : 'run' },
	none_failed_min_one_success =>
	  sub { any_failed(@_) ? 'upstream_failed' : $_[0]{success} ? 'run' : 'skipped' },
	none_skipped => sub { $_[0]{skipped} ? 'skipped' : 'run' },
	all_skipped => sub { keys %{ $_[0] } == 1 && $_[0]{skipped} ? 'run' : 'skipped' },
	all_done_min_one_success =>
	  sub { $_[0]{skipped} ? 'skipped' : $_[0]{success} ? 'run' : 'upstream_failed' },
	always => sub { 'run' });

sub any_failed
{
	my ($seen) = @_;

	return $seen->{failed} || $seen->{upstream_failed};
}

# The names of the rules.
sub rules
{
	my @names = sort keys %finished;

	return @names;
}

=pod

=over

=item decide($rule, @states)

What becomes of a task whose upstream tasks are in these states (undef: not
ended): run, skipped, upstream_failed or wait.  It waits unless every way in which
the others can end leads to the same decision.

=cut

my %known;

sub decide
{
	my ($rule, @states) = @_;
	my $nopen = grep { !defined } @states;
	my %seen = map { $_ eq 'cancelled' ? 'failed' : $_ => 1 } grep { defined } @states;

	return 'run' if !@states || $rule eq 'always';
	return 'wait' if $rule eq 'all_done' && $nopen > 0;
	my $key = join ' ', $rule, $nopen > 4 ? 4 : $nopen, sort keys %seen;
	return $known{$key} //= decide_open($rule, $nopen > 4 ? 4 : $nopen, \%seen);
}

sub decide_open
{
	my ($rule, $nopen, $seen) = @_;
	my %decisions;

	return $finished{$rule}->($seen) if $nopen == 0;
	foreach my $state (qw(success failed skipped upstream_failed))
	{
		$decisions{ decide_open($rule, $nopen - 1, { %$seen, $state => 1 }) } = 1;
	}
	return keys %decisions == 1 ? (keys %decisions)[0] : 'wait';
}

=pod

=item new($dag)

=cut

sub new
{
	my ($class, $dag) = @_;
	my $self = bless {
		dag => $dag,
		runs => {},
		is_paused => 0,
		last_day => $dag->{start} - 1,
		backfills => []
	}, $class;
	my $tasks = $dag->{tasks};

	$self->{index} = { map { $tasks->[$_]{id} => $_ } 0 .. $#$tasks };
	$self->{down} = [ map { [] } @$tasks ];
	foreach my $i (0 .. $#$tasks)
	{
		push @{ $self->{down}[$_] }, $i foreach @{ $tasks->[$i]{up} };
	}
	return $self;
}

# Indexes of the tasks and all that follow them, as keys of a hash.
sub with_downstream
{
	my ($self, @found) = @_;
	my %result;

	while (defined(my $i = shift @found))
	{
		push @found, @{ $self->{down}[$i] } unless $result{$i}++;
	}
	return \%result;
}

sub new_run
{
	my ($self, $key, $day) = @_;

	return $self->{runs}{$key} = {
		day => $day,
		is_manual => $key =~ /^manual/ ? 1 : 0,
		state => 'running',
		tasks => [ map { { try => 0, failures => 0, done => [] } } @{ $self->{dag}{tasks} } ]
	};
}

=pod

=item advance($now)

Makes the runs that are due, and lets all go on as far as it can at that time.

=cut

sub advance
{
	my ($self, $now) = @_;

	$self->make_due($now) unless $self->{is_paused};
	while (1)
	{
		my $nchanges = 0;

		foreach my $run (grep { $_->{state} eq 'running' } values %{ $self->{runs} })
		{
			$nchanges += $self->step_task($run, $_, $now) foreach 0 .. $#{ $run->{tasks} };
			$nchanges++ if $self->end_run($run);
		}
		last if $nchanges == 0;
	}
	$_->{has_ended} ||= !grep { $_->{state} eq 'running' } @{ $_->{runs} } foreach @{ $self->{backfills} };
	return;
}

sub latest_day
{
	my ($now) = @_;

	return int($now / $SECONDS_PER_DAY) - 1;
}

# A run is due when its day has ended.
sub make_due
{
	my ($self, $now) = @_;
	my $latest = latest_day($now);
	my $from = $self->{last_day} + 1;

	return if $latest < $from;
	$from = $latest unless $self->{dag}{catchup};
	foreach my $day ($from .. $latest)
	{
		$self->new_run($day, $day) unless $self->{runs}{$day};
	}
	$self->{last_day} = $latest;
	return;
}

# A run has ended when all its tasks have; it fails by its leaves.
sub end_run
{
	my ($self, $run) = @_;
	my $tasks = $run->{tasks};

	return 0 if grep { !defined $_->{state} || !$is_final{ $_->{state} } } @$tasks;
	$run->{state} =
	  (grep { !@{ $self->{down}[$_] } && $is_failure{ $tasks->[$_]{state} } } 0 .. $#$tasks)
	  ? 'failed'
	  : 'success';
	return 1;
}

# True if something has become of the task.
sub step_task
{
	my ($self, $run, $i, $now) = @_;
	my $task = $self->{dag}{tasks}[$i];
	my $task_run = $run->{tasks}[$i];

	if (!defined $task_run->{state})
	{
		my $decision = $self->decide_task($run, $i);

		return 0 if $decision eq 'wait';
		if ($decision ne 'run')
		{
			$task_run->{state} = $decision;
			return 1;
		}
		return 0 if $task->{depends_on_past} && !$self->is_past_met($run, $i);
		$task_run->{try}++;
	}
	elsif (!$is_final{ $task_run->{state} } && $task_run->{at} <= $now)
	{
		$task_run->{try}++ if $task_run->{state} eq 'up_for_retry';
	}
	else
	{
		return 0;
	}
	$self->attempt($task, $task_run, $run->{day}, $now);
	return 1;
}

# A branch that has succeeded skips the tasks directly below it that it does not
# lead to; what one that has not ended may skip waits for it.
sub decide_task
{
	my ($self, $run, $i) = @_;
	my $task = $self->{dag}{tasks}[$i];
	my @branches = map { $run->{tasks}[$_] }
	  grep { $self->{dag}{tasks}[$_]{operator} eq 'branch' } @{ $task->{up} };

	foreach my $branch (grep { ($_->{state} // '') eq 'success' } @branches)
	{
		my $goes_on = $self->with_downstream(map { $self->{index}{$_} } @{ $branch->{follow} });
		return 'skipped' unless $goes_on->{$i};
	}
	return 'wait' if grep { !defined $_->{state} || !$is_final{ $_->{state} } } @branches;
	return decide(
		$task->{rule},
		map { defined && $is_final{$_} ? $_ : undef }
		  map { $run->{tasks}[$_]{state} } @{ $task->{up} });
}

# The same task of the run before must be success or skipped, if there is one.
sub is_past_met
{
	my ($self, $run, $i) = @_;
	my $before = max(
		grep { $_ < $run->{day} }
		map { $_->{day} } grep { !$_->{is_manual} } values %{ $self->{runs} });

	return 1 if $run->{ignores_past} || !defined $before;
	my $state = $self->{runs}{$before}{tasks}[$i]{state};
	return defined $state && ($state eq 'success' || $state eq 'skipped');
}

sub attempt
{
	my ($self, $task, $task_run, $day, $now) = @_;
	my $outcome = $self->{dag}{outcome}->($task, $day, $task_run->{try}, $now);

	if ($outcome->{failed})
	{
		my $n = ++$task_run->{failures};
		my $delay = $task->{retry_delay};

		$delay = $task->{has_backoff} ? $delay * 2**($n - 1) : $delay;
		$delay = $task->{max_retry_delay}
		  if defined $task->{max_retry_delay} && $delay > $task->{max_retry_delay};
		$task_run->{state} = $n > $task->{retries} ? 'failed' : 'up_for_retry';
		$task_run->{at} = $now + $delay;
	}
	elsif (defined $outcome->{poke_at})
	{
		$task_run->{state} = 'up_for_reschedule';
		$task_run->{at} = $outcome->{poke_at};
	}
	elsif ($outcome->{timed_out})
	{
		$task_run->{state} = $task->{soft_fail} ? 'skipped' : 'failed';
	}
	else
	{
		$task_run->{state} = 'success';
		$task_run->{follow} = $outcome->{follow};
		push @{ $task_run->{done} }, $task_run->{try};
	}
	return;
}

=pod

=item clear($from, $to, $task_ids, $downstream, $only_failed)

flow_clear over days (undef: no bound; task_ids undef: all); the number of task
runs that run again.

=cut

sub clear
{
	my ($self, $from, $to, $task_ids, $downstream, $only_failed) = @_;
	my $ncleared = 0;

	foreach my $run (values %{ $self->{runs} })
	{
		my $tasks = $run->{tasks};
		my @named = $task_ids ? map { $self->{index}{$_} } @$task_ids : 0 .. $#$tasks;

		next if defined $from && $run->{day} < $from;
		next if defined $to && $run->{day} > $to;
		# what a run that was stopped has not begun has failed with it
		@named = grep {
			my $state = $tasks->[$_]{state};
			defined $state ? $is_failure{$state} : $run->{state} eq 'cancelled'
		} @named if $only_failed;
		$ncleared += $self->clear_run($run,
			$downstream ? keys %{ $self->with_downstream(@named) } : @named);
	}
	return $ncleared;
}

# What goes back to the start in a run, which goes on if there is any of it.
sub clear_run
{
	my ($self, $run, @indexes) = @_;
	my $ncleared = 0;

	foreach my $task_run (map { $run->{tasks}[$_] } @indexes)
	{
		next unless defined $task_run->{state};
		$task_run->{state} = undef;
		$task_run->{failures} = 0;
		$task_run->{follow} = undef;
		$ncleared++;
	}
	$self->reopen($run) if @indexes;
	return $ncleared;
}

# A run stays in its backfill as long as that has not ended.
sub reopen
{
	my ($self, $run) = @_;

	$run->{ignores_past} = 0
	  if $run->{state} ne 'running' && $run->{backfill} && $run->{backfill}{has_ended};
	$run->{state} = 'running';
	return;
}

=pod

=item mark($run, $task_id, $state)

flow_mark: where the task counts as done now, what follows it and has failed runs
again.

=cut

sub mark
{
	my ($self, $run, $task_id, $state) = @_;
	my $marked = $self->{index}{$task_id};
	my $below = $self->with_downstream($marked);

	$run->{tasks}[$marked]{state} = $state;
	$self->reopen($run);
	return if $state eq 'failed';
	delete $below->{$marked};
	$self->clear_run($run,
		grep { $is_failure{ $run->{tasks}[$_]{state} // '' } } keys %$below);
	return;
}

=pod

=item cancel($run)

flow_cancel_run: tasks that have begun are cancelled, the others stay not begun.

=cut

sub cancel
{
	my ($self, $run) = @_;

	foreach my $task_run (@{ $run->{tasks} })
	{
		$task_run->{state} = 'cancelled'
		  if defined $task_run->{state} && !$is_final{ $task_run->{state} };
	}
	$run->{state} = 'cancelled';
	return;
}

=pod

=item trigger($run_id, $day)

=item pause(), resume($skip_missed, $now)

flow_trigger, flow_pause and flow_resume.

=cut

sub trigger
{
	my ($self, $run_id, $day) = @_;

	return $self->new_run("manual $run_id", $day);
}

sub pause
{
	my ($self) = @_;

	$self->{is_paused} = 1;
	return;
}

sub resume
{
	my ($self, $skip_missed, $now) = @_;

	$self->{is_paused} = 0;
	$self->{last_day} = max($self->{last_day}, latest_day($now)) if $skip_missed;
	return;
}

=pod

=item backfill($from, $to, $reprocess, $ignores_past, $now)

flow_backfill of a DAG without manual runs.  The first of its runs does not wait for
an earlier one.

=back

=cut

sub backfill
{
	my ($self, $from, $to, $reprocess, $ignores_past, $now) = @_;
	my $backfill = { runs => [] };
	my $runs = $backfill->{runs};

	foreach my $day ($from .. max($from - 1, $to < latest_day($now) ? $to : latest_day($now)))
	{
		my $run = $self->{runs}{$day};

		if (!$run)
		{
			$run = $self->new_run($day, $day);
		}
		elsif ($run->{state} eq 'running' || $reprocess eq 'none'
			|| ($reprocess eq 'failed' && $run->{state} eq 'success'))
		{
			next;
		}
		else
		{
			my @indexes = 0 .. $#{ $run->{tasks} };

			@indexes = keys %{ $self->with_downstream(
				grep { $is_failure{ $run->{tasks}[$_]{state} // '' } } @indexes) }
			  if $reprocess eq 'failed';
			$self->clear_run($run, @indexes);
			$self->reopen($run);
		}
		$run->{ignores_past} = $ignores_past || !@$runs ? 1 : 0;
		$run->{backfill} = $backfill;
		push @$runs, $run;
	}
	push @{ $self->{backfills} }, $backfill;
	return;
}

1;
