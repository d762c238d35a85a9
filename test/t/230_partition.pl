
# Upserts into partitioned tables: partitions made for the interval of a run,
# and mode replace that loads a partition beside the old one.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $node = new_node(
	'partition',
	durable => 1,
	conf    => q{
flowpg.simulated_now = '2024-06-01 00:00:00+00'
});

# The partitions of a table, by name.
sub partitions
{
	my ($table) = @_;

	return value($node, qq{
SELECT string_agg(c.relname || ' ' || replace(pg_get_expr(c.relpartbound, c.oid), 'FOR VALUES ', ''),
	E'\\n' ORDER BY c.relname COLLATE "C")
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '$table'::regclass});
}

# Runs a DAG over days; what partitions its target has then.
sub made
{
	my ($dag, $target, $from, $to) = @_;
	my $state = wait_for_backfill($node, backfill($node, $dag, $from, $to // $from));

	return $state eq 'success' ? partitions($target)
	  : value($node, q{SELECT sqlstate || ' ' || message FROM flow.task_run WHERE state = 'failed'
		ORDER BY run_id DESC LIMIT 1});
}

# A table for each type, and a DAG for each and a schedule.
sub make_target
{
	my ($dag, $schedule, $type, $timezone, $arguments) = @_;

	$node->safe_psql('postgres', "CREATE TABLE $dag (at $type, id int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)");
	return define($node, sprintf q{
SELECT flow_create_dag('%s', '%s', '2024-01-01', timezone => '%s', is_paused => true);
SELECT flow_add_upsert('%s', 'load', $$SELECT %s AS at, n AS id FROM generate_series(1, 5) n$$, '%s',
	create_partition => true %s)},
		$dag, $schedule, $timezone, $dag,
		$type eq 'date' ? 'run.ds' : $type eq 'timestamp' ? 'run.local_start' : 'run.data_interval_start',
		$dag, $arguments // '');
}

# ------------------------------------------------------------------------
# Bounds, by the type of the column and the interval

make_target('by_date', '@daily', 'date', 'Asia/Seoul');
is(made('by_date', 'by_date', '2024-01-01', '2024-01-03'), <<'END' =~ s/\n\z//r, 'days of a date');
by_date_20240101 FROM ('2024-01-01') TO ('2024-01-02')
by_date_20240102 FROM ('2024-01-02') TO ('2024-01-03')
by_date_20240103 FROM ('2024-01-03') TO ('2024-01-04')
END
shows($node, q{SELECT count(*), count(DISTINCT tableoid) FROM by_date}, '15|3', 'hold their rows');
is(made('by_date', 'by_date', '2024-01-03', '2024-01-04') =~ tr/\n//, 3, 'only the missing one is made');

make_target('by_hour', '@hourly', 'date', 'Asia/Seoul');
is(made('by_hour', 'by_hour', '2024-01-01'), q{by_hour_20240101 FROM ('2024-01-01') TO ('2024-01-02')},
	'24 hours have one day between them');
shows($node, q{SELECT count(*) FROM flow.task_run r JOIN flow.dag_run USING (run_id, dag_id)
	WHERE r.dag_id = 'by_hour' AND r.state = 'success' AND try_number = 1}, '24', 'and none of them fails');

make_target('by_month', '@monthly', 'timestamp', 'America/New_York');
is(made('by_month', 'by_month', '2024-02-01'),
	q{by_month_20240201 FROM ('2024-02-01 00:00:00') TO ('2024-03-01 00:00:00')}, 'a month of a timestamp');

make_target('by_clock', '0 */6 * * *', 'timestamptz', 'America/New_York');
is(made('by_clock', 'by_clock', '2024-03-10'), <<'END' =~ s/\n\z//r, 'six hours of a timestamptz, and the day that has 23');
by_clock_20240310_0000 FROM ('2024-03-10 05:00:00+00') TO ('2024-03-10 10:00:00+00')
by_clock_20240310_0600 FROM ('2024-03-10 10:00:00+00') TO ('2024-03-10 16:00:00+00')
by_clock_20240310_1200 FROM ('2024-03-10 16:00:00+00') TO ('2024-03-10 22:00:00+00')
by_clock_20240310_1800 FROM ('2024-03-10 22:00:00+00') TO ('2024-03-11 04:00:00+00')
END

make_target('by_local', '@hourly', 'timestamp', 'America/New_York');
like(made('by_local', 'by_local', '2023-11-05'),
	qr/^(?=.*FROM \('2023-11-05 01:00:00'\) TO \('2023-11-05 02:00:00'\))(?!.*_1 FROM).*$/s,
	'an hour that comes twice has one partition');

# by hand: the day
foreach my $type (qw(date timestamp timestamptz))
{
	my $dag = "by_hand_$type";

	make_target($dag, '@once', $type, 'Asia/Seoul');
	$node->safe_psql('postgres', "SELECT flow_create_dag('$dag', NULL, timezone => 'Asia/Seoul')");
	my $run = trigger($node, $dag, logical_date => '2024-01-05 10:30');
	is(wait_for_run($node, $run), 'success', "a run without a schedule, by $type");
}
is(partitions('by_hand_date'), q{by_hand_date_20240105 FROM ('2024-01-05') TO ('2024-01-06')}, 'a day of dates');
is(partitions('by_hand_timestamp'),
	q{by_hand_timestamp_20240105 FROM ('2024-01-05 00:00:00') TO ('2024-01-06 00:00:00')}, 'of local time');
is(partitions('by_hand_timestamptz'),
	q{by_hand_timestamptz_20240105 FROM ('2024-01-04 15:00:00+00') TO ('2024-01-05 15:00:00+00')}, 'of instants');

# ------------------------------------------------------------------------
# What is there already

make_target('gaps', '@monthly', 'date', 'UTC', q{, page_size => 2});
$node->safe_psql('postgres', q{
CREATE TABLE gaps_old PARTITION OF gaps FOR VALUES FROM (MINVALUE) TO ('2023-12-15');
CREATE TABLE gaps_a PARTITION OF gaps FOR VALUES FROM ('2023-12-30') TO ('2024-01-03');
CREATE TABLE gaps_b PARTITION OF gaps FOR VALUES FROM ('2024-01-10') TO ('2024-01-11');
CREATE TABLE gaps_c PARTITION OF gaps FOR VALUES FROM ('2024-01-20') TO ('2024-02-03');
CREATE TABLE gaps_20240103 (i int);
CREATE TYPE gaps_20240103_1 AS ENUM ('x');
});
is(made('gaps', 'gaps', '2024-01-01'), <<'END' =~ s/\n\z//r, 'what is missing is made, under names that are free');
gaps_20240103_2 FROM ('2024-01-03') TO ('2024-01-10')
gaps_20240111 FROM ('2024-01-11') TO ('2024-01-20')
gaps_a FROM ('2023-12-30') TO ('2024-01-03')
gaps_b FROM ('2024-01-10') TO ('2024-01-11')
gaps_c FROM ('2024-01-20') TO ('2024-02-03')
gaps_old FROM (MINVALUE) TO ('2023-12-15')
END
$node->safe_psql('postgres', q{CREATE TABLE gaps_new PARTITION OF gaps FOR VALUES FROM ('2024-02-20') TO (MAXVALUE)});
like(made('gaps', 'gaps', '2024-02-01'), qr/^gaps_20240203 FROM \('2024-02-03'\) TO \('2024-02-20'\)$/m,
	'up to one without an end');
my $before = partitions('gaps');
is(made('gaps', 'gaps', '2024-04-01'), $before, 'and nothing within that');

my $long = 'l' x 60;
make_target($long, '@daily', 'date', 'UTC');
is(made($long, $long, '2024-01-01', '2024-01-02') =~ s/ .*//gr, join("\n",
	'l' x 54 . '_20240101', 'l' x 54 . '_20240102'), 'long names are cut');

make_target('fallback', '@daily', 'date', 'UTC');
$node->safe_psql('postgres', q{
CREATE TABLE fallback_rest PARTITION OF fallback DEFAULT;
INSERT INTO fallback VALUES ('2024-01-02', 1);
});
like(made('fallback', 'fallback', '2024-01-01'), qr/^fallback_20240101 /m, 'beside a default partition');
like(made('fallback', 'fallback', '2024-01-02'),
	qr/^23514 .*"fallback_rest".*from '2024-01-02' to '2024-01-03'.*Detach the default partition/s,
	'rows in that are an error that says what to do');

# ------------------------------------------------------------------------
# As CREATE TABLE ... PARTITION OF would make it

$node->safe_psql('postgres', q{
CREATE ROLE app LOGIN;
CREATE SCHEMA app AUTHORIZATION app;
SET SESSION AUTHORIZATION app;
CREATE TABLE app.kind (kind int PRIMARY KEY);
INSERT INTO app.kind VALUES (1);
CREATE TABLE app.full (gone int, id int GENERATED BY DEFAULT AS IDENTITY, at date NOT NULL, kind int DEFAULT 1 REFERENCES app.kind,
	n serial, twice int GENERATED ALWAYS AS (kind * 2) STORED, v text NOT NULL DEFAULT 'x' CHECK (v <> 'bad'),
	PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
ALTER TABLE app.full DROP gone;
ALTER TABLE app.full ALTER v SET STORAGE EXTERNAL;
CREATE INDEX ON app.full (v) WHERE kind > 0;
CREATE UNIQUE INDEX ON app.full (at, n);
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER note BEFORE INSERT ON app.full FOR EACH ROW EXECUTE FUNCTION app.note();
CREATE TABLE app.full_20240102 PARTITION OF app.full FOR VALUES FROM ('2024-01-02') TO ('2024-01-03');
RESET SESSION AUTHORIZATION;
});
define($node, q{
SELECT flow_create_dag('full', '@daily', '2024-01-01', is_paused => true);
SELECT flow_add_upsert('full', 'load', 'SELECT run.ds AS at, 1 AS id', 'app.full', create_partition => true)});
like(made('full', 'app.full', '2024-01-01'), qr/^full_20240101 /, 'a table with all that a table can have');
my $look = q{
SELECT string_agg(d, E'\n' ORDER BY d) FROM (
	SELECT replace(concat_ws(' ', 'column', attname, attnotnull, attislocal, attinhcount, attstorage, attcompression,
		attgenerated, attidentity, pg_get_expr(adbin, adrelid)), '%1$s', '') d
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		WHERE attrelid = '%1$s'::regclass AND attnum > 0
	UNION ALL SELECT concat_ws(' ', 'constraint', contype, conislocal, coninhcount, connoinherit, conparentid,
		CASE WHEN contype <> 'p' THEN conname END, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = '%1$s'::regclass
	UNION ALL SELECT concat_ws(' ', 'index', replace(replace(pg_get_indexdef(indexrelid), '%1$s', ''), '%2$s', ''), i.inhparent)
		FROM pg_index LEFT JOIN pg_inherits i ON i.inhrelid = indexrelid WHERE indrelid = '%1$s'::regclass
	UNION ALL SELECT concat_ws(' ', 'trigger', tgname, tgparentid) FROM pg_trigger
		WHERE tgrelid = '%1$s'::regclass AND NOT tgisinternal
	UNION ALL SELECT concat_ws(' ', 'table', relowner::regrole, relacl, reloptions, reltablespace, relam, relpersistence)
		FROM pg_class WHERE oid = '%1$s'::regclass) x};
is(value($node, sprintf $look, 'app.full_20240101', 'full_20240101'),
	value($node, sprintf $look, 'app.full_20240102', 'full_20240102'),
	'its partition is as CREATE TABLE ... PARTITION OF makes it');

# ------------------------------------------------------------------------
# Locks: readers go on, runs do not get into each other's way

make_target('busy', '@daily', 'date', 'UTC');
is(made('busy', 'busy', '2024-01-01') =~ tr/\n//, 0, 'a first partition');
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM busy');
like(made('busy', 'busy', '2024-01-02'), qr/busy_20240102/, 'one is made while a transaction reads the others');
$reader->quit;

# two DAGs, each as parallel as it can be, with the same days
$node->safe_psql('postgres', q{
CREATE TABLE race (at date, id int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)});
foreach my $n (1, 2)
{
	define($node, qq{
SELECT flow_create_dag('race$n', '\@daily', '2024-01-01', is_paused => true);
SELECT flow_add_upsert('race$n', 'load', 'SELECT run.ds AS at, $n AS id', 'race', create_partition => true)});
}
my @backfills = map { backfill($node, "race$_", '2024-01-01', '2024-02-29') } 1, 2;
is(wait_for_backfill($node, $_), 'success', 'two DAGs make the same partitions') foreach @backfills;
shows($node, q{SELECT count(*), count(DISTINCT tableoid), (SELECT count(*) FROM pg_inherits WHERE inhparent = 'race'::regclass)
	FROM race}, '120|60|60', 'each is made once');
shows($node, q{SELECT count(*) FROM flow.task_run WHERE dag_id LIKE 'race_' AND try_number > 1}, '0',
	'without a second try');

# a DROP in between, and another run of the same day
$node->safe_psql('postgres', 'DROP TABLE race_20240105');
is(wait_for_backfill($node, backfill($node, 'race1', '2024-01-04', '2024-01-06', reprocess => "'completed'")),
	'success', 'a day whose partition has been dropped');
shows($node, q{SELECT count(*) FROM race WHERE at = '2024-01-05'}, '1', 'is loaded again');

# modes, a retry, and a try in a session
make_target('replaced', '@daily', 'date', 'UTC', q{, mode => 'replace', replace_where => 'at = run.ds'});
is(made('replaced', 'replaced', '2024-01-01', '2024-01-02') =~ tr/\n//, 1, 'mode replace');
$node->safe_psql('postgres', q{
CREATE TABLE retried (at date, id int CHECK (id < 4), PRIMARY KEY (at, id)) PARTITION BY RANGE (at)});
define($node, q{
SELECT flow_create_dag('retried', '@daily', '2024-01-01', is_paused => true, retries => 1, retry_delay => '0');
SELECT flow_add_upsert('retried', 'load', 'SELECT run.ds AS at, n AS id FROM generate_series(1, 6 - run.try_number) n',
	'retried', page_size => 2, create_partition => true)});
like(made('retried', 'retried', '2024-01-01'), qr/^23514 /, 'a run that fails twice');
is(partitions('retried') =~ tr/\n//, 0, 'has made one partition');
is($node->safe_psql('postgres', q{
BEGIN;
SELECT count(*) FROM flow_test_task('by_date', 'load', '2024-02-01');
SELECT count(*) FROM by_date_20240201;
ROLLBACK}) =~ s/\n.*?(\d+)\z/ $1/r =~ s/\A.* //rs, '5', 'tried in a session');

# ------------------------------------------------------------------------
# Mode replace: most of a partition is new, so a new partition takes its place

# The OID of a table, which stays with changes in place and not with a swap.
sub oid_of
{
	return value($node, "SELECT '$_[0]'::regclass::oid");
}

# A target with a partition for each of three days, a source with as many rows
# of each, and a DAG that replaces a day; arguments of CREATE TABLE and more SQL.
sub make_swapped
{
	my ($dag, %options) = @_;
	my $type = $options{type} // 'date';
	my $where = $options{where} // 'at = run.ds';
	my $of = $options{of} // 'date(at) = run.ds';

	$node->safe_psql('postgres', qq{
CREATE TABLE ${dag}_source (at $type, id int, v text);
INSERT INTO ${dag}_source SELECT '2024-01-01'::date + d, n, 'new ' || n FROM generate_series(0, 2) d, generate_series(1, 2000) n;
CREATE TABLE $dag (at $type, id int, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE ${dag}_1 PARTITION OF $dag FOR VALUES FROM ('2024-01-01') TO ('2024-01-02');
CREATE TABLE ${dag}_2 PARTITION OF $dag FOR VALUES FROM ('2024-01-02') TO ('2024-01-03');
CREATE TABLE ${dag}_3 PARTITION OF $dag FOR VALUES FROM ('2024-01-03') TO ('2024-01-04');
INSERT INTO $dag SELECT '2024-01-01'::date + d, n, 'old' FROM generate_series(0, 2) d, generate_series(1001, 3000) n;
}) unless $options{is_made};
	$node->safe_psql('postgres', $options{sql}) if $options{sql};
	return define($node, sprintf q{
SELECT flow_create_dag('%1$s', '@daily', '2024-01-01', is_paused => true, retries => 0);
SELECT flow_add_upsert('%1$s', 'load', $$SELECT %4$s FROM %1$s_source WHERE %3$s$$, '%1$s', mode => 'replace', replace_where => '%2$s')},
		$dag, $where, $of, $options{columns} // '*');
}

# Runs a day; "state rows_written", and whether the partition is another one.
sub replaced
{
	my ($dag, $day, $partition) = @_;
	my $before = oid_of($partition);
	my $backfill = backfill($node, $dag, $day, $day, reprocess => "'completed'");
	my $state = wait_for_backfill($node, $backfill);
	my $done = value($node, "SELECT concat_ws(' ', r.state, rows_written, sqlstate, message)
		FROM flow.task_run r JOIN flow.backfill_run b USING (run_id) WHERE backfill_id = $backfill");

	return "$done " . (oid_of($partition) eq $before ? 'in place' : 'swapped');
}

# Of the second day: 1000 new, 1000 changed, 1000 deleted.
sub swaps
{
	my ($dag, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	make_swapped($dag, %options);
	is(replaced($dag, '2024-01-02', "${dag}_2"), 'success 3000 swapped', "$name is swapped");
	return is(difference($node, "SELECT * FROM ${dag}_source WHERE date(at) = '2024-01-02'",
			"SELECT at, id, v FROM $dag WHERE date(at) = '2024-01-02'"), '', 'and as the source has it');
}

sub stays
{
	my ($dag, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	make_swapped($dag, %options);
	is(replaced($dag, '2024-01-02', "${dag}_2"), 'success 3000 in place', "$name is changed in place");
	return is(difference($node, "SELECT * FROM ${dag}_source WHERE date(at) = '2024-01-02'",
			"SELECT at, id, v FROM $dag WHERE date(at) = '2024-01-02'"), '', 'and as the source has it');
}

swaps('swap', 'a day of dates');
shows($node, q{SELECT count(*) FILTER (WHERE v = 'old'), count(*) FROM swap WHERE at <> '2024-01-02'}, '4000|4000',
	'other days are left alone');
is(replaced('swap', '2024-01-02', 'swap_2'), 'success 0 in place', 'a second run writes nothing');
$node->safe_psql('postgres', q{UPDATE swap_source SET v = 'again' WHERE id <= 1000});
is(replaced('swap', '2024-01-02', 'swap_2'), 'success 1000 in place', 'half of it is changed in place');
$node->safe_psql('postgres', q{UPDATE swap_source SET v = 'more' WHERE id <= 1001});
is(replaced('swap', '2024-01-02', 'swap_2'), 'success 1001 swapped', 'more than half is swapped');
$node->safe_psql('postgres', q{TRUNCATE swap_3});
is(replaced('swap', '2024-01-03', 'swap_3'), 'success 2000 swapped', 'and so is an empty partition');
$node->safe_psql('postgres', q{DELETE FROM swap_source WHERE at = '2024-01-03'});
is(replaced('swap', '2024-01-03', 'swap_3'), 'success 2000 swapped', 'and one that becomes empty');
$node->safe_psql('postgres', q{DELETE FROM swap_source WHERE at = '2024-01-01' AND id > 10; DELETE FROM swap WHERE at = '2024-01-01' AND id > 1010});
is(replaced('swap', '2024-01-01', 'swap_1'), 'success 20 in place', 'a few rows are not');
shows($node, q{SELECT relname FROM pg_class WHERE relname LIKE 'flowpg%' AND relkind = 'r'}, '', 'no table is left behind');

# conditions that are seen to be whole partitions, and such that are not
my $local = 'at >= run.local_start AND at < run.local_end';
my $range = 'at >= run.data_interval_start AND at < run.data_interval_end';

swaps('s_local', 'a range of timestamps', type => 'timestamp', where => $local);
swaps('s_instant', 'a range of timestamptz', type => 'timestamptz', where => $range);
swaps('s_between', 'a day as a range of dates', where => 'at BETWEEN run.ds AND run.ds');
stays('i_cast', 'a cast of the column', type => 'timestamp', where => 'at::date = run.ds');
stays('i_part', 'a part of a partition', where => 'at = run.ds AND id > 0');
stays('i_mixed', 'a comparison across time zones', type => 'timestamp', where => $range);
stays('i_query', 'a subquery', where => 'at = (SELECT run.ds)');
$node->safe_psql('postgres', q{
CREATE TABLE s_list_source AS SELECT date '2024-01-01' + d AS at, n AS id, 'v' AS v FROM generate_series(0, 2) d, generate_series(1, 2000) n;
CREATE TABLE s_list (v text, gone int, id int, at date, PRIMARY KEY (at, id)) PARTITION BY LIST (at);
ALTER TABLE s_list DROP gone;
CREATE TABLE s_list_2 PARTITION OF s_list FOR VALUES IN ('2024-01-02');
CREATE TABLE s_list_3 (id int NOT NULL, at date NOT NULL, v text);
ALTER TABLE s_list ATTACH PARTITION s_list_3 FOR VALUES IN ('2024-01-03', '2024-01-04');
CREATE TABLE s_list_rest PARTITION OF s_list DEFAULT;
});
make_swapped('s_list', is_made => 1);
is(replaced('s_list', '2024-01-02', 's_list_2'), 'success 2000 swapped', 'a partition of one value is swapped');
like(replaced('s_list', '2024-01-03', 's_list_3'), qr/^success 2000 in place/, 'a part of two values is not');
make_swapped('s_list', is_made => 1, where => 'at IN (run.ds, run.ds + 1)', of => 'at IN (run.ds, run.ds + 1)');
$node->safe_psql('postgres', q{UPDATE s_list_source SET v = 'w'});
like(replaced('s_list', '2024-01-03', 's_list_3'), qr/^success 2000 swapped/, 'both are');
make_swapped('s_list', is_made => 1, where => 'at IN (run.ds, run.ds + 1, run.ds + 2)', of => 'at BETWEEN run.ds AND run.ds + 2');
$node->safe_psql('postgres', q{UPDATE s_list_source SET v = 'x'});
my $other = oid_of('s_list_3');
like(replaced('s_list', '2024-01-02', 's_list_2'), qr/^success 4000 swapped/, 'two partitions are');
isnt(oid_of('s_list_3'), $other, 'each of them');
is(difference($node, q{SELECT v, id, at FROM s_list_source WHERE at > '2024-01-01'}, 'TABLE s_list'), '', 'and as the source has them');
$node->safe_psql('postgres', q{
CREATE TABLE s_hash_source AS SELECT n AS id, 'v' AS v FROM generate_series(1, 4000) n;
CREATE TABLE s_hash (id bigint PRIMARY KEY, v varchar(10)) PARTITION BY HASH (id);
CREATE TABLE s_hash_1 PARTITION OF s_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s_hash_2 PARTITION OF s_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
});
make_swapped('s_hash', is_made => 1, where => 'true', of => 'true');
$other = oid_of('s_hash_2');
is(replaced('s_hash', '2024-01-02', 's_hash_1'), 'success 4000 swapped', 'all partitions, by hash, are swapped');
isnt(oid_of('s_hash_2'), $other, 'each of them');
is(difference($node, 'SELECT id, v::varchar FROM s_hash_source', 'TABLE s_hash'), '', 'and as the source has them');

# what a swap would lose or show
stays('i_trigger', 'a target with a trigger', sql => q{
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing AFTER INSERT ON i_trigger EXECUTE FUNCTION nothing()});
stays('i_row', 'a partition with a trigger', sql => q{
CREATE TRIGGER nothing AFTER INSERT ON i_row_2 FOR EACH ROW EXECUTE FUNCTION nothing()});
stays('i_foreign', 'a target with a foreign key', sql => q{
CREATE TABLE ids (id int PRIMARY KEY); INSERT INTO ids SELECT generate_series(1, 3000);
ALTER TABLE i_foreign ADD FOREIGN KEY (id) REFERENCES ids});
stays('i_referenced', 'a target of a foreign key', sql => q{
CREATE TABLE pointer (at date, id int, FOREIGN KEY (at, id) REFERENCES i_referenced)});
stays('i_rls', 'a target with row security', sql => 'ALTER TABLE i_rls ENABLE ROW LEVEL SECURITY');
stays('i_identity', 'a partition with another replica identity', sql => 'ALTER TABLE i_identity_2 REPLICA IDENTITY FULL');
stays('i_view', 'a partition with a view', sql => 'CREATE VIEW i_view_view AS SELECT * FROM i_view_2');
stays('i_type', 'a partition whose type is used', sql => 'CREATE TABLE i_type_user (r i_type_2)');
stays('i_statistics', 'a partition with statistics', sql => 'CREATE STATISTICS i_statistics_s ON at, id FROM i_statistics_2');
stays('i_column', 'a partition with rights on a column', sql => 'GRANT SELECT (v) ON i_column_2 TO app');
stays('i_owner', 'a partition of another owner', sql => 'ALTER TABLE i_owner_2 OWNER TO app');
stays('i_published', 'a published target', sql => 'SET client_min_messages = error; CREATE PUBLICATION p FOR TABLE i_published WITH (publish_via_partition_root)');
$node->safe_psql('postgres', 'DROP PUBLICATION p');
stays('i_default', 'a target with rows in a default partition', sql => q{
CREATE TABLE i_default_rest PARTITION OF i_default DEFAULT; INSERT INTO i_default VALUES ('2025-01-01', 1, 'x')});
stays('i_lacking', 'a target with a column that the source does not have', sql => 'ALTER TABLE i_lacking ADD more int DEFAULT 1');
$node->safe_psql('postgres', q{
CREATE TABLE i_sub_source AS SELECT date '2024-01-02' AS at, n AS id, 'v' AS v FROM generate_series(1, 2000) n;
CREATE TABLE i_sub (at date, id int, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE i_sub_2 PARTITION OF i_sub FOR VALUES FROM ('2024-01-02') TO ('2024-01-03') PARTITION BY LIST (id);
CREATE TABLE i_sub_2a PARTITION OF i_sub_2 DEFAULT;
});
make_swapped('i_sub', is_made => 1);
is(replaced('i_sub', '2024-01-02', 'i_sub_2a'), 'success 2000 in place', 'a partition of partitions is changed in place');

# errors are those of the other way
make_swapped('e_outside', sql => q{UPDATE e_outside_source SET at = '2024-01-03' WHERE at = '2024-01-02' AND id = 5},
	of => q{(at = run.ds OR id = 5)});
like(replaced('e_outside', '2024-01-02', 'e_outside_2'), qr/^failed 0 44000 .*\(at, id\) = \(2024-01-0[13], 5\).* in place$/s,
	'a row that does not match');
make_swapped('e_check', sql => q{DELETE FROM e_check WHERE id = 1500; ALTER TABLE e_check ADD CONSTRAINT no CHECK (id <> 1500)});
like(replaced('e_check', '2024-01-02', 'e_check_2'), qr/^failed 0 23514 new row for relation "e_check_2" violates check constraint "no".* in place$/s,
	'a row that is refused names the partition');
make_swapped('e_length', sql => q{ALTER TABLE e_length ALTER v TYPE varchar(7)});
like(replaced('e_length', '2024-01-02', 'e_length_2'), qr/^failed 0 22001 .* in place$/s, 'a value that is too long is not cut');

# what a table is besides its rows
$node->safe_psql('postgres', q{
CREATE ROLE reader;
CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
});
mkdir $node->basedir . '/space';
my $space = $node->basedir . '/space';
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
make_swapped('kept', sql => q{
ALTER TABLE kept ALTER v SET STORAGE EXTERNAL, ALTER v SET DEFAULT 'd', ADD CONSTRAINT positive CHECK (id > 0);
ALTER TABLE kept ADD doubled int GENERATED ALWAYS AS (id * 2) STORED;
CREATE INDEX kept_v ON kept (v);
CREATE INDEX "odd USING name" ON kept_2 (twice(id)) WHERE v IS NOT NULL;
CREATE INDEX kept_space ON kept_2 (id) WITH (fillfactor = 50) TABLESPACE space;
ALTER TABLE kept_2 SET (fillfactor = 60, autovacuum_enabled = false, toast.autovacuum_enabled = false), SET TABLESPACE space;
COMMENT ON TABLE kept_2 IS 'a comment''s text';
COMMENT ON COLUMN kept_2.v IS 'of a column';
GRANT SELECT ON kept_2 TO reader, PUBLIC;
GRANT INSERT ON kept_2 TO reader WITH GRANT OPTION;
REVOKE DELETE ON kept_2 FROM CURRENT_USER;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app;
});
# core marks a primary key that is attached NO INHERIT, which means nothing there
my $all_of_it = sprintf $look =~ s/connoinherit/CASE WHEN contype <> 'p' THEN connoinherit END/r, 'kept_2', 'nothing';
my $kept = q{SELECT concat_ws(' ', obj_description('kept_2'::regclass), col_description('kept_2'::regclass, 3),
	(SELECT string_agg(x::text, ',' ORDER BY x::text) FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = 'kept_2'::regclass),
	(SELECT string_agg(concat_ws(' ', c.relname, c.reltablespace, c.reloptions), ',' ORDER BY c.relname) FROM pg_class c
		WHERE c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'kept_2'::regclass)),
	(SELECT t.reloptions FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = 'kept_2'::regclass),
	(SELECT string_agg(conname, ',' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'kept_2'::regclass))};
my @then = (value($node, $all_of_it) =~ s{table .*}{}r, value($node, $kept));
is(replaced('kept', '2024-01-02', 'kept_2'), 'success 3000 swapped', 'a partition with all that it can have');
my @now = (value($node, $all_of_it) =~ s{table .*}{}r, value($node, $kept));
is($now[$_], $then[$_], ('columns, constraints and indexes', 'rights, comments, settings and names')[$_] . ' are kept')
  foreach 0, 1;
shows($node, q{SELECT c.relowner::regrole = current_user::regrole, spcname, c.reloptions, reltuples FROM pg_class c
	JOIN pg_tablespace t ON t.oid = reltablespace WHERE c.oid = 'kept_2'::regclass},
	't|space|{fillfactor=60,autovacuum_enabled=false}|2000', 'so is where it is, and it is analyzed');
shows($node, q{SET enable_seqscan = off; SELECT count(*), sum(doubled - 2 * id) FROM kept WHERE at = '2024-01-02' AND v LIKE 'new%'},
	'2000|0', 'its indexes and generated columns are filled');
$node->safe_psql('postgres', 'ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM app');

# ------------------------------------------------------------------------
# Readers: not held up while it is loaded; one that stays has it done in place

my $gate = close_gate($node, 7);
make_swapped('gated', of => 'date(at) = run.ds AND ' . pass_gate(7) . ' IS NOT NULL');
my $gated = oid_of('gated_2');
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM swap');
my $running = backfill($node, 'gated', '2024-01-02', '2024-01-02');
wait_for($node, q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'the gate');
shows($node, q{SET lock_timeout = '1s'; SELECT count(*) FILTER (WHERE at = '2024-01-02'), count(*) FROM gated}, '2000|6000',
	'readers of all partitions go on');
shows($node, q{SET lock_timeout = '1s'; BEGIN; INSERT INTO gated VALUES ('2024-01-02', 9999, 'x'); ROLLBACK}, '', 'and writers');
$gate->open;
is(wait_for_backfill($node, $running), 'success', 'it goes on');
isnt(oid_of('gated_2'), $gated, 'and is swapped');
is($old->query_safe(q{SELECT count(*), min(v) FROM gated WHERE at = '2024-01-02'}), '2000|new 1',
	'an older snapshot finds the new rows, not none');
$old->query_safe('COMMIT; BEGIN; SELECT count(*) FROM gated');
$node->safe_psql('postgres', q{UPDATE gated_source SET v = 'newer'});
my $log = -s $node->logfile;
is(replaced('gated', '2024-01-02', 'gated_2'), 'success 2000 in place', 'a transaction that has read it has it changed in place');
ok($node->log_contains('partitions of target "gated" of an upsert are not swapped', $log), 'and the log says so');
shows($node, q{SELECT count(*) FROM pg_class WHERE relname LIKE 'flowpg\_%' AND relkind = 'r'}, '0', 'nothing is left behind');
$old->quit;

# many days at once
$node->safe_psql('postgres', q{
CREATE TABLE many_source AS SELECT date '2024-01-01' + d AS at, n AS id, 'new' AS v FROM generate_series(0, 30) d, generate_series(1, 1500) n;
CREATE TABLE many (at date, id int, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
});
define($node, q{
SELECT flow_create_dag('many', '@daily', '2024-01-01', is_paused => true, retries => 0);
SELECT flow_add_upsert('many', 'load', 'SELECT * FROM many_source WHERE at = run.ds', 'many', mode => 'replace',
	replace_where => 'at = run.ds', create_partition => true)});
is(wait_for_backfill($node, backfill($node, 'many', '2024-01-01', '2024-01-31')), 'success', 'many days, each with a partition of its own');
shows($node, q{SELECT count(*), count(DISTINCT tableoid) FROM many}, '46500|31', 'are all there');

# ------------------------------------------------------------------------
# Killed, or failing: as if it had not begun

make_swapped('failing', of => q{date(at) = run.ds AND 1 / (id - 1999) IS NOT NULL});
like(replaced('failing', '2024-01-02', 'failing_2'), qr/^failed 0 22012 .* in place$/s, 'a source that fails in the middle');
shows($node, q{SELECT count(*) FILTER (WHERE v = 'old'), count(*) FROM failing}, '6000|6000', 'changes nothing');

make_kill_once($node);
make_swapped('killed', of => q{date(at) = run.ds}, sql => q{
CREATE FUNCTION kill_at(key text, id int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM public.kill_once(key); RETURN true; END';
CREATE FUNCTION kill_at_drop() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_name = 'killed_2') THEN
		PERFORM public.kill_once('drop');
	END IF;
END $$;
CREATE EVENT TRIGGER kill_at_drop ON sql_drop EXECUTE FUNCTION kill_at_drop();
ALTER TABLE killed ADD CHECK (id <> 1500 OR v = 'old' OR kill_at('check', id));
CREATE INDEX ON killed_2 ((id = 1500 AND v <> 'old' AND kill_at('index', id)));
});
$gated = oid_of('killed_2');
my $killed = backfill($node, 'killed', '2024-01-02', '2024-01-02');
wait_through_crashes($node, 3);
patiently { wait_for_backfill($node, $killed) };
shows($node, "SELECT state FROM flow.backfill WHERE backfill_id = $killed", 'success', 'killed three times, it is done');
isnt(oid_of('killed_2'), $gated, 'and swapped');
is(difference($node, q{SELECT * FROM killed_source WHERE at = '2024-01-02'}, q{SELECT * FROM killed WHERE at = '2024-01-02'}),
	'', 'as the source has it');
shows($node, q{SELECT count(*) FROM pg_class WHERE relname LIKE 'flowpg\_%' AND relkind = 'r' AND relpersistence <> 't'}, '0',
	'no table is left behind');

$node->stop;
done_testing();
