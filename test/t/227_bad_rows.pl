
# Rows that cannot be written: named with key and column, or kept apart while
# the others go on (on_row_error = 'keep').

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node('bad_rows', durable => 1);

$node->safe_psql('postgres', q{
CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE customer (id int PRIMARY KEY);
INSERT INTO customer SELECT generate_series(1, 10);
CREATE TABLE source (id int PRIMARY KEY, qty bigint, code text, share int, customer int, email text, parent int, note text);
INSERT INTO source SELECT n, n, 'c' || n % 10, n % 100, n % 10 + 1, 'mail ' || n, NULL, repeat('x', n % 50) FROM generate_series(1, 200) n;
CREATE TABLE target (id int PRIMARY KEY, qty smallint NOT NULL, code varchar(3) CHECK (code <> 'bad'), share percent,
	customer int REFERENCES customer, email text UNIQUE, parent int REFERENCES target DEFERRABLE INITIALLY DEFERRED, note text);
});
upsert($node, 'stop', q{'source', 'target', page_size => 50});
upsert($node, 'keep', q{'source', 'target', page_size => 50, on_row_error => 'keep'});

# ------------------------------------------------------------------------
# What each kind of bad row is said to be; one at a time

my @kinds = (
	[ 'null', 'qty = NULL', '23502', 'qty' ],
	[ 'out of range', 'qty = 100000', '22003', 'qty' ],
	[ 'too long', q{code = 'four'}, '22001', 'code' ],
	[ 'check', q{code = 'bad'}, '23514', 'code' ],
	[ 'domain', 'share = 101', '23514', 'share' ],
	[ 'foreign key', 'customer = 11', '23503', 'customer' ],
	[ 'other unique index', q{email = 'mail 1'}, '23505', 'email' ],
	[ 'deferred foreign key', 'parent = 999', '23503', 'parent' ]);
foreach my $kind (@kinds)
{
	my ($name, $change, $sqlstate, $column) = @$kind;

	$node->safe_psql('postgres', "CREATE TABLE saved AS SELECT * FROM source WHERE id = 77;
		UPDATE source SET $change WHERE id = 77; TRUNCATE target");
	my $run = trigger($node, 'stop');
	is(wait_for_run($node, $run), 'failed', "$name: fails");
	like(task_message($node, $run), qr/^$sqlstate .*row \(id\) = \(77\), column "$column"\npage 2 of upsert into "target": \(id\) > \(50\) to \(100\)$/s,
		"$name: page, key and column are named");
	is(progress($node, $run), 'failed 1 50', "$name: the page before stays");

	$node->safe_psql('postgres', 'TRUNCATE target');
	$run = trigger($node, 'keep');
	is(wait_for_run($node, $run), 'success', "$name: kept");
	is(progress($node, $run), 'success 4 199', "$name: all others are written");
	shows($node, "SELECT page, target, key, sqlstate, column_name, row_data ->> 'id' FROM flow.bad_row WHERE run_id = $run",
		qq(2|target|{"id": "77"}|$sqlstate|$column|77), "$name: in flow.bad_row");
	is(difference($node, 'SELECT * FROM source WHERE id <> 77', 'TABLE target'), '', "$name: the others are right");
	$node->safe_psql('postgres', 'DELETE FROM source WHERE id = 77; INSERT INTO source TABLE saved; DROP TABLE saved');
}
shows($node, q{SELECT bad_rows, message FROM flow.task_run WHERE dag_id = 'keep' ORDER BY run_id DESC LIMIT 1},
	'1|warning: 1 rows are kept in flow.bad_row', 'task_run counts them');
shows($node, q{SELECT bad_rows FROM flow.task_status WHERE dag_id = 'keep' ORDER BY run_id DESC LIMIT 1}, '1', 'and so does task_status');

# ------------------------------------------------------------------------
# Many at once, at the edges of pages, in all of a page

$node->safe_psql('postgres', q{
TRUNCATE target;
CREATE TABLE good AS TABLE source;
UPDATE source SET qty = 100000 WHERE id IN (1, 50, 51, 100, 113, 114, 115, 200) OR id BETWEEN 151 AND 200;
});
my $run = trigger($node, 'keep');
is(wait_for_run($node, $run), 'success', 'many bad rows');
is(progress($node, $run), 'success 4 143', 'the others are written');
shows($node, "SELECT string_agg(key ->> 'id', ' ' ORDER BY bad_row_id) FROM flow.bad_row WHERE run_id = $run AND page < 4",
	'1 50 51 100 113 114 115', 'each is kept');
shows($node, "SELECT count(*) FROM flow.bad_row WHERE run_id = $run AND page = 4", '50', 'and all of a page');
is(difference($node, 'SELECT * FROM source WHERE qty < 100000', 'TABLE target'), '', 'the target is right');

# corrected, a run brings them; cleared, a run forgets its own
$node->safe_psql('postgres', q{UPDATE source s SET qty = g.qty FROM good g WHERE g.id = s.id AND s.id <> 113});
is(run_upsert($node, 'keep'), 'success 4 56', 'corrected, they come');
$node->safe_psql('postgres', "SELECT flow_clear('keep', (now() - interval '1 day')::date, (now() + interval '1 day')::date)");
wait_for($node, q{SELECT count(*) = 0 FROM flow.dag_run WHERE state IN ('queued', 'running')}, 'the runs to run again');
shows($node, "SELECT run_id = $run, key ->> 'id' FROM flow.bad_row WHERE run_id = $run", 't|113', 'a run that is cleared finds anew what is bad');
$node->safe_psql('postgres', q{UPDATE source SET qty = 1 WHERE id = 113});
is(run_upsert($node, 'keep'), 'success 4 1', 'none any more');
shows($node, q{SELECT bad_rows, message FROM flow.task_run WHERE dag_id = 'keep' ORDER BY run_id DESC LIMIT 1}, '0|', 'nothing is said');

# ------------------------------------------------------------------------
# Rows that refer to each other within a page; a bad parent

$node->safe_psql('postgres', q{
TRUNCATE target;
ALTER TABLE target ALTER CONSTRAINT target_parent_fkey NOT DEFERRABLE;
UPDATE source SET parent = CASE WHEN id % 50 = 0 THEN NULL ELSE id + 1 END;
UPDATE source SET qty = NULL WHERE id IN (120, 30);
});
$run = trigger($node, 'keep');
is(wait_for_run($node, $run), 'success', 'rows that refer to later ones');
shows($node, "SELECT count(*), count(*) FILTER (WHERE sqlstate = '23502') FROM flow.bad_row WHERE run_id = $run", '50|2',
	'are written, but for those that refer to bad ones');
is(difference($node, 'SELECT * FROM source WHERE id NOT BETWEEN 1 AND 30 AND id NOT BETWEEN 101 AND 120', 'TABLE target'), '', 'the target is right');

# ------------------------------------------------------------------------
# Sources whose expressions fail; triggers; composite keys; append; parallel;
# incremental

$node->safe_psql('postgres', q{
CREATE TABLE raw (region text COLLATE "C", id int, amount text, PRIMARY KEY (region, id));
INSERT INTO raw SELECT chr(65 + n % 3), n, CASE WHEN n IN (7, 33) THEN 'n/a' ELSE n::text END FROM generate_series(1, 60) n;
CREATE TABLE typed (region text COLLATE "C", id int, amount numeric(6, 2), PRIMARY KEY (region, id));
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id = 44 THEN RAISE EXCEPTION 'no % here', NEW.id; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON typed FOR EACH ROW EXECUTE FUNCTION refuse();
});
my $source = q{'SELECT region, id, amount::numeric AS amount FROM raw'};
foreach my $more ('', ", mode => 'append'", ', parallel_pages => 3', ", incremental => true, lookback => '1 hour'", ", delete_missing => true")
{
	$node->safe_psql('postgres', 'TRUNCATE typed');
	upsert($node, 'typed', "$source, 'typed', page_size => 10, on_row_error => 'keep'$more");
	$run = trigger($node, 'typed');
	is(wait_for_run($node, $run), 'success', "an expression that fails$more");
	shows($node, "SELECT key, sqlstate, row_data IS NULL, message FROM flow.bad_row WHERE run_id = $run ORDER BY key",
		qq({"id": "33", "region": "A"}|22P02|t|invalid input syntax for type numeric: "n/a"\n)
		  . qq({"id": "44", "region": "C"}|P0001|f|no 44 here\n)
		  . qq({"id": "7", "region": "B"}|22P02|t|invalid input syntax for type numeric: "n/a"),
		"is kept by its key$more");
	shows($node, 'SELECT count(*) FROM typed', '57', "others are written$more");
}
upsert($node, 'typed', "$source, 'typed', page_size => 10");
$node->safe_psql('postgres', 'TRUNCATE typed');
$run = trigger($node, 'typed');
is(wait_for_run($node, $run), 'failed', 'without keep it fails');
like(task_message($node, $run), qr/^22P02 .*row \(region, id\) = \(A, 33\), column "amount"\npage 2 /s, 'with key and column');

# from another server, by the order of another collation than ours
$node->safe_psql('postgres', q{
CREATE EXTENSION postgres_fdw;
CREATE DATABASE legacy TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'});
$node->safe_psql('legacy', q{
CREATE TABLE raw (region text, id int, amount text, PRIMARY KEY (region, id));
INSERT INTO raw SELECT ('{a,B,c,D}'::text[])[n % 4 + 1], n, CASE WHEN n IN (7, 34) THEN 'far too long' ELSE n::text END FROM generate_series(1, 60) n});
my ($host, $port) = ($node->host, $node->port);
$node->safe_psql('postgres', qq{
CREATE SERVER legacy FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'legacy');
CREATE USER MAPPING FOR CURRENT_USER SERVER legacy;
CREATE FOREIGN TABLE far_raw (region text, id int, amount text) SERVER legacy OPTIONS (table_name 'raw');
CREATE TABLE near (region text, id int, amount varchar(5), PRIMARY KEY (region, id))});
upsert($node, 'far', q{'far_raw', 'near', page_size => 25, on_row_error => 'keep'});
$run = trigger($node, 'far');
is(wait_for_run($node, $run), 'success', 'rows of another server');
shows($node, "SELECT string_agg(key ->> 'id', ' ' ORDER BY key), max(row_data ->> 'amount') FROM flow.bad_row WHERE run_id = $run", '34 7|far too long', 'are kept');
shows($node, 'SELECT count(*), count(DISTINCT id) FROM near', '58|58', 'the others are written');

# of several rows of one key the last one is written, also where an earlier one
# could be written only after it
$node->safe_psql('postgres', q{
CREATE TABLE change (at int, id int, parent int, v text, PRIMARY KEY (at, id));
CREATE TABLE node (id int PRIMARY KEY, at int, parent int REFERENCES node, v text CHECK (v <> 'bad'));
INSERT INTO change VALUES (1, 1, 3, 'first'), (2, 1, NULL, 'last'), (3, 3, NULL, 'parent'), (4, 4, NULL, 'bad'), (5, 4, NULL, 'good'), (6, 5, NULL, 'bad')});
foreach my $more ('', ", mode => 'append', incremental => true, lookback => '1 hour'")
{
	$node->safe_psql('postgres', 'TRUNCATE node');
	upsert($node, 'change', "'change', 'node', key => '{id}', page_by => '{at}', on_row_error => 'keep'$more");
	$run = trigger($node, 'change');
	is(wait_for_run($node, $run), 'success', "versions of rows$more");
	shows($node, 'SELECT id, at, v FROM node ORDER BY id', "1|2|last\n3|3|parent\n4|5|good", "the last ones are there$more");
	shows($node, "SELECT key ->> 'id' FROM flow.bad_row WHERE run_id = $run", '5', "what cannot be written is kept$more");
}

# an error that is not about rows stops either way
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM * FROM missing;
	RETURN NEW;
END $$});
upsert($node, 'typed', "$source, 'typed', page_size => 10, on_row_error => 'keep'");
$run = trigger($node, 'typed');
is(wait_for_run($node, $run), 'failed', 'what is wrong with all rows');
like(task_message($node, $run), qr/^42P01 /, 'is no bad row');

# ------------------------------------------------------------------------
# Who sees them; how long they stay

$node->safe_psql('postgres', q{
CREATE ROLE other LOGIN;
SELECT flow_grant('other');
});
is(value_as($node, 'other', 'SELECT count(*) FROM flow.bad_row'), '0', 'bad rows of others are not seen');
cmp_ok(value($node, 'SELECT count(*) FROM flow.bad_row'), '>', 0, 'there are some');

# killed while it sorts them out: each is kept once
make_kill_once($node);
$node->safe_psql('postgres', q{
DROP TRIGGER refuse ON typed;
TRUNCATE typed;
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM kill_once('bad ' || NEW.id);
	RETURN NEW;
END $$;
CREATE TRIGGER die BEFORE INSERT ON typed FOR EACH ROW WHEN (NEW.id IN (34, 36)) EXECUTE FUNCTION die();
});
my $crashes = crash_count($node);
$run = trigger($node, 'typed');
wait_through_crashes($node, $crashes + 2);
is(patiently { wait_for_run($node, $run) }, 'success', 'killed twice');
shows($node, "SELECT string_agg(key ->> 'id', ' ' ORDER BY key), max(t.bad_rows) FROM flow.bad_row b JOIN flow.task_run t USING (run_id) WHERE run_id = $run",
	'33 7|2', 'each is kept once');
shows($node, 'SELECT count(*) FROM typed', '58', 'all others are there');

$node->stop;
done_testing();
