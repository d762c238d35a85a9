/*-------------------------------------------------------------------------
 *
 * position_store.h
 *	  All SQL on flow.position: where an incremental upsert is, from run to
 *	  run.
 *
 * What a position holds is upsert_late.c's; here it is jsonb text.  Every
 * function runs inside a transaction and opens its own owner scope.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_POSITION_STORE_H
#define FLOWPG_POSITION_STORE_H

#include "datatype/timestamp.h"

#include "flowpg.h"

/* palloc'd in the current context; NULL: there is none */
extern char *fp_position_store_get(const char *dag_id, const char *task_id);

/* position NULL: there is none from now on */
extern void fp_position_store_set(const char *dag_id, const char *task_id,
								  const char *position, TimestampTz at);

/*
 * Moves it from one value (NULL: there was none) to another.  False: it is no
 * longer what it was, or the task is gone, and nothing is done.
 */
extern bool fp_position_store_advance(const FpRunContext *run,
									  const char *from, const char *to,
									  TimestampTz at);

#endif							/* FLOWPG_POSITION_STORE_H */
