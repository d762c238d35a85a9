/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *	  One a database: makes runs, follows their tasks, hands them to workers.
 *
 * Started by the launcher; leaves by itself where the extension is not
 * installed, when it is dropped, and when a command needs the database to
 * itself.  Sleeps until its latch is set (a task has ended, a session has
 * committed a request, a worker has started or ended) or the next known time
 * has come.
 *
 * A wake-up is one cycle and one transaction at most, but for NOTIFY and the
 * forgetting of history, which follow in their own: what workers have done
 * is collected from shared memory, requests of sessions are carried out, due
 * runs are made, runs advance and end, ready tasks are chosen and their
 * attempts recorded; then it commits, and only then hands the attempts over.
 * Workers do not wait for their commits to reach disk; the cycle's commit, or
 * a flush where there was nothing to commit, makes sure of them before
 * anything is built upon them.
 *
 * Its memory (model.h) is a cache of the tables.  After any error it is
 * thrown away and built anew, after reading from shared memory what workers
 * hold, so that their attempts are taken over and not doubled.
 *
 * It takes no lock that a session can hold without a lock_timeout: sessions
 * insert requests and do not update what the scheduler updates, but for
 * dag_log; definitions it only reads, and keeps from being dropped for a
 * moment (FP_OF_SAME_DAG).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "citus.h"
#include "clock.h"
#include "dispatch.h"
#include "guc.h"
#include "instance_store.h"
#include "link.h"
#include "model.h"
#include "process.h"
#include "requests.h"
#include "run_life.h"
#include "scheduler_cycle.h"
#include "shmem.h"
#include "spi_util.h"
#include "workers.h"

/* Waits for locks that a session may hold end after this long. */
#define LOCK_TIMEOUT "100ms"

/* After an error the scheduler begins anew after this long. */
#define ERROR_DELAY_MS 1000

/* The longest sleep, so that a clock that has been moved is noticed. */
#define MAX_SLEEP_MS 60000

PGDLLEXPORT void fp_scheduler_main(Datum arg);

static FpDatabaseSlot *slot = NULL;
static uint32 generation;
static bool was_installed = false;	/* so said the slot when we took it */
static bool must_look = true;	/* at the database, see may_run */
static bool is_at_work = false; /* DAGs are run here; see may_run, ... */
static bool has_nothing = false;	/* ... nor are there any */
static char problem[FP_PROBLEM_SIZE];	/* why not */
static bool is_waiting = false; /* for somebody to do something about it */
static MemoryContext cycle_context = NULL;

static void attach(int index);
static void detach(int code, Datum arg);
static void connect_to_database(void);
static bool may_run(void);
static void look_at_database(void);
static void handle_shutdown_request(SIGNAL_ARGS);
static void leave_if_asked(void);
static long run_protected_cycle(FpModel **model);
static void stop_cleanly(void);
static void publish(FpModel *model, long timeout);
static const char *problem_of(const FpModel *model);
static void set_problem(const char *text);

void
fp_scheduler_main(Datum arg)
{
	FpModel    *model = NULL;

	pqsignal(SIGTERM, handle_shutdown_request);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	attach(DatumGetInt32(arg));
	connect_to_database();
	cycle_context = AllocSetContextCreate(TopMemoryContext, "flowpg cycle",
										  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		/* before anything is looked at */
		uint32		nwakes = pg_atomic_read_u32(&slot->nwakes);
		long		timeout = MAX_SLEEP_MS;

		leave_if_asked();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (fp_enabled || model != NULL)
		{
			timeout = run_protected_cycle(&model);
			timeout = Min(timeout, MAX_SLEEP_MS);
		}

		/*
		 * What has come since has set our latch, which a wait for a lock or
		 * for a standby may have reset.
		 */
		if (pg_atomic_read_u32(&slot->nwakes) != nwakes ||
			ShutdownRequestPending || ConfigReloadPending)
			timeout = 0;
		publish(model, timeout);
		if (timeout != 0)
			pgstat_report_stat(true);

		/* whoever cancels what we do, while we do nothing, cancels nothing */
		HOLD_CANCEL_INTERRUPTS();
		fp_process_wait(timeout);
		QueryCancelPending = false;
		RESUME_CANCEL_INTERRUPTS();
	}
}

/*
 * Takes the database's slot.  The launcher may have been replaced, and may
 * have started another one meanwhile: the one with the slot's generation
 * stays.
 */
static void
attach(int index)
{
	bool		is_ours;

	slot = &fp_shared->databases[index];
	generation = fp_process_generation();
	before_shmem_exit(detach, (Datum) 0);

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	is_ours = slot->generation == generation && slot->scheduler_pid == 0 &&
		slot->database != InvalidOid;
	if (is_ours)
	{
		slot->scheduler_pid = MyProcPid;
		slot->scheduler_latch = MyLatch;
		slot->is_starting = false;
		slot->is_quiet = false;
		slot->heartbeat = fp_clock_real();
		slot->failed_at = fp_clock_real();	/* until we leave in good order */
		was_installed = slot->is_installed;
	}
	LWLockRelease(fp_shared->lock);
	if (!is_ours)
		proc_exit(0);
}

static void
detach(int code, Datum arg)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	if (slot->generation == generation)
	{
		slot->scheduler_pid = 0;
		slot->scheduler_latch = NULL;
		slot->is_starting = false;
		slot->is_quiet = false;
		slot->running_tasks = 0;
		slot->wanted_workers = 0;
		slot->waiting_tasks = 0;
		/* one that could not even look is started again */
		if (!slot->is_installed && slot->nholds == 0 && slot->failed_at == 0)
			slot->database = InvalidOid;
	}
	LWLockRelease(fp_shared->lock);
	fp_shmem_wake_launcher();
}

/*
 * As the bootstrap superuser.  Ends the process where there is no extension.
 */
static void
connect_to_database(void)
{
	bool		is_installed;

	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
	fp_spi_pin_session();
	fp_spi_pin_lock_timeout(LOCK_TIMEOUT);

	fp_spi_begin_transaction(NULL);
	is_installed = OidIsValid(fp_spi_extension_owner());
	fp_spi_commit_transaction();

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	/* a CREATE EXTENSION may have been committed since we looked */
	if (is_installed || was_installed)
		slot->is_installed = is_installed;
	if (!is_installed)
		slot->failed_at = 0;
	LWLockRelease(fp_shared->lock);
	if (!is_installed)
		proc_exit(0);
	/* it looks at a few databases at a time, and has now done with this one */
	fp_shmem_wake_launcher();
}

/*
 * Whether this database's DAGs are run.  It is looked at when the scheduler
 * starts and when that may have changed: with flow_adopt, an update of the
 * extension, the restore of a dump; after an error, which may come of that.
 * Where nothing is run, also with each request: of a database the first DAG,
 * of a node of Citus that it is none any more.
 */
static bool
may_run(void)
{
	/* taken before looking, and kept where that fails */
	must_look |= fp_shmem_take_look(slot);
	if (!is_at_work)
		must_look |= pg_atomic_exchange_u32(&slot->has_requests, 0) != 0;
	if (!must_look)
		return is_at_work;

	fp_spi_begin_transaction(NULL);
	look_at_database();
	fp_spi_commit_transaction();
	must_look = false;
	return is_at_work;
}

static void
look_at_database(void)
{
	const char *found = NULL;
	const char *hint = NULL;
	FpHome		home = FP_HOME_HERE;

	is_waiting = !fp_spi_version_fits(&found, &hint);
	if (!is_waiting && fp_citus_is_worker_node())
		found = "this database is a worker node of Citus: DAGs run on the coordinator";
	else if (!is_waiting)
	{
		home = fp_instance_store_home();
		is_waiting = home == FP_HOME_ELSEWHERE;
		if (is_waiting)
		{
			found = "the DAGs of this database come from a dump or from another database, and wait for flow_adopt()";
			hint = "If they are to run here, call SELECT flow_adopt() in this database. Those that are not can be paused or dropped first.";
		}
	}
	has_nothing = home == FP_HOME_EMPTY;
	is_at_work = found == NULL && !has_nothing;

	if (found == NULL)
		found = "";
	if (is_waiting && strcmp(problem, found) != 0)
		ereport(WARNING,
				(errmsg("flowpg runs nothing in database \"%s\": %s",
						get_database_name(MyDatabaseId), found),
				 errhint("%s", hint)));
	strlcpy(problem, found, FP_PROBLEM_SIZE);
}

/*
 * A commit that waits for a standby waits no longer: it looks for a request
 * to cancel by itself.  Without InterruptPending nothing else does, so that a
 * cycle is not cut off; it ends, and the loop leaves.
 */
static void
handle_shutdown_request(SIGNAL_ARGS)
{
	QueryCancelPending = true;
	SignalHandlerForShutdownRequest(postgres_signal_arg);
}

static void
leave_if_asked(void)
{
	bool		must_leave;
	bool		is_held;
	bool		is_installed;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	is_held = slot->nholds > 0;
	must_leave = is_held || slot->must_stop;
	is_installed = slot->is_installed;
	LWLockRelease(fp_shared->lock);

	if (!must_leave && !ShutdownRequestPending)
		return;
	/* we leave anyway, and this is outside of what catches an error */
	HOLD_CANCEL_INTERRUPTS();
	if (must_leave)
		fp_workers_end();
	/* dropped with the extension, there is nothing to note it in */
	if (is_installed && is_at_work)
		stop_cleanly();

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot->failed_at = 0;
	slot->must_stop = false;
	LWLockRelease(fp_shared->lock);
	proc_exit(0);
}

/*
 * Notes that the attempts now open have not been cut off by a crash.  Where
 * that cannot be noted (the extension is gone, the server is short of disk) it
 * will look like one, which is no harm.  No standby is waited for: one that is
 * down would keep the server from stopping.
 */
static void
stop_cleanly(void)
{
	SetConfigOption("synchronous_commit", "local", PGC_USERSET,
					PGC_S_OVERRIDE);
	PG_TRY();
	{
		fp_spi_begin_transaction(NULL);
		if (OidIsValid(fp_spi_extension_owner()))
			fp_instance_store_end();
		fp_spi_commit_transaction();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

/*
 * One cycle.  An error ends it and throws the memory away; the next one
 * begins with what the tables and shared memory say.
 */
static long
run_protected_cycle(FpModel **model)
{
	MemoryContext volatile context = CurrentMemoryContext;
	FpModel    *volatile current = *model;
	volatile long timeout = 0;

	MemoryContextSwitchTo(cycle_context);
	PG_TRY();
	{
		if (!may_run())
		{
			if (current != NULL)
			{
				fp_model_free(current);
				fp_dispatch_reset();
			}
			current = NULL;
			fp_workers_dismiss();
			timeout = MAX_SLEEP_MS;
			set_problem(problem);
		}
		else
		{
			if (current == NULL)
			{
				/* also what sessions asked for while nobody was here */
				fp_shmem_tell_all(slot);
				current = fp_model_new();
				fp_cycle_load(current);
			}
			timeout = fp_cycle_run(current, slot);
			set_problem(problem_of(current));
		}
	}
	PG_CATCH();
	{
		bool		is_of_request = fp_requests_take_failure();
		char	   *message;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(cycle_context);
		if (!is_of_request)
			EmitErrorReport();
		message = CopyErrorData()->message;
		LWLockReleaseAll();		/* an abort does that in a transaction only */
		/* from whatever depth of subtransactions */
		AbortOutOfAnyTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(cycle_context);
		if (!is_of_request)
			set_problem(message);
		if (current != NULL)
			fp_model_free(current);
		current = NULL;
		fp_dispatch_reset();
		must_look = true;
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
		timeout = is_of_request ? 0 : ERROR_DELAY_MS;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	MemoryContextReset(cycle_context);
	*model = current;
	return timeout;
}

/* For scheduler_status, and for flow_advance() to wait on. */
static void
publish(FpModel *model, long timeout)
{
	TimestampTz now = fp_clock_real();
	TimestampTz at = fp_clock_now();

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot->heartbeat = now;
	slot->next_wake_at = TimestampTzPlusMilliseconds(now, timeout);
	slot->active_runs = model != NULL ? model->nruns : 0;
	slot->ready_tasks = model != NULL ? model->nready : 0;
	slot->running_tasks = model != NULL ? model->nrunning : 0;
	if (model == NULL)
	{
		/* other databases do not wait for what is not run here */
		slot->wanted_workers = 0;
		slot->waiting_tasks = 0;
	}
	slot->is_quiet = (has_nothing ||
					  (model != NULL && fp_cycle_is_quiet(model, at))) &&
		pg_atomic_read_u32(&slot->has_requests) == 0 && !slot->must_look;
	slot->quiet_at = at;
	LWLockRelease(fp_shared->lock);
}

static const char *
problem_of(const FpModel *model)
{
	if (model->problem[0] != '\0')
		return model->problem;
	if (fp_requests_problem()[0] != '\0')
		return fp_requests_problem();
	return model->shortage;
}

static void
set_problem(const char *text)
{
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	slot->is_waiting = is_waiting;
	strlcpy(slot->problem, text, FP_PROBLEM_SIZE);
	LWLockRelease(fp_shared->lock);
}
