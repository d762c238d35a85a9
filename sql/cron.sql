-- Cron expressions: grammar, fire times, changes of daylight saving time.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS flowpg;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
\set VERBOSITY terse
\getenv abs_srcdir PG_ABS_SRCDIR

-- n fire times from a moment on, as text; or the error
CREATE FUNCTION pg_temp.ticks(expr text, zone text, base timestamptz,
    direction text, n integer) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    tick timestamptz := base;
    result text[] := '{}';
BEGIN
    FOR i IN 1..n LOOP
        IF direction = 'next' THEN
            tick := flow.cron_next(expr, zone, tick);
        ELSE
            tick := flow.cron_previous(expr, zone, tick - interval '1 us');
        END IF;
        EXIT WHEN tick IS NULL;
        result := result || tick::text;
    END LOOP;
    RETURN array_to_string(result, '|');
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN SQLERRM;
END $$;

-- the error that a schedule gives, with its detail
CREATE FUNCTION pg_temp.refusal(schedule text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM * FROM flow_next_runs(schedule, 'UTC', '2024-01-01', 1);
    RETURN NULL;
EXCEPTION WHEN invalid_parameter_value THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLERRM || ': ' || detail;
END $$;

--
-- Vectors.  Rows that come out differently are shown; there should be none.
--
CREATE TEMP TABLE vector (id text, source text, test text, expr text,
    fields integer, seconds_position text, timezone text, base text,
    direction text, options text, n integer, expected text);
\set file :abs_srcdir '/test/vectors/cron_next_croniter.csv'
COPY vector FROM :'file' (FORMAT csv, HEADER);
\set file :abs_srcdir '/test/vectors/cron_next_cronsim.csv'
COPY vector FROM :'file' (FORMAT csv, HEADER);
SELECT left(id, 2) AS vectors, count(*) FROM vector GROUP BY 1 ORDER BY 1;

-- local times without a zone are UTC
UPDATE vector SET timezone = 'UTC', base = base || 'Z',
    expected = regexp_replace(expected, '(\d)(\||$)', '\1Z\2', 'g')
WHERE timezone IS NULL;
-- newer systems do not install this old name
UPDATE vector SET timezone = 'America/New_York' WHERE timezone = 'US/Eastern';
-- seconds come first
UPDATE vector SET expr = regexp_replace(trim(expr), '^(.*)\s+(\S+)$', '\2 \1')
WHERE seconds_position = 'last';
-- these ask for a fire time at the moment or before it
UPDATE vector SET base = (base::timestamptz + interval '1 us')::text
WHERE test LIKE '%.test\_match%';

SELECT * FROM (
    SELECT id, expr, timezone, base, direction,
        (SELECT string_agg(e::timestamptz::text, '|' ORDER BY o)
         FROM unnest(string_to_array(nullif(expected, '<none>'), '|'))
             WITH ORDINALITY AS u(e, o)) AS expected,
        pg_temp.ticks(expr, timezone, base::timestamptz, direction, n) AS ticks
    FROM vector) AS v
WHERE CASE WHEN expected IS NULL THEN ticks NOT LIKE 'invalid schedule %'
    ELSE ticks IS DISTINCT FROM expected END
ORDER BY id;

CREATE TEMP TABLE dst_vector (id text, transition_kind text, expr text,
    timezone text, transition_utc text, base_utc timestamptz,
    cronsim_2_7_next_utc text, airflow_rule_next_utc text, agree text);
\set file :abs_srcdir '/test/vectors/cron_dst_cross_engine.csv'
COPY dst_vector FROM :'file' (FORMAT csv, HEADER);
SELECT count(*) AS dst_vectors FROM dst_vector;
SELECT id, expr, timezone, base_utc, airflow_rule_next_utc, ticks
FROM (SELECT v.*, (SELECT string_agg(to_char(data_interval_start,
                                     'YYYY-MM-DD"T"HH24:MI:SS"Z"'), '|')
                   FROM flow_next_runs(expr, timezone, base_utc, 6)) AS ticks
      FROM dst_vector AS v) AS v
WHERE ticks IS DISTINCT FROM airflow_rule_next_utc
ORDER BY id;

CREATE TEMP TABLE invalid_vector (id text, source text, test text, expr text,
    error_in_source text);
\set file :abs_srcdir '/test/vectors/cron_invalid.csv'
COPY invalid_vector FROM :'file' (FORMAT csv, HEADER);
SELECT count(*) AS invalid_vectors FROM invalid_vector;
SELECT id, expr FROM invalid_vector
WHERE pg_temp.refusal(expr) IS NULL ORDER BY id;

--
-- Grammar
--
SELECT expr, pg_temp.ticks(expr, 'UTC', '2024-01-01', 'next', 4) AS ticks
FROM (VALUES
    (1, '@hourly'), (2, '@daily'), (3, '@midnight'), (4, '@weekly'),
    (5, '@monthly'), (6, '@quarterly'), (7, '@yearly'), (8, '@DAILY'),
    (10, '  5   4	* * *  '),
    (11, '0 0 * * FRI-mon'), (12, '0 0 * * 5-7'), (13, '0 0 * * 7'),
    (14, '0 0 1 nov-Feb *'), (15, '0 0 1 10-3/2 *'), (16, '0 0 1 1/3 *'),
    (17, '0 0 * * 1/3'), (18, '0 0 * * Thu-Tue/2'),
    (20, '0 0 L * *'), (21, '0 0 LW * *'), (22, '0 0 1,L * *'),
    (23, '0 0 * * 5L'), (24, '0 0 * * L5'), (25, '0 0 * * 0L,7L'),
    (26, '0 0 * * MON#2'), (27, '0 0 * * 1#1,5#5'), (28, '0 0 * * MON,5L'),
    (29, '0 0 * * MON-WED#1'),
    (30, '0 0 13 * FRI'), (31, '0 0 */13 * FRI'), (32, '0 0 13 * */5'),
    (33, '0 0 ? * MON'), (34, '0 0 13 * ?'),
    (40, '15,45 30 2 * * *'), (41, '*/20 * * * * *'),
    (42, '59 59 23 31 12 *'), (43, '0 0 29 2 *'), (44, '0 0 29 2 */7')
) AS v(o, expr) ORDER BY o;

SELECT pg_temp.refusal(expr) FROM (VALUES
    (1, ''), (2, '* * * *'), (3, '61 * * * *'), (4, '* 24 * * *'),
    (5, '* * 0 * *'), (6, '* * * 13 *'), (7, '* * * * 8'), (8, '60 * * * * *'),
    (9, '5-1 * * * *'), (10, '* * 25-5 * *'), (11, '*/0 * * * *'),
    (12, '* * * * MON#6'), (13, '* * * * MONL'), (14, '* * * * L'),
    (15, '* * * foo *'), (16, '1,,2 * * * *'), (17, '1x * * * *'),
    (18, '? * * * *'), (19, '* * 15W * *'), (20, '* * L-3 * *'),
    (21, '0 0 30 2 *'), (22, '0 0 31 4,6 */1'), (23, '0 0 */100 * MON#4'),
    (24, '@reboot'), (25, 'tomorrow'), (26, '* * * * ¹')
) AS v(o, expr) ORDER BY o;
\set VERBOSITY default
SELECT flow.cron_next('61 * * * *', 'UTC', '2024-01-01');
SELECT flow.cron_next('0 0 30 2 *', 'UTC', '2024-01-01');
SELECT flow.cron_next('* * * * *', 'Mars/Olympus', '2024-01-01');
\set VERBOSITY terse
-- the server would take these as POSIX zones of its own making
SELECT flow.cron_next('* * * * *', 'Asia/Tokyo1', '2024-01-01');
SELECT flow.cron_next('0 0 * * *', 'EST5EDT', '2024-01-01');

--
-- Changes of offset: fixed hours follow AT TIME ZONE
--
SELECT expr, zone, pg_temp.ticks(expr, zone, base, 'next', 4) AS ticks
FROM (VALUES
    (1, '30 2 * * *', 'Europe/Zurich', '2024-03-30 00:00Z'::timestamptz),
    (2, '30 2 * * *', 'Europe/Zurich', '2024-10-26 00:00Z'),
    (3, '0,30 * * * *', 'Europe/Zurich', '2024-03-31 00:15Z'),
    (4, '0,30 * * * *', 'Europe/Zurich', '2024-10-27 00:15Z'),
    -- 02:45 is shifted behind 03:15, and 02:00 falls on 03:00
    (5, '15,45 2,3 * * *', 'Europe/Zurich', '2024-03-31 00:00Z'),
    (6, '0 2,3 * * *', 'Europe/Zurich', '2024-03-31 00:00Z'),
    -- a whole day that does not exist
    (7, '0 12 * * *', 'Pacific/Apia', '2011-12-29 00:00Z'),
    (8, '0 * * * *', 'Australia/Lord_Howe', '2024-10-05 14:00Z'),
    (9, '0 * * * *', 'Australia/Lord_Howe', '2024-04-06 13:30Z')
) AS v(o, expr, zone, base) ORDER BY o;

-- Every fire time around changes of offset, against AT TIME ZONE itself: the
-- local times that match, turned into instants; and, where the hour is "*",
-- the instants whose local time matches.  Backwards gives the same set.
CREATE TEMP TABLE change (zone text, at timestamptz);
INSERT INTO change VALUES
    ('Europe/Zurich', '2024-03-31 01:00Z'), ('Europe/Zurich', '2024-10-27 01:00Z'),
    ('America/New_York', '2024-03-10 07:00Z'), ('America/New_York', '2024-11-03 06:00Z'),
    ('America/Sao_Paulo', '2018-11-04 03:00Z'), ('America/Sao_Paulo', '2018-02-18 02:00Z'),
    ('Australia/Lord_Howe', '2024-10-05 15:30Z'), ('Australia/Lord_Howe', '2024-04-06 15:00Z'),
    ('Pacific/Apia', '2011-12-30 10:00Z'), ('Europe/Moscow', '2014-10-25 22:00Z'),
    ('Asia/Pyongyang', '2018-05-04 15:00Z'), ('Antarctica/Troll', '2024-03-31 01:00Z'),
    ('Africa/Casablanca', '2024-03-10 02:00Z'), ('UTC', '2024-03-31 01:00Z');
CREATE TEMP TABLE pattern (expr text, minutes integer[], hours integer[],
    every_hour boolean);
INSERT INTO pattern VALUES
    ('*/20 * * * *', '{0,20,40}', '{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23}', true),
    ('7,45 0-4,13,22-23 * * *', '{7,45}', '{0,1,2,3,4,13,22,23}', false),
    ('*/10 1,2,3 * * *', '{0,10,20,30,40,50}', '{1,2,3}', false),
    ('0 0 * * *', '{0}', '{0}', false);

CREATE FUNCTION pg_temp.expected_ticks(pattern pattern, zone text,
    since timestamptz, until timestamptz) RETURNS timestamptz[]
LANGUAGE sql AS $$
    SELECT array_agg(DISTINCT t ORDER BY t) FROM (
        SELECT l AT TIME ZONE zone
        FROM generate_series(since AT TIME ZONE 'UTC' - interval '3 days',
                             until AT TIME ZONE 'UTC' + interval '3 days',
                             '1 minute') AS l
        WHERE extract(minute FROM l)::integer = ANY (pattern.minutes)
            AND extract(hour FROM l)::integer = ANY (pattern.hours)
        UNION ALL
        SELECT u FROM generate_series(since, until, '1 minute') AS u
        WHERE pattern.every_hour
            AND extract(minute FROM u AT TIME ZONE zone)::integer = ANY (pattern.minutes)
    ) AS s(t) WHERE t BETWEEN since AND until
$$;
CREATE FUNCTION pg_temp.walk(expr text, zone text, since timestamptz,
    until timestamptz, forward boolean) RETURNS timestamptz[]
LANGUAGE plpgsql AS $$
DECLARE
    result timestamptz[] := '{}';
    tick timestamptz;
BEGIN
    IF forward THEN
        tick := flow.cron_next(expr, zone, since - interval '1 us');
        WHILE tick <= until LOOP
            result := result || tick;
            tick := flow.cron_next(expr, zone, tick);
        END LOOP;
    ELSE
        tick := flow.cron_previous(expr, zone, until);
        WHILE tick >= since LOOP
            result := tick || result;
            tick := flow.cron_previous(expr, zone, tick - interval '1 us');
        END LOOP;
    END IF;
    RETURN result;
END $$;
SELECT zone, at, expr,
    pg_temp.walk(expr, zone, since, until, true) = expected AS forward,
    pg_temp.walk(expr, zone, since, until, false) = expected AS backward
FROM (SELECT zone, at, expr, at - interval '2 days' AS since,
          at + interval '2 days' AS until,
          pg_temp.expected_ticks(pattern, zone, at - interval '2 days',
                                 at + interval '2 days') AS expected
      FROM change, pattern) AS v
WHERE pg_temp.walk(expr, zone, since, until, true) IS DISTINCT FROM expected
    OR pg_temp.walk(expr, zone, since, until, false) IS DISTINCT FROM expected
ORDER BY zone, at, expr;

--
-- Ends of time, and fire times that are far apart
--
SELECT flow.cron_next('0 0 * * *', 'UTC', '9999-12-30 12:00Z'),
    flow.cron_next('0 0 * * *', 'UTC', '9999-12-31 12:00Z'),
    flow.cron_next('0 0 * * *', 'UTC', 'infinity'),
    flow.cron_previous('0 0 * * *', 'UTC', 'infinity'),
    flow.cron_previous('0 0 * * *', 'UTC', '-infinity'),
    flow.cron_previous('0 0 2 1 *', 'UTC', '0001-01-02 00:00Z'),
    flow.cron_previous('0 0 2 1 *', 'UTC', '0001-01-01 00:00Z') \gx
SELECT pg_temp.ticks('0 0 29 2 */7', 'Europe/Zurich', '2024-01-01', 'next', 4),
    pg_temp.ticks('0 0 29 2 */7', 'Europe/Zurich', '2200-01-01', 'prev', 4) \gx
-- the rules of a zone go on for ever
SELECT pg_temp.ticks('30 2 * * *', 'Europe/Zurich', '2999-03-30 00:00Z', 'next', 3);
