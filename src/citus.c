/*-------------------------------------------------------------------------
 *
 * citus.c
 *	  What flowpg must know of Citus, where it is installed.
 *
 * Runs in schedulers, sessions and workers.  Citus keeps what it knows in
 * tables of pg_catalog; without them it is not there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"

#include "citus.h"
#include "spi_util.h"

static bool has_table(const char *name);
static void found_row(const FpRow *row, void *arg);


bool
fp_citus_is_distributed(Oid relid)
{
	Oid			argtypes[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	bool		is_found = false;

	if (has_table("pg_dist_partition"))
		(void) fp_spi_execute_once("SELECT FROM pg_catalog.pg_dist_partition"
								   " WHERE logicalrelid::pg_catalog.oid"
								   " OPERATOR(pg_catalog.=) $1",
								   1, argtypes, values, NULL, found_row,
								   &is_found);
	return is_found;
}

bool
fp_citus_is_worker_node(void)
{
	bool		is_found = false;

	if (has_table("pg_dist_local_group"))
		(void) fp_spi_execute_once("SELECT FROM pg_catalog.pg_dist_local_group"
								   " WHERE groupid OPERATOR(pg_catalog.<>) 0",
								   0, NULL, NULL, NULL, found_row, &is_found);
	return is_found;
}

static bool
has_table(const char *name)
{
	return OidIsValid(get_relname_relid(name, PG_CATALOG_NAMESPACE));
}

/*
 * Row callback.
 */
static void
found_row(const FpRow *row, void *arg)
{
	*(bool *) arg = true;
}
