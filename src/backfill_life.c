/*-------------------------------------------------------------------------
 *
 * backfill_life.c
 *	  The life of backfills: taken up, paused, cancelled, ended.
 *
 * Runs in the scheduler, inside its cycle's transaction.  A session has written
 * the backfill, the runs that it makes, and which finished runs it is to run
 * again; the latter are cleared here, when the backfill is taken up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "backfill_life.h"
#include "backfill_store.h"
#include "clock.h"
#include "coverage_store.h"
#include "graph.h"
#include "run_life.h"
#include "spi_util.h"
#include "task_run_store.h"
#include "version_store.h"

/* What a DAG was to succeed for, and does not. */
typedef struct MissingSpan
{
	FpDag	   *dag;
	TimestampTz start;
	TimestampTz end;
} MissingSpan;

/* A backfill that is taken up, with its runs. */
typedef struct Taking
{
	FpModel    *model;
	int64		backfill_id;
	List	   *runs;			/* FpBackfillRunRow * */
} Taking;

static void record_taken(void *arg);
static void reprocess(const FpBackfillRunRow *row, int64 backfill_id);
static List *failed_and_downstream(const FpRunRow *run);
static bool has_failed(const FpTaskRunRow *row);
static List *cancel_waiting(FpModel *model, FpBackfill *backfill, FpDag *tobe,
							const MissingSpan *span, const char *message,
							List *missing);
static MissingSpan *missing_span(FpDag *dag, TimestampTz start,
								 TimestampTz end);

FpBackfill *
fp_backfill_life_enter(FpModel *model, const FpBackfillRow *row)
{
	FpBackfill *backfill = fp_model_backfill(model, row->backfill_id, true);

	backfill->dag_id = MemoryContextStrdup(model->context, row->dag_id);
	backfill->stop_on_failure = row->stop_on_failure;
	backfill->ignore_depends_on_past = row->ignore_depends_on_past;
	backfill->max_active_runs = row->max_active_runs;
	backfill->priority = row->priority;
	fp_backfill_life_read_window(backfill, row->run_window);
	return backfill;
}

bool
fp_backfill_life_take(FpModel *model, int64 backfill_id)
{
	FpBackfillRow *row = fp_backfill_store_get(backfill_id);
	FpBackfill *backfill;
	Taking		taking = {model, backfill_id, NIL};
	ListCell   *lc;

	if (row == NULL || row->state != FP_BACKFILL_QUEUED ||
		fp_model_backfill(model, backfill_id, false) != NULL)
		return true;
	if (!fp_spi_try(record_taken, &taking))
		return false;

	backfill = fp_backfill_life_enter(model, row);
	foreach(lc, taking.runs)
	{
		FpBackfillRunRow *run = lfirst(lc);

		if (run->run->state == FP_RUN_QUEUED &&
			fp_model_run(model, run->run->run_id) == NULL)
			fp_run_life_enter(model, run->run, run->ordinal);
	}
	fp_backfill_life_settle(model, backfill);
	return true;
}

/* In the tables, all of it or nothing; runs under way are left alone. */
static void
record_taken(void *arg)
{
	Taking	   *taking = arg;
	ListCell   *lc;

	fp_backfill_store_set_state(taking->backfill_id, FP_BACKFILL_RUNNING,
								fp_clock_real());
	taking->runs = fp_run_store_of_backfill(taking->backfill_id);
	foreach(lc, taking->runs)
	{
		FpBackfillRunRow *run = lfirst(lc);

		if (fp_run_state_is_finished(run->run->state) &&
			fp_model_run(taking->model, run->run->run_id) == NULL)
			reprocess(run, taking->backfill_id);
	}
}

/*
 * A finished run is cleared and queued again.  Its success, if it had any, no
 * longer counts: what depends on it waits.
 */
static void
reprocess(const FpBackfillRunRow *row, int64 backfill_id)
{
	FpRunRow   *run = row->run;

	if (run->backfill_id == backfill_id)
		return;					/* has run for this backfill already */
	if (run->has_rows)
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
		fp_coverage_store_take_back(run);
	fp_run_store_requeue(run->run_id, backfill_id, fp_clock_real());
	run->backfill_id = backfill_id;
	run->state = FP_RUN_QUEUED;
}

/*
 * The failed tasks of a run and all that follows them, by name.  Of a run that
 * never started, only what was marked so: it has no version to follow.
 */
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

	if (run->version == 0)
	{
		foreach(lc, task_runs)
		{
			if (has_failed(lfirst(lc)))
				result = lappend(result, ((FpTaskRunRow *) lfirst(lc))->task_id);
		}
		return result;
	}

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
				has_failed(row))
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

static bool
has_failed(const FpTaskRunRow *row)
{
	return row->state == FP_TASK_RUN_FAILED ||
		row->state == FP_TASK_RUN_UPSTREAM_FAILED ||
		row->state == FP_TASK_RUN_CANCELLED;
}

void
fp_backfill_life_pause(FpModel *model, int64 backfill_id)
{
	FpBackfill *backfill = fp_model_backfill(model, backfill_id, false);

	if (backfill == NULL || backfill->is_paused)
		return;
	backfill->is_paused = true;
	fp_backfill_store_set_state(backfill_id, FP_BACKFILL_PAUSED,
								fp_clock_real());
}

void
fp_backfill_life_resume(FpModel *model, int64 backfill_id)
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
fp_backfill_life_cancel(FpModel *model, int64 backfill_id)
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
	fp_backfill_life_settle(model, backfill);
}

/* Ends a backfill whose runs have all ended. */
void
fp_backfill_life_settle(FpModel *model, FpBackfill *backfill)
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

/*
 * What a backfill's cascade was to run after a run that has not succeeded
 * would wait for ever.  What waits for that in turn is found by a list that
 * grows while it is walked through: a chain of DAGs may be longer than the
 * stack.
 */
void
fp_backfill_life_cancel_dependents(FpModel *model, FpBackfill *backfill,
								   FpDag *dag, TimestampTz start,
								   TimestampTz end, const char *message)
{
	List	   *missing = list_make1(missing_span(dag, start, end));

	for (int i = 0; i < list_length(missing); i++)
	{
		const MissingSpan *span = list_nth(missing, i);
		ListCell   *lc;

		foreach(lc, fp_model_tobe(model, span->dag->dag_id))
			missing = cancel_waiting(model, backfill, lfirst(lc), span,
									 message, missing);
	}
	list_free_deep(missing);
}

/*
 * Those runs of one DAG that the backfill was to run after what is missing;
 * adds what is missing then.
 */
static List *
cancel_waiting(FpModel *model, FpBackfill *backfill, FpDag *tobe,
			   const MissingSpan *span, const char *message, List *missing)
{
	dlist_iter	queues;
	dlist_mutable_iter runs;

	dlist_foreach(queues, &tobe->queues)
	{
		FpQueue    *queue = dlist_container(FpQueue, dag_node, queues.cur);

		if (queue->backfill != backfill)
			continue;
		dlist_foreach_modify(runs, &queue->waiting)
		{
			FpRun	   *run = dlist_container(FpRun, waiting_node, runs.cur);

			if (run->data_interval_start >= span->end ||
				run->data_interval_end <= span->start)
				continue;
			missing = lappend(missing,
							  missing_span(tobe, run->data_interval_start,
										   run->data_interval_end));
			fp_run_life_drop_queued(model, run, message);
		}
	}
	return missing;
}

static MissingSpan *
missing_span(FpDag *dag, TimestampTz start, TimestampTz end)
{
	MissingSpan *span = palloc(sizeof(MissingSpan));

	span->dag = dag;
	span->start = start;
	span->end = end;
	return span;
}

/* 'HH:MM-HH:MM', checked when it was given; NULL: any time */
void
fp_backfill_life_read_window(FpBackfill *backfill, const char *window)
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
fp_backfill_life_open_windows(FpModel *model, TimestampTz now)
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
				fp_backfill_life_is_open(backfill, queue->dag, now))
				fp_model_mark_dirty(model, queue->dag);
		}
	}
}

/* The window is wall-clock time of the DAG, and may go over midnight. */
bool
fp_backfill_life_is_open(const FpBackfill *backfill, const FpDag *dag, TimestampTz now)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;
	int			minute;

	if (backfill == NULL || backfill->window_start < 0)
		return true;
	/* nobody knows what time it is there */
	if (dag->is_broken)
		return false;
	if (timestamp2tm(now, &tz, &tm, &fsec, NULL,
					 fp_schedule_timezone(dag->row->timezone)) != 0)
		return true;
	minute = tm.tm_hour * MINS_PER_HOUR + tm.tm_min;
	if (backfill->window_start <= backfill->window_end)
		return minute >= backfill->window_start &&
			minute < backfill->window_end;
	return minute >= backfill->window_start || minute < backfill->window_end;
}
