/*-------------------------------------------------------------------------
 *
 * utility_hook.c
 *	  Commands on whole databases and on the extension, seen as they run.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE
 * DATABASE ... TEMPLATE fail while another process is connected.  A session
 * that may run such a command has flowpg's processes leave that database
 * first, and lets them come back when the command has ended or failed.  Who
 * may not run it disturbs nothing: rights are looked at before.
 *
 * DROP EXTENSION and ALTER EXTENSION ... UPDATE are noticed through the object
 * access hook and told to the scheduler at commit.  So is whoever switches the
 * trigger off that notices DAGs out of a dump, as pg_restore --disable-triggers
 * does: he is about to load some.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "flowpg.h"
#include "instance_store.h"
#include "process.h"
#include "shmem.h"
#include "utility_hook.h"

static ProcessUtility_hook_type previous_process_utility_hook = NULL;
static object_access_hook_type previous_object_access_hook = NULL;

static void process_utility(PlannedStmt *pstmt, const char *queryString,
							bool readOnlyTree,
							ProcessUtilityContext context,
							ParamListInfo params, QueryEnvironment *queryEnv,
							DestReceiver *dest, QueryCompletion *qc);
static void run_utility(PlannedStmt *pstmt, const char *queryString,
						bool readOnlyTree, ProcessUtilityContext context,
						ParamListInfo params, QueryEnvironment *queryEnv,
						DestReceiver *dest, QueryCompletion *qc);
static void run_held(Oid database, PlannedStmt *pstmt,
					 const char *queryString, bool readOnlyTree,
					 ProcessUtilityContext context, ParamListInfo params,
					 QueryEnvironment *queryEnv, DestReceiver *dest,
					 QueryCompletion *qc);
static void release_database(int code, Datum database);
static void object_access(ObjectAccessType access, Oid classId, Oid objectId,
						  int subId, void *arg);
static void extension_altered(void);
static bool is_restore_trigger(Oid trigger);
static Oid	database_to_clear(Node *statement);
static bool may_create_databases(void);
static bool has_processes(Oid database);

void
fp_utility_install_hooks(void)
{
	previous_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	previous_object_access_hook = object_access_hook;
	object_access_hook = object_access;
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString,
				bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *qc)
{
	Oid			database = InvalidOid;

	if (fp_shared == NULL || context != PROCESS_UTILITY_TOPLEVEL)
	{
		run_utility(pstmt, queryString, readOnlyTree, context, params,
					queryEnv, dest, qc);
		return;
	}

	/*
	 * A new database may have the extension from its template; an old one may
	 * be one that can be connected to again.
	 */
	if (IsA(pstmt->utilityStmt, CreatedbStmt) ||
		IsA(pstmt->utilityStmt, AlterDatabaseStmt))
		fp_shmem_probe_at_commit();

	database = database_to_clear(pstmt->utilityStmt);
	if (!OidIsValid(database) || !has_processes(database))
		run_utility(pstmt, queryString, readOnlyTree, context, params,
					queryEnv, dest, qc);
	else
		run_held(database, pstmt, queryString, readOnlyTree, context, params,
				 queryEnv, dest, qc);
}

/* Runs the command with flowpg's processes out of the database. */
static void
run_held(Oid database, PlannedStmt *pstmt, const char *queryString,
		 bool readOnlyTree, ProcessUtilityContext context,
		 ParamListInfo params, QueryEnvironment *queryEnv,
		 DestReceiver *dest, QueryCompletion *qc)
{
	PG_ENSURE_ERROR_CLEANUP(release_database, ObjectIdGetDatum(database));
	{
		fp_process_hold_database(database);
		run_utility(pstmt, queryString, readOnlyTree, context, params,
					queryEnv, dest, qc);
	}
	PG_END_ENSURE_ERROR_CLEANUP(release_database, ObjectIdGetDatum(database));
	fp_process_release_database(database);
}

/* The command has failed, or its session ends in the middle of it. */
static void
release_database(int code, Datum database)
{
	fp_process_release_database(DatumGetObjectId(database));
}

static void
run_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *queryEnv, DestReceiver *dest,
			QueryCompletion *qc)
{
	if (previous_process_utility_hook != NULL)
		previous_process_utility_hook(pstmt, queryString, readOnlyTree,
									  context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
}

static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId,
			  void *arg)
{
	if (previous_object_access_hook != NULL)
		previous_object_access_hook(access, classId, objectId, subId, arg);

	if (classId == ExtensionRelationId &&
		(access == OAT_DROP || access == OAT_POST_ALTER))
	{
		char	   *name = get_extension_name(objectId);

		if (name == NULL || strcmp(name, FP_EXTENSION) != 0)
			return;
		if (access == OAT_DROP)
			fp_shmem_dropped_at_commit();
		else
			extension_altered();
	}
	else if (classId == TriggerRelationId && access == OAT_POST_ALTER &&
			 fp_shared != NULL && !creating_extension && !IsBinaryUpgrade &&
			 is_restore_trigger(objectId))
	{
		fp_instance_store_disown();
		fp_shmem_look_at_commit();
	}
}

/*
 * An update need not touch any relation; one is invalidated so that every
 * process reads the extension's version anew (fp_spi_extension_owner), and
 * the scheduler looks whether it may go on.
 */
static void
extension_altered(void)
{
	Oid			relation = get_relname_relid("instance",
											 get_namespace_oid("flow", true));

	if (OidIsValid(relation))
		CacheInvalidateRelcacheByRelid(relation);
	if (fp_shared != NULL)
		fp_shmem_look_at_commit();
}

/* Whether it is the one that calls flow.dag_trigger(). */
static bool
is_restore_trigger(Oid trigger)
{
	Relation	relation = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(relation, TriggerOidIndexId, true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		result = strcmp(NameStr(form->tgname), "dag_restore") == 0 &&
			OidIsValid(form->tgrelid) &&
			form->tgrelid == get_relname_relid("dag",
											   get_namespace_oid("flow", true));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);

	return result;
}

/*
 * The database that a command needs to itself, if the current user may run
 * the command; else InvalidOid.
 */
static Oid
database_to_clear(Node *statement)
{
	const char *name = NULL;
	bool		is_template = false;
	Oid			database;
	ListCell   *lc;

	if (IsA(statement, DropdbStmt))
		name = castNode(DropdbStmt, statement)->dbname;
	else if (IsA(statement, RenameStmt) &&
			 castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
		name = castNode(RenameStmt, statement)->subname;
	else if (IsA(statement, AlterDatabaseStmt))
	{
		foreach(lc, castNode(AlterDatabaseStmt, statement)->options)
		{
			if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
				name = castNode(AlterDatabaseStmt, statement)->dbname;
		}
	}
	else if (IsA(statement, CreatedbStmt))
	{
		is_template = true;
		name = "template1";
		foreach(lc, castNode(CreatedbStmt, statement)->options)
		{
			DefElem    *option = lfirst_node(DefElem, lc);

			if (strcmp(option->defname, "template") == 0 &&
				option->arg != NULL)
				name = defGetString(option);
		}
	}

	if (name == NULL)
		return InvalidOid;
	database = get_database_oid(name, true);
	if (!OidIsValid(database))
		return InvalidOid;
	if (is_template && !may_create_databases())
		return InvalidOid;
	if (!object_ownercheck(DatabaseRelationId, database, GetUserId()))
		return InvalidOid;
	return database;
}

static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		result = false;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
has_processes(Oid database)
{
	bool		result;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	result = fp_shmem_database(database, false) != NULL;
	LWLockRelease(fp_shared->lock);
	return result;
}
