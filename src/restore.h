/*-------------------------------------------------------------------------
 *
 * restore.h
 *	  A scheduler starts: what is unfinished comes back into memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RESTORE_H
#define FLOWPG_RESTORE_H

#include "model.h"

/*
 * Enters all unfinished backfills, runs and callbacks, inside the caller's
 * transaction.  adopted: the attempts that workers hold (FpAssignment *);
 * other attempts that the tables show as running have been cut off by a stop
 * of the server and are given back.  is_first: nothing has been entered since
 * this scheduler began; one that only begins anew has seen no crash.
 */
extern void fp_restore_model(FpModel *model, List *adopted, bool is_first);

#endif							/* FLOWPG_RESTORE_H */
