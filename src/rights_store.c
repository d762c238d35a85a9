/*-------------------------------------------------------------------------
 *
 * rights_store.c
 *	  The GRANTs that make a role a user of flowpg.
 *
 * A granted role may read flow's relations, as far as row security lets it,
 * write the two that are meant for plain SQL, and call the functions.  It may
 * not use the functions of triggers: on a table of its own they would be
 * called as that table's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "flowpg.h"
#include "rights_store.h"
#include "spi_util.h"
#include "store_args.h"

/* what is granted beside what the catalogs list */
static const char *const grants[] = {
	"USAGE ON SCHEMA flow",
	"INSERT, UPDATE, DELETE ON flow.dependency_manager, flow.dag_log",
};

/* relations and routines of the extension, as GRANT wants them */
static FpStatement list_relations = {
	"SELECT c.oid::regclass::text"
	" FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid"
	" JOIN pg_class c ON c.oid = d.objid "
	"WHERE d.refclassid = 'pg_extension'::regclass"
	" AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'"
	" AND e.extname = '" FP_EXTENSION "' AND c.relkind IN ('r', 'p', 'v', 'm') "
	"ORDER BY 1",
	SPI_OK_SELECT, 0, {0}
};

static FpStatement list_routines = {
	"SELECT p.oid::regprocedure::text"
	" FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid"
	" JOIN pg_proc p ON p.oid = d.objid "
	"WHERE d.refclassid = 'pg_extension'::regclass"
	" AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'"
	" AND e.extname = '" FP_EXTENSION "'"
	" AND p.prorettype <> 'trigger'::regtype "
	"ORDER BY 1",
	SPI_OK_SELECT, 0, {0}
};

static void change_rights(const char *verb, const char *preposition,
						  const char *role);
static void append_names(StringInfo text, List *names);


void
fp_rights_store_grant(const char *role)
{
	change_rights("GRANT", "TO", role);
}

void
fp_rights_store_revoke(const char *role)
{
	change_rights("REVOKE", "FROM", role);
}

static void
change_rights(const char *verb, const char *preposition, const char *role)
{
	FpStoreArgs args = {0};
	List	   *relations = NIL;
	List	   *routines = NIL;
	FpOwnerScope scope;
	StringInfoData sql;

	fp_store_execute(&list_relations, &args, fp_store_append_text, &relations);
	fp_store_execute(&list_routines, &args, fp_store_append_text, &routines);

	initStringInfo(&sql);
	for (int i = 0; i < lengthof(grants); i++)
		appendStringInfo(&sql, "%s %s %s %s; ", verb, grants[i], preposition,
						 role);
	appendStringInfo(&sql, "%s SELECT ON ", verb);
	append_names(&sql, relations);
	appendStringInfo(&sql, " %s %s; %s EXECUTE ON ROUTINE ", preposition,
					 role, verb);
	append_names(&sql, routines);
	appendStringInfo(&sql, " %s %s", preposition, role);

	fp_spi_begin_owner(&scope);
	fp_spi_execute_once(sql.data, 0, NULL, NULL, NULL, NULL, NULL);
	fp_spi_end_owner(&scope);
}

static void
append_names(StringInfo text, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
		appendStringInfo(text, "%s%s", lc == list_head(names) ? "" : ", ",
						 (char *) lfirst(lc));
}
