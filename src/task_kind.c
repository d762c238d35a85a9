/*-------------------------------------------------------------------------
 *
 * task_kind.c
 *	  The kinds of tasks: what arguments each has, and how they are checked.
 *
 * Called by sessions that define tasks.  What a kind does when it runs is in
 * task_exec.c, operators.c and upsert.c, which read params; a new kind is one
 * more reader and one more line of kinds[].
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "cycle.h"
#include "dag_rights.h"
#include "guc.h"
#include "jsonb_util.h"
#include "link_store.h"
#include "operators.h"
#include "task_kind.h"
#include "task_store.h"
#include "upsert.h"
#include "user_sql.h"

enum
{
	SQL_COMMAND = FP_TASK_OWN,
	SQL_IN_TRANSACTION
};

static const FpArgument sql_arguments[] = {
	{"command", TEXTOID},
	{"in_transaction", BOOLOID, "true"},
};

enum
{
	UPSERT_SOURCE = FP_TASK_OWN,
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
	UPSERT_ON_ROW_ERROR
};

static const FpArgument upsert_arguments[] = {
	{"source", TEXTOID},
	{"target", TEXTOID},
	{"key", TEXTARRAYOID},
	{"page_by", TEXTARRAYOID},
	{"page_size", INT4OID, "10000"},
	{"mode", TEXTOID, "\"upsert\""},
	{"replace_where", TEXTOID},
	{"incremental", BOOLOID, "false"},
	{"update_columns", TEXTARRAYOID},
	{"parallel_pages", INT4OID, "1"},
	{"lookback", INTERVALOID},
	{"delete_missing", BOOLOID, "false"},
	{"create_partition", BOOLOID, "false"},
	{"on_row_error", TEXTOID, "\"stop\""},
};

enum
{
	CHECK_CONDITION = FP_TASK_OWN,
	CHECK_SEVERITY
};

static const FpArgument check_arguments[] = {
	{"condition", TEXTOID},
	{"severity", TEXTOID, "\"error\""},
};

enum
{
	SENSOR_CONDITION = FP_TASK_OWN,
	SENSOR_POKE_INTERVAL,
	SENSOR_TIMEOUT,
	SENSOR_SOFT_FAIL
};

static const FpArgument sensor_arguments[] = {
	{"condition", TEXTOID},
	{"poke_interval", INTERVALOID, "\"00:01:00\""},
	{"timeout", INTERVALOID, "\"7 days\""},
	{"soft_fail", BOOLOID, "false"},
};

enum
{
	BRANCH_COMMAND = FP_TASK_OWN
};

static const FpArgument branch_arguments[] = {
	{"command", TEXTOID},
};

enum
{
	RETENTION_TARGET = FP_TASK_OWN,
	RETENTION_COLUMN_NAME,
	RETENTION_KEEP
};

static const FpArgument retention_arguments[] = {
	{"target", TEXTOID},
	{"column_name", TEXTOID},
	{"keep", INTERVALOID},
};

enum
{
	TRIGGER_TRIGGER_DAG_ID = FP_TASK_OWN,
	TRIGGER_CONF,
	TRIGGER_WAIT
};

static const FpArgument trigger_arguments[] = {
	{"trigger_dag_id", TEXTOID},
	{"conf", JSONBOID, "{}"},
	{"wait", BOOLOID, "false"},
};

static Jsonb *read_sql(FunctionCallInfo fcinfo, const FpDagDef *dag,
					   const char *task_id);
static Jsonb *read_upsert(FunctionCallInfo fcinfo, const FpDagDef *dag,
						  const char *task_id);
static Jsonb *read_check(FunctionCallInfo fcinfo, const FpDagDef *dag,
						 const char *task_id);
static Jsonb *read_sensor(FunctionCallInfo fcinfo, const FpDagDef *dag,
						  const char *task_id);
static Jsonb *read_branch(FunctionCallInfo fcinfo, const FpDagDef *dag,
						  const char *task_id);
static Jsonb *read_retention(FunctionCallInfo fcinfo, const FpDagDef *dag,
							 const char *task_id);
static Jsonb *read_trigger(FunctionCallInfo fcinfo, const FpDagDef *dag,
						   const char *task_id);
static FpUpsertMode parse_mode(const char *mode);
static const char *check_on_row_error(const char *on_row_error);
static void check_condition(const char *condition, const FpDagDef *dag);
static const char *check_severity(const char *severity);
static void check_triggered(const FpDagDef *dag, const char *task_id,
							const char *trigger_dag_id);
static void begin_params(JsonbParseState **state);
static Jsonb *end_params(JsonbParseState **state);

static const FpTaskKind kinds[] = {
	{"sql", sql_arguments, lengthof(sql_arguments), read_sql},
	{"upsert", upsert_arguments, lengthof(upsert_arguments), read_upsert},
	{"check", check_arguments, lengthof(check_arguments), read_check},
	{"sensor", sensor_arguments, lengthof(sensor_arguments), read_sensor},
	{"branch", branch_arguments, lengthof(branch_arguments), read_branch},
	{"retention", retention_arguments, lengthof(retention_arguments), read_retention},
	{"trigger", trigger_arguments, lengthof(trigger_arguments), read_trigger},
};


const FpTaskKind *
fp_task_kind_find(const char *operator)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].operator, operator) == 0)
			return &kinds[i];
	}
	return NULL;
}

List *
fp_task_kind_names(void)
{
	List	   *result = NIL;

	for (int i = 0; i < lengthof(kinds); i++)
		result = lappend(result, unconstify(char *, kinds[i].operator));
	return result;
}

static Jsonb *
read_sql(FunctionCallInfo fcinfo, const FpDagDef *dag, const char *task_id)
{
	JsonbParseState *state = NULL;
	FpDagScope	scope;
	char	   *command;

	command = fp_args_required_text(fcinfo, SQL_COMMAND, "command");

	fp_dag_rights_begin_as(&scope, dag->owner, dag->search_path);
	fp_user_sql_check(command, "command", fp_check_definitions);
	fp_dag_rights_end_as(&scope);

	begin_params(&state);
	fp_jsonb_push_text(&state, "command", command);
	fp_jsonb_push_bool(&state, "in_transaction",
					   fp_args_bool(fcinfo, SQL_IN_TRANSACTION, true));
	return end_params(&state);
}

/*
 * Here is what can be said without looking at source and target.
 */
static Jsonb *
read_upsert(FunctionCallInfo fcinfo, const FpDagDef *dag, const char *task_id)
{
	FpUpsertDef def = {0};
	FpDagScope	scope;
	Interval   *lookback;

	def.source = fp_args_required_text(fcinfo, UPSERT_SOURCE, "source");
	def.target = fp_args_required_text(fcinfo, UPSERT_TARGET, "target");
	def.key = fp_args_text_array(fcinfo, UPSERT_KEY, "key");
	def.page_by = fp_args_text_array(fcinfo, UPSERT_PAGE_BY, "page_by");
	def.page_size = fp_args_int(fcinfo, UPSERT_PAGE_SIZE, "page_size", 1,
								10000);
	def.mode = parse_mode(fp_args_text(fcinfo, UPSERT_MODE));
	def.replace_where = fp_args_text(fcinfo, UPSERT_REPLACE_WHERE);
	def.is_incremental = fp_args_bool(fcinfo, UPSERT_INCREMENTAL, false);
	def.update_columns = fp_args_text_array(fcinfo, UPSERT_UPDATE_COLUMNS,
											"update_columns");
	def.parallel_pages = fp_args_int(fcinfo, UPSERT_PARALLEL_PAGES,
									 "parallel_pages", 1, 1);
	lookback = fp_args_interval(fcinfo, UPSERT_LOOKBACK, "lookback",
								FP_ARGS_POSITIVE);
	def.lookback = lookback == NULL ? NULL : fp_args_interval_text(lookback);
	def.delete_missing = fp_args_bool(fcinfo, UPSERT_DELETE_MISSING, false);
	def.create_partition = fp_args_bool(fcinfo, UPSERT_CREATE_PARTITION,
										false);
	def.on_row_error = check_on_row_error(fp_args_text(fcinfo,
													   UPSERT_ON_ROW_ERROR));

	fp_dag_rights_begin_as(&scope, dag->owner, dag->search_path);
	fp_upsert_check(&def, fp_check_definitions);
	fp_dag_rights_end_as(&scope);
	return fp_upsert_to_jsonb(&def);
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

static Jsonb *
read_check(FunctionCallInfo fcinfo, const FpDagDef *dag, const char *task_id)
{
	JsonbParseState *state = NULL;
	char	   *condition;
	const char *severity;

	condition = fp_args_required_text(fcinfo, CHECK_CONDITION, "condition");
	severity = check_severity(fp_args_text(fcinfo, CHECK_SEVERITY));
	check_condition(condition, dag);

	begin_params(&state);
	fp_jsonb_push_text(&state, "condition", condition);
	fp_jsonb_push_text(&state, "severity", severity);
	return end_params(&state);
}

static const char *
check_severity(const char *severity)
{
	if (severity == NULL)
		return "error";
	if (strcmp(severity, "error") != 0 && strcmp(severity, "warn") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid severity \"%s\"", severity),
				 errhint("Give error or warn.")));
	return severity;
}

static Jsonb *
read_sensor(FunctionCallInfo fcinfo, const FpDagDef *dag, const char *task_id)
{
	JsonbParseState *state = NULL;
	char	   *condition;
	Interval   *poke_interval;
	Interval   *timeout;

	condition = fp_args_required_text(fcinfo, SENSOR_CONDITION, "condition");
	poke_interval = fp_args_interval(fcinfo, SENSOR_POKE_INTERVAL,
									 "poke_interval", FP_ARGS_POSITIVE);
	timeout = fp_args_interval(fcinfo, SENSOR_TIMEOUT, "timeout",
							   FP_ARGS_POSITIVE);
	check_condition(condition, dag);

	begin_params(&state);
	fp_jsonb_push_text(&state, "condition", condition);
	fp_jsonb_push_text(&state, "poke_interval",
					   poke_interval == NULL ? "00:01:00" :
					   fp_args_interval_text(poke_interval));
	fp_jsonb_push_text(&state, "timeout",
					   timeout == NULL ? "7 days" :
					   fp_args_interval_text(timeout));
	fp_jsonb_push_bool(&state, "soft_fail",
					   fp_args_bool(fcinfo, SENSOR_SOFT_FAIL, false));
	return end_params(&state);
}

static void
check_condition(const char *condition, const FpDagDef *dag)
{
	FpDagScope	scope;

	fp_dag_rights_begin_as(&scope, dag->owner, dag->search_path);
	fp_operator_check_condition(condition, fp_check_definitions);
	fp_dag_rights_end_as(&scope);
}

static Jsonb *
read_branch(FunctionCallInfo fcinfo, const FpDagDef *dag, const char *task_id)
{
	JsonbParseState *state = NULL;
	FpDagScope	scope;
	char	   *command;

	command = fp_args_required_text(fcinfo, BRANCH_COMMAND, "command");

	fp_dag_rights_begin_as(&scope, dag->owner, dag->search_path);
	fp_operator_check_branch(command, fp_check_definitions);
	fp_dag_rights_end_as(&scope);

	begin_params(&state);
	fp_jsonb_push_text(&state, "command", command);
	return end_params(&state);
}

static Jsonb *
read_retention(FunctionCallInfo fcinfo, const FpDagDef *dag,
			   const char *task_id)
{
	JsonbParseState *state = NULL;
	FpRetention retention;
	FpDagScope	scope;

	retention.target = fp_args_required_text(fcinfo, RETENTION_TARGET,
											 "target");
	retention.column_name = fp_args_required_text(fcinfo,
												  RETENTION_COLUMN_NAME,
												  "column_name");
	retention.keep =
		fp_args_interval_text(fp_args_required_interval(fcinfo,
														RETENTION_KEEP,
														"keep",
														FP_ARGS_POSITIVE));

	fp_dag_rights_begin_as(&scope, dag->owner, dag->search_path);
	fp_operator_check_retention(&retention, fp_check_definitions);
	fp_dag_rights_end_as(&scope);

	begin_params(&state);
	fp_jsonb_push_text(&state, "target", retention.target);
	fp_jsonb_push_text(&state, "column_name", retention.column_name);
	fp_jsonb_push_text(&state, "keep", retention.keep);
	return end_params(&state);
}

static Jsonb *
read_trigger(FunctionCallInfo fcinfo, const FpDagDef *dag,
			 const char *task_id)
{
	JsonbParseState *state = NULL;
	JsonbValue	conf;
	char	   *trigger_dag_id;

	trigger_dag_id = fp_args_id(fcinfo, TRIGGER_TRIGGER_DAG_ID,
								"trigger_dag_id");
	if (fp_args_conf(fcinfo, TRIGGER_CONF) == NULL)
		JsonbToJsonbValue(DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															 CStringGetDatum("{}"))),
						  &conf);
	else
		JsonbToJsonbValue(PG_GETARG_JSONB_P(TRIGGER_CONF), &conf);
	check_triggered(dag, task_id, trigger_dag_id);

	begin_params(&state);
	fp_jsonb_push_text(&state, "trigger_dag_id", trigger_dag_id);
	fp_jsonb_push_value(&state, "conf", &conf);
	fp_jsonb_push_bool(&state, "wait",
					   fp_args_bool(fcinfo, TRIGGER_WAIT, false));
	return end_params(&state);
}

/*
 * The DAG is there for the owner, and does not trigger this one in turn.  As
 * links between DAGs, this is looked at by one session at a time.
 */
static void
check_triggered(const FpDagDef *dag, const char *task_id,
				const char *trigger_dag_id)
{
	FpDagRow   *triggered = fp_dag_store_get(trigger_dag_id);
	List	   *from;
	List	   *to;
	char	   *cycle;

	if (triggered == NULL ||
		!fp_dag_rights_may_see(dag->owner, triggered->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("trigger_dag_id \"%s\" does not exist",
						trigger_dag_id),
				 errhint("Give a DAG that the owner of dag \"%s\" may use.",
						 dag->dag_id)));
	if (strcmp(trigger_dag_id, dag->dag_id) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("task \"%s\" of dag \"%s\" cannot trigger its own DAG",
						task_id, dag->dag_id),
				 errhint("Name another DAG as trigger_dag_id, or use the schedule @continuous.")));

	fp_link_store_lock();
	fp_task_store_trigger_edges(trigger_dag_id, &from, &to);
	from = lappend(from, unconstify(char *, dag->dag_id));
	to = lappend(to, unconstify(char *, trigger_dag_id));
	cycle = fp_cycle_find(from, to, dag->dag_id);
	if (cycle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("task \"%s\" of dag \"%s\" would make a cycle of DAGs that trigger each other: %s",
						task_id, dag->dag_id, cycle),
				 errhint("Drop the trigger task of one of these DAGs first, with flow_drop_task().")));
}

static void
begin_params(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
}

static Jsonb *
end_params(JsonbParseState **state)
{
	return JsonbValueToJsonb(pushJsonbValue(state, WJB_END_OBJECT, NULL));
}
