-- What the parts of test/bench keep their measurements in, and take them with.
-- Run before each part.

SET client_min_messages = warning;
DROP SCHEMA IF EXISTS bench CASCADE;
CREATE SCHEMA bench;
CREATE EXTENSION IF NOT EXISTS flowpg;

-- One row a measurement.
CREATE TABLE bench.measurement (
    scenario text NOT NULL,
    peer text NOT NULL,
    round int NOT NULL,
    seconds float NOT NULL,         -- as the client sees it
    task_seconds float,             -- flowpg: from start to end of the task
    cpu_seconds float,              -- NULL: not to be had on this system
    wal_bytes numeric NOT NULL,
    page_growth float,              -- time of the last tenth of the pages to that of the first
    PRIMARY KEY (scenario, peer, round)
);

-- The same for parts that measure one figure at a time.
CREATE TABLE bench.sample (
    measure text NOT NULL,
    peer text NOT NULL,
    round int NOT NULL,
    value float NOT NULL,
    place int GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (measure, peer, round)
);

-- A task's first statement puts down here when it ran.
CREATE UNLOGGED TABLE bench.step (
    run_id bigint,
    name text,
    at timestamptz
);

CREATE UNLOGGED TABLE bench.cpu_before (pid int, seconds float);

-- Processor time so far of this session's process and of all of flowpg's.
CREATE FUNCTION bench.cpu(clock_ticks float)
RETURNS TABLE (pid int, seconds float)
LANGUAGE sql AS $$
    SELECT process.pid, (field[12]::float + field[13]::float) / clock_ticks
    FROM pg_stat_activity AS process,
        -- fields are counted from behind the program's name, which may hold spaces
        LATERAL pg_read_file(format('/proc/%s/stat', process.pid), 0, 4096, true) AS stat,
        LATERAL string_to_array(substring(stat FROM '.*\) (.*)'), ' ') AS field
    WHERE process.pid = pg_backend_pid() OR process.backend_type LIKE 'flowpg %'
$$;

CREATE FUNCTION bench.begin(clock_ticks float)
RETURNS void
LANGUAGE sql AS $$
    TRUNCATE bench.cpu_before;
    INSERT INTO bench.cpu_before SELECT * FROM bench.cpu(clock_ticks);
$$;

-- Processes that have come since count in full.
CREATE FUNCTION bench.cpu_since_begin(clock_ticks float)
RETURNS float
LANGUAGE sql AS $$
    SELECT sum(now.seconds - coalesce(before.seconds, 0))
    FROM bench.cpu(clock_ticks) AS now LEFT JOIN bench.cpu_before AS before USING (pid)
$$;

-- How much longer a page took at the end than at the beginning, where each was
-- a transaction that left rows in a table: the median time from commit to commit
-- among the last tenth of the pages, to that among the first tenth.  The median,
-- for what the disk holds up now and then is not the page's.
CREATE FUNCTION bench.page_growth(written regclass)
RETURNS float
LANGUAGE plpgsql AS $$
DECLARE
    growth float;
BEGIN
    EXECUTE format($query$
        WITH page AS (
            SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at)) AS seconds,
                row_number() OVER (ORDER BY at) - 1 AS n, count(*) OVER () - 1 AS pages
            FROM (SELECT pg_xact_commit_timestamp(xmin) AS at
                FROM (SELECT DISTINCT xmin FROM %s) AS written) AS committed)
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE n > pages - pages / 10)
            / percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE n BETWEEN 1 AND pages / 10)
        FROM page WHERE pages >= 10
        $query$, written) INTO growth;
    RETURN growth;
END
$$;

-- figure('{3,1,2}', 1) is '2.0 (1.0 .. 3.0)'
CREATE FUNCTION bench.figure(measured float[], digits int)
RETURNS text
LANGUAGE sql AS $$
    SELECT CASE
        WHEN count(at) = 0 THEN ''
        WHEN count(at) = 1 THEN round(max(at)::numeric, digits)::text
        ELSE format('%s (%s .. %s)',
            round(percentile_cont(0.5) WITHIN GROUP (ORDER BY at)::numeric, digits),
            round(min(at)::numeric, digits), round(max(at)::numeric, digits))
    END
    FROM unnest(measured) AS at
$$;

-- short('{12345.6,1,20000}') is '12,346'
CREATE FUNCTION bench.short(measured float[])
RETURNS text
LANGUAGE sql AS $$
    SELECT CASE
        WHEN median >= 100 THEN to_char(median, 'FM999,999,999')
        ELSE round(median::numeric, 3)::text
    END
    FROM (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY at) FROM unnest(measured) AS at) AS m (median)
$$;

-- What a process has used so far: processor time, wake-ups from sleep, memory of its own.
CREATE FUNCTION bench.process(pid int, OUT cpu_seconds float, OUT wakeups bigint, OUT private_kb bigint)
LANGUAGE sql AS $$
    SELECT split_part(pg_read_file(format('/proc/%s/schedstat', pid), 0, 4096, true), ' ', 1)::float / 1e9,
        substring(status FROM 'voluntary_ctxt_switches:\s+(\d+)')::bigint,
        substring(status FROM 'RssAnon:\s+(\d+)')::bigint
    FROM pg_read_file(format('/proc/%s/status', pid), 0, 4096, true) AS status
$$;
