/*-------------------------------------------------------------------------
 *
 * utility_hook.h
 *	  Commands on whole databases and on the extension, seen as they run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_UTILITY_HOOK_H
#define FLOWPG_UTILITY_HOOK_H

extern void fp_utility_install_hooks(void);

#endif							/* FLOWPG_UTILITY_HOOK_H */
