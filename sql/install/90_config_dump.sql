-- ---------------------------------------------------------------------
-- What pg_dump takes along: definitions, history, positions, requests not yet
-- done, sequences.
--
-- Not flow.instance: a restored copy is at home nowhere until flow_adopt.
-- Foreign keys make pg_dump load dag before what refers to it.
-- ---------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump('flow.dag', '');
-- The built-in row is there already, unless it was changed.
SELECT pg_catalog.pg_extension_config_dump('flow.pool',
    'WHERE pool OPERATOR(pg_catalog.<>) ''default'' OR slots OPERATOR(pg_catalog.<>) 128 OR description IS DISTINCT FROM ''tasks that name no pool''');
SELECT pg_catalog.pg_extension_config_dump('flow.task', '');
SELECT pg_catalog.pg_extension_config_dump('flow.task_dependency', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dropped_dag', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_version', '');
SELECT pg_catalog.pg_extension_config_dump('flow.task_version', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dependency_manager', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_log', '');
SELECT pg_catalog.pg_extension_config_dump('flow.coverage', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_run', '');
SELECT pg_catalog.pg_extension_config_dump('flow.task_run', '');
SELECT pg_catalog.pg_extension_config_dump('flow.attempt_history', '');
SELECT pg_catalog.pg_extension_config_dump('flow.bad_row', '');
SELECT pg_catalog.pg_extension_config_dump('flow.callback', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_progress', '');
SELECT pg_catalog.pg_extension_config_dump('flow.backfill', '');
SELECT pg_catalog.pg_extension_config_dump('flow.backfill_run', '');
SELECT pg_catalog.pg_extension_config_dump('flow.position', '');
SELECT pg_catalog.pg_extension_config_dump('flow.request', '');
SELECT pg_catalog.pg_extension_config_dump('flow.dag_run_run_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.backfill_backfill_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.callback_callback_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.bad_row_bad_row_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flow.request_request_id_seq', '');
