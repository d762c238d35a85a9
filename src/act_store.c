/*-------------------------------------------------------------------------
 *
 * act_store.c
 *	  SQL for sessions that act on runs or try a task out, beside
 *	  run_store.c.
 *
 * Called by sessions, and flow_result by workers.  Nothing is written here:
 * what is to be done to a run goes to the scheduler as a request.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "act_store.h"
#include "run_store.h"
#include "store_args.h"

typedef struct ResultRow
{
	Jsonb	   *result;
	bool		exists;
} ResultRow;

static FpStatement list_runs = {
	"SELECT run_id, version, state, data_interval_start, data_interval_end "
	"FROM flow.dag_run "
	"WHERE dag_id = $1 AND data_interval_start >= $2"
	" AND data_interval_start < $3 "
	"ORDER BY logical_date, run_id",
	SPI_OK_SELECT, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static FpStatement list_version_tasks = {
	"SELECT task_id, upstream FROM flow.task_version "
	"WHERE dag_id = $1 AND version = $2 ORDER BY task_id",
	SPI_OK_SELECT, 2, {TEXTOID, INT4OID}
};

static FpStatement list_tasks = {
	"SELECT t.task_id, ARRAY(SELECT p.upstream_task_id"
	" FROM flow.task_dependency p WHERE p.dag_id = t.dag_id"
	" AND p.downstream_task_id = t.task_id ORDER BY 1) "
	"FROM flow.task t WHERE t.dag_id = $1 ORDER BY t.task_id",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement get_task = {
	"SELECT t.operator, t.params, ARRAY(SELECT p.downstream_task_id"
	" FROM flow.task_dependency p WHERE p.dag_id = t.dag_id"
	" AND p.upstream_task_id = t.task_id ORDER BY 1) "
	"FROM flow.task t WHERE t.dag_id = $1 AND t.task_id = $2",
	SPI_OK_SELECT, 2, {TEXTOID, TEXTOID}
};

static FpStatement get_result = {
	"SELECT (SELECT t.result FROM flow.task_run t"
	" WHERE t.run_id = r.run_id AND t.task_id = $2 AND t.map_index = -1),"
	" EXISTS (SELECT FROM flow.task_version v WHERE v.dag_id = r.dag_id"
	" AND v.version = r.version AND v.task_id = $2) "
	"FROM flow.dag_run r WHERE r.run_id = $1",
	SPI_OK_SELECT, 2, {INT8OID, TEXTOID}
};

static FpStatement list_reopening = {
	"SELECT xmin FROM flow.request "
	"WHERE run_id = $1 AND (kind = 'clear' OR kind = 'mark')",
	SPI_OK_SELECT, 1, {INT8OID}
};

static void append_run(const FpRow *row, void *arg);
static void append_task(const FpRow *row, void *arg);
static void keep_task(const FpRow *row, void *arg);
static void keep_result(const FpRow *row, void *arg);
static void read_is_own(const FpRow *row, void *arg);
static Jsonb *copy_jsonb(const FpRow *row, int column);


List *
fp_act_store_runs(const char *dag_id, TimestampTz from, TimestampTz until)
{
	FpStoreArgs args = {0};
	List	   *runs = NIL;
	ListCell   *cell;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, from);
	fp_store_args_add_time(&args, until);
	fp_store_execute(&list_runs, &args, append_run, &runs);
	foreach(cell, runs)
		((FpRunRow *) lfirst(cell))->dag_id = pstrdup(dag_id);
	return runs;
}

List *
fp_act_store_tasks(const char *dag_id, int version)
{
	FpStoreArgs args = {0};
	List	   *tasks = NIL;

	fp_store_args_add_text(&args, dag_id);
	if (version == 0)
		fp_store_execute(&list_tasks, &args, append_task, &tasks);
	else
	{
		fp_store_args_add_int(&args, version);
		fp_store_execute(&list_version_tasks, &args, append_task, &tasks);
	}
	return tasks;
}

FpTaskParams *
fp_act_store_task(const char *dag_id, const char *task_id)
{
	FpStoreArgs args = {0};
	FpTaskParams *result = NULL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&get_task, &args, keep_task, &result);
	return result;
}

Jsonb *
fp_act_store_result(int64 run_id, const char *task_id, bool *exists)
{
	FpStoreArgs args = {0};
	ResultRow	result = {NULL, false};

	fp_store_args_add(&args, Int64GetDatum(run_id), false);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&get_result, &args, keep_result, &result);
	*exists = result.exists;
	return result.result;
}

bool
fp_act_store_is_reopened(int64 run_id, bool *is_own)
{
	FpStoreArgs args = {0};

	*is_own = false;
	fp_store_args_add(&args, Int64GetDatum(run_id), false);
	return fp_store_execute(&list_reopening, &args, read_is_own, is_own) > 0;
}

static void
append_run(const FpRow *row, void *arg)
{
	List	  **runs = arg;
	FpRunRow   *run = palloc0(sizeof(FpRunRow));
	char	   *state = fp_row_text(row, 3);

	run->run_id = fp_row_int64(row, 1);
	run->version = fp_row_int32(row, 2);
	run->state = fp_run_state_parse(state);
	run->data_interval_start = fp_row_timestamptz(row, 4, DT_NOBEGIN);
	run->data_interval_end = fp_row_timestamptz(row, 5, DT_NOBEGIN);
	pfree(state);
	*runs = lappend(*runs, run);
}

static void
append_task(const FpRow *row, void *arg)
{
	List	  **tasks = arg;
	FpTaskNode *task = palloc(sizeof(FpTaskNode));

	task->task_id = fp_row_text(row, 1);
	task->upstream = fp_row_text_array(row, 2);
	*tasks = lappend(*tasks, task);
}

static void
keep_task(const FpRow *row, void *arg)
{
	FpTaskParams **result = arg;
	FpTaskParams *task = palloc(sizeof(FpTaskParams));
	char	   *operator = fp_row_text(row, 1);

	task->operator = fp_operator_parse(operator);
	task->params = copy_jsonb(row, 2);
	task->downstream = fp_row_text_array(row, 3);
	pfree(operator);
	*result = task;
}

static void
keep_result(const FpRow *row, void *arg)
{
	ResultRow  *result = arg;

	result->result = copy_jsonb(row, 1);
	result->exists = fp_row_bool(row, 2);
}

static void
read_is_own(const FpRow *row, void *arg)
{
	*(bool *) arg |= TransactionIdIsCurrentTransactionId(fp_row_oid(row, 1));
}

/*
 * NULL for NULL
 */
static Jsonb *
copy_jsonb(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = fp_row_datum(row, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}
