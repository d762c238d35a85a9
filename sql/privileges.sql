--
-- Who may use flowpg, and who sees and changes what.
--
CREATE ROLE regress_flow_admin SUPERUSER LOGIN;
SET SESSION AUTHORIZATION regress_flow_admin;
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS flowpg CASCADE;
CREATE EXTENSION flowpg;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
\pset format unaligned
\pset null '-'

CREATE ROLE regress_flow_ann LOGIN;
CREATE ROLE regress_flow_bob LOGIN;
CREATE ROLE regress_flow_eve LOGIN;             -- is never granted
CREATE ROLE regress_flow_team LOGIN;            -- ann and carl are members
CREATE ROLE regress_flow_carl LOGIN;
CREATE ROLE regress_flow_dora LOGIN NOINHERIT;  -- a member that does not inherit
CREATE ROLE regress_flow_nologin;
GRANT regress_flow_team TO regress_flow_ann, regress_flow_carl, regress_flow_dora;
GRANT regress_flow_nologin TO regress_flow_ann;
GRANT CREATE ON SCHEMA public TO regress_flow_ann;

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

--
-- PUBLIC has nothing: neither functions nor relations nor sequences
--
SELECT count(*) > 20 AS has_functions,
    count(*) FILTER (WHERE has_function_privilege('regress_flow_eve', p.oid, 'EXECUTE')) AS executable
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
JOIN pg_extension e ON e.oid = d.refobjid AND d.deptype = 'e' AND e.extname = 'flowpg';
SELECT count(*) > 20 AS has_relations,
    count(*) FILTER (WHERE CASE WHEN c.relkind = 'S'
        THEN has_sequence_privilege('regress_flow_eve', c.oid, 'USAGE, SELECT, UPDATE')
        ELSE has_table_privilege('regress_flow_eve', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') END) AS usable
FROM pg_class c WHERE relnamespace = 'flow'::regnamespace AND relkind IN ('r', 'v', 'S');
SELECT has_schema_privilege('regress_flow_eve', 'flow', 'USAGE') AS schema;
-- every table that belongs to DAGs has row security, every view is its caller's
SELECT relname FROM pg_class
WHERE relnamespace = 'flow'::regnamespace AND relkind = 'r' AND NOT relrowsecurity ORDER BY relname;
SELECT relname FROM pg_class
WHERE relnamespace = 'flow'::regnamespace AND relkind = 'v'
    AND NOT COALESCE('security_invoker=true' = ANY (reloptions), false) ORDER BY relname;
SET SESSION AUTHORIZATION regress_flow_eve;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_create_dag('eve')$$,
    $$SELECT flow_pause('eve')$$,
    $$SELECT flow_create_pool('eve', 1)$$,
    $$SELECT flow_grant('regress_flow_eve')$$,
    $$SELECT * FROM flow.dag$$,
    $$INSERT INTO flow.dag_log VALUES ('eve', '2024-01-01')$$
]) s;

--
-- flow_grant, flow_revoke
--
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_grant(NULL)$$,
    $$SELECT flow_grant('regress_flow_nobody')$$,
    $$SELECT flow_grant('-')$$,
    $$SELECT flow_revoke(NULL)$$
]) s;
SELECT flow_grant('regress_flow_ann'), flow_grant('regress_flow_bob'),
    flow_grant('regress_flow_team'), flow_grant('regress_flow_dora');
-- once more changes nothing
SELECT flow_grant('regress_flow_ann');
-- all functions but those of triggers; all relations to read, two to write
SELECT p.oid::regprocedure
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
JOIN pg_extension e ON e.oid = d.refobjid AND d.deptype = 'e' AND e.extname = 'flowpg'
WHERE NOT has_function_privilege('regress_flow_ann', p.oid, 'EXECUTE')
ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT relname FROM pg_class c
WHERE relnamespace = 'flow'::regnamespace AND relkind IN ('r', 'v')
    AND NOT has_table_privilege('regress_flow_ann', c.oid, 'SELECT');
SELECT relname FROM pg_class c
WHERE relnamespace = 'flow'::regnamespace AND relkind IN ('r', 'v')
    AND has_table_privilege('regress_flow_ann', c.oid, 'INSERT, UPDATE, DELETE') ORDER BY 1;
SELECT relname FROM pg_class c
WHERE relnamespace = 'flow'::regnamespace AND relkind IN ('r', 'v')
    AND has_table_privilege('regress_flow_ann', c.oid, 'TRUNCATE, TRIGGER, REFERENCES');
-- a granted role cannot pass it on
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_grant('regress_flow_eve')$$,
    $$SELECT flow_revoke('regress_flow_bob')$$,
    $$SELECT flow_create_pool('mine', 1)$$,
    $$SELECT flow_drop_pool('default')$$,
    $$UPDATE flow.dag SET owner = 'regress_flow_ann'$$,
    $$INSERT INTO flow.request (kind, requested_by, requested_at) VALUES ('pool', 'regress_flow_ann', now())$$,
    $$TRUNCATE flow.dag_log$$
]) s;

--
-- DAGs: the owner, members that inherit, superusers
--
SELECT flow_create_dag('ann''s');
SELECT flow_add_sql('ann''s', 't', 'SELECT 1');
SET SESSION AUTHORIZATION regress_flow_team;
SELECT flow_create_dag('team''s');
SELECT flow_add_sql('team''s', 't', 'SELECT 1');
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT flow_create_dag('bob''s');
SELECT flow_add_sql('bob''s', 't', 'SELECT 1');
SELECT dag_id, owner FROM flow.dag ORDER BY dag_id;
SELECT dag_id, task_id FROM flow.task ORDER BY dag_id;
SELECT dag_id FROM flow.dag_status ORDER BY dag_id;
-- of those of others, he learns nothing but that a name is taken
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_create_dag('ann''s')$$,
    $$SELECT flow_alter_dag('ann''s', retries => 1)$$,
    $$SELECT flow_pause('ann''s')$$,
    $$SELECT flow_resume('ann''s')$$,
    $$SELECT flow_drop_dag('ann''s')$$,
    $$SELECT flow_set_owner('ann''s', 'regress_flow_bob')$$,
    $$SELECT flow_add_sql('ann''s', 'x', 'SELECT 1')$$,
    $$SELECT flow_add_upsert('ann''s', 'x', 'a', 'b')$$,
    $$SELECT flow_drop_task('ann''s', 't')$$,
    $$SELECT flow_trigger('ann''s')$$
]) s;
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT dag_id, owner FROM flow.dag ORDER BY dag_id;
-- a member redefines: the owner stays
SELECT flow_create_dag('team''s', '@daily');
SELECT flow_add_sql('team''s', 'u', 'SELECT 1');
SELECT dag_id, owner, schedule FROM flow.dag WHERE dag_id = 'team''s';
-- a member that does not inherit must become the role first
SET SESSION AUTHORIZATION regress_flow_dora;
SELECT dag_id FROM flow.dag;
SELECT error_of($$SELECT flow_pause('team''s')$$);
SET ROLE regress_flow_team;
SELECT dag_id FROM flow.dag;
SELECT flow_pause('team''s');
RESET ROLE;
-- granted through the role that one is a member of
SET SESSION AUTHORIZATION regress_flow_carl;
SELECT flow_resume('team''s');
SELECT dag_id FROM flow.dag;
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT dag_id, owner FROM flow.dag ORDER BY dag_id;

--
-- SQL is looked at as the owner, whoever defines it
--
SET SESSION AUTHORIZATION regress_flow_ann;
CREATE TABLE anns_table (id int PRIMARY KEY);
SELECT flow_add_sql('ann''s', 't', 'SELECT * FROM anns_table');
SELECT error_of($$SELECT flow_add_sql('team''s', 't', 'SELECT * FROM anns_table')$$);
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT error_of($$SELECT flow_add_sql('bob''s', 't', 'SELECT * FROM anns_table')$$);
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT error_of($$SELECT flow_add_sql('bob''s', 't', 'SELECT * FROM anns_table')$$);
SELECT error_of($$SELECT flow_alter_dag('bob''s', on_failure => 'DELETE FROM anns_table')$$);
SELECT flow_add_sql('ann''s', 't', 'SELECT id FROM anns_table');
SELECT current_user;

--
-- flow_set_owner
--
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_set_owner('ann''s', 'regress_flow_bob')$$,
    $$SELECT flow_set_owner('ann''s', 'regress_flow_admin')$$,
    $$SELECT flow_set_owner('bob''s', 'regress_flow_ann')$$,
    $$SELECT flow_set_owner('ann''s', NULL)$$,
    $$SELECT flow_set_owner(NULL, 'regress_flow_ann')$$,
    $$SELECT flow_set_owner('ann''s', '0')$$
]) s;
SELECT flow_set_owner('ann''s', 'regress_flow_team');
SET SESSION AUTHORIZATION regress_flow_carl;
SELECT dag_id, owner FROM flow.dag ORDER BY dag_id;
SELECT error_of($$SELECT flow_set_owner('ann''s', 'regress_flow_ann')$$);
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT flow_set_owner('ann''s', 'regress_flow_ann');

--
-- An owner must be able to log in, before PostgreSQL 17
--
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT error_of($$SELECT flow_set_owner('ann''s', 'regress_flow_nologin')$$) ~
    CASE WHEN current_setting('server_version_num')::int < 170000
        THEN '^55000: role "regress_flow_nologin" cannot own a DAG because it cannot log in\n.*\n  HINT: '
        ELSE '^no error' END AS as_expected;
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT flow_set_owner('ann''s', 'regress_flow_ann');
SELECT flow_grant('regress_flow_nologin');
SET ROLE regress_flow_nologin;
SELECT error_of($$SELECT flow_create_dag('nologin''s')$$) ~
    CASE WHEN current_setting('server_version_num')::int < 170000 THEN '^55000' ELSE '^no error' END AS as_expected;
RESET ROLE;
DO $$
BEGIN
    PERFORM flow_drop_dag(dag_id) FROM flow.dag WHERE owner = 'regress_flow_nologin'::regrole;
END
$$;
SELECT flow_revoke('regress_flow_nologin');

--
-- Dependencies: written by the tobe DAG's owner, who must see the asis DAG
--
SET SESSION AUTHORIZATION regress_flow_ann;
INSERT INTO flow.dependency_manager VALUES ('team''s', 'ann''s');
SELECT flow_add_dependency('an outside system', 'ann''s');
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_add_dependency('ann''s', 'bob''s')$$,
    $$INSERT INTO flow.dependency_manager VALUES ('ann''s', 'bob''s')$$,
    $$SELECT flow_add_dependency('bob''s', 'ann''s')$$,
    $$INSERT INTO flow.dependency_manager VALUES ('bob''s', 'ann''s')$$,
    $$UPDATE flow.dependency_manager SET asis_dag = 'bob''s' WHERE asis_dag = 'an outside system'$$
]) s;
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT * FROM flow.dependency_manager;
DELETE FROM flow.dependency_manager;
SELECT error_of($$SELECT flow_drop_dependency('team''s', 'ann''s')$$);
-- the team sees what waits for its DAG, and cannot change it
SET SESSION AUTHORIZATION regress_flow_team;
SELECT * FROM flow.dependency_manager;
DELETE FROM flow.dependency_manager;
SELECT * FROM flow.dependency_manager;
-- nobody can make a DAG that speaks for another's outside system
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT error_of($$SELECT flow_create_dag('an outside system')$$);
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT flow_create_dag('an outside system');
SELECT flow_drop_dag('an outside system');
SELECT * FROM flow.dependency_manager ORDER BY asis_dag;

--
-- The log: an outside system's is seen by everybody, a DAG's by its owner, and
-- each word is its writer's
--
SET SESSION AUTHORIZATION regress_flow_bob;
INSERT INTO flow.dag_log VALUES ('outside', '2024-01-01', '2024-01-02 00:00+00');
-- what flowpg alone can say is not taken from a user
INSERT INTO flow.dag_log VALUES ('outside', '2024-01-02', '2024-01-03 00:00+00', 17, 'regress_flow_ann');
INSERT INTO flow.dag_log VALUES ('bob''s', '2024-01-01', '2024-01-02 00:00+00', 17, 'regress_flow_ann');
SELECT error_of($$INSERT INTO flow.dag_log VALUES ('ann''s', '2024-01-01')$$);
SELECT * FROM flow.dag_log ORDER BY dag_id, completion_date;
SET SESSION AUTHORIZATION regress_flow_admin;
INSERT INTO flow.dag_log VALUES ('bob''s', '2024-01-05', '2024-01-06 00:00+00', 18);
INSERT INTO flow.dag_log VALUES ('ann''s', '2024-01-05', '2024-01-06 00:00+00', 19);
INSERT INTO flow.dag_log VALUES ('dropped', '2024-01-05', '2024-01-06 00:00+00', 20);
SET SESSION AUTHORIZATION regress_flow_ann;
SELECT * FROM flow.dag_log ORDER BY dag_id, completion_date;
SELECT error_of($$INSERT INTO flow.dag_log VALUES ('outside', '2024-01-01', '2024-01-03 00:00+00')
ON CONFLICT (dag_id, completion_date) DO UPDATE SET completion_datetime = EXCLUDED.completion_datetime$$);
UPDATE flow.dag_log SET completion_datetime = '2024-01-07 00:00+00' WHERE dag_id IN ('ann''s', 'bob''s', 'outside');
DELETE FROM flow.dag_log WHERE dag_id IN ('outside', 'bob''s', 'dropped');
SET SESSION AUTHORIZATION regress_flow_bob;
INSERT INTO flow.dag_log VALUES ('outside', '2024-01-01', '2024-01-04 00:00+00')
ON CONFLICT (dag_id, completion_date) DO UPDATE SET completion_datetime = EXCLUDED.completion_datetime;
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT * FROM flow.dag_log ORDER BY dag_id, completion_date;
-- policies hold where triggers do not
BEGIN;
ALTER TABLE flow.dag_log DISABLE TRIGGER dag_log_writer;
ALTER TABLE flow.dependency_manager DISABLE TRIGGER USER;
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT error_of(s) FROM unnest(ARRAY[
    $$INSERT INTO flow.dag_log VALUES ('outside', '2024-01-09', '2024-01-10', 17, 'regress_flow_bob')$$,
    $$INSERT INTO flow.dag_log VALUES ('outside', '2024-01-09', '2024-01-10', NULL, 'regress_flow_ann')$$,
    $$INSERT INTO flow.dag_log VALUES ('outside', '2024-01-09', '2024-01-10')$$,
    $$INSERT INTO flow.dag_log VALUES ('ann''s', '2024-01-09', '2024-01-10', NULL, 'regress_flow_bob')$$,
    $$INSERT INTO flow.dependency_manager VALUES ('x', 'ann''s')$$
]) s;
ROLLBACK;

--
-- History: as of the DAG
--
SET SESSION AUTHORIZATION regress_flow_admin;
INSERT INTO flow.dag_run (dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at)
SELECT d, 'manual', t, t, t, 'success', t FROM unnest('{ann''s,bob''s}'::text[]) d, (SELECT timestamptz '2024-01-01') t(t);
INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state)
SELECT run_id, dag_id, 't', 1, 'success' FROM flow.dag_run;
INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, try_number, state)
SELECT run_id, dag_id, 't', -1, 1, 'failed' FROM flow.dag_run;
INSERT INTO flow.dag_version SELECT dag_id, 1, 'UTC', 'public', NULL, NULL, NULL, '2024-01-01' FROM flow.dag;
INSERT INTO flow.task_version SELECT dag_id, 1, 't', 'sql', 'all_success', '{}', '{}', 0, '1 minute', false, NULL, NULL,
    'default', 1, 1, false FROM flow.dag;
INSERT INTO flow.coverage SELECT dag_id, '{}' FROM flow.dag;
INSERT INTO flow.dag_progress SELECT dag_id, '2024-01-01', '2024-01-01' FROM flow.dag;
INSERT INTO flow.set_off (dag_id, first_version, from_at, until_at) SELECT dag_id, 1, '2024-01-01', '2024-01-01' FROM flow.dag;
INSERT INTO flow.position SELECT dag_id, 't', '{}', '2024-01-01' FROM flow.dag;
INSERT INTO flow.backfill (dag_id, span, reprocess, state, created_at, requested_by)
SELECT dag_id, 'empty', 'none', 'success', '2024-01-01', owner FROM flow.dag;
INSERT INTO flow.backfill_run SELECT b.backfill_id, r.run_id, 1, 'create'
FROM flow.backfill b JOIN flow.dag_run r USING (dag_id);
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT 'dag_run', dag_id FROM flow.dag_run UNION ALL
SELECT 'task_run', dag_id FROM flow.task_run UNION ALL
SELECT 'attempt_history', dag_id FROM flow.attempt_history UNION ALL
SELECT 'dag_version', dag_id FROM flow.dag_version UNION ALL
SELECT 'task_version', dag_id FROM flow.task_version UNION ALL
SELECT 'coverage', dag_id FROM flow.coverage UNION ALL
SELECT 'dag_progress', dag_id FROM flow.dag_progress UNION ALL
SELECT 'set_off', dag_id FROM flow.set_off UNION ALL
SELECT 'position', dag_id FROM flow.position UNION ALL
SELECT 'backfill', dag_id FROM flow.backfill UNION ALL
SELECT 'backfill_run', count(*)::text FROM flow.backfill_run UNION ALL
SELECT DISTINCT 'request', requested_by::text FROM flow.request WHERE requested_by <> 'regress_flow_bob'::regrole;
SELECT pool, slots FROM flow.pool;

--
-- After flow_revoke a role has nothing more
--
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT flow_revoke('regress_flow_bob');
SET SESSION AUTHORIZATION regress_flow_bob;
SELECT error_of(s) FROM unnest(ARRAY[
    $$SELECT flow_create_dag('bob''s')$$,
    $$SELECT * FROM flow.dag$$,
    $$INSERT INTO flow.dag_log VALUES ('outside', '2024-02-01')$$
]) s;
SET SESSION AUTHORIZATION regress_flow_admin;
SELECT count(*) FROM pg_class c WHERE relnamespace = 'flow'::regnamespace
    AND relacl::text LIKE '%regress_flow_bob%';
SELECT dag_id, owner FROM flow.dag ORDER BY dag_id;

DROP EXTENSION flowpg;
DROP TABLE anns_table;
DROP FUNCTION error_of(text);
REVOKE CREATE ON SCHEMA public FROM regress_flow_ann;
DROP ROLE regress_flow_ann, regress_flow_bob, regress_flow_eve, regress_flow_team,
    regress_flow_carl, regress_flow_dora, regress_flow_nologin;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_flow_admin;
