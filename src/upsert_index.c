/*-------------------------------------------------------------------------
 *
 * upsert_index.c
 *	  What indexes and constraints promise a paged upsert.
 *
 * Of the target: that its key is unique, and whether a page of the source is a
 * range of its unique index.  Of the source: which columns are never null, and
 * whether its key is unique, also through views and SELECTs that take their
 * rows from one table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "upsert_index.h"

/* Where a column of the source comes from, if it is a table's column as it is. */
typedef struct Origin
{
	Oid			relid;			/* InvalidOid: computed, or a join's */
	AttrNumber	attnum;
} Origin;

static bool is_plain_unique(Relation index);
static void learn_key_order(FpUpsertShape *shape, Relation index);
static bool is_index_on_key(const FpUpsertShape *shape, Relation index);
static bool is_index_in_order(Relation index, const List *order,
							  const AttrNumber *attnums);
static Origin find_origin(Query *query, AttrNumber resno);
static bool is_unique_in(Oid relid, const Bitmapset *attnums);


/*
 * Find the target's unique index on the key, and whether it has the page
 * order.  An error where there is none: without it, nothing stops two sessions
 * from inserting one key.
 */
void
fp_upsert_index_learn_target(FpUpsertShape *shape, Relation target)
{
	List	   *indexes = RelationGetIndexList(target);
	bool		is_found = false;
	bool		is_order_of_key = true;
	AttrNumber *attnums;
	ListCell   *lc;

	attnums = palloc(list_length(shape->order) * sizeof(AttrNumber));
	foreach(lc, shape->order)
	{
		FpUpsertColumn *column = lfirst(lc);

		attnums[foreach_current_index(lc)] = column->attnum;
		if (!column->is_key || !column->is_same_order)
			is_order_of_key = false;
	}

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (is_plain_unique(index) && is_index_on_key(shape, index))
		{
			is_found = true;
			learn_key_order(shape, index);
			if (is_order_of_key &&
				is_index_in_order(index, shape->order, attnums))
				shape->is_key_order = true;
		}
		index_close(index, AccessShareLock);
	}

	if (!is_found)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("target \"%s\" of an upsert has no unique index on its key (%s)",
						shape->target_name, fp_upsert_shape_names(shape->key)),
				 errdetail("The index must be on these columns and no others, without WHERE or expressions, valid and not deferrable."),
				 errhint("Create one, or name the columns of one that is there in \"key\".")));
}

/*
 * Learn what constraints of the tables below the source promise: that a
 * column is never null, that the key is unique.
 */
void
fp_upsert_index_learn_source(FpUpsertShape *shape, Query *query)
{
	Oid			key_relid = InvalidOid;
	Bitmapset  *key_attnums = NULL;
	bool		is_key_known = true;
	ListCell   *lc;

	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);
		Origin		origin = find_origin(query,
										 foreach_current_index(lc) + 1);
		HeapTuple	tuple;

		column->origin_relid = origin.relid;
		column->origin_attnum = origin.attnum;
		if (OidIsValid(origin.relid))
		{
			tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(origin.relid),
									Int16GetDatum(origin.attnum));
			if (HeapTupleIsValid(tuple))
			{
				column->is_not_null =
					((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
				ReleaseSysCache(tuple);
			}
		}

		if (column->is_key)
		{
			/* a cast may make two values one */
			if (!OidIsValid(origin.relid) || !column->is_same_order ||
				(key_attnums != NULL && origin.relid != key_relid))
				is_key_known = false;
			else
			{
				key_relid = origin.relid;
				key_attnums = bms_add_member(key_attnums, origin.attnum);
			}
		}
	}

	shape->is_source_key_unique = is_key_known &&
		is_unique_in(key_relid, key_attnums);
}

char *
fp_upsert_index_missing(const FpUpsertShape *shape)
{
	Relation	source;
	List	   *indexes;
	AttrNumber *attnums;
	bool		is_found = false;
	StringInfoData command;
	ListCell   *lc;

	if (shape->source_relkind != RELKIND_RELATION &&
		shape->source_relkind != RELKIND_PARTITIONED_TABLE &&
		shape->source_relkind != RELKIND_MATVIEW)
		return NULL;

	attnums = palloc(list_length(shape->order) * sizeof(AttrNumber));
	foreach(lc, shape->order)
		attnums[foreach_current_index(lc)] =
			get_attnum(shape->source_relid,
					   ((FpUpsertColumn *) lfirst(lc))->name);

	source = table_open(shape->source_relid, AccessShareLock);
	indexes = RelationGetIndexList(source);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisvalid &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) &&
			is_index_in_order(index, shape->order, attnums))
			is_found = true;
		index_close(index, AccessShareLock);
	}
	table_close(source, NoLock);

	if (is_found)
		return NULL;

	initStringInfo(&command);
	appendStringInfo(&command, "CREATE INDEX ON %s (", shape->source);
	foreach(lc, shape->order)
		appendStringInfo(&command, "%s%s",
						 foreach_current_index(lc) > 0 ? ", " : "",
						 ((FpUpsertColumn *) lfirst(lc))->quoted);
	appendStringInfoString(&command, ");");
	return command.data;
}

/*
 * Whether an index keeps its columns unique at any time and for all rows.
 * How it treats nulls does not matter: a null in the key is an error.
 */
static bool
is_plain_unique(Relation index)
{
	return index->rd_index->indisunique &&
		index->rd_index->indisvalid &&
		index->rd_index->indimmediate &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL);
}

static bool
is_index_on_key(const FpUpsertShape *shape, Relation index)
{
	int			nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	ListCell   *lc;

	if (nkeys != list_length(shape->key))
		return false;
	foreach(lc, shape->key)
	{
		bool		is_found = false;

		for (int i = 0; i < nkeys; i++)
		{
			if (index->rd_index->indkey.values[i] ==
				((FpUpsertColumn *) lfirst(lc))->attnum)
				is_found = true;
		}
		if (!is_found)
			return false;
	}
	return true;
}

/*
 * Keep the order of the index's columns, where the target can be read in it.
 */
static void
learn_key_order(FpUpsertShape *shape, Relation index)
{
	int			nkeys = list_length(shape->key);
	AttrNumber *attnums = palloc(nkeys * sizeof(AttrNumber));
	List	   *key = NIL;

	for (int i = 0; i < nkeys; i++)
	{
		ListCell   *lc;

		attnums[i] = index->rd_index->indkey.values[i];
		foreach(lc, shape->key)
		{
			if (((FpUpsertColumn *) lfirst(lc))->attnum == attnums[i])
				key = lappend(key, lfirst(lc));
		}
	}
	if (is_index_in_order(index, key, attnums))
		shape->target_key = key;
}

/*
 * Whether the first columns of an index give the page order, forwards or
 * backwards: the columns' default order, with nulls where ORDER BY has them.
 */
static bool
is_index_in_order(Relation index, const List *order, const AttrNumber *attnums)
{
	static const int16 backwards = INDOPTION_DESC | INDOPTION_NULLS_FIRST;

	if (index->rd_rel->relam != BTREE_AM_OID ||
		IndexRelationGetNumberOfKeyAttributes(index) < list_length(order))
		return false;

	for (int i = 0; i < list_length(order); i++)
	{
		AttrNumber	attnum = index->rd_index->indkey.values[i];
		Oid			type;
		int32		typmod;
		Oid			collation;
		TypeCacheEntry *entry;

		if (attnum != attnums[i])
			return false;

		get_atttypetypmodcoll(index->rd_index->indrelid, attnum, &type,
							  &typmod, &collation);
		entry = lookup_type_cache(getBaseType(type), TYPECACHE_BTREE_OPFAMILY);
		if (index->rd_opfamily[i] != entry->btree_opf ||
			index->rd_indcollation[i] != collation ||
			index->rd_indoption[i] != index->rd_indoption[0])
			return false;
	}

	return index->rd_indoption[0] == 0 || index->rd_indoption[0] == backwards;
}

/*
 * The column of a table that a column of a query is, where each row of the
 * query is a row of one table, and no two are the same.
 */
static Origin
find_origin(Query *query, AttrNumber resno)
{
	static const Origin none = {InvalidOid, InvalidAttrNumber};
	TargetEntry *entry;
	RangeTblRef *reference;
	RangeTblEntry *rte;
	Var		   *var;
	Origin		origin;

	if (query->commandType != CMD_SELECT || query->setOperations != NULL ||
		query->hasTargetSRFs || query->groupClause != NIL ||
		query->groupingSets != NIL || query->hasAggs ||
		list_length(query->jointree->fromlist) != 1)
		return none;
	reference = linitial(query->jointree->fromlist);
	if (!IsA(reference, RangeTblRef))
		return none;

	entry = list_nth_node(TargetEntry, query->targetList, resno - 1);
	var = (Var *) entry->expr;
	if (!IsA(var, Var) || var->varlevelsup != 0 ||
		var->varno != reference->rtindex || var->varattno <= 0)
		return none;

	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind == RTE_SUBQUERY)
		return find_origin(rte->subquery, var->varattno);
	if (rte->rtekind != RTE_RELATION || rte->tablesample != NULL ||
		rte->relkind == RELKIND_FOREIGN_TABLE)
		return none;

	/* constraints of a parent table need not hold for all its children */
	if (rte->relkind == RELKIND_RELATION && rte->inh &&
		has_subclass(rte->relid))
		return none;

	origin.relid = rte->relid;
	origin.attnum = var->varattno;
	return origin;
}

static bool
is_unique_in(Oid relid, const Bitmapset *attnums)
{
	Relation	relation;
	List	   *indexes;
	bool		result = false;
	ListCell   *lc;

	relation = relation_open(relid, AccessShareLock);
	indexes = RelationGetIndexList(relation);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		bool		is_within = is_plain_unique(index);

		for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		{
			AttrNumber	attnum = index->rd_index->indkey.values[i];

			if (attnum <= 0 || !bms_is_member(attnum, attnums))
				is_within = false;
		}
		if (is_within)
			result = true;
		index_close(index, AccessShareLock);
	}
	relation_close(relation, NoLock);

	return result;
}
