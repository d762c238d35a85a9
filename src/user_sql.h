/*-------------------------------------------------------------------------
 *
 * user_sql.h
 *	  Users' SQL: checked when it is given, run as its DAG's owner.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_USER_SQL_H
#define FLOWPG_USER_SQL_H

#include "access/tupdesc.h"
#include "nodes/params.h"
#include "nodes/pg_list.h"
#include "parser/parse_node.h"

#include "flowpg.h"

/*
 * Definition time.  The caller has set the DAG's search_path and, where
 * rights matter, the DAG's owner as the current user.  argument names the
 * SQL function's argument in errors.
 *
 * fp_user_sql_check parses and analyses each statement; after a utility
 * statement the rest is only parsed; transaction control is refused.
 * Nothing is planned or run.  fp_user_sql_describe wants exactly one SELECT
 * (or VALUES, TABLE, WITH ... SELECT) and returns its row type in the
 * current context.  Where check_names is false (flowpg.check_definitions =
 * off), only the grammar is checked and describe returns NULL.
 */
extern void fp_user_sql_check(const char *sql, const char *argument,
							  bool check_names);
extern TupleDesc fp_user_sql_describe(const char *sql, const char *argument,
									  bool check_names);

/* What running a command brought. */
typedef struct FpUserSqlResult
{
	uint64		rows_written;	/* inserted, updated, deleted or merged */
	bool		has_row;
	char	   *first_row;		/* jsonb as text, palloc'd in the caller's
								 * context; NULL: none, or over 64 kB */
} FpUserSqlResult;

/*
 * Runs a command in the caller's transaction, inside an implicit transaction
 * block that is left open (the caller ends it with fp_user_sql_end_block
 * before it commits, so that a top-level VACUUM fails before it breaks
 * atomicity and deferred constraints fire at commit).  Anything that ends
 * the transaction is refused.
 */
extern void fp_user_sql_run(const char *sql, const FpRunContext *run,
							FpUserSqlResult *result);
extern void fp_user_sql_end_block(void);

/*
 * The same for in_transaction = false: each statement is a transaction of its
 * own.  The caller is in a transaction before and after, a background process
 * outside any transaction block; its current memory context outlives
 * transactions.
 */
extern void fp_user_sql_run_outside(const char *sql, const FpRunContext *run,
									FpUserSqlResult *result);

/*
 * For SQL that is prepared and run many times with further parameters (the
 * pages of an upsert): $1..$n of the SQL are the caller's values, run.* are
 * the run's.  Hand setup and its argument to fp_spi_prepare_user, and to
 * fp_spi_execute_user what fp_user_sql_params returns (palloc'd in the
 * current context; set the caller's values in ->params[0 .. nvalues - 1]).
 */
typedef struct FpUserSqlSetup
{
	int			nvalues;
	const Oid  *types;
} FpUserSqlSetup;

extern void fp_user_sql_parser_setup(ParseState *pstate, void *setup);
extern ParamListInfo fp_user_sql_params(const FpUserSqlSetup *setup,
										const FpRunContext *run);

/*
 * All of run.*, in the order of flow_context()'s columns; what is by reference
 * is palloc'd in the current context.
 */
#define FP_RUN_VALUES 15
extern void fp_user_sql_run_values(const FpRunContext *run, Datum *values,
								   bool *nulls);

/*
 * What flow_context() returns while a task runs; NULL outside.  The struct
 * must live until it is set to NULL again.
 */
extern void fp_user_sql_set_context(const FpRunContext *run);
extern const FpRunContext *fp_user_sql_context(void);

/*
 * Gives a session back as new after a task: settings, role, temporary
 * tables, locks, prepared statements, LISTEN, sequences.  Kept plans stay.
 * Outside a transaction; uses one of its own.  After an error in here the
 * process is not clean and must end.
 */
extern void fp_user_sql_reset_session(void);

#endif							/* FLOWPG_USER_SQL_H */
