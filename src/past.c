/*-------------------------------------------------------------------------
 *
 * past.c
 *	  depends_on_past: a task waits for its own previous run.
 *
 * Runs in the scheduler.  A run in which nothing goes on until an earlier run
 * does is parked: it holds no slot of max_active_runs, so that the earlier run,
 * cleared later, can have one.  It queues for a slot again when it can go on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "past.h"
#include "task_run_store.h"
#include "task_state.h"

void
fp_past_check(FpModel *model, FpTask *task)
{
	FpRun	   *run = task->run;
	FpBackfill *backfill = run->queue->backfill;

	fp_model_forget_past(task);
	if (run->is_cancelling || task->state != FP_TASK_RUN_NONE)
		return;
	if ((backfill != NULL && backfill->ignore_depends_on_past) ||
		fp_task_run_store_is_past_met(run->dag->dag_id, run->logical_date,
									  backfill != NULL ? backfill->backfill_id : 0,
									  fp_model_task_spec(task)->task_id))
	{
		fp_task_state_past_met(model, task);
		/* it needs a slot again */
		if (run->is_parked && !run->is_in_queue)
			fp_model_enqueue_run(model, run, false);
		return;
	}
	task->waits_for_past = true;
	dlist_push_tail(&run->dag->waiting_for_past, &task->past_node);
	fp_past_park_if_idle(model, run);
}

void
fp_past_park_if_idle(FpModel *model, FpRun *run)
{
	bool		is_waiting = false;

	if (run->is_parked || run->is_cancelling || run->nlive > 0 ||
		run->nunfinished == 0)
		return;
	for (int i = 0; i < run->version->ntasks; i++)
	{
		if (run->tasks[i].is_past_queued)
			return;				/* not yet looked up */
		is_waiting |= run->tasks[i].waits_for_past;
	}
	if (!is_waiting)
		return;
	run->is_parked = true;
	run->queue->nparked++;
	run->queue->nactive--;
	fp_model_mark_dirty(model, run->dag);
}

void
fp_past_run_changed(FpModel *model, FpDag *dag, TimestampTz logical_date)
{
	TimestampTz next = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach(iter, &dag->waiting_for_past)
	{
		FpTask	   *task = dlist_container(FpTask, past_node, iter.cur);

		if (task->run->logical_date > logical_date)
			next = Min(next, task->run->logical_date);
	}
	dlist_foreach(iter, &dag->waiting_for_past)
	{
		FpTask	   *task = dlist_container(FpTask, past_node, iter.cur);

		if (task->run->logical_date == next)
			fp_model_check_past(model, task);
	}
}

/* The run has a slot again: goes on with the tasks that may. */
void
fp_past_unpark(FpModel *model, FpRun *run)
{
	run->is_parked = false;
	run->queue->nparked--;
	run->queue->nactive++;
	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		if (task->state == FP_TASK_RUN_NONE && task->is_past_met)
			fp_model_make_ready(model, task);
	}
	fp_past_park_if_idle(model, run);
}
