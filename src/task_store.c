/*-------------------------------------------------------------------------
 *
 * task_store.c
 *	  All SQL on the tables task and task_dependency.
 *
 * Sessions alone write here, each under the lock of the DAG's row
 * (fp_dag_store_lock): so no two of them change the tasks of one DAG at once,
 * and what was checked (upstream tasks exist, no cycle) still holds when it
 * is written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "spi_util.h"
#include "store_args.h"
#include "task_store.h"

/* The two lists that a walk along edges fills. */
typedef struct EdgeLists
{
	List	   *upstream;
	List	   *downstream;
} EdgeLists;

static FpStatement write_task = {
	"INSERT INTO flow.task (dag_id, task_id, operator, trigger_rule, params,"
	" retries, retry_delay, execution_timeout, pool, pool_slots,"
	" priority_weight, depends_on_past) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
	"ON CONFLICT (dag_id, task_id) DO UPDATE SET"
	" operator = EXCLUDED.operator, trigger_rule = EXCLUDED.trigger_rule,"
	" params = EXCLUDED.params, retries = EXCLUDED.retries,"
	" retry_delay = EXCLUDED.retry_delay,"
	" execution_timeout = EXCLUDED.execution_timeout, pool = EXCLUDED.pool,"
	" pool_slots = EXCLUDED.pool_slots,"
	" priority_weight = EXCLUDED.priority_weight,"
	" depends_on_past = EXCLUDED.depends_on_past",
	SPI_OK_INSERT, 12, {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, INT4OID, INTERVALOID,
		INTERVALOID, TEXTOID, INT4OID, INT4OID, BOOLOID
	}
};

static FpStatement delete_upstream = {
	"DELETE FROM flow.task_dependency "
	"WHERE dag_id = $1 AND downstream_task_id = $2"
	" AND upstream_task_id <> ALL ($3)",
	SPI_OK_DELETE, 3, {TEXTOID, TEXTOID, TEXTARRAYOID}
};

static FpStatement insert_upstream = {
	"INSERT INTO flow.task_dependency"
	" (dag_id, upstream_task_id, downstream_task_id) "
	"SELECT $1, u, $2 FROM unnest($3) u "
	"ON CONFLICT DO NOTHING",
	SPI_OK_INSERT, 3, {TEXTOID, TEXTOID, TEXTARRAYOID}
};

static FpStatement drop_task = {
	"DELETE FROM flow.task WHERE dag_id = $1 AND task_id = $2",
	SPI_OK_DELETE, 2, {TEXTOID, TEXTOID}
};

static FpStatement drop_task_position = {
	"DELETE FROM flow.position WHERE dag_id = $1 AND task_id = $2",
	SPI_OK_DELETE, 2, {TEXTOID, TEXTOID}
};

static FpStatement missing_tasks = {
	"SELECT u FROM unnest($2) WITH ORDINALITY AS x (u, n) "
	"WHERE NOT EXISTS (SELECT FROM flow.task t"
	" WHERE t.dag_id = $1 AND t.task_id = u) "
	"ORDER BY n",
	SPI_OK_SELECT, 2, {TEXTOID, TEXTARRAYOID}
};

static FpStatement list_task_ids = {
	"SELECT task_id FROM flow.task WHERE dag_id = $1 ORDER BY task_id",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement is_above = {
	"WITH RECURSIVE above (task_id) AS ("
	" SELECT u FROM unnest($2) u"
	" UNION"
	" SELECT d.upstream_task_id FROM above a"
	" JOIN flow.task_dependency d"
	" ON d.dag_id = $1 AND d.downstream_task_id = a.task_id) "
	"SELECT count(*) FROM above WHERE task_id = $3",
	SPI_OK_SELECT, 3, {TEXTOID, TEXTARRAYOID, TEXTOID}
};

static FpStatement edges_above = {
	"WITH RECURSIVE above (task_id) AS ("
	" SELECT u FROM unnest($2) u"
	" UNION"
	" SELECT d.upstream_task_id FROM above a"
	" JOIN flow.task_dependency d"
	" ON d.dag_id = $1 AND d.downstream_task_id = a.task_id) "
	"SELECT d.upstream_task_id, d.downstream_task_id "
	"FROM above a JOIN flow.task_dependency d"
	" ON d.dag_id = $1 AND d.downstream_task_id = a.task_id "
	"ORDER BY 2, 1",
	SPI_OK_SELECT, 2, {TEXTOID, TEXTARRAYOID}
};

static FpStatement count_new_upstream = {
	"SELECT count(*) FROM unnest($3) u "
	"WHERE NOT EXISTS (SELECT FROM flow.task_dependency d"
	" WHERE d.dag_id = $1 AND d.downstream_task_id = $2"
	" AND d.upstream_task_id = u)",
	SPI_OK_SELECT, 3, {TEXTOID, TEXTOID, TEXTARRAYOID}
};

static FpStatement count_downstream = {
	"SELECT count(*) FROM (SELECT FROM flow.task_dependency"
	" WHERE dag_id = $1 AND upstream_task_id = $2 LIMIT 1) d",
	SPI_OK_SELECT, 2, {TEXTOID, TEXTOID}
};

/* upstream in the order of bytes, as the flow_add_ functions put it */
static FpStatement list_definitions = {
	"SELECT t.task_id, t.operator, t.trigger_rule, t.params, t.retries,"
	" t.retry_delay, t.execution_timeout, t.pool, t.pool_slots,"
	" t.priority_weight, t.depends_on_past,"
	" ARRAY(SELECT d.upstream_task_id FROM flow.task_dependency d"
	" WHERE d.dag_id = t.dag_id AND d.downstream_task_id = t.task_id"
	" ORDER BY d.upstream_task_id COLLATE \"C\") "
	"FROM flow.task t WHERE t.dag_id = $1 ORDER BY t.task_id",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement trigger_edges = {
	"WITH RECURSIVE below (dag_id) AS ("
	" SELECT $1"
	" UNION"
	" SELECT t.params ->> 'trigger_dag_id' FROM below b"
	" JOIN flow.task t ON t.dag_id = b.dag_id AND t.operator = 'trigger') "
	"SELECT DISTINCT t.dag_id, t.params ->> 'trigger_dag_id' "
	"FROM below b"
	" JOIN flow.task t ON t.dag_id = b.dag_id AND t.operator = 'trigger' "
	"ORDER BY 1, 2",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static void append_edge(const FpRow *row, void *arg);
static void append_definition(const FpRow *row, void *arg);
static Interval *row_interval(const FpRow *row, int column);


void
fp_task_store_write(const FpTaskDef *def)
{
	FpStoreArgs args = {0};
	FpStoreArgs upstream_args = {0};

	fp_store_args_add_text(&args, def->dag_id);
	fp_store_args_add_text(&args, def->task_id);
	fp_store_args_add_text(&args, def->operator);
	fp_store_args_add_text(&args, def->trigger_rule);
	fp_store_args_add(&args, JsonbPGetDatum(def->params), false);
	fp_store_args_add_count(&args, def->retries);
	fp_store_args_add_interval(&args, def->retry_delay);
	fp_store_args_add_interval(&args, def->execution_timeout);
	fp_store_args_add_text(&args, def->pool);
	fp_store_args_add_int(&args, def->pool_slots);
	fp_store_args_add_int(&args, def->priority_weight);
	fp_store_args_add(&args, BoolGetDatum(def->depends_on_past),
					  !def->has_depends_on_past);
	fp_store_execute(&write_task, &args, NULL, NULL);

	fp_store_args_add_text(&upstream_args, def->dag_id);
	fp_store_args_add_text(&upstream_args, def->task_id);
	fp_store_args_add_texts(&upstream_args, def->upstream);
	fp_store_execute(&delete_upstream, &upstream_args, NULL, NULL);
	if (def->upstream != NIL)
		fp_store_execute(&insert_upstream, &upstream_args, NULL, NULL);
}

/*
 * Its position goes too: another task of this name begins at the beginning.
 */
bool
fp_task_store_drop(const char *dag_id, const char *task_id)
{
	FpStoreArgs args = {0};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&drop_task_position, &args, NULL, NULL);
	return fp_store_execute(&drop_task, &args, NULL, NULL) == 1;
}

List *
fp_task_store_missing(const char *dag_id, List *task_ids)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_texts(&args, task_ids);
	fp_store_execute(&missing_tasks, &args, fp_store_append_text, &result);
	return result;
}

List *
fp_task_store_list(const char *dag_id)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&list_task_ids, &args, fp_store_append_text, &result);
	return result;
}

bool
fp_task_store_is_above(const char *dag_id, List *task_ids,
					   const char *task_id)
{
	FpStoreArgs args = {0};
	int64		result = 0;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_texts(&args, task_ids);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&is_above, &args, fp_store_keep_int64, &result);
	return result > 0;
}

void
fp_task_store_edges_above(const char *dag_id, List *task_ids,
						  List **upstream, List **downstream)
{
	FpStoreArgs args = {0};
	EdgeLists	edges = {NIL, NIL};

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_texts(&args, task_ids);
	fp_store_execute(&edges_above, &args, append_edge, &edges);
	*upstream = edges.upstream;
	*downstream = edges.downstream;
}

List *
fp_task_store_definitions(const char *dag_id)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;
	ListCell   *lc;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&list_definitions, &args, append_definition, &result);
	foreach(lc, result)
		((FpTaskDef *) lfirst(lc))->dag_id = dag_id;
	return result;
}

void
fp_task_store_trigger_edges(const char *dag_id, List **from, List **to)
{
	FpStoreArgs args = {0};
	EdgeLists	edges = {NIL, NIL};

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&trigger_edges, &args, append_edge, &edges);
	*from = edges.upstream;
	*to = edges.downstream;
}

bool
fp_task_store_adds_upstream(const char *dag_id, const char *task_id,
							List *upstream)
{
	FpStoreArgs args = {0};
	int64		result = 0;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_args_add_texts(&args, upstream);
	fp_store_execute(&count_new_upstream, &args, fp_store_keep_int64, &result);
	return result > 0;
}

bool
fp_task_store_has_downstream(const char *dag_id, const char *task_id)
{
	FpStoreArgs args = {0};
	int64		result = 0;

	fp_store_args_add_text(&args, dag_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_execute(&count_downstream, &args, fp_store_keep_int64, &result);
	return result > 0;
}

static void
append_edge(const FpRow *row, void *arg)
{
	EdgeLists  *edges = (EdgeLists *) arg;

	edges->upstream = lappend(edges->upstream, fp_row_text(row, 1));
	edges->downstream = lappend(edges->downstream, fp_row_text(row, 2));
}

/*
 * In the order of list_definitions' columns.
 */
static void
append_definition(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;
	FpTaskDef  *def = palloc0(sizeof(FpTaskDef));
	bool		isnull;
	int			column = 0;

	def->task_id = fp_row_text(row, ++column);
	def->operator = fp_row_text(row, ++column);
	def->trigger_rule = fp_row_text(row, ++column);
	def->params = DatumGetJsonbPCopy(fp_row_datum(row, ++column, &isnull));
	def->retries = fp_row_is_null(row, ++column) ? -1 :
		fp_row_int32(row, column);
	def->retry_delay = row_interval(row, ++column);
	def->execution_timeout = row_interval(row, ++column);
	def->pool = fp_row_text(row, ++column);
	def->pool_slots = fp_row_int32(row, ++column);
	def->priority_weight = fp_row_int32(row, ++column);
	def->has_depends_on_past = !fp_row_is_null(row, ++column);
	def->depends_on_past = fp_row_bool(row, column);
	def->upstream = fp_row_text_array(row, ++column);
	*list = lappend(*list, def);
}

static Interval *
row_interval(const FpRow *row, int column)
{
	bool		isnull;
	Datum		value = fp_row_datum(row, column, &isnull);
	Interval   *result;

	if (isnull)
		return NULL;
	result = palloc(sizeof(Interval));
	*result = *DatumGetIntervalP(value);
	return result;
}
