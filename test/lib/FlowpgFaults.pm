
=pod

=head1 NAME

FlowpgFaults - a load whose result is known, and what must hold of it

=head1 SYNOPSIS

  my $load = FlowpgFaults->new($node);

  $load->define_all;
  $load->add_hours(2);          # source rows, and the clock moves on
  ...                           # something is done to the server
  my $seconds = $load->recover($since);
  my @wrong = $load->look;      # what must hold at any time
  push @wrong, $load->drain;    # all runs end
  push @wrong, $load->check;    # what must hold then

=head1 DESCRIPTION

DAGs of all kinds run each hour of a simulated clock.  What their tables must
hold follows from two things that only this module knows: how many hours there
have been, and how often each hour was corrected and backfilled.  The model is
computed from these, by SQL without any table.

Methods that talk to the server may be called while it is down: what fails for
that is done again until it works, so all of it can be repeated.  What is wrong
comes back as text, a line each.

=cut

package FlowpgFaults;

use strict;
use warnings;

use Carp;
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use FlowpgTest;
use FlowpgLoad;

my $BASE = 1_704_067_200;    # 2024-01-01 00:00 UTC, where hours are counted from
my $NROWS = 40;              # of the source, each hour
my $NEVENTS = 15;
my $AHEAD = 3;               # hours for which there is source data before they end
my $MAX_WORKERS = 8;
my $MAX_PROCESSES = 24;      # max_worker_processes
my $GIVE_UP = 90;            # seconds for what must come by itself

# How a row of the source reads after so many corrections of its hour.
my $AMOUNT = '(h * 31 + n * 17 + rev * 1009) % 9973';

# Tables that tasks write, and what they are made by.  A table of the list
# "droppable" can be dropped and made again while tasks write it.
my %tables = (
	t_up => 'hour timestamptz, n int, amount int, pad text, PRIMARY KEY (hour, n)',
	t_app => 'hour timestamptz, n int, amount int, pad text, PRIMARY KEY (hour, n)',
	t_rep => 'hour timestamptz, n int, amount int, PRIMARY KEY (hour, n)',
	t_par => 'hour timestamptz, n int, amount int, PRIMARY KEY (hour, n)',
	t_dropped => 'hour timestamptz, n int, amount int, PRIMARY KEY (hour, n)',
	t_inc => 'id bigint PRIMARY KEY, hour timestamptz, n int, amount int',
	t_once => 'hour timestamptz, g int, amount bigint, PRIMARY KEY (hour, g)',
	t_dim => 'id int PRIMARY KEY, v text',
	t_swap => 'part int, n int, h int, PRIMARY KEY (part, n)) PARTITION BY LIST (part',
	t_journal => 'hour timestamptz, n int, amount int',
	t_app_noted => 'hour timestamptz, n int',
	t_called => 'hour timestamptz',
	t_sens => 'hour timestamptz',
	t_sum => 'hour timestamptz, total bigint',
	t_sum2 => 'hour timestamptz, nsums bigint',
	t_flaky => 'hour timestamptz, try_number int',
	t_out => 'hour timestamptz, n int, amount int, PRIMARY KEY (hour, n)',
	t_out_log => 'hour timestamptz',
	t_steps => 'hour timestamptz, n int, PRIMARY KEY (hour, n)',
	t_branch => 'hour timestamptz, path text',
	t_past => 'hour timestamptz, previous timestamptz',
	t_pool => 'hour timestamptz, task_id text, started_at timestamptz, ended_at timestamptz',
	t_fragile => 'hour timestamptz',
	t_owned => 'hour timestamptz',
	t_child => 'hour timestamptz',
	t_probe => 'run_id bigint');
my @droppable = qw(t_up t_app t_rep t_par t_inc t_once t_dim t_journal);

# Triggers of tables: what takes its time is met by what is done to the server,
# and a row that is inserted twice shows.
my %triggers = map { $_ => "CREATE TRIGGER take_time BEFORE INSERT ON $_ FOR EACH ROW EXECUTE FUNCTION take_time()" }
  grep { !/^t_(swap|probe|app_noted)$/ } keys %tables;
# wide rows, which need new pages
$triggers{$_} .= ";
CREATE TRIGGER widen BEFORE INSERT ON $_ FOR EACH ROW EXECUTE FUNCTION widen()"
  foreach qw(t_up t_app);
$triggers{t_app} .= ";
CREATE TRIGGER note AFTER INSERT ON t_app FOR EACH ROW WHEN (NEW.n > 0) EXECUTE FUNCTION note()";

my $source = 'SELECT hour, n, amount FROM src WHERE hour = run.data_interval_start';

# DAGs: arguments of flow_create_dag after dag_id, and of each task.  PAGE is
# the size of pages, which changes when a DAG is defined anew.
my $hourly = q{'@hourly', '2024-01-01', retries => 200, retry_delay => '1 minute', max_active_runs => 3, max_active_tasks => 4};
my $followed = q{NULL, retries => 200, retry_delay => '1 minute', max_active_runs => 3};
my %dags = (
	up => [
		"$hourly, on_success => 'INSERT INTO t_called VALUES (run.data_interval_start)'",
		[ upsert => 'load', "'$source', 't_up', page_size => PAGE" ],
		[ sql => 'journal', q{'INSERT INTO t_journal SELECT hour, n, amount FROM t_up WHERE hour = run.data_interval_start AND n > 0', upstream => '{load}'} ],
		[ check => 'complete', "'SELECT count(*) = $NROWS FROM t_up WHERE hour = run.data_interval_start AND n > 0', upstream => '{load}'" ] ],
	app => [ $hourly, [ upsert => 'load', "'$source', 't_app', mode => 'append', page_size => PAGE" ] ],
	rep => [ $hourly, [ upsert => 'load', "'$source AND amount % 3 > 0', 't_rep', mode => 'replace', replace_where => 'hour = run.data_interval_start'" ] ],
	par => [ $hourly, [ upsert => 'load', "'$source', 't_par', parallel_pages => 3, page_size => PAGE" ] ],
	inc => [ $hourly, [ upsert => 'load', q{'SELECT id, hour, n, amount FROM ev', 't_inc', incremental => true, page_size => PAGE} ] ],
	once => [ $hourly, [ upsert => 'load', q{'SELECT hour, n % 10 AS g, sum(amount) AS amount FROM src WHERE hour = run.data_interval_start GROUP BY 1, 2', 't_once', page_size => PAGE} ] ],
	dim => [ $hourly, [ upsert => 'load', q{'dim', 't_dim', delete_missing => true, page_size => PAGE} ] ],
	swap => [
		$hourly =~ s/max_active_runs => 3/max_active_runs => 1/r,
		[ upsert => 'load', qq{'SELECT n % 2 AS part, n, (extract(epoch FROM run.data_interval_start)::int - $BASE) / 3600 AS h FROM generate_series(1, 2400) n', 't_swap', mode => 'replace', replace_where => 'true'} ] ],
	sens => [
		$hourly,
		[ sensor => 'wait', q{'SELECT EXISTS (SELECT FROM flag WHERE hour = run.data_interval_start)'} ],
		[ sql => 'fill', q{'INSERT INTO t_sens VALUES (run.data_interval_start)', upstream => '{wait}'} ] ],
	sum => [ $followed, [ sql => 'sum', q{'INSERT INTO t_sum SELECT run.data_interval_start, sum(amount) FROM t_up WHERE hour = run.data_interval_start AND n > 0'} ] ],
	sum2 => [ $followed, [ sql => 'count', q{'INSERT INTO t_sum2 SELECT run.data_interval_start, count(*) FROM t_sum WHERE hour = run.data_interval_start'} ] ],
	flaky => [ $hourly, [ sql => 'second', q{'INSERT INTO t_flaky VALUES (run.data_interval_start, run.try_number); SELECT 1 / (run.try_number - 1)'} ] ],
	out => [
		$hourly,
		[ sql => 'outside', "'INSERT INTO t_out $source ON CONFLICT DO NOTHING; INSERT INTO t_out_log VALUES (run.data_interval_start); CALL take_steps()', in_transaction => false" ] ],
	branch => [
		$hourly,
		[ branch => 'which', q{'SELECT CASE WHEN extract(hour FROM run.data_interval_start)::int % 2 = 0 THEN $$even$$ ELSE $$odd$$ END'} ],
		[ sql => 'even', q{'INSERT INTO t_branch VALUES (run.data_interval_start, run.task_id)', upstream => '{which}'} ],
		[ sql => 'odd', q{'INSERT INTO t_branch VALUES (run.data_interval_start, run.task_id)', upstream => '{which}'} ],
		[ sql => 'join', q{'INSERT INTO t_branch VALUES (run.data_interval_start, run.task_id)', upstream => '{even,odd}', trigger_rule => 'none_failed_min_one_success'} ] ],
	past => [ "$hourly, depends_on_past => true", [ sql => 'next', q{'INSERT INTO t_past SELECT run.data_interval_start, max(hour) FROM t_past'} ] ],
	pool => [ $hourly, map { [ sql => $_, q{'SELECT work(run.data_interval_start, run.task_id)', pool => 'two'} ] } qw(a b c) ],
	fragile => [ $hourly =~ s/retries => 200/retries => 0/r, [ sql => 'once', q{'INSERT INTO t_fragile SELECT run.data_interval_start FROM pg_sleep(0.03)'} ] ],
	owned => [ $hourly, [ sql => 'fill', q{'INSERT INTO t_owned VALUES (run.data_interval_start)'} ] ],
	dropped => [ $hourly, [ upsert => 'load', "'$source', 't_dropped', page_size => PAGE" ] ],
	child => [ $followed, [ sql => 'fill', q{'INSERT INTO t_child VALUES (run.data_interval_start)'} ] ],
	trig => [ $hourly, [ trigger => 'go', q{'child', wait => true} ] ],
	probe => [ q{NULL, priority => 100}, [ sql => 'probe', q{'INSERT INTO t_probe VALUES (run.run_id)'} ] ]);
my @dependencies = ([qw(up sum)], [qw(sum sum2)], [qw(app sum2)]);

# What each table must hold, of the hours in "known (h, hour, rev)"; all of it
# that is there, of these hours.
my $rows = "SELECT hour, n, (%s)::int FROM known, generate_series(1, $NROWS) n";
my $only_once = 'SELECT hour FROM known';
my $disk_is_full = q{flow.callback.state = 'failed' AND flow.callback.message LIKE '%File too large%'};
my $each_time = 'SELECT hour FROM known, generate_series(0, rev)';
my %model = (
	t_up => [ sprintf($rows, $AMOUNT), 'SELECT hour, n, amount FROM t_up WHERE n > 0' ],
	t_journal => [
		"SELECT hour, n, (" . ($AMOUNT =~ s/rev/r/r) . ")::int FROM known, generate_series(0, rev) r, generate_series(1, $NROWS) n",
		'SELECT hour, n, amount FROM t_journal WHERE true' ],
	t_app => [ sprintf($rows, $AMOUNT =~ s/rev/0/r), 'SELECT hour, n, amount FROM t_app WHERE n > 0' ],
	t_app_noted => [ "SELECT hour, n FROM known, generate_series(1, $NROWS) n", 'SELECT hour, n FROM t_app_noted WHERE true' ],
	t_rep => [ sprintf($rows, $AMOUNT) . " WHERE ($AMOUNT) % 3 > 0", 'SELECT hour, n, amount FROM t_rep WHERE true' ],
	t_par => [ sprintf($rows, $AMOUNT =~ s/rev/0/r), 'SELECT hour, n, amount FROM t_par WHERE true' ],
	t_out => [ sprintf($rows, $AMOUNT =~ s/rev/0/r), 'SELECT hour, n, amount FROM t_out WHERE true' ],
	# an hour may be loaded by two DAGs of the name, one before a correction and one after
	t_dropped => [ "SELECT hour, n FROM known, generate_series(1, $NROWS) n", 'SELECT hour, n FROM t_dropped WHERE true' ],
	# what there is of the source is read, also of hours that have not ended
	t_inc => [ "SELECT hour, n, (" . ($AMOUNT =~ s/rev/0/r) . ")::int FROM known, generate_series(1, $NEVENTS) n", 'SELECT hour, n, amount FROM t_inc WHERE hour < END' ],
	t_once => [
		"SELECT hour, n % 10, sum(" . ($AMOUNT =~ s/rev/0/r) . ")::bigint FROM known, generate_series(1, $NROWS) n GROUP BY 1, 2",
		'SELECT hour, g, amount FROM t_once WHERE true' ],
	t_sum => [
		"SELECT hour, sum(" . ($AMOUNT =~ s/rev/r/r) . ")::bigint FROM known, generate_series(0, rev) r, generate_series(1, $NROWS) n GROUP BY hour, r",
		'SELECT hour, total FROM t_sum WHERE true' ],
	t_sum2 => [ 'SELECT hour, r + 1::bigint FROM known, generate_series(0, rev) r', 'SELECT hour, nsums FROM t_sum2 WHERE true' ],
	# a callback that fails is not tried again, but on record
	t_called => [
		$each_time,
		"SELECT hour FROM (SELECT hour FROM t_called UNION ALL
SELECT logical_date FROM flow.callback JOIN flow.dag_run USING (run_id) WHERE $disk_is_full) c WHERE true" ],
	t_sens => [ $only_once, 'SELECT hour FROM t_sens WHERE true' ],
	t_flaky => [ 'SELECT hour, true FROM known', 'SELECT hour, try_number > 1 FROM t_flaky WHERE true' ],
	t_out_log => [ $only_once, 'SELECT DISTINCT hour FROM t_out_log WHERE true' ],
	t_steps => [ 'SELECT hour, n FROM known, generate_series(1, 4) n', 'SELECT hour, n FROM t_steps WHERE true' ],
	t_branch => [
		q{SELECT hour, unnest(ARRAY[CASE WHEN h % 2 = 0 THEN 'even' ELSE 'odd' END, 'join']) FROM known},
		'SELECT hour, path FROM t_branch WHERE true' ],
	t_past => [ "SELECT hour, CASE WHEN h > 0 THEN hour - interval '1 hour' END FROM known", 'SELECT hour, previous FROM t_past WHERE true' ],
	t_pool => [ q{SELECT hour, task FROM known, unnest('{a,b,c}'::text[]) task}, 'SELECT hour, task_id FROM t_pool WHERE true' ],
	t_fragile => [ $only_once, 'SELECT hour FROM t_fragile WHERE true' ],
	t_owned => [ $only_once, 'SELECT hour FROM t_owned WHERE true' ],
	t_child => [ $only_once, 'SELECT hour FROM t_child WHERE true' ]);

# DAGs that have a run for each hour.
my @each_hour = grep { !/^(probe|child)$/ } sort keys %dags;

=pod

=over

=item FlowpgFaults->new($node)

=cut

sub new
{
	my ($class, $node) = @_;

	return bless {
		node => $node,
		now => 0,             # minutes since the base
		nhours => 0,          # hours that have ended, at the latest time there was
		nfilled => 0,         # hours for which there is source data
		revisions => [],      # of each hour, how often it was corrected
		corrected => {},      # hours corrected since the last check
		nchecked => 0,        # hours that all DAGs had done at the last check
		since => '-infinity', # real time of the last check
		log_offset => 0,
		page_size => 10 }, $class;
}

# ------------------------------------------------------------------------
# Talking to a server that may be down

=pod

=item $load->ask($sql)

What the SQL yields; undef where it fails, the error then is in C<$load->{error}>.

=item $load->surely($sql)

The same, again and again until it works.  Dies with the error if that is none
of the connection, or takes too long.

=cut

sub ask
{
	my ($self, $sql) = @_;
	my ($code, $stdout, $stderr);

	# psql may be gone before it has read what it is to do
	eval { ($code, $stdout, $stderr) = $self->{node}->psql('postgres', $sql, timeout => $GIVE_UP); };
	$self->{error} = $@ || $stderr;
	return !$@ && $code == 0 ? $stdout : undef;
}

sub surely
{
	my ($self, $sql) = @_;
	my $since = time;

	while (1)
	{
		my $result = $self->ask($sql);

		return $result if defined $result;
		croak "$self->{error}\nin $sql"
		  if time - $since > $GIVE_UP
		  || $self->{error} !~ /Broken pipe|connection|shutting down|starting up|recovery|closed the connection|administrator command|crash of another/;
		usleep(20_000);
	}
}

# ------------------------------------------------------------------------
# The load

sub hour_sql
{
	my ($hour) = @_;

	return "'" . strftime('%Y-%m-%d %H:00+00', gmtime($BASE + $hour * 3600)) . "'::timestamptz";
}

sub create_table
{
	my ($name) = @_;

	return "CREATE TABLE $name ($tables{$name});";
}

# The SQL that defines a DAG; start: the hour of its first interval.
sub definition
{
	my ($self, $dag, $start) = @_;
	my ($arguments, @tasks) = @{ $dags{$dag} };
	my @sql;

	$arguments =~ s/'2024-01-01'/hour_sql($start) . "::timestamp"/e if defined $start;
	push @sql, "SELECT flow_create_dag('$dag', $arguments)";
	push @sql, "SELECT flow_add_$_->[0]('$dag', '$_->[1]', $_->[2])" foreach @tasks;
	return join('', map { "$_;\n" } @sql) =~ s/PAGE/$self->{page_size}/gr;
}

=pod

=item $load->define_all

Roles, tables and DAGs.

=item $load->dags

The names of all DAGs.

=item $load->droppable

Tables that drop_table may take.

=cut

sub dags { return sort keys %dags; }
sub droppable { return @droppable; }

sub define_all
{
	my ($self) = @_;
	my $node = $self->{node};

	$node->safe_psql('postgres', join "\n", q{
CREATE ROLE loader LOGIN;
CREATE ROLE tenant LOGIN;
SELECT flow_grant('loader'), flow_grant('tenant');
SELECT flow_create_pool('two', 2);
GRANT ALL ON SCHEMA public TO loader;
SET ROLE loader;
CREATE TABLE src (hour timestamptz, n int, amount int, PRIMARY KEY (hour, n));
CREATE TABLE ev (id bigserial PRIMARY KEY, hour timestamptz, n int, amount int, UNIQUE (hour, n));
CREATE TABLE dim (id int PRIMARY KEY, v text);
CREATE TABLE flag (hour timestamptz PRIMARY KEY);
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(CASE WHEN TG_TABLE_NAME IN ('t_up', 't_app', 't_rep', 't_par', 't_inc', 't_once', 't_dropped', 't_journal', 't_out') THEN 0.005 ELSE 0.05 END);
	RETURN NEW;
END $$;
CREATE FUNCTION widen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.pad := repeat('x', 400);
	RETURN NEW;
END $$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO t_app_noted VALUES (NEW.hour, NEW.n);
	RETURN NULL;
END $$;
-- notes when, within the time in which the task holds its slots
CREATE FUNCTION work(hour timestamptz, task_id text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	started_at timestamptz := clock_timestamp();
BEGIN
	PERFORM pg_sleep(0.02);
	INSERT INTO t_pool VALUES (hour, task_id, started_at, clock_timestamp());
END $$;
CREATE PROCEDURE take_steps() LANGUAGE plpgsql AS $$
DECLARE
	hour timestamptz := (SELECT data_interval_start FROM flow_context());
BEGIN
	FOR n IN 1 .. 4 LOOP
		INSERT INTO t_steps VALUES (hour, n) ON CONFLICT DO NOTHING;
		COMMIT;
	END LOOP;
END $$;
-- Takes its time in a process of its own each, so that parallel query holds
-- places for background workers.
CREATE TABLE place (id int, pad text);
ALTER TABLE place ALTER pad SET STORAGE PLAIN, SET (parallel_workers = 30);
INSERT INTO place SELECT n, repeat('x', 7000) FROM generate_series(1, 60) n;
CREATE FUNCTION hold_place(seconds float8) RETURNS bool PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(seconds);
	RETURN true;
END $$;
},
		(map { create_table($_) } sort keys %tables),
		q{
CREATE TABLE t_swap_0 PARTITION OF t_swap FOR VALUES IN (0);
CREATE TABLE t_swap_1 PARTITION OF t_swap FOR VALUES IN (1);
INSERT INTO t_up SELECT '2000-01-01', -n, 0, repeat('x', 1000) FROM generate_series(1, 1500) n;
INSERT INTO t_app SELECT '2000-01-01', -n, 0, repeat('x', 1000) FROM generate_series(1, 1500) n;
GRANT INSERT ON t_owned TO PUBLIC;
},
		(map { "$triggers{$_};" } sort keys %triggers));
	define($node, join "\n",
		'SET ROLE loader;', (map { $self->definition($_) } grep { $_ !~ /^(owned|trig)$/ } sort keys %dags),
		(map { "SELECT flow_add_dependency('$_->[0]', '$_->[1]');" } @dependencies),
		$self->definition('trig'),
		'RESET ROLE; SET ROLE tenant;', $self->definition('owned'));
	$self->{server_since} = value($node, 'SELECT clock_timestamp()');
	return;
}

# Source data of the hours before this one.
sub fill_sources
{
	my ($self, $nhours) = @_;
	my $from = $self->{nfilled};
	my $to = $nhours - 1;

	return '' if $to < $from;
	$self->{nfilled} = $nhours;
	push @{ $self->{revisions} }, 0 foreach $from .. $to;
	return sprintf qq{
INSERT INTO src SELECT %1\$s + (h - $from) * interval '1 hour', n, %2\$s
FROM generate_series($from, $to) h, generate_series(1, $NROWS) n ON CONFLICT DO NOTHING;
INSERT INTO ev (hour, n, amount) SELECT %1\$s + (h - $from) * interval '1 hour', n, %2\$s
FROM generate_series($from, $to) h, generate_series(1, $NEVENTS) n
WHERE NOT EXISTS (SELECT FROM ev e WHERE e.hour = %1\$s + (h - $from) * interval '1 hour');
}, hour_sql($from), $AMOUNT =~ s/rev/0/r;
}

=pod

=item $load->set_clock($minutes)

Moves the clock, there and back, to so many minutes after the base.

=item $load->fill($n)

Source data for so many hours from now, which the clock can be moved over
without writing.

=item $load->add_hours($n)

Moves it on to the end of the n-th next hour, with source data and changes of the table
whose missing rows are deleted, so that each hourly DAG has n more runs to make.

=item $load->correct

Corrects some hours in the source that were done at the last check, and asks
for backfills of them.

=cut

sub set_clock
{
	my ($self, $minutes) = @_;
	my $nhours = int($minutes / 60);
	my $text = strftime('%Y-%m-%d %H:%M:00+00', gmtime($BASE + $minutes * 60));

	$self->surely($self->fill_sources($nhours + $AHEAD)
		  . "ALTER SYSTEM SET flowpg.simulated_now = '$text'; SELECT pg_reload_conf()");
	$self->{now} = $minutes;
	$self->{nhours} = $nhours if $nhours > $self->{nhours};
	return;
}

sub fill
{
	my ($self, $n) = @_;

	return $self->surely($self->fill_sources($self->{nhours} + $AHEAD + $n));
}

sub add_hours
{
	my ($self, $n) = @_;
	my $key = int(rand(1000));

	# before the clock moves: the last run of "dim" comes after the last change
	$self->surely("BEGIN;
DELETE FROM dim WHERE id BETWEEN $key AND $key + 20;
INSERT INTO dim SELECT id, 'v' || id * $key FROM generate_series($key, $key + 30, 2) id ON CONFLICT (id) DO UPDATE SET v = excluded.v;
COMMIT");
	$self->set_clock((int($self->{now} / 60) + $n) * 60);
	return;
}

sub correct
{
	my ($self) = @_;
	my @hours = grep { !$self->{corrected}{$_} } grep { $_ >= 0 } $self->{nchecked} - 6 .. $self->{nchecked} - 1;

	return 0 unless @hours;
	my $from = $hours[ int(rand(@hours)) ];
	my $most = $from + int(rand(3));
	my $to = $from;

	# an hour that is being backfilled is left alone by another backfill
	$to++ while $to < $most && $to + 1 < $self->{nchecked} && !$self->{corrected}{ $to + 1 };
	my $span = sprintf 'tstzrange(%s, %s)', hour_sql($from), hour_sql($to + 1);
	my $tag = $self->{ntags}++;

	# once, even if the answer to the first try was lost
	$self->surely("DO \$do\$ BEGIN IF NOT EXISTS (SELECT FROM flow.backfill WHERE conf ->> 'tag' = '$tag') THEN
UPDATE src SET amount = (amount + 1009) % 9973 WHERE hour <@ $span;
PERFORM flow_backfill(d, span => $span, reprocess => 'completed', max_active_runs => 2, conf => '{\"tag\": \"$tag\"}') FROM unnest('{up,rep}'::text[]) d;
END IF; END \$do\$");
	foreach my $hour ($from .. $to)
	{
		$self->{corrected}{$hour} = 1;
		$self->{revisions}[$hour]++;
	}
	return $to - $from + 1;
}

=pod

=item $load->drop_table($table), $load->make_table($table)

Drops a target, keeping its rows elsewhere; makes it again, with them.

=item $load->redefine($dag)

Defines a DAG again, with pages of another size.

=item $load->drop_dag, $load->make_dag

Drops the DAG "dropped"; defines it anew, from the first hour that it lacks.

=item $load->drop_owner, $load->make_owner

Drops the role that owns the DAG "owned"; makes it again, and gives it the DAG.

=cut

sub drop_table
{
	my ($self, $table) = @_;

	return $self->surely("BEGIN; DROP TABLE IF EXISTS kept; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE;
CREATE TABLE kept AS TABLE $table; DROP TABLE $table; COMMIT");
}

sub make_table
{
	my ($self, $table) = @_;

	return $self->surely("BEGIN; SET LOCAL ROLE loader;
" . create_table($table) . "RESET ROLE; INSERT INTO $table TABLE kept; SET LOCAL ROLE loader;
" . ($triggers{$table} // '') . '; COMMIT');
}

sub redefine
{
	my ($self, $dag) = @_;

	$self->{page_size} = 5 + int(rand(20));
	return $self->surely('BEGIN; ' . $self->definition($dag) . 'SELECT pg_sleep(' . rand(0.2) . '); COMMIT');
}

sub drop_dag
{
	my ($self) = @_;

	$self->{dropped_start} = $self->surely("SELECT coalesce(min(h), $self->{nhours})
FROM generate_series(0, $self->{nhours} - 1) h WHERE NOT EXISTS (SELECT FROM flow.dag_run
	WHERE dag_id = 'dropped' AND state = 'success' AND logical_date = " . hour_sql(0) . " + h * interval '1 hour')");
	return $self->surely(q{SELECT flow_drop_dag('dropped')});
}

sub make_dag
{
	my ($self) = @_;

	return $self->surely('BEGIN; SET LOCAL ROLE loader; ' . $self->definition('dropped', $self->{dropped_start}) . 'COMMIT');
}

sub drop_owner
{
	my ($self) = @_;

	return $self->surely('BEGIN; DROP OWNED BY tenant; DROP ROLE tenant; COMMIT');
}

sub make_owner
{
	my ($self) = @_;

	return $self->surely(q{BEGIN; CREATE ROLE tenant LOGIN; SELECT flow_grant('tenant'); SELECT flow_set_owner('owned', 'tenant'); COMMIT});
}

# ------------------------------------------------------------------------
# After a fault

=pod

=item $load->recover($since)

Waits until a run that is asked for now succeeds; the seconds since then, and
those of them until the server took connections.  Nothing if it never does.

=cut

sub recover
{
	my ($self, $since) = @_;
	my $deadline = time + $GIVE_UP;
	my ($run, $up);

	while (time < $deadline)
	{
		if (!defined $up)
		{
			next unless defined $self->ask('SELECT');
			$up = time - $since;
		}
		$run = $self->ask(q{SELECT flow_trigger('probe')});
		while (defined $run && time < $deadline)
		{
			my $state = $self->ask("SELECT state FROM flow.dag_run WHERE run_id = $run") // '';

			return (time - $since, $up) if $state eq 'success';
			last if $state !~ /^(queued|running)?$/;
			usleep(10_000);
		}
		usleep(10_000);
	}
	diag('no recovery: ' . ($self->{error} // ''));
	return;
}

=pod

=item $load->look

What must hold at any time while the server is up.

=cut

my $at_any_time = qq{
SELECT format('%s runs of %s in queue %s at once', n, r.dag_id, r.backfill_id)
FROM (SELECT dag_id, backfill_id, count(*) AS n FROM flow.dag_run WHERE state = 'running' GROUP BY 1, 2) r
	JOIN flow.dag d ON d.dag_id = r.dag_id LEFT JOIN flow.backfill b USING (backfill_id)
-- runs that wait for their past give their place away; of a dropped DAG those that are being cancelled are there, too
WHERE n > coalesce(b.max_active_runs, d.max_active_runs) AND r.dag_id NOT IN ('past', 'dropped')
UNION ALL
SELECT format('%s tasks of %s at once', count(*), dag_id)
FROM flow.task_run JOIN flow.dag USING (dag_id) WHERE state = 'running' AND dag_id <> 'dropped'
GROUP BY dag_id, max_active_tasks HAVING count(*) > max_active_tasks
UNION ALL
SELECT format('%s tasks of the pool of two at once', count(*))
FROM flow.task_run WHERE dag_id = 'pool' AND state = 'running' HAVING count(*) > 2
UNION ALL
SELECT format('%s workers', count(*)) FROM flow.worker_status HAVING count(*) > $MAX_WORKERS
UNION ALL
SELECT format('%s runs of %s for %s', count(*), dag_id, logical_date)
FROM flow.dag_run WHERE run_type <> 'manual' AND parent_run_id IS NULL GROUP BY dag_id, logical_date HAVING count(*) > 1
};

sub look
{
	my ($self) = @_;

	return (split(/\n/, $self->surely($at_any_time)), $self->read_log);
}

# What no fault explains, in the part of the server's log that is new.
sub read_log
{
	my ($self) = @_;
	my $log = slurp_file($self->{node}->logfile, $self->{log_offset});
	my @wrong;

	$self->{log_offset} += length $log;
	foreach my $line (split /\n/, $log)
	{
		# what a limit to files is: an error of no class of its own
		push @wrong, $line
		  if $line !~ /File too large/ && $line =~ /PANIC:|TRAP:|terminated by signal (?:4|6|7|8|11)\b|leak|XX00\d|you don't own a lock|not closed at|still referenced|stuck spinlock|cache lookup failed|could not find tuple|WARNING:.*(?:xact|snapshot|portal)/;
	}
	return @wrong;
}

=pod

=item $load->drain

Lets all that is due end: the clock moves by minutes, for what is tried again.
Runs that may fail, and have, are cleared.

=cut

sub drain
{
	my ($self) = @_;
	my $deadline = time + $GIVE_UP;
	my $stepped = time;
	my @wrong;
	my $open;

	while (1)
	{
		# sensors find what they wait for
		$self->surely("INSERT INTO flag SELECT " . hour_sql(0) . " + h * interval '1 hour'
FROM generate_series($self->{nchecked}, $self->{nhours} - 1) h ON CONFLICT DO NOTHING");
		$open = $self->surely("SELECT coalesce(string_agg(what, ', '), '') FROM (
SELECT format('%s %s of %s', count(*), state, dag_id) AS what FROM flow.dag_run WHERE state IN ('queued', 'running', 'failed') GROUP BY dag_id, state
UNION ALL SELECT format('%s requests', count(*)) FROM flow.request HAVING count(*) > 0
UNION ALL SELECT format('%s callbacks', count(*)) FROM flow.callback WHERE state IN ('queued', 'running') HAVING count(*) > 0
UNION ALL SELECT format('backfill %s', backfill_id) FROM flow.backfill WHERE ended_at IS NULL
UNION ALL SELECT format('%s of %s hours of %s', count(r.dag_id), $self->{nhours} - $self->{nchecked}, d)
FROM unnest('{" . join(',', @each_hour) . "}'::text[]) d LEFT JOIN flow.dag_run r ON r.dag_id = d AND r.state = 'success' AND logical_date >= " . hour_sql($self->{nchecked}) . "
GROUP BY d HAVING count(r.dag_id) < $self->{nhours} - $self->{nchecked}) o");
		last if $open eq '';
		if (time > $deadline)
		{
			push @wrong, "does not come to an end: $open";
			diag($self->surely(q{SELECT concat_ws(' ', run_id, dag_id, task_id, state, try_number, waits_for, sqlstate, message)
FROM flow.task_status WHERE run_state IN ('queued', 'running') LIMIT 40}));
			diag($self->surely(q{(SELECT 'run ' || r::text FROM flow.dag_run r WHERE state <> 'success' ORDER BY run_id DESC LIMIT 40)
UNION ALL SELECT 'progress ' || p::text FROM flow.dag_progress p UNION ALL SELECT 'scheduler ' || s::text FROM flow.scheduler_status s}));
			last;
		}
		if ($open =~ /failed/)
		{
			# one without retries may; any other, if it was open in six crashes
			push @wrong, split /\n/, $self->surely(q{
SELECT format('%s of %s failed: %s %s', task_id, dag_id, sqlstate, t.message) FROM flow.task_run t JOIN flow.dag_run r USING (run_id, dag_id)
WHERE r.state = 'failed' AND t.state = 'failed' AND dag_id <> 'fragile' AND sqlstate IS DISTINCT FROM '57P02'});
			$self->surely(q{SELECT flow_clear(dag_id, only_failed => true) FROM (SELECT DISTINCT dag_id FROM flow.dag_run WHERE state = 'failed') f});
		}
		if (time - $stepped > 0.3)
		{
			$self->set_clock($self->{now} + 1);
			$stepped = time;
		}
		usleep(20_000);
	}
	return @wrong;
}

=pod

=item $load->check($is_whole)

What must hold when nothing is under way.  Rows that are lost or doubled are
counted in the load, and described.  Whole: of all hours and runs, not just of
those since the last check.

=cut

sub check
{
	my ($self, $is_whole) = @_;
	my @hours = $is_whole ? (0 .. $self->{nhours} - 1) : ($self->{nchecked} .. $self->{nhours} - 1, sort { $a <=> $b } keys %{ $self->{corrected} });
	my $since = $is_whole ? '-infinity' : $self->{since};
	my $now = $self->surely('SELECT clock_timestamp()');
	my @wrong = ($self->compare($is_whole, @hours), $self->check_records($since), $self->check_processes, $self->read_log);

	$self->{since} = $now;
	$self->{nchecked} = $self->{nhours};
	$self->{corrected} = {};
	return @wrong;
}

sub known_sql
{
	my ($self, @hours) = @_;

	return 'WITH known AS (SELECT h, hour, rev FROM (VALUES '
	  . join(', ', map { "($_, " . hour_sql($_) . ", $self->{revisions}[$_])" } @hours)
	  . ') k (h, hour, rev))';
}

# The tables against the model.
sub compare
{
	my ($self, $is_whole, @hours) = @_;
	my @wrong;
	my %sql;

	return () unless @hours;
	foreach my $table (keys %model)
	{
		my ($expected, $actual) = @{ $model{$table} };

		$actual =~ s/END/hour_sql($self->{nhours})/e;
		$actual .= ' AND hour IN (SELECT hour FROM known)' unless $is_whole;
		$sql{$table} = [ $expected, $actual ];
	}
	my $known = $self->known_sql(@hours);
	my $differing = $self->surely($known . join("\nUNION ALL ", map {
		my ($expected, $actual) = @{ $sql{$_} };

		"SELECT '$_' WHERE EXISTS (($expected) EXCEPT ALL ($actual)) OR EXISTS (($actual) EXCEPT ALL ($expected))" } sort keys %sql));

	foreach my $table (split /\n/, $differing)
	{
		my ($expected, $actual) = @{ $sql{$table} };
		my ($lost, $more, $other) = split /\|/, $self->surely("$known SELECT (SELECT count(*) FROM (($expected) EXCEPT ALL ($actual)) x),
(SELECT count(*) FROM (($actual) EXCEPT ALL ($expected)) x),
(SELECT count(*) FROM (SELECT * FROM ($actual) a EXCEPT SELECT * FROM ($expected) e) x)");

		$self->{lost} += $lost;
		$self->{doubled} += $more - $other;
		push @wrong, "$table: $lost rows lost, " . ($more - $other) . " doubled, $other wrong: "
		  . $self->surely("$known SELECT coalesce(string_agg(row, ' '), '') FROM ((SELECT 'lost ' || x::text FROM (($expected) EXCEPT ALL ($actual)) x LIMIT 5)
UNION ALL (SELECT 'more ' || x::text FROM (($actual) EXCEPT ALL ($expected)) x LIMIT 5)) d (row)");
	}
	push @wrong, split /\n/, $self->surely(qq{
SELECT 't_dim: ' || x::text FROM ((TABLE dim EXCEPT TABLE t_dim) UNION ALL (TABLE t_dim EXCEPT TABLE dim)) x
UNION ALL SELECT format('t_swap: %s rows of hour %s', count(*), h) FROM t_swap GROUP BY h HAVING h <> $self->{nhours} - 1 OR count(*) <> 2400
UNION ALL SELECT format('probe %s has %s rows', run_id, count(p.run_id)) FROM flow.dag_run LEFT JOIN t_probe p USING (run_id)
WHERE dag_id = 'probe' AND state = 'success' GROUP BY run_id HAVING count(p.run_id) <> 1
-- by the tasks' own account; an end that falls on a start counts first
UNION ALL SELECT format('%s tasks of the pool of two', max(n)) FROM (
	SELECT sum(change) OVER (ORDER BY at, change) AS n FROM (
		SELECT 1 AS change, started_at AS at FROM t_pool UNION ALL SELECT -1, ended_at FROM t_pool) c) s HAVING max(n) > 2});
	return @wrong;
}

# flowpg's own tables.
sub check_records
{
	my ($self, $since) = @_;
	my $each_hour = join ',', @each_hour;
	my ($first, $first_dropped, $end) = map { hour_sql($_) } 0, $self->{dropped_start} // 0, $self->{nhours};

	return split /\n/, $self->surely(qq{
WITH run AS MATERIALIZED (SELECT * FROM flow.dag_run WHERE ended_at IS NULL OR ended_at >= '$since')
SELECT format('run %s of %s is %s', run_id, dag_id, state) FROM run WHERE state <> 'success' AND dag_id NOT IN ('probe')
UNION ALL
SELECT format('run %s of %s: task %s is %s', run_id, r.dag_id, v.task_id, coalesce(t.state, 'not begun'))
FROM run r JOIN flow.task_version v USING (dag_id, version) LEFT JOIN flow.task_run t USING (run_id, task_id)
WHERE r.state = 'success' AND t.state IS DISTINCT FROM 'success'
	AND NOT (r.dag_id = 'branch' AND v.task_id IN ('even', 'odd') AND t.state = 'skipped')
UNION ALL
SELECT format('run %s: task %s of no version is %s', run_id, t.task_id, t.state)
FROM run r JOIN flow.task_run t USING (run_id) LEFT JOIN flow.task_version v ON (v.dag_id, v.version, v.task_id) = (r.dag_id, r.version, t.task_id)
WHERE v.task_id IS NULL AND t.state <> 'removed'
UNION ALL
SELECT format('run %s: attempts of %s are %s to %s, %s of them, and the last is %s', run_id, task_id, first, last, n, t.try_number)
FROM (SELECT run_id, task_id, count(*) AS n, min(try_number) AS first, max(try_number) AS last
	FROM flow.task_attempt JOIN run USING (run_id) GROUP BY 1, 2) a JOIN flow.task_run t USING (run_id, task_id)
WHERE t.try_number > 0 AND (first <> 1 OR last <> n OR t.try_number <> last)
UNION ALL
SELECT format('run %s: attempt %s of %s: %s, %s to %s, %s %s', run_id, try_number, task_id, a.state, a.started_at, a.ended_at, sqlstate, a.message)
FROM flow.task_attempt a JOIN run USING (run_id)
WHERE a.state NOT IN ('success', 'failed', 'skipped', 'cancelled') OR (a.started_at IS NULL AND a.state = 'success') OR a.ended_at IS NULL
	OR a.ended_at < a.started_at OR (sqlstate LIKE 'XX%' AND a.message NOT LIKE '%File too large%') OR (a.state = 'failed' AND a.message IS NULL)
UNION ALL
SELECT format('run %s: %s has written %s rows in %s pages', run_id, dag_id, rows_written, pages)
FROM run JOIN flow.task_run t USING (run_id, dag_id) WHERE task_id = 'load' AND dag_id IN ('up', 'app', 'par')
	AND rows_written <> $NROWS
UNION ALL
SELECT format('coverage of %s is %s', d, covered) FROM unnest('{$each_hour}'::text[]) d LEFT JOIN flow.coverage c ON c.dag_id = d
-- a DAG that was dropped has forgotten what was before
WHERE covered IS DISTINCT FROM tstzmultirange(tstzrange(CASE WHEN d = 'dropped' THEN $first_dropped ELSE $first END, $end))
UNION ALL
SELECT format('dag_log of %s has no row for %s', r.dag_id, (r.data_interval_end AT TIME ZONE 'UTC')::date)
FROM run r LEFT JOIN flow.dag_log l ON l.dag_id = r.dag_id AND completion_date = (r.data_interval_end AT TIME ZONE 'UTC')::date
WHERE r.state = 'success' AND l.dag_id IS NULL
UNION ALL
SELECT format('dag_log of %s: run %s is %s', l.dag_id, l.run_id, r.state) FROM flow.dag_log l LEFT JOIN flow.dag_run r USING (run_id) WHERE r.state IS DISTINCT FROM 'success'
UNION ALL
SELECT format('callback of run %s is %s: %s %s', run_id, c.state, c.sqlstate, c.message) FROM flow.callback c JOIN run r USING (run_id) WHERE c.state <> 'success' AND (c.state <> 'failed' OR c.message NOT LIKE '%File too large%')
UNION ALL
SELECT format('backfill %s is %s', backfill_id, state) FROM flow.backfill WHERE state <> 'success'
UNION ALL
SELECT format('position of %s', dag_id) FROM flow.position WHERE dag_id <> 'inc'
});
}

# Processes, slots of shared memory, locks, files.
sub check_processes
{
	my ($self) = @_;
	my $sql = qq{
SELECT format('%s processes: %s', count(*), k) FROM unnest('{launcher,scheduler}'::text[]) k LEFT JOIN pg_stat_activity ON backend_type = 'flowpg ' || k GROUP BY k HAVING count(pid) <> 1
UNION ALL
SELECT format('worker %s of the views is %s, its process %s', w.pid, w.state, a.pid)
FROM flow.worker_status w FULL JOIN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'flowpg worker') a USING (pid)
WHERE w.pid IS NULL OR a.pid IS NULL OR w.state <> 'idle'
UNION ALL
SELECT format('%s workers', count(*)) FROM flow.worker_status HAVING count(*) > $MAX_WORKERS
UNION ALL
SELECT format('the scheduler has %s runs, %s ready tasks, %s running ones; %s %s', active_runs, ready_tasks, running_tasks, state, problem)
FROM flow.scheduler_status WHERE (active_runs, ready_tasks, running_tasks) <> (0, 0, 0) OR state <> 'running' OR problem IS NOT NULL
UNION ALL
SELECT format('a %s holds %s on %s', backend_type, mode, coalesce(relation::regclass::text, locktype))
FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE backend_type LIKE 'flowpg %' AND locktype <> 'virtualxid'
UNION ALL
SELECT format('%s is in a transaction', backend_type) FROM pg_stat_activity WHERE backend_type LIKE 'flowpg %' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts
UNION ALL SELECT 'temporary file ' || name FROM pg_ls_tmpdir()
UNION ALL SELECT 'table of a load beside others: ' || relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname ~ '^(flow|t_swap_[01].)'
};
	my $deadline = time + $GIVE_UP;
	my $wrong;

	# a worker may be about to leave, a transaction to end
	while (($wrong = $self->surely($sql)) ne '' && time < $deadline)
	{
		usleep(50_000);
	}
	return (split(/\n/, $wrong), $self->stray_processes);
}

# Processes that work in the data directory and are no children of the postmaster.
sub stray_processes
{
	my ($self) = @_;
	my $directory = $self->{node}->data_dir;
	my ($postmaster) = slurp_file("$directory/postmaster.pid") =~ /^(\d+)/;
	my @wrong;

	foreach my $pid (processes_in($directory))
	{
		my ($parent) = (read_file("/proc/$pid/stat") // '') =~ /\) \S (\d+)/;

		push @wrong, "process $pid is a child of $parent: " . (read_file("/proc/$pid/cmdline") // '')
		  if defined $parent && $pid != $postmaster && $parent != $postmaster;
	}
	return @wrong;
}

=pod

=item processes_in($directory)

Processes whose current directory it is.

=cut

sub processes_in
{
	my ($directory) = @_;

	return grep { (readlink("/proc/$_/cwd") // '') eq $directory } map { m{/(\d+)$} } glob('/proc/[0-9]*');
}

sub read_file
{
	my ($name) = @_;

	open(my $file, '<', $name) or return undef;
	local $/;
	return scalar readline($file);
}

=pod

=item $load->free_places

How many background workers the server can start, as told by parallel query.

=item $load->check_places

Whether that is all that flowpg does not use.

=item $load->check_temporary

Whether an hour that nothing disturbs leaves temporary tables.  (What a crash
leaves of them is PostgreSQL's to remove.)

=cut

my $take_places = 'SET max_parallel_workers_per_gather = 30; SET max_parallel_workers = 30; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off;';

sub hold_places_sql
{
	my ($seconds) = @_;

	return "$take_places EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT count(hold_place($seconds)) FROM place";
}

sub free_places
{
	my ($self) = @_;
	my ($n) = $self->surely(hold_places_sql(0.001)) =~ /Workers Launched: (\d+)/;

	return $n // 0;
}

sub check_places
{
	my ($self) = @_;
	my ($free, $expected);

	foreach (1 .. 20)
	{
		# the last one is PostgreSQL's own, of logical replication
		$expected = $self->surely("SELECT $MAX_PROCESSES - count(*) FROM pg_stat_activity
WHERE backend_type LIKE 'flowpg %' OR backend_type = 'logical replication launcher'");
		$free = $self->free_places;
		return () if $free >= $expected;
		usleep(100_000);
	}
	return ("only $free background workers can be started, and $expected places should be free");
}

sub check_temporary
{
	my ($self) = @_;
	my $sql = q{SELECT coalesce(string_agg(oid::text, ','), '0') FROM pg_class WHERE relpersistence = 't'};
	my $before = $self->surely($sql);

	$self->add_hours(1);
	my @wrong = $self->drain;
	push @wrong, $self->check;
	push @wrong, split /\n/, $self->surely("SELECT format('temporary table %s', oid::regclass) FROM pg_class WHERE relpersistence = 't' AND oid NOT IN ($before)");
	return @wrong;
}

=pod

=item $load->counts

Figures of all that was done: runs, attempts, rows (of the source), failures
(lines of a table: how many attempts failed with which error).

=cut

sub counts
{
	my ($self) = @_;
	my ($runs, $attempts, $rows) = split /\|/, $self->surely('SELECT (SELECT count(*) FROM flow.dag_run), (SELECT count(*) FROM flow.task_attempt), (SELECT count(*) FROM src)');
	my $failures = $self->surely(q{
SELECT format('| %s | %s |', count(*), coalesce(sqlstate || ' ', '') || what)
FROM (SELECT sqlstate, left(regexp_replace(regexp_replace(split_part(message, E'\n', 1), '"[^"]*"', '"..."', 'g'), '\d{3,}', '...', 'g'), 80) AS what
	FROM (SELECT sqlstate, message FROM flow.task_attempt WHERE state = 'failed' AND dag_id <> 'flaky'
		UNION ALL SELECT sqlstate, 'callback: ' || message FROM flow.callback WHERE state = 'failed') t) a GROUP BY sqlstate, what ORDER BY count(*) DESC, 1});

	return (runs => $runs, attempts => $attempts, rows => $rows, failures => $failures);
}

=pod

=back

=cut

1;
