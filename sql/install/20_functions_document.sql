-- ---------------------------------------------------------------------
-- DAGs as documents and as pictures.
-- ---------------------------------------------------------------------

CREATE FUNCTION flow_apply(definition jsonb)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_apply';
COMMENT ON FUNCTION flow_apply(jsonb) IS
'Defines a whole DAG by one document, atomically, and returns its dag_id. Tasks and dependencies of an old DAG that the document does not name are dropped; owner, pause, history and positions stay. What is the same as before is left alone: a document that is applied again makes no new version.
definition: a JSON object with the arguments of flow_create_dag by name, and: tasks, an array of objects in any order, each with task_id, operator (sql, upsert, check, sensor, branch, retention, trigger) and the arguments of flow_add_<operator> by name; asis_dags, an array of the DAGs that it waits for; search_path, which the DAG''s SQL is read with (default: the session''s). Dates, times and intervals are strings as in SQL; null is not given.
Errors: those of flow_create_dag, flow_add_<operator> and flow_add_dependency; 22023, a key is not recognized or a value is of another type; 42710, a task is given more than once.';

CREATE FUNCTION flow_export(dag_id text)
RETURNS jsonb
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_export';
COMMENT ON FUNCTION flow_export(text) IS
'A DAG as the document that flow_apply takes: flow_apply(flow_export(dag_id)) changes nothing. What has its default is left out, and so are owner and history; tasks come after those that they wait for. timezone, catchup and search_path are given also where the session''s settings are no longer those that PostgreSQL and flowpg begin with.
Errors: 22004; 42704, there is no such DAG.';

CREATE FUNCTION flow_dot(dag_id text)
RETURNS text
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_dot';
COMMENT ON FUNCTION flow_dot(text) IS
'A DAG''s tasks and what they wait for, as a graph in the DOT language of Graphviz, coloured by the states that the tasks have in the last run.
Errors: 22004; 42704, there is no such DAG.';

CREATE FUNCTION flow_mermaid(dag_id text)
RETURNS text
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'flow_mermaid';
COMMENT ON FUNCTION flow_mermaid(text) IS
'The same graph as flow_dot gives, as a flowchart for Mermaid.
Errors: 22004; 42704, there is no such DAG.';
