/*-------------------------------------------------------------------------
 *
 * graph_store.h
 *	  What a picture of a DAG shows beside its definition: the task states of
 *	  its last run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_GRAPH_STORE_H
#define FLOWPG_GRAPH_STORE_H

#include "nodes/pg_list.h"

typedef struct FpLastState
{
	char	   *task_id;
	char	   *state;
} FpLastState;

/*
 * The tasks that have begun in the run with the latest logical_date, as a List
 * of FpLastState *, in the order of bytes.  NIL: there is no run.  Opens its
 * own owner scope; rights are the caller's business.
 */
extern List *fp_graph_store_states(const char *dag_id);

#endif							/* FLOWPG_GRAPH_STORE_H */
