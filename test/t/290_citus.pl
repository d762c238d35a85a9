
# Citus: the form of the statements, and that nothing runs on worker nodes.
# Where Citus is not installed, tables of the names that it keeps its own
# knowledge in stand for it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node('citus');
my $tables = q{
CREATE TABLE source (id int PRIMARY KEY, v text);
CREATE TABLE target (LIKE source INCLUDING ALL);
INSERT INTO source SELECT n, 'v' || n FROM generate_series(1, 100) n;
};

# ------------------------------------------------------------------------
# As a distributed table, by the word of pg_dist_partition alone

$node->safe_psql('postgres', $tables . q{
SET allow_system_table_mods = on;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass);
CREATE TABLE pg_catalog.pg_dist_local_group (groupid int);
INSERT INTO pg_catalog.pg_dist_partition VALUES ('target');
INSERT INTO pg_catalog.pg_dist_local_group VALUES (0);
CREATE TABLE ran (query text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ran VALUES (TG_OP);
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON target FOR EACH STATEMENT EXECUTE FUNCTION note();
});
upsert($node, 'spread', q{'source', 'target', page_size => 30});
is(run_upsert($node, 'spread'), 'success 4 100', 'a distributed table gets its rows');
is(run_upsert($node, 'spread'), 'success 4 0', 'and none again');
$node->safe_psql('postgres', q{UPDATE source SET v = 'changed' WHERE id IN (3, 95)});
is(run_upsert($node, 'spread'), 'success 4 2', 'but what has changed');
is(difference($node, 'TABLE source', 'TABLE target'), '', 'they are equal');
shows($node, 'SELECT query, count(*) FROM ran GROUP BY 1 ORDER BY 1', "INSERT|12\nUPDATE|12",
	'each page is one INSERT ... ON CONFLICT DO UPDATE');
like(error_of($node, q{SELECT flow_add_upsert('spread', 'load', 'source', 'target', delete_missing => true)}),
	qr/^0A000 .*distributed table/, 'rows of it are not deleted');
like(error_of($node, q{SELECT flow_add_upsert('spread', 'load', 'source', 'target', on_row_error => 'keep')}),
	qr/^0A000 .*another server/, 'nor looked for one by one');

# ------------------------------------------------------------------------
# A worker node, by the word of pg_dist_local_group

$node->safe_psql('postgres', 'UPDATE pg_catalog.pg_dist_local_group SET groupid = 3');
$node->restart;
my $run = trigger($node, 'spread');
wait_for($node, q{SELECT problem LIKE '%worker node of Citus%' FROM flow.scheduler_status}, 'the scheduler to say why nothing runs');
is(run_state($node, $run), 'queued', 'on a worker node nothing runs');
is(process_count($node, 'worker'), 0, 'and no worker is there');
$node->safe_psql('postgres', 'UPDATE pg_catalog.pg_dist_local_group SET groupid = 0');
is(run_upsert($node, 'spread'), 'success 4 0', 'what is made the coordinator runs');
is(wait_for_run($node, $run), 'success', 'also what waited');
shows($node, 'SELECT problem FROM flow.scheduler_status', '', 'and has no problem');
$node->stop;

# ------------------------------------------------------------------------
# Citus itself

SKIP:
{
	my $plain = PostgreSQL::Test::Cluster->new('plain');
	$plain->init;
	$plain->start;
	my $version = $plain->safe_psql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'citus'});
	$plain->stop;
	skip 'Citus is not installed', 5 unless $version;

	my $real = new_node('real_citus', conf => q{
shared_preload_libraries = 'citus, flowpg'
listen_addresses = '127.0.0.1'
citus.local_hostname = '127.0.0.1'
}, databases => []);
	$real->safe_psql('postgres', 'CREATE EXTENSION citus');
	$real->safe_psql('postgres', 'CREATE EXTENSION flowpg');
	wait_for_scheduler($real);
	$real->safe_psql('postgres', "SELECT citus_set_coordinator_host('127.0.0.1', " . $real->port . ")");
	$real->safe_psql('postgres', $tables . q{
SELECT create_distributed_table('source', 'id');
SELECT create_distributed_table('target', 'id', colocate_with => 'source')});
	upsert($real, 'spread', q{'source', 'target', page_size => 30});
	is(run_upsert($real, 'spread'), 'success 4 100', 'Citus: all rows are moved');
	is(run_upsert($real, 'spread'), 'success 4 0', 'Citus: nothing is written again');
	$real->safe_psql('postgres', q{UPDATE source SET v = 'changed' WHERE id IN (3, 95)});
	is(run_upsert($real, 'spread'), 'success 4 2', 'Citus: what has changed');
	is(difference($real, 'TABLE source', 'TABLE target'), '', 'Citus: they are equal');
	my $plan = value($real, q{EXPLAIN (COSTS off) INSERT INTO target AS t (id, v)
		SELECT s.id, s.v FROM source AS s WHERE (s.id) > (10) AND (s.id) <= (40)
		ON CONFLICT (id) DO UPDATE SET v = excluded.v WHERE (t.v IS DISTINCT FROM excluded.v)});
	unlike($plan, qr/pull to coordinator|repartition/, 'Citus: a page is pushed down');
	$real->stop;
}

done_testing();
