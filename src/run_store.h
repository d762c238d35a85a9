/*-------------------------------------------------------------------------
 *
 * run_store.h
 *	  All SQL on dag_run, and the removal of old runs.
 *
 * Every function runs inside a transaction and opens its own owner scope, so
 * sessions, scheduler and workers call it alike.  Results are palloc'd in the
 * current memory context.  Who may write what: sessions, workers and the
 * scheduler insert runs; the scheduler alone changes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RUN_STORE_H
#define FLOWPG_RUN_STORE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "flowpg.h"

struct FpRow;

/* A row of flow.dag_run. */
typedef struct FpRunRow
{
	int64		run_id;
	char	   *dag_id;
	int			version;		/* 0: not started */
	FpRunType	run_type;
	FpRunState	state;
	TimestampTz logical_date;
	TimestampTz data_interval_start;
	TimestampTz data_interval_end;
	TimestampTz started_at;		/* DT_NOBEGIN: not started */
	bool		has_conf;		/* conf is not an empty object */
	int64		backfill_id;	/* 0: none */
	int64		parent_run_id;	/* 0: none */
	bool		is_cancelling;	/* running, and asked to stop */
	bool		has_rows;		/* flow.task_run may have rows of it */
} FpRunRow;

/*
 * Inserts a queued run and returns its run_id; 0 where a run that stands for
 * this interval (same dag_id and logical_date, not manual, no parent) is
 * there already.  conf: jsonb as text, NULL is an empty object.  The run_id
 * field of row is not used; its state is FP_RUN_QUEUED.
 */
extern int64 fp_run_store_insert(const FpRunRow *row, const char *conf,
								 TimestampTz queued_at);

/*
 * A run that stands for the same interval but was made for an earlier DAG of
 * this name, and has ended, is taken over: it is queued anew, its tasks
 * cleared, and row gets its run_id, version and has_rows.  False: there is none.
 */
extern bool fp_run_store_take_over(FpRunRow *row, TimestampTz queued_at);

/* NULL: no such run */
extern FpRunRow *fp_run_store_get(int64 run_id);

/* a run's conf as jsonb text */
extern char *fp_run_store_conf(int64 run_id);

/*
 * The runs of a DAG that stand for intervals (not manual ones, none with a
 * parent) whose data interval overlaps or starts in [from, until), in order of
 * logical_date, as a List of FpRunRow *.
 */
extern List *fp_run_store_between(const char *dag_id, TimestampTz from,
								  TimestampTz until);

/* every queued or running run, as a List of FpRunRow * (a scan: at start only) */
extern List *fp_run_store_unfinished(void);

/* A run's place in a backfill. */
typedef struct FpBackfillRunRow
{
	FpRunRow   *run;
	int64		ordinal;
	char	   *action;			/* create, failed, completed, cascade */
} FpBackfillRunRow;

/* the runs of a backfill in order, as a List of FpBackfillRunRow * */
extern List *fp_run_store_of_backfill(int64 backfill_id);

/* the successful runs of a DAG that ended since a real time */
extern List *fp_run_store_succeeded_since(const char *dag_id,
										  TimestampTz since);

/* scheduler: a run starts, ends, or goes back to the queue */
extern void fp_run_store_start(int64 run_id, int version, TimestampTz at);

/* false: nothing is done, for the tables do not have the version (any more) */
extern bool fp_run_store_start_if_kept(int64 run_id, const char *dag_id,
									   int version, TimestampTz at);
/* a running run is to be cancelled: known also after a stop of the server */
extern void fp_run_store_note_cancelling(int64 run_id);
extern void fp_run_store_end(int64 run_id, FpRunState state,
							 const char *message, TimestampTz at);
extern void fp_run_store_requeue(int64 run_id, int64 backfill_id,
								 TimestampTz at);

/*
 * For the other *_store.c: the columns of flow.dag_run r that
 * fp_run_store_read takes from the front of a row, and the runs that stand
 * for an interval (the predicate of dag_run_interval_key).
 *
 * A run that has never started has a row for each of its tasks that has been
 * marked, and no other; they are looked for with a subquery that cannot become
 * a hash of all of task_run, as EXISTS could.
 */
#define FP_RUN_COLUMNS \
	"r.run_id, r.dag_id, r.version, r.run_type, r.state, r.logical_date, " \
	"r.data_interval_start, r.data_interval_end, " \
	"r.conf OPERATOR(pg_catalog.<>) '{}', r.backfill_id, r.parent_run_id, " \
	"r.started_at, r.is_cancelling, r.version IS NOT NULL " \
	"OR (SELECT true FROM flow.task_run t WHERE t.run_id = r.run_id LIMIT 1)"
#define FP_NUM_RUN_COLUMNS 14

#define FP_STANDS_FOR_INTERVAL \
	"(r.run_type = 'scheduled' OR r.run_type = 'backfill' " \
	"OR (r.run_type = 'triggered' AND r.parent_run_id IS NULL))"

extern FpRunRow *fp_run_store_read(const struct FpRow *row);

#endif							/* FLOWPG_RUN_STORE_H */
