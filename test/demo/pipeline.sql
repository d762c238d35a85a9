-- What dags.sql has defined.

SELECT d.dag_id, coalesce(d.schedule, 'after ' || m.asis_dag) AS schedule,
    d.timezone, string_agg(format('%s (%s)', t.task_id, t.operator), ', ') AS tasks
FROM flow.dag d
    JOIN flow.task t USING (dag_id)
    LEFT JOIN flow.dependency_manager m ON m.tobe_dag = d.dag_id
GROUP BY d.dag_id, d.schedule, d.timezone, m.asis_dag
ORDER BY d.dag_id;
