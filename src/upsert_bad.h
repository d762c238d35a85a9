/*-------------------------------------------------------------------------
 *
 * upsert_bad.h
 *	  Rows of a page that cannot be written: found, named, and kept apart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_BAD_H
#define FLOWPG_UPSERT_BAD_H

#include "upsert_page.h"

/*
 * Whether an error of this code comes of the values of some row.
 */
extern bool fp_upsert_bad_is_row_error(int sqlerrcode);

/* whether pages of this shape can be written in parts */
extern bool fp_upsert_bad_can_find(const FpUpsertShape *shape);

/*
 * Writes a page that has failed with such an error in parts, in the page's
 * transaction, and returns how many rows were written.  The rows that fail by
 * themselves go to flow.bad_row, and *nbad counts them; or, not is_kept, the
 * first one's error is raised, with its key and column as context.
 */
extern uint64 fp_upsert_bad_write(FpUpsertPage *page, bool is_kept,
								  int64 *nbad);

#endif							/* FLOWPG_UPSERT_BAD_H */
