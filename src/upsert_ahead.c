/*-------------------------------------------------------------------------
 *
 * upsert_ahead.c
 *	  How far a paged upsert looks for the end of a page.
 *
 * Where an index of the page order is used, the end of a page is found by
 * reading the page.  A server that is asked in a form for which it takes no
 * index reads and sorts everything up to the end for it: from MariaDB, 200
 * pages of 2 million rows would be 200 million rows sorted.  So the end of
 * many pages is looked for first, within that the end of fewer, and so on;
 * then each row is sorted a few times more, however many there are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "upsert_ahead.h"
#include "upsert_bound.h"

/* pages of a level are those of the one below, times this */
#define LEVEL_FACTOR 8

static void keep_bound(FpUpsertAhead *self, FpUpsertExec *exec, int level,
					   char **bound);


char **
fp_upsert_ahead_limit(FpUpsertAhead *self, FpUpsertExec *exec, char **last,
					  char **end)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_BOUND, last != NULL, 0};
	int			npages = 1;

	if (!exec->shape->is_far_sorted)
		return end;

	for (int level = 0; level < FP_UPSERT_AHEAD_LEVELS; level++)
	{
		npages *= LEVEL_FACTOR;
		if (self->bounds[level] != NULL &&
			fp_upsert_bound_equal(self->bounds[level], last, exec->norder))
			self->bounds[level] = NULL;
	}

	for (int level = FP_UPSERT_AHEAD_LEVELS - 1; level >= 0; level--)
	{
		if (self->bounds[level] == NULL)
		{
			char	  **found;

			key.npages = npages;
			found = fp_upsert_exec_find(exec, &key, last, end);
			keep_bound(self, exec, level, found != NULL ? found : end);
		}
		end = self->bounds[level];
		npages /= LEVEL_FACTOR;
	}
	return end;
}

void
fp_upsert_ahead_reset(FpUpsertAhead *self)
{
	memset(self->bounds, 0, sizeof(self->bounds));
}

/*
 * In a context of the level's own, for the bound outlives pages.
 */
static void
keep_bound(FpUpsertAhead *self, FpUpsertExec *exec, int level, char **bound)
{
	if (self->contexts[level] == NULL)
		self->contexts[level] = AllocSetContextCreate(exec->context,
													  "flowpg upsert ahead",
													  ALLOCSET_SMALL_SIZES);
	MemoryContextReset(self->contexts[level]);
	self->bounds[level] = fp_upsert_bound_copy(bound, exec->norder,
											   self->contexts[level]);
}
