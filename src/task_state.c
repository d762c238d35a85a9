/*-------------------------------------------------------------------------
 *
 * task_state.c
 *	  How the tasks of an active run go on.
 *
 * Works on the scheduler's memory only.  The cost of an event is that of the
 * tasks directly downstream of it; chains are followed with a list and not by
 * recursion, so that a run of thousands of tasks in a row is no problem.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "task_state.h"

#define DEFAULT_MAX_RETRY_DELAY USECS_PER_DAY

static void decide(FpModel *model, FpTask *task, List **ended);
static void settle(FpModel *model, FpTask *task, FpTaskRunState state);
static void count_upstream(FpUpstreamCounts *counts, FpTaskRunState state);
static void follow(FpModel *model, List *ended);

void
fp_task_state_begin_run(FpModel *model, FpRun *run)
{
	const FpVersion *version = run->version;
	List	   *ended = NIL;

	for (int i = 0; i < version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		if (!fp_task_run_state_is_finished(task->state))
			continue;
		run->nunfinished--;
		for (int d = 0; d < version->tasks[i].ndownstream; d++)
			count_upstream(&run->tasks[version->tasks[i].downstream[d]].upstream,
						   task->state);
	}
	if (run->nunfinished == 0)
		slist_push_head(&model->ended, &run->ended_node);

	for (int i = 0; i < version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		switch (task->state)
		{
			case FP_TASK_RUN_NONE:
				decide(model, task, &ended);
				break;
			case FP_TASK_RUN_UP_FOR_RETRY:
			case FP_TASK_RUN_UP_FOR_RESCHEDULE:
				fp_model_put_task(model, task, &model->timers);
				break;
			default:
				break;			/* ended, or at a worker */
		}
	}
	follow(model, ended);
}

void
fp_task_state_ended(FpModel *model, FpTask *task, FpTaskRunState state)
{
	settle(model, task, state);
	follow(model, list_make1(task));
}

void
fp_task_state_retry(FpModel *model, FpTask *task, TimestampTz retry_at)
{
	task->state = FP_TASK_RUN_UP_FOR_RETRY;
	task->retry_at = retry_at;
	fp_model_put_task(model, task, &model->timers);
}

void
fp_task_state_wake_retries(FpModel *model, TimestampTz now)
{
	while (!pairingheap_is_empty(&model->timers))
	{
		FpTask	   *task;

		task = pairingheap_container(FpTask, node,
									 pairingheap_first(&model->timers));
		if (task->retry_at > now)
			break;
		fp_model_take_task(model, task);
		fp_model_make_ready(model, task);
	}
}

int64
fp_task_state_retry_delay(const FpTaskSpec *task, int failures)
{
	int64		delay = task->retry_delay;
	int64		limit = task->max_retry_delay > 0 ? task->max_retry_delay
		: Max(task->retry_delay, DEFAULT_MAX_RETRY_DELAY);

	if (!task->has_backoff)
		return delay;
	for (int i = 1; i < failures && delay < limit; i++)
		delay *= 2;
	return Min(delay, limit);
}

FpRunState
fp_task_state_run_result(const FpRun *run)
{
	bool		has_failed = false;

	if (run->is_cancelling)
		return FP_RUN_CANCELLED;
	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTaskRunState state = run->tasks[i].state;

		if (run->version->tasks[i].ndownstream == 0 &&
			(state == FP_TASK_RUN_FAILED ||
			 state == FP_TASK_RUN_UPSTREAM_FAILED ||
			 state == FP_TASK_RUN_CANCELLED))
			has_failed = true;
	}
	return has_failed ? FP_RUN_FAILED : FP_RUN_SUCCESS;
}

void
fp_task_state_cancel_idle(FpModel *model, FpRun *run)
{
	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		if (task->token != 0 || fp_task_run_state_is_finished(task->state))
			continue;
		fp_model_take_task(model, task);

		/* one that has not begun leaves no trace */
		if (task->has_row && task->state != FP_TASK_RUN_NONE)
			fp_run_store_batch_add(model->decided, run->run_id,
								   run->dag->dag_id,
								   run->version->tasks[i].task_id, -1,
								   task->try_number, FP_TASK_RUN_CANCELLED);
		settle(model, task, FP_TASK_RUN_CANCELLED);
	}
}

/*
 * Decides a task that has not begun, if its upstream tasks allow it.  One that
 * ends by the decision is added to *ended.
 */
static void
decide(FpModel *model, FpTask *task, List **ended)
{
	const FpTaskSpec *def = fp_model_task_spec(task);
	FpTaskRunState state;

	if (task->run->is_cancelling)
		return;
	switch (fp_trigger_rule_decide(def->rule, &task->upstream))
	{
		case FP_TRIGGER_WAIT:
			return;
		case FP_TRIGGER_RUN:
			fp_model_make_ready(model, task);
			return;
		case FP_TRIGGER_SKIP:
			state = FP_TASK_RUN_SKIPPED;
			break;
		case FP_TRIGGER_UPSTREAM_FAILED:
			state = FP_TASK_RUN_UPSTREAM_FAILED;
			break;
		default:
			elog(ERROR, "unrecognized trigger decision");
			return;				/* keep compiler quiet */
	}

	fp_run_store_batch_add(model->decided, task->run->run_id,
						   task->run->dag->dag_id, def->task_id, -1,
						   task->try_number, state);
	task->has_row = true;
	settle(model, task, state);
	*ended = lappend(*ended, task);
}

static void
settle(FpModel *model, FpTask *task, FpTaskRunState state)
{
	FpRun	   *run = task->run;

	Assert(task->heap == NULL && task->token == 0);
	Assert(!fp_task_run_state_is_finished(task->state));
	task->state = state;
	if (--run->nunfinished == 0)
		slist_push_head(&model->ended, &run->ended_node);
}

/* Tells the tasks downstream of those that have ended, and so on. */
static void
follow(FpModel *model, List *ended)
{
	/* the list grows while it is read */
	for (int n = 0; n < list_length(ended); n++)
	{
		FpTask	   *task = list_nth(ended, n);
		FpRun	   *run = task->run;
		const FpTaskSpec *def = fp_model_task_spec(task);

		for (int d = 0; d < def->ndownstream; d++)
		{
			FpTask	   *downstream = &run->tasks[def->downstream[d]];

			count_upstream(&downstream->upstream, task->state);
			if (downstream->state == FP_TASK_RUN_NONE)
				decide(model, downstream, &ended);
		}
	}
	list_free(ended);
}

static void
count_upstream(FpUpstreamCounts *counts, FpTaskRunState state)
{
	switch (state)
	{
		case FP_TASK_RUN_SUCCESS:
			counts->success++;
			break;
		case FP_TASK_RUN_SKIPPED:
			counts->skipped++;
			break;
		case FP_TASK_RUN_UPSTREAM_FAILED:
			counts->upstream_failed++;
			break;
		case FP_TASK_RUN_REMOVED:
			counts->removed++;
			break;
		default:
			Assert(state == FP_TASK_RUN_FAILED ||
				   state == FP_TASK_RUN_CANCELLED);
			counts->failed++;
			break;
	}
}
