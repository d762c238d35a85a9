/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Runs the tasks of one role in one database, one after the other.
 *
 * Started by a scheduler for a slot of shared memory; connected as the role
 * that owns the DAGs, so that what its tasks run is that role's session.
 * Takes attempts from its lane, and puts results there.  Kept until it has
 * been idle for flowpg.worker_idle_timeout, is asked to leave, or any role or
 * the database has been changed (a session keeps some of the rights it began
 * with, and that it may connect).  With no attempt to take, it helps another
 * worker of its lane (help.c).
 *
 * An attempt that a worker leaves behind when it is terminated is reported as
 * lost by its exit callback.  After a crash of the server nothing is reported:
 * the scheduler finds the attempt open in the tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "help.h"
#include "process.h"
#include "shmem.h"
#include "task_exec.h"

PGDLLEXPORT void fp_worker_main(Datum arg);

static FpWorkerSlot *slot = NULL;
static FpLane *lane = NULL;
static uint32 generation;
static Oid	database;

static FpAssignment assignment;
static FpDone done;
static bool must_retire = false;
static FpWorkerSlot *leader;	/* whom we help */

static void attach(int index);
static void detach(int code, Datum arg);
static void role_changed(Datum arg, int cacheid, uint32 hashvalue);
static void database_changed(Datum arg, int cacheid, uint32 hashvalue);
static bool take_next(bool has_result);
static void put_done(const FpDone *result);
static bool wait_for_work(void);

void
fp_worker_main(Datum arg)
{
	bool		has_result = false;
	bool		has_helped = false;

	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	attach(DatumGetInt32(arg));
	BackgroundWorkerInitializeConnectionByOid(database, slot->role,
											  BGWORKER_BYPASS_ROLELOGINCHECK);
#if FP_HAVE_TRANSACTION_TIMEOUT
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
	CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, database_changed,
								  UInt32GetDatum(GetSysCacheHashValue1(DATABASEOID,
																	   ObjectIdGetDatum(database))));
	fp_task_exec_init();

	for (;;)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		CHECK_FOR_INTERRUPTS();
		/* before a task is taken, not in its first transaction */
		AcceptInvalidationMessages();
		if (take_next(has_result))
		{
			fp_task_exec_run(&assignment, slot, &done);
			has_result = true;
			continue;
		}
		has_result = false;
		if (has_helped)
			fp_shmem_wake_scheduler(database);	/* we are free now */
		has_helped = false;
		if (!must_retire && fp_help_take(&assignment, &leader))
		{
			fp_task_exec_help(&assignment, leader);
			fp_help_leave();
			has_helped = true;
			continue;
		}
		if (must_retire || !wait_for_work())
			break;
	}
	proc_exit(0);
}

/* Takes the slot that the scheduler has reserved, if it still is ours. */
static void
attach(int index)
{
	bool		is_ours;

	slot = &fp_shared->workers[index];
	generation = fp_process_generation();
	before_shmem_exit(detach, (Datum) 0);

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	is_ours = slot->generation == generation &&
		slot->state == FP_WORKER_STARTING;
	if (is_ours)
	{
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		lane = &fp_shared->lanes[slot->lane];
		database = slot->database;
		fp_help_init(slot);
	}
	LWLockRelease(fp_shared->lock);
	if (!is_ours)
		proc_exit(0);
}

/*
 * Gives the slot back.  An attempt that was under way is lost; so is the next
 * one of the lane where the worker did not even get to its loop (the role may
 * not log in, or has no connection left): otherwise one worker after the
 * other would be started for it, for ever.
 */
static void
detach(int code, Datum arg)
{
	bool		is_ours;

	fp_help_detach();
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	is_ours = slot->generation == generation && slot->pid == MyProcPid;
	if (is_ours)
	{
		bool		has_begun = slot->state == FP_WORKER_BUSY &&
			slot->current.token != 0;
		const FpAssignment *lost = NULL;

		/* nothing is lost for good where the server is gone */
		if (!PostmasterIsAlive())
			lost = NULL;
		else if (has_begun)
			lost = &slot->current;
		else if (slot->state == FP_WORKER_STARTING && !slot->must_stop &&
				 lane->head != lane->tail)
			lost = &lane->ready[lane->tail++ % FP_LANE_SIZE];
		if (lost != NULL)
		{
			memset(&done, 0, sizeof(done));
			done.token = lost->token;
			done.run_id = lost->run_id;
			done.map_index = lost->map_index;
			done.try_number = lost->try_number;
			done.callback_id = lost->callback_id;
			done.outcome = FP_OUTCOME_LOST;
			done.has_begun = has_begun;
			done.worker_pid = MyProcPid;
			strlcpy(done.task_id, lost->task_id, FP_ID_SIZE);
			put_done(&done);
		}
		slot->state = FP_WORKER_FREE;
		slot->current.token = 0;
		slot->cancel_token = 0;
		slot->pid = 0;
		slot->latch = NULL;
	}
	LWLockRelease(fp_shared->lock);

	if (is_ours)
	{
		/* others may have waited for the slot */
		for (int i = 0; i < FP_MAX_DATABASES; i++)
		{
			FpDatabaseSlot *other = &fp_shared->databases[i];
			bool		must_wake;

			LWLockAcquire(fp_shared->lock, LW_SHARED);
			must_wake = other->database == database ||
				other->wanted_workers > 0;
			LWLockRelease(fp_shared->lock);
			if (must_wake)
				fp_shmem_wake(other);
		}
		/* where there is no scheduler any more, it frees the lane */
		fp_shmem_wake_launcher();
	}
}

static void
role_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	must_retire = true;
	fp_help_retire();
}

/* hashvalue 0: any may have been changed */
static void
database_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (hashvalue == 0 || hashvalue == DatumGetUInt32(arg))
		role_changed(arg, cacheid, hashvalue);
}

/*
 * Puts the result of the last attempt into the lane and takes the next
 * attempt out of it, in one go.
 */
static bool
take_next(bool has_result)
{
	bool		result = false;
	FpDatabaseSlot *told = NULL;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	if (has_result)
	{
		put_done(&done);
		told = fp_shmem_database(database, false);
	}
	slot->current.token = 0;
	slot->cancel_token = 0;
	if (!slot->must_stop && !must_retire && lane->head != lane->tail)
	{
		assignment = lane->ready[lane->tail % FP_LANE_SIZE];
		lane->tail++;
		slot->current = assignment;
		slot->can_be_helped = false;
		slot->helpers_wanted = 0;
		if (slot->state != FP_WORKER_BUSY)
			slot->since = fp_clock_real();
		slot->state = FP_WORKER_BUSY;
		slot->started_at = lane->moved_at = fp_clock_real();
		pg_atomic_write_u64(&slot->pages, 0);
		pg_atomic_write_u64(&slot->rows_written, 0);
		pg_atomic_write_u64(&slot->rows_read, 0);
		pg_atomic_write_u64(&slot->rows_expected, 0);
		result = true;
	}
	else
	{
		if (slot->state != FP_WORKER_IDLE)
			slot->since = fp_clock_real();
		slot->state = FP_WORKER_IDLE;

		/* the scheduler must not count on one that is about to leave */
		if (slot->must_stop || must_retire)
			slot->must_stop = must_retire = true;
	}
	LWLockRelease(fp_shared->lock);

	/*
	 * A cancel request that was meant for the attempt before this one has
	 * been sent under the lock, so it is here by now.
	 */
	if (result)
		QueryCancelPending = false;
	if (told != NULL)
		fp_shmem_wake(told);
	return result;
}

/* The scheduler sees to it that a lane never holds more than its size. */
static void
put_done(const FpDone *result)
{
	Assert(lane->done_head - lane->done_tail < FP_LANE_SIZE);
	lane->done[lane->done_head % FP_LANE_SIZE] = *result;
	lane->done_head++;
}

/*
 * False: the worker has been idle for long enough.  It says so in its slot,
 * in the moment in which it sees that there is nothing to do.
 */
static bool
wait_for_work(void)
{
	TimestampTz idle_since = fp_clock_real();

	pgstat_report_stat(true);
	for (;;)
	{
		long		elapsed;
		bool		has_work;

		elapsed = TimestampDifferenceMilliseconds(idle_since,
												  fp_clock_real());
		LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
		has_work = lane->head != lane->tail || slot->must_stop ||
			fp_help_wanted(slot->lane) > 0;
		if (!has_work && elapsed >= fp_worker_idle_timeout)
			slot->must_stop = true;
		LWLockRelease(fp_shared->lock);
		if (has_work || must_retire || ConfigReloadPending)
			return true;
		if (elapsed >= fp_worker_idle_timeout)
			return false;
		fp_process_wait(fp_worker_idle_timeout - elapsed);
	}
}
