/*-------------------------------------------------------------------------
 *
 * pool_store.h
 *	  All SQL on flow.pool.
 *
 * Every function runs inside a transaction and opens its own owner scope.
 * Results are palloc'd in the current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_POOL_STORE_H
#define FLOWPG_POOL_STORE_H

#include "nodes/pg_list.h"

#define FP_DEFAULT_POOL "default"

/* A row of flow.pool. */
typedef struct FpPoolRow
{
	char	   *pool;
	int			slots;
} FpPoolRow;

/* all pools, as a List of FpPoolRow * in the order of their names */
extern List *fp_pool_store_list(void);

/*
 * The slots of a pool, its row locked against being dropped until the
 * transaction ends.  -1: there is no such pool.
 */
extern int	fp_pool_store_share(const char *pool);

/* false: there is no such pool; description NULL keeps what there is */
extern bool fp_pool_store_change(const char *pool, int slots,
								 const char *description);
/* makes a pool */
extern void fp_pool_store_add(const char *pool, int slots,
							  const char *description);
/* false: there is no such pool; the caller has checked that nothing uses it */
extern bool fp_pool_store_drop(const char *pool);

/* locks a pool so that no task can come to use it; false: no such pool */
extern bool fp_pool_store_lock(const char *pool);

/*
 * The tasks of a pool that take more than so many slots, as a List of char *:
 * task "x" of dag "y".
 */
extern List *fp_pool_store_tasks(const char *pool, int slots);

#endif							/* FLOWPG_POOL_STORE_H */
