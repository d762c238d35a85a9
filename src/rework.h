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

/* the worker of a task that is to be cleared (must_clear) has stopped */
extern void fp_rework_cleared(FpModel *model, FpTask *task);

#endif							/* FLOWPG_REWORK_H */
