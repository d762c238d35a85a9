/*-------------------------------------------------------------------------
 *
 * dag_store.c
 *	  All SQL on the tables dag and dag_progress.
 *
 * Sessions write here, under the lock of the DAG's row (fp_dag_store_lock);
 * the scheduler reads, and writes dag_progress.  It takes no row lock on
 * flow.dag that a definer's is in the way of, so a session that holds one for
 * long holds up other definers of the same DAG and nothing else.  The lock is
 * FOR NO KEY UPDATE and not FOR UPDATE, for the foreign keys that point to the
 * row lock it too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "dag_store.h"
#include "instance_store.h"
#include "schedule.h"
#include "spi_util.h"
#include "store_args.h"

#define DAG_ROW_COLUMNS \
	"d.dag_id, d.owner, d.schedule, d.timezone, d.start_date, d.end_date, " \
	"d.start_is_given, d.catchup, d.is_paused, d.version, d.first_version, " \
	"d.depends_on_past, " \
	"d.max_active_runs, d.max_active_tasks, d.priority, d.paused_at, " \
	"d.resumed_at, d.search_path, " \
	"EXISTS (SELECT FROM flow.task t WHERE t.dag_id = d.dag_id), " \
	"p.last_start, p.last_end, " \
	"ARRAY(SELECT m.asis_dag FROM flow.dependency_manager m" \
	" WHERE m.tobe_dag = d.dag_id ORDER BY m.asis_dag) " \
	"FROM flow.dag d LEFT JOIN flow.dag_progress p ON p.dag_id = d.dag_id "

static FpStatement get_dag = {
	"SELECT " DAG_ROW_COLUMNS "WHERE d.dag_id = $1",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement dag_exists = {
	"SELECT FROM flow.dag WHERE dag_id = $1",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement list_dags = {
	"SELECT " DAG_ROW_COLUMNS "ORDER BY d.dag_id",
	SPI_OK_SELECT, 0, {0}
};

static FpStatement list_tobe_dags = {
	"SELECT tobe_dag FROM flow.dependency_manager "
	"WHERE asis_dag = $1 ORDER BY tobe_dag",
	SPI_OK_SELECT, 1, {TEXTOID}
};

/* not of a DAG that has been dropped meanwhile: see FP_OF_SAME_DAG */
static FpStatement set_progress = {
	"INSERT INTO flow.dag_progress AS p (dag_id, last_start, last_end) "
	"SELECT d.dag_id, $2, $3 " FP_OF_SAME_DAG("$1", "$4")
	" ON CONFLICT (dag_id) DO UPDATE"
	" SET last_start = EXCLUDED.last_start, last_end = EXCLUDED.last_end "
	"RETURNING ctid",
	SPI_OK_INSERT_RETURNING, 4,
	{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
};

static FpStatement set_progress_at = {
	"UPDATE flow.dag_progress SET last_start = $2, last_end = $3 "
	"WHERE ctid = $5 AND dag_id = $1 RETURNING ctid",
	SPI_OK_UPDATE_RETURNING, 5,
	{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TIDOID}
};

/* what keep_definition reads */
#define DEFINITION_COLUMNS \
	"owner, schedule, timezone, start_date, start_is_given, end_date, " \
	"catchup, is_paused, depends_on_past, max_active_runs, " \
	"max_active_tasks, retries, retry_delay, retry_exponential_backoff, " \
	"max_retry_delay, execution_timeout, dagrun_timeout, priority, " \
	"on_success, on_failure, description, tags, search_path, created_at, " \
	"version "

static FpStatement lock_dag = {
	"SELECT " DEFINITION_COLUMNS
	"FROM flow.dag WHERE dag_id = $1 FOR NO KEY UPDATE",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement get_definition = {
	"SELECT " DEFINITION_COLUMNS "FROM flow.dag WHERE dag_id = $1",
	SPI_OK_SELECT, 1, {TEXTOID}
};

/* the arguments that insert_dag and update_dag share, see definition_args */
#define DEFINITION_ARG_TYPES \
	TEXTOID, REGROLEOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BOOLOID, \
	TIMESTAMPTZOID, BOOLOID, BOOLOID, BOOLOID, INT4OID, INT4OID, INT4OID, \
	INTERVALOID, BOOLOID, INTERVALOID, INTERVALOID, INTERVALOID, INT4OID, \
	TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, \
	TIMESTAMPTZOID
#define NUM_DEFINITION_ARGS 26

#define LAST_RUN_ID \
	"(SELECT CASE WHEN q.is_called THEN q.last_value ELSE 0 END" \
	" FROM flow.dag_run_run_id_seq q)"

static FpStatement insert_dag = {
	"INSERT INTO flow.dag (dag_id, owner, schedule, timezone, start_date,"
	" start_is_given, end_date, catchup, is_paused, depends_on_past,"
	" max_active_runs, max_active_tasks, retries, retry_delay,"
	" retry_exponential_backoff, max_retry_delay, execution_timeout,"
	" dagrun_timeout, priority, on_success, on_failure, description, tags,"
	" search_path, created_at, updated_at, paused_at, version, first_version,"
	" after_run_id) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,"
	" $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $25,"
	" CASE WHEN $9 THEN $26 END, 1, 1, " LAST_RUN_ID ") "
	"ON CONFLICT (dag_id) DO NOTHING",
	SPI_OK_INSERT, NUM_DEFINITION_ARGS, {DEFINITION_ARG_TYPES}
};

/*
 * A new DAG goes on after the versions that runs of a dropped DAG of this name
 * have used, or that the scheduler may be about to write for them.
 */
static FpStatement begin_after = {
	"UPDATE flow.dag d SET version = n.version, first_version = n.version,"
	" after_run_id = " LAST_RUN_ID
	" FROM (SELECT GREATEST((SELECT max(v.version) FROM flow.dag_version v"
	" WHERE v.dag_id = $1), (SELECT x.version FROM flow.dropped_dag x"
	" WHERE x.dag_id = $1), 0) + 1 AS version) n "
	"WHERE d.dag_id = $1 AND n.version > 1",
	SPI_OK_UPDATE, 1, {TEXTOID}
};

static FpStatement update_dag = {
	"UPDATE flow.dag SET schedule = $3, timezone = $4, start_date = $5,"
	" start_is_given = $6, end_date = $7, catchup = $8,"
	" paused_at = CASE WHEN $9 AND NOT is_paused THEN $26 ELSE paused_at END,"
	" is_paused = $9, depends_on_past = $10, max_active_runs = $11,"
	" max_active_tasks = $12, retries = $13, retry_delay = $14,"
	" retry_exponential_backoff = $15, max_retry_delay = $16,"
	" execution_timeout = $17, dagrun_timeout = $18, priority = $19,"
	" on_success = $20, on_failure = $21, description = $22, tags = $23,"
	" search_path = $24, updated_at = $25, version = version + 1 "
	"WHERE dag_id = $1",
	SPI_OK_UPDATE, NUM_DEFINITION_ARGS, {DEFINITION_ARG_TYPES}
};

static FpStatement bump_version = {
	"UPDATE flow.dag SET version = version + 1, updated_at = $2 "
	"WHERE dag_id = $1",
	SPI_OK_UPDATE, 2, {TEXTOID, TIMESTAMPTZOID}
};

static FpStatement pause_dag = {
	"UPDATE flow.dag SET is_paused = true, paused_at = $2, updated_at = $3 "
	"WHERE dag_id = $1 AND NOT is_paused",
	SPI_OK_UPDATE, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static FpStatement resume_dag = {
	"UPDATE flow.dag SET is_paused = false,"
	" resumed_at = CASE WHEN $3 THEN $2 ELSE resumed_at END,"
	" paused_at = CASE WHEN $3 THEN NULL ELSE paused_at END,"
	" updated_at = $2 "
	"WHERE dag_id = $1",
	SPI_OK_UPDATE, 3, {TEXTOID, TIMESTAMPTZOID, BOOLOID}
};

static FpStatement set_owner = {
	"UPDATE flow.dag SET owner = $2, updated_at = $3 WHERE dag_id = $1",
	SPI_OK_UPDATE, 3, {TEXTOID, REGROLEOID, TIMESTAMPTZOID}
};

static FpStatement keep_name = {
	"INSERT INTO flow.dropped_dag (dag_id, owner, version, dropped_at) "
	"SELECT d.dag_id, d.owner, d.version, $2 FROM flow.dag d "
	"WHERE d.dag_id = $1 "
	"ON CONFLICT (dag_id) DO UPDATE SET owner = EXCLUDED.owner,"
	" version = EXCLUDED.version, dropped_at = EXCLUDED.dropped_at",
	SPI_OK_INSERT, 2, {TEXTOID, TIMESTAMPTZOID}
};

/* as long as the name is kept: fp_history_store_forget_rest */
static FpStatement get_dropped_owner = {
	"SELECT owner FROM flow.dropped_dag WHERE dag_id = $1"
	" AND (EXISTS (SELECT FROM flow.dag_run r WHERE r.dag_id = $1)"
	" OR EXISTS (SELECT FROM flow.dag_version v WHERE v.dag_id = $1)"
	" OR EXISTS (SELECT FROM flow.backfill b WHERE b.dag_id = $1))",
	SPI_OK_SELECT, 1, {TEXTOID}
};

/* as a foreign key would: it keeps the row, not what is in it */
static FpStatement hold_dag = {
	"SELECT owner FROM flow.dag WHERE dag_id = $1 FOR KEY SHARE",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement get_owner = {
	"SELECT owner FROM flow.dag WHERE dag_id = $1",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement lock_to_drop = {
	"SELECT FROM flow.dag WHERE dag_id = $1 FOR UPDATE",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement forget_name = {
	"DELETE FROM flow.dropped_dag WHERE dag_id = $1",
	SPI_OK_DELETE, 1, {TEXTOID}
};

/* what a DAG would go on from; tasks and links to it go with the row itself */
static FpStatement drop_dag_parts[] = {
	{
		"DELETE FROM flow.dependency_manager WHERE asis_dag = $1",
		SPI_OK_DELETE, 1, {TEXTOID}
	},
	{
		"DELETE FROM flow.set_off WHERE dag_id = $1",
		SPI_OK_DELETE, 1, {TEXTOID}
	},
	{
		"DELETE FROM flow.position WHERE dag_id = $1",
		SPI_OK_DELETE, 1, {TEXTOID}
	},
	{
		"DELETE FROM flow.dag_progress WHERE dag_id = $1",
		SPI_OK_DELETE, 1, {TEXTOID}
	},
	{
		"DELETE FROM flow.coverage WHERE dag_id = $1",
		SPI_OK_DELETE, 1, {TEXTOID}
	},
	{
		"DELETE FROM flow.dag WHERE dag_id = $1",
		SPI_OK_DELETE, 1, {TEXTOID}
	},
};

static FpStatement last_run_id = {
	"SELECT " LAST_RUN_ID,
	SPI_OK_SELECT, 0, {0}
};

static FpDagDef *read_definition(FpStatement *statement, const char *dag_id);
static void definition_args(FpStoreArgs *args, const FpDagDef *def);
static FpDagRow *read_dag_row(const FpRow *row);
static void keep_dag_row(const FpRow *row, void *arg);
static void append_dag_row(const FpRow *row, void *arg);
static void keep_definition(const FpRow *row, void *arg);
static void keep_oid(const FpRow *row, void *arg);
static Interval *row_interval(const FpRow *row, int column);
static ArrayType *row_array(const FpRow *row, int column);
static int	row_count(const FpRow *row, int column);


FpDagRow *
fp_dag_store_get(const char *dag_id)
{
	FpStoreArgs args = {0};
	FpDagRow   *result = NULL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&get_dag, &args, keep_dag_row, &result);
	return result;
}

bool
fp_dag_store_exists(const char *dag_id)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	return fp_store_execute(&dag_exists, &args, NULL, NULL) > 0;
}

List *
fp_dag_store_list(void)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_execute(&list_dags, &args, append_dag_row, &result);
	return result;
}

List *
fp_dag_store_tobe_dags(const char *asis_dag)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_text(&args, asis_dag);
	fp_store_execute(&list_tobe_dags, &args, fp_store_append_text, &result);
	return result;
}

TimestampTz
fp_dag_last_start(const FpDagRow *dag)
{
	return fp_dag_last_start_of(dag->end_date, dag->timezone);
}

/*
 * Where a change of the zone's offset skips midnight, AT TIME ZONE has moved
 * it to the first moment of the day, which therefore counts as midnight too.
 */
TimestampTz
fp_dag_last_start_of(TimestampTz end_date, const char *timezone)
{
	pg_tz	   *zone;
	struct pg_tm tm;
	struct pg_tm before;
	fsec_t		fsec;
	int			offset;
	bool		is_midnight;
	TimestampTz next_day;

	if (TIMESTAMP_NOT_FINITE(end_date))
		return end_date;

	zone = fp_schedule_timezone(timezone);
	if (timestamp2tm(end_date, &offset, &tm, &fsec, NULL, zone) != 0)
		return end_date;
	is_midnight = tm.tm_hour == 0 && tm.tm_min == 0 && tm.tm_sec == 0 &&
		fsec == 0;
	if (!is_midnight &&
		(timestamp2tm(end_date - 1, &offset, &before, &fsec, NULL, zone) != 0 ||
		 before.tm_mday == tm.tm_mday))
		return end_date;

	j2date(date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) + 1,
		   &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, 0, &offset, &next_day) != 0)
		return end_date;
	return next_day - 1;
}

void
fp_dag_store_set_progress(const FpDagRow *dag, TimestampTz last_start,
						  TimestampTz last_end, ItemPointer place)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag->dag_id);
	fp_store_args_add_time(&args, last_start);
	fp_store_args_add_time(&args, last_end);
	fp_store_args_add_int(&args, dag->first_version);
	fp_store_execute_at(&set_progress_at, &set_progress, &args, place,
						fp_store_keep_place, place);
}

FpDagDef *
fp_dag_store_lock(const char *dag_id)
{
	return read_definition(&lock_dag, dag_id);
}

FpDagDef *
fp_dag_store_definition(const char *dag_id)
{
	return read_definition(&get_definition, dag_id);
}

bool
fp_dag_store_insert(const FpDagDef *def)
{
	FpStoreArgs args = {0};

	fp_instance_store_settle();
	definition_args(&args, def);
	return fp_store_execute(&insert_dag, &args, NULL, NULL) > 0;
}

void
fp_dag_store_take_name(const char *dag_id)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute_now(&begin_after, &args, NULL, NULL);
	fp_store_execute_now(&forget_name, &args, NULL, NULL);
}

Oid
fp_dag_store_hold(const char *dag_id)
{
	FpStoreArgs args = {0};
	Oid			owner = InvalidOid;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&hold_dag, &args, keep_oid, &owner);
	return owner;
}

Oid
fp_dag_store_owner_now(const char *dag_id)
{
	FpStoreArgs args = {0};
	Oid			owner = InvalidOid;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute_now(&get_owner, &args, keep_oid, &owner);
	return owner;
}

void
fp_dag_store_lock_to_drop(const char *dag_id)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&lock_to_drop, &args, NULL, NULL);
}

Oid
fp_dag_store_dropped_owner(const char *dag_id)
{
	FpStoreArgs args = {0};
	Oid			owner = InvalidOid;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute_now(&get_dropped_owner, &args, keep_oid, &owner);
	return owner;
}

void
fp_dag_store_update(const FpDagDef *def)
{
	FpStoreArgs args = {0};

	definition_args(&args, def);
	fp_store_execute(&update_dag, &args, NULL, NULL);
}

void
fp_dag_store_new_version(const char *dag_id)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, fp_clock_now());
	fp_store_execute(&bump_version, &args, NULL, NULL);
}

/*
 * paused_at is real time, as are the ends of runs that it is compared with.
 */
void
fp_dag_store_pause(const char *dag_id)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, fp_clock_real());
	fp_store_args_add_time(&args, fp_clock_now());
	fp_store_execute(&pause_dag, &args, NULL, NULL);
}

void
fp_dag_store_resume(const char *dag_id, bool skip_missed)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_time(&args, fp_clock_now());
	fp_store_args_add_bool(&args, skip_missed);
	fp_store_execute(&resume_dag, &args, NULL, NULL);
}

void
fp_dag_store_set_owner(const char *dag_id, Oid owner)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_oid(&args, owner);
	fp_store_args_add_time(&args, fp_clock_now());
	fp_store_execute(&set_owner, &args, NULL, NULL);
}

void
fp_dag_store_drop(const char *dag_id)
{
	FpStoreArgs name = {0};

	fp_store_args_add_text(&name, dag_id);
	fp_store_args_add_time(&name, fp_clock_real());
	fp_store_execute(&keep_name, &name, NULL, NULL);
	for (int i = 0; i < lengthof(drop_dag_parts); i++)
	{
		FpStoreArgs args = {0};

		fp_store_args_add_text(&args, dag_id);
		fp_store_execute(&drop_dag_parts[i], &args, NULL, NULL);
	}
}

int64
fp_dag_store_last_run_id(void)
{
	FpStoreArgs args = {0};
	int64		result = 0;

	fp_store_execute(&last_run_id, &args, fp_store_keep_int64, &result);
	return result;
}

static FpDagDef *
read_definition(FpStatement *statement, const char *dag_id)
{
	FpStoreArgs args = {0};
	FpDagDef   *result = NULL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(statement, &args, keep_definition, &result);
	if (result != NULL)
		result->dag_id = pstrdup(dag_id);
	return result;
}

/*
 * The arguments of insert_dag and update_dag, in the order of
 * DEFINITION_ARG_TYPES.
 */
static void
definition_args(FpStoreArgs *args, const FpDagDef *def)
{
	fp_store_args_add_text(args, def->dag_id);
	fp_store_args_add_oid(args, def->owner);
	fp_store_args_add_text(args, def->schedule);
	fp_store_args_add_text(args, def->timezone);
	fp_store_args_add_time(args, def->start_date);
	fp_store_args_add_bool(args, def->start_is_given);
	fp_store_args_add(args, TimestampTzGetDatum(def->end_date),
					  TIMESTAMP_IS_NOEND(def->end_date));
	fp_store_args_add_bool(args, def->catchup);
	fp_store_args_add_bool(args, def->is_paused);
	fp_store_args_add_bool(args, def->depends_on_past);
	fp_store_args_add_count(args, def->max_active_runs);
	fp_store_args_add_count(args, def->max_active_tasks);
	fp_store_args_add_int(args, def->retries);
	fp_store_args_add_interval(args, def->retry_delay);
	fp_store_args_add_bool(args, def->retry_exponential_backoff);
	fp_store_args_add_interval(args, def->max_retry_delay);
	fp_store_args_add_interval(args, def->execution_timeout);
	fp_store_args_add_interval(args, def->dagrun_timeout);
	fp_store_args_add_int(args, def->priority);
	fp_store_args_add_text(args, def->on_success);
	fp_store_args_add_text(args, def->on_failure);
	fp_store_args_add_text(args, def->description);
	fp_store_args_add(args, PointerGetDatum(def->tags), def->tags == NULL);
	fp_store_args_add_text(args, def->search_path);
	fp_store_args_add_time(args, fp_clock_now());
	fp_store_args_add_time(args, fp_clock_real());
	Assert(args->n == NUM_DEFINITION_ARGS);
}

/*
 * In the order of DAG_ROW_COLUMNS.
 */
static FpDagRow *
read_dag_row(const FpRow *row)
{
	FpDagRow   *dag = palloc0(sizeof(FpDagRow));
	int			column = 0;

	dag->dag_id = fp_row_text(row, ++column);
	dag->owner = fp_row_oid(row, ++column);
	dag->schedule = fp_row_text(row, ++column);
	dag->timezone = fp_row_text(row, ++column);
	dag->start_date = fp_row_timestamptz(row, ++column, DT_NOBEGIN);
	dag->end_date = fp_row_timestamptz(row, ++column, DT_NOEND);
	dag->start_is_given = fp_row_bool(row, ++column);
	dag->catchup = fp_row_bool(row, ++column);
	dag->is_paused = fp_row_bool(row, ++column);
	dag->version = fp_row_int32(row, ++column);
	dag->first_version = fp_row_int32(row, ++column);
	dag->depends_on_past = fp_row_bool(row, ++column);
	dag->max_active_runs = row_count(row, ++column);
	dag->max_active_tasks = row_count(row, ++column);
	dag->priority = fp_row_int32(row, ++column);
	dag->paused_at = fp_row_timestamptz(row, ++column, DT_NOBEGIN);
	dag->resumed_at = fp_row_timestamptz(row, ++column, DT_NOBEGIN);
	dag->search_path = fp_row_text(row, ++column);
	dag->has_tasks = fp_row_bool(row, ++column);
	dag->has_last = !fp_row_is_null(row, ++column);
	dag->last_start = fp_row_timestamptz(row, column, DT_NOBEGIN);
	dag->last_end = fp_row_timestamptz(row, ++column, DT_NOBEGIN);
	dag->asis_dags = fp_row_text_array(row, ++column);
	return dag;
}

static void
keep_dag_row(const FpRow *row, void *arg)
{
	*(FpDagRow **) arg = read_dag_row(row);
}

static void
append_dag_row(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;

	*list = lappend(*list, read_dag_row(row));
}

/*
 * In the order of DEFINITION_COLUMNS.
 */
static void
keep_definition(const FpRow *row, void *arg)
{
	FpDagDef   *def = palloc0(sizeof(FpDagDef));
	int			column = 0;

	def->owner = fp_row_oid(row, ++column);
	def->schedule = fp_row_text(row, ++column);
	def->timezone = fp_row_text(row, ++column);
	def->start_date = fp_row_timestamptz(row, ++column, DT_NOBEGIN);
	def->start_is_given = fp_row_bool(row, ++column);
	def->end_date = fp_row_timestamptz(row, ++column, DT_NOEND);
	def->catchup = fp_row_bool(row, ++column);
	def->is_paused = fp_row_bool(row, ++column);
	def->depends_on_past = fp_row_bool(row, ++column);
	def->max_active_runs = row_count(row, ++column);
	def->max_active_tasks = row_count(row, ++column);
	def->retries = fp_row_int32(row, ++column);
	def->retry_delay = row_interval(row, ++column);
	def->retry_exponential_backoff = fp_row_bool(row, ++column);
	def->max_retry_delay = row_interval(row, ++column);
	def->execution_timeout = row_interval(row, ++column);
	def->dagrun_timeout = row_interval(row, ++column);
	def->priority = fp_row_int32(row, ++column);
	def->on_success = fp_row_text(row, ++column);
	def->on_failure = fp_row_text(row, ++column);
	def->description = fp_row_text(row, ++column);
	def->tags = row_array(row, ++column);
	def->search_path = fp_row_text(row, ++column);
	def->created_at = fp_row_timestamptz(row, ++column, DT_NOBEGIN);
	def->version = fp_row_int32(row, ++column);
	*(FpDagDef **) arg = def;
}

static void
keep_oid(const FpRow *row, void *arg)
{
	*(Oid *) arg = fp_row_oid(row, 1);
}

static Interval *
row_interval(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = fp_row_datum(row, column, &isnull);
	Interval   *result;

	if (isnull)
		return NULL;
	result = palloc(sizeof(Interval));
	*result = *DatumGetIntervalP(value);
	return result;
}

static ArrayType *
row_array(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = fp_row_datum(row, column, &isnull);

	return isnull ? NULL : DatumGetArrayTypePCopy(value);
}

static int
row_count(const FpRow *row, int column)
{
	return fp_row_is_null(row, column) ? -1 : fp_row_int32(row, column);
}
