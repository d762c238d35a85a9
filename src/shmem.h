/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  Shared memory: who runs, what is handed to workers, what came back.
 *
 * Tables hold the truth; what is here may vanish with the server and is then
 * rebuilt.  One LWLock guards all structs unless a field says otherwise; it
 * is held for a few lines only, never over table access, logging in a loop,
 * or a wait.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_SHMEM_H
#define FLOWPG_SHMEM_H

#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "flowpg.h"

/* databases with the extension in one server */
#define FP_MAX_DATABASES 128
/* attempts handed to one lane and not yet collected by the scheduler */
#define FP_LANE_SIZE 256
/* a "problem" line that scheduler_status shows */
#define FP_PROBLEM_SIZE 256

/*
 * One attempt of a task run, as the scheduler hands it to a worker.  It is
 * on record in flow.task_run before it gets here.
 */
typedef struct FpAssignment
{
	uint64		token;			/* unique in the scheduler's life; never 0 */
	int64		run_id;
	int32		version;
	int32		map_index;
	int32		try_number;
	FpOperator	operator;
	bool		is_poke;		/* an attempt that was rescheduled goes on */
	int64		callback_id;	/* of a callback; else 0 */
	bool		may_retry;		/* a failure leaves attempts */
	bool		has_conf;		/* the run has a conf that is not empty */
	int64		retry_delay;	/* us, of the next attempt */
	int64		execution_timeout;	/* us; 0: none */
	FpRunType	run_type;
	TimestampTz logical_date;
	TimestampTz data_interval_start;
	TimestampTz data_interval_end;
	char		dag_id[FP_ID_SIZE];
	char		task_id[FP_ID_SIZE];
} FpAssignment;

/* How an attempt ended, as the worker reports it. */
typedef enum FpOutcome
{
	FP_OUTCOME_SUCCESS,			/* recorded by the worker */
	FP_OUTCOME_FAILED,			/* recorded: failed, or up_for_retry */
	FP_OUTCOME_CANCELLED,		/* recorded */
	FP_OUTCOME_SKIPPED,			/* recorded */
	FP_OUTCOME_RESCHEDULED,		/* recorded: up_for_reschedule, the same
								 * attempt goes on at retry_at */
	FP_OUTCOME_LOST				/* the worker is gone, nothing recorded */
} FpOutcome;

typedef struct FpDone
{
	uint64		token;
	int64		run_id;
	int32		map_index;
	int32		try_number;
	int64		callback_id;
	FpOutcome	outcome;
	bool		will_retry;		/* FAILED: the row says up_for_retry */
	bool		has_begun;		/* LOST: else no worker could be started */
	TimestampTz retry_at;
	int64		duration;		/* us; 0: no measure for others */
	XLogRecPtr	lsn;			/* the commit's end; the scheduler flushes it */
	int32		worker_pid;
	char		task_id[FP_ID_SIZE];
} FpDone;

/*
 * A lane: the attempts of one role in one database.  Any worker of the lane
 * takes the next one, so that a long one holds up nothing behind it.
 */
typedef struct FpLane
{
	Oid			database;		/* InvalidOid: free */
	Oid			role;
	uint32		head;			/* next free place of ready[] */
	uint32		tail;			/* next attempt to take */
	uint32		done_head;
	uint32		done_tail;
	int64		mean_duration;	/* of its attempts, us; 0: not known */
	TimestampTz moved_at;		/* when one was taken, or put into it empty */
	FpAssignment ready[FP_LANE_SIZE];
	FpDone		done[FP_LANE_SIZE];
} FpLane;

typedef enum FpWorkerState
{
	FP_WORKER_FREE,				/* the slot is free */
	FP_WORKER_STARTING,			/* registered, not yet in its loop */
	FP_WORKER_IDLE,
	FP_WORKER_BUSY
} FpWorkerState;

typedef struct FpWorkerSlot
{
	FpWorkerState state;
	uint32		generation;		/* counts the slot's users */
	Oid			database;
	Oid			role;
	int			lane;
	pid_t		pid;			/* 0 while starting */
	Latch	   *latch;
	TimestampTz since;			/* of the state */
	bool		must_stop;		/* leave after the current attempt */
	FpAssignment current;		/* valid while busy; token 0: none */
	uint64		cancel_token;	/* the attempt that is to be cancelled */
	TimestampTz started_at;		/* of the current attempt */
	bool		can_be_helped;	/* others may help with it, see help.c, ... */
	int			helpers_wanted; /* ... so many more */
	uint64		helps;			/* the attempt of another worker that this one
								 * helps with; current is a copy of it, with
								 * token 0 */

	/* live figures, written by the worker without the lock */
	pg_atomic_uint64 pages;
	pg_atomic_uint64 rows_written;
	pg_atomic_uint64 rows_read; /* of an upsert; about so many */
	pg_atomic_uint64 rows_expected;	/* to be read in all; 0: not known */
} FpWorkerSlot;

#define FP_MAX_TOLD 128
#define FP_TOLD_ALL (-1)

typedef struct FpDatabaseSlot
{
	Oid			database;		/* InvalidOid: free */
	uint32		generation;
	pid_t		scheduler_pid;	/* 0: none */
	Latch	   *scheduler_latch;
	int			nholds;			/* DROP DATABASE and the like under way: the
								 * launcher stays out, processes leave */
	bool		is_starting;	/* registered, not yet attached */
	bool		is_installed;	/* known to have the extension */
	bool		must_stop;		/* the scheduler leaves */
	TimestampTz heartbeat;
	TimestampTz next_wake_at;
	TimestampTz failed_at;		/* last time its scheduler ended badly */
	int			active_runs;
	int			ready_tasks;
	int			running_tasks;
	int			wanted_workers; /* workers that tasks, or help, wait for */
	int			waiting_tasks;	/* tasks alone */
	bool		is_waiting;		/* for somebody to do something about it */
	char		problem[FP_PROBLEM_SIZE];	/* empty: all is well */

	bool		is_quiet;		/* nothing is due or running at quiet_at */
	TimestampTz quiet_at;

	/*
	 * Requests of committed sessions, by id, which the scheduler has not yet
	 * looked at: so it finds them by key, past no row that is dead and still
	 * there.  FP_TOLD_ALL: more than there is room for, or not known.
	 */
	int			ntold;
	int64		told[FP_MAX_TOLD];
	pg_atomic_uint32 has_requests;	/* cleared by the scheduler */
	pg_atomic_uint32 nwakes;	/* times its scheduler was woken */
	bool		must_look;		/* at whether DAGs are run here; likewise */
} FpDatabaseSlot;

typedef struct FpShared
{
	LWLock	   *lock;
	pid_t		launcher_pid;
	Latch	   *launcher_latch;
	bool		must_probe;		/* there may be databases not yet looked at */
	pg_atomic_uint64 next_token;
	pg_atomic_uint64 simulated_now; /* DT_NOBEGIN: real time */
	FpDatabaseSlot databases[FP_MAX_DATABASES];
	int			nworkers;		/* slots in workers[], flowpg.max_workers */
	int			nlanes;
	FpLane	   *lanes;
	FpWorkerSlot *workers;
} FpShared;

extern FpShared *fp_shared;		/* NULL: library not preloaded */

extern void fp_shmem_install_hooks(void);

/* ERROR with a hint where the library is not in shared_preload_libraries */
extern void fp_shmem_require(void);

/*
 * Sessions: tell this database's scheduler of a request, and wake it, when the
 * current transaction commits (not before, not if it aborts).  PREPARE
 * TRANSACTION is refused afterwards.
 */
extern void fp_shmem_tell_at_commit(int64 request_id);

/* the same for what may change whether the database's DAGs are run at all */
extern void fp_shmem_look_at_commit(void);

/*
 * Scheduler: the requests that it has been told of since it asked last, into
 * an array of FP_MAX_TOLD; their number, or FP_TOLD_ALL: it must look at all.
 */
extern int	fp_shmem_take_told(FpDatabaseSlot *slot, int64 *request_ids);

/* scheduler: whether it was told to look, since it asked last */
extern bool fp_shmem_take_look(FpDatabaseSlot *slot);

/* scheduler: all requests are to be looked at, whoever has told of them */
extern void fp_shmem_tell_all(FpDatabaseSlot *slot);

/* CREATE EXTENSION: tell the launcher at commit */
extern void fp_shmem_installed_at_commit(void);

/*
 * Wake a scheduler, or the launcher, now.  The caller has put where it will be
 * seen what it is woken for, and does not hold the lock.
 */
extern void fp_shmem_wake(FpDatabaseSlot *slot);
extern void fp_shmem_wake_scheduler(Oid database);
extern void fp_shmem_wake_launcher(void);

/*
 * Whether the database's scheduler has nothing due and nothing running at
 * this simulated time, all requests of committed sessions done.
 */
extern bool fp_shmem_is_quiet(Oid database, TimestampTz at);

/* whether the database's scheduler waits for flow_adopt or an update */
extern bool fp_shmem_is_waiting(Oid database);

/*
 * The slot of a database; NULL: it has none (and, with create, none is left).
 * The caller holds the lock, exclusively with create.
 */
extern FpDatabaseSlot *fp_shmem_database(Oid database, bool create);

/*
 * At the commit of the current transaction: the extension is gone; the
 * launcher looks for new databases.  See utility_hook.c.
 */
extern void fp_shmem_dropped_at_commit(void);
extern void fp_shmem_probe_at_commit(void);

/* makes wake-ups at commit work; called once by _PG_init */
extern void fp_shmem_register_callbacks(void);

#endif							/* FLOWPG_SHMEM_H */
