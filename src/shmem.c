/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  The shared structs, their lock, and wake-ups.
 *
 * Sessions, launcher, schedulers and workers all come here.  A wake-up of a
 * session is sent when its transaction commits, never before: the scheduler
 * would look and find nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "guc.h"
#include "shmem.h"

FpShared   *fp_shared = NULL;

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

/* What this session's transaction does at its commit. */
static int	ntold_at_commit = 0;
static int64 told_at_commit[FP_MAX_TOLD];
static bool look_at_commit = false;
static bool probe_at_commit = false;

/* The subtransaction that has done it, as long as it may be rolled back. */
static SubTransactionId installed_at_commit = InvalidSubTransactionId;
static SubTransactionId dropped_at_commit = InvalidSubTransactionId;

static void tell(int64 *told, int *ntold, int64 request_id);
static bool is_for_scheduler(void);
static Size shared_size(void);
static void request_shmem(void);
static void startup_shmem(void);
static void xact_callback(XactEvent event, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId mySubid,
							 SubTransactionId parentSubid, void *arg);
static void act_at_commit(void);

void
fp_shmem_install_hooks(void)
{
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

void
fp_shmem_register_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

void
fp_shmem_require(void)
{
	if (fp_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("flowpg must be loaded via \"shared_preload_libraries\""),
				 errhint("Add flowpg to shared_preload_libraries in postgresql.conf and restart the server.")));
}

void
fp_shmem_tell_at_commit(int64 request_id)
{
	fp_shmem_require();
	tell(told_at_commit, &ntold_at_commit, request_id);
}

void
fp_shmem_look_at_commit(void)
{
	fp_shmem_require();
	look_at_commit = true;
}

/* Adds a request to those that are told of, as long as there is room. */
static void
tell(int64 *told, int *ntold, int64 request_id)
{
	if (*ntold == FP_MAX_TOLD)
		*ntold = FP_TOLD_ALL;
	if (*ntold != FP_TOLD_ALL)
		told[(*ntold)++] = request_id;
}

int
fp_shmem_take_told(FpDatabaseSlot *slot, int64 *request_ids)
{
	int			ntold;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	ntold = slot->ntold;
	if (ntold > 0)
		memcpy(request_ids, slot->told, sizeof(int64) * ntold);
	slot->ntold = 0;
	pg_atomic_write_u32(&slot->has_requests, 0);
	LWLockRelease(fp_shared->lock);
	return ntold;
}

bool
fp_shmem_take_look(FpDatabaseSlot *slot)
{
	bool		result;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	result = slot->must_look;
	slot->must_look = false;
	LWLockRelease(fp_shared->lock);
	return result;
}

void
fp_shmem_tell_all(FpDatabaseSlot *slot)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot->ntold = FP_TOLD_ALL;
	pg_atomic_write_u32(&slot->has_requests, 1);
	LWLockRelease(fp_shared->lock);
}

void
fp_shmem_installed_at_commit(void)
{
	fp_shmem_require();
	installed_at_commit = GetCurrentSubTransactionId();
}

void
fp_shmem_dropped_at_commit(void)
{
	dropped_at_commit = GetCurrentSubTransactionId();
	installed_at_commit = InvalidSubTransactionId;
}

/*
 * It is counted, for a scheduler that waits for a lock, or for a standby,
 * resets its latch on the way.
 */
void
fp_shmem_wake(FpDatabaseSlot *slot)
{
	Latch	   *latch;

	pg_atomic_fetch_add_u32(&slot->nwakes, 1);
	LWLockAcquire(fp_shared->lock, LW_SHARED);
	latch = slot->scheduler_latch;
	LWLockRelease(fp_shared->lock);

	/* A latch outlives its process; setting a stale one wakes nobody amiss. */
	if (latch != NULL)
		SetLatch(latch);
}

void
fp_shmem_wake_scheduler(Oid database)
{
	FpDatabaseSlot *slot;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	slot = fp_shmem_database(database, false);
	LWLockRelease(fp_shared->lock);
	if (slot != NULL)
		fp_shmem_wake(slot);
}

void
fp_shmem_wake_launcher(void)
{
	Latch	   *latch;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	latch = fp_shared->launcher_latch;
	LWLockRelease(fp_shared->lock);
	if (latch != NULL)
		SetLatch(latch);
}

void
fp_shmem_probe_at_commit(void)
{
	probe_at_commit = true;
}

bool
fp_shmem_is_quiet(Oid database, TimestampTz at)
{
	FpDatabaseSlot *slot;
	bool		result = false;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	slot = fp_shmem_database(database, false);
	if (slot != NULL && slot->scheduler_pid != 0)
		result = slot->is_quiet && slot->quiet_at == at &&
			pg_atomic_read_u32(&slot->has_requests) == 0;
	LWLockRelease(fp_shared->lock);
	return result;
}

bool
fp_shmem_is_waiting(Oid database)
{
	FpDatabaseSlot *slot;
	bool		result;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	slot = fp_shmem_database(database, false);
	result = slot != NULL && slot->scheduler_pid != 0 && slot->is_waiting;
	LWLockRelease(fp_shared->lock);
	return result;
}

FpDatabaseSlot *
fp_shmem_database(Oid database, bool create)
{
	FpDatabaseSlot *free_slot = NULL;

	for (int i = 0; i < FP_MAX_DATABASES; i++)
	{
		FpDatabaseSlot *slot = &fp_shared->databases[i];

		if (slot->database == database)
			return slot;
		if (free_slot == NULL && slot->database == InvalidOid)
			free_slot = slot;
	}
	if (!create || free_slot == NULL)
		return NULL;

	/* has_requests and nwakes are initialized once and stay valid */
	free_slot->database = database;
	free_slot->generation++;
	free_slot->scheduler_pid = 0;
	free_slot->scheduler_latch = NULL;
	free_slot->nholds = 0;
	free_slot->is_starting = false;
	free_slot->is_installed = false;
	free_slot->must_stop = false;
	free_slot->heartbeat = 0;
	free_slot->next_wake_at = 0;
	free_slot->failed_at = 0;
	free_slot->active_runs = 0;
	free_slot->ready_tasks = 0;
	free_slot->running_tasks = 0;
	free_slot->wanted_workers = 0;
	free_slot->waiting_tasks = 0;
	free_slot->is_waiting = false;
	free_slot->problem[0] = '\0';
	free_slot->is_quiet = false;
	free_slot->quiet_at = 0;
	free_slot->ntold = 0;
	free_slot->must_look = false;
	pg_atomic_write_u32(&free_slot->has_requests, 0);
	return free_slot;
}

static Size
shared_size(void)
{
	Size		size = MAXALIGN(sizeof(FpShared));

	size = add_size(size, MAXALIGN(mul_size(sizeof(FpLane), fp_max_workers)));
	size = add_size(size, MAXALIGN(mul_size(sizeof(FpWorkerSlot),
											fp_max_workers)));
	return size;
}

static void
request_shmem(void)
{
	if (previous_shmem_request_hook != NULL)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(FP_EXTENSION, 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (previous_shmem_startup_hook != NULL)
		previous_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	fp_shared = ShmemInitStruct(FP_EXTENSION, shared_size(), &found);
	if (!found)
	{
		char	   *space = (char *) fp_shared + MAXALIGN(sizeof(FpShared));

		memset(fp_shared, 0, shared_size());
		fp_shared->lock = &(GetNamedLWLockTranche(FP_EXTENSION))->lock;
		fp_shared->must_probe = true;
		fp_shared->nworkers = fp_max_workers;
		fp_shared->nlanes = fp_max_workers;
		fp_shared->lanes = (FpLane *) space;
		space += MAXALIGN(mul_size(sizeof(FpLane), fp_max_workers));
		fp_shared->workers = (FpWorkerSlot *) space;
		pg_atomic_init_u64(&fp_shared->next_token, 1);
		pg_atomic_init_u64(&fp_shared->simulated_now,
						   (uint64) fp_simulated_now);
		for (int i = 0; i < FP_MAX_DATABASES; i++)
		{
			pg_atomic_init_u32(&fp_shared->databases[i].has_requests, 0);
			pg_atomic_init_u32(&fp_shared->databases[i].nwakes, 0);
		}
		for (int i = 0; i < fp_shared->nworkers; i++)
		{
			pg_atomic_init_u64(&fp_shared->workers[i].pages, 0);
			pg_atomic_init_u64(&fp_shared->workers[i].rows_written, 0);
			pg_atomic_init_u64(&fp_shared->workers[i].rows_read, 0);
			pg_atomic_init_u64(&fp_shared->workers[i].rows_expected, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			act_at_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (is_for_scheduler())
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has called flowpg's functions"),
						 errhint("Commit the transaction instead.")));
			return;
		case XACT_EVENT_ABORT:
			break;
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			return;
	}
	ntold_at_commit = 0;
	look_at_commit = false;
	probe_at_commit = false;
	installed_at_commit = InvalidSubTransactionId;
	dropped_at_commit = InvalidSubTransactionId;
}

/* What a subtransaction has done is undone with it. */
static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	SubTransactionId owner;

	if (event == SUBXACT_EVENT_COMMIT_SUB)
		owner = parentSubid;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		owner = InvalidSubTransactionId;
	else
		return;
	if (installed_at_commit == mySubid)
		installed_at_commit = owner;
	if (dropped_at_commit == mySubid)
		dropped_at_commit = owner;
}

/* Has this transaction done what concerns its database's scheduler? */
static bool
is_for_scheduler(void)
{
	return ntold_at_commit != 0 || look_at_commit || installed_at_commit ||
		dropped_at_commit;
}

/*
 * The transaction has committed: nothing here may raise an error.
 */
static void
act_at_commit(void)
{
	FpDatabaseSlot *slot;
	Latch	   *launcher_latch;
	bool		is_proof;
	bool		is_new = false;

	if (fp_shared == NULL || !(is_for_scheduler() || probe_at_commit))
		return;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	if (probe_at_commit)
		fp_shared->must_probe = true;
	/* whoever asks something of flowpg has the extension */
	is_proof = is_for_scheduler() && (installed_at_commit || !dropped_at_commit);
	slot = fp_shmem_database(MyDatabaseId, is_proof);
	if (slot != NULL && is_proof && !slot->is_installed)
	{
		slot->is_installed = true;
		is_new = true;
	}
	if (slot != NULL && is_for_scheduler())
	{
		/* one that was dropped and made anew gets a new scheduler */
		if (dropped_at_commit)
			slot->must_stop = slot->scheduler_pid != 0;
		if (installed_at_commit || dropped_at_commit)
			slot->is_installed = installed_at_commit != InvalidSubTransactionId;
		slot->is_quiet = false;
		for (int i = 0; i < ntold_at_commit; i++)
			tell(slot->told, &slot->ntold, told_at_commit[i]);
		if (ntold_at_commit == FP_TOLD_ALL)
			slot->ntold = FP_TOLD_ALL;
		if (look_at_commit)
		{
			slot->must_look = true;
			/* it may have been what was waited for */
			slot->is_waiting = false;
		}
		pg_atomic_write_u32(&slot->has_requests, 1);
	}
	else
		slot = NULL;
	launcher_latch = fp_shared->launcher_latch;
	LWLockRelease(fp_shared->lock);

	if (slot != NULL)
		fp_shmem_wake(slot);
	if ((installed_at_commit || dropped_at_commit || probe_at_commit || is_new) &&
		launcher_latch != NULL)
		SetLatch(launcher_latch);
}
