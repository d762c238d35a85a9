/*-------------------------------------------------------------------------
 *
 * dag_rights.h
 *	  Who may see and change a DAG: its owner, members of the owner's role,
 *	  superusers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_DAG_RIGHTS_H
#define FLOWPG_DAG_RIGHTS_H

#include "dag_store.h"

/*
 * The DAG, for a session that wants to change or run it.  ERROR: there is no
 * such DAG (or the current user may not see it, which reads the same, 42704),
 * with a hint.
 */
extern FpDagRow *fp_dag_rights_require(const char *dag_id);

/*
 * The same for a session that changes the definition: its row is locked until
 * the transaction ends (fp_dag_store_lock).
 */
extern FpDagDef *fp_dag_rights_lock(const char *dag_id);

/*
 * The same for a session that asks for runs: the DAG cannot be dropped until
 * the transaction ends, so that what was asked of it is not done to another
 * one, of another role, that has its name by then.
 */
extern FpDagRow *fp_dag_rights_hold(const char *dag_id);

/*
 * Whether the current user may see a DAG that has been read, by what is
 * committed now: a transaction that keeps its snapshot (REPEATABLE READ) goes
 * on reading the owner that there was.
 */
extern bool fp_dag_rights_may_use(const FpDagRow *dag);

/* there is a DAG of this name, and the current user may not see it */
extern bool fp_dag_rights_is_anothers(const char *dag_id);

/* whether a role may see what this one owns */
extern bool fp_dag_rights_may_see(Oid role, Oid owner);

/* ERROR: tasks could not run as this role */
extern void fp_dag_rights_check_owner(Oid owner);

/*
 * Why no worker could begin a session as this role, as far as the catalogs
 * say; in the current context.  The caller is in a transaction.
 */
extern char *fp_dag_rights_why_no_session(Oid owner);

/*
 * From begin to end the process is the DAG's owner, with the DAG's
 * search_path: for looking at the DAG's SQL.  Security-restricted where the
 * session's user is another one.  An error in between undoes this with the
 * (sub)transaction.
 */
typedef struct FpDagScope
{
	Oid			user_id;
	int			sec_context;
	int			guc_nest_level;
} FpDagScope;

extern void fp_dag_rights_begin_as(FpDagScope *scope, Oid owner,
								   const char *search_path);
extern void fp_dag_rights_end_as(FpDagScope *scope);

#endif							/* FLOWPG_DAG_RIGHTS_H */
