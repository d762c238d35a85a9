/*-------------------------------------------------------------------------
 *
 * run_life.h
 *	  The life of runs and backfills: made, queued, started, ended, cancelled.
 *
 * Every function runs in the scheduler, inside its cycle's transaction, and
 * changes tables and memory together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RUN_LIFE_H
#define FLOWPG_RUN_LIFE_H

#include "model.h"

/*
 * A scheduler starts: enters all unfinished backfills and runs.  adopted: the
 * attempts that workers hold (FpAssignment *); other attempts that the tables
 * show as running have been cut off by a stop of the server and are given
 * back.
 */
extern void fp_run_life_restore(FpModel *model, List *adopted);

/* makes the scheduled runs of a DAG that are due, as far as there is room */
extern void fp_run_life_make_due(FpModel *model, FpDag *dag, TimestampTz now);

/* enters a queued run of the tables, where it belongs */
extern void fp_run_life_enter(FpModel *model, const FpRunRow *row,
							  int64 ordinal);

/* starts the queued runs of a DAG that may start */
extern void fp_run_life_start_queued(FpModel *model, FpDag *dag,
									 TimestampTz now);

/*
 * A task that depends on past is due but for that: looks up its previous run,
 * and makes it ready, or has it wait.
 */
extern void fp_run_life_check_past(FpModel *model, FpTask *task);

/*
 * A task has ended: tasks of the DAG's next run may have waited for it; a run
 * whose other tasks all wait for an earlier run gives its slot away.
 */
extern void fp_run_life_task_ended(FpModel *model, FpTask *task);

/* a branch has succeeded, which is recorded: skips what does not go on */
extern void fp_run_life_follow_branch(FpModel *model, FpTask *task,
									  bool is_begun);

/* run_window: backfills whose window has opened may go on */
extern void fp_run_life_open_windows(FpModel *model, TimestampTz now);

/* what was put off, if its time has come */
extern void fp_run_life_retry(FpModel *model);

/* dagrun_timeout: runs whose time is over are cancelled, and fail */
extern void fp_run_life_end_overdue(FpModel *model, TimestampTz now);

/*
 * Clears task runs, or marks one: task_ids are char *; state FP_TASK_RUN_NONE
 * clears.  A run that has ended goes back to the queue; in one that is under
 * way the tasks run again at once.
 */
extern void fp_run_life_rework(FpModel *model, int64 run_id, List *task_ids,
							   FpTaskRunState state);

/* a worker has run a callback, or is gone */
extern void fp_run_life_callback_ended(FpModel *model, FpRun *callback,
									   bool is_lost);

/* all tasks of a run have ended: so does the run, and what follows from it */
extern void fp_run_life_end(FpModel *model, FpRun *run);

/*
 * Cancels a run.  A queued one has ended when this returns; a running one
 * ends when its workers have stopped.
 */
extern void fp_run_life_cancel(FpModel *model, FpRun *run,
							   const char *message);

/* backfills: taken up when asked for, and at the start of a scheduler */
extern void fp_run_life_take_backfill(FpModel *model, int64 backfill_id);
extern void fp_run_life_pause_backfill(FpModel *model, int64 backfill_id);
extern void fp_run_life_resume_backfill(FpModel *model, int64 backfill_id);
extern void fp_run_life_cancel_backfill(FpModel *model, int64 backfill_id);

#endif							/* FLOWPG_RUN_LIFE_H */
