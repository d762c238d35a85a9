/*-------------------------------------------------------------------------
 *
 * workers.c
 *	  The scheduler's worker processes: started, shared out, taken leave of.
 *
 * Runs in the scheduler.  Worker slots belong to the whole server.  A database
 * that holds more than its share gives workers back while another one waits
 * for them; one that is idle anywhere leaves as soon as its slot is wanted.
 *
 * A worker gives its slot back itself, when it leaves (worker.c).  Only where
 * a process never came up is that done here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "help.h"
#include "process.h"
#include "shmem.h"
#include "workers.h"

/* A worker that has not come up after so long never will. */
#define START_TIMEOUT_MS 30000

/* No process could be started for an attempt: try again after this long. */
#define SHORTAGE_DELAY_MS 1000

/*
 * A start takes about so long, of processor time that the tasks would need.
 */
#define START_MS 10

/* One that has taken so long waits for something. */
#define SLOW_START_MS 1000

/* How long a scheduler that leaves waits for its workers. */
#define LEAVE_TIMEOUT_MS 5000
#define LEAVE_POLL_MS 10

/* A lane, as it is in one moment. */
typedef struct LaneUse
{
	Oid			role;
	int			nattempts;		/* that no worker has taken */
	int			nhelpers;		/* workers that others could use as helpers */
	int			nworkers;
	int			nidle;			/* of those, coming up or without work */
	int64		mean_duration;
	bool		is_short;		/* they will soon be done, by all that is known */
} LaneUse;

static BackgroundWorkerHandle **handles = NULL;
static bool has_warned_of_shortage = false;

static bool look_at_lane(int index, TimestampTz now, LaneUse *use);
static bool is_recent(TimestampTz at, TimestampTz now, int ms);
static int	nworkers_worth(const LaneUse *use);
static bool tell_demand(int nwanted, int nwaiting);
static void claim_idle_worker(const Bitmapset *wants);
static void wake_other_schedulers(void);
static void give_workers_away(void);
static void wake_idle_workers(int lane, int n);
static bool may_start_worker(void);
static bool start_worker(int lane, Oid role);
static void settle_handles(void);
static void settle_orphans(void);
static void empty_lane(FpLane *lane);

long
fp_workers_tend(FpModel *model, Bitmapset *waiting_lanes)
{
	TimestampTz now = fp_clock_real();
	long		result = INT_MAX;
	int			nwanted = 0;
	int			nwaiting = model->nwaiting_for_worker;
	bool		has_shortage = false;
	bool		is_news;
	bool		has_freed = false;
	Bitmapset  *wants = waiting_lanes;	/* and those that want more workers */

	settle_handles();
	settle_orphans();
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		LaneUse		use;
		int			nneeded;
		int			nworth;

		has_freed |= !look_at_lane(i, now, &use);

		/* one that was woken for these attempts may have left instead */
		if (use.nattempts + use.nhelpers > 0 && use.nidle > 0)
			wake_idle_workers(i, use.nattempts + use.nhelpers);
		nneeded = use.nattempts + use.nhelpers - use.nidle;
		nworth = bms_is_member(i, waiting_lanes) ? INT_MAX : nworkers_worth(&use);
		if (nneeded > 0 && nworth < nneeded)
		{
			nneeded = nworth;
			result = Min(result, START_MS);
		}
		while (nneeded > 0 && may_start_worker() && start_worker(i, use.role))
		{
			nneeded--;
			use.nattempts--;
		}
		if (nneeded > 0)
		{
			nwanted += nneeded;
			nwaiting += Max(use.nattempts - use.nidle, 0);
			wants = bms_add_member(wants, i);
			if (use.nworkers == 0)
				has_shortage = true;
		}
	}
	nwanted += model->nwaiting_for_worker;
	is_news = tell_demand(nwanted, nwaiting);

	if (nwanted > 0)
		claim_idle_worker(wants);
	if (is_news || has_freed)
		wake_other_schedulers();
	give_workers_away();

	model->shortage = has_shortage ?
		"no background worker slot is free: increase max_worker_processes" : "";
	return has_shortage ? Min(result, SHORTAGE_DELAY_MS) : result;
}

/*
 * What the attempts of a lane need; nothing where it is not ours.  False: it
 * was, and has been freed, for nobody uses it.
 */
static bool
look_at_lane(int index, TimestampTz now, LaneUse *use)
{
	FpLane	   *lane = &fp_shared->lanes[index];
	bool		result = true;

	memset(use, 0, sizeof(LaneUse));
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	if (lane->database == MyDatabaseId)
	{
		bool		is_coming_up = false;

		use->role = lane->role;
		use->nattempts = lane->head - lane->tail;
		use->nhelpers = fp_help_wanted(index);
		use->mean_duration = lane->mean_duration;
		for (int i = 0; i < fp_shared->nworkers; i++)
		{
			FpWorkerSlot *worker = &fp_shared->workers[i];

			if (worker->state == FP_WORKER_FREE || worker->lane != index)
				continue;
			use->nworkers++;
			if (worker->state != FP_WORKER_BUSY && !worker->must_stop)
				use->nidle++;
			is_coming_up |= worker->state == FP_WORKER_STARTING &&
				is_recent(worker->since, now, SLOW_START_MS);
		}
		/* not where one takes longer, so that none has been taken since */
		use->is_short = lane->mean_duration > 0 &&
			lane->mean_duration < START_MS * 1000 &&
			(is_coming_up || is_recent(lane->moved_at, now, START_MS));
		if (use->nworkers == 0 && use->nattempts == 0 &&
			lane->done_head == lane->done_tail)
		{
			lane->database = InvalidOid;
			result = false;
		}
	}
	LWLockRelease(fp_shared->lock);
	return result;
}

/* Not long ago, nor far ahead, as where the clock has been set back since. */
static bool
is_recent(TimestampTz at, TimestampTz now, int ms)
{
	return !TimestampDifferenceExceeds(at, now, ms) &&
		!TimestampDifferenceExceeds(now, at, ms);
}

/*
 * How many more workers the attempts of a lane are worth, if they are short:
 * one that is started for less work than its start takes comes when all is
 * done.  Helpers are asked for by what is not short.
 */
static int
nworkers_worth(const LaneUse *use)
{
	int64		start_us = START_MS * 1000;

	if (!use->is_short)
		return INT_MAX;
	return (int) ((use->nattempts * use->mean_duration + start_us - 1) / start_us) -
		use->nworkers + use->nhelpers;
}

/*
 * Tells the other schedulers how many workers are wanted here, and monitors how
 * many tasks wait for one.  True: it was none until now.
 */
static bool
tell_demand(int nwanted, int nwaiting)
{
	FpDatabaseSlot *slot;
	bool		result = false;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot = fp_shmem_database(MyDatabaseId, false);
	if (slot != NULL)
	{
		result = slot->wanted_workers == 0 && nwanted > 0;
		slot->wanted_workers = nwanted;
		slot->waiting_tasks = nwaiting;
	}
	LWLockRelease(fp_shared->lock);
	return result;
}

/*
 * Idle workers stand in the way of tasks of another role or database when no
 * slot is free: one of them is asked to leave.  Its exit wakes whoever waits
 * for a slot.  Not one of a lane that wants workers itself: it has just done
 * all there was, and more is coming.
 */
static void
claim_idle_worker(const Bitmapset *wants)
{
	FpWorkerSlot *idle = NULL;
	Latch	   *latch = NULL;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];
		FpLane	   *lane = &fp_shared->lanes[worker->lane];

		/* a slot is free, or about to be: unless processes are what is short */
		if (worker->state == FP_WORKER_FREE ? !has_warned_of_shortage
			: worker->must_stop)
		{
			idle = NULL;
			break;
		}
		if (worker->state == FP_WORKER_IDLE && lane->head == lane->tail &&
			!bms_is_member(worker->lane, wants))
			idle = worker;
	}
	if (idle != NULL)
	{
		idle->must_stop = true;
		latch = idle->latch;
	}
	LWLockRelease(fp_shared->lock);
	if (latch != NULL)
		SetLatch(latch);
}

/* They may hold more workers than their share, or have waited for a lane. */
static void
wake_other_schedulers(void)
{
	for (int i = 0; i < FP_MAX_DATABASES; i++)
	{
		FpDatabaseSlot *slot = &fp_shared->databases[i];
		bool		is_other;

		LWLockAcquire(fp_shared->lock, LW_SHARED);
		is_other = slot->scheduler_pid != 0 && slot->database != MyDatabaseId;
		LWLockRelease(fp_shared->lock);
		if (is_other)
			fp_shmem_wake(slot);
	}
}

/*
 * A database that holds more workers than its share, while others wait for
 * some, gives back those over it, when they have ended what they are at.
 */
static void
give_workers_away(void)
{
	int			nfree = 0;
	int			nown = 0;
	int			nwanted_elsewhere;
	int			share;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	share = fp_workers_share(&nwanted_elsewhere);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		if (fp_shared->workers[i].state == FP_WORKER_FREE)
			nfree++;
		else if (fp_shared->workers[i].database == MyDatabaseId &&
				 !fp_shared->workers[i].must_stop)
			nown++;
	}
	for (int i = 0; i < fp_shared->nworkers && nfree == 0 &&
		 nwanted_elsewhere > 0 && nown > share; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		/* an idle one that nobody has claimed has work coming */
		if (worker->state != FP_WORKER_BUSY || worker->must_stop ||
			worker->database != MyDatabaseId)
			continue;
		worker->must_stop = true;
		nown--;
	}
	LWLockRelease(fp_shared->lock);
}

/* Wakes up to n idle workers of a lane. */
static void
wake_idle_workers(int lane, int n)
{
	for (int i = 0; i < fp_shared->nworkers && n > 0; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];
		Latch	   *latch = NULL;

		LWLockAcquire(fp_shared->lock, LW_SHARED);
		if (worker->state == FP_WORKER_IDLE && !worker->must_stop &&
			worker->database == MyDatabaseId && worker->lane == lane)
			latch = worker->latch;
		LWLockRelease(fp_shared->lock);
		if (latch == NULL)
			continue;
		SetLatch(latch);
		n--;
	}
}

/* A database that has its share takes no more while others wait for some. */
static bool
may_start_worker(void)
{
	int			nwanted_elsewhere;
	int			share;
	int			nown = 0;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	share = fp_workers_share(&nwanted_elsewhere);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		if (fp_shared->workers[i].state != FP_WORKER_FREE &&
			fp_shared->workers[i].database == MyDatabaseId)
			nown++;
	}
	LWLockRelease(fp_shared->lock);
	return nwanted_elsewhere == 0 || nown < share;
}

static bool
start_worker(int lane, Oid role)
{
	int			index;
	uint32		generation = 0;
	FpWorkerSlot *worker = NULL;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (index = 0; index < fp_shared->nworkers; index++)
	{
		if (fp_shared->workers[index].state == FP_WORKER_FREE)
			break;
	}
	if (index < fp_shared->nworkers)
	{
		worker = &fp_shared->workers[index];
		worker->state = FP_WORKER_STARTING;
		worker->generation++;
		worker->database = MyDatabaseId;
		worker->role = role;
		worker->lane = lane;
		worker->pid = 0;
		worker->latch = NULL;
		worker->must_stop = false;
		worker->current.token = 0;
		worker->cancel_token = 0;
		worker->since = fp_clock_real();
		generation = worker->generation;
	}
	LWLockRelease(fp_shared->lock);
	if (worker == NULL)
		return false;

	/* of one that has left since */
	if (handles != NULL && handles[index] != NULL)
		pfree(handles[index]);
	if (handles == NULL)
		handles = MemoryContextAllocZero(TopMemoryContext,
										 sizeof(BackgroundWorkerHandle *) *
										 fp_shared->nworkers);
	if (fp_process_start_worker(index, generation, MyDatabaseId,
								&handles[index]))
	{
		has_warned_of_shortage = false;
		return true;
	}

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	worker->state = FP_WORKER_FREE;
	LWLockRelease(fp_shared->lock);
	handles[index] = NULL;
	if (!has_warned_of_shortage)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a flowpg worker: no background worker slot is free"),
				 errhint("Increase max_worker_processes, or decrease flowpg.max_workers.")));
	has_warned_of_shortage = true;
	return false;
}

/*
 * A worker whose process could not be started never gets to its own exit
 * callback; the handle tells.
 */
static void
settle_handles(void)
{
	if (handles == NULL)
		return;
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];
		pid_t		pid;

		if (handles[i] == NULL ||
			GetBackgroundWorkerPid(handles[i], &pid) != BGWH_STOPPED)
			continue;
		pfree(handles[i]);
		handles[i] = NULL;
		LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
		if (worker->state == FP_WORKER_STARTING && worker->pid == 0 &&
			worker->database == MyDatabaseId)
			worker->state = FP_WORKER_FREE;
		LWLockRelease(fp_shared->lock);
	}
}

/*
 * The same for workers that a scheduler before this one has started: nobody
 * has their handles any more.
 */
static void
settle_orphans(void)
{
	TimestampTz now = fp_clock_real();

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_STARTING && worker->pid == 0 &&
			worker->database == MyDatabaseId &&
			(handles == NULL || handles[i] == NULL) &&
			!is_recent(worker->since, now, START_TIMEOUT_MS))
		{
			worker->state = FP_WORKER_FREE;
			worker->generation++;
		}
	}
	LWLockRelease(fp_shared->lock);
}

void
fp_workers_end(void)
{
	for (int waited = 0; waited < LEAVE_TIMEOUT_MS; waited += LEAVE_POLL_MS)
	{
		int			nleft = 0;

		LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
		for (int i = 0; i < fp_shared->nworkers; i++)
		{
			FpWorkerSlot *worker = &fp_shared->workers[i];

			if (worker->state == FP_WORKER_FREE ||
				worker->database != MyDatabaseId)
				continue;
			nleft++;
			worker->must_stop = true;
			if (worker->pid != 0)
				(void) kill(worker->pid, SIGTERM);
		}
		for (int i = 0; i < fp_shared->nlanes; i++)
		{
			FpLane	   *lane = &fp_shared->lanes[i];

			if (lane->database != MyDatabaseId)
				continue;
			empty_lane(lane);
			if (nleft == 0)
				lane->database = InvalidOid;
		}
		LWLockRelease(fp_shared->lock);
		if (nleft == 0)
			break;
		settle_handles();
		fp_process_wait(LEAVE_POLL_MS);
	}
}

void
fp_workers_dismiss(void)
{
	bool		has_freed = false;

	settle_handles();
	settle_orphans();
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];

		if (lane->database != MyDatabaseId)
			continue;
		empty_lane(lane);
		lane->database = InvalidOid;
		has_freed = true;
	}
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_FREE ||
			worker->database != MyDatabaseId)
			continue;
		/* still its own */
		fp_shared->lanes[worker->lane].database = MyDatabaseId;
		worker->must_stop = true;
		if (worker->latch != NULL)
			SetLatch(worker->latch);
	}
	LWLockRelease(fp_shared->lock);
	if (has_freed)
		wake_other_schedulers();
}

/*
 * Their workers leave by themselves, and free their slots.
 */
long
fp_workers_forget_gone(void)
{
	TimestampTz now = fp_clock_real();
	long		result = -1;
	bool		has_freed = false;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];
		FpDatabaseSlot *slot;
		bool		is_in_use = false;

		if (lane->database == InvalidOid)
			continue;
		slot = fp_shmem_database(lane->database, false);
		if (slot != NULL && (slot->is_installed || slot->scheduler_pid != 0))
			continue;
		for (int j = 0; j < fp_shared->nworkers; j++)
		{
			FpWorkerSlot *worker = &fp_shared->workers[j];

			if (worker->state == FP_WORKER_FREE || worker->lane != i)
				continue;
			if (worker->state == FP_WORKER_STARTING && worker->pid == 0 &&
				!is_recent(worker->since, now, START_TIMEOUT_MS))
			{
				worker->state = FP_WORKER_FREE;
				worker->generation++;
			}
			else
			{
				is_in_use = true;
				if (worker->state == FP_WORKER_STARTING)
					result = START_TIMEOUT_MS;
			}
		}
		/* none is to begin what is left of it */
		empty_lane(lane);
		if (is_in_use)
			continue;
		lane->database = InvalidOid;
		has_freed = true;
	}
	LWLockRelease(fp_shared->lock);
	if (has_freed)
		wake_other_schedulers();
	return result;
}

/*
 * Forgets what was handed out and handed back: it is in the tables, from which
 * the next model is read.  The caller holds the lock.
 */
static void
empty_lane(FpLane *lane)
{
	lane->tail = lane->head;
	lane->done_tail = lane->done_head;
}

/*
 * The workers that this database may hold while others want some, and how
 * many others want.  The caller holds the lock.
 */
int
fp_workers_share(int *nwanted_elsewhere)
{
	int			nsharing = 1;

	*nwanted_elsewhere = 0;
	for (int i = 0; i < FP_MAX_DATABASES; i++)
	{
		FpDatabaseSlot *slot = &fp_shared->databases[i];

		if (slot->database == InvalidOid || slot->database == MyDatabaseId ||
			slot->scheduler_pid == 0)
			continue;
		if (slot->wanted_workers > 0)
			*nwanted_elsewhere += slot->wanted_workers;
		if (slot->wanted_workers > 0 || slot->running_tasks > 0)
			nsharing++;
	}
	return Max(1, fp_shared->nworkers / nsharing);
}
