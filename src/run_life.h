/*-------------------------------------------------------------------------
 *
 * run_life.h
 *	  The life of runs: made, queued, started, ended, cancelled.
 *
 * Every function runs in the scheduler, inside its cycle's transaction, and
 * changes tables and memory together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RUN_LIFE_H
#define FLOWPG_RUN_LIFE_H

#include "model.h"

/* makes the scheduled runs of a DAG that are due, as far as there is room */
extern void fp_run_life_make_due(FpModel *model, FpDag *dag, TimestampTz now);

/* enters a queued run of the tables, where it belongs */
extern void fp_run_life_enter(FpModel *model, const FpRunRow *row,
							  int64 ordinal);

/* starts the queued runs of a DAG that may start */
extern void fp_run_life_start_queued(FpModel *model, FpDag *dag,
									 TimestampTz now);

/*
 * For a run that has been made running, before its tasks are decided: its
 * dagrun_timeout counts from started_at; branches that have chosen earlier
 * are followed.
 */
extern void fp_run_life_set_deadline(FpModel *model, FpRun *run,
									 TimestampTz started_at);
extern void fp_run_life_follow_branches(FpModel *model, FpRun *run);

/* a branch has succeeded, which is recorded: skips what does not go on */
extern void fp_run_life_follow_branch(FpModel *model, FpTask *task,
									  bool is_begun);

/* all tasks of a run have ended: so does the run, and what follows from it */
extern void fp_run_life_end(FpModel *model, FpRun *run);

/* what was put off, if its time has come */
extern void fp_run_life_retry(FpModel *model);

/* dagrun_timeout: runs whose time is over are cancelled, and fail */
extern void fp_run_life_end_overdue(FpModel *model, TimestampTz now);

/*
 * Cancels a run.  A queued one has ended when this returns; a running one
 * ends when its workers have stopped.
 */
extern void fp_run_life_cancel(FpModel *model, FpRun *run,
							   const char *message);

/* the same for a queued run; its backfill is the caller's to settle */
extern void fp_run_life_drop_queued(FpModel *model, FpRun *run,
									const char *message);

#endif							/* FLOWPG_RUN_LIFE_H */
