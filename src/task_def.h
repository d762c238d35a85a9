/*-------------------------------------------------------------------------
 *
 * task_def.h
 *	  Definitions of tasks: from the arguments of a flow_add_ function to
 *	  what is stored, and the graph that the tasks of a DAG make.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TASK_DEF_H
#define FLOWPG_TASK_DEF_H

#include "fmgr.h"

#include "task_kind.h"
#include "task_store.h"

/* The arguments that all kinds of tasks have, after the kind's own. */
typedef enum FpTaskCommon
{
	FP_TASK_UPSTREAM,
	FP_TASK_TRIGGER_RULE,
	FP_TASK_RETRIES,
	FP_TASK_RETRY_DELAY,
	FP_TASK_EXECUTION_TIMEOUT,
	FP_TASK_POOL,
	FP_TASK_POOL_SLOTS,
	FP_TASK_PRIORITY_WEIGHT,
	FP_TASK_DEPENDS_ON_PAST
} FpTaskCommon;

#define FP_TASK_COMMON_ARGUMENTS (FP_TASK_DEPENDS_ON_PAST + 1)

extern const FpArgument fp_task_def_common[FP_TASK_COMMON_ARGUMENTS];

/*
 * Reads the arguments of a flow_add_ function into *task and checks those
 * that can be checked without looking at the other tasks.  The DAG is locked;
 * its dag_id stands for the first argument.
 */
extern void fp_task_def_read(const FpTaskKind *kind, FunctionCallInfo fcinfo,
							 const FpDagDef *dag, FpTaskDef *task);

/* ERROR: a task's upstream tasks are not there, or wait for it */
extern void fp_task_def_check_upstream(const FpTaskDef *task);

/*
 * The same for all tasks of a DAG at once, a List of FpTaskDef *: returns them
 * with each after those that it waits for, otherwise by name.
 */
extern List *fp_task_def_sort(const char *dag_id, List *tasks);

/* whether two definitions of a task are the same */
extern bool fp_task_def_is_equal(const FpTaskDef *a, const FpTaskDef *b);

/* for errors: the tasks that a DAG has, as a hint; a List of char * */
extern char *fp_task_def_list_hint(List *task_ids);

#endif							/* FLOWPG_TASK_DEF_H */
