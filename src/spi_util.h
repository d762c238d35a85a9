/*-------------------------------------------------------------------------
 *
 * spi_util.h
 *	  The only direct SPI calls of flowpg.
 *
 * flowpg's own SQL runs as the extension's owner with pinned settings:
 * between fp_spi_begin_owner() and fp_spi_end_owner(), or in a process that
 * is the bootstrap superuser anyway and has pinned its settings once
 * (fp_spi_pin_session, the scheduler).
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_SPI_UTIL_H
#define FLOWPG_SPI_UTIL_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"

#define FP_MAX_STATEMENT_ARGS 32

/*
 * One of flowpg's own statements.  Declare it static in a *_store.c; it is
 * prepared at its first use and kept for the life of the process.
 */
typedef struct FpStatement
{
	const char *sql;
	int			expected;		/* SPI_OK_... */
	int			nargs;
	Oid			argtypes[FP_MAX_STATEMENT_ARGS];
	bool		has_one_plan;	/* that does for all arguments, as for one row
								 * by its key: not one for each of a process's
								 * first five executions */
	SPIPlanPtr	plan;			/* filled by spi_util.c */
} FpStatement;

/* One row of a result; columns are counted from 1. */
typedef struct FpRow
{
	HeapTuple	tuple;
	TupleDesc	desc;
} FpRow;

/*
 * Called for each row, in the memory context of fp_spi_execute's caller;
 * what it must keep it copies (the fp_row_ functions return copies).
 */
typedef void (*FpRowCallback) (const FpRow *row, void *arg);

/*
 * Runs a statement and returns the number of rows processed.  nulls is NULL
 * or one character an argument, 'n' for NULL.  callback may be NULL.  Raises
 * an error for any other result than the expected one.  The caller is in a
 * transaction; a snapshot is pushed here.
 */
extern uint64 fp_spi_execute(FpStatement *statement, const Datum *values,
							 const char *nulls, FpRowCallback callback,
							 void *arg);

/*
 * The same by what is committed now, whatever the isolation level: for
 * questions of rights and of who has a name, which an old snapshot must not
 * answer.
 */
extern uint64 fp_spi_execute_now(FpStatement *statement, const Datum *values,
								 const char *nulls, FpRowCallback callback,
								 void *arg);

/*
 * fp_spi_execute for SQL that is made at run time and used once.
 */
extern uint64 fp_spi_execute_once(const char *sql, int nargs,
								  const Oid *argtypes, const Datum *values,
								  const char *nulls, FpRowCallback callback,
								  void *arg);

/* a column's value, copied into the current context */
extern bool fp_row_is_null(const FpRow *row, int column);
extern char *fp_row_text(const FpRow *row, int column); /* NULL for NULL */
extern int32 fp_row_int32(const FpRow *row, int column);	/* 0 for NULL */
extern int64 fp_row_int64(const FpRow *row, int column);	/* 0 for NULL */
extern bool fp_row_bool(const FpRow *row, int column);	/* false for NULL */
extern Oid	fp_row_oid(const FpRow *row, int column);	/* InvalidOid */
extern TimestampTz fp_row_timestamptz(const FpRow *row, int column,
									  TimestampTz if_null);
extern Datum fp_row_datum(const FpRow *row, int column, bool *isnull);	/* not copied */
extern List *fp_row_text_array(const FpRow *row, int column);	/* List of char *;
																 * NIL for NULL */

/* a Datum for each common argument; the text ones copy into the current context */
extern Datum fp_datum_text(const char *value);

/*
 * From begin to end the process is the extension's owner, with search_path,
 * lock_timeout and planner settings pinned, and may write although the
 * transaction is read only.  An error in between undoes all this with the
 * (sub)transaction, as SECURITY DEFINER functions do.
 */
typedef struct FpOwnerScope
{
	Oid			user_id;
	int			sec_context;
	int			guc_nest_level;
	bool		is_read_only;
} FpOwnerScope;

extern void fp_spi_begin_owner(FpOwnerScope *scope);
extern void fp_spi_end_owner(FpOwnerScope *scope);

/* the same settings for the life of a process of flowpg's own */
extern void fp_spi_pin_session(void);
extern void fp_spi_pin_lock_timeout(const char *timeout);

/* owner of the extension in this database; InvalidOid: not installed */
extern Oid	fp_spi_extension_owner(void);

/*
 * Whether this library and the extension's SQL objects are of one version;
 * otherwise *problem and *hint say what is wrong and what to do about it.
 * fp_spi_begin_owner raises the same as an error.
 */
extern bool fp_spi_version_fits(const char **problem, const char **hint);

/*
 * Users' SQL that must be prepared and run with parameters several times
 * (pages of an upsert): as the current user, with the current settings.
 * setup and setup_arg are a parser setup hook (user_sql.c makes one); params
 * must match it.
 */
typedef struct FpPlan FpPlan;

extern FpPlan *fp_spi_prepare_user(const char *sql,
								   ParserSetupHook setup, void *setup_arg,
								   int cursor_options);
extern uint64 fp_spi_execute_user(FpPlan *plan, ParamListInfo params,
								  bool read_only, uint64 limit,
								  FpRowCallback callback, void *arg);
extern void fp_spi_free_user(FpPlan *plan);

/* all that are left: the end of a task that may have failed */
extern void fp_spi_free_user_plans(void);

/*
 * Runs work in a subtransaction.  False: a lock that it needs could not be had
 * in time (lock_timeout), and what it has done is undone; other errors are
 * raised.  What it leaves in memory besides is the caller's to put right.
 *
 * Where a lock_timeout is pinned, it is waited for in vain once a transaction:
 * after that each try gives up almost at once, so that a thousand of them do
 * not wait a thousand times.
 */
extern bool fp_spi_try(void (*work) (void *arg), void *arg);

/* the next tries of this transaction do so, too: locks are known to be held */
extern void fp_spi_hurry(void);

/*
 * The same for errors that is_caught says yes to; returns the error, in the
 * current context, or NULL: the work is done.  With is_undone what it has done
 * is undone in any case, and the locks that it took are released.
 */
extern ErrorData *fp_spi_catch(void (*work) (void *arg), void *arg,
							   bool is_undone,
							   bool (*is_caught) (int sqlerrcode));

/*
 * Begin and end of a transaction of a background process: timestamps are
 * right, activity is reported.  activity NULL reports none.  Between the two
 * the current memory context is the transaction's, afterwards again the one
 * before.
 */
extern void fp_spi_begin_transaction(const char *activity);
extern void fp_spi_commit_transaction(void);

/*
 * Commits the transaction in which a procedure was called, as its COMMIT
 * would, and begins the next.  Only where the call's context is not atomic
 * (CallContext), and outside an owner scope.  No snapshot is active
 * afterwards; the current memory context is the same.
 */
extern void fp_spi_commit_procedure(void);

#endif							/* FLOWPG_SPI_UTIL_H */
