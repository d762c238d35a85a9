-- ---------------------------------------------------------------------
-- Defining: DAGs, tasks, dependencies, pools; and who may use flowpg.
--
-- NULL is "not given": none of these is STRICT.  Each exists once, and is
-- meant to be called with named arguments.
-- ---------------------------------------------------------------------

-- DAGs. -------------------------------------------------------------------

CREATE FUNCTION flow_create_dag(
    dag_id text,
    schedule text DEFAULT NULL,
    start_date timestamp DEFAULT NULL,
    end_date timestamp DEFAULT NULL,
    timezone text DEFAULT NULL,
    catchup boolean DEFAULT NULL,
    depends_on_past boolean DEFAULT false,
    max_active_runs integer DEFAULT NULL,
    max_active_tasks integer DEFAULT NULL,
    retries integer DEFAULT 0,
    retry_delay interval DEFAULT '5 minutes',
    retry_exponential_backoff boolean DEFAULT false,
    max_retry_delay interval DEFAULT NULL,
    execution_timeout interval DEFAULT NULL,
    dagrun_timeout interval DEFAULT NULL,
    priority integer DEFAULT 0,
    on_success text DEFAULT NULL,
    on_failure text DEFAULT NULL,
    is_paused boolean DEFAULT NULL,
    description text DEFAULT NULL,
    tags text[] DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_create_dag';
COMMENT ON FUNCTION flow_create_dag(text, text, timestamp, timestamp, text, boolean, boolean, integer, integer, integer, interval, boolean, interval, interval, interval, integer, text, text, boolean, text, text[]) IS
'Defines a DAG, or defines an old one anew, and returns its dag_id. The current user becomes the owner of a new DAG; owner, pause, history and tasks of an old one stay.
dag_id: 1 to 250 characters, no control characters. schedule: cron expression, preset, interval, or NULL for none. start_date, end_date: wall-clock time in the DAG''s timezone; the start of the first interval (default: the moment of the first definition), and the last start of an interval (at midnight: that whole day). timezone: default flowpg.timezone. catchup: make up for missed intervals, default flowpg.catchup_by_default. depends_on_past: a task waits for its own previous run. max_active_runs, max_active_tasks: 1 or more, default flowpg.max_active_runs_per_dag and flowpg.max_active_tasks_per_dag. retries, retry_delay, retry_exponential_backoff, max_retry_delay, execution_timeout: for tasks that do not say. dagrun_timeout: of a whole run. priority: higher goes first. on_success, on_failure: SQL run once for the finished run. is_paused: default false for a new DAG, unchanged for an old one.
Errors: 22004, an argument is NULL that must not be; 22023, an argument is not accepted; 42501, the DAG is another role''s; 55000, the owner cannot log in (before PostgreSQL 17); errors of the SQL given.';

CREATE FUNCTION flow_alter_dag(
    dag_id text,
    schedule text DEFAULT NULL,
    start_date timestamp DEFAULT NULL,
    end_date timestamp DEFAULT NULL,
    timezone text DEFAULT NULL,
    catchup boolean DEFAULT NULL,
    depends_on_past boolean DEFAULT NULL,
    max_active_runs integer DEFAULT NULL,
    max_active_tasks integer DEFAULT NULL,
    retries integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    retry_exponential_backoff boolean DEFAULT NULL,
    max_retry_delay interval DEFAULT NULL,
    execution_timeout interval DEFAULT NULL,
    dagrun_timeout interval DEFAULT NULL,
    priority integer DEFAULT NULL,
    on_success text DEFAULT NULL,
    on_failure text DEFAULT NULL,
    is_paused boolean DEFAULT NULL,
    description text DEFAULT NULL,
    tags text[] DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_alter_dag';
COMMENT ON FUNCTION flow_alter_dag(text, text, timestamp, timestamp, text, boolean, boolean, integer, integer, integer, interval, boolean, interval, interval, interval, integer, text, text, boolean, text, text[]) IS
'Changes what is given of a DAG''s definition, keeps the rest, and returns the dag_id. Arguments as of flow_create_dag; NULL keeps. Under a new timezone, dates that are kept are the same wall-clock times in it. To take a value away, define the DAG anew with flow_create_dag.
Errors: as flow_create_dag; 42704, there is no such DAG.';

CREATE FUNCTION flow_set_owner(dag_id text, role regrole)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_set_owner';
COMMENT ON FUNCTION flow_set_owner(text, regrole) IS
'Gives a DAG to another role, which its tasks run as from now on. The caller needs the rights of the present owner and must be able to SET ROLE to the new one.
Errors: 22004; 42704, there is no such DAG or role; 42501, the caller cannot SET ROLE to it; 55000, it cannot log in (before PostgreSQL 17).';

CREATE FUNCTION flow_pause(dag_id text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_pause';
COMMENT ON FUNCTION flow_pause(text) IS
'Pauses a DAG: no scheduled or dependency run is made or started. What runs goes on, and what is asked for by name (backfill, trigger) runs.
Errors: 22004; 42704, there is no such DAG.';

CREATE FUNCTION flow_resume(dag_id text, skip_missed boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_resume';
COMMENT ON FUNCTION flow_resume(text, boolean) IS
'Ends the pause of a DAG. With catchup, what was missed is made up for; skip_missed leaves out the intervals that have ended by now.
Errors: 22004; 42704, there is no such DAG.';

CREATE FUNCTION flow_drop_dag(dag_id text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_drop_dag';
COMMENT ON FUNCTION flow_drop_dag(text) IS
'Drops a DAG with its tasks, its dependencies (both ways) and its positions, and cancels its runs. History and dag_log stay until retention.
Errors: 22004; 42704, there is no such DAG.';

-- Tasks. ------------------------------------------------------------------

CREATE FUNCTION flow_add_sql(
    dag_id text,
    task_id text,
    command text,
    in_transaction boolean DEFAULT true,
    upstream text[] DEFAULT '{}',
    trigger_rule text DEFAULT 'all_success',
    retries integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    execution_timeout interval DEFAULT NULL,
    pool text DEFAULT 'default',
    pool_slots integer DEFAULT 1,
    priority_weight integer DEFAULT 1,
    depends_on_past boolean DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_add_sql';
COMMENT ON FUNCTION flow_add_sql(text, text, text, boolean, text[], text, integer, interval, interval, text, integer, integer, boolean) IS
'Defines a task that runs SQL, or defines an old one anew, and returns its task_id.
command: one or more statements, which may name run.*. in_transaction: false makes each statement a transaction of its own.
Common to all tasks: upstream: task_ids of this DAG that it waits for, in place of those it had. trigger_rule: what they must have come to. retries, retry_delay, execution_timeout, depends_on_past: default the DAG''s. pool: the pool whose slots it takes. pool_slots: 1 or more. priority_weight: higher goes first.
Errors: 22004, an argument is NULL that must not be; 22023, an argument is not accepted; 42704, there is no such DAG, upstream task or pool; 42P17, upstream would make a cycle; errors of the SQL given.';

CREATE FUNCTION flow_add_upsert(
    dag_id text,
    task_id text,
    source text,
    target text,
    key text[] DEFAULT NULL,
    page_by text[] DEFAULT NULL,
    page_size integer DEFAULT 10000,
    mode text DEFAULT 'upsert',
    replace_where text DEFAULT NULL,
    incremental boolean DEFAULT false,
    update_columns text[] DEFAULT NULL,
    parallel_pages integer DEFAULT 1,
    lookback interval DEFAULT NULL,
    delete_missing boolean DEFAULT false,
    create_partition boolean DEFAULT false,
    on_row_error text DEFAULT 'stop',
    upstream text[] DEFAULT '{}',
    trigger_rule text DEFAULT 'all_success',
    retries integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    execution_timeout interval DEFAULT NULL,
    pool text DEFAULT 'default',
    pool_slots integer DEFAULT 1,
    priority_weight integer DEFAULT 1,
    depends_on_past boolean DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_add_upsert';
COMMENT ON FUNCTION flow_add_upsert(text, text, text, text, text[], text[], integer, text, text, boolean, text[], integer, interval, boolean, boolean, text, text[], text, integer, interval, interval, text, integer, integer, boolean) IS
'Defines a task that moves the rows of a source into a table page by page, or defines an old one anew, and returns its task_id. A new definition keeps the position of an incremental task.
source: a table or a SELECT, which may name run.*. target: a table. key: default the target''s primary key. page_by: the order in which pages are taken, default the key. page_size: rows, 1 or more. mode: upsert, append or replace. replace_where: mode replace only, where it must be given: a condition on the target''s columns, which may name run.*. The rows that match it and are not in the source are deleted, new and changed ones written, in one transaction; a key of a row that does not match, or a row that would not, is an error (23505, 44000). incremental: a run reads only what came after the position that earlier runs have reached, from the first row on where there is none; runs of the task wait for each other. Rows that commit late are not lost: the position is held back behind transactions that are open (page_by begins with a timestamp of a table, or a number that it takes from a sequence); anything else needs lookback. update_columns: default all. parallel_pages: workers, 1 or more. lookback: with incremental, so much before the position is read again. delete_missing: once all is loaded, rows of the target whose key the source does not have are deleted, page by page; not with incremental and replace. create_partition: the target, partitioned by ranges of a date, timestamp or timestamptz, gets what it lacks of partitions for the run''s interval. on_row_error: stop or keep.
The common arguments are those of flow_add_sql.
Errors: as flow_add_sql; 42P01, 42703 and the like for what source and target lack.';

CREATE FUNCTION flow_get_position(dag_id text, task_id text)
RETURNS jsonb
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_get_position';
COMMENT ON FUNCTION flow_get_position(text, text) IS
'The position of an incremental upsert: values of the page order by column name. All of its columns: rows after these have not been read for good; the first ones only: rows from these on. NULL: nothing has been read for good.
Errors: 22004; 42704, there is no such DAG or task; 55000, the task is not incremental.';

CREATE FUNCTION flow_set_position(dag_id text, task_id text, value jsonb)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_set_position';
COMMENT ON FUNCTION flow_set_position(text, text, jsonb) IS
'Sets the position of an incremental upsert, in the form of flow_get_position; NULL: the next run begins before the first row. A run under way goes on as it began and leaves the new position alone.
Errors: 22004; 22023, value is no position; 42704, there is no such DAG or task; 55000, the task is not incremental.';

CREATE FUNCTION flow_drop_task(dag_id text, task_id text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_drop_task';
COMMENT ON FUNCTION flow_drop_task(text, text) IS
'Drops a task and its position; what waited for it no longer does. Runs that have started keep it.
Errors: 22004; 42704, there is no such DAG or task.';

-- Links between DAGs. -------------------------------------------------------

CREATE FUNCTION flow_add_dependency(asis_dag text, tobe_dag text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_add_dependency';
COMMENT ON FUNCTION flow_add_dependency(text, text) IS
'Makes the DAG tobe_dag wait for the success of asis_dag, a DAG that the caller may see, or an outside system that writes flow.dag_log. The same as INSERT INTO flow.dependency_manager.
Errors: 22004; 22023; 42704, there is no DAG tobe_dag; 42501, asis_dag is a DAG that the caller may not see; 42P17, it would make a cycle.';

CREATE FUNCTION flow_drop_dependency(asis_dag text, tobe_dag text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_drop_dependency';
COMMENT ON FUNCTION flow_drop_dependency(text, text) IS
'Ends a dependency between DAGs. The same as DELETE FROM flow.dependency_manager.
Errors: 22004; 42704, there is no DAG tobe_dag, or it does not depend on asis_dag.';

CREATE FUNCTION flow.dependency_trigger()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'flow_dependency_trigger';
COMMENT ON FUNCTION flow.dependency_trigger() IS 'checks what is written to flow.dependency_manager, and tells the scheduler';

-- A row that is to be updated is locked before the trigger for it is fired.
CREATE TRIGGER dependency_manager_lock BEFORE UPDATE ON flow.dependency_manager
    FOR EACH STATEMENT EXECUTE FUNCTION flow.dependency_trigger();
CREATE TRIGGER dependency_manager_check BEFORE INSERT OR UPDATE ON flow.dependency_manager
    FOR EACH ROW EXECUTE FUNCTION flow.dependency_trigger();
CREATE TRIGGER dependency_manager_request AFTER INSERT OR UPDATE OR DELETE ON flow.dependency_manager
    FOR EACH ROW EXECUTE FUNCTION flow.dependency_trigger();
CREATE TRIGGER dependency_manager_truncate BEFORE TRUNCATE ON flow.dependency_manager
    FOR EACH STATEMENT EXECUTE FUNCTION flow.dependency_trigger();

CREATE FUNCTION flow.dag_log_trigger()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'flow_dag_log_trigger';
COMMENT ON FUNCTION flow.dag_log_trigger() IS 'fills in who writes a row of flow.dag_log, and tells the scheduler';

CREATE TRIGGER dag_log_writer BEFORE INSERT OR UPDATE ON flow.dag_log
    FOR EACH ROW EXECUTE FUNCTION flow.dag_log_trigger();

-- Pools. --------------------------------------------------------------------

CREATE FUNCTION flow_create_pool(
    pool text,
    slots integer,
    description text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_create_pool';
COMMENT ON FUNCTION flow_create_pool(text, integer, text) IS
'Makes a pool, or changes one, and returns its name; for superusers. slots: how many slots its running tasks may take together, 0 lets none start. description: NULL keeps that of an old pool.
Errors: 22004; 22023; 42501, the caller is no superuser.';

CREATE FUNCTION flow_drop_pool(pool text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_drop_pool';
COMMENT ON FUNCTION flow_drop_pool(text) IS
'Drops a pool that no task uses; for superusers.
Errors: 22004; 42704, there is no such pool; 2BP01, tasks use it; 55000, it is the pool "default"; 42501, the caller is no superuser.';

CREATE FUNCTION flow.pool_trigger()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'flow_pool_trigger';
COMMENT ON FUNCTION flow.pool_trigger() IS 'turns a row for the built-in pool, out of a dump, into an update';

CREATE TRIGGER pool_restore BEFORE INSERT ON flow.pool
    FOR EACH ROW EXECUTE FUNCTION flow.pool_trigger();

-- Where DAGs run. -------------------------------------------------------------

CREATE FUNCTION flow_adopt()
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_adopt';
COMMENT ON FUNCTION flow_adopt() IS
'Lets the DAGs of a restored or copied database run in it; for superusers and the owners of the database and of the extension.
Errors: 42501.';

CREATE FUNCTION flow.dag_trigger()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'flow_dag_trigger';
COMMENT ON FUNCTION flow.dag_trigger() IS 'has DAGs out of a dump wait for flow_adopt';

CREATE TRIGGER dag_restore AFTER INSERT ON flow.dag
    FOR EACH ROW EXECUTE FUNCTION flow.dag_trigger();
-- Also where session_replication_role is replica, as some tools set it.
ALTER TABLE flow.dag ENABLE ALWAYS TRIGGER dag_restore;

-- Who may use flowpg. ---------------------------------------------------------

CREATE FUNCTION flow_grant(role regrole)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_grant';
COMMENT ON FUNCTION flow_grant(regrole) IS
'Lets a role, and its members, use flowpg: define and run DAGs of its own; for superusers. To be called again after an update of the extension that brings new objects.
Errors: 22004; 42704, there is no such role; 42501, the caller is no superuser.';

CREATE FUNCTION flow_revoke(role regrole)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_revoke';
COMMENT ON FUNCTION flow_revoke(regrole) IS
'Takes back what flow_grant gave; for superusers. The role''s DAGs go on until they are paused, dropped or given to another role.
Errors: 22004; 42704, there is no such role; 42501, the caller is no superuser.';

CREATE FUNCTION flow.is_dag(dag_id text)
RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'flow_is_dag';
COMMENT ON FUNCTION flow.is_dag(text) IS 'whether there is a DAG of this name, also one that the caller may not see; for policies';
