-- A shop's daily pipeline.
--
-- At two in the morning the day before is taken in, looked at, cleaned,
-- measured and reported, once for each of the shop's three regions:
--
--   make_partitions -> ingest -> is_open -> validate -> process -> metrics
--       -> report -> is_sunday -> drop_raw, drop_sales, drop_summaries, drop_metrics
--
-- Run it with psql, as a superuser, in a database of its own.  What people do
-- with the pipeline then is at the end of this file.  test/t/130_ecommerce.pl
-- plays it with two months of real orders.

\set ON_ERROR_STOP on

CREATE EXTENSION flowpg;

-- Tasks run as the role that defines them.
CREATE ROLE shop LOGIN;
SELECT format('GRANT CREATE ON DATABASE %I TO shop', current_database()) \gexec
SELECT flow_grant('shop');

-- Tasks that make or drop partitions take turns, over all DAGs and runs.
SELECT flow_create_pool('partitions', 1, 'making and dropping partitions');

SET ROLE shop;

-- ---------------------------------------------------------------------------
-- The data
-- ---------------------------------------------------------------------------

CREATE SCHEMA shop;

-- Where the day's invoice lines of each region arrive.  A day can be delivered
-- again, corrected; a day on which a region was closed has no lines.
CREATE TABLE shop.delivery (
    region       text,
    day          date,
    invoice_no   text,         -- 'C...': goods were given back
    stock_code   text,
    description  text,
    quantity     int,
    invoice_date timestamp,
    unit_price   numeric,
    customer_id  text,         -- NULL: without an account
    country      text
);
CREATE INDEX ON shop.delivery (region, day);

-- What is expected of a day on which a region was open.
CREATE TABLE shop.region (
    region             text PRIMARY KEY,
    minimum_orders     int NOT NULL,
    minimum_on_sundays int NOT NULL
);
INSERT INTO shop.region VALUES ('uk', 50, 15), ('europe', 1, 0), ('world', 0, 0);

-- What comes out of it, for all regions together ...
CREATE TABLE shop.report (
    day         date,
    region      text,
    orders      bigint NOT NULL,
    revenue     numeric NOT NULL,
    revenue_7d  numeric NOT NULL,
    growth      numeric,
    best_seller text,
    PRIMARY KEY (day, region)
);

CREATE TABLE shop.company_day (
    day     date PRIMARY KEY,
    regions bigint NOT NULL,
    orders  bigint NOT NULL,
    revenue numeric NOT NULL
);

-- ... and who has to be told of what.
CREATE TABLE shop.alert (
    alert_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dag_id       text NOT NULL,
    day          date NOT NULL,
    failed_tasks text[] NOT NULL,
    message      text NOT NULL,
    told_at      timestamptz NOT NULL DEFAULT now()
);

-- The tables on the way are each region's own, in a schema of its name.  Where
-- SQL below gives no schema, the DAG's search_path says whose table it is, and
-- current_schema() is the region.
DO $$
DECLARE
    region text;
BEGIN
    FOR region IN SELECT r.region FROM shop.region r LOOP
        EXECUTE format('CREATE SCHEMA %I', region);
        PERFORM set_config('search_path', quote_ident(region), true);

        -- As delivered, whatever columns there were.  Kept 7 days.
        CREATE TABLE raw_line (
            day  date NOT NULL,
            line jsonb NOT NULL
        ) PARTITION BY RANGE (day);

        -- Clean.  Kept 30 days, and so are the summaries.
        CREATE TABLE sale (
            day         date NOT NULL,
            hour        int NOT NULL,
            weekday     int NOT NULL,        -- 1 Monday ... 7 Sunday
            invoice_no  text NOT NULL,
            stock_code  text NOT NULL,
            description text,
            is_return   boolean NOT NULL,
            quantity    int NOT NULL CHECK (quantity >= 0),
            unit_price  numeric NOT NULL CHECK (unit_price >= 0),
            customer_id text
        ) PARTITION BY RANGE (day);

        CREATE TABLE daily_summary (
            day       date PRIMARY KEY,
            orders    bigint NOT NULL,
            customers bigint NOT NULL,
            lines     bigint NOT NULL,
            revenue   numeric NOT NULL,
            returned  numeric NOT NULL
        );

        -- A day's share of the last seven days.  Kept 90 days.
        CREATE TABLE metric (
            day        date PRIMARY KEY,
            orders_7d  numeric NOT NULL,
            revenue_7d numeric NOT NULL,
            growth     numeric              -- of revenue_7d, in percent
        );
    END LOOP;
END $$;

-- Tasks of other days are at work on the table meanwhile: ATTACH lets them be,
-- where CREATE TABLE ... PARTITION OF would wait for them and make others wait.
CREATE FUNCTION shop.make_partition(parent regclass, day date)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
BEGIN
    IF to_regclass(partition) IS NULL THEN
        EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', partition, parent);
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
            parent, partition, day, day + 1);
    END IF;
END $$;

-- ---------------------------------------------------------------------------
-- The pipeline of a region
--
-- run.ds is the day that a run is for.  It is a parameter of the SQL, not
-- pasted text.  Every task replaces what it has written for that day before, so
-- that any day can be run again at any time.
-- ---------------------------------------------------------------------------

CREATE FUNCTION shop.define_pipeline(region text)
RETURNS text LANGUAGE plpgsql SET search_path = public AS $define$
DECLARE
    dag text := 'ecommerce_' || region;
BEGIN
    -- for the rest of this function
    PERFORM set_config('search_path', quote_ident(region) || ', public', true);

    -- The run for 1 May starts on 2 May at 02:00, when the day is over.
    PERFORM flow_create_dag(dag, '0 2 * * *',
        start_date => '2011-05-01',
        timezone => 'Europe/London',
        max_active_runs => 3,
        retries => 2,
        retry_delay => '10 minutes',
        on_failure => $$
            INSERT INTO shop.alert (dag_id, day, failed_tasks, message)
            VALUES (run.dag_id, run.ds, run.failed_tasks, run.message);

            SELECT pg_notify('shop_alert', run.dag_id || ', ' || run.ds || ': ' || left(run.message, 500));
        $$,
        description => 'The shop''s day in region ' || region);

    -- Partitions for the day, and for the one that comes.
    PERFORM flow_add_sql(dag, 'make_partitions', pool => 'partitions', command => $$
        SELECT shop.make_partition(parent, run.ds + days)
        FROM unnest('{raw_line,sale}'::regclass[]) parent, generate_series(0, 1) days
    $$);

    PERFORM flow_add_sql(dag, 'ingest', upstream => '{make_partitions}', command => $$
        DELETE FROM raw_line WHERE day = run.ds;

        INSERT INTO raw_line (day, line)
        SELECT run.ds, to_jsonb(d) - '{region,day}'::text[]
        FROM shop.delivery d
        WHERE region = current_schema() AND day = run.ds;
    $$);

    -- On a day without lines there is nothing to validate, process or report.
    PERFORM flow_add_branch(dag, 'is_open', upstream => '{ingest}', command => $$
        SELECT 'validate' WHERE EXISTS (SELECT FROM raw_line WHERE day = run.ds)
    $$);

    -- Trying again would not make the data any better: no retries.
    PERFORM flow_add_check(dag, 'validate', upstream => '{is_open}', retries => 0, condition => $$
        WITH line AS (
            SELECT l.*
            FROM raw_line r, jsonb_to_record(r.line) AS l (invoice_no text, stock_code text,
                quantity int, invoice_date timestamp, unit_price numeric)
            WHERE r.day = run.ds
        )
        SELECT 'every column is there' AS name, count(*) = 0 AS ok,
            'missing: ' || string_agg(expected, ', ') AS detail
        FROM unnest('{invoice_no,stock_code,description,quantity,invoice_date,unit_price,
            customer_id,country}'::text[]) expected
        WHERE NOT EXISTS (SELECT FROM raw_line WHERE day = run.ds AND line ? expected)

        UNION ALL
        SELECT 'no value is missing', count(*) = 0, count(*) || ' lines'
        FROM line
        WHERE invoice_no IS NULL OR stock_code IS NULL OR quantity IS NULL
            OR invoice_date IS NULL OR unit_price IS NULL

        UNION ALL
        SELECT 'all dates are of the day', count(*) = 0,
            count(*) || ' lines, from ' || min(invoice_date) || ' to ' || max(invoice_date)
        FROM line
        WHERE invoice_date::date <> run.ds

        UNION ALL
        SELECT 'enough orders', orders >= minimum, orders || ' of at least ' || minimum
        FROM (
            SELECT count(DISTINCT invoice_no) AS orders FROM line WHERE invoice_no NOT LIKE 'C%'
        ) o, (
            SELECT CASE extract(isodow FROM run.ds)
                WHEN 7 THEN minimum_on_sundays ELSE minimum_orders END AS minimum
            FROM shop.region
            WHERE region = current_schema()
        ) m
    $$);

    -- Lines that came twice count once; what was given back is told by
    -- is_return and not by a negative quantity; no price is below zero.
    PERFORM flow_add_sql(dag, 'process', upstream => '{validate}', command => $$
        DELETE FROM sale WHERE day = run.ds;

        INSERT INTO sale
        SELECT run.ds, extract(hour FROM invoice_date), extract(isodow FROM invoice_date),
            invoice_no, stock_code, trim(description),
            invoice_no LIKE 'C%' OR quantity < 0, abs(quantity), greatest(unit_price, 0),
            customer_id
        FROM (SELECT DISTINCT line FROM raw_line WHERE day = run.ds) r,
            jsonb_to_record(r.line) AS l (invoice_no text, stock_code text, description text,
                quantity int, invoice_date timestamp, unit_price numeric, customer_id text);

        DELETE FROM daily_summary WHERE day = run.ds;

        INSERT INTO daily_summary
        SELECT run.ds,
            count(DISTINCT invoice_no) FILTER (WHERE NOT is_return),
            count(DISTINCT customer_id),
            count(*),
            coalesce(sum(quantity * unit_price) FILTER (WHERE NOT is_return), 0),
            coalesce(sum(quantity * unit_price) FILTER (WHERE is_return), 0)
        FROM sale
        WHERE day = run.ds;
    $$);

    -- Growth goes by the metrics of the day before, so days go one by one.
    -- Metrics are made for days without lines too: by trigger_rule, it does
    -- not matter that process was skipped.
    PERFORM flow_add_sql(dag, 'metrics', upstream => '{process}', trigger_rule => 'none_failed',
        depends_on_past => true, command => $$
        DELETE FROM metric WHERE day = run.ds;

        INSERT INTO metric
        SELECT run.ds, orders, revenue, round(100 * (revenue / nullif(before.revenue_7d, 0) - 1), 1)
        FROM (
            SELECT round(coalesce(sum(s.orders), 0) / 7, 1) AS orders,
                round(coalesce(sum(s.revenue), 0) / 7, 2) AS revenue
            FROM daily_summary s
            WHERE day > run.ds - 7 AND day <= run.ds
        ) week LEFT JOIN metric before ON before.day = run.ds - 1
        RETURNING revenue_7d, growth;
    $$);

    -- The row that metrics has returned is at hand as flow_result('metrics').
    PERFORM flow_add_sql(dag, 'report', upstream => '{process,metrics}', command => $$
        DELETE FROM shop.report WHERE day = run.ds AND region = current_schema();

        INSERT INTO shop.report
        SELECT day, current_schema(), orders, revenue, m.revenue_7d, m.growth, (
                SELECT description
                FROM sale
                WHERE day = run.ds AND NOT is_return
                GROUP BY description
                ORDER BY sum(quantity * unit_price) DESC, description
                LIMIT 1
            )
        FROM daily_summary,
            jsonb_to_record(flow_result('metrics')) AS m (revenue_7d numeric, growth numeric)
        WHERE day = run.ds;
    $$);

    -- Once a week, also if the shop was closed on that Sunday, but not if
    -- something has failed.
    PERFORM flow_add_branch(dag, 'is_sunday', upstream => '{report}', trigger_rule => 'none_failed', command => $$
        SELECT '{drop_raw,drop_sales,drop_summaries,drop_metrics}'::text[]
        WHERE extract(isodow FROM run.ds) = 7
    $$);

    -- Partitions that are wholly older are dropped; of other tables, rows are
    -- deleted.
    PERFORM flow_add_retention(dag, 'drop_raw', 'raw_line', 'day', keep => '7 days',
        upstream => '{is_sunday}', pool => 'partitions');
    PERFORM flow_add_retention(dag, 'drop_sales', 'sale', 'day', keep => '30 days',
        upstream => '{is_sunday}', pool => 'partitions');
    PERFORM flow_add_retention(dag, 'drop_summaries', 'daily_summary', 'day', keep => '30 days',
        upstream => '{is_sunday}');
    PERFORM flow_add_retention(dag, 'drop_metrics', 'metric', 'day', keep => '90 days',
        upstream => '{is_sunday}');

    RETURN dag;
END $define$;

-- All regions, whole or not at all: nothing starts before the commit.
BEGIN;

SELECT shop.define_pipeline(region)
FROM unnest('{uk,europe,world}'::text[]) region;

-- The whole company's day, as soon as all regions have theirs.
SELECT flow_create_dag('ecommerce_company', timezone => 'Europe/London',
    description => 'The shop''s day in all regions');

SELECT flow_add_sql('ecommerce_company', 'total', $$
    DELETE FROM shop.company_day WHERE day = run.ds;

    INSERT INTO shop.company_day
    SELECT day, count(*), sum(orders), sum(revenue)
    FROM shop.report
    WHERE day = run.ds
    GROUP BY day;
$$);

SELECT flow_add_dependency('ecommerce_' || region, 'ecommerce_company')
FROM unnest('{uk,europe,world}'::text[]) region;

COMMIT;

-- ---------------------------------------------------------------------------
-- Living with it
--
-- The days before the pipeline was there, three at a time:
--
--     SELECT flow_backfill('ecommerce_uk', '2011-04-01', '2011-04-30', max_active_runs => 3);
--
-- What has gone wrong, and why something has not started:
--
--     SELECT * FROM shop.alert ORDER BY told_at DESC;
--     SELECT dag_id, logical_date, message FROM flow.run_status WHERE state = 'failed';
--     SELECT * FROM flow_explain('ecommerce_uk');
--
-- A failed day alone, once its data have been corrected; the days after it, which
-- wait for its metrics, then go on by themselves:
--
--     SELECT flow_clear('ecommerce_uk', '2011-05-10', '2011-05-10');
--
-- A day that only looks wrong:
--
--     SELECT flow_mark(run_id, 'validate', 'success') FROM flow.run_status
--     WHERE dag_id = 'ecommerce_uk' AND state = 'failed';
--
-- The last seven days again after a correction, whether they had succeeded or
-- not, and the company's days after them:
--
--     SELECT flow_backfill('ecommerce_uk', '2011-05-25', '2011-05-31', reprocess => 'completed');
-- ---------------------------------------------------------------------------

RESET ROLE;
