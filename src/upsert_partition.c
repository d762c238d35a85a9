/*-------------------------------------------------------------------------
 *
 * upsert_partition.c
 *	  Which partitions of an upsert's target the interval of a run needs, and
 *	  making them.
 *
 * The range is the run's data interval: as instants where the target is
 * partitioned by a timestamptz, as wall-clock time in the DAG's timezone where
 * it is by a timestamp, and as the whole days that it touches where it is by a
 * date.  An empty interval (a run by hand, without a schedule) stands for its
 * day.  What existing partitions cover of it is left to them; each gap gets a
 * partition.
 *
 * A table is made like the target and attached, which is what CREATE TABLE ...
 * PARTITION OF does but for the lock: that one keeps all readers off the
 * target, this one only other changes of its partitions (and readers off the
 * default partition, which is looked through).  The lock is taken before the
 * gaps are looked for, so of two runs that want the same partition the second
 * one finds it there.
 *
 * In workers, and in sessions for flow_test_task, as the DAG's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "compat.h"
#include "spi_util.h"
#include "upsert_partition.h"

/* Values of the partition column, from inclusive, to exclusive. */
typedef struct PartitionRange
{
	Oid			type;
	const char *timezone;
	Datum		from;
	Datum		to;
} PartitionRange;

static Oid	partition_type(Relation target);
static void find_range(PartitionRange *range, Oid type,
					   const FpRunContext *run);
static Datum value_of(Oid type, Timestamp local, TimestampTz instant);
static Timestamp to_local(const char *timezone, TimestampTz instant);
static TimestampTz to_instant(const char *timezone, Timestamp local);
static Timestamp midnight_of(Timestamp local);
static List *find_gaps(Relation target, const PartitionRange *range);
static int	compare(PartitionKey key, Datum a, Datum b);
static bool is_below(PartitionKey key, PartitionBoundInfo bounds, int i,
					 Datum value);
static void make_partition(const FpUpsertShape *shape,
						   const PartitionRange *range);
static char *create_sql(Relation target, const char *name);
static void attach(const FpUpsertShape *shape, const char *name,
				   const PartitionRange *range);
static char *choose_name(Relation target, const PartitionRange *range);
static Timestamp local_value(const PartitionRange *range, Datum value);
static bool is_name_taken(const char *name, Oid namespace);
static char *value_sql(const PartitionRange *range, Datum value);
static void run_sql(const char *sql);


void
fp_upsert_partition_check(const FpUpsertShape *shape)
{
	Relation	target = table_open(shape->target_relid, AccessShareLock);
	Oid			namespace = RelationGetNamespace(target);
	Oid			type = InvalidOid;

	if (target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		type = partition_type(target);
	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("create_partition is given for target \"%s\", which is not partitioned by ranges of one column",
						shape->target_name),
				 errhint("Use a target that is PARTITION BY RANGE of a column of type date, timestamp or timestamptz.")));
	if (type != DATEOID && type != TIMESTAMPOID && type != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("create_partition is given for target \"%s\", which is partitioned by a column of type %s",
						shape->target_name, format_type_be(type)),
				 errhint("The column may be of type date, timestamp or timestamptz.")));

	if (!object_ownercheck(RelationRelationId, shape->target_relid,
						   GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of target \"%s\" to create partitions of it",
						shape->target_name),
				 errhint("Make role \"%s\" its owner, or a member of its owner.",
						 GetUserNameFromId(GetUserId(), false))));
	if (object_aclcheck(NamespaceRelationId, namespace, GetUserId(),
						ACL_CREATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create partitions of target \"%s\" in schema \"%s\"",
						shape->target_name, get_namespace_name(namespace)),
				 errhint("Grant CREATE on the schema to role \"%s\".",
						 GetUserNameFromId(GetUserId(), false))));
	table_close(target, NoLock);
}

/*
 * The lock is waited for only where something is missing.  It stays until the
 * transaction ends.
 */
void
fp_upsert_partition_make(const FpUpsertDef *def, const FpRunContext *run)
{
	FpUpsertShape *shape = fp_upsert_shape_make(def);
	Relation	target;
	PartitionRange range;
	List	   *gaps;
	ListCell   *lc;

	fp_upsert_partition_check(shape);

	target = table_open(shape->target_relid, AccessShareLock);
	find_range(&range, partition_type(target), run);
	gaps = find_gaps(target, &range);
	table_close(target, NoLock);
	if (gaps == NIL)
		return;

	target = table_open(shape->target_relid, ShareUpdateExclusiveLock);
	gaps = find_gaps(target, &range);
	table_close(target, NoLock);
	foreach(lc, gaps)
		make_partition(shape, lfirst(lc));
}

/*
 * Type of the one column by whose ranges the table is partitioned;
 * InvalidOid: it is partitioned otherwise.
 */
static Oid
partition_type(Relation target)
{
	PartitionKey key = RelationGetPartitionKey(target);
	Oid			type;

	if (key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 ||
		key->partattrs[0] == 0)
		return InvalidOid;

	type = getBaseType(key->parttypid[0]);
	/* an operator class of the user's may have an order of its own */
	if (lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf !=
		key->partopfamily[0])
		return InvalidOid;
	return type;
}

static void
find_range(PartitionRange *range, Oid type, const FpRunContext *run)
{
	const char *timezone = run->timezone != NULL ? run->timezone :
		pg_get_timezone_name(session_timezone);
	TimestampTz start = run->data_interval_start;
	TimestampTz end = run->data_interval_end;
	Timestamp	local_start;
	Timestamp	local_end;

	if (TIMESTAMP_NOT_FINITE(start) || TIMESTAMP_NOT_FINITE(end))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot create a partition for a run without bounds of its data interval"),
				 errhint("Give the DAG a schedule, or trigger it with a logical_date.")));

	local_start = to_local(timezone, start);
	local_end = to_local(timezone, end);
	if (end <= start)
	{
		local_start = midnight_of(local_start);
		local_end = local_start + USECS_PER_DAY;
		start = to_instant(timezone, local_start);
		end = to_instant(timezone, local_end);
	}
	else if (local_end <= local_start)
		/* clocks were set back meanwhile */
		local_end = local_start + (end - start);

	if (type == DATEOID)
	{
		Timestamp	last_midnight = midnight_of(local_end);

		local_start = midnight_of(local_start);
		if (last_midnight < local_end)
			local_end = last_midnight + USECS_PER_DAY;
	}

	range->type = type;
	range->timezone = timezone;
	range->from = value_of(type, local_start, start);
	range->to = value_of(type, local_end, end);
}

static Datum
value_of(Oid type, Timestamp local, TimestampTz instant)
{
	if (type == DATEOID)
		return DirectFunctionCall1(timestamp_date, TimestampGetDatum(local));
	if (type == TIMESTAMPOID)
		return TimestampGetDatum(local);
	return TimestampTzGetDatum(instant);
}

static Timestamp
to_local(const char *timezone, TimestampTz instant)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone,
												 CStringGetTextDatum(timezone),
												 TimestampTzGetDatum(instant)));
}

static TimestampTz
to_instant(const char *timezone, Timestamp local)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone,
												   CStringGetTextDatum(timezone),
												   TimestampGetDatum(local)));
}

static Timestamp
midnight_of(Timestamp local)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamp_trunc,
												 CStringGetTextDatum("day"),
												 TimestampGetDatum(local)));
}

/*
 * What no partition covers of a range, as a List of PartitionRange * in
 * ascending order.
 *
 * Bounds are ascending; indexes[i] is the partition that ends at datums[i] and
 * begins at the one before, or -1, where there is none.  A partition that is
 * being detached still counts: nothing can take its place yet.
 */
static List *
find_gaps(Relation target, const PartitionRange *range)
{
	PartitionKey key = RelationGetPartitionKey(target);
	PartitionDesc partitions = RelationGetPartitionDesc(target,
														false /* omit_detached */ );
	PartitionBoundInfo bounds = partitions->boundinfo;
	int			nbounds = bounds != NULL ? bounds->ndatums : 0;
	List	   *gaps = NIL;

	for (int i = 0; i <= nbounds; i++)
	{
		PartitionRange *gap;

		if (i < nbounds && bounds->indexes[i] >= 0)
			continue;
		/* from the bound before, or from minus infinity, to this one */
		if (i < nbounds && is_below(key, bounds, i, range->from))
			continue;

		gap = palloc(sizeof(PartitionRange));
		*gap = *range;
		if (i > 0 && !is_below(key, bounds, i - 1, range->from))
		{
			if (bounds->kind[i - 1][0] != PARTITION_RANGE_DATUM_VALUE)
				continue;
			gap->from = datumCopy(bounds->datums[i - 1][0],
								  key->parttypbyval[0], key->parttyplen[0]);
		}
		if (i < nbounds && is_below(key, bounds, i, range->to))
			gap->to = datumCopy(bounds->datums[i][0],
								key->parttypbyval[0], key->parttyplen[0]);
		if (compare(key, gap->from, gap->to) < 0)
			gaps = lappend(gaps, gap);
	}
	return gaps;
}

static int
compare(PartitionKey key, Datum a, Datum b)
{
	return DatumGetInt32(FunctionCall2Coll(&key->partsupfunc[0],
										   key->partcollation[0], a, b));
}

/*
 * Whether a bound is at a value or below it.
 */
static bool
is_below(PartitionKey key, PartitionBoundInfo bounds, int i, Datum value)
{
	if (bounds->kind[i][0] != PARTITION_RANGE_DATUM_VALUE)
		return bounds->kind[i][0] == PARTITION_RANGE_DATUM_MINVALUE;
	return compare(key, bounds->datums[i][0], value) <= 0;
}

/*
 * As CREATE TABLE ... PARTITION OF would: what LIKE leaves out, ATTACH adds
 * (indexes, foreign keys, triggers, identity), or a partition does not get
 * (rights).  Whose the target is, the partition is, too, for whoever is to
 * look after it.
 */
static void
make_partition(const FpUpsertShape *shape, const PartitionRange *range)
{
	Relation	target = table_open(shape->target_relid, NoLock);
	Oid			namespace = RelationGetNamespace(target);
	Oid			owner = target->rd_rel->relowner;
	char	   *name;
	char	   *sql;

	name = quote_qualified_identifier(get_namespace_name(namespace),
									  choose_name(target, range));
	sql = create_sql(target, name);
	/* what is open cannot be altered */
	table_close(target, NoLock);

	run_sql(sql);
	if (owner != GetUserId() &&
		object_aclcheck(NamespaceRelationId, namespace, owner,
						ACL_CREATE) == ACLCHECK_OK)
		run_sql(psprintf("ALTER TABLE %s OWNER TO %s", name,
						 quote_identifier(GetUserNameFromId(owner, false))));
	attach(shape, name, range);
}

static char *
create_sql(Relation target, const char *name)
{
	Oid			tablespace = target->rd_rel->reltablespace;
	Oid			access_method = target->rd_rel->relam;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS"
					 " INCLUDING CONSTRAINTS INCLUDING GENERATED"
					 " INCLUDING STORAGE INCLUDING COMPRESSION)",
					 name,
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(target)),
												RelationGetRelationName(target)));
	if (OidIsValid(access_method))
		appendStringInfo(&sql, " USING %s",
						 quote_identifier(get_am_name(access_method)));
	if (OidIsValid(tablespace))
		appendStringInfo(&sql, " TABLESPACE %s",
						 quote_identifier(get_tablespace_name(tablespace)));
	return sql.data;
}

/*
 * Rows of the range may be in the default partition; core's error says so, but
 * not what to do.
 */
static void
attach(const FpUpsertShape *shape, const char *name,
	   const PartitionRange *range)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *sql;

	sql = psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
				   shape->target, name, value_sql(range, range->from),
				   value_sql(range, range->to));
	PG_TRY();
	{
		run_sql(sql);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		if (geterrcode() != ERRCODE_CHECK_VIOLATION)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		error->detail = psprintf("The partition from %s to %s is to be created.",
								 value_sql(range, range->from),
								 value_sql(range, range->to));
		error->hint = pstrdup("Detach the default partition, create this one, and insert the rows of the other again.");
		ReThrowError(error);
	}
	PG_END_TRY();
}

/*
 * The target's name and where the partition begins, local time: orders_20240131
 * for whole days, otherwise orders_20240131_1800; with a number, where that is
 * taken.
 */
static char *
choose_name(Relation target, const PartitionRange *range)
{
	Timestamp	from = local_value(range, range->from);
	Timestamp	to = local_value(range, range->to);
	struct pg_tm tm;
	fsec_t		fsec;
	char	   *label;
	char	   *numbered;

	if (timestamp2tm(from, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	label = psprintf("%04d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
	if (from != midnight_of(from) || to != midnight_of(to))
		label = psprintf("%s_%02d%02d", label, tm.tm_hour, tm.tm_min);

	numbered = label;
	for (int i = 1;; i++)
	{
		char	   *name = makeObjectName(RelationGetRelationName(target),
										  NULL, numbered);

		if (!is_name_taken(name, RelationGetNamespace(target)))
			return name;
		numbered = psprintf("%s_%d", label, i);
	}
}

static Timestamp
local_value(const PartitionRange *range, Datum value)
{
	if (range->type == DATEOID)
		return DatumGetTimestamp(DirectFunctionCall1(date_timestamp, value));
	if (range->type == TIMESTAMPOID)
		return DatumGetTimestamp(value);
	return to_local(range->timezone, DatumGetTimestampTz(value));
}

/*
 * A table is a type, too.
 */
static bool
is_name_taken(const char *name, Oid namespace)
{
	return OidIsValid(get_relname_relid(name, namespace)) ||
		SearchSysCacheExists2(TYPENAMENSP, PointerGetDatum(name),
							  ObjectIdGetDatum(namespace));
}

/*
 * A value as SQL, in a form that no setting makes ambiguous.
 */
static char *
value_sql(const PartitionRange *range, Datum value)
{
	char		text[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset = 0;
	bool		has_zone = range->type == TIMESTAMPTZOID;
	Timestamp	time;

	if (range->type == DATEOID)
		time = local_value(range, value);
	else
		time = DatumGetTimestamp(value);

	if (timestamp2tm(time, has_zone ? &offset : NULL, &tm, &fsec, NULL,
					 NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	if (range->type == DATEOID)
		EncodeDateOnly(&tm, USE_ISO_DATES, text);
	else
		EncodeDateTime(&tm, fsec, has_zone, offset, NULL, USE_ISO_DATES,
					   text);
	return quote_literal_cstr(text);
}

static void
run_sql(const char *sql)
{
	(void) fp_spi_execute_once(sql, 0, NULL, NULL, NULL, NULL, NULL);
	CommandCounterIncrement();
}
