/*-------------------------------------------------------------------------
 *
 * upsert_partition.h
 *	  Which partitions of an upsert's target the interval of a run needs, and
 *	  making them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_PARTITION_H
#define FLOWPG_UPSERT_PARTITION_H

#include "upsert_shape.h"

/*
 * Whether the target is such that partitions can be made for intervals, and
 * the current user may; an error where not.
 */
extern void fp_upsert_partition_check(const FpUpsertShape *shape);

/*
 * Makes what is missing of the range that the run's interval is, in the
 * caller's transaction, which has an active snapshot and should be short: two
 * runs that make partitions of one table wait for each other.
 */
extern void fp_upsert_partition_make(const FpUpsertDef *def,
									 const FpRunContext *run);

#endif							/* FLOWPG_UPSERT_PARTITION_H */
