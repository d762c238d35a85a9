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

#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
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
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "run_store.h"
#include "spi_util.h"
#include "task_exec.h"
#include "upsert.h"
#include "user_sql.h"

#define HEARTBEAT_MS 1000
/* Code that swallows its cancellation this many times loses its worker. */
#define MAX_CANCELS 10

/* Commands of tasks kept by a worker; all are forgotten when it is full. */
#define MAX_CACHED_COMMANDS 256

typedef struct CommandKey
{
	int32		version;
	char		dag_id[FP_ID_SIZE];
	char		task_id[FP_ID_SIZE];
} CommandKey;

typedef struct CachedCommand
{
	CommandKey	key;
	FpTaskCommand *command;
} CachedCommand;

/* The attempt that runs now. */
typedef struct Attempt
{
	const FpAssignment *assignment;
	FpWorkerSlot *slot;
	FpTaskCommand *command;
	FpRunContext context;
	TimestampTz started_at;
	bool		is_recorded;	/* its end is in the current transaction, or
								 * committed */
	int			initial_synchronous_commit;
} Attempt;

static MemoryContext task_context = NULL;
static MemoryContext command_context = NULL;
static HTAB *commands = NULL;

static TimeoutId heartbeat_timeout;
static TimeoutId deadline_timeout;
static volatile sig_atomic_t is_timed_out = false;
static volatile sig_atomic_t ncancels = 0;

static void run_attempt(Attempt *attempt);
static void prepare(Attempt *attempt);
static void run_sql(Attempt *attempt);
static void run_upsert(Attempt *attempt);
static void page_done(const FpUpsertProgress *progress, bool is_last,
					  void *arg);
static void record_success(Attempt *attempt, const FpUserSqlResult *result);
static void record_failure(Attempt *attempt, ErrorData *error, FpDone *done);
static void commit_later(const Attempt *attempt);
static FpTaskCommand *find_command(const FpAssignment *assignment);
static char *activity_text(const Attempt *attempt);
static char *error_message(const ErrorData *error);
static void error_context(void *arg);
static void start_timers(const FpAssignment *assignment);
static void stop_timers(void);
static void handle_heartbeat(void);
static void handle_deadline(void);

void
fp_task_exec_init(void)
{
	task_context = AllocSetContextCreate(TopMemoryContext, "flowpg task",
										 ALLOCSET_DEFAULT_SIZES);
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

	done->token = assignment->token;
	done->run_id = assignment->run_id;
	done->map_index = assignment->map_index;
	done->try_number = assignment->try_number;
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
		start_timers(assignment);
		run_attempt(attempt);
		stop_timers();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		stop_timers();
		MemoryContextSwitchTo(task_context);
		error = CopyErrorData();
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		fp_spi_free_user_plans();
		MemoryContextSwitchTo(task_context);
		QueryCancelPending = false;
		RESUME_INTERRUPTS();

		record_failure(attempt, error, done);
	}
	PG_END_TRY();

	error_context_stack = callback.previous;
	done->lsn = XactLastCommitEnd;
	done->duration = fp_clock_real() - attempt->started_at;
	fp_user_sql_set_context(NULL);
	debug_query_string = NULL;
	pgstat_report_activity(STATE_IDLE, NULL);
	fp_user_sql_reset_session();
	MemoryContextSwitchTo(previous);
	MemoryContextReset(task_context);
}

static void
run_attempt(Attempt *attempt)
{
	prepare(attempt);
	if (strcmp(attempt->command->operator, "sql") == 0)
		run_sql(attempt);
	else if (strcmp(attempt->command->operator, "upsert") == 0)
		run_upsert(attempt);
	else
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("this version of flowpg does not know tasks of kind \"%s\"",
						attempt->command->operator),
				 errhint("Restart the server with the library that the extension's SQL objects belong to.")));
}

/*
 * Makes the session what the DAG's owner expects, and the run's values known.
 */
static void
prepare(Attempt *attempt)
{
	const FpAssignment *assignment = attempt->assignment;
	FpRunContext *context = &attempt->context;
	FpTaskCommand *command = find_command(assignment);

	attempt->command = command;
	context->run_id = assignment->run_id;
	context->dag_id = assignment->dag_id;
	context->task_id = assignment->task_id;
	context->map_index = assignment->map_index;
	context->try_number = assignment->try_number;
	context->run_type = fp_run_type_name(assignment->run_type);
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
	const FpAssignment *assignment = attempt->assignment;
	FpUpsertDef *def;
	FpUpsertProgress start = {0};
	FpTaskRunRow *row;

	fp_spi_begin_transaction(NULL);
	MemoryContextSwitchTo(task_context);
	def = fp_upsert_from_jsonb(DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
																  CStringGetDatum(attempt->command->params))));
	row = fp_run_store_task_run(assignment->run_id, assignment->task_id,
								assignment->map_index);
	if (row != NULL)
	{
		start.pages = row->pages;
		start.rows_written = row->rows_written;
		start.position = row->position;
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
	pg_atomic_write_u64(&attempt->slot->pages, start.pages);
	pg_atomic_write_u64(&attempt->slot->rows_written, start.rows_written);

	fp_upsert_run(def, &attempt->context, &start, page_done, attempt);
	MemoryContextSwitchTo(task_context);
	if (!attempt->is_recorded)
		elog(ERROR, "an upsert has ended without its last page");
}

/* In the page's transaction, which commits when this returns. */
static void
page_done(const FpUpsertProgress *progress, bool is_last, void *arg)
{
	Attempt    *attempt = arg;
	const FpAssignment *assignment = attempt->assignment;

	fp_run_store_record_page(assignment->run_id, assignment->task_id,
							 assignment->map_index, assignment->try_number,
							 progress->pages, progress->rows_written,
							 progress->position);
	if (is_last)
		record_success(attempt, NULL);
	commit_later(attempt);
	pg_atomic_write_u64(&attempt->slot->pages, progress->pages);
	pg_atomic_write_u64(&attempt->slot->rows_written, progress->rows_written);
}


/* ---- records ---- */

/* result NULL: rows and pages are recorded already */
static void
record_success(Attempt *attempt, const FpUserSqlResult *result)
{
	const FpAssignment *assignment = attempt->assignment;
	FpAttemptEnd end = {0};

	end.run_id = assignment->run_id;
	end.task_id = assignment->task_id;
	end.map_index = assignment->map_index;
	end.try_number = assignment->try_number;
	end.state = FP_TASK_RUN_SUCCESS;
	end.started_at = attempt->started_at;
	end.ended_at = fp_clock_real();
	end.retry_at = DT_NOBEGIN;
	if (result != NULL)
	{
		end.rows_written = result->rows_written;
		end.result = result->first_row;
	}
	fp_run_store_end_attempt(&end);
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
	FpAttemptEnd end = {0};
	bool		is_cancelled;

	LWLockAcquire(fp_shared->lock, LW_SHARED);
	is_cancelled = attempt->slot->cancel_token == assignment->token;
	LWLockRelease(fp_shared->lock);

	end.run_id = assignment->run_id;
	end.task_id = assignment->task_id;
	end.map_index = assignment->map_index;
	end.try_number = assignment->try_number;
	end.started_at = attempt->started_at;
	end.ended_at = fp_clock_real();
	end.retry_at = DT_NOBEGIN;
	end.sqlstate = unpack_sql_state(error->sqlerrcode);
	end.message = error_message(error);
	if (is_cancelled)
	{
		end.state = FP_TASK_RUN_CANCELLED;
		done->outcome = FP_OUTCOME_CANCELLED;
	}
	else
	{
		done->outcome = FP_OUTCOME_FAILED;
		if (is_timed_out && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			end.message = psprintf("task \"%s\" has exceeded its execution_timeout of %.3f s",
								   assignment->task_id,
								   assignment->execution_timeout / 1000000.0);
		end.state = FP_TASK_RUN_FAILED;
		if (assignment->may_retry)
		{
			end.state = FP_TASK_RUN_UP_FOR_RETRY;
			end.retry_at = fp_clock_now() + assignment->retry_delay;
			done->will_retry = true;
			done->retry_at = end.retry_at;
		}
	}

	PG_TRY();
	{
		fp_spi_begin_transaction(NULL);
		MemoryContextSwitchTo(task_context);
		fp_run_store_end_attempt(&end);
		commit_later(attempt);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(task_context);
		EmitErrorReport();
		AbortCurrentTransaction();
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
	CommandKey *key = palloc0(sizeof(CommandKey));
	CachedCommand *entry;
	FpTaskCommand *command;

	if (commands != NULL &&
		hash_get_num_entries(commands) >= MAX_CACHED_COMMANDS)
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
		control.hcxt = command_context;
		commands = hash_create("flowpg commands", 64, &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	key->version = assignment->version;
	strlcpy(key->dag_id, assignment->dag_id, FP_ID_SIZE);
	strlcpy(key->task_id, assignment->task_id, FP_ID_SIZE);
	entry = hash_search(commands, key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->command;

	fp_spi_begin_transaction(NULL);
	MemoryContextSwitchTo(command_context);
	command = fp_run_store_task_command(assignment->dag_id,
										assignment->version,
										assignment->task_id);
	CommitTransactionCommand();
	MemoryContextSwitchTo(task_context);
	entry = hash_search(commands, key, HASH_ENTER, NULL);
	entry->command = command;
	return command;
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
error_message(const ErrorData *error)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, error->message != NULL ? error->message
						   : "unknown error");
	if (error->detail != NULL)
		appendStringInfo(&text, "\nDETAIL:  %s", error->detail);
	if (error->hint != NULL)
		appendStringInfo(&text, "\nHINT:  %s", error->hint);
	if (error->context != NULL)
		appendStringInfo(&text, "\nCONTEXT:  %s", error->context);
	if (text.len > FP_MESSAGE_MAX_BYTES)
		text.data[pg_mbcliplen(text.data, text.len,
							   FP_MESSAGE_MAX_BYTES)] = '\0';
	return text.data;
}

static void
error_context(void *arg)
{
	const Attempt *attempt = arg;

	errcontext("task \"%s\" of dag \"%s\", run " INT64_FORMAT ", try %d",
			   attempt->assignment->task_id, attempt->assignment->dag_id,
			   attempt->assignment->run_id, attempt->assignment->try_number);
}


/* ---- timers ---- */

static void
start_timers(const FpAssignment *assignment)
{
	is_timed_out = false;
	ncancels = 0;
	enable_timeout_every(heartbeat_timeout,
						 TimestampTzPlusMilliseconds(fp_clock_real(),
													 HEARTBEAT_MS),
						 HEARTBEAT_MS);
	if (assignment->execution_timeout > 0)
		enable_timeout_at(deadline_timeout,
						  fp_clock_real() + assignment->execution_timeout);
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
	if (!PostmasterIsAlive())
		_exit(1);
	if (!is_timed_out)
		return;
	if (++ncancels > MAX_CANCELS)
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
