/*
 * A set of ranks, and its text for messages. Pure.
 */
#ifndef EPX_COMM_RANK_SET_H
#define EPX_COMM_RANK_SET_H

#include "comm/comm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct epx_rank_set { /* empty when zeroed */
    uint64_t words[EPX_COMM_RANK_MAX / 64];
};

void epx_rank_set_add(struct epx_rank_set *set, uint32_t rank);
bool epx_rank_set_has(const struct epx_rank_set *set, uint32_t rank);
uint32_t epx_rank_set_count(const struct epx_rank_set *set);

/* The lowest member; EPX_COMM_RANK_MAX when empty. */
uint32_t epx_rank_set_first(const struct epx_rank_set *set);

/* "rank 5" or "ranks 0-4,6,8-15"; what does not fit ends in ",...". Always terminated; "no rank" when empty. */
void epx_rank_set_print(const struct epx_rank_set *set, char *text, size_t text_bytes);

#endif
