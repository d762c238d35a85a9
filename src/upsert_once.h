/*-------------------------------------------------------------------------
 *
 * upsert_once.h
 *	  An upsert as one page, in the caller's transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UPSERT_ONCE_H
#define FLOWPG_UPSERT_ONCE_H

#include "upsert.h"

/*
 * Writes what fp_upsert_run would, as the current user and with the current
 * settings, in one statement.  Returns false where the source has no row.
 * Positions are neither read nor kept.
 */
extern bool fp_upsert_once(const FpUpsertDef *def, const FpRunContext *run,
						   int64 *rows_written);

#endif							/* FLOWPG_UPSERT_ONCE_H */
