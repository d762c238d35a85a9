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
 * A run has succeeded, which is recorded in this transaction.  First the
 * tables: its coverage, its dag_log row, and the runs that it sets off, which
 * are added to *made (FpRunRow *); this may fail for a lock that a session
 * holds.  Then memory: enters those, and wakes runs that have waited.
 */
extern void fp_link_record_success(FpModel *model, FpRun *run, List **made);
extern void fp_link_enter(FpModel *model, List *made);
extern void fp_link_wake_tobe(FpModel *model, FpRun *run);

/*
 * Somebody else's row in dag_log has been committed.  False: a session's lock
 * was in the way of some of the runs that it sets off; to be done again.
 */
extern bool fp_link_word(FpModel *model, const char *asis_dag, DateADT date);

/*
 * To be called in each cycle: whether there are runs to be made, in a
 * transaction, that success has set off in earlier ones, and that were too many
 * for one; and goes on with making them.
 */
extern bool fp_link_begin_cycle(FpModel *model);
extern void fp_link_go_on(FpModel *model);

/*
 * A DAG that has no schedule of its own has been resumed: makes up for what
 * its asis DAGs have done since it was paused.  False: a session's lock is in
 * the way, and nothing has been done.
 */
extern bool fp_link_catch_up(FpModel *model, FpDag *dag);

/* looks again at the runs of a DAG that wait, all of them */
extern void fp_link_wake_waiting(FpModel *model, FpDag *dag);

#endif							/* FLOWPG_LINK_H */
