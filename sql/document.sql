--
-- DAGs as documents (flow_apply, flow_export) and as pictures (flow_dot,
-- flow_mermaid).  The server stands still at 2024-06-01 00:00:00+00 and
-- starts nothing.
--
CREATE ROLE regress_flow_admin SUPERUSER LOGIN;
SET SESSION AUTHORIZATION regress_flow_admin;
CREATE EXTENSION flowpg;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
\pset format unaligned
\pset null '-'

-- what a statement that must fail says, and which task it says it of
CREATE FUNCTION error_of(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
    hint text;
    context text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
        context = PG_EXCEPTION_CONTEXT;
    RETURN concat_ws(E'\n  ', SQLSTATE || ': ' || message,
        'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''),
        'CONTEXT: ' || substring(context FROM '(?n)^((?:task|element) .*)$'));
END
$$;

-- the same for a document
CREATE FUNCTION error_of(definition jsonb) RETURNS text
LANGUAGE sql AS $$ SELECT error_of(format('SELECT flow_apply(%L)', definition)) $$;

-- what has been asked of the scheduler in this transaction
CREATE VIEW asked AS
SELECT kind, dag_id FROM flow.request
WHERE pg_xact_status(xmin::text::xid8) = 'in progress' ORDER BY request_id;

CREATE TABLE orders (id int PRIMARY KEY, region text, day date, amount numeric);
CREATE TABLE daily (region text, day date, amount numeric, PRIMARY KEY (region, day));
SELECT flow_create_dag('upstream dag');

--
-- A DAG from the least that can be said
--
SELECT flow_apply('{"dag_id": "least"}');
SELECT flow_export('least');
SELECT flow_create_dag('least by call');
SELECT a.* IS NOT DISTINCT FROM b.* AS the_same
FROM (SELECT to_jsonb(d) - 'dag_id' AS d FROM flow.dag d WHERE dag_id = 'least') a,
    (SELECT to_jsonb(d) - 'dag_id' AS d FROM flow.dag d WHERE dag_id = 'least by call') b;
-- null is not given, also where there are only nulls
SELECT flow_apply('{"dag_id": "least", "tasks": null, "asis_dags": null, "schedule": null, "retries": null,
    "retry_delay": null, "start_date": null, "tags": null, "search_path": null}');
SELECT version FROM flow.dag WHERE dag_id = 'least';

--
-- One statement over a list makes a DAG a region
--
SELECT flow_apply(jsonb_build_object(
    'dag_id', 'orders_' || region, 'schedule', '0 2 * * *', 'start_date', date '2024-01-01',
    'timezone', 'Asia/Seoul', 'max_active_runs', 3, 'retries', 2, 'retry_delay', interval '30 seconds',
    'tags', array['orders', region], 'asis_dags', array['upstream dag'],
    'tasks', jsonb_build_array(
        jsonb_build_object('task_id', 'clean up', 'operator', 'retention', 'target', 'orders',
            'column_name', 'day', 'keep', interval '90 days', 'upstream', array['sunday']),
        jsonb_build_object('task_id', 'sunday', 'operator', 'branch', 'upstream', array['daily'],
            'command', 'SELECT ''clean up'' WHERE extract(isodow FROM run.ds) = 7'),
        jsonb_build_object('task_id', 'daily', 'operator', 'sql', 'upstream', array['wait', 'check'],
            'command', format('INSERT INTO daily SELECT region, day, sum(amount) FROM orders'
                ' WHERE region = %L AND day = run.ds GROUP BY 1, 2', region)),
        jsonb_build_object('task_id', 'check', 'operator', 'check', 'severity', 'warn',
            'condition', 'SELECT count(*) >= 50 FROM orders WHERE day = run.ds'),
        jsonb_build_object('task_id', 'wait', 'operator', 'sensor', 'soft_fail', true,
            'condition', format('SELECT EXISTS (SELECT FROM orders WHERE region = %L)', region)))))
FROM unnest(array['eu', 'us', 'asia']) region;
SELECT dag_id, start_date, timezone, retry_delay, tags, version FROM flow.dag
WHERE dag_id LIKE 'orders%' ORDER BY dag_id;
SELECT jsonb_pretty(flow_export('orders_eu'));
SELECT count(*) FROM flow.task WHERE dag_id LIKE 'orders%';

--
-- All arguments; flow_apply(flow_export(d)) changes nothing
--
SELECT flow_create_dag('full', '0 2 * * *', '2024-01-01 12:30', '2024-03-31',
    timezone => 'Asia/Seoul', catchup => false, depends_on_past => true,
    max_active_runs => 3, max_active_tasks => 4, retries => 2,
    retry_delay => '1 mon 1 day', retry_exponential_backoff => true,
    max_retry_delay => '1 hour', execution_timeout => '2 hours',
    dagrun_timeout => '1.5 days', priority => -5,
    on_success => 'SELECT run.dag_id', on_failure => 'SELECT run.message, run.failed_tasks',
    is_paused => true, description => E'"all"\nof it', tags => '{b,a,b}');
SELECT flow_create_pool('small', 3);
SELECT flow_add_sql('full', 'sql', 'VACUUM orders', in_transaction => false);
SELECT flow_add_upsert('full', 'upsert', 'SELECT * FROM orders', 'orders', key => '{id}', page_by => '{id}', page_size => 500,
    update_columns => '{amount}', upstream => '{sql}', trigger_rule => 'all_done', retries => 0,
    retry_delay => '0', execution_timeout => '00:00:01.5', pool => 'small', pool_slots => 2,
    priority_weight => -7, depends_on_past => false);
SELECT flow_add_check('full', 'check', 'SELECT true', 'warn', depends_on_past => true);
SELECT flow_add_sensor('full', 'sensor', 'SELECT true', '1 second', '1 hour', true, upstream => '{check,sql}');
SELECT flow_add_branch('full', E'branch "\\''/{}\u00fc', 'SELECT ''x''', upstream => '{sensor}');
SELECT flow_add_retention('full', 'retention', 'orders', 'day', '1 year 1 day', upstream => E'{"branch \\"\\\\''/{}\u00fc"}');
SELECT flow_add_trigger('full', 'trigger', 'least', '{"a": [1, {"b": null}], "c": "d"}', true);
SELECT flow_add_dependency(a, 'full') FROM unnest('{upstream dag,an outside system}'::text[]) a;
SELECT flow_create_dag('dst', '@daily', '2024-11-03 01:30', '2024-11-10 23:59:59.5', timezone => 'America/New_York');
SELECT flow_create_dag('tasks only by name');
SELECT flow_alter_dag('tasks only by name', timezone => 'Asia/Seoul');
SELECT jsonb_pretty(flow_export('full'));
SELECT flow_export('dst');
CREATE TABLE before AS
SELECT 'dag' AS relation, dag_id AS id, xmin::text AS row_version, to_jsonb(d) AS content FROM flow.dag d
UNION ALL SELECT 'task', dag_id || ' ' || task_id, xmin::text, to_jsonb(t) FROM flow.task t
UNION ALL SELECT 'task_dependency', downstream_task_id, xmin::text, to_jsonb(t) FROM flow.task_dependency t
UNION ALL SELECT 'dependency_manager', tobe_dag, xmin::text, to_jsonb(m) FROM flow.dependency_manager m;
CREATE VIEW changed AS
SELECT relation, id FROM before
WHERE (relation, id, row_version, content) NOT IN (
    SELECT 'dag', dag_id, xmin::text, to_jsonb(d) FROM flow.dag d
    UNION ALL SELECT 'task', dag_id || ' ' || task_id, xmin::text, to_jsonb(t) FROM flow.task t
    UNION ALL SELECT 'task_dependency', downstream_task_id, xmin::text, to_jsonb(t) FROM flow.task_dependency t
    UNION ALL SELECT 'dependency_manager', tobe_dag, xmin::text, to_jsonb(m) FROM flow.dependency_manager m);
BEGIN;
SELECT flow_apply(flow_export(dag_id)) FROM flow.dag ORDER BY dag_id COLLATE "C";
SELECT * FROM asked;
COMMIT;
SELECT * FROM changed;
-- whatever the session has set
SET IntervalStyle = 'sql_standard';
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'America/New_York';
SET search_path = flow, public;
SET flowpg.timezone = 'Europe/Berlin';
SET flowpg.catchup_by_default = off;
SELECT count(flow_apply(flow_export(dag_id))) FROM flow.dag;
SELECT flow_export('least');
RESET ALL;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SELECT * FROM changed;
-- the same document elsewhere makes the same DAG
SELECT flow_apply(flow_export('full') || '{"dag_id": "full too"}');
SELECT flow_export('full too') = flow_export('full') || '{"dag_id": "full too"}' AS the_same;
SELECT flow_drop_dag('full too');

--
-- What differs is changed, once; what is not named is dropped
--
BEGIN;
SELECT flow_apply(jsonb_set(flow_export('orders_eu'), '{tasks,0,retries}', '7'));
SELECT * FROM asked;
ROLLBACK;
SELECT flow_apply(jsonb_set(flow_export('orders_eu'), '{tasks,0,retries}', '7'));
SELECT task_id, retries FROM flow.task WHERE dag_id = 'orders_eu' AND retries IS NOT NULL;
SELECT version FROM flow.dag WHERE dag_id = 'orders_eu';
SELECT flow_apply(flow_export('orders_eu') || '{"description": "changed"}');
SELECT version, description, retries FROM flow.dag WHERE dag_id = 'orders_eu';
INSERT INTO flow.position VALUES ('orders_eu', 'check', '{}', now()), ('orders_eu', 'daily', '{}', now());
SELECT flow_apply('{"dag_id": "orders_eu", "asis_dags": ["an outside system"], "tasks": [
    {"task_id": "new", "operator": "sql", "command": "SELECT 1", "upstream": ["daily"]},
    {"task_id": "daily", "operator": "sql", "command": "SELECT 2"}]}');
SELECT schedule, start_is_given, retries, timezone, tags, version FROM flow.dag WHERE dag_id = 'orders_eu';
SELECT task_id, operator, params FROM flow.task WHERE dag_id = 'orders_eu' ORDER BY task_id;
SELECT upstream_task_id, downstream_task_id FROM flow.task_dependency WHERE dag_id = 'orders_eu';
SELECT task_id FROM flow.position WHERE dag_id = 'orders_eu';
SELECT asis_dag FROM flow.dependency_manager WHERE tobe_dag = 'orders_eu';
-- turned round, which task by task would have been a cycle
SELECT flow_apply('{"dag_id": "orders_eu", "tasks": [
    {"task_id": "new", "operator": "sql", "command": "SELECT 1"},
    {"task_id": "daily", "operator": "sql", "command": "SELECT 2", "upstream": ["new"]}]}');
SELECT upstream_task_id, downstream_task_id FROM flow.task_dependency WHERE dag_id = 'orders_eu';
SELECT asis_dag FROM flow.dependency_manager WHERE tobe_dag = 'orders_eu';
-- a pause is no part of the version, and stays where it is not named
SELECT flow_apply(flow_export('orders_eu') || '{"is_paused": true}');
SELECT is_paused, paused_at IS NOT NULL AS has_paused_at, version FROM flow.dag WHERE dag_id = 'orders_eu';
SELECT flow_apply(flow_export('orders_eu') - 'is_paused');
SELECT is_paused, version FROM flow.dag WHERE dag_id = 'orders_eu';
SELECT flow_apply(flow_export('orders_eu') || '{"is_paused": false}');
SELECT is_paused, version FROM flow.dag WHERE dag_id = 'orders_eu';
-- links alone
BEGIN;
SELECT flow_apply(flow_export('orders_eu') || '{"asis_dags": ["least", "upstream dag", "least"]}');
SELECT * FROM asked;
COMMIT;
SELECT asis_dag FROM flow.dependency_manager WHERE tobe_dag = 'orders_eu' ORDER BY 1;
SELECT version FROM flow.dag WHERE dag_id = 'orders_eu';
-- SQL is read with the search_path of the document
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.hidden (id int);
SELECT flow_apply('{"dag_id": "elsewhere", "search_path": "elsewhere", "tasks": [
    {"task_id": "t", "operator": "sql", "command": "SELECT id FROM hidden"}]}');
SELECT flow_export('elsewhere');

--
-- What is refused; nothing of it stays
--
SELECT error_of($$SELECT flow_apply(NULL)$$);
SELECT error_of(d) FROM unnest(ARRAY[
    '[]', '"text"', 'null', '1', '{}', '{"dag_id": null}', '{"dag_id": 1}', '{"dag_id": ""}',
    '{"dag_id": "refused", "owner": "me"}',
    '{"dag_id": "refused", "task": []}',
    '{"dag_id": "refused", "schedule": "61 * * * *"}',
    '{"dag_id": "refused", "schedule": 5}',
    '{"dag_id": "refused", "start_date": "soon"}',
    '{"dag_id": "refused", "start_date": 20240101}',
    '{"dag_id": "refused", "start_date": "infinity"}',
    '{"dag_id": "refused", "start_date": "2024-01-01T00:00:00+09:00"}',
    '{"dag_id": "refused", "end_date": "2024-01-01T00:00:00Z"}',
    '{"dag_id": "refused", "start_date": "2024-13-01"}',
    '{"dag_id": "refused", "start_date": "2024-01-01 10:00 Asia/Seoul"}',
    '{"dag_id": "refused", "start_date": "2024-01-02", "end_date": "2024-01-01"}',
    '{"dag_id": "refused", "timezone": "Mars/Olympus"}',
    '{"dag_id": "refused", "catchup": "yes"}',
    '{"dag_id": "refused", "retries": "3"}',
    '{"dag_id": "refused", "retries": 1.5}',
    '{"dag_id": "refused", "retries": 3000000000}',
    '{"dag_id": "refused", "retries": -1}',
    '{"dag_id": "refused", "retry_delay": 300}',
    '{"dag_id": "refused", "retry_delay": "a while"}',
    '{"dag_id": "refused", "retry_delay": "-5 minutes"}',
    '{"dag_id": "refused", "tags": "a"}',
    '{"dag_id": "refused", "tags": {"a": "b"}}',
    '{"dag_id": "refused", "tags": ["a", 1]}',
    '{"dag_id": "refused", "tags": ["a", null]}',
    '{"dag_id": "refused", "on_failure": "INSERT INTO no_such_table VALUES (1)"}',
    '{"dag_id": "refused", "search_path": "a,,b"}',
    '{"dag_id": "refused", "asis_dags": "least"}',
    '{"dag_id": "refused", "asis_dags": [null]}',
    '{"dag_id": "refused", "asis_dags": [""]}',
    '{"dag_id": "refused", "asis_dags": ["refused"]}',
    '{"dag_id": "upstream dag", "asis_dags": ["full"]}'
]::jsonb[]) d;
-- in a task: the error says in which
SELECT error_of(d) FROM unnest(ARRAY[
    '{"dag_id": "refused", "tasks": {}}',
    '{"dag_id": "refused", "tasks": "a"}',
    '{"dag_id": "refused", "tasks": ["a"]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1"}, []]}',
    '{"dag_id": "refused", "tasks": [{}]}',
    '{"dag_id": "refused", "tasks": [{"operator": "sql"}]}',
    '{"dag_id": "refused", "tasks": [{"operator": "sql", "task_id": 1}]}',
    '{"dag_id": "refused", "tasks": [{"operator": "sql", "task_id": "", "command": "SELECT 1"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "bash"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": 1}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": ["SELECT 1"]}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "sql": "x"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "dag_id": "refused"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "severity": "warn"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELEC 1"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT * FROM no_such_table"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "upsert", "source": "orders", "target": "orders", "mode": "merge"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "check", "condition": "SELECT 1"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "check", "condition": "SELECT true", "severity": "fatal"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sensor", "condition": "SELECT true", "poke_interval": "0"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sensor", "condition": "SELECT true", "soft_fail": 1}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "retention", "target": "orders", "column_name": "day"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "trigger", "trigger_dag_id": "no such dag"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "trigger", "trigger_dag_id": "refused"}]}',
    '{"dag_id": "least", "tasks": [{"task_id": "a", "operator": "trigger", "trigger_dag_id": "full"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "trigger", "trigger_dag_id": "least", "conf": [1]}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "upstream": "b"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "upstream": ["b"]}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "upstream": ["a"]}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "trigger_rule": "sometimes"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "pool": "no such pool"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "pool_slots": 129}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "retry_delay": "soon"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1"},
        {"task_id": "b", "operator": "sql", "command": "SELECT 1"}, {"task_id": "a", "operator": "sql", "command": "SELECT 2"}]}',
    '{"dag_id": "refused", "tasks": [{"task_id": "a", "operator": "sql", "command": "SELECT 1", "upstream": ["c"]},
        {"task_id": "b", "operator": "sql", "command": "SELECT 1", "upstream": ["a", "d"]},
        {"task_id": "d", "operator": "sql", "command": "SELECT 1"},
        {"task_id": "c", "operator": "sql", "command": "SELECT 1", "upstream": ["b"]}]}'
]::jsonb[]) d;
SELECT count(*) FROM flow.dag WHERE dag_id = 'refused';
-- an old DAG stays as it was
SELECT error_of(flow_export('orders_us') || '{"schedule": "@hourly", "tasks": [
    {"task_id": "new", "operator": "sql", "command": "SELECT 1"},
    {"task_id": "bad", "operator": "sql", "command": "SELEC 1"}]}');
SELECT * FROM changed WHERE id LIKE 'orders\_us%';
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_export(NULL)$$,
    $$SELECT flow_export('no such dag')$$,
    $$SELECT flow_dot(NULL)$$,
    $$SELECT flow_dot('no such dag')$$,
    $$SELECT flow_mermaid(NULL)$$,
    $$SELECT flow_mermaid('no such dag')$$
]) s;
BEGIN READ ONLY;
SELECT error_of('{"dag_id": "refused"}'::jsonb);
SELECT flow_export('least'), length(flow_dot('least')) > 0 AS dot, length(flow_mermaid('least')) > 0 AS mermaid;
ROLLBACK;
-- a document knows every argument of the functions, and no other
CREATE TEMP VIEW argument AS
SELECT proname, name, n FROM pg_proc, unnest(proargnames) WITH ORDINALITY AS a (name, n)
WHERE proname = 'flow_create_dag' OR proname LIKE 'flow\_add\_%' AND proname <> 'flow_add_dependency';
SELECT proname, name, error_of(jsonb_build_object('dag_id', 'refused', name, NULL)) FROM argument
WHERE proname = 'flow_create_dag' AND name <> 'dag_id'
    AND error_of(jsonb_build_object('dag_id', 'refused', name, NULL)) <> 'no error';
SELECT proname, error_of(jsonb_build_object('dag_id', 'refused', 'tasks', jsonb_build_array(
    jsonb_object_agg(name, CASE name WHEN 'task_id' THEN 'a' END) - 'dag_id'
    || jsonb_build_object('operator', substring(proname FROM 10)))))
FROM argument WHERE proname <> 'flow_create_dag' GROUP BY proname ORDER BY proname;
SELECT proname, substring(error_of(jsonb_build_object('dag_id', 'refused', 'tasks', jsonb_build_array(
    jsonb_build_object('task_id', 'a', 'operator', substring(proname FROM 10), 'x', 1)))) FROM 'The keys are (.*)\.')
    = '"task_id", "operator", ' || string_agg('"' || name || '"', ', ' ORDER BY n) FILTER (WHERE n > 2) AS the_same
FROM argument WHERE proname <> 'flow_create_dag' GROUP BY proname ORDER BY proname;
SELECT flow_drop_dag('refused');

--
-- Rights
--
CREATE ROLE regress_flow_ann LOGIN;
CREATE ROLE regress_flow_bob LOGIN;
CREATE ROLE regress_flow_carl LOGIN IN ROLE regress_flow_ann;
SELECT flow_grant(r::regrole) FROM unnest('{regress_flow_ann,regress_flow_bob}'::text[]) r;
GRANT SELECT ON orders TO regress_flow_ann;
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT flow_apply('{"dag_id": "bob", "asis_dags": ["an outside system"]}');
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT flow_apply('{"dag_id": "ann", "tasks": [{"task_id": "t", "operator": "sql", "command": "SELECT id FROM orders"}]}');
SELECT flow_export('ann');
SELECT error_of(d) FROM unnest(ARRAY[
    '{"dag_id": "bob"}',
    '{"dag_id": "ann", "asis_dags": ["bob"]}',
    '{"dag_id": "ann", "tasks": [{"task_id": "t", "operator": "sql", "command": "DELETE FROM orders"}]}',
    '{"dag_id": "an outside system"}'
]::jsonb[]) d;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_export('bob')$$,
    $$SELECT flow_dot('bob')$$,
    $$SELECT flow_mermaid('bob')$$
]) s;
-- a member changes the owner's DAG; it stays the owner's
SET SESSION AUTHORIZATION regress_flow_carl;
SELECT flow_apply(flow_export('ann') || '{"retries": 1}');
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT owner, retries, version FROM flow.dag WHERE dag_id = 'ann';
-- a link that the caller could not make may stay
SELECT flow_add_dependency('bob', 'ann');
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT flow_apply(flow_export('ann'));
SELECT * FROM flow.dependency_manager;
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT flow_revoke('regress_flow_ann');
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_apply('{"dag_id": "ann"}')$$,
    $$SELECT flow_export('ann')$$,
    $$SELECT flow_dot('ann')$$,
    $$SELECT flow_mermaid('ann')$$
]) s;
SET SESSION AUTHORIZATION regress_flow_admin;

--
-- Pictures
--
SELECT flow_dot('least');
SELECT flow_mermaid('least');
SELECT flow_apply(jsonb_build_object('dag_id', E'odd "\\', 'tasks', jsonb_build_array(
    jsonb_build_object('task_id', E'load "all"', 'operator', 'sql', 'command', 'SELECT 1', 'upstream', array[E'ends in \\', 'a']),
    jsonb_build_object('task_id', 'a', 'operator', 'sql', 'command', 'SELECT 1'),
    jsonb_build_object('task_id', E'ends in \\', 'operator', 'sql', 'command', 'SELECT 1'),
    jsonb_build_object('task_id', E'&lt;b&gt; -> \u00fc; end]', 'operator', 'sql', 'command', 'SELECT 1', 'upstream', array['load "all"']),
    jsonb_build_object('task_id', E'style x:y#; %%{`', 'operator', 'sql', 'command', 'SELECT 1', 'upstream', array['load "all"']))));
INSERT INTO flow.dag_run (run_id, dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at)
SELECT n, E'odd "\\', 'manual', d, d, d, 'running', d
FROM (VALUES (1001, timestamptz '2024-01-02'), (1002, '2024-01-03'), (1003, '2024-01-01')) r (n, d);
INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state)
VALUES (1001, E'odd "\\', 'a', 1, 'failed'), (1002, E'odd "\\', 'a', 1, 'success'),
    (1002, E'odd "\\', E'ends in \\', 1, 'success'), (1002, E'odd "\\', 'load "all"', 2, 'up_for_retry'),
    (1002, E'odd "\\', 'dropped since', 1, 'failed'), (1002, E'odd "\\', E'style x:y#; %%{`', 1, NULL),
    (1003, E'odd "\\', 'a', 1, 'running');
SELECT flow_dot(E'odd "\\');
SELECT flow_mermaid(E'odd "\\');

--
-- A DAG of a thousand tasks, given last first
--
SELECT flow_apply(jsonb_build_object('dag_id', 'thousand', 'tasks', (
    SELECT jsonb_agg(jsonb_build_object('task_id', 't' || n, 'operator', 'sql', 'command', 'SELECT 1',
        'upstream', CASE WHEN n > 1 THEN array['t' || n - 1] END) ORDER BY n DESC)
    FROM generate_series(1, 1000) n)));
SELECT count(*) FROM flow.task_dependency WHERE dag_id = 'thousand';
SELECT flow_apply(flow_export('thousand'));
SELECT version FROM flow.dag WHERE dag_id = 'thousand';
SELECT flow_export('thousand') -> 'tasks' -> 0 ->> 'task_id' AS first, flow_export('thousand') -> 'tasks' -> 999 ->> 'task_id' AS last;

DROP VIEW asked, changed;
DROP TABLE before;
DROP VIEW argument;
DROP EXTENSION flowpg;
DROP FUNCTION error_of(jsonb);
DROP FUNCTION error_of(text);
DROP TABLE orders, daily;
DROP SCHEMA elsewhere CASCADE;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_flow_carl, regress_flow_admin, regress_flow_ann, regress_flow_bob;
