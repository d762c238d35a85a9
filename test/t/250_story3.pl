
# A company's four large tables, from MariaDB and from another PostgreSQL through
# three levels, at once, with two workers, while others write to them.
#
# FLOWPG_STORY_ROWS is the number of rows of the smallest table (10,000 where it
# is not set); the real one has 1,600,000, the largest 2,300,000.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FlowpgTest;
use FlowpgLoad;
use FlowpgMariadb;
use FlowpgUpsert;

my $lacks_mariadb = FlowpgMariadb::missing();
plan skip_all => $lacks_mariadb if $lacks_mariadb;

my $rows = $ENV{FLOWPG_STORY_ROWS} // 10_000;
my $is_real = $rows >= 100_000;
my $page_size = $is_real ? 10_000 : 1_000;
my $memory_limit_kb = 16 * 1024;

my %table = (
	'UNIERP5.B_MAJOR' => { legacy => 'my', columns => 43, rows => int($rows * 1.0) },
	'UNIERP5.B_MINOR' => { legacy => 'pg', columns => 58, rows => int($rows * 1.15) },
	'UNIERP5.B_ITEM'  => { legacy => 'my', columns => 72, rows => int($rows * 1.3) },
	'UNIERP5.A_GL'    => { legacy => 'pg', columns => 86, rows => int($rows * 1.44) });
my @tables = sort keys %table;

my $node = new_node(
	'story', conf => q{
flowpg.simulated_now = '2024-02-29 12:00:00+09'
flowpg.timezone = 'Asia/Seoul'
flowpg.max_workers = 2
max_wal_size = 4GB
});
my $remote = PostgreSQL::Test::Cluster->new('legacy');
$remote->init;
$remote->append_conf('postgresql.conf', "fsync = off\nmax_wal_size = 4GB\nlog_statement = none\n");
$remote->start;
my $mariadb = FlowpgMariadb->new('story', $is_real ? '--innodb-buffer-pool-size=2G' : ());
$mariadb->sql('SET GLOBAL general_log = 0');

my ($host, $port) = ($remote->host, $remote->port);
$node->safe_psql('postgres', $mariadb->server_sql('my') . qq{
CREATE EXTENSION postgres_fdw;
CREATE SERVER pg FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', fetch_size '1000');
CREATE USER MAPPING FOR PUBLIC SERVER pg;
CREATE SCHEMA legacy;
CREATE SCHEMA lv0;
CREATE SCHEMA lv1;
CREATE SCHEMA lv2;
});

sub legacy_sql
{
	my ($table, $sql) = @_;

	return $table{$table}{legacy} eq 'my' ? $mariadb->sql($sql) : $remote->safe_psql('postgres', $sql);
}

# Columns after the key: type and the value made of the number n.
sub columns
{
	my ($table) = @_;
	my $concat = $table{$table}{legacy} eq 'my' ?
	  sub { "concat('$_[0] ', n)" } : sub { "'$_[0] ' || n" };
	my @kinds = (
		[ 'varchar(10)',   sub { "substr('ABCDEFGHIJ', 1 + n % 7, 3)" } ],
		[ 'varchar(100)',  sub { $concat->("name $_[0]") } ],
		[ 'numeric(18,4)', sub { "n * $_[0] / 16.0" } ],
		[ 'int',           sub { "n % 1000 + $_[0]" } ],
		[ 'text',          sub { "CASE WHEN n % 5 = 0 THEN NULL ELSE 'remark of some length' END" } ],
		[ 'timestamp',     sub { q{TIMESTAMP '2023-01-01 00:00:00'} } ],
		[ 'char(1)',       sub { "'Y'" } ]);
	my @columns = map { [ "c$_", $kinds[ $_ % @kinds ][0], $kinds[ $_ % @kinds ][1]->($_) ] }
	  2 .. $table{$table}{columns} - 2;

	# what MariaDB calls timestamp has a zone and changes by itself
	if ($table{$table}{legacy} eq 'my')
	{
		$_->[1] =~ s/timestamp/datetime/ foreach @columns;
	}
	return @columns;
}

my @codes = ('02', '82', 'HI', 'K2', 'ON');
my $began = time;
foreach my $table (@tables)
{
	my $is_my = $table{$table}{legacy} eq 'my';
	my $time = $is_my ? 'datetime' : 'timestamp';
	my $name = $is_my ? "`$table`" : qq{"$table"};
	my @columns = columns($table);
	my $key = $is_my ? q{concat(elt(1 + n % 5, '02', '82', 'HI', 'K2', 'ON'), lpad(n, 8, '0'))} :
	  q{(ARRAY['02', '82', 'HI', 'K2', 'ON'])[1 + n % 5] || lpad(n::text, 8, '0')};
	my $numbers = $is_my ? "(SELECT seq AS n FROM seq_1_to_$table{$table}{rows}) s" : "generate_series(1, $table{$table}{rows}) n";
	my $create = "$name (cd varchar(20) NOT NULL PRIMARY KEY, " . join(', ', map { "$_->[0] $_->[1]" } @columns)
	  . ", insrt_dt $time NOT NULL, updt_dt $time)";

	legacy_sql($table, "CREATE TABLE $create; INSERT INTO $name SELECT $key, " . join(', ', map { $_->[2] } @columns)
		  . ", TIMESTAMP '2024-01-01 00:00:00', NULL FROM $numbers");
	legacy_sql($table, ($is_my ? 'ANALYZE TABLE ' : 'ANALYZE ') . $name);
	if ($is_my)
	{
		$node->safe_psql('postgres', qq{IMPORT FOREIGN SCHEMA legacy LIMIT TO ("$table") FROM SERVER my INTO legacy});
	}
	else
	{
		$node->safe_psql('postgres', qq{IMPORT FOREIGN SCHEMA public LIMIT TO ("$table") FROM SERVER pg INTO legacy});
	}
	is( value($node, qq{SELECT count(*) FROM pg_attribute WHERE attrelid = 'legacy."$table"'::regclass AND attnum > 0}),
		$table{$table}{columns}, "$table has its width");

	$node->safe_psql('postgres', qq{CREATE TABLE $_."$table" (LIKE legacy."$table"); ALTER TABLE $_."$table" ADD PRIMARY KEY (cd)})
	  foreach ('lv0', 'lv1');
	$node->safe_psql('postgres', qq{CREATE TABLE lv2."$table" (code text PRIMARY KEY, n bigint, amount numeric, last timestamp)});
	define($node, qq{
SELECT flow_create_dag('legacy_to_lv0_$table', '\@daily', '2024-03-01');
SELECT flow_add_upsert('legacy_to_lv0_$table', 'load', 'legacy."$table"', 'lv0."$table"', page_size => $page_size);
SELECT flow_create_dag('lv0_to_lv1_$table');
SELECT flow_add_upsert('lv0_to_lv1_$table', 'load', 'lv0."$table"', 'lv1."$table"', page_size => $page_size);
SELECT flow_create_dag('lv1_to_lv2_$table');
SELECT flow_add_upsert('lv1_to_lv2_$table', 'count',
	'SELECT left(cd, 2) AS code, count(*) AS n, sum(c9) AS amount, max(insrt_dt) AS last FROM lv1."$table" GROUP BY 1', 'lv2."$table"');
INSERT INTO flow.dependency_manager VALUES ('legacy_to_lv0_$table', 'lv0_to_lv1_$table');
INSERT INTO flow.dependency_manager VALUES ('lv0_to_lv1_$table', 'lv1_to_lv2_$table');
});
}
note(sprintf 'made in %.1f s', time - $began);

# Others write all the while: new keys HI..., and a new insrt_dt here and there.
my $written = 0;

sub write_to_legacy
{
	$written++;
	foreach my $table (@tables)
	{
		my $is_my = $table{$table}{legacy} eq 'my';
		my $name = $is_my ? "`$table`" : qq{"$table"};
		my $n = 1 + $written * 7919 % $table{$table}{rows};
		my $key = $codes[ $n % 5 ] . sprintf('%08d', $n);

		legacy_sql($table, "INSERT INTO $name (cd, c8, insrt_dt) VALUES ('HI9$written', 'new', TIMESTAMP '2024-03-01 10:00:00');
			UPDATE $name SET insrt_dt = TIMESTAMP '2024-03-01 11:00:00', c9 = $written WHERE cd = '$key'");
	}
	return;
}

# From here on all levels run.  The memory of workers, by pid.
my (%memory, %memory_of_task);

sub sample
{
	foreach my $line (split /\n/, value($node, q{
		SELECT worker_pid, pages, dag_id FROM flow.running WHERE worker_pid IS NOT NULL}))
	{
		my ($pid, $pages, $dag) = split /\|/, $line;

		# the first pages bring what a worker keeps, such as catalogs
		next unless ($pages // 0) >= 3;
		my $kb = resident_kb($pid) or next;
		push @{ $memory{$pid} }, $kb;
		push @{ $memory_of_task{"$pid $dag"} }, $kb;
	}
	return;
}

sub run_day
{
	my ($day, $with_writer) = @_;
	my $since = time;
	my $writer_until = 0;

	# advance() would return at the end only
	my $advance = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SELECT flow_advance('2024-$day 00:00+09')" ],
		'<', '/dev/null', '>', \my $out, '2>', \my $err);
	while ($advance->pumpable)
	{
		$advance->pump_nb;
		write_to_legacy() if $with_writer;
		sample();
	}
	$advance->finish or die "flow_advance has failed: $err";
	return time - $since;
}

my $seconds = run_day('03-02', 1);
my $all = value($node, q{SELECT sum(pages) || ' pages, ' || sum(rows_written) || ' rows' FROM flow.task_run WHERE dag_id LIKE 'legacy%'});
note(sprintf 'all levels in %.1f s, %s from the legacy systems, %d rounds of the writer beside them', $seconds, $all, $written);
note(value($node, q{SELECT string_agg(format('%s: %s rows in %s s, %s rows/s', dag_id, rows_written, round(extract(epoch FROM ended_at - started_at), 1),
	round(rows_written / extract(epoch FROM ended_at - started_at))), E'\n' ORDER BY started_at) FROM flow.task_run}));
cmp_ok($written, '>', 3, 'others have written all the while');
is(value($node, q{SELECT count(*) FROM flow.dag_log WHERE completion_date = '2024-03-02'}), '12', 'all levels of all tables have succeeded');
is(value($node, 'SELECT count(DISTINCT dag_id) FROM flow.task_run WHERE state = \'success\''), '12', 'each once');
foreach my $table (@tables)
{
	is(value($node, qq{SELECT count(*) >= $table{$table}{rows} FROM lv0."$table"}), 't', "$table: nothing that was there has been lost");
}

# Once more, without writers
note(sprintf 'again in %.1f s', run_day('03-03', 0));
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET work_mem = '512MB'});
foreach my $table (@tables)
{
	my $legacy = qq{TABLE legacy."$table"};

	is(value($node, qq{SELECT count(*) FROM ($legacy EXCEPT TABLE lv0."$table") x}), '0', "$table: the target has what the source has");
	is(value($node, qq{SELECT count(*) FROM (TABLE lv0."$table" EXCEPT $legacy) x}), '0', 'and nothing else');
	is(difference($node, qq{TABLE lv0."$table"}, qq{TABLE lv1."$table"}), '', 'so has the next level');
	is(difference($node, qq{SELECT left(cd, 2), count(*), sum(c9), max(insrt_dt) FROM lv0."$table" GROUP BY 1}, qq{TABLE lv2."$table"}), '', 'and the last');
}

SKIP:
{
	skip 'memory is not to be seen here', 1 unless %memory;
	foreach my $task (sort keys %memory_of_task)
	{
		note("$task: " . join(' .. ', (sort { $a <=> $b } @{ $memory_of_task{$task} })[ 0, -1 ]) . ' kB');
	}
	foreach my $pid (sort keys %memory)
	{
		my ($least, $most) = (sort { $a <=> $b } @{ $memory{$pid} })[ 0, -1 ];

		note(sprintf 'worker %d: %d to %d kB in %d samples', $pid, $least, $most, scalar @{ $memory{$pid} });
		cmp_ok($most - $least, '<=', $memory_limit_kb, 'the memory of a worker stays flat');
	}
}

$node->stop;
$remote->stop;
done_testing();
