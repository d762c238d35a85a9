/*-------------------------------------------------------------------------
 *
 * set_off_store.c
 *	  flow.set_off: spans for which success has set off more runs than one
 *	  cycle makes; and what all asis DAGs of a DAG cover.
 *
 * A row is written in one commit with the success, and goes in one commit with
 * the runs that are made for it, so a crash in between loses none of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "schedule.h"
#include "set_off_store.h"
#include "spi_util.h"
#include "store_args.h"

static void keep_row(const FpRow *row, void *arg);
static void append_piece(const FpRow *row, void *arg);


void
fp_set_off_store_add(const FpSetOffRow *row)
{
	static FpStatement statement = {
		"INSERT INTO flow.set_off (dag_id, first_version, from_at, until_at) "
		"VALUES ($1, $2, $3, $4)",
		SPI_OK_INSERT, 4, {TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, row->dag_id);
	fp_store_args_add_int(&args, row->first_version);
	fp_store_args_add_time(&args, row->from);
	fp_store_args_add_time(&args, row->until);
	fp_store_execute(&statement, &args, NULL, NULL);
}

FpSetOffRow *
fp_set_off_store_next(int64 set_off_id)
{
	static FpStatement statement = {
		"SELECT set_off_id, dag_id, first_version, from_at, until_at "
		"FROM flow.set_off WHERE set_off_id >= $1 "
		"ORDER BY set_off_id LIMIT 1",
		SPI_OK_SELECT, 1, {INT8OID}
	};
	FpStoreArgs args = {0};
	FpSetOffRow *result = NULL;

	fp_store_args_add_int64(&args, set_off_id);
	fp_store_execute(&statement, &args, keep_row, &result);
	return result;
}

void
fp_set_off_store_delete(int64 set_off_id)
{
	static FpStatement statement = {
		"DELETE FROM flow.set_off WHERE set_off_id = $1",
		SPI_OK_DELETE, 1, {INT8OID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_int64(&args, set_off_id);
	fp_store_execute(&statement, &args, NULL, NULL);
}

List *
fp_set_off_store_covered(List *dag_ids, TimestampTz from, TimestampTz until,
						 int limit)
{
	/* one that has no row covers nothing, and the aggregate leaves it out */
	static FpStatement statement = {
		"SELECT lower(piece), upper(piece) FROM unnest(("
		"SELECT range_intersect_agg(covered) * tstzmultirange(tstzrange($2, $3)) "
		"FROM flow.coverage WHERE dag_id = ANY ($1) "
		"HAVING count(*) = cardinality($1))) AS piece LIMIT $4",
		SPI_OK_SELECT, 4,
		{TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	};
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_texts(&args, dag_ids);
	fp_store_args_add_time(&args, from);
	fp_store_args_add_time(&args, until);
	fp_store_args_add_int(&args, limit);
	fp_store_execute(&statement, &args, append_piece, &result);
	return result;
}

static void
keep_row(const FpRow *row, void *arg)
{
	FpSetOffRow *result = palloc(sizeof(FpSetOffRow));

	result->set_off_id = fp_row_int64(row, 1);
	result->dag_id = fp_row_text(row, 2);
	result->first_version = fp_row_int32(row, 3);
	result->from = fp_row_timestamptz(row, 4, DT_NOBEGIN);
	result->until = fp_row_timestamptz(row, 5, DT_NOBEGIN);
	*(FpSetOffRow **) arg = result;
}

static void
append_piece(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;
	FpInterval *piece = palloc(sizeof(FpInterval));

	piece->start = fp_row_timestamptz(row, 1, DT_NOBEGIN);
	piece->end = fp_row_timestamptz(row, 2, DT_NOBEGIN);
	*list = lappend(*list, piece);
}
