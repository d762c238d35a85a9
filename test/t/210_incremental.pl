
# Incremental upserts: the position from run to run, rows that commit late,
# runs that are done again, kills.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node(
	'incremental',
	durable => 1,
	conf    => q{
max_prepared_transactions = 4
autovacuum = off
});

sub position
{
	my ($dag_id) = @_;

	return value($node, "SELECT flow_get_position('$dag_id', 'load')");
}

$node->safe_psql('postgres', q{
CREATE TABLE stamped (id int PRIMARY KEY, v text, changed_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON stamped (changed_at, id);
CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
CREATE TABLE stamped_copy (LIKE stamped INCLUDING ALL);
CREATE TABLE numbered_copy (id bigint PRIMARY KEY, v text);
INSERT INTO stamped SELECT n, 'v' || n, timestamptz '2024-01-01' + n / 7 * interval '1 min' FROM generate_series(1, 100) n;
INSERT INTO numbered (v) SELECT 'v' || n FROM generate_series(1, 100) n;
});
upsert($node, 'stamped', q{'stamped', 'stamped_copy', page_by => '{changed_at}', incremental => true, page_size => 20});
upsert($node, 'numbered', q{'numbered', 'numbered_copy', incremental => true, page_size => 20});

# ------------------------------------------------------------------------
# From the first row on, then what came after it

is(position('stamped'), '', 'there is no position at first');
is(run_upsert($node, 'stamped'), 'success 5 100', 'the first run begins before the first row');
like(position('stamped'), qr/^\{"changed_at": "2024-01-01 00:13:58\.999999\+00"\}$/,
	'its position is a second before its last row');
is(run_upsert($node, 'numbered'), 'success 5 100', 'the same by number');
is(position('numbered'), '{"id": "100"}', 'whose position is the last row');
is(run_upsert($node, 'numbered'), 'success 0 0', 'where nothing has come, nothing is read');
is(run_upsert($node, 'stamped'), 'success 1 0', 'or little');
$node->safe_psql('postgres', q{
INSERT INTO numbered (v) SELECT 'more' FROM generate_series(1, 30);
UPDATE stamped SET v = 'changed', changed_at = now() WHERE id <= 3;
UPDATE numbered_copy SET v = 'kept' WHERE id = 1;
});
is(run_upsert($node, 'numbered'), 'success 2 30', 'what came after it is read');
is(run_upsert($node, 'stamped'), 'success 1 3', 'or was changed after it');
is(difference($node, 'TABLE stamped', 'TABLE stamped_copy'), '', 'source and target are equal');
shows($node, 'SELECT v FROM numbered_copy WHERE id = 1', 'kept', 'what was read before is not read again');

# ------------------------------------------------------------------------
# Rows that commit late

my $early = $node->background_psql('postgres');
$early->query_safe(q{BEGIN; SELECT 1});
my $drawn = $node->background_psql('postgres');
$drawn->query_safe(q{BEGIN; SELECT nextval('numbered_id_seq')});
$node->safe_psql('postgres', q{
INSERT INTO stamped VALUES (1000, 'after it');
INSERT INTO numbered (v) VALUES ('after it')});
like(run_upsert($node, 'stamped'), qr/^success 1 1$/, 'a run with an open transaction');
my $held = position('stamped');
like(run_upsert($node, 'numbered'), qr/^success 1 1$/, 'the same by number');
is(position('numbered'), '{"id": "130"}', 'the position stays behind a number that is drawn');
$early->query_safe(q{INSERT INTO stamped VALUES (1001, 'late')});
$drawn->query_safe(q{INSERT INTO numbered (id, v) OVERRIDING SYSTEM VALUE VALUES (131, 'late')});
like(run_upsert($node, 'stamped'), qr/ 0$/, 'a late row that is not committed');
is(position('stamped'), $held, 'holds the position');
is(run_upsert($node, 'numbered'), 'success 1 0', 'in both kinds');
$early->query_safe('COMMIT');
$drawn->query_safe('COMMIT');
like(run_upsert($node, 'stamped'), qr/ 1$/, 'committed, it is read');
is(run_upsert($node, 'numbered'), 'success 1 1', 'in both kinds');
is(position('numbered'), '{"id": "132"}', 'and the position moves on');
is(difference($node, 'TABLE stamped', 'TABLE stamped_copy'), '', 'nothing is lost');

# prepared
$node->safe_psql('postgres', q{
BEGIN; INSERT INTO stamped VALUES (1002, 'prepared'); INSERT INTO numbered (v) VALUES ('prepared'); PREPARE TRANSACTION 'p';
INSERT INTO stamped VALUES (1003, 'after'); INSERT INTO numbered (v) VALUES ('after');
});
$held = position('stamped');
run_upsert($node, 'stamped');
run_upsert($node, 'numbered');
is(position('stamped'), $held, 'a prepared transaction holds the position');
is(position('numbered'), '{"id": "132"}', 'in both kinds');
$node->restart;
wait_for_scheduler($node);
run_upsert($node, 'numbered');
is(position('numbered'), '{"id": "132"}', 'also after a restart');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
run_upsert($node, $_) foreach ('stamped', 'numbered');
is(difference($node, 'TABLE stamped', 'TABLE stamped_copy'), '', 'committed, it is read');
shows($node, 'SELECT count(*) FROM numbered_copy', '134', 'in both kinds');

# prepared between two runs, when it has another virtual transaction
my $between = $node->background_psql('postgres');
$between->query_safe(q{BEGIN; INSERT INTO numbered (v) VALUES ('between')});
$node->safe_psql('postgres', q{INSERT INTO numbered (v) VALUES ('after')});
run_upsert($node, 'numbered');
$between->query_safe(q{PREPARE TRANSACTION 'p'});
run_upsert($node, 'numbered');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
run_upsert($node, 'numbered');
shows($node, 'SELECT count(*) FROM numbered_copy', '136', 'nothing is lost either');
$between->quit;

# a session that hides its start
my $hidden = $node->background_psql('postgres');
$hidden->query_safe(q{SET track_activities = off});
$hidden->query_safe(q{BEGIN});
$node->safe_psql('postgres', q{INSERT INTO stamped VALUES (1004, 'x')});
$held = position('stamped');
run_upsert($node, 'stamped');
is(position('stamped'), $held, 'a session that does not show its transactions holds the position');
$hidden->quit;
$_->quit foreach ($early, $drawn);

# ------------------------------------------------------------------------
# Set, reset; done again

$node->safe_psql('postgres', q{UPDATE numbered_copy SET v = 'odd' WHERE id IN (50, 60)});
$node->safe_psql('postgres', q{SELECT flow_set_position('numbered', 'load', '{"id": 55}')});
like(run_upsert($node, 'numbered'), qr/ 1$/, 'a position that is set is read from');
$node->safe_psql('postgres', q{SELECT flow_set_position('numbered', 'load', NULL)});
like(run_upsert($node, 'numbered'), qr/ 2$/, 'reset, all rows are read');
$node->safe_psql('postgres', q{
SELECT flow_set_position('stamped', 'load', '{"changed_at": "2024-01-01 00:13:00+00"}');
UPDATE stamped_copy SET v = 'odd' WHERE id IN (90, 91, 97)});
like(run_upsert($node, 'stamped'), qr/ 2$/, 'the first column alone: from its value on');
like(error_of($node, q{SELECT flow_set_position('stamped', 'load', '{"changed_at": true}')}), qr/^22023/, 'no position');
like(error_of($node, q{SELECT flow_set_position('stamped', 'load', '{}')}), qr/^22023/, 'an empty one');
like(error_of($node, q{SELECT flow_set_position('stamped', 'no', NULL)}), qr/^42704/, 'no task');
like(error_of($node, q{SELECT flow_get_position('no', 'load')}), qr/^42704/, 'no DAG');
$node->safe_psql('postgres', q{SELECT flow_set_position('stamped', 'load', '{"id": 1}')});
my $run = trigger($node, 'stamped');
wait_for_run($node, $run);
like(task_message($node, $run), qr/^22023 .*changed_at, id/s, 'one that does not fit is an error of the run');
$node->safe_psql('postgres', q{SELECT flow_set_position('stamped', 'load', NULL)});

# a run that is done again reads its own rows again
$node->safe_psql('postgres', q{
CREATE TABLE again (id serial PRIMARY KEY, v text);
CREATE TABLE again_copy (LIKE again INCLUDING ALL);
INSERT INTO again (v) SELECT 'x' FROM generate_series(1, 50);
});
define($node, q{
SELECT flow_create_dag('again', '@daily', '2024-01-01', is_paused => true);
SELECT flow_add_upsert('again', 'load', 'again', 'again_copy', incremental => true, page_size => 10);
});
wait_for_backfill($node, backfill($node, 'again', '2024-01-01', '2024-01-01'));
$node->safe_psql('postgres', q{INSERT INTO again (v) SELECT 'x' FROM generate_series(1, 25)});
wait_for_backfill($node, backfill($node, 'again', '2024-01-02', '2024-01-02'));
my $second = value($node, 'SELECT max(run_id) FROM flow.dag_run');
$node->safe_psql('postgres', q{INSERT INTO again (v) SELECT 'x' FROM generate_series(1, 25)});
wait_for_backfill($node, backfill($node, 'again', '2024-01-03', '2024-01-03'));
$node->safe_psql('postgres', q{UPDATE again_copy SET v = 'lost' WHERE id IN (49, 50, 51, 75, 76)});
wait_for_backfill($node, backfill($node, 'again', '2024-01-02', '2024-01-02', reprocess => "'completed'"));
is(progress($node, $second), 'success 3 2', 'cleared, a run reads what it read before');
shows($node, q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM again_copy WHERE v = 'lost'}, '49 50 76', 'and no more');
is(position('again'), '{"id": "100"}', 'the position stays where later runs have brought it');

# also with a page order that the run did not have
define($node, q{
ALTER TABLE again ADD at timestamptz NOT NULL DEFAULT now();
ALTER TABLE again_copy ADD at timestamptz;
CREATE INDEX ON again (at, id);
SELECT flow_add_upsert('again', 'load', 'again', 'again_copy', page_by => '{at}', incremental => true, page_size => 10);
SELECT flow_set_position('again', 'load', NULL);
});
wait_for_backfill($node, backfill($node, 'again', '2024-01-02', '2024-01-02', reprocess => "'completed'"));
is(progress($node, $second), 'success 10 100', 'with a new page order it begins anew');
define($node, q{
SELECT flow_add_upsert('again', 'load', 'again', 'again_copy', incremental => true, page_size => 10);
SELECT flow_set_position('again', 'load', '{"id": 100}');
});

# ------------------------------------------------------------------------
# Runs of one task wait for each other; an overtaken run moves nothing back

$node->safe_psql('postgres', q{
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(77);
	RETURN NULL;
END $$;
CREATE TRIGGER wait_at_gate AFTER INSERT ON again_copy EXECUTE FUNCTION wait_at_gate();
INSERT INTO again (v) VALUES ('x');
});
my $gate = close_gate($node, 77);
my $first = trigger($node, 'again');
wait_for($node, 'SELECT count(*) = 1 FROM pg_locks WHERE objid = 77 AND NOT granted', 'the first run at its page');
$second = trigger($node, 'again');
wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3 AND NOT granted}, 'the second to wait for it');
$gate->open;
wait_for_run($node, $_) foreach ($first, $second);
is(progress($node, $first) . ', ' . progress($node, $second), 'success 1 1, success 0 0', 'two runs at once do it one after the other');

# ------------------------------------------------------------------------
# What cannot be waited for needs lookback

$node->safe_psql('postgres', q{
CREATE TABLE plain (id int PRIMARY KEY, v text, day date, local timestamp);
CREATE INDEX ON plain (day, id); CREATE INDEX ON plain (local, id);
CREATE TABLE plain_copy (LIKE plain INCLUDING ALL);
CREATE TABLE cached (id serial PRIMARY KEY);
ALTER SEQUENCE cached_id_seq CACHE 10;
CREATE TABLE cached_copy (id int PRIMARY KEY);
INSERT INTO plain SELECT n, 'v', '2024-01-01', '2024-01-01' FROM generate_series(1, 10) n;
});
foreach my $case (
	['plain', q{'plain', 'plain_copy'}], ['cached', q{'cached', 'cached_copy'}],
	['join', q{'SELECT a.* FROM plain a JOIN plain b USING (id)', 'plain_copy', page_by => '{day}'}])
{
	my ($name, $arguments) = @$case;

	like(error_of($node, "SELECT flow_create_dag('$name', NULL); SELECT flow_add_upsert('$name', 'load', $arguments, incremental => true)"),
		qr/^22023 .*needs lookback/, "$name needs lookback");
	upsert($node, $name, "$arguments, incremental => true, lookback => '1 hour'");
}
is(run_upsert($node, 'plain'), 'success 1 10', 'with lookback');
is(position('plain'), '', 'the position waits for it');
$node->safe_psql('postgres', q{INSERT INTO plain VALUES (0, 'late', '2024-01-01', '2024-01-01')});
is(run_upsert($node, 'plain'), 'success 1 1', 'and what was passed is read again');
$node->safe_psql('postgres', q{UPDATE flow.position SET position = position || '{"until": "2024-01-01 00:00:00+00"}' WHERE dag_id = 'plain'});
is(run_upsert($node, 'plain'), 'success 1 0', 'until that time has come');
is(position('plain'), '{"id": "10"}', 'when the position moves');
foreach my $column ('day', 'local')
{
	upsert($node, "by $column", "'plain', 'plain_copy', page_by => '{$column}', incremental => true");
	is(run_upsert($node, "by $column"), 'success 1 0', "by a column \"$column\"");
	like(position("by $column"), qr/"$column": "2023-12-3/, 'the position is held back');
}

# ------------------------------------------------------------------------
# Killed in its pages and at their borders

make_kill_once($node);
foreach my $kind ('stamp', 'number')
{
	my $column = $kind eq 'stamp' ? 'at' : 'id';

	$node->safe_psql('postgres', qq{
CREATE TABLE $kind (id serial PRIMARY KEY, at timestamptz DEFAULT now());
CREATE INDEX ON $kind (at, id);
CREATE TABLE ${kind}_copy (id int PRIMARY KEY, at timestamptz);
INSERT INTO $kind (at) SELECT timestamptz '2024-01-01' + n * interval '1 min' FROM generate_series(1, 60) n;
CREATE FUNCTION die_$kind() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM kill_once('$kind ' || NEW.id || TG_ARGV[0]);
	RETURN NULL;
END \$\$;
CREATE TRIGGER die_1 AFTER INSERT ON ${kind}_copy FOR EACH ROW WHEN (NEW.id IN (35, 60, 75)) EXECUTE FUNCTION die_$kind('');
CREATE CONSTRAINT TRIGGER die_2 AFTER INSERT ON ${kind}_copy DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (NEW.id IN (20, 60)) EXECUTE FUNCTION die_$kind(' commit');
});
	upsert($node, $kind, "'$kind', '${kind}_copy', page_by => '{$column}', incremental => true, page_size => 20", 'retries => 0');
	my $crashes = crash_count($node);
	my $run = trigger($node, $kind);

	wait_through_crashes($node, $crashes + 4);
	is(patiently { wait_for_run($node, $run) }, 'success', "$kind: killed four times");
	is(progress($node, $run), 'success 3 60', 'each page and row counts once');
	$node->safe_psql('postgres', "INSERT INTO $kind (id) SELECT generate_series(61, 80)");
	$run = trigger($node, $kind);
	wait_through_crashes($node, $crashes + 5);
	is(patiently { wait_for_run($node, $run) }, 'success', 'killed in the next run');
	is(difference($node, "TABLE $kind", "TABLE ${kind}_copy"), '', 'nothing is lost');
}

# ------------------------------------------------------------------------
# Four writers, whose commits are late or never come, and runs all the while

$node->safe_psql('postgres', q{
CREATE TABLE busy (id bigserial PRIMARY KEY, k int UNIQUE, v int, at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON busy (at, id);
CREATE TABLE busy_by_time (id bigint PRIMARY KEY, k int, v int, at timestamptz);
CREATE TABLE busy_by_number (id bigint PRIMARY KEY);
});
upsert($node, 'busy time', q{'busy', 'busy_by_time', page_by => '{at}', incremental => true, page_size => 50});
upsert($node, 'busy number', q{'SELECT id FROM busy', 'busy_by_number', incremental => true, page_size => 50});
my $script = $node->basedir . '/writer.sql';
append_to_file($script, q{
\set end random(1, 4)
\set wait random(0, 20)
BEGIN;
INSERT INTO busy (v) VALUES (0);
\sleep :wait ms
INSERT INTO busy (k, v) VALUES (:client_id * 1000 + :wait, 0) ON CONFLICT (k) DO UPDATE SET v = busy.v + 1, at = now();
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
});
my $writers = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '4', '-t', '300', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \my $out, '2>', \my $err);
my $runs = 0;
while ($writers->pumpable)
{
	$writers->pump_nb;
	run_upsert($node, 'busy time');
	run_upsert($node, 'busy number');
	$runs++;
}
$writers->finish;
note("$runs runs beside the writers");
ok($runs > 5, 'runs beside writers');
run_upsert($node, $_) foreach ('busy time', 'busy number');
is(difference($node, 'TABLE busy', 'TABLE busy_by_time'), '', 'by timestamp nothing is lost');
is(difference($node, 'SELECT id FROM busy', 'TABLE busy_by_number'), '', 'nor by number');

$node->stop;
done_testing();
