/*-------------------------------------------------------------------------
 *
 * api_monitor.c
 *	  What the views read that is not in tables: shared memory, the present
 *	  time of decisions, and what is due.
 *
 * Runs in sessions, as the user who asks.  Shared memory is copied out under
 * the lock and looked at afterwards.  It knows of all databases and roles;
 * what the current user may not see is left out here, for no row security
 * stands before it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"
#include "clock.h"
#include "dag_rights.h"
#include "guc.h"
#include "run_planner.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(flow_clock_now);
PG_FUNCTION_INFO_V1(flow_next_run_at);
PG_FUNCTION_INFO_V1(flow_speaks_by_date);
PG_FUNCTION_INFO_V1(flow_interval_at);
PG_FUNCTION_INFO_V1(flow_worker_slots);
PG_FUNCTION_INFO_V1(flow_scheduler_slot);

#define WORKER_COLUMNS 15
#define SCHEDULER_COLUMNS 8

/* What is shown of a worker slot. */
typedef struct WorkerInfo
{
	FpWorkerState state;
	Oid			role;
	pid_t		pid;
	TimestampTz since;
	FpAssignment current;
	TimestampTz started_at;
	uint64		pages;
	uint64		rows_written;
	uint64		rows_read;
	uint64		rows_expected;
	bool		is_helping;
} WorkerInfo;

static int	copy_workers(WorkerInfo **workers);
static void put_worker(ReturnSetInfo *rsinfo, const WorkerInfo *worker);
static void put_time(Datum *values, bool *nulls, int column, TimestampTz at);
static const char *scheduler_state(const FpDatabaseSlot *slot,
								   const char **problem);

static const char *const worker_states[] = {
	[FP_WORKER_FREE] = NULL,
	[FP_WORKER_STARTING] = "starting",
	[FP_WORKER_IDLE] = "idle",
	[FP_WORKER_BUSY] = "busy",
};


/*
 * flow.clock_now()
 */
Datum
flow_clock_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(fp_clock_now());
}

/*
 * flow.next_run_at(dag_id): when the next scheduled run is due.  NULL: the
 * DAG is paused or has no further intervals, or there is none that the user
 * may see, or the server no longer has its timezone.
 */
Datum
flow_next_run_at(PG_FUNCTION_ARGS)
{
	FpDagRow   *dag = fp_dag_store_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	FpInterval	interval;

	if (dag == NULL || dag->is_paused ||
		!fp_dag_rights_may_see(GetUserId(), dag->owner) ||
		!fp_schedule_has_timezone(dag->timezone) ||
		!fp_run_planner_next(dag, fp_clock_now(), &interval))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(interval.end);
}

/*
 * flow.speaks_by_date(dag_id)
 */
Datum
flow_speaks_by_date(PG_FUNCTION_ARGS)
{
	char	   *dag_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	FpDagRow   *dag = fp_dag_store_get(dag_id);

	/* of another's DAG, the caller sees neither coverage nor log */
	if (dag != NULL && !fp_dag_rights_may_see(GetUserId(), dag->owner))
		PG_RETURN_BOOL(true);
	PG_RETURN_BOOL(fp_run_planner_speaks_by_date(fp_run_planner_effective_schedule(dag_id,
																				   fp_clock_now())));
}

/*
 * flow.interval_at(dag_id, at): NULL where the DAG has no intervals
 */
Datum
flow_interval_at(PG_FUNCTION_ARGS)
{
	FpDagRow   *dag = fp_dag_store_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	FpInterval	interval;
	TupleDesc	desc;
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};

	if (dag != NULL && fp_dag_rights_may_see(GetUserId(), dag->owner) &&
		fp_run_planner_interval_at(dag, PG_GETARG_TIMESTAMPTZ(1), &interval))
	{
		values[0] = TimestampTzGetDatum(interval.start);
		values[1] = TimestampTzGetDatum(interval.end);
		nulls[0] = nulls[1] = false;
	}
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * flow.worker_slots(): the workers of this database.  What a worker of
 * another user's role does is NULL.
 */
Datum
flow_worker_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	WorkerInfo *workers;
	int			nworkers;

	InitMaterializedSRF(fcinfo, 0);
	nworkers = copy_workers(&workers);
	for (int i = 0; i < nworkers; i++)
		put_worker(rsinfo, &workers[i]);
	return (Datum) 0;
}

/*
 * flow.scheduler_slot(): always one row
 */
Datum
flow_scheduler_slot(PG_FUNCTION_ARGS)
{
	FpDatabaseSlot slot;
	bool		has_slot = false;
	const char *state;
	const char *problem;
	TupleDesc	desc;
	Datum		values[SCHEDULER_COLUMNS] = {0};
	bool		nulls[SCHEDULER_COLUMNS];

	if (fp_shared != NULL)
	{
		const FpDatabaseSlot *shared_slot;

		LWLockAcquire(fp_shared->lock, LW_SHARED);
		shared_slot = fp_shmem_database(MyDatabaseId, false /* create */ );
		if (shared_slot != NULL)
		{
			slot = *shared_slot;
			has_slot = true;
		}
		LWLockRelease(fp_shared->lock);
	}

	memset(nulls, true, sizeof(nulls));
	state = scheduler_state(has_slot ? &slot : NULL, &problem);
	values[1] = CStringGetTextDatum(state);
	nulls[1] = false;
	if (has_slot && slot.scheduler_pid != 0)
	{
		values[0] = Int32GetDatum(slot.scheduler_pid);
		nulls[0] = false;
		put_time(values, nulls, 2, slot.heartbeat);
		put_time(values, nulls, 3, slot.next_wake_at);
		values[4] = Int32GetDatum(slot.active_runs);
		values[5] = Int32GetDatum(slot.ready_tasks);
		values[6] = Int32GetDatum(slot.running_tasks);
		nulls[4] = nulls[5] = nulls[6] = false;
	}
	if (problem != NULL)
	{
		values[7] = CStringGetTextDatum(problem);
		nulls[7] = false;
	}

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * Copy what is to be shown of this database's workers; returns how many.
 */
static int
copy_workers(WorkerInfo **workers)
{
	int			n = 0;

	if (fp_shared == NULL)
		return 0;

	*workers = palloc(fp_shared->nworkers * sizeof(WorkerInfo));
	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *slot = &fp_shared->workers[i];
		WorkerInfo *worker = &(*workers)[n];

		if (slot->state == FP_WORKER_FREE || slot->database != MyDatabaseId)
			continue;
		worker->state = slot->state;
		worker->role = slot->role;
		worker->pid = slot->pid;
		worker->since = slot->since;
		worker->current = slot->current;
		worker->started_at = slot->started_at;
		worker->pages = pg_atomic_read_u64(&slot->pages);
		worker->rows_written = pg_atomic_read_u64(&slot->rows_written);
		worker->rows_read = pg_atomic_read_u64(&slot->rows_read);
		worker->rows_expected = pg_atomic_read_u64(&slot->rows_expected);
		worker->is_helping = slot->helps != 0;
		n++;
	}
	LWLockRelease(fp_shared->lock);
	return n;
}

static void
put_worker(ReturnSetInfo *rsinfo, const WorkerInfo *worker)
{
	const FpAssignment *current = &worker->current;
	Datum		values[WORKER_COLUMNS] = {0};
	bool		nulls[WORKER_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	if (worker->pid != 0)
	{
		values[0] = Int32GetDatum(worker->pid);
		nulls[0] = false;
	}
	values[1] = ObjectIdGetDatum(worker->role);
	values[2] = CStringGetTextDatum(worker_states[worker->state]);
	nulls[1] = nulls[2] = false;
	put_time(values, nulls, 3, worker->since);
	values[14] = BoolGetDatum(worker->is_helping);
	nulls[14] = false;
	if (worker->state == FP_WORKER_BUSY &&
		(current->token != 0 || worker->is_helping) &&
		fp_dag_rights_may_see(GetUserId(), worker->role))
	{
		values[4] = Int64GetDatum(current->run_id);
		values[5] = CStringGetTextDatum(current->dag_id);
		values[6] = CStringGetTextDatum(current->task_id);
		values[7] = Int32GetDatum(current->map_index);
		values[8] = Int32GetDatum(current->try_number);
		values[10] = Int64GetDatum((int64) worker->pages);
		values[11] = Int64GetDatum((int64) worker->rows_written);
		values[12] = Int64GetDatum((int64) worker->rows_read);
		values[13] = Int64GetDatum((int64) worker->rows_expected);
		memset(nulls + 4, false, WORKER_COLUMNS - 4);
		nulls[13] = worker->rows_expected == 0;
		nulls[9] = true;
		put_time(values, nulls, 9, worker->started_at);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * 0 is no time and stays NULL.
 */
static void
put_time(Datum *values, bool *nulls, int column, TimestampTz at)
{
	if (at != 0)
	{
		values[column] = TimestampTzGetDatum(at);
		nulls[column] = false;
	}
}

/*
 * In which state the scheduler is, and what keeps it from its work; NULL:
 * nothing does.
 */
static const char *
scheduler_state(const FpDatabaseSlot *slot, const char **problem)
{
	*problem = NULL;
	if (fp_shared == NULL)
		*problem = "flowpg is not in shared_preload_libraries";
	else if (slot != NULL && slot->problem[0] != '\0')
		*problem = slot->problem;
	else if (RecoveryInProgress())
		*problem = "this server is a standby: DAGs run on the primary";
	else if (!fp_enabled)
		*problem = "flowpg.enabled is off";

	if (slot == NULL)
		return "stopped";
	if (slot->scheduler_pid != 0)
	{
		if (slot->must_stop || slot->nholds > 0)
			return "stopping";
		return slot->is_waiting ? "waiting" : "running";
	}
	return slot->is_starting ? "starting" : "stopped";
}
