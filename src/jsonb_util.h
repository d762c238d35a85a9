/*-------------------------------------------------------------------------
 *
 * jsonb_util.h
 *	  Objects of jsonb, written key by key, and single values as text.
 *
 * Results are palloc'd in the current memory context.  What is pushed is not
 * copied before the object is complete; a value that was got points into its
 * object.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_JSONB_UTIL_H
#define FLOWPG_JSONB_UTIL_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

extern void fp_jsonb_push_key(JsonbParseState **state, const char *key);
/* NULL is left out */
extern void fp_jsonb_push_text(JsonbParseState **state, const char *key,
							   const char *value);
extern void fp_jsonb_push_int(JsonbParseState **state, const char *key,
							  int value);
extern void fp_jsonb_push_bool(JsonbParseState **state, const char *key,
							   bool value);
/* a List of char *, as an array */
extern void fp_jsonb_push_texts(JsonbParseState **state, const char *key,
								List *values);
extern void fp_jsonb_push_value(JsonbParseState **state, const char *key,
								JsonbValue *value);

/* the value of a key of an object; NULL: the object has no such key */
extern JsonbValue *fp_jsonb_get(const Jsonb *object, const char *key);

/* a value as JSON text; a string with its quotes */
extern char *fp_jsonb_text(JsonbValue *value);

/* a string's content */
extern char *fp_jsonb_string(const JsonbValue *value);

#endif							/* FLOWPG_JSONB_UTIL_H */
