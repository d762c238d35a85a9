/*-------------------------------------------------------------------------
 *
 * dag_def.h
 *	  Definitions of DAGs: from the arguments of flow_create_dag and
 *	  flow_alter_dag to what is stored, checked from all sides.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_DAG_DEF_H
#define FLOWPG_DAG_DEF_H

#include "fmgr.h"

#include "args.h"
#include "dag_store.h"

/* The arguments of flow_create_dag and flow_alter_dag. */
typedef enum FpDagArgument
{
	FP_DAG_DAG_ID,
	FP_DAG_SCHEDULE,
	FP_DAG_START_DATE,
	FP_DAG_END_DATE,
	FP_DAG_TIMEZONE,
	FP_DAG_CATCHUP,
	FP_DAG_DEPENDS_ON_PAST,
	FP_DAG_MAX_ACTIVE_RUNS,
	FP_DAG_MAX_ACTIVE_TASKS,
	FP_DAG_RETRIES,
	FP_DAG_RETRY_DELAY,
	FP_DAG_RETRY_EXPONENTIAL_BACKOFF,
	FP_DAG_MAX_RETRY_DELAY,
	FP_DAG_EXECUTION_TIMEOUT,
	FP_DAG_DAGRUN_TIMEOUT,
	FP_DAG_PRIORITY,
	FP_DAG_ON_SUCCESS,
	FP_DAG_ON_FAILURE,
	FP_DAG_IS_PAUSED,
	FP_DAG_DESCRIPTION,
	FP_DAG_TAGS
} FpDagArgument;

#define FP_DAG_ARGUMENTS (FP_DAG_TAGS + 1)

extern const FpArgument fp_dag_def_arguments[FP_DAG_ARGUMENTS];

/* a new DAG's, where retry_delay is not given */
#define FP_DAG_RETRY_DELAY_MINUTES 5

/*
 * What flow_create_dag has been given, checked.  A new DAG is written here,
 * and *old is NULL.  Else *old is the DAG as it is, its row locked until the
 * transaction ends, and the caller writes the new definition.  search_path is
 * what the DAG's SQL is read with; NULL: the session's.
 */
extern FpDagDef *fp_dag_def_create(FunctionCallInfo fcinfo,
								   const char *search_path, FpDagDef **old);

/*
 * The same for flow_alter_dag: a DAG that there is, with what has been given
 * in place of what it had.  Its row is locked; the caller writes it.
 */
extern FpDagDef *fp_dag_def_alter(FunctionCallInfo fcinfo);

/* whether two definitions of a DAG are the same but for the pause */
extern bool fp_dag_def_is_equal(const FpDagDef *a, const FpDagDef *b);

#endif							/* FLOWPG_DAG_DEF_H */
