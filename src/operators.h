/*-------------------------------------------------------------------------
 *
 * operators.h
 *	  What the kinds of tasks do, beside sql and upsert.
 *
 * Each runs in a worker as the DAG's owner.  Those with a transaction run
 * inside the caller's, and what they return is recorded in it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_OPERATORS_H
#define FLOWPG_OPERATORS_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "flowpg.h"

/* What came of a task's condition. */
typedef struct FpCondition
{
	bool		is_true;
	char	   *message;		/* what was not true, by name; NULL: nothing to
								 * tell */
} FpCondition;

/*
 * Runs a condition: one row whose first column is true, or several rows
 * (name text, ok boolean, detail text), all of which are ok.  No row and NULL
 * are not true.
 */
extern void fp_operator_condition(const char *condition,
								  const FpRunContext *run,
								  FpCondition *result);

/* the task_ids that a branch's command yields, as a List of char * */
extern List *fp_operator_branch(const char *command, const FpRunContext *run);

/* A retention task. */
typedef struct FpRetention
{
	const char *target;
	const char *column_name;
	const char *keep;			/* interval as text */
} FpRetention;

/*
 * Drops one partition that is wholly older than keep before the run's
 * data_interval_end, or deletes a bounded number of such rows.  Returns
 * whether there may be more; adds to *rows_removed.  The caller commits
 * after each call.
 */
extern bool fp_operator_retention(const FpRetention *retention,
								  const FpRunContext *run,
								  int64 *rows_removed);

/*
 * At definition: target is a table that has the column, of a type with time
 * in it, and keep is a positive interval.  ERROR otherwise.
 */
extern void fp_operator_check_retention(const FpRetention *retention,
										bool check_names);

/* conditions at definition: one query, of one of the two shapes */
extern void fp_operator_check_condition(const char *condition,
										bool check_names);
/* a branch's command at definition: one query of text or text[] */
extern void fp_operator_check_branch(const char *command, bool check_names);

#endif							/* FLOWPG_OPERATORS_H */
