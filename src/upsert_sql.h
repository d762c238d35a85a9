/*-------------------------------------------------------------------------
 *
 * upsert_sql.h
 *	  The statements of a paged upsert.
 *
 * All take the bounds of a page as parameters: with n columns in the page
 * order, $1..$n is the row after which the page begins (where it has one),
 * $n+1..$2n the last row that belongs to it.  Without a lower bound the
 * parameters $1..$n are there all the same and not used.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_SQL_H
#define FLOWPG_UPSERT_SQL_H

#include "upsert_shape.h"

/* A page of a wide source has no more bytes than this, as they are stored. */
#define FP_UPSERT_PAGE_BYTES (64 * 1024 * 1024)

typedef enum FpUpsertStatement
{
	FP_UPSERT_SQL_END,			/* last row of the page order */
	FP_UPSERT_SQL_BEYOND,		/* first row after $1..$n */
	FP_UPSERT_SQL_BEFORE,		/* last row before the values of the first
								 * nequal columns in $1..$nequal */
	FP_UPSERT_SQL_BOUND,		/* last row of a full page, or of npages of
								 * them; none: there are not so many rows any
								 * more */
	FP_UPSERT_SQL_FIT,			/* last row of the page that is within
								 * FP_UPSERT_PAGE_BYTES with those before it,
								 * the first one at least */
	FP_UPSERT_SQL_LOOK,			/* one row where the page differs from the
								 * target, none where not */
	FP_UPSERT_SQL_WRITE,		/* writes new and changed rows; fails where
								 * another transaction has put a new key there
								 * meanwhile */
	FP_UPSERT_SQL_INSERT,		/* WRITE in two parts, one after the other, */
	FP_UPSERT_SQL_UPDATE,		/* without RETURNING, for foreign targets */
	FP_UPSERT_SQL_WRITE_CONFLICT,	/* the same with ON CONFLICT */
	FP_UPSERT_SQL_DELETE		/* deletes what shape->missing_from has not */
} FpUpsertStatement;

/* Which statement, exactly: those of the same key are the same text. */
typedef struct FpUpsertSqlKey
{
	FpUpsertStatement statement;
	bool		has_lower;
	int			nequal;			/* leading columns that are equal in all rows
								 * looked for; fewer than all.  Of BEFORE:
								 * leading columns that are compared */
	int			npages;			/* of BOUND; 0 is 1 */
} FpUpsertSqlKey;

extern char *fp_upsert_sql(const FpUpsertShape *shape,
						   const FpUpsertSqlKey *key);

/*
 * True: the statement is a SELECT of one row with the number of rows written;
 * false: it is an INSERT or a MERGE.
 */
extern bool fp_upsert_sql_returns_count(const FpUpsertShape *shape,
										FpUpsertStatement statement);

/*
 * The rows p of a range in page order; what is what is selected of each.
 */
extern char *fp_upsert_sql_rows(const FpUpsertShape *shape, bool has_lower,
								const char *what);

/*
 * Copies them into a temporary table, for the transaction; of each key the
 * last in page order.
 */
extern char *fp_upsert_sql_copy(const FpUpsertShape *shape, const char *table,
								bool has_lower);

/* one row where the column is NULL somewhere in the source */
extern char *fp_upsert_sql_find_null(const FpUpsertShape *shape,
									 const FpUpsertColumn *column);

/* reads the whole source, for its cost alone */
extern char *fp_upsert_sql_read_all(const FpUpsertShape *shape,
									bool is_ordered);

/* copies the source's rows into a temporary table, and its index */
extern char *fp_upsert_sql_spill(const FpUpsertShape *shape,
								 const char *table, bool has_lower);
extern char *fp_upsert_sql_spill_index(const FpUpsertShape *shape,
									   const char *table);

/* copies the whole source likewise, of each key the last in page order */
extern char *fp_upsert_sql_collect(const FpUpsertShape *shape,
								   const char *table);

/* copies the keys of the source, in the target's types, and their index */
extern char *fp_upsert_sql_keys(const FpUpsertShape *shape,
								const char *table);
extern char *fp_upsert_sql_keys_index(const FpUpsertShape *shape,
									  const char *table);

/*
 * Mode replace, with the source so collected: deletes the target's rows that
 * match replace_where and are not in the source; a SELECT, of one row with the
 * number of rows written, that writes new and changed rows; the same as INSERT
 * and as UPDATE (FP_UPSERT_SQL_INSERT, UPDATE); a SELECT of a key
 * that is in the source and in a row of the target that does not match.
 */
extern char *fp_upsert_sql_replace_delete(const FpUpsertShape *shape);
extern char *fp_upsert_sql_replace_write(const FpUpsertShape *shape);
extern char *fp_upsert_sql_replace_part(const FpUpsertShape *shape,
										FpUpsertStatement statement);
extern char *fp_upsert_sql_replace_outside(const FpUpsertShape *shape);

/*
 * Mode replace with whole partitions, by the conditions on the target's
 * columns that their rows fulfil: a SELECT of the target's rows that match
 * replace_where, of those whose key the source has, of those that differ from
 * it, and of the source's rows; a SELECT of a row where the source has one for
 * none of the partitions (conditions: a List of char *); an INSERT of the
 * source's rows for one of them into another table.
 */
extern char *fp_upsert_sql_replace_compare(const FpUpsertShape *shape);
extern char *fp_upsert_sql_replace_unplaced(const FpUpsertShape *shape,
											const List *conditions);
extern char *fp_upsert_sql_replace_fill(const FpUpsertShape *shape,
										const char *table,
										const char *condition);

#endif							/* FLOWPG_UPSERT_SQL_H */
