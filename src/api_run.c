/*-------------------------------------------------------------------------
 *
 * api_run.c
 *	  SQL-callable functions that ask for runs, cancel them, wait for them,
 *	  and tell which ones are due.
 *
 * Run in sessions.  A session changes no row that the scheduler or a worker
 * writes: it inserts a queued run, or asks through flow.request, and the
 * scheduler, woken when the transaction commits, does the rest.  So a session
 * that stays in its transaction holds nothing up but what it has asked for
 * itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "act_store.h"
#include "args.h"
#include "clock.h"
#include "compat.h"
#include "dag_rights.h"
#include "guc.h"
#include "request_store.h"
#include "run_args.h"
#include "run_planner.h"
#include "run_store.h"
#include "shmem.h"
#include "wait.h"

PG_FUNCTION_INFO_V1(flow_trigger);
PG_FUNCTION_INFO_V1(flow_cancel_run);
PG_FUNCTION_INFO_V1(flow_wait_run);
PG_FUNCTION_INFO_V1(flow_due_runs);
PG_FUNCTION_INFO_V1(flow_advance);

static void check_not_blocking(int64 run_id);
static bool is_blocked_by_this_session(int pid);
static void set_simulated_now(TimestampTz now);


/*
 * flow_trigger(dag_id, logical_date, conf): the new run's run_id
 */
Datum
flow_trigger(PG_FUNCTION_ARGS)
{
	FpDagRow   *dag;
	FpInterval	interval;
	FpRunRow	row = {0};
	const char *conf;
	TimestampTz logical_date = 0;
	int64		run_id;

	fp_args_begin("flow_trigger()");
	dag = fp_dag_rights_hold(fp_args_id(fcinfo, 0, "dag_id"));
	if (!PG_ARGISNULL(1))
		logical_date = fp_args_wall_clock(PG_GETARG_TIMESTAMP(1),
										  dag->timezone, "logical_date");
	conf = fp_run_args_conf(fcinfo, 2);
	if (!dag->has_tasks)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dag \"%s\" has no tasks", dag->dag_id),
				 errhint("Add one, for example with flow_add_sql.")));

	interval = fp_run_planner_interval_to_trigger(dag, !PG_ARGISNULL(1),
												  logical_date,
												  fp_clock_now());
	row.dag_id = dag->dag_id;
	row.run_type = FP_RUN_MANUAL;
	row.state = FP_RUN_QUEUED;
	row.logical_date = interval.start;
	row.data_interval_start = interval.start;
	row.data_interval_end = interval.end;
	run_id = fp_run_store_insert(&row, conf, fp_clock_real());
	fp_request_store_add(FP_REQUEST_RUN, dag->dag_id, run_id,
						 0 /* no backfill */ , NULL);
	fp_run_args_warn_if_waiting();

	PG_RETURN_INT64(run_id);
}

/*
 * flow_cancel_run(run_id)
 */
Datum
flow_cancel_run(PG_FUNCTION_ARGS)
{
	FpRunRow   *run;

	fp_args_begin("flow_cancel_run()");
	run = fp_run_args_run(fcinfo, 0);
	if (fp_run_state_is_finished(run->state))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run " INT64_FORMAT " has ended already", run->run_id),
				 errdetail("Its state is %s.", fp_run_state_name(run->state)),
				 errhint("Only runs that are queued or running can be cancelled.")));
	fp_request_store_add(FP_REQUEST_CANCEL_RUN, run->dag_id, run->run_id,
						 0 /* no backfill */ , NULL);

	PG_RETURN_VOID();
}

/*
 * flow_wait_run(run_id, timeout): the state that the run has reached.
 *
 * Each look at the run is a statement with a snapshot of its own, so in READ
 * COMMITTED it sees what others have committed.  The statement that called
 * this function keeps its snapshot all the while; the run's own tasks may have
 * to wait for that (CREATE INDEX CONCURRENTLY does), or for locks that this
 * transaction holds, which is found out and is an error.
 */
Datum
flow_wait_run(PG_FUNCTION_ARGS)
{
	int64		run_id = fp_run_args_id(fcinfo, 0, "run_id");
	Interval   *timeout = fp_args_interval(fcinfo, 1, "timeout",
										   FP_ARGS_ZERO_OR_MORE);
	MemoryContext context;
	MemoryContext old_context;
	FpRunState	state;
	bool		is_own;
	FpWait		wait;

	fp_shmem_require();
	(void) fp_run_args_run(fcinfo, 0);
	(void) fp_act_store_is_reopened(run_id, &is_own);
	if (is_own || fp_backfill_store_is_new_run(run_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for run " INT64_FORMAT " in the transaction that asked for it",
						run_id),
				 errdetail("It starts when the transaction has committed."),
				 errhint("Commit first, and wait in another statement.")));

	context = AllocSetContextCreate(CurrentMemoryContext, "flow_wait_run",
									ALLOCSET_SMALL_SIZES);
	fp_wait_begin(&wait, timeout);
	for (;;)
	{
		FpRunRow   *run;
		bool		is_reopened;
		bool		has_ended;

		MemoryContextReset(context);
		old_context = MemoryContextSwitchTo(context);
		/* asked first: what goes from here comes back in the state */
		is_reopened = fp_act_store_is_reopened(run_id, &is_own);
		run = fp_run_store_get(run_id);
		if (run == NULL)
			fp_run_args_no_such_run(run_id);
		state = run->state;
		has_ended = fp_run_state_is_finished(state) && !is_reopened;
		if (!has_ended && fp_wait_is_slow(&wait))
			check_not_blocking(run_id);
		MemoryContextSwitchTo(old_context);

		if (has_ended)
			break;
		if (IsolationUsesXactSnapshot())
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot wait for run " INT64_FORMAT " in a transaction that keeps its snapshot",
							run_id),
					 errhint("Use isolation level READ COMMITTED.")));
		if (!fp_wait_again(&wait))
			break;
	}
	MemoryContextDelete(context);

	PG_RETURN_TEXT_P(cstring_to_text(fp_run_state_name(state)));
}

/*
 * flow_due_runs(dag_id, at): the intervals for which the scheduler would make
 * runs
 */
Datum
flow_due_runs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FpDagRow   *dag = fp_dag_rights_require(fp_args_id(fcinfo, 0, "dag_id"));
	FpSchedule *schedule = fp_run_planner_schedule(dag);
	TimestampTz at;
	FpRunBounds bounds;
	FpInterval	interval;
	List	   *existing = NIL;
	int			next = 0;
	bool		is_first = true;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be NULL", "at"),
				 errhint("Give a moment, such as now().")));
	at = PG_GETARG_TIMESTAMPTZ(1);
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid at \"%s\"",
						TIMESTAMP_IS_NOBEGIN(at) ? "-infinity" : "infinity"),
				 errhint("Give a finite moment, such as now().")));

	InitMaterializedSRF(fcinfo, 0);
	if (schedule == NULL || !dag->has_tasks)
		return (Datum) 0;

	fp_run_planner_bounds(dag, &bounds);
	while (fp_schedule_next_run(schedule, &bounds, at, &interval) &&
		   interval.end <= at)
	{
		Datum		values[2] = {TimestampTzGetDatum(interval.start),
		TimestampTzGetDatum(interval.end)};
		bool		nulls[2] = {false, false};
		FpRunRow   *run = NULL;

		CHECK_FOR_INTERRUPTS();
		bounds.has_last = true;
		bounds.last = interval;

		/* a backfill may have been there before: then the run is not made */
		if (is_first)
			existing = fp_run_store_between(dag->dag_id, interval.start,
											Max(at, interval.start + 1));
		is_first = false;
		for (; next < list_length(existing); next++)
		{
			run = list_nth(existing, next);
			if (run->logical_date >= interval.start)
				break;
		}
		if (next >= list_length(existing) ||
			run->logical_date != interval.start)
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
								 nulls);
	}
	return (Datum) 0;
}

/*
 * flow_advance(until): moves the simulated time and waits until all that this
 * has made due is done.
 *
 * The setting is written for SHOW and for the next server start; processes
 * take the time from shared memory, where it changes for all of them at once.
 */
Datum
flow_advance(PG_FUNCTION_ARGS)
{
	TimestampTz until = PG_GETARG_TIMESTAMPTZ(0);
	FpWait		wait;

	fp_args_begin("flow_advance()");
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to move the time of the server"),
				 errhint("It is for tests: set flowpg.simulated_now on a server of their own.")));
	if (TIMESTAMP_NOT_FINITE(until))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid until \"%s\"",
						TIMESTAMP_IS_NOBEGIN(until) ? "-infinity" : "infinity"),
				 errhint("Give a finite moment.")));

	set_simulated_now(until);
	/* the launcher alone moves the time, so that it never goes back */
	fp_wait_begin(&wait, NULL);
	while (fp_clock_now() != until)
	{
		(void) fp_wait_again(&wait);
		wait.pause = Min(wait.pause, 5);
	}

	/* while schedulers are off, nothing is going to happen */
	if (!fp_enabled)
		PG_RETURN_VOID();
	fp_wait_begin(&wait, NULL);
	while (!fp_shmem_is_quiet(MyDatabaseId, until))
	{
		if (fp_shmem_is_waiting(MyDatabaseId))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("nothing runs in this database"),
					 errhint("flow.scheduler_status says what the scheduler waits for.")));
		(void) fp_wait_again(&wait);
		/* soon is often enough: a test does this thousands of times */
		wait.pause = Min(wait.pause, 20);
	}

	PG_RETURN_VOID();
}

/*
 * ERROR if a worker that works for the run waits for this session.
 */
static void
check_not_blocking(int64 run_id)
{
	int		   *pids = palloc(fp_shared->nworkers * sizeof(int));
	int			npids = 0;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		const FpWorkerSlot *slot = &fp_shared->workers[i];

		if (slot->state == FP_WORKER_BUSY && slot->database == MyDatabaseId &&
			slot->current.token != 0 && slot->current.run_id == run_id &&
			slot->pid != 0)
			pids[npids++] = slot->pid;
	}
	LWLockRelease(fp_shared->lock);

	for (int i = 0; i < npids; i++)
	{
		if (is_blocked_by_this_session(pids[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("this session blocks run " INT64_FORMAT " for which it waits",
							run_id),
					 errdetail("Process %d, which works for the run, waits for a lock or a snapshot of this transaction.",
							   pids[i]),
					 errhint("End the transaction before the wait, or look at flow.run_status again and again instead.")));
	}
}

static bool
is_blocked_by_this_session(int pid)
{
	ArrayType  *blockers;
	Datum	   *elements;
	int			n;

	blockers = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids,
													  Int32GetDatum(pid)));
	deconstruct_array(blockers, INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &elements, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		if (DatumGetInt32(elements[i]) == MyProcPid)
			return true;
	}
	return false;
}

/*
 * As ALTER SYSTEM SET and pg_reload_conf() do it.
 */
static void
set_simulated_now(TimestampTz now)
{
	AlterSystemStmt *statement = makeNode(AlterSystemStmt);
	A_Const    *value = makeNode(A_Const);
	struct pg_tm tm;
	fsec_t		fsec;
	char		text[MAXDATELEN + 1];

	if (timestamp2tm(now, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	tm.tm_isdst = 0;			/* else no offset is written */
	EncodeDateTime(&tm, fsec, true, 0 /* UTC */ , NULL, USE_ISO_DATES, text);

	value->val.sval.type = T_String;
	value->val.sval.sval = pstrdup(text);
	value->location = -1;
	statement->setstmt = makeNode(VariableSetStmt);
	statement->setstmt->kind = VAR_SET_VALUE;
	statement->setstmt->name = "flowpg.simulated_now";
	statement->setstmt->args = list_make1(value);
	AlterSystemSetConfigFile(statement);

	if (kill(PostmasterPid, SIGHUP) != 0)
		ereport(WARNING,
				(errmsg("could not send a signal to the postmaster: %m")));
}
