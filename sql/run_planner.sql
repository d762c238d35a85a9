-- Which runs there should be: by schedule (flow_due_runs), by a backfill
-- (flow_preview_backfill, flow_backfill), by hand (flow_trigger).  Nothing
-- runs here: flowpg.enabled is off and the time stands at 2024-06-01 00:00 UTC.
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS flowpg CASCADE;
CREATE EXTENSION flowpg;
RESET client_min_messages;
SHOW flowpg.enabled;
SELECT flow.clock_now();

-- What a statement raises, with its SQLSTATE; ids are masked.
CREATE FUNCTION error_of(statement text) RETURNS TABLE (code text, message text, hint text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN QUERY SELECT 'none', 'no error', '';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    message := regexp_replace(message, '(run|backfill) \d+', '\1 N');
    RETURN NEXT;
END $$;

-- A DAG with one task.
CREATE PROCEDURE make_dag(dag_id text, schedule text, start_date timestamp,
    timezone text DEFAULT NULL, catchup boolean DEFAULT NULL, end_date timestamp DEFAULT NULL,
    depends_on_past boolean DEFAULT false)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM flow_create_dag(make_dag.dag_id, schedule => make_dag.schedule, start_date => make_dag.start_date,
        end_date => make_dag.end_date, timezone => make_dag.timezone, catchup => make_dag.catchup,
        depends_on_past => make_dag.depends_on_past);
    PERFORM flow_add_sql(make_dag.dag_id, 't', 'SELECT 1');
END $$;

-- A run that is there.
CREATE PROCEDURE make_run(dag_id text, run_type text, state text, from_ts timestamptz, until_ts timestamptz)
LANGUAGE sql AS $$
    INSERT INTO flow.dag_run (dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at)
    VALUES ($1, $2, $4, $4, $5, $3, $4)
$$;

-- By schedule ----------------------------------------------------------------

-- a daily load from 2020-11-07 on runs first on 2020-11-08, for 2020-11-07
CALL make_dag('daily', '@daily', '2020-11-07');
SELECT * FROM flow_due_runs('daily', '2020-11-07 23:59:59.999999+00');
SELECT * FROM flow_due_runs('daily', '2020-11-08 00:00+00');

-- switched on late, with catchup: all that was missed
CALL make_dag('at_two', '0 2 * * *', '2020-08-10 02:00', catchup => true);
SELECT * FROM flow_due_runs('at_two', '2020-08-13 20:00+00');
-- without: the latest complete one
CALL make_dag('at_two_latest', '0 2 * * *', '2020-08-10 02:00', catchup => false);
SELECT * FROM flow_due_runs('at_two_latest', '2020-08-13 20:00+00');
-- a start between two ticks is rounded up
CALL make_dag('at_two_later', '0 2 * * *', '2020-08-10 02:01');
SELECT * FROM flow_due_runs('at_two_later', '2020-08-12 20:00+00');

-- every ten minutes from 10:00 on: the first run starts at 10:10
CALL make_dag('ten_minutes', '10 minutes', '2020-01-01 10:00');
SELECT * FROM flow_due_runs('ten_minutes', '2020-01-01 10:09:59+00');
SELECT * FROM flow_due_runs('ten_minutes', '2020-01-01 10:10+00');

-- switched on just before a tick: the third one is due at the tick
CALL make_dag('ten_cron', '*/10 * * * *', '2021-10-28 22:00');
SELECT * FROM flow_due_runs('ten_cron', '2021-10-28 22:29:59.9+00');
SELECT * FROM flow_due_runs('ten_cron', '2021-10-28 22:30+00');

-- paused after days 1 and 2, looked at on day 5: goes on from the last run
CALL make_dag('paused', '@daily', '2024-03-01', catchup => true);
INSERT INTO flow.dag_progress VALUES ('paused', '2024-03-02', '2024-03-03');
SELECT flow_pause('paused');
SELECT * FROM flow_due_runs('paused', '2024-03-05 12:00+00');
-- what was missed is skipped where the DAG is resumed so
UPDATE flow.dag SET resumed_at = '2024-03-04 12:00+00' WHERE dag_id = 'paused';
SELECT * FROM flow_due_runs('paused', '2024-03-05 12:00+00');
-- resumed at the very end of an interval: that one has ended
UPDATE flow.dag SET resumed_at = '2024-03-05 00:00+00' WHERE dag_id = 'paused';
SELECT * FROM flow_due_runs('paused', '2024-03-06 12:00+00');
-- a day that a backfill has made is not made again
UPDATE flow.dag SET resumed_at = NULL WHERE dag_id = 'paused';
CALL make_run('paused', 'backfill', 'failed', '2024-03-04', '2024-03-05');
CALL make_run('paused', 'manual', 'success', '2024-03-03', '2024-03-04');
SELECT * FROM flow_due_runs('paused', '2024-03-06 12:00+00');

-- end_date is the last interval start; midnight means that whole day
CALL make_dag('ends', '0 */12 * * *', '2024-01-01', end_date => '2024-01-02');
SELECT * FROM flow_due_runs('ends', '2024-02-01+00');
CALL make_dag('ends_at', '0 */12 * * *', '2024-01-01', end_date => '2024-01-02 11:00');
SELECT * FROM flow_due_runs('ends_at', '2024-02-01+00');

-- after a change of schedule the next interval is the new one's, aligned down
CALL make_dag('changed', '0 6 * * *', '2024-01-01');
INSERT INTO flow.dag_progress VALUES ('changed', '2024-01-04', '2024-01-05');
SELECT * FROM flow_due_runs('changed', '2024-01-06 12:00+00');

-- days of 23 and 25 hours, and hours on them
CALL make_dag('zurich', '@daily', '2024-03-30', timezone => 'Europe/Zurich');
SELECT data_interval_start, data_interval_end, data_interval_end - data_interval_start AS length
FROM flow_due_runs('zurich', '2024-04-01 12:00+00');
CALL make_dag('zurich_hours', '@hourly', '2023-10-29', timezone => 'Europe/Zurich');
SELECT count(*), min(data_interval_end - data_interval_start) AS shortest, max(data_interval_end - data_interval_start) AS longest
FROM flow_due_runs('zurich_hours', '2023-10-29 23:00+00');
CALL make_dag('zurich_gap', '30 2 * * *', '2024-03-30', timezone => 'Europe/Zurich');
SELECT * FROM flow_due_runs('zurich_gap', '2024-04-01 12:00+00');

-- once, continuously, never
CALL make_dag('once', '@once', '2024-02-01 10:00');
SELECT * FROM flow_due_runs('once', '2024-02-01 09:59+00');
SELECT * FROM flow_due_runs('once', '2024-02-01 10:00+00');
CALL make_dag('continuous', '@continuous', '2024-02-01 10:00');
SELECT * FROM flow_due_runs('continuous', '2024-02-01 10:07+00');
CALL make_dag('by_hand', NULL, '2024-02-01');
SELECT * FROM flow_due_runs('by_hand', '2024-06-01+00');
-- without tasks there are no runs
SELECT flow_create_dag('empty', schedule => '@daily', start_date => '2024-01-01');
SELECT * FROM flow_due_runs('empty', '2024-01-05+00');

SELECT dag_id, next_run_at, lag FROM flow.dag_status
WHERE dag_id IN ('at_two_latest', 'ends', 'paused', 'by_hand', 'zurich', 'empty') ORDER BY dag_id;

SELECT * FROM error_of($$SELECT flow_due_runs('nobody', now())$$);
SELECT * FROM error_of($$SELECT flow_due_runs('daily', NULL)$$);
SELECT * FROM error_of($$SELECT flow_due_runs('daily', 'infinity')$$);

-- By a backfill: which intervals -------------------------------------------------

CALL make_dag('b_daily', '@daily', '2024-05-01');
CALL make_dag('b_hourly', '@hourly', '2024-05-01');
SELECT count(*), min(data_interval_start), max(data_interval_end)
FROM flow_preview_backfill('b_daily', '2024-01-01', '2024-01-31');
SELECT count(*), min(data_interval_start), max(data_interval_end)
FROM flow_preview_backfill('b_hourly', '2024-01-01', '2024-01-31');
-- both ends included; the start may lie before start_date
SELECT * FROM flow_preview_backfill('b_daily', '2024-01-30', '2024-01-31');
SELECT * FROM flow_preview_backfill('b_daily', '2024-01-30', '2024-01-31', run_backwards => true);
-- only what has ended: the day that ends now has, the next has not
SELECT * FROM flow_preview_backfill('b_daily', '2024-05-30', '2024-06-30');
SELECT * FROM flow_preview_backfill('at_two', '2024-05-30', '2024-06-30');
-- an interval belongs to the date on which it starts
CALL make_dag('b_weekly', '@weekly', '2024-01-07');
SELECT * FROM flow_preview_backfill('b_weekly', '2024-01-08', '2024-01-21');
SELECT * FROM flow_preview_backfill('b_weekly', '2024-01-08', '2024-01-13');
-- days of the DAG's timezone, of 24, 23 and 25 hours
CALL make_dag('b_zurich', '@hourly', '2024-01-01', timezone => 'Europe/Zurich');
SELECT d::date, count(*), min(p.data_interval_start), max(p.data_interval_end)
FROM unnest(ARRAY['2024-03-30', '2024-03-31', '2023-10-29']::date[]) d,
    LATERAL flow_preview_backfill('b_zurich', d, d) p GROUP BY d ORDER BY d;
-- midnight that comes twice, and that does not come at all
CALL make_dag('b_havana', '@hourly', '2024-01-01', timezone => 'America/Havana');
SELECT d::date, count(*), min(p.data_interval_start), max(p.data_interval_end)
FROM unnest(ARRAY['2023-11-04', '2023-11-05', '2024-03-10']::date[]) d,
    LATERAL flow_preview_backfill('b_havana', d, d) p GROUP BY d ORDER BY d;
-- Seoul's day begins at 15:00 UTC
CALL make_dag('b_seoul', '@daily', '2024-01-01', timezone => 'Asia/Seoul');
SELECT * FROM flow_preview_backfill('b_seoul', '2024-01-01', '2024-01-01');

-- a span is exact, its bounds as given
SELECT * FROM flow_preview_backfill('b_hourly', span => '[2024-01-01 00:00+00,2024-01-01 02:00+00)');
SELECT * FROM flow_preview_backfill('b_hourly', span => '[2024-01-01 00:00+00,2024-01-01 02:00+00]');
SELECT * FROM flow_preview_backfill('b_hourly', span => '(2024-01-01 00:00+00,2024-01-01 02:00+00)');
SELECT * FROM flow_preview_backfill('b_hourly', span => '[2024-01-01 00:30+00,2024-01-01 01:30+00)');
SELECT * FROM flow_preview_backfill('b_hourly', span => '[2024-01-01 00:30+00,2024-01-01 00:40+00)');

-- chunks are counted from the range's first interval
SELECT *, data_interval_end - data_interval_start AS length
FROM flow_preview_backfill('b_daily', '2024-01-01', '2024-01-31', chunk => '7 days');
SELECT * FROM flow_preview_backfill('b_hourly', '2024-01-01', '2024-01-01', chunk => '6 hours');
SELECT * FROM flow_preview_backfill('b_daily', '2024-01-31', '2024-04-10', chunk => '1 month');
-- shorter than an interval: each interval by itself
SELECT * FROM flow_preview_backfill('b_daily', '2024-01-01', '2024-01-02', chunk => '1 hour');
-- across a change of daylight saving time days are days
SELECT * FROM flow_preview_backfill('b_zurich', '2024-03-30', '2024-04-01', chunk => '1 day');

-- By a backfill: runs that are there ----------------------------------------------

-- the decisions for each state of the run that is there
CALL make_dag('b_states', '@daily', '2024-01-01');
INSERT INTO flow.dag_run (dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at)
SELECT 'b_states', 'scheduled', day, day, day + interval '1 day', state, day
FROM (SELECT state, '2024-01-01'::timestamptz + n * interval '1 day' AS day
    FROM unnest(ARRAY['queued', 'running', 'success', 'failed', 'cancelled']) WITH ORDINALITY AS s (state, n)) d;
-- runs by hand and those that a task asked for do not stand for an interval
CALL make_run('b_states', 'manual', 'success', '2024-01-01', '2024-01-02');
INSERT INTO flow.dag_run (dag_id, run_type, logical_date, data_interval_start, data_interval_end, state, queued_at, parent_run_id)
VALUES ('b_states', 'triggered', '2024-01-01', '2024-01-01', '2024-01-02', 'success', now(), 1);
SELECT coalesce(r.state, '<no run>') AS existing, b.reprocess, p.action
FROM unnest(ARRAY['none', 'failed', 'completed']) b (reprocess),
    LATERAL flow_preview_backfill('b_states', '2024-01-01', '2024-01-06', reprocess => b.reprocess) p
    LEFT JOIN flow.dag_run r ON r.dag_id = 'b_states' AND r.logical_date = p.logical_date AND r.run_type = 'scheduled'
ORDER BY p.logical_date, b.reprocess;

-- an interval exists if a run covers it
CALL make_dag('b_covered', '@daily', '2024-01-01');
CALL make_run('b_covered', 'backfill', 'success', '2024-01-02', '2024-01-05');
CALL make_run('b_covered', 'backfill', 'failed', '2024-01-06', '2024-01-09');
SELECT * FROM flow_preview_backfill('b_covered', '2024-01-01', '2024-01-09');
-- chunks go round what is there
SELECT * FROM flow_preview_backfill('b_covered', '2024-01-01', '2024-01-12', chunk => '7 days');
-- a run of the same logical date that covers less stands for it all the same
CALL make_dag('b_shorter', '@daily', '2024-01-01');
CALL make_run('b_shorter', 'scheduled', 'success', '2024-01-02 00:00+00', '2024-01-02 01:00+00');
CALL make_run('b_shorter', 'scheduled', 'success', '2024-01-02 01:00+00', '2024-01-02 02:00+00');
SELECT * FROM flow_preview_backfill('b_shorter', '2024-01-01', '2024-01-03');

-- DAGs without a schedule ------------------------------------------------------------

CALL make_dag('s_a', '@hourly', '2024-01-01');
CALL make_dag('s_b', '@daily', '2024-01-01', timezone => 'Asia/Seoul');
CALL make_dag('s_tobe', NULL, '2024-01-01');
CALL make_dag('s_tobe2', NULL, '2024-01-01');
SELECT flow_add_dependency('s_a', 's_tobe');
SELECT flow_add_dependency('s_b', 's_tobe');
SELECT flow_add_dependency('s_tobe', 's_tobe2');
-- their intervals are those of the coarsest asis, in its timezone, also from afar
SELECT * FROM flow_preview_backfill('s_tobe', '2024-01-01', '2024-01-02');
SELECT * FROM flow_preview_backfill('s_tobe2', '2024-01-01', '2024-01-02');
SELECT dag_id, flow.speaks_by_date(dag_id), i.*
FROM unnest(ARRAY['s_a', 's_b', 's_tobe', 's_tobe2', 'by_hand', 'once', 'outside']) dag_id,
    LATERAL flow.interval_at(dag_id, '2024-01-01 20:30+00') i ORDER BY dag_id;
-- where all asis speak by date: once a date
CALL make_dag('s_by_date', NULL, '2024-01-01', timezone => 'Asia/Seoul');
INSERT INTO flow.dependency_manager VALUES ('outside', 's_by_date');
SELECT * FROM flow_preview_backfill('s_by_date', '2024-01-01', '2024-01-02');
-- without asis DAGs: a span is one run, or is cut into chunks
SELECT * FROM flow_preview_backfill('by_hand', span => '[2024-01-01 00:30+00,2024-01-03 01:00+00)');
SELECT * FROM flow_preview_backfill('by_hand', span => '[2024-01-01 00:30+00,2024-01-03 01:00+00)', chunk => '1 day');
SELECT * FROM error_of($$SELECT flow_backfill('by_hand', '2024-01-01', '2024-01-02')$$);
SELECT * FROM error_of($$SELECT flow_backfill('by_hand', span => '[2024-05-31 00:00+00,2024-06-01 00:01+00)')$$);

-- Errors -------------------------------------------------------------------------------

SELECT e.* FROM unnest(ARRAY[
    $$'nobody', '2024-01-01', '2024-01-02'$$,
    $$NULL, '2024-01-01', '2024-01-02'$$,
    $$'empty', '2024-01-01', '2024-01-02'$$,
    $$'once', '2024-02-01', '2024-02-01'$$,
    $$'continuous', '2024-02-01', '2024-02-01'$$,
    $$'b_daily'$$,
    $$'b_daily', '2024-01-01'$$,
    $$'b_daily', '2024-01-02', '2024-01-01'$$,
    $$'b_daily', '-infinity', '2024-01-01'$$,
    $$'b_daily', '2024-06-01', '2024-06-05'$$,
    $$'b_daily', '2024-01-01', '2024-01-02', span => '[2024-01-01,2024-01-02)'$$,
    $$'b_daily', span => 'empty'$$,
    $$'b_daily', span => '[2024-01-01,)'$$,
    $$'b_daily', span => '(2024-01-01,2024-01-01 00:00:00.000001)'$$,
    $$'b_daily', '2024-01-01', '2024-01-02', reprocess => 'all'$$,
    $$'b_daily', '2024-01-01', '2024-01-02', max_active_runs => 0$$,
    $$'b_daily', '2024-01-01', '2024-01-02', chunk => '-1 day'$$,
    $$'b_daily', '2024-01-01', '2024-01-02', run_window => '22-6'$$,
    $$'b_daily', '2024-01-01', '2024-01-02', run_window => '22:00-24:00'$$,
    $$'b_daily', '2024-01-01', '2024-01-02', run_window => '22:00-22:00'$$,
    $$'b_daily', '2024-01-01', '2024-01-02', conf => '[1]'$$
    ]) WITH ORDINALITY AS a (arguments, n),
    LATERAL error_of(format('SELECT * FROM flow_preview_backfill(%s)', a.arguments)) e
ORDER BY n;

-- tasks that depend on past runs
CALL make_dag('b_past', '@daily', '2024-01-01', depends_on_past => true);
SELECT r, b, e.* FROM unnest(ARRAY['none', 'failed', 'completed']) r, unnest(ARRAY[false, true]) b,
    LATERAL error_of(format('SELECT flow_preview_backfill(%L, %L, %L, reprocess => %L, run_backwards => %L)',
        'b_past', '2024-01-01', '2024-01-02', r, b)) e ORDER BY b, r;
SELECT count(*) FROM flow_preview_backfill('b_past', '2024-01-01', '2024-01-02', reprocess => 'none',
    run_backwards => true, ignore_depends_on_past => true);

-- What a backfill writes ------------------------------------------------------------------

CREATE VIEW last_backfill AS
SELECT br.ordinal, r.dag_id, r.run_type, r.state, r.data_interval_start, r.data_interval_end, br.action, r.conf,
    r.backfill_id = br.backfill_id AS is_its
FROM flow.backfill_run br JOIN flow.dag_run r USING (run_id)
WHERE br.backfill_id = (SELECT max(backfill_id) FROM flow.backfill);

SELECT flow_backfill('b_states', '2024-01-01', '2024-01-07', reprocess => 'failed', run_backwards => true,
    max_active_runs => 3, run_window => '22:00-06:00', conf => '{"full": true}', stop_on_failure => true) IS NOT NULL;
SELECT dag_id, from_date, to_date, span, reprocess, state, max_active_runs, run_backwards, is_cascading, stop_on_failure,
    run_window, priority, conf, requested_by = current_user::regrole AS is_own
FROM flow.backfill ORDER BY backfill_id DESC LIMIT 1;
SELECT * FROM last_backfill ORDER BY ordinal;
SELECT kind, dag_id, backfill_id IS NOT NULL AS has_backfill FROM flow.request ORDER BY request_id DESC LIMIT 1;
SELECT state, total, success, failed, running, pending, percent, eta FROM flow.backfill_status ORDER BY backfill_id DESC LIMIT 1;
-- what is queued now is in progress
SELECT logical_date, action FROM flow_preview_backfill('b_states', '2024-01-07', '2024-01-07', reprocess => 'completed');
-- several intervals that one run covers are rerun by that run
SELECT flow_backfill('b_covered', '2024-01-01', '2024-01-09', reprocess => 'completed') IS NOT NULL;
SELECT * FROM last_backfill ORDER BY ordinal;

-- Cascade: c_raw (hourly) -> c_day (daily) -> c_report (no schedule) -> c_week, and c_raw -> c_report
CALL make_dag('c_raw', '@hourly', '2024-01-01');
CALL make_dag('c_day', '@daily', '2024-01-01');
CALL make_dag('c_report', NULL, '2024-01-01');
CALL make_dag('c_week', '@weekly', '2024-01-01');
CALL make_dag('c_other', '@daily', '2024-01-01');
SELECT flow_add_dependency(a, t) FROM (VALUES ('c_raw', 'c_day'), ('c_day', 'c_report'), ('c_raw', 'c_report'),
    ('c_report', 'c_week'), ('c_other', 'c_week')) d (a, t);
-- days 1 and 2 are there, of both; day 2's report has not ended; the week is there
CALL make_run('c_day', 'scheduled', 'success', '2024-05-19', '2024-05-20');
CALL make_run('c_day', 'scheduled', 'success', '2024-05-20', '2024-05-21');
CALL make_run('c_report', 'triggered', 'success', '2024-05-19', '2024-05-20');
CALL make_run('c_report', 'triggered', 'running', '2024-05-20', '2024-05-21');
CALL make_run('c_week', 'scheduled', 'success', '2024-05-19', '2024-05-26');
-- raw is complete but for what the backfill brings
INSERT INTO flow.coverage VALUES ('c_raw', '{[2024-05-19, 2024-05-21), [2024-05-21 12:00, 2024-05-22)}');
SELECT flow_backfill('c_raw', span => '[2024-05-19 22:00+00,2024-05-21 12:00+00)') IS NOT NULL;
SELECT dag_id, count(*), min(data_interval_start), max(data_interval_end), min(ordinal), max(ordinal)
FROM last_backfill WHERE dag_id = 'c_raw' GROUP BY dag_id;
SELECT * FROM last_backfill WHERE dag_id <> 'c_raw' ORDER BY ordinal;
SELECT tobe_dag, asis_dag, data_interval_start, data_interval_end, satisfied, run_id IS NOT NULL AS has_run
FROM flow.dependency_status WHERE tobe_dag LIKE 'c\_%' ORDER BY 1, 2, 3;
-- without cascade, and where nothing of the DAG itself is run
SELECT flow_backfill('c_raw', span => '[2024-05-10 22:00+00,2024-05-11 00:00+00)', cascade => false) IS NOT NULL;
SELECT dag_id, data_interval_start, action FROM last_backfill ORDER BY ordinal;
SELECT flow_backfill('c_raw', span => '[2024-05-10 22:00+00,2024-05-11 00:00+00)') IS NOT NULL;
SELECT count(*) FROM last_backfill;
-- a day that stays incomplete makes no run that would wait for ever
SELECT flow_backfill('c_raw', span => '[2024-05-01 00:00+00,2024-05-01 02:00+00)') IS NOT NULL;
SELECT dag_id, data_interval_start, action FROM last_backfill ORDER BY ordinal;
-- one that speaks by date: the interval that ends on its date
CALL make_dag('c_hand', NULL, '2024-01-01');
CALL make_dag('c_after_hand', '@daily', '2024-01-01', timezone => 'Asia/Seoul');
SELECT flow_add_dependency('c_hand', 'c_after_hand');
SELECT flow_backfill('c_hand', span => '[2024-05-01 00:00+00,2024-05-08 10:00+00)') IS NOT NULL;
SELECT ordinal, dag_id, data_interval_start, data_interval_end, action FROM last_backfill ORDER BY ordinal;

-- pause, resume, cancel
SELECT flow_pause_backfill(max(backfill_id)) FROM flow.backfill;
SELECT flow_resume_backfill(max(backfill_id)) FROM flow.backfill;
SELECT flow_cancel_backfill(max(backfill_id)) FROM flow.backfill;
SELECT kind FROM (SELECT request_id, kind FROM flow.request ORDER BY request_id DESC LIMIT 3) r ORDER BY request_id;
UPDATE flow.backfill SET state = 'success', ended_at = created_at WHERE backfill_id = (SELECT max(backfill_id) FROM flow.backfill);
SELECT e.* FROM unnest(ARRAY['pause', 'resume', 'cancel']) a,
    LATERAL error_of(format('SELECT flow_%s_backfill((SELECT max(backfill_id) FROM flow.backfill))', a)) e;
SELECT e.* FROM unnest(ARRAY['0', 'NULL']) a, LATERAL error_of(format('SELECT flow_pause_backfill(%s)', a)) e;
-- waiting: ended already; not within the timeout; asked for by the same transaction
SELECT max(backfill_id) AS ended, max(backfill_id) - 1 AS unfinished FROM flow.backfill \gset
SET client_min_messages = warning;
CALL flow_wait_backfill(:ended);
CALL flow_wait_backfill(:unfinished, '10 milliseconds');
BEGIN;
CALL flow_wait_backfill(:ended);
SELECT flow_backfill('c_raw', '2024-04-01', '2024-04-01', cascade => false) AS own \gset
\set VERBOSITY sqlstate
CALL flow_wait_backfill(:own);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL flow_wait_backfill(:unfinished);
ROLLBACK;
CALL flow_wait_backfill(0);
\set VERBOSITY default
RESET client_min_messages;

-- By hand ----------------------------------------------------------------------------------

CREATE VIEW last_run AS
SELECT dag_id, run_type, state, logical_date, data_interval_start, data_interval_end, conf
FROM flow.dag_run ORDER BY run_id DESC LIMIT 1;
-- the latest complete interval; the one that contains the moment, of the DAG's clock
SELECT flow_trigger('b_daily') IS NOT NULL;
SELECT * FROM last_run;
SELECT flow_trigger('b_seoul', '2024-01-01 12:00', '{"a": 1}') IS NOT NULL;
SELECT * FROM last_run;
SELECT flow_trigger('b_zurich', '2024-03-31 02:30') IS NOT NULL;
SELECT * FROM last_run;
SELECT flow_trigger('s_tobe', '2024-01-01 20:00') IS NOT NULL;
SELECT * FROM last_run;
-- without a schedule: the moment
SELECT flow_trigger('by_hand') IS NOT NULL;
SELECT * FROM last_run;
SELECT flow_trigger('by_hand', logical_date => '2024-01-01 12:00') IS NOT NULL;
SELECT * FROM last_run;
-- as many as asked for
SELECT flow_trigger('b_daily') IS NOT NULL FROM generate_series(1, 2);
SELECT count(*) FROM flow.dag_run WHERE dag_id = 'b_daily' AND run_type = 'manual';
SELECT e.* FROM unnest(ARRAY[$$'nobody'$$, $$'empty'$$, $$'b_daily', 'infinity'$$, $$'b_daily', conf => '1'$$])
    WITH ORDINALITY AS a (arguments, n), LATERAL error_of(format('SELECT flow_trigger(%s)', a.arguments)) e ORDER BY n;

-- waiting and cancelling
SELECT flow_wait_run((SELECT max(run_id) FROM flow.dag_run WHERE dag_id = 'b_daily'), '0');
SELECT flow_wait_run((SELECT max(run_id) FROM flow.dag_run WHERE dag_id = 'b_daily'), '10 milliseconds');
SELECT flow_wait_run((SELECT run_id FROM flow.dag_run WHERE dag_id = 'b_states' AND state = 'failed'));
SELECT flow_cancel_run((SELECT max(run_id) FROM flow.dag_run WHERE dag_id = 'b_daily'));
SELECT kind, dag_id FROM flow.request ORDER BY request_id DESC LIMIT 1;
SELECT e.* FROM unnest(ARRAY[
    $$flow_wait_run(0)$$,
    $$flow_wait_run(NULL)$$,
    $$flow_wait_run(flow_trigger('b_daily'))$$,
    $$flow_wait_run((SELECT max(run_id) FROM flow.dag_run), '-1 second')$$,
    $$flow_cancel_run(0)$$,
    $$flow_cancel_run((SELECT run_id FROM flow.dag_run WHERE dag_id = 'b_states' AND state = 'failed'))$$
    ]) WITH ORDINALITY AS a (call, n), LATERAL error_of('SELECT ' || a.call) e ORDER BY n;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM error_of($$SELECT flow_wait_run((SELECT max(run_id) FROM flow.dag_run), '1 second')$$);
ROLLBACK;

-- Views ------------------------------------------------------------------------------------

SELECT dag_id, state, tasks_done, tasks_total, duration FROM flow.run_status
WHERE dag_id = 'by_hand' ORDER BY run_id;
SELECT dag_id, task_id, map_index, state, waits_for FROM flow.task_status
WHERE dag_id IN ('by_hand', 'c_day') AND run_state = 'queued' ORDER BY run_id;
-- a run under way: what has begun, what waits and for what
INSERT INTO flow.task_version (dag_id, version, task_id, operator, trigger_rule, params, upstream, retries, retry_delay,
    retry_exponential_backoff, pool, pool_slots, priority_weight, depends_on_past)
SELECT 'b_past', 1, t, 'sql', 'all_success', '{}', u, 0, '0', false, 'default', 1, 1, t = 'f'
FROM (VALUES ('a', '{}'::text[]), ('b', '{}'), ('c', '{a}'), ('d', '{b,a}'), ('e', '{}'), ('f', '{a}'), ('g', '{a}')) v (t, u);
CALL make_run('b_past', 'scheduled', 'success', '2024-01-01', '2024-01-02');
CALL make_run('b_past', 'scheduled', 'running', '2024-01-02', '2024-01-03');
UPDATE flow.dag_run SET version = 1, started_at = queued_at WHERE dag_id = 'b_past' AND state = 'running';
INSERT INTO flow.task_run (run_id, dag_id, task_id, try_number, state, started_at, ended_at, rows_written, retry_at)
SELECT run_id, dag_id, v.* FROM flow.dag_run, (VALUES
    ('a', 2, 'success', '2024-01-03 00:00+00'::timestamptz, '2024-01-03 00:01+00'::timestamptz, 7, NULL::timestamptz),
    ('b', 1, 'up_for_retry', '2024-01-03 00:00+00', '2024-01-03 00:02+00', 0, '2024-01-03 00:07+00'),
    ('e', 1, 'queued', NULL, NULL, 0, NULL),
    ('gone', 1, 'removed', '2024-01-03 00:00+00', '2024-01-03 00:00+00', 1, NULL)) v
WHERE dag_id = 'b_past' AND dag_run.state = 'running';
INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, try_number, state, started_at, ended_at, sqlstate, message)
SELECT run_id, dag_id, 'a', -1, 1, 'failed', queued_at, queued_at, '22012', 'division by zero'
FROM flow.dag_run WHERE dag_id = 'b_past' AND state = 'running';
SELECT task_id, state, try_number, CASE WHEN ended_at IS NOT NULL THEN duration END AS duration, rows_written, pages,
    regexp_replace(waits_for, 'run: \d+', 'run: N') AS waits_for
FROM flow.task_status WHERE dag_id = 'b_past' AND run_state = 'running' ORDER BY task_id;
SELECT task_id, try_number, state, sqlstate, message FROM flow.task_attempt WHERE dag_id = 'b_past' ORDER BY 1, 2;
SELECT run_type, state, tasks_done, tasks_total FROM flow.run_status WHERE dag_id = 'b_past' ORDER BY logical_date;
SELECT * FROM flow.dag_stats WHERE dag_id = 'b_past';
SELECT dag_id, last_run_state, last_logical_date, queued, running, success, failed
FROM flow.dag_status WHERE dag_id IN ('b_past', 'b_states') ORDER BY dag_id;
-- a backfill under way: a run that was there counts once the backfill has it
SELECT max(backfill_id) AS id FROM flow.backfill WHERE dag_id = 'b_covered' \gset
UPDATE flow.backfill SET state = 'running' WHERE backfill_id = :id;
SELECT state, total, success, failed, running, pending, percent, eta FROM flow.backfill_status WHERE backfill_id = :id;
UPDATE flow.dag_run SET backfill_id = :id, state = 'failed' WHERE dag_id = 'b_covered' AND logical_date = '2024-01-02';
UPDATE flow.dag_run SET state = 'success', started_at = '2024-01-02 00:00:00+00', ended_at = '2024-01-02 00:00:10+00'
WHERE dag_id = 'b_covered' AND logical_date = '2024-01-01';
UPDATE flow.dag_run SET state = 'running' WHERE dag_id = 'b_covered' AND logical_date = '2024-01-05';
SELECT state, total, success, failed, running, pending, percent, eta FROM flow.backfill_status WHERE backfill_id = :id;
UPDATE flow.dag_run SET state = 'running', backfill_id = :id
WHERE run_id = (SELECT max(run_id) FROM flow.backfill_run JOIN flow.dag_run r USING (run_id) WHERE backfill_run.backfill_id = :id AND r.state <> 'running');
SELECT state, total, success, failed, running, pending, percent, eta FROM flow.backfill_status WHERE backfill_id = :id;
-- a DAG without a schedule shows the interval that one asis has and the other has not
SELECT tobe_dag, asis_dag, data_interval_start, data_interval_end, satisfied FROM flow.dependency_status WHERE tobe_dag = 's_tobe';
CALL make_run('s_a', 'scheduled', 'success', '2024-05-01 20:00+00', '2024-05-01 21:00+00');
INSERT INTO flow.coverage VALUES ('s_a', '{[2024-05-01 20:00+00,2024-05-01 21:00+00)}'),
    ('s_b', '{[2024-04-01 15:00+00,2024-05-02 15:00+00)}');
SELECT tobe_dag, asis_dag, data_interval_start, data_interval_end, satisfied
FROM flow.dependency_status WHERE tobe_dag = 's_tobe' ORDER BY asis_dag;

SELECT problem FROM flow.scheduler_status;
SELECT count(*) FROM flow.worker_status;
SELECT count(*) FROM flow.running;

SET client_min_messages = warning;
DROP EXTENSION flowpg CASCADE;
DROP FUNCTION error_of(text);
DROP PROCEDURE make_dag(text, text, timestamp, text, boolean, timestamp, boolean);
DROP PROCEDURE make_run(text, text, text, timestamptz, timestamptz);
