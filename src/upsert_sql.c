/*-------------------------------------------------------------------------
 *
 * upsert_sql.c
 *	  The statements of a paged upsert.
 *
 * A page is joined with the target before anything is written.  There are
 * three ways to do so; upsert_shape.c says which one a table allows.
 *
 * By range (is_key_order): the rows of the target that a page can meet are a
 * range of its unique index with the page's own bounds.  Both ranges are read
 * once in index order and joined.
 *
 * By lookup: the page's rows are collected, then each is looked up by key.
 *
 * Without looking (Citus, and after another transaction has put a row of the
 * page's into the target): one INSERT ... ON CONFLICT.  It locks rows that are
 * equal already, which the others do not touch.
 *
 * New and changed rows are written by one statement, MERGE or, where a target
 * has partitions on other servers, two CTEs; hence under one snapshot:
 * with two, a key that another transaction inserts in between would be found
 * absent by the UPDATE and present by the INSERT, and be lost.  Of foreign
 * targets not all can return what they have written, nor take rows together if
 * they have to: there the INSERT comes first, and the UPDATE finds whatever
 * key was there by then.
 *
 * ORDER BY on the ranges is there for the planner: with sorting made costly
 * (see upsert.c) it must take the index of the whole page order, and not
 * another one of the first column only, which statistics cannot tell from it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"

#include "upsert_sql.h"

/* IS NULL would also be true of a row all of whose fields are null */
#define IS_NULL " IS NOT DISTINCT FROM NULL"

/*
 * Names of CTEs, which hide tables of the same name from a source that is a
 * SELECT.
 */
#define CTE_PAGE "flowpg_page"
#define CTE_CHANGED "flowpg_changed"
#define CTE_ADDED "flowpg_added"

static void append_placed(StringInfo buf, const FpUpsertShape *shape,
						  const char *condition);
static void append_replaced(StringInfo buf, const FpUpsertShape *shape);
static void append_names(StringInfo buf, const List *columns,
						 const char *prefix, const char *suffix);
static void append_range(StringInfo buf, const FpUpsertShape *shape,
						 const FpUpsertSqlKey *key, const char *alias,
						 bool is_row_compared);
static void append_compared(StringInfo buf, const FpUpsertShape *shape,
							const char *alias, bool is_row_compared,
							bool is_lower, int nequal);
static void append_nested(StringInfo buf, const List *order,
						  const char *alias, int i, int first_param,
						  bool is_upward, bool is_included);
static void append_source_range(StringInfo buf, const FpUpsertShape *shape,
								const FpUpsertSqlKey *key);
static void append_page(StringInfo buf, const FpUpsertShape *shape,
						const FpUpsertSqlKey *key);
static void append_latest(StringInfo buf, const FpUpsertShape *shape);
static void append_latest_order(StringInfo buf, const FpUpsertShape *shape);
static void append_key_equal(StringInfo buf, const FpUpsertShape *shape);
static void append_key_match(StringInfo buf, const FpUpsertShape *shape,
							 const char *target_alias,
							 const char *page_alias);
static void append_key_value(StringInfo buf, const FpUpsertColumn *column,
							 const char *alias);
static void append_changed(StringInfo buf, const FpUpsertShape *shape,
						   bool is_excluded);
static void append_target_range(StringInfo buf, const FpUpsertShape *shape,
								const FpUpsertSqlKey *key);
static void append_fit(StringInfo buf, const FpUpsertShape *shape,
					   const FpUpsertSqlKey *key);
static void append_target_keys(StringInfo buf, const FpUpsertShape *shape);
static void append_look(StringInfo buf, const FpUpsertShape *shape,
						const FpUpsertSqlKey *key);
static void append_write(StringInfo buf, const FpUpsertShape *shape,
						 const FpUpsertSqlKey *key);
static void append_merge(StringInfo buf, const FpUpsertShape *shape,
						 const FpUpsertSqlKey *key);
static void append_update_and_insert(StringInfo buf,
									 const FpUpsertShape *shape,
									 const FpUpsertSqlKey *key);
static void append_updated(StringInfo buf, const FpUpsertShape *shape,
						   const char *prefix);
static void append_update(StringInfo buf, const FpUpsertShape *shape,
						  const FpUpsertSqlKey *key);
static void append_insert(StringInfo buf, const FpUpsertShape *shape,
						  const FpUpsertSqlKey *key);
static void append_insert_into(StringInfo buf, const FpUpsertShape *shape);
static void append_write_conflict(StringInfo buf, const FpUpsertShape *shape,
								  const FpUpsertSqlKey *key);
static List *inserted_columns(const FpUpsertShape *shape);
static List *compared_columns(const FpUpsertShape *shape);
static const char *direction(const FpUpsertShape *shape, bool is_reversed);
static bool is_page_collected(const FpUpsertShape *shape);


char *
fp_upsert_sql(const FpUpsertShape *shape, const FpUpsertSqlKey *key)
{
	StringInfoData buf;

	initStringInfo(&buf);
	switch (key->statement)
	{
		case FP_UPSERT_SQL_END:
			appendStringInfoString(&buf, "SELECT ");
			append_names(&buf, shape->order, "s.", "");
			appendStringInfo(&buf, " FROM %s AS s ORDER BY ", shape->source);
			append_names(&buf, shape->order, "s.", direction(shape, true));
			appendStringInfoString(&buf, " LIMIT 1");
			break;
		case FP_UPSERT_SQL_BEYOND:
			appendStringInfoString(&buf, "SELECT ");
			append_names(&buf, shape->order, "s.", "");
			appendStringInfo(&buf, " FROM %s AS s WHERE ", shape->source);
			append_compared(&buf, shape, "s", shape->is_row_compared,
							true /* is_lower */ , 0);
			appendStringInfoString(&buf, " ORDER BY ");
			append_names(&buf, shape->order, "s.", direction(shape, false));
			appendStringInfoString(&buf, " LIMIT 1");
			break;
		case FP_UPSERT_SQL_BEFORE:
			appendStringInfoString(&buf, "SELECT ");
			append_names(&buf, shape->order, "s.", "");
			appendStringInfo(&buf, " FROM %s AS s WHERE ", shape->source);
			append_nested(&buf, list_truncate(list_copy(shape->order),
											  key->nequal),
						  "s", 0, 1, false /* is_upward */ ,
						  false /* is_included */ );
			appendStringInfoString(&buf, " ORDER BY ");
			append_names(&buf, shape->order, "s.", " DESC");
			appendStringInfoString(&buf, " LIMIT 1");
			break;
		case FP_UPSERT_SQL_BOUND:
			appendStringInfoString(&buf, "SELECT ");
			append_names(&buf, shape->order, "s.", "");
			append_source_range(&buf, shape, key);
			appendStringInfo(&buf, " OFFSET " INT64_FORMAT " LIMIT 1",
							 (int64) shape->page_size * Max(key->npages, 1) - 1);
			break;
		case FP_UPSERT_SQL_FIT:
			append_fit(&buf, shape, key);
			break;
		case FP_UPSERT_SQL_LOOK:
			append_look(&buf, shape, key);
			break;
		case FP_UPSERT_SQL_WRITE:
			append_write(&buf, shape, key);
			break;
		case FP_UPSERT_SQL_INSERT:
		case FP_UPSERT_SQL_UPDATE:
			appendStringInfoString(&buf, "WITH " CTE_PAGE " AS MATERIALIZED (");
			append_page(&buf, shape, key);
			appendStringInfoString(&buf, ") ");
			if (key->statement == FP_UPSERT_SQL_INSERT)
				append_insert(&buf, shape, key);
			else
				append_update(&buf, shape, key);
			break;
		case FP_UPSERT_SQL_WRITE_CONFLICT:
			append_write_conflict(&buf, shape, key);
			break;
		case FP_UPSERT_SQL_DELETE:
			appendStringInfo(&buf, "DELETE FROM %s AS t WHERE ",
							 shape->target);
			append_range(&buf, shape, key, "t", shape->is_row_compared);
			appendStringInfo(&buf, " AND NOT EXISTS (SELECT FROM %s AS p WHERE ",
							 shape->missing_from);
			append_key_equal(&buf, shape);
			appendStringInfoChar(&buf, ')');
			break;
	}
	return buf.data;
}

bool
fp_upsert_sql_returns_count(const FpUpsertShape *shape,
							FpUpsertStatement statement)
{
	return statement == FP_UPSERT_SQL_WRITE && !shape->is_merged &&
		shape->has_updated;
}

char *
fp_upsert_sql_rows(const FpUpsertShape *shape, bool has_lower,
				   const char *what)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_WRITE, has_lower, 0};
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT %s FROM (SELECT ", what);
	append_names(&buf, shape->columns, "s.", "");
	append_source_range(&buf, shape, &key);
	appendStringInfoString(&buf, ") AS p");
	return buf.data;
}

char *
fp_upsert_sql_copy(const FpUpsertShape *shape, const char *table,
				   bool has_lower)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_WRITE, has_lower, 0};
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT ",
					 table);
	if (!shape->is_source_key_unique)
		append_latest(&buf, shape);
	append_names(&buf, shape->columns, "s.", "");
	appendStringInfo(&buf, " FROM (SELECT * FROM %s AS s WHERE ",
					 shape->source);
	append_range(&buf, shape, &key, "s", shape->is_row_compared);
	appendStringInfoString(&buf, " OFFSET 0) AS s");
	if (!shape->is_source_key_unique)
		append_latest_order(&buf, shape);
	return buf.data;
}

char *
fp_upsert_sql_find_null(const FpUpsertShape *shape,
						const FpUpsertColumn *column)
{
	return psprintf("SELECT 1 FROM %s AS s WHERE s.%s" IS_NULL " LIMIT 1",
					shape->source, column->quoted);
}

char *
fp_upsert_sql_read_all(const FpUpsertShape *shape, bool is_ordered)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT ");
	append_names(&buf, shape->columns, "s.", "");
	appendStringInfo(&buf, " FROM %s AS s", shape->source);
	if (is_ordered)
	{
		appendStringInfoString(&buf, " ORDER BY ");
		append_names(&buf, shape->order, "s.", "");
	}
	return buf.data;
}

char *
fp_upsert_sql_spill(const FpUpsertShape *shape, const char *table,
					bool has_lower)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE TEMPORARY TABLE %s AS SELECT ", table);
	append_names(&buf, shape->columns, "s.", "");
	appendStringInfo(&buf, " FROM %s AS s", shape->source);
	if (has_lower)
	{
		/* rows with a null are to be found, not left out */
		ListCell   *lc;

		appendStringInfoString(&buf, " WHERE ");
		append_compared(&buf, shape, "s", shape->is_row_compared,
						true /* is_lower */ , 0);
		foreach(lc, shape->order)
			appendStringInfo(&buf, " OR s.%s" IS_NULL,
							 ((FpUpsertColumn *) lfirst(lc))->quoted);
	}
	appendStringInfoString(&buf, " ORDER BY ");
	append_names(&buf, shape->order, "s.", "");
	return buf.data;
}

char *
fp_upsert_sql_spill_index(const FpUpsertShape *shape, const char *table)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE INDEX ON %s (", table);
	append_names(&buf, shape->order, "", "");
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

char *
fp_upsert_sql_collect(const FpUpsertShape *shape, const char *table)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE TEMPORARY TABLE %s AS SELECT ", table);
	if (!shape->is_source_key_unique)
		append_latest(&buf, shape);
	append_names(&buf, shape->columns, "s.", "");
	appendStringInfo(&buf, " FROM %s AS s", shape->source);
	if (!shape->is_source_key_unique)
		append_latest_order(&buf, shape);
	return buf.data;
}

char *
fp_upsert_sql_keys(const FpUpsertShape *shape, const char *table)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE TEMPORARY TABLE %s AS SELECT ", table);
	foreach(lc, shape->target_key)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (foreach_current_index(lc) > 0)
			appendStringInfoString(&buf, ", ");
		append_key_value(&buf, column, "s");
		appendStringInfo(&buf, " AS %s", column->quoted);
	}
	appendStringInfo(&buf, " FROM %s AS s", shape->source);
	return buf.data;
}

char *
fp_upsert_sql_keys_index(const FpUpsertShape *shape, const char *table)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE INDEX ON %s (", table);
	append_names(&buf, shape->target_key, "", "");
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/*
 * In this statement and the one after the next, the target alone is in scope
 * where replace_where stands, so that its columns need not be qualified.
 */
char *
fp_upsert_sql_replace_delete(const FpUpsertShape *shape)
{
	const char *page = strcmp(shape->target_alias, "p") == 0 ? "q" : "p";
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "DELETE FROM %s AS %s WHERE %s"
					 " AND NOT EXISTS (SELECT FROM %s AS %s WHERE ",
					 shape->target, shape->target_alias,
					 shape->replace_where, shape->source, page);
	append_key_match(&buf, shape, shape->target_alias, page);
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

char *
fp_upsert_sql_replace_write(const FpUpsertShape *shape)
{
	FpUpsertSqlKey key = {FP_UPSERT_SQL_WRITE, false, 0};
	StringInfoData buf;

	initStringInfo(&buf);
	append_replaced(&buf, shape);
	append_update_and_insert(&buf, shape, &key);
	return buf.data;
}

char *
fp_upsert_sql_replace_part(const FpUpsertShape *shape,
						   FpUpsertStatement statement)
{
	FpUpsertSqlKey key = {statement, false, 0};
	StringInfoData buf;

	initStringInfo(&buf);
	append_replaced(&buf, shape);
	if (statement == FP_UPSERT_SQL_INSERT)
		append_insert(&buf, shape, &key);
	else
		append_update(&buf, shape, &key);
	return buf.data;
}

char *
fp_upsert_sql_replace_outside(const FpUpsertShape *shape)
{
	const char *page = strcmp(shape->target_alias, "p") == 0 ? "q" : "p";
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT pg_catalog.concat_ws(', '");
	foreach(lc, shape->key)
		appendStringInfo(&buf, ", %s.%s", shape->target_alias,
						 ((FpUpsertColumn *) lfirst(lc))->quoted);
	appendStringInfo(&buf, ") FROM %s AS %s WHERE %s IS NOT TRUE"
					 " AND EXISTS (SELECT FROM %s AS %s WHERE ",
					 shape->target, shape->target_alias,
					 shape->replace_where, shape->source, page);
	append_key_match(&buf, shape, shape->target_alias, page);
	appendStringInfoString(&buf, ") LIMIT 1");
	return buf.data;
}

char *
fp_upsert_sql_replace_compare(const FpUpsertShape *shape)
{
	FpUpsertColumn *first = linitial(shape->key);
	StringInfoData buf;

	/* a column of the source's key has no nulls */
	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT pg_catalog.count(*),"
					 " pg_catalog.count(p.%s), pg_catalog.count(*)"
					 " FILTER (WHERE p.%s IS NOT NULL AND ",
					 first->quoted, first->quoted);
	if (shape->has_updated)
		append_changed(&buf, shape, false /* is_excluded */ );
	else
		appendStringInfoString(&buf, "false");
	appendStringInfo(&buf, "), (SELECT pg_catalog.count(*) FROM %s)"
					 " FROM (SELECT * FROM %s AS %s WHERE %s) AS t"
					 " LEFT JOIN %s AS p ON ",
					 shape->source, shape->target, shape->target_alias,
					 shape->replace_where, shape->source);
	append_key_equal(&buf, shape);
	return buf.data;
}

char *
fp_upsert_sql_replace_unplaced(const FpUpsertShape *shape,
							   const List *conditions)
{
	StringInfoData buf;
	StringInfoData any;
	ListCell   *lc;

	initStringInfo(&any);
	foreach(lc, conditions)
		appendStringInfo(&any, "%s(%s)",
						 foreach_current_index(lc) > 0 ? " OR " : "",
						 (char *) lfirst(lc));

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT 1 FROM %s AS p WHERE ", shape->source);
	append_placed(&buf, shape, any.data);
	appendStringInfoString(&buf, " IS NOT TRUE LIMIT 1");
	return buf.data;
}

char *
fp_upsert_sql_replace_fill(const FpUpsertShape *shape, const char *table,
						   const char *condition)
{
	List	   *columns = inserted_columns(shape);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "INSERT INTO %s (", table);
	append_names(&buf, columns, "", "");
	appendStringInfoString(&buf, ") SELECT ");
	append_names(&buf, columns, "p.", "");
	appendStringInfo(&buf, " FROM %s AS p WHERE ", shape->source);
	append_placed(&buf, shape, condition);
	return buf.data;
}

/*
 * A condition on the target's columns, for a row p of the source.  It names
 * columns of the key only, for the columns by which a table is partitioned
 * belong to each of its keys; in the subquery they are the nearest ones.
 */
static void
append_placed(StringInfo buf, const FpUpsertShape *shape,
			  const char *condition)
{
	ListCell   *lc;

	appendStringInfo(buf, "(SELECT %s FROM (SELECT ", condition);
	foreach(lc, shape->key)
	{
		FpUpsertColumn *column = lfirst(lc);

		appendStringInfo(buf, "%sp.%s%s%s AS %s",
						 foreach_current_index(lc) > 0 ? ", " : "",
						 column->quoted, column->cast, column->collate,
						 column->quoted);
	}
	appendStringInfoString(buf, ") AS c)");
}

/*
 * The CTE of all that mode replace has collected.
 */
static void
append_replaced(StringInfo buf, const FpUpsertShape *shape)
{
	appendStringInfoString(buf, "WITH " CTE_PAGE " AS NOT MATERIALIZED (SELECT ");
	append_names(buf, shape->columns, "s.", "");
	appendStringInfo(buf, " FROM %s AS s) ", shape->source);
}

static void
append_names(StringInfo buf, const List *columns, const char *prefix,
			 const char *suffix)
{
	ListCell   *lc;

	foreach(lc, columns)
		appendStringInfo(buf, "%s%s%s%s",
						 foreach_current_index(lc) > 0 ? ", " : "", prefix,
						 ((FpUpsertColumn *) lfirst(lc))->quoted, suffix);
}

/*
 * The condition that a row lies within the page's bounds.
 */
static void
append_range(StringInfo buf, const FpUpsertShape *shape,
			 const FpUpsertSqlKey *key, const char *alias,
			 bool is_row_compared)
{
	int			norder = list_length(shape->order);
	bool		is_bound = key->statement == FP_UPSERT_SQL_BOUND;
	FpUpsertColumn *first = linitial(shape->order);

	for (int i = 0; i < key->nequal; i++)
	{
		FpUpsertColumn *column = list_nth(shape->order, i);

		appendStringInfo(buf, "%s.%s %s $%d AND ", alias, column->quoted,
						 column->source_ops.equal, i + 1);
	}
	if (key->has_lower)
	{
		append_compared(buf, shape, alias, is_row_compared,
						true /* is_lower */ , key->nequal);
		appendStringInfoString(buf, " AND ");
	}
	append_compared(buf, shape, alias, is_row_compared,
					false /* is_lower */ , is_bound ? 0 : key->nequal);

	/*
	 * A comparison of rows excludes no partition, one of the first column
	 * does.
	 */
	if (is_row_compared && norder > 1 && key->nequal == 0 &&
		(shape->source_relkind == RELKIND_PARTITIONED_TABLE ||
		 shape->target_relkind == RELKIND_PARTITIONED_TABLE))
	{
		if (key->has_lower)
			appendStringInfo(buf, " AND %s.%s %s $1", alias, first->quoted,
							 shape->is_descending ?
							 first->source_ops.less_equal :
							 first->source_ops.greater_equal);
		appendStringInfo(buf, " AND %s.%s %s $%d", alias, first->quoted,
						 shape->is_descending ?
						 first->source_ops.greater_equal :
						 first->source_ops.less_equal, norder + 1);
	}
}

/*
 * One bound: as a comparison of rows, or in the form that a foreign data
 * wrapper can send to its server.  The first nequal columns are known to be
 * equal to the bound.
 */
static void
append_compared(StringInfo buf, const FpUpsertShape *shape, const char *alias,
				bool is_row_compared, bool is_lower, int nequal)
{
	const List *order = shape->order;
	int			norder = list_length(order);
	int			first_param = is_lower ? 1 : norder + 1;
	bool		is_upward = is_lower != shape->is_descending;
	FpUpsertOperators *ops = &((FpUpsertColumn *) linitial(order))->source_ops;
	const char *operator;
	char	   *prefix;

	if (!is_row_compared)
	{
		append_nested(buf, order, alias, nequal, first_param, is_upward,
					  !is_lower);
		return;
	}

	if (is_lower)
		operator = is_upward ? ops->greater : ops->less;
	else
		operator = is_upward ? ops->greater_equal : ops->less_equal;

	prefix = psprintf("%s.", alias);
	appendStringInfoChar(buf, '(');
	append_names(buf, list_copy_tail(order, nequal), prefix, "");
	appendStringInfo(buf, ") %s (", operator);
	for (int i = nequal; i < norder; i++)
		appendStringInfo(buf, "%s$%d", i > nequal ? ", " : "",
						 first_param + i);
	appendStringInfoChar(buf, ')');
	pfree(prefix);
}

/*
 * From column i on: a > $i AND ..., as a >= $i AND (a > $i OR ...).  The first
 * part looks superfluous; it is what an index can use.
 */
static void
append_nested(StringInfo buf, const List *order, const char *alias, int i,
			  int first_param, bool is_upward, bool is_included)
{
	FpUpsertColumn *column = list_nth(order, i);
	FpUpsertOperators *ops = &column->source_ops;
	const char *strict = is_upward ? ops->greater : ops->less;
	const char *inclusive = is_upward ? ops->greater_equal : ops->less_equal;
	int			param = first_param + i;

	if (i == list_length(order) - 1)
	{
		appendStringInfo(buf, "%s.%s %s $%d", alias, column->quoted,
						 is_included ? inclusive : strict, param);
		return;
	}

	appendStringInfo(buf, "%s.%s %s $%d AND (%s.%s %s $%d OR (",
					 alias, column->quoted, inclusive, param,
					 alias, column->quoted, strict, param);
	append_nested(buf, order, alias, i + 1, first_param, is_upward,
				  is_included);
	appendStringInfoString(buf, "))");
}

/*
 * FROM, WHERE and ORDER BY that read a page.
 */
static void
append_source_range(StringInfo buf, const FpUpsertShape *shape,
					const FpUpsertSqlKey *key)
{
	appendStringInfo(buf, " FROM %s AS s WHERE ", shape->source);
	append_range(buf, shape, key, "s", shape->is_row_compared);
	appendStringInfoString(buf, " ORDER BY ");
	append_names(buf, shape->order, "s.", direction(shape, false));
}

/*
 * A SELECT of the page's rows, of each key the last in page order.
 *
 * In the range way the key is the page order, so that rows of one key are
 * equal in it, and any of them is the last.
 */
static void
append_page(StringInfo buf, const FpUpsertShape *shape,
			const FpUpsertSqlKey *key)
{
	if (shape->is_source_key_unique)
	{
		appendStringInfoString(buf, "SELECT ");
		append_names(buf, shape->columns, "s.", "");
		append_source_range(buf, shape, key);
		return;
	}

	if (!is_page_collected(shape))
	{
		appendStringInfoString(buf, "SELECT DISTINCT ON (");
		append_names(buf, shape->order, "s.", "");
		appendStringInfoString(buf, ") ");
		append_names(buf, shape->columns, "s.", "");
		append_source_range(buf, shape, key);
		return;
	}

	appendStringInfoString(buf, "SELECT ");
	append_latest(buf, shape);
	append_names(buf, shape->columns, "s.", "");
	appendStringInfoString(buf, " FROM (SELECT ");
	append_names(buf, shape->columns, "s.", "");
	if (shape->is_foreign && key->statement == FP_UPSERT_SQL_WRITE_CONFLICT)
	{
		/*
		 * Text that another server has sorted need not have the rows of one
		 * key side by side: that is one way to get here.
		 */
		appendStringInfo(buf, " FROM %s AS s WHERE ", shape->source);
		append_range(buf, shape, key, "s", shape->is_row_compared);
		appendStringInfoString(buf, " OFFSET 0");
	}
	else
		append_source_range(buf, shape, key);
	appendStringInfoString(buf, ") AS s");
	append_latest_order(buf, shape);
}

/*
 * DISTINCT ON and ORDER BY that leave of each key the last row in page order.
 */
static void
append_latest(StringInfo buf, const FpUpsertShape *shape)
{
	ListCell   *lc;

	appendStringInfoString(buf, "DISTINCT ON (");
	foreach(lc, shape->key)
	{
		if (foreach_current_index(lc) > 0)
			appendStringInfoString(buf, ", ");
		append_key_value(buf, lfirst(lc), "s");
	}
	appendStringInfoString(buf, ") ");
}

static void
append_latest_order(StringInfo buf, const FpUpsertShape *shape)
{
	ListCell   *lc;

	appendStringInfoString(buf, " ORDER BY ");
	foreach(lc, shape->key)
	{
		append_key_value(buf, lfirst(lc), "s");
		appendStringInfoString(buf, ", ");
	}
	append_names(buf, shape->order, "s.", " DESC");
}

/*
 * The condition that a row p of the page and a row t of the target have the
 * same key.
 */
static void
append_key_equal(StringInfo buf, const FpUpsertShape *shape)
{
	append_key_match(buf, shape, "t", "p");
}

static void
append_key_match(StringInfo buf, const FpUpsertShape *shape,
				 const char *target_alias, const char *page_alias)
{
	ListCell   *lc;

	foreach(lc, shape->key)
	{
		FpUpsertColumn *column = lfirst(lc);

		appendStringInfo(buf, "%s%s.%s %s ",
						 foreach_current_index(lc) > 0 ? " AND " : "",
						 target_alias, column->quoted,
						 column->target_ops.equal);
		append_key_value(buf, column, page_alias);
	}
}

/*
 * A column of the key as the target sees it.
 */
static void
append_key_value(StringInfo buf, const FpUpsertColumn *column,
				 const char *alias)
{
	appendStringInfo(buf, "%s.%s", alias, column->quoted);
	if (!column->is_same_order)
		appendStringInfo(buf, "%s%s", column->cast, column->collate);
}

/*
 * The condition that the source has another value than the target in some
 * column that is updated.  The new values are those of p, or, is_excluded,
 * of ON CONFLICT's excluded row, which has the target's types already.
 */
static void
append_changed(StringInfo buf, const FpUpsertShape *shape, bool is_excluded)
{
	bool		is_first = true;
	ListCell   *lc;

	appendStringInfoChar(buf, '(');
	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);
		/* Citus takes no stable function where it sends a condition */
		bool		is_as_text = column->is_compared_as_text &&
			!(shape->is_citus && column->target_type == INTERVALOID);
		const char *as_text = is_as_text ?
			"::pg_catalog.text COLLATE pg_catalog.\"C\"" : "";

		if (!column->is_updated)
			continue;
		appendStringInfo(buf, "%st.%s%s IS DISTINCT FROM ",
						 is_first ? "" : " OR ", column->quoted, as_text);
		if (is_excluded)
			appendStringInfo(buf, "excluded.%s%s", column->quoted, as_text);
		else
			appendStringInfo(buf, "p.%s%s%s", column->quoted, column->cast,
							 is_as_text ? as_text : column->collate);
		is_first = false;
	}
	appendStringInfoChar(buf, ')');
}

/*
 * In the range way: the same bounds for t; otherwise nothing.  A foreign
 * target has no index that we could know of, but its server should not send
 * more than the range either, or, where the range may be another one there,
 * more than the rows with values that the page's keys have.
 */
static void
append_target_range(StringInfo buf, const FpUpsertShape *shape,
					const FpUpsertSqlKey *key)
{
	if (shape->is_foreign_keys)
	{
		append_target_keys(buf, shape);
		return;
	}
	if (!shape->is_key_order && !shape->is_foreign_range)
		return;
	appendStringInfoString(buf, " AND ");
	append_range(buf, shape, key, "t", !shape->is_foreign_range);
}

/*
 * The page's rows with the bytes up to each; of these, the last one that fits.
 */
static void
append_fit(StringInfo buf, const FpUpsertShape *shape,
		   const FpUpsertSqlKey *key)
{
	ListCell   *lc;

	appendStringInfoString(buf, "SELECT ");
	append_names(buf, shape->order, "f.", "");
	appendStringInfoString(buf, " FROM (SELECT ");
	append_names(buf, shape->order, "s.", "");
	appendStringInfoString(buf, ", pg_catalog.row_number() OVER w AS \"flowpg row\""
						   ", pg_catalog.sum(0");
	foreach(lc, shape->columns)
		appendStringInfo(buf, " OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size(s.%s), 0)",
						 ((FpUpsertColumn *) lfirst(lc))->quoted);
	appendStringInfo(buf, ") OVER w AS \"flowpg bytes\" FROM %s AS s WHERE ",
					 shape->source);
	append_range(buf, shape, key, "s", shape->is_row_compared);
	appendStringInfoString(buf, " WINDOW w AS (ORDER BY ");
	append_names(buf, shape->order, "s.", direction(shape, false));
	appendStringInfo(buf, " ROWS UNBOUNDED PRECEDING)) AS f"
					 " WHERE f.\"flowpg bytes\" OPERATOR(pg_catalog.<=) %d"
					 " OR f.\"flowpg row\" OPERATOR(pg_catalog.=) 1"
					 " ORDER BY f.\"flowpg row\" DESC LIMIT 1",
					 FP_UPSERT_PAGE_BYTES);
}

/*
 * The values have the default collation, implicitly, which is what wrappers
 * can send whatever the column's is; and varchar is compared as text.
 */
static void
append_target_keys(StringInfo buf, const FpUpsertShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->key)
	{
		FpUpsertColumn *column = lfirst(lc);
		const char *collate = OidIsValid(column->target_collation) ?
			" COLLATE pg_catalog.\"default\"" : "";

		appendStringInfo(buf, " AND t.%s %s ANY (ARRAY(SELECT k.k FROM (SELECT ",
						 column->quoted, column->target_ops.equal);
		appendStringInfo(buf, "p.%s%s%s%s AS k FROM " CTE_PAGE " AS p) AS k))",
						 column->quoted, column->cast,
						 column->target_type == VARCHAROID ?
						 "::pg_catalog.text" : "", collate);
	}
}

/*
 * Does the page differ from the target?  Stops at the first row that does.
 */
static void
append_look(StringInfo buf, const FpUpsertShape *shape,
			const FpUpsertSqlKey *key)
{
	if (is_page_collected(shape))
	{
		appendStringInfoString(buf, "WITH " CTE_PAGE " AS MATERIALIZED (");
		append_page(buf, shape, key);
		appendStringInfoString(buf, ") SELECT 1 FROM " CTE_PAGE " AS p");
	}
	else
	{
		appendStringInfoString(buf, "SELECT 1 FROM (");
		append_page(buf, shape, key);
		appendStringInfoString(buf, ") AS p");
	}

	appendStringInfoString(buf, " LEFT JOIN ");
	if (shape->is_key_order)
	{
		appendStringInfoString(buf, "(SELECT ");
		append_names(buf, compared_columns(shape), "t.", "");
		appendStringInfo(buf, " FROM %s AS t WHERE ", shape->target);
		append_range(buf, shape, key, "t", true /* is_row_compared */ );
		appendStringInfoString(buf, " ORDER BY ");
		append_names(buf, shape->order, "t.", direction(shape, false));
		appendStringInfoString(buf, ") AS t");
	}
	else
		appendStringInfo(buf, "%s AS t", shape->target);
	appendStringInfoString(buf, " ON ");
	append_key_equal(buf, shape);
	if (!shape->is_key_order)
		append_target_range(buf, shape, key);

	appendStringInfo(buf, " WHERE t.%s" IS_NULL,
					 ((FpUpsertColumn *) linitial(shape->key))->quoted);
	if (shape->has_updated)
	{
		appendStringInfoString(buf, " OR ");
		append_changed(buf, shape, false /* is_excluded */ );
	}
	appendStringInfoString(buf, " LIMIT 1");
}

/*
 * New rows by INSERT, changed ones by UPDATE.
 */
static void
append_write(StringInfo buf, const FpUpsertShape *shape,
			 const FpUpsertSqlKey *key)
{
	if (is_page_collected(shape))
	{
		appendStringInfoString(buf, "WITH " CTE_PAGE " AS MATERIALIZED (");
		append_page(buf, shape, key);
		appendStringInfoChar(buf, ')');
	}

	if (shape->is_merged)
		append_merge(buf, shape, key);
	else if (shape->has_updated)
		append_update_and_insert(buf, shape, key);
	else
		append_insert(buf, shape, key);
}

/*
 * One join, which reads each side once.  Where both are ranges, that of the
 * target is read in the order of the page and ahead of it, so that it does not
 * run into the rows that are inserted meanwhile.
 */
static void
append_merge(StringInfo buf, const FpUpsertShape *shape,
			 const FpUpsertSqlKey *key)
{
	appendStringInfo(buf, " MERGE INTO %s AS t USING ", shape->target);
	if (is_page_collected(shape))
		appendStringInfoString(buf, CTE_PAGE);
	else
	{
		appendStringInfoChar(buf, '(');
		append_page(buf, shape, key);
		appendStringInfoChar(buf, ')');
	}
	appendStringInfoString(buf, " AS p ON ");
	append_key_equal(buf, shape);
	append_target_range(buf, shape, key);

	if (shape->has_updated)
	{
		appendStringInfoString(buf, " WHEN MATCHED AND ");
		append_changed(buf, shape, false /* is_excluded */ );
		appendStringInfoString(buf, " THEN UPDATE SET ");
		append_updated(buf, shape, "p.");
	}
	appendStringInfoString(buf, " WHEN NOT MATCHED THEN INSERT (");
	append_names(buf, inserted_columns(shape), "", "");
	appendStringInfo(buf, ")%s VALUES (",
					 shape->has_identity_always ?
					 " OVERRIDING SYSTEM VALUE" : "");
	append_names(buf, inserted_columns(shape), "p.", "");
	appendStringInfoChar(buf, ')');
}

/*
 * What follows the CTE of a page: a SELECT of the number of rows written.
 */
static void
append_update_and_insert(StringInfo buf, const FpUpsertShape *shape,
						 const FpUpsertSqlKey *key)
{
	if (shape->has_updated)
	{
		appendStringInfoString(buf, ", " CTE_CHANGED " AS (");
		append_update(buf, shape, key);
		appendStringInfoString(buf, " RETURNING 1)");
	}
	else
		appendStringInfoString(buf, ", " CTE_CHANGED " AS (SELECT WHERE false)");
	appendStringInfoString(buf, ", " CTE_ADDED " AS (");
	append_insert(buf, shape, key);
	appendStringInfoString(buf, " RETURNING 1) SELECT"
						   " (SELECT pg_catalog.count(*) FROM " CTE_CHANGED ")"
						   " OPERATOR(pg_catalog.+)"
						   " (SELECT pg_catalog.count(*) FROM " CTE_ADDED ")");
}

static void
append_update(StringInfo buf, const FpUpsertShape *shape,
			  const FpUpsertSqlKey *key)
{
	appendStringInfo(buf, "UPDATE %s AS t SET ", shape->target);
	append_updated(buf, shape, "p.");
	appendStringInfoString(buf, " FROM " CTE_PAGE " AS p WHERE ");
	append_key_equal(buf, shape);
	append_target_range(buf, shape, key);
	appendStringInfoString(buf, " AND ");
	append_changed(buf, shape, false /* is_excluded */ );
}

/*
 * The columns that an update sets, to those of the page.
 */
static void
append_updated(StringInfo buf, const FpUpsertShape *shape, const char *prefix)
{
	bool		is_first = true;
	ListCell   *lc;

	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (!column->is_updated)
			continue;
		appendStringInfo(buf, "%s%s = %s%s", is_first ? "" : ", ",
						 column->quoted, prefix, column->quoted);
		is_first = false;
	}
}

static void
append_insert(StringInfo buf, const FpUpsertShape *shape,
			  const FpUpsertSqlKey *key)
{
	append_insert_into(buf, shape);
	append_names(buf, inserted_columns(shape), "p.", "");
	appendStringInfo(buf,
					 " FROM " CTE_PAGE " AS p WHERE NOT EXISTS (SELECT FROM %s AS t WHERE ",
					 shape->target);
	append_key_equal(buf, shape);
	append_target_range(buf, shape, key);
	appendStringInfoChar(buf, ')');
}

static void
append_insert_into(StringInfo buf, const FpUpsertShape *shape)
{
	appendStringInfo(buf, " INSERT INTO %s AS t (", shape->target);
	append_names(buf, inserted_columns(shape), "", "");
	appendStringInfo(buf, ")%s SELECT ",
					 shape->has_identity_always ?
					 " OVERRIDING SYSTEM VALUE" : "");
}

/*
 * A page with ON CONFLICT; no CTE, which Citus could not push down.
 */
static void
append_write_conflict(StringInfo buf, const FpUpsertShape *shape,
					  const FpUpsertSqlKey *key)
{
	bool		is_first = true;
	ListCell   *lc;

	append_insert_into(buf, shape);
	append_names(buf, inserted_columns(shape), "s.", "");
	if (shape->is_source_key_unique)
	{
		appendStringInfo(buf, " FROM %s AS s WHERE ", shape->source);
		append_range(buf, shape, key, "s", shape->is_row_compared);
	}
	else
	{
		appendStringInfoString(buf, " FROM (");
		append_page(buf, shape, key);
		appendStringInfoString(buf, ") AS s");
	}

	appendStringInfoString(buf, " ON CONFLICT (");
	append_names(buf, shape->key, "", "");
	if (!shape->has_updated)
	{
		appendStringInfoString(buf, ") DO NOTHING");
		return;
	}
	appendStringInfoString(buf, ") DO UPDATE SET ");
	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (!column->is_updated)
			continue;
		appendStringInfo(buf, "%s%s = excluded.%s", is_first ? "" : ", ",
						 column->quoted, column->quoted);
		is_first = false;
	}
	appendStringInfoString(buf, " WHERE ");
	append_changed(buf, shape, true /* is_excluded */ );
}

static List *
inserted_columns(const FpUpsertShape *shape)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, shape->columns)
	{
		if (((FpUpsertColumn *) lfirst(lc))->is_inserted)
			columns = lappend(columns, lfirst(lc));
	}
	return columns;
}

/*
 * All that need be read of the target; the user may have no right to more.
 */
static List *
compared_columns(const FpUpsertShape *shape)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (column->is_key || column->is_updated)
			columns = lappend(columns, column);
	}
	return columns;
}

static const char *
direction(const FpUpsertShape *shape, bool is_reversed)
{
	return shape->is_descending != is_reversed ? " DESC" : "";
}

/*
 * Whether a page's rows are collected before they are joined.  Where it is
 * not, the page is read twice, which costs less than to keep it.
 */
static bool
is_page_collected(const FpUpsertShape *shape)
{
	return !shape->is_key_order;
}
