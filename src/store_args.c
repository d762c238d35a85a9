/*-------------------------------------------------------------------------
 *
 * store_args.c
 *	  What the *_store.c files share: arguments of statements, and running a
 *	  statement as the extension's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "store_args.h"

void
fp_store_args_add(FpStoreArgs *args, Datum value, bool isnull)
{
	Assert(args->n < FP_MAX_STATEMENT_ARGS);
	args->values[args->n] = isnull ? (Datum) 0 : value;
	args->nulls[args->n] = isnull ? 'n' : ' ';
	args->n++;
}

void
fp_store_args_add_text(FpStoreArgs *args, const char *value)
{
	fp_store_args_add(args,
					  value == NULL ? (Datum) 0 : fp_datum_text(value),
					  value == NULL);
}

void
fp_store_args_add_bool(FpStoreArgs *args, bool value)
{
	fp_store_args_add(args, BoolGetDatum(value), false);
}

void
fp_store_args_add_int(FpStoreArgs *args, int value)
{
	fp_store_args_add(args, Int32GetDatum(value), false);
}

void
fp_store_args_add_count(FpStoreArgs *args, int value)
{
	fp_store_args_add(args, Int32GetDatum(value), value == -1);
}

void
fp_store_args_add_int64(FpStoreArgs *args, int64 value)
{
	fp_store_args_add(args, Int64GetDatum(value), false);
}

void
fp_store_args_add_id(FpStoreArgs *args, int64 value)
{
	fp_store_args_add(args, Int64GetDatum(value), value == 0);
}

void
fp_store_args_add_oid(FpStoreArgs *args, Oid value)
{
	fp_store_args_add(args, ObjectIdGetDatum(value), false);
}

void
fp_store_args_add_time(FpStoreArgs *args, TimestampTz value)
{
	fp_store_args_add(args, TimestampTzGetDatum(value), false);
}

void
fp_store_args_add_optional_time(FpStoreArgs *args, TimestampTz value)
{
	fp_store_args_add(args, TimestampTzGetDatum(value),
					  TIMESTAMP_IS_NOBEGIN(value));
}

void
fp_store_args_add_interval(FpStoreArgs *args, const Interval *value)
{
	fp_store_args_add(args, PointerGetDatum(value), value == NULL);
}

void
fp_store_args_add_texts(FpStoreArgs *args, List *values)
{
	Datum	   *elements = palloc(sizeof(Datum) * (list_length(values) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, values)
		elements[n++] = fp_datum_text(lfirst(lc));
	fp_store_args_add_array(args, elements, n, TEXTOID);
}

void
fp_store_args_add_array(FpStoreArgs *args, Datum *elements, int n, Oid type)
{
	ArrayType  *array;

	switch (type)
	{
		case TEXTOID:
			array = construct_array(elements, n, type, -1, false,
									TYPALIGN_INT);
			break;
		case INT4OID:
		case OIDOID:
			array = construct_array(elements, n, type, sizeof(int32), true,
									TYPALIGN_INT);
			break;
		default:
			Assert(type == INT8OID || type == TIMESTAMPTZOID);
			array = construct_array(elements, n, type, sizeof(int64),
									FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
			break;
	}
	fp_store_args_add(args, PointerGetDatum(array), false);
}

uint64
fp_store_execute(FpStatement *statement, const FpStoreArgs *args,
				 FpRowCallback callback, void *arg)
{
	FpOwnerScope scope;
	uint64		result;

	Assert(args->n == statement->nargs);
	fp_spi_begin_owner(&scope);
	result = fp_spi_execute(statement, args->values, args->nulls, callback,
							arg);
	fp_spi_end_owner(&scope);
	return result;
}

uint64
fp_store_execute_now(FpStatement *statement, const FpStoreArgs *args,
					 FpRowCallback callback, void *arg)
{
	FpOwnerScope scope;
	uint64		result;

	Assert(args->n == statement->nargs);
	fp_spi_begin_owner(&scope);
	result = fp_spi_execute_now(statement, args->values, args->nulls, callback,
								arg);
	fp_spi_end_owner(&scope);
	return result;
}

uint64
fp_store_execute_at(FpStatement *at, FpStatement *by_key, FpStoreArgs *args,
					const ItemPointerData *place, FpRowCallback callback,
					void *arg)
{
	if (place != NULL && ItemPointerIsValid(place))
	{
		uint64		nrows;

		fp_store_args_add(args, PointerGetDatum(place), false);
		nrows = fp_store_execute(at, args, callback, arg);
		args->n--;
		if (nrows > 0)
			return nrows;
	}
	return fp_store_execute(by_key, args, callback, arg);
}

void
fp_store_append_text(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;

	*list = lappend(*list, fp_row_text(row, 1));
}

void
fp_store_keep_text(const FpRow *row, void *arg)
{
	*(char **) arg = fp_row_text(row, 1);
}

void
fp_store_keep_bool(const FpRow *row, void *arg)
{
	*(bool *) arg = fp_row_bool(row, 1);
}

void
fp_store_keep_int64(const FpRow *row, void *arg)
{
	*(int64 *) arg = fp_row_int64(row, 1);
}

void
fp_store_keep_place(const FpRow *row, void *arg)
{
	bool		isnull;

	ItemPointerCopy((ItemPointer) DatumGetPointer(fp_row_datum(row, 1, &isnull)),
					(ItemPointer) arg);
}
