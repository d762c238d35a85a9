/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  How a session waits for what background processes do.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_WAIT_H
#define FLOWPG_WAIT_H

#include "datatype/timestamp.h"

typedef struct FpWait
{
	TimestampTz deadline;		/* real time; DT_NOEND: none */
	long		pause;			/* ms, before the next look */
} FpWait;

/* timeout NULL: without end */
extern void fp_wait_begin(FpWait *wait, const Interval *timeout);

/*
 * Waits until it is time to look again; false, at once, where the time is
 * up.  Pauses grow from a millisecond, for what is done soon, to half a second.
 */
extern bool fp_wait_again(FpWait *wait);

/* whether it has waited long enough for dear checks */
extern bool fp_wait_is_slow(const FpWait *wait);

#endif							/* FLOWPG_WAIT_H */
