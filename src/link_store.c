/*-------------------------------------------------------------------------
 *
 * link_store.c
 *	  All SQL on flow.dependency_manager: which DAG waits for which.
 *
 * Sessions write, through functions or plain SQL; a trigger (api_link.c)
 * checks both.  The scheduler reads a DAG's links with the DAG
 * (fp_dag_store_get).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"

#include "link_store.h"
#include "spi_util.h"
#include "store_args.h"

/* The two lists that fp_link_store_edges_above fills. */
typedef struct LinkLists
{
	List	   *asis;
	List	   *tobe;
} LinkLists;

static FpStatement add_link = {
	"INSERT INTO flow.dependency_manager (asis_dag, tobe_dag) "
	"VALUES ($1, $2) ON CONFLICT DO NOTHING",
	SPI_OK_INSERT, 2, {TEXTOID, TEXTOID}
};

static FpStatement drop_link = {
	"DELETE FROM flow.dependency_manager "
	"WHERE asis_dag = $1 AND tobe_dag = $2",
	SPI_OK_DELETE, 2, {TEXTOID, TEXTOID}
};

static FpStatement links_above = {
	"WITH RECURSIVE above (dag_id) AS ("
	" SELECT $1"
	" UNION"
	" SELECT m.asis_dag FROM above a"
	" JOIN flow.dependency_manager m ON m.tobe_dag = a.dag_id) "
	"SELECT m.asis_dag, m.tobe_dag "
	"FROM above a JOIN flow.dependency_manager m ON m.tobe_dag = a.dag_id "
	"ORDER BY 2, 1",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement tobe_rows = {
	"SELECT d.dag_id, d.owner FROM flow.dependency_manager m "
	"JOIN flow.dag d ON d.dag_id = m.tobe_dag "
	"WHERE m.asis_dag = $1 ORDER BY d.dag_id",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement all_tobe_dags = {
	"SELECT DISTINCT tobe_dag FROM flow.dependency_manager ORDER BY tobe_dag",
	SPI_OK_SELECT, 0, {0}
};

static void append_link(const FpRow *row, void *arg);
static void append_tobe_row(const FpRow *row, void *arg);


/*
 * The lock is on the table as an object and not as a relation, which nothing
 * in the server locks: a lock on the relation that is strong enough would be
 * an upgrade of the one that INSERT holds already, and two such upgrades
 * deadlock.
 */
void
fp_link_store_lock(void)
{
	Oid			relation;

	relation = RangeVarGetRelid(makeRangeVar("flow", "dependency_manager", -1),
								NoLock, false);
	LockDatabaseObject(RelationRelationId, relation, 0, ExclusiveLock);
}

void
fp_link_store_add(const char *asis_dag, const char *tobe_dag)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, asis_dag);
	fp_store_args_add_text(&args, tobe_dag);
	fp_store_execute(&add_link, &args, NULL, NULL);
}

bool
fp_link_store_drop(const char *asis_dag, const char *tobe_dag)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, asis_dag);
	fp_store_args_add_text(&args, tobe_dag);
	return fp_store_execute(&drop_link, &args, NULL, NULL) == 1;
}

void
fp_link_store_edges_above(const char *dag_id, List **asis, List **tobe)
{
	FpStoreArgs args = {0};
	LinkLists	links = {NIL, NIL};

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&links_above, &args, append_link, &links);
	*asis = links.asis;
	*tobe = links.tobe;
}

List *
fp_link_store_tobe_rows(const char *asis_dag)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_text(&args, asis_dag);
	fp_store_execute_now(&tobe_rows, &args, append_tobe_row, &result);
	return result;
}

List *
fp_link_store_all_tobe_dags(void)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_execute(&all_tobe_dags, &args, fp_store_append_text, &result);
	return result;
}

static void
append_link(const FpRow *row, void *arg)
{
	LinkLists  *links = (LinkLists *) arg;

	links->asis = lappend(links->asis, fp_row_text(row, 1));
	links->tobe = lappend(links->tobe, fp_row_text(row, 2));
}

static void
append_tobe_row(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;
	FpTobeRow  *tobe = palloc(sizeof(FpTobeRow));

	tobe->dag_id = fp_row_text(row, 1);
	tobe->owner = fp_row_oid(row, 2);
	*list = lappend(*list, tobe);
}
