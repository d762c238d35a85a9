/*-------------------------------------------------------------------------
 *
 * run_life.c
 *	  The life of runs and backfills: made, queued, started, ended, cancelled.
 *
 * Runs in the scheduler, inside its cycle's transaction.  A run is made
 * queued (by the schedule, a link, or a session), waits in its queue for asis
 * DAGs and for max_active_runs, is started with the definition as it then is,
 * and ends when all its tasks have.  What its end sets off is written in the
 * same transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "backfill_store.h"
#include "callback_store.h"
#include "clock.h"
#include "coverage_store.h"
#include "dispatch.h"
#include "graph.h"
#include "guc.h"
#include "link.h"
#include "run_life.h"
#include "run_planner.h"
#include "spi_util.h"
#include "task_state.h"
#include "version_store.h"

/* A callback that a stop of the server cuts off is tried so often. */
#define MAX_CALLBACK_TRIES 3

/* Where a session's lock is in the way, it is tried again after this long. */
#define LOCKED_DELAY_MS 1000

/* Scheduled runs of one DAG that one cycle makes at most. */
#define MAX_RUNS_AT_ONCE 500

static void restore_run(FpModel *model, const FpRunRow *row, int64 ordinal,
						List *adopted, FpTaskRunBatch *lost);
static const FpAssignment *find_adopted(List *adopted, int64 run_id,
										const FpTaskRunRow *row);
/* The end of a run, as the tables get it. */
typedef struct RunEnd
{
	FpModel    *model;
	FpRun	   *run;
	FpRunState	state;
	char	   *message;
	int64		callback_id;	/* 0: none */
	List	   *made;			/* FpRunRow *: runs that it sets off */
} RunEnd;

static void record_end(void *arg);
static void make_due_run(void *arg);
static void put_off_dag(FpModel *model, FpDag *dag, int delay_ms);
static void restore_callbacks(FpModel *model, List *adopted);
static void start_callback(FpModel *model, FpDag *dag, const FpRunRow *run,
						   FpRunState state, int64 callback_id, uint64 token);
static void follow_earlier_branches(FpModel *model, FpRun *run);
static void set_deadline(FpModel *model, FpRun *run, TimestampTz started_at);
static void park_if_idle(FpModel *model, FpRun *run);
static void unpark(FpModel *model, FpRun *run);
static void wake_parent(FpModel *model, int64 parent_run_id);
static bool is_in_window(const FpBackfill *backfill, const FpDag *dag,
						 TimestampTz now);
static void read_window(FpBackfill *backfill, const char *window);
static void notify_run(const FpRun *run, FpRunState state);
static bool has_room_for_due(const FpQueue *queue);
static bool may_start_one(const FpQueue *queue);
static void start_run(FpModel *model, FpRun *run);
static List *remove_old_tasks(int64 run_id, List *task_versions,
							  List *task_runs);
static void reprocess(FpModel *model, const FpBackfillRunRow *row,
					  int64 backfill_id);
static List *failed_and_downstream(const FpRunRow *run);
static void cancel_dependents(FpModel *model, FpBackfill *backfill,
							  FpDag *dag, TimestampTz start, TimestampTz end,
							  const char *message);
static void drop_queued(FpModel *model, FpRun *run, const char *message);
static void settle_backfill(FpModel *model, FpBackfill *backfill);


/* ---- start of a scheduler ---- */

void
fp_run_life_restore(FpModel *model, List *adopted)
{
	static bool is_first = true;
	FpTaskRunBatch *lost = fp_task_run_store_new_batch();
	List	   *backfills = fp_backfill_store_unfinished();
	List	   *runs = fp_run_store_unfinished();
	HTAB	   *ordinals;
	HASHCTL		control;
	ListCell   *lc;
	ListCell   *lr;
	typedef struct OrdinalEntry
	{
		int64		run_id;
		int64		ordinal;
	} OrdinalEntry;

	/* a scheduler that only begins anew has seen no crash */
	if (is_first)
		model->has_crashed = !fp_run_store_begin_instance();
	is_first = false;

	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(int64);
	control.entrysize = sizeof(OrdinalEntry);
	control.hcxt = CurrentMemoryContext;
	ordinals = hash_create("flowpg ordinals", 256, &control,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	/* a backfill that is still queued is taken up by its request */
	foreach(lc, backfills)
	{
		FpBackfillRow *row = lfirst(lc);
		FpBackfill *backfill;

		if (row->state == FP_BACKFILL_QUEUED)
			continue;
		backfill = fp_model_backfill(model, row->backfill_id, true);
		backfill->dag_id = MemoryContextStrdup(model->context, row->dag_id);
		backfill->is_paused = row->state == FP_BACKFILL_PAUSED;
		backfill->stop_on_failure = row->stop_on_failure;
		backfill->ignore_depends_on_past = row->ignore_depends_on_past;
		backfill->max_active_runs = row->max_active_runs;
		backfill->priority = row->priority;
		read_window(backfill, row->run_window);
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

	foreach(lc, runs)
	{
		FpRunRow   *row = lfirst(lc);
		OrdinalEntry *entry = hash_search(ordinals, &row->run_id, HASH_FIND,
										  NULL);

		/* those of a queued backfill come with its request */
		if (row->backfill_id != 0 &&
			fp_model_backfill(model, row->backfill_id, false) == NULL)
			continue;
		restore_run(model, row, entry != NULL ? entry->ordinal : 0, adopted,
					lost);
	}
	hash_destroy(ordinals);

	if (lost->n > 0 && fp_guc_logs(LOG))
		ereport(LOG,
				(errmsg("flowpg gives back %d task runs that were open when the server stopped",
						lost->n)));
	fp_task_run_store_give_back(lost, model->has_crashed, FP_MAX_CRASHES,
								fp_clock_real());

	restore_callbacks(model, adopted);

	foreach(lc, backfills)
	{
		FpBackfillRow *row = lfirst(lc);
		FpBackfill *backfill = fp_model_backfill(model, row->backfill_id,
												 false);

		if (backfill != NULL)
			settle_backfill(model, backfill);
	}

	/* runs of DAGs that are no more */
	foreach(lc, runs)
	{
		FpRun	   *run = fp_model_run(model,
									   ((FpRunRow *) lfirst(lc))->run_id);

		if (run != NULL && run->dag->row == NULL)
			fp_run_life_cancel(model, run, "the DAG has been dropped");
	}
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
}

static void
restore_run(FpModel *model, const FpRunRow *row, int64 ordinal,
			List *adopted, FpTaskRunBatch *lost)
{
	FpRun	   *run;
	List	   *task_versions;
	List	   *task_runs;
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

		if (task_run->state != FP_TASK_RUN_RUNNING ||
			find_adopted(adopted, row->run_id, task_run) != NULL)
			continue;
		fp_task_run_store_batch_add(lost, row->run_id, row->dag_id,
									task_run->task_id, task_run->map_index,
									task_run->try_number, FP_TASK_RUN_NONE);
		task_run->state = FP_TASK_RUN_NONE;
		if (model->has_crashed && ++task_run->crashes >= FP_MAX_CRASHES)
			task_run->state = FP_TASK_RUN_FAILED;
	}

	fp_model_start_run(model, run, row->version, task_versions, task_runs);
	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];
		FpTaskRunRow key;
		const FpAssignment *assignment;

		if (task->state != FP_TASK_RUN_RUNNING)
			continue;
		key.task_id = run->version->tasks[i].task_id;
		key.map_index = -1;
		key.try_number = task->try_number;
		assignment = find_adopted(adopted, row->run_id, &key);
		Assert(assignment != NULL);
		fp_model_set_token(model, task, assignment->token);
	}
	set_deadline(model, run, row->started_at);
	follow_earlier_branches(model, run);
	fp_task_state_begin_run(model, run);
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


/* ---- made and started ---- */

/*
 * As many as could start now: a long catchup is made as it is worked off, and
 * not written in advance.  Runs that wait for other DAGs do not count.
 */
static bool
has_room_for_due(const FpQueue *queue)
{
	return queue->nactive + queue->nqueued < fp_model_max_active_runs(queue);
}

void
fp_run_life_make_due(FpModel *model, FpDag *dag, TimestampTz now)
{
	int			nmade = 0;

	if (dag->is_in_due)
		pairingheap_remove(&model->due, &dag->due_node);
	dag->is_in_due = false;
	dag->is_behind = false;

	/* without catchup it depends on the time which interval is the next */
	if (dag->has_next && !dag->bounds.catchup)
		dag->has_next = fp_schedule_next_run(dag->schedule, &dag->bounds, now,
											 &dag->next);

	while (dag->has_next && dag->next.end <= now)
	{
		FpRunRow	row;

		if (!has_room_for_due(&dag->own) || nmade == MAX_RUNS_AT_ONCE)
		{
			dag->is_behind = true;
			break;
		}
		memset(&row, 0, sizeof(row));
		row.dag_id = dag->dag_id;
		row.run_type = FP_RUN_SCHEDULED;
		row.state = FP_RUN_QUEUED;
		row.logical_date = dag->next.start;
		row.data_interval_start = dag->next.start;
		row.data_interval_end = dag->next.end;
		if (!fp_spi_try(make_due_run, &row))
		{
			dag->is_behind = true;
			put_off_dag(model, dag, LOCKED_DELAY_MS);
			break;
		}
		/* 0: a backfill's run stands for the interval */
		if (row.run_id != 0)
			fp_run_life_enter(model, &row, 0);
		nmade++;

		dag->bounds.has_last = true;
		dag->bounds.last = dag->next;
		dag->row->has_last = true;
		dag->row->last_start = dag->next.start;
		dag->row->last_end = dag->next.end;
		dag->has_next = (dag->schedule->kind != FP_SCHEDULE_CONTINUOUS) &&
			fp_schedule_next_run(dag->schedule, &dag->bounds, now,
								 &dag->next);
	}

	if (dag->is_behind)
	{
		/* else looked at again when a run of the DAG has ended */
		if (nmade == MAX_RUNS_AT_ONCE)
			put_off_dag(model, dag, 0);
	}
	else if (dag->has_next)
	{
		pairingheap_add(&model->due, &dag->due_node);
		dag->is_in_due = true;
	}
}

/* Inserts a due run, and with it the DAG's progress; run_id 0: it is there. */
static void
make_due_run(void *arg)
{
	FpRunRow   *row = arg;
	TimestampTz at = fp_clock_real();

	row->run_id = fp_run_store_insert(row, NULL, at);
	if (row->run_id == 0)
		row->run_id = fp_run_store_take_over(row, at);
	fp_dag_store_set_progress(row->dag_id, row->data_interval_start,
							  row->data_interval_end);
}

void
fp_run_life_enter(FpModel *model, const FpRunRow *row, int64 ordinal)
{
	FpRun	   *run = fp_model_add_run(model, row, ordinal);

	fp_model_enqueue_run(model, run, !fp_link_is_satisfied(model, run));
}

static bool
may_start_one(const FpQueue *queue)
{
	return !pairingheap_is_empty((pairingheap *) &queue->queued) &&
		queue->nactive < fp_model_max_active_runs(queue) &&
		(queue->backfill == NULL || !queue->backfill->is_paused);
}

void
fp_run_life_start_queued(FpModel *model, FpDag *dag, TimestampTz now)
{
	dlist_iter	iter;

	if (dag->row == NULL || !dag->row->has_tasks)
		return;
	if (dag->is_behind)
		fp_run_life_make_due(model, dag, now);
	else if (dag->schedule != NULL &&
			 dag->schedule->kind == FP_SCHEDULE_CONTINUOUS &&
			 dlist_is_empty(&dag->runs))
		fp_model_set_next(model, dag, now);

	dlist_foreach(iter, &dag->queues)
	{
		FpQueue    *queue = dlist_container(FpQueue, dag_node, iter.cur);

		while (may_start_one(queue) &&
			   is_in_window(queue->backfill, dag, now))
		{
			FpRun	   *run;

			run = pairingheap_container(FpRun, queue_node,
										pairingheap_first(&queue->queued));
			fp_model_dequeue_run(run);
			if (run->is_parked)
				unpark(model, run);
			else if (fp_link_is_satisfied(model, run))
				start_run(model, run);
			else
				fp_model_enqueue_run(model, run, true);
		}
	}

	/* starting has made room in the queue */
	if (dag->is_behind && has_room_for_due(&dag->own))
		fp_model_mark_dirty(model, dag);
}

/*
 * With the definition as it is now, also where the run has run before and was
 * cleared: what was wrong with it is what the clearing is about.
 */
static void
start_run(FpModel *model, FpRun *run)
{
	FpDag	   *dag = run->dag;
	int			version = dag->row->version;
	List	   *task_versions = NIL;
	List	   *task_runs = NIL;
	TimestampTz at = fp_clock_real();

	if (fp_model_find_version(dag, version) == NULL)
	{
		if (!fp_version_store_keep(dag->dag_id, version, at))
		{
			/* the definition has changed since: its request is on its way */
			fp_model_enqueue_run(model, run, true);
			return;
		}
		task_versions = fp_version_store_tasks(dag->dag_id, version);
	}
	if (run->has_rows)
	{
		task_runs = fp_task_run_store_list(run->run_id);
		task_runs = remove_old_tasks(run->run_id,
									 fp_version_store_tasks(dag->dag_id,
															version),
									 task_runs);
	}
	fp_run_store_start(run->run_id, version, at);
	fp_model_start_run(model, run, version, task_versions, task_runs);
	set_deadline(model, run, at);
	follow_earlier_branches(model, run);
	fp_task_state_begin_run(model, run);
}

/* Returns the task runs whose tasks are in the version; marks the others. */
static List *
remove_old_tasks(int64 run_id, List *task_versions, List *task_runs)
{
	List	   *kept = NIL;
	List	   *removed = NIL;
	ListCell   *lr;
	ListCell   *lv;

	foreach(lr, task_runs)
	{
		FpTaskRunRow *row = lfirst(lr);
		bool		found = false;

		foreach(lv, task_versions)
		{
			FpTaskVersionRow *task = lfirst(lv);

			if (strcmp(task->task_id, row->task_id) == 0)
			{
				found = true;
				break;
			}
		}
		if (found)
		{
			/* one that was no longer a part of the DAG, and is again */
			if (row->state == FP_TASK_RUN_REMOVED)
			{
				(void) fp_task_run_store_clear(run_id, list_make1(row->task_id));
				row->state = FP_TASK_RUN_NONE;
			}
			kept = lappend(kept, row);
		}
		else
			removed = lappend(removed, row->task_id);
	}
	if (removed != NIL)
		fp_task_run_store_remove(run_id, removed);
	return kept;
}


/* ---- ended ---- */

void
fp_run_life_end(FpModel *model, FpRun *run)
{
	FpDag	   *dag = run->dag;
	FpBackfill *backfill = run->queue->backfill;
	FpRunState	state = fp_task_state_run_result(run);
	TimestampTz start = run->data_interval_start;
	TimestampTz end = run->data_interval_end;
	int64		run_id = run->run_id;
	int64		parent_run_id;
	RunEnd		record = {0};

	record.model = model;
	record.run = run;
	record.state = state;
	if (!fp_spi_try(record_end, &record))
	{
		/* a session holds what has to be written: try again in a while */
		slist_push_head(&model->ended_later, &run->ended_node);
		model->retry_at = Min(model->retry_at,
							  TimestampTzPlusMilliseconds(fp_clock_real(),
														  LOCKED_DELAY_MS));
		return;
	}
	notify_run(run, state);
	if (state == FP_RUN_SUCCESS)
	{
		fp_link_enter(model, record.made);
		fp_link_wake_tobe(model, run);
	}
	if (fp_guc_logs(state == FP_RUN_FAILED ? LOG : DEBUG1))
		ereport(LOG,
				(errmsg("run " INT64_FORMAT " of dag \"%s\": %s", run_id,
						dag->dag_id, fp_run_state_name(state)),
				 record.message != NULL
				 ? errdetail_internal("%s", record.message) : 0));
	if (record.callback_id != 0)
		start_callback(model, dag, fp_run_store_get(run_id), state,
					   record.callback_id, 0);

	model->cancelling = list_delete_ptr(model->cancelling, run);
	parent_run_id = run->parent_run_id;
	fp_model_remove_run(model, run);
	if (parent_run_id != 0)
		wake_parent(model, parent_run_id);

	if (backfill != NULL)
	{
		if (state != FP_RUN_SUCCESS)
		{
			cancel_dependents(model, backfill, dag, start, end,
							  psprintf("run " INT64_FORMAT " of dag \"%s\", which it depends on, has not succeeded",
									   run_id, dag->dag_id));
			if (backfill->stop_on_failure && state == FP_RUN_FAILED &&
				backfill->nunfinished > 0)
				fp_run_life_pause_backfill(model, backfill->backfill_id);
		}
		settle_backfill(model, backfill);
	}
}

/* What the tables must say of a run that has ended; all of it, or nothing. */
static void
record_end(void *arg)
{
	RunEnd	   *record = arg;
	FpRun	   *run = record->run;
	FpRunState	state = record->state;
	TimestampTz at = fp_clock_real();

	if (state == FP_RUN_CANCELLED || run->is_timed_out)
		record->message = run->cancel_message;
	else if (state == FP_RUN_FAILED)
		record->message = fp_task_run_store_first_failure(run->run_id);
	fp_run_store_end(run->run_id, state, record->message, at);
	if (state == FP_RUN_SUCCESS)
		fp_link_record_success(record->model, run, &record->made);
	if (run->dag->row != NULL &&
		((state == FP_RUN_SUCCESS && run->version->has_on_success) ||
		 (state == FP_RUN_FAILED && run->version->has_on_failure)))
		record->callback_id = fp_callback_store_add(run->run_id, state,
														at);
}

/* Looks at the DAG again in a later cycle, after so many milliseconds. */
static void
put_off_dag(FpModel *model, FpDag *dag, int delay_ms)
{
	MemoryContext previous = MemoryContextSwitchTo(model->context);

	model->later = list_append_unique_ptr(model->later, dag);
	MemoryContextSwitchTo(previous);
	model->retry_at = Min(model->retry_at,
						  TimestampTzPlusMilliseconds(fp_clock_real(),
													  delay_ms));
}

void
fp_run_life_retry(FpModel *model)
{
	ListCell   *lc;
	slist_mutable_iter iter;

	if (model->retry_at > fp_clock_real())
		return;
	model->retry_at = DT_NOEND;
	foreach(lc, model->later)
		fp_model_mark_dirty(model, lfirst(lc));
	list_free(model->later);
	model->later = NIL;
	slist_foreach_modify(iter, &model->ended_later)
	{
		FpRun	   *run = slist_container(FpRun, ended_node, iter.cur);

		slist_delete_current(&iter);
		slist_push_head(&model->ended, &run->ended_node);
	}
}

void
fp_run_life_cancel(FpModel *model, FpRun *run, const char *message)
{
	FpBackfill *backfill = run->queue->backfill;
	MemoryContext previous;

	if (run->is_cancelling)
		return;
	if (run->state == FP_RUN_QUEUED)
	{
		drop_queued(model, run, message);
		if (backfill != NULL)
			settle_backfill(model, backfill);
		return;
	}
	if (run->nunfinished == 0)
		return;					/* it ends in this cycle anyway */
	if (run->is_parked)
	{
		if (run->is_in_queue)
			fp_model_dequeue_run(run);
		unpark(model, run);
	}

	run->is_cancelling = true;
	strlcpy(run->cancel_message, message, sizeof(run->cancel_message));
	previous = MemoryContextSwitchTo(model->context);
	model->cancelling = lappend(model->cancelling, run);
	MemoryContextSwitchTo(previous);

	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		/* one that no worker has begun is just taken back */
		if (task->token != 0 && fp_dispatch_cancel(task->token, false))
			fp_model_set_token(model, task, 0);
	}
	model->reminded_at = fp_clock_real();
	fp_task_state_cancel_idle(model, run);
}

/* A queued run ends without having started. */
static void
drop_queued(FpModel *model, FpRun *run, const char *message)
{
	fp_run_store_end(run->run_id, FP_RUN_CANCELLED, message,
					 fp_clock_real());
	fp_model_dequeue_run(run);
	fp_model_remove_run(model, run);
}

/*
 * What a backfill's cascade was to run after a run that has not succeeded
 * would wait for ever.
 */
static void
cancel_dependents(FpModel *model, FpBackfill *backfill, FpDag *dag,
				  TimestampTz start, TimestampTz end, const char *message)
{
	ListCell   *lc;
	dlist_iter	queues;
	dlist_mutable_iter runs;

	foreach(lc, fp_model_tobe(model, dag->dag_id))
	{
		FpDag	   *tobe = lfirst(lc);

		dlist_foreach(queues, &backfill->queues)
		{
			FpQueue    *queue = dlist_container(FpQueue, backfill_node,
												queues.cur);

			if (queue->dag != tobe)
				continue;
			dlist_foreach_modify(runs, &queue->waiting)
			{
				FpRun	   *run = dlist_container(FpRun, waiting_node,
												  runs.cur);
				TimestampTz run_start = run->data_interval_start;
				TimestampTz run_end = run->data_interval_end;

				if (run_start >= end || run_end <= start)
					continue;
				drop_queued(model, run, message);
				cancel_dependents(model, backfill, tobe, run_start, run_end,
								  message);
			}
		}
	}
}


/* ---- backfills ---- */

void
fp_run_life_take_backfill(FpModel *model, int64 backfill_id)
{
	FpBackfillRow *row = fp_backfill_store_get(backfill_id);
	FpBackfill *backfill;
	ListCell   *lc;

	if (row == NULL || row->state != FP_BACKFILL_QUEUED ||
		fp_model_backfill(model, backfill_id, false) != NULL)
		return;
	backfill = fp_model_backfill(model, backfill_id, true);
	backfill->dag_id = MemoryContextStrdup(model->context, row->dag_id);
	backfill->stop_on_failure = row->stop_on_failure;
	backfill->ignore_depends_on_past = row->ignore_depends_on_past;
	backfill->max_active_runs = row->max_active_runs;
	backfill->priority = row->priority;
	read_window(backfill, row->run_window);
	fp_backfill_store_set_state(backfill_id, FP_BACKFILL_RUNNING,
								fp_clock_real());

	foreach(lc, fp_run_store_of_backfill(backfill_id))
	{
		FpBackfillRunRow *run = lfirst(lc);

		if (fp_model_run(model, run->run->run_id) != NULL)
			continue;			/* under way meanwhile: left alone */
		if (run->run->state == FP_RUN_QUEUED)
			fp_run_life_enter(model, run->run, run->ordinal);
		else if (fp_run_state_is_finished(run->run->state))
			reprocess(model, run, backfill_id);
	}
	settle_backfill(model, backfill);
}

/*
 * A finished run is cleared and queued again.  Its success, if it had any, no
 * longer counts: what depends on it waits.
 */
static void
reprocess(FpModel *model, const FpBackfillRunRow *row, int64 backfill_id)
{
	FpRunRow   *run = row->run;

	if (run->backfill_id == backfill_id)
		return;					/* has run for this backfill already */
	if (run->version != 0)
	{
		if (strcmp(row->action, "failed") == 0)
		{
			List	   *task_ids = failed_and_downstream(run);

			if (task_ids != NIL)
				(void) fp_task_run_store_clear(run->run_id, task_ids);
		}
		else
			(void) fp_task_run_store_clear(run->run_id, NIL);
	}
	if (run->state == FP_RUN_SUCCESS)
		fp_coverage_store_remove(run->dag_id, run->data_interval_start,
								 run->data_interval_end);
	fp_run_store_requeue(run->run_id, backfill_id, fp_clock_real());
	run->backfill_id = backfill_id;
	run->state = FP_RUN_QUEUED;
	fp_run_life_enter(model, run, row->ordinal);
}

/* The failed tasks of a run and all that follows them, by name. */
static List *
failed_and_downstream(const FpRunRow *run)
{
	List	   *tasks = fp_version_store_tasks(run->dag_id, run->version);
	List	   *task_runs = fp_task_run_store_list(run->run_id);
	int			n = list_length(tasks);
	FpGraph		graph = {0};
	bool	   *seed = palloc0(sizeof(bool) * Max(1, n));
	bool	   *reached = palloc0(sizeof(bool) * Max(1, n));
	List	   *result = NIL;
	ListCell   *lc;
	ListCell   *lu;
	int			i;

	graph.ntasks = n;
	foreach(lc, tasks)
		graph.nedges += list_length(((FpTaskVersionRow *) lfirst(lc))->upstream);
	graph.edge_from = palloc(sizeof(int) * Max(1, graph.nedges));
	graph.edge_to = palloc(sizeof(int) * Max(1, graph.nedges));
	graph.nedges = 0;
	i = 0;
	foreach(lc, tasks)
	{
		FpTaskVersionRow *task = lfirst(lc);
		ListCell   *lr;

		foreach(lu, task->upstream)
		{
			for (int from = 0; from < n; from++)
			{
				FpTaskVersionRow *other = list_nth(tasks, from);

				if (strcmp(other->task_id, lfirst(lu)) != 0)
					continue;
				graph.edge_from[graph.nedges] = from;
				graph.edge_to[graph.nedges++] = i;
				break;
			}
		}
		foreach(lr, task_runs)
		{
			FpTaskRunRow *row = lfirst(lr);

			if (strcmp(row->task_id, task->task_id) == 0 &&
				(row->state == FP_TASK_RUN_FAILED ||
				 row->state == FP_TASK_RUN_UPSTREAM_FAILED ||
				 row->state == FP_TASK_RUN_CANCELLED))
				seed[i] = true;
		}
		i++;
	}
	fp_graph_downstream_set(&graph, seed, reached);
	i = 0;
	foreach(lc, tasks)
	{
		if (reached[i++])
			result = lappend(result, ((FpTaskVersionRow *) lfirst(lc))->task_id);
	}
	return result;
}

void
fp_run_life_pause_backfill(FpModel *model, int64 backfill_id)
{
	FpBackfill *backfill = fp_model_backfill(model, backfill_id, false);

	if (backfill == NULL || backfill->is_paused)
		return;
	backfill->is_paused = true;
	fp_backfill_store_set_state(backfill_id, FP_BACKFILL_PAUSED,
								fp_clock_real());
}

void
fp_run_life_resume_backfill(FpModel *model, int64 backfill_id)
{
	FpBackfill *backfill = fp_model_backfill(model, backfill_id, false);
	dlist_iter	iter;

	if (backfill == NULL || !backfill->is_paused)
		return;
	backfill->is_paused = false;
	fp_backfill_store_set_state(backfill_id, FP_BACKFILL_RUNNING,
								fp_clock_real());
	dlist_foreach(iter, &backfill->queues)
		fp_model_mark_dirty(model,
							dlist_container(FpQueue, backfill_node,
											iter.cur)->dag);
}

void
fp_run_life_cancel_backfill(FpModel *model, int64 backfill_id)
{
	FpBackfill *backfill = fp_model_backfill(model, backfill_id, false);
	List	   *runs = NIL;
	ListCell   *lc;
	dlist_iter	queues;
	dlist_iter	iter;

	if (backfill == NULL)
		return;
	backfill->is_cancelled = true;
	dlist_foreach(queues, &backfill->queues)
	{
		FpQueue    *queue = dlist_container(FpQueue, backfill_node,
											queues.cur);

		dlist_foreach(iter, &queue->dag->runs)
		{
			FpRun	   *run = dlist_container(FpRun, dag_node, iter.cur);

			if (run->queue == queue)
				runs = lappend(runs, run);
		}
	}
	/* the backfill must outlive its last run's end */
	backfill->nunfinished++;
	foreach(lc, runs)
		fp_run_life_cancel(model, lfirst(lc), "the backfill has been cancelled");
	backfill->nunfinished--;
	settle_backfill(model, backfill);
}

/* Ends a backfill whose runs have all ended. */
static void
settle_backfill(FpModel *model, FpBackfill *backfill)
{
	FpBackfillProgress progress;
	FpBackfillState state = FP_BACKFILL_SUCCESS;

	if (backfill->nunfinished > 0)
		return;
	if (backfill->is_cancelled)
		state = FP_BACKFILL_CANCELLED;
	else if (fp_backfill_store_progress(backfill->backfill_id, &progress) &&
			 progress.success < progress.total)
		state = FP_BACKFILL_FAILED;
	fp_backfill_store_set_state(backfill->backfill_id, state,
								fp_clock_real());
	fp_model_remove_backfill(model, backfill);
}


/* ---- depends_on_past ---- */

void
fp_run_life_check_past(FpModel *model, FpTask *task)
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
	park_if_idle(model, run);
}

void
fp_run_life_task_ended(FpModel *model, FpTask *task)
{
	FpRun	   *run = task->run;
	FpTask	   *next = NULL;
	dlist_iter	iter;

	/* of those that wait for this task, only the next one can go on */
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
	park_if_idle(model, run);
}

/*
 * A run in which nothing goes on until an earlier run does gives its slot of
 * max_active_runs away: the earlier one may need it.
 */
static void
park_if_idle(FpModel *model, FpRun *run)
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
	run->queue->nactive--;
	fp_model_mark_dirty(model, run->dag);
}

/* The run has a slot again: goes on with the tasks that may. */
static void
unpark(FpModel *model, FpRun *run)
{
	run->is_parked = false;
	run->queue->nactive++;
	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		if (task->state == FP_TASK_RUN_NONE && task->is_past_met)
			fp_model_make_ready(model, task);
	}
	park_if_idle(model, run);
}


/* ---- branches ---- */

void
fp_run_life_follow_branch(FpModel *model, FpTask *task, bool is_begun)
{
	List	   *chosen = fp_task_run_store_branch_choice(task->run->run_id,
														 fp_model_task_spec(task)->task_id);

	fp_task_state_follow_branch(model, task, chosen, is_begun);
}

/* A run that goes on after a stop, or again, has branches that have chosen. */
static void
follow_earlier_branches(FpModel *model, FpRun *run)
{
	for (int i = 0; i < run->version->ntasks; i++)
	{
		if (run->version->tasks[i].operator == FP_OPERATOR_BRANCH &&
			run->tasks[i].state == FP_TASK_RUN_SUCCESS)
			fp_run_life_follow_branch(model, &run->tasks[i], false);
	}
}


/* ---- dagrun_timeout ---- */

static void
set_deadline(FpModel *model, FpRun *run, TimestampTz started_at)
{
	if (run->version->dagrun_timeout <= 0 || started_at == DT_NOBEGIN)
		return;
	run->deadline = started_at + run->version->dagrun_timeout;
	run->is_in_deadlines = true;
	pairingheap_add(&model->deadlines, &run->deadline_node);
}

void
fp_run_life_end_overdue(FpModel *model, TimestampTz now)
{
	while (!pairingheap_is_empty(&model->deadlines))
	{
		FpRun	   *run = pairingheap_container(FpRun, deadline_node,
												pairingheap_first(&model->deadlines));

		if (run->deadline > now)
			break;
		pairingheap_remove(&model->deadlines, &run->deadline_node);
		run->is_in_deadlines = false;
		if (run->is_cancelling || run->nunfinished == 0)
			continue;
		run->is_timed_out = true;
		fp_run_life_cancel(model, run, "the run has exceeded its dagrun_timeout");
	}
}


/* ---- cleared and marked ---- */

void
fp_run_life_rework(FpModel *model, int64 run_id, List *task_ids,
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
		fp_task_state_refresh(model, run, fp_task_run_store_list(run_id));
}


/* ---- tasks that trigger runs ---- */

/* A task that waits for a run that it has triggered looks at it now. */
static void
wake_parent(FpModel *model, int64 parent_run_id)
{
	FpRun	   *parent = fp_model_run(model, parent_run_id);

	if (parent == NULL || parent->version == NULL)
		return;
	for (int i = 0; i < parent->version->ntasks; i++)
	{
		FpTask	   *task = &parent->tasks[i];

		if (parent->version->tasks[i].operator == FP_OPERATOR_TRIGGER &&
			task->state == FP_TASK_RUN_UP_FOR_RESCHEDULE)
		{
			fp_model_take_task(model, task);
			fp_model_make_ready(model, task);
		}
	}
}


/* ---- callbacks ---- */

/*
 * A callback is handed to a worker like a task.  In memory it is a run with
 * one task, beside the DAG's runs; its record is a row of flow.callback.
 */
static void
start_callback(FpModel *model, FpDag *dag, const FpRunRow *row,
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

void
fp_run_life_callback_ended(FpModel *model, FpRun *callback, bool is_lost)
{
	if (is_lost)
		fp_callback_store_end(callback->callback_id, "57P01",
							  "the worker was terminated while the callback was running",
							  fp_clock_real());
	pfree(callback->version->tasks);
	pfree(callback->version);
	pfree(callback->tasks);
	pfree(callback);
}

static void
restore_callbacks(FpModel *model, List *adopted)
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
		if (dag == NULL || dag->row == NULL ||
			(token == 0 && row->ntries >= MAX_CALLBACK_TRIES))
		{
			fp_callback_store_try(row->callback_id, fp_clock_real());
			fp_callback_store_end(row->callback_id, "57P01",
								  "the server stopped each time the callback was running, or its DAG is gone",
								  fp_clock_real());
		}
		else
			start_callback(model, dag, row->run, row->state,
						   row->callback_id, token);
	}
}


/* ---- run_window ---- */

/* 'HH:MM-HH:MM', checked when it was given; NULL: any time */
static void
read_window(FpBackfill *backfill, const char *window)
{
	int			h1,
				m1,
				h2,
				m2;

	backfill->window_start = -1;
	if (window != NULL &&
		sscanf(window, "%d:%d-%d:%d", &h1, &m1, &h2, &m2) == 4)
	{
		backfill->window_start = h1 * MINS_PER_HOUR + m1;
		backfill->window_end = h2 * MINS_PER_HOUR + m2;
	}
}

void
fp_run_life_open_windows(FpModel *model, TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	FpBackfill *backfill;
	dlist_iter	iter;

	hash_seq_init(&scan, model->backfills);
	while ((backfill = hash_seq_search(&scan)) != NULL)
	{
		if (backfill->window_start < 0)
			continue;
		dlist_foreach(iter, &backfill->queues)
		{
			FpQueue    *queue = dlist_container(FpQueue, backfill_node,
												iter.cur);

			if (queue->nqueued > 0 && queue->dag->row != NULL &&
				is_in_window(backfill, queue->dag, now))
				fp_model_mark_dirty(model, queue->dag);
		}
	}
}

/* The window is wall-clock time of the DAG, and may go over midnight. */
static bool
is_in_window(const FpBackfill *backfill, const FpDag *dag, TimestampTz now)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;
	int			minute;

	if (backfill == NULL || backfill->window_start < 0)
		return true;
	if (timestamp2tm(now, &tz, &tm, &fsec, NULL,
					 fp_schedule_timezone(dag->row->timezone)) != 0)
		return true;
	minute = tm.tm_hour * MINS_PER_HOUR + tm.tm_min;
	if (backfill->window_start <= backfill->window_end)
		return minute >= backfill->window_start &&
			minute < backfill->window_end;
	return minute >= backfill->window_start || minute < backfill->window_end;
}


/* ---- NOTIFY ---- */

static void
notify_run(const FpRun *run, FpRunState state)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"event\": \"run\", \"run_id\": " INT64_FORMAT ", \"dag_id\": ",
					 run->run_id);
	escape_json(&payload, run->dag->dag_id);
	appendStringInfo(&payload, ", \"run_type\": \"%s\", \"state\": \"%s\"}",
					 fp_run_type_name(run->run_type),
					 fp_run_state_name(state));
	Async_Notify(FP_EXTENSION, payload.data);
}
