/*-------------------------------------------------------------------------
 *
 * link_store.h
 *	  All SQL on flow.dependency_manager: which DAG waits for which.
 *
 * Every function runs inside a transaction and opens its own owner scope.
 * Results are palloc'd in the current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_LINK_STORE_H
#define FLOWPG_LINK_STORE_H

#include "nodes/pg_list.h"

/* A DAG that waits for another. */
typedef struct FpTobeRow
{
	char	   *dag_id;
	Oid			owner;
} FpTobeRow;

/*
 * Taken, until the transaction ends, by whoever adds a link, so that two links
 * that together make a cycle are not added at once.  The scheduler never asks
 * for it.
 */
extern void fp_link_store_lock(void);

/* writes a link; one that is there already stays */
extern void fp_link_store_add(const char *asis_dag, const char *tobe_dag);
/* false: there is no such link */
extern bool fp_link_store_drop(const char *asis_dag, const char *tobe_dag);

/*
 * What stands above a DAG, as two Lists of char * of the same length: the nth
 * of tobe waits for the nth of asis.
 */
extern void fp_link_store_edges_above(const char *dag_id, List **asis,
									  List **tobe);

/* the DAGs that wait for this one now, as a List of FpTobeRow * */
extern List *fp_link_store_tobe_rows(const char *asis_dag);

/* every DAG that waits for another, as a List of char * */
extern List *fp_link_store_all_tobe_dags(void);

#endif							/* FLOWPG_LINK_STORE_H */
