/*-------------------------------------------------------------------------
 *
 * model.h
 *	  The scheduler's memory: DAGs, their queues, active runs, limits.
 *
 * A cache of the tables, built when a scheduler starts and again after any
 * error.  All of it lives in one memory context (FpModel.context).  Only
 * unfinished runs are in it; finished ones cost nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_MODEL_H
#define FLOWPG_MODEL_H

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "storage/itemptr.h"
#include "utils/hsearch.h"

#include "dag_store.h"
#include "flowpg.h"
#include "run_store.h"
#include "schedule.h"
#include "task_run_store.h"
#include "trigger_rule.h"

/* Open in this many server crashes in a row: runs alone with its like. */
#define FP_SUSPECT_CRASHES 3
/* ... and in this many: fails. */
#define FP_MAX_CRASHES 6

typedef struct FpDag FpDag;
typedef struct FpRun FpRun;
typedef struct FpBackfill FpBackfill;
typedef struct FpPool FpPool;

/* One task of a version: what does not change while runs go on. */
typedef struct FpTaskSpec
{
	char	   *task_id;
	FpOperator	operator;
	FpTriggerRule rule;
	int			nupstream;
	int		   *upstream;		/* indexes into the version's tasks */
	int			ndownstream;
	int		   *downstream;
	int			retries;
	int64		retry_delay;	/* us */
	bool		has_backoff;
	int64		max_retry_delay;	/* us; 0: none */
	int64		execution_timeout;	/* us; 0: none */
	FpPool	   *pool;
	int			pool_slots;
	int			priority_weight;
	bool		depends_on_past;
} FpTaskSpec;

/*
 * A definition that active runs use, or that the next run of its DAG will:
 * see keep_or_free_version in model.c.
 */
typedef struct FpVersion
{
	MemoryContext context;		/* holds this struct and all below */
	int			version;
	int64		dagrun_timeout; /* us; 0: none */
	bool		has_on_success;
	bool		has_on_failure;
	int			nruns;
	int			ntasks;
	FpTaskSpec  *tasks;
	dlist_node	node;			/* in FpDag.versions */
} FpVersion;

/*
 * One task of an active run.  It is in at most one heap: the ready heap, or
 * the heap of the limit that it waits for; or, up_for_retry, in the timers.
 */
typedef struct FpTask
{
	FpRun	   *run;
	int			index;			/* of its FpTaskSpec */
	FpTaskRunState state;
	bool		has_row;		/* flow.task_run has a row for it */
	bool		waits_for_worker;	/* of its role; else of another limit */
	bool		is_rescheduled; /* the same attempt goes on */
	bool		is_woken;		/* a run that it waits for has ended while it
								 * was at a worker */
	int64		to_clear;		/* its attempt is being cancelled so that it
								 * can run anew: the request; 0: it is not */
	bool		waits_for_past; /* past_node is in FpDag.waiting_for_past */
	bool		is_past_met;	/* its previous run allows it */
	bool		is_past_queued; /* check_node is in FpModel.past_checks */
	int			try_number;		/* of the latest attempt; 0: none */
	int			failures;
	int			crashes;
	TimestampTz retry_at;
	uint64		token;			/* of the attempt at a worker; 0: none */
	FpUpstreamCounts upstream;	/* how its upstream tasks have ended */
	int			nopen_branches; /* direct upstream branches that have not */
	pairingheap *heap;			/* the heap it is in, or NULL */
	pairingheap_node node;
	dlist_node	past_node;
	dlist_node	check_node;
} FpTask;

/* The queue of a DAG's own runs, or of its runs in one backfill. */
typedef struct FpQueue
{
	FpDag	   *dag;
	FpBackfill *backfill;		/* NULL: the DAG's own */
	int			nactive;		/* running runs that are not parked */
	int			nparked;
	int			nqueued;		/* in queued */
	pairingheap queued;			/* FpRun.queue_node: may start */
	dlist_head	waiting;		/* FpRun.waiting_node: for asis DAGs, or for
								 * the DAG to be resumed */
	dlist_node	dag_node;		/* in FpDag.queues */
	dlist_node	backfill_node;	/* in FpBackfill.queues */
} FpQueue;

struct FpRun
{
	int64		run_id;			/* hash key */
	FpDag	   *dag;
	FpQueue    *queue;
	FpVersion  *version;		/* NULL: queued */
	FpRunType	run_type;
	FpRunState	state;
	TimestampTz logical_date;
	TimestampTz data_interval_start;
	TimestampTz data_interval_end;
	int64		ordinal;		/* in its backfill; else 0 */
	bool		has_conf;
	bool		waits_for_asis; /* asks its asis DAGs before it starts */
	bool		has_rows;		/* flow.task_run may have rows of it already */
	bool		is_waiting;		/* in queue->waiting, else in queue->queued */
	bool		is_callback;	/* not a run of its own; see callbacks.c */
	int64		callback_id;
	Oid			callback_role;
	bool		is_in_queue;	/* in one of its queue's lists */
	bool		is_parked;		/* runs, but only waits for an earlier run: holds
								 * no slot of max_active_runs */
	bool		is_timed_out;	/* cancelled by dagrun_timeout: fails */
	bool		is_put_off;		/* in FpModel.locked_runs */
	bool		is_in_deadlines;
	bool		is_cancelling;
	int			ncancels;		/* times its workers have been asked to stop */
	char		cancel_message[128];
	int			priority;
	int			nunfinished;	/* tasks not in a final state */
	int			nlive;			/* tasks ready, at workers, or waiting for a
								 * time */
	int			nrunning;		/* tasks at workers */
	int64		parent_run_id;	/* 0: none */
	TimestampTz deadline;		/* real time; valid if is_in_deadlines */
	pairingheap_node deadline_node;
	FpTask	   *tasks;			/* one a task of the version */
	pairingheap_node queue_node;
	dlist_node	waiting_node;
	dlist_node	dag_node;		/* in FpDag.runs */
	slist_node	ended_node;		/* in FpModel.ended */
};

struct FpDag
{
	char		dag_id[FP_ID_SIZE]; /* hash key */
	MemoryContext context;		/* holds what a reload replaces */
	FpDagRow   *row;			/* NULL: dropped; unfinished runs go on to be
								 * cancelled */
	FpSchedule *schedule;		/* NULL: broken or none */
	bool		is_broken;		/* its timezone or schedule cannot be read: what
								 * nobody asks for by name does not run */
	FpRunBounds bounds;
	bool		is_behind;		/* a run is due and max_active_runs has no
								 * room */
	bool		is_put_off;		/* in FpModel.locked_dags */
	bool		is_drop_pending;	/* what was asked for when the one before it
								 * of this name was dropped has not been done
								 * yet: see requests.c */
	bool		is_progress_lost;	/* of bounds.last, which a session's lock kept
								 * from being recorded */
	bool		has_next;
	FpInterval	next;			/* next interval to be made */
	bool		is_in_due;
	pairingheap_node due_node;	/* in FpModel.due */
	int			nactive_tasks;
	pairingheap blocked;		/* tasks that wait for max_active_tasks */
	bool		is_blocked;		/* blocked_node is in a list */
	dlist_node	blocked_node;	/* in FpModel.blocked_dags */
	FpQueue		own;			/* queue of its own runs */
	dlist_head	queues;			/* of FpQueue.dag_node */
	dlist_head	versions;		/* of FpVersion.node */
	dlist_head	runs;			/* of FpRun.dag_node: all unfinished ones */
	dlist_head	waiting_for_past;	/* of FpTask.past_node */
	FpSchedule *effective;		/* cached, may be NULL; see link.c */
	uint64		effective_as_of;	/* valid if that is the definitions' count */
	bool		is_readable;	/* likewise: neither it nor a DAG that gives it
								 * its intervals is broken */
	ItemPointerData coverage_place; /* hints, see coverage_store.h */
	ItemPointerData log_place;
	ItemPointerData progress_place;
	TimestampTz caught_up_since;	/* the pause that has been made up for */
	bool		is_dirty;		/* runs may be able to start */
	slist_node	dirty_node;
};

struct FpBackfill
{
	int64		backfill_id;	/* hash key */
	char	   *dag_id;
	bool		is_paused;
	bool		is_cancelled;
	bool		stop_on_failure;
	bool		ignore_depends_on_past;
	int			window_start;	/* run_window in minutes of the day; -1: none */
	int			window_end;
	int			max_active_runs;	/* -1: the DAG's */
	int			priority;
	int			nunfinished;	/* runs */
	dlist_head	queues;			/* of FpQueue.backfill_node */
};

struct FpPool
{
	char		pool[FP_ID_SIZE];	/* hash key */
	int			slots;
	int			used;
	dlist_head	blocked;		/* FpPoolQueue.node: tasks that wait for slots */
};

/*
 * The tasks of a pool that wait for the same number of slots: one that is too
 * wide for what is free holds up no narrower one.
 */
typedef struct FpPoolQueue
{
	int			pool_slots;
	pairingheap tasks;
	dlist_node	node;
} FpPoolQueue;

/* Which DAGs wait for one, by name: it need not be a DAG of flowpg. */
typedef struct FpAsis
{
	char		dag_id[FP_ID_SIZE]; /* hash key */
	List	   *tobe;			/* FpDag * */
} FpAsis;

typedef struct FpModel
{
	MemoryContext context;
	HTAB	   *dags;			/* by dag_id */
	HTAB	   *runs;			/* FpRun * by run_id */
	HTAB	   *backfills;		/* by backfill_id */
	HTAB	   *pools;			/* by name */
	HTAB	   *asis;			/* FpAsis by dag_id */
	HTAB	   *tokens;			/* FpTask * by token */
	pairingheap due;			/* FpDag.due_node by next.end */
	pairingheap timers;			/* FpTask.node by retry_at */
	pairingheap deadlines;		/* FpRun.deadline_node by deadline */
	dlist_head	past_checks;	/* FpTask.check_node: whether their previous
								 * run allows them is to be looked up */
	pairingheap ready;			/* FpTask.node by importance */
	pairingheap ready_backfill; /* the same, of backfill runs */
	pairingheap suspects;		/* ready tasks that were open in crashes */
	dlist_head	blocked_dags;	/* FpDag.blocked_node */
	slist_head	dirty;			/* FpDag.dirty_node */
	slist_head	ended;			/* FpRun.ended_node: nunfinished is 0 */
	List	   *later;			/* FpDag *: have more due runs than one cycle
								 * makes */
	List	   *locked_dags;	/* FpDag *: a session's lock was in the way of a
								 * due run, ... */
	List	   *locked_runs;	/* FpRun *: ... of the end of a run */
	TimestampTz retry_at;		/* real time at which some of these are tried
								 * again; DT_NOEND: there are none */
	TimestampTz set_off_at;		/* real time at which to go on with runs that
								 * success has set off; DT_NOEND: none are left */
	int64		next_set_off;	/* rows of flow.set_off before this are done */
	int			nset_off;		/* intervals looked at in this cycle, see link.c */
	bool		has_crashed;	/* the server has, since the last scheduler */
	uint64		ndefinitions;	/* counts changes of any definition */
	int			nruns;			/* running */
	int			nready;
	int			nrunning;		/* tasks at workers */
	int			nbackfill_running;	/* those of backfill runs */
	int			nsuspects_running;
	int			nwaiting_for_worker;	/* ready tasks that wait for one */
	List	   *lost;			/* FpLostAttempt *: see scheduler_cycle.c */
	List	   *cancelling;		/* FpRun *: with attempts that are to stop */
	TimestampTz reminded_at;	/* when their workers were last told */
	int			nspare_specs;	/* of versions without runs, see model.c */
	List	   *notifications;	/* char *: to be sent after the commit */
	FpTaskRunBatch *decided;	/* states to be recorded in this cycle */
	const char *shortage;		/* what is short; empty: nothing */
	char		problem[256];	/* a DAG that cannot be read; scheduler_status
								 * shows it, or else the shortage */
} FpModel;

extern FpModel *fp_model_new(void);
extern void fp_model_free(FpModel *model);

/* DAGs */
extern FpDag *fp_model_dag(FpModel *model, const char *dag_id, bool create);
extern void fp_model_load_dags(FpModel *model);
extern void fp_model_reload_dag(FpModel *model, const char *dag_id);
extern void fp_model_set_next(FpModel *model, FpDag *dag, TimestampTz now);
extern void fp_model_mark_dirty(FpModel *model, FpDag *dag);
extern List *fp_model_tobe(FpModel *model, const char *asis_dag);
extern int	fp_model_max_active_runs(const FpQueue *queue);
extern int	fp_model_max_active_tasks(const FpDag *dag);

/* pools */
extern FpPool *fp_model_pool(FpModel *model, const char *pool);
extern void fp_model_load_pools(FpModel *model);
extern FpPoolQueue *fp_model_pool_queue(FpModel *model, FpPool *pool,
										int pool_slots);

/* runs: fp_model_add_run enters a queued run; start_run makes it running */
extern FpRun *fp_model_run(FpModel *model, int64 run_id);
extern FpRun *fp_model_add_run(FpModel *model, const FpRunRow *row,
							   int64 ordinal);
extern void fp_model_start_run(FpModel *model, FpRun *run, int version,
							   List *task_versions, List *task_runs);
extern FpVersion *fp_model_find_version(FpDag *dag, int version);
extern void fp_model_enqueue_run(FpModel *model, FpRun *run, bool waiting);
extern void fp_model_dequeue_run(FpRun *run);
extern void fp_model_remove_run(FpModel *model, FpRun *run);

/* backfills */
extern FpBackfill *fp_model_backfill(FpModel *model, int64 backfill_id,
									 bool create);
extern void fp_model_remove_backfill(FpModel *model, FpBackfill *backfill);

/* tasks: in and out of heaps */
extern void fp_model_put_task(FpModel *model, FpTask *task,
							  pairingheap *heap);
extern void fp_model_take_task(FpModel *model, FpTask *task);
extern pairingheap *fp_model_ready_heap(FpModel *model, const FpTask *task);
extern void fp_model_make_ready(FpModel *model, FpTask *task);
extern void fp_model_check_past(FpModel *model, FpTask *task);
extern void fp_model_forget_past(FpTask *task);
extern void fp_model_set_token(FpModel *model, FpTask *task, uint64 token);
extern FpTask *fp_model_task_by_token(FpModel *model, uint64 token);
extern const FpTaskSpec *fp_model_task_spec(const FpTask *task);
extern Oid	fp_model_task_role(const FpTask *task);

/*
 * Whether a version is one of the DAG that there is now, and not of a dropped
 * one of the same name, which may have been another role's.
 */
extern bool fp_model_is_own_version(const FpDag *dag, int version);

/* Whether a run has started with such a version of a dropped DAG. */
extern bool fp_model_is_foreign_run(const FpRun *run);

#endif							/* FLOWPG_MODEL_H */
