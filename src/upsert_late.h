/*-------------------------------------------------------------------------
 *
 * upsert_late.h
 *	  Rows that commit late: how far an incremental upsert may move its
 *	  position.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_LATE_H
#define FLOWPG_UPSERT_LATE_H

#include "upsert_exec.h"

/*
 * Raises an error where late rows of the source could be neither waited for
 * nor, without lookback, read again.
 */
extern void fp_upsert_late_check(const FpUpsertShape *shape,
								 const char *lookback);

/*
 * A row of the page order as values of its first columns; the rest are NULL.
 * NULL: there is none.  Without a value for the last column it stands before
 * the rows that agree with it, else behind them.
 */
typedef char **FpUpsertPlace;

/* as an object of jsonb, columns' names to values, and back */
extern char *fp_upsert_late_place_text(const FpUpsertShape *shape,
									   FpUpsertPlace place);
extern FpUpsertPlace fp_upsert_late_place_parse(const FpUpsertShape *shape,
												Jsonb *object);

/*
 * What is kept in flow.position.  All of it is palloc'd in the context that
 * was current when it was made.
 */
typedef struct FpUpsertReached
{
	FpUpsertPlace last;			/* everything up to here has been read */
	FpUpsertPlace candidate;	/* the same once those below have ended */
	List	   *held_by;		/* virtual transactions, as pg_locks has them */
	char	   *until;			/* and this time (text) has come; NULL: no time */
} FpUpsertReached;

/* stored NULL: nothing has been read */
extern FpUpsertReached *fp_upsert_late_parse(const FpUpsertShape *shape,
											 const char *stored);
extern char *fp_upsert_late_text(const FpUpsertShape *shape,
								 const FpUpsertReached *reached);

/*
 * Takes the candidate for the position if its time has come.  From then on the
 * rows up to there can be read for good; the caller still has to do so.
 */
extern void fp_upsert_late_adopt(const FpUpsertShape *shape,
								 FpUpsertReached *reached);

/*
 * Moves it on to what will hold when all rows up to end have been read.  To be
 * called after end was found and before the first row is read, each with a
 * snapshot of its own.
 */
extern void fp_upsert_late_advance(FpUpsertExec *exec,
								   FpUpsertReached *reached, char **end,
								   const char *lookback);

#endif							/* FLOWPG_UPSERT_LATE_H */
