--
-- flow_add_upsert: what is refused when it is defined, and what is stored.
-- The server stands still and starts nothing; running is tested in test/t.
--
CREATE ROLE regress_flow_upsert SUPERUSER LOGIN;
SET SESSION AUTHORIZATION regress_flow_upsert;
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS flowpg CASCADE;
RESET client_min_messages;
CREATE EXTENSION flowpg;
\pset format unaligned
\pset null '-'

-- what a statement that must fail says
CREATE FUNCTION error_of(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n  ', SQLSTATE || ': ' || message,
        'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;

-- the same for an upsert, given by its arguments
CREATE FUNCTION error_of_upsert(arguments text) RETURNS text
LANGUAGE sql AS $$
SELECT error_of(format('SELECT flow_add_upsert(''u'', ''t'', %s)', arguments))
$$;

CREATE FUNCTION stored(a_task_id text) RETURNS jsonb
LANGUAGE sql AS $$
SELECT params FROM flow.task WHERE dag_id = 'u' AND task_id = a_task_id
$$;

CREATE SCHEMA legacy;
CREATE TABLE legacy.orders (region text, order_id int, amount numeric, note json,
    changed_at timestamptz NOT NULL, PRIMARY KEY (region, order_id));
CREATE INDEX ON legacy.orders (changed_at, region, order_id);
CREATE TABLE legacy.heap (order_id int, amount numeric);
CREATE VIEW legacy.orders_view AS SELECT * FROM legacy.orders;
CREATE SEQUENCE legacy.numbers;
CREATE SCHEMA lv0;
CREATE TABLE lv0.orders (LIKE legacy.orders INCLUDING ALL);
ALTER TABLE lv0.orders ADD loaded_at timestamptz DEFAULT now(),
    ADD gross numeric GENERATED ALWAYS AS (amount * 1.2) STORED;
CREATE TABLE lv0.no_key (order_id int, amount numeric);
CREATE VIEW lv0.orders_view AS SELECT * FROM lv0.orders;

SELECT flow_create_dag('u', is_paused => true);

--
-- what is accepted
--
SELECT flow_add_upsert('u', 'table', 'legacy.orders', 'lv0.orders');
SELECT stored('table');
SELECT flow_add_upsert('u', 'all', source => 'legacy.orders', target => 'lv0.orders',
    key => '{region,order_id}', page_by => '{changed_at}', page_size => 500,
    update_columns => '{amount,note}');
SELECT stored('all');
SELECT flow_add_upsert('u', 'append', 'legacy.orders', 'lv0.orders', mode => 'append');
-- a view, a SELECT, with a terminator and a comment, TABLE, VALUES, WITH
SELECT flow_add_upsert('u', 'view', 'legacy.orders_view', 'lv0.orders');
SELECT flow_add_upsert('u', 'select', $$
    SELECT region, order_id, sum(amount) AS amount, max(changed_at) AS changed_at
    FROM legacy.orders
    WHERE changed_at >= run.data_interval_start AND changed_at < run.data_interval_end
    GROUP BY region, order_id;  -- a day's
$$, 'lv0.orders');
SELECT flow_add_upsert('u', 'table_command', 'TABLE legacy.orders', 'lv0.orders');
SELECT flow_add_upsert('u', 'values',
    $$SELECT * FROM (VALUES ('02', 1, now())) AS v (region, order_id, changed_at)$$, 'lv0.orders');
SELECT flow_add_upsert('u', 'with',
    'WITH o AS (SELECT * FROM legacy.orders) SELECT * FROM o WHERE amount > 0', 'lv0.orders');
-- names that need quotes
CREATE TABLE "A table.with (odd) name" ("A key" int PRIMARY KEY, "select" text);
CREATE TABLE "Another" ("A key" int PRIMARY KEY, "select" text);
SELECT flow_add_upsert('u', 'quoted', '"A table.with (odd) name"', '"Another"');
-- any unique index serves as key; nulls in it are refused when it runs
CREATE TABLE lv0.two_keys (id int PRIMARY KEY, code text, part int, UNIQUE (part, code));
SELECT flow_add_upsert('u', 'other_key', 'SELECT 1 AS id, ''a'' AS code, 2 AS part',
    'lv0.two_keys', key => '{code,part}');
-- identity columns can be given, generated ones are left alone
CREATE TABLE lv0.identity (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount numeric,
    gross numeric GENERATED ALWAYS AS (amount * 1.2) STORED);
SELECT flow_add_upsert('u', 'identity', 'SELECT order_id AS id, amount, amount AS gross FROM legacy.heap',
    'lv0.identity');
-- types that differ but can be assigned
SELECT flow_add_upsert('u', 'types', 'SELECT 1::bigint AS id, ''x''::varchar AS code, 2::smallint AS part',
    'lv0.two_keys');

--
-- no index has the page order: accepted, with the index to make
--
CREATE UNIQUE INDEX ON lv0.no_key (order_id);
SELECT flow_add_upsert('u', 'heap', 'legacy.heap', 'lv0.no_key', key => '{order_id}');
SELECT flow_add_upsert('u', 'heap', 'legacy.orders', 'lv0.orders', page_by => '{amount}');
-- an index on more columns, or backwards, will do; a partial one will not
CREATE INDEX ON legacy.heap (order_id DESC, amount);
SELECT flow_add_upsert('u', 'heap', 'legacy.heap', 'lv0.no_key', key => '{order_id}');
DROP INDEX legacy.heap_order_id_amount_idx;
CREATE INDEX ON legacy.heap (order_id) WHERE order_id > 0;
SELECT flow_add_upsert('u', 'heap', 'legacy.heap', 'lv0.no_key', key => '{order_id}');

--
-- source and target
--
SELECT error_of_upsert($$ 'legacy.nothing', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.nothing' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders_view' $$);
SELECT error_of_upsert($$ 'legacy.numbers', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders_pkey' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders; DROP TABLE lv0.orders' $$);
SELECT error_of_upsert($$ NULL, 'lv0.orders' $$);
SELECT error_of_upsert($$ 'DELETE FROM legacy.orders', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'SELECT 1; SELECT 2', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'SELECT * FROM legacy.nothing', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'SELECT run.nothing', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'WITH d AS (DELETE FROM legacy.orders RETURNING *) SELECT * FROM d', 'lv0.orders' $$);

--
-- columns
--
SELECT error_of_upsert($$ 'SELECT *, 1 AS extra FROM legacy.orders', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'SELECT region, order_id, 1 FROM legacy.orders', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'SELECT region, order_id, amount, amount FROM legacy.orders', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'SELECT region, order_id::text AS order_id FROM legacy.orders', 'lv0.orders' $$);
SELECT error_of_upsert($$ 'SELECT region, amount FROM legacy.orders', 'lv0.orders' $$);

--
-- key
--
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', key => '{nothing}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', key => '{loaded_at}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', key => '{order_id}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', key => '{region,region}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', key => '{note}' $$);
CREATE TABLE lv0.bad_keys (a int, b int, c int, d int, e text);
CREATE UNIQUE INDEX ON lv0.bad_keys (a) WHERE a > 0;
CREATE UNIQUE INDEX ON lv0.bad_keys ((b + 1));
ALTER TABLE lv0.bad_keys ADD UNIQUE (c) DEFERRABLE;
CREATE UNIQUE INDEX ON lv0.bad_keys (d, e);
SELECT error_of_upsert($$ 'SELECT 1 AS a, 2 AS b', 'lv0.bad_keys' $$);
SELECT error_of_upsert(format($$ 'SELECT 1 AS a, 2 AS b, 3 AS c, 4 AS d, ''x'' AS e', 'lv0.bad_keys', key => '{%s}' $$, k))
FROM unnest('{a,b,c,d}'::text[]) AS k;

--
-- page order
--
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', page_by => '{nothing}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', page_by => '{loaded_at}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', page_by => '{amount,amount}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', page_by => '{note}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', page_size => 0 $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', page_size => -1 $$);

--
-- other arguments
--
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', mode => 'merge' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', on_row_error => 'ignore' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', parallel_pages => 0 $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', replace_where => 'true' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', update_columns => '{nothing}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', update_columns => '{loaded_at}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', update_columns => '{region}' $$);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', update_columns => '{amount}', mode => 'append' $$);

--
-- replace
--
SELECT flow_add_upsert('u', 'replace', 'legacy.heap', 'lv0.no_key', key => '{order_id}', mode => 'replace',
    replace_where => 'order_id > 10 OR no_key.amount = run.run_id -- and so on');
SELECT stored('replace');
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', mode => 'replace' $$);
SELECT error_of_upsert(format($$ 'legacy.orders', 'lv0.orders', mode => 'replace', replace_where => %L $$, w))
FROM unnest(ARRAY['nothing = 1', 'amount', 'true); DROP TABLE lv0.orders; --', 'true) OR (', 'run.nothing', '']) AS w;
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', mode => 'replace', replace_where => 'true', update_columns => '{amount}' $$);


--
-- incremental: whose rows that commit late can be recognized, and whose not
--
CREATE TABLE legacy.numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, other serial, plain int NOT NULL,
    at timestamptz NOT NULL, local timestamp NOT NULL, day date NOT NULL, code text NOT NULL);
CREATE INDEX ON legacy.numbered (at, id);
CREATE VIEW legacy.numbered_view AS SELECT * FROM legacy.numbered WHERE plain > 0;
CREATE MATERIALIZED VIEW legacy.numbered_copy AS SELECT * FROM legacy.numbered;
CREATE TABLE lv0.numbered (id int PRIMARY KEY, other int, plain int, at timestamptz, local timestamp, day date, code text);
SET client_min_messages = error;
SELECT page_by, error_of_upsert(format($$ 'legacy.numbered', 'lv0.numbered', incremental => true, page_by => '{%s}' $$, page_by))
FROM unnest('{id,other,plain,at,local,day,code}'::text[]) AS page_by;
SELECT page_by, error_of_upsert(format($$ 'legacy.numbered', 'lv0.numbered', incremental => true, page_by => '{%s}', lookback => '1 day' $$, page_by))
FROM unnest('{plain,code}'::text[]) AS page_by;
SELECT source, error_of_upsert(format($$ %L, 'lv0.numbered', incremental => true, page_by => '{at}' $$, source))
FROM unnest(ARRAY['legacy.numbered_view', 'SELECT id, at FROM legacy.numbered WHERE plain > 1', 'legacy.numbered_copy',
    'SELECT id, max(at) AS at FROM legacy.numbered GROUP BY id', 'SELECT id, at + interval ''1 h'' AS at FROM legacy.numbered',
    'SELECT a.* FROM legacy.numbered a JOIN legacy.numbered b USING (id)', 'SELECT 1 AS id, now() AS at']) AS source;
ALTER TABLE legacy.numbered ALTER id SET CACHE 5, ALTER id SET CYCLE;
SELECT error_of_upsert($$ 'legacy.numbered', 'lv0.numbered', incremental => true $$);
ALTER TABLE legacy.numbered ALTER id SET CACHE 1;
SELECT error_of_upsert($$ 'legacy.numbered', 'lv0.numbered', incremental => true $$);
SELECT error_of_upsert($$ 'legacy.numbered', 'lv0.numbered', lookback => '1 hour' $$);
SELECT error_of_upsert($$ 'legacy.numbered', 'lv0.numbered', incremental => true, mode => 'replace', replace_where => 'true' $$);
RESET client_min_messages;
-- positions
SELECT flow_add_upsert('u', 'position', 'legacy.numbered', 'lv0.numbered', page_by => '{at}', incremental => true);
SELECT flow_get_position('u', 'position');
SELECT flow_set_position('u', 'position', '{"at": "2024-01-31 00:00:00+00", "id": 5}');
SELECT flow_get_position('u', 'position');
SELECT flow_add_upsert('u', 'position', 'legacy.numbered', 'lv0.numbered', page_by => '{at}', incremental => true, page_size => 5);
SELECT flow_get_position('u', 'position');
SELECT flow_set_position('u', 'position', NULL);
SELECT flow_get_position('u', 'position');
SELECT error_of(format('SELECT flow_set_position(%s)', a))
FROM unnest(ARRAY['NULL, ''t'', NULL', '''u'', NULL, NULL', '''no'', ''t'', NULL', '''u'', ''no'', NULL', '''u'', ''table'', NULL',
    '''u'', ''position'', ''[]''', '''u'', ''position'', ''{}''', '''u'', ''position'', ''{"at": null}''', '''u'', ''position'', ''5''']) AS a;
SELECT error_of($$SELECT flow_get_position('u', 'table')$$);

-- rows that cannot be written
SELECT flow_add_upsert('u', 'keep', 'legacy.orders', 'lv0.orders', on_row_error => 'keep');
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', on_row_error => 'keep', mode => 'replace', replace_where => 'true' $$);

-- several workers at a time
SELECT flow_add_upsert('u', 'parallel', 'legacy.orders', 'lv0.orders', parallel_pages => 2);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', parallel_pages => 2, mode => 'replace', replace_where => 'true' $$);
SELECT error_of_upsert($$ 'legacy.numbered', 'lv0.numbered', parallel_pages => 2, page_by => '{at}' $$);
CREATE TABLE legacy.without_index (id int, code text);
SELECT error_of_upsert($$ 'legacy.without_index', 'lv0.numbered', parallel_pages => 2 $$);

SELECT flow_add_upsert('u', 'missing', 'legacy.orders', 'lv0.orders', delete_missing => true);
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', delete_missing => true, mode => 'replace', replace_where => 'true' $$);
SELECT error_of_upsert($$ 'legacy.numbered', 'lv0.numbered', page_by => '{at}', delete_missing => true, incremental => true $$);

--
-- create_partition: for targets that are partitioned by ranges of time
--
CREATE TABLE lv0.part_date (order_id int, day date, PRIMARY KEY (order_id, day)) PARTITION BY RANGE (day);
CREATE DOMAIN lv0.moment AS timestamptz;
CREATE TABLE lv0.part_domain (order_id int, day lv0.moment, PRIMARY KEY (order_id, day)) PARTITION BY RANGE (day);
CREATE TABLE lv0.part_two (order_id int, day date, PRIMARY KEY (order_id, day)) PARTITION BY RANGE (day, order_id);
CREATE TABLE lv0.part_int (order_id int, day date, PRIMARY KEY (order_id, day)) PARTITION BY RANGE (order_id);
CREATE TABLE lv0.part_list (order_id int, day date, PRIMARY KEY (order_id, day)) PARTITION BY LIST (day);
SELECT flow_add_upsert('u', 'partition', 'SELECT 1 AS order_id, run.ds AS day', 'lv0.part_date', create_partition => true);
SELECT stored('partition');
SELECT target, error_of_upsert(format($$ 'SELECT 1 AS order_id, run.ds AS day', %L, create_partition => true $$, target))
FROM unnest(ARRAY['lv0.part_domain', 'lv0.part_two', 'lv0.part_int', 'lv0.part_list']) AS target;
SELECT error_of_upsert($$ 'legacy.orders', 'lv0.orders', create_partition => true $$);

--
-- rights are the DAG's owner's
--
CREATE ROLE regress_flow_loader LOGIN;
SELECT flow_grant('regress_flow_loader');
GRANT USAGE ON SCHEMA legacy, lv0 TO regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
SELECT flow_create_dag('loader', is_paused => true);
CREATE TEMP TABLE try AS SELECT
    $$SELECT flow_add_upsert('loader', 't', 'legacy.orders', 'lv0.orders')$$ AS statement;
SELECT error_of(statement) FROM try;
SET SESSION AUTHORIZATION regress_flow_upsert;
GRANT SELECT ON legacy.orders TO regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
SELECT error_of(statement) FROM try;
SET SESSION AUTHORIZATION regress_flow_upsert;
GRANT INSERT, SELECT ON lv0.orders TO regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
SELECT error_of(statement) FROM try;
SELECT error_of($$SELECT flow_add_upsert('loader', 't', 'legacy.orders', 'lv0.orders', mode => 'append')$$);
SET SESSION AUTHORIZATION regress_flow_upsert;
GRANT UPDATE (amount, note) ON lv0.orders TO regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
SELECT error_of(statement) FROM try;
SELECT error_of($$SELECT flow_add_upsert('loader', 't', 'legacy.orders', 'lv0.orders',
    update_columns => '{amount,note}')$$);
SET SESSION AUTHORIZATION regress_flow_upsert;
GRANT UPDATE ON lv0.orders TO regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
SELECT error_of($$SELECT flow_add_upsert('loader', 't', 'legacy.orders', 'lv0.orders', mode => 'replace', replace_where => 'true')$$);
-- and to make a partition takes the owner
SET SESSION AUTHORIZATION regress_flow_upsert;
GRANT ALL ON lv0.part_date TO regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
UPDATE try SET statement = $$SELECT flow_add_upsert('loader', 't', 'SELECT 1 AS order_id, run.ds AS day', 'lv0.part_date', create_partition => true)$$;
SELECT error_of(statement) FROM try;
SET SESSION AUTHORIZATION regress_flow_upsert;
GRANT CREATE ON SCHEMA lv0 TO regress_flow_loader;
ALTER TABLE lv0.part_date OWNER TO regress_flow_loader;
REVOKE CREATE ON SCHEMA lv0 FROM regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
SELECT error_of(statement) FROM try;
SET SESSION AUTHORIZATION regress_flow_upsert;
GRANT CREATE ON SCHEMA lv0 TO regress_flow_loader;
SET SESSION AUTHORIZATION regress_flow_loader;
SELECT error_of(statement) FROM try;
DROP TABLE try;

--
-- what it names need not exist yet
--
SET SESSION AUTHORIZATION regress_flow_upsert;
SET flowpg.check_definitions = off;
SELECT flow_add_upsert('u', 'later', 'legacy.later', 'lv0.later', key => '{id}');
SELECT flow_add_upsert('u', 'later', 'SELECT * FROM legacy.later', 'lv0.later');
SELECT error_of_upsert($$ 'SELECT FROM WHERE', 'lv0.later' $$);
SELECT error_of_upsert($$ 'legacy.later', 'lv0.later', page_size => 0 $$);
SELECT error_of_upsert($$ 'legacy.later', 'lv0.later', mode => 'replace' $$);
SELECT flow_add_upsert('u', 'later', 'legacy.later', 'lv0.later', mode => 'replace', replace_where => 'later');
RESET flowpg.check_definitions;

SET client_min_messages = warning;
DROP EXTENSION flowpg CASCADE;
DROP SCHEMA legacy, lv0 CASCADE;
DROP TABLE "A table.with (odd) name", "Another";
DROP FUNCTION error_of, error_of_upsert, stored;
DROP ROLE regress_flow_loader;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_flow_upsert;
