/*-------------------------------------------------------------------------
 *
 * process.c
 *	  Background processes: registering them, their signals, their waits.
 *
 * Dynamic workers are never restarted by the postmaster: the launcher starts
 * schedulers, a scheduler starts workers, and both look after what they have
 * started.  This is the only file that waits on a latch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "compat.h"
#include "flowpg.h"
#include "process.h"
#include "shmem.h"

/* How long a command waits for flowpg's processes to leave its database. */
#define LEAVE_TIMEOUT_MS 5000

/* The launcher is back this soon after a crash. */
#define LAUNCHER_RESTART_SECONDS 1

static bool register_dynamic(const char *type, const char *function,
							 int slot, uint32 generation, Oid database,
							 BackgroundWorkerHandle **handle);
static bool database_is_clear(Oid database);

void
fp_process_register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, FP_EXTENSION, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "fp_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "flowpg launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "flowpg launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

bool
fp_process_start_scheduler(int slot, uint32 generation, Oid database,
						   BackgroundWorkerHandle **handle)
{
	return register_dynamic("flowpg scheduler", "fp_scheduler_main",
							slot, generation, database, handle);
}

bool
fp_process_start_worker(int slot, uint32 generation, Oid database,
						BackgroundWorkerHandle **handle)
{
	return register_dynamic("flowpg worker", "fp_worker_main",
							slot, generation, database, handle);
}

uint32
fp_process_generation(void)
{
	uint32		generation;

	memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
	return generation;
}

void
fp_process_wait(long timeout_ms)
{
	static uint32 wait_event = 0;
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("FlowpgMain");
	if (timeout_ms >= 0)
		events |= WL_TIMEOUT;
	(void) WaitLatch(MyLatch, events, timeout_ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * The caller is a session that is about to drop, rename, move or copy the
 * database, and may.  Workers are ended as pg_terminate_backend would end
 * them: their attempts are given back when the scheduler is there again.
 */
void
fp_process_hold_database(Oid database)
{
	FpDatabaseSlot *slot;
	TimestampTz give_up;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot = fp_shmem_database(database, true);
	if (slot != NULL)
		slot->nholds++;
	LWLockRelease(fp_shared->lock);
	if (slot != NULL)
		fp_shmem_wake(slot);

	give_up = TimestampTzPlusMilliseconds(fp_clock_real(), LEAVE_TIMEOUT_MS);
	while (!database_is_clear(database) && fp_clock_real() < give_up)
	{
		LWLockAcquire(fp_shared->lock, LW_SHARED);
		for (int i = 0; i < fp_shared->nworkers; i++)
		{
			FpWorkerSlot *worker = &fp_shared->workers[i];

			if (worker->database == database && worker->pid != 0)
				(void) kill(worker->pid, SIGTERM);
		}
		LWLockRelease(fp_shared->lock);
		fp_process_wait(5);
	}
}

void
fp_process_release_database(Oid database)
{
	FpDatabaseSlot *slot;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot = fp_shmem_database(database, false);
	if (slot != NULL && slot->nholds > 0)
	{
		slot->nholds--;
		/* a slot that was made for the hold only */
		if (slot->nholds == 0 && !slot->is_installed &&
			slot->scheduler_pid == 0 && !slot->is_starting &&
			slot->failed_at == 0)
			slot->database = InvalidOid;
	}
	LWLockRelease(fp_shared->lock);
	fp_shmem_wake_launcher();
}

static bool
register_dynamic(const char *type, const char *function,
				 int slot, uint32 generation, Oid database,
				 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MemoryContext previous;
	bool		result;

	StaticAssertStmt(sizeof(generation) <= BGW_EXTRALEN,
					 "the generation must fit into bgw_extra");

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(slot);
	memcpy(worker.bgw_extra, &generation, sizeof(generation));
	strlcpy(worker.bgw_library_name, FP_EXTENSION, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %u", type,
			 database);

	/* the handle outlives whatever the caller is in the middle of */
	previous = MemoryContextSwitchTo(TopMemoryContext);
	result = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(previous);
	return result;
}

static bool
database_is_clear(Oid database)
{
	FpDatabaseSlot *slot;
	bool		result = true;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	slot = fp_shmem_database(database, false);
	if (slot != NULL && (slot->scheduler_pid != 0 || slot->is_starting))
		result = false;
	for (int i = 0; i < fp_shared->nworkers && result; i++)
	{
		if (fp_shared->workers[i].state != FP_WORKER_FREE &&
			fp_shared->workers[i].database == database)
			result = false;
	}
	LWLockRelease(fp_shared->lock);
	return result;
}
