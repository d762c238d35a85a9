/*-------------------------------------------------------------------------
 *
 * shim.h
 *	  Included before everything else where the pure files are compiled to be
 *	  fuzzed: what they palloc comes from malloc.
 *
 * A chunk of a memory context has no bounds that AddressSanitizer knows of;
 * one of malloc has.  What is not freed by the code is freed after each input.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_FUZZ_SHIM_H
#define FLOWPG_FUZZ_SHIM_H

#include "postgres.h"

extern void *fuzz_alloc(size_t size);
extern void *fuzz_alloc0(size_t size);
extern void fuzz_free(void *pointer);
extern char *fuzz_strndup(const char *text, size_t length);

#define palloc(size) fuzz_alloc(size)
#define palloc0(size) fuzz_alloc0(size)
#define pfree(pointer) fuzz_free(pointer)
#define pstrdup(text) fuzz_strndup(text, strlen(text))
#define pnstrdup(text, length) fuzz_strndup(text, strnlen(text, length))

#endif							/* FLOWPG_FUZZ_SHIM_H */
