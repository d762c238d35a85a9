/*-------------------------------------------------------------------------
 *
 * api_context.c
 *	  flow_context(): the values of the run for code called by a task.
 *
 * A task's own SQL names the values as run.*; what that calls (a procedure, a
 * DO block) is parsed elsewhere and reads them here.  Works in the process
 * that runs the task, and so not in its parallel workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"

#include "user_sql.h"

PG_FUNCTION_INFO_V1(flow_context);

/*
 * One row of all values; all NULL where no task is running.
 */
Datum
flow_context(PG_FUNCTION_ARGS)
{
	const FpRunContext *run = fp_user_sql_context();
	Datum		values[FP_RUN_VALUES] = {0};
	bool		nulls[FP_RUN_VALUES];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (desc->natts != FP_RUN_VALUES)
		elog(ERROR, "flow_context() has %d columns instead of %d",
			 desc->natts, FP_RUN_VALUES);

	if (run != NULL)
		fp_user_sql_run_values(run, values, nulls);
	else
		memset(nulls, true, sizeof(nulls));

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
