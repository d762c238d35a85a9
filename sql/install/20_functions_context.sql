-- ---------------------------------------------------------------------
-- What code called by a task may ask: the values of its run.
-- ---------------------------------------------------------------------

CREATE FUNCTION flow_context(
    OUT data_interval_start timestamptz,
    OUT data_interval_end timestamptz,
    OUT logical_date timestamptz,
    OUT ds date,
    OUT dag_id text,
    OUT task_id text,
    OUT run_id bigint,
    OUT try_number integer,
    OUT run_type text,
    OUT state text,
    OUT conf jsonb,
    OUT local_start timestamp,
    OUT local_end timestamp,
    OUT message text,
    OUT failed_tasks text[])
RETURNS record
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'flow_context';
COMMENT ON FUNCTION flow_context() IS 'the values of the run whose task is running in this session, as run.* gives them to its SQL; NULL outside a task';
