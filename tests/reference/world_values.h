/*
 * Values that tests draw: ordinary ones, and those that break arithmetic.
 */
#ifndef EPX_TESTS_WORLD_VALUES_H
#define EPX_TESTS_WORLD_VALUES_H

#include "reference/random_source.h"
#include "reference/reference.h"

/* One row of a 16-bit format: of one magnitude, mixed, zero, subnormal, near overflow, with NaN or infinity, any bits.
 */
void draw_row(struct random_source *random, enum ref_format format, uint16_t *row, int64_t elems);

/* fp32 weights or scales: mostly in [0, 2), some runs negative, zero, huge, subnormal, infinite or NaN. */
void draw_floats(struct random_source *random, float *values, int64_t count);

enum routing {
    ROUTING_UNIFORM,  /* with repetition */
    ROUTING_DISTINCT, /* no expert twice in a token */
    ROUTING_ONE,      /* every copy to one expert */
    ROUTING_SKEWED,   /* half of all copies to few experts */
    ROUTING_CHUNK,    /* a range of experts: some ranks get nothing */
    ROUTING_COUNT,
};

/* (token_count, topk) expert ids in [0, expert_count); topk <= expert_count for ROUTING_DISTINCT. `favourite` is the
 * expert that ROUTING_ONE, SKEWED and CHUNK are about. */
void draw_expert_ids(struct random_source *random, enum routing routing, int64_t favourite, int32_t *ids,
                     int64_t token_count, int64_t topk, int64_t expert_count);

#endif
