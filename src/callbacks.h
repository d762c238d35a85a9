/*-------------------------------------------------------------------------
 *
 * callbacks.h
 *	  on_success and on_failure of runs that have ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_CALLBACKS_H
#define FLOWPG_CALLBACKS_H

#include "model.h"

/*
 * Has a callback run, whose row is written: at the end of a run, or (token of
 * the attempt, where a worker holds it) when a scheduler starts.
 */
extern void fp_callbacks_start(FpModel *model, FpDag *dag,
							   const FpRunRow *row, FpRunState state,
							   int64 callback_id, uint64 token);

/* a worker has run a callback, or is gone */
extern void fp_callbacks_ended(FpModel *model, FpRun *callback, bool is_lost);

/* a scheduler starts: callbacks that have not ended */
extern void fp_callbacks_restore(FpModel *model, List *adopted);

#endif							/* FLOWPG_CALLBACKS_H */
