/*-------------------------------------------------------------------------
 *
 * graph_store.c
 *	  What a picture of a DAG shows beside its definition: the task states of
 *	  its last run.
 *
 * Sessions read; nobody writes here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "graph_store.h"
#include "spi_util.h"
#include "store_args.h"

/* the last run is the one that the view dag_status shows */
static FpStatement last_states = {
	"SELECT DISTINCT ON (t.task_id COLLATE \"C\") t.task_id, t.state "
	"FROM flow.task_run t "
	"WHERE t.state IS NOT NULL AND t.run_id ="
	" (SELECT r.run_id FROM flow.dag_run r WHERE r.dag_id = $1"
	" ORDER BY r.logical_date DESC, r.run_id DESC LIMIT 1) "
	"ORDER BY t.task_id COLLATE \"C\", t.map_index",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static void append_state(const FpRow *row, void *arg);


List *
fp_graph_store_states(const char *dag_id)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&last_states, &args, append_state, &result);
	return result;
}

static void
append_state(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;
	FpLastState *last = palloc(sizeof(FpLastState));

	last->task_id = fp_row_text(row, 1);
	last->state = fp_row_text(row, 2);
	*list = lappend(*list, last);
}
