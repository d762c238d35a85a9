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
 * of the server and are given back.
 */
extern void fp_restore_model(FpModel *model, List *adopted);

#endif							/* FLOWPG_RESTORE_H */
