/*-------------------------------------------------------------------------
 *
 * guc.h
 *	  flowpg's settings.  guc.c defines them all; each variable is described
 *	  there, in the long text that pg_settings shows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_GUC_H
#define FLOWPG_GUC_H

#include "datatype/timestamp.h"

extern double fp_backfill_worker_share;
extern bool fp_catchup_by_default;
extern bool fp_check_definitions;
extern bool fp_enabled;
extern int	fp_history_retention;	/* minutes; 0 keeps for ever */
extern int	fp_log_min_level;
extern int	fp_max_active_runs_per_dag;
extern int	fp_max_active_tasks_per_dag;
extern int	fp_max_workers;
extern char *fp_timezone;
extern int	fp_worker_idle_timeout; /* ms */

/*
 * flowpg.simulated_now as this process read it; DT_NOBEGIN where the setting
 * is empty.  Decisions ask clock.c, not this.
 */
extern TimestampTz fp_simulated_now;

/* whether flowpg.log_min_level lets messages of this level into the log */
#define fp_guc_logs(level) ((level) >= fp_log_min_level)

extern void fp_guc_define(void);

#endif							/* FLOWPG_GUC_H */
