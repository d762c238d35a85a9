/*-------------------------------------------------------------------------
 *
 * citus.h
 *	  What flowpg must know of Citus, where it is installed.
 *
 * Both are called in a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_CITUS_H
#define FLOWPG_CITUS_H

/* whether a table's rows are spread over other servers */
extern bool fp_citus_is_distributed(Oid relid);

/*
 * Whether this database is a worker node: what is created on the coordinator,
 * the extension too, is created here as well, but not to run here.
 */
extern bool fp_citus_is_worker_node(void);

#endif							/* FLOWPG_CITUS_H */
