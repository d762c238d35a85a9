/*-------------------------------------------------------------------------
 *
 * task_def.c
 *	  Definitions of tasks: from the arguments of a flow_add_ function to
 *	  what is stored, and the graph that the tasks of a DAG make.
 *
 * Called by sessions, which hold the lock of the DAG's row.
 *
 * A DAG of n tasks may be defined by n calls, so a call must not read the
 * whole DAG: a cycle can only come from a task that is there already and gets
 * an upstream task that it did not have, and only then are the tasks above it
 * read.  A document has all tasks at hand and is checked as a whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "cycle.h"
#include "graph.h"
#include "pool_store.h"
#include "task_def.h"
#include "trigger_rule.h"

/* names that an error lists */
#define LISTED_NAMES 10

/* A task in the order of all, while they are put into it. */
typedef struct SortedTask
{
	FpTaskDef  *task;
	int			depth;			/* tasks on the longest way to it */
} SortedTask;

const FpArgument fp_task_def_common[FP_TASK_COMMON_ARGUMENTS] = {
	[FP_TASK_UPSTREAM] = {"upstream", TEXTARRAYOID},
	[FP_TASK_TRIGGER_RULE] = {"trigger_rule", TEXTOID},
	[FP_TASK_RETRIES] = {"retries", INT4OID},
	[FP_TASK_RETRY_DELAY] = {"retry_delay", INTERVALOID},
	[FP_TASK_EXECUTION_TIMEOUT] = {"execution_timeout", INTERVALOID},
	[FP_TASK_POOL] = {"pool", TEXTOID},
	[FP_TASK_POOL_SLOTS] = {"pool_slots", INT4OID},
	[FP_TASK_PRIORITY_WEIGHT] = {"priority_weight", INT4OID},
	[FP_TASK_DEPENDS_ON_PAST] = {"depends_on_past", BOOLOID},
};

static void read_common(FunctionCallInfo fcinfo, int first, FpTaskDef *task);
static void check_pool(const FpTaskDef *task);
static void check_not_itself(const FpTaskDef *task);
static void check_no_cycle(const FpTaskDef *task);
pg_noreturn static void no_such_upstream(const char *dag_id,
										 const char *task_id,
										 List *task_ids);
static int	compare_ids(const void *a, const void *b);
static int	compare_depths(const void *a, const void *b);
static void make_graph(const char *dag_id, SortedTask *sorted, int n,
					   FpGraph *graph);
static void set_depths(const FpGraph *graph, const int *order,
					   SortedTask *sorted);
pg_noreturn static void cycle_of_tasks(const char *dag_id, List *tasks);


void
fp_task_def_read(const FpTaskKind *kind, FunctionCallInfo fcinfo,
				 const FpDagDef *dag, FpTaskDef *task)
{
	memset(task, 0, sizeof(FpTaskDef));
	task->dag_id = dag->dag_id;
	task->task_id = fp_args_id(fcinfo, FP_TASK_TASK_ID, "task_id");
	task->operator = kind->operator;
	read_common(fcinfo, FP_TASK_OWN + kind->narguments, task);
	task->params = kind->read(fcinfo, dag, task->task_id);
	check_pool(task);
}

void
fp_task_def_check_upstream(const FpTaskDef *task)
{
	List	   *missing;

	if (task->upstream == NIL)
		return;

	check_not_itself(task);
	missing = fp_task_store_missing(task->dag_id, task->upstream);
	if (missing != NIL)
		no_such_upstream(task->dag_id, linitial(missing),
						 fp_task_store_list(task->dag_id));
	if (fp_task_store_adds_upstream(task->dag_id, task->task_id,
									task->upstream))
		check_no_cycle(task);
}

List *
fp_task_def_sort(const char *dag_id, List *tasks)
{
	int			n = list_length(tasks);
	SortedTask *sorted = palloc0(sizeof(SortedTask) * (n + 1));
	int		   *order = palloc(sizeof(int) * (n + 1));
	FpGraph		graph;
	List	   *result = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, tasks)
		sorted[i++].task = lfirst(lc);
	qsort(sorted, n, sizeof(SortedTask), compare_ids);

	make_graph(dag_id, sorted, n, &graph);
	if (!fp_graph_topological_order(&graph, order))
		cycle_of_tasks(dag_id, tasks);
	set_depths(&graph, order, sorted);

	qsort(sorted, n, sizeof(SortedTask), compare_depths);
	for (i = 0; i < n; i++)
		result = lappend(result, sorted[i].task);
	return result;
}

bool
fp_task_def_is_equal(const FpTaskDef *a, const FpTaskDef *b)
{
	return strcmp(a->task_id, b->task_id) == 0 &&
		strcmp(a->operator, b->operator) == 0 &&
		strcmp(a->trigger_rule, b->trigger_rule) == 0 &&
		compareJsonbContainers(unconstify(JsonbContainer *, &a->params->root),
							   unconstify(JsonbContainer *, &b->params->root)) == 0 &&
		a->retries == b->retries &&
		fp_args_is_equal_interval(a->retry_delay, b->retry_delay) &&
		fp_args_is_equal_interval(a->execution_timeout,
								  b->execution_timeout) &&
		strcmp(a->pool, b->pool) == 0 &&
		a->pool_slots == b->pool_slots &&
		a->priority_weight == b->priority_weight &&
		a->has_depends_on_past == b->has_depends_on_past &&
		a->depends_on_past == b->depends_on_past &&
		fp_args_is_equal_list(a->upstream, b->upstream);
}

char *
fp_task_def_list_hint(List *task_ids)
{
	if (task_ids == NIL)
		return "The DAG has no tasks yet.";
	return psprintf("The tasks of the DAG are %s.",
					fp_args_name_list(task_ids, LISTED_NAMES));
}

static void
read_common(FunctionCallInfo fcinfo, int first, FpTaskDef *task)
{
	const char *text;

	task->upstream = fp_args_names(fp_args_text_array(fcinfo,
													  first + FP_TASK_UPSTREAM,
													  "upstream"));
	text = fp_args_text(fcinfo, first + FP_TASK_TRIGGER_RULE);
	task->trigger_rule =
		fp_trigger_rule_name(text == NULL ? FP_TRIGGER_RULE_ALL_SUCCESS :
							 fp_trigger_rule_parse(text));
	task->retries = fp_args_int(fcinfo, first + FP_TASK_RETRIES, "retries", 0,
								-1);
	task->retry_delay = fp_args_interval(fcinfo, first + FP_TASK_RETRY_DELAY,
										 "retry_delay", FP_ARGS_ZERO_OR_MORE);
	task->execution_timeout = fp_args_interval(fcinfo,
											   first + FP_TASK_EXECUTION_TIMEOUT,
											   "execution_timeout",
											   FP_ARGS_POSITIVE);
	text = fp_args_text(fcinfo, first + FP_TASK_POOL);
	task->pool = text == NULL ? FP_DEFAULT_POOL : text;
	task->pool_slots = fp_args_int(fcinfo, first + FP_TASK_POOL_SLOTS,
								   "pool_slots", 1, 1);
	task->priority_weight = fp_args_int(fcinfo,
										first + FP_TASK_PRIORITY_WEIGHT,
										"priority_weight", PG_INT32_MIN, 1);
	task->has_depends_on_past = !PG_ARGISNULL(first + FP_TASK_DEPENDS_ON_PAST);
	task->depends_on_past = fp_args_bool(fcinfo,
										 first + FP_TASK_DEPENDS_ON_PAST,
										 false);
}

static void
check_pool(const FpTaskDef *task)
{
	int			slots = fp_pool_store_share(task->pool);

	if (slots < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pool \"%s\" does not exist", task->pool),
				 errhint("The table flow.pool lists the pools; flow_create_pool() makes one.")));
	if (task->pool_slots > slots)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid pool_slots \"%d\"", task->pool_slots),
				 errdetail("Pool \"%s\" has %d slots.", task->pool, slots),
				 errhint("Give a number of slots that the pool has.")));
}

static void
check_not_itself(const FpTaskDef *task)
{
	ListCell   *lc;

	foreach(lc, task->upstream)
	{
		if (strcmp(lfirst(lc), task->task_id) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					 errmsg("task \"%s\" of dag \"%s\" cannot be its own upstream task",
							task->task_id, task->dag_id),
					 errhint("Leave it out of upstream.")));
	}
}

static void
check_no_cycle(const FpTaskDef *task)
{
	List	   *from;
	List	   *to;
	ListCell   *lc;
	char	   *cycle;

	/* to ask is much cheaper than to find the way */
	if (!fp_task_store_has_downstream(task->dag_id, task->task_id) ||
		!fp_task_store_is_above(task->dag_id, task->upstream, task->task_id))
		return;

	fp_task_store_edges_above(task->dag_id, task->upstream, &from, &to);
	foreach(lc, task->upstream)
	{
		from = lappend(from, lfirst(lc));
		to = lappend(to, unconstify(char *, task->task_id));
	}

	cycle = fp_cycle_find(from, to, task->task_id);
	if (cycle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("upstream of task \"%s\" of dag \"%s\" would make a cycle: %s",
						task->task_id, task->dag_id, cycle),
				 errhint("Take one of these tasks out of the upstream of the next one first.")));
}

static void
no_such_upstream(const char *dag_id, const char *task_id, List *task_ids)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("upstream task \"%s\" of dag \"%s\" does not exist",
					task_id, dag_id),
			 errhint("%s", fp_task_def_list_hint(task_ids))));
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(((const SortedTask *) a)->task->task_id,
				  ((const SortedTask *) b)->task->task_id);
}

static int
compare_depths(const void *a, const void *b)
{
	int			a_depth = ((const SortedTask *) a)->depth;
	int			b_depth = ((const SortedTask *) b)->depth;

	if (a_depth != b_depth)
		return a_depth < b_depth ? -1 : 1;
	return compare_ids(a, b);
}

/*
 * The tasks, sorted by name, are numbered by their places.
 */
static void
make_graph(const char *dag_id, SortedTask *sorted, int n, FpGraph *graph)
{
	List	   *task_ids = NIL;
	int			nedges = 0;

	for (int i = 0; i < n; i++)
	{
		task_ids = lappend(task_ids,
						   unconstify(char *, sorted[i].task->task_id));
		nedges += list_length(sorted[i].task->upstream);
	}

	graph->ntasks = n;
	graph->nedges = 0;
	graph->edge_from = palloc(sizeof(int) * (nedges + 1));
	graph->edge_to = palloc(sizeof(int) * (nedges + 1));
	for (int i = 0; i < n; i++)
	{
		ListCell   *lc;

		check_not_itself(sorted[i].task);
		foreach(lc, sorted[i].task->upstream)
		{
			FpTaskDef	upstream = {.task_id = lfirst(lc)};
			SortedTask	key = {.task = &upstream};
			SortedTask *found = bsearch(&key, sorted, n, sizeof(SortedTask),
										compare_ids);

			if (found == NULL)
				no_such_upstream(dag_id, lfirst(lc), task_ids);
			graph->edge_from[graph->nedges] = found - sorted;
			graph->edge_to[graph->nedges] = i;
			graph->nedges++;
		}
	}
}

/*
 * make_graph has put the edges that lead to one task beside each other.
 */
static void
set_depths(const FpGraph *graph, const int *order, SortedTask *sorted)
{
	int		   *first = palloc0(sizeof(int) * (graph->ntasks + 1));

	for (int i = 0; i < graph->nedges; i++)
		first[graph->edge_to[i] + 1]++;
	for (int i = 0; i < graph->ntasks; i++)
		first[i + 1] += first[i];

	for (int i = 0; i < graph->ntasks; i++)
	{
		int			task = order[i];

		for (int e = first[task]; e < first[task + 1]; e++)
			sorted[task].depth = Max(sorted[task].depth,
									 sorted[graph->edge_from[e]].depth + 1);
	}
	pfree(first);
}

static void
cycle_of_tasks(const char *dag_id, List *tasks)
{
	List	   *from = NIL;
	List	   *to = NIL;
	ListCell   *lc;
	ListCell   *lu;

	foreach(lc, tasks)
	{
		FpTaskDef  *task = lfirst(lc);

		foreach(lu, task->upstream)
		{
			from = lappend(from, lfirst(lu));
			to = lappend(to, unconstify(char *, task->task_id));
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("upstream of the tasks of dag \"%s\" makes a cycle: %s",
					dag_id, fp_cycle_find(from, to, linitial(from))),
			 errhint("Take one of these tasks out of the upstream of the next one.")));
}
