/*-------------------------------------------------------------------------
 *
 * api_result.c
 *	  flow_result(): what an earlier task of the same run has returned.
 *
 * For the SQL of tasks.  The run is the one whose task runs in this process,
 * so a task sees the results of its own run only, whoever its owner is; and
 * it works in that process and not in its parallel workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "act_store.h"
#include "args.h"
#include "user_sql.h"

PG_FUNCTION_INFO_V1(flow_result);

/*
 * flow_result(task_id): NULL where the task has returned nothing or has not
 * run, where no task is running, and in flow_test_task, which has no run.
 */
Datum
flow_result(PG_FUNCTION_ARGS)
{
	const FpRunContext *run = fp_user_sql_context();
	char	   *task_id = fp_args_id(fcinfo, 0, "task_id");
	Jsonb	   *result = NULL;
	bool		exists;

	if (run == NULL)
		PG_RETURN_NULL();

	if (run->run_id != 0)
		result = fp_act_store_result(run->run_id, task_id, &exists);
	else
		exists = fp_act_store_task(run->dag_id, task_id) != NULL;
	if (!exists)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task \"%s\" of dag \"%s\" does not exist", task_id,
						run->dag_id),
				 errhint("Name a task of the same run, such as one that this task is downstream of.")));

	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result);
}
