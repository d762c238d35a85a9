
# legacy -> lv0 -> lv1 -> lv2: one DAG a table and level, linked by plain
# INSERTs into dependency_manager, on the company's day (Asia/Seoul); tables in
# pages of 10,000 while others write to them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'levels', conf => q{
flowpg.simulated_now = '2024-02-29 12:00:00+09'
flowpg.timezone = 'Asia/Seoul'
flowpg.max_workers = 2
});

# The end of the day in Seoul is 15:00 UTC.
sub end_of_day
{
	return advance($node, "2024-$_[0] 00:00+09");
}

# dag_log, as "dag date" a line.
sub log_rows
{
	my ($pattern) = @_;

	return value($node,
		"SELECT dag_id, completion_date FROM flow.dag_log WHERE dag_id LIKE '$pattern'
			ORDER BY completion_date, dag_id COLLATE \"C\"");
}

# ------------------------------------------------------------------------
# Four levels

$node->safe_psql('postgres', q{
CREATE SCHEMA legacy;
CREATE SCHEMA lv0;
CREATE SCHEMA lv1;
CREATE SCHEMA lv2;
CREATE TABLE legacy."B_MAJOR" (major_cd text PRIMARY KEY, major_nm text, insrt_dt timestamp);
CREATE TABLE legacy."B_MINOR" (major_cd text, minor_cd text, minor_nm text, insrt_dt timestamp,
	PRIMARY KEY (major_cd, minor_cd));
CREATE TABLE lv0."UNIERP5.B_MAJOR" (LIKE legacy."B_MAJOR" INCLUDING ALL);
CREATE TABLE lv0."UNIERP5.B_MINOR" (LIKE legacy."B_MINOR" INCLUDING ALL);
CREATE TABLE lv1."UNIERP5.CODE" (major_cd text, minor_cd text, name text, PRIMARY KEY (major_cd, minor_cd));
CREATE TABLE lv2.code_count (major_cd text PRIMARY KEY, minors bigint);
CREATE TABLE broken (dag_id text, ds date);
INSERT INTO legacy."B_MAJOR" SELECT 'M' || n, 'major ' || n, '2024-02-01'
	FROM generate_series(1, 5) n;
INSERT INTO legacy."B_MINOR"
	SELECT 'M' || n % 5 + 1, 'm' || n, 'minor ' || n, '2024-02-01'
		FROM generate_series(1, 50) n;
});

my $check = "SELECT 1 / (SELECT 1 - count(*) FROM broken b WHERE b.dag_id = run.dag_id
	AND b.ds = run.ds)";
foreach my $table ('B_MAJOR', 'B_MINOR')
{
	define($node, qq{
SELECT flow_create_dag('legacy_to_lv0_UNIERP5.$table', '\@daily', '2024-03-01');
SELECT flow_add_sql('legacy_to_lv0_UNIERP5.$table', 'check', '$check');
SELECT flow_add_upsert('legacy_to_lv0_UNIERP5.$table', 'load', 'legacy."$table"', 'lv0."UNIERP5.$table"',
	upstream => '{check}');
});
}
define($node, q{
SELECT flow_create_dag('lv0_dag_UNIERP5.CODE');
SELECT flow_add_upsert('lv0_dag_UNIERP5.CODE', 'load',
	'SELECT a.major_cd, i.minor_cd, a.major_nm || $$ / $$ || i.minor_nm AS name
	 FROM lv0."UNIERP5.B_MAJOR" a
		JOIN lv0."UNIERP5.B_MINOR" i ON i.major_cd = a.major_cd',
	'lv1."UNIERP5.CODE"');
SELECT flow_create_dag('lv1_dag_UNIERP5.CODE');
SELECT flow_add_upsert('lv1_dag_UNIERP5.CODE', 'count',
	'SELECT major_cd, count(*) AS minors FROM lv1."UNIERP5.CODE"
		GROUP BY 1', 'lv2.code_count');
INSERT INTO flow.dependency_manager
	VALUES ('legacy_to_lv0_UNIERP5.B_MAJOR', 'lv0_dag_UNIERP5.CODE');
INSERT INTO flow.dependency_manager
	VALUES ('legacy_to_lv0_UNIERP5.B_MINOR', 'lv0_dag_UNIERP5.CODE');
INSERT INTO flow.dependency_manager
	VALUES ('lv0_dag_UNIERP5.CODE', 'lv1_dag_UNIERP5.CODE');
});

advance($node, '2024-03-01 23:59:59+09');
is(log_rows('%UNIERP5%'), '', 'nothing runs before the day has ended in Seoul');
end_of_day('03-02');
is( log_rows('%UNIERP5%'),
	"legacy_to_lv0_UNIERP5.B_MAJOR|2024-03-02\nlegacy_to_lv0_UNIERP5.B_MINOR|2024-03-02\n"
	  . "lv0_dag_UNIERP5.CODE|2024-03-02\nlv1_dag_UNIERP5.CODE|2024-03-02",
	'at its end all levels run, and each leaves a row');
shows($node,
	q{SELECT DISTINCT data_interval_start, data_interval_end FROM flow.dag_run},
	'2024-02-29 15:00:00+00|2024-03-01 15:00:00+00', 'for the same day');
shows($node,
	'SELECT run_type, count(*) FROM flow.dag_run GROUP BY 1 ORDER BY 1',
	"scheduled|2\ntriggered|2",
	'two of them by their schedule');
shows($node,
	q{
	SELECT count(*) FROM flow.dependency_manager m
	JOIN flow.dag_run a ON a.dag_id = m.asis_dag
	JOIN flow.dag_run t ON t.dag_id = m.tobe_dag
	WHERE t.started_at >= a.ended_at},
	'3', 'no level before those that it reads have ended');
shows($node,
	'SELECT count(*), sum(minors) FROM lv2.code_count',
	'5|50', 'the rows have come through');

# again on the same day: the row is updated
my $before = value($node, q{SELECT completion_datetime FROM flow.dag_log
	WHERE dag_id = 'lv1_dag_UNIERP5.CODE'});
$node->safe_psql('postgres',
	q{INSERT INTO legacy."B_MINOR" VALUES ('M1', 'm51', 'minor 51', '2024-03-01')});
my $backfill = backfill($node, 'legacy_to_lv0_UNIERP5.B_MINOR', '2024-03-01', '2024-03-01', reprocess => "'completed'");
is(wait_for_backfill($node, $backfill), 'success', 'one table is loaded again');
shows($node,
	q{SELECT count(*), bool_or(completion_datetime > '} . $before . q{'::timestamptz)
	FROM flow.dag_log WHERE dag_id = 'lv1_dag_UNIERP5.CODE'},
	'1|t', 'still one row a day, with the later time');
shows($node,
	q{SELECT dag_id, max(try_number), count(DISTINCT run_id) FROM flow.task_run
		WHERE task_id IN ('load', 'count') GROUP BY dag_id ORDER BY dag_id COLLATE "C"},
	"legacy_to_lv0_UNIERP5.B_MAJOR|1|1\nlegacy_to_lv0_UNIERP5.B_MINOR|2|1\nlv0_dag_UNIERP5.CODE|2|1\nlv1_dag_UNIERP5.CODE|2|1",
	'what depends on it has run again once, nothing else has');
shows($node,
	'SELECT sum(minors) FROM lv2.code_count',
	'51', 'with the new row');

# ------------------------------------------------------------------------
# One that fails leaves no row, and what depends on it does not start

$node->safe_psql('postgres',
	q{INSERT INTO broken VALUES ('legacy_to_lv0_UNIERP5.B_MINOR', '2024-03-02')});
end_of_day('03-03');
shows($node,
	q{SELECT dag_id FROM flow.dag_log WHERE completion_date = '2024-03-03' ORDER BY 1},
	'legacy_to_lv0_UNIERP5.B_MAJOR', 'a failed run leaves no row');
shows($node,
	q{SELECT count(*) FROM flow.dag_run WHERE dag_id LIKE 'lv%'
		AND logical_date >= '2024-03-02 00:00+09'},
	'0', 'what depends on it has no run');
shows($node,
	q{SELECT asis_dag, satisfied FROM flow.dependency_status
	WHERE tobe_dag = 'lv0_dag_UNIERP5.CODE'
	AND data_interval_start = '2024-03-02 00:00+09' ORDER BY 1},
	"legacy_to_lv0_UNIERP5.B_MAJOR|t\nlegacy_to_lv0_UNIERP5.B_MINOR|f",
	'dependency_status says for whom it waits');
shows($node,
	q{SELECT covered FROM flow.coverage WHERE dag_id = 'legacy_to_lv0_UNIERP5.B_MINOR'},
	'{["2024-02-29 15:00:00+00","2024-03-01 15:00:00+00")}',
	'the failed day is not covered');
end_of_day('03-04');
shows($node,
	q{SELECT count(*) FROM flow.dag_log WHERE completion_date = '2024-03-04'},
	'4', 'the next day is not held up');

$node->safe_psql('postgres', 'DELETE FROM broken');
$backfill = backfill($node, 'legacy_to_lv0_UNIERP5.B_MINOR', '2024-03-02', '2024-03-02');
is(wait_for_backfill($node, $backfill), 'success', 'repaired, the day is run again');
wait_for($node,
	q{SELECT count(*) = 4 FROM flow.dag_log WHERE completion_date = '2024-03-03'},
	'all levels of the day');
shows($node,
	q{SELECT dag_id, count(*) FROM flow.dag_run WHERE dag_id LIKE 'lv%'
		AND logical_date = '2024-03-02 00:00+09'
	GROUP BY 1 ORDER BY 1},
	"lv0_dag_UNIERP5.CODE|1\nlv1_dag_UNIERP5.CODE|1", 'and all that depends on it, once');
shows($node,
	q{SELECT count(*), count(DISTINCT (dag_id, completion_date)) FROM flow.dag_log},
	'12|12', 'one row a DAG and day');

# ------------------------------------------------------------------------
# An outside system speaks through dag_log

$node->safe_psql('postgres', q{
CREATE ROLE stranger LOGIN;
SELECT flow_grant('stranger');
CREATE TABLE rate_run (ds date, from_ts timestamptz, until_ts timestamptz);
});
define($node, q{
SELECT flow_create_dag('lv1_dag_RATE');
SELECT flow_add_sql('lv1_dag_RATE', 'load', 'INSERT INTO rate_run
	VALUES (run.ds, run.data_interval_start, run.data_interval_end)');
INSERT INTO flow.dependency_manager VALUES ('TREASURY.RATE', 'lv1_dag_RATE');
});
end_of_day('03-05');
shows($node,
	'SELECT count(*) FROM rate_run',
	'0', 'it waits for the outside system');
$node->safe_psql('postgres', q{
INSERT INTO flow.dag_log VALUES ('TREASURY.RATE', '2024-03-05', now())});
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_log WHERE dag_id = 'lv1_dag_RATE'},
	'the run');
shows($node,
	'SELECT * FROM rate_run',
	'2024-03-04|2024-03-03 15:00:00+00|2024-03-04 15:00:00+00',
	'its row sets off the run for the day before');
shows($node,
	q{SELECT completion_date FROM flow.dag_log WHERE dag_id = 'lv1_dag_RATE'},
	'2024-03-05', 'which logs the same date');
$node->safe_psql('postgres', q{
INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('TREASURY.RATE', '2024-03-05')
ON CONFLICT (dag_id, completion_date) DO UPDATE
	SET completion_datetime = EXCLUDED.completion_datetime});
advance($node, '2024-03-05 00:00+09');
shows($node,
	'SELECT count(*) FROM rate_run',
	'1', 'the same word again runs nothing again');

value_as($node, 'stranger', q{INSERT INTO flow.dag_log (dag_id, completion_date)
	VALUES ('TREASURY.RATE', '2024-03-06')});
end_of_day('03-06');
shows($node,
	'SELECT count(*) FROM rate_run',
	'1', 'the word of a stranger does not count');
$node->safe_psql('postgres', q{
UPDATE flow.dag_log SET completion_datetime = now()
	WHERE (dag_id, completion_date) = ('TREASURY.RATE', '2024-03-06')});
wait_for($node, q{SELECT count(*) = 2 FROM rate_run}, 'the second run');
pass('that of its owner does');

# ------------------------------------------------------------------------
# 24 hourly runs cover a day; one with its own schedule waits for them

end_of_day('03-10');
$node->safe_psql('postgres', q{
CREATE TABLE hour_row (dag_id text, from_ts timestamptz, until_ts timestamptz);
INSERT INTO broken VALUES ('hourly_UNIERP5.STOCK', '2024-03-10');
});
define($node, q{
SELECT flow_create_dag('hourly_UNIERP5.STOCK', '@hourly', '2024-03-10', max_active_runs => 4);
SELECT flow_add_sql('hourly_UNIERP5.STOCK', 'load',
	'SELECT 1 / (SELECT 1 - count(*) FROM broken b WHERE b.dag_id = run.dag_id
		AND b.ds = run.ds
		AND extract(hour FROM run.local_start) = 5);
	 INSERT INTO hour_row
		VALUES (run.dag_id, run.data_interval_start, run.data_interval_end)');
SELECT flow_create_dag('daily_UNIERP5.STOCK', '@daily', '2024-03-10', max_active_runs => 1);
SELECT flow_add_sql('daily_UNIERP5.STOCK', 'sum', 'INSERT INTO hour_row
	VALUES (run.dag_id, run.data_interval_start, run.data_interval_end)');
SELECT flow_create_dag('after_UNIERP5.STOCK');
SELECT flow_add_sql('after_UNIERP5.STOCK', 'sum', 'INSERT INTO hour_row
	VALUES (run.dag_id, run.data_interval_start, run.data_interval_end)');
SELECT flow_add_dependency('hourly_UNIERP5.STOCK', 'daily_UNIERP5.STOCK');
INSERT INTO flow.dependency_manager
	VALUES ('hourly_UNIERP5.STOCK', 'after_UNIERP5.STOCK'), ('daily_UNIERP5.STOCK', 'after_UNIERP5.STOCK');
});
sub hour_rows
{
	return value($node, "SELECT string_agg(to_char(from_ts AT TIME ZONE 'Asia/Seoul', 'DD'), ' ' ORDER BY from_ts)
		FROM hour_row WHERE dag_id = '$_[0]' AND until_ts - from_ts = '1 day'");
}
advance($node, '2024-03-10 23:30+09');
shows($node,
	q{SELECT count(*) FROM hour_row WHERE dag_id LIKE 'hourly%'},
	'22', '22 of 23 hours are there');
end_of_day('03-11');
shows($node,
	q{SELECT state, count(*) FROM flow.dag_run WHERE dag_id = 'daily_UNIERP5.STOCK'
		GROUP BY 1},
	'queued|1',
	'the daily run waits for the hour that has failed');
shows($node,
	q{SELECT waits_for FROM flow.task_status WHERE dag_id = 'daily_UNIERP5.STOCK'},
	'asis: hourly_UNIERP5.STOCK', 'and says so');
shows($node,
	q{SELECT asis_dag, satisfied FROM flow.dependency_status
		WHERE tobe_dag = 'daily_UNIERP5.STOCK'},
	'hourly_UNIERP5.STOCK|f', 'dependency_status, too');
end_of_day('03-12');
is(hour_rows('daily_UNIERP5.STOCK'), '11',
	'the next day does not wait: a run that waits holds no slot');
is(hour_rows('after_UNIERP5.STOCK'), '11',
	'what depends on both takes the coarser interval');
$node->safe_psql('postgres', 'DELETE FROM broken');
$backfill = backfill($node, 'hourly_UNIERP5.STOCK', '2024-03-10', '2024-03-10');
is(wait_for_backfill($node, $backfill), 'success', 'the hour is repaired');
end_of_day('03-12');
shows($node,
	"SELECT count(*) FROM flow.backfill_run WHERE backfill_id = $backfill
		AND action <> 'cascade'",
	'1', 'by one run');
is(hour_rows('daily_UNIERP5.STOCK'), '10 11', 'then its day runs');
is(hour_rows('after_UNIERP5.STOCK'), '10 11', 'and what depends on it');
shows($node,
	q{SELECT count(*) FROM flow.dag_log WHERE dag_id = 'hourly_UNIERP5.STOCK'},
	'3',
	'48 hours have left a row for each of the days on which they end');

# ------------------------------------------------------------------------
# Pages by primary key while others write

my @codes = ('02', '82', 'HI', 'K2', 'ON');
$node->safe_psql('postgres', q{
CREATE TABLE legacy."B_ITEM" (item_cd text COLLATE "C" PRIMARY KEY, item_nm text, qty int, insrt_dt timestamp NOT NULL);
INSERT INTO legacy."B_ITEM"
SELECT code || to_char(n, 'FM000000'), 'item ' || n, n, timestamp '2024-01-01' + interval '1 hour' * (n / 100)
FROM unnest('{02,82,HI,K2,ON}'::text[]) code, generate_series(1, 12000) n;
CREATE INDEX ON legacy."B_ITEM" (insrt_dt, item_cd);
ANALYZE legacy."B_ITEM";
CREATE TABLE lv0.by_key (LIKE legacy."B_ITEM" INCLUDING ALL);
CREATE TABLE lv0.by_time (LIKE legacy."B_ITEM" INCLUDING ALL);

-- stands still when it has put the first page of ON... there
CREATE FUNCTION stop_at_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM new_row WHERE item_cd >= 'ON') THEN
		PERFORM pg_advisory_xact_lock_shared(40);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER stop_at_on AFTER INSERT ON lv0.by_key
	REFERENCING NEW TABLE AS new_row FOR EACH STATEMENT EXECUTE FUNCTION stop_at_on();
CREATE TRIGGER stop_at_on AFTER INSERT ON lv0.by_time
	REFERENCING NEW TABLE AS new_row FOR EACH STATEMENT EXECUTE FUNCTION stop_at_on();
});
define($node, q{
SELECT flow_create_dag('legacy_to_lv0_UNIERP5.B_ITEM', NULL);
SELECT flow_add_upsert('legacy_to_lv0_UNIERP5.B_ITEM', 'by_key', 'legacy."B_ITEM"', 'lv0.by_key', page_size => 10000);
SELECT flow_add_upsert('legacy_to_lv0_UNIERP5.B_ITEM', 'by_time', 'legacy."B_ITEM"', 'lv0.by_time',
	page_by => '{insrt_dt}', page_size => 10000);
});
my $gate = close_gate($node, 40);
my $run = trigger($node, 'legacy_to_lv0_UNIERP5.B_ITEM');
wait_for($node,
	q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
	'both tasks to read ON...');
shows($node,
	"SELECT pages, rows_written FROM flow.running WHERE run_id = $run
		AND task_id = 'by_key'",
	'4|40000',
	'four pages have been taken by then');
shows($node,
	'SELECT count(*), max(item_cd) FROM lv0.by_key',
	'40000|K2004000', 'and are there to be seen');
$node->safe_psql('postgres', q{
INSERT INTO legacy."B_ITEM"
	SELECT 'HI' || to_char(n, 'FM000000'), 'late ' || n, n, '2024-03-11'
		FROM generate_series(20001, 22500) n;
INSERT INTO legacy."B_ITEM"
	SELECT 'ZZ' || to_char(n, 'FM000000'), 'beyond ' || n, n, '2024-03-11'
		FROM generate_series(1, 700) n;
UPDATE legacy."B_ITEM" SET insrt_dt = '2024-03-11 10:00', item_nm = item_nm || '!'
	WHERE item_cd IN ('02000001', 'K2000777', 'ON011999');
UPDATE legacy."B_ITEM" SET insrt_dt = insrt_dt - interval '1 day'
	WHERE item_cd IN ('82011000', 'ON012000');
});
$gate->open;
is(wait_for_run($node, $run), 'success', 'the run succeeds');
shows($node,
	"SELECT pages, rows_written FROM flow.task_run WHERE run_id = $run
		AND task_id = 'by_key'",
	'6|60000',
	'it has read to where the table ended when it began, and each row once');
shows($node,
	q{SELECT item_cd FROM legacy."B_ITEM" WHERE item_cd NOT LIKE 'HI02%'
		AND item_cd NOT LIKE 'ZZ%'
	EXCEPT SELECT item_cd FROM lv0.by_key},
	'', 'no row that was there is lost');
$run = trigger($node, 'legacy_to_lv0_UNIERP5.B_ITEM');
is(wait_for_run($node, $run), 'success', 'one more run');
foreach my $table ('by_key', 'by_time')
{
	shows($node,
	qq{(TABLE legacy."B_ITEM" EXCEPT ALL TABLE lv0.$table) UNION ALL (TABLE lv0.$table
		EXCEPT ALL TABLE legacy."B_ITEM")},
	'', "$table: nothing is there twice, nothing is lost");
}
shows($node,
	"SELECT pages, rows_written FROM flow.task_run WHERE run_id = $run
		AND task_id = 'by_key'",
	'7|3203',
	'it has written what is new (HI, ZZ) or was changed behind its back (02, K2, 82), and nothing else');
$run = trigger($node, 'legacy_to_lv0_UNIERP5.B_ITEM');
is(wait_for_run($node, $run), 'success', 'and another one');
shows($node,
	"SELECT sum(pages), sum(rows_written) FROM flow.task_run WHERE run_id = $run",
	'14|0', 'finds nothing to write');

# ------------------------------------------------------------------------
# Memory does not grow with the pages

SKIP:
{
	skip 'no /proc', 2 unless defined resident_kb($$);

	$node->safe_psql('postgres', q{
CREATE TABLE legacy."A_GL" (gl_no int PRIMARY KEY, remark text, amount numeric);
INSERT INTO legacy."A_GL" SELECT n, repeat(md5(n::text), 4), n
	FROM generate_series(1, 300000) n;
ANALYZE legacy."A_GL";
CREATE TABLE lv0.a_gl (LIKE legacy."A_GL" INCLUDING ALL);
CREATE FUNCTION stop_at_pages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM new_row WHERE gl_no = 50000) THEN
		PERFORM pg_advisory_xact_lock_shared(41);
	ELSIF EXISTS (SELECT FROM new_row WHERE gl_no = 300000) THEN
		PERFORM pg_advisory_xact_lock_shared(42);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER stop_at_pages AFTER INSERT ON lv0.a_gl
	REFERENCING NEW TABLE AS new_row FOR EACH STATEMENT EXECUTE FUNCTION stop_at_pages();
});
	define($node, q{
SELECT flow_create_dag('legacy_to_lv0_UNIERP5.A_GL', NULL);
SELECT flow_add_upsert('legacy_to_lv0_UNIERP5.A_GL', 'load', 'legacy."A_GL"', 'lv0.a_gl', page_size => 10000);
});
	my %gates = map { $_ => close_gate($node, $_) } 41, 42;
	my %kb;
	$run = trigger($node, 'legacy_to_lv0_UNIERP5.A_GL');
	foreach my $key (41, 42)
	{
		wait_for($node,
			"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory'
				AND objid = $key AND NOT granted",
			'the page');
		$kb{$key} = resident_kb(value($node, "SELECT worker_pid FROM flow.running
			WHERE run_id = $run"));
		$gates{$key}->open;
	}
	is(wait_for_run($node, $run), 'success', '30 pages are loaded');
	cmp_ok($kb{42} - $kb{41}, '<', 2048,
		'the worker has not grown from page 5 to page 30');
	note("the worker has $kb{41} kB at page 5, $kb{42} kB at page 30");
}

# ------------------------------------------------------------------------
# Four tables at once, and two workers

define($node, qq{
SELECT flow_create_dag('table_$_', NULL);
SELECT flow_add_sql('table_$_', 'wait', 'SELECT pg_advisory_xact_lock_shared(43)');
SELECT flow_add_upsert('table_$_', 'load', 'legacy."B_ITEM"', 'lv0.by_key', upstream => '{wait}');
}) foreach 1 .. 4;
$gate = close_gate($node, 43);
my @runs = map { trigger($node, "table_$_") } 1 .. 4;
wait_for($node,
	q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
	'two tasks to run');
wait_for($node, q{SELECT count(*) = 4 FROM flow.dag_run WHERE state = 'running'},
	'four runs to be under way');
shows($node,
	'SELECT count(*) FROM flow.running',
	'2', 'flowpg.max_workers is how many run at once');
is(process_count($node, 'worker'), 2, 'in as many processes');
shows($node,
	q{SELECT count(*) FROM flow.task_status WHERE dag_id LIKE 'table_%'
		AND task_id = 'wait' AND waits_for = 'worker'},
	'2',
	'the others wait for a worker');
$gate->open;
is(join(' ', map { wait_for_run($node, $_) } @runs), 'success success success success',
	'all four come through');
shows($node,
	q{SELECT max(n) FROM (
	SELECT (SELECT count(*) FROM flow.task_run b WHERE b.dag_id LIKE 'table_%'
		AND b.started_at <= a.started_at AND b.ended_at > a.started_at) AS n
	FROM flow.task_run a WHERE a.dag_id LIKE 'table_%') s},
	'2', 'never more than two at a time');

$node->stop;
done_testing();
