/*-------------------------------------------------------------------------
 *
 * scheduler_cycle.h
 *	  What a scheduler does when it starts, and at each wake-up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_SCHEDULER_CYCLE_H
#define FLOWPG_SCHEDULER_CYCLE_H

#include "model.h"
#include "shmem.h"

/* Fills a new model from shared memory and the tables; commits. */
extern void fp_cycle_load(FpModel *model);

/*
 * One cycle, in the current memory context, which the caller resets.  Returns
 * the milliseconds until the next known time.
 */
extern long fp_cycle_run(FpModel *model, FpDatabaseSlot *slot);

/* Whether nothing is due, ready or running at this time. */
extern bool fp_cycle_is_quiet(FpModel *model, TimestampTz at);

#endif							/* FLOWPG_SCHEDULER_CYCLE_H */
