/*-------------------------------------------------------------------------
 *
 * upsert_read.h
 *	  How the source of a paged upsert is read: by pages, or once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_READ_H
#define FLOWPG_UPSERT_READ_H

#include "upsert_exec.h"

/*
 * Chooses how to read the source, changing the shape accordingly.  The caller
 * is in a transaction with an active snapshot, as in all of these.
 */
extern void fp_upsert_read_choose(FpUpsertExec *exec, FpUpsertShape *shape);

/*
 * The last row of the page order, in the current context; NULL: there is none.
 * Raises an error where another server cannot be trusted with that.
 */
extern char **fp_upsert_read_find_end(FpUpsertExec *exec);

/*
 * What is to be read once: its rows after last (NULL: all) are copied into a
 * temporary table, and true is returned.  Raises an error where a column of
 * the page order holds a null.
 */
extern bool fp_upsert_read_begin(FpUpsertExec *exec, FpUpsertShape *shape,
								 char **last);

/*
 * About how many rows there are after last (NULL: from the first) up to end, as
 * the planner sees it.
 */
extern double fp_upsert_read_estimate(FpUpsertExec *exec, char **last,
									  char **end);

/*
 * Copies the whole source into that table, of each key the last row in page
 * order, and makes the shape read from it.
 */
extern void fp_upsert_read_all(FpUpsertExec *exec, FpUpsertShape *shape);

/*
 * Copies the keys of all rows of the source, in the target's types, into a
 * temporary table of its own with an index, and returns its name as SQL.
 */
extern const char *fp_upsert_read_keys(FpUpsertExec *exec,
									   const FpUpsertShape *shape);

/* drops these tables, if they are there */
extern void fp_upsert_read_end(FpUpsertExec *exec);

#endif							/* FLOWPG_UPSERT_READ_H */
