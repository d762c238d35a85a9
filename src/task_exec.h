/*-------------------------------------------------------------------------
 *
 * task_exec.h
 *	  Run one attempt of a task run in a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TASK_EXEC_H
#define FLOWPG_TASK_EXEC_H

#include "shmem.h"

/* once, when the worker has connected */
extern void fp_task_exec_init(void);

/*
 * Runs an attempt and records how it ended; fills in done.  Outside a
 * transaction, before and after; the session is as new afterwards.  Does not
 * raise what the task raises: that is recorded.
 */
extern void fp_task_exec_run(const FpAssignment *assignment,
							 FpWorkerSlot *slot, FpDone *done);

/*
 * Helps the worker at slot leader with its attempt, of which assignment is a
 * copy, as long as it finds something to do.  Records what it does in the
 * attempt, but never its end.  Does not raise errors either.
 */
extern void fp_task_exec_help(const FpAssignment *assignment,
							  FpWorkerSlot *leader);

#endif							/* FLOWPG_TASK_EXEC_H */
