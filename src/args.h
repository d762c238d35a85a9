/*-------------------------------------------------------------------------
 *
 * args.h
 *	  Arguments of the SQL functions: fetched and checked.
 *
 * The functions are not STRICT: NULL is "not given".  Each of these takes the
 * argument's number, from 0, and its name for errors; results are palloc'd in
 * the current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_ARGS_H
#define FLOWPG_ARGS_H

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* An argument of an SQL function: what documents know of it. */
typedef struct FpArgument
{
	const char *name;
	Oid			type;
	const char *default_value;	/* as jsonb text, for those that are kept as
								 * they are; NULL: none */
} FpArgument;

/* what an interval argument may be */
typedef enum FpArgsSign
{
	FP_ARGS_ZERO_OR_MORE,
	FP_ARGS_POSITIVE
} FpArgsSign;

/*
 * Called first by every function that changes something: the library must be
 * preloaded and the transaction not read only.  function is the name with
 * parentheses.
 */
extern void fp_args_begin(const char *function);

/* a name of a DAG, task or pool; NULL is an error */
extern char *fp_args_id(FunctionCallInfo fcinfo, int n, const char *argument);
/* the check alone, for a name that comes another way; NULL is an error */
extern void fp_args_check_id(const char *id, const char *argument);

/* NULL is an error */
extern char *fp_args_required_text(FunctionCallInfo fcinfo, int n,
								   const char *argument);
/* NULL for NULL */
extern char *fp_args_text(FunctionCallInfo fcinfo, int n);

extern bool fp_args_bool(FunctionCallInfo fcinfo, int n, bool if_null);
extern int	fp_args_int(FunctionCallInfo fcinfo, int n, const char *argument,
						int minimum, int if_null);
/* NULL is an error */
extern int	fp_args_required_int(FunctionCallInfo fcinfo, int n,
								 const char *argument, int minimum);

/* NULL for NULL */
extern Interval *fp_args_interval(FunctionCallInfo fcinfo, int n,
								  const char *argument, FpArgsSign sign);
/* NULL is an error */
extern Interval *fp_args_required_interval(FunctionCallInfo fcinfo, int n,
										   const char *argument,
										   FpArgsSign sign);
/* as flowpg keeps intervals inside jsonb */
extern char *fp_args_interval_text(const Interval *interval);

/*
 * A text[] as a List of char *; NIL for NULL and for an empty array.  A NULL
 * element is an error.
 */
extern List *fp_args_text_array(FunctionCallInfo fcinfo, int n,
								const char *argument);

/* the same for an array that comes another way */
extern List *fp_args_texts(const ArrayType *array, const char *argument);

/* names in the order of bytes, each once; sorts the List that is given */
extern List *fp_args_names(List *names);
/* that order, for list_sort */
extern int	fp_args_compare_names(const ListCell *a, const ListCell *b);

/* a run's conf, an object of jsonb, as text; NULL for NULL */
extern char *fp_args_conf(FunctionCallInfo fcinfo, int n);
/* an object of jsonb; NULL is an error */
extern Jsonb *fp_args_required_object(FunctionCallInfo fcinfo, int n,
									  const char *argument);

/* a role that there is; NULL is an error */
extern Oid	fp_args_role(FunctionCallInfo fcinfo, int n,
						 const char *argument);

/* a wall-clock time in a zone, as an instant; infinity is an error */
extern TimestampTz fp_args_wall_clock(Timestamp local, const char *timezone,
									  const char *argument);
/* and back */
extern Timestamp fp_args_local_time(TimestampTz at, const char *timezone);

/* a list of names for errors: "a", "b", and 3 more */
extern char *fp_args_name_list(List *names, int limit);
/* a value for errors: its beginning, where it is long */
extern char *fp_args_shortened(const char *text);

/* whether two values are the same; either may be NULL */
extern bool fp_args_is_equal_text(const char *a, const char *b);
extern bool fp_args_is_equal_interval(const Interval *a, const Interval *b);
/* the same for two Lists of char *, in the same order */
extern bool fp_args_is_equal_list(List *a, List *b);

#endif							/* FLOWPG_ARGS_H */
