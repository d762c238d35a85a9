
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
# Tasks that are to be cleared, and are still at a worker

define($node, q{
CREATE TABLE may_stop ();
CREATE FUNCTION stay() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM may_stop) LOOP
		BEGIN
			PERFORM pg_sleep(0.01);
		EXCEPTION WHEN query_canceled THEN
			NULL;
		END;
	END LOOP;
	RAISE 'has stopped';
END $$;
SELECT flow_create_dag('stubborn', NULL);
SELECT flow_add_sql('stubborn', 'a', 'SELECT CASE WHEN run.try_number = 1 THEN stay() ELSE pg_advisory_xact_lock_shared(3) END, work()');
SELECT flow_add_sql('stubborn', 'b', 'SELECT work()', upstream => '{a}');
});

sub clear_running
{
	value($node, 'TRUNCATE may_stop');
	my $run = trigger($node, 'stubborn');
	wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'flowpg worker' AND wait_event = 'PgSleep'}, 'the task to run');
	is(value($node, q{SELECT flow_clear('stubborn', task_ids => '{a}') > 0}), 't', 'a task that does not stop at once is cleared');
	wait_for($node, q{SELECT count(*) = 0 FROM flow.request WHERE kind = 'clear'}, 'it to be told to stop');
	return $run;
}

$run = clear_running();
begin_again();
value($node, 'INSERT INTO may_stop DEFAULT VALUES');
is(wait_for_run($node, $run), 'success', 'the scheduler begins again, and the task stops: it runs anew');
is(tries($run), 'a:2 b:1', 'with what follows');

# stopped while no scheduler was there
$run = clear_running();
my $pid = scheduler_pid($node);
signal_process('STOP', $pid);
value($node, 'INSERT INTO may_stop DEFAULT VALUES');
wait_for_task($node, $run, 'a', 'cancelled');
signal_process($_, $pid) foreach qw(TERM CONT);
wait_for_scheduler($node, not_pid => $pid);
is(wait_for_run($node, $run), 'success', 'the task stops while no scheduler is there: it runs anew');
is(tries($run), 'a:2 b:1', 'with what follows');
wait_for_no_request();

# a crash
$gate = close_gate($node, 3);
$run = clear_running();
$gate->open;
$node->stop('immediate');
$node->start;
$gate = close_gate($node, 3);
wait_for($node, "SELECT count(*) = 1 FROM flow.task_run WHERE run_id = $run AND task_id = 'a' AND try_number > 1", 'the task to run anew');
$gate->open;
is(wait_for_run($node, $run), 'success', 'after a crash of the server it runs anew, too');
wait_for_no_request();

# cancelled after all
$run = clear_running();
value($node, "SELECT flow_cancel_run($run)");
wait_for($node, "SELECT is_cancelling FROM flow.dag_run WHERE run_id = $run", 'the run to be cancelled');
begin_again();
value($node, 'INSERT INTO may_stop DEFAULT VALUES');
is(wait_for_run($node, $run), 'cancelled', 'a run that is cancelled after it was cleared is cancelled');
wait_for_no_request();

# ------------------------------------------------------------------------
# A run that cannot end just now, for a session has a lock on what it writes

define($node, q{
SELECT flow_create_dag('held', NULL);
SELECT flow_add_sql('held', 'a', 'SELECT work()');
});
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('held', '2024-01-10')});
$run = trigger($node, 'held');
wait_for_task($node, $run, 'a', 'success');
is(value($node, q{SELECT flow_clear('held')}), '1', 'a task is cleared of a run that cannot end just now');
wait_for_log_line($node, qr/has put off request \d+ \(clear, dag "held"/);
$session->query_safe('ROLLBACK');
$session->quit;
wait_for_no_request();
is(wait_for_run($node, $run), 'success', 'the run succeeds');
is(tries($run), 'a:1 a:2', 'and has done it again');

# ------------------------------------------------------------------------

unlike(slurp_file($node->logfile), qr/23505|duplicate key/, 'the scheduler has made no row twice');
$node->stop;
done_testing();
