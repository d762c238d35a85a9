/*-------------------------------------------------------------------------
 *
 * upsert_swap.h
 *	  Mode replace of an upsert with whole partitions: loaded beside the old
 *	  ones, which they then take the place of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_SWAP_H
#define FLOWPG_UPSERT_SWAP_H

#include "upsert_exec.h"

/*
 * Replaces the rows so, in the caller's transaction, with the source collected
 * (fp_upsert_read_all), and sets the number of rows that were inserted, updated
 * or deleted by that.  False: nothing has been done, for it cannot be done so,
 * or is not worth it.
 */
extern bool fp_upsert_swap(FpUpsertExec *exec, const FpUpsertShape *shape,
						   int64 *rows_written);

#endif							/* FLOWPG_UPSERT_SWAP_H */
