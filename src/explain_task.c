/*-------------------------------------------------------------------------
 *
 * explain_task.c
 *	  Why what has not started has not started: the tasks of running runs.
 *
 * Called by sessions.  In the order in which the scheduler decides
 * (task_state.c, past.c, dispatch.c): upstream tasks, the previous run, the
 * limits, a worker.  What runs now is in shared memory, the rest in tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/hsearch.h"

#include "explain.h"
#include "explain_store.h"
#include "guc.h"
#include "pool_store.h"
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

/* How far a task of a run is, found by name; the key comes first. */
typedef struct TaskEntry
{
	char		task_id[FP_ID_SIZE];
	FpTaskProgress *task;
} TaskEntry;

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
static void look_at_workers(FpExplainer *self);
static char *run_text(const FpRunRow *run);
static char *first_line(const char *message);


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

bool
fp_explain_is_parked(FpExplainer *self, const FpRunRow *run)
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
			return fp_explain_reason(task->task_id,
									 psprintf("retry at %s", fp_explain_time(task->retry_at)),
									 psprintf("has failed (%s) and is tried again at %s",
											  first_line(task->message),
											  fp_explain_time(task->retry_at)));
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
			return fp_explain_reason(task->task_id, "scheduler",
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
	FpTriggerRule rule;
	bool		has_open_branch = false;

	counts.total = list_length(task->upstream);
	foreach(cell, task->upstream)
	{
		FpTaskProgress *upstream = find_task(tasks, lfirst(cell));

		has_open_branch |= upstream->operator == FP_OPERATOR_BRANCH &&
			!fp_task_run_state_is_finished(upstream->state);
		switch (upstream->state)
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
	rule = fp_trigger_rule_parse(task->trigger_rule);
	/* a branch may skip the task, whatever the others do */
	if (has_open_branch && rule != FP_TRIGGER_RULE_ALWAYS)
		return FP_TRIGGER_WAIT;
	return fp_trigger_rule_decide(rule, &counts);
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
	return fp_explain_reason(task->task_id, brief.data,
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
	FpBackfillRow *backfill = fp_explain_backfill(run);

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
		return fp_explain_reason(task->task_id, "scheduler", "is about to start");
	return fp_explain_reason(task->task_id, psprintf("run: " INT64_FORMAT, run_id),
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
		return fp_explain_reason(task->task_id, psprintf("max_active_tasks: %d", limit),
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
		if (fp_explain_backfill(run) != NULL)
			return fp_explain_reason(task->task_id, "worker",
									 psprintf("is about to start, or leaves the workers to other work (flowpg.backfill_worker_share = %g)",
											  fp_backfill_worker_share));
		return fp_explain_reason(task->task_id, "worker", "is about to start");
	}
	return fp_explain_reason(task->task_id, "worker",
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
			return fp_explain_reason(task->task_id, psprintf("pool: %s", pool->pool),
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
		return fp_explain_reason(task->task_id,
								 psprintf("triggered run: %s", task->position),
								 psprintf("waits for run %s, which it has triggered",
										  task->position));
	return fp_explain_reason(task->task_id,
							 psprintf("condition, looked at again at %s",
									  fp_explain_time(task->retry_at)),
							 psprintf("waits for its condition, and looks at it again at %s",
									  fp_explain_time(task->retry_at)));
}

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

static char *
run_text(const FpRunRow *run)
{
	return psprintf("run " INT64_FORMAT " (%s, %s)", run->run_id,
					fp_explain_time(run->logical_date),
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
