#include "base/status.h"
#include "epx/objects.h"
#include "memory/arena.h"

enum epx_status epx_memory_alloc(size_t bytes, void **out)
{
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    return epx_arena_alloc(bytes, 64, out);
}

enum epx_status epx_memory_reserve(size_t bytes, void **out)
{
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    return epx_arena_reserve(bytes, 64, out);
}

enum epx_status epx_memory_need(const void *pointer, size_t bytes)
{
    uint64_t offset;
    if (pointer == NULL) {
        return epx_fail(EPX_ERR_NULL, "pointer is null");
    }
    if (!epx_arena_offset_of(pointer, bytes, &offset)) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%zu bytes at %p do not lie inside one allocation", bytes, pointer);
    }
    return epx_arena_need(pointer, bytes);
}

enum epx_status epx_memory_free(void *pointer)
{
    if (pointer == NULL) {
        return EPX_OK;
    }
    EPX_TRY(epx_views_check_free(pointer));
    return epx_arena_free(pointer);
}
