/*-------------------------------------------------------------------------
 *
 * upsert_page.c
 *	  One page of an upsert: found and written.
 *
 * Runs in workers, in the page's transaction, as the DAG's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "upsert_bound.h"
#include "upsert_page.h"

static void find_fitting(FpUpsertPage *page);
static uint64 write_abroad(FpUpsertPage *page);
static uint64 write_range(FpUpsertPage *page, FpUpsertStatement statement,
						  char **lower, char **upper);
static bool differs_from_target(FpUpsertPage *page);
static FpUpsertPlanning write_planning(const FpUpsertExec *exec);
static FpUpsertSqlKey range_key(const FpUpsertExec *exec,
								FpUpsertStatement statement,
								char **lower, char **upper);
static void read_count(const FpRow *row, void *arg);


/*
 * A key often begins with a code that few values share.  Within one of them
 * the page is a range of the other columns; said so, it costs less to find,
 * and where rows are not compared as rows (another server) it is not looked
 * for from the code's first row.  So it is first looked for among the rows
 * that agree in as many columns as those of the last page did.
 */
bool
fp_upsert_page_find(FpUpsertPage *page)
{
	FpUpsertExec *exec = page->exec;
	FpUpsertSqlKey key = {FP_UPSERT_SQL_BOUND, page->last != NULL,
	page->last != NULL ? page->nequal : 0};
	char	  **limit;

	limit = fp_upsert_ahead_limit(&page->ahead, exec, page->last, page->end);
	page->upper = fp_upsert_exec_find(exec, &key, page->last, limit);
	if (page->upper == NULL && key.nequal > 0)
	{
		key.nequal = 0;
		page->upper = fp_upsert_exec_find(exec, &key, page->last, limit);
	}
	if (page->upper == NULL)
		page->upper = fp_upsert_bound_copy(limit, exec->norder,
										   CurrentMemoryContext);
	if (fp_upsert_bound_equal(page->upper, page->last, exec->norder))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("the source of the upsert into \"%s\" returns a row again when asked for those behind it",
						exec->shape->target_name),
				 errhint("Page by columns that have the same type here and on the server that the source is on.")));
	if (exec->shape->is_wide && !page->is_narrow)
		find_fitting(page);
	return fp_upsert_bound_equal(page->upper, page->end, exec->norder);
}

/*
 * Let the page end where it has bytes enough.  What comes from another server
 * would be sent twice for that; so where the first page is no larger, others
 * are not measured.
 */
static void
find_fitting(FpUpsertPage *page)
{
	FpUpsertSqlKey key = range_key(page->exec, FP_UPSERT_SQL_FIT, page->last,
								   page->upper);
	char	  **fitting;

	fitting = fp_upsert_exec_find(page->exec, &key, page->last, page->upper);
	if (fitting == NULL)
		return;
	page->is_narrow = page->exec->shape->is_foreign &&
		fp_upsert_bound_equal(fitting, page->upper, page->exec->norder);
	page->upper = fitting;
}

/*
 * A page whose predecessor needed no writing is compared first, which costs
 * less than to find by writing that there is nothing to write, unless it comes
 * from another server, which would have to send it twice.
 *
 * It may insert a key that another transaction has just put there.  That is
 * rare, so it is not guarded by a subtransaction: the page's transaction is
 * given up, and the page is written again with ON CONFLICT, or, where that
 * cannot be, in the same way, which now sees the row.
 */
uint64
fp_upsert_page_write(FpUpsertPage *page, bool is_again)
{
	const FpUpsertShape *shape = page->exec->shape;
	bool		is_abroad = shape->target_relkind == RELKIND_FOREIGN_TABLE;
	uint64		rows;

	if (shape->is_deleting)
		rows = write_range(page, FP_UPSERT_SQL_DELETE, page->last,
						   page->upper);
	else if (shape->is_citus || (is_again && !is_abroad))
		rows = write_range(page, FP_UPSERT_SQL_WRITE_CONFLICT, page->last,
						   page->upper);
	else if (!is_again && !page->has_written && !shape->is_foreign &&
			 !differs_from_target(page))
		return 0;
	else if (is_abroad)
		rows = write_abroad(page);
	else
		rows = write_range(page, FP_UPSERT_SQL_WRITE, page->last,
						   page->upper);
	page->has_written = rows > 0;
	return rows;
}

/*
 * Two statements, for wrappers that cannot do both in one.
 */
static uint64
write_abroad(FpUpsertPage *page)
{
	uint64		rows = write_range(page, FP_UPSERT_SQL_INSERT, page->last,
								   page->upper);

	if (page->exec->shape->has_updated)
		rows += write_range(page, FP_UPSERT_SQL_UPDATE, page->last,
							page->upper);
	return rows;
}

uint64
fp_upsert_page_write_part(FpUpsertPage *page, char **lower, char **upper)
{
	return write_range(page, FP_UPSERT_SQL_WRITE_CONFLICT, lower, upper);
}

void
fp_upsert_page_next(FpUpsertPage *page, MemoryContext context)
{
	FpUpsertExec *exec = page->exec;

	page->nequal = range_key(exec, FP_UPSERT_SQL_BOUND, page->last,
							 page->upper).nequal;
	MemoryContextReset(context);
	page->last = fp_upsert_bound_copy(page->upper, exec->norder, context);
	page->upper = NULL;
}

char *
fp_upsert_page_text(const FpUpsertPage *page)
{
	int			norder = page->exec->norder;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "(%s) ",
					 fp_upsert_shape_names(page->exec->shape->order));
	if (page->last != NULL)
	{
		appendStringInfoString(&buf, "> (");
		for (int i = 0; i < norder; i++)
			appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", page->last[i]);
		appendStringInfoString(&buf, ") ");
	}
	appendStringInfoString(&buf, "to (");
	for (int i = 0; i < norder; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", page->upper[i]);
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

static uint64
write_range(FpUpsertPage *page, FpUpsertStatement statement, char **lower,
			char **upper)
{
	FpUpsertExec *exec = page->exec;
	FpUpsertSqlKey key = range_key(exec, statement, lower, upper);
	int64		count = 0;
	uint64		processed;

	processed = fp_upsert_exec_run(exec, &key, lower, upper,
								   write_planning(exec), read_count, &count);
	return fp_upsert_sql_returns_count(exec->shape, statement) ?
		count : processed;
}

static bool
differs_from_target(FpUpsertPage *page)
{
	FpUpsertExec *exec = page->exec;
	FpUpsertSqlKey key = range_key(exec, FP_UPSERT_SQL_LOOK, page->last,
								   page->upper);

	return fp_upsert_exec_run(exec, &key, page->last, page->upper,
							  write_planning(exec), NULL, NULL) > 0;
}

static FpUpsertPlanning
write_planning(const FpUpsertExec *exec)
{
	const FpUpsertShape *shape = exec->shape;

	if (shape->is_citus)
		return FP_UPSERT_PLAN_FREELY;
	if (shape->target_relkind == RELKIND_FOREIGN_TABLE &&
		!shape->is_deleting)
		return FP_UPSERT_PLAN_FETCH;
	if (!shape->is_key_order)
		return FP_UPSERT_PLAN_LOOKUP;
	return FP_UPSERT_PLAN_MERGE;
}

/*
 * The form of a statement that fits a range.
 */
static FpUpsertSqlKey
range_key(const FpUpsertExec *exec, FpUpsertStatement statement,
		  char **lower, char **upper)
{
	FpUpsertSqlKey key = {statement, lower != NULL, 0};

	if (lower != NULL)
		key.nequal = Min(fp_upsert_bound_nequal(lower, upper, exec->norder),
						 exec->norder - 1);
	return key;
}

/*
 * Row callback.
 */
static void
read_count(const FpRow *row, void *arg)
{
	*(int64 *) arg = fp_row_int64(row, 1);
}
