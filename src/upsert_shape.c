/*-------------------------------------------------------------------------
 *
 * upsert_shape.c
 *	  What an upsert reads and writes: its definition, looked up in the
 *	  catalogs.
 *
 * Runs in sessions, when an upsert is defined, and in workers, when it runs:
 * both look up the same things and raise the same errors, for what was there
 * at definition may be gone by the time of the run.
 *
 * Columns match by name.  Two things decide how fast a page is taken, and
 * both need the source and the target to agree on what "less" and "equal"
 * mean: that a key comes only once (a unique index of the source says so), and
 * that a page, which is a range of the source, is a range of the target too
 * (upsert_index.c).  is_same_order is that agreement for one column.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_coerce.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "citus.h"
#include "compat.h"
#include "spi_util.h"
#include "upsert_index.h"
#include "upsert_shape.h"
#include "user_sql.h"

static void look_up_target(FpUpsertShape *shape, const FpUpsertDef *def);
static void look_up_source(FpUpsertShape *shape, const FpUpsertDef *def,
						   Query **query, TupleDesc *desc);
static Oid	find_relation(const char *name, const char *kind,
						  const char *relkinds, const char *wanted);
static bool is_relation_name(const char *text);
static char *strip_terminator(const char *sql);
static Query *analyze_source(const char *sql);
static void match_columns(FpUpsertShape *shape, Relation target,
						  TupleDesc desc);
static FpUpsertColumn *make_column(FpUpsertShape *shape, Relation target,
								   Form_pg_attribute source);
static char *make_cast(Oid source_type, int32 source_typmod, Oid target_type,
					   int32 target_typmod);
static bool has_length(Oid type);
static bool compare_as_text(Oid type, Oid collation);
static bool are_same_order(const FpUpsertColumn *column);
static List *look_up_key(FpUpsertShape *shape, const FpUpsertDef *def,
						 Relation target);
static List *primary_key_names(FpUpsertShape *shape, Relation target);
static List *look_up_order(FpUpsertShape *shape, const FpUpsertDef *def);
static void choose_written(FpUpsertShape *shape, const FpUpsertDef *def,
						   Relation target);
static void learn_replaced(FpUpsertShape *shape, const FpUpsertDef *def);
static FpUpsertColumn *find_column(const FpUpsertShape *shape,
								   const char *name);
static void set_operators(FpUpsertOperators *ops, const char *column,
						  Oid type);
static char *operator_sql(TypeCacheEntry *entry, StrategyNumber strategy);
static bool are_operators_alike(const List *order);
static bool is_all_here(Oid relid);
static void require_right(const FpUpsertShape *shape, AttrNumber attnum,
						  AclMode right, const char *right_name);
static char *qualified_name(Oid relid);


FpUpsertShape *
fp_upsert_shape_make(const FpUpsertDef *def)
{
	FpUpsertShape *shape = palloc0(sizeof(FpUpsertShape));
	Relation	target;
	Query	   *query;
	TupleDesc	desc;
	ListCell   *lc;

	shape->mode = def->mode;
	shape->page_size = def->page_size;

	look_up_target(shape, def);
	look_up_source(shape, def, &query, &desc);

	target = table_open(shape->target_relid, AccessShareLock);
	if (target->rd_rules != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("target \"%s\" of an upsert has rules",
						shape->target_name),
				 errhint("Use triggers instead.")));
	match_columns(shape, target, desc);
	shape->key = look_up_key(shape, def, target);
	shape->order = look_up_order(shape, def);
	choose_written(shape, def, target);
	fp_upsert_index_learn_source(shape, query);
	if (shape->target_relkind != RELKIND_FOREIGN_TABLE)
		fp_upsert_index_learn_target(shape, target);
	table_close(target, NoLock);

	shape->is_row_compared = shape->source_relkind != RELKIND_FOREIGN_TABLE &&
		are_operators_alike(shape->order);
	shape->is_citus = fp_citus_is_distributed(shape->target_relid);
	shape->is_merged = is_all_here(shape->target_relid);

	/* two statements in one would read a range twice */
	if (!shape->is_merged)
		shape->is_key_order = false;

	/*
	 * Of the rows of one key the last in page order wins.  With `append` a
	 * page cannot overrule an earlier one, so where rows of one key may lie
	 * in several pages, those are taken from the last to the first.  Not so
	 * from run to run: what is incremental goes one way.
	 */
	shape->is_order_by_key = true;
	foreach(lc, shape->order)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (!column->is_key || !column->is_same_order)
			shape->is_order_by_key = false;
	}

	/* how another server orders text is not known here */
	if (shape->target_relkind == RELKIND_FOREIGN_TABLE)
	{
		shape->is_foreign_range = shape->is_order_by_key &&
			!fp_upsert_shape_has_text_order(shape);
		shape->is_foreign_keys = !shape->is_foreign_range &&
			fp_upsert_shape_is_postgres_fdw(shape->target_relid);
	}
	shape->is_descending = shape->mode == FP_UPSERT_APPEND &&
		!def->is_incremental &&
		!shape->is_source_key_unique && !shape->is_order_by_key;

	if (shape->target_key == NIL)
		shape->target_key = shape->key;
	shape->has_deletes = shape->mode == FP_UPSERT_REPLACE ||
		def->delete_missing;
	if (shape->has_deletes && shape->is_citus)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an upsert cannot delete rows of target \"%s\" because it is a distributed table",
						shape->target_name),
				 errhint("Use a sql task that deletes what the source does not have.")));
	if (shape->mode == FP_UPSERT_REPLACE)
		learn_replaced(shape, def);

	return shape;
}

/*
 * The rights on the source were checked when it was looked up.  A right on
 * the table or on each column that is used will do.
 */
void
fp_upsert_shape_check_rights(const FpUpsertShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (column->is_inserted)
			require_right(shape, column->attnum, ACL_INSERT, "INSERT");
		if (column->is_updated)
			require_right(shape, column->attnum, ACL_UPDATE, "UPDATE");
		if (column->is_key || column->is_updated)
			require_right(shape, column->attnum, ACL_SELECT, "SELECT");
	}
	if (shape->has_deletes)
		require_right(shape, InvalidAttrNumber, ACL_DELETE, "DELETE");
}

void
fp_upsert_shape_set_spilled(FpUpsertShape *shape, const char *table)
{
	ListCell   *lc;

	shape->source = pstrdup(table);
	shape->source_relid = InvalidOid;
	shape->source_relkind = RELKIND_RELATION;
	shape->is_row_compared = are_operators_alike(shape->order);
	shape->is_foreign = false;
	shape->is_far_sorted = false;
	foreach(lc, shape->columns)
		((FpUpsertColumn *) lfirst(lc))->is_not_null = false;
}

bool
fp_upsert_shape_is_postgres_fdw(Oid relid)
{
	ForeignServer *server = GetForeignServer(GetForeignTable(relid)->serverid);
	Oid			handler = GetForeignDataWrapper(server->fdwid)->fdwhandler;
	char	   *name = get_func_name(handler);

	return name != NULL && strcmp(name, "postgres_fdw_handler") == 0;
}

/*
 * A subquery with OFFSET is not merged with the query around it.
 */
void
fp_upsert_shape_fence(FpUpsertShape *shape)
{
	shape->source = psprintf("(SELECT * FROM %s AS s OFFSET 0)",
							 shape->source);
}

bool
fp_upsert_shape_has_text_order(const FpUpsertShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->order)
	{
		if (OidIsValid(((FpUpsertColumn *) lfirst(lc))->source_collation))
			return true;
	}
	return false;
}

FpUpsertShape *
fp_upsert_shape_of_target(const FpUpsertShape *shape,
						  const char *missing_from)
{
	FpUpsertShape *result = palloc0(sizeof(FpUpsertShape));
	StringInfoData not_null;
	ListCell   *lc;

	result->mode = shape->mode;
	result->page_size = shape->page_size;
	result->is_deleting = true;
	result->target_name = shape->target_name;
	result->target = shape->target;
	result->target_alias = shape->target_alias;
	result->target_relid = shape->target_relid;
	result->target_relkind = shape->target_relkind;
	result->source_relkind = shape->target_relkind;
	result->missing_from = missing_from;

	initStringInfo(&not_null);
	foreach(lc, shape->target_key)
	{
		FpUpsertColumn *column = palloc(sizeof(FpUpsertColumn));

		*column = *(FpUpsertColumn *) lfirst(lc);
		column->source_type = column->target_type;
		column->source_collation = column->target_collation;
		column->source_ops = column->target_ops;
		column->is_same_order = true;
		result->order = lappend(result->order, column);
		appendStringInfo(&not_null, "%st.%s IS DISTINCT FROM NULL",
						 not_null.len > 0 ? " AND " : "", column->quoted);
	}
	result->columns = result->order;
	result->key = result->order;

	/* a unique index may have nulls, which lie in no page */
	result->source = psprintf("(SELECT * FROM %s AS t WHERE %s)",
							  shape->target, not_null.data);
	result->is_row_compared = shape->target_relkind != RELKIND_FOREIGN_TABLE &&
		are_operators_alike(result->order);
	return result;
}

char *
fp_upsert_shape_names(const List *columns)
{
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, columns)
		appendStringInfo(&names, "%s%s",
						 foreach_current_index(lc) > 0 ? ", " : "",
						 ((FpUpsertColumn *) lfirst(lc))->name);
	return names.data;
}

static void
look_up_target(FpUpsertShape *shape, const FpUpsertDef *def)
{
	static const char relkinds[] = {
		RELKIND_RELATION, RELKIND_PARTITIONED_TABLE, RELKIND_FOREIGN_TABLE, 0
	};

	shape->target_name = pstrdup(def->target);
	shape->target_relid = find_relation(def->target, "target", relkinds,
										"a table");
	shape->target_relkind = get_rel_relkind(shape->target_relid);
	shape->target = qualified_name(shape->target_relid);
	shape->target_alias = pstrdup(quote_identifier(get_rel_name(shape->target_relid)));
}

/*
 * The source's row type, and its query as rewritten (a table is a query, too).
 * Raises an error where the current user may not read it.
 */
static void
look_up_source(FpUpsertShape *shape, const FpUpsertDef *def, Query **query,
			   TupleDesc *desc)
{
	static const char relkinds[] = {
		RELKIND_RELATION, RELKIND_PARTITIONED_TABLE, RELKIND_FOREIGN_TABLE,
		RELKIND_VIEW, RELKIND_MATVIEW, 0
	};
	char	   *sql;

	if (is_relation_name(def->source))
	{
		shape->source_relid = find_relation(def->source, "source", relkinds,
											"a table or view");
		shape->source_relkind = get_rel_relkind(shape->source_relid);
		shape->source = qualified_name(shape->source_relid);
		sql = psprintf("SELECT * FROM %s", shape->source);
		*desc = fp_user_sql_describe(sql, "source", true);
	}
	else
	{
		/* the text as given is what its errors should point into */
		*desc = fp_user_sql_describe(def->source, "source", true);
		sql = strip_terminator(def->source);
		/* the line break ends a comment that the text may end with */
		shape->source = psprintf("(%s\n)", sql);
	}
	*query = analyze_source(sql);
}

/*
 * The relation that a text names, locked until the transaction ends.
 */
static Oid
find_relation(const char *name, const char *kind, const char *relkinds,
			  const char *wanted)
{
	RangeVar   *range_var;
	Oid			relid;

	if (!is_relation_name(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("%s \"%s\" of an upsert is not a name", kind, name),
				 errhint("Name %s, with or without its schema.", wanted)));

	range_var = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
	relid = RangeVarGetRelid(range_var, AccessShareLock, true /* missing_ok */ );
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("%s \"%s\" of an upsert does not exist", kind, name),
				 errhint("Create it first, or name it with its schema if that is not in the search_path of the DAG.")));

	if (strchr(relkinds, get_rel_relkind(relid)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s \"%s\" of an upsert is not %s", kind, name, wanted),
				 errhint("Name %s.", wanted)));

	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("%s \"%s\" of an upsert is a temporary table", kind,
						name),
				 errhint("Name a table that other sessions see, too: tasks run in background processes.")));

	return relid;
}

static bool
is_relation_name(const char *text)
{
	List	   *names;

	return SplitIdentifierString(pstrdup(text), '.', &names);
}

/*
 * The text of a single statement without what follows it.
 */
static char *
strip_terminator(const char *sql)
{
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(sql));

	if (raw->stmt_len == 0)
		return pstrdup(sql + raw->stmt_location);
	return pnstrdup(sql + raw->stmt_location, raw->stmt_len);
}

static Query *
analyze_source(const char *sql)
{
	bool		pushed = !ActiveSnapshotSet();
	List	   *queries;

	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_withcb(linitial_node(RawStmt, pg_parse_query(sql)),
											sql, fp_user_sql_parser_setup,
											NULL, NULL);
	if (pushed)
		PopActiveSnapshot();

	return linitial_node(Query, queries);
}

static void
match_columns(FpUpsertShape *shape, Relation target, TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (find_column(shape, NameStr(attribute->attname)) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" comes more than once in the source of an upsert",
							NameStr(attribute->attname)),
					 errhint("Give each column of the SELECT a name of its own.")));
		shape->columns = lappend(shape->columns,
								 make_column(shape, target, attribute));
	}
}

static FpUpsertColumn *
make_column(FpUpsertShape *shape, Relation target, Form_pg_attribute source)
{
	FpUpsertColumn *column = palloc0(sizeof(FpUpsertColumn));
	Form_pg_attribute attribute;
	Oid			source_type;
	Oid			target_type;
	int32		source_typmod = source->atttypmod;
	int32		target_typmod;

	column->name = pstrdup(NameStr(source->attname));
	column->quoted = pstrdup(quote_identifier(column->name));

	column->attnum = get_attnum(RelationGetRelid(target), column->name);
	if (column->attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of the source does not exist in target \"%s\"",
						column->name, shape->target_name),
				 errhint("Columns match by name: add it to the target, or give a SELECT without it as source.")));
	attribute = TupleDescAttr(RelationGetDescr(target), column->attnum - 1);

	source_type = source->atttypid;
	if (!can_coerce_type(1, &source_type, &attribute->atttypid,
						 COERCION_ASSIGNMENT))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" is of type %s in target \"%s\" but of type %s in the source",
						column->name, format_type_be(attribute->atttypid),
						shape->target_name, format_type_be(source_type)),
				 errhint("Cast it in a SELECT that is given as source.")));

	column->source_type = getBaseTypeAndTypmod(source_type, &source_typmod);
	column->source_collation = source->attcollation;
	target_typmod = attribute->atttypmod;
	target_type = getBaseTypeAndTypmod(attribute->atttypid, &target_typmod);
	column->target_type = target_type;
	column->target_collation = attribute->attcollation;

	column->cast = make_cast(column->source_type, source_typmod,
							 target_type, target_typmod);
	column->collate = "";
	if (OidIsValid(column->target_collation) &&
		column->source_collation != column->target_collation)
		column->collate = psprintf(" COLLATE %s",
								   generate_collation_name(column->target_collation));
	column->is_compared_as_text = compare_as_text(target_type,
												  column->target_collation);
	column->is_same_order = are_same_order(column);

	return column;
}

/*
 * What makes a value of the source one of the target's type, as assignment
 * would, for comparison.
 *
 * A cast to a type with a length cuts what is too long, where assignment
 * refuses it; the target's length is left out, so that such a value is found
 * to differ and is refused when it is written.
 */
static char *
make_cast(Oid source_type, int32 source_typmod, Oid target_type,
		  int32 target_typmod)
{
	if (has_length(target_type))
		target_typmod = -1;
	if (source_type == target_type &&
		(target_typmod == -1 || source_typmod == target_typmod))
		return "";

	return psprintf("::%s",
					format_type_extended(target_type, target_typmod,
										 FORMAT_TYPE_TYPEMOD_GIVEN |
										 FORMAT_TYPE_FORCE_QUALIFY));
}

static bool
has_length(Oid type)
{
	Oid			element = get_element_type(type);

	if (OidIsValid(element))
		type = element;
	return type == BPCHAROID || type == VARCHAROID || type == BITOID ||
		type == VARBITOID;
}

/*
 * Whether values are equal only if their text is.  Types such as json, xml
 * and point have no equality at all.  For some that do, it is too weak:
 * citext, and text with a nondeterministic collation, call 'a' and 'A' equal,
 * and yet a change from one to the other must reach the target.  (That 1.0
 * became 1.00, with numeric, is no change.)  An interval of a day equals one of
 * 24 hours, but leads to another time where the clocks change.
 */
static bool
compare_as_text(Oid type, Oid collation)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);
	Oid			element = get_element_type(type);
	char		category;
	bool		is_preferred;

	if (!OidIsValid(entry->eq_opr) || type == INTERVALOID)
		return true;
	if (OidIsValid(element))
		return compare_as_text(getBaseType(element), collation);
	if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
		return true;
	get_type_category_preferred(type, &category, &is_preferred);
	return category == TYPCATEGORY_STRING && type >= FirstNormalObjectId;
}

/*
 * Whether source and target agree on order and equality of a column without
 * a cast, so that an index of either can be used with values of the other.
 */
static bool
are_same_order(const FpUpsertColumn *column)
{
	Oid			source = column->source_type;
	Oid			target = column->target_type;

	if (column->collate[0] != '\0')
		return false;
	if (source == target)
		return column->cast[0] == '\0';
	if (source == TEXTOID || source == VARCHAROID)
		return target == TEXTOID || target == VARCHAROID;
	if (source == INT2OID || source == INT4OID || source == INT8OID)
		return target == INT2OID || target == INT4OID || target == INT8OID;
	return false;
}

static List *
look_up_key(FpUpsertShape *shape, const FpUpsertDef *def, Relation target)
{
	List	   *names = def->key;
	List	   *key = NIL;
	ListCell   *lc;

	if (names == NIL)
		names = primary_key_names(shape, target);

	foreach(lc, names)
	{
		const char *name = lfirst(lc);
		FpUpsertColumn *column;

		if (get_attnum(shape->target_relid, name) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" does not exist in target \"%s\"",
							name, shape->target_name),
					 errhint("Name columns of the target in \"key\".")));
		column = find_column(shape, name);
		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" does not exist in the source of the upsert into \"%s\"",
							name, shape->target_name),
					 errhint("The source must have all columns of the key.")));
		if (column->is_key)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" comes more than once in \"key\"", name),
					 errhint("Name each column of the key once.")));

		column->is_key = true;
		set_operators(&column->target_ops, name, column->target_type);
		key = lappend(key, column);
	}

	return key;
}

/*
 * Names of the columns of the target's primary key, in its order.
 */
static List *
primary_key_names(FpUpsertShape *shape, Relation target)
{
	List	   *names = NIL;
	List	   *indexes = RelationGetIndexList(target);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisprimary)
		{
			for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
				names = lappend(names,
								get_attname(shape->target_relid,
											index->rd_index->indkey.values[i],
											false));
		}
		index_close(index, AccessShareLock);
	}

	if (names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("target \"%s\" of an upsert has no primary key",
						shape->target_name),
				 errhint("Name the columns of a unique index of the target in \"key\", or add a primary key.")));
	return names;
}

/*
 * The page order: page_by, made total by those columns of the key that are
 * not in it.
 */
static List *
look_up_order(FpUpsertShape *shape, const FpUpsertDef *def)
{
	List	   *order = NIL;
	ListCell   *lc;

	foreach(lc, def->page_by)
	{
		FpUpsertColumn *column = find_column(shape, lfirst(lc));

		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("page_by column \"%s\" does not exist in the source of the upsert into \"%s\"",
							(char *) lfirst(lc), shape->target_name),
					 errhint("Name columns of the source in \"page_by\".")));
		if (list_member_ptr(order, column))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" comes more than once in \"page_by\"",
							column->name),
					 errhint("Name each column of the page order once.")));
		order = lappend(order, column);
	}
	order = list_concat_unique_ptr(order, shape->key);

	foreach(lc, order)
	{
		FpUpsertColumn *column = lfirst(lc);

		set_operators(&column->source_ops, column->name, column->source_type);
	}

	return order;
}

/*
 * Generated columns are never written.  A column that is GENERATED ALWAYS AS
 * IDENTITY is inserted, with OVERRIDING SYSTEM VALUE, but cannot be updated.
 */
static void
choose_written(FpUpsertShape *shape, const FpUpsertDef *def, Relation target)
{
	ListCell   *lc;

	foreach(lc, def->update_columns)
	{
		const char *name = lfirst(lc);
		FpUpsertColumn *column = find_column(shape, name);

		if (get_attnum(shape->target_relid, name) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" in \"update_columns\" does not exist in target \"%s\"",
							name, shape->target_name),
					 errhint("Name columns of the target in \"update_columns\".")));
		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" in \"update_columns\" does not exist in the source of the upsert into \"%s\"",
							name, shape->target_name),
					 errhint("Name columns that the source has.")));
		if (column->is_key)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" in \"update_columns\" belongs to the key",
							name),
					 errhint("The key's columns are equal wherever a row is updated.")));
		column->is_updated = true;
	}

	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(target),
													column->attnum - 1);
		bool		is_identity_always =
			attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS;

		column->is_inserted = attribute->attgenerated == '\0';
		if (column->is_inserted && is_identity_always)
			shape->has_identity_always = true;

		if (def->update_columns == NIL)
			column->is_updated = !column->is_key;
		if (!column->is_inserted || is_identity_always ||
			shape->mode == FP_UPSERT_APPEND)
			column->is_updated = false;
		if (column->is_updated)
			shape->has_updated = true;
	}
}

/*
 * What mode replace needs.  The whole source is joined with the target at
 * once, so no page's range comes into it.
 */
static void
learn_replaced(FpUpsertShape *shape, const FpUpsertDef *def)
{
	char	   *sql;

	/* the line break ends a comment that the text may end with */
	shape->replace_where = psprintf("(%s\n)", def->replace_where);
	shape->is_key_order = false;
	shape->is_foreign_range = false;
	shape->is_foreign_keys = false;

	sql = psprintf("SELECT 1 FROM %s AS %s WHERE %s", shape->target,
				   shape->target_alias, shape->replace_where);
	(void) fp_user_sql_describe(sql, "replace_where", true);
}

/*
 * NULL: the source has no such column.
 */
static FpUpsertColumn *
find_column(const FpUpsertShape *shape, const char *name)
{
	ListCell   *lc;

	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (strcmp(column->name, name) == 0)
			return column;
	}
	return NULL;
}

static void
set_operators(FpUpsertOperators *ops, const char *column, Oid type)
{
	TypeCacheEntry *entry;

	entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY |
							  TYPECACHE_LT_OPR | TYPECACHE_GT_OPR |
							  TYPECACHE_EQ_OPR);
	if (!OidIsValid(entry->btree_opf) || !OidIsValid(entry->lt_opr) ||
		!OidIsValid(entry->gt_opr) || !OidIsValid(entry->eq_opr))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("column \"%s\" cannot order the pages of an upsert: its type %s has no order",
						column, format_type_be(type)),
				 errhint("Use columns of a type that a B-tree index can have for \"key\" and \"page_by\".")));

	ops->less = operator_sql(entry, BTLessStrategyNumber);
	ops->less_equal = operator_sql(entry, BTLessEqualStrategyNumber);
	ops->equal = operator_sql(entry, BTEqualStrategyNumber);
	ops->greater_equal = operator_sql(entry, BTGreaterEqualStrategyNumber);
	ops->greater = operator_sql(entry, BTGreaterStrategyNumber);
}

static char *
operator_sql(TypeCacheEntry *entry, StrategyNumber strategy)
{
	Oid			operator = get_opfamily_member(entry->btree_opf,
											   entry->btree_opintype,
											   entry->btree_opintype,
											   strategy);
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *sql;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "could not find operator %d of type %u", strategy,
			 entry->type_id);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	sql = psprintf("OPERATOR(%s.%s)",
				   quote_identifier(get_namespace_name(form->oprnamespace)),
				   NameStr(form->oprname));
	ReleaseSysCache(tuple);

	return sql;
}

/*
 * One operator stands for all columns in (a, b) > ($1, $2).
 */
static bool
are_operators_alike(const List *order)
{
	FpUpsertOperators *first = &((FpUpsertColumn *) linitial(order))->source_ops;
	ListCell   *lc;

	foreach(lc, order)
	{
		FpUpsertOperators *ops = &((FpUpsertColumn *) lfirst(lc))->source_ops;

		if (strcmp(ops->less, first->less) != 0 ||
			strcmp(ops->less_equal, first->less_equal) != 0 ||
			strcmp(ops->greater_equal, first->greater_equal) != 0 ||
			strcmp(ops->greater, first->greater) != 0)
			return false;
	}
	return true;
}

/*
 * Whether neither a table nor any of its partitions is on another server.
 */
static bool
is_all_here(Oid relid)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			return false;
	}
	return true;
}

/*
 * attnum InvalidAttrNumber: a right that only whole tables have.
 */
static void
require_right(const FpUpsertShape *shape, AttrNumber attnum, AclMode right,
			  const char *right_name)
{
	if (pg_class_aclcheck(shape->target_relid, GetUserId(),
						  right) == ACLCHECK_OK)
		return;
	if (attnum != InvalidAttrNumber &&
		pg_attribute_aclcheck(shape->target_relid, attnum, GetUserId(),
							  right) == ACLCHECK_OK)
		return;

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for target \"%s\" of an upsert",
					shape->target_name),
			 errhint("Grant %s on it to role \"%s\".", right_name,
					 GetUserNameFromId(GetUserId(), false))));
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name_or_temp(get_rel_namespace(relid)),
									  get_rel_name(relid));
}
