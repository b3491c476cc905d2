#include "fuzz/hostile_guard.h"

#include "memory/arena.h"

#include <stdlib.h>
#include <string.h>

#define MARK_BYTES 64u
#define MARK_MAX   512u
#define MARK       0xC5
/* Longer ones have no pages until they are needed, and no mark. */
#define MARKED_MAX (1u << 20)

enum epx_status __real_epx_arena_alloc(size_t bytes, size_t align, void **out);
enum epx_status __wrap_epx_arena_alloc(size_t bytes, size_t align, void **out);
enum epx_status __real_epx_arena_reserve(size_t bytes, size_t align, void **out);
enum epx_status __wrap_epx_arena_reserve(size_t bytes, size_t align, void **out);
enum epx_status __real_epx_arena_free(void *pointer);
enum epx_status __wrap_epx_arena_free(void *pointer);

uint64_t __wrap_epx_topology_memory_headroom_bytes(void);
const char *__asan_default_options(void);

/* What a peer announces may be more than any machine has: to be refused like any lack of memory. */
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=64";
}

/* No look at the machine's files. */
uint64_t __wrap_epx_topology_memory_headroom_bytes(void)
{
    return 1u << 30;
}

static struct {
    void *memory;
    uint8_t *mark;
} marks[MARK_MAX];
static uint32_t mark_count;

static void mark_add(void *memory, size_t bytes)
{
    hostile_require(mark_count < MARK_MAX);
    uint8_t *mark = (uint8_t *)memory + bytes;
    memset(mark, MARK, MARK_BYTES);
    marks[mark_count].memory = memory;
    marks[mark_count++].mark = mark;
}

enum epx_status __wrap_epx_arena_alloc(size_t bytes, size_t align, void **out)
{
    if (bytes >= MARKED_MAX) {
        return __real_epx_arena_alloc(bytes, align, out);
    }
    enum epx_status status = __real_epx_arena_alloc(bytes + MARK_BYTES, align, out);
    if (status == EPX_OK) {
        mark_add(*out, bytes);
    }
    return status;
}

enum epx_status __wrap_epx_arena_reserve(size_t bytes, size_t align, void **out)
{
    return bytes < MARKED_MAX ? __wrap_epx_arena_alloc(bytes, align, out) : __real_epx_arena_reserve(bytes, align, out);
}

enum epx_status __wrap_epx_arena_free(void *pointer)
{
    for (uint32_t i = 0; i < mark_count; i++) {
        if (marks[i].memory == pointer) {
            marks[i] = marks[--mark_count];
            break;
        }
    }
    return __real_epx_arena_free(pointer);
}

void hostile_guard_check(void)
{
    uint8_t whole[MARK_BYTES];
    memset(whole, MARK, sizeof whole);
    for (uint32_t i = 0; i < mark_count; i++) {
        hostile_require(memcmp(marks[i].mark, whole, sizeof whole) == 0);
    }
}
