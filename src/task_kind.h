/*-------------------------------------------------------------------------
 *
 * task_kind.h
 *	  The kinds of tasks: what arguments each has, and how they are checked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TASK_KIND_H
#define FLOWPG_TASK_KIND_H

#include "fmgr.h"
#include "utils/jsonb.h"

#include "args.h"
#include "dag_store.h"

/* The first arguments of every flow_add_ function. */
enum
{
	FP_TASK_DAG_ID,
	FP_TASK_TASK_ID,
	FP_TASK_OWN					/* the kind's own begin here, and after them
								 * those that all kinds have */
};

/*
 * Reads a kind's own arguments and checks them, their SQL as the DAG's owner
 * and with the DAG's search_path; returns what is kept in flow.task.params,
 * palloc'd in the current memory context.
 */
typedef Jsonb *(*FpTaskKindRead) (FunctionCallInfo fcinfo,
								  const FpDagDef *dag, const char *task_id);

/* arguments have the names that their values have in params */
typedef struct FpTaskKind
{
	const char *operator;
	const FpArgument *arguments;	/* its own */
	int			narguments;
	FpTaskKindRead read;
} FpTaskKind;

/* NULL: there is no such kind */
extern const FpTaskKind *fp_task_kind_find(const char *operator);
/* the kinds' names, as a List of char * */
extern List *fp_task_kind_names(void);

#endif							/* FLOWPG_TASK_KIND_H */
