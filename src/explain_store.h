/*-------------------------------------------------------------------------
 *
 * explain_store.h
 *	  SQL that tells why something has not started, beside run_store.h.
 *
 * Reads only.  Every function runs inside a transaction and opens its own
 * owner scope.  Results are palloc'd in the current memory context.  Rights
 * are the caller's business.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_EXPLAIN_STORE_H
#define FLOWPG_EXPLAIN_STORE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "flowpg.h"

/* The runs of a DAG that have not ended, as Lists of FpRunRow *. */
typedef struct FpUnfinishedRuns
{
	List	   *running;
	List	   *queued;			/* the first ones only */
	int64		nqueued;
} FpUnfinishedRuns;

/* both in order of time, at most so many queued ones */
extern void fp_explain_store_unfinished(const char *dag_id, int limit,
										FpUnfinishedRuns *result);

/* A task of a run that has started, and how far it is. */
typedef struct FpTaskProgress
{
	char	   *task_id;
	FpOperator	operator;
	char	   *trigger_rule;
	List	   *upstream;		/* char * */
	char	   *pool;
	int			pool_slots;
	bool		depends_on_past;
	FpTaskRunState state;		/* FP_TASK_RUN_NONE: not begun */
	TimestampTz retry_at;		/* DT_NOBEGIN: none */
	char	   *message;		/* NULL: none */
	char	   *position;		/* jsonb as text; NULL: none */
	int			crashes;
} FpTaskProgress;

/* in the order of their names, as a List of FpTaskProgress * */
extern List *fp_explain_store_tasks(int64 run_id, const char *dag_id,
									int version);

/*
 * The run before a moment among those of a DAG that stand for intervals, the
 * one that tasks with depends_on_past look at; 0: there is none.
 */
extern int64 fp_explain_store_previous_run(const char *dag_id,
										   TimestampTz logical_date);

/*
 * The first part of an interval that a DAG's successes do not cover.  False:
 * there is none.
 */
extern bool fp_explain_store_first_gap(const char *dag_id, TimestampTz from,
									   TimestampTz until,
									   TimestampTz *gap_from,
									   TimestampTz *gap_until);

/* An asis DAG that has not succeeded for an interval. */
typedef struct FpMissingAsis
{
	char	   *asis_dag;
	TimestampTz start;
	TimestampTz end;
} FpMissingAsis;

/*
 * What keeps a DAG without a schedule from its latest run, of which nothing
 * is made before all have succeeded, as a List of FpMissingAsis *.
 */
extern List *fp_explain_store_missing_asis(const char *tobe_dag);

/*
 * How many slots of a pool these tasks take: dag_ids and task_ids are char *,
 * versions are int, all of the same length.
 */
extern int64 fp_explain_store_pool_use(const char *pool, List *dag_ids,
									   List *versions, List *task_ids);

/* what flow.scheduler_status says; *problem NULL: nothing is wrong */
extern void fp_explain_store_scheduler(char **state, char **problem);

#endif							/* FLOWPG_EXPLAIN_STORE_H */
