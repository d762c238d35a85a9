/*-------------------------------------------------------------------------
 *
 * spi_commit.h
 *	  Transaction control of procedures that are written in C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_SPI_COMMIT_H
#define FLOWPG_SPI_COMMIT_H

/*
 * Commits the transaction in which a procedure was called, as its COMMIT
 * would, and begins the next.  Only where the call's context is not atomic
 * (CallContext), and outside an owner scope.  No snapshot is active
 * afterwards; the current memory context is the same.
 */
extern void fp_spi_commit_procedure(void);

#endif							/* FLOWPG_SPI_COMMIT_H */
