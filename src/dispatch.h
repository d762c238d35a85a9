/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *	  From ready tasks to workers and back: limits and lanes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_DISPATCH_H
#define FLOWPG_DISPATCH_H

#include "nodes/bitmapset.h"

#include "model.h"
#include "shmem.h"

/*
 * One wake-up of the scheduler, in this order: collect what workers have
 * done; plan what they do next (inside the cycle's transaction: attempts are
 * recorded); hand it over once that is committed; then look after processes.
 */

/* Results not yet collected, as a palloc'd array. */
extern FpDone *fp_dispatch_collect(int *n);

/* notes how long an attempt took, for the choice of how many to hand over */
extern void fp_dispatch_note_duration(Oid role, int64 duration);

/* The attempts of a plan, by what has to be recorded of them. */
typedef struct FpAttempts
{
	FpTaskRunBatch *first;		/* of task runs that have no row */
	FpTaskRunBatch *again;		/* of those that have one */
	FpTaskRunBatch *pokes;		/* an attempt that was rescheduled goes on */
	List	   *callbacks;		/* FpRun *: callbacks of ended runs */
} FpAttempts;

/*
 * Chooses ready tasks as far as limits and workers have room, most important
 * first; gives each a token and adds it to the attempts.  Returns them as a
 * List of FpTask *.
 */
extern List *fp_dispatch_plan(FpModel *model, FpAttempts *attempts);

/* the lanes of roles for whose tasks the last plan had no room */
extern Bitmapset *fp_dispatch_waiting_lanes(void);

/* puts planned tasks into their lanes and wakes idle workers */
extern void fp_dispatch_hand_over(FpModel *model, List *tasks);

/*
 * Asks the worker that has the attempt to stop; called again each second
 * until the attempt ends.  True: no worker had begun it, and none will.
 */
extern bool fp_dispatch_cancel(uint64 token, bool must_terminate);

/*
 * A scheduler that starts takes over what workers of its database hold: the
 * attempts in lanes, at workers, and done but not collected, as a List of
 * FpAssignment * (FpDone ones have only token, run_id, task_id, map_index and
 * try_number).
 */
extern List *fp_dispatch_adopt(void);

/* a new scheduler knows of no process that an earlier one has started */
extern void fp_dispatch_reset(void);

#endif							/* FLOWPG_DISPATCH_H */
