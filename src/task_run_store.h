/*-------------------------------------------------------------------------
 *
 * task_run_store.h
 *	  All SQL on task_run, attempt_history and bad_row.
 *
 * Every function runs inside a transaction and opens its own owner scope, so
 * scheduler and workers call it alike.  Results are palloc'd in the current
 * memory context.  Who may write what: the scheduler writes all; a worker
 * updates the task_run of the attempt that it holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TASK_RUN_STORE_H
#define FLOWPG_TASK_RUN_STORE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "flowpg.h"

/* A row of flow.task_run, as far as the scheduler and workers need it. */
typedef struct FpTaskRunRow
{
	char	   *task_id;
	int			map_index;
	int			try_number;
	FpTaskRunState state;
	int			failures;
	int			crashes;
	TimestampTz retry_at;		/* DT_NOBEGIN: none */
	TimestampTz started_at;		/* DT_NOBEGIN: not begun */
	int64		pages;
	int64		rows_written;
	char	   *position;		/* jsonb as text, or NULL */
} FpTaskRunRow;

/* the task runs of a run, in no order, as a List of FpTaskRunRow * */
extern List *fp_task_run_store_list(int64 run_id);
/* NULL: no such row */
extern FpTaskRunRow *fp_task_run_store_get(int64 run_id, const char *task_id,
										   int map_index);

/* the first failed task of a run and its error, or NULL */
extern char *fp_task_run_store_first_failure(int64 run_id);

/* the task_ids that a branch has chosen, as a List of char * */
extern List *fp_task_run_store_branch_choice(int64 run_id,
											 const char *task_id);

/*
 * Whether the run before this one (by logical_date, among those that stand for
 * intervals) allows a task that depends on past: it is there not at all, or
 * its task has succeeded, was skipped, or was not yet a part of the DAG.  The
 * first run of a backfill is allowed.
 */
extern bool fp_task_run_store_is_past_met(const char *dag_id,
										  TimestampTz logical_date,
										  int64 backfill_id,
										  const char *task_id);

/*
 * The scheduler writes task runs in batches: arrays of the same length.
 */
typedef struct FpTaskRunBatch
{
	int			n;
	int			size;
	Datum	   *run_ids;		/* int8 */
	Datum	   *dag_ids;		/* text */
	Datum	   *task_ids;		/* text */
	Datum	   *map_indexes;	/* int4 */
	Datum	   *try_numbers;	/* int4 */
	Datum	   *states;			/* text; used by record_states only */
} FpTaskRunBatch;

extern FpTaskRunBatch *fp_task_run_store_new_batch(void);
extern void fp_task_run_store_batch_add(FpTaskRunBatch *batch, int64 run_id,
										const char *dag_id,
										const char *task_id,
										int map_index, int try_number,
										FpTaskRunState state);

/* attempts begin: of task runs that have no row, and of those that have one */
extern void fp_task_run_store_record_first(const FpTaskRunBatch *batch,
										   TimestampTz at);
extern void fp_task_run_store_record_again(const FpTaskRunBatch *batch,
										   TimestampTz at);
/* attempts that were rescheduled go on */
extern void fp_task_run_store_record_pokes(const FpTaskRunBatch *batch);
/* states that no worker brings about: skipped, upstream_failed, cancelled */
extern void fp_task_run_store_record_states(const FpTaskRunBatch *batch,
											TimestampTz at);

/*
 * Attempts that a server stop has ended, closed and given back: the attempt
 * goes to attempt_history as failed, the task run has not begun again.
 * Those that have been open in max_crashes crashes fail instead.
 */
extern void fp_task_run_store_give_back(const FpTaskRunBatch *batch,
										bool is_crash, int max_crashes,
										TimestampTz at);

/*
 * An attempt whose worker went away without a record: like a worker's own
 * fp_task_run_store_end_attempt; false where the worker had recorded its end.
 */
extern bool fp_task_run_store_fail_lost(int64 run_id, const char *task_id,
										int map_index, int try_number,
										FpTaskRunState state,
										TimestampTz retry_at, int worker_pid,
										const char *message, TimestampTz at);

/*
 * Clears task runs of a finished run, to run again: all, or those that
 * failed and what follows them (task_ids: a List of char *; NIL: all).  An
 * incremental upsert keeps what its pages began and ended with.
 * Returns how many.
 */
extern int64 fp_task_run_store_clear(int64 run_id, List *task_ids);

/* task runs whose task is no longer in the version that the run now has */
extern void fp_task_run_store_remove(int64 run_id, List *task_ids);

/*
 * The worker's part.  An attempt is fenced by try_number and state:
 * end_attempt and record_page must find the one that the worker holds open,
 * or raise an error.
 */
typedef struct FpAttemptEnd
{
	int64		run_id;
	const char *task_id;
	int			map_index;
	int			try_number;
	FpTaskRunState state;		/* success, failed, up_for_retry, cancelled */
	TimestampTz started_at;		/* DT_NOBEGIN: stays as it is */
	TimestampTz ended_at;		/* DT_NOBEGIN: the attempt goes on later */
	int64		rows_written;	/* of this attempt; added to the row's */
	int64		pages;			/* likewise */
	const char *result;			/* jsonb text, or NULL */
	const char *sqlstate;		/* NULL: none */
	const char *message;		/* NULL: none */
	TimestampTz retry_at;		/* DT_NOBEGIN: none */
} FpAttemptEnd;

extern void fp_task_run_store_end_attempt(const FpAttemptEnd *end);

/* What a page adds to the row. */
typedef struct FpPageRecord
{
	int64		pages;
	int64		rows_written;
	int64		bad_rows;
	const char *position;		/* jsonb text, an object whose fields are set
								 * in the row's; NULL: it stays */

	/* not recorded, but shown while it runs; about so many */
	int64		rows_read;
	int64		rows_expected;	/* in all; 0: not known */
} FpPageRecord;

extern void fp_task_run_store_record_page(int64 run_id, const char *task_id,
										  int map_index, int try_number,
										  const FpPageRecord *page);

/*
 * The position of an attempt, jsonb as text, locked until the transaction
 * ends, so that workers who share it take turns.  False: the attempt is open
 * no more.
 */
extern bool fp_task_run_store_lock_position(int64 run_id,
											const char *task_id,
											int map_index, int try_number,
											char **position);

/* A row that could not be written, for flow.bad_row. */
typedef struct FpBadRow
{
	int64		run_id;
	const char *dag_id;
	const char *task_id;
	int			map_index;
	int			try_number;
	int64		page;
	const char *target;
	const char *key;			/* jsonb text */
	const char *data;			/* jsonb text; NULL: it cannot be read either */
	const char *sqlstate;
	const char *column_name;	/* NULL: not known */
	const char *message;
} FpBadRow;

extern void fp_task_run_store_add_bad_row(const FpBadRow *row,
										  TimestampTz at);

/* a task's run_id in task_run.position: see flow_add_trigger */
extern void fp_task_run_store_keep_position(int64 run_id, const char *task_id,
											int map_index, int try_number,
											const char *position);

#endif							/* FLOWPG_TASK_RUN_STORE_H */
