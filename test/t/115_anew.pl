
# What others leave behind or hold on to: a DAG that is dropped and defined
# anew over its predecessor's history, an extension dropped and made anew, a
# DROP EXTENSION that is rolled back, and sessions that hold locks on what the
# scheduler must write.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node('anew', conf => q{
flowpg.max_workers = 4
});

sub three_days
{
	my ($dag, $command) = @_;

	define($node, qq{
		SELECT flow_create_dag('$dag', '\@daily', '2024-03-01', '2024-03-03');
		SELECT flow_add_sql('$dag', 'a', '$command');
	});
}

sub runs_of
{
	my ($dag) = @_;

	return value($node, qq{SELECT string_agg(format('%s %s %s', logical_date::date, r.state, t.try_number), ', ' ORDER BY logical_date)
		FROM flow.dag_run r LEFT JOIN flow.task_run t USING (run_id) WHERE r.dag_id = '$dag'});
}

#
# A DAG anew
#
$node->safe_psql('postgres', 'CREATE TABLE done (command text, ds date)');
set_now($node, '2024-03-01 00:00+00');
three_days('daily', q{INSERT INTO done VALUES (''old'', run.ds)});
advance($node, '2024-03-10 00:00+00');
is(runs_of('daily'),
	'2024-03-01 success 1, 2024-03-02 success 1, 2024-03-03 success 1',
	'three days have run');

$node->safe_psql('postgres', q{SELECT flow_drop_dag('daily')});
is(value($node, q{SELECT count(*) FROM flow.coverage WHERE dag_id = 'daily'}),
	'0', 'a dropped DAG covers nothing');
three_days('daily', q{INSERT INTO done VALUES (''new'', run.ds)});
advance($node, '2024-03-10 00:00+00');
is(runs_of('daily'),
	'2024-03-01 success 2, 2024-03-02 success 2, 2024-03-03 success 2',
	'the new one takes over its intervals');
is(value($node, q{SELECT string_agg(command || ' ' || ds, ', ' ORDER BY command, ds) FROM done WHERE command = 'new'}),
	'new 2024-03-01, new 2024-03-02, new 2024-03-03',
	'and runs its own command');
is(value($node, q{SELECT covered FROM flow.coverage WHERE dag_id = 'daily'}),
	value($node, q{SELECT tstzmultirange(tstzrange('2024-03-01 00:00+00', '2024-03-04 00:00+00'))}),
	'what has succeeded is covered');

# also of which a task waits for its next try when it is dropped
foreach my $dag ('narrow', 'wide')
{
	my $definition = "SELECT flow_create_dag('$dag', '\@daily', '2024-03-09', '2024-03-09', "
	  . ($dag eq 'narrow' ? 'max_active_runs => 1, ' : '') . q{retries => 1, retry_delay => '1 day')};

	define($node, "$definition; SELECT flow_add_sql('$dag', 'a', 'SELECT 1/0')");
	wait_for($node, "SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = '$dag'", 'the run');
	my $taken = value($node, "SELECT run_id FROM flow.dag_run WHERE dag_id = '$dag'");
	wait_for_task($node, $taken, 'a', 'up_for_retry');
	my $gate = close_gate($node, 1);
	$node->safe_psql('postgres', qq{
		BEGIN;
		SELECT flow_drop_dag('$dag');
		$definition;
		SELECT flow_add_sql('$dag', 'first', 'SELECT pg_advisory_xact_lock_shared(1)');
		SELECT flow_add_sql('$dag', 'a', 'SELECT 1', upstream => '{first}');
		COMMIT;
	});
	wait_for_task($node, $taken, 'first', 'running');
	is(task_states($node, $taken), 'a= first=running', "$dag: a run that was under way is taken over as soon as it has ended");
	$gate->open;
	is(wait_for_run($node, $taken), 'success', 'and succeeds');
}
is(value($node, q{SELECT problem IS NULL OR problem = '' FROM flow.scheduler_status}),
	't', 'the scheduler is well');

#
# A DAG that is dropped and made anew while something is written for the old one
#
$node->safe_psql('postgres', q{
	CREATE TABLE held (place text);
	CREATE FUNCTION wait_while_held() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM public.held WHERE place = TG_ARGV[0]) LOOP
			BEGIN
				PERFORM pg_sleep(0.01);
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		END LOOP;
		RETURN NEW;
	END $$;
	CREATE TRIGGER hold_due BEFORE INSERT ON flow.dag_run FOR EACH ROW
		WHEN (NEW.dag_id = 'hasty') EXECUTE FUNCTION wait_while_held('due');
	CREATE TRIGGER hold_end BEFORE UPDATE ON flow.dag_run FOR EACH ROW
		WHEN (NEW.dag_id = 'hasty' AND NEW.state = 'success') EXECUTE FUNCTION wait_while_held('end');
	CREATE TABLE source (id serial PRIMARY KEY);
	INSERT INTO source SELECT nextval('source_id_seq') FROM generate_series(1, 3);
	CREATE TABLE target (id int PRIMARY KEY);
	CREATE TRIGGER hold_task BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION wait_while_held('task');
});

# makes the DAG, has the process wait at the place, makes it anew, lets go
sub make_anew_while_held
{
	my ($place, $kind, $dag, $cause) = @_;
	my $make = "SELECT flow_create_dag('hasty', $dag)";

	$node->safe_psql('postgres', "INSERT INTO held VALUES ('$place')");
	$cause->();
	wait_for($node, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'flowpg $kind' AND wait_event = 'PgSleep')",
		"the $kind to come to the place");
	$node->safe_psql('postgres', "SELECT flow_drop_dag('hasty')");
	$node->safe_psql('postgres', "BEGIN; $make; SELECT flow_add_upsert('hasty', 'load', 'source', 'target', incremental => true); COMMIT");
	$node->safe_psql('postgres', "DELETE FROM held");
}

my $march = q{'@daily', '2024-03-01', '2024-03-09'};
my $succeeded = q{SELECT count(*) FROM flow.dag_run WHERE dag_id = 'hasty' AND state = 'success'};
set_now($node, '2024-03-03 00:00+00');
define($node, "SELECT flow_create_dag('hasty', $march); SELECT flow_add_upsert('hasty', 'load', 'source', 'target', incremental => true)");
wait_for($node, "SELECT ($succeeded) = 2", 'two days');
make_anew_while_held('due', 'scheduler', $march, sub { set_now($node, '2024-03-06 00:00+00'); });
advance($node, '2024-03-07 00:00+00');
shows($node, $succeeded, '6', 'a run that was being made for the old DAG is no progress of the new one');
shows($node, q{SELECT covered FROM flow.coverage WHERE dag_id = 'hasty'},
	value($node, q{SELECT tstzmultirange(tstzrange('2024-03-01 00:00+00', '2024-03-07 00:00+00'))}),
	'which has covered all days');

make_anew_while_held('end', 'scheduler', 'NULL', sub { set_now($node, '2024-03-08 00:00+00'); });
wait_for($node, q{SELECT NOT EXISTS (SELECT FROM flow.dag_run WHERE dag_id = 'hasty' AND ended_at IS NULL)}, 'all runs to end');
shows($node, q{SELECT count(*) FROM flow.coverage WHERE dag_id = 'hasty'}, '0',
	'what is recorded of the end of a run of the old one covers nothing of the new one');

$node->safe_psql('postgres', 'TRUNCATE target');
make_anew_while_held('task', 'worker', 'NULL', sub { trigger($node, 'hasty'); });
wait_for($node, q{SELECT NOT EXISTS (SELECT FROM flow.dag_run WHERE dag_id = 'hasty' AND ended_at IS NULL)}, 'the run to end');
shows($node, q{SELECT count(*) FROM flow.position WHERE dag_id = 'hasty'}, '0',
	'nor is how far a task of the old one came a position of the new one');
$node->safe_psql('postgres', 'DROP FUNCTION wait_while_held CASCADE');
set_now($node, '2024-03-10 00:00+00');

#
# A session that holds what a run's end must write
#
define($node, q{
	SELECT flow_create_dag('logged');
	SELECT flow_add_sql('logged', 'a', 'SELECT 1');
	SELECT flow_create_dag('other');
	SELECT flow_add_sql('other', 'a', 'SELECT 1');
});
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{
	BEGIN;
	INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('logged', '2024-03-10');
});
my $held = trigger($node, 'logged');
wait_for_task($node, $held, 'a', 'success');
my $free = trigger($node, 'other');
is(value($node, "SELECT flow_wait_run($free, '1 min')"),
	'success', 'a lock on one DAG\'s log holds up no other DAG');
is(run_state($node, $held), 'running', 'the run that must write it waits');
$holder->query_safe('COMMIT');
is(value($node, "SELECT flow_wait_run($held, '1 min')"),
	'success', 'and ends when the lock is gone');
is(value($node, q{SELECT run_id FROM flow.dag_log WHERE dag_id = 'logged'}),
	$held, 'its row has replaced the session\'s');
$holder->quit;

#
# A session that holds what a due run is
#
define($node, q{
	SELECT flow_create_dag('due', '@daily', '2024-03-10', '2024-03-11');
	SELECT flow_add_sql('due', 'a', 'SELECT 1');
});
$holder = $node->background_psql('postgres');
$holder->query_safe(q{
	BEGIN;
	INSERT INTO flow.dag_run (dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at)
	VALUES ('due', 'backfill', '2024-03-10', '2024-03-10', '2024-03-11', 'cancelled', now());
});
set_now($node, '2024-03-12 00:00+00');
$free = trigger($node, 'due');
is(value($node, "SELECT flow_wait_run($free, '10 s')"), 'success', 'a due run that cannot be made holds up no other');
$free = trigger($node, 'other');
is(value($node, "SELECT flow_wait_run($free, '10 s')"), 'success', 'nor another DAG');
$holder->query_safe('COMMIT');
wait_for($node, q{SELECT count(*) = 1 FROM flow.dag_run WHERE dag_id = 'due' AND run_type = 'scheduled' AND state = 'success'}, 'the day after');
$holder->quit;

#
# A session that holds what says which DAGs a success sets off
#
define($node, q{
	SELECT flow_create_dag('first', '@daily', '2024-03-01', '2024-03-02', max_active_runs => 1);
	SELECT flow_add_sql('first', 'a', 'SELECT pg_advisory_xact_lock_shared(2)');
	SELECT flow_create_dag('second');
	SELECT flow_add_sql('second', 'a', 'SELECT 1');
	SELECT flow_add_dependency('first', 'second');
});
wait_for($node, q{SELECT count(*) = 2 FROM flow.dag_run WHERE dag_id = 'second' AND state = 'success'}, 'what two days have set off');
my $before = scheduler_pid($node);
my $closed = close_gate($node, 2);
define($node, q{SELECT flow_alter_dag('first', end_date => '2024-03-03')});
wait_for($node, q{SELECT count(*) = 1 FROM flow.running WHERE dag_id = 'first'}, 'a third day');
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE flow.dependency_manager');
$closed->open;
wait_for($node, q{SELECT count(*) = 3 FROM flow.dag_run WHERE dag_id = 'second' AND state = 'success'}, 'what the third one sets off');
$locker->query_safe('COMMIT');
$locker->quit;
is(scheduler_pid($node), $before, 'links that are locked hold up no run');

#
# DROP EXTENSION, rolled back to a savepoint; and made anew in one transaction
#
$node->safe_psql('postgres', q{
	BEGIN;
	SAVEPOINT s;
	DROP EXTENSION flowpg CASCADE;
	ROLLBACK TO s;
	COMMIT;
});
my $run = trigger($node, 'other');
is(value($node, "SELECT flow_wait_run($run, '1 min')"),
	'success', 'a DROP EXTENSION that was rolled back has dropped nothing');
is(scheduler_pid($node), $before, 'nor ended the scheduler');

$node->safe_psql('postgres', q{
	BEGIN;
	DROP EXTENSION flowpg CASCADE;
	CREATE EXTENSION flowpg;
	COMMIT;
});
wait_for_scheduler($node, not_pid => $before);
define($node, q{
	SELECT flow_create_dag('other');
	SELECT flow_add_sql('other', 'a', 'INSERT INTO done VALUES (''anew'', ''2024-01-01'')');
});
$run = trigger($node, 'other');
is(value($node, "SELECT flow_wait_run($run, '1 min')"),
	'success', 'an extension made anew has a scheduler of its own');
is(value($node, q{SELECT count(*) FROM done WHERE command = 'anew'}),
	'1', 'which runs what is defined now');

$node->stop;
done_testing();
