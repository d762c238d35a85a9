/*-------------------------------------------------------------------------
 *
 * trigger_rule.h
 *	  From the states of a task's upstream tasks to what becomes of the task.
 *
 * Pure, floor 1.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_TRIGGER_RULE_H
#define FLOWPG_TRIGGER_RULE_H

typedef enum FpTriggerRule
{
	FP_TRIGGER_RULE_ALL_SUCCESS,
	FP_TRIGGER_RULE_ALL_FAILED,
	FP_TRIGGER_RULE_ALL_DONE,
	FP_TRIGGER_RULE_ONE_SUCCESS,
	FP_TRIGGER_RULE_ONE_FAILED,
	FP_TRIGGER_RULE_ONE_DONE,
	FP_TRIGGER_RULE_NONE_FAILED,
	FP_TRIGGER_RULE_NONE_FAILED_MIN_ONE_SUCCESS,
	FP_TRIGGER_RULE_NONE_SKIPPED,
	FP_TRIGGER_RULE_ALL_SKIPPED,
	FP_TRIGGER_RULE_ALL_DONE_MIN_ONE_SUCCESS,
	FP_TRIGGER_RULE_ALWAYS
} FpTriggerRule;

/*
 * How many direct upstream tasks there are, and how many have ended in which
 * way; the others are unfinished.  A cancelled task counts as failed.
 */
typedef struct FpUpstreamCounts
{
	int			total;
	int			success;
	int			skipped;
	int			failed;
	int			upstream_failed;
	int			removed;
} FpUpstreamCounts;

typedef enum FpTriggerDecision
{
	FP_TRIGGER_WAIT,
	FP_TRIGGER_RUN,
	FP_TRIGGER_SKIP,
	FP_TRIGGER_UPSTREAM_FAILED
} FpTriggerDecision;

extern FpTriggerRule fp_trigger_rule_parse(const char *name);
extern const char *fp_trigger_rule_name(FpTriggerRule rule);
extern FpTriggerDecision fp_trigger_rule_decide(FpTriggerRule rule,
												const FpUpstreamCounts *counts);

#endif							/* FLOWPG_TRIGGER_RULE_H */
