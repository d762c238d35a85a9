
# Upserts in mode replace: the source's rows in the place of those that a
# condition names, in one transaction.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node(
	'replace',
	durable => 1,
	conf    => q{
flowpg.simulated_now = '2024-06-01 00:00:00+00'
});

$node->safe_psql('postgres', q{
CREATE TABLE sale (day date, id int, v text, PRIMARY KEY (day, id));
INSERT INTO sale SELECT date '2024-01-01' + d, n, d || '.' || n
	FROM generate_series(0, 4) d, generate_series(1, 200) n;
CREATE TABLE sale_copy (day date, id int, v text, loaded int DEFAULT 7, PRIMARY KEY (day, id));
INSERT INTO sale_copy SELECT date '2024-01-01' + d, n, 'old'
	FROM generate_series(0, 4) d, generate_series(150, 220) n;
CREATE FUNCTION versions() RETURNS TABLE (day date, id int, version text)
	LANGUAGE sql AS 'SELECT day, id, xmin || '' '' || ctid FROM sale_copy';
});
define($node, q{
SELECT flow_create_dag('day', '@daily', '2024-01-01', is_paused => true);
SELECT flow_add_upsert('day', 'load', 'SELECT * FROM sale WHERE day = run.ds',
	'sale_copy', mode => 'replace',
	replace_where => 'sale_copy.day = run.ds -- the day''s',
	page_size => 10);
});

# ------------------------------------------------------------------------
# One day, and that day alone

my $backfill = backfill($node, 'day', '2024-01-02', '2024-01-02');
is(wait_for_backfill($node, $backfill), 'success', 'a day is replaced');
is(difference($node, q{SELECT * FROM sale WHERE day = '2024-01-02'},
		q{SELECT day, id, v FROM sale_copy WHERE day = '2024-01-02'}),
	'', 'it is as the source has it');
shows($node,
	q{SELECT count(*), count(*) FILTER (WHERE v = 'old') FROM sale_copy WHERE day <> '2024-01-02'},
	'284|284', 'other days are left alone');
shows($node,
	q{SELECT concat_ws(' ', state, pages, rows_written) FROM flow.task_run},
	'success 1 220', '149 new, 51 changed and 20 deleted rows');

$node->safe_psql('postgres', 'CREATE TABLE before AS SELECT * FROM versions()');
$backfill = backfill($node, 'day', '2024-01-02', '2024-01-02', reprocess => "'completed'");
is(wait_for_backfill($node, $backfill), 'success', 'once more');
shows($node,
	q{SELECT concat_ws(' ', state, pages, rows_written) FROM flow.task_run},
	'success 1 0', 'nothing is written');
is(difference($node, 'TABLE before', 'SELECT * FROM versions()'),
	'', 'not even a row version');

$node->safe_psql('postgres', q{
DELETE FROM sale WHERE day = '2024-01-02' AND id > 190;
UPDATE sale SET v = 'fixed' WHERE day = '2024-01-02' AND id = 5;
INSERT INTO sale VALUES ('2024-01-02', 1000, 'late');
UPDATE sale_copy SET loaded = 8 WHERE id = 5;
});
$backfill = backfill($node, 'day', '2024-01-02', '2024-01-02', reprocess => "'completed'");
wait_for_backfill($node, $backfill);
shows($node, 'SELECT rows_written FROM flow.task_run', '12',
	'a changed, a new and ten deleted rows');
is(difference($node, q{SELECT * FROM sale WHERE day = '2024-01-02'},
		q{SELECT day, id, v FROM sale_copy WHERE day = '2024-01-02'}),
	'', 'are what is written');
shows($node, q{SELECT loaded FROM sale_copy WHERE day = '2024-01-02' AND id = 5}, '8',
	'columns that the source does not have stay');

$backfill = backfill($node, 'day', '2024-01-01', '2024-01-05', reprocess => "'completed'");
is(wait_for_backfill($node, $backfill), 'success', 'all days');
is(difference($node, 'TABLE sale', 'SELECT day, id, v FROM sale_copy'), '',
	'are as the source has them');

# ------------------------------------------------------------------------
# Rows that are not its own

$node->safe_psql('postgres', q{
CREATE TABLE item (id int PRIMARY KEY, region text, v text);
INSERT INTO item VALUES (1, 'north', 'a'), (2, 'north', 'b');
CREATE TABLE item_copy (LIKE item INCLUDING ALL);
INSERT INTO item_copy VALUES (2, 'south', 'other'), (3, 'north', 'gone');
});
upsert($node, 'north', q{'item', 'item_copy', mode => 'replace', replace_where => $$region = 'north'$$},
	'retries => 0');
my $run = trigger($node, 'north');
is(wait_for_run($node, $run), 'failed', 'a key of another region');
like(task_message($node, $run), qr/^23505 .*\(id\) = \(2\)/s, 'is an error that names it');
shows($node, 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM item_copy', '2 3',
	'and nothing is done');
$node->safe_psql('postgres', q{
DELETE FROM item_copy WHERE id = 2; UPDATE item SET region = 'east' WHERE id = 2});
$run = trigger($node, 'north');
is(wait_for_run($node, $run), 'failed', 'a row that would not match');
like(task_message($node, $run), qr/^44000 .*\(id\) = \(2\)/s, 'is an error, too');
shows($node, 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM item_copy', '3',
	'and nothing is done');
$node->safe_psql('postgres', q{UPDATE item SET region = 'north' WHERE id = 2});
is(run_upsert($node, 'north'), 'success 1 3', 'put right, it succeeds');

# ------------------------------------------------------------------------
# Other targets and sources: a table named as an alias within, keys that come
# several times, a partitioned table, a source that is empty

$node->safe_psql('postgres', q{
CREATE TABLE p (k int PRIMARY KEY, at int, v text);
INSERT INTO p SELECT n, 0, 'old' FROM generate_series(5, 9) n;
CREATE TABLE raw (k bigint, at int, v varchar);
INSERT INTO raw SELECT n % 6, n, 'v' || n FROM generate_series(1, 60) n;
CREATE TABLE parts (day date, id int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2024-01-03');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2024-01-03') TO ('2024-01-06');
INSERT INTO parts VALUES ('2024-01-01', -1), ('2024-01-04', -1);
});
upsert($node, 'p', q{'raw', 'p', mode => 'replace', replace_where => 'true', page_by => '{at}'});
is(run_upsert($node, 'p'), 'success 1 10', 'keys that come several times');
is(difference($node, 'SELECT DISTINCT ON (k) k, at, v FROM raw ORDER BY k, at DESC', 'TABLE p'),
	'', 'the last in page order wins');
upsert($node, 'parts', q{$$SELECT day, id FROM sale$$, 'parts', mode => 'replace', replace_where => 'true'});
like(run_upsert($node, 'parts'), qr/^success 1 /, 'a partitioned target');
is(difference($node, 'SELECT day, id FROM sale', 'TABLE parts'), '', 'is replaced');
$node->safe_psql('postgres', q{INSERT INTO raw VALUES (NULL, 1, 'x')});
$run = trigger($node, 'p');
advance($node, '2024-06-01 00:00:00+00');
like(task_message($node, $run), qr/^22004 .*column "k"/, 'a null in the key is an error');
$node->safe_psql('postgres', 'TRUNCATE raw');
is(run_upsert($node, 'p'), 'success 1 6', 'an empty source empties the target');

# ------------------------------------------------------------------------
# Killed: as if it had not begun, and then done once

make_kill_once($node);
$node->safe_psql('postgres', q{
CREATE TABLE big AS SELECT n AS id, 'new' AS v FROM generate_series(1, 300) n;
CREATE TABLE big_copy (id int PRIMARY KEY, v text);
INSERT INTO big_copy SELECT n, 'old' FROM generate_series(200, 400) n;
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM kill_once(TG_ARGV[0]);
	RETURN NULL;
END $$;
CREATE TRIGGER die_1 AFTER DELETE ON big_copy EXECUTE FUNCTION die('delete');
CREATE TRIGGER die_2 BEFORE INSERT ON big_copy EXECUTE FUNCTION die('before insert');
CREATE TRIGGER die_3 AFTER INSERT ON big_copy EXECUTE FUNCTION die('insert');
CREATE CONSTRAINT TRIGGER die_4 AFTER INSERT ON big_copy DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION die('commit');
});
upsert($node, 'big', q{'big', 'big_copy', mode => 'replace', replace_where => 'true'},
	q{retries => 0});
$run = trigger($node, 'big');
wait_through_crashes($node, 4);
patiently { wait_for_run($node, $run) };
is(progress($node, $run), 'success 1 400', 'in the end it is done');
is(difference($node, 'TABLE big', 'TABLE big_copy'), '', 'as it should be');

$node->stop;
done_testing();
