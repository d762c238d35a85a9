
# Fail-over: the primary is killed under load and a standby promoted; a backup
# is restored to a point in time.  Both go on by themselves, with nothing lost
# and nothing twice of what they have.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FlowpgTest;
use FlowpgLoad;

my $primary = new_node('primary', durable => 1, streaming => 1, start => 0);
$primary->enable_archiving;
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION flowpg');
wait_for_scheduler($primary);
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# What has been done, against what is on record: "nothing lost" and "nothing
# twice" are that both agree for every task and page.
my $unequal = q{
SELECT coalesce(string_agg(format('%s/%s: %s effects of %s', r.run_id, t.task_id, e.n, t.rows_written), ', '), 'none')
FROM flow.task_run t JOIN flow.dag_run r USING (run_id)
	LEFT JOIN LATERAL (SELECT count(*) AS n FROM effect WHERE effect.run_id = r.run_id AND effect.task_id = t.task_id) e ON true
WHERE t.task_id <> 'copy' AND e.n <> CASE WHEN t.state = 'success' THEN 1 ELSE 0 END
};

# Tests that a server which has taken over has done everything, once.
sub goes_on
{
	my ($node, $name, $since) = @_;
	my $had = value($node, q{SELECT count(*) FROM flow.dag_run WHERE state = 'success'});
	my $last = value($node, 'SELECT coalesce(max(run_id), 0) FROM flow.dag_run');

	wait_for($node, "SELECT count(*) > $had FROM flow.dag_run WHERE state = 'success'", 'a run to succeed');
	note(sprintf '%s: %d runs were done, the next one is %.2f s after the start', $name, $had, time - $since);
	wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'load' AND state = 'success'}, 'the upsert');
	wait_for_backfill($node, 1);
	wait_for($node, "SELECT count(*) > 2 FROM flow.dag_run WHERE dag_id = 'tick' AND state = 'success' AND run_id > $last",
		'scheduled runs that have come since');
	$node->safe_psql('postgres', q{SELECT flow_pause('tick')});
	wait_for($node, q{SELECT count(*) = 0 FROM flow.dag_run WHERE state = 'running' OR state = 'queued' AND dag_id <> 'tick'},
		'the end of all runs');
	is(value($node, $unequal), 'none', "$name: each task has been done once, or is not on record as done");
	shows($node, q{SELECT state, count(*) FROM flow.dag_run WHERE dag_id = 'days' GROUP BY 1}, 'success|120',
		"$name: each day of the backfill has its run");
	shows($node, q{SELECT count(*), sum(n) FROM target}, '20000|20000', "$name: each row of the upsert is there, written once");
	shows($node, q{SELECT count(*) FROM (SELECT data_interval_start - lag(data_interval_end) OVER (ORDER BY logical_date) AS gap
			FROM flow.dag_run WHERE dag_id = 'tick') g WHERE gap <> '0'}, '0',
		"$name: no tick was left out or made twice");
	shows($node, q{SELECT upper(range_merge(covered)) - lower(range_merge(covered)), (SELECT count(*) FROM unnest(covered))
			FROM flow.coverage WHERE dag_id = 'days'}, '120 days|1', "$name: coverage has no hole");
	shows($node, q{SELECT state, problem IS NULL FROM flow.scheduler_status}, 'running|t', "$name: nobody had to adopt anything");
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)\b/, "$name: no process has crashed");
	return;
}

# ------------------------------------------------------------------------
# A standby runs nothing

$primary->safe_psql('postgres', q{
CREATE TABLE effect (run_id bigint, task_id text, try_number int);
CREATE TABLE source (id int PRIMARY KEY);
CREATE TABLE target (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.n := NEW.n + 1;
	PERFORM pass(NEW.id > 5000);
	RETURN NEW;
END $$;
CREATE TRIGGER count_write BEFORE INSERT OR UPDATE ON target FOR EACH ROW EXECUTE FUNCTION count_write();
INSERT INTO source SELECT generate_series(1, 20000);
CREATE FUNCTION pass(is_gated boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF is_gated THEN
		PERFORM pg_advisory_xact_lock_shared(1);
	END IF;
	RETURN true;
END $$;
});
# on the primary, what is past it is under way until the end
my $gate = close_gate($primary, 1);
define($primary, q{
SELECT flow_create_dag('days', '@daily', '2024-01-01', '2024-04-29', is_paused => true);
SELECT flow_add_sql('days', 'a', 'INSERT INTO effect VALUES (run.run_id, run.task_id, run.try_number)');
SELECT flow_add_sql('days', 'b', 'INSERT INTO effect VALUES (run.run_id, run.task_id, run.try_number);
	SELECT pass(run.ds > $$2024-02-01$$)', upstream => '{a}');
SELECT flow_create_dag('tick', '1 second', (now() AT TIME ZONE 'UTC')::timestamp(0) - interval '1 minute');
SELECT flow_add_sql('tick', 'a', 'INSERT INTO effect VALUES (run.run_id, run.task_id, run.try_number)');
SELECT flow_create_dag('load', NULL);
SELECT flow_add_upsert('load', 'copy', source => 'source', target => 'target',
	key => '{id}', page_size => 100);
});
my $slot_free = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'flowpg%'};
$primary->wait_for_catchup($standby);
is(value($standby, $slot_free), '0', 'a standby has no process of flowpg');
shows($standby, 'SELECT state, problem FROM flow.scheduler_status', 'stopped|this server is a standby: DAGs run on the primary',
	'it says why');
shows($standby, q{SELECT count(*) FROM flow.dag_status}, '3', 'but it can be read');
is(error_of($standby, q{SELECT flow_trigger('load')}), '25006 cannot execute flow_trigger() in a read-only transaction',
	'what would change something is refused');
is(error_of($standby, q{SELECT flow_adopt()}), '25006 cannot execute flow_adopt() in a read-only transaction', 'flow_adopt, too');

# ------------------------------------------------------------------------
# The primary is killed under load

$primary->safe_psql('postgres', q{
SELECT flow_trigger('load');
SELECT flow_backfill('days', '2024-01-01', '2024-04-29', max_active_runs => 3);
});
wait_for($primary, q{SELECT count(*) = 32 FROM flow.dag_run WHERE dag_id = 'days' AND state = 'success'}, 'part of the backfill');
wait_for($primary, q{SELECT count(*) > 1 FROM flow.task_run WHERE task_id = 'b' AND state = 'running'}, 'the tasks at the gate');
wait_for($primary, q{SELECT max(pages) > 10 FROM flow.task_run WHERE task_id = 'copy'}, 'part of the upsert');
$primary->safe_psql('postgres', q{SELECT pg_create_restore_point('middle')});
my $lsn = $primary->lsn('flush');
$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
$primary->poll_query_until('postgres', "SELECT last_archived_wal >= pg_walfile_name('$lsn') FROM pg_stat_archiver")
  or die 'the archive does not have the restore point';
$primary->wait_for_catchup($standby, 'replay', $lsn);
kill_server($primary);

shows($standby, q{SELECT string_agg(DISTINCT task_id, ' ' ORDER BY task_id) FROM flow.task_run WHERE state = 'running' AND task_id <> 'a'},
	'b copy', 'the standby has work that is under way');
is(value($standby, $slot_free), '0', 'and leaves it alone');
my $since = time;
$standby->promote;
goes_on($standby, 'promoted', $since);
$standby->stop;

# ------------------------------------------------------------------------
# A backup is restored to the moment of the restore point

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($primary, 'base', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', q{
recovery_target_name = 'middle'
recovery_target_action = promote
archive_mode = off
});
$since = time;
$restored->start;
$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'recovery has not ended';
goes_on($restored, 'restored', $since);
$restored->stop;
done_testing();
