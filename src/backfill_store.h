/*-------------------------------------------------------------------------
 *
 * backfill_store.h
 *	  All SQL on the backfill tables: backfill, backfill_run, and the dag_run
 *	  rows that a backfill inserts.
 *
 * Every function runs inside a transaction and opens its own owner scope.
 * Results are palloc'd in the current memory context.  A session inserts a
 * backfill and its runs; everything after that is the scheduler's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_BACKFILL_STORE_H
#define FLOWPG_BACKFILL_STORE_H

#include "nodes/pg_list.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "flowpg.h"

/* Life of a backfill; beside each state: those that may follow. */
typedef enum FpBackfillState
{
	FP_BACKFILL_QUEUED,			/* running, paused, cancelled */
	FP_BACKFILL_RUNNING,		/* paused, success, failed, cancelled */
	FP_BACKFILL_PAUSED,			/* queued, running, cancelled */
	FP_BACKFILL_SUCCESS,		/* - */
	FP_BACKFILL_FAILED,			/* - */
	FP_BACKFILL_CANCELLED		/* - */
} FpBackfillState;

extern const char *fp_backfill_state_name(FpBackfillState state);
extern bool fp_backfill_state_is_finished(FpBackfillState state);

/* What is done with intervals for which a finished run is there. */
typedef enum FpReprocess
{
	FP_REPROCESS_NONE,			/* nothing */
	FP_REPROCESS_FAILED,		/* failed tasks of failed runs, and what
								 * follows them, run again */
	FP_REPROCESS_COMPLETED		/* the whole run runs again */
} FpReprocess;

/* A row of flow.backfill. */
typedef struct FpBackfillRow
{
	int64		backfill_id;
	char	   *dag_id;
	FpBackfillState state;
	bool		has_dates;
	DateADT		from_date;		/* valid if has_dates */
	DateADT		to_date;
	TimestampTz from;			/* the span that it covers, [from, until) */
	TimestampTz until;
	FpReprocess reprocess;
	int			max_active_runs;	/* -1: as the DAG's */
	bool		run_backwards;
	bool		ignore_depends_on_past;
	bool		is_cascading;
	bool		stop_on_failure;
	const Interval *chunk;		/* NULL: one interval a run; insert only */
	char	   *run_window;		/* NULL: any time */
	int			priority;
	char	   *conf;			/* jsonb as text; NULL: an empty object */
	bool		is_of_own_transaction;	/* inserted by the current one, so
										 * that nobody else sees it yet */
} FpBackfillRow;

/*
 * Inserts a queued backfill and returns its backfill_id.  Of row,
 * backfill_id, state and is_of_own_transaction are not used.
 */
extern int64 fp_backfill_store_insert(const FpBackfillRow *row,
									  Oid requested_by,
									  TimestampTz created_at);

/* NULL: there is no such backfill */
extern FpBackfillRow *fp_backfill_store_get(int64 backfill_id);

/* those that have not ended, in order, as a List of FpBackfillRow * */
extern List *fp_backfill_store_unfinished(void);

/* scheduler: a backfill changes its state; ended_at is set where it ends */
extern void fp_backfill_store_set_state(int64 backfill_id,
										FpBackfillState state,
										TimestampTz at);

/* What a backfill does with one interval. */
typedef enum FpPlanAction
{
	FP_PLAN_CREATE,				/* no run stands for it: make one */
	FP_PLAN_FAILED,				/* rerun what failed in the one there */
	FP_PLAN_COMPLETED,			/* rerun the one there */
	FP_PLAN_CASCADE,			/* of a dependent DAG: make or rerun it */
	FP_PLAN_SKIP_EXISTS,		/* it has run and is not asked for again */
	FP_PLAN_SKIP_IN_PROGRESS	/* its run has not ended: left alone */
} FpPlanAction;

typedef struct FpPlannedRun
{
	const char *dag_id;
	TimestampTz start;			/* the interval */
	TimestampTz end;
	FpPlanAction action;
	int64		run_id;			/* the run that is there; 0: none */
	TimestampTz run_start;		/* what that run covers: more than the */
	TimestampTz run_end;		/* interval, if it was made by a chunk */
	int64		ordinal;		/* of its start in the backfill */
} FpPlannedRun;

/*
 * Makes what is planned the backfill's: inserts the queued runs that are
 * missing and the backfill_run rows, and returns how many.  Skips what is to
 * be skipped, and runs that another transaction has inserted meanwhile.  conf
 * (jsonb as text, or NULL) goes to the new runs of dag_id, not to those of
 * dependent DAGs.  The order of the List is not used; each run's ordinal is.
 */
extern int64 fp_backfill_store_add_runs(int64 backfill_id, const char *dag_id,
										List *planned_runs, const char *conf,
										TimestampTz queued_at);

/* How far a backfill is. */
typedef struct FpBackfillProgress
{
	char	   *state;
	int64		total;
	int64		success;
	int64		failed;
	int64		running;
	int64		pending;
	char	   *eta;			/* interval as text; NULL: not known */
	char	   *elapsed;		/* interval as text, since it was asked for */
} FpBackfillProgress;

/* false: there is no such backfill (any more) */
extern bool fp_backfill_store_progress(int64 backfill_id,
									   FpBackfillProgress *progress);

/* whether any task of the DAG depends on its own previous run */
extern bool fp_backfill_store_depends_on_past(const char *dag_id);

/* whether the run was inserted by the current transaction */
extern bool fp_backfill_store_is_new_run(int64 run_id);

#endif							/* FLOWPG_BACKFILL_STORE_H */
