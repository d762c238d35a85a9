/*-------------------------------------------------------------------------
 *
 * upsert_replace.h
 *	  Mode replace of an upsert: the source's rows in the place of those that
 *	  a condition names.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_REPLACE_H
#define FLOWPG_UPSERT_REPLACE_H

#include "upsert_exec.h"

/*
 * Replaces the rows, in the caller's transaction, and returns the number of
 * rows written or deleted.  Changes the shape, which is of no use afterwards.
 */
extern uint64 fp_upsert_replace(FpUpsertExec *exec, FpUpsertShape *shape);

#endif							/* FLOWPG_UPSERT_REPLACE_H */
