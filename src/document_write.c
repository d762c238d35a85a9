/*-------------------------------------------------------------------------
 *
 * document_write.c
 *	  A whole DAG as one jsonb document, written from what is stored.
 *
 * Called by sessions, for flow_export.  A value is left out where leaving it
 * out means the same, so that what was given stands out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "document.h"
#include "guc.h"
#include "jsonb_util.h"
#include "pool_store.h"
#include "trigger_rule.h"

/* settings that stand in for arguments, as they are where nobody set them */
#define DEFAULT_TIMEZONE "UTC"
#define DEFAULT_CATCHUP true
#define DEFAULT_SEARCH_PATH "\"$user\", public"

static void write_dag(JsonbParseState **state, const FpDagDef *dag);
static void write_task(JsonbParseState **state, const FpTaskDef *task);
static void push_interval(JsonbParseState **state, const char *key,
						  const Interval *interval, const char *if_missing);
static void push_count(JsonbParseState **state, const char *key, int count,
					   int if_missing);
static void push_flag(JsonbParseState **state, const char *key, bool flag,
					  bool if_missing);
static void push_time(JsonbParseState **state, const char *key,
					  TimestampTz at, const char *timezone);


Jsonb *
fp_document_write(const FpDagDef *dag, List *tasks, List *asis_dags)
{
	JsonbParseState *state = NULL;
	ListCell   *lc;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	write_dag(&state, dag);
	if (asis_dags != NIL)
		fp_jsonb_push_texts(&state, "asis_dags", asis_dags);
	fp_jsonb_push_key(&state, FP_DOCUMENT_TASKS);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, tasks)
		write_task(&state, lfirst(lc));
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
write_dag(JsonbParseState **state, const FpDagDef *dag)
{
	fp_jsonb_push_text(state, "dag_id", dag->dag_id);
	fp_jsonb_push_text(state, "schedule", dag->schedule);
	if (dag->start_is_given)
		push_time(state, "start_date", dag->start_date, dag->timezone);
	if (!TIMESTAMP_IS_NOEND(dag->end_date))
		push_time(state, "end_date", dag->end_date, dag->timezone);

	/*
	 * What a setting stands in for is left out only where nobody has set it:
	 * the document may be meant for another server.
	 */
	if (strcmp(dag->timezone, DEFAULT_TIMEZONE) != 0 ||
		strcmp(fp_timezone, DEFAULT_TIMEZONE) != 0)
		fp_jsonb_push_text(state, "timezone", dag->timezone);
	if (dag->catchup != DEFAULT_CATCHUP ||
		fp_catchup_by_default != DEFAULT_CATCHUP)
		fp_jsonb_push_bool(state, "catchup", dag->catchup);
	if (strcmp(dag->search_path, DEFAULT_SEARCH_PATH) != 0 ||
		strcmp(namespace_search_path, DEFAULT_SEARCH_PATH) != 0)
		fp_jsonb_push_text(state, "search_path", dag->search_path);

	push_flag(state, "depends_on_past", dag->depends_on_past, false);
	push_count(state, "max_active_runs", dag->max_active_runs, -1);
	push_count(state, "max_active_tasks", dag->max_active_tasks, -1);
	push_count(state, "retries", dag->retries, 0);
	push_interval(state, "retry_delay", dag->retry_delay,
				  psprintf("00:%02d:00", FP_DAG_RETRY_DELAY_MINUTES));
	push_flag(state, "retry_exponential_backoff",
			  dag->retry_exponential_backoff, false);
	push_interval(state, "max_retry_delay", dag->max_retry_delay, NULL);
	push_interval(state, "execution_timeout", dag->execution_timeout, NULL);
	push_interval(state, "dagrun_timeout", dag->dagrun_timeout, NULL);
	push_count(state, "priority", dag->priority, 0);
	fp_jsonb_push_text(state, "on_success", dag->on_success);
	fp_jsonb_push_text(state, "on_failure", dag->on_failure);
	push_flag(state, "is_paused", dag->is_paused, false);
	fp_jsonb_push_text(state, "description", dag->description);
	if (dag->tags != NULL)
		fp_jsonb_push_texts(state, "tags", fp_args_texts(dag->tags, "tags"));
}

static void
write_task(JsonbParseState **state, const FpTaskDef *task)
{
	const FpTaskKind *kind = fp_task_kind_find(task->operator);

	if (kind == NULL)
		elog(ERROR, "unrecognized operator: \"%s\"", task->operator);

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	fp_jsonb_push_text(state, FP_DOCUMENT_TASK_ID, task->task_id);
	fp_jsonb_push_text(state, FP_DOCUMENT_OPERATOR, task->operator);
	for (int i = 0; i < kind->narguments; i++)
	{
		const FpArgument *argument = &kind->arguments[i];
		JsonbValue *value = fp_jsonb_get(task->params, argument->name);

		if (value != NULL && value->type != jbvNull &&
			(argument->default_value == NULL ||
			 strcmp(fp_jsonb_text(value), argument->default_value) != 0))
			fp_jsonb_push_value(state, argument->name, value);
	}

	if (task->upstream != NIL)
		fp_jsonb_push_texts(state, "upstream", task->upstream);
	if (fp_trigger_rule_parse(task->trigger_rule) != FP_TRIGGER_RULE_ALL_SUCCESS)
		fp_jsonb_push_text(state, "trigger_rule", task->trigger_rule);
	push_count(state, "retries", task->retries, -1);
	push_interval(state, "retry_delay", task->retry_delay, NULL);
	push_interval(state, "execution_timeout", task->execution_timeout, NULL);
	if (strcmp(task->pool, FP_DEFAULT_POOL) != 0)
		fp_jsonb_push_text(state, "pool", task->pool);
	push_count(state, "pool_slots", task->pool_slots, 1);
	push_count(state, "priority_weight", task->priority_weight, 1);
	if (task->has_depends_on_past)
		fp_jsonb_push_bool(state, "depends_on_past", task->depends_on_past);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/*
 * if_missing is what it means to leave the key out: an interval as text, or
 * NULL.
 */
static void
push_interval(JsonbParseState **state, const char *key,
			  const Interval *interval, const char *if_missing)
{
	char	   *text;

	if (interval == NULL)
		return;
	text = fp_args_interval_text(interval);
	if (if_missing == NULL || strcmp(text, if_missing) != 0)
		fp_jsonb_push_text(state, key, text);
}

static void
push_count(JsonbParseState **state, const char *key, int count,
		   int if_missing)
{
	if (count != if_missing)
		fp_jsonb_push_int(state, key, count);
}

static void
push_flag(JsonbParseState **state, const char *key, bool flag,
		  bool if_missing)
{
	if (flag != if_missing)
		fp_jsonb_push_bool(state, key, flag);
}

/*
 * As the clock of the zone shows it; midnight is a date.
 */
static void
push_time(JsonbParseState **state, const char *key, TimestampTz at,
		  const char *timezone)
{
	Timestamp	local = fp_args_local_time(at, timezone);
	struct pg_tm tm;
	fsec_t		fsec;
	char		text[MAXDATELEN + 1];

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	if (tm.tm_hour == 0 && tm.tm_min == 0 && tm.tm_sec == 0 && fsec == 0)
		EncodeDateOnly(&tm, USE_ISO_DATES, text);
	else
		EncodeDateTime(&tm, fsec, false, 0, NULL, USE_ISO_DATES, text);
	fp_jsonb_push_text(state, key, pstrdup(text));
}
