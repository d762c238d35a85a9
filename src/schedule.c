/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  A DAG's schedule as a sequence of data intervals.
 *
 * Pure: no tables, no shared memory, no clock.  Called by sessions (to check
 * a definition, to preview) and by the scheduler (to make due runs), which
 * therefore see the same intervals.
 *
 * A schedule with a cadence, cron or interval, is a set of ticks in time; a
 * data interval goes from one tick to the next.  All functions below are
 * built on two primitives, the last tick at or before an instant and the
 * first tick after it, so intervals are contiguous, disjoint and increasing
 * by construction, across changes of daylight saving time too.
 *
 * The ticks of an interval schedule are anchor + n * interval, each computed
 * from the anchor, for every n, also below zero.  So months do not stick: from
 * 31 January a month leads to the end of February and then to 31 March.
 * Months and days are counted on the wall clock of the schedule's zone, the
 * rest is elapsed time, as timestamptz + interval does it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "schedule.h"

/* Intervals outside these bounds do not exist: the years 1 to 9999. */
#define FIRST_INSTANT \
	((int64) (date2j(1, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
#define END_INSTANT \
	((int64) (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

/* The mean length of a month of the Gregorian calendar: 146097 / 4800 days. */
#define USECS_PER_MONTH (INT64CONST(146097) * USECS_PER_DAY / 4800)

/* Bounds of an interval schedule. */
#define MIN_INTERVAL USECS_PER_SEC
#define MAX_INTERVAL_YEARS 100

#define SCHEDULE_HINT \
	"Give a cron expression such as \"30 2 * * *\", a preset such as @daily, @once or @continuous, an interval such as \"10 minutes\", or NULL."

static pg_tz *find_timezone(const char *timezone);
static bool skips_days(pg_tz *zone);
static bool looks_like_interval(const char *text);
static bool parse_interval(const char *text, Interval *interval);
static void set_interval(FpSchedule *result, const char *schedule);
static bool has_cadence(const FpSchedule *schedule);
static bool tick_at_or_before(const FpSchedule *schedule, TimestampTz at,
							  TimestampTz *result);
static bool tick_after(const FpSchedule *schedule, TimestampTz at,
					   TimestampTz *result);
static bool interval_from_tick_after(const FpSchedule *schedule,
									 TimestampTz at, FpInterval *result);
static int64 interval_index(const FpSchedule *schedule, TimestampTz at);
static TimestampTz interval_tick(const FpSchedule *schedule, int64 n);
static FpInterval once_interval(const FpSchedule *schedule);
static bool next_once(const FpSchedule *schedule, const FpRunBounds *bounds,
					  FpInterval *result);
static bool next_continuous(const FpRunBounds *bounds, TimestampTz now,
							FpInterval *result);
static bool next_of_cadence(const FpSchedule *schedule,
							const FpRunBounds *bounds, TimestampTz now,
							FpInterval *result);
static bool start_after_last(const FpSchedule *schedule,
							 const FpInterval *last, TimestampTz *result);

/*
 * Parse a schedule: a cron expression, a preset, an interval, or NULL for
 * none.  "timezone" must not be NULL.  "anchor" is the DAG's start_date: the
 * origin of an interval schedule, and the instant of @once.
 *
 * The result is one allocation in the current memory context.  Raises an
 * error that names the argument and its value.
 */
FpSchedule *
fp_schedule_parse(const char *schedule, const char *timezone,
				  TimestampTz anchor)
{
	FpSchedule *result = palloc0(sizeof(FpSchedule));

	result->zone = fp_schedule_timezone(timezone);
	result->anchor = anchor;

	if (schedule == NULL)
		result->kind = FP_SCHEDULE_NONE;
	else if (pg_strcasecmp(schedule, "@once") == 0)
		result->kind = FP_SCHEDULE_ONCE;
	else if (pg_strcasecmp(schedule, "@continuous") == 0)
		result->kind = FP_SCHEDULE_CONTINUOUS;
	else if (looks_like_interval(schedule))
	{
		result->kind = FP_SCHEDULE_INTERVAL;
		set_interval(result, schedule);
	}
	else
	{
		result->kind = FP_SCHEDULE_CRON;
		fp_cron_parse(schedule, &result->cron);
	}

	if ((result->kind == FP_SCHEDULE_INTERVAL ||
		 result->kind == FP_SCHEDULE_ONCE) &&
		(anchor < FIRST_INSTANT || anchor >= END_INSTANT))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("start_date is out of range for schedule \"%s\"",
						schedule),
				 errhint("Give a start_date from the year 1 to the year 9999.")));
	return result;
}

/*
 * The zone of this name.  Zones are cached by the server and stay valid for
 * the life of the process.
 *
 * What the setting TimeZone takes is taken here, for tasks run with it.  Two
 * things are not.  The server reads any word with a digit in it as a POSIX
 * zone, and so a misspelt Asia/Tokyo1 as a name for UTC; and it takes one whose
 * clocks move by up to two weeks, where days would come out of order.
 */
pg_tz *
fp_schedule_timezone(const char *timezone)
{
	pg_tz	   *zone = find_timezone(timezone);

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid timezone \"%s\"", timezone),
				 errdetail("There is no such time zone."),
				 errhint("Give a name from pg_timezone_names, such as \"UTC\" or \"Europe/Zurich\".")));
	return zone;
}

/* Whether the server has it, which it may once have had. */
bool
fp_schedule_has_timezone(const char *timezone)
{
	return find_timezone(timezone) != NULL;
}

static pg_tz *
find_timezone(const char *timezone)
{
	pg_tz	   *zone = pg_tzset(timezone);

	if (zone != NULL && pg_tz_acceptable(zone) && !skips_days(zone))
	{
		const char *name = pg_get_timezone_name(zone);
		bool		is_posix = true;

		/* POSIX specifications are kept in upper case, names as in the data */
		for (const char *p = name; *p; p++)
		{
			if (*p >= 'a' && *p <= 'z')
				is_posix = false;
		}
		if (!is_posix || strchr(name, '/') == NULL)
			return zone;
	}
	return NULL;
}

/* Can an interval end on this date?  False also for the infinite ones. */
bool
fp_schedule_has_date(DateADT date)
{
	return date >= date2j(1, 1, 1) - POSTGRES_EPOCH_JDATE &&
		date <= date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE;
}

/*
 * Do the zone's clocks ever move by more than a day?  The two changes of a
 * POSIX zone come each year; no place has moved so far.
 */
static bool
skips_days(pg_tz *zone)
{
	pg_time_t	at = 0;
	pg_time_t	boundary;
	long int	before;
	long int	after;
	int			is_dst;

	return pg_next_dst_boundary(&at, &before, &is_dst, &boundary, &after,
								&is_dst, zone) == 1 &&
		labs(after - before) > SECS_PER_DAY;
}

/*
 * The first interval that starts at "at" or later.  False: there is none, as
 * there is no cadence or the years end.
 */
bool
fp_schedule_at_or_after(const FpSchedule *schedule, TimestampTz at,
						FpInterval *result)
{
	if (schedule->kind == FP_SCHEDULE_ONCE)
	{
		*result = once_interval(schedule);
		return result->start >= at;
	}
	if (!has_cadence(schedule))
		return false;
	at = Max(at, FIRST_INSTANT);
	return interval_from_tick_after(schedule, at - 1, result);
}

/* The first interval that starts later than "at"; else as above. */
bool
fp_schedule_after(const FpSchedule *schedule, TimestampTz at,
				  FpInterval *result)
{
	if (schedule->kind == FP_SCHEDULE_ONCE)
	{
		*result = once_interval(schedule);
		return result->start > at;
	}
	if (!has_cadence(schedule))
		return false;
	return interval_from_tick_after(schedule, at, result);
}

/*
 * The interval that "at" lies in.  False: none; the empty interval of @once
 * holds no instant.
 */
bool
fp_schedule_containing(const FpSchedule *schedule, TimestampTz at,
					   FpInterval *result)
{
	return has_cadence(schedule) &&
		tick_at_or_before(schedule, at, &result->start) &&
		tick_after(schedule, at, &result->end);
}

/* The last interval that has ended by "now". */
bool
fp_schedule_latest_complete(const FpSchedule *schedule, TimestampTz now,
							FpInterval *result)
{
	if (schedule->kind == FP_SCHEDULE_ONCE)
	{
		*result = once_interval(schedule);
		return result->end <= now;
	}
	return has_cadence(schedule) &&
		tick_at_or_before(schedule, now, &result->end) &&
		tick_at_or_before(schedule, result->end - 1, &result->start);
}

/*
 * The next interval that the scheduler makes a run for, given what it has
 * made; the run is due when result->end <= now.  False: there is no next run
 * at all within the bounds.
 *
 * With catchup, intervals go on from the end of the last one, or from the
 * first tick at "earliest" or after it.  Without, what has been missed is
 * left out: the latest complete interval follows, if it is later than that,
 * else the one to come.
 *
 * After a change of schedule the end of the last interval need not be a tick
 * any more.  Then the new schedule's interval that holds it follows, so
 * nothing is left out.  Its start may be that of a run which exists: callers
 * that find one go on from this interval as if it were the last.
 */
bool
fp_schedule_next_run(const FpSchedule *schedule, const FpRunBounds *bounds,
					 TimestampTz now, FpInterval *result)
{
	switch (schedule->kind)
	{
		case FP_SCHEDULE_NONE:
			return false;
		case FP_SCHEDULE_ONCE:
			return next_once(schedule, bounds, result);
		case FP_SCHEDULE_CONTINUOUS:
			return next_continuous(bounds, now, result);
		case FP_SCHEDULE_CRON:
		case FP_SCHEDULE_INTERVAL:
			return next_of_cadence(schedule, bounds, now, result);
	}
	return false;				/* keep compiler quiet */
}

/*
 * Is this text meant as an interval rather than as cron?  An interval has a
 * unit or a colon, and no character that only cron knows.  Both may have five
 * or six words; the second word of an interval is a unit, the second field of
 * a cron expression never begins with a letter.
 */
static bool
looks_like_interval(const char *text)
{
	const char *second = NULL;
	int			nwords = 0;
	bool		has_unit = false;

	if (strpbrk(text, "*?#,/") != NULL)
		return false;
	if (text[0] == '@' && text[1] != ' ')
		return false;
	for (const char *p = text; *p;)
	{
		size_t		length;

		p += strspn(p, " \t\n\r\f\v");
		length = strcspn(p, " \t\n\r\f\v");
		if (length == 0)
			break;
		if (++nwords == 2)
			second = p;
		for (; length > 0; length--, p++)
		{
			if (isalpha((unsigned char) *p) || *p == ':')
				has_unit = true;
		}
	}
	if (nwords >= 5 && !isalpha((unsigned char) *second) && text[0] != '@')
		return false;
	return has_unit;
}

/* The interval that the text gives, as the type's input reads it. */
static bool
parse_interval(const char *text, Interval *interval)
{
	char		workbuf[256];
	char	   *fields[MAXDATEFIELDS];
	int			types[MAXDATEFIELDS];
	int			nfields;
	int			kind;
	int			error;
	struct pg_itm_in parts;

	memset(&parts, 0, sizeof(parts));
	error = ParseDateTime(text, workbuf, sizeof(workbuf), fields, types,
						  MAXDATEFIELDS, &nfields);
	if (error == 0)
		error = DecodeInterval(fields, types, nfields, INTERVAL_FULL_RANGE,
							   &kind, &parts);
	if (error == DTERR_BAD_FORMAT)
	{
		char	   *copy = pstrdup(text);

		memset(&parts, 0, sizeof(parts));
		error = DecodeISO8601Interval(copy, &kind, &parts);
		pfree(copy);
	}
	return error == 0 && kind == DTK_DELTA &&
		itmin2interval(&parts, interval) == 0;
}

/* Parse and check an interval schedule. */
static void
set_interval(FpSchedule *result, const char *schedule)
{
	Interval   *interval = &result->interval;
	const int64 max = MAX_INTERVAL_YEARS * MONTHS_PER_YEAR * USECS_PER_MONTH;

	if (!parse_interval(schedule, interval))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid schedule \"%s\"", schedule),
				 errdetail("It is neither a cron expression nor a preset nor an interval."),
				 errhint(SCHEDULE_HINT)));

	/* Every part is checked first, so that the sum cannot overflow. */
	if (interval->month >= 0 && interval->day >= 0 && interval->time >= 0 &&
		interval->month <= max / USECS_PER_MONTH &&
		interval->day <= max / USECS_PER_DAY &&
		interval->time <= max)
	{
		result->average = interval->month * USECS_PER_MONTH +
			interval->day * USECS_PER_DAY + interval->time;
		if (result->average >= MIN_INTERVAL && result->average <= max)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid schedule \"%s\"", schedule),
			 errdetail("An interval must be from 1 second to %d years, and no part of it may be negative.",
					   MAX_INTERVAL_YEARS),
			 errhint(SCHEDULE_HINT)));
}

/* Does this schedule have ticks? */
static bool
has_cadence(const FpSchedule *schedule)
{
	return schedule->kind == FP_SCHEDULE_CRON ||
		schedule->kind == FP_SCHEDULE_INTERVAL;
}

/* The last tick at "at" or before it; false: none. */
static bool
tick_at_or_before(const FpSchedule *schedule, TimestampTz at,
				  TimestampTz *result)
{
	if (schedule->kind == FP_SCHEDULE_CRON)
		return fp_cron_previous(&schedule->cron, schedule->zone, at, result);

	if (at < FIRST_INSTANT)
		return false;
	at = Min(at, END_INSTANT - 1);
	*result = interval_tick(schedule, interval_index(schedule, at));
	return *result >= FIRST_INSTANT;
}

/* The first tick later than "at"; false: none. */
static bool
tick_after(const FpSchedule *schedule, TimestampTz at, TimestampTz *result)
{
	if (schedule->kind == FP_SCHEDULE_CRON)
		return fp_cron_next(&schedule->cron, schedule->zone, at, result);

	if (at >= END_INSTANT)
		return false;
	at = Max(at, FIRST_INSTANT - 1);
	*result = interval_tick(schedule, interval_index(schedule, at) + 1);
	return *result < END_INSTANT;
}

/* The interval that begins with the first tick after "at". */
static bool
interval_from_tick_after(const FpSchedule *schedule, TimestampTz at,
						 FpInterval *result)
{
	return tick_after(schedule, at, &result->start) &&
		tick_after(schedule, result->start, &result->end);
}

/*
 * The greatest n whose tick is at "at" or before it.
 *
 * Months differ from their mean and days from 24 hours by little, and both
 * even out, so the first guess is wrong by one or two.  Two ticks can be one
 * instant (a day that the zone skips as a whole), therefore the greatest n.
 */
static int64
interval_index(const FpSchedule *schedule, TimestampTz at)
{
	int64		distance = at - schedule->anchor;
	int64		n = distance / schedule->average;

	while (interval_tick(schedule, n) > at)
		n--;
	while (interval_tick(schedule, n + 1) <= at)
		n++;
	return n;
}

/* anchor + n * interval */
static TimestampTz
interval_tick(const FpSchedule *schedule, int64 n)
{
	const Interval *interval = &schedule->interval;
	TimestampTz result = schedule->anchor;

	/*
	 * Without months and days, and for the anchor itself, which need not be
	 * what its wall-clock time leads back to, no calendar is needed.
	 */
	if (n != 0 && (interval->month != 0 || interval->day != 0))
	{
		struct pg_tm tm;
		fsec_t		fsec;
		int			tz;
		int64		months;
		int			julian;

		if (timestamp2tm(schedule->anchor, &tz, &tm, &fsec, NULL,
						 schedule->zone) != 0)
			elog(ERROR, "start_date is out of range");

		months = (int64) tm.tm_year * MONTHS_PER_YEAR + (tm.tm_mon - 1) +
			n * interval->month;
		tm.tm_mon = months % MONTHS_PER_YEAR;
		if (tm.tm_mon < 0)
			tm.tm_mon += MONTHS_PER_YEAR;
		tm.tm_year = (months - tm.tm_mon) / MONTHS_PER_YEAR;
		tm.tm_mon++;
		tm.tm_mday = Min(tm.tm_mday,
						 day_tab[isleap(tm.tm_year)][tm.tm_mon - 1]);

		julian = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) +
			(int) (n * interval->day);
		j2date(julian, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);

		tz = DetermineTimeZoneOffset(&tm, schedule->zone);
		if (tm2timestamp(&tm, fsec, &tz, &result) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("timestamp out of range")));
	}
	return result + n * interval->time;
}

/* The one interval of @once, which is empty. */
static FpInterval
once_interval(const FpSchedule *schedule)
{
	FpInterval	result = {schedule->anchor, schedule->anchor};

	return result;
}

static bool
next_once(const FpSchedule *schedule, const FpRunBounds *bounds,
		  FpInterval *result)
{
	*result = once_interval(schedule);
	return !bounds->has_last && result->start <= bounds->latest;
}

/*
 * From the last end to now.  An interval that would be empty is given a
 * microsecond and so is not due yet: with a clock that stands still, runs
 * would else follow each other for ever.
 */
static bool
next_continuous(const FpRunBounds *bounds, TimestampTz now,
				FpInterval *result)
{
	result->start = bounds->earliest;
	if (bounds->has_last)
		result->start = Max(result->start, bounds->last.end);
	if (TIMESTAMP_NOT_FINITE(result->start) ||
		result->start > bounds->latest)
		return false;
	result->end = Max(now, result->start + 1);
	return true;
}

static bool
next_of_cadence(const FpSchedule *schedule, const FpRunBounds *bounds,
				TimestampTz now, FpInterval *result)
{
	TimestampTz start = DT_NOBEGIN;
	FpInterval	interval;

	if (bounds->has_last &&
		!start_after_last(schedule, &bounds->last, &start))
		return false;
	if (bounds->earliest != DT_NOBEGIN)
	{
		if (!fp_schedule_at_or_after(schedule, bounds->earliest, &interval))
			return false;
		start = Max(start, interval.start);
	}
	if (!bounds->catchup &&
		fp_schedule_latest_complete(schedule, now, &interval))
		start = Max(start, interval.start);

	if (start == DT_NOBEGIN || start > bounds->latest)
		return false;
	result->start = start;
	return tick_after(schedule, start, &result->end);
}

/*
 * Where the interval after the last one begins: at the last one's end, moved
 * down to a tick.  Where the last run was a mere point in time (as @once and
 * triggered runs are), its own start is not given out again.
 */
static bool
start_after_last(const FpSchedule *schedule, const FpInterval *last,
				 TimestampTz *result)
{
	if (!tick_at_or_before(schedule, last->end, result))
		return false;
	if (last->start == last->end && *result == last->start)
		return tick_after(schedule, last->start, result);
	return true;
}
