/*-------------------------------------------------------------------------
 *
 * process.h
 *	  Background processes: registering them, their signals, their waits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_PROCESS_H
#define FLOWPG_PROCESS_H

#include "postmaster/bgworker.h"

/* _PG_init: the one launcher of the server */
extern void fp_process_register_launcher(void);

/*
 * Start a scheduler for a database slot (the launcher), or a worker for a
 * worker slot (a scheduler).  False: no background worker slot is free.  The
 * caller is signalled (its latch is set) when the process starts and ends.
 * fp_process_start_worker also gives the handle.
 */
extern bool fp_process_start_scheduler(int slot, uint32 generation,
									   Oid database,
									   BackgroundWorkerHandle **handle);
extern bool fp_process_start_worker(int slot, uint32 generation,
									Oid database,
									BackgroundWorkerHandle **handle);

/* the generation that the starter gave to this process */
extern uint32 fp_process_generation(void);

/*
 * Waits until the process's latch is set, or for timeout_ms (-1: without
 * end); ends the process if the postmaster is gone; resets the latch and
 * checks for interrupts.
 */
extern void fp_process_wait(long timeout_ms);

/*
 * Asks all of flowpg's processes in a database to leave and keeps the
 * launcher out, and waits until they have left (5 s at most); then undo.
 */
extern void fp_process_hold_database(Oid database);
extern void fp_process_release_database(Oid database);

#endif							/* FLOWPG_PROCESS_H */
