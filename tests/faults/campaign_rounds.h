/*
 * A world as a rank of the campaign uses it: a communicator, a plan, tensors, and rounds of all kinds.
 */
#ifndef EPX_TESTS_FAULTS_CAMPAIGN_ROUNDS_H
#define EPX_TESTS_FAULTS_CAMPAIGN_ROUNDS_H

#include "faults/campaign.h"

#include "reference/random_source.h"

#define TOKEN_COUNT 6
#define HIDDEN      96
#define TOPK        2
#define EXPERTS_OF  2 /* a rank */
#define ROW_MAX     (CAMPAIGN_RANK_MAX * TOKEN_COUNT * TOPK)

struct tensors {
    uint16_t *x, *expand_x, *out;
    int32_t *ids, *expand_idx, *counts;
    float *weights;
    int64_t *token_nums;
    const void *rows[ROW_MAX];
};

struct world {
    struct epx_communicator *comm;
    struct epx_plan *plan;
    struct tensors tensors;
};

enum epx_status world_open(struct world *world, const struct epx_token *token, uint32_t rank_count, uint32_t rank,
                           const struct campaign_trial *trial);
enum epx_status world_prepare(struct world *world, uint32_t rank_count, uint32_t rank);
enum epx_status world_close(struct world *world);

/* Two operations, of a kind that all ranks draw alike; the experts do nothing and weights add up to 1. *call is the
 * last one, for messages. `random` draws the pauses. */
enum epx_status world_round(struct world *world, const struct campaign_trial *trial, struct random_source *random,
                            uint64_t round, const char **call);

#endif
