/*-------------------------------------------------------------------------
 *
 * graph.h
 *	  Directed graphs of tasks (or of DAGs): cycles, order, what follows.
 *
 * Pure, floor 1.  Every function takes time and memory in proportion to tasks
 * plus edges and does not recurse, so chains of any length are fine.  Scratch
 * memory comes from the current context and is given back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_GRAPH_H
#define FLOWPG_GRAPH_H

/*
 * Tasks are the numbers from 0 to ntasks - 1.  Edge i leads from the upstream
 * task edge_from[i] to the downstream task edge_to[i]; an edge may be given
 * more than once.  The arrays stay the caller's.
 */
typedef struct FpGraph
{
	int			ntasks;
	int			nedges;
	int		   *edge_from;
	int		   *edge_to;
} FpGraph;

extern bool fp_graph_find_cycle(const FpGraph *graph, int **cycle,
								int *length);
extern bool fp_graph_topological_order(const FpGraph *graph, int *order);
extern void fp_graph_downstream_set(const FpGraph *graph, const bool *seed,
									bool *reached);
extern void fp_graph_upstream_set(const FpGraph *graph, const bool *seed,
								  bool *reached);

#endif							/* FLOWPG_GRAPH_H */
