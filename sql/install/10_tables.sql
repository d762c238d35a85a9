-- ---------------------------------------------------------------------
-- Tables.
--
-- Three rules hold for every table that is written while runs are under way:
-- no index on a column that changes with state (so that updates stay HOT), no
-- foreign key, and one writer: the scheduler, or the worker that holds the
-- attempt.  Sessions only insert, and ask through flow.request.
-- ---------------------------------------------------------------------

-- Definitions, as they are now. -----------------------------------------

CREATE TABLE flow.dag (
    dag_id text NOT NULL,
    owner regrole NOT NULL,
    schedule text,
    timezone text NOT NULL,
    start_date timestamptz NOT NULL,
    end_date timestamptz,
    catchup boolean NOT NULL,
    is_paused boolean NOT NULL DEFAULT false,
    version integer NOT NULL DEFAULT 1,
    depends_on_past boolean NOT NULL DEFAULT false,
    max_active_runs integer,
    max_active_tasks integer,
    retries integer NOT NULL DEFAULT 0,
    retry_delay interval NOT NULL DEFAULT '5 minutes',
    retry_exponential_backoff boolean NOT NULL DEFAULT false,
    max_retry_delay interval,
    execution_timeout interval,
    dagrun_timeout interval,
    priority integer NOT NULL DEFAULT 0,
    on_success text,
    on_failure text,
    description text,
    tags text[],
    search_path text NOT NULL,
    start_is_given boolean NOT NULL,
    after_run_id bigint NOT NULL DEFAULT 0,
    first_version integer NOT NULL DEFAULT 1,
    paused_at timestamptz,
    resumed_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT dag_pkey PRIMARY KEY (dag_id),
    CONSTRAINT dag_id_check CHECK (pg_catalog.length(dag_id) OPERATOR(pg_catalog.>=) 1
        AND pg_catalog.length(dag_id) OPERATOR(pg_catalog.<=) 250)
) WITH (fillfactor = 80);
COMMENT ON TABLE flow.dag IS 'DAGs as they are defined now';
COMMENT ON COLUMN flow.dag.owner IS 'the role that the DAG''s tasks run as';
COMMENT ON COLUMN flow.dag.version IS 'counts the changes of the definition; a run keeps the version that it started with';
COMMENT ON COLUMN flow.dag.start_is_given IS 'false: start_date is the moment of the first definition';
COMMENT ON COLUMN flow.dag.after_run_id IS 'runs up to this one are those of an earlier DAG of this name';
COMMENT ON COLUMN flow.dag.first_version IS 'versions before this one are those of an earlier DAG of this name, maybe of another owner';
COMMENT ON COLUMN flow.dag.paused_at IS 'the real time of the last pause; what its asis DAGs did since is made up for';
COMMENT ON COLUMN flow.dag.resumed_at IS 'with skip_missed: no interval that ended before this is made';
COMMENT ON COLUMN flow.dag.search_path IS 'in effect when the DAG was defined; its SQL is read with it';

CREATE TABLE flow.task (
    dag_id text NOT NULL,
    task_id text NOT NULL,
    operator text NOT NULL,
    trigger_rule text NOT NULL DEFAULT 'all_success',
    params jsonb NOT NULL DEFAULT '{}',
    retries integer,
    retry_delay interval,
    execution_timeout interval,
    pool text NOT NULL DEFAULT 'default',
    pool_slots integer NOT NULL DEFAULT 1,
    priority_weight integer NOT NULL DEFAULT 1,
    depends_on_past boolean,
    CONSTRAINT task_pkey PRIMARY KEY (dag_id, task_id),
    CONSTRAINT task_dag_id_fkey FOREIGN KEY (dag_id) REFERENCES flow.dag ON DELETE CASCADE
);
COMMENT ON TABLE flow.task IS 'tasks as they are defined now; NULL inherits from the DAG';
COMMENT ON COLUMN flow.task.params IS 'the arguments that only this kind of task has';

CREATE TABLE flow.task_dependency (
    dag_id text NOT NULL,
    upstream_task_id text NOT NULL,
    downstream_task_id text NOT NULL,
    CONSTRAINT task_dependency_pkey PRIMARY KEY (dag_id, downstream_task_id, upstream_task_id),
    CONSTRAINT task_dependency_upstream_fkey FOREIGN KEY (dag_id, upstream_task_id)
        REFERENCES flow.task ON DELETE CASCADE,
    CONSTRAINT task_dependency_downstream_fkey FOREIGN KEY (dag_id, downstream_task_id)
        REFERENCES flow.task ON DELETE CASCADE
);
COMMENT ON TABLE flow.task_dependency IS 'which task waits for which, within a DAG';

-- While the history of a dropped DAG is kept, its name is its owner's: whoever
-- takes the name sees that history.
CREATE TABLE flow.dropped_dag (
    dag_id text NOT NULL,
    owner regrole NOT NULL,
    version integer NOT NULL,
    dropped_at timestamptz NOT NULL,
    CONSTRAINT dropped_dag_pkey PRIMARY KEY (dag_id)
);
COMMENT ON TABLE flow.dropped_dag IS 'DAGs that have been dropped, while there may be a history of them; as they were last';

-- Definitions, as runs started with them. --------------------------------
-- The scheduler writes a version's rows when the first run with it starts.

CREATE TABLE flow.dag_version (
    dag_id text NOT NULL,
    version integer NOT NULL,
    timezone text NOT NULL,
    search_path text NOT NULL,
    dagrun_timeout interval,
    on_success text,
    on_failure text,
    created_at timestamptz NOT NULL,
    CONSTRAINT dag_version_pkey PRIMARY KEY (dag_id, version)
);
COMMENT ON TABLE flow.dag_version IS 'DAGs as runs started with them';

CREATE TABLE flow.task_version (
    dag_id text NOT NULL,
    version integer NOT NULL,
    task_id text NOT NULL,
    operator text NOT NULL,
    trigger_rule text NOT NULL,
    params jsonb NOT NULL,
    upstream text[] NOT NULL,
    retries integer NOT NULL,
    retry_delay interval NOT NULL,
    retry_exponential_backoff boolean NOT NULL,
    max_retry_delay interval,
    execution_timeout interval,
    pool text NOT NULL,
    pool_slots integer NOT NULL,
    priority_weight integer NOT NULL,
    depends_on_past boolean NOT NULL,
    CONSTRAINT task_version_pkey PRIMARY KEY (dag_id, version, task_id)
);
COMMENT ON TABLE flow.task_version IS 'tasks as runs started with them, what they inherit from the DAG filled in';

-- Links between DAGs. ----------------------------------------------------

CREATE TABLE flow.dependency_manager (
    asis_dag text NOT NULL,
    tobe_dag text NOT NULL,
    CONSTRAINT dependency_manager_pkey PRIMARY KEY (tobe_dag, asis_dag),
    CONSTRAINT dependency_manager_tobe_dag_fkey FOREIGN KEY (tobe_dag) REFERENCES flow.dag ON DELETE CASCADE
);
CREATE INDEX dependency_manager_asis_dag_idx ON flow.dependency_manager (asis_dag);
COMMENT ON TABLE flow.dependency_manager IS 'which DAG''s success a DAG needs: asis_dag must have succeeded, tobe_dag waits; may be written with plain INSERT and DELETE';

CREATE TABLE flow.dag_log (
    dag_id text NOT NULL,
    completion_date date NOT NULL,
    completion_datetime timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    run_id bigint,
    logged_by regrole,
    CONSTRAINT dag_log_pkey PRIMARY KEY (dag_id, completion_date)
) WITH (fillfactor = 80);
COMMENT ON TABLE flow.dag_log IS 'the record of success: one row a DAG and day; outside systems write theirs with plain INSERT';
COMMENT ON COLUMN flow.dag_log.completion_date IS 'the date on which the run''s data interval ends, in the DAG''s timezone';
COMMENT ON COLUMN flow.dag_log.run_id IS 'NULL: written by hand or by an outside system';
COMMENT ON COLUMN flow.dag_log.logged_by IS 'who wrote the row; filled in by flowpg';

CREATE TABLE flow.coverage (
    dag_id text NOT NULL,
    covered tstzmultirange NOT NULL,
    CONSTRAINT coverage_pkey PRIMARY KEY (dag_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE flow.coverage IS 'the intervals that have succeeded, for ever';

-- Runs. -------------------------------------------------------------------

CREATE SEQUENCE flow.dag_run_run_id_seq;

CREATE TABLE flow.dag_run (
    run_id bigint NOT NULL DEFAULT pg_catalog.nextval('flow.dag_run_run_id_seq'::pg_catalog.regclass),
    dag_id text NOT NULL,
    version integer,
    run_type text NOT NULL,
    logical_date timestamptz NOT NULL,
    data_interval_start timestamptz NOT NULL,
    data_interval_end timestamptz NOT NULL,
    state text NOT NULL,
    conf jsonb NOT NULL DEFAULT '{}',
    queued_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    backfill_id bigint,
    parent_run_id bigint,
    is_cancelling boolean NOT NULL DEFAULT false,
    message text,
    CONSTRAINT dag_run_pkey PRIMARY KEY (run_id)
) WITH (fillfactor = 80);
ALTER SEQUENCE flow.dag_run_run_id_seq OWNED BY flow.dag_run.run_id;
-- Runs that stand for an interval are unique by it; those asked for by hand
-- or by a task are as many as asked for.
CREATE UNIQUE INDEX dag_run_interval_key ON flow.dag_run (dag_id, logical_date)
    WHERE run_type OPERATOR(pg_catalog.=) 'scheduled' OR run_type OPERATOR(pg_catalog.=) 'backfill'
        OR (run_type OPERATOR(pg_catalog.=) 'triggered' AND parent_run_id IS NULL);
CREATE INDEX dag_run_dag_id_logical_date_idx ON flow.dag_run (dag_id, logical_date);
COMMENT ON TABLE flow.dag_run IS 'one row for each run of a DAG';
COMMENT ON COLUMN flow.dag_run.version IS 'the definition that the run started with; NULL: not started';
COMMENT ON COLUMN flow.dag_run.backfill_id IS 'the backfill that the run belongs to now';
COMMENT ON COLUMN flow.dag_run.parent_run_id IS 'the run whose task asked for this one; NULL for a triggered run: its asis DAGs did';
COMMENT ON COLUMN flow.dag_run.is_cancelling IS 'it is to be cancelled; its workers have been asked to stop';
COMMENT ON COLUMN flow.dag_run.message IS 'why it failed or was cancelled: the first failed task and its error';

CREATE TABLE flow.task_run (
    run_id bigint NOT NULL,
    dag_id text NOT NULL,
    task_id text NOT NULL,
    map_index integer NOT NULL DEFAULT -1,
    try_number integer NOT NULL,
    state text,
    started_at timestamptz,
    ended_at timestamptz,
    rows_written bigint NOT NULL DEFAULT 0,
    pages bigint NOT NULL DEFAULT 0,
    bad_rows bigint NOT NULL DEFAULT 0,
    result jsonb,
    message text,
    sqlstate text,
    worker_pid integer,
    retry_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    position jsonb,
    CONSTRAINT task_run_pkey PRIMARY KEY (run_id, task_id, map_index)
) WITH (fillfactor = 40);   -- room in the page for what each row becomes when its attempt ends
COMMENT ON TABLE flow.task_run IS 'one row for each task of a run that has begun: its latest attempt';
COMMENT ON COLUMN flow.task_run.state IS 'NULL: cleared, to run again';
COMMENT ON COLUMN flow.task_run.map_index IS '-1: the task is not mapped';
COMMENT ON COLUMN flow.task_run.pages IS 'pages read since the task run was last cleared';
COMMENT ON COLUMN flow.task_run.rows_written IS 'rows inserted, updated or deleted since the task run was last cleared';
COMMENT ON COLUMN flow.task_run.bad_rows IS 'rows kept in flow.bad_row since the task run was last cleared';
COMMENT ON COLUMN flow.task_run.retry_at IS 'up_for_retry: when the next attempt is due';
COMMENT ON COLUMN flow.task_run.failures IS 'failed attempts that count against retries, since the task run was last cleared';
COMMENT ON COLUMN flow.task_run.crashes IS 'server crashes in a row in which the task run was open';
COMMENT ON COLUMN flow.task_run.position IS 'upsert: where the pages of this task run are, so that a retry goes on there; an incremental one, cleared, keeps where it began and ended';

CREATE TABLE flow.attempt_history (
    run_id bigint NOT NULL,
    dag_id text NOT NULL,
    task_id text NOT NULL,
    map_index integer NOT NULL,
    try_number integer NOT NULL,
    state text NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    worker_pid integer,
    sqlstate text,
    message text,
    CONSTRAINT attempt_history_pkey PRIMARY KEY (run_id, task_id, map_index, try_number)
);
COMMENT ON TABLE flow.attempt_history IS 'attempts before the latest one of each task run; flow.task_attempt shows all';

CREATE SEQUENCE flow.bad_row_bad_row_id_seq;

CREATE TABLE flow.bad_row (
    bad_row_id bigint NOT NULL DEFAULT pg_catalog.nextval('flow.bad_row_bad_row_id_seq'::pg_catalog.regclass),
    run_id bigint NOT NULL,
    dag_id text NOT NULL,
    task_id text NOT NULL,
    map_index integer NOT NULL,
    try_number integer NOT NULL,
    page bigint NOT NULL,
    target text NOT NULL,
    key jsonb NOT NULL,
    row_data jsonb,
    sqlstate text NOT NULL,
    column_name text,
    message text NOT NULL,
    kept_at timestamptz NOT NULL,
    CONSTRAINT bad_row_pkey PRIMARY KEY (bad_row_id)
);
ALTER SEQUENCE flow.bad_row_bad_row_id_seq OWNED BY flow.bad_row.bad_row_id;
CREATE INDEX bad_row_run_id_idx ON flow.bad_row (run_id);
COMMENT ON TABLE flow.bad_row IS 'rows that an upsert with on_row_error = ''keep'' could not write; those of a task run are deleted when it is cleared, and with the history of its run';
COMMENT ON COLUMN flow.bad_row.page IS 'the page that the row was in, counted from 1';
COMMENT ON COLUMN flow.bad_row.key IS 'the values of the key''s columns, as text';
COMMENT ON COLUMN flow.bad_row.row_data IS 'the row as the source had it; NULL: an expression of the source failed for it';
COMMENT ON COLUMN flow.bad_row.column_name IS 'the column, or columns, that the error is about; NULL: not known';
COMMENT ON COLUMN flow.bad_row.message IS 'the error, with its detail';

CREATE SEQUENCE flow.callback_callback_id_seq;

CREATE TABLE flow.callback (
    callback_id bigint NOT NULL DEFAULT pg_catalog.nextval('flow.callback_callback_id_seq'::pg_catalog.regclass),
    run_id bigint NOT NULL,
    run_state text NOT NULL,
    state text NOT NULL,
    try_number integer NOT NULL DEFAULT 0,
    queued_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    sqlstate text,
    message text,
    CONSTRAINT callback_pkey PRIMARY KEY (callback_id)
) WITH (fillfactor = 80);
ALTER SEQUENCE flow.callback_callback_id_seq OWNED BY flow.callback.callback_id;
CREATE INDEX callback_run_id_idx ON flow.callback (run_id);
COMMENT ON TABLE flow.callback IS 'on_success and on_failure of runs that have ended: their own success or failure';

CREATE TABLE flow.dag_progress (
    dag_id text NOT NULL,
    last_start timestamptz NOT NULL,
    last_end timestamptz NOT NULL,
    CONSTRAINT dag_progress_pkey PRIMARY KEY (dag_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE flow.dag_progress IS 'the interval of each DAG''s last scheduled run; catchup goes on from it';

CREATE SEQUENCE flow.set_off_set_off_id_seq;

CREATE TABLE flow.set_off (
    set_off_id bigint NOT NULL DEFAULT pg_catalog.nextval('flow.set_off_set_off_id_seq'::pg_catalog.regclass),
    dag_id text NOT NULL,
    first_version integer NOT NULL,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    CONSTRAINT set_off_pkey PRIMARY KEY (set_off_id)
);
ALTER SEQUENCE flow.set_off_set_off_id_seq OWNED BY flow.set_off.set_off_id;
COMMENT ON TABLE flow.set_off IS 'spans for which what a DAG depends on has succeeded, and not all of its runs have been made yet';

-- Backfills. ---------------------------------------------------------------

CREATE SEQUENCE flow.backfill_backfill_id_seq;

CREATE TABLE flow.backfill (
    backfill_id bigint NOT NULL DEFAULT pg_catalog.nextval('flow.backfill_backfill_id_seq'::pg_catalog.regclass),
    dag_id text NOT NULL,
    from_date date,
    to_date date,
    span tstzrange NOT NULL,
    reprocess text NOT NULL,
    state text NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    max_active_runs integer,
    run_backwards boolean NOT NULL DEFAULT false,
    ignore_depends_on_past boolean NOT NULL DEFAULT false,
    is_cascading boolean NOT NULL DEFAULT true,
    stop_on_failure boolean NOT NULL DEFAULT false,
    chunk interval,
    run_window text,
    priority integer NOT NULL DEFAULT -1,
    conf jsonb NOT NULL DEFAULT '{}',
    requested_by regrole NOT NULL,
    CONSTRAINT backfill_pkey PRIMARY KEY (backfill_id)
) WITH (fillfactor = 80);
ALTER SEQUENCE flow.backfill_backfill_id_seq OWNED BY flow.backfill.backfill_id;
COMMENT ON TABLE flow.backfill IS 'backfills that were asked for: state is queued, running, paused, success, failed or cancelled';

CREATE TABLE flow.backfill_run (
    backfill_id bigint NOT NULL,
    run_id bigint NOT NULL,
    ordinal bigint NOT NULL,
    action text NOT NULL,
    CONSTRAINT backfill_run_pkey PRIMARY KEY (backfill_id, run_id)
);
CREATE INDEX backfill_run_run_id_idx ON flow.backfill_run (run_id);
COMMENT ON TABLE flow.backfill_run IS 'the runs of a backfill, in the order in which they start';
COMMENT ON COLUMN flow.backfill_run.action IS 'create: made by the backfill; failed, completed: a run that was there, its failed tasks or all its tasks run again; cascade: of a DAG that depends on the backfilled one';

-- Limits and positions. ------------------------------------------------------

CREATE TABLE flow.pool (
    pool text NOT NULL,
    slots integer NOT NULL,
    description text,
    CONSTRAINT pool_pkey PRIMARY KEY (pool),
    CONSTRAINT pool_slots_check CHECK (slots OPERATOR(pg_catalog.>=) 0)
);
INSERT INTO flow.pool (pool, slots, description) VALUES ('default', 128, 'tasks that name no pool');
ALTER TABLE flow.task
    ADD CONSTRAINT task_pool_fkey FOREIGN KEY (pool) REFERENCES flow.pool;
COMMENT ON TABLE flow.pool IS 'named limits: the running tasks of a pool take slots slots at most';

CREATE TABLE flow.position (
    dag_id text NOT NULL,
    task_id text NOT NULL,
    position jsonb NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT position_pkey PRIMARY KEY (dag_id, task_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE flow.position IS 'where an incremental upsert is, from run to run';
COMMENT ON COLUMN flow.position.position IS 'last: everything up to here has been read; candidate: the same once the transactions in held_by have ended and the time in until has come';

-- What sessions ask of the scheduler. ----------------------------------------

CREATE SEQUENCE flow.request_request_id_seq;

CREATE TABLE flow.request (
    request_id bigint NOT NULL DEFAULT pg_catalog.nextval('flow.request_request_id_seq'::pg_catalog.regclass),
    kind text NOT NULL,
    dag_id text,
    run_id bigint,
    backfill_id bigint,
    args jsonb,
    requested_by regrole NOT NULL,
    requested_at timestamptz NOT NULL
);
-- Not unique: while a dump is restored, triggers write requests beside those
-- that come out of it.
CREATE INDEX request_request_id_idx ON flow.request (request_id);
ALTER SEQUENCE flow.request_request_id_seq OWNED BY flow.request.request_id;
COMMENT ON TABLE flow.request IS 'what sessions have asked of the scheduler and it has not yet done: it alone changes runs under way, so that no session''s lock can hold it up';

CREATE TABLE flow.instance (
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    has_stopped_cleanly boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE flow.instance IS 'the server and database that the DAGs run in; in others they wait for flow_adopt';
