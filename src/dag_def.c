/*-------------------------------------------------------------------------
 *
 * dag_def.c
 *	  Definitions of DAGs: from the arguments of flow_create_dag and
 *	  flow_alter_dag to what is stored, checked from all sides.
 *
 * Called by sessions, for the SQL functions themselves and for flow_apply,
 * whose documents are such arguments by name.  Everything that can be wrong
 * with a definition is found here and now, and not first at two in the
 * morning.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "dag_def.h"
#include "dag_rights.h"
#include "guc.h"
#include "link_store.h"
#include "request_store.h"
#include "schedule.h"
#include "user_sql.h"

const FpArgument fp_dag_def_arguments[FP_DAG_ARGUMENTS] = {
	[FP_DAG_DAG_ID] = {"dag_id", TEXTOID},
	[FP_DAG_SCHEDULE] = {"schedule", TEXTOID},
	[FP_DAG_START_DATE] = {"start_date", TIMESTAMPOID},
	[FP_DAG_END_DATE] = {"end_date", TIMESTAMPOID},
	[FP_DAG_TIMEZONE] = {"timezone", TEXTOID},
	[FP_DAG_CATCHUP] = {"catchup", BOOLOID},
	[FP_DAG_DEPENDS_ON_PAST] = {"depends_on_past", BOOLOID},
	[FP_DAG_MAX_ACTIVE_RUNS] = {"max_active_runs", INT4OID},
	[FP_DAG_MAX_ACTIVE_TASKS] = {"max_active_tasks", INT4OID},
	[FP_DAG_RETRIES] = {"retries", INT4OID},
	[FP_DAG_RETRY_DELAY] = {"retry_delay", INTERVALOID},
	[FP_DAG_RETRY_EXPONENTIAL_BACKOFF] = {"retry_exponential_backoff", BOOLOID},
	[FP_DAG_MAX_RETRY_DELAY] = {"max_retry_delay", INTERVALOID},
	[FP_DAG_EXECUTION_TIMEOUT] = {"execution_timeout", INTERVALOID},
	[FP_DAG_DAGRUN_TIMEOUT] = {"dagrun_timeout", INTERVALOID},
	[FP_DAG_PRIORITY] = {"priority", INT4OID},
	[FP_DAG_ON_SUCCESS] = {"on_success", TEXTOID},
	[FP_DAG_ON_FAILURE] = {"on_failure", TEXTOID},
	[FP_DAG_IS_PAUSED] = {"is_paused", BOOLOID},
	[FP_DAG_DESCRIPTION] = {"description", TEXTOID},
	[FP_DAG_TAGS] = {"tags", TEXTARRAYOID},
};

static FpDagDef *lock_if_exists(const char *dag_id);
static void check_is_ours(const char *dag_id, Oid owner);
static FpDagDef *new_definition(const char *dag_id, const char *search_path,
								const FpDagDef *old);
static TimestampTz first_start(const FpDagDef *old);
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
static bool is_equal_tags(const ArrayType *a, const ArrayType *b);
static Interval *minutes(int count);
static char *local_time_text(TimestampTz at, const char *timezone);


FpDagDef *
fp_dag_def_create(FunctionCallInfo fcinfo, const char *search_path,
				  FpDagDef **old)
{
	char	   *dag_id = fp_args_id(fcinfo, FP_DAG_DAG_ID, "dag_id");

	for (;;)
	{
		FpDagDef   *def;

		CHECK_FOR_INTERRUPTS();
		*old = lock_if_exists(dag_id);
		def = new_definition(dag_id, search_path, *old);

		fp_dag_rights_check_owner(def->owner);
		read_arguments(fcinfo, def);
		read_dates(fcinfo, def, NULL);
		check_definition(def);
		check_callbacks(fcinfo, def);

		if (*old != NULL)
			return def;
		if (fp_dag_store_insert(def))
		{
			check_name_is_free(dag_id);
			fp_dag_store_take_name(dag_id);
			return def;
		}

		/* another session has just committed a DAG of this name */
	}
}

FpDagDef *
fp_dag_def_alter(FunctionCallInfo fcinfo)
{
	char	   *dag_id = fp_args_id(fcinfo, FP_DAG_DAG_ID, "dag_id");
	FpDagDef   *def = fp_dag_rights_lock(dag_id);
	const char *old_timezone = def->timezone;

	read_arguments(fcinfo, def);
	read_dates(fcinfo, def, old_timezone);
	check_definition(def);
	check_callbacks(fcinfo, def);
	return def;
}

bool
fp_dag_def_is_equal(const FpDagDef *a, const FpDagDef *b)
{
	return fp_args_is_equal_text(a->schedule, b->schedule) &&
		fp_args_is_equal_text(a->timezone, b->timezone) &&
		a->start_date == b->start_date &&
		a->start_is_given == b->start_is_given &&
		a->end_date == b->end_date &&
		a->catchup == b->catchup &&
		a->depends_on_past == b->depends_on_past &&
		a->max_active_runs == b->max_active_runs &&
		a->max_active_tasks == b->max_active_tasks &&
		a->retries == b->retries &&
		fp_args_is_equal_interval(a->retry_delay, b->retry_delay) &&
		a->retry_exponential_backoff == b->retry_exponential_backoff &&
		fp_args_is_equal_interval(a->max_retry_delay, b->max_retry_delay) &&
		fp_args_is_equal_interval(a->execution_timeout,
								  b->execution_timeout) &&
		fp_args_is_equal_interval(a->dagrun_timeout, b->dagrun_timeout) &&
		a->priority == b->priority &&
		fp_args_is_equal_text(a->on_success, b->on_success) &&
		fp_args_is_equal_text(a->on_failure, b->on_failure) &&
		fp_args_is_equal_text(a->description, b->description) &&
		is_equal_tags(a->tags, b->tags) &&
		fp_args_is_equal_text(a->search_path, b->search_path);
}

/*
 * The definition of a DAG that the current user may change, locked; NULL: there
 * is no DAG of this name, or no longer.  Rights are looked at before the lock
 * is asked for, so that nobody can lock another's DAG, and after it, since the
 * owner may have changed meanwhile.
 */
static FpDagDef *
lock_if_exists(const char *dag_id)
{
	FpDagRow   *dag = fp_dag_store_get(dag_id);
	FpDagDef   *def;

	if (dag == NULL)
		return NULL;
	check_is_ours(dag_id, dag->owner);
	def = fp_dag_store_lock(dag_id);
	if (def != NULL)
		check_is_ours(dag_id, def->owner);
	return def;
}

/*
 * A name is taken also where it is another's DAG.
 */
static void
check_is_ours(const char *dag_id, Oid owner)
{
	if (!fp_dag_rights_may_see(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("dag \"%s\" exists and belongs to another role",
						dag_id),
				 errhint("Choose another dag_id, or become a member of the role that owns the DAG.")));
}

/*
 * What flow_create_dag starts from: the defaults, and what a redefinition
 * keeps.
 */
static FpDagDef *
new_definition(const char *dag_id, const char *search_path,
			   const FpDagDef *old)
{
	FpDagDef   *def = palloc0(sizeof(FpDagDef));

	def->dag_id = dag_id;
	def->owner = old != NULL ? old->owner : GetUserId();
	def->timezone = pstrdup(fp_timezone);
	def->start_date = first_start(old);
	def->end_date = DT_NOEND;
	def->catchup = fp_catchup_by_default;
	def->is_paused = old != NULL && old->is_paused;
	def->max_active_runs = -1;
	def->max_active_tasks = -1;
	def->retry_delay = minutes(FP_DAG_RETRY_DELAY_MINUTES);
	def->search_path = pstrdup(search_path != NULL ? search_path :
							   namespace_search_path);
	return def;
}

/*
 * Where no start_date is given: the moment of the first definition.
 */
static TimestampTz
first_start(const FpDagDef *old)
{
	if (old == NULL)
		return fp_clock_now();
	return old->start_is_given ? old->created_at : old->start_date;
}

/*
 * The name of a DAG that has just been inserted; before that, others could
 * still use it, make a DAG of it and drop that.
 *
 * A name that DAGs of others wait for as that of an outside system: a DAG so
 * called would speak for that system.  So each of them must be one that its
 * owner could have linked to the new DAG.
 *
 * And the name of a dropped DAG whose history is kept: that is seen by whoever
 * has the name.
 */
static void
check_name_is_free(const char *dag_id)
{
	List	   *tobe_rows = fp_link_store_tobe_rows(dag_id);
	Oid			dropped_owner = fp_dag_store_dropped_owner(dag_id);
	ListCell   *lc;

	if (OidIsValid(dropped_owner) &&
		!fp_dag_rights_may_see(GetUserId(), dropped_owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create dag \"%s\"", dag_id),
				 errdetail("A DAG of this name was another role's, and its history is kept."),
				 errhint("Choose another dag_id, or have a superuser create the DAG and give it to you.")));

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
		fp_request_store_add(FP_REQUEST_DAG, tobe->dag_id, 0, 0, NULL);
	}
}

/*
 * Puts the arguments that are not NULL into the definition, dates excepted.
 */
static void
read_arguments(FunctionCallInfo fcinfo, FpDagDef *def)
{
	def->schedule = text_argument(fcinfo, FP_DAG_SCHEDULE, def->schedule);
	def->timezone = text_argument(fcinfo, FP_DAG_TIMEZONE, def->timezone);
	def->catchup = fp_args_bool(fcinfo, FP_DAG_CATCHUP, def->catchup);
	def->depends_on_past = fp_args_bool(fcinfo, FP_DAG_DEPENDS_ON_PAST,
										def->depends_on_past);
	def->max_active_runs = fp_args_int(fcinfo, FP_DAG_MAX_ACTIVE_RUNS,
									   "max_active_runs", 1,
									   def->max_active_runs);
	def->max_active_tasks = fp_args_int(fcinfo, FP_DAG_MAX_ACTIVE_TASKS,
										"max_active_tasks", 1,
										def->max_active_tasks);
	def->retries = fp_args_int(fcinfo, FP_DAG_RETRIES, "retries", 0,
							   def->retries);
	def->retry_delay = interval_argument(fcinfo, FP_DAG_RETRY_DELAY,
										 "retry_delay", FP_ARGS_ZERO_OR_MORE,
										 def->retry_delay);
	def->retry_exponential_backoff =
		fp_args_bool(fcinfo, FP_DAG_RETRY_EXPONENTIAL_BACKOFF,
					 def->retry_exponential_backoff);
	def->max_retry_delay = interval_argument(fcinfo, FP_DAG_MAX_RETRY_DELAY,
											 "max_retry_delay",
											 FP_ARGS_POSITIVE,
											 def->max_retry_delay);
	def->execution_timeout = interval_argument(fcinfo, FP_DAG_EXECUTION_TIMEOUT,
											   "execution_timeout",
											   FP_ARGS_POSITIVE,
											   def->execution_timeout);
	def->dagrun_timeout = interval_argument(fcinfo, FP_DAG_DAGRUN_TIMEOUT,
											"dagrun_timeout",
											FP_ARGS_POSITIVE,
											def->dagrun_timeout);
	def->priority = PG_ARGISNULL(FP_DAG_PRIORITY) ? def->priority :
		PG_GETARG_INT32(FP_DAG_PRIORITY);
	def->on_success = text_argument(fcinfo, FP_DAG_ON_SUCCESS, def->on_success);
	def->on_failure = text_argument(fcinfo, FP_DAG_ON_FAILURE, def->on_failure);
	def->is_paused = fp_args_bool(fcinfo, FP_DAG_IS_PAUSED, def->is_paused);
	def->description = text_argument(fcinfo, FP_DAG_DESCRIPTION,
									 def->description);
	if (!PG_ARGISNULL(FP_DAG_TAGS))
	{
		(void) fp_args_text_array(fcinfo, FP_DAG_TAGS, "tags");
		def->tags = PG_GETARG_ARRAYTYPE_P(FP_DAG_TAGS);
	}
}

/*
 * Dates are wall-clock time, read in the timezone that the definition now has.
 * Those of an older definition that are kept were so too, in old_timezone
 * (NULL: none is kept): after a change of timezone they are the same dates on
 * another clock.  The moment of definition is an instant and stays one; so do
 * dates of a timezone that the server no longer has.
 */
static void
read_dates(FunctionCallInfo fcinfo, FpDagDef *def, const char *old_timezone)
{
	bool		is_moved = old_timezone != NULL &&
		strcmp(old_timezone, def->timezone) != 0 &&
		fp_schedule_has_timezone(old_timezone);

	/* an error that names the timezone comes before one that needs it */
	(void) fp_schedule_timezone(def->timezone);

	if (!PG_ARGISNULL(FP_DAG_START_DATE))
	{
		def->start_is_given = true;
		def->start_date = fp_args_wall_clock(PG_GETARG_TIMESTAMP(FP_DAG_START_DATE),
											 def->timezone, "start_date");
	}
	else if (is_moved && def->start_is_given)
		def->start_date = fp_args_wall_clock(fp_args_local_time(def->start_date,
																old_timezone),
											 def->timezone, "start_date");

	if (!PG_ARGISNULL(FP_DAG_END_DATE))
		def->end_date = fp_args_wall_clock(PG_GETARG_TIMESTAMP(FP_DAG_END_DATE),
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
	if (!PG_ARGISNULL(FP_DAG_ON_SUCCESS))
		fp_user_sql_check(def->on_success, "on_success",
						  fp_check_definitions);
	if (!PG_ARGISNULL(FP_DAG_ON_FAILURE))
		fp_user_sql_check(def->on_failure, "on_failure",
						  fp_check_definitions);
	fp_dag_rights_end_as(&scope);
}

static bool
is_equal_tags(const ArrayType *a, const ArrayType *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return fp_args_is_equal_list(fp_args_texts(a, "tags"),
								 fp_args_texts(b, "tags"));
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
