/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The present time for all of flowpg's decisions.
 *
 * A simulated time lies in shared memory, so that all processes step
 * together: a setting changed by reload reaches each process at another
 * moment.  It stands still until it is published anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "guc.h"
#include "shmem.h"

TimestampTz
fp_clock_now(void)
{
	if (fp_shared != NULL)
	{
		TimestampTz simulated;

		simulated = (TimestampTz) pg_atomic_read_u64(&fp_shared->simulated_now);
		if (simulated != DT_NOBEGIN)
			return simulated;
	}
	else if (fp_simulated_now != DT_NOBEGIN)
		return fp_simulated_now;
	return GetCurrentTimestamp();
}

TimestampTz
fp_clock_after(int64 delay)
{
	TimestampTz now = fp_clock_now();

	delay = Max(delay, 0);
	return now < END_TIMESTAMP - 1 - delay ? now + delay : END_TIMESTAMP - 1;
}

TimestampTz
fp_clock_real(void)
{
	return GetCurrentTimestamp();
}

bool
fp_clock_has_passed(TimestampTz since, TimestampTz now, int ms)
{
	return since > now || TimestampDifferenceExceeds(since, now, ms);
}

bool
fp_clock_is_simulated(void)
{
	return fp_shared != NULL &&
		(TimestampTz) pg_atomic_read_u64(&fp_shared->simulated_now) != DT_NOBEGIN;
}

void
fp_clock_publish(TimestampTz now)
{
	pg_atomic_write_u64(&fp_shared->simulated_now, (uint64) now);
}
