/*-------------------------------------------------------------------------
 *
 * explain.h
 *	  Why what has not started has not started.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_EXPLAIN_H
#define FLOWPG_EXPLAIN_H

#include "backfill_store.h"
#include "dag_store.h"
#include "explain_store.h"
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
typedef struct FpExplainer
{
	const FpDagRow *dag;
	TimestampTz now;
	bool		has_runs;		/* runs is valid */
	FpUnfinishedRuns runs;
	bool		has_workers;	/* what follows is valid */
	List	   *running_tasks;	/* explain_task.c: what workers have */
	int			nbusy;			/* workers of the server at work */
} FpExplainer;

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

/*
 * Whether nothing of a running run goes on until an earlier one does: then it
 * holds no slot of max_active_runs.
 */
extern bool fp_explain_is_parked(FpExplainer *self, const FpRunRow *run);

/*
 * What the files of explain have in common.  fp_explain_reason: text NULL, the
 * caller fills in texts.  fp_explain_backfill: the backfill under way that a
 * run belongs to; NULL: none.  fp_explain_time: as the session shows it.
 */
extern FpReason *fp_explain_reason(const char *task_id, char *brief,
								   char *text);
extern FpBackfillRow *fp_explain_backfill(const FpRunRow *run);
extern char *fp_explain_time(TimestampTz at);

#endif							/* FLOWPG_EXPLAIN_H */
