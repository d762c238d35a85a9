/*-------------------------------------------------------------------------
 *
 * help.c
 *	  Workers that help another one with its attempt.
 *
 * Runs in workers.  The worker that holds an attempt, its leader, says in its
 * slot how many others it could use.  A worker of the same lane that finds no
 * attempt to take joins it; the scheduler starts workers for help that is
 * wanted as it does for attempts (workers.c), so all limits on workers hold.
 * While a task of the database waits for a worker nobody joins, and those who
 * help leave at the next page.
 * What there is to do, the two find in tables: nothing of it is here.
 *
 * Only the leader's end is the attempt's end.  Who helps reports to nobody but
 * the leader, whose latch is set when it leaves; what it has begun and not
 * committed is then anybody's again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "help.h"
#include "process.h"

/* How long a leader that has failed waits for those who help. */
#define STOP_TIMEOUT_MS 5000
#define STOP_POLL_MS 10

static FpWorkerSlot *my_slot = NULL;
static bool must_retire = false;

static uint64 my_token(void);
static FpWorkerSlot *find_leader(int lane);
static FpWorkerSlot *find_worker_at(uint64 token);
static bool are_tasks_waiting(Oid database);
static bool has_attempts(int lane);
static int	cancel_helpers(uint64 token);


void
fp_help_init(FpWorkerSlot *slot)
{
	my_slot = slot;
	slot->can_be_helped = false;
	slot->helpers_wanted = 0;
	slot->helps = 0;
}

void
fp_help_ask(int n)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	my_slot->can_be_helped = true;
	my_slot->helpers_wanted = n;
	LWLockRelease(fp_shared->lock);
	fp_shmem_wake_scheduler(MyDatabaseId);
}

void
fp_help_end(void)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	my_slot->can_be_helped = false;
	my_slot->helpers_wanted = 0;
	LWLockRelease(fp_shared->lock);
}

/*
 * Those who do not stop in time cannot do harm: their next page finds the
 * attempt ended.
 */
void
fp_help_stop(void)
{
	uint64		token;
	TimestampTz give_up;

	fp_help_end();
	token = my_token();
	if (token == 0 || cancel_helpers(token) == 0)
		return;

	HOLD_INTERRUPTS();
	give_up = TimestampTzPlusMilliseconds(fp_clock_real(), STOP_TIMEOUT_MS);
	while (cancel_helpers(token) > 0 && fp_clock_real() < give_up)
		fp_process_wait(STOP_POLL_MS);
	RESUME_INTERRUPTS();
}

bool
fp_help_is_at_work(int pid)
{
	uint64		token = my_token();
	bool		result = false;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nworkers && !result; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		result = worker->state == FP_WORKER_BUSY && worker->pid == pid &&
			(worker->current.token == token || worker->helps == token);
	}
	LWLockRelease(fp_shared->lock);
	return result;
}

int
fp_help_wanted(int lane)
{
	int			n = 0;

	if (are_tasks_waiting(fp_shared->lanes[lane].database))
		return 0;
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_BUSY && worker->lane == lane)
			n += worker->helpers_wanted;
	}
	return n;
}

bool
fp_help_take(FpAssignment *assignment, FpWorkerSlot **leader)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	*leader = my_slot->must_stop || has_attempts(my_slot->lane) ? NULL :
		find_leader(my_slot->lane);
	if (*leader != NULL)
	{
		(*leader)->helpers_wanted--;
		*assignment = (*leader)->current;
		my_slot->helps = (*leader)->current.token;
		my_slot->current = (*leader)->current;
		my_slot->current.token = 0; /* it is not ours */
		my_slot->state = FP_WORKER_BUSY;
		my_slot->since = my_slot->started_at = fp_clock_real();
		pg_atomic_write_u64(&my_slot->pages, 0);
		pg_atomic_write_u64(&my_slot->rows_written, 0);
		pg_atomic_write_u64(&my_slot->rows_read, 0);
		pg_atomic_write_u64(&my_slot->rows_expected, 0);
	}
	LWLockRelease(fp_shared->lock);
	return *leader != NULL;
}

/*
 * Another one may come in the place of one that leaves so.
 */
bool
fp_help_must_leave(void)
{
	bool		result;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	result = my_slot->must_stop || must_retire ||
		has_attempts(my_slot->lane) ||
		are_tasks_waiting(my_slot->database);
	if (result)
	{
		FpWorkerSlot *leader = find_worker_at(my_slot->helps);

		if (leader != NULL && leader->can_be_helped)
			leader->helpers_wanted++;
	}
	LWLockRelease(fp_shared->lock);

	if (result)
	{
		fp_help_leave();
		fp_shmem_wake_scheduler(my_slot->database);
	}
	return result;
}

void
fp_help_retire(void)
{
	must_retire = true;
}

void
fp_help_leave(void)
{
	FpWorkerSlot *leader;
	Latch	   *latch = NULL;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	leader = find_worker_at(my_slot->helps);
	if (leader != NULL)
		latch = leader->latch;
	my_slot->helps = 0;
	LWLockRelease(fp_shared->lock);

	/* a cancel request was for the help, and has been sent under the lock */
	QueryCancelPending = false;
	if (latch != NULL)
		SetLatch(latch);
}

/*
 * A worker that did not even get to its loop was, maybe, started to help; the
 * next one would fare no better.
 */
void
fp_help_detach(void)
{
	if (my_slot == NULL)
		return;

	if (my_slot->state == FP_WORKER_STARTING)
	{
		FpWorkerSlot *leader;

		LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
		leader = my_slot->must_stop ? NULL : find_leader(my_slot->lane);
		if (leader != NULL)
			leader->helpers_wanted--;
		LWLockRelease(fp_shared->lock);
		return;
	}
	fp_help_end();
	/* of our own attempt: others who help with the same one go on */
	if (my_slot->current.token != 0)
		(void) cancel_helpers(my_slot->current.token);
	fp_help_leave();
}

/*
 * The attempt that this process is at; 0: none.  Nobody else writes these.
 */
static uint64
my_token(void)
{
	return my_slot->helps != 0 ? my_slot->helps : my_slot->current.token;
}

/* The caller of these holds the lock. */

/*
 * Tasks come first: while some wait for a worker, nobody helps.
 */
static bool
are_tasks_waiting(Oid database)
{
	FpDatabaseSlot *slot = fp_shmem_database(database, false);

	return slot != NULL && slot->waiting_tasks > 0;
}

static bool
has_attempts(int lane)
{
	return fp_shared->lanes[lane].head != fp_shared->lanes[lane].tail;
}

/*
 * The worker that holds an attempt; NULL: none does.
 */
static FpWorkerSlot *
find_worker_at(uint64 token)
{
	for (int i = 0; i < fp_shared->nworkers && token != 0; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_BUSY &&
			worker->current.token == token)
			return worker;
	}
	return NULL;
}

/*
 * A worker of a lane that could use help.
 */
static FpWorkerSlot *
find_leader(int lane)
{
	if (are_tasks_waiting(fp_shared->lanes[lane].database))
		return NULL;
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_BUSY && worker->lane == lane &&
			worker->helpers_wanted > 0)
			return worker;
	}
	return NULL;
}

/*
 * Returns how many there were.
 */
static int
cancel_helpers(uint64 token)
{
	int			n = 0;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker != my_slot && worker->state == FP_WORKER_BUSY &&
			worker->helps == token)
		{
			(void) kill(worker->pid, SIGINT);
			n++;
		}
	}
	LWLockRelease(fp_shared->lock);
	return n;
}
