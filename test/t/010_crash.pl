
# SIGKILL to workers, the scheduler, the launcher and the postmaster, in the
# middle of work: nothing is lost, nothing is done twice, nothing is forgotten.
#
# The pipeline that is under way has tasks whose doubling would show: an
# upsert, an append-mode audit table whose trigger notes each row put into it,
# and a plain INSERT into a table without key.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use FlowpgTest;
use FlowpgLoad;

my $days        = 210;
my $rows_a_day  = 60;
my $page_size   = 20;
my $kills       = 20;
my $stopped     = 'server stopped while the task was running';

# The same kills in each run of the test; how far the work is by then differs.
srand(20240101);

my $node = new_node(
	'crash',
	durable => 1,
	conf => q{
flowpg.max_workers = 6
log_checkpoints = off
});

# ------------------------------------------------------------------------
# 20 kills during a backfill

$node->safe_psql('postgres', qq{
CREATE TABLE event (day date, id int, amount int, PRIMARY KEY (day, id));
INSERT INTO event
SELECT date '2023-01-01' + d, n, d * n
FROM generate_series(0, $days - 1) d, generate_series(1, $rows_a_day) n;
ANALYZE event;

CREATE TABLE loaded (LIKE event INCLUDING ALL);
CREATE TABLE audit (day date, id int, run_id bigint, PRIMARY KEY (day, id));
CREATE TABLE audit_insert (day date, id int);
CREATE TABLE journal (day date, id int, run_id bigint);

CREATE FUNCTION note_insert() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO audit_insert VALUES (NEW.day, NEW.id);
	RETURN NEW;
END \$\$;
CREATE TRIGGER note_insert AFTER INSERT ON audit
	FOR EACH ROW EXECUTE FUNCTION note_insert();

-- each page takes its time, so that kills find some at work
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM pg_sleep(0.002);
	RETURN NEW;
END \$\$;
CREATE TRIGGER take_time BEFORE INSERT ON loaded
	FOR EACH ROW EXECUTE FUNCTION take_time();
CREATE TRIGGER take_time BEFORE INSERT ON audit
	FOR EACH ROW EXECUTE FUNCTION take_time();
});

define($node, qq{
SELECT flow_create_dag('etl', '\@daily', '2023-01-01', '2023-12-31', retries => 0,
	catchup => false, is_paused => true, max_active_runs => 4);
SELECT flow_add_upsert('etl', 'load', 'SELECT * FROM event WHERE day = run.ds', 'loaded',
	page_size => $page_size);
SELECT flow_add_upsert('etl', 'audit', 'SELECT day, id, run.run_id AS run_id FROM event
	WHERE day = run.ds',
	'audit', mode => 'append', page_size => $page_size, upstream => '{load}');
SELECT flow_add_sql('etl', 'journal',
	'INSERT INTO journal SELECT day, id, run.run_id FROM loaded WHERE day = run.ds',
	upstream => '{load}');
SELECT flow_add_sql('etl', 'close', 'SELECT count(*) FROM audit WHERE day = run.ds',
	upstream => '{audit,journal}');
});

# what depends on it runs as often
define($node, q{
CREATE TABLE summary (day date, events bigint);
SELECT flow_create_dag('summary');
SELECT flow_add_sql('summary', 'count',
	'INSERT INTO summary SELECT run.ds, count(*) FROM loaded WHERE day = run.ds');
INSERT INTO flow.dependency_manager VALUES ('etl', 'summary');
});

my $last_day = $node->safe_psql('postgres', "SELECT date '2023-01-01' + $days - 1");
my $backfill = backfill($node, 'etl', '2023-01-01', $last_day);

# each of the four as often as the others, in any order
my @victims = map { ('worker', 'scheduler', 'launcher', 'postmaster') } 1 .. $kills / 4;
for (my $i = $#victims; $i > 0; $i--)
{
	my $j = int(rand($i + 1));
	@victims[ $i, $j ] = @victims[ $j, $i ];
}

my $nkilled = 0;
my $nstarts = 0;
foreach my $victim (@victims)
{
	# The kills are spread over the backfill, which so lasts as long as they
	# do.  What has been cut off twice is let through first: a task that is
	# open in many crashes in a row is taken for their cause.
	my $part = int($days * $nkilled / ($kills + 1));
	patiently
	{
		wait_for($node, qq{
SELECT count(*) FILTER (WHERE state = 'success') >= $part
	AND NOT EXISTS (SELECT FROM flow.task_run
		WHERE crashes >= 2 AND state IS DISTINCT FROM 'success')
FROM flow.dag_run WHERE dag_id = 'etl'}, "$part runs to succeed");
	};

	my $pid;
	if ($victim eq 'postmaster')
	{
		usleep(int(rand(50_000)));
		kill_server($node);
		$nstarts += start_again($node) ? 1 : 0;
	}
	else
	{
		wait_for($node,
			"SELECT count(*) > 0 FROM pg_stat_activity
				WHERE backend_type = 'flowpg $victim'",
			"a $victim");
		my @pids = process_pids($node, $victim);
		my $restarts = crash_count($node);
		$pid = $pids[ int(rand(@pids)) ];
		usleep(int(rand(50_000)));
		signal_process('KILL', $pid);
		wait_for_exit($pid);
		patiently { wait_for($node, 'SELECT true', 'the server') };
		note("the server has restarted " . (crash_count($node) - $restarts) . " times");
	}
	$nkilled++;
	note("killed the $victim, " . ($pid // 'with all others'));
}

is($nkilled, $kills, "$kills processes have been killed");
is($nstarts, $kills / 4, 'a server whose postmaster was killed starts at once each time');
is(wait_for_backfill($node, $backfill), 'success', 'the backfill succeeds');
is(crash_count($node), $kills * 3 / 4,
	'the death of any other process has restarted the server');

shows($node,
	q{SELECT state, count(*) FROM flow.dag_run WHERE dag_id = 'etl' GROUP BY 1},
	"success|$days", 'every run has succeeded');
shows($node,
	q{SELECT state, count(*) FROM flow.task_run WHERE dag_id = 'etl' GROUP BY 1},
	'success|' . 4 * $days, 'and every task');
shows($node,
	'SELECT sum(retries) FROM flow.task_version',
	'0', 'without retries');

shows($node,
	'(TABLE event EXCEPT ALL TABLE loaded) UNION ALL (TABLE loaded
		EXCEPT ALL TABLE event)',
	'', 'upsert: every row is there once');
shows($node,
	q{
	(SELECT day, id FROM event EXCEPT ALL SELECT day, id FROM audit)
	UNION ALL (SELECT day, id FROM audit EXCEPT ALL SELECT day, id FROM event)},
	'', 'append: every row is there once');
shows($node,
	q{
	(SELECT day, id FROM event EXCEPT ALL TABLE audit_insert)
	UNION ALL (TABLE audit_insert EXCEPT ALL SELECT day, id FROM event)},
	'', 'and was put there once');
shows($node,
	q{
	(SELECT day, id FROM event EXCEPT ALL SELECT day, id FROM journal)
	UNION ALL (SELECT day, id FROM journal EXCEPT ALL SELECT day, id FROM event)},
	'', 'plain INSERT: every row is there once');
shows($node,
	q{
	SELECT count(*) FROM audit a
	WHERE run_id IS DISTINCT FROM (SELECT run_id FROM flow.dag_run
		WHERE dag_id = 'etl' AND logical_date = a.day)},
	'0', 'each was put there by the run of its day');

my $pages = $rows_a_day / $page_size;
shows($node,
	q{
	SELECT task_id, min(rows_written), max(rows_written), min(pages), max(pages)
	FROM flow.task_run WHERE dag_id = 'etl' AND task_id IN ('load', 'audit')
	GROUP BY 1 ORDER BY 1},
	"audit|$rows_a_day|$rows_a_day|$pages|$pages\nload|$rows_a_day|$rows_a_day|$pages|$pages",
	'the record of each upsert counts each row and page once');
shows($node,
	q{SELECT min(rows_written), max(rows_written) FROM flow.task_run
		WHERE task_id = 'journal'},
	"$rows_a_day|$rows_a_day", 'and so does that of the INSERT');

# so is what depends on it
wait_for($node, "SELECT count(*) = $days FROM flow.dag_log WHERE dag_id = 'summary'",
	'all that depends on it');
shows($node,
	q{SELECT count(*), count(DISTINCT day), min(events), max(events) FROM summary},
	"$days|$days|$rows_a_day|$rows_a_day",
	'what depends on it has run once a day, after its day was loaded');
shows($node,
	q{SELECT state, count(*), count(DISTINCT logical_date) FROM flow.dag_run
		WHERE dag_id = 'summary' GROUP BY 1},
	"success|$days|$days", 'in one run a day');

# what was cut off is on record
my $cut_off = value($node, "SELECT count(*) FROM flow.task_attempt
	WHERE message = '$stopped'");
cmp_ok($cut_off, '>=', 5, "kills have met $cut_off attempts at work");
shows($node,
	q{
	SELECT count(*) FROM (
		SELECT run_id, task_id, count(*) AS n, min(try_number) AS first, max(try_number) AS last
		FROM flow.task_attempt GROUP BY 1, 2) a
	JOIN flow.task_run t USING (run_id, task_id)
	WHERE first <> 1 OR last <> n OR t.try_number <> last},
	'0', 'the attempts of each task run are numbered without a gap');
shows($node,
	q{
	SELECT count(*) FROM flow.task_attempt a
		JOIN flow.task_run t USING (run_id, task_id, map_index)
	WHERE a.try_number < t.try_number
		AND (a.state, a.message) IS DISTINCT FROM ('failed', '} . $stopped . q{')},
	'0', 'every attempt but the last was closed with the reason');
shows($node,
	q{
	SELECT count(*) FROM flow.task_attempt
		WHERE started_at IS NULL OR ended_at IS NULL OR ended_at < started_at},
	'0', 'and each has its times');

# success, log and coverage are one commit
shows($node,
	q{SELECT covered FROM flow.coverage WHERE dag_id = 'etl'},
	value($node, "SELECT tstzmultirange(tstzrange('2023-01-01+00', (date '$last_day' + 1)::timestamptz))"),
	'coverage has no hole');
shows($node,
	qq{
	SELECT count(*), count(DISTINCT completion_date), min(completion_date), max(completion_date)
	FROM flow.dag_log l JOIN flow.dag_run r USING (run_id, dag_id)
	WHERE l.dag_id = 'etl' AND l.completion_date = r.data_interval_end::date},
	value($node, "SELECT $days, $days, date '2023-01-02', date '$last_day' + 1"),
	'dag_log has one row for each day');
shows($node,
	qq{SELECT state, total, success, percent FROM flow.backfill_status
		WHERE backfill_id = $backfill},
	join('|', 'success', 2 * $days, 2 * $days, '100.0'),
	'the backfill counts them, with what depends on it');
shows($node,
	'SELECT active_runs, ready_tasks, running_tasks FROM flow.scheduler_status',
	'0|0|0', 'nothing is left over in memory');

# ------------------------------------------------------------------------
# The postmaster is killed while a task computes: the worker notices it by
# itself, and does not keep the server from starting.

define($node, q{
SELECT flow_create_dag('busy', NULL);
SELECT flow_add_sql('busy', 'compute', $$
	DO 'BEGIN IF (SELECT try_number
		FROM flow_context()) = 1 THEN LOOP NULL; END LOOP; END IF; END'$$);
});
my $run = trigger($node, 'busy');
wait_for($node, 'SELECT count(*) = 1 FROM flow.running', 'the loop to run');
my $seconds = kill_server($node);
cmp_ok($seconds, '<', 5, 'all processes end by themselves');
note(sprintf 'they took %.1f s', $seconds);
ok(start_again($node), 'the server starts at the first try');
is(wait_for_run($node, $run), 'success', 'the run succeeds after it');
shows($node,
	"SELECT try_number, state, message FROM flow.task_attempt WHERE run_id = $run
		ORDER BY 1",
	"1|failed|$stopped\n2|success|", 'with both attempts on record');

# ------------------------------------------------------------------------
# A scheduler that ends leaves its workers at work; the next one takes over
# what they do.

my $gate = close_gate($node, 1);
define($node, qq{
CREATE TABLE passed (run_id bigint, try_number int);
SELECT flow_create_dag('gated', NULL);
SELECT flow_add_sql('gated', 'pass', 'INSERT INTO passed SELECT run.run_id, run.try_number
	FROM }
	  . pass_gate(1) . q{');
SELECT flow_add_sql('gated', 'after', 'SELECT 1', upstream => '{pass}');
});
$run = trigger($node, 'gated');
wait_for_task($node, $run, 'pass', 'running');
wait_for($node, 'SELECT count(*) = 1 FROM flow.running', 'the task to run');
my $worker = value($node, 'SELECT worker_pid FROM flow.running');
my $scheduler = scheduler_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($scheduler)");
isnt(wait_for_scheduler($node, not_pid => $scheduler), $scheduler,
	'a new scheduler comes');
shows($node,
	'SELECT worker_pid FROM flow.running',
	$worker, 'the worker has stayed');
shows($node,
	"SELECT state, try_number FROM flow.task_run WHERE run_id = $run",
	'running|1',
	'its attempt is taken over');
$gate->open;
is(wait_for_run($node, $run), 'success', 'the run goes on');
shows($node,
	"SELECT count(*), max(try_number) FROM passed WHERE run_id = $run",
	'1|1',
	'the task has run once');

# A shutdown in good order cuts off as well, but counts for no crash and
# against no retries.
define($node, q{
CREATE TABLE woken (run_id bigint, try_number int);
SELECT flow_create_dag('sleeper', NULL, retries => 0);
SELECT flow_add_sql('sleeper', 'sleep', $$
	INSERT INTO woken VALUES (run.run_id, run.try_number);
	SELECT pg_sleep(CASE WHEN run.try_number <= 3 THEN 600 ELSE 0 END)$$);
});
my @runs = map { trigger($node, 'sleeper') } 1 .. 5;
foreach my $try (1 .. 3)
{
	wait_for($node, "SELECT count(*) = 5 FROM flow.running WHERE try_number = $try",
		'all to sleep');
	$node->restart;
}
is(join(' ', map { wait_for_run($node, $_) } @runs),
	'success success success success success', 'runs go on after restarts');
shows($node,
	q{SELECT count(*), count(DISTINCT run_id), min(try_number) FROM woken},
	'5|5|4',
	'what was cut off has left nothing');
shows($node,
	q{
	SELECT try_number, state, message, count(*) FROM flow.task_attempt
	WHERE dag_id = 'sleeper' GROUP BY 1, 2, 3 ORDER BY 1},
	"1|failed|$stopped|5\n2|failed|$stopped|5\n3|failed|$stopped|5\n4|success||5",
	'each attempt is on record');
shows($node,
	q{SELECT max(failures), max(crashes) FROM flow.task_run WHERE task_id = 'sleep'},
	'0|0', 'and none counts as failure or crash');

# A task that looks whether the run that it has triggered has ended waits for
# that run afterwards, too, and does not trigger another.
define($node, q{
SELECT flow_create_dag('child');
SELECT flow_add_sql('child', 'pass', 'SELECT } . pass_gate(1) . q{');
SELECT flow_create_dag('parent', retries => 0);
SELECT flow_add_trigger('parent', 'wait', 'child', wait => true);
});
$gate = close_gate($node, 1);
$run = trigger($node, 'parent');
wait_for_task($node, $run, 'wait', 'up_for_reschedule');
# as a look leaves it that is cut off
$node->safe_psql('postgres', "UPDATE flow.task_run SET state = 'running' WHERE run_id = $run");
$node->restart;
is(wait_for_run($node, $run), 'success', 'a trigger that was cut off waits on');
shows($node,
	"SELECT try_number, (SELECT count(*) FROM flow.dag_run WHERE parent_run_id = $run)
	FROM flow.task_run WHERE run_id = $run",
	'2|1', 'in a further attempt, for the same run');

# ------------------------------------------------------------------------
# A task that kills the server each time it runs ends as failed; what else is
# there goes on, at the latest then.

define($node, q{
CREATE TABLE bystander (run_id bigint);
SELECT flow_create_dag('killer', NULL, retries => 3, retry_delay => '0');
SELECT flow_add_sql('killer', 'kill', $$COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'$$);
SELECT flow_add_sql('killer', 'after', 'SELECT 1', upstream => '{kill}');
SELECT flow_create_dag('bystander', '@daily', '2024-01-01', '2024-01-31', is_paused => true, catchup => false);
SELECT flow_add_sql('bystander', 'insert', 'INSERT INTO bystander SELECT run.run_id
	FROM pg_sleep(0.05)');
});
my $crashes = crash_count($node);
$run = $node->safe_psql('postgres', qq{
BEGIN;
SELECT flow_backfill('bystander', '2024-01-01', '2024-01-31');
SELECT flow_trigger('killer');
COMMIT;
});
my ($bystander, $killer) = split /\n/, $run;
is(patiently { wait_for_run($node, $killer) }, 'failed',
	'a task that brings the server down fails in the end');
is(crash_count($node) - $crashes, 6,
	'after three crashes as one of several, and three alone');
like(value($node, "SELECT message FROM flow.task_run WHERE run_id = $killer
	AND task_id = 'kill'"),
	qr/crashed 6 times in a row/, 'the record says why');
is(task_states($node, $killer), 'after=upstream_failed kill=failed',
	'what follows it does not run');
shows($node,
	"SELECT count(*), min(try_number), max(try_number) FROM flow.task_attempt
		WHERE run_id = $killer AND task_id = 'kill'",
	'6|1|6', 'each attempt is on record');
is(patiently { wait_for_backfill($node, $bystander) }, 'success',
	'what ran beside it succeeds');
shows($node,
	'SELECT count(*), count(DISTINCT run_id) FROM bystander',
	'31|31', 'once each');

$node->stop;
done_testing();
