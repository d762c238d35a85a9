
# What is older than flowpg.history_retention goes, with all that belongs to it,
# and nothing else does.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node('history');

# A new scheduler begins with a look at the history.
sub restart_scheduler
{
	my $pid = scheduler_pid($node);

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 10000)");
	wait_for($node, "SELECT pid <> $pid FROM flow.scheduler_status", 'another scheduler');
	return;
}

# As if a run had ended so long ago.
sub age
{
	my ($run, $age) = @_;

	$node->safe_psql('postgres', "UPDATE flow.dag_run SET started_at = now() - interval '$age', ended_at = now() - interval '$age' WHERE run_id = $run");
	return;
}

sub runs
{
	return value($node, q{SELECT string_agg(run_id::text, ' ' ORDER BY run_id) FROM flow.dag_run});
}

# ------------------------------------------------------------------------
# Runs of an old definition and of the present one, one that has not ended, and
# a backfill

define($node, q{
SELECT flow_create_dag('gated');
SELECT flow_add_sql('gated', 'a', 'SELECT pg_advisory_xact_lock_shared(1)');
SELECT flow_create_dag('d', '@daily', '2024-01-01', catchup => false, is_paused => true, retries => 1, retry_delay => '0', on_success => 'SELECT 1');
SELECT flow_add_sql('d', 'a', 'SELECT CASE WHEN run.try_number = 1 THEN 1 / 0 END');
SELECT flow_create_dag('gone');
SELECT flow_add_sql('gone', 'a', 'SELECT 1');
});
my $gate = close_gate($node, 1);
my $open = trigger($node, 'gated');
wait_for_task($node, $open, 'a', 'running');
my $old = trigger($node, 'd');
is(wait_for_run($node, $old), 'success', 'a run that will be old');
my $of_dropped = trigger($node, 'gone');
is(wait_for_run($node, $of_dropped), 'success', 'one of a DAG that is dropped');
my $backfill = backfill($node, 'd', '2024-01-01', '2024-01-03');
is(wait_for_backfill($node, $backfill), 'success', 'a backfill');
wait_for($node, q{SELECT count(*) = 4 AND count(ended_at) = 4 FROM flow.callback}, 'their callbacks have run');
define($node, q{SELECT flow_add_sql('d', 'a', 'SELECT 2')});
my $new = trigger($node, 'd');
is(wait_for_run($node, $new), 'success', 'a run of the next definition');
$node->safe_psql('postgres', q{SELECT flow_drop_dag('gone')});

is(value($node, "SELECT count(*) FROM flow.dag_run WHERE backfill_id = $backfill"), '3', 'runs of the backfill');
age($_, '91 days') foreach $old, $of_dropped, split /\n/, value($node, "SELECT run_id FROM flow.dag_run WHERE backfill_id = $backfill");
age($new, '89 days');
# a run of many tasks does not go in one step
$node->safe_psql('postgres', qq{
INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state) SELECT $old, 'd', 'x' || i, 1, 'success' FROM generate_series(1, 12000) i;
INSERT INTO flow.bad_row (run_id, dag_id, task_id, map_index, try_number, page, target, key, row_data, sqlstate, message, kept_at)
	SELECT r, 'd', 'a', -1, 1, 1, 't', '{}', '{}', '22012', 'division by zero', now() FROM unnest(ARRAY[$old, $new]) r;
UPDATE flow.backfill SET ended_at = now() - interval '91 days';
UPDATE flow.dag_version SET created_at = now() - interval '91 days';
UPDATE flow.dropped_dag SET dropped_at = now() - interval '91 days';
INSERT INTO flow.dag_version (dag_id, version, timezone, search_path, created_at) VALUES ('half gone', 1, 'UTC', 'public', now() - interval '89 days');
INSERT INTO flow.dropped_dag VALUES ('half gone', current_user::regrole, 1, now() - interval '91 days');
INSERT INTO flow.dag_log (dag_id, completion_date, completion_datetime) VALUES
	('outside', '2024-01-01', now() - interval '91 days'), ('outside', '2024-01-02', now() - interval '89 days');
UPDATE flow.dag_log SET completion_datetime = now() - interval '91 days' WHERE dag_id = 'd'});
is(value($node, q{SELECT count(*) FROM flow.attempt_history}), "4", "the first attempts of a run and of the backfill have failed") or diag(value($node, "TABLE flow.attempt_history"), "\n--\n", value($node, "SELECT run_id,task_id,try_number,state FROM flow.task_run WHERE task_id = 'a'"));

restart_scheduler();
wait_for($node, "SELECT count(*) = 2 FROM flow.dag_run", 'old runs are gone');
is(runs(), "$open $new", 'the one that has not ended stays, and the one that is not so old');
wait_for($node, q{SELECT count(*) = 0 FROM flow.dropped_dag WHERE dag_id = 'gone'}, 'and the rest is gone');
is(value($node, 'SELECT dag_id FROM flow.dropped_dag'), 'half gone', 'but whose a name is, while a definition of it is kept');
is(value($node, "SELECT string_agg(DISTINCT run_id::text, ' ') FROM flow.$_ WHERE run_id NOT IN ($open, $new)"), '', "nothing of them is left in $_")
  foreach qw(task_run attempt_history bad_row callback backfill_run);
is(value($node, 'SELECT count(*) FROM flow.bad_row'), '1', 'bad rows of others stay');
is(value($node, 'SELECT count(*) FROM flow.backfill'), '0', 'the backfill is gone');
is(value($node, q{SELECT string_agg(dag_id || ' ' || completion_date, ', ') FROM flow.dag_log WHERE dag_id <> 'gone'}), 'outside 2024-01-02', 'so are old rows of dag_log');
is(value($node, q{SELECT string_agg(dag_id || ' ' || version, ', ' ORDER BY dag_id) FROM flow.dag_version v
	WHERE NOT EXISTS (SELECT FROM flow.dag_run r WHERE (r.dag_id, r.version) = (v.dag_id, v.version))}), 'half gone 1', 'and definitions that no run uses, if they are old');
is(value($node, q{SELECT count(*) FROM flow.task_version t WHERE NOT EXISTS (SELECT FROM flow.dag_version v WHERE (v.dag_id, v.version) = (t.dag_id, t.version))}), '0', 'with their tasks');

# ------------------------------------------------------------------------
# Where the setting changes, it counts at once; 0 is for ever

age($new, '2000 days');
$node->safe_psql('postgres', $_) foreach q{ALTER SYSTEM SET flowpg.history_retention = 0}, 'SELECT pg_reload_conf()';
restart_scheduler();
my $next = trigger($node, 'd');
is(wait_for_run($node, $next), 'success', 'a run');
is(runs(), "$open $new $next", 'without a limit nothing goes');

# the scheduler keeps it in memory, and sees all the same that it is gone
$node->safe_psql('postgres', "DELETE FROM flow.$_ v USING flow.dag d WHERE d.dag_id = 'd' AND (v.dag_id, v.version) = (d.dag_id, d.version)")
  foreach qw(task_version dag_version);
my $after = trigger($node, 'd');
is(wait_for_run($node, $after), 'success', 'a definition that is gone is kept anew');
age($after, '2000 days');
$node->safe_psql('postgres', $_) foreach q{ALTER SYSTEM SET flowpg.history_retention = '30d'}, 'SELECT pg_reload_conf()';
wait_for($node, "SELECT count(*) = 2 FROM flow.dag_run", 'with one it does');
is(runs(), "$open $next", 'and nothing else');

$gate->open;
is(wait_for_run($node, $open), 'success', 'the first run of all ends as any');

$node->stop;
done_testing();
