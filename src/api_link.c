/*-------------------------------------------------------------------------
 *
 * api_link.c
 *	  Links between DAGs: flow_add_dependency, flow_drop_dependency, and the
 *	  triggers on flow.dependency_manager and flow.dag_log.
 *
 * Users may write both tables with plain SQL, so the checks are in triggers,
 * and the functions only give better errors than a trigger can.  Row security
 * policies stand behind the triggers for those who may switch triggers off.
 *
 * A trigger runs as whoever writes the row.  A superuser's row that has
 * run_id or logged_by filled in is taken as it is and wakes nobody: it comes
 * from the scheduler, which knows, or from pg_restore, and then the scheduler
 * reads the whole log when it starts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/rel.h"

#include "args.h"
#include "cycle.h"
#include "dag_rights.h"
#include "link_store.h"
#include "request_store.h"
#include "schedule.h"
#include "trigger_row.h"

/* A row of flow.dependency_manager; both NULL: none. */
typedef struct Link
{
	char	   *asis_dag;
	char	   *tobe_dag;
} Link;

PG_FUNCTION_INFO_V1(flow_add_dependency);
PG_FUNCTION_INFO_V1(flow_drop_dependency);
PG_FUNCTION_INFO_V1(flow_dependency_trigger);
PG_FUNCTION_INFO_V1(flow_dag_log_trigger);

static void check_link(const Link *link, const Link *old);
static void check_no_cycle(const Link *link, const Link *old);
static Link read_link(TriggerData *trigger, HeapTuple tuple);
static void request_dag(const char *dag_id);
static void check_may_log(const char *dag_id);
static void request_dag_log(const char *dag_id, DateADT date);
static HeapTuple set_writer(TriggerData *trigger, HeapTuple tuple,
							Oid writer, bool is_by_hand);


/*
 * flow_add_dependency(asis_dag text, tobe_dag text) returns void
 *
 * A dependency that is there already is left alone.
 */
Datum
flow_add_dependency(PG_FUNCTION_ARGS)
{
	Link		link;
	Link		none = {0};

	fp_args_begin("flow_add_dependency()");
	link.asis_dag = fp_args_id(fcinfo, 0, "asis_dag");
	link.tobe_dag = fp_args_id(fcinfo, 1, "tobe_dag");

	/* here as the user, and once more in the trigger, as flowpg */
	check_link(&link, &none);
	fp_link_store_add(link.asis_dag, link.tobe_dag);
	PG_RETURN_VOID();
}

/*
 * flow_drop_dependency(asis_dag text, tobe_dag text) returns void
 */
Datum
flow_drop_dependency(PG_FUNCTION_ARGS)
{
	char	   *asis_dag;
	char	   *tobe_dag;

	fp_args_begin("flow_drop_dependency()");
	asis_dag = fp_args_id(fcinfo, 0, "asis_dag");
	tobe_dag = fp_args_id(fcinfo, 1, "tobe_dag");

	(void) fp_dag_rights_require(tobe_dag);
	fp_link_store_lock();		/* before the row is: see below */
	if (!fp_link_store_drop(asis_dag, tobe_dag))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("dag \"%s\" does not depend on dag \"%s\"",
						tobe_dag, asis_dag),
				 errhint("The table flow.dependency_manager lists the dependencies.")));
	PG_RETURN_VOID();
}

/*
 * Trigger on flow.dependency_manager: before a row is written it is checked,
 * after it is written or deleted the scheduler is told.  TRUNCATE tells it
 * before, while the rows can still be seen.  An UPDATE takes the lock on all
 * links before it locks a row, as flowpg's functions do: else two of them that
 * come to the same row could wait for each other.  A plain DELETE does not, for
 * that of flow_drop_dag would wait for who holds the lock and wants the DAG.
 */
Datum
flow_dependency_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = fp_trigger_row_require(fcinfo, "dependency_manager");
	TriggerEvent event = trigger->tg_event;
	Link		old = {0};
	Link		link = {0};

	if (TRIGGER_FIRED_BY_TRUNCATE(event))
	{
		List	   *tobe_dags = fp_link_store_all_tobe_dags();
		ListCell   *lc;

		foreach(lc, tobe_dags)
			request_dag(lfirst(lc));
		return PointerGetDatum(NULL);
	}
	if (TRIGGER_FIRED_FOR_STATEMENT(event))
	{
		fp_link_store_lock();
		return PointerGetDatum(NULL);
	}

	if (TRIGGER_FIRED_BY_INSERT(event))
		link = read_link(trigger, trigger->tg_trigtuple);
	else
		old = read_link(trigger, trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(event))
		link = read_link(trigger, trigger->tg_newtuple);

	if (TRIGGER_FIRED_BEFORE(event))
		check_link(&link, &old);
	else
	{
		/* the policy on what may be deleted goes by an old snapshot, too */
		if (old.tobe_dag != NULL && fp_dag_rights_is_anothers(old.tobe_dag))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for dag \"%s\"", old.tobe_dag),
					 errhint("A dependency is changed by the owner of the DAG that depends, or a member of that role.")));

		if (old.tobe_dag != NULL)
			request_dag(old.tobe_dag);
		if (link.tobe_dag != NULL)
			request_dag(link.tobe_dag);
	}

	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(event) ?
						   trigger->tg_newtuple : trigger->tg_trigtuple);
}

/*
 * Trigger before INSERT or UPDATE on flow.dag_log: says who wrote the row, and
 * tells the scheduler of the word of an outside system.  The request is
 * written before the row, so it may come to nothing (ON CONFLICT DO NOTHING);
 * the scheduler goes by the table and not by the request.
 */
Datum
flow_dag_log_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = fp_trigger_row_require(fcinfo, "dag_log");
	bool		is_insert = TRIGGER_FIRED_BY_INSERT(trigger->tg_event);
	HeapTuple	tuple = is_insert ? trigger->tg_trigtuple :
		trigger->tg_newtuple;
	bool		has_no_run;
	bool		has_no_writer;
	bool		isnull;
	char	   *dag_id;
	Datum		date;

	(void) fp_trigger_row_value(trigger, tuple, "run_id", &has_no_run);
	(void) fp_trigger_row_value(trigger, tuple, "logged_by", &has_no_writer);
	if (superuser())
	{
		if (is_insert && !has_no_writer)
			return PointerGetDatum(tuple);
		if (!has_no_run)
			return PointerGetDatum(set_writer(trigger, tuple, GetUserId(),
											  false /* is_by_hand */ ));
	}

	dag_id = fp_trigger_row_text(trigger, tuple, "dag_id");
	fp_args_check_id(dag_id, "dag_id");
	check_may_log(dag_id);
	date = fp_trigger_row_value(trigger, tuple, "completion_date", &isnull);
	if (!isnull)
		request_dag_log(dag_id, DatumGetDateADT(date));

	return PointerGetDatum(set_writer(trigger, tuple, GetUserId(),
									  true /* is_by_hand */ ));
}

/*
 * Raise an error if the current user may not write this link, or if it makes
 * no sense.  The asis DAG need not exist: then it is an outside system.
 */
static void
check_link(const Link *link, const Link *old)
{
	fp_args_check_id(link->asis_dag, "asis_dag");
	fp_args_check_id(link->tobe_dag, "tobe_dag");

	(void) fp_dag_rights_require(link->tobe_dag);
	if (fp_dag_rights_is_anothers(link->asis_dag))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for dag \"%s\"", link->asis_dag),
				 errhint("Only a DAG that you own, or whose owner you are a member of, can be waited for.")));

	if (strcmp(link->asis_dag, link->tobe_dag) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("dag \"%s\" cannot depend on itself", link->tobe_dag),
				 errhint("Name another DAG as asis_dag.")));

	fp_link_store_lock();
	check_no_cycle(link, old);
}

/*
 * old is a link that is about to be replaced by the new one.
 */
static void
check_no_cycle(const Link *link, const Link *old)
{
	List	   *asis;
	List	   *tobe;
	List	   *from = list_make1(link->asis_dag);
	List	   *to = list_make1(link->tobe_dag);
	ListCell   *lc1;
	ListCell   *lc2;
	char	   *cycle;

	fp_link_store_edges_above(link->asis_dag, &asis, &tobe);
	forboth(lc1, asis, lc2, tobe)
	{
		if (old->asis_dag != NULL &&
			strcmp(lfirst(lc1), old->asis_dag) == 0 &&
			strcmp(lfirst(lc2), old->tobe_dag) == 0)
			continue;
		from = lappend(from, lfirst(lc1));
		to = lappend(to, lfirst(lc2));
	}

	cycle = fp_cycle_find(from, to, link->asis_dag);
	if (cycle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("dependency of dag \"%s\" on dag \"%s\" would make a cycle: %s",
						link->tobe_dag, link->asis_dag, cycle),
				 errhint("Drop one of these dependencies first, with flow_drop_dependency().")));
}

static Link
read_link(TriggerData *trigger, HeapTuple tuple)
{
	Link		link;

	link.asis_dag = fp_trigger_row_text(trigger, tuple, "asis_dag");
	link.tobe_dag = fp_trigger_row_text(trigger, tuple, "tobe_dag");
	return link;
}

static void
request_dag(const char *dag_id)
{
	fp_request_store_add(FP_REQUEST_DAG, dag_id, 0, 0, NULL);
}

/*
 * Anyone may log for an outside system; whose word counts is decided where it
 * is read.  A DAG's own log is its owner's.
 */
static void
check_may_log(const char *dag_id)
{
	if (fp_dag_rights_is_anothers(dag_id))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for dag \"%s\"", dag_id),
				 errhint("Rows of flow.dag_log for a DAG are written by its owner or a member of that role.")));
}

static void
request_dag_log(const char *dag_id, DateADT date)
{
	StringInfoData args;
	struct pg_tm tm = {0};
	char		text[MAXDATELEN + 1];

	if (!fp_schedule_has_date(date))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid completion_date \"%s\"",
						DatumGetCString(DirectFunctionCall1(date_out,
															DateADTGetDatum(date)))),
				 errhint("Give the date on which the data interval ends, from the year 1 to the year 9999.")));

	j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	EncodeDateOnly(&tm, USE_ISO_DATES, text);
	initStringInfo(&args);
	appendStringInfo(&args, "{\"date\": \"%s\"}", text);
	fp_request_store_add(FP_REQUEST_DAG_LOG, dag_id, 0, 0, args.data);
}

/*
 * The row with logged_by set and, where is_by_hand, no run_id: that a run
 * succeeded only flowpg can say.
 */
static HeapTuple
set_writer(TriggerData *trigger, HeapTuple tuple, Oid writer, bool is_by_hand)
{
	int			columns[2];
	Datum		values[2] = {0};
	bool		nulls[2] = {false, true};

	columns[0] = fp_trigger_row_column(trigger, "logged_by");
	values[0] = ObjectIdGetDatum(writer);
	columns[1] = fp_trigger_row_column(trigger, "run_id");
	return heap_modify_tuple_by_cols(tuple,
									 RelationGetDescr(trigger->tg_relation),
									 is_by_hand ? 2 : 1, columns, values,
									 nulls);
}
