/*-------------------------------------------------------------------------
 *
 * version_store.c
 *	  All SQL on dag_version and task_version: definitions as runs use them.
 *
 * The scheduler copies a DAG's definition when the first run of a version
 * starts, with defaults of the DAG filled in; from then on scheduler and
 * workers read the copy only, so a change of the definition leaves the runs
 * under way alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "spi_util.h"
#include "store_args.h"
#include "version_store.h"

/* 0: none; 10000 years at most, the longest that args.c lets through */
#define INTERVAL_US(column) \
	"least(greatest(extract(epoch FROM " column ") * 1000000, 0), " \
	"315576000000000000)::bigint"

static void add_version(FpStoreArgs *args, const char *dag_id, int version);
static void keep_dag_version(const FpRow *row, void *arg);
static void append_task(const FpRow *row, void *arg);
static void keep_command(const FpRow *row, void *arg);


bool
fp_version_store_keep(const char *dag_id, int version, TimestampTz at)
{
	/* one statement, so that both tables get the same definition */
	static FpStatement statement = {
		"WITH kept AS (INSERT INTO flow.dag_version (dag_id, version, "
		"timezone, search_path, dagrun_timeout, on_success, on_failure, "
		"created_at) "
		"SELECT dag_id, version, timezone, search_path, dagrun_timeout, "
		"on_success, on_failure, $3 FROM flow.dag "
		"WHERE dag_id = $1 AND version = $2 "
		"ON CONFLICT DO NOTHING RETURNING dag_id) "
		"INSERT INTO flow.task_version (dag_id, version, task_id, operator, "
		"trigger_rule, params, upstream, retries, retry_delay, "
		"retry_exponential_backoff, max_retry_delay, execution_timeout, pool, "
		"pool_slots, priority_weight, depends_on_past) "
		"SELECT t.dag_id, $2, t.task_id, t.operator, t.trigger_rule, t.params, "
		"ARRAY(SELECT p.upstream_task_id FROM flow.task_dependency p "
		"WHERE p.dag_id = t.dag_id AND p.downstream_task_id = t.task_id "
		"ORDER BY p.upstream_task_id), "
		"coalesce(t.retries, d.retries), "
		"coalesce(t.retry_delay, d.retry_delay), "
		"d.retry_exponential_backoff, d.max_retry_delay, "
		"coalesce(t.execution_timeout, d.execution_timeout), t.pool, "
		"t.pool_slots, t.priority_weight, "
		"coalesce(t.depends_on_past, d.depends_on_past) "
		"FROM kept JOIN flow.dag d USING (dag_id) "
		"JOIN flow.task t USING (dag_id)",
		SPI_OK_INSERT, 3, {TEXTOID, INT4OID, TIMESTAMPTZOID}
	};
	static FpStatement check_statement = {
		"SELECT EXISTS (SELECT FROM flow.dag_version "
		"WHERE dag_id = $1 AND version = $2)",
		SPI_OK_SELECT, 2, {TEXTOID, INT4OID}
	};
	FpStoreArgs args = {0};
	FpStoreArgs check_args = {0};
	bool		result = false;

	add_version(&args, dag_id, version);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, NULL, NULL);

	add_version(&check_args, dag_id, version);
	fp_store_execute(&check_statement, &check_args, fp_store_keep_bool,
					 &result);
	return result;
}

void
fp_version_store_dag(const char *dag_id, int version, FpDagVersionRow *row)
{
	static FpStatement statement = {
		"SELECT " INTERVAL_US("dagrun_timeout") ", on_success IS NOT NULL, "
		"on_failure IS NOT NULL FROM flow.dag_version "
		"WHERE dag_id = $1 AND version = $2",
		SPI_OK_SELECT, 2, {TEXTOID, INT4OID}
	};
	FpStoreArgs args = {0};

	memset(row, 0, sizeof(FpDagVersionRow));
	add_version(&args, dag_id, version);
	fp_store_execute(&statement, &args, keep_dag_version, row);
}

List *
fp_version_store_tasks(const char *dag_id, int version)
{
	static FpStatement statement = {
		"SELECT task_id, operator, trigger_rule, upstream, retries, "
		INTERVAL_US("retry_delay") ", retry_exponential_backoff, "
		INTERVAL_US("max_retry_delay") ", " INTERVAL_US("execution_timeout")
		", pool, pool_slots, priority_weight, depends_on_past "
		"FROM flow.task_version WHERE dag_id = $1 AND version = $2 "
		"ORDER BY task_id",
		SPI_OK_SELECT, 2, {TEXTOID, INT4OID}
	};
	FpStoreArgs args = {0};
	List	   *tasks = NIL;

	add_version(&args, dag_id, version);
	fp_store_execute(&statement, &args, append_task, &tasks);
	return tasks;
}

FpTaskCommand *
fp_version_store_command(const char *dag_id, int version, const char *task_id)
{
	static FpStatement statement = {
		"SELECT t.operator, t.params::text, t.params ->> 'command', "
		"coalesce((t.params ->> 'in_transaction')::boolean, true), "
		"d.timezone, d.search_path "
		"FROM flow.task_version t JOIN flow.dag_version d "
		"USING (dag_id, version) "
		"WHERE t.dag_id = $1 AND t.version = $2 AND t.task_id = $3",
		SPI_OK_SELECT, 3, {TEXTOID, INT4OID, TEXTOID}, .has_one_plan = true
	};
	FpStoreArgs args = {0};
	FpTaskCommand *command = NULL;

	add_version(&args, dag_id, version);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&statement, &args, keep_command, &command);
	if (command == NULL)
		elog(ERROR, "version %d of task \"%s\" of dag \"%s\" is missing",
			 version, task_id, dag_id);
	return command;
}

FpTaskCommand *
fp_version_store_callback_command(const char *dag_id, int version,
								  FpRunState state)
{
	static FpStatement statement = {
		"SELECT 'callback', '{}', "
		"CASE WHEN $3 = 'success' THEN on_success ELSE on_failure END, "
		"true, timezone, search_path "
		"FROM flow.dag_version WHERE dag_id = $1 AND version = $2",
		SPI_OK_SELECT, 3, {TEXTOID, INT4OID, TEXTOID}
	};
	FpStoreArgs args = {0};
	FpTaskCommand *command = NULL;

	add_version(&args, dag_id, version);
	fp_store_args_add_text(&args, fp_run_state_name(state));
	fp_store_execute(&statement, &args, keep_command, &command);
	if (command == NULL || command->command == NULL)
		elog(ERROR, "version %d of dag \"%s\" has no callback", version,
			 dag_id);
	return command;
}

void
fp_version_store_check_downstream(const char *dag_id, int version,
								  const char *task_id, List *task_ids)
{
	static FpStatement statement = {
		"SELECT c FROM unnest($4) AS c WHERE NOT EXISTS "
		"(SELECT FROM flow.task_version t WHERE t.dag_id = $1 "
		"AND t.version = $2 AND t.task_id = c AND $3 = ANY (t.upstream))",
		SPI_OK_SELECT, 4, {TEXTOID, INT4OID, TEXTOID, TEXTARRAYOID}
	};
	FpStoreArgs args = {0};
	List	   *others = NIL;

	add_version(&args, dag_id, version);
	fp_store_args_add_text(&args, task_id);
	fp_store_args_add_texts(&args, task_ids);
	fp_store_execute(&statement, &args, fp_store_append_text, &others);
	if (others != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("branch \"%s\" names task \"%s\", which is not directly downstream of it",
						task_id, (char *) linitial(others)),
				 errhint("A branch gives the task_ids of direct downstream tasks.")));
}

/*
 * The primary key of dag_version: $1 and $2 of every statement here.
 */
static void
add_version(FpStoreArgs *args, const char *dag_id, int version)
{
	fp_store_args_add_text(args, dag_id);
	fp_store_args_add_int(args, version);
}

static void
keep_dag_version(const FpRow *row, void *arg)
{
	FpDagVersionRow *result = arg;

	result->dagrun_timeout = fp_row_int64(row, 1);
	result->has_on_success = fp_row_bool(row, 2);
	result->has_on_failure = fp_row_bool(row, 3);
}

static void
append_task(const FpRow *row, void *arg)
{
	List	  **tasks = arg;
	FpTaskVersionRow *task = palloc0(sizeof(FpTaskVersionRow));

	task->task_id = fp_row_text(row, 1);
	task->operator = fp_row_text(row, 2);
	task->trigger_rule = fp_row_text(row, 3);
	task->upstream = fp_row_text_array(row, 4);
	task->retries = fp_row_int32(row, 5);
	task->retry_delay = fp_row_int64(row, 6);
	task->has_backoff = fp_row_bool(row, 7);
	task->max_retry_delay = fp_row_int64(row, 8);
	task->execution_timeout = fp_row_int64(row, 9);
	task->pool = fp_row_text(row, 10);
	task->pool_slots = fp_row_int32(row, 11);
	task->priority_weight = fp_row_int32(row, 12);
	task->depends_on_past = fp_row_bool(row, 13);
	*tasks = lappend(*tasks, task);
}

static void
keep_command(const FpRow *row, void *arg)
{
	FpTaskCommand **result = arg;
	FpTaskCommand *command = palloc0(sizeof(FpTaskCommand));

	command->operator = fp_row_text(row, 1);
	command->params = fp_row_text(row, 2);
	command->command = fp_row_text(row, 3);
	command->in_transaction = fp_row_bool(row, 4);
	command->timezone = fp_row_text(row, 5);
	command->search_path = fp_row_text(row, 6);
	*result = command;
}
