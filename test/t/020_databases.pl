
# Databases of one server: each on its own, and coming and going while runs are
# under way.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $node = new_node('databases', databases => []);

# Which databases have processes of a kind, by name.
sub databases_with
{
	my ($kind) = @_;

	return value($node, qq{
SELECT string_agg(DISTINCT datname, ' ' ORDER BY datname) FROM pg_stat_activity
WHERE backend_type LIKE 'flowpg $kind' AND datname IS NOT NULL});
}

# A database with the extension, its scheduler at work.
sub new_database
{
	my ($db) = @_;

	$node->safe_psql('postgres', qq{CREATE DATABASE "$db"});
	$node->safe_psql($db, 'CREATE EXTENSION flowpg');
	return wait_for_scheduler($node, db => $db);
}

# Keeps a worker of the database busy, with three more runs in the queue.
sub keep_busy
{
	my ($db) = @_;
	my $run;

	define($node, q{
CREATE TABLE IF NOT EXISTS slept (run_id bigint, try_number int);
SELECT flow_create_dag('busy', NULL, max_active_runs => 1);
SELECT flow_add_sql('busy', 'sleep', 'INSERT INTO slept
	VALUES (run.run_id, run.try_number);
	SELECT pg_sleep(CASE WHEN run.try_number = 1 THEN 600 ELSE 0 END)');
}, db => $db);
	$run = trigger($node, 'busy', db => $db);
	wait_for($node, "SELECT count(*) = 1 FROM flow.running WHERE run_id = $run",
		'the task to run', db => $db);
	return $run;
}

# Whether nothing of flowpg is connected to the database, or tries to be.
sub left_behind
{
	my ($oid) = @_;

	return value($node, "SELECT count(*) FROM pg_stat_activity WHERE datid = $oid");
}

# ------------------------------------------------------------------------
# A database gets its scheduler with the extension

is(process_count($node, 'launcher'), 1, 'one launcher');
is(databases_with('scheduler'), '', 'no scheduler where the extension is not installed');
new_database('sales');
new_database('stock');
is(databases_with('scheduler'), 'sales stock', 'CREATE EXTENSION brings a scheduler');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->safe_psql('plain', 'BEGIN; CREATE EXTENSION flowpg; ROLLBACK;');
is(error_of($node, 'SELECT flow_create_dag($$x$$)', db => 'plain'),
	'42883 function flow_create_dag(unknown) does not exist',
	'rolled back, it brings nothing');
$node->restart;
wait_for($node,
	q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'flowpg scheduler'},
	'two schedulers');
is(databases_with('scheduler'), 'sales stock', 'after a restart the same are there');

# also with more of them than are looked at at a time, and none beside them
my $crowd = new_node('crowd', databases => [ 'postgres', 'a', 'b', 'c', 'd' ]);
$crowd->restart;
wait_for_scheduler($crowd, db => $_) foreach 'postgres', 'a', 'b', 'c', 'd';
pass('each of five databases has a scheduler after a restart');
$crowd->stop;

# ------------------------------------------------------------------------
# Databases do not see each other

$node->safe_psql('postgres', q{
CREATE ROLE seller LOGIN;
CREATE ROLE keeper LOGIN;
});
foreach (['sales', 'seller'], ['stock', 'keeper'])
{
	my ($db, $role) = @$_;

	$node->safe_psql($db, qq{
SELECT flow_grant('$role');
CREATE TABLE done (db text, who text, run_id bigint, n int);
GRANT INSERT ON done TO $role;
});
	value_as($node, $role, q{
BEGIN;
SELECT flow_create_dag('load', '@daily', '2024-01-01', '2024-01-20', is_paused => true);
SELECT flow_add_sql('load', 'insert', 'INSERT INTO done
	SELECT current_database(), session_user, run.run_id, n FROM generate_series(1, 3) n');
COMMIT;
}, db => $db);
}
my %backfills;
foreach my $db ('sales', 'stock')
{
	my $role = $db eq 'sales' ? 'seller' : 'keeper';

	$backfills{$db} = value_as($node, $role, q{SELECT flow_backfill('load', '2024-01-01', '2024-01-20')}, db => $db);
}
foreach my $db ('sales', 'stock')
{
	my $role = $db eq 'sales' ? 'seller' : 'keeper';

	is(wait_for_backfill($node, $backfills{$db}, db => $db), 'success',
		"$db: a DAG of the same name runs");
	shows($node,
	'SELECT db, who, count(*), count(DISTINCT run_id) FROM done GROUP BY 1, 2',
	"$db|$role|60|20", "$db: as its owner, there only", db => $db);
	shows($node,
	'SELECT count(*) FROM flow.dag_run',
	'20', "$db: only its own runs are seen", db => $db);
	shows($node,
	q{SELECT count(*) FROM flow.worker_status
		WHERE database <> current_database() OR role::text <> '} . $role . q{'},
	'0', "$db: only its own workers are seen", db => $db);
}
is(error_as($node, 'keeper', q{SELECT flow_trigger('load')}, db => 'sales'), '42501 permission denied for function flow_trigger',
	'a role that is granted in one is not in the other');
my $gate = close_gate($node, 1, db => 'sales');
$node->safe_psql($_, q{
SELECT flow_create_dag('gated', NULL);
SELECT flow_add_sql('gated', 'pass', 'SELECT pg_advisory_xact_lock_shared(1)');
}) foreach ('sales', 'stock');
my $held = trigger($node, 'gated', db => 'sales');
wait_for_task($node, $held, 'pass', 'running', db => 'sales');
is(wait_for_run($node, trigger($node, 'gated', db => 'stock'), db => 'stock'), 'success',
	'a task that waits in one holds up none in the other');
shows($node,
	'SELECT count(*) FROM flow.running',
	'0', 'nor is it seen there', db => 'stock');
shows($node,
	'SELECT count(*) FROM flow.running',
	'1', 'but where it is', db => 'sales');
$gate->open;
is(wait_for_run($node, $held, db => 'sales'), 'success', 'and goes on');

# Pausing one's work does not pause the other's.
$node->safe_psql('sales',
	q{SELECT flow_create_pool('narrow', 0); SELECT flow_create_pool('narrower', 0)});
shows($node,
	'SELECT count(*) FROM flow.pool',
	'1', 'pools are of one database', db => 'stock');

# ------------------------------------------------------------------------
# DROP EXTENSION while a run is active

my $oid = value($node, q{SELECT oid FROM pg_database WHERE datname = 'stock'});
keep_busy('stock');
$node->safe_psql('stock', 'BEGIN; DROP EXTENSION flowpg; ROLLBACK;');
shows($node,
	'SELECT count(*) FROM flow.running',
	'1', 'DROP EXTENSION rolled back: the task runs on', db => 'stock');
$node->safe_psql('stock', 'DROP EXTENSION flowpg');
wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datid = $oid",
	'the processes to leave');
pass('DROP EXTENSION leaves no process behind');
shows($node,
	q{SELECT count(*) FROM pg_namespace WHERE nspname = 'flow'},
	'0', 'nor its schema', db => 'stock');
shows($node,
	q{SELECT count(*) FROM slept},
	'0', 'what was under way has left nothing', db => 'stock');
$node->safe_psql('stock', 'CREATE EXTENSION flowpg');
wait_for_scheduler($node, db => 'stock');
define($node, q{
SELECT flow_create_dag('fresh', NULL);
SELECT flow_add_sql('fresh', 'one', 'SELECT 1');
}, db => 'stock');
is(wait_for_run($node, trigger($node, 'fresh', db => 'stock'), db => 'stock'), 'success',
	'created again, it works again');

# ------------------------------------------------------------------------
# DROP DATABASE while a run is active

new_database('doomed');
$oid = value($node, q{SELECT oid FROM pg_database WHERE datname = 'doomed'});
keep_busy('doomed');
my $scheduler = scheduler_pid($node, db => 'doomed');
my ($worker) = worker_pids($node, db => 'doomed');

is(error_as($node, 'seller', 'DROP DATABASE doomed'),
	'42501 must be owner of database doomed', 'one who may not drop it gets an error');
is(error_as($node, 'seller', 'ALTER DATABASE doomed RENAME TO saved'),
	'42501 must be owner of database doomed', 'nor rename it');
is(error_as($node, 'seller', 'CREATE DATABASE copy TEMPLATE doomed'),
	'42501 permission denied to create database', 'nor copy it');
shows($node,
	'SELECT count(*) FROM flow.running WHERE worker_pid = ' . $worker,
	'1', 'and disturbs nothing', db => 'doomed');
is(scheduler_pid($node, db => 'doomed'), $scheduler, 'the scheduler is the same');

# fails, for a session that is not flowpg's is connected
my $session = $node->background_psql('doomed');
is(error_of($node, 'DROP DATABASE doomed'),
	'55006 database "doomed" is being accessed by other users',
	'a session keeps it from being dropped');
isnt(wait_for_scheduler($node, db => 'doomed', not_pid => $scheduler), '',
	'then the scheduler comes back');
wait_for($node,
	q{SELECT count(*) = 4 FROM flow.task_run t, generate_series(1, 4)
		WHERE state = 'success'},
	'the run', db => 'doomed');
shows($node,
	'SELECT try_number, state, message FROM flow.task_attempt ORDER BY 1',
	"1|failed|server stopped while the task was running\n2|success|",
	'and what had to leave runs again, although retries is 0', db => 'doomed');
shows($node,
	'SELECT count(*) FROM slept',
	'1', 'once', db => 'doomed');
$session->quit;
is(error_of($node, 'BEGIN; DROP DATABASE doomed; COMMIT;'),
	'25001 DROP DATABASE cannot run inside a transaction block',
	'in a transaction block it is refused');
wait_for_scheduler($node, db => 'doomed');
keep_busy('doomed');
$node->safe_psql('postgres', 'DROP DATABASE doomed');
is(left_behind($oid), '0', 'DROP DATABASE leaves no process behind');

# the same name again
new_database('doomed');
shows($node,
	'SELECT count(*) FROM flow.dag',
	'0', 'a new database of the name begins anew', db => 'doomed');
keep_busy('doomed');
$node->safe_psql('postgres', 'DROP DATABASE doomed WITH (FORCE)');
shows($node,
	q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'doomed'},
	'0', 'DROP DATABASE WITH (FORCE), too');

# ------------------------------------------------------------------------
# ALTER DATABASE ... RENAME while a run is active

new_database('old name');
$scheduler = scheduler_pid($node, db => 'old name');
my $run = keep_busy('old name');
$node->safe_psql('postgres', 'ALTER DATABASE "old name" RENAME TO "new name"');
wait_for_scheduler($node, db => 'new name', not_pid => $scheduler);
is(wait_for_run($node, $run, db => 'new name'), 'success', 'renamed, the run goes on');
shows($node,
	'SELECT run_id, try_number FROM slept',
	"$run|2", 'once', db => 'new name');
shows($node,
	'SELECT DISTINCT database FROM flow.worker_status',
	'new name', 'under the new name', db => 'new name');

# ------------------------------------------------------------------------
# CREATE DATABASE ... TEMPLATE while a run is active

$run = keep_busy('new name');
$scheduler = scheduler_pid($node, db => 'new name');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE "new name"');
wait_for_scheduler($node, db => 'new name', not_pid => $scheduler);
is(wait_for_run($node, $run, db => 'new name'), 'success',
	'copied, the run of the original goes on');
wait_for_scheduler($node, db => 'copy');
like(databases_with('scheduler'), qr/\bcopy\b.*\bnew name\b/,
	'the copy has a scheduler of its own');
shows($node,
	'SELECT count(*) FROM flow.dag',
	'1', 'and the definitions', db => 'copy');
shows($node,
	q{SELECT count(*) FROM flow.dag WHERE dag_id = 'busy'},
	'1', 'of the original', db => 'copy');
define($node, q{
SELECT flow_create_dag('own', NULL);
SELECT flow_add_sql('own', 'one', 'SELECT 1');
}, db => 'new name');
is(wait_for_run($node, trigger($node, 'own', db => 'new name'), db => 'new name'),
	'success', 'what is new in the original');
shows($node,
	q{SELECT count(*) FROM flow.dag WHERE dag_id = 'own'},
	'0', 'is not in the copy', db => 'copy');
is(error_of($node, 'CREATE DATABASE copy TEMPLATE "new name"'),
	'42P04 database "copy" already exists', 'a copy that fails');
wait_for_scheduler($node, db => 'new name');
is(wait_for_run($node, trigger($node, 'own', db => 'new name'), db => 'new name'),
	'success', 'leaves the original at work');

# A template itself has no scheduler; what is made from it has.
$node->safe_psql('postgres', 'CREATE DATABASE pattern IS_TEMPLATE true');
$node->safe_psql('pattern', 'CREATE EXTENSION flowpg');
$node->safe_psql('postgres', 'CREATE DATABASE "patterned" TEMPLATE pattern');
wait_for_scheduler($node, db => 'patterned');
unlike(databases_with('scheduler'), qr/(^| )pattern( |$)/, 'a template has no scheduler');
define($node, q{
SELECT flow_create_dag('own', NULL);
SELECT flow_add_sql('own', 'one', 'SELECT 1');
}, db => 'patterned');
is(wait_for_run($node, trigger($node, 'own', db => 'patterned'), db => 'patterned'),
	'success', 'a database made from it runs its DAGs');

# ------------------------------------------------------------------------
# Come and gone before a scheduler is well up

foreach my $n (1 .. 6)
{
	$node->safe_psql('postgres', 'CREATE DATABASE fleeting');
	$node->safe_psql('fleeting', 'CREATE EXTENSION flowpg');
	define($node, q{
SELECT flow_create_dag('d', NULL);
SELECT flow_add_sql('d', 'a', 'SELECT pg_sleep(600)');
SELECT flow_trigger('d') FROM generate_series(1, 3);
}, db => 'fleeting') if $n % 2;
	$node->safe_psql('fleeting', 'DROP EXTENSION flowpg') if $n % 3 == 0;
	$node->safe_psql('postgres', 'DROP DATABASE fleeting');
}
pass('databases that go at once can be dropped');

# ------------------------------------------------------------------------
# Nothing is left over

$node->safe_psql('postgres', qq{DROP DATABASE "$_"}) foreach ('copy', 'new name',
	'patterned', 'sales', 'stock');
is(databases_with('%'), '', 'without databases there are no schedulers and workers');
is(process_count($node, 'launcher'), 1, 'but the launcher');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)\b/,
	'no process has crashed');
$node->stop;
done_testing();
