--
-- Defining DAGs, tasks, dependencies and pools; what is refused, and how.
-- The server stands still at 2024-06-01 00:00:00+00 and starts nothing.
--
CREATE ROLE regress_flow_admin SUPERUSER LOGIN;
SET SESSION AUTHORIZATION regress_flow_admin;
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS flowpg CASCADE;
RESET client_min_messages;
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

-- what has been asked of the scheduler in this transaction
CREATE VIEW asked AS
SELECT kind, dag_id, args - 'last_run_id' AS args FROM flow.request
WHERE pg_xact_status(xmin::text::xid8) = 'in progress' ORDER BY request_id;

--
-- flow_create_dag: what is stored
--
SELECT flow_create_dag('plain');
SELECT * FROM flow.dag \gx
SELECT flow_create_dag('full', '0 2 * * *', '2024-01-01', '2024-03-31',
    timezone => 'Asia/Seoul', catchup => false, depends_on_past => true,
    max_active_runs => 3, max_active_tasks => 4, retries => 2,
    retry_delay => '30 seconds', retry_exponential_backoff => true,
    max_retry_delay => '1 hour', execution_timeout => '2 hours',
    dagrun_timeout => '1 day', priority => -5,
    on_success => 'SELECT run.dag_id', on_failure => 'SELECT run.message, run.failed_tasks',
    is_paused => false, description => 'all of it', tags => '{a,b}');
SELECT * FROM flow.dag WHERE dag_id = 'full' \gx
-- names
SELECT flow_create_dag('legacy_to_lv0_UNIERP5.B_MAJOR');
SELECT flow_create_dag('with spaces, "quotes" & ''more''');
SELECT flow_create_dag('데이터 파이프라인');
SELECT length(flow_create_dag(repeat('ü', 250)));
SELECT flow_create_dag('Plain');
SELECT count(*) FROM flow.dag WHERE lower(dag_id) = 'plain';
-- every kind of schedule
SELECT flow_create_dag('schedules', s)
FROM unnest('{@hourly,@once,@continuous,10 minutes,*/5 * * * *,30 0 2 * * *,0 0 L * *}'::text[]) s;
-- NULL for an argument is the default
SELECT flow_create_dag('nulls', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT d.* IS NOT DISTINCT FROM p.* AS the_same
FROM (SELECT schedule, timezone, start_date, end_date, catchup, depends_on_past, max_active_runs,
        retries, retry_delay, retry_exponential_backoff, priority, is_paused
    FROM flow.dag WHERE dag_id = 'nulls') d,
    (SELECT schedule, timezone, start_date, end_date, catchup, depends_on_past, max_active_runs,
        retries, retry_delay, retry_exponential_backoff, priority, is_paused
    FROM flow.dag WHERE dag_id = 'plain') p;
-- settings that stand in for arguments, as they are at definition
SET flowpg.timezone = 'America/New_York';
SET flowpg.catchup_by_default = off;
SELECT flow_create_dag('settings', start_date => '2024-07-01');
RESET flowpg.timezone;
RESET flowpg.catchup_by_default;
SELECT timezone, catchup, start_date FROM flow.dag WHERE dag_id = 'settings';
-- wall-clock time: skipped by a change of the zone's offset, and coming twice
SELECT flow_create_dag('dst', '@daily', '2024-03-10 02:30', timezone => 'America/New_York');
SELECT start_date FROM flow.dag WHERE dag_id = 'dst';
SELECT flow_create_dag('dst', '@daily', '2024-11-03 01:30', timezone => 'America/New_York');
SELECT start_date FROM flow.dag WHERE dag_id = 'dst';
-- end_date at midnight means the whole day
SELECT flow_create_dag('one day', '@hourly', '2024-01-01 12:00', '2024-01-01');

--
-- flow_create_dag again: a new definition, but owner, pause and tasks stay
--
SELECT flow_add_sql('full', 'a', 'SELECT 1');
SELECT flow_pause('full');
SELECT flow_create_dag('full', '@hourly');
SELECT schedule, start_date, start_is_given, end_date, timezone, catchup, max_active_runs, retries,
    on_success, is_paused, description, tags, version,
    (SELECT count(*) FROM flow.task t WHERE t.dag_id = d.dag_id) AS tasks
FROM flow.dag d WHERE dag_id = 'full' \gx
SELECT flow_create_dag('full', is_paused => false);
SELECT is_paused, version FROM flow.dag WHERE dag_id = 'full';

--
-- flow_alter_dag: NULL keeps
--
SELECT flow_create_dag('altered', '0 2 * * *', '2024-01-01', '2024-12-31', max_active_runs => 2,
    description => 'before', on_failure => 'SELECT 1');
SELECT flow_alter_dag('altered', retries => 5, description => 'after');
SELECT schedule, start_date, end_date, timezone, max_active_runs, retries, description, on_failure, version
FROM flow.dag WHERE dag_id = 'altered' \gx
-- the dates that were given are the same dates in another timezone
SELECT flow_alter_dag('altered', timezone => 'Asia/Seoul');
SELECT start_date, end_date FROM flow.dag WHERE dag_id = 'altered';
-- the moment of definition is no date that was given
SELECT flow_alter_dag('plain', timezone => 'Asia/Seoul');
SELECT start_date FROM flow.dag WHERE dag_id = 'plain';
SELECT flow_alter_dag('altered', is_paused => true, start_date => '2024-02-01');
SELECT is_paused, paused_at IS NOT NULL AS has_paused_at, start_date FROM flow.dag WHERE dag_id = 'altered';
SELECT error_of($$SELECT flow_alter_dag('altered', end_date => '2024-01-15')$$);
SELECT error_of($$SELECT flow_alter_dag('altered', schedule => 'hourly')$$);
SELECT error_of($$SELECT flow_alter_dag('no such dag', retries => 1)$$);
SELECT error_of($$SELECT flow_alter_dag(NULL)$$);

--
-- flow_create_dag: what is refused
--
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_create_dag(NULL)$$,
    $$SELECT flow_create_dag('')$$,
    $$SELECT flow_create_dag(repeat('x', 251))$$,
    $$SELECT flow_create_dag(E'a\nb')$$,
    $$SELECT flow_create_dag(E'a\u0085b')$$,
    $$SELECT flow_create_dag('refused', '61 * * * *')$$,
    $$SELECT flow_create_dag('refused', '')$$,
    $$SELECT flow_create_dag('refused', '-1 minute')$$,
    $$SELECT flow_create_dag('refused', start_date => 'infinity')$$,
    $$SELECT flow_create_dag('refused', end_date => '-infinity')$$,
    $$SELECT flow_create_dag('refused', start_date => '2024-01-02', end_date => '2024-01-01')$$,
    $$SELECT flow_create_dag('refused', end_date => '2024-05-31')$$,
    $$SELECT flow_create_dag('refused', timezone => 'Mars/Olympus')$$,
    $$SELECT flow_create_dag('refused', timezone => '')$$,
    $$SELECT flow_create_dag('refused', max_active_runs => 0)$$,
    $$SELECT flow_create_dag('refused', max_active_tasks => -1)$$,
    $$SELECT flow_create_dag('refused', retries => -1)$$,
    $$SELECT flow_create_dag('refused', retry_delay => '-5 minutes')$$,
    $$SELECT flow_create_dag('refused', max_retry_delay => '0')$$,
    $$SELECT flow_create_dag('refused', execution_timeout => '0')$$,
    $$SELECT flow_create_dag('refused', execution_timeout => '1 month -31 days')$$,
    $$SELECT flow_create_dag('refused', dagrun_timeout => '-1 day')$$,
    $$SELECT flow_create_dag('refused', tags => '{a,NULL}')$$,
    $$SELECT flow_create_dag('refused', on_success => 'SELEC 1')$$,
    $$SELECT flow_create_dag('refused', on_failure => 'INSERT INTO no_such_table VALUES (1)')$$,
    $$SELECT flow_create_dag('refused', on_success => '')$$,
    $$SELECT flow_create_dag('refused', on_success => 'COMMIT')$$
]) s;
-- nothing of it is left
SELECT count(*) FROM flow.dag WHERE dag_id = 'refused';
-- with flowpg.check_definitions off, what SQL names need not exist yet
SET flowpg.check_definitions = off;
SELECT flow_create_dag('later', on_failure => 'INSERT INTO no_such_table VALUES (1)');
SELECT error_of($$SELECT flow_create_dag('refused', on_success => 'SELEC 1')$$);
RESET flowpg.check_definitions;
-- in a transaction that is read only
BEGIN READ ONLY;
SELECT error_of($$SELECT flow_create_dag('refused')$$);
SELECT error_of($$SELECT flow_add_sql('plain', 'a', 'SELECT 1')$$);
ROLLBACK;

--
-- flow_pause, flow_resume
--
SELECT flow_pause('plain');
SELECT flow_pause('plain');
SELECT is_paused, paused_at IS NOT NULL AS has_paused_at, resumed_at FROM flow.dag WHERE dag_id = 'plain';
SELECT flow_resume('plain');
SELECT is_paused, resumed_at FROM flow.dag WHERE dag_id = 'plain';
SELECT flow_pause('plain');
SELECT flow_resume('plain', skip_missed => true);
SELECT is_paused, resumed_at FROM flow.dag WHERE dag_id = 'plain';
-- what has been skipped stays skipped
SELECT flow_resume('plain');
SELECT is_paused, resumed_at FROM flow.dag WHERE dag_id = 'plain';
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_pause('no such dag')$$,
    $$SELECT flow_pause(NULL)$$,
    $$SELECT flow_resume('no such dag')$$,
    $$SELECT flow_resume(NULL)$$
]) s;

--
-- flow_add_sql: what is stored
--
CREATE TABLE source (id int PRIMARY KEY, v text);
CREATE TABLE target (id int PRIMARY KEY, v text);
SELECT flow_create_dag('tasks');
SELECT flow_add_sql('tasks', 'first', 'INSERT INTO target SELECT * FROM source');
SELECT flow_add_sql('tasks', 'second', 'VACUUM target', in_transaction => false,
    upstream => '{first,first}', trigger_rule => 'all_done', retries => 7, retry_delay => '0',
    execution_timeout => '1 minute', pool => 'default', pool_slots => 2, priority_weight => -3,
    depends_on_past => true);
SELECT flow_add_sql('tasks', 'nulls', 'SELECT 1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT * FROM flow.task WHERE dag_id = 'tasks' ORDER BY task_id \gx
SELECT upstream_task_id, downstream_task_id FROM flow.task_dependency WHERE dag_id = 'tasks';
SELECT version FROM flow.dag WHERE dag_id = 'tasks';
-- a new definition replaces the list of upstream tasks
SELECT flow_add_sql('tasks', 'second', 'SELECT 2', upstream => '{nulls}');
SELECT operator, params, retries, pool_slots, depends_on_past FROM flow.task
WHERE dag_id = 'tasks' AND task_id = 'second';
SELECT upstream_task_id, downstream_task_id FROM flow.task_dependency WHERE dag_id = 'tasks';
-- run.* are typed; a relation called run wins
SELECT flow_add_sql('tasks', 'typed', 'SELECT * FROM source WHERE v = run.dag_id AND id < run.run_id');
SELECT flow_add_sql('tasks', 'typed', 'SELECT run.v FROM source AS run');

--
-- flow_add_sql: what is refused
--
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_sql(NULL, 't', 'SELECT 1')$$,
    $$SELECT flow_add_sql('tasks', NULL, 'SELECT 1')$$,
    $$SELECT flow_add_sql('tasks', 't', NULL)$$,
    $$SELECT flow_add_sql('no such dag', 't', 'SELECT 1')$$,
    $$SELECT flow_add_sql('tasks', '', 'SELECT 1')$$,
    $$SELECT flow_add_sql('tasks', repeat('x', 251), 'SELECT 1')$$,
    $$SELECT flow_add_sql('tasks', E't\t', 'SELECT 1')$$,
    $$SELECT flow_add_sql('tasks', 't', '')$$,
    $$SELECT flow_add_sql('tasks', 't', '-- nothing')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELEC 1')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT * FROM no_such_table')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT no_such_column FROM source')$$,
    $$SELECT flow_add_sql('tasks', 't', 'BEGIN; SELECT 1; COMMIT')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT run.no_such_value')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', upstream => '{first,missing,nulls}')$$,
    $$SELECT flow_add_sql('plain', 't', 'SELECT 1', upstream => '{missing}')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', upstream => '{first,NULL}')$$,
    $$SELECT flow_add_sql('tasks', 'first', 'SELECT 1', upstream => '{first}')$$,
    $$SELECT flow_add_sql('tasks', 'nulls', 'SELECT 1', upstream => '{second}')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', trigger_rule => 'some_success')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', retries => -1)$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', retry_delay => '-1 second')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', execution_timeout => '0')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', pool => 'no such pool')$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', pool_slots => 0)$$,
    $$SELECT flow_add_sql('tasks', 't', 'SELECT 1', pool_slots => 129)$$
]) s;
SELECT count(*) FROM flow.task WHERE dag_id = 'tasks' AND task_id = 't';
-- a longer cycle, and one that goes through a task in the middle
SELECT flow_create_dag('cycle');
SELECT flow_add_sql('cycle', 'a', 'SELECT 1');
SELECT flow_add_sql('cycle', 'b', 'SELECT 1', upstream => '{a}');
SELECT flow_add_sql('cycle', 'c', 'SELECT 1', upstream => '{a,b}');
SELECT flow_add_sql('cycle', 'd', 'SELECT 1', upstream => '{c}');
SELECT error_of($$SELECT flow_add_sql('cycle', 'a', 'SELECT 1', upstream => '{d}')$$);
SELECT error_of($$SELECT flow_add_sql('cycle', 'b', 'SELECT 1', upstream => '{a,c}')$$);
-- turned round in two steps
SELECT flow_add_sql('cycle', 'b', 'SELECT 1');
SELECT flow_add_sql('cycle', 'c', 'SELECT 1');
SELECT flow_add_sql('cycle', 'b', 'SELECT 1', upstream => '{d}');
SELECT upstream_task_id, downstream_task_id FROM flow.task_dependency
WHERE dag_id = 'cycle' ORDER BY 2, 1;
-- a DAG's SQL is read with the search_path of its definition
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.hidden (id int);
SELECT error_of($$SELECT flow_add_sql('tasks', 't', 'SELECT id FROM hidden')$$);
SET search_path = elsewhere, public;
SELECT error_of($$SELECT flow_add_sql('tasks', 't', 'SELECT id FROM hidden')$$);
SELECT flow_create_dag('elsewhere');
RESET search_path;
SELECT flow_add_sql('elsewhere', 't', 'SELECT id FROM hidden');
SELECT search_path FROM flow.dag WHERE dag_id IN ('tasks', 'elsewhere') ORDER BY dag_id;
SHOW search_path;
SET flowpg.check_definitions = off;
SELECT flow_add_sql('tasks', 'later', 'SELECT * FROM no_such_table');
RESET flowpg.check_definitions;

--
-- flow_add_upsert: arguments; what source and target must be is in upsert.sql
--
SELECT flow_add_upsert('tasks', 'load', 'source', 'target', upstream => '{first}');
SELECT operator FROM flow.task WHERE dag_id = 'tasks' AND task_id = 'load';
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_upsert(NULL, 't', 'source', 'target')$$,
    $$SELECT flow_add_upsert('tasks', NULL, 'source', 'target')$$,
    $$SELECT flow_add_upsert('tasks', 't', NULL, 'target')$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', NULL)$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', key => '{id,NULL}')$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', page_size => 0)$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', mode => 'merge')$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', parallel_pages => 0)$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', lookback => '-1 day')$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', on_row_error => 'ignore')$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', upstream => '{missing}')$$,
    $$SELECT flow_add_upsert('tasks', 't', 'source', 'target', pool => 'no such pool')$$
]) s;

--
-- flow_drop_task
--
INSERT INTO flow.position VALUES ('tasks', 'load', '{}', now()), ('tasks', 'first', '{}', now());
SELECT flow_drop_task('tasks', 'load');
SELECT task_id FROM flow.position WHERE dag_id = 'tasks';
SELECT flow_drop_task('tasks', 'nulls');
SELECT count(*) FROM flow.task_dependency WHERE dag_id = 'tasks';
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_drop_task('tasks', 'nulls')$$,
    $$SELECT flow_drop_task('plain', 'nulls')$$,
    $$SELECT flow_drop_task('no such dag', 'nulls')$$,
    $$SELECT flow_drop_task(NULL, 'nulls')$$,
    $$SELECT flow_drop_task('tasks', NULL)$$
]) s;

--
-- Pools
--
SELECT pool, slots, description FROM flow.pool;
SELECT flow_create_pool('small', 3, 'for large ones');
SELECT flow_create_pool('small', 4);
SELECT flow_create_pool('default', 64);
SELECT pool, slots, description FROM flow.pool ORDER BY pool;
SELECT flow_add_sql('tasks', 'pooled', 'SELECT 1', pool => 'small', pool_slots => 4);
-- its tasks no longer fit
SELECT flow_create_pool('small', 2);
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_create_pool(NULL, 1)$$,
    $$SELECT flow_create_pool('', 1)$$,
    $$SELECT flow_create_pool('p', NULL)$$,
    $$SELECT flow_create_pool('p', -1)$$,
    $$SELECT flow_drop_pool(NULL)$$,
    $$SELECT flow_drop_pool('default')$$,
    $$SELECT flow_drop_pool('no such pool')$$,
    $$SELECT flow_drop_pool('small')$$
]) s;
SELECT flow_drop_task('tasks', 'pooled');
SELECT flow_drop_pool('small');
SELECT pool FROM flow.pool;
-- a row out of a dump changes the built-in pool
INSERT INTO flow.pool VALUES ('default', 100, 'restored');
SELECT pool, slots, description FROM flow.pool;

--
-- Dependencies between DAGs
--
SELECT flow_create_dag(d) FROM unnest('{lv0,lv1,lv2}'::text[]) d;
SELECT flow_add_dependency('lv0', 'lv1');
SELECT flow_add_dependency('lv0', 'lv1');
INSERT INTO flow.dependency_manager VALUES ('lv1', 'lv2'), ('an outside system', 'lv0');
SELECT * FROM flow.dependency_manager ORDER BY tobe_dag;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_dependency(NULL, 'lv1')$$,
    $$SELECT flow_add_dependency('lv0', NULL)$$,
    $$SELECT flow_add_dependency('', 'lv1')$$,
    $$SELECT flow_add_dependency('lv0', 'no such dag')$$,
    $$SELECT flow_add_dependency('lv0', 'lv0')$$,
    $$SELECT flow_add_dependency('lv1', 'lv0')$$,
    $$SELECT flow_add_dependency('lv2', 'lv0')$$,
    $$INSERT INTO flow.dependency_manager VALUES ('lv2', 'lv0')$$,
    $$INSERT INTO flow.dependency_manager VALUES ('lv0', 'no such dag')$$,
    $$INSERT INTO flow.dependency_manager VALUES (E'a\nb', 'lv0')$$,
    $$INSERT INTO flow.dependency_manager VALUES (NULL, 'lv0')$$,
    $$UPDATE flow.dependency_manager SET asis_dag = 'lv2' WHERE tobe_dag = 'lv1'$$,
    $$SELECT flow_drop_dependency('lv2', 'lv1')$$,
    $$SELECT flow_drop_dependency('lv2', 'no such dag')$$,
    $$SELECT flow_drop_dependency(NULL, 'lv1')$$,
    $$SELECT flow_drop_dependency('lv2', NULL)$$
]) s;
-- both of one statement's rows are seen
SELECT error_of($$INSERT INTO flow.dependency_manager VALUES ('full', 'altered'), ('altered', 'full')$$);
-- a link turned round is no cycle
UPDATE flow.dependency_manager SET asis_dag = 'lv2', tobe_dag = 'lv1' WHERE asis_dag = 'lv1';
SELECT * FROM flow.dependency_manager ORDER BY tobe_dag, asis_dag;
SELECT flow_drop_dependency('lv2', 'lv1');
-- what the scheduler is told
BEGIN;
SELECT flow_add_dependency('lv1', 'lv2');
SELECT * FROM asked;
ROLLBACK;
BEGIN;
DELETE FROM flow.dependency_manager WHERE tobe_dag = 'lv1';
SELECT * FROM asked;
ROLLBACK;
BEGIN;
UPDATE flow.dependency_manager SET tobe_dag = 'lv2' WHERE tobe_dag = 'lv1';
SELECT * FROM asked;
ROLLBACK;
BEGIN;
TRUNCATE flow.dependency_manager;
SELECT * FROM asked;
ROLLBACK;

--
-- The log of success
--
INSERT INTO flow.dag_log VALUES ('an outside system', '2024-01-02', '2024-01-03 04:05+00');
SELECT dag_id, completion_date, completion_datetime, run_id, logged_by::text = current_user AS by_me
FROM flow.dag_log;
INSERT INTO flow.dag_log (dag_id, completion_date) VALUES ('an outside system', '2024-01-02')
ON CONFLICT (dag_id, completion_date) DO UPDATE SET completion_datetime = EXCLUDED.completion_datetime;
SELECT completion_datetime > '2024-01-03 04:05+00' AS is_later FROM flow.dag_log;
BEGIN;
INSERT INTO flow.dag_log VALUES ('an outside system', '2024-01-04', now());
SELECT * FROM asked;
ROLLBACK;
-- what flowpg writes itself, and what pg_restore does, asks for nothing
BEGIN;
INSERT INTO flow.dag_log (dag_id, completion_date, run_id) VALUES ('lv0', '2024-01-04', 17);
INSERT INTO flow.dag_log (dag_id, completion_date, logged_by) VALUES ('x', '2024-01-04', 'pg_monitor');
SELECT dag_id, run_id, logged_by::text = current_user AS by_me FROM flow.dag_log
WHERE completion_date = '2024-01-04' ORDER BY dag_id;
SELECT * FROM asked;
ROLLBACK;
SELECT error_of(s) FROM unnest(ARRAY[
    $$INSERT INTO flow.dag_log VALUES ('x', NULL, '2024-01-01')$$,
    $$INSERT INTO flow.dag_log VALUES (NULL, '2024-01-01')$$,
    $$INSERT INTO flow.dag_log VALUES ('', '2024-01-01')$$,
    $$INSERT INTO flow.dag_log VALUES ('x', 'infinity')$$,
    $$INSERT INTO flow.dag_log VALUES ('an outside system', '2024-01-02')$$
]) s;

--
-- What the scheduler is told of definitions: once for many changes
--
BEGIN;
SELECT flow_create_dag('told');
SELECT flow_add_sql('told', t, 'SELECT 1') FROM unnest('{a,b,c}'::text[]) t;
SELECT * FROM asked;
SELECT flow_create_dag('told too');
SELECT flow_create_pool('told', 1);
SELECT * FROM asked;
ROLLBACK;
-- a request that is rolled back is not taken for one that was written
BEGIN;
SAVEPOINT s;
SELECT flow_pause('lv0');
ROLLBACK TO s;
SELECT flow_pause('lv0');
SELECT * FROM asked;
ROLLBACK;
--
-- flow_drop_dag
--
SELECT flow_add_dependency('lv1', 'lv2');
INSERT INTO flow.position VALUES ('lv1', 'load', '{}', now());
INSERT INTO flow.dag_progress VALUES ('lv1', '2024-01-01', '2024-01-02');
INSERT INTO flow.coverage VALUES ('lv1', '{[2024-01-01,2024-01-02)}');
INSERT INTO flow.dag_version VALUES ('lv1', 41, 'UTC', 'public', NULL, NULL, NULL, now());
SELECT flow_add_sql('lv1', 'load', 'SELECT 1');
BEGIN;
SELECT flow_drop_dag('lv1');
SELECT * FROM asked;
COMMIT;
SELECT (SELECT count(*) FROM flow.dag WHERE dag_id = 'lv1') AS dags,
    (SELECT count(*) FROM flow.task WHERE dag_id = 'lv1') AS tasks,
    (SELECT count(*) FROM flow.dependency_manager WHERE 'lv1' IN (asis_dag, tobe_dag)) AS links,
    (SELECT count(*) FROM flow.position WHERE dag_id = 'lv1') AS positions,
    (SELECT count(*) FROM flow.dag_progress WHERE dag_id = 'lv1') AS progress,
    (SELECT count(*) FROM flow.coverage WHERE dag_id = 'lv1') AS coverage;
-- versions go on, for those of the old DAG are history
SELECT flow_create_dag('lv1');
SELECT version FROM flow.dag WHERE dag_id = 'lv1';
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_drop_dag('no such dag')$$,
    $$SELECT flow_drop_dag(NULL)$$
]) s;

--
-- A DAG of a thousand tasks in one transaction
--
BEGIN;
SELECT flow_create_dag('thousand');
SELECT count(flow_add_sql('thousand', 't' || n, 'SELECT 1',
    upstream => CASE WHEN n > 1 THEN ARRAY['t' || n - 1] END))
FROM generate_series(1, 1000) n;
COMMIT;
SELECT count(*) FROM flow.task_dependency WHERE dag_id = 'thousand';
SELECT length(error_of($$SELECT flow_add_sql('thousand', 't1', 'SELECT 1', upstream => '{t1000}')$$)) > 5000 AS names_the_cycle;

--
-- Each function exists once, can be called by name, and has a comment
--
SELECT proname FROM pg_proc WHERE proname LIKE 'flow\_%' GROUP BY 1 HAVING count(*) > 1;
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'flowpg'
WHERE d.classid = 'pg_proc'::regclass AND obj_description(p.oid, 'pg_proc') IS NULL;

DROP VIEW asked;
DROP EXTENSION flowpg;
DROP FUNCTION error_of(text);
DROP TABLE source, target;
DROP SCHEMA elsewhere CASCADE;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_flow_admin;
