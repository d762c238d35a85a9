--
-- What an enemy tries without a worker: every function and every relation of
-- the extension, by the catalogs, so that a new one is tried too.
--
CREATE ROLE regress_rights_root SUPERUSER LOGIN;
SET SESSION AUTHORIZATION regress_rights_root;
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS flowpg CASCADE;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
\pset format unaligned
\pset null '-'

CREATE ROLE regress_rights_ann LOGIN;           -- has a DAG
CREATE ROLE regress_rights_bob LOGIN;           -- is granted, and has none
CREATE ROLE regress_rights_eve LOGIN;           -- is not granted

--
-- CREATE EXTENSION among what others have planted
--
\set SHOW_CONTEXT never
SELECT format('GRANT CREATE ON DATABASE %I TO regress_rights_eve', current_database()) \gexec
GRANT CREATE ON SCHEMA public TO regress_rights_eve, regress_rights_ann;
SET SESSION AUTHORIZATION regress_rights_eve;
CREATE SCHEMA flow;
SET SESSION AUTHORIZATION regress_rights_root;
CREATE EXTENSION flowpg;
CREATE EXTENSION IF NOT EXISTS flowpg;
DROP SCHEMA flow;
SET SESSION AUTHORIZATION regress_rights_eve;
CREATE FUNCTION public.flow_drop_pool(pool text) RETURNS void LANGUAGE sql AS '';
SET SESSION AUTHORIZATION regress_rights_root;
CREATE EXTENSION flowpg;
DROP FUNCTION public.flow_drop_pool;
\set SHOW_CONTEXT errors
-- operators that would fit better than those of pg_catalog, and functions
SET SESSION AUTHORIZATION regress_rights_eve;
DO $$
DECLARE
    pair record;
BEGIN
    FOR pair IN
        SELECT l.oid::regtype AS l, r.oid::regtype AS r, o.name,
            format('public.planted_%s_%s', l.typname, r.typname) AS function
        FROM pg_type l, pg_type r, unnest('{=,<>,<,<=,>,>=,+,-,*,/,@>,||,->,->>}'::text[]) o (name)
        WHERE l.oid = ANY ('{text,varchar,name,int2,int4,int8,numeric,float8,bool,oid,regrole,regclass,timestamptz,timestamp,date,interval,jsonb,tstzrange}'::regtype[])
            AND r.oid = ANY ('{text,varchar,name,int2,int4,int8,numeric,float8,bool,oid,regrole,regclass,timestamptz,timestamp,date,interval,jsonb,tstzrange}'::regtype[])
        ORDER BY 4
    LOOP
        IF to_regprocedure(format('%s(%s,%s)', pair.function, pair.l, pair.r)) IS NULL THEN
            EXECUTE format('CREATE FUNCTION %s(%s, %s) RETURNS boolean LANGUAGE plpgsql AS ''BEGIN RAISE ''''caught''''; END''',
                pair.function, pair.l, pair.r);
        END IF;
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s)',
            pair.name, pair.l, pair.r, pair.function);
    END LOOP;
END
$$;
CREATE FUNCTION public.format(text, regprocedure) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'caught'; END$$;
CREATE FUNCTION public.format(text, regrole) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'caught'; END$$;
CREATE FUNCTION public.pg_has_role(regrole, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'caught'; END$$;
CREATE FUNCTION public.nextval(text) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'caught'; END$$;
CREATE FUNCTION public.count(text) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'caught'; END$$;
CREATE FUNCTION public.timezone(text, text) RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE 'caught'; END$$;
SET SESSION AUTHORIZATION regress_rights_root;
CREATE EXTENSION flowpg;
-- nothing of flowpg refers to any of it
SET search_path = pg_catalog;
SELECT count(*) > 4000 AS planted,
    count(*) FILTER (WHERE EXISTS (SELECT FROM pg_depend d
        WHERE d.refclassid = p.classid AND d.refobjid = p.oid AND d.deptype <> 'e'
            AND NOT (d.classid = 'pg_operator'::regclass AND d.objid IN (SELECT o.oid FROM pg_operator o WHERE o.oprowner = 'regress_rights_eve'::regrole)))) AS used
FROM (SELECT 'pg_proc'::regclass AS classid, oid FROM pg_proc WHERE proowner = 'regress_rights_eve'::regrole
    UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprowner = 'regress_rights_eve'::regrole) p;
RESET search_path;
SELECT count(*) FROM flow.dag_status, flow.run_status, flow.task_status, flow.dependency_status, flow.backfill_status, flow.dag_stats;
SET client_min_messages = error;
DROP OWNED BY regress_rights_eve;
SET client_min_messages = warning;

-- what runs with its owner's rights, or by name, has a path of its own
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
JOIN pg_extension e ON e.oid = d.refobjid AND d.deptype = 'e' AND e.extname = 'flowpg'
WHERE (p.prosecdef OR p.prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c'))
    AND NOT coalesce(array_to_string(p.proconfig, ' ') ~ '^search_path=pg_catalog, pg_temp$', false);

--
-- Ann's DAG, with rows in every table; every text of hers has "secret" in it
--
SELECT flow_grant('regress_rights_ann'), flow_grant('regress_rights_bob');
SELECT flow_create_pool('unused', 1);
SET SESSION AUTHORIZATION regress_rights_ann;
SELECT flow_create_dag(d, '@daily', start_date => '2024-01-01', is_paused => true, description => 'secret') FROM unnest('{secret dag,other secret dag}'::text[]) d;
SELECT flow_add_sql('secret dag', 'secret task', $$SELECT 'secret'$$);
SET flowpg.check_definitions = off;
SELECT flow_add_upsert('secret dag', 'secret upsert', 'SELECT 1', 'secret_target', key => '{a}', page_by => '{a}', incremental => true, upstream => '{secret task}');
RESET flowpg.check_definitions;
CREATE TABLE secret_table (id int PRIMARY KEY, day date);
SELECT flow_add_sql('other secret dag', 'secret task', $$SELECT 'secret'$$);
SELECT flow_add_dependency('secret dag', 'other secret dag'), flow_add_dependency('secret system', 'other secret dag');
INSERT INTO flow.dag_log VALUES ('secret dag', '2024-01-02');
SET SESSION AUTHORIZATION regress_rights_root;
INSERT INTO flow.dag_version (dag_id, version, timezone, search_path, on_failure, created_at)
VALUES ('secret dag', 1, 'UTC', 'secret', 'SELECT secret', '2024-01-01');
INSERT INTO flow.task_version (dag_id, version, task_id, operator, trigger_rule, params, upstream, retries, retry_delay,
    retry_exponential_backoff, pool, pool_slots, priority_weight, depends_on_past)
VALUES ('secret dag', 1, 'secret task', 'sql', 'all_success', '{"command": "SELECT ''secret''"}', '{}', 0, '0', false, 'default', 1, 1, false);
INSERT INTO flow.dag_run (dag_id, version, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at, started_at, conf, message)
VALUES ('secret dag', 1, 'manual', '2024-01-01', '2024-01-01', '2024-01-02', 'running', '2024-01-02', '2024-01-02', '{"secret": 1}', 'secret'),
    ('secret dag', 1, 'manual', '2024-01-03', '2024-01-03', '2024-01-04', 'failed', '2024-01-02', '2024-01-02', '{"secret": 1}', 'secret'),
    ('other secret dag', NULL, 'scheduled', '2024-01-01', '2024-01-01', '2024-01-02', 'queued', '2024-01-02', NULL, '{"secret": 1}', 'secret');
SELECT min(run_id) AS run FROM flow.dag_run \gset
INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state, started_at, ended_at, result, message)
SELECT run_id, 'secret dag', 'secret task', 1, 'failed', '2024-01-02', '2024-01-02', '"secret"', 'secret' FROM flow.dag_run WHERE dag_id = 'secret dag';
INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, try_number, state, message)
VALUES (:run, 'secret dag', 'secret task', -1, 0, 'failed', 'secret');
INSERT INTO flow.bad_row (run_id, dag_id, task_id, map_index, try_number, page, target, key, row_data, sqlstate, message, kept_at)
VALUES (:run, 'secret dag', 'secret upsert', -1, 1, 1, 'secret', '{"a": 1}', '{"a": "secret"}', '22012', 'secret', '2024-01-02');
INSERT INTO flow.callback (run_id, run_state, state, queued_at, message) VALUES (:run, 'failed', 'failed', '2024-01-02', 'secret');
INSERT INTO flow.coverage VALUES ('secret dag', '{[2024-01-01,2024-01-02)}');
INSERT INTO flow.dag_progress VALUES ('secret dag', '2024-01-01', '2024-01-02');
INSERT INTO flow.set_off (dag_id, first_version, from_at, until_at) VALUES ('secret dag', 1, '2024-01-01', '2024-01-02');
INSERT INTO flow.position VALUES ('secret dag', 'secret upsert', '{"last": {"a": "secret"}}', '2024-01-02');
SET SESSION AUTHORIZATION regress_rights_ann;
SELECT flow_backfill('secret dag', '2024-02-01', '2024-02-02', conf => '{"secret": 1}') AS backfill \gset
SET SESSION AUTHORIZATION regress_rights_root;

--
-- What comes of a statement of a role; all that it did is undone
--
CREATE FUNCTION outcome(role text, statement text, path text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result text;
    message text;
BEGIN
    IF statement ~ '^SELECT' THEN
        statement := format('SELECT pg_catalog.string_agg(q::text, pg_catalog.chr(10)) FROM (%s) q', statement);
    ELSE
        result := '';
    END IF;
    EXECUTE format('SET LOCAL ROLE %I', role);
    IF path IS NOT NULL THEN
        EXECUTE 'SET LOCAL search_path = ' || path;
    END IF;
    IF result IS NULL THEN
        EXECUTE statement INTO result;
    ELSE
        EXECUTE statement;
    END IF;
    RAISE SQLSTATE 'ZZZZZ' USING MESSAGE = coalesce(result, '');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
    RETURN CASE WHEN SQLSTATE = 'ZZZZZ' THEN 'ok' ELSE SQLSTATE END || ': ' || message;
END
$$;

-- Every routine but those of triggers, and a call of it: with all arguments that
-- have no default, and those that make it do something.  of_nobody is the same
-- call for what does not exist.
CREATE TABLE argument (name text, value text, of_nobody text, routine text);
INSERT INTO argument VALUES
    ('dag_id', 'secret dag', 'missing dag', NULL), ('asis_dag', 'secret dag', 'missing dag', NULL),
    ('tobe_dag', 'other secret dag', 'other missing dag', NULL), ('trigger_dag_id', 'other secret dag', 'other missing dag', NULL),
    ('task_id', 'secret task', 'missing task', NULL), ('task_id', 'secret upsert', 'missing task', 'flow_get_position'),
    ('task_id', 'secret upsert', 'missing task', 'flow_set_position'), ('run_id', :run, -1, NULL), ('backfill_id', :backfill, -1, NULL),
    ('definition', '{"dag_id": "secret dag", "tasks": []}', '{"dag_id": "missing dag", "tasks": []}', NULL),
    ('pool', 'unused', 'missing pool', 'flow_create_pool'), ('pool', 'unused', 'missing pool', 'flow_drop_pool');
INSERT INTO argument (name, value, routine) VALUES
    ('timeout', '0', 'flow_wait_run'), ('timeout', '0', 'flow_wait_backfill'), ('start_date', '2024-01-01', NULL), ('end_date', '2024-01-03', NULL),
    ('at', '2024-01-03', NULL), ('until', '2024-01-03', NULL), ('after', '2024-01-01', NULL), ('role', 'regress_rights_ann', NULL), ('slots', '3', NULL),
    ('state', 'success', NULL), ('value', '{"a": 1}', NULL), ('command', $$SELECT 'secret task'$$, NULL), ('condition', 'SELECT true', NULL),
    ('source', 'SELECT 1 AS id, current_date AS day', NULL), ('target', 'secret_table', NULL), ('column_name', 'day', NULL), ('keep', '1 day', NULL),
    ('schedule', '@daily', NULL), ('timezone', 'UTC', NULL), ('which', 'containing', NULL), ('last_start', '2024-01-01', NULL), ('last_end', '2024-01-02', NULL),
    ('earliest', '2024-01-01', NULL), ('latest', 'infinity', NULL), ('catchup', 'true', NULL), ('now', '2024-01-03', NULL), ('ntasks', '2', NULL),
    ('edge_from', '{0}', NULL), ('edge_to', '{1}', NULL), ('tasks', '{0}', NULL), ('trigger_rule', 'all_done', 'trigger_rule_decide'), ('total', '1', NULL);
CREATE TABLE call AS
SELECT p.proname::text AS routine, c.call, c.of_nobody, c.unknown
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
JOIN pg_extension e ON e.oid = d.refobjid AND d.deptype = 'e' AND e.extname = 'flowpg'
CROSS JOIN LATERAL (
    SELECT format('%s %s(%s)', k.verb, f.name, string_agg(format('%I => %L', a.name, g.value), ', ' ORDER BY a.n) FILTER (WHERE a.n IS NOT NULL)) AS call,
        format('%s %s(%s)', k.verb, f.name, string_agg(format('%I => %L', a.name, coalesce(g.of_nobody, g.value)), ', ' ORDER BY a.n) FILTER (WHERE a.n IS NOT NULL)) AS of_nobody,
        string_agg(a.name, ', ') FILTER (WHERE g.value IS NULL AND a.n IS NOT NULL) AS unknown
    FROM (SELECT CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT * FROM' END AS verb) k,
        (SELECT format('%I.%I', p.pronamespace::regnamespace, p.proname) AS name) f
        LEFT JOIN unnest(p.proargnames[:p.pronargs]) WITH ORDINALITY a (name, n) ON true
        LEFT JOIN LATERAL (SELECT * FROM argument x WHERE x.name = a.name AND coalesce(x.routine, p.proname) = p.proname ORDER BY x.routine LIMIT 1) g ON true
    WHERE a.n IS NULL OR a.n <= p.pronargs - p.pronargdefaults OR g.value IS NOT NULL
    GROUP BY k.verb, f.name) c
WHERE p.prorettype <> 'trigger'::regtype;
-- one that is not called as it should be must be given arguments above
SELECT routine, unknown FROM call WHERE unknown IS NOT NULL OR call IS NULL;

-- The owner can do it; another learns what he would of nothing; a stranger may
-- not even try.
CREATE FUNCTION masked(outcome text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(replace(outcome, 'secret', 'missing'), '-?\d+', 'N', 'g')
$$;
SELECT c.routine, substring(o.of_owner from '^\w+') AS owner, substring(o.of_other from '^\w+') AS other,
    CASE WHEN masked(o.of_other) <> masked(o.of_nobody) THEN o.of_other END AS other_learns,
    substring(o.of_stranger from '^\w+') AS stranger
FROM call c, LATERAL (SELECT outcome('regress_rights_ann', c.call) AS of_owner, outcome('regress_rights_bob', c.call) AS of_other,
    outcome('regress_rights_bob', c.of_nobody) AS of_nobody, outcome('regress_rights_eve', c.call) AS of_stranger) o
ORDER BY c.routine COLLATE "C";

--
-- Relations: who sees rows, who may write
--
SELECT c.relname, c.relkind, o.of_owner ~ 'secret' OR o.of_owner !~ '^ok: $' AS owner, CASE WHEN o.of_other <> 'ok: ' THEN left(masked(o.of_other), 50) END AS other,
    substring(o.of_stranger from '^\w+') AS stranger, w.writes
FROM pg_class c, LATERAL (SELECT outcome('regress_rights_ann', s) AS of_owner, outcome('regress_rights_bob', s) AS of_other, outcome('regress_rights_eve', s) AS of_stranger
    FROM (SELECT format('SELECT * FROM flow.%I', c.relname)) q (s)) o,
    LATERAL (SELECT string_agg(verb || ' ' || substring(outcome(role, statement) from '^\w+'), ', ' ORDER BY n) AS writes
        FROM (SELECT n, verb, format(s, c.relname, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1)) AS statement
            FROM (VALUES (1, 'insert', 'INSERT INTO flow.%1$I DEFAULT VALUES'), (2, 'update', 'UPDATE flow.%1$I SET %2$I = %2$I'), (3, 'delete', 'DELETE FROM flow.%1$I'),
                (4, 'truncate', 'TRUNCATE flow.%1$I'), (5, 'lock rows', 'SELECT 1 FROM flow.%1$I FOR KEY SHARE'), (6, 'lock', 'LOCK TABLE flow.%1$I IN SHARE MODE')) v (n, verb, s)) v,
            (VALUES ('regress_rights_bob')) r (role)) w
WHERE c.relnamespace = 'flow'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f') ORDER BY 1;

--
-- Flowpg's own SQL finds its own objects, wherever the user has put others of
-- the same names
--
SELECT routine, outcome('regress_rights_ann', call) AS outcome INTO before FROM call;
CREATE SCHEMA trap AUTHORIZATION regress_rights_ann;
SET SESSION AUTHORIZATION regress_rights_ann;
SET check_function_bodies = off;
SET search_path = pg_catalog;
DO $$
DECLARE
    object record;
    basic oid[] := '{text,name,int2,int4,int8,numeric,float8,bool,oid,regrole,regclass,timestamptz,timestamp,date,interval,jsonb,tstzrange,tstzmultirange,text[],_int8,anyarray,anyelement,anymultirange,anyrange}'::regtype[];
BEGIN
    FOR object IN
        SELECT DISTINCT p.proname, pg_get_function_identity_arguments(p.oid) AS args, p.prorettype::regtype AS result
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND p.pronargs <= 3 AND p.proargtypes::oid[] <@ basic
            AND p.prorettype = ANY (basic) AND NOT p.proretset AND p.provariadic = 0 AND p.prorettype <> 'anyarray'::regtype
            AND (p.prorettype NOT IN ('anyelement'::regtype, 'anyrange'::regtype, 'anymultirange'::regtype) OR p.proargtypes[0] = p.prorettype)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION trap.%I(%s) RETURNS %s LANGUAGE plpgsql AS ''BEGIN RAISE ''''caught''''; END''', object.proname, object.args, object.result);
        EXCEPTION WHEN feature_not_supported OR invalid_function_definition OR syntax_error THEN
            NULL;           -- plpgsql has no such types
        END;
    END LOOP;
    FOR object IN
        SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result,
            format('trap.operator_%s', o.oid) AS function
        FROM pg_operator o
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft = ANY (basic) AND o.oprright = ANY (basic) AND o.oprresult = ANY (basic)
    LOOP
        EXECUTE format('CREATE FUNCTION %s(%s, %s) RETURNS %s LANGUAGE plpgsql AS ''BEGIN RAISE ''''caught''''; END''', object.function, object.l, object.r, object.result);
        EXECUTE format('CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s)', object.oprname, object.l, object.r, object.function);
    END LOOP;
END
$$;
RESET search_path;
CREATE TEMP TABLE dag (dag_id text, owner text);
CREATE TEMP TABLE dag_run (run_id bigint);
CREATE TEMP TABLE pg_extension (extname text, extowner oid);
CREATE TEMP TABLE pg_roles (oid oid);
SELECT count(*) > 200 AS trapped FROM pg_operator WHERE oprnamespace = 'trap'::regnamespace;
SELECT count(*) > 500 AS trapped FROM pg_proc WHERE pronamespace = 'trap'::regnamespace;
-- they work
SELECT outcome('regress_rights_ann', 'SELECT 1 WHERE text ''a'' = text ''a''', 'pg_temp, trap, pg_catalog, public');
SELECT outcome('regress_rights_ann', 'SELECT upper(text ''a'')', 'pg_temp, trap, pg_catalog, public');
SET SESSION AUTHORIZATION regress_rights_root;
SELECT count(*) > 60 AS tried FROM call;
SELECT b.routine, b.outcome, o.outcome
FROM call c JOIN before b USING (routine), LATERAL outcome('regress_rights_ann', c.call, 'pg_temp, trap, pg_catalog, public') o (outcome)
WHERE o.outcome ~ 'caught' OR substring(o.outcome from '^\w+') <> substring(b.outcome from '^\w+');
SELECT c.relname, o.outcome
FROM pg_class c, outcome('regress_rights_ann', format('SELECT * FROM flow.%I', c.relname), 'pg_temp, trap, pg_catalog, public') o (outcome)
WHERE c.relnamespace = 'flow'::regnamespace AND c.relkind IN ('r', 'v') AND o.outcome !~ '^ok';

--
-- The two tables that users write: nothing is forged, nothing is learned
--
SELECT statement, outcome('regress_rights_bob', statement) FROM unnest(ARRAY[
    $$INSERT INTO flow.dag_log VALUES ('secret dag', '2024-01-02') ON CONFLICT DO NOTHING$$,
    $$INSERT INTO flow.dag_log VALUES ('bobs system', '2024-01-02'); UPDATE flow.dag_log SET dag_id = 'secret dag' WHERE dag_id = 'bobs system'$$,
    $$MERGE INTO flow.dag_log l USING (VALUES (1)) v ON l.dag_id = 'secret dag' WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES ('secret dag', '2024-01-09')$$,
    $$INSERT INTO flow.dependency_manager VALUES ('bobs system', 'other secret dag') ON CONFLICT DO NOTHING$$
]) WITH ORDINALITY a (statement, n) ORDER BY n;
SET SESSION AUTHORIZATION regress_rights_bob;
BEGIN;
INSERT INTO flow.dag_log VALUES ('bobs system', '2024-01-02');
UPDATE flow.dag_log SET logged_by = 'regress_rights_ann', run_id = 1;
SELECT dag_id, run_id, logged_by FROM flow.dag_log;
SELECT flow_create_dag('bobs dag'), flow_create_dag('bobs other dag');
INSERT INTO flow.dependency_manager VALUES ('bobs dag', 'bobs other dag');
SAVEPOINT s;
UPDATE flow.dependency_manager SET tobe_dag = 'other secret dag';
ROLLBACK TO s;
UPDATE flow.dependency_manager SET asis_dag = 'secret dag';
ROLLBACK TO s;
DELETE FROM flow.dependency_manager RETURNING *;
ROLLBACK;
COPY flow.task_run TO STDOUT;
-- a cheap function is not asked before row security is
CREATE FUNCTION pg_temp.leak(value anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE WARNING 'leaked %', value;
    RETURN true;
END
$$;
SELECT 1 FROM flow.dag WHERE pg_temp.leak(dag_id);
SELECT 1 FROM flow.dag_run WHERE pg_temp.leak(conf);
SELECT 1 FROM flow.run_status WHERE pg_temp.leak(message);
SELECT 1 FROM flow.dag_status d WHERE pg_temp.leak(d);
SELECT 1 FROM flow.dag_log WHERE pg_temp.leak(dag_id);
SELECT 1 FROM flow.request WHERE pg_temp.leak(args);
SELECT count(*) FROM pg_stats WHERE schemaname = 'flow' AND most_common_vals::text ~ 'secret';

--
-- Code of the owner that a superuser sets off runs as the owner: what defining
-- a task evaluates, and all that trying one does.  Each site of the code counts
-- its calls in a sequence.
--
SET SESSION AUTHORIZATION regress_rights_ann;
CREATE FUNCTION trap.spy(site text, value int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
    IF current_user <> 'regress_rights_ann' THEN
        RAISE 'rose to % by %', current_user, site;
    END IF;
    PERFORM nextval(format('trap.site_%s', site));
    RETURN value;
END
$$;
CREATE FUNCTION trap.sites() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    sequence text;
    is_called boolean;
    result text;
BEGIN
    FOR sequence IN SELECT relname FROM pg_class WHERE relname LIKE 'site\_%' AND relkind = 'S' ORDER BY relname COLLATE "C" LOOP
        EXECUTE format('SELECT is_called FROM trap.%I', sequence) INTO is_called;
        result := concat_ws(' ', nullif(result, ''), CASE WHEN is_called THEN substr(sequence, 6) END);
        PERFORM setval(format('trap.%I', sequence), 1, false);
    END LOOP;
    RETURN result;
END
$$;
SELECT format('CREATE SEQUENCE trap.site_%s', site) FROM unnest('{input,domain,default,generated,checked,indexed,policy,trigger,rule,view,cast,operator,materialized,aggregate,branch}'::text[]) site \gexec
CREATE DOMAIN trap.input AS int CHECK (trap.spy('input', VALUE) = VALUE);
CREATE DOMAIN trap.domain AS int CHECK (trap.spy('domain', VALUE) = VALUE);
CREATE TABLE trap.target (
    id int PRIMARY KEY CHECK (trap.spy('checked', id) = id),
    a trap.domain,
    b int DEFAULT trap.spy('default', 1),
    c int GENERATED ALWAYS AS (trap.spy('generated', id)) STORED);
CREATE INDEX ON trap.target (trap.spy('indexed', id));
ALTER TABLE trap.target ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY spied ON trap.target USING (trap.spy('policy', id) = id);
CREATE FUNCTION trap.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM trap.spy('trigger', NEW.id); RETURN NEW; END$$;
CREATE TRIGGER spied BEFORE INSERT ON trap.target FOR EACH ROW EXECUTE FUNCTION trap.note();
CREATE TABLE trap.ruled (id int);
CREATE RULE spied AS ON INSERT TO trap.ruled DO INSTEAD SELECT trap.spy('rule', NEW.id);
CREATE VIEW trap.seen AS SELECT trap.spy('view', n) AS id, 1 AS a FROM generate_series(1, 2) n;
CREATE TYPE trap.pair AS (x int, y int);
CREATE TYPE trap.mood AS ENUM ('good');
CREATE FUNCTION trap.to_json(trap.mood) RETURNS json LANGUAGE sql AS $$SELECT to_json(trap.spy('cast', length($1::text)))$$;
CREATE CAST (trap.mood AS json) WITH FUNCTION trap.to_json(trap.mood);
CREATE FUNCTION trap.differ(trap.pair, trap.pair) RETURNS boolean LANGUAGE sql AS $$SELECT trap.spy('operator', $1.x) <> $2.x$$;
CREATE OPERATOR trap.<<>> (LEFTARG = trap.pair, RIGHTARG = trap.pair, FUNCTION = trap.differ);
CREATE FUNCTION trap.add(int, int) RETURNS int LANGUAGE sql AS $$SELECT $1 + trap.spy('aggregate', $2)$$;
CREATE AGGREGATE trap.total(int) (SFUNC = trap.add, STYPE = int, INITCOND = 0);
CREATE MATERIALIZED VIEW trap.kept AS SELECT trap.spy('materialized', n) AS n FROM generate_series(1, 2) n WITH NO DATA;
SELECT trap.sites() IS NOT NULL;
SET SESSION AUTHORIZATION regress_rights_root;
SELECT flow_add_sql('other secret dag', 'spy', $$SELECT '{1}'::trap.input[]$$), trap.sites();
SELECT flow_alter_dag('other secret dag', on_failure => $$SELECT '{1}'::trap.input[]$$), trap.sites();
SELECT flow_add_check('other secret dag', 'spy check', $$SELECT '{1}'::trap.input[] IS NOT NULL$$), trap.sites();
SELECT flow_add_sensor('other secret dag', 'spy sensor', $$SELECT '{1}'::trap.input[] IS NOT NULL$$), trap.sites();
SELECT flow_add_branch('other secret dag', 'spy branch', $$SELECT 'spy end' WHERE '{1}'::trap.input[] IS NOT NULL AND trap.spy('branch', 1) = 1$$), trap.sites();
SELECT flow_add_sql('other secret dag', 'spy end', 'SELECT 1', upstream => '{spy branch}');
SELECT flow_add_upsert('other secret dag', 'spy upsert', $$SELECT id, a FROM trap.seen WHERE '{1}'::trap.input[] IS NOT NULL$$, 'trap.target', page_by => '{id}'), trap.sites();
SELECT flow_add_upsert('other secret dag', 'spy replace', 'trap.seen', 'trap.target', page_by => '{id}', mode => 'replace', replace_where => $$trap.spy('view', id) = id$$), trap.sites();
SELECT flow_apply(flow_export('other secret dag') || '{"description": "again"}'), trap.sites();
SELECT flow_add_sql('other secret dag', 'spy all', $$
    INSERT INTO trap.target (id) VALUES (7);
    INSERT INTO trap.ruled VALUES (1);
    REFRESH MATERIALIZED VIEW trap.kept;
    SELECT 'good'::trap.mood AS mood, ROW(1, 2)::trap.pair OPERATOR(trap.<<>>) ROW(1, 2)::trap.pair, trap.total(n) FROM generate_series(1, 2) n$$), trap.sites();
SELECT flow_test_task('other secret dag', 'spy all'), trap.sites();
SELECT flow_test_task('other secret dag', 'spy upsert'), trap.sites();
SELECT flow_test_task('other secret dag', 'spy branch'), trap.sites();
-- it does not get out of its owner's role, and leaves nothing for the superuser
-- to do or to run into later
SET SESSION AUTHORIZATION regress_rights_ann;
CREATE FUNCTION trap.climb(value int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    way text;
BEGIN
    FOREACH way IN ARRAY '{RESET ROLE,SET ROLE regress_rights_root,RESET SESSION AUTHORIZATION,CREATE TEMP TABLE climbed (),PREPARE climbed AS SELECT 1,DECLARE climbed CURSOR WITH HOLD FOR SELECT 1,LISTEN climbed}'::text[] LOOP
        BEGIN
            EXECUTE way;
            RAISE WARNING 'climbed by %', way;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
    END LOOP;
    PERFORM set_config('search_path', 'trap', false), set_config('timezone', 'Asia/Kathmandu', false), set_config('trap.left', value::text, false);
    RETURN value;
END
$$;
CREATE DOMAIN trap.climbing AS int CHECK (trap.climb(VALUE) = VALUE);
CREATE TABLE trap.deferred (id int);
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON trap.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap.note();
SET SESSION AUTHORIZATION regress_rights_root;
SELECT flow_add_sql('other secret dag', 'spy climbs', $$SELECT '{1}'::trap.climbing[]$$);
SELECT current_user, current_setting('search_path'), current_setting('timezone'), current_setting('trap.left', true);
SELECT flow_test_task('other secret dag', 'spy climbs');
SELECT current_user, current_setting('search_path'), current_setting('timezone'), current_setting('trap.left', true);
SELECT flow_add_sql('other secret dag', 'spy later', 'INSERT INTO trap.deferred VALUES (1)');
SELECT flow_test_task('other secret dag', 'spy later');
-- and the views and functions that show it to a superuser run none of it
SELECT count(*) > 0 FROM flow.task_status, flow.dag_status WHERE dag_status.dag_id = 'other secret dag';
SELECT length(flow_dot('other secret dag')) > 0, length(flow_mermaid('other secret dag')) > 0, (SELECT count(*) > 0 FROM flow_explain('other secret dag')), trap.sites();

--
-- A role's name is not SQL; a DAG is triggered only where its owner may
--
CREATE ROLE "regress_rights_x TO PUBLIC; --";
SELECT flow_grant('"regress_rights_x TO PUBLIC; --"');
SELECT outcome('regress_rights_eve', 'SELECT * FROM flow.pool');
SELECT flow_revoke('"regress_rights_x TO PUBLIC; --"');
DROP ROLE "regress_rights_x TO PUBLIC; --";
SELECT flow_create_dag('roots dag');
SELECT flow_add_trigger('other secret dag', 'spy trigger', 'roots dag');

--
-- Whoever takes the name of a dropped DAG sees its history
--
SET SESSION AUTHORIZATION regress_rights_ann;
SELECT flow_drop_dag('secret dag'), flow_create_dag('short dag');
SELECT flow_drop_dag('short dag');
SET SESSION AUTHORIZATION regress_rights_bob;
SELECT flow_create_dag('secret dag');
SELECT flow_apply('{"dag_id": "secret dag", "tasks": []}');
SELECT flow_create_dag('short dag');
SELECT dag_id FROM flow.dropped_dag;
SET SESSION AUTHORIZATION regress_rights_ann;
SELECT dag_id, version FROM flow.dropped_dag;
SELECT flow_create_dag('secret dag');
SELECT count(*) FROM flow.dag_run WHERE dag_id = 'secret dag';
SELECT dag_id, version, first_version FROM flow.dag WHERE dag_id = 'secret dag';
SELECT count(*) FROM flow.dropped_dag;
SELECT flow_drop_dag('secret dag');
SET SESSION AUTHORIZATION regress_rights_root;
SELECT flow_create_dag('secret dag'), flow_set_owner('secret dag', 'regress_rights_bob');
SET SESSION AUTHORIZATION regress_rights_bob;
SELECT count(*) FROM flow.dag_run WHERE dag_id = 'secret dag';
-- the latest definition is kept when its last run is not any more
SET SESSION AUTHORIZATION regress_rights_ann;
SELECT flow_create_dag('kept dag');
SET SESSION AUTHORIZATION regress_rights_root;
INSERT INTO flow.dag_version (dag_id, version, timezone, search_path, on_failure, created_at)
VALUES ('kept dag', 1, 'UTC', 'secret', 'SELECT secret', '2024-01-01');
SET SESSION AUTHORIZATION regress_rights_ann;
SELECT flow_drop_dag('kept dag');
SET SESSION AUTHORIZATION regress_rights_bob;
SELECT flow_create_dag('kept dag');

RESET SESSION AUTHORIZATION;
SET client_min_messages = error;
DROP EXTENSION flowpg;
DROP FUNCTION outcome, masked;
DROP TABLE argument, call, before;
DROP OWNED BY regress_rights_ann, regress_rights_bob, regress_rights_eve CASCADE;
DROP ROLE regress_rights_ann, regress_rights_bob, regress_rights_eve, regress_rights_root;
