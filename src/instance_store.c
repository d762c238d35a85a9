/*-------------------------------------------------------------------------
 *
 * instance_store.c
 *	  flow.instance: the server and database that the DAGs are at home in.
 *
 * What a standby, a base backup or a restore to a point in time has is this
 * database itself, with its system identifier and OID.  What pg_upgrade,
 * CREATE DATABASE ... TEMPLATE or pg_restore makes is another one, and whether
 * the DAGs are to run there, there too, or not at all, only its administrator
 * knows.  The first two copy the row with the rest; pg_dump does not take it
 * along, so that DAGs out of a dump are at home nowhere, also while half of it
 * has been loaded.
 *
 * The table has no key: two sessions that each define the first DAG need not
 * wait for each other, and may write the same row twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "instance_store.h"
#include "spi_util.h"
#include "store_args.h"

#define IS_HERE "(i.system_identifier = $1 AND i.database_oid = $2)"

#define INSERT_IF_MISSING \
	"INSERT INTO flow.instance (system_identifier, database_oid) " \
	"SELECT $1, $2 " \
	"WHERE NOT EXISTS (SELECT FROM flow.instance i WHERE " IS_HERE ")"

static uint64 execute(FpStatement *statement, FpRowCallback callback,
					  void *arg);
static void keep_home(const FpRow *row, void *arg);
static void arm_trigger(void);


FpHome
fp_instance_store_home(void)
{
	static FpStatement statement = {
		"SELECT COALESCE((SELECT bool_and(" IS_HERE ") FROM flow.instance i),"
		" false), EXISTS (SELECT FROM flow.dag)",
		SPI_OK_SELECT, 2, {INT8OID, OIDOID}
	};
	FpHome		result = FP_HOME_EMPTY;

	execute(&statement, keep_home, &result);
	return result;
}

void
fp_instance_store_settle(void)
{
	static FpStatement delete_statement = {
		"DELETE FROM flow.instance i "
		"WHERE NOT " IS_HERE " AND NOT EXISTS (SELECT FROM flow.dag)",
		SPI_OK_DELETE, 2, {INT8OID, OIDOID}
	};
	static FpStatement insert_statement = {
		INSERT_IF_MISSING " AND NOT EXISTS (SELECT FROM flow.dag)",
		SPI_OK_INSERT, 2, {INT8OID, OIDOID}
	};

	execute(&delete_statement, NULL, NULL);
	execute(&insert_statement, NULL, NULL);
}

bool
fp_instance_store_adopt(void)
{
	static FpStatement delete_statement = {
		"DELETE FROM flow.instance i WHERE NOT " IS_HERE,
		SPI_OK_DELETE, 2, {INT8OID, OIDOID}
	};
	static FpStatement insert_statement = {
		INSERT_IF_MISSING,
		SPI_OK_INSERT, 2, {INT8OID, OIDOID}
	};
	uint64		nchanged;

	arm_trigger();				/* which disowns */
	nchanged = execute(&delete_statement, NULL, NULL);
	nchanged += execute(&insert_statement, NULL, NULL);
	return nchanged > 0;
}

void
fp_instance_store_disown(void)
{
	/*
	 * A row of its own, beside one that is right: so none is updated that the
	 * scheduler writes, and whoever defines the first DAG meanwhile does not
	 * make this database the home of those that have been loaded.
	 */
	static FpStatement statement = {
		"INSERT INTO flow.instance (system_identifier, database_oid) "
		"SELECT 0, 0 WHERE NOT EXISTS (SELECT FROM flow.instance i "
		"WHERE NOT " IS_HERE ")",
		SPI_OK_INSERT, 2, {INT8OID, OIDOID}
	};

	execute(&statement, NULL, NULL);
}

bool
fp_instance_store_begin(void)
{
	static FpStatement read_statement = {
		"SELECT COALESCE(bool_and(i.has_stopped_cleanly), true)"
		" FROM flow.instance i WHERE " IS_HERE,
		SPI_OK_SELECT, 2, {INT8OID, OIDOID}
	};
	static FpStatement write_statement = {
		"UPDATE flow.instance i SET has_stopped_cleanly = false "
		"WHERE " IS_HERE " AND i.has_stopped_cleanly",
		SPI_OK_UPDATE, 2, {INT8OID, OIDOID}
	};
	bool		result = true;

	execute(&read_statement, fp_store_keep_bool, &result);
	execute(&write_statement, NULL, NULL);
	return result;
}

void
fp_instance_store_end(void)
{
	static FpStatement statement = {
		"UPDATE flow.instance i SET has_stopped_cleanly = true WHERE " IS_HERE,
		SPI_OK_UPDATE, 2, {INT8OID, OIDOID}
	};

	execute(&statement, NULL, NULL);
}

/* All of them are asked about this server and database. */
static uint64
execute(FpStatement *statement, FpRowCallback callback, void *arg)
{
	FpStoreArgs args = {0};

	fp_store_args_add_int64(&args, (int64) GetSystemIdentifier());
	fp_store_args_add_oid(&args, MyDatabaseId);
	return fp_store_execute(statement, &args, callback, arg);
}

static void
keep_home(const FpRow *row, void *arg)
{
	FpHome	   *home = arg;

	if (fp_row_bool(row, 1))
		*home = FP_HOME_HERE;
	else
		*home = fp_row_bool(row, 2) ? FP_HOME_ELSEWHERE : FP_HOME_EMPTY;
}

/*
 * Whoever has loaded DAGs with triggers off has switched the one that notices
 * them back on as any other, which is not fired where session_replication_role
 * is replica; or has left it off.
 */
static void
arm_trigger(void)
{
	static FpStatement statement = {
		"SELECT FROM pg_catalog.pg_trigger t"
		" WHERE t.tgrelid = 'flow.dag'::regclass"
		" AND t.tgname = 'dag_restore' AND t.tgenabled <> 'A'",
		SPI_OK_SELECT, 0
	};
	FpOwnerScope scope;

	fp_spi_begin_owner(&scope);
	if (fp_spi_execute(&statement, NULL, NULL, NULL, NULL) > 0)
		(void) fp_spi_execute_once("ALTER TABLE flow.dag"
								   " ENABLE ALWAYS TRIGGER dag_restore",
								   0, NULL, NULL, NULL, NULL, NULL);
	fp_spi_end_owner(&scope);
}
