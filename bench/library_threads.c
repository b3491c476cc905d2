#include "library_threads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool bench_library_threads(int64_t threads)
{
    char text[24];
    if (threads == 0) {
        return true;
    }
    (void)snprintf(text, sizeof text, "%" PRId64, threads);
    if (setenv("EPX_THREADS", text, 1) != 0) {
        (void)fprintf(stderr, "no memory to set EPX_THREADS\n");
        return false;
    }
    return true;
}
