/*
 * Engines as child processes: at most one at a time, in a process group of its own. Nothing of it stays behind, however
 * it or this program ends: what its launcher leaves is adopted and ended here, and it is killed when this program dies.
 */
#ifndef EPX_BENCH_BENCH_PROCESS_H
#define EPX_BENCH_BENCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

enum bench_end {
    BENCH_ENDED,       /* with status 0 */
    BENCH_FAILED,      /* another status, a signal, or it could not be started; *out has the text */
    BENCH_HUNG,        /* killed at the limit */
    BENCH_INTERRUPTED, /* a signal to this program */
};

struct bench_output {
    char *text; /* standard output; to be freed */
    size_t bytes;
    char why[512]; /* how it ended, and the end of its standard error */
};

/* Once, before the first bench_process_run: makes signals end engines first. */
void bench_process_prepare(void);

/* The signal that this program should end by, 0: none. */
int bench_process_interrupted(void);

/* Calls `tick` (may be null) a few times a second. */
enum bench_end bench_process_run(char *const argv[], double limit_s, void (*tick)(void *), void *context,
                                 struct bench_output *out);

#endif
