/*-------------------------------------------------------------------------
 *
 * upsert_exec.h
 *	  Runs the statements of a paged upsert, with the bounds of pages as
 *	  their parameters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_EXEC_H
#define FLOWPG_UPSERT_EXEC_H

#include "spi_util.h"
#include "upsert_shape.h"
#include "upsert_sql.h"
#include "user_sql.h"

/*
 * What the planner may do.
 */
typedef enum FpUpsertPlanning
{
	FP_UPSERT_PLAN_FREELY,
	FP_UPSERT_PLAN_READ,		/* read by an index of the page order only, and
								 * do not sort */
	FP_UPSERT_PLAN_MERGE,		/* join two ranges in index order */
	FP_UPSERT_PLAN_LOOKUP,		/* look each row up by index */
	FP_UPSERT_PLAN_FETCH		/* join with rows that another server sends
								 * once */
} FpUpsertPlanning;

/*
 * The statements of one run.  A bound is a row of the page order as text: an
 * array of strings, one a column, in a form that does not depend on settings
 * and is read back as the very same values.
 */
typedef struct FpUpsertExec
{
	const FpUpsertShape *shape;
	const FpRunContext *run;
	int			norder;			/* columns in the page order */
	FpUserSqlSetup setup;		/* types of the bounds as parameters */
	MemoryContext context;		/* of what is kept over pages */
	List	   *statements;		/* prepared */
} FpUpsertExec;

/* in the current memory context, which must live until the run ends */
extern void fp_upsert_exec_init(FpUpsertExec *self,
								const FpUpsertShape *shape,
								const FpRunContext *run);
extern void fp_upsert_exec_free(FpUpsertExec *self);

/*
 * Run a statement, prepared at its first use.  lower and upper are the page's
 * bounds; NULL where the statement has none, and so may values be that it does
 * not use.  Returns the number of rows
 * processed.
 */
extern uint64 fp_upsert_exec_run(FpUpsertExec *self,
								 const FpUpsertSqlKey *key,
								 char **lower, char **upper,
								 FpUpsertPlanning planning,
								 FpRowCallback callback, void *arg);

/* the same for SQL that is used once; fp_upsert_exec_once without upper */
extern uint64 fp_upsert_exec_range(FpUpsertExec *self, const char *sql,
								   char **lower, char **upper,
								   FpUpsertPlanning planning,
								   FpRowCallback callback, void *arg);
extern uint64 fp_upsert_exec_once(FpUpsertExec *self, const char *sql,
								  char **lower, FpUpsertPlanning planning,
								  FpRowCallback callback, void *arg);

/* the run's values and the bounds as parameters, in the current context */
extern ParamListInfo fp_upsert_exec_params(FpUpsertExec *self, char **lower,
										   char **upper);

/*
 * The first row that a statement of the page order's columns returns, in the
 * current context; NULL: none.
 */
extern char **fp_upsert_exec_find(FpUpsertExec *self,
								  const FpUpsertSqlKey *key,
								  char **lower, char **upper);

/*
 * A value of a column of the page order from the text of a bound, and back, in
 * the current context.
 */
extern Datum fp_upsert_exec_parse(FpUpsertExec *self, int column,
								  const char *text);
extern char *fp_upsert_exec_format(FpUpsertExec *self, int column,
								   Datum value);

/* settings until the second is called, or until the transaction is aborted */
extern int	fp_upsert_exec_begin_settings(FpUpsertPlanning planning);
extern void fp_upsert_exec_end_settings(int nest_level);

#endif							/* FLOWPG_UPSERT_EXEC_H */
