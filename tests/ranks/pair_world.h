/*
 * What pairs of dispatch and combine are run with: a shape, for which a plan is made, and a few worlds of that shape
 * with what must come out of each, by the reference. A function of the seed.
 */
#ifndef EPX_TESTS_PAIR_WORLD_H
#define EPX_TESTS_PAIR_WORLD_H

#include "reference/world_generator.h"

#include <stdint.h>

#define PAIR_WORLD_MAX 4u
#define PAIR_RANK_MAX  16u

struct pair_limits {
    int64_t rank_count; /* at most PAIR_RANK_MAX */
    int64_t server_rank_count;
    int64_t hidden_max;
    int64_t token_max; /* of a rank */
    bool largest;      /* all sizes are as large as any set of these limits can have them */
};

struct pair_set {
    bool largest;
    struct ref_shape shape;
    int64_t token_max; /* of all ranks and worlds */
    uint32_t world_count;
    struct world worlds[PAIR_WORLD_MAX];
};

void pair_set_init(struct pair_set *set, const struct pair_limits *limits, uint32_t world_count, uint64_t seed);
void pair_set_fini(struct pair_set *set);

#endif
