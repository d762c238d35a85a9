/*-------------------------------------------------------------------------
 *
 * backfill_store.c
 *	  All SQL on the backfill tables: backfill, backfill_run, and the dag_run
 *	  rows that a backfill inserts.
 *
 * Runs in sessions, which insert, and in the scheduler, which does the rest.
 * A backfill of ten years by the hour is 87,600 runs: they go in with one
 * statement a DAG, from arrays.
 *
 * Inserting may wait for another transaction that inserts a run of the same
 * interval; runs go in by dag_id and time everywhere, so two backfills that
 * meet cannot deadlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "backfill_store.h"
#include "spi_util.h"
#include "store_args.h"

/* Collects the runs of one DAG that an INSERT has made. */
typedef struct InsertedRuns
{
	FpPlannedRun **runs;		/* as handed to the INSERT */
	int			nruns;
	int			next;			/* of runs, to be looked at */
} InsertedRuns;

static const char *const state_names[] = {
	[FP_BACKFILL_QUEUED] = "queued",
	[FP_BACKFILL_RUNNING] = "running",
	[FP_BACKFILL_PAUSED] = "paused",
	[FP_BACKFILL_SUCCESS] = "success",
	[FP_BACKFILL_FAILED] = "failed",
	[FP_BACKFILL_CANCELLED] = "cancelled",
};

static const char *const reprocess_names[] = {
	[FP_REPROCESS_NONE] = "none",
	[FP_REPROCESS_FAILED] = "failed",
	[FP_REPROCESS_COMPLETED] = "completed",
};

/* backfill_run.action; NULL: gets no row */
static const char *const action_names[] = {
	[FP_PLAN_CREATE] = "create",
	[FP_PLAN_FAILED] = "failed",
	[FP_PLAN_COMPLETED] = "completed",
	[FP_PLAN_CASCADE] = "cascade",
	[FP_PLAN_SKIP_EXISTS] = NULL,
	[FP_PLAN_SKIP_IN_PROGRESS] = NULL,
};

#define BACKFILL_COLUMNS \
	"b.backfill_id, b.dag_id, b.state, b.from_date, b.to_date," \
	" pg_catalog.lower(b.span), pg_catalog.upper(b.span), b.reprocess," \
	" b.max_active_runs, b.run_backwards, b.ignore_depends_on_past," \
	" b.is_cascading, b.stop_on_failure, b.run_window, b.priority," \
	" b.conf::text, b.xmin"

static FpStatement insert_backfill = {
	"INSERT INTO flow.backfill (dag_id, from_date, to_date, span, reprocess,"
	" state, created_at, max_active_runs, run_backwards,"
	" ignore_depends_on_past, is_cascading, stop_on_failure, chunk,"
	" run_window, priority, conf, requested_by)"
	" VALUES ($1, $2, $3, tstzrange($4, $5), $6, 'queued', $7, $8, $9, $10,"
	" $11, $12, $13, $14, $15, coalesce($16::jsonb, '{}'), $17::oid)"
	" RETURNING backfill_id",
	SPI_OK_INSERT_RETURNING, 17,
	{TEXTOID, DATEOID, DATEOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
		TIMESTAMPTZOID, INT4OID, BOOLOID, BOOLOID, BOOLOID, BOOLOID,
	INTERVALOID, TEXTOID, INT4OID, TEXTOID, OIDOID}
};

static FpStatement select_backfill = {
	"SELECT " BACKFILL_COLUMNS " FROM flow.backfill b"
	" WHERE b.backfill_id = $1",
	SPI_OK_SELECT, 1, {INT8OID}
};

static FpStatement select_unfinished = {
	"SELECT " BACKFILL_COLUMNS " FROM flow.backfill b"
	" WHERE b.ended_at IS NULL ORDER BY b.backfill_id",
	SPI_OK_SELECT, 0
};

static FpStatement update_state = {
	"UPDATE flow.backfill SET state = $2, ended_at = $3"
	" WHERE backfill_id = $1",
	SPI_OK_UPDATE, 3, {INT8OID, TEXTOID, TIMESTAMPTZOID}
};

static FpStatement insert_runs = {
	"INSERT INTO flow.dag_run (dag_id, run_type, logical_date,"
	" data_interval_start, data_interval_end, state, conf, queued_at,"
	" backfill_id)"
	" SELECT $1, 'backfill', i.start_at, i.start_at, i.end_at, 'queued',"
	" coalesce($4::jsonb, '{}'), $5, $6"
	" FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY"
	" AS i (start_at, end_at, number) ORDER BY i.number"
	" ON CONFLICT DO NOTHING RETURNING run_id, logical_date",
	SPI_OK_INSERT_RETURNING, 6,
	{TEXTOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID,
	TIMESTAMPTZOID, INT8OID}
};

/* several intervals may be covered by one run: its first one counts */
static FpStatement insert_backfill_runs = {
	"INSERT INTO flow.backfill_run (backfill_id, run_id, ordinal, action)"
	" SELECT $1, i.run_id, i.ordinal, i.action"
	" FROM unnest($2::bigint[], $3::bigint[], $4::text[])"
	" AS i (run_id, ordinal, action)"
	" ON CONFLICT DO NOTHING",
	SPI_OK_INSERT, 4, {INT8OID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID}
};

static FpStatement select_progress = {
	"SELECT s.state, s.total, s.success, s.failed, s.running, s.pending,"
	" s.eta::text, date_trunc('second',"
	" coalesce(s.ended_at, clock_timestamp()) - s.created_at)::text"
	" FROM flow.backfill_status s WHERE s.backfill_id = $1",
	SPI_OK_SELECT, 1, {INT8OID}
};

static FpStatement select_depends_on_past = {
	"SELECT EXISTS (SELECT FROM flow.task k JOIN flow.dag d USING (dag_id)"
	" WHERE k.dag_id = $1"
	" AND coalesce(k.depends_on_past, d.depends_on_past))",
	SPI_OK_SELECT, 1, {TEXTOID}
};

static FpStatement select_run_xmin = {
	"SELECT r.xmin FROM flow.dag_run r WHERE r.run_id = $1",
	SPI_OK_SELECT, 1, {INT8OID}
};

static void read_backfill(const FpRow *row, void *arg);
static void read_backfills(const FpRow *row, void *arg);
static FpBackfillRow *make_backfill(const FpRow *row);
static void read_is_own(const FpRow *row, void *arg);
static void read_progress(const FpRow *row, void *arg);
static void read_inserted_run(const FpRow *row, void *arg);
static void insert_missing_runs(int64 backfill_id, FpPlannedRun **runs,
								int nruns, const char *conf,
								TimestampTz queued_at);
static int	compare_planned_runs(const void *a, const void *b);
static int	find_name(const char *const *names, int n, const char *name);


const char *
fp_backfill_state_name(FpBackfillState state)
{
	return state_names[state];
}

bool
fp_backfill_state_is_finished(FpBackfillState state)
{
	return state == FP_BACKFILL_SUCCESS || state == FP_BACKFILL_FAILED ||
		state == FP_BACKFILL_CANCELLED;
}

int64
fp_backfill_store_insert(const FpBackfillRow *row, Oid requested_by,
						 TimestampTz created_at)
{
	FpStoreArgs args = {0};
	int64		backfill_id = 0;

	fp_store_args_add_text(&args, row->dag_id);
	fp_store_args_add(&args, DateADTGetDatum(row->from_date), !row->has_dates);
	fp_store_args_add(&args, DateADTGetDatum(row->to_date), !row->has_dates);
	fp_store_args_add_time(&args, row->from);
	fp_store_args_add_time(&args, row->until);
	fp_store_args_add_text(&args, reprocess_names[row->reprocess]);
	fp_store_args_add_time(&args, created_at);
	fp_store_args_add_count(&args, row->max_active_runs);
	fp_store_args_add_bool(&args, row->run_backwards);
	fp_store_args_add_bool(&args, row->ignore_depends_on_past);
	fp_store_args_add_bool(&args, row->is_cascading);
	fp_store_args_add_bool(&args, row->stop_on_failure);
	fp_store_args_add_interval(&args, row->chunk);
	fp_store_args_add_text(&args, row->run_window);
	fp_store_args_add_int(&args, row->priority);
	fp_store_args_add_text(&args, row->conf);
	fp_store_args_add_oid(&args, requested_by);

	fp_store_execute(&insert_backfill, &args, fp_store_keep_int64,
					 &backfill_id);
	return backfill_id;
}

FpBackfillRow *
fp_backfill_store_get(int64 backfill_id)
{
	FpStoreArgs args = {0};
	FpBackfillRow *result = NULL;

	fp_store_args_add_id(&args, backfill_id);
	fp_store_execute(&select_backfill, &args, read_backfill, &result);
	return result;
}

List *
fp_backfill_store_unfinished(void)
{
	FpStoreArgs args = {0};
	List	   *result = NIL;

	fp_store_execute(&select_unfinished, &args, read_backfills, &result);
	return result;
}

void
fp_backfill_store_set_state(int64 backfill_id, FpBackfillState state,
							TimestampTz at)
{
	FpStoreArgs args = {0};

	fp_store_args_add_id(&args, backfill_id);
	fp_store_args_add_text(&args, state_names[state]);
	fp_store_args_add(&args, TimestampTzGetDatum(at),
					  !fp_backfill_state_is_finished(state));
	fp_store_execute(&update_state, &args, NULL, NULL);
}

int64
fp_backfill_store_add_runs(int64 backfill_id, const char *dag_id,
						   List *planned_runs, const char *conf,
						   TimestampTz queued_at)
{
	FpPlannedRun **runs;
	int			nruns = 0;
	Datum	   *run_ids;
	Datum	   *ordinals;
	Datum	   *actions;
	FpStoreArgs args = {0};
	int			n = 0;
	ListCell   *cell;

	runs = palloc((list_length(planned_runs) + 1) * sizeof(FpPlannedRun *));
	foreach(cell, planned_runs)
	{
		FpPlannedRun *run = lfirst(cell);

		if (action_names[run->action] != NULL)
			runs[nruns++] = run;
	}
	qsort(runs, nruns, sizeof(FpPlannedRun *), compare_planned_runs);

	for (int first = 0, end; first < nruns; first = end)
	{
		bool		is_own = strcmp(runs[first]->dag_id, dag_id) == 0;

		for (end = first + 1; end < nruns; end++)
		{
			if (strcmp(runs[end]->dag_id, runs[first]->dag_id) != 0)
				break;
		}
		insert_missing_runs(backfill_id, runs + first, end - first,
							is_own ? conf : NULL, queued_at);
	}

	run_ids = palloc((nruns + 1) * sizeof(Datum));
	ordinals = palloc((nruns + 1) * sizeof(Datum));
	actions = palloc((nruns + 1) * sizeof(Datum));
	for (int i = 0; i < nruns; i++)
	{
		/* 0: another transaction has made it, and has it in progress */
		if (runs[i]->run_id == 0)
			continue;
		run_ids[n] = Int64GetDatum(runs[i]->run_id);
		ordinals[n] = Int64GetDatum(runs[i]->ordinal);
		actions[n] = fp_datum_text(action_names[runs[i]->action]);
		n++;
	}
	fp_store_args_add_id(&args, backfill_id);
	fp_store_args_add_array(&args, run_ids, n, INT8OID);
	fp_store_args_add_array(&args, ordinals, n, INT8OID);
	fp_store_args_add_array(&args, actions, n, TEXTOID);
	fp_store_execute(&insert_backfill_runs, &args, NULL, NULL);

	return n;
}

bool
fp_backfill_store_progress(int64 backfill_id, FpBackfillProgress *progress)
{
	FpStoreArgs args = {0};

	memset(progress, 0, sizeof(FpBackfillProgress));
	fp_store_args_add_id(&args, backfill_id);
	fp_store_execute(&select_progress, &args, read_progress, progress);
	return progress->state != NULL;
}

bool
fp_backfill_store_depends_on_past(const char *dag_id)
{
	FpStoreArgs args = {0};
	bool		result = false;

	fp_store_args_add_text(&args, dag_id);
	fp_store_execute(&select_depends_on_past, &args, fp_store_keep_bool,
					 &result);
	return result;
}

bool
fp_backfill_store_is_new_run(int64 run_id)
{
	FpStoreArgs args = {0};
	bool		result = false;

	fp_store_args_add_id(&args, run_id);
	fp_store_execute(&select_run_xmin, &args, read_is_own, &result);
	return result;
}

static void
read_backfill(const FpRow *row, void *arg)
{
	*(FpBackfillRow **) arg = make_backfill(row);
}

static void
read_backfills(const FpRow *row, void *arg)
{
	List	  **list = arg;

	*list = lappend(*list, make_backfill(row));
}

/*
 * The row with the columns BACKFILL_COLUMNS.
 */
static FpBackfillRow *
make_backfill(const FpRow *row)
{
	FpBackfillRow *result = palloc0(sizeof(FpBackfillRow));
	bool		isnull;
	Datum		date;

	result->backfill_id = fp_row_int64(row, 1);
	result->dag_id = fp_row_text(row, 2);
	result->state = find_name(state_names, lengthof(state_names),
							  fp_row_text(row, 3));
	date = fp_row_datum(row, 4, &isnull);
	result->has_dates = !isnull;
	if (result->has_dates)
	{
		result->from_date = DatumGetDateADT(date);
		result->to_date = DatumGetDateADT(fp_row_datum(row, 5, &isnull));
	}
	result->from = fp_row_timestamptz(row, 6, DT_NOBEGIN);
	result->until = fp_row_timestamptz(row, 7, DT_NOEND);
	result->reprocess = find_name(reprocess_names, lengthof(reprocess_names),
								  fp_row_text(row, 8));
	result->max_active_runs = fp_row_is_null(row, 9) ? -1 :
		fp_row_int32(row, 9);
	result->run_backwards = fp_row_bool(row, 10);
	result->ignore_depends_on_past = fp_row_bool(row, 11);
	result->is_cascading = fp_row_bool(row, 12);
	result->stop_on_failure = fp_row_bool(row, 13);
	result->run_window = fp_row_text(row, 14);
	result->priority = fp_row_int32(row, 15);
	result->conf = fp_row_text(row, 16);
	result->is_of_own_transaction =
		TransactionIdIsCurrentTransactionId(fp_row_oid(row, 17));
	return result;
}

static void
read_is_own(const FpRow *row, void *arg)
{
	*(bool *) arg = TransactionIdIsCurrentTransactionId(fp_row_oid(row, 1));
}

static void
read_progress(const FpRow *row, void *arg)
{
	FpBackfillProgress *progress = arg;

	progress->state = fp_row_text(row, 1);
	progress->total = fp_row_int64(row, 2);
	progress->success = fp_row_int64(row, 3);
	progress->failed = fp_row_int64(row, 4);
	progress->running = fp_row_int64(row, 5);
	progress->pending = fp_row_int64(row, 6);
	progress->eta = fp_row_text(row, 7);
	progress->elapsed = fp_row_text(row, 8);
}

/*
 * Rows come back in the order in which they went in, less those that met a
 * run of another transaction.
 */
static void
read_inserted_run(const FpRow *row, void *arg)
{
	InsertedRuns *inserted = arg;
	TimestampTz start = fp_row_timestamptz(row, 2, DT_NOBEGIN);

	while (inserted->next < inserted->nruns &&
		   inserted->runs[inserted->next]->start != start)
		inserted->next++;
	if (inserted->next >= inserted->nruns)
		elog(ERROR, "a run was inserted that was not planned");
	inserted->runs[inserted->next++]->run_id = fp_row_int64(row, 1);
}

/*
 * Insert those of the runs of one DAG, sorted by time, that are not there,
 * and note their run_id.
 */
static void
insert_missing_runs(int64 backfill_id, FpPlannedRun **runs, int nruns,
					const char *conf, TimestampTz queued_at)
{
	InsertedRuns inserted;
	Datum	   *starts;
	Datum	   *ends;
	FpStoreArgs args = {0};

	inserted.runs = palloc(nruns * sizeof(FpPlannedRun *));
	inserted.nruns = 0;
	inserted.next = 0;
	starts = palloc(nruns * sizeof(Datum));
	ends = palloc(nruns * sizeof(Datum));
	for (int i = 0; i < nruns; i++)
	{
		if (runs[i]->run_id != 0)
			continue;
		starts[inserted.nruns] = TimestampTzGetDatum(runs[i]->start);
		ends[inserted.nruns] = TimestampTzGetDatum(runs[i]->end);
		inserted.runs[inserted.nruns++] = runs[i];
	}
	if (inserted.nruns == 0)
		return;

	fp_store_args_add_text(&args, runs[0]->dag_id);
	fp_store_args_add_array(&args, starts, inserted.nruns, TIMESTAMPTZOID);
	fp_store_args_add_array(&args, ends, inserted.nruns, TIMESTAMPTZOID);
	fp_store_args_add_text(&args, conf);
	fp_store_args_add_time(&args, queued_at);
	fp_store_args_add_id(&args, backfill_id);
	fp_store_execute(&insert_runs, &args, read_inserted_run, &inserted);
}

static int
compare_planned_runs(const void *a, const void *b)
{
	const FpPlannedRun *left = *(FpPlannedRun *const *) a;
	const FpPlannedRun *right = *(FpPlannedRun *const *) b;
	int			result = strcmp(left->dag_id, right->dag_id);

	if (result != 0)
		return result;
	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return 0;
}

static int
find_name(const char *const *names, int n, const char *name)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	elog(ERROR, "unrecognized word in a backfill: \"%s\"", name);
	return 0;					/* keep compiler quiet */
}
