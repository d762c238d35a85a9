
=pod

=head1 NAME

FlowpgTest - servers that run flowpg, for TAP tests

=head1 SYNOPSIS

  use PostgreSQL::Test::Cluster;    # PGXS needs it in the test file itself
  use PostgreSQL::Test::Utils;
  use Test::More;
  use FlowpgTest;

  my $node = new_node('main');      # started, extension in "postgres"
  define($node, q{
      SELECT flow_create_dag('d', NULL);
      SELECT flow_add_sql('d', 'a', 'SELECT 1');
  });
  my $run = trigger($node, 'd');
  is(wait_for_run($node, $run), 'success', 'the run succeeds');

=head1 DESCRIPTION

Functions on top of PostgreSQL::Test::Cluster.  Each takes the node first;
those that look into a database take its name as C<db> option, "postgres" where
it is not given.  Waiting is polling with the time limit of poll_query_until
(PG_TEST_TIMEOUT_DEFAULT, 180 s); what was waited for and did not come is shown
with the state of the runs.

=cut

package FlowpgTest;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  new_node define trigger backfill
  wait_for wait_for_run wait_for_backfill wait_for_task wait_for_log_line
  run_state task_states
  process_pids process_count scheduler_pid worker_pids wait_for_scheduler
  signal_process set_now advance
);

my $run_has_ended = q{state IN ('success', 'failed', 'cancelled')};

=pod

=over

=item new_node($name, %options)

A new server with flowpg preloaded, on a unix socket alone.  Options:

  conf       lines for postgresql.conf, after the usual ones
  databases  where CREATE EXTENSION runs: ['postgres']; those that are not
             there are created; [] for none
  durable    1: fsync on and restart_after_crash on, for tests of crashes
  init       further arguments of initdb: ['--wal-segsize=1']
  streaming  1: a primary that standbys can follow
  start      0: only initialized

=cut

sub new_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $is_durable = $options{durable} ? 'on' : 'off';

	$node->init(
		allows_streaming => $options{streaming} ? 1 : 0,
		extra => $options{init} // []);
	$node->append_conf(
		'postgresql.conf', qq{
shared_preload_libraries = 'flowpg'
max_worker_processes = 24
max_connections = 50
shared_buffers = 32MB
timezone = 'UTC'
log_line_prefix = '%m [%p] %b %q%a '
log_statement = none
fsync = $is_durable
restart_after_crash = $is_durable
});
	$node->append_conf('postgresql.conf', $options{conf})
	  if defined $options{conf};
	return $node if defined $options{start} && !$options{start};

	$node->start;
	foreach my $db (@{ $options{databases} // ['postgres'] })
	{
		$node->safe_psql('postgres', qq{CREATE DATABASE "$db"})
		  if $db ne 'postgres';
		$node->safe_psql($db, 'CREATE EXTENSION flowpg');
		wait_for_scheduler($node, db => $db);
	}
	return $node;
}

=pod

=item define($node, $sql, db => ...)

Runs definitions in one transaction, so that a DAG which is already due starts
whole.

=cut

sub define
{
	my ($node, $sql, %options) = @_;

	return $node->safe_psql($options{db} // 'postgres',
		"BEGIN;\n$sql\n;COMMIT;");
}

=pod

=item trigger($node, $dag_id, logical_date => ..., conf => ..., db => ...)

=item backfill($node, $dag_id, $from, $to, %arguments, db => ...)

flow_trigger and flow_backfill; the run_id or backfill_id.  Further arguments
of flow_backfill are given by name, as SQL: reprocess => "'none'".

=cut

sub trigger
{
	my ($node, $dag_id, %options) = @_;
	my $sql = 'SELECT flow_trigger(' . literal($dag_id);

	$sql .= ', logical_date => ' . literal($options{logical_date})
	  if defined $options{logical_date};
	$sql .= ', conf => ' . literal($options{conf})
	  if defined $options{conf};
	return $node->safe_psql($options{db} // 'postgres', "$sql)");
}

sub backfill
{
	my ($node, $dag_id, $from, $to, %options) = @_;
	my $db = delete $options{db} // 'postgres';
	my $sql = sprintf 'SELECT flow_backfill(%s, %s, %s', literal($dag_id),
	  literal($from), literal($to);

	$sql .= ", $_ => $options{$_}" foreach sort keys %options;
	return $node->safe_psql($db, "$sql)");
}

=pod

=item wait_for($node, $query, $what, db => ..., expected => 't')

Waits until the query yields 't' (or C<expected>); dies with $what and the
state of all runs if it never does.

=cut

sub wait_for
{
	my ($node, $query, $what, %options) = @_;
	my $db = $options{db} // 'postgres';

	return 1
	  if $node->poll_query_until($db, $query, $options{expected} // 't');
	show_runs($node, $db);
	croak 'timed out waiting for ' . ($what // $query);
}

=pod

=item wait_for_run($node, $run_id, db => ...)

Waits until the run has ended; its state.

=item wait_for_backfill($node, $backfill_id, db => ...)

Waits until every run of the backfill has ended; the backfill's state.

=item wait_for_task($node, $run_id, $task_id, $state, db => ...)

Waits until the task run is in that state.

=cut

sub wait_for_run
{
	my ($node, $run_id, %options) = @_;

	wait_for($node,
		"SELECT $run_has_ended FROM flow.dag_run WHERE run_id = $run_id",
		"the end of run $run_id", %options);
	return run_state($node, $run_id, %options);
}

sub wait_for_backfill
{
	my ($node, $backfill_id, %options) = @_;
	my $of = "FROM flow.backfill WHERE backfill_id = $backfill_id";

	wait_for($node, "SELECT ended_at IS NOT NULL $of",
		"the end of backfill $backfill_id", %options);
	return $node->safe_psql($options{db} // 'postgres', "SELECT state $of");
}

sub wait_for_task
{
	my ($node, $run_id, $task_id, $state, %options) = @_;

	return wait_for(
		$node,
		'SELECT state FROM flow.task_run WHERE run_id = '
		  . "$run_id AND task_id = " . literal($task_id),
		"task $task_id of run $run_id to be $state",
		%options, expected => $state);
}

=pod

=item wait_for_log_line($node, $regexp, $offset)

Waits until the server log has such a line from the offset on; the offset
behind it, for the next call.

=cut

sub wait_for_log_line
{
	my ($node, $regexp, $offset) = @_;

	return $node->wait_for_log($regexp, $offset // 0);
}

=pod

=item run_state($node, $run_id, db => ...)

=item task_states($node, $run_id, db => ...)

The state of a run; the states of its tasks as "a=success b=failed", by
task_id, tasks that have not begun without a state.

=cut

sub run_state
{
	my ($node, $run_id, %options) = @_;

	return $node->safe_psql($options{db} // 'postgres',
		"SELECT state FROM flow.dag_run WHERE run_id = $run_id");
}

sub task_states
{
	my ($node, $run_id, %options) = @_;

	return $node->safe_psql(
		$options{db} // 'postgres', qq{
SELECT string_agg(task_id || '=' || coalesce(state, ''), ' '
	ORDER BY task_id COLLATE "C", map_index)
FROM flow.task_status WHERE run_id = $run_id});
}

=pod

=item process_pids($node, $kind, db => ...)

The pids of flowpg's processes of a kind ("launcher", "scheduler", "worker"; no
kind: all), of one database if C<db> is given.  Empty while the server is not
there.

=item process_count, scheduler_pid, worker_pids

The same, counted or of one kind.

=cut

sub process_pids
{
	my ($node, $kind, %options) = @_;
	my $sql = 'SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '
	  . literal('flowpg ' . ($kind // '%'));

	$sql .= ' AND datname = ' . literal($options{db})
	  if defined $options{db};
	my ($code, $pids, $errors) = $node->psql('postgres', "$sql ORDER BY pid");
	return $code == 0 ? split(/\n/, $pids) : ();
}

sub process_count
{
	my @pids = process_pids(@_);

	return scalar @pids;
}

sub scheduler_pid
{
	my ($node, %options) = @_;

	return (process_pids($node, 'scheduler', db => $options{db} // 'postgres'))
	  [0];
}

sub worker_pids
{
	my ($node, %options) = @_;

	return process_pids($node, 'worker', db => $options{db} // 'postgres');
}

=pod

=item wait_for_scheduler($node, db => ..., not_pid => ...)

Waits until the database's scheduler is at work (another one than not_pid); its
pid.

=cut

sub wait_for_scheduler
{
	my ($node, %options) = @_;
	my $not_pid = delete $options{not_pid} // 0;
	my $of = "FROM flow.scheduler_status WHERE heartbeat IS NOT NULL "
	  . "AND pid IS NOT NULL AND pid <> $not_pid";

	wait_for($node, "SELECT count(*) = 1 $of", 'the scheduler', %options);
	return $node->safe_psql($options{db} // 'postgres', "SELECT pid $of");
}

=pod

=item signal_process($signal, $pid)

=cut

sub signal_process
{
	my ($signal, $pid) = @_;

	croak 'no process to signal' unless defined $pid && $pid =~ /^\d+$/;
	return kill($signal, $pid);
}

=pod

=item set_now($node, $time)

Sets flowpg.simulated_now ('2024-01-31 00:00:00+00'; empty: real time) and
waits until schedulers know it.

=item advance($node, $until, db => ...)

flow_advance: on to that time, with all that falls due on the way.

=cut

sub set_now
{
	my ($node, $time) = @_;

	$node->safe_psql('postgres',
		'ALTER SYSTEM SET flowpg.simulated_now = ' . literal($time));
	$node->reload;
	return wait_for($node,
		"SELECT current_setting('flowpg.simulated_now') = " . literal($time),
		"the time to be '$time'");
}

sub advance
{
	my ($node, $until, %options) = @_;

	return $node->safe_psql($options{db} // 'postgres',
		'SELECT flow_advance(' . literal($until) . ')');
}

=pod

=back

=cut

# An SQL string literal.
sub literal
{
	my ($value) = @_;

	$value =~ s/'/''/g;
	return "'$value'";
}

# For the log of a test that waits in vain.
sub show_runs
{
	my ($node, $db) = @_;
	my ($code, $stdout, $stderr) = $node->psql(
		$db, q{
SELECT * FROM flow.scheduler_status;
SELECT run_id, dag_id, run_type, state, logical_date, message
FROM flow.run_status ORDER BY run_id DESC LIMIT 20;
SELECT run_id, task_id, map_index, state, try_number, waits_for, message
FROM flow.task_status ORDER BY run_id DESC, task_id LIMIT 40;
});

	return diag("runs of \"$db\":\n$stdout\n$stderr");
}

1;
