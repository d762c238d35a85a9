/*-------------------------------------------------------------------------
 *
 * api_act.c
 *	  SQL functions that change what has become of tasks: flow_clear has them
 *	  run again, flow_mark says how they have ended.
 *
 * Run in sessions, which write no run's rows: which tasks of which runs are
 * meant is decided here, by what is committed now, and the scheduler does it
 * (requests.c, run_life.c).  A run that has ended goes back to the queue; in
 * one that is under way the tasks run again at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "act_store.h"
#include "args.h"
#include "clock.h"
#include "dag_rights.h"
#include "graph.h"
#include "jsonb_util.h"
#include "request_store.h"
#include "run_args.h"
#include "run_planner.h"
#include "run_store.h"
#include "task_run_store.h"
#include "task_store.h"

PG_FUNCTION_INFO_V1(flow_clear);
PG_FUNCTION_INFO_V1(flow_mark);

/* The arguments of flow_clear, by number. */
enum
{
	ARG_DAG_ID,
	ARG_START_DATE,
	ARG_END_DATE,
	ARG_TASK_IDS,
	ARG_DOWNSTREAM,
	ARG_ONLY_FAILED,
	ARG_CASCADE
};

/* A task's place in a TaskGraph; the key comes first. */
typedef struct TaskEntry
{
	char		task_id[FP_ID_SIZE];
	int			index;
} TaskEntry;

/* The tasks that runs of one version have, and what follows what. */
typedef struct TaskGraph
{
	const char *dag_id;
	int			version;		/* 0: the definition as it is now */
	char	  **task_ids;
	HTAB	   *indexes;		/* TaskEntry by task_id */
	FpGraph		graph;
} TaskGraph;

/* What is asked of each run. */
typedef struct Clearing
{
	List	   *task_ids;		/* char *; NIL: all tasks */
	bool		downstream;		/* and all that follows them */
	bool		only_failed;	/* of task_ids, those that have failed */
	bool		is_cascaded;	/* what depends on the runs cleared by name */
	List	   *graphs;			/* TaskGraph *, as they were needed */
	int64		ncleared;		/* task runs */
} Clearing;

static void read_dates(FunctionCallInfo fcinfo, const FpDagRow *dag,
					   TimestampTz *from, TimestampTz *until);
static TimestampTz read_date(FunctionCallInfo fcinfo, int n,
							 const char *argument, const FpDagRow *dag,
							 int days);
static void check_tasks(Clearing *clearing, const char *dag_id, List *runs);
static bool clear_run(Clearing *clearing, const FpRunRow *run);
static bool *tasks_to_clear(const Clearing *clearing, const TaskGraph *tasks,
							const FpRunRow *run, List *task_runs);
static void ask_to_clear(const FpRunRow *run, List *task_ids,
						 bool is_cascaded);
static TaskGraph *find_graph(List **graphs, const char *dag_id, int version);
static void add_edges(TaskGraph *tasks, List *nodes);
static int	find_task(const TaskGraph *tasks, const char *task_id);
static bool has_failed(FpTaskRunState state);
static void check_mark(const FpRunRow *run, const char *task_id);
static List *failed_downstream(const FpRunRow *run, const char *task_id);


/*
 * flow_clear(dag_id, start_date, end_date, task_ids, downstream, only_failed,
 * cascade): how many task runs run again
 */
Datum
flow_clear(PG_FUNCTION_ARGS)
{
	Clearing	clearing = {0};
	FpDagRow   *dag;
	TimestampTz from;
	TimestampTz until;
	List	   *runs;
	List	   *cleared = NIL;
	ListCell   *cell;

	fp_args_begin("flow_clear()");
	dag = fp_dag_rights_hold(fp_args_id(fcinfo, ARG_DAG_ID, "dag_id"));
	read_dates(fcinfo, dag, &from, &until);
	clearing.task_ids = fp_args_text_array(fcinfo, ARG_TASK_IDS, "task_ids");
	clearing.downstream = fp_args_bool(fcinfo, ARG_DOWNSTREAM, true);
	clearing.only_failed = fp_args_bool(fcinfo, ARG_ONLY_FAILED, false);
	if (!PG_ARGISNULL(ARG_TASK_IDS) && clearing.task_ids == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", "task_ids"),
				 errhint("Name tasks, or leave it out to clear all of them.")));

	runs = fp_act_store_runs(dag->dag_id, from, until);
	check_tasks(&clearing, dag->dag_id, runs);
	foreach(cell, runs)
	{
		CHECK_FOR_INTERRUPTS();
		if (clear_run(&clearing, lfirst(cell)))
			cleared = lappend(cleared, lfirst(cell));
	}

	if (fp_args_bool(fcinfo, ARG_CASCADE, false) && cleared != NIL)
	{
		/* what depends on them runs again as a whole, after them */
		clearing.task_ids = NIL;
		clearing.only_failed = false;
		clearing.is_cascaded = true;
		foreach(cell, fp_run_planner_dependent_runs(dag, cleared,
													fp_clock_now()))
		{
			CHECK_FOR_INTERRUPTS();
			(void) clear_run(&clearing, lfirst(cell));
		}
	}

	if (clearing.ncleared > 0)
		fp_run_args_warn_if_waiting();

	PG_RETURN_INT64(clearing.ncleared);
}

/*
 * flow_mark(run_id, task_id, state)
 *
 * What stands below a task that counts as done now, and has failed for want
 * of it, runs again.
 */
Datum
flow_mark(PG_FUNCTION_ARGS)
{
	FpRunRow   *run;
	char	   *task_id;
	char	   *state;
	List	   *failed = NIL;
	JsonbParseState *parse_state = NULL;
	Jsonb	   *args;

	fp_args_begin("flow_mark()");
	/* once more when the DAG can no longer be dropped: see fp_dag_rights_hold */
	(void) fp_dag_store_hold(fp_run_args_run(fcinfo, 0)->dag_id);
	run = fp_run_args_run(fcinfo, 0);
	task_id = fp_args_id(fcinfo, 1, "task_id");
	state = fp_args_required_text(fcinfo, 2, "state");
	if (strcmp(state, "success") != 0 && strcmp(state, "failed") != 0 &&
		strcmp(state, "skipped") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid state \"%s\"", fp_args_shortened(state)),
				 errhint("A task can be marked success, failed or skipped; flow_clear has it run again.")));
	check_mark(run, task_id);
	if (strcmp(state, "failed") != 0)
		failed = failed_downstream(run, task_id);

	pushJsonbValue(&parse_state, WJB_BEGIN_OBJECT, NULL);
	fp_jsonb_push_texts(&parse_state, "task_ids", list_make1(task_id));
	fp_jsonb_push_text(&parse_state, "state", state);
	args = JsonbValueToJsonb(pushJsonbValue(&parse_state, WJB_END_OBJECT,
											NULL));
	fp_request_store_add(FP_REQUEST_MARK, run->dag_id, run->run_id,
						 0 /* no backfill */ ,
						 JsonbToCString(NULL, &args->root, VARSIZE(args)));
	if (failed != NIL)
		ask_to_clear(run, failed, false /* is_cascaded */ );

	PG_RETURN_VOID();
}


/* ---- flow_clear ---- */

/*
 * Whole days in the DAG's timezone, both ends included.
 */
static void
read_dates(FunctionCallInfo fcinfo, const FpDagRow *dag, TimestampTz *from,
		   TimestampTz *until)
{
	*from = DT_NOBEGIN;
	*until = DT_NOEND;
	if (!PG_ARGISNULL(ARG_START_DATE))
		*from = read_date(fcinfo, ARG_START_DATE, "start_date", dag, 0);
	if (!PG_ARGISNULL(ARG_END_DATE))
		*until = read_date(fcinfo, ARG_END_DATE, "end_date", dag, 1);
	if (*from >= *until)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_date %s is after end_date %s",
						DatumGetCString(DirectFunctionCall1(date_out,
															PG_GETARG_DATUM(ARG_START_DATE))),
						DatumGetCString(DirectFunctionCall1(date_out,
															PG_GETARG_DATUM(ARG_END_DATE)))),
				 errhint("For one day, give it twice.")));
}

/*
 * The first moment of a date, or of the one so many days after it.
 */
static TimestampTz
read_date(FunctionCallInfo fcinfo, int n, const char *argument,
		  const FpDagRow *dag, int days)
{
	DateADT		date = PG_GETARG_DATEADT(n);

	if (DATE_NOT_FINITE(date))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", argument,
						DATE_IS_NOBEGIN(date) ? "-infinity" : "infinity"),
				 errhint("Leave it out where there is no bound.")));
	return fp_run_planner_day_start(date + days, dag->timezone);
}

/*
 * Every task that is named must be one of the DAG, as it is defined now or as
 * one of the runs has started with it.
 */
static void
check_tasks(Clearing *clearing, const char *dag_id, List *runs)
{
	List	   *missing = clearing->task_ids;
	ListCell   *cell;

	if (missing != NIL)
		missing = fp_task_store_missing(dag_id, missing);
	foreach(cell, missing)
	{
		bool		is_known = false;
		ListCell   *run_cell;

		foreach(run_cell, runs)
		{
			const FpRunRow *run = lfirst(run_cell);

			if (find_task(find_graph(&clearing->graphs, dag_id, run->version),
						  lfirst(cell)) >= 0)
			{
				is_known = true;
				break;
			}
		}
		if (!is_known)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("task \"%s\" of dag \"%s\" does not exist",
							(char *) lfirst(cell), dag_id),
					 errhint("The table flow.task lists the tasks.")));
	}
}

/*
 * Has what is asked for run again in one run.  Returns whether there is any
 * of it: of a run that has not started, only what has been marked; of one
 * that has ended, also what it has left out.
 */
static bool
clear_run(Clearing *clearing, const FpRunRow *run)
{
	TaskGraph  *tasks = find_graph(&clearing->graphs, run->dag_id,
								   run->version);
	List	   *task_runs = fp_task_run_store_list(run->run_id);
	bool	   *is_cleared = tasks_to_clear(clearing, tasks, run, task_runs);
	List	   *task_ids = NIL;
	int64		n = 0;
	ListCell   *cell;

	for (int i = 0; i < tasks->graph.ntasks; i++)
	{
		if (is_cleared[i])
			task_ids = lappend(task_ids, tasks->task_ids[i]);
	}
	foreach(cell, task_runs)
	{
		const FpTaskRunRow *task_run = lfirst(cell);
		int			i = find_task(tasks, task_run->task_id);

		if (i >= 0 && is_cleared[i] && task_run->state != FP_TASK_RUN_NONE)
			n++;
	}
	if (task_ids == NIL || (n == 0 && !fp_run_state_is_finished(run->state)))
		return false;

	ask_to_clear(run, task_ids, clearing->is_cascaded);
	clearing->ncleared += n;
	return true;
}

/*
 * Which tasks of a run are to run again.  In a run that was stopped, tasks
 * that had not begun have no task run, or an empty one; they have failed with
 * it.
 */
static bool *
tasks_to_clear(const Clearing *clearing, const TaskGraph *tasks,
			   const FpRunRow *run, List *task_runs)
{
	int			n = tasks->graph.ntasks;
	bool	   *is_named = palloc0((n + 1) * sizeof(bool));
	bool	   *is_spared = palloc0((n + 1) * sizeof(bool));
	bool	   *result;
	ListCell   *cell;

	if (clearing->task_ids == NIL)
		memset(is_named, true, n * sizeof(bool));
	foreach(cell, clearing->task_ids)
	{
		int			i = find_task(tasks, lfirst(cell));

		if (i >= 0)
			is_named[i] = true;
	}

	if (clearing->only_failed)
	{
		bool		is_stopped = run->state == FP_RUN_CANCELLED ||
			run->state == FP_RUN_FAILED;

		memset(is_spared, !is_stopped, n * sizeof(bool));
		foreach(cell, task_runs)
		{
			const FpTaskRunRow *task_run = lfirst(cell);
			int			i = find_task(tasks, task_run->task_id);

			if (i >= 0 && task_run->state != FP_TASK_RUN_NONE)
				is_spared[i] = !has_failed(task_run->state);
		}
		for (int i = 0; i < n; i++)
			is_named[i] = is_named[i] && !is_spared[i];
	}
	if (!clearing->downstream)
		return is_named;

	result = palloc0((n + 1) * sizeof(bool));
	fp_graph_downstream_set(&tasks->graph, is_named, result);
	return result;
}

static void
ask_to_clear(const FpRunRow *run, List *task_ids, bool is_cascaded)
{
	JsonbParseState *state = NULL;
	Jsonb	   *args;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	fp_jsonb_push_texts(&state, "task_ids", task_ids);
	if (is_cascaded)
		fp_jsonb_push_bool(&state, "is_cascaded", true);	/* waits for asis */
	args = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	fp_request_store_add(FP_REQUEST_CLEAR, run->dag_id, run->run_id,
						 0 /* no backfill */ ,
						 JsonbToCString(NULL, &args->root, VARSIZE(args)));
}


/* ---- tasks of a version ---- */

static TaskGraph *
find_graph(List **graphs, const char *dag_id, int version)
{
	TaskGraph  *tasks;
	HASHCTL		control = {0};
	List	   *nodes;
	ListCell   *cell;

	foreach(cell, *graphs)
	{
		tasks = lfirst(cell);
		if (tasks->version == version && strcmp(tasks->dag_id, dag_id) == 0)
			return tasks;
	}

	nodes = fp_act_store_tasks(dag_id, version);
	tasks = palloc0(sizeof(TaskGraph));
	tasks->dag_id = dag_id;
	tasks->version = version;
	tasks->task_ids = palloc((list_length(nodes) + 1) * sizeof(char *));
	control.keysize = FP_ID_SIZE;
	control.entrysize = sizeof(TaskEntry);
	control.hcxt = CurrentMemoryContext;
	tasks->indexes = hash_create("flowpg tasks", Max(16, list_length(nodes)),
								 &control,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	foreach(cell, nodes)
	{
		FpTaskNode *node = lfirst(cell);
		TaskEntry  *entry = hash_search(tasks->indexes, node->task_id,
										HASH_ENTER, NULL);

		entry->index = tasks->graph.ntasks;
		tasks->task_ids[tasks->graph.ntasks++] = node->task_id;
	}
	add_edges(tasks, nodes);
	*graphs = lappend(*graphs, tasks);
	return tasks;
}

static void
add_edges(TaskGraph *tasks, List *nodes)
{
	FpGraph    *graph = &tasks->graph;
	int			nedges = 0;
	ListCell   *cell;

	foreach(cell, nodes)
		nedges += list_length(((FpTaskNode *) lfirst(cell))->upstream);
	graph->edge_from = palloc((nedges + 1) * sizeof(int));
	graph->edge_to = palloc((nedges + 1) * sizeof(int));
	foreach(cell, nodes)
	{
		FpTaskNode *node = lfirst(cell);
		ListCell   *upstream;

		foreach(upstream, node->upstream)
		{
			graph->edge_from[graph->nedges] = find_task(tasks,
														lfirst(upstream));
			graph->edge_to[graph->nedges] = foreach_current_index(cell);
			Assert(graph->edge_from[graph->nedges] >= 0);
			graph->nedges++;
		}
	}
}

/*
 * -1: there is no such task.
 */
static int
find_task(const TaskGraph *tasks, const char *task_id)
{
	TaskEntry  *entry = hash_search(tasks->indexes, task_id, HASH_FIND, NULL);

	return entry != NULL ? entry->index : -1;
}

/*
 * In a way that needs another run of the task.
 */
static bool
has_failed(FpTaskRunState state)
{
	return state == FP_TASK_RUN_FAILED ||
		state == FP_TASK_RUN_UPSTREAM_FAILED ||
		state == FP_TASK_RUN_CANCELLED;
}


/* ---- flow_mark ---- */

/*
 * ERROR: the run has no such task, or a worker has it right now, and would
 * record another end.
 */
static void
check_mark(const FpRunRow *run, const char *task_id)
{
	List	   *graphs = NIL;
	FpTaskRunRow *task_run;

	if (find_task(find_graph(&graphs, run->dag_id, run->version),
				  task_id) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task \"%s\" of run " INT64_FORMAT " does not exist",
						task_id, run->run_id),
				 errhint("flow.task_status lists the tasks of each run.")));

	task_run = fp_task_run_store_get(run->run_id, task_id, -1);
	if (task_run != NULL && task_run->state == FP_TASK_RUN_RUNNING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" of run " INT64_FORMAT " is running",
						task_id, run->run_id),
				 errhint("Wait until it has ended, or stop its run with flow_cancel_run first.")));
}

/*
 * What stands below the task and has failed, or was not begun for that.
 */
static List *
failed_downstream(const FpRunRow *run, const char *task_id)
{
	List	   *graphs = NIL;
	TaskGraph  *tasks = find_graph(&graphs, run->dag_id, run->version);
	bool	   *seed = palloc0((tasks->graph.ntasks + 1) * sizeof(bool));
	bool	   *reached = palloc0((tasks->graph.ntasks + 1) * sizeof(bool));
	int			marked = find_task(tasks, task_id);
	List	   *result = NIL;
	ListCell   *cell;

	seed[marked] = true;
	fp_graph_downstream_set(&tasks->graph, seed, reached);
	foreach(cell, fp_task_run_store_list(run->run_id))
	{
		const FpTaskRunRow *task_run = lfirst(cell);
		int			i = find_task(tasks, task_run->task_id);

		if (i >= 0 && i != marked && reached[i] &&
			has_failed(task_run->state))
			result = lappend(result, tasks->task_ids[i]);
	}
	return result;
}
