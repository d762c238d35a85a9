\echo Use "CREATE EXTENSION flowpg" to load this file. \quit

-- The schema is made here and not by the control file, so that one that a
-- user has planted makes CREATE EXTENSION fail.
CREATE SCHEMA flow;
COMMENT ON SCHEMA flow IS 'flowpg: definitions, runs and views of the pipelines of this database';

