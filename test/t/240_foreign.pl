
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
		9, 'the end of a page: predicate, order and limit are pushed down');
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
	ok((grep { /WHERE .*\($code = $value\).* ORDER BY (?!$code).* $limit/ } @asked) > 0, 'its end is first looked for within its code');

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

# One table of the local server whose rows are on two others, which sort text
# each in its own way; and a copy of it begun again in the middle
if ($mariadb)
{
	$node->safe_psql('postgres', q{
CREATE TABLE both_word (place text, word varchar(20), id int) PARTITION BY LIST (place);
CREATE FOREIGN TABLE both_pg PARTITION OF both_word FOR VALUES IN ('pg') SERVER pg OPTIONS (table_name 'word');
CREATE FOREIGN TABLE both_my PARTITION OF both_word FOR VALUES IN ('my') SERVER my OPTIONS (dbname 'legacy', table_name 'word');
ALTER FOREIGN TABLE both_pg OPTIONS (SET table_name 'placed');
ALTER FOREIGN TABLE both_my OPTIONS (SET table_name 'placed');
CREATE TABLE both_copy (word text, place text, id int, PRIMARY KEY (word, place));
CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.word = 'z-2' THEN
		RAISE 'stumbled';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER stumble BEFORE INSERT ON both_copy FOR EACH ROW EXECUTE FUNCTION stumble();
});
	remote_sql($_, "CREATE TABLE placed AS SELECT '$_' AS place, word, id FROM word") foreach @legacies;
	upsert($node, 'both', q{'both_word', 'both_copy', page_size => 10}, q{retries => 1, retry_delay => '1 minute'});
	my $run = trigger($node, 'both');
	wait_for_task($node, $run, 'load', 'up_for_retry');
	isnt(value($node, 'SELECT count(*) FROM both_copy'), '0', 'text from two servers: begun');
	$node->safe_psql('postgres', 'DROP TRIGGER stumble ON both_copy');
	advance($node, '2024-06-01 00:01:00+00');
	is(wait_for_run($node, $run), 'success', 'stopped in a page, and begun again');
	is(difference($node, 'SELECT word, place, id FROM both_word', 'TABLE both_copy'), '', 'nothing is lost');

	# what the server sorts and compares in different ways
	$mariadb->sql(q{
CREATE TABLE flat (f float NOT NULL, id int NOT NULL PRIMARY KEY);
INSERT INTO flat VALUES (0.5, 1), (0.1, 2), (0.6, 3);
CREATE TABLE size (size enum ('small', 'medium', 'big') NOT NULL PRIMARY KEY);
INSERT INTO size VALUES ('small'), ('medium'), ('big');
});
	$node->safe_psql('postgres', q{
CREATE FOREIGN TABLE my.flat (f real, id int) SERVER my OPTIONS (dbname 'legacy', table_name 'flat');
CREATE TABLE flat_copy (id int PRIMARY KEY, f real);
CREATE FOREIGN TABLE my.size (size text) SERVER my OPTIONS (dbname 'legacy', table_name 'size');
CREATE TABLE size_copy (size text PRIMARY KEY);
});
	foreach my $case ([ 'flat', q{, page_by => '{f}'} ], [ 'size', '' ])
	{
		my ($table, $arguments) = @$case;

		upsert($node, $table, "'my.$table', '${table}_copy', page_size => 1$arguments", 'retries => 0');
		$run = trigger($node, $table);
		is(wait_for_run($node, $run), 'failed', "$table: an order that cannot be trusted");
		like(task_message($node, $run), qr/^HV000 .*cannot be read by pages.*OFFSET 0/s, 'is an error, not a lost row');
		upsert($node, $table, "'SELECT * FROM my.$table OFFSET 0', '${table}_copy', page_size => 1$arguments", 'retries => 0');
		is(run_upsert($node, $table), 'success 3 3', 'read once, it can be paged');
	}
}

# ------------------------------------------------------------------------
# A source that changes while it is read; incremental; delete_missing

$node->safe_psql('postgres', q{
CREATE FUNCTION stop_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM new_row WHERE id = 35) THEN
		PERFORM pg_advisory_xact_lock_shared(24);
	END IF;
	RETURN NULL;
END $$;
});
foreach my $legacy (@legacies)
{
	my $copy = "$legacy.late_copy";

	remote_sql($legacy, q{INSERT INTO late SELECT id, at, v FROM word});
	$node->safe_psql('postgres', qq{
CREATE TRIGGER stop_at AFTER INSERT ON $copy REFERENCING NEW TABLE AS new_row FOR EACH STATEMENT EXECUTE FUNCTION stop_at()});
	upsert($node, "$legacy late", "'$legacy.late', '$copy', page_size => 10");
	my $gate = close_gate($node, 24);
	my $run = trigger($node, "$legacy late");
	wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 24 AND NOT granted}, 'the fourth page');
	remote_sql($legacy, q{
INSERT INTO late VALUES (0, TIMESTAMP '2024-06-01 00:00:00', 'behind'), (1000, TIMESTAMP '2024-06-01 00:00:00', 'beyond');
UPDATE late SET v = 'changed' WHERE id IN (7, 77);
DELETE FROM late WHERE id IN (8, 78)});
	$gate->open;
	is(wait_for_run($node, $run), 'success', "$legacy: a source that changes while it is read");
	is(progress($node, $run), 'success 10 94', 'ends where it ended at the beginning');
	is(run_upsert($node, "$legacy late"), 'success 10 3', 'the next run brings the rest');
	is(difference($node, "SELECT id, at, v FROM $legacy.late", "SELECT * FROM $copy WHERE id <> 8"), '', 'but for what was deleted');
	upsert($node, "$legacy late", "'$legacy.late', '$copy', page_size => 10, delete_missing => true");
	like(run_upsert($node, "$legacy late"), qr/^success \d+ 1$/, 'which delete_missing deletes');
	is(difference($node, "SELECT id, at, v FROM $legacy.late", "TABLE $copy"), '', 'source and target are equal');

	like(error_of($node, "SELECT flow_create_dag('x', NULL); SELECT flow_add_upsert('x', 'x', '$legacy.late', '$copy', page_by => '{at}', incremental => true)"),
		qr/^22023 .*lookback/, 'incremental needs lookback');
	upsert($node, "$legacy new", "'$legacy.late', '$copy', page_by => '{at}', page_size => 10, incremental => true, lookback => '1 day'");
	like(run_upsert($node, "$legacy new"), qr/^success \d+ 0$/, 'incremental by a time');
	remote_sql($legacy, q{
INSERT INTO late VALUES (2000, TIMESTAMP '2024-06-02 00:00:00.5', 'new'), (2001, TIMESTAMP '2024-05-31 01:00:00', 'late');
INSERT INTO late VALUES (2002, TIMESTAMP '2024-05-01 00:00:00', 'too late')});
	is(run_upsert($node, "$legacy new"), 'success 1 2', 'reads what is new, and what is late by less than lookback');
	statements($legacy);
	is(run_upsert($node, "$legacy new"), 'success 1 0', 'and again');
	is(unbounded(statements($legacy)), '', 'from the position on');
}

# ------------------------------------------------------------------------
# Targets on other servers

foreach my $legacy (@legacies)
{
	# mysql_fdw writes no fractions of a second
	my $unit = $legacy eq 'my' ? 'second' : 'microsecond';

	$node->safe_psql('postgres', qq{
CREATE TABLE $legacy.source AS SELECT id, date_trunc('$unit', at) AS at, v::text FROM $legacy.word;
ALTER TABLE $legacy.source ADD PRIMARY KEY (id);
CREATE TABLE $legacy.words AS SELECT word, id, v FROM $legacy.word;
ALTER TABLE $legacy.words ADD PRIMARY KEY (word)});

	upsert($node, "$legacy goal", "'$legacy.source', '$legacy.goal', key => '{id}', page_size => 10");
	is(run_upsert($node, "$legacy goal"), 'success 10 95', "$legacy: a foreign target");
	is(difference($node, "TABLE $legacy.source", "SELECT id, at, v FROM $legacy.goal"), '', 'gets all rows');
	statements($legacy);
	is(run_upsert($node, "$legacy goal"), 'success 10 0', 'and again');
	my @asked = statements($legacy);
	is(scalar(grep { !/^SELECT/ } @asked), 0, 'unchanged rows are not written');
	is(unbounded(@asked), '', 'nor is more of the target read than the page');
	$node->safe_psql('postgres', "UPDATE $legacy.source SET v = 'changed' WHERE id IN (15, 35); INSERT INTO $legacy.source VALUES (200, NULL, 'new')");
	is(run_upsert($node, "$legacy goal"), 'success 10 3', 'changed and new ones are');
	@asked = statements($legacy);
	is(scalar(grep { /^INSERT/ } @asked) . ' ' . scalar(grep { /^UPDATE/ } @asked), '1 2', 'by INSERT and UPDATE');
	is(scalar(grep { /CONFLICT|DUPLICATE|REPLACE/ } @asked), 0, 'never by ON CONFLICT');
	is(difference($node, "TABLE $legacy.source", "SELECT id, at, v FROM $legacy.goal"), '', 'and it is equal');

	# mode replace, and a row that is tried in the session
	$node->safe_psql('postgres', "UPDATE $legacy.source SET v = 'replaced' WHERE id = 16; DELETE FROM $legacy.source WHERE id = 17");
	upsert($node, "$legacy replace", "'$legacy.source', '$legacy.goal', key => '{id}', mode => 'replace', replace_where => 'true'");
	is(run_upsert($node, "$legacy replace"), 'success 1 2', 'mode replace');
	is(difference($node, "TABLE $legacy.source", "SELECT id, at, v FROM $legacy.goal"), '', 'deletes and writes');
	$node->safe_psql('postgres', "UPDATE $legacy.source SET v = 'tried' WHERE id = 18; SELECT flow_test_task('$legacy goal', 'load')");
	is(difference($node, "TABLE $legacy.source", "SELECT id, at, v FROM $legacy.goal"), '', 'flow_test_task does the same');

	upsert($node, "$legacy words", "'$legacy.words', '$legacy.word_goal', key => '{word}', page_size => 10");
	is(run_upsert($node, "$legacy words"), 'success 10 95', 'with a key of text');
	$node->safe_psql('postgres', "UPDATE $legacy.words SET v = 'changed' WHERE id % 3 = 0");
	statements($legacy);
	is(run_upsert($node, "$legacy words"), 'success 10 31', 'that the target sorts in another way');
	@asked = statements($legacy);
	is(difference($node, "TABLE $legacy.words", "SELECT word, id, v FROM $legacy.word_goal"), '', 'it is equal');
	is(unbounded(@asked), '', 'the target is asked for the keys of a page') if $legacy eq 'pg';

	# a page that fails after rows have been sent
	remote_sql($legacy, 'DELETE FROM goal');
	$node->safe_psql('postgres', "UPDATE $legacy.source SET v = repeat('long', 10) WHERE id = 45");
	upsert($node, "$legacy goal", "'$legacy.source', '$legacy.goal', key => '{id}', page_size => 10", q{retries => 1, retry_delay => '1 minute'});
	my $run = trigger($node, "$legacy goal");
	wait_for_task($node, $run, 'load', 'up_for_retry');
	is(progress($node, $run), 'up_for_retry 4 40', 'a row that the target refuses');
	$node->safe_psql('postgres', "UPDATE $legacy.source SET v = 'short' WHERE id = 45");
	advance($node, value($node, "SELECT flowpg_now + interval '1 minute' FROM (SELECT current_setting('flowpg.simulated_now')::timestamptz AS flowpg_now) x"));
	is(wait_for_run($node, $run), 'success', 'goes, and so does the rest');
	is(difference($node, "TABLE $legacy.source", "SELECT id, at, v FROM $legacy.goal"), '', 'it is equal');
}

# ------------------------------------------------------------------------
# A server that goes away in the middle

foreach my $legacy (@legacies)
{
	$node->safe_psql('postgres', qq{
TRUNCATE $legacy.late_copy
});
	remote_sql($legacy, 'DELETE FROM late WHERE id > 100 OR id = 0');
	upsert($node, "$legacy away", "'$legacy.late', '$legacy.late_copy', page_size => 10", q{retries => 1, retry_delay => '1 minute'});
	my $gate = close_gate($node, 24);
	my $run = trigger($node, "$legacy away");
	wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 24 AND NOT granted}, 'the fourth page');
	$legacy eq 'my' ? $mariadb->stop : $remote->stop('immediate');
	$gate->open;
	wait_for_task($node, $run, 'load', 'up_for_retry');
	like(task_message($node, $run), qr/^(?:08|HV|57|XX)\w+ .*(?:connect|gone|closed|terminat|lost)/is, "$legacy: the message says that the server is gone");
	note(task_message($node, $run));
	my $pages = value($node, "SELECT pages FROM flow.task_run WHERE run_id = $run");
	cmp_ok($pages, '>=', 3, 'pages that are done stay');
	$legacy eq 'my' ? $mariadb->start : $remote->start;
	$node->safe_psql('postgres', "UPDATE $legacy.late_copy SET v = 'done' WHERE id <= 30");
	advance($node, value($node, "SELECT flowpg_now + interval '1 minute' FROM (SELECT current_setting('flowpg.simulated_now')::timestamptz AS flowpg_now) x"));
	is(wait_for_run($node, $run), 'success', 'when it is there again, the retry goes on');
	is(value($node, "SELECT count(*) FROM $legacy.late_copy WHERE v = 'done'"), value($node, "SELECT count(*) FROM $legacy.late_copy WHERE id <= 30"), 'from the page that failed');
	is(difference($node, "SELECT id FROM $legacy.late", "SELECT id FROM $legacy.late_copy"), '', 'nothing is lost');
}

$node->stop;
$remote->stop;
done_testing();
