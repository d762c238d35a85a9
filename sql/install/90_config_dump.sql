-- ---------------------------------------------------------------------
-- What pg_dump takes along: definitions, history, positions, requests not yet
-- done, sequences.
--
-- Not flow.instance: a restored copy is at home nowhere until flow_adopt.
-- Foreign keys make pg_dump load dag before what refers to it.
--
-- A regrole is dumped as the role's name; but that of a role which has been
-- dropped as a number, which another server may have given to another role.
-- Where rights depend on it, the dump has 1 then, which is never a role's: what
-- is no WHERE but a join gives the column that pg_dump selects.
-- ---------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump('flow.dag',
    'AS d (dag_id, owner_here) CROSS JOIN LATERAL (SELECT coalesce((SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) d.owner_here), 1)::pg_catalog.regrole AS owner) AS o');
-- The built-in row is there already, unless it was changed.
SELECT pg_catalog.pg_extension_config_dump('flow.pool',
    'WHERE pool OPERATOR(pg_catalog.<>) ''default'' OR slots OPERATOR(pg_catalog.<>) 128 OR description IS DISTINCT FROM ''tasks that name no pool''');
SELECT pg_catalog.pg_extension_config_dump('flow.task', '');
SELECT pg_catalog.pg_extension_config_dump('flow.task_dependency', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dropped_dag',
    'AS d (dag_id, owner_here) CROSS JOIN LATERAL (SELECT coalesce((SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) d.owner_here), 1)::pg_catalog.regrole AS owner) AS o');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_version', '');
SELECT pg_catalog.pg_extension_config_dump('flow.task_version', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dependency_manager', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_log',
    'AS l (dag_id, completion_date, completion_datetime, run_id, logged_here) LEFT JOIN LATERAL (SELECT coalesce((SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) l.logged_here), 1)::pg_catalog.regrole AS logged_by WHERE l.logged_here IS NOT NULL) AS o ON true');
SELECT pg_catalog.pg_extension_config_dump('flow.coverage', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_run', '');
SELECT pg_catalog.pg_extension_config_dump('flow.task_run', '');
SELECT pg_catalog.pg_extension_config_dump('flow.attempt_history', '');
SELECT pg_catalog.pg_extension_config_dump('flow.bad_row', '');
SELECT pg_catalog.pg_extension_config_dump('flow.callback', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_progress', '');
SELECT pg_catalog.pg_extension_config_dump('flow.set_off', '');
SELECT pg_catalog.pg_extension_config_dump('flow.backfill', '');
SELECT pg_catalog.pg_extension_config_dump('flow.backfill_run', '');
SELECT pg_catalog.pg_extension_config_dump('flow.position', '');
SELECT pg_catalog.pg_extension_config_dump('flow.request', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_run_run_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.backfill_backfill_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.callback_callback_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.bad_row_bad_row_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.request_request_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.set_off_set_off_id_seq', '');
