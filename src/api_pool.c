/*-------------------------------------------------------------------------
 *
 * api_pool.c
 *	  SQL functions that define pools: flow_create_pool, flow_drop_pool; the
 *	  trigger on flow.pool.
 *
 * Called by sessions.  A pool belongs to nobody and limits everybody's tasks,
 * so only superusers make, change and drop one; any granted role's tasks may
 * use it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "args.h"
#include "pool_store.h"
#include "request_store.h"
#include "trigger_row.h"

/* tasks that an error lists */
#define LISTED_TASKS 10

PG_FUNCTION_INFO_V1(flow_create_pool);
PG_FUNCTION_INFO_V1(flow_drop_pool);
PG_FUNCTION_INFO_V1(flow_pool_trigger);

static void require_superuser(const char *pool);
static char *task_list(List *tasks);


/*
 * flow_create_pool(pool text, slots int, description text) returns text
 *
 * Makes a pool, or changes the one that there is; description NULL keeps its
 * description.  0 slots let none of its tasks start.
 */
Datum
flow_create_pool(PG_FUNCTION_ARGS)
{
	char	   *pool;
	int			slots;
	char	   *description;
	List	   *tasks;

	fp_args_begin("flow_create_pool()");
	pool = fp_args_id(fcinfo, 0, "pool");
	slots = fp_args_required_int(fcinfo, 1, "slots", 0);
	require_superuser(pool);

	description = fp_args_text(fcinfo, 2);
	if (!fp_pool_store_change(pool, slots, description))
		fp_pool_store_add(pool, slots, description);
	tasks = fp_pool_store_tasks(pool, slots);
	if (tasks != NIL)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("pool \"%s\" has too few slots for some of its tasks",
						pool),
				 errdetail("These tasks will not start: %s.",
						   task_list(tasks)),
				 errhint("Give the pool more slots, or define the tasks with fewer pool_slots.")));

	fp_request_store_add(FP_REQUEST_POOL, NULL, 0, 0, NULL);
	PG_RETURN_TEXT_P(cstring_to_text(pool));
}

/*
 * flow_drop_pool(pool text) returns void
 */
Datum
flow_drop_pool(PG_FUNCTION_ARGS)
{
	char	   *pool;
	List	   *tasks;

	fp_args_begin("flow_drop_pool()");
	pool = fp_args_id(fcinfo, 0, "pool");
	require_superuser(pool);

	if (strcmp(pool, FP_DEFAULT_POOL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot drop pool \"%s\"", pool),
				 errdetail("It is the pool of tasks that name none."),
				 errhint("Use flow_create_pool() to change its slots.")));
	if (!fp_pool_store_lock(pool))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pool \"%s\" does not exist", pool),
				 errhint("The table flow.pool lists the pools.")));

	/* the row is locked, so no task can come to use it now */
	tasks = fp_pool_store_tasks(pool, 0);
	if (tasks != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop pool \"%s\" because tasks use it", pool),
				 errdetail("It is used by %s.", task_list(tasks)),
				 errhint("Define these tasks with another pool, or drop them.")));
	(void) fp_pool_store_drop(pool);

	fp_request_store_add(FP_REQUEST_POOL, NULL, 0, 0, NULL);
	PG_RETURN_VOID();
}

/*
 * Trigger before INSERT on flow.pool.  A database that is being restored has
 * the built-in pool already, so the row that a dump has for it (where its
 * slots were changed) becomes an update.
 */
Datum
flow_pool_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = fp_trigger_row_require(fcinfo, "pool");
	HeapTuple	row = trigger->tg_trigtuple;
	char	   *pool = fp_trigger_row_text(trigger, row, "pool");
	bool		isnull;
	Datum		slots = fp_trigger_row_value(trigger, row, "slots", &isnull);

	if (pool != NULL && strcmp(pool, FP_DEFAULT_POOL) == 0 && !isnull &&
		fp_pool_store_change(pool, DatumGetInt32(slots),
							 fp_trigger_row_text(trigger, row,
												 "description")))
		return PointerGetDatum(NULL);	/* the row is done with */
	return PointerGetDatum(row);
}

static void
require_superuser(const char *pool)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for pool \"%s\"", pool),
				 errhint("Only superusers may create, change and drop pools.")));
}

static char *
task_list(List *tasks)
{
	StringInfoData text;
	ListCell   *lc;
	int			shown = 0;

	initStringInfo(&text);
	foreach(lc, tasks)
	{
		if (shown == LISTED_TASKS)
		{
			appendStringInfo(&text, " and %d more",
							 list_length(tasks) - shown);
			break;
		}
		appendStringInfo(&text, "%s%s", shown > 0 ? ", " : "",
						 (char *) lfirst(lc));
		shown++;
	}
	return text.data;
}
