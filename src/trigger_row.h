/*-------------------------------------------------------------------------
 *
 * trigger_row.h
 *	  The rows that triggers on flowpg's tables are fired for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TRIGGER_ROW_H
#define FLOWPG_TRIGGER_ROW_H

#include "commands/trigger.h"
#include "fmgr.h"

/* ERROR: the function was not called by a trigger on flow.<table> */
extern TriggerData *fp_trigger_row_require(FunctionCallInfo fcinfo,
										   const char *table);

/* the number of a column, from 1 */
extern int	fp_trigger_row_column(TriggerData *trigger, const char *name);

extern Datum fp_trigger_row_value(TriggerData *trigger, HeapTuple tuple,
								  const char *name, bool *isnull);
/* NULL for NULL */
extern char *fp_trigger_row_text(TriggerData *trigger, HeapTuple tuple,
								 const char *name);

#endif							/* FLOWPG_TRIGGER_ROW_H */
