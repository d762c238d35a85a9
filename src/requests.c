/*-------------------------------------------------------------------------
 *
 * requests.c
 *	  The scheduler carries out what sessions have asked for.
 *
 * Requests become visible with what they are about in one transaction; they
 * are done and deleted in one, too.  A request that comes too late (the run
 * has ended meanwhile, the DAG is gone) does nothing.
 *
 * One that fails is put off, by a delay that grows, and stays in flow.request
 * until it is done.  What was asked of the same DAG after it waits for it; all
 * else goes on.  Where a session's lock is in the way, nothing has been
 * changed (fp_spi_try).  After any other error memory may have been changed in
 * part, so the error ends the cycle and memory is built anew, at once; what is
 * known of requests that have failed outlives that, though not the process.
 *
 * A failure costs the time of a wait, or of building memory.  So that many of
 * them do not add up to a halt, one fails in a cycle and not in the next, and
 * no request of the role that has asked for it is tried for ten times as long
 * as it took.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "backfill_life.h"
#include "clock.h"
#include "link.h"
#include "request_store.h"
#include "requests.h"
#include "rework.h"
#include "run_life.h"

/* A request that has failed is tried again after this long, doubled ... */
#define FIRST_DELAY_MS 1000
/* ... each time it fails, up to this, and where a lock is in the way to that */
#define MAX_DELAY_MS 60000
#define MAX_LOCKED_DELAY_MS 8000

/* others of its role wait for so many times as long as the failure took */
#define ROLE_PAUSE_FACTOR 10

/* A request that has failed. */
typedef struct PutOff
{
	int64		request_id;		/* hash key */
	int			nfailures;
	bool		is_locked;		/* a lock was in the way, else an error */
	TimestampTz retry_at;		/* real time */
} PutOff;

/* A role one of whose requests has failed. */
typedef struct RolePause
{
	Oid			role;			/* hash key */
	TimestampTz until;			/* real time */
} RolePause;

/* DAGs, by name, and backfills for which a request waits, of one look. */
typedef struct Held
{
	HTAB	   *dags;			/* NULL: none */
	List	   *backfills;		/* FpRequest * */
} Held;

/* both are made with the first failure */
static HTAB *put_offs = NULL;
static HTAB *role_pauses = NULL;

/* when open requests are to be looked at, told of or not; DT_NOEND: none are */
static TimestampTz next_look = DT_NOEND;

/* a request has ended its cycle by an error: when it began, and whose it is */
static TimestampTz failing_since = 0;	/* 0: none has */
static Oid	failing_role;
static bool has_raised = false; /* and nobody has asked yet */

/* requests that are put off for errors: as of the last look, and in words */
static int	nbroken = 0;
static char problem[FP_PROBLEM_SIZE];

static TimestampTz not_too_late(TimestampTz at, TimestampTz now);
static List *carry_out(FpModel *model, List *requests);
static FpRequest *try_new_ones(FpModel *model, List *requests, List **done,
							   List **rest);
static void cancel_dropped(FpModel *model, List *requests);
static bool try_request(FpModel *model, const FpRequest *request);
static void put_off(const FpRequest *request, const char *message,
					bool is_locked);
static PutOff *find_put_off(const FpRequest *request);
static char *describe(const FpRequest *request);
static void pause_role(Oid role, TimestampTz since);
static TimestampTz role_pause_end(Oid role);
static void hold(Held *held, const FpRequest *request);
static bool is_drop(const FpRequest *request);
static bool is_held(const Held *held, const FpRequest *request);
static bool apply(FpModel *model, const FpRequest *request);
static bool dag_changed(FpModel *model, const FpRequest *request);
static int64 last_run_id_of(const FpRequest *request);
static void cancel_runs(FpModel *model, FpDag *dag, int64 last_run_id);
static char *get_arg(const FpRequest *request, const char *name);
static List *get_list_arg(const FpRequest *request, const char *name);
static void run_added(FpModel *model, int64 run_id);
static bool word_given(FpModel *model, const FpRequest *request);

void
fp_requests_apply(FpModel *model, FpDatabaseSlot *slot)
{
	int64		told[FP_MAX_TOLD];
	int			ntold;
	List	   *requests;

	/* what a failure has cost is known now, and all else goes on first */
	if (failing_since != 0)
	{
		pause_role(failing_role, failing_since);
		failing_since = 0;
		next_look = fp_clock_real();
		cancel_dropped(model, fp_request_store_list());
		return;
	}

	ntold = fp_shmem_take_told(slot, told);
	/* those that wait are in front of those that are new */
	if (ntold == FP_TOLD_ALL || next_look != DT_NOEND)
		requests = fp_request_store_list();
	else
		requests = fp_request_store_get(told, ntold);
	if (requests != NIL)
		fp_request_store_delete(carry_out(model, requests));
	else
	{
		next_look = DT_NOEND;
		nbroken = 0;
	}
}

TimestampTz
fp_requests_next_look(void)
{
	return next_look == DT_NOEND ? DT_NOEND
		: not_too_late(next_look, fp_clock_real());
}

/* A time further ahead than any delay was before the clock was set back. */
static TimestampTz
not_too_late(TimestampTz at, TimestampTz now)
{
	return at > TimestampTzPlusMilliseconds(now, MAX_DELAY_MS) ? now : at;
}

bool
fp_requests_take_failure(void)
{
	bool		result = has_raised;

	has_raised = false;
	return result;
}

/* Who sees it may not see the DAGs that they are about. */
const char *
fp_requests_problem(void)
{
	if (nbroken == 0)
		return "";
	snprintf(problem, sizeof(problem),
			 "%d requests cannot be carried out and are put off: see the server log",
			 nbroken);
	return problem;
}

/*
 * Tries those that may be tried, in order: what is new first, and then one that
 * has failed before, which may fail again; if it does not, what has waited for
 * it, in the same transaction.  Returns those that are done.
 */
static List *
carry_out(FpModel *model, List *requests)
{
	List	   *done = NIL;

	cancel_dropped(model, requests);
	for (;;)
	{
		List	   *rest = NIL;
		FpRequest  *again = try_new_ones(model, requests, &done, &rest);

		if (again == NULL || !try_request(model, again))
			return done;
		hash_search(put_offs, &again->request_id, HASH_REMOVE, NULL);
		done = lappend(done, again);
		requests = list_delete_ptr(rest, again);
	}
}

/*
 * Adds those that are done to *done and the others to *rest, and of these
 * returns the one that has failed before, may be tried again and has waited
 * longest; NULL: there is none, or one has failed now.
 */
static FpRequest *
try_new_ones(FpModel *model, List *requests, List **done, List **rest)
{
	Held		held = {NULL, NIL};
	FpRequest  *again = NULL;
	TimestampTz again_since = 0;
	TimestampTz now = fp_clock_real();
	bool		has_failed = false;
	ListCell   *lc;

	next_look = DT_NOEND;
	nbroken = 0;
	foreach(lc, requests)
	{
		if (is_drop(lfirst(lc)) && find_put_off(lfirst(lc)) != NULL)
			hold(&held, lfirst(lc));
	}
	foreach(lc, requests)
	{
		FpRequest  *request = lfirst(lc);
		PutOff	   *entry = find_put_off(request);
		TimestampTz at = not_too_late(role_pause_end(request->requested_by),
									  now);

		CHECK_FOR_INTERRUPTS();
		if (entry != NULL)
		{
			nbroken += !entry->is_locked;
			at = Max(at, not_too_late(entry->retry_at, now));
			if (at <= now && (again == NULL || entry->retry_at < again_since))
			{
				again = request;
				again_since = entry->retry_at;
			}
		}
		else if (is_held(&held, request))
		{
			/* whoever is done after that one looks for this, too */
			hold(&held, request);
			*rest = lappend(*rest, request);
			continue;
		}
		else if (is_drop(request) || (!has_failed && at <= now))
		{
			if (try_request(model, request))
			{
				*done = lappend(*done, request);
				continue;
			}
			has_failed = true;
			at = find_put_off(request)->retry_at;
		}
		hold(&held, request);
		*rest = lappend(*rest, request);
		next_look = Min(next_look, at);
	}
	if (held.dags != NULL)
		hash_destroy(held.dags);
	return has_failed ? NULL : again;
}

/*
 * Runs of dropped DAGs that have come out of the tables when memory was built
 * do not begin because a drop has to wait for its turn.  Nor are any made
 * before that for a DAG that has the name now: it would take over runs of the
 * old one, and the drop then cancel them.
 */
static void
cancel_dropped(FpModel *model, List *requests)
{
	ListCell   *lc;

	foreach(lc, requests)
	{
		FpRequest  *request = lfirst(lc);
		FpDag	   *dag = NULL;

		if (is_drop(request))
			dag = fp_model_dag(model, request->dag_id, false);
		if (dag == NULL)
			continue;
		cancel_runs(model, dag, last_run_id_of(request));
		dag->is_drop_pending = true;
	}
}

/* False: it is put off. */
static bool
try_request(FpModel *model, const FpRequest *request)
{
	MemoryContext context = CurrentMemoryContext;
	TimestampTz began_at = fp_clock_real();
	bool		is_done = false;

	PG_TRY();
	{
		is_done = apply(model, request);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		/* a cycle that somebody cancels says nothing about the request */
		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		{
			put_off(request, error->message,
					error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE);
			failing_since = began_at;
			failing_role = request->requested_by;
			has_raised = true;
		}
		ReThrowError(error);
	}
	PG_END_TRY();

	if (!is_done)
	{
		put_off(request, "a session holds a lock that it needs",
				true /* is_locked */ );
		pause_role(request->requested_by, began_at);
	}
	return is_done;
}


/* ---- put off ---- */

static void
put_off(const FpRequest *request, const char *message, bool is_locked)
{
	PutOff	   *entry;
	bool		found;
	int			delay_ms = FIRST_DELAY_MS;
	int			max_delay_ms = is_locked ? MAX_LOCKED_DELAY_MS : MAX_DELAY_MS;

	if (put_offs == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = sizeof(int64);
		control.entrysize = sizeof(PutOff);
		put_offs = hash_create("flowpg requests put off", 64, &control,
							   HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(put_offs, &request->request_id, HASH_ENTER, &found);
	if (!found)
		entry->nfailures = 0;
	for (int i = 0; i < entry->nfailures && delay_ms < max_delay_ms; i++)
		delay_ms *= 2;
	delay_ms = Min(delay_ms, max_delay_ms);
	entry->nfailures++;
	entry->is_locked = is_locked;
	entry->retry_at = TimestampTzPlusMilliseconds(fp_clock_real(), delay_ms);

	if (!found)
		ereport(WARNING,
				(errmsg("flowpg has put off request %s: %s",
						describe(request), message),
				 errdetail("It is tried again, and what was asked of the same DAG after it waits.")));
}

/* NULL: it has not failed */
static PutOff *
find_put_off(const FpRequest *request)
{
	if (put_offs == NULL)
		return NULL;
	return hash_search(put_offs, &request->request_id, HASH_FIND, NULL);
}

static char *
describe(const FpRequest *request)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, INT64_FORMAT " (%s", request->request_id,
					 fp_request_kind_name(request->kind));
	if (request->dag_id != NULL)
		appendStringInfo(&text, ", dag \"%s\"", request->dag_id);
	if (request->run_id != 0)
		appendStringInfo(&text, ", run " INT64_FORMAT, request->run_id);
	if (request->backfill_id != 0)
		appendStringInfo(&text, ", backfill " INT64_FORMAT,
						 request->backfill_id);
	appendStringInfoChar(&text, ')');
	return text.data;
}

/* Since then time has been spent on a request of this role that has failed. */
static void
pause_role(Oid role, TimestampTz since)
{
	TimestampTz now = fp_clock_real();
	RolePause  *pause;

	if (role_pauses == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = sizeof(Oid);
		control.entrysize = sizeof(RolePause);
		role_pauses = hash_create("flowpg roles of failed requests", 16,
								  &control, HASH_ELEM | HASH_BLOBS);
	}
	pause = hash_search(role_pauses, &role, HASH_ENTER, NULL);
	pause->until = now + Min(ROLE_PAUSE_FACTOR * Max(0, now - since),
							 MAX_DELAY_MS * INT64CONST(1000));
}

static TimestampTz
role_pause_end(Oid role)
{
	RolePause  *pause = NULL;

	if (role_pauses != NULL)
		pause = hash_search(role_pauses, &role, HASH_FIND, NULL);
	return pause == NULL ? DT_NOBEGIN : pause->until;
}

/* What was asked of the same DAG, or in the same backfill, after it waits. */
static void
hold(Held *held, const FpRequest *request)
{
	if (request->dag_id != NULL)
	{
		if (held->dags == NULL)
		{
			HASHCTL		control = {0};

			control.keysize = FP_ID_SIZE;
			control.entrysize = FP_ID_SIZE;
			control.hcxt = CurrentMemoryContext;
			held->dags = hash_create("flowpg DAGs of requests that wait", 64,
									 &control,
									 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
		}
		hash_search(held->dags, request->dag_id, HASH_ENTER, NULL);
	}
	if (request->backfill_id != 0)
		held->backfills = lappend(held->backfills,
								  unconstify(FpRequest *, request));
}

/*
 * Until the runs of a dropped DAG have been cancelled, which is done in the
 * transaction in which the last of them comes in, none may come in: the DAG
 * that has its name now may be another role's.  So a drop keeps its place, it
 * waits for nothing else, and where it has failed, all others wait.
 */
static bool
is_drop(const FpRequest *request)
{
	return request->kind == FP_REQUEST_DAG && request->args != NULL;
}

/*
 * A definition is read as it now is, whatever was asked for before: it waits
 * for nothing, so that a pause counts at once.
 */
static bool
is_held(const Held *held, const FpRequest *request)
{
	int64		backfill_id = request->backfill_id;
	ListCell   *lc;

	if (request->kind == FP_REQUEST_DAG && !is_drop(request))
		return false;
	if (held->dags != NULL && request->dag_id != NULL &&
		hash_search(held->dags, request->dag_id, HASH_FIND, NULL) != NULL)
		return true;
	if (held->backfills == NIL)
		return false;
	/* a run of another DAG, by its cascade */
	if (request->run_id != 0)
	{
		FpRunRow   *row = fp_run_store_get(request->run_id);

		if (row != NULL)
			backfill_id = row->backfill_id;
	}
	foreach(lc, held->backfills)
	{
		if (((FpRequest *) lfirst(lc))->backfill_id == backfill_id)
			return true;
	}
	return false;
}


/* ---- what is asked for ---- */

/* False: a session's lock is in the way; nothing has been done, or all but that. */
static bool
apply(FpModel *model, const FpRequest *request)
{
	FpRun	   *run;

	switch (request->kind)
	{
		case FP_REQUEST_DAG:
			return dag_changed(model, request);
		case FP_REQUEST_RUN:
			run_added(model, request->run_id);
			break;
		case FP_REQUEST_BACKFILL:
			return fp_backfill_life_take(model, request->backfill_id);
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
			return fp_rework_tasks(model, request->run_id,
								   get_list_arg(request, "task_ids"),
								   FP_TASK_RUN_NONE,
								   get_arg(request, "is_cascaded") != NULL);
		case FP_REQUEST_MARK:
			return fp_rework_tasks(model, request->run_id,
								   get_list_arg(request, "task_ids"),
								   fp_task_run_state_parse(get_arg(request, "state")),
								   false);
		case FP_REQUEST_DAG_LOG:
			return word_given(model, request);
		case FP_REQUEST_POOL:
			fp_model_load_pools(model);
			break;
	}
	return true;
}

/*
 * args of a drop: {"is_dropped": true, "last_run_id": n}.  The DAG may have
 * been defined anew since; runs up to that one are those of the old DAG.
 */
static bool
dag_changed(FpModel *model, const FpRequest *request)
{
	FpDag	   *dag;
	bool		is_done = true;

	fp_model_reload_dag(model, request->dag_id);
	dag = fp_model_dag(model, request->dag_id, false);
	if (dag == NULL)
		return true;

	/*
	 * The old DAG may have started runs after it was dropped and before that
	 * was committed.  Nothing of it may begin as a new owner.
	 */
	cancel_runs(model, dag, last_run_id_of(request));
	if (is_drop(request))
		dag->is_drop_pending = false;
	if (dag->row == NULL)
	{
		cancel_runs(model, dag, PG_INT64_MAX);
		return true;
	}

	dag->is_behind = false;
	fp_model_set_next(model, dag, fp_clock_now());
	if (!dag->row->is_paused)
		is_done = fp_link_catch_up(model, dag);
	if (is_drop(request))
		dag->is_drop_pending = !is_done;
	fp_link_wake_waiting(model, dag);
	fp_model_mark_dirty(model, dag);
	return is_done;
}

static int64
last_run_id_of(const FpRequest *request)
{
	char	   *last_run_id = NULL;

	if (request->args != NULL)
		last_run_id = get_arg(request, "last_run_id");
	return last_run_id != NULL ? pg_strtoint64(last_run_id) : 0;
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
static bool
word_given(FpModel *model, const FpRequest *request)
{
	char	   *date = get_arg(request, "date");

	if (date == NULL)
		return true;
	return fp_link_word(model, request->dag_id,
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
