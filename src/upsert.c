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
 *	  upsert_read.c		sources that no index can page
 *	  upsert_replace.c	mode replace, which has one page
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "spi_util.h"
#include "upsert.h"
#include "upsert_exec.h"
#include "upsert_read.h"
#include "upsert_replace.h"
#include "upsert_shape.h"
#include "upsert_sql.h"

/* One call of fp_upsert_run. */
typedef struct UpsertRun
{
	FpUpsertShape *shape;		/* NULL: not looked up yet */
	FpUpsertExec exec;

	MemoryContext context;		/* of all that is kept over pages */
	MemoryContext page_context; /* reset after each page */
	MemoryContext last_context; /* of last; reset when it moves */

	/* bounds, see upsert_exec.h */
	char	  **last;			/* the row that the last page ended with; NULL:
								 * there was none */
	char	  **end;			/* the last row to be read; NULL: there is
								 * nothing to read */
	char	  **upper;			/* the row that the page under way ends with;
								 * NULL: not known yet */

	int			nequal;			/* columns on which the last page's bounds
								 * agreed */
	bool		is_spilled;
	bool		has_written;	/* the last page wrote rows */
	FpUpsertProgress progress;
} UpsertRun;

static void prepare_run(UpsertRun *self, const FpUpsertDef *def,
						const FpRunContext *run);
static void prepare_pages(UpsertRun *self);
static void run_nothing(UpsertRun *self, FpUpsertPageDone page_done,
						void *arg);
static void run_replace(UpsertRun *self, FpUpsertPageDone page_done,
						void *arg);
static bool run_page(UpsertRun *self, FpUpsertPageDone page_done, void *arg);
static bool find_upper(UpsertRun *self);
static uint64 write_page(UpsertRun *self);
static uint64 write_rows(UpsertRun *self, FpUpsertStatement statement);
static bool differs_from_target(UpsertRun *self);
static FpUpsertPlanning write_planning(UpsertRun *self);
static FpUpsertSqlKey page_key(UpsertRun *self, FpUpsertStatement statement);
static void read_count(const FpRow *row, void *arg);
static char **copy_bound(UpsertRun *self, char **bound,
						 MemoryContext context);
static int	count_equal(UpsertRun *self, char **a, char **b);
static char *make_position(UpsertRun *self, char **last);
static void append_bound(StringInfo buf, UpsertRun *self, char **bound);
static void parse_position(UpsertRun *self, const char *position);
static char **parse_bound(UpsertRun *self, Jsonb *position,
						  const char *name);
static void begin_transaction(UpsertRun *self, MemoryContext context);
static void upsert_error_context(void *arg);


void
fp_upsert_run(const FpUpsertDef *def, const FpRunContext *run,
			  const FpUpsertProgress *start, FpUpsertPageDone page_done,
			  void *arg)
{
	MemoryContext caller_context = CurrentMemoryContext;
	UpsertRun	self = {0};
	ErrorContextCallback callback;

	Assert(!IsTransactionState());

	self.progress = *start;
	self.context = AllocSetContextCreate(caller_context, "flowpg upsert",
										 ALLOCSET_DEFAULT_SIZES);
	self.page_context = AllocSetContextCreate(self.context,
											  "flowpg upsert page",
											  ALLOCSET_DEFAULT_SIZES);
	self.last_context = AllocSetContextCreate(self.context,
											  "flowpg upsert position",
											  ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(self.context);

	callback.callback = upsert_error_context;
	callback.arg = &self;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	prepare_run(&self, def, run);
	if (def->mode == FP_UPSERT_REPLACE)
		run_replace(&self, page_done, arg);
	else if (self.end == NULL)
		run_nothing(&self, page_done, arg);
	else
	{
		while (!run_page(&self, page_done, arg))
			;
	}

	error_context_stack = callback.previous;
	fp_upsert_exec_free(&self.exec);
	MemoryContextSwitchTo(caller_context);
	MemoryContextDelete(self.context);
}

/*
 * Look everything up, choose how to read, and fix the end.  A transaction of
 * its own, which leaves nothing but, maybe, a temporary table.
 */
static void
prepare_run(UpsertRun *self, const FpUpsertDef *def, const FpRunContext *run)
{
	begin_transaction(self, self->context);
	PushActiveSnapshot(GetTransactionSnapshot());

	self->shape = fp_upsert_shape_make(def);
	fp_upsert_exec_init(&self->exec, self->shape, run);
	if (def->mode != FP_UPSERT_REPLACE)
		prepare_pages(self);

	PopActiveSnapshot();
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

static void
prepare_pages(UpsertRun *self)
{
	if (self->progress.position != NULL)
		parse_position(self, self->progress.position);

	self->is_spilled = fp_upsert_read_begin(&self->exec, self->shape,
											self->last);
	if (self->end == NULL)
	{
		FpUpsertSqlKey key = {FP_UPSERT_SQL_END, false, 0};

		self->end = fp_upsert_exec_find(&self->exec, &key, NULL, NULL);
	}
}

/*
 * All of mode replace is one page.
 */
static void
run_replace(UpsertRun *self, FpUpsertPageDone page_done, void *arg)
{
	begin_transaction(self, self->page_context);
	self->progress.rows_written += fp_upsert_replace(&self->exec, self->shape);
	self->progress.pages++;
	page_done(&self->progress, true /* is_last */ , arg);
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

/*
 * There is nothing to read; the caller must hear of the end all the same.
 */
static void
run_nothing(UpsertRun *self, FpUpsertPageDone page_done, void *arg)
{
	begin_transaction(self, self->page_context);
	if (self->is_spilled)
		fp_upsert_read_end(&self->exec);
	page_done(&self->progress, true /* is_last */ , arg);
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

/*
 * One page, one transaction.  Returns true after the last.
 */
static bool
run_page(UpsertRun *self, FpUpsertPageDone page_done, void *arg)
{
	bool		is_last;
	uint64		rows;

	CHECK_FOR_INTERRUPTS();
	begin_transaction(self, self->page_context);

	is_last = find_upper(self);
	rows = write_page(self);

	self->has_written = rows > 0;
	self->progress.pages++;
	self->progress.rows_written += rows;
	self->progress.position = make_position(self, self->upper);
	if (is_last && self->is_spilled)
		fp_upsert_read_end(&self->exec);
	page_done(&self->progress, is_last, arg);

	fp_spi_commit_transaction();

	self->nequal = page_key(self, FP_UPSERT_SQL_BOUND).nequal;
	MemoryContextReset(self->last_context);
	self->last = copy_bound(self, self->upper, self->last_context);
	self->upper = NULL;
	self->progress.position = NULL;
	MemoryContextSwitchTo(self->context);
	MemoryContextReset(self->page_context);

	return is_last;
}

/*
 * Set upper, in the current context; true: it is the end.
 *
 * A key often begins with a code that few values share.  Within one of them
 * the page is a range of the other columns; said so, it costs less to find,
 * and where rows are not compared as rows (another server) it is not looked
 * for from the code's first row.  So it is first looked for among the rows
 * that agree in as many columns as those of the last page did.
 */
static bool
find_upper(UpsertRun *self)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_BOUND, self->last != NULL,
	self->nequal};

	self->upper = fp_upsert_exec_find(&self->exec, &key, self->last,
									  self->end);
	if (self->upper == NULL && key.nequal > 0)
	{
		key.nequal = 0;
		self->upper = fp_upsert_exec_find(&self->exec, &key, self->last,
										  self->end);
	}
	if (self->upper != NULL)
		return count_equal(self, self->upper, self->end) == self->exec.norder;

	self->upper = copy_bound(self, self->end, CurrentMemoryContext);
	return true;
}

/*
 * Write the page's rows and return how many were written.
 *
 * A page whose predecessor needed no writing is compared first, which costs
 * less than to find by writing that there is nothing to write.
 *
 * Its plain INSERT may meet a key that another transaction has just put
 * there.  That is rare, so it is not guarded by a subtransaction: the page's
 * transaction is given up, and the page is written again with ON CONFLICT,
 * or, where that cannot be, in the same way, which now sees the row.
 */
static uint64
write_page(UpsertRun *self)
{
	MemoryContext context = CurrentMemoryContext;
	FpUpsertStatement again;
	volatile uint64 rows = 0;
	volatile bool has_collided = false;

	if (self->shape->is_citus)
		return write_rows(self, FP_UPSERT_SQL_WRITE_CONFLICT);
	if (!self->has_written && !differs_from_target(self))
		return 0;

	PG_TRY();
	{
		rows = write_rows(self, FP_UPSERT_SQL_WRITE);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_UNIQUE_VIOLATION)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		has_collided = true;
	}
	PG_END_TRY();

	if (!has_collided)
		return rows;

	AbortCurrentTransaction();
	begin_transaction(self, context);
	again = self->shape->target_relkind == RELKIND_FOREIGN_TABLE ?
		FP_UPSERT_SQL_WRITE : FP_UPSERT_SQL_WRITE_CONFLICT;
	return write_rows(self, again);
}

static uint64
write_rows(UpsertRun *self, FpUpsertStatement statement)
{
	FpUpsertSqlKey key = page_key(self, statement);
	int64		count = 0;
	uint64		processed;

	processed = fp_upsert_exec_run(&self->exec, &key, self->last, self->upper,
								   write_planning(self), read_count, &count);
	return fp_upsert_sql_returns_count(self->shape, statement) ?
		count : processed;
}

static bool
differs_from_target(UpsertRun *self)
{
	FpUpsertSqlKey key = page_key(self, FP_UPSERT_SQL_LOOK);

	return fp_upsert_exec_run(&self->exec, &key, self->last, self->upper,
							  write_planning(self), NULL, NULL) > 0;
}

static FpUpsertPlanning
write_planning(UpsertRun *self)
{
	if (self->shape->is_citus)
		return FP_UPSERT_PLAN_FREELY;
	if (self->shape->target_relkind == RELKIND_FOREIGN_TABLE)
		return FP_UPSERT_PLAN_FETCH;
	if (!self->shape->is_key_order)
		return FP_UPSERT_PLAN_LOOKUP;
	return self->exec.norder == 1 ? FP_UPSERT_PLAN_HASH : FP_UPSERT_PLAN_MERGE;
}

/*
 * The form of a statement that fits the page under way.
 */
static FpUpsertSqlKey
page_key(UpsertRun *self, FpUpsertStatement statement)
{
	FpUpsertSqlKey key = {statement, self->last != NULL, 0};

	if (self->last != NULL)
		key.nequal = Min(count_equal(self, self->last, self->upper),
						 self->exec.norder - 1);
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

static char **
copy_bound(UpsertRun *self, char **bound, MemoryContext context)
{
	int			norder = self->exec.norder;
	char	  **copy = MemoryContextAlloc(context, norder * sizeof(char *));

	for (int i = 0; i < norder; i++)
		copy[i] = MemoryContextStrdup(context, bound[i]);
	return copy;
}

/*
 * On how many of their first columns two bounds agree.
 */
static int
count_equal(UpsertRun *self, char **a, char **b)
{
	int			count = 0;

	while (count < self->exec.norder && strcmp(a[count], b[count]) == 0)
		count++;
	return count;
}

/*
 * The position as jsonb text, in the current context: the last row that was
 * read and the last row to be read.
 */
static char *
make_position(UpsertRun *self, char **last)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "{\"last\": ");
	append_bound(&buf, self, last);
	appendStringInfoString(&buf, ", \"end\": ");
	append_bound(&buf, self, self->end);
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

static void
append_bound(StringInfo buf, UpsertRun *self, char **bound)
{
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < self->exec.norder; i++)
	{
		if (i > 0)
			appendStringInfoString(buf, ", ");
		escape_json(buf, bound[i]);
	}
	appendStringInfoChar(buf, ']');
}

/*
 * Take up an earlier attempt where it was.
 */
static void
parse_position(UpsertRun *self, const char *position)
{
	Jsonb	   *jsonb;

	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											   CStringGetDatum(position)));
	self->last = parse_bound(self, jsonb, "last");
	self->end = parse_bound(self, jsonb, "end");
}

static char **
parse_bound(UpsertRun *self, Jsonb *position, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *array;
	char	  **bound = palloc(self->exec.norder * sizeof(char *));

	array = getKeyJsonValueFromContainer(&position->root, name, strlen(name),
										 &buffer);
	if (array == NULL || array->type != jbvBinary ||
		!JsonContainerIsArray(array->val.binary.data) ||
		JsonContainerSize(array->val.binary.data) != self->exec.norder)
		elog(ERROR, "\"%s\" in the position of an upsert is not a row of %d columns",
			 name, self->exec.norder);

	for (int i = 0; i < self->exec.norder; i++)
	{
		JsonbValue *element;

		element = getIthJsonbValueFromContainer(array->val.binary.data, i);
		if (element->type != jbvString)
			elog(ERROR, "\"%s\" in the position of an upsert has a column that is not text",
				 name);
		bound[i] = pnstrdup(element->val.string.val, element->val.string.len);
	}
	return bound;
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
							self->progress.pages + 1);

	MemoryContextSwitchTo(self->context);
	fp_spi_begin_transaction(activity);
	MemoryContextSwitchTo(context);
}

/*
 * Error context: which page, and which rows it holds.
 */
static void
upsert_error_context(void *arg)
{
	UpsertRun  *self = arg;
	StringInfoData buf;

	if (self->shape == NULL)
		return;
	if (self->upper == NULL)
	{
		errcontext("upsert into \"%s\" after page " INT64_FORMAT,
				   self->shape->target_name, self->progress.pages);
		return;
	}

	initStringInfo(&buf);
	if (self->last != NULL)
	{
		appendStringInfoString(&buf, "> (");
		for (int i = 0; i < self->exec.norder; i++)
			appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", self->last[i]);
		appendStringInfoString(&buf, ") ");
	}
	appendStringInfoString(&buf, "to (");
	for (int i = 0; i < self->exec.norder; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", self->upper[i]);
	appendStringInfoChar(&buf, ')');

	errcontext("page " INT64_FORMAT " of upsert into \"%s\": (%s) %s",
			   self->progress.pages + 1, self->shape->target_name,
			   fp_upsert_shape_names(self->shape->order), buf.data);
}
