
# Acting on runs with a scheduler at work: clear, mark, test; and what
# flow_explain says meanwhile.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'act', conf => q{
flowpg.simulated_now = '2024-01-01 00:00:00+00'
flowpg.max_workers = 4
});

# A table that makes tasks fail, and one that tells of each attempt.
$node->safe_psql('postgres', q{
CREATE TABLE broken (dag text, task text, day date);
CREATE TABLE done (dag text, task text, run_id bigint, try int, day date, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION work() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO done (dag, task, run_id, try, day) SELECT dag_id, task_id, run_id, try_number, ds FROM flow_context();
	IF EXISTS (SELECT FROM broken b, flow_context() c WHERE b.dag = c.dag_id AND b.task = c.task_id AND coalesce(b.day = c.ds, true)) THEN
		RAISE EXCEPTION 'out of order';
	END IF;
END $$;
});

# The tries of each task of a run that have done something, as "a:1,2 b:1".
sub tries
{
	my ($run) = @_;

	return value($node, "SELECT string_agg(t, ' ' ORDER BY t) FROM (
		SELECT task || ':' || string_agg(try::text, ',' ORDER BY try) AS t FROM done WHERE run_id = $run GROUP BY task) s");
}

# All attempts on record, as "b 1 failed, b 2 success".
sub attempts
{
	my ($run) = @_;

	return value($node, "SELECT string_agg(task_id || ' ' || try_number || ' ' || state, ', ' ORDER BY task_id, try_number)
		FROM flow.task_attempt WHERE run_id = $run");
}

# Waits with flow_wait_run, which knows of what has been asked for.
sub end_of
{
	my ($run) = @_;

	return value($node, "SELECT flow_wait_run($run, '1 min')");
}

sub wait_for_no_request
{
	return wait_for($node, 'SELECT count(*) = 0 FROM flow.request', 'the scheduler to have done what was asked');
}

sub explained
{
	my ($dag) = @_;

	return value($node, "SELECT subject || ': ' || reason FROM flow_explain('$dag')");
}

# ------------------------------------------------------------------------
# Clear

define($node, q{
SELECT flow_create_dag('chain', NULL);
SELECT flow_add_sql('chain', 'a', 'SELECT work()');
SELECT flow_add_sql('chain', 'b', 'SELECT work()', upstream => '{a}');
SELECT flow_add_sql('chain', 'c', 'SELECT work()', upstream => '{b}');
SELECT flow_add_sql('chain', 'd', 'SELECT work()', upstream => '{a}');
INSERT INTO broken VALUES ('chain', 'b');
});

my $run = trigger($node, 'chain');
is(end_of($run), 'failed', 'a run fails');
is(task_states($node, $run), 'a=success b=failed c=upstream_failed d=success', 'in its second task');
is(value($node, q{SELECT flow_clear('chain', only_failed => true)}), '2', 'what failed is cleared, with what follows');
is(end_of($run), 'failed', 'and, nothing being mended, fails again');
$node->safe_psql('postgres', 'DELETE FROM broken');
is(value($node, q{SELECT flow_clear('chain', only_failed => true)}), '2', 'cleared once more');
is(end_of($run), 'success', 'it succeeds');
is(tries($run), 'a:1 b:3 c:1 d:1', 'only what had failed has run again, its tries go on');
is(attempts($run), 'a 1 success, b 1 failed, b 2 failed, b 3 success, c 1 success, d 1 success', 'each attempt is on record');
is(value($node, q{SELECT flow_clear('chain', only_failed => true)}), '0', 'then there is nothing to clear');

is(value($node, q{SELECT flow_clear('chain', task_ids => '{b}', downstream => false)}), '1', 'one task of a run that has succeeded');
is(end_of($run), 'success', 'runs again');
is(value($node, q{SELECT flow_clear('chain', task_ids => '{b}')}), '2', 'and with what follows it');
is(end_of($run), 'success', 'runs again');
is(value($node, q{SELECT flow_clear('chain')}), '4', 'all of it');
is(end_of($run), 'success', 'runs again');
is(tries($run), 'a:1,2 b:3,4,5,6 c:1,2,3 d:1,2', 'each as often as asked for');
is(attempts($run),
	'a 1 success, a 2 success, b 1 failed, b 2 failed, b 3 success, b 4 success, b 5 success, b 6 success, '
	  . 'c 1 success, c 2 success, c 3 success, d 1 success, d 2 success', 'and no attempt is lost');
is(value($node, "SELECT count(*) FROM flow.task_run WHERE run_id = $run AND failures <> 0"), '0', 'retries are counted anew');

# the definition may have been mended: the run takes the new one
define($node, q{SELECT flow_add_sql('chain', 'e', 'SELECT work()', upstream => '{d}')});
value($node, q{SELECT flow_clear('chain', task_ids => '{d}')});
is(end_of($run), 'success', 'a cleared run takes the definition as it is now');
is(task_states($node, $run), 'a=success b=success c=success d=success e=success', 'with tasks that came since');

# a run that was cancelled
define($node, q{
SELECT flow_create_dag('gated', NULL, max_active_runs => 1);
SELECT flow_add_sql('gated', 'first', 'SELECT work()');
SELECT flow_add_sql('gated', 'gate', 'SELECT pg_advisory_xact_lock_shared(1), work()', upstream => '{first}');
SELECT flow_add_sql('gated', 'other', 'SELECT pg_advisory_xact_lock_shared(2), work()');
SELECT flow_add_sql('gated', 'last', 'SELECT work()', upstream => '{gate,other}');
});
my $gate = close_gate($node, 1);
my $run1 = trigger($node, 'gated');
my $run2 = trigger($node, 'gated');
wait_for_task($node, $run1, 'other', 'success');
wait_for_task($node, $run1, 'gate', 'running');
value($node, "SELECT flow_cancel_run($run1), flow_cancel_run($run2)");
is(end_of($run1) . ' ' . end_of($run2), 'cancelled cancelled', 'two runs are cancelled, one before it began');
$gate->open;
is(value($node, q{SELECT flow_clear('gated', only_failed => true)}), '1', 'cleared, what was under way counts');
is(end_of($run1) . ' ' . end_of($run2), 'success success', 'both run');
is(tries($run1), 'first:1 gate:2 last:1 other:1', 'the first with what was left of it');
is(tries($run2), 'first:1 gate:1 last:1 other:1', 'the second from its beginning');

# what runs
$gate = close_gate($node, 1);
my $other = close_gate($node, 2);
$run = trigger($node, 'gated');
wait_for_task($node, $run, 'gate', 'running');
wait_for_task($node, $run, 'other', 'running');
is(value($node, q{SELECT flow_clear('gated', task_ids => '{gate}')}), '5',
	'a running task is cleared, in three runs');
wait_for($node, "SELECT state = 'running' AND try_number = 2 FROM flow.task_run WHERE run_id = $run AND task_id = 'gate'", 'its second try');
is(value($node, "SELECT state || ' ' || try_number FROM flow.task_run WHERE run_id = $run AND task_id = 'other'"), 'running 1', 'the other one goes on');
is(attempts($run), 'first 1 success, gate 1 cancelled, gate 2 running, other 1 running', 'the first try was cancelled');
# with all that comes before it
is(value($node, "SELECT count(*) FROM flow.request"), '0', 'it has been done at once');
value($node, q{SELECT flow_clear('gated', task_ids => '{first}')});
wait_for($node, "SELECT count(*) = 2 FROM flow.task_run WHERE run_id = $run AND task_id IN ('first', 'gate') AND state IN ('success', 'running')
	AND try_number = CASE task_id WHEN 'first' THEN 2 ELSE 3 END", 'the tasks to run again');
is(attempts($run), 'first 1 success, first 2 success, gate 1 cancelled, gate 2 cancelled, gate 3 running, other 1 running',
	'what follows a cleared task is stopped, and runs when that has run');
$gate->open;
$other->open;
is(end_of($run), 'success', 'the run succeeds');
is(tries($run), 'first:1,2 gate:3 last:1 other:1', 'no task has done anything twice that was not asked for');
end_of($_) foreach $run1, $run2;

# ------------------------------------------------------------------------
# Cascade

define($node, q{
SELECT flow_create_dag('raw', '@daily', start_date => '2024-01-01');
SELECT flow_add_sql('raw', 'load', 'SELECT work()');
SELECT flow_add_sql('raw', 'check', 'SELECT work()', upstream => '{load}');
SELECT flow_create_dag('mart', NULL);
SELECT flow_add_sql('mart', 'build', 'SELECT work()');
SELECT flow_create_dag('weekly', '0 0 * * 1', start_date => '2024-01-01');
SELECT flow_add_sql('weekly', 'sum', 'SELECT work()');
SELECT flow_add_dependency('raw', 'mart');
SELECT flow_add_dependency('mart', 'weekly');
});
advance($node, '2024-01-08 00:00:00+00');
is(value($node, q{SELECT string_agg(dag_id || ' ' || n, ', ' ORDER BY dag_id) FROM (
	SELECT dag_id, count(*) AS n FROM flow.dag_run WHERE state = 'success' AND dag_id IN ('raw', 'mart', 'weekly') GROUP BY 1) s}),
	'mart 7, raw 7, weekly 1', 'a week of three levels has run');
$node->safe_psql('postgres', 'TRUNCATE done');
$gate = close_gate($node, 3);
define($node, q{SELECT flow_add_sql('raw', 'load', 'SELECT pg_advisory_xact_lock_shared(3), work()')});
is(value($node, q{SELECT flow_clear('raw', '2024-01-02', '2024-01-03', cascade => true)}), '7', 'two days are cleared, with what depends on them');
wait_for_no_request();
wait_for($node, q{SELECT count(*) = 2 FROM flow.task_run WHERE dag_id = 'raw' AND task_id = 'load' AND state = 'running'}, 'the two days to run');
is(value($node, q{SELECT string_agg(dag_id || ' ' || state || ' ' || n, ', ' ORDER BY 1) FROM (
	SELECT dag_id, state, count(*) AS n FROM flow.dag_run WHERE dag_id IN ('raw', 'mart', 'weekly') GROUP BY 1, 2) s}),
	'mart queued 2, mart success 5, raw running 2, raw success 5, weekly queued 1', 'what depends on them waits');
is(value($node, q{SELECT DISTINCT dag_id || ' ' || waits_for FROM flow.run_status WHERE state = 'queued' ORDER BY 1}), "mart asis: raw\nweekly asis: mart", 'and says for what');
is(value($node, q{SELECT covered FROM flow.coverage WHERE dag_id = 'mart'}),
	'{["2024-01-01 00:00:00+00","2024-01-02 00:00:00+00"),["2024-01-04 00:00:00+00","2024-01-08 00:00:00+00")}', 'what was cleared is no longer covered');
like(explained('weekly'), qr/run \d+ \(2024-01-01 00:00:00\+00\): asis DAG "mart" has not succeeded for 2024-01-02 00:00:00\+00 to 2024-01-04 00:00:00\+00/,
	'flow_explain says what is missing');
$gate->open;
wait_for($node, q{SELECT bool_and(state = 'success') FROM flow.dag_run WHERE dag_id IN ('raw', 'mart', 'weekly')}, 'all to have run');
is(value($node, q{SELECT string_agg(dag || ' ' || task || ' ' || to_char(day, 'DD'), ', ' ORDER BY dag, task, day) FROM done}),
	'mart build 02, mart build 03, raw check 02, raw check 03, raw load 02, raw load 03, weekly sum 01', 'each has run once');
is(value($node, q{SELECT bool_and(m.at > r.at) FROM done m JOIN done r USING (day) WHERE m.dag = 'mart' AND r.task = 'check'}), 't', 'after what it depends on');
is(value($node, q{SELECT max(at) = max(at) FILTER (WHERE dag = 'weekly') FROM done}), 't', 'the week last');

# a run that a backfill has made waits like one that the schedule has
$node->safe_psql('postgres', 'TRUNCATE done');
my $backfill = backfill($node, 'mart', '2023-12-31', '2023-12-31', cascade => 'false');
is(wait_for_backfill($node, $backfill), 'success', 'a backfill of a day before the first');
$backfill = backfill($node, 'raw', '2023-12-31', '2023-12-31', cascade => 'false');
is(wait_for_backfill($node, $backfill), 'success', 'and of the day that it depends on');
$node->safe_psql('postgres', 'TRUNCATE done');
is(value($node, q{SELECT flow_clear('raw', '2023-12-31', '2023-12-31', cascade => true)}), '3', 'both are cleared');
wait_for_no_request();
wait_for($node, q{SELECT count(*) = 2 FROM flow.dag_run WHERE data_interval_start = '2023-12-31' AND state = 'success'}, 'both to have run');
is(value($node, q{SELECT string_agg(task, ' ' ORDER BY at) FROM done}), 'load check build', 'one after the other');

# what goes by date
define($node, q{
SELECT flow_create_dag('by hand', NULL);
SELECT flow_add_sql('by hand', 'h', 'SELECT pg_advisory_xact_lock_shared(7), work()');
SELECT flow_create_dag('by date', NULL);
SELECT flow_add_sql('by date', 'd', 'SELECT work()');
SELECT flow_add_dependency('by hand', 'by date');
});
$run = trigger($node, 'by hand');
is(end_of($run), 'success', 'a DAG without intervals');
wait_for($node, q{SELECT state = 'success' FROM flow.dag_run WHERE dag_id = 'by date'}, 'what goes by its date');
$node->safe_psql('postgres', 'TRUNCATE done');
$gate = close_gate($node, 7);
is(value($node, q{SELECT flow_clear('by hand', cascade => true)}), '2', 'both are cleared');
wait_for_task($node, $run, 'h', 'running');
is(value($node, q{SELECT state || ' ' || waits_for FROM flow.run_status WHERE dag_id = 'by date'}), 'queued asis: by hand', 'its success is not known any more');
$gate->open;
wait_for($node, q{SELECT state = 'success' FROM flow.dag_run WHERE dag_id = 'by date'}, 'what goes by its date');
is(value($node, q{SELECT string_agg(task, ' ' ORDER BY at) FROM done}), 'h d', 'one after the other');

# a run of a backfill under way stays in it
define($node, q{
SELECT flow_create_dag('filled', '@daily', start_date => '2023-12-01', is_paused => true);
SELECT flow_add_sql('filled', 'f', $$SELECT work(), CASE WHEN run.ds = '2023-12-03' THEN pg_advisory_xact_lock_shared(8) END$$);
INSERT INTO broken VALUES ('filled', 'f', '2023-12-01');
});
$gate = close_gate($node, 8);
$backfill = backfill($node, 'filled', '2023-12-01', '2023-12-03', max_active_runs => 1);
wait_for($node, q{SELECT count(*) = 1 FROM flow.running WHERE dag_id = 'filled'}, 'the last run');
is(value($node, "SELECT success, failed, running FROM flow.backfill_status WHERE backfill_id = $backfill"), '1|1|1', 'a backfill with one failed run');
value($node, q{DELETE FROM broken; SELECT flow_clear('filled', only_failed => true)});
wait_for_no_request();
is(value($node, "SELECT success, failed, running, pending FROM flow.backfill_status WHERE backfill_id = $backfill"), '1|0|1|1', 'which is cleared, and pending again');
$gate->open;
is(wait_for_backfill($node, $backfill), 'success', 'the backfill ends with it');

# code that does not want to stop
define($node, q{
CREATE TABLE stubborn (n int);
CREATE FUNCTION stay() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT try_number FROM flow_context()) = 1 THEN
		FOR i IN 1 .. 2 LOOP
			BEGIN
				PERFORM pg_sleep(600);
			EXCEPTION WHEN query_canceled THEN
				RAISE LOG 'stays';
			END;
		END LOOP;
	END IF;
	PERFORM work();
END $$;
SELECT flow_create_dag('stubborn', NULL);
SELECT flow_add_sql('stubborn', 's', 'SELECT stay()');
});
$run = trigger($node, 'stubborn');
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'flowpg worker' AND wait_event = 'PgSleep'}, 'the task to sleep');
is(value($node, q{SELECT flow_clear('stubborn')}), '1', 'a task that takes no cancel');
is(end_of($run), 'success', 'is told again, and runs again');
is(value($node, "SELECT count(*) || ' ' || max(try_number) FROM flow.task_attempt WHERE run_id = $run AND try_number > 1 AND state = 'success'"), '1 2', 'once more, however the first try has ended');

# ------------------------------------------------------------------------
# Mark

define($node, q{
SELECT flow_create_dag('marked', NULL, max_active_runs => 1);
SELECT flow_add_sql('marked', 'a', 'SELECT work()');
SELECT flow_add_sql('marked', 'b', 'SELECT work()', upstream => '{a}');
SELECT flow_add_sql('marked', 'c', 'SELECT work()', upstream => '{b}');
INSERT INTO broken VALUES ('marked', 'a');
});
$run = trigger($node, 'marked');
is(end_of($run), 'failed', 'a run fails in its first task');
value($node, "SELECT flow_mark($run, 'a', 'success')");
is(end_of($run), 'success', 'that marked a success, the run goes on and succeeds');
is(task_states($node, $run), 'a=success b=success c=success', 'with all that follows');
is(tries($run), 'b:1 c:1', 'the marked task has not run');
is(value($node, "SELECT message IS NULL AND sqlstate IS NULL FROM flow.task_run WHERE run_id = $run AND task_id = 'a'"), 't', 'and its error is forgotten');
value($node, "SELECT flow_mark($run, 'c', 'failed')");
is(end_of($run), 'failed', 'a last task marked failed fails the run');
is(task_states($node, $run), 'a=success b=success c=failed', 'and nothing else');
value($node, "SELECT flow_mark($run, 'c', 'success')");
is(end_of($run), 'success', 'and marked a success mends it');

$run = trigger($node, 'marked');
is(end_of($run), 'failed', 'another run fails');
value($node, "SELECT flow_mark($run, 'a', 'skipped')");
is(end_of($run), 'success', 'skipped, its first task lets it succeed');
is(task_states($node, $run), 'a=skipped b=skipped c=skipped', 'with nothing done, by the trigger rules');

# several at once, of a run under way: each goes by what the one before decided
define($node, q{
DELETE FROM broken;
SELECT flow_create_dag('several', NULL);
SELECT flow_add_sql('several', 'a', 'SELECT work()');
SELECT flow_add_sql('several', 'b', 'SELECT work()');
SELECT flow_add_sql('several', 'gate', 'SELECT pg_advisory_xact_lock_shared(9)');
SELECT flow_add_sql('several', 'last', 'SELECT work()', upstream => '{a,b,gate}');
});
$gate = close_gate($node, 9);
$run = trigger($node, 'several');
wait_for_task($node, $run, $_, 'success') foreach 'a', 'b';
wait_for_task($node, $run, 'gate', 'running');
value($node, "SELECT flow_mark($run, 'a', 'failed'), flow_mark($run, 'b', 'failed')");
wait_for_no_request();
is(task_states($node, $run), 'a=failed b=failed gate=running last=upstream_failed', 'two tasks are marked that a third one waits for');
value($node, q{SELECT flow_clear('several', task_ids => '{a,b}')});
wait_for_task($node, $run, $_, 'success') foreach 'a', 'b';
value($node, "BEGIN; SELECT flow_mark($run, 'a', 'failed'); SELECT flow_clear('several', task_ids => '{a}'); COMMIT");
wait_for_no_request();
wait_for_task($node, $run, 'a', 'success');
$gate->open;
is(end_of($run), 'success', 'marked and cleared at once, a task runs, and so does what follows');
is(tries($run), 'a:1,2,3 b:1,2 last:1', 'once');

# before the run has started, and while it is under way
define($node, q{
DELETE FROM broken;
SELECT flow_add_sql('marked', 'a', 'SELECT pg_advisory_xact_lock_shared(4), work()');
});
$gate = close_gate($node, 4);
$run1 = trigger($node, 'marked');
$run2 = trigger($node, 'marked');
wait_for_task($node, $run1, 'a', 'running');
is(error_of($node, "SELECT flow_mark($run1, 'a', 'success')"), "55000 task \"a\" of run $run1 is running", 'what a worker has cannot be marked');
value($node, "SELECT flow_mark($run1, 'b', 'skipped'), flow_mark($run2, 'a', 'success')");
wait_for_no_request();
like(explained('marked'), qr/^run $run2 .*: max_active_runs, 1, is reached by the runs that are under way: "?$run1"?$/m, 'flow_explain names the run that has the place');
is(task_states($node, $run2), 'a=success b= c=', 'a task of a run that has not started is marked');
$gate->open;
is(end_of($run1) . ' ' . end_of($run2), 'success success', 'both runs succeed');
is(task_states($node, $run1), 'a=success b=skipped c=skipped', 'the first without what was skipped');
is(tries($run2), 'b:1 c:1', 'the second without what was done');

# ------------------------------------------------------------------------
# flow_result

define($node, q{
SELECT flow_create_dag('results', NULL);
SELECT flow_add_sql('results', 'gives', 'SELECT 42 AS answer, run.run_id');
SELECT flow_add_sql('results', 'nothing', 'CREATE TABLE nothing (i int); DROP TABLE nothing');
SELECT flow_add_sql('results', 'takes', 'SELECT flow_result(''gives'') AS got, flow_result(''nothing'') AS none, flow_result(''later'') AS later',
	upstream => '{gives,nothing}');
SELECT flow_add_sql('results', 'later', 'SELECT 1 AS one', upstream => '{takes}');
SELECT flow_add_sql('results', 'mistaken', 'SELECT flow_result(''elsewhere'')', upstream => '{takes}');
});
$run = trigger($node, 'results');
is(end_of($run), 'failed', 'a run whose last task asks for a task that there is not');
is(value($node, "SELECT result FROM flow.task_run WHERE run_id = $run AND task_id = 'takes'"),
	qq({"got": {"answer": 42, "run_id": $run}, "none": null, "later": null}), 'flow_result is what the task of the same run has returned');
is(value($node, "SELECT sqlstate FROM flow.task_run WHERE run_id = $run AND task_id = 'mistaken'"), '42704', 'and an error where the run has no such task');
$run = trigger($node, 'results');
end_of($run);
is(value($node, "SELECT result -> 'got' -> 'run_id' FROM flow.task_run WHERE run_id = $run AND task_id = 'takes'"), $run, 'each run sees its own');
is(value($node, q{SELECT flow_result('gives') IS NULL}), 't', 'NULL outside a task');

# ------------------------------------------------------------------------
# flow_test_task

$node->safe_psql('postgres', q{
CREATE ROLE owner LOGIN;
GRANT CREATE ON SCHEMA public TO owner;
SELECT flow_grant('owner');
});
value_as($node, 'owner', q{
CREATE TABLE owned (i int, who text);
SELECT flow_create_dag('trial', '@daily', start_date => '2024-01-01', is_paused => true);
SELECT flow_add_sql('trial', 'writes', 'INSERT INTO owned VALUES (1, current_user || session_user)');
SELECT flow_add_sql('trial', 'rises', 'RESET ROLE; SELECT 1');
SELECT flow_add_sql('trial', 'later', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1');
});
my $count = 'SELECT (SELECT count(*) FROM flow.dag_run), (SELECT count(*) FROM flow.task_run), (SELECT count(*) FROM flow.attempt_history), (SELECT count(*) FROM flow.request)';
my $before = value($node, $count);
is(value($node, q{SELECT flow_test_task('trial', 'writes')}), '{"state": "success", "rows_written": 1}', 'a superuser tries a task');
is(value($node, 'SELECT who FROM owned'), 'ownerpostgres', 'which runs as the owner');
like(error_of($node, q{SELECT flow_test_task('trial', 'rises')}), qr/^42501 /, 'and cannot rise');
like(error_of($node, q{SELECT flow_test_task('trial', 'later')}), qr/^42501 /, 'nor leave a trap behind');
is(value($node, $count), $before, 'nothing is recorded');
is(value($node, q{BEGIN; SELECT flow_test_task('trial', 'writes') ->> 'state'; ROLLBACK; SELECT count(*) FROM owned}), "success\n1", 'what it did can be rolled back');

# ------------------------------------------------------------------------
# flow_explain and waits_for of what runs

define($node, q{
SELECT flow_create_pool('narrow', 2);
SELECT flow_create_dag('busy', NULL, max_active_tasks => 3, retries => 1);
SELECT flow_add_sql('busy', 'p' || i, 'SELECT pg_advisory_xact_lock_shared(5)', pool => 'narrow', pool_slots => 2) FROM generate_series(1, 2) i;
SELECT flow_add_sql('busy', 'q' || i, 'SELECT pg_advisory_xact_lock_shared(5)', priority_weight => -1) FROM generate_series(1, 3) i;
SELECT flow_add_sql('busy', 'then', 'SELECT 1', upstream => '{p1,p2}', trigger_rule => 'all_done');
SELECT flow_add_sql('busy', 'fails', 'SELECT 1 / 0 * run.try_number', priority_weight => 2);
SELECT flow_create_dag('crowd', NULL);
SELECT flow_add_sql('crowd', 'w' || i, 'SELECT pg_advisory_xact_lock_shared(5)') FROM generate_series(1, 2) i;
});
$gate = close_gate($node, 5);
$run = trigger($node, 'busy');
wait_for_task($node, $run, 'fails', 'up_for_retry');
wait_for($node, q{SELECT count(*) = 3 FROM flow.running}, 'three tasks to run');
my $explained = explained('busy');
like($explained, qr/^task "p2" of run $run .*: (takes 2 of the 2 slots of pool "narrow", of which 2 are taken|max_active_tasks, 3, is reached by the DAG's running tasks)$/m,
	'a task waits for its pool, or for max_active_tasks');
like($explained, qr/^task "q3" of run $run .*: max_active_tasks, 3, is reached by the DAG's running tasks$/m, 'a task waits for max_active_tasks');
like($explained, qr/^task "then" of run $run .*: waits, by trigger_rule all_done, for upstream "p1" \(running\), "p2" \(not begun\)$/m, 'a task waits for others');
like($explained, qr/^task "fails" of run $run .*: has failed \(division by zero\) and is tried again at 2024-01-08 00:05:00\+00$/m, 'a task waits for its next try');
my $run3 = trigger($node, 'crowd');
wait_for($node, q{SELECT count(*) = 4 FROM flow.running}, 'all workers to be busy');
like(explained('crowd'), qr/^task "w2" of run $run3 .*: waits for a worker: all 4 of the server are busy \(flowpg\.max_workers\)$/m, 'a task waits for a worker');
is(value($node, "SELECT string_agg(task_id || ' ' || waits_for, ', ' ORDER BY task_id) FROM flow.task_status WHERE run_id IN ($run, $run3) AND task_id <> 'p2'"),
	'fails retry at 2024-01-08 00:05:00+00, q3 max_active_tasks: 3, then upstream: p1, p2, w2 worker', 'waits_for says the same in short');
is(value($node, q{SELECT array_agg(format('task "%s" of run %s', task_id, run_id) ORDER BY task_id) = (
		SELECT array_agg(split_part(subject, ' (', 1) ORDER BY subject) FROM flow_explain('busy') WHERE subject LIKE 'task%')
	FROM flow.task_status WHERE dag_id = 'busy' AND waits_for IS NOT NULL}), 't', 'both name the same tasks');
$gate->open;
advance($node, '2024-01-08 00:05:00+00');
is(end_of($run) . ' ' . end_of($run3), 'failed success', 'what had no room before runs in the end');

# an earlier run, and a run that another one waits for
$gate = close_gate($node, 6);
define($node, q{
SELECT flow_create_dag('slow', NULL);
SELECT flow_add_sql('slow', 's', 'SELECT pg_advisory_xact_lock_shared(6)');
SELECT flow_create_dag('past', '@daily', start_date => '2024-01-06');
SELECT flow_add_sql('past', 'p', 'SELECT work()', depends_on_past => true);
SELECT flow_add_trigger('past', 't', 'slow', wait => true);
SELECT flow_add_sensor('past', 'o', 'SELECT EXISTS (SELECT FROM done WHERE dag = ''opened'')', poke_interval => '10 minutes');
INSERT INTO broken VALUES ('past', 'p', '2024-01-06');
});
wait_for($node, q{SELECT count(*) = 2 FROM flow.running JOIN flow.dag_run USING (run_id) WHERE running.dag_id = 'slow'}, 'both runs to have triggered one');
wait_for($node, q{SELECT count(*) = 4 FROM flow.task_run WHERE dag_id = 'past' AND state = 'up_for_reschedule'}, 'tasks to wait');
$explained = explained('past');
my ($old, $new) = split(/\n/, value($node, q{SELECT run_id FROM flow.dag_run WHERE dag_id = 'past' ORDER BY logical_date}));
my ($child) = split(/\n/, value($node, "SELECT run_id FROM flow.dag_run WHERE parent_run_id = $new"));
like($explained, qr/^task "p" of run $new .*: waits, by depends_on_past, for run $old \(2024-01-06 00:00:00\+00, running\), in which it is failed$/m, 'a task waits for an earlier run');
like($explained, qr/^task "t" of run $new .*: waits for run $child, which it has triggered$/m, 'a task waits for a run that it has triggered');
like($explained, qr/^task "o" of run $old .*: waits for its condition, and looks at it again at 2024-01-08 00:15:00\+00$/m, 'a sensor waits for its condition');
like($explained, qr/^dag "past": the next run, for 2024-01-08 00:00:00\+00 to 2024-01-09 00:00:00\+00, is due at 2024-01-09 00:00:00\+00$/m, 'the next run is told of');
is(value($node, "SELECT string_agg(task_id || ' ' || waits_for, ', ' ORDER BY task_id) FROM flow.task_status WHERE run_id = $new"),
	"o condition, looked at again at 2024-01-08 00:15:00+00, p run: $old, t triggered run: $child", 'waits_for says the same in short');
value($node, "SELECT flow_mark($old, 'p', 'success'); INSERT INTO done (dag) VALUES ('opened')");
wait_for_task($node, $new, 'p', 'success');
$gate->open;
wait_for_task($node, $_, 't', 'success') foreach $old, $new;
advance($node, '2024-01-08 00:15:00+00');
is(end_of($old) . ' ' . end_of($new), 'success success', 'all ends well');

# the scheduler itself
$node->append_conf('postgresql.conf', 'flowpg.enabled = off');
$node->reload;
wait_for($node, q{SELECT count(*) = 1 FROM flow_explain('past') WHERE subject = 'scheduler'}, 'the scheduler to be off');
like(explained('past'), qr/^scheduler: flowpg\.enabled is off$/m, 'flow_explain says that nothing is scheduled');

$node->stop;
done_testing();
