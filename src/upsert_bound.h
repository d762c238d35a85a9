/*-------------------------------------------------------------------------
 *
 * upsert_bound.h
 *	  Bounds of pages: rows of the page order as text.
 *
 * A bound is an array of strings, one a column of the page order, in a form
 * that does not depend on settings and is read back as the very same values
 * (fp_upsert_exec_format).
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_BOUND_H
#define FLOWPG_UPSERT_BOUND_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

extern char **fp_upsert_bound_copy(char **bound, int ncolumns,
								   MemoryContext context);

/* on how many of their first columns two bounds agree */
extern int	fp_upsert_bound_nequal(char **a, char **b, int ncolumns);

/* NULL equals NULL only */
extern bool fp_upsert_bound_equal(char **a, char **b, int ncolumns);

/* as an array of JSON; NULL as null */
extern void fp_upsert_bound_append(StringInfo buf, char **bound,
								   int ncolumns);

/*
 * The bound in field name of an object, in the current context; NULL where
 * there is none, or null.  An error where it has not ncolumns.
 */
extern char **fp_upsert_bound_parse(JsonbContainer *object, const char *name,
									int ncolumns);

#endif							/* FLOWPG_UPSERT_BOUND_H */
