/*-------------------------------------------------------------------------
 *
 * past.h
 *	  depends_on_past: a task waits for its own previous run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_PAST_H
#define FLOWPG_PAST_H

#include "model.h"

/*
 * A task that depends on past is due but for that: looks up its previous run,
 * and makes it ready, or has it wait.
 */
extern void fp_past_check(FpModel *model, FpTask *task);

/*
 * A task has ended: tasks of the DAG's next run may have waited for it; a run
 * whose other tasks all wait for an earlier run gives its slot away.
 */
extern void fp_past_task_ended(FpModel *model, FpTask *task);

/*
 * A run has ended, or its tasks have been changed by hand: tasks of the next
 * run that wait for it are looked at again.
 */
extern void fp_past_run_changed(FpModel *model, FpDag *dag,
								TimestampTz logical_date);

/* a parked run has a slot again: goes on with the tasks that may */
extern void fp_past_unpark(FpModel *model, FpRun *run);

#endif							/* FLOWPG_PAST_H */
