#include "base/status.h"
#include "epx/epx.h"

#define TEXT_OF(number)     #number
#define VERSION_OF(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *epx_version(void)
{
    return VERSION_OF(EPX_VERSION_MAJOR, EPX_VERSION_MINOR, EPX_VERSION_PATCH);
}

const char *epx_last_error(void)
{
    return epx_error_text();
}

const char *epx_status_text(enum epx_status status)
{
    return epx_status_phrase(status);
}
