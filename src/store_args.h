/*-------------------------------------------------------------------------
 *
 * store_args.h
 *	  What the *_store.c files share: arguments of statements, and running a
 *	  statement as the extension's owner.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_STORE_ARGS_H
#define FLOWPG_STORE_ARGS_H

#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/timestamp.h"

#include "spi_util.h"

/* Arguments of a statement, added in order; initialize with {0}. */
typedef struct FpStoreArgs
{
	int			n;
	Datum		values[FP_MAX_STATEMENT_ARGS];
	char		nulls[FP_MAX_STATEMENT_ARGS];
} FpStoreArgs;

extern void fp_store_args_add(FpStoreArgs *args, Datum value, bool isnull);
/* NULL is NULL */
extern void fp_store_args_add_text(FpStoreArgs *args, const char *value);
extern void fp_store_args_add_bool(FpStoreArgs *args, bool value);
extern void fp_store_args_add_int(FpStoreArgs *args, int value);
/* a number that is -1 where there is none */
extern void fp_store_args_add_count(FpStoreArgs *args, int value);
extern void fp_store_args_add_int64(FpStoreArgs *args, int64 value);
/* a number that is 0 where there is none */
extern void fp_store_args_add_id(FpStoreArgs *args, int64 value);
extern void fp_store_args_add_oid(FpStoreArgs *args, Oid value);
extern void fp_store_args_add_time(FpStoreArgs *args, TimestampTz value);
/* DT_NOBEGIN is NULL */
extern void fp_store_args_add_optional_time(FpStoreArgs *args,
											TimestampTz value);
/* NULL is NULL */
extern void fp_store_args_add_interval(FpStoreArgs *args,
									   const Interval *value);
/* a List of char *; NIL is an empty array */
extern void fp_store_args_add_texts(FpStoreArgs *args, List *values);
/* an array of text, integer, oid, bigint or timestamptz, none of them NULL */
extern void fp_store_args_add_array(FpStoreArgs *args, Datum *elements,
									int n, Oid type);

/* fp_spi_execute in an owner scope of its own */
extern uint64 fp_store_execute(FpStatement *statement,
							   const FpStoreArgs *args,
							   FpRowCallback callback, void *arg);

/* and fp_spi_execute_now */
extern uint64 fp_store_execute_now(FpStatement *statement,
								   const FpStoreArgs *args,
								   FpRowCallback callback, void *arg);

/*
 * Writes or reads the row of a key that is kept at hand: place is where it was
 * last seen, a hint that is not valid at first.  at has the arguments of
 * by_key, and the place; where it finds no row, by_key looks it up.
 *
 * By key, each dead version of the row is walked past that some transaction
 * could still see, and as long as one holds its snapshot, those are as many as
 * there were updates since.
 */
extern uint64 fp_store_execute_at(FpStatement *at, FpStatement *by_key,
								  FpStoreArgs *args,
								  const ItemPointerData *place,
								  FpRowCallback callback, void *arg);

/*
 * Callbacks.  append_text adds column 1 to the List that arg points to; the
 * others put it into the char *, bool, int64 or ItemPointerData that arg
 * points to.
 */
extern void fp_store_append_text(const FpRow *row, void *arg);
extern void fp_store_keep_text(const FpRow *row, void *arg);
extern void fp_store_keep_bool(const FpRow *row, void *arg);
extern void fp_store_keep_int64(const FpRow *row, void *arg);
extern void fp_store_keep_place(const FpRow *row, void *arg);

#endif							/* FLOWPG_STORE_ARGS_H */
