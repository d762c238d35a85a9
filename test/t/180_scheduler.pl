
# The scheduler between its cycles: what comes while it waits for something
# else is seen to before it sleeps.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node('scheduler', streaming => 1);

sub scheduler_waits_for
{
	my ($what) = @_;

	return wait_for($node, qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'flowpg scheduler' AND $what}, "the scheduler to wait: $what");
}

# Wakes the scheduler and waits until it has been through a cycle.
sub wait_for_cycle
{
	my $since = value($node, 'SELECT clock_timestamp()');

	$node->reload;
	return wait_for($node, "SELECT heartbeat > '$since' FROM flow.scheduler_status",
		'a cycle');
}

define($node, q{
SELECT flow_create_dag('held');
SELECT flow_add_sql('held', 'a', 'SELECT pg_advisory_xact_lock_shared(2)');
SELECT flow_create_dag('plain');
SELECT flow_add_sql('plain', 'a', 'SELECT 1');
});

# ------------------------------------------------------------------------
# Asked for while it waits for a lock, which resets its latch.  A worker is
# there already: the postmaster tells of one that it starts.

is(wait_for_run($node, trigger($node, 'plain')), 'success', 'a run');
$node->safe_psql('postgres', q{
CREATE FUNCTION wait_at_start() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(1);
	RETURN NEW;
END $$;
CREATE TRIGGER wait_at_start BEFORE UPDATE ON flow.dag_run FOR EACH ROW
	WHEN (NEW.dag_id = 'held' AND OLD.state = 'queued' AND NEW.state = 'running')
	EXECUTE FUNCTION wait_at_start();
});
my $start = close_gate($node, 1);
my $task = close_gate($node, 2);
my $held = trigger($node, 'held');
scheduler_waits_for(q{wait_event_type = 'Lock'});
my $plain = trigger($node, 'plain');
my $opened_at = value($node, 'SELECT clock_timestamp()');
$start->open;
wait_for_task($node, $held, 'a', 'running');
wait_for($node, qq{
SELECT EXISTS (SELECT FROM flow.dag_run WHERE run_id = $plain AND state = 'success')
	OR heartbeat > '$opened_at' AND next_wake_at > heartbeat + interval '10 s'
FROM flow.scheduler_status}, 'the scheduler to sleep, or the run to end');
isnt(run_state($node, $plain), 'queued',
	'what is asked for while the scheduler waits for a lock is not slept over');
$task->open;
is(wait_for_run($node, $plain), 'success', 'that run ends');
is(wait_for_run($node, $held), 'success', 'the other one, too');

# ------------------------------------------------------------------------
# flowpg.enabled off and on again

sub set_enabled
{
	my ($setting) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET flowpg.enabled = $setting");
	$node->reload;
	wait_for($node, "SELECT current_setting('flowpg.enabled') = '$setting'", 'the reload');
	wait_for_cycle();
	return;
}

my $behind = close_gate($node, 3);
define($node, q{
SELECT flow_create_dag('behind', '@daily', current_date - 3, max_active_runs => 1);
SELECT flow_add_sql('behind', 'a', 'SELECT pg_advisory_xact_lock_shared(3)');
});
wait_for($node, q{SELECT count(*) = 1 FROM flow.task_run WHERE dag_id = 'behind' AND state = 'running'},
	'the first of several runs that are due');
set_enabled('off');
$behind->open;
wait_for($node, q{SELECT state = 'success' FROM flow.dag_run WHERE dag_id = 'behind'}, 'it to end');
$plain = trigger($node, 'plain');
define($node, q{
SELECT flow_create_dag('due', '@daily', current_date - 1);
SELECT flow_add_sql('due', 'a', 'SELECT 1');
});
wait_for($node, 'SELECT count(*) = 0 FROM flow.request', 'the scheduler to know of both');
wait_for_cycle();
is(value($node, 'SELECT next_wake_at > heartbeat FROM flow.scheduler_status'), 't',
	'off, the scheduler sleeps although a run is due');
is(value($node, q{SELECT string_agg(dag_id || ' ' || state, ', ' ORDER BY dag_id)
	FROM flow.dag_run WHERE dag_id IN ('behind', 'due') OR run_id = } . $plain),
	'behind success, plain queued', 'off, nothing is made or started');
set_enabled('on');
is(wait_for_run($node, $plain), 'success', 'on again, it starts what was asked for meanwhile');
wait_for($node, q{SELECT count(*) = 3 FROM flow.dag_run WHERE dag_id = 'behind' AND state = 'success'},
	'all runs of the DAG that was behind');
wait_for($node, q{SELECT state = 'success' FROM flow.dag_run WHERE dag_id = 'due'}, 'the one that was due');
pass('on again, what is due is made up for');

# ------------------------------------------------------------------------
# A cancel that finds it idle

wait_for($node, q{SELECT count(*) = 0 FROM flow.dag_run WHERE state IN ('queued', 'running')}, 'all to end');
wait_for($node, q{SELECT next_wake_at > heartbeat + interval '1 s' FROM flow.scheduler_status}, 'it to be idle');
my $pid = scheduler_pid($node);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
is(wait_for_run($node, trigger($node, 'plain')), 'success', 'an idle scheduler that is cancelled goes on');
is(scheduler_pid($node), $pid, 'it is the same one');

$node->stop;
done_testing();
