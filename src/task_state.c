/*-------------------------------------------------------------------------
 *
 * task_state.c
 *	  How the tasks of an active run go on.
 *
 * Works on the scheduler's memory only, but for fp_task_state_record_decided.
 * The cost of an event is that of the tasks directly downstream of it; chains
 * are followed with a list and not by recursion, so that a run of thousands of
 * tasks in a row is no problem.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "clock.h"
#include "task_state.h"

#define DEFAULT_MAX_RETRY_DELAY USECS_PER_DAY

static bool *reached_from(const FpRun *run, List *followed);
static void decide(FpModel *model, FpTask *task, List **ended);
static void settle(FpModel *model, FpTask *task, FpTaskRunState state);
static void wake_next(FpModel *model, FpTask *task);
static void count_upstream(FpUpstreamCounts *counts, FpTaskRunState state);
static void follow(FpModel *model, List *ended);

void
fp_task_state_begin_run(FpModel *model, FpRun *run)
{
	const FpVersion *version = run->version;
	List	   *ended = NIL;

	run->nunfinished = version->ntasks;
	run->nlive = 0;
	for (int i = 0; i < version->ntasks; i++)
		run->tasks[i].nopen_branches = 0;
	for (int i = 0; i < version->ntasks; i++)
	{
		if (version->tasks[i].operator != FP_OPERATOR_BRANCH ||
			fp_task_run_state_is_finished(run->tasks[i].state))
			continue;
		for (int d = 0; d < version->tasks[i].ndownstream; d++)
			run->tasks[version->tasks[i].downstream[d]].nopen_branches++;
	}
	for (int i = 0; i < version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		if (task->state != FP_TASK_RUN_NONE &&
			!fp_task_run_state_is_finished(task->state))
			run->nlive++;
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
				if (task->heap == NULL)
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
fp_task_state_take_rows(FpModel *model, FpRun *run, List *task_runs)
{
	const FpVersion *version = run->version;
	ListCell   *lc;

	for (int i = 0; i < version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];
		FpTaskRunRow *row = NULL;

		memset(&task->upstream, 0, sizeof(task->upstream));
		task->upstream.total = version->tasks[i].nupstream;
		if (task->token != 0)
			continue;			/* its worker will tell */
		foreach(lc, task_runs)
		{
			if (strcmp(((FpTaskRunRow *) lfirst(lc))->task_id,
					   version->tasks[i].task_id) == 0)
				row = lfirst(lc);
		}
		fp_model_take_task(model, task);
		fp_model_forget_past(task);
		task->is_past_met = false;
		task->has_row = row != NULL;
		task->state = row != NULL ? row->state : FP_TASK_RUN_NONE;
		task->failures = row != NULL ? row->failures : 0;
		task->crashes = row != NULL ? row->crashes : 0;
		task->retry_at = row != NULL ? row->retry_at : DT_NOBEGIN;
	}
}

void
fp_task_state_follow_branch(FpModel *model, FpTask *task, List *followed,
							bool is_begun)
{
	FpRun	   *run = task->run;
	const FpTaskSpec *spec = fp_model_task_spec(task);
	bool	   *goes_on = reached_from(run, followed);
	List	   *ended = NIL;

	for (int d = 0; d < spec->ndownstream; d++)
	{
		FpTask	   *downstream = &run->tasks[spec->downstream[d]];

		if (goes_on[spec->downstream[d]] ||
			downstream->state != FP_TASK_RUN_NONE)
			continue;
		fp_task_run_store_batch_add(model->decided, run->run_id,
									run->dag->dag_id,
									fp_model_task_spec(downstream)->task_id, -1,
									downstream->try_number,
									FP_TASK_RUN_SKIPPED);
		downstream->has_row = true;
		fp_model_forget_past(downstream);
		if (is_begun)
		{
			settle(model, downstream, FP_TASK_RUN_SKIPPED);
			ended = lappend(ended, downstream);
		}
		else
			downstream->state = FP_TASK_RUN_SKIPPED;
	}
	follow(model, ended);
	pfree(goes_on);
}

void
fp_task_state_record_decided(FpModel *model)
{
	fp_task_run_store_record_states(model->decided, fp_clock_real());
	model->decided->n = 0;
}

/* The named tasks and all that is downstream of them. */
static bool *
reached_from(const FpRun *run, List *followed)
{
	const FpVersion *version = run->version;
	bool	   *result = palloc0(sizeof(bool) * Max(1, version->ntasks));
	List	   *todo = NIL;
	ListCell   *lc;

	for (int i = 0; i < version->ntasks; i++)
	{
		foreach(lc, followed)
		{
			if (strcmp(version->tasks[i].task_id, lfirst(lc)) == 0 &&
				!result[i])
			{
				result[i] = true;
				todo = lappend_int(todo, i);
			}
		}
	}
	/* the list grows while it is read */
	for (int n = 0; n < list_length(todo); n++)
	{
		const FpTaskSpec *spec = &version->tasks[list_nth_int(todo, n)];

		for (int d = 0; d < spec->ndownstream; d++)
		{
			if (result[spec->downstream[d]])
				continue;
			result[spec->downstream[d]] = true;
			todo = lappend_int(todo, spec->downstream[d]);
		}
	}
	list_free(todo);
	return result;
}

void
fp_task_state_reschedule(FpModel *model, FpTask *task, TimestampTz poke_at)
{
	task->state = FP_TASK_RUN_UP_FOR_RESCHEDULE;
	task->retry_at = task->is_woken ? fp_clock_now() : poke_at;
	fp_model_put_task(model, task, &model->timers);
}

void
fp_task_state_past_met(FpModel *model, FpTask *task)
{
	fp_model_forget_past(task);
	task->is_past_met = true;
	if (!task->run->is_parked)
		fp_model_make_ready(model, task);
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

	if (run->is_timed_out)
		return FP_RUN_FAILED;
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
			fp_task_run_store_batch_add(model->decided, run->run_id,
										run->dag->dag_id,
										run->version->tasks[i].task_id, -1,
										task->try_number,
										FP_TASK_RUN_CANCELLED);
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
	const FpTaskSpec *spec = fp_model_task_spec(task);
	FpTaskRunState state;

	if (task->run->is_cancelling)
		return;

	/*
	 * A branch may skip the task, whatever its rule says of the others: the
	 * outcome must not depend on which of them ends first.
	 */
	if (task->nopen_branches > 0 && spec->rule != FP_TRIGGER_RULE_ALWAYS)
		return;
	switch (fp_trigger_rule_decide(spec->rule, &task->upstream))
	{
		case FP_TRIGGER_WAIT:
			return;
		case FP_TRIGGER_RUN:
			if (spec->depends_on_past && !task->is_past_met)
				fp_model_check_past(model, task);
			else if (!task->run->is_parked)
				fp_model_make_ready(model, task);
			else
			{
				/* the run needs a slot again for it */
				task->is_past_met = true;
				if (!task->run->is_in_queue)
					fp_model_enqueue_run(model, task->run, false);
			}
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

	fp_task_run_store_batch_add(model->decided, task->run->run_id,
								task->run->dag->dag_id, spec->task_id, -1,
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
	if (task->state != FP_TASK_RUN_NONE)
		run->nlive--;
	fp_model_forget_past(task);
	task->state = state;
	wake_next(model, task);
	if (--run->nunfinished == 0)
		slist_push_head(&model->ended, &run->ended_node);
}

/*
 * The same task of the DAG's next run may have waited for this one; whether it
 * may go on is looked up later in the cycle.
 */
static void
wake_next(FpModel *model, FpTask *task)
{
	FpRun	   *run = task->run;
	FpTask	   *next = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &run->dag->waiting_for_past)
	{
		FpTask	   *candidate = dlist_container(FpTask, past_node, iter.cur);

		if (candidate->run->logical_date > run->logical_date &&
			(next == NULL ||
			 candidate->run->logical_date < next->run->logical_date) &&
			strcmp(fp_model_task_spec(candidate)->task_id,
				   fp_model_task_spec(task)->task_id) == 0)
			next = candidate;
	}
	if (next != NULL)
		fp_model_check_past(model, next);
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
		const FpTaskSpec *spec = fp_model_task_spec(task);

		for (int d = 0; d < spec->ndownstream; d++)
		{
			FpTask	   *downstream = &run->tasks[spec->downstream[d]];

			count_upstream(&downstream->upstream, task->state);
			if (spec->operator == FP_OPERATOR_BRANCH)
				downstream->nopen_branches--;
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
