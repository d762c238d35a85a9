/*-------------------------------------------------------------------------
 *
 * pool_store.c
 *	  All SQL on flow.pool.
 *
 * Sessions write; the scheduler reads all pools when it starts and when it is
 * told of a change, and counts the slots in use in its own memory.  A session
 * that defines a task shares the pool's row, one that drops the pool locks it
 * alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "pool_store.h"
#include "spi_util.h"
#include "store_args.h"

static FpStatement list_pools = {
	"SELECT pool, slots FROM flow.pool ORDER BY pool",
	SPI_OK_SELECT, 0, {0}
};

static FpStatement share_pool = {
	"SELECT slots FROM flow.pool WHERE pool = $1 FOR SHARE",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement change_pool = {
	"UPDATE flow.pool SET slots = $2, description = COALESCE($3, description) "
	"WHERE pool = $1",
	SPI_OK_UPDATE, 3, {TEXTOID, INT4OID, TEXTOID}
};

/* another session may make the same pool at the same time */
static FpStatement add_pool = {
	"INSERT INTO flow.pool AS p (pool, slots, description) "
	"VALUES ($1, $2, $3) "
	"ON CONFLICT (pool) DO UPDATE SET slots = EXCLUDED.slots,"
	" description = COALESCE(EXCLUDED.description, p.description)",
	SPI_OK_INSERT, 3, {TEXTOID, INT4OID, TEXTOID}
};

static FpStatement drop_pool = {
	"DELETE FROM flow.pool WHERE pool = $1",
	SPI_OK_DELETE, 1, {TEXTOID}
};

static FpStatement lock_pool = {
	"SELECT FROM flow.pool WHERE pool = $1 FOR UPDATE",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement list_tasks = {
	"SELECT format('task \"%s\" of dag \"%s\"', task_id, dag_id) "
	"FROM flow.task WHERE pool = $1 AND pool_slots > $2 "
	"ORDER BY dag_id, task_id",
	SPI_OK_SELECT, 2, {TEXTOID, INT4OID}
};

static void pool_args(FpStoreArgs *args, const char *pool, int slots,
					  const char *description);
static void append_pool(const FpRow *row, void *arg);


List *
fp_pool_store_list(void)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_execute(&list_pools, &args, append_pool, &result);
	return result;
}

int
fp_pool_store_share(const char *pool)
{
	FpStoreArgs args = {0};
	int64		slots = -1;

	fp_store_args_add_text(&args, pool);
	fp_store_execute(&share_pool, &args, fp_store_keep_int64, &slots);
	return (int) slots;
}

bool
fp_pool_store_change(const char *pool, int slots, const char *description)
{
	FpStoreArgs args = {0};

	pool_args(&args, pool, slots, description);
	return fp_store_execute(&change_pool, &args, NULL, NULL) == 1;
}

void
fp_pool_store_add(const char *pool, int slots, const char *description)
{
	FpStoreArgs args = {0};

	pool_args(&args, pool, slots, description);
	fp_store_execute(&add_pool, &args, NULL, NULL);
}

bool
fp_pool_store_drop(const char *pool)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, pool);
	return fp_store_execute(&drop_pool, &args, NULL, NULL) == 1;
}

bool
fp_pool_store_lock(const char *pool)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, pool);
	return fp_store_execute(&lock_pool, &args, NULL, NULL) == 1;
}

List *
fp_pool_store_tasks(const char *pool, int slots)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_text(&args, pool);
	fp_store_args_add_int(&args, slots);
	fp_store_execute(&list_tasks, &args, fp_store_append_text, &result);
	return result;
}

static void
pool_args(FpStoreArgs *args, const char *pool, int slots,
		  const char *description)
{
	fp_store_args_add_text(args, pool);
	fp_store_args_add_int(args, slots);
	fp_store_args_add_text(args, description);
}

static void
append_pool(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;
	FpPoolRow  *pool = palloc(sizeof(FpPoolRow));

	pool->pool = fp_row_text(row, 1);
	pool->slots = fp_row_int32(row, 2);
	*list = lappend(*list, pool);
}
