/*-------------------------------------------------------------------------
 *
 * upsert_swap.c
 *	  Mode replace of an upsert with whole partitions: loaded beside the old
 *	  ones, which they then take the place of.
 *
 * Where replace_where is exactly the rows of some partitions (upsert_cover.c)
 * and most of these rows differ, it costs less to write them anew than to
 * change them, and leaves no dead rows behind.  Each partition gets a table
 * like it, which is loaded, indexed, checked against the partition's bounds and
 * analyzed while nobody is kept from anything; then the old one is detached
 * and dropped and the new one attached under its names.  All of that is the
 * transaction that records the task's success; the lock on the target that
 * readers notice is taken for its end only.
 *
 * The lock is asked for with a short timeout, several times, since whoever
 * comes after us waits behind us.  A reader that does not go away in that time,
 * and anything else that keeps partitions from being swapped, leads back to
 * changing rows in place (upsert_replace.c), which also raises what errors
 * there are.  Whatever can be seen of a table besides its rows must be the
 * same afterwards: what LIKE does not copy is copied here or refused.
 *
 * Until then this transaction holds no lock on the target: what is looked at
 * before is looked at in a subtransaction that is undone, or runs that load
 * other partitions of it would keep each other from swapping.  So under the
 * lock it is looked at again.
 *
 * The rows are written as frozen, as REFRESH MATERIALIZED VIEW does it.  A
 * transaction with an older snapshot that has not read the target yet would
 * find the partition empty otherwise; so it finds the new rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "partitioning/partdesc.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "process.h"
#include "spi_util.h"
#include "upsert_cover.h"
#include "upsert_swap.h"

/* Fewer rows than this are changed in place. */
#define MIN_ROWS 1000

/* More partitions than this are changed in place. */
#define MAX_PARTITIONS 32

/* How often the lock is tried for, how long each time, and the pauses. */
#define LOCK_TRIES 10
#define LOCK_TIMEOUT "200ms"
#define LOCK_PAUSE_MS 300

/* the source's rows for one partition, as the partition has them */
#define ROWS_TABLE "pg_temp.flowpg_upsert_rows"

/* keeps ATTACH from looking at the rows; gone when it has not */
#define BOUND_CONSTRAINT "flowpg_bound"

/* Rows that are written at once. */
#define WRITE_ROWS 200

/* A partition and the table that takes its place. */
typedef struct SwappedPartition
{
	Oid			relid;
	char	   *name;			/* qualified, as SQL */
	char	   *plain_name;		/* unqualified, as SQL */
	char	   *beside;			/* the new one; qualified, as SQL */

	/* as SQL */
	char	   *bound;			/* FOR VALUES ... */
	char	   *condition;		/* that its rows fulfil */
	char	   *storage;		/* of CREATE TABLE: WITH and TABLESPACE */
	List	   *index_renames;	/* statements, of char * */

	bool		can_be_copied;	/* nothing is about it that would be lost */
	char	   *facts;			/* what would make another copy of it */
} SwappedPartition;

typedef struct Swap
{
	FpUpsertExec *exec;
	const FpUpsertShape *shape;
	List	   *partitions;		/* SwappedPartition *; NIL: not to be done */
	int64		rows_written;
	bool		is_same;		/* source and target do not differ */
} Swap;

/* What the comparison of source and target yields. */
typedef struct Comparison
{
	int64		nold;			/* rows of the target */
	int64		nmatched;		/* of these, with a key that the source has */
	int64		nchanged;		/* of these, different in other columns */
	int64		nnew;			/* rows of the source */
} Comparison;

/*
 * $1: the partition.  One row: see SwappedPartition.
 *
 * Its constraints, columns, indexes and triggers may be used by other objects
 * (views, functions, publications); columns may have settings and rights of
 * their own.  A logical slot that is not that of a publication sees all
 * tables, and would see rows come that have not gone.
 *
 * pg_attver is no setting: releases of late 2026 keep the version of the row
 * type there, for values of that type in other tables, which are refused as
 * uses of the type.
 */
static const char facts_sql[] =
"SELECT pg_get_expr(c.relpartbound, c.oid), pg_get_partition_constraintdef(c.oid),"
" 'USING heap'"
" || coalesce((SELECT ' WITH (' || string_agg(o.prefix || split_part(o.option, '=', 1)"
"   || '=' || quote_literal(substr(o.option, strpos(o.option, '=') + 1)), ', ') || ')'"
"  FROM (SELECT '' AS prefix, unnest(c.reloptions) AS option UNION ALL"
"   SELECT 'toast.', unnest(t.reloptions) FROM pg_class t WHERE t.oid = c.reltoastrelid) o), '')"
" || ' TABLESPACE ' || quote_ident(ts.spcname),"
" c.relreplident = 'd' AND NOT c.relrowsecurity AND NOT c.relforcerowsecurity"
" AND NOT c.relhasrules AND c.relpersistence = 'p'"
" AND has_schema_privilege(c.relnamespace, 'CREATE')"
" AND (c.reltablespace = 0 OR has_tablespace_privilege(c.reltablespace, 'CREATE'))"
" AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0"
"  AND NOT a.attisdropped AND (a.attacl IS NOT NULL OR EXISTS"
"   (SELECT FROM unnest(a.attoptions) o WHERE split_part(o, '=', 1) <> 'pg_attver')"
"   OR coalesce(a.attstattarget, -1) <> -1 OR a.attidentity <> '' AND NOT EXISTS"
"   (SELECT FROM pg_inherits i JOIN pg_attribute p ON p.attrelid = i.inhparent"
"    WHERE i.inhrelid = c.oid AND p.attname = a.attname AND p.attidentity = a.attidentity)))"
" AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantor <> c.relowner)"
" AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid"
"  WHERE i.indrelid = c.oid AND (NOT i.indisvalid OR i.indisclustered OR i.indisreplident"
"   OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = ic.oid AND coalesce(a.attstattarget, -1) <> -1)))"
" AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND NOT k.convalidated)"
" AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)"
" AND NOT EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = c.oid)"
" AND NOT EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = c.oid)"
" AND NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = c.oid)"
" AND NOT EXISTS (SELECT FROM pg_seclabel WHERE classoid = 'pg_class'::regclass AND objoid = c.oid)"
" AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass"
"  AND d.refobjid = c.oid AND (d.deptype = 'n' AND d.classid NOT IN"
"   ('pg_constraint'::regclass, 'pg_attrdef'::regclass) OR d.classid = 'pg_class'::regclass"
"   AND EXISTS (SELECT FROM pg_class s WHERE s.oid = d.objid AND s.relkind = 'S')))"
" AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_type y ON y.oid = d.refobjid WHERE"
"  d.refclassid = 'pg_type'::regclass AND d.deptype = 'n'"
"  AND (y.oid = c.reltype OR y.typelem = c.reltype))"
" AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass"
"  AND d.objid = c.oid AND d.deptype IN ('e', 'x'))"
" AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.slot_type = 'logical'"
"  AND s.database = current_database() AND s.plugin <> 'pgoutput'),"
" md5(concat_ws('|', c.relname, c.relnamespace, c.relowner, c.relacl, c.reloptions, c.reltablespace,"
"  obj_description(c.oid, 'pg_class'), pg_get_expr(c.relpartbound, c.oid),"
"  (SELECT string_agg(concat_ws(',', a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attstorage,"
"    a.attcompression, a.attgenerated, a.attcollation, pg_get_expr(d.adbin, d.adrelid),"
"    col_description(c.oid, a.attnum)), ';' ORDER BY a.attnum)"
"   FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
"   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),"
"  (SELECT string_agg(concat_ws(',', pg_get_indexdef(i.indexrelid), ic.reltablespace, ic.reloptions),"
"    ';' ORDER BY i.indexrelid)"
"   FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid),"
"  (SELECT string_agg(concat_ws(',', k.conname, pg_get_constraintdef(k.oid)), ';' ORDER BY k.oid)"
"   FROM pg_constraint k WHERE k.conrelid = c.oid)))"
" FROM pg_class c JOIN pg_database b ON b.datname = current_database()"
" JOIN pg_tablespace ts ON ts.oid = CASE c.reltablespace WHEN 0 THEN b.dattablespace ELSE c.reltablespace END"
" WHERE c.oid = $1";

/*
 * $1: the partition, $2: the new table.  Statements that give the second one
 * the rights and the comment of the first.
 */
static const char rights_sql[] =
"SELECT array_agg(s.statement ORDER BY s.number) FROM ("
"SELECT 1 AS number, format('REVOKE ALL ON TABLE %1$s FROM %2$s', n.oid::regclass,"
"  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) AS statement"
" FROM pg_class o, pg_class n, aclexplode(coalesce(n.relacl, acldefault('r', n.relowner))) a"
" WHERE o.oid = $1 AND n.oid = $2 AND (o.relacl IS NOT NULL OR n.relacl IS NOT NULL)"
" UNION ALL "
"SELECT 2, format('GRANT %2$s ON TABLE %1$s TO %3$s%4$s', n.oid::regclass, a.privilege_type,"
"  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,"
"  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)"
" FROM pg_class o, pg_class n, aclexplode(coalesce(o.relacl, acldefault('r', o.relowner))) a"
" WHERE o.oid = $1 AND n.oid = $2 AND (o.relacl IS NOT NULL OR n.relacl IS NOT NULL)"
" UNION ALL "
"SELECT 3, format('COMMENT ON TABLE %s IS %L', n.oid::regclass, obj_description(o.oid, 'pg_class'))"
" FROM pg_class o, pg_class n WHERE o.oid = $1 AND n.oid = $2"
" AND obj_description(o.oid, 'pg_class') IS NOT NULL) s";

/*
 * $1: the partition, $2: the new table.  Statements that give the second one's
 * indexes the names of the first one's; a NULL among them where one has an
 * index that the other has not.
 */
static const char renames_sql[] =
"WITH x AS (SELECT i.indrelid, i.indexrelid, c.relname, d.def,"
"  row_number() OVER (PARTITION BY i.indrelid, d.def ORDER BY i.indexrelid) AS n"
" FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid,"
" concat_ws(' ', replace(pg_get_indexdef(i.indexrelid),"
"   format('INDEX %I ON %s ', c.relname, i.indrelid::regclass), ''), i.indisprimary) AS d(def)"
" WHERE i.indrelid IN ($1, $2))"
" SELECT array_agg(CASE WHEN o.relname IS NOT NULL AND n.relname IS NOT NULL THEN"
"  format('ALTER INDEX %s RENAME TO %I', n.indexrelid::regclass, o.relname) END),"
" bool_and(o.relname IS NOT NULL AND n.relname IS NOT NULL)"
" FROM (SELECT * FROM x WHERE indrelid = $1) o FULL JOIN (SELECT * FROM x WHERE indrelid = $2) n"
" USING (def, n)";

static void look(void *arg);
static bool is_target_fit(const FpUpsertShape *shape);
static bool has_all_columns(const FpUpsertShape *shape, Relation target);
static bool is_default_empty(Relation target);
static List *look_at_partitions(Swap *self);
static SwappedPartition *look_at_partition(Oid relid);
static bool is_partition_fit(Oid relid);
static bool is_published(Relation relation);
static void compare(Swap *self);
static List *conditions_of(List *partitions);
static void load_and_swap(void *arg);
static void load(Swap *self, SwappedPartition *partition);
static void copy_frozen(Oid from, Oid to);
static void read_renames(SwappedPartition *partition, Oid beside);
static void lock_and_swap(void *arg);
static void lock_tables(Swap *self);
static bool is_unchanged(Swap *self);
static void swap(Swap *self, SwappedPartition *partition);
static int	begin_own_path(void);
static Oid	find_table(const char *name);
static void run_statements(List *statements);
static void run_sql(const char *sql);
static bool is_reason_not_to(int sqlerrcode);
static void keep_facts(const FpRow *row, void *arg);
static void keep_renames(const FpRow *row, void *arg);
static void keep_statements(const FpRow *row, void *arg);
static void keep_comparison(const FpRow *row, void *arg);


bool
fp_upsert_swap(FpUpsertExec *exec, const FpUpsertShape *shape,
			   int64 *rows_written)
{
	Swap		self = {exec, shape, NIL, 0, false};
	ErrorData  *error;

	if (fp_spi_catch(look, &self, true /* is_undone */ ,
					 is_reason_not_to) != NULL)
		return false;

	*rows_written = self.rows_written;
	if (self.is_same)
		return true;
	if (self.partitions == NIL)
		return false;

	error = fp_spi_catch(load_and_swap, &self, false /* is_undone */ ,
						 is_reason_not_to);
	if (error == NULL)
		return true;

	ereport(LOG,
			(errmsg("partitions of target \"%s\" of an upsert are not swapped, but changed in place",
					shape->target_name),
			 errdetail("%s", error->message)));
	*rows_written = 0;
	return false;
}

/*
 * Sets partitions where they can be swapped and that is worth it, and whether
 * there is nothing to do at all.  Called in a subtransaction that is undone.
 */
static void
look(void *arg)
{
	Swap	   *self = arg;
	List	   *partitions;
	bool		is_unplaced;

	PushActiveSnapshot(GetTransactionSnapshot());
	partitions = look_at_partitions(self);
	if (partitions != NIL)
	{
		is_unplaced = fp_upsert_exec_once(self->exec,
										  fp_upsert_sql_replace_unplaced(self->shape,
																		 conditions_of(partitions)),
										  NULL, FP_UPSERT_PLAN_FREELY,
										  NULL, NULL) > 0;
		if (!is_unplaced)
		{
			self->partitions = partitions;
			compare(self);
		}
	}
	PopActiveSnapshot();
}

/*
 * What can be read off the target alone.  Catalogs that are read as tables
 * must be read as they are now.
 */
static bool
is_target_fit(const FpUpsertShape *shape)
{
	Relation	target;
	bool		is_fit;

	if (shape->target_relkind != RELKIND_PARTITIONED_TABLE ||
		XactIsoLevel != XACT_READ_COMMITTED)
		return false;

	target = table_open(shape->target_relid, AccessShareLock);
	is_fit = target->rd_rel->relowner == GetUserId() &&
		!target->rd_rel->relispartition &&
		!target->rd_rel->relrowsecurity &&
		target->rd_rules == NULL &&
		target->trigdesc == NULL &&
		has_all_columns(shape, target) &&
		is_default_empty(target);
	table_close(target, NoLock);
	return is_fit;
}

/*
 * What the source does not have stays as it is, in place.
 */
static bool
has_all_columns(const FpUpsertShape *shape, Relation target)
{
	TupleDesc	desc = RelationGetDescr(target);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		bool		is_found = attribute->attisdropped ||
			attribute->attgenerated != '\0';
		ListCell   *lc;

		foreach(lc, shape->columns)
		{
			if (((FpUpsertColumn *) lfirst(lc))->attnum == attribute->attnum)
				is_found = true;
		}
		if (!is_found)
			return false;
	}
	return true;
}

/*
 * ATTACH looks through all rows of a default partition, under the lock.
 */
static bool
is_default_empty(Relation target)
{
	PartitionDesc partitions = RelationGetPartitionDesc(target,
														false /* omit_detached */ );
	Oid			relid = get_default_oid_from_partdesc(partitions);
	Relation	relation;
	bool		is_empty;

	if (!OidIsValid(relid))
		return true;
	relation = table_open(relid, AccessShareLock);
	is_empty = relation->rd_rel->relkind == RELKIND_RELATION &&
		RelationGetNumberOfBlocks(relation) == 0;
	table_close(relation, NoLock);
	return is_empty;
}

/*
 * The partitions that replace_where is, in the order of their OIDs; NIL: there
 * are none, or one of them cannot be swapped.
 */
static List *
look_at_partitions(Swap *self)
{
	List	   *relids;
	List	   *partitions = NIL;
	ListCell   *lc;

	if (!is_target_fit(self->shape))
		return NIL;
	relids = fp_upsert_cover_find(self->exec, self->shape);
	if (list_length(relids) > MAX_PARTITIONS)
		return NIL;

	foreach(lc, relids)
	{
		SwappedPartition *partition;

		if (!is_partition_fit(lfirst_oid(lc)))
			return NIL;
		partition = look_at_partition(lfirst_oid(lc));
		if (!partition->can_be_copied)
			return NIL;
		partitions = lappend(partitions, partition);
	}
	return partitions;
}

/*
 * Triggers, those of foreign keys among them, see rows come and go.
 */
static bool
is_partition_fit(Oid relid)
{
	Relation	relation = table_open(relid, AccessShareLock);
	Form_pg_class form = relation->rd_rel;
	bool		is_fit;

	is_fit = form->relkind == RELKIND_RELATION &&
		form->relam == HEAP_TABLE_AM_OID &&
		form->relowner == GetUserId() &&
		relation->trigdesc == NULL &&
		!is_published(relation) &&
		relid != get_default_partition_oid(get_partition_parent(relid, true));
	table_close(relation, NoLock);
	return is_fit;
}

/*
 * Rows of a table that is dropped are not deleted at the subscribers.
 */
static bool
is_published(Relation relation)
{
	PublicationDesc publication;

	RelationBuildPublicationDesc(relation, &publication);
	return publication.pubactions.pubinsert ||
		publication.pubactions.pubupdate ||
		publication.pubactions.pubdelete ||
		publication.pubactions.pubtruncate;
}

static SwappedPartition *
look_at_partition(Oid relid)
{
	SwappedPartition *partition = palloc0(sizeof(SwappedPartition));
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	Oid			argtypes[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	int			nest_level;

	partition->relid = relid;
	partition->plain_name = pstrdup(quote_identifier(get_rel_name(relid)));
	partition->name = quote_qualified_identifier(schema, get_rel_name(relid));
	partition->beside = quote_qualified_identifier(schema,
												   psprintf("flowpg_%u_%d",
															relid, MyProcPid));

	nest_level = begin_own_path();
	(void) fp_spi_execute_once(facts_sql, lengthof(values), argtypes, values,
							   NULL, keep_facts, partition);
	fp_upsert_exec_end_settings(nest_level);
	return partition;
}

/*
 * Counts what would be written in place, and gives up the partitions where
 * that is not much.
 */
static void
compare(Swap *self)
{
	Comparison	comparison = {0};

	(void) fp_upsert_exec_once(self->exec,
							   fp_upsert_sql_replace_compare(self->shape),
							   NULL, FP_UPSERT_PLAN_FREELY, keep_comparison,
							   &comparison);

	self->rows_written = comparison.nnew + comparison.nold -
		2 * comparison.nmatched + comparison.nchanged;
	self->is_same = self->rows_written == 0;
	if (self->rows_written < MIN_ROWS ||
		self->rows_written <= Max(comparison.nold, comparison.nnew) / 2)
		self->partitions = NIL;
}

static List *
conditions_of(List *partitions)
{
	List	   *conditions = NIL;
	ListCell   *lc;

	foreach(lc, partitions)
		conditions = lappend(conditions,
							 ((SwappedPartition *) lfirst(lc))->condition);
	return conditions;
}

/*
 * All of it, in a subtransaction; raises an error where it is not to be.
 */
static void
load_and_swap(void *arg)
{
	Swap	   *self = arg;
	ListCell   *lc;

	foreach(lc, self->partitions)
		load(self, lfirst(lc));

	for (int i = 0; i < LOCK_TRIES; i++)
	{
		if (i > 0)
			fp_process_wait(LOCK_PAUSE_MS);
		if (fp_spi_try(lock_and_swap, self))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not lock target \"%s\" in %d tries",
					self->shape->target_name, LOCK_TRIES)));
}

/*
 * Make the table that takes the partition's place.  Rows go through another
 * one, which turns them into what they are in the target and checks them.
 */
static void
load(Swap *self, SwappedPartition *partition)
{
	Oid			argtypes[] = {OIDOID, OIDOID};
	Datum		values[2];
	List	   *statements = NIL;
	Oid			beside;
	int			nest_level;

	run_sql(psprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY EXCLUDING STATISTICS) %s",
					 partition->beside, partition->name,
					 partition->storage));
	beside = find_table(partition->beside);

	values[0] = ObjectIdGetDatum(partition->relid);
	values[1] = ObjectIdGetDatum(beside);
	nest_level = begin_own_path();
	(void) fp_spi_execute_once(rights_sql, lengthof(values), argtypes, values,
							   NULL, keep_statements, &statements);
	fp_upsert_exec_end_settings(nest_level);
	run_statements(statements);

	run_sql(psprintf("CREATE TEMPORARY TABLE %s (LIKE %s INCLUDING CONSTRAINTS"
					 " INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION)",
					 ROWS_TABLE, partition->beside));
	(void) fp_upsert_exec_once(self->exec,
							   fp_upsert_sql_replace_fill(self->shape,
														  ROWS_TABLE,
														  partition->condition),
							   NULL, FP_UPSERT_PLAN_FREELY, NULL, NULL);
	CommandCounterIncrement();
	copy_frozen(find_table(ROWS_TABLE), beside);
	run_sql(psprintf("DROP TABLE %s", ROWS_TABLE));

	/* the indexes do not know the rows yet */
	run_sql(psprintf("REINDEX TABLE %s", partition->beside));
	run_sql(psprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s)",
					 partition->beside, BOUND_CONSTRAINT,
					 partition->condition));
	run_sql(psprintf("ANALYZE %s", partition->beside));
	read_renames(partition, beside);
}

/*
 * Copy the rows of one table to another of the same columns, which has been
 * made in this subtransaction, without its indexes.
 */
static void
copy_frozen(Oid from, Oid to)
{
	Relation	source = table_open(from, AccessShareLock);
	Relation	target = table_open(to, AccessExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(source, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(source, NULL);
	TupleTableSlot *slots[WRITE_ROWS];
	BulkInsertState bulk_state = GetBulkInsertState();
	CommandId	command = GetCurrentCommandId(true);
	int			options = TABLE_INSERT_SKIP_FSM | TABLE_INSERT_FROZEN;
	MemoryContext write_context;
	int			nslots = 0;
	bool		is_row;

	write_context = AllocSetContextCreate(CurrentMemoryContext,
										  "flowpg upsert swap",
										  ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < WRITE_ROWS; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(target),
											&TTSOpsHeapTuple);
	do
	{
		is_row = table_scan_getnextslot(scan, ForwardScanDirection, slot);
		if (is_row)
			ExecCopySlot(slots[nslots++], slot);
		if (nslots == WRITE_ROWS || (!is_row && nslots > 0))
		{
			MemoryContext old_context = MemoryContextSwitchTo(write_context);

			CHECK_FOR_INTERRUPTS();
			table_multi_insert(target, slots, nslots, command, options,
							   bulk_state);
			MemoryContextSwitchTo(old_context);
			MemoryContextReset(write_context);
			while (nslots > 0)
				ExecClearTuple(slots[--nslots]);
		}
	} while (is_row);

	for (int i = 0; i < WRITE_ROWS; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	FreeBulkInsertState(bulk_state);
	table_finish_bulk_insert(target, options);
	MemoryContextDelete(write_context);
	table_close(source, NoLock);
	table_close(target, NoLock);
	CommandCounterIncrement();
}

static void
read_renames(SwappedPartition *partition, Oid beside)
{
	Oid			argtypes[] = {OIDOID, OIDOID};
	Datum		values[] = {
		ObjectIdGetDatum(partition->relid), ObjectIdGetDatum(beside)
	};
	int			nest_level = begin_own_path();

	(void) fp_spi_execute_once(renames_sql, lengthof(values), argtypes,
							   values, NULL, keep_renames, partition);
	fp_upsert_exec_end_settings(nest_level);
	if (partition->index_renames == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a table like partition \"%s\" does not have the same indexes",
						partition->plain_name)));
}

/*
 * From here on readers wait, until the transaction ends.
 */
static void
lock_and_swap(void *arg)
{
	Swap	   *self = arg;
	ListCell   *lc;

	lock_tables(self);
	if (!is_unchanged(self))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("target \"%s\" was altered meanwhile",
						self->shape->target_name)));
	foreach(lc, self->partitions)
		swap(self, lfirst(lc));
}

/*
 * In the order in which readers lock them.  All that DETACH, ATTACH and DROP
 * will ask for, lest they wait.
 */
static void
lock_tables(Swap *self)
{
	int			nest_level = NewGUCNestLevel();
	Oid			default_partition;
	ListCell   *lc;

	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(self->shape->target_relid, AccessExclusiveLock);
	foreach(lc, self->partitions)
		LockRelationOid(((SwappedPartition *) lfirst(lc))->relid,
						AccessExclusiveLock);
	default_partition = get_default_partition_oid(self->shape->target_relid);
	if (OidIsValid(default_partition))
		LockRelationOid(default_partition, AccessExclusiveLock);
	AtEOXact_GUC(true /* isCommit */ , nest_level);
}

static bool
is_unchanged(Swap *self)
{
	List	   *partitions;
	bool		is_same;

	/* the target itself may be gone */
	if (get_rel_relkind(self->shape->target_relid) != RELKIND_PARTITIONED_TABLE)
		return false;

	PushActiveSnapshot(GetTransactionSnapshot());
	partitions = look_at_partitions(self);
	is_same = list_length(partitions) == list_length(self->partitions);
	for (int i = 0; is_same && i < list_length(partitions); i++)
	{
		SwappedPartition *then = list_nth(self->partitions, i);
		SwappedPartition *now = list_nth(partitions, i);

		is_same = then->relid == now->relid &&
			strcmp(then->facts, now->facts) == 0;
	}
	PopActiveSnapshot();
	return is_same;
}

static void
swap(Swap *self, SwappedPartition *partition)
{
	run_sql(psprintf("ALTER TABLE %s DETACH PARTITION %s",
					 self->shape->target, partition->name));
	run_sql(psprintf("ALTER TABLE %s ATTACH PARTITION %s %s",
					 self->shape->target, partition->beside,
					 partition->bound));
	run_sql(psprintf("ALTER TABLE %s DROP CONSTRAINT %s", partition->beside,
					 BOUND_CONSTRAINT));
	run_sql(psprintf("DROP TABLE %s", partition->name));
	run_statements(partition->index_renames);
	run_sql(psprintf("ALTER TABLE %s RENAME TO %s", partition->beside,
					 partition->plain_name));
}

/*
 * So that what is asked of catalogs means them, and what is got is qualified.
 */
static int
begin_own_path(void)
{
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	return nest_level;
}

static Oid
find_table(const char *name)
{
	return DatumGetObjectId(DirectFunctionCall1(regclassin,
												CStringGetDatum(name)));
}

static void
run_statements(List *statements)
{
	ListCell   *lc;

	foreach(lc, statements)
		run_sql(lfirst(lc));
}

static void
run_sql(const char *sql)
{
	(void) fp_spi_execute_once(sql, 0, NULL, NULL, NULL, NULL, NULL);
	CommandCounterIncrement();
}

/*
 * Errors that say that it cannot be done so: a lock, rights, rows that are
 * refused (by which the other way will name the target itself), something in
 * the catalogs that has not been thought of.  Not a cancel, nor a server that
 * stops or has no room left.
 */
static bool
is_reason_not_to(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_DEPENDENT_PRIVILEGE_DESCRIPTORS_STILL_EXIST:
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
			return true;
		default:
			return false;
	}
}

/* Row callbacks. */
static void
keep_facts(const FpRow *row, void *arg)
{
	SwappedPartition *partition = arg;

	partition->bound = fp_row_text(row, 1);
	partition->condition = fp_row_text(row, 2);
	partition->storage = fp_row_text(row, 3);
	partition->can_be_copied = fp_row_bool(row, 4);
	partition->facts = fp_row_text(row, 5);
	if (partition->condition == NULL)
		partition->can_be_copied = false;
}

static void
keep_renames(const FpRow *row, void *arg)
{
	if (fp_row_bool(row, 2))
		((SwappedPartition *) arg)->index_renames = fp_row_text_array(row, 1);
}

static void
keep_statements(const FpRow *row, void *arg)
{
	*(List **) arg = fp_row_text_array(row, 1);
}

static void
keep_comparison(const FpRow *row, void *arg)
{
	Comparison *comparison = arg;

	comparison->nold = fp_row_int64(row, 1);
	comparison->nmatched = fp_row_int64(row, 2);
	comparison->nchanged = fp_row_int64(row, 3);
	comparison->nnew = fp_row_int64(row, 4);
}
