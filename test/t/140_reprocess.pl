
# "There is a bug: reprocess the last six months": 180 daily partitions, three at
# a time and only at night, while the daily run keeps its time.  Two of the days
# cannot be processed, and the server is restarted at half.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'reprocess', conf => q{
flowpg.simulated_now = '2024-06-29 00:30:00+00'
flowpg.max_workers = 8
max_prepared_transactions = 2
});

# ------------------------------------------------------------------------
# Helpers

# A gate is a lock that tasks ask for.  A prepared transaction keeps it closed,
# also while the server is restarted.
sub shut_gate
{
	my ($key) = @_;

	$node->safe_psql('postgres', "BEGIN; SELECT pg_advisory_xact_lock($key); PREPARE TRANSACTION 'gate $key';");
	return;
}

sub open_gate
{
	my ($key) = @_;

	$node->safe_psql('postgres', "ROLLBACK PREPARED 'gate $key'");
	return;
}

# Attempts that stand at a gate.
sub wait_at_gate
{
	my ($key, $n) = @_;

	return wait_for($node,
		"SELECT count(*) = $n FROM pg_locks WHERE locktype = 'advisory' AND objid = $key AND NOT granted",
		"$n tasks at gate $key");
}

# How many of a backfill's runs are in which state, by DAG, as
# "load success 89".
sub progress
{
	my ($backfill, $dag_id) = @_;

	return value($node, qq{
SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
FROM (
	SELECT r.state, count(*) AS n
	FROM flow.backfill_run b JOIN flow.run_status r USING (run_id)
	WHERE b.backfill_id = $backfill AND r.dag_id = '$dag_id'
	GROUP BY 1) s});
}

sub run_of
{
	my ($dag_id, $day) = @_;

	return value($node, "SELECT run_id FROM flow.dag_run WHERE dag_id = '$dag_id' AND logical_date = '$day 00:00+00'");
}

# The attempts of a day's rewriting, as "1 success, 2 failed".
sub attempts_of
{
	my ($day) = @_;

	return value($node, qq{
SELECT string_agg(try_number || ' ' || state, ', ' ORDER BY try_number)
FROM flow.task_attempt WHERE task_id = 'rewrite' AND run_id = } . run_of('load', $day));
}

# How many days hold what they should, and how many what the bug has made of them,
# as a reader sees it; days that hold part of either would be neither.
sub days
{
	return value($node, q{
SELECT count(*) FILTER (WHERE n = 40 AND amount = 820 + extract(doy FROM day)) || ' right, '
	|| count(*) FILTER (WHERE n = 40 AND amount = 82000 + 100 * extract(doy FROM day)) || ' wrong, '
	|| count(*) FILTER (WHERE n <> 40 OR amount NOT IN (820 + extract(doy FROM day), 82000 + 100 * extract(doy FROM day))) || ' broken'
FROM (SELECT day, count(*) AS n, sum(amount) AS amount FROM amount WHERE day <= '2024-06-28' GROUP BY day) d});
}

# Days and months of the DAGs that depend on it which do not equal the source.
sub wrong_dependents
{
	return value($node, q{
SELECT string_agg(what, ', ' ORDER BY what)
FROM (
	SELECT day::text AS what FROM total FULL JOIN (SELECT day, sum(amount) AS expected FROM event GROUP BY 1) e USING (day)
	WHERE amount IS DISTINCT FROM expected AND day <= '2024-06-28'
	UNION ALL
	SELECT to_char(month, 'Month') FROM month_total
		FULL JOIN (SELECT date_trunc('month', day)::date AS month, sum(amount) AS expected FROM event GROUP BY 1) e USING (month)
	WHERE amount IS DISTINCT FROM expected AND month < '2024-06-01') w});
}

# ------------------------------------------------------------------------
# Six months, loaded with a bug, day by day

$node->safe_psql('postgres', q{
CREATE ROLE etl LOGIN;
CREATE ROLE ann LOGIN IN ROLE etl;
CREATE ROLE bob LOGIN IN ROLE etl;
SELECT flow_grant('etl');
GRANT CREATE ON SCHEMA public TO etl;
});
value_as($node, 'etl', q{
-- 40 rows a day; the day's sum tells which day it is
CREATE TABLE event (day date, n int, amount numeric, PRIMARY KEY (day, n));
INSERT INTO event
SELECT day, n, n + CASE n WHEN 1 THEN extract(doy FROM day) ELSE 0 END
FROM (SELECT date '2024-01-01' + d AS day FROM generate_series(0, 185) d) s, generate_series(1, 40) n;

CREATE TABLE amount (day date, n int, amount numeric, PRIMARY KEY (day, n)) PARTITION BY RANGE (day);
SELECT format('CREATE TABLE amount_%s PARTITION OF amount FOR VALUES FROM (%L) TO (%L)', to_char(day, 'YYYYMMDD'), day, day + 1)
FROM (SELECT date '2024-01-01' + d AS day FROM generate_series(0, 185) d) s \gexec

CREATE TABLE total (day date PRIMARY KEY, amount numeric);
CREATE TABLE month_total (month date PRIMARY KEY, amount numeric);
CREATE TABLE fault (day date PRIMARY KEY);
CREATE TABLE gate (key int, first_day date, last_day date);
});

# A day's rows are removed, put in again, and then it stands at a gate, so that
# a reader would see a day that is half done.
my $rewrite = q{
	DELETE FROM amount WHERE day = run.ds;
	INSERT INTO amount SELECT day, n, %s FROM event WHERE day = run.ds;
	SELECT 1 / (1 - count(*)) FROM fault WHERE day = run.ds;
	SELECT pg_advisory_xact_lock_shared(key) FROM gate WHERE run.ds BETWEEN first_day AND last_day;
};
my $wrong = sprintf $rewrite, 'amount * 100';
my $right = sprintf $rewrite, 'amount';

value_as($node, 'etl', qq{
BEGIN;
SELECT flow_create_dag('load', '\@daily', '2024-01-01', retries => 2, retry_delay => '10 minutes');
SELECT flow_add_sql('load', 'rewrite', \$task\$$wrong\$task\$);

-- each day after it, and each month after its days
SELECT flow_create_dag('total');
SELECT flow_add_sql('total', 'sum', 'INSERT INTO total SELECT run.ds, sum(amount) FROM amount WHERE day = run.ds
	ON CONFLICT (day) DO UPDATE SET amount = excluded.amount');
SELECT flow_create_dag('month', '\@monthly', '2024-01-01');
SELECT flow_add_sql('month', 'sum', 'INSERT INTO month_total SELECT run.ds, sum(amount) FROM amount WHERE day >= run.ds AND day < run.local_end::date
	ON CONFLICT (month) DO UPDATE SET amount = excluded.amount');
SELECT flow_add_dependency('load', d) FROM unnest('{total,month}'::text[]) d;
COMMIT;
});
advance($node, '2024-06-29 12:00+00');
is(value($node, 'SELECT dag_id, count(*), min(logical_date), max(logical_date) FROM flow.dag_run WHERE state = $$success$$ GROUP BY 1 ORDER BY 1'),
	"load|180|2024-01-01 00:00:00+00|2024-06-28 00:00:00+00\nmonth|5|2024-01-01 00:00:00+00|2024-05-01 00:00:00+00\n"
	  . 'total|180|2024-01-01 00:00:00+00|2024-06-28 00:00:00+00', '180 days have been loaded');
is(days(), '0 right, 180 wrong, 0 broken', 'wrongly');

# ------------------------------------------------------------------------
# The bug is fixed.  At noon, all is to be done again, at night.

value_as($node, 'etl', qq{
SELECT flow_add_sql('load', 'rewrite', \$task\$$right\$task\$);
INSERT INTO fault VALUES ('2024-02-10'), ('2024-05-20');
INSERT INTO gate VALUES (7, '2024-03-31', '2024-05-30'), (8, '2024-05-31', '2024-06-28');
});
is(value_as($node, 'ann', q{SELECT action, count(*), min(logical_date), max(logical_date)
	FROM flow_preview_backfill('load', '2024-01-01', '2024-06-28', reprocess => 'completed') GROUP BY 1}),
	'rerun|180|2024-01-01 00:00:00+00|2024-06-28 00:00:00+00', '180 days would run again');
shut_gate(7);
my $backfill = value_as($node, 'ann', q{
SELECT flow_backfill('load', '2024-01-01', '2024-06-28', reprocess => 'completed', max_active_runs => 3, run_window => '22:00-06:00')});
advance($node, '2024-06-29 21:59:59+00');
is(progress($backfill, 'load'), 'queued 180', 'nothing starts before the night');
is(value($node, q{SELECT DISTINCT waits_for FROM flow.run_status WHERE dag_id = 'load' AND state = 'queued'}), 'run_window: 22:00-06:00', 'and the runs say why');

# ------------------------------------------------------------------------
# The first night: up to the 90th day.  2024-02-10 cannot be processed.

set_now($node, '2024-06-29 22:00:00+00');
wait_at_gate(7, 2);
wait_for($node, "SELECT success = 89 + 89 + 1 FROM flow.backfill_status WHERE backfill_id = $backfill", '89 days and what follows them');
is(progress($backfill, 'load'), 'queued 88, running 3, success 89', 'three at a time; one of them waits to be tried again');
is(attempts_of('2024-02-10'), '1 success, 2 up_for_retry', 'the faulty day');
set_now($node, '2024-06-29 22:10:00+00');
wait_for($node, 'SELECT try_number = 3 AND state = $$up_for_retry$$ FROM flow.task_run WHERE run_id = ' . run_of('load', '2024-02-10'), 'the second try');
set_now($node, '2024-06-29 22:20:00+00');
wait_for_run($node, run_of('load', '2024-02-10'));
is(attempts_of('2024-02-10'), '1 success, 2 failed, 3 failed, 4 failed', 'it is tried three times');
like(value($node, 'SELECT message FROM flow.run_status WHERE run_id = ' . run_of('load', '2024-02-10')), qr/^task "rewrite": division by zero/, 'and recorded, with the error');
wait_at_gate(7, 3);
is(progress($backfill, 'load'), 'failed 1, queued 87, running 3, success 89', 'the others go on');
is(progress($backfill, 'total'), 'cancelled 1, queued 90, success 89', 'the days that depend on it follow');
is(progress($backfill, 'month'), 'cancelled 1, queued 3, success 1', 'the months, too');
is(value($node, "SELECT state, total, success, failed, cancelled, running, pending, percent, eta > '0' FROM flow.backfill_status WHERE backfill_id = $backfill"),
	'running|365|179|1|2|3|180|49.9|t', 'backfill_status tells how far it is, and for how long it will take');
is(days(), '89 right, 91 wrong, 0 broken', 'a reader sees each day as it was or as it is to be');

# Midnight comes while three days of the backfill are under way and 87 wait.
set_now($node, '2024-06-30 00:00:00+00');
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'total' AND logical_date = '2024-06-29 00:00+00' AND state = 'success'}, 'the daily run');
is(value($node, 'SELECT run_type, state FROM flow.dag_run WHERE run_id = ' . run_of('load', '2024-06-29')), 'scheduled|success', 'the daily run starts in time');
wait_at_gate(7, 3);
is(progress($backfill, 'load'), 'failed 1, queued 87, running 3, success 89', 'before the rest of the backfill');

# ------------------------------------------------------------------------
# Morning: the server is restarted with three days under way.

my $attempts_before = value($node, q{SELECT count(*) FROM flow.task_attempt WHERE dag_id = 'load'});
set_now($node, '2024-06-30 07:00:00+00');
$node->restart;
wait_for_scheduler($node);
wait_at_gate(7, 3);
is(progress($backfill, 'load'), 'failed 1, queued 87, running 3, success 89', 'after a restart it goes on where it was');
is(value($node, q{
SELECT string_agg(DISTINCT a.message, ', '), count(*), min(r.logical_date), max(r.logical_date), max(t.failures)
FROM flow.task_attempt a JOIN flow.dag_run r USING (run_id) JOIN flow.task_run t USING (run_id, task_id)
WHERE a.message LIKE 'server stopped%'}), 'server stopped while the task was running|3|2024-03-31 00:00:00+00|2024-04-02 00:00:00+00|0',
	'what was cut off runs again, which does not count as failed');
is(value($node, q{SELECT count(*) FROM flow.task_attempt WHERE dag_id = 'load'}), $attempts_before + 3, 'and nothing else does');
open_gate(7);
advance($node, '2024-06-30 21:59:59+00');
is(progress($backfill, 'load'), 'failed 1, queued 87, success 92', 'by day, no other day starts');
is(progress($backfill, 'total'), 'cancelled 1, queued 90, success 89', 'nor does what depends on those that have ended');
is(days(), '92 right, 88 wrong, 0 broken', 'half is done');

# ------------------------------------------------------------------------
# The second night

shut_gate(8);
set_now($node, '2024-06-30 22:00:00+00');
wait_at_gate(8, 2);
set_now($node, '2024-06-30 22:10:00+00');
wait_for($node, 'SELECT try_number = 3 AND state = $$up_for_retry$$ FROM flow.task_run WHERE run_id = ' . run_of('load', '2024-05-20'), 'the second try');
set_now($node, '2024-06-30 22:20:00+00');
wait_at_gate(8, 3);
is(progress($backfill, 'load'), 'failed 2, queued 26, running 3, success 149', 'it goes on where it was');

# The month is over as well.  June waits for days that are not yet done again.
set_now($node, '2024-07-01 00:00:00+00');
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'total' AND logical_date = '2024-06-30 00:00+00' AND state = 'success'}, 'the daily run');
is(value($node, 'SELECT run_type, state FROM flow.dag_run WHERE run_id = ' . run_of('load', '2024-06-30')), 'scheduled|success', 'the daily run starts in time again');
is(value($node, 'SELECT state FROM flow.dag_run WHERE run_id = ' . run_of('month', '2024-06-01')), 'queued', 'a month with days that are done again waits for them');
like(value($node, 'SELECT waits_for FROM flow.run_status WHERE run_id = ' . run_of('month', '2024-06-01')), qr/^asis/, 'and says so');

open_gate(8);
is(wait_for_backfill($node, $backfill), 'failed', 'the backfill ends');
advance($node, '2024-07-01 00:00:00+00');
is(progress($backfill, 'load'), 'failed 2, success 178', 'with 178 of 180 days');
is(days(), '178 right, 2 wrong, 0 broken', 'which are right; the other two are whole, as they were');
is(wrong_dependents(), '2024-02-10, 2024-05-20, February , May      ', 'and so is what depends on them');
is(value($node, q{SELECT amount = (SELECT sum(amount) FROM event WHERE day BETWEEN '2024-06-01' AND '2024-06-30') FROM month_total WHERE month = '2024-06-01'}), 't',
	'June has waited for all its days');
is(value($node, qq{
SELECT string_agg(to_char(logical_date, 'YYYY-MM-DD') || ' ' || split_part(message, E'\\n', 1) || ' ' || (started_at < ended_at), ', ' ORDER BY logical_date)
FROM flow.backfill_run JOIN flow.run_status r USING (run_id)
WHERE backfill_run.backfill_id = $backfill AND state = 'failed' AND dag_id = 'load'}),
	'2024-02-10 task "rewrite": division by zero true, 2024-05-20 task "rewrite": division by zero true', 'the table of its runs names them, with times and error');
is(value($node, qq{
SELECT max(n) FROM (
	SELECT count(*) AS n
	FROM flow.backfill_run b JOIN flow.task_run s USING (run_id) JOIN (flow.backfill_run c JOIN flow.task_run t USING (run_id))
		ON c.backfill_id = b.backfill_id AND t.started_at <= s.started_at AND t.ended_at > s.started_at
	WHERE b.backfill_id = $backfill AND s.dag_id = 'load' AND t.dag_id = 'load'
	GROUP BY s.run_id) o}), '3', 'never more than three at once');

# ------------------------------------------------------------------------
# Started again by someone else: what is done is left alone

value_as($node, 'etl', 'DELETE FROM fault; DELETE FROM gate');
is(value_as($node, 'bob', q{SELECT CASE WHEN action LIKE 'skip%' THEN 'skip' ELSE action END, count(*), min(logical_date), max(logical_date)
	FROM flow_preview_backfill('load', '2024-01-01', '2024-06-28') GROUP BY 1 ORDER BY 1}),
	"rerun failed tasks|2|2024-02-10 00:00:00+00|2024-05-20 00:00:00+00\nskip|178|2024-01-01 00:00:00+00|2024-06-28 00:00:00+00",
	'started again, only the two failed days would run');
$attempts_before = value($node, q{SELECT count(*) FROM flow.task_attempt WHERE dag_id = 'load'});
my $again = value_as($node, 'bob', q{SELECT flow_backfill('load', '2024-01-01', '2024-06-28')});
is(wait_for_backfill($node, $again), 'success', 'they do');
is(value($node, q{SELECT count(*) FROM flow.task_attempt WHERE dag_id = 'load'}), $attempts_before + 2, 'and nothing else does');
is(days(), '180 right, 0 wrong, 0 broken', 'all days are right');
is(wrong_dependents(), '', 'and what depends on them, too');

# ------------------------------------------------------------------------
# Two people do different months at once

value_as($node, 'etl', q{
UPDATE event SET amount = amount + 0.5 WHERE n = 2 AND day BETWEEN '2024-02-01' AND '2024-03-31';
INSERT INTO gate VALUES (9, '2024-02-10', '2024-02-10'), (9, '2024-03-20', '2024-03-20');
});
shut_gate(9);
my %of = (
	ann => value_as($node, 'ann', q{SELECT flow_backfill('load', '2024-02-01', '2024-02-29', reprocess => 'completed', max_active_runs => 1)}),
	bob => value_as($node, 'bob', q{SELECT flow_backfill('load', '2024-03-01', '2024-03-31', reprocess => 'completed', max_active_runs => 1)}));
wait_at_gate(9, 2);
is(value($node, "SELECT requested_by, state FROM flow.backfill JOIN flow.backfill_status USING (backfill_id, state) WHERE backfill_id IN ($of{ann}, $of{bob}) ORDER BY 1"),
	"ann|running\nbob|running", 'two backfills of one DAG are under way');
is(progress($of{ann}, 'load'), 'queued 19, running 1, success 9', 'February as far as one has got');
is(progress($of{bob}, 'load'), 'queued 11, running 1, success 19', 'March as far as the other has');
open_gate(9);
is(wait_for_backfill($node, $of{$_}), 'success', "${_}'s ends") foreach sort keys %of;
is(value($node, qq{
SELECT b.backfill_id = $of{ann}, count(*), min(logical_date), max(logical_date)
FROM flow.backfill_run b JOIN flow.dag_run USING (run_id)
WHERE b.backfill_id IN ($of{ann}, $of{bob}) AND dag_id = 'load' GROUP BY 1 ORDER BY 1}),
	"f|31|2024-03-01 00:00:00+00|2024-03-31 00:00:00+00\nt|29|2024-02-01 00:00:00+00|2024-02-29 00:00:00+00", 'each has done its own days');
is(value($node, q{SELECT count(*) FROM (SELECT day, n, amount FROM amount EXCEPT SELECT * FROM event) d}), '0', 'all is as in the source');
is(wrong_dependents(), '', 'and what depends on it follows');
is(value($node, q{SELECT count(*) FROM flow.dag_run WHERE state <> 'success'}), '0', 'nothing is left undone');

$node->stop;
done_testing();
