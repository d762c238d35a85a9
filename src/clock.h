/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  The present time for all of flowpg's decisions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_CLOCK_H
#define FLOWPG_CLOCK_H

#include "datatype/timestamp.h"

/* what decisions take for the present time: flowpg.simulated_now, or real */
extern TimestampTz fp_clock_now(void);

/* so many microseconds after that, none if negative; as late as a time can be */
extern TimestampTz fp_clock_after(int64 delay);

/* the real time: started_at, ended_at, timeouts, waiting */
extern TimestampTz fp_clock_real(void);

/*
 * Whether so many milliseconds have passed since then.  They have where it
 * lies ahead of now, for the real time has been set back: nothing is to wait
 * until it comes round again.
 */
extern bool fp_clock_has_passed(TimestampTz since, TimestampTz now, int ms);

extern bool fp_clock_is_simulated(void);

/* publish a simulated time to all processes; DT_NOBEGIN: the real time */
extern void fp_clock_publish(TimestampTz now);

#endif							/* FLOWPG_CLOCK_H */
