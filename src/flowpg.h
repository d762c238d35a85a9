/*-------------------------------------------------------------------------
 *
 * flowpg.h
 *	  Names, limits and the few types that every floor of flowpg shares.
 *
 * Floor 0: this file includes server headers only and no other file of
 * flowpg.  What is here is either part of the public contract (states, run
 * types, limits) or handed from floor to floor (FpRunContext).
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_H
#define FLOWPG_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "pgtime.h"

#define FP_EXTENSION "flowpg"

/* A dag_id or task_id has at most this many characters, as in Airflow. */
#define FP_ID_MAX_CHARS 250
/* The same in bytes, with the terminating zero (4 bytes a character). */
#define FP_ID_SIZE (FP_ID_MAX_CHARS * 4 + 4)

/* The first row that a sql task returns is kept up to this size. */
#define FP_RESULT_MAX_BYTES (64 * 1024)

/* A message kept in task_run is cut to this many bytes. */
#define FP_MESSAGE_MAX_BYTES 8192

/*
 * Life of a dag_run.  Beside each state: the states that may follow.  A
 * finished run goes back to queued when it is cleared or reprocessed.
 */
typedef enum FpRunState
{
	FP_RUN_QUEUED,				/* running, cancelled, success (no tasks) */
	FP_RUN_RUNNING,				/* success, failed, cancelled */
	FP_RUN_SUCCESS,				/* queued (cleared) */
	FP_RUN_FAILED,				/* queued (cleared) */
	FP_RUN_CANCELLED			/* queued (cleared) */
} FpRunState;

/*
 * Life of a task_run.  FP_TASK_RUN_NONE is a task that has not begun: it has
 * no row.
 */
typedef enum FpTaskRunState
{
	FP_TASK_RUN_NONE,			/* scheduled, skipped, upstream_failed,
								 * cancelled */
	FP_TASK_RUN_SCHEDULED,		/* running, cancelled; in memory only */
	FP_TASK_RUN_QUEUED,			/* running, cancelled */
	FP_TASK_RUN_RUNNING,		/* success, failed, up_for_retry, skipped,
								 * up_for_reschedule, cancelled */
	FP_TASK_RUN_SUCCESS,		/* none (cleared) */
	FP_TASK_RUN_FAILED,			/* none (cleared) */
	FP_TASK_RUN_UP_FOR_RETRY,	/* scheduled, cancelled */
	FP_TASK_RUN_UP_FOR_RESCHEDULE,	/* scheduled, cancelled */
	FP_TASK_RUN_SKIPPED,		/* none (cleared) */
	FP_TASK_RUN_UPSTREAM_FAILED,	/* none (cleared) */
	FP_TASK_RUN_CANCELLED,		/* none (cleared) */
	FP_TASK_RUN_REMOVED			/* - */
} FpTaskRunState;

typedef enum FpRunType
{
	FP_RUN_SCHEDULED,
	FP_RUN_MANUAL,
	FP_RUN_BACKFILL,
	FP_RUN_TRIGGERED
} FpRunType;

/* The kinds of tasks. */
typedef enum FpOperator
{
	FP_OPERATOR_SQL,
	FP_OPERATOR_UPSERT,
	FP_OPERATOR_CHECK,
	FP_OPERATOR_SENSOR,
	FP_OPERATOR_BRANCH,
	FP_OPERATOR_RETENTION,
	FP_OPERATOR_TRIGGER,
	FP_OPERATOR_CALLBACK		/* on_success or on_failure of a run; not
								 * among its tasks */
} FpOperator;

/*
 * Where a run's callback stands among its assignments: it has a row in
 * flow.callback and none in flow.task_run.
 */
#define FP_CALLBACK_MAP_INDEX (-2)

extern const char *fp_operator_name(FpOperator operator);
extern FpOperator fp_operator_parse(const char *name);
extern const char *fp_run_state_name(FpRunState state);
extern FpRunState fp_run_state_parse(const char *name);
extern bool fp_run_state_is_finished(FpRunState state);
extern const char *fp_task_run_state_name(FpTaskRunState state);
extern FpTaskRunState fp_task_run_state_parse(const char *name);
extern bool fp_task_run_state_is_finished(FpTaskRunState state);
extern const char *fp_run_type_name(FpRunType type);
extern FpRunType fp_run_type_parse(const char *name);

/*
 * The values of one task run that its SQL can name as run.*, and that
 * flow_context() returns.  Timestamps are DT_NOBEGIN where the run has none.
 */
typedef struct FpRunContext
{
	int64		run_id;
	const char *dag_id;
	const char *task_id;
	int			map_index;
	int			try_number;
	const char *run_type;
	const char *state;
	TimestampTz logical_date;
	TimestampTz data_interval_start;
	TimestampTz data_interval_end;
	const char *timezone;		/* the DAG's; for ds, local_start, local_end */
	const char *conf;			/* jsonb as text; NULL is an empty object */
	/* on_success and on_failure only; elsewhere both are NULL */
	const char *message;
	List	   *failed_tasks;	/* of char * */
} FpRunContext;

#endif							/* FLOWPG_H */
