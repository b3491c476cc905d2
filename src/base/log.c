#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {"none", "error", "warn", "info", "debug", "trace"};

enum epx_log_level epx_log_level(void)
{
    static _Atomic int cached_level = -1;
    int level = atomic_load_explicit(&cached_level, memory_order_relaxed);
    if (level >= 0) {
        return (enum epx_log_level)level;
    }
    level = EPX_LOG_WARN;
    const char *text = getenv("EPX_LOG");
    for (size_t i = 0; text != NULL && i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            level = (int)i;
        }
    }
    atomic_store_explicit(&cached_level, level, memory_order_relaxed);
    return (enum epx_log_level)level;
}

void epx_log_write(enum epx_log_level level, const char *format, ...)
{
    int saved_errno = errno;
    char line[1024];
    int used = snprintf(line, sizeof line, "epx[%d] %s: ", (int)getpid(), level_names[level]);
    va_list args;
    va_start(args, format);
    int body = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    va_end(args);
    size_t length = (size_t)used + (size_t)(body > 0 ? body : 0);
    if (length > sizeof line - 2) {
        length = sizeof line - 2;
    }
    line[length] = '\n';
    /* One write a line, so that lines of several processes do not mix. A failing write has nowhere to be reported. */
    ssize_t written = write(STDERR_FILENO, line, length + 1);
    (void)written;
    errno = saved_errno;
}
