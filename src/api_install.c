/*-------------------------------------------------------------------------
 *
 * api_install.c
 *	  What CREATE EXTENSION calls at its end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

#include "shmem.h"

PG_FUNCTION_INFO_V1(flow_installed);

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
