/*-------------------------------------------------------------------------
 *
 * model.c
 *	  The scheduler's memory: DAGs, their queues, active runs, limits.
 *
 * What is here only moves things from one list to another; what a change
 * means is decided in task_state.c, link.c and the scheduler.  Table reads
 * happen in the load and reload functions, inside the caller's transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "clock.h"
#include "guc.h"
#include "model.h"
#include "pool_store.h"
#include "run_planner.h"
#include "version_store.h"

/*
 * Versions without runs that are kept in memory: of so many tasks at most, and
 * so many tasks of all together, where each version counts as some more for
 * itself.  That is some 30 MB.
 */
#define MAX_SPARE_TASKS 10000
#define MAX_SPARE_SPECS 100000
#define SPECS_A_VERSION 8

/* Hash entries that only point. */
typedef struct RunEntry
{
	int64		run_id;
	FpRun	   *run;
} RunEntry;

typedef struct TokenEntry
{
	uint64		token;
	FpTask	   *task;
} TokenEntry;

static void init_heap(pairingheap *heap, pairingheap_comparator compare);
static HTAB *new_table(FpModel *model, const char *name, Size keysize,
					   Size entrysize, bool is_string);
static void set_dag_row(FpModel *model, FpDag *dag, FpDagRow *row);
static void read_schedule(FpModel *model, FpDag *dag);
static void forget_links(FpModel *model, FpDag *dag);
static FpQueue *find_queue(FpModel *model, FpDag *dag, int64 backfill_id);
static void keep_or_free_version(FpModel *model, FpDag *dag,
								 FpVersion *version);
static int	specs_of(const FpVersion *version);
static void free_version(FpVersion *version);
static void free_spare_version(FpModel *model, FpDag *dag);
static FpVersion *load_version(FpModel *model, FpDag *dag, int version,
							   List *rows);
static void link_tasks(FpVersion *version, List *rows);
static int	compare_due(const pairingheap_node *a, const pairingheap_node *b,
						void *arg);
static int	compare_timers(const pairingheap_node *a,
						   const pairingheap_node *b, void *arg);
static int	compare_deadlines(const pairingheap_node *a,
							  const pairingheap_node *b, void *arg);
static int	compare_tasks(const pairingheap_node *a,
						  const pairingheap_node *b, void *arg);
static int	compare_runs(const pairingheap_node *a, const pairingheap_node *b,
						 void *arg);


/* ---- the model ---- */

FpModel *
fp_model_new(void)
{
	MemoryContext context;
	MemoryContext previous;
	FpModel    *model;

	context = AllocSetContextCreate(TopMemoryContext, "flowpg model",
									ALLOCSET_DEFAULT_SIZES);
	previous = MemoryContextSwitchTo(context);
	model = palloc0(sizeof(FpModel));
	model->context = context;
	model->dags = new_table(model, "flowpg dags", FP_ID_SIZE, sizeof(FpDag),
							true);
	model->asis = new_table(model, "flowpg asis dags", FP_ID_SIZE,
							sizeof(FpAsis), true);
	model->pools = new_table(model, "flowpg pools",
							 sizeof(((FpPool *) NULL)->pool), sizeof(FpPool),
							 true);
	model->runs = new_table(model, "flowpg runs", sizeof(int64),
							sizeof(RunEntry), false);
	model->tokens = new_table(model, "flowpg tokens", sizeof(uint64),
							  sizeof(TokenEntry), false);
	model->backfills = new_table(model, "flowpg backfills", sizeof(int64),
								 sizeof(FpBackfill), false);
	init_heap(&model->due, compare_due);
	init_heap(&model->timers, compare_timers);
	init_heap(&model->deadlines, compare_deadlines);
	dlist_init(&model->past_checks);
	init_heap(&model->ready, compare_tasks);
	init_heap(&model->ready_backfill, compare_tasks);
	init_heap(&model->suspects, compare_tasks);
	dlist_init(&model->blocked_dags);
	slist_init(&model->dirty);
	slist_init(&model->ended);
	model->retry_at = DT_NOEND;
	model->set_off_at = DT_NOBEGIN; /* some may be left from before */
	MemoryContextSwitchTo(previous);
	return model;
}

void
fp_model_free(FpModel *model)
{
	MemoryContextDelete(model->context);
}


/* ---- DAGs ---- */

FpDag *
fp_model_dag(FpModel *model, const char *dag_id, bool create)
{
	FpDag	   *dag;
	bool		found;

	dag = hash_search(model->dags, dag_id, create ? HASH_ENTER : HASH_FIND,
					  &found);
	if (found || !create)
		return found ? dag : NULL;

	memset((char *) dag + sizeof(dag->dag_id), 0,
		   sizeof(FpDag) - sizeof(dag->dag_id));
	dag->context = AllocSetContextCreate(model->context, "flowpg dag",
										 ALLOCSET_SMALL_SIZES);
	init_heap(&dag->blocked, compare_tasks);
	dlist_init(&dag->queues);
	dlist_init(&dag->versions);
	dlist_init(&dag->runs);
	dlist_init(&dag->waiting_for_past);
	dag->own.dag = dag;
	init_heap(&dag->own.queued, compare_runs);
	dlist_init(&dag->own.waiting);
	dlist_push_tail(&dag->queues, &dag->own.dag_node);
	return dag;
}

void
fp_model_load_dags(FpModel *model)
{
	MemoryContext scratch;
	MemoryContext previous;
	List	   *rows;
	ListCell   *lc;

	scratch = AllocSetContextCreate(CurrentMemoryContext, "flowpg load",
									ALLOCSET_DEFAULT_SIZES);
	previous = MemoryContextSwitchTo(scratch);
	rows = fp_dag_store_list();
	foreach(lc, rows)
	{
		FpDagRow   *row = lfirst(lc);

		set_dag_row(model, fp_model_dag(model, row->dag_id, true), row);
	}
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(scratch);
}

void
fp_model_reload_dag(FpModel *model, const char *dag_id)
{
	FpDagRow   *row = fp_dag_store_get(dag_id);
	FpDag	   *dag = fp_model_dag(model, dag_id, row != NULL);

	if (dag != NULL)
		set_dag_row(model, dag, row);
}

/*
 * Takes over a definition as the tables have it now; row NULL: the DAG has
 * been dropped.
 */
static void
set_dag_row(FpModel *model, FpDag *dag, FpDagRow *row)
{
	MemoryContext previous;
	ListCell   *lc;

	forget_links(model, dag);
	/* it may change the intervals of DAGs further on, too */
	model->ndefinitions++;
	if (dag->is_in_due)
		pairingheap_remove(&model->due, &dag->due_node);
	dag->is_in_due = false;
	dag->has_next = false;
	dag->schedule = NULL;
	dag->is_broken = false;
	dag->is_progress_lost = false;
	dag->row = NULL;
	MemoryContextReset(dag->context);
	if (row == NULL)
	{
		free_spare_version(model, dag);
		return;
	}

	previous = MemoryContextSwitchTo(dag->context);
	dag->row = palloc(sizeof(FpDagRow));
	*dag->row = *row;
	dag->row->dag_id = dag->dag_id;
	dag->row->schedule = row->schedule ? pstrdup(row->schedule) : NULL;
	dag->row->timezone = pstrdup(row->timezone);
	dag->row->search_path = pstrdup(row->search_path);
	dag->row->asis_dags = NIL;
	foreach(lc, row->asis_dags)
		dag->row->asis_dags = lappend(dag->row->asis_dags,
									  pstrdup(lfirst(lc)));

	read_schedule(model, dag);
	MemoryContextSwitchTo(previous);
	free_spare_version(model, dag);

	foreach(lc, dag->row->asis_dags)
	{
		FpAsis	   *asis;
		bool		found;

		asis = hash_search(model->asis, lfirst(lc), HASH_ENTER, &found);
		previous = MemoryContextSwitchTo(model->context);
		if (!found)
			asis->tobe = NIL;
		asis->tobe = list_append_unique_ptr(asis->tobe, dag);
		MemoryContextSwitchTo(previous);
	}
}

/*
 * The schedule was checked when it was given; that it cannot be read now (a
 * timezone is gone) must not stop the other DAGs.  Parsing holds nothing that
 * an abort would have to release.
 */
static void
read_schedule(FpModel *model, FpDag *dag)
{
	PG_TRY();
	{
		/* of a DAG without a schedule, too: others may set it off */
		(void) fp_schedule_timezone(dag->row->timezone);
		dag->schedule = fp_run_planner_schedule(dag->row);
		fp_run_planner_bounds(dag->row, &dag->bounds);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(dag->context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("dag \"%s\" is not run: its schedule cannot be read",
						dag->dag_id),
				 errdetail_internal("%s", error->message)));
		dag->schedule = NULL;
		dag->is_broken = true;
		snprintf(model->problem, sizeof(model->problem),
				 "dag \"%.100s\": its schedule cannot be read; see the server log",
				 dag->dag_id);
	}
	PG_END_TRY();
}

static void
forget_links(FpModel *model, FpDag *dag)
{
	ListCell   *lc;

	if (dag->row == NULL)
		return;
	foreach(lc, dag->row->asis_dags)
	{
		FpAsis	   *asis = hash_search(model->asis, lfirst(lc), HASH_FIND,
									   NULL);

		if (asis != NULL)
			asis->tobe = list_delete_ptr(asis->tobe, dag);
	}
}

/*
 * Computes the next interval that the DAG's schedule brings and puts the DAG
 * where the scheduler finds it when it is due.
 */
void
fp_model_set_next(FpModel *model, FpDag *dag, TimestampTz now)
{
	if (dag->is_in_due)
		pairingheap_remove(&model->due, &dag->due_node);
	dag->is_in_due = false;
	dag->has_next = false;

	if (dag->row == NULL || dag->row->is_paused || !dag->row->has_tasks ||
		dag->schedule == NULL || dag->schedule->kind == FP_SCHEDULE_NONE)
		return;
	/* one at a time: the end of the run that there is brings the next */
	if (dag->schedule->kind == FP_SCHEDULE_CONTINUOUS &&
		!dlist_is_empty(&dag->runs))
		return;

	dag->has_next = fp_schedule_next_run(dag->schedule, &dag->bounds, now,
										 &dag->next);
	if (!dag->has_next)
		return;
	pairingheap_add(&model->due, &dag->due_node);
	dag->is_in_due = true;
}

void
fp_model_mark_dirty(FpModel *model, FpDag *dag)
{
	if (dag->is_dirty)
		return;
	dag->is_dirty = true;
	slist_push_head(&model->dirty, &dag->dirty_node);
}

/* The DAGs that wait for one (FpDag *); the List is the model's own. */
List *
fp_model_tobe(FpModel *model, const char *asis_dag)
{
	FpAsis	   *asis = hash_search(model->asis, asis_dag, HASH_FIND, NULL);

	return asis != NULL ? asis->tobe : NIL;
}

int
fp_model_max_active_runs(const FpQueue *queue)
{
	const FpDagRow *row = queue->dag->row;

	if (queue->backfill != NULL && queue->backfill->max_active_runs > 0)
		return queue->backfill->max_active_runs;
	if (row != NULL && row->max_active_runs > 0)
		return row->max_active_runs;
	return fp_max_active_runs_per_dag;
}

int
fp_model_max_active_tasks(const FpDag *dag)
{
	if (dag->row != NULL && dag->row->max_active_tasks > 0)
		return dag->row->max_active_tasks;
	return fp_max_active_tasks_per_dag;
}


/* ---- pools ---- */

/* A pool that has been dropped since has no slots. */
FpPool *
fp_model_pool(FpModel *model, const char *pool)
{
	FpPool	   *entry;
	bool		found;

	entry = hash_search(model->pools, pool, HASH_ENTER, &found);
	if (!found)
	{
		entry->slots = 0;
		entry->used = 0;
		dlist_init(&entry->blocked);
	}
	return entry;
}

/* where tasks that take so many slots wait */
FpPoolQueue *
fp_model_pool_queue(FpModel *model, FpPool *pool, int pool_slots)
{
	FpPoolQueue *queue;
	dlist_iter	iter;

	dlist_foreach(iter, &pool->blocked)
	{
		queue = dlist_container(FpPoolQueue, node, iter.cur);
		if (queue->pool_slots == pool_slots)
			return queue;
	}
	queue = MemoryContextAllocZero(model->context, sizeof(FpPoolQueue));
	queue->pool_slots = pool_slots;
	init_heap(&queue->tasks, compare_tasks);
	dlist_push_tail(&pool->blocked, &queue->node);
	return queue;
}

void
fp_model_load_pools(FpModel *model)
{
	HASH_SEQ_STATUS scan;
	FpPool	   *pool;
	List	   *rows = fp_pool_store_list();
	ListCell   *lc;

	hash_seq_init(&scan, model->pools);
	while ((pool = hash_seq_search(&scan)) != NULL)
		pool->slots = 0;
	foreach(lc, rows)
	{
		FpPoolRow  *row = lfirst(lc);

		fp_model_pool(model, row->pool)->slots = row->slots;
	}
}


/* ---- runs ---- */

FpRun *
fp_model_run(FpModel *model, int64 run_id)
{
	RunEntry   *entry = hash_search(model->runs, &run_id, HASH_FIND, NULL);

	return entry != NULL ? entry->run : NULL;
}

/*
 * Enters an unfinished run, in no queue yet.  Its DAG may have been dropped.
 */
FpRun *
fp_model_add_run(FpModel *model, const FpRunRow *row, int64 ordinal)
{
	FpDag	   *dag = fp_model_dag(model, row->dag_id, true);
	FpRun	   *run;
	RunEntry   *entry;
	bool		found;
	bool		is_own;

	run = MemoryContextAllocZero(model->context, sizeof(FpRun));
	run->run_id = row->run_id;
	run->dag = dag;
	run->queue = find_queue(model, dag, row->backfill_id);
	run->run_type = row->run_type;
	run->state = FP_RUN_QUEUED;
	run->logical_date = row->logical_date;
	run->data_interval_start = row->data_interval_start;
	run->data_interval_end = row->data_interval_end;
	run->has_conf = row->has_conf;
	run->has_rows = row->has_rows;
	run->parent_run_id = row->parent_run_id;
	run->ordinal = ordinal;

	/* what was asked for by name waits for no other DAG */
	is_own = run->queue->backfill == NULL;
	run->waits_for_asis = is_own
		? run->run_type == FP_RUN_SCHEDULED ||
		(run->run_type == FP_RUN_TRIGGERED && row->parent_run_id == 0)
		: strcmp(run->queue->backfill->dag_id, dag->dag_id) != 0;
	run->priority = is_own ? (dag->row != NULL ? dag->row->priority : 0)
		: run->queue->backfill->priority;
	if (!is_own)
		run->queue->backfill->nunfinished++;

	entry = hash_search(model->runs, &run->run_id, HASH_ENTER, &found);
	Assert(!found);
	entry->run = run;
	dlist_push_tail(&dag->runs, &run->dag_node);
	return run;
}

void
fp_model_enqueue_run(FpModel *model, FpRun *run, bool waiting)
{
	Assert(run->state == FP_RUN_QUEUED || run->is_parked);
	run->is_waiting = waiting;
	run->is_in_queue = true;
	if (waiting)
		dlist_push_tail(&run->queue->waiting, &run->waiting_node);
	else
	{
		pairingheap_add(&run->queue->queued, &run->queue_node);
		run->queue->nqueued++;
		fp_model_mark_dirty(model, run->dag);
	}
}

void
fp_model_dequeue_run(FpRun *run)
{
	run->is_in_queue = false;
	if (run->is_waiting)
		dlist_delete(&run->waiting_node);
	else
	{
		pairingheap_remove(&run->queue->queued, &run->queue_node);
		run->queue->nqueued--;
	}
}

FpVersion *
fp_model_find_version(FpDag *dag, int version)
{
	dlist_iter	iter;

	dlist_foreach(iter, &dag->versions)
	{
		FpVersion  *candidate = dlist_container(FpVersion, node, iter.cur);

		if (candidate->version == version)
			return candidate;
	}
	return NULL;
}

/*
 * Makes a run (in no queue) a running one.  task_versions: FpTaskVersionRow
 * *, may be NIL where fp_model_find_version finds the version; task_runs:
 * FpTaskRunRow * of the tasks that have rows already.
 */
void
fp_model_start_run(FpModel *model, FpRun *run, int version,
				   List *task_versions, List *task_runs)
{
	ListCell   *lc;

	run->version = fp_model_find_version(run->dag, version);
	if (run->version == NULL)
		run->version = load_version(model, run->dag, version, task_versions);
	else if (run->version->nruns == 0)
		model->nspare_specs -= specs_of(run->version);
	run->version->nruns++;
	run->state = FP_RUN_RUNNING;
	run->queue->nactive++;
	model->nruns++;
	run->nunfinished = run->version->ntasks;
	run->tasks = MemoryContextAllocZero(model->context,
										sizeof(FpTask) *
										Max(1, run->version->ntasks));
	for (int i = 0; i < run->version->ntasks; i++)
	{
		run->tasks[i].run = run;
		run->tasks[i].index = i;
		run->tasks[i].retry_at = DT_NOBEGIN;
		run->tasks[i].upstream.total = run->version->tasks[i].nupstream;
	}

	foreach(lc, task_runs)
	{
		FpTaskRunRow *row = lfirst(lc);
		int			low = 0;
		int			high = run->version->ntasks - 1;

		/* tasks are in the order of their names' bytes, see load_version */
		while (low <= high)
		{
			int			middle = (low + high) / 2;
			int			order = strcmp(run->version->tasks[middle].task_id,
									   row->task_id);

			if (order == 0)
			{
				FpTask	   *task = &run->tasks[middle];

				task->has_row = true;
				task->state = row->state;
				task->try_number = row->try_number;
				task->failures = row->failures;
				task->crashes = row->crashes;
				task->retry_at = row->retry_at;
				break;
			}
			if (order < 0)
				low = middle + 1;
			else
				high = middle - 1;
		}
	}
}

/*
 * A run has ended: forgets it.  It is in no queue, its tasks in no heap and
 * at no worker.
 */
void
fp_model_remove_run(FpModel *model, FpRun *run)
{
	if (run->is_in_deadlines)
		pairingheap_remove(&model->deadlines, &run->deadline_node);
	if (run->state != FP_RUN_QUEUED && run->version != NULL)
	{
		if (run->is_parked)
			run->queue->nparked--;
		else
			run->queue->nactive--;
		model->nruns--;
		for (int i = 0; i < run->version->ntasks; i++)
			fp_model_forget_past(&run->tasks[i]);
		if (--run->version->nruns == 0)
			keep_or_free_version(model, run->dag, run->version);
		pfree(run->tasks);
	}
	if (run->queue->backfill != NULL)
		run->queue->backfill->nunfinished--;
	dlist_delete(&run->dag_node);
	(void) hash_search(model->runs, &run->run_id, HASH_REMOVE, NULL);
	fp_model_mark_dirty(model, run->dag);
	pfree(run);
}

/*
 * A version whose last run has ended.  The next run of a DAG most often has the
 * same one; so it is kept, where it is small, and not read for each run.
 */
static void
keep_or_free_version(FpModel *model, FpDag *dag, FpVersion *version)
{
	if (dag->row != NULL && dag->row->version == version->version &&
		version->ntasks <= MAX_SPARE_TASKS &&
		model->nspare_specs + specs_of(version) <= MAX_SPARE_SPECS)
		model->nspare_specs += specs_of(version);
	else
		free_version(version);
}

static int
specs_of(const FpVersion *version)
{
	return version->ntasks + SPECS_A_VERSION;
}

static void
free_version(FpVersion *version)
{
	dlist_delete(&version->node);
	MemoryContextDelete(version->context);
}

/* Of a DAG that has another version now, or none. */
static void
free_spare_version(FpModel *model, FpDag *dag)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &dag->versions)
	{
		FpVersion  *version = dlist_container(FpVersion, node, iter.cur);

		if (version->nruns > 0 ||
			(dag->row != NULL && dag->row->version == version->version))
			continue;
		model->nspare_specs -= specs_of(version);
		free_version(version);
	}
}

static FpQueue *
find_queue(FpModel *model, FpDag *dag, int64 backfill_id)
{
	FpBackfill *backfill;
	FpQueue    *queue;
	dlist_iter	iter;

	if (backfill_id == 0)
		return &dag->own;
	backfill = fp_model_backfill(model, backfill_id, false);
	if (backfill == NULL)
		return &dag->own;
	dlist_foreach(iter, &dag->queues)
	{
		queue = dlist_container(FpQueue, dag_node, iter.cur);
		if (queue->backfill == backfill)
			return queue;
	}
	queue = MemoryContextAllocZero(model->context, sizeof(FpQueue));
	queue->dag = dag;
	queue->backfill = backfill;
	init_heap(&queue->queued, compare_runs);
	dlist_init(&queue->waiting);
	dlist_push_tail(&dag->queues, &queue->dag_node);
	dlist_push_tail(&backfill->queues, &queue->backfill_node);
	return queue;
}

static int
compare_task_ids(const ListCell *a, const ListCell *b)
{
	return strcmp(((FpTaskVersionRow *) lfirst(a))->task_id,
				  ((FpTaskVersionRow *) lfirst(b))->task_id);
}

static FpVersion *
load_version(FpModel *model, FpDag *dag, int version, List *rows)
{
	MemoryContext context;
	MemoryContext previous;
	FpVersion  *result;
	FpDagVersionRow row_of_dag;
	ListCell   *lc;
	int			i = 0;

	context = AllocSetContextCreate(model->context, "flowpg version",
									ALLOCSET_SMALL_SIZES);
	previous = MemoryContextSwitchTo(context);
	result = palloc0(sizeof(FpVersion));
	result->context = context;
	result->version = version;
	fp_version_store_dag(dag->dag_id, version, &row_of_dag);
	result->dagrun_timeout = row_of_dag.dagrun_timeout;
	result->has_on_success = row_of_dag.has_on_success;
	result->has_on_failure = row_of_dag.has_on_failure;
	result->ntasks = list_length(rows);
	result->tasks = palloc0(sizeof(FpTaskSpec) * Max(1, result->ntasks));
	list_sort(rows, compare_task_ids);
	foreach(lc, rows)
	{
		FpTaskVersionRow *row = lfirst(lc);
		FpTaskSpec  *task = &result->tasks[i++];

		task->task_id = pstrdup(row->task_id);
		task->operator = fp_operator_parse(row->operator);
		task->rule = fp_trigger_rule_parse(row->trigger_rule);
		task->retries = row->retries;
		task->retry_delay = row->retry_delay;
		task->has_backoff = row->has_backoff;
		task->max_retry_delay = row->max_retry_delay;
		task->execution_timeout = row->execution_timeout;
		task->pool = fp_model_pool(model, row->pool);
		task->pool_slots = row->pool_slots;
		task->priority_weight = row->priority_weight;
		task->depends_on_past = row->depends_on_past;
	}
	link_tasks(result, rows);
	dlist_push_head(&dag->versions, &result->node);
	MemoryContextSwitchTo(previous);
	return result;
}

/* Turns the names of upstream tasks into indexes, both ways. */
static void
link_tasks(FpVersion *version, List *rows)
{
	HASHCTL		control;
	HTAB	   *names;
	ListCell   *lc;
	ListCell   *up;
	int			i = 0;
	typedef struct NameEntry
	{
		char		task_id[FP_ID_SIZE];
		int			index;
	} NameEntry;

	memset(&control, 0, sizeof(control));
	control.keysize = FP_ID_SIZE;
	control.entrysize = sizeof(NameEntry);
	names = hash_create("flowpg task names", Max(16, version->ntasks),
						&control, HASH_ELEM | HASH_STRINGS);
	for (int n = 0; n < version->ntasks; n++)
	{
		NameEntry  *entry = hash_search(names, version->tasks[n].task_id,
										HASH_ENTER, NULL);

		entry->index = n;
	}

	foreach(lc, rows)
	{
		FpTaskVersionRow *row = lfirst(lc);
		FpTaskSpec  *task = &version->tasks[i++];

		task->upstream = palloc(sizeof(int) *
								Max(1, list_length(row->upstream)));
		foreach(up, row->upstream)
		{
			NameEntry  *entry = hash_search(names, lfirst(up), HASH_FIND,
											NULL);

			if (entry == NULL)
				elog(ERROR, "upstream task \"%s\" of task \"%s\" is missing",
					 (char *) lfirst(up), task->task_id);
			task->upstream[task->nupstream++] = entry->index;
			version->tasks[entry->index].ndownstream++;
		}
	}
	for (int n = 0; n < version->ntasks; n++)
	{
		version->tasks[n].downstream =
			palloc(sizeof(int) * Max(1, version->tasks[n].ndownstream));
		version->tasks[n].ndownstream = 0;
	}
	for (int n = 0; n < version->ntasks; n++)
	{
		for (int u = 0; u < version->tasks[n].nupstream; u++)
		{
			FpTaskSpec  *upstream;

			upstream = &version->tasks[version->tasks[n].upstream[u]];
			upstream->downstream[upstream->ndownstream++] = n;
		}
	}
	hash_destroy(names);
}


/* ---- backfills ---- */

FpBackfill *
fp_model_backfill(FpModel *model, int64 backfill_id, bool create)
{
	FpBackfill *backfill;
	bool		found;

	backfill = hash_search(model->backfills, &backfill_id,
						   create ? HASH_ENTER : HASH_FIND, &found);
	if (found || !create)
		return found ? backfill : NULL;
	memset(backfill, 0, sizeof(FpBackfill));
	backfill->backfill_id = backfill_id;
	dlist_init(&backfill->queues);
	return backfill;
}

/* All its runs have ended and are removed. */
void
fp_model_remove_backfill(FpModel *model, FpBackfill *backfill)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &backfill->queues)
	{
		FpQueue    *queue = dlist_container(FpQueue, backfill_node, iter.cur);

		dlist_delete(&queue->backfill_node);
		dlist_delete(&queue->dag_node);
		pfree(queue);
	}
	pfree(backfill->dag_id);
	(void) hash_search(model->backfills, &backfill->backfill_id, HASH_REMOVE,
					   NULL);
}


/* ---- tasks ---- */

const FpTaskSpec *
fp_model_task_spec(const FpTask *task)
{
	return &task->run->version->tasks[task->index];
}

/* the role that the task runs as */
Oid
fp_model_task_role(const FpTask *task)
{
	if (task->run->is_callback)
		return task->run->callback_role;
	return task->run->dag->row->owner;
}

bool
fp_model_is_own_version(const FpDag *dag, int version)
{
	return dag->row != NULL && version >= dag->row->first_version;
}

bool
fp_model_is_foreign_run(const FpRun *run)
{
	return run->version != NULL &&
		!fp_model_is_own_version(run->dag, run->version->version);
}

static bool
is_ready_heap(FpModel *model, pairingheap *heap)
{
	return heap != NULL && heap != &model->timers;
}

void
fp_model_put_task(FpModel *model, FpTask *task, pairingheap *heap)
{
	Assert(task->heap == NULL);
	pairingheap_add(heap, &task->node);
	task->heap = heap;
	if (is_ready_heap(model, heap))
		model->nready++;
}

void
fp_model_take_task(FpModel *model, FpTask *task)
{
	if (task->heap == NULL)
		return;
	pairingheap_remove(task->heap, &task->node);
	if (is_ready_heap(model, task->heap))
		model->nready--;
	if (task->waits_for_worker)
		model->nwaiting_for_worker--;
	task->waits_for_worker = false;
	task->heap = NULL;
}

/* The task may run as soon as its limits have room. */
void
fp_model_make_ready(FpModel *model, FpTask *task)
{
	if (task->state == FP_TASK_RUN_NONE)
		task->run->nlive++;
	task->is_rescheduled = task->state == FP_TASK_RUN_UP_FOR_RESCHEDULE;
	task->state = FP_TASK_RUN_SCHEDULED;
	fp_model_put_task(model, task, fp_model_ready_heap(model, task));
}

/* the heap in which the task waits until it is looked at */
pairingheap *
fp_model_ready_heap(FpModel *model, const FpTask *task)
{
	if (task->crashes >= FP_SUSPECT_CRASHES)
		return &model->suspects;
	if (task->run->queue->backfill != NULL)
		return &model->ready_backfill;
	return &model->ready;
}

/* Has the task's previous run looked up, in this cycle's transaction. */
void
fp_model_check_past(FpModel *model, FpTask *task)
{
	if (task->is_past_queued)
		return;
	task->is_past_queued = true;
	dlist_push_tail(&model->past_checks, &task->check_node);
}

/* The task no longer waits for its previous run. */
void
fp_model_forget_past(FpTask *task)
{
	if (task->waits_for_past)
		dlist_delete(&task->past_node);
	if (task->is_past_queued)
		dlist_delete(&task->check_node);
	task->waits_for_past = false;
	task->is_past_queued = false;
}

/* token 0: the task is at no worker any more */
void
fp_model_set_token(FpModel *model, FpTask *task, uint64 token)
{
	TokenEntry *entry;
	const FpTaskSpec *spec = fp_model_task_spec(task);
	int			change = token != 0 ? 1 : -1;

	Assert((task->token != 0) == (token == 0));
	if (token != 0)
	{
		entry = hash_search(model->tokens, &token, HASH_ENTER, NULL);
		entry->task = task;
	}
	else
		(void) hash_search(model->tokens, &task->token, HASH_REMOVE, NULL);
	task->token = token;

	task->run->nrunning += change;
	model->nrunning += change;
	if (task->run->is_callback)
		return;
	task->run->dag->nactive_tasks += change;
	spec->pool->used += change * spec->pool_slots;
	if (task->run->queue->backfill != NULL)
		model->nbackfill_running += change;
	if (task->crashes >= FP_SUSPECT_CRASHES)
		model->nsuspects_running += change;
}

FpTask *
fp_model_task_by_token(FpModel *model, uint64 token)
{
	TokenEntry *entry = hash_search(model->tokens, &token, HASH_FIND, NULL);

	return entry != NULL ? entry->task : NULL;
}


/* ---- order ---- */

static void
init_heap(pairingheap *heap, pairingheap_comparator compare)
{
	heap->ph_compare = compare;
	heap->ph_arg = NULL;
	heap->ph_root = NULL;
}

static HTAB *
new_table(FpModel *model, const char *name, Size keysize, Size entrysize,
		  bool is_string)
{
	HASHCTL		control;

	memset(&control, 0, sizeof(control));
	control.keysize = keysize;
	control.entrysize = entrysize;
	control.hcxt = model->context;
	return hash_create(name, 64, &control,
					   HASH_ELEM | HASH_CONTEXT |
					   (is_string ? HASH_STRINGS : HASH_BLOBS));
}

/* A pairing heap has the greatest first: compare the other way round. */
static inline int
earlier_first(int64 a, int64 b)
{
	return a < b ? 1 : (a > b ? -1 : 0);
}

static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	return earlier_first(pairingheap_const_container(FpDag, due_node, a)->next.end,
						 pairingheap_const_container(FpDag, due_node, b)->next.end);
}

static int
compare_timers(const pairingheap_node *a, const pairingheap_node *b,
			   void *arg)
{
	return earlier_first(pairingheap_const_container(FpTask, node, a)->retry_at,
						 pairingheap_const_container(FpTask, node, b)->retry_at);
}

static int
compare_deadlines(const pairingheap_node *a, const pairingheap_node *b,
				  void *arg)
{
	return earlier_first(pairingheap_const_container(FpRun, deadline_node, a)->deadline,
						 pairingheap_const_container(FpRun, deadline_node, b)->deadline);
}

/*
 * What runs first when not all can: higher priority of the run, then of the
 * task, then earlier intervals.
 */
static int
compare_tasks(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const FpTask *x = pairingheap_const_container(FpTask, node, a);
	const FpTask *y = pairingheap_const_container(FpTask, node, b);
	int			order;

	if (x->run->priority != y->run->priority)
		return x->run->priority > y->run->priority ? 1 : -1;
	order = -earlier_first(fp_model_task_spec(x)->priority_weight,
						   fp_model_task_spec(y)->priority_weight);
	if (order == 0)
		order = earlier_first(x->run->ordinal, y->run->ordinal);
	if (order == 0)
		order = earlier_first(x->run->logical_date, y->run->logical_date);
	if (order == 0)
		order = earlier_first(x->run->run_id, y->run->run_id);
	if (order == 0)
		order = earlier_first(x->index, y->index);
	return order;
}

static int
compare_runs(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const FpRun *x = pairingheap_const_container(FpRun, queue_node, a);
	const FpRun *y = pairingheap_const_container(FpRun, queue_node, b);
	int			order = earlier_first(x->ordinal, y->ordinal);

	if (order == 0)
		order = earlier_first(x->logical_date, y->logical_date);
	if (order == 0)
		order = earlier_first(x->run_id, y->run_id);
	return order;
}
