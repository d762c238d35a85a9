/*-------------------------------------------------------------------------
 *
 * upsert_once.c
 *	  An upsert as one page, in the caller's transaction.
 *
 * For flow_test_task, which runs in a session and is security-restricted: it
 * can neither commit pages nor keep the source's rows in a temporary table
 * (upsert_read.c).  One page needs neither; all rows of the source up to the
 * last one make it up, however many they are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"

#include "spi_util.h"
#include "upsert_exec.h"
#include "upsert_read.h"
#include "upsert_once.h"
#include "upsert_partition.h"

static void refuse_nulls(FpUpsertExec *exec);


/*
 * With ON CONFLICT, since a page that has met another transaction's row could
 * not be written again.
 */
bool
fp_upsert_once(const FpUpsertDef *def, const FpRunContext *run,
			   int64 *rows_written)
{
	FpUpsertShape *shape;
	FpUpsertExec exec = {0};
	FpUpsertSqlKey key = {FP_UPSERT_SQL_END, false, 0};
	char	  **end;

	if (def->mode == FP_UPSERT_REPLACE || def->is_incremental ||
		def->delete_missing)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot try an upsert that deletes rows or keeps a position"),
				 errhint("Trigger a run of the DAG instead.")));

	*rows_written = 0;
	if (def->create_partition)
		fp_upsert_partition_make(def, run);
	shape = fp_upsert_shape_make(def);
	fp_upsert_exec_init(&exec, shape, run);
	fp_upsert_read_choose(&exec, shape);
	if (shape->is_foreign)
		fp_upsert_shape_fence(shape);
	refuse_nulls(&exec);
	end = fp_upsert_exec_find(&exec, &key, NULL, NULL);
	if (end != NULL)
	{
		bool		is_foreign =
			shape->target_relkind == RELKIND_FOREIGN_TABLE;

		key.statement = is_foreign ? FP_UPSERT_SQL_INSERT :
			FP_UPSERT_SQL_WRITE_CONFLICT;
		*rows_written = (int64) fp_upsert_exec_run(&exec, &key, NULL, end,
												   FP_UPSERT_PLAN_FREELY,
												   NULL, NULL);
		key.statement = FP_UPSERT_SQL_UPDATE;
		if (is_foreign && shape->has_updated)
			*rows_written += (int64) fp_upsert_exec_run(&exec, &key, NULL,
														end,
														FP_UPSERT_PLAN_FREELY,
														NULL, NULL);
	}
	fp_upsert_exec_free(&exec);
	return end != NULL;
}

/*
 * A row with a null in the page order would lie beyond the end.
 */
static void
refuse_nulls(FpUpsertExec *exec)
{
	ListCell   *cell;

	foreach(cell, exec->shape->order)
	{
		FpUpsertColumn *column = lfirst(cell);

		if (!column->is_not_null &&
			fp_upsert_exec_once(exec,
								fp_upsert_sql_find_null(exec->shape, column),
								NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" of the source of the upsert into \"%s\" contains a null value",
							column->name, exec->shape->target_name),
					 errhint("Page by columns that are never null, or give a SELECT that leaves such rows out as source.")));
	}
}
