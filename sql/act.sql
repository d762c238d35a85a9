-- Acting on runs: what flow_clear and flow_mark ask of the scheduler, what
-- flow_test_task runs, what flow_explain says.  Nothing runs by itself here:
-- flowpg.enabled is off and the time stands at 2024-06-01 00:00 UTC.
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS flowpg CASCADE;
CREATE EXTENSION flowpg;
CREATE ROLE regress_act_owner LOGIN;
CREATE ROLE regress_act_other LOGIN;
GRANT CREATE ON SCHEMA public TO regress_act_owner;
SELECT flow_grant('regress_act_owner'), flow_grant('regress_act_other');
RESET client_min_messages;

-- What a statement raises, with its SQLSTATE; ids are masked.
CREATE FUNCTION error_of(statement text) RETURNS TABLE (code text, message text, hint text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN QUERY SELECT 'none', 'no error', '';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    message := regexp_replace(message, 'run \d+', 'run N');
    RETURN NEXT;
END $$;
GRANT EXECUTE ON FUNCTION error_of TO PUBLIC;

-- A run that is there, with the DAG's definition as its version 1; states are
-- task=state.
CREATE FUNCTION make_run(dag_id text, run_type text, state text, from_ts timestamptz, until_ts timestamptz, VARIADIC states text[] = '{}')
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
BEGIN
    INSERT INTO flow.dag_version (dag_id, version, timezone, search_path, created_at)
    SELECT d.dag_id, 1, d.timezone, d.search_path, d.created_at FROM flow.dag d WHERE d.dag_id = $1
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        INSERT INTO flow.task_version (dag_id, version, task_id, operator, trigger_rule, params, upstream, retries, retry_delay,
            retry_exponential_backoff, pool, pool_slots, priority_weight, depends_on_past)
        SELECT t.dag_id, 1, t.task_id, t.operator, t.trigger_rule, t.params,
            ARRAY(SELECT p.upstream_task_id FROM flow.task_dependency p
                WHERE p.dag_id = t.dag_id AND p.downstream_task_id = t.task_id ORDER BY 1),
            0, '0', false, t.pool, t.pool_slots, 1, coalesce(t.depends_on_past, false)
        FROM flow.task t WHERE t.dag_id = $1;
    END IF;
    INSERT INTO flow.dag_run (dag_id, version, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at)
    VALUES ($1, CASE WHEN $3 <> 'queued' THEN 1 END, $2, $4, $4, $5, $3, $4) RETURNING run_id INTO id;
    INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state)
    SELECT id, $1, split_part(s, '=', 1), 1, nullif(split_part(s, '=', 2), '') FROM unnest($6) s;
    RETURN id;
END $$;

-- What has been asked for since the last call.
CREATE FUNCTION asked() RETURNS TABLE (kind text, dag_id text, day text, args jsonb)
LANGUAGE sql AS $$
    WITH taken AS (DELETE FROM flow.request q WHERE q.kind IN ('clear', 'mark') RETURNING q.*)
    SELECT t.kind, t.dag_id, to_char(r.data_interval_start, 'DD HH24'), t.args
    FROM taken t JOIN flow.dag_run r USING (run_id) ORDER BY t.request_id
$$;

-- a -> b -> c, a -> d, and e on its own
SELECT flow_create_dag('shop', '@daily', start_date => '2024-01-01', timezone => 'Asia/Seoul', is_paused => true);
SELECT flow_add_sql('shop', 'a', 'SELECT 1');
SELECT flow_add_sql('shop', 'b', 'SELECT 1', upstream => '{a}');
SELECT flow_add_sql('shop', 'c', 'SELECT 1', upstream => '{b}', trigger_rule => 'all_done');
SELECT flow_add_sql('shop', 'd', 'SELECT 1', upstream => '{a}');
SELECT flow_add_sql('shop', 'e', 'SELECT 1');
SELECT count(make_run('shop', 'scheduled', 'success', d, d + interval '1 day', 'a=success', 'b=success', 'c=success', 'd=success', 'e=success'))
FROM generate_series('2024-01-01 00:00+09'::timestamptz, '2024-01-03 00:00+09', '1 day') d;
SELECT count(make_run('shop', 'scheduled', 'failed', '2024-01-04 00:00+09', '2024-01-05 00:00+09',
    'a=success', 'b=failed', 'c=success', 'd=success', 'e=success'));
SELECT count(make_run('shop', 'manual', 'running', '2024-01-05 00:00+09', '2024-01-06 00:00+09',
    'a=success', 'b=up_for_retry', 'd=running', 'e=failed'));
UPDATE flow.task_run SET retry_at = '2024-06-01 00:05+00' WHERE state = 'up_for_retry';
SELECT count(make_run('shop', 'scheduled', 'queued', '2024-01-06 00:00+09', '2024-01-07 00:00+09'));
SELECT count(make_run('shop', 'scheduled', 'cancelled', '2024-01-07 00:00+09', '2024-01-08 00:00+09', 'a=success', 'd=cancelled', 'e='));

-- flow_clear -------------------------------------------------------------------

-- whole days in the DAG's timezone, both ends included
SELECT flow_clear('shop', '2024-01-02', '2024-01-03');
SELECT * FROM asked();
-- one bound, or none; what has not started has nothing to clear
SELECT flow_clear('shop', end_date => '2024-01-01', task_ids => '{e}'), flow_clear('shop', '2024-01-06', task_ids => '{e}');
SELECT * FROM asked();
SELECT flow_clear('shop', task_ids => '{e}');
SELECT * FROM asked();
-- with what follows, and without
SELECT flow_clear('shop', '2024-01-01', '2024-01-01', '{b}');
SELECT flow_clear('shop', '2024-01-01', '2024-01-01', '{b}', downstream => false);
SELECT flow_clear('shop', '2024-01-01', '2024-01-01', '{b,e}');
SELECT * FROM asked();
-- only what has failed; what follows it runs again, whatever became of it
SELECT flow_clear('shop', only_failed => true);
SELECT * FROM asked();
SELECT flow_clear('shop', '2024-01-04', '2024-01-04', '{a,d}', only_failed => true);
SELECT flow_clear('shop', '2024-01-04', '2024-01-04', only_failed => true, downstream => false);
SELECT * FROM asked();
-- a run that was cancelled before it began runs now
SELECT count(make_run('shop', 'scheduled', 'cancelled', '2024-01-08 00:00+09', '2024-01-09 00:00+09'));
SELECT flow_clear('shop', '2024-01-08', '2024-01-08', only_failed => true);
SELECT * FROM asked();
-- a run keeps its own version: a task that came later is none of its tasks
SELECT flow_add_sql('shop', 'f', 'SELECT 1', upstream => '{c}');
SELECT flow_clear('shop', '2024-01-01', '2024-01-01', '{f}'), flow_clear('shop', '2024-01-01', '2024-01-01', '{c}');
SELECT flow_drop_task('shop', 'e');
SELECT flow_clear('shop', '2024-01-01', '2024-01-01', '{e}');
SELECT * FROM asked();

-- cascade: what depends on the cleared runs, directly or not, as a whole
SELECT flow_create_dag(d, s, start_date => '2024-01-01', is_paused => true), flow_add_sql(d, 't', 'SELECT 1'), flow_add_sql(d, 'u', 'SELECT 1')
FROM (VALUES ('raw', '@hourly'), ('day', '@daily'), ('report', NULL), ('other', '@daily')) v (d, s);
INSERT INTO flow.dependency_manager VALUES ('raw', 'day'), ('day', 'report'), ('shop', 'other');
SELECT count(make_run('raw', 'scheduled', 'success', h, h + interval '1 hour', 't=success', 'u=success'))
FROM generate_series('2024-01-01 22:00+00'::timestamptz, '2024-01-02 02:00+00', '1 hour') h;
SELECT count(make_run(d, t, 'success', s, s + interval '1 day', 't=success', 'u=success'))
FROM (VALUES ('day', 'scheduled'), ('report', 'triggered'), ('other', 'scheduled')) v (d, t), generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-03 00:00+00', '1 day') s;
SELECT count(make_run('report', 'manual', 'success', '2024-01-01 00:00+00', '2024-01-02 00:00+00', 't=success', 'u=success'));
SELECT flow_clear('raw', '2024-01-02', '2024-01-02', '{t}', cascade => true);
SELECT * FROM asked();
SELECT flow_clear('raw', task_ids => '{t}', cascade => true);
SELECT DISTINCT ON (dag_id, day) * FROM asked() WHERE dag_id <> 'raw' ORDER BY dag_id DESC, day;
-- an asis DAG without intervals speaks by date
SELECT flow_create_dag('hand', NULL), flow_add_sql('hand', 't', 'SELECT 1');
INSERT INTO flow.dependency_manager VALUES ('hand', 'other');
SELECT count(make_run('hand', 'manual', 'success', '2024-01-03 10:00+00', '2024-01-03 10:00+00', 't=success'));
SELECT flow_clear('hand', cascade => true);
SELECT * FROM asked();
-- nothing cleared, nothing cascaded
SELECT flow_clear('raw', '2024-02-01', '2024-02-02', cascade => true);
SELECT * FROM asked();

SELECT e.* FROM unnest(ARRAY[
    $$flow_clear(NULL)$$,
    $$flow_clear('nothing')$$,
    $$flow_clear('shop', task_ids => '{b,nothing}')$$,
    $$flow_clear('shop', task_ids => '{}')$$,
    $$flow_clear('shop', task_ids => '{b,NULL}')$$,
    $$flow_clear('shop', '2024-01-02', '2024-01-01')$$,
    $$flow_clear('shop', '-infinity')$$,
    $$flow_clear('shop', NULL, 'infinity')$$
    ]) WITH ORDINALITY AS a (call, n), LATERAL error_of('SELECT ' || a.call) e ORDER BY n;
BEGIN TRANSACTION READ ONLY;
SELECT * FROM error_of($$SELECT flow_clear('shop')$$);
ROLLBACK;

-- flow_mark ------------------------------------------------------------------------

SELECT run_id AS failed FROM flow.dag_run WHERE dag_id = 'shop' AND state = 'failed' \gset
SELECT run_id AS running FROM flow.dag_run WHERE dag_id = 'shop' AND state = 'running' \gset
SELECT run_id AS queued FROM flow.dag_run WHERE dag_id = 'shop' AND state = 'queued' \gset
SELECT count(make_run('shop', 'manual', 'failed', '2024-01-09 00:00+09', '2024-01-10 00:00+09',
    'a=failed', 'b=upstream_failed', 'c=success', 'd=upstream_failed', 'e=failed'));
SELECT max(run_id) AS upstream FROM flow.dag_run \gset
-- what has failed for want of it runs again
SELECT flow_mark(:upstream, 'a', 'success');
SELECT flow_mark(:upstream, 'a', 'skipped');
SELECT flow_mark(:upstream, 'a', 'failed');
SELECT flow_mark(:failed, 'b', 'success');
SELECT flow_mark(:running, 'b', 'failed');
SELECT flow_mark(:queued, 'a', 'skipped');
SELECT * FROM asked();
SELECT e.* FROM unnest(ARRAY[
    format($$flow_mark(%s, 'a', 'running')$$, :failed),
    format($$flow_mark(%s, 'a', NULL)$$, :failed),
    format($$flow_mark(%s, 'nothing', 'success')$$, :failed),
    format($$flow_mark(%s, 'f', 'success')$$, :failed),
    format($$flow_mark(%s, NULL, 'success')$$, :failed),
    format($$flow_mark(%s, 'd', 'success')$$, :running),
    $$flow_mark(0, 'a', 'success')$$,
    $$flow_mark(NULL, 'a', 'success')$$
    ]) WITH ORDINALITY AS a (call, n), LATERAL error_of('SELECT ' || a.call) e ORDER BY n;
-- a run that is to run again has not ended
SELECT flow_wait_run(:failed, '0');
SELECT flow_clear('shop', '2024-01-04', '2024-01-04');
SELECT flow_wait_run(:failed, '10 milliseconds');
BEGIN;
SELECT flow_mark(:upstream, 'a', 'success');
SELECT * FROM error_of(format('SELECT flow_wait_run(%s)', :upstream));
ROLLBACK;
SELECT count(*) FROM asked();

-- flow_explain, waits_for ----------------------------------------------------------

-- Ids are masked.
CREATE FUNCTION explained(dag_id text) RETURNS TABLE (subject text, reason text)
LANGUAGE sql AS $$
    SELECT regexp_replace(e.subject, 'run \d+', 'run N'), regexp_replace(e.reason, '(run|way:|backfill) "?\d+"?', '\1 N', 'g')
    FROM flow_explain($1) e
$$;
SELECT * FROM explained('shop');
SELECT flow_resume('shop');
SELECT * FROM explained('shop') LIMIT 3;
SELECT * FROM explained('hand');
-- one without tasks, and one that is over
SELECT flow_create_dag('empty', '@daily'), flow_create_dag('over', '@once', start_date => '2024-01-01');
SELECT * FROM explained('empty');
SELECT flow_add_sql('over', 't', 'SELECT 1');
INSERT INTO flow.dag_progress VALUES ('over', '2024-01-01', '2024-01-01');
SELECT * FROM explained('over');
-- the next run
SELECT flow_create_dag('next', '@daily', start_date => '2024-06-01'), flow_add_sql('next', 't', 'SELECT 1');
SELECT * FROM explained('next');

-- queued runs: other DAGs, a paused backfill, a closed window, max_active_runs
INSERT INTO flow.coverage VALUES ('raw', '{[2024-02-01 00:00+00,2024-02-01 05:00+00)}'), ('shop', '{[2024-02-01 00:00+00,2024-02-02 00:00+00)}');
SELECT count(make_run('day', 'scheduled', 'queued', '2024-02-01', '2024-02-02')), count(make_run('other', 'scheduled', 'queued', '2024-02-01', '2024-02-02'));
SELECT * FROM explained('day');
SELECT flow_resume('day'), flow_resume('other');
SELECT * FROM explained('day');
SELECT * FROM explained('other');
SELECT dag_id, waits_for FROM flow.run_status WHERE dag_id IN ('day', 'other') AND state = 'queued' ORDER BY 1;
SELECT tobe_dag, asis_dag, satisfied FROM flow.dependency_status WHERE tobe_dag IN ('day', 'other') ORDER BY 1, 2;
SELECT flow_create_dag('filled', '@daily', start_date => '2024-03-01', is_paused => true), flow_add_sql('filled', 't', 'SELECT 1');
SELECT flow_backfill('filled', '2024-03-01', '2024-03-03', max_active_runs => 1) AS backfill \gset
SELECT * FROM explained('filled');
UPDATE flow.backfill SET state = 'paused' WHERE backfill_id = :backfill;
SELECT subject, reason FROM explained('filled') WHERE subject LIKE 'run%' LIMIT 1;
UPDATE flow.backfill SET state = 'running', run_window = '22:00-23:59' WHERE backfill_id = :backfill;
SELECT subject, reason FROM explained('filled') WHERE subject LIKE 'run%' LIMIT 1;
UPDATE flow.backfill SET run_window = '23:30-00:01' WHERE backfill_id = :backfill;
UPDATE flow.dag_run SET state = 'running', version = 1 WHERE dag_id = 'filled' AND logical_date = '2024-03-01';
SELECT subject, reason FROM explained('filled') WHERE subject LIKE 'run%';
SELECT logical_date, waits_for FROM flow.run_status WHERE dag_id = 'filled' ORDER BY 1;
-- more than can be listed
SELECT flow_create_dag('many', '@daily', start_date => '2024-03-01', max_active_runs => 1), flow_add_sql('many', 't', 'SELECT 1');
SELECT count(make_run('many', 'scheduled', 'queued', d, d + interval '1 day')) FROM generate_series('2024-03-01'::timestamptz, '2024-05-30', '1 day') d;
SELECT count(*), max(reason) FILTER (WHERE subject LIKE 'dag%') FROM explained('many') WHERE reason NOT LIKE 'runs from%';

-- tasks: upstream, trigger rules, retries, pokes, triggered runs, past runs, pools
SELECT flow_create_pool('narrow', 1);
SELECT flow_create_dag('deep', '@daily', start_date => '2024-04-01', end_date => '2024-04-02', is_paused => true);
SELECT flow_add_sql('deep', v.t, 'SELECT 1', upstream => v.u, trigger_rule => v.r, depends_on_past => v.t LIKE 'past%')
FROM (VALUES (1, 'a', '{}'::text[], 'all_success'), (2, 'b', '{}', 'all_success'), (3, 'c', '{a,b}', 'all_success'), (4, 'd', '{a,b,c}', 'all_done'),
    (5, 'e', '{a}', 'all_success'), (6, 'past1', '{}', 'all_success'), (7, 'past2', '{a}', 'all_success'), (8, 'one', '{a,b}', 'one_success')) v (n, t, u, r) ORDER BY n;
SELECT flow_add_sensor('deep', 'sensor', 'SELECT false');
SELECT flow_add_trigger('deep', 'starts', 'hand', wait => true);
SELECT count(make_run('deep', 'scheduled', 'failed', '2024-04-01', '2024-04-02', 'past1=failed', 'past2=success')),
    count(make_run('deep', 'scheduled', 'running', '2024-04-02', '2024-04-03', 'a=success', 'b=up_for_retry', 'sensor=up_for_reschedule', 'starts=up_for_reschedule', 'e='));
UPDATE flow.task_run SET retry_at = '2024-06-01 00:05+00', message = E'division by zero\nCONTEXT:  nowhere' WHERE state IN ('up_for_retry', 'up_for_reschedule');
UPDATE flow.task_run SET position = '17' WHERE task_id = 'starts';
SELECT * FROM explained('deep');
SELECT task_id, state, regexp_replace(waits_for, 'run: \d+', 'run: N') AS waits_for FROM flow.task_status WHERE dag_id = 'deep' AND run_state = 'running' ORDER BY 1;

SELECT e.* FROM unnest(ARRAY[$$flow_explain('nothing')$$, $$flow_explain(NULL)$$]) a (call), LATERAL error_of('SELECT ' || a.call) e;

-- flow_test_task --------------------------------------------------------------------

SET ROLE regress_act_owner;
CREATE TABLE act_written (task text, day date, who text);
SELECT flow_create_dag('trial', '@daily', start_date => '2024-01-01', timezone => 'Asia/Seoul', is_paused => true);
SELECT flow_add_sql('trial', 'writes', 'INSERT INTO act_written VALUES (run.task_id, run.ds, current_user);
    SELECT current_user AS who, current_setting(''timezone'') AS tz, run.data_interval_end, run.run_id, run.try_number, run.run_type');
SELECT flow_add_sql('trial', 'context', 'DO $$BEGIN INSERT INTO act_written SELECT task_id, ds, local_start::text FROM flow_context(); END$$');
SELECT flow_add_sql('trial', 'earlier', 'SELECT flow_result(''writes'') AS result', upstream => '{writes}');
SELECT flow_add_sql('trial', 'mistaken', 'SELECT flow_result(''nothing'')');
SELECT flow_add_sql('trial', 'outside', 'VACUUM act_written', in_transaction => false);
SELECT flow_add_sql('trial', 'nested', 'SELECT flow_test_task(''trial'', ''writes'')');
SELECT flow_add_check('trial', 'check', 'VALUES (''rows'', true, ''5''), (''nulls'', false, ''2 of 5'')');
SELECT flow_add_check('trial', 'warns', 'SELECT false', severity => 'warn');
SELECT flow_add_check('trial', 'holds', 'SELECT run.ds = ''2024-01-02''');
SELECT flow_add_sensor('trial', 'senses', 'SELECT run.ds = ''2024-01-02''');
SELECT flow_add_branch('trial', 'branch', 'SELECT CASE WHEN extract(isodow FROM run.ds) = 7 THEN ''sunday'' ELSE ''nowhere'' END');
SELECT flow_add_sql('trial', 'sunday', 'SELECT 1', upstream => '{branch}');
SELECT flow_add_retention('trial', 'cleans', 'act_written', 'day', '1 day');
CREATE TABLE act_target (id int PRIMARY KEY, total numeric);
SELECT flow_add_upsert('trial', 'upserts', 'SELECT i % 3 AS id, sum(i) AS total FROM generate_series(1, extract(day FROM run.ds)::int) i GROUP BY 1', 'act_target');
SELECT flow_create_dag('started', NULL), flow_add_sql('started', 't', 'SELECT 1');
SELECT flow_add_trigger('trial', 'starts', 'started');
RESET ROLE;

SET ROLE regress_act_owner;
SELECT flow_test_task('trial', 'writes', '2024-01-02 12:00');
RESET ROLE;
-- as the owner, also for a superuser
SELECT flow_test_task('trial', 'writes');
SELECT flow_test_task('trial', 'context', '2024-01-01');
SELECT * FROM act_written ORDER BY task, day;
SELECT flow_test_task('trial', 'earlier');
SELECT flow_test_task('trial', 'check'), flow_test_task('trial', 'warns'), flow_test_task('trial', 'holds', '2024-01-02');
SELECT flow_test_task('trial', 'senses', '2024-01-01'), flow_test_task('trial', 'senses', '2024-01-02');
SELECT flow_test_task('trial', 'branch', '2024-01-07');
SELECT flow_test_task('trial', 'starts');
-- an upsert is one page, whatever its source
SELECT flow_test_task('trial', 'upserts', '2024-01-02'), flow_test_task('trial', 'upserts', '2024-01-05'), flow_test_task('trial', 'upserts', '2024-01-05');
SELECT * FROM act_target ORDER BY id;
BEGIN;
SELECT flow_test_task('trial', 'cleans', '2024-05-31');
SELECT count(*) FROM act_written;
ROLLBACK;
-- nothing is recorded, and all is as it was
SELECT count(*) FROM act_written;
SELECT count(*) FROM flow.dag_run WHERE dag_id = 'trial';
SELECT current_user = session_user, current_setting('timezone'), flow_result('a'), (SELECT c IS NULL FROM flow_context() c);

SELECT e.code, e.message, e.hint FROM unnest(ARRAY[
    $$flow_test_task('nothing', 'a')$$,
    $$flow_test_task('trial', 'nothing')$$,
    $$flow_test_task('trial', NULL)$$,
    $$flow_test_task('trial', 'writes', 'infinity')$$,
    $$flow_test_task('trial', 'outside')$$,
    $$flow_test_task('trial', 'nested')$$,
    $$flow_test_task('trial', 'mistaken')$$,
    $$flow_test_task('trial', 'branch', '2024-01-06')$$
    ]) WITH ORDINALITY AS a (call, n), LATERAL error_of('SELECT ' || a.call) e ORDER BY n;
SELECT current_user = session_user, current_setting('timezone'), (SELECT c IS NULL FROM flow_context() c);

-- the owner of a DAG gets no rights by a superuser that tries its task
SET ROLE regress_act_owner;
CREATE TABLE act_deferred (i int);
CREATE FUNCTION act_rise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'trigger as %', current_user;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER rise AFTER INSERT ON act_deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION act_rise();
CREATE PROCEDURE act_commit() LANGUAGE plpgsql AS $$
BEGIN
    COMMIT;
END $$;
CREATE TEMPORARY TABLE tries (n int, command text);
INSERT INTO tries VALUES
    (1, 'RESET ROLE'), (2, 'SET ROLE regress_act_other'), (3, 'SET SESSION AUTHORIZATION DEFAULT'), (4, 'RESET SESSION AUTHORIZATION'),
    (5, 'DO $$BEGIN PERFORM set_config(''role'', ''none'', false); END$$'), (6, 'DISCARD ALL'), (7, 'CREATE TEMP TABLE t (i int)'),
    (8, 'PREPARE p AS SELECT 1'), (9, 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'), (10, 'LISTEN act'), (11, 'INSERT INTO act_deferred VALUES (1)'),
    (12, 'CALL act_commit()'), (13, 'VACUUM act_written'), (14, 'DO $$BEGIN PERFORM 1 FROM pg_catalog.pg_authid; END$$'),
    (15, 'ALTER ROLE regress_act_owner SUPERUSER'), (16, 'SET flowpg.check_definitions = off; SET search_path = pg_temp; SET work_mem = ''77kB''; SELECT 1');
SELECT count(flow_add_sql('trial', 'try ' || n, command)) FROM tries;
RESET ROLE;
SELECT n, command, e.code FROM tries, LATERAL error_of(format('SELECT flow_test_task(''trial'', %L)', 'try ' || n)) e ORDER BY n;
SELECT current_user = session_user, current_setting('search_path'), current_setting('work_mem') <> '77kB';
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_act_owner';
-- what it makes is its own
SET ROLE regress_act_owner;
SELECT flow_add_sql('trial', 'makes', 'CREATE FUNCTION public.act_made() RETURNS text LANGUAGE sql SECURITY DEFINER AS ''SELECT current_user::text''');
RESET ROLE;
SELECT flow_test_task('trial', 'makes');
SELECT act_made();
-- others see nothing of it
SET ROLE regress_act_other;
SELECT e.* FROM unnest(ARRAY[
    $$flow_clear('trial')$$, $$flow_explain('trial')$$, $$flow_test_task('trial', 'writes')$$,
    format($$flow_mark(%s, 'a', 'success')$$, :failed), format($$flow.run_waits_for(%s)$$, :queued), format($$flow.task_waits_for(%s, 'a')$$, :queued)
    ]) WITH ORDINALITY AS a (call, n), LATERAL error_of('SELECT ' || a.call) e ORDER BY n;
SELECT flow.run_waits_for(:queued), flow.task_waits_for(:queued, 'a');
SELECT count(*) FROM flow.callback_status;
RESET ROLE;

-- callbacks, seen with their runs
INSERT INTO flow.callback (run_id, run_state, state, try_number, queued_at, message) VALUES (:failed, 'failed', 'failed', 1, '2024-01-04', 'no mail');
SELECT dag_id, callback, state, try_number, message FROM flow.callback_status;
SET ROLE regress_act_owner;
SELECT count(*) FROM flow.callback;
RESET ROLE;

SET client_min_messages = warning;
DROP EXTENSION flowpg CASCADE;
DROP FUNCTION error_of, make_run, asked, explained, act_made, act_rise CASCADE;
DROP PROCEDURE act_commit;
DROP TABLE act_written, act_deferred, act_target, tries;
REVOKE CREATE ON SCHEMA public FROM regress_act_owner;
DROP ROLE regress_act_owner, regress_act_other;
