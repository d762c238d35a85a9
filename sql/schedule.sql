-- Schedules as sequences of data intervals, and what is to run next.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS flowpg;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
\set VERBOSITY terse
\getenv abs_srcdir PG_ABS_SRCDIR

--
-- Vectors of Airflow.  Rows that come out differently are shown; there should
-- be none.
--
CREATE TEMP TABLE vector (id text, source text, test text, timetable text,
    call text, schedule text, timezone text, now timestamptz,
    last_start timestamptz, last_end timestamptz, earliest timestamptz,
    catchup boolean, expected_start timestamptz, expected_end timestamptz,
    note text);
\set file :abs_srcdir '/test/vectors/airflow_data_interval.csv'
COPY vector FROM :'file' (FORMAT csv, HEADER);
SELECT timetable, call, count(*) FROM vector GROUP BY 1, 2 ORDER BY 1, 2;

SELECT v.id, v.schedule, v.timezone, v.expected_start, v.expected_end, r.*
FROM vector AS v, flow.schedule_next_run(schedule, timezone,
    coalesce(earliest, '2000-01-01'), last_start, last_end, earliest, NULL,
    catchup, now) AS r
WHERE call = 'next_dagrun_info'
    AND (expected_start, expected_end) IS DISTINCT FROM
        (data_interval_start, data_interval_end)
ORDER BY id;
SELECT v.id, v.schedule, v.timezone, v.expected_start, v.expected_end, r.*
FROM vector AS v, flow.schedule_interval(schedule, timezone, '2000-01-01',
    now, 'latest_complete') AS r
WHERE call = 'infer_manual_data_interval'
    AND (expected_start, expected_end) IS DISTINCT FROM
        (data_interval_start, data_interval_end)
ORDER BY id;
SELECT id, schedule, timezone, expected_start,
    flow.cron_next(schedule, timezone, now),
    flow.cron_previous(schedule, timezone, now - interval '1 us')
FROM vector
WHERE call = 'following_schedule'
        AND expected_start IS DISTINCT FROM
            flow.cron_next(schedule, timezone, now)
    OR call = 'previous_schedule'
        AND expected_start IS DISTINCT FROM
            flow.cron_previous(schedule, timezone, now - interval '1 us')
ORDER BY id;

--
-- flow_next_runs
--
SELECT * FROM flow_next_runs('30 2 * * *', 'Europe/Zurich', '2024-03-29', 4);
SELECT * FROM flow_next_runs(schedule => '1 month', timezone => 'UTC', after => '2024-01-31', n => 4);
SELECT count(*) FROM flow_next_runs('@hourly', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('10 minutes', NULL, '2024-01-01 00:03', 2);
SET flowpg.timezone = 'Asia/Tokyo';
SELECT * FROM flow_next_runs('@daily', NULL, '2024-01-01', 2);
RESET flowpg.timezone;
SELECT * FROM flow_next_runs('@once', 'UTC', '2024-01-01', 2);
SELECT * FROM flow_next_runs('@continuous', 'UTC', '2024-01-01', 2);
SELECT * FROM flow_next_runs(NULL, 'UTC', '2024-01-01', 2);
SELECT * FROM flow_next_runs('@daily', 'UTC', '9999-12-29', 5);
SELECT * FROM flow_next_runs('@daily', 'UTC', '2024-01-01', 0);
SELECT * FROM flow_next_runs('@daily', 'UTC', '2024-01-01', -1);
SELECT * FROM flow_next_runs('@daily', 'UTC', NULL);
SELECT * FROM flow_next_runs('@daily', 'UTC', 'infinity');
SELECT * FROM flow_next_runs('@daily', 'Mars/Olympus', '2024-01-01');

--
-- Interval schedules
--
SELECT text, (SELECT string_agg(data_interval_start::text, '|')
              FROM flow_next_runs(text, 'UTC', '2024-01-31', 3)) AS starts
FROM (VALUES (1, '10 minutes'), (2, '01:30:00'), (3, 'PT1H'), (4, 'P1M'),
    (5, '1 month'), (6, '1 year'), (7, '2 weeks'), (8, '@ 5 hours'),
    (9, '1 day 12:00'), (10, '1 mon 1 day'), (11, '1.5 seconds'),
    (12, '1 year 2 mons 3 days 04:05:06'), (13, '1 year 1 month 1 day')
) AS v(o, text) ORDER BY o;
\set VERBOSITY default
SELECT * FROM flow_next_runs('5 secondc', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('0 seconds', 'UTC', '2024-01-01');
\set VERBOSITY terse
SELECT * FROM flow_next_runs('-1 hour', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('1 day -1 hour', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('10 minutes ago', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('0.5 seconds', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('1000 years', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('178000000 years', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('infinity', 'UTC', '2024-01-01');
-- numbers alone are a cron expression that lacks fields
SELECT * FROM flow_next_runs('5', 'UTC', '2024-01-01');
SELECT * FROM flow_next_runs('0 2', 'UTC', '2024-01-01');

-- Every tick is the anchor plus n intervals, as the server adds them in the
-- schedule's zone; before the anchor too.
CREATE FUNCTION pg_temp.wrong_ticks(step text, zone text,
    anchor timestamptz) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    tick timestamptz;
    following timestamptz;
    i record;
    place text;
BEGIN
    PERFORM set_config('TimeZone', zone, true);
    FOR n IN -40..40 LOOP
        tick := anchor + n * step::interval;
        following := anchor + (n + 1) * step::interval;
        FOR place IN VALUES ('at_or_after'), ('containing') LOOP
            SELECT * INTO i FROM flow.schedule_interval(step, zone, anchor, tick, place);
            IF (tick, following) IS DISTINCT FROM
                (i.data_interval_start, i.data_interval_end) THEN
                RETURN NEXT format('%s %s %s: %s', step, zone, place, n);
            END IF;
        END LOOP;
        SELECT * INTO i FROM flow.schedule_interval(step, zone, anchor,
            tick - interval '1 us', 'after');
        IF tick IS DISTINCT FROM i.data_interval_start THEN
            RETURN NEXT format('%s %s after: %s', step, zone, n);
        END IF;
        SELECT * INTO i FROM flow.schedule_interval(step, zone, anchor,
            following - interval '1 us', 'containing');
        IF tick IS DISTINCT FROM i.data_interval_start THEN
            RETURN NEXT format('%s %s containing: %s', step, zone, n);
        END IF;
        SELECT * INTO i FROM flow.schedule_interval(step, zone, anchor,
            following, 'latest_complete');
        IF tick IS DISTINCT FROM i.data_interval_start THEN
            RETURN NEXT format('%s %s latest: %s', step, zone, n);
        END IF;
    END LOOP;
    PERFORM set_config('TimeZone', 'UTC', true);
END $$;
SELECT w FROM unnest('{10 minutes,7 hours,1 day,3 days,1 week,1 month,5 months,1 year}'::text[]) AS step,
    unnest('{UTC,Europe/Zurich,America/Sao_Paulo,Australia/Lord_Howe}'::text[]) AS zone,
    unnest('{2024-01-31 02:30,2024-03-10 07:15,2018-10-20 03:30}'::timestamptz[]) AS anchor,
    pg_temp.wrong_ticks(step, zone, anchor) AS w;

-- A day that the zone skips as a whole makes no interval; the tick of the day
-- before the anchor's own first coming is not the anchor's second.
SELECT * FROM flow_next_runs('1 day', 'Pacific/Apia', '2011-12-27 22:00Z', 3);
SELECT (flow.schedule_interval('1 day', 'Europe/Zurich', '2024-10-27 00:30Z', at, 'containing')).*
FROM unnest('{2024-10-26 12:00Z,2024-10-27 00:30Z,2024-10-27 01:30Z}'::timestamptz[]) AS at;

-- Intervals are contiguous, disjoint and increasing across changes of offset,
-- and are found again from inside and from their end.
CREATE TEMP TABLE runs AS
    SELECT schedule, zone, since, r.*,
        lead(data_interval_start) OVER (PARTITION BY schedule, zone, since
                                        ORDER BY data_interval_start) AS following
    FROM unnest('{*/15 * * * *,0 */5 * * *,"30 1,2,3 * * *",0 0 * * MON,6 hours,1 day}'::text[]) AS schedule,
        unnest('{Europe/Zurich,America/Sao_Paulo,Australia/Lord_Howe,Pacific/Apia}'::text[]) AS zone,
        unnest('{2011-12-20 00:15Z,2018-02-10 00:15Z,2018-10-28 00:15Z,2024-03-25 00:15Z,2024-10-20 00:15Z}'::timestamptz[]) AS since,
        flow_next_runs(schedule, zone, since, 200) AS r;
SELECT count(*),
    count(*) FILTER (WHERE data_interval_start >= data_interval_end) AS empty,
    count(*) FILTER (WHERE following <> data_interval_end) AS not_contiguous,
    count(*) FILTER (WHERE (data_interval_start, data_interval_end) IS DISTINCT FROM
        flow.schedule_interval(schedule, zone, since,
            data_interval_end - interval '1 us', 'containing')) AS not_containing,
    count(*) FILTER (WHERE (data_interval_start, data_interval_end) IS DISTINCT FROM
        flow.schedule_interval(schedule, zone, since, data_interval_end,
            'latest_complete')) AS not_latest
FROM runs;

--
-- The next run
--
CREATE FUNCTION pg_temp.next_run(schedule text, last tstzrange, earliest timestamptz,
    latest timestamptz, catchup boolean, now timestamptz) RETURNS text
LANGUAGE sql AS $$
    SELECT data_interval_start || ' - ' || data_interval_end
    FROM flow.schedule_next_run(schedule, 'UTC', coalesce(earliest, '2024-01-01'),
        lower(last), coalesce(upper(last), lower(last)), earliest, latest, catchup, now)
$$;
-- first run: start_date is rounded up to a tick
SELECT pg_temp.next_run('@daily', NULL, '2024-01-01', NULL, true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', NULL, '2024-01-01 00:01', NULL, true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', NULL, NULL, NULL, true, '2024-01-10 12:00') IS NULL;
-- goes on
SELECT pg_temp.next_run('@daily', '[2024-01-04,2024-01-05)', '2024-01-01', NULL, true, '2024-01-10 12:00');
-- start_date moved on
SELECT pg_temp.next_run('@daily', '[2024-01-04,2024-01-05)', '2024-01-08', NULL, true, '2024-01-10 12:00');
-- end_date
SELECT pg_temp.next_run('@daily', '[2024-01-04,2024-01-05)', '2024-01-01', '2024-01-05', true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', '[2024-01-05,2024-01-06)', '2024-01-01', '2024-01-05', true, '2024-01-10 12:00') IS NULL;
-- without catchup: only the latest complete one, then the one to come
SELECT pg_temp.next_run('@daily', NULL, '2024-01-01', NULL, false, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', '[2024-01-04,2024-01-05)', '2024-01-01', NULL, false, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', '[2024-01-09,2024-01-10)', '2024-01-01', NULL, false, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', NULL, '2024-02-01', NULL, false, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', '[2024-01-09,2024-01-10)', '2024-01-01', '2024-01-09', false, '2024-01-12') IS NULL;
SELECT pg_temp.next_run('1 day', NULL, '2024-01-01 05:00', NULL, false, '2024-01-10 12:00');
-- a new schedule goes on with the interval that holds the last end
SELECT pg_temp.next_run('0 6 * * *', '[2024-01-04,2024-01-05)', '2024-01-01', NULL, true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@hourly', '[2024-01-04,2024-01-05)', '2024-01-01', NULL, true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@daily', '[2024-01-05 09:00,2024-01-05 10:00)', '2024-01-01', NULL, true, '2024-01-10 12:00');
-- @once: at start_date, once, with an empty interval
SELECT pg_temp.next_run('@once', NULL, '2024-01-01 05:00', NULL, true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@once', NULL, '2024-01-01 05:00', NULL, false, '2023-01-10 12:00');
SELECT pg_temp.next_run('@once', '[2024-01-01,2024-01-01]', '2024-01-01', NULL, true, '2024-01-10 12:00') IS NULL;
-- @continuous: up to now; an empty interval is not due
SELECT pg_temp.next_run('@continuous', NULL, '2024-01-01', NULL, true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@continuous', '[2024-01-01,2024-01-10)', '2024-01-01', NULL, true, '2024-01-10 12:00');
SELECT pg_temp.next_run('@continuous', '[2024-01-01,2024-01-10)', '2024-01-01', NULL, true, '2024-01-10');
SELECT pg_temp.next_run('@continuous', NULL, '2024-02-01', NULL, true, '2024-01-10');
SELECT pg_temp.next_run('@continuous', '[2024-01-01,2024-01-10)', '2024-01-01', '2024-01-09', true, '2024-01-12') IS NULL;
-- none
SELECT pg_temp.next_run(NULL, NULL, '2024-01-01', NULL, true, '2024-01-10 12:00') IS NULL;

-- the places of @once, which holds no instant
SELECT place, (flow.schedule_interval('@once', 'UTC', '2024-01-05', '2024-01-05', place)).*
FROM unnest('{at_or_after,after,containing,latest_complete}'::text[]) AS place;
SELECT flow.schedule_interval('@once', 'UTC', 'infinity', '2024-01-05', 'after');
SELECT flow.schedule_interval('@daily', 'UTC', '2024-01-01', '2024-01-05', 'before');
