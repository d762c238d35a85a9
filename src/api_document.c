/*-------------------------------------------------------------------------
 *
 * api_document.c
 *	  SQL functions that define a DAG by one document: flow_apply,
 *	  flow_export.
 *
 * Called by sessions.  flow_apply goes through the same code as
 * flow_create_dag, the flow_add_ functions and flow_add_dependency, but looks
 * at the tasks' graph as a whole, so that their order in the document does
 * not matter, and writes only what differs from what there is: a document
 * that is applied again is no new version, and wakes nobody.
 *
 * All of it is written under the lock of the DAG's row, which is taken first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "args.h"
#include "dag_def.h"
#include "dag_rights.h"
#include "document.h"
#include "link_store.h"
#include "request_store.h"
#include "task_def.h"

/* Tasks by name. */
typedef struct TaskTable
{
	int			n;
	FpTaskDef **tasks;
} TaskTable;

PG_FUNCTION_INFO_V1(flow_apply);
PG_FUNCTION_INFO_V1(flow_export);

/* of api_link.c: rights and cycles are its business */
extern Datum flow_add_dependency(PG_FUNCTION_ARGS);

static List *read_tasks(const FpDocument *document, const FpDagDef *dag);
static bool write_dag(const FpDagDef *dag, const FpDagDef *old);
static bool write_tasks(const char *dag_id, List *tasks);
static void fill_table(TaskTable *table, List *tasks);
static FpTaskDef *find_task(const TaskTable *table, FpTaskDef *task);
static int	compare_tasks(const void *a, const void *b);
static void write_links(const char *dag_id, List *asis_dags);
static bool has_others(List *names, List *known);
static bool is_listed(List *names, const char *name);


/*
 * flow_apply(definition jsonb) returns text
 *
 * A DAG as a whole: tasks and links that the document does not name are
 * dropped.
 */
Datum
flow_apply(PG_FUNCTION_ARGS)
{
	FpDocument *document;
	FpDagDef   *dag;
	FpDagDef   *old;
	List	   *tasks;
	bool		is_new_version;

	fp_args_begin("flow_apply()");
	document = fp_document_read(fp_args_required_object(fcinfo, 0,
													  "definition"));
	dag = fp_dag_def_create(document->dag, document->search_path, &old);
	tasks = fp_task_def_sort(dag->dag_id, read_tasks(document, dag));

	is_new_version = write_dag(dag, old);
	if (write_tasks(dag->dag_id, tasks) && !is_new_version)
	{
		fp_dag_store_new_version(dag->dag_id);
		is_new_version = true;
	}
	if (is_new_version || dag->is_paused != old->is_paused)
		fp_request_store_add(FP_REQUEST_DAG, dag->dag_id, 0, 0, NULL);
	write_links(dag->dag_id, document->asis_dags);

	return CStringGetTextDatum(dag->dag_id);
}

/*
 * flow_export(dag_id text) returns jsonb
 *
 * The parts are read one after the other.  Where the version has changed
 * meanwhile they may not belong together, and are read again.
 */
Datum
flow_export(PG_FUNCTION_ARGS)
{
	char	   *dag_id = fp_args_id(fcinfo, 0, "dag_id");
	FpDagDef   *dag;
	FpDagRow   *row;
	List	   *tasks;

	(void) fp_dag_rights_require(dag_id);
	do
	{
		CHECK_FOR_INTERRUPTS();
		dag = fp_dag_store_definition(dag_id);
		tasks = fp_task_store_definitions(dag_id);
		row = fp_dag_rights_require(dag_id);
	} while (dag == NULL || dag->version != row->version);

	tasks = fp_task_def_sort(dag_id, tasks);
	PG_RETURN_JSONB_P(fp_document_write(dag, tasks,
										fp_args_names(row->asis_dags)));
}

/*
 * The document's tasks, each by itself checked, as a List of FpTaskDef *.
 */
static List *
read_tasks(const FpDocument *document, const FpDagDef *dag)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, document->tasks)
	{
		FpDocumentTask *task = lfirst(lc);
		FpTaskDef  *def = palloc(sizeof(FpTaskDef));
		FpDocumentPlace place;

		CHECK_FOR_INTERRUPTS();
		fp_document_begin_place(&place, task->place);
		fp_task_def_read(task->kind, task->arguments, dag, def);
		fp_document_end_place(&place);
		result = lappend(result, def);
	}
	return result;
}

/*
 * Returns whether this is a new version.  A new DAG (old is NULL) is written
 * already.
 */
static bool
write_dag(const FpDagDef *dag, const FpDagDef *old)
{
	if (old == NULL)
		return true;
	if (!fp_dag_def_is_equal(dag, old))
	{
		fp_dag_store_update(dag);
		return true;
	}

	/* a pause is no part of the version */
	if (dag->is_paused && !old->is_paused)
		fp_dag_store_pause(dag->dag_id);
	else if (!dag->is_paused && old->is_paused)
		fp_dag_store_resume(dag->dag_id, false /* skip_missed */ );
	return false;
}

/*
 * Returns whether anything was different.  The tasks are in topological
 * order, so what a task waits for is there when it is written.
 */
static bool
write_tasks(const char *dag_id, List *tasks)
{
	TaskTable	old_tasks;
	TaskTable	new_tasks;
	bool		has_changed = false;
	ListCell   *lc;

	fill_table(&old_tasks, fp_task_store_definitions(dag_id));
	fill_table(&new_tasks, tasks);

	foreach(lc, tasks)
	{
		FpTaskDef  *task = lfirst(lc);
		FpTaskDef  *old_task = find_task(&old_tasks, task);

		if (old_task != NULL && fp_task_def_is_equal(task, old_task))
			continue;
		fp_task_store_write(task);
		has_changed = true;
	}
	for (int i = 0; i < old_tasks.n; i++)
	{
		if (find_task(&new_tasks, old_tasks.tasks[i]) != NULL)
			continue;
		(void) fp_task_store_drop(dag_id, old_tasks.tasks[i]->task_id);
		has_changed = true;
	}
	return has_changed;
}

static void
fill_table(TaskTable *table, List *tasks)
{
	ListCell   *lc;

	table->n = 0;
	table->tasks = palloc(sizeof(FpTaskDef *) * (list_length(tasks) + 1));
	foreach(lc, tasks)
		table->tasks[table->n++] = lfirst(lc);
	qsort(table->tasks, table->n, sizeof(FpTaskDef *), compare_tasks);
}

/*
 * The task of the same name; NULL: none.
 */
static FpTaskDef *
find_task(const TaskTable *table, FpTaskDef *task)
{
	FpTaskDef **found = bsearch(&task, table->tasks, table->n,
								sizeof(FpTaskDef *), compare_tasks);

	return found == NULL ? NULL : *found;
}

static int
compare_tasks(const void *a, const void *b)
{
	return strcmp((*(FpTaskDef *const *) a)->task_id,
				  (*(FpTaskDef *const *) b)->task_id);
}

/*
 * The table's triggers tell the scheduler.
 */
static void
write_links(const char *dag_id, List *asis_dags)
{
	List	   *old_asis_dags = fp_dag_store_get(dag_id)->asis_dags;
	ListCell   *lc;

	if (has_others(asis_dags, old_asis_dags) ||
		has_others(old_asis_dags, asis_dags))
	{
		/* before any row is locked: see flow_dependency_trigger */
		fp_link_store_lock();
		old_asis_dags = fp_dag_store_get(dag_id)->asis_dags;
	}
	foreach(lc, old_asis_dags)
	{
		if (!is_listed(asis_dags, lfirst(lc)))
			(void) fp_link_store_drop(lfirst(lc), dag_id);
	}
	foreach(lc, asis_dags)
	{
		if (!is_listed(old_asis_dags, lfirst(lc)))
			(void) DirectFunctionCall2(flow_add_dependency,
									   CStringGetTextDatum(lfirst(lc)),
									   CStringGetTextDatum(dag_id));
	}
}

/* Whether one of the names is not among the known ones. */
static bool
has_others(List *names, List *known)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (!is_listed(known, lfirst(lc)))
			return true;
	}
	return false;
}

static bool
is_listed(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}
