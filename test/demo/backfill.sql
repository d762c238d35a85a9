-- January 2013, a run a day.  The DAGs that depend on the first one follow, day
-- by day, and belong to the backfill: waiting for it waits for them all.

SELECT flow_backfill('legacy_to_lv0_flights', '2013-01-01', '2013-01-31')
    AS backfill_id \gset

CALL flow_wait_backfill(:backfill_id, '5 minutes');

SELECT dag_id, total, success, failed, b.ended_at - b.created_at AS took
FROM flow.backfill_status JOIN flow.backfill b USING (backfill_id, dag_id)
WHERE backfill_id = :backfill_id;
