/*
 * A world of which this process is rank 0 and the others are made up: their slots are filled and their arrivals counted
 * by the caller, so that one thread runs rounds in which nobody waits. Seen by the library from inside, and mapped as
 * it maps real peers. Thread: one.
 */
#ifndef EPX_BENCH_PARTS_WORLD_H
#define EPX_BENCH_PARTS_WORLD_H

#include "comm/comm_object.h"
#include "moe/rounds.h"

#include <stdbool.h>
#include <stdint.h>

struct parts_world {
    struct epx_comm comm; /* rank 0's */
    struct epx_rounds rounds;
    struct epx_agreement agreement; /* that all ranks put up */
};

/* False: said on standard error. */
bool parts_world_create(struct parts_world *world, uint32_t rank_count);
void parts_world_destroy(struct parts_world *world);

/* What a dispatch puts up, built as it does it. */
void parts_agreement_build(const struct parts_world *world, struct epx_agreement *agreement);

/* The others enter the next round; reserves it for rank 0, too. */
void parts_others_enter(struct parts_world *world);

/* A dispatch's round as rank 0 runs it, without a dispatch: to ENTER, with the comparison, which includes building its
 * agreement, and from there to the end, the others being at DONE. Else than EPX_OK: the round has failed. */
EPX_NODISCARD enum epx_status parts_round_enter(struct parts_world *world);
EPX_NODISCARD enum epx_status parts_round_leave(struct parts_world *world);

/* The comparison again, between the two. */
EPX_NODISCARD enum epx_status parts_round_compare(struct parts_world *world);

/* One look for ranks that are dead or have left. */
EPX_NODISCARD enum epx_status parts_look(struct parts_world *world);

#endif
