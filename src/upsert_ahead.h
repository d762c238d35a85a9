/*-------------------------------------------------------------------------
 *
 * upsert_ahead.h
 *	  How far a paged upsert looks for the end of a page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_AHEAD_H
#define FLOWPG_UPSERT_AHEAD_H

#include "upsert_exec.h"

#define FP_UPSERT_AHEAD_LEVELS 3

/* Rows further on in the page order, zeroed at first. */
typedef struct FpUpsertAhead
{
	char	  **bounds[FP_UPSERT_AHEAD_LEVELS]; /* each not before the one of
												 * the level below; NULL: to be
												 * looked for */
	MemoryContext contexts[FP_UPSERT_AHEAD_LEVELS];
} FpUpsertAhead;

/*
 * The row up to which the end of the page after last is to be looked for, and
 * with which it ends if it is not full by then: end, or one before it, which
 * lives until the next call.  Runs statements of exec.
 */
extern char **fp_upsert_ahead_limit(FpUpsertAhead *self, FpUpsertExec *exec,
									char **last, char **end);

/* forgets what it has found */
extern void fp_upsert_ahead_reset(FpUpsertAhead *self);

#endif							/* FLOWPG_UPSERT_AHEAD_H */
