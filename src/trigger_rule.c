/*-------------------------------------------------------------------------
 *
 * trigger_rule.c
 *	  From the states of a task's upstream tasks to what becomes of the task.
 *
 * Pure: no tables, no shared memory, no clock.  Called for a task each time
 * one of its upstream tasks ends.
 *
 * Once all upstream tasks have ended, the decision is Airflow's.  It never
 * depends on how many tasks ended in a state, only on whether any did.  Before
 * that, a task is decided as soon as every way in which the rest can end
 * leads to the same decision, and waits until then, so the outcome does not
 * depend on the order in which tasks end.  As only the states that occur
 * matter, trying each set of states for the rest is trying every way: at most
 * 15 sets, however many tasks there are.
 *
 * all_done is the one rule that always decides for the same thing and still
 * has something to wait for: that all are done.  always does not wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "trigger_rule.h"

/* The ways in which an upstream task can end, as a bit map of those seen. */
#define SEEN_SUCCESS			0x01
#define SEEN_SKIPPED			0x02
#define SEEN_FAILED				0x04
#define SEEN_UPSTREAM_FAILED	0x08
#define NUM_SEEN_SETS			0x10

static const char *const rule_names[] = {
	[FP_TRIGGER_RULE_ALL_SUCCESS] = "all_success",
	[FP_TRIGGER_RULE_ALL_FAILED] = "all_failed",
	[FP_TRIGGER_RULE_ALL_DONE] = "all_done",
	[FP_TRIGGER_RULE_ONE_SUCCESS] = "one_success",
	[FP_TRIGGER_RULE_ONE_FAILED] = "one_failed",
	[FP_TRIGGER_RULE_ONE_DONE] = "one_done",
	[FP_TRIGGER_RULE_NONE_FAILED] = "none_failed",
	[FP_TRIGGER_RULE_NONE_FAILED_MIN_ONE_SUCCESS] = "none_failed_min_one_success",
	[FP_TRIGGER_RULE_NONE_SKIPPED] = "none_skipped",
	[FP_TRIGGER_RULE_ALL_SKIPPED] = "all_skipped",
	[FP_TRIGGER_RULE_ALL_DONE_MIN_ONE_SUCCESS] = "all_done_min_one_success",
	[FP_TRIGGER_RULE_ALWAYS] = "always",
};

static FpTriggerDecision decide_finished(FpTriggerRule rule, int seen);

/* The rule of this name; an error that lists all rules if there is none. */
FpTriggerRule
fp_trigger_rule_parse(const char *name)
{
	for (int i = 0; i < lengthof(rule_names); i++)
	{
		if (strcmp(name, rule_names[i]) == 0)
			return (FpTriggerRule) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid trigger_rule \"%s\"", name),
			 errhint("The rules are all_success, all_failed, all_done, one_success, one_failed, one_done, none_failed, none_failed_min_one_success, none_skipped, all_skipped, all_done_min_one_success and always.")));
	return FP_TRIGGER_RULE_ALL_SUCCESS; /* keep compiler quiet */
}

/* The name of a rule, a constant. */
const char *
fp_trigger_rule_name(FpTriggerRule rule)
{
	return rule_names[rule];
}

/*
 * What becomes of a task with this rule.  A removed upstream task counts as
 * if it had never been; a task with no upstream task left runs.
 */
FpTriggerDecision
fp_trigger_rule_decide(FpTriggerRule rule, const FpUpstreamCounts *counts)
{
	FpTriggerDecision decision = FP_TRIGGER_WAIT;
	int			unfinished = counts->total - counts->removed -
		counts->success - counts->skipped - counts->failed -
		counts->upstream_failed;
	int			seen = (counts->success > 0 ? SEEN_SUCCESS : 0) |
		(counts->skipped > 0 ? SEEN_SKIPPED : 0) |
		(counts->failed > 0 ? SEEN_FAILED : 0) |
		(counts->upstream_failed > 0 ? SEEN_UPSTREAM_FAILED : 0);

	if (unfinished <= 0)
		return decide_finished(rule, seen);
	if (rule == FP_TRIGGER_RULE_ALL_DONE)
		return FP_TRIGGER_WAIT;

	/* A set of states for the rest; each state takes at least one task. */
	for (int rest = 1; rest < NUM_SEEN_SETS; rest++)
	{
		FpTriggerDecision ending;

		if (pg_popcount32(rest) > unfinished)
			continue;
		ending = decide_finished(rule, seen | rest);
		if (decision != FP_TRIGGER_WAIT && ending != decision)
			return FP_TRIGGER_WAIT;
		decision = ending;
	}
	return decision;
}

/* The decision when all upstream tasks have ended, in the states seen. */
static FpTriggerDecision
decide_finished(FpTriggerRule rule, int seen)
{
	bool		success = (seen & SEEN_SUCCESS) != 0;
	bool		skipped = (seen & SEEN_SKIPPED) != 0;
	bool		failed = (seen & SEEN_FAILED) != 0;
	bool		any_failed = (seen & (SEEN_FAILED | SEEN_UPSTREAM_FAILED)) != 0;

	if (seen == 0)
		return FP_TRIGGER_RUN;

	switch (rule)
	{
		case FP_TRIGGER_RULE_ALL_SUCCESS:
			if (any_failed)
				return FP_TRIGGER_UPSTREAM_FAILED;
			return skipped ? FP_TRIGGER_SKIP : FP_TRIGGER_RUN;

		case FP_TRIGGER_RULE_ALL_FAILED:
			return (success || skipped) ? FP_TRIGGER_SKIP : FP_TRIGGER_RUN;

		case FP_TRIGGER_RULE_ONE_SUCCESS:
			if (success)
				return FP_TRIGGER_RUN;
			return any_failed ? FP_TRIGGER_UPSTREAM_FAILED : FP_TRIGGER_SKIP;

		case FP_TRIGGER_RULE_ONE_FAILED:
			return any_failed ? FP_TRIGGER_RUN : FP_TRIGGER_SKIP;

			/* "done" has begun: what its own upstream stopped was not done */
		case FP_TRIGGER_RULE_ONE_DONE:
			return (success || failed) ? FP_TRIGGER_RUN : FP_TRIGGER_SKIP;

		case FP_TRIGGER_RULE_NONE_FAILED:
			return any_failed ? FP_TRIGGER_UPSTREAM_FAILED : FP_TRIGGER_RUN;

		case FP_TRIGGER_RULE_NONE_FAILED_MIN_ONE_SUCCESS:
			if (any_failed)
				return FP_TRIGGER_UPSTREAM_FAILED;
			return success ? FP_TRIGGER_RUN : FP_TRIGGER_SKIP;

		case FP_TRIGGER_RULE_NONE_SKIPPED:
			return skipped ? FP_TRIGGER_SKIP : FP_TRIGGER_RUN;

		case FP_TRIGGER_RULE_ALL_SKIPPED:
			return (success || any_failed) ? FP_TRIGGER_SKIP : FP_TRIGGER_RUN;

		case FP_TRIGGER_RULE_ALL_DONE_MIN_ONE_SUCCESS:
			if (skipped)
				return FP_TRIGGER_SKIP;
			return success ? FP_TRIGGER_RUN : FP_TRIGGER_UPSTREAM_FAILED;

		case FP_TRIGGER_RULE_ALL_DONE:
		case FP_TRIGGER_RULE_ALWAYS:
			return FP_TRIGGER_RUN;
	}
	return FP_TRIGGER_WAIT;		/* keep compiler quiet */
}
