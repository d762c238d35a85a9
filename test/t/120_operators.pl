
# What the kinds of tasks do at a worker: checks, sensors, branches,
# retention, triggers; callbacks, depends_on_past, dagrun_timeout, the
# retention of history and what listeners are told.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'operators', conf => q{
flowpg.max_workers = 4
autovacuum = off
});

sub end_of
{
	my ($run) = @_;

	return value($node, "SELECT flow_wait_run($run, '1 min')");
}

# A column of a task run.
sub task_value
{
	my ($run, $task, $column) = @_;

	return value($node, "SELECT $column FROM flow.task_status WHERE run_id = $run AND task_id = '$task'");
}

# Runs a DAG once; its run_id.
sub run_of
{
	my ($dag, %options) = @_;
	my $run = trigger($node, $dag, %options);

	end_of($run);
	return $run;
}

# A session that listens to what flowpg tells.
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN flowpg');

# ------------------------------------------------------------------------
# Checks

define($node, q{
CREATE TABLE orders (id int, amount int);
INSERT INTO orders SELECT i, i FROM generate_series(1, 60) i;
SELECT flow_create_dag('checks', NULL);
SELECT flow_add_check('checks', 'enough', 'SELECT count(*) >= 50 FROM orders');
SELECT flow_add_check('checks', 'sound', $$
	SELECT 'no nulls', count(*) FILTER (WHERE amount IS NULL) = 0, count(*) FILTER (WHERE amount IS NULL) || ' of ' || count(*) FROM orders
	UNION ALL SELECT 'positive', bool_and(amount > 0), min(amount)::text FROM orders
	UNION ALL SELECT 'exists', true, NULL$$);
SELECT flow_add_check('checks', 'few', 'SELECT count(*) < 10 FROM orders', severity => 'warn');
SELECT flow_add_sql('checks', 'goes on', 'SELECT 1', upstream => '{enough,sound,few}');
});
my $run = run_of('checks');
is(run_state($node, $run), 'success', 'checks that hold let the run go on');
is(task_value($run, 'few', "state || ': ' || message"), 'success: warning: the condition is not true', 'one that only warns is recorded');
is(task_value($run, 'enough', 'message IS NULL'), 't', 'one that holds says nothing');
$node->safe_psql('postgres', 'DELETE FROM orders WHERE id > 40; UPDATE orders SET amount = NULL WHERE id <= 2; UPDATE orders SET amount = -1 WHERE id = 3');
$run = run_of('checks');
is(task_states($node, $run), 'enough=failed few=success goes on=upstream_failed sound=failed', 'checks that do not hold fail');
like(task_value($run, 'enough', 'message'), qr/^check "enough" failed: the condition is not true$/m, 'with a message');
like(task_value($run, 'sound', 'message'), qr/^check "sound" failed: no nulls \(2 of 40\); positive \(-1\)$/m, 'which names each row that is not true');
is(task_value($run, 'sound', 'sqlstate'), '23514', 'and an SQLSTATE');

define($node, q{
SELECT flow_create_dag('odd checks', NULL);
SELECT flow_add_check('odd checks', 'no row', 'SELECT true WHERE false');
SELECT flow_add_check('odd checks', 'null', 'SELECT NULL::boolean');
SELECT flow_add_check('odd checks', 'two rows', 'VALUES (true), (true)');
SELECT flow_add_check('odd checks', 'null row', $$VALUES ('a', true), ('b', NULL)$$);
SELECT flow_add_check('odd checks', 'other columns', 'SELECT true, 1, 2');
});
$run = run_of('odd checks');
is(task_states($node, $run), 'no row=failed null=failed null row=failed other columns=success two rows=failed', 'no row, NULL and more than one row are not true');

# ------------------------------------------------------------------------
# Sensors

define($node, q{
CREATE TABLE arrived (what text);
SELECT flow_create_dag('sensors', NULL);
SELECT flow_add_sensor('sensors', 's' || i, 'SELECT EXISTS (SELECT FROM arrived WHERE what = ''file'')', poke_interval => '100 ms')
FROM generate_series(1, 8) i;
SELECT flow_add_sql('sensors', 'then', 'SELECT 1', upstream => '{s1,s2,s3,s4,s5,s6,s7,s8}');
SELECT flow_create_dag('quick', NULL);
SELECT flow_add_sql('quick', 'q', 'SELECT 1');
});
$run = trigger($node, 'sensors');
wait_for($node, "SELECT count(*) = 8 FROM flow.task_run WHERE run_id = $run AND state = 'up_for_reschedule'", 'eight sensors to wait');
wait_for($node, 'SELECT count(*) = 0 FROM flow.running', 'a moment in which no sensor holds a worker');
is(end_of(trigger($node, 'quick')), 'success', 'eight sensors leave four workers to others');
my $pokes = "SELECT sum(calls) > 30 FROM (SELECT n_tup_upd AS calls FROM pg_stat_user_tables WHERE schemaname = 'flow' AND relname = 'task_run') s";
wait_for($node, $pokes, 'sensors to look again and again');
is(value($node, "SELECT count(*) || ' ' || max(try_number) FROM flow.task_attempt WHERE run_id = $run"), '8 1', 'all looks of a sensor are one attempt');
$node->safe_psql('postgres', q{INSERT INTO arrived VALUES ('file')});
is(end_of($run), 'success', 'they succeed when the condition is true');
is(value($node, "SELECT bool_and(ended_at - started_at > interval '100 ms') FROM flow.task_attempt WHERE run_id = $run AND task_id <> 'then'"), 't',
	'and have lasted from the first look on');

define($node, q{
SELECT flow_create_dag('late', NULL, retries => 3, retry_delay => '1 hour');
SELECT flow_add_sensor('late', 'hard', 'SELECT false', poke_interval => '100 ms', timeout => '300 ms');
SELECT flow_add_sensor('late', 'soft', 'SELECT false', poke_interval => '100 ms', timeout => '300 ms', soft_fail => true);
SELECT flow_add_sql('late', 'after hard', 'SELECT 1', upstream => '{hard}');
SELECT flow_add_sql('late', 'after soft', 'SELECT 1', upstream => '{soft}');
SELECT flow_create_dag('wrong', NULL, retries => 1, retry_delay => '100 ms');
SELECT flow_add_sensor('wrong', 'sensor', 'SELECT 1 / (run.try_number - 1) > 0');
});
$run = run_of('late');
is(task_states($node, $run), 'after hard=upstream_failed after soft=skipped hard=failed soft=skipped', 'a sensor that waits too long fails, or is skipped');
like(task_value($run, 'hard', 'message'), qr/^sensor "hard" has timed out: the condition is not true/, 'and says so');
is(value($node, "SELECT max(try_number) FROM flow.task_attempt WHERE run_id = $run"), '1', 'without being tried again');
$run = run_of('wrong');
is(value($node, "SELECT string_agg(try_number || ' ' || state, ', ' ORDER BY try_number) FROM flow.task_attempt WHERE run_id = $run"),
	'1 failed, 2 success', 'a condition that cannot be evaluated fails the attempt, which is tried again');

# cancelled between two looks
$node->safe_psql('postgres', 'TRUNCATE arrived');
$run = trigger($node, 'sensors');
wait_for($node, "SELECT count(*) = 8 FROM flow.task_run WHERE run_id = $run AND state = 'up_for_reschedule'", 'eight sensors to wait');
value($node, "SELECT flow_cancel_run($run)");
is(end_of($run), 'cancelled', 'a run whose sensors wait is cancelled');
is(value($node, "SELECT count(*) FROM flow.task_run WHERE run_id = $run AND state = 'cancelled'"), '8', 'with them');

# ------------------------------------------------------------------------
# Branches

define($node, q{
SELECT flow_create_dag('branches', NULL);
SELECT flow_add_branch('branches', 'fork', 'SELECT jsonb_array_elements_text(run.conf -> ''go'')');
SELECT flow_add_sql('branches', 'left', 'SELECT 1', upstream => '{fork}');
SELECT flow_add_sql('branches', 'right', 'SELECT 1', upstream => '{fork}');
SELECT flow_add_sql('branches', 'right 2', 'SELECT 1', upstream => '{right}');
SELECT flow_add_sql('branches', 'join', 'SELECT 1', upstream => '{left,right 2}', trigger_rule => 'none_failed_min_one_success');
SELECT flow_add_sql('branches', 'strict', 'SELECT 1', upstream => '{left,right 2}');
SELECT flow_add_sql('branches', 'short cut', 'SELECT 1', upstream => '{fork,left}', trigger_rule => 'none_failed');
SELECT flow_add_branch('branches', 'array', 'SELECT ARRAY[''x'', ''y'']');
SELECT flow_add_sql('branches', t, 'SELECT 1', upstream => '{array}') FROM unnest('{x,y,z}'::text[]) t;
});
$run = run_of('branches', conf => '{"go": ["left"]}');
is(task_states($node, $run),
	'array=success fork=success join=success left=success right=skipped right 2=skipped short cut=success strict=skipped x=success y=success z=skipped',
	'a branch goes one way: the other one is skipped with what follows; a task that is reached from the chosen one is not');
is(task_value($run, 'fork', 'result'), '["left"]', 'what it has chosen is its result');
is(run_state($node, $run), 'success', 'and the run succeeds');
$run = run_of('branches', conf => '{"go": ["left", "right"]}');
is(task_states($node, $run),
	'array=success fork=success join=success left=success right=success right 2=success short cut=success strict=success x=success y=success z=skipped', 'or both ways');
$run = run_of('branches', conf => '{"go": []}');
like(task_states($node, $run), qr/fork=success join=skipped left=skipped right=skipped right 2=skipped short cut=skipped strict=skipped/, 'or none');
$run = run_of('branches', conf => '{"go": ["join"]}');
like(task_states($node, $run), qr/fork=failed join=upstream_failed left=upstream_failed/, 'but not to a task that is not directly downstream');
like(task_value($run, 'fork', 'message'), qr/^branch "fork" names task "join", which is not directly downstream of it$/m, 'and says so');
# what it has chosen holds when a part of the run is cleared
$run = run_of('branches', conf => '{"go": ["left"]}');
value($node, q{SELECT flow_clear('branches', task_ids => '{left,right}')});
wait_for($node, q{SELECT count(*) = 0 FROM flow.request}, 'the clearing');
wait_for($node, q{SELECT count(*) = 0 FROM flow.dag_run WHERE dag_id = 'branches' AND ended_at IS NULL}, 'the runs');
like(task_states($node, $run), qr/ left=success right=skipped right 2=skipped /, 'a task that a branch has skipped stays skipped when it is cleared');

# ------------------------------------------------------------------------
# Retention

define($node, q{
CREATE TABLE raw (day date, v int) PARTITION BY RANGE (day);
DO $$
BEGIN
	FOR i IN 0 .. 19 LOOP
		EXECUTE format('CREATE TABLE raw_%s PARTITION OF raw FOR VALUES FROM (%L) TO (%L)', i, date '2024-01-01' + i, date '2024-01-02' + i);
	END LOOP;
END $$;
CREATE TABLE raw_rest PARTITION OF raw DEFAULT;
INSERT INTO raw SELECT '2024-01-01'::date + i % 20, i FROM generate_series(0, 199) i;
INSERT INTO raw VALUES ('2023-06-01', -1), ('2024-02-01', -2);
CREATE TABLE plain (at timestamp, v int);
INSERT INTO plain SELECT timestamp '2024-01-01' + i * interval '1 minute', i FROM generate_series(0, 43199) i;
SELECT flow_create_dag('cleaning', '@daily', start_date => '2024-01-01', is_paused => true, timezone => 'Asia/Seoul');
SELECT flow_add_retention('cleaning', 'partitions', 'raw', 'day', '7 days');
SELECT flow_add_retention('cleaning', 'rows', 'plain', 'at', '7 days');
});
$run = run_of('cleaning', logical_date => '2024-01-24');
is(run_state($node, $run), 'success', 'a retention of 7 days on 2024-01-24');
is(value($node, q{SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY 1) FROM pg_inherits WHERE inhparent = 'raw'::regclass}), 'raw_17 raw_18 raw_19 raw_rest',
	'partitions that are wholly older have been dropped');
is(value($node, 'SELECT count(*), min(day), max(day) FROM raw'), '31|2024-01-18|2024-02-01', 'the default partition has lost its old rows only');
is(task_value($run, 'partitions', 'rows_written'), '171', 'all of them counted');
is(value($node, 'SELECT count(*), min(at) FROM plain'), '18720|2024-01-18 00:00:00', 'rows of a plain table are deleted, to the minute in the DAG\'s timezone');
is(task_value($run, 'rows', "rows_written || ' in ' || pages"), '24480 in 3', 'in bounded transactions');
$run = run_of('cleaning', logical_date => '2024-01-24');
is(value($node, "SELECT string_agg(rows_written::text, ' ') FROM flow.task_run WHERE run_id = $run"), '0 0', 'once more there is nothing to do');

# A table of one partition only, and gaps between partitions.
define($node, q{
CREATE TABLE lone (day date) PARTITION BY RANGE (day);
CREATE TABLE lone_1 PARTITION OF lone FOR VALUES FROM ('2024-01-01') TO ('2024-01-02');
CREATE TABLE gaps (day date) PARTITION BY RANGE (day);
CREATE TABLE gaps_1 PARTITION OF gaps FOR VALUES FROM ('2024-01-01') TO ('2024-01-02');
CREATE TABLE gaps_2 PARTITION OF gaps FOR VALUES FROM ('2024-01-05') TO ('2024-01-06');
SELECT flow_create_dag('few', '@daily', start_date => '2024-01-01', is_paused => true);
SELECT flow_add_retention('few', 'lone', 'lone', 'day', '7 days');
SELECT flow_add_retention('few', 'gaps', 'gaps', 'day', '7 days');
});
$run = run_of('few', logical_date => '2024-01-24');
is(value($node, q{SELECT count(*) FROM pg_inherits WHERE inhparent IN ('lone'::regclass, 'gaps'::regclass)}), '0',
	'the last old partitions go, too');

# ------------------------------------------------------------------------
# Triggers

define($node, q{
SELECT flow_create_dag('child', NULL);
SELECT flow_add_sql('child', 'c', $$SELECT pg_advisory_xact_lock_shared(1); SELECT 1 / (run.conf ->> 'divisor')::int AS r$$);
SELECT flow_create_dag('parent', '@daily', start_date => '2024-01-01', is_paused => true);
SELECT flow_add_trigger('parent', 'asks', 'child', conf => '{"divisor": 1}');
SELECT flow_add_trigger('parent', 'waits', 'child', conf => '{"divisor": 1}', wait => true);
SELECT flow_add_trigger('parent', 'fails', 'child', conf => '{"divisor": 0}', wait => true);
SELECT flow_add_sql('parent', 'then', 'SELECT 1', upstream => '{waits}');
SELECT flow_add_sql('parent', 'asked', $$SELECT flow_result('asks') -> 'run_id' AS id$$, upstream => '{asks}');
});
my $gate = close_gate($node, 1);
$run = trigger($node, 'parent', logical_date => '2024-01-05 12:00');
wait_for_task($node, $run, 'asked', 'success');
wait_for($node, "SELECT count(*) = 2 FROM flow.task_run WHERE run_id = $run AND state = 'up_for_reschedule'", 'two tasks to wait for their runs');
is(value($node, "SELECT count(*) || ' ' || min(run_type) || ' ' || min(data_interval_start) || ' ' || max(data_interval_end) FROM flow.dag_run WHERE parent_run_id = $run"),
	'3 triggered 2024-01-05 00:00:00+00 2024-01-06 00:00:00+00', 'three runs are triggered, for the same interval');
is(task_value($run, 'asks', 'state'), 'success', 'one that is not waited for is done with');
is(value($node, "SELECT count(*) FROM flow.running WHERE dag_id = 'parent'"), '0', 'those that are waited for hold no worker');
is(value($node, "SELECT count(*) FROM flow.dag_run r WHERE r.parent_run_id = $run AND to_jsonb(r.run_id) = (SELECT result -> 'id' FROM flow.task_run WHERE run_id = $run AND task_id = 'asked')"),
	'1', 'the result of such a task is the run that it has triggered');
$gate->open;
is(end_of($run), 'failed', 'the run ends with those that it waits for');
is(task_states($node, $run), 'asked=success asks=success fails=failed then=success waits=success', 'each task as its run');
like(task_value($run, 'fails', 'message'), qr/^run \d+ of dag "child", which this task has triggered, has not succeeded$/m, 'and says so');
is(value($node, "SELECT string_agg(state, ' ' ORDER BY state) FROM flow.dag_run WHERE parent_run_id = $run"), 'failed success success', 'the triggered runs are runs like others');
value($node, "SELECT flow_clear('parent', task_ids => '{waits}')");
is(end_of($run), 'failed', 'a cleared trigger');
is(value($node, "SELECT count(*) FROM flow.dag_run WHERE parent_run_id = $run"), '4', 'asks for another run');

# ------------------------------------------------------------------------
# Callbacks

define($node, q{
CREATE TABLE told (dag text, run_id bigint, state text, message text, failed text[], by_context boolean, ds date);
CREATE FUNCTION fill_told() RETURNS boolean LANGUAGE sql AS 'SELECT state IS NOT NULL FROM flow_context()';
SELECT flow_create_dag('tells', NULL,
	on_success => 'INSERT INTO told VALUES (run.dag_id, run.run_id, run.state, run.message, run.failed_tasks, fill_told(), run.ds)',
	on_failure => 'INSERT INTO told VALUES (run.dag_id, run.run_id, run.state, run.message, run.failed_tasks, fill_told(), run.ds)');
SELECT flow_add_sql('tells', 'a', $$SELECT 1 / (run.conf ->> 'a')::int$$);
SELECT flow_add_sql('tells', 'b', $$SELECT 1 / (run.conf ->> 'b')::int$$);
SELECT flow_add_sql('tells', 'c', 'SELECT 1', upstream => '{a}');
SELECT flow_create_dag('clumsy', NULL, on_success => 'SELECT 1 / 0 * run.run_id');
SELECT flow_add_sql('clumsy', 'a', 'SELECT 1');
});
$run = run_of('tells', conf => '{"a": 1, "b": 1}');
wait_for($node, "SELECT state = 'success' FROM flow.callback_status WHERE run_id = $run", 'the callback');
is(value($node, "SELECT state, message, failed, by_context FROM told WHERE run_id = $run"), 'success|||t', 'on_success is told of the run');
$run = run_of('tells', conf => '{"a": 0, "b": 0}');
wait_for($node, "SELECT state = 'success' FROM flow.callback_status WHERE run_id = $run", 'the callback');
like(value($node, "SELECT state, message FROM told WHERE run_id = $run"), qr/^failed\|task "[ab]": division by zero/, 'on_failure is told of the first error');
is(value($node, "SELECT array(SELECT unnest(failed) ORDER BY 1) FROM told WHERE run_id = $run"), '{a,b}', 'and of the tasks that have failed');
is(value($node, "SELECT count(*) FROM told WHERE run_id = $run"), '1', 'once');
$run = run_of('clumsy');
wait_for($node, "SELECT state = 'failed' FROM flow.callback_status WHERE run_id = $run", 'the callback');
is(value($node, "SELECT r.state, c.callback, c.sqlstate FROM flow.callback_status c JOIN flow.dag_run r USING (run_id) WHERE run_id = $run"), 'success|on_success|22012',
	'a callback that fails is recorded, and changes nothing of the run');
is(value($node, "SELECT count(*) FROM flow.task_status WHERE run_id = $run"), '1', 'it is none of its tasks');

# one whose worker is terminated is run again, but not for ever
define($node, q{
SELECT flow_create_dag('cut off', NULL, on_success => 'SELECT pg_advisory_xact_lock_shared(2); INSERT INTO told (run_id) VALUES (run.run_id)');
SELECT flow_add_sql('cut off', 'a', 'SELECT 1');
SELECT flow_create_dag('deadly', NULL, on_success => 'SELECT pg_terminate_backend(pg_backend_pid())');
SELECT flow_add_sql('deadly', 'a', 'SELECT 1');
});
$gate = close_gate($node, 2);
$run = run_of('cut off');
wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted}, 'a callback that waits');
value($node, q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted});
wait_for($node, q{SELECT try_number = 2 FROM flow.callback ORDER BY callback_id DESC LIMIT 1}, 'another worker');
$gate->open;
wait_for($node, "SELECT state = 'success' FROM flow.callback_status WHERE run_id = $run", 'the callback');
is(value($node, "SELECT count(*) FROM told WHERE run_id = $run"), '1', 'a callback whose worker was terminated has done its work, once');
$run = run_of('deadly');
wait_for($node, "SELECT state = 'failed' FROM flow.callback_status WHERE run_id = $run", 'the callback');
is(value($node, "SELECT c.try_number, s.sqlstate FROM flow.callback c JOIN flow.callback_status s USING (run_id) WHERE run_id = $run"), '3|57P01', 'one that ends its worker each time is given up');

# ------------------------------------------------------------------------
# A worker that is terminated when it has recorded the end of its attempt, and
# not yet told the scheduler: the record counts, whatever it says

define($node, q{
CREATE TABLE has_come (dag text);
SELECT flow_create_dag('looks', NULL);
SELECT flow_add_sensor('looks', 'look', $$SELECT pg_advisory_xact_lock_shared(3) IS NOT NULL AND EXISTS (SELECT FROM has_come)$$, poke_interval => '100 ms');
SELECT flow_create_dag('turns', NULL);
SELECT flow_add_branch('turns', 'fork', $$SELECT 'left'::text WHERE pg_advisory_xact_lock_shared(3) IS NOT NULL$$);
SELECT flow_add_sql('turns', 'left', 'SELECT 1', upstream => '{fork}');
SELECT flow_add_sql('turns', 'right', 'SELECT 1', upstream => '{fork}');
});
$gate = close_gate($node, 3);
my %cut_off = map { $_ => trigger($node, $_) } qw(looks turns);
wait_for($node, q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND objid = 3 AND NOT granted}, 'a sensor and a branch');
$node->safe_psql('postgres', $_) foreach "UPDATE flow.task_run SET state = 'up_for_reschedule', retry_at = now() WHERE run_id = $cut_off{looks}",
  qq{UPDATE flow.task_run SET state = 'success', ended_at = now(), result = '["left"]' WHERE run_id = $cut_off{turns}},
  q{SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND objid = 3 AND NOT granted};
is(wait_for_run($node, $cut_off{turns}), 'success', 'a branch whose worker was terminated');
is(task_states($node, $cut_off{turns}), 'fork=success left=success right=skipped', 'has chosen');
wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 3 AND NOT granted}, 'the sensor to look again');
is(value($node, "SELECT state FROM flow.dag_run WHERE run_id = $cut_off{looks}"), 'running', 'a sensor has not succeeded by that');
$node->safe_psql('postgres', q{INSERT INTO has_come VALUES ('looks')});
$gate->open;
is(wait_for_run($node, $cut_off{looks}), 'success', 'and does when it has seen what it waits for');

# ------------------------------------------------------------------------
# depends_on_past

define($node, q{
CREATE TABLE order_of (dag text, task text, day date, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE broken (dag text, day date);
CREATE FUNCTION note() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO order_of SELECT dag_id, task_id, ds FROM flow_context();
	IF EXISTS (SELECT FROM broken b, flow_context() c WHERE b.dag = c.dag_id AND b.day = c.ds) THEN
		RAISE EXCEPTION 'out of order';
	END IF;
END $$;
INSERT INTO broken VALUES ('past task', '2024-01-02'), ('past dag', '2024-01-02');
SELECT flow_create_dag('past task', '@daily', start_date => '2024-01-01', end_date => '2024-01-04', max_active_runs => 2);
SELECT flow_add_sql('past task', 'free', 'SELECT 1');
SELECT flow_add_sql('past task', 'bound', 'SELECT note()', depends_on_past => true);
SELECT flow_create_dag('past dag', '@daily', start_date => '2024-01-01', end_date => '2024-01-04', depends_on_past => true, max_active_runs => 1);
SELECT flow_add_sql('past dag', 'a', 'SELECT note()');
SELECT flow_add_sql('past dag', 'b', 'SELECT 1', upstream => '{a}');
});
my $days = q{SELECT string_agg(to_char(logical_date, 'DD') || ' ' || state, ', ' ORDER BY logical_date) FROM flow.dag_run WHERE dag_id = };
wait_for($node, qq{SELECT ($days 'past task') = '01 success, 02 failed, 03 running, 04 running'}, 'the runs of a DAG whose task depends on past');
wait_for($node, qq{SELECT ($days 'past dag') = '01 success, 02 failed, 03 running, 04 running'}, 'the runs of a DAG that depends on past');
pass('runs that only wait for an earlier one hold no slot of max_active_runs');
is(value($node, q{SELECT string_agg(coalesce(state, 'not begun'), ' ' ORDER BY run_id, task_id) FROM flow.task_status WHERE dag_id = 'past task' AND run_state = 'running'}),
	'not begun success not begun success', 'the other tasks of later runs go on');
is(value($node, q{SELECT count(*) FROM flow.task_run JOIN flow.dag_run USING (run_id) WHERE task_run.dag_id = 'past dag' AND logical_date > '2024-01-02'}), '0',
	'where the DAG depends on past, nothing of a later run does');
# a task of a waiting run is cleared
value($node, q{SELECT flow_clear('past task', '2024-01-03', '2024-01-03', '{free}')});
wait_for($node, q{SELECT try_number = 2 AND state = 'success' FROM flow.task_status WHERE dag_id = 'past task' AND task_id = 'free' AND logical_date = '2024-01-03'},
	'a cleared task of a run that waits for an earlier one to run again');
# the earlier run is mended and cleared: no deadlock, whatever max_active_runs
$node->safe_psql('postgres', 'DELETE FROM broken');
is(value($node, q{SELECT flow_clear('past task', only_failed => true), flow_clear('past dag', only_failed => true)}), '1|2', 'what has failed is cleared');
wait_for($node, qq{SELECT ($days 'past task') = '01 success, 02 success, 03 success, 04 success'}, 'all runs of the one');
wait_for($node, qq{SELECT ($days 'past dag') = '01 success, 02 success, 03 success, 04 success'}, 'all runs of the other');
is(value($node, q{SELECT string_agg(to_char(day, 'DD'), ' ' ORDER BY at) FROM order_of WHERE dag = 'past dag'}), '01 02 03 04', 'one after the other');
# an earlier run is cleared while a later one waits for one between
$node->safe_psql('postgres', q{INSERT INTO broken VALUES ('past dag', '2024-01-03')});
value($node, q{SELECT flow_clear('past dag', '2024-01-03')});
wait_for($node, qq{SELECT ($days 'past dag') = '01 success, 02 success, 03 failed, 04 running'}, 'the last run to wait');
value($node, q{SELECT flow_clear('past dag', '2024-01-01', '2024-01-01'); DELETE FROM broken; SELECT flow_clear('past dag', '2024-01-03', '2024-01-03')});
wait_for($node, qq{SELECT ($days 'past dag') = '01 success, 02 success, 03 success, 04 success'}, 'all runs again');
pass('an earlier run cleared later does not deadlock with max_active_runs = 1');

# ------------------------------------------------------------------------
# dagrun_timeout

define($node, q{
SELECT flow_create_dag('endless', NULL, dagrun_timeout => '500 ms', on_failure => 'INSERT INTO told (dag, message) VALUES (run.dag_id, run.message)');
SELECT flow_add_sql('endless', 'first', 'SELECT 1');
SELECT flow_add_sql('endless', 'sleeps', 'SELECT pg_sleep_for(''10 min'')', upstream => '{first}');
SELECT flow_add_sql('endless', 'never', 'SELECT 1', upstream => '{sleeps}');
SELECT flow_add_sensor('endless', 'senses', 'SELECT false');
});
$run = run_of('endless');
is(run_state($node, $run), 'failed', 'dagrun_timeout ends a run, which fails');
like(value($node, "SELECT message FROM flow.run_status WHERE run_id = $run"), qr/dagrun_timeout/, 'and says why');
is(value($node, "SELECT string_agg(task_id || '=' || coalesce(state, ''), ' ' ORDER BY task_id) FROM flow.task_status WHERE run_id = $run AND task_id <> 'never'"),
	'first=success senses=cancelled sleeps=cancelled', 'what was under way is cancelled');
wait_for($node, q{SELECT count(*) = 1 FROM told WHERE dag = 'endless' AND message LIKE '%dagrun_timeout%'}, 'its on_failure');
is(value($node, q{SELECT flow_clear('endless', only_failed => true)}), '2', 'what it has left out is cleared like what has failed');
value($node, "SELECT flow_cancel_run($run)");

# ------------------------------------------------------------------------
# NOTIFY

my $failing = run_of('tells', conf => '{"a": 0, "b": 1}');
my $succeeding = run_of('clumsy');
my $told = '';
for (1 .. 100)
{
	$told .= $listener->query_safe('SELECT pg_sleep(0.05)');
	last if $told =~ /"run_id": $succeeding,/;
}
my @payloads = $told =~ /with payload "(\{.*?\})" received/g;
is(scalar(grep { /"event": "run", "run_id": $failing, "dag_id": "tells", "run_type": "manual", "state": "failed"/ } @payloads), 1, 'whoever listens is told of each run that ends');
is(scalar(grep { /"event": "task", "run_id": $failing, .*"task_id": "a", .*"state": "failed"/ } @payloads), 1, 'and of each task that fails');
is(scalar(grep { /"run_id": $succeeding\b/ } @payloads), 1, 'of one that succeeds, once');
is(scalar(grep { /division|conf/ } @payloads), 0, 'with ids and states only');
is(value($node, 'SELECT count(*) FROM (SELECT p::jsonb FROM unnest(ARRAY[' . join(', ', map { "\$p\$$_\$p\$" } @payloads) . ']) p) s'),
	scalar @payloads, 'each is a JSON object');
$listener->quit;

# ------------------------------------------------------------------------
# History

define($node, q{
SELECT flow_create_dag('old', '@daily', start_date => '2024-01-01', is_paused => true);
SELECT flow_add_sql('old', 'o', 'SELECT 1');
INSERT INTO flow.dag_run (dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at, ended_at)
SELECT 'old', 'scheduled', d, d, d + interval '1 minute', CASE WHEN i = 7 THEN 'queued' ELSE 'success' END, d, CASE WHEN i <> 7 THEN d END
FROM generate_series(1, 1200) i, LATERAL (SELECT timestamptz '2020-01-01' + i * interval '1 minute' AS d) s;
INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state, started_at) SELECT run_id, dag_id, 'o', 2, state, queued_at FROM flow.dag_run WHERE dag_id = 'old' AND state = 'success';
INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, try_number, state) SELECT run_id, dag_id, 'o', -1, 1, 'failed' FROM flow.dag_run WHERE dag_id = 'old' AND state = 'success';
INSERT INTO flow.callback (run_id, run_state, state, queued_at) SELECT run_id, state, 'success', queued_at FROM flow.dag_run WHERE dag_id = 'old' AND state = 'success';
INSERT INTO flow.coverage VALUES ('old', '{[2020-01-01 00:00+00,2020-01-02 00:00+00)}');
INSERT INTO flow.dag_log (dag_id, completion_date, completion_datetime) VALUES ('old', '2020-01-02', '2020-01-02');
});
my $recent = q{SELECT count(*) FROM flow.dag_run WHERE dag_id <> 'old'};
my $kept = value($node, $recent);
$node->restart;
wait_for_scheduler($node);
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'old'}, 'old history to go, step by step');
is(value($node, q{SELECT state FROM flow.dag_run WHERE dag_id = 'old'}), 'queued', 'a run that has not ended stays');
is(value($node, q{SELECT (SELECT count(*) FROM flow.task_run WHERE dag_id = 'old'), (SELECT count(*) FROM flow.attempt_history WHERE dag_id = 'old'),
	(SELECT count(*) FROM flow.callback c WHERE NOT EXISTS (SELECT FROM flow.dag_run r WHERE r.run_id = c.run_id))}), '0|0|0', 'all that belongs to a run goes with it');
wait_for($node, q{SELECT count(*) = 0 FROM flow.dag_log WHERE dag_id = 'old'}, 'the old log to go');
is(value($node, q{SELECT covered FROM flow.coverage WHERE dag_id = 'old'}), '{["2020-01-01 00:00:00+00","2020-01-02 00:00:00+00")}', 'what has succeeded stays known for ever');
is(value($node, $recent), $kept, 'and what is not old stays');

$node->stop;
done_testing();
