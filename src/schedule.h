/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  A DAG's schedule as a sequence of data intervals.
 *
 * Pure: no tables, no shared memory, no clock; "now" is always an argument.
 * Uses cron.h, which is on the same floor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_SCHEDULE_H
#define FLOWPG_SCHEDULE_H

#include "pgtime.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "cron.h"

/* A data interval: start is in it, end is not. */
typedef struct FpInterval
{
	TimestampTz start;
	TimestampTz end;
} FpInterval;

typedef enum FpScheduleKind
{
	FP_SCHEDULE_NONE,			/* runs only when asked for */
	FP_SCHEDULE_CRON,			/* also the presets that stand for cron */
	FP_SCHEDULE_INTERVAL,		/* anchor + n * interval */
	FP_SCHEDULE_ONCE,			/* one empty interval, at the anchor */
	FP_SCHEDULE_CONTINUOUS		/* from the last end to now */
} FpScheduleKind;

/*
 * A parsed schedule; not changed after fp_schedule_parse.  Callers may look
 * at kind, zone and anchor.
 */
typedef struct FpSchedule
{
	FpScheduleKind kind;
	pg_tz	   *zone;
	TimestampTz anchor;			/* origin of an interval schedule, instant of
								 * @once; cron does not look at it */
	FpCron		cron;			/* FP_SCHEDULE_CRON */
	Interval	interval;		/* FP_SCHEDULE_INTERVAL; no part negative */
	int64		average;		/* length of interval in microseconds, months
								 * taken at their mean */
} FpSchedule;

/* What bounds the next run that the scheduler makes. */
typedef struct FpRunBounds
{
	bool		has_last;
	FpInterval	last;			/* of the last scheduled run, if has_last */
	TimestampTz earliest;		/* start_date; DT_NOBEGIN: none */
	TimestampTz latest;			/* last interval start allowed, included;
								 * DT_NOEND: none */
	bool		catchup;
} FpRunBounds;

extern FpSchedule *fp_schedule_parse(const char *schedule,
									 const char *timezone,
									 TimestampTz anchor);
extern bool fp_schedule_has_timezone(const char *timezone);
extern pg_tz *fp_schedule_timezone(const char *timezone);
extern bool fp_schedule_has_date(DateADT date);
extern bool fp_schedule_at_or_after(const FpSchedule *schedule,
									TimestampTz at, FpInterval *result);
extern bool fp_schedule_after(const FpSchedule *schedule, TimestampTz at,
							  FpInterval *result);
extern bool fp_schedule_containing(const FpSchedule *schedule,
								   TimestampTz at, FpInterval *result);
extern bool fp_schedule_latest_complete(const FpSchedule *schedule,
										TimestampTz now, FpInterval *result);
extern bool fp_schedule_next_run(const FpSchedule *schedule,
								 const FpRunBounds *bounds,
								 TimestampTz now, FpInterval *result);

#endif							/* FLOWPG_SCHEDULE_H */
