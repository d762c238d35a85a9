/*-------------------------------------------------------------------------
 *
 * callbacks.c
 *	  on_success and on_failure of runs that have ended.
 *
 * Runs in the scheduler.  A callback is handed to a worker like a task.  In
 * memory it is a run with one task, beside the DAG's runs; its record is a row
 * of flow.callback, written in the commit in which the run ends, so that a crash
 * neither loses it nor runs it twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "callback_store.h"
#include "callbacks.h"
#include "clock.h"
#include "shmem.h"

/* A callback that is cut off, by a stop of the server or its worker's, is tried so often. */
#define MAX_TRIES 3

/*
 * A callback is handed to a worker like a task.  In memory it is a run with
 * one task, beside the DAG's runs; its record is a row of flow.callback.
 */
void
fp_callbacks_start(FpModel *model, FpDag *dag, const FpRunRow *row,
			   FpRunState state, int64 callback_id, uint64 token)
{
	MemoryContext previous = MemoryContextSwitchTo(model->context);
	FpRun	   *callback = palloc0(sizeof(FpRun));
	FpVersion  *version = palloc0(sizeof(FpVersion));
	FpTask	   *task = palloc0(sizeof(FpTask));

	version->version = row->version;
	version->ntasks = 1;
	version->tasks = palloc0(sizeof(FpTaskSpec));
	version->tasks[0].task_id = state == FP_RUN_SUCCESS ? "on_success"
		: "on_failure";
	version->tasks[0].operator = FP_OPERATOR_CALLBACK;
	version->tasks[0].pool = fp_model_pool(model, "default");
	callback->run_id = row->run_id;
	callback->dag = dag;
	callback->queue = &dag->own;
	callback->version = version;
	callback->is_callback = true;
	callback->callback_id = callback_id;
	callback->callback_role = dag->row->owner;
	callback->run_type = row->run_type;
	callback->state = state;
	callback->logical_date = row->logical_date;
	callback->data_interval_start = row->data_interval_start;
	callback->data_interval_end = row->data_interval_end;
	callback->has_conf = row->has_conf;
	callback->priority = dag->row->priority;
	callback->nunfinished = 1;
	callback->tasks = task;
	task->run = callback;
	if (token == 0)
		fp_model_make_ready(model, task);
	else
	{
		task->state = FP_TASK_RUN_RUNNING;
		fp_model_set_token(model, task, token);
	}
	MemoryContextSwitchTo(previous);
}

/*
 * The worker of one that is lost may have recorded its end just before; then
 * the record counts.
 */
void
fp_callbacks_ended(FpModel *model, FpRun *callback, bool is_lost)
{
	int			ntries = is_lost ?
		fp_callback_store_tries(callback->callback_id) : 0;

	if (ntries > 0 && ntries < MAX_TRIES &&
		fp_model_is_own_version(callback->dag, callback->version->version))
	{
		fp_model_make_ready(model, callback->tasks);
		return;
	}
	if (ntries > 0)
		fp_callback_store_end(callback->callback_id, "57P01",
							  "the worker was terminated each time the callback was running, or its DAG is gone",
							  fp_clock_real());
	pfree(callback->version->tasks);
	pfree(callback->version);
	pfree(callback->tasks);
	pfree(callback);
}

void
fp_callbacks_restore(FpModel *model, List *adopted)
{
	ListCell   *lc;
	ListCell   *la;

	foreach(lc, fp_callback_store_list_open())
	{
		FpCallbackRow *row = lfirst(lc);
		FpDag	   *dag = fp_model_dag(model, row->run->dag_id, false);
		uint64		token = 0;

		foreach(la, adopted)
		{
			FpAssignment *assignment = lfirst(la);

			if (assignment->run_id == row->run->run_id &&
				assignment->map_index == FP_CALLBACK_MAP_INDEX &&
				assignment->callback_id == row->callback_id)
				token = assignment->token;
		}
		if (dag == NULL ||
			!fp_model_is_own_version(dag, row->run->version) ||
			(token == 0 && row->ntries >= MAX_TRIES))
		{
			fp_callback_store_try(row->callback_id, fp_clock_real());
			fp_callback_store_end(row->callback_id, "57P01",
								  "the server stopped each time the callback was running, or its DAG is gone",
								  fp_clock_real());
		}
		else
			fp_callbacks_start(model, dag, row->run, row->state,
						   row->callback_id, token);
	}
}
