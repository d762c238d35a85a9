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

/* All open requests, in order, inside the cycle's transaction. */
extern void fp_requests_apply(FpModel *model);

#endif							/* FLOWPG_REQUESTS_H */
