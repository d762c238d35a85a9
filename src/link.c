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
 * A success may cover any number of another DAG's intervals.  Runs for that many
 * are made over several cycles; what is left stands in flow.set_off, written in
 * the same commit (set_off_intervals, fp_link_go_on).
 *
 * An asis DAG that has intervals of its own (a schedule, or asis DAGs that
 * have) speaks by coverage; every other one, also a name that is no DAG here,
 * speaks by date, through its rows in dag_log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "coverage_store.h"
#include "link.h"
#include "run_planner.h"
#include "set_off_store.h"
#include "spi_util.h"

/* Intervals looked at in one cycle, of those of which there are many at once. */
#define MAX_SET_OFF_AT_ONCE 500

/* Pieces of coverage that are read at once. */
#define MAX_PIECES 1000

/* Where a session's lock is in the way, it is tried again after this long. */
#define LOCKED_DELAY_MS 1000

/* A row of flow.set_off, and the runs that are made for it. */
typedef struct GoingOn
{
	FpModel    *model;
	FpSetOffRow *row;
	List	   *made;			/* FpRunRow * */
} GoingOn;

/* A DAG without a schedule, some of whose asis DAGs have been looked at. */
typedef struct OpenDag
{
	FpDag	   *dag;
	int			next;			/* of its asis DAGs, to be looked at */
	FpSchedule *longest;		/* of those before; NULL: they speak by date */
} OpenDag;

/* Runs of a DAG that a word sets off, or its end of a pause. */
typedef struct SettingOff
{
	FpModel    *model;
	FpDag	   *tobe;
	DateADT		date;			/* that the word is for */
	List	   *made;			/* FpRunRow * */
} SettingOff;

static void set_off_by_word(void *arg);
static void set_off_since_pause(void *arg);
static bool is_readable(FpModel *model, FpDag *dag);
static FpSchedule *effective_schedule(FpModel *model, FpDag *dag);
static List *look_at_dag(FpModel *model, FpDag *dag, List *open);
static void set_effective(FpModel *model, FpDag *dag,
						  const FpSchedule *schedule);
static bool speaks_by_date(FpModel *model, const char *asis_dag);
static const ItemPointerData *coverage_place(FpModel *model,
											 const char *dag_id);
static bool is_interval_satisfied(FpModel *model, FpDag *tobe,
								  TimestampTz start, TimestampTz end);
static void wake_waiting(FpModel *model, FpDag *dag, bool by_end,
						 TimestampTz from, TimestampTz until);
static void ends_on(const FpDag *dag, DateADT date, TimestampTz *from,
					TimestampTz *until);
static void set_off(FpModel *model, FpDag *tobe, TimestampTz from,
					TimestampTz until, List **made);
static void set_off_by_date(FpModel *model, FpDag *tobe, DateADT date,
							List **made);
static void set_off_intervals(FpModel *model, FpDag *tobe,
							  FpSchedule *schedule, TimestampTz from,
							  TimestampTz until, List **made);
static TimestampTz make_satisfied(FpModel *model, FpDag *tobe,
								  FpSchedule *schedule, FpInterval interval,
								  TimestampTz until, List **made);
static bool have_word(FpDag *tobe, List *words, TimestampTz end);
static void go_on(void *arg);
static void catch_up(FpModel *model, FpDag *dag, List *runs, List **made);
static void catch_up_by_date(FpModel *model, FpDag *dag, List *runs,
							 List **made);
static void make_run(FpDag *tobe, TimestampTz start, TimestampTz end,
					 List **made);
static void not_now(const FpDag *dag);
static DateADT date_in_zone(TimestampTz at, const char *timezone);

bool
fp_link_is_satisfied(FpModel *model, FpRun *run)
{
	if (!run->waits_for_asis || run->dag->row == NULL)
		return true;
	/* what nobody has asked for by name does not start while paused */
	if (run->dag->row->is_paused || run->dag->is_broken)
		return false;
	return is_interval_satisfied(model, run->dag, run->data_interval_start,
								 run->data_interval_end);
}

void
fp_link_record_success(FpModel *model, FpRun *run, List **made)
{
	FpDag	   *dag = run->dag;
	DateADT		date;
	ListCell   *lc;
	bool		by_date;

	if (dag->row == NULL)
		return;

	date = date_in_zone(run->data_interval_end, dag->row->timezone);
	fp_coverage_store_add(dag->row, run->data_interval_start,
						  run->data_interval_end, &dag->coverage_place);
	fp_coverage_store_log(dag->dag_id, date, fp_clock_real(), run->run_id,
						  &dag->log_place);

	by_date = speaks_by_date(model, dag->dag_id);
	foreach(lc, fp_model_tobe(model, dag->dag_id))
	{
		FpDag	   *tobe = lfirst(lc);

		if (by_date)
			set_off_by_date(model, tobe, date, made);
		else
			set_off(model, tobe, run->data_interval_start,
					run->data_interval_end, made);
	}
}

void
fp_link_enter(FpModel *model, List *made)
{
	ListCell   *lc;

	foreach(lc, made)
		fp_model_enqueue_run(model, fp_model_add_run(model, lfirst(lc), 0),
							 false);
}

void
fp_link_wake_tobe(FpModel *model, FpRun *run)
{
	FpDag	   *dag = run->dag;
	bool		by_date;
	ListCell   *lc;

	if (dag->row == NULL || fp_model_tobe(model, dag->dag_id) == NIL)
		return;
	by_date = speaks_by_date(model, dag->dag_id);
	foreach(lc, fp_model_tobe(model, dag->dag_id))
	{
		FpDag	   *tobe = lfirst(lc);
		TimestampTz from = run->data_interval_start;
		TimestampTz until = run->data_interval_end;

		if (by_date && tobe->row != NULL)
			ends_on(tobe, date_in_zone(run->data_interval_end,
									   dag->row->timezone), &from, &until);
		wake_waiting(model, tobe, by_date, from, until);
	}
}

bool
fp_link_word(FpModel *model, const char *asis_dag, DateADT date)
{
	bool		is_done = true;
	ListCell   *lc;

	foreach(lc, fp_model_tobe(model, asis_dag))
	{
		FpDag	   *tobe = lfirst(lc);
		TimestampTz from;
		TimestampTz until;
		SettingOff	setting_off = {model, tobe, date, NIL};

		if (tobe->row == NULL || !speaks_by_date(model, asis_dag))
			continue;
		ends_on(tobe, date, &from, &until);
		wake_waiting(model, tobe, true, from, until);
		/* one that waits for a lock holds up no other */
		if (fp_spi_try(set_off_by_word, &setting_off))
			fp_link_enter(model, setting_off.made);
		else
			is_done = false;
	}
	return is_done;
}

static void
set_off_by_word(void *arg)
{
	SettingOff *self = arg;

	set_off_by_date(self->model, self->tobe, self->date, &self->made);
}

bool
fp_link_catch_up(FpModel *model, FpDag *dag)
{
	SettingOff	setting_off = {model, dag, 0, NIL};
	TimestampTz since = dag->row->paused_at;

	if (dag->row->schedule != NULL || since == DT_NOBEGIN ||
		since == dag->caught_up_since)
		return true;
	if (!fp_spi_try(set_off_since_pause, &setting_off))
		return false;
	dag->caught_up_since = since;
	fp_link_enter(model, setting_off.made);
	return true;
}

static void
set_off_since_pause(void *arg)
{
	SettingOff *self = arg;
	FpModel    *model = self->model;
	FpDag	   *dag = self->tobe;
	TimestampTz since = dag->row->paused_at;
	ListCell   *lc;

	foreach(lc, dag->row->asis_dags)
	{
		char	   *asis_dag = lfirst(lc);
		List	   *runs = fp_run_store_succeeded_since(asis_dag, since);

		if (!dag->row->catchup && runs != NIL)
			runs = list_make1(llast(runs));
		if (speaks_by_date(model, asis_dag))
			catch_up_by_date(model, dag, runs, &self->made);
		else
			catch_up(model, dag, runs, &self->made);
	}
}

bool
fp_link_begin_cycle(FpModel *model)
{
	TimestampTz now = fp_clock_real();

	model->nset_off = 0;
	if (model->set_off_at == DT_NOEND)
		return false;
	/* a time that is further ahead was before the clock was set back */
	return model->set_off_at <= now ||
		model->set_off_at > TimestampTzPlusMilliseconds(now, LOCKED_DELAY_MS);
}

void
fp_link_go_on(FpModel *model)
{
	GoingOn		going = {0};

	going.model = model;
	for (int i = 0; i < MAX_SET_OFF_AT_ONCE; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (model->nset_off >= MAX_SET_OFF_AT_ONCE)
			break;
		going.row = fp_set_off_store_next(model->next_set_off);
		if (going.row == NULL)
		{
			model->set_off_at = DT_NOEND;
			return;
		}
		going.made = NIL;
		if (!fp_spi_try(go_on, &going))
		{
			/* it cannot be done just now: others are first */
			fp_set_off_store_delete(going.row->set_off_id);
			fp_set_off_store_add(going.row);
			model->next_set_off = going.row->set_off_id + 1;
			model->set_off_at = TimestampTzPlusMilliseconds(fp_clock_real(),
															LOCKED_DELAY_MS);
			return;
		}
		fp_link_enter(model, going.made);
		model->next_set_off = going.row->set_off_id + 1;
	}
	model->set_off_at = DT_NOBEGIN;
}

/*
 * Makes the runs for one row, or some of them and a row for the others.  That
 * the DAG has been paused since does not matter: then they wait.
 */
static void
go_on(void *arg)
{
	GoingOn    *going = arg;
	const FpSetOffRow *row = going->row;
	FpDag	   *tobe = fp_model_dag(going->model, row->dag_id, false);
	FpSchedule *schedule = NULL;

	fp_set_off_store_delete(row->set_off_id);
	if (tobe == NULL || tobe->row == NULL || tobe->row->schedule != NULL ||
		tobe->row->first_version != row->first_version ||
		!tobe->row->has_tasks)
		return;
	schedule = effective_schedule(going->model, tobe);
	if (!tobe->is_readable)
		not_now(tobe);
	if (schedule != NULL && schedule->kind != FP_SCHEDULE_CONTINUOUS)
		set_off_intervals(going->model, tobe, schedule, row->from, row->until,
						  &going->made);
}

/*
 * What follows from runs, in order of time, that have succeeded: of those that
 * follow on each other at once, which a long pause makes many.
 */
static void
catch_up(FpModel *model, FpDag *dag, List *runs, List **made)
{
	FpSchedule *schedule = effective_schedule(model, dag);
	bool		is_joined = schedule != NULL &&
		schedule->kind != FP_SCHEDULE_CONTINUOUS;
	TimestampTz from = DT_NOBEGIN;
	TimestampTz until = DT_NOBEGIN;
	ListCell   *lc;

	foreach(lc, runs)
	{
		const FpRunRow *row = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (is_joined && from != DT_NOBEGIN &&
			row->data_interval_start >= from &&
			row->data_interval_start <= until)
		{
			until = Max(until, row->data_interval_end);
			continue;
		}
		if (from != DT_NOBEGIN)
			set_off(model, dag, from, until, made);
		from = row->data_interval_start;
		until = row->data_interval_end;
	}
	if (from != DT_NOBEGIN)
		set_off(model, dag, from, until, made);
}

/* The same for runs that count for a date each. */
static void
catch_up_by_date(FpModel *model, FpDag *dag, List *runs, List **made)
{
	DateADT		last = DATEVAL_NOBEGIN;
	ListCell   *lc;

	foreach(lc, runs)
	{
		const FpRunRow *row = lfirst(lc);
		DateADT		date = date_in_zone(row->data_interval_end,
										dag->row->timezone);

		CHECK_FOR_INTERRUPTS();
		if (date != last)
			set_off_by_date(model, dag, date, made);
		last = date;
	}
}

void
fp_link_wake_waiting(FpModel *model, FpDag *dag)
{
	wake_waiting(model, dag, false, DT_NOBEGIN, DT_NOEND);
}

/*
 * Of the runs of a DAG that wait, those whose interval overlaps [from, until),
 * or with by_end those that end in it: whether they may go on has to be looked
 * up, so others are not asked.
 */
static void
wake_waiting(FpModel *model, FpDag *dag, bool by_end, TimestampTz from,
			 TimestampTz until)
{
	dlist_iter	queues;
	dlist_mutable_iter runs;

	dlist_foreach(queues, &dag->queues)
	{
		FpQueue    *queue = dlist_container(FpQueue, dag_node, queues.cur);

		dlist_foreach_modify(runs, &queue->waiting)
		{
			FpRun	   *run = dlist_container(FpRun, waiting_node, runs.cur);

			if (by_end
				? (run->data_interval_end < from ||
				   run->data_interval_end >= until)
				: (run->data_interval_end < from ||
				   run->data_interval_start >= until))
				continue;
			if (!fp_link_is_satisfied(model, run))
				continue;
			fp_model_dequeue_run(run);
			fp_model_enqueue_run(model, run, false);
		}
	}
}

/*
 * The date as a span of time in the DAG's timezone; one in which nothing ends
 * where the run was triggered for a date on which no interval can, or where
 * nobody knows the timezone.
 */
static void
ends_on(const FpDag *dag, DateADT date, TimestampTz *from, TimestampTz *until)
{
	if (dag->is_broken || !fp_schedule_has_date(date))
	{
		*from = *until = DT_NOEND;
		return;
	}
	*from = fp_run_planner_day_start(date, dag->row->timezone);
	*until = fp_run_planner_day_start(date + 1, dag->row->timezone);
}

/*
 * Whether neither the DAG nor one that gives it its intervals is broken: a
 * timezone that the server no longer has must not stop the DAGs that have
 * nothing to do with it.
 */
static bool
is_readable(FpModel *model, FpDag *dag)
{
	(void) effective_schedule(model, dag);
	return dag->is_readable;
}

/*
 * The schedule that gives the DAG's runs their intervals, NULL where it
 * speaks by date; kept until any definition changes.  It is what
 * fp_run_planner_effective_schedule says, by the definitions in memory: what
 * is found for the DAGs on the way up is kept, too, so that all DAGs of a chain
 * cost no more than one.  A schedule that cannot be read gives no intervals,
 * and the DAG is not readable.
 */
static FpSchedule *
effective_schedule(FpModel *model, FpDag *dag)
{
	TimestampTz now;
	List	   *open;			/* OpenDag *: the way to where we are */

	if (dag->effective_as_of == model->ndefinitions)
		return dag->effective;
	now = fp_clock_now();
	open = look_at_dag(model, dag, NIL);
	while (open != NIL)
	{
		OpenDag    *last = llast(open);
		List	   *asis_dags = last->dag->row->asis_dags;
		FpDag	   *asis;

		if (last->next == list_length(asis_dags))
		{
			set_effective(model, last->dag, last->longest);
			open = list_delete_last(open);
			pfree(last);
			continue;
		}
		asis = fp_model_dag(model, list_nth(asis_dags, last->next), false);
		if (asis != NULL && asis->effective_as_of != model->ndefinitions)
		{
			open = look_at_dag(model, asis, open);
			continue;			/* comes back when that one is done */
		}
		if (asis != NULL)
		{
			last->longest = fp_run_planner_longer(last->longest,
												  asis->effective, now);
			last->dag->is_readable &= asis->is_readable;
		}
		last->next++;
	}
	return dag->effective;
}

/*
 * Sets a DAG's effective schedule; where its asis DAGs have to be looked at for
 * it, that is NULL for now and the DAG is added to open.
 */
static List *
look_at_dag(FpModel *model, FpDag *dag, List *open)
{
	bool		is_open = dag->row != NULL && dag->row->schedule == NULL &&
		dag->row->asis_dags != NIL;

	set_effective(model, dag, dag->row != NULL && !is_open ? dag->schedule
				  : NULL);
	dag->is_readable = !dag->is_broken;
	dag->effective_as_of = model->ndefinitions;
	if (is_open)
	{
		OpenDag    *entry = palloc0(sizeof(OpenDag));

		entry->dag = dag;
		open = lappend(open, entry);
	}
	return open;
}

static void
set_effective(FpModel *model, FpDag *dag, const FpSchedule *schedule)
{
	if (dag->effective != NULL)
		pfree(dag->effective);
	dag->effective = NULL;
	if (schedule != NULL)
	{
		dag->effective = MemoryContextAlloc(model->context,
											sizeof(FpSchedule));
		*dag->effective = *schedule;
	}
}

static bool
speaks_by_date(FpModel *model, const char *asis_dag)
{
	FpDag	   *dag = fp_model_dag(model, asis_dag, false);
	FpSchedule *schedule;

	if (dag == NULL || dag->row == NULL)
		return true;

	/* a date could be said of part of what it runs for; coverage cannot */
	if (!is_readable(model, dag))
		return false;
	schedule = effective_schedule(model, dag);
	return schedule == NULL || schedule->kind == FP_SCHEDULE_NONE ||
		schedule->kind == FP_SCHEDULE_ONCE;
}

/* NULL: not known */
static const ItemPointerData *
coverage_place(FpModel *model, const char *dag_id)
{
	FpDag	   *dag = fp_model_dag(model, dag_id, false);

	return dag == NULL ? NULL : &dag->coverage_place;
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
			: !fp_coverage_store_contains(asis_dag, start, end,
										  coverage_place(model, asis_dag)))
			return false;
	}
	return true;
}

/*
 * Makes the runs of a DAG without a schedule that success in [from, until)
 * allows.
 */
static void
set_off(FpModel *model, FpDag *tobe, TimestampTz from, TimestampTz until,
		List **made)
{
	FpSchedule *schedule;

	if (tobe->row == NULL || tobe->row->schedule != NULL ||
		tobe->row->is_paused || !tobe->row->has_tasks ||
		!is_readable(model, tobe))
		return;
	schedule = effective_schedule(model, tobe);
	if (schedule == NULL)
		return;
	if (schedule->kind == FP_SCHEDULE_CONTINUOUS)
	{
		if (is_interval_satisfied(model, tobe, from, until))
			make_run(tobe, from, until, made);
		return;
	}
	set_off_intervals(model, tobe, schedule, from, until, made);
}

/*
 * Makes the runs for the intervals that overlap [from, until) and for which all
 * asis DAGs have succeeded.  There may be any number of them; of what is more
 * than one cycle should make, a row in flow.set_off is left.
 */
static void
set_off_intervals(FpModel *model, FpDag *tobe, FpSchedule *schedule,
				  TimestampTz from, TimestampTz until, List **made)
{
	FpInterval	interval;
	TimestampTz left;

	if (!fp_schedule_containing(schedule, from, &interval) &&
		!fp_schedule_after(schedule, from, &interval))
		return;
	if (interval.start >= until)
		return;
	if (interval.end >= until)
	{
		/* the only one, which is the rule */
		if (is_interval_satisfied(model, tobe, interval.start, interval.end))
			make_run(tobe, interval.start, interval.end, made);
		return;
	}

	left = make_satisfied(model, tobe, schedule, interval, until, made);
	if (left != DT_NOEND)
	{
		FpSetOffRow row = {0};

		row.dag_id = tobe->dag_id;
		row.first_version = tobe->row->first_version;
		row.from = left;
		row.until = until;
		fp_set_off_store_add(&row);
		model->set_off_at = Min(model->set_off_at, fp_clock_real());
	}
}

/*
 * Goes over the intervals from this one on that start before until, but only
 * where all asis DAGs that speak by coverage have succeeded.  Returns the start
 * of the interval that is to be gone on with, DT_NOEND: all is done.
 */
static TimestampTz
make_satisfied(FpModel *model, FpDag *tobe, FpSchedule *schedule,
			   FpInterval interval, TimestampTz until, List **made)
{
	List	   *covering = NIL;
	List	   *words = NIL;
	FpInterval	whole = {interval.start, until};
	FpInterval	last;
	List	   *pieces;
	ListCell   *lc;

	foreach(lc, tobe->row->asis_dags)
	{
		if (speaks_by_date(model, lfirst(lc)))
			words = lappend(words, lfirst(lc));
		else
			covering = lappend(covering, lfirst(lc));
	}
	if (fp_schedule_containing(schedule, until - 1, &last))
		whole.end = Max(until, last.end);
	pieces = covering == NIL ? list_make1(&whole)
		: fp_set_off_store_covered(covering, whole.start, whole.end,
								   MAX_PIECES);

	foreach(lc, pieces)
	{
		const FpInterval *piece = lfirst(lc);

		if (interval.start < piece->start &&
			!fp_schedule_at_or_after(schedule, piece->start, &interval))
			return DT_NOEND;
		while (interval.start < until && interval.end <= piece->end)
		{
			CHECK_FOR_INTERRUPTS();
			if (model->nset_off >= MAX_SET_OFF_AT_ONCE)
				return interval.start;
			model->nset_off++;
			if (have_word(tobe, words, interval.end))
				make_run(tobe, interval.start, interval.end, made);
			if (!fp_schedule_after(schedule, interval.start, &interval))
				return DT_NOEND;
		}
		if (interval.start >= until)
			return DT_NOEND;
	}
	if (list_length(pieces) < MAX_PIECES)
		return DT_NOEND;

	/* there is more; not for an interval that a piece has ended in */
	if (interval.start < ((FpInterval *) llast(pieces))->end &&
		!fp_schedule_after(schedule, interval.start, &interval))
		return DT_NOEND;
	return interval.start < until ? interval.start : DT_NOEND;
}

/*
 * Whether these asis DAGs, which speak by date, have all succeeded for the date
 * on which an interval ends.
 */
static bool
have_word(FpDag *tobe, List *words, TimestampTz end)
{
	DateADT		date;
	ListCell   *lc;

	if (words == NIL)
		return true;
	date = date_in_zone(end, tobe->row->timezone);
	foreach(lc, words)
	{
		if (!fp_coverage_store_has_word(lfirst(lc), date, tobe->row->owner))
			return false;
	}
	return true;
}

/*
 * The same for a word that holds for a date: the intervals that end on it,
 * or, where nothing gives intervals, the day before it.
 */
static void
set_off_by_date(FpModel *model, FpDag *tobe, DateADT date, List **made)
{
	FpSchedule *schedule;
	FpInterval	interval;
	FpInterval	last;
	TimestampTz day_start;
	TimestampTz day_end;

	if (tobe->row == NULL || tobe->row->schedule != NULL ||
		tobe->row->is_paused || !tobe->row->has_tasks ||
		!is_readable(model, tobe) || !fp_schedule_has_date(date))
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
			make_run(tobe, interval.start, interval.end, made);
		return;
	}
	if (schedule->kind == FP_SCHEDULE_CONTINUOUS ||
		!fp_schedule_containing(schedule, day_start - 1, &interval))
		return;

	/* that one ends on the date or later, as do those before the day's last */
	if (fp_schedule_containing(schedule, day_end - 1, &last))
		day_end = last.start;
	set_off_intervals(model, tobe, schedule, interval.start, day_end, made);
}

/*
 * Inserts a run, if none stands for the interval.  It is entered into memory
 * afterwards.
 */
static void
make_run(FpDag *tobe, TimestampTz start, TimestampTz end, List **made)
{
	FpRunRow   *row;

	if (tobe->row->start_is_given && start < tobe->row->start_date)
		return;
	if (start > fp_dag_last_start(tobe->row))
		return;

	/* it could be one of the dropped DAG, which is yet to be cancelled */
	if (tobe->is_drop_pending)
		not_now(tobe);
	row = palloc0(sizeof(FpRunRow));
	row->dag_id = tobe->dag_id;
	row->run_type = FP_RUN_TRIGGERED;
	row->state = FP_RUN_QUEUED;
	row->logical_date = start;
	row->data_interval_start = start;
	row->data_interval_end = end;
	row->run_id = fp_run_store_insert(row, NULL, fp_clock_real());
	if (row->run_id != 0 || fp_run_store_take_over(row, fp_clock_real()))
		*made = lappend(*made, row);
}

/* As where a session's lock is in the way: it is tried again. */
static void
not_now(const FpDag *dag)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("runs of dag \"%s\" cannot be made just now", dag->dag_id)));
}

static DateADT
date_in_zone(TimestampTz at, const char *timezone)
{
	pg_tz	   *zone = pg_tzset(timezone);
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;

	/* a timezone that the server no longer has must not stop other DAGs */
	if (zone == NULL)
		zone = pg_tzset("GMT");
	if (timestamp2tm(at, &tz, &tm, &fsec, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}
