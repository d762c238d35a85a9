
# parallel_pages: several workers take the pages of one upsert, each of them
# once, whoever of them fails or is killed.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node(
	'parallel',
	durable => 1,
	conf    => q{
flowpg.max_workers = 4
autovacuum = off
});

# Each row that is written leaves a line; a page can be held at a gate, by the
# row that it ends with.
$node->safe_psql('postgres', q{
CREATE TABLE item (code text COLLATE "C", id int, v text, PRIMARY KEY (code, id));
INSERT INTO item SELECT chr(65 + n / 100), n, 'v' || n FROM generate_series(0, 399) n;
ANALYZE item;
CREATE TABLE copy (LIKE item INCLUDING ALL);
CREATE TABLE written (id int, pid int);
CREATE TABLE gate_at (id int, key int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO written SELECT id, pg_backend_pid() FROM new_row;
	PERFORM pg_advisory_xact_lock_shared(g.key) FROM gate_at g JOIN new_row n USING (id);
	RETURN NULL;
END $$;
CREATE TRIGGER note_insert AFTER INSERT ON copy REFERENCING NEW TABLE AS new_row
	FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER note_update AFTER UPDATE ON copy REFERENCING NEW TABLE AS new_row
	FOR EACH STATEMENT EXECUTE FUNCTION note();
});

sub empty
{
	return $node->safe_psql('postgres', 'TRUNCATE copy, written');
}

# How many wait at gates.
sub wait_at_gates
{
	my ($n) = @_;

	return wait_for($node, qq{SELECT count(*) = $n FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 1 AND NOT granted}, "$n pages at gates");
}

sub is_copied
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(difference($node, 'TABLE item', 'TABLE copy'), '', "$name: source and target are equal");
	shows($node, q{SELECT count(*), count(DISTINCT id) FROM written}, '400|400', "$name: each row was written once");
}

# ------------------------------------------------------------------------
# While one page takes its time, others are taken

upsert($node, 'wide', q{'item', 'copy', page_size => 20, parallel_pages => 2}, 'retries => 1, retry_delay => $$0$$');
$node->safe_psql('postgres', q{INSERT INTO gate_at VALUES (0, 1)});
my $gate = close_gate($node, 1);
my $run = trigger($node, 'wide');
wait_for($node, q{SELECT count(*) = 380 FROM copy}, 'the other pages');
wait_at_gates(1);
shows($node, 'SELECT pages, rows_written, rows_per_second > 0, eta > $$0$$ FROM flow.running', '19|380|t|t', 'one worker is at the first page, the other has done the rest');
shows($node, "SELECT pages, rows_written, state, position ->> 'claimed', jsonb_array_length(position -> 'open') FROM flow.task_run WHERE run_id = $run",
	'19|380|running|20|1', 'which is on record');
$gate->open;
is(wait_for_run($node, $run), 'success', 'the run succeeds');
is(progress($node, $run), 'success 20 400', 'each page counts once');
is_copied('two workers');
shows($node, 'SELECT count(DISTINCT pid) FROM written', '2', 'two workers have written');
is(run_upsert($node, 'wide'), 'success 20 0', 'the same again writes nothing');

# both at work at the same time, seen by monitors
empty();
$node->safe_psql('postgres', q{INSERT INTO gate_at VALUES (20, 1)});
$gate = close_gate($node, 1);
$run = trigger($node, 'wide');
wait_at_gates(2);
shows($node, q{SELECT dag_id, task_id, state, is_helping FROM flow.worker_status WHERE state = 'busy' ORDER BY is_helping},
	"wide|load|busy|f\nwide|load|busy|t", 'worker_status shows who helps');
shows($node, 'SELECT count(*) FROM flow.running', '1', 'running shows one attempt');

# one that helps is ended: its page is taken over
my $helper = value($node, 'SELECT pid FROM flow.worker_status WHERE is_helping');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($helper)");
wait_for_exit($helper);
$gate->open;
is(wait_for_run($node, $run), 'success', 'a helper that is ended');
shows($node, "SELECT count(*) FROM flow.task_attempt WHERE run_id = $run", '1', 'costs no attempt');
is_copied('without the helper');

# others that help go on
upsert($node, 'three', q{'item', 'copy', page_size => 20, parallel_pages => 3});
empty();
$node->safe_psql('postgres', q{INSERT INTO gate_at VALUES (40, 1)});
$gate = close_gate($node, 1);
$run = trigger($node, 'three');
wait_at_gates(3);
$helper = value($node, 'SELECT min(pid) FROM flow.worker_status WHERE is_helping');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($helper)");
wait_for_exit($helper);
shows($node, 'SELECT count(*) FROM flow.worker_status WHERE is_helping', '1', 'another helper goes on');
$gate->open;
is(wait_for_run($node, $run), 'success', 'to the end');
is_copied('with the other helper');
$node->safe_psql('postgres', q{DELETE FROM gate_at WHERE id = 40});

# the one that holds the attempt is ended: the next attempt goes on
empty();
$gate = close_gate($node, 1);
$run = trigger($node, 'wide');
wait_at_gates(2);
my $leader = value($node, 'SELECT worker_pid FROM flow.running');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($leader)");
wait_for_exit($leader);
$gate->open;
is(wait_for_run($node, $run), 'success', 'the worker that holds the attempt is ended');
is(progress($node, $run), 'success 20 400', 'the next attempt does what is left');
is_copied('after the second attempt');

# cancelled
empty();
$gate = close_gate($node, 1);
$run = trigger($node, 'wide');
wait_at_gates(2);
$node->safe_psql('postgres', "SELECT flow_cancel_run($run)");
is(wait_for_run($node, $run), 'cancelled', 'a run that is cancelled');
wait_for($node, q{SELECT count(*) = 0 FROM flow.worker_status WHERE state = 'busy'}, 'all to stop');
$gate->open;
shows($node, 'SELECT count(*) FROM copy', '0', 'leaves nothing of the pages under way');

# a page that fails, whoever takes it
empty();
$node->safe_psql('postgres', q{
DELETE FROM gate_at;
ALTER TABLE copy ADD CONSTRAINT not_bad CHECK (v <> 'bad');
UPDATE item SET v = 'bad' WHERE id = 250;
});
define($node, q{SELECT flow_alter_dag('wide', retries => 0)});
$run = trigger($node, 'wide');
is(wait_for_run($node, $run), 'failed', 'a bad row fails the run');
like(task_message($node, $run), qr/^23514 .*not_bad.*page 13 of upsert.*\(code, id\) > \(C, 239\) to \(C, 259\)/s, 'its page is named');
$node->safe_psql('postgres', q{UPDATE item SET v = 'v250' WHERE id = 250});
$node->safe_psql('postgres', q{UPDATE copy SET v = 'odd'});
is(run_upsert($node, 'wide'), 'success 20 400', 'repaired, another run brings all');
is(difference($node, 'TABLE item', 'TABLE copy'), '', 'and the target is right');

# ------------------------------------------------------------------------
# Where only one worker is to be had; more than there are pages

upsert($node, 'many', q{'item', 'copy', page_size => 150, parallel_pages => 50});
empty();
is(run_upsert($node, 'many'), 'success 3 400', 'more workers than pages');
is_copied('many');
$node->safe_psql('postgres', q{ALTER SYSTEM SET flowpg.max_workers = 1});
$node->restart;
wait_for_scheduler($node);
empty();
is(run_upsert($node, 'many'), 'success 3 400', 'one worker does it alone');
is_copied('alone');
$node->safe_psql('postgres', q{ALTER SYSTEM SET flowpg.max_workers = 4});
$node->restart;
wait_for_scheduler($node);

# a role of which only one session may connect
$node->safe_psql('postgres', q{
CREATE ROLE lonely LOGIN CONNECTION LIMIT 1;
SELECT flow_grant('lonely');
GRANT SELECT ON item, gate_at TO lonely;
GRANT SELECT, INSERT, UPDATE ON copy, written TO lonely;
SELECT flow_set_owner('many', 'lonely');
});
empty();
is(run_upsert($node, 'many'), 'success 3 400', 'a role that may connect once');
is_copied('a lonely role');

# other tasks come first: one that waits for a worker gets that of the helper
$node->safe_psql('postgres', q{
ALTER SYSTEM SET flowpg.max_workers = 2;
SELECT flow_set_owner('many', current_user::regrole);
INSERT INTO gate_at VALUES (0, 1), (20, 2);
CREATE TABLE seen (n bigint)});
$node->restart;
wait_for_scheduler($node);
define($node, q{
SELECT flow_create_dag('other', NULL);
SELECT flow_add_sql('other', 'count', 'INSERT INTO seen SELECT count(*) FROM copy')});
empty();
my @gates = map { close_gate($node, $_) } 1, 2;
$run = trigger($node, 'wide');
wait_at_gates(2);
my $other = trigger($node, 'other');
wait_for($node, "SELECT waits_for = 'worker' FROM flow.task_status WHERE run_id = $other", 'the task to wait for a worker');
# either of them may have come to the first page first
my $leader_gate = value($node, q{
SELECT l.objid FROM flow.running r JOIN pg_locks l ON l.pid = r.worker_pid
WHERE r.dag_id = 'wide' AND l.locktype = 'advisory' AND NOT l.granted});
@gates = reverse @gates if $leader_gate == 2;
$gates[1]->open;
is(wait_for_run($node, $other), 'success', 'a task gets the worker of the helper');
shows($node, 'SELECT n FROM seen', '20', 'after the page that it was at');
wait_for($node, 'SELECT count(*) = 380 FROM copy', 'the helper to come back');
$gates[0]->open;
is(wait_for_run($node, $run), 'success', 'then it helps again');
is_copied('with a break');
$node->safe_psql('postgres', q{DELETE FROM gate_at; ALTER SYSTEM SET flowpg.max_workers = 4});
$node->restart;
wait_for_scheduler($node);

# ------------------------------------------------------------------------
# With other options: incremental, append, delete_missing, a source that is
# read once, a role whose transactions are serializable

upsert($node, 'incremental', q{'item', 'copy', page_size => 20, parallel_pages => 3, incremental => true, lookback => '1 hour'});
empty();
is(run_upsert($node, 'incremental'), 'success 20 400', 'incremental');
is_copied('incremental');
$node->safe_psql('postgres', q{SELECT flow_set_position('incremental', 'load', '{"code": "C", "id": 250}'); UPDATE copy SET v = 'odd'; TRUNCATE written});
is(run_upsert($node, 'incremental'), 'success 8 149', 'from a position on');
shows($node, q{SELECT count(*), min(id), max(id) FROM written}, '149|251|399', 'no row before it');
upsert($node, 'append', q{'item', 'copy', page_size => 20, parallel_pages => 3, mode => 'append'});
empty();
$node->safe_psql('postgres', q{INSERT INTO copy VALUES ('A', 7, 'kept'); TRUNCATE written});
is(run_upsert($node, 'append'), 'success 20 399', 'append');
shows($node, q{SELECT v FROM copy WHERE id = 7}, 'kept', 'leaves what is there');
upsert($node, 'missing', q{'item', 'copy', page_size => 20, parallel_pages => 3, delete_missing => true});
empty();
$node->safe_psql('postgres', q{INSERT INTO copy SELECT 'E', n, 'gone' FROM generate_series(1000, 1099) n; TRUNCATE written});
is(run_upsert($node, 'missing'), 'success 45 500', 'delete_missing');
is_copied('delete_missing');
# one that comes to help late finds that rows are being deleted: that is no work of its
$node->safe_psql('postgres', q{
CREATE FUNCTION may_help() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF EXISTS (SELECT FROM flow.worker_status WHERE pid = pg_backend_pid() AND is_helping) THEN
		PERFORM pg_advisory_xact_lock_shared(3);
	END IF;
	RETURN true;
END $$;
CREATE FUNCTION wait_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(2);
	RETURN OLD;
END $$;
CREATE TRIGGER wait_deleted BEFORE DELETE ON copy FOR EACH ROW EXECUTE FUNCTION wait_deleted();
});
upsert($node, 'missing', q{'SELECT * FROM item WHERE may_help()', 'copy', page_size => 20, parallel_pages => 2, delete_missing => true});
empty();
$node->safe_psql('postgres', q{
INSERT INTO gate_at VALUES (0, 1);
INSERT INTO copy VALUES ('B', 1000, 'gone');
TRUNCATE written});
@gates = map { close_gate($node, $_) } 1 .. 3;
$run = trigger($node, 'missing');
wait_at_gates(2);
$gates[0]->open;
wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND objsubid = 1 AND NOT granted}, 'the leader to delete');
$gates[2]->open;
wait_for($node, q{SELECT count(*) = 0 FROM flow.worker_status WHERE is_helping}, 'the helper to leave');
$gates[1]->open;
is(wait_for_run($node, $run), 'success', 'a helper that comes late');
is(progress($node, $run), 'success 41 401', 'takes no page');
is_copied('a late helper');
$node->safe_psql('postgres', 'DELETE FROM gate_at; DROP TRIGGER wait_deleted ON copy');
upsert($node, 'once', q{'SELECT code, id, min(v) AS v FROM item GROUP BY 1, 2 HAVING count(*) = 1', 'copy', page_size => 20, parallel_pages => 3});
empty();
is(run_upsert($node, 'once'), 'success 20 400', 'a source that is read once is one worker\'s');
is_copied('once');
$node->safe_psql('postgres', q{
CREATE ROLE strict_one LOGIN SUPERUSER;
ALTER ROLE strict_one SET default_transaction_isolation = 'serializable';
SELECT flow_set_owner('wide', 'strict_one');
});
empty();
is(run_upsert($node, 'wide'), 'success 20 400', 'a role with serializable transactions');
is_copied('serializable');

# ------------------------------------------------------------------------
# The source changes all the while: in the end it has been copied

$node->safe_psql('postgres', q{
CREATE TABLE busy (id int PRIMARY KEY, v int NOT NULL);
INSERT INTO busy SELECT n, 0 FROM generate_series(1, 3000) n;
CREATE TABLE busy_copy (LIKE busy INCLUDING ALL);
});
upsert($node, 'busy', q{'busy', 'busy_copy', page_size => 50, parallel_pages => 3});
my $script = $node->basedir . '/busy.sql';
append_to_file($script, q{
\set id random(1, 4000)
INSERT INTO busy VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET v = busy.v + 1;
});
my $writers = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '2', '-t', '2000', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \my $out, '2>', \my $err);
my $nruns = 0;
while ($writers->pumpable)
{
	$writers->pump_nb;
	like(run_upsert($node, 'busy'), qr/^success/, 'a run beside writers') if $nruns++ < 3;
}
$writers->finish;
run_upsert($node, 'busy');
is(difference($node, 'TABLE busy', 'TABLE busy_copy'), '', 'all changes have come through');

# ------------------------------------------------------------------------
# Killed inside its pages and at their ends, whoever is at them

make_kill_once($node);
$node->safe_psql('postgres', q{
SELECT flow_set_owner('wide', current_user::regrole);
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM kill_once(NEW.id || TG_ARGV[0]);
	RETURN NULL;
END $$;
CREATE TRIGGER die_1 AFTER INSERT ON copy FOR EACH ROW WHEN (NEW.id IN (5, 130, 399)) EXECUTE FUNCTION die('');
CREATE CONSTRAINT TRIGGER die_2 AFTER INSERT ON copy DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (NEW.id IN (19, 210)) EXECUTE FUNCTION die(' commit');
});
define($node, q{SELECT flow_alter_dag('wide', retries => 0)});
empty();
my $crashes = crash_count($node);
$run = trigger($node, 'wide');
is(patiently { wait_for_run($node, $run) }, 'success', 'killed five times');
# one crash may be that of two workers
cmp_ok(crash_count($node) - $crashes, '>=', 3, 'the server has crashed');
is(scalar(() = glob($node->basedir . '/kills/*')), 5, 'all kills have come about');
is(progress($node, $run), 'success 20 400', 'each page counts once');
is_copied('after kills');

$node->stop;
done_testing();
