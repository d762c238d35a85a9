/*-------------------------------------------------------------------------
 *
 * cron.c
 *	  Parse a cron expression; find its next and previous fire time.
 *
 * Pure: no tables, no shared memory, no clock, nothing allocated but error
 * texts.  Called by schedule.c in sessions and in the scheduler.
 *
 * What matches.  Fields are wall-clock time in the given zone.  Day of month
 * and day of week follow Debian's cron: a day matches when either field
 * does, but where one of the two begins with "*" both must.
 *
 * From wall-clock to instant.  The rule is that of AT TIME ZONE: a local time
 * that a change of offset skips is read with the offset from before, which
 * shifts it forward by the gap (02:30 becomes 03:30); one that comes twice is
 * taken at its second coming.  Where the hour field lets every hour pass,
 * ticks follow elapsed time: a local time that comes twice then fires twice,
 * so no hour is lost or doubled.  Two local times that fall on one instant
 * are one tick.
 *
 * How it is searched.  Between two changes of its offset a zone is plain
 * arithmetic, so the search goes from span to span, a span being the time
 * between two changes.  Inside a span a tick is either a matching local time
 * read with the span's own offset, or, soon after a gap, a matching local
 * time out of the gap, read with the offset from before.  fp_cron_next and
 * fp_cron_previous apply the same test to the same spans, so they always
 * agree on what is a tick, and intervals built from them are contiguous and
 * disjoint.
 *
 * Cost.  Dates that cannot match are skipped by month, and spans without a
 * match are jumped over, so 29 February on a Monday costs a few microseconds.
 * An expression that no date can ever match is refused by fp_cron_parse, and
 * the years searched are bounded, so no search is endless.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "port/pg_bitutils.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "cron.h"

/* Fire times outside these years, of UTC and of the zone, do not exist. */
#define MIN_YEAR 1
#define MAX_YEAR 9999

/* Steps are smaller than this, and numbers shorter. */
#define MAX_STEP 9999
#define MAX_DIGITS 4

/*
 * The most that one change has ever moved a zone's clocks, and some more; for
 * POSIX zones fp_schedule_timezone sees to it.
 */
#define MAX_SHIFT (2 * SECS_PER_DAY)
/* The most by which two offsets of one zone have ever differed, and more. */
#define MAX_OFFSET_SPREAD (2 * SECS_PER_DAY)
/* fp_cron_previous looks at this much time at once. */
#define BACKWARD_WINDOW (2 * SECS_PER_DAY)

#define DAYS_PER_WEEK 7

#define NO_MORE_CHANGES PG_INT64_MAX

/* Seconds from 1970 to 2000, which is where TimestampTz counts from. */
#define UNIX_EPOCH_SHIFT \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

#define BIT(n) (UINT64CONST(1) << (n))

/* The fields, in the order in which six of them are written. */
typedef enum CronFieldKind
{
	CRON_SECOND,
	CRON_MINUTE,
	CRON_HOUR,
	CRON_DAY,
	CRON_MONTH,
	CRON_WEEKDAY
} CronFieldKind;

#define NUM_FIELDS (CRON_WEEKDAY + 1)

typedef struct CronFieldSpec
{
	const char *name;
	int			low;
	int			high;
	int			full;			/* the last value that "*" stands for */
	const char *const *names;	/* of the values from low on, or NULL */
	int			num_names;
	const char *accepts;		/* hint */
} CronFieldSpec;

/* What is being parsed, for error messages; all pointers into one string. */
typedef struct CronParser
{
	const char *expression;
	const CronFieldSpec *spec;
	const char *field;
	const char *field_end;
	const char *at;				/* the next character to read */
	const char *item_end;		/* end of the list item that at is in */
	bool		has_plain_weekday;
	bool		has_prefixed_last;	/* "L5" */
} CronParser;

/*
 * Time without a change of the zone's offset, in seconds since 2000: from
 * start up to, not including, end.
 */
typedef struct ZoneSpan
{
	int64		start;
	int64		end;			/* NO_MORE_CHANGES: for ever */
	int64		offset;			/* local time less UTC */
	int64		previous_offset;
	int64		next_offset;
} ZoneSpan;

static const char *const month_names[] = {
	"jan", "feb", "mar", "apr", "may", "jun",
	"jul", "aug", "sep", "oct", "nov", "dec"
};

static const char *const weekday_names[] = {
	"sun", "mon", "tue", "wed", "thu", "fri", "sat"
};

#define PLAIN_HINT \
	"It takes numbers, ranges (1-5), steps (*/15, 1/3) and lists of these."
#define DAY_HINT \
	"It takes numbers, ranges (1-5), steps (*/2, 1/3), L for the last day, LW for the last weekday, and lists of these."
#define MONTH_HINT \
	"It takes numbers, names (JAN), ranges (NOV-FEB), steps (*/3) and lists of these."
#define WEEKDAY_HINT \
	"It takes numbers (0 and 7 are Sunday), names (MON), ranges (FRI-MON), steps (*/2), MON#2 for the second Monday, 5L for the last Friday, and lists of these."

static const CronFieldSpec field_specs[NUM_FIELDS] = {
	[CRON_SECOND] = {"second", 0, 59, 59, NULL, 0, PLAIN_HINT},
	[CRON_MINUTE] = {"minute", 0, 59, 59, NULL, 0, PLAIN_HINT},
	[CRON_HOUR] = {"hour", 0, 23, 23, NULL, 0, PLAIN_HINT},
	[CRON_DAY] = {"day of month", 1, 31, 31, NULL, 0, DAY_HINT},
	[CRON_MONTH] = {"month", 1, 12, 12,
		month_names, lengthof(month_names), MONTH_HINT},
	[CRON_WEEKDAY] = {"day of week", 0, 7, 6,
		weekday_names, lengthof(weekday_names), WEEKDAY_HINT},
};

static const struct
{
	const char *name;
	const char *expression;
}			presets[] = {
	{"@hourly", "0 * * * *"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@weekly", "0 0 * * 0"},
	{"@monthly", "0 0 1 * *"},
	{"@quarterly", "0 0 1 */3 *"},
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"},
};

static const char *resolve_preset(const char *expression);
static void parse_fields(const char *expression, const char *text,
						 FpCron *cron);
static void parse_field(CronParser *parser, CronFieldKind kind, FpCron *cron);
static uint64 parse_item(CronParser *parser, CronFieldKind kind, FpCron *cron);
static uint64 parse_range(CronParser *parser, CronFieldKind kind,
						  FpCron *cron);
static uint64 range_mask(CronParser *parser, CronFieldKind kind, int first,
						 int last, int step);
static bool parse_last_day(CronParser *parser, FpCron *cron);
static bool parse_prefixed_last(CronParser *parser, FpCron *cron);
static int	parse_value(CronParser *parser, bool *is_name);
static int	parse_number(CronParser *parser, int low, int high,
						 const char *what);
static bool at_char(const CronParser *parser, char c);
static void field_error(const CronParser *parser, const char *fmt,...)
			pg_attribute_printf(2, 3);
static bool has_matching_date(const FpCron *cron);
static uint64 month_days(const FpCron *cron, int ndays, int first_weekday);
static uint64 days_of_month(const FpCron *cron, int year, int month);
static bool next_local(const FpCron *cron, int64 from, int64 *result);
static bool previous_local(const FpCron *cron, int64 upto, int64 *result);
static bool next_time_of_day(const FpCron *cron, int from, int *result);
static bool previous_time_of_day(const FpCron *cron, int upto, int *result);
static bool next_in_span(const FpCron *cron, const ZoneSpan *span, int64 from,
						 int64 *result);
static bool previous_in_span(const FpCron *cron, const ZoneSpan *span,
							 int64 from, int64 upto, int64 *result);
static bool previous_in_window(const FpCron *cron, pg_tz *zone, int64 from,
							   int64 upto, int64 *last_offset, int64 *result);
static int64 own_ticks_end(const FpCron *cron, const ZoneSpan *span);
static void span_locate(ZoneSpan *span, pg_tz *zone, int64 at);
static void span_advance(ZoneSpan *span, pg_tz *zone);
static void find_change(ZoneSpan *span, pg_tz *zone, int64 after);
static int	next_bit(uint64 mask, int from);
static int	previous_bit(uint64 mask, int from);
static int64 floor_seconds(TimestampTz at);
static int64 local_midnight(int year, int month, int day);

/*
 * Parse a cron expression of five fields, or six with leading seconds, or a
 * preset such as @daily.
 *
 * Raises an error that names the field if the text is not one, or if no date
 * can ever match it.
 */
void
fp_cron_parse(const char *expression, FpCron *cron)
{
	memset(cron, 0, sizeof(FpCron));
	parse_fields(expression, resolve_preset(expression), cron);

	if (!has_matching_date(cron))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid schedule \"%s\"", expression),
				 errdetail("No date in any year matches its day of month, month and day of week."),
				 errhint("Give a day that the month has; L is the last day of a month.")));
}

/*
 * The first fire time later than "after".  False: there is none up to the
 * year 9999.
 */
bool
fp_cron_next(const FpCron *cron, pg_tz *zone, TimestampTz after,
			 TimestampTz *result)
{
	int64		min = local_midnight(MIN_YEAR, 1, 1);
	int64		max = local_midnight(MAX_YEAR + 1, 1, 1);
	int64		from;
	ZoneSpan	span;

	if (after >= max * USECS_PER_SEC)
		return false;
	from = (after < min * USECS_PER_SEC) ? min : floor_seconds(after) + 1;

	span_locate(&span, zone, from - MAX_SHIFT);
	for (;;)
	{
		int64		tick;
		int64		local;

		while (from >= span.end)
			span_advance(&span, zone);
		if (next_in_span(cron, &span, from, &tick))
		{
			*result = tick * USECS_PER_SEC;
			return tick < max;
		}
		if (!next_local(cron, from + span.offset, &local))
			return false;

		/*
		 * No local time before this one matches, so no tick lies before it
		 * either, whatever the offset is by then.
		 */
		from = span.end;
		if (local - span.offset - MAX_OFFSET_SPREAD > from)
		{
			from = local - span.offset - MAX_OFFSET_SPREAD;
			span_locate(&span, zone, from - MAX_SHIFT);
		}
	}
}

/*
 * The last fire time at "at" or before it.  False: there is none since the
 * year 1.
 */
bool
fp_cron_previous(const FpCron *cron, pg_tz *zone, TimestampTz at,
				 TimestampTz *result)
{
	int64		min = local_midnight(MIN_YEAR, 1, 1);
	int64		max = local_midnight(MAX_YEAR + 1, 1, 1);
	int64		upto;

	if (at < min * USECS_PER_SEC)
		return false;
	upto = (at >= max * USECS_PER_SEC) ? max - 1 : floor_seconds(at);

	for (;;)
	{
		int64		from = upto - BACKWARD_WINDOW;
		int64		last_offset;
		int64		tick;
		int64		local;

		if (previous_in_window(cron, zone, from, upto, &last_offset, &tick))
		{
			*result = tick * USECS_PER_SEC;
			return tick >= min;
		}
		if (!previous_local(cron, upto + last_offset, &local))
			return false;

		/* As in fp_cron_next: nothing later than this can be a tick. */
		upto = Min(from - 1, local - last_offset + MAX_OFFSET_SPREAD);
	}
}

/* Five fields instead of a preset; other text is returned as it is. */
static const char *
resolve_preset(const char *expression)
{
	if (expression[0] != '@')
		return expression;
	for (int i = 0; i < lengthof(presets); i++)
	{
		if (pg_strcasecmp(expression, presets[i].name) == 0)
			return presets[i].expression;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid schedule \"%s\"", expression),
			 errdetail("There is no such preset."),
			 errhint("The presets are @hourly, @daily, @midnight, @weekly, @monthly, @quarterly, @yearly, @once and @continuous.")));
	return NULL;				/* keep compiler quiet */
}

/*
 * Split text at white space and parse each field.  "expression" is what the
 * user wrote, for messages.
 */
static void
parse_fields(const char *expression, const char *text, FpCron *cron)
{
	const char *starts[NUM_FIELDS];
	const char *ends[NUM_FIELDS];
	int			nfields = 0;
	int			first;
	CronParser	parser = {.expression = expression};

	for (const char *p = text; *p;)
	{
		size_t		length;

		p += strspn(p, " \t\n\r\f\v");
		length = strcspn(p, " \t\n\r\f\v");
		if (length == 0)
			break;
		if (nfields < NUM_FIELDS)
		{
			starts[nfields] = p;
			ends[nfields] = p + length;
		}
		nfields++;
		p += length;
	}
	if (nfields != NUM_FIELDS && nfields != NUM_FIELDS - 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid schedule \"%s\"", expression),
				 errdetail_plural("A cron expression has five fields, or six with leading seconds; this one has %d field.",
								  "A cron expression has five fields, or six with leading seconds; this one has %d fields.",
								  nfields, nfields),
				 errhint("The fields are minute, hour, day of month, month and day of week.")));

	first = NUM_FIELDS - nfields;
	if (first > CRON_SECOND)
		cron->seconds = BIT(0);
	for (int i = 0; i < nfields; i++)
	{
		parser.field = starts[i];
		parser.field_end = ends[i];
		parse_field(&parser, (CronFieldKind) (first + i), cron);
	}
	cron->every_hour = (cron->hours == BIT(24) - 1);
}

/* Parse one field, a list of items, and put it into cron. */
static void
parse_field(CronParser *parser, CronFieldKind kind, FpCron *cron)
{
	uint64		mask = 0;

	parser->spec = &field_specs[kind];
	parser->at = parser->field;
	parser->has_plain_weekday = false;
	parser->has_prefixed_last = false;

	/* Debian's cron looks at the first character alone, so this covers steps. */
	if ((kind == CRON_DAY || kind == CRON_WEEKDAY) &&
		(*parser->field == '*' || *parser->field == '?'))
		cron->needs_both_days = true;

	for (;;)
	{
		const char *comma = memchr(parser->at, ',',
								   parser->field_end - parser->at);

		parser->item_end = comma ? comma : parser->field_end;
		mask |= parse_item(parser, kind, cron);
		if (parser->at != parser->item_end)
			field_error(parser, "\"%.*s\" is not expected here",
						(int) (parser->item_end - parser->at), parser->at);
		if (!comma)
			break;
		parser->at = comma + 1;
	}
	if (parser->has_plain_weekday && parser->has_prefixed_last)
		field_error(parser, "days and \"L\" before a day cannot be mixed");

	switch (kind)
	{
		case CRON_SECOND:
			cron->seconds = mask;
			break;
		case CRON_MINUTE:
			cron->minutes = mask;
			break;
		case CRON_HOUR:
			cron->hours = mask;
			break;
		case CRON_DAY:
			cron->days = mask;
			break;
		case CRON_MONTH:
			cron->months = mask;
			break;
		case CRON_WEEKDAY:
			cron->weekdays = mask;
			break;
	}
}

/*
 * Parse one item of a list.  Returns the values that it stands for; what is
 * not a plain value (L, LW, 5L, MON#2) goes into cron.
 */
static uint64
parse_item(CronParser *parser, CronFieldKind kind, FpCron *cron)
{
	if (kind == CRON_DAY && parse_last_day(parser, cron))
		return 0;
	if (kind == CRON_WEEKDAY && parse_prefixed_last(parser, cron))
		return 0;

	/* As croniter has it: "?" may stand for "*" as a whole field of days. */
	if ((kind == CRON_DAY || kind == CRON_WEEKDAY) && at_char(parser, '?') &&
		parser->field_end - parser->field == 1)
	{
		parser->at++;
		return range_mask(parser, kind, parser->spec->low, parser->spec->full,
						  1);
	}
	return parse_range(parser, kind, cron);
}

/* Parse "*", "1", "1-5", each perhaps with a step, or "5L", "MON#2". */
static uint64
parse_range(CronParser *parser, CronFieldKind kind, FpCron *cron)
{
	const CronFieldSpec *spec = parser->spec;
	int			first = spec->low;
	int			last = spec->full;
	int			step = 1;
	bool		is_open = false;	/* no end given */

	if (at_char(parser, '*'))
		parser->at++;
	else
	{
		bool		is_name;

		first = last = parse_value(parser, &is_name);
		if (kind == CRON_WEEKDAY && !is_name &&
			(at_char(parser, 'L') || at_char(parser, 'l')))
		{
			parser->at++;
			cron->last_weekdays |= BIT(first % DAYS_PER_WEEK);
			return 0;
		}
		if (at_char(parser, '-'))
		{
			parser->at++;
			last = parse_value(parser, &is_name);

			/* Sunday begins a week as 0 and ends one as 7. */
			if (kind == CRON_WEEKDAY)
			{
				first %= DAYS_PER_WEEK;
				if (last == 0)
					last = DAYS_PER_WEEK;
			}
		}
		else
			is_open = true;

		if (kind == CRON_WEEKDAY && at_char(parser, '#'))
		{
			int			nth;

			parser->at++;
			nth = parse_number(parser, 1, FP_CRON_NTH_MAX, "the number after #");
			cron->nth_weekdays[nth - 1] |= range_mask(parser, kind, first,
													  last, 1);
			return 0;
		}
	}

	if (at_char(parser, '/'))
	{
		parser->at++;
		step = parse_number(parser, 1, MAX_STEP, "a step");
		if (is_open)
			last = spec->high;
	}
	parser->has_plain_weekday = true;
	return range_mask(parser, kind, first, last, step);
}

/*
 * The values from first to last by step.  Ranges of months and of days of
 * week may wrap; the step counts on through the wrap.
 */
static uint64
range_mask(CronParser *parser, CronFieldKind kind, int first, int last,
		   int step)
{
	uint64		mask = 0;
	int			modulus = (kind == CRON_WEEKDAY) ? DAYS_PER_WEEK :
		(kind == CRON_MONTH) ? MONTHS_PER_YEAR : 0;

	if (first > last && modulus == 0)
		field_error(parser, "the range %d-%d runs backwards", first, last);
	if (first > last)
		last += modulus;
	for (int value = first; value <= last; value += step)
	{
		int			bit = value;

		if (modulus != 0 && bit >= parser->spec->low + modulus)
			bit -= modulus;
		mask |= BIT(bit);
	}
	return mask;
}

/* L and LW of the day of month, as whole items.  False: it is neither. */
static bool
parse_last_day(CronParser *parser, FpCron *cron)
{
	size_t		length = parser->item_end - parser->at;

	if (length == 1 && pg_strncasecmp(parser->at, "L", 1) == 0)
		cron->last_day = true;
	else if (length == 2 && pg_strncasecmp(parser->at, "LW", 2) == 0)
		cron->last_workday = true;
	else
		return false;
	parser->at = parser->item_end;
	return true;
}

/*
 * croniter writes 5L as L5, and Airflow's users with it; like croniter we
 * take it only in lists without plain days, where "L" cannot be misread.
 * False: it is something else.
 */
static bool
parse_prefixed_last(CronParser *parser, FpCron *cron)
{
	if (!(at_char(parser, 'L') || at_char(parser, 'l')))
		return false;
	parser->at++;
	cron->last_weekdays |= BIT(parse_number(parser, parser->spec->low,
											parser->spec->high,
											"the day after L") % DAYS_PER_WEEK);
	parser->has_prefixed_last = true;
	return true;
}

/* A number or a name, checked against the field's range. */
static int
parse_value(CronParser *parser, bool *is_name)
{
	const CronFieldSpec *spec = parser->spec;
	const char *start = parser->at;
	const char *p = start;

	while (p < parser->item_end &&
		   ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')))
		p++;
	*is_name = (p > start);
	if (!*is_name)
		return parse_number(parser, spec->low, spec->high, "a value");

	for (int i = 0; i < spec->num_names; i++)
	{
		if (p - start == strlen(spec->names[i]) &&
			pg_strncasecmp(start, spec->names[i], p - start) == 0)
		{
			parser->at = p;
			return spec->low + i;
		}
	}
	field_error(parser, "\"%.*s\" is not a value of this field",
				(int) (p - start), start);
	return 0;					/* keep compiler quiet */
}

/* Digits, as a number from low to high; "what" names it in messages. */
static int
parse_number(CronParser *parser, int low, int high, const char *what)
{
	const char *start = parser->at;
	const char *p = start;
	int			value = 0;

	while (p < parser->item_end && *p >= '0' && *p <= '9')
	{
		if (p - start < MAX_DIGITS)
			value = value * 10 + (*p - '0');
		p++;
	}
	if (p == start)
		field_error(parser, "%s is missing or not a number", what);
	if (p - start > MAX_DIGITS || value < low || value > high)
		field_error(parser, "%.*s is out of range: %s is from %d to %d",
					(int) (p - start), start, what, low, high);
	parser->at = p;
	return value;
}

static bool
at_char(const CronParser *parser, char c)
{
	return parser->at < parser->item_end && *parser->at == c;
}

/* Raise an error about the field being parsed. */
static void
field_error(const CronParser *parser, const char *fmt,...)
{
	char		reason[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(reason, sizeof(reason), fmt, args);
	va_end(args);

	/* A cut in the middle of a multi-byte character would spoil the message. */
	reason[pg_mbcliplen(reason, strlen(reason), sizeof(reason) - 2)] = '\0';

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid schedule \"%s\"", parser->expression),
			 errdetail("In the %s field \"%.*s\", %s.", parser->spec->name,
					   (int) (parser->field_end - parser->field),
					   parser->field, reason),
			 errhint("%s", parser->spec->accepts)));
}

/*
 * Does any date match?  Years come in fourteen kinds, by the weekday on which
 * they begin and by having a 29 February or not, and all of them occur.
 */
static bool
has_matching_date(const FpCron *cron)
{
	for (int is_leap = 0; is_leap <= 1; is_leap++)
	{
		for (int new_year = 0; new_year < DAYS_PER_WEEK; new_year++)
		{
			int			weekday = new_year;

			for (int month = 1; month <= MONTHS_PER_YEAR; month++)
			{
				int			ndays = day_tab[is_leap][month - 1];

				if ((cron->months & BIT(month)) &&
					month_days(cron, ndays, weekday) != 0)
					return true;
				weekday = (weekday + ndays) % DAYS_PER_WEEK;
			}
		}
	}
	return false;
}

/*
 * The days that match in a month of so many days that begins on the given
 * day of week, as a bit map.  The month field is not looked at.
 */
static uint64
month_days(const FpCron *cron, int ndays, int first_weekday)
{
	uint64		every = BIT(1) | BIT(8) | BIT(15) | BIT(22) | BIT(29);
	uint64		whole = BIT(ndays + 1) - BIT(1);
	uint64		by_number = cron->days;
	uint64		by_weekday = 0;

	if (cron->last_day)
		by_number |= BIT(ndays);
	if (cron->last_workday)
	{
		int			last_weekday = (first_weekday + ndays - 1) % DAYS_PER_WEEK;
		int			back = (last_weekday == 0) ? 2 : (last_weekday == 6) ? 1 : 0;

		by_number |= BIT(ndays - back);
	}

	for (int weekday = 0; weekday < DAYS_PER_WEEK; weekday++)
	{
		int			first = (weekday - first_weekday + DAYS_PER_WEEK) % DAYS_PER_WEEK;
		uint64		all = (every << first) & whole;

		if (cron->weekdays & BIT(weekday))
			by_weekday |= all;
		if (cron->last_weekdays & BIT(weekday))
			by_weekday |= BIT(pg_leftmost_one_pos64(all));
		for (int nth = 0; nth < FP_CRON_NTH_MAX; nth++)
		{
			if (cron->nth_weekdays[nth] & BIT(weekday))
				by_weekday |= all & BIT(1 + first + nth * DAYS_PER_WEEK);
		}
	}

	if (cron->needs_both_days)
		return by_number & by_weekday & whole;
	return (by_number | by_weekday) & whole;
}

/* The days of this month on which the expression fires. */
static uint64
days_of_month(const FpCron *cron, int year, int month)
{
	if ((cron->months & BIT(month)) == 0)
		return 0;
	return month_days(cron, day_tab[isleap(year)][month - 1],
					  j2day(date2j(year, month, 1)));
}

/*
 * The first matching local time at "from" or later, both in seconds since
 * 2000 as if the local clock were UTC.  False: none up to the last year.
 */
static bool
next_local(const FpCron *cron, int64 from, int64 *result)
{
	int64		days;
	int			second;
	int			year;
	int			month;
	int			day;
	uint64		candidates;

	from = Max(from, local_midnight(MIN_YEAR, 1, 1));
	days = from / SECS_PER_DAY - (from % SECS_PER_DAY < 0 ? 1 : 0);
	second = from - days * SECS_PER_DAY;
	j2date(days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	if (year > MAX_YEAR)
		return false;

	candidates = days_of_month(cron, year, month);
	if ((candidates & BIT(day)) && next_time_of_day(cron, second, &second))
	{
		*result = days * SECS_PER_DAY + second;
		return true;
	}

	day = next_bit(candidates, day + 1);
	while (day < 0)
	{
		month = next_bit(cron->months, month + 1);
		if (month < 0)
		{
			if (++year > MAX_YEAR)
				return false;
			month = next_bit(cron->months, 1);
		}
		day = next_bit(days_of_month(cron, year, month), 1);
	}
	(void) next_time_of_day(cron, 0, &second);
	*result = local_midnight(year, month, day) + second;
	return true;
}

/* The last matching local time at "upto" or earlier; else as next_local. */
static bool
previous_local(const FpCron *cron, int64 upto, int64 *result)
{
	int64		days;
	int			second;
	int			year;
	int			month;
	int			day;
	uint64		candidates;

	upto = Min(upto, local_midnight(MAX_YEAR + 1, 1, 1) - 1);
	days = upto / SECS_PER_DAY - (upto % SECS_PER_DAY < 0 ? 1 : 0);
	second = upto - days * SECS_PER_DAY;
	j2date(days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	if (year < MIN_YEAR)
		return false;

	candidates = days_of_month(cron, year, month);
	if ((candidates & BIT(day)) && previous_time_of_day(cron, second, &second))
	{
		*result = days * SECS_PER_DAY + second;
		return true;
	}

	day = previous_bit(candidates, day - 1);
	while (day < 0)
	{
		month = previous_bit(cron->months, month - 1);
		if (month < 0)
		{
			if (--year < MIN_YEAR)
				return false;
			month = previous_bit(cron->months, MONTHS_PER_YEAR);
		}
		day = previous_bit(days_of_month(cron, year, month), 31);
	}
	(void) previous_time_of_day(cron, SECS_PER_DAY - 1, &second);
	*result = local_midnight(year, month, day) + second;
	return true;
}

/*
 * The first matching second of a day at "from" or later; false: none on this
 * day.
 */
static bool
next_time_of_day(const FpCron *cron, int from, int *result)
{
	int			hour = from / SECS_PER_HOUR;
	int			minute = from / SECS_PER_MINUTE % MINS_PER_HOUR;
	int			second = from % SECS_PER_MINUTE;

	if (cron->hours & BIT(hour))
	{
		if (cron->minutes & BIT(minute))
			second = next_bit(cron->seconds, second);
		else
			second = -1;
		if (second < 0)
		{
			minute = next_bit(cron->minutes, minute + 1);
			second = next_bit(cron->seconds, 0);
		}
	}
	else
		minute = -1;
	if (minute < 0)
	{
		hour = next_bit(cron->hours, hour + 1);
		minute = next_bit(cron->minutes, 0);
		second = next_bit(cron->seconds, 0);
	}
	*result = (hour * MINS_PER_HOUR + minute) * SECS_PER_MINUTE + second;
	return hour >= 0;
}

/* The last matching second of a day at "upto" or earlier; false: none. */
static bool
previous_time_of_day(const FpCron *cron, int upto, int *result)
{
	int			hour = upto / SECS_PER_HOUR;
	int			minute = upto / SECS_PER_MINUTE % MINS_PER_HOUR;
	int			second = upto % SECS_PER_MINUTE;

	if (cron->hours & BIT(hour))
	{
		if (cron->minutes & BIT(minute))
			second = previous_bit(cron->seconds, second);
		else
			second = -1;
		if (second < 0)
		{
			minute = previous_bit(cron->minutes, minute - 1);
			second = previous_bit(cron->seconds, SECS_PER_MINUTE - 1);
		}
	}
	else
		minute = -1;
	if (minute < 0)
	{
		hour = previous_bit(cron->hours, hour - 1);
		minute = previous_bit(cron->minutes, MINS_PER_HOUR - 1);
		second = previous_bit(cron->seconds, SECS_PER_MINUTE - 1);
	}
	*result = (hour * MINS_PER_HOUR + minute) * SECS_PER_MINUTE + second;
	return hour >= 0;
}

/*
 * The first tick of this span at "from" or later; "from" lies in the span.
 * False: the span has no more.
 */
static bool
next_in_span(const FpCron *cron, const ZoneSpan *span, int64 from,
			 int64 *result)
{
	int64		local;
	bool		found = false;

	if (next_local(cron, from + span->offset, &local) &&
		local - span->offset < own_ticks_end(cron, span))
	{
		*result = local - span->offset;
		found = true;
	}

	/* Local times out of the gap that began this span. */
	if (span->offset > span->previous_offset &&
		from < span->start + (span->offset - span->previous_offset) &&
		next_local(cron, from + span->previous_offset, &local) &&
		local < span->start + span->offset &&
		local - span->previous_offset < span->end)
	{
		local -= span->previous_offset;
		*result = found ? Min(*result, local) : local;
		found = true;
	}
	return found;
}

/*
 * The last tick of this span from "from" to "upto", both included; they lie
 * in the span.  False: there is none.
 */
static bool
previous_in_span(const FpCron *cron, const ZoneSpan *span, int64 from,
				 int64 upto, int64 *result)
{
	int64		own_end = own_ticks_end(cron, span);
	int64		local;
	bool		found = false;

	if (previous_local(cron, Min(upto, own_end - 1) + span->offset, &local) &&
		local - span->offset >= from)
	{
		*result = local - span->offset;
		found = true;
	}

	/* Local times out of the gap that began this span. */
	if (span->offset > span->previous_offset)
	{
		int64		gap = span->offset - span->previous_offset;

		if (from < span->start + gap &&
			previous_local(cron, Min(upto, span->start + gap - 1) +
						   span->previous_offset, &local) &&
			local - span->previous_offset >= from)
		{
			local -= span->previous_offset;
			*result = found ? Max(*result, local) : local;
			found = true;
		}
	}
	return found;
}

/*
 * The last tick from "from" to "upto", both included; false: none.
 * *last_offset is set to the zone's offset at "upto".
 */
static bool
previous_in_window(const FpCron *cron, pg_tz *zone, int64 from, int64 upto,
				   int64 *last_offset, int64 *result)
{
	ZoneSpan	span;
	bool		found = false;

	span_locate(&span, zone, from - MAX_SHIFT);
	for (;;)
	{
		int64		tick;

		if (span.end > from &&
			previous_in_span(cron, &span, Max(from, span.start),
							 Min(upto, span.end - 1), &tick))
		{
			*result = tick;
			found = true;
		}
		if (span.end > upto)
			break;
		span_advance(&span, zone);
	}
	*last_offset = span.offset;
	return found;
}

/*
 * Where a span's own ticks end: at its end, but before the local times that
 * come a second time after it, which fire then.
 */
static int64
own_ticks_end(const FpCron *cron, const ZoneSpan *span)
{
	if (cron->every_hour || span->end == NO_MORE_CHANGES ||
		span->next_offset >= span->offset)
		return span->end;
	return span->end - (span->offset - span->next_offset);
}

/*
 * Set span to the one that holds "at".  Its start is not known and stands as
 * "at", without a gap: where that matters, callers ask MAX_SHIFT too early.
 */
static void
span_locate(ZoneSpan *span, pg_tz *zone, int64 at)
{
	span->start = at;
	find_change(span, zone, at);
	span->previous_offset = span->offset;
}

/* Go on to the next span; there must be one. */
static void
span_advance(ZoneSpan *span, pg_tz *zone)
{
	int64		previous_offset = span->offset;

	Assert(span->end != NO_MORE_CHANGES);
	span->start = span->end;
	find_change(span, zone, span->start);
	span->previous_offset = previous_offset;
}

/* Set offset, end and next_offset of the span that holds "after". */
static void
find_change(ZoneSpan *span, pg_tz *zone, int64 after)
{
	pg_time_t	at = (pg_time_t) (after + UNIX_EPOCH_SHIFT);
	pg_time_t	boundary;
	long int	before_offset;
	long int	after_offset;
	int			before_is_dst;
	int			after_is_dst;

	switch (pg_next_dst_boundary(&at, &before_offset, &before_is_dst,
								 &boundary, &after_offset, &after_is_dst,
								 zone))
	{
		case 0:
			span->end = NO_MORE_CHANGES;
			span->offset = before_offset;
			span->next_offset = before_offset;
			break;
		case 1:
			span->end = (int64) boundary - UNIX_EPOCH_SHIFT;
			span->offset = before_offset;
			span->next_offset = after_offset;
			break;
		default:
			elog(ERROR, "could not find the offset of time zone \"%s\" at " INT64_FORMAT,
				 pg_get_timezone_name(zone), (int64) at);
	}
}

/* The lowest bit that is set, from this one upwards; -1: none. */
static int
next_bit(uint64 mask, int from)
{
	if (from > 63)
		return -1;
	mask &= ~UINT64CONST(0) << from;
	return mask != 0 ? pg_rightmost_one_pos64(mask) : -1;
}

/* The highest bit that is set, from this one downwards; -1: none. */
static int
previous_bit(uint64 mask, int from)
{
	if (from < 0)
		return -1;
	mask &= ~UINT64CONST(0) >> (63 - from);
	return mask != 0 ? pg_leftmost_one_pos64(mask) : -1;
}

/* Whole seconds since 2000, rounded down. */
static int64
floor_seconds(TimestampTz at)
{
	return at / USECS_PER_SEC - (at % USECS_PER_SEC < 0 ? 1 : 0);
}

/* Midnight of a date, in seconds since 2000 as if it were UTC. */
static int64
local_midnight(int year, int month, int day)
{
	return (int64) (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) *
		SECS_PER_DAY;
}
