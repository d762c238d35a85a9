
# What the scheduler commits: on disk before an attempt is handed out, and no
# shutdown waits for a standby.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use FlowpgTest;
use FlowpgLoad;

my $node = new_node(
	'commits',
	streaming => 1,
	conf => q{
synchronous_commit = off
log_checkpoints = off
});

define($node, q{
SELECT flow_create_dag('d');
SELECT flow_add_sql('d', 'a', 'SELECT pg_advisory_xact_lock_shared(1)');
});

# ------------------------------------------------------------------------
# An attempt that has begun is on record after a crash, although nobody writes
# what has been committed asynchronously

# what stands in the way of the first scheduler after the crash
$node->safe_psql('postgres', q{
CREATE TABLE obstacle (n int);
INSERT INTO obstacle VALUES (1);
CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM public.obstacle) THEN
		RAISE 'an obstacle';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER stumble BEFORE UPDATE ON flow.task_run FOR EACH ROW EXECUTE FUNCTION stumble();
});
my $gate = close_gate($node, 1);
my $writer = value($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
$node->safe_psql('postgres', 'CHECKPOINT');
signal_process('STOP', $writer);
my $run = trigger($node, 'd');
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'flowpg worker' AND wait_event = 'advisory'}, 'the attempt to be at work');
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my @pids = split /\n/, value($node, 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
$node->kill9;
signal_process('KILL', $writer);
wait_for_exit(@pids);
# a zombie would keep a new postmaster from starting
usleep(10_000) while kill(0, $postmaster);
start_again($node);
is(value($node, "SELECT count(*) FROM flow.task_run WHERE run_id = $run"), '1',
	'with synchronous_commit = off, an attempt is on disk before it begins');

# ------------------------------------------------------------------------
# A first look that fails is done again as the first one after the crash

wait_for($node, q{SELECT problem = 'an obstacle' FROM flow.scheduler_status}, 'the scheduler to fail');
$gate = close_gate($node, 1);
$node->safe_psql('postgres', 'TRUNCATE obstacle');
wait_for($node, "SELECT try_number = 2 FROM flow.task_run WHERE run_id = $run", 'the next attempt');
is(value($node, "SELECT crashes FROM flow.task_run WHERE run_id = $run"), '1',
	'the crash is counted');
$gate->open;
is(wait_for_run($node, $run), 'success', 'it is done again');

# ------------------------------------------------------------------------
# A stop while a synchronous standby is not there

sub stops
{
	my ($what) = @_;

	ok($node->stop('fast', fail_ok => 1), "the server stops: $what") and return;
	$node->kill9;
	die 'it does not stop';
}

$node->append_conf('postgresql.conf', q{
synchronous_commit = on
synchronous_standby_names = 'nobody'
});
$node->reload;
wait_for($node, q{SELECT current_setting('synchronous_standby_names') = 'nobody'}, 'the reload');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, 'all commits');
$run = value($node, q{SET synchronous_commit = local; SELECT flow_trigger('d')});
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'flowpg scheduler' AND wait_event = 'SyncRep'}, 'its commit to wait');
stops('the scheduler waits for a standby');

# looked at before the scheduler takes it back
$node->append_conf('postgresql.conf', q{
flowpg.enabled = off
});
$node->start;
is(value($node, 'SELECT has_stopped_cleanly FROM flow.instance'), 't', 'it has noted that it was a stop');

$node->append_conf('postgresql.conf', q{
flowpg.enabled = on
synchronous_standby_names = ''
});
$node->reload;
is(wait_for_run($node, $run), 'success', 'what was under way goes on');
wait_for($node, q{SELECT heartbeat < clock_timestamp() - interval '10 ms'
	AND next_wake_at > clock_timestamp() FROM flow.scheduler_status}, 'the scheduler to be idle');
$node->append_conf('postgresql.conf', q{
synchronous_standby_names = 'nobody'
});
$node->reload;
wait_for($node, q{SELECT current_setting('synchronous_standby_names') = 'nobody'}, 'the reload');
stops('the scheduler is idle');
done_testing();
