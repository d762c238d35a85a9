/*-------------------------------------------------------------------------
 *
 * callback_store.h
 *	  All SQL on flow.callback: what a DAG does when a run has ended.
 *
 * A callback is noted by the scheduler with the run's end, in the same
 * transaction, and closed by the worker that has run it.  Every function runs
 * inside a transaction and opens its own owner scope.  Results are palloc'd
 * in the current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_CALLBACK_STORE_H
#define FLOWPG_CALLBACK_STORE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "flowpg.h"

struct FpRunRow;

typedef struct FpCallbackRow
{
	int64		callback_id;
	struct FpRunRow *run;
	FpRunState	state;			/* that the run had when it ended */
	int			ntries;
} FpCallbackRow;

/* returns its callback_id */
extern int64 fp_callback_store_add(int64 run_id, FpRunState state,
								   TimestampTz at);

/* those that are not closed, oldest first, as a List of FpCallbackRow * */
extern List *fp_callback_store_list_open(void);

extern void fp_callback_store_try(int64 callback_id, TimestampTz at);

/* how often one that is open has been tried; 0: it is not open */
extern int	fp_callback_store_tries(int64 callback_id);

/* message NULL: it has succeeded; ERROR: it is not open */
extern void fp_callback_store_end(int64 callback_id, const char *sqlstate,
								  const char *message, TimestampTz at);

/* the state of the run, its message and its failed tasks, for run.* */
extern void fp_callback_store_values(int64 callback_id, char **state,
									 char **message, List **failed_tasks);

#endif							/* FLOWPG_CALLBACK_STORE_H */
