/*-------------------------------------------------------------------------
 *
 * run_life.c
 *	  The life of runs: made, queued, started, ended, cancelled.
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

#include "utils/json.h"
#include "utils/timestamp.h"

#include "backfill_life.h"
#include "callback_store.h"
#include "callbacks.h"
#include "clock.h"
#include "dispatch.h"
#include "guc.h"
#include "link.h"
#include "notify.h"
#include "past.h"
#include "request_store.h"
#include "run_life.h"
#include "spi_util.h"
#include "task_run_store.h"
#include "task_state.h"
#include "version_store.h"

/*
 * Where a session's lock is in the way, it is tried again after this long, and
 * with so many others, lest a cycle consist of waiting.
 */
#define LOCKED_DELAY_MS 1000
#define MAX_RETRIES 16

/* Scheduled runs of one DAG that one cycle makes at most. */
#define MAX_RUNS_AT_ONCE 500

/* as many runs of a DAG may wait for an earlier one before no more are made */
#define MAX_PARKED_RUNS 1000

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
static bool has_run_to_end(FpDag *dag, TimestampTz logical_date);
static TimestampTz end_of_existing(const char *dag_id,
								   const FpInterval *interval);
static void make_due_run(void *arg);
static void record_progress(void *arg);
static void put_off_dag(FpModel *model, FpDag *dag);
static void put_off_run(FpModel *model, FpRun *run);
static void retry_after_lock(FpModel *model);
static void wake_parent(FpModel *model, int64 parent_run_id);
static void notify_run(FpModel *model, const FpRun *run, FpRunState state);
static bool has_room_for_due(const FpQueue *queue);
static bool may_start_one(const FpQueue *queue);
static void start_run(FpModel *model, FpRun *run);
static List *remove_old_tasks(int64 run_id, List *task_versions,
							  List *task_runs);

/* ---- made and started ---- */

/*
 * As many as could start now: a long catchup is made as it is worked off, and
 * not written in advance.  Runs that wait for other DAGs do not count; of those
 * that wait for an earlier one, which hold no slot, there may only be so many,
 * or one task that fails would bring the whole catchup into memory at once.
 */
static bool
has_room_for_due(const FpQueue *queue)
{
	return queue->nactive + queue->nqueued < fp_model_max_active_runs(queue) &&
		queue->nparked < MAX_PARKED_RUNS;
}

void
fp_run_life_make_due(FpModel *model, FpDag *dag, TimestampTz now)
{
	int			nmade = 0;

	/* of a run of a dropped DAG, which may be taken over */
	fp_task_state_record_decided(model);
	if (dag->is_in_due)
		pairingheap_remove(&model->due, &dag->due_node);
	dag->is_in_due = false;
	dag->is_behind = dag->is_drop_pending;
	if (dag->is_drop_pending)
		return;					/* looked at again when that is done */

	if (model->locked_dags != NIL)
		fp_spi_hurry();

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
			put_off_dag(model, dag);
			break;
		}
		/* one of a dropped DAG, which is taken over when it has ended */
		if (row.run_id == 0 && has_run_to_end(dag, row.logical_date))
		{
			dag->is_behind = true;
			break;
		}
		/* 0: a backfill's run stands for the interval */
		if (row.run_id != 0)
			fp_run_life_enter(model, &row, 0);
		else if (dag->schedule->kind == FP_SCHEDULE_CONTINUOUS)
			dag->next.end = end_of_existing(dag->dag_id, &dag->next);
		nmade++;

		dag->bounds.has_last = true;
		dag->bounds.last = dag->next;
		dag->row->has_last = true;
		dag->row->last_start = dag->next.start;
		dag->row->last_end = dag->next.end;
		/* @continuous: the end of the run that has been made brings the next */
		dag->has_next = (dag->schedule->kind != FP_SCHEDULE_CONTINUOUS ||
						 row.run_id == 0) &&
			fp_schedule_next_run(dag->schedule, &dag->bounds, now,
								 &dag->next);
	}

	if (nmade > 0 || dag->is_progress_lost)
	{
		dag->is_progress_lost = !fp_spi_try(record_progress, dag);
		if (dag->is_progress_lost)
			put_off_dag(model, dag);
	}
	if (dag->is_behind)
	{
		/* else looked at again when a run of the DAG has ended */
		if (nmade == MAX_RUNS_AT_ONCE)
		{
			MemoryContext previous = MemoryContextSwitchTo(model->context);

			model->later = list_append_unique_ptr(model->later, dag);
			MemoryContextSwitchTo(previous);
		}
	}
	else if (dag->has_next)
	{
		pairingheap_add(&model->due, &dag->due_node);
		dag->is_in_due = true;
	}
}

/* A run of an earlier DAG of this name that has not ended yet. */
static bool
has_run_to_end(FpDag *dag, TimestampTz logical_date)
{
	dlist_iter	iter;

	dlist_foreach(iter, &dag->runs)
	{
		FpRun	   *run = dlist_container(FpRun, dag_node, iter.cur);

		if ((run->is_cancelling || fp_model_is_foreign_run(run)) &&
			run->logical_date == logical_date)
			return true;
	}
	return false;
}

/*
 * Where the run that stands for a @continuous interval ends: it goes as far as
 * its backfill has made it.  Later than it starts, or it would be met again.
 */
static TimestampTz
end_of_existing(const char *dag_id, const FpInterval *interval)
{
	ListCell   *lc;

	foreach(lc, fp_run_store_between(dag_id, interval->start,
									 interval->start + 1))
	{
		FpRunRow   *row = lfirst(lc);

		if (row->logical_date == interval->start)
			return Max(row->data_interval_end, interval->start + 1);
	}
	return interval->end;
}

/* Inserts a due run; run_id 0: it is there. */
static void
make_due_run(void *arg)
{
	FpRunRow   *row = arg;
	TimestampTz at = fp_clock_real();

	row->run_id = fp_run_store_insert(row, NULL, at);
	if (row->run_id == 0)
		(void) fp_run_store_take_over(row, at);
}

/*
 * Once for all runs that have been made.  Lost with the server, it is found
 * again: a run that is there is not made twice.
 */
static void
record_progress(void *arg)
{
	FpDag	   *dag = arg;

	fp_dag_store_set_progress(dag->row, dag->bounds.last.start,
							  dag->bounds.last.end, &dag->progress_place);
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
	bool		has_moved = false;

	if (dag->row == NULL || !dag->row->has_tasks)
		return;
	if ((dag->is_behind || dag->is_progress_lost) && !dag->is_put_off)
		fp_run_life_make_due(model, dag, now);
	else if (dag->schedule != NULL &&
			 dag->schedule->kind == FP_SCHEDULE_CONTINUOUS &&
			 dlist_is_empty(&dag->runs))
		fp_model_set_next(model, dag, now);

	dlist_foreach(iter, &dag->queues)
	{
		FpQueue    *queue = dlist_container(FpQueue, dag_node, iter.cur);

		while (may_start_one(queue) &&
			   fp_backfill_life_is_open(queue->backfill, dag, now))
		{
			FpRun	   *run;

			run = pairingheap_container(FpRun, queue_node,
										pairingheap_first(&queue->queued));
			fp_model_dequeue_run(run);
			has_moved = true;
			if (run->is_parked)
				fp_past_unpark(model, run);
			else if (fp_link_is_satisfied(model, run))
				start_run(model, run);
			else
				fp_model_enqueue_run(model, run, true);
		}
	}

	/* that has made room in the queue */
	if (has_moved && dag->is_behind && has_room_for_due(&dag->own))
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
	FpVersion  *known = fp_model_find_version(dag, version);
	List	   *task_versions = NIL;
	List	   *task_runs = NIL;
	TimestampTz at = fp_clock_real();

	if (known != NULL && known->nruns > 0)
		fp_run_store_start(run->run_id, version, at);
	else if (!fp_run_store_start_if_kept(run->run_id, dag->dag_id, version,
										 at))
	{
		if (!fp_version_store_keep(dag->dag_id, version, at))
		{
			/* the definition has changed since: its request is on its way */
			fp_model_enqueue_run(model, run, true);
			return;
		}
		fp_run_store_start(run->run_id, version, at);
	}
	if (known == NULL)
		task_versions = fp_version_store_tasks(dag->dag_id, version);
	if (run->has_rows)
	{
		task_runs = fp_task_run_store_list(run->run_id);
		task_runs = remove_old_tasks(run->run_id,
									 fp_version_store_tasks(dag->dag_id,
															version),
									 task_runs);
	}
	fp_model_start_run(model, run, version, task_versions, task_runs);
	if (fp_guc_logs(DEBUG1))
		ereport(LOG,
				(errmsg("run " INT64_FORMAT " of dag \"%s\": started",
						run->run_id, dag->dag_id)));
	fp_run_life_set_deadline(model, run, at);
	fp_run_life_follow_branches(model, run);
	fp_task_state_begin_run(model, run);

	/* what a run that goes on again finds ended, a later one may wait for */
	if (run->has_rows)
		fp_past_run_changed(model, dag, run->logical_date);
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
	TimestampTz logical_date = run->logical_date;
	RunEnd		record = {0};

	record.model = model;
	record.run = run;
	record.state = state;
	if (model->locked_runs != NIL)
		fp_spi_hurry();
	if (!fp_spi_try(record_end, &record))
	{
		/* a session holds what has to be written: try again in a while */
		put_off_run(model, run);
		return;
	}
	notify_run(model, run, state);
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
		fp_callbacks_start(model, dag, fp_run_store_get(run_id), state,
					   record.callback_id, 0);

	model->cancelling = list_delete_ptr(model->cancelling, run);
	parent_run_id = run->parent_run_id;
	fp_model_remove_run(model, run);
	fp_past_run_changed(model, dag, logical_date);
	if (parent_run_id != 0)
		wake_parent(model, parent_run_id);

	if (backfill != NULL)
	{
		if (state != FP_RUN_SUCCESS)
		{
			fp_backfill_life_cancel_dependents(model, backfill, dag, start, end,
							  psprintf("run " INT64_FORMAT " of dag \"%s\", which it depends on, has not succeeded",
									   run_id, dag->dag_id));
			if (backfill->stop_on_failure && state == FP_RUN_FAILED &&
				backfill->nunfinished > 0)
				fp_backfill_life_pause(model, backfill->backfill_id);
		}
		fp_backfill_life_settle(model, backfill);
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

	/*
	 * A run of a dropped DAG says nothing for a new one of its name, and
	 * above all its callback must not run as that one's owner.
	 */
	if (!fp_model_is_own_version(run->dag, run->version->version))
		return;
	if (state == FP_RUN_SUCCESS)
		fp_link_record_success(record->model, run, &record->made);
	if (((state == FP_RUN_SUCCESS && run->version->has_on_success) ||
		 (state == FP_RUN_FAILED && run->version->has_on_failure)))
		record->callback_id = fp_callback_store_add(run->run_id, state,
														at);
}

/* ---- put off ---- */

static void
put_off_dag(FpModel *model, FpDag *dag)
{
	MemoryContext previous = MemoryContextSwitchTo(model->context);

	if (!dag->is_put_off)
		model->locked_dags = lappend(model->locked_dags, dag);
	dag->is_put_off = true;
	MemoryContextSwitchTo(previous);
	retry_after_lock(model);
}

static void
put_off_run(FpModel *model, FpRun *run)
{
	MemoryContext previous = MemoryContextSwitchTo(model->context);

	model->locked_runs = lappend(model->locked_runs, run);
	run->is_put_off = true;
	MemoryContextSwitchTo(previous);
	retry_after_lock(model);
}

/* Also where the rest was to be tried in the next cycle. */
static void
retry_after_lock(FpModel *model)
{
	TimestampTz now = fp_clock_real();
	TimestampTz at = TimestampTzPlusMilliseconds(now, LOCKED_DELAY_MS);

	if (model->retry_at <= now || model->retry_at > at)
		model->retry_at = at;
}

/*
 * Those that have waited longest, and as long as none of them fails, the rest
 * in the next cycles.
 */
void
fp_run_life_retry(FpModel *model)
{
	TimestampTz now = fp_clock_real();
	ListCell   *lc;
	int			nruns = Min(list_length(model->locked_runs), MAX_RETRIES);
	int			ndags = Min(list_length(model->locked_dags), MAX_RETRIES);

	foreach(lc, model->later)
		fp_model_mark_dirty(model, lfirst(lc));
	list_free(model->later);
	model->later = NIL;

	/* a time that is further ahead was before the clock was set back */
	if (model->retry_at > now &&
		(model->retry_at == DT_NOEND ||
		 model->retry_at <= TimestampTzPlusMilliseconds(now, LOCKED_DELAY_MS)))
		return;
	for (int i = 0; i < ndags; i++)
	{
		FpDag	   *dag = list_nth(model->locked_dags, i);

		dag->is_put_off = false;
		fp_model_mark_dirty(model, dag);
	}
	model->locked_dags = list_delete_first_n(model->locked_dags, ndags);
	for (int i = 0; i < nruns; i++)
	{
		FpRun	   *run = list_nth(model->locked_runs, i);

		run->is_put_off = false;
		slist_push_head(&model->ended, &run->ended_node);
	}
	model->locked_runs = list_delete_first_n(model->locked_runs, nruns);
	if (model->locked_dags == NIL && model->locked_runs == NIL)
		model->retry_at = DT_NOEND;
}


/* ---- cancelled ---- */

void
fp_run_life_cancel(FpModel *model, FpRun *run, const char *message)
{
	FpBackfill *backfill = run->queue->backfill;
	MemoryContext previous;

	if (run->is_cancelling)
		return;
	if (run->state == FP_RUN_QUEUED)
	{
		fp_run_life_drop_queued(model, run, message);
		if (backfill != NULL)
			fp_backfill_life_settle(model, backfill);
		return;
	}
	if (run->nunfinished == 0)
		return;					/* it ends in this cycle anyway */
	if (run->is_parked)
	{
		if (run->is_in_queue)
			fp_model_dequeue_run(run);
		fp_past_unpark(model, run);
	}

	if (!run->is_timed_out)
		fp_run_store_note_cancelling(run->run_id);
	run->is_cancelling = true;
	strlcpy(run->cancel_message, message, sizeof(run->cancel_message));
	previous = MemoryContextSwitchTo(model->context);
	model->cancelling = list_append_unique_ptr(model->cancelling, run);
	MemoryContextSwitchTo(previous);

	for (int i = 0; i < run->version->ntasks; i++)
	{
		FpTask	   *task = &run->tasks[i];

		/* it is not run again after all */
		if (task->to_clear != 0)
			fp_request_store_delete_to_clear(task->to_clear);
		task->to_clear = 0;

		/* one that no worker has begun is just taken back */
		if (task->token != 0 && fp_dispatch_cancel(task->token, false))
			fp_model_set_token(model, task, 0);
	}
	model->reminded_at = fp_clock_real();
	fp_task_state_cancel_idle(model, run);
}

/* A queued run ends without having started. */
void
fp_run_life_drop_queued(FpModel *model, FpRun *run, const char *message)
{
	fp_run_store_end(run->run_id, FP_RUN_CANCELLED, message,
					 fp_clock_real());
	fp_model_dequeue_run(run);
	fp_model_remove_run(model, run);
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
void
fp_run_life_follow_branches(FpModel *model, FpRun *run)
{
	for (int i = 0; i < run->version->ntasks; i++)
	{
		if (run->version->tasks[i].operator == FP_OPERATOR_BRANCH &&
			run->tasks[i].state == FP_TASK_RUN_SUCCESS)
			fp_run_life_follow_branch(model, &run->tasks[i], false);
	}
}


/* ---- dagrun_timeout ---- */

void
fp_run_life_set_deadline(FpModel *model, FpRun *run, TimestampTz started_at)
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

/* ---- tasks that trigger runs ---- */

/*
 * A task that waits for a run that it has triggered looks at it now, or again
 * at once, where it is just looking and may have seen it unfinished.
 */
static void
wake_parent(FpModel *model, int64 parent_run_id)
{
	FpRun	   *parent = fp_model_run(model, parent_run_id);

	if (parent == NULL || parent->version == NULL)
		return;
	for (int i = 0; i < parent->version->ntasks; i++)
	{
		FpTask	   *task = &parent->tasks[i];

		if (parent->version->tasks[i].operator != FP_OPERATOR_TRIGGER)
			continue;
		task->is_woken = true;
		if (task->state == FP_TASK_RUN_UP_FOR_RESCHEDULE)
		{
			fp_model_take_task(model, task);
			fp_model_make_ready(model, task);
		}
	}
}


/* ---- NOTIFY ---- */

static void
notify_run(FpModel *model, const FpRun *run, FpRunState state)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"event\": \"run\", \"run_id\": " INT64_FORMAT ", \"dag_id\": ",
					 run->run_id);
	escape_json(&payload, run->dag->dag_id);
	appendStringInfo(&payload, ", \"run_type\": \"%s\", \"state\": \"%s\"}",
					 fp_run_type_name(run->run_type),
					 fp_run_state_name(state));
	fp_notify_add(model, payload.data);
	pfree(payload.data);
}
