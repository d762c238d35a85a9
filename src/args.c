/*-------------------------------------------------------------------------
 *
 * args.c
 *	  Arguments of the SQL functions: fetched and checked.
 *
 * Used by the api_*.c files.  What is wrong with an argument is said here in
 * one way for all functions: the message names the argument and its value, the
 * hint says what is accepted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "args.h"
#include "compat.h"
#include "flowpg.h"
#include "schedule.h"
#include "shmem.h"

/* a value that is too long is shown up to here */
#define SHOWN_CHARS 50

/* of an argument: times in the scheduler, in microseconds, have room for it */
#define MAX_INTERVAL_YEARS 10000

pg_noreturn static void null_argument(const char *argument);
pg_noreturn static void invalid_timestamp(const char *argument,
										  Timestamp local);
static bool has_control_character(const char *text);


void
fp_args_begin(const char *function)
{
	fp_shmem_require();
	PreventCommandIfReadOnly(function);
}

char *
fp_args_id(FunctionCallInfo fcinfo, int n, const char *argument)
{
	char	   *id = fp_args_text(fcinfo, n);

	fp_args_check_id(id, argument);
	return id;
}

void
fp_args_check_id(const char *id, const char *argument)
{
	int			length;

	if (id == NULL)
		null_argument(argument);

	length = pg_mbstrlen(id);
	if (length < 1 || length > FP_ID_MAX_CHARS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", argument, fp_args_shortened(id)),
				 errdetail("It has %d characters.", length),
				 errhint("Give 1 to %d characters.", FP_ID_MAX_CHARS)));
	if (has_control_character(id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", argument, fp_args_shortened(id)),
				 errdetail("It contains a control character."),
				 errhint("Any other characters may be used, such as letters, digits, spaces, dots and dashes.")));
}

char *
fp_args_required_text(FunctionCallInfo fcinfo, int n, const char *argument)
{
	if (PG_ARGISNULL(n))
		null_argument(argument);
	return fp_args_text(fcinfo, n);
}

char *
fp_args_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

bool
fp_args_bool(FunctionCallInfo fcinfo, int n, bool if_null)
{
	return PG_ARGISNULL(n) ? if_null : PG_GETARG_BOOL(n);
}

int
fp_args_int(FunctionCallInfo fcinfo, int n, const char *argument, int minimum,
			int if_null)
{
	int			value;

	if (PG_ARGISNULL(n))
		return if_null;

	value = PG_GETARG_INT32(n);
	if (value < minimum)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%d\"", argument, value),
				 errhint("Give a number from %d up.", minimum)));
	return value;
}

int
fp_args_required_int(FunctionCallInfo fcinfo, int n, const char *argument,
					 int minimum)
{
	if (PG_ARGISNULL(n))
		null_argument(argument);
	return fp_args_int(fcinfo, n, argument, minimum, 0);
}

/*
 * How long a month is depends on where it is added: of parts with different
 * signs nobody knows whether they are more than zero.
 */
Interval *
fp_args_interval(FunctionCallInfo fcinfo, int n, const char *argument,
				 FpArgsSign sign)
{
	static const Interval longest = {
		.month = MAX_INTERVAL_YEARS * MONTHS_PER_YEAR
	};
	Interval   *interval;
	bool		is_below;
	bool		is_above;
	bool		is_accepted;

	if (PG_ARGISNULL(n))
		return NULL;

	interval = PG_GETARG_INTERVAL_P(n);
	is_below = interval->month < 0 || interval->day < 0 || interval->time < 0;
	is_above = interval->month > 0 || interval->day > 0 || interval->time > 0;
	if (INTERVAL_NOT_FINITE(interval))
		is_accepted = false;
	else if (is_below && is_above)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", argument,
						fp_args_interval_text(interval)),
				 errdetail("Some of its parts are negative and others are not."),
				 errhint("Give months, days and time that are all zero or longer, such as \"1 day 12 hours\".")));
	else
		is_accepted = !is_below && (is_above || sign == FP_ARGS_ZERO_OR_MORE);
	if (!is_accepted)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", argument,
						fp_args_interval_text(interval)),
				 sign == FP_ARGS_POSITIVE ?
				 errhint("Give an interval longer than zero, such as \"10 minutes\".") :
				 errhint("Give an interval of zero or longer, such as \"10 minutes\".")));
	if (DatumGetInt32(DirectFunctionCall2(interval_cmp,
										  IntervalPGetDatum(interval),
										  IntervalPGetDatum(&longest))) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", argument,
						fp_args_interval_text(interval)),
				 errhint("Give an interval of %d years at most.",
						 MAX_INTERVAL_YEARS)));
	return interval;
}

Interval *
fp_args_required_interval(FunctionCallInfo fcinfo, int n,
						  const char *argument, FpArgsSign sign)
{
	if (PG_ARGISNULL(n))
		null_argument(argument);
	return fp_args_interval(fcinfo, n, argument, sign);
}

/*
 * Not in the session's IntervalStyle, which another session would misread.
 */
char *
fp_args_interval_text(const Interval *interval)
{
	struct pg_itm parts;
	char		text[MAXDATELEN + 1];

	if (INTERVAL_NOT_FINITE(interval))
		return interval->month < 0 ? "-infinity" : "infinity";

	interval2itm(*interval, &parts);
	EncodeInterval(&parts, INTSTYLE_POSTGRES, text);
	return pstrdup(text);
}

List *
fp_args_text_array(FunctionCallInfo fcinfo, int n, const char *argument)
{
	return PG_ARGISNULL(n) ? NIL :
		fp_args_texts(PG_GETARG_ARRAYTYPE_P(n), argument);
}

List *
fp_args_texts(const ArrayType *array, const char *argument)
{
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	List	   *result = NIL;

	deconstruct_array(unconstify(ArrayType *, array), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not contain NULL", argument),
					 errhint("Leave the element out.")));
		result = lappend(result, TextDatumGetCString(elements[i]));
	}
	return result;
}

List *
fp_args_names(List *names)
{
	List	   *result = NIL;
	ListCell   *lc;

	list_sort(names, fp_args_compare_names);
	foreach(lc, names)
	{
		if (result == NIL || strcmp(llast(result), lfirst(lc)) != 0)
			result = lappend(result, lfirst(lc));
	}
	return result;
}

int
fp_args_compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

char *
fp_args_conf(FunctionCallInfo fcinfo, int n)
{
	Jsonb	   *conf;
	char	   *text;

	if (PG_ARGISNULL(n))
		return NULL;

	conf = PG_GETARG_JSONB_P(n);
	text = JsonbToCString(NULL, &conf->root, VARSIZE(conf));
	if (!JB_ROOT_IS_OBJECT(conf))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid conf \"%s\"", fp_args_shortened(text)),
				 errhint("Give a JSON object, such as {\"full\": true}.")));
	return text;
}

Jsonb *
fp_args_required_object(FunctionCallInfo fcinfo, int n, const char *argument)
{
	Jsonb	   *object;

	if (PG_ARGISNULL(n))
		null_argument(argument);

	object = PG_GETARG_JSONB_P(n);
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", argument,
						fp_args_shortened(JsonbToCString(NULL, &object->root,
														 VARSIZE(object)))),
				 errhint("Give a JSON object.")));
	return object;
}

/*
 * A regrole may be any number, so it is looked up.
 */
Oid
fp_args_role(FunctionCallInfo fcinfo, int n, const char *argument)
{
	Oid			role;

	if (PG_ARGISNULL(n))
		null_argument(argument);

	role = PG_GETARG_OID(n);
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role),
				 errhint("Give the name of a role; pg_roles lists them.")));
	return role;
}

/*
 * By the rule of AT TIME ZONE: a time that a change of the zone's offset
 * skips is shifted forward by the gap, one that comes twice is taken at its
 * second coming.
 */
TimestampTz
fp_args_wall_clock(Timestamp local, const char *timezone,
				   const char *argument)
{
	pg_tz	   *zone = fp_schedule_timezone(timezone);
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;
	TimestampTz result;

	if (TIMESTAMP_NOT_FINITE(local))
		invalid_timestamp(argument, local);
	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		invalid_timestamp(argument, local);
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &offset, &result) != 0)
		invalid_timestamp(argument, local);

	return result;
}

Timestamp
fp_args_local_time(TimestampTz at, const char *timezone)
{
	pg_tz	   *zone = fp_schedule_timezone(timezone);
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;
	Timestamp	result;

	if (timestamp2tm(at, &offset, &tm, &fsec, NULL, zone) != 0 ||
		tm2timestamp(&tm, fsec, NULL, &result) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return result;
}

char *
fp_args_name_list(List *names, int limit)
{
	StringInfoData text;
	ListCell   *lc;
	int			shown = 0;

	initStringInfo(&text);
	foreach(lc, names)
	{
		if (shown == limit)
		{
			appendStringInfo(&text, " and %d more",
							 list_length(names) - shown);
			break;
		}
		appendStringInfo(&text, "%s\"%s\"", shown > 0 ? ", " : "",
						 (char *) lfirst(lc));
		shown++;
	}
	return text.data;
}

char *
fp_args_shortened(const char *text)
{
	int			length = strlen(text);
	int			shown = pg_mbcharcliplen(text, length, SHOWN_CHARS);

	return shown == length ? pstrdup(text) : psprintf("%.*s...", shown, text);
}

bool
fp_args_is_equal_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

/*
 * Not as core compares intervals: a day is not 24 hours, where the clocks are
 * changed.
 */
bool
fp_args_is_equal_interval(const Interval *a, const Interval *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return a->month == b->month && a->day == b->day && a->time == b->time;
}

bool
fp_args_is_equal_list(List *a, List *b)
{
	ListCell   *la;
	ListCell   *lb;

	if (list_length(a) != list_length(b))
		return false;
	forboth(la, a, lb, b)
	{
		if (strcmp(lfirst(la), lfirst(lb)) != 0)
			return false;
	}
	return true;
}

static void
null_argument(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("argument \"%s\" must not be NULL", argument),
			 errhint("Give a value for %s.", argument)));
}

static void
invalid_timestamp(const char *argument, Timestamp local)
{
	char	   *value = DatumGetCString(DirectFunctionCall1(timestamp_out,
															TimestampGetDatum(local)));

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s \"%s\"", argument, value),
			 errhint("Give a finite time that PostgreSQL can store, on the clock of the DAG's timezone.")));
}

/*
 * Control characters of ASCII and, in UTF-8, of the range U+0080 to U+009F.
 */
static bool
has_control_character(const char *text)
{
	bool		is_utf8 = GetDatabaseEncoding() == PG_UTF8;

	for (const unsigned char *p = (const unsigned char *) text; *p; p++)
	{
		if (*p < 0x20 || *p == 0x7F)
			return true;
		if (is_utf8 && *p == 0xC2 && p[1] >= 0x80 && p[1] <= 0x9F)
			return true;
	}
	return false;
}
