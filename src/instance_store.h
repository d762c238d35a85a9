/*-------------------------------------------------------------------------
 *
 * instance_store.h
 *	  flow.instance: the server and database that the DAGs are at home in.
 *
 * Every function runs inside a transaction and opens its own owner scope
 * (fp_spi_begin_owner).
 *
 *-------------------------------------------------------------------------
 */
#ifndef FLOWPG_INSTANCE_STORE_H
#define FLOWPG_INSTANCE_STORE_H

/* How this database stands to the DAGs that are in it. */
typedef enum FpHome
{
	FP_HOME_HERE,				/* they are run */
	FP_HOME_EMPTY,				/* there are none: the first one is at home */
	FP_HOME_ELSEWHERE			/* out of a dump or copy: they wait for
								 * flow_adopt */
} FpHome;

extern FpHome fp_instance_store_home(void);

/* sessions: before a DAG is inserted; where it is the first one, it is at home */
extern void fp_instance_store_settle(void);
/* sessions: all DAGs are at home here.  False: they were */
extern bool fp_instance_store_adopt(void);
/* sessions: there are DAGs that flowpg has not defined here */
extern void fp_instance_store_disown(void);

/*
 * The scheduler, at home: returns whether the last one stopped in an orderly
 * way, and notes that one is now running; notes that it stops.
 */
extern bool fp_instance_store_begin(void);
extern void fp_instance_store_end(void);

#endif							/* FLOWPG_INSTANCE_STORE_H */
