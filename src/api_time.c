/*-------------------------------------------------------------------------
 *
 * api_time.c
 *	  SQL-callable functions that reach the pure files: cron.c, schedule.c,
 *	  graph.c and trigger_rule.c.
 *
 * Runs in sessions.  flow_next_runs is for users; the functions in schema
 * flow show the parts that the scheduler puts together, to look at and to
 * test.  None of them reads a table or the clock, so all may be called by
 * anyone who may call them, in any transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "cron.h"
#include "graph.h"
#include "guc.h"
#include "schedule.h"
#include "trigger_rule.h"

#define DEFAULT_NEXT_RUNS 10

/* of a graph that is given as arrays; its own arrays must not become too large */
#define MAX_TASKS 10000000

PG_FUNCTION_INFO_V1(flow_next_runs);
PG_FUNCTION_INFO_V1(flow_cron_next);
PG_FUNCTION_INFO_V1(flow_cron_previous);
PG_FUNCTION_INFO_V1(flow_schedule_interval);
PG_FUNCTION_INFO_V1(flow_schedule_next_run);
PG_FUNCTION_INFO_V1(flow_graph_cycle);
PG_FUNCTION_INFO_V1(flow_graph_order);
PG_FUNCTION_INFO_V1(flow_graph_downstream);
PG_FUNCTION_INFO_V1(flow_graph_upstream);
PG_FUNCTION_INFO_V1(flow_trigger_rule_decide);

static FpSchedule *schedule_argument(FunctionCallInfo fcinfo, int schedule,
									 int timezone, TimestampTz anchor);
static const char *timezone_argument(FunctionCallInfo fcinfo, int number);
static TimestampTz timestamp_argument(FunctionCallInfo fcinfo, int number,
									  TimestampTz if_null);
static Datum interval_result(FunctionCallInfo fcinfo, bool found,
							 const FpInterval *interval);
static void graph_arguments(FunctionCallInfo fcinfo, FpGraph *graph);
static int *int_array(Datum array, const char *name, int *length);
static void check_tasks(const FpGraph *graph, const int *tasks, int length,
						const char *name);
static Datum int_array_result(const int *values, int length);
static Datum reached_result(FunctionCallInfo fcinfo,
							void (*reach) (const FpGraph *, const bool *, bool *));

/*
 * flow_next_runs(schedule, timezone, after, n): the first n data intervals
 * that start later than "after".  No rows where the schedule has no cadence.
 */
Datum
flow_next_runs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n = PG_ARGISNULL(3) ? DEFAULT_NEXT_RUNS : PG_GETARG_INT32(3);
	TimestampTz after;
	FpSchedule *schedule;
	FpInterval	interval;

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("after must not be null"),
				 errhint("Give the moment after which the intervals start, such as now().")));
	after = PG_GETARG_TIMESTAMPTZ(2);
	if (TIMESTAMP_NOT_FINITE(after))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid after \"%s\"",
						TIMESTAMP_IS_NOBEGIN(after) ? "-infinity" : "infinity"),
				 errhint("Give a finite moment, such as now().")));
	if (n < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid n \"%d\"", n),
				 errhint("Give how many intervals to return, 0 or more.")));

	schedule = schedule_argument(fcinfo, 0, 1, after);
	InitMaterializedSRF(fcinfo, 0);
	interval.start = after;
	while (n-- > 0 && fp_schedule_after(schedule, interval.start, &interval))
	{
		Datum		values[2] = {TimestampTzGetDatum(interval.start),
		TimestampTzGetDatum(interval.end)};
		bool		nulls[2] = {false, false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}

/* flow.cron_next(schedule, timezone, after): NULL if there is none */
Datum
flow_cron_next(PG_FUNCTION_ARGS)
{
	FpCron		cron;
	TimestampTz result;

	fp_cron_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &cron);
	if (!fp_cron_next(&cron, fp_schedule_timezone(timezone_argument(fcinfo, 1)),
					  PG_GETARG_TIMESTAMPTZ(2), &result))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(result);
}

/* flow.cron_previous(schedule, timezone, at): NULL if there is none */
Datum
flow_cron_previous(PG_FUNCTION_ARGS)
{
	FpCron		cron;
	TimestampTz result;

	fp_cron_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &cron);
	if (!fp_cron_previous(&cron,
						  fp_schedule_timezone(timezone_argument(fcinfo, 1)),
						  PG_GETARG_TIMESTAMPTZ(2), &result))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(result);
}

/*
 * flow.schedule_interval(schedule, timezone, start_date, at, which): one data
 * interval by its place, which is at_or_after, after, containing or
 * latest_complete; both columns NULL if there is none
 */
Datum
flow_schedule_interval(PG_FUNCTION_ARGS)
{
	static const struct
	{
		const char *name;
		bool		(*find) (const FpSchedule *schedule, TimestampTz at,
							 FpInterval *result);
	}			places[] = {
		{"at_or_after", fp_schedule_at_or_after},
		{"after", fp_schedule_after},
		{"containing", fp_schedule_containing},
		{"latest_complete", fp_schedule_latest_complete},
	};
	FpSchedule *schedule = schedule_argument(fcinfo, 0, 1,
											 PG_GETARG_TIMESTAMPTZ(2));
	char	   *which = text_to_cstring(PG_GETARG_TEXT_PP(4));

	for (int i = 0; i < lengthof(places); i++)
	{
		if (strcmp(which, places[i].name) == 0)
		{
			FpInterval	interval;
			bool		found = places[i].find(schedule,
											   PG_GETARG_TIMESTAMPTZ(3),
											   &interval);

			return interval_result(fcinfo, found, &interval);
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid which \"%s\"", which),
			 errhint("Give at_or_after, after, containing or latest_complete.")));
	return (Datum) 0;			/* keep compiler quiet */
}

/*
 * flow.schedule_next_run(schedule, timezone, start_date, last_start, last_end,
 * earliest, latest, catchup, now): what the scheduler would make next; both
 * columns NULL if nothing
 */
Datum
flow_schedule_next_run(PG_FUNCTION_ARGS)
{
	FpRunBounds bounds = {0};
	FpInterval	interval;
	FpSchedule *schedule;
	bool		found;

	schedule = schedule_argument(fcinfo, 0, 1,
								 timestamp_argument(fcinfo, 2, 0));
	bounds.has_last = !PG_ARGISNULL(3) && !PG_ARGISNULL(4);
	bounds.last.start = timestamp_argument(fcinfo, 3, 0);
	bounds.last.end = timestamp_argument(fcinfo, 4, 0);
	bounds.earliest = timestamp_argument(fcinfo, 5, DT_NOBEGIN);
	bounds.latest = timestamp_argument(fcinfo, 6, DT_NOEND);
	bounds.catchup = PG_ARGISNULL(7) ? fp_catchup_by_default :
		PG_GETARG_BOOL(7);
	found = fp_schedule_next_run(schedule, &bounds,
								 timestamp_argument(fcinfo, 8, DT_NOBEGIN),
								 &interval);
	return interval_result(fcinfo, found, &interval);
}

/* flow.graph_cycle(ntasks, edge_from, edge_to): NULL if there is none */
Datum
flow_graph_cycle(PG_FUNCTION_ARGS)
{
	FpGraph		graph;
	int		   *cycle;
	int			length;

	graph_arguments(fcinfo, &graph);
	if (!fp_graph_find_cycle(&graph, &cycle, &length))
		PG_RETURN_NULL();
	return int_array_result(cycle, length);
}

/* flow.graph_order(ntasks, edge_from, edge_to): NULL if there is a cycle */
Datum
flow_graph_order(PG_FUNCTION_ARGS)
{
	FpGraph		graph;
	int		   *order;

	graph_arguments(fcinfo, &graph);
	order = palloc(sizeof(int) * (graph.ntasks + 1));
	if (!fp_graph_topological_order(&graph, order))
		PG_RETURN_NULL();
	return int_array_result(order, graph.ntasks);
}

/* flow.graph_downstream(ntasks, edge_from, edge_to, tasks) */
Datum
flow_graph_downstream(PG_FUNCTION_ARGS)
{
	return reached_result(fcinfo, fp_graph_downstream_set);
}

/* flow.graph_upstream(ntasks, edge_from, edge_to, tasks) */
Datum
flow_graph_upstream(PG_FUNCTION_ARGS)
{
	return reached_result(fcinfo, fp_graph_upstream_set);
}

/*
 * flow.trigger_rule_decide(trigger_rule, total, success, skipped, failed,
 * upstream_failed, removed): wait, run, skipped or upstream_failed
 */
Datum
flow_trigger_rule_decide(PG_FUNCTION_ARGS)
{
	FpTriggerRule rule;
	FpUpstreamCounts counts;

	rule = fp_trigger_rule_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	counts.total = PG_GETARG_INT32(1);
	counts.success = PG_GETARG_INT32(2);
	counts.skipped = PG_GETARG_INT32(3);
	counts.failed = PG_GETARG_INT32(4);
	counts.upstream_failed = PG_GETARG_INT32(5);
	counts.removed = PG_GETARG_INT32(6);

	switch (fp_trigger_rule_decide(rule, &counts))
	{
		case FP_TRIGGER_WAIT:
			PG_RETURN_TEXT_P(cstring_to_text("wait"));
		case FP_TRIGGER_RUN:
			PG_RETURN_TEXT_P(cstring_to_text("run"));
		case FP_TRIGGER_SKIP:
			PG_RETURN_TEXT_P(cstring_to_text("skipped"));
		case FP_TRIGGER_UPSTREAM_FAILED:
			PG_RETURN_TEXT_P(cstring_to_text("upstream_failed"));
	}
	PG_RETURN_NULL();			/* keep compiler quiet */
}

/* Parse the schedule and timezone in these arguments; NULL has its meaning. */
static FpSchedule *
schedule_argument(FunctionCallInfo fcinfo, int schedule, int timezone,
				  TimestampTz anchor)
{
	char	   *string = NULL;

	if (!PG_ARGISNULL(schedule))
		string = text_to_cstring(PG_GETARG_TEXT_PP(schedule));
	return fp_schedule_parse(string, timezone_argument(fcinfo, timezone),
							 anchor);
}

/* A timezone by name; NULL is the setting flowpg.timezone. */
static const char *
timezone_argument(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		return fp_timezone;
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static TimestampTz
timestamp_argument(FunctionCallInfo fcinfo, int number, TimestampTz if_null)
{
	return PG_ARGISNULL(number) ? if_null : PG_GETARG_TIMESTAMPTZ(number);
}

/* A row of two timestamps. */
static Datum
interval_result(FunctionCallInfo fcinfo, bool found,
				const FpInterval *interval)
{
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {!found, !found};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = found ? TimestampTzGetDatum(interval->start) : (Datum) 0;
	values[1] = found ? TimestampTzGetDatum(interval->end) : (Datum) 0;
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
											 values, nulls));
}

/* Read a graph from the first three arguments. */
static void
graph_arguments(FunctionCallInfo fcinfo, FpGraph *graph)
{
	int			nto;

	graph->ntasks = PG_GETARG_INT32(0);
	if (graph->ntasks < 0 || graph->ntasks > MAX_TASKS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid ntasks \"%d\"", graph->ntasks),
				 errhint("Give how many tasks there are, from 0 to %d.",
						 MAX_TASKS)));
	graph->edge_from = int_array(PG_GETARG_DATUM(1), "edge_from",
								 &graph->nedges);
	graph->edge_to = int_array(PG_GETARG_DATUM(2), "edge_to", &nto);
	if (nto != graph->nedges)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("edge_from has %d elements, edge_to has %d",
						graph->nedges, nto),
				 errhint("Give two arrays of the same length.")));
	check_tasks(graph, graph->edge_from, graph->nedges, "edge_from");
	check_tasks(graph, graph->edge_to, graph->nedges, "edge_to");
}

/* The elements of an integer array without nulls. */
static int *
int_array(Datum array, const char *name, int *length)
{
	ArrayType  *value = DatumGetArrayTypeP(array);

	if (array_contains_nulls(value))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not contain nulls", name)));
	*length = ArrayGetNItems(ARR_NDIM(value), ARR_DIMS(value));
	return (int *) ARR_DATA_PTR(value);
}

/* Are these all numbers of tasks? */
static void
check_tasks(const FpGraph *graph, const int *tasks, int length,
			const char *name)
{
	for (int i = 0; i < length; i++)
	{
		if (tasks[i] < 0 || tasks[i] >= graph->ntasks)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid task %d in %s", tasks[i], name),
					 errhint("Tasks are numbered from 0 to ntasks - 1.")));
	}
}

static Datum
int_array_result(const int *values, int length)
{
	Datum	   *datums = palloc(sizeof(Datum) * (length + 1));

	for (int i = 0; i < length; i++)
		datums[i] = Int32GetDatum(values[i]);
	return PointerGetDatum(construct_array(datums, length, INT4OID,
										   sizeof(int32), true,
										   TYPALIGN_INT));
}

/* The tasks that the given ones reach, themselves included, in order. */
static Datum
reached_result(FunctionCallInfo fcinfo,
			   void (*reach) (const FpGraph *, const bool *, bool *))
{
	FpGraph		graph;
	int		   *tasks;
	int			ntasks;
	bool	   *seed;
	bool	   *reached;
	int		   *result;
	int			nresult = 0;

	graph_arguments(fcinfo, &graph);
	tasks = int_array(PG_GETARG_DATUM(3), "tasks", &ntasks);
	check_tasks(&graph, tasks, ntasks, "tasks");

	seed = palloc0(sizeof(bool) * (graph.ntasks + 1));
	reached = palloc0(sizeof(bool) * (graph.ntasks + 1));
	result = palloc(sizeof(int) * (graph.ntasks + 1));
	for (int i = 0; i < ntasks; i++)
		seed[tasks[i]] = true;
	reach(&graph, seed, reached);
	for (int t = 0; t < graph.ntasks; t++)
	{
		if (reached[t])
			result[nresult++] = t;
	}
	return int_array_result(result, nresult);
}
