/*-------------------------------------------------------------------------
 *
 * history_store.c
 *	  Old runs and what belongs to them, in the tables.
 *
 * Runs in the scheduler, which forgets them in small steps (history.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "flowpg.h"
#include "history_store.h"
#include "store_args.h"

/* What is looked for, and what has been found. */
typedef struct Look
{
	FpHistoryWindow *window;
	TimestampTz before;
	int			max_old;
} Look;

static void look_at_run(const FpRow *row, void *arg);
static void keep_earlier(const FpRow *row, void *arg);

/* rows of one table; LIMIT has no DELETE of its own */
#define FORGET_PARTS(table) \
	{ \
		"DELETE FROM flow." table " WHERE ctid = ANY (ARRAY(" \
		"SELECT ctid FROM flow." table " WHERE run_id = ANY ($1) LIMIT $2))", \
		SPI_OK_DELETE, 2, {INT8ARRAYOID, INT4OID} \
	}


/*
 * No index is on ended_at, for it changes with the state; so all runs are gone
 * through along the primary key.
 */
void
fp_history_store_look(int64 after, int max_runs, int max_old,
					  TimestampTz before, FpHistoryWindow *window)
{
	static FpStatement statement = {
		"SELECT run_id, "
		"CASE WHEN state IN ('success', 'failed', 'cancelled') THEN ended_at END "
		"FROM flow.dag_run WHERE run_id > $1 ORDER BY run_id LIMIT $2",
		SPI_OK_SELECT, 2, {INT8OID, INT4OID}
	};
	FpStoreArgs args = {0};
	Look		look = {window, before, max_old};

	window->last = 0;
	window->nold = 0;
	window->old = palloc(sizeof(Datum) * max_old);
	window->oldest = DT_NOEND;
	fp_store_args_add_int64(&args, after);
	fp_store_args_add_int(&args, max_runs);
	fp_store_execute(&statement, &args, look_at_run, &look);
}

bool
fp_history_store_forget_parts(const FpHistoryWindow *window, int max_rows)
{
	static FpStatement statements[] = {
		FORGET_PARTS("task_run"),
		FORGET_PARTS("attempt_history"),
		FORGET_PARTS("bad_row"),
		FORGET_PARTS("callback"),
		FORGET_PARTS("backfill_run"),
	};
	FpStoreArgs args = {0};

	fp_store_args_add_array(&args, window->old, window->nold, INT8OID);
	fp_store_args_add_int(&args, max_rows);
	for (int i = 0; i < lengthof(statements); i++)
	{
		if (fp_store_execute(&statements[i], &args, NULL, NULL) >= (uint64) max_rows)
			return false;
	}
	return true;
}

void
fp_history_store_forget_runs(const FpHistoryWindow *window)
{
	static FpStatement statement = {
		"DELETE FROM flow.dag_run WHERE run_id = ANY ($1)",
		SPI_OK_DELETE, 1, {INT8ARRAYOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_array(&args, window->old, window->nold, INT8OID);
	fp_store_execute(&statement, &args, NULL, NULL);
}

bool
fp_history_store_forget_rest(TimestampTz before, int max_rows,
							 TimestampTz *oldest)
{
	static FpStatement log_statement = {
		"DELETE FROM flow.dag_log WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM flow.dag_log WHERE completion_datetime < $1 LIMIT $2))",
		SPI_OK_DELETE, 2, {TIMESTAMPTZOID, INT4OID}
	};
	static FpStatement oldest_statement = {
		"SELECT min(completion_datetime) FROM flow.dag_log",
		SPI_OK_SELECT, 0, {0}
	};

	/* what no run that is left refers to */
	static FpStatement other_statements[] = {
		{
			"DELETE FROM flow.backfill b WHERE b.ended_at < $1 AND NOT EXISTS "
			"(SELECT FROM flow.backfill_run r "
			"WHERE r.backfill_id = b.backfill_id)",
			SPI_OK_DELETE, 1, {TIMESTAMPTZOID}
		},
		{
			"WITH old AS (DELETE FROM flow.dag_version v "
			"WHERE v.created_at < $1 "
			"AND NOT EXISTS (SELECT FROM flow.dag_run r "
			"WHERE r.dag_id = v.dag_id AND r.version = v.version) "
			"AND NOT EXISTS (SELECT FROM flow.dag d "
			"WHERE d.dag_id = v.dag_id AND d.version = v.version) "
			"RETURNING v.dag_id, v.version) "
			"DELETE FROM flow.task_version t USING old "
			"WHERE t.dag_id = old.dag_id AND t.version = old.version",
			SPI_OK_DELETE, 1, {TIMESTAMPTZOID}
		},
		{
			"DELETE FROM flow.dropped_dag x WHERE x.dropped_at < $1 AND NOT EXISTS "
			"(SELECT FROM flow.dag_run r WHERE r.dag_id = x.dag_id) AND NOT EXISTS "
			"(SELECT FROM flow.dag_version v WHERE v.dag_id = x.dag_id) AND NOT EXISTS "
			"(SELECT FROM flow.backfill b WHERE b.dag_id = x.dag_id)",
			SPI_OK_DELETE, 1, {TIMESTAMPTZOID}
		},
	};
	FpStoreArgs args = {0};
	FpStoreArgs none = {0};

	fp_store_args_add_time(&args, before);
	fp_store_args_add_int(&args, max_rows);
	if (fp_store_execute(&log_statement, &args, NULL, NULL) >= (uint64) max_rows)
		return false;

	args.n--;
	for (int i = 0; i < lengthof(other_statements); i++)
		fp_store_execute(&other_statements[i], &args, NULL, NULL);
	fp_store_execute(&oldest_statement, &none, keep_earlier, oldest);
	return true;
}

/*
 * Row callback; arg is a Look.
 */
static void
look_at_run(const FpRow *row, void *arg)
{
	Look	   *look = arg;
	FpHistoryWindow *window = look->window;
	TimestampTz ended_at = fp_row_timestamptz(row, 2, DT_NOEND);

	if (window->nold == look->max_old)
		return;
	window->last = fp_row_int64(row, 1);
	if (ended_at < look->before)
		window->old[window->nold++] = Int64GetDatum(window->last);
	else
		window->oldest = Min(window->oldest, ended_at);
}

/*
 * Row callback; arg is a TimestampTz.
 */
static void
keep_earlier(const FpRow *row, void *arg)
{
	TimestampTz *oldest = arg;

	*oldest = Min(*oldest, fp_row_timestamptz(row, 1, DT_NOEND));
}
