/*-------------------------------------------------------------------------
 *
 * operators.c
 *	  What the kinds of tasks do, beside sql and upsert.
 *
 * Runs in a worker, connected as the DAG's owner, with the DAG's search_path
 * and timezone; the check functions run in sessions that define tasks.
 * Nothing is recorded here: task_exec.c does that, in the same transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "operators.h"
#include "schedule.h"
#include "spi_util.h"
#include "user_sql.h"

/* Rows that one transaction of a retention deletes at most. */
#define RETENTION_ROWS 10000

/* What a condition's rows are collected in. */
typedef struct ConditionRows
{
	FpCondition *result;
	uint64		n;
	bool		is_named;		/* rows of (name, ok, detail) */
	StringInfoData failures;
} ConditionRows;

static void run_query(const char *sql, const FpRunContext *run,
					  FpRowCallback callback, void *arg);
static void take_condition_row(const FpRow *row, void *arg);
static bool is_named_shape(TupleDesc desc);
static void take_branch_row(const FpRow *row, void *arg);
static Oid	open_target(const char *target, const char *argument);
static AttrNumber time_column(Oid relation, const char *column_name,
							  Oid *type);
static Datum cutoff_of(Oid type, const char *keep, const FpRunContext *run);
static bool drop_old_partition(Oid relation, AttrNumber column,
							   Datum cutoff, int64 *rows_removed);
static Oid	find_old_partition(Oid relation, AttrNumber column,
							   Datum cutoff);
static void add_count(const FpRow *row, void *arg);
static int64 delete_old_rows(Oid relation, const char *column_name, Oid type,
							 Datum cutoff);


/* ---- conditions ---- */

void
fp_operator_condition(const char *condition, const FpRunContext *run,
					  FpCondition *result)
{
	ConditionRows rows = {0};

	result->is_true = true;
	result->message = NULL;
	rows.result = result;
	initStringInfo(&rows.failures);
	run_query(condition, run, take_condition_row, &rows);

	if (rows.n == 0)
	{
		result->is_true = false;
		result->message = "the condition returned no row";
	}
	else if (rows.failures.len > 0)
		result->message = rows.failures.data;
}

static void
take_condition_row(const FpRow *row, void *arg)
{
	ConditionRows *rows = arg;
	bool		ok;

	if (rows->n++ == 0)
		rows->is_named = is_named_shape(row->desc);
	if (!rows->is_named)
	{
		if (rows->n > 1)
			ereport(ERROR,
					(errcode(ERRCODE_CARDINALITY_VIOLATION),
					 errmsg("the condition returned more than one row"),
					 errhint("Return one boolean, or rows of (name text, ok boolean, detail text).")));
		if (TupleDescAttr(row->desc, 0)->atttypid != BOOLOID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the condition's first column is of type %s, not boolean",
							format_type_be(TupleDescAttr(row->desc, 0)->atttypid))));
		if (!fp_row_bool(row, 1))
		{
			rows->result->is_true = false;
			appendStringInfoString(&rows->failures,
								   fp_row_is_null(row, 1)
								   ? "the condition is NULL"
								   : "the condition is not true");
		}
		return;
	}

	ok = fp_row_bool(row, 2);
	if (!ok)
	{
		char	   *name = fp_row_text(row, 1);
		char	   *detail = row->desc->natts > 2 ? fp_row_text(row, 3) : NULL;

		rows->result->is_true = false;
		if (rows->failures.len > 0)
			appendStringInfoString(&rows->failures, "; ");
		appendStringInfoString(&rows->failures, name ? name : "(unnamed)");
		if (detail != NULL)
			appendStringInfo(&rows->failures, " (%s)", detail);
	}
}

/* (name text, ok boolean [, detail text]) and not (boolean, ...) */
static bool
is_named_shape(TupleDesc desc)
{
	return desc->natts >= 2 &&
		TupleDescAttr(desc, 0)->atttypid != BOOLOID &&
		TupleDescAttr(desc, 1)->atttypid == BOOLOID;
}

void
fp_operator_check_condition(const char *condition, bool check_names)
{
	TupleDesc	desc = fp_user_sql_describe(condition, "condition",
											check_names);

	if (desc == NULL || is_named_shape(desc))
		return;
	if (desc->natts < 1 || TupleDescAttr(desc, 0)->atttypid != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("invalid condition: its first column is not boolean"),
				 errhint("Return one boolean, or rows of (name text, ok boolean, detail text).")));
}


/* ---- branches ---- */

List *
fp_operator_branch(const char *command, const FpRunContext *run)
{
	List	   *result = NIL;

	run_query(command, run, take_branch_row, &result);
	return result;
}

static void
take_branch_row(const FpRow *row, void *arg)
{
	List	  **result = arg;

	if (fp_row_is_null(row, 1))
		return;
	if (TupleDescAttr(row->desc, 0)->atttypid == TEXTARRAYOID)
		*result = list_concat(*result, fp_row_text_array(row, 1));
	else
		*result = lappend(*result, fp_row_text(row, 1));
}

void
fp_operator_check_branch(const char *command, bool check_names)
{
	TupleDesc	desc = fp_user_sql_describe(command, "command", check_names);
	Oid			type;

	if (desc == NULL)
		return;
	type = desc->natts > 0 ? TupleDescAttr(desc, 0)->atttypid : InvalidOid;
	if (type != TEXTOID && type != VARCHAROID && type != NAMEOID &&
		type != UNKNOWNOID && type != TEXTARRAYOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("invalid command: its first column is neither text nor text[]"),
				 errhint("The command of a branch gives the task_ids that go on, one a row or as an array.")));
}


/* ---- retention ---- */

bool
fp_operator_retention(const FpRetention *retention, const FpRunContext *run,
					  int64 *rows_removed)
{
	Oid			relation = open_target(retention->target, "target");
	Oid			type;
	AttrNumber	column = time_column(relation, retention->column_name, &type);
	Datum		cutoff = cutoff_of(type, retention->keep, run);
	int64		deleted;

	if (drop_old_partition(relation, column, cutoff, rows_removed))
		return true;
	deleted = delete_old_rows(relation, retention->column_name, type, cutoff);
	*rows_removed += deleted;
	return deleted == RETENTION_ROWS;
}

void
fp_operator_check_retention(const FpRetention *retention, bool check_names)
{
	Interval   *keep;
	Interval	zero = {0, 0, 0};
	Oid			relation;
	Oid			type;

	keep = DatumGetIntervalP(DirectFunctionCall3(interval_in,
												 CStringGetDatum(retention->keep),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
	if (!DatumGetBool(DirectFunctionCall2(interval_gt,
										  IntervalPGetDatum(keep),
										  IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid keep \"%s\"", retention->keep),
				 errhint("Give a positive interval, such as '30 days'.")));
	if (!check_names)
		return;

	relation = open_target(retention->target, "target");
	(void) time_column(relation, retention->column_name, &type);
	/* it reads the column to find what is old */
	if (pg_class_aclcheck(relation, GetUserId(), ACL_DELETE) != ACLCHECK_OK ||
		pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE,
					   get_rel_name(relation));
}

static Oid
open_target(const char *target, const char *argument)
{
	RangeVar   *name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(target)));
	Oid			relation = RangeVarGetRelid(name, NoLock, true);

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("invalid %s: table \"%s\" does not exist", argument,
						target),
				 errhint("Names are looked up with the search_path that was in effect when the DAG was defined.")));
	if (get_rel_relkind(relation) != RELKIND_RELATION &&
		get_rel_relkind(relation) != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("invalid %s: \"%s\" is not a table", argument, target),
				 errhint("A retention removes rows of a table or partitions of a partitioned table.")));
	return relation;
}

static AttrNumber
time_column(Oid relation, const char *column_name, Oid *type)
{
	AttrNumber	column = get_attnum(relation, column_name);

	if (column <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist",
						column_name, get_rel_name(relation)),
				 errhint("Name the column of type date, timestamp or timestamptz that tells a row's age.")));
	*type = getBaseType(get_atttype(relation, column));
	if (*type != DATEOID && *type != TIMESTAMPOID && *type != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is of type %s, which holds no date",
						column_name, get_rel_name(relation),
						format_type_be(*type)),
				 errhint("A retention goes by a column of type date, timestamp or timestamptz.")));
	return column;
}

/*
 * keep before the end of the run's interval, as a value of the column's type.
 * The session's timezone is the DAG's.
 */
static Datum
cutoff_of(Oid type, const char *keep, const FpRunContext *run)
{
	Datum		interval = DirectFunctionCall3(interval_in,
											   CStringGetDatum(keep),
											   ObjectIdGetDatum(InvalidOid),
											   Int32GetDatum(-1));
	Datum		at = DirectFunctionCall2(timestamptz_mi_interval,
										 TimestampTzGetDatum(run->data_interval_end),
										 interval);

	if (type == DATEOID)
		return DirectFunctionCall1(timestamptz_date, at);
	if (type == TIMESTAMPOID)
		return DirectFunctionCall1(timestamptz_timestamp, at);
	return at;
}

/*
 * Drops a partition of a table that is range-partitioned by the column alone,
 * whose upper bound is not above the cutoff.  Returns whether it has.
 */
static bool
drop_old_partition(Oid relation, AttrNumber column, Datum cutoff,
				   int64 *rows_removed)
{
	Oid			partition;
	char	   *name;

	if (get_rel_relkind(relation) != RELKIND_PARTITIONED_TABLE)
		return false;
	partition = find_old_partition(relation, column, cutoff);
	if (!OidIsValid(partition))
		return false;

	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(partition)),
									  get_rel_name(partition));
	(void) fp_spi_execute_once(psprintf("SELECT count(*) FROM %s", name),
							   0, NULL, NULL, NULL, add_count, rows_removed);
	(void) fp_spi_execute_once(psprintf("DROP TABLE %s", name),
							   0, NULL, NULL, NULL, NULL, NULL);
	return true;
}

static Oid
find_old_partition(Oid relation, AttrNumber column, Datum cutoff)
{
	Relation	partitioned = table_open(relation, AccessShareLock);
	PartitionKey key = RelationGetPartitionKey(partitioned);
	Oid			result = InvalidOid;

	if (key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1 &&
		key->partattrs[0] == column)
	{
		PartitionDesc partitions = RelationGetPartitionDesc(partitioned,
															true);
		PartitionBoundInfo bounds = partitions->boundinfo;

		/* indexes[i] is the partition that ends at datums[i] */
		for (int i = 0; bounds != NULL && i < bounds->ndatums &&
			 !OidIsValid(result); i++)
		{
			if (bounds->indexes[i] >= 0 &&
				bounds->kind[i][0] == PARTITION_RANGE_DATUM_VALUE &&
				DatumGetInt32(FunctionCall2Coll(&key->partsupfunc[0],
												key->partcollation[0],
												bounds->datums[i][0],
												cutoff)) <= 0)
				result = partitions->oids[bounds->indexes[i]];
		}
	}
	table_close(partitioned, NoLock);
	return result;
}

static void
add_count(const FpRow *row, void *arg)
{
	*(int64 *) arg += fp_row_int64(row, 1);
}

static int64
delete_old_rows(Oid relation, const char *column_name, Oid type,
				Datum cutoff)
{
	const char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
												  get_rel_name(relation));
	const char *column = quote_identifier(column_name);

	/* by partition and place: a row is found again without an index */
	return fp_spi_execute_once(psprintf("DELETE FROM %s AS t "
										"WHERE (t.tableoid, t.ctid) OPERATOR(pg_catalog.=) ANY "
										"(SELECT o.tableoid, o.ctid FROM %s AS o "
										"WHERE o.%s OPERATOR(pg_catalog.<) $1 LIMIT %d)",
										name, name, column, RETENTION_ROWS),
							   1, &type, &cutoff, NULL, NULL, NULL);
}


/* ---- queries ---- */

static void
run_query(const char *sql, const FpRunContext *run, FpRowCallback callback,
		  void *arg)
{
	FpUserSqlSetup setup = {0, NULL};
	FpPlan	   *plan;

	plan = fp_spi_prepare_user(sql, fp_user_sql_parser_setup, &setup, 0);
	(void) fp_spi_execute_user(plan, fp_user_sql_params(&setup, run),
							   false /* read_only */ , 0, callback, arg);
	fp_spi_free_user(plan);
}
