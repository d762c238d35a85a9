/*-------------------------------------------------------------------------
 *
 * cycle.c
 *	  A cycle among named things, as text.
 *
 * Called by sessions when a task or a dependency between DAGs is defined.
 * graph.c knows tasks by number only; here names become numbers and back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "cycle.h"
#include "flowpg.h"
#include "graph.h"

typedef struct NumberedName
{
	char		name[FP_ID_SIZE];	/* hash key */
	int			number;
} NumberedName;

/* Names by number, and the other way round. */
typedef struct NameTable
{
	HTAB	   *numbers;
	const char **names;
	int			n;
} NameTable;

static int	number_of(NameTable *table, const char *name);
static char *path_text(const NameTable *table, const int *cycle, int length);


char *
fp_cycle_find(List *from, List *to, const char *first)
{
	NameTable	table = {0};
	FpGraph		graph = {0};
	HASHCTL		control = {0};
	ListCell   *lc1;
	ListCell   *lc2;
	int		   *cycle;
	int			length;
	char	   *result = NULL;

	Assert(list_length(from) == list_length(to));
	control.keysize = FP_ID_SIZE;
	control.entrysize = sizeof(NumberedName);
	control.hcxt = CurrentMemoryContext;
	table.numbers = hash_create("flowpg names", 64, &control,
								HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	table.names = palloc(sizeof(char *) * (2 * list_length(from) + 1));

	/* the lowest number on a cycle comes first in it */
	(void) number_of(&table, first);

	graph.edge_from = palloc(sizeof(int) * (list_length(from) + 1));
	graph.edge_to = palloc(sizeof(int) * (list_length(from) + 1));
	forboth(lc1, from, lc2, to)
	{
		graph.edge_from[graph.nedges] = number_of(&table, lfirst(lc1));
		graph.edge_to[graph.nedges] = number_of(&table, lfirst(lc2));
		graph.nedges++;
	}
	graph.ntasks = table.n;

	if (fp_graph_find_cycle(&graph, &cycle, &length))
		result = path_text(&table, cycle, length);

	hash_destroy(table.numbers);
	pfree(table.names);
	pfree(graph.edge_from);
	pfree(graph.edge_to);
	return result;
}

static int
number_of(NameTable *table, const char *name)
{
	NumberedName *entry;
	bool		found;

	entry = hash_search(table->numbers, name, HASH_ENTER, &found);
	if (!found)
	{
		entry->number = table->n;
		table->names[table->n++] = name;
	}
	return entry->number;
}

static char *
path_text(const NameTable *table, const int *cycle, int length)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < length; i++)
		appendStringInfo(&text, "%s -> ", table->names[cycle[i]]);
	appendStringInfoString(&text, table->names[cycle[0]]);
	return text.data;
}
