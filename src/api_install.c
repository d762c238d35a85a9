/*-------------------------------------------------------------------------
 *
 * api_install.c
 *	  What CREATE EXTENSION calls at its end, and which database DAGs are at
 *	  home in: flow_adopt.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "args.h"
#include "compat.h"
#include "instance_store.h"
#include "shmem.h"
#include "spi_util.h"
#include "trigger_row.h"

PG_FUNCTION_INFO_V1(flow_installed);
PG_FUNCTION_INFO_V1(flow_adopt);
PG_FUNCTION_INFO_V1(flow_dag_trigger);

/*
 * Tells the launcher, when the transaction commits, that this database has
 * the extension.  ERROR: the library is not preloaded.
 */
Datum
flow_installed(PG_FUNCTION_ARGS)
{
	fp_shmem_installed_at_commit();
	PG_RETURN_VOID();
}

/*
 * flow_adopt() returns void
 *
 * It sets all DAGs going, whoever owns them, each with its owner's rights.
 */
Datum
flow_adopt(PG_FUNCTION_ARGS)
{
	fp_args_begin("flow_adopt()");
	if (!object_ownercheck(DatabaseRelationId, MyDatabaseId, GetUserId()) &&
		!has_privs_of_role(GetUserId(), fp_spi_extension_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to execute %s", "flow_adopt()"),
				 errhint("Only superusers and the owners of the database and of the extension decide where DAGs run.")));

	if (fp_instance_store_adopt())
		fp_shmem_look_at_commit();
	else
		ereport(NOTICE,
				(errmsg("the DAGs of this database run here already")));
	PG_RETURN_VOID();
}

/*
 * Trigger after INSERT on flow.dag, for each row.  What flowpg has not inserted
 * itself comes out of a dump, and more of it is to come: this database's DAGs
 * wait until somebody says that it is complete.
 */
Datum
flow_dag_trigger(PG_FUNCTION_ARGS)
{
	(void) fp_trigger_row_require(fcinfo, "dag");
	/* an owner scope is one */
	if (!InSecurityRestrictedOperation())
	{
		fp_instance_store_disown();
		fp_shmem_look_at_commit();
	}
	return PointerGetDatum(NULL);
}
