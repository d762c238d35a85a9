/*-------------------------------------------------------------------------
 *
 * cycle.h
 *	  A cycle among named things, as text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_CYCLE_H
#define FLOWPG_CYCLE_H

#include "nodes/pg_list.h"

/*
 * from and to are Lists of char * of the same length: edge n leads from the
 * nth name of the one to the nth of the other.  Returns NULL where there is no
 * cycle, else one as text: a -> b -> a.  It begins with first where first is
 * on it.  Palloc'd in the current memory context.
 */
extern char *fp_cycle_find(List *from, List *to, const char *first);

#endif							/* FLOWPG_CYCLE_H */
