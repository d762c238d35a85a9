/*-------------------------------------------------------------------------
 *
 * coverage_store.c
 *	  All SQL on coverage and dag_log: what a DAG has succeeded for.
 *
 * One row of coverage a DAG, with a multirange: it stays when the runs go, so
 * that old data is not taken for missing, and stays small, since spans that
 * meet become one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "coverage_store.h"
#include "spi_util.h"
#include "store_args.h"

static void add_span(FpStoreArgs *args, const char *dag_id, TimestampTz from,
					 TimestampTz until);


void
fp_coverage_store_add(const FpDagRow *dag, TimestampTz from,
					  TimestampTz until, ItemPointer place)
{
	static FpStatement add_at = {
		"UPDATE flow.coverage SET covered = covered + "
		"tstzmultirange(tstzrange($2, $3)) "
		"WHERE ctid = $5 AND dag_id = $1 RETURNING ctid",
		SPI_OK_UPDATE_RETURNING, 5,
		{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TIDOID}
	};
	static FpStatement add = {
		"INSERT INTO flow.coverage AS c (dag_id, covered) "
		"SELECT d.dag_id, tstzmultirange(tstzrange($2, $3)) "
		FP_OF_SAME_DAG("$1", "$4")
		" ON CONFLICT (dag_id) DO UPDATE "
		"SET covered = c.covered + excluded.covered RETURNING ctid",
		SPI_OK_INSERT_RETURNING, 4,
		{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	};
	FpStoreArgs args = {0};

	if (from >= until)
		return;
	add_span(&args, dag->dag_id, from, until);
	fp_store_args_add_int(&args, dag->first_version);
	fp_store_execute_at(&add_at, &add, &args, place, fp_store_keep_place,
						place);
}

void
fp_coverage_store_remove(const char *dag_id, TimestampTz from,
						 TimestampTz until)
{
	static FpStatement statement = {
		"UPDATE flow.coverage SET covered = covered - "
		"tstzmultirange(tstzrange($2, $3)) WHERE dag_id = $1",
		SPI_OK_UPDATE, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	if (from >= until)
		return;
	add_span(&args, dag_id, from, until);
	fp_store_execute(&statement, &args, NULL, NULL);
}

bool
fp_coverage_store_contains(const char *dag_id, TimestampTz from,
						   TimestampTz until, const ItemPointerData *place)
{
	static FpStatement contains_at = {
		"SELECT covered @> tstzrange($2, $3) FROM flow.coverage "
		"WHERE ctid = $4 AND dag_id = $1",
		SPI_OK_SELECT, 4, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIDOID}
	};
	static FpStatement contains = {
		"SELECT covered @> tstzrange($2, $3) FROM flow.coverage "
		"WHERE dag_id = $1",
		SPI_OK_SELECT, 3, {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};
	bool		result = false;

	add_span(&args, dag_id, from, until);
	fp_store_execute_at(&contains_at, &contains, &args, place,
						fp_store_keep_bool, &result);
	return result;
}

void
fp_coverage_store_take_back(const FpRunRow *run)
{
	static FpStatement statement = {
		"DELETE FROM flow.dag_log WHERE dag_id = $1 "
		"AND completion_date BETWEEN $2 AND $3 AND run_id = $4",
		SPI_OK_DELETE, 4, {TEXTOID, DATEOID, DATEOID, INT8OID}
	};
	FpStoreArgs args = {0};
	/* of the end in UTC; in the DAG's timezone it may be the next to it */
	int64		day = run->data_interval_end / USECS_PER_DAY;
	int64		first = Max(day - 2, DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE);
	int64		last = Min(day + 2, DATE_END_JULIAN - POSTGRES_EPOCH_JDATE - 1);

	fp_coverage_store_remove(run->dag_id, run->data_interval_start,
							 run->data_interval_end);
	fp_store_args_add_text(&args, run->dag_id);
	fp_store_args_add(&args, DateADTGetDatum((DateADT) first), false);
	fp_store_args_add(&args, DateADTGetDatum((DateADT) last), false);
	fp_store_args_add_id(&args, run->run_id);
	fp_store_execute(&statement, &args, NULL, NULL);
}

void
fp_coverage_store_log(const char *dag_id, DateADT date, TimestampTz at,
					  int64 run_id, ItemPointer place)
{
	static FpStatement log_at = {
		"UPDATE flow.dag_log SET completion_datetime = $3, run_id = $4 "
		"WHERE ctid = $5 AND dag_id = $1 AND completion_date = $2 "
		"RETURNING ctid",
		SPI_OK_UPDATE_RETURNING, 5,
		{TEXTOID, DATEOID, TIMESTAMPTZOID, INT8OID, TIDOID}
	};
	static FpStatement log = {
		"INSERT INTO flow.dag_log (dag_id, completion_date, "
		"completion_datetime, run_id) VALUES ($1, $2, $3, $4) "
		"ON CONFLICT (dag_id, completion_date) DO UPDATE "
		"SET completion_datetime = excluded.completion_datetime, "
		"run_id = excluded.run_id RETURNING ctid",
		SPI_OK_INSERT_RETURNING, 4,
		{TEXTOID, DATEOID, TIMESTAMPTZOID, INT8OID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add(&args, DateADTGetDatum(date), false);
	fp_store_args_add_time(&args, at);
	fp_store_args_add_int64(&args, run_id);
	fp_store_execute_at(&log_at, &log, &args, place, fp_store_keep_place,
						place);
}

bool
fp_coverage_store_has_word(const char *dag_id, DateADT date, Oid tobe_owner)
{
	static FpStatement statement = {
		"SELECT l.run_id IS NOT NULL OR EXISTS (SELECT FROM pg_roles r "
		"WHERE r.oid = l.logged_by "
		"AND (r.rolsuper OR pg_has_role(r.oid, $3, 'MEMBER'))) "
		"FROM flow.dag_log l "
		"WHERE l.dag_id = $1 AND l.completion_date = $2",
		SPI_OK_SELECT, 3, {TEXTOID, DATEOID, OIDOID}
	};
	FpStoreArgs args = {0};
	bool		result = false;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add(&args, DateADTGetDatum(date), false);
	fp_store_args_add_oid(&args, tobe_owner);
	fp_store_execute(&statement, &args, fp_store_keep_bool, &result);
	return result;
}

static void
add_span(FpStoreArgs *args, const char *dag_id, TimestampTz from,
		 TimestampTz until)
{
	fp_store_args_add_text(args, dag_id);
	fp_store_args_add_time(args, from);
	fp_store_args_add_time(args, until);
}
