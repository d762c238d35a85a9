/*-------------------------------------------------------------------------
 *
 * run_store.c
 *	  All SQL on dag_run but for the removal of old runs (history_store.c).
 *
 * Called by sessions, the scheduler and workers, always inside a transaction.
 * Rows are reached by primary key, or by (dag_id, logical_date); only the
 * start of a scheduler reads all of dag_run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "run_store.h"
#include "spi_util.h"
#include "store_args.h"
#include "task_run_store.h"

static void start_args(FpStoreArgs *args, int64 run_id, int version,
					   TimestampTz at);
static void collect_run(const FpRow *row, void *arg);
static void collect_backfill_run(const FpRow *row, void *arg);


/* ---- runs ---- */

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
	FpStoreArgs args = {0};
	int64		run_id = 0;

	fp_store_args_add_text(&args, row->dag_id);
	fp_store_args_add_text(&args, fp_run_type_name(row->run_type));
	fp_store_args_add_time(&args, row->logical_date);
	fp_store_args_add_time(&args, row->data_interval_start);
	fp_store_args_add_time(&args, row->data_interval_end);
	fp_store_args_add_text(&args, conf != NULL ? conf : "{}");
	fp_store_args_add_time(&args, queued_at);
	fp_store_args_add_id(&args, row->backfill_id);
	fp_store_args_add_id(&args, row->parent_run_id);
	fp_store_execute(&statement, &args, fp_store_keep_int64, &run_id);
	return run_id;
}

bool
fp_run_store_take_over(FpRunRow *row, TimestampTz queued_at)
{
	/* its version stays: a run that has one is taken to have task rows */
	static FpStatement statement = {
		"UPDATE flow.dag_run r SET run_type = $3, data_interval_start = $2, "
		"data_interval_end = $4, state = 'queued', "
		"queued_at = $5, started_at = NULL, ended_at = NULL, "
		"backfill_id = NULL, message = NULL, conf = '{}' "
		"WHERE dag_id = $1 AND logical_date = $2 "
		"AND " FP_STANDS_FOR_INTERVAL " "
		"AND state IN ('success', 'failed', 'cancelled') "
		"AND EXISTS (SELECT FROM flow.dag d WHERE d.dag_id = $1 "
		"AND (r.run_id <= d.after_run_id OR r.version < d.first_version)) "
		"RETURNING run_id",
		SPI_OK_UPDATE_RETURNING, 5,
		{TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};
	FpRunRow   *taken;
	int64		run_id = 0;

	fp_store_args_add_text(&args, row->dag_id);
	fp_store_args_add_time(&args, row->logical_date);
	fp_store_args_add_text(&args, fp_run_type_name(row->run_type));
	fp_store_args_add_time(&args, row->data_interval_end);
	fp_store_args_add_time(&args, queued_at);
	fp_store_execute(&statement, &args, fp_store_keep_int64, &run_id);
	if (run_id == 0)
		return false;
	(void) fp_task_run_store_clear(run_id, NIL);
	taken = fp_run_store_get(run_id);
	row->run_id = run_id;
	row->version = taken->version;
	row->has_rows = taken->has_rows;
	return true;
}

FpRunRow *
fp_run_store_get(int64 run_id)
{
	static FpStatement statement = {
		"SELECT " FP_RUN_COLUMNS " FROM flow.dag_run r WHERE r.run_id = $1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	FpStoreArgs args = {0};
	List	   *runs = NIL;

	fp_store_args_add_id(&args, run_id);
	fp_store_execute(&statement, &args, collect_run, &runs);
	return runs != NIL ? linitial(runs) : NULL;
}

char *
fp_run_store_conf(int64 run_id)
{
	static FpStatement statement = {
		"SELECT conf::text FROM flow.dag_run WHERE run_id = $1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	FpStoreArgs args = {0};
	char	   *conf = NULL;

	fp_store_args_add_id(&args, run_id);
	fp_store_execute(&statement, &args, fp_store_keep_text, &conf);
	return conf;
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
		"SELECT " FP_RUN_COLUMNS " FROM flow.dag_run r "
		"WHERE r.dag_id = $1 AND " FP_STANDS_FOR_INTERVAL
		" AND r.logical_date < $3 "
		"AND (r.logical_date >= $2 OR r.data_interval_end > $2) "
		"ORDER BY r.logical_date, r.run_id",
		SPI_OK_SELECT, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};
	List	   *runs = NIL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, from);
	fp_store_args_add_time(&args, until);
	fp_store_execute(&statement, &args, collect_run, &runs);
	return runs;
}

List *
fp_run_store_unfinished(void)
{
	static FpStatement statement = {
		"SELECT " FP_RUN_COLUMNS " FROM flow.dag_run r "
		"WHERE r.state = 'queued' OR r.state = 'running' ORDER BY r.run_id",
		SPI_OK_SELECT, 0, {0}
	};
	FpStoreArgs args = {0};
	List	   *runs = NIL;

	fp_store_execute(&statement, &args, collect_run, &runs);
	return runs;
}

List *
fp_run_store_of_backfill(int64 backfill_id)
{
	static FpStatement statement = {
		"SELECT " FP_RUN_COLUMNS ", b.ordinal, b.action "
		"FROM flow.backfill_run b JOIN flow.dag_run r USING (run_id) "
		"WHERE b.backfill_id = $1 ORDER BY b.ordinal, b.run_id",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	FpStoreArgs args = {0};
	List	   *runs = NIL;

	fp_store_args_add_id(&args, backfill_id);
	fp_store_execute(&statement, &args, collect_backfill_run, &runs);
	return runs;
}

List *
fp_run_store_succeeded_since(const char *dag_id, TimestampTz since)
{
	static FpStatement statement = {
		"SELECT " FP_RUN_COLUMNS " FROM flow.dag_run r "
		"WHERE r.dag_id = $1 AND r.state = 'success' AND r.ended_at >= $2 "
		"ORDER BY r.logical_date, r.run_id",
		SPI_OK_SELECT, 2, {TEXTOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};
	List	   *runs = NIL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, since);
	fp_store_execute(&statement, &args, collect_run, &runs);
	return runs;
}

#define START_RUN \
	"UPDATE flow.dag_run SET state = 'running', version = $2, " \
	"started_at = $3, ended_at = NULL, message = NULL WHERE run_id = $1"

void
fp_run_store_start(int64 run_id, int version, TimestampTz at)
{
	static FpStatement statement = {
		START_RUN,
		SPI_OK_UPDATE, 3, {INT8OID, INT4OID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	start_args(&args, run_id, version, at);
	fp_store_execute(&statement, &args, NULL, NULL);
}

bool
fp_run_store_start_if_kept(int64 run_id, const char *dag_id, int version,
						   TimestampTz at)
{
	static FpStatement statement = {
		START_RUN " AND EXISTS (SELECT FROM flow.dag_version "
		"WHERE dag_id = $4 AND version = $2)",
		SPI_OK_UPDATE, 4, {INT8OID, INT4OID, TIMESTAMPTZOID, TEXTOID}
	};
	FpStoreArgs args = {0};

	start_args(&args, run_id, version, at);
	fp_store_args_add_text(&args, dag_id);
	return fp_store_execute(&statement, &args, NULL, NULL) > 0;
}

static void
start_args(FpStoreArgs *args, int64 run_id, int version, TimestampTz at)
{
	fp_store_args_add_id(args, run_id);
	fp_store_args_add_int(args, version);
	fp_store_args_add_time(args, at);
}

void
fp_run_store_note_cancelling(int64 run_id)
{
	static FpStatement statement = {
		"UPDATE flow.dag_run SET is_cancelling = true WHERE run_id = $1",
		SPI_OK_UPDATE, 1, {INT8OID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, run_id);
	fp_store_execute(&statement, &args, NULL, NULL);
}

void
fp_run_store_end(int64 run_id, FpRunState state, const char *message,
				 TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.dag_run SET state = $2, message = $3, ended_at = $4, "
		"is_cancelling = false WHERE run_id = $1",
		SPI_OK_UPDATE, 4, {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, run_id);
	fp_store_args_add_text(&args, fp_run_state_name(state));
	fp_store_args_add_text(&args, message);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, NULL, NULL);
}

void
fp_run_store_requeue(int64 run_id, int64 backfill_id, TimestampTz at)
{
	static FpStatement statement = {
		"UPDATE flow.dag_run SET state = 'queued', queued_at = $3, "
		"started_at = NULL, ended_at = NULL, message = NULL, "
		"backfill_id = $2 WHERE run_id = $1",
		SPI_OK_UPDATE, 3, {INT8OID, INT8OID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, run_id);
	fp_store_args_add_id(&args, backfill_id);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&statement, &args, NULL, NULL);
}


/* ---- rows ---- */

/*
 * A row that begins with FP_RUN_COLUMNS.
 */
FpRunRow *
fp_run_store_read(const FpRow *row)
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
	run->is_cancelling = fp_row_bool(row, 13);
	run->has_rows = fp_row_bool(row, 14);
	pfree(run_type);
	pfree(state);
	return run;
}

static void
collect_run(const FpRow *row, void *arg)
{
	List	  **runs = arg;

	*runs = lappend(*runs, fp_run_store_read(row));
}

static void
collect_backfill_run(const FpRow *row, void *arg)
{
	List	  **runs = arg;
	FpBackfillRunRow *result = palloc(sizeof(FpBackfillRunRow));

	result->run = fp_run_store_read(row);
	result->ordinal = fp_row_int64(row, FP_NUM_RUN_COLUMNS + 1);
	result->action = fp_row_text(row, FP_NUM_RUN_COLUMNS + 2);
	*runs = lappend(*runs, result);
}
