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
 * A task has ended, or waits for its past: a run in which nothing goes on
 * until an earlier run does gives its slot of max_active_runs away, for the
 * earlier one may need it.
 */
extern void fp_past_park_if_idle(FpModel *model, FpRun *run);

/*
 * A run has ended, or its tasks have been changed by hand: tasks of the next
 * run that wait for it are looked at again.
 */
extern void fp_past_run_changed(FpModel *model, FpDag *dag,
								TimestampTz logical_date);

/* a parked run has a slot again: goes on with the tasks that may */
extern void fp_past_unpark(FpModel *model, FpRun *run);

#endif							/* FLOWPG_PAST_H */
