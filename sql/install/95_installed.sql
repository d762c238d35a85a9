-- Last of all: the launcher is told at commit, so that a scheduler starts.

CREATE FUNCTION flow.installed()
RETURNS void
AS 'MODULE_PATHNAME', 'flow_installed'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION flow.installed() IS 'called by CREATE EXTENSION: starts this database''s scheduler at commit';
REVOKE ALL ON FUNCTION flow.installed() FROM PUBLIC;

SELECT flow.installed();
