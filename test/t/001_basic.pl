# The life of a run on a server of its own: start, trigger, retry, timeout,
# cancel, pause; and that a server without work does nothing.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FlowpgTest;

my $node =
  new_node('basic', databases => [], conf => 'autovacuum = off');

# Start -------------------------------------------------------------------

is(process_count($node, 'launcher'), 1, 'a server has one launcher');
is(process_count($node, 'scheduler'),
	0, 'a database without the extension has no scheduler');

$node->safe_psql('postgres', 'CREATE EXTENSION flowpg');
wait_for_scheduler($node);
is(process_count($node, 'scheduler'),
	1, 'CREATE EXTENSION brings the scheduler');
is( $node->safe_psql(
		'postgres', 'SELECT problem IS NULL FROM flow.scheduler_status'),
	't',
	'the scheduler has no problem');

# Trigger -----------------------------------------------------------------

define($node, q{
CREATE TABLE written (task text, run_id bigint, try int);
SELECT flow_create_dag('chain', NULL);
SELECT flow_add_sql('chain', 'first',
	'INSERT INTO written VALUES (run.task_id, run.run_id, run.try_number)');
SELECT flow_add_sql('chain', 'second',
	'INSERT INTO written SELECT run.task_id, w.run_id, run.try_number
	 FROM written w WHERE w.run_id = run.run_id',
	upstream => '{first}');
});

my $run = trigger($node, 'chain');
is(wait_for_run($node, $run), 'success', 'a triggered run succeeds');
is(task_states($node, $run), 'first=success second=success',
	'and so do its tasks');
is( $node->safe_psql(
		'postgres',
		"SELECT string_agg(task, ' ' ORDER BY task) FROM written
		 WHERE run_id = $run"),
	'first second',
	'downstream sees what upstream wrote');
is( $node->safe_psql(
		'postgres',
		"SELECT count(*) FROM flow.dag_log WHERE run_id = $run"),
	'1',
	'the success is in dag_log');
is($node->safe_psql('postgres', 'SELECT flow_wait_run(' . trigger($node, 'chain') . ", '1 min')"),
	'success', 'flow_wait_run returns the state of the run');

# Retry -------------------------------------------------------------------

define($node, q{
SELECT flow_create_dag('retried', NULL, retries => 2,
	retry_delay => '100 ms');
SELECT flow_add_sql('retried', 'third_time',
	'INSERT INTO written VALUES (run.task_id, run.run_id, run.try_number);
	 SELECT 1 / greatest(run.try_number - 2, 0)');
SELECT flow_create_dag('hopeless', NULL, retries => 1,
	retry_delay => '100 ms');
SELECT flow_add_sql('hopeless', 'divides', 'SELECT 1 / 0 * run.try_number');
SELECT flow_add_sql('hopeless', 'follows', 'SELECT 1', upstream => '{divides}');
});

$run = trigger($node, 'retried');
is(wait_for_run($node, $run), 'success', 'a task is tried again');
is( $node->safe_psql(
		'postgres',
		"SELECT string_agg(try_number || ' ' || state || coalesce(' ' ||
			sqlstate, ''), ', ' ORDER BY try_number)
		 FROM flow.task_attempt WHERE run_id = $run"),
	'1 failed 22012, 2 failed 22012, 3 success',
	'each attempt is on record');
is( $node->safe_psql(
		'postgres', "SELECT count(*), max(try) FROM written
		 WHERE run_id = $run"),
	'1|3',
	'an attempt that fails leaves no effect');

$run = trigger($node, 'hopeless');
is(wait_for_run($node, $run), 'failed', 'a run fails when retries are used up');
is( task_states($node, $run),
	'divides=failed follows=upstream_failed',
	'and what follows does not run');
like(
	$node->safe_psql(
		'postgres', "SELECT message FROM flow.run_status
		 WHERE run_id = $run"),
	qr/divides.*division by zero/s,
	'run_status names the task and its error');

# Timeout -----------------------------------------------------------------

define($node, q{
SELECT flow_create_dag('slow', NULL);
SELECT flow_add_sql('slow', 'sleeps', 'SELECT pg_sleep_for(''10 min'')',
	execution_timeout => '200 ms');
});

$run = trigger($node, 'slow');
is(wait_for_run($node, $run), 'failed', 'execution_timeout ends a task');
is( $node->safe_psql(
		'postgres',
		"SELECT state || ' ' || sqlstate || ' ' ||
			(ended_at - started_at < interval '30 s')
		 FROM flow.task_attempt WHERE run_id = $run"),
	'failed 57014 true',
	'as a cancelled statement, in time');

# Cancel ------------------------------------------------------------------

define($node, q{
SELECT flow_add_sql('slow', 'sleeps', 'SELECT pg_sleep_for(''10 min'')');
SELECT flow_add_sql('slow', 'follows', 'SELECT 1', upstream => '{sleeps}');
});

$run = trigger($node, 'slow');
wait_for_task($node, $run, 'sleeps', 'running');
wait_for(
	$node,
	"SELECT count(*) = 1 FROM pg_stat_activity
	 WHERE backend_type = 'flowpg worker' AND wait_event = 'PgSleep'",
	'the task to sleep');
my $worker = $node->safe_psql('postgres',
	"SELECT worker_pid FROM flow.running WHERE run_id = $run");
$node->safe_psql('postgres', "SELECT flow_cancel_run($run)");
is(wait_for_run($node, $run), 'cancelled', 'a running run is cancelled');
like(task_states($node, $run), qr/\bsleeps=cancelled\b/, 'with its task');
is( $node->safe_psql(
		'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE pid = $worker"),
	'1',
	'the worker goes on');

# Pause -------------------------------------------------------------------

define($node, q{
SELECT flow_create_dag('ticks', '1 second', start_date => '2024-01-01',
	catchup => false);
SELECT flow_add_sql('ticks', 'a', 'SELECT 1');
});
my $finished = q{
SELECT count(*) FROM flow.dag_run WHERE dag_id = 'ticks' AND state = 'success'};

wait_for($node, "SELECT ($finished) >= 2", 'runs to be scheduled');
$node->safe_psql('postgres', q{SELECT flow_pause('ticks')});
wait_for(
	$node,
	q{SELECT count(*) = 0 FROM flow.dag_run
	  WHERE dag_id = 'ticks' AND state = 'running'},
	'the runs of the paused DAG to end');
my $before = $node->safe_psql('postgres', $finished);

# Another DAG's next runs show that the time of the paused one's has come.
define($node, q{
SELECT flow_create_dag('tocks', '1 second', start_date => '2024-01-01',
	catchup => false);
SELECT flow_add_sql('tocks', 'a', 'SELECT 1');
});
wait_for(
	$node,
	q{SELECT count(*) >= 3 FROM flow.dag_run
	  WHERE dag_id = 'tocks' AND state = 'success'},
	'runs of the other DAG');
is($node->safe_psql('postgres', $finished),
	$before, 'a paused DAG makes no runs');
$node->safe_psql('postgres', q{SELECT flow_resume('ticks')});
wait_for($node, "SELECT ($finished) > $before", 'the resumed DAG to run');
pass('a resumed DAG makes runs again');

# Idle --------------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
SELECT flow_drop_dag('ticks');
SELECT flow_drop_dag('tocks');
SELECT flow_create_dag('far_away', '@yearly', timezone => 'UTC');
SELECT flow_add_sql('far_away', 'a', 'SELECT 1')});
$node->append_conf('postgresql.conf', "flowpg.worker_idle_timeout = '1 s'");
$node->reload;
wait_for(
	$node, q{
SELECT active_runs = 0 AND next_wake_at > now() + interval '15 s'
	AND NOT EXISTS (SELECT FROM flow.worker_status)
FROM flow.scheduler_status},
	'the scheduler to have nothing to do');

# Looked at from another database, by one session that has warmed up, when the
# others are gone and their statistics are in.
$node->safe_psql('postgres', 'CREATE DATABASE watch');
my $heartbeat = 'SELECT heartbeat FROM flow.scheduler_status';
my $counters = q{
SELECT sum(xact_commit + xact_rollback), pg_current_wal_insert_lsn()
FROM pg_stat_database WHERE datname IS DISTINCT FROM 'watch'};
my $watch = $node->background_psql('watch');

$watch->query_safe($counters);
my $last_awake = $node->safe_psql('postgres', $heartbeat);
wait_for(
	$node, q{
SELECT count(*) = 0 FROM pg_stat_activity
WHERE datname = 'postgres' AND backend_type = 'client backend'},
	'sessions to end', db => 'watch');
my $idle_before = $watch->query_safe($counters);
$watch->query_safe(q{SELECT pg_sleep_for('5 s')});
my $idle_after = $watch->query_safe($counters);
$watch->quit;
is($idle_after, $idle_before,
	'an idle server makes no transactions and no WAL');
is($node->safe_psql('postgres', $heartbeat),
	$last_awake, 'and its scheduler is asleep');

# On time -----------------------------------------------------------------

# Linux may let a wait of a minute run late by 60 ms.
define($node, q{
SELECT flow_create_dag('minutely', '* * * * *', catchup => false);
SELECT flow_add_sql('minutely', 'step', 'SELECT 1');
});
wait_for(
	$node, q{
SELECT next_wake_at BETWEEN due - interval '110 ms' AND due - interval '1 ms' FROM flow.scheduler_status,
	(SELECT date_trunc('minute', now()) + interval '1 min') AS minute (due)},
	'the scheduler to wait a little less than until the next run is due');
pass('a long wait ends before what is waited for, and what is left is waited for by itself');

# Stop --------------------------------------------------------------------

$node->safe_psql('postgres', 'DROP EXTENSION flowpg CASCADE');
wait_for(
	$node,
	q{SELECT count(*) = 0 FROM pg_stat_activity
	  WHERE backend_type IN ('flowpg scheduler', 'flowpg worker')},
	'scheduler and workers to leave');
is(process_count($node, 'launcher'), 1, 'DROP EXTENSION leaves the launcher');
$node->stop('fast');
unlike(
	slurp_file($node->logfile),
	qr/terminated by signal|PANIC|TRAP/,
	'nothing crashed');

done_testing();
