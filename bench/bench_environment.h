/* What the measuring machine is. */
#ifndef EPX_BENCH_BENCH_ENVIRONMENT_H
#define EPX_BENCH_BENCH_ENVIRONMENT_H

#include "bench_results.h"

void bench_environment_read(struct bench_environment *environment);

#endif
