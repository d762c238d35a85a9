
# A chain of DAGs that wait for each other, longer than the stack has room for.

use strict;
use warnings;

# The server inherits the limit, of which it leaves 512 kB alone.  Before the
# modules that take the output over.
BEGIN
{
	exec('/bin/sh', '-c', 'ulimit -s 640 && FLOWPG_SMALL_STACK=1 exec "$0" "$@"', $^X, (map { "-I$_" } @INC), $0)
	  unless $ENV{FLOWPG_SMALL_STACK};
}

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $length = 4000;
my $node = new_node(
	'chains', conf => q{
max_stack_depth = '100kB'
flowpg.simulated_now = '2024-05-10 00:00:00+00'
flowpg.max_workers = 2
});

# 1 has a schedule and fails; each other one waits for the one before.  From the
# end, so that a link is checked against nothing.
define($node, qq{
SELECT flow_create_dag('1', '\@daily', '2024-05-01', is_paused => true, max_active_runs => 1);
SELECT flow_add_sql('1', 'step', 'SELECT 1/0');
SELECT flow_create_dag(n::text), flow_add_sql(n::text, 'step', 'SELECT 1'), flow_add_dependency((n - 1)::text, n::text)
FROM (SELECT generate_series($length, 2, -1)) g (n);
SELECT flow_add_dependency('outside', '$length');
});

# ------------------------------------------------------------------------
# The schedule of the first gives all of them their intervals

is(value($node, "SELECT flow.speaks_by_date('$length'), flow.speaks_by_date('outside')"), 'f|t',
	'the last one speaks by intervals');

my $offset = -s $node->logfile;
value($node, q{INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('outside', '2024-05-03')});
my $run = trigger($node, $length, logical_date => '2024-05-02 12:00:00+00');
is(wait_for_run($node, $run), 'success', 'it runs when it is asked to');
is(value($node, "SELECT data_interval_start, data_interval_end FROM flow.dag_run WHERE run_id = $run"),
	'2024-05-02 00:00:00+00|2024-05-03 00:00:00+00', 'for an interval of the first one');
is(value($node, "SELECT count(*) FROM flow.dag_run"), '1', 'the word of an outside system is not enough for it');

# ------------------------------------------------------------------------
# A backfill whose first run fails; the last DAG has no word for it and is left out

my $backfill = backfill($node, '1', '2024-05-05', '2024-05-05', cascade => 'true');

is(wait_for_backfill($node, $backfill), 'failed', 'a backfill of all of them fails with the first one');
is(value($node, q{SELECT state, count(*), min(data_interval_start), max(data_interval_start) FROM flow.dag_run WHERE run_id > } . "$run GROUP BY state ORDER BY state"),
	'cancelled|' . ($length - 2) . "|2024-05-05 00:00:00+00|2024-05-05 00:00:00+00\nfailed|1|2024-05-05 00:00:00+00|2024-05-05 00:00:00+00",
	'and what was to run after it is cancelled');
unlike(slurp_file($node->logfile, $offset), qr/stack depth|terminated by signal/, 'nothing has run out of stack');

$node->stop;
done_testing();
