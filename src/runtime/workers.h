/*
 * Worker threads of the process: they help whichever thread has work that falls into parts. One pool serves all; it
 * starts with the first that asks for it, sleeps between jobs, blocks all signals and never keeps the process from
 * exiting. Thread: any.
 *
 * The workers run where those who asked for them are at home: on the processors of a thread's affinity mask, and of
 * these, when they belong to several NUMA nodes, on those of the node on which the thread runs when it asks, if the
 * node has a core for each thread of its jobs. The memory that it brings in then lies on that node. Threads of the
 * program are never moved.
 */
#ifndef EPX_RUNTIME_WORKERS_H
#define EPX_RUNTIME_WORKERS_H

#include <stdint.h>

/* Most threads of one job, the caller's included. */
#define EPX_WORKERS_MAX 64u

/* Makes sure that the pool has at least `helper_count` threads, at most EPX_WORKERS_MAX - 1, and that they may run
 * where the calling thread is at home; fewer when the system gives no more. Not in the data path. A child of fork
 * starts with none. */
void epx_workers_prepare(uint32_t helper_count);

/* Threads of the pool. */
uint32_t epx_workers_count(void);

/* Calls run(context, part) once for each part in [0, part_count), on the calling thread and on those of the pool that
 * are free, and returns when all have returned; the memory that they wrote is visible then. The caller alone is enough.
 */
void epx_workers_run(uint32_t part_count, void (*run)(void *context, uint32_t part), void *context);

#endif
