/*-------------------------------------------------------------------------
 *
 * notify.h
 *	  NOTIFY: whoever listens is told of what has ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_NOTIFY_H
#define FLOWPG_NOTIFY_H

#include "model.h"

/* what the cycle's commit makes true; the text is copied */
extern void fp_notify_add(FpModel *model, const char *payload);

/* after that commit, outside a transaction; raises no error */
extern void fp_notify_send(FpModel *model);

#endif							/* FLOWPG_NOTIFY_H */
