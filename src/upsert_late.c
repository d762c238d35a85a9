/*-------------------------------------------------------------------------
 *
 * upsert_late.c
 *	  Rows that commit late: how far an incremental upsert may move its
 *	  position.
 *
 * A row gets its place in the page order when it is made and is seen when its
 * transaction commits.  A transaction that was open while a run read may bring
 * rows to places that the run has passed; a position that had moved there
 * would lose them.  Nothing waits for such transactions.  A run reads up to
 * its end, but the position moves only so far that whatever is still to come
 * lies behind it, and the next run reads the overlap again.
 *
 * A timestamp was taken by the transaction, at its start (now()) or later.  So
 * late rows are not older than the oldest transaction that was open when the
 * run began; those that begin later bring later rows.  A second is left for
 * clocks and for sessions between taking the time and showing it.  Without a
 * time zone we do not know the zone of those who write, only that the last row
 * is not from the future, so the same distance is counted back from that row.
 *
 * A number that comes from a sequence was drawn by a transaction that holds a
 * lock on the sequence till it ends.  The position to come, the candidate, is
 * kept with the transactions that hold one when the end has been found, and
 * becomes the position when all have ended and the rows up to there have been
 * read once more.  It is not replaced by later ones meanwhile, or transactions
 * that overlap would hold it up for ever.
 *
 * What is neither, or is written where we cannot look, needs lookback: so long
 * after it was reached a position is taken for read.
 *
 * A prepared transaction has no start that we could see, and another virtual
 * transaction than before it was prepared: nothing moves while there is one
 * that has written to the source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "jsonb_util.h"
#include "store_args.h"
#include "upsert_late.h"

/* sessions show the start of a transaction so soon after they took it */
#define SHOWN_WITHIN USECS_PER_SEC

/* The transactions of this database. */
typedef struct Others
{
	TimestampTz oldest;			/* DT_NOEND: there are none */
	bool		is_hidden;		/* some do not show their start */
} Others;

/* A sequence that a column takes its values from. */
typedef struct Sequence
{
	Oid			relid;
	int64		cache;
	int64		increment;
	bool		is_cycle;
} Sequence;

/*
 * Sessions that say they are active may be about to begin a transaction with
 * the time of their statement.  Vacuum and replication's senders write no
 * rows.
 */
static FpStatement list_others = {
	"SELECT min(least(xact_start,"
	" CASE WHEN state = 'active' THEN query_start END)),"
	" coalesce(bool_or(xact_start IS NULL"
	" AND (state = 'disabled' OR backend_xid IS NOT NULL)), false) "
	"FROM pg_stat_activity "
	"WHERE datid = (SELECT oid FROM pg_database"
	" WHERE datname = current_database())"
	" AND pid <> pg_backend_pid()"
	" AND backend_type NOT IN ('autovacuum worker', 'walsender')",
	SPI_OK_SELECT, 0, {0}
};

#define WRITE_LOCKS \
	"locktype = 'relation' AND granted AND relation = ANY ($1)" \
	" AND database = (SELECT oid FROM pg_database" \
	" WHERE datname = current_database())" \
	" AND pid IS DISTINCT FROM pg_backend_pid()" \
	" AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock'," \
	" 'ExclusiveLock', 'AccessExclusiveLock')"

static FpStatement list_writers = {
	"SELECT DISTINCT virtualtransaction FROM pg_locks WHERE " WRITE_LOCKS,
	SPI_OK_SELECT, 1, {OIDARRAYOID}
};

static FpStatement find_prepared = {
	"SELECT true FROM pg_locks WHERE pid IS NULL AND " WRITE_LOCKS " LIMIT 1",
	SPI_OK_SELECT, 1, {OIDARRAYOID}
};

static FpStatement find_open = {
	"SELECT true FROM pg_locks WHERE virtualtransaction = ANY ($1) LIMIT 1",
	SPI_OK_SELECT, 1, {TEXTARRAYOID}
};

static FpStatement list_sequences = {
	"SELECT s.seqrelid, s.seqcache, s.seqincrement, s.seqcycle "
	"FROM pg_sequence s WHERE s.seqrelid IN ("
	"SELECT d.objid FROM pg_depend d JOIN pg_attribute a"
	" ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
	"WHERE d.classid = 'pg_class'::regclass"
	" AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i'"
	" AND d.refobjid = ANY ($1) AND a.attname = $2 "
	"UNION SELECT d.refobjid FROM pg_attribute a JOIN pg_attrdef f"
	" ON f.adrelid = a.attrelid AND f.adnum = a.attnum JOIN pg_depend d"
	" ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid"
	" AND d.refclassid = 'pg_class'::regclass "
	"WHERE a.attrelid = ANY ($1) AND a.attname = $2)",
	SPI_OK_SELECT, 2, {OIDARRAYOID, TEXTOID}
};

static void require_lookback(const FpUpsertShape *shape, const char *reason);
static bool is_time(Oid type);
static FpUpsertColumn *first_column(const FpUpsertShape *shape);
static bool is_watched(const FpUpsertShape *shape);
static List *source_relids(const FpUpsertShape *shape);
static List *find_sequences(const FpUpsertShape *shape);
static void add_oids(FpStoreArgs *args, List *oids);
static bool has_prepared(List *relids);
static void keep_candidate(const FpUpsertShape *shape,
						   FpUpsertReached *reached, char **end,
						   const char *lookback);
static void move_time(FpUpsertExec *exec, FpUpsertReached *reached,
					  char **end, const char *lookback);
static bool hold_back(Oid type, Datum value, const Others *others,
					  bool is_watched, const char *lookback, Datum *result);
static int64 distance(const Others *others, TimestampTz now);
static Interval *parse_interval(const char *text);
static void append_object(StringInfo buf, const FpUpsertShape *shape,
						  FpUpsertPlace place);
static Jsonb *get_object(JsonbValue *value);
static void keep_others(const FpRow *row, void *arg);
static void append_sequence(const FpRow *row, void *arg);


void
fp_upsert_late_check(const FpUpsertShape *shape, const char *lookback)
{
	FpUpsertColumn *column = first_column(shape);
	List	   *sequences;
	ListCell   *lc;

	if (lookback != NULL)
		return;

	if (!OidIsValid(column->origin_relid))
		require_lookback(shape, "it is not a column of a table of this database, taken as it is from that table alone");
	if (get_rel_relkind(column->origin_relid) == RELKIND_MATVIEW)
		require_lookback(shape, "a materialized view gets its rows when it is refreshed");
	if (is_time(column->source_type))
		return;

	sequences = find_sequences(shape);
	if (sequences == NIL)
		require_lookback(shape, "it is neither a timestamp nor taken from a sequence by its default");
	foreach(lc, sequences)
	{
		Sequence   *sequence = lfirst(lc);

		if (sequence->cache > 1)
			require_lookback(shape, psprintf("sequence \"%s\" has CACHE " INT64_FORMAT ", so sessions keep values for later",
											 get_rel_name(sequence->relid),
											 sequence->cache));
		if (sequence->increment < 0 || sequence->is_cycle)
			require_lookback(shape, psprintf("the values of sequence \"%s\" do not always grow",
											 get_rel_name(sequence->relid)));
	}
}

static void
require_lookback(const FpUpsertShape *shape, const char *reason)
{
	const char *column = first_column(shape)->name;

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("incremental upsert into \"%s\" by column \"%s\" needs lookback",
					shape->target_name, column),
			 errdetail("Rows that commit late cannot be recognized by this column: %s.",
					   reason),
			 errhint("Give lookback, the longest time that a row may take from getting its \"%s\" to being seen, or page by a timestamp or a number that the table takes from a sequence.",
					 column)));
}

char *
fp_upsert_late_place_text(const FpUpsertShape *shape, FpUpsertPlace place)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_object(&buf, shape, place);
	return buf.data;
}

FpUpsertPlace
fp_upsert_late_place_parse(const FpUpsertShape *shape, Jsonb *object)
{
	int			norder = list_length(shape->order);
	FpUpsertPlace place = palloc0(norder * sizeof(char *));
	int			nvalues = 0;

	while (nvalues < norder)
	{
		FpUpsertColumn *column = list_nth(shape->order, nvalues);
		JsonbValue *value = fp_jsonb_get(object, column->name);

		if (value == NULL ||
			(value->type != jbvString && value->type != jbvNumeric))
			break;
		place[nvalues++] = value->type == jbvString ?
			fp_jsonb_string(value) : fp_jsonb_text(value);
	}

	if (nvalues == 0 || nvalues != JsonContainerSize(&object->root))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the position of the incremental upsert into \"%s\" does not fit its page order",
						shape->target_name),
				 errdetail("The page order is (%s); a position has a value for each of these columns, or for the first ones.",
						   fp_upsert_shape_names(shape->order)),
				 errhint("Use flow_set_position() to set it anew, or with NULL to begin before the first row.")));
	return place;
}

FpUpsertReached *
fp_upsert_late_parse(const FpUpsertShape *shape, const char *stored)
{
	FpUpsertReached *reached = palloc0(sizeof(FpUpsertReached));
	Jsonb	   *jsonb;
	JsonbValue *value;

	if (stored == NULL)
		return reached;

	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											   CStringGetDatum(stored)));
	value = fp_jsonb_get(jsonb, "last");
	if (value != NULL)
		reached->last = fp_upsert_late_place_parse(shape, get_object(value));
	value = fp_jsonb_get(jsonb, "candidate");
	if (value != NULL)
		reached->candidate = fp_upsert_late_place_parse(shape,
														get_object(value));
	value = fp_jsonb_get(jsonb, "until");
	if (value != NULL)
		reached->until = fp_jsonb_string(value);
	value = fp_jsonb_get(jsonb, "held_by");
	if (value != NULL)
	{
		JsonbContainer *array = value->val.binary.data;

		for (uint32 i = 0; i < JsonContainerSize(array); i++)
			reached->held_by = lappend(reached->held_by,
									   fp_jsonb_string(getIthJsonbValueFromContainer(array, i)));
	}
	return reached;
}

char *
fp_upsert_late_text(const FpUpsertShape *shape,
					const FpUpsertReached *reached)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	if (reached->last != NULL)
	{
		appendStringInfoString(&buf, "\"last\": ");
		append_object(&buf, shape, reached->last);
	}
	if (reached->candidate != NULL)
	{
		appendStringInfo(&buf, "%s\"candidate\": ",
						 reached->last != NULL ? ", " : "");
		append_object(&buf, shape, reached->candidate);
		appendStringInfoString(&buf, ", \"held_by\": [");
		foreach(lc, reached->held_by)
		{
			if (foreach_current_index(lc) > 0)
				appendStringInfoString(&buf, ", ");
			escape_json(&buf, lfirst(lc));
		}
		appendStringInfoChar(&buf, ']');
		if (reached->until != NULL)
		{
			appendStringInfoString(&buf, ", \"until\": ");
			escape_json(&buf, reached->until);
		}
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

/*
 * A writer that is being prepared keeps its lock all the time but changes its
 * virtual transaction: so that is looked at first.
 */
void
fp_upsert_late_adopt(const FpUpsertShape *shape, FpUpsertReached *reached)
{
	FpStoreArgs args = {0};
	bool		is_open = false;

	if (reached->candidate == NULL)
		return;
	if (reached->until != NULL)
	{
		Datum		until = DirectFunctionCall3(timestamptz_in,
												CStringGetDatum(reached->until),
												ObjectIdGetDatum(InvalidOid),
												Int32GetDatum(-1));

		if (fp_clock_real() < DatumGetTimestampTz(until))
			return;
	}
	if (reached->held_by != NIL)
	{
		fp_store_args_add_texts(&args, reached->held_by);
		fp_store_execute(&find_open, &args, fp_store_keep_bool, &is_open);
		if (is_open || has_prepared(source_relids(shape)))
			return;
	}

	reached->last = reached->candidate;
	reached->candidate = NULL;
	reached->held_by = NIL;
	reached->until = NULL;
}

void
fp_upsert_late_advance(FpUpsertExec *exec, FpUpsertReached *reached,
					   char **end, const char *lookback)
{
	const FpUpsertShape *shape = exec->shape;

	if (is_time(first_column(shape)->source_type))
		move_time(exec, reached, end, lookback);
	else if (reached->candidate == NULL)
	{
		keep_candidate(shape, reached, end, lookback);
		if (reached->held_by == NIL && reached->until == NULL)
			fp_upsert_late_adopt(shape, reached);
	}
}

static bool
is_time(Oid type)
{
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

static FpUpsertColumn *
first_column(const FpUpsertShape *shape)
{
	return linitial(shape->order);
}

/*
 * Whether those who write the source can be seen from here.
 */
static bool
is_watched(const FpUpsertShape *shape)
{
	Oid			relid = first_column(shape)->origin_relid;

	return OidIsValid(relid) && get_rel_relkind(relid) != RELKIND_MATVIEW;
}

/*
 * The table that the position's column belongs to, its partitions, and the
 * sequences that give the column its values.
 */
static List *
source_relids(const FpUpsertShape *shape)
{
	List	   *relids;
	ListCell   *lc;

	if (!is_watched(shape))
		return NIL;

	relids = find_all_inheritors(first_column(shape)->origin_relid, NoLock,
								 NULL);
	foreach(lc, find_sequences(shape))
		relids = lappend_oid(relids, ((Sequence *) lfirst(lc))->relid);
	return relids;
}

static List *
find_sequences(const FpUpsertShape *shape)
{
	FpUpsertColumn *column = first_column(shape);
	FpStoreArgs args = {0};
	List	   *sequences = NIL;

	add_oids(&args, find_all_inheritors(column->origin_relid, NoLock, NULL));
	fp_store_args_add_text(&args, get_attname(column->origin_relid,
											  column->origin_attnum, false));
	fp_store_execute(&list_sequences, &args, append_sequence, &sequences);
	return sequences;
}

static void
add_oids(FpStoreArgs *args, List *oids)
{
	Datum	   *values = palloc(list_length(oids) * sizeof(Datum));
	ListCell   *lc;

	foreach(lc, oids)
		values[foreach_current_index(lc)] = ObjectIdGetDatum(lfirst_oid(lc));
	fp_store_args_add_array(args, values, list_length(oids), OIDOID);
}

static bool
has_prepared(List *relids)
{
	FpStoreArgs args = {0};
	bool		is_found = false;

	if (relids == NIL)
		return false;
	add_oids(&args, relids);
	fp_store_execute(&find_prepared, &args, fp_store_keep_bool, &is_found);
	return is_found;
}

static void
keep_candidate(const FpUpsertShape *shape, FpUpsertReached *reached,
			   char **end, const char *lookback)
{
	List	   *relids = source_relids(shape);

	reached->candidate = end;
	if (relids != NIL)
	{
		FpStoreArgs args = {0};

		add_oids(&args, relids);
		fp_store_execute(&list_writers, &args, fp_store_append_text,
						 &reached->held_by);
	}
	if (lookback != NULL)
	{
		Datum		until;

		until = DirectFunctionCall2(timestamptz_pl_interval,
									TimestampTzGetDatum(fp_clock_real()),
									IntervalPGetDatum(parse_interval(lookback)));
		reached->until = pstrdup(timestamptz_to_str(DatumGetTimestampTz(until)));
	}
}

/*
 * The position of a timestamp never moves back: what is before it has been
 * read.
 */
static void
move_time(FpUpsertExec *exec, FpUpsertReached *reached, char **end,
		  const char *lookback)
{
	const FpUpsertShape *shape = exec->shape;
	FpUpsertColumn *column = first_column(shape);
	bool		is_watching = is_watched(shape);
	FpStoreArgs args = {0};
	Others		others = {DT_NOEND, false};
	FpUpsertPlace place;
	Datum		value;
	int			ndone = 0;

	reached->candidate = NULL;
	if (is_watching)
	{
		/* in this order: one that is prepared in between is seen twice */
		fp_store_execute(&list_others, &args, keep_others, &others);
		if (others.is_hidden || has_prepared(source_relids(shape)))
			return;
	}

	if (!hold_back(column->source_type, fp_upsert_exec_parse(exec, 0, end[0]),
				   &others, is_watching, lookback, &value))
		return;

	if (reached->last != NULL)
	{
		Datum		last = fp_upsert_exec_parse(exec, 0, reached->last[0]);

		if (column->source_type == DATEOID)
			ndone = DatumGetDateADT(last) >= DatumGetDateADT(value);
		else
			ndone = DatumGetTimestamp(last) >= DatumGetTimestamp(value);
	}
	if (ndone > 0)
		return;

	place = palloc0(exec->norder * sizeof(char *));
	place[0] = fp_upsert_exec_format(exec, 0, value);
	reached->last = place;
}

/*
 * The latest value behind which no row can come any more, given the last one
 * that was seen; false: none can be told.
 */
static bool
hold_back(Oid type, Datum value, const Others *others, bool is_watched,
		  const char *lookback, Datum *result)
{
	TimestampTz now = fp_clock_real();
	int64		back = is_watched ? distance(others, now) : 0;
	Datum		looked_back;
	Timestamp	held;

	if (type == DATEOID)
	{
		DateADT		date = DatumGetDateADT(value);

		if (DATE_NOT_FINITE(date))
			return false;
		if (lookback != NULL)
		{
			looked_back = DirectFunctionCall2(date_mi_interval, value,
											  IntervalPGetDatum(parse_interval(lookback)));
			date = Min(date, DatumGetDateADT(DirectFunctionCall1(timestamp_date,
																 looked_back)));
		}
		if (is_watched)
			date = Min(date, DatumGetDateADT(value) -
					   (int) (back / USECS_PER_DAY) - 1);
		*result = DateADTGetDatum(date - 1);
		return true;
	}

	held = DatumGetTimestamp(value);
	if (type == TIMESTAMPTZOID && held > now)
		held = now;
	if (TIMESTAMP_NOT_FINITE(held))
		return false;

	looked_back = TimestampGetDatum(held);
	if (lookback != NULL)
		looked_back = DirectFunctionCall2(type == TIMESTAMPTZOID ?
										  timestamptz_mi_interval :
										  timestamp_mi_interval,
										  looked_back,
										  IntervalPGetDatum(parse_interval(lookback)));
	if (is_watched && type == TIMESTAMPTZOID)
		held = Min(held - SHOWN_WITHIN, others->oldest);
	else if (is_watched)
		held -= back;
	held = Min(held, DatumGetTimestamp(looked_back));

	/* where the page order is this column alone, it is read after, not from */
	*result = TimestampGetDatum(held - 1);
	return true;
}

/*
 * How long the oldest transaction has been open, with what is left for those
 * that are not yet seen.
 */
static int64
distance(const Others *others, TimestampTz now)
{
	if (TIMESTAMP_NOT_FINITE(others->oldest) || others->oldest > now)
		return SHOWN_WITHIN;
	return now - others->oldest + SHOWN_WITHIN;
}

static Interval *
parse_interval(const char *text)
{
	return DatumGetIntervalP(DirectFunctionCall3(interval_in,
												 CStringGetDatum(text),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
}

static void
append_object(StringInfo buf, const FpUpsertShape *shape,
			  FpUpsertPlace place)
{
	ListCell   *lc;

	appendStringInfoChar(buf, '{');
	foreach(lc, shape->order)
	{
		int			i = foreach_current_index(lc);

		if (place[i] == NULL)
			break;
		if (i > 0)
			appendStringInfoString(buf, ", ");
		escape_json(buf, ((FpUpsertColumn *) lfirst(lc))->name);
		appendStringInfoString(buf, ": ");
		escape_json(buf, place[i]);
	}
	appendStringInfoChar(buf, '}');
}

static Jsonb *
get_object(JsonbValue *value)
{
	if (value->type != jbvBinary ||
		!JsonContainerIsObject(value->val.binary.data))
		elog(ERROR, "a position of an upsert is not an object");
	return JsonbValueToJsonb(value);
}

/* Row callbacks. */
static void
keep_others(const FpRow *row, void *arg)
{
	Others	   *others = arg;

	others->oldest = fp_row_timestamptz(row, 1, DT_NOEND);
	others->is_hidden = fp_row_bool(row, 2);
}

static void
append_sequence(const FpRow *row, void *arg)
{
	List	  **sequences = arg;
	Sequence   *sequence = palloc(sizeof(Sequence));

	sequence->relid = fp_row_oid(row, 1);
	sequence->cache = fp_row_int64(row, 2);
	sequence->increment = fp_row_int64(row, 3);
	sequence->is_cycle = fp_row_bool(row, 4);
	*sequences = lappend(*sequences, sequence);
}
