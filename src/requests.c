/*-------------------------------------------------------------------------
 *
 * requests.c
 *	  The scheduler carries out what sessions have asked for.
 *
 * Requests are rows of flow.request, written with what they are about in one
 * transaction; they are done and deleted in one, too.  A request that comes
 * too late (the run has ended meanwhile, the DAG is gone) does nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "backfill_life.h"
#include "clock.h"
#include "link.h"
#include "request_store.h"
#include "requests.h"
#include "rework.h"
#include "run_life.h"

static void apply(FpModel *model, const FpRequest *request);
static void dag_changed(FpModel *model, const FpRequest *request);
static void cancel_runs(FpModel *model, FpDag *dag, int64 last_run_id);
static char *get_arg(const FpRequest *request, const char *name);
static List *get_list_arg(const FpRequest *request, const char *name);
static void run_added(FpModel *model, int64 run_id);
static void word_given(FpModel *model, const FpRequest *request);

void
fp_requests_apply(FpModel *model, FpDatabaseSlot *slot)
{
	int64		told[FP_MAX_TOLD];
	int			ntold = fp_shmem_take_told(slot, told);
	List	   *requests;
	ListCell   *lc;

	requests = ntold == FP_TOLD_ALL ? fp_request_store_list()
		: fp_request_store_get(told, ntold);

	foreach(lc, requests)
	{
		CHECK_FOR_INTERRUPTS();
		apply(model, lfirst(lc));
	}
	if (requests != NIL)
		fp_request_store_delete(requests);
}

static void
apply(FpModel *model, const FpRequest *request)
{
	FpRun	   *run;

	switch (request->kind)
	{
		case FP_REQUEST_DAG:
			dag_changed(model, request);
			break;
		case FP_REQUEST_RUN:
			run_added(model, request->run_id);
			break;
		case FP_REQUEST_BACKFILL:
			fp_backfill_life_take(model, request->backfill_id);
			break;
		case FP_REQUEST_PAUSE_BACKFILL:
			fp_backfill_life_pause(model, request->backfill_id);
			break;
		case FP_REQUEST_RESUME_BACKFILL:
			fp_backfill_life_resume(model, request->backfill_id);
			break;
		case FP_REQUEST_CANCEL_BACKFILL:
			fp_backfill_life_cancel(model, request->backfill_id);
			break;
		case FP_REQUEST_CANCEL_RUN:
			run = fp_model_run(model, request->run_id);
			if (run != NULL)
				fp_run_life_cancel(model, run, "cancelled by flow_cancel_run");
			break;
		case FP_REQUEST_CLEAR:
			fp_rework_tasks(model, request->run_id,
							get_list_arg(request, "task_ids"),
							FP_TASK_RUN_NONE,
							get_arg(request, "is_cascaded") != NULL);
			break;
		case FP_REQUEST_MARK:
			fp_rework_tasks(model, request->run_id,
							get_list_arg(request, "task_ids"),
							fp_task_run_state_parse(get_arg(request, "state")),
							false);
			break;
		case FP_REQUEST_DAG_LOG:
			word_given(model, request);
			break;
		case FP_REQUEST_POOL:
			fp_model_load_pools(model);
			break;
	}
}

/*
 * args of a drop: {"is_dropped": true, "last_run_id": n}.  The DAG may have
 * been defined anew since; runs up to that one are those of the old DAG.
 */
static void
dag_changed(FpModel *model, const FpRequest *request)
{
	FpDag	   *dag;
	char	   *last_run_id = NULL;

	fp_model_reload_dag(model, request->dag_id);
	dag = fp_model_dag(model, request->dag_id, false);
	if (dag == NULL)
		return;

	/*
	 * The old DAG may have started runs after it was dropped and before that
	 * was committed.  Nothing of it may begin as a new owner.
	 */
	if (request->args != NULL)
		last_run_id = get_arg(request, "last_run_id");
	cancel_runs(model, dag,
				last_run_id != NULL ? pg_strtoint64(last_run_id) : 0);
	if (dag->row == NULL)
	{
		cancel_runs(model, dag, PG_INT64_MAX);
		return;
	}

	dag->is_behind = false;
	fp_model_set_next(model, dag, fp_clock_now());
	if (!dag->row->is_paused)
		fp_link_catch_up(model, dag);
	fp_link_wake_waiting(model, dag);
	fp_model_mark_dirty(model, dag);
}

static void
cancel_runs(FpModel *model, FpDag *dag, int64 last_run_id)
{
	List	   *runs = NIL;
	ListCell   *lc;
	dlist_iter	iter;

	dlist_foreach(iter, &dag->runs)
	{
		FpRun	   *run = dlist_container(FpRun, dag_node, iter.cur);

		if (run->run_id <= last_run_id || fp_model_is_foreign_run(run))
			runs = lappend(runs, run);
	}
	foreach(lc, runs)
		fp_run_life_cancel(model, lfirst(lc), "the DAG has been dropped");
}

static void
run_added(FpModel *model, int64 run_id)
{
	FpRunRow   *row = fp_run_store_get(run_id);

	if (row != NULL && row->state == FP_RUN_QUEUED &&
		fp_model_run(model, run_id) == NULL)
		fp_run_life_enter(model, row, 0);
}

/* args: {"date": "2024-01-31"} */
static void
word_given(FpModel *model, const FpRequest *request)
{
	char	   *date = get_arg(request, "date");

	if (date != NULL)
		fp_link_word(model, request->dag_id,
					 DatumGetDateADT(DirectFunctionCall1(date_in,
														 CStringGetDatum(date))));
}

/* A scalar of the request's args as text; NULL: there is none, or it is false. */
static char *
get_arg(const FpRequest *request, const char *name)
{
	Jsonb	   *args = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														  CStringGetDatum(request->args)));
	JsonbValue	buffer;
	JsonbValue *value;

	value = getKeyJsonValueFromContainer(&args->root, name, strlen(name),
										 &buffer);
	if (value == NULL)
		return NULL;
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	if (value->type == jbvBool)
		return value->val.boolean ? "true" : NULL;
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	return NULL;
}

/* An array of strings of the request's args; NIL: there is none. */
static List *
get_list_arg(const FpRequest *request, const char *name)
{
	Jsonb	   *args = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														  CStringGetDatum(request->args)));
	JsonbValue	buffer;
	JsonbValue *array;
	List	   *result = NIL;

	array = getKeyJsonValueFromContainer(&args->root, name, strlen(name),
										 &buffer);
	if (array == NULL || array->type != jbvBinary)
		return NIL;
	for (uint32 i = 0; i < JsonContainerSize(array->val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array->val.binary.data,
															i);

		if (element->type == jbvString)
			result = lappend(result, pnstrdup(element->val.string.val,
											  element->val.string.len));
	}
	return result;
}
