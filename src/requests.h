/*-------------------------------------------------------------------------
 *
 * requests.h
 *	  The scheduler carries out what sessions have asked for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_REQUESTS_H
#define FLOWPG_REQUESTS_H

#include "model.h"
#include "shmem.h"

/*
 * The requests that the database's slot tells of, or all open ones, in order,
 * inside the cycle's transaction.
 */
extern void fp_requests_apply(FpModel *model, FpDatabaseSlot *slot);

#endif							/* FLOWPG_REQUESTS_H */
