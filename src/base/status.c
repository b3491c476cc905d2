#include "base/status.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef epx_fail
#undef epx_fail_errno

static _Thread_local char error_text[EPX_ERROR_TEXT_BYTES];

enum epx_status epx_fail(enum epx_status status, const char *format, ...)
{
    char text[EPX_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(error_text, text, sizeof text);
    epx_log(EPX_LOG_DEBUG, "error %d (%s): %s", (int)status, epx_status_phrase(status), error_text);
    return status;
}

enum epx_status epx_fail_errno(enum epx_status status, int error_number, const char *format, ...)
{
    char text[EPX_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *reason = strerrordesc_np(error_number);
    return epx_fail(status, "%s: %s (errno %d)", text, reason != NULL ? reason : "unknown error", error_number);
}

const char *epx_error_text(void)
{
    return error_text;
}

void epx_error_text_set(const char *text)
{
    (void)snprintf(error_text, sizeof error_text, "%s", text);
}

const char *epx_status_phrase(enum epx_status status)
{
    switch (status) {
    case EPX_OK: return "no error";
    case EPX_ERR_NULL: return "null pointer";
    case EPX_ERR_INVALID: return "invalid value";
    case EPX_ERR_DTYPE: return "unsupported dtype";
    case EPX_ERR_SHAPE: return "wrong shape";
    case EPX_ERR_UNSUPPORTED: return "not supported";
    case EPX_ERR_STATE: return "wrong state";
    case EPX_ERR_NOT_FOUND: return "not found";
    case EPX_ERR_CONFIG: return "bad configuration";
    case EPX_ERR_NO_MEMORY: return "out of memory";
    case EPX_ERR_SYSTEM: return "system call failed";
    case EPX_ERR_FILE: return "file cannot be read";
    case EPX_ERR_SYNTAX: return "syntax error";
    case EPX_ERR_RANK_TABLE: return "rank table invalid";
    case EPX_ERR_RENDEZVOUS: return "rendezvous refused";
    case EPX_ERR_JOIN_TIMEOUT: return "ranks missing";
    case EPX_ERR_MISMATCH: return "ranks disagree";
    case EPX_ERR_EXPERT_ID: return "expert id out of range";
    case EPX_ERR_CAPACITY: return "row capacity exceeded";
    case EPX_ERR_COUNTS: return "contradictory counts";
    case EPX_ERR_PEER_DEAD: return "rank died";
    case EPX_ERR_PEER_LEFT: return "rank left";
    case EPX_ERR_TIMEOUT: return "deadline passed";
    case EPX_ERR_PROTOCOL: return "protocol violation";
    case EPX_ERR_ABORTED: return "aborted";
    case EPX_ERR_RANK_MEMORY: return "a rank is out of memory";
    case EPX_ERR_INTERNAL: return "internal error";
    }
    return "unknown status";
}
