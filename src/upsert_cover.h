/*-------------------------------------------------------------------------
 *
 * upsert_cover.h
 *	  Whether replace_where is exactly the rows of whole partitions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_COVER_H
#define FLOWPG_UPSERT_COVER_H

#include "upsert_exec.h"

/*
 * The partitions of the target, in the order of their OIDs, that together hold
 * the rows which match replace_where and no others, whatever rows there are or
 * will be; locked like the target until the transaction ends.  NIL: there are
 * none, or it cannot be proved.
 */
extern List *fp_upsert_cover_find(FpUpsertExec *exec,
								  const FpUpsertShape *shape);

#endif							/* FLOWPG_UPSERT_COVER_H */
