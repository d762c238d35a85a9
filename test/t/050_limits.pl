
# How many run at once, in which order, how often and how long; and what a
# task's session is.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'limits', conf => q{
flowpg.simulated_now = '2024-06-01 00:00:00+00'
flowpg.max_workers = 8
});

# Tasks that stand at a closed gate.
sub wait_at_gate
{
	my ($key, $n) = @_;

	return wait_for($node,
		"SELECT count(*) = $n FROM pg_locks WHERE locktype = 'advisory' AND objid = $key
			AND NOT granted",
		"$n tasks at gate $key");
}

# All runs' states, as "state n" a line.
sub states
{
	my ($dag_id) = @_;

	return value($node, "SELECT state, count(*) FROM flow.dag_run WHERE dag_id = '$dag_id'
		GROUP BY 1 ORDER BY 1");
}

# How many rows of flow.dag_run or flow.task_run were under way at one time.
sub most_at_once
{
	my ($table, $dag_id) = @_;

	return value($node, qq{
SELECT max((SELECT count(*) FROM flow.$table b
	WHERE b.dag_id = a.dag_id AND b.started_at <= a.started_at
		AND b.ended_at > a.started_at))
FROM flow.$table a WHERE a.dag_id = '$dag_id'});
}

sub wait_for_all
{
	my ($dag_id) = @_;

	return wait_for($node,
		"SELECT count(*) = 0 FROM flow.dag_run WHERE dag_id = '$dag_id'
			AND ended_at IS NULL",
		"the runs of $dag_id");
}

# These two take the time that their repeated cancels take; the others run
# meanwhile.
my $workers = $node->safe_psql('postgres', q{
CREATE FUNCTION never_give_up() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		BEGIN
			PERFORM pg_sleep(600);
		EXCEPTION WHEN query_canceled OR OTHERS THEN
			NULL;
		END;
	END LOOP;
END $$;
});
define($node, q{
SELECT flow_create_dag('stubborn timeout', NULL, execution_timeout => '500 ms');
SELECT flow_add_sql('stubborn timeout', 'loop', 'SELECT never_give_up()');
SELECT flow_create_dag('stubborn cancel', NULL);
SELECT flow_add_sql('stubborn cancel', 'loop', 'SELECT never_give_up()');
});
my $stubborn_timeout = trigger($node, 'stubborn timeout');
my $stubborn_cancel = trigger($node, 'stubborn cancel');
wait_for($node, "SELECT count(*) = 1 FROM flow.running WHERE run_id = $stubborn_cancel",
	'the loop to run');
$node->safe_psql('postgres', "SELECT flow_cancel_run($stubborn_cancel)");

# ------------------------------------------------------------------------
# max_active_runs, max_active_tasks

define($node, q{
SELECT flow_create_dag('two runs', NULL, max_active_runs => 2);
SELECT flow_add_sql('two runs', 'a', 'SELECT pg_advisory_xact_lock_shared(1)');
SELECT flow_add_sql('two runs', 'b', 'SELECT 1', upstream => '{a}');
});
my $gate = close_gate($node, 1);
trigger($node, 'two runs') foreach 1 .. 5;
wait_at_gate(1, 2);
is(states('two runs'), "queued|3\nrunning|2", 'max_active_runs: two of five runs start');
shows($node,
	q{SELECT DISTINCT waits_for FROM flow.task_status WHERE dag_id = 'two runs'
		AND run_state = 'queued'},
	'max_active_runs: 2',
	'the others say that they wait');
$node->safe_psql('postgres', q{SELECT flow_alter_dag('two runs', max_active_runs => 3)});
wait_at_gate(1, 3);
is(states('two runs'), "queued|2\nrunning|3", 'altered, it holds at once');
$gate->open;
wait_for_all('two runs');
is(states('two runs'), 'success|5', 'all come through');
is(most_at_once('dag_run', 'two runs'), '3', 'never more than three at once');

define($node, q{
SELECT flow_create_dag('three tasks', NULL, max_active_tasks => 3);
SELECT flow_add_sql('three tasks', t, 'SELECT pg_advisory_xact_lock_shared(2)')
	FROM unnest('{a,b,c,d}'::text[]) t;
});
$gate = close_gate($node, 2);
trigger($node, 'three tasks') foreach 1 .. 2;
wait_at_gate(2, 3);
is(states('three tasks'), 'running|2', 'max_active_tasks: both runs are under way');
shows($node,
	q{SELECT count(*) FROM flow.running WHERE dag_id = 'three tasks'},
	'3', 'three tasks run, over all runs of the DAG');
shows($node,
	q{SELECT waits_for, count(*) FROM flow.task_status
	  WHERE dag_id = 'three tasks' AND state IS NULL GROUP BY 1},
	'max_active_tasks: 3|5', 'five wait, and say so');
$gate->open;
wait_for_all('three tasks');
is(most_at_once('task_run', 'three tasks'), '3', 'never more than three at once');

# ------------------------------------------------------------------------
# Pools

$node->safe_psql('postgres', q{SELECT flow_create_pool('narrow', 2)});
define($node, q{
SELECT flow_create_dag('narrow 1', NULL);
SELECT flow_add_sql('narrow 1', 'a', 'SELECT pg_advisory_xact_lock_shared(3)', pool => 'narrow');
SELECT flow_add_sql('narrow 1', 'b', 'SELECT pg_advisory_xact_lock_shared(3)', pool => 'narrow');
SELECT flow_add_sql('narrow 1', 'c', 'SELECT pg_advisory_xact_lock_shared(3)');
SELECT flow_create_dag('narrow 2', NULL);
SELECT flow_add_sql('narrow 2', 'wide', 'SELECT pg_advisory_xact_lock_shared(3)', pool => 'narrow', pool_slots => 2);
});
like(error_of($node, q{SELECT flow_add_sql('narrow 2', 'too wide', 'SELECT 1', pool => 'narrow', pool_slots => 3)}), qr/^22023 invalid pool_slots "3"/,
	'a task that the pool can never hold is refused');
like(error_of($node, q{SELECT flow_add_sql('narrow 2', 'x', 'SELECT 1', pool => 'no such')}),
	qr/^42704 pool "no such" does not exist/, 'and a pool that is not there');
$gate = close_gate($node, 3);
my $narrow_1 = trigger($node, 'narrow 1');
wait_at_gate(3, 3);
my $narrow_2 = trigger($node, 'narrow 2');
wait_for($node, "SELECT state = 'running' FROM flow.dag_run WHERE run_id = $narrow_2",
	'the second run to start');
shows($node,
	q{SELECT string_agg(task_id, ' ' ORDER BY task_id) FROM flow.running
		WHERE dag_id LIKE 'narrow%'},
	'a b c',
	'a full pool holds up its own tasks, over DAGs, and no others');
is(task_states($node, $narrow_2), 'wide=', 'the third waits');
$node->safe_psql('postgres', q{SELECT flow_create_pool('narrow', 4)});
wait_at_gate(3, 4);
pass('a wider pool lets it in');
$gate->open;
is(wait_for_run($node, $_), 'success', 'all come through') foreach ($narrow_1, $narrow_2);

# in which order
$node->safe_psql('postgres', q{SELECT flow_create_pool('one', 1)});
define($node, q{
SELECT flow_create_dag('order', NULL);
SELECT flow_add_sql('order', 'first', 'SELECT pg_advisory_xact_lock_shared(4)', pool => 'one', priority_weight => 100);
SELECT flow_add_sql('order', 'light', 'SELECT 1', pool => 'one', priority_weight => 1);
SELECT flow_add_sql('order', 'heavy', 'SELECT 1', pool => 'one', priority_weight => 10);
SELECT flow_add_sql('order', 'medium', 'SELECT 1', pool => 'one', priority_weight => 5);
});
is(wait_for_run($node, trigger($node, 'order')), 'success', 'a pool with one slot');
shows($node,
	q{SELECT string_agg(task_id, ' ' ORDER BY started_at) FROM flow.task_run
		WHERE dag_id = 'order'},
	'first heavy medium light', 'takes the tasks by priority_weight');

# ------------------------------------------------------------------------
# Scheduled runs are ahead of backfill runs

define($node, q{
CREATE TABLE turn (n serial, run_type text, day date);
SELECT flow_create_dag('daily', '@daily', '2024-06-01');
SELECT flow_add_sql('daily', 'take', 'SELECT pg_advisory_xact_lock_shared(CASE WHEN run.ds = date $$2024-05-01$$ THEN 5 ELSE 0 END);
	INSERT INTO turn (run_type, day) VALUES (run.run_type, run.ds)', pool => 'one');
});
$gate = close_gate($node, 5);
my $backfill = backfill($node, 'daily', '2024-05-01', '2024-05-04');
wait_at_gate(5, 1);
set_now($node, '2024-06-02 00:00:00+00');
wait_for($node,
	q{SELECT count(*) = 5 FROM flow.dag_run WHERE dag_id = 'daily' AND state = 'running'},
	'the scheduled run');
$gate->open;
wait_for_all('daily');
shows($node,
	q{SELECT string_agg(run_type || ' ' || to_char(day, 'MM-DD'), ', ' ORDER BY n)
		FROM turn},
	'backfill 05-01, scheduled 06-01, backfill 05-02, backfill 05-03, backfill 05-04',
	'a scheduled run takes its turn before the rest of a backfill');

define($node, q{
SELECT flow_create_dag('mass', '@daily', '2024-06-01', is_paused => true, max_active_runs => 10);
SELECT flow_add_sql('mass', 'wait', 'SELECT pg_advisory_xact_lock_shared(6)');
SELECT flow_create_dag('asked', NULL, max_active_runs => 10, max_active_tasks => 10);
SELECT flow_add_sql('asked', 'wait', 'SELECT pg_advisory_xact_lock_shared(6)');
});
# the two stubborn ones have gone by then, or take two of the eight workers
wait_for($node,
	"SELECT count(*) = 2 FROM flow.dag_run
		WHERE run_id IN ($stubborn_timeout, $stubborn_cancel) AND ended_at IS NOT NULL",
	'the stubborn tasks');
$gate = close_gate($node, 6);
$node->safe_psql('postgres', q{
BEGIN;
SELECT flow_backfill('mass', '2024-05-01', '2024-05-10');
SELECT flow_trigger('asked') FROM generate_series(1, 5);
COMMIT;
});
wait_at_gate(6, 8);
shows($node,
	'SELECT dag_id, count(*) FROM flow.running GROUP BY 1 ORDER BY 1',
	"asked|5\nmass|3", 'a backfill gets the workers that nothing else needs');
$gate->open;
wait_for_all($_) foreach ('mass', 'asked');

# ------------------------------------------------------------------------
# Retries, under the simulated time

define($node, q{
SELECT flow_create_dag('retry', NULL, retries => 2, retry_delay => '10 minutes');
SELECT flow_add_sql('retry', 'fails', 'SELECT 1 / 0');
SELECT flow_create_dag('backoff', NULL, retries => 4, retry_delay => '10 minutes', retry_exponential_backoff => true, max_retry_delay => '30 minutes');
SELECT flow_add_sql('backoff', 'fails', 'SELECT 1 / 0');
SELECT flow_create_dag('second try', NULL, retries => 5, retry_delay => '1 hour');
SELECT flow_add_sql('second try', 'works', 'SELECT 1 / (run.try_number - 1)');
SELECT flow_add_sql('second try', 'own', 'SELECT 1 / 0', retries => 0);
SELECT flow_add_sql('second try', 'after', 'SELECT 1', upstream => '{works}');
});
my $retry = trigger($node, 'retry');
my $backoff = trigger($node, 'backoff');
my $second = trigger($node, 'second try');

# How many attempts there have been at a minute.
sub tries_at
{
	my ($run, $minute) = @_;

	advance($node, sprintf '2024-06-02 %02d:%02d:00+00', int($minute / 60), $minute % 60);
	return value($node, "SELECT max(try_number) FROM flow.task_attempt
		WHERE run_id = $run");
}
is(tries_at($retry, 0), '1', 'one attempt at first');
shows($node,
	"SELECT state, retry_at FROM flow.task_run WHERE run_id = $retry",
	'up_for_retry|2024-06-02 00:10:00+00', 'the next is due after the delay');
like(value($node, "SELECT waits_for FROM flow.task_status WHERE run_id = $retry"),
	qr/^retry at 2024-06-02 00:10/, 'and task_status says when');
is(tries_at($retry, 9), '1', 'not before');
is(tries_at($retry, 10), '2', 'then it comes');
is(tries_at($retry, 20), '3', 'and the last one');
is(run_state($node, $retry), 'failed', 'which ends the run');
shows($node,
	"SELECT try_number, state, sqlstate, split_part(message, E'\\n', 1)
		FROM flow.task_attempt WHERE run_id = $retry ORDER BY 1",
	"1|failed|22012|division by zero\n2|failed|22012|division by zero\n3|failed|22012|division by zero",
	'all attempts are on record, with their error');
like(value($node, "SELECT message FROM flow.run_status WHERE run_id = $retry"),
	qr/fails.*division by zero/, 'and the run says which task it was');
shows($node,
	"SELECT failures FROM flow.task_run WHERE run_id = $retry",
	'3', 'counted as failures');

# 10, then 20, then 30 and 30 for it is capped
is(join(' ', map { tries_at($backoff, $_) } 20, 29, 30, 59, 60, 89, 90), '2 2 3 3 4 4 5',
	'exponential back-off, capped');
is(run_state($node, $backoff), 'failed', 'and an end');
is(run_state($node, $second), 'failed',
	'a task without retries of its own fails its run');
is(task_states($node, $second), 'after=success own=failed works=success',
	'the other one is tried a second time, and what follows it runs');

# ------------------------------------------------------------------------
# execution_timeout and cancel

define($node, q{
SELECT flow_create_dag('slow', NULL, execution_timeout => '300 ms');
SELECT flow_add_sql('slow', 'sleep', 'SELECT pg_sleep(600)');
SELECT flow_add_sql('slow', 'compute', $$DO 'BEGIN LOOP NULL; END LOOP; END'$$);
SELECT flow_add_sql('slow', 'longer', 'SELECT pg_sleep(0.5)',
	execution_timeout => '1 minute');
SELECT flow_create_dag('patient', NULL, max_active_runs => 1);
SELECT flow_add_sql('patient', 'sleep', 'SELECT pg_sleep(600)');
SELECT flow_add_sql('patient', 'after', 'SELECT 1', upstream => '{sleep}');
SELECT flow_add_sql('patient', 'anyway', 'SELECT 1', upstream => '{sleep}', trigger_rule => 'all_done');
});
my $run = trigger($node, 'slow');
is(wait_for_run($node, $run), 'failed', 'a run whose tasks take too long fails');
shows($node,
	"SELECT task_id, state, sqlstate, message FROM flow.task_run WHERE run_id = $run
		ORDER BY 1",
	"compute|failed|57014|execution_timeout of 0.300 s exceeded\n"
	  . "longer|success||\n"
	  . "sleep|failed|57014|execution_timeout of 0.300 s exceeded", 'asleep or computing; a task\'s own timeout goes first');

$run = trigger($node, 'patient');
my $queued = trigger($node, 'patient');
wait_for($node, "SELECT count(*) = 1 FROM flow.running WHERE run_id = $run",
	'the task to run');
my ($pid) = value($node, "SELECT worker_pid FROM flow.running WHERE run_id = $run");
my $since = time;
$node->safe_psql('postgres',
	"SELECT flow_cancel_run($queued); SELECT flow_cancel_run($run)");
is(wait_for_run($node, $run), 'cancelled', 'a run is cancelled');
cmp_ok(time - $since, '<', 5, 'soon');
is(task_states($node, $run), 'after= anyway= sleep=cancelled',
	'none of its tasks runs any more');
is(wait_for_run($node, $queued), 'cancelled', 'also one that has not started');
shows($node,
	"SELECT count(*) FROM flow.task_run WHERE run_id = $queued",
	'0', 'which leaves no trace of tasks');
like(error_of($node, "SELECT flow_cancel_run($run)"),
	qr/^55000 run $run has ended already/, 'a run that has ended cannot be cancelled');
shows($node,
	"SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND state = 'idle'",
	'1', 'the worker has stayed');

is(run_state($node, $stubborn_timeout), 'failed',
	'code that swallows its timeout loses its worker');
shows($node,
	"SELECT state FROM flow.task_run WHERE run_id = $stubborn_timeout",
	'failed', 'and fails');
is(run_state($node, $stubborn_cancel), 'cancelled', 'code that swallows its cancel, too');
shows($node,
	"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%never_give_up%'
		AND state = 'active' AND pid <> pg_backend_pid()",
	'0', 'nothing of them is left');

# a worker that is ended is a failure like any other
define($node, q{
SELECT flow_create_dag('ended', NULL, retries => 1, retry_delay => '0');
SELECT flow_add_sql('ended', 'sleep', 'SELECT pg_sleep(CASE run.try_number WHEN 1 THEN 600 ELSE 0 END)');
});
$run = trigger($node, 'ended');
wait_for($node, "SELECT count(*) = 1 FROM flow.running WHERE run_id = $run",
	'the task to run');
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(worker_pid) FROM flow.running WHERE run_id = $run");
is(wait_for_run($node, $run), 'success',
	'the task of a worker that is terminated is tried again');
shows($node,
	"SELECT try_number, state, sqlstate FROM flow.task_attempt WHERE run_id = $run
		ORDER BY 1",
	"1|failed|57P01\n2|success|", 'as a retry');
shows($node,
	"SELECT failures FROM flow.task_run WHERE run_id = $run",
	'1', 'that counts');

# ------------------------------------------------------------------------
# The session of a task

$node->safe_psql('postgres', q{
CREATE ROLE modest LOGIN;
SELECT flow_grant('modest');
CREATE SCHEMA app AUTHORIZATION modest;
GRANT CREATE ON SCHEMA public TO modest;
CREATE TABLE app.note (n serial, k text, v text);
ALTER TABLE app.note OWNER TO modest;
ALTER DATABASE postgres SET work_mem = '5MB';
ALTER ROLE modest SET statement_timeout = '50ms';
});
value_as($node, 'modest', q{
BEGIN;
SET search_path = app, public;
SELECT flow_create_dag('mine', '@daily', '2024-03-30', timezone => 'Europe/Zurich', is_paused => true);
SELECT flow_add_sql('mine', 'who', $sql$INSERT INTO note (k, v) VALUES
	('current_user', current_user), ('session_user', session_user), ('superuser', current_setting('is_superuser')),
	('search_path', current_setting('search_path')), ('TimeZone', current_setting('TimeZone')), ('pid', pg_backend_pid());
	SELECT pg_sleep(0.2)$sql$);
SELECT flow_add_sql('mine', 'leave', $sql$
	CREATE TEMP TABLE left_over (a int);
	SET work_mem = '77MB';
	SET search_path = pg_catalog;
	PREPARE left_over AS SELECT 1;
	SELECT pg_advisory_lock(4711);
	DECLARE left_over CURSOR WITH HOLD FOR SELECT 1$sql$, upstream => '{who}');
SELECT flow_add_sql('mine', 'find', $sql$INSERT INTO note (k, v) VALUES
	('found temp', to_regclass('pg_temp.left_over')::text), ('found work_mem', current_setting('work_mem')),
	('found path', current_setting('search_path')),
	('found prepared', (SELECT count(*) FROM pg_prepared_statements
		WHERE name = 'left_over')),
	('found cursors', (SELECT count(*) FROM pg_cursors WHERE name = 'left_over')),
	('found locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
		AND objid = 4711)),
	('found pid', pg_backend_pid())$sql$, upstream => '{leave}');
SELECT flow_add_sql('mine', 'values', $sql$INSERT INTO note (k, v) VALUES
	('start', run.data_interval_start::text || ' ' || pg_typeof(run.data_interval_start)), ('end', run.data_interval_end || ' ' || pg_typeof(run.data_interval_end)),
	('logical_date', (run.logical_date = run.data_interval_start) || ' ' || pg_typeof(run.logical_date)), ('ds', run.ds || ' ' || pg_typeof(run.ds)),
	('local', run.local_start || ' ' || run.local_end || ' ' || pg_typeof(run.local_end)),
	('ids', run.dag_id || ' ' || run.task_id || ' ' || pg_typeof(run.dag_id) || ' ' || pg_typeof(run.run_id)),
	('try', run.try_number || ' ' || pg_typeof(run.try_number)), ('type', run.run_type || ' ' || run.state),
	('conf', (run.conf ->> 'colour') || ' ' || pg_typeof(run.conf)),
	('quoted', (SELECT count(*) FROM note
		WHERE k = run.dag_id || '''; DROP TABLE note'))$sql$, upstream => '{find}');
COMMIT;
});
$run = value_as($node, 'modest',
	q{SELECT flow_trigger('mine', '2024-03-31 12:00', conf => '{"colour": "it''s blue"}')});
is(wait_for_run($node, $run), 'success', 'a DAG of an owner without rights')
  or diag(value($node, "SELECT task_id, message FROM flow.task_run WHERE run_id = $run"));
my %note = map { /^(.*?)\|(.*)$/ } split /\n/, value($node, 'SELECT k, v FROM app.note');
is("$note{current_user} $note{session_user} $note{superuser}", 'modest modest off',
	'runs as the owner');
is($note{search_path}, 'app, public', 'with the search_path of the definition');
is($note{TimeZone}, 'Europe/Zurich',
	'and the timezone of the DAG; statement_timeout has no effect');
is($note{'found pid'}, $note{pid}, 'tasks of one owner share a worker');
is($note{'found temp'}, '', 'no temporary table is left');
is($note{'found work_mem'}, '5MB', 'no setting');
is($note{'found path'}, 'app, public', 'not that of search_path either');
is("$note{'found prepared'} $note{'found cursors'} $note{'found locks'}", '0 0 0',
	'no statement, cursor or lock');

# the day on which summer begins has 23 hours
is($note{start}, '2024-03-31 00:00:00+01 timestamp with time zone',
	'run.data_interval_start');
is($note{end}, '2024-04-01 00:00:00+02 timestamp with time zone',
	'run.data_interval_end');
is($note{logical_date}, 'true timestamp with time zone', 'run.logical_date');
is($note{ds}, '2024-03-31 date', 'run.ds');
is($note{local}, '2024-03-31 00:00:00 2024-04-01 00:00:00 timestamp without time zone',
	'run.local_start, run.local_end');
is($note{ids}, 'mine values text bigint', 'run.dag_id, run.task_id, run.run_id');
is($note{try}, '1 integer', 'run.try_number');
is($note{type}, 'manual running', 'run.run_type, run.state');
is($note{conf}, "it's blue jsonb", 'run.conf');
is($note{quoted}, '0', 'and none is text that is pasted in');

# what an owner may not
like(error_as($node, 'modest', q{SELECT flow_add_sql('mine', 'records', $$UPDATE flow.task_run SET state = 'success'$$)}),
	qr/^42501 permission denied for table task_run/, 'what the owner may not do is refused when it is defined');
value_as($node, 'modest', q{
BEGIN;
SELECT flow_create_dag('climb', NULL);
SELECT flow_add_sql('climb', 'role', 'SET ROLE ' || quote_ident((SELECT rolname
	FROM pg_roles WHERE oid = 10)));
SELECT flow_add_sql('climb', 'table', $$DO 'BEGIN UPDATE flow.task_run
	SET rows_written = 1; END'$$);
SELECT flow_add_sql('climb', 'other', 'SELECT never_mind
	FROM (SELECT 1 AS never_mind) s');
COMMIT;
});
$run = value_as($node, 'modest', q{SELECT flow_trigger('climb')});
is(wait_for_run($node, $run), 'failed', 'an owner cannot rise above itself');
shows($node,
	"SELECT task_id, state, sqlstate FROM flow.task_run WHERE run_id = $run ORDER BY 1",
	"other|success|\nrole|failed|42501\ntable|failed|42501",
	'neither by role nor by writing the records');

# ------------------------------------------------------------------------
# Transactions

foreach my $command ('BEGIN', 'COMMIT', 'ROLLBACK', 'START TRANSACTION', 'SAVEPOINT s', 'ABORT', 'END', q{PREPARE TRANSACTION 'x'}, 'SELECT 1; COMMIT; SELECT 2')
{
	like(error_of($node, "SELECT flow_add_sql('second try', 'refused', \$\$$command\$\$)"),
		qr/^2D000 .* is not allowed in a task/, "$command is refused");
}
$node->safe_psql('postgres', q{
CREATE TABLE step (n int, who text);
CREATE INDEX step_n ON step (n);
CREATE PROCEDURE two_steps() LANGUAGE plpgsql AS $$
DECLARE
	c record;
BEGIN
	INSERT INTO step SELECT 1, task_id FROM flow_context();
	COMMIT;
	SELECT * INTO c FROM flow_context();
	INSERT INTO step
		VALUES (2, c.dag_id || ' ' || c.task_id || ' ' || c.ds || ' ' || c.run_type);
	PERFORM 1 / 0;
END $$;
});
define($node, q{
SELECT flow_create_dag('steps', NULL);
SELECT flow_add_sql('steps', 'within', 'INSERT INTO step VALUES (10, NULL);
	SELECT 1 / 0');
SELECT flow_add_sql('steps', 'vacuum', 'VACUUM step');
SELECT flow_add_sql('steps', 'vacuum outside', 'VACUUM step; CREATE INDEX CONCURRENTLY step_who ON step (who)', in_transaction => false);
SELECT flow_add_sql('steps', 'call', 'CALL two_steps()');
SELECT flow_add_sql('steps', 'call outside', 'CALL two_steps()', in_transaction => false, upstream => '{call}', trigger_rule => 'all_done');
});
$run = trigger($node, 'steps');
wait_for_run($node, $run);
shows($node,
	qq{SELECT task_id, state, sqlstate FROM flow.task_run WHERE run_id = $run
		ORDER BY task_id COLLATE "C"},
	"call|failed|2D000\ncall outside|failed|22012\nvacuum|failed|25001\nvacuum outside|success|\nwithin|failed|22012",
	'what cannot run in a transaction does so only where the task says in_transaction => false');
shows($node,
	'SELECT n, who FROM step ORDER BY n',
	'1|call outside',
	'a failed task leaves nothing but what its procedure has committed');
shows($node,
	q{SELECT count(*) FROM pg_class WHERE relname = 'step_who'},
	'1', 'nor statements that are transactions of their own');
shows($node,
	'SELECT count(*) FROM flow_context() WHERE run_id IS NULL AND ds IS NULL',
	'1', 'flow_context outside a task is a row of NULLs');

# ------------------------------------------------------------------------
# Workers for tasks that are taken for short ones

define($node, q{
SELECT flow_create_dag('short', NULL, max_active_tasks => 100);
SELECT flow_add_sql('short', 'task' || i, 'SELECT 1') FROM generate_series(1, 40) AS i;
SELECT flow_create_dag('not short', NULL);
SELECT flow_add_sql('not short', 'task' || i, 'SELECT pg_advisory_xact_lock_shared(7)') FROM generate_series(1, 8) AS i;
});
is(wait_for_run($node, trigger($node, 'short')), 'success', 'tasks that take no time');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'flowpg worker'});
$gate = close_gate($node, 7);
$run = trigger($node, 'not short');
wait_at_gate(7, 8);
pass('others of the role get all the workers, should they take longer');
$gate->open;
is(wait_for_run($node, $run), 'success', 'and come through');

# ------------------------------------------------------------------------
# The result is kept

define($node, q{
CREATE PROCEDURE ask() LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO step
		SELECT 20, dag_id || ' ' || task_id || ' ' || try_number || ' ' || (conf ->> 'x')
			FROM flow_context();
END $$;
SELECT flow_create_dag('result', NULL);
SELECT flow_add_sql('result', 'row', 'SELECT n AS number, $$row $$ || n AS name, NULL AS nothing FROM generate_series(1, 3) n');
SELECT flow_add_sql('result', 'none', 'SELECT 1 WHERE false');
SELECT flow_add_sql('result', 'last', 'SELECT 1 AS a; INSERT INTO step VALUES (30), (31);
	SELECT 2 AS b');
SELECT flow_add_sql('result', 'call', 'CALL ask()');
SELECT flow_add_sql('result', 'returning', 'UPDATE step SET n = n
	WHERE n = 1 RETURNING n');
});
$run = trigger($node, 'result', conf => '{"x": "y"}');
is(wait_for_run($node, $run), 'success', 'tasks that return rows');
shows($node,
	qq{SELECT task_id, result, rows_written FROM flow.task_run WHERE run_id = $run
		ORDER BY 1},
	qq{call||0\nlast|{"a": 1}|2\nnone||0\nreturning|{"n": 1}|1\nrow|{"name": "row 1", "number": 1, "nothing": null}|0},
	'their first row is kept, and the rows that they write are counted');
shows($node,
	'SELECT who FROM step WHERE n = 20',
	'result call 1 y', 'a procedure knows the run that it works for');

# ------------------------------------------------------------------------
# depends_on_past

define($node, q{
CREATE TABLE bad_day (day date);
INSERT INTO bad_day VALUES ('2024-05-03');
SELECT flow_create_dag('past', '@daily', '2024-05-01', is_paused => true, depends_on_past => true);
SELECT flow_add_sql('past', 'step', 'SELECT 1 / (SELECT 1 - count(*) FROM bad_day
	WHERE day = run.ds)');
});
$backfill = backfill($node, 'past', '2024-05-01', '2024-05-05');
wait_for($node,
	q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'past' AND state = 'failed'},
	'day 3 to fail');
shows($node,
	q{SELECT string_agg(to_char(r.logical_date, 'DD') || ' ' || coalesce(t.state, 'waits'), ', ' ORDER BY r.logical_date)
	FROM flow.dag_run r LEFT JOIN flow.task_run t USING (run_id) WHERE r.dag_id = 'past'},
	'01 success, 02 success, 03 failed, 04 waits, 05 waits',
	'depends_on_past: after a failure nothing goes on');
shows($node,
	q{SELECT count(*)
		FROM (SELECT t.started_at >= lag(t.ended_at) OVER (ORDER BY r.logical_date) AS ok
		FROM flow.task_run t JOIN flow.dag_run r USING (run_id)
	WHERE r.dag_id = 'past') s WHERE NOT ok},
	'0', 'and before it one goes after the other');

$node->stop;
done_testing();
