/*-------------------------------------------------------------------------
 *
 * version_store.h
 *	  All SQL on dag_version and task_version: definitions as runs use them.
 *
 * Every function runs inside a transaction and opens its own owner scope.
 * Results are palloc'd in the current memory context.  The scheduler alone
 * writes, when the first run of a version starts; a version never changes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_VERSION_STORE_H
#define FLOWPG_VERSION_STORE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "flowpg.h"

/*
 * Writes the definition as it is now under its version, if that has not been
 * done yet.
 */
extern bool fp_version_store_keep(const char *dag_id, int version,
								  TimestampTz at);

/* A row of flow.dag_version, as far as the scheduler needs it. */
typedef struct FpDagVersionRow
{
	int64		dagrun_timeout; /* us; 0: none */
	bool		has_on_success;
	bool		has_on_failure;
} FpDagVersionRow;

/* all zero where there is no such version */
extern void fp_version_store_dag(const char *dag_id, int version,
								 FpDagVersionRow *row);

/* A row of flow.task_version, likewise. */
typedef struct FpTaskVersionRow
{
	char	   *task_id;
	char	   *operator;
	char	   *trigger_rule;
	List	   *upstream;		/* char * */
	int			retries;
	int64		retry_delay;	/* us */
	bool		has_backoff;
	int64		max_retry_delay;	/* us; 0: none */
	int64		execution_timeout;	/* us; 0: none */
	char	   *pool;
	int			pool_slots;
	int			priority_weight;
	bool		depends_on_past;
} FpTaskVersionRow;

/* in order of task_id, as a List of FpTaskVersionRow * */
extern List *fp_version_store_tasks(const char *dag_id, int version);

/* What a worker must know of a task to run it. */
typedef struct FpTaskCommand
{
	char	   *operator;
	char	   *params;			/* jsonb as text */
	char	   *command;		/* params ->> 'command', or NULL */
	bool		in_transaction;
	char	   *timezone;
	char	   *search_path;
} FpTaskCommand;

extern FpTaskCommand *fp_version_store_command(const char *dag_id,
											   int version,
											   const char *task_id);
/* on_success or on_failure of a version, by the state of the run */
extern FpTaskCommand *fp_version_store_callback_command(const char *dag_id,
														int version,
														FpRunState state);

/* ERROR where a branch names what is not directly downstream of it */
extern void fp_version_store_check_downstream(const char *dag_id, int version,
											  const char *task_id,
											  List *task_ids);

#endif							/* FLOWPG_VERSION_STORE_H */
