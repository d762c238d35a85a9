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
#include "link.h"
#include "past.h"
#include "request_store.h"
#include "rework.h"
#include "run_life.h"
#include "spi_util.h"
#include "task_run_store.h"
#include "task_state.h"

/* A run that has ended, and what the tables are to say of it. */
typedef struct EndedRun
{
	FpModel    *model;
	FpRunRow   *row;
	List	   *task_ids;
	FpTaskRunState state;
} EndedRun;

static void refresh(FpModel *model, FpRun *run);
static bool settle_first(FpModel *model, FpRun *run);
static List *stop_at_workers(FpModel *model, FpRun *run, List *task_ids,
							 bool is_clearing);
static void write_rows(const FpRunRow *row, List *task_ids,
					   FpTaskRunState state);
static void requeue(void *arg);
static void queue_again(FpModel *model, const FpRunRow *row, bool is_cascaded);

bool
fp_rework_tasks(FpModel *model, int64 run_id, List *task_ids,
				FpTaskRunState state, bool is_cascaded)
{
	FpRun	   *run = fp_model_run(model, run_id);
	FpRunRow   *row;
	FpDag	   *dag;

	if (task_ids == NIL || (run != NULL && run->is_cancelling))
		return true;
	fp_task_state_record_decided(model);
	if (run != NULL && run->version != NULL && run->nunfinished == 0)
	{
		if (!settle_first(model, run))
			return false;
		run = NULL;
	}
	row = fp_run_store_get(run_id);
	if (row == NULL)
		return true;
	dag = fp_model_dag(model, row->dag_id, false);
	if (dag == NULL || dag->row == NULL)
		return true;
	/* of a DAG that has been dropped since, and is another one now */
	if (row->version != 0 && !fp_model_is_own_version(dag, row->version))
		return true;

	if (run == NULL)
	{
		EndedRun	ended = {model, row, task_ids, state};

		if (!fp_spi_try(requeue, &ended))
			return false;
		queue_again(model, row, is_cascaded);
		return true;
	}
	if (run->version != NULL)
		task_ids = stop_at_workers(model, run, task_ids,
								   state == FP_TASK_RUN_NONE);
	write_rows(row, task_ids, state);
	if (run->version == NULL)
		run->has_rows = true;
	else
		refresh(model, run);
	return true;
}

void
fp_rework_cleared(FpModel *model, FpTask *task)
{
	FpRun	   *run = task->run;
	bool		is_done = true;

	fp_task_state_record_decided(model);
	fp_request_store_delete_to_clear(task->to_clear);
	task->to_clear = 0;
	for (int i = 0; i < run->version->ntasks; i++)
		is_done &= run->tasks[i].to_clear == 0;
	if (is_done)
	{
		model->cancelling = list_delete_ptr(model->cancelling, run);
		run->ncancels = 0;
	}
	(void) fp_task_run_store_clear(run->run_id,
								   list_make1(fp_model_task_spec(task)->task_id));
	refresh(model, run);
}

/* Takes over what the rows of a running run say, and decides anew. */
static void
refresh(FpModel *model, FpRun *run)
{
	fp_task_state_take_rows(model, run, fp_task_run_store_list(run->run_id));
	fp_run_life_follow_branches(model, run);
	fp_task_state_begin_run(model, run);
	fp_past_run_changed(model, run->dag, run->logical_date);
}

/*
 * The last task of the run has just ended: the run ends first, and is then
 * reworked like any that has ended.  False: it cannot end just now.
 */
static bool
settle_first(FpModel *model, FpRun *run)
{
	int64		run_id = run->run_id;

	if (run->is_put_off)
		return false;
	slist_delete(&model->ended, &run->ended_node);
	fp_run_life_end(model, run);
	return fp_model_run(model, run_id) == NULL;
}

/*
 * Tasks at a worker are stopped, to be cleared when they have (or, to be
 * marked, are left alone).  Returns the others.
 */
static List *
stop_at_workers(FpModel *model, FpRun *run, List *task_ids, bool is_clearing)
{
	List	   *idle = NIL;
	ListCell   *lc;

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
		else if (is_clearing && fp_dispatch_cancel(task->token, false))
		{
			/* no worker had begun it */
			fp_model_set_token(model, task, 0);
			idle = lappend(idle, lfirst(lc));
		}
		else if (is_clearing && task->to_clear == 0)
			fp_rework_wait_for(model, task,
							   fp_request_store_add_to_clear(run->run_id,
															 lfirst(lc),
															 run->dag->row->owner));
	}
	return idle;
}

/* Its worker has been told to stop, and is reminded of it. */
void
fp_rework_wait_for(FpModel *model, FpTask *task, int64 to_clear)
{
	MemoryContext previous = MemoryContextSwitchTo(model->context);

	task->to_clear = to_clear;
	model->cancelling = list_append_unique_ptr(model->cancelling, task->run);
	model->reminded_at = fp_clock_real();
	MemoryContextSwitchTo(previous);
}

static void
write_rows(const FpRunRow *row, List *task_ids, FpTaskRunState state)
{
	FpTaskRunBatch *batch;
	ListCell   *lc;

	if (task_ids == NIL)
		return;
	if (state == FP_TASK_RUN_NONE)
	{
		(void) fp_task_run_store_clear(row->run_id, task_ids);
		return;
	}
	batch = fp_task_run_store_new_batch();
	foreach(lc, task_ids)
		fp_task_run_store_batch_add(batch, row->run_id, row->dag_id,
									lfirst(lc), -1, 0, state);
	fp_task_run_store_record_states(batch, fp_clock_real());
}

/*
 * A run that has ended goes back to its queue: that of its backfill, if that
 * is still under way.  Its success, if it had any, no longer counts.
 */
static void
requeue(void *arg)
{
	EndedRun   *ended = arg;
	FpRunRow   *row = ended->row;

	write_rows(row, ended->task_ids, ended->state);
	if (row->state == FP_RUN_SUCCESS)
		fp_coverage_store_take_back(row);
	if (row->backfill_id != 0 &&
		fp_model_backfill(ended->model, row->backfill_id, false) == NULL)
		row->backfill_id = 0;
	fp_run_store_requeue(row->run_id, row->backfill_id, fp_clock_real());
	row->state = FP_RUN_QUEUED;
}

/* The same in memory. */
static void
queue_again(FpModel *model, const FpRunRow *row, bool is_cascaded)
{
	FpRun	   *run = fp_model_add_run(model, row, 0);

	run->has_rows = true;
	if (is_cascaded)
		run->waits_for_asis = true;
	fp_model_enqueue_run(model, run, !fp_link_is_satisfied(model, run));
}
