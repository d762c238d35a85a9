/*-------------------------------------------------------------------------
 *
 * api_task.c
 *	  SQL functions that define tasks: flow_add_sql, flow_add_upsert,
 *	  flow_add_check, flow_add_sensor, flow_add_branch, flow_add_retention,
 *	  flow_add_trigger, flow_drop_task.
 *
 * Called by sessions.  A task is looked at from all sides before it is
 * written: its SQL as the DAG's owner and with the DAG's search_path, as it
 * will run (task_kind.c); its upstream tasks and its pool (task_def.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "args.h"
#include "dag_rights.h"
#include "request_store.h"
#include "task_def.h"

PG_FUNCTION_INFO_V1(flow_add_sql);
PG_FUNCTION_INFO_V1(flow_add_upsert);
PG_FUNCTION_INFO_V1(flow_add_check);
PG_FUNCTION_INFO_V1(flow_add_sensor);
PG_FUNCTION_INFO_V1(flow_add_branch);
PG_FUNCTION_INFO_V1(flow_add_retention);
PG_FUNCTION_INFO_V1(flow_add_trigger);
PG_FUNCTION_INFO_V1(flow_drop_task);

static Datum add_task(FunctionCallInfo fcinfo, const char *function,
					  const char *operator);


/*
 * flow_add_sql(dag_id, task_id, command, in_transaction, common ...)
 * returns text
 */
Datum
flow_add_sql(PG_FUNCTION_ARGS)
{
	return add_task(fcinfo, "flow_add_sql()", "sql");
}

/*
 * flow_add_upsert(dag_id, task_id, source, target, ..., common ...)
 * returns text
 */
Datum
flow_add_upsert(PG_FUNCTION_ARGS)
{
	return add_task(fcinfo, "flow_add_upsert()", "upsert");
}

/*
 * flow_add_check(dag_id, task_id, condition, severity, common ...)
 * returns text
 */
Datum
flow_add_check(PG_FUNCTION_ARGS)
{
	return add_task(fcinfo, "flow_add_check()", "check");
}

/*
 * flow_add_sensor(dag_id, task_id, condition, poke_interval, timeout,
 * soft_fail, common ...) returns text
 */
Datum
flow_add_sensor(PG_FUNCTION_ARGS)
{
	return add_task(fcinfo, "flow_add_sensor()", "sensor");
}

/*
 * flow_add_branch(dag_id, task_id, command, common ...) returns text
 */
Datum
flow_add_branch(PG_FUNCTION_ARGS)
{
	return add_task(fcinfo, "flow_add_branch()", "branch");
}

/*
 * flow_add_retention(dag_id, task_id, target, column_name, keep, common ...)
 * returns text
 */
Datum
flow_add_retention(PG_FUNCTION_ARGS)
{
	return add_task(fcinfo, "flow_add_retention()", "retention");
}

/*
 * flow_add_trigger(dag_id, task_id, trigger_dag_id, conf, wait, common ...)
 * returns text
 */
Datum
flow_add_trigger(PG_FUNCTION_ARGS)
{
	return add_task(fcinfo, "flow_add_trigger()", "trigger");
}

/*
 * flow_drop_task(dag_id text, task_id text) returns void
 *
 * What waits for the task no longer does.
 */
Datum
flow_drop_task(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	char	   *task_id;

	fp_args_begin("flow_drop_task()");
	dag_id = fp_args_id(fcinfo, FP_TASK_DAG_ID, "dag_id");
	task_id = fp_args_id(fcinfo, FP_TASK_TASK_ID, "task_id");

	(void) fp_dag_rights_lock(dag_id);
	if (!fp_task_store_drop(dag_id, task_id))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task \"%s\" of dag \"%s\" does not exist",
						task_id, dag_id),
				 errhint("%s", fp_task_def_list_hint(fp_task_store_list(dag_id)))));

	fp_dag_store_new_version(dag_id);
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, NULL);
	PG_RETURN_VOID();
}

/*
 * Check a task, write it, and return its task_id.  function is the name for
 * errors.
 */
static Datum
add_task(FunctionCallInfo fcinfo, const char *function, const char *operator)
{
	FpTaskDef	task;
	FpDagDef   *dag;
	char	   *dag_id;

	fp_args_begin(function);
	dag_id = fp_args_id(fcinfo, FP_TASK_DAG_ID, "dag_id");
	(void) fp_args_id(fcinfo, FP_TASK_TASK_ID, "task_id");

	dag = fp_dag_rights_lock(dag_id);
	fp_task_def_read(fp_task_kind_find(operator), fcinfo, dag, &task);
	fp_task_def_check_upstream(&task);

	fp_task_store_write(&task);
	fp_dag_store_new_version(dag_id);
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, NULL);
	return CStringGetTextDatum(task.task_id);
}
