/*-------------------------------------------------------------------------
 *
 * graph.c
 *	  Directed graphs of tasks (or of DAGs): cycles, order, what follows.
 *
 * Pure: no tables, no shared memory, no clock.  Called when a definition is
 * checked, when a run's tasks are put in order, and when runs are cleared
 * with what follows them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "graph.h"

/* Which end of its edges a list of neighbours is kept by. */
typedef enum Direction
{
	DOWNSTREAM,
	UPSTREAM
} Direction;

/*
 * The neighbours of each task in one direction: those of task t are
 * task[first[t]] to task[first[t + 1] - 1], in the order of the edges.
 */
typedef struct Neighbours
{
	int		   *first;
	int		   *task;
} Neighbours;

static void neighbours_build(const FpGraph *graph, Direction direction,
							 Neighbours *neighbours);
static void neighbours_free(Neighbours *neighbours);
static int	sort_tasks(const FpGraph *graph, int *order, bool *is_sorted);
static int	walk_into_cycle(const FpGraph *graph, const bool *is_sorted,
							int *next);
static void reach(const FpGraph *graph, Direction direction,
				  const bool *seed, bool *reached);

/*
 * Is there a cycle?  If so, *cycle becomes its tasks in the direction of the
 * edges, each once and the one with the lowest number first, palloc'd in the
 * current context; the last one's edge leads back to the first.  A task with
 * an edge to itself is a cycle of one.
 */
bool
fp_graph_find_cycle(const FpGraph *graph, int **cycle, int *length)
{
	int		   *order = palloc(sizeof(int) * (graph->ntasks + 1));
	bool	   *is_sorted = palloc0(sizeof(bool) * (graph->ntasks + 1));
	bool		found = sort_tasks(graph, order, is_sorted) < graph->ntasks;

	if (found)
	{
		int		   *next = palloc(sizeof(int) * graph->ntasks);
		int			on_cycle = walk_into_cycle(graph, is_sorted, next);
		int			first = on_cycle;
		int			task;

		*length = 0;
		task = on_cycle;
		do
		{
			first = Min(first, task);
			(*length)++;
			task = next[task];
		} while (task != on_cycle);

		*cycle = palloc(sizeof(int) * *length);
		task = first;
		for (int i = 0; i < *length; i++)
		{
			(*cycle)[i] = task;
			task = next[task];
		}
		pfree(next);
	}
	pfree(is_sorted);
	pfree(order);
	return found;
}

/*
 * Fill order, which has room for ntasks numbers, with all tasks, each after
 * everything upstream of it.  The result is always the same for the same
 * graph.  False: there is a cycle, and order is of no use.
 */
bool
fp_graph_topological_order(const FpGraph *graph, int *order)
{
	bool	   *is_sorted = palloc0(sizeof(bool) * (graph->ntasks + 1));
	int			nsorted = sort_tasks(graph, order, is_sorted);

	pfree(is_sorted);
	return nsorted == graph->ntasks;
}

/*
 * Set reached[t] for every task t that is a seed or lies downstream of one,
 * directly or not, and clear it for all others.  Both arrays have ntasks
 * elements.  The graph may have cycles.
 */
void
fp_graph_downstream_set(const FpGraph *graph, const bool *seed, bool *reached)
{
	reach(graph, DOWNSTREAM, seed, reached);
}

/* The same for tasks that lie upstream of a seed. */
void
fp_graph_upstream_set(const FpGraph *graph, const bool *seed, bool *reached)
{
	reach(graph, UPSTREAM, seed, reached);
}

/* Sort the edges by the task that they leave, in linear time. */
static void
neighbours_build(const FpGraph *graph, Direction direction,
				 Neighbours *neighbours)
{
	const int  *near = (direction == DOWNSTREAM) ? graph->edge_from :
		graph->edge_to;
	const int  *far = (direction == DOWNSTREAM) ? graph->edge_to :
		graph->edge_from;
	int		   *fill;

	neighbours->first = palloc0(sizeof(int) * (graph->ntasks + 1));
	neighbours->task = palloc(sizeof(int) * (graph->nedges + 1));

	for (int i = 0; i < graph->nedges; i++)
	{
		Assert(near[i] >= 0 && near[i] < graph->ntasks);
		Assert(far[i] >= 0 && far[i] < graph->ntasks);
		neighbours->first[near[i] + 1]++;
	}
	for (int t = 0; t < graph->ntasks; t++)
		neighbours->first[t + 1] += neighbours->first[t];

	fill = palloc(sizeof(int) * (graph->ntasks + 1));
	memcpy(fill, neighbours->first, sizeof(int) * (graph->ntasks + 1));
	for (int i = 0; i < graph->nedges; i++)
		neighbours->task[fill[near[i]]++] = far[i];
	pfree(fill);
}

static void
neighbours_free(Neighbours *neighbours)
{
	pfree(neighbours->first);
	pfree(neighbours->task);
}

/*
 * Put tasks into order as their upstream tasks are all in it, and mark them in
 * is_sorted, which comes in cleared.  Returns how many; those left out lie on
 * a cycle or downstream of one.
 */
static int
sort_tasks(const FpGraph *graph, int *order, bool *is_sorted)
{
	Neighbours	downstream;
	int		   *waits_for = palloc0(sizeof(int) * (graph->ntasks + 1));
	int			nsorted = 0;

	neighbours_build(graph, DOWNSTREAM, &downstream);
	for (int i = 0; i < graph->nedges; i++)
		waits_for[graph->edge_to[i]]++;
	for (int t = 0; t < graph->ntasks; t++)
	{
		if (waits_for[t] == 0)
			order[nsorted++] = t;
	}

	/* order is the queue too: what is behind "done" is still to be followed */
	for (int done = 0; done < nsorted; done++)
	{
		int			task = order[done];

		is_sorted[task] = true;
		for (int i = downstream.first[task]; i < downstream.first[task + 1]; i++)
		{
			if (--waits_for[downstream.task[i]] == 0)
				order[nsorted++] = downstream.task[i];
		}
	}
	neighbours_free(&downstream);
	pfree(waits_for);
	return nsorted;
}

/*
 * Find a task on a cycle, and set next[] for the tasks of that cycle to the
 * one that follows.
 *
 * Each task that could not be sorted has an upstream task that could not be
 * sorted either.  So a walk upstream among these never ends and comes to a
 * task for the second time, which is then on a cycle.
 */
static int
walk_into_cycle(const FpGraph *graph, const bool *is_sorted, int *next)
{
	Neighbours	upstream;
	bool	   *is_visited = palloc0(sizeof(bool) * graph->ntasks);
	int			task = 0;

	neighbours_build(graph, UPSTREAM, &upstream);
	while (is_sorted[task])
		task++;
	while (!is_visited[task])
	{
		int			i = upstream.first[task];

		is_visited[task] = true;
		while (is_sorted[upstream.task[i]])
			i++;
		next[upstream.task[i]] = task;
		task = upstream.task[i];
	}
	neighbours_free(&upstream);
	pfree(is_visited);
	return task;
}

/* Breadth-first from all seeds at once. */
static void
reach(const FpGraph *graph, Direction direction, const bool *seed,
	  bool *reached)
{
	Neighbours	neighbours;
	int		   *queue = palloc(sizeof(int) * (graph->ntasks + 1));
	int			nqueued = 0;

	neighbours_build(graph, direction, &neighbours);
	for (int t = 0; t < graph->ntasks; t++)
	{
		reached[t] = seed[t];
		if (seed[t])
			queue[nqueued++] = t;
	}
	for (int done = 0; done < nqueued; done++)
	{
		int			task = queue[done];

		for (int i = neighbours.first[task]; i < neighbours.first[task + 1]; i++)
		{
			int			next = neighbours.task[i];

			if (!reached[next])
			{
				reached[next] = true;
				queue[nqueued++] = next;
			}
		}
	}
	neighbours_free(&neighbours);
	pfree(queue);
}
