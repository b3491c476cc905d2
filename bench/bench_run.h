/* Measuring one grid point: all engines, one after the other, again and again, between floors. */
#ifndef EPX_BENCH_BENCH_RUN_H
#define EPX_BENCH_BENCH_RUN_H

#include "bench_contenders.h"
#include "bench_results.h"

struct bench_run {
    const struct bench_options *options;
    struct bench_contenders contenders;
    size_t point_index; /* of point_count, for progress */
    size_t point_count;
    int failures; /* engines that failed, results that differ: each was said on standard error */
};

/* False: a signal ended it. */
bool bench_run_point(struct bench_run *run, struct bench_point *point);

/* The line of progress is gone from the terminal. */
void bench_run_clear_line(void);

#endif
