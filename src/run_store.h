/*-------------------------------------------------------------------------
 *
 * run_store.h
 *	  All SQL on the run tables: dag_run, task_run, attempt_history,
 *	  dag_version, task_version, coverage, dag_log.
 *
 * Every function runs inside a transaction and opens its own owner scope, so
 * sessions, scheduler and workers call it alike.  Results are palloc'd in the
 * current memory context.  Who may write what: sessions insert dag_run rows
 * and nothing else; the scheduler writes all; a worker updates the task_run
 * of the attempt that it holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RUN_STORE_H
#define FLOWPG_RUN_STORE_H

#include "nodes/pg_list.h"
#include "utils/date.h"

#include "flowpg.h"

/* A row of flow.dag_run. */
typedef struct FpRunRow
{
	int64		run_id;
	char	   *dag_id;
	int			version;		/* 0: not started */
	FpRunType	run_type;
	FpRunState	state;
	TimestampTz logical_date;
	TimestampTz data_interval_start;
	TimestampTz data_interval_end;
	TimestampTz started_at;		/* DT_NOBEGIN: not started */
	bool		has_conf;		/* conf is not an empty object */
	int64		backfill_id;	/* 0: none */
	int64		parent_run_id;	/* 0: none */
} FpRunRow;

/*
 * Inserts a queued run and returns its run_id; 0 where a run that stands for
 * this interval (same dag_id and logical_date, not manual, no parent) is
 * there already.  conf: jsonb as text, NULL is an empty object.  The run_id
 * field of row is not used; its state is FP_RUN_QUEUED.
 */
extern int64 fp_run_store_insert(const FpRunRow *row, const char *conf,
								 TimestampTz queued_at);

/* NULL: no such run */
extern FpRunRow *fp_run_store_get(int64 run_id);

/*
 * The runs of a DAG that stand for intervals (not manual ones, none with a
 * parent) whose data interval overlaps or starts in [from, until), in order of
 * logical_date, as a List of FpRunRow *.
 */
extern List *fp_run_store_between(const char *dag_id, TimestampTz from,
								  TimestampTz until);

/* every queued or running run, as a List of FpRunRow * (a scan: at start only) */
extern List *fp_run_store_unfinished(void);

/* A run's place in a backfill. */
typedef struct FpBackfillRunRow
{
	FpRunRow   *run;
	int64		ordinal;
	char	   *action;			/* create, failed, completed, cascade */
} FpBackfillRunRow;

/* the runs of a backfill in order, as a List of FpBackfillRunRow * */
extern List *fp_run_store_of_backfill(int64 backfill_id);

/* the successful runs of a DAG that ended since a real time */
extern List *fp_run_store_succeeded_since(const char *dag_id,
										  TimestampTz since);

/* scheduler: a run starts, ends, or goes back to the queue */
extern void fp_run_store_start(int64 run_id, int version, TimestampTz at);
extern void fp_run_store_end(int64 run_id, FpRunState state,
							 const char *message, TimestampTz at);
extern void fp_run_store_requeue(int64 run_id, int64 backfill_id,
								 TimestampTz at);

/* the first failed task of a run and its error, or NULL */
extern char *fp_run_store_first_failure(int64 run_id);

/*
 * Versions.  fp_run_store_keep_version writes the definition as it is now
 * under its version, if that has not been done yet.
 */
typedef struct FpDagVersionRow
{
	int64		dagrun_timeout; /* us; 0: none */
	bool		has_on_success;
	bool		has_on_failure;
} FpDagVersionRow;

extern void fp_run_store_dag_version(const char *dag_id, int version,
									 FpDagVersionRow *row);

typedef struct FpTaskVersionRow
{
	char	   *task_id;
	char	   *operator;
	char	   *trigger_rule;
	List	   *upstream;		/* char * */
	int			retries;
	int64		retry_delay;	/* us */
	bool		has_backoff;
	int64		max_retry_delay;	/* us; 0: none */
	int64		execution_timeout;	/* us; 0: none */
	char	   *pool;
	int			pool_slots;
	int			priority_weight;
	bool		depends_on_past;
} FpTaskVersionRow;

extern void fp_run_store_keep_version(const char *dag_id, int version,
									  TimestampTz at);
extern List *fp_run_store_version_tasks(const char *dag_id, int version);

/* What a worker must know of a task to run it. */
typedef struct FpTaskCommand
{
	char	   *operator;
	char	   *params;			/* jsonb as text */
	char	   *command;		/* params ->> 'command', or NULL */
	bool		in_transaction;
	char	   *timezone;
	char	   *search_path;
} FpTaskCommand;

extern FpTaskCommand *fp_run_store_task_command(const char *dag_id,
												int version,
												const char *task_id);
/* on_success or on_failure of a version, by the state of the run */
extern FpTaskCommand *fp_run_store_callback_command(const char *dag_id,
													int version,
													FpRunState state);
/* a run's conf as jsonb text */
extern char *fp_run_store_conf(int64 run_id);

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

extern List *fp_run_store_task_runs(int64 run_id);
/* NULL: no such row */
extern FpTaskRunRow *fp_run_store_task_run(int64 run_id, const char *task_id,
										   int map_index);

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

extern FpTaskRunBatch *fp_run_store_new_batch(void);
extern void fp_run_store_batch_add(FpTaskRunBatch *batch, int64 run_id,
								   const char *dag_id, const char *task_id,
								   int map_index, int try_number,
								   FpTaskRunState state);

/* attempts begin: of task runs that have no row, and of those that have one */
extern void fp_run_store_record_first(const FpTaskRunBatch *batch,
									  TimestampTz at);
extern void fp_run_store_record_again(const FpTaskRunBatch *batch,
									  TimestampTz at);
/* attempts that were rescheduled go on */
extern void fp_run_store_record_pokes(const FpTaskRunBatch *batch);
/* states that no worker brings about: skipped, upstream_failed, cancelled */
extern void fp_run_store_record_states(const FpTaskRunBatch *batch,
									   TimestampTz at);

/*
 * Attempts that a server stop has ended, closed and given back: the attempt
 * goes to attempt_history as failed, the task run has not begun again.
 * Those that have been open in max_crashes crashes fail instead.
 */
extern void fp_run_store_give_back(const FpTaskRunBatch *batch,
								   bool is_crash, int max_crashes,
								   TimestampTz at);

/*
 * An attempt whose worker went away without a record: like a worker's own
 * fp_run_store_fail_attempt; false where the worker had recorded its end.
 */
extern bool fp_run_store_fail_lost(int64 run_id, const char *task_id,
								   int map_index, int try_number,
								   FpTaskRunState state, TimestampTz retry_at,
								   int worker_pid, const char *message,
								   TimestampTz at);

/*
 * Clears task runs of a finished run, to run again: all, or those that
 * failed and what follows them (task_ids: a List of char *; NIL: all).
 * Returns how many.
 */
extern int64 fp_run_store_clear(int64 run_id, List *task_ids);

/* task runs whose task is no longer in the version that the run now has */
extern void fp_run_store_remove(int64 run_id, List *task_ids);

/*
 * The worker's part.  Each must find the attempt that the worker holds, open,
 * or raises an error: it is fenced by try_number and state.
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

extern void fp_run_store_end_attempt(const FpAttemptEnd *end);
extern void fp_run_store_record_page(int64 run_id, const char *task_id,
									 int map_index, int try_number,
									 int64 pages, int64 rows_written,
									 const char *position);

/* ERROR where a branch names what is not directly downstream of it */
extern void fp_run_store_check_downstream(const char *dag_id, int version,
										  const char *task_id,
										  List *task_ids);

/* the task_ids that a branch has chosen, as a List of char * */
extern List *fp_run_store_branch_choice(int64 run_id, const char *task_id);

/* a task's run_id in task_run.position: see flow_add_trigger */
extern void fp_run_store_keep_position(int64 run_id, const char *task_id,
									   int map_index, int try_number,
									   const char *position);

/*
 * Whether the run before this one (by logical_date, among those that stand for
 * intervals) allows a task that depends on past: it is there not at all, or
 * its task has succeeded, was skipped, or was not yet a part of the DAG.  The
 * first run of a backfill is allowed.
 */
extern bool fp_run_store_is_past_met(const char *dag_id,
									 TimestampTz logical_date,
									 int64 backfill_id, const char *task_id);

/*
 * Callbacks of ended runs: noted with the run's end, closed by the worker
 * that has run them.
 */
typedef struct FpCallbackRow
{
	int64		callback_id;
	FpRunRow   *run;
	FpRunState	state;			/* that the run had when it ended */
	int			ntries;
} FpCallbackRow;

extern int64 fp_run_store_add_callback(int64 run_id, FpRunState state,
									   TimestampTz at);
extern List *fp_run_store_open_callbacks(void);
extern void fp_run_store_try_callback(int64 callback_id, TimestampTz at);
/* message NULL: it has succeeded; ERROR: it is not open */
extern void fp_run_store_end_callback(int64 callback_id, const char *sqlstate,
									  const char *message, TimestampTz at);
/* the state of the run, its message and its failed tasks, for run.* */
extern void fp_run_store_callback_values(int64 callback_id, char **state,
										 char **message, List **failed_tasks);

/*
 * Forgets finished runs that ended before a time, with all that belongs to
 * them, a bounded number at a time.  Returns how many.
 */
extern int64 fp_run_store_purge(TimestampTz before, int limit);

/* coverage and dag_log */
extern void fp_run_store_cover(const char *dag_id, TimestampTz from,
							   TimestampTz until);
extern void fp_run_store_uncover(const char *dag_id, TimestampTz from,
								 TimestampTz until);
extern bool fp_run_store_is_covered(const char *dag_id, TimestampTz from,
									TimestampTz until);
extern void fp_run_store_log(const char *dag_id, DateADT date,
							 TimestampTz at, int64 run_id);
/*
 * Whether dag_log has a row for the date whose word counts for a DAG of this
 * owner.
 */
extern bool fp_run_store_has_word(const char *dag_id, DateADT date,
								  Oid tobe_owner);

/*
 * The server and database that the definitions are at home in.  Returns
 * whether the last scheduler of the database stopped in an orderly way, and
 * notes that one is now running.
 */
extern bool fp_run_store_begin_instance(void);
extern void fp_run_store_end_instance(void);

#endif							/* FLOWPG_RUN_STORE_H */
