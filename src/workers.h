/*-------------------------------------------------------------------------
 *
 * workers.h
 *	  The scheduler's worker processes: started, shared out, taken leave of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_WORKERS_H
#define FLOWPG_WORKERS_H

#include "nodes/bitmapset.h"

#include "model.h"

/*
 * Starts, retires and gives away workers as the lanes need it; the workers of
 * waiting_lanes, for which there are more attempts to come, do not leave.
 * Returns after how many milliseconds this is to be done again, should nothing
 * happen before.
 */
extern long fp_workers_tend(FpModel *model, Bitmapset *waiting_lanes);

/*
 * Ends the workers of this database, for a scheduler that leaves it; returns
 * when they have left.  What they had under way is given back at the next
 * start, as after a stop of the server.
 */
extern void fp_workers_end(void);

/*
 * Sends the workers of this database away, for a scheduler that runs nothing:
 * each leaves when it has ended what it is at, which it records.  What none has
 * begun is taken back, and given back as after a stop when the scheduler goes
 * on.  Lanes without workers are free.  Returns at once; called again whenever a
 * worker has left.
 */
extern void fp_workers_dismiss(void);

/*
 * Launcher: frees lanes, and slots of workers that never came up, of databases
 * that have no scheduler and get none any more, for the extension or the whole
 * database has been dropped.  In how many milliseconds to look again; -1: when
 * something happens.
 */
extern long fp_workers_forget_gone(void);

/*
 * The workers that this database may hold while others want some, and how
 * many others want.  The caller holds the lock.
 */
extern int	fp_workers_share(int *nwanted_elsewhere);

#endif							/* FLOWPG_WORKERS_H */
