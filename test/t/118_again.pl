
# What the scheduler has been asked for, and what it was about, is still known
# when it begins again.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node('again', conf => q{
flowpg.simulated_now = '2024-01-10 00:00:00+00'
flowpg.max_workers = 4
});

$node->safe_psql('postgres', q{
CREATE TABLE done (run_id bigint, task text, try int);
CREATE FUNCTION work() RETURNS void LANGUAGE sql AS $$
	INSERT INTO done SELECT run_id, task_id, try_number FROM flow_context() $$;
});

sub tries
{
	my ($run) = @_;

	return value($node, "SELECT string_agg(task || ':' || try, ' ' ORDER BY task, try) FROM done WHERE run_id = $run");
}

sub begin_again
{
	my $pid = scheduler_pid($node);

	value($node, "SELECT pg_terminate_backend($pid)");
	return wait_for_scheduler($node, not_pid => $pid);
}

sub wait_for_no_request
{
	return wait_for($node, 'SELECT count(*) = 0 FROM flow.request', 'the scheduler to have done what was asked');
}

# ------------------------------------------------------------------------
# Tasks marked before their run has started

define($node, q{
SELECT flow_create_dag('marked', NULL, max_active_runs => 1);
SELECT flow_add_sql('marked', 'a', 'SELECT pg_advisory_xact_lock_shared(1), work()');
SELECT flow_add_sql('marked', 'b', 'SELECT work()', upstream => '{a}');
});
my $gate = close_gate($node, 1);
my @runs = map { trigger($node, 'marked') } 1 .. 2;
wait_for_task($node, $runs[0], 'a', 'running');
value($node, "SELECT flow_mark($runs[1], 'a', 'success')");
wait_for_no_request();
begin_again();
$gate->open;
is(join(' ', map { wait_for_run($node, $_) } @runs), 'success success', 'a run that was marked before its start runs after the scheduler has begun again');
is(tries($runs[1]), 'b:1', 'and does not do what was marked');

define($node, q{
SELECT flow_create_dag('daily', '@daily', start_date => '2024-01-01', is_paused => true, max_active_runs => 1);
SELECT flow_add_sql('daily', 'a', 'SELECT pg_advisory_xact_lock_shared(2), work()');
SELECT flow_add_sql('daily', 'b', 'SELECT work()', upstream => '{a}');
SELECT flow_add_sql('daily', 'c', 'SELECT work()');
});
$gate = close_gate($node, 2);
my $backfill = backfill($node, 'daily', '2024-01-01', '2024-01-02');
wait_for($node, q{SELECT count(*) = 1 FROM flow.task_run WHERE dag_id = 'daily' AND task_id = 'a' AND state = 'running'}, 'the first run to be under way');
my $run = value($node, q{SELECT max(run_id) FROM flow.dag_run WHERE dag_id = 'daily'});
value($node, "SELECT flow_mark($run, 'a', 'success'), flow_mark($run, 'c', 'failed')");
wait_for_no_request();
value($node, "SELECT flow_cancel_run($run)");
is(wait_for_run($node, $run), 'cancelled', 'a run that was marked is cancelled before its start');
$gate->open;
wait_for_backfill($node, $backfill);
is(wait_for_backfill($node, backfill($node, 'daily', '2024-01-02', '2024-01-02', reprocess => q{'failed'})), 'success', 'a backfill runs it again');
is(tries($run), 'b:1 c:1', 'without what was marked a success');

# ------------------------------------------------------------------------

unlike(slurp_file($node->logfile), qr/23505|duplicate key/, 'the scheduler has made no row twice');
$node->stop;
done_testing();
