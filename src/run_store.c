/*-------------------------------------------------------------------------
 *
 * run_store.c
 *	  All SQL on the run tables: dag_run, task_run, attempt_history,
 *	  dag_version, task_version, coverage, dag_log, instance.
 *
 * Called by sessions, the scheduler and workers, always inside a transaction.
 * Rows are reached by primary key, or by (dag_id, logical_date); only the
 * start of a scheduler reads all of dag_run.  Attempts are written in batches
 * by the scheduler and ended one by one by workers, each in the transaction
 * that holds what the task did.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"

#include "run_store.h"
#include "spi_util.h"

#define RUN_COLUMNS \
	"run_id, dag_id, version, run_type, state, logical_date, " \
	"data_interval_start, data_interval_end, " \
	"conf OPERATOR(pg_catalog.<>) '{}', backfill_id, parent_run_id, started_at"
#define N_RUN_COLUMNS 12

/* the same of dag_run under the alias r */
#define R_RUN_COLUMNS \
	"r.run_id, r.dag_id, r.version, r.run_type, r.state, r.logical_date, " \
	"r.data_interval_start, r.data_interval_end, " \
	"r.conf OPERATOR(pg_catalog.<>) '{}', r.backfill_id, r.parent_run_id, " \
	"r.started_at"

/* runs that stand for an interval; the predicate of dag_run_interval_key */
#define STANDS_FOR_INTERVAL \
	"(run_type = 'scheduled' OR run_type = 'backfill' " \
	"OR (run_type = 'triggered' AND parent_run_id IS NULL))"

#define INTERVAL_US(column) \
	"(extract(epoch FROM " column ") * 1000000)::bigint"

#define STOPPED_MESSAGE "server stopped while the task was running"

static void execute(FpStatement *statement, const Datum *values,
					const char *nulls, FpRowCallback callback, void *arg);
static uint64 execute_counted(FpStatement *statement, const Datum *values,
							  const char *nulls);
static void collect_run(const FpRow *row, void *arg);
static void collect_backfill_run(const FpRow *row, void *arg);
static FpRunRow *read_run(const FpRow *row);
static void collect_task_run(const FpRow *row, void *arg);
static Datum text_array(List *strings);
static Datum batch_array(Datum *elements, int n, Oid type);
static void read_text(const FpRow *row, void *arg);
static void read_bool(const FpRow *row, void *arg);
static void read_int64(const FpRow *row, void *arg);


/* ---- dag_run ---- */

int64
fp_run_store_insert(const FpRunRow *row, const char *conf,
					TimestampTz queued_at)
{
	static FpStatement statement = {
		"INSERT INTO flow.dag_run (dag_id, run_type, logical_date, "
		"data_interval_start, data_interval_end, state, conf, queued_at, "
		"backfill_id, parent_run_id) "
		"VALUES ($1, $2, $3, $4, $5, 'queued', $6::jsonb, $7, $8, $9) "
		"ON CONFLICT DO NOTHING RETURNING run_id",
		SPI_OK_INSERT_RETURNING, 9,
		{TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID}
	};
	Datum		values[9];
	char		nulls[9];
	int64		run_id = 0;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = fp_datum_text(row->dag_id);
	values[1] = fp_datum_text(fp_run_type_name(row->run_type));
	values[2] = TimestampTzGetDatum(row->logical_date);
	values[3] = TimestampTzGetDatum(row->data_interval_start);
	values[4] = TimestampTzGetDatum(row->data_interval_end);
	values[5] = fp_datum_text(conf != NULL ? conf : "{}");
	values[6] = TimestampTzGetDatum(queued_at);
	values[7] = Int64GetDatum(row->backfill_id);
	values[8] = Int64GetDatum(row->parent_run_id);
	if (row->backfill_id == 0)
		nulls[7] = 'n';
	if (row->parent_run_id == 0)
		nulls[8] = 'n';
	execute(&statement, values, nulls, read_int64, &run_id);
	return run_id;
}

FpRunRow *
fp_run_store_get(int64 run_id)
{
	static FpStatement statement = {
		"SELECT " RUN_COLUMNS " FROM flow.dag_run WHERE run_id = $1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(run_id)};
	List	   *runs = NIL;

	execute(&statement, values, NULL, collect_run, &runs);
	return runs != NIL ? linitial(runs) : NULL;
}

List *
fp_run_store_between(const char *dag_id, TimestampTz from, TimestampTz until)
{
	/*
	 * The second half finds a run that started before the range and reaches
	 * into it: intervals of a DAG do not overlap but for those of chunks and
	 * former schedules, so few runs before the range have to be looked at;
	 * all the same, the whole index of the DAG may be read.
	 */
	static FpStatement statement = {
		"SELECT " RUN_COLUMNS " FROM flow.dag_run "
		"WHERE dag_id = $1 AND " STANDS_FOR_INTERVAL
		" AND logical_date < $3 "
		"AND (logical_date >= $2 OR data_interval_end > $2) "
		"ORDER BY logical_date, run_id",
		SPI_OK_SELECT, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[3];
	List	   *runs = NIL;

	values[0] = fp_datum_text(dag_id);
	values[1] = TimestampTzGetDatum(from);
	values[2] = TimestampTzGetDatum(until);
	execute(&statement, values, NULL, collect_run, &runs);
	return runs;
}

List *
fp_run_store_unfinished(void)
{
	static FpStatement statement = {
		"SELECT " RUN_COLUMNS " FROM flow.dag_run "
		"WHERE state = 'queued' OR state = 'running' ORDER BY run_id",
		SPI_OK_SELECT, 0, {0}
	};
	List	   *runs = NIL;

	execute(&statement, NULL, NULL, collect_run, &runs);
	return runs;
}

List *
fp_run_store_of_backfill(int64 backfill_id)
{
	static FpStatement statement = {
		"SELECT " R_RUN_COLUMNS ", b.ordinal, b.action "
		"FROM flow.backfill_run b JOIN flow.dag_run r USING (run_id) "
		"WHERE b.backfill_id = $1 ORDER BY b.ordinal, b.run_id",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(backfill_id)};
	List	   *runs = NIL;

	execute(&statement, values, NULL, collect_backfill_run, &runs);
	return runs;
}

List *
fp_run_store_succeeded_since(const char *dag_id, TimestampTz since)
{
	static FpStatement statement = {
		"SELECT " RUN_COLUMNS " FROM flow.dag_run "
		"WHERE dag_id = $1 AND state = 'success' AND ended_at >= $2 "
		"ORDER BY logical_date, run_id",
		SPI_OK_SELECT, 2, {TEXTOID, TIMESTAMPTZOID}
	};
	Datum		values[2];
	List	   *runs = NIL;

	values[0] = fp_datum_text(dag_id);
	values[1] = TimestampTzGetDatum(since);
	execute(&statement, values, NULL, collect_run, &runs);
	return runs;
}

void
fp_run_store_start(int64 run_id, int version, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.dag_run SET state = 'running', version = $2, "
		"started_at = $3, ended_at = NULL, message = NULL WHERE run_id = $1",
		SPI_OK_UPDATE, 3, {INT8OID, INT4OID, TIMESTAMPTZOID}
	};
	Datum		values[3];

	values[0] = Int64GetDatum(run_id);
	values[1] = Int32GetDatum(version);
	values[2] = TimestampTzGetDatum(at);
	execute(&statement, values, NULL, NULL, NULL);
}

void
fp_run_store_end(int64 run_id, FpRunState state, const char *message,
				 TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.dag_run SET state = $2, message = $3, ended_at = $4 "
		"WHERE run_id = $1",
		SPI_OK_UPDATE, 4, {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		values[4];
	char		nulls[4];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(run_id);
	values[1] = fp_datum_text(fp_run_state_name(state));
	if (message != NULL)
		values[2] = fp_datum_text(message);
	else
		nulls[2] = 'n';
	values[3] = TimestampTzGetDatum(at);
	execute(&statement, values, nulls, NULL, NULL);
}

void
fp_run_store_requeue(int64 run_id, int64 backfill_id, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.dag_run SET state = 'queued', queued_at = $3, "
		"started_at = NULL, ended_at = NULL, message = NULL, "
		"backfill_id = nullif($2, 0) WHERE run_id = $1",
		SPI_OK_UPDATE, 3, {INT8OID, INT8OID, TIMESTAMPTZOID}
	};
	Datum		values[3];

	values[0] = Int64GetDatum(run_id);
	values[1] = Int64GetDatum(backfill_id);
	values[2] = TimestampTzGetDatum(at);
	execute(&statement, values, NULL, NULL, NULL);
}

char *
fp_run_store_first_failure(int64 run_id)
{
	static FpStatement statement = {
		"SELECT 'task \"' || task_id || '\": ' || coalesce(message, 'failed') "
		"FROM flow.task_run WHERE run_id = $1 AND state = 'failed' "
		"ORDER BY ended_at, task_id LIMIT 1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(run_id)};
	char	   *message = NULL;

	execute(&statement, values, NULL, read_text, &message);
	return message;
}

char *
fp_run_store_conf(int64 run_id)
{
	static FpStatement statement = {
		"SELECT conf::text FROM flow.dag_run WHERE run_id = $1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(run_id)};
	char	   *conf = NULL;

	execute(&statement, values, NULL, read_text, &conf);
	return conf;
}


/* ---- versions ---- */

void
fp_run_store_keep_version(const char *dag_id, int version, TimestampTz at)
{
	static FpStatement dag_statement = {
		"INSERT INTO flow.dag_version (dag_id, version, timezone, search_path, "
		"dagrun_timeout, on_success, on_failure, created_at) "
		"SELECT dag_id, $2, timezone, search_path, dagrun_timeout, "
		"on_success, on_failure, $3 FROM flow.dag WHERE dag_id = $1 "
		"ON CONFLICT DO NOTHING",
		SPI_OK_INSERT, 3, {TEXTOID, INT4OID, TIMESTAMPTZOID}
	};
	static FpStatement task_statement = {
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
		"FROM flow.task t JOIN flow.dag d USING (dag_id) "
		"WHERE t.dag_id = $1",
		SPI_OK_INSERT, 2, {TEXTOID, INT4OID}
	};
	Datum		values[3];

	values[0] = fp_datum_text(dag_id);
	values[1] = Int32GetDatum(version);
	values[2] = TimestampTzGetDatum(at);
	if (execute_counted(&dag_statement, values, NULL) > 0)
		execute(&task_statement, values, NULL, NULL, NULL);
}

static void
read_dag_version(const FpRow *row, void *arg)
{
	FpDagVersionRow *result = arg;

	result->dagrun_timeout = fp_row_int64(row, 1);
	result->has_on_success = fp_row_bool(row, 2);
	result->has_on_failure = fp_row_bool(row, 3);
}

void
fp_run_store_dag_version(const char *dag_id, int version,
						 FpDagVersionRow *row)
{
	static FpStatement statement = {
		"SELECT " INTERVAL_US("dagrun_timeout") ", on_success IS NOT NULL, "
		"on_failure IS NOT NULL FROM flow.dag_version "
		"WHERE dag_id = $1 AND version = $2",
		SPI_OK_SELECT, 2, {TEXTOID, INT4OID}
	};
	Datum		values[2];

	memset(row, 0, sizeof(FpDagVersionRow));
	values[0] = fp_datum_text(dag_id);
	values[1] = Int32GetDatum(version);
	execute(&statement, values, NULL, read_dag_version, row);
}

static void
collect_version_task(const FpRow *row, void *arg)
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

List *
fp_run_store_version_tasks(const char *dag_id, int version)
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
	Datum		values[2];
	List	   *tasks = NIL;

	values[0] = fp_datum_text(dag_id);
	values[1] = Int32GetDatum(version);
	execute(&statement, values, NULL, collect_version_task, &tasks);
	return tasks;
}

static void
read_task_command(const FpRow *row, void *arg)
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

FpTaskCommand *
fp_run_store_task_command(const char *dag_id, int version,
						  const char *task_id)
{
	static FpStatement statement = {
		"SELECT t.operator, t.params::text, t.params ->> 'command', "
		"coalesce((t.params ->> 'in_transaction')::boolean, true), "
		"d.timezone, d.search_path "
		"FROM flow.task_version t JOIN flow.dag_version d "
		"USING (dag_id, version) "
		"WHERE t.dag_id = $1 AND t.version = $2 AND t.task_id = $3",
		SPI_OK_SELECT, 3, {TEXTOID, INT4OID, TEXTOID}
	};
	Datum		values[3];
	FpTaskCommand *command = NULL;

	values[0] = fp_datum_text(dag_id);
	values[1] = Int32GetDatum(version);
	values[2] = fp_datum_text(task_id);
	execute(&statement, values, NULL, read_task_command, &command);
	if (command == NULL)
		elog(ERROR, "version %d of task \"%s\" of dag \"%s\" is missing",
			 version, task_id, dag_id);
	return command;
}

FpTaskCommand *
fp_run_store_callback_command(const char *dag_id, int version,
							  FpRunState state)
{
	static FpStatement statement = {
		"SELECT 'callback', '{}', "
		"CASE WHEN $3 = 'success' THEN on_success ELSE on_failure END, "
		"true, timezone, search_path "
		"FROM flow.dag_version WHERE dag_id = $1 AND version = $2",
		SPI_OK_SELECT, 3, {TEXTOID, INT4OID, TEXTOID}
	};
	Datum		values[3];
	FpTaskCommand *command = NULL;

	values[0] = fp_datum_text(dag_id);
	values[1] = Int32GetDatum(version);
	values[2] = fp_datum_text(fp_run_state_name(state));
	execute(&statement, values, NULL, read_task_command, &command);
	if (command == NULL || command->command == NULL)
		elog(ERROR, "version %d of dag \"%s\" has no callback", version,
			 dag_id);
	return command;
}


/* ---- task_run, the scheduler's part ---- */

#define TASK_RUN_COLUMNS \
	"task_id, map_index, try_number, state, failures, crashes, retry_at, " \
	"pages, rows_written, position::text, started_at"

List *
fp_run_store_task_runs(int64 run_id)
{
	static FpStatement statement = {
		"SELECT " TASK_RUN_COLUMNS " FROM flow.task_run WHERE run_id = $1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(run_id)};
	List	   *rows = NIL;

	execute(&statement, values, NULL, collect_task_run, &rows);
	return rows;
}

FpTaskRunRow *
fp_run_store_task_run(int64 run_id, const char *task_id, int map_index)
{
	static FpStatement statement = {
		"SELECT " TASK_RUN_COLUMNS " FROM flow.task_run "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = $3",
		SPI_OK_SELECT, 3, {INT8OID, TEXTOID, INT4OID}
	};
	Datum		values[3];
	List	   *rows = NIL;

	values[0] = Int64GetDatum(run_id);
	values[1] = fp_datum_text(task_id);
	values[2] = Int32GetDatum(map_index);
	execute(&statement, values, NULL, collect_task_run, &rows);
	return rows != NIL ? linitial(rows) : NULL;
}

FpTaskRunBatch *
fp_run_store_new_batch(void)
{
	FpTaskRunBatch *batch = palloc0(sizeof(FpTaskRunBatch));

	batch->size = 64;
	batch->run_ids = palloc(sizeof(Datum) * batch->size);
	batch->dag_ids = palloc(sizeof(Datum) * batch->size);
	batch->task_ids = palloc(sizeof(Datum) * batch->size);
	batch->map_indexes = palloc(sizeof(Datum) * batch->size);
	batch->try_numbers = palloc(sizeof(Datum) * batch->size);
	batch->states = palloc(sizeof(Datum) * batch->size);
	return batch;
}

void
fp_run_store_batch_add(FpTaskRunBatch *batch, int64 run_id,
					   const char *dag_id, const char *task_id,
					   int map_index, int try_number, FpTaskRunState state)
{
	int			i = batch->n++;
	const char *name = fp_task_run_state_name(state);

	if (i == batch->size)
	{
		Size		size;

		batch->size *= 2;
		size = sizeof(Datum) * batch->size;
		batch->run_ids = repalloc(batch->run_ids, size);
		batch->dag_ids = repalloc(batch->dag_ids, size);
		batch->task_ids = repalloc(batch->task_ids, size);
		batch->map_indexes = repalloc(batch->map_indexes, size);
		batch->try_numbers = repalloc(batch->try_numbers, size);
		batch->states = repalloc(batch->states, size);
	}
	batch->run_ids[i] = Int64GetDatum(run_id);
	batch->dag_ids[i] = fp_datum_text(dag_id);
	batch->task_ids[i] = fp_datum_text(task_id);
	batch->map_indexes[i] = Int32GetDatum(map_index);
	batch->try_numbers[i] = Int32GetDatum(try_number);
	batch->states[i] = fp_datum_text(name != NULL ? name : "");
}

/* run_ids, dag_ids, task_ids, map_indexes, try_numbers */
static void
fill_batch_values(const FpTaskRunBatch *batch, Datum *values)
{
	values[0] = batch_array(batch->run_ids, batch->n, INT8OID);
	values[1] = batch_array(batch->dag_ids, batch->n, TEXTOID);
	values[2] = batch_array(batch->task_ids, batch->n, TEXTOID);
	values[3] = batch_array(batch->map_indexes, batch->n, INT4OID);
	values[4] = batch_array(batch->try_numbers, batch->n, INT4OID);
}

#define UNNEST_BATCH \
	"unnest($1, $2, $3, $4, $5) " \
	"AS b(run_id, dag_id, task_id, map_index, try_number)"
#define BATCH_TYPES \
	INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID

void
fp_run_store_record_first(const FpTaskRunBatch *batch, TimestampTz at)
{
	static FpStatement statement = {
		"INSERT INTO flow.task_run (run_id, dag_id, task_id, map_index, "
		"try_number, state, started_at) "
		"SELECT b.run_id, b.dag_id, b.task_id, b.map_index, b.try_number, "
		"'running', $6 FROM " UNNEST_BATCH,
		SPI_OK_INSERT, 6, {BATCH_TYPES, TIMESTAMPTZOID}
	};
	Datum		values[6];

	if (batch->n == 0)
		return;
	fill_batch_values(batch, values);
	values[5] = TimestampTzGetDatum(at);
	execute(&statement, values, NULL, NULL, NULL);
}

void
fp_run_store_record_again(const FpTaskRunBatch *batch, TimestampTz at)
{
	/* what was the latest attempt becomes history; a cleared one is there */
	static FpStatement history_statement = {
		"INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, "
		"try_number, state, started_at, ended_at, worker_pid, sqlstate, message) "
		"SELECT t.run_id, t.dag_id, t.task_id, t.map_index, t.try_number, "
		"'failed', t.started_at, t.ended_at, t.worker_pid, t.sqlstate, t.message "
		"FROM " UNNEST_BATCH " JOIN flow.task_run t "
		"USING (run_id, task_id, map_index) WHERE t.state IS NOT NULL "
		"ON CONFLICT DO NOTHING",
		SPI_OK_INSERT, 5, {BATCH_TYPES}
	};
	static FpStatement update_statement = {
		"UPDATE flow.task_run t SET try_number = b.try_number, "
		"state = 'running', started_at = $6, ended_at = NULL, message = NULL, "
		"sqlstate = NULL, worker_pid = NULL, retry_at = NULL, result = NULL "
		"FROM " UNNEST_BATCH " WHERE t.run_id = b.run_id "
		"AND t.task_id = b.task_id AND t.map_index = b.map_index",
		SPI_OK_UPDATE, 6, {BATCH_TYPES, TIMESTAMPTZOID}
	};
	Datum		values[6];

	if (batch->n == 0)
		return;
	fill_batch_values(batch, values);
	values[5] = TimestampTzGetDatum(at);
	execute(&history_statement, values, NULL, NULL, NULL);
	if (execute_counted(&update_statement, values, NULL) != (uint64) batch->n)
		elog(ERROR, "task_run rows are missing");
}

void
fp_run_store_record_pokes(const FpTaskRunBatch *batch)
{
	static FpStatement statement = {
		"UPDATE flow.task_run t SET state = 'running', retry_at = NULL "
		"FROM " UNNEST_BATCH " WHERE t.run_id = b.run_id "
		"AND t.task_id = b.task_id AND t.map_index = b.map_index",
		SPI_OK_UPDATE, 5, {BATCH_TYPES}
	};
	Datum		values[5];

	if (batch->n == 0)
		return;
	fill_batch_values(batch, values);
	if (execute_counted(&statement, values, NULL) != (uint64) batch->n)
		elog(ERROR, "task_run rows are missing");
}

void
fp_run_store_record_states(const FpTaskRunBatch *batch, TimestampTz at)
{
	static FpStatement statement = {
		"INSERT INTO flow.task_run AS t (run_id, dag_id, task_id, map_index, "
		"try_number, state, ended_at) "
		"SELECT b.run_id, b.dag_id, b.task_id, b.map_index, b.try_number, "
		"b.state, $7 FROM unnest($1, $2, $3, $4, $5, $6) "
		"AS b(run_id, dag_id, task_id, map_index, try_number, state) "
		"ON CONFLICT (run_id, task_id, map_index) DO UPDATE "
		"SET state = excluded.state, ended_at = excluded.ended_at, "
		"retry_at = NULL",
		SPI_OK_INSERT, 7, {BATCH_TYPES, TEXTARRAYOID, TIMESTAMPTZOID}
	};
	Datum		values[7];

	if (batch->n == 0)
		return;
	fill_batch_values(batch, values);
	values[5] = batch_array(batch->states, batch->n, TEXTOID);
	values[6] = TimestampTzGetDatum(at);
	execute(&statement, values, NULL, NULL, NULL);
}

void
fp_run_store_give_back(const FpTaskRunBatch *batch, bool is_crash,
					   int max_crashes, TimestampTz at)
{
	static FpStatement history_statement = {
		"INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, "
		"try_number, state, started_at, ended_at, worker_pid, sqlstate, message) "
		"SELECT t.run_id, t.dag_id, t.task_id, t.map_index, t.try_number, "
		"'failed', t.started_at, $6, t.worker_pid, '57P01', '" STOPPED_MESSAGE "' "
		"FROM " UNNEST_BATCH " JOIN flow.task_run t "
		"USING (run_id, task_id, map_index) "
		"WHERE NOT ($7 AND t.crashes + 1 >= $8) "
		"ON CONFLICT DO NOTHING",
		SPI_OK_INSERT, 8, {BATCH_TYPES, TIMESTAMPTZOID, BOOLOID, INT4OID}
	};
	static FpStatement update_statement = {
		"UPDATE flow.task_run t SET "
		"crashes = t.crashes + CASE WHEN $7 THEN 1 ELSE 0 END, "
		"state = CASE WHEN $7 AND t.crashes + 1 >= $8 THEN 'failed' END, "
		"started_at = CASE WHEN $7 AND t.crashes + 1 >= $8 THEN t.started_at END, "
		"ended_at = CASE WHEN $7 AND t.crashes + 1 >= $8 THEN $6 END, "
		"sqlstate = CASE WHEN $7 AND t.crashes + 1 >= $8 THEN '57P02' END, "
		"message = CASE WHEN $7 AND t.crashes + 1 >= $8 "
		"THEN 'the server has crashed ' || (t.crashes + 1) || "
		"' times in a row while the task was running; it is not tried again' END "
		"FROM " UNNEST_BATCH " WHERE t.run_id = b.run_id "
		"AND t.task_id = b.task_id AND t.map_index = b.map_index",
		SPI_OK_UPDATE, 8, {BATCH_TYPES, TIMESTAMPTZOID, BOOLOID, INT4OID}
	};
	Datum		values[8];

	if (batch->n == 0)
		return;
	fill_batch_values(batch, values);
	values[5] = TimestampTzGetDatum(at);
	values[6] = BoolGetDatum(is_crash);
	values[7] = Int32GetDatum(max_crashes);
	execute(&history_statement, values, NULL, NULL, NULL);
	execute(&update_statement, values, NULL, NULL, NULL);
}

bool
fp_run_store_fail_lost(int64 run_id, const char *task_id, int map_index,
					   int try_number, FpTaskRunState state,
					   TimestampTz retry_at, int worker_pid,
					   const char *message, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET state = $5, ended_at = $6, retry_at = $7, "
		"worker_pid = $8, "
		"failures = failures + CASE WHEN $5 = 'cancelled' THEN 0 ELSE 1 END, "
		"crashes = 0, sqlstate = '57P01', message = $9 "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = $3 "
		"AND try_number = $4 AND state = 'running'",
		SPI_OK_UPDATE, 9,
		{INT8OID, TEXTOID, INT4OID, INT4OID, TEXTOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, INT4OID, TEXTOID}
	};
	Datum		values[9];
	char		nulls[9];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(run_id);
	values[1] = fp_datum_text(task_id);
	values[2] = Int32GetDatum(map_index);
	values[3] = Int32GetDatum(try_number);
	values[4] = fp_datum_text(fp_task_run_state_name(state));
	values[5] = TimestampTzGetDatum(at);
	values[6] = TimestampTzGetDatum(retry_at);
	if (retry_at == DT_NOBEGIN)
		nulls[6] = 'n';
	values[7] = Int32GetDatum(worker_pid);
	values[8] = fp_datum_text(message);
	return execute_counted(&statement, values, nulls) == 1;
}

int64
fp_run_store_clear(int64 run_id, List *task_ids)
{
	static FpStatement history_statement = {
		"INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, "
		"try_number, state, started_at, ended_at, worker_pid, sqlstate, message) "
		"SELECT run_id, dag_id, task_id, map_index, try_number, state, "
		"started_at, ended_at, worker_pid, sqlstate, message "
		"FROM flow.task_run WHERE run_id = $1 AND state IS NOT NULL "
		"AND try_number > 0 AND ($2 IS NULL OR task_id = ANY ($2)) "
		"ON CONFLICT DO NOTHING",
		SPI_OK_INSERT, 2, {INT8OID, TEXTARRAYOID}
	};
	static FpStatement update_statement = {
		"UPDATE flow.task_run SET state = NULL, started_at = NULL, "
		"ended_at = NULL, rows_written = 0, pages = 0, result = NULL, "
		"message = NULL, sqlstate = NULL, worker_pid = NULL, retry_at = NULL, "
		"failures = 0, crashes = 0, position = NULL "
		"WHERE run_id = $1 AND state IS NOT NULL "
		"AND ($2 IS NULL OR task_id = ANY ($2))",
		SPI_OK_UPDATE, 2, {INT8OID, TEXTARRAYOID}
	};
	Datum		values[2];
	char		nulls[2] = {' ', ' '};

	values[0] = Int64GetDatum(run_id);
	if (task_ids != NIL)
		values[1] = text_array(task_ids);
	else
		nulls[1] = 'n';
	execute(&history_statement, values, nulls, NULL, NULL);
	return execute_counted(&update_statement, values, nulls);
}

void
fp_run_store_remove(int64 run_id, List *task_ids)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET state = 'removed' "
		"WHERE run_id = $1 AND task_id = ANY ($2)",
		SPI_OK_UPDATE, 2, {INT8OID, TEXTARRAYOID}
	};
	Datum		values[2];

	values[0] = Int64GetDatum(run_id);
	values[1] = text_array(task_ids);
	execute(&statement, values, NULL, NULL, NULL);
}


/* ---- task_run, the worker's part ---- */

void
fp_run_store_end_attempt(const FpAttemptEnd *end)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET state = $5, "
		"started_at = coalesce($6, started_at), ended_at = $7, "
		"rows_written = rows_written + $8, pages = pages + $9, "
		"result = $10::jsonb, sqlstate = $11, message = $12, retry_at = $13, "
		"worker_pid = $14, failures = failures + $15, crashes = 0 "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = $3 "
		"AND try_number = $4 AND state = 'running'",
		SPI_OK_UPDATE, 15,
		{INT8OID, TEXTOID, INT4OID, INT4OID, TEXTOID, TIMESTAMPTZOID,
			TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID,
		TIMESTAMPTZOID, INT4OID, INT4OID}
	};
	Datum		values[15];
	char		nulls[15];
	bool		is_failure = end->state == FP_TASK_RUN_FAILED ||
		end->state == FP_TASK_RUN_UP_FOR_RETRY;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(end->run_id);
	values[1] = fp_datum_text(end->task_id);
	values[2] = Int32GetDatum(end->map_index);
	values[3] = Int32GetDatum(end->try_number);
	values[4] = fp_datum_text(fp_task_run_state_name(end->state));
	values[5] = TimestampTzGetDatum(end->started_at);
	if (end->started_at == DT_NOBEGIN)
		nulls[5] = 'n';
	values[6] = TimestampTzGetDatum(end->ended_at);
	if (end->ended_at == DT_NOBEGIN)
		nulls[6] = 'n';
	values[7] = Int64GetDatum(end->rows_written);
	values[8] = Int64GetDatum(end->pages);
	if (end->result != NULL)
		values[9] = fp_datum_text(end->result);
	else
		nulls[9] = 'n';
	if (end->sqlstate != NULL)
		values[10] = fp_datum_text(end->sqlstate);
	else
		nulls[10] = 'n';
	if (end->message != NULL)
		values[11] = fp_datum_text(end->message);
	else
		nulls[11] = 'n';
	values[12] = TimestampTzGetDatum(end->retry_at);
	if (end->retry_at == DT_NOBEGIN)
		nulls[12] = 'n';
	values[13] = Int32GetDatum(MyProcPid);
	values[14] = Int32GetDatum(is_failure ? 1 : 0);
	if (execute_counted(&statement, values, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("attempt %d of task \"%s\" in run " INT64_FORMAT " is no longer open",
						end->try_number, end->task_id, end->run_id),
				 errdetail("What it has done is rolled back.")));
}

void
fp_run_store_record_page(int64 run_id, const char *task_id, int map_index,
						 int try_number, int64 pages, int64 rows_written,
						 const char *position)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET pages = $5, rows_written = $6, "
		"position = $7::jsonb "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = $3 "
		"AND try_number = $4 AND state = 'running'",
		SPI_OK_UPDATE, 7,
		{INT8OID, TEXTOID, INT4OID, INT4OID, INT8OID, INT8OID, TEXTOID}
	};
	Datum		values[7];
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(run_id);
	values[1] = fp_datum_text(task_id);
	values[2] = Int32GetDatum(map_index);
	values[3] = Int32GetDatum(try_number);
	values[4] = Int64GetDatum(pages);
	values[5] = Int64GetDatum(rows_written);
	if (position != NULL)
		values[6] = fp_datum_text(position);
	else
		nulls[6] = 'n';
	if (execute_counted(&statement, values, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("attempt %d of task \"%s\" in run " INT64_FORMAT " is no longer open",
						try_number, task_id, run_id),
				 errdetail("The page is rolled back.")));
}


static void
collect_text(const FpRow *row, void *arg)
{
	List	  **result = arg;

	*result = lappend(*result, fp_row_text(row, 1));
}

void
fp_run_store_check_downstream(const char *dag_id, int version,
							  const char *task_id, List *task_ids)
{
	static FpStatement statement = {
		"SELECT c FROM unnest($4) AS c WHERE NOT EXISTS "
		"(SELECT FROM flow.task_version t WHERE t.dag_id = $1 "
		"AND t.version = $2 AND t.task_id = c AND $3 = ANY (t.upstream))",
		SPI_OK_SELECT, 4, {TEXTOID, INT4OID, TEXTOID, TEXTARRAYOID}
	};
	Datum		values[4];
	List	   *others = NIL;

	values[0] = fp_datum_text(dag_id);
	values[1] = Int32GetDatum(version);
	values[2] = fp_datum_text(task_id);
	values[3] = text_array(task_ids);
	execute(&statement, values, NULL, collect_text, &others);
	if (others != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("branch \"%s\" names task \"%s\", which is not directly downstream of it",
						task_id, (char *) linitial(others)),
				 errhint("A branch gives the task_ids of direct downstream tasks.")));
}

List *
fp_run_store_branch_choice(int64 run_id, const char *task_id)
{
	static FpStatement statement = {
		"SELECT jsonb_array_elements_text(result) FROM flow.task_run "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = -1 "
		"AND jsonb_typeof(result) = 'array'",
		SPI_OK_SELECT, 2, {INT8OID, TEXTOID}
	};
	Datum		values[2];
	List	   *result = NIL;

	values[0] = Int64GetDatum(run_id);
	values[1] = fp_datum_text(task_id);
	execute(&statement, values, NULL, collect_text, &result);
	return result;
}

void
fp_run_store_keep_position(int64 run_id, const char *task_id, int map_index,
						   int try_number, const char *position)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET position = $5::jsonb "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = $3 "
		"AND try_number = $4 AND state = 'running'",
		SPI_OK_UPDATE, 5, {INT8OID, TEXTOID, INT4OID, INT4OID, TEXTOID}
	};
	Datum		values[5];

	values[0] = Int64GetDatum(run_id);
	values[1] = fp_datum_text(task_id);
	values[2] = Int32GetDatum(map_index);
	values[3] = Int32GetDatum(try_number);
	values[4] = fp_datum_text(position);
	execute(&statement, values, NULL, NULL, NULL);
}

bool
fp_run_store_is_past_met(const char *dag_id, TimestampTz logical_date,
						 int64 backfill_id, const char *task_id)
{
	static FpStatement statement = {
		"SELECT coalesce(t.state IN ('success', 'skipped'), false) "
		"OR (p.version IS NOT NULL AND NOT EXISTS "
		"(SELECT FROM flow.task_version v WHERE v.dag_id = p.dag_id "
		"AND v.version = p.version AND v.task_id = $4)) "
		"FROM (SELECT run_id, dag_id, version FROM flow.dag_run "
		"WHERE dag_id = $1 AND logical_date < $2 AND " STANDS_FOR_INTERVAL
		" ORDER BY logical_date DESC LIMIT 1) p "
		"LEFT JOIN flow.task_run t ON t.run_id = p.run_id "
		"AND t.task_id = $4 AND t.map_index = -1 "
		"WHERE $3 = 0 OR EXISTS (SELECT FROM flow.backfill_run b "
		"JOIN flow.dag_run r USING (run_id) WHERE b.backfill_id = $3 "
		"AND r.dag_id = $1 AND r.logical_date < $2)",
		SPI_OK_SELECT, 4, {TEXTOID, TIMESTAMPTZOID, INT8OID, TEXTOID}
	};
	Datum		values[4];
	bool		result = true;

	values[0] = fp_datum_text(dag_id);
	values[1] = TimestampTzGetDatum(logical_date);
	values[2] = Int64GetDatum(backfill_id);
	values[3] = fp_datum_text(task_id);
	execute(&statement, values, NULL, read_bool, &result);
	return result;
}


/* ---- callbacks ---- */

int64
fp_run_store_add_callback(int64 run_id, FpRunState state, TimestampTz at)
{
	static FpStatement statement = {
		"INSERT INTO flow.callback (run_id, run_state, state, queued_at) "
		"VALUES ($1, $2, 'queued', $3) RETURNING callback_id",
		SPI_OK_INSERT_RETURNING, 3, {INT8OID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		values[3];
	int64		callback_id = 0;

	values[0] = Int64GetDatum(run_id);
	values[1] = fp_datum_text(fp_run_state_name(state));
	values[2] = TimestampTzGetDatum(at);
	execute(&statement, values, NULL, read_int64, &callback_id);
	return callback_id;
}

static void
collect_callback(const FpRow *row, void *arg)
{
	List	  **callbacks = arg;
	FpCallbackRow *callback = palloc(sizeof(FpCallbackRow));
	char	   *state = fp_row_text(row, N_RUN_COLUMNS + 2);

	callback->run = read_run(row);
	callback->callback_id = fp_row_int64(row, N_RUN_COLUMNS + 1);
	callback->state = fp_run_state_parse(state);
	callback->ntries = fp_row_int32(row, N_RUN_COLUMNS + 3);
	*callbacks = lappend(*callbacks, callback);
}

List *
fp_run_store_open_callbacks(void)
{
	static FpStatement statement = {
		"SELECT " R_RUN_COLUMNS ", c.callback_id, c.run_state, c.try_number "
		"FROM flow.callback c JOIN flow.dag_run r USING (run_id) "
		"WHERE c.state IN ('queued', 'running') ORDER BY c.callback_id",
		SPI_OK_SELECT, 0, {0}
	};
	List	   *callbacks = NIL;

	execute(&statement, NULL, NULL, collect_callback, &callbacks);
	return callbacks;
}

void
fp_run_store_try_callback(int64 callback_id, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.callback SET state = 'running', started_at = $2, "
		"try_number = try_number + 1 WHERE callback_id = $1",
		SPI_OK_UPDATE, 2, {INT8OID, TIMESTAMPTZOID}
	};
	Datum		values[2];

	values[0] = Int64GetDatum(callback_id);
	values[1] = TimestampTzGetDatum(at);
	execute(&statement, values, NULL, NULL, NULL);
}

void
fp_run_store_end_callback(int64 callback_id, const char *sqlstate,
						  const char *message, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.callback SET "
		"state = CASE WHEN $3 IS NULL THEN 'success' ELSE 'failed' END, "
		"sqlstate = $2, message = $3, ended_at = $4 "
		"WHERE callback_id = $1 AND state = 'running'",
		SPI_OK_UPDATE, 4, {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		values[4];
	char		nulls[4];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(callback_id);
	if (sqlstate != NULL)
		values[1] = fp_datum_text(sqlstate);
	else
		nulls[1] = 'n';
	if (message != NULL)
		values[2] = fp_datum_text(message);
	else
		nulls[2] = 'n';
	values[3] = TimestampTzGetDatum(at);
	if (execute_counted(&statement, values, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("callback " INT64_FORMAT " is no longer open",
						callback_id)));
}

typedef struct CallbackValues
{
	char	  **state;
	char	  **message;
	List	  **failed_tasks;
} CallbackValues;

static void
read_callback_values(const FpRow *row, void *arg)
{
	CallbackValues *values = arg;

	*values->state = fp_row_text(row, 1);
	*values->message = fp_row_text(row, 2);
	*values->failed_tasks = fp_row_text_array(row, 3);
}

void
fp_run_store_callback_values(int64 callback_id, char **state, char **message,
							 List **failed_tasks)
{
	static FpStatement statement = {
		"SELECT c.run_state, r.message, ARRAY(SELECT t.task_id "
		"FROM flow.task_run t WHERE t.run_id = r.run_id "
		"AND t.state = 'failed' ORDER BY t.ended_at, t.task_id) "
		"FROM flow.callback c JOIN flow.dag_run r USING (run_id) "
		"WHERE c.callback_id = $1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(callback_id)};
	CallbackValues result = {state, message, failed_tasks};

	execute(&statement, values, NULL, read_callback_values, &result);
}


/* ---- housekeeping ---- */

int64
fp_run_store_purge(TimestampTz before, int limit)
{
	/*
	 * Old runs have low numbers, so reading along the primary key finds them
	 * first.
	 */
	static FpStatement statement = {
		"WITH old AS MATERIALIZED (SELECT run_id FROM flow.dag_run "
		"WHERE ended_at < $1 AND state IN ('success', 'failed', 'cancelled') "
		"ORDER BY run_id LIMIT $2), "
		"tasks AS (DELETE FROM flow.task_run "
		"WHERE run_id = ANY (ARRAY(SELECT run_id FROM old))), "
		"attempts AS (DELETE FROM flow.attempt_history "
		"WHERE run_id = ANY (ARRAY(SELECT run_id FROM old))), "
		"callbacks AS (DELETE FROM flow.callback "
		"WHERE run_id = ANY (ARRAY(SELECT run_id FROM old))), "
		"backfills AS (DELETE FROM flow.backfill_run "
		"WHERE run_id = ANY (ARRAY(SELECT run_id FROM old))) "
		"DELETE FROM flow.dag_run "
		"WHERE run_id = ANY (ARRAY(SELECT run_id FROM old))",
		SPI_OK_DELETE, 2, {TIMESTAMPTZOID, INT4OID}
	};
	static FpStatement log_statement = {
		"DELETE FROM flow.dag_log WHERE completion_datetime < $1",
		SPI_OK_DELETE, 1, {TIMESTAMPTZOID}
	};
	static FpStatement backfill_statement = {
		"DELETE FROM flow.backfill b WHERE b.ended_at < $1 AND NOT EXISTS "
		"(SELECT FROM flow.backfill_run r "
		"WHERE r.backfill_id = b.backfill_id)",
		SPI_OK_DELETE, 1, {TIMESTAMPTZOID}
	};
	static FpStatement version_statement = {
		"WITH old AS (DELETE FROM flow.dag_version v WHERE v.created_at < $1 "
		"AND NOT EXISTS (SELECT FROM flow.dag_run r "
		"WHERE r.dag_id = v.dag_id AND r.version = v.version) "
		"AND NOT EXISTS (SELECT FROM flow.dag d "
		"WHERE d.dag_id = v.dag_id AND d.version = v.version) "
		"RETURNING v.dag_id, v.version) "
		"DELETE FROM flow.task_version t USING old "
		"WHERE t.dag_id = old.dag_id AND t.version = old.version",
		SPI_OK_DELETE, 1, {TIMESTAMPTZOID}
	};
	Datum		values[2];
	int64		result;

	values[0] = TimestampTzGetDatum(before);
	values[1] = Int32GetDatum(limit);
	result = execute_counted(&statement, values, NULL);
	if (result < limit)
	{
		execute(&log_statement, values, NULL, NULL, NULL);
		execute(&backfill_statement, values, NULL, NULL, NULL);
		execute(&version_statement, values, NULL, NULL, NULL);
	}
	return result;
}


/* ---- coverage and dag_log ---- */

static void
fill_interval_values(Datum *values, const char *dag_id, TimestampTz from,
					 TimestampTz until)
{
	values[0] = fp_datum_text(dag_id);
	values[1] = TimestampTzGetDatum(from);
	values[2] = TimestampTzGetDatum(until);
}

void
fp_run_store_cover(const char *dag_id, TimestampTz from, TimestampTz until)
{
	static FpStatement statement = {
		"INSERT INTO flow.coverage AS c (dag_id, covered) "
		"VALUES ($1, tstzmultirange(tstzrange($2, $3))) "
		"ON CONFLICT (dag_id) DO UPDATE "
		"SET covered = c.covered + excluded.covered",
		SPI_OK_INSERT, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[3];

	if (from >= until)
		return;
	fill_interval_values(values, dag_id, from, until);
	execute(&statement, values, NULL, NULL, NULL);
}

void
fp_run_store_uncover(const char *dag_id, TimestampTz from, TimestampTz until)
{
	static FpStatement statement = {
		"UPDATE flow.coverage SET covered = covered - "
		"tstzmultirange(tstzrange($2, $3)) WHERE dag_id = $1",
		SPI_OK_UPDATE, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[3];

	if (from >= until)
		return;
	fill_interval_values(values, dag_id, from, until);
	execute(&statement, values, NULL, NULL, NULL);
}

bool
fp_run_store_is_covered(const char *dag_id, TimestampTz from,
						TimestampTz until)
{
	static FpStatement statement = {
		"SELECT covered @> tstzrange($2, $3) FROM flow.coverage "
		"WHERE dag_id = $1",
		SPI_OK_SELECT, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[3];
	bool		result = false;

	fill_interval_values(values, dag_id, from, until);
	execute(&statement, values, NULL, read_bool, &result);
	return result;
}

void
fp_run_store_log(const char *dag_id, DateADT date, TimestampTz at,
				 int64 run_id)
{
	static FpStatement statement = {
		"INSERT INTO flow.dag_log (dag_id, completion_date, "
		"completion_datetime, run_id) VALUES ($1, $2, $3, $4) "
		"ON CONFLICT (dag_id, completion_date) DO UPDATE "
		"SET completion_datetime = excluded.completion_datetime, "
		"run_id = excluded.run_id",
		SPI_OK_INSERT, 4, {TEXTOID, DATEOID, TIMESTAMPTZOID, INT8OID}
	};
	Datum		values[4];

	values[0] = fp_datum_text(dag_id);
	values[1] = DateADTGetDatum(date);
	values[2] = TimestampTzGetDatum(at);
	values[3] = Int64GetDatum(run_id);
	execute(&statement, values, NULL, NULL, NULL);
}

bool
fp_run_store_has_word(const char *dag_id, DateADT date, Oid tobe_owner)
{
	static FpStatement statement = {
		"SELECT l.run_id IS NOT NULL OR EXISTS (SELECT FROM pg_roles r "
		"WHERE r.oid = l.logged_by "
		"AND (r.rolsuper OR pg_has_role(r.oid, $3, 'USAGE'))) "
		"FROM flow.dag_log l "
		"WHERE l.dag_id = $1 AND l.completion_date = $2",
		SPI_OK_SELECT, 3, {TEXTOID, DATEOID, OIDOID}
	};
	Datum		values[3];
	bool		result = false;

	values[0] = fp_datum_text(dag_id);
	values[1] = DateADTGetDatum(date);
	values[2] = ObjectIdGetDatum(tobe_owner);
	execute(&statement, values, NULL, read_bool, &result);
	return result;
}


/* ---- instance ---- */

bool
fp_run_store_begin_instance(void)
{
	static FpStatement read_statement = {
		"SELECT has_stopped_cleanly FROM flow.instance",
		SPI_OK_SELECT, 0, {0}
	};
	static FpStatement write_statement = {
		"INSERT INTO flow.instance (system_identifier, database_oid, "
		"has_stopped_cleanly) VALUES ($1, $2, false) "
		"ON CONFLICT (is_single) DO UPDATE SET has_stopped_cleanly = false",
		SPI_OK_INSERT, 2, {INT8OID, OIDOID}
	};
	Datum		values[2];
	bool		result = true;

	execute(&read_statement, NULL, NULL, read_bool, &result);
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	execute(&write_statement, values, NULL, NULL, NULL);
	return result;
}

void
fp_run_store_end_instance(void)
{
	static FpStatement statement = {
		"UPDATE flow.instance SET has_stopped_cleanly = true",
		SPI_OK_UPDATE, 0, {0}
	};

	execute(&statement, NULL, NULL, NULL, NULL);
}


/* ---- helpers ---- */

static void
execute(FpStatement *statement, const Datum *values, const char *nulls,
		FpRowCallback callback, void *arg)
{
	FpOwnerScope scope;

	fp_spi_begin_owner(&scope);
	(void) fp_spi_execute(statement, values, nulls, callback, arg);
	fp_spi_end_owner(&scope);
}

static uint64
execute_counted(FpStatement *statement, const Datum *values,
				const char *nulls)
{
	FpOwnerScope scope;
	uint64		result;

	fp_spi_begin_owner(&scope);
	result = fp_spi_execute(statement, values, nulls, NULL, NULL);
	fp_spi_end_owner(&scope);
	return result;
}

static FpRunRow *
read_run(const FpRow *row)
{
	FpRunRow   *run = palloc0(sizeof(FpRunRow));
	char	   *run_type = fp_row_text(row, 4);
	char	   *state = fp_row_text(row, 5);

	run->run_id = fp_row_int64(row, 1);
	run->dag_id = fp_row_text(row, 2);
	run->version = fp_row_int32(row, 3);
	run->run_type = fp_run_type_parse(run_type);
	run->state = fp_run_state_parse(state);
	run->logical_date = fp_row_timestamptz(row, 6, DT_NOBEGIN);
	run->data_interval_start = fp_row_timestamptz(row, 7, DT_NOBEGIN);
	run->data_interval_end = fp_row_timestamptz(row, 8, DT_NOBEGIN);
	run->has_conf = fp_row_bool(row, 9);
	run->backfill_id = fp_row_int64(row, 10);
	run->parent_run_id = fp_row_int64(row, 11);
	run->started_at = fp_row_timestamptz(row, 12, DT_NOBEGIN);
	pfree(run_type);
	pfree(state);
	return run;
}

static void
collect_run(const FpRow *row, void *arg)
{
	List	  **runs = arg;

	*runs = lappend(*runs, read_run(row));
}

static void
collect_backfill_run(const FpRow *row, void *arg)
{
	List	  **runs = arg;
	FpBackfillRunRow *result = palloc(sizeof(FpBackfillRunRow));

	result->run = read_run(row);
	result->ordinal = fp_row_int64(row, N_RUN_COLUMNS + 1);
	result->action = fp_row_text(row, N_RUN_COLUMNS + 2);
	*runs = lappend(*runs, result);
}

static void
collect_task_run(const FpRow *row, void *arg)
{
	List	  **rows = arg;
	FpTaskRunRow *result = palloc0(sizeof(FpTaskRunRow));
	char	   *state = fp_row_text(row, 4);

	result->task_id = fp_row_text(row, 1);
	result->map_index = fp_row_int32(row, 2);
	result->try_number = fp_row_int32(row, 3);
	result->state = fp_task_run_state_parse(state);
	result->failures = fp_row_int32(row, 5);
	result->crashes = fp_row_int32(row, 6);
	result->retry_at = fp_row_timestamptz(row, 7, DT_NOBEGIN);
	result->pages = fp_row_int64(row, 8);
	result->rows_written = fp_row_int64(row, 9);
	result->position = fp_row_text(row, 10);
	result->started_at = fp_row_timestamptz(row, 11, DT_NOBEGIN);
	*rows = lappend(*rows, result);
}

static Datum
text_array(List *strings)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(1, list_length(strings)));
	ListCell   *lc;
	int			n = 0;

	foreach(lc, strings)
		elements[n++] = fp_datum_text(lfirst(lc));
	return batch_array(elements, n, TEXTOID);
}

static Datum
batch_array(Datum *elements, int n, Oid type)
{
	ArrayType  *array;

	switch (type)
	{
		case TEXTOID:
			array = construct_array(elements, n, type, -1, false,
									TYPALIGN_INT);
			break;
		case INT4OID:
			array = construct_array(elements, n, type, sizeof(int32), true,
									TYPALIGN_INT);
			break;
		default:
			Assert(type == INT8OID);
			array = construct_array(elements, n, type, sizeof(int64),
									FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
			break;
	}
	return PointerGetDatum(array);
}

static void
read_text(const FpRow *row, void *arg)
{
	*(char **) arg = fp_row_text(row, 1);
}

static void
read_bool(const FpRow *row, void *arg)
{
	*(bool *) arg = fp_row_bool(row, 1);
}

static void
read_int64(const FpRow *row, void *arg)
{
	*(int64 *) arg = fp_row_int64(row, 1);
}
