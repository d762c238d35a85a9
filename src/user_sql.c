/*-------------------------------------------------------------------------
 *
 * user_sql.c
 *	  Users' SQL: checked when it is given, run as its DAG's owner.
 *
 * Sessions check SQL here when a DAG is defined; workers run it, in processes
 * whose session user is the DAG's owner, and give the session back as new
 * afterwards.  A session runs it only for flow_test_task.
 *
 * SQL is run through portals, as the server runs what a client sends, and not
 * through SPI, which refuses much that a session may do.  So that a task and
 * the record of it are one commit, it runs in an implicit transaction block,
 * like the statements of one multi-statement query: otherwise a VACUUM, seeing
 * a transaction that holds nothing else, would commit it half-way.  Statements
 * that control transactions are refused before the first one is run: BEGIN
 * would leave the commit undone, ROLLBACK would silently drop the record.
 *
 * run.* are parameters, found by a hook of the parser when nothing else
 * matches the name; they are never pasted into the text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "pgstat.h"
#include "pgtime.h"
#include "storage/lock.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "flowpg.h"
#include "spi_util.h"
#include "user_sql.h"

/* the name that qualifies the run's values */
#define RUN_QUALIFIER "run"

/*
 * A first row whose values take more than this is not even turned into text:
 * no type's text is so much shorter that it could still be kept.
 */
#define FIRST_ROW_MAX_RAW_BYTES (16 * FP_RESULT_MAX_BYTES)

/* in the order of run_value_types and of flow_context()'s columns */
typedef enum RunValue
{
	RUN_DATA_INTERVAL_START,
	RUN_DATA_INTERVAL_END,
	RUN_LOGICAL_DATE,
	RUN_DS,
	RUN_DAG_ID,
	RUN_TASK_ID,
	RUN_RUN_ID,
	RUN_TRY_NUMBER,
	RUN_RUN_TYPE,
	RUN_STATE,
	RUN_CONF,
	RUN_LOCAL_START,
	RUN_LOCAL_END,
	RUN_MESSAGE,
	RUN_FAILED_TASKS
} RunValue;

static const struct
{
	const char *name;
	Oid			type;
}			run_values[] =
{
	{"data_interval_start", TIMESTAMPTZOID},
	{"data_interval_end", TIMESTAMPTZOID},
	{"logical_date", TIMESTAMPTZOID},
	{"ds", DATEOID},
	{"dag_id", TEXTOID},
	{"task_id", TEXTOID},
	{"run_id", INT8OID},
	{"try_number", INT4OID},
	{"run_type", TEXTOID},
	{"state", TEXTOID},
	{"conf", JSONBOID},
	{"local_start", TIMESTAMPOID},
	{"local_end", TIMESTAMPOID},
	{"message", TEXTOID},
	{"failed_tasks", TEXTARRAYOID},
};

StaticAssertDecl(lengthof(run_values) == FP_RUN_VALUES,
				 "run_values does not match FP_RUN_VALUES");
StaticAssertDecl(RUN_FAILED_TASKS == FP_RUN_VALUES - 1,
				 "RunValue does not match FP_RUN_VALUES");

/* A receiver that keeps the first row of all statements of a command. */
typedef struct FirstRowReceiver
{
	DestReceiver receiver;
	MemoryContext context;		/* of what follows; outlives the statements */
	bool		has_row;
	TupleDesc	result_desc;	/* of the statement that runs; not a copy */
	HeapTuple	tuple;			/* NULL: none, too large, or already in json */
	TupleDesc	desc;			/* of tuple */
	char	   *json;			/* jsonb as text; NULL: none or too large */
} FirstRowReceiver;

/* Where an error in a user's SQL belongs. */
typedef struct SqlErrorContext
{
	const char *sql;
	const char *argument;		/* NULL while it runs */
} SqlErrorContext;

/* what flow_context() returns; the caller's who set it */
static const FpRunContext *current_run = NULL;

/* fp_user_sql_run opened the implicit block, and so may close it */
static bool is_block_ours = false;

static void run_command(const char *sql, const FpRunContext *run,
						bool is_outside, FpUserSqlResult *result);
static void run_statement(RawStmt *raw, const char *sql, ParamListInfo params,
						  FirstRowReceiver *receiver, uint64 *rows_written);
static uint64 rows_written_by(const RawStmt *raw, const QueryCompletion *qc);
static void next_transaction(void);
static void check_may_commit(MemoryContext context);
static List *parse_command(const char *sql);
static List *parse_argument(const char *sql, const char *argument);
static void refuse_statement(const Node *statement);
static Query *analyze_statement(RawStmt *raw, const char *sql);
static bool is_plain_select(Node *statement);
static bool check_query_rights(Node *node, void *context);
static Node *run_column_ref(ParseState *pstate, ColumnRef *ref, Node *found);
static Node *caller_param_ref(ParseState *pstate, ParamRef *ref);
static Node *make_param(int number, Oid type, int location);
static const char *run_value_names(void);
static Datum empty_conf(void);
static Datum text_list_to_array(List *list);
static pg_tz *run_timezone(const FpRunContext *run);
static bool to_local_time(TimestampTz time, pg_tz *timezone,
						  struct pg_tm *local, fsec_t *fsec);
static Datum local_timestamp(TimestampTz time, pg_tz *timezone, bool *isnull);
static Datum local_date(TimestampTz time, pg_tz *timezone, bool *isnull);
static void init_first_row(FirstRowReceiver *self, MemoryContext context);
static bool first_row_receive(TupleTableSlot *slot, DestReceiver *receiver);
static void first_row_startup(DestReceiver *receiver, int operation,
							  TupleDesc desc);
static void first_row_done(DestReceiver *receiver);
static Size slot_raw_size(TupleTableSlot *slot);
static void convert_first_row(FirstRowReceiver *self);
static void first_row_error_context(void *arg);
static void push_error_context(ErrorContextCallback *callback,
							   SqlErrorContext *where);
static void sql_error_context(void *arg);


/*
 * Check a command that is given as a function's argument: parse it, refuse
 * what a task may not do, and (with check_names) resolve its names and check
 * the current user's rights on the relations that it names itself.
 *
 * After a utility statement the rest is only parsed, for it may use what that
 * makes.  Relations stay locked, in the mode in which the command would lock
 * them, until the caller's transaction ends: analysis without locks would look
 * at definitions that change under it.
 */
void
fp_user_sql_check(const char *sql, const char *argument, bool check_names)
{
	MemoryContext context;
	MemoryContext old_context;
	ErrorContextCallback callback;
	SqlErrorContext where = {sql, argument};
	List	   *statements;
	ListCell   *lc;

	context = AllocSetContextCreate(CurrentMemoryContext,
									"flowpg definition check",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);
	push_error_context(&callback, &where);

	statements = parse_argument(sql, argument);
	foreach(lc, statements)
	{
		Query	   *query;

		if (!check_names)
			break;
		query = analyze_statement(lfirst_node(RawStmt, lc), sql);
		(void) check_query_rights((Node *) query, NULL);
		if (query->commandType == CMD_UTILITY)
			break;
	}

	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
}

/*
 * Check an argument that must be one SELECT, as fp_user_sql_check() does, and
 * return its row type in the current context; NULL without check_names.
 */
TupleDesc
fp_user_sql_describe(const char *sql, const char *argument, bool check_names)
{
	MemoryContext context;
	MemoryContext old_context;
	ErrorContextCallback callback;
	SqlErrorContext where = {sql, argument};
	List	   *statements;
	RawStmt    *raw;
	TupleDesc	desc = NULL;

	context = AllocSetContextCreate(CurrentMemoryContext,
									"flowpg definition check",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);
	push_error_context(&callback, &where);

	statements = parse_argument(sql, argument);
	raw = linitial_node(RawStmt, statements);
	if (list_length(statements) != 1 || !is_plain_select(raw->stmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a single query", argument),
				 errhint("Use one SELECT, VALUES, TABLE or WITH ... SELECT that writes nothing.")));

	if (check_names)
	{
		Query	   *query = analyze_statement(raw, sql);

		(void) check_query_rights((Node *) query, NULL);
		MemoryContextSwitchTo(old_context);
		desc = ExecCleanTypeFromTL(query->targetList);
	}

	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);

	return desc;
}

/*
 * Run a command in the caller's transaction.  Errors are the caller's to
 * abort.  Uses the current user and settings.
 */
void
fp_user_sql_run(const char *sql, const FpRunContext *run,
				FpUserSqlResult *result)
{
	/* in a session there may be a block already, and it is not ours to end */
	is_block_ours = !IsTransactionBlock();
	if (is_block_ours)
		BeginImplicitTransactionBlock();

	run_command(sql, run, false /* is_outside */ , result);
}

/*
 * Close the block that fp_user_sql_run() left open, just before the commit.
 */
void
fp_user_sql_end_block(void)
{
	if (is_block_ours)
		EndImplicitTransactionBlock();
	is_block_ours = false;
}

/*
 * Run a command whose statements are transactions of their own.  What was
 * committed before an error stays.
 */
void
fp_user_sql_run_outside(const char *sql, const FpRunContext *run,
						FpUserSqlResult *result)
{
	check_may_commit(CurrentMemoryContext);
	run_command(sql, run, true /* is_outside */ , result);
}

/*
 * Make the parser find run.* and, where setup is not NULL, $1..$n.
 */
void
fp_user_sql_parser_setup(ParseState *pstate, void *setup)
{
	pstate->p_ref_hook_state = setup;
	pstate->p_post_columnref_hook = run_column_ref;
	if (setup != NULL)
		pstate->p_paramref_hook = caller_param_ref;
}

/*
 * Values for what fp_user_sql_parser_setup() finds; setup may be NULL.  The
 * caller's own values are first and NULL until set.
 */
ParamListInfo
fp_user_sql_params(const FpUserSqlSetup *setup, const FpRunContext *run)
{
	int			nvalues = setup != NULL ? setup->nvalues : 0;
	ParamListInfo params = makeParamList(nvalues + FP_RUN_VALUES);
	Datum		values[FP_RUN_VALUES];
	bool		nulls[FP_RUN_VALUES];

	for (int i = 0; i < nvalues; i++)
	{
		ParamExternData *param = &params->params[i];

		param->value = (Datum) 0;
		param->isnull = true;
		param->pflags = PARAM_FLAG_CONST;
		param->ptype = setup->types[i];
	}

	fp_user_sql_run_values(run, values, nulls);
	for (int i = 0; i < FP_RUN_VALUES; i++)
	{
		ParamExternData *param = &params->params[nvalues + i];

		param->value = values[i];
		param->isnull = nulls[i];
		param->pflags = PARAM_FLAG_CONST;
		param->ptype = run_values[i].type;
	}

	return params;
}

void
fp_user_sql_run_values(const FpRunContext *run, Datum *values, bool *nulls)
{
	pg_tz	   *timezone = run_timezone(run);

	memset(values, 0, FP_RUN_VALUES * sizeof(Datum));
	memset(nulls, 0, FP_RUN_VALUES * sizeof(bool));

	values[RUN_DATA_INTERVAL_START] =
		TimestampTzGetDatum(run->data_interval_start);
	nulls[RUN_DATA_INTERVAL_START] =
		TIMESTAMP_IS_NOBEGIN(run->data_interval_start);
	values[RUN_DATA_INTERVAL_END] =
		TimestampTzGetDatum(run->data_interval_end);
	nulls[RUN_DATA_INTERVAL_END] =
		TIMESTAMP_IS_NOBEGIN(run->data_interval_end);
	values[RUN_LOGICAL_DATE] = TimestampTzGetDatum(run->logical_date);
	nulls[RUN_LOGICAL_DATE] = TIMESTAMP_IS_NOBEGIN(run->logical_date);
	values[RUN_DS] = local_date(run->logical_date, timezone, &nulls[RUN_DS]);
	values[RUN_LOCAL_START] = local_timestamp(run->data_interval_start,
											  timezone,
											  &nulls[RUN_LOCAL_START]);
	values[RUN_LOCAL_END] = local_timestamp(run->data_interval_end, timezone,
											&nulls[RUN_LOCAL_END]);

	values[RUN_RUN_ID] = Int64GetDatum(run->run_id);
	values[RUN_TRY_NUMBER] = Int32GetDatum(run->try_number);

	if (run->dag_id != NULL)
		values[RUN_DAG_ID] = CStringGetTextDatum(run->dag_id);
	if (run->task_id != NULL)
		values[RUN_TASK_ID] = CStringGetTextDatum(run->task_id);
	if (run->run_type != NULL)
		values[RUN_RUN_TYPE] = CStringGetTextDatum(run->run_type);
	if (run->state != NULL)
		values[RUN_STATE] = CStringGetTextDatum(run->state);
	if (run->message != NULL)
		values[RUN_MESSAGE] = CStringGetTextDatum(run->message);
	if (run->failed_tasks != NIL)
		values[RUN_FAILED_TASKS] = text_list_to_array(run->failed_tasks);
	nulls[RUN_DAG_ID] = run->dag_id == NULL;
	nulls[RUN_TASK_ID] = run->task_id == NULL;
	nulls[RUN_RUN_TYPE] = run->run_type == NULL;
	nulls[RUN_STATE] = run->state == NULL;
	nulls[RUN_MESSAGE] = run->message == NULL;
	nulls[RUN_FAILED_TASKS] = run->failed_tasks == NIL;

	values[RUN_CONF] = run->conf == NULL ? empty_conf() :
		DirectFunctionCall1(jsonb_in, CStringGetDatum(run->conf));
}

void
fp_user_sql_set_context(const FpRunContext *run)
{
	current_run = run;
}

const FpRunContext *
fp_user_sql_context(void)
{
	return current_run;
}

/*
 * What DISCARD ALL does, but for the plan cache: to plan flowpg's kept
 * statements again after each task costs more than a third of the task rate.
 *
 * Settings go back to what they were when the session began, with ALTER ROLE
 * and ALTER DATABASE ... SET.
 */
void
fp_user_sql_reset_session(void)
{
	fp_user_sql_set_context(NULL);
	fp_spi_free_user_plans();

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());

	PortalHashTableDeleteAll();
	SetPGVariable("session_authorization", NIL, false);
	SetPGVariable("role", NIL, false);
	ResetAllOptions();
	DropAllPreparedStatements();
	Async_UnlistenAll();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetTempTableNamespace();
	ResetSequenceCaches();

	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Run all statements of a command.
 *
 * Parse trees, parameters and the first row live in a context of their own,
 * for with is_outside transactions end between and inside the statements.
 * Each statement's memory is given back before the next.
 */
static void
run_command(const char *sql, const FpRunContext *run, bool is_outside,
			FpUserSqlResult *result)
{
	MemoryContext caller_context = CurrentMemoryContext;
	MemoryContext command_context;
	MemoryContext statement_context;
	ErrorContextCallback callback;
	SqlErrorContext where = {sql, NULL};
	FirstRowReceiver first_row;
	ParamListInfo params;
	List	   *statements;
	ListCell   *lc;

	memset(result, 0, sizeof(FpUserSqlResult));
	command_context = AllocSetContextCreate(caller_context,
											"flowpg command",
											ALLOCSET_DEFAULT_SIZES);
	statement_context = AllocSetContextCreate(command_context,
											  "flowpg statement",
											  ALLOCSET_DEFAULT_SIZES);
	push_error_context(&callback, &where);

	MemoryContextSwitchTo(command_context);
	statements = parse_command(sql);
	params = fp_user_sql_params(NULL, run);
	init_first_row(&first_row, command_context);

	foreach(lc, statements)
	{
		if (is_outside)
			next_transaction();
		MemoryContextSwitchTo(statement_context);
		run_statement(lfirst_node(RawStmt, lc), sql, params, &first_row,
					  &result->rows_written);
		MemoryContextReset(statement_context);
	}
	if (is_outside)
		next_transaction();

	error_context_stack = callback.previous;
	MemoryContextSwitchTo(caller_context);
	result->has_row = first_row.has_row;
	if (first_row.json != NULL)
		result->first_row = pstrdup(first_row.json);
	MemoryContextDelete(command_context);
}

/*
 * Run one statement as the server's main loop does, with its rows going to
 * the receiver.  Called, and returns, in a context that is reset afterwards;
 * the transaction may be another one when it returns.
 */
static void
run_statement(RawStmt *raw, const char *sql, ParamListInfo params,
			  FirstRowReceiver *receiver, uint64 *rows_written)
{
	MemoryContext statement_context = CurrentMemoryContext;
	bool		pushed = false;
	List	   *queries;
	List	   *plans;
	Portal		portal;
	QueryCompletion qc;

	/*
	 * Utility statements must not find a snapshot: some cannot run with one,
	 * the others take their own.
	 */
	if (analyze_requires_snapshot(raw))
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}
	queries = pg_analyze_and_rewrite_withcb(raw, sql,
											fp_user_sql_parser_setup, NULL,
											NULL);
	plans = pg_plan_queries(queries, sql, CURSOR_OPT_PARALLEL_OK, params);
	if (pushed)
		PopActiveSnapshot();

	CHECK_FOR_INTERRUPTS();

	/*
	 * A portal with a name of its own: in a session the unnamed one may be
	 * what runs us.
	 */
	portal = CreateNewPortal();
	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(raw->stmt), plans,
					  NULL);
	PortalStart(portal, params, 0, InvalidSnapshot);
	InitializeQueryCompletion(&qc);
	(void) fp_portal_run(portal, FETCH_ALL, true /* is_top */ ,
						 &receiver->receiver, None_Receiver, &qc);
	PortalDrop(portal, false);

	MemoryContextSwitchTo(statement_context);
	*rows_written += rows_written_by(raw, &qc);
	if (receiver->tuple != NULL)
		convert_first_row(receiver);

	CommandCounterIncrement();
}

static uint64
rows_written_by(const RawStmt *raw, const QueryCompletion *qc)
{
	switch (qc->commandTag)
	{
		case CMDTAG_INSERT:
		case CMDTAG_UPDATE:
		case CMDTAG_DELETE:
		case CMDTAG_MERGE:
			return qc->nprocessed;
		case CMDTAG_COPY:
			return ((CopyStmt *) raw->stmt)->is_from ? qc->nprocessed : 0;
		default:
			return 0;
	}
}

/*
 * Commit and begin anew; changes the current memory context.
 */
static void
next_transaction(void)
{
	CommitTransactionCommand();
	pgstat_report_stat(false);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

/*
 * Whoever calls us can only commit where nothing is left on the stack that
 * needs the transaction, and must want its results somewhere else.
 */
static void
check_may_commit(MemoryContext context)
{
	if (IsTransactionBlock() || ActiveSnapshotSet() || ActivePortal != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a task with in_transaction = false cannot run inside a transaction"),
				 errhint("Let a worker run it: use flow_trigger().")));

	for (; context != NULL; context = MemoryContextGetParent(context))
	{
		if (context == TopTransactionContext)
			elog(ERROR, "called in a memory context that ends with the transaction");
	}
}

/*
 * The raw statements of a command, in the current context.  All are looked at
 * before any is run.
 */
static List *
parse_command(const char *sql)
{
	List	   *statements = pg_parse_query(sql);
	ListCell   *lc;

	foreach(lc, statements)
		refuse_statement(lfirst_node(RawStmt, lc)->stmt);

	return statements;
}

static List *
parse_argument(const char *sql, const char *argument)
{
	List	   *statements = parse_command(sql);

	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" contains no SQL statement", argument),
				 errhint("Give at least one SQL statement.")));
	return statements;
}

/*
 * Raise an error for what no task may do.  COPY without a file would read and
 * write the server's own standard input and output, for a worker has no
 * client.
 */
static void
refuse_statement(const Node *statement)
{
	if (IsA(statement, TransactionStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s is not allowed in a task",
						GetCommandTagName(CreateCommandTag((Node *) statement))),
				 errdetail("A task and the record of it are committed together."),
				 errhint("To commit in between, use in_transaction = false and call a procedure that commits.")));

	if (IsA(statement, CopyStmt) &&
		((const CopyStmt *) statement)->filename == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("COPY from or to the client is not allowed in a task"),
				 errhint("Use COPY with a file or PROGRAM on the server.")));
}

/*
 * Resolve the names of a statement, with run.* known and without planning or
 * rewriting it.
 */
static Query *
analyze_statement(RawStmt *raw, const char *sql)
{
	bool		pushed = !ActiveSnapshotSet();
	ParseState *pstate;
	Query	   *query;

	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = sql;
	fp_user_sql_parser_setup(pstate, NULL);
	query = transformTopLevelStmt(pstate, raw);
	free_parsestate(pstate);
	if (pushed)
		PopActiveSnapshot();

	return query;
}

/*
 * A SELECT that neither makes a table (SELECT INTO, which the grammar puts at
 * the leftmost of a UNION) nor writes in its WITH (allowed at the top only).
 */
static bool
is_plain_select(Node *statement)
{
	SelectStmt *select;
	ListCell   *lc;

	if (!IsA(statement, SelectStmt))
		return false;

	select = (SelectStmt *) statement;
	if (select->withClause != NULL)
	{
		foreach(lc, select->withClause->ctes)
		{
			if (!IsA(lfirst_node(CommonTableExpr, lc)->ctequery, SelectStmt))
				return false;
		}
	}
	while (select->op != SETOP_NONE)
		select = select->larg;

	return select->intoClause == NULL;
}

/*
 * Walker that raises an error where the current user lacks a right on a
 * relation that the query, its subqueries or its WITH name.  What views read
 * is the views' owners' affair.
 */
static bool
check_query_rights(Node *node, void *context)
{
	if (node == NULL)
		return false;

	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (query->commandType == CMD_UTILITY)
			return check_query_rights((Node *)
									  UtilityContainsQuery(query->utilityStmt),
									  context);

		(void) ExecCheckPermissions(query->rtable, query->rteperminfos, true);
		return query_tree_walker(query, check_query_rights, context, 0);
	}

	return expression_tree_walker(node, check_query_rights, context);
}

/*
 * Parser hook, called for every column reference with what core found: a
 * reference to nothing that is spelled run.<name> is a run's value.  Whatever
 * is called run in the query wins, also where it lacks the column.
 */
static Node *
run_column_ref(ParseState *pstate, ColumnRef *ref, Node *found)
{
	FpUserSqlSetup *setup = (FpUserSqlSetup *) pstate->p_ref_hook_state;
	int			nvalues = setup != NULL ? setup->nvalues : 0;
	Node	   *field;
	int			levels_up;

	if (found != NULL || list_length(ref->fields) != 2)
		return NULL;
	field = (Node *) linitial(ref->fields);
	if (!IsA(field, String) || strcmp(strVal(field), RUN_QUALIFIER) != 0)
		return NULL;
	if (refnameNamespaceItem(pstate, NULL, RUN_QUALIFIER, ref->location,
							 &levels_up) != NULL)
		return NULL;

	field = (Node *) lsecond(ref->fields);
	if (!IsA(field, String))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("run.* cannot be used as a list of columns"),
				 errhint("Name the values that you need, or select from flow_context()."),
				 parser_errposition(pstate, ref->location)));

	for (int i = 0; i < FP_RUN_VALUES; i++)
	{
		if (strcmp(strVal(field), run_values[i].name) == 0)
			return make_param(nvalues + i + 1, run_values[i].type,
							  ref->location);
	}

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("run value \"%s\" does not exist", strVal(field)),
			 errhint("The values of a run are %s.", run_value_names()),
			 parser_errposition(pstate, ref->location)));
	return NULL;				/* keep compiler quiet */
}

/*
 * Parser hook for $n; NULL makes core raise its error.
 */
static Node *
caller_param_ref(ParseState *pstate, ParamRef *ref)
{
	FpUserSqlSetup *setup = (FpUserSqlSetup *) pstate->p_ref_hook_state;

	if (ref->number < 1 || ref->number > setup->nvalues)
		return NULL;
	return make_param(ref->number, setup->types[ref->number - 1],
					  ref->location);
}

static Node *
make_param(int number, Oid type, int location)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = type;
	param->paramtypmod = -1;
	param->paramcollid = get_typcollation(type);
	param->location = location;

	return (Node *) param;
}

static const char *
run_value_names(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < FP_RUN_VALUES; i++)
		appendStringInfo(&names, "%srun.%s",
						 i == 0 ? "" :
						 i == FP_RUN_VALUES - 1 ? " and " : ", ",
						 run_values[i].name);
	return names.data;
}

/*
 * '{}', as nearly every run has it: parsed once a process.
 */
static Datum
empty_conf(void)
{
	static Datum cached = (Datum) 0;

	if (cached == (Datum) 0)
	{
		MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);

		cached = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
		MemoryContextSwitchTo(old_context);
	}
	return cached;
}

static Datum
text_list_to_array(List *list)
{
	Datum	   *elements = palloc(list_length(list) * sizeof(Datum));
	int			count = 0;
	ListCell   *lc;

	foreach(lc, list)
		elements[count++] = CStringGetTextDatum((char *) lfirst(lc));

	return PointerGetDatum(construct_array(elements, count, TEXTOID, -1,
										   false, TYPALIGN_INT));
}

static pg_tz *
run_timezone(const FpRunContext *run)
{
	pg_tz	   *timezone;

	if (run->timezone == NULL)
		return session_timezone;

	timezone = pg_tzset(run->timezone);
	if (timezone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timezone \"%s\" of dag \"%s\" is not recognized",
						run->timezone, run->dag_id),
				 errhint("See pg_timezone_names for the names that this server has.")));
	return timezone;
}

/*
 * Wall-clock time in a zone; false where there is no time.
 */
static bool
to_local_time(TimestampTz time, pg_tz *timezone, struct pg_tm *local,
			  fsec_t *fsec)
{
	int			offset;

	if (TIMESTAMP_NOT_FINITE(time))
		return false;

	if (timestamp2tm(time, &offset, local, fsec, NULL, timezone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return true;
}

static Datum
local_timestamp(TimestampTz time, pg_tz *timezone, bool *isnull)
{
	struct pg_tm local;
	fsec_t		fsec;
	Timestamp	result;

	*isnull = !to_local_time(time, timezone, &local, &fsec);
	if (*isnull)
		return (Datum) 0;

	if (tm2timestamp(&local, fsec, NULL, &result) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return TimestampGetDatum(result);
}

static Datum
local_date(TimestampTz time, pg_tz *timezone, bool *isnull)
{
	struct pg_tm local;
	fsec_t		fsec;

	*isnull = !to_local_time(time, timezone, &local, &fsec);
	if (*isnull)
		return (Datum) 0;

	return DateADTGetDatum(date2j(local.tm_year, local.tm_mon, local.tm_mday) -
						   POSTGRES_EPOCH_JDATE);
}

static void
init_first_row(FirstRowReceiver *self, MemoryContext context)
{
	memset(self, 0, sizeof(FirstRowReceiver));
	self->receiver.receiveSlot = first_row_receive;
	self->receiver.rStartup = first_row_startup;
	self->receiver.rShutdown = first_row_done;
	self->receiver.rDestroy = first_row_done;
	self->receiver.mydest = DestNone;
	self->context = context;
}

/*
 * Keep the first row as it is; it is turned into json after the executor has
 * finished, since that may call a user's casts.
 */
static bool
first_row_receive(TupleTableSlot *slot, DestReceiver *receiver)
{
	FirstRowReceiver *self = (FirstRowReceiver *) receiver;
	MemoryContext old_context;

	if (self->has_row)
		return true;

	self->has_row = true;
	if (slot_raw_size(slot) > FIRST_ROW_MAX_RAW_BYTES)
		return true;

	old_context = MemoryContextSwitchTo(self->context);
	self->tuple = ExecCopySlotHeapTuple(slot);
	self->desc = BlessTupleDesc(CreateTupleDescCopy(self->result_desc));
	MemoryContextSwitchTo(old_context);

	return true;
}

/*
 * The result's own descriptor is the one with the columns' names: a row may
 * come in the slot of a scan, which has none.
 */
static void
first_row_startup(DestReceiver *receiver, int operation, TupleDesc desc)
{
	((FirstRowReceiver *) receiver)->result_desc = desc;
}

static void
first_row_done(DestReceiver *receiver)
{
}

/*
 * Bytes of all values, as if none were compressed or stored elsewhere.
 */
static Size
slot_raw_size(TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	Size		size = 0;

	slot_getallattrs(slot);
	for (int i = 0; i < desc->natts; i++)
	{
		int16		length = TupleDescAttr(desc, i)->attlen;

		if (slot->tts_isnull[i])
			continue;
		if (length > 0)
			size += length;
		else if (length == -1)
			size += toast_raw_datum_size(slot->tts_values[i]);
		else
			size += strlen(DatumGetCString(slot->tts_values[i]));
	}
	return size;
}

/*
 * Turn the row kept into the text of a jsonb value, as the current user.
 *
 * Through jsonb itself, since not every json is one, and the record of the
 * task, written after this, must not fail for a user's data.
 */
static void
convert_first_row(FirstRowReceiver *self)
{
	bool		pushed = !ActiveSnapshotSet();
	ErrorContextCallback callback;
	Datum		row;
	text	   *json;
	Jsonb	   *jsonb;
	char	   *result;

	callback.callback = first_row_error_context;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());

	row = heap_copy_tuple_as_datum(self->tuple, self->desc);
	json = DatumGetTextPP(OidFunctionCall1(F_ROW_TO_JSON_RECORD, row));
	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											   CStringGetDatum(text_to_cstring(json))));
	result = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	if (strlen(result) <= FP_RESULT_MAX_BYTES)
		self->json = MemoryContextStrdup(self->context, result);
	self->tuple = NULL;

	if (pushed)
		PopActiveSnapshot();
	error_context_stack = callback.previous;
}

static void
first_row_error_context(void *arg)
{
	errcontext("conversion to jsonb of the first row that the task returned");
}

static void
push_error_context(ErrorContextCallback *callback, SqlErrorContext *where)
{
	callback->callback = sql_error_context;
	callback->arg = where;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

/*
 * A position in an error is one in the user's SQL, and not in the statement
 * that the client sent.
 */
static void
sql_error_context(void *arg)
{
	SqlErrorContext *where = (SqlErrorContext *) arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(where->sql);
	}
	if (where->argument != NULL)
		errcontext("SQL in argument \"%s\"", where->argument);
}
