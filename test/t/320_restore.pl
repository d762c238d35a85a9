
# Copies: what a dump takes along, and that nothing of a restored or copied
# database runs before flow_adopt.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

my $server = new_node(
	'copies',
	databases => ['origin'],
	conf => "flowpg.simulated_now = '2024-01-03 00:00:00+00'");
my $problem = 'the DAGs of this database come from a dump or from another database, and wait for flow_adopt()';
my $dumps = $server->basedir;

# Everything that flowpg keeps of a database's DAGs, by table and sequence, and
# who has which rights.
sub contents
{
	my ($db) = @_;
	my @tables = split /\n/, value($server, q{
SELECT relname FROM pg_class WHERE relnamespace = 'flow'::regnamespace AND relkind = 'r'
AND relname NOT IN ('instance', 'request') ORDER BY relname}, db => $db);
	my @sequences = split /\n/, value($server, q{
SELECT relname FROM pg_class WHERE relnamespace = 'flow'::regnamespace AND relkind = 'S'
AND relname <> 'request_request_id_seq' ORDER BY relname}, db => $db);

	return value($server, join("\nUNION ALL\n",
			(map { "SELECT '$_: ' || t::text FROM flow.$_ t" } @tables),
			(map { "SELECT '$_: ' || last_value || is_called FROM flow.$_" } @sequences),
			q{SELECT c.relname || ': ' || a.grantee::regrole::text || ' ' || a.privilege_type
				FROM pg_class c, aclexplode(c.relacl) a WHERE relnamespace = 'flow'::regnamespace AND a.grantee <> c.relowner},
			q{SELECT p.oid::regprocedure || ': ' || a.grantee::regrole::text
				FROM pg_proc p, aclexplode(p.proacl) a WHERE proname LIKE 'flow%'})
		  . ' ORDER BY 1', db => $db);
}

sub dump_to
{
	my ($db, $name) = @_;

	return $server->command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/$name", $db ], "pg_dump of $db");
}

sub restore
{
	my ($name, $db, @options) = @_;

	return $server->command_ok([ 'pg_restore', '-d', $db, @options, "$dumps/$name" ],
		join(' ', "pg_restore into $db", @options));
}

sub wait_until_waiting
{
	my ($db) = @_;

	return wait_for($server, q{SELECT state = 'waiting' FROM flow.scheduler_status},
		"the scheduler of $db to wait", db => $db);
}

# What psql says beside results.
sub notices_of
{
	my ($sql, $db) = @_;
	my ($code, $stdout, $stderr) = $server->psql($db, $sql);

	return $stderr;
}

# ------------------------------------------------------------------------
# A database with a bit of everything; one task is at work

$server->safe_psql('origin', q{
CREATE ROLE etl LOGIN;
CREATE ROLE keeper LOGIN;
SELECT flow_grant('etl'), flow_grant('keeper');
SELECT flow_create_pool('default', 100), flow_create_pool('narrow', 2, 'few');
CREATE TABLE source (id int PRIMARY KEY, at timestamptz NOT NULL);
CREATE TABLE target (id int PRIMARY KEY, at timestamptz NOT NULL);
CREATE TABLE sales (day date, run_id bigint);
CREATE TABLE slow (run_id bigint, try_number int);
CREATE INDEX ON source (at, id);
INSERT INTO source SELECT n, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour'
	FROM generate_series(0, 47) n;
GRANT ALL ON source, target, sales, slow TO etl;
});
value_as($server, 'etl', q{
BEGIN;
SELECT flow_create_dag('load', '@daily', '2024-01-01');
SELECT flow_add_upsert('load', 'copy', source => 'SELECT * FROM source WHERE at < run.data_interval_end',
	target => 'target', page_by => '{at}', page_size => 10, incremental => true);
SELECT flow_create_dag('sales', NULL, on_success => 'SELECT 1');
SELECT flow_add_sql('sales', 'sum', 'INSERT INTO sales VALUES (run.ds, run.run_id)', pool => 'narrow');
SELECT flow_add_sql('sales', 'after', 'SELECT 1', upstream => '{sum}');
SELECT flow_add_dependency('load', 'sales');
SELECT flow_create_dag('fails', NULL, retries => 1, retry_delay => '0');
SELECT flow_add_sql('fails', 'fail', 'SELECT 1/0');
SELECT flow_create_dag('slow', NULL);
SELECT flow_add_sql('slow', 'wait', 'INSERT INTO slow VALUES (run.run_id, run.try_number);
	SELECT pg_advisory_xact_lock_shared(1)');
INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('outside', '2024-01-02');
COMMIT;
}, db => 'origin');
wait_for($server, q{SELECT count(*) = 2 FROM flow.dag_run WHERE dag_id = 'sales' AND state = 'success'},
	'two days of sales', db => 'origin');
is(wait_for_run($server, trigger($server, 'fails', db => 'origin'), db => 'origin'), 'failed',
	'one run has failed');
is(wait_for_backfill($server,
		backfill($server, 'sales', '2024-01-02', '2024-01-02', reprocess => "'completed'", db => 'origin'),
		db => 'origin'), 'success', 'there is a backfill');
my $gate = close_gate($server, 1, db => 'origin');
my $slow = trigger($server, 'slow', db => 'origin');
wait_for_task($server, $slow, 'wait', 'running', db => 'origin');
wait_for($server, q{SELECT count(*) = 0 FROM flow.callback WHERE state <> 'success'}, 'the callbacks', db => 'origin');

# ------------------------------------------------------------------------
# pg_dump, and pg_restore into the running server

my $before = contents('origin');
my $log_offset = -s $server->logfile;
dump_to('origin', 'first');
$gate->open;
$server->safe_psql('postgres', qq{CREATE DATABASE "$_"}) foreach ('copy', 'copy again', 'copy in parts');
restore('first', 'copy');
is(contents('copy'), $before, 'definitions, history, positions, sequences and grants are those of the original');
like($before, qr/^$_: /m, "there was some $_") foreach (
	'attempt_history', 'backfill', 'backfill_run', 'callback', 'coverage', 'dag_log', 'dag_progress', 'position',
	'task_dependency', 'task_version');
wait_until_waiting('copy');
shows($server, 'SELECT problem FROM flow.scheduler_status', $problem,
	'a restored database says what it waits for', db => 'copy');
shows($server, 'SELECT next_wake_at - heartbeat >= interval $$59 s$$ FROM flow.scheduler_status', 't',
	'its scheduler sleeps', db => 'copy');
shows($server, q{SELECT reason FROM flow_explain('load') WHERE subject = 'scheduler'}, $problem,
	'flow_explain says it, too', db => 'copy');
wait_for_log_line($server, qr/WARNING:  flowpg runs nothing in database "copy": .*\n.*HINT:  .*SELECT flow_adopt\(\)/, $log_offset);

# what is due runs in the original alone
$server->safe_psql('origin', q{INSERT INTO source VALUES (48, '2024-01-03 10:00+00')});
$server->safe_psql('copy', q{INSERT INTO source VALUES (49, '2024-01-03 11:00+00')});
set_now($server, '2024-01-04 00:00:00+00');
wait_for($server, q{SELECT count(*) = 3 FROM flow.dag_run WHERE dag_id = 'sales' AND state = 'success'},
	'the third day of the original', db => 'origin');
is(contents('copy'), $before, 'in the copy, nothing has run');
shows($server, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy' AND backend_type = 'flowpg worker'},
	'0', 'nor is there a worker');

# what is asked for waits
like(notices_of(q{SELECT flow_trigger('fails')}, 'copy'),
	qr/WARNING:  nothing runs in this database yet: .*\n.*HINT:  .*SELECT flow_adopt\(\)/, 'flow_trigger warns');
like(notices_of(q{SELECT flow_backfill('sales', '2024-01-01', '2024-01-01', reprocess => 'completed')}, 'copy'),
	qr/WARNING:  nothing runs in this database yet/, 'flow_backfill, too');
like(notices_of(q{SELECT flow_clear('load', '2024-01-02', '2024-01-02')}, 'copy'),
	qr/WARNING:  nothing runs in this database yet/, 'flow_clear, too');
is(notices_of(q{
BEGIN;
SELECT flow_create_dag('fails', NULL);
SELECT flow_add_sql('fails', 'fail', 'SELECT 1');
SELECT flow_create_dag('new', NULL);
SELECT flow_add_sql('new', 'one', 'SELECT 1');
COMMIT;
}, 'copy'), '', 'definitions can be changed');
is(error_of($server, q{SELECT flow_advance('2024-01-04 00:00+00')}, db => 'copy'),
	'55000 nothing runs in this database', 'flow_advance does not wait for ever');
shows($server, q{SELECT count(*) FROM flow.dag_run WHERE state = 'queued'}, '1', 'they are queued', db => 'copy');
$server->restart;
wait_until_waiting('copy');
pass('a restart changes nothing');

# ------------------------------------------------------------------------
# A dump of what waits, restored in other ways

dump_to('copy', 'second');
restore('second', 'copy again', '--single-transaction');
wait_until_waiting('copy again');
# by several sessions, but for flowpg's own tables, whose order matters
restore('second', 'copy in parts', '--section=pre-data');
restore('second', 'copy in parts', '--section=data', '--schema=flow');
wait_until_waiting('copy in parts');
restore('second', 'copy in parts', '--section=data', '--exclude-schema=flow', '--jobs=2');
restore('second', 'copy in parts', '--section=post-data', '--jobs=2');
is(contents($_), contents('copy'), "$_ has what was dumped") foreach ('copy again', 'copy in parts');

# ------------------------------------------------------------------------
# flow_adopt

is(error_as($server, 'etl', 'SELECT flow_adopt()', db => 'copy'),
	'42501 permission denied to execute flow_adopt()', 'not everybody may adopt');
$server->safe_psql('postgres', 'ALTER DATABASE copy OWNER TO keeper');
$gate = close_gate($server, 1, db => 'copy');
value_as($server, 'keeper', 'SELECT flow_adopt()', db => 'copy');
wait_for($server, "SELECT count(*) = 1 FROM flow.running WHERE run_id = $slow", 'the task that was running', db => 'copy');
shows($server, "SELECT try_number, crashes FROM flow.task_run WHERE run_id = $slow", '2|0', 'a restore is no crash', db => 'copy');
$gate->open;
$server->safe_psql('copy again', 'SELECT flow_adopt()');
foreach my $db ('copy', 'copy again')
{
	wait_for($server, q{SELECT count(*) = 0 FROM flow.dag_run WHERE state IN ('queued', 'running')},
		"all runs of $db", db => $db);
	wait_for($server, q{SELECT count(*) = 4 FROM flow.dag_run WHERE dag_id = 'sales'
		AND data_interval_end = '2024-01-04 00:00+00' OR dag_id = 'load' AND state = 'success'},
		"the third day of $db", db => $db);
	shows($server, q{SELECT state, problem IS NULL FROM flow.scheduler_status}, 'running|t',
		"$db: adopted, it runs", db => $db);
	shows($server, "SELECT try_number, state, message FROM flow.task_attempt WHERE run_id = $slow ORDER BY 1",
		"1|failed|server stopped while the task was running\n2|success|",
		'what was running in the dump runs again, although retries is 0', db => $db);
	shows($server, "SELECT try_number FROM slow WHERE run_id = $slow", '2', 'once', db => $db);
	shows($server, q{SELECT state FROM flow.dag_run WHERE dag_id = 'fails' ORDER BY run_id}, "failed\nsuccess",
		'the run that was asked for, by its new definition', db => $db);
	shows($server, q{SELECT count(*), min(state) FROM flow.backfill}, '2|success',
		'the backfill that was asked for', db => $db);
	shows($server, q{SELECT day, count(*) FROM sales GROUP BY 1 ORDER BY 1},
		"2024-01-01|2\n2024-01-02|2\n2024-01-03|1", 'each day as often as asked for, and none for want of history',
		db => $db);
	shows($server, q{SELECT try_number FROM flow.task_run JOIN flow.dag_run USING (run_id) WHERE dag_run.dag_id = 'load'
		ORDER BY logical_date}, "1\n2\n1", 'the run that was cleared', db => $db);
	shows($server, q{SELECT max(id), count(*) FROM target}, '49|49', 'the upsert goes on from its position', db => $db);
	shows($server, q{SELECT rows_written FROM flow.task_run JOIN flow.dag_run USING (run_id)
		WHERE dag_run.dag_id = 'load' AND logical_date = '2024-01-03 00:00+00'}, '1',
		'and brings what came since', db => $db);
}
like(notices_of('SELECT flow_adopt()', 'copy'), qr/NOTICE:  the DAGs of this database run here already/,
	'to adopt them again is no error');
shows($server, q{SELECT state FROM flow.scheduler_status}, 'waiting', 'the copy that was not adopted waits',
	db => 'copy in parts');
value($server, 'SELECT flow_adopt()', db => 'copy in parts');
wait_for($server, q{SELECT count(*) = 2 FROM flow.backfill WHERE state = 'success'}, 'its backfills',
	db => 'copy in parts');

# ------------------------------------------------------------------------
# CREATE DATABASE ... TEMPLATE

$gate = close_gate($server, 1, db => 'origin');
$slow = trigger($server, 'slow', db => 'origin');
wait_for_task($server, $slow, 'wait', 'running', db => 'origin');
$gate->open;
is(wait_for_run($server, $slow, db => 'origin'), 'success', 'the original runs all the time');
$server->safe_psql('postgres', 'CREATE DATABASE twin TEMPLATE origin');
wait_until_waiting('twin');
shows($server, 'SELECT problem FROM flow.scheduler_status', $problem, 'a database made from it waits', db => 'twin');
is(wait_for_run($server, trigger($server, 'slow', db => 'origin'), db => 'origin'), 'success', 'the original does not');
my $run = trigger($server, 'slow', db => 'twin');
shows($server, "SELECT state FROM flow.dag_run WHERE run_id = $run", 'queued', 'what is asked of it is queued', db => 'twin');
$server->safe_psql('twin', 'SELECT flow_adopt()');
is(wait_for_run($server, $run, db => 'twin'), 'success', 'until it is adopted');

# one without DAGs has nothing to ask about
$server->safe_psql('twin', 'SELECT flow_drop_dag(dag_id) FROM flow.dag');
$server->safe_psql('postgres', 'CREATE DATABASE blank TEMPLATE twin');
wait_for_scheduler($server, db => 'blank');
is(notices_of(q{
BEGIN;
SELECT flow_create_dag('own', NULL);
SELECT flow_add_sql('own', 'one', 'SELECT 1');
SELECT flow_trigger('own');
COMMIT;
}, 'blank'), '', 'a copy without DAGs needs no adoption');
wait_for($server, q{SELECT state = 'success' FROM flow.dag_run WHERE dag_id = 'own'}, 'the run of its first DAG', db => 'blank');

# ------------------------------------------------------------------------
# A dump on top of a database at work

my $load = q{INSERT INTO flow.dag SELECT (jsonb_populate_record(d, $${"dag_id": "%s"}$$)).* FROM flow.dag d WHERE dag_id = 'own'};
$server->safe_psql('blank', sprintf $load, 'more');
wait_until_waiting('blank');
pass('DAGs that are loaded beside those of the database have it wait');
$run = trigger($server, 'own', db => 'blank');
$server->safe_psql('blank', 'SELECT flow_adopt()');
is(wait_for_run($server, $run, db => 'blank'), 'success', 'adopted, it goes on');

# without triggers, which is told by their being switched off
$server->safe_psql('postgres', 'CREATE DATABASE other');
$server->safe_psql('other', q{
CREATE EXTENSION flowpg;
SELECT flow_create_dag('third', NULL);
});
dump_to('other', 'third');
restore('third', 'blank', '--data-only', '--disable-triggers', '--schema=flow', '--table=dag');
wait_until_waiting('blank');
shows($server, q{SELECT count(*) FROM flow.dag WHERE dag_id = 'third'}, '1',
	'DAGs that are loaded with triggers off have the database wait', db => 'blank');
$run = trigger($server, 'own', db => 'blank');
$server->safe_psql('blank', 'SELECT flow_adopt()');
is(wait_for_run($server, $run, db => 'blank'), 'success', 'adopted, it goes on once more');

# which has left the trigger on, but not for all that may load DAGs
$server->safe_psql('blank', 'SET session_replication_role = replica; ' . sprintf $load, 'without triggers');
wait_until_waiting('blank');
pass('DAGs that are loaded as a replica after that have it wait as well');
$server->safe_psql('blank', 'SELECT flow_adopt()');

# one that waits leaves workers to others; what is under way there ends
$server->safe_psql('postgres', 'ALTER SYSTEM SET flowpg.max_workers = 1');
$server->restart;
$server->safe_psql('blank', q{SELECT flow_add_sql('own', 'one', 'SELECT pg_advisory_xact_lock_shared(1)')});
$gate = close_gate($server, 1, db => 'blank');
$run = trigger($server, 'own', db => 'blank');
wait_for_task($server, $run, 'one', 'running', db => 'blank');
$server->safe_psql('blank', sprintf $load, 'still more');
wait_until_waiting('blank');
my $elsewhere = trigger($server, 'slow', db => 'origin');
$gate->open;
is(wait_for_run($server, $elsewhere, db => 'origin'), 'success', 'another database and role gets the worker');
shows($server, "SELECT state, try_number FROM flow.task_run WHERE run_id = $run", 'success|1', 'which has ended what it was at',
	db => 'blank');
$server->safe_psql('blank', 'SELECT flow_adopt()');
is(wait_for_run($server, $run, db => 'blank'), 'success', 'and counts when its DAGs go on');
shows($server, "SELECT try_number FROM flow.task_run WHERE run_id = $run", '1', 'without another try', db => 'blank');
$server->safe_psql('postgres', 'ALTER SYSTEM RESET flowpg.max_workers');
$server->restart;
wait_for_scheduler($server, db => 'blank');

# none is no change
$server->safe_psql('blank', 'INSERT INTO flow.dag SELECT * FROM flow.dag WHERE false');
shows($server, 'SELECT count(*) FROM flow.instance', '1', 'a load of no DAGs leaves the database at home', db => 'blank');
is(wait_for_run($server, trigger($server, 'own', db => 'blank'), db => 'blank'), 'success', 'and it goes on');

# ------------------------------------------------------------------------
# A role that was dropped: its number in a dump may be another role's elsewhere

my $nobody = q{SELECT (SELECT string_agg(DISTINCT owner::oid::text, ' ') FROM flow.dag),
	(SELECT string_agg(DISTINCT owner::oid::text, ' ') FROM flow.dropped_dag),
	(SELECT string_agg(logged_by::text, ' ' ORDER BY dag_id) FROM flow.dag_log)};
$server->safe_psql('other', q{
SELECT flow_drop_dag('third');
CREATE ROLE gone LOGIN;
SELECT flow_grant('gone'), flow_grant('etl');
});
value_as($server, 'gone', q{
SELECT flow_create_dag('left', NULL);
SELECT flow_add_sql('left', 'one', 'SELECT 1');
SELECT flow_create_dag('dropped', NULL);
SELECT flow_add_sql('dropped', 'one', 'SELECT 1');
SELECT flow_trigger('dropped');
SELECT flow_drop_dag('dropped');
INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('word', '2024-01-02');
}, db => 'other');
$server->safe_psql('other', q{
DELETE FROM flow.dropped_dag WHERE dag_id = 'third';
INSERT INTO flow.dag_log (dag_id, completion_date, logged_by) VALUES ('yours', '2024-01-02', 'etl');
});
like(value($server, $nobody, db => 'other'), qr/^(\d+)\|\1\|gone etl$/, 'rows of a role');
$server->safe_psql('other', 'DROP OWNED BY gone; DROP ROLE gone');
dump_to('other', 'custom');
$server->command_ok([ 'pg_dump', '--inserts', '-f', "$dumps/inserts", 'other' ], 'pg_dump with INSERT');
$server->safe_psql('postgres', qq{CREATE DATABASE "$_"}) foreach ('custom', 'inserts');
restore('custom', 'custom');
$server->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'inserts', '-f', "$dumps/inserts" ], 'psql');
foreach my $db ('custom', 'inserts')
{
	shows($server, $nobody, '1|1|1 etl', "$db: what was a dropped role's is nobody's in a copy", db => $db);
	like(error_as($server, 'etl', q{SELECT flow_create_dag('dropped', NULL)}, db => $db),
		qr/^42501 permission denied to create dag "dropped"/, 'the name of a dropped DAG is not free');
	$server->safe_psql($db, q{SELECT flow_set_owner('left', 'etl'), flow_adopt()});
	is(wait_for_run($server, trigger($server, 'left', db => $db), db => $db), 'success', 'a DAG runs as whom it is given to');
}

unlike(slurp_file($server->logfile), qr/PANIC|TRAP|signal (6|11)\b/, 'no process has crashed');

# ------------------------------------------------------------------------
# pg_upgrade: a new server, here of the same version

$server->safe_psql('postgres', qq{DROP DATABASE "$_"}) foreach ('blank', 'copy', 'copy again', 'copy in parts', 'custom', 'inserts', 'other', 'twin');
$before = contents('origin');
$server->stop;
my $old = $server;
$server = new_node('upgraded', start => 0, conf => "flowpg.simulated_now = '2024-01-04 00:00:00+00'");
command_ok([
		'pg_upgrade', '--no-sync', '--link',
		'-d', $old->data_dir, '-D', $server->data_dir,
		'-b', $old->config_data('--bindir'), '-B', $server->config_data('--bindir'),
		'-s', $server->host, '-p', $old->port, '-P', $server->port ],
	'pg_upgrade');
$server->start;
wait_until_waiting('origin');
is(contents('origin'), $before, 'a new server has what the old one had');
$run = trigger($server, 'slow', db => 'origin');
$server->safe_psql('origin', 'SELECT flow_adopt()');
is(wait_for_run($server, $run, db => 'origin'), 'success', 'adopted, it goes on');
shows($server, q{SELECT count(*) FROM flow.dag_run WHERE dag_id = 'load'}, '3', 'and makes no run again', db => 'origin');
$server->stop;
done_testing();
