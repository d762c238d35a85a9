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
 * inside the cycle's transaction.  One that fails is put off.  An error may
 * end the cycle (fp_requests_take_failure); the next one goes on without it.
 */
extern void fp_requests_apply(FpModel *model, FpDatabaseSlot *slot);

/* when it must be called, told of requests or not, in real time; or DT_NOEND */
extern TimestampTz fp_requests_next_look(void);

/*
 * After an error: whether it was a request's, which is put off and in the log,
 * so that there is no need to wait before memory is built anew.
 */
extern bool fp_requests_take_failure(void);

/* for scheduler_status, where some fail for other reasons than locks; else empty */
extern const char *fp_requests_problem(void);

#endif							/* FLOWPG_REQUESTS_H */
