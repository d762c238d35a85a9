/*-------------------------------------------------------------------------
 *
 * request_store.c
 *	  flow.request: what sessions ask of the scheduler.
 *
 * Sessions insert; the scheduler, which alone changes runs under way, reads
 * and deletes.  A row becomes visible with the change that it tells of, in
 * one commit, so the scheduler never looks too early; and it outlives a crash
 * of the server.  Rows of the kind to_clear are the scheduler's own: tasks that
 * are to be cleared as soon as their worker has stopped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "clock.h"
#include "request_store.h"
#include "shmem.h"
#include "spi_util.h"
#include "store_args.h"

/* Which DAG request this transaction wrote last. */
typedef struct LastDagRequest
{
	TransactionId transaction;
	SubTransactionId subtransaction;
	char		dag_id[FP_ID_SIZE];
} LastDagRequest;

static const char *const kind_names[] = {
	[FP_REQUEST_DAG] = "dag",
	[FP_REQUEST_RUN] = "run",
	[FP_REQUEST_BACKFILL] = "backfill",
	[FP_REQUEST_PAUSE_BACKFILL] = "pause_backfill",
	[FP_REQUEST_RESUME_BACKFILL] = "resume_backfill",
	[FP_REQUEST_CANCEL_BACKFILL] = "cancel_backfill",
	[FP_REQUEST_CANCEL_RUN] = "cancel_run",
	[FP_REQUEST_CLEAR] = "clear",
	[FP_REQUEST_MARK] = "mark",
	[FP_REQUEST_DAG_LOG] = "dag_log",
	[FP_REQUEST_POOL] = "pool",
};

static FpStatement insert_request = {
	"INSERT INTO flow.request"
	" (kind, dag_id, run_id, backfill_id, args, requested_by, requested_at) "
	"VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7) RETURNING request_id",
	SPI_OK_INSERT_RETURNING, 7, {
		TEXTOID, TEXTOID, INT8OID, INT8OID, TEXTOID, REGROLEOID,
		TIMESTAMPTZOID
	}
};

#define REQUEST_COLUMNS \
	"request_id, kind, dag_id, run_id, backfill_id, args, requested_by "

static FpStatement get_requests = {
	"SELECT " REQUEST_COLUMNS "FROM flow.request "
	"WHERE request_id = ANY ($1) ORDER BY request_id",
	SPI_OK_SELECT, 1, {INT8ARRAYOID}
};

static FpStatement list_requests = {
	"SELECT " REQUEST_COLUMNS "FROM flow.request "
	"WHERE kind <> 'to_clear' ORDER BY request_id",
	SPI_OK_SELECT, 0, {0}
};

static FpStatement delete_requests = {
	"DELETE FROM flow.request WHERE request_id = ANY ($1)",
	SPI_OK_DELETE, 1, {INT8ARRAYOID}
};

static LastDagRequest last_dag_request;

static bool is_repeated(const char *dag_id);
static void remember(const char *dag_id);
static void append_request(const FpRow *row, void *arg);
static void append_to_clear(const FpRow *row, void *arg);
static FpRequestKind parse_kind(const char *name);


void
fp_request_store_add(FpRequestKind kind, const char *dag_id, int64 run_id,
					 int64 backfill_id, const char *args)
{
	FpStoreArgs statement_args = {0};
	bool		is_plain_dag = kind == FP_REQUEST_DAG && args == NULL;
	int64		request_id = 0;

	fp_shmem_require();
	if (is_plain_dag && is_repeated(dag_id))
		return;

	fp_store_args_add_text(&statement_args, kind_names[kind]);
	fp_store_args_add_text(&statement_args, dag_id);
	fp_store_args_add_id(&statement_args, run_id);
	fp_store_args_add_id(&statement_args, backfill_id);
	fp_store_args_add_text(&statement_args, args);
	fp_store_args_add_oid(&statement_args, GetUserId());
	fp_store_args_add_time(&statement_args, fp_clock_real());
	fp_store_execute(&insert_request, &statement_args, fp_store_keep_int64,
					 &request_id);
	fp_shmem_tell_at_commit(request_id);

	if (is_plain_dag)
		remember(dag_id);
}

const char *
fp_request_kind_name(FpRequestKind kind)
{
	return kind_names[kind];
}

List *
fp_request_store_get(const int64 *request_ids, int n)
{
	FpStoreArgs args = {0};
	Datum	   *ids;
	List	   *result = NIL;

	if (n == 0)
		return NIL;
	ids = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(request_ids[i]);
	fp_store_args_add_array(&args, ids, n, INT8OID);
	fp_store_execute(&get_requests, &args, append_request, &result);
	return result;
}

List *
fp_request_store_list(void)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_execute(&list_requests, &args, append_request, &result);
	return result;
}

void
fp_request_store_delete(List *requests)
{
	FpStoreArgs args = {0};
	Datum	   *ids;
	int			n = 0;
	ListCell   *lc;

	if (requests == NIL)
		return;

	ids = palloc(sizeof(Datum) * list_length(requests));
	foreach(lc, requests)
		ids[n++] = Int64GetDatum(((FpRequest *) lfirst(lc))->request_id);
	fp_store_args_add_array(&args, ids, n, INT8OID);
	fp_store_execute(&delete_requests, &args, NULL, NULL);
}

int64
fp_request_store_add_to_clear(int64 run_id, const char *task_id, Oid owner)
{
	static FpStatement statement = {
		"INSERT INTO flow.request"
		" (kind, run_id, args, requested_by, requested_at) "
		"VALUES ('to_clear', $1, jsonb_build_object('task_id', $2), $3, $4) "
		"RETURNING request_id",
		SPI_OK_INSERT_RETURNING, 4, {
			INT8OID, TEXTOID, REGROLEOID, TIMESTAMPTZOID
		}
	};
	FpStoreArgs args = {0};
	int64		request_id = 0;

	fp_store_args_add_id(&args, run_id);
	fp_store_args_add_text(&args, task_id);
	fp_store_args_add_oid(&args, owner);
	fp_store_args_add_time(&args, fp_clock_real());
	fp_store_execute(&statement, &args, fp_store_keep_int64, &request_id);
	return request_id;
}

List *
fp_request_store_to_clear(void)
{
	static FpStatement statement = {
		"SELECT request_id, run_id, args ->> 'task_id' FROM flow.request "
		"WHERE kind = 'to_clear'",
		SPI_OK_SELECT, 0, {0}
	};
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_execute(&statement, &args, append_to_clear, &result);
	return result;
}

void
fp_request_store_delete_to_clear(int64 request_id)
{
	static FpStatement statement = {
		"DELETE FROM flow.request WHERE request_id = $1 AND kind = 'to_clear'",
		SPI_OK_DELETE, 1, {INT8OID}
	};
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, request_id);
	fp_store_execute(&statement, &args, NULL, NULL);
}

/*
 * Whether this transaction has just asked the same.  A DAG of a thousand tasks
 * is defined by as many calls, and the scheduler reads it once, after the
 * commit.
 *
 * The subtransaction must be the same too: a request of another one may have
 * been rolled back.
 */
static bool
is_repeated(const char *dag_id)
{
	TransactionId transaction = GetTopTransactionIdIfAny();

	return TransactionIdIsValid(transaction) &&
		last_dag_request.transaction == transaction &&
		last_dag_request.subtransaction == GetCurrentSubTransactionId() &&
		strcmp(last_dag_request.dag_id, dag_id) == 0;
}

static void
remember(const char *dag_id)
{
	last_dag_request.transaction = GetTopTransactionId();
	last_dag_request.subtransaction = GetCurrentSubTransactionId();
	strlcpy(last_dag_request.dag_id, dag_id, sizeof(last_dag_request.dag_id));
}

static void
append_request(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;
	FpRequest  *request = palloc0(sizeof(FpRequest));

	request->request_id = fp_row_int64(row, 1);
	request->kind = parse_kind(fp_row_text(row, 2));
	request->dag_id = fp_row_text(row, 3);
	request->run_id = fp_row_int64(row, 4);
	request->backfill_id = fp_row_int64(row, 5);
	request->args = fp_row_text(row, 6);
	request->requested_by = fp_row_oid(row, 7);
	*list = lappend(*list, request);
}

static void
append_to_clear(const FpRow *row, void *arg)
{
	List	  **list = (List **) arg;
	FpToClear  *to_clear = palloc(sizeof(FpToClear));

	to_clear->request_id = fp_row_int64(row, 1);
	to_clear->run_id = fp_row_int64(row, 2);
	to_clear->task_id = fp_row_text(row, 3);
	*list = lappend(*list, to_clear);
}

static FpRequestKind
parse_kind(const char *name)
{
	for (int i = 0; i < lengthof(kind_names); i++)
	{
		if (strcmp(kind_names[i], name) == 0)
			return (FpRequestKind) i;
	}
	elog(ERROR, "unrecognized request kind: \"%s\"", name);
	return FP_REQUEST_DAG;		/* keep compiler quiet */
}
