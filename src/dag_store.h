/*-------------------------------------------------------------------------
 *
 * dag_store.h
 *	  All SQL on the tables dag and dag_progress.  Tasks are in task_store.h,
 *	  links between DAGs in link_store.h.
 *
 * Every function runs inside a transaction and opens its own owner scope
 * (fp_spi_begin_owner), so sessions and background processes call it alike.
 * Results are palloc'd in the current memory context.  Rights are the
 * caller's business.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_DAG_STORE_H
#define FLOWPG_DAG_STORE_H

#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "flowpg.h"

/* A row of flow.dag, and what belongs to it. */
typedef struct FpDagRow
{
	char	   *dag_id;
	Oid			owner;
	char	   *schedule;		/* NULL: none */
	char	   *timezone;
	TimestampTz start_date;
	TimestampTz end_date;		/* DT_NOEND: none; as given, see
								 * fp_dag_last_start */
	bool		start_is_given;
	bool		catchup;
	bool		is_paused;
	int			version;
	int			first_version;	/* earlier ones: of a dropped DAG of this name */
	bool		depends_on_past;
	int			max_active_runs;	/* -1: the setting */
	int			max_active_tasks;	/* -1: the setting */
	int			priority;
	TimestampTz paused_at;		/* real time of the last pause; DT_NOBEGIN: none */
	TimestampTz resumed_at;		/* DT_NOBEGIN: no missed interval is skipped */
	char	   *search_path;
	bool		has_tasks;
	bool		has_last;		/* there was a scheduled run */
	TimestampTz last_start;
	TimestampTz last_end;
	List	   *asis_dags;		/* char *: DAGs that it waits for */
} FpDagRow;

/*
 * What is written down for a DAG must not be found by another one of its name:
 * this yields it as "d", and keeps it from being dropped until the transaction
 * ends, if it is still the one whose first version is given.
 */
#define FP_OF_SAME_DAG(dag_id, first_version) \
	"FROM flow.dag d WHERE d.dag_id = " dag_id \
	" AND d.first_version = " first_version " FOR KEY SHARE OF d"

/* NULL: there is no such DAG */
extern FpDagRow *fp_dag_store_get(const char *dag_id);
extern bool fp_dag_store_exists(const char *dag_id);
/* all DAGs, as a List of FpDagRow *, in the order of dag_id */
extern List *fp_dag_store_list(void);
/* the DAGs that wait for this one, as a List of char * */
extern List *fp_dag_store_tobe_dags(const char *asis_dag);

/*
 * The last interval start that end_date allows, inclusive: end_date itself,
 * or, where it is midnight in the DAG's timezone, the end of that day less a
 * microsecond.  DT_NOEND: no bound.
 */
extern TimestampTz fp_dag_last_start(const FpDagRow *dag);

/* the same for bounds that are not (yet) stored; timezone is a known one */
extern TimestampTz fp_dag_last_start_of(TimestampTz end_date,
										const char *timezone);

/*
 * scheduler: the interval of the last scheduled run.  place: a hint, as for
 * fp_coverage_store_add.  Nothing where the DAG has been dropped.
 */
extern void fp_dag_store_set_progress(const FpDagRow *dag,
									  TimestampTz last_start,
									  TimestampTz last_end,
									  ItemPointer place);

/*
 * Definitions.
 *
 * A DAG as flow_create_dag and flow_alter_dag write it.  Where nothing else
 * is said, NULL is NULL.
 */
typedef struct FpDagDef
{
	const char *dag_id;
	Oid			owner;			/* written by fp_dag_store_insert only */
	const char *schedule;
	const char *timezone;
	TimestampTz start_date;
	bool		start_is_given;
	TimestampTz end_date;		/* DT_NOEND: none */
	bool		catchup;
	bool		is_paused;
	bool		depends_on_past;
	int			max_active_runs;	/* -1: the setting */
	int			max_active_tasks;	/* -1: the setting */
	int			retries;
	const Interval *retry_delay;
	bool		retry_exponential_backoff;
	const Interval *max_retry_delay;
	const Interval *execution_timeout;
	const Interval *dagrun_timeout;
	int			priority;
	const char *on_success;
	const char *on_failure;
	const char *description;
	const ArrayType *tags;
	const char *search_path;
	TimestampTz created_at;		/* read only */
	int			version;		/* read only */
} FpDagDef;

/*
 * The definition of a DAG, its row locked until the transaction ends: every
 * change of a definition begins here, so that two of them come one after the
 * other.  NULL: there is no such DAG.
 */
extern FpDagDef *fp_dag_store_lock(const char *dag_id);

/* the same without the lock, for looking at it */
extern FpDagDef *fp_dag_store_definition(const char *dag_id);

/*
 * Writes a new DAG.  False: there is one of this name already (another
 * session may have been quicker).  Otherwise nobody else can make, and so
 * drop, a DAG of this name until the transaction ends: whose it was, and which
 * version comes next, is asked only then, and of what is committed by then.
 */
extern bool fp_dag_store_insert(const FpDagDef *def);

/*
 * The new DAG is the one that has the name: its version goes on from those of
 * an earlier DAG of this name, whose owner is forgotten.
 */
extern void fp_dag_store_take_name(const char *dag_id);

/*
 * Whose the dropped DAG of this name was, while its history is kept;
 * InvalidOid: there is none.  Of what is committed now.
 */
extern Oid	fp_dag_store_dropped_owner(const char *dag_id);

/*
 * Keeps the DAG from being dropped until the transaction ends, and nothing
 * else of it; its owner.  Waits where it is being dropped; InvalidOid: it is
 * gone.
 */
extern Oid	fp_dag_store_hold(const char *dag_id);

/*
 * Whose the DAG is by what is committed now, whatever the transaction's
 * snapshot shows; InvalidOid: there is no such DAG.
 */
extern Oid	fp_dag_store_owner_now(const char *dag_id);

/*
 * Waits for all who hold or change the DAG, and locks it for its deletion.
 * Later, when it is locked for a change already, that would be a deadlock with
 * one who holds it and then changes it.
 */
extern void fp_dag_store_lock_to_drop(const char *dag_id);

/* writes the definition of a DAG that there is; it is a new version */
extern void fp_dag_store_update(const FpDagDef *def);

/* what belongs to the DAG's definition has changed: it is a new version */
extern void fp_dag_store_new_version(const char *dag_id);

extern void fp_dag_store_pause(const char *dag_id);
/* skip_missed: no interval that has ended by now is made */
extern void fp_dag_store_resume(const char *dag_id, bool skip_missed);
extern void fp_dag_store_set_owner(const char *dag_id, Oid owner);

/*
 * Deletes a DAG with its tasks, its links both ways, and all that it would go
 * on from (progress, positions, coverage).  Its history stays, and whose it
 * was is kept with it.
 */
extern void fp_dag_store_drop(const char *dag_id);

/* the highest run_id that any run has been given so far; 0: none */
extern int64 fp_dag_store_last_run_id(void);

#endif							/* FLOWPG_DAG_STORE_H */
