/*-------------------------------------------------------------------------
 *
 * callback_store.c
 *	  All SQL on flow.callback: what a DAG does when a run has ended.
 *
 * queued with the run's end, running when the scheduler has handed it to a
 * worker, then success or failed.  The row outlives a stop of the server, so
 * the next scheduler finds the callbacks that are still owed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "callback_store.h"
#include "run_store.h"
#include "spi_util.h"
#include "store_args.h"

/* Where fp_callback_store_values puts the columns. */
typedef struct CallbackValues
{
	char	  **state;
	char	  **message;
	List	  **failed_tasks;
} CallbackValues;

static void append_callback(const FpRow *row, void *arg);
static void keep_values(const FpRow *row, void *arg);


int64
fp_callback_store_add(int64 run_id, FpRunState state, TimestampTz at)
{
	static FpStatement statement = {
		"INSERT INTO flow.callback (run_id, run_state, state, queued_at) "
		"VALUES ($1, $2, 'queued', $3) RETURNING callback_id",
		SPI_OK_INSERT_RETURNING, 3, {INT8OID, TEXTOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};
	int64		callback_id = 0;

	fp_store_args_add_id(&args, run_id);
	fp_store_args_add_text(&args, fp_run_state_name(state));
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, fp_store_keep_int64, &callback_id);
	return callback_id;
}

List *
fp_callback_store_list_open(void)
{
	static FpStatement statement = {
		"SELECT " FP_RUN_COLUMNS ", c.callback_id, c.run_state, c.try_number "
		"FROM flow.callback c JOIN flow.dag_run r USING (run_id) "
		"WHERE c.state IN ('queued', 'running') ORDER BY c.callback_id",
		SPI_OK_SELECT, 0, {0}
	};
	FpStoreArgs args = {0};
	List	   *callbacks = NIL;

	fp_store_execute(&statement, &args, append_callback, &callbacks);
	return callbacks;
}

void
fp_callback_store_try(int64 callback_id, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.callback SET state = 'running', started_at = $2, "
		"try_number = try_number + 1 WHERE callback_id = $1",
		SPI_OK_UPDATE, 2, {INT8OID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, callback_id);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, NULL, NULL);
}

int
fp_callback_store_tries(int64 callback_id)
{
	static FpStatement statement = {
		"SELECT try_number FROM flow.callback "
		"WHERE callback_id = $1 AND state = 'running'",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	FpStoreArgs args = {0};
	int64		ntries = 0;

	fp_store_args_add_id(&args, callback_id);
	fp_store_execute(&statement, &args, fp_store_keep_int64, &ntries);
	return (int) ntries;
}

void
fp_callback_store_end(int64 callback_id, const char *sqlstate,
					  const char *message, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.callback SET "
		"state = CASE WHEN $3 IS NULL THEN 'success' ELSE 'failed' END, "
		"sqlstate = $2, message = $3, ended_at = $4 "
		"WHERE callback_id = $1 AND state = 'running'",
		SPI_OK_UPDATE, 4, {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, callback_id);
	fp_store_args_add_text(&args, sqlstate);
	fp_store_args_add_text(&args, message);
	fp_store_args_add_time(&args, at);
	if (fp_store_execute(&statement, &args, NULL, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("callback " INT64_FORMAT " is no longer open",
						callback_id)));
}

void
fp_callback_store_values(int64 callback_id, char **state, char **message,
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
	FpStoreArgs args = {0};
	CallbackValues values = {state, message, failed_tasks};

	fp_store_args_add_id(&args, callback_id);
	fp_store_execute(&statement, &args, keep_values, &values);
}

static void
append_callback(const FpRow *row, void *arg)
{
	List	  **callbacks = arg;
	FpCallbackRow *callback = palloc(sizeof(FpCallbackRow));
	char	   *state = fp_row_text(row, FP_NUM_RUN_COLUMNS + 2);

	callback->run = fp_run_store_read(row);
	callback->callback_id = fp_row_int64(row, FP_NUM_RUN_COLUMNS + 1);
	callback->state = fp_run_state_parse(state);
	callback->ntries = fp_row_int32(row, FP_NUM_RUN_COLUMNS + 3);
	*callbacks = lappend(*callbacks, callback);
}

static void
keep_values(const FpRow *row, void *arg)
{
	CallbackValues *values = arg;

	*values->state = fp_row_text(row, 1);
	*values->message = fp_row_text(row, 2);
	*values->failed_tasks = fp_row_text_array(row, 3);
}
