/*-------------------------------------------------------------------------
 *
 * request_store.h
 *	  flow.request: what sessions ask of the scheduler.
 *
 * A session checks its arguments and rights, writes a request (and, for new
 * runs, their rows) and wakes the scheduler at commit; the scheduler does
 * what is asked and deletes the request in one commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_REQUEST_STORE_H
#define FLOWPG_REQUEST_STORE_H

#include "nodes/pg_list.h"

#include "flowpg.h"

typedef enum FpRequestKind
{
	FP_REQUEST_DAG,				/* dag_id: its definition, pause, owner or
								 * links changed; args {"is_dropped": true,
								 * "last_run_id": n}: it was dropped, and the
								 * runs up to n were its, even where there is
								 * a DAG of this name again */
	FP_REQUEST_RUN,				/* run_id: a queued run was inserted */
	FP_REQUEST_BACKFILL,		/* backfill_id: it and its backfill_run rows
								 * were inserted */
	FP_REQUEST_PAUSE_BACKFILL,	/* backfill_id */
	FP_REQUEST_RESUME_BACKFILL, /* backfill_id */
	FP_REQUEST_CANCEL_BACKFILL, /* backfill_id */
	FP_REQUEST_CANCEL_RUN,		/* run_id */
	FP_REQUEST_CLEAR,			/* run_id; args {"task_ids": [...]} */
	FP_REQUEST_MARK,			/* run_id; args {"task_ids": [...],
								 * "state": "success"} */
	FP_REQUEST_DAG_LOG,			/* dag_id; args {"date": }: an outside word */
	FP_REQUEST_POOL				/* a pool changed */
} FpRequestKind;

typedef struct FpRequest
{
	int64		request_id;
	FpRequestKind kind;
	char	   *dag_id;			/* NULL where the kind has none */
	int64		run_id;
	int64		backfill_id;
	char	   *args;			/* jsonb as text, or NULL */
	Oid			requested_by;
} FpRequest;

/*
 * A task that a worker had when it was to be cleared, and that is cleared when
 * its attempt has stopped.  Written by the scheduler, for the one that may
 * begin again meanwhile; fp_request_store_get and _list leave them out.
 */
typedef struct FpToClear
{
	int64		request_id;
	int64		run_id;
	char	   *task_id;
} FpToClear;

/*
 * Writes a request and arranges the wake-up.  Called by sessions inside an
 * owner scope (fp_spi_begin_owner) or not: it opens its own.  0 and NULL: not
 * given.
 */
extern void fp_request_store_add(FpRequestKind kind, const char *dag_id,
								 int64 run_id, int64 backfill_id,
								 const char *args);

extern const char *fp_request_kind_name(FpRequestKind kind);

/*
 * scheduler: those of these requests that are open, or all open ones, in
 * order, as a List of FpRequest *
 */
extern List *fp_request_store_get(const int64 *request_ids, int n);
extern List *fp_request_store_list(void);
extern void fp_request_store_delete(List *requests);

/* scheduler: a task of a DAG of this owner to be cleared, by request_id; all,
 * as FpToClear * */
extern int64 fp_request_store_add_to_clear(int64 run_id, const char *task_id,
										   Oid owner);
extern List *fp_request_store_to_clear(void);
extern void fp_request_store_delete_to_clear(int64 request_id);

#endif							/* FLOWPG_REQUEST_STORE_H */
