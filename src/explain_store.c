/*-------------------------------------------------------------------------
 *
 * explain_store.c
 *	  SQL that tells why something has not started, beside run_store.c.
 *
 * Called by sessions, for flow_explain and the views.  No index leads to what
 * has not ended (it would make every update of a run dearer), so its runs are
 * found by reading all of one DAG's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "explain_store.h"
#include "run_store.h"
#include "store_args.h"

typedef struct Gap
{
	bool		exists;
	TimestampTz from;
	TimestampTz until;
} Gap;

typedef struct Scheduler
{
	char	   *state;
	char	   *problem;
} Scheduler;

static FpStatement list_running = {
	"SELECT run_id FROM flow.dag_run "
	"WHERE dag_id = $1 AND state = 'running' ORDER BY logical_date, run_id",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement list_queued = {
	"SELECT run_id, count(*) OVER () FROM flow.dag_run "
	"WHERE dag_id = $1 AND state = 'queued' "
	"ORDER BY logical_date, run_id LIMIT $2",
	SPI_OK_SELECT, 2, {TEXTOID, INT4OID}
};

static FpStatement list_tasks = {
	"SELECT v.task_id, v.operator, v.trigger_rule, v.upstream, v.pool,"
	" v.pool_slots, v.depends_on_past, t.state, t.retry_at, t.message,"
	" t.position::text, t.crashes "
	"FROM flow.task_version v LEFT JOIN flow.task_run t"
	" ON t.run_id = $1 AND t.task_id = v.task_id AND t.map_index = -1 "
	"WHERE v.dag_id = $2 AND v.version = $3 ORDER BY v.task_id",
	SPI_OK_SELECT, 3, {INT8OID, TEXTOID, INT4OID}
};

static FpStatement previous_run = {
	"SELECT run_id FROM flow.dag_run "
	"WHERE dag_id = $1 AND logical_date < $2"
	" AND (run_type = 'scheduled' OR run_type = 'backfill'"
	" OR (run_type = 'triggered' AND parent_run_id IS NULL)) "
	"ORDER BY logical_date DESC LIMIT 1",
	SPI_OK_SELECT, 2, {TEXTOID, TIMESTAMPTZOID}
};

static FpStatement first_gap = {
	"SELECT lower(g), upper(g) FROM unnest(tstzmultirange(tstzrange($2, $3))"
	" - coalesce((SELECT covered FROM flow.coverage WHERE dag_id = $1), '{}')"
	") AS g ORDER BY g LIMIT 1",
	SPI_OK_SELECT, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static FpStatement missing_asis = {
	"SELECT asis_dag, data_interval_start, data_interval_end "
	"FROM flow.dependency_status "
	"WHERE tobe_dag = $1 AND run_id IS NULL AND NOT satisfied ORDER BY 1, 2",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement pool_use = {
	"SELECT coalesce(sum(v.pool_slots), 0)::bigint "
	"FROM unnest($2, $3, $4) AS a (dag_id, version, task_id) "
	"JOIN flow.task_version v USING (dag_id, version, task_id) "
	"WHERE v.pool = $1",
	SPI_OK_SELECT, 4, {TEXTOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID}
};

static FpStatement scheduler_status = {
	"SELECT state, problem FROM flow.scheduler_status",
	SPI_OK_SELECT, 0, {0}
};

static void append_run(const FpRow *row, void *arg);
static void append_queued(const FpRow *row, void *arg);
static void append_task(const FpRow *row, void *arg);
static void keep_gap(const FpRow *row, void *arg);
static void append_missing(const FpRow *row, void *arg);
static void keep_scheduler(const FpRow *row, void *arg);


void
fp_explain_store_unfinished(const char *dag_id, int limit,
							FpUnfinishedRuns *result)
{
	FpStoreArgs running_args = {0};
	FpStoreArgs queued_args = {0};

	memset(result, 0, sizeof(FpUnfinishedRuns));
	fp_store_args_add_text(&running_args, dag_id);
	fp_store_execute(&list_running, &running_args, append_run,
					 &result->running);
	fp_store_args_add_text(&queued_args, dag_id);
	fp_store_args_add_int(&queued_args, limit);
	fp_store_execute(&list_queued, &queued_args, append_queued, result);
}

List *
fp_explain_store_tasks(int64 run_id, const char *dag_id, int version)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add(&args, Int64GetDatum(run_id), false);
	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_int(&args, version);
	fp_store_execute(&list_tasks, &args, append_task, &result);
	return result;
}

int64
fp_explain_store_previous_run(const char *dag_id, TimestampTz logical_date)
{
	FpStoreArgs args = {0};
	int64		result = 0;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, logical_date);
	fp_store_execute(&previous_run, &args, fp_store_keep_int64, &result);
	return result;
}

bool
fp_explain_store_first_gap(const char *dag_id, TimestampTz from,
						   TimestampTz until, TimestampTz *gap_from,
						   TimestampTz *gap_until)
{
	FpStoreArgs args = {0};
	Gap			gap = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, from);
	fp_store_args_add_time(&args, until);
	fp_store_execute(&first_gap, &args, keep_gap, &gap);
	*gap_from = gap.from;
	*gap_until = gap.until;
	return gap.exists;
}

List *
fp_explain_store_missing_asis(const char *tobe_dag)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_text(&args, tobe_dag);
	fp_store_execute(&missing_asis, &args, append_missing, &result);
	return result;
}

int64
fp_explain_store_pool_use(const char *pool, List *dag_ids, List *versions,
						  List *task_ids)
{
	FpStoreArgs args = {0};
	Datum	   *elements = palloc((list_length(versions) + 1) * sizeof(Datum));
	int			n = 0;
	int64		result = 0;
	ListCell   *cell;

	foreach(cell, versions)
		elements[n++] = Int32GetDatum(lfirst_int(cell));
	fp_store_args_add_text(&args, pool);
	fp_store_args_add_texts(&args, dag_ids);
	fp_store_args_add(&args,
					  PointerGetDatum(construct_array(elements, n, INT4OID,
													  sizeof(int32), true,
													  TYPALIGN_INT)),
					  false);
	fp_store_args_add_texts(&args, task_ids);
	fp_store_execute(&pool_use, &args, fp_store_keep_int64, &result);
	return result;
}

void
fp_explain_store_scheduler(char **state, char **problem)
{
	FpStoreArgs args = {0};
	Scheduler	result = {0};

	fp_store_execute(&scheduler_status, &args, keep_scheduler, &result);
	*state = result.state;
	*problem = result.problem;
}

/*
 * The callback runs when the statement has ended, and may run another.  A run
 * that has gone in between is left out.
 */
static void
append_run(const FpRow *row, void *arg)
{
	List	  **runs = arg;
	FpRunRow   *run = fp_run_store_get(fp_row_int64(row, 1));

	if (run != NULL)
		*runs = lappend(*runs, run);
}

static void
append_queued(const FpRow *row, void *arg)
{
	FpUnfinishedRuns *result = arg;

	append_run(row, &result->queued);
	result->nqueued = fp_row_int64(row, 2);
}

static void
append_task(const FpRow *row, void *arg)
{
	List	  **tasks = arg;
	FpTaskProgress *task = palloc0(sizeof(FpTaskProgress));
	char	   *operator = fp_row_text(row, 2);

	task->task_id = fp_row_text(row, 1);
	task->operator = fp_operator_parse(operator);
	task->trigger_rule = fp_row_text(row, 3);
	task->upstream = fp_row_text_array(row, 4);
	task->pool = fp_row_text(row, 5);
	task->pool_slots = fp_row_int32(row, 6);
	task->depends_on_past = fp_row_bool(row, 7);
	task->state = fp_task_run_state_parse(fp_row_text(row, 8));
	task->retry_at = fp_row_timestamptz(row, 9, DT_NOBEGIN);
	task->message = fp_row_text(row, 10);
	task->position = fp_row_text(row, 11);
	task->crashes = fp_row_int32(row, 12);
	pfree(operator);
	*tasks = lappend(*tasks, task);
}

static void
keep_gap(const FpRow *row, void *arg)
{
	Gap		   *gap = arg;

	gap->exists = true;
	gap->from = fp_row_timestamptz(row, 1, DT_NOBEGIN);
	gap->until = fp_row_timestamptz(row, 2, DT_NOEND);
}

static void
append_missing(const FpRow *row, void *arg)
{
	List	  **result = arg;
	FpMissingAsis *missing = palloc(sizeof(FpMissingAsis));

	missing->asis_dag = fp_row_text(row, 1);
	missing->start = fp_row_timestamptz(row, 2, DT_NOBEGIN);
	missing->end = fp_row_timestamptz(row, 3, DT_NOEND);
	*result = lappend(*result, missing);
}

static void
keep_scheduler(const FpRow *row, void *arg)
{
	Scheduler  *result = arg;

	result->state = fp_row_text(row, 1);
	result->problem = fp_row_text(row, 2);
}
