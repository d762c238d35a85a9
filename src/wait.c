/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  How a session waits for what background processes do.
 *
 * Used by the SQL functions that wait.  They look at tables again and again,
 * for a session is not told of another's commit; the pauses keep that cheap.
 * Cancel and termination end the wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "clock.h"
#include "process.h"
#include "wait.h"

#define FIRST_PAUSE 1
#define SLOW_PAUSE 16
#define LONGEST_PAUSE 500

void
fp_wait_begin(FpWait *wait, const Interval *timeout)
{
	wait->pause = FIRST_PAUSE;
	wait->deadline = DT_NOEND;
	if (timeout != NULL)
	{
		double		length = timeout->time +
			((double) timeout->month * DAYS_PER_MONTH + timeout->day) *
			USECS_PER_DAY;
		TimestampTz now = fp_clock_real();

		/* so long that it is no bound */
		if (length < (double) (END_TIMESTAMP - now))
			wait->deadline = now + (int64) length;
	}
}

bool
fp_wait_again(FpWait *wait)
{
	long		pause = wait->pause;

	if (wait->deadline != DT_NOEND)
	{
		TimestampTz now = fp_clock_real();

		if (now >= wait->deadline)
			return false;
		pause = Min(pause, (wait->deadline - now) / 1000 + 1);
	}
	fp_process_wait(pause);
	/* the end is to be seen late by a small part of the wait, not by a half */
	wait->pause = Min(wait->pause + wait->pause / 16 + 1, LONGEST_PAUSE);
	return true;
}

bool
fp_wait_is_slow(const FpWait *wait)
{
	return wait->pause > SLOW_PAUSE;
}
