/*-------------------------------------------------------------------------
 *
 * rework.h
 *	  Tasks of a run are cleared or marked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_REWORK_H
#define FLOWPG_REWORK_H

#include "model.h"

/*
 * Clears task runs, or marks them: task_ids are char *; state
 * FP_TASK_RUN_NONE clears.  A run that has ended goes back to the queue (where
 * it waits for its asis DAGs if is_cascaded); in one that is under way the
 * tasks are decided anew at once, those at a worker after it has stopped.
 * False: a session's lock is in the way, and nothing has been done.
 */
extern bool fp_rework_tasks(FpModel *model, int64 run_id, List *task_ids,
							FpTaskRunState state, bool is_cascaded);

/*
 * A task at a worker is to be cleared when its attempt has stopped, by this
 * request (fp_request_store_add_to_clear); ...
 */
extern void fp_rework_wait_for(FpModel *model, FpTask *task, int64 to_clear);

/* ... and now it has */
extern void fp_rework_cleared(FpModel *model, FpTask *task);

#endif							/* FLOWPG_REWORK_H */
