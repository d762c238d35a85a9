/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Finished runs are forgotten when they are old.
 *
 * Runs in the scheduler, between other things: so it goes through all runs in
 * small steps.  How old the oldest one is that stays is known after that, and
 * until it is old nothing has to be looked at: neither a million of runs nor
 * none of them cost anything meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "clock.h"
#include "guc.h"
#include "history.h"
#include "history_store.h"
#include "spi_util.h"

/* a step: so many runs looked at, so many rows of a table removed, ... */
#define STEP_RUNS 2000
#define STEP_OLD_RUNS 500
#define STEP_ROWS 5000
/* ... and a pause, in which others get on */
#define STEP_PAUSE_MS 100
/* where a session's lock is in the way, which the step has waited for */
#define LOCKED_PAUSE_MS 10000

/* from the end of one sweep to the next one at least, in us */
#define SWEEP_PAUSE (60 * USECS_PER_MINUTE)

/* Once through all runs. */
typedef struct Sweep
{
	TimestampTz began_at;
	TimestampTz before;			/* what ended earlier is old */
	int64		last;			/* the run up to which all is done */
	bool		is_at_end;		/* all runs are; the rest is left */
	TimestampTz oldest;			/* of what stays, as far as it is known */
} Sweep;

static Sweep sweep;
static bool is_sweeping = false;

/* of the last sweep; 0: there was none */
static TimestampTz swept_at = 0;
static TimestampTz oldest_left;
static int	swept_retention;

static bool is_due(TimestampTz now);
static void begin_sweep(TimestampTz now);
static void end_sweep(TimestampTz now);
static void step(void *arg);


long
fp_history_tend(void)
{
	static TimestampTz last_step = 0;
	static int	pause = STEP_PAUSE_MS;
	MemoryContext context = CurrentMemoryContext;
	TimestampTz now = fp_clock_real();

	if (fp_history_retention == 0)
		is_sweeping = false;
	else if (!is_sweeping && is_due(now))
		begin_sweep(now);
	if (!is_sweeping)
		return INT_MAX;
	if (!fp_clock_has_passed(last_step, now, pause))
		return pause;

	last_step = now;
	fp_spi_begin_transaction("flowpg: forgetting old runs");
	MemoryContextSwitchTo(context);
	/* what a session has locked is looked at again in a later step */
	pause = fp_spi_try(step, &sweep) ? STEP_PAUSE_MS : LOCKED_PAUSE_MS;
	fp_spi_commit_transaction();
	MemoryContextSwitchTo(context);
	return is_sweeping ? pause : INT_MAX;
}

/*
 * What has ended since the last sweep began is younger than that.
 */
static bool
is_due(TimestampTz now)
{
	if (swept_at == 0 || swept_at > now ||
		swept_retention != fp_history_retention)
		return true;
	return now >= swept_at + SWEEP_PAUSE &&
		now >= Min(oldest_left, sweep.began_at) +
		fp_history_retention * USECS_PER_MINUTE;
}

static void
begin_sweep(TimestampTz now)
{
	sweep.began_at = now;
	sweep.before = now - fp_history_retention * USECS_PER_MINUTE;
	sweep.last = 0;
	sweep.is_at_end = false;
	sweep.oldest = DT_NOEND;
	is_sweeping = true;
	swept_retention = fp_history_retention;
}

static void
end_sweep(TimestampTz now)
{
	is_sweeping = false;
	swept_at = now;
	oldest_left = sweep.oldest;
}

/*
 * A run's parts go before it does, so that a step which leaves some of them
 * finds it again.
 */
static void
step(void *arg)
{
	Sweep	   *self = arg;
	FpHistoryWindow window;

	if (self->is_at_end)
	{
		if (fp_history_store_forget_rest(self->before, STEP_ROWS,
										 &self->oldest))
			end_sweep(fp_clock_real());
		return;
	}

	fp_history_store_look(self->last, STEP_RUNS, STEP_OLD_RUNS, self->before,
						  &window);
	if (window.nold > 0)
	{
		if (!fp_history_store_forget_parts(&window, STEP_ROWS))
			return;
		fp_history_store_forget_runs(&window);
	}
	if (window.last == 0)
		self->is_at_end = true;
	else
		self->last = window.last;
	self->oldest = Min(self->oldest, window.oldest);
}
