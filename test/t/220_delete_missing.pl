
# Upserts with delete_missing: rows of the target that the source does not have.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node('delete_missing', durable => 1, conf => 'autovacuum = off');

$node->safe_psql('postgres', q{
CREATE TABLE item (b text, a int, v text, n int, PRIMARY KEY (a, b));
INSERT INTO item SELECT chr(97 + n % 5), n, 'v' || n, n FROM generate_series(1, 100) n;
CREATE TABLE item_copy (a int, b varchar, v text, n int, PRIMARY KEY (b, a));
INSERT INTO item_copy SELECT n, chr(97 + n % 5), 'old', n FROM generate_series(81, 160) n;
CREATE TABLE total (a bigint PRIMARY KEY, n bigint);
INSERT INTO total SELECT n, 0 FROM generate_series(-50, 3) n;
CREATE TABLE parts (a int, v text, UNIQUE (a)) PARTITION BY RANGE (a);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (50);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT n, 'x' FROM generate_series(-30, 130) n;
INSERT INTO parts VALUES (NULL, 'null');
});

# ------------------------------------------------------------------------
# What is deleted, and what is not written

upsert($node, 'item', q{'item', 'item_copy', delete_missing => true, page_size => 10});
is(run_upsert($node, 'item'), 'success 26 160', 'ten pages of the source, sixteen of the target');
is(difference($node, 'SELECT a, b, v, n FROM item', 'TABLE item_copy'), '', 'they are equal');
is(run_upsert($node, 'item'), 'success 20 0', 'once more, nothing is written');
$node->safe_psql('postgres', 'DELETE FROM item WHERE a IN (1, 50, 100)');
is(run_upsert($node, 'item'), 'success 20 3', 'rows deleted in the source are deleted');
is(difference($node, 'SELECT a, b, v, n FROM item', 'TABLE item_copy'), '', 'they alone');
upsert($node, 'total', q{'SELECT a % 10 AS a, sum(n) AS n FROM item GROUP BY 1', 'total', delete_missing => true, page_size => 4});
is(run_upsert($node, 'total'), 'success 18 60', 'a source that no index can page');
is(difference($node, 'SELECT a % 10, sum(n) FROM item GROUP BY 1', 'TABLE total'), '', 'works the same');
upsert($node, 'parts', q{'SELECT a, v FROM item', 'parts', key => '{a}', delete_missing => true, page_size => 30});
like(run_upsert($node, 'parts'), qr/^success/, 'a partitioned target');
is(difference($node, 'SELECT a, v FROM item', 'SELECT * FROM parts WHERE a IS NOT NULL'), '', 'too');
shows($node, 'SELECT v FROM parts WHERE a IS NULL', 'null', 'a row whose key is null is in no page, and stays');
$node->safe_psql('postgres', 'TRUNCATE item');
is(run_upsert($node, 'item'), 'success 10 97', 'an empty source empties the target');
is(run_upsert($node, 'item'), 'success 0 0', 'and then there is nothing to do');

# ------------------------------------------------------------------------
# Killed in all kinds of pages and at their borders

make_kill_once($node);
foreach my $kind ('table', 'aggregate')
{
	my $source = $kind eq 'table' ? "'big'" : q{'SELECT id, max(v) AS v FROM big GROUP BY id'};

	$node->safe_psql('postgres', qq{
DROP TABLE IF EXISTS big, big_copy;
CREATE TABLE big (id int PRIMARY KEY, v text);
INSERT INTO big SELECT n, 'v' || n FROM generate_series(1, 60) n;
CREATE TABLE big_copy (LIKE big INCLUDING ALL);
INSERT INTO big_copy SELECT n, 'old' FROM generate_series(-20, 0) n;
INSERT INTO big_copy SELECT n, 'old' FROM generate_series(101, 120) n;
CREATE OR REPLACE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM kill_once('$kind ' || coalesce(NEW.id, OLD.id) || TG_ARGV[0]);
	RETURN NULL;
END \$\$;
CREATE TRIGGER die_1 AFTER INSERT ON big_copy FOR EACH ROW WHEN (NEW.id = 35) EXECUTE FUNCTION die('');
CREATE CONSTRAINT TRIGGER die_2 AFTER INSERT ON big_copy DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (NEW.id = 60) EXECUTE FUNCTION die(' commit');
CREATE TRIGGER die_3 AFTER DELETE ON big_copy FOR EACH ROW WHEN (OLD.id = -15) EXECUTE FUNCTION die('');
CREATE CONSTRAINT TRIGGER die_4 AFTER DELETE ON big_copy DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (OLD.id IN (0, 120)) EXECUTE FUNCTION die(' commit');
});
	upsert($node, $kind, "$source, 'big_copy', delete_missing => true, page_size => 20", 'retries => 0');
	my $crashes = crash_count($node);
	my $run = trigger($node, $kind);

	wait_through_crashes($node, $crashes + 5);
	is(patiently { wait_for_run($node, $run) }, 'success', "$kind: killed five times");
	is(progress($node, $run), 'success 9 101', 'each page and row counts once');
	is(difference($node, 'TABLE big', 'TABLE big_copy'), '', 'source and target are equal');
}

$node->stop;
done_testing();
