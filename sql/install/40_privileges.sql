-- ---------------------------------------------------------------------
-- Who may what.
--
-- Only superusers, and roles that flow_grant has let in, use flowpg.  Of
-- these, each sees the DAGs that it owns or whose owner it has the privileges
-- of, and what belongs to them.  The extension's owner and superusers are not
-- bound by row security.
--
-- Users write two tables with plain SQL, dependency_manager and dag_log.  The
-- triggers on them (20_functions_dag.sql) check what policies cannot, and give
-- better errors; the policies hold also where triggers are switched off.
-- ---------------------------------------------------------------------

REVOKE ALL ON SCHEMA flow FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA flow FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA flow FROM PUBLIC;

-- All routines of the extension; it puts them into two schemas, one of which
-- holds other people's too.
DO $$
DECLARE
    routine pg_catalog.regprocedure;
BEGIN
    FOR routine IN
        SELECT d.objid::pg_catalog.regprocedure
        FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
        WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND d.deptype OPERATOR(pg_catalog.=) 'e'
            AND e.extname OPERATOR(pg_catalog.=) 'flowpg'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', routine);
    END LOOP;
END
$$;

-- What belongs to one DAG is seen by those who see the DAG.  EXISTS lets the
-- planner choose between one look-up a row and a hash of all visible DAGs.

ALTER TABLE flow.dag ENABLE ROW LEVEL SECURITY;
CREATE POLICY dag_owner ON flow.dag FOR SELECT
    USING (pg_catalog.pg_has_role(owner, 'USAGE'));

ALTER TABLE flow.dropped_dag ENABLE ROW LEVEL SECURITY;
CREATE POLICY dropped_dag_owner ON flow.dropped_dag FOR SELECT
    USING (pg_catalog.pg_has_role(owner, 'USAGE'));

ALTER TABLE flow.task ENABLE ROW LEVEL SECURITY;
CREATE POLICY task_owner ON flow.task FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) task.dag_id));

ALTER TABLE flow.task_dependency ENABLE ROW LEVEL SECURITY;
CREATE POLICY task_dependency_owner ON flow.task_dependency FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) task_dependency.dag_id));

ALTER TABLE flow.dag_version ENABLE ROW LEVEL SECURITY;
CREATE POLICY dag_version_owner ON flow.dag_version FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) dag_version.dag_id));

ALTER TABLE flow.task_version ENABLE ROW LEVEL SECURITY;
CREATE POLICY task_version_owner ON flow.task_version FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) task_version.dag_id));

ALTER TABLE flow.coverage ENABLE ROW LEVEL SECURITY;
CREATE POLICY coverage_owner ON flow.coverage FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) coverage.dag_id));

ALTER TABLE flow.dag_run ENABLE ROW LEVEL SECURITY;
CREATE POLICY dag_run_owner ON flow.dag_run FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) dag_run.dag_id));

ALTER TABLE flow.task_run ENABLE ROW LEVEL SECURITY;
CREATE POLICY task_run_owner ON flow.task_run FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) task_run.dag_id));

ALTER TABLE flow.attempt_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY attempt_history_owner ON flow.attempt_history FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) attempt_history.dag_id));

ALTER TABLE flow.bad_row ENABLE ROW LEVEL SECURITY;
CREATE POLICY bad_row_owner ON flow.bad_row FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) bad_row.dag_id));

ALTER TABLE flow.callback ENABLE ROW LEVEL SECURITY;
CREATE POLICY callback_owner ON flow.callback FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag_run r
        WHERE r.run_id OPERATOR(pg_catalog.=) callback.run_id));

ALTER TABLE flow.dag_progress ENABLE ROW LEVEL SECURITY;
CREATE POLICY dag_progress_owner ON flow.dag_progress FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) dag_progress.dag_id));

ALTER TABLE flow.set_off ENABLE ROW LEVEL SECURITY;
CREATE POLICY set_off_owner ON flow.set_off FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) set_off.dag_id));

ALTER TABLE flow.position ENABLE ROW LEVEL SECURITY;
CREATE POLICY position_owner ON flow.position FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) position.dag_id));

ALTER TABLE flow.backfill ENABLE ROW LEVEL SECURITY;
CREATE POLICY backfill_owner ON flow.backfill FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) backfill.dag_id));

ALTER TABLE flow.backfill_run ENABLE ROW LEVEL SECURITY;
CREATE POLICY backfill_run_owner ON flow.backfill_run FOR SELECT
    USING (EXISTS (SELECT FROM flow.backfill b
        WHERE b.backfill_id OPERATOR(pg_catalog.=) backfill_run.backfill_id));

-- Requests are seen by those who made them.

ALTER TABLE flow.request ENABLE ROW LEVEL SECURITY;
CREATE POLICY request_requested_by ON flow.request FOR SELECT
    USING (pg_catalog.pg_has_role(requested_by, 'USAGE'));

-- A dependency is seen from both ends and written by the tobe DAG's owner.

ALTER TABLE flow.dependency_manager ENABLE ROW LEVEL SECURITY;
CREATE POLICY dependency_manager_seen ON flow.dependency_manager FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
            WHERE d.dag_id OPERATOR(pg_catalog.=) dependency_manager.tobe_dag)
        OR EXISTS (SELECT FROM flow.dag d
            WHERE d.dag_id OPERATOR(pg_catalog.=) dependency_manager.asis_dag));
CREATE POLICY dependency_manager_insert ON flow.dependency_manager FOR INSERT
    WITH CHECK (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) dependency_manager.tobe_dag));
CREATE POLICY dependency_manager_update ON flow.dependency_manager FOR UPDATE
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) dependency_manager.tobe_dag));
CREATE POLICY dependency_manager_delete ON flow.dependency_manager FOR DELETE
    USING (EXISTS (SELECT FROM flow.dag d
        WHERE d.dag_id OPERATOR(pg_catalog.=) dependency_manager.tobe_dag));

-- The log of a DAG is its owner's.  The log of an outside system is seen and
-- added to by all granted roles, and each row changed and deleted by its
-- writer: whose word counts for a DAG is decided by logged_by where it is read.

ALTER TABLE flow.dag_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY dag_log_seen ON flow.dag_log FOR SELECT
    USING (EXISTS (SELECT FROM flow.dag d
            WHERE d.dag_id OPERATOR(pg_catalog.=) dag_log.dag_id)
        OR pg_catalog.pg_has_role(logged_by, 'USAGE')
        OR (run_id IS NULL AND NOT flow.is_dag(dag_id)));
CREATE POLICY dag_log_insert ON flow.dag_log FOR INSERT
    WITH CHECK (run_id IS NULL
        AND pg_catalog.pg_has_role(logged_by, 'USAGE')
        AND (EXISTS (SELECT FROM flow.dag d
                WHERE d.dag_id OPERATOR(pg_catalog.=) dag_log.dag_id)
            OR NOT flow.is_dag(dag_id)));
CREATE POLICY dag_log_update ON flow.dag_log FOR UPDATE
    USING (EXISTS (SELECT FROM flow.dag d
            WHERE d.dag_id OPERATOR(pg_catalog.=) dag_log.dag_id)
        OR (run_id IS NULL AND pg_catalog.pg_has_role(logged_by, 'USAGE')
            AND NOT flow.is_dag(dag_id)))
    WITH CHECK (run_id IS NULL
        AND pg_catalog.pg_has_role(logged_by, 'USAGE')
        AND (EXISTS (SELECT FROM flow.dag d
                WHERE d.dag_id OPERATOR(pg_catalog.=) dag_log.dag_id)
            OR NOT flow.is_dag(dag_id)));
CREATE POLICY dag_log_delete ON flow.dag_log FOR DELETE
    USING (EXISTS (SELECT FROM flow.dag d
            WHERE d.dag_id OPERATOR(pg_catalog.=) dag_log.dag_id)
        OR (pg_catalog.pg_has_role(logged_by, 'USAGE')
            AND NOT flow.is_dag(dag_id)));

-- flow.pool and flow.instance belong to no DAG: whoever is granted sees them.
