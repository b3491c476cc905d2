/*
 * Log lines on standard error: "epx[pid] level: text". Level from EPX_LOG (none error warn info debug trace; default
 * warn). Never called on the data path. Thread: any.
 */
#ifndef EPX_BASE_LOG_H
#define EPX_BASE_LOG_H

enum epx_log_level {
    EPX_LOG_NONE = 0,
    EPX_LOG_ERROR = 1,
    EPX_LOG_WARN = 2,
    EPX_LOG_INFO = 3,
    EPX_LOG_DEBUG = 4,
    EPX_LOG_TRACE = 5,
};

/* The level in force; read from the environment at the first call. */
enum epx_log_level epx_log_level(void);

void epx_log_write(enum epx_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define epx_log(level, ...)                                                                                            \
    do {                                                                                                               \
        if ((level) <= epx_log_level()) {                                                                              \
            epx_log_write((level), __VA_ARGS__);                                                                       \
        }                                                                                                              \
    } while (0)

#endif
