-- ---------------------------------------------------------------------
-- Views for people and pages.
--
-- All are security_invoker: a user sees in them what row security lets it see
-- of the tables below.  What is dear is a scalar subquery in the select list,
-- so that it costs nothing where the column is not asked for.
-- ---------------------------------------------------------------------

CREATE VIEW flow.task_attempt WITH (security_invoker = true) AS
SELECT a.run_id, a.task_id, a.map_index, a.try_number, a.state,
    a.started_at, a.ended_at, a.worker_pid, a.sqlstate, a.message, a.dag_id
FROM flow.attempt_history a
UNION ALL
SELECT t.run_id, t.task_id, t.map_index, t.try_number, t.state,
    t.started_at, t.ended_at, t.worker_pid, t.sqlstate, t.message, t.dag_id
FROM flow.task_run t
WHERE t.started_at IS NOT NULL
    OR t.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running']);
COMMENT ON VIEW flow.task_attempt IS 'one row for each attempt of a task run';

CREATE VIEW flow.scheduler_status WITH (security_invoker = true) AS
SELECT s.pid, s.state, s.heartbeat, s.next_wake_at, s.active_runs,
    s.ready_tasks, s.running_tasks, s.problem
FROM flow.scheduler_slot() s;
COMMENT ON VIEW flow.scheduler_status IS 'one row: the scheduler of this database';

CREATE VIEW flow.worker_status WITH (security_invoker = true) AS
SELECT w.pid, pg_catalog.current_database() AS database, w.role, w.state,
    w.run_id, w.dag_id, w.task_id, w.since, w.map_index, w.try_number,
    w.is_helping
FROM flow.worker_slots() w;
COMMENT ON COLUMN flow.worker_status.is_helping IS 'it takes pages of an attempt that another worker holds';
COMMENT ON VIEW flow.worker_status IS 'the workers of this database and what they do';

CREATE VIEW flow.running WITH (security_invoker = true) AS
SELECT w.run_id, w.dag_id, w.task_id, w.pid AS worker_pid, w.started_at,
    w.pages, w.rows_written,
    pg_catalog.round(greatest(w.rows_read, w.rows_written)::numeric
        OPERATOR(pg_catalog./) r.seconds, 1) AS rows_per_second,
    CASE
        WHEN w.rows_expected OPERATOR(pg_catalog.>) w.rows_read
            AND w.rows_read OPERATOR(pg_catalog.>) 0
        THEN pg_catalog.make_interval(secs => pg_catalog.ceil(
            (w.rows_expected OPERATOR(pg_catalog.-) w.rows_read)::numeric
            OPERATOR(pg_catalog.*) r.seconds
            OPERATOR(pg_catalog./) w.rows_read::numeric)::double precision)
    END AS eta,
    w.map_index, w.try_number, w.role
FROM flow.worker_slots() w
    CROSS JOIN LATERAL (
        SELECT greatest(EXTRACT(epoch FROM pg_catalog.clock_timestamp()
            OPERATOR(pg_catalog.-) w.started_at), 0.001) AS seconds
        OFFSET 0) r
WHERE w.run_id IS NOT NULL AND NOT w.is_helping;
COMMENT ON VIEW flow.running IS 'the attempts that run now, with what they have done so far';
COMMENT ON COLUMN flow.running.rows_per_second IS 'rows read, where the task is an upsert, or written';
COMMENT ON COLUMN flow.running.eta IS 'how long it will take from now on; NULL: not known';

-- What waits for asis DAGs: runs made by schedule or dependency, and those
-- that a backfill cascades to (what was asked for by name does not wait); and
-- of a DAG without a schedule, which has no run before all have succeeded,
-- the latest interval for which one of them has.
CREATE VIEW flow.dependency_status WITH (security_invoker = true) AS
SELECT m.tobe_dag, m.asis_dag, i.data_interval_start, i.data_interval_end,
    CASE
        WHEN flow.speaks_by_date(m.asis_dag)
        THEN EXISTS (
            SELECT FROM flow.dag_log l
            WHERE l.dag_id OPERATOR(pg_catalog.=) m.asis_dag
                AND l.completion_date OPERATOR(pg_catalog.=)
                    pg_catalog.timezone(d.timezone, i.data_interval_end)::date
                AND (l.run_id IS NOT NULL
                    OR EXISTS (
                        SELECT FROM pg_catalog.pg_roles w
                        WHERE w.oid OPERATOR(pg_catalog.=) l.logged_by::oid
                            AND (w.rolsuper
                                OR pg_catalog.pg_has_role(w.oid, d.owner::oid, 'USAGE')))))
        ELSE EXISTS (
            SELECT FROM flow.coverage c
            WHERE c.dag_id OPERATOR(pg_catalog.=) m.asis_dag
                AND c.covered OPERATOR(pg_catalog.@>)
                    pg_catalog.tstzrange(i.data_interval_start, i.data_interval_end))
    END AS satisfied,
    i.waiting_since, i.run_id
FROM (
    SELECT r.dag_id, r.data_interval_start, r.data_interval_end,
        r.queued_at AS waiting_since, r.run_id
    FROM flow.dag_run r
    WHERE r.state OPERATOR(pg_catalog.=) 'queued'
        AND CASE
            WHEN r.backfill_id IS NULL
            THEN r.run_type OPERATOR(pg_catalog.=) 'scheduled'
                OR (r.run_type OPERATOR(pg_catalog.=) 'triggered'
                    AND r.parent_run_id IS NULL)
            -- of another DAG's backfill, which may be another owner's
            ELSE NOT EXISTS (
                SELECT FROM flow.backfill b
                WHERE b.backfill_id OPERATOR(pg_catalog.=) r.backfill_id
                    AND b.dag_id OPERATOR(pg_catalog.=) r.dag_id)
        END
    UNION ALL
    SELECT n.dag_id, v.data_interval_start, v.data_interval_end,
        v.waiting_since, NULL
    FROM flow.dag n
        CROSS JOIN LATERAL (
            SELECT j.data_interval_start, j.data_interval_end,
                s.succeeded_at AS waiting_since
            FROM flow.dependency_manager a
                CROSS JOIN LATERAL (
                    (SELECT q.data_interval_start AS within,
                        q.ended_at AS succeeded_at
                     FROM flow.dag_run q
                     WHERE q.dag_id OPERATOR(pg_catalog.=) a.asis_dag
                        AND q.state OPERATOR(pg_catalog.=) 'success'
                        AND NOT flow.speaks_by_date(a.asis_dag)
                     ORDER BY q.logical_date DESC LIMIT 1)
                    UNION ALL
                    (SELECT pg_catalog.timezone(n.timezone, l.completion_date::timestamp)
                            OPERATOR(pg_catalog.-) interval '1 microsecond',
                        l.completion_datetime
                     FROM flow.dag_log l
                     WHERE l.dag_id OPERATOR(pg_catalog.=) a.asis_dag
                        AND flow.speaks_by_date(a.asis_dag)
                     ORDER BY l.completion_date DESC LIMIT 1)) s
                CROSS JOIN LATERAL flow.interval_at(n.dag_id, s.within) j
            WHERE a.tobe_dag OPERATOR(pg_catalog.=) n.dag_id
            ORDER BY j.data_interval_start DESC, s.succeeded_at
            LIMIT 1) v
    WHERE n.schedule IS NULL
        AND (NOT n.start_is_given
            OR v.data_interval_start OPERATOR(pg_catalog.>=) n.start_date)
        AND NOT EXISTS (
            SELECT FROM flow.dag_run q
            WHERE q.dag_id OPERATOR(pg_catalog.=) n.dag_id
                AND q.logical_date OPERATOR(pg_catalog.=) v.data_interval_start
                AND q.run_type OPERATOR(pg_catalog.<>) 'manual'
                AND q.parent_run_id IS NULL)
    ) i
    JOIN flow.dag d ON d.dag_id OPERATOR(pg_catalog.=) i.dag_id
    JOIN flow.dependency_manager m ON m.tobe_dag OPERATOR(pg_catalog.=) i.dag_id;
COMMENT ON VIEW flow.dependency_status IS 'for what waits for other DAGs: which of them have succeeded for its interval';
COMMENT ON COLUMN flow.dependency_status.run_id IS 'NULL: a DAG without a schedule, whose run is made when all have succeeded';

CREATE VIEW flow.run_status WITH (security_invoker = true) AS
SELECT r.run_id, r.dag_id, r.run_type, r.state, r.logical_date,
    r.data_interval_start, r.data_interval_end, r.backfill_id,
    (SELECT pg_catalog.count(*) FROM flow.task_run t
     WHERE t.run_id OPERATOR(pg_catalog.=) r.run_id
        AND t.state OPERATOR(pg_catalog.=) ANY (ARRAY['success', 'failed',
            'skipped', 'upstream_failed', 'cancelled'])) AS tasks_done,
    CASE
        WHEN r.version IS NULL
        THEN (SELECT pg_catalog.count(*) FROM flow.task k
              WHERE k.dag_id OPERATOR(pg_catalog.=) r.dag_id)
        ELSE (SELECT pg_catalog.count(*) FROM flow.task_version v
              WHERE v.dag_id OPERATOR(pg_catalog.=) r.dag_id
                AND v.version OPERATOR(pg_catalog.=) r.version)
    END AS tasks_total,
    coalesce(r.ended_at, pg_catalog.clock_timestamp())
        OPERATOR(pg_catalog.-) r.started_at AS duration,
    r.message, r.conf, r.queued_at, r.started_at, r.ended_at, r.version,
    r.parent_run_id,
    CASE
        WHEN r.state OPERATOR(pg_catalog.=) 'queued'
        THEN flow.run_waits_for(r.run_id)
    END AS waits_for
FROM flow.dag_run r;
COMMENT ON VIEW flow.run_status IS 'every run, with how far it is and why it failed';

CREATE VIEW flow.task_status WITH (security_invoker = true) AS
SELECT r.run_id, r.dag_id, k.task_id,
    coalesce(t.map_index, -1) AS map_index, t.state, t.try_number,
    t.started_at, t.ended_at,
    coalesce(t.ended_at, pg_catalog.clock_timestamp())
        OPERATOR(pg_catalog.-) t.started_at AS duration,
    greatest(t.rows_written, w.rows_written) AS rows_written,
    greatest(t.pages, w.pages) AS pages,
    CASE
        WHEN r.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])
        THEN flow.task_waits_for(r.run_id, k.task_id)
    END AS waits_for,
    t.message, t.result, t.sqlstate, t.retry_at,
    r.logical_date, r.state AS run_state, t.bad_rows
FROM flow.dag_run r
    CROSS JOIN LATERAL (
        SELECT v.task_id
        FROM flow.task_version v
        WHERE v.dag_id OPERATOR(pg_catalog.=) r.dag_id
            AND v.version OPERATOR(pg_catalog.=) r.version
        UNION ALL
        SELECT q.task_id
        FROM flow.task q
        WHERE q.dag_id OPERATOR(pg_catalog.=) r.dag_id AND r.version IS NULL
        UNION ALL
        -- no longer in the definition that the run has now
        SELECT x.task_id
        FROM flow.task_run x
        WHERE x.run_id OPERATOR(pg_catalog.=) r.run_id
            AND x.state OPERATOR(pg_catalog.=) 'removed'
            AND NOT EXISTS (
                SELECT FROM flow.task_version v
                WHERE v.dag_id OPERATOR(pg_catalog.=) r.dag_id
                    AND v.version OPERATOR(pg_catalog.=) r.version
                    AND v.task_id OPERATOR(pg_catalog.=) x.task_id)
        GROUP BY x.task_id) k
    LEFT JOIN flow.task_run t
        ON t.run_id OPERATOR(pg_catalog.=) r.run_id
        AND t.task_id OPERATOR(pg_catalog.=) k.task_id
    LEFT JOIN (
        SELECT s.run_id, s.task_id, s.map_index,
            pg_catalog.max(s.pages) AS pages,
            pg_catalog.max(s.rows_written) AS rows_written
        FROM flow.worker_slots() s
        GROUP BY s.run_id, s.task_id, s.map_index) w
        ON w.run_id OPERATOR(pg_catalog.=) r.run_id
        AND w.task_id OPERATOR(pg_catalog.=) k.task_id
        AND w.map_index OPERATOR(pg_catalog.=) t.map_index;
COMMENT ON VIEW flow.task_status IS 'every task of every run, also those not begun (state NULL) and what they wait for';
COMMENT ON COLUMN flow.task_status.waits_for IS 'a run not started: asis (DAGs), dag or backfill (paused), run_window, max_active_runs, run (queued); a task: upstream (tasks), run (an earlier one, depends_on_past), max_active_tasks, pool, worker, a time, a condition or a triggered run; flow_explain says more';

CREATE VIEW flow.dag_status WITH (security_invoker = true) AS
SELECT d.dag_id, d.owner, d.is_paused, d.schedule,
    l.state AS last_run_state, l.logical_date AS last_logical_date,
    n.next_run_at,
    CASE
        WHEN least(n.next_run_at, c.oldest_due)
            OPERATOR(pg_catalog.<=) flow.clock_now()
        THEN flow.clock_now()
            OPERATOR(pg_catalog.-) least(n.next_run_at, c.oldest_due)
    END AS lag,
    coalesce(c.queued, 0) AS queued, coalesce(c.running, 0) AS running,
    coalesce(c.success, 0) AS success, coalesce(c.failed, 0) AS failed,
    coalesce(c.cancelled, 0) AS cancelled, d.description, d.tags
FROM flow.dag d
    CROSS JOIN LATERAL flow.next_run_at(d.dag_id) n (next_run_at)
    LEFT JOIN LATERAL (
        SELECT r.state, r.logical_date
        FROM flow.dag_run r
        WHERE r.dag_id OPERATOR(pg_catalog.=) d.dag_id
        ORDER BY r.logical_date DESC, r.run_id DESC
        LIMIT 1) l ON true
    LEFT JOIN (
        SELECT r.dag_id,
            pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'queued') AS queued,
            pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'running') AS running,
            pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'success') AS success,
            pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'failed') AS failed,
            pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'cancelled') AS cancelled,
            pg_catalog.min(r.data_interval_end) FILTER (
                WHERE r.state OPERATOR(pg_catalog.=) 'queued'
                    AND r.run_type OPERATOR(pg_catalog.=) 'scheduled') AS oldest_due
        FROM flow.dag_run r
        GROUP BY r.dag_id) c ON c.dag_id OPERATOR(pg_catalog.=) d.dag_id;
COMMENT ON VIEW flow.dag_status IS 'every DAG: its last run, its next one, and how many runs are in which state';
COMMENT ON COLUMN flow.dag_status.lag IS 'since when the next scheduled run that has not started is due; NULL: nothing is due';

CREATE VIEW flow.backfill_status WITH (security_invoker = true) AS
SELECT b.backfill_id, b.dag_id, b.state, c.total, c.success, c.failed,
    c.running, c.pending,
    CASE
        WHEN c.total OPERATOR(pg_catalog.>) 0
        THEN pg_catalog.round(100.0 OPERATOR(pg_catalog.*)
            (c.total OPERATOR(pg_catalog.-) c.running OPERATOR(pg_catalog.-) c.pending)::numeric
            OPERATOR(pg_catalog./) c.total::numeric, 1)
        WHEN b.ended_at IS NULL THEN 0.0
        ELSE 100.0
    END AS percent,
    -- what is left takes as long a run as those that have ended, as many at
    -- a time as run now or have run on average
    CASE
        WHEN b.state OPERATOR(pg_catalog.=) 'running'
            AND c.busy OPERATOR(pg_catalog.>) 0.0
        THEN pg_catalog.make_interval(secs => pg_catalog.ceil(
            c.busy OPERATOR(pg_catalog./) c.timed::double precision
            OPERATOR(pg_catalog.*) (c.pending::double precision
                OPERATOR(pg_catalog.+) (0.5 OPERATOR(pg_catalog.*) c.running::double precision))
            OPERATOR(pg_catalog./) greatest(c.running::double precision,
                c.busy OPERATOR(pg_catalog./) c.elapsed,
                0.001)))
    END AS eta,
    c.cancelled, b.from_date, b.to_date, b.span, b.reprocess, b.created_at,
    b.ended_at
FROM flow.backfill b
    CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) AS total,
            pg_catalog.count(*) FILTER (WHERE s.state OPERATOR(pg_catalog.=) 'success') AS success,
            pg_catalog.count(*) FILTER (WHERE s.state OPERATOR(pg_catalog.=) 'failed') AS failed,
            pg_catalog.count(*) FILTER (WHERE s.state OPERATOR(pg_catalog.=) 'running') AS running,
            pg_catalog.count(*) FILTER (WHERE s.state OPERATOR(pg_catalog.=) 'queued') AS pending,
            pg_catalog.count(*) FILTER (WHERE s.state OPERATOR(pg_catalog.=) 'cancelled') AS cancelled,
            pg_catalog.count(s.duration) AS timed,
            pg_catalog.sum(s.duration) AS busy,
            greatest(EXTRACT(epoch FROM pg_catalog.clock_timestamp()
                OPERATOR(pg_catalog.-) pg_catalog.min(s.started_at))::double precision,
                0.001) AS elapsed
        FROM (
            -- a run that was there counts only once the backfill has it
            SELECT CASE WHEN i.is_taken THEN r.state ELSE 'queued' END AS state,
                CASE WHEN i.is_taken THEN r.started_at END AS started_at,
                CASE WHEN i.is_taken THEN EXTRACT(epoch FROM r.ended_at
                    OPERATOR(pg_catalog.-) r.started_at)::double precision END AS duration
            FROM flow.backfill_run br
                JOIN flow.dag_run r ON r.run_id OPERATOR(pg_catalog.=) br.run_id
                CROSS JOIN LATERAL (
                    SELECT b.ended_at IS NOT NULL
                        OR coalesce(r.backfill_id OPERATOR(pg_catalog.>=) b.backfill_id, false)
                        AS is_taken) i
            WHERE br.backfill_id OPERATOR(pg_catalog.=) b.backfill_id) s) c;
COMMENT ON VIEW flow.backfill_status IS 'every backfill, with how far it is and how long it will take';
COMMENT ON COLUMN flow.backfill_status.eta IS 'how long it will take from now on; NULL: not known';

CREATE VIEW flow.callback_status WITH (security_invoker = true) AS
SELECT c.callback_id, c.run_id, r.dag_id,
    CASE
        WHEN c.run_state OPERATOR(pg_catalog.=) 'success' THEN 'on_success'
        ELSE 'on_failure'
    END AS callback,
    c.state, c.try_number, c.queued_at, c.started_at, c.ended_at,
    coalesce(c.ended_at, pg_catalog.clock_timestamp())
        OPERATOR(pg_catalog.-) c.started_at AS duration,
    c.sqlstate, c.message
FROM flow.callback c
    JOIN flow.dag_run r ON r.run_id OPERATOR(pg_catalog.=) c.run_id;
COMMENT ON VIEW flow.callback_status IS 'on_success and on_failure of runs that have ended, and what became of them';

CREATE VIEW flow.dag_stats WITH (security_invoker = true) AS
SELECT t.dag_id, t.task_id, pg_catalog.count(*) AS runs,
    pg_catalog.round(pg_catalog.avg(
        CASE WHEN t.state OPERATOR(pg_catalog.=) 'success' THEN 1.0 ELSE 0.0 END), 4) AS success_ratio,
    pg_catalog.percentile_cont(0.5) WITHIN GROUP (
        ORDER BY t.ended_at OPERATOR(pg_catalog.-) t.started_at) AS duration_p50,
    pg_catalog.percentile_cont(0.95) WITHIN GROUP (
        ORDER BY t.ended_at OPERATOR(pg_catalog.-) t.started_at) AS duration_p95
FROM flow.task_run t
WHERE t.state OPERATOR(pg_catalog.=) ANY (ARRAY['success', 'failed'])
GROUP BY t.dag_id, t.task_id;
COMMENT ON VIEW flow.dag_stats IS 'for each task, over the runs that are kept: how often it succeeded, and how long it took';
