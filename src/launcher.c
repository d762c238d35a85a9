/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  One a server: starts a scheduler in each database that has flowpg.
 *
 * The launcher connects to no database; it reads pg_database.  At server
 * start it has each database looked at once: a scheduler is started there,
 * which leaves at once where the extension is not installed; where it cannot
 * tell, it is started again.  Afterwards the launcher learns of databases
 * through shared memory: CREATE EXTENSION marks the database's slot at commit,
 * CREATE and ALTER DATABASE ask for a look at databases that are new or could
 * not be connected to, and so does what a session asks of flowpg in a database
 * that has no slot.  It keeps out of databases that a command holds (DROP
 * DATABASE and the like).
 *
 * It sleeps until its latch is set: by a commit, by a scheduler that starts
 * or ends, or by a reload.  It also publishes flowpg.simulated_now, so that
 * one process and not each for itself moves the time.
 *
 * The postmaster starts it again after a crash; it keeps nothing that it
 * would miss.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "guc.h"
#include "process.h"
#include "shmem.h"
#include "workers.h"

/* Databases looked at, at the same time, for the extension. */
#define MAX_PROBES 2

/* A scheduler that ended badly is started again after this long, ... */
#define RESTART_DELAY_MS 500
/* ... one that could not tell whether the extension is there, after this. */
#define PROBE_DELAY_MS 3000
/* ... and after so long the next time, doubled so many times at most */
#define MAX_DOUBLINGS 6

/* Background worker slots were short: try again after this long. */
#define SHORTAGE_DELAY_MS 1000

typedef struct DatabaseList
{
	int			n;
	int			size;
	Oid		   *oids;
} DatabaseList;

PGDLLEXPORT void fp_launcher_main(Datum arg);

static DatabaseList known;		/* looked at, or on their way */
static DatabaseList to_probe;	/* still to be looked at */
static BackgroundWorkerHandle *handles[FP_MAX_DATABASES];
static int	nprobes_failed[FP_MAX_DATABASES];	/* in a row */
static bool has_read;			/* a table, in this turn of the loop */
static bool has_warned_of_shortage = false;
static bool has_warned_of_slots = false;

static void detach(int code, Datum arg);
static void publish_simulated_now(bool at_start);
static void find_new_databases(void);
static bool database_exists(Oid database);
static long start_schedulers(void);
static long sooner(long timeout, long other);
static bool start_scheduler(int index);
static void settle_handle(int index);
static void free_slot(FpDatabaseSlot *slot, Oid database, bool is_installed);
static bool list_contains(const DatabaseList *list, Oid oid);
static void list_add(DatabaseList *list, Oid oid);
static void list_remove(DatabaseList *list, Oid oid);

void
fp_launcher_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	before_shmem_exit(detach, (Datum) 0);
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	fp_shared->launcher_pid = MyProcPid;
	fp_shared->launcher_latch = MyLatch;
	fp_shared->must_probe = true;
	/* schedulers that another launcher had on their way are ours now */
	for (int i = 0; i < FP_MAX_DATABASES; i++)
		fp_shared->databases[i].is_starting = false;
	LWLockRelease(fp_shared->lock);

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	publish_simulated_now(true);

	for (;;)
	{
		long		timeout;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			publish_simulated_now(false);
		}
		has_read = false;
		find_new_databases();
		timeout = start_schedulers();

		/*
		 * A wait for a lock may have reset our latch.  A turn that finds
		 * nothing to do reads nothing.
		 */
		if (has_read && timeout < 0)
			timeout = 0;
		fp_process_wait(timeout);
	}
}

static void
detach(int code, Datum arg)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	fp_shared->launcher_pid = 0;
	fp_shared->launcher_latch = NULL;
	LWLockRelease(fp_shared->lock);
}

/*
 * Nobody else publishes, so the time that processes see never falls back to an
 * older setting.
 */
static void
publish_simulated_now(bool at_start)
{
	static TimestampTz published = DT_NOBEGIN;

	if (at_start)
	{
		published = fp_simulated_now;
		fp_clock_publish(published);
	}
	else if (published != fp_simulated_now)
	{
		published = fp_simulated_now;
		fp_clock_publish(published);
		for (int i = 0; i < FP_MAX_DATABASES; i++)
			fp_shmem_wake(&fp_shared->databases[i]);
	}
}

/*
 * Puts databases that have not been looked at on the list, if somebody asked
 * for it.
 */
static void
find_new_databases(void)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		must_probe;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	must_probe = fp_shared->must_probe;
	fp_shared->must_probe = false;
	LWLockRelease(fp_shared->lock);
	if (!must_probe)
		return;

	has_read = true;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate &&
			!list_contains(&known, form->oid))
		{
			list_add(&known, form->oid);
			list_add(&to_probe, form->oid);
		}
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
}

static bool
database_exists(Oid database)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	has_read = true;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->oid == database)
			result = form->datallowconn && !form->datistemplate;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return result;
}

/*
 * Starts what is to be started and returns how long to wait before looking
 * again, -1 for until the latch is set.
 */
static long
start_schedulers(void)
{
	long		timeout = -1;
	int			probes = 0;

	for (int i = 0; i < FP_MAX_DATABASES; i++)
	{
		FpDatabaseSlot *slot = &fp_shared->databases[i];
		Oid			database;
		bool		is_idle;
		bool		is_installed;
		TimestampTz failed_at;
		int			delay;

		settle_handle(i);
		LWLockAcquire(fp_shared->lock, LW_SHARED);
		database = slot->database;
		is_idle = slot->scheduler_pid == 0 && !slot->is_starting;
		is_installed = slot->is_installed;
		failed_at = slot->failed_at;
		if (slot->nholds > 0)
			database = InvalidOid;
		LWLockRelease(fp_shared->lock);

		if (database == InvalidOid)
			continue;
		if (!is_idle)
		{
			if (!is_installed)
				probes++;
			continue;
		}
		if (is_installed)
			nprobes_failed[i] = 0;
		delay = is_installed ? RESTART_DELAY_MS
			: PROBE_DELAY_MS << Min(nprobes_failed[i], MAX_DOUBLINGS);
		if (failed_at != 0 &&
			!fp_clock_has_passed(failed_at, fp_clock_real(), delay))
		{
			timeout = sooner(timeout, delay);
			continue;
		}
		if (!is_installed && probes >= MAX_PROBES)
			continue;			/* one that ends wakes us */
		if (!is_installed && failed_at == 0)
			free_slot(slot, database, is_installed);	/* dropped with nobody there */
		else if (!database_exists(database))
		{
			/* it may come back, as one that can be connected to */
			free_slot(slot, database, is_installed);
			list_remove(&known, database);
		}
		else
		{
			list_add(&known, database);
			if (!start_scheduler(i))
				timeout = sooner(timeout, SHORTAGE_DELAY_MS);
			else if (!is_installed)
			{
				probes++;
				nprobes_failed[i]++;
			}
		}
	}
	timeout = sooner(timeout, fp_workers_forget_gone());

	while (to_probe.n > 0 && probes < MAX_PROBES)
	{
		Oid			database = to_probe.oids[--to_probe.n];
		FpDatabaseSlot *slot;
		bool		is_new = false;

		LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
		slot = fp_shmem_database(database, false);
		if (slot == NULL)
		{
			slot = fp_shmem_database(database, true);
			is_new = slot != NULL;
		}
		LWLockRelease(fp_shared->lock);
		if (slot == NULL && !has_warned_of_slots)
		{
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("flowpg does not run in database %u: more than %d databases have it",
							database, FP_MAX_DATABASES)));
			has_warned_of_slots = true;
		}
		if (!is_new)
			continue;
		nprobes_failed[slot - fp_shared->databases] = 0;
		if (!start_scheduler(slot - fp_shared->databases))
		{
			free_slot(slot, database, false);
			list_add(&to_probe, database);
			timeout = sooner(timeout, SHORTAGE_DELAY_MS);
			break;
		}
		probes++;
	}
	return timeout;
}

/* Of two times to wait, -1 for ever. */
static long
sooner(long timeout, long other)
{
	if (timeout < 0 || other < 0)
		return Max(timeout, other);
	return Min(timeout, other);
}

static bool
start_scheduler(int index)
{
	FpDatabaseSlot *slot = &fp_shared->databases[index];
	Oid			database;
	uint32		generation;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot->is_starting = true;
	slot->generation++;
	slot->must_stop = false;
	generation = slot->generation;
	database = slot->database;
	LWLockRelease(fp_shared->lock);

	if (fp_process_start_scheduler(index, generation, database,
								   &handles[index]))
	{
		has_warned_of_shortage = false;
		return true;
	}

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot->is_starting = false;
	LWLockRelease(fp_shared->lock);
	handles[index] = NULL;
	if (!has_warned_of_shortage)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a flowpg scheduler for database %u: no background worker slot is free",
						database),
				 errhint("Increase max_worker_processes.")));
	has_warned_of_shortage = true;
	return false;
}

/*
 * A scheduler whose process could not be started never gets to its own exit
 * callback; the handle tells.
 */
static void
settle_handle(int index)
{
	FpDatabaseSlot *slot = &fp_shared->databases[index];
	pid_t		pid;

	if (handles[index] == NULL ||
		GetBackgroundWorkerPid(handles[index], &pid) != BGWH_STOPPED)
		return;
	pfree(handles[index]);
	handles[index] = NULL;
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	if (slot->is_starting)
	{
		slot->is_starting = false;
		slot->failed_at = fp_clock_real();
	}
	LWLockRelease(fp_shared->lock);
}

/* Unless somebody has come to need it since we looked. */
static void
free_slot(FpDatabaseSlot *slot, Oid database, bool is_installed)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database && slot->is_installed == is_installed &&
		slot->scheduler_pid == 0 && slot->nholds == 0)
		slot->database = InvalidOid;
	LWLockRelease(fp_shared->lock);
}

static bool
list_contains(const DatabaseList *list, Oid oid)
{
	for (int i = 0; i < list->n; i++)
	{
		if (list->oids[i] == oid)
			return true;
	}
	return false;
}

static void
list_add(DatabaseList *list, Oid oid)
{
	if (list_contains(list, oid))
		return;
	if (list->n == list->size)
	{
		list->size = Max(32, list->size * 2);
		if (list->oids == NULL)
			list->oids = MemoryContextAlloc(TopMemoryContext,
											sizeof(Oid) * list->size);
		else
			list->oids = repalloc(list->oids, sizeof(Oid) * list->size);
	}
	list->oids[list->n++] = oid;
}

static void
list_remove(DatabaseList *list, Oid oid)
{
	for (int i = 0; i < list->n; i++)
	{
		if (list->oids[i] != oid)
			continue;
		list->oids[i] = list->oids[--list->n];
		return;
	}
}
