#include "comm/rank_set.h"

#include <stdio.h>
#include <string.h>

#define RANGE_TEXT_BYTES 24 /* "4294967295-4294967295," and its end */

void epx_rank_set_add(struct epx_rank_set *set, uint32_t rank)
{
    if (rank < EPX_COMM_RANK_MAX) {
        set->words[rank / 64] |= UINT64_C(1) << (rank % 64);
    }
}

bool epx_rank_set_has(const struct epx_rank_set *set, uint32_t rank)
{
    return rank < EPX_COMM_RANK_MAX && (set->words[rank / 64] >> (rank % 64) & 1u) != 0;
}

uint32_t epx_rank_set_count(const struct epx_rank_set *set)
{
    uint32_t count = 0;
    for (size_t i = 0; i < EPX_COMM_RANK_MAX / 64; i++) {
        count += (uint32_t)__builtin_popcountll(set->words[i]);
    }
    return count;
}

uint32_t epx_rank_set_first(const struct epx_rank_set *set)
{
    uint32_t rank = 0;
    while (rank < EPX_COMM_RANK_MAX && !epx_rank_set_has(set, rank)) {
        rank++;
    }
    return rank;
}

void epx_rank_set_print(const struct epx_rank_set *set, char *text, size_t text_bytes)
{
    static const char cut[] = "...";
    uint32_t count = epx_rank_set_count(set);
    uint32_t rank = epx_rank_set_first(set);
    int head = snprintf(text, text_bytes, "%s", count == 0 ? "no rank" : count == 1 ? "rank " : "ranks ");
    size_t used = (size_t)head;
    while (rank < EPX_COMM_RANK_MAX && used < text_bytes) {
        uint32_t last = rank;
        while (epx_rank_set_has(set, last + 1)) {
            last++;
        }
        uint32_t next = last + 1;
        while (next < EPX_COMM_RANK_MAX && !epx_rank_set_has(set, next)) {
            next++;
        }
        char range[RANGE_TEXT_BYTES];
        const char *comma = next < EPX_COMM_RANK_MAX ? "," : "";
        int length = last == rank ? snprintf(range, sizeof range, "%u%s", rank, comma)
                                  : snprintf(range, sizeof range, "%u-%u%s", rank, last, comma);
        /* Room for the mark of the cut stays free until the last range. */
        size_t reserve = comma[0] == ',' ? sizeof cut : 1;
        if (used + (size_t)length + reserve > text_bytes) {
            (void)snprintf(text + used, text_bytes - used, "%s", cut);
            return;
        }
        memcpy(text + used, range, (size_t)length + 1);
        used += (size_t)length;
        rank = next;
    }
}
