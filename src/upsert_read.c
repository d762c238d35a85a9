/*-------------------------------------------------------------------------
 *
 * upsert_read.c
 *	  How the source of a paged upsert is read: by pages, or once.
 *
 * A source that an index gives in page order is read by pages, wherever that
 * index is: in a table, below a view or a join, on another server.  The
 * planner knows best, so it is asked: the search for the end of a page is
 * planned with all ways but indexes made costly, and the plan is looked at.
 *
 * What would be read from end to end for each page is read once instead, into
 * a temporary table with an index, and paged from there; and so is the small
 * part of a large table that another index finds, such as a day's changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "storage/bufmgr.h"
#include "tcop/tcopprot.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "upsert_bound.h"
#include "upsert_read.h"

/*
 * A part of a table is read once where it is smaller than this, and where that
 * costs so much less than to go through the table by the page order.
 */
#define SMALL_PART 0.1
#define MUCH_CHEAPER 0.5

/* a source that grows so fast is taken up to where it was at the last look */
#define MAX_LOOKS_AT_END 3

/* where the rows are meanwhile; gone with the session at the latest */
#define SPILL_NAME "flowpg_upsert_source"
#define SPILL_TABLE "pg_temp." SPILL_NAME
#define KEYS_NAME "flowpg_upsert_keys"
#define KEYS_TABLE "pg_temp." KEYS_NAME

/* What a plan is made of that reads a source in page order. */
typedef struct OrderedPlan
{
	int			nbounds;		/* parameters that are bounds of the page */
	bool		is_joined;		/* it looks rows up in other tables */
	bool		is_grouped;		/* it makes one row of several */
	bool		is_foreign;		/* it reads from another server */
	bool		is_wide;		/* a table of this one has rows with values out
								 * of line */
	bool		is_far_sorted;	/* see upsert_shape.h */
	int			nscans;			/* scans that give the order */
	double		tuples;			/* rows of the tables that it goes through */
	List	   *rtable;			/* of the whole plan */
} OrderedPlan;

static bool is_read_in_order(FpUpsertExec *exec, OrderedPlan *ordered);
static bool is_small_part(FpUpsertExec *exec, OrderedPlan *ordered);
static Plan *plan_read_all(FpUpsertExec *exec, bool is_ordered,
						   FpUpsertPlanning planning);
static PlannedStmt *plan_sql(FpUpsertExec *exec, const char *sql,
							 ParamListInfo params, FpUpsertPlanning planning);
static bool is_ordered_plan(Plan *plan, OrderedPlan *ordered);
static bool has_wide_rows(Oid relid);
static void learn_foreign(OrderedPlan *ordered, PlannedStmt *statement);
static double table_tuples(Plan *plan, OrderedPlan *ordered);
static bool is_ordered_list(List *plans, OrderedPlan *ordered);
static bool is_lookup_plan(Plan *plan);
static bool uses_bound(Node *node, void *context);
static Oid	table_relid(const char *name);
static void drop_table(FpUpsertExec *exec, const char *name);
static void spill_source(FpUpsertExec *exec, FpUpsertShape *shape,
						 char **last);
static void refuse_nulls(FpUpsertExec *exec);


/*
 * Of text, other servers know other orders: the bounds that one has found are
 * compared by that one alone, and rows that are sorted and compared here are
 * sorted and compared in nothing but our order.
 */
void
fp_upsert_read_choose(FpUpsertExec *exec, FpUpsertShape *shape)
{
	OrderedPlan ordered;
	bool		is_in_order = is_read_in_order(exec, &ordered);

	/* a wrapper behind a view may take the other form of the bounds */
	if (!is_in_order && shape->is_row_compared && ordered.is_foreign)
	{
		shape->is_row_compared = false;
		is_in_order = is_read_in_order(exec, &ordered);
	}
	if (ordered.is_foreign)
	{
		bool		has_text = fp_upsert_shape_has_text_order(shape);

		if (ordered.is_grouped || (has_text && ordered.nscans > 1))
			is_in_order = false;
		if (has_text && !is_in_order)
			fp_upsert_shape_fence(shape);
	}
	shape->is_foreign = ordered.is_foreign;
	shape->is_far_sorted = ordered.is_far_sorted;

	/*
	 * What is slow to read is read once a page and kept; and joins within the
	 * source need lookups.
	 */
	if (ordered.is_joined || ordered.is_foreign)
		shape->is_key_order = false;

	shape->is_wide = ordered.is_wide || ordered.is_foreign;
	shape->is_read_once = !is_in_order || is_small_part(exec, &ordered);
}

double
fp_upsert_read_estimate(FpUpsertExec *exec, char **last, char **end)
{
	char	   *sql = fp_upsert_sql_rows(exec->shape, last != NULL, "1");
	ParamListInfo params = fp_upsert_exec_params(exec, last, end);
	PlannedStmt *statement = plan_sql(exec, sql, params,
									  FP_UPSERT_PLAN_FREELY);

	return statement == NULL ? 0 : statement->planTree->plan_rows;
}

bool
fp_upsert_read_begin(FpUpsertExec *exec, FpUpsertShape *shape, char **last)
{
	bool		is_read_once = shape->is_read_once;

	if (is_read_once)
		spill_source(exec, shape, last);
	refuse_nulls(exec);

	return is_read_once;
}

/*
 * Another server's idea of a value may differ from ours: a float of four bytes
 * is not equal to its own text there, a time may have been rounded on its way,
 * an enum may be sorted in one order and compared in another.  Rows beyond
 * what comes back as the end would never be read.  So the server is asked for
 * one; if there is one, and the end is still the same afterwards, that is so.
 * Otherwise the source grows, and the new end is as good.
 */
char	  **
fp_upsert_read_find_end(FpUpsertExec *exec)
{
	FpUpsertSqlKey end_key = {FP_UPSERT_SQL_END, false, 0};
	FpUpsertSqlKey beyond_key = {FP_UPSERT_SQL_BEYOND, true, 0};
	char	  **end = fp_upsert_exec_find(exec, &end_key, NULL, NULL);

	if (!exec->shape->is_foreign || exec->shape->is_read_once)
		return end;

	for (int i = 0; i < MAX_LOOKS_AT_END && end != NULL; i++)
	{
		char	  **old_end = end;

		if (fp_upsert_exec_find(exec, &beyond_key, end, NULL) == NULL)
			return end;
		end = fp_upsert_exec_find(exec, &end_key, NULL, NULL);
		if (fp_upsert_bound_equal(end, old_end, exec->norder))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_ERROR),
					 errmsg("the source of the upsert into \"%s\" cannot be read by pages",
							exec->shape->target_name),
					 errdetail("Its server has rows behind those that it sorts last, when asked by (%s).",
							   fp_upsert_shape_names(exec->shape->order)),
					 errhint("Page by columns that have the same type on both sides, or read the source once: give it as a SELECT with OFFSET 0.")));
	}
	return end;
}

/*
 * The copy is counted, for what is joined with it is planned freely.
 */
void
fp_upsert_read_all(FpUpsertExec *exec, FpUpsertShape *shape)
{
	refuse_nulls(exec);
	fp_upsert_read_end(exec);
	(void) fp_upsert_exec_once(exec,
							   fp_upsert_sql_collect(shape, SPILL_TABLE),
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();
	(void) fp_upsert_exec_once(exec, "ANALYZE " SPILL_TABLE, NULL,
							   FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();

	fp_upsert_shape_set_spilled(shape, SPILL_TABLE);
}

const char *
fp_upsert_read_keys(FpUpsertExec *exec, const FpUpsertShape *shape)
{
	drop_table(exec, KEYS_NAME);
	(void) fp_upsert_exec_once(exec, fp_upsert_sql_keys(shape, KEYS_TABLE),
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();
	(void) fp_upsert_exec_once(exec,
							   fp_upsert_sql_keys_index(shape, KEYS_TABLE),
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();
	return KEYS_TABLE;
}

void
fp_upsert_read_end(FpUpsertExec *exec)
{
	drop_table(exec, SPILL_NAME);
	drop_table(exec, KEYS_NAME);
}

/* InvalidOid: there is no such temporary table */
static Oid
table_relid(const char *name)
{
	RangeVar   *table = makeRangeVar("pg_temp", unconstify(char *, name), -1);

	return RangeVarGetRelid(table, NoLock, true /* missing_ok */ );
}

static void
drop_table(FpUpsertExec *exec, const char *name)
{
	if (OidIsValid(table_relid(name)))
		(void) fp_upsert_exec_once(exec,
								   psprintf("DROP TABLE pg_temp.%s", name),
								   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
}

/*
 * Plan the search for a page's bound and see whether its cost depends on the
 * page alone.  SQL with volatile functions is not to be run page by page: it
 * would give other rows each time.
 */
static bool
is_read_in_order(FpUpsertExec *exec, OrderedPlan *ordered)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_BOUND, true, 0};
	PlannedStmt *statement;
	ListCell   *lc;

	memset(ordered, 0, sizeof(OrderedPlan));
	ordered->nbounds = exec->setup.nvalues;

	statement = plan_sql(exec, fp_upsert_sql(exec->shape, &key), NULL,
						 FP_UPSERT_PLAN_READ);
	if (statement == NULL)
		return false;

	learn_foreign(ordered, statement);

	/* a subplan may be run for each page from end to end */
	if (statement->subplans != NIL)
		return false;

	ordered->rtable = statement->rtable;
	foreach(lc, statement->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && has_wide_rows(rte->relid))
			ordered->is_wide = true;
	}
	return is_ordered_plan(statement->planTree, ordered);
}

/*
 * Whether the source is a small part of what would have to be gone through to
 * read it by pages.  A table as it is never is.
 */
static bool
is_small_part(FpUpsertExec *exec, OrderedPlan *ordered)
{
	Plan	   *once;
	Plan	   *paged;

	if (OidIsValid(exec->shape->source_relid) &&
		exec->shape->source_relkind != RELKIND_VIEW)
		return false;

	once = plan_read_all(exec, false, FP_UPSERT_PLAN_FREELY);
	if (once->plan_rows > SMALL_PART * ordered->tuples)
		return false;

	paged = plan_read_all(exec, true, FP_UPSERT_PLAN_READ);
	return once->total_cost < MUCH_CHEAPER * paged->total_cost;
}

static Plan *
plan_read_all(FpUpsertExec *exec, bool is_ordered, FpUpsertPlanning planning)
{
	char	   *sql = fp_upsert_sql_read_all(exec->shape, is_ordered);
	ParamListInfo params = fp_user_sql_params(&exec->setup, exec->run);

	return plan_sql(exec, sql, params, planning)->planTree;
}

/*
 * NULL: the SQL has volatile functions.  Without params they are left open.
 */
static PlannedStmt *
plan_sql(FpUpsertExec *exec, const char *sql, ParamListInfo params,
		 FpUpsertPlanning planning)
{
	List	   *queries;
	Query	   *query;
	PlannedStmt *statement;
	int			nest_level;

	queries = pg_analyze_and_rewrite_withcb(linitial_node(RawStmt, pg_parse_query(sql)),
											sql, fp_user_sql_parser_setup,
											&exec->setup, NULL);
	query = linitial_node(Query, queries);
	if (contain_volatile_functions((Node *) query))
		return NULL;

	nest_level = fp_upsert_exec_begin_settings(planning);
	statement = pg_plan_query(query, sql, 0, params);
	fp_upsert_exec_end_settings(nest_level);

	return statement;
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
		return false;

	switch (nodeTag(plan))
	{
		case T_Limit:
		case T_Result:
			return is_ordered_plan(plan->lefttree, ordered);

		case T_Unique:
		case T_Group:
			ordered->is_grouped = true;
			return is_ordered_plan(plan->lefttree, ordered);

		case T_Agg:
			ordered->is_grouped = true;
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
			ordered->nscans++;
			ordered->tuples += table_tuples(plan, ordered);
			return uses_bound((Node *) ((IndexScan *) plan)->indexqualorig,
							  ordered);

		case T_IndexOnlyScan:
			ordered->nscans++;
			ordered->tuples += table_tuples(plan, ordered);
			return uses_bound((Node *) ((IndexOnlyScan *) plan)->indexqual,
							  ordered);

		case T_ForeignScan:
			ordered->nscans++;
			if (contain_aggs_of_level((Node *) ((ForeignScan *) plan)->fdw_scan_tlist, 0))
				ordered->is_grouped = true;
			return true;

		case T_NestLoop:
			ordered->is_joined = true;
			return !uses_bound((Node *) ((NestLoop *) plan)->join.joinqual,
							   ordered) &&
				is_ordered_plan(plan->lefttree, ordered) &&
				is_lookup_plan(plan->righttree);

		default:
			return false;
	}
}

/*
 * Whether values of a table have been put out of line: without any, a row has
 * at most the size of a block.
 */
static bool
has_wide_rows(Oid relid)
{
	Relation	relation = relation_open(relid, AccessShareLock);
	Oid			toast_relid = relation->rd_rel->reltoastrelid;
	BlockNumber nblocks = 0;

	relation_close(relation, NoLock);
	if (OidIsValid(toast_relid))
	{
		Relation	toast = table_open(toast_relid, AccessShareLock);

		nblocks = RelationGetNumberOfBlocks(toast);
		table_close(toast, NoLock);
	}
	return nblocks > 0;
}

/*
 * Whether a plan reads tables of other servers, and of which.  postgres_fdw
 * sends ORDER BY in a form for which its server takes an index; others may
 * not: mysql_fdw adds "IS NULL" to each column.
 */
static void
learn_foreign(OrderedPlan *ordered, PlannedStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_RELATION ||
			rte->relkind != RELKIND_FOREIGN_TABLE)
			continue;
		ordered->is_foreign = true;
		if (!fp_upsert_shape_is_postgres_fdw(rte->relid))
			ordered->is_far_sorted = true;
	}
}

/*
 * Rows of the table that a scan reads, as far as statistics tell.
 */
static double
table_tuples(Plan *plan, OrderedPlan *ordered)
{
	RangeTblEntry *rte = rt_fetch(((Scan *) plan)->scanrelid,
								  ordered->rtable);
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(rte->relid));
	double		tuples;

	if (!HeapTupleIsValid(tuple))
		return 0;
	tuples = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
	ReleaseSysCache(tuple);

	return Max(tuples, 0);
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
 * give that an index on the page order.  An attempt that failed in the same
 * session may have left one.
 *
 * With pages from the last to the first, what is still to be read is before
 * last; that is not worth a form of its own.
 */
static void
spill_source(FpUpsertExec *exec, FpUpsertShape *shape, char **last)
{
	char	  **lower = shape->is_descending ? NULL : last;

	fp_upsert_read_end(exec);
	(void) fp_upsert_exec_once(exec,
							   fp_upsert_sql_spill(shape, SPILL_TABLE,
												   lower != NULL),
							   lower, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();
	(void) fp_upsert_exec_once(exec,
							   fp_upsert_sql_spill_index(shape, SPILL_TABLE),
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();

	fp_upsert_shape_set_spilled(shape, SPILL_TABLE);
	shape->is_wide = has_wide_rows(table_relid(SPILL_NAME));

}

/*
 * A row with a null in the page order lies in no page.
 */
static void
refuse_nulls(FpUpsertExec *exec)
{
	ListCell   *lc;

	foreach(lc, exec->shape->order)
	{
		FpUpsertColumn *column = lfirst(lc);
		char	   *sql;

		if (column->is_not_null)
			continue;

		sql = fp_upsert_sql_find_null(exec->shape, column);
		if (fp_upsert_exec_once(exec, sql, NULL, FP_UPSERT_PLAN_FREELY,
								NULL, NULL) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" of the source of the upsert into \"%s\" contains a null value",
							column->name, exec->shape->target_name),
					 errdetail("Pages are taken in the order of (%s); a row without a place in it would be lost.",
							   fp_upsert_shape_names(exec->shape->order)),
					 errhint("Page by columns that are never null, or give a SELECT that leaves such rows out as source.")));
	}
}
