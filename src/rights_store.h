/*-------------------------------------------------------------------------
 *
 * rights_store.h
 *	  The GRANTs that make a role a user of flowpg.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_RIGHTS_STORE_H
#define FLOWPG_RIGHTS_STORE_H

/* role is a quoted identifier */
extern void fp_rights_store_grant(const char *role);
extern void fp_rights_store_revoke(const char *role);

#endif							/* FLOWPG_RIGHTS_STORE_H */
