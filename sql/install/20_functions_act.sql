-- ---------------------------------------------------------------------
-- Acting on runs, trying tasks out, and why something has not started.
-- ---------------------------------------------------------------------

CREATE FUNCTION flow_clear(
    dag_id text,
    start_date date DEFAULT NULL,
    end_date date DEFAULT NULL,
    task_ids text[] DEFAULT NULL,
    downstream boolean DEFAULT true,
    only_failed boolean DEFAULT false,
    cascade boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_clear';
COMMENT ON FUNCTION flow_clear(text, date, date, text[], boolean, boolean, boolean) IS 'has tasks of the runs whose data interval starts on these days run again, with what follows them, and returns how many task runs';

CREATE FUNCTION flow_mark(run_id bigint, task_id text, state text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_mark';
COMMENT ON FUNCTION flow_mark(bigint, text, text) IS 'sets a task of a run to success, failed or skipped; after success and skipped, what has failed for want of it runs again';

CREATE FUNCTION flow_test_task(
    dag_id text,
    task_id text,
    logical_date timestamp DEFAULT NULL)
RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_test_task';
COMMENT ON FUNCTION flow_test_task(text, text, timestamp) IS 'runs a task now, in the caller''s transaction, as the DAG''s owner, and returns what came of it; nothing is recorded';

-- Sets a current user while it reads, which a parallel query may not.
CREATE FUNCTION flow_result(task_id text)
RETURNS jsonb
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_result';
COMMENT ON FUNCTION flow_result(text) IS 'in a task''s SQL: the first row that an earlier task of the same run has returned';

CREATE FUNCTION flow_explain(
    dag_id text,
    OUT subject text,
    OUT reason text)
RETURNS SETOF record
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_explain';
COMMENT ON FUNCTION flow_explain(text) IS 'why what has not started has not started: the DAG, its queued runs, the tasks of its running ones';

-- For the views ---------------------------------------------------------------

CREATE FUNCTION flow.run_waits_for(run_id bigint)
RETURNS text
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_run_waits_for';
COMMENT ON FUNCTION flow.run_waits_for(bigint) IS 'what a queued run waits for, in short; NULL: it is not queued';

CREATE FUNCTION flow.task_waits_for(run_id bigint, task_id text)
RETURNS text
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_task_waits_for';
COMMENT ON FUNCTION flow.task_waits_for(bigint, text) IS 'what a task of a run that has not ended waits for, in short; NULL: nothing';
