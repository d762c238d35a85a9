/*-------------------------------------------------------------------------
 *
 * link.c
 *	  How DAGs wait for each other: dependency_manager, coverage, dag_log.
 *
 * Runs in the scheduler.  A success, its dag_log row, its coverage and the
 * runs that it sets off are one commit, so nothing has to be found out
 * afterwards: a crash in between loses and doubles nothing.  That a run for
 * an interval is made once only is the unique index of dag_run's doing.
 *
 * An asis DAG that has intervals of its own (a schedule, or asis DAGs that
 * have) speaks by coverage; every other one, also a name that is no DAG here,
 * speaks by date, through its rows in dag_log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "coverage_store.h"
#include "link.h"
#include "run_planner.h"

static FpSchedule *effective_schedule(FpModel *model, FpDag *dag);
static bool speaks_by_date(FpModel *model, const char *asis_dag);
static bool is_interval_satisfied(FpModel *model, FpDag *tobe,
								  TimestampTz start, TimestampTz end);
static void set_off(FpModel *model, FpDag *tobe, TimestampTz from,
					TimestampTz until);
static void set_off_by_date(FpModel *model, FpDag *tobe, DateADT date);
static void make_run(FpModel *model, FpDag *tobe, TimestampTz start,
					 TimestampTz end);
static DateADT date_in_zone(TimestampTz at, const char *timezone);

bool
fp_link_is_satisfied(FpModel *model, FpRun *run)
{
	if (!run->waits_for_asis || run->dag->row == NULL)
		return true;
	/* what nobody has asked for by name does not start while paused */
	if (run->dag->row->is_paused)
		return false;
	return is_interval_satisfied(model, run->dag, run->data_interval_start,
								 run->data_interval_end);
}

void
fp_link_succeeded(FpModel *model, FpRun *run)
{
	FpDag	   *dag = run->dag;
	DateADT		date;
	ListCell   *lc;
	bool		by_date;

	if (dag->row == NULL)
		return;

	date = date_in_zone(run->data_interval_end, dag->row->timezone);
	fp_coverage_store_add(dag->dag_id, run->data_interval_start,
						  run->data_interval_end);
	fp_coverage_store_log(dag->dag_id, date, fp_clock_real(), run->run_id);

	by_date = speaks_by_date(model, dag->dag_id);
	foreach(lc, fp_model_tobe(model, dag->dag_id))
	{
		FpDag	   *tobe = lfirst(lc);

		fp_link_wake_waiting(model, tobe);
		if (by_date)
			set_off_by_date(model, tobe, date);
		else
			set_off(model, tobe, run->data_interval_start,
					run->data_interval_end);
	}
}

void
fp_link_word(FpModel *model, const char *asis_dag, DateADT date)
{
	ListCell   *lc;

	foreach(lc, fp_model_tobe(model, asis_dag))
	{
		FpDag	   *tobe = lfirst(lc);

		fp_link_wake_waiting(model, tobe);
		if (speaks_by_date(model, asis_dag))
			set_off_by_date(model, tobe, date);
	}
}

void
fp_link_catch_up(FpModel *model, FpDag *dag)
{
	ListCell   *lc;
	ListCell   *lr;
	TimestampTz since = dag->row->paused_at;

	if (dag->row->schedule != NULL || since == DT_NOBEGIN)
		return;
	foreach(lc, dag->row->asis_dags)
	{
		char	   *asis_dag = lfirst(lc);
		bool		by_date = speaks_by_date(model, asis_dag);
		List	   *runs = fp_run_store_succeeded_since(asis_dag, since);

		if (!dag->row->catchup && runs != NIL)
			runs = list_make1(llast(runs));
		foreach(lr, runs)
		{
			FpRunRow   *row = lfirst(lr);

			if (by_date)
				set_off_by_date(model, dag,
								date_in_zone(row->data_interval_end,
											 dag->row->timezone));
			else
				set_off(model, dag, row->data_interval_start,
						row->data_interval_end);
		}
	}
}

void
fp_link_wake_waiting(FpModel *model, FpDag *dag)
{
	dlist_iter	queues;
	dlist_mutable_iter runs;

	dlist_foreach(queues, &dag->queues)
	{
		FpQueue    *queue = dlist_container(FpQueue, dag_node, queues.cur);

		dlist_foreach_modify(runs, &queue->waiting)
		{
			FpRun	   *run = dlist_container(FpRun, waiting_node, runs.cur);

			if (!fp_link_is_satisfied(model, run))
				continue;
			fp_model_dequeue_run(run);
			fp_model_enqueue_run(model, run, false);
		}
	}
}

/*
 * The schedule that gives the DAG's runs their intervals, NULL where it
 * speaks by date; kept until any definition changes.
 */
static FpSchedule *
effective_schedule(FpModel *model, FpDag *dag)
{
	if (dag->effective_as_of != model->ndefinitions)
	{
		MemoryContext previous = MemoryContextSwitchTo(model->context);

		if (dag->effective != NULL)
			pfree(dag->effective);
		dag->effective = fp_run_planner_effective_schedule(dag->dag_id,
														   fp_clock_now());
		dag->effective_as_of = model->ndefinitions;
		MemoryContextSwitchTo(previous);
	}
	return dag->effective;
}

static bool
speaks_by_date(FpModel *model, const char *asis_dag)
{
	FpDag	   *dag = fp_model_dag(model, asis_dag, false);
	FpSchedule *schedule;

	if (dag == NULL || dag->row == NULL)
		return true;
	schedule = effective_schedule(model, dag);
	return schedule == NULL || schedule->kind == FP_SCHEDULE_NONE ||
		schedule->kind == FP_SCHEDULE_ONCE;
}

static bool
is_interval_satisfied(FpModel *model, FpDag *tobe, TimestampTz start,
					  TimestampTz end)
{
	ListCell   *lc;

	foreach(lc, tobe->row->asis_dags)
	{
		char	   *asis_dag = lfirst(lc);

		if (speaks_by_date(model, asis_dag)
			? !fp_coverage_store_has_word(asis_dag,
										  date_in_zone(end, tobe->row->timezone),
										  tobe->row->owner)
			: !fp_coverage_store_contains(asis_dag, start, end))
			return false;
	}
	return true;
}

/*
 * Makes the runs of a DAG without a schedule that success in [from, until)
 * allows.
 */
static void
set_off(FpModel *model, FpDag *tobe, TimestampTz from, TimestampTz until)
{
	FpSchedule *schedule;
	FpInterval	interval;

	if (tobe->row == NULL || tobe->row->schedule != NULL ||
		tobe->row->is_paused || !tobe->row->has_tasks)
		return;
	schedule = effective_schedule(model, tobe);
	if (schedule == NULL)
		return;
	if (schedule->kind == FP_SCHEDULE_CONTINUOUS)
	{
		if (is_interval_satisfied(model, tobe, from, until))
			make_run(model, tobe, from, until);
		return;
	}
	if (!fp_schedule_containing(schedule, from, &interval) &&
		!fp_schedule_after(schedule, from, &interval))
		return;
	while (interval.start < until)
	{
		if (is_interval_satisfied(model, tobe, interval.start, interval.end))
			make_run(model, tobe, interval.start, interval.end);
		if (!fp_schedule_after(schedule, interval.start, &interval))
			break;
	}
}

/*
 * The same for a word that holds for a date: the intervals that end on it,
 * or, where nothing gives intervals, the day before it.
 */
static void
set_off_by_date(FpModel *model, FpDag *tobe, DateADT date)
{
	FpSchedule *schedule;
	FpInterval	interval;
	TimestampTz day_start;
	TimestampTz day_end;

	if (tobe->row == NULL || tobe->row->schedule != NULL ||
		tobe->row->is_paused || !tobe->row->has_tasks)
		return;
	day_start = fp_run_planner_day_start(date, tobe->row->timezone);
	day_end = fp_run_planner_day_start(date + 1, tobe->row->timezone);
	schedule = effective_schedule(model, tobe);
	if (schedule == NULL)
	{
		interval.start = fp_run_planner_day_start(date - 1,
												  tobe->row->timezone);
		interval.end = day_start;
		if (is_interval_satisfied(model, tobe, interval.start, interval.end))
			make_run(model, tobe, interval.start, interval.end);
		return;
	}
	if (schedule->kind == FP_SCHEDULE_CONTINUOUS ||
		!fp_schedule_containing(schedule, day_start - 1, &interval))
		return;
	while (interval.end < day_end)
	{
		if (interval.end >= day_start &&
			is_interval_satisfied(model, tobe, interval.start, interval.end))
			make_run(model, tobe, interval.start, interval.end);
		if (!fp_schedule_after(schedule, interval.start, &interval))
			break;
	}
}

static void
make_run(FpModel *model, FpDag *tobe, TimestampTz start, TimestampTz end)
{
	FpRunRow	row;

	if (tobe->row->start_is_given && start < tobe->row->start_date)
		return;
	if (start > fp_dag_last_start(tobe->row))
		return;

	memset(&row, 0, sizeof(row));
	row.dag_id = tobe->dag_id;
	row.run_type = FP_RUN_TRIGGERED;
	row.state = FP_RUN_QUEUED;
	row.logical_date = start;
	row.data_interval_start = start;
	row.data_interval_end = end;
	row.run_id = fp_run_store_insert(&row, NULL, fp_clock_real());
	if (row.run_id != 0)
		fp_model_enqueue_run(model, fp_model_add_run(model, &row, 0), false);
}

static DateADT
date_in_zone(TimestampTz at, const char *timezone)
{
	pg_tz	   *zone = fp_schedule_timezone(timezone);
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;

	if (timestamp2tm(at, &tz, &tm, &fsec, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}
