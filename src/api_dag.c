/*-------------------------------------------------------------------------
 *
 * api_dag.c
 *	  SQL functions that define DAGs: flow_create_dag, flow_alter_dag,
 *	  flow_set_owner, flow_pause, flow_resume, flow_drop_dag.
 *
 * Called by sessions.  dag_def.c checks a definition.  A change is written
 * under the lock of the DAG's row and asks the scheduler, with the same
 * commit, to read the DAG again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "args.h"
#include "compat.h"
#include "dag_def.h"
#include "dag_rights.h"
#include "request_store.h"

PG_FUNCTION_INFO_V1(flow_create_dag);
PG_FUNCTION_INFO_V1(flow_alter_dag);
PG_FUNCTION_INFO_V1(flow_set_owner);
PG_FUNCTION_INFO_V1(flow_pause);
PG_FUNCTION_INFO_V1(flow_resume);
PG_FUNCTION_INFO_V1(flow_drop_dag);

static void request_dag(const char *dag_id);


/*
 * flow_create_dag(...) returns text
 *
 * Defines a DAG, or all of an old one anew but for its owner, its pause, its
 * history and its tasks.  See sql/install/20_functions_dag.sql for the
 * arguments.
 */
Datum
flow_create_dag(PG_FUNCTION_ARGS)
{
	FpDagDef   *def;
	FpDagDef   *old;

	fp_args_begin("flow_create_dag()");
	def = fp_dag_def_create(fcinfo, NULL, &old);
	if (old != NULL)
		fp_dag_store_update(def);

	request_dag(def->dag_id);
	PG_RETURN_TEXT_P(cstring_to_text(def->dag_id));
}

/*
 * flow_alter_dag(...) returns text
 *
 * NULL keeps what there is.
 */
Datum
flow_alter_dag(PG_FUNCTION_ARGS)
{
	FpDagDef   *def;

	fp_args_begin("flow_alter_dag()");
	def = fp_dag_def_alter(fcinfo);
	fp_dag_store_update(def);

	request_dag(def->dag_id);
	PG_RETURN_TEXT_P(cstring_to_text(def->dag_id));
}

/*
 * flow_set_owner(dag_id text, role regrole) returns void
 *
 * As ALTER TABLE ... OWNER TO: the caller must be able to act as the old
 * owner and to become the new one.
 */
Datum
flow_set_owner(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	Oid			role;

	fp_args_begin("flow_set_owner()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");
	role = fp_args_role(fcinfo, 1, "role");

	(void) fp_dag_rights_lock(dag_id);
	if (!member_can_set_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to make role \"%s\" the owner of dag \"%s\"",
						GetUserNameFromId(role, false), dag_id),
				 errhint("Only roles that can SET ROLE to the new owner, and superusers, may do this.")));
	fp_dag_rights_check_owner(role);
	fp_dag_store_set_owner(dag_id, role);

	request_dag(dag_id);
	PG_RETURN_VOID();
}

/*
 * flow_pause(dag_id text) returns void
 */
Datum
flow_pause(PG_FUNCTION_ARGS)
{
	char	   *dag_id;

	fp_args_begin("flow_pause()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");

	(void) fp_dag_rights_lock(dag_id);
	fp_dag_store_pause(dag_id);

	request_dag(dag_id);
	PG_RETURN_VOID();
}

/*
 * flow_resume(dag_id text, skip_missed boolean = false) returns void
 *
 * Without skip_missed, what an earlier resumption has skipped stays skipped.
 */
Datum
flow_resume(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	bool		skip_missed;

	fp_args_begin("flow_resume()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");
	skip_missed = fp_args_bool(fcinfo, 1, false);

	(void) fp_dag_rights_lock(dag_id);
	fp_dag_store_resume(dag_id, skip_missed);

	request_dag(dag_id);
	PG_RETURN_VOID();
}

/*
 * flow_drop_dag(dag_id text) returns void
 *
 * The scheduler cancels the runs.  Those up to last_run_id are the dropped
 * DAG's: a new DAG of the same name may have been made, and run, before the
 * scheduler gets to see the request.
 */
Datum
flow_drop_dag(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	char	   *args;

	fp_args_begin("flow_drop_dag()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");

	(void) fp_dag_rights_require(dag_id);
	fp_dag_store_lock_to_drop(dag_id);
	(void) fp_dag_rights_lock(dag_id);
	fp_dag_store_drop(dag_id);

	args = psprintf("{\"is_dropped\": true, \"last_run_id\": " INT64_FORMAT "}",
					fp_dag_store_last_run_id());
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, args);
	PG_RETURN_VOID();
}

static void
request_dag(const char *dag_id)
{
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, NULL);
}
