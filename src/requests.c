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
#include "utils/jsonb.h"

#include "clock.h"
#include "link.h"
#include "request_store.h"
#include "requests.h"
#include "run_life.h"

static void apply(FpModel *model, const FpRequest *request);
static void dag_changed(FpModel *model, const char *dag_id);
static void run_added(FpModel *model, int64 run_id);
static void word_given(FpModel *model, const FpRequest *request);

void
fp_requests_apply(FpModel *model)
{
	List	   *requests = fp_request_store_list();
	ListCell   *lc;

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
			dag_changed(model, request->dag_id);
			break;
		case FP_REQUEST_RUN:
			run_added(model, request->run_id);
			break;
		case FP_REQUEST_BACKFILL:
			fp_run_life_take_backfill(model, request->backfill_id);
			break;
		case FP_REQUEST_PAUSE_BACKFILL:
			fp_run_life_pause_backfill(model, request->backfill_id);
			break;
		case FP_REQUEST_RESUME_BACKFILL:
			fp_run_life_resume_backfill(model, request->backfill_id);
			break;
		case FP_REQUEST_CANCEL_BACKFILL:
			fp_run_life_cancel_backfill(model, request->backfill_id);
			break;
		case FP_REQUEST_CANCEL_RUN:
			run = fp_model_run(model, request->run_id);
			if (run != NULL)
				fp_run_life_cancel(model, run, "cancelled by flow_cancel_run");
			break;
		case FP_REQUEST_DAG_LOG:
			word_given(model, request);
			break;
		case FP_REQUEST_POOL:
			fp_model_load_pools(model);
			break;
	}
}

static void
dag_changed(FpModel *model, const char *dag_id)
{
	FpDag	   *dag;
	List	   *runs = NIL;
	ListCell   *lc;
	dlist_iter	iter;

	fp_model_reload_dag(model, dag_id);
	dag = fp_model_dag(model, dag_id, false);
	if (dag == NULL)
		return;

	if (dag->row == NULL)
	{
		dlist_foreach(iter, &dag->runs)
			runs = lappend(runs, dlist_container(FpRun, dag_node, iter.cur));
		foreach(lc, runs)
			fp_run_life_cancel(model, lfirst(lc), "the DAG has been dropped");
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
	Datum		args = DirectFunctionCall1(jsonb_in,
										   CStringGetDatum(request->args));
	Datum		date = DirectFunctionCall2(jsonb_object_field_text, args,
										   CStringGetTextDatum("date"));

	fp_link_word(model, request->dag_id,
				 DatumGetDateADT(DirectFunctionCall1(date_in,
													 CStringGetDatum(TextDatumGetCString(date)))));
}
