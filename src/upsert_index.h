/*-------------------------------------------------------------------------
 *
 * upsert_index.h
 *	  What indexes and constraints promise a paged upsert.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_INDEX_H
#define FLOWPG_UPSERT_INDEX_H

#include "nodes/parsenodes.h"
#include "utils/relcache.h"

#include "upsert_shape.h"

/*
 * Parts of fp_upsert_shape_make(): key and page order are known.  query is the
 * source's as rewritten.
 */
extern void fp_upsert_index_learn_source(FpUpsertShape *shape, Query *query);
extern void fp_upsert_index_learn_target(FpUpsertShape *shape,
										 Relation target);

/*
 * The CREATE INDEX that the source lacks for its page order; NULL where there
 * is one, and for sources that are not tables.
 */
extern char *fp_upsert_index_missing(const FpUpsertShape *shape);

#endif							/* FLOWPG_UPSERT_INDEX_H */
