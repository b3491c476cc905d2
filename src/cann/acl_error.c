#include "cann/acl_error.h"

#include "acl/acl.h"
#include "cann/exports_acl.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define REPORT_BYTES (EPX_ERROR_TEXT_BYTES + 16)

static _Thread_local bool has_report;
static _Thread_local char report[REPORT_BYTES];
static _Thread_local char handed_out[REPORT_BYTES];

int epx_cann_report(int code, const char *text)
{
    snprintf(report, sizeof report, "%d: %s", code, text ? text : epx_error_text());
    has_report = true;
    return code;
}

int epx_cann_refuse(int code, const char *format, ...)
{
    char text[EPX_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    epx_error_text_set(text);
    return epx_cann_report(code, NULL);
}

aclError epx_cann_acl_result(enum epx_status status)
{
    return status == EPX_OK ? ACL_SUCCESS : epx_cann_report(epx_cann_acl_error(status), NULL);
}

const char *epx_cann_aclGetRecentErrMsg(void)
{
    if (!has_report) {
        return NULL;
    }
    has_report = false;
    snprintf(handed_out, sizeof handed_out, "%s", report);
    return handed_out;
}
