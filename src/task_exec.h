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

#endif							/* FLOWPG_TASK_EXEC_H */
