/*-------------------------------------------------------------------------
 *
 * backfill_life.h
 *	  The life of backfills: taken up, paused, cancelled, ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_BACKFILL_LIFE_H
#define FLOWPG_BACKFILL_LIFE_H

#include "backfill_store.h"
#include "model.h"

/*
 * What sessions ask for; too late, it does nothing.  False: a session's lock
 * is in the way, and nothing has been done.
 */
extern bool fp_backfill_life_take(FpModel *model, int64 backfill_id);
extern void fp_backfill_life_pause(FpModel *model, int64 backfill_id);
extern void fp_backfill_life_resume(FpModel *model, int64 backfill_id);
extern void fp_backfill_life_cancel(FpModel *model, int64 backfill_id);

/* enters a backfill, without its runs */
extern FpBackfill *fp_backfill_life_enter(FpModel *model,
										  const FpBackfillRow *row);

/* ends a backfill whose runs have all ended */
extern void fp_backfill_life_settle(FpModel *model, FpBackfill *backfill);

/*
 * A run of a backfill has not succeeded: ends what its cascade was to run
 * after it.
 */
extern void fp_backfill_life_cancel_dependents(FpModel *model,
											   FpBackfill *backfill,
											   FpDag *dag, TimestampTz start,
											   TimestampTz end,
											   const char *message);

/* run_window: NULL is any time; whether runs may start now; what has opened */
extern void fp_backfill_life_read_window(FpBackfill *backfill,
										 const char *window);
extern bool fp_backfill_life_is_open(const FpBackfill *backfill,
									 const FpDag *dag, TimestampTz now);
extern void fp_backfill_life_open_windows(FpModel *model, TimestampTz now);

#endif							/* FLOWPG_BACKFILL_LIFE_H */
