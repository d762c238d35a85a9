/*-------------------------------------------------------------------------
 *
 * position_store.c
 *	  All SQL on flow.position: where an incremental upsert is, from run to
 *	  run.
 *
 * Workers move a position in the transaction of a run's last page; sessions
 * read it, set it and take it away.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "position_store.h"
#include "spi_util.h"
#include "store_args.h"

static FpStatement get_position = {
	"SELECT position::text FROM flow.position "
	"WHERE dag_id = $1 AND task_id = $2",
	SPI_OK_SELECT, 2, {TEXTOID, TEXTOID}
};

static FpStatement set_position = {
	"INSERT INTO flow.position (dag_id, task_id, position, updated_at) "
	"VALUES ($1, $2, $3::jsonb, $4) ON CONFLICT (dag_id, task_id) "
	"DO UPDATE SET position = EXCLUDED.position,"
	" updated_at = EXCLUDED.updated_at",
	SPI_OK_INSERT, 4, {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static FpStatement drop_position = {
	"DELETE FROM flow.position WHERE dag_id = $1 AND task_id = $2",
	SPI_OK_DELETE, 2, {TEXTOID, TEXTOID}
};

static FpStatement move_position = {
	"UPDATE flow.position SET position = $3::jsonb, updated_at = $4 "
	"WHERE dag_id = $1 AND task_id = $2 AND position = $5::jsonb",
	SPI_OK_UPDATE, 5, {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID}
};

/* not for a DAG that has been made anew since the run began */
static FpStatement add_position = {
	"INSERT INTO flow.position (dag_id, task_id, position, updated_at) "
	"SELECT t.dag_id, t.task_id, $3::jsonb, $4 "
	"FROM flow.task t JOIN flow.dag d USING (dag_id) "
	"WHERE t.dag_id = $1 AND t.task_id = $2 AND d.first_version <= "
	"(SELECT r.version FROM flow.dag_run r WHERE r.run_id = $5) "
	"FOR KEY SHARE OF d ON CONFLICT DO NOTHING",
	SPI_OK_INSERT, 5,
	{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID}
};


char *
fp_position_store_get(const char *dag_id, const char *task_id)
{
	FpStoreArgs args = {0};
	char	   *position = NULL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&get_position, &args, fp_store_keep_text, &position);
	return position;
}

void
fp_position_store_set(const char *dag_id, const char *task_id,
					  const char *position, TimestampTz at)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_text(&args, task_id);
	if (position == NULL)
	{
		fp_store_execute(&drop_position, &args, NULL, NULL);
		return;
	}
	fp_store_args_add_text(&args, position);
	fp_store_args_add_time(&args, at);
	fp_store_execute(&set_position, &args, NULL, NULL);
}

bool
fp_position_store_advance(const FpRunContext *run, const char *from,
						  const char *to, TimestampTz at)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, run->dag_id);
	fp_store_args_add_text(&args, run->task_id);
	fp_store_args_add_text(&args, to);
	fp_store_args_add_time(&args, at);
	if (from == NULL)
	{
		fp_store_args_add_int64(&args, run->run_id);
		return fp_store_execute(&add_position, &args, NULL, NULL) == 1;
	}
	fp_store_args_add_text(&args, from);
	return fp_store_execute(&move_position, &args, NULL, NULL) == 1;
}
