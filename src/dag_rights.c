/*-------------------------------------------------------------------------
 *
 * dag_rights.c
 *	  Who may see and change a DAG: its owner, members of the owner's role,
 *	  superusers.
 *
 * Used by every SQL function that names a DAG.  The row security policies of
 * sql/install/40_privileges.sql say the same for those who read the tables;
 * C code reads them as the extension's owner, whom no policy stops, and so
 * asks here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "dag_rights.h"

pg_noreturn static void no_such_dag(const char *dag_id);


FpDagRow *
fp_dag_rights_require(const char *dag_id)
{
	FpDagRow   *dag = fp_dag_store_get(dag_id);

	if (dag == NULL || !fp_dag_rights_may_use(dag))
		no_such_dag(dag_id);
	return dag;
}

/*
 * Rights are looked at before the lock is asked for, so that nobody can lock
 * another's DAG, and after it, since the owner may have changed meanwhile.
 */
FpDagDef *
fp_dag_rights_lock(const char *dag_id)
{
	FpDagDef   *def;

	(void) fp_dag_rights_require(dag_id);
	def = fp_dag_store_lock(dag_id);
	if (def == NULL || !fp_dag_rights_may_see(GetUserId(), def->owner))
		no_such_dag(dag_id);
	return def;
}

/*
 * As for the lock, rights are looked at twice.  That one fails in a transaction
 * whose snapshot is older than the latest change of the row, but this one only
 * where the row is gone.
 */
FpDagRow *
fp_dag_rights_hold(const char *dag_id)
{
	FpDagRow   *dag = fp_dag_rights_require(dag_id);

	dag->owner = fp_dag_store_hold(dag_id);
	if (!OidIsValid(dag->owner) || !fp_dag_rights_may_use(dag))
		no_such_dag(dag_id);
	return dag;
}

bool
fp_dag_rights_may_use(const FpDagRow *dag)
{
	return fp_dag_rights_may_see(GetUserId(), dag->owner) &&
		(!IsolationUsesXactSnapshot() ||
		 fp_dag_rights_may_see(GetUserId(),
							   fp_dag_store_owner_now(dag->dag_id)));
}

bool
fp_dag_rights_is_anothers(const char *dag_id)
{
	FpDagRow   *dag = fp_dag_store_get(dag_id);
	Oid			owner;

	if (dag != NULL)
		return !fp_dag_rights_may_use(dag);

	/* what the snapshot does not show may be a DAG all the same */
	owner = IsolationUsesXactSnapshot() ? fp_dag_store_owner_now(dag_id) :
		InvalidOid;
	return OidIsValid(owner) && !fp_dag_rights_may_see(GetUserId(), owner);
}

/*
 * As for a relation that is altered: with the privileges of the owner, which
 * a member that does not inherit gets by SET ROLE.
 */
bool
fp_dag_rights_may_see(Oid role, Oid owner)
{
	return has_privs_of_role(role, owner);
}

void
fp_dag_rights_check_owner(Oid owner)
{
	HeapTuple	tuple;
	bool		can_login;

	if (!FP_OWNER_NEEDS_LOGIN)
		return;

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for role %u", owner);
	can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);

	if (!can_login)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" cannot own a DAG because it cannot log in",
						GetUserNameFromId(owner, false)),
				 errdetail("Before PostgreSQL 17, background processes run only as roles that can log in."),
				 errhint("Use ALTER ROLE ... LOGIN, or another role.")));
}

char *
fp_dag_rights_why_no_session(Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	Form_pg_authid role;
	char	   *result;

	if (!HeapTupleIsValid(tuple))
		return psprintf("the DAG's owner, the role with OID %u, does not exist any more",
						owner);

	role = (Form_pg_authid) GETSTRUCT(tuple);
	if (FP_OWNER_NEEDS_LOGIN && !role->rolcanlogin)
		result = psprintf("the DAG's owner, role \"%s\", cannot log in",
						  NameStr(role->rolname));
	else if (object_aclcheck(DatabaseRelationId, MyDatabaseId, owner,
							 ACL_CONNECT) != ACLCHECK_OK)
		result = psprintf("the DAG's owner, role \"%s\", may not connect to the database",
						  NameStr(role->rolname));
	else
		result = psprintf("no worker could connect as the DAG's owner, role \"%s\"; the server log says why",
						  NameStr(role->rolname));
	ReleaseSysCache(tuple);

	return result;
}

void
fp_dag_rights_begin_as(FpDagScope *scope, Oid owner, const char *search_path)
{
	GetUserIdAndSecContext(&scope->user_id, &scope->sec_context);
	if (owner != scope->user_id)
		SetUserIdAndSecContext(owner,
							   scope->sec_context |
							   SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	scope->guc_nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void
fp_dag_rights_end_as(FpDagScope *scope)
{
	AtEOXact_GUC(false, scope->guc_nest_level);
	SetUserIdAndSecContext(scope->user_id, scope->sec_context);
}

static void
no_such_dag(const char *dag_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("dag \"%s\" does not exist", dag_id),
			 errhint("The table flow.dag lists the DAGs that you may use.")));
}
