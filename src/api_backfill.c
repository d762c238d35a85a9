/*-------------------------------------------------------------------------
 *
 * api_backfill.c
 *	  SQL-callable functions for backfills: ask for one, show what it would
 *	  do, pause, resume and cancel it, wait for it.
 *
 * Run in sessions.  flow_backfill plans (run_planner.c), inserts the backfill
 * with its new runs, and asks the scheduler to take it; runs that are there
 * and are to run again are cleared by the scheduler then.  So the whole of it
 * exists when the transaction commits, or nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"

#include "args.h"
#include "backfill_store.h"
#include "clock.h"
#include "dag_rights.h"
#include "request_store.h"
#include "run_args.h"
#include "run_planner.h"
#include "shmem.h"
#include "spi_util.h"
#include "wait.h"

PG_FUNCTION_INFO_V1(flow_backfill);
PG_FUNCTION_INFO_V1(flow_preview_backfill);
PG_FUNCTION_INFO_V1(flow_pause_backfill);
PG_FUNCTION_INFO_V1(flow_resume_backfill);
PG_FUNCTION_INFO_V1(flow_cancel_backfill);
PG_FUNCTION_INFO_V1(flow_wait_backfill);

/* The arguments of flow_backfill and flow_preview_backfill, by number. */
enum
{
	ARG_DAG_ID,
	ARG_START_DATE,
	ARG_END_DATE,
	ARG_REPROCESS,
	ARG_MAX_ACTIVE_RUNS,
	ARG_RUN_BACKWARDS,
	ARG_IGNORE_DEPENDS_ON_PAST,
	ARG_CASCADE,
	ARG_STOP_ON_FAILURE,
	ARG_CHUNK,
	ARG_RUN_WINDOW,
	ARG_PRIORITY,
	ARG_CONF,
	ARG_SPAN
};

#define DEFAULT_PRIORITY (-1)

/* characters of a progress bar */
#define BAR_WIDTH 20

static const char *const planned_actions[] = {
	[FP_PLAN_CREATE] = "create",
	[FP_PLAN_FAILED] = "rerun failed tasks",
	[FP_PLAN_COMPLETED] = "rerun",
	[FP_PLAN_CASCADE] = "rerun",
	[FP_PLAN_SKIP_EXISTS] = "skip: already exists",
	[FP_PLAN_SKIP_IN_PROGRESS] = "skip: in progress",
};

static FpDagRow *read_arguments(FunctionCallInfo fcinfo, FpBackfillRow *row,
								FpBackfillRange *range);
static void read_range(FunctionCallInfo fcinfo, const FpDagRow *dag,
					   FpBackfillRow *row, FpBackfillRange *range);
static void read_dates(FunctionCallInfo fcinfo, const FpDagRow *dag,
					   FpBackfillRow *row, FpBackfillRange *range);
static void read_span(FunctionCallInfo fcinfo, FpBackfillRange *range);
static FpReprocess read_reprocess(FunctionCallInfo fcinfo);
static void check_depends_on_past(const FpBackfillRow *row);
static List *reversed(List *list);
static void ask(FunctionCallInfo fcinfo, FpRequestKind kind,
				const char *function);
static FpBackfillRow *require_backfill(int64 backfill_id);
static bool show_progress(int64 backfill_id, char **shown,
						  MemoryContext context);


/*
 * flow_backfill(...): the new backfill's backfill_id
 */
Datum
flow_backfill(PG_FUNCTION_ARGS)
{
	FpBackfillRow row = {0};
	FpBackfillRange range = {0};
	FpDagRow   *dag;
	TimestampTz real_now = fp_clock_real();
	TimestampTz now = fp_clock_now();
	List	   *planned;
	List	   *cascaded = NIL;
	int64		ordinal = 0;
	int64		backfill_id;
	ListCell   *cell;

	fp_args_begin("flow_backfill()");
	dag = read_arguments(fcinfo, &row, &range);
	(void) fp_dag_rights_hold(dag->dag_id);
	planned = fp_run_planner_backfill(dag, &range, now);
	if (row.is_cascading)
		cascaded = fp_run_planner_cascade(dag, planned, now);
	if (row.run_backwards)
		planned = reversed(planned);
	planned = list_concat(planned, cascaded);
	foreach(cell, planned)
		((FpPlannedRun *) lfirst(cell))->ordinal = ordinal++;

	backfill_id = fp_backfill_store_insert(&row, GetUserId(), real_now);
	(void) fp_backfill_store_add_runs(backfill_id, dag->dag_id, planned,
									  row.conf, real_now);
	fp_request_store_add(FP_REQUEST_BACKFILL, dag->dag_id, 0 /* no run */ ,
						 backfill_id, NULL);
	fp_run_args_warn_if_waiting();

	PG_RETURN_INT64(backfill_id);
}

/*
 * flow_preview_backfill(...): one row for each interval, or for each chunk
 * that is to be run
 */
Datum
flow_preview_backfill(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FpBackfillRow row = {0};
	FpBackfillRange range = {0};
	FpDagRow   *dag = read_arguments(fcinfo, &row, &range);
	List	   *planned = fp_run_planner_backfill(dag, &range, fp_clock_now());
	ListCell   *cell;

	if (row.run_backwards)
		planned = reversed(planned);

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, planned)
	{
		const FpPlannedRun *run = lfirst(cell);
		Datum		values[4];
		bool		nulls[4] = {false, false, false, false};

		values[0] = TimestampTzGetDatum(run->start);
		values[1] = TimestampTzGetDatum(run->start);
		values[2] = TimestampTzGetDatum(run->end);
		values[3] = CStringGetTextDatum(planned_actions[run->action]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}

/*
 * flow_pause_backfill(backfill_id)
 *
 * Whether it is paused already is not looked at, neither here nor by resume:
 * an earlier request may not have been done yet.
 */
Datum
flow_pause_backfill(PG_FUNCTION_ARGS)
{
	ask(fcinfo, FP_REQUEST_PAUSE_BACKFILL, "flow_pause_backfill()");
	PG_RETURN_VOID();
}

/*
 * flow_resume_backfill(backfill_id)
 */
Datum
flow_resume_backfill(PG_FUNCTION_ARGS)
{
	ask(fcinfo, FP_REQUEST_RESUME_BACKFILL, "flow_resume_backfill()");
	PG_RETURN_VOID();
}

/*
 * flow_cancel_backfill(backfill_id)
 */
Datum
flow_cancel_backfill(PG_FUNCTION_ARGS)
{
	ask(fcinfo, FP_REQUEST_CANCEL_BACKFILL, "flow_cancel_backfill()");
	PG_RETURN_VOID();
}

/*
 * CALL flow_wait_backfill(backfill_id, timeout)
 *
 * A wait may take hours.  Called on its own it commits between looks, so that
 * it keeps no snapshot (which would hold vacuum back and CREATE INDEX
 * CONCURRENTLY up) and no lock.  Inside a transaction block or a function it
 * cannot, and waits with what the transaction has.
 */
Datum
flow_wait_backfill(PG_FUNCTION_ARGS)
{
	int64		backfill_id = fp_run_args_id(fcinfo, 0, "backfill_id");
	Interval   *timeout = fp_args_interval(fcinfo, 1, "timeout",
										   FP_ARGS_ZERO_OR_MORE);
	bool		may_commit = fcinfo->context != NULL &&
		IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic &&
		!IsSubTransaction();
	char	   *shown = NULL;
	MemoryContext caller_context;
	MemoryContext context;
	FpWait		wait;

	fp_shmem_require();
	fp_wait_begin(&wait, timeout);
	if (may_commit)
		fp_spi_commit_procedure();
	if (require_backfill(backfill_id)->is_of_own_transaction)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for backfill " INT64_FORMAT " in the transaction that asked for it",
						backfill_id),
				 errdetail("It starts when the transaction has committed."),
				 errhint("Commit first, and wait in another statement.")));
	if (!may_commit && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for backfill " INT64_FORMAT " in a transaction that keeps its snapshot",
						backfill_id),
				 errhint("Use isolation level READ COMMITTED.")));

	caller_context = CurrentMemoryContext;
	context = AllocSetContextCreate(caller_context, "flow_wait_backfill",
									ALLOCSET_SMALL_SIZES);
	for (;;)
	{
		bool		has_ended;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		has_ended = show_progress(backfill_id, &shown, caller_context);
		MemoryContextSwitchTo(caller_context);
		if (may_commit)
			fp_spi_commit_procedure();
		if (has_ended)
			break;
		if (!fp_wait_again(&wait))
		{
			ereport(NOTICE,
					(errmsg("backfill " INT64_FORMAT " has not ended within the timeout",
							backfill_id)));
			break;
		}
	}
	MemoryContextDelete(context);

	PG_RETURN_VOID();
}

/*
 * Read and check the arguments of flow_backfill.  What only the scheduler
 * goes by is checked all the same.
 */
static FpDagRow *
read_arguments(FunctionCallInfo fcinfo, FpBackfillRow *row,
			   FpBackfillRange *range)
{
	FpDagRow   *dag = fp_dag_rights_require(fp_args_id(fcinfo, ARG_DAG_ID,
													   "dag_id"));
	int			from;
	int			until;

	if (!dag->has_tasks)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dag \"%s\" has no tasks", dag->dag_id),
				 errhint("Add one, for example with flow_add_sql.")));

	row->dag_id = dag->dag_id;
	row->reprocess = range->reprocess = read_reprocess(fcinfo);
	row->max_active_runs = fp_args_int(fcinfo, ARG_MAX_ACTIVE_RUNS,
									   "max_active_runs", 1, -1);
	row->run_backwards = fp_args_bool(fcinfo, ARG_RUN_BACKWARDS, false);
	row->ignore_depends_on_past = fp_args_bool(fcinfo,
											   ARG_IGNORE_DEPENDS_ON_PAST,
											   false);
	row->is_cascading = fp_args_bool(fcinfo, ARG_CASCADE, true);
	row->stop_on_failure = fp_args_bool(fcinfo, ARG_STOP_ON_FAILURE, false);
	row->chunk = range->chunk = fp_args_interval(fcinfo, ARG_CHUNK, "chunk",
												 FP_ARGS_POSITIVE);
	row->run_window = fp_args_text(fcinfo, ARG_RUN_WINDOW);
	if (row->run_window != NULL &&
		!fp_run_planner_parse_window(row->run_window, &from, &until))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid run_window \"%s\"", row->run_window),
				 errhint("Give two times of day, such as \"22:00-06:00\".")));
	row->priority = fp_args_int(fcinfo, ARG_PRIORITY, "priority", PG_INT32_MIN,
								DEFAULT_PRIORITY);
	row->conf = fp_run_args_conf(fcinfo, ARG_CONF);

	read_range(fcinfo, dag, row, range);
	check_depends_on_past(row);
	return dag;
}

static void
read_range(FunctionCallInfo fcinfo, const FpDagRow *dag, FpBackfillRow *row,
		   FpBackfillRange *range)
{
	bool		has_dates = !PG_ARGISNULL(ARG_START_DATE) ||
		!PG_ARGISNULL(ARG_END_DATE);
	bool		has_span = !PG_ARGISNULL(ARG_SPAN);

	if (has_dates == has_span)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 has_dates ?
				 errmsg("dates and a span cannot be given together") :
				 errmsg("a backfill needs a range"),
				 errhint("Give start_date and end_date, or a span.")));

	if (has_dates)
		read_dates(fcinfo, dag, row, range);
	else
		read_span(fcinfo, range);

	if (range->from >= fp_clock_now())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the range of a backfill cannot lie in the future"),
				 errhint("Only intervals that have ended can be run.")));
	row->from = range->from;
	row->until = range->until;
}

/*
 * Whole days in the DAG's timezone, both ends included.
 */
static void
read_dates(FunctionCallInfo fcinfo, const FpDagRow *dag, FpBackfillRow *row,
		   FpBackfillRange *range)
{
	if (PG_ARGISNULL(ARG_START_DATE) || PG_ARGISNULL(ARG_END_DATE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_date and end_date must be given together"),
				 errhint("For one day, give it twice.")));

	row->has_dates = true;
	row->from_date = PG_GETARG_DATEADT(ARG_START_DATE);
	row->to_date = PG_GETARG_DATEADT(ARG_END_DATE);
	if (DATE_NOT_FINITE(row->from_date) || DATE_NOT_FINITE(row->to_date))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_date and end_date must be finite"),
				 errhint("Give two dates.")));
	if (row->from_date > row->to_date)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_date %s is after end_date %s",
						DatumGetCString(DirectFunctionCall1(date_out,
															DateADTGetDatum(row->from_date))),
						DatumGetCString(DirectFunctionCall1(date_out,
															DateADTGetDatum(row->to_date)))),
				 errhint("With run_backwards, the latest run starts first.")));

	range->from = fp_run_planner_day_start(row->from_date, dag->timezone);
	range->until = fp_run_planner_day_start(row->to_date + 1, dag->timezone);
}

/*
 * Exactly what is given, to the microsecond.
 */
static void
read_span(FunctionCallInfo fcinfo, FpBackfillRange *range)
{
	RangeType  *span = PG_GETARG_RANGE_P(ARG_SPAN);
	TypeCacheEntry *typcache = range_get_typcache(fcinfo,
												  RangeTypeGetOid(span));
	RangeBound	lower;
	RangeBound	upper;
	bool		is_empty;

	range_deserialize(typcache, span, &lower, &upper, &is_empty);
	if (!is_empty)
	{
		if (lower.infinite || upper.infinite ||
			TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(lower.val)) ||
			TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(upper.val)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the span of a backfill must have two finite bounds"),
					 errhint("Give a range such as [2024-01-01 00:00+00, 2024-01-02 00:00+00).")));
		range->from = DatumGetTimestampTz(lower.val);
		if (!lower.inclusive)
			range->from++;
		range->until = DatumGetTimestampTz(upper.val);
		if (upper.inclusive)
			range->until++;
	}
	if (is_empty || range->from >= range->until)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the span of a backfill must not be empty"),
				 errhint("Give a range such as [2024-01-01 00:00+00, 2024-01-02 00:00+00).")));
	range->is_span = true;
}

static FpReprocess
read_reprocess(FunctionCallInfo fcinfo)
{
	char	   *reprocess = fp_args_text(fcinfo, ARG_REPROCESS);

	if (reprocess == NULL || strcmp(reprocess, "failed") == 0)
		return FP_REPROCESS_FAILED;
	if (strcmp(reprocess, "none") == 0)
		return FP_REPROCESS_NONE;
	if (strcmp(reprocess, "completed") == 0)
		return FP_REPROCESS_COMPLETED;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid reprocess \"%s\"", reprocess),
			 errhint("Give none, failed or completed.")));
	return FP_REPROCESS_FAILED; /* keep compiler quiet */
}

/*
 * Where a task depends on its previous run, failed runs that are left as they
 * are, and later runs that go first, would hold the backfill up for ever.
 */
static void
check_depends_on_past(const FpBackfillRow *row)
{
	if (row->ignore_depends_on_past ||
		(row->reprocess != FP_REPROCESS_NONE && !row->run_backwards) ||
		!fp_backfill_store_depends_on_past(row->dag_id))
		return;

	if (row->run_backwards)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dag \"%s\" cannot be backfilled with run_backwards because its tasks depend on past runs",
						row->dag_id),
				 errhint("Leave run_backwards out, or give ignore_depends_on_past.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("dag \"%s\" cannot be backfilled with reprocess \"none\" because its tasks depend on past runs",
					row->dag_id),
			 errhint("Give reprocess \"failed\" or \"completed\", or ignore_depends_on_past.")));
}

static List *
reversed(List *list)
{
	List	   *result = NIL;

	for (int i = list_length(list) - 1; i >= 0; i--)
		result = lappend(result, list_nth(list, i));
	return result;
}

/*
 * Ask the scheduler to do something with the backfill that argument 0 names.
 */
static void
ask(FunctionCallInfo fcinfo, FpRequestKind kind, const char *function)
{
	FpBackfillRow *row;

	fp_args_begin(function);
	row = require_backfill(fp_run_args_id(fcinfo, 0, "backfill_id"));
	if (fp_backfill_state_is_finished(row->state))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill " INT64_FORMAT " has ended already",
						row->backfill_id),
				 errdetail("Its state is %s.",
						   fp_backfill_state_name(row->state)),
				 errhint("Use flow_backfill to ask for its range again.")));
	fp_request_store_add(kind, row->dag_id, 0 /* no run */ ,
						 row->backfill_id, NULL);
}

/*
 * The backfill, if there is one that the current user may see.  Of a DAG that
 * is gone, nobody knows whose it was.
 */
static FpBackfillRow *
require_backfill(int64 backfill_id)
{
	FpBackfillRow *row = fp_backfill_store_get(backfill_id);
	FpDagRow   *dag = row != NULL ? fp_dag_store_get(row->dag_id) : NULL;

	if (row == NULL ||
		(dag != NULL ? !fp_dag_rights_may_use(dag) : !superuser()))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill " INT64_FORMAT " does not exist",
						backfill_id),
				 errhint("flow.backfill_status lists the backfills.")));
	return row;
}

/*
 * Tell the client how far the backfill is, unless that is what it was told
 * last; *shown keeps that in the given context.  True: the backfill has
 * ended.
 */
static bool
show_progress(int64 backfill_id, char **shown, MemoryContext context)
{
	FpBackfillProgress progress;
	int64		done;
	char		bar[BAR_WIDTH + 1];
	int			percent = 0;
	char	   *counts;

	if (!fp_backfill_store_progress(backfill_id, &progress))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill " INT64_FORMAT " does not exist any more",
						backfill_id)));

	done = progress.total - progress.running - progress.pending;
	if (strcmp(progress.state, "success") == 0 ||
		strcmp(progress.state, "failed") == 0 ||
		strcmp(progress.state, "cancelled") == 0)
	{
		ereport(NOTICE,
				(errmsg("backfill " INT64_FORMAT ": %s, " INT64_FORMAT " of " INT64_FORMAT " runs, " INT64_FORMAT " failed, in %s",
						backfill_id, progress.state, done, progress.total,
						progress.failed, progress.elapsed)));
		return true;
	}

	counts = psprintf("%s " INT64_FORMAT " " INT64_FORMAT " " INT64_FORMAT,
					  progress.state, done, progress.failed,
					  progress.running);
	if (*shown != NULL && strcmp(*shown, counts) == 0)
		return false;
	if (*shown != NULL)
		pfree(*shown);
	*shown = MemoryContextStrdup(context, counts);

	if (progress.total > 0)
		percent = done * 100 / progress.total;
	for (int i = 0; i < BAR_WIDTH; i++)
		bar[i] = (i + 1) * 100 <= percent * BAR_WIDTH ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	ereport(NOTICE,
			(errmsg("backfill " INT64_FORMAT ": [%s] %3d %%  " INT64_FORMAT " of " INT64_FORMAT " runs, " INT64_FORMAT " failed, " INT64_FORMAT " running, %s",
					backfill_id, bar, percent, done, progress.total,
					progress.failed, progress.running,
					progress.eta != NULL ? psprintf("eta %s", progress.eta) :
					strcmp(progress.state, "running") == 0 ? "eta not known" :
					progress.state)));
	return false;
}
