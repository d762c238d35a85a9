/*-------------------------------------------------------------------------
 *
 * upsert_page.h
 *	  One page of an upsert: found and written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_PAGE_H
#define FLOWPG_UPSERT_PAGE_H

#include "upsert_ahead.h"
#include "upsert_exec.h"

/* The page under way; bounds as in upsert_bound.h. */
typedef struct FpUpsertPage
{
	FpUpsertExec *exec;
	int64		number;			/* counted from 1, in the order of taking */
	char	  **last;			/* the row that the page before ended with;
								 * NULL: there was none */
	char	  **end;			/* the last row to be read; NULL: there is
								 * nothing to read */
	char	  **upper;			/* the row that the page ends with; NULL: not
								 * known yet */
	bool		is_narrow;		/* pages need not be measured: rows are small */
	int			nequal;			/* columns on which the bounds of the page
								 * before agreed */
	bool		has_written;	/* that page wrote rows */
	FpUpsertAhead ahead;
} FpUpsertPage;

/*
 * Sets upper, in the current context; true: it is the end.
 */
extern bool fp_upsert_page_find(FpUpsertPage *page);

/*
 * Writes the page's rows and returns how many were written.  is_again: the
 * page has met a key that another transaction had just put there (error
 * 23505), and is written so that it cannot happen again.
 */
extern uint64 fp_upsert_page_write(FpUpsertPage *page, bool is_again);

/*
 * The same for a part of it: rows after lower (NULL: from the first) up to
 * upper.
 */
extern uint64 fp_upsert_page_write_part(FpUpsertPage *page, char **lower,
										char **upper);

/*
 * The page is done; the next one begins behind it.  context: where last is
 * kept; it is reset.
 */
extern void fp_upsert_page_next(FpUpsertPage *page, MemoryContext context);

/* "(id) > (40) to (60)" for people, in the current context */
extern char *fp_upsert_page_text(const FpUpsertPage *page);

#endif							/* FLOWPG_UPSERT_PAGE_H */
