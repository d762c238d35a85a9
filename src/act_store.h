/*-------------------------------------------------------------------------
 *
 * act_store.h
 *	  SQL for sessions that act on runs or try a task out, beside
 *	  run_store.h.
 *
 * Reads only.  Every function runs inside a transaction and opens its own
 * owner scope.  Results are palloc'd in the current memory context.  Rights
 * are the caller's business.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_ACT_STORE_H
#define FLOWPG_ACT_STORE_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "flowpg.h"

/*
 * The runs of a DAG, of all types, whose data interval starts in
 * [from, until), in order of time, as a List of FpRunRow *.  DT_NOBEGIN and
 * DT_NOEND: no bound.
 */
extern List *fp_act_store_runs(const char *dag_id, TimestampTz from,
							   TimestampTz until);

/* A task and what it waits for, in one definition of its DAG. */
typedef struct FpTaskNode
{
	char	   *task_id;
	List	   *upstream;		/* char * */
} FpTaskNode;

/*
 * The tasks that runs of a version have, as a List of FpTaskNode * in the
 * order of their names.  version 0: those of the definition as it is now.
 */
extern List *fp_act_store_tasks(const char *dag_id, int version);

/* A task as it is defined now. */
typedef struct FpTaskParams
{
	FpOperator	operator;
	Jsonb	   *params;
	List	   *downstream;		/* char *: those directly downstream of it */
} FpTaskParams;

/* NULL: the DAG has no such task */
extern FpTaskParams *fp_act_store_task(const char *dag_id,
									   const char *task_id);

/*
 * What a task of a run has returned, as jsonb; NULL: nothing, or it has not
 * run.  *exists: the definition that the run has started with has such a
 * task.
 */
extern Jsonb *fp_act_store_result(int64 run_id, const char *task_id,
								  bool *exists);

/*
 * Whether a run that has ended is going to run again: it has been cleared, or
 * a task of it marked, and the scheduler has not yet seen that.  *is_own: the
 * current transaction has asked for it, so nobody else sees it.
 */
extern bool fp_act_store_is_reopened(int64 run_id, bool *is_own);

#endif							/* FLOWPG_ACT_STORE_H */
