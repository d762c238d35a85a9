\echo 'Rows by level'
SELECT 'legacy' AS level, count(*) AS rows FROM legacy.flights
UNION ALL SELECT 'lv0', count(*) FROM lv0.flights
UNION ALL SELECT 'lv1', count(*) FROM lv1.flight
UNION ALL SELECT 'lv2', count(*) FROM lv2.carrier_day
UNION ALL SELECT 'report', count(*) FROM report.carrier_day;

\echo 'The most punctual airlines of 31 January, as published (report.carrier_day)'
SELECT *
FROM report.carrier_day
WHERE flight_date = '2013-01-31'
ORDER BY place
LIMIT 5;

\echo 'Which DAG has succeeded for which days: the last two of each (flow.dag_log)'
SELECT dag_id, completion_date, completion_datetime
FROM (
    SELECT *, row_number() OVER (PARTITION BY dag_id ORDER BY completion_date DESC)
    FROM flow.dag_log
) l
WHERE row_number <= 2
ORDER BY dag_id, completion_date;

\echo 'The runs (flow.run_status)'
SELECT dag_id, run_type, state, count(*) AS runs, sum(tasks_done) AS tasks,
    min(logical_date)::date AS first_day, max(logical_date)::date AS last_day,
    date_trunc('milliseconds', avg(duration)) AS mean_duration
FROM flow.run_status
GROUP BY dag_id, run_type, state
ORDER BY dag_id, run_type, state;

\echo 'One run''s tasks (flow.task_status)'
SELECT dag_id, task_id, state, try_number, rows_written, pages
FROM flow.task_status
WHERE logical_date = '2013-01-31'
ORDER BY started_at;
