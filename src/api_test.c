/*-------------------------------------------------------------------------
 *
 * api_test.c
 *	  flow_test_task(): runs a task now, in the caller's transaction.
 *
 * The task's SQL is its DAG's owner's and may be run for somebody of higher
 * rank, so it gets what core gives to the code of a SECURITY DEFINER function
 * or an index expression: the owner as current user, in a security-restricted
 * operation, with which it cannot go back to the caller's rights, nor leave
 * behind anything that would run with them later (deferred triggers, cursors,
 * prepared statements).  Settings are put back as they were.
 *
 * Nothing is recorded: there is no run, run.run_id is 0.  What the task does
 * is the caller's to commit or roll back, and its errors are the caller's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "act_store.h"
#include "args.h"
#include "clock.h"
#include "dag_rights.h"
#include "jsonb_util.h"
#include "operators.h"
#include "run_planner.h"
#include "spi_util.h"
#include "upsert_once.h"
#include "user_sql.h"

PG_FUNCTION_INFO_V1(flow_test_task);

/* A task that is being tried out. */
typedef struct Test
{
	const FpDagRow *dag;
	const char *task_id;
	FpTaskParams *task;
	FpRunContext run;
	JsonbParseState *result;	/* of the object that is returned */
} Test;

static void run_as_owner(Test *test);
static void run_task(Test *test);
static void run_sql(Test *test);
static void run_upsert(Test *test);
static void run_condition(Test *test);
static void run_branch(Test *test);
static void run_retention(Test *test);
static void run_trigger(Test *test);
static char *text_param(const Test *test, const char *name);
static bool bool_param(const Test *test, const char *name, bool if_missing);
static void push_state(Test *test, FpTaskRunState state);
static void push_count(Test *test, const char *key, int64 count);
static void push_json(Test *test, const char *key, const char *json);


/*
 * flow_test_task(dag_id, task_id, logical_date) returns jsonb
 *
 * An object with the state that the task run would have, and what else came
 * of it, under the names of flow.task_run's columns.
 */
Datum
flow_test_task(PG_FUNCTION_ARGS)
{
	Test		test = {0};
	FpDagRow   *dag;
	FpInterval	interval;
	TimestampTz logical_date = 0;

	if (fp_user_sql_context() != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("flow_test_task() cannot be called by a task"),
				 errhint("Use flow_add_trigger to run another DAG's tasks.")));
	dag = fp_dag_rights_require(fp_args_id(fcinfo, 0, "dag_id"));
	test.dag = dag;
	test.task_id = fp_args_id(fcinfo, 1, "task_id");
	if (!PG_ARGISNULL(2))
		logical_date = fp_args_wall_clock(PG_GETARG_TIMESTAMP(2),
										  dag->timezone, "logical_date");
	test.task = fp_act_store_task(dag->dag_id, test.task_id);
	if (test.task == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task \"%s\" of dag \"%s\" does not exist",
						test.task_id, dag->dag_id),
				 errhint("The table flow.task lists the tasks.")));

	interval = fp_run_planner_interval_to_trigger(dag, !PG_ARGISNULL(2),
												  logical_date,
												  fp_clock_now());
	test.run.dag_id = dag->dag_id;
	test.run.task_id = test.task_id;
	test.run.map_index = -1;
	test.run.try_number = 1;
	test.run.run_type = fp_run_type_name(FP_RUN_MANUAL);
	test.run.state = fp_run_state_name(FP_RUN_RUNNING);
	test.run.logical_date = interval.start;
	test.run.data_interval_start = interval.start;
	test.run.data_interval_end = interval.end;
	test.run.timezone = dag->timezone;

	pushJsonbValue(&test.result, WJB_BEGIN_OBJECT, NULL);
	run_as_owner(&test);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&test.result,
													   WJB_END_OBJECT,
													   NULL)));
}

/*
 * The user and the settings come back with the (sub)transaction's abort, too;
 * the context is this process's own and is put back by hand.
 */
static void
run_as_owner(Test *test)
{
	Oid			user_id;
	int			sec_context;
	int			nest_level;

	GetUserIdAndSecContext(&user_id, &sec_context);
	SetUserIdAndSecContext(test->dag->owner,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", test->dag->search_path,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	(void) set_config_option("timezone", test->dag->timezone,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	fp_user_sql_set_context(&test->run);
	PG_TRY();
	{
		run_task(test);
	}
	PG_CATCH();
	{
		fp_user_sql_set_context(NULL);
		fp_spi_free_user_plans();
		PG_RE_THROW();
	}
	PG_END_TRY();
	fp_user_sql_set_context(NULL);

	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user_id, sec_context);
}

static void
run_task(Test *test)
{
	switch (test->task->operator)
	{
		case FP_OPERATOR_SQL:
			run_sql(test);
			break;
		case FP_OPERATOR_UPSERT:
			run_upsert(test);
			break;
		case FP_OPERATOR_CHECK:
		case FP_OPERATOR_SENSOR:
			run_condition(test);
			break;
		case FP_OPERATOR_BRANCH:
			run_branch(test);
			break;
		case FP_OPERATOR_RETENTION:
			run_retention(test);
			break;
		case FP_OPERATOR_TRIGGER:
			run_trigger(test);
			break;
		case FP_OPERATOR_CALLBACK:
			elog(ERROR, "a callback is no task");
	}
}

static void
run_sql(Test *test)
{
	FpUserSqlResult result = {0};

	if (!bool_param(test, "in_transaction", true))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" cannot be tested because it does not run in a transaction",
						test->task_id),
				 errdetail("It was defined with in_transaction = false."),
				 errhint("Run it with flow_trigger.")));

	fp_user_sql_run(text_param(test, "command"), &test->run, &result);
	fp_user_sql_end_block();
	push_state(test, FP_TASK_RUN_SUCCESS);
	push_count(test, "rows_written", (int64) result.rows_written);
	push_json(test, "result", result.first_row);
}

/*
 * As one page, for it cannot commit in between.
 */
static void
run_upsert(Test *test)
{
	int64		rows_written;
	bool		has_rows = fp_upsert_once(fp_upsert_from_jsonb(test->task->params),
										  &test->run, &rows_written);

	push_state(test, FP_TASK_RUN_SUCCESS);
	push_count(test, "rows_written", rows_written);
	push_count(test, "pages", has_rows ? 1 : 0);
}

/*
 * A check, or one look of a sensor.
 */
static void
run_condition(Test *test)
{
	FpCondition condition;
	char	   *severity = text_param(test, "severity");
	FpTaskRunState state = FP_TASK_RUN_SUCCESS;

	fp_operator_condition(text_param(test, "condition"), &test->run,
						  &condition);
	if (!condition.is_true && test->task->operator == FP_OPERATOR_SENSOR)
		state = FP_TASK_RUN_UP_FOR_RESCHEDULE;
	else if (!condition.is_true &&
			 (severity == NULL || strcmp(severity, "warn") != 0))
		state = FP_TASK_RUN_FAILED;
	push_state(test, state);
	if (!condition.is_true)
		fp_jsonb_push_text(&test->result, "message", condition.message);
}

/*
 * The result is the tasks that go on.
 */
static void
run_branch(Test *test)
{
	List	   *chosen = fp_operator_branch(text_param(test, "command"),
											&test->run);
	ListCell   *cell;

	foreach(cell, chosen)
	{
		ListCell   *downstream;
		bool		is_downstream = false;

		foreach(downstream, test->task->downstream)
		{
			if (strcmp(lfirst(downstream), lfirst(cell)) == 0)
				is_downstream = true;
		}
		if (!is_downstream)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("branch \"%s\" names task \"%s\", which is not directly downstream of it",
							test->task_id, (char *) lfirst(cell)),
					 errhint("A branch gives the task_ids of direct downstream tasks.")));
	}
	push_state(test, FP_TASK_RUN_SUCCESS);
	fp_jsonb_push_texts(&test->result, "result", chosen);
}

/*
 * All of it, in the one transaction that there is.
 */
static void
run_retention(Test *test)
{
	FpRetention retention;
	int64		removed = 0;

	retention.target = text_param(test, "target");
	retention.column_name = text_param(test, "column_name");
	retention.keep = text_param(test, "keep");
	while (fp_operator_retention(&retention, &test->run, &removed))
		CHECK_FOR_INTERRUPTS();
	push_state(test, FP_TASK_RUN_SUCCESS);
	push_count(test, "rows_written", removed);
}

/*
 * No run is made, as nothing is recorded; the result names the DAG that would
 * run.
 */
static void
run_trigger(Test *test)
{
	char	   *dag_id = text_param(test, "trigger_dag_id");
	FpDagRow   *dag = fp_dag_store_get(dag_id);
	JsonbParseState *result = NULL;
	Jsonb	   *jsonb;

	if (dag == NULL || !fp_dag_rights_may_use(dag))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("dag \"%s\" does not exist", dag_id)));

	pushJsonbValue(&result, WJB_BEGIN_OBJECT, NULL);
	fp_jsonb_push_text(&result, "trigger_dag_id", dag_id);
	jsonb = JsonbValueToJsonb(pushJsonbValue(&result, WJB_END_OBJECT, NULL));
	push_state(test, FP_TASK_RUN_SUCCESS);
	push_json(test, "result",
			  JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb)));
}

/*
 * A parameter of the task as text; NULL: it has none of this name.
 */
static char *
text_param(const Test *test, const char *name)
{
	JsonbValue *value = fp_jsonb_get(test->task->params, name);

	if (value == NULL || value->type == jbvNull)
		return NULL;
	return value->type == jbvString ? fp_jsonb_string(value) :
		fp_jsonb_text(value);
}

static bool
bool_param(const Test *test, const char *name, bool if_missing)
{
	JsonbValue *value = fp_jsonb_get(test->task->params, name);

	if (value == NULL || value->type != jbvBool)
		return if_missing;
	return value->val.boolean;
}

static void
push_state(Test *test, FpTaskRunState state)
{
	fp_jsonb_push_text(&test->result, "state", fp_task_run_state_name(state));
}

static void
push_count(Test *test, const char *key, int64 count)
{
	JsonbValue	value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(count);
	fp_jsonb_push_value(&test->result, key, &value);
}

/*
 * NULL is left out.
 */
static void
push_json(Test *test, const char *key, const char *json)
{
	JsonbValue	value;

	if (json == NULL)
		return;
	JsonbToJsonbValue(DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														 CStringGetDatum(json))),
					  &value);
	fp_jsonb_push_value(&test->result, key, &value);
}
