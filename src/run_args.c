/*-------------------------------------------------------------------------
 *
 * run_args.c
 *	  Arguments that the SQL functions for running share, beside args.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/jsonb.h"

#include "dag_rights.h"
#include "instance_store.h"
#include "run_args.h"

int64
fp_run_args_id(FunctionCallInfo fcinfo, int n, const char *argument)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be NULL", argument),
				 errhint("Give a value for %s.", argument)));
	return PG_GETARG_INT64(n);
}

char *
fp_run_args_conf(FunctionCallInfo fcinfo, int n)
{
	Jsonb	   *conf;
	char	   *text;

	if (PG_ARGISNULL(n))
		return NULL;

	conf = PG_GETARG_JSONB_P(n);
	text = JsonbToCString(NULL, &conf->root, VARSIZE(conf));
	if (!JB_ROOT_IS_OBJECT(conf))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid conf \"%s\"", text),
				 errhint("Give a JSON object, such as {\"full\": true}.")));
	return JB_ROOT_COUNT(conf) == 0 ? NULL : text;
}

/*
 * Of a DAG that is gone, nobody knows whose the runs were.
 */
FpRunRow *
fp_run_args_run(FunctionCallInfo fcinfo, int n)
{
	int64		run_id = fp_run_args_id(fcinfo, n, "run_id");
	FpRunRow   *run = fp_run_store_get(run_id);
	FpDagRow   *dag = run != NULL ? fp_dag_store_get(run->dag_id) : NULL;

	if (run == NULL ||
		(dag != NULL ? !fp_dag_rights_may_use(dag) : !superuser()))
		fp_run_args_no_such_run(run_id);
	return run;
}

void
fp_run_args_no_such_run(int64 run_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("run " INT64_FORMAT " does not exist", run_id),
			 errhint("flow.run_status lists the runs.")));
}

void
fp_run_args_warn_if_waiting(void)
{
	if (fp_instance_store_home() == FP_HOME_ELSEWHERE)
		ereport(WARNING,
				(errmsg("nothing runs in this database yet: its DAGs come from a dump or from another database"),
				 errhint("What was asked for waits until SELECT flow_adopt() is called.")));
}
