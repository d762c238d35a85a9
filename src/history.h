/*-------------------------------------------------------------------------
 *
 * history.h
 *	  Finished runs are forgotten when they are old.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_HISTORY_H
#define FLOWPG_HISTORY_H

/*
 * Forgets some of what is older than flowpg.history_retention, in a transaction
 * of its own, if anything may be.  Returns after how many milliseconds there is
 * more to do; INT_MAX: not before somebody else has something to do.
 */
extern long fp_history_tend(void);

#endif							/* FLOWPG_HISTORY_H */
