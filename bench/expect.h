/*
 * What the results of a case must be, written from the operators' definition, without any kernel of the library.
 * Thread: any.
 */
#ifndef EPX_BENCH_EXPECT_H
#define EPX_BENCH_EXPECT_H

#include "case.h"

/* Rows of `rank`'s expandX (with their scales) that are not what they must be, plus wrong counts of local experts. */
int64_t bench_expect_dispatch(const struct bench_case *bench, int64_t rank, const void *expand_x, const float *scales,
                              const int64_t *expert_token_nums);

/* Rows of `rank`'s combined x that are not what they must be, down to the bit. */
int64_t bench_expect_combine(const struct bench_case *bench, int64_t rank, const uint16_t *x);

/* The same of the two-level exchange, a host being a server. */
int64_t bench_expect_two_level(const struct bench_case *bench, int64_t rank, const uint16_t *x);

#endif
