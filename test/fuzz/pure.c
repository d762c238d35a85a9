/*-------------------------------------------------------------------------
 *
 * pure.c
 *	  Feeds the pure files of flowpg (cron, schedule, graph, cycle,
 *	  trigger_rule, jsonb_util) with any input, and checks that what they say
 *	  agrees with itself and with slow and simple ways to the same answer.
 *
 * A module for a server in single-user mode, in which the pure files are
 * compiled a second time, with sanitizers: they call too much of the server
 * (time zones, dates, errors, jsonb) for anything but the server to stand in.
 * SQL functions: fuzz_one(input) for one input, to replay; and, where it is
 * built with libFuzzer, fuzz_run(arguments), which does not return.
 *
 * An input is text of lines.  The first one says what it is for:
 *
 *	schedule		a schedule, a zone, and eight times: anchor, at, start and
 *					end of the last run, earliest, latest, now, a step
 *	graph			edges as letters: abbc is a -> b, b -> c
 *	rule			six numbers: total, success, skipped, failed,
 *					upstream_failed, removed
 *	jsonb			keys and values, one a line
 *
 * A time is seconds since 2000, a point, microseconds; those beyond the bounds
 * of timestamptz are infinite.  A check that does not hold aborts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cron.h"
#include "cycle.h"
#include "graph.h"
#include "jsonb_util.h"
#include "schedule.h"
#include "trigger_rule.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(fuzz_one);
#ifdef FUZZ_WITH_LIBFUZZER
PG_FUNCTION_INFO_V1(fuzz_run);
extern int	LLVMFuzzerRunDriver(int *argc, char ***argv,
								int (*callback) (const uint8 *, size_t));
#endif
extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			broken(#condition, __LINE__); \
	} while (0)

/* ticks can be this far apart at most: 29 February on one day of the week */
#define MAX_YEARS_APART 41
#define USECS_PER_YEAR (INT64CONST(366) * USECS_PER_DAY)

/* the most that a zone's clocks move */
#define MAX_SHIFT_DAYS 2

/* how far the slow ways go */
#define SLOW_SECONDS 4000
#define SLOW_DAYS 1500
#define MAX_NODES 26

#define FIRST_INSTANT \
	((int64) (date2j(1, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
#define END_INSTANT \
	((int64) (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

typedef struct Allocation
{
	struct Allocation *next;
	struct Allocation *previous;
} Allocation;

static Allocation allocations = {&allocations, &allocations};

/* what is being read */
static char *input;

pg_attribute_noreturn() static void broken(const char *condition, int line);
static void run_input(void);
static char *next_line(void);
static int64 next_number(void);
static TimestampTz next_time(void);
static void check_schedule(void);
static void check_cadence(const FpSchedule *schedule, TimestampTz at);
static void check_cron(const FpSchedule *schedule, TimestampTz at);
static void check_slowly(const FpCron *cron, int64 after, int64 tick);
static bool day_matches(const FpCron *cron, int julian);
static bool second_matches(const FpCron *cron, int64 second);
static bool tick_matches(const FpSchedule *schedule, TimestampTz tick);
static void check_next_run(const FpSchedule *schedule, FpRunBounds *bounds,
						   TimestampTz now);
static void check_graph(void);
static void check_rule(void);
static FpTriggerDecision decide_slowly(FpTriggerRule rule,
									   FpUpstreamCounts counts);
static void check_jsonb(void);


Datum
fuzz_one(PG_FUNCTION_ARGS)
{
	bytea	   *data = PG_GETARG_BYTEA_PP(0);

	(void) LLVMFuzzerTestOneInput((uint8 *) VARDATA_ANY(data),
								  VARSIZE_ANY_EXHDR(data));
	PG_RETURN_VOID();
}

#ifdef FUZZ_WITH_LIBFUZZER
Datum
fuzz_run(PG_FUNCTION_ARGS)
{
	static char *argv[64] = {"pure"};
	char	  **arguments = argv;
	char	   *list = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			argc = 1;

	for (char *word = strtok(list, " "); word && argc < lengthof(argv) - 1;
		 word = strtok(NULL, " "))
		argv[argc++] = word;
	exit(LLVMFuzzerRunDriver(&argc, &arguments, LLVMFuzzerTestOneInput));
}
#endif

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static MemoryContext context = NULL;
	MemoryContext outer = CurrentMemoryContext;
	char	   *copy;

	/* what the server's input functions let through */
	if (memchr(data, '\0', size) != NULL ||
		!pg_verify_mbstr(PG_UTF8, (const char *) data, size, true))
		return 0;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "fuzz",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	copy = input = fuzz_strndup((const char *) data, size);
	PG_TRY();
	{
		run_input();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();

		/* of the user's making, and in the user's encoding */
		CHECK(error->sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE ||
			  error->sqlerrcode == ERRCODE_DATETIME_VALUE_OUT_OF_RANGE);
		CHECK(pg_verify_mbstr(PG_UTF8, error->message,
							  strlen(error->message), true));
		CHECK(error->detail == NULL ||
			  pg_verify_mbstr(PG_UTF8, error->detail,
							  strlen(error->detail), true));
	}
	PG_END_TRY();
	(void) copy;
	while (allocations.next != &allocations)
		fuzz_free(allocations.next + 1);
	MemoryContextSwitchTo(outer);
	MemoryContextReset(context);
	return 0;
}

void *
fuzz_alloc(size_t size)
{
	Allocation *allocation = malloc(sizeof(Allocation) + size);

	CHECK(AllocSizeIsValid(size));
	CHECK(allocation != NULL);
	/* what is read before it is written stands out */
	memset(allocation + 1, 0x7f, size);
	allocation->next = allocations.next;
	allocation->previous = &allocations;
	allocation->next->previous = allocation;
	allocations.next = allocation;
	return allocation + 1;
}

void *
fuzz_alloc0(size_t size)
{
	return memset(fuzz_alloc(size), 0, size);
}

void
fuzz_free(void *pointer)
{
	Allocation *allocation = (Allocation *) pointer - 1;

	allocation->next->previous = allocation->previous;
	allocation->previous->next = allocation->next;
	free(allocation);
}

char *
fuzz_strndup(const char *text, size_t length)
{
	char	   *result = fuzz_alloc(length + 1);

	memcpy(result, text, length);
	result[length] = '\0';
	return result;
}

static void
broken(const char *condition, int line)
{
	fprintf(stderr, "pure.c:%d: does not hold: %s\n", line, condition);
	abort();
}

static void
run_input(void)
{
	char	   *kind = next_line();

	if (strcmp(kind, "schedule") == 0)
		check_schedule();
	else if (strcmp(kind, "graph") == 0)
		check_graph();
	else if (strcmp(kind, "rule") == 0)
		check_rule();
	else if (strcmp(kind, "jsonb") == 0)
		check_jsonb();
	else
		/* to see that a check is heard of */
		CHECK(strcmp(kind, "broken") != 0);
}

/* The next line of the input, "" after the last one. */
static char *
next_line(void)
{
	char	   *line = input;
	char	   *end = strchr(input, '\n');

	if (end == NULL)
		end = input = line + strlen(line);
	else
		input = end + 1;

	/* of its own size, so that reading past its end is seen */
	return fuzz_strndup(line, end - line);
}

static int64
next_number(void)
{
	int64		result;

	input += strspn(input, " \n");
	errno = 0;
	result = strtoll(input, &input, 10);
	return result;
}

static TimestampTz
next_time(void)
{
	int64		seconds = next_number();
	int64		usecs = 0;

	if (*input == '.')
	{
		input++;
		usecs = next_number() % USECS_PER_SEC;
	}
	if (seconds >= END_TIMESTAMP / USECS_PER_SEC)
		return DT_NOEND;
	if (seconds <= MIN_TIMESTAMP / USECS_PER_SEC)
		return DT_NOBEGIN;
	return seconds * USECS_PER_SEC + usecs;
}

static void
check_schedule(void)
{
	char	   *text = next_line();
	char	   *zone = next_line();
	TimestampTz anchor = next_time();
	TimestampTz at = next_time();
	FpRunBounds bounds = {0};
	TimestampTz now;
	FpSchedule *schedule = fp_schedule_parse(text, zone, anchor);
	FpInterval	interval;

	bounds.last.start = next_time();
	bounds.last.end = next_time();
	bounds.earliest = next_time();
	bounds.latest = next_time();
	now = next_time();

	if (schedule->kind == FP_SCHEDULE_CRON ||
		schedule->kind == FP_SCHEDULE_INTERVAL)
	{
		check_cadence(schedule, at);
		check_cadence(schedule, now);
	}
	else
		CHECK(!fp_schedule_containing(schedule, at, &interval));
	if (schedule->kind == FP_SCHEDULE_CRON)
	{
		check_cron(schedule, at);
		check_cron(schedule, now);
		check_cron(schedule, bounds.earliest);
	}

	/* the time of a decision is finite, as are the ends of a run */
	if (TIMESTAMP_NOT_FINITE(now))
		return;
	if (!TIMESTAMP_NOT_FINITE(bounds.last.start) &&
		!TIMESTAMP_NOT_FINITE(bounds.last.end) &&
		bounds.last.start <= bounds.last.end)
	{
		bounds.has_last = true;
		check_next_run(schedule, &bounds, now);
		bounds.catchup = true;
		check_next_run(schedule, &bounds, now);
	}
	bounds.has_last = false;
	check_next_run(schedule, &bounds, now);
	bounds.catchup = !bounds.catchup;
	check_next_run(schedule, &bounds, now);
}

/* Intervals are contiguous, disjoint and increasing, and all ways to one agree. */
static void
check_cadence(const FpSchedule *schedule, TimestampTz at)
{
	FpInterval	interval;
	FpInterval	other;

	if (fp_schedule_containing(schedule, at, &interval))
	{
		CHECK(interval.start <= at && at < interval.end);
		CHECK(fp_schedule_containing(schedule, interval.start, &other) &&
			  other.start == interval.start && other.end == interval.end);
		CHECK(fp_schedule_containing(schedule, interval.end - 1, &other) &&
			  other.start == interval.start && other.end == interval.end);
		CHECK(fp_schedule_at_or_after(schedule, interval.start, &other) &&
			  other.start == interval.start && other.end == interval.end);
		CHECK(fp_schedule_latest_complete(schedule, interval.end, &other) &&
			  other.start == interval.start && other.end == interval.end);
		if (fp_schedule_latest_complete(schedule, interval.end - 1, &other))
			CHECK(other.end == interval.start);
		if (fp_schedule_after(schedule, at, &other))
			CHECK(other.start == interval.end);
	}
	else
		CHECK(at < FIRST_INSTANT + MAX_YEARS_APART * USECS_PER_YEAR ||
			  at >= END_INSTANT - MAX_YEARS_APART * USECS_PER_YEAR ||
			  schedule->kind == FP_SCHEDULE_INTERVAL);

	for (int i = 0; i < 4; i++)
	{
		FpInterval	next;

		if (!fp_schedule_after(schedule, at, &next))
		{
			CHECK(at >= END_INSTANT - 202 * USECS_PER_YEAR);
			break;
		}
		CHECK(next.start > at);
		CHECK(next.end > next.start);
		CHECK(next.start >= FIRST_INSTANT - MAX_SHIFT_DAYS * USECS_PER_DAY);
		CHECK(next.end < END_INSTANT + MAX_SHIFT_DAYS * USECS_PER_DAY);
		CHECK(i == 0 || next.start == interval.end);
		CHECK(fp_schedule_at_or_after(schedule, at == DT_NOEND ? at : at + 1,
									  &other) &&
			  other.start == next.start && other.end == next.end);
		interval = next;
		at = next.start;
	}
}

static void
check_cron(const FpSchedule *schedule, TimestampTz at)
{
	const FpCron *cron = &schedule->cron;
	pg_tz	   *zone = schedule->zone;
	TimestampTz next;
	TimestampTz previous;
	TimestampTz other;
	bool		is_utc = strcmp(pg_get_timezone_name(zone), "UTC") == 0;
	bool		has_next = fp_cron_next(cron, zone, at, &next);
	bool		has_previous = fp_cron_previous(cron, zone, at, &previous);

	if (has_next)
	{
		CHECK(next > at);
		CHECK(next % USECS_PER_SEC == 0);
		CHECK(tick_matches(schedule, next));
		CHECK(fp_cron_previous(cron, zone, next, &other) && other == next);
		if (has_previous)
			CHECK(fp_cron_previous(cron, zone, next - 1, &other) &&
				  other == previous);
		if (is_utc && at >= FIRST_INSTANT)
			check_slowly(cron, at / USECS_PER_SEC -
						 (at % USECS_PER_SEC < 0 ? 1 : 0),
						 next / USECS_PER_SEC);
	}
	else
		CHECK(at >= END_INSTANT - MAX_YEARS_APART * USECS_PER_YEAR);
	if (has_previous)
	{
		CHECK(previous <= at);
		CHECK(tick_matches(schedule, previous));
		CHECK(fp_cron_next(cron, zone, previous - 1, &other) &&
			  other == previous);
		if (has_next)
			CHECK(fp_cron_next(cron, zone, previous, &other) &&
				  other == next);
	}
	else
		CHECK(at < FIRST_INSTANT + MAX_YEARS_APART * USECS_PER_YEAR);
}

/* No second between the two, but the later one, is a tick: in UTC. */
static void
check_slowly(const FpCron *cron, int64 after, int64 tick)
{
	int64		last = Min(tick - 1, after + SLOW_SECONDS);
	int			first_day = after / SECS_PER_DAY + POSTGRES_EPOCH_JDATE + 1;
	int			last_day = tick / SECS_PER_DAY + POSTGRES_EPOCH_JDATE - 2;

	CHECK(second_matches(cron, tick));
	for (int64 second = after + 1; second <= last; second++)
		CHECK(!second_matches(cron, second));
	last_day = Min(last_day, first_day + SLOW_DAYS);
	for (int day = first_day + 1; day <= last_day; day++)
		CHECK(!day_matches(cron, day));
}

static bool
day_matches(const FpCron *cron, int julian)
{
	int			year;
	int			month;
	int			day;
	int			ndays;
	int			weekday = j2day(julian);
	bool		by_number;
	bool		by_weekday;

	j2date(julian, &year, &month, &day);
	ndays = day_tab[isleap(year)][month - 1];
	if (((cron->months >> month) & 1) == 0)
		return false;

	by_number = ((cron->days >> day) & 1) != 0 ||
		(cron->last_day && day == ndays);
	if (cron->last_workday && weekday >= 1 && weekday <= 5 &&
		(day == ndays || (weekday == 5 && day + 2 >= ndays)))
		by_number = true;
	by_weekday = ((cron->weekdays >> weekday) & 1) != 0 ||
		((cron->nth_weekdays[(day - 1) / 7] >> weekday) & 1) != 0 ||
		(((cron->last_weekdays >> weekday) & 1) != 0 && day + 7 > ndays);
	return cron->needs_both_days ? by_number && by_weekday :
		by_number || by_weekday;
}

/* A local time, as seconds since 2000. */
static bool
second_matches(const FpCron *cron, int64 second)
{
	int64		day = second / SECS_PER_DAY;
	int			rest = second % SECS_PER_DAY;

	if (rest < 0)
	{
		rest += SECS_PER_DAY;
		day--;
	}
	return ((cron->hours >> (rest / 3600)) & 1) != 0 &&
		((cron->minutes >> (rest / 60 % 60)) & 1) != 0 &&
		((cron->seconds >> (rest % 60)) & 1) != 0 &&
		day_matches(cron, day + POSTGRES_EPOCH_JDATE);
}

/* The local time matches, read with the offset of now or with that from before. */
static bool
tick_matches(const FpSchedule *schedule, TimestampTz tick)
{
	pg_time_t	instant = timestamptz_to_time_t(tick);

	for (int days = 0; days <= MAX_SHIFT_DAYS; days++)
	{
		pg_time_t	at = instant - days * SECS_PER_DAY;
		struct pg_tm *local = pg_localtime(&at, schedule->zone);

		if (second_matches(&schedule->cron,
						   tick / USECS_PER_SEC + local->tm_gmtoff))
			return true;
	}
	return false;
}

static void
check_next_run(const FpSchedule *schedule, FpRunBounds *bounds,
			   TimestampTz now)
{
	FpRunBounds rolling = *bounds;
	FpInterval	interval;

	for (int i = 0; i < 4; i++)
	{
		if (!fp_schedule_next_run(schedule, &rolling, now, &interval))
			return;
		CHECK(!TIMESTAMP_NOT_FINITE(interval.start));
		CHECK(!TIMESTAMP_NOT_FINITE(interval.end));
		CHECK(interval.start <= bounds->latest);
		CHECK(interval.start >= bounds->earliest ||
			  schedule->kind == FP_SCHEDULE_ONCE);
		if (schedule->kind == FP_SCHEDULE_ONCE)
			CHECK(interval.start == interval.end);
		else
			CHECK(interval.start < interval.end);

		/* a run after one that this made */
		if (i > 0)
		{
			CHECK(interval.start >= rolling.last.end);
			if (rolling.catchup)
				CHECK(interval.start == rolling.last.end);
		}
		rolling.has_last = true;
		rolling.last = interval;
	}
}

/* Edges of letters, with cycle.c by name and graph.c by number. */
static void
check_graph(void)
{
	char	   *text = next_line();
	int			length = strlen(text);
	FpGraph		graph = {.ntasks = MAX_NODES};
	bool		reaches[MAX_NODES][MAX_NODES] = {0};
	bool		is_seed[MAX_NODES] = {0};
	bool		reached[MAX_NODES];
	bool		reached_back[MAX_NODES];
	int			order[MAX_NODES];
	int			place[MAX_NODES];
	int		   *cycle = NULL;
	int			ncycle = 0;
	bool		has_cycle;
	bool		has_order;
	List	   *from = NIL;
	List	   *to = NIL;
	char	   *names[MAX_NODES];
	char	   *cycle_text;

	for (int i = 0; i < MAX_NODES; i++)
	{
		char		name[2] = {'a' + i, '\0'};

		names[i] = fuzz_strndup(name, 1);
	}
	graph.edge_from = fuzz_alloc(sizeof(int) * (length / 2));
	graph.edge_to = fuzz_alloc(sizeof(int) * (length / 2));
	for (int i = 0; i + 1 < length; i += 2)
	{
		int			a = (unsigned char) text[i] % MAX_NODES;
		int			b = (unsigned char) text[i + 1] % MAX_NODES;

		graph.edge_from[graph.nedges] = a;
		graph.edge_to[graph.nedges++] = b;
		reaches[a][b] = true;
		from = lappend(from, names[a]);
		to = lappend(to, names[b]);
	}
	for (int via = 0; via < MAX_NODES; via++)
		for (int a = 0; a < MAX_NODES; a++)
			for (int b = 0; b < MAX_NODES; b++)
				reaches[a][b] |= reaches[a][via] && reaches[via][b];

	has_cycle = fp_graph_find_cycle(&graph, &cycle, &ncycle);
	has_order = fp_graph_topological_order(&graph, order);
	CHECK(has_order == !has_cycle);
	if (has_cycle)
	{
		CHECK(ncycle >= 1 && ncycle <= MAX_NODES);
		for (int i = 0; i < ncycle; i++)
		{
			bool		found = false;

			CHECK(cycle[i] >= cycle[0]);
			for (int e = 0; e < graph.nedges; e++)
				found |= graph.edge_from[e] == cycle[i] &&
					graph.edge_to[e] == cycle[(i + 1) % ncycle];
			CHECK(found);
		}
	}
	else
	{
		memset(place, 0xff, sizeof(place));
		for (int i = 0; i < MAX_NODES; i++)
		{
			CHECK(order[i] >= 0 && order[i] < MAX_NODES);
			CHECK(place[order[i]] == -1);
			place[order[i]] = i;
		}
		for (int e = 0; e < graph.nedges; e++)
			CHECK(place[graph.edge_from[e]] < place[graph.edge_to[e]]);
	}

	for (int seed = 0; seed < MAX_NODES; seed++)
	{
		if (has_cycle)
			CHECK(!reaches[seed][seed] || ncycle > 0);
		else
			CHECK(!reaches[seed][seed]);
		is_seed[seed] = true;
		fp_graph_downstream_set(&graph, is_seed, reached);
		fp_graph_upstream_set(&graph, is_seed, reached_back);
		for (int i = 0; i < MAX_NODES; i++)
		{
			CHECK(reached[i] == (reaches[seed][i] || i == seed));
			CHECK(reached_back[i] == (reaches[i][seed] || i == seed));
		}
		is_seed[seed] = false;
	}

	cycle_text = fp_cycle_find(from, to, names[0]);
	CHECK((cycle_text != NULL) == has_cycle);
	if (cycle_text != NULL)
		CHECK(cycle_text[0] == cycle_text[strlen(cycle_text) - 1]);
}

/* Waits as long as two ways to end lead to two decisions, and no longer. */
static void
check_rule(void)
{
	FpUpstreamCounts counts = {0};
	int		   *fields[] = {&counts.success, &counts.skipped, &counts.failed,
		&counts.upstream_failed, &counts.removed};

	counts.total = next_number() % 9;
	if (counts.total < 0)
		return;
	for (int i = 0, left = counts.total; i < lengthof(fields); i++)
	{
		int64		number = next_number();

		*fields[i] = (number < 0) ? 0 : Min(number, left);
		left -= *fields[i];
	}
	for (int rule = 0; rule <= FP_TRIGGER_RULE_ALWAYS; rule++)
	{
		FpTriggerDecision decision = fp_trigger_rule_decide(rule, &counts);

		CHECK(fp_trigger_rule_parse(fp_trigger_rule_name(rule)) == rule);
		if (rule == FP_TRIGGER_RULE_ALL_DONE &&
			counts.total > counts.success + counts.skipped + counts.failed +
			counts.upstream_failed + counts.removed)
			CHECK(decision == FP_TRIGGER_WAIT);
		else
			CHECK(decision == decide_slowly(rule, counts));
	}
	(void) fp_trigger_rule_parse(next_line());
}

/* What all ways to end lead to; FP_TRIGGER_WAIT: to different things. */
static FpTriggerDecision
decide_slowly(FpTriggerRule rule, FpUpstreamCounts counts)
{
	int			unfinished = counts.total - counts.success - counts.skipped -
		counts.failed - counts.upstream_failed - counts.removed;
	FpTriggerDecision decision = FP_TRIGGER_WAIT;

	if (unfinished == 0)
		return fp_trigger_rule_decide(rule, &counts);
	for (int way = 0; way < 4; way++)
	{
		FpUpstreamCounts ending = counts;
		FpTriggerDecision other;

		if (way == 0)
			ending.success++;
		else if (way == 1)
			ending.skipped++;
		else if (way == 2)
			ending.failed++;
		else
			ending.upstream_failed++;
		other = decide_slowly(rule, ending);
		if (other == FP_TRIGGER_WAIT ||
			(decision != FP_TRIGGER_WAIT && other != decision))
			return FP_TRIGGER_WAIT;
		decision = other;
	}
	return decision;
}

/* What was written is read. */
static void
check_jsonb(void)
{
	JsonbParseState *state = NULL;
	JsonbValue *value;
	Jsonb	   *object;
	List	   *keys = NIL;
	List	   *values = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while (*input != '\0')
	{
		keys = lappend(keys, next_line());
		values = lappend(values, next_line());
		fp_jsonb_push_text(&state, llast(keys), llast(values));
	}
	fp_jsonb_push_texts(&state, "\001list", values);
	fp_jsonb_push_int(&state, "\001number", list_length(values));
	fp_jsonb_push_bool(&state, "\001truth", true);
	object = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));

	CHECK(fp_jsonb_get(object, "\001nothing") == NULL);
	CHECK(strcmp(fp_jsonb_text(fp_jsonb_get(object, "\001truth")), "true") == 0);
	forboth(lc, keys, lc2, values)
	{
		char	   *expected = lfirst(lc2);

		/* the last of those with the same key counts */
		for (int i = foreach_current_index(lc) + 1; i < list_length(keys); i++)
		{
			if (strcmp(list_nth(keys, i), lfirst(lc)) == 0)
				expected = list_nth(values, i);
		}
		value = fp_jsonb_get(object, lfirst(lc));
		if (((char *) lfirst(lc))[0] == '\001')
			continue;
		CHECK(value != NULL && value->type == jbvString);
		CHECK(strcmp(fp_jsonb_string(value), expected) == 0);
		CHECK(strlen(fp_jsonb_text(value)) >= strlen(expected) + 2);
	}
}
