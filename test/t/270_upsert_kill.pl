
# A load of 20 pages whose backend is killed (SIGKILL) in every page and at
# every border between two pages ends with the right rows, each written once.
#
# A kill of one worker restarts the server and cuts off all tasks.  So the
# loads of all modes run side by side: each waits at its next place to die until
# all have come to theirs, and the last one kills.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node(
	'upsert_kill',
	durable => 1,
	conf    => q{
flowpg.max_workers = 16
autovacuum = off
});

make_kill_once($node);

# ------------------------------------------------------------------------
# A page that is done is progress: the count of crashes begins anew

$node->safe_psql('postgres', q{
CREATE TABLE eight AS SELECT n AS id FROM generate_series(1, 80) n;
ALTER TABLE eight ADD PRIMARY KEY (id);
CREATE TABLE eight_copy (LIKE eight INCLUDING ALL);
-- what is not on disk when the server is killed would be lost, and done again
CREATE FUNCTION wait_for_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('synchronous_commit', 'local', true);
	RETURN NULL;
END $$;
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM kill_once('eight ' || NEW.id);
	RETURN NULL;
END $$;
CREATE TRIGGER wait_for_disk AFTER INSERT ON eight_copy EXECUTE FUNCTION wait_for_disk();
CREATE TRIGGER die AFTER INSERT ON eight_copy FOR EACH ROW WHEN (NEW.id % 10 = 5) EXECUTE FUNCTION die();
});
upsert($node, 'eight', q{'eight', 'eight_copy', page_size => 10}, 'retries => 0');
my $run = trigger($node, 'eight');
wait_through_crashes($node, 8);
is(patiently { wait_for_run($node, $run) }, 'success', 'eight pages, a crash in each');
is(progress($node, $run), 'success 8 80', 'each page and row counts once');

# and a page that always brings the server down does not do so for ever
$node->safe_psql('postgres', q{
TRUNCATE eight_copy;
CREATE OR REPLACE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id = 25 THEN
		PERFORM kill_once('always ' || clock_timestamp()::text);
	END IF;
	RETURN NULL;
END $$;
});
$run = trigger($node, 'eight');
wait_through_crashes($node, 14);
is(patiently { wait_for_run($node, $run) }, 'failed', 'a page that always brings the server down');
like(task_message($node, $run), qr/^57P02 .*crashed 6 times in a row/, 'is given up');
is(progress($node, $run), 'failed 2 20', 'after the pages before it');

# ------------------------------------------------------------------------
# All modes at once, killed at 40 places each

my $npages = 20;
my $nplaces = 2 * $npages;
my $places = $node->basedir . '/places';
my $connection = '-h ' . $node->host . ' -p ' . $node->port;

# name => [source, arguments, rows that the target has before, rows that are
# written]; "copied" is a table without index, which is read once
my %loads = (
	'new'      => [ q{'original'}, '', 'false', 'true' ],
	'new once' => [ q{'copied'}, '', 'false', 'true' ],
	'changed'      => [ q{'original'}, '', 'true', 'differs(id)' ],
	'changed once' => [ q{'copied'}, '', 'true', 'differs(id)' ],
	'same'   => [ q{'SELECT id, look(id, v) AS v, at FROM original'}, '', 'true', 'false' ],
	'append' => [ q{'original'}, q{mode => 'append'}, 'NOT differs(id)', 'differs(id)' ],
	'append once' => [ q{'copied'}, q{mode => 'append', page_by => '{at}'}, 'NOT differs(id)', 'differs(id)' ],
	'by time'   => [ q{'original'}, q{incremental => true, page_by => '{at}'}, 'false', 'true' ],
	'by number' => [ q{'original'}, q{incremental => true}, 'false', 'true' ],
	'missing'      => [ q{'SELECT * FROM original WHERE id <= 100'}, 'delete_missing => true', 'id > 100', 'true' ],
	'missing once' => [ q{'SELECT * FROM copied WHERE id <= 100'}, 'delete_missing => true', 'id > 100', 'true' ],
);
my $nloads = keys %loads;

mkdir $places;
$node->safe_psql('postgres', qq{
CREATE TABLE original (id serial PRIMARY KEY, v text, at timestamptz);
INSERT INTO original (v, at)
	SELECT 'v' || n, timestamptz '2024-01-01' + n / 3 * interval '1 minute' FROM generate_series(1, 10 * $npages) n;
CREATE INDEX ON original (at, id);
CREATE TABLE copied AS SELECT * FROM original;
CREATE TABLE written (load text, id int);

-- rows that are changed or new where others are not
CREATE FUNCTION differs(id int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT id % 10 IN (0, 1, 5, 7)';

-- Waits for all loads to come to a place, and dies there; if that has been, does nothing.
CREATE FUNCTION meet_and_die(load text, place int) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	IF (pg_stat_file(format('$places/%s', place), true)).isdir THEN
		RETURN;
	END IF;
	-- with a commit that waits for the disk, so that no page before this one is lost
	EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format(
		'cat >/dev/null; cd "$places"; touch "%1\$s.%2\$s"; '
		'if [ \$(ls | grep -c "^%1\$s\\.") -eq $nloads ] && mkdir "%1\$s"; '
		'then psql -X -q $connection -d postgres -c "CREATE TABLE place_%1\$s ()" && kill -9 %3\$s; fi',
		place, load, pg_backend_pid()));
	LOOP
		PERFORM pg_sleep(60);
	END LOOP;
END \$\$;

-- The place of a row, if it is one: in each page the middle row, before it the
-- first row of an even page, after it the commit of an odd one.
CREATE FUNCTION place(id int, is_commit bool) RETURNS int IMMUTABLE LANGUAGE sql AS \$\$
SELECT CASE
	WHEN id % 10 = 1 AND id / 10 % 2 = 1 AND NOT is_commit THEN id / 10 * 2 + 1
	WHEN id % 10 = 5 AND NOT is_commit THEN id / 10 * 2 + CASE WHEN id / 10 % 2 = 1 THEN 2 ELSE 1 END
	WHEN id % 10 = 0 AND id / 10 % 2 = 1 AND is_commit THEN id / 10 * 2
END \$\$;

CREATE FUNCTION die_here() RETURNS trigger LANGUAGE plpgsql AS \$\$
DECLARE
	here int := place(coalesce(NEW.id, OLD.id), TG_NAME = 'at_commit');
BEGIN
	IF TG_ARGV[1] = 'down' THEN
		-- from the last page to the first: as if counted from the other end
		here := place(10 * $npages + 10 * ((coalesce(NEW.id, OLD.id) - 1) / 10 * -2 - 1) + coalesce(NEW.id, OLD.id), TG_NAME = 'at_commit');
	END IF;
	IF here IS NOT NULL THEN
		PERFORM meet_and_die(TG_ARGV[0], here);
	END IF;
	IF TG_NAME = 'write_log' THEN
		INSERT INTO written VALUES (TG_ARGV[0], coalesce(NEW.id, OLD.id));
	END IF;
	RETURN coalesce(NEW, OLD);
END \$\$;

-- A source's column that dies when it is read.
CREATE FUNCTION look_volatile(id int) RETURNS bool LANGUAGE plpgsql AS \$\$
DECLARE
	here int := coalesce(place(id, false), place(id, true));
BEGIN
	IF here IS NOT NULL THEN
		PERFORM meet_and_die('same', here);
	END IF;
	RETURN true;
END \$\$;
CREATE FUNCTION look(id int, v text) RETURNS text STABLE LANGUAGE sql AS
	'SELECT CASE WHEN look_volatile(id) THEN v END';
});

foreach my $name (sort keys %loads)
{
	my ($source, $arguments, $before, $written) = @{ $loads{$name} };
	my $direction = $name eq 'append once' ? 'down' : 'up';

	$node->safe_psql('postgres', qq{
CREATE TABLE "$name" (id int PRIMARY KEY, v text, at timestamptz);
INSERT INTO "$name" SELECT id, CASE WHEN ($written) THEN 'old' ELSE v END, at FROM original WHERE $before;
CREATE TRIGGER at_begin BEFORE INSERT OR UPDATE OR DELETE ON "$name" FOR EACH ROW EXECUTE FUNCTION die_here('$name', '$direction');
CREATE TRIGGER write_log AFTER INSERT OR UPDATE OR DELETE ON "$name" FOR EACH ROW EXECUTE FUNCTION die_here('$name', '$direction');
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE OR DELETE ON "$name" DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION die_here('$name', '$direction');
});
	upsert($node, $name, "$source, '\"$name\"', page_size => 10" . ($arguments ? ", $arguments" : ''), 'retries => 0');
}

my $crashes = crash_count($node);
my %runs = map { $_ => trigger($node, $_) } sort keys %loads;

wait_through_crashes($node, $crashes + $nplaces);
foreach my $name (sort keys %loads)
{
	my ($source, $arguments, $before, $written) = @{ $loads{$name} };
	my $is_deleting = $arguments =~ /delete/;
	my $expected = value($node, "SELECT count(*) FROM original WHERE $written");
	# its own ten and the ten that the source had before are gone through
	my $pages = $is_deleting ? $npages + 10 : $npages;

	is(patiently { wait_for_run($node, $runs{$name}) }, 'success', "$name: killed $nplaces times");
	is(progress($node, $runs{$name}), "success $pages $expected", 'each page and row counts once');
	is(difference($node, 'SELECT * FROM original' . ($is_deleting ? ' WHERE id <= 100' : ''), "TABLE \"$name\""),
		'', 'the rows are right');
	is(difference($node, "SELECT id FROM original WHERE $written", "SELECT id FROM written WHERE load = '$name'"),
		'', 'each was written once');
}
is(crash_count($node), $crashes + $nplaces, 'there was no other crash');
shows($node, 'SELECT max(crashes) FROM flow.task_run WHERE run_id = ' . $runs{new}, '0', 'a success resets the count of crashes');

# ------------------------------------------------------------------------
# Mode replace: one page, read from a table and once

foreach my $source ('original', 'SELECT id, max(v) AS v, max(at) AS at FROM copied GROUP BY id')
{
	$node->safe_psql('postgres', qq{
DROP TABLE IF EXISTS replaced;
CREATE TABLE replaced (id int PRIMARY KEY, v text, at timestamptz);
INSERT INTO replaced SELECT n, 'old' FROM generate_series(101, 300) n;
CREATE OR REPLACE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM kill_once('replace ' || TG_NAME || ' ' || TG_OP || md5('$source'));
	RETURN NULL;
END \$\$;
CREATE TRIGGER begun BEFORE INSERT OR UPDATE OR DELETE ON replaced EXECUTE FUNCTION die();
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON replaced DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION die();
});
	upsert($node, 'replace', "'$source', 'replaced', mode => 'replace', replace_where => 'true'", 'retries => 0');
	$crashes = crash_count($node);
	$run = trigger($node, 'replace');
	wait_through_crashes($node, $crashes + 4);
	is(patiently { wait_for_run($node, $run) }, 'success', 'replace: killed four times');
	is(progress($node, $run), 'success 1 300', 'in the end it is done');
	is(difference($node, 'TABLE original', 'TABLE replaced'), '', 'as it should be');
}

$node->stop;
done_testing();
