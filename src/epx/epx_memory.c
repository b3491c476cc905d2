#include "base/status.h"
#include "epx/epx.h"
#include "memory/arena.h"

enum epx_status epx_memory_alloc(size_t bytes, void **out)
{
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    return epx_arena_alloc(bytes, 64, out);
}

enum epx_status epx_memory_free(void *pointer)
{
    return pointer == NULL ? EPX_OK : epx_arena_free(pointer);
}
