/*
 * The layer that the demo runs: seeded inputs of a rank, and an expert's feed-forward. Used by the ranks and, on the
 * same rows in the same order, by the check, so that both give the same bits.
 */
#ifndef EPX_DEMO_LAYER_H
#define EPX_DEMO_LAYER_H

#include "options.h"

#include <stddef.h>
#include <stdint.h>

/* Expert id of the shared expert in layer_expert_*: any id from the routed ones is below it. */
#define LAYER_SHARED_EXPERT INT64_C(1000000)

/* x (tokens, H): values of a different magnitude for each token; expert_ids (tokens, K): distinct in a token; weights
 * (tokens, K): softmax of random logits. */
void layer_make_inputs(const struct demo_options *options, int64_t rank, uint16_t *x, int32_t *expert_ids,
                       float *weights);

/* (rows, H), one row an expert; with shared ranks row 0 is the shared expert's. Equal on all ranks. */
void layer_make_smooth_scales(const struct demo_options *options, int64_t rows, float *scales);

/* One expert: y = (silu(x * gate) . (x * up)) * down. */
struct layer_expert {
    float *gate; /* (H, ffn) */
    float *up;   /* (H, ffn) */
    float *down; /* (ffn, H) */
};

/* Memory for one expert's weights, null when there is none. */
struct layer_expert *layer_expert_create(const struct demo_options *options);
void layer_expert_destroy(struct layer_expert *expert);
void layer_expert_make(const struct demo_options *options, int64_t expert_id, struct layer_expert *expert);

/* fp32 elements of scratch that layer_expert_run needs for `rows` rows. */
size_t layer_scratch_elems(const struct demo_options *options, int64_t rows);

/* Rows that an expert is given: 16-bit, or int8 with a scale each. */
struct layer_rows {
    int64_t count;
    const void *dense;        /* one after the other; or null, and then */
    const void *const *views; /* the address of each */
    const float *scales;      /* with int8 */
};

/* rows in -> rows out (16-bit). Each row is read once: packed into fp32 for the matrix product. */
void layer_expert_run(const struct demo_options *options, const struct layer_expert *expert,
                      const struct layer_rows *in, uint16_t *out, float *scratch);

#endif
