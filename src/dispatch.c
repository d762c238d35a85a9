/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *	  From ready tasks to workers and back: limits and lanes.
 *
 * Runs in the scheduler.  A lane holds the attempts of one role; its workers
 * take them in turn.  More attempts than workers are put into a lane only
 * where its tasks have been short, so that nothing waits behind a long one
 * while a worker could be had.
 *
 * A task that a limit holds back waits in that limit's own heap and is looked
 * at again when the limit has room: a wake-up costs what can start, not what
 * is ready.  Limits are looked at in this order: a suspect waits for other
 * suspects, a backfill's task for its share, then max_active_tasks, the pool,
 * a worker of the role.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "clock.h"
#include "dispatch.h"
#include "guc.h"
#include "task_state.h"
#include "workers.h"

/*
 * A worker is given attempts for so long at a time, by the mean time that the
 * role's attempts have taken; but not more of them than this.  It has to last
 * for as long as the scheduler takes to record and flush the next ones.
 */
#define WORK_AT_A_TIME_US 40000
#define MAX_DEPTH 32

/* What the scheduler knows of a role's lane; rebuilt from shared memory. */
typedef struct Role
{
	Oid			role;			/* hash key */
	int64		mean_duration;	/* us; 0: none yet */
	int			lane;			/* -1: none */
	bool		has_no_lane;	/* and none was to be had in this plan */
	int			nworkers;		/* that stay */
	int			nidle;			/* of those: idle or starting */
	int			noutstanding;	/* attempts in the lane and at its workers */
	pairingheap *blocked;		/* tasks that wait for a worker */
} Role;

/* Room for work, in one plan. */
typedef struct Room
{
	int			nfree_slots;	/* worker slots that we may still take */
} Room;

static HTAB *roles = NULL;

static Role *find_role(Oid role);
static void look_at_lanes(FpModel *model, Room *room);
static bool role_has_room(const Role *role, const Room *room);
static bool reserve_lane(Role *role);
static void take_room(Role *role, Room *room);
static int	depth_of(const Role *role);
static int	release_pool(FpModel *model, FpPool *pool);
static int	release_blocked(FpModel *model, const Room *room);
static FpTask *next_task(FpModel *model);
static bool fits(FpModel *model, FpTask *task, Room *room);
static void assign(FpModel *model, FpTask *task, FpAttempts *attempts);
static int	find_lane(Oid role, bool create);
static void fill_assignment(FpAssignment *assignment, FpTask *task);


/* ---- back from workers ---- */

FpDone *
fp_dispatch_collect(int *n)
{
	FpDone	   *result = NULL;
	int			size = 0;

	*n = 0;
	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];

		if (lane->database == MyDatabaseId)
			size += lane->done_head - lane->done_tail;
	}
	LWLockRelease(fp_shared->lock);
	if (size == 0)
		return NULL;

	/* only this process takes results out, so there are at least as many */
	result = palloc(sizeof(FpDone) * size);
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];

		if (lane->database != MyDatabaseId)
			continue;
		while (lane->done_tail != lane->done_head && *n < size)
		{
			result[(*n)++] = lane->done[lane->done_tail % FP_LANE_SIZE];
			lane->done_tail++;
		}
	}
	LWLockRelease(fp_shared->lock);
	return result;
}

void
fp_dispatch_note_duration(Oid role, int64 duration)
{
	Role	   *entry = find_role(role);

	if (entry->mean_duration == 0)
		entry->mean_duration = Max(duration, 1);
	else
		entry->mean_duration += (duration - entry->mean_duration) / 8;
}


/* ---- planning ---- */

List *
fp_dispatch_plan(FpModel *model, FpAttempts *attempts)
{
	List	   *planned = NIL;
	Room		room;
	FpTask	   *task;
	int			nreleased;

	if (model->nready == 0)
		return NIL;

	look_at_lanes(model, &room);

	/*
	 * A task that one limit releases may have to wait for another: then the
	 * next one is released in its place.  It ends, for limits only fill up.
	 */
	do
	{
		nreleased = release_blocked(model, &room);
		while ((task = next_task(model)) != NULL)
		{
			if (!fits(model, task, &room))
				continue;
			assign(model, task, attempts);
			planned = lappend(planned, task);
		}
	} while (nreleased > 0);
	return planned;
}

/* Counts workers and attempts a role, and what could still be started. */
static void
look_at_lanes(FpModel *model, Room *room)
{
	HASH_SEQ_STATUS scan;
	Role	   *role;
	int			nwanted_elsewhere;
	int			nown = 0;
	int			nfree = 0;
	int			share;

	(void) find_role(InvalidOid);	/* makes the table */
	hash_seq_init(&scan, roles);
	while ((role = hash_seq_search(&scan)) != NULL)
	{
		role->lane = -1;
		role->has_no_lane = false;
		role->nworkers = role->nidle = role->noutstanding = 0;
	}

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];

		if (lane->database != MyDatabaseId)
			continue;
		role = find_role(lane->role);
		role->lane = i;
		/* results not yet collected take room in the lane, too */
		role->noutstanding += lane->head - lane->tail;
		role->noutstanding += lane->done_head - lane->done_tail;
	}
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_FREE)
			nfree++;
		if (worker->state == FP_WORKER_FREE ||
			worker->database != MyDatabaseId)
			continue;
		nown++;
		role = find_role(worker->role);
		if (worker->state == FP_WORKER_BUSY)
			role->noutstanding++;
		if (worker->must_stop)
			continue;
		role->nworkers++;
		if (worker->state != FP_WORKER_BUSY)
			role->nidle++;
	}
	share = fp_workers_share(&nwanted_elsewhere);
	LWLockRelease(fp_shared->lock);

	room->nfree_slots = nfree;
	if (nwanted_elsewhere > 0)
		room->nfree_slots = Max(0, Min(nfree, share - nown));
}

static int
depth_of(const Role *role)
{
	int64		depth = 1;

	if (role->mean_duration > 0)
		depth = WORK_AT_A_TIME_US / role->mean_duration;
	return (int) Max(1, Min(depth, MAX_DEPTH));
}

static bool
role_has_room(const Role *role, const Room *room)
{
	int			nworkers = role->nworkers + room->nfree_slots;

	if (role->has_no_lane)
		return false;
	return role->noutstanding < Min(FP_LANE_SIZE, nworkers * depth_of(role));
}

/*
 * A role gets its lane when the first task is planned for it, for another
 * scheduler may plan at the same time.  One that is not used after all is
 * freed by fp_workers_tend.
 */
static bool
reserve_lane(Role *role)
{
	if (role->lane >= 0)
		return true;
	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	role->lane = find_lane(role->role, true);
	LWLockRelease(fp_shared->lock);
	role->has_no_lane = role->lane < 0;
	return role->lane >= 0;
}

static void
take_room(Role *role, Room *room)
{
	role->noutstanding++;
	if (role->noutstanding > role->nworkers && room->nfree_slots > 0)
	{
		role->nworkers++;
		room->nfree_slots--;
	}
}

/*
 * Tasks that wait for a limit which has room again go back to the ready ones,
 * as many as there is room for.
 */
static int
release_heap(FpModel *model, pairingheap *heap, int n)
{
	int			nreleased = 0;

	while (nreleased < n && !pairingheap_is_empty(heap))
	{
		FpTask	   *task = pairingheap_container(FpTask, node,
												 pairingheap_first(heap));

		fp_model_take_task(model, task);
		fp_model_put_task(model, task, fp_model_ready_heap(model, task));
		nreleased++;
	}
	return nreleased;
}

/* The most important tasks first, as long as one fits into what is free. */
static int
release_pool(FpModel *model, FpPool *pool)
{
	int			nfree = pool->slots - pool->used;
	int			nreleased = 0;

	while (nfree > 0)
	{
		FpPoolQueue *best = NULL;
		dlist_iter	iter;

		dlist_foreach(iter, &pool->blocked)
		{
			FpPoolQueue *queue = dlist_container(FpPoolQueue, node, iter.cur);

			if (queue->pool_slots <= nfree &&
				!pairingheap_is_empty(&queue->tasks) &&
				(best == NULL ||
				 queue->tasks.ph_compare(pairingheap_first(&queue->tasks),
										 pairingheap_first(&best->tasks),
										 NULL) > 0))
				best = queue;
		}
		if (best == NULL)
			break;
		nreleased += release_heap(model, &best->tasks, 1);
		nfree -= Max(1, best->pool_slots);
	}
	return nreleased;
}

static int
release_blocked(FpModel *model, const Room *room)
{
	int			nreleased = 0;
	HASH_SEQ_STATUS scan;
	FpDag	   *dag;
	FpPool	   *pool;
	Role	   *role;
	dlist_mutable_iter iter;

	hash_seq_init(&scan, model->pools);
	while ((pool = hash_seq_search(&scan)) != NULL)
		nreleased += release_pool(model, pool);
	hash_seq_init(&scan, roles);
	while ((role = hash_seq_search(&scan)) != NULL)
	{
		if (role->blocked != NULL && role_has_room(role, room))
			nreleased += release_heap(model, role->blocked,
									  (role->nworkers + room->nfree_slots) *
									  depth_of(role) - role->noutstanding);
	}
	dlist_foreach_modify(iter, &model->blocked_dags)
	{
		dag = dlist_container(FpDag, blocked_node, iter.cur);
		nreleased += release_heap(model, &dag->blocked,
								  fp_model_max_active_tasks(dag) -
								  dag->nactive_tasks);
		if (pairingheap_is_empty(&dag->blocked))
		{
			dlist_delete(&dag->blocked_node);
			dag->is_blocked = false;
		}
	}
	return nreleased;
}

Bitmapset *
fp_dispatch_waiting_lanes(void)
{
	Bitmapset  *result = NULL;
	HASH_SEQ_STATUS status;
	Role	   *role;

	if (roles == NULL)
		return NULL;
	hash_seq_init(&status, roles);
	while ((role = hash_seq_search(&status)) != NULL)
	{
		if (role->lane >= 0 && role->blocked != NULL &&
			!pairingheap_is_empty(role->blocked))
			result = bms_add_member(result, role->lane);
	}
	return result;
}

/* The most important task that may be looked at, or NULL. */
static FpTask *
next_task(FpModel *model)
{
	pairingheap *heap;
	int			share = (int) (fp_backfill_worker_share *
							   fp_shared->nworkers);

	if (!pairingheap_is_empty(&model->suspects) &&
		model->nsuspects_running == 0)
		heap = &model->suspects;
	else if (pairingheap_is_empty(&model->ready_backfill))
		heap = &model->ready;
	else if (pairingheap_is_empty(&model->ready))
	{
		heap = &model->ready_backfill;
		/* tasks that wait for a worker are other work that waits */
		if (model->nwaiting_for_worker > 0 &&
			model->nbackfill_running >= share)
			return NULL;
	}
	else if (model->nbackfill_running < share &&
			 model->ready.ph_compare(pairingheap_first(&model->ready_backfill),
									 pairingheap_first(&model->ready),
									 NULL) > 0)
		heap = &model->ready_backfill;
	else
		heap = &model->ready;

	if (pairingheap_is_empty(heap))
		return NULL;
	return pairingheap_container(FpTask, node, pairingheap_first(heap));
}

/*
 * Whether all limits have room for a task; if not, it is moved to the heap of
 * the one that has none.
 */
static bool
fits(FpModel *model, FpTask *task, Room *room)
{
	FpDag	   *dag = task->run->dag;
	FpPool	   *pool = fp_model_task_spec(task)->pool;
	Role	   *role;
	MemoryContext previous;

	fp_model_take_task(model, task);
	if (task->run->is_callback)
		pool = NULL;			/* needs a worker, and that is all */
	else if (dag->nactive_tasks >= fp_model_max_active_tasks(dag))
	{
		if (!dag->is_blocked)
			dlist_push_tail(&model->blocked_dags, &dag->blocked_node);
		dag->is_blocked = true;
		fp_model_put_task(model, task, &dag->blocked);
		return false;
	}
	if (pool != NULL &&
		pool->used + fp_model_task_spec(task)->pool_slots > pool->slots)
	{
		fp_model_put_task(model, task,
						  &fp_model_pool_queue(model, pool,
											   fp_model_task_spec(task)->pool_slots)->tasks);
		return false;
	}
	role = find_role(fp_model_task_role(task));
	if (!role_has_room(role, room) || !reserve_lane(role))
	{
		if (role->blocked == NULL)
		{
			previous = MemoryContextSwitchTo(model->context);
			role->blocked = pairingheap_allocate(model->ready.ph_compare,
												 NULL);
			MemoryContextSwitchTo(previous);
		}
		fp_model_put_task(model, task, role->blocked);
		task->waits_for_worker = true;
		model->nwaiting_for_worker++;
		return false;
	}
	take_room(role, room);
	return true;
}

static void
assign(FpModel *model, FpTask *task, FpAttempts *attempts)
{
	FpRun	   *run = task->run;
	uint64		token = pg_atomic_fetch_add_u64(&fp_shared->next_token, 1);
	FpTaskRunBatch *batch = attempts->pokes;

	task->state = FP_TASK_RUN_RUNNING;
	task->is_woken = false;
	if (!task->is_rescheduled)
	{
		task->try_number++;
		batch = task->has_row ? attempts->again : attempts->first;
	}
	fp_model_set_token(model, task, token);
	if (run->is_callback)
	{
		attempts->callbacks = lappend(attempts->callbacks, run);
		return;
	}
	fp_task_run_store_batch_add(batch, run->run_id,
								run->dag->dag_id,
								fp_model_task_spec(task)->task_id, -1,
								task->try_number, FP_TASK_RUN_RUNNING);
	task->has_row = true;
}


/* ---- to workers ---- */

void
fp_dispatch_hand_over(FpModel *model, List *tasks)
{
	ListCell   *lc;
	Latch	  **latches;
	int			nlatches = 0;
	int			nwake = list_length(tasks);

	if (tasks == NIL)
		return;
	latches = palloc(sizeof(Latch *) * fp_shared->nworkers);

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	foreach(lc, tasks)
	{
		FpTask	   *task = lfirst(lc);
		int			index = find_lane(fp_model_task_role(task), false);
		FpLane	   *lane = &fp_shared->lanes[index];

		/* the plan has reserved it; a lane of ours is freed by us alone */
		Assert(index >= 0);
		Assert(lane->head - lane->tail < FP_LANE_SIZE);
		lane->mean_duration = find_role(lane->role)->mean_duration;
		if (lane->head == lane->tail)
			lane->moved_at = fp_clock_real();
		fill_assignment(&lane->ready[lane->head % FP_LANE_SIZE], task);
		lane->head++;
	}
	for (int i = 0; i < fp_shared->nworkers && nlatches < nwake; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_IDLE && !worker->must_stop &&
			worker->database == MyDatabaseId && worker->latch != NULL &&
			fp_shared->lanes[worker->lane].head !=
			fp_shared->lanes[worker->lane].tail)
			latches[nlatches++] = worker->latch;
	}
	LWLockRelease(fp_shared->lock);

	for (int i = 0; i < nlatches; i++)
		SetLatch(latches[i]);
}

static void
fill_assignment(FpAssignment *assignment, FpTask *task)
{
	FpRun	   *run = task->run;
	const FpTaskSpec *spec = fp_model_task_spec(task);

	assignment->token = task->token;
	assignment->run_id = run->run_id;
	assignment->version = run->version->version;
	assignment->map_index = run->is_callback ? FP_CALLBACK_MAP_INDEX : -1;
	assignment->operator = spec->operator;
	assignment->try_number = task->try_number;
	assignment->callback_id = run->callback_id;
	assignment->is_poke = task->is_rescheduled;
	assignment->may_retry = task->failures < spec->retries;
	assignment->has_conf = run->has_conf;
	assignment->retry_delay = fp_task_state_retry_delay(spec,
														task->failures + 1);
	assignment->execution_timeout = spec->execution_timeout;
	assignment->run_type = run->run_type;
	assignment->logical_date = run->logical_date;
	assignment->data_interval_start = run->data_interval_start;
	assignment->data_interval_end = run->data_interval_end;
	strlcpy(assignment->dag_id, run->dag->dag_id, FP_ID_SIZE);
	strlcpy(assignment->task_id, spec->task_id, FP_ID_SIZE);
}

/*
 * The lane of a role in this database; -1: it has none (and, with create,
 * none is free).  The caller holds the lock, exclusively with create.
 */
static int
find_lane(Oid role, bool create)
{
	int			free_lane = -1;

	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];

		if (lane->database == MyDatabaseId && lane->role == role)
			return i;
		if (free_lane < 0 && lane->database == InvalidOid)
			free_lane = i;
	}
	if (!create || free_lane < 0)
		return -1;
	fp_shared->lanes[free_lane].database = MyDatabaseId;
	fp_shared->lanes[free_lane].role = role;
	fp_shared->lanes[free_lane].head = 0;
	fp_shared->lanes[free_lane].tail = 0;
	fp_shared->lanes[free_lane].done_head = 0;
	fp_shared->lanes[free_lane].done_tail = 0;
	return free_lane;
}

bool
fp_dispatch_cancel(uint64 token, bool must_terminate)
{
	bool		was_waiting = false;

	LWLockAcquire(fp_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < fp_shared->nlanes && !was_waiting; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];

		if (lane->database != MyDatabaseId)
			continue;
		for (uint32 n = lane->tail; n != lane->head; n++)
		{
			if (lane->ready[n % FP_LANE_SIZE].token != token)
				continue;
			/* close the gap; what is behind moves up */
			for (uint32 m = n; m + 1 != lane->head; m++)
				lane->ready[m % FP_LANE_SIZE] =
					lane->ready[(m + 1) % FP_LANE_SIZE];
			lane->head--;
			was_waiting = true;
			break;
		}
	}
	for (int i = 0; i < fp_shared->nworkers && !was_waiting; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_BUSY &&
			worker->database == MyDatabaseId &&
			worker->current.token == token)
		{
			/* the worker takes the lock before it goes on to another */
			worker->cancel_token = token;
			(void) kill(worker->pid, must_terminate ? SIGTERM : SIGINT);
			break;
		}
	}
	LWLockRelease(fp_shared->lock);
	return was_waiting;
}

List *
fp_dispatch_adopt(void)
{
	List	   *result = NIL;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	for (int i = 0; i < fp_shared->nlanes; i++)
	{
		FpLane	   *lane = &fp_shared->lanes[i];

		if (lane->database != MyDatabaseId)
			continue;
		for (uint32 n = lane->tail; n != lane->head; n++)
		{
			FpAssignment *copy = palloc(sizeof(FpAssignment));

			*copy = lane->ready[n % FP_LANE_SIZE];
			result = lappend(result, copy);
		}
		for (uint32 n = lane->done_tail; n != lane->done_head; n++)
		{
			FpDone	   *done = &lane->done[n % FP_LANE_SIZE];
			FpAssignment *copy = palloc0(sizeof(FpAssignment));

			copy->token = done->token;
			copy->run_id = done->run_id;
			copy->map_index = done->map_index;
			copy->try_number = done->try_number;
			copy->callback_id = done->callback_id;
			strlcpy(copy->task_id, done->task_id, FP_ID_SIZE);
			result = lappend(result, copy);
		}
	}
	for (int i = 0; i < fp_shared->nworkers; i++)
	{
		FpWorkerSlot *worker = &fp_shared->workers[i];

		if (worker->state == FP_WORKER_BUSY &&
			worker->database == MyDatabaseId && worker->current.token != 0)
		{
			FpAssignment *copy = palloc(sizeof(FpAssignment));

			*copy = worker->current;
			result = lappend(result, copy);
		}
	}
	LWLockRelease(fp_shared->lock);
	return result;
}

void
fp_dispatch_reset(void)
{
	if (roles != NULL)
		hash_destroy(roles);
	roles = NULL;
}

static Role *
find_role(Oid role)
{
	Role	   *entry;
	bool		found;

	if (roles == NULL)
	{
		HASHCTL		control;

		memset(&control, 0, sizeof(control));
		control.keysize = sizeof(Oid);
		control.entrysize = sizeof(Role);
		control.hcxt = TopMemoryContext;
		roles = hash_create("flowpg roles", 16, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(roles, &role, HASH_ENTER, &found);
	if (!found)
	{
		memset(entry, 0, sizeof(Role));
		entry->role = role;
		entry->lane = -1;
	}
	return entry;
}
