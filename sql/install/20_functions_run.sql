-- ---------------------------------------------------------------------
-- Running: trigger, backfill, wait, cancel; and what the views read out of
-- shared memory.
-- ---------------------------------------------------------------------

CREATE FUNCTION flow_trigger(
    dag_id text,
    logical_date timestamp DEFAULT NULL,
    conf jsonb DEFAULT '{}')
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_trigger';
COMMENT ON FUNCTION flow_trigger(text, timestamp, jsonb) IS 'asks for one run of a DAG and returns its run_id; logical_date is wall-clock time in the DAG''s timezone';

CREATE FUNCTION flow_cancel_run(run_id bigint)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_cancel_run';
COMMENT ON FUNCTION flow_cancel_run(bigint) IS 'cancels a run that has not ended';

CREATE FUNCTION flow_wait_run(run_id bigint, timeout interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_wait_run';
COMMENT ON FUNCTION flow_wait_run(bigint, interval) IS 'waits until a run has ended, or for the timeout, and returns the state reached by then';

CREATE FUNCTION flow_due_runs(
    dag_id text,
    at timestamptz,
    OUT data_interval_start timestamptz,
    OUT data_interval_end timestamptz)
RETURNS SETOF record
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_due_runs';
COMMENT ON FUNCTION flow_due_runs(text, timestamptz) IS 'the runs that the scheduler would create at a time with the history that the DAG has, paused or not';

CREATE FUNCTION flow_backfill(
    dag_id text,
    start_date date DEFAULT NULL,
    end_date date DEFAULT NULL,
    reprocess text DEFAULT 'failed',
    max_active_runs integer DEFAULT NULL,
    run_backwards boolean DEFAULT false,
    ignore_depends_on_past boolean DEFAULT false,
    cascade boolean DEFAULT true,
    stop_on_failure boolean DEFAULT false,
    chunk interval DEFAULT NULL,
    run_window text DEFAULT NULL,
    priority integer DEFAULT -1,
    conf jsonb DEFAULT '{}',
    span tstzrange DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_backfill';
COMMENT ON FUNCTION flow_backfill(text, date, date, text, integer, boolean, boolean, boolean, boolean, interval, text, integer, jsonb, tstzrange) IS 'asks for the runs of a past range, dates or a span, and returns the backfill_id';

CREATE FUNCTION flow_preview_backfill(
    dag_id text,
    start_date date DEFAULT NULL,
    end_date date DEFAULT NULL,
    reprocess text DEFAULT 'failed',
    max_active_runs integer DEFAULT NULL,
    run_backwards boolean DEFAULT false,
    ignore_depends_on_past boolean DEFAULT false,
    cascade boolean DEFAULT true,
    stop_on_failure boolean DEFAULT false,
    chunk interval DEFAULT NULL,
    run_window text DEFAULT NULL,
    priority integer DEFAULT -1,
    conf jsonb DEFAULT '{}',
    span tstzrange DEFAULT NULL)
RETURNS TABLE (
    logical_date timestamptz,
    data_interval_start timestamptz,
    data_interval_end timestamptz,
    action text)
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_preview_backfill';
COMMENT ON FUNCTION flow_preview_backfill(text, date, date, text, integer, boolean, boolean, boolean, boolean, interval, text, integer, jsonb, tstzrange) IS 'what flow_backfill with the same arguments would do in the DAG, in the order in which it would start; nothing is written';

CREATE FUNCTION flow_pause_backfill(backfill_id bigint)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_pause_backfill';
COMMENT ON FUNCTION flow_pause_backfill(bigint) IS 'a backfill starts no further runs; those that run go on';

CREATE FUNCTION flow_resume_backfill(backfill_id bigint)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_resume_backfill';
COMMENT ON FUNCTION flow_resume_backfill(bigint) IS 'a paused backfill goes on';

CREATE FUNCTION flow_cancel_backfill(backfill_id bigint)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_cancel_backfill';
COMMENT ON FUNCTION flow_cancel_backfill(bigint) IS 'cancels a backfill and those of its runs that have not ended';

-- No SET search_path: with it, the procedure could not commit between looks.
CREATE PROCEDURE flow_wait_backfill(
    backfill_id bigint,
    timeout interval DEFAULT NULL)
LANGUAGE C
AS 'MODULE_PATHNAME', 'flow_wait_backfill';
COMMENT ON PROCEDURE flow_wait_backfill(bigint, interval) IS 'waits until a backfill has ended, or for the timeout, and shows its progress as NOTICEs';

CREATE FUNCTION flow_advance(until timestamptz)
RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_advance';
COMMENT ON FUNCTION flow_advance(timestamptz) IS 'for tests, superusers only: moves flowpg.simulated_now there and returns when nothing is due or running any more';

-- For the views.  What a role may not see, they leave out. ------------------

CREATE FUNCTION flow.clock_now()
RETURNS timestamptz
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'flow_clock_now';
COMMENT ON FUNCTION flow.clock_now() IS 'what flowpg''s decisions take for the present time: flowpg.simulated_now, or real';

CREATE FUNCTION flow.next_run_at(dag_id text)
RETURNS timestamptz
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_next_run_at';
COMMENT ON FUNCTION flow.next_run_at(text) IS 'when the next scheduled run of a DAG is due; in the past: it is to be made up for; NULL: never';

CREATE FUNCTION flow.speaks_by_date(dag_id text)
RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_speaks_by_date';
COMMENT ON FUNCTION flow.speaks_by_date(text) IS 'whether a DAG, or what goes by that name outside, has no data intervals, so that its success counts by date';

CREATE FUNCTION flow.interval_at(
    dag_id text,
    at timestamptz,
    OUT data_interval_start timestamptz,
    OUT data_interval_end timestamptz)
RETURNS record
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_interval_at';
COMMENT ON FUNCTION flow.interval_at(text, timestamptz) IS 'the data interval of a DAG''s runs that a moment lies in, by its own schedule or by those that it waits for';

CREATE FUNCTION flow.worker_slots(
    OUT pid integer,
    OUT role regrole,
    OUT state text,
    OUT since timestamptz,
    OUT run_id bigint,
    OUT dag_id text,
    OUT task_id text,
    OUT map_index integer,
    OUT try_number integer,
    OUT started_at timestamptz,
    OUT pages bigint,
    OUT rows_written bigint,
    OUT rows_read bigint,
    OUT rows_expected bigint,
    OUT is_helping boolean)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 8
AS 'MODULE_PATHNAME', 'flow_worker_slots';
COMMENT ON FUNCTION flow.worker_slots() IS 'the workers of this database, out of shared memory, as far as the current user may see what they run';

CREATE FUNCTION flow.scheduler_slot(
    OUT pid integer,
    OUT state text,
    OUT heartbeat timestamptz,
    OUT next_wake_at timestamptz,
    OUT active_runs integer,
    OUT ready_tasks integer,
    OUT running_tasks integer,
    OUT problem text)
RETURNS record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'flow_scheduler_slot';
COMMENT ON FUNCTION flow.scheduler_slot() IS 'the scheduler of this database, out of shared memory';
