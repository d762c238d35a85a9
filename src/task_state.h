/*-------------------------------------------------------------------------
 *
 * task_state.h
 *	  How the tasks of an active run go on: what is ready, what is skipped,
 *	  when to try again, how the run ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TASK_STATE_H
#define FLOWPG_TASK_STATE_H

#include "model.h"

/*
 * A run has just been made running, with what its task rows say: puts each
 * task where it belongs.
 */
extern void fp_task_state_begin_run(FpModel *model, FpRun *run);

/*
 * A task has reached a final state, which is recorded: counts it with its
 * downstream tasks and decides those.  Decisions that no worker will record
 * (skipped, upstream_failed) go to model->decided.  A run without unfinished
 * tasks goes to model->ended.
 */
extern void fp_task_state_ended(FpModel *model, FpTask *task,
								FpTaskRunState state);

/*
 * A branch has succeeded and names the tasks that go on (char *): skips the
 * other direct downstream tasks, but for those that are reached from the named
 * ones (Airflow's rule).  Called before fp_task_state_ended; also before
 * fp_task_state_begin_run for branches that ended earlier, with is_begun false.
 */
extern void fp_task_state_follow_branch(FpModel *model, FpTask *task,
										List *followed, bool is_begun);

/*
 * Writes model->decided.  Whoever reads or changes rows of task runs calls it
 * first: what has been decided in this cycle counts there, too, and must not
 * be written over what comes after it.
 */
extern void fp_task_state_record_decided(FpModel *model);

/* a sensor's condition is not yet true: looked at again at poke_at */
extern void fp_task_state_reschedule(FpModel *model, FpTask *task,
									 TimestampTz poke_at);

/* the previous run of a task that depends on past allows it */
extern void fp_task_state_past_met(FpModel *model, FpTask *task);

/*
 * Tasks of a running run have been cleared or marked in the tables: takes
 * over what the rows (FpTaskRunRow *) say now.  fp_task_state_begin_run decides
 * anew.
 */
extern void fp_task_state_take_rows(FpModel *model, FpRun *run,
									List *task_runs);

/* an attempt failed and is tried again at retry_at */
extern void fp_task_state_retry(FpModel *model, FpTask *task,
								TimestampTz retry_at);

/* puts tasks whose delay is over among the ready ones */
extern void fp_task_state_wake_retries(FpModel *model, TimestampTz now);

/*
 * How long to wait before the attempt after this many failures, in
 * microseconds.  With exponential backoff the delay doubles with each
 * failure, up to max_retry_delay, or a day (Airflow's rule and bound).
 */
extern int64 fp_task_state_retry_delay(const FpTaskSpec *task, int failures);

/* success, failed or cancelled, from the leaves of a run that has ended */
extern FpRunState fp_task_state_run_result(const FpRun *run);

/*
 * Takes tasks that are not at a worker out of a run that is to be cancelled.
 */
extern void fp_task_state_cancel_idle(FpModel *model, FpRun *run);

#endif							/* FLOWPG_TASK_STATE_H */
