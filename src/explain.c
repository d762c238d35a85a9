/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  Why what has not started has not started: DAGs and queued runs.
 *
 * Called by sessions, for flow_explain and for the waits_for columns of the
 * views.  It asks the tables what the scheduler asks its memory, in the same
 * order (link.c, run_life.c); explain_task.c does it for tasks.  Between the
 * two looks things move on, so an answer may be out of date when it is given;
 * "about to start" is one that should not last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "args.h"
#include "clock.h"
#include "coverage_store.h"
#include "explain.h"
#include "explain_store.h"
#include "guc.h"
#include "run_planner.h"

/* names in one sentence */
#define MAX_NAMES 10

static char *explain_schedule(FpExplainer *self);
static char *explain_next_run(FpExplainer *self);
static List *explain_no_schedule(FpExplainer *self);
static bool waits_for_asis(const FpExplainer *self, const FpRunRow *run,
						   const FpBackfillRow *backfill);
static FpReason *explain_asis(FpExplainer *self, const FpRunRow *run);
static char *explain_missing_interval(const char *asis_dag,
									  const FpRunRow *run);
static bool is_window_open(const FpExplainer *self, const char *window);
static FpReason *explain_active_runs(FpExplainer *self, const FpRunRow *run,
									 const FpBackfillRow *backfill);
static const FpUnfinishedRuns *unfinished_runs(FpExplainer *self);
static int	compare_names(const ListCell *a, const ListCell *b);


FpExplainer *
fp_explain_begin(const FpDagRow *dag)
{
	FpExplainer *self = palloc0(sizeof(FpExplainer));

	self->dag = dag;
	self->now = fp_clock_now();
	return self;
}


/* ---- the DAG ---- */

List *
fp_explain_dag(FpExplainer *self)
{
	const FpDagRow *dag = self->dag;
	List	   *texts = NIL;

	if (!dag->has_tasks)
		texts = lappend(texts, "has no tasks, and so no runs");
	if (dag->is_paused)
		texts = lappend(texts, "is paused, and makes no runs of its own until flow_resume");
	else if (dag->schedule == NULL)
		texts = list_concat(texts, explain_no_schedule(self));
	else if (dag->has_tasks)
		texts = lappend(texts, explain_schedule(self));
	return texts;
}

/*
 * A schedule was checked when it was given, but its timezone may be gone.
 * Parsing holds nothing that an abort would have to release.
 */
static char *
explain_schedule(FpExplainer *self)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile result = NULL;

	PG_TRY();
	{
		result = explain_next_run(self);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		if (geterrcode() != ERRCODE_INVALID_PARAMETER_VALUE)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		result = psprintf("has a schedule that cannot be read: %s",
						  error->message);
	}
	PG_END_TRY();
	return result;
}

static char *
explain_next_run(FpExplainer *self)
{
	const FpUnfinishedRuns *runs;
	FpInterval	next;

	if (!fp_run_planner_next(self->dag, self->now, &next))
		return "has no further intervals, by its schedule and end_date";
	if (next.end > self->now)
		return psprintf("the next run, for %s to %s, is due at %s",
						fp_explain_time(next.start), fp_explain_time(next.end),
						fp_explain_time(next.end));

	runs = unfinished_runs(self);
	if (runs->running == NIL && runs->queued == NIL)
		return psprintf("the next run, for %s to %s, is about to be made",
						fp_explain_time(next.start), fp_explain_time(next.end));
	return psprintf("runs from %s on are due and are made as those before them end",
					fp_explain_time(next.start));
}

static List *
explain_no_schedule(FpExplainer *self)
{
	List	   *names = NIL;
	List	   *texts = NIL;
	ListCell   *cell;

	if (self->dag->asis_dags == NIL)
		return list_make1("has no schedule, and runs when it is triggered");

	names = list_copy(self->dag->asis_dags);
	list_sort(names, compare_names);
	texts = lappend(texts,
					psprintf("has no schedule, and runs when all its asis DAGs have succeeded for an interval: %s",
							 fp_args_name_list(names, MAX_NAMES)));
	foreach(cell, fp_explain_store_missing_asis(self->dag->dag_id))
	{
		const FpMissingAsis *missing = lfirst(cell);

		texts = lappend(texts,
						psprintf("for %s to %s, \"%s\" has not succeeded",
								 fp_explain_time(missing->start),
								 fp_explain_time(missing->end),
								 missing->asis_dag));
	}
	return texts;
}


/* ---- queued runs ---- */

FpReason *
fp_explain_queued(FpExplainer *self, const FpRunRow *run)
{
	FpBackfillRow *backfill = fp_explain_backfill(run);
	FpReason   *result;

	if (backfill != NULL && backfill->state == FP_BACKFILL_PAUSED)
		return fp_explain_reason(NULL, "backfill: paused",
								 psprintf("backfill " INT64_FORMAT " is paused until flow_resume_backfill",
										  backfill->backfill_id));
	if (waits_for_asis(self, run, backfill))
	{
		if (self->dag->is_paused)
			return fp_explain_reason(NULL, "dag: paused",
									 "the DAG is paused until flow_resume");
		result = explain_asis(self, run);
		if (result != NULL)
			return result;
	}
	if (backfill != NULL && backfill->run_window != NULL &&
		!is_window_open(self, backfill->run_window))
		return fp_explain_reason(NULL, psprintf("run_window: %s", backfill->run_window),
								 psprintf("backfill " INT64_FORMAT " starts runs within its run_window only, %s in %s",
										  backfill->backfill_id, backfill->run_window,
										  self->dag->timezone));
	result = explain_active_runs(self, run, backfill);
	if (result != NULL)
		return result;
	return fp_explain_reason(NULL, "run: queued", "is about to start");
}

/*
 * What was asked for by name waits for no other DAG.
 */
static bool
waits_for_asis(const FpExplainer *self, const FpRunRow *run,
			   const FpBackfillRow *backfill)
{
	if (backfill != NULL)
		return strcmp(backfill->dag_id, self->dag->dag_id) != 0;
	return run->run_type == FP_RUN_SCHEDULED ||
		(run->run_type == FP_RUN_TRIGGERED && run->parent_run_id == 0);
}

/*
 * NULL: all have succeeded.
 */
static FpReason *
explain_asis(FpExplainer *self, const FpRunRow *run)
{
	List	   *asis_dags = list_copy(self->dag->asis_dags);
	StringInfoData brief;
	List	   *texts = NIL;
	FpReason   *result;
	ListCell   *cell;

	initStringInfo(&brief);
	list_sort(asis_dags, compare_names);
	foreach(cell, asis_dags)
	{
		const char *asis_dag = lfirst(cell);
		char	   *text;

		if (fp_run_planner_speaks_by_date(fp_run_planner_effective_schedule(asis_dag,
																			self->now)))
		{
			DateADT		date = fp_run_planner_date_of(run->data_interval_end,
													  self->dag->timezone);

			if (fp_coverage_store_has_word(asis_dag, date, self->dag->owner))
				continue;
			text = psprintf("asis DAG \"%s\" has no success in dag_log for %s",
							asis_dag,
							DatumGetCString(DirectFunctionCall1(date_out,
																DateADTGetDatum(date))));
		}
		else
		{
			if (fp_coverage_store_contains(asis_dag, run->data_interval_start,
										   run->data_interval_end, NULL))
				continue;
			text = explain_missing_interval(asis_dag, run);
		}
		appendStringInfo(&brief, "%s%s", brief.len > 0 ? ", " : "asis: ",
						 asis_dag);
		texts = lappend(texts, text);
	}
	if (texts == NIL)
		return NULL;

	result = fp_explain_reason(NULL, brief.data, NULL);
	result->texts = texts;
	return result;
}

static char *
explain_missing_interval(const char *asis_dag, const FpRunRow *run)
{
	TimestampTz from = run->data_interval_start;
	TimestampTz until = run->data_interval_end;

	if (from >= until ||
		!fp_explain_store_first_gap(asis_dag, run->data_interval_start,
									run->data_interval_end, &from, &until))
	{
		from = run->data_interval_start;
		until = run->data_interval_end;
	}
	return psprintf("asis DAG \"%s\" has not succeeded for %s to %s",
					asis_dag, fp_explain_time(from), fp_explain_time(until));
}

/*
 * The window is wall-clock time of the DAG, and may go over midnight.
 */
static bool
is_window_open(const FpExplainer *self, const char *window)
{
	Timestamp	local = fp_args_local_time(self->now, self->dag->timezone);
	int			from;
	int			until;
	int64		minute;

	if (!fp_run_planner_parse_window(window, &from, &until))
		return true;
	minute = local % USECS_PER_DAY;
	if (minute < 0)
		minute += USECS_PER_DAY;
	minute /= USECS_PER_MINUTE;
	if (from < until)
		return minute >= from && minute < until;
	return minute >= from || minute < until;
}

/*
 * A backfill's runs and the DAG's own are counted apart.  NULL: there is room.
 */
static FpReason *
explain_active_runs(FpExplainer *self, const FpRunRow *run,
					const FpBackfillRow *backfill)
{
	int64		backfill_id = backfill != NULL ? backfill->backfill_id : 0;
	int			limit = fp_max_active_runs_per_dag;
	List	   *names = NIL;
	ListCell   *cell;

	if (backfill != NULL && backfill->max_active_runs > 0)
		limit = backfill->max_active_runs;
	else if (self->dag->max_active_runs > 0)
		limit = self->dag->max_active_runs;

	foreach(cell, unfinished_runs(self)->running)
	{
		const FpRunRow *other = lfirst(cell);
		FpBackfillRow *of_other = fp_explain_backfill(other);

		if ((of_other != NULL ? of_other->backfill_id : 0) == backfill_id &&
			!fp_explain_is_parked(self, other))
			names = lappend(names, psprintf(INT64_FORMAT, other->run_id));
	}
	if (list_length(names) < limit)
		return NULL;
	return fp_explain_reason(NULL, psprintf("max_active_runs: %d", limit),
							 psprintf("max_active_runs, %d, is reached by the runs that are under way: %s",
									  limit, fp_args_name_list(names, MAX_NAMES)));
}


/* ---- what is known ---- */

static const FpUnfinishedRuns *
unfinished_runs(FpExplainer *self)
{
	if (!self->has_runs)
		fp_explain_store_unfinished(self->dag->dag_id, 1, &self->runs);
	self->has_runs = true;
	return &self->runs;
}

FpBackfillRow *
fp_explain_backfill(const FpRunRow *run)
{
	FpBackfillRow *backfill;

	if (run->backfill_id == 0)
		return NULL;
	backfill = fp_backfill_store_get(run->backfill_id);
	if (backfill == NULL || fp_backfill_state_is_finished(backfill->state))
		return NULL;
	return backfill;
}

FpReason *
fp_explain_reason(const char *task_id, char *brief, char *text)
{
	FpReason   *result = palloc(sizeof(FpReason));

	result->task_id = task_id;
	result->brief = brief;
	result->texts = text != NULL ? list_make1(text) : NIL;
	return result;
}

char *
fp_explain_time(TimestampTz at)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out,
											   TimestampTzGetDatum(at)));
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}
