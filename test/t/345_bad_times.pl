
# Times that a scheduler must survive: each of these once stopped it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FlowpgTest;

my $node = new_node('bad_times', conf => q{flowpg.simulated_now = '2024-06-01 00:00:00+00'});

# A run for a date on which nothing can end, of a DAG that others wait for.
define($node, q{
SELECT flow_create_dag('first');
SELECT flow_add_sql('first', 'a', 'SELECT 1');
SELECT flow_create_dag('by_date', timezone => 'Asia/Tokyo');
SELECT flow_add_sql('by_date', 'a', 'SELECT 1');
SELECT flow_create_dag('daily', '@daily', '2024-06-01', timezone => 'America/New_York');
SELECT flow_add_sql('daily', 'a', 'SELECT 1');
SELECT flow_add_dependency('first', 'by_date'), flow_add_dependency('first', 'daily');
});
foreach my $date ('4713-11-24 00:00:00 BC', '294276-12-31 23:59:59')
{
	my $run = trigger($node, 'first', logical_date => $date);

	is(wait_for_run($node, $run), 'success', "a run for $date ends");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM flow.dag_run WHERE dag_id <> 'first'}),
	'0', 'and sets nothing off');

# A long catchup of which each run waits for the one before, which has failed.
define($node, q{
SELECT flow_create_dag('stuck', '@hourly', '1900-01-01', depends_on_past => true, catchup => true);
CREATE TABLE divisor AS SELECT 0 AS n;
SELECT flow_add_sql('stuck', 'a', 'SELECT 1 / n FROM divisor');
});
wait_for($node, q{SELECT count(*) >= 1000 FROM flow.dag_run WHERE dag_id = 'stuck'}, 'runs to be made');
is(wait_for_run($node, trigger($node, 'first')), 'success', 'other runs go on');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM flow.dag_run WHERE dag_id = 'stuck'}),
	'<', 1100, 'no more runs are made than some that wait');

# They are made as those that wait get on.
$node->safe_psql('postgres', 'UPDATE divisor SET n = 1');
$node->safe_psql('postgres', q{SELECT flow_clear('stuck', '1900-01-01', '1900-01-01')});
wait_for($node, q{SELECT count(*) > 1500 FROM flow.dag_run WHERE dag_id = 'stuck' AND state = 'success'}, 'the runs after the failed one');
pass('the catchup goes on');

$node->stop;

done_testing();
