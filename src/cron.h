/*-------------------------------------------------------------------------
 *
 * cron.h
 *	  Cron expressions: parsed form, next and previous fire time in a zone.
 *
 * Pure: no tables, no shared memory, no clock.  A parsed expression is a
 * plain value that owns no memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_CRON_H
#define FLOWPG_CRON_H

#include "datatype/timestamp.h"
#include "pgtime.h"

/* "#n" of a day of week goes from 1 to this */
#define FP_CRON_NTH_MAX 5

/*
 * A cron expression as bit maps: bit n stands for the value n.  Days of week
 * go from 0, Sunday, to 6; a 7 in the text has become 0.
 */
typedef struct FpCron
{
	uint64		seconds;
	uint64		minutes;
	uint64		hours;
	uint64		months;
	uint64		days;			/* day of month, by number */
	bool		last_day;		/* day of month: L */
	bool		last_workday;	/* day of month: LW, Monday to Friday */
	uint64		weekdays;		/* day of week, every one of the month */
	uint64		nth_weekdays[FP_CRON_NTH_MAX];	/* [n - 1]: the nth of them */
	uint64		last_weekdays;	/* the last one of the month */
	bool		needs_both_days;	/* day of month and day of week must match,
									 * not either */
	bool		every_hour;		/* ticks follow elapsed time, see cron.c */
} FpCron;

extern void fp_cron_parse(const char *expression, FpCron *cron);
extern bool fp_cron_next(const FpCron *cron, pg_tz *zone, TimestampTz after,
						 TimestampTz *result);
extern bool fp_cron_previous(const FpCron *cron, pg_tz *zone, TimestampTz at,
							 TimestampTz *result);

#endif							/* FLOWPG_CRON_H */
