/*-------------------------------------------------------------------------
 *
 * upsert_shape.h
 *	  What an upsert reads and writes: its definition, looked up in the
 *	  catalogs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_SHAPE_H
#define FLOWPG_UPSERT_SHAPE_H

#include "access/attnum.h"
#include "nodes/pg_list.h"
#include "nodes/plannodes.h"

#include "upsert.h"

/* Comparison operators of a column, as SQL that names them with schema. */
typedef struct FpUpsertOperators
{
	char	   *less;
	char	   *less_equal;
	char	   *equal;
	char	   *greater_equal;
	char	   *greater;
} FpUpsertOperators;

/* A column of the source, and the column of that name in the target. */
typedef struct FpUpsertColumn
{
	char	   *name;
	char	   *quoted;			/* name as SQL */

	/* in the source; domains are their base type */
	Oid			source_type;
	Oid			source_collation;
	bool		is_not_null;	/* a constraint of a plain table says so */
	Oid			origin_relid;	/* the one table of the source whose column it
								 * is, as it is; InvalidOid: none is known */
	AttrNumber	origin_attnum;
	FpUpsertOperators source_ops;	/* of columns of the page order only */

	/* in the target */
	AttrNumber	attnum;
	Oid			target_type;	/* domains are their base type */
	Oid			target_collation;
	char	   *cast;			/* "::type" that makes a value of the source
								 * comparable with the target's; "" for none */
	char	   *collate;		/* " COLLATE x" for the same; "" for none */
	FpUpsertOperators target_ops;	/* of columns of the key only */
	bool		is_same_order;	/* both sides sort and compare alike, without
								 * a cast, so that an index of either serves */
	bool		is_compared_as_text;	/* see compare_as_text() */

	/* what is done with it */
	bool		is_key;
	bool		is_inserted;
	bool		is_updated;
} FpUpsertColumn;

typedef struct FpUpsertShape
{
	FpUpsertMode mode;
	int			page_size;
	const char *replace_where;	/* mode replace only */

	/* the source: what may stand in FROM before an alias */
	char	   *source;
	Oid			source_relid;	/* InvalidOid: a SELECT */
	char		source_relkind;
	bool		is_source_key_unique;	/* no page holds a key twice */
	bool		is_wide;		/* rows may be so large that a page must be
								 * bounded by bytes, too */
	bool		is_row_compared;	/* (a, b) > ($1, $2), not a >= $1 AND ... */
	bool		is_read_once;	/* not by pages, see fp_upsert_read_choose() */
	bool		is_foreign;		/* reads from other servers, likewise */
	bool		is_far_sorted;	/* one that may sort all that is ahead to find
								 * the end of a page */

	/* the target */
	char	   *target_name;	/* as the definition has it, for errors */
	char	   *target;			/* as SQL */
	char	   *target_alias;	/* its own name, by which replace_where may
								 * qualify columns */
	Oid			target_relid;
	char		target_relkind;
	bool		has_identity_always;	/* among the columns inserted */
	bool		is_citus;
	bool		is_merged;		/* MERGE can write it: all of it is here */
	bool		is_key_order;	/* the page order is the key, in the order of
								 * the target's index: a page is a range of
								 * the target, too */
	bool		is_order_by_key;	/* the page order is the key's columns, on
									 * which both sides agree: a key lies in
									 * one page, whatever else changes */
	bool		is_foreign_range;	/* the same for a target on another server,
									 * by the columns' types alone */
	bool		is_foreign_keys;	/* a target on another server, which is asked
									 * for the page's keys one by one; where
									 * neither, it sends all its rows for each
									 * page */
	bool		is_deleting;	/* pages of the target, see
								 * fp_upsert_shape_of_target() */
	const char *missing_from;	/* likewise */
	bool		has_deletes;	/* rows of the target are deleted */
	bool		is_descending;	/* pages are taken from the last to the first */

	List	   *columns;		/* FpUpsertColumn *, in the source's order */
	List	   *order;			/* those of the page order: page_by, key */
	List	   *key;			/* those of the key */
	List	   *target_key;		/* the same in the order of the target's unique
								 * index, if it has that of a B-tree */
	bool		has_updated;	/* some column is_updated */
} FpUpsertShape;

/*
 * Looks up a definition's names as the current user with the current
 * search_path and raises an error for what cannot work.  In the current
 * memory context; locks on source and target stay until the transaction ends.
 */
extern FpUpsertShape *fp_upsert_shape_make(const FpUpsertDef *def);

/*
 * Whether the current user may do with source and target what the upsert
 * does; an error where not.
 */
extern void fp_upsert_shape_check_rights(const FpUpsertShape *shape);

/*
 * Makes the shape read from a table that holds the source's rows.
 */
extern void fp_upsert_shape_set_spilled(FpUpsertShape *shape,
										const char *table);

/*
 * Whether a foreign table is of postgres_fdw, whose SQL is that of this
 * server.
 */
extern bool fp_upsert_shape_is_postgres_fdw(Oid relid);

/*
 * Makes everything but the reading itself be done here, not on the server that
 * the source's rows come from.
 */
extern void fp_upsert_shape_fence(FpUpsertShape *shape);

/*
 * Whether the page order has columns whose order is a matter of collation.
 */
extern bool fp_upsert_shape_has_text_order(const FpUpsertShape *shape);

/*
 * A shape for going through the target itself by pages, in the order of its
 * key; missing_from is a table with the columns of the key, in the target's
 * types.
 */
extern FpUpsertShape *fp_upsert_shape_of_target(const FpUpsertShape *shape,
												const char *missing_from);

/* the names of columns as a list for people: a, b */
extern char *fp_upsert_shape_names(const List *columns);

#endif							/* FLOWPG_UPSERT_SHAPE_H */
