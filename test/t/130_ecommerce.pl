
# A shop's daily pipeline over two months of real orders: test/examples/ecommerce.sql
# is played day by day, with what goes wrong in such months, and its figures are
# compared with ones that plain SQL computes from the data themselves.

use strict;
use warnings;

use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;

# 1 May has begun: the pipeline starts with this day.
my $node = new_node(
	'ecommerce',
	databases => [],
	conf => q{
flowpg.simulated_now = '2011-05-01 12:00:00+01'
flowpg.max_workers = 6
});
my @regions = qw(uk europe world);

# ------------------------------------------------------------------------
# Helpers

# The night after a day, until everything that it starts has been done.
sub night_after
{
	my ($day) = @_;

	return advance($node, value($node,
		qq{SELECT ((date '$day' + 1) + time '12:00') AT TIME ZONE 'Europe/London'}));
}

# The days of May, one night after the other.
sub nights
{
	my ($from, $to) = @_;

	night_after(sprintf '2011-05-%02d', $_) foreach $from .. $to;
	return;
}

# The states of a region's runs from day to day, as "05-01 success".
sub run_states
{
	my ($region, $from, $to) = @_;

	return value($node, qq{
SELECT string_agg(to_char(logical_date AT TIME ZONE 'Europe/London', 'MM-DD') || ' ' || state, ', ' ORDER BY logical_date)
FROM flow.dag_run
WHERE dag_id = 'ecommerce_$region' AND (logical_date AT TIME ZONE 'Europe/London')::date BETWEEN '$from' AND '$to'});
}

# The states of a day's tasks, as task_states gives them.
sub day_states
{
	my ($region, $day) = @_;

	return task_states($node, run_of($region, $day));
}

sub run_of
{
	my ($region, $day) = @_;

	return value($node, qq{
SELECT run_id FROM flow.dag_run
WHERE dag_id = 'ecommerce_$region' AND (logical_date AT TIME ZONE 'Europe/London')::date = '$day'});
}

# What people are told, from the alert after the given one on, without context.
sub alerts
{
	my ($after) = @_;

	return value($node, qq{
SELECT dag_id, day, failed_tasks, split_part(message, E'\n', 1)
FROM shop.alert WHERE alert_id > $after ORDER BY alert_id});
}

# The partitions or rows that a region has kept: how many days, the first, the last.
sub kept
{
	my ($region, $table) = @_;

	return value($node, "SELECT count(DISTINCT day), min(day), max(day) FROM $region.$table");
}

sub partitions
{
	my ($region, $table) = @_;

	return value($node, qq{
SELECT count(*), min(right(inhrelid::regclass::text, 8)), max(right(inhrelid::regclass::text, 8))
FROM pg_inherits WHERE inhparent = '$region.$table'::regclass});
}

# What differs between the pipeline's figures of some days and those computed
# from the data; nothing if all is well.
sub differences
{
	my ($what, $from, $to) = @_;
	my $pipeline = $what eq 'report'
	  ? 'SELECT day, region, orders, revenue, revenue_7d, growth, best_seller FROM shop.report'
	  : $what eq 'company' ? 'SELECT day, regions, orders, revenue FROM shop.company_day'
	  : join ' UNION ALL ', map { "SELECT '$_' AS region, * FROM $_.$what" } @regions;
	my $days = "WHERE day BETWEEN '$from' AND '$to'";

	return value($node, qq{
WITH pipeline AS (SELECT * FROM ($pipeline) p $days), data AS (SELECT * FROM expected.$what $days)
(SELECT 'pipeline', row(p.*)::text FROM (SELECT * FROM pipeline EXCEPT ALL SELECT * FROM data) p)
UNION ALL
(SELECT 'data', row(d.*)::text FROM (SELECT * FROM data EXCEPT ALL SELECT * FROM pipeline) d)
ORDER BY 2, 1 LIMIT 10});
}

sub is_right
{
	my ($from, $to, $when) = @_;

	is(differences($_, $from, $to), '', "$when: $_ from $from to $to equals the data's") foreach qw(report company metric);
	return;
}

# How many attempts there have been of each task of some days, as "ingest 7".
sub attempts
{
	my ($dag_id, $from, $to) = @_;

	return value($node, qq{
SELECT string_agg(task_id || ' ' || n, ', ' ORDER BY task_id)
FROM (
	SELECT task_id, count(*) AS n
	FROM flow.task_attempt JOIN flow.dag_run r USING (run_id)
	WHERE r.dag_id = '$dag_id' AND (logical_date AT TIME ZONE 'Europe/London')::date BETWEEN '$from' AND '$to'
	GROUP BY 1) a});
}

# ------------------------------------------------------------------------
# Two months of invoice lines, and what comes out of them by plain SQL

my $file = abs_path('test/data/online_retail.csv.gz');
$node->safe_psql('postgres', qq{
CREATE SCHEMA original;
CREATE TABLE original.csv (
	invoice_no text, stock_code text, description text, quantity int,
	invoice_date timestamp, unit_price numeric, customer_id text, country text);
COPY original.csv FROM PROGRAM 'gzip -dc $file | grep -E "^InvoiceNo|,2011-0[45]-"' (FORMAT csv, HEADER);
CREATE TABLE original.line AS
SELECT CASE
		WHEN country IN ('United Kingdom', 'Channel Islands') THEN 'uk'
		WHEN country IN ('Australia', 'Bahrain', 'Brazil', 'Canada', 'Hong Kong', 'Israel', 'Japan', 'Lebanon', 'RSA',
			'Saudi Arabia', 'Singapore', 'USA', 'United Arab Emirates', 'Unspecified') THEN 'world'
		ELSE 'europe'
	END AS region, invoice_date::date AS day, csv.*
FROM original.csv;
});
is(value($node, 'SELECT count(*), count(DISTINCT day), min(day), max(day) FROM original.line'), '66946|46|2011-04-01|2011-05-31',
	'66,946 invoice lines of 46 days');

# The same rules as the pipeline's, without days, tasks or partitions.
$node->safe_psql('postgres', q{
CREATE SCHEMA expected;
CREATE VIEW expected.sale AS
SELECT region, day, extract(hour FROM invoice_date)::int AS hour, extract(isodow FROM day)::int AS weekday, invoice_no, stock_code,
	trim(description) AS description, invoice_no LIKE 'C%' OR quantity < 0 AS is_return,
	abs(quantity) AS quantity, greatest(unit_price, 0) AS unit_price, customer_id
FROM (SELECT DISTINCT * FROM original.line) l;

CREATE VIEW expected.daily_summary AS
SELECT region, day, count(DISTINCT invoice_no) FILTER (WHERE NOT is_return) AS orders, count(DISTINCT customer_id) AS customers, count(*) AS lines,
	coalesce(sum(quantity * unit_price) FILTER (WHERE NOT is_return), 0) AS revenue, coalesce(sum(quantity * unit_price) FILTER (WHERE is_return), 0) AS returned
FROM expected.sale GROUP BY region, day;

CREATE VIEW expected.metric AS
SELECT region, day, orders_7d, revenue_7d,
	round(100 * (revenue_7d / nullif(lag(revenue_7d) OVER (PARTITION BY region ORDER BY day), 0) - 1), 1) AS growth
FROM (
	SELECT region, day, round(coalesce(sum(orders) OVER week, 0) / 7, 1) AS orders_7d, round(coalesce(sum(revenue) OVER week, 0) / 7, 2) AS revenue_7d
	FROM (VALUES ('uk'), ('europe'), ('world')) r (region)
		CROSS JOIN (SELECT date '2011-04-01' + n AS day FROM generate_series(0, 121) n) d
		LEFT JOIN expected.daily_summary USING (region, day)
	WINDOW week AS (PARTITION BY region ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)) w;

CREATE VIEW expected.report AS
SELECT day, region, orders, revenue, revenue_7d, growth, best_seller
FROM expected.daily_summary JOIN expected.metric USING (region, day)
	LEFT JOIN (
		SELECT DISTINCT ON (region, day) region, day, description AS best_seller
		FROM expected.sale WHERE NOT is_return
		GROUP BY region, day, description ORDER BY region, day, sum(quantity * unit_price) DESC, description) b USING (region, day);

CREATE VIEW expected.company AS
SELECT day, count(*) AS regions, sum(orders) AS orders, sum(revenue) AS revenue FROM expected.daily_summary GROUP BY day;
});

# ------------------------------------------------------------------------
# The example as it is

my ($code, $stdout, $stderr) = $node->psql('postgres', slurp_file('test/examples/ecommerce.sql'));
is($code, 0, 'the example runs') or die $stderr;
wait_for_scheduler($node);
is(value($node, 'SELECT dag_id, schedule, owner FROM flow.dag ORDER BY dag_id'),
	join("\n", map { "ecommerce_$_|" . ($_ eq 'company' ? '' : '0 2 * * *') . '|shop' } sort @regions, 'company'), 'one statement has made a DAG for each region');
is(value($node, q{SELECT count(*), count(DISTINCT (task_id, operator, params, trigger_rule)) FROM flow.task WHERE dag_id <> 'ecommerce_company'}),
	'36|12', 'of the same tasks');
is(value($node, q{SELECT count(*) FROM flow.dag d WHERE d.version <> (SELECT e.version FROM flow.dag e WHERE e.dag_id = flow_apply(flow_export(d.dag_id)))}),
	'0', 'which are the same when they are exported and applied');

# Deliveries come by day; all are there already, for nothing reads ahead.
$node->safe_psql('postgres', q{
INSERT INTO shop.delivery SELECT region, day, invoice_no, stock_code, description, quantity, invoice_date, unit_price, customer_id, country FROM original.line;
ANALYZE shop.delivery;
});

# ------------------------------------------------------------------------
# April is made up for, three days at a time

my %backfill = map {
	$_ => value_as($node, 'shop', "SELECT flow_backfill('ecommerce_$_', '2011-04-01', '2011-04-30', max_active_runs => 3)")
} @regions;
night_after('2011-04-30');
is(value($node, "SELECT state FROM flow.backfill WHERE backfill_id = $backfill{$_}"), 'success', "April is made up for, $_") foreach @regions;
is(value($node, q{SELECT dag_id, count(*), count(DISTINCT logical_date) FROM flow.dag_run WHERE state = 'success' GROUP BY 1 ORDER BY 1}),
	join("\n", map { "ecommerce_$_|30|30" } sort @regions, 'company'), '30 runs of each, and of the company after them');
cmp_ok(value($node, q{
SELECT max(n) FROM (
	SELECT count(DISTINCT b.run_id) AS n
	FROM flow.task_run a JOIN flow.task_run b
		ON a.dag_id = b.dag_id AND b.started_at <= a.started_at AND b.ended_at > a.started_at
	WHERE a.dag_id = 'ecommerce_uk'
	GROUP BY a.run_id, a.task_id) s}), '<=', 3, 'never more than three days of a region at once');
is(value($node, q{
SELECT count(*) FROM (
	SELECT started_at < lag(ended_at) OVER (PARTITION BY dag_id ORDER BY logical_date) AS is_early
	FROM flow.task_status
	WHERE task_id = 'metrics' AND state = 'success') s
WHERE is_early}), '0', 'metrics go from day to day');
is(differences($_, '2011-04-01', '2011-04-30'), '', "each $_ equals the data's") foreach qw(sale daily_summary);
is_right('2011-04-01', '2011-04-30', 'after the backfill');
is(value($node, q{
SELECT region || ' ' || count(*) FROM expected.daily_summary WHERE day < '2011-05-01' GROUP BY region ORDER BY region}), "europe 20\nuk 21\nworld 11",
	'on 20, 21 and 11 days');

# What a day's tasks do: a working day, a day without lines, a Sunday, and the
# Sunday on which the shop was closed.
my $done = join ' ', map { "$_=success" } qw(ingest is_open is_sunday make_partitions metrics process report validate);
my $skipped = join ' ', map { "$_=skipped" } qw(drop_metrics drop_raw drop_sales drop_summaries);
my $dropped = join ' ', map { "$_=success" } qw(drop_metrics drop_raw drop_sales drop_summaries);
is(day_states('uk', '2011-04-06'), "$skipped $done", 'a Wednesday: nothing is cleaned up');
is(day_states('world', '2011-04-06'),
	"$skipped ingest=success is_open=success is_sunday=success make_partitions=success metrics=success process=skipped report=skipped validate=skipped",
	'a day without lines: nothing to be done');
is(day_states('uk', '2011-04-17'), "$dropped $done", 'a Sunday: old data are dropped');
is(day_states('uk', '2011-04-24'),
	"$dropped ingest=success is_open=success is_sunday=success make_partitions=success metrics=success process=skipped report=skipped validate=skipped",
	'a Sunday without lines: too');

# On Sunday 24 April the week from the 18th on is kept; then six days have come.
is(partitions($_, 'raw_line'), '14|20110418|20110501', "raw lines: a week was kept, $_") foreach @regions;
is(partitions($_, 'sale'), '31|20110401|20110501', "clean ones: nothing was too old, $_") foreach @regions;

# ------------------------------------------------------------------------
# May, day by day.  What was delivered wrong is kept, to be delivered again.

$node->safe_psql('postgres', q{
CREATE TABLE original.held_back AS SELECT * FROM shop.delivery WHERE false;

-- Tuesday 10 May, uk: most of the day has not come
WITH lost AS (
	DELETE FROM shop.delivery
	WHERE region = 'uk' AND day = '2011-05-10' AND invoice_date >= '2011-05-10 11:00'
	RETURNING *)
INSERT INTO original.held_back SELECT * FROM lost;

-- Wednesday 11 May, europe: a column has holes
UPDATE shop.delivery SET stock_code = NULL
WHERE region = 'europe' AND day = '2011-05-11' AND invoice_no = (
	SELECT min(invoice_no) FROM original.line WHERE region = 'europe' AND day = '2011-05-11');

-- Thursday 12 May, world: lines of another day are among them
UPDATE shop.delivery SET invoice_date = invoice_date - interval '10 years'
WHERE region = 'world' AND day = '2011-05-12';
});
my $lines_with_holes = value($node, q{SELECT count(*) FROM shop.delivery WHERE stock_code IS NULL});
my $orders_left = value($node, q{
SELECT count(DISTINCT invoice_no) FROM shop.delivery WHERE region = 'uk' AND day = '2011-05-10' AND invoice_no NOT LIKE 'C%'});
cmp_ok($orders_left, '<', 50, 'a day with too few orders has been planted');

my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN shop_alert');

nights(1, 9);
is(run_states('uk', '2011-05-01', '2011-05-09'), join(', ', map { "05-0$_ success" } 1 .. 9), 'nine good days');
is(alerts(0), '', 'nobody is told of anything');
is_right('2011-04-01', '2011-05-09', 'on 10 May');

night_after('2011-05-10');
is(run_states('uk', '2011-05-10', '2011-05-10'), '05-10 failed', 'too few orders: the day fails');
my $uk_message = "task \"validate\": check \"validate\" failed: enough orders ($orders_left of at least 50)";
is(alerts(0), "ecommerce_uk|2011-05-10|{validate}|$uk_message", 'someone is told, with the task and its error');
like($listener->query_safe('SELECT 1'), qr/"shop_alert" with payload "ecommerce_uk, 2011-05-10: \Q$uk_message\E/, 'at once');
$listener->quit;
is(day_states('uk', '2011-05-10'),
	'drop_metrics=upstream_failed drop_raw=upstream_failed drop_sales=upstream_failed drop_summaries=upstream_failed '
	  . 'ingest=success is_open=success is_sunday=upstream_failed make_partitions=success metrics=upstream_failed '
	  . 'process=upstream_failed report=upstream_failed validate=failed', 'nothing is made of its data');
is(value($node, q{SELECT try_number FROM flow.task_run WHERE task_id = 'validate' AND state = 'failed'}), '1', 'the check is not tried again');

night_after('2011-05-11');
night_after('2011-05-12');
is(alerts(1), "ecommerce_europe|2011-05-11|{validate}|task \"validate\": check \"validate\" failed: no value is missing ($lines_with_holes lines)\n"
	  . 'ecommerce_world|2011-05-12|{validate}|task "validate": check "validate" failed: all dates are of the day (23 lines, from 2001-05-12 '
	  . value($node, q{SELECT min(invoice_date)::time || ' to 2001-05-12 ' || max(invoice_date)::time FROM original.line WHERE region = 'world' AND day = '2011-05-12'})
	  . ')', 'a NULL in a critical column, and dates of another day');

# The days after it go as far as they can.
is(run_states('uk', '2011-05-10', '2011-05-12'), '05-10 failed, 05-11 running, 05-12 running', 'the days after a failed one are under way');
is(day_states('uk', '2011-05-12'),
	'drop_metrics= drop_raw= drop_sales= drop_summaries= ingest=success is_open=success is_sunday= make_partitions=success metrics= '
	  . 'process=success report= validate=success', 'as far as the metrics, which need those of the day before');
like(value($node, q{SELECT waits_for FROM flow.task_status WHERE task_id = 'metrics' AND run_id = } . run_of('uk', '2011-05-11')), qr/^run/,
	'task_status says so');
like(value($node, q{SELECT reason FROM flow_explain('ecommerce_uk') WHERE subject LIKE '%"metrics"%2011-05-11%'}),
	qr/depends_on_past, for run \d+ \(2011-05-10.*failed\), in which it is upstream_failed/, 'and flow_explain why');
is(value($node, q{SELECT count(*) FROM shop.company_day WHERE day >= '2011-05-10'}), '0', 'the company has no figures for days that a region lacks');

# The day is delivered again and run again, alone.
$node->safe_psql('postgres', q{INSERT INTO shop.delivery SELECT * FROM original.held_back});
is(value_as($node, 'shop', q{SELECT flow_clear('ecommerce_uk', '2011-05-10', '2011-05-10')}) > 0, 1, 'the failed day is cleared');
night_after('2011-05-12');
is(run_states('uk', '2011-05-10', '2011-05-12'), '05-10 success, 05-11 success, 05-12 success', 'it succeeds, and the days after it go on');
is(attempts('ecommerce_uk', '2011-05-10', '2011-05-10'),
	'ingest 2, is_open 2, is_sunday 1, make_partitions 2, metrics 1, process 1, report 1, validate 2', 'it was run again');
is(attempts('ecommerce_uk', '2011-05-11', '2011-05-12'),
	'ingest 2, is_open 2, is_sunday 2, make_partitions 2, metrics 2, process 2, report 2, validate 2', 'and no other day');

# The other two: only what has failed, and what follows it.
$node->safe_psql('postgres', q{
DELETE FROM shop.delivery WHERE (region, day) IN (('europe', '2011-05-11'), ('world', '2011-05-12'));
INSERT INTO shop.delivery SELECT region, day, invoice_no, stock_code, description, quantity, invoice_date, unit_price, customer_id, country
FROM original.line WHERE (region, day) IN (('europe', '2011-05-11'), ('world', '2011-05-12'));
});
value_as($node, 'shop', q{SELECT flow_clear('ecommerce_europe', '2011-05-11', '2011-05-11', task_ids => '{ingest}')});
value_as($node, 'shop', q{SELECT flow_clear('ecommerce_world', '2011-05-12', '2011-05-12', task_ids => '{ingest}')});
night_after('2011-05-12');
is(attempts('ecommerce_europe', '2011-05-11', '2011-05-11'),
	'ingest 2, is_open 2, is_sunday 1, make_partitions 1, metrics 1, process 1, report 1, validate 2', 'from a task on, with what follows it');
is_right('2011-04-01', '2011-05-12', 'after three corrections');
is(value($node, q{SELECT count(*) FROM flow.dag_run WHERE state <> 'success'}), '0', 'all is well again');

# ------------------------------------------------------------------------
# A column that has gone; a day that only looks wrong

nights(13, 23);
my $last_alert = value($node, 'SELECT max(alert_id) FROM shop.alert');
$node->safe_psql('postgres', 'ALTER TABLE shop.delivery RENAME customer_id TO customer');
night_after('2011-05-24');
is(join("\n", sort split /\n/, alerts($last_alert)),
	join("\n", map { "ecommerce_$_|2011-05-24|{validate}|task \"validate\": check \"validate\" failed: every column is there (missing: customer_id)" } qw(europe uk)),
	'a missing column fails the regions that had lines');
$node->safe_psql('postgres', 'ALTER TABLE shop.delivery RENAME customer TO customer_id');
value_as($node, 'shop', "SELECT flow_clear('ecommerce_$_', '2011-05-24', '2011-05-24')") foreach qw(uk europe);
nights(24, 30);
is_right('2011-04-01', '2011-05-30', 'on 31 May');

# The shop was really so quiet after the bank holiday: 47 orders.
$last_alert = value($node, 'SELECT max(alert_id) FROM shop.alert');
night_after('2011-05-31');
is(alerts($last_alert), 'ecommerce_uk|2011-05-31|{validate}|task "validate": check "validate" failed: enough orders (47 of at least 50)', 'a quiet day fails');
my $run = run_of('uk', '2011-05-31');
value_as($node, 'shop', "SELECT flow_mark($run, 'validate', 'success')");
night_after('2011-05-31');
is(run_state($node, $run), 'success', 'one has looked at it: marked, the day goes on');
is_right('2011-04-01', '2011-05-31', 'after May');

# Sunday was the 29th: of 7, 30 and 90 days.
is(partitions($_, 'raw_line'), '10|20110523|20110601', "raw lines: 7 days were kept, $_") foreach @regions;
is(partitions($_, 'sale'), '33|20110430|20110601', "clean ones: 30 days, $_") foreach @regions;
is(kept('uk', 'daily_summary'), value($node, q{SELECT count(*), min(day), max(day) FROM expected.daily_summary WHERE region = 'uk' AND day >= '2011-04-30'}),
	'summaries: 30 days');
is(kept('uk', 'metric'), '61|2011-04-01|2011-05-31', 'metrics: all so far');

# ------------------------------------------------------------------------
# The last seven days again

# Prices were wrong; and 47 orders would now be enough.
$node->safe_psql('postgres', q{
UPDATE original.line SET unit_price = unit_price * 1.1 WHERE region = 'uk' AND day BETWEEN '2011-05-25' AND '2011-05-31' AND stock_code < '5';
DELETE FROM shop.delivery WHERE day >= '2011-05-25';
INSERT INTO shop.delivery SELECT region, day, invoice_no, stock_code, description, quantity, invoice_date, unit_price, customer_id, country
FROM original.line WHERE day >= '2011-05-25';
});
isnt(differences('report', '2011-05-25', '2011-05-31'), '', 'a correction changes the figures');

# one of the seven has failed meanwhile
value_as($node, 'shop', "SELECT flow_clear('ecommerce_uk', '2011-05-31', '2011-05-31')");
night_after('2011-05-31');
is(run_states('uk', '2011-05-25', '2011-05-31'),
	join(', ', (map { "05-$_ success" } 25 .. 30), '05-31 failed'), 'six days have succeeded, one has failed');
$node->safe_psql('postgres', q{UPDATE shop.region SET minimum_orders = 45 WHERE region = 'uk'});

my $company_before = attempts('ecommerce_company', '2011-05-25', '2011-05-31');
my $earlier_before = attempts('ecommerce_uk', '2011-05-18', '2011-05-24');
is(value_as($node, 'shop', q{SELECT string_agg(DISTINCT action, ' ') || ' ' || count(*)
	FROM flow_preview_backfill('ecommerce_uk', '2011-05-25', '2011-05-31', reprocess => 'completed')}), 'rerun 7', 'all seven would run again');
my $again = value_as($node, 'shop', q{SELECT flow_backfill('ecommerce_uk', '2011-05-25', '2011-05-31', reprocess => 'completed')});
night_after('2011-05-31');
is(value($node, "SELECT state FROM flow.backfill WHERE backfill_id = $again"), 'success', 'the last seven days are run again');
is(run_states('uk', '2011-05-25', '2011-05-31'), join(', ', map { "05-$_ success" } 25 .. 31), 'all have succeeded');
is_right('2011-04-01', '2011-05-31', 'after seven days again');
is(value($node, qq{SELECT dag_id, count(*) FROM flow.backfill_run JOIN flow.dag_run USING (run_id) WHERE backfill_run.backfill_id = $again GROUP BY 1 ORDER BY 1}),
	"ecommerce_company|7\necommerce_uk|7", 'with the company\'s days after them');
is("$company_before, then " . attempts('ecommerce_company', '2011-05-25', '2011-05-31'), 'total 7, then total 14', 'each once more');
is(attempts('ecommerce_uk', '2011-05-18', '2011-05-24'), $earlier_before, 'and no other day');

# ------------------------------------------------------------------------
# The shop is closed for the summer: everything grows old.

advance($node, '2011-08-01 12:00+01');
is(value($node, q{SELECT dag_id, count(*), count(DISTINCT logical_date), max(logical_date) FROM flow.dag_run WHERE state = 'success' GROUP BY 1 ORDER BY 1}),
	join("\n", map { "ecommerce_$_|122|122|2011-07-31 01:00:00+00" } sort @regions, 'company'), 'days are made up for in one go');

# The last Sunday was 31 July.
foreach my $region (@regions)
{
	is(partitions($region, 'raw_line'), '8|20110725|20110801', "raw lines: a week of partitions, $region");
	is(partitions($region, 'sale'), '31|20110702|20110801', "clean ones: 30 days of them, $region");
	is(value($node, "SELECT count(*) FROM $region.daily_summary"), '0', "no summary is as young as 30 days, $region");
	is(kept($region, 'metric'), '90|2011-05-03|2011-07-31', "90 days of metrics, $region");
}
is(differences($_->[0], $_->[1], '2011-07-31'), '', "each $_->[0] is still right")
  foreach ([ 'report', '2011-04-01' ], [ 'company', '2011-04-01' ], [ 'metric', '2011-05-03' ]);

$node->stop;
done_testing();
