/*-------------------------------------------------------------------------
 *
 * spi_commit.c
 *	  Transaction control of procedures that are written in C.
 *
 * Beside spi_util.c the only file that calls SPI: what a procedure's COMMIT
 * must see to (pinned portals, the SPI state of a DO block or procedure that
 * called this one) only SPI does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/memutils.h"

#include "spi_commit.h"

void
fp_spi_commit_procedure(void)
{
	MemoryContext context = CurrentMemoryContext;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	SPI_finish();
	MemoryContextSwitchTo(context);
}
