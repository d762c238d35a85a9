-- Graphs of tasks: cycles, order, what lies upstream and downstream.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS flowpg;
\set VERBOSITY terse

-- no tasks; tasks without edges
SELECT flow.graph_cycle(0, '{}', '{}'), flow.graph_order(0, '{}', '{}'),
    flow.graph_order(3, '{}', '{}');

-- a diamond, 0 -> 1, 2 -> 3, with its edges out of order and one given twice
SELECT flow.graph_cycle(4, '{2,1,0,0,0}', '{3,3,2,1,1}') AS cycle,
    flow.graph_order(4, '{2,1,0,0,0}', '{3,3,2,1,1}') AS order;
-- the same with its tasks numbered backwards
SELECT flow.graph_order(4, '{3,3,2,1}', '{2,1,0,0}');

-- cycles, named in the direction of the edges from the lowest number on
SELECT flow.graph_cycle(1, '{0}', '{0}') AS itself,
    flow.graph_cycle(2, '{0,1}', '{1,0}') AS two,
    flow.graph_cycle(5, '{4,2,3,0}', '{2,3,4,2}') AS with_a_way_in,
    flow.graph_cycle(5, '{3,1,2,3}', '{1,2,3,4}') AS with_a_way_out,
    flow.graph_order(5, '{3,1,2,3}', '{1,2,3,4}') IS NULL AS no_order;
-- the way out of a cycle is not part of it, wherever the search begins
SELECT flow.graph_cycle(6, '{4,5,4,3,2,1}', '{5,4,3,2,1,0}');
-- two cycles: one is named
SELECT flow.graph_cycle(4, '{0,1,2,3}', '{1,0,3,2}');

-- what follows, and what comes before; tasks themselves included
SELECT flow.graph_downstream(6, '{0,0,1,2,4}', '{1,2,3,3,5}', '{1}') AS of_1,
    flow.graph_downstream(6, '{0,0,1,2,4}', '{1,2,3,3,5}', '{0}') AS of_0,
    flow.graph_downstream(6, '{0,0,1,2,4}', '{1,2,3,3,5}', '{2,4}') AS of_both,
    flow.graph_downstream(6, '{0,0,1,2,4}', '{1,2,3,3,5}', '{}') AS of_none;
SELECT flow.graph_upstream(6, '{0,0,1,2,4}', '{1,2,3,3,5}', '{3}') AS of_3,
    flow.graph_upstream(6, '{0,0,1,2,4}', '{1,2,3,3,5}', '{1,5}') AS of_both;
-- cycles do no harm
SELECT flow.graph_downstream(3, '{0,1,2}', '{1,2,0}', '{1}');

-- a chain of 50,000 tasks
CREATE TEMP TABLE chain AS
    SELECT array_agg(i ORDER BY i) AS edge_from, array_agg(i + 1 ORDER BY i) AS edge_to
    FROM generate_series(0, 49998) AS i;
SELECT flow.graph_cycle(50000, edge_from, edge_to) IS NULL AS no_cycle,
    flow.graph_order(50000, edge_from, edge_to) =
        (SELECT array_agg(i ORDER BY i) FROM generate_series(0, 49999) AS i) AS in_order,
    flow.graph_order(50000, edge_to, edge_from) =
        (SELECT array_agg(i ORDER BY i DESC) FROM generate_series(0, 49999) AS i) AS reversed,
    cardinality(flow.graph_downstream(50000, edge_from, edge_to, '{25000}')) AS downstream,
    cardinality(flow.graph_upstream(50000, edge_from, edge_to, '{25000}')) AS upstream,
    cardinality(flow.graph_cycle(50000, edge_from || 49999, edge_to || 0)) AS closed
FROM chain;

-- every order respects every edge
SELECT count(*) AS graphs, count(*) FILTER (WHERE bad > 0) AS wrong
FROM (SELECT g, (SELECT count(*) FROM unnest(f, t) AS e(a, b)
                 WHERE array_position(flow.graph_order(30, f, t), a) >=
                     array_position(flow.graph_order(30, f, t), b)) AS bad
      FROM (SELECT g, array_agg((i * 7 + g) % 30) FILTER (WHERE ok) AS f,
                array_agg((j * 7 + g) % 30) FILTER (WHERE ok) AS t
            FROM generate_series(1, 20) AS g, generate_series(0, 29) AS i,
                generate_series(0, 29) AS j,
                LATERAL (SELECT i < j AND (i * 31 + j * 17 + g * 13) % 11 = 0 AS ok) AS c
            GROUP BY g) AS graph) AS result;

-- arguments
SELECT flow.graph_cycle(-1, '{}', '{}');
SELECT flow.graph_cycle(2, '{0}', '{0,1}');
SELECT flow.graph_cycle(2, '{0}', '{2}');
SELECT flow.graph_cycle(2, '{NULL}', '{1}');
SELECT flow.graph_downstream(2, '{0}', '{1}', '{-1}');
