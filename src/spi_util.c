/*-------------------------------------------------------------------------
 *
 * spi_util.c
 *	  The only direct SPI calls of flowpg.
 *
 * Runs in every process that touches flowpg's tables: sessions that call
 * flow_* functions, workers (as a DAG's owner) and the scheduler (as the
 * bootstrap superuser).
 *
 * Two things make flowpg's own SQL independent of who is about and of what
 * that user has set.  The user switch, SECURITY_LOCAL_USERID_CHANGE and
 * SECURITY_RESTRICTED_OPERATION included, is what SECURITY DEFINER functions
 * and index expressions get from core.  The pinned settings decide which
 * objects the names mean, how long a statement may wait for a lock, and which
 * plan it gets: a plan is kept for the life of the process, so one that was
 * made while the tables were empty, or under a user's planner settings, would
 * scan them from end to end for ever after.
 *
 * Both are undone by fp_spi_end_owner() or by the abort of the (sub)transaction
 * in which the scope began, and by nothing else.
 *
 * Kept plans survive whatever a user's SQL may do, but for DISCARD ALL and
 * DISCARD PLANS, which make them be planned again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "flowpg.h"
#include "spi_util.h"

#define OWN_SEARCH_PATH "pg_catalog, pg_temp"

/* in ms; see fp_spi_try */
#define SHORT_LOCK_TIMEOUT 1

/* room for a version of the extension; longer ones are cut */
#define VERSION_SIZE 64

/* A setting that own statements need, as core keeps it in a variable. */
typedef struct PinnedBool
{
	const char *name;
	bool	   *variable;
	bool		value;
} PinnedBool;

typedef struct PinnedInt
{
	const char *name;
	int		   *variable;
	int			value;
	const char *value_text;
} PinnedInt;

static const PinnedBool pinned_bools[] = {
	{"enable_seqscan", &enable_seqscan, false},
	{"enable_indexscan", &enable_indexscan, true},
	{"enable_nestloop", &enable_nestloop, true},
	{"jit", &jit_enabled, false},
};

static PinnedInt pinned_ints[] = {
	{"lock_timeout", &LockTimeout, 0, "0"},
	{"plan_cache_mode", &plan_cache_mode, PLAN_CACHE_MODE_AUTO, "auto"},
	/* an interval inside a jsonb value is text in this style */
	{"intervalstyle", &IntervalStyle, INTSTYLE_POSTGRES, "postgres"},
};

/* settings of a process of flowpg's own, beside the pinned ones */
static const char *const process_settings[][2] = {
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
#if FP_HAVE_TRANSACTION_TIMEOUT
	{"transaction_timeout", "0"},
#endif
	{"default_transaction_read_only", "off"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_deferrable", "off"},
};

/*
 * Owner and version of the extension as last read; InvalidOid: to be read.  Of
 * a version that does not fit, the owner is not kept.
 */
static Oid	cached_owner = InvalidOid;
static char installed_version[VERSION_SIZE];
static bool is_owner_callback_registered = false;

/* plans of fp_spi_prepare_user that are not yet freed, in TopMemoryContext */
static List *user_plans = NIL;

/* ms; 0: the process has none of its own */
static int	pinned_lock_timeout = 0;
/* fp_spi_try, in this transaction of a process of flowpg's own */
static bool has_waited_in_vain = false;

/* what was current when fp_spi_begin_transaction was called */
static MemoryContext context_before_transaction = NULL;

static uint64 execute(FpStatement *statement, const Datum *values,
					  const char *nulls, bool is_of_now,
					  FpRowCallback callback, void *arg);
static uint64 finish_statement(FpRowCallback callback, void *arg,
							   MemoryContext caller_context, bool pushed);
static bool push_snapshot_if_none(void);
static void prepare_statement(FpStatement *statement);
static void pin_local(const char *name, const char *value);
static void set_lock_timeout(int milliseconds);
static Oid	read_extension(void);
static int	compare_versions(const char *a, const char *b);
static void forget_extension_owner(Datum arg, Oid relid);
static Datum row_value(const FpRow *row, int column, bool *isnull);
static bool is_lock_error(int sqlerrcode);


/*
 * Run one of flowpg's own statements.
 *
 * The caller is in a transaction and in an owner scope, or in a process with
 * pinned settings.  A new snapshot is taken, so the statement sees what other
 * transactions have committed up to now (in READ COMMITTED).  All rows are
 * held in memory until the last callback has returned.  The callback may
 * itself run statements.
 */
uint64
fp_spi_execute(FpStatement *statement, const Datum *values, const char *nulls,
			   FpRowCallback callback, void *arg)
{
	return execute(statement, values, nulls, false /* is_of_now */ ,
				   callback, arg);
}

/*
 * The same in a transaction that keeps its snapshot: what others have committed
 * up to now is seen all the same, as foreign keys see it (ri_triggers.c).  What
 * the transaction itself has written is seen in any case.
 */
uint64
fp_spi_execute_now(FpStatement *statement, const Datum *values,
				   const char *nulls, FpRowCallback callback, void *arg)
{
	return execute(statement, values, nulls, IsolationUsesXactSnapshot(),
				   callback, arg);
}

/*
 * Run SQL of flowpg's own that is made at run time; otherwise as
 * fp_spi_execute().
 */
uint64
fp_spi_execute_once(const char *sql, int nargs, const Oid *argtypes,
					const Datum *values, const char *nulls,
					FpRowCallback callback, void *arg)
{
	MemoryContext caller_context = CurrentMemoryContext;
	bool		pushed = push_snapshot_if_none();
	int			result;

	SPI_connect();
	result = SPI_execute_with_args(sql, nargs, (Oid *) argtypes,
								   (Datum *) values, nulls,
								   false /* read_only */ , 0);
	if (result < 0)
		elog(ERROR, "SPI returned %s for: %s",
			 SPI_result_code_string(result), sql);

	return finish_statement(callback, arg, caller_context, pushed);
}

bool
fp_row_is_null(const FpRow *row, int column)
{
	bool		isnull;

	(void) row_value(row, column, &isnull);
	return isnull;
}

/*
 * A column of any type as text, palloc'd in the current context; NULL for
 * NULL.
 */
char *
fp_row_text(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value;

	if (SPI_gettypeid(row->desc, column) != TEXTOID)
		return SPI_getvalue(row->tuple, row->desc, column);

	value = row_value(row, column, &isnull);
	return isnull ? NULL : TextDatumGetCString(value);
}

int32
fp_row_int32(const FpRow *row, int column)
{
	return (int32) fp_row_int64(row, column);
}

/*
 * A column of any integer type; 0 for NULL.
 */
int64
fp_row_int64(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = row_value(row, column, &isnull);

	if (isnull)
		return 0;

	switch (SPI_gettypeid(row->desc, column))
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		case INT8OID:
			return DatumGetInt64(value);
		default:
			elog(ERROR, "column %d is of type %u and not an integer", column,
				 SPI_gettypeid(row->desc, column));
	}
	return 0;					/* keep compiler quiet */
}

bool
fp_row_bool(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = row_value(row, column, &isnull);

	return isnull ? false : DatumGetBool(value);
}

Oid
fp_row_oid(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = row_value(row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

TimestampTz
fp_row_timestamptz(const FpRow *row, int column, TimestampTz if_null)
{
	bool		isnull;
	Datum		value = row_value(row, column, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(value);
}

/*
 * A column's value as it is; of a type by reference it points into the row
 * and is gone with it.
 */
Datum
fp_row_datum(const FpRow *row, int column, bool *isnull)
{
	return row_value(row, column, isnull);
}

/*
 * The elements of a text[] column as palloc'd strings, in order; elements
 * that are NULL are left out.  NIL for NULL.
 */
List *
fp_row_text_array(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = row_value(row, column, &isnull);
	Datum	   *elements;
	bool	   *element_nulls;
	int			count;
	List	   *result = NIL;

	if (isnull)
		return NIL;

	Assert(SPI_gettypeid(row->desc, column) == TEXTARRAYOID);
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &element_nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!element_nulls[i])
			result = lappend(result, TextDatumGetCString(elements[i]));
	}
	pfree(elements);
	pfree(element_nulls);

	return result;
}

Datum
fp_datum_text(const char *value)
{
	return CStringGetTextDatum(value);
}

/*
 * Become the extension's owner, with pinned settings, until
 * fp_spi_end_owner() or the abort of the current (sub)transaction.  May be
 * nested.  The caller is in a transaction; an error if the extension is not
 * installed.
 *
 * Only settings that differ are set: this is done for each task that a worker
 * runs.
 */
void
fp_spi_begin_owner(FpOwnerScope *scope)
{
	Oid			owner = fp_spi_extension_owner();
	const char *problem;
	const char *hint;

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" is not installed in this database",
						FP_EXTENSION),
				 errhint("Use CREATE EXTENSION %s.", FP_EXTENSION)));
	/* on the way from one version to another none fits */
	if (!OidIsValid(cached_owner) && !creating_extension &&
		!fp_spi_version_fits(&problem, &hint))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s", problem), errhint("%s", hint)));

	GetUserIdAndSecContext(&scope->user_id, &scope->sec_context);
	SetUserIdAndSecContext(owner,
						   scope->sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	scope->guc_nest_level = NewGUCNestLevel();

	if (strcmp(namespace_search_path, OWN_SEARCH_PATH) != 0)
		pin_local("search_path", OWN_SEARCH_PATH);
	for (int i = 0; i < lengthof(pinned_bools); i++)
	{
		if (*pinned_bools[i].variable != pinned_bools[i].value)
			pin_local(pinned_bools[i].name,
					  pinned_bools[i].value ? "on" : "off");
	}
	for (int i = 0; i < lengthof(pinned_ints); i++)
	{
		if (*pinned_ints[i].variable != pinned_ints[i].value)
			pin_local(pinned_ints[i].name, pinned_ints[i].value_text);
	}

	/*
	 * A user, or a role's default_transaction_read_only, may have made the
	 * transaction read only; the record of what it did must be written all
	 * the same.  On a standby nothing can be, and core's own error for that
	 * is the best one.
	 */
	scope->is_read_only = XactReadOnly;
	if (!RecoveryInProgress())
		XactReadOnly = false;
}

/*
 * Undo fp_spi_begin_owner().
 */
void
fp_spi_end_owner(FpOwnerScope *scope)
{
	XactReadOnly = scope->is_read_only;
	AtEOXact_GUC(false, scope->guc_nest_level);
	SetUserIdAndSecContext(scope->user_id, scope->sec_context);
}

/*
 * Pin the settings of a process of flowpg's own, at its start.  Neither a
 * reload nor ALTER ROLE or ALTER DATABASE ... SET changes them afterwards.
 */
void
fp_spi_pin_session(void)
{
	SetConfigOption("search_path", OWN_SEARCH_PATH, PGC_SUSET,
					PGC_S_OVERRIDE);
	for (int i = 0; i < lengthof(pinned_bools); i++)
		SetConfigOption(pinned_bools[i].name,
						pinned_bools[i].value ? "on" : "off",
						PGC_SUSET, PGC_S_OVERRIDE);
	for (int i = 0; i < lengthof(pinned_ints); i++)
		SetConfigOption(pinned_ints[i].name, pinned_ints[i].value_text,
						PGC_SUSET, PGC_S_OVERRIDE);
	for (int i = 0; i < lengthof(process_settings); i++)
		SetConfigOption(process_settings[i][0], process_settings[i][1],
						PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * A process that must not wait for sessions' locks for long pins another
 * lock_timeout than none, after fp_spi_pin_session().
 */
void
fp_spi_pin_lock_timeout(const char *timeout)
{
	SetConfigOption("lock_timeout", timeout, PGC_SUSET, PGC_S_OVERRIDE);
	for (int i = 0; i < lengthof(pinned_ints); i++)
	{
		if (pinned_ints[i].variable == &LockTimeout)
			pinned_ints[i].value_text = timeout;
	}
	pinned_lock_timeout = LockTimeout;
	set_lock_timeout(pinned_lock_timeout);
}

/* For the process's own statements alone, and past GUC: this is for a moment. */
static void
set_lock_timeout(int milliseconds)
{
	LockTimeout = milliseconds;
	for (int i = 0; i < lengthof(pinned_ints); i++)
	{
		if (pinned_ints[i].variable == &LockTimeout)
			pinned_ints[i].value = milliseconds;
	}
}

/*
 * Owner of the extension in this database; InvalidOid where it is not
 * installed.  The caller is in a transaction.
 *
 * Read once and kept until a relation of the database changes: before 18 no
 * cache of core's tells of changes in pg_extension, but whatever creates or
 * drops the extension, or gives it to someone else (REASSIGN OWNED), does the
 * same to its relations, and an update invalidates one (utility_hook.c).
 */
Oid
fp_spi_extension_owner(void)
{
	if (!is_owner_callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_extension_owner, (Datum) 0);
		is_owner_callback_registered = true;
	}
	if (!OidIsValid(cached_owner))
	{
		Oid			owner = read_extension();

		if (strcmp(installed_version, FLOWPG_VERSION) != 0)
			return owner;
		cached_owner = owner;
	}

	return cached_owner;
}

bool
fp_spi_version_fits(const char **problem, const char **hint)
{
	Oid			owner = fp_spi_extension_owner();

	if (!OidIsValid(owner) || strcmp(installed_version, FLOWPG_VERSION) == 0)
		return true;

	*problem = psprintf("the library of flowpg is of version %s, the extension in this database of version %s",
						FLOWPG_VERSION, installed_version);
	if (compare_versions(installed_version, FLOWPG_VERSION) < 0)
		*hint = "Use ALTER EXTENSION flowpg UPDATE.";
	else
		*hint = psprintf("Install the library of version %s, unless that is done, and restart the server.",
						 installed_version);
	return false;
}

/*
 * Prepare a user's SQL, to be run several times as the current user.  The
 * plan lives across transactions until fp_spi_free_user() or
 * fp_spi_free_user_plans(); setup_arg must live as long, for the SQL is
 * analysed again when what it refers to changes.
 */
FpPlan *
fp_spi_prepare_user(const char *sql, ParserSetupHook setup, void *setup_arg,
					int cursor_options)
{
	bool		pushed = push_snapshot_if_none();
	MemoryContext old_context;
	SPIPrepareOptions options = {0};
	SPIPlanPtr	plan;

	options.parserSetup = setup;
	options.parserSetupArg = setup_arg;
	options.parseMode = RAW_PARSE_DEFAULT;
	options.cursorOptions = cursor_options;

	SPI_connect();
	plan = SPI_prepare_extended(sql, &options);
	if (plan == NULL)
		elog(ERROR, "SPI returned %s while preparing: %s",
			 SPI_result_code_string(SPI_result), sql);

	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep the plan of: %s", sql);
	old_context = MemoryContextSwitchTo(TopMemoryContext);
	user_plans = lappend(user_plans, plan);
	MemoryContextSwitchTo(old_context);

	SPI_finish();
	if (pushed)
		PopActiveSnapshot();

	return (FpPlan *) plan;
}

/*
 * Run a prepared statement of a user's, as the current user and with the
 * current settings.  limit is the number of rows to stop after, 0 for all.
 * With read_only no new snapshot is taken if one is active.
 */
uint64
fp_spi_execute_user(FpPlan *plan, ParamListInfo params, bool read_only,
					uint64 limit, FpRowCallback callback, void *arg)
{
	MemoryContext caller_context = CurrentMemoryContext;
	bool		pushed = push_snapshot_if_none();
	SPIExecuteOptions options = {0};
	int			result;

	options.params = params;
	options.read_only = read_only;
	options.tcount = limit;

	SPI_connect();
	result = SPI_execute_plan_extended((SPIPlanPtr) plan, &options);
	if (result < 0)
		elog(ERROR, "SPI returned %s", SPI_result_code_string(result));

	return finish_statement(callback, arg, caller_context, pushed);
}

void
fp_spi_free_user(FpPlan *plan)
{
	user_plans = list_delete_ptr(user_plans, plan);
	SPI_freeplan((SPIPlanPtr) plan);
}

/*
 * Free every plan that fp_spi_prepare_user() made and an error kept its maker
 * from freeing.
 */
void
fp_spi_free_user_plans(void)
{
	while (user_plans != NIL)
		fp_spi_free_user((FpPlan *) llast(user_plans));
}

bool
fp_spi_try(void (*work) (void *arg), void *arg)
{
	bool		is_short = pinned_lock_timeout != 0 && has_waited_in_vain;
	bool		is_done;

	/* an error that is raised ends the transaction, and this with it */
	if (is_short)
		set_lock_timeout(SHORT_LOCK_TIMEOUT);
	is_done = fp_spi_catch(work, arg, false /* is_undone */ ,
						   is_lock_error) == NULL;
	if (is_short)
		set_lock_timeout(pinned_lock_timeout);
	has_waited_in_vain |= !is_done;
	return is_done;
}

void
fp_spi_hurry(void)
{
	has_waited_in_vain = true;
}

ErrorData *
fp_spi_catch(void (*work) (void *arg), void *arg, bool is_undone,
			 bool (*is_caught) (int sqlerrcode))
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(arg);
		if (is_undone)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		/* also where it is raised: whoever catches it may go on outside of this */
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && !is_caught(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/*
 * Begin a transaction in a background process, so that now() is right and
 * pg_stat_activity shows what is done.  No snapshot is held: each statement
 * takes its own.
 */
void
fp_spi_begin_transaction(const char *activity)
{
	context_before_transaction = CurrentMemoryContext;
	has_waited_in_vain = false;
	if (pinned_lock_timeout != 0)
		set_lock_timeout(pinned_lock_timeout);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (activity != NULL)
		pgstat_report_activity(STATE_RUNNING, activity);
}

/*
 * Commit it, and go back to the memory context in which it was begun.
 * Statistics are sent once a second at most: a process that is about to sleep
 * calls pgstat_report_stat(true) for the rest.
 */
void
fp_spi_commit_transaction(void)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(context_before_transaction);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Only SPI sees to all that a procedure's COMMIT must: pinned portals, and the
 * SPI state of a DO block or procedure that has called this one.
 */
void
fp_spi_commit_procedure(void)
{
	MemoryContext context = CurrentMemoryContext;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	SPI_finish();
	MemoryContextSwitchTo(context);
}

/*
 * SPI copies the snapshot that it is given before it does anything else.
 */
static uint64
execute(FpStatement *statement, const Datum *values, const char *nulls,
		bool is_of_now, FpRowCallback callback, void *arg)
{
	MemoryContext caller_context = CurrentMemoryContext;
	bool		pushed = push_snapshot_if_none();
	int			result;

	SPI_connect();
	if (statement->plan == NULL)
		prepare_statement(statement);

	result = SPI_execute_snapshot(statement->plan, (Datum *) values, nulls,
								  is_of_now ? GetLatestSnapshot() :
								  InvalidSnapshot,
								  InvalidSnapshot /* crosscheck */ ,
								  false /* read_only */ ,
								  true /* fire_triggers */ , 0);
	if (result != statement->expected)
		elog(ERROR, "SPI returned %s instead of %s for: %s",
			 SPI_result_code_string(result),
			 SPI_result_code_string(statement->expected), statement->sql);

	return finish_statement(callback, arg, caller_context, pushed);
}

/*
 * Hand the rows of the statement just run to the callback and close SPI.
 */
static uint64
finish_statement(FpRowCallback callback, void *arg,
				 MemoryContext caller_context, bool pushed)
{
	uint64		processed = SPI_processed;
	SPITupleTable *table = SPI_tuptable;

	if (callback != NULL && table != NULL)
	{
		MemoryContext spi_context = MemoryContextSwitchTo(caller_context);
		FpRow		row;

		row.desc = table->tupdesc;
		for (uint64 i = 0; i < table->numvals; i++)
		{
			row.tuple = table->vals[i];
			callback(&row, arg);
		}
		MemoryContextSwitchTo(spi_context);
	}

	SPI_finish();
	if (pushed)
		PopActiveSnapshot();

	return processed;
}

/*
 * Analysis and planning need an active snapshot; a statement that is not
 * read only takes a newer one for itself.
 */
static bool
push_snapshot_if_none(void)
{
	if (ActiveSnapshotSet())
		return false;

	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

/*
 * Prepare and keep.  The plan is stored only when nothing can fail any more;
 * one that failed goes with SPI's memory.
 */
static void
prepare_statement(FpStatement *statement)
{
	SPIPlanPtr	plan;

	Assert(statement->nargs <= FP_MAX_STATEMENT_ARGS);
	plan = SPI_prepare_cursor(statement->sql, statement->nargs,
							  statement->argtypes,
							  statement->has_one_plan ? CURSOR_OPT_GENERIC_PLAN : 0);
	if (plan == NULL)
		elog(ERROR, "SPI returned %s while preparing: %s",
			 SPI_result_code_string(SPI_result), statement->sql);
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep the plan of: %s", statement->sql);
	statement->plan = plan;
}

static void
pin_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static Oid
read_extension(void)
{
	Relation	relation;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	installed_version[0] = '\0';
	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(FP_EXTENSION));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL,
							  1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion,
										   RelationGetDescr(relation), &isnull);

		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
		Assert(!isnull);
		strlcpy(installed_version, TextDatumGetCString(version), VERSION_SIZE);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);

	return owner;
}

/* As numbers with dots in between; what follows them does not count. */
static int
compare_versions(const char *a, const char *b)
{
	for (;;)
	{
		char	   *a_end;
		char	   *b_end;
		long		a_number = strtol(a, &a_end, 10);
		long		b_number = strtol(b, &b_end, 10);

		if (a_number != b_number)
			return a_number < b_number ? -1 : 1;
		if (*a_end != '.' && *b_end != '.')
			return 0;
		a = *a_end == '.' ? a_end + 1 : "0";
		b = *b_end == '.' ? b_end + 1 : "0";
	}
}

static void
forget_extension_owner(Datum arg, Oid relid)
{
	cached_owner = InvalidOid;
}

static Datum
row_value(const FpRow *row, int column, bool *isnull)
{
	Assert(column >= 1 && column <= row->desc->natts);
	return SPI_getbinval(row->tuple, row->desc, column, isnull);
}

static bool
is_lock_error(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}
