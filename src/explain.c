/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  Why what has not started has not started.
 *
 * Called by sessions, for flow_explain and for the waits_for column of the
 * views.  It asks the tables what the scheduler asks its memory, in the same
 * order (link.c, run_life.c, task_state.c, dispatch.c), and shared memory for
 * what runs now.  Between the two looks things move on, so an answer may be
 * out of date when it is given; "about to start" is one that should not last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "args.h"
#include "backfill_store.h"
#include "clock.h"
#include "coverage_store.h"
#include "explain.h"
#include "explain_store.h"
#include "guc.h"
#include "pool_store.h"
#include "run_planner.h"
#include "shmem.h"
#include "task_run_store.h"
#include "trigger_rule.h"

/* names in one sentence */
#define MAX_NAMES 10
/* of a message, what is quoted */
#define MAX_MESSAGE 200

/* An attempt that a worker has, or takes next. */
typedef struct RunningTask
{
	int64		run_id;
	char	   *dag_id;
	char	   *task_id;
	int			version;
	bool		has_worker;
} RunningTask;

struct FpExplainer
{
	const FpDagRow *dag;
	TimestampTz now;
	bool		has_runs;		/* runs is valid */
	FpUnfinishedRuns runs;
	bool		has_workers;	/* what follows is valid */
	List	   *running_tasks;	/* RunningTask *, of this database */
	int			nbusy;			/* workers of the server at work */
};

/* How far a task of a run is, found by name; the key comes first. */
typedef struct TaskEntry
{
	char		task_id[FP_ID_SIZE];
	FpTaskProgress *task;
} TaskEntry;

static char *explain_schedule(FpExplainer *self);
static char *explain_next_run(FpExplainer *self);
static List *explain_no_schedule(FpExplainer *self);
static FpBackfillRow *backfill_of(const FpRunRow *run);
static bool waits_for_asis(const FpExplainer *self, const FpRunRow *run,
						   const FpBackfillRow *backfill);
static FpReason *explain_asis(FpExplainer *self, const FpRunRow *run);
static char *explain_missing_interval(const char *asis_dag,
									  const FpRunRow *run);
static bool is_window_open(const FpExplainer *self, const char *window);
static FpReason *explain_active_runs(FpExplainer *self, const FpRunRow *run,
									 const FpBackfillRow *backfill);
static bool is_parked(FpExplainer *self, const FpRunRow *run);
static FpReason *explain_task(FpExplainer *self, const FpRunRow *run,
							  HTAB *tasks, FpTaskProgress *task);
static FpReason *explain_upstream(HTAB *tasks, FpTaskProgress *task);
static FpTriggerDecision decide(HTAB *tasks, FpTaskProgress *task);
static bool is_past_met(const FpRunRow *run, const char *task_id);
static FpReason *explain_past(const FpRunRow *run, FpTaskProgress *task);
static FpReason *explain_ready(FpExplainer *self, const FpRunRow *run,
							   FpTaskProgress *task);
static FpReason *explain_pool(FpExplainer *self, FpTaskProgress *task);
static FpReason *explain_worker(FpExplainer *self, const FpRunRow *run,
								FpTaskProgress *task);
static bool has_worker(FpExplainer *self, const FpRunRow *run,
					   const FpTaskProgress *task);
static FpReason *explain_reschedule(FpTaskProgress *task);
static HTAB *index_tasks(List *tasks);
static FpTaskProgress *find_task(HTAB *tasks, const char *task_id);
static const FpUnfinishedRuns *unfinished_runs(FpExplainer *self);
static void look_at_workers(FpExplainer *self);
static FpReason *reason(const char *task_id, char *brief, char *text);
static char *time_text(TimestampTz at);
static char *run_text(const FpRunRow *run);
static char *first_line(const char *message);
static int	compare_names(const ListCell *a, const ListCell *b);


FpExplainer *
fp_explain_begin(const FpDagRow *dag)
{
	FpExplainer *self = palloc0(sizeof(FpExplainer));

	self->dag = dag;
	self->now = fp_clock_now();
	return self;
}


/* ---- the DAG ---- */

List *
fp_explain_dag(FpExplainer *self)
{
	const FpDagRow *dag = self->dag;
	List	   *texts = NIL;

	if (!dag->has_tasks)
		texts = lappend(texts, "has no tasks, and so no runs");
	if (dag->is_paused)
		texts = lappend(texts, "is paused, and makes no runs of its own until flow_resume");
	else if (dag->schedule == NULL)
		texts = list_concat(texts, explain_no_schedule(self));
	else if (dag->has_tasks)
		texts = lappend(texts, explain_schedule(self));
	return texts;
}

/*
 * A schedule was checked when it was given, but its timezone may be gone.
 * Parsing holds nothing that an abort would have to release.
 */
static char *
explain_schedule(FpExplainer *self)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile result = NULL;

	PG_TRY();
	{
		result = explain_next_run(self);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		if (geterrcode() != ERRCODE_INVALID_PARAMETER_VALUE)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		result = psprintf("has a schedule that cannot be read: %s",
						  error->message);
	}
	PG_END_TRY();
	return result;
}

static char *
explain_next_run(FpExplainer *self)
{
	const FpUnfinishedRuns *runs;
	FpInterval	next;

	if (!fp_run_planner_next(self->dag, self->now, &next))
		return "has no further intervals, by its schedule and end_date";
	if (next.end > self->now)
		return psprintf("the next run, for %s to %s, is due at %s",
						time_text(next.start), time_text(next.end),
						time_text(next.end));

	runs = unfinished_runs(self);
	if (runs->running == NIL && runs->queued == NIL)
		return psprintf("the next run, for %s to %s, is about to be made",
						time_text(next.start), time_text(next.end));
	return psprintf("runs from %s on are due and are made as those before them end",
					time_text(next.start));
}

static List *
explain_no_schedule(FpExplainer *self)
{
	List	   *names = NIL;
	List	   *texts = NIL;
	ListCell   *cell;

	if (self->dag->asis_dags == NIL)
		return list_make1("has no schedule, and runs when it is triggered");

	names = list_copy(self->dag->asis_dags);
	list_sort(names, compare_names);
	texts = lappend(texts,
					psprintf("has no schedule, and runs when all its asis DAGs have succeeded for an interval: %s",
							 fp_args_name_list(names, MAX_NAMES)));
	foreach(cell, fp_explain_store_missing_asis(self->dag->dag_id))
	{
		const FpMissingAsis *missing = lfirst(cell);

		texts = lappend(texts,
						psprintf("for %s to %s, \"%s\" has not succeeded",
								 time_text(missing->start),
								 time_text(missing->end),
								 missing->asis_dag));
	}
	return texts;
}


/* ---- queued runs ---- */

FpReason *
fp_explain_queued(FpExplainer *self, const FpRunRow *run)
{
	FpBackfillRow *backfill = backfill_of(run);
	FpReason   *result;

	if (backfill != NULL && backfill->state == FP_BACKFILL_PAUSED)
		return reason(NULL, "backfill: paused",
					  psprintf("backfill " INT64_FORMAT " is paused until flow_resume_backfill",
							   backfill->backfill_id));
	if (waits_for_asis(self, run, backfill))
	{
		if (self->dag->is_paused)
			return reason(NULL, "dag: paused",
						  "the DAG is paused until flow_resume");
		result = explain_asis(self, run);
		if (result != NULL)
			return result;
	}
	if (backfill != NULL && backfill->run_window != NULL &&
		!is_window_open(self, backfill->run_window))
		return reason(NULL, psprintf("run_window: %s", backfill->run_window),
					  psprintf("backfill " INT64_FORMAT " starts runs within its run_window only, %s in %s",
							   backfill->backfill_id, backfill->run_window,
							   self->dag->timezone));
	result = explain_active_runs(self, run, backfill);
	if (result != NULL)
		return result;
	return reason(NULL, "run: queued", "is about to start");
}

/*
 * NULL: it belongs to none that is under way.
 */
static FpBackfillRow *
backfill_of(const FpRunRow *run)
{
	FpBackfillRow *backfill;

	if (run->backfill_id == 0)
		return NULL;
	backfill = fp_backfill_store_get(run->backfill_id);
	if (backfill == NULL || fp_backfill_state_is_finished(backfill->state))
		return NULL;
	return backfill;
}

/*
 * What was asked for by name waits for no other DAG.
 */
static bool
waits_for_asis(const FpExplainer *self, const FpRunRow *run,
			   const FpBackfillRow *backfill)
{
	if (backfill != NULL)
		return strcmp(backfill->dag_id, self->dag->dag_id) != 0;
	return run->run_type == FP_RUN_SCHEDULED ||
		(run->run_type == FP_RUN_TRIGGERED && run->parent_run_id == 0);
}

/*
 * NULL: all have succeeded.
 */
static FpReason *
explain_asis(FpExplainer *self, const FpRunRow *run)
{
	List	   *asis_dags = list_copy(self->dag->asis_dags);
	StringInfoData brief;
	List	   *texts = NIL;
	FpReason   *result;
	ListCell   *cell;

	initStringInfo(&brief);
	list_sort(asis_dags, compare_names);
	foreach(cell, asis_dags)
	{
		const char *asis_dag = lfirst(cell);
		char	   *text;

		if (fp_run_planner_speaks_by_date(fp_run_planner_effective_schedule(asis_dag,
																			self->now)))
		{
			DateADT		date = fp_run_planner_date_of(run->data_interval_end,
													  self->dag->timezone);

			if (fp_coverage_store_has_word(asis_dag, date, self->dag->owner))
				continue;
			text = psprintf("asis DAG \"%s\" has no success in dag_log for %s",
							asis_dag,
							DatumGetCString(DirectFunctionCall1(date_out,
																DateADTGetDatum(date))));
		}
		else
		{
			if (fp_coverage_store_contains(asis_dag, run->data_interval_start,
										run->data_interval_end))
				continue;
			text = explain_missing_interval(asis_dag, run);
		}
		appendStringInfo(&brief, "%s%s", brief.len > 0 ? ", " : "asis: ",
						 asis_dag);
		texts = lappend(texts, text);
	}
	if (texts == NIL)
		return NULL;

	result = reason(NULL, brief.data, NULL);
	result->texts = texts;
	return result;
}

static char *
explain_missing_interval(const char *asis_dag, const FpRunRow *run)
{
	TimestampTz from = run->data_interval_start;
	TimestampTz until = run->data_interval_end;

	if (from >= until ||
		!fp_explain_store_first_gap(asis_dag, run->data_interval_start,
									run->data_interval_end, &from, &until))
	{
		from = run->data_interval_start;
		until = run->data_interval_end;
	}
	return psprintf("asis DAG \"%s\" has not succeeded for %s to %s",
					asis_dag, time_text(from), time_text(until));
}

/*
 * The window is wall-clock time of the DAG, and may go over midnight.
 */
static bool
is_window_open(const FpExplainer *self, const char *window)
{
	Timestamp	local = fp_args_local_time(self->now, self->dag->timezone);
	int			from;
	int			until;
	int64		minute;

	if (!fp_run_planner_parse_window(window, &from, &until))
		return true;
	minute = local % USECS_PER_DAY;
	if (minute < 0)
		minute += USECS_PER_DAY;
	minute /= USECS_PER_MINUTE;
	if (from < until)
		return minute >= from && minute < until;
	return minute >= from || minute < until;
}

/*
 * A backfill's runs and the DAG's own are counted apart.  NULL: there is room.
 */
static FpReason *
explain_active_runs(FpExplainer *self, const FpRunRow *run,
					const FpBackfillRow *backfill)
{
	int64		backfill_id = backfill != NULL ? backfill->backfill_id : 0;
	int			limit = fp_max_active_runs_per_dag;
	List	   *names = NIL;
	ListCell   *cell;

	if (backfill != NULL && backfill->max_active_runs > 0)
		limit = backfill->max_active_runs;
	else if (self->dag->max_active_runs > 0)
		limit = self->dag->max_active_runs;

	foreach(cell, unfinished_runs(self)->running)
	{
		const FpRunRow *other = lfirst(cell);
		FpBackfillRow *of_other = backfill_of(other);

		if ((of_other != NULL ? of_other->backfill_id : 0) == backfill_id &&
			!is_parked(self, other))
			names = lappend(names, psprintf(INT64_FORMAT, other->run_id));
	}
	if (list_length(names) < limit)
		return NULL;
	return reason(NULL, psprintf("max_active_runs: %d", limit),
				  psprintf("max_active_runs, %d, is reached by the runs that are under way: %s",
						   limit, fp_args_name_list(names, MAX_NAMES)));
}

/*
 * A run in which nothing goes on until an earlier run does holds no slot of
 * max_active_runs.
 */
static bool
is_parked(FpExplainer *self, const FpRunRow *run)
{
	List	   *progress = fp_explain_store_tasks(run->run_id, run->dag_id,
												  run->version);
	HTAB	   *tasks;
	bool		waits_for_past = false;
	ListCell   *cell;

	foreach(cell, progress)
	{
		FpTaskProgress *task = lfirst(cell);

		if (task->state != FP_TASK_RUN_NONE &&
			!fp_task_run_state_is_finished(task->state))
			return false;
		waits_for_past |= task->depends_on_past;
	}
	if (!waits_for_past)
		return false;

	tasks = index_tasks(progress);
	waits_for_past = false;
	foreach(cell, progress)
	{
		FpTaskProgress *task = lfirst(cell);

		if (task->state != FP_TASK_RUN_NONE ||
			decide(tasks, task) == FP_TRIGGER_WAIT)
			continue;
		if (!task->depends_on_past || is_past_met(run, task->task_id))
		{
			waits_for_past = false;
			break;
		}
		waits_for_past = true;
	}
	hash_destroy(tasks);
	return waits_for_past;
}


/* ---- tasks of running runs ---- */

List *
fp_explain_tasks(FpExplainer *self, const FpRunRow *run)
{
	List	   *progress = fp_explain_store_tasks(run->run_id, run->dag_id,
												  run->version);
	HTAB	   *tasks = index_tasks(progress);
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, progress)
	{
		FpReason   *found;

		CHECK_FOR_INTERRUPTS();
		found = explain_task(self, run, tasks, lfirst(cell));
		if (found != NULL)
			result = lappend(result, found);
	}
	hash_destroy(tasks);
	return result;
}

/*
 * NULL: the task has ended, or is at a worker.
 */
static FpReason *
explain_task(FpExplainer *self, const FpRunRow *run, HTAB *tasks,
			 FpTaskProgress *task)
{
	switch (task->state)
	{
		case FP_TASK_RUN_NONE:
			break;
		case FP_TASK_RUN_UP_FOR_RETRY:
			return reason(task->task_id,
						  psprintf("retry at %s", time_text(task->retry_at)),
						  psprintf("has failed (%s) and is tried again at %s",
								   first_line(task->message),
								   time_text(task->retry_at)));
		case FP_TASK_RUN_UP_FOR_RESCHEDULE:
			return explain_reschedule(task);
		case FP_TASK_RUN_SCHEDULED:
		case FP_TASK_RUN_QUEUED:
			return explain_ready(self, run, task);
		case FP_TASK_RUN_RUNNING:
			/* on record, and maybe behind another one in its lane */
			if (has_worker(self, run, task))
				return NULL;
			return explain_worker(self, run, task);
		default:
			return NULL;
	}

	switch (decide(tasks, task))
	{
		case FP_TRIGGER_WAIT:
			return explain_upstream(tasks, task);
		case FP_TRIGGER_RUN:
			if (task->depends_on_past && !is_past_met(run, task->task_id))
				return explain_past(run, task);
			return explain_ready(self, run, task);
		default:
			return reason(task->task_id, "scheduler",
						  "is about to end without having begun, by its trigger_rule");
	}
}

/*
 * What becomes of a task by its upstream tasks, as the scheduler decides it.
 */
static FpTriggerDecision
decide(HTAB *tasks, FpTaskProgress *task)
{
	FpUpstreamCounts counts = {0};
	ListCell   *cell;

	counts.total = list_length(task->upstream);
	foreach(cell, task->upstream)
	{
		switch (find_task(tasks, lfirst(cell))->state)
		{
			case FP_TASK_RUN_SUCCESS:
				counts.success++;
				break;
			case FP_TASK_RUN_SKIPPED:
				counts.skipped++;
				break;
			case FP_TASK_RUN_UPSTREAM_FAILED:
				counts.upstream_failed++;
				break;
			case FP_TASK_RUN_REMOVED:
				counts.removed++;
				break;
			case FP_TASK_RUN_FAILED:
			case FP_TASK_RUN_CANCELLED:
				counts.failed++;
				break;
			default:
				break;			/* unfinished */
		}
	}
	return fp_trigger_rule_decide(fp_trigger_rule_parse(task->trigger_rule),
								  &counts);
}

static FpReason *
explain_upstream(HTAB *tasks, FpTaskProgress *task)
{
	StringInfoData brief;
	StringInfoData text;
	int			n = 0;
	ListCell   *cell;

	initStringInfo(&brief);
	initStringInfo(&text);
	foreach(cell, task->upstream)
	{
		FpTaskProgress *upstream = find_task(tasks, lfirst(cell));
		const char *state;

		if (fp_task_run_state_is_finished(upstream->state))
			continue;
		appendStringInfo(&brief, "%s%s", n == 0 ? "upstream: " : ", ",
						 upstream->task_id);
		state = fp_task_run_state_name(upstream->state);
		if (n < MAX_NAMES)
			appendStringInfo(&text, "%s\"%s\" (%s)", n == 0 ? "" : ", ",
							 upstream->task_id,
							 state != NULL ? state : "not begun");
		n++;
	}
	if (n > MAX_NAMES)
		appendStringInfo(&text, " and %d more", n - MAX_NAMES);
	return reason(task->task_id, brief.data,
				  psprintf("waits, by trigger_rule %s, for upstream %s",
						   task->trigger_rule, text.data));
}

/*
 * depends_on_past: in a backfill, its first run passes, and all do if it was
 * asked so.
 */
static bool
is_past_met(const FpRunRow *run, const char *task_id)
{
	FpBackfillRow *backfill = backfill_of(run);

	if (backfill != NULL && backfill->ignore_depends_on_past)
		return true;
	return fp_task_run_store_is_past_met(run->dag_id, run->logical_date,
									backfill != NULL ? backfill->backfill_id : 0,
									task_id);
}

static FpReason *
explain_past(const FpRunRow *run, FpTaskProgress *task)
{
	int64		run_id = fp_explain_store_previous_run(run->dag_id,
													   run->logical_date);
	FpRunRow   *previous = run_id != 0 ? fp_run_store_get(run_id) : NULL;
	FpTaskRunRow *task_run = run_id != 0 ?
		fp_task_run_store_get(run_id, task->task_id, -1) : NULL;
	const char *state = task_run != NULL ?
		fp_task_run_state_name(task_run->state) : NULL;

	if (previous == NULL)
		return reason(task->task_id, "scheduler", "is about to start");
	return reason(task->task_id, psprintf("run: " INT64_FORMAT, run_id),
				  psprintf("waits, by depends_on_past, for %s, in which it is %s",
						   run_text(previous),
						   state != NULL ? state : "not begun"));
}

/*
 * A task that may run as soon as the limits have room.
 */
static FpReason *
explain_ready(FpExplainer *self, const FpRunRow *run, FpTaskProgress *task)
{
	int			limit = self->dag->max_active_tasks > 0 ?
		self->dag->max_active_tasks : fp_max_active_tasks_per_dag;
	int			nactive = 0;
	FpReason   *result;
	ListCell   *cell;

	look_at_workers(self);
	foreach(cell, self->running_tasks)
	{
		const RunningTask *other = lfirst(cell);

		if (strcmp(other->dag_id, self->dag->dag_id) == 0)
			nactive++;
	}
	if (nactive >= limit)
		return reason(task->task_id, psprintf("max_active_tasks: %d", limit),
					  psprintf("max_active_tasks, %d, is reached by the DAG's running tasks",
							   limit));
	result = explain_pool(self, task);
	if (result != NULL)
		return result;

	return explain_worker(self, run, task);
}

/*
 * A task that only waits for a worker.
 */
static FpReason *
explain_worker(FpExplainer *self, const FpRunRow *run, FpTaskProgress *task)
{
	look_at_workers(self);
	if (fp_shared == NULL || self->nbusy < fp_shared->nworkers)
	{
		if (backfill_of(run) != NULL)
			return reason(task->task_id, "worker",
						  psprintf("is about to start, or leaves the workers to other work (flowpg.backfill_worker_share = %g)",
								   fp_backfill_worker_share));
		return reason(task->task_id, "worker", "is about to start");
	}
	return reason(task->task_id, "worker",
				  psprintf("waits for a worker: all %d of the server are busy (flowpg.max_workers)",
						   fp_shared->nworkers));
}

/*
 * Whether a worker is at the task, or was a moment ago.
 */
static bool
has_worker(FpExplainer *self, const FpRunRow *run, const FpTaskProgress *task)
{
	ListCell   *cell;

	look_at_workers(self);
	foreach(cell, self->running_tasks)
	{
		const RunningTask *other = lfirst(cell);

		if (other->run_id == run->run_id &&
			strcmp(other->task_id, task->task_id) == 0)
			return other->has_worker;
	}
	return true;
}

/*
 * NULL: the task's pool has room for it.
 */
static FpReason *
explain_pool(FpExplainer *self, FpTaskProgress *task)
{
	List	   *dag_ids = NIL;
	List	   *task_ids = NIL;
	List	   *versions = NIL;
	int64		used;
	ListCell   *cell;

	foreach(cell, self->running_tasks)
	{
		const RunningTask *other = lfirst(cell);

		dag_ids = lappend(dag_ids, other->dag_id);
		task_ids = lappend(task_ids, other->task_id);
		versions = lappend_int(versions, other->version);
	}
	used = fp_explain_store_pool_use(task->pool, dag_ids, versions, task_ids);

	foreach(cell, fp_pool_store_list())
	{
		const FpPoolRow *pool = lfirst(cell);

		if (strcmp(pool->pool, task->pool) == 0 &&
			used + task->pool_slots > pool->slots)
			return reason(task->task_id, psprintf("pool: %s", pool->pool),
						  psprintf("takes %d of the %d slots of pool \"%s\", of which " INT64_FORMAT " are taken",
								   task->pool_slots, pool->slots, pool->pool,
								   used));
	}
	return NULL;
}

/*
 * A sensor between two looks at its condition, or a task that waits for the
 * run that it has triggered.
 */
static FpReason *
explain_reschedule(FpTaskProgress *task)
{
	if (task->operator == FP_OPERATOR_TRIGGER && task->position != NULL)
		return reason(task->task_id,
					  psprintf("triggered run: %s", task->position),
					  psprintf("waits for run %s, which it has triggered",
							   task->position));
	return reason(task->task_id,
				  psprintf("condition, looked at again at %s",
						   time_text(task->retry_at)),
				  psprintf("waits for its condition, and looks at it again at %s",
						   time_text(task->retry_at)));
}


/* ---- what is known ---- */

static HTAB *
index_tasks(List *tasks)
{
	HASHCTL		control = {0};
	HTAB	   *result;
	ListCell   *cell;

	control.keysize = FP_ID_SIZE;
	control.entrysize = sizeof(TaskEntry);
	control.hcxt = CurrentMemoryContext;
	result = hash_create("flowpg task progress", Max(16, list_length(tasks)),
						 &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	foreach(cell, tasks)
	{
		FpTaskProgress *task = lfirst(cell);
		TaskEntry  *entry = hash_search(result, task->task_id, HASH_ENTER,
										NULL);

		entry->task = task;
	}
	return result;
}

static FpTaskProgress *
find_task(HTAB *tasks, const char *task_id)
{
	TaskEntry  *entry = hash_search(tasks, task_id, HASH_FIND, NULL);

	if (entry == NULL)
		elog(ERROR, "upstream task \"%s\" is missing", task_id);
	return entry->task;
}

static const FpUnfinishedRuns *
unfinished_runs(FpExplainer *self)
{
	if (!self->has_runs)
		fp_explain_store_unfinished(self->dag->dag_id, 1, &self->runs);
	self->has_runs = true;
	return &self->runs;
}

/*
 * Copy what is at workers and in their lanes.  Counted first, so that no
 * memory is asked for under the lock; what comes in between is left out.
 */
static void
look_at_workers(FpExplainer *self)
{
	FpAssignment *found;
	int			size = 0;
	int			n = 0;
	int			nat_workers;

	if (self->has_workers)
		return;
	self->has_workers = true;
	if (fp_shared == NULL)
		return;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		if (fp_shared->lanes[i].database == MyDatabaseId)
			size += fp_shared->lanes[i].head - fp_shared->lanes[i].tail;
	}
	LWLockRelease(fp_shared->lock);
	size += fp_shared->nworkers;
	found = palloc(size * sizeof(FpAssignment));

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		const FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state != FP_WORKER_BUSY)
			continue;
		self->nbusy++;
		if (worker->database == MyDatabaseId && worker->current.token != 0)
			found[n++] = worker->current;
	}
	nat_workers = n;
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		const FpLane *lane = &fp_shared->lanes[i];

		if (lane->database != MyDatabaseId)
			continue;
		for (uint32 at = lane->tail; at != lane->head && n < size; at++)
			found[n++] = lane->ready[at % FP_LANE_SIZE];
	}
	LWLockRelease(fp_shared->lock);

	for (int i = 0; i < n; i++)
	{
		RunningTask *task = palloc(sizeof(RunningTask));

		if (found[i].operator == FP_OPERATOR_CALLBACK)
			continue;
		task->run_id = found[i].run_id;
		task->dag_id = pstrdup(found[i].dag_id);
		task->task_id = pstrdup(found[i].task_id);
		task->version = found[i].version;
		task->has_worker = i < nat_workers;
		self->running_tasks = lappend(self->running_tasks, task);
	}
	pfree(found);
}

/*
 * text NULL: the caller fills in texts.
 */
static FpReason *
reason(const char *task_id, char *brief, char *text)
{
	FpReason   *result = palloc(sizeof(FpReason));

	result->task_id = task_id;
	result->brief = brief;
	result->texts = text != NULL ? list_make1(text) : NIL;
	return result;
}

/*
 * As the session shows it.
 */
static char *
time_text(TimestampTz at)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out,
											   TimestampTzGetDatum(at)));
}

static char *
run_text(const FpRunRow *run)
{
	return psprintf("run " INT64_FORMAT " (%s, %s)", run->run_id,
					time_text(run->logical_date),
					fp_run_state_name(run->state));
}

static char *
first_line(const char *message)
{
	char	   *result;
	char	   *end;

	if (message == NULL)
		return "no message";
	result = pnstrdup(message, pg_mbcliplen(message, strlen(message),
											MAX_MESSAGE));
	end = strchr(result, '\n');
	if (end != NULL)
		*end = '\0';
	return result;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}
