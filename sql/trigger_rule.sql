-- Trigger rules: from the states of upstream tasks to a decision.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS flowpg;
\set VERBOSITY terse
\getenv abs_srcdir PG_ABS_SRCDIR

-- Vectors.  Rows that come out differently are shown; there should be none.
CREATE TEMP TABLE vector (rule text, upstream_total integer, success integer,
    skipped integer, failed integer, upstream_failed integer,
    not_finished integer, decision text);
\set file :abs_srcdir '/test/vectors/trigger_rule_matrix.csv'
COPY vector FROM :'file' (FORMAT csv, HEADER);
SELECT rule, count(*) FROM vector GROUP BY rule ORDER BY rule COLLATE "C";
SELECT v.*, flow.trigger_rule_decide(rule, upstream_total, success, skipped,
    failed, upstream_failed) AS decided
FROM vector AS v
WHERE flow.trigger_rule_decide(rule, upstream_total, success, skipped, failed,
    upstream_failed) IS DISTINCT FROM decision
ORDER BY rule COLLATE "C", upstream_total, success, skipped, failed;

-- What is decided while tasks are unfinished is what would be decided however
-- they end; where they wait, endings differ.  all_done alone waits for
-- nothing but the end, always for nothing at all.
CREATE TEMP TABLE finished AS SELECT * FROM vector WHERE not_finished = 0;
SELECT count(*) AS wrong FROM (
    SELECT u.rule, flow.trigger_rule_decide(u.rule, u.upstream_total, u.success,
            u.skipped, u.failed, u.upstream_failed) AS decided,
        array_agg(DISTINCT f.decision) AS endings
    FROM vector AS u JOIN finished AS f USING (rule, upstream_total)
    WHERE u.not_finished > 0 AND f.success >= u.success
        AND f.skipped >= u.skipped AND f.failed >= u.failed
        AND f.upstream_failed >= u.upstream_failed
    GROUP BY u.rule, u.upstream_total, u.success, u.skipped, u.failed, u.upstream_failed
) AS v
WHERE decided <> CASE WHEN cardinality(endings) > 1 THEN 'wait' ELSE endings[1] END;
SELECT flow.trigger_rule_decide('all_done', 3, 2) AS all_done,
    flow.trigger_rule_decide('all_done', 3, 2, 0, 1) AS all_are_done,
    flow.trigger_rule_decide('always', 3) AS always;

-- thousands of upstream tasks
SELECT rule, flow.trigger_rule_decide(rule, 100000, 50000, 0, 0, 0) AS half_done,
    flow.trigger_rule_decide(rule, 100000, 99998, 1, 1, 0) AS all_done
FROM (SELECT DISTINCT rule FROM vector) AS r ORDER BY rule COLLATE "C";

-- no upstream tasks, or only removed ones: nothing to wait for
SELECT rule, flow.trigger_rule_decide(rule, 0) AS none,
    flow.trigger_rule_decide(rule, 2, removed => 2) AS removed,
    flow.trigger_rule_decide(rule, 3, success => 1, removed => 2) AS success,
    flow.trigger_rule_decide(rule, 3, skipped => 1, removed => 1) AS waits
FROM (SELECT DISTINCT rule FROM vector) AS r ORDER BY rule COLLATE "C";

\set VERBOSITY default
SELECT flow.trigger_rule_decide('all_sucess', 1);
\set VERBOSITY terse
SELECT flow.trigger_rule_decide('ALL_DONE', 1);
