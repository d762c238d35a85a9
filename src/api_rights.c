/*-------------------------------------------------------------------------
 *
 * api_rights.c
 *	  Who may use flowpg: flow_grant, flow_revoke.
 *
 * Called by superusers.  CREATE EXTENSION leaves flowpg to superusers; these
 * two give a role, and take from it, exactly the rights on flowpg's objects
 * that an ordinary user needs.  What it then sees and changes is decided by
 * row security and dag_rights.c.
 *
 * The grants are plain GRANTs by the extension's owner, so that pg_dump takes
 * them along and \dp shows them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "args.h"
#include "dag_store.h"
#include "rights_store.h"

PG_FUNCTION_INFO_V1(flow_grant);
PG_FUNCTION_INFO_V1(flow_revoke);
PG_FUNCTION_INFO_V1(flow_is_dag);

static char *role_argument(FunctionCallInfo fcinfo, const char *function);


/*
 * flow_grant(role regrole) returns void
 */
Datum
flow_grant(PG_FUNCTION_ARGS)
{
	fp_rights_store_grant(role_argument(fcinfo, "flow_grant()"));
	PG_RETURN_VOID();
}

/*
 * flow_revoke(role regrole) returns void
 *
 * The role's DAGs go on: flow_pause() stops them.
 */
Datum
flow_revoke(PG_FUNCTION_ARGS)
{
	fp_rights_store_revoke(role_argument(fcinfo, "flow_revoke()"));
	PG_RETURN_VOID();
}

/*
 * flow.is_dag(dag_id text) returns boolean
 *
 * For the policies of flow.dag_log, which treat the names of DAGs that the
 * user may not see otherwise than those of outside systems.
 */
Datum
flow_is_dag(PG_FUNCTION_ARGS)
{
	char	   *dag_id = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_BOOL(fp_dag_store_exists(dag_id));
}

/*
 * The quoted name of the role.
 */
static char *
role_argument(FunctionCallInfo fcinfo, const char *function)
{
	Oid			role;

	fp_args_begin(function);
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to execute %s", function),
				 errhint("Only superusers decide who may use flowpg.")));

	role = fp_args_role(fcinfo, 0, "role");
	return pstrdup(quote_identifier(GetUserNameFromId(role, false)));
}
