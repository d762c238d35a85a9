/*-------------------------------------------------------------------------
 *
 * document.h
 *	  A whole DAG as one jsonb document: read into the arguments of
 *	  flow_create_dag and the flow_add_ functions, and written from what is
 *	  stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_DOCUMENT_H
#define FLOWPG_DOCUMENT_H

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "dag_def.h"
#include "task_kind.h"
#include "task_store.h"

/* keys that are no arguments of those functions, or not of all */
#define FP_DOCUMENT_TASKS "tasks"
#define FP_DOCUMENT_TASK_ID "task_id"
#define FP_DOCUMENT_OPERATOR "operator"

/* A task of a document: what a call of flow_add_<operator> would be given. */
typedef struct FpDocumentTask
{
	const FpTaskKind *kind;
	FunctionCallInfo arguments;
	const char *place;			/* for errors: task "x" of dag "y" */
} FpDocumentTask;

/* A document's content; what it does not name is NULL or NIL. */
typedef struct FpDocument
{
	FunctionCallInfo dag;		/* arguments of flow_create_dag */
	char	   *search_path;
	List	   *tasks;			/* FpDocumentTask *, in the document's order,
								 * none twice */
	List	   *asis_dags;		/* char *, sorted, none twice */
} FpDocument;

/*
 * Reads a document: its keys, and values of the right types; everything
 * further is for those who take the arguments to check.
 */
extern FpDocument *fp_document_read(const Jsonb *definition);

/*
 * The other way round; tasks is a List of FpTaskDef * in the order in which
 * they are to appear, asis_dags one of char *.  What has the value that it
 * would get if it were left out is left out.
 */
extern Jsonb *fp_document_write(const FpDagDef *dag, List *tasks,
								List *asis_dags);

/*
 * From begin to end errors say in their context where in the document they
 * belong.
 */
typedef struct FpDocumentPlace
{
	ErrorContextCallback callback;
} FpDocumentPlace;

extern void fp_document_begin_place(FpDocumentPlace *scope,
									const char *place);
extern void fp_document_end_place(FpDocumentPlace *scope);

#endif							/* FLOWPG_DOCUMENT_H */
