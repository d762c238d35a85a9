/*-------------------------------------------------------------------------
 *
 * explain.h
 *	  Why what has not started has not started.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_EXPLAIN_H
#define FLOWPG_EXPLAIN_H

#include "dag_store.h"
#include "run_store.h"

/* What a run, or a task of one, waits for. */
typedef struct FpReason
{
	const char *task_id;		/* NULL: the run itself */
	char	   *brief;			/* as the views show it */
	List	   *texts;			/* char *: the same as sentences, one or more */
} FpReason;

/*
 * What the answers of one call have in common.  All is palloc'd in the memory
 * context that is current at fp_explain_begin or at the call, and they should
 * be one.  The caller is in a transaction and has checked rights.
 */
typedef struct FpExplainer FpExplainer;

extern FpExplainer *fp_explain_begin(const FpDagRow *dag);

/* why the DAG has no further run, or when it will have, as a List of char * */
extern List *fp_explain_dag(FpExplainer *self);

/* for a run whose state is queued */
extern FpReason *fp_explain_queued(FpExplainer *self, const FpRunRow *run);

/*
 * For a run whose state is running: its tasks that have not begun, or will
 * begin again, as a List of FpReason *.
 */
extern List *fp_explain_tasks(FpExplainer *self, const FpRunRow *run);

#endif							/* FLOWPG_EXPLAIN_H */
