/*-------------------------------------------------------------------------
 *
 * run_planner.h
 *	  Which runs there should be: those that the scheduler makes by schedule,
 *	  and those that a backfill makes or runs again.
 *
 * Planning reads what is stored and writes nothing, so the answer can be
 * shown (flow_due_runs, flow_preview_backfill) as well as carried out.  Every
 * function runs inside a transaction; results are palloc'd in the current
 * memory context.  Rights are the caller's business.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RUN_PLANNER_H
#define FLOWPG_RUN_PLANNER_H

#include "nodes/pg_list.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "backfill_store.h"
#include "dag_store.h"
#include "flowpg.h"
#include "schedule.h"

/* The DAG's own schedule, parsed; NULL: it has none. */
extern FpSchedule *fp_run_planner_schedule(const FpDagRow *dag);

/*
 * The schedule whose intervals the DAG's runs have: its own, or, where it has
 * none, that of the asis DAG with the longest interval around `at`,
 * recursively.  NULL: there is none; the DAG, or the outside system that goes
 * by this name, speaks by date only.
 */
extern FpSchedule *fp_run_planner_effective_schedule(const char *dag_id,
													 TimestampTz at);

/*
 * Of the effective schedules of two asis DAGs, the first one NULL where there
 * is none yet: that with the longer interval around `at`, the first where they
 * are as long; NULL where none gives intervals.
 */
extern FpSchedule *fp_run_planner_longer(FpSchedule *schedule,
										 FpSchedule *other, TimestampTz at);

/*
 * Whether a DAG with this effective schedule speaks by date: its success
 * counts for a date and not for an interval.
 */
extern bool fp_run_planner_speaks_by_date(const FpSchedule *effective_schedule);

/*
 * The interval of the DAG's runs that a moment lies in, by its effective
 * schedule; a whole day where it runs by date.  False: it has none.
 */
extern bool fp_run_planner_interval_at(const FpDagRow *dag, TimestampTz at,
									   FpInterval *result);

/*
 * What bounds the runs that the scheduler makes for the DAG, for
 * fp_schedule_next_run.  To ask for what follows a run, set has_last and last.
 */
extern void fp_run_planner_bounds(const FpDagRow *dag, FpRunBounds *bounds);

/*
 * The next run that the scheduler makes for the DAG; it is due when its
 * interval has ended.  False: none will ever be.
 */
extern bool fp_run_planner_next(const FpDagRow *dag, TimestampTz now,
								FpInterval *result);

/* The first moment of a date in a timezone. */
extern TimestampTz fp_run_planner_day_start(DateADT date,
											const char *timezone);

/* The date of a moment in a timezone. */
extern DateADT fp_run_planner_date_of(TimestampTz at, const char *timezone);

/*
 * Reads a run_window, 'HH:MM-HH:MM', as minutes since midnight; it may go
 * past midnight (until < from).  False: it is none.
 */
extern bool fp_run_planner_parse_window(const char *window, int *from,
										int *until);

/* What a backfill covers: the intervals whose start lies in [from, until). */
typedef struct FpBackfillRange
{
	TimestampTz from;
	TimestampTz until;
	bool		is_span;		/* given as a span, not as dates */
	FpReprocess reprocess;
	const Interval *chunk;		/* that much a run; NULL: one interval a run */
} FpBackfillRange;

/*
 * What a backfill does in the DAG itself, in order of time, as a List of
 * FpPlannedRun *.  Only intervals that have ended by now are in it.  Several
 * may name the same run, one that is there and covers them all.  ERROR: the
 * DAG has no intervals that can be backfilled.
 */
extern List *fp_run_planner_backfill(const FpDagRow *dag,
									 const FpBackfillRange *range,
									 TimestampTz now);

/*
 * What follows from it in the DAGs that depend on this one, those first that
 * others of them depend on, each in order of time, as a List of
 * FpPlannedRun * with actions FP_PLAN_CASCADE and FP_PLAN_SKIP_IN_PROGRESS.
 */
extern List *fp_run_planner_cascade(const FpDagRow *dag, List *planned_runs,
									TimestampTz now);

/*
 * The runs of the DAGs that depend on this one, directly or not, on whose
 * intervals these runs of it (FpRunRow *) bear, as a List of FpRunRow *:
 * those of one DAG after those of all that it waits for, each in order of
 * time.  Runs that do not stand for an interval are left out.
 */
extern List *fp_run_planner_dependent_runs(const FpDagRow *dag, List *runs,
										   TimestampTz now);

/*
 * The interval of a run that is asked for by hand: the one that contains the
 * moment, or the latest complete one; where the DAG has no intervals, the
 * empty one at the moment, or now.
 */
extern FpInterval fp_run_planner_interval_to_trigger(const FpDagRow *dag,
													 bool has_logical_date,
													 TimestampTz logical_date,
													 TimestampTz now);

#endif							/* FLOWPG_RUN_PLANNER_H */
