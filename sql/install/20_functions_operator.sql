-- ---------------------------------------------------------------------
-- Tasks that do more than run SQL.  Arguments are as those of flow_add_sql
-- and flow_add_upsert, in 20_functions_dag.sql.
-- ---------------------------------------------------------------------

CREATE FUNCTION flow_add_check(
    dag_id text,
    task_id text,
    condition text,
    severity text DEFAULT 'error',
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
AS 'MODULE_PATHNAME', 'flow_add_check';
COMMENT ON FUNCTION flow_add_check(text, text, text, text, text[], text, integer, interval, interval, text, integer, integer, boolean) IS
'Defines a task that fails its run where a condition does not hold, or defines an old one anew, and returns its task_id.
condition: a SELECT, which may name run.*: its one row''s first column must be true; or rows (name text, ok boolean, detail text), all of which must be ok, and message then names those that are not. No row and NULL are not true. severity: error, or warn to record without failing.
The common arguments are those of flow_add_sql.
Errors: as flow_add_sql; 22023, the condition is not one query, or severity is neither error nor warn; 42804, its first column is not boolean.';

CREATE FUNCTION flow_add_sensor(
    dag_id text,
    task_id text,
    condition text,
    poke_interval interval DEFAULT '1 minute',
    timeout interval DEFAULT '7 days',
    soft_fail boolean DEFAULT false,
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
AS 'MODULE_PATHNAME', 'flow_add_sensor';
COMMENT ON FUNCTION flow_add_sensor(text, text, text, interval, interval, boolean, text[], text, integer, interval, interval, text, integer, integer, boolean) IS
'Defines a task that waits until a condition holds, or defines an old one anew, and returns its task_id. Between two looks it holds no worker.
condition: as of flow_add_check. poke_interval: the time between two looks, longer than zero. timeout: how long it waits in all, longer than zero; then it fails. soft_fail: then it is skipped instead.
The common arguments are those of flow_add_sql.
Errors: as flow_add_check.';

CREATE FUNCTION flow_add_branch(
    dag_id text,
    task_id text,
    command text,
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
AS 'MODULE_PATHNAME', 'flow_add_branch';
COMMENT ON FUNCTION flow_add_branch(text, text, text, text[], text, integer, interval, interval, text, integer, integer, boolean) IS
'Defines a task that chooses which of its direct downstream tasks go on, or defines an old one anew, and returns its task_id. The others are skipped.
command: a SELECT, which may name run.*, of the task_ids to follow: text, one a row, or text[].
The common arguments are those of flow_add_sql.
Errors: as flow_add_sql; 22023, the command is not one query; 42804, its first column is neither text nor text[].';

CREATE FUNCTION flow_add_retention(
    dag_id text,
    task_id text,
    target text,
    column_name text,
    keep interval,
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
AS 'MODULE_PATHNAME', 'flow_add_retention';
COMMENT ON FUNCTION flow_add_retention(text, text, text, text, interval, text[], text, integer, interval, interval, text, integer, integer, boolean) IS
'Defines a task that removes what is older than keep before the end of the run''s data interval, or defines an old one anew, and returns its task_id. Where the target is partitioned by the column, partitions that are wholly older are dropped; other rows are deleted in bounded transactions.
target: a table. column_name: of type date, timestamp or timestamptz. keep: longer than zero.
The common arguments are those of flow_add_sql.
Errors: as flow_add_sql; 42P01, 42703 and 42804 for what the target lacks; 42809, it is no table; 42501, the owner may not delete from it.';

CREATE FUNCTION flow_add_trigger(
    dag_id text,
    task_id text,
    trigger_dag_id text,
    conf jsonb DEFAULT '{}',
    wait boolean DEFAULT false,
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
AS 'MODULE_PATHNAME', 'flow_add_trigger';
COMMENT ON FUNCTION flow_add_trigger(text, text, text, jsonb, boolean, text[], text, integer, interval, interval, text, integer, integer, boolean) IS
'Defines a task that starts a run of another DAG for its own run''s data interval, or defines an old one anew, and returns its task_id.
trigger_dag_id: a DAG that the owner of this one may use. conf: a JSON object, run.conf of the run. wait: the task ends with the run, and fails where the run does.
The common arguments are those of flow_add_sql.
Errors: as flow_add_sql; 42704, the owner may use no such DAG; 42P17, DAGs would trigger each other in a cycle.';
