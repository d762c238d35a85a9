/*-------------------------------------------------------------------------
 *
 * api_task.c
 *	  SQL functions that define tasks: flow_add_sql, flow_add_upsert,
 *	  flow_drop_task.
 *
 * Called by sessions.  A task is looked at from all sides before it is
 * written: its SQL as the DAG's owner and with the DAG's search_path, as it
 * will run; its upstream tasks; the pool that it runs in.
 *
 * A DAG of n tasks is defined by n calls, so a call must not read the whole
 * DAG: a cycle can only come from a task that is there already and gets an
 * upstream task that it did not have, and only then are the tasks above it
 * read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "args.h"
#include "cycle.h"
#include "dag_rights.h"
#include "guc.h"
#include "pool_store.h"
#include "request_store.h"
#include "task_store.h"
#include "trigger_rule.h"
#include "upsert.h"
#include "user_sql.h"

/* names that an error lists */
#define LISTED_NAMES 10

/* The first arguments of every flow_add_ function. */
enum
{
	ARG_DAG_ID,
	ARG_TASK_ID,
	ARG_OWN						/* the operator's own begin here */
};

/* The common arguments, counted from where they begin. */
enum
{
	COMMON_UPSTREAM,
	COMMON_TRIGGER_RULE,
	COMMON_RETRIES,
	COMMON_RETRY_DELAY,
	COMMON_EXECUTION_TIMEOUT,
	COMMON_POOL,
	COMMON_POOL_SLOTS,
	COMMON_PRIORITY_WEIGHT,
	COMMON_DEPENDS_ON_PAST
};

/* flow_add_sql's own arguments */
enum
{
	SQL_COMMAND = ARG_OWN,
	SQL_IN_TRANSACTION,
	SQL_COMMON
};

/* flow_add_upsert's own arguments */
enum
{
	UPSERT_SOURCE = ARG_OWN,
	UPSERT_TARGET,
	UPSERT_KEY,
	UPSERT_PAGE_BY,
	UPSERT_PAGE_SIZE,
	UPSERT_MODE,
	UPSERT_REPLACE_WHERE,
	UPSERT_INCREMENTAL,
	UPSERT_UPDATE_COLUMNS,
	UPSERT_PARALLEL_PAGES,
	UPSERT_LOOKBACK,
	UPSERT_DELETE_MISSING,
	UPSERT_CREATE_PARTITION,
	UPSERT_ON_ROW_ERROR,
	UPSERT_COMMON
};

PG_FUNCTION_INFO_V1(flow_add_sql);
PG_FUNCTION_INFO_V1(flow_add_upsert);
PG_FUNCTION_INFO_V1(flow_drop_task);

static FpDagDef *begin_task(FunctionCallInfo fcinfo, FpTaskDef *task,
							const char *operator, int first_common);
static Datum finish_task(const FpTaskDef *task);
static void read_common(FunctionCallInfo fcinfo, int first, FpTaskDef *task);
static int	compare_names(const ListCell *a, const ListCell *b);
static List *without_duplicates(List *names);
static void check_upstream(const FpTaskDef *task);
static void check_no_cycle(const FpTaskDef *task);
static void check_pool(const FpTaskDef *task);
static char *task_list_hint(const char *dag_id);
static Jsonb *sql_params(const char *command, bool in_transaction);
static void push_key(JsonbParseState **state, const char *key);
static void read_upsert(FunctionCallInfo fcinfo, FpUpsertDef *def);
static FpUpsertMode parse_mode(const char *mode);
static const char *check_on_row_error(const char *on_row_error);


/*
 * flow_add_sql(dag_id, task_id, command, in_transaction, common ...)
 * returns text
 */
Datum
flow_add_sql(PG_FUNCTION_ARGS)
{
	FpTaskDef	task = {0};
	FpDagDef   *dag;
	FpDagScope	scope;
	char	   *command;
	bool		in_transaction;

	fp_args_begin("flow_add_sql()");
	dag = begin_task(fcinfo, &task, "sql", SQL_COMMON);
	command = fp_args_required_text(fcinfo, SQL_COMMAND, "command");
	in_transaction = fp_args_bool(fcinfo, SQL_IN_TRANSACTION, true);

	fp_dag_rights_begin_as(&scope, dag->owner, dag->search_path);
	fp_user_sql_check(command, "command", fp_check_definitions);
	fp_dag_rights_end_as(&scope);

	task.params = sql_params(command, in_transaction);
	return finish_task(&task);
}

/*
 * flow_add_upsert(dag_id, task_id, source, target, ..., common ...)
 * returns text
 */
Datum
flow_add_upsert(PG_FUNCTION_ARGS)
{
	FpTaskDef	task = {0};
	FpUpsertDef upsert = {0};
	FpDagDef   *dag;
	FpDagScope	scope;

	fp_args_begin("flow_add_upsert()");
	dag = begin_task(fcinfo, &task, "upsert", UPSERT_COMMON);
	read_upsert(fcinfo, &upsert);

	fp_dag_rights_begin_as(&scope, dag->owner, dag->search_path);
	fp_upsert_check(&upsert, fp_check_definitions);
	fp_dag_rights_end_as(&scope);

	task.params = fp_upsert_to_jsonb(&upsert);
	return finish_task(&task);
}

/*
 * flow_drop_task(dag_id text, task_id text) returns void
 *
 * What waits for the task no longer does.
 */
Datum
flow_drop_task(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	char	   *task_id;

	fp_args_begin("flow_drop_task()");
	dag_id = fp_args_id(fcinfo, ARG_DAG_ID, "dag_id");
	task_id = fp_args_id(fcinfo, ARG_TASK_ID, "task_id");

	(void) fp_dag_rights_lock(dag_id);
	if (!fp_task_store_drop(dag_id, task_id))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task \"%s\" of dag \"%s\" does not exist",
						task_id, dag_id),
				 errhint("%s", task_list_hint(dag_id))));

	fp_dag_store_new_version(dag_id);
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, NULL);
	PG_RETURN_VOID();
}

/*
 * Lock the DAG and read the arguments that every task has.
 */
static FpDagDef *
begin_task(FunctionCallInfo fcinfo, FpTaskDef *task, const char *operator,
		   int first_common)
{
	FpDagDef   *dag;

	task->dag_id = fp_args_id(fcinfo, ARG_DAG_ID, "dag_id");
	task->task_id = fp_args_id(fcinfo, ARG_TASK_ID, "task_id");
	task->operator = operator;
	dag = fp_dag_rights_lock(task->dag_id);
	read_common(fcinfo, first_common, task);
	return dag;
}

/*
 * Check what the task stands beside, write it, and return its task_id.
 */
static Datum
finish_task(const FpTaskDef *task)
{
	check_upstream(task);
	check_pool(task);
	fp_task_store_write(task);
	fp_dag_store_new_version(task->dag_id);
	fp_request_store_add(FP_REQUEST_DAG, task->dag_id, 0, 0, NULL);
	return CStringGetTextDatum(task->task_id);
}

static void
read_common(FunctionCallInfo fcinfo, int first, FpTaskDef *task)
{
	const char *text;

	task->upstream = without_duplicates(fp_args_text_array(fcinfo,
														   first + COMMON_UPSTREAM,
														   "upstream"));
	text = fp_args_text(fcinfo, first + COMMON_TRIGGER_RULE);
	task->trigger_rule =
		fp_trigger_rule_name(text == NULL ? FP_TRIGGER_RULE_ALL_SUCCESS :
							 fp_trigger_rule_parse(text));
	task->retries = fp_args_int(fcinfo, first + COMMON_RETRIES, "retries", 0,
								-1);
	task->retry_delay = fp_args_interval(fcinfo, first + COMMON_RETRY_DELAY,
										 "retry_delay", FP_ARGS_ZERO_OR_MORE);
	task->execution_timeout = fp_args_interval(fcinfo,
											   first + COMMON_EXECUTION_TIMEOUT,
											   "execution_timeout",
											   FP_ARGS_POSITIVE);
	text = fp_args_text(fcinfo, first + COMMON_POOL);
	task->pool = text == NULL ? FP_DEFAULT_POOL : text;
	task->pool_slots = fp_args_int(fcinfo, first + COMMON_POOL_SLOTS,
								   "pool_slots", 1, 1);
	task->priority_weight = fp_args_int(fcinfo,
										first + COMMON_PRIORITY_WEIGHT,
										"priority_weight", PG_INT32_MIN, 1);
	task->has_depends_on_past = !PG_ARGISNULL(first + COMMON_DEPENDS_ON_PAST);
	task->depends_on_past = fp_args_bool(fcinfo,
										 first + COMMON_DEPENDS_ON_PAST,
										 false);
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static List *
without_duplicates(List *names)
{
	List	   *result = NIL;
	ListCell   *lc;

	list_sort(names, compare_names);
	foreach(lc, names)
	{
		if (result == NIL || strcmp(llast(result), lfirst(lc)) != 0)
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/*
 * The upstream tasks exist, and none of them waits for this one.
 */
static void
check_upstream(const FpTaskDef *task)
{
	List	   *missing;
	ListCell   *lc;

	if (task->upstream == NIL)
		return;

	foreach(lc, task->upstream)
	{
		if (strcmp(lfirst(lc), task->task_id) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					 errmsg("task \"%s\" of dag \"%s\" cannot be its own upstream task",
							task->task_id, task->dag_id),
					 errhint("Leave it out of upstream.")));
	}

	missing = fp_task_store_missing(task->dag_id, task->upstream);
	if (missing != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("upstream task \"%s\" of dag \"%s\" does not exist",
						(char *) linitial(missing), task->dag_id),
				 errhint("%s", task_list_hint(task->dag_id))));

	if (fp_task_store_adds_upstream(task->dag_id, task->task_id,
									task->upstream))
		check_no_cycle(task);
}

static void
check_no_cycle(const FpTaskDef *task)
{
	List	   *from;
	List	   *to;
	ListCell   *lc;
	char	   *cycle;

	/* to ask is much cheaper than to find the way */
	if (!fp_task_store_has_downstream(task->dag_id, task->task_id) ||
		!fp_task_store_is_above(task->dag_id, task->upstream, task->task_id))
		return;

	fp_task_store_edges_above(task->dag_id, task->upstream, &from, &to);
	foreach(lc, task->upstream)
	{
		from = lappend(from, lfirst(lc));
		to = lappend(to, unconstify(char *, task->task_id));
	}

	cycle = fp_cycle_find(from, to, task->task_id);
	if (cycle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("upstream of task \"%s\" of dag \"%s\" would make a cycle: %s",
						task->task_id, task->dag_id, cycle),
				 errhint("Take one of these tasks out of the upstream of the next one first.")));
}

static void
check_pool(const FpTaskDef *task)
{
	int			slots = fp_pool_store_share(task->pool);

	if (slots < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pool \"%s\" does not exist", task->pool),
				 errhint("The table flow.pool lists the pools; flow_create_pool() makes one.")));
	if (task->pool_slots > slots)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid pool_slots \"%d\"", task->pool_slots),
				 errdetail("Pool \"%s\" has %d slots.", task->pool, slots),
				 errhint("Give a number of slots that the pool has.")));
}

static char *
task_list_hint(const char *dag_id)
{
	List	   *task_ids = fp_task_store_list(dag_id);

	if (task_ids == NIL)
		return "The DAG has no tasks yet.";
	return psprintf("The tasks of the DAG are %s.",
					fp_args_name_list(task_ids, LISTED_NAMES));
}

static Jsonb *
sql_params(const char *command, bool in_transaction)
{
	JsonbParseState *state = NULL;
	JsonbValue	value;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_key(&state, "command");
	value.type = jbvString;
	value.val.string.val = unconstify(char *, command);
	value.val.string.len = strlen(command);
	pushJsonbValue(&state, WJB_VALUE, &value);
	push_key(&state, "in_transaction");
	value.type = jbvBool;
	value.val.boolean = in_transaction;
	pushJsonbValue(&state, WJB_VALUE, &value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
}

/*
 * What can be said without looking at source and target.
 */
static void
read_upsert(FunctionCallInfo fcinfo, FpUpsertDef *def)
{
	Interval   *lookback;

	def->source = fp_args_required_text(fcinfo, UPSERT_SOURCE, "source");
	def->target = fp_args_required_text(fcinfo, UPSERT_TARGET, "target");
	def->key = fp_args_text_array(fcinfo, UPSERT_KEY, "key");
	def->page_by = fp_args_text_array(fcinfo, UPSERT_PAGE_BY, "page_by");
	def->page_size = fp_args_int(fcinfo, UPSERT_PAGE_SIZE, "page_size", 1,
								 10000);
	def->mode = parse_mode(fp_args_text(fcinfo, UPSERT_MODE));
	def->replace_where = fp_args_text(fcinfo, UPSERT_REPLACE_WHERE);
	def->is_incremental = fp_args_bool(fcinfo, UPSERT_INCREMENTAL, false);
	def->update_columns = fp_args_text_array(fcinfo, UPSERT_UPDATE_COLUMNS,
											 "update_columns");
	def->parallel_pages = fp_args_int(fcinfo, UPSERT_PARALLEL_PAGES,
									  "parallel_pages", 1, 1);
	lookback = fp_args_interval(fcinfo, UPSERT_LOOKBACK, "lookback",
								FP_ARGS_POSITIVE);
	def->lookback = lookback == NULL ? NULL : fp_args_interval_text(lookback);
	def->delete_missing = fp_args_bool(fcinfo, UPSERT_DELETE_MISSING, false);
	def->create_partition = fp_args_bool(fcinfo, UPSERT_CREATE_PARTITION,
										 false);
	def->on_row_error = check_on_row_error(fp_args_text(fcinfo,
														UPSERT_ON_ROW_ERROR));
}

static FpUpsertMode
parse_mode(const char *mode)
{
	if (mode == NULL || strcmp(mode, "upsert") == 0)
		return FP_UPSERT_UPSERT;
	if (strcmp(mode, "append") == 0)
		return FP_UPSERT_APPEND;
	if (strcmp(mode, "replace") == 0)
		return FP_UPSERT_REPLACE;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid mode \"%s\"", mode),
			 errhint("The modes are upsert, append and replace.")));
	return FP_UPSERT_UPSERT;	/* keep compiler quiet */
}

static const char *
check_on_row_error(const char *on_row_error)
{
	if (on_row_error == NULL)
		return "stop";
	if (strcmp(on_row_error, "stop") != 0 && strcmp(on_row_error, "keep") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid on_row_error \"%s\"", on_row_error),
				 errhint("Give stop or keep.")));
	return on_row_error;
}
