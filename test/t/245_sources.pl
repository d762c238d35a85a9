
# Sources of upserts that are no plain tables: views, materialized views,
# partitioned tables, joins, aggregates; what is read once is read under one
# snapshot.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node('sources');

$node->safe_psql('postgres', q{
CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL, amount int NOT NULL);
INSERT INTO account SELECT n, 'o' || n % 30, 100 FROM generate_series(1, 300) n;
CREATE TABLE owner (owner text PRIMARY KEY, name text);
INSERT INTO owner SELECT 'o' || n, 'name ' || n FROM generate_series(0, 29) n;
CREATE VIEW rich AS SELECT id, owner, amount FROM account WHERE amount >= 100;
CREATE MATERIALIZED VIEW frozen AS SELECT id, owner, amount FROM account;
CREATE UNIQUE INDEX ON frozen (id);
CREATE TABLE parted (id int, owner text, amount int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (150);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (150) TO (1000);
INSERT INTO parted TABLE account;
CREATE TABLE copy (id int PRIMARY KEY, owner text, amount int);
CREATE TABLE named (id int PRIMARY KEY, name text, amount int);
CREATE TABLE total (name text PRIMARY KEY, amount bigint);
});

foreach my $source ('rich', 'frozen', 'parted')
{
	$node->safe_psql('postgres', 'TRUNCATE copy');
	upsert($node, $source, "'$source', 'copy', page_size => 40");
	is(run_upsert($node, $source), 'success 8 300', "$source as source");
	is(difference($node, "TABLE $source", 'TABLE copy'), '', 'brings all rows');
	is(run_upsert($node, $source), 'success 8 0', 'once');
}
upsert($node, 'join', q{'SELECT a.id, o.name, a.amount FROM account a JOIN owner o USING (owner)', 'named', page_size => 40});
is(run_upsert($node, 'join'), 'success 8 300', 'a join');
is(difference($node, 'SELECT a.id, o.name, a.amount FROM account a JOIN owner o USING (owner)', 'TABLE named'), '', 'brings all rows');

# money that moves between two pages of an aggregate is neither lost nor doubled
$node->safe_psql('postgres', q{
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(45);
	RETURN NULL;
END $$;
CREATE TRIGGER stop AFTER INSERT ON total FOR EACH STATEMENT EXECUTE FUNCTION stop();
});
upsert($node, 'total', q{'SELECT o.name, sum(a.amount) AS amount FROM account a JOIN owner o USING (owner) GROUP BY o.name', 'total', page_size => 7});
my $gate = close_gate($node, 45);
my $run = trigger($node, 'total');
wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 45 AND NOT granted}, 'the first page');
$node->safe_psql('postgres', q{
UPDATE account SET amount = amount - 50 WHERE owner = 'o0';
UPDATE account SET amount = amount + 50 WHERE owner = 'o9';
});
$gate->open;
is(wait_for_run($node, $run), 'success', 'a join with an aggregate, whose tables change between its pages');
is(progress($node, $run), 'success 5 30', 'is paged');
shows($node, 'SELECT count(*), sum(amount), min(amount), max(amount) FROM total', '30|30000|1000|1000', 'from one snapshot');
is(run_upsert($node, 'total'), 'success 5 2', 'the next run sees the change');
shows($node, 'SELECT sum(amount), min(amount), max(amount) FROM total', '30000|500|1500', 'as a whole');

$node->stop;
done_testing();
