/*-------------------------------------------------------------------------
 *
 * api_graph.c
 *	  SQL functions that draw a DAG's tasks: flow_dot, flow_mermaid.
 *
 * Called by sessions, for people and pages.  The tasks are those of the
 * definition as it is now, their colours what became of them in the last run.
 *
 * A task_id may hold any character but control characters, so it is never
 * part of the picture's syntax: in DOT it stands in quotes, in Mermaid it is a
 * label, and what could end either is escaped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "args.h"
#include "dag_rights.h"
#include "graph_store.h"
#include "task_def.h"

/* A task and what is drawn of it. */
typedef struct DrawnTask
{
	const FpTaskDef *task;
	int			number;			/* from 1, in the order of the picture */
	const char *state;			/* NULL: it has not begun */
} DrawnTask;

/* The nodes, by name. */
typedef struct Picture
{
	int			n;
	DrawnTask  *nodes;
	int		   *order;			/* places in nodes, in the picture's order */
} Picture;

/* light enough for black letters */
static const struct
{
	const char *state;
	const char *colour;
}			colours[] =
{
	{"scheduled", "#d2b48c"},
	{"queued", "#c8c8c8"},
	{"running", "#9be84f"},
	{"success", "#4fc179"},
	{"failed", "#ff7070"},
	{"up_for_retry", "#ffd84d"},
	{"up_for_reschedule", "#5fe0d3"},
	{"skipped", "#ffb6d5"},
	{"upstream_failed", "#ffa64d"},
	{"cancelled", "#c9a0c9"},
	{"removed", "#e8e8e8"},
};

PG_FUNCTION_INFO_V1(flow_dot);
PG_FUNCTION_INFO_V1(flow_mermaid);

static void read_picture(const char *dag_id, Picture *picture);
static int	compare_nodes(const void *a, const void *b);
static DrawnTask *find_node(const Picture *picture, const char *task_id);
static const char *colour_of(const char *state);
static void append_dot_id(StringInfo text, const char *id);
static void append_dot_label(StringInfo text, const char *id);
static void append_mermaid_label(StringInfo text, const char *id);


/*
 * flow_dot(dag_id text) returns text: for Graphviz
 */
Datum
flow_dot(PG_FUNCTION_ARGS)
{
	char	   *dag_id = fp_args_id(fcinfo, 0, "dag_id");
	Picture		picture;
	StringInfoData text;

	read_picture(dag_id, &picture);
	initStringInfo(&text);
	appendStringInfoString(&text, "digraph ");
	append_dot_id(&text, dag_id);
	appendStringInfoString(&text, " {\n"
						   "    rankdir=LR;\n"
						   "    node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\"];\n");
	for (int i = 0; i < picture.n; i++)
	{
		const DrawnTask *node = &picture.nodes[picture.order[i]];

		appendStringInfoString(&text, "    ");
		append_dot_id(&text, node->task->task_id);
		appendStringInfoString(&text, " [label=");
		append_dot_label(&text, node->task->task_id);
		if (node->state != NULL)
			appendStringInfo(&text, ", fillcolor=\"%s\", tooltip=\"%s\"",
							 colour_of(node->state), node->state);
		appendStringInfoString(&text, "];\n");
	}
	for (int i = 0; i < picture.n; i++)
	{
		const DrawnTask *node = &picture.nodes[picture.order[i]];
		ListCell   *lc;

		foreach(lc, node->task->upstream)
		{
			appendStringInfoString(&text, "    ");
			append_dot_id(&text, lfirst(lc));
			appendStringInfoString(&text, " -> ");
			append_dot_id(&text, node->task->task_id);
			appendStringInfoString(&text, ";\n");
		}
	}
	appendStringInfoString(&text, "}\n");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}

/*
 * flow_mermaid(dag_id text) returns text: for Markdown pages that draw Mermaid
 */
Datum
flow_mermaid(PG_FUNCTION_ARGS)
{
	char	   *dag_id = fp_args_id(fcinfo, 0, "dag_id");
	Picture		picture;
	StringInfoData text;

	read_picture(dag_id, &picture);
	initStringInfo(&text);
	appendStringInfoString(&text, "flowchart LR\n");
	for (int i = 0; i < picture.n; i++)
	{
		const DrawnTask *node = &picture.nodes[picture.order[i]];

		appendStringInfo(&text, "    t%d[\"", node->number);
		append_mermaid_label(&text, node->task->task_id);
		appendStringInfoString(&text, "\"]\n");
	}
	for (int i = 0; i < picture.n; i++)
	{
		const DrawnTask *node = &picture.nodes[picture.order[i]];
		ListCell   *lc;

		foreach(lc, node->task->upstream)
			appendStringInfo(&text, "    t%d --> t%d\n",
							 find_node(&picture, lfirst(lc))->number,
							 node->number);
	}
	for (int c = 0; c < lengthof(colours); c++)
	{
		bool		is_used = false;

		for (int i = 0; i < picture.n; i++)
		{
			const DrawnTask *node = &picture.nodes[picture.order[i]];

			if (node->state == NULL ||
				strcmp(node->state, colours[c].state) != 0)
				continue;
			if (!is_used)
				appendStringInfo(&text, "    classDef %s fill:%s,color:#000000\n"
								 "    class t%d",
								 colours[c].state, colours[c].colour,
								 node->number);
			else
				appendStringInfo(&text, ",t%d", node->number);
			is_used = true;
		}
		if (is_used)
			appendStringInfo(&text, " %s\n", colours[c].state);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}

static void
read_picture(const char *dag_id, Picture *picture)
{
	List	   *tasks;
	List	   *states;
	ListCell   *lc;

	(void) fp_dag_rights_require(dag_id);
	tasks = fp_task_def_sort(dag_id, fp_task_store_definitions(dag_id));
	states = fp_graph_store_states(dag_id);

	picture->n = 0;
	picture->nodes = palloc0(sizeof(DrawnTask) * (list_length(tasks) + 1));
	picture->order = palloc(sizeof(int) * (list_length(tasks) + 1));
	foreach(lc, tasks)
	{
		DrawnTask  *node = &picture->nodes[picture->n++];

		node->task = lfirst(lc);
		node->number = picture->n;
	}
	qsort(picture->nodes, picture->n, sizeof(DrawnTask), compare_nodes);
	for (int i = 0; i < picture->n; i++)
		picture->order[picture->nodes[i].number - 1] = i;

	foreach(lc, states)
	{
		FpLastState *last = lfirst(lc);
		DrawnTask  *node = find_node(picture, last->task_id);

		/* a run may have tasks that the definition no longer has */
		if (node != NULL)
			node->state = last->state;
	}
}

static int
compare_nodes(const void *a, const void *b)
{
	return strcmp(((const DrawnTask *) a)->task->task_id,
				  ((const DrawnTask *) b)->task->task_id);
}

static DrawnTask *
find_node(const Picture *picture, const char *task_id)
{
	FpTaskDef	task = {.task_id = task_id};
	DrawnTask		key = {.task = &task};

	return bsearch(&key, picture->nodes, picture->n, sizeof(DrawnTask),
				   compare_nodes);
}

static const char *
colour_of(const char *state)
{
	for (int i = 0; i < lengthof(colours); i++)
	{
		if (strcmp(colours[i].state, state) == 0)
			return colours[i].colour;
	}
	return "#ffffff";
}

/*
 * A name in DOT: in quotes, where a backslash could only take away the
 * meaning of the quote that ends it.
 */
static void
append_dot_id(StringInfo text, const char *id)
{
	appendStringInfoChar(text, '"');
	for (const char *p = id; *p; p++)
	{
		if (*p == '"' || *p == '\\')
			appendStringInfoChar(text, '\\');
		appendStringInfoChar(text, *p);
	}
	appendStringInfoChar(text, '"');
}

/*
 * The same as a label, in which Graphviz also reads entities of HTML.
 */
static void
append_dot_label(StringInfo text, const char *id)
{
	appendStringInfoChar(text, '"');
	for (const char *p = id; *p; p++)
	{
		if (*p == '"' || *p == '\\')
			appendStringInfoChar(text, '\\');
		if (*p == '&')
			appendStringInfoString(text, "&amp;");
		else
			appendStringInfoChar(text, *p);
	}
	appendStringInfoChar(text, '"');
}

/*
 * Mermaid has entities of its own, by the number of the character; everything
 * that is not plain is written so.
 */
static void
append_mermaid_label(StringInfo text, const char *id)
{
	for (const char *p = id; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p) || isalnum((unsigned char) *p) ||
			strchr(" ._-", *p) != NULL)
			appendStringInfoChar(text, *p);
		else
			appendStringInfo(text, "#%d;", *p);
	}
}
