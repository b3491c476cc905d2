#include "moe/mirrors.h"

#include "moe/layout.h"
#include "moe/plan_memory.h"

#include <stdlib.h>

/* Where a mirror's parts lie in its memory. */
struct mirror_layout {
    uint64_t rows_at[EPX_REMOTE_SET_MAX];
    uint64_t pitch_bytes[EPX_REMOTE_SET_MAX];
    uint64_t scales_at[EPX_REMOTE_SET_MAX];
    uint64_t bytes;
};

static bool lay_out(struct mirror_layout *layout, const struct epx_mirror_sizes *sizes)
{
    struct epx_layout region = {0};
    if (sizes->exchange_bytes > INT64_MAX) {
        return false;
    }
    (void)epx_layout_take(&region, 1, sizes->exchange_bytes);
    for (uint32_t set = 0; set < EPX_REMOTE_SET_MAX; set++) {
        int64_t rows = sizes->sets[set].row_capacity;
        layout->pitch_bytes[set] = epx_layout_row_pitch(sizes->sets[set].row_bytes);
        layout->rows_at[set] = epx_layout_take(&region, rows, layout->pitch_bytes[set]);
        layout->scales_at[set] = epx_layout_take(&region, sizes->sets[set].scales ? rows : 0, sizeof(float));
    }
    layout->bytes = region.bytes;
    return !region.overflowed;
}

static struct epx_remote_mirror place(uint8_t *memory, const struct mirror_layout *layout,
                                      const struct epx_mirror_sizes *sizes)
{
    struct epx_remote_mirror mirror = {.exchange = memory, .exchange_capacity = sizes->exchange_bytes};
    for (uint32_t set = 0; set < EPX_REMOTE_SET_MAX; set++) {
        mirror.sets[set] = (struct epx_remote_set){
            .rows = memory + layout->rows_at[set],
            .pitch_bytes = layout->pitch_bytes[set],
            .row_capacity = sizes->sets[set].row_capacity,
            .scales = sizes->sets[set].scales ? (float *)(void *)(memory + layout->scales_at[set]) : NULL,
        };
    }
    return mirror;
}

static bool has_mirror(const struct epx_comm *comm, uint32_t rank)
{
    uint32_t own = epx_comm_rank(comm);
    return !epx_comm_is_here(comm, rank) && epx_comm_stand_in(comm, rank, epx_comm_host_of(comm, own)) == own;
}

static enum epx_status check_rows(const struct epx_mirror_sizes *sizes)
{
    for (uint32_t set = 0; set < EPX_REMOTE_SET_MAX; set++) {
        if (sizes->sets[set].row_bytes > EPX_REMOTE_ROW_BYTES_MAX) {
            return epx_fail(EPX_ERR_UNSUPPORTED, "a row has %llu bytes, must have at most %u to go to another host",
                            (unsigned long long)sizes->sets[set].row_bytes, EPX_REMOTE_ROW_BYTES_MAX);
        }
    }
    return EPX_OK;
}

static uint32_t index_of(const struct epx_mirrors *mirrors, uint32_t rank)
{
    uint32_t i = 0;
    while (i < mirrors->count && mirrors->ranks[i] != rank) {
        i++;
    }
    return i;
}

enum epx_status epx_mirrors_resize(struct epx_mirrors *mirrors, uint32_t rank, const struct epx_mirror_sizes *sizes)
{
    uint32_t i = index_of(mirrors, rank);
    struct mirror_layout layout;
    uint8_t *memory = NULL;
    if (!lay_out(&layout, sizes)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "what rank %u on another host sends needs more memory than can be addressed",
                        rank);
    }
    EPX_TRY(epx_plan_memory_reserve(layout.bytes, &memory));
    epx_plan_memory_free(mirrors->memory[i]);
    mirrors->memory[i] = memory;
    mirrors->places[i] = place(memory, &layout, sizes);
    return EPX_OK;
}

enum epx_status epx_mirrors_init(struct epx_mirrors *mirrors, const struct epx_comm *comm,
                                 const struct epx_mirror_sizes *sizes)
{
    uint32_t rank_count = epx_comm_rank_count(comm);
    *mirrors = (struct epx_mirrors){0};
    EPX_TRY(check_rows(sizes));
    mirrors->ranks = calloc(rank_count, sizeof *mirrors->ranks);
    mirrors->memory = calloc(rank_count, sizeof *mirrors->memory);
    mirrors->places = calloc(rank_count, sizeof *mirrors->places);
    if (mirrors->ranks == NULL || mirrors->memory == NULL || mirrors->places == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for what ranks on other hosts send in a world of %u ranks",
                        rank_count);
    }
    for (uint32_t rank = 0; rank < rank_count; rank++) {
        if (has_mirror(comm, rank)) {
            mirrors->ranks[mirrors->count++] = rank;
            EPX_TRY(epx_mirrors_resize(mirrors, rank, sizes));
        }
    }
    return EPX_OK;
}

void epx_mirrors_fini(struct epx_mirrors *mirrors)
{
    for (uint32_t i = 0; i < mirrors->count; i++) {
        epx_plan_memory_free(mirrors->memory[i]);
    }
    free(mirrors->ranks);
    free(mirrors->memory);
    free(mirrors->places);
    *mirrors = (struct epx_mirrors){0};
}

const struct epx_remote_mirror *epx_mirrors_of(const struct epx_mirrors *mirrors, uint32_t rank)
{
    uint32_t i = index_of(mirrors, rank);
    return i < mirrors->count ? &mirrors->places[i] : NULL;
}

struct epx_published_rows epx_mirror_published(const struct epx_remote_mirror *mirror, uint32_t set, int64_t row_count)
{
    const struct epx_remote_set *from = &mirror->sets[set];
    struct epx_published_rows rows = {0};
    uint64_t bytes = (uint64_t)row_count * from->pitch_bytes;
    if (row_count > 0 && epx_arena_offset_of(from->rows, bytes, &rows.offset)) {
        rows.row_count = row_count;
        rows.pitch_bytes = from->pitch_bytes;
        if (from->scales != NULL) {
            rows.scales_offset = rows.offset + (uint64_t)((const uint8_t *)from->scales - from->rows);
        }
    }
    return rows;
}
