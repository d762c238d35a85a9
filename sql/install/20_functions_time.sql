-- Functions about time, graphs and trigger rules; they read no table.  C
-- functions resolve no names through the search_path, so none is set.

CREATE FUNCTION @extschema@.flow_next_runs(schedule text, timezone text,
    after timestamptz, n integer DEFAULT 10)
RETURNS TABLE (data_interval_start timestamptz, data_interval_end timestamptz)
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_next_runs';
COMMENT ON FUNCTION @extschema@.flow_next_runs(text, text, timestamptz, integer)
IS 'the first n data intervals of a schedule that start later than a moment';

-- STABLE, not IMMUTABLE: the result depends on the server's time zone data and
-- on flowpg.timezone.

CREATE FUNCTION flow.cron_next(schedule text, timezone text,
    after timestamptz) RETURNS timestamptz
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_cron_next';
COMMENT ON FUNCTION flow.cron_next(text, text, timestamptz)
IS 'the first fire time of a cron expression later than a moment';

CREATE FUNCTION flow.cron_previous(schedule text, timezone text,
    at timestamptz) RETURNS timestamptz
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_cron_previous';
COMMENT ON FUNCTION flow.cron_previous(text, text, timestamptz)
IS 'the last fire time of a cron expression at a moment or before it';

CREATE FUNCTION flow.schedule_interval(schedule text, timezone text,
    start_date timestamptz, at timestamptz, which text,
    OUT data_interval_start timestamptz, OUT data_interval_end timestamptz)
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_schedule_interval';
COMMENT ON FUNCTION flow.schedule_interval(text, text, timestamptz, timestamptz, text)
IS 'one data interval of a schedule: at_or_after, after, containing or latest_complete';

CREATE FUNCTION flow.schedule_next_run(schedule text, timezone text,
    start_date timestamptz, last_start timestamptz, last_end timestamptz,
    earliest timestamptz, latest timestamptz, catchup boolean,
    now timestamptz,
    OUT data_interval_start timestamptz, OUT data_interval_end timestamptz)
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_schedule_next_run';
COMMENT ON FUNCTION flow.schedule_next_run(text, text, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz, boolean, timestamptz)
IS 'the data interval that the scheduler would make next after the last one';

CREATE FUNCTION flow.graph_cycle(ntasks integer, edge_from integer[],
    edge_to integer[]) RETURNS integer[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_graph_cycle';
COMMENT ON FUNCTION flow.graph_cycle(integer, integer[], integer[])
IS 'the tasks of a cycle, in order; null if the graph has none';

CREATE FUNCTION flow.graph_order(ntasks integer, edge_from integer[],
    edge_to integer[]) RETURNS integer[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_graph_order';
COMMENT ON FUNCTION flow.graph_order(integer, integer[], integer[])
IS 'all tasks, upstream before downstream; null if the graph has a cycle';

CREATE FUNCTION flow.graph_downstream(ntasks integer, edge_from integer[],
    edge_to integer[], tasks integer[]) RETURNS integer[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_graph_downstream';
COMMENT ON FUNCTION flow.graph_downstream(integer, integer[], integer[], integer[])
IS 'tasks and all that lie downstream of them';

CREATE FUNCTION flow.graph_upstream(ntasks integer, edge_from integer[],
    edge_to integer[], tasks integer[]) RETURNS integer[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_graph_upstream';
COMMENT ON FUNCTION flow.graph_upstream(integer, integer[], integer[], integer[])
IS 'tasks and all that lie upstream of them';

CREATE FUNCTION flow.trigger_rule_decide(trigger_rule text, total integer,
    success integer DEFAULT 0, skipped integer DEFAULT 0,
    failed integer DEFAULT 0, upstream_failed integer DEFAULT 0,
    removed integer DEFAULT 0) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'flow_trigger_rule_decide';
COMMENT ON FUNCTION flow.trigger_rule_decide(text, integer, integer, integer, integer, integer, integer)
IS 'what becomes of a task, given how many of its upstream tasks ended in which state';
