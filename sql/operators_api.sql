--
-- Defining checks, sensors, branches, retention and triggers; what is
-- refused, and how.  The server starts nothing.
--
CREATE ROLE regress_flow_admin SUPERUSER LOGIN;
SET SESSION AUTHORIZATION regress_flow_admin;
CREATE EXTENSION flowpg;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
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

CREATE TABLE orders (id int PRIMARY KEY, day date, at timestamptz, amount numeric);
CREATE VIEW orders_view AS SELECT * FROM orders;
CREATE TABLE parts (day date, n int) PARTITION BY RANGE (day);
SELECT flow_create_dag(d) FROM unnest('{shop,other}'::text[]) d;

--
-- What is stored
--
SELECT flow_add_check('shop', 'check', 'SELECT count(*) >= 50 FROM orders WHERE day = run.ds');
SELECT flow_add_check('shop', 'check rows', $$
    SELECT 'orders', count(*) >= 50, count(*) || ' orders' FROM orders
    UNION ALL SELECT 'no NULL', count(amount) = count(*), NULL FROM orders$$, severity => 'warn');
SELECT flow_add_sensor('shop', 'sensor', 'SELECT EXISTS (SELECT FROM orders WHERE day >= run.ds)');
SELECT flow_add_sensor('shop', 'sensor soon', 'SELECT true', poke_interval => '10 seconds',
    timeout => '1 hour 30 minutes', soft_fail => true);
SELECT flow_add_branch('shop', 'branch', $$
    SELECT CASE WHEN extract(isodow FROM run.ds) = 7 THEN 'retention' ELSE 'trigger' END$$);
SELECT flow_add_branch('shop', 'branch array', 'SELECT ARRAY[''retention'', ''trigger'']');
SELECT flow_add_retention('shop', 'retention', 'orders', 'day', '90 days', upstream => '{branch}');
SELECT flow_add_retention('shop', 'retention parts', 'public.parts', 'day', '1 year 2 months');
SELECT flow_add_trigger('shop', 'trigger', 'other', upstream => '{branch}');
SELECT flow_add_trigger('shop', 'trigger all', 'other', '{"full": [1, null]}', true,
    upstream => '{branch,check}', trigger_rule => 'none_failed', retries => 3, retry_delay => '1 second',
    execution_timeout => '2 seconds', pool => 'default', pool_slots => 2, priority_weight => 5,
    depends_on_past => true);
SELECT task_id, operator, params FROM flow.task WHERE dag_id = 'shop' ORDER BY task_id COLLATE "C";
SELECT * FROM flow.task WHERE task_id = 'trigger all' \gx
SELECT upstream_task_id, downstream_task_id FROM flow.task_dependency ORDER BY 2, 1;
SELECT version FROM flow.dag WHERE dag_id = 'shop';
-- NULL for an argument is the default
SELECT flow_add_check('other', 'check', 'SELECT true', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT flow_add_sensor('other', 'sensor', 'SELECT true', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT flow_add_branch('other', 'branch', 'SELECT ''check''', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT flow_create_dag('third');
SELECT flow_add_trigger('other', 'trigger', 'third', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT task_id, params, trigger_rule, retries, pool, pool_slots, priority_weight, depends_on_past
FROM flow.task WHERE dag_id = 'other' ORDER BY task_id;
-- intervals do not depend on the session's style
SET IntervalStyle = 'sql_standard';
SELECT flow_add_sensor('other', 'sensor', 'SELECT true', '1 day 2 hours', '1 month');
RESET IntervalStyle;
SELECT params FROM flow.task WHERE dag_id = 'other' AND task_id = 'sensor';
-- a task may become one of another kind
SELECT flow_add_branch('other', 'sensor', 'SELECT ''check''');
SELECT operator, params FROM flow.task WHERE dag_id = 'other' AND task_id = 'sensor';

--
-- What is refused
--
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_check(NULL, 't', 'SELECT true')$$,
    $$SELECT flow_add_check('shop', NULL, 'SELECT true')$$,
    $$SELECT flow_add_check('shop', 't', NULL)$$,
    $$SELECT flow_add_check('no such dag', 't', 'SELECT true')$$,
    $$SELECT flow_add_check('shop', 't', '')$$,
    $$SELECT flow_add_check('shop', 't', 'SELEC true')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT 1')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT ''a'', 1')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT true; SELECT true')$$,
    $$SELECT flow_add_check('shop', 't', 'DELETE FROM orders RETURNING true')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT count(*) > 0 FROM no_such_table')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT no_such_column FROM orders')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT run.no_such_value')$$,
    $$SELECT flow_add_check('shop', 't', 'COMMIT')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT true', severity => 'fatal')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT true', upstream => '{missing}')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT true', pool => 'no such pool')$$
]) s;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_sensor(NULL, 't', 'SELECT true')$$,
    $$SELECT flow_add_sensor('shop', NULL, 'SELECT true')$$,
    $$SELECT flow_add_sensor('shop', 't', NULL)$$,
    $$SELECT flow_add_sensor('no such dag', 't', 'SELECT true')$$,
    $$SELECT flow_add_sensor('shop', 't', 'SELECT ''yes''')$$,
    $$SELECT flow_add_sensor('shop', 't', 'SELECT true', poke_interval => '0')$$,
    $$SELECT flow_add_sensor('shop', 't', 'SELECT true', poke_interval => '-1 minute')$$,
    $$SELECT flow_add_sensor('shop', 't', 'SELECT true', timeout => '0')$$,
    $$SELECT flow_add_sensor('shop', 't', 'SELECT true', timeout => '1 month -31 days')$$,
    $$SELECT flow_add_sensor('shop', 't', 'SELECT true', trigger_rule => 'sometimes')$$
]) s;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_branch(NULL, 't', 'SELECT ''a''')$$,
    $$SELECT flow_add_branch('shop', NULL, 'SELECT ''a''')$$,
    $$SELECT flow_add_branch('shop', 't', NULL)$$,
    $$SELECT flow_add_branch('no such dag', 't', 'SELECT ''a''')$$,
    $$SELECT flow_add_branch('shop', 't', 'SELECT 1')$$,
    $$SELECT flow_add_branch('shop', 't', 'SELECT')$$,
    $$SELECT flow_add_branch('shop', 't', 'VACUUM orders')$$,
    $$SELECT flow_add_branch('shop', 't', 'SELECT ''a''; SELECT ''b''')$$,
    $$SELECT flow_add_branch('shop', 'branch', 'SELECT ''a''', upstream => '{trigger}')$$,
    $$SELECT flow_add_branch('shop', 't', 'SELECT ''a''', retries => -1)$$
]) s;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_retention(NULL, 't', 'orders', 'day', '1 day')$$,
    $$SELECT flow_add_retention('shop', NULL, 'orders', 'day', '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', NULL, 'day', '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders', NULL, '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders', 'day', NULL)$$,
    $$SELECT flow_add_retention('no such dag', 't', 'orders', 'day', '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', 'no_such_table', 'day', '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders_view', 'day', '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders', 'no_such_column', '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders', 'amount', '1 day')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders', 'day', '0')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders', 'day', '-7 days')$$,
    $$SELECT flow_add_retention('shop', 't', 'orders', 'day', '1 day', pool_slots => 0)$$
]) s;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_trigger(NULL, 't', 'other')$$,
    $$SELECT flow_add_trigger('shop', NULL, 'other')$$,
    $$SELECT flow_add_trigger('shop', 't', NULL)$$,
    $$SELECT flow_add_trigger('shop', 't', '')$$,
    $$SELECT flow_add_trigger('no such dag', 't', 'other')$$,
    $$SELECT flow_add_trigger('shop', 't', 'no such dag')$$,
    $$SELECT flow_add_trigger('shop', 't', 'other', '[1]')$$,
    $$SELECT flow_add_trigger('shop', 't', 'other', '"text"')$$,
    $$SELECT flow_add_trigger('shop', 't', 'other', 'null')$$,
    $$SELECT flow_add_trigger('shop', 't', 'shop')$$,
    $$SELECT flow_add_trigger('other', 't', 'shop')$$,
    $$SELECT flow_add_trigger('third', 't', 'shop')$$
]) s;
SELECT count(*) FROM flow.task WHERE task_id = 't';
-- a way that is closed in the middle may be opened elsewhere
SELECT flow_drop_task('other', 'trigger');
SELECT flow_add_trigger('third', 't', 'shop');
SELECT error_of($$SELECT flow_add_trigger('other', 't', 'third')$$);
-- in a transaction that is read only
BEGIN READ ONLY;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_check('shop', 't', 'SELECT true')$$,
    $$SELECT flow_add_trigger('shop', 't', 'other')$$
]) s;
ROLLBACK;

--
-- SQL is read with the DAG's search_path; what it names may come later
--
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.hidden (id int, day date);
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_check('shop', 't', 'SELECT count(*) > 0 FROM hidden')$$,
    $$SELECT flow_add_retention('shop', 't', 'hidden', 'day', '1 day')$$
]) s;
SET search_path = elsewhere, public;
SELECT flow_create_dag('elsewhere');
RESET search_path;
SELECT flow_add_check('elsewhere', 'check', 'SELECT count(*) > 0 FROM hidden');
SELECT flow_add_retention('elsewhere', 'retention', 'hidden', 'day', '1 day');
SET flowpg.check_definitions = off;
SELECT flow_add_check('shop', 'later', 'SELECT ok FROM later');
SELECT flow_add_sensor('shop', 'later', 'SELECT ok FROM later');
SELECT flow_add_branch('shop', 'later', 'SELECT task_id FROM later');
SELECT flow_add_retention('shop', 'later', 'later', 'day', '1 day');
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_check('shop', 't', 'SELEC ok FROM later')$$,
    $$SELECT flow_add_check('shop', 't', 'DELETE FROM later')$$,
    $$SELECT flow_add_trigger('shop', 't', 'later')$$
]) s;
RESET flowpg.check_definitions;

--
-- Rights: the task is looked at as the DAG's owner
--
CREATE ROLE regress_flow_ann LOGIN;
CREATE ROLE regress_flow_bob LOGIN;
SELECT flow_grant('regress_flow_ann'), flow_grant('regress_flow_bob');
GRANT EXECUTE ON FUNCTION error_of(text) TO PUBLIC;
GRANT SELECT (id, day), DELETE ON orders TO regress_flow_ann;
CREATE TABLE past_orders (day date);
GRANT SELECT, DELETE ON past_orders TO regress_flow_ann;
GRANT SELECT ON orders TO regress_flow_bob;
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT flow_create_dag('bob');
SELECT error_of($$SELECT flow_add_retention('bob', 't', 'orders', 'day', '1 day')$$);
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT flow_create_dag(d) FROM unnest('{ann,ann too}'::text[]) d;
SELECT flow_add_retention('ann', 'retention', 'past_orders', 'day', '1 day');
SELECT flow_add_trigger('ann', 'trigger', 'ann too');
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_check('ann', 't', 'SELECT count(amount) > 0 FROM orders')$$,
    $$SELECT flow_add_check('shop', 't', 'SELECT true')$$,
    $$SELECT flow_add_trigger('ann', 't', 'bob')$$,
    $$SELECT flow_add_trigger('ann', 't', 'shop')$$
]) s;
-- a superuser may see more than the DAG's owner
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_check('ann', 't', 'SELECT count(amount) > 0 FROM orders')$$,
    $$SELECT flow_add_trigger('ann', 't', 'bob')$$
]) s;
SELECT flow_add_trigger('shop', 'trigger', 'ann');
-- whoever has not been granted
SELECT flow_revoke('regress_flow_bob');
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_check('bob', 't', 'SELECT true')$$,
    $$SELECT flow_add_sensor('bob', 't', 'SELECT true')$$,
    $$SELECT flow_add_branch('bob', 't', 'SELECT ''a''')$$,
    $$SELECT flow_add_retention('bob', 't', 'orders', 'day', '1 day')$$,
    $$SELECT flow_add_trigger('bob', 't', 'bob')$$
]) s;
SET SESSION AUTHORIZATION regress_flow_admin;

--
-- As the contract has them
--
SELECT proname, pg_get_function_arguments(oid), pg_get_function_result(oid)
FROM pg_proc WHERE proname ~ '^flow_add_(check|sensor|branch|retention|trigger)$' ORDER BY 1;

DROP EXTENSION flowpg;
DROP FUNCTION error_of(text);
DROP VIEW orders_view;
DROP TABLE orders, parts;
DROP SCHEMA elsewhere CASCADE;
RESET SESSION AUTHORIZATION;
DROP TABLE past_orders;
DROP ROLE regress_flow_admin, regress_flow_ann, regress_flow_bob;
