/*-------------------------------------------------------------------------
 *
 * set_off_store.h
 *	  flow.set_off: spans for which success has set off more runs than one
 *	  cycle makes; and what all asis DAGs of a DAG cover.
 *
 * Only the scheduler reads and writes these rows.  Every function runs inside a
 * transaction and opens its own owner scope.  Results are palloc'd in the
 * current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_SET_OFF_STORE_H
#define FLOWPG_SET_OFF_STORE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct FpSetOffRow
{
	int64		set_off_id;
	char	   *dag_id;			/* whose runs are to be made */
	int			first_version;	/* another one now: it was a dropped DAG's */
	TimestampTz from;			/* for its intervals that overlap this span */
	TimestampTz until;
} FpSetOffRow;

/* set_off_id is given by the table */
extern void fp_set_off_store_add(const FpSetOffRow *row);

/* the oldest row whose id is not lower; NULL: there is none */
extern FpSetOffRow *fp_set_off_store_next(int64 set_off_id);

extern void fp_set_off_store_delete(int64 set_off_id);

/*
 * The pieces of [from, until) that each of these DAGs covers, the first ones
 * up to limit, in order, as a List of FpInterval *.
 */
extern List *fp_set_off_store_covered(List *dag_ids, TimestampTz from,
									  TimestampTz until, int limit);

#endif							/* FLOWPG_SET_OFF_STORE_H */
