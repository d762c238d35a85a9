/*-------------------------------------------------------------------------
 *
 * task_exec.c
 *	  Run one attempt of a task run in a worker.
 *
 * The process is connected as the DAG's owner.  What a task writes and the
 * record that it has succeeded are one transaction; the record is written
 * around the user's SQL, as the extension's owner, and finds the attempt only
 * while it is open (run_store.c).  A failure is recorded in a transaction of
 * its own, after the task's has been rolled back.
 *
 * A worker does not wait for its commits to reach disk: it reports the
 * commit's position, and the scheduler flushes up to it before it builds on
 * it.  It does wait where something outside this database hangs on the
 * commit.
 *
 * Timers: one ends the attempt at its execution_timeout, as a cancel request
 * would.  Another, each second, repeats that for code that swallows it, ends
 * the process when nothing helps, and ends it at once when the postmaster is
 * gone, for a worker that computes would otherwise keep the server from
 * starting again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "callback_store.h"
#include "clock.h"
#include "dag_rights.h"
#include "dag_store.h"
#include "help.h"
#include "operators.h"
#include "request_store.h"
#include "run_store.h"
#include "spi_util.h"
#include "task_exec.h"
#include "task_run_store.h"
#include "upsert.h"
#include "user_sql.h"
#include "version_store.h"

/* A task that waits for a run it has triggered is woken; this is for safety. */
#define TRIGGER_POKE_US (60 * USECS_PER_SEC)

#define HEARTBEAT_MS 1000
/* an attempt that may have used much memory, in us */
#define LONG_US USECS_PER_SEC
/* bytes; see keep_heap_small */
#define LARGE_BLOCK (64 * 1024)
#define HEAP_SLACK (1024 * 1024)
/* Code that swallows its cancellation this many times loses its worker. */
#define MAX_CANCELS 10

/*
 * Memory for the commands of tasks that a worker keeps; all are forgotten when
 * it is full.  Some thousands of short ones.
 */
#define COMMAND_CACHE_SIZE (4 * 1024 * 1024)

typedef struct CommandKey
{
	int32		version;
	const char *dag_id;
	const char *task_id;
} CommandKey;

typedef struct CachedCommand
{
	CommandKey	key;
	FpTaskCommand *command;
} CachedCommand;

/*
 * The first attempt of a worker also fills its caches, which takes some
 * milliseconds that those after it do not need.
 */
#define WARM_UP_US 20000

/* The attempt that runs now. */
typedef struct Attempt
{
	const FpAssignment *assignment;
	FpWorkerSlot *slot;
	FpTaskCommand *command;
	FpRunContext context;
	TimestampTz started_at;
	FpOutcome	outcome;		/* where it has not failed */
	TimestampTz poke_at;		/* rescheduled: when it goes on */
	bool		is_recorded;	/* its end is in the current transaction, or
								 * committed */
	int			initial_synchronous_commit;
} Attempt;

static MemoryContext task_context = NULL;
static MemoryContext command_context = NULL;
static HTAB *commands = NULL;

/* a first attempt has been made */
static bool is_warm = false;

static TimeoutId heartbeat_timeout;
static TimeoutId deadline_timeout;
static volatile sig_atomic_t is_timed_out = false;
static volatile sig_atomic_t ncancels = 0;

static void reset_session(void);
static void run_attempt(Attempt *attempt);
static void prepare(Attempt *attempt);
static void run_sql(Attempt *attempt);
static void run_upsert(Attempt *attempt);
static void help_upsert(Attempt *attempt);
static void run_check(Attempt *attempt);
static void run_sensor(Attempt *attempt);
static void run_branch(Attempt *attempt);
static void run_retention(Attempt *attempt);
static void run_trigger(Attempt *attempt);
static void run_callback(Attempt *attempt);
static void begin_simple(Attempt *attempt);
static void end_simple(Attempt *attempt, FpAttemptEnd *end);
static void fill_end(const Attempt *attempt, FpAttemptEnd *end,
					 FpTaskRunState state);
static void reschedule(Attempt *attempt, TimestampTz poke_at);
static char *param_text(Attempt *attempt, const char *name);
static bool param_bool(Attempt *attempt, const char *name);
static int64 param_interval(Attempt *attempt, const char *name);
static FpUpsertDef *find_upsert(Attempt *attempt, FpUpsertStart *start);
static void page_done(const FpPageRecord *page, bool is_last, void *arg);
static void record_success(Attempt *attempt, const FpUserSqlResult *result);
static void record_failure(Attempt *attempt, ErrorData *error, FpDone *done);
static void commit_later(const Attempt *attempt);
static FpTaskCommand *find_command(const FpAssignment *assignment);
static FpTaskCommand *find_callback(Attempt *attempt);
static char *activity_text(const Attempt *attempt);
static char *error_message(const Attempt *attempt, const ErrorData *error);
static char *foreign_context(const Attempt *attempt, const char *context);
static char *own_context(const Attempt *attempt);
static void error_context(void *arg);
static void start_timers(int64 execution_timeout);
static void stop_timers(void);
static uint32 hash_command_key(const void *key, Size keysize);
static int	match_command_keys(const void *key1, const void *key2,
							   Size keysize);
static void keep_heap_small(void);
static void clean_up(const Attempt *attempt, MemoryContext previous);
static void handle_heartbeat(void);
static void handle_deadline(void);

void
fp_task_exec_init(void)
{
	task_context = AllocSetContextCreate(TopMemoryContext, "flowpg task",
										 ALLOCSET_DEFAULT_SIZES);
	keep_heap_small();
	heartbeat_timeout = RegisterTimeout(USER_TIMEOUT, handle_heartbeat);
	deadline_timeout = RegisterTimeout(USER_TIMEOUT, handle_deadline);
}

void
fp_task_exec_run(const FpAssignment *assignment, FpWorkerSlot *slot,
				 FpDone *done)
{
	MemoryContext previous = MemoryContextSwitchTo(task_context);
	ErrorContextCallback callback;
	Attempt    *attempt = palloc0(sizeof(Attempt));

	attempt->assignment = assignment;
	attempt->slot = slot;
	attempt->started_at = fp_clock_real();
	attempt->outcome = FP_OUTCOME_SUCCESS;

	done->token = assignment->token;
	done->run_id = assignment->run_id;
	done->map_index = assignment->map_index;
	done->try_number = assignment->try_number;
	done->callback_id = assignment->callback_id;
	done->outcome = FP_OUTCOME_SUCCESS;
	done->will_retry = false;
	done->has_begun = true;
	done->retry_at = DT_NOBEGIN;
	done->worker_pid = MyProcPid;
	strlcpy(done->task_id, assignment->task_id, FP_ID_SIZE);

	callback.callback = error_context;
	callback.arg = attempt;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	PG_TRY();
	{
		start_timers(assignment->execution_timeout);
		run_attempt(attempt);
		stop_timers();
		done->outcome = attempt->outcome;
		done->retry_at = attempt->poke_at;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		stop_timers();
		MemoryContextSwitchTo(task_context);
		error = CopyErrorData();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		fp_spi_free_user_plans();
		MemoryContextSwitchTo(task_context);
		QueryCancelPending = false;
		RESUME_INTERRUPTS();

		fp_help_stop();
		record_failure(attempt, error, done);
	}
	PG_END_TRY();

	error_context_stack = callback.previous;
	done->lsn = XactLastCommitEnd;
	done->duration = fp_clock_real() - attempt->started_at;
	if (!is_warm && done->duration < WARM_UP_US)
		done->duration = 0;
	is_warm = true;
	clean_up(attempt, previous);
}

/*
 * What fails here is left to the leader, who takes over what was begun, and
 * fails with the same error or does not.
 */
void
fp_task_exec_help(const FpAssignment *assignment, FpWorkerSlot *leader)
{
	MemoryContext previous = MemoryContextSwitchTo(task_context);
	ErrorContextCallback callback;
	Attempt    *attempt = palloc0(sizeof(Attempt));

	attempt->assignment = assignment;
	attempt->slot = leader;
	attempt->started_at = fp_clock_real();

	callback.callback = error_context;
	callback.arg = attempt;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	PG_TRY();
	{
		start_timers(0);
		prepare(attempt);
		help_upsert(attempt);
		stop_timers();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		stop_timers();
		if (geterrcode() != ERRCODE_QUERY_CANCELED)
			EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		fp_spi_free_user_plans();
		MemoryContextSwitchTo(task_context);
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();

	error_context_stack = callback.previous;
	clean_up(attempt, previous);
}

/*
 * Large blocks go back to the system as soon as they are freed.  Left to
 * itself, malloc takes them from the heap once it has seen a few, and keeps
 * them there; the pages of a wide table leave one as large as all of them.
 */
static void
keep_heap_small(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
	mallopt(M_TRIM_THRESHOLD, HEAP_SLACK);
#endif
}

/*
 * After an attempt.  What a long one has used and freed in small blocks goes
 * back as well, for a worker lives long.
 */
static void
clean_up(const Attempt *attempt, MemoryContext previous)
{
	bool		was_long = fp_clock_real() - attempt->started_at >= LONG_US;

	reset_session();
	MemoryContextSwitchTo(previous);
	MemoryContextReset(task_context);
#ifdef __GLIBC__
	if (was_long)
		malloc_trim(0);
#else
	(void) was_long;
#endif
}

/* The session is as new. */
static void
reset_session(void)
{
	fp_user_sql_set_context(NULL);
	debug_query_string = NULL;
	pgstat_report_activity(STATE_IDLE, NULL);
	fp_user_sql_reset_session();
}

static void
run_attempt(Attempt *attempt)
{
	prepare(attempt);
	switch (attempt->assignment->operator)
	{
		case FP_OPERATOR_SQL:
			run_sql(attempt);
			break;
		case FP_OPERATOR_UPSERT:
			run_upsert(attempt);
			break;
		case FP_OPERATOR_CHECK:
			run_check(attempt);
			break;
		case FP_OPERATOR_SENSOR:
			run_sensor(attempt);
			break;
		case FP_OPERATOR_BRANCH:
			run_branch(attempt);
			break;
		case FP_OPERATOR_RETENTION:
			run_retention(attempt);
			break;
		case FP_OPERATOR_TRIGGER:
			run_trigger(attempt);
			break;
		case FP_OPERATOR_CALLBACK:
			run_callback(attempt);
			break;
	}
}

/*
 * Makes the session what the DAG's owner expects, and the run's values known.
 */
static void
prepare(Attempt *attempt)
{
	const FpAssignment *assignment = attempt->assignment;
	FpRunContext *context = &attempt->context;
	bool		is_callback = assignment->operator == FP_OPERATOR_CALLBACK;
	FpTaskCommand *command = is_callback ? find_callback(attempt)
		: find_command(assignment);

	attempt->command = command;
	context->run_id = assignment->run_id;
	context->dag_id = assignment->dag_id;
	context->task_id = assignment->task_id;
	context->map_index = assignment->map_index;
	context->try_number = assignment->try_number;
	context->run_type = fp_run_type_name(assignment->run_type);
	if (!is_callback)
		context->state = fp_run_state_name(FP_RUN_RUNNING);
	context->logical_date = assignment->logical_date;
	context->data_interval_start = assignment->data_interval_start;
	context->data_interval_end = assignment->data_interval_end;
	context->timezone = command->timezone;
	if (assignment->has_conf)
	{
		fp_spi_begin_transaction(NULL);
		MemoryContextSwitchTo(task_context);
		context->conf = fp_run_store_conf(assignment->run_id);
		fp_spi_commit_transaction();
		MemoryContextSwitchTo(task_context);
	}

	/* until fp_user_sql_reset_session */
	SetConfigOption("search_path", command->search_path, PGC_USERSET,
					PGC_S_SESSION);
	SetConfigOption("timezone", command->timezone, PGC_USERSET,
					PGC_S_SESSION);
	attempt->initial_synchronous_commit = synchronous_commit;

	debug_query_string = activity_text(attempt);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	fp_user_sql_set_context(context);
}


/* ---- sql ---- */

static void
run_sql(Attempt *attempt)
{
	FpTaskCommand *command = attempt->command;
	FpUserSqlResult result = {0};

	fp_spi_begin_transaction(NULL);
	MemoryContextSwitchTo(task_context);
	if (command->in_transaction)
	{
		fp_user_sql_run(command->command, &attempt->context, &result);
		record_success(attempt, &result);
		commit_later(attempt);
		fp_user_sql_end_block();
	}
	else
	{
		fp_user_sql_run_outside(command->command, &attempt->context, &result);
		record_success(attempt, &result);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
}


/* ---- upsert ---- */

static void
run_upsert(Attempt *attempt)
{
	FpUpsertStart start;
	FpUpsertDef *def = find_upsert(attempt, &start);

	pg_atomic_write_u64(&attempt->slot->pages, start.pages);
	pg_atomic_write_u64(&attempt->slot->rows_written, start.rows_written);
	fp_upsert_run(def, &attempt->context, &start, page_done, attempt);
	MemoryContextSwitchTo(task_context);
	if (!attempt->is_recorded)
		elog(ERROR, "an upsert has ended without its last page");
}

static void
help_upsert(Attempt *attempt)
{
	FpUpsertStart start;
	FpUpsertDef *def = find_upsert(attempt, &start);

	fp_upsert_help(def, &attempt->context, &start, page_done, attempt);
	MemoryContextSwitchTo(task_context);
}

/* The definition, and where the attempt is. */
static FpUpsertDef *
find_upsert(Attempt *attempt, FpUpsertStart *start)
{
	const FpAssignment *assignment = attempt->assignment;
	FpUpsertDef *def;
	FpTaskRunRow *row;

	memset(start, 0, sizeof(FpUpsertStart));
	fp_spi_begin_transaction(NULL);
	MemoryContextSwitchTo(task_context);
	def = fp_upsert_from_jsonb(DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
																  CStringGetDatum(attempt->command->params))));
	row = fp_task_run_store_get(assignment->run_id, assignment->task_id,
								assignment->map_index);
	if (row != NULL)
	{
		start->pages = row->pages;
		start->rows_written = row->rows_written;
		start->position = row->position;
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
	return def;
}

/* In the page's transaction, which commits when this returns. */
static void
page_done(const FpPageRecord *page, bool is_last, void *arg)
{
	Attempt    *attempt = arg;
	const FpAssignment *assignment = attempt->assignment;

	fp_task_run_store_record_page(assignment->run_id, assignment->task_id,
								  assignment->map_index,
								  assignment->try_number, page);
	if (is_last)
		record_success(attempt, NULL);
	commit_later(attempt);
	pg_atomic_fetch_add_u64(&attempt->slot->pages, page->pages);
	pg_atomic_fetch_add_u64(&attempt->slot->rows_written, page->rows_written);
	pg_atomic_fetch_add_u64(&attempt->slot->rows_read, page->rows_read);
	if (page->rows_expected > 0)
		pg_atomic_write_u64(&attempt->slot->rows_expected,
							page->rows_expected);
}


/* ---- check, sensor, branch, trigger ---- */

/* Those that run in one transaction, which also records their end. */
static void
begin_simple(Attempt *attempt)
{
	fp_spi_begin_transaction(NULL);
	MemoryContextSwitchTo(task_context);
}

static void
end_simple(Attempt *attempt, FpAttemptEnd *end)
{
	fp_task_run_store_end_attempt(end);
	attempt->is_recorded = true;
	commit_later(attempt);
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
}

static void
run_check(Attempt *attempt)
{
	char	   *severity = param_text(attempt, "severity");
	FpCondition condition;
	FpAttemptEnd end;

	begin_simple(attempt);
	fp_operator_condition(param_text(attempt, "condition"),
						  &attempt->context, &condition);
	if (!condition.is_true &&
		(severity == NULL || strcmp(severity, "warn") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("check \"%s\" failed: %s",
						attempt->assignment->task_id, condition.message)));
	fill_end(attempt, &end, FP_TASK_RUN_SUCCESS);
	if (!condition.is_true)
		end.message = psprintf("warning: %s", condition.message);
	end_simple(attempt, &end);
}

/*
 * One look at the condition.  Where it is not true the worker is free until
 * the next one; the attempt goes on.
 */
static void
run_sensor(Attempt *attempt)
{
	const FpAssignment *assignment = attempt->assignment;
	FpCondition condition;
	FpAttemptEnd end;
	FpTaskRunRow *row;
	int64		timeout = param_interval(attempt, "timeout");

	begin_simple(attempt);
	row = fp_task_run_store_get(assignment->run_id, assignment->task_id,
								assignment->map_index);
	if (row != NULL && row->started_at != DT_NOBEGIN)
		attempt->started_at = row->started_at;
	fp_operator_condition(param_text(attempt, "condition"),
						  &attempt->context, &condition);
	if (condition.is_true)
	{
		fill_end(attempt, &end, FP_TASK_RUN_SUCCESS);
		end_simple(attempt, &end);
	}
	else if (timeout <= 0 ||
			 fp_clock_real() < attempt->started_at + timeout)
		reschedule(attempt,
				   fp_clock_after(param_interval(attempt, "poke_interval")));
	else
	{
		/* as in Airflow, a sensor that has timed out is not tried again */
		bool		soft_fail = param_bool(attempt, "soft_fail");

		fill_end(attempt, &end, soft_fail ? FP_TASK_RUN_SKIPPED
				 : FP_TASK_RUN_FAILED);
		end.message = psprintf("sensor \"%s\" has timed out: %s",
							   assignment->task_id, condition.message);
		end.sqlstate = unpack_sql_state(ERRCODE_QUERY_CANCELED);
		attempt->outcome = soft_fail ? FP_OUTCOME_SKIPPED
			: FP_OUTCOME_FAILED;
		end_simple(attempt, &end);
	}
}

static void
run_branch(Attempt *attempt)
{
	FpAttemptEnd end;
	StringInfoData result;
	List	   *chosen;
	ListCell   *lc;

	begin_simple(attempt);
	chosen = fp_operator_branch(param_text(attempt, "command"),
								&attempt->context);
	fp_version_store_check_downstream(attempt->assignment->dag_id,
									  attempt->assignment->version,
									  attempt->assignment->task_id, chosen);
	initStringInfo(&result);
	appendStringInfoChar(&result, '[');
	foreach(lc, chosen)
	{
		if (result.len > 1)
			appendStringInfoString(&result, ", ");
		escape_json(&result, lfirst(lc));
	}
	appendStringInfoChar(&result, ']');
	fill_end(attempt, &end, FP_TASK_RUN_SUCCESS);
	end.result = result.data;
	end_simple(attempt, &end);
}

/*
 * Asks for a run of another DAG and, if it is to wait, looks at it again when
 * the scheduler says that it has ended.
 *
 * An attempt may have been cut off in one of its looks.  The next one waits for
 * the run that is there, and asks for another only where that has not succeeded.
 */
static void
run_trigger(Attempt *attempt)
{
	const FpAssignment *assignment = attempt->assignment;
	FpAttemptEnd end;
	FpTaskRunRow *row;
	int64		child = 0;
	FpRunRow   *child_row;

	begin_simple(attempt);
	row = fp_task_run_store_get(assignment->run_id, assignment->task_id,
								assignment->map_index);
	if (row != NULL && row->started_at != DT_NOBEGIN)
		attempt->started_at = row->started_at;
	if (row != NULL && row->position != NULL)
		child = pg_strtoint64(row->position);
	child_row = child == 0 ? NULL : fp_run_store_get(child);

	if (child == 0 ||
		(!assignment->is_poke &&
		 (child_row == NULL ||
		  (fp_run_state_is_finished(child_row->state) &&
		   child_row->state != FP_RUN_SUCCESS))))
	{
		FpRunRow	run = {0};
		FpDagRow   *dag = fp_dag_rights_hold(param_text(attempt,
														"trigger_dag_id"));

		run.dag_id = dag->dag_id;
		run.run_type = FP_RUN_TRIGGERED;
		run.logical_date = assignment->logical_date;
		run.data_interval_start = assignment->data_interval_start;
		run.data_interval_end = assignment->data_interval_end;
		run.parent_run_id = assignment->run_id;
		child = fp_run_store_insert(&run, param_text(attempt, "conf"),
									fp_clock_real());
		fp_request_store_add(FP_REQUEST_RUN, run.dag_id, child, 0, NULL);
		fp_task_run_store_keep_position(assignment->run_id, assignment->task_id,
										assignment->map_index,
										assignment->try_number,
										psprintf(INT64_FORMAT, child));
		child_row = fp_run_store_get(child);
	}

	if (!param_bool(attempt, "wait"))
	{
		fill_end(attempt, &end, FP_TASK_RUN_SUCCESS);
		end.result = psprintf("{\"run_id\": " INT64_FORMAT "}", child);
		end_simple(attempt, &end);
		return;
	}

	if (child_row != NULL && !fp_run_state_is_finished(child_row->state))
		reschedule(attempt, fp_clock_after(TRIGGER_POKE_US));
	else if (child_row != NULL && child_row->state == FP_RUN_SUCCESS)
	{
		fill_end(attempt, &end, FP_TASK_RUN_SUCCESS);
		end.result = psprintf("{\"run_id\": " INT64_FORMAT "}", child);
		end_simple(attempt, &end);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run " INT64_FORMAT " of dag \"%s\", which this task has triggered, has not succeeded",
						child, param_text(attempt, "trigger_dag_id"))));
}

static void
reschedule(Attempt *attempt, TimestampTz poke_at)
{
	FpAttemptEnd end;

	fill_end(attempt, &end, FP_TASK_RUN_UP_FOR_RESCHEDULE);
	end.ended_at = DT_NOBEGIN;
	end.retry_at = poke_at;
	attempt->outcome = FP_OUTCOME_RESCHEDULED;
	attempt->poke_at = poke_at;
	end_simple(attempt, &end);
}


/* ---- retention ---- */

static void
run_retention(Attempt *attempt)
{
	FpRetention retention;
	bool		has_more = true;

	retention.target = param_text(attempt, "target");
	retention.column_name = param_text(attempt, "column_name");
	retention.keep = param_text(attempt, "keep");
	while (has_more)
	{
		FpPageRecord page = {1, 0, 0, NULL};

		CHECK_FOR_INTERRUPTS();
		begin_simple(attempt);
		has_more = fp_operator_retention(&retention, &attempt->context,
										 &page.rows_written);
		page_done(&page, !has_more, attempt);
		CommitTransactionCommand();
		MemoryContextSwitchTo(task_context);
	}
}


/* ---- callbacks ---- */

/*
 * on_success or on_failure of a run that has ended: its own end is recorded,
 * the run's stays as it is.
 */
static FpTaskCommand *
find_callback(Attempt *attempt)
{
	const FpAssignment *assignment = attempt->assignment;
	FpRunContext *context = &attempt->context;
	FpTaskCommand *command;
	char	   *state = NULL;
	char	   *message = NULL;
	List	   *failed_tasks = NIL;

	begin_simple(attempt);
	fp_callback_store_values(assignment->callback_id, &state, &message,
							 &failed_tasks);
	if (state == NULL)
		elog(ERROR, "callback " INT64_FORMAT " is missing",
			 assignment->callback_id);
	command = fp_version_store_callback_command(assignment->dag_id,
												assignment->version,
												fp_run_state_parse(state));
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
	context->state = state;
	context->message = message;
	context->failed_tasks = failed_tasks;
	return command;
}

static void
run_callback(Attempt *attempt)
{
	FpUserSqlResult result = {0};

	begin_simple(attempt);
	fp_user_sql_run(attempt->command->command, &attempt->context, &result);
	fp_callback_store_end(attempt->assignment->callback_id, NULL, NULL,
						  fp_clock_real());
	attempt->is_recorded = true;
	commit_later(attempt);
	fp_user_sql_end_block();
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
}


/* ---- parameters ---- */

/* A parameter of the task as text; NULL: it has none of this name. */
static char *
param_text(Attempt *attempt, const char *name)
{
	Jsonb	   *params = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															CStringGetDatum(attempt->command->params)));
	JsonbValue	buffer;
	JsonbValue *value;

	value = getKeyJsonValueFromContainer(&params->root, name, strlen(name),
										 &buffer);
	if (value == NULL || value->type == jbvNull)
		return NULL;
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvBool)
		return pstrdup(value->val.boolean ? "true" : "false");
	{
		Jsonb	   *jsonb = JsonbValueToJsonb(value);

		return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	}
}

static bool
param_bool(Attempt *attempt, const char *name)
{
	char	   *value = param_text(attempt, name);

	return value != NULL && strcmp(value, "true") == 0;
}

/* microseconds; a month counts 30 days */
static int64
param_interval(Attempt *attempt, const char *name)
{
	char	   *value = param_text(attempt, name);
	Interval   *interval;

	if (value == NULL)
		return 0;
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
													 CStringGetDatum(value),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	return interval->time +
		((int64) interval->month * DAYS_PER_MONTH + interval->day) *
		USECS_PER_DAY;
}


/* ---- records ---- */

static void
fill_end(const Attempt *attempt, FpAttemptEnd *end, FpTaskRunState state)
{
	const FpAssignment *assignment = attempt->assignment;

	memset(end, 0, sizeof(FpAttemptEnd));
	end->run_id = assignment->run_id;
	end->task_id = assignment->task_id;
	end->map_index = assignment->map_index;
	end->try_number = assignment->try_number;
	end->state = state;
	end->started_at = attempt->started_at;
	end->ended_at = fp_clock_real();
	end->retry_at = DT_NOBEGIN;
}


/* result NULL: rows and pages are recorded already */
static void
record_success(Attempt *attempt, const FpUserSqlResult *result)
{
	FpAttemptEnd end;

	fill_end(attempt, &end, FP_TASK_RUN_SUCCESS);
	if (result != NULL)
	{
		end.rows_written = result->rows_written;
		end.result = result->first_row;
	}
	fp_task_run_store_end_attempt(&end);
	attempt->is_recorded = true;
}

/*
 * The attempt has failed, and its transaction is rolled back.  Where the
 * failure cannot be recorded, the scheduler gets the attempt as lost: it
 * looks at the row.
 */
static void
record_failure(Attempt *attempt, ErrorData *error, FpDone *done)
{
	const FpAssignment *assignment = attempt->assignment;
	FpAttemptEnd end;
	bool		is_cancelled;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	is_cancelled = attempt->slot->cancel_token == assignment->token;
	LWLockRelease(fp_shared->lock);

	fill_end(attempt, &end, FP_TASK_RUN_FAILED);
	end.sqlstate = unpack_sql_state(error->sqlerrcode);
	end.message = error_message(attempt, error);
	if (is_cancelled)
	{
		end.state = FP_TASK_RUN_CANCELLED;
		done->outcome = FP_OUTCOME_CANCELLED;
	}
	else
	{
		done->outcome = FP_OUTCOME_FAILED;
		if (is_timed_out && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			end.message = psprintf("execution_timeout of %.3f s exceeded",
								   assignment->execution_timeout / 1000000.0);
		if (assignment->may_retry)
		{
			end.state = FP_TASK_RUN_UP_FOR_RETRY;
			end.retry_at = fp_clock_after(assignment->retry_delay);
			done->will_retry = true;
			done->retry_at = end.retry_at;
		}
	}

	PG_TRY();
	{
		fp_spi_begin_transaction(NULL);
		MemoryContextSwitchTo(task_context);
		if (assignment->operator == FP_OPERATOR_CALLBACK)
			fp_callback_store_end(assignment->callback_id, end.sqlstate,
								  end.message, end.ended_at);
		else
			fp_task_run_store_end_attempt(&end);
		commit_later(attempt);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(task_context);
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		done->outcome = FP_OUTCOME_LOST;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(task_context);
}

/*
 * The commit need not wait for the disk, unless the user has asked for it, or
 * a standby must have it.
 */
static void
commit_later(const Attempt *attempt)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF ||
		synchronous_commit != attempt->initial_synchronous_commit)
		return;
	if (SyncRepRequested() && SyncRepStandbyNames != NULL &&
		SyncRepStandbyNames[0] != '\0')
		return;
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}


/* ---- commands ---- */

/* What the task does; a version's commands never change. */
static FpTaskCommand *
find_command(const FpAssignment *assignment)
{
	CommandKey	key;
	CachedCommand *entry;
	FpTaskCommand *command;

	if (commands != NULL &&
		MemoryContextMemAllocated(command_context, true) >= COMMAND_CACHE_SIZE)
	{
		MemoryContextDelete(command_context);
		commands = NULL;
	}
	if (commands == NULL)
	{
		HASHCTL		control;

		command_context = AllocSetContextCreate(TopMemoryContext,
												"flowpg commands",
												ALLOCSET_DEFAULT_SIZES);
		memset(&control, 0, sizeof(control));
		control.keysize = sizeof(CommandKey);
		control.entrysize = sizeof(CachedCommand);
		control.hash = hash_command_key;
		control.match = match_command_keys;
		control.hcxt = command_context;
		commands = hash_create("flowpg commands", 64, &control,
							   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE |
							   HASH_CONTEXT);
	}

	key.version = assignment->version;
	key.dag_id = assignment->dag_id;
	key.task_id = assignment->task_id;
	entry = hash_search(commands, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->command;

	fp_spi_begin_transaction(NULL);
	MemoryContextSwitchTo(command_context);
	command = fp_version_store_command(assignment->dag_id,
									   assignment->version,
									   assignment->task_id);
	key.dag_id = pstrdup(assignment->dag_id);
	key.task_id = pstrdup(assignment->task_id);
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
	entry = hash_search(commands, &key, HASH_ENTER, NULL);
	entry->command = command;
	return command;
}

static uint32
hash_command_key(const void *key, Size keysize)
{
	const CommandKey *k = key;

	return hash_combine(hash_combine(k->version,
									 string_hash(k->dag_id, FP_ID_SIZE)),
						string_hash(k->task_id, FP_ID_SIZE));
}

/* 0: they are equal */
static int
match_command_keys(const void *key1, const void *key2, Size keysize)
{
	const CommandKey *k1 = key1;
	const CommandKey *k2 = key2;

	return !(k1->version == k2->version &&
			 strcmp(k1->dag_id, k2->dag_id) == 0 &&
			 strcmp(k1->task_id, k2->task_id) == 0);
}

/* what pg_stat_activity shows */
static char *
activity_text(const Attempt *attempt)
{
	const FpAssignment *assignment = attempt->assignment;

	return psprintf("/* flowpg: dag \"%s\", task \"%s\", run " INT64_FORMAT ", try %d */ %s",
					assignment->dag_id, assignment->task_id,
					assignment->run_id, assignment->try_number,
					attempt->command->command != NULL
					? attempt->command->command
					: attempt->command->operator);
}

/* Message, detail, hint and context, as the server log would have them. */
static char *
error_message(const Attempt *attempt, const ErrorData *error)
{
	StringInfoData text;
	char	   *context;

	initStringInfo(&text);
	appendStringInfoString(&text, error->message != NULL ? error->message
						   : "unknown error");
	if (error->detail != NULL)
		appendStringInfo(&text, "\nDETAIL:  %s", error->detail);
	if (error->hint != NULL)
		appendStringInfo(&text, "\nHINT:  %s", error->hint);
	context = foreign_context(attempt, error->context);
	if (context != NULL)
		appendStringInfo(&text, "\nCONTEXT:  %s", context);
	if (text.len > FP_MESSAGE_MAX_BYTES)
		text.data[pg_mbcliplen(text.data, text.len,
							   FP_MESSAGE_MAX_BYTES)] = '\0';
	return text.data;
}

/*
 * An error's context without the line that error_context has added: where the
 * message is kept, columns say the same.  NULL: nothing is left.
 */
static char *
foreign_context(const Attempt *attempt, const char *context)
{
	const char *own = own_context(attempt);
	size_t		length;

	if (context == NULL)
		return NULL;
	length = strlen(context);
	if (length < strlen(own) ||
		strcmp(context + length - strlen(own), own) != 0)
		return pstrdup(context);
	length -= strlen(own);
	if (length > 0 && context[length - 1] == '\n')
		length--;
	return length > 0 ? pnstrdup(context, length) : NULL;
}

static char *
own_context(const Attempt *attempt)
{
	return psprintf("task \"%s\" of dag \"%s\", run " INT64_FORMAT ", try %d",
					attempt->assignment->task_id,
					attempt->assignment->dag_id,
					attempt->assignment->run_id,
					attempt->assignment->try_number);
}

static void
error_context(void *arg)
{
	errcontext("%s", own_context(arg));
}


/* ---- timers ---- */

/* execution_timeout in us; 0: none */
static void
start_timers(int64 execution_timeout)
{
	is_timed_out = false;
	ncancels = 0;
	enable_timeout_every(heartbeat_timeout,
						 TimestampTzPlusMilliseconds(fp_clock_real(),
													 HEARTBEAT_MS),
						 HEARTBEAT_MS);
	if (execution_timeout > 0)
		enable_timeout_at(deadline_timeout,
						  fp_clock_real() + execution_timeout);
}

static void
stop_timers(void)
{
	disable_timeout(heartbeat_timeout, false);
	disable_timeout(deadline_timeout, false);
}

/*
 * In signal handlers: only flags are set.  ProcessInterrupts raises the error
 * at the next safe place.
 */
static void
handle_heartbeat(void)
{
	bool		is_alone = !PostmasterIsAlive();

	if (!is_timed_out && !is_alone)
		return;
	/* not at once: others would wait for ever for a lock that we hold */
	if (is_alone || ++ncancels > MAX_CANCELS)
		ProcDiePending = true;
	else
		QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static void
handle_deadline(void)
{
	is_timed_out = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}
