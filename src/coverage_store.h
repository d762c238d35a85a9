/*-------------------------------------------------------------------------
 *
 * coverage_store.h
 *	  All SQL on coverage and dag_log: what a DAG has succeeded for.
 *
 * coverage holds the spans of data that successful runs stand for, dag_log
 * the days.  The scheduler writes both; users may write dag_log too, as the
 * word of what runs elsewhere.  Every function runs inside a transaction and
 * opens its own owner scope.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_COVERAGE_STORE_H
#define FLOWPG_COVERAGE_STORE_H

#include "storage/itemptr.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "dag_store.h"
#include "run_store.h"

/*
 * [from, until) is covered, or no longer; nothing where that is empty.  place
 * is where the row was when it was last written, see fp_store_execute_at, and
 * kept up to date here.  Not where the DAG has been dropped.
 */
extern void fp_coverage_store_add(const FpDagRow *dag, TimestampTz from,
								  TimestampTz until, ItemPointer place);
extern void fp_coverage_store_remove(const char *dag_id, TimestampTz from,
									 TimestampTz until);

/* whether all of [from, until) is covered; place: as above, or NULL */
extern bool fp_coverage_store_contains(const char *dag_id, TimestampTz from,
									   TimestampTz until,
									   const ItemPointerData *place);

/*
 * The success of a run no longer counts: its interval is not covered, and its
 * row of dag_log goes, unless another run's has taken its place.
 */
extern void fp_coverage_store_take_back(const FpRunRow *run);

/*
 * A run's success is that of its date; replaces what is there.  place: a hint,
 * likewise, of the row that was last written.
 */
extern void fp_coverage_store_log(const char *dag_id, DateADT date,
								  TimestampTz at, int64 run_id,
								  ItemPointer place);

/*
 * Whether dag_log has a row for the date whose word counts for a DAG of this
 * owner.
 */
extern bool fp_coverage_store_has_word(const char *dag_id, DateADT date,
									   Oid tobe_owner);

#endif							/* FLOWPG_COVERAGE_STORE_H */
