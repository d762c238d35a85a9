/*-------------------------------------------------------------------------
 *
 * upsert.h
 *	  Paged upsert: moves the rows of a source into a table, page by page,
 *	  one transaction a page, rows and position together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_H
#define FLOWPG_UPSERT_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "flowpg.h"
#include "task_run_store.h"

typedef enum FpUpsertMode
{
	FP_UPSERT_UPSERT,
	FP_UPSERT_APPEND,
	FP_UPSERT_REPLACE
} FpUpsertMode;

/* flow_add_upsert's own arguments; Lists are of char *, NIL: not given. */
typedef struct FpUpsertDef
{
	const char *source;
	const char *target;
	List	   *key;
	List	   *page_by;
	int			page_size;
	FpUpsertMode mode;
	const char *replace_where;
	bool		is_incremental;
	List	   *update_columns;
	int			parallel_pages;
	const char *lookback;		/* interval as text */
	bool		delete_missing;
	bool		create_partition;
	const char *on_row_error;
} FpUpsertDef;

/* an error for a name that is none */
extern FpUpsertMode fp_upsert_mode_parse(const char *mode);

/*
 * Checks a definition (the caller has set the DAG's search_path and owner):
 * source and target exist, columns match by name, key has a unique index,
 * page_by is in the source; raises a WARNING for a source that no index can
 * page.  check_names false: what it names need not exist yet.
 */
extern void fp_upsert_check(const FpUpsertDef *def, bool check_names);

/* to and from flow.task.params */
extern Jsonb *fp_upsert_to_jsonb(const FpUpsertDef *def);
extern FpUpsertDef *fp_upsert_from_jsonb(Jsonb *params);

/* Where an earlier attempt got to. */
typedef struct FpUpsertStart
{
	int64		pages;
	int64		rows_written;
	const char *position;		/* jsonb text: where to go on; NULL: at the
								 * beginning */
} FpUpsertStart;

/*
 * Called at the end of each page, inside the page's transaction, before it
 * commits: adds what the page has done to the task_run (as the extension's
 * owner).  is_last: nothing follows, and the caller records the end of the
 * task in this very transaction.
 */
typedef void (*FpUpsertPageDone) (const FpPageRecord *page, bool is_last,
								  void *arg);

/*
 * Runs an upsert as the current user (the worker's session user) with the
 * current settings.  Called outside a transaction; opens and commits one a
 * page; returns outside a transaction.  On error a transaction may still be
 * open, for the caller to abort; finished pages stay.
 */
extern void fp_upsert_run(const FpUpsertDef *def, const FpRunContext *run,
						  const FpUpsertStart *start,
						  FpUpsertPageDone page_done, void *arg);

/*
 * The same for a worker that helps another one with its attempt (help.c):
 * takes pages as long as there are some.  start is the attempt's present
 * position.
 */
extern void fp_upsert_help(const FpUpsertDef *def, const FpRunContext *run,
						   const FpUpsertStart *start,
						   FpUpsertPageDone page_done, void *arg);

#endif							/* FLOWPG_UPSERT_H */
