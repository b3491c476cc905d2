/* Worker threads of the library under test. */
#ifndef EPX_BENCH_LIBRARY_THREADS_H
#define EPX_BENCH_LIBRARY_THREADS_H

#include <stdbool.h>
#include <stdint.h>

/* Asks the library for so many worker threads a rank, through its environment, before its first call; 0 leaves it its
 * default. False: no memory, said on standard error. */
bool bench_library_threads(int64_t threads);

#endif
