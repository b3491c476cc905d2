/*
 * The floor's knowledge beforehand: which row goes where, and where everybody's tensors lie in one shared mapping, as
 * they would in an exchange. Made once, before the ranks start; read only from then on.
 */
#ifndef EPX_BENCH_FLOOR_LAYOUT_H
#define EPX_BENCH_FLOOR_LAYOUT_H

#include "case.h"

struct floor_row { /* of expandX: which token it is */
    int32_t source;
    int32_t token;
};

struct floor_rank {
    int32_t *expert_ids;    /* (BS, K) */
    float *weights;         /* (BS, K) */
    int32_t *places;        /* (BS, K): row of the copy in its expert's expandX */
    int64_t *expert_rows;   /* (L) */
    struct floor_row *rows; /* (row_count) */
    int64_t row_count;

    /* Offsets in the shared mapping. */
    size_t x;          /* (BS, H) */
    size_t quantized;  /* (BS, H) int8, with quantisation, as have */
    size_t scales;     /* (BS) and */
    size_t row_scales; /* (row_count) */
    size_t expand_x;   /* (row_count, H) */
    size_t expert_out; /* (row_count, H) */
    size_t y;          /* (BS, H): the combine's result */
};

struct floor_layout {
    const struct bench_case *bench;
    int64_t local_experts;
    size_t row_bytes; /* of expandX */
    size_t shared_bytes;
    struct floor_rank *ranks; /* (W) */
};

/* False without memory, said on standard error. */
bool floor_layout_create(struct floor_layout *layout, const struct bench_case *bench);
void floor_layout_destroy(struct floor_layout *layout);

#endif
