/*-------------------------------------------------------------------------
 *
 * upsert_cover.c
 *	  Whether replace_where is exactly the rows of whole partitions.
 *
 * Two things are proved, with the run's values in the place of run.*.  No
 * other partition has a row that matches: the planner is asked which ones a
 * SELECT with this condition would read, after it has pruned the others.  And
 * each row of these matches: their partition constraint must imply the
 * condition, by the same proofs by which the planner uses partial indexes.
 *
 * What these proofs do not see is not found out otherwise: casts and functions
 * of the column (at::date = run.ds), comparisons of different types with time
 * zones between them, subqueries.  Dates are helped a little: day < 6 January
 * is day <= 5 January.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/date.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "upsert_cover.h"

static Query *analyze_condition(FpUpsertExec *exec,
								const FpUpsertShape *shape, char **sql);
static List *scanned_tables(Query *query, const char *sql,
							ParamListInfo params);
static bool collect_scanned(Plan *plan, List *rtable, List **relids);
static bool collect_scanned_of(List *plans, List *rtable, List **relids);
static List *known_condition(Query *query, ParamListInfo params);
static Node *put_values(Node *node, void *context);
static bool is_implied(Relation target, Relation partition, List *condition);
static List *date_clauses(List *clauses);
static bool is_date_clause(Node *clause, Oid function, Node **column,
						   DateADT *value);
static Expr *date_clause(Node *column, StrategyNumber strategy,
						 DateADT value);


List *
fp_upsert_cover_find(FpUpsertExec *exec, const FpUpsertShape *shape)
{
	ParamListInfo params = fp_user_sql_params(&exec->setup, exec->run);
	Relation	target;
	Query	   *query;
	char	   *sql;
	List	   *relids;
	List	   *condition;
	ListCell   *lc;

	query = analyze_condition(exec, shape, &sql);
	if (query == NULL)
		return NIL;
	condition = known_condition(query, params);
	if (contain_mutable_functions((Node *) condition))
		return NIL;
	relids = scanned_tables(query, sql, params);

	target = table_open(shape->target_relid, AccessShareLock);
	foreach(lc, relids)
	{
		Relation	partition = table_open(lfirst_oid(lc), AccessShareLock);
		bool		is_whole;

		is_whole = partition->rd_rel->relispartition &&
			get_partition_parent(lfirst_oid(lc),
								 true /* even_if_detached */ ) == shape->target_relid &&
			is_implied(target, partition, condition);
		table_close(partition, NoLock);
		if (!is_whole)
		{
			relids = NIL;
			break;
		}
	}
	table_close(target, NoLock);

	list_sort(relids, list_oid_cmp);
	return relids;
}

/*
 * The SELECT of what matches; NULL: it is more than a condition on the
 * target's columns.
 */
static Query *
analyze_condition(FpUpsertExec *exec, const FpUpsertShape *shape, char **sql)
{
	List	   *queries;
	Query	   *query;

	*sql = psprintf("SELECT 1 FROM %s AS %s WHERE %s", shape->target,
					shape->target_alias, shape->replace_where);
	queries = pg_analyze_and_rewrite_withcb(linitial_node(RawStmt, pg_parse_query(*sql)),
											*sql, fp_user_sql_parser_setup,
											&exec->setup, NULL);
	query = linitial_node(Query, queries);
	if (list_length(query->rtable) != 1 || query->hasSubLinks)
		return NULL;
	return query;
}

/*
 * The tables that the query would read; NIL also where its plan is none that
 * is known here.
 */
static List *
scanned_tables(Query *query, const char *sql, ParamListInfo params)
{
	PlannedStmt *statement;
	List	   *relids = NIL;

	statement = pg_plan_query(copyObject(query), sql, 0, params);
	if (statement->subplans != NIL ||
		!collect_scanned(statement->planTree, statement->rtable, &relids))
		return NIL;
	return relids;
}

static bool
collect_scanned(Plan *plan, List *rtable, List **relids)
{
	switch (nodeTag(plan))
	{
		case T_Append:
			return collect_scanned_of(((Append *) plan)->appendplans, rtable,
									  relids);

		case T_MergeAppend:
			return collect_scanned_of(((MergeAppend *) plan)->mergeplans,
									  rtable, relids);

		case T_Result:
			/* without a plan below it reads nothing */
			return plan->lefttree == NULL ||
				collect_scanned(plan->lefttree, rtable, relids);

		case T_SeqScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
			*relids = lappend_oid(*relids,
								  rt_fetch(((Scan *) plan)->scanrelid,
										   rtable)->relid);
			return true;

		default:
			return false;
	}
}

static bool
collect_scanned_of(List *plans, List *rtable, List **relids)
{
	ListCell   *lc;

	foreach(lc, plans)
	{
		if (!collect_scanned(lfirst(lc), rtable, relids))
			return false;
	}
	return true;
}

/*
 * The condition with the run's values, as an implicit AND.
 */
static List *
known_condition(Query *query, ParamListInfo params)
{
	Node	   *condition = copyObject(query->jointree->quals);

	condition = put_values(condition, params);
	condition = eval_const_expressions(NULL, condition);
	condition = (Node *) canonicalize_qual((Expr *) condition,
										   false /* is_check */ );
	return make_ands_implicit((Expr *) condition);
}

/*
 * Mutator; context is a ParamListInfo.
 */
static Node *
put_values(Node *node, void *context)
{
	ParamListInfo params = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
	{
		Param	   *param = (Param *) node;
		ParamExternData *value = &params->params[param->paramid - 1];
		int16		length;
		bool		is_by_value;

		get_typlenbyval(param->paramtype, &length, &is_by_value);
		return (Node *) makeConst(param->paramtype, param->paramtypmod,
								  param->paramcollid, length,
								  value->isnull ? (Datum) 0 :
								  datumCopy(value->value, is_by_value, length),
								  value->isnull, is_by_value);
	}
	return expression_tree_mutator(node, put_values, context);
}

/*
 * Whether every row that the partition may hold fulfils the condition.
 */
static bool
is_implied(Relation target, Relation partition, List *condition)
{
	Expr	   *constraint;
	List	   *clauses;

	constraint = make_ands_explicit(RelationGetPartitionQual(partition));
	constraint = (Expr *) eval_const_expressions(NULL, (Node *) constraint);
	constraint = canonicalize_qual(constraint, true /* is_check */ );
	clauses = make_ands_implicit(constraint);
	clauses = list_concat(clauses, date_clauses(clauses));

	condition = map_partition_varattnos(copyObject(condition), 1, partition,
										target);
	return predicate_implied_by(condition, clauses, false /* weak */ );
}

/*
 * What bounds on a date mean besides: day < 6 January: day <= 5 January;
 * day >= 5 January: day > 4 January; both: day = 5 January.
 */
static List *
date_clauses(List *clauses)
{
	List	   *result = NIL;
	Node	   *from_column = NULL;
	Node	   *to_column = NULL;
	DateADT		from = 0;
	DateADT		to = 0;
	ListCell   *lc;

	foreach(lc, clauses)
	{
		if (is_date_clause(lfirst(lc), F_DATE_GE, &from_column, &from))
			result = lappend(result, date_clause(from_column,
												 BTGreaterStrategyNumber,
												 from - 1));
		else if (is_date_clause(lfirst(lc), F_DATE_LT, &to_column, &to))
			result = lappend(result, date_clause(to_column,
												 BTLessEqualStrategyNumber,
												 to - 1));
	}
	if (from_column != NULL && to_column != NULL &&
		equal(from_column, to_column) && from == to - 1)
		result = lappend(result, date_clause(from_column,
											 BTEqualStrategyNumber, from));
	return result;
}

static bool
is_date_clause(Node *clause, Oid function, Node **column, DateADT *value)
{
	OpExpr	   *operator = (OpExpr *) clause;
	Const	   *constant;

	if (!IsA(clause, OpExpr) || list_length(operator->args) != 2 ||
		get_opcode(operator->opno) != function ||
		!IsA(linitial(operator->args), Var) ||
		!IsA(lsecond(operator->args), Const))
		return false;

	constant = lsecond(operator->args);
	if (constant->constisnull ||
		DATE_NOT_FINITE(DatumGetDateADT(constant->constvalue)))
		return false;
	*column = linitial(operator->args);
	*value = DatumGetDateADT(constant->constvalue);
	return true;
}

static Expr *
date_clause(Node *column, StrategyNumber strategy, DateADT value)
{
	Oid			family = lookup_type_cache(DATEOID,
										   TYPECACHE_BTREE_OPFAMILY)->btree_opf;
	Const	   *constant = makeConst(DATEOID, -1, InvalidOid, sizeof(DateADT),
									 DateADTGetDatum(value), false, true);
	Expr	   *clause = make_opclause(get_opfamily_member(family, DATEOID,
														   DATEOID, strategy),
									   BOOLOID, false,
									   copyObject((Expr *) column),
									   (Expr *) constant, InvalidOid,
									   InvalidOid);

	set_opfuncid((OpExpr *) clause);
	return clause;
}
