/*
 * Internal face of the status codes. Who decides an error writes its text with epx_fail(); everyone above passes the
 * status on and adds nothing.
 */
#ifndef EPX_BASE_STATUS_H
#define EPX_BASE_STATUS_H

#include "epx/epx_status.h"

#include <stddef.h>

#define EPX_NODISCARD                         __attribute__((warn_unused_result))
#define EPX_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))
#define EPX_EXPORT                            __attribute__((visibility("default")))

/* Bytes of the longest error text, with its terminating NUL; a longer text is cut. */
#define EPX_ERROR_TEXT_BYTES 512

/* Sets the calling thread's error text and returns `status`. Logs at level debug. Thread: any. */
enum epx_status epx_fail(enum epx_status status, const char *format, ...) EPX_PRINTF(2, 3);

/* Same, with the name and text of `error_number` (an errno value) at the end. */
enum epx_status epx_fail_errno(enum epx_status status, int error_number, const char *format, ...) EPX_PRINTF(3, 4);

#ifdef __clang_analyzer__
/* Lets the analyzer see that the status given is the status returned. */
#define epx_fail(status, ...)              ((void)epx_fail((status), __VA_ARGS__), (status))
#define epx_fail_errno(status, error, ...) ((void)epx_fail_errno((status), (error), __VA_ARGS__), (status))
#endif

/* Text of the calling thread's last failure, "" when none. Valid until the thread's next failure. */
const char *epx_error_text(void);

/* Replaces the calling thread's text: for a status that was decided on another thread or rank. */
void epx_error_text_set(const char *text);

/* Short lower-case phrase for a status; never null. */
const char *epx_status_phrase(enum epx_status status);

/* Passes a failure on. One of the two jumping macros of the project. */
#define EPX_TRY(expression)                                                                                            \
    do {                                                                                                               \
        enum epx_status epx_try_status_ = (expression);                                                                \
        if (epx_try_status_ != EPX_OK) {                                                                               \
            return epx_try_status_;                                                                                    \
        }                                                                                                              \
    } while (0)

#endif
