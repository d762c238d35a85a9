/*-------------------------------------------------------------------------
 *
 * help.h
 *	  Workers that help another one with its attempt.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_HELP_H
#define FLOWPG_HELP_H

#include "shmem.h"

/*
 * The worker that holds an attempt: up to n others may help with it from now
 * on, as workers of its lane become free or can be started.
 */
extern void fp_help_ask(int n);

/* nobody else joins; those who help go on until they find nothing to do */
extern void fp_help_end(void);

/*
 * The attempt has failed: those who help are cancelled.  Returns when they
 * have stopped, or after some seconds.  Raises no error.
 */
extern void fp_help_stop(void);

/*
 * Whether a process holds, or helps with, the attempt that the caller is at.
 */
extern bool fp_help_is_at_work(int pid);

/*
 * Workers.  fp_help_wanted: how many more a lane could use; the caller holds
 * the lock.  fp_help_take: the caller helps from now on with an attempt of its
 * lane, of which it gets a copy; *leader is the slot of the worker that holds
 * it.  fp_help_must_leave: asked to, or tasks wait for a worker; true: it no
 * longer helps.  fp_help_leave: likewise, of its own; that worker is woken.
 */
extern void fp_help_init(FpWorkerSlot *slot);
extern int	fp_help_wanted(int lane);
extern bool fp_help_take(FpAssignment *assignment, FpWorkerSlot **leader);
extern bool fp_help_must_leave(void);
extern void fp_help_retire(void);	/* leave soon; may be called at any time */
extern void fp_help_leave(void);

/* the worker ends; called before it gives its slot back */
extern void fp_help_detach(void);

#endif							/* FLOWPG_HELP_H */
