/*-------------------------------------------------------------------------
 *
 * upsert_claim.h
 *	  Pages taken by several workers: each of them once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_CLAIM_H
#define FLOWPG_UPSERT_CLAIM_H

#include "upsert_page.h"

typedef enum FpUpsertClaimed
{
	FP_UPSERT_CLAIM_PAGE,		/* the page's bounds are set */
	FP_UPSERT_CLAIM_WAIT,		/* others are at the last pages */
	FP_UPSERT_CLAIM_END,		/* all pages are done */
	FP_UPSERT_CLAIM_CLOSED		/* the attempt is open no more */
} FpUpsertClaimed;

/*
 * Takes a page: sets its number and bounds, in the current context, and
 * *position to what must be recorded with it, in the same transaction, which
 * the caller then commits.
 */
extern FpUpsertClaimed fp_upsert_claim_take(FpUpsertPage *page,
											const char **position);

/*
 * The page is written: what must be recorded with that, in the same
 * transaction.
 */
extern const char *fp_upsert_claim_done(const FpUpsertPage *page);

/* whether a position says that pages were taken and not done */
extern bool fp_upsert_claim_is_open(Jsonb *position);

#endif							/* FLOWPG_UPSERT_CLAIM_H */
