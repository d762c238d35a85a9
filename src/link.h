/*-------------------------------------------------------------------------
 *
 * link.h
 *	  How DAGs wait for each other: dependency_manager, coverage, dag_log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_LINK_H
#define FLOWPG_LINK_H

#include "utils/date.h"

#include "model.h"

/* Whether all asis DAGs of a queued run have succeeded for its interval. */
extern bool fp_link_is_satisfied(FpModel *model, FpRun *run);

/*
 * A run has succeeded, which is recorded in this transaction: writes its
 * coverage and its dag_log row, and makes and wakes the runs that have waited
 * for it.
 */
extern void fp_link_succeeded(FpModel *model, FpRun *run);

/* somebody else's row in dag_log has been committed */
extern void fp_link_word(FpModel *model, const char *asis_dag, DateADT date);

/*
 * A DAG that has no schedule of its own has been resumed: makes up for what
 * its asis DAGs have done since it was paused.
 */
extern void fp_link_catch_up(FpModel *model, FpDag *dag);

/* looks again at the runs of a DAG that wait */
extern void fp_link_wake_waiting(FpModel *model, FpDag *dag);

#endif							/* FLOWPG_LINK_H */
