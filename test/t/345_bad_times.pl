
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
foreach my $date ('4714-11-24 00:00:00 BC', '4713-11-24 00:00:00 BC', '294276-12-31 23:59:59')
{
	my $run = trigger($node, 'first', logical_date => $date);

	is(wait_for_run($node, $run), 'success', "a run for $date ends");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM flow.dag_run WHERE dag_id <> 'first'}),
	'0', 'and sets nothing off');

# Their success is taken back.
my $ran = $node->safe_psql('postgres', q{SELECT sum(try_number) FROM flow.task_run WHERE dag_id = 'first'});

$node->safe_psql('postgres', q{SELECT flow_clear('first')});
wait_for($node, qq{SELECT sum(try_number) = $ran + 3 AND every(state = 'success') FROM flow.task_run WHERE dag_id = 'first'}, 'the runs to be run again');
is($node->safe_psql('postgres', q{SELECT count(*) FROM flow.dag_log WHERE dag_id = 'first'}), '3', 'runs at the ends of time are run again');

# DAGs whose timezone the server no longer has.
define($node, q{
SELECT flow_create_dag('sound', '@daily', '2024-06-01');
SELECT flow_create_dag('gone_interval', end_date => '2030-01-01', timezone => 'Asia/Tokyo');
SELECT flow_create_dag('gone_date', timezone => 'Asia/Tokyo');
SELECT flow_create_dag('gone_waiting', '@daily', '2024-06-01', timezone => 'Asia/Tokyo');
SELECT flow_create_dag('gone_backfill', '@daily', '2024-05-01', timezone => 'Asia/Tokyo', is_paused => true);
SELECT flow_create_dag('follows');
SELECT flow_add_sql(dag_id, 'a', 'SELECT 1') FROM flow.dag WHERE dag_id ~ '^(sound|gone|follows)';
SELECT flow_add_dependency('sound', 'gone_interval'), flow_add_dependency('first', 'gone_date'),
	flow_add_dependency('outside', 'gone_waiting'), flow_add_dependency('gone_waiting', 'follows'), flow_add_dependency('first', 'follows');
});
advance($node, '2024-06-02 12:00:00+00');
my $backfill = backfill($node, 'gone_backfill', '2024-05-01', '2024-05-01', run_window => q{'01:00-02:00'});
wait_for($node, q{SELECT count(*) = 0 FROM flow.request}, 'the backfill to be taken up');
my $runs = q{SELECT string_agg(dag_id || ' ' || n || ' ' || state, ', ' ORDER BY dag_id, state) FROM (
	SELECT dag_id, state, count(*) AS n FROM flow.dag_run WHERE dag_id ~ '^(sound|gone|follows)' GROUP BY 1, 2) r};
is($node->safe_psql('postgres', $runs), 'gone_backfill 1 queued, gone_interval 1 success, gone_waiting 1 queued, sound 1 success',
	'runs of DAGs in a timezone');

$node->safe_psql('postgres', q{UPDATE flow.dag SET timezone = 'Gone/Place' WHERE dag_id ~ '^gone'});
my $offset = -s $node->logfile;
my $pid = scheduler_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_for_scheduler($node, not_pid => $pid);
is(wait_for_run($node, trigger($node, 'first', logical_date => '2024-06-02 00:00:00')), 'success', 'the timezone is gone: other DAGs run');
$node->safe_psql('postgres', q{INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('outside', '2024-06-02')});
advance($node, '2024-06-04 12:00:00+00');
is($node->safe_psql('postgres', $runs), 'gone_backfill 1 queued, gone_interval 1 success, gone_waiting 1 queued, sound 3 success',
	'by schedule, too, and only those');
my $log = slurp_file($node->logfile, $offset);
like($log, qr/dag "gone_$_" is not run: .*\n.*invalid timezone "Gone\/Place"/, "the log says that gone_$_ does not") foreach qw(interval date waiting backfill);
unlike($log, qr/ERROR: /, 'it is no error of the scheduler');
is($node->safe_psql('postgres', q{SELECT count(*) FROM flow.dag_status WHERE dag_id ~ '^gone'}), '4', 'flow.dag_status shows them');

$node->safe_psql('postgres', q{SELECT flow_alter_dag(dag_id, timezone => 'Asia/Tokyo') FROM flow.dag WHERE dag_id ~ '^gone'});
wait_for($node, q{SELECT count(*) = 0 FROM flow.request}, 'the timezone to be known');
advance($node, $_) foreach '2024-06-05 01:30:00+09', '2024-06-05 12:00:00+00';
is($node->safe_psql('postgres', $runs),
	'gone_backfill 1 success, gone_interval 2 success, gone_waiting 3 queued, gone_waiting 1 success, sound 4 success',
	'in a timezone that there is they run');

# A schedule that goes on from where a backfill has been already.
define($node, q{
SELECT flow_create_dag('continuous', NULL, '2024-06-01');
SELECT flow_add_sql('continuous', 'a', 'SELECT 1');
});
$backfill = $node->safe_psql('postgres', q{SELECT flow_backfill('continuous', span => '[2024-06-01 00:00+00, 2024-06-03 00:00+00)')});
is(wait_for_backfill($node, $backfill), 'success', 'a backfill before there is a schedule');
$node->safe_psql('postgres', q{SELECT flow_alter_dag('continuous', '@continuous')});
my $spans = q{SELECT string_agg(format('%s %s %s-%s', run_type, state, to_char(data_interval_start, 'DD HH24'), to_char(data_interval_end, 'DD HH24')), ', ' ORDER BY logical_date)
	FROM flow.dag_run WHERE dag_id = 'continuous'};
wait_for($node, $spans, 'the next run', expected => 'backfill success 01 00-03 00, scheduled success 03 00-05 12');
advance($node, '2024-06-05 13:00:00+00');
is($node->safe_psql('postgres', q{SELECT range_agg(tstzrange(data_interval_start, data_interval_end)) FROM flow.dag_run WHERE dag_id = 'continuous' AND state = 'success'}),
	'{["2024-06-01 00:00:00+00","2024-06-05 13:00:00+00")}', '@continuous leaves nothing out after a backfill, and goes on');

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
