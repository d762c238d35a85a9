/*-------------------------------------------------------------------------
 *
 * run_planner.c
 *	  Which runs there should be: those that the scheduler makes by schedule,
 *	  and those that a backfill makes or runs again.
 *
 * Called by sessions (flow_due_runs, flow_backfill and its preview, the views)
 * and by the scheduler, which so agree on what is due.  Nothing is written
 * and nothing is locked: between planning and inserting, another transaction
 * may make one of the runs, which the insert then leaves alone.
 *
 * A backfill goes over the intervals of the range and looks, for each, for a
 * run that stands for it.  Both come sorted by time and are walked through
 * side by side, so ten years by the hour are no more than a long loop.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"

#include "coverage_store.h"
#include "graph.h"
#include "run_planner.h"
#include "run_store.h"

/* A backfill of more runs than this is a mistake. */
#define MAX_PLANNED_RUNS 5000000

/* An effective schedule that has been found, or is being looked for. */
typedef struct FoundSchedule
{
	char		dag_id[FP_ID_SIZE]; /* hash key */
	FpSchedule *schedule;		/* NULL: speaks by date */
} FoundSchedule;

/* A DAG without a schedule, some of whose asis DAGs have been looked at. */
typedef struct OpenDag
{
	FoundSchedule *found;
	List	   *asis_dags;		/* char * */
	int			next;			/* of asis_dags, to be looked at */
} OpenDag;

/* Walks through the runs that are there, beside intervals sorted by time. */
typedef struct ExistingRuns
{
	List	   *runs;			/* FpRunRow *, in order of time */
	int			next;			/* of runs, not yet come up to */
	List	   *open;			/* those that may still cover an interval */
} ExistingRuns;

/* A DAG that a cascade reaches; the first one is where it begins. */
typedef struct CascadeDag
{
	FpDagRow   *row;			/* NULL: it is no DAG of flowpg */
	const char *dag_id;
	List	   *asis;			/* CascadeDag *: those that it waits for and
								 * that the cascade reaches too */
	int			number;			/* its place in Cascade.dags */
	bool		speaks_by_date;
	List	   *intervals;		/* FpInterval *: what is run, in order */
	List	   *ranges;			/* the same, adjacent ones merged */
} CascadeDag;

/* Where in a cascade a DAG is. */
typedef struct ReachedDag
{
	char		dag_id[FP_ID_SIZE]; /* hash key */
	CascadeDag *dag;
} ReachedDag;

typedef struct Cascade
{
	TimestampTz now;
	List	   *dags;			/* CascadeDag * */
	HTAB	   *reached;		/* ReachedDag: the same by dag_id */
	HTAB	   *found;			/* FoundSchedule */
	List	   *result;			/* FpPlannedRun * */
} Cascade;

static HTAB *new_table(const char *name, Size entrysize);
static FpSchedule *find_effective_schedule(const char *dag_id, TimestampTz at,
										   HTAB *found);
static FoundSchedule *look_at_dag(const char *dag_id, HTAB *found,
								  List **open);
static int64 length_around(const FpSchedule *schedule, TimestampTz at);
static FpSchedule *backfill_schedule(const FpDagRow *dag, TimestampTz at);
static List *schedule_intervals(const FpSchedule *schedule,
								const FpBackfillRange *range,
								TimestampTz now);
static List *span_intervals(const FpDagRow *dag, const FpBackfillRange *range,
							TimestampTz now);
static List *join_chunks(List *planned_runs, const Interval *chunk,
						 pg_tz *zone);
static TimestampTz add_chunks(TimestampTz start, const Interval *chunk,
							  int64 n, pg_tz *zone);
static List *add_interval(List *intervals, TimestampTz start, TimestampTz end);
static FpPlannedRun *plan_interval(const char *dag_id,
								   const FpInterval *interval,
								   const FpRunRow *existing);
static void begin_existing(ExistingRuns *existing, const char *dag_id,
						   List *intervals);
static const FpRunRow *find_existing(ExistingRuns *existing,
									 const FpInterval *interval);
static FpPlanAction decide(const FpRunRow *existing, FpReprocess reprocess);
static void begin_cascade(Cascade *cascade, TimestampTz now);
static void reach_dags(Cascade *cascade);
static CascadeDag *find_dag(Cascade *cascade, const char *dag_id);
static List *order_dags(Cascade *cascade);
static void plan_dag(Cascade *cascade, CascadeDag *dag);
static List *touched_intervals(Cascade *cascade, CascadeDag *dag);
static List *touched_runs(Cascade *cascade, CascadeDag *dag);
static List *intervals_in(List *intervals, const FpSchedule *schedule,
						  const FpInterval *range);
static List *intervals_ending(List *intervals, const FpSchedule *schedule,
							  DateADT date, const char *timezone);
static bool will_be_covered(Cascade *cascade, const CascadeDag *dag,
							const FpInterval *interval);
static bool is_covered_by(const CascadeDag *reached, const char *asis_dag,
						  const FpInterval *interval);
static bool has_word(const CascadeDag *dag, const CascadeDag *reached,
					 const char *asis_dag, const FpInterval *interval);
static bool speaks_by_date(Cascade *cascade, const char *dag_id);
static List *dependent_runs(CascadeDag *dag);
static List *runs_ending(List *runs, const CascadeDag *dag, DateADT date);
static List *merge_adjacent(List *intervals);
static int	compare_intervals(const ListCell *a, const ListCell *b);
static int	compare_runs(const ListCell *a, const ListCell *b);
static bool read_minutes(const char **text, int *minutes);


FpSchedule *
fp_run_planner_schedule(const FpDagRow *dag)
{
	if (dag->schedule == NULL)
		return NULL;
	return fp_schedule_parse(dag->schedule, dag->timezone, dag->start_date);
}

FpSchedule *
fp_run_planner_effective_schedule(const char *dag_id, TimestampTz at)
{
	HTAB	   *found = new_table("flowpg schedules", sizeof(FoundSchedule));
	FpSchedule *result = find_effective_schedule(dag_id, at, found);

	hash_destroy(found);
	return result;
}

FpSchedule *
fp_run_planner_longer(FpSchedule *schedule, FpSchedule *other, TimestampTz at)
{
	if (fp_run_planner_speaks_by_date(other))
		return schedule;
	if (schedule == NULL ||
		length_around(other, at) > length_around(schedule, at))
		return other;
	return schedule;
}

/*
 * The interval of @once is empty: it covers nothing.
 */
bool
fp_run_planner_speaks_by_date(const FpSchedule *effective_schedule)
{
	return effective_schedule == NULL ||
		effective_schedule->kind == FP_SCHEDULE_NONE ||
		effective_schedule->kind == FP_SCHEDULE_ONCE;
}

bool
fp_run_planner_interval_at(const FpDagRow *dag, TimestampTz at,
						   FpInterval *result)
{
	FpSchedule *schedule;

	if (dag->schedule == NULL && dag->asis_dags == NIL)
		return false;
	schedule = fp_run_planner_effective_schedule(dag->dag_id, at);

	/* where all its asis DAGs speak by date, it runs once a date */
	if (schedule == NULL)
		schedule = fp_schedule_parse("@daily", dag->timezone,
									 dag->start_date);
	return fp_schedule_containing(schedule, at, result);
}

/*
 * Where missed intervals are to be skipped, the first one is that which had
 * not ended when the DAG was resumed.
 */
void
fp_run_planner_bounds(const FpDagRow *dag, FpRunBounds *bounds)
{
	bounds->has_last = dag->has_last;
	bounds->last.start = dag->last_start;
	bounds->last.end = dag->last_end;
	bounds->earliest = dag->start_date;
	bounds->latest = fp_dag_last_start(dag);
	bounds->catchup = dag->catchup;

	if (dag->resumed_at > bounds->earliest)
	{
		FpSchedule *schedule = fp_run_planner_schedule(dag);
		FpInterval	interval;

		/* what has no cadence goes on from the moment itself */
		if (schedule == NULL ||
			!fp_schedule_containing(schedule, dag->resumed_at, &interval))
			interval.start = dag->resumed_at;
		bounds->earliest = Max(bounds->earliest, interval.start);

		/* @once does not look at earliest: its moment has been missed */
		if (schedule != NULL && schedule->kind == FP_SCHEDULE_ONCE &&
			schedule->anchor <= dag->resumed_at)
			bounds->latest = DT_NOBEGIN;
	}
}

bool
fp_run_planner_next(const FpDagRow *dag, TimestampTz now, FpInterval *result)
{
	FpSchedule *schedule = fp_run_planner_schedule(dag);
	FpRunBounds bounds;

	if (schedule == NULL || !dag->has_tasks)
		return false;
	fp_run_planner_bounds(dag, &bounds);
	return fp_schedule_next_run(schedule, &bounds, now, result);
}

/*
 * Midnight, or what comes first of the day where a change of the zone's
 * offset skips midnight; its first coming where it comes twice, so that the
 * whole day follows.
 */
TimestampTz
fp_run_planner_day_start(DateADT date, const char *timezone)
{
	pg_tz	   *zone = fp_schedule_timezone(timezone);
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;
	TimestampTz result;

	memset(&tm, 0, sizeof(tm));
	j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, 0, &offset, &result) != 0 ||
		timestamp2tm(result - 1, &offset, &tm, &fsec, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("date out of range")));

	/* was it that date already, a moment before?  Then by so much. */
	if (date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) ==
		date + POSTGRES_EPOCH_JDATE)
		result -= ((tm.tm_hour * MINS_PER_HOUR + tm.tm_min) * SECS_PER_MINUTE +
				   tm.tm_sec) * USECS_PER_SEC + fsec + 1;
	return result;
}

DateADT
fp_run_planner_date_of(TimestampTz at, const char *timezone)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;

	if (timestamp2tm(at, &offset, &tm, &fsec, NULL,
					 fp_schedule_timezone(timezone)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}

bool
fp_run_planner_parse_window(const char *window, int *from, int *until)
{
	const char *p = window;

	return read_minutes(&p, from) && *p++ == '-' &&
		read_minutes(&p, until) && *p == '\0' && *from != *until;
}

List *
fp_run_planner_backfill(const FpDagRow *dag, const FpBackfillRange *range,
						TimestampTz now)
{
	FpSchedule *schedule = backfill_schedule(dag, now);
	ExistingRuns existing;
	List	   *intervals;
	List	   *result = NIL;
	ListCell   *cell;

	if (schedule != NULL)
		intervals = schedule_intervals(schedule, range, now);
	else
		intervals = span_intervals(dag, range, now);

	begin_existing(&existing, dag->dag_id, intervals);
	foreach(cell, intervals)
	{
		const FpInterval *interval = lfirst(cell);
		const FpRunRow *run = find_existing(&existing, interval);
		FpPlannedRun *planned = plan_interval(dag->dag_id, interval, run);

		planned->action = decide(run, range->reprocess);
		result = lappend(result, planned);
		CHECK_FOR_INTERRUPTS();
	}

	if (schedule != NULL && range->chunk != NULL)
		result = join_chunks(result, range->chunk, schedule->zone);
	return result;
}

List *
fp_run_planner_cascade(const FpDagRow *dag, List *planned_runs,
					   TimestampTz now)
{
	Cascade		cascade;
	CascadeDag *root;
	List	   *order;
	ListCell   *cell;

	begin_cascade(&cascade, now);
	root = find_dag(&cascade, dag->dag_id);
	foreach(cell, planned_runs)
	{
		const FpPlannedRun *planned = lfirst(cell);

		if (planned->action == FP_PLAN_CREATE ||
			planned->action == FP_PLAN_FAILED ||
			planned->action == FP_PLAN_COMPLETED)
			root->intervals = add_interval(root->intervals,
										   planned->run_start,
										   planned->run_end);
	}
	if (root->intervals == NIL)
		return NIL;
	root->ranges = merge_adjacent(root->intervals);

	reach_dags(&cascade);
	order = order_dags(&cascade);
	foreach(cell, order)
	{
		CascadeDag *reached = lfirst(cell);

		if (reached != root)
			plan_dag(&cascade, reached);
	}
	return cascade.result;
}

List *
fp_run_planner_dependent_runs(const FpDagRow *dag, List *runs,
							  TimestampTz now)
{
	Cascade		cascade;
	CascadeDag *root;
	List	   *order;
	List	   *result = NIL;
	ListCell   *cell;

	begin_cascade(&cascade, now);
	root = find_dag(&cascade, dag->dag_id);
	foreach(cell, runs)
	{
		const FpRunRow *run = lfirst(cell);

		root->intervals = add_interval(root->intervals,
									   run->data_interval_start,
									   run->data_interval_end);
	}
	list_sort(root->intervals, compare_intervals);
	root->ranges = merge_adjacent(root->intervals);

	reach_dags(&cascade);
	order = order_dags(&cascade);
	foreach(cell, order)
	{
		CascadeDag *reached = lfirst(cell);

		if (reached != root && reached->row != NULL)
			result = list_concat(result, dependent_runs(reached));
	}
	return result;
}

FpInterval
fp_run_planner_interval_to_trigger(const FpDagRow *dag, bool has_logical_date,
								   TimestampTz logical_date, TimestampTz now)
{
	FpSchedule *schedule = fp_run_planner_effective_schedule(dag->dag_id, now);
	FpInterval	result;

	if (schedule == NULL || (schedule->kind != FP_SCHEDULE_CRON &&
							 schedule->kind != FP_SCHEDULE_INTERVAL))
	{
		result.start = result.end = has_logical_date ? logical_date : now;
		return result;
	}

	if (has_logical_date ?
		!fp_schedule_containing(schedule, logical_date, &result) :
		!fp_schedule_latest_complete(schedule, now, &result))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("the schedule of dag \"%s\" has no interval there",
						dag->dag_id),
				 errhint("Give another logical_date.")));
	return result;
}

/* By dag_id, which is the first member of an entry. */
static HTAB *
new_table(const char *name, Size entrysize)
{
	HASHCTL		control = {0};

	control.keysize = FP_ID_SIZE;
	control.entrysize = entrysize;
	control.hcxt = CurrentMemoryContext;
	return hash_create(name, 64, &control,
					   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/*
 * Up from the DAG, each one once, and without recursion: a chain of DAGs may
 * be longer than the stack.
 */
static FpSchedule *
find_effective_schedule(const char *dag_id, TimestampTz at, HTAB *found)
{
	List	   *open = NIL;		/* OpenDag *: the way to where we are */
	FoundSchedule *result = look_at_dag(dag_id, found, &open);

	while (open != NIL)
	{
		OpenDag    *dag = llast(open);
		FoundSchedule *asis;

		CHECK_FOR_INTERRUPTS();
		if (dag->next == list_length(dag->asis_dags))
		{
			open = list_delete_last(open);
			continue;
		}
		asis = look_at_dag(list_nth(dag->asis_dags, dag->next), found, &open);
		if (llast(open) != dag)
			continue;			/* comes back when that one is done */
		dag->found->schedule = fp_run_planner_longer(dag->found->schedule,
													 asis->schedule, at);
		dag->next++;
	}
	return result->schedule;
}

/*
 * What is known of a DAG's effective schedule; where its asis DAGs have to be
 * looked at for it, the DAG is added to open.
 */
static FoundSchedule *
look_at_dag(const char *dag_id, HTAB *found, List **open)
{
	FoundSchedule *result;
	FpDagRow   *dag;
	bool		is_known;

	result = hash_search(found, dag_id, HASH_ENTER, &is_known);
	if (is_known)
		return result;
	result->schedule = NULL;
	dag = fp_dag_store_get(dag_id);
	if (dag == NULL)
		return result;
	if (dag->schedule != NULL)
		result->schedule = fp_run_planner_schedule(dag);
	else if (dag->asis_dags != NIL)
	{
		OpenDag    *entry = palloc(sizeof(OpenDag));

		entry->found = result;
		entry->asis_dags = dag->asis_dags;
		entry->next = 0;
		*open = lappend(*open, entry);
	}
	return result;
}

/*
 * How long the schedule's interval around a moment is, in microseconds; 0
 * where it has no cadence.
 */
static int64
length_around(const FpSchedule *schedule, TimestampTz at)
{
	FpInterval	interval;

	if (!fp_schedule_containing(schedule, at, &interval))
		return 0;
	return interval.end - interval.start;
}

/*
 * The schedule whose intervals a backfill takes.  NULL: the DAG has none and
 * takes a span as it is.
 */
static FpSchedule *
backfill_schedule(const FpDagRow *dag, TimestampTz at)
{
	FpSchedule *schedule;

	if (dag->schedule == NULL && dag->asis_dags == NIL)
		return NULL;

	schedule = fp_run_planner_effective_schedule(dag->dag_id, at);

	/* where all its asis DAGs speak by date, it runs once a date */
	if (schedule == NULL)
		schedule = fp_schedule_parse("@daily", dag->timezone,
									 dag->start_date);

	if (schedule->kind != FP_SCHEDULE_CRON &&
		schedule->kind != FP_SCHEDULE_INTERVAL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 dag->schedule != NULL ?
				 errmsg("cannot backfill dag \"%s\": its schedule is %s",
						dag->dag_id, dag->schedule) :
				 errmsg("cannot backfill dag \"%s\": the DAGs that it waits for have no intervals that repeat",
						dag->dag_id),
				 errhint("Use flow_trigger to run it.")));
	return schedule;
}

static List *
schedule_intervals(const FpSchedule *schedule, const FpBackfillRange *range,
				   TimestampTz now)
{
	List	   *result = NIL;
	FpInterval	interval;

	if (!fp_schedule_at_or_after(schedule, range->from, &interval))
		return NIL;
	while (interval.start < range->until && interval.end <= now)
	{
		result = add_interval(result, interval.start, interval.end);
		if (!fp_schedule_after(schedule, interval.start, &interval))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	return result;
}

/*
 * A DAG that has no intervals of its own or anyone's: the span is one, or is
 * cut into chunks.
 */
static List *
span_intervals(const FpDagRow *dag, const FpBackfillRange *range,
			   TimestampTz now)
{
	List	   *result = NIL;
	TimestampTz start = range->from;

	if (!range->is_span)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot backfill dag \"%s\" by dates: it has no schedule",
						dag->dag_id),
				 errhint("Give a span, which is then one run, or use flow_trigger.")));
	if (range->until > now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid span: it has not ended"),
				 errhint("Only intervals that have ended can be run.")));

	for (int64 n = 1; start < range->until; n++)
	{
		TimestampTz end = range->until;

		if (range->chunk != NULL)
			end = Min(end, add_chunks(range->from, range->chunk, n,
									  fp_schedule_timezone(dag->timezone)));
		if (end > start)
			result = add_interval(result, start, end);
		start = end;
		CHECK_FOR_INTERRUPTS();
	}
	return result;
}

/*
 * Join the runs that are to be made, where they follow on each other and lie
 * in the same chunk.  Chunks are counted from the first interval of the
 * range, whatever is there already; an interval belongs to the chunk in which
 * it starts.
 */
static List *
join_chunks(List *planned_runs, const Interval *chunk, pg_tz *zone)
{
	List	   *result = NIL;
	FpPlannedRun *joined = NULL;
	TimestampTz origin = DT_NOBEGIN;
	TimestampTz chunk_end = DT_NOBEGIN;
	int64		n = 0;
	ListCell   *cell;

	foreach(cell, planned_runs)
	{
		FpPlannedRun *planned = lfirst(cell);

		if (origin == DT_NOBEGIN)
		{
			origin = planned->start;
			chunk_end = add_chunks(origin, chunk, ++n, zone);
		}
		if (planned->start >= chunk_end)
		{
			joined = NULL;
			chunk_end = add_chunks(origin, chunk, ++n, zone);

			/* shorter than an interval: each one is a chunk */
			if (chunk_end <= planned->start)
			{
				origin = planned->start;
				n = 1;
				chunk_end = add_chunks(origin, chunk, n, zone);
			}
		}

		if (planned->action != FP_PLAN_CREATE)
			joined = NULL;
		else if (joined != NULL)
		{
			joined->end = joined->run_end = planned->end;
			continue;
		}
		else
			joined = planned;
		result = lappend(result, planned);
	}
	return result;
}

/*
 * The end of the nth chunk that is counted from a moment.  Months and days
 * are counted on the wall clock, from the start each, so that they do not
 * stick at the end of a short month.
 */
static TimestampTz
add_chunks(TimestampTz start, const Interval *chunk, int64 n, pg_tz *zone)
{
	TimestampTz result = start;

	if (chunk->month != 0 || chunk->day != 0)
	{
		struct pg_tm tm;
		fsec_t		fsec;
		int			offset;
		int64		month;
		int			julian;

		if (timestamp2tm(start, &offset, &tm, &fsec, NULL, zone) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("timestamp out of range")));
		month = (int64) tm.tm_year * MONTHS_PER_YEAR + tm.tm_mon - 1 +
			n * chunk->month;
		tm.tm_mon = month % MONTHS_PER_YEAR;
		if (tm.tm_mon < 0)		/* before the year 1 */
			tm.tm_mon += MONTHS_PER_YEAR;
		tm.tm_year = (month - tm.tm_mon) / MONTHS_PER_YEAR;
		tm.tm_mon++;
		tm.tm_mday = Min(tm.tm_mday,
						 day_tab[isleap(tm.tm_year)][tm.tm_mon - 1]);
		julian = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) + n * chunk->day;
		j2date(julian, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		offset = DetermineTimeZoneOffset(&tm, zone);
		if (tm2timestamp(&tm, fsec, &offset, &result) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("timestamp out of range")));
	}
	return result + n * chunk->time;
}

static List *
add_interval(List *intervals, TimestampTz start, TimestampTz end)
{
	FpInterval *interval = palloc(sizeof(FpInterval));

	if (list_length(intervals) >= MAX_PLANNED_RUNS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a backfill cannot have more than %d runs",
						MAX_PLANNED_RUNS),
				 errhint("Backfill a shorter range, or give a chunk.")));
	interval->start = start;
	interval->end = end;
	return lappend(intervals, interval);
}

static FpPlannedRun *
plan_interval(const char *dag_id, const FpInterval *interval,
			  const FpRunRow *existing)
{
	FpPlannedRun *planned = palloc0(sizeof(FpPlannedRun));

	planned->dag_id = dag_id;
	planned->start = planned->run_start = interval->start;
	planned->end = planned->run_end = interval->end;
	if (existing != NULL)
	{
		planned->run_id = existing->run_id;
		planned->run_start = existing->data_interval_start;
		planned->run_end = existing->data_interval_end;
	}
	return planned;
}

/*
 * Prepare to find the runs that stand for intervals sorted by time.
 */
static void
begin_existing(ExistingRuns *existing, const char *dag_id, List *intervals)
{
	memset(existing, 0, sizeof(ExistingRuns));
	if (intervals != NIL)
	{
		const FpInterval *first = linitial(intervals);
		const FpInterval *last = llast(intervals);

		existing->runs = fp_run_store_between(dag_id, first->start,
											  last->end);
	}
}

/*
 * The run that stands for an interval: one that covers it, or that has its
 * logical date, for which there can be no other.  NULL: none.  Where several
 * do, one that is in progress, else that which starts last.  To be called
 * with one interval after the other.
 */
static const FpRunRow *
find_existing(ExistingRuns *existing, const FpInterval *interval)
{
	const FpRunRow *result = NULL;
	ListCell   *cell;

	while (existing->next < list_length(existing->runs))
	{
		FpRunRow   *run = list_nth(existing->runs, existing->next);

		if (run->logical_date > interval->start)
			break;
		existing->open = lappend(existing->open, run);
		existing->next++;
	}

	foreach(cell, existing->open)
	{
		FpRunRow   *run = lfirst(cell);

		if (run->logical_date != interval->start &&
			run->data_interval_end < interval->end)
		{
			/* ends before this interval does, so before all that follow */
			existing->open = foreach_delete_current(existing->open, cell);
			continue;
		}
		if (result == NULL || fp_run_state_is_finished(result->state))
			result = run;
	}
	return result;
}

/*
 * What a backfill does where a run is there; NULL: none.  A cancelled run has
 * not succeeded, so it counts as failed: a backfill that was cancelled half
 * way goes on when it is asked for again.
 */
static FpPlanAction
decide(const FpRunRow *existing, FpReprocess reprocess)
{
	if (existing == NULL)
		return FP_PLAN_CREATE;
	if (!fp_run_state_is_finished(existing->state))
		return FP_PLAN_SKIP_IN_PROGRESS;

	switch (reprocess)
	{
		case FP_REPROCESS_NONE:
			return FP_PLAN_SKIP_EXISTS;
		case FP_REPROCESS_FAILED:
			return existing->state == FP_RUN_SUCCESS ? FP_PLAN_SKIP_EXISTS :
				FP_PLAN_FAILED;
		case FP_REPROCESS_COMPLETED:
			return FP_PLAN_COMPLETED;
	}
	return FP_PLAN_SKIP_EXISTS; /* keep compiler quiet */
}

static void
begin_cascade(Cascade *cascade, TimestampTz now)
{
	memset(cascade, 0, sizeof(Cascade));
	cascade->now = now;
	cascade->reached = new_table("flowpg cascade", sizeof(ReachedDag));
	cascade->found = new_table("flowpg schedules", sizeof(FoundSchedule));
}

/*
 * Find all DAGs that depend on the first one, directly or not.
 */
static void
reach_dags(Cascade *cascade)
{
	/* grows while it is walked through */
	for (int i = 0; i < list_length(cascade->dags); i++)
	{
		CascadeDag *dag = list_nth(cascade->dags, i);
		List	   *tobe_dags = fp_dag_store_tobe_dags(dag->dag_id);
		ListCell   *cell;

		CHECK_FOR_INTERRUPTS();
		foreach(cell, tobe_dags)
		{
			CascadeDag *tobe = find_dag(cascade, lfirst(cell));

			tobe->asis = lappend(tobe->asis, dag);
		}
	}
}

/*
 * The DAG among those that have been reached; it is one of them afterwards.
 */
static CascadeDag *
find_dag(Cascade *cascade, const char *dag_id)
{
	ReachedDag *reached;
	CascadeDag *dag;
	bool		is_known;

	reached = hash_search(cascade->reached, dag_id, HASH_ENTER, &is_known);
	if (is_known)
		return reached->dag;

	dag = reached->dag = palloc0(sizeof(CascadeDag));
	dag->number = list_length(cascade->dags);
	dag->dag_id = pstrdup(dag_id);
	dag->row = fp_dag_store_get(dag_id);
	dag->speaks_by_date = speaks_by_date(cascade, dag_id);
	cascade->dags = lappend(cascade->dags, dag);
	return dag;
}

/*
 * The DAGs that have been reached, each after those that it waits for.
 */
static List *
order_dags(Cascade *cascade)
{
	FpGraph		graph = {0};
	int		   *order;
	List	   *result = NIL;
	ListCell   *cell;

	graph.ntasks = list_length(cascade->dags);
	foreach(cell, cascade->dags)
		graph.nedges += list_length(((CascadeDag *) lfirst(cell))->asis);
	graph.edge_from = palloc((graph.nedges + 1) * sizeof(int));
	graph.edge_to = palloc((graph.nedges + 1) * sizeof(int));
	order = palloc(graph.ntasks * sizeof(int));

	graph.nedges = 0;
	foreach(cell, cascade->dags)
	{
		CascadeDag *dag = lfirst(cell);
		ListCell   *asis_cell;

		foreach(asis_cell, dag->asis)
		{
			CascadeDag *asis = lfirst(asis_cell);

			graph.edge_from[graph.nedges] = asis->number;
			graph.edge_to[graph.nedges++] = dag->number;
		}
	}

	if (!fp_graph_topological_order(&graph, order))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the DAGs that depend on each other form a cycle"),
				 errhint("Remove a link with flow_drop_dependency.")));
	for (int i = 0; i < graph.ntasks; i++)
		result = lappend(result, list_nth(cascade->dags, order[i]));
	return result;
}

/*
 * Plan the runs of one dependent DAG; those that it waits for are planned.
 *
 * An interval that has not succeeded before is run only if its asis DAGs
 * cover it, counting what this backfill makes: else it could wait for ever,
 * and the backfill with it.  It is run when the rest is there.
 */
static void
plan_dag(Cascade *cascade, CascadeDag *dag)
{
	ExistingRuns existing;
	List	   *intervals;
	ListCell   *cell;

	if (dag->row == NULL || !dag->row->has_tasks)
		return;

	intervals = touched_intervals(cascade, dag);
	begin_existing(&existing, dag->dag_id, intervals);
	foreach(cell, intervals)
	{
		const FpInterval *interval = lfirst(cell);
		const FpRunRow *run = find_existing(&existing, interval);
		FpPlannedRun *planned;

		CHECK_FOR_INTERRUPTS();
		planned = plan_interval(dag->dag_id, interval, run);
		if (run != NULL && !fp_run_state_is_finished(run->state))
			planned->action = FP_PLAN_SKIP_IN_PROGRESS;
		else if ((run != NULL && run->state == FP_RUN_SUCCESS) ||
				 will_be_covered(cascade, dag, interval))
			planned->action = FP_PLAN_CASCADE;
		else
			continue;
		cascade->result = lappend(cascade->result, planned);
		dag->intervals = add_interval(dag->intervals, planned->run_start,
									  planned->run_end);
	}
	dag->ranges = merge_adjacent(dag->intervals);
}

/*
 * The DAG's intervals that what it waits for, and is run, bears on: sorted by
 * time, each once, only those that have ended.
 */
static List *
touched_intervals(Cascade *cascade, CascadeDag *dag)
{
	FpSchedule *schedule;
	List	   *touched = NIL;
	List	   *result = NIL;
	const FpInterval *last = NULL;
	ListCell   *cell;

	schedule = find_effective_schedule(dag->dag_id, cascade->now,
									   cascade->found);
	if (schedule == NULL)
		schedule = fp_schedule_parse("@daily", dag->row->timezone,
									 dag->row->start_date);
	else if (schedule->kind != FP_SCHEDULE_CRON &&
			 schedule->kind != FP_SCHEDULE_INTERVAL)
		return touched_runs(cascade, dag);

	foreach(cell, dag->asis)
	{
		CascadeDag *asis = lfirst(cell);
		ListCell   *interval_cell;

		if (!asis->speaks_by_date)
		{
			foreach(interval_cell, asis->ranges)
				touched = intervals_in(touched, schedule,
									   lfirst(interval_cell));
			continue;
		}
		foreach(interval_cell, asis->intervals)
		{
			const FpInterval *interval = lfirst(interval_cell);

			touched = intervals_ending(touched, schedule,
									   fp_run_planner_date_of(interval->end,
															  asis->row->timezone),
									   dag->row->timezone);
		}
	}

	list_sort(touched, compare_intervals);
	foreach(cell, touched)
	{
		const FpInterval *interval = lfirst(cell);

		if (interval->end <= cascade->now &&
			(last == NULL || last->start != interval->start))
		{
			result = lappend(result, lfirst(cell));
			last = interval;
		}
	}
	return result;
}

/*
 * The same for a DAG whose schedule has no cadence: only what it has run.
 */
static List *
touched_runs(Cascade *cascade, CascadeDag *dag)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, dag->asis)
	{
		CascadeDag *asis = lfirst(cell);
		ListCell   *range_cell;

		foreach(range_cell, asis->ranges)
		{
			const FpInterval *range = lfirst(range_cell);
			List	   *runs = fp_run_store_between(dag->dag_id, range->start,
													range->end);
			ListCell   *run_cell;

			foreach(run_cell, runs)
			{
				const FpRunRow *run = lfirst(run_cell);

				result = add_interval(result, run->data_interval_start,
									  run->data_interval_end);
			}
		}
	}
	list_sort(result, compare_intervals);
	return result;
}

/*
 * Add the intervals of a schedule that overlap a range.
 */
static List *
intervals_in(List *intervals, const FpSchedule *schedule,
			 const FpInterval *range)
{
	FpInterval	interval;

	if (!fp_schedule_containing(schedule, range->start, &interval) &&
		!fp_schedule_after(schedule, range->start, &interval))
		return intervals;
	while (interval.start < range->end)
	{
		intervals = add_interval(intervals, interval.start, interval.end);
		if (!fp_schedule_after(schedule, interval.start, &interval))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	return intervals;
}

/*
 * Add the intervals of a schedule that end on a date.
 */
static List *
intervals_ending(List *intervals, const FpSchedule *schedule, DateADT date,
				 const char *timezone)
{
	TimestampTz from = fp_run_planner_day_start(date, timezone);
	TimestampTz until = fp_run_planner_day_start(date + 1, timezone);
	FpInterval	interval;

	if (!fp_schedule_containing(schedule, from - 1, &interval))
		return intervals;
	while (interval.end < until)
	{
		intervals = add_interval(intervals, interval.start, interval.end);
		if (!fp_schedule_after(schedule, interval.start, &interval))
			break;
	}
	return intervals;
}

/*
 * Whether all that the DAG waits for has succeeded for the interval, or will
 * when the backfill has run.
 */
static bool
will_be_covered(Cascade *cascade, const CascadeDag *dag,
				const FpInterval *interval)
{
	ListCell   *cell;

	foreach(cell, dag->row->asis_dags)
	{
		const char *asis_dag = lfirst(cell);
		const CascadeDag *reached = NULL;
		ListCell   *asis_cell;

		foreach(asis_cell, dag->asis)
		{
			const CascadeDag *asis = lfirst(asis_cell);

			if (strcmp(asis->dag_id, asis_dag) == 0)
				reached = asis;
		}
		if (speaks_by_date(cascade, asis_dag))
		{
			if (!has_word(dag, reached, asis_dag, interval))
				return false;
		}
		else if (!is_covered_by(reached, asis_dag, interval))
			return false;
	}
	return true;
}

/*
 * Whether an asis DAG covers an interval, with what it is going to run
 * (reached; NULL: nothing).  What that leaves must be covered already.
 */
static bool
is_covered_by(const CascadeDag *reached, const char *asis_dag,
			  const FpInterval *interval)
{
	TimestampTz from = interval->start;

	if (reached != NULL)
	{
		int			low = 0;
		int			high = list_length(reached->ranges);

		/* the first range that ends after the interval's start */
		while (low < high)
		{
			int			middle = (low + high) / 2;
			const FpInterval *range = list_nth(reached->ranges, middle);

			if (range->end <= from)
				low = middle + 1;
			else
				high = middle;
		}
		for (; low < list_length(reached->ranges); low++)
		{
			const FpInterval *range = list_nth(reached->ranges, low);

			if (range->start >= interval->end)
				break;
			if (range->start > from &&
				!fp_coverage_store_contains(asis_dag, from, range->start,
											NULL))
				return false;
			from = Max(from, range->end);
		}
	}
	return from >= interval->end ||
		fp_coverage_store_contains(asis_dag, from, interval->end, NULL);
}

/*
 * The same for one that speaks by date: the date on which the interval ends.
 */
static bool
has_word(const CascadeDag *dag, const CascadeDag *reached,
		 const char *asis_dag, const FpInterval *interval)
{
	DateADT		date = fp_run_planner_date_of(interval->end,
											  dag->row->timezone);
	ListCell   *cell;

	if (reached != NULL)
	{
		foreach(cell, reached->intervals)
		{
			const FpInterval *run = lfirst(cell);

			if (fp_run_planner_date_of(run->end,
									   reached->row->timezone) == date)
				return true;
		}
	}
	return fp_coverage_store_has_word(asis_dag, date, dag->row->owner);
}

static bool
speaks_by_date(Cascade *cascade, const char *dag_id)
{
	return fp_run_planner_speaks_by_date(find_effective_schedule(dag_id,
																 cascade->now,
																 cascade->found));
}

/*
 * The runs of a DAG that what it waits for, and is run, bears on, in order of
 * time; the DAG's own intervals are set to theirs.
 */
static List *
dependent_runs(CascadeDag *dag)
{
	List	   *touched = NIL;
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, dag->asis)
	{
		CascadeDag *asis = lfirst(cell);
		ListCell   *interval_cell;

		if (asis->speaks_by_date)
		{
			foreach(interval_cell, asis->intervals)
			{
				const FpInterval *interval = lfirst(interval_cell);

				touched = runs_ending(touched, dag,
									  fp_run_planner_date_of(interval->end,
															 asis->row->timezone));
			}
			continue;
		}
		foreach(interval_cell, asis->ranges)
		{
			const FpInterval *range = lfirst(interval_cell);

			touched = list_concat(touched,
								  fp_run_store_between(dag->dag_id,
													   range->start,
													   range->end));
		}
	}

	list_sort(touched, compare_runs);
	foreach(cell, touched)
	{
		const FpRunRow *run = lfirst(cell);

		if (result != NIL &&
			((FpRunRow *) llast(result))->run_id == run->run_id)
			continue;
		result = lappend(result, lfirst(cell));
		dag->intervals = add_interval(dag->intervals,
									  run->data_interval_start,
									  run->data_interval_end);
	}
	dag->ranges = merge_adjacent(dag->intervals);
	return result;
}

/*
 * Add the runs of a DAG whose intervals end on a date in its timezone.
 */
static List *
runs_ending(List *runs, const CascadeDag *dag, DateADT date)
{
	TimestampTz from = fp_run_planner_day_start(date, dag->row->timezone);
	TimestampTz until = fp_run_planner_day_start(date + 1,
												 dag->row->timezone);
	ListCell   *cell;

	foreach(cell, fp_run_store_between(dag->dag_id, from - 1, until))
	{
		const FpRunRow *run = lfirst(cell);

		if (run->data_interval_end >= from && run->data_interval_end < until)
			runs = lappend(runs, lfirst(cell));
	}
	return runs;
}

/*
 * What sorted intervals cover, as the fewest.
 */
static List *
merge_adjacent(List *intervals)
{
	List	   *result = NIL;
	FpInterval *last = NULL;
	ListCell   *cell;

	foreach(cell, intervals)
	{
		const FpInterval *interval = lfirst(cell);

		if (last != NULL && interval->start <= last->end)
		{
			last->end = Max(last->end, interval->end);
			continue;
		}
		result = add_interval(result, interval->start, interval->end);
		last = llast(result);
	}
	return result;
}

static int
compare_intervals(const ListCell *a, const ListCell *b)
{
	const FpInterval *left = lfirst(a);
	const FpInterval *right = lfirst(b);

	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return 0;
}

static int
compare_runs(const ListCell *a, const ListCell *b)
{
	const FpRunRow *left = lfirst(a);
	const FpRunRow *right = lfirst(b);

	if (left->logical_date != right->logical_date)
		return left->logical_date < right->logical_date ? -1 : 1;
	if (left->run_id != right->run_id)
		return left->run_id < right->run_id ? -1 : 1;
	return 0;
}

/*
 * Read HH:MM and move on past it.
 */
static bool
read_minutes(const char **text, int *minutes)
{
	const char *p = *text;
	int			hour;
	int			minute;

	for (int i = 0; i < 5; i++)
	{
		if (i == 2 ? p[i] != ':' : !isdigit((unsigned char) p[i]))
			return false;
	}
	hour = (p[0] - '0') * 10 + (p[1] - '0');
	minute = (p[3] - '0') * 10 + (p[4] - '0');
	if (hour >= HOURS_PER_DAY || minute >= MINS_PER_HOUR)
		return false;
	*minutes = hour * MINS_PER_HOUR + minute;
	*text = p + 5;
	return true;
}
