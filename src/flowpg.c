/*-------------------------------------------------------------------------
 *
 * flowpg.c
 *	  _PG_init: settings, shared memory, hooks and the launcher.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "guc.h"
#include "process.h"
#include "shmem.h"
#include "utility_hook.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Everything needs shared memory, so the library must be preloaded.  Loaded
 * later, by a session that calls one of its functions, it does nothing and
 * the functions say what is missing (fp_shmem_require).
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	fp_guc_define();
	fp_shmem_install_hooks();
	fp_shmem_register_callbacks();
	fp_utility_install_hooks();

	/* pg_upgrade runs servers in which nothing may change by itself */
	if (!IsBinaryUpgrade)
		fp_process_register_launcher();
}
