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
 * the position, then all is committed.  Where the pages end is fixed when the
 * first of them begins and kept in the position, so that neither a busy source
 * nor a retry moves it.  Rows that come in ahead of the position are read, rows
 * that come in behind it belong to the next run; no row's place depends on how
 * many others there are.
 *
 * A source that no index can read in page order would be read from end to end
 * for each page.  It is read once instead, into a temporary table with an
 * index, and paged from there.  A retry reads it again, from the position on.
 *
 * Plans.  Left to itself the planner reads whole tables: a page is a range
 * whose size it cannot tell (of a comparison of rows it looks at the first
 * column only), and a target that was empty at first has no statistics.  So
 * each statement is planned for the very page, with its bounds known, and with
 * settings that leave one shape of plan: ranges by the index of the whole page
 * order, joins that read each side once or look up row by row.  The settings
 * hold while the statement runs, for triggers and functions, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "spi_util.h"
#include "upsert.h"
#include "upsert_shape.h"
#include "upsert_sql.h"
#include "user_sql.h"

/* where a source that no index can page is kept meanwhile */
#define SPILL_NAME "flowpg_upsert_source"
#define SPILL_TABLE "pg_temp." SPILL_NAME

/* Names and values of settings, ended by NULL. */
typedef const char *const Settings[][2];

/* A statement that has been prepared. */
typedef struct PreparedStatement
{
	FpUpsertSqlKey key;
	FpPlan	   *plan;
} PreparedStatement;

/*
 * One call of fp_upsert_run.  Bounds are rows of the page order as text, one
 * string a column.
 */
typedef struct UpsertRun
{
	const FpRunContext *run;
	FpUpsertShape *shape;
	int			norder;			/* columns in the page order */

	MemoryContext context;		/* of all that is kept over pages */
	MemoryContext page_context; /* reset after each page */
	MemoryContext last_context; /* of last; reset when it moves */

	FpUserSqlSetup setup;		/* types of the bounds as parameters */
	List	   *statements;		/* PreparedStatement * */

	char	  **last;			/* the row that the last page ended with; NULL:
								 * there was none */
	char	  **end;			/* the last row to be read; NULL: the source is
								 * empty */
	char	  **upper;			/* the row that the page under way ends with;
								 * NULL: not known yet */
	int			nequal;			/* columns on which the last page's bounds
								 * agreed */
	bool		is_spilled;
	bool		has_written;	/* the last page wrote rows */
	FpUpsertProgress progress;
} UpsertRun;

/* What a plan is made of that reads a source in page order. */
typedef struct OrderedPlan
{
	int			nbounds;		/* parameters that are bounds of the page */
	bool		is_joined;		/* it looks rows up in other tables */
	bool		is_foreign;		/* it reads from another server */
} OrderedPlan;

/* The first row of a result, copied. */
typedef struct FirstRow
{
	bool		is_found;
	int			ncolumns;
	Datum	   *values;
} FirstRow;

/* Only an index of the page order is left to read by, and no sorting. */
static Settings read_settings = {
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_incremental_sort", "off"},
	{"enable_hashagg", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_material", "off"},
	{"enable_nestloop", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"jit", "off"},
	{NULL, NULL}
};

/* Two ranges in index order are joined. */
static Settings range_settings = {
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_incremental_sort", "off"},
	{"enable_nestloop", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"jit", "off"},
	{NULL, NULL}
};

/* The same where only one index can serve the range. */
static Settings range_hash_settings = {
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_incremental_sort", "off"},
	{"enable_nestloop", "off"},
	{"enable_hashjoin", "on"},
	{"enable_mergejoin", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"jit", "off"},
	{NULL, NULL}
};

/* Each row of a page is looked up. */
static Settings lookup_settings = {
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_incremental_sort", "off"},
	{"enable_nestloop", "on"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"jit", "off"},
	{NULL, NULL}
};

/* Nothing is known of what another server can do. */
static Settings foreign_settings = {
	{"jit", "off"},
	{NULL, NULL}
};

/* Values as text that is read back as the very same value. */
static Settings text_settings = {
	{"datestyle", "ISO, MDY"},
	{"intervalstyle", "postgres"},
	{"extra_float_digits", "3"},
	{"bytea_output", "hex"},
	{NULL, NULL}
};

static void prepare_run(UpsertRun *self, const FpUpsertDef *def,
						const FpUpsertProgress *start);
static void choose_reading(UpsertRun *self);
static bool is_read_in_order(UpsertRun *self, OrderedPlan *ordered);
static bool is_ordered_plan(Plan *plan, OrderedPlan *ordered);
static bool is_ordered_list(List *plans, OrderedPlan *ordered);
static bool is_lookup_plan(Plan *plan);
static bool uses_bound(Node *node, void *context);
static void spill_source(UpsertRun *self);
static void drop_spilled(UpsertRun *self);
static void refuse_nulls(UpsertRun *self);
static void run_nothing(UpsertRun *self, FpUpsertPageDone page_done,
						void *arg);
static bool run_page(UpsertRun *self, FpUpsertPageDone page_done, void *arg);
static bool find_upper(UpsertRun *self);
static char **find_bound(UpsertRun *self, int nequal);
static uint64 write_page(UpsertRun *self);
static uint64 write_rows(UpsertRun *self, FpUpsertStatement statement);
static bool differs_from_target(UpsertRun *self);
static const char *const (*write_settings(UpsertRun *self))[2];
static FpPlan *get_plan(UpsertRun *self, const FpUpsertSqlKey *key);
static void run_once(UpsertRun *self, const char *sql, bool has_bounds);
static uint64 execute(UpsertRun *self, FpPlan *plan, bool has_bounds,
					  char **upper, const char *const (*settings)[2],
					  FpRowCallback callback, void *arg);
static ParamListInfo make_params(UpsertRun *self, char **lower, char **upper);
static void set_bound(UpsertRun *self, ParamListInfo params, int first,
					  char **bound);
static void keep_first_row(const FpRow *row, void *arg);
static void read_count(const FpRow *row, void *arg);
static char **row_to_text(UpsertRun *self, const FirstRow *row);
static char **copy_bound(UpsertRun *self, char **bound,
						 MemoryContext context);
static int	count_equal(UpsertRun *self, char **a, char **b);
static int	begin_settings(const char *const (*settings)[2]);
static void end_settings(int nest_level);
static char *make_position(UpsertRun *self, char **last);
static void parse_position(UpsertRun *self, const char *position);
static char **parse_bound(UpsertRun *self, Jsonb *position,
						  const char *name);
static void append_bound(StringInfo buf, UpsertRun *self, char **bound);
static void upsert_error_context(void *arg);


void
fp_upsert_run(const FpUpsertDef *def, const FpRunContext *run,
			  const FpUpsertProgress *start, FpUpsertPageDone page_done,
			  void *arg)
{
	MemoryContext caller_context = CurrentMemoryContext;
	UpsertRun	self = {0};
	ErrorContextCallback callback;
	ListCell   *lc;

	Assert(!IsTransactionState());

	self.run = run;
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

	prepare_run(&self, def, start);

	callback.callback = upsert_error_context;
	callback.arg = &self;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	if (self.end == NULL)
		run_nothing(&self, page_done, arg);
	else
	{
		while (!run_page(&self, page_done, arg))
			;
	}

	error_context_stack = callback.previous;

	foreach(lc, self.statements)
		fp_spi_free_user(((PreparedStatement *) lfirst(lc))->plan);
	MemoryContextSwitchTo(caller_context);
	MemoryContextDelete(self.context);
}

/*
 * Look everything up, choose how to read, read the source once if need be,
 * and fix the end.  A transaction of its own, of which only the temporary
 * table stays.
 */
static void
prepare_run(UpsertRun *self, const FpUpsertDef *def,
			const FpUpsertProgress *start)
{
	Oid		   *types;
	ListCell   *lc;

	fp_spi_begin_transaction(psprintf("upsert into %s: prepare", def->target));
	MemoryContextSwitchTo(self->context);
	PushActiveSnapshot(GetTransactionSnapshot());

	self->shape = fp_upsert_shape_make(def);
	self->norder = list_length(self->shape->order);
	types = palloc(2 * self->norder * sizeof(Oid));
	foreach(lc, self->shape->order)
	{
		FpUpsertColumn *column = lfirst(lc);
		int			i = foreach_current_index(lc);

		types[i] = types[self->norder + i] = column->source_type;
	}
	self->setup.nvalues = 2 * self->norder;
	self->setup.types = types;

	if (start->position != NULL)
		parse_position(self, start->position);

	choose_reading(self);
	refuse_nulls(self);
	if (self->end == NULL)
	{
		FpUpsertSqlKey key = {FP_UPSERT_SQL_END, false, 0};
		FirstRow	row = {false, self->norder, NULL};

		(void) execute(self, get_plan(self, &key), false, NULL,
					   read_settings, keep_first_row, &row);
		if (row.is_found)
			self->end = row_to_text(self, &row);
	}

	PopActiveSnapshot();
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(self->context);
}

/*
 * Read the source by pages where an index gives its rows in page order, else
 * spill it.
 */
static void
choose_reading(UpsertRun *self)
{
	FpUpsertShape *shape = self->shape;
	OrderedPlan ordered;
	bool		is_in_order = is_read_in_order(self, &ordered);

	/* a wrapper behind a view may take the other form of the bounds */
	if (!is_in_order && shape->is_row_compared && ordered.is_foreign)
	{
		shape->is_row_compared = false;
		is_in_order = is_read_in_order(self, &ordered);
	}

	/*
	 * What is slow to read is read once a page and kept; and joins within the
	 * source need lookups.
	 */
	if (ordered.is_joined || ordered.is_foreign)
		shape->is_key_order = false;

	if (!is_in_order)
		spill_source(self);
}

/*
 * Plan the search for a page's bound and see whether its cost depends on the
 * page alone.  SQL with volatile functions is not to be run page by page: it
 * would give other rows each time.
 */
static bool
is_read_in_order(UpsertRun *self, OrderedPlan *ordered)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_BOUND, true, 0};
	char	   *sql = fp_upsert_sql(self->shape, &key);
	List	   *queries;
	Query	   *query;
	PlannedStmt *statement;
	int			nest_level;

	memset(ordered, 0, sizeof(OrderedPlan));
	ordered->nbounds = self->setup.nvalues;

	queries = pg_analyze_and_rewrite_withcb(linitial_node(RawStmt, pg_parse_query(sql)),
											sql, fp_user_sql_parser_setup,
											&self->setup, NULL);
	query = linitial_node(Query, queries);
	if (contain_volatile_functions((Node *) query))
		return false;

	nest_level = begin_settings(read_settings);
	statement = pg_plan_query(query, sql, 0, NULL);
	end_settings(nest_level);

	/* a subplan may be run for each page from end to end */
	if (statement->subplans != NIL)
		return false;

	return is_ordered_plan(statement->planTree, ordered);
}

/*
 * Whether a plan reads only the rows of a page, in order.  Not so where it
 * sorts or hashes, or where a bound is a filter on rows that it has read.
 */
static bool
is_ordered_plan(Plan *plan, OrderedPlan *ordered)
{
	if (plan == NULL)
		return true;
	if (uses_bound((Node *) plan->qual, ordered))
	{
		if (IsA(plan, ForeignScan))
			ordered->is_foreign = true;
		return false;
	}

	switch (nodeTag(plan))
	{
		case T_Limit:
		case T_Result:
		case T_Unique:
		case T_Group:
			return is_ordered_plan(plan->lefttree, ordered);

		case T_Agg:
			return ((Agg *) plan)->aggstrategy == AGG_SORTED &&
				is_ordered_plan(plan->lefttree, ordered);

		case T_SubqueryScan:
			return is_ordered_plan(((SubqueryScan *) plan)->subplan, ordered);

		case T_Append:
			return is_ordered_list(((Append *) plan)->appendplans, ordered);

		case T_MergeAppend:
			return is_ordered_list(((MergeAppend *) plan)->mergeplans,
								   ordered);

		case T_IndexScan:
			return uses_bound((Node *) ((IndexScan *) plan)->indexqualorig,
							  ordered);

		case T_IndexOnlyScan:
			return uses_bound((Node *) ((IndexOnlyScan *) plan)->indexqual,
							  ordered);

		case T_ForeignScan:
			ordered->is_foreign = true;
			return true;

		case T_NestLoop:
			ordered->is_joined = true;
			return !uses_bound((Node *) ((NestLoop *) plan)->join.joinqual,
							   ordered) &&
				is_ordered_plan(plan->lefttree, ordered) &&
				is_lookup_plan(plan->righttree);

		default:
			/* reached through another node's scan of a foreign table */
			if (plan->lefttree != NULL && IsA(plan->lefttree, ForeignScan))
				ordered->is_foreign = true;
			return false;
	}
}

static bool
is_ordered_list(List *plans, OrderedPlan *ordered)
{
	ListCell   *lc;

	foreach(lc, plans)
	{
		if (!is_ordered_plan(lfirst(lc), ordered))
			return false;
	}
	return true;
}

/*
 * Whether the inner side of a join finds its rows by index.
 */
static bool
is_lookup_plan(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			return ((IndexScan *) plan)->indexqual != NIL;
		case T_IndexOnlyScan:
			return ((IndexOnlyScan *) plan)->indexqual != NIL;
		case T_Limit:
		case T_Result:
			return plan->lefttree != NULL && is_lookup_plan(plan->lefttree);
		case T_Memoize:
			return is_lookup_plan(plan->lefttree);
		case T_SubqueryScan:
			return is_lookup_plan(((SubqueryScan *) plan)->subplan);
		default:
			return false;
	}
}

/*
 * Walker: does an expression name a bound of the page?
 */
static bool
uses_bound(Node *node, void *context)
{
	OrderedPlan *ordered = context;

	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		return ((Param *) node)->paramid <= ordered->nbounds;
	return expression_tree_walker(node, uses_bound, context);
}

/*
 * Copy what is still to be read into a temporary table, in page order, and
 * give that an index on the page order.
 */
static void
spill_source(UpsertRun *self)
{
	FpUpsertShape *shape = self->shape;
	bool		has_lower = self->last != NULL && !shape->is_descending;

	drop_spilled(self);
	run_once(self, fp_upsert_sql_spill(shape, SPILL_TABLE, has_lower),
			 has_lower);
	CommandCounterIncrement();
	run_once(self, fp_upsert_sql_spill_index(shape, SPILL_TABLE), false);
	CommandCounterIncrement();

	fp_upsert_shape_set_spilled(shape, SPILL_TABLE);
	self->is_spilled = true;
}

/*
 * Drop the temporary table, if there is one: this run's, or what an attempt
 * that failed in the same session has left.
 */
static void
drop_spilled(UpsertRun *self)
{
	RangeVar   *table = makeRangeVar("pg_temp", SPILL_NAME, -1);

	if (OidIsValid(RangeVarGetRelid(table, NoLock, true /* missing_ok */ )))
		run_once(self, "DROP TABLE " SPILL_TABLE, false);
}

/*
 * A row with a null in the page order lies in no page.
 */
static void
refuse_nulls(UpsertRun *self)
{
	ListCell   *lc;

	foreach(lc, self->shape->order)
	{
		FpUpsertColumn *column = lfirst(lc);
		FpPlan	   *plan;
		FirstRow	row = {false, 0, NULL};

		if (column->is_not_null)
			continue;

		plan = fp_spi_prepare_user(fp_upsert_sql_find_null(self->shape, column),
								   fp_user_sql_parser_setup, &self->setup,
								   CURSOR_OPT_CUSTOM_PLAN);
		(void) execute(self, plan, false, NULL, foreign_settings,
					   keep_first_row, &row);
		fp_spi_free_user(plan);
		if (row.is_found)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" of the source of the upsert into \"%s\" contains a null value",
							column->name, self->shape->target_name),
					 errdetail("Pages are taken in the order of (%s); a row without a place in it would be lost.",
							   fp_upsert_shape_names(self->shape->order)),
					 errhint("Page by columns that are never null, or give a SELECT that leaves such rows out as source.")));
	}
}

/*
 * There is nothing to read; the caller must hear of the end all the same.
 */
static void
run_nothing(UpsertRun *self, FpUpsertPageDone page_done, void *arg)
{
	fp_spi_begin_transaction(psprintf("upsert into %s: no rows",
									  self->shape->target_name));
	MemoryContextSwitchTo(self->page_context);
	if (self->is_spilled)
		drop_spilled(self);
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
	fp_spi_begin_transaction(psprintf("upsert into %s: page " INT64_FORMAT,
									  self->shape->target_name,
									  self->progress.pages + 1));
	MemoryContextSwitchTo(self->page_context);

	is_last = find_upper(self);
	rows = write_page(self);

	self->has_written = rows > 0;
	self->progress.pages++;
	self->progress.rows_written += rows;
	self->progress.position = make_position(self, self->upper);
	if (is_last && self->is_spilled)
		drop_spilled(self);
	page_done(&self->progress, is_last, arg);

	fp_spi_commit_transaction();

	self->nequal = 0;
	if (self->last != NULL && !self->shape->is_row_compared)
		self->nequal = Min(count_equal(self, self->last, self->upper),
						   self->norder - 1);
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
 * Where rows are not compared as rows, an index can use the first column's
 * bound only, and a page in the midst of many rows with one value there would
 * be looked for from the first of them.  So it is first looked for among the
 * rows that agree in as many columns as those of the last page did.
 */
static bool
find_upper(UpsertRun *self)
{
	self->upper = NULL;
	if (self->nequal > 0)
		self->upper = find_bound(self, self->nequal);
	if (self->upper == NULL)
		self->upper = find_bound(self, 0);
	if (self->upper != NULL)
		return count_equal(self, self->upper, self->end) == self->norder;

	self->upper = copy_bound(self, self->end, CurrentMemoryContext);
	return true;
}

static char **
find_bound(UpsertRun *self, int nequal)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_BOUND, self->last != NULL, nequal};
	FirstRow	row = {false, self->norder, NULL};

	(void) execute(self, get_plan(self, &key), true, self->end,
				   read_settings, keep_first_row, &row);
	return row.is_found ? row_to_text(self, &row) : NULL;
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

	if (has_collided)
	{
		bool		is_foreign =
			self->shape->target_relkind == RELKIND_FOREIGN_TABLE;

		AbortCurrentTransaction();
		MemoryContextSwitchTo(self->context);
		fp_spi_begin_transaction(psprintf("upsert into %s: page " INT64_FORMAT " again",
										  self->shape->target_name,
										  self->progress.pages + 1));
		MemoryContextSwitchTo(context);
		rows = write_rows(self, is_foreign ? FP_UPSERT_SQL_WRITE :
						  FP_UPSERT_SQL_WRITE_CONFLICT);
	}

	return rows;
}

static uint64
write_rows(UpsertRun *self, FpUpsertStatement statement)
{
	FpUpsertSqlKey key = {statement, self->last != NULL, 0};
	int64		count = 0;
	uint64		processed;

	if (self->last != NULL && !self->shape->is_row_compared)
		key.nequal = Min(count_equal(self, self->last, self->upper),
						 self->norder - 1);
	processed = execute(self, get_plan(self, &key), true, self->upper,
						write_settings(self), read_count, &count);

	return fp_upsert_sql_returns_count(self->shape, statement) ?
		count : processed;
}

static bool
differs_from_target(UpsertRun *self)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_LOOK, self->last != NULL, 0};
	FirstRow	row = {false, 0, NULL};

	if (self->last != NULL && !self->shape->is_row_compared)
		key.nequal = Min(count_equal(self, self->last, self->upper),
						 self->norder - 1);
	(void) execute(self, get_plan(self, &key), true, self->upper,
				   write_settings(self), keep_first_row, &row);
	return row.is_found;
}

static const char *const (*write_settings(UpsertRun *self))[2]
{
	if (self->shape->target_relkind == RELKIND_FOREIGN_TABLE ||
		self->shape->is_citus)
		return foreign_settings;
	if (!self->shape->is_key_order)
		return lookup_settings;
	return self->norder == 1 ? range_hash_settings : range_settings;
}

/*
 * A statement of upsert_sql.c, prepared at its first use.
 */
static FpPlan *
get_plan(UpsertRun *self, const FpUpsertSqlKey *key)
{
	MemoryContext old_context;
	PreparedStatement *prepared;
	ListCell   *lc;

	foreach(lc, self->statements)
	{
		prepared = lfirst(lc);
		if (prepared->key.statement == key->statement &&
			prepared->key.has_lower == key->has_lower &&
			prepared->key.nequal == key->nequal)
			return prepared->plan;
	}

	old_context = MemoryContextSwitchTo(self->context);
	prepared = palloc(sizeof(PreparedStatement));
	prepared->key = *key;
	prepared->plan = fp_spi_prepare_user(fp_upsert_sql(self->shape, key),
										 fp_user_sql_parser_setup,
										 &self->setup,
										 CURSOR_OPT_CUSTOM_PLAN);
	self->statements = lappend(self->statements, prepared);
	MemoryContextSwitchTo(old_context);

	return prepared->plan;
}

/*
 * Run SQL that needs no plan of its own, with the user's settings.
 */
static void
run_once(UpsertRun *self, const char *sql, bool has_bounds)
{
	FpPlan	   *plan = fp_spi_prepare_user(sql, fp_user_sql_parser_setup,
										   &self->setup, 0);
	ParamListInfo params;

	params = make_params(self, has_bounds ? self->last : NULL, NULL);
	(void) fp_spi_execute_user(plan, params, false /* read_only */ , 0,
							   NULL, NULL);
	fp_spi_free_user(plan);
}

/*
 * Run a statement with the page's bounds as its parameters: after last, up to
 * upper.
 */
static uint64
execute(UpsertRun *self, FpPlan *plan, bool has_bounds, char **upper,
		const char *const (*settings)[2], FpRowCallback callback, void *arg)
{
	ParamListInfo params;
	int			nest_level;
	uint64		processed;

	params = make_params(self, has_bounds ? self->last : NULL, upper);
	nest_level = begin_settings(settings);
	processed = fp_spi_execute_user(plan, params, false /* read_only */ , 0,
									callback, arg);
	end_settings(nest_level);

	return processed;
}

static ParamListInfo
make_params(UpsertRun *self, char **lower, char **upper)
{
	ParamListInfo params = fp_user_sql_params(&self->setup, self->run);

	set_bound(self, params, 0, lower);
	set_bound(self, params, self->norder, upper);
	return params;
}

static void
set_bound(UpsertRun *self, ParamListInfo params, int first, char **bound)
{
	int			nest_level;

	if (bound == NULL)
		return;

	nest_level = begin_settings(text_settings);
	for (int i = 0; i < self->norder; i++)
	{
		ParamExternData *param = &params->params[first + i];
		Oid			input;
		Oid			io_param;

		getTypeInputInfo(param->ptype, &input, &io_param);
		param->value = OidInputFunctionCall(input, bound[i], io_param, -1);
		param->isnull = false;
	}
	end_settings(nest_level);
}

/*
 * Row callback.
 */
static void
keep_first_row(const FpRow *row, void *arg)
{
	FirstRow   *first = arg;

	if (first->is_found)
		return;
	first->is_found = true;
	first->values = palloc(first->ncolumns * sizeof(Datum));
	for (int i = 0; i < first->ncolumns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(row->desc, i);
		bool		isnull;
		Datum		value = fp_row_datum(row, i + 1, &isnull);

		/* nulls were looked for when the run began; this one is newer */
		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" of the source of an upsert contains a null value",
							NameStr(attribute->attname)),
					 errdetail("Pages are taken in the order of this column; a row without a place in it would be lost.")));
		first->values[i] = datumCopy(value, attribute->attbyval,
									 attribute->attlen);
	}
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
row_to_text(UpsertRun *self, const FirstRow *row)
{
	char	  **bound = palloc(self->norder * sizeof(char *));
	int			nest_level = begin_settings(text_settings);

	for (int i = 0; i < self->norder; i++)
	{
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(self->setup.types[i], &output, &is_varlena);
		bound[i] = OidOutputFunctionCall(output, row->values[i]);
	}
	end_settings(nest_level);

	return bound;
}

static char **
copy_bound(UpsertRun *self, char **bound, MemoryContext context)
{
	char	  **copy = MemoryContextAlloc(context,
										  self->norder * sizeof(char *));

	for (int i = 0; i < self->norder; i++)
		copy[i] = MemoryContextStrdup(context, bound[i]);
	return copy;
}

/*
 * On how many of their first columns two rows agree.
 */
static int
count_equal(UpsertRun *self, char **a, char **b)
{
	int			count = 0;

	while (count < self->norder && strcmp(a[count], b[count]) == 0)
		count++;
	return count;
}

/*
 * Settings until end_settings(), or until the transaction is aborted.
 */
static int
begin_settings(const char *const (*settings)[2])
{
	int			nest_level = NewGUCNestLevel();

	for (; (*settings)[0] != NULL; settings++)
		(void) set_config_option((*settings)[0], (*settings)[1],
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

static void
end_settings(int nest_level)
{
	AtEOXact_GUC(true /* isCommit */ , nest_level);
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
	for (int i = 0; i < self->norder; i++)
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
	char	  **bound = palloc(self->norder * sizeof(char *));

	array = getKeyJsonValueFromContainer(&position->root, name, strlen(name),
										 &buffer);
	if (array == NULL || array->type != jbvBinary ||
		!JsonContainerIsArray(array->val.binary.data) ||
		JsonContainerSize(array->val.binary.data) != self->norder)
		elog(ERROR, "\"%s\" in the position of an upsert is not a row of %d columns",
			 name, self->norder);

	for (int i = 0; i < self->norder; i++)
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
 * Error context: which page, and which rows it holds.
 */
static void
upsert_error_context(void *arg)
{
	UpsertRun  *self = arg;
	StringInfoData buf;

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
		for (int i = 0; i < self->norder; i++)
			appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", self->last[i]);
		appendStringInfoString(&buf, ") ");
	}
	appendStringInfoString(&buf, "to (");
	for (int i = 0; i < self->norder; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", self->upper[i]);
	appendStringInfoChar(&buf, ')');

	errcontext("page " INT64_FORMAT " of upsert into \"%s\": (%s) %s",
			   self->progress.pages + 1, self->shape->target_name,
			   fp_upsert_shape_names(self->shape->order), buf.data);
}
