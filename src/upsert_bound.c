/*-------------------------------------------------------------------------
 *
 * upsert_bound.c
 *	  Bounds of pages: rows of the page order as text.
 *
 * Runs in workers.  Touches no table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "upsert_bound.h"


char **
fp_upsert_bound_copy(char **bound, int ncolumns, MemoryContext context)
{
	char	  **copy = MemoryContextAlloc(context, ncolumns * sizeof(char *));

	for (int i = 0; i < ncolumns; i++)
		copy[i] = MemoryContextStrdup(context, bound[i]);
	return copy;
}

int
fp_upsert_bound_nequal(char **a, char **b, int ncolumns)
{
	int			count = 0;

	while (count < ncolumns && strcmp(a[count], b[count]) == 0)
		count++;
	return count;
}

bool
fp_upsert_bound_equal(char **a, char **b, int ncolumns)
{
	if (a == NULL || b == NULL)
		return a == b;
	return fp_upsert_bound_nequal(a, b, ncolumns) == ncolumns;
}

void
fp_upsert_bound_append(StringInfo buf, char **bound, int ncolumns)
{
	if (bound == NULL)
	{
		appendStringInfoString(buf, "null");
		return;
	}
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < ncolumns; i++)
	{
		if (i > 0)
			appendStringInfoString(buf, ", ");
		escape_json(buf, bound[i]);
	}
	appendStringInfoChar(buf, ']');
}

char **
fp_upsert_bound_parse(JsonbContainer *object, const char *name, int ncolumns)
{
	JsonbValue	buffer;
	JsonbValue *array;
	char	  **bound = palloc(ncolumns * sizeof(char *));

	array = getKeyJsonValueFromContainer(object, name, strlen(name), &buffer);
	if (array == NULL || array->type == jbvNull)
		return NULL;
	if (array->type != jbvBinary ||
		!JsonContainerIsArray(array->val.binary.data) ||
		JsonContainerSize(array->val.binary.data) != ncolumns)
		elog(ERROR, "\"%s\" in the position of an upsert is not a row of %d columns",
			 name, ncolumns);

	for (int i = 0; i < ncolumns; i++)
	{
		JsonbValue *element;

		element = getIthJsonbValueFromContainer(array->val.binary.data, i);
		if (element->type != jbvString)
			elog(ERROR, "\"%s\" in the position of an upsert has a column that is not text",
				 name);
		bound[i] = pnstrdup(element->val.string.val, element->val.string.len);
	}
	return bound;
}
