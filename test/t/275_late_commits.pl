
# 10,000 transactions of four writers, whose commits come late, after the pages
# and runs that have passed their place, or never, and incremental upserts all
# the while: by timestamp, by timestamp without time zone and by sequence
# nothing is lost and nothing comes twice.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node(
	'late_commits',
	conf => q{
max_prepared_transactions = 20
autovacuum = off
});

$node->safe_psql('postgres', q{
CREATE TABLE busy (id bigserial PRIMARY KEY, k int UNIQUE, v int NOT NULL DEFAULT 0,
	at timestamptz NOT NULL DEFAULT now(), local timestamp NOT NULL DEFAULT localtimestamp);
CREATE INDEX ON busy (at, id); CREATE INDEX ON busy (local, id);
CREATE TABLE by_time (LIKE busy); ALTER TABLE by_time ADD PRIMARY KEY (id);
CREATE TABLE by_local (LIKE by_time INCLUDING ALL);
CREATE TABLE by_number (id bigint PRIMARY KEY);
-- whatever is written, a row for each time
CREATE TABLE written (id bigint, op text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO written VALUES (NEW.id, TG_OP);
	RETURN NULL;
END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE ON by_number FOR EACH ROW EXECUTE FUNCTION log();
});
upsert($node, 'by time', q{'busy', 'by_time', page_by => '{at}', incremental => true, page_size => 50});
upsert($node, 'by local', q{'busy', 'by_local', page_by => '{local}', incremental => true, page_size => 50});
upsert($node, 'by number', q{'SELECT id FROM busy', 'by_number', incremental => true, page_size => 50});
my @dags = ('by time', 'by local', 'by number');

# What a writer does, each in a transaction: one row or several; an update that
# moves the time, to that of the transaction's start or to the present; a part
# that is taken back; a wait between drawing a number and the commit, now and
# then a long one; two-phase commit, with other transactions between.
my $script = $node->basedir . '/writer.sql';
append_to_file($script, q{
\set what random(1, 100)
\set k :client_id * 1000 + random(1, 50)
\set wait random(1, 5)
\set long random(100, 400)
BEGIN;
\if :what <= 40
INSERT INTO busy (v) VALUES (1);
\elif :what <= 60
INSERT INTO busy (k) VALUES (:k) ON CONFLICT (k) DO UPDATE SET v = busy.v + 1, at = now(), local = localtimestamp;
\elif :what <= 75
INSERT INTO busy (k) VALUES (:k) ON CONFLICT (k) DO UPDATE SET v = busy.v + 1, at = clock_timestamp(), local = clock_timestamp()::timestamp;
\elif :what <= 85
INSERT INTO busy (v) VALUES (2);
SAVEPOINT a;
INSERT INTO busy (v) VALUES (3), (3);
ROLLBACK TO a;
INSERT INTO busy (v) SELECT 4 FROM generate_series(1, 3);
\else
INSERT INTO busy (v) SELECT 5 FROM generate_series(1, 60);
\endif
\if :what % 20 = 7
\sleep :wait ms
INSERT INTO busy (v) VALUES (6);
\endif
\if :what % 50 = 11 and :wait = 1
SELECT nextval('busy_id_seq') AS drawn \gset
\sleep :long ms
INSERT INTO busy (id, v) VALUES (:drawn, 7);
\endif
\if :what % 10 = 3
ROLLBACK;
\elif :what % 25 = 4
PREPARE TRANSACTION 'p :client_id';
BEGIN;
INSERT INTO busy (v) VALUES (8);
COMMIT;
\sleep :wait ms
BEGIN;
INSERT INTO busy (v) VALUES (9);
COMMIT;
\if :wait = 1
\sleep :long ms
\endif
\if :wait = 2
ROLLBACK PREPARED 'p :client_id';
\else
COMMIT PREPARED 'p :client_id';
\endif
\else
COMMIT;
\endif
});
my ($out, $err) = ('', '');
my $writers = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '4', '-t', '2500', '--random-seed=275', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \$out, '2>', \$err);
my $rounds = 0;
while ($writers->pumpable)
{
	my @runs = map { trigger($node, $_) } @dags;

	$writers->pump_nb;
	wait_for_run($node, $_) foreach @runs;
	$rounds++;
}
$writers->finish;
like($out, qr/number of transactions actually processed: 10000\/10000/, '10,000 transactions') or diag($err);
note("$rounds runs of each beside the writers");
cmp_ok($rounds, '>', 5, 'with runs beside them');
is(value($node, 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'none is left open');

run_upsert($node, $_) foreach @dags, @dags;
shows($node, q{SELECT count(*) FROM flow.dag_run WHERE state <> 'success'}, '0', 'all runs succeed');
cmp_ok(value($node, 'SELECT count(*) FROM busy'), '>', 10000, 'many rows');
is(difference($node, 'TABLE busy', 'TABLE by_time'), '', 'by timestamp nothing is lost');
is(difference($node, 'TABLE busy', 'TABLE by_local'), '', 'nor by timestamp without time zone');
is(difference($node, 'SELECT id FROM busy', 'TABLE by_number'), '', 'nor by number');
is(difference($node, q{SELECT id, 'INSERT' FROM busy}, 'TABLE written'), '', 'and each number is written once');
shows($node, q{SELECT sum(rows_written) = (SELECT count(*) FROM busy) FROM flow.task_run WHERE dag_id = 'by number'}, 't', 'as the runs say');
cmp_ok(value($node, q{SELECT (flow_get_position('by number', 'load')->>'id')::bigint - (SELECT max(id) FROM busy)}), '==', 0, 'the position has come to the last row');

$node->stop;
done_testing();
