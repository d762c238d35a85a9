/*-------------------------------------------------------------------------
 *
 * api_explain.c
 *	  flow_explain(), and what the waits_for columns of the views call.
 *
 * Run in sessions.  A view asks for one task after the other, mostly of the
 * same run; what one look at a run has brought is kept for the rest of the
 * query.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "args.h"
#include "dag_rights.h"
#include "explain.h"
#include "explain_store.h"
#include "run_store.h"

PG_FUNCTION_INFO_V1(flow_explain);
PG_FUNCTION_INFO_V1(flow_run_waits_for);
PG_FUNCTION_INFO_V1(flow_task_waits_for);

/* Queued runs that flow_explain looks at. */
#define MAX_QUEUED_RUNS 50

/* What a query knows of the run that it has asked for last. */
typedef struct CachedRun
{
	MemoryContext context;		/* of what follows; reset for another run */
	int64		run_id;			/* 0: none yet */
	FpReason   *of_run;			/* of a queued run; NULL: not seen or not
								 * queued */
	List	   *of_tasks;		/* FpReason *, of a running one */
} CachedRun;

static void put_scheduler(ReturnSetInfo *rsinfo);
static void put(ReturnSetInfo *rsinfo, const char *subject,
				const char *reason);
static char *run_subject(const FpRunRow *run);
static CachedRun *look_at_run(FunctionCallInfo fcinfo, int64 run_id);


/*
 * flow_explain(dag_id): rows of (subject, reason)
 */
Datum
flow_explain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FpDagRow   *dag = fp_dag_rights_require(fp_args_id(fcinfo, 0, "dag_id"));
	FpExplainer *explainer;
	FpUnfinishedRuns runs;
	char	   *dag_subject = psprintf("dag \"%s\"", dag->dag_id);
	ListCell   *cell;
	ListCell   *text;

	InitMaterializedSRF(fcinfo, 0);
	put_scheduler(rsinfo);
	explainer = fp_explain_begin(dag);
	foreach(cell, fp_explain_dag(explainer))
		put(rsinfo, dag_subject, lfirst(cell));

	fp_explain_store_unfinished(dag->dag_id, MAX_QUEUED_RUNS, &runs);
	foreach(cell, runs.queued)
	{
		char	   *subject = run_subject(lfirst(cell));

		foreach(text, fp_explain_queued(explainer, lfirst(cell))->texts)
			put(rsinfo, subject, lfirst(text));
	}
	if (runs.nqueued > list_length(runs.queued))
		put(rsinfo, dag_subject,
			psprintf("has " INT64_FORMAT " more queued runs",
					 runs.nqueued - list_length(runs.queued)));

	foreach(cell, runs.running)
	{
		char	   *subject = run_subject(lfirst(cell));
		ListCell   *task;

		foreach(task, fp_explain_tasks(explainer, lfirst(cell)))
		{
			const FpReason *reason = lfirst(task);

			foreach(text, reason->texts)
				put(rsinfo,
					psprintf("task \"%s\" of %s", reason->task_id, subject),
					lfirst(text));
		}
	}
	return (Datum) 0;
}

/*
 * flow.run_waits_for(run_id)
 */
Datum
flow_run_waits_for(PG_FUNCTION_ARGS)
{
	CachedRun  *run = look_at_run(fcinfo, PG_GETARG_INT64(0));

	if (run->of_run == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(run->of_run->brief));
}

/*
 * flow.task_waits_for(run_id, task_id): the tasks of a queued run wait for
 * what the run waits for
 */
Datum
flow_task_waits_for(PG_FUNCTION_ARGS)
{
	CachedRun  *run = look_at_run(fcinfo, PG_GETARG_INT64(0));
	text	   *task_id = PG_GETARG_TEXT_PP(1);
	ListCell   *cell;

	if (run->of_run != NULL)
		PG_RETURN_TEXT_P(cstring_to_text(run->of_run->brief));
	foreach(cell, run->of_tasks)
	{
		const FpReason *reason = lfirst(cell);

		if (strlen(reason->task_id) == VARSIZE_ANY_EXHDR(task_id) &&
			memcmp(reason->task_id, VARDATA_ANY(task_id),
				   VARSIZE_ANY_EXHDR(task_id)) == 0)
			PG_RETURN_TEXT_P(cstring_to_text(reason->brief));
	}
	PG_RETURN_NULL();
}

/*
 * What holds up everything.
 */
static void
put_scheduler(ReturnSetInfo *rsinfo)
{
	char	   *state;
	char	   *problem;

	fp_explain_store_scheduler(&state, &problem);
	if (problem != NULL)
		put(rsinfo, "scheduler", problem);
	else if (strcmp(state, "running") != 0)
		put(rsinfo, "scheduler", psprintf("is %s", state));
}

static void
put(ReturnSetInfo *rsinfo, const char *subject, const char *reason)
{
	Datum		values[2] = {CStringGetTextDatum(subject),
	CStringGetTextDatum(reason)};
	bool		nulls[2] = {false, false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static char *
run_subject(const FpRunRow *run)
{
	return psprintf("run " INT64_FORMAT " (%s)", run->run_id,
					DatumGetCString(DirectFunctionCall1(timestamptz_out,
														TimestampTzGetDatum(run->logical_date))));
}

/*
 * The run, as this query has seen it or sees it now.  One that the user may
 * not see waits for nothing.
 */
static CachedRun *
look_at_run(FunctionCallInfo fcinfo, int64 run_id)
{
	CachedRun  *cached = fcinfo->flinfo->fn_extra;
	MemoryContext old_context;
	FpRunRow   *run;
	FpDagRow   *dag;

	if (cached == NULL)
	{
		cached = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
										sizeof(CachedRun));
		cached->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt,
												"flowpg waits_for",
												ALLOCSET_DEFAULT_SIZES);
		fcinfo->flinfo->fn_extra = cached;
	}
	if (cached->run_id == run_id)
		return cached;

	cached->run_id = 0;
	cached->of_run = NULL;
	cached->of_tasks = NIL;
	MemoryContextReset(cached->context);
	old_context = MemoryContextSwitchTo(cached->context);
	run = fp_run_store_get(run_id);
	dag = run != NULL && !fp_run_state_is_finished(run->state) ?
		fp_dag_store_get(run->dag_id) : NULL;
	if (dag != NULL && fp_dag_rights_may_see(GetUserId(), dag->owner))
	{
		FpExplainer *explainer = fp_explain_begin(dag);

		if (run->state == FP_RUN_QUEUED)
			cached->of_run = fp_explain_queued(explainer, run);
		else
			cached->of_tasks = fp_explain_tasks(explainer, run);
	}
	MemoryContextSwitchTo(old_context);
	cached->run_id = run_id;
	return cached;
}
