
# Paged upserts as the engine runs them: what is written and what is not, how
# far they are, and where they go on after an error or a kill.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'upsert',
	durable => 1,
	conf    => q{
flowpg.simulated_now = '2024-06-01 00:00:00+00'
});

# Defines a DAG of one upsert.
sub upsert
{
	my ($dag_id, $arguments, $dag_arguments) = @_;

	return define($node, "SELECT flow_create_dag('$dag_id', NULL"
		  . ($dag_arguments ? ", $dag_arguments" : '')
		  . "); SELECT flow_add_upsert('$dag_id', 'load', $arguments)");
}

# Runs it; "state pages rows_written" of its task.
sub run_upsert
{
	my ($dag_id, %options) = @_;
	my $run = trigger($node, $dag_id, %options);

	wait_for_run($node, $run);
	return progress($run);
}

sub progress
{
	my ($run) = @_;

	return value($node, "SELECT concat_ws(' ', state, pages, rows_written)
		FROM flow.task_run WHERE run_id = $run");
}

sub message
{
	my ($run) = @_;

	return value($node, "SELECT sqlstate || ' ' || message FROM flow.task_run
		WHERE run_id = $run");
}

sub wait_at_gate
{
	my ($key) = @_;

	return wait_for($node,
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $key
			AND NOT granted",
		"a task at gate $key");
}

# What differs between source and target, as rows.
sub difference
{
	my ($source, $target) = @_;

	return value($node, "($source EXCEPT ALL $target) UNION ALL ($target
		EXCEPT ALL $source)");
}

# ------------------------------------------------------------------------
# upsert: new, changed and equal rows

$node->safe_psql('postgres', q{
CREATE TABLE item (id int PRIMARY KEY, v text, amount numeric, note text);
INSERT INTO item SELECT n, 'v' || n, n, CASE WHEN n % 2 = 0 THEN 'even' END
	FROM generate_series(1, 95) n;
CREATE TABLE item_copy (note text, amount numeric, id int PRIMARY KEY, v text, kept_by text DEFAULT 'target');
CREATE TABLE version_of AS SELECT id, xmin::text AS version FROM item_copy;
});
upsert('item', q{'item', 'item_copy', page_size => 10});
is(run_upsert('item'), 'success 10 95', 'an empty target: 95 rows in pages of 10');
is(difference('SELECT id, v, amount, note FROM item', 'SELECT id, v, amount, note
	FROM item_copy'),
	'', 'columns match by name');
shows($node,
	'SELECT DISTINCT kept_by FROM item_copy',
	'target', 'others get their default');

# Which rows of the target have been written since the last call.
sub written
{
	return value($node, q{
WITH now AS (SELECT id, xmin::text AS version FROM item_copy),
	old AS (DELETE FROM version_of RETURNING *),
	new AS (INSERT INTO version_of SELECT * FROM now)
SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), 'none') FROM now LEFT
	JOIN old USING (id)
WHERE now.version IS DISTINCT FROM old.version});
}
written();
is(run_upsert('item'), 'success 10 0',
	'the same again: all pages are read, nothing is written');
is(written(), 'none', 'no row has a new version');
$node->safe_psql('postgres', q{
UPDATE item SET v = 'changed' WHERE id = 12;
UPDATE item SET note = NULL WHERE id = 20;
UPDATE item SET note = 'odd' WHERE id = 21;
DELETE FROM item WHERE id = 30;
INSERT INTO item VALUES (200, 'new', 0, NULL);
UPDATE item_copy SET kept_by = 'someone' WHERE id IN (12, 13);
});
written();
is(run_upsert('item'), 'success 10 4', 'changed and new rows are written');
is(written(), '12 20 21 200', 'these and no others, also where a NULL comes or goes');
shows($node,
	'SELECT v, kept_by FROM item_copy WHERE id = 12',
	'changed|someone', 'columns that the source does not have stay');
shows($node,
	'SELECT count(*) FROM item_copy WHERE id = 30',
	'1', 'as do rows that it no longer has');
$node->safe_psql('postgres', 'TRUNCATE item');
is(run_upsert('item'), 'success 0 0', 'an empty source is no error');

# ------------------------------------------------------------------------
# Duplicates: the last in page order wins, within a page and over pages

$node->safe_psql('postgres', q{
CREATE TABLE raw (seq int PRIMARY KEY, k text, v text);
INSERT INTO raw SELECT n, 'k' || n % 7, 'v' || n FROM generate_series(1, 50) n;
CREATE TABLE latest (k text PRIMARY KEY, seq int, v text);
});
upsert('latest', q{'raw', 'latest', key => '{k}', page_by => '{seq}', page_size => 20});
like(run_upsert('latest'), qr/^success 3 /, 'keys that come several times');
is(difference('(SELECT DISTINCT ON (k) k, seq, v FROM raw
	ORDER BY k, seq DESC)', '(SELECT k, seq, v FROM latest)'),
	'', 'end as the last one in page order');
upsert('latest in one', q{'raw', 'latest', key => '{k}', page_by => '{seq}', page_size => 1000});
$node->safe_psql('postgres', 'TRUNCATE latest');
is(run_upsert('latest in one'), 'success 1 7',
	'within one page each key is written once');
is(difference('(SELECT DISTINCT ON (k) k, seq, v FROM raw
	ORDER BY k, seq DESC)', '(SELECT k, seq, v FROM latest)'),
	'', 'as the last one');

# ------------------------------------------------------------------------
# append: what is there stays

$node->safe_psql('postgres', q{
CREATE TABLE event (id int PRIMARY KEY, v text);
INSERT INTO event SELECT n, 'new ' || n FROM generate_series(1, 30) n;
CREATE TABLE event_log (LIKE event INCLUDING ALL);
INSERT INTO event_log VALUES (3, 'old 3'), (30, 'old 30');
});
upsert('append', q{'event', 'event_log', mode => 'append', page_size => 10});
is(run_upsert('append'), 'success 3 28', 'append: new keys are added');
shows($node,
	q{SELECT string_agg(v, ', ' ORDER BY id) FROM event_log WHERE v LIKE 'old%'},
	'old 3, old 30', 'those that are there are left as they are');
$node->safe_psql('postgres', q{UPDATE event SET v = 'changed'});
is(run_upsert('append'), 'success 3 0', 'also when they change');

# ------------------------------------------------------------------------
# The order of pages: ties, NULLs, keys of several columns, sources without index

$node->safe_psql('postgres', q{
CREATE TABLE "Tied Source" ("When" timestamptz, code char(3), "no" int, v text, PRIMARY KEY (code, "no"));
INSERT INTO "Tied Source"
	SELECT timestamptz '2024-01-01' + interval '1 day' * (n / 40), 'c' || n % 3, n, md5(n::text) FROM generate_series(1, 95) n;
CREATE INDEX ON "Tied Source" ("When", code, "no");
CREATE TABLE "Tied Target" (LIKE "Tied Source" INCLUDING ALL);
CREATE TABLE with_null (id int PRIMARY KEY, ts timestamp);
INSERT INTO with_null
	SELECT n, CASE WHEN n <> 17 THEN timestamp '2024-01-01' + interval '1 day' * n END
		FROM generate_series(1, 30) n;
CREATE INDEX ON with_null (ts, id);
CREATE TABLE null_target (LIKE with_null INCLUDING ALL);
CREATE TABLE total (code char(3) PRIMARY KEY, n bigint, last timestamptz);
});
upsert('tied', q{'"Tied Source"', '"Tied Target"', page_by => '{When}', page_size => 10});
is(run_upsert('tied'), 'success 10 95', 'page_by with ties: the key makes it total');
is(difference('TABLE "Tied Source"', 'TABLE "Tied Target"'), '', 'nothing is lost');
upsert('with null', q{'with_null', 'null_target', page_by => '{ts}', page_size => 10});
my $run = trigger($node, 'with null');
is(wait_for_run($node, $run), 'failed', 'a NULL in a page_by column');
like(message($run), qr/^22004 .*column "ts" .*null value/,
	'is an error that names the column');
$node->safe_psql('postgres', q{UPDATE with_null SET ts = '2024-02-01' WHERE id = 17});
is(run_upsert('with null'), 'success 3 30', 'without NULL all rows come');
upsert('aggregate', q{'SELECT code, count(*) AS n, max("When") AS last FROM "Tied Source"
	GROUP BY code', 'total', page_size => 2});
is(run_upsert('aggregate'), 'success 2 3', 'a source that no index can page');
is(difference('SELECT code, count(*) AS n, max("When") AS last FROM "Tied Source"
	GROUP BY code', 'TABLE total'),
	'', 'is read all the same');

# with values of the run, into a partitioned table
$node->safe_psql('postgres', q{
CREATE TABLE part_target (day date, id int, v text, PRIMARY KEY (day, id))
	PARTITION BY RANGE (day);
CREATE TABLE part_1 PARTITION OF part_target FOR VALUES
	FROM ('2024-01-01') TO ('2024-01-03');
CREATE TABLE part_2 PARTITION OF part_target FOR VALUES
	FROM ('2024-01-03') TO ('2024-01-05');
CREATE TABLE part_source (day date, id int, v text, PRIMARY KEY (day, id));
INSERT INTO part_source SELECT date '2024-01-01' + d, n, d || '.' || n
	FROM generate_series(0, 3) d, generate_series(1, 25) n;
});
define($node, q{
SELECT flow_create_dag('by day', '@daily', '2024-01-01', is_paused => true);
SELECT flow_add_upsert('by day', 'load', 'SELECT * FROM part_source
	WHERE day = run.ds', 'part_target', page_size => 10);
});
my $backfill = backfill($node, 'by day', '2024-01-02', '2024-01-03');
is(wait_for_backfill($node, $backfill), 'success',
	'a source that names the run\'s values');
shows($node,
	'SELECT tableoid::regclass, day, count(*) FROM part_target GROUP BY 1, 2 ORDER BY 2',
	"part_1|2024-01-02|25\npart_2|2024-01-03|25", 'moves its day');

# ------------------------------------------------------------------------
# Pages as they are taken are seen

$node->safe_psql('postgres', q{
CREATE TABLE big (id int PRIMARY KEY, v text);
INSERT INTO big SELECT n, 'v' || n FROM generate_series(1, 100) n;
ANALYZE big;
CREATE TABLE big_copy (LIKE big INCLUDING ALL);
-- stands still in the page that has the row
CREATE FUNCTION stop_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM new_row WHERE id = 35) THEN
		PERFORM pg_advisory_xact_lock_shared(60);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER stop_at AFTER INSERT ON big_copy REFERENCING NEW TABLE AS new_row
	FOR EACH STATEMENT EXECUTE FUNCTION stop_at();
});
upsert('big', q{'big', 'big_copy', page_size => 10}, 'retries => 0');
my $gate = close_gate($node, 60);
$run = trigger($node, 'big');
wait_at_gate(60);
shows($node,
	"SELECT dag_id, task_id, pages, rows_written, started_at IS NOT NULL, rows_per_second > 0, eta > '0' FROM flow.running WHERE run_id = $run",
	'big|load|3|30|t|t|t', 'flow.running shows the pages that are done, while it runs');
shows($node,
	"SELECT state, pages, rows_written FROM flow.task_status WHERE run_id = $run",
	'running|3|30', 'and so does task_status');
is(progress($run), 'running 3 30', 'the record has the same');
shows($node,
	'SELECT count(*) FROM big_copy',
	'30', 'and so has the target');
like(value($node, q{SELECT query FROM pg_stat_activity
	WHERE backend_type = 'flowpg worker' AND state = 'active'}),
	qr/big/, 'pg_stat_activity shows what the worker is at');

# the worker is killed in its fourth page; rows behind it are changed meanwhile
$node->safe_psql('postgres',
	q{UPDATE big SET v = 'late ' || id WHERE id IN (1, 30, 31, 50)});
signal_process('KILL', value($node, "SELECT worker_pid FROM flow.running
	WHERE run_id = $run"));
is(patiently { wait_for_run($node, $run) }, 'success',
	'killed in its fourth page, it goes on');
is(progress($run), 'success 10 100', 'each page and row counts once');
shows($node,
	q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM big_copy WHERE v LIKE 'late%'},
	'31 50', 'from the fourth page on: earlier ones are not read again');
shows($node,
	"SELECT try_number, state, message FROM flow.task_attempt WHERE run_id = $run
		ORDER BY 1",
	"1|failed|server stopped while the task was running\n2|success|",
	'with both attempts on record');
is(run_upsert('big'), 'success 10 2', 'the next run begins at the first page');
is(difference('TABLE big', 'TABLE big_copy'), '', 'and brings the rest');

# ------------------------------------------------------------------------
# A page that fails

$node->safe_psql('postgres', q{
TRUNCATE big_copy;
ALTER TABLE big_copy ADD CONSTRAINT not_bad CHECK (v <> 'bad');
UPDATE big SET v = 'v' || id;
UPDATE big SET v = 'bad' WHERE id = 45;
});
upsert('failing', q{'big', 'big_copy', page_size => 20}, q{retries => 1, retry_delay => '10 minutes'});
$run = trigger($node, 'failing');
advance($node, '2024-06-01 00:00:00+00');
is(progress($run), 'up_for_retry 2 40', 'a bad row in page 3: two pages stay');
shows($node,
	'SELECT count(*), max(id) FROM big_copy',
	'40|40', 'and are to be seen');
my $message = message($run);
like($message, qr/^23514 .*not_bad/, 'the message has the SQLSTATE and the constraint');
like($message, qr/Failing row contains \(45, bad\)/, 'the row');
like($message, qr/page 3 .*\(id\)/, 'the page');
like($message, qr/\(id\).*\b40\b.*\b60\b/, 'and its bounds');
$node->safe_psql('postgres', q{
UPDATE big SET v = 'good' WHERE id = 45;
UPDATE big SET v = 'late ' || id WHERE id IN (1, 60);
});
advance($node, '2024-06-01 00:10:00+00');
is(progress($run), 'success 5 100', 'repaired, the retry does the rest');
shows($node,
	q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM big_copy WHERE v LIKE 'late%'},
	'60', 'from page 3 on');
shows($node,
	"SELECT string_agg(try_number || ' ' || state, ', ' ORDER BY try_number)
		FROM flow.task_attempt WHERE run_id = $run",
	'1 failed, 2 success', 'as its second attempt');

# cleared by a backfill, a run begins at its first page
define($node, q{
SELECT flow_create_dag('cleared', '@daily', '2024-05-01', is_paused => true);
SELECT flow_add_upsert('cleared', 'load', 'big', 'big_copy', page_size => 20);
});
$backfill = backfill($node, 'cleared', '2024-05-01', '2024-05-01');
is(wait_for_backfill($node, $backfill), 'success', 'a run of a day');
$node->safe_psql('postgres', q{UPDATE big SET v = 'again' WHERE id IN (2, 99)});
$backfill = backfill($node, 'cleared', '2024-05-01', '2024-05-01', reprocess => "'completed'");
is(wait_for_backfill($node, $backfill), 'success', 'run again');
shows($node,
	q{SELECT concat_ws(' ', state, try_number, pages, rows_written) FROM flow.task_run
		WHERE dag_id = 'cleared'},
	'success 2 5 2',
	'it reads all pages, and counts from zero');

# ------------------------------------------------------------------------
# Someone else writes the same key

$node->safe_psql('postgres', q{
CREATE TABLE race (id int PRIMARY KEY, v text);
INSERT INTO race SELECT n, 'source' FROM generate_series(1, 20) n;
CREATE TABLE race_target (LIKE race INCLUDING ALL);
});
upsert('race', q{'race', 'race_target', page_size => 10});
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; INSERT INTO race_target VALUES (15, 'someone')});
$run = trigger($node, 'race');
wait_for($node, q{SELECT count(*) = 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.backend_type = 'flowpg worker' AND l.locktype = 'transactionid'
	AND NOT granted}, 'the page to meet the row');
$session->query_safe('COMMIT');
is(wait_for_run($node, $run), 'success',
	'a row that comes in the middle of a page is no error');
shows($node,
	'SELECT v, count(*) FROM race_target GROUP BY 1',
	'source|20', 'and ends as the source has it');
shows($node,
	"SELECT count(*) FROM flow.task_attempt WHERE run_id = $run",
	'1', 'in one attempt');
$session->quit;

# ------------------------------------------------------------------------
# Pages of wide rows are bounded by bytes

$node->safe_psql('postgres', q{
CREATE TABLE wide (id int PRIMARY KEY, t text, b bytea);
ALTER TABLE wide ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
INSERT INTO wide SELECT n, repeat('x', 200000), decode(repeat('ab', 100000), 'hex') FROM generate_series(1, 250) n;
CREATE TABLE wide_copy (LIKE wide INCLUDING ALL);
});
foreach my $source (
	'wide', 'SELECT id, t, b FROM wide',
	'SELECT a.* FROM wide a JOIN wide b USING (id)',
	'SELECT id, min(t) AS t, (array_agg(b))[1] AS b FROM wide GROUP BY id HAVING count(*) > 0')
{
	$node->safe_psql('postgres', 'TRUNCATE wide_copy');
	upsert('wide', "'$source', 'wide_copy'");
	is(run_upsert('wide'), 'success 2 250', "100 MB make two pages: $source");
}
is(difference('SELECT id, md5(t), md5(b) FROM wide', 'SELECT id, md5(t), md5(b) FROM wide_copy'), '', 'all is there');

$node->stop;
done_testing();
