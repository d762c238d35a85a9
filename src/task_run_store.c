/*-------------------------------------------------------------------------
 *
 * task_run_store.c
 *	  All SQL on task_run, attempt_history and bad_row.
 *
 * Called by the scheduler and by workers, always inside a transaction.  A
 * task_run holds its latest attempt; those before are in attempt_history.
 * Attempts are written in batches by the scheduler and ended one by one by
 * workers, each in the transaction that holds what the task did.
 *
 * The scheduler begins an attempt and commits that before a worker is told of
 * it, so there is a row for each attempt that may have done something.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "run_store.h"
#include "spi_util.h"
#include "store_args.h"
#include "task_run_store.h"

#define TASK_RUN_COLUMNS \
	"task_id, map_index, try_number, state, failures, crashes, retry_at, " \
	"pages, rows_written, position::text, started_at"

/* the arguments of add_batch */
#define BATCH_TYPES \
	INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID
#define UNNEST_BATCH \
	"unnest($1, $2, $3, $4, $5) " \
	"AS b(run_id, dag_id, task_id, map_index, try_number)"
#define IS_IN_BATCH \
	"t.run_id = b.run_id AND t.task_id = b.task_id " \
	"AND t.map_index = b.map_index"

/* rows of flow.task_run that are inserted into one page, about */
#define ROWS_PER_PAGE 20

/* the arguments of add_attempt */
#define ATTEMPT_TYPES INT8OID, TEXTOID, INT4OID, INT4OID
#define IS_OPEN_ATTEMPT \
	"run_id = $1 AND task_id = $2 AND map_index = $3 " \
	"AND try_number = $4 AND state = 'running'"

#define INSERT_HISTORY \
	"INSERT INTO flow.attempt_history (run_id, dag_id, task_id, map_index, " \
	"try_number, state, started_at, ended_at, worker_pid, sqlstate, message) "

#define STOPPED_MESSAGE "server stopped while the task was running"

static void append_task_run(const FpRow *row, void *arg);
static void spread_batch(const FpTaskRunBatch *batch, FpTaskRunBatch *spread);
static Datum *spread_values(const Datum *values, int n);
static void add_batch(FpStoreArgs *args, const FpTaskRunBatch *batch);
static void update_batch(FpStatement *statement, const FpStoreArgs *args,
						 const FpTaskRunBatch *batch);
static void add_attempt(FpStoreArgs *args, int64 run_id, const char *task_id,
						int map_index, int try_number);
static void update_open_attempt(FpStatement *statement,
								const FpStoreArgs *args, int64 run_id,
								const char *task_id, int try_number,
								const char *detail);


/* ---- reading ---- */

List *
fp_task_run_store_list(int64 run_id)
{
	static FpStatement statement = {
		"SELECT " TASK_RUN_COLUMNS " FROM flow.task_run WHERE run_id = $1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	FpStoreArgs args = {0};
	List	   *rows = NIL;

	fp_store_args_add_id(&args, run_id);
	fp_store_execute(&statement, &args, append_task_run, &rows);
	return rows;
}

FpTaskRunRow *
fp_task_run_store_get(int64 run_id, const char *task_id, int map_index)
{
	static FpStatement statement = {
		"SELECT " TASK_RUN_COLUMNS " FROM flow.task_run "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = $3",
		SPI_OK_SELECT, 3, {INT8OID, TEXTOID, INT4OID}
	};
	FpStoreArgs args = {0};
	List	   *rows = NIL;

	fp_store_args_add_id(&args, run_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_args_add_int(&args, map_index);
	fp_store_execute(&statement, &args, append_task_run, &rows);
	return rows != NIL ? linitial(rows) : NULL;
}

char *
fp_task_run_store_first_failure(int64 run_id)
{
	static FpStatement statement = {
		"SELECT 'task \"' || task_id || '\": ' || coalesce(message, 'failed') "
		"FROM flow.task_run WHERE run_id = $1 AND state = 'failed' "
		"ORDER BY ended_at, task_id LIMIT 1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	FpStoreArgs args = {0};
	char	   *message = NULL;

	fp_store_args_add_id(&args, run_id);
	fp_store_execute(&statement, &args, fp_store_keep_text, &message);
	return message;
}

List *
fp_task_run_store_branch_choice(int64 run_id, const char *task_id)
{
	static FpStatement statement = {
		"SELECT jsonb_array_elements_text(result) FROM flow.task_run "
		"WHERE run_id = $1 AND task_id = $2 AND map_index = -1 "
		"AND jsonb_typeof(result) = 'array'",
		SPI_OK_SELECT, 2, {INT8OID, TEXTOID}
	};
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_id(&args, run_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&statement, &args, fp_store_append_text, &result);
	return result;
}

bool
fp_task_run_store_is_past_met(const char *dag_id, TimestampTz logical_date,
							  int64 backfill_id, const char *task_id)
{
	static FpStatement statement = {
		"SELECT coalesce(t.state IN ('success', 'skipped'), false) "
		"OR (p.version IS NOT NULL AND NOT EXISTS "
		"(SELECT FROM flow.task_version v WHERE v.dag_id = p.dag_id "
		"AND v.version = p.version AND v.task_id = $4)) "
		"FROM (SELECT r.run_id, r.dag_id, r.version FROM flow.dag_run r "
		"WHERE r.dag_id = $1 AND r.logical_date < $2 "
		"AND " FP_STANDS_FOR_INTERVAL
		" ORDER BY r.logical_date DESC LIMIT 1) p "
		"LEFT JOIN flow.task_run t ON t.run_id = p.run_id "
		"AND t.task_id = $4 AND t.map_index = -1 "
		"WHERE $3 IS NULL OR EXISTS (SELECT FROM flow.backfill_run b "
		"JOIN flow.dag_run r USING (run_id) WHERE b.backfill_id = $3 "
		"AND r.dag_id = $1 AND r.logical_date < $2)",
		SPI_OK_SELECT, 4, {TEXTOID, TIMESTAMPTZOID, INT8OID, TEXTOID}
	};
	FpStoreArgs args = {0};
	bool		result = true;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, logical_date);
	fp_store_args_add_id(&args, backfill_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&statement, &args, fp_store_keep_bool, &result);
	return result;
}


/* ---- the scheduler's part ---- */

FpTaskRunBatch *
fp_task_run_store_new_batch(void)
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
fp_task_run_store_batch_add(FpTaskRunBatch *batch, int64 run_id,
							const char *dag_id, const char *task_id,
							int map_index, int try_number,
							FpTaskRunState state)
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

void
fp_task_run_store_record_first(const FpTaskRunBatch *batch, TimestampTz at)
{
	static FpStatement statement = {
		"INSERT INTO flow.task_run (run_id, dag_id, task_id, map_index, "
		"try_number, state, started_at) "
		"SELECT b.run_id, b.dag_id, b.task_id, b.map_index, b.try_number, "
		"'running', $6 FROM " UNNEST_BATCH,
		SPI_OK_INSERT, 6, {BATCH_TYPES, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};
	FpTaskRunBatch spread;

	if (batch->n == 0)
		return;
	spread_batch(batch, &spread);
	add_batch(&args, &spread);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, NULL, NULL);
}

void
fp_task_run_store_record_again(const FpTaskRunBatch *batch, TimestampTz at)
{
	/* what was the latest attempt becomes history; a cleared one is there */
	static FpStatement history_statement = {
		INSERT_HISTORY "SELECT t.run_id, t.dag_id, t.task_id, t.map_index, "
		"t.try_number, 'failed', t.started_at, t.ended_at, t.worker_pid, "
		"t.sqlstate, t.message "
		"FROM " UNNEST_BATCH " JOIN flow.task_run t "
		"USING (run_id, task_id, map_index) WHERE t.state IS NOT NULL "
		"ON CONFLICT DO NOTHING",
		SPI_OK_INSERT, 5, {BATCH_TYPES}
	};
	static FpStatement update_statement = {
		"UPDATE flow.task_run t SET try_number = b.try_number, "
		"state = 'running', started_at = $6, ended_at = NULL, message = NULL, "
		"sqlstate = NULL, worker_pid = NULL, retry_at = NULL, result = NULL "
		"FROM " UNNEST_BATCH " WHERE " IS_IN_BATCH,
		SPI_OK_UPDATE, 6, {BATCH_TYPES, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	if (batch->n == 0)
		return;
	add_batch(&args, batch);
	fp_store_execute(&history_statement, &args, NULL, NULL);
	fp_store_args_add_time(&args, at);
	update_batch(&update_statement, &args, batch);
}

void
fp_task_run_store_record_pokes(const FpTaskRunBatch *batch)
{
	static FpStatement statement = {
		"UPDATE flow.task_run t SET state = 'running', retry_at = NULL "
		"FROM " UNNEST_BATCH " WHERE " IS_IN_BATCH,
		SPI_OK_UPDATE, 5, {BATCH_TYPES}
	};
	FpStoreArgs args = {0};

	if (batch->n == 0)
		return;
	add_batch(&args, batch);
	update_batch(&statement, &args, batch);
}

void
fp_task_run_store_record_states(const FpTaskRunBatch *batch, TimestampTz at)
{
	static FpStatement statement = {
		"INSERT INTO flow.task_run AS t (run_id, dag_id, task_id, map_index, "
		"try_number, state, ended_at) "
		"SELECT b.run_id, b.dag_id, b.task_id, b.map_index, b.try_number, "
		"b.state, $7 FROM unnest($1, $2, $3, $4, $5, $6) "
		"AS b(run_id, dag_id, task_id, map_index, try_number, state) "
		"ON CONFLICT (run_id, task_id, map_index) DO UPDATE "
		"SET state = excluded.state, ended_at = excluded.ended_at, "
		"retry_at = NULL, "
		"sqlstate = CASE WHEN excluded.state IN ('success', 'skipped') "
		"THEN NULL ELSE t.sqlstate END, "
		"message = CASE WHEN excluded.state IN ('success', 'skipped') "
		"THEN NULL ELSE t.message END",
		SPI_OK_INSERT, 7, {BATCH_TYPES, TEXTARRAYOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	if (batch->n == 0)
		return;
	add_batch(&args, batch);
	fp_store_args_add_array(&args, batch->states, batch->n, TEXTOID);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, NULL, NULL);
}

/* $7: a crash; $8: max_crashes */
#define FAILS "$7 AND t.crashes + 1 >= $8"

void
fp_task_run_store_give_back(const FpTaskRunBatch *batch, bool is_crash,
							int max_crashes, TimestampTz at)
{
	static FpStatement history_statement = {
		INSERT_HISTORY "SELECT t.run_id, t.dag_id, t.task_id, t.map_index, "
		"t.try_number, 'failed', t.started_at, $6, t.worker_pid, '57P01', "
		"'" STOPPED_MESSAGE "' "
		"FROM " UNNEST_BATCH " JOIN flow.task_run t "
		"USING (run_id, task_id, map_index) WHERE NOT (" FAILS ") "
		"ON CONFLICT DO NOTHING",
		SPI_OK_INSERT, 8, {BATCH_TYPES, TIMESTAMPTZOID, BOOLOID, INT4OID}
	};
	static FpStatement update_statement = {
		"UPDATE flow.task_run t SET "
		"crashes = t.crashes + CASE WHEN $7 THEN 1 ELSE 0 END, "
		"state = CASE WHEN " FAILS " THEN 'failed' END, "
		"started_at = CASE WHEN " FAILS " THEN t.started_at END, "
		"ended_at = CASE WHEN " FAILS " THEN $6 END, "
		"sqlstate = CASE WHEN " FAILS " THEN '57P02' END, "
		"message = CASE WHEN " FAILS " "
		"THEN 'the server has crashed ' || (t.crashes + 1) || "
		"' times in a row while the task was running; it is not tried again' END "
		"FROM " UNNEST_BATCH " WHERE " IS_IN_BATCH,
		SPI_OK_UPDATE, 8, {BATCH_TYPES, TIMESTAMPTZOID, BOOLOID, INT4OID}
	};
	FpStoreArgs args = {0};

	if (batch->n == 0)
		return;
	add_batch(&args, batch);
	fp_store_args_add_time(&args, at);
	fp_store_args_add_bool(&args, is_crash);
	fp_store_args_add_int(&args, max_crashes);
	fp_store_execute(&history_statement, &args, NULL, NULL);
	fp_store_execute(&update_statement, &args, NULL, NULL);
}

bool
fp_task_run_store_fail_lost(int64 run_id, const char *task_id, int map_index,
							int try_number, FpTaskRunState state,
							TimestampTz retry_at, int worker_pid,
							const char *message, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET state = $5, ended_at = $6, retry_at = $7, "
		"worker_pid = $8, "
		"failures = failures + CASE WHEN $5 = 'cancelled' THEN 0 ELSE 1 END, "
		"crashes = 0, sqlstate = '57P01', message = $9 "
		"WHERE " IS_OPEN_ATTEMPT,
		SPI_OK_UPDATE, 9,
		{ATTEMPT_TYPES, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,
		TEXTOID}
	};
	FpStoreArgs args = {0};

	add_attempt(&args, run_id, task_id, map_index, try_number);
	fp_store_args_add_text(&args, fp_task_run_state_name(state));
	fp_store_args_add_time(&args, at);
	fp_store_args_add_optional_time(&args, retry_at);
	fp_store_args_add_int(&args, worker_pid);
	fp_store_args_add_text(&args, message);
	return fp_store_execute(&statement, &args, NULL, NULL) == 1;
}

int64
fp_task_run_store_clear(int64 run_id, List *task_ids)
{
	static FpStatement history_statement = {
		INSERT_HISTORY "SELECT run_id, dag_id, task_id, map_index, "
		"try_number, state, started_at, ended_at, worker_pid, sqlstate, "
		"message FROM flow.task_run WHERE run_id = $1 AND state IS NOT NULL "
		"AND try_number > 0 AND ($2 IS NULL OR task_id = ANY ($2)) "
		"ON CONFLICT DO NOTHING",
		SPI_OK_INSERT, 2, {INT8OID, TEXTARRAYOID}
	};
	static FpStatement update_statement = {
		"UPDATE flow.task_run SET state = NULL, started_at = NULL, "
		"ended_at = NULL, rows_written = 0, pages = 0, result = NULL, "
		"message = NULL, sqlstate = NULL, worker_pid = NULL, retry_at = NULL, "
		"failures = 0, crashes = 0, bad_rows = 0, "
		"position = CASE WHEN position ? 'start' "
		"THEN position - '{last,open,claimed}'::text[] END "
		"WHERE run_id = $1 AND ($2 IS NULL OR task_id = ANY ($2))",
		SPI_OK_UPDATE, 2, {INT8OID, TEXTARRAYOID}
	};
	static FpStatement bad_row_statement = {
		"DELETE FROM flow.bad_row WHERE run_id = $1 "
		"AND ($2 IS NULL OR task_id = ANY ($2))",
		SPI_OK_DELETE, 2, {INT8OID, TEXTARRAYOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, run_id);
	if (task_ids != NIL)
		fp_store_args_add_texts(&args, task_ids);
	else
		fp_store_args_add(&args, (Datum) 0, true);
	fp_store_execute(&history_statement, &args, NULL, NULL);
	fp_store_execute(&bad_row_statement, &args, NULL, NULL);
	return fp_store_execute(&update_statement, &args, NULL, NULL);
}

void
fp_task_run_store_remove(int64 run_id, List *task_ids)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET state = 'removed' "
		"WHERE run_id = $1 AND task_id = ANY ($2)",
		SPI_OK_UPDATE, 2, {INT8OID, TEXTARRAYOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, run_id);
	fp_store_args_add_texts(&args, task_ids);
	fp_store_execute(&statement, &args, NULL, NULL);
}


/* ---- the worker's part ---- */

void
fp_task_run_store_end_attempt(const FpAttemptEnd *end)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET state = $5, "
		"started_at = coalesce($6, started_at), ended_at = $7, "
		"rows_written = rows_written + $8, pages = pages + $9, "
		"result = $10::jsonb, sqlstate = $11, "
		"message = coalesce($12, CASE WHEN bad_rows > 0 AND $5 = 'success' "
		"THEN 'warning: ' || bad_rows || ' rows are kept in flow.bad_row' END), "
		"retry_at = $13, "
		"worker_pid = $14, failures = failures + $15, crashes = 0 "
		"WHERE " IS_OPEN_ATTEMPT,
		SPI_OK_UPDATE, 15,
		{ATTEMPT_TYPES, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
			INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID,
		INT4OID},
		.has_one_plan = true
	};
	FpStoreArgs args = {0};
	bool		is_failure = end->state == FP_TASK_RUN_FAILED ||
		end->state == FP_TASK_RUN_UP_FOR_RETRY;

	add_attempt(&args, end->run_id, end->task_id, end->map_index,
				end->try_number);
	fp_store_args_add_text(&args, fp_task_run_state_name(end->state));
	fp_store_args_add_optional_time(&args, end->started_at);
	fp_store_args_add_optional_time(&args, end->ended_at);
	fp_store_args_add_int64(&args, end->rows_written);
	fp_store_args_add_int64(&args, end->pages);
	fp_store_args_add_text(&args, end->result);
	fp_store_args_add_text(&args, end->sqlstate);
	fp_store_args_add_text(&args, end->message);
	fp_store_args_add_optional_time(&args, end->retry_at);
	fp_store_args_add_int(&args, MyProcPid);
	fp_store_args_add_int(&args, is_failure ? 1 : 0);
	update_open_attempt(&statement, &args, end->run_id, end->task_id,
						end->try_number,
						"What it has done is rolled back.");
}

void
fp_task_run_store_record_page(int64 run_id, const char *task_id,
							  int map_index, int try_number,
							  const FpPageRecord *page)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET pages = pages + $5, "
		"rows_written = rows_written + $6, bad_rows = bad_rows + $7, "
		"position = CASE WHEN $8 IS NULL THEN position "
		"ELSE coalesce(position, '{}') || $8::jsonb END, "
		"crashes = CASE WHEN $5 > 0 THEN 0 ELSE crashes END "
		"WHERE " IS_OPEN_ATTEMPT,
		SPI_OK_UPDATE, 8, {ATTEMPT_TYPES, INT8OID, INT8OID, INT8OID, TEXTOID},
		.has_one_plan = true
	};
	FpStoreArgs args = {0};

	add_attempt(&args, run_id, task_id, map_index, try_number);
	fp_store_args_add_int64(&args, page->pages);
	fp_store_args_add_int64(&args, page->rows_written);
	fp_store_args_add_int64(&args, page->bad_rows);
	fp_store_args_add_text(&args, page->position);
	update_open_attempt(&statement, &args, run_id, task_id, try_number,
						"The page is rolled back.");
}

void
fp_task_run_store_add_bad_row(const FpBadRow *row, TimestampTz at)
{
	static FpStatement statement = {
		"INSERT INTO flow.bad_row (run_id, task_id, map_index, try_number, "
		"dag_id, page, target, key, row_data, sqlstate, column_name, message, "
		"kept_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::jsonb, "
		"$10, $11, $12, $13)",
		SPI_OK_INSERT, 13,
		{ATTEMPT_TYPES, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	add_attempt(&args, row->run_id, row->task_id, row->map_index,
				row->try_number);
	fp_store_args_add_text(&args, row->dag_id);
	fp_store_args_add_int64(&args, row->page);
	fp_store_args_add_text(&args, row->target);
	fp_store_args_add_text(&args, row->key);
	fp_store_args_add_text(&args, row->data);
	fp_store_args_add_text(&args, row->sqlstate);
	fp_store_args_add_text(&args, row->column_name);
	fp_store_args_add_text(&args, row->message);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, NULL, NULL);
}

bool
fp_task_run_store_lock_position(int64 run_id, const char *task_id,
								int map_index, int try_number,
								char **position)
{
	static FpStatement statement = {
		"SELECT position::text FROM flow.task_run "
		"WHERE " IS_OPEN_ATTEMPT " FOR NO KEY UPDATE",
		SPI_OK_SELECT, 4, {ATTEMPT_TYPES}
	};
	FpStoreArgs args = {0};

	*position = NULL;
	add_attempt(&args, run_id, task_id, map_index, try_number);
	return fp_store_execute(&statement, &args, fp_store_keep_text,
							position) == 1;
}

void
fp_task_run_store_keep_position(int64 run_id, const char *task_id,
								int map_index, int try_number,
								const char *position)
{
	static FpStatement statement = {
		"UPDATE flow.task_run SET position = $5::jsonb "
		"WHERE " IS_OPEN_ATTEMPT,
		SPI_OK_UPDATE, 5, {ATTEMPT_TYPES, TEXTOID}
	};
	FpStoreArgs args = {0};

	add_attempt(&args, run_id, task_id, map_index, try_number);
	fp_store_args_add_text(&args, position);
	fp_store_execute(&statement, &args, NULL, NULL);
}


/* ---- helpers ---- */

/*
 * In the order of TASK_RUN_COLUMNS.
 */
static void
append_task_run(const FpRow *row, void *arg)
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

/*
 * $1 to $5, in the order of BATCH_TYPES.
 */
static void
add_batch(FpStoreArgs *args, const FpTaskRunBatch *batch)
{
	fp_store_args_add_array(args, batch->run_ids, batch->n, INT8OID);
	fp_store_args_add_array(args, batch->dag_ids, batch->n, TEXTOID);
	fp_store_args_add_array(args, batch->task_ids, batch->n, TEXTOID);
	fp_store_args_add_array(args, batch->map_indexes, batch->n, INT4OID);
	fp_store_args_add_array(args, batch->try_numbers, batch->n, INT4OID);
}

/*
 * The batch in another order.  Rows of attempts that are handed out next to
 * each other are updated by several workers at the same time; they are put so
 * far apart that they come to lie on different pages, as far as there are some,
 * for otherwise the workers wait for each other's lock on the page.
 */
static void
spread_batch(const FpTaskRunBatch *batch, FpTaskRunBatch *spread)
{
	*spread = *batch;
	spread->run_ids = spread_values(batch->run_ids, batch->n);
	spread->dag_ids = spread_values(batch->dag_ids, batch->n);
	spread->task_ids = spread_values(batch->task_ids, batch->n);
	spread->map_indexes = spread_values(batch->map_indexes, batch->n);
	spread->try_numbers = spread_values(batch->try_numbers, batch->n);
}

static Datum *
spread_values(const Datum *values, int n)
{
	Datum	   *result = palloc(sizeof(Datum) * n);
	int			npages = (n + ROWS_PER_PAGE - 1) / ROWS_PER_PAGE;
	int			at = 0;

	for (int page = 0; page < npages; page++)
	{
		for (int i = page; i < n; i += npages)
			result[at++] = values[i];
	}
	return result;
}

/*
 * Updates the row of each task run of a batch; ERROR where one is missing.
 */
static void
update_batch(FpStatement *statement, const FpStoreArgs *args,
			 const FpTaskRunBatch *batch)
{
	uint64		nrows = fp_store_execute(statement, args, NULL, NULL);

	if (nrows != (uint64) batch->n)
		elog(ERROR, "task_run rows are missing");
}

/*
 * $1 to $4, in the order of ATTEMPT_TYPES.
 */
static void
add_attempt(FpStoreArgs *args, int64 run_id, const char *task_id,
			int map_index, int try_number)
{
	fp_store_args_add_id(args, run_id);
	fp_store_args_add_text(args, task_id);
	fp_store_args_add_int(args, map_index);
	fp_store_args_add_int(args, try_number);
}

/*
 * Updates the attempt that the worker holds; ERROR where it is open no more,
 * as the scheduler has taken the worker for lost.  detail: what becomes of
 * the work.
 */
static void
update_open_attempt(FpStatement *statement, const FpStoreArgs *args,
					int64 run_id, const char *task_id, int try_number,
					const char *detail)
{
	if (fp_store_execute(statement, args, NULL, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("attempt %d of task \"%s\" in run " INT64_FORMAT " is no longer open",
						try_number, task_id, run_id),
				 errdetail("%s", detail)));
}
