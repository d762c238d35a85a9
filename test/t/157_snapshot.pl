
# A session holds its snapshot open, as a long query does, so that no dead
# version of a row can go: rows of flowpg that are written with each run are
# found without walking past all of theirs.
#
# Counted are the entries that indexes have returned, which have no limit in
# time, but show a walk.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $nruns    = 288;
my $triggers = 150;

# Names as long as can be: few versions of a row fit on a page, and so most have
# an entry of their own in the index.
my ($hourly, $by_hand, $follows) = map { $_ . "\xf0\x90\x8d\x88" x 240 } qw(hourly by_hand follows);

my $node = new_node('snapshot', conf => "autovacuum = off\nflowpg.simulated_now = '2024-01-01 00:00+00'\n");

define($node, qq{
SELECT flow_create_dag('$hourly', '\@hourly', '2024-01-01', '2024-01-12', max_active_runs => 1);
SELECT flow_add_sql('$hourly', 'load', 'SELECT 1');
SELECT flow_create_dag('$follows', '\@hourly', '2024-01-01', '2024-01-12', max_active_runs => 1);
SELECT flow_add_sql('$follows', 'load', 'SELECT 1');
INSERT INTO flow.dependency_manager VALUES ('$hourly', '$follows');
SELECT flow_create_dag('$by_hand');
SELECT flow_add_sql('$by_hand', 'load', 'SELECT 1');
});

# the first rows of all are there before
advance($node, '2024-01-01 01:00+00');
is(wait_for_run($node, trigger($node, $by_hand)), 'success', 'the first run by hand');

my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM flow.coverage');

sub entries_read
{
	# a process tells of them when it ends, at the latest
	my $pid = scheduler_pid($node);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_scheduler($node, not_pid => $pid);
	return map { split /\|/ } split /\n/, value($node, q{
		SELECT relname, coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0) + (SELECT coalesce(sum(idx_tup_read), 0)
			FROM pg_stat_all_indexes i WHERE i.relid = t.relid)
		FROM pg_stat_all_tables t WHERE schemaname = 'flow' AND relname IN ('coverage', 'dag_log', 'request', 'dag_progress')});
}

my %before = entries_read();
advance($node, '2024-01-13 00:00+00');
shows($node, q{SELECT state, count(*) FROM flow.dag_run WHERE run_type = 'scheduled' GROUP BY 1}, 'success|' . 2 * $nruns,
	'two DAGs run while a snapshot is held');
is(wait_for_run($node, trigger($node, $by_hand)), 'success', "run $_ by hand") for 1 .. $triggers;
my %after = entries_read();

# rows that are written, and read, so often; nothing of it is done at once, for
# which more is read
my %often = (coverage => 3 * $nruns, dag_progress => 2 * $nruns, dag_log => 2 * $nruns + $triggers, request => $triggers);
foreach my $table (sort keys %often)
{
	my $read = $after{$table} - $before{$table};

	cmp_ok($read, '<=', 5 * $often{$table}, "$table: $read rows and entries read for $often{$table} rows");
}
$holder->quit;

# more requests in one transaction than are told of one by one
my @runs = split /\n/, $node->safe_psql('postgres', qq{SELECT flow_trigger('$by_hand') FROM generate_series(1, 300)});
wait_for($node, "SELECT count(*) = 300 FROM flow.dag_run WHERE run_id BETWEEN $runs[0] AND $runs[-1] AND state = 'success'",
	'300 runs');
shows($node, 'SELECT count(*) FROM flow.request', '0', '300 runs asked for at once have run, and no request is left');

# what was rolled back with a subtransaction is not there
shows($node, qq{
	DO \$\$ BEGIN
		PERFORM flow_trigger('$by_hand');
		BEGIN
			PERFORM flow_trigger('$by_hand');
			RAISE 'undone';
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END \$\$;
	SELECT 1}, '1', 'one trigger of two is undone');
wait_for($node, "SELECT count(*) = 1 FROM flow.dag_run WHERE run_id > $runs[-1] AND state = 'success'", 'the run');
shows($node, "SELECT count(*) FROM flow.dag_run WHERE run_id > $runs[-1]", '1', 'the other one runs');

$node->stop;
done_testing();
