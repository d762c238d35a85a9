/*-------------------------------------------------------------------------
 *
 * run_args.h
 *	  Arguments that the SQL functions for running share, beside args.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RUN_ARGS_H
#define FLOWPG_RUN_ARGS_H

#include "fmgr.h"

#include "compat.h"
#include "run_store.h"

/* a run_id or backfill_id; NULL is an error */
extern int64 fp_run_args_id(FunctionCallInfo fcinfo, int n,
							const char *argument);

/*
 * conf as jsonb text; NULL for NULL and for an empty object.  What is no
 * object is an error.
 */
extern char *fp_run_args_conf(FunctionCallInfo fcinfo, int n);

/*
 * The run that a run_id names.  ERROR: there is none that the current user
 * may see, or NULL.
 */
extern FpRunRow *fp_run_args_run(FunctionCallInfo fcinfo, int n);
pg_noreturn extern void fp_run_args_no_such_run(int64 run_id);

/*
 * After something was asked of the scheduler: WARNING, where it waits for
 * flow_adopt.
 */
extern void fp_run_args_warn_if_waiting(void);

#endif							/* FLOWPG_RUN_ARGS_H */
