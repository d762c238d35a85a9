/*-------------------------------------------------------------------------
 *
 * task_store.h
 *	  All SQL on the tables task and task_dependency.
 *
 * Every function runs inside a transaction and opens its own owner scope
 * (fp_spi_begin_owner).  Results are palloc'd in the current memory context.
 * The caller has checked rights, and holds the DAG's lock
 * (fp_dag_store_lock) where it writes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TASK_STORE_H
#define FLOWPG_TASK_STORE_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* A task as the flow_add_ functions write it. */
typedef struct FpTaskDef
{
	const char *dag_id;
	const char *task_id;
	const char *operator;
	const char *trigger_rule;
	const Jsonb *params;
	int			retries;		/* -1: the DAG's */
	const Interval *retry_delay;	/* NULL: the DAG's */
	const Interval *execution_timeout;	/* NULL: the DAG's */
	const char *pool;
	int			pool_slots;
	int			priority_weight;
	bool		has_depends_on_past;	/* false: the DAG's */
	bool		depends_on_past;
	List	   *upstream;		/* char *, each once */
} FpTaskDef;

/* writes a task, new or not, and its upstream list in place of the old one */
extern void fp_task_store_write(const FpTaskDef *def);
/* false: there is no such task */
extern bool fp_task_store_drop(const char *dag_id, const char *task_id);

/* those of task_ids (char *) that are no tasks of the DAG */
extern List *fp_task_store_missing(const char *dag_id, List *task_ids);
/* the task_ids of the DAG in order, as a List of char * */
extern List *fp_task_store_list(const char *dag_id);

/* whether a task is one of task_ids or stands above one of them */
extern bool fp_task_store_is_above(const char *dag_id, List *task_ids,
								   const char *task_id);

/*
 * What stands above the given tasks, as two Lists of char * of the same
 * length: edge n goes from the nth upstream task to the nth downstream task.
 */
extern void fp_task_store_edges_above(const char *dag_id, List *task_ids,
									  List **upstream, List **downstream);

/* the tasks of the DAG, as a List of FpTaskDef *, upstream in order */
extern List *fp_task_store_definitions(const char *dag_id);

/*
 * Which DAGs are triggered by tasks of a DAG, and by tasks of these, and so
 * on, as two Lists of char * of the same length: the nth of from triggers the
 * nth of to.
 */
extern void fp_task_store_trigger_edges(const char *dag_id, List **from,
										List **to);

/* whether upstream has something that the task does not wait for so far */
extern bool fp_task_store_adds_upstream(const char *dag_id,
										const char *task_id, List *upstream);

/* whether some task waits for this one */
extern bool fp_task_store_has_downstream(const char *dag_id,
										 const char *task_id);

#endif							/* FLOWPG_TASK_STORE_H */
