/*-------------------------------------------------------------------------
 *
 * names.c
 *	  The words of the contract: states and run types, as text and back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "flowpg.h"

static const char *const run_state_names[] = {
	[FP_RUN_QUEUED] = "queued",
	[FP_RUN_RUNNING] = "running",
	[FP_RUN_SUCCESS] = "success",
	[FP_RUN_FAILED] = "failed",
	[FP_RUN_CANCELLED] = "cancelled",
};

static const char *const task_run_state_names[] = {
	[FP_TASK_RUN_NONE] = NULL,
	[FP_TASK_RUN_SCHEDULED] = "scheduled",
	[FP_TASK_RUN_QUEUED] = "queued",
	[FP_TASK_RUN_RUNNING] = "running",
	[FP_TASK_RUN_SUCCESS] = "success",
	[FP_TASK_RUN_FAILED] = "failed",
	[FP_TASK_RUN_UP_FOR_RETRY] = "up_for_retry",
	[FP_TASK_RUN_UP_FOR_RESCHEDULE] = "up_for_reschedule",
	[FP_TASK_RUN_SKIPPED] = "skipped",
	[FP_TASK_RUN_UPSTREAM_FAILED] = "upstream_failed",
	[FP_TASK_RUN_CANCELLED] = "cancelled",
	[FP_TASK_RUN_REMOVED] = "removed",
};

static const char *const run_type_names[] = {
	[FP_RUN_SCHEDULED] = "scheduled",
	[FP_RUN_MANUAL] = "manual",
	[FP_RUN_BACKFILL] = "backfill",
	[FP_RUN_TRIGGERED] = "triggered",
};

static const char *const operator_names[] = {
	[FP_OPERATOR_SQL] = "sql",
	[FP_OPERATOR_UPSERT] = "upsert",
	[FP_OPERATOR_CHECK] = "check",
	[FP_OPERATOR_SENSOR] = "sensor",
	[FP_OPERATOR_BRANCH] = "branch",
	[FP_OPERATOR_RETENTION] = "retention",
	[FP_OPERATOR_TRIGGER] = "trigger",
	[FP_OPERATOR_CALLBACK] = "callback",
};

static int
find_name(const char *const *names, int n, const char *name, const char *kind)
{
	for (int i = 0; i < n; i++)
	{
		if (names[i] != NULL && strcmp(names[i], name) == 0)
			return i;
	}
	elog(ERROR, "unrecognized %s: \"%s\"", kind, name);
	return 0;					/* keep compiler quiet */
}

const char *
fp_operator_name(FpOperator operator)
{
	return operator_names[operator];
}

FpOperator
fp_operator_parse(const char *name)
{
	return find_name(operator_names, lengthof(operator_names), name,
					 "operator");
}

const char *
fp_run_state_name(FpRunState state)
{
	return run_state_names[state];
}

FpRunState
fp_run_state_parse(const char *name)
{
	return find_name(run_state_names, lengthof(run_state_names), name,
					 "dag_run state");
}

bool
fp_run_state_is_finished(FpRunState state)
{
	return state == FP_RUN_SUCCESS || state == FP_RUN_FAILED ||
		state == FP_RUN_CANCELLED;
}

const char *
fp_task_run_state_name(FpTaskRunState state)
{
	return task_run_state_names[state];
}

/* NULL is a task that has not begun. */
FpTaskRunState
fp_task_run_state_parse(const char *name)
{
	if (name == NULL)
		return FP_TASK_RUN_NONE;
	return find_name(task_run_state_names, lengthof(task_run_state_names),
					 name, "task_run state");
}

bool
fp_task_run_state_is_finished(FpTaskRunState state)
{
	switch (state)
	{
		case FP_TASK_RUN_SUCCESS:
		case FP_TASK_RUN_FAILED:
		case FP_TASK_RUN_SKIPPED:
		case FP_TASK_RUN_UPSTREAM_FAILED:
		case FP_TASK_RUN_CANCELLED:
		case FP_TASK_RUN_REMOVED:
			return true;
		case FP_TASK_RUN_NONE:
		case FP_TASK_RUN_SCHEDULED:
		case FP_TASK_RUN_QUEUED:
		case FP_TASK_RUN_RUNNING:
		case FP_TASK_RUN_UP_FOR_RETRY:
		case FP_TASK_RUN_UP_FOR_RESCHEDULE:
			break;
	}
	return false;
}

const char *
fp_run_type_name(FpRunType type)
{
	return run_type_names[type];
}

FpRunType
fp_run_type_parse(const char *name)
{
	return find_name(run_type_names, lengthof(run_type_names), name,
					 "run type");
}
