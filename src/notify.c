/*-------------------------------------------------------------------------
 *
 * notify.c
 *	  NOTIFY: whoever listens is told of what has ended.
 *
 * Runs in the scheduler.  A commit with notifications waits for all others
 * of the server that have some, and fails while a listener that has fallen
 * asleep keeps their queue full.  Nothing may keep the end of a run from being
 * written: so they are sent in a transaction of their own, after the one that
 * they tell of, and are lost where that cannot be done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "notify.h"
#include "spi_util.h"

/* So long other databases' notifications may be waited for. */
#define LOCK_TIMEOUT "1s"

static void send_all(List *payloads);

void
fp_notify_add(FpModel *model, const char *payload)
{
	MemoryContext previous = MemoryContextSwitchTo(model->context);

	model->notifications = lappend(model->notifications, pstrdup(payload));
	MemoryContextSwitchTo(previous);
}

void
fp_notify_send(FpModel *model)
{
	static bool is_failing = false;
	MemoryContext context = CurrentMemoryContext;

	if (model->notifications == NIL)
		return;
	PG_TRY();
	{
		send_all(model->notifications);
		is_failing = false;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		AbortCurrentTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		pgstat_report_activity(STATE_IDLE, NULL);

		/* once until it succeeds again */
		if (!is_failing)
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("flowpg could not notify those who listen: %s",
							error->message)));
		is_failing = true;
		FreeErrorData(error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	list_free_deep(model->notifications);
	model->notifications = NIL;
}

/* The commit of a transaction that does nothing else does not wait for the disk. */
static void
send_all(List *payloads)
{
	ListCell   *lc;

	fp_spi_begin_transaction("flowpg: notifying");
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	foreach(lc, payloads)
		Async_Notify(FP_EXTENSION, lfirst(lc));
	fp_spi_commit_transaction();
}
