/*-------------------------------------------------------------------------
 *
 * jsonb_util.c
 *	  Objects of jsonb, written key by key, and single values as text.
 *
 * Used where definitions become jsonb and the other way round.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "jsonb_util.h"

static void set_string(JsonbValue *value, const char *text);


void
fp_jsonb_push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value;

	set_string(&value, key);
	pushJsonbValue(state, WJB_KEY, &value);
}

void
fp_jsonb_push_text(JsonbParseState **state, const char *key,
				   const char *value)
{
	JsonbValue	string;

	if (value == NULL)
		return;
	set_string(&string, value);
	fp_jsonb_push_value(state, key, &string);
}

void
fp_jsonb_push_int(JsonbParseState **state, const char *key, int value)
{
	JsonbValue	number;

	number.type = jbvNumeric;
	number.val.numeric = int64_to_numeric(value);
	fp_jsonb_push_value(state, key, &number);
}

void
fp_jsonb_push_bool(JsonbParseState **state, const char *key, bool value)
{
	JsonbValue	boolean;

	boolean.type = jbvBool;
	boolean.val.boolean = value;
	fp_jsonb_push_value(state, key, &boolean);
}

void
fp_jsonb_push_texts(JsonbParseState **state, const char *key, List *values)
{
	ListCell   *lc;

	fp_jsonb_push_key(state, key);
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, values)
	{
		JsonbValue	string;

		set_string(&string, lfirst(lc));
		pushJsonbValue(state, WJB_ELEM, &string);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

void
fp_jsonb_push_value(JsonbParseState **state, const char *key,
					JsonbValue *value)
{
	fp_jsonb_push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, value);
}

JsonbValue *
fp_jsonb_get(const Jsonb *object, const char *key)
{
	return getKeyJsonValueFromContainer(unconstify(JsonbContainer *,
												   &object->root),
										key, strlen(key), NULL);
}

char *
fp_jsonb_text(JsonbValue *value)
{
	Jsonb	   *jsonb = JsonbValueToJsonb(value);

	return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
}

char *
fp_jsonb_string(const JsonbValue *value)
{
	Assert(value->type == jbvString);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
set_string(JsonbValue *value, const char *text)
{
	value->type = jbvString;
	value->val.string.val = unconstify(char *, text);
	value->val.string.len = strlen(text);
}
