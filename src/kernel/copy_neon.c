#include "kernel/variants.h"

/* The C library's copy for this processor is hard to beat, and there are no stores here that bypass the cache for
 * certain. */

void epx_copy_row__neon(void *dst, const void *src, size_t bytes)
{
    epx_copy_row__ref(dst, src, bytes);
}

void epx_copy_row_streaming__neon(void *dst, const void *src, size_t bytes)
{
    epx_copy_row__ref(dst, src, bytes);
}
