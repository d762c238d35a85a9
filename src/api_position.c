/*-------------------------------------------------------------------------
 *
 * api_position.c
 *	  SQL functions on the positions of incremental upserts:
 *	  flow_get_position, flow_set_position.
 *
 * Called by sessions.  A run that is under way when a position is set goes on
 * as it began, and leaves what was set alone when it ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "args.h"
#include "clock.h"
#include "dag_rights.h"
#include "jsonb_util.h"
#include "position_store.h"
#include "task_def.h"
#include "task_store.h"
#include "upsert.h"

PG_FUNCTION_INFO_V1(flow_get_position);
PG_FUNCTION_INFO_V1(flow_set_position);

static void require_incremental(const char *dag_id, const char *task_id);
static void check_position(Jsonb *position);


/*
 * flow_get_position(dag_id text, task_id text) returns jsonb
 *
 * NULL: nothing has been read yet.
 */
Datum
flow_get_position(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	char	   *task_id;
	char	   *stored;
	JsonbValue *last;

	fp_args_begin("flow_get_position()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");
	task_id = fp_args_id(fcinfo, 1, "task_id");
	(void) fp_dag_rights_require(dag_id);
	require_incremental(dag_id, task_id);

	stored = fp_position_store_get(dag_id, task_id);
	if (stored == NULL)
		PG_RETURN_NULL();
	last = fp_jsonb_get(DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														   CStringGetDatum(stored))),
						"last");
	if (last == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(JsonbValueToJsonb(last));
}

/*
 * flow_set_position(dag_id text, task_id text, value jsonb) returns void
 *
 * value NULL: the next run begins before the first row.
 */
Datum
flow_set_position(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	char	   *task_id;
	char	   *position = NULL;

	fp_args_begin("flow_set_position()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");
	task_id = fp_args_id(fcinfo, 1, "task_id");
	(void) fp_dag_rights_lock(dag_id);
	require_incremental(dag_id, task_id);

	if (!PG_ARGISNULL(2))
	{
		Jsonb	   *value = fp_args_required_object(fcinfo, 2, "value");

		check_position(value);
		position = psprintf("{\"last\": %s}",
							JsonbToCString(NULL, &value->root,
										   VARSIZE(value)));
	}
	fp_position_store_set(dag_id, task_id, position, fp_clock_real());
	PG_RETURN_VOID();
}

static void
require_incremental(const char *dag_id, const char *task_id)
{
	ListCell   *lc;

	foreach(lc, fp_task_store_definitions(dag_id))
	{
		FpTaskDef  *task = lfirst(lc);

		if (strcmp(task->task_id, task_id) != 0)
			continue;
		if (strcmp(task->operator, "upsert") == 0 &&
			fp_upsert_from_jsonb(unconstify(Jsonb *, task->params))->is_incremental)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" of dag \"%s\" is not an incremental upsert",
						task_id, dag_id),
				 errhint("Only tasks that flow_add_upsert() has defined with incremental => true have a position.")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("task \"%s\" of dag \"%s\" does not exist", task_id,
					dag_id),
			 errhint("%s", fp_task_def_list_hint(fp_task_store_list(dag_id)))));
}

/*
 * Whether its columns fit the page order turns out when the task runs, as the
 * DAG's owner.
 */
static void
check_position(Jsonb *position)
{
	JsonbIterator *iterator = JsonbIteratorInit(&position->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	int			nvalues = 0;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvString && value.type != jbvNumeric)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a value of the position is neither a string nor a number"),
					 errhint("Give the columns of the page order by name, such as '{\"changed_at\": \"2024-01-31\"}'.")));
		nvalues++;
	}
	if (nvalues == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the position has no columns"),
				 errhint("Give the columns of the page order by name, or NULL to begin before the first row.")));
}
