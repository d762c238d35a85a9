/*-------------------------------------------------------------------------
 *
 * history_store.h
 *	  Old runs and what belongs to them, in the tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_HISTORY_STORE_H
#define FLOWPG_HISTORY_STORE_H

#include "datatype/timestamp.h"

/* Some runs in the order of their numbers. */
typedef struct FpHistoryWindow
{
	int64		last;			/* the last one looked at; 0: there are none */
	int			nold;			/* finished ones that ended before a time */
	Datum	   *old;			/* int8 */
	TimestampTz oldest;			/* end of the oldest one that is not old;
								 * DT_NOEND: none */
} FpHistoryWindow;

/*
 * Looks at the runs that follow a number, at most so many, and no further than
 * to the last of max_old old ones.
 */
extern void fp_history_store_look(int64 after, int max_runs, int max_old,
								  TimestampTz before, FpHistoryWindow *window);

/*
 * Removes what belongs to runs, at most so many rows of each kind; false: there
 * is more.
 */
extern bool fp_history_store_forget_parts(const FpHistoryWindow *window,
										  int max_rows);

extern void fp_history_store_forget_runs(const FpHistoryWindow *window);

/*
 * Removes old rows of dag_log, at most so many, and when there are no more,
 * backfills, versions of definitions and names of dropped DAGs of before that
 * time that no run refers to; false: there is more.  *oldest is lowered to
 * the time of the oldest row of dag_log that stays.
 */
extern bool fp_history_store_forget_rest(TimestampTz before, int max_rows,
										 TimestampTz *oldest);

#endif							/* FLOWPG_HISTORY_STORE_H */
