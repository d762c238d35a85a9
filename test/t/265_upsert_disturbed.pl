
# Upserts that are disturbed while they run: tables change between two pages,
# rights go, workers are terminated, runs are cancelled, others lock.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node(
	'disturbed',
	conf => q{
flowpg.simulated_now = '2024-06-01 00:00:00+00'
deadlock_timeout = '50ms'
autovacuum = off
});

$node->safe_psql('postgres', q{
CREATE ROLE loader LOGIN;
SELECT flow_grant('loader');
GRANT ALL ON SCHEMA public TO loader;
CREATE TABLE kept AS SELECT n AS id, n, 'v' || n AS v FROM generate_series(1, 50) n;
-- stands still in the page that has row 15
CREATE FUNCTION stop_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(65);
	RETURN NULL;
END $$;
});

# ------------------------------------------------------------------------
# In the middle of the second page something is done, which is there when the
# third one begins

# Makes tables "$name" and "$name copy", runs the upsert up to its second page,
# begins to do what is given, and lets it go on when that is done or waits for
# the page; "state pages rows", its message and the run.
sub disturb
{
	my ($name, $do) = @_;
	my $gate;
	my $run;

	$node->safe_psql('postgres', qq{
CREATE TABLE "$name" (id int, n int, v text);
INSERT INTO "$name" SELECT n, n, 'v' || n FROM generate_series(1, 50) n;
ALTER TABLE "$name" ADD PRIMARY KEY (id);
CREATE TABLE "$name copy" (LIKE "$name" INCLUDING ALL);
CREATE TRIGGER stop_at AFTER INSERT ON "$name copy" FOR EACH ROW WHEN (NEW.n = 15) EXECUTE FUNCTION stop_at();
GRANT ALL ON "$name", "$name copy" TO loader;
SET ROLE loader;
SELECT flow_create_dag('$name', retries => 1, retry_delay => '10 minutes');
SELECT flow_add_upsert('$name', 'load', '"$name"', '"$name copy"', page_size => 10);
});
	$gate = close_gate($node, 65);
	$run = trigger($node, $name);
	wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 65 AND NOT granted}, 'the second page');
	if (ref $do)
	{
		$do->($run);
		wait_for($node, q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 65 AND NOT granted}, 'the worker to stop');
		$gate->open;
	}
	else
	{
		my $session = $node->background_psql('postgres');

		$session->query_until(qr/begun/, "\\echo begun\n$do;\n");
		wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend'
			AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock' AND pid <> pg_backend_pid()}, 'it to be done or to wait');
		$gate->open;
		$session->quit;
	}
	wait_for($node, "SELECT state NOT IN ('queued', 'running') FROM flow.task_run WHERE run_id = $run", 'the attempt to end');
	return (progress($node, $run), task_message($node, $run) =~ s/\n/ /gr, $run);
}

my @retried;
foreach my $case (
	[ 'drop source', 'DROP TABLE "drop source"', qr/^42P01 /, 'CREATE TABLE "drop source" AS TABLE kept; GRANT ALL ON "drop source" TO loader' ],
	[ 'rename source', 'ALTER TABLE "rename source" RENAME TO renamed', qr/^42P01 .*"public.rename source"/, 'ALTER TABLE renamed RENAME TO "rename source"' ],
	[ 'drop target', 'ALTER TABLE "drop target copy" RENAME TO renamed', qr/^42P01 .*"public.drop target copy"/, 'ALTER TABLE renamed RENAME TO "drop target copy"' ],
	[ 'drop column', 'ALTER TABLE "drop column" DROP v', qr/^42703 .*\bv\b/, 'ALTER TABLE "drop column" ADD v text; UPDATE "drop column" SET v = $$v$$ || id' ],
	[ 'drop target column', 'ALTER TABLE "drop target column copy" RENAME v TO w', qr/^42703 .*"?v"?/, 'ALTER TABLE "drop target column copy" RENAME w TO v' ],
	[ 'rename key', 'ALTER TABLE "rename key" RENAME id TO key', qr/^42703 .*\bid\b/, 'ALTER TABLE "rename key" RENAME key TO id' ],
	[ 'revoke source', 'REVOKE ALL ON "revoke source" FROM loader', qr/^42501 permission denied for table revoke source/, 'GRANT SELECT ON "revoke source" TO loader' ],
	[ 'revoke target', 'REVOKE INSERT ON "revoke target copy" FROM loader', qr/^42501 permission denied for table revoke target copy/, 'GRANT INSERT ON "revoke target copy" TO loader' ],
	[ 'larger type', 'ALTER TABLE "larger type" ALTER id TYPE bigint; UPDATE "larger type" SET id = id', qr/^42804 column "id" .*has become bigint, and was integer/, 'SELECT 1' ],
	[ 'other type', 'ALTER TABLE "other type" ALTER id TYPE text', qr/^42\w{3} /, 'ALTER TABLE "other type" ALTER id TYPE int USING id::int' ],
	[ 'constraint', q{ALTER TABLE "constraint copy" ADD CONSTRAINT not_21 CHECK (id <> 21)}, qr/^23514 .*"not_21".*page 3 of/, 'ALTER TABLE "constraint copy" DROP CONSTRAINT not_21' ])
{
	my ($name, $do, $error, $repair) = @$case;

	my ($progress, $message, $run) = disturb($name, $do);

	is($progress, 'up_for_retry 2 20', "$name: two pages stay");
	like($message, $error, "$name: the error");
	$node->safe_psql('postgres', $repair);
	push @retried, [ $name, $run ];
}
foreach my $case (
	[ 'add columns', 'ALTER TABLE "add columns" ADD new int DEFAULT 7; ALTER TABLE "add columns copy" ADD other int DEFAULT 8' ],
	[ 'drop index', 'ALTER TABLE "drop index" DROP CONSTRAINT "drop index_pkey"' ],
	[ 'rewrite', 'ALTER TABLE "rewrite" ALTER n TYPE bigint; CLUSTER "rewrite copy" USING "rewrite copy_pkey"' ],
	[ 'truncate', 'TRUNCATE "truncate copy"' ])
{
	my ($name, $do) = @$case;
	my ($progress, $message, $run) = disturb($name, $do);

	is($progress, 'success 5 50', "$name: it goes on") or diag($message);
}

# ------------------------------------------------------------------------
# Workers terminated, runs cancelled and dropped

my ($progress, $message, $run) = disturb('terminated', sub {
	value($node, "SELECT pg_terminate_backend(worker_pid) FROM flow.running WHERE run_id = $_[0]");
});
is($progress, 'up_for_retry 1 10', 'a worker that is terminated leaves finished pages');
like($message, qr/^57P01 /, 'and says so');
push @retried, [ 'terminated', $run ];
($progress, $message, $run) = disturb('cancelled', sub {
	value($node, "SELECT flow_cancel_run($_[0])");
});
is($progress, 'cancelled 1 10', 'as does one that is cancelled');
($progress, $message, $run) = disturb('dropped', sub {
	value($node, q{SELECT flow_drop_dag('dropped')});
});
is($progress, 'cancelled 1 10', 'or whose DAG is dropped') or diag($message);
shows($node, q{SELECT count(*) FROM "dropped copy"}, '10', 'whose rows are there');

advance($node, '2024-06-01 00:10:00+00');
foreach my $case (@retried)
{
	my ($name, $id) = @$case;

	is(progress($node, $id), 'success 5 50', "$name: the retry goes on") or diag(task_message($node, $id));
	is(difference($node, "SELECT id::int, n, v FROM \"$name\"", "TABLE \"$name copy\""), '', "$name: equal");
}

# ------------------------------------------------------------------------
# Two upserts that lock the same rows in opposite order

$node->safe_psql('postgres', q{
CREATE TABLE forward AS SELECT n AS id, n AS place, 'forward' AS v FROM generate_series(1, 20) n;
CREATE TABLE backward AS SELECT n AS id, -n AS place, 'backward' AS v FROM generate_series(1, 20) n;
ALTER TABLE forward ADD PRIMARY KEY (place, id), ADD UNIQUE (id); ALTER TABLE backward ADD PRIMARY KEY (place, id), ADD UNIQUE (id);
CREATE TABLE meeting (id int PRIMARY KEY, place int, v text);
INSERT INTO meeting SELECT n, 0, 'old' FROM generate_series(1, 20) n;
CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.v = 'old' AND (NEW.v, NEW.id) IN (('forward', 1), ('backward', 20)) THEN
		PERFORM pg_advisory_xact_lock_shared(66);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER meet BEFORE UPDATE ON meeting FOR EACH ROW EXECUTE FUNCTION meet();
});
upsert($node, $_, "'$_', 'meeting', key => '{id}', page_by => '{place}'", 'retries => 0') foreach ('forward', 'backward');
my $gate = close_gate($node, 66);
my @runs = map { trigger($node, $_) } ('forward', 'backward');
wait_for($node, 'SELECT count(*) = 2 FROM pg_locks WHERE objid = 66 AND NOT granted', 'both to hold a row');
$gate->open;
is(wait_for_run($node, $_), 'success', 'upserts in opposite order succeed') or diag(task_message($node, $_)) foreach @runs;
shows($node, q{SELECT count(*) FROM flow.task_attempt WHERE run_id IN (} . join(', ', @runs) . q{)}, '2', 'in one attempt each: the page is tried again');
wait_for($node, q{SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = 'postgres'}, 'the deadlock to be counted');
shows($node, 'SELECT count(DISTINCT v), count(*) FROM meeting', '1|20', 'and one is the last');

# a source that gives notices, sleeps and takes locks
$node->safe_psql('postgres', q{
CREATE FUNCTION noisy(id int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'row %', id;
	RAISE WARNING 'row %', id;
	PERFORM pg_sleep(0), pg_advisory_lock(67);
	RETURN id;
END $$;
CREATE TABLE noisy_copy (id int PRIMARY KEY, n int);
});
upsert($node, 'noisy', q{'SELECT noisy(id) AS id, n FROM kept', 'noisy_copy', page_size => 10});
is(run_upsert($node, 'noisy'), 'success 5 50', 'a source that gives notices and takes locks');
is(run_upsert($node, 'noisy'), 'success 5 0', 'again');
shows($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 67}, '0', 'which are given back');

$node->stop;
done_testing();
