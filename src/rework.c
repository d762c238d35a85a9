/*-------------------------------------------------------------------------
 *
 * rework.c
 *	  Tasks of a run are cleared or marked.
 *
 * Runs in the scheduler, which alone changes runs under way.  What the tables
 * say is changed first; memory takes it over from there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock.h"
#include "coverage_store.h"
#include "dispatch.h"
#include "past.h"
#include "rework.h"
#include "run_life.h"
#include "task_run_store.h"
#include "task_state.h"

void
fp_rework_tasks(FpModel *model, int64 run_id, List *task_ids,
				   FpTaskRunState state)
{
	FpRun	   *run = fp_model_run(model, run_id);
	FpRunRow   *row;
	FpDag	   *dag;
	ListCell   *lc;

	if (task_ids == NIL)
		return;
	row = fp_run_store_get(run_id);
	if (row == NULL || (run != NULL && run->is_cancelling))
		return;
	dag = fp_model_dag(model, row->dag_id, false);
	if (dag == NULL || dag->row == NULL)
		return;

	/* what a worker holds is stopped first, and cleared when it has stopped */
	if (run != NULL && run->version != NULL)
	{
		List	   *idle = NIL;

		foreach(lc, task_ids)
		{
			FpTask	   *task = NULL;

			for (int i = 0; i < run->version->ntasks; i++)
			{
				if (strcmp(run->version->tasks[i].task_id, lfirst(lc)) == 0)
					task = &run->tasks[i];
			}
			if (task == NULL || task->token == 0)
				idle = lappend(idle, lfirst(lc));
			else if (state == FP_TASK_RUN_NONE)
			{
				task->must_clear = true;
				if (fp_dispatch_cancel(task->token, false))
				{
					fp_model_set_token(model, task, 0);
					idle = lappend(idle, lfirst(lc));
				}
			}
		}
		task_ids = idle;
	}

	if (state == FP_TASK_RUN_NONE)
	{
		if (task_ids != NIL)
			(void) fp_task_run_store_clear(run_id, task_ids);
	}
	else
	{
		FpTaskRunBatch *batch = fp_task_run_store_new_batch();

		foreach(lc, task_ids)
			fp_task_run_store_batch_add(batch, run_id, row->dag_id,
										lfirst(lc), -1, 0, state);
		fp_task_run_store_record_states(batch, fp_clock_real());
	}

	if (run == NULL)
	{
		if (row->state == FP_RUN_SUCCESS)
			fp_coverage_store_remove(row->dag_id, row->data_interval_start,
									 row->data_interval_end);
		/* one that never started has nothing but its place in the queue */
		fp_run_store_requeue(run_id, 0, fp_clock_real());
		row->backfill_id = 0;
		row->state = FP_RUN_QUEUED;
		fp_run_life_enter(model, row, 0);
	}
	else if (run->version != NULL && run->nunfinished > 0)
	{
		fp_task_state_refresh(model, run, fp_task_run_store_list(run_id));
		fp_past_run_changed(model, dag, run->logical_date);
	}
}
