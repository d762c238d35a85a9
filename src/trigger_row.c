/*-------------------------------------------------------------------------
 *
 * trigger_row.c
 *	  The rows that triggers on flowpg's tables are fired for.
 *
 * Used by the trigger functions in api_*.c.  Columns are found by name, since
 * an upgrade may have put them elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "trigger_row.h"

#define OWN_SCHEMA "flow"

/*
 * On another table the columns might be of other types than is believed here.
 */
TriggerData *
fp_trigger_row_require(FunctionCallInfo fcinfo, const char *table)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	relation = CALLED_AS_TRIGGER(fcinfo) ?
		trigger->tg_relation : NULL;

	if (relation == NULL ||
		strcmp(get_namespace_name(RelationGetNamespace(relation)),
			   OWN_SCHEMA) != 0 ||
		strcmp(RelationGetRelationName(relation), table) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by a trigger on %s.%s",
						OWN_SCHEMA, table)));
	return trigger;
}

int
fp_trigger_row_column(TriggerData *trigger, const char *name)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i + 1;
	}
	elog(ERROR, "column \"%s\" of relation \"%s\" does not exist", name,
		 RelationGetRelationName(trigger->tg_relation));
	return 0;					/* keep compiler quiet */
}

Datum
fp_trigger_row_value(TriggerData *trigger, HeapTuple tuple, const char *name,
					 bool *isnull)
{
	return heap_getattr(tuple, fp_trigger_row_column(trigger, name),
						RelationGetDescr(trigger->tg_relation), isnull);
}

char *
fp_trigger_row_text(TriggerData *trigger, HeapTuple tuple, const char *name)
{
	bool		isnull;
	Datum		value = fp_trigger_row_value(trigger, tuple, name, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}
