/*-------------------------------------------------------------------------
 *
 * upsert_exec.c
 *	  Runs the statements of a paged upsert, with the bounds of pages as
 *	  their parameters.
 *
 * Left to itself the planner reads whole tables: a page is a range whose size
 * it cannot tell (of a comparison of rows it looks at the first column only),
 * and a target that was empty at first has no statistics.  So each statement
 * is planned for the very page, with its bounds known, and with settings that
 * leave one shape of plan: ranges by the index of the whole page order, joins
 * that read each side once or look up row by row.  The settings hold while the
 * statement runs, for triggers and functions, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "upsert_exec.h"

/* Names and values of settings, ended by NULL. */
typedef const char *const Settings[][2];

/* A statement that has been prepared. */
typedef struct PreparedStatement
{
	FpUpsertSqlKey key;
	char	   *sql;
	FpPlan	   *plan;
} PreparedStatement;

/* The first row of a result, copied. */
typedef struct FirstRow
{
	int			ncolumns;
	const Oid  *types;			/* what they are taken for */
	Datum	   *values;			/* NULL: there was none */
} FirstRow;

static Settings read_settings = {
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_incremental_sort", "off"},
	{"enable_hashagg", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_material", "off"},
	{"enable_nestloop", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"jit", "off"},
	{NULL, NULL}
};

static Settings merge_settings = {
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_incremental_sort", "off"},
	{"enable_nestloop", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"jit", "off"},
	{NULL, NULL}
};

/*
 * Nothing is sorted or hashed so: the memory is for the rows of the page, which
 * go to a file if they are wide, and need no more of it on their way there.
 */
static Settings lookup_settings = {
	{"work_mem", "1MB"},
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_incremental_sort", "off"},
	{"enable_nestloop", "on"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"jit", "off"},
	{NULL, NULL}
};

/* no merging: the other server may sort text in another order */
static Settings fetch_settings = {
	{"enable_nestloop", "off"},
	{"enable_hashjoin", "on"},
	{"enable_mergejoin", "off"},
	{"jit", "off"},
	{NULL, NULL}
};

/*
 * Other statements are for the planner and the user's settings to decide, but
 * for this: once a process has compiled a query it keeps LLVM, some 11 MB, and
 * all workers would come to that.  An aggregate of millions of rows was no
 * faster with it.
 */
static Settings free_settings = {
	{"jit", "off"},
	{NULL, NULL}
};

/*
 * Some wrappers send values to their server as text in the session's style,
 * which it takes for another time, or for none.
 */
static Settings foreign_settings = {
	{"datestyle", "ISO"},
	{NULL, NULL}
};

/* how values are written as text, and read */
static Settings text_settings = {
	{"array_nulls", "on"},
	{"datestyle", "ISO, MDY"},
	{"intervalstyle", "postgres"},
	{"extra_float_digits", "3"},
	{"bytea_output", "hex"},
	{NULL, NULL}
};

static PreparedStatement *get_statement(FpUpsertExec *self,
										const FpUpsertSqlKey *key);
static uint64 execute(FpUpsertExec *self, FpPlan *plan, const char *sql,
					  char **lower, char **upper, FpUpsertPlanning planning,
					  FpRowCallback callback, void *arg);
static char *without_statement(const char *context, const char *sql);
static void set_bound(FpUpsertExec *self, ParamListInfo params, int first,
					  char **bound);
static Oid	bound_type(Oid type);
static void keep_first_row(const FpRow *row, void *arg);
static int	begin_settings(const char *const (*settings)[2]);
static void set_options(const char *const (*settings)[2]);


void
fp_upsert_exec_init(FpUpsertExec *self, const FpUpsertShape *shape,
					const FpRunContext *run)
{
	int			norder = list_length(shape->order);
	Oid		   *types = palloc(2 * norder * sizeof(Oid));
	ListCell   *lc;

	foreach(lc, shape->order)
	{
		int			i = foreach_current_index(lc);

		types[i] = bound_type(((FpUpsertColumn *) lfirst(lc))->source_type);
		types[norder + i] = types[i];
	}

	self->shape = shape;
	self->run = run;
	self->norder = norder;
	self->setup.nvalues = 2 * norder;
	self->setup.types = types;
	self->context = CurrentMemoryContext;
	self->statements = NIL;
}

void
fp_upsert_exec_free(FpUpsertExec *self)
{
	ListCell   *lc;

	foreach(lc, self->statements)
		fp_spi_free_user(((PreparedStatement *) lfirst(lc))->plan);
	self->statements = NIL;
}

uint64
fp_upsert_exec_run(FpUpsertExec *self, const FpUpsertSqlKey *key,
				   char **lower, char **upper, FpUpsertPlanning planning,
				   FpRowCallback callback, void *arg)
{
	PreparedStatement *statement = get_statement(self, key);

	return execute(self, statement->plan, statement->sql, lower, upper,
				   planning, callback, arg);
}

uint64
fp_upsert_exec_once(FpUpsertExec *self, const char *sql, char **lower,
					FpUpsertPlanning planning, FpRowCallback callback,
					void *arg)
{
	return fp_upsert_exec_range(self, sql, lower, NULL, planning, callback,
								arg);
}

uint64
fp_upsert_exec_range(FpUpsertExec *self, const char *sql, char **lower,
					 char **upper, FpUpsertPlanning planning,
					 FpRowCallback callback, void *arg)
{
	FpPlan	   *plan;
	volatile uint64 processed = 0;

	plan = fp_spi_prepare_user(sql, fp_user_sql_parser_setup, &self->setup,
							   CURSOR_OPT_CUSTOM_PLAN);
	PG_TRY();
	{
		processed = execute(self, plan, sql, lower, upper, planning, callback,
							arg);
	}
	PG_FINALLY();
	{
		/* the error may be caught, and there may be many of them */
		fp_spi_free_user(plan);
	}
	PG_END_TRY();

	return processed;
}

ParamListInfo
fp_upsert_exec_params(FpUpsertExec *self, char **lower, char **upper)
{
	ParamListInfo params = fp_user_sql_params(&self->setup, self->run);

	set_bound(self, params, 0, lower);
	set_bound(self, params, self->norder, upper);
	return params;
}

char **
fp_upsert_exec_find(FpUpsertExec *self, const FpUpsertSqlKey *key,
					char **lower, char **upper)
{
	FirstRow	row = {self->norder, self->setup.types, NULL};
	char	  **bound;

	(void) fp_upsert_exec_run(self, key, lower, upper, FP_UPSERT_PLAN_READ,
							  keep_first_row, &row);
	if (row.values == NULL)
		return NULL;

	bound = palloc(self->norder * sizeof(char *));
	for (int i = 0; i < self->norder; i++)
		bound[i] = fp_upsert_exec_format(self, i, row.values[i]);
	return bound;
}

Datum
fp_upsert_exec_parse(FpUpsertExec *self, int column, const char *text)
{
	int			nest_level = begin_settings(text_settings);
	Oid			input;
	Oid			io_param;
	Datum		value;

	getTypeInputInfo(self->setup.types[column], &input, &io_param);
	value = OidInputFunctionCall(input, unconstify(char *, text), io_param,
								 -1);
	fp_upsert_exec_end_settings(nest_level);
	return value;
}

char *
fp_upsert_exec_format(FpUpsertExec *self, int column, Datum value)
{
	int			nest_level = begin_settings(text_settings);
	Oid			output;
	bool		is_varlena;
	char	   *text;

	getTypeOutputInfo(self->setup.types[column], &output, &is_varlena);
	text = OidOutputFunctionCall(output, value);
	fp_upsert_exec_end_settings(nest_level);
	return text;
}

int
fp_upsert_exec_begin_settings(FpUpsertPlanning planning)
{
	switch (planning)
	{
		case FP_UPSERT_PLAN_READ:
			return begin_settings(read_settings);
		case FP_UPSERT_PLAN_MERGE:
			return begin_settings(merge_settings);
		case FP_UPSERT_PLAN_LOOKUP:
			return begin_settings(lookup_settings);
		case FP_UPSERT_PLAN_FETCH:
			return begin_settings(fetch_settings);
		case FP_UPSERT_PLAN_FREELY:
			break;
	}
	return begin_settings(free_settings);
}

/*
 * What the user's own code has SET in between stays set.
 */
void
fp_upsert_exec_end_settings(int nest_level)
{
	AtEOXact_GUC(true /* isCommit */ , nest_level);
}

static PreparedStatement *
get_statement(FpUpsertExec *self, const FpUpsertSqlKey *key)
{
	MemoryContext old_context;
	PreparedStatement *statement;
	ListCell   *lc;

	foreach(lc, self->statements)
	{
		statement = lfirst(lc);
		if (statement->key.statement == key->statement &&
			statement->key.has_lower == key->has_lower &&
			statement->key.nequal == key->nequal &&
			statement->key.npages == key->npages)
			return statement;
	}

	old_context = MemoryContextSwitchTo(self->context);
	statement = palloc(sizeof(PreparedStatement));
	statement->key = *key;
	statement->sql = fp_upsert_sql(self->shape, key);
	statement->plan = fp_spi_prepare_user(statement->sql,
										  fp_user_sql_parser_setup,
										  &self->setup,
										  CURSOR_OPT_CUSTOM_PLAN);
	self->statements = lappend(self->statements, statement);
	MemoryContextSwitchTo(old_context);

	return statement;
}

/*
 * Run a statement.  The context of an error loses the statement's text, which
 * is long, not the user's, and would push what matters out of the message that
 * is kept.
 */
static uint64
execute(FpUpsertExec *self, FpPlan *plan, const char *sql, char **lower,
		char **upper, FpUpsertPlanning planning, FpRowCallback callback,
		void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ParamListInfo params = fp_upsert_exec_params(self, lower, upper);
	volatile uint64 processed = 0;
	bool		is_foreign = self->shape->is_foreign ||
		self->shape->target_relkind == RELKIND_FOREIGN_TABLE;
	int			nest_level;

	nest_level = fp_upsert_exec_begin_settings(planning);
	if (is_foreign)
		set_options(foreign_settings);
	PG_TRY();
	{
		processed = fp_spi_execute_user(plan, params, false /* read_only */ ,
										0, callback, arg);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (error->context != NULL)
			error->context = without_statement(error->context, sql);
		ReThrowError(error);
	}
	PG_END_TRY();
	fp_upsert_exec_end_settings(nest_level);

	return processed;
}

/*
 * The lines of an error's context but for those that show the statement.
 */
static char *
without_statement(const char *context, const char *sql)
{
	const char *found = strstr(context, sql);
	const char *begin = found;
	const char *end;

	if (found == NULL)
		return pstrdup(context);

	while (begin > context && begin[-1] != '\n')
		begin--;
	end = strchr(found + strlen(sql), '\n');
	if (end == NULL)
		return pnstrdup(context, begin - context);
	return psprintf("%.*s%s", (int) (begin - context), context, end + 1);
}

static void
set_bound(FpUpsertExec *self, ParamListInfo params, int first, char **bound)
{
	if (bound == NULL)
		return;

	for (int i = 0; i < self->norder; i++)
	{
		ParamExternData *param = &params->params[first + i];

		if (bound[i] == NULL)
			continue;
		param->value = fp_upsert_exec_parse(self, i, bound[i]);
		param->isnull = false;
	}
}

/*
 * The type that a column of the source has as a parameter.  What is compared
 * as text anyway is text, for mysql_fdw would not send a cast.
 */
static Oid
bound_type(Oid type)
{
	type = getBaseType(type);
	return type == VARCHAROID ? TEXTOID : type;
}

/*
 * Row callback; arg is a FirstRow.  Nulls in the page order are looked for
 * when a run begins; one that is found here has come since, and so has another
 * type, which a table may be given between two pages.
 */
static void
keep_first_row(const FpRow *row, void *arg)
{
	FirstRow   *first = arg;

	if (first->values != NULL)
		return;
	first->values = palloc(first->ncolumns * sizeof(Datum));
	for (int i = 0; i < first->ncolumns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(row->desc, i);
		bool		isnull;
		Datum		value = fp_row_datum(row, i + 1, &isnull);

		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" of the source of an upsert contains a null value",
							NameStr(attribute->attname)),
					 errdetail("Pages are taken in the order of this column; a row without a place in it would be lost."),
					 errhint("Page by columns that are never null.")));
		if (bound_type(attribute->atttypid) != first->types[i])
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of the source of an upsert has become %s, and was %s when the upsert began",
							NameStr(attribute->attname),
							format_type_be(attribute->atttypid),
							format_type_be(first->types[i])),
					 errhint("A retry goes on with the new type.")));
		first->values[i] = datumCopy(value, attribute->attbyval,
									 attribute->attlen);
	}
}

static int
begin_settings(const char *const (*settings)[2])
{
	int			nest_level = NewGUCNestLevel();

	set_options(settings);
	return nest_level;
}

/*
 * Until the settings begun last end.
 */
static void
set_options(const char *const (*settings)[2])
{
	for (; (*settings)[0] != NULL; settings++)
		(void) set_config_option((*settings)[0], (*settings)[1],
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}
