/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  Every setting of flowpg: variable, definition, check hook.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "pgtime.h"
#include "utils/datetime.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "guc.h"

double		fp_backfill_worker_share = 0.5;
bool		fp_catchup_by_default = true;
bool		fp_check_definitions = true;
bool		fp_enabled = true;
int			fp_history_retention = 90 * MINS_PER_HOUR * HOURS_PER_DAY;
int			fp_log_min_level = LOG;
int			fp_max_active_runs_per_dag = 16;
int			fp_max_active_tasks_per_dag = 16;
int			fp_max_workers = 8;
char	   *fp_timezone = NULL;
int			fp_worker_idle_timeout = 60000;
TimestampTz fp_simulated_now = DT_NOBEGIN;

static char *simulated_now_string = NULL;

/* What is written to the server log of flowpg's own doing. */
static const struct config_enum_entry log_level_options[] = {
	{"debug", DEBUG1, false},
	{"log", LOG, false},
	{"warning", WARNING, false},
	{NULL, 0, false}
};

static bool check_simulated_now(char **newval, void **extra,
								GucSource source);
static void assign_simulated_now(const char *newval, void *extra);
static bool check_timezone_name(char **newval, void **extra,
								GucSource source);

/*
 * Called by _PG_init while the postmaster preloads the library.
 */
void
fp_guc_define(void)
{
	DefineCustomRealVariable("flowpg.backfill_worker_share",
							 "Part of the workers that backfills may hold while other work waits.",
							 NULL,
							 &fp_backfill_worker_share, 0.5, 0.0, 1.0,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("flowpg.catchup_by_default",
							 "Whether a DAG that does not say makes up for missed intervals.",
							 "Takes effect for DAGs defined afterwards.",
							 &fp_catchup_by_default, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("flowpg.check_definitions",
							 "Whether what a definition's SQL names must exist.",
							 "Off, only the grammar of SQL is checked when it is given, as with check_function_bodies.",
							 &fp_check_definitions, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("flowpg.enabled",
							 "Whether schedulers make and start runs.",
							 "Off, tasks that are running end, and nothing new is started.",
							 &fp_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("flowpg.history_retention",
							"How long finished runs are kept.",
							"0 keeps them for ever.",
							&fp_history_retention,
							90 * MINS_PER_HOUR * HOURS_PER_DAY, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomEnumVariable("flowpg.log_min_level",
							 "Least level of flowpg's own messages that the server log gets.",
							 "debug also logs each run that starts or succeeds.",
							 &fp_log_min_level, LOG, log_level_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("flowpg.max_active_runs_per_dag",
							"Unfinished runs that a DAG may have at once where it does not say.",
							NULL,
							&fp_max_active_runs_per_dag, 16, 1, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("flowpg.max_active_tasks_per_dag",
							"Tasks that a DAG may run at once, over all its runs, where it does not say.",
							NULL,
							&fp_max_active_tasks_per_dag, 16, 1, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("flowpg.max_workers",
							"Worker processes that the server runs for flowpg at most.",
							"They, a launcher and a scheduler for each database are background workers: max_worker_processes must have room for all.",
							&fp_max_workers, 8, 1, 1024,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("flowpg.simulated_now",
							   "What schedulers take for the present time, standing still; for tests.",
							   "Empty is the real time. ISO format with an offset, such as 2024-01-31 00:00:00+00.",
							   &simulated_now_string, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_simulated_now, assign_simulated_now,
							   NULL);
	DefineCustomStringVariable("flowpg.timezone",
							   "Timezone of a DAG that does not say.",
							   "Takes effect for DAGs defined afterwards.",
							   &fp_timezone, "UTC",
							   PGC_USERSET, 0, check_timezone_name, NULL,
							   NULL);
	DefineCustomIntVariable("flowpg.worker_idle_timeout",
							"How long a worker without work is kept.",
							"0 lets it leave as soon as there is nothing for it to do.",
							&fp_worker_idle_timeout, 60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	MarkGUCPrefixReserved("flowpg");
}

/*
 * Accepts an absolute time with its own offset and nothing that depends on
 * the session: words such as "now", and times without an offset, would mean
 * something else in each process.
 */
static bool
check_simulated_now(char **newval, void **extra, GucSource source)
{
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	char		work[MAXDATELEN + MAXDATEFIELDS];
	int			nfields;
	int			dtype;
	int			tz = 0;
	struct pg_tm tm;
	fsec_t		fsec;
	TimestampTz result;
	bool		has_offset = false;
	TimestampTz *copy;

	if (*newval == NULL || **newval == '\0')
		return true;

	if (strlen(*newval) > MAXDATELEN ||
		ParseDateTime(*newval, work, sizeof(work), field, ftype,
					  MAXDATEFIELDS, &nfields) != 0)
		goto invalid;
	for (int i = 0; i < nfields; i++)
	{
		if (ftype[i] == DTK_TZ)
			has_offset = true;
		else if (ftype[i] != DTK_DATE && ftype[i] != DTK_TIME)
			goto invalid;
	}
	if (!has_offset ||
		fp_decode_datetime(field, ftype, nfields, &dtype, &tm, &fsec, &tz) != 0 ||
		dtype != DTK_DATE ||
		tm2timestamp(&tm, fsec, &tz, &result) != 0)
		goto invalid;

	copy = guc_malloc(LOG, sizeof(TimestampTz));
	if (copy == NULL)
		return false;
	*copy = result;
	*extra = copy;
	return true;

invalid:
	GUC_check_errdetail("It must be a date and time with an offset, such as 2024-01-31 00:00:00+00.");
	return false;
}

static void
assign_simulated_now(const char *newval, void *extra)
{
	fp_simulated_now = extra != NULL ? *(TimestampTz *) extra : DT_NOBEGIN;
}

static bool
check_timezone_name(char **newval, void **extra, GucSource source)
{
	if (pg_tzset(*newval) == NULL)
	{
		GUC_check_errdetail("The view pg_timezone_names lists the timezones.");
		return false;
	}
	return true;
}
