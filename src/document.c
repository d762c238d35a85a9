/*-------------------------------------------------------------------------
 *
 * document.c
 *	  A whole DAG as one jsonb document, read into the arguments of
 *	  flow_create_dag and the flow_add_ functions.
 *
 * Called by sessions, for flow_apply.  A document is nothing but arguments by
 * name, and becomes what those functions themselves are called with: so it is
 * checked by the same code, and what it means is explained once.  NULL there,
 * and null here, is "not given".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "document.h"
#include "jsonb_util.h"
#include "task_def.h"

/* of a DAG, beside the arguments of flow_create_dag */
enum
{
	DOCUMENT_ASIS_DAGS = FP_DAG_ARGUMENTS,
	DOCUMENT_SEARCH_PATH,
	DOCUMENT_ARGUMENTS
};

static const FpArgument document_arguments[] = {
	{"asis_dags", TEXTARRAYOID},
	{"search_path", TEXTOID},
};

static FunctionCallInfo make_arguments(int n);
static bool read_argument(FunctionCallInfo fcinfo, int first,
						  const FpArgument *arguments, int narguments,
						  const char *key, JsonbValue *value);
static void read_tasks(FpDocument *document, const char *dag_id,
					   JsonbValue *value);
static FpDocumentTask *read_task(const char *dag_id, int number,
								 JsonbValue *value);
static const FpTaskKind *read_operator(const Jsonb *task);
static void check_given_once(List *tasks, const char *dag_id);
static void check_schemas(const char *search_path);
pg_noreturn static void unrecognized_key(const char *key, const char *place,
										 List *keys);
static List *argument_names(List *names, const FpArgument *arguments, int n);
static Datum read_value(const FpArgument *argument, JsonbValue *value);
static Datum read_int(const FpArgument *argument, JsonbValue *value);
static Datum read_texts(const FpArgument *argument, JsonbValue *value);
static Datum read_through_input(const FpArgument *argument,
								JsonbValue *value);
static bool has_zone(const char *text);
pg_noreturn static void invalid_value(const FpArgument *argument,
									  JsonbValue *value, const char *detail);
static const char *accepted_values(Oid type);
static Jsonb *object_of(JsonbValue *value);
static void place_error_context(void *arg);


FpDocument *
fp_document_read(const Jsonb *definition)
{
	FpDocument *document = palloc0(sizeof(FpDocument));
	JsonbIterator *iterator;
	JsonbValue	key;
	JsonbValue	value;
	JsonbValue *dag_id_value = fp_jsonb_get(definition, "dag_id");
	JsonbValue *tasks = NULL;
	char	   *dag_id;

	document->dag = make_arguments(DOCUMENT_ARGUMENTS);
	if (dag_id_value != NULL)
		(void) read_argument(document->dag, 0, fp_dag_def_arguments,
							 FP_DAG_ARGUMENTS, "dag_id", dag_id_value);
	dag_id = fp_args_id(document->dag, FP_DAG_DAG_ID, "dag_id");

	iterator = JsonbIteratorInit(unconstify(JsonbContainer *,
											&definition->root));
	(void) JsonbIteratorNext(&iterator, &key, false);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		char	   *name = fp_jsonb_string(&key);

		(void) JsonbIteratorNext(&iterator, &value, true);
		if (strcmp(name, FP_DOCUMENT_TASKS) == 0)
		{
			tasks = palloc(sizeof(JsonbValue));
			*tasks = value;
		}
		else if (!read_argument(document->dag, 0, fp_dag_def_arguments,
								FP_DAG_ARGUMENTS, name, &value) &&
				 !read_argument(document->dag, FP_DAG_ARGUMENTS,
								document_arguments,
								lengthof(document_arguments), name, &value))
			unrecognized_key(name, psprintf("dag \"%s\"", dag_id),
							 lappend(argument_names(argument_names(NIL,
																   fp_dag_def_arguments,
																   FP_DAG_ARGUMENTS),
													document_arguments,
													lengthof(document_arguments)),
									 FP_DOCUMENT_TASKS));
	}

	document->asis_dags = fp_args_names(fp_args_text_array(document->dag,
														   DOCUMENT_ASIS_DAGS,
														   "asis_dags"));
	document->search_path = fp_args_text(document->dag, DOCUMENT_SEARCH_PATH);
	if (document->search_path != NULL)
		check_schemas(document->search_path);
	if (tasks != NULL)
		read_tasks(document, dag_id, tasks);
	return document;
}

void
fp_document_begin_place(FpDocumentPlace *scope, const char *place)
{
	scope->callback.callback = place_error_context;
	scope->callback.arg = unconstify(char *, place);
	scope->callback.previous = error_context_stack;
	error_context_stack = &scope->callback;
}

void
fp_document_end_place(FpDocumentPlace *scope)
{
	error_context_stack = scope->callback.previous;
}

static void
place_error_context(void *arg)
{
	errcontext("%s", (const char *) arg);
}


/*
 * Room for the arguments of a call, all of them NULL so far.
 */
static FunctionCallInfo
make_arguments(int n)
{
	FunctionCallInfo fcinfo = palloc0(SizeForFunctionCallInfo(n));

	InitFunctionCallInfoData(*fcinfo, NULL, n, InvalidOid, NULL, NULL);
	for (int i = 0; i < n; i++)
		fcinfo->args[i].isnull = true;
	return fcinfo;
}

/*
 * Put a value where the argument of this name belongs; first is the place of
 * the first of arguments.  False: none of them is called so.
 */
static bool
read_argument(FunctionCallInfo fcinfo, int first, const FpArgument *arguments,
			  int narguments, const char *key, JsonbValue *value)
{
	for (int i = 0; i < narguments; i++)
	{
		if (strcmp(arguments[i].name, key) != 0)
			continue;
		if (value->type != jbvNull)
		{
			fcinfo->args[first + i].value = read_value(&arguments[i], value);
			fcinfo->args[first + i].isnull = false;
		}
		return true;
	}
	return false;
}

static void
read_tasks(FpDocument *document, const char *dag_id, JsonbValue *value)
{
	JsonbContainer *array;

	if (value->type == jbvNull)
		return;
	if (value->type != jbvBinary ||
		!JsonContainerIsArray(value->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid tasks \"%s\" of dag \"%s\"",
						fp_args_shortened(fp_jsonb_text(value)), dag_id),
				 errhint("Give a JSON array of objects, one for each task.")));

	array = value->val.binary.data;
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
		document->tasks = lappend(document->tasks,
								  read_task(dag_id, i + 1,
											getIthJsonbValueFromContainer(array,
																		  i)));
	check_given_once(document->tasks, dag_id);
}

/*
 * One element of tasks; number counts from 1.
 */
static FpDocumentTask *
read_task(const char *dag_id, int number, JsonbValue *element)
{
	FpDocumentTask *task = palloc(sizeof(FpDocumentTask));
	FpDocumentPlace scope;
	Jsonb	   *object = object_of(element);
	JsonbValue *task_id;
	JsonbIterator *iterator;
	JsonbValue	key;
	JsonbValue	value;
	int			first_common;

	if (object == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid element %d of the tasks of dag \"%s\": \"%s\"",
						number, dag_id,
						fp_args_shortened(fp_jsonb_text(element))),
				 errhint("Give a JSON object with task_id, operator and the arguments of flow_add_<operator>().")));

	task_id = fp_jsonb_get(object, FP_DOCUMENT_TASK_ID);
	if (task_id != NULL && task_id->type == jbvString)
		task->place = psprintf("task \"%s\" of dag \"%s\"",
							   fp_jsonb_string(task_id), dag_id);
	else
		task->place = psprintf("element %d of the tasks of dag \"%s\"",
							   number, dag_id);

	fp_document_begin_place(&scope, task->place);
	task->kind = read_operator(object);
	first_common = FP_TASK_OWN + task->kind->narguments;
	task->arguments = make_arguments(first_common + FP_TASK_COMMON_ARGUMENTS);

	iterator = JsonbIteratorInit(&object->root);
	(void) JsonbIteratorNext(&iterator, &key, false);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		static const FpArgument task_id_argument = {FP_DOCUMENT_TASK_ID, TEXTOID};
		char	   *name = fp_jsonb_string(&key);

		(void) JsonbIteratorNext(&iterator, &value, true);
		if (strcmp(name, FP_DOCUMENT_OPERATOR) != 0 &&
			!read_argument(task->arguments, FP_TASK_TASK_ID,
						   &task_id_argument, 1, name, &value) &&
			!read_argument(task->arguments, FP_TASK_OWN,
						   task->kind->arguments, task->kind->narguments,
						   name, &value) &&
			!read_argument(task->arguments, first_common, fp_task_def_common,
						   FP_TASK_COMMON_ARGUMENTS, name, &value))
			unrecognized_key(name, task->place,
							 argument_names(argument_names(list_make2(FP_DOCUMENT_TASK_ID,
																	  FP_DOCUMENT_OPERATOR),
														   task->kind->arguments,
														   task->kind->narguments),
											fp_task_def_common,
											FP_TASK_COMMON_ARGUMENTS));
	}
	(void) fp_args_id(task->arguments, FP_TASK_TASK_ID, FP_DOCUMENT_TASK_ID);
	fp_document_end_place(&scope);
	return task;
}

static const FpTaskKind *
read_operator(const Jsonb *task)
{
	JsonbValue *value = fp_jsonb_get(task, FP_DOCUMENT_OPERATOR);
	const FpTaskKind *kind = NULL;
	List	   *names = fp_task_kind_names();

	if (value == NULL || value->type == jbvNull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"operator\" must not be NULL"),
				 errhint("The operators are %s.",
						 fp_args_name_list(names, list_length(names)))));
	if (value->type == jbvString)
		kind = fp_task_kind_find(fp_jsonb_string(value));
	if (kind == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid operator \"%s\"",
						fp_args_shortened(value->type == jbvString ?
										  fp_jsonb_string(value) :
										  fp_jsonb_text(value))),
				 errhint("The operators are %s.",
						 fp_args_name_list(names, list_length(names)))));
	return kind;
}

static void
check_given_once(List *tasks, const char *dag_id)
{
	List	   *task_ids = NIL;
	ListCell   *lc;
	const char *previous = NULL;

	foreach(lc, tasks)
		task_ids = lappend(task_ids,
						   fp_args_text(((FpDocumentTask *) lfirst(lc))->arguments,
										FP_TASK_TASK_ID));
	list_sort(task_ids, fp_args_compare_names);
	foreach(lc, task_ids)
	{
		if (previous != NULL && strcmp(previous, lfirst(lc)) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("task \"%s\" of dag \"%s\" is given more than once",
							previous, dag_id),
					 errhint("Give each task a task_id of its own.")));
		previous = lfirst(lc);
	}
}

static void
check_schemas(const char *search_path)
{
	List	   *names;

	if (!SplitIdentifierString(pstrdup(search_path), ',', &names))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid search_path \"%s\"",
						fp_args_shortened(search_path)),
				 errhint("Give names of schemas, separated by commas, as in SHOW search_path.")));
}

static void
unrecognized_key(const char *key, const char *place, List *keys)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized key \"%s\" of %s", fp_args_shortened(key),
					place),
			 errhint("The keys are %s.",
					 fp_args_name_list(keys, list_length(keys)))));
}

static List *
argument_names(List *names, const FpArgument *arguments, int n)
{
	for (int i = 0; i < n; i++)
		names = lappend(names, unconstify(char *, arguments[i].name));
	return names;
}

/*
 * A value, not null, of the argument's type.
 */
static Datum
read_value(const FpArgument *argument, JsonbValue *value)
{
	switch (argument->type)
	{
		case TEXTOID:
			if (value->type == jbvString)
				return CStringGetTextDatum(fp_jsonb_string(value));
			break;
		case BOOLOID:
			if (value->type == jbvBool)
				return BoolGetDatum(value->val.boolean);
			break;
		case INT4OID:
			return read_int(argument, value);
		case TEXTARRAYOID:
			return read_texts(argument, value);
		case INTERVALOID:
		case TIMESTAMPOID:
			return read_through_input(argument, value);
		case JSONBOID:
			return JsonbPGetDatum(JsonbValueToJsonb(value));
	}
	invalid_value(argument, value, NULL);
	return (Datum) 0;			/* keep compiler quiet */
}

static Datum
read_int(const FpArgument *argument, JsonbValue *value)
{
	char	   *text;
	char	   *end;
	long		number;

	if (value->type != jbvNumeric)
		invalid_value(argument, value, NULL);

	text = fp_jsonb_text(value);
	errno = 0;
	number = strtol(text, &end, 10);
	if (*end != '\0' || errno != 0 ||
		number < PG_INT32_MIN || number > PG_INT32_MAX)
		invalid_value(argument, value, NULL);
	return Int32GetDatum((int32) number);
}

/*
 * null among the elements is left for those who take the argument.
 */
static Datum
read_texts(const FpArgument *argument, JsonbValue *value)
{
	JsonbContainer *array;
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			lower_bound = 1;

	if (value->type != jbvBinary ||
		!JsonContainerIsArray(value->val.binary.data))
		invalid_value(argument, value, NULL);

	array = value->val.binary.data;
	n = JsonContainerSize(array);
	elements = palloc0(sizeof(Datum) * (n + 1));
	nulls = palloc0(sizeof(bool) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);

		if (element->type == jbvString)
			elements[i] = CStringGetTextDatum(fp_jsonb_string(element));
		else if (element->type == jbvNull)
			nulls[i] = true;
		else
			invalid_value(argument, value, NULL);
	}
	if (n == 0)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	return PointerGetDatum(construct_md_array(elements, nulls, 1, &n,
											  &lower_bound, TEXTOID, -1,
											  false, TYPALIGN_INT));
}

/*
 * Types that JSON does not have are written as in SQL.  Their input functions
 * complain without saying of what; so the error becomes another one.
 */
static Datum
read_through_input(const FpArgument *argument, JsonbValue *value)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *text;
	Datum		result = (Datum) 0;

	if (value->type != jbvString)
		invalid_value(argument, value, NULL);

	text = fp_jsonb_string(value);
	if (argument->type == TIMESTAMPOID && has_zone(text))
		invalid_value(argument, value,
					  "It has a time zone or an offset, which would be left out of account.");

	PG_TRY();
	{
		PGFunction	input = argument->type == INTERVALOID ? interval_in :
			timestamp_in;

		result = DirectFunctionCall3(input, CStringGetDatum(text),
									 ObjectIdGetDatum(InvalidOid),
									 Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		invalid_value(argument, value, NULL);
	}
	PG_END_TRY();
	return result;
}

/*
 * Whether a timestamp comes with an offset or a zone, which the type would
 * drop in silence.  JSON that was made from a timestamptz has one.
 */
static bool
has_zone(const char *text)
{
	static const char *const words[] = {"am", "pm", "ad", "bc"};
	const char *p = strchr(text, ':');

	while (p != NULL && *p != '\0')
	{
		bool		is_word = false;

		if (*p == '+' || *p == '-')
			return true;
		if (!isalpha((unsigned char) *p))
		{
			p++;
			continue;
		}
		for (int i = 0; i < lengthof(words); i++)
			is_word |= pg_strncasecmp(p, words[i], 2) == 0 &&
				!isalpha((unsigned char) p[2]);
		if (!is_word)
			return true;
		p += 2;
	}
	return false;
}

static void
invalid_value(const FpArgument *argument, JsonbValue *value,
			  const char *detail)
{
	char	   *text = value->type == jbvString ? fp_jsonb_string(value) :
		fp_jsonb_text(value);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s \"%s\"", argument->name,
					fp_args_shortened(text)),
			 detail != NULL ? errdetail("%s", detail) : 0,
			 errhint("%s", accepted_values(argument->type))));
}

static const char *
accepted_values(Oid type)
{
	switch (type)
	{
		case TEXTOID:
			return "Give a JSON string.";
		case BOOLOID:
			return "Give a JSON boolean, true or false.";
		case INT4OID:
			return "Give a JSON number without fraction.";
		case TEXTARRAYOID:
			return "Give a JSON array of strings.";
		case INTERVALOID:
			return "Give an interval as a JSON string, such as \"10 minutes\".";
		case TIMESTAMPOID:
			return "Give a date or a time on the clock of the DAG's timezone as a JSON string, such as \"2024-01-31\" or \"2024-01-31 02:30\".";
	}
	return "Give a JSON value.";
}

/*
 * NULL: the value is no object.
 */
static Jsonb *
object_of(JsonbValue *value)
{
	if (value->type != jbvBinary ||
		!JsonContainerIsObject(value->val.binary.data))
		return NULL;
	return JsonbValueToJsonb(value);
}
