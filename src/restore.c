/*-------------------------------------------------------------------------
 *
 * restore.c
 *	  A scheduler starts: what is unfinished comes back into memory.
 *
 * Runs in the scheduler, when it starts and after any error.  The caller has
 * read from shared memory what workers hold before this reads the tables: an
 * attempt that ends in between is then known twice and not, as the other way
 * round, not at all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "backfill_life.h"
#include "backfill_store.h"
#include "callbacks.h"
#include "clock.h"
#include "guc.h"
#include "instance_store.h"
#include "request_store.h"
#include "restore.h"
#include "rework.h"
#include "run_life.h"
#include "shmem.h"
#include "task_run_store.h"
#include "task_state.h"
#include "version_store.h"

/* The place of a run in its backfill. */
typedef struct OrdinalEntry
{
	int64		run_id;			/* hash key */
	int64		ordinal;
} OrdinalEntry;

static void restore_runs(FpModel *model, List *backfills, List *runs,
						 List *adopted, FpTaskRunBatch *lost, List *to_clear);
static HTAB *restore_backfills(FpModel *model, List *backfills);
static void look_at_all_dags(FpModel *model);
static void restore_run(FpModel *model, const FpRunRow *row, int64 ordinal,
						List *adopted, FpTaskRunBatch *lost, List *to_clear);
static const FpToClear *find_to_clear(List *to_clear, int64 run_id,
									  const char *task_id);
static void clear_stopped(FpModel *model, List *to_clear);
static const FpAssignment *find_adopted(List *adopted, int64 run_id,
										const FpTaskRunRow *row);

void
fp_restore_model(FpModel *model, List *adopted, bool is_first)
{
	List	   *backfills = fp_backfill_store_unfinished();
	List	   *runs = fp_run_store_unfinished();
	List	   *to_clear = fp_request_store_to_clear();
	FpTaskRunBatch *lost = fp_task_run_store_new_batch();
	ListCell   *lc;

	if (!fp_instance_store_begin())
		model->has_crashed = is_first;

	restore_runs(model, backfills, runs, adopted, lost, to_clear);
	if (lost->n > 0 && fp_guc_logs(LOG))
		ereport(LOG,
				(errmsg("flowpg gives back %d task runs that were open when the server stopped",
						lost->n)));
	fp_task_run_store_give_back(lost, model->has_crashed, FP_MAX_CRASHES,
								fp_clock_real());
	clear_stopped(model, to_clear);
	fp_callbacks_restore(model, adopted);

	/* what was being cancelled goes on to be; so do runs without a DAG */
	foreach(lc, runs)
	{
		FpRunRow   *row = lfirst(lc);
		FpRun	   *run = fp_model_run(model, row->run_id);

		if (run == NULL)
			continue;
		if (row->is_cancelling && run->queue->backfill != NULL)
			run->queue->backfill->is_cancelled = true;
		if (row->is_cancelling)
			fp_run_life_cancel(model, run, "cancelled");
		else if (run->dag->row == NULL || fp_model_is_foreign_run(run))
			fp_run_life_cancel(model, run, "the DAG has been dropped");
	}
	foreach(lc, backfills)
	{
		FpBackfillRow *row = lfirst(lc);
		FpBackfill *backfill = fp_model_backfill(model, row->backfill_id,
												 false);

		if (backfill != NULL)
			fp_backfill_life_settle(model, backfill);
	}
	look_at_all_dags(model);
}

/* Enters backfills, and the runs with their places in them. */
static void
restore_runs(FpModel *model, List *backfills, List *runs, List *adopted,
			 FpTaskRunBatch *lost, List *to_clear)
{
	HTAB	   *ordinals = restore_backfills(model, backfills);
	ListCell   *lc;
	ListCell   *lb;

	foreach(lc, runs)
	{
		FpRunRow   *row = lfirst(lc);
		OrdinalEntry *entry = hash_search(ordinals, &row->run_id, HASH_FIND,
										  NULL);
		bool		is_queued = false;

		/* those of a queued backfill come with its request */
		foreach(lb, backfills)
		{
			FpBackfillRow *backfill = lfirst(lb);

			is_queued |= backfill->backfill_id == row->backfill_id &&
				backfill->state == FP_BACKFILL_QUEUED;
		}
		if (!is_queued)
			restore_run(model, row, entry != NULL ? entry->ordinal : 0,
						adopted, lost, to_clear);
	}
	hash_destroy(ordinals);
}

/*
 * Backfills under way; one that is still queued is taken up by its request.
 * Returns the places of their runs, by run_id.
 */
static HTAB *
restore_backfills(FpModel *model, List *backfills)
{
	HASHCTL		control;
	HTAB	   *ordinals;
	ListCell   *lc;
	ListCell   *lr;

	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(int64);
	control.entrysize = sizeof(OrdinalEntry);
	control.hcxt = CurrentMemoryContext;
	ordinals = hash_create("flowpg ordinals", 256, &control,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	foreach(lc, backfills)
	{
		FpBackfillRow *row = lfirst(lc);

		if (row->state == FP_BACKFILL_QUEUED)
			continue;
		fp_backfill_life_enter(model, row)->is_paused =
			row->state == FP_BACKFILL_PAUSED;
		foreach(lr, fp_run_store_of_backfill(row->backfill_id))
		{
			FpBackfillRunRow *run = lfirst(lr);
			OrdinalEntry *entry;

			if (run->run->backfill_id != row->backfill_id)
				continue;
			entry = hash_search(ordinals, &run->run->run_id, HASH_ENTER,
								NULL);
			entry->ordinal = run->ordinal;
		}
	}
	return ordinals;
}

static void
look_at_all_dags(FpModel *model)
{
	HASH_SEQ_STATUS scan;
	FpDag	   *dag;

	hash_seq_init(&scan, model->dags);
	while ((dag = hash_seq_search(&scan)) != NULL)
	{
		fp_model_set_next(model, dag, fp_clock_now());
		fp_model_mark_dirty(model, dag);
	}
}

static void
restore_run(FpModel *model, const FpRunRow *row, int64 ordinal,
			List *adopted, FpTaskRunBatch *lost, List *to_clear)
{
	FpRun	   *run;
	List	   *task_versions;
	List	   *task_runs;
	List	   *must_clear = NIL;
	ListCell   *lc;

	if (row->state == FP_RUN_QUEUED)
	{
		fp_run_life_enter(model, row, ordinal);
		return;
	}

	run = fp_model_add_run(model, row, ordinal);
	task_versions = fp_model_find_version(run->dag, row->version) != NULL ? NIL
		: fp_version_store_tasks(row->dag_id, row->version);
	task_runs = fp_task_run_store_list(row->run_id);
	foreach(lc, task_runs)
	{
		FpTaskRunRow *task_run = lfirst(lc);

		if (task_run->state == FP_TASK_RUN_RUNNING &&
			find_adopted(adopted, row->run_id, task_run) != NULL)
			continue;
		if (find_to_clear(to_clear, row->run_id, task_run->task_id) != NULL)
			must_clear = lappend(must_clear, task_run);
		if (task_run->state != FP_TASK_RUN_RUNNING)
			continue;
		fp_task_run_store_batch_add(lost, row->run_id, row->dag_id,
									task_run->task_id, task_run->map_index,
									task_run->try_number, FP_TASK_RUN_NONE);
		task_run->state = FP_TASK_RUN_NONE;
		if (model->has_crashed && ++task_run->crashes >= FP_MAX_CRASHES)
			task_run->state = FP_TASK_RUN_FAILED;
	}
	foreach(lc, must_clear)
	{
		FpTaskRunRow *task_run = lfirst(lc);

		task_run->state = FP_TASK_RUN_NONE;
		task_run->failures = task_run->crashes = 0;
		task_run->retry_at = DT_NOBEGIN;
	}

	fp_model_start_run(model, run, row->version, task_versions, task_runs);
	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];
		FpTaskRunRow key;
		const FpAssignment *assignment;
		const FpToClear *stopping;

		if (task->state != FP_TASK_RUN_RUNNING)
			continue;
		key.task_id = run->version->tasks[i].task_id;
		key.map_index = -1;
		key.try_number = task->try_number;
		assignment = find_adopted(adopted, row->run_id, &key);
		Assert(assignment != NULL);
		fp_model_set_token(model, task, assignment->token);
		stopping = find_to_clear(to_clear, row->run_id, key.task_id);
		if (stopping != NULL)
			fp_rework_wait_for(model, task, stopping->request_id);
	}
	fp_run_life_set_deadline(model, run, row->started_at);
	fp_run_life_follow_branches(model, run);
	fp_task_state_begin_run(model, run);
}

/*
 * What was to be cleared when its attempt had stopped, and has stopped: its
 * row, which memory takes to be clear already, after the attempts that were
 * lost have been given back.
 */
static void
clear_stopped(FpModel *model, List *to_clear)
{
	ListCell   *lc;

	foreach(lc, to_clear)
	{
		const FpToClear *entry = lfirst(lc);
		FpRun	   *run = fp_model_run(model, entry->run_id);
		bool		is_stopping = false;

		for (int i = 0; run != NULL && run->version != NULL &&
			 i < run->version->ntasks; i++)
			is_stopping |= run->tasks[i].to_clear == entry->request_id;
		if (is_stopping)
			continue;
		if (run != NULL && run->version != NULL)
			(void) fp_task_run_store_clear(entry->run_id,
										   list_make1(entry->task_id));
		fp_request_store_delete_to_clear(entry->request_id);
	}
}

static const FpToClear *
find_to_clear(List *to_clear, int64 run_id, const char *task_id)
{
	ListCell   *lc;

	foreach(lc, to_clear)
	{
		const FpToClear *entry = lfirst(lc);

		if (entry->run_id == run_id && strcmp(entry->task_id, task_id) == 0)
			return entry;
	}
	return NULL;
}

static const FpAssignment *
find_adopted(List *adopted, int64 run_id, const FpTaskRunRow *row)
{
	ListCell   *lc;

	foreach(lc, adopted)
	{
		FpAssignment *assignment = lfirst(lc);

		if (assignment->run_id == run_id &&
			assignment->map_index == row->map_index &&
			assignment->try_number == row->try_number &&
			strcmp(assignment->task_id, row->task_id) == 0)
			return assignment;
	}
	return NULL;
}
