/*-------------------------------------------------------------------------
 *
 * scheduler_cycle.c
 *	  What a scheduler does when it starts, and at each wake-up.
 *
 * The way of a run through a cycle, from top to bottom of fp_cycle_run:
 * results come in (collect_results), sessions' requests (fp_requests_apply),
 * due runs are made (make_due_runs), runs end and others start (settle_runs),
 * ready tasks are chosen and recorded (fp_dispatch_plan), the transaction
 * commits, the attempts are handed over, and whoever listens is told.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/pmsignal.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "backfill_life.h"
#include "callback_store.h"
#include "callbacks.h"
#include "clock.h"
#include "dag_rights.h"
#include "dispatch.h"
#include "guc.h"
#include "history.h"
#include "link.h"
#include "notify.h"
#include "past.h"
#include "requests.h"
#include "restore.h"
#include "rework.h"
#include "run_life.h"
#include "scheduler_cycle.h"
#include "spi_util.h"
#include "task_state.h"
#include "workers.h"

/* A running attempt that is to stop is reminded of it this often, ... */
#define CANCEL_INTERVAL_MS 1000
/* ... and its worker ended after so many times. */
#define MAX_CANCELS 10

/*
 * A worker that is gone may have gone because the server stops; then its
 * attempt is given back at the next start, and must not be recorded as
 * failed.  Should this process still be there after so long, it was not so.
 */
#define LOST_DELAY_MS 200

/* The cycle's transaction and its results. */
typedef struct Cycle
{
	bool		in_transaction;
	XLogRecPtr	lsn;			/* the last of workers' commits */
} Cycle;

/* An attempt whose worker is gone. */
typedef struct FpLostAttempt
{
	FpDone		done;
	TimestampTz noticed_at;
} FpLostAttempt;

static void begin_work(Cycle *cycle);
static void collect_results(FpModel *model, Cycle *cycle);
static void take_result(FpModel *model, Cycle *cycle, const FpDone *done);
static void attempt_ended(FpModel *model, Cycle *cycle, FpTask *task,
						  FpTaskRunState state, TimestampTz retry_at);
static void task_failed(FpModel *model, FpTask *task);
static void keep_lost_attempt(FpModel *model, const FpDone *done);
static void take_lost_attempts(FpModel *model, Cycle *cycle);
static void take_lost_attempt(FpModel *model, Cycle *cycle, FpTask *task,
							  const FpDone *done);
static const char *why_no_session(const FpTask *task);
static void after_result(FpModel *model, FpTask *task);
static void make_due_runs(FpModel *model, Cycle *cycle, TimestampTz now);
static bool has_unsettled(FpModel *model);
static void settle_runs(FpModel *model, Cycle *cycle, TimestampTz now);
static void remind_cancelled(FpModel *model);
static TimestampTz next_due(FpModel *model);
static TimestampTz next_timer(FpModel *model);
static TimestampTz next_deadline(FpModel *model);
static long next_wake(FpModel *model, long next_tending);
static long milliseconds_until(TimestampTz at);

void
fp_cycle_load(FpModel *model)
{
	static bool is_first = true;
	MemoryContext context = CurrentMemoryContext;
	List	   *adopted;

	/* shared memory first, tables after: see DESIGN, one live attempt */
	adopted = fp_dispatch_adopt();

	fp_spi_begin_transaction("flowpg: starting");
	MemoryContextSwitchTo(context);
	model->decided = fp_task_run_store_new_batch();
	fp_model_load_pools(model);
	fp_model_load_dags(model);
	fp_restore_model(model, adopted, is_first);
	fp_task_state_record_decided(model);
	fp_spi_commit_transaction();
	is_first = false;			/* not where it fails: it is undone */
	MemoryContextSwitchTo(context);
}

long
fp_cycle_run(FpModel *model, FpDatabaseSlot *slot)
{
	MemoryContext context = CurrentMemoryContext;
	Cycle		cycle = {false, InvalidXLogRecPtr};
	TimestampTz now = fp_clock_now();
	FpAttempts	attempts = {0};
	List	   *planned = NIL;
	ListCell   *lc;
	long		next_tending;
	long		next_step;

	attempts.first = fp_task_run_store_new_batch();
	attempts.again = fp_task_run_store_new_batch();
	attempts.pokes = fp_task_run_store_new_batch();
	model->decided = fp_task_run_store_new_batch();
	collect_results(model, &cycle);
	take_lost_attempts(model, &cycle);
	if (fp_link_begin_cycle(model))
	{
		begin_work(&cycle);
		fp_link_go_on(model);
	}
	if (pg_atomic_read_u32(&slot->has_requests) != 0 ||
		fp_requests_next_look() <= fp_clock_real())
	{
		begin_work(&cycle);
		fp_requests_apply(model, slot);
	}
	fp_run_life_retry(model);
	fp_task_state_wake_retries(model, now);
	if (next_deadline(model) <= fp_clock_real())
	{
		begin_work(&cycle);
		fp_run_life_end_overdue(model, fp_clock_real());
	}
	fp_backfill_life_open_windows(model, now);
	if (fp_enabled)
		make_due_runs(model, &cycle, now);
	settle_runs(model, &cycle, now);
	remind_cancelled(model);

	if (fp_enabled)
		planned = fp_dispatch_plan(model, &attempts);
	if (model->decided->n > 0 || planned != NIL)
	{
		TimestampTz at = fp_clock_real();

		begin_work(&cycle);
		fp_task_state_record_decided(model);
		fp_task_run_store_record_first(attempts.first, at);
		fp_task_run_store_record_again(attempts.again, at);
		fp_task_run_store_record_pokes(attempts.pokes);
		foreach(lc, attempts.callbacks)
			fp_callback_store_try(((FpRun *) lfirst(lc))->callback_id,
								  at);
	}

	if (cycle.in_transaction)
	{
		fp_spi_commit_transaction();
		MemoryContextSwitchTo(context);
	}
	/* done by that commit, unless there was nothing to write */
	if (cycle.lsn != InvalidXLogRecPtr)
		XLogFlush(cycle.lsn);

	fp_dispatch_hand_over(model, planned);
	fp_notify_send(model);
	next_tending = fp_workers_tend(model, fp_dispatch_waiting_lanes());
	next_step = fp_history_tend();
	return next_wake(model, Min(next_tending, next_step));
}

bool
fp_cycle_is_quiet(FpModel *model, TimestampTz at)
{
	return model->nready == 0 && model->nrunning == 0 &&
		!has_unsettled(model) &&
		model->retry_at == DT_NOEND && model->later == NIL &&
		model->set_off_at == DT_NOEND &&
		fp_requests_next_look() == DT_NOEND &&
		next_due(model) > at && next_timer(model) > at;
}

/* When the next interval ends for which a run is to be made. */
static TimestampTz
next_due(FpModel *model)
{
	if (pairingheap_is_empty(&model->due))
		return DT_NOEND;
	return pairingheap_container(FpDag, due_node,
								 pairingheap_first(&model->due))->next.end;
}

/* When the next task that waits for a time may go on. */
static TimestampTz
next_timer(FpModel *model)
{
	if (pairingheap_is_empty(&model->timers))
		return DT_NOEND;
	return pairingheap_container(FpTask, node,
								 pairingheap_first(&model->timers))->retry_at;
}

/* When the first dagrun_timeout is over, in real time. */
static TimestampTz
next_deadline(FpModel *model)
{
	if (pairingheap_is_empty(&model->deadlines))
		return DT_NOEND;
	return pairingheap_container(FpRun, deadline_node,
								 pairingheap_first(&model->deadlines))->deadline;
}

/*
 * The first thing of a cycle that needs the tables begins its transaction,
 * whose commit waits for the disk whatever synchronous_commit says: attempts
 * that are handed over are on record, also after a crash.
 */
static void
begin_work(Cycle *cycle)
{
	MemoryContext context = CurrentMemoryContext;

	if (cycle->in_transaction)
		return;
	fp_spi_begin_transaction("flowpg: scheduling");
	ForceSyncCommit();
	MemoryContextSwitchTo(context);
	cycle->in_transaction = true;
}


/* ---- results ---- */

static void
collect_results(FpModel *model, Cycle *cycle)
{
	int			n;
	FpDone	   *done = fp_dispatch_collect(&n);

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		take_result(model, cycle, &done[i]);
	}
}

static void
take_result(FpModel *model, Cycle *cycle, const FpDone *done)
{
	FpTask	   *task = fp_model_task_by_token(model, done->token);
	FpRun	   *run;

	cycle->lsn = Max(cycle->lsn, done->lsn);
	if (task == NULL)
		return;					/* of a run that has been given up */
	if (done->outcome == FP_OUTCOME_LOST)
	{
		keep_lost_attempt(model, done);
		return;
	}
	run = task->run;
	fp_model_set_token(model, task, 0);
	if (run->is_callback)
	{
		fp_callbacks_ended(model, run, false);
		return;
	}
	if (task->to_clear != 0)
	{
		/* however it has ended, it is to run anew */
		begin_work(cycle);
		fp_rework_cleared(model, task);
		return;
	}

	switch (done->outcome)
	{
		case FP_OUTCOME_SUCCESS:
			if (run->dag->row != NULL && done->duration > 0)
				fp_dispatch_note_duration(run->dag->row->owner,
										  done->duration);
			task->crashes = 0;
			attempt_ended(model, cycle, task, FP_TASK_RUN_SUCCESS, DT_NOBEGIN);
			break;
		case FP_OUTCOME_SKIPPED:
			attempt_ended(model, cycle, task, FP_TASK_RUN_SKIPPED, DT_NOBEGIN);
			break;
		case FP_OUTCOME_RESCHEDULED:
			attempt_ended(model, cycle, task, FP_TASK_RUN_UP_FOR_RESCHEDULE,
						  done->retry_at);
			break;
		case FP_OUTCOME_FAILED:
			task->crashes = 0;
			attempt_ended(model, cycle, task,
						  done->will_retry ? FP_TASK_RUN_UP_FOR_RETRY
						  : FP_TASK_RUN_FAILED, done->retry_at);
			break;
		case FP_OUTCOME_CANCELLED:
			attempt_ended(model, cycle, task, FP_TASK_RUN_CANCELLED, DT_NOBEGIN);
			break;
		case FP_OUTCOME_LOST:
			break;				/* see above */
	}
	after_result(model, task);
}

/*
 * What follows from the state that the record of an attempt gives its task,
 * whether its worker has told it or it has been read.  retry_at: when it goes
 * on, if it is not at its end.
 */
static void
attempt_ended(FpModel *model, Cycle *cycle, FpTask *task, FpTaskRunState state,
			  TimestampTz retry_at)
{
	switch (state)
	{
		case FP_TASK_RUN_SUCCESS:
			if (fp_model_task_spec(task)->operator == FP_OPERATOR_BRANCH)
			{
				begin_work(cycle);
				fp_run_life_follow_branch(model, task, true);
			}
			fp_task_state_ended(model, task, state);
			break;
		case FP_TASK_RUN_UP_FOR_RESCHEDULE:
			fp_task_state_reschedule(model, task, retry_at);
			break;
		case FP_TASK_RUN_UP_FOR_RETRY:
			task->failures++;
			fp_task_state_retry(model, task, retry_at);
			break;
		case FP_TASK_RUN_FAILED:
			task->failures++;
			task_failed(model, task);
			break;
		default:
			fp_task_state_ended(model, task, state);
	}
}

/* Why a worker could not begin; of a dropped DAG nobody asks. */
static const char *
why_no_session(const FpTask *task)
{
	if (task->run->dag->row == NULL || task->run->is_cancelling)
		return "no worker could begin a session";
	return fp_dag_rights_why_no_session(fp_model_task_role(task));
}

/* What follows from any end of an attempt. */
static void
after_result(FpModel *model, FpTask *task)
{
	FpRun	   *run = task->run;

	if (run->is_cancelling)
		fp_task_state_cancel_idle(model, run);
	else if (fp_task_run_state_is_finished(task->state))
		fp_past_park_if_idle(model, run);
}

/* For good: whoever listens is told. */
static void
task_failed(FpModel *model, FpTask *task)
{
	FpRun	   *run = task->run;
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"event\": \"task\", \"run_id\": " INT64_FORMAT ", \"dag_id\": ",
					 run->run_id);
	escape_json(&payload, run->dag->dag_id);
	appendStringInfoString(&payload, ", \"task_id\": ");
	escape_json(&payload, fp_model_task_spec(task)->task_id);
	appendStringInfo(&payload, ", \"try_number\": %d, \"state\": \"failed\"}",
					 task->try_number);
	fp_notify_add(model, payload.data);
	pfree(payload.data);
	fp_task_state_ended(model, task, FP_TASK_RUN_FAILED);
}

static void
keep_lost_attempt(FpModel *model, const FpDone *done)
{
	MemoryContext previous = MemoryContextSwitchTo(model->context);
	FpLostAttempt *lost = palloc(sizeof(FpLostAttempt));

	lost->done = *done;
	lost->noticed_at = fp_clock_real();
	model->lost = lappend(model->lost, lost);
	MemoryContextSwitchTo(previous);
}

static void
take_lost_attempts(FpModel *model, Cycle *cycle)
{
	while (model->lost != NIL)
	{
		FpLostAttempt *lost = linitial(model->lost);
		FpTask	   *task;

		if (ShutdownRequestPending || !PostmasterIsAlive() ||
			!fp_clock_has_passed(lost->noticed_at, fp_clock_real(),
								 LOST_DELAY_MS))
			return;
		model->lost = list_delete_first(model->lost);
		task = fp_model_task_by_token(model, lost->done.token);
		if (task != NULL)
		{
			FpRun	   *run = task->run;

			fp_model_set_token(model, task, 0);
			begin_work(cycle);
			if (run->is_callback)
				fp_callbacks_ended(model, run, true);
			else
			{
				take_lost_attempt(model, cycle, task, &lost->done);
				after_result(model, task);
			}
		}
		pfree(lost);
	}
}

/*
 * The worker is gone and has told nothing.  It may have recorded the end of
 * the attempt just before; then the record counts.
 */
static void
take_lost_attempt(FpModel *model, Cycle *cycle, FpTask *task,
				  const FpDone *done)
{
	FpRun	   *run = task->run;
	const FpTaskSpec *spec = fp_model_task_spec(task);
	FpTaskRunState state;
	TimestampTz retry_at = DT_NOBEGIN;

	if (run->is_cancelling)
		state = FP_TASK_RUN_CANCELLED;
	else if (task->failures < spec->retries)
	{
		state = FP_TASK_RUN_UP_FOR_RETRY;
		retry_at = fp_clock_after(fp_task_state_retry_delay(spec,
															task->failures + 1));
	}
	else
		state = FP_TASK_RUN_FAILED;

	if (!fp_task_run_store_fail_lost(run->run_id, spec->task_id, done->map_index,
									 done->try_number, state, retry_at,
									 done->worker_pid,
									 done->has_begun
									 ? "the worker was terminated while the task was running"
									 : why_no_session(task),
									 fp_clock_real()))
	{
		FpTaskRunRow *row = fp_task_run_store_get(run->run_id, spec->task_id,
												  done->map_index);

		if (row == NULL)
			elog(ERROR, "the row of task \"%s\" in run " INT64_FORMAT " is missing",
				 spec->task_id, run->run_id);
		state = row->state;
		retry_at = row->retry_at;
	}
	else if (fp_guc_logs(LOG))
		ereport(LOG,
				(errmsg("flowpg worker of task \"%s\" of dag \"%s\" was terminated",
						spec->task_id, run->dag->dag_id),
				 errdetail("Run " INT64_FORMAT ", try %d.", run->run_id,
						   task->try_number)));

	if (task->to_clear != 0)
	{
		fp_rework_cleared(model, task);
		return;
	}
	attempt_ended(model, cycle, task, state, retry_at);
}


/* ---- runs ---- */

static void
make_due_runs(FpModel *model, Cycle *cycle, TimestampTz now)
{
	while (!pairingheap_is_empty(&model->due))
	{
		FpDag	   *dag = pairingheap_container(FpDag, due_node,
												pairingheap_first(&model->due));

		if (dag->next.end > now)
			break;
		begin_work(cycle);
		fp_run_life_make_due(model, dag, now);
	}
}

/*
 * Runs to be ended, or started, or tasks whose previous run is to be seen.
 * Where flowpg.enabled is off, DAGs wait on the list until it is on.
 */
static bool
has_unsettled(FpModel *model)
{
	return !slist_is_empty(&model->ended) ||
		(fp_enabled && !slist_is_empty(&model->dirty)) ||
		!dlist_is_empty(&model->past_checks);
}

/* Ends what has ended and starts what may, until neither brings the other. */
static void
settle_runs(FpModel *model, Cycle *cycle, TimestampTz now)
{
	while (has_unsettled(model))
	{
		CHECK_FOR_INTERRUPTS();
		begin_work(cycle);
		if (!dlist_is_empty(&model->past_checks))
		{
			/* what has been decided is looked up, too */
			fp_task_state_record_decided(model);
			fp_past_check(model,
						  dlist_head_element(FpTask, check_node,
											 &model->past_checks));
		}
		else if (!slist_is_empty(&model->ended))
			fp_run_life_end(model,
							slist_container(FpRun, ended_node,
											slist_pop_head_node(&model->ended)));
		else
		{
			FpDag	   *dag = slist_container(FpDag, dirty_node,
											  slist_pop_head_node(&model->dirty));

			dag->is_dirty = false;
			fp_run_life_start_queued(model, dag, now);
		}
	}
}

/*
 * Attempts that are being cancelled, with their run or to be cleared: code
 * that swallows the cancel is told again, and its worker ended in the end.
 */
static void
remind_cancelled(FpModel *model)
{
	TimestampTz now = fp_clock_real();
	ListCell   *lc;

	if (model->cancelling == NIL ||
		!fp_clock_has_passed(model->reminded_at, now, CANCEL_INTERVAL_MS))
		return;
	model->reminded_at = now;
	foreach(lc, model->cancelling)
	{
		FpRun	   *run = lfirst(lc);
		bool		must_terminate = ++run->ncancels > MAX_CANCELS;

		for (int i = 0; i < run->version->ntasks; i++)
		{
			if (run->tasks[i].token != 0 &&
				(run->is_cancelling || run->tasks[i].to_clear != 0))
				(void) fp_dispatch_cancel(run->tasks[i].token,
										  must_terminate);
		}
	}
}


/* ---- sleep ---- */

static long
next_wake(FpModel *model, long next_tending)
{
	long		result = INT_MAX;

	/* a simulated time stands still: nothing comes due by waiting */
	if (!fp_clock_is_simulated())
	{
		result = milliseconds_until(next_timer(model));
		if (fp_enabled)
			result = Min(result, milliseconds_until(next_due(model)));
	}
	result = Min(result, milliseconds_until(next_deadline(model)));
	result = Min(result, milliseconds_until(model->retry_at));
	result = Min(result, milliseconds_until(fp_requests_next_look()));
	if (model->later != NIL)
		result = 0;
	result = Min(result, milliseconds_until(model->set_off_at));
	result = Min(result, next_tending);
	if (model->lost != NIL)
		result = Min(result, LOST_DELAY_MS);
	if (model->cancelling != NIL)
		result = Min(result, CANCEL_INTERVAL_MS);
	return result;
}

/*
 * How long to wait before the clock is looked at again.  Linux may let a wait
 * run late by a thousandth of it, 100 ms at most (select_estimate_accuracy in
 * fs/select.c); so that much of a long one is left for a wait of its own.
 */
static long
milliseconds_until(TimestampTz at)
{
	TimestampTz now = fp_clock_real();
	long		result;

	if (at <= now)
		return 0;
	if (at == DT_NOEND || at - now > (int64) INT_MAX * 1000)
		return INT_MAX;
	result = (at - now + 999) / 1000;
	return result - Min(result / 1000, 100);
}
