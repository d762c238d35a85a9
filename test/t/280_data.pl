
# The whole of the real data (test/data) through upserts, twice: the figures are
# those of its README, and the second pass writes nothing.

use strict;
use warnings;

use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FlowpgTest;
use FlowpgLoad;
use FlowpgUpsert;

my $data = abs_path('test/data');
my $node = new_node(
	'data',
	conf => q{
flowpg.simulated_now = '2024-06-01 00:00:00+00'
shared_buffers = 256MB
max_wal_size = 4GB
autovacuum = off
});

# ------------------------------------------------------------------------
# The legacy tables, and what the README says of them

$node->safe_psql('postgres', qq{
CREATE SCHEMA legacy; CREATE SCHEMA lv0; CREATE SCHEMA lv1;
CREATE TABLE legacy.flight (
	year int, month int, day int, dep_time int, dep_delay int, arr_time int, arr_delay int, carrier text, tailnum text,
	flight int, origin text, dest text, air_time int, distance int, hour int, minute int);
CREATE TABLE legacy.weather (
	origin text, year int, month int, day int, hour int, temp numeric, dewp numeric, humid numeric, wind_dir numeric,
	wind_speed numeric, wind_gust numeric, precip numeric, pressure numeric, visib numeric, time_hour timestamptz);
CREATE TABLE legacy.plane (
	tailnum text, year int, type text, manufacturer text, model text, engines int, seats int, speed int, engine text);
CREATE TABLE legacy.airport (faa text, name text, lat numeric, lon numeric, alt int, tz numeric, dst text, tzone text);
CREATE TABLE legacy.airline (carrier text, name text);
CREATE TABLE legacy.line (
	invoice_no text, stock_code text, description text, quantity int, invoice_date timestamp, unit_price numeric,
	customer_id text, country text);
COPY legacy.flight FROM PROGRAM 'gzip -dc "$data/flights.csv.gz"' (FORMAT csv, HEADER);
COPY legacy.weather FROM PROGRAM 'gzip -dc "$data/weather.csv.gz"' (FORMAT csv, HEADER);
COPY legacy.plane FROM '$data/planes.csv' (FORMAT csv, HEADER);
COPY legacy.airport FROM '$data/airports.csv' (FORMAT csv, HEADER);
COPY legacy.airline FROM '$data/airlines.csv' (FORMAT csv, HEADER);
ALTER TABLE legacy.line ADD no serial;		-- the line of the file, for there is no key
COPY legacy.line (invoice_no, stock_code, description, quantity, invoice_date, unit_price, customer_id, country)
	FROM PROGRAM 'gzip -dc "$data/online_retail.csv.gz"' (FORMAT csv, HEADER);
ALTER TABLE legacy.flight ADD date date NOT NULL GENERATED ALWAYS AS (make_date(year, month, day)) STORED,
	ADD PRIMARY KEY (date, carrier, flight, origin);
ALTER TABLE legacy.weather ADD PRIMARY KEY (origin, time_hour);
ALTER TABLE legacy.plane ADD PRIMARY KEY (tailnum);
ALTER TABLE legacy.airport ADD PRIMARY KEY (faa);
ALTER TABLE legacy.airline ADD PRIMARY KEY (carrier);
ALTER TABLE legacy.line ADD PRIMARY KEY (no);
CREATE INDEX ON legacy.line (invoice_date, no);

-- when a flight was to leave; null where it never did
CREATE VIEW legacy.departure AS
SELECT date, carrier, flight, origin,
	date + make_interval(mins => mod(dep_time / 100 * 60 + dep_time % 100 - dep_delay + 2880, 1440)) AS planned_at
FROM legacy.flight;
ANALYZE;
});

sub counts
{
	my ($name, $sql, $expected) = @_;

	return shows($node, $sql, $expected, $name);
}
counts('flights a day', 'SELECT sum(n), count(*), min(n), max(n) FROM (SELECT count(*) AS n FROM legacy.flight GROUP BY date) d', '336776|365|634|1014');
counts('flights without origin are not unique', 'SELECT count(*), sum(n), max(n) FROM (SELECT count(*) AS n FROM legacy.flight
	GROUP BY date, carrier, flight HAVING count(*) > 1) d', '24|48|2');
counts('nulls of flights', 'SELECT count(*) - count(dep_time), count(*) - count(dep_delay), count(*) - count(hour), count(*) - count(minute),
	count(*) - count(arr_time), count(*) - count(arr_delay), count(*) - count(air_time), count(*) - count(tailnum),
	count(*) FILTER (WHERE tailnum IS NULL AND dep_time IS NULL), count(*) FILTER (WHERE dep_time IS NOT NULL AND air_time IS NULL),
	count(*) FILTER (WHERE dep_time = 2400), count(*) FILTER (WHERE arr_time = 2400) FROM legacy.flight',
	'8255|8255|8255|8255|8713|9430|9430|2512|2512|1175|29|150');
counts('flights that left after midnight', 'SELECT count(*) FROM legacy.flight WHERE dep_time / 100 * 60 + dep_time % 100 - dep_delay < 0', '1207');
counts('planes that are not known', 'SELECT count(DISTINCT tailnum), count(*) FROM legacy.flight WHERE tailnum IS NOT NULL
	AND NOT EXISTS (SELECT FROM legacy.plane p WHERE p.tailnum = flight.tailnum)', '721|50094');
counts('airports that are not known', q{SELECT string_agg(dest || ' ' || n, ' ' ORDER BY n DESC) FROM (SELECT dest, count(*) AS n FROM legacy.flight
	WHERE NOT EXISTS (SELECT FROM legacy.airport WHERE faa = dest) GROUP BY 1) d}, 'SJU 5819 BQN 896 STT 522 PSE 365');
counts('weather', 'SELECT count(*), count(*) - count(wind_gust), count(*) - count(pressure), count(*) - count(wind_dir), count(*) - count(wind_speed),
	count(*) - count(temp), count(*) - count(dewp), count(*) - count(humid), count(*) FILTER (WHERE month = 12 AND day = 31) FROM legacy.weather',
	'26115|20778|2729|460|4|1|1|1|0');
counts('an hour that comes twice', q{SELECT string_agg(concat_ws(' ', origin, month, day, hour), ', ' ORDER BY origin) FROM (SELECT origin, month, day, hour
	FROM legacy.weather GROUP BY 1, 2, 3, 4 HAVING count(*) > 1) d}, 'EWR 11 3 1, JFK 11 3 1, LGA 11 3 1');
counts('planes, airports, airlines', 'SELECT count(*), count(*) - count(speed), count(*) - count(year), (SELECT count(*) FROM legacy.airport),
	(SELECT count(*) - count(tzone) FROM legacy.airport), (SELECT count(*) FROM legacy.airline) FROM legacy.plane', '3322|3299|70|1458|3|16');
counts('lines a day', 'SELECT sum(n), count(*), min(n), max(n), count(*) FILTER (WHERE extract(isodow FROM d) = 6), max(d) - min(d) + 1,
	count(*) FILTER (WHERE d BETWEEN $$2010-12-24$$ AND $$2011-01-03$$), count(*) FILTER (WHERE d BETWEEN $$2011-04-01$$ AND $$2011-05-31$$)
	FROM (SELECT invoice_date::date AS d, count(*) AS n FROM legacy.line GROUP BY 1) d', '541909|305|279|5331|0|374|0|46');
counts('lines a minute', 'SELECT count(*) OVER (), n, invoice_date FROM (SELECT invoice_date, count(*) AS n FROM legacy.line GROUP BY 1) d
	ORDER BY n DESC LIMIT 1', '23260|1114|2011-10-31 14:41:00');
counts('lines in order', 'SELECT count(*) FROM (SELECT invoice_date < lag(invoice_date) OVER (ORDER BY no) AS is_back FROM legacy.line) l WHERE is_back', '0');
counts('lines have no key', 'SELECT count(*), sum(n) - count(*), count(*) FILTER (WHERE n > 1), max(n) FROM
	(SELECT count(*) AS n FROM legacy.line GROUP BY invoice_no, stock_code) d', '531225|10684|9694|20');
counts('lines that are duplicates', 'SELECT count(*) FROM (SELECT DISTINCT invoice_no, stock_code, description, quantity, invoice_date, unit_price,
	customer_id, country FROM legacy.line) d', 541909 - 5268);
counts('kinds of lines', q{SELECT count(*) FILTER (WHERE invoice_no LIKE 'C%' AND quantity < 0), count(*) FILTER (WHERE invoice_no LIKE 'C%'),
	count(*) FILTER (WHERE quantity < 0), count(*) FILTER (WHERE unit_price <= 0), count(DISTINCT invoice_no) FILTER (WHERE invoice_no LIKE 'A5631%'),
	count(*) FILTER (WHERE unit_price < 0), count(*) - count(customer_id), count(*) - count(description), count(*) FILTER (WHERE description <> trim(description)),
	max(scale(unit_price)), count(*) FILTER (WHERE octet_length(line::text) <> length(line::text)) FROM legacy.line},
	'9288|9288|10624|2517|3|2|135080|1454|113452|3|32');
counts('invoices of two minutes', 'SELECT count(*), max(n), max(b - a), max(b::date - a::date) FROM (SELECT count(DISTINCT invoice_date) AS n, min(invoice_date) AS a,
	max(invoice_date) AS b FROM legacy.line GROUP BY invoice_no) d WHERE n > 1', '43|2|00:01:00|0');
counts('stock codes', 'SELECT (SELECT count(*) FROM (SELECT 1 FROM legacy.line GROUP BY upper(stock_code) HAVING count(DISTINCT stock_code) > 1) d),
	(SELECT count(*) FROM (SELECT 1 FROM legacy.line GROUP BY stock_code HAVING count(DISTINCT coalesce(description, $$$$)) > 1) d)', '112|1324');

# ------------------------------------------------------------------------
# To level 0 as it is, and to level 1 joined and with one row a product; the
# same again writes nothing

$node->safe_psql('postgres', q{
CREATE TABLE lv0.flight (LIKE legacy.flight INCLUDING INDEXES);
CREATE TABLE lv0.weather (LIKE legacy.weather INCLUDING INDEXES);
CREATE TABLE lv0.plane (LIKE legacy.plane INCLUDING INDEXES);
CREATE TABLE lv0.airport (LIKE legacy.airport INCLUDING INDEXES);
CREATE TABLE lv0.airline (LIKE legacy.airline INCLUDING INDEXES);
CREATE TABLE lv0.line (LIKE legacy.line INCLUDING INDEXES);
CREATE TABLE lv0.departure (date date, carrier text, flight int, origin text, planned_at timestamp, PRIMARY KEY (date, carrier, flight, origin));
CREATE TABLE lv1.flight (date date, carrier text, flight int, origin text, manufacturer text, airport text, airline text NOT NULL,
	PRIMARY KEY (date, carrier, flight, origin));
CREATE TABLE lv1.product (stock_code text PRIMARY KEY, description text, no int);
CREATE TABLE lv1.product_appended (LIKE lv1.product INCLUDING ALL);
CREATE TABLE lv1.day (day date PRIMARY KEY, lines bigint, amount numeric);
});
my $product = q{SELECT stock_code, trim(description) AS description, invoice_date, no FROM lv0.line WHERE description IS NOT NULL};
my $described = $product =~ s/invoice_date, //r;
my $joined = q{SELECT date, carrier, flight, origin, manufacturer, a.name AS airport, c.name AS airline
	FROM lv0.flight f LEFT JOIN lv0.plane p USING (tailnum) LEFT JOIN lv0.airport a ON faa = dest JOIN lv0.airline c USING (carrier)};
my $days = q{SELECT invoice_date::date AS day, count(*) AS lines, sum(quantity * unit_price) AS amount FROM lv0.line GROUP BY 1};

# [arguments, pages, rows]
my @loads = (
	[ 'flights', q{'legacy.flight', 'lv0.flight', page_size => 20000}, 17, 336776 ],
	[ 'weather', q{'legacy.weather', 'lv0.weather', page_size => 5000}, 6, 26115 ],
	[ 'planes', q{'legacy.plane', 'lv0.plane', page_size => 1000}, 4, 3322 ],
	[ 'airports', q{'legacy.airport', 'lv0.airport', page_size => 1000}, 2, 1458 ],
	[ 'airlines', q{'legacy.airline', 'lv0.airline'}, 1, 16 ],
	# ties of up to 1,114 lines are split
	[ 'lines', q{'legacy.line', 'lv0.line', page_by => '{invoice_date}', page_size => 500}, 1084, 541909 ],
	[ 'departures', q{'SELECT * FROM legacy.departure WHERE planned_at IS NOT NULL', 'lv0.departure', page_by => '{planned_at}', page_size => 50000}, 7, 336776 - 8255 ]);
my @second = (
	[ 'joined', "'$joined', 'lv1.flight', page_size => 50000", 7, 336776 ],
	[ 'days', "'$days', 'lv1.day', page_size => 100", 4, 305 ],
	[ 'products appended', "'$described', 'lv1.product_appended', key => '{stock_code}', page_by => '{no}', mode => 'append', page_size => 50000", 11, undef ],
	[ 'products', "'$described', 'lv1.product', key => '{stock_code}', page_by => '{no}', page_size => 50000", 11, undef ]);

sub run_loads
{
	my ($pass, @cases) = @_;
	my $xid = value($node, 'SELECT pg_current_xact_id()');
	my @runs = map { trigger($node, $_->[0]) } @cases;

	foreach my $case (@cases)
	{
		my ($name, $arguments, $pages, $rows) = @$case;
		my $run = shift @runs;
		my ($target) = $arguments =~ /'(lv\d\.\w+)'/;

		is(wait_for_run($node, $run), 'success', "$name, pass $pass") or diag(task_message($node, $run));
		$rows = $pass == 2 && $name ne 'products' ? 0 : $rows // '\d+';
		like(progress($node, $run), qr/^success $pages $rows$/, "$name: pages and rows");
		# a product that had several descriptions is written with each page again
		shows($node, "SELECT count(*) FROM $target WHERE xmin::text::bigint >= $xid", '0', "$name: no row has a new version")
		  if $pass == 2 && $name ne 'products';
	}
	return;
}

foreach my $case (@loads, @second)
{
	upsert($node, $case->[0], $case->[1] =~ s/^'(.*?)', 'lv/\$source\$$1\$source\$, 'lv/sr, 'retries => 0');
}
upsert($node, 'departures with nulls', q{'legacy.departure', 'lv0.departure', page_by => '{planned_at}'}, 'retries => 0');
my $run = trigger($node, 'departures with nulls');
is(wait_for_run($node, $run), 'failed', 'pages by a time that cancelled flights do not have');
like(task_message($node, $run), qr/^22004 column "planned_at" .* contains a null value/, 'are an error that names the column');
run_loads(1, @loads);
$node->safe_psql('postgres', 'ANALYZE');
run_loads(1, @second);
is(difference($node, "TABLE legacy.$_", "TABLE lv0.$_"), '', "$_: equal") foreach ('flight', 'weather', 'plane', 'airport', 'airline', 'line');
is(difference($node, 'SELECT * FROM legacy.departure WHERE planned_at IS NOT NULL', 'TABLE lv0.departure'), '', 'departures: equal');
is(difference($node, $joined, 'TABLE lv1.flight'), '', 'joined: equal');
is(difference($node, $days, 'TABLE lv1.day'), '', 'days: equal');
foreach my $table ('lv1.product', 'lv1.product_appended')
{
	is(difference($node, "SELECT DISTINCT ON (stock_code) * FROM ($described) d ORDER BY stock_code, no DESC", "TABLE $table"), '', "$table: the latest of each");
}
counts('joined: what an inner join would lose', q{SELECT count(*) FILTER (WHERE manufacturer IS NULL), count(*) FILTER (WHERE airport IS NULL) FROM lv1.flight},
	(50094 + 2512) . '|' . (5819 + 896 + 522 + 365));
run_loads(2, @loads);
run_loads(2, @second);
is(difference($node, "SELECT DISTINCT ON (stock_code) * FROM ($described) d ORDER BY stock_code, no DESC", 'TABLE lv1.product'), '', 'products: still the latest of each');

# ------------------------------------------------------------------------
# By local days and weeks, with backfills that are done twice

$node->safe_psql('postgres', q{
CREATE TABLE lv1.line (LIKE lv0.line INCLUDING INDEXES);
CREATE TABLE lv1.weather (LIKE lv0.weather INCLUDING INDEXES);
CREATE INDEX ON lv0.weather (time_hour, origin);
CREATE INDEX ON lv1.weather (time_hour);
});
define($node, q{
SELECT flow_create_dag('lines by day', '@daily', '2010-12-01', timezone => 'Europe/London', is_paused => true, max_active_runs => 4);
SELECT flow_add_upsert('lines by day', 'load', 'SELECT * FROM lv0.line WHERE invoice_date >= run.local_start AND invoice_date < run.local_end', 'lv1.line',
	mode => 'replace', replace_where => 'invoice_date >= run.local_start AND invoice_date < run.local_end');
SELECT flow_create_dag('weather by day', '@daily', '2013-01-01', timezone => 'America/New_York', is_paused => true);
SELECT flow_add_upsert('weather by day', 'load', 'SELECT * FROM lv0.weather WHERE time_hour >= run.data_interval_start AND time_hour < run.data_interval_end', 'lv1.weather',
	page_size => 10);
});
my $closed = value($node, q{SELECT count(*) FROM generate_series(timestamp '2010-12-01', '2011-01-31', '1 day') d
	WHERE NOT EXISTS (SELECT FROM legacy.line WHERE invoice_date >= d AND invoice_date < d + interval '1 day')});
my $xid;
foreach my $pass (1, 2)
{
	my @arguments = $pass == 2 ? (reprocess => "'completed'") : ();
	my @backfills = (
		backfill($node, 'lines by day', '2010-12-01', '2011-01-31', @arguments),
		backfill($node, 'lines by day', '2011-02-01', '2011-12-09', chunk => "'7 days'", @arguments),
		backfill($node, 'weather by day', '2013-10-31', '2013-11-05', @arguments));

	is(wait_for_backfill($node, $_), 'success', "by day, pass $pass") foreach @backfills;
	shows($node, q{SELECT count(*), sum(rows_written), count(*) FILTER (WHERE rows_written = 0) FROM flow.task_run WHERE dag_id = 'lines by day'},
		$pass == 1 ? "107|541909|$closed" : '107|0|107', "lines: 62 days, $closed of them without lines, and 45 weeks");
	shows($node, q{SELECT string_agg(rows_written::text, ' ' ORDER BY logical_date) FROM flow.task_run JOIN flow.dag_run r USING (run_id)
		WHERE r.dag_id = 'weather by day'}, $pass == 1 ? value($node, q{SELECT string_agg(n::text, ' ' ORDER BY month, day)
		FROM (SELECT month, day, count(*) AS n FROM legacy.weather WHERE (month, day) IN ((10, 31), (11, 1), (11, 2), (11, 3), (11, 4), (11, 5)) GROUP BY 1, 2) d}) : '0 0 0 0 0 0', 'weather: the rows of each local day');
	if ($pass == 1)
	{
		is(difference($node, 'TABLE lv0.line', 'TABLE lv1.line'), '', 'lines: equal');
		is(difference($node, q{SELECT * FROM lv0.weather WHERE time_hour >= '2013-10-31 00:00-04' AND time_hour < '2013-11-06 00:00-05'}, 'TABLE lv1.weather'), '', 'weather: equal');
		shows($node, q{SELECT count(*), count(DISTINCT time_hour) FROM lv1.weather WHERE month = 11 AND day = 3 AND hour = 1}, '6|2', 'the hour that comes twice is there twice');
		$xid = value($node, 'SELECT pg_current_xact_id()');
	}
}
shows($node, "SELECT count(*) FROM lv1.line WHERE xmin::text::bigint >= $xid", '0', 'no row has a new version');

$node->stop;
done_testing();
