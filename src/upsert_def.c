/*-------------------------------------------------------------------------
 *
 * upsert_def.c
 *	  Definitions of paged upserts: checked, and kept as jsonb.
 *
 * Runs in the session that defines a DAG, as the DAG's owner and with its
 * search_path.  What this file lets pass can still fail when it runs, for
 * tables change; it uses the same look-ups then (upsert_shape.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/varlena.h"

#include "jsonb_util.h"
#include "upsert.h"
#include "upsert_bad.h"
#include "upsert_exec.h"
#include "upsert_index.h"
#include "upsert_late.h"
#include "upsert_partition.h"
#include "upsert_shape.h"
#include "user_sql.h"

static const char *const mode_names[] = {
	[FP_UPSERT_UPSERT] = "upsert",
	[FP_UPSERT_APPEND] = "append",
	[FP_UPSERT_REPLACE] = "replace",
};

static void check_values(const FpUpsertDef *def);
static void check_parallel(const FpUpsertDef *def,
						   const FpUpsertShape *shape,
						   const char *missing_index);
static JsonbValue *find_value(Jsonb *params, const char *name,
							  enum jbvType type);
static char *get_text(Jsonb *params, const char *name);
static List *get_list(Jsonb *params, const char *name);
static int	get_int(Jsonb *params, const char *name, int if_missing);
static bool get_bool(Jsonb *params, const char *name);


FpUpsertMode
fp_upsert_mode_parse(const char *mode)
{
	for (int i = 0; i < lengthof(mode_names); i++)
	{
		if (strcmp(mode_names[i], mode) == 0)
			return (FpUpsertMode) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mode \"%s\" of an upsert is not recognized", mode),
			 errhint("Use \"upsert\", \"append\" or \"replace\".")));
	return FP_UPSERT_UPSERT;	/* keep compiler quiet */
}

void
fp_upsert_check(const FpUpsertDef *def, bool check_names)
{
	FpUpsertShape *shape;
	char	   *missing_index;
	List	   *names;

	check_values(def);

	if (!check_names)
	{
		/* a name needs no checking, a query must at least be one */
		if (!SplitIdentifierString(pstrdup(def->source), '.', &names))
			(void) fp_user_sql_describe(def->source, "source", false);
		return;
	}

	shape = fp_upsert_shape_make(def);
	fp_upsert_shape_check_rights(shape);
	if (strcmp(def->on_row_error, "keep") == 0 &&
		!fp_upsert_bad_can_find(shape))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("on_row_error \"keep\" is given for target \"%s\", which is on another server",
						shape->target_name),
				 errdetail("Rows are tried in subtransactions, which another server may not know."),
				 errhint("Use on_row_error \"stop\", or an upsert into a local table first.")));
	if (def->is_incremental)
		fp_upsert_late_check(shape, def->lookback);
	if (def->create_partition)
		fp_upsert_partition_check(shape);

	/* replaced rows are read once and in any order */
	if (def->mode == FP_UPSERT_REPLACE)
		return;

	missing_index = fp_upsert_index_missing(shape);
	if (def->parallel_pages > 1)
		check_parallel(def, shape, missing_index);
	if (missing_index != NULL)
		ereport(WARNING,
				(errmsg("no index of source \"%s\" has the page order (%s)",
						def->source, fp_upsert_shape_names(shape->order)),
				 errdetail("Each run will read the whole table and sort it."),
				 errhint("%s", missing_index)));
}

Jsonb *
fp_upsert_to_jsonb(const FpUpsertDef *def)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	fp_jsonb_push_text(&state, "source", def->source);
	fp_jsonb_push_text(&state, "target", def->target);
	if (def->key != NIL)
		fp_jsonb_push_texts(&state, "key", def->key);
	if (def->page_by != NIL)
		fp_jsonb_push_texts(&state, "page_by", def->page_by);
	fp_jsonb_push_int(&state, "page_size", def->page_size);
	fp_jsonb_push_text(&state, "mode", mode_names[def->mode]);
	fp_jsonb_push_text(&state, "replace_where", def->replace_where);
	fp_jsonb_push_bool(&state, "incremental", def->is_incremental);
	if (def->update_columns != NIL)
		fp_jsonb_push_texts(&state, "update_columns", def->update_columns);
	fp_jsonb_push_int(&state, "parallel_pages", def->parallel_pages);
	fp_jsonb_push_text(&state, "lookback", def->lookback);
	fp_jsonb_push_bool(&state, "delete_missing", def->delete_missing);
	fp_jsonb_push_bool(&state, "create_partition", def->create_partition);
	fp_jsonb_push_text(&state, "on_row_error", def->on_row_error);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * In the current context.  What is missing has the default that
 * flow_add_upsert gives it.
 */
FpUpsertDef *
fp_upsert_from_jsonb(Jsonb *params)
{
	FpUpsertDef *def = palloc0(sizeof(FpUpsertDef));
	char	   *mode = get_text(params, "mode");

	def->source = get_text(params, "source");
	def->target = get_text(params, "target");
	if (def->source == NULL || def->target == NULL)
		elog(ERROR, "the parameters of an upsert lack source or target");
	def->key = get_list(params, "key");
	def->page_by = get_list(params, "page_by");
	def->page_size = get_int(params, "page_size", 10000);
	def->mode = mode == NULL ? FP_UPSERT_UPSERT : fp_upsert_mode_parse(mode);
	def->replace_where = get_text(params, "replace_where");
	def->is_incremental = get_bool(params, "incremental");
	def->update_columns = get_list(params, "update_columns");
	def->parallel_pages = get_int(params, "parallel_pages", 1);
	def->lookback = get_text(params, "lookback");
	def->delete_missing = get_bool(params, "delete_missing");
	def->create_partition = get_bool(params, "create_partition");
	def->on_row_error = get_text(params, "on_row_error");
	if (def->on_row_error == NULL)
		def->on_row_error = "stop";
	return def;
}

/*
 * What can be said of the arguments without looking at any table.
 */
static void
check_values(const FpUpsertDef *def)
{
	if (def->page_size < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("page_size %d of an upsert is less than 1",
						def->page_size),
				 errhint("A page of 10000 rows suits most tables.")));
	if (def->parallel_pages < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parallel_pages %d of an upsert is less than 1",
						def->parallel_pages),
				 errhint("Use 1, for one page at a time.")));
	if (strcmp(def->on_row_error, "stop") != 0 &&
		strcmp(def->on_row_error, "keep") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_row_error \"%s\" of an upsert is not recognized",
						def->on_row_error),
				 errhint("Use \"stop\" or \"keep\".")));
	if (def->mode == FP_UPSERT_REPLACE &&
		strcmp(def->on_row_error, "keep") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_row_error \"keep\" is given for an upsert in mode \"replace\""),
				 errdetail("All rows are written together, or none."),
				 errhint("Use mode \"upsert\" or \"append\", or on_row_error \"stop\".")));
	if (def->parallel_pages > 1 && def->mode == FP_UPSERT_REPLACE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parallel_pages %d is given for an upsert in mode \"replace\"",
						def->parallel_pages),
				 errdetail("All of it is one page, in one transaction."),
				 errhint("Use parallel_pages = 1.")));
	if (def->replace_where != NULL && def->mode != FP_UPSERT_REPLACE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("replace_where is given for an upsert in mode \"%s\"",
						mode_names[def->mode]),
				 errhint("It belongs to mode \"replace\".")));
	if (def->replace_where == NULL && def->mode == FP_UPSERT_REPLACE)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("replace_where must be given for an upsert in mode \"replace\""),
				 errhint("Give the condition of the target's rows that the source's take the place of; 'true' for all.")));
	if (def->update_columns != NIL && def->mode != FP_UPSERT_UPSERT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("update_columns is given for an upsert in mode \"%s\"",
						mode_names[def->mode]),
				 errhint("It belongs to mode \"upsert\".")));

	if (def->is_incremental && def->mode == FP_UPSERT_REPLACE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an upsert in mode \"replace\" cannot be incremental"),
				 errdetail("What a run does not read again would be removed."),
				 errhint("Use mode \"upsert\" or \"append\".")));
	if (def->delete_missing &&
		(def->is_incremental || def->mode == FP_UPSERT_REPLACE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delete_missing is given for an upsert that is %s",
						def->is_incremental ? "incremental" :
						"in mode \"replace\""),
				 errhint("It belongs to an upsert that reads the whole source each time; mode \"replace\" deletes by itself.")));
	if (def->lookback != NULL && !def->is_incremental)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lookback is given for an upsert that is not incremental"),
				 errhint("It belongs to incremental => true.")));

}

/*
 * Pages are taken at once only where a key lies in one of them whatever
 * happens to its row meanwhile.  Otherwise an old version of the row could be
 * written after a new one.
 */
static void
check_parallel(const FpUpsertDef *def, const FpUpsertShape *shape,
			   const char *missing_index)
{
	if (!shape->is_order_by_key)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parallel_pages %d is given for an upsert into \"%s\" whose page order is not its key",
						def->parallel_pages, shape->target_name),
				 errdetail("The page order is (%s), the key (%s). A row that changes meanwhile could lie in two pages, and its old version be written last.",
						   fp_upsert_shape_names(shape->order),
						   fp_upsert_shape_names(shape->key)),
				 errhint("Page by the columns of the key, with types and collations that source and target share, or use parallel_pages = 1.")));
	if (missing_index != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parallel_pages %d is given for source \"%s\", which no index can page",
						def->parallel_pages, def->source),
				 errdetail("It is read once, into a temporary table, which only one worker can see."),
				 errhint("%s", missing_index)));
}

/* NULL: missing, null, or of another type */
static JsonbValue *
find_value(Jsonb *params, const char *name, enum jbvType type)
{
	JsonbValue *value = fp_jsonb_get(params, name);

	return value == NULL || value->type != type ? NULL : value;
}

static char *
get_text(Jsonb *params, const char *name)
{
	JsonbValue *value = find_value(params, name, jbvString);

	return value == NULL ? NULL : fp_jsonb_string(value);
}

static List *
get_list(Jsonb *params, const char *name)
{
	JsonbValue *value = find_value(params, name, jbvBinary);
	List	   *list = NIL;

	if (value == NULL || !JsonContainerIsArray(value->val.binary.data))
		return NIL;
	for (uint32 i = 0; i < JsonContainerSize(value->val.binary.data); i++)
	{
		JsonbValue *element;

		element = getIthJsonbValueFromContainer(value->val.binary.data, i);
		if (element->type == jbvString)
			list = lappend(list, fp_jsonb_string(element));
	}
	return list;
}

static int
get_int(Jsonb *params, const char *name, int if_missing)
{
	JsonbValue *value = find_value(params, name, jbvNumeric);

	if (value == NULL)
		return if_missing;
	return DatumGetInt32(DirectFunctionCall1(numeric_int4,
											 NumericGetDatum(value->val.numeric)));
}

static bool
get_bool(Jsonb *params, const char *name)
{
	JsonbValue *value = find_value(params, name, jbvBool);

	return value != NULL && value->val.boolean;
}
