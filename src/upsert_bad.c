/*-------------------------------------------------------------------------
 *
 * upsert_bad.c
 *	  Rows of a page that cannot be written: found, named, and kept apart.
 *
 * Runs in workers, in the transaction of a page that has failed once as a
 * whole.  The page is written in halves, and those that fail in halves again,
 * each part in a subtransaction, until what fails is one row.  A page without
 * bad rows never comes here.
 *
 * The rows of another server are copied first: what is a part of them must not
 * depend on how that server compares text, and parts are read often.  So are
 * rows of which several may have one key: only the last one is to be written.
 *
 * A row may refer to another one of its page that is written later; so rows
 * that have failed are tried again as long as that helps.  Constraints that
 * are deferred are checked part by part.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

#include "clock.h"
#include "spi_util.h"
#include "task_run_store.h"
#include "upsert_bad.h"
#include "upsert_bound.h"

/* A row that could not be written. */
typedef struct BadRow
{
	int			index;			/* in rows */
	ErrorData  *error;
} BadRow;

/* where the rows of another server are meanwhile */
#define COPY_TABLE "pg_temp.flowpg_upsert_page"

/* The page, and its rows in page order as bounds. */
typedef struct Parts
{
	FpUpsertPage *page;			/* read from the copy, if there is one */
	char	 ***rows;
	int			nrows;
	int			size;
	bool		is_kept;
	uint64		nwritten;
	List	   *bad;			/* of BadRow * */

	/* the part under way */
	int			from;
	int			n;
} Parts;

/* A look at one row. */
typedef struct Look
{
	Parts	   *parts;
	const char *sql;
	char	  **lower;
	char	  **upper;
	char	   *text;			/* the first column of the result */
} Look;

static FpUpsertPage *copy_page(FpUpsertPage *page);
static void collect_rows(Parts *parts);
static void append_row(const FpRow *row, void *arg);
static void write_halves(Parts *parts, int from, int n);
static void write_or_divide(Parts *parts, int from, int n);
static ErrorData *try_part(Parts *parts, int from, int n);
static void write_part(void *arg);
static bool try_again(Parts *parts);
static char **lower_of(const Parts *parts, int from);
static void raise_error(Parts *parts, const BadRow *bad);
static void keep_row(Parts *parts, const BadRow *bad);
static char *key_json(const Parts *parts, const BadRow *bad);
static char *key_text(const Parts *parts, const BadRow *bad);
static char *find_columns(Parts *parts, const BadRow *bad);
static char *constrained_columns(Oid relid, const char *constraint);
static bool cannot_hold(Parts *parts, const BadRow *bad,
						const FpUpsertColumn *column);
static char *look_at_row(Parts *parts, const BadRow *bad, const char *what,
						 bool *has_failed);
static void look(void *arg);
static void keep_text(const FpRow *row, void *arg);


/*
 * Data exceptions, constraints and what triggers raise; also a value that is
 * too large for an index.
 */
bool
fp_upsert_bad_is_row_error(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_DATA_EXCEPTION ||
		category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		category == ERRCODE_WITH_CHECK_OPTION_VIOLATION ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_RAISE_EXCEPTION) ||
		sqlerrcode == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/*
 * Other servers may not undo what a part has done.
 */
bool
fp_upsert_bad_can_find(const FpUpsertShape *shape)
{
	return !shape->is_deleting && !shape->is_citus &&
		shape->target_relkind != RELKIND_FOREIGN_TABLE;
}

uint64
fp_upsert_bad_write(FpUpsertPage *page, bool is_kept, int64 *nbad)
{
	Parts		parts = {0};
	ListCell   *lc;

	parts.page = page;
	parts.is_kept = is_kept;
	(void) fp_upsert_exec_once(page->exec, "SET CONSTRAINTS ALL IMMEDIATE",
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	if (page->exec->shape->is_foreign ||
		(!page->exec->shape->is_source_key_unique &&
		 !page->exec->shape->is_order_by_key))
		parts.page = copy_page(page);
	collect_rows(&parts);
	write_halves(&parts, 0, parts.nrows);
	while (try_again(&parts))
		;

	if (parts.bad != NIL && !is_kept)
		raise_error(&parts, linitial(parts.bad));
	foreach(lc, parts.bad)
		keep_row(&parts, lfirst(lc));
	*nbad += list_length(parts.bad);
	if (parts.page != page)
		fp_upsert_exec_free(parts.page->exec);
	return parts.nwritten;
}

/*
 * A page that reads the same rows from a temporary table, which goes with the
 * transaction.
 */
static FpUpsertPage *
copy_page(FpUpsertPage *page)
{
	FpUpsertExec *exec = palloc0(sizeof(FpUpsertExec));
	FpUpsertPage *copy = palloc0(sizeof(FpUpsertPage));
	FpUpsertShape *shape = palloc(sizeof(FpUpsertShape));
	FpUpsertSqlKey end = {FP_UPSERT_SQL_END, false, 0};

	*shape = *page->exec->shape;
	(void) fp_upsert_exec_range(page->exec,
								fp_upsert_sql_copy(shape, COPY_TABLE,
												   page->last != NULL),
								page->last, page->upper,
								FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();
	(void) fp_upsert_exec_once(page->exec,
							   fp_upsert_sql_spill_index(shape, COPY_TABLE),
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();

	fp_upsert_shape_set_spilled(shape, COPY_TABLE);
	shape->is_source_key_unique = true;
	fp_upsert_exec_init(exec, shape, page->exec->run);
	copy->exec = exec;
	copy->number = page->number;
	copy->upper = fp_upsert_exec_find(exec, &end, NULL, NULL);
	return copy;
}

static void
collect_rows(Parts *parts)
{
	FpUpsertPage *page = parts->page;
	StringInfoData names;
	ListCell   *lc;

	parts->size = 1024;
	parts->rows = palloc(parts->size * sizeof(char **));
	/* all of them have been taken away since */
	if (page->upper == NULL)
		return;
	initStringInfo(&names);
	foreach(lc, page->exec->shape->order)
		appendStringInfo(&names, "%sp.%s",
						 foreach_current_index(lc) > 0 ? ", " : "",
						 ((FpUpsertColumn *) lfirst(lc))->quoted);
	(void) fp_upsert_exec_range(page->exec,
								fp_upsert_sql_rows(page->exec->shape,
												   page->last != NULL,
												   names.data),
								page->last, page->upper, FP_UPSERT_PLAN_READ,
								append_row, parts);
}

/*
 * Row callback.  Rows that are equal in the page order are one.
 */
static void
append_row(const FpRow *row, void *arg)
{
	Parts	   *parts = arg;
	FpUpsertExec *exec = parts->page->exec;
	char	  **bound = palloc(exec->norder * sizeof(char *));

	for (int i = 0; i < exec->norder; i++)
	{
		bool		isnull;
		Datum		value = fp_row_datum(row, i + 1, &isnull);

		/* it lies in no page */
		if (isnull)
			return;
		bound[i] = fp_upsert_exec_format(exec, i, value);
	}
	if (parts->nrows > 0 &&
		fp_upsert_bound_equal(parts->rows[parts->nrows - 1], bound,
							  exec->norder))
		return;

	if (parts->nrows == parts->size)
	{
		parts->size *= 2;
		parts->rows = repalloc_huge(parts->rows,
									parts->size * sizeof(char **));
	}
	parts->rows[parts->nrows++] = bound;
}

static void
write_halves(Parts *parts, int from, int n)
{
	write_or_divide(parts, from, n / 2);
	write_or_divide(parts, from + n / 2, n - n / 2);
}

static void
write_or_divide(Parts *parts, int from, int n)
{
	ErrorData  *error;
	BadRow	   *bad;

	CHECK_FOR_INTERRUPTS();
	/* the first one that fails is all that is asked for */
	if (n == 0 || (parts->bad != NIL && !parts->is_kept))
		return;
	error = try_part(parts, from, n);
	if (error == NULL)
		return;
	if (n > 1)
	{
		FreeErrorData(error);
		write_halves(parts, from, n);
		return;
	}

	bad = palloc(sizeof(BadRow));
	bad->index = from;
	bad->error = error;
	parts->bad = lappend(parts->bad, bad);
}

static ErrorData *
try_part(Parts *parts, int from, int n)
{
	parts->from = from;
	parts->n = n;
	return fp_spi_catch(write_part, parts, false /* is_undone */ ,
						fp_upsert_bad_is_row_error);
}

static void
write_part(void *arg)
{
	Parts	   *parts = arg;
	char	  **upper = parts->rows[parts->from + parts->n - 1];
	uint64		rows;

	rows = fp_upsert_page_write_part(parts->page,
									 lower_of(parts, parts->from), upper);
	parts->nwritten += rows;
}

/*
 * True: some row could be written now that others are there.
 */
static bool
try_again(Parts *parts)
{
	List	   *left = NIL;
	bool		has_helped = false;
	ListCell   *lc;

	if (!parts->is_kept)
		return false;
	foreach(lc, parts->bad)
	{
		BadRow	   *bad = lfirst(lc);
		ErrorData  *error = try_part(parts, bad->index, 1);

		if (error == NULL)
		{
			has_helped = true;
			continue;
		}
		FreeErrorData(bad->error);
		bad->error = error;
		left = lappend(left, bad);
	}
	parts->bad = left;
	return has_helped && left != NIL;
}

/*
 * The row before the one at from; NULL: there is none.
 */
static char **
lower_of(const Parts *parts, int from)
{
	return from == 0 ? parts->page->last : parts->rows[from - 1];
}

static void
raise_error(Parts *parts, const BadRow *bad)
{
	ErrorData  *error = bad->error;
	char	   *columns = find_columns(parts, bad);
	char	   *row = psprintf("row %s%s%s%s", key_text(parts, bad),
							   columns != NULL ? ", column \"" : "",
							   columns != NULL ? columns : "",
							   columns != NULL ? "\"" : "");

	error->context = error->context == NULL ? row :
		psprintf("%s\n%s", row, error->context);
	ReThrowError(error);
}

static void
keep_row(Parts *parts, const BadRow *bad)
{
	FpUpsertPage *page = parts->page;
	const FpRunContext *run = page->exec->run;
	ErrorData  *error = bad->error;
	FpBadRow	row = {0};
	bool		has_failed;

	row.run_id = run->run_id;
	row.dag_id = run->dag_id;
	row.task_id = run->task_id;
	row.map_index = run->map_index;
	row.try_number = run->try_number;
	row.page = page->number;
	row.target = page->exec->shape->target_name;
	row.key = key_json(parts, bad);
	row.data = look_at_row(parts, bad, "pg_catalog.to_jsonb(p)::pg_catalog.text",
						   &has_failed);
	row.sqlstate = unpack_sql_state(error->sqlerrcode);
	row.column_name = find_columns(parts, bad);
	row.message = error->detail == NULL ? error->message :
		psprintf("%s\nDETAIL:  %s", error->message, error->detail);
	fp_task_run_store_add_bad_row(&row, fp_clock_real());
}

/*
 * The row's key, whose columns are all in the page order.
 */
static char *
key_json(const Parts *parts, const BadRow *bad)
{
	const FpUpsertShape *shape = parts->page->exec->shape;
	char	  **bound = parts->rows[bad->index];
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	foreach(lc, shape->order)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (!column->is_key)
			continue;
		if (buf.len > 1)
			appendStringInfoString(&buf, ", ");
		escape_json(&buf, column->name);
		appendStringInfoString(&buf, ": ");
		escape_json(&buf, bound[foreach_current_index(lc)]);
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

/*
 * The same for people: (a, b) = (1, 2)
 */
static char *
key_text(const Parts *parts, const BadRow *bad)
{
	const FpUpsertShape *shape = parts->page->exec->shape;
	char	  **bound = parts->rows[bad->index];
	StringInfoData names;
	StringInfoData values;
	ListCell   *lc;

	initStringInfo(&names);
	initStringInfo(&values);
	foreach(lc, shape->order)
	{
		FpUpsertColumn *column = lfirst(lc);

		if (!column->is_key)
			continue;
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 column->name);
		appendStringInfo(&values, "%s%s", values.len > 0 ? ", " : "",
						 bound[foreach_current_index(lc)]);
	}
	return psprintf("(%s) = (%s)", names.data, values.data);
}

/*
 * The columns that an error is about, as far as they can be told; else NULL.
 */
static char *
find_columns(Parts *parts, const BadRow *bad)
{
	const FpUpsertShape *shape = parts->page->exec->shape;
	ErrorData  *error = bad->error;
	char	   *columns = NULL;
	ListCell   *lc;

	if (error->column_name != NULL)
		return error->column_name;
	if (error->constraint_name != NULL)
		columns = constrained_columns(shape->target_relid,
									  error->constraint_name);
	if (columns != NULL)
		return columns;

	foreach(lc, shape->columns)
	{
		FpUpsertColumn *column = lfirst(lc);

		if ((column->is_inserted || column->is_updated) &&
			cannot_hold(parts, bad, column))
			return column->name;
	}
	return NULL;
}

static char *
constrained_columns(Oid relid, const char *constraint)
{
	Oid			oid;
	Bitmapset  *attnums;
	StringInfoData names;
	int			attnum = -1;

	attnums = get_relation_constraint_attnos(relid, constraint, true, &oid);
	if (bms_is_empty(attnums))
		return NULL;

	initStringInfo(&names);
	while ((attnum = bms_next_member(attnums, attnum)) >= 0)
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 get_attname(relid,
									 attnum + FirstLowInvalidHeapAttributeNumber,
									 false));
	return names.data;
}

/*
 * Whether a column of the target refuses the row's value as such.  An explicit
 * cast cuts what is too long, where assignment refuses it.
 */
static bool
cannot_hold(Parts *parts, const BadRow *bad, const FpUpsertColumn *column)
{
	Oid			type;
	int32		typmod;
	Oid			collation;
	char	   *value = psprintf("(p.%s)", column->quoted);
	char	   *what;
	bool		has_failed;
	char	   *text;

	get_atttypetypmodcoll(parts->page->exec->shape->target_relid,
						  column->attnum, &type, &typmod, &collation);
	if ((type == VARCHAROID || type == BPCHAROID) && typmod >= (int32) VARHDRSZ)
		what = psprintf("(pg_catalog.length(%s::pg_catalog.text) OPERATOR(pg_catalog.>) %d)::pg_catalog.text",
						value, typmod - (int32) VARHDRSZ);
	else if ((type == VARBITOID || type == BITOID) && typmod > 0)
		what = psprintf("(pg_catalog.length(%s::pg_catalog.varbit) OPERATOR(pg_catalog.>) %d)::pg_catalog.text",
						value, typmod);
	else
		what = psprintf("(pg_catalog.num_nonnulls(%s::%s) OPERATOR(pg_catalog.<) 0)::pg_catalog.text",
						value,
						format_type_extended(type, typmod,
											 FORMAT_TYPE_TYPEMOD_GIVEN |
											 FORMAT_TYPE_FORCE_QUALIFY));

	text = look_at_row(parts, bad, what, &has_failed);
	return has_failed || (text != NULL && strcmp(text, "true") == 0);
}

/*
 * The text that an SQL expression on the row p has; NULL also where it fails.
 */
static char *
look_at_row(Parts *parts, const BadRow *bad, const char *what,
			bool *has_failed)
{
	char	  **lower = lower_of(parts, bad->index);
	Look		args = {parts, NULL, lower, parts->rows[bad->index], NULL};
	ErrorData  *error;

	args.sql = fp_upsert_sql_rows(parts->page->exec->shape, lower != NULL,
								  what);
	error = fp_spi_catch(look, &args, false /* is_undone */ ,
						 fp_upsert_bad_is_row_error);
	*has_failed = error != NULL;
	return error != NULL ? NULL : args.text;
}

static void
look(void *arg)
{
	Look	   *args = arg;

	(void) fp_upsert_exec_range(args->parts->page->exec, args->sql,
								args->lower, args->upper,
								FP_UPSERT_PLAN_READ, keep_text, &args->text);
}

/*
 * Row callback.
 */
static void
keep_text(const FpRow *row, void *arg)
{
	*(char **) arg = fp_row_text(row, 1);
}
