#include "epx/objects.h"

#include <string.h>

enum epx_status epx_struct_read(void *dst, size_t known, size_t least, const void *given, const char *what)
{
    size_t bytes;
    if (given == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", what);
    }
    memcpy(&bytes, given, sizeof bytes);
    /* A struct of a later version is longer by some members, never by kilobytes: what is, was never initialised. */
    if (bytes < least || bytes > known + 4096) {
        return epx_fail(EPX_ERR_INVALID, "%s: struct_bytes is %zu, must be %zu (use its _INIT)", what, bytes, known);
    }
    for (size_t i = known; i < bytes; i++) {
        if (((const uint8_t *)given)[i] != 0) {
            return epx_fail(EPX_ERR_INVALID,
                            "%s: struct_bytes is %zu, and what follows the %zu bytes known here is set", what, bytes,
                            known);
        }
    }
    memset(dst, 0, known);
    memcpy(dst, given, bytes < known ? bytes : known);
    return EPX_OK;
}
