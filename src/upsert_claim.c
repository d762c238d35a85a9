/*-------------------------------------------------------------------------
 *
 * upsert_claim.c
 *	  Pages taken by several workers: each of them once.
 *
 * Runs in all workers that share an attempt, as the DAG's owner.  What is
 * taken and what is done stands in the attempt's task_run.position, whose row
 * lock has them take turns:
 *
 *	  last		the row that the last page taken ends with
 *	  claimed	the number of pages taken
 *	  open		pages that were taken and are not done: their number, their
 *				bounds, and the process that is at it
 *
 * A page is taken in a transaction of its own, which finds its end by index
 * and so costs little, and is done in the transaction that writes its rows.
 * What is open with a process that is no longer at this attempt (it has
 * failed, was ended, or the server was) is anybody's again, with the same
 * bounds.  So each page is committed once, whoever does it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "help.h"
#include "jsonb_util.h"
#include "task_run_store.h"
#include "upsert_bound.h"
#include "upsert_claim.h"

/* A page that was taken and is not done. */
typedef struct OpenPage
{
	int64		number;
	int			pid;
	char	  **last;			/* NULL: it is the first one */
	char	  **upper;
} OpenPage;

/* What the position says of this. */
typedef struct Claims
{
	char	  **last;
	int64		nclaimed;
	List	   *open;			/* of OpenPage * */
} Claims;

static bool lock_claims(const FpUpsertExec *exec, Claims *claims);
static void parse_open(const FpUpsertExec *exec, JsonbContainer *array,
					   Claims *claims);
static int64 get_int(JsonbContainer *object, const char *name);
static OpenPage *find_abandoned(const Claims *claims);
static OpenPage *add_page(FpUpsertPage *page, Claims *claims);
static void append_open(StringInfo buf, const Claims *claims, int ncolumns);


FpUpsertClaimed
fp_upsert_claim_take(FpUpsertPage *page, const char **position)
{
	FpUpsertExec *exec = page->exec;
	Claims		claims;
	OpenPage   *open;
	StringInfoData buf;

	if (!lock_claims(exec, &claims))
		return FP_UPSERT_CLAIM_CLOSED;

	open = find_abandoned(&claims);
	if (open == NULL &&
		fp_upsert_bound_equal(claims.last, page->end, exec->norder))
		return claims.open == NIL ? FP_UPSERT_CLAIM_END :
			FP_UPSERT_CLAIM_WAIT;
	if (open == NULL)
		open = add_page(page, &claims);

	open->pid = MyProcPid;
	page->number = open->number;
	page->last = open->last;
	page->upper = open->upper;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "{\"last\": ");
	fp_upsert_bound_append(&buf, claims.last, exec->norder);
	appendStringInfo(&buf, ", \"claimed\": " INT64_FORMAT ", ",
					 claims.nclaimed);
	append_open(&buf, &claims, exec->norder);
	appendStringInfoChar(&buf, '}');
	*position = buf.data;
	return FP_UPSERT_CLAIM_PAGE;
}

const char *
fp_upsert_claim_done(const FpUpsertPage *page)
{
	FpUpsertExec *exec = page->exec;
	Claims		claims;
	OpenPage   *own = NULL;
	StringInfoData buf;
	ListCell   *lc;

	if (!lock_claims(exec, &claims))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("attempt %d of task \"%s\" in run " INT64_FORMAT " is no longer open",
						exec->run->try_number, exec->run->task_id,
						exec->run->run_id),
				 errdetail("The page is rolled back.")));

	foreach(lc, claims.open)
	{
		OpenPage   *open = lfirst(lc);

		if (open->number == page->number && open->pid == MyProcPid)
			own = open;
	}
	if (own == NULL)
		elog(ERROR, "page " INT64_FORMAT " of an upsert is not open",
			 page->number);
	claims.open = list_delete_ptr(claims.open, own);

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	append_open(&buf, &claims, exec->norder);
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

bool
fp_upsert_claim_is_open(Jsonb *position)
{
	JsonbValue *open = fp_jsonb_get(position, "open");

	return open != NULL && open->type == jbvBinary &&
		JsonContainerSize(open->val.binary.data) > 0;
}

/*
 * Lock the position and read it; false: the attempt is open no more, or it has
 * gone on to the target's rows, which are the leader's alone: one that was
 * about to help read where it was before that.
 */
static bool
lock_claims(const FpUpsertExec *exec, Claims *claims)
{
	const FpRunContext *run = exec->run;
	char	   *position;
	Jsonb	   *jsonb;
	JsonbValue *open;

	memset(claims, 0, sizeof(Claims));
	if (!fp_task_run_store_lock_position(run->run_id, run->task_id,
										 run->map_index, run->try_number,
										 &position))
		return false;
	if (position == NULL)
		elog(ERROR, "an upsert whose pages are shared has no position");

	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											   CStringGetDatum(position)));
	if (fp_jsonb_get(jsonb, "deleting") != NULL)
		return false;
	claims->last = fp_upsert_bound_parse(&jsonb->root, "last", exec->norder);
	claims->nclaimed = get_int(&jsonb->root, "claimed");
	open = fp_jsonb_get(jsonb, "open");
	if (open != NULL && open->type == jbvBinary)
		parse_open(exec, open->val.binary.data, claims);
	return true;
}

static void
parse_open(const FpUpsertExec *exec, JsonbContainer *array, Claims *claims)
{
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(array, i);
		JsonbContainer *object = value->val.binary.data;
		OpenPage   *open = palloc(sizeof(OpenPage));

		open->number = get_int(object, "page");
		open->pid = (int) get_int(object, "pid");
		open->last = fp_upsert_bound_parse(object, "last", exec->norder);
		open->upper = fp_upsert_bound_parse(object, "upper", exec->norder);
		claims->open = lappend(claims->open, open);
	}
}

/* 0: there is none */
static int64
get_int(JsonbContainer *object, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *value;

	value = getKeyJsonValueFromContainer(object, name, strlen(name), &buffer);
	if (value == NULL || value->type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(value->val.numeric)));
}

/*
 * A page that nobody is at.  One of our own process is left from another
 * process of this pid, or from a page that has failed.
 */
static OpenPage *
find_abandoned(const Claims *claims)
{
	ListCell   *lc;

	foreach(lc, claims->open)
	{
		OpenPage   *open = lfirst(lc);

		if (open->pid == MyProcPid || !fp_help_is_at_work(open->pid))
			return open;
	}
	return NULL;
}

/*
 * The page behind the last one that was taken.
 */
static OpenPage *
add_page(FpUpsertPage *page, Claims *claims)
{
	OpenPage   *open = palloc0(sizeof(OpenPage));

	page->last = claims->last;
	(void) fp_upsert_page_find(page);

	open->number = ++claims->nclaimed;
	open->last = claims->last;
	open->upper = page->upper;
	claims->last = page->upper;
	claims->open = lappend(claims->open, open);
	return open;
}

static void
append_open(StringInfo buf, const Claims *claims, int ncolumns)
{
	ListCell   *lc;

	appendStringInfoString(buf, "\"open\": [");
	foreach(lc, claims->open)
	{
		OpenPage   *open = lfirst(lc);

		appendStringInfo(buf, "%s{\"page\": " INT64_FORMAT ", \"pid\": %d, \"last\": ",
						 foreach_current_index(lc) > 0 ? ", " : "",
						 open->number, open->pid);
		fp_upsert_bound_append(buf, open->last, ncolumns);
		appendStringInfoString(buf, ", \"upper\": ");
		fp_upsert_bound_append(buf, open->upper, ncolumns);
		appendStringInfoChar(buf, '}');
	}
	appendStringInfoChar(buf, ']');
}
