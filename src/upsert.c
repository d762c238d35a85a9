/*-------------------------------------------------------------------------
 *
 * upsert.c
 *	  Paged upsert: moves the rows of a source into a table, page by page,
 *	  one transaction a page, rows and position together.
 *
 * Runs in a worker whose session user is the DAG's owner, outside any
 * transaction; every statement on source and target is ordinary SQL of that
 * user, so that rights, row security, triggers and partitions are as ever.
 *
 * A page is a closed range of the page order.  Its upper bound is found first,
 * by index, then the page is written (upsert_sql.c), then the caller records
 * the position, then all is committed.  Where the pages end is fixed before
 * the first of them and kept in the position, so that neither a busy source
 * nor a retry moves it.  Rows that come in ahead of the position are read, rows
 * that come in behind it belong to the next run; no row's place depends on how
 * many others there are.
 *
 *	  upsert_def.c		the definition, checked and kept as jsonb
 *	  upsert_shape.c	the definition, looked up in the catalogs
 *	  upsert_index.c	what indexes and constraints promise
 *	  upsert_sql.c		the statements
 *	  upsert_exec.c		how they are planned and run
 *	  upsert_bound.c	bounds of pages
 *	  upsert_page.c		one page, found and written
 *	  upsert_bad.c		rows that cannot be written
 *	  upsert_claim.c	pages shared with other workers
 *	  upsert_read.c		sources that no index can page
 *	  upsert_ahead.c	ends of pages on servers that sort all that is ahead
 *	  upsert_late.c		how far incremental positions may move
 *	  upsert_partition.c	partitions for the run's interval
 *	  upsert_replace.c	mode replace, which has one page
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "help.h"
#include "jsonb_util.h"
#include "position_store.h"
#include "process.h"
#include "spi_util.h"
#include "upsert.h"
#include "upsert_bad.h"
#include "upsert_bound.h"
#include "upsert_claim.h"
#include "upsert_exec.h"
#include "upsert_late.h"
#include "upsert_page.h"
#include "upsert_partition.h"
#include "upsert_read.h"
#include "upsert_replace.h"
#include "upsert_shape.h"
#include "upsert_sql.h"

/* How a page is written: each way is tried where the one before has failed. */
typedef enum PageWay
{
	PAGE_PLAINLY,
	PAGE_AGAIN,					/* another transaction was in the way */
	PAGE_IN_PARTS				/* some row cannot be written */
} PageWay;

/* One call of fp_upsert_run. */
typedef struct UpsertRun
{
	FpUpsertShape *shape;		/* NULL: not looked up yet */
	FpUpsertExec exec;
	FpUpsertPage page;

	MemoryContext context;		/* of all that is kept over pages */
	MemoryContext page_context; /* reset after each page */
	MemoryContext last_context; /* of page.last; reset when it moves */

	/* incremental only */
	bool		is_incremental;
	const char *lookback;		/* see FpUpsertDef */
	char	   *start;			/* flow.position when the run began, as text;
								 * NULL: there was none */
	FpUpsertPlace from;			/* what it says; NULL: the beginning */
	char	   *next;			/* flow.position when the run ends */

	int			nworkers;		/* that may take pages at a time */
	bool		is_shared;		/* others may take pages, too */
	bool		has_open;		/* an earlier attempt shared its pages, and
								 * some were not done */
	bool		keeps_bad_rows; /* on_row_error */
	bool		is_exclusive;	/* runs of the task wait for each other */
	bool		is_spilled;
	bool		has_to_delete;	/* pages of the target are to follow */
	bool		was_deleting;	/* an earlier attempt had got to them */
	const char *position;		/* where the attempt began, see FpUpsertStart */
	int64		npages;			/* done by us and before us */
	double		rows_expected;	/* to be read; 0: not known */

	FpUpsertPageDone page_done;
	void	   *arg;			/* its own */
} UpsertRun;

/* a leader that waits for others' last pages looks again this often */
#define WAIT_MS 1000

/* a page that fails is tried so often, at most */
#define MAX_TRIES 8

/* after a conflict with another transaction, at random up to so long */
#define CONFLICT_WAIT_MS 50

static void begin_run(UpsertRun *self, const FpRunContext *run,
					  const FpUpsertStart *start, FpUpsertPageDone page_done,
					  void *arg, ErrorContextCallback *callback);
static void end_run(UpsertRun *self, ErrorContextCallback *callback);
static void make_partitions(UpsertRun *self, const FpUpsertDef *def);
static void prepare_run(UpsertRun *self, const FpUpsertDef *def);
static void prepare_pages(UpsertRun *self, const FpUpsertDef *def);
static void prepare_incremental(UpsertRun *self, const FpUpsertDef *def);
static bool can_be_shared(const FpUpsertShape *shape);
static bool prepare_help(UpsertRun *self, const FpUpsertDef *def);
static void begin_interval(UpsertRun *self);
static void find_first(UpsertRun *self);
static void record_end(UpsertRun *self);
static void lock_task(UpsertRun *self, bool is_session);
static void prepare_deletion(UpsertRun *self);
static void run_pages(UpsertRun *self);
static void run_nothing(UpsertRun *self);
static void run_replace(UpsertRun *self);
static bool run_page(UpsertRun *self);
static void share_pages(UpsertRun *self);
static FpUpsertClaimed run_shared_page(UpsertRun *self);
static void begin_page(UpsertRun *self);
static void write_page(UpsertRun *self, bool is_last);
static bool find_way(const UpsertRun *self, int sqlerrcode, PageWay *way);
static bool is_conflict(int sqlerrcode);
static ErrorData *try_page(UpsertRun *self, PageWay *way, bool is_last);
static void end_page(UpsertRun *self, FpPageRecord *page, bool is_last);
static void record(UpsertRun *self, const FpPageRecord *page, bool is_last);
static char *make_position(UpsertRun *self, char **last);
static void parse_position(UpsertRun *self, const char *position);
static void begin_transaction(UpsertRun *self, MemoryContext context);
static void upsert_error_context(void *arg);


void
fp_upsert_run(const FpUpsertDef *def, const FpRunContext *run,
			  const FpUpsertStart *start, FpUpsertPageDone page_done,
			  void *arg)
{
	UpsertRun	self;
	ErrorContextCallback callback;

	begin_run(&self, run, start, page_done, arg, &callback);
	if (def->create_partition)
		make_partitions(&self, def);
	prepare_run(&self, def);
	if (def->mode == FP_UPSERT_REPLACE)
		run_replace(&self);
	else
	{
		if (self.is_shared)
			share_pages(&self);
		else if (!self.was_deleting)
			run_pages(&self);
		if (def->delete_missing)
		{
			prepare_deletion(&self);
			run_pages(&self);
		}
	}
	end_run(&self, &callback);
}

void
fp_upsert_help(const FpUpsertDef *def, const FpRunContext *run,
			   const FpUpsertStart *start, FpUpsertPageDone page_done,
			   void *arg)
{
	UpsertRun	self;
	ErrorContextCallback callback;

	begin_run(&self, run, start, page_done, arg, &callback);
	if (prepare_help(&self, def))
	{
		while (!fp_help_must_leave() &&
			   run_shared_page(&self) == FP_UPSERT_CLAIM_PAGE)
			;
	}
	end_run(&self, &callback);
}

static void
begin_run(UpsertRun *self, const FpRunContext *run,
		  const FpUpsertStart *start, FpUpsertPageDone page_done, void *arg,
		  ErrorContextCallback *callback)
{
	Assert(!IsTransactionState());

	memset(self, 0, sizeof(UpsertRun));
	self->exec.run = run;
	self->page.exec = &self->exec;
	self->position = start->position;
	self->npages = start->pages;
	self->page_done = page_done;
	self->arg = arg;
	self->context = AllocSetContextCreate(CurrentMemoryContext,
										  "flowpg upsert",
										  ALLOCSET_DEFAULT_SIZES);
	self->page_context = AllocSetContextCreate(self->context,
											   "flowpg upsert page",
											   ALLOCSET_DEFAULT_SIZES);
	self->last_context = AllocSetContextCreate(self->context,
											   "flowpg upsert position",
											   ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(self->context);

	callback->callback = upsert_error_context;
	callback->arg = self;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

static void
end_run(UpsertRun *self, ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
	fp_upsert_exec_free(&self->exec);
	MemoryContextSwitchTo(MemoryContextGetParent(self->context));
	MemoryContextDelete(self->context);
}

/*
 * A transaction of its own, since other runs may wait for it.
 */
static void
make_partitions(UpsertRun *self, const FpUpsertDef *def)
{
	begin_transaction(self, self->page_context);
	PushActiveSnapshot(GetTransactionSnapshot());
	fp_upsert_partition_make(def, self->exec.run);
	PopActiveSnapshot();
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
	MemoryContextReset(self->page_context);
}

/*
 * Look everything up, choose how to read, and fix the end.  A transaction of
 * its own, which leaves nothing but, maybe, a temporary table.
 */
static void
prepare_run(UpsertRun *self, const FpUpsertDef *def)
{
	self->keeps_bad_rows = strcmp(def->on_row_error, "keep") == 0;
	self->is_exclusive = def->is_incremental || def->delete_missing;
	self->has_to_delete = def->delete_missing;
	if (def->is_incremental)
		prepare_incremental(self, def);

	begin_transaction(self, self->context);
	if (def->delete_missing)
		lock_task(self, true /* is_session */ );
	PushActiveSnapshot(GetTransactionSnapshot());

	if (self->shape == NULL)
	{
		self->shape = fp_upsert_shape_make(def);
		fp_upsert_exec_init(&self->exec, self->shape, self->exec.run);
		if (def->mode != FP_UPSERT_REPLACE)
			fp_upsert_read_choose(&self->exec, self->shape);
		if (self->position != NULL)
			parse_position(self, self->position);
	}
	if (def->mode != FP_UPSERT_REPLACE && !self->was_deleting &&
		(self->page.end != NULL || !self->is_incremental))
		prepare_pages(self, def);

	PopActiveSnapshot();
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

/*
 * With delete_missing a copy is a copy of all, for its keys are needed.
 *
 * An earlier attempt may have left pages open behind the last one that it took;
 * where we cannot go on with these, we begin anew.
 */
static void
prepare_pages(UpsertRun *self, const FpUpsertDef *def)
{
	char	  **last = self->page.last;

	if (self->has_to_delete || self->has_open)
		last = NULL;
	self->is_spilled = fp_upsert_read_begin(&self->exec, self->shape, last);
	if (self->page.end == NULL)
		self->page.end = fp_upsert_read_find_end(&self->exec);
	if (self->page.end != NULL)
		self->rows_expected = fp_upsert_read_estimate(&self->exec,
													  self->page.last,
													  self->page.end);
	self->nworkers = def->parallel_pages;
	self->is_shared = self->nworkers > 1 && can_be_shared(self->shape) &&
		self->page.end != NULL;
	if (self->has_open && !self->is_shared)
	{
		self->page.last = NULL;
		if (self->from != NULL)
			find_first(self);
	}
}

/*
 * Pages are shared where each key lies in one of them only, whatever happens
 * to the row meanwhile: with a page order that is the key.  Of a copy, which
 * only this session sees, all pages are our own; and so they are of a server
 * for which their ends are looked for far ahead.
 */
static bool
can_be_shared(const FpUpsertShape *shape)
{
	return shape->is_order_by_key && !shape->is_read_once &&
		!shape->is_far_sorted;
}

/*
 * False: the source cannot be read by pages, as this worker sees it.
 */
static bool
prepare_help(UpsertRun *self, const FpUpsertDef *def)
{
	bool		result;

	begin_transaction(self, self->context);
	PushActiveSnapshot(GetTransactionSnapshot());

	self->is_shared = true;
	self->keeps_bad_rows = strcmp(def->on_row_error, "keep") == 0;
	self->is_incremental = def->is_incremental;
	self->shape = fp_upsert_shape_make(def);
	fp_upsert_exec_init(&self->exec, self->shape, self->exec.run);
	fp_upsert_read_choose(&self->exec, self->shape);
	if (self->position != NULL)
		parse_position(self, self->position);
	result = def->parallel_pages > 1 && self->page.end != NULL &&
		!self->was_deleting && can_be_shared(self->shape);

	PopActiveSnapshot();
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
	return result;
}

/*
 * Rows that the source does not have are deleted when all that it has are
 * there, in pages of the target: from here on that is what is read.
 *
 * The source's keys are read once more, for it need not have an index to look
 * them up by.  A row that another run of this task has brought since then would
 * be missing in them: so these runs wait for each other, too.
 */
static void
prepare_deletion(UpsertRun *self)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_END, false, 0};
	const FpRunContext *run = self->exec.run;
	const char *keys;

	begin_transaction(self, self->context);
	PushActiveSnapshot(GetTransactionSnapshot());

	keys = fp_upsert_read_keys(&self->exec, self->shape);
	fp_upsert_exec_free(&self->exec);
	self->shape = fp_upsert_shape_of_target(self->shape, keys);
	fp_upsert_exec_init(&self->exec, self->shape, run);

	MemoryContextReset(self->last_context);
	self->page.last = NULL;
	self->page.end = NULL;
	self->page.nequal = 0;
	fp_upsert_ahead_reset(&self->page.ahead);
	self->is_spilled = true;
	self->has_to_delete = false;
	if (self->was_deleting)
		parse_position(self, self->position);
	else
		self->page.end = fp_upsert_exec_find(&self->exec, &key, NULL, NULL);
	self->position = NULL;

	PopActiveSnapshot();
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

static void
run_pages(UpsertRun *self)
{
	bool		is_done = self->page.end == NULL ||
		fp_upsert_bound_equal(self->page.last, self->page.end,
							  self->exec.norder);

	if (!is_done)
	{
		while (!run_page(self))
			;
	}
	else if (!self->has_to_delete)
		run_nothing(self);
}

/*
 * Begin an incremental run, or take it up where it was.
 *
 * Runs of one task share its position and must not overlap: one that has read
 * a row before it was changed could write it after the other has written the
 * change, which nobody would read again.  So a run waits here for the one
 * before it, as long as that takes (or as the owner's lock_timeout says).
 *
 * In a transaction of its own, so that pages, and a copy of the source, are
 * read under later snapshots even where the owner's transactions have but one.
 */
static void
prepare_incremental(UpsertRun *self, const FpUpsertDef *def)
{
	self->is_incremental = true;
	self->lookback = def->lookback;

	begin_transaction(self, self->context);
	lock_task(self, true /* is_session */ );
	PushActiveSnapshot(GetTransactionSnapshot());

	self->shape = fp_upsert_shape_make(def);
	fp_upsert_exec_init(&self->exec, self->shape, self->exec.run);
	fp_upsert_late_check(self->shape, def->lookback);
	fp_upsert_read_choose(&self->exec, self->shape);
	if (self->position != NULL)
		parse_position(self, self->position);
	if (self->page.end == NULL)
		begin_interval(self);
	if (self->page.last == NULL && self->from != NULL)
		find_first(self);

	PopActiveSnapshot();
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

/*
 * Fix what the run reads, and what the position will be when it has done so.
 */
static void
begin_interval(UpsertRun *self)
{
	const FpRunContext *run = self->exec.run;
	FpUpsertReached *reached;

	self->start = fp_position_store_get(run->dag_id, run->task_id);
	reached = fp_upsert_late_parse(self->shape, self->start);
	/* what a candidate waited for is there now, and must still be read */
	self->from = reached->last;
	fp_upsert_late_adopt(self->shape, reached);

	self->page.end = fp_upsert_read_find_end(&self->exec);
	if (self->page.end != NULL)
		fp_upsert_late_advance(&self->exec, reached, self->page.end,
							   self->lookback);
	self->next = fp_upsert_late_text(self->shape, reached);
}

/*
 * The last row that is not to be read, from the place that the run begins at.
 */
static void
find_first(UpsertRun *self)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_BEFORE, true, 0};

	while (key.nequal < self->exec.norder && self->from[key.nequal] != NULL)
		key.nequal++;
	if (key.nequal == self->exec.norder)
		self->page.last = fp_upsert_bound_copy(self->from, self->exec.norder,
											   self->last_context);
	else
		self->page.last = fp_upsert_exec_find(&self->exec, &key, self->from, NULL);
}

/*
 * In the transaction that ends the run: its position is the task's, unless
 * that has been set meanwhile, or moved by a later run: a run that is done
 * again reads its own rows again and moves nothing.
 */
static void
record_end(UpsertRun *self)
{
	const FpRunContext *run = self->exec.run;

	if (self->is_incremental)
		(void) fp_position_store_advance(run, self->start, self->next,
										 fp_clock_real());
}

/*
 * The lock that keeps runs of one task apart: for the attempt, till the
 * session is given back as new (fp_user_sql_reset_session), and for each
 * transaction, should a trigger of the user's have called
 * pg_advisory_unlock_all().  Nobody else uses its fourth field so.
 */
static void
lock_task(UpsertRun *self, bool is_session)
{
	const FpRunContext *run = self->exec.run;
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
						 hash_bytes((const unsigned char *) run->dag_id,
									strlen(run->dag_id)),
						 hash_bytes((const unsigned char *) run->task_id,
									strlen(run->task_id)), 3);
	(void) LockAcquire(&tag, ExclusiveLock, is_session, false);
}

/*
 * All of mode replace is one page.
 */
static void
run_replace(UpsertRun *self)
{
	FpPageRecord page = {1};

	begin_transaction(self, self->page_context);
	page.rows_written = fp_upsert_replace(&self->exec, self->shape);
	record(self, &page, true /* is_last */ );
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

/*
 * There is nothing to read any more; the caller must hear of the end all the
 * same.
 */
static void
run_nothing(UpsertRun *self)
{
	FpPageRecord nothing = {0};

	begin_transaction(self, self->page_context);
	if (self->is_exclusive)
		lock_task(self, false /* is_session */ );
	if (self->is_spilled)
		fp_upsert_read_end(&self->exec);
	record(self, &nothing, true /* is_last */ );
	record_end(self);
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

/*
 * One page, one transaction.  Returns true after the last one of those that
 * are read in one order.
 */
static bool
run_page(UpsertRun *self)
{
	bool		is_end;

	CHECK_FOR_INTERRUPTS();
	self->page.number = self->npages + 1;
	begin_page(self);
	is_end = fp_upsert_page_find(&self->page);
	write_page(self, is_end && !self->has_to_delete);

	fp_upsert_page_next(&self->page, self->last_context);
	MemoryContextSwitchTo(self->context);
	MemoryContextReset(self->page_context);

	return is_end;
}

/*
 * Pages that others may take, too (upsert_claim.c).  Who helps stops where no
 * page is left to be taken; then we wait for the last ones, and take over what
 * others have not done.
 */
static void
share_pages(UpsertRun *self)
{
	FpPageRecord beginning = {0};
	FpUpsertClaimed claimed;

	begin_transaction(self, self->page_context);
	beginning.position = make_position(self, self->page.last);
	beginning.rows_expected = (int64) self->rows_expected;
	record(self, &beginning, false /* is_last */ );
	fp_spi_commit_transaction();

	fp_help_ask(self->nworkers - 1);
	while ((claimed = run_shared_page(self)) != FP_UPSERT_CLAIM_END)
	{
		if (claimed == FP_UPSERT_CLAIM_CLOSED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("attempt %d of task \"%s\" in run " INT64_FORMAT " is no longer open",
							self->exec.run->try_number,
							self->exec.run->task_id,
							self->exec.run->run_id)));
		if (claimed == FP_UPSERT_CLAIM_WAIT)
			fp_process_wait(WAIT_MS);
	}
	fp_help_end();

	self->is_shared = false;
	if (!self->has_to_delete)
		run_nothing(self);
}

/*
 * Take a page, and do it.
 */
static FpUpsertClaimed
run_shared_page(UpsertRun *self)
{
	FpUpsertClaimed claimed;
	FpPageRecord taken = {0};

	CHECK_FOR_INTERRUPTS();
	begin_transaction(self, self->page_context);
	claimed = fp_upsert_claim_take(&self->page, &taken.position);
	if (claimed == FP_UPSERT_CLAIM_PAGE)
		record(self, &taken, false /* is_last */ );
	fp_spi_commit_transaction();

	if (claimed == FP_UPSERT_CLAIM_PAGE)
	{
		begin_page(self);
		write_page(self, false /* is_last */ );
		fp_upsert_page_next(&self->page, self->last_context);
	}
	MemoryContextSwitchTo(self->context);
	MemoryContextReset(self->page_context);
	return claimed;
}

/*
 * Those who help are kept apart from other runs by their leader's lock.
 */
static void
begin_page(UpsertRun *self)
{
	begin_transaction(self, self->page_context);
	if (self->is_exclusive)
		lock_task(self, false /* is_session */ );
}

/*
 * Write the page under way in the transaction that is open, and commit it; or
 * in another one, where that fails with an error that need not be the end.
 */
static void
write_page(UpsertRun *self, bool is_last)
{
	PageWay		way = PAGE_PLAINLY;
	ErrorData  *error = try_page(self, &way, is_last);

	for (int n = 1; error != NULL && n < MAX_TRIES; n++)
	{
		/* or the two that have met would meet again */
		if (is_conflict(error->sqlerrcode))
			fp_process_wait((long) (pg_prng_double(&pg_global_prng_state) *
									n * CONFLICT_WAIT_MS) + 1);
		begin_page(self);
		error = try_page(self, &way, is_last);
	}
	if (error != NULL)
		ReThrowError(error);
}

/*
 * How a page is to be written that has failed; false: not at all.
 */
static bool
find_way(const UpsertRun *self, int sqlerrcode, PageWay *way)
{
	if (is_conflict(sqlerrcode))
		return true;
	if (*way == PAGE_PLAINLY && sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
		*way = PAGE_AGAIN;
	else if (*way != PAGE_IN_PARTS &&
			 fp_upsert_bad_is_row_error(sqlerrcode) &&
			 fp_upsert_bad_can_find(self->shape))
		*way = PAGE_IN_PARTS;
	else
		return false;
	return true;
}

/*
 * Another transaction was first; it need not be there the next time.
 */
static bool
is_conflict(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/*
 * Returns the error, where another way is worth a try, which is *way then,
 * with the transaction rolled back; NULL: it is committed.
 */
static ErrorData *
try_page(UpsertRun *self, PageWay *way, bool is_last)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		FpPageRecord page = {1};

		if (*way == PAGE_IN_PARTS)
			page.rows_written = fp_upsert_bad_write(&self->page,
													self->keeps_bad_rows,
													&page.bad_rows);
		else
			page.rows_written = fp_upsert_page_write(&self->page,
													 *way == PAGE_AGAIN);
		end_page(self, &page, is_last);
	}
	PG_CATCH();
	{
		if (!find_way(self, geterrcode(), way))
			PG_RE_THROW();
		MemoryContextSwitchTo(self->page_context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();

	if (error != NULL)
		AbortOutOfAnyTransaction();
	return error;
}

/*
 * Record the page in its transaction, and commit that.
 */
static void
end_page(UpsertRun *self, FpPageRecord *page, bool is_last)
{
	page->rows_read = self->shape->page_size;
	page->rows_expected = (int64) self->rows_expected;
	if (self->is_shared)
		page->position = fp_upsert_claim_done(&self->page);
	else
		page->position = make_position(self, self->page.upper);
	if (is_last && self->is_spilled)
		fp_upsert_read_end(&self->exec);
	record(self, page, is_last);
	if (is_last)
		record_end(self);
	fp_spi_commit_transaction();
	self->npages++;
}

static void
record(UpsertRun *self, const FpPageRecord *page, bool is_last)
{
	self->page_done(page, is_last, self->arg);
}

/*
 * The position as jsonb text, in the current context: the last row that was
 * read and the last row to be read; "deleting" where these are the target's.
 * With an incremental upsert also where it began and what it will have
 * reached: a run that is cleared loses "last" alone, and so reads the same
 * rows again.
 */
static char *
make_position(UpsertRun *self, char **last)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "{%s\"last\": ",
					 self->shape->is_deleting ? "\"deleting\": true, " : "");
	fp_upsert_bound_append(&buf, last, self->exec.norder);
	appendStringInfoString(&buf, ", \"end\": ");
	fp_upsert_bound_append(&buf, self->page.end, self->exec.norder);
	if (self->is_incremental)
	{
		appendStringInfoString(&buf, ", \"order\": ");
		escape_json(&buf, fp_upsert_shape_names(self->shape->order));
		appendStringInfo(&buf, ", \"start\": %s, \"from\": %s, \"next\": %s",
						 self->start == NULL ? "null" : self->start,
						 self->from == NULL ? "null" :
						 fp_upsert_late_place_text(self->shape, self->from),
						 self->next);
	}
	if (self->has_open && !self->is_shared)
		appendStringInfoString(&buf, ", \"open\": []");
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

/*
 * Take up an earlier attempt where it was.
 */
static void
parse_position(UpsertRun *self, const char *position)
{
	Jsonb	   *jsonb;
	JsonbValue *value;

	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											   CStringGetDatum(position)));
	self->was_deleting = fp_jsonb_get(jsonb, "deleting") != NULL;
	self->has_open = fp_upsert_claim_is_open(jsonb);
	if (self->was_deleting && !self->shape->is_deleting)
		return;
	if (self->is_incremental)
	{
		/* a cleared run may have a new definition, and begins like a new one */
		if (fp_jsonb_get(jsonb, "last") == NULL &&
			strcmp(fp_jsonb_string(fp_jsonb_get(jsonb, "order")),
				   fp_upsert_shape_names(self->shape->order)) != 0)
			return;
		self->next = fp_jsonb_text(fp_jsonb_get(jsonb, "next"));
		if (fp_jsonb_get(jsonb, "start")->type != jbvNull)
			self->start = fp_jsonb_text(fp_jsonb_get(jsonb, "start"));
		value = fp_jsonb_get(jsonb, "from");
		if (value->type != jbvNull)
			self->from = fp_upsert_late_place_parse(self->shape,
													JsonbValueToJsonb(value));
	}
	self->page.last = fp_upsert_bound_parse(&jsonb->root, "last",
											self->exec.norder);
	self->page.end = fp_upsert_bound_parse(&jsonb->root, "end",
										   self->exec.norder);
}

/*
 * Begin a transaction, with context current within it.
 */
static void
begin_transaction(UpsertRun *self, MemoryContext context)
{
	char	   *activity;

	MemoryContextSwitchTo(self->page_context);
	/* in a worker, debug_query_string names the task */
	activity = psprintf("%s", debug_query_string != NULL
						? debug_query_string : "upsert");
	if (self->shape != NULL)
		activity = psprintf("%s into %s, page " INT64_FORMAT, activity,
							self->shape->target_name,
							self->page.number);

	MemoryContextSwitchTo(self->context);
	fp_spi_begin_transaction(activity);
	/* of a row that workers write in turns each must see the last version */
	if (self->is_shared)
		XactIsoLevel = XACT_READ_COMMITTED;
	MemoryContextSwitchTo(context);
}

/*
 * Error context: which page, and which rows it holds.
 */
static void
upsert_error_context(void *arg)
{
	UpsertRun  *self = arg;

	if (self->shape == NULL)
		return;
	if (self->page.upper == NULL)
	{
		errcontext("upsert into \"%s\" after page " INT64_FORMAT,
				   self->shape->target_name, self->npages);
		return;
	}

	errcontext("page " INT64_FORMAT " of upsert into \"%s\": %s",
			   self->page.number, self->shape->target_name,
			   fp_upsert_page_text(&self->page));
}
