#include "library_threads.h"

#include "epx/epx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_option(const char *name)
{
    char *options = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&options, &bytes);
    if (out == NULL) {
        return false;
    }
    epx_options_print(out);
    bool found = fclose(out) == 0 && strstr(options, name) != NULL;
    free(options);
    return found;
}

bool bench_library_threads(int64_t threads)
{
    char text[24];
    if (threads == 0) {
        return true;
    }
    if (!is_option("EPX_THREADS")) {
        (void)fprintf(stderr, "--threads is %lld, must be 0: epx %s has no EPX_THREADS\n", (long long)threads,
                      epx_version());
        return false;
    }
    (void)snprintf(text, sizeof text, "%lld", (long long)threads);
    return setenv("EPX_THREADS", text, 1) == 0;
}
