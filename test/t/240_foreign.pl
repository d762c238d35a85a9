
# Upserts from and to other servers: a second PostgreSQL, through postgres_fdw,
# whose text is sorted otherwise than here, and MariaDB, through mysql_fdw.  What
# reaches them is read in their own logs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgMariadb;
use FlowpgUpsert;

my $node = new_node(
	'foreign', conf => q{
flowpg.simulated_now = '2024-06-01 00:00:00+00'
datestyle = 'German'
});
my $remote = PostgreSQL::Test::Cluster->new('remote');
$remote->init(extra => [ '--locale-provider=icu', '--icu-locale=en-US', '--encoding=UTF8' ]);
$remote->append_conf('postgresql.conf', "log_statement = all\nfsync = off\nmax_prepared_transactions = 2\n");
$remote->start;
$remote->safe_psql('postgres', q{CREATE DATABASE legacy});

my $lacks_mariadb = FlowpgMariadb::missing();
my $mariadb = $lacks_mariadb ? undef : FlowpgMariadb->new('foreign');
my @legacies = ('pg', $mariadb ? 'my' : ());
diag("without MariaDB: $lacks_mariadb") if $lacks_mariadb;

my ($host, $port) = ($remote->host, $remote->port);
$node->safe_psql('postgres', qq{
CREATE EXTENSION postgres_fdw;
CREATE SERVER pg FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'legacy');
CREATE USER MAPPING FOR PUBLIC SERVER pg;
});
$node->safe_psql('postgres', $mariadb->server_sql('my')) if $mariadb;

sub remote_sql
{
	my ($legacy, $sql) = @_;

	return $legacy eq 'my' ? $mariadb->sql($sql) : $remote->safe_psql('legacy', $sql);
}

# What the legacy system has been asked since the last call, one line each.
my %seen = (pg => 0, my => 0);

sub statements
{
	my ($legacy) = @_;
	my @found;

	if ($legacy eq 'my')
	{
		@found = $mariadb->statements($seen{my});
		$seen{my} = $mariadb->log_end;
		return @found;
	}
	my $log = slurp_file($remote->logfile, $seen{pg});
	$seen{pg} = -s $remote->logfile;
	$log =~ s/\n\t/ /g;
	@found = $log =~ /(?:statement|execute [^:]+): (?:DECLARE c\d+ CURSOR FOR )?((?:SELECT|INSERT|UPDATE|DELETE)\b.*)$/mg;
	return @found;
}

# Those that may read a table from end to end.
sub unbounded
{
	return join "\n", grep { !/ LIMIT 1(?:::bigint)?(?: OFFSET|$)/ && !/ WHERE .*(?:<|=) / } @_;
}

# The same rows in both legacy systems, as foreign tables in schemas of their
# names: keys of one and of two columns, of text and of numbers, and times.
my @words = ('a', 'B', '_', 'é', 'Z', 'z-', 'ab', 'a b', 'É2', '~');
my $rows = join ', ', map {
	sprintf "('%s%d', %d, '%s', %d, TIMESTAMP '2024-05-%02d 10:%02d:00.%06d', 'v%d')",
	  $words[ $_ % 10 ], $_ / 10, $_, (qw(ON HI 02 K2))[ $_ % 4 ], $_ / 4, 1 + $_ / 25, $_ % 50 / 2, $_ * 1001, $_
} 1 .. 95;
foreach my $legacy (@legacies)
{
	my $collate = $legacy eq 'my' ? 'COLLATE utf8mb4_uca1400_ai_cs' : '';
	my $schema = $legacy eq 'my' ? 'legacy' : 'public';

	remote_sql($legacy, qq{
CREATE TABLE word (word varchar(20) $collate NOT NULL PRIMARY KEY, id int NOT NULL, code varchar(4) NOT NULL, num int NOT NULL,
	at timestamp(6) NOT NULL, v varchar(20));
INSERT INTO word VALUES $rows;
CREATE TABLE line (code varchar(4) NOT NULL, num int NOT NULL, id int NOT NULL, v varchar(20), PRIMARY KEY (code, num));
INSERT INTO line SELECT code, num, id, v FROM word;
CREATE TABLE stamped (id int NOT NULL PRIMARY KEY, at timestamp(6) NOT NULL, v varchar(20));
CREATE INDEX stamped_at ON stamped (at, id);
INSERT INTO stamped SELECT id, at, v FROM word;
CREATE TABLE late (id int NOT NULL PRIMARY KEY, at timestamp(6) NOT NULL, v varchar(20));
CREATE TABLE goal (id int NOT NULL PRIMARY KEY, at timestamp(6) NULL, v varchar(20));
CREATE TABLE word_goal (word varchar(20) $collate NOT NULL PRIMARY KEY, id int NOT NULL, v varchar(20));
});
	$node->safe_psql('postgres', qq{
CREATE SCHEMA $legacy;
IMPORT FOREIGN SCHEMA $schema FROM SERVER $legacy INTO $legacy;
CREATE VIEW $legacy.line_view AS SELECT code, num, id, upper(v) AS v FROM $legacy.line WHERE id > 3;
CREATE TABLE $legacy.word_copy (word text PRIMARY KEY, id int, code text, num int, at timestamp, v text);
CREATE TABLE $legacy.word_c (word text COLLATE "C" PRIMARY KEY, id int);
CREATE TABLE $legacy.line_copy (code text, num int, id int, v text, PRIMARY KEY (code, num));
CREATE TABLE $legacy.view_copy (LIKE $legacy.line_copy INCLUDING ALL);
CREATE TABLE $legacy.stamped_copy (id int PRIMARY KEY, at timestamp, v text);
CREATE TABLE $legacy.day_copy (LIKE $legacy.stamped_copy INCLUDING ALL);
CREATE TABLE $legacy.late_copy (LIKE $legacy.stamped_copy INCLUDING ALL);
CREATE TABLE $legacy.total (code text PRIMARY KEY, n bigint, last int);
CREATE TABLE $legacy.joined (id int PRIMARY KEY, v text, name text);
});
}
$node->safe_psql('postgres', q{
CREATE TABLE code_name (code text PRIMARY KEY, name text);
INSERT INTO code_name SELECT unnest('{02,HI,K2,ON}'::text[]), 'name';
});

# ------------------------------------------------------------------------
# What of a page is pushed down

foreach my $legacy (@legacies)
{
	my @asked;
	my $quote = $legacy eq 'my' ? '`' : '';

	# bounds are constants, or parameters
	my $value = qr/(?:'[^']*'(?:::[\w ]+)?|\d+|\$\d+(?:::[\w ]+)?)/;
	my $order = $legacy eq 'my' ?
	  sub { join ', ', map { "`$_` IS NULL, `$_` ASC" } @_ } :
	  sub { join ', ', map { "$_ ASC NULLS LAST" } @_ };
	my $limit = $legacy eq 'my' ? qr/LIMIT 1 OFFSET 9$/ : qr/LIMIT 1::bigint OFFSET 9::bigint$/;

	upsert($node, "$legacy word", "'$legacy.word', '$legacy.word_copy', page_size => 10");
	statements($legacy);
	is(run_upsert($node, "$legacy word"), 'success 10 95', "$legacy: by a key of text");
	@asked = statements($legacy);
	is(difference($node, "SELECT word, id, code, num, at, v FROM $legacy.word", "TABLE $legacy.word_copy"),
		'', 'brings all rows, whichever order the server has');
	is(unbounded(@asked), '', 'no statement reads the whole table');
	is( scalar(grep { /WHERE \(*${quote}word$quote > $value\)+ AND \(+${quote}word$quote <= $value\)+ ORDER BY \Q@{[$order->('word')]}\E $limit/ } @asked),
		$legacy eq 'my' ? 11 : 9, 'the end of a page: predicate, order and limit are pushed down');
	is( scalar(grep { /WHERE \(*${quote}word$quote > $value\)+ AND \(+${quote}word$quote <= $value\)+ ORDER BY \Q@{[$order->('word')]}\E$/ } @asked),
		9, 'the page: predicate and order');
	is(run_upsert($node, "$legacy word"), 'success 10 0', 'nothing is written again');

	upsert($node, "$legacy line", "'$legacy.line', '$legacy.line_copy', page_size => 10");
	statements($legacy);
	is(run_upsert($node, "$legacy line"), 'success 10 95', 'by a key of two columns');
	@asked = statements($legacy);
	is(difference($node, "SELECT code, num, id, v FROM $legacy.line", "TABLE $legacy.line_copy"), '', 'brings all rows');
	is(unbounded(@asked), '', 'no statement reads the whole table');
	my ($code, $num) = map { "$quote$_$quote" } ('code', 'num');
	like(join("\n", @asked),
		qr/WHERE \(+$code >= $value\)+ AND \(+$code <= $value\)+ AND \(+$code > $value\) OR \($num > $value\)+ AND \(+$code < $value\) OR \($num <= $value\)+ ORDER BY \Q@{[$order->('code', 'num')]}\E$/m,
		'the page: nested comparisons, not one of rows');
	like(join("\n", @asked), qr/WHERE \(+$code = $value\)+ AND \(+$code <= $value\)+ AND .* $limit/m, 'its end is first looked for within its code');

	upsert($node, "$legacy view", "'$legacy.line_view', '$legacy.view_copy', page_size => 10");
	statements($legacy);
	is(run_upsert($node, "$legacy view"), 'success 10 92', 'a view over a foreign table');
	is(unbounded(statements($legacy)), '', 'is read by pages there');

	upsert($node, "$legacy stamped", "'$legacy.stamped', '$legacy.stamped_copy', page_by => '{at}', page_size => 10");
	statements($legacy);
	is(run_upsert($node, "$legacy stamped"), 'success 10 95', 'by a time with microseconds, under another DateStyle');
	@asked = statements($legacy);
	is(difference($node, "SELECT id, at, v FROM $legacy.stamped", "TABLE $legacy.stamped_copy"), '', 'brings all rows');
	is(unbounded(@asked), '', 'no statement reads the whole table');

	define($node, qq{
SELECT flow_create_dag('$legacy day', '\@daily', '2024-05-01', is_paused => true);
SELECT flow_add_upsert('$legacy day', 'load', 'SELECT * FROM $legacy.stamped WHERE at >= run.local_start AND at < run.local_end',
	'$legacy.day_copy', page_size => 10);
});
	statements($legacy);
	is(wait_for_backfill($node, backfill($node, "$legacy day", '2024-05-02', '2024-05-02')), 'success', 'a day of a run');
	@asked = statements($legacy);
	shows($node, "SELECT count(*), min(at)::date, max(at)::date FROM $legacy.day_copy", '25|02.05.2024|02.05.2024', 'has its rows');
	is( scalar(grep { !/at$quote >= $value/ || !/at$quote < $value/ } grep { /FROM.*stamped/ } @asked),
		0, 'the values of the run are in every statement');
}

# ------------------------------------------------------------------------
# Other sources on other servers

foreach my $legacy (@legacies)
{
	# a collation that the local side has and the server does not
	upsert($node, "$legacy c", "'SELECT word COLLATE \"C\" AS word, id FROM $legacy.word', '$legacy.word_c', page_size => 10");
	statements($legacy);
	is(run_upsert($node, "$legacy c"), 'success 10 95', "$legacy: in an order of our own");
	is(scalar(grep { /FROM.*word/ && !/LIMIT/ } statements($legacy)), 1, 'is read once');

	upsert($node, "$legacy total", "'SELECT code, count(*) AS n, max(id) AS last FROM $legacy.line GROUP BY code', '$legacy.total', page_size => 2");
	statements($legacy);
	is(run_upsert($node, "$legacy total"), 'success 2 4', 'aggregates');
	is(scalar(grep { /FROM.*line/ } statements($legacy)), 1, 'are read once');
	is(difference($node, "SELECT code, count(*), max(id) FROM $legacy.line GROUP BY code", "TABLE $legacy.total"), '', 'as they are');

	upsert($node, "$legacy joined", "'SELECT l.id, l.v, c.name FROM $legacy.line l JOIN code_name c USING (code)', '$legacy.joined', page_size => 10");
	is(run_upsert($node, "$legacy joined"), 'success 10 95', 'a join with a table here');
	is(difference($node, "SELECT l.id, l.v, 'name' FROM $legacy.line l", "TABLE $legacy.joined"), '', 'brings all rows');
}

$node->stop;
$remote->stop;
done_testing();
