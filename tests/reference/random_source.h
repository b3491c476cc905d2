/*
 * Numbers drawn from a seed: xoshiro256** started by splitmix64. Equal seeds give equal numbers everywhere.
 */
#ifndef EPX_TESTS_RANDOM_SOURCE_H
#define EPX_TESTS_RANDOM_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

struct random_source {
    uint64_t state[4];
};

void random_seed(struct random_source *random, uint64_t seed);
uint64_t random_bits(struct random_source *random);
int64_t random_between(struct random_source *random, int64_t low, int64_t high); /* both included */
bool random_percent(struct random_source *random, int64_t percent);

/* One step of splitmix64: a seed from a seed and a number. */
uint64_t random_mix(uint64_t seed, uint64_t number);

#endif
