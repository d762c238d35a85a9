/*-------------------------------------------------------------------------
 *
 * upsert_replace.c
 *	  Mode replace of an upsert: the source's rows in the place of those that
 *	  a condition names.
 *
 * One transaction, so that readers see the old rows or the new ones.  The
 * source is read once, into a temporary table, and compared by key: what it
 * does not have is deleted, what is new or changed is written, and the rest is
 * left alone, which spares the WAL, the indexes and the triggers of a day that
 * is loaded again as it was.  Where most rows of whole partitions differ, new
 * partitions take their place instead (upsert_swap.c).
 *
 * Rows that do not match replace_where are another run's.  They are never
 * written, and none is made: a source with a row for one of them, or with a
 * row that would not match, is an error, or the same day's rows would be added
 * by each run and removed by none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "utils/snapmgr.h"

#include "upsert_read.h"
#include "upsert_replace.h"
#include "upsert_swap.h"

static int64 write_part(FpUpsertExec *exec, FpUpsertShape *shape,
						FpUpsertStatement statement);
static char *find_outside(FpUpsertExec *exec, FpUpsertShape *shape);
static void keep_text(const FpRow *row, void *arg);
static void keep_count(const FpRow *row, void *arg);


uint64
fp_upsert_replace(FpUpsertExec *exec, FpUpsertShape *shape)
{
	uint64		deleted;
	int64		written = 0;
	char	   *outside;

	PushActiveSnapshot(GetTransactionSnapshot());
	fp_upsert_read_all(exec, shape);
	PopActiveSnapshot();

	if (fp_upsert_swap(exec, shape, &written))
	{
		fp_upsert_read_end(exec);
		return written;
	}

	outside = find_outside(exec, shape);
	if (outside != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("the source has a key that target \"%s\" has in a row which does not match replace_where",
						shape->target_name),
				 errdetail("It is (%s) = (%s).",
						   fp_upsert_shape_names(shape->key), outside),
				 errhint("Let replace_where match all rows that the source is to take the place of, or use mode \"upsert\".")));

	deleted = fp_upsert_exec_once(exec, fp_upsert_sql_replace_delete(shape),
								  NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	if (shape->target_relkind == RELKIND_FOREIGN_TABLE)
	{
		written = write_part(exec, shape, FP_UPSERT_SQL_INSERT);
		if (shape->has_updated)
			written += write_part(exec, shape, FP_UPSERT_SQL_UPDATE);
	}
	else
		(void) fp_upsert_exec_once(exec, fp_upsert_sql_replace_write(shape),
								   NULL, FP_UPSERT_PLAN_FREELY, keep_count,
								   &written);

	outside = find_outside(exec, shape);
	if (outside != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WITH_CHECK_OPTION_VIOLATION),
				 errmsg("the source has a row that does not match replace_where in target \"%s\"",
						shape->target_name),
				 errdetail("Its key is (%s) = (%s).",
						   fp_upsert_shape_names(shape->key), outside),
				 errhint("Let the source and replace_where choose the same rows.")));

	fp_upsert_read_end(exec);
	return deleted + written;
}

static int64
write_part(FpUpsertExec *exec, FpUpsertShape *shape,
		   FpUpsertStatement statement)
{
	return fp_upsert_exec_once(exec,
							   fp_upsert_sql_replace_part(shape, statement),
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
}

/*
 * A key that is in the source, and in the target in a row that does not match;
 * NULL: there is none.
 */
static char *
find_outside(FpUpsertExec *exec, FpUpsertShape *shape)
{
	char	   *key = NULL;

	(void) fp_upsert_exec_once(exec, fp_upsert_sql_replace_outside(shape),
							   NULL, FP_UPSERT_PLAN_FREELY, keep_text, &key);
	return key;
}

/* Row callbacks. */
static void
keep_text(const FpRow *row, void *arg)
{
	*(char **) arg = fp_row_text(row, 1);
}

static void
keep_count(const FpRow *row, void *arg)
{
	*(int64 *) arg = fp_row_int64(row, 1);
}
