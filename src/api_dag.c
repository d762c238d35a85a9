/*-------------------------------------------------------------------------
 *
 * api_dag.c
 *	  SQL functions that define DAGs: flow_create_dag, flow_alter_dag,
 *	  flow_set_owner, flow_pause, flow_resume, flow_drop_dag.
 *
 * Called by sessions.  Everything that can be wrong with a definition is found
 * here and now, and not first at two in the morning.  A change is written
 * under the lock of the DAG's row and asks the scheduler, with the same
 * commit, to read the DAG again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"
#include "clock.h"
#include "compat.h"
#include "dag_rights.h"
#include "guc.h"
#include "link_store.h"
#include "request_store.h"
#include "schedule.h"
#include "user_sql.h"

/* The arguments of flow_create_dag and flow_alter_dag. */
enum
{
	ARG_DAG_ID,
	ARG_SCHEDULE,
	ARG_START_DATE,
	ARG_END_DATE,
	ARG_TIMEZONE,
	ARG_CATCHUP,
	ARG_DEPENDS_ON_PAST,
	ARG_MAX_ACTIVE_RUNS,
	ARG_MAX_ACTIVE_TASKS,
	ARG_RETRIES,
	ARG_RETRY_DELAY,
	ARG_RETRY_EXPONENTIAL_BACKOFF,
	ARG_MAX_RETRY_DELAY,
	ARG_EXECUTION_TIMEOUT,
	ARG_DAGRUN_TIMEOUT,
	ARG_PRIORITY,
	ARG_ON_SUCCESS,
	ARG_ON_FAILURE,
	ARG_IS_PAUSED,
	ARG_DESCRIPTION,
	ARG_TAGS
};

PG_FUNCTION_INFO_V1(flow_create_dag);
PG_FUNCTION_INFO_V1(flow_alter_dag);
PG_FUNCTION_INFO_V1(flow_set_owner);
PG_FUNCTION_INFO_V1(flow_pause);
PG_FUNCTION_INFO_V1(flow_resume);
PG_FUNCTION_INFO_V1(flow_drop_dag);

static FpDagDef *lock_if_exists(const char *dag_id);
static FpDagDef *new_definition(const char *dag_id, const FpDagDef *old);
static void check_name_is_free(const char *dag_id);
static void read_arguments(FunctionCallInfo fcinfo, FpDagDef *def);
static void read_dates(FunctionCallInfo fcinfo, FpDagDef *def,
					   const char *old_timezone);
static char *text_argument(FunctionCallInfo fcinfo, int n,
						   const char *if_null);
static const Interval *interval_argument(FunctionCallInfo fcinfo, int n,
										 const char *argument,
										 FpArgsSign sign,
										 const Interval *if_null);
static void check_definition(const FpDagDef *def);
static void check_callbacks(FunctionCallInfo fcinfo, const FpDagDef *def);
static void request_dag(const char *dag_id);
static Interval *minutes(int count);
static char *local_time_text(TimestampTz at, const char *timezone);


/*
 * flow_create_dag(...) returns text
 *
 * Defines a DAG, or all of an old one anew but for its owner, its pause, its
 * history and its tasks.  See sql/install/20_functions_dag.sql for the
 * arguments.
 */
Datum
flow_create_dag(PG_FUNCTION_ARGS)
{
	char	   *dag_id;

	fp_args_begin("flow_create_dag()");
	dag_id = fp_args_id(fcinfo, ARG_DAG_ID, "dag_id");

	for (;;)
	{
		FpDagDef   *old = lock_if_exists(dag_id);
		FpDagDef   *def = new_definition(dag_id, old);

		fp_dag_rights_check_owner(def->owner);
		read_arguments(fcinfo, def);
		read_dates(fcinfo, def, NULL);
		check_definition(def);
		check_callbacks(fcinfo, def);

		if (old != NULL)
		{
			fp_dag_store_update(def);
			break;
		}
		check_name_is_free(dag_id);
		if (fp_dag_store_insert(def))
			break;

		/* another session has just committed a DAG of this name */
	}

	request_dag(dag_id);
	PG_RETURN_TEXT_P(cstring_to_text(dag_id));
}

/*
 * flow_alter_dag(...) returns text
 *
 * NULL keeps what there is.
 */
Datum
flow_alter_dag(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	FpDagDef   *def;
	const char *old_timezone;

	fp_args_begin("flow_alter_dag()");
	dag_id = fp_args_id(fcinfo, ARG_DAG_ID, "dag_id");

	def = fp_dag_rights_lock(dag_id);
	old_timezone = def->timezone;
	read_arguments(fcinfo, def);
	read_dates(fcinfo, def, old_timezone);
	check_definition(def);
	check_callbacks(fcinfo, def);
	fp_dag_store_update(def);

	request_dag(dag_id);
	PG_RETURN_TEXT_P(cstring_to_text(dag_id));
}

/*
 * flow_set_owner(dag_id text, role regrole) returns void
 *
 * As ALTER TABLE ... OWNER TO: the caller must be able to act as the old
 * owner and to become the new one.
 */
Datum
flow_set_owner(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	Oid			role;

	fp_args_begin("flow_set_owner()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");
	role = fp_args_role(fcinfo, 1, "role");

	(void) fp_dag_rights_lock(dag_id);
	if (!member_can_set_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to make role \"%s\" the owner of dag \"%s\"",
						GetUserNameFromId(role, false), dag_id),
				 errhint("Only roles that can SET ROLE to the new owner, and superusers, may do this.")));
	fp_dag_rights_check_owner(role);
	fp_dag_store_set_owner(dag_id, role);

	request_dag(dag_id);
	PG_RETURN_VOID();
}

/*
 * flow_pause(dag_id text) returns void
 */
Datum
flow_pause(PG_FUNCTION_ARGS)
{
	char	   *dag_id;

	fp_args_begin("flow_pause()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");

	(void) fp_dag_rights_lock(dag_id);
	fp_dag_store_pause(dag_id);

	request_dag(dag_id);
	PG_RETURN_VOID();
}

/*
 * flow_resume(dag_id text, skip_missed boolean = false) returns void
 *
 * Without skip_missed, what an earlier resumption has skipped stays skipped.
 */
Datum
flow_resume(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	bool		skip_missed;

	fp_args_begin("flow_resume()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");
	skip_missed = fp_args_bool(fcinfo, 1, false);

	(void) fp_dag_rights_lock(dag_id);
	fp_dag_store_resume(dag_id, skip_missed);

	request_dag(dag_id);
	PG_RETURN_VOID();
}

/*
 * flow_drop_dag(dag_id text) returns void
 *
 * The scheduler cancels the runs.  Those up to last_run_id are the dropped
 * DAG's: a new DAG of the same name may have been made, and run, before the
 * scheduler gets to see the request.
 */
Datum
flow_drop_dag(PG_FUNCTION_ARGS)
{
	char	   *dag_id;
	char	   *args;

	fp_args_begin("flow_drop_dag()");
	dag_id = fp_args_id(fcinfo, 0, "dag_id");

	(void) fp_dag_rights_lock(dag_id);
	fp_dag_store_drop(dag_id);

	args = psprintf("{\"is_dropped\": true, \"last_run_id\": " INT64_FORMAT "}",
					fp_dag_store_last_run_id());
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, args);
	PG_RETURN_VOID();
}

/*
 * The definition of a DAG that the current user may change, locked; NULL: there
 * is no DAG of this name.  A name is taken also where it is another's DAG.
 */
static FpDagDef *
lock_if_exists(const char *dag_id)
{
	FpDagRow   *dag = fp_dag_store_get(dag_id);

	if (dag == NULL)
		return NULL;
	if (!fp_dag_rights_may_see(GetUserId(), dag->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("dag \"%s\" exists and belongs to another role",
						dag_id),
				 errhint("Choose another dag_id, or become a member of the role that owns the DAG.")));
	return fp_dag_rights_lock(dag_id);
}

/*
 * What flow_create_dag starts from: the defaults, and what a redefinition
 * keeps.
 */
static FpDagDef *
new_definition(const char *dag_id, const FpDagDef *old)
{
	FpDagDef   *def = palloc0(sizeof(FpDagDef));

	def->dag_id = dag_id;
	def->owner = old != NULL ? old->owner : GetUserId();
	def->timezone = pstrdup(fp_timezone);
	def->start_date = old != NULL ? old->created_at : fp_clock_now();
	def->end_date = DT_NOEND;
	def->catchup = fp_catchup_by_default;
	def->is_paused = old != NULL && old->is_paused;
	def->max_active_runs = -1;
	def->max_active_tasks = -1;
	def->retry_delay = minutes(5);
	def->search_path = pstrdup(namespace_search_path);
	return def;
}

/*
 * A name that DAGs of others wait for as that of an outside system: a DAG so
 * called would speak for that system.  So each of them must be one that its
 * owner could have linked to the new DAG.
 */
static void
check_name_is_free(const char *dag_id)
{
	List	   *tobe_rows = fp_link_store_tobe_rows(dag_id);
	ListCell   *lc;

	foreach(lc, tobe_rows)
	{
		FpTobeRow  *tobe = (FpTobeRow *) lfirst(lc);

		if (!fp_dag_rights_may_see(GetUserId(), tobe->owner) &&
			!fp_dag_rights_may_see(tobe->owner, GetUserId()))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to create dag \"%s\"", dag_id),
					 errdetail("A DAG of another role depends on an outside system of this name."),
					 errhint("Choose another dag_id.")));

		/* it now depends on a DAG and no longer on dates in dag_log */
		request_dag(tobe->dag_id);
	}
}

/*
 * Puts the arguments that are not NULL into the definition, dates excepted.
 */
static void
read_arguments(FunctionCallInfo fcinfo, FpDagDef *def)
{
	def->schedule = text_argument(fcinfo, ARG_SCHEDULE, def->schedule);
	def->timezone = text_argument(fcinfo, ARG_TIMEZONE, def->timezone);
	def->catchup = fp_args_bool(fcinfo, ARG_CATCHUP, def->catchup);
	def->depends_on_past = fp_args_bool(fcinfo, ARG_DEPENDS_ON_PAST,
										def->depends_on_past);
	def->max_active_runs = fp_args_int(fcinfo, ARG_MAX_ACTIVE_RUNS,
									   "max_active_runs", 1,
									   def->max_active_runs);
	def->max_active_tasks = fp_args_int(fcinfo, ARG_MAX_ACTIVE_TASKS,
										"max_active_tasks", 1,
										def->max_active_tasks);
	def->retries = fp_args_int(fcinfo, ARG_RETRIES, "retries", 0,
							   def->retries);
	def->retry_delay = interval_argument(fcinfo, ARG_RETRY_DELAY,
										 "retry_delay", FP_ARGS_ZERO_OR_MORE,
										 def->retry_delay);
	def->retry_exponential_backoff =
		fp_args_bool(fcinfo, ARG_RETRY_EXPONENTIAL_BACKOFF,
					 def->retry_exponential_backoff);
	def->max_retry_delay = interval_argument(fcinfo, ARG_MAX_RETRY_DELAY,
											 "max_retry_delay",
											 FP_ARGS_POSITIVE,
											 def->max_retry_delay);
	def->execution_timeout = interval_argument(fcinfo, ARG_EXECUTION_TIMEOUT,
											   "execution_timeout",
											   FP_ARGS_POSITIVE,
											   def->execution_timeout);
	def->dagrun_timeout = interval_argument(fcinfo, ARG_DAGRUN_TIMEOUT,
											"dagrun_timeout",
											FP_ARGS_POSITIVE,
											def->dagrun_timeout);
	def->priority = PG_ARGISNULL(ARG_PRIORITY) ? def->priority :
		PG_GETARG_INT32(ARG_PRIORITY);
	def->on_success = text_argument(fcinfo, ARG_ON_SUCCESS, def->on_success);
	def->on_failure = text_argument(fcinfo, ARG_ON_FAILURE, def->on_failure);
	def->is_paused = fp_args_bool(fcinfo, ARG_IS_PAUSED, def->is_paused);
	def->description = text_argument(fcinfo, ARG_DESCRIPTION,
									 def->description);
	if (!PG_ARGISNULL(ARG_TAGS))
	{
		(void) fp_args_text_array(fcinfo, ARG_TAGS, "tags");
		def->tags = PG_GETARG_ARRAYTYPE_P(ARG_TAGS);
	}
}

/*
 * Dates are wall-clock time, read in the timezone that the definition now has.
 * Those of an older definition that are kept were so too, in old_timezone
 * (NULL: none is kept): after a change of timezone they are the same dates on
 * another clock.  The moment of definition is an instant and stays one.
 */
static void
read_dates(FunctionCallInfo fcinfo, FpDagDef *def, const char *old_timezone)
{
	bool		is_moved = old_timezone != NULL &&
		strcmp(old_timezone, def->timezone) != 0;

	/* an error that names the timezone comes before one that needs it */
	(void) fp_schedule_timezone(def->timezone);

	if (!PG_ARGISNULL(ARG_START_DATE))
	{
		def->start_is_given = true;
		def->start_date = fp_args_wall_clock(PG_GETARG_TIMESTAMP(ARG_START_DATE),
											 def->timezone, "start_date");
	}
	else if (is_moved && def->start_is_given)
		def->start_date = fp_args_wall_clock(fp_args_local_time(def->start_date,
																old_timezone),
											 def->timezone, "start_date");

	if (!PG_ARGISNULL(ARG_END_DATE))
		def->end_date = fp_args_wall_clock(PG_GETARG_TIMESTAMP(ARG_END_DATE),
										   def->timezone, "end_date");
	else if (is_moved && !TIMESTAMP_IS_NOEND(def->end_date))
		def->end_date = fp_args_wall_clock(fp_args_local_time(def->end_date,
															  old_timezone),
										   def->timezone, "end_date");
}

static char *
text_argument(FunctionCallInfo fcinfo, int n, const char *if_null)
{
	return PG_ARGISNULL(n) ? unconstify(char *, if_null) :
		fp_args_text(fcinfo, n);
}

static const Interval *
interval_argument(FunctionCallInfo fcinfo, int n, const char *argument,
				  FpArgsSign sign, const Interval *if_null)
{
	return PG_ARGISNULL(n) ? if_null :
		fp_args_interval(fcinfo, n, argument, sign);
}

/*
 * What can be wrong although each argument by itself is right.
 */
static void
check_definition(const FpDagDef *def)
{
	pfree(fp_schedule_parse(def->schedule, def->timezone, def->start_date));

	if (fp_dag_last_start_of(def->end_date, def->timezone) < def->start_date)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid end_date \"%s\"",
						local_time_text(def->end_date, def->timezone)),
				 errdetail("It is before start_date, which is \"%s\".",
						   local_time_text(def->start_date, def->timezone)),
				 errhint("Give an end_date that is not before start_date, or none.")));
}

/*
 * The SQL that this call has given.
 */
static void
check_callbacks(FunctionCallInfo fcinfo, const FpDagDef *def)
{
	FpDagScope	scope;

	fp_dag_rights_begin_as(&scope, def->owner, def->search_path);
	if (!PG_ARGISNULL(ARG_ON_SUCCESS))
		fp_user_sql_check(def->on_success, "on_success",
						  fp_check_definitions);
	if (!PG_ARGISNULL(ARG_ON_FAILURE))
		fp_user_sql_check(def->on_failure, "on_failure",
						  fp_check_definitions);
	fp_dag_rights_end_as(&scope);
}

static void
request_dag(const char *dag_id)
{
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, NULL);
}

static Interval *
minutes(int count)
{
	Interval   *result = palloc0(sizeof(Interval));

	result->time = count * USECS_PER_MINUTE;
	return result;
}

static char *
local_time_text(TimestampTz at, const char *timezone)
{
	Timestamp	local = fp_args_local_time(at, timezone);

	return DatumGetCString(DirectFunctionCall1(timestamp_out,
											   TimestampGetDatum(local)));
}
