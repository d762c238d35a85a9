/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the supported PostgreSQL majors, under the newest
 *	  name.  The only file that looks at PG_VERSION_NUM.
 *
 * Supported: 15 and later.  Each wrapper names the major that changed it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_COMPAT_H
#define FLOWPG_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "flowpg needs PostgreSQL 15 or later"
#endif

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/datetime.h"
#include "utils/guc.h"

/* 16: one ownership check for every kind of object. */
#if PG_VERSION_NUM < 160000
static inline bool
object_ownercheck(Oid classid, Oid objectid, Oid roleid)
{
	if (classid == DatabaseRelationId)
		return pg_database_ownercheck(objectid, roleid);
	Assert(classid == RelationRelationId);
	return pg_class_ownercheck(objectid, roleid);
}
#endif

/* 16: one check of rights for every kind of object. */
#if PG_VERSION_NUM < 160000
static inline AclResult
object_aclcheck(Oid classid, Oid objectid, Oid roleid, AclMode mode)
{
	if (classid == DatabaseRelationId)
		return pg_database_aclcheck(objectid, roleid, mode);
	Assert(classid == NamespaceRelationId);
	return pg_namespace_aclcheck(objectid, roleid, mode);
}
#endif

/* 16: what a query needs rights for is in a list of its own. */
#if PG_VERSION_NUM < 160000
#define ExecCheckPermissions(rangeTable, rteperminfos, ereport_on_violation) \
	ExecCheckRTPerms(rangeTable, ereport_on_violation)
#endif

/* 16: membership and the right to SET ROLE are two things. */
#if PG_VERSION_NUM < 160000
#define member_can_set_role(member, role) is_member_of_role(member, role)
#endif

/* 16: memory for the extra of a GUC check hook comes from guc_malloc. */
#if PG_VERSION_NUM < 160000
#define guc_malloc(elevel, size) malloc(size)
#define guc_free(pointer) free(pointer)
#endif

/* 16: DecodeDateTime tells more about an error. */
#if PG_VERSION_NUM >= 160000
static inline int
fp_decode_datetime(char **field, int *ftype, int nfields, int *dtype,
				   struct pg_tm *tm, fsec_t *fsec, int *tz)
{
	DateTimeErrorExtra extra;

	return DecodeDateTime(field, ftype, nfields, dtype, tm, fsec, tz, &extra);
}
#else
#define fp_decode_datetime(field, ftype, nfields, dtype, tm, fsec, tz) \
	DecodeDateTime(field, ftype, nfields, dtype, tm, fsec, tz)
#endif

/* 17: a role without LOGIN may own a background worker's session. */
#if PG_VERSION_NUM < 170000
#define BGWORKER_BYPASS_ROLELOGINCHECK 0
#define FP_OWNER_NEEDS_LOGIN true
#else
#define FP_OWNER_NEEDS_LOGIN false
#endif

/* 17: intervals may be infinite. */
#if PG_VERSION_NUM < 170000
#define INTERVAL_NOT_FINITE(interval) (false)
#endif

/* 17: custom wait events have names. */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name) PG_WAIT_EXTENSION
#endif

/* 18: what does not return is marked in front of its declaration. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 18: PortalRun lost its run_once argument. */
#if PG_VERSION_NUM < 180000
#define fp_portal_run(portal, count, is_top, dest, altdest, qc) \
	PortalRun(portal, count, is_top, true, dest, altdest, qc)
#else
#define fp_portal_run(portal, count, is_top, dest, altdest, qc) \
	PortalRun(portal, count, is_top, dest, altdest, qc)
#endif

/* 17: the setting transaction_timeout, which fires in workers too. */
#if PG_VERSION_NUM >= 170000
#define FP_HAVE_TRANSACTION_TIMEOUT 1
#else
#define FP_HAVE_TRANSACTION_TIMEOUT 0
#endif

#endif							/* FLOWPG_COMPAT_H */
