/*
 * Where everything lies in the memory that a rank shows to its peers. Pure arithmetic on sizes, checked against
 * overflow. Every region starts at a multiple of 64 bytes. Thread: any.
 */
#ifndef EPX_MOE_LAYOUT_H
#define EPX_MOE_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#define EPX_LAYOUT_ALIGN 64u

/* A block of memory that is being divided. */
struct epx_layout {
    uint64_t bytes;  /* taken so far, a multiple of EPX_LAYOUT_ALIGN */
    bool overflowed; /* a size did not fit: the layout is useless */
};

/* Takes `count` elements of `elem_bytes`; returns their place. */
uint64_t epx_layout_take(struct epx_layout *layout, int64_t count, uint64_t elem_bytes);

/* Bytes from row to row of `row_bytes` bytes each, a multiple of EPX_LAYOUT_ALIGN; 0 when it does not fit. */
uint64_t epx_layout_row_pitch(uint64_t row_bytes);

struct epx_dispatch_sizes {
    int64_t token_count;
    int64_t topk;
    int64_t expert_count;
    int64_t hidden_elems;
    int64_t count_elems; /* ranks * local experts */
    int64_t row_max;     /* rows of expand_x */
    bool quantized;      /* rows are int8 */
    bool smooth;         /* a row of its own for each copy */
    bool shared;         /* there are ranks with the shared expert */
    bool two_level;
    bool tp;
};

struct epx_dispatch_layout {
    /* Exchange region. */
    uint64_t offsets_at;    /* int32 [expert_count + 1] */
    uint64_t sorted_at;     /* int32 [copies] */
    uint64_t occurrence_at; /* int32 [copies] */
    uint64_t ids_at;        /* int32 [copies] */
    uint64_t weights_at;    /* fp32 [copies], two-level only */
    uint64_t exchange_bytes;
    /* Exchange region for the tensor-parallel peer; its bytes are 0 without one. */
    uint64_t tp_counts_at;  /* int32 [count_elems] */
    uint64_t tp_scales_at;  /* fp32 [row_max], quantised only */
    uint64_t tp_weights_at; /* fp32 [row_max], two-level only */
    uint64_t tp_exchange_bytes;
    /* Quantised rows. */
    uint64_t row_pitch_bytes;
    int64_t row_count;        /* by token, or by place in `sorted` with smooth scales */
    uint64_t rows_at;         /* int8 rows */
    uint64_t scales_at;       /* fp32 [row_count] */
    int64_t shared_row_count; /* by token; 0 when shared copies use the rows above */
    uint64_t shared_rows_at;
    uint64_t shared_scales_at;
    uint64_t quantized_bytes;
    /* Rows of x as they are, for an x that peers cannot read in place. */
    uint64_t plain_pitch_bytes;
    uint64_t plain_bytes;
};

/* False when a size does not fit in 63 bits. `header_bytes`: what stands at place 0 of both exchange regions. */
bool epx_dispatch_layout_init(struct epx_dispatch_layout *layout, const struct epx_dispatch_sizes *sizes,
                              uint64_t header_bytes);

struct epx_combine_sizes {
    int64_t hidden_elems;
    int64_t count_elems; /* ranks * local experts */
    int64_t row_max;     /* rows of expand_x */
    bool tp;
};

struct epx_combine_layout {
    uint64_t counts_at; /* int32 [count_elems] */
    uint64_t exchange_bytes;
    uint64_t tp_exchange_bytes; /* a header; 0 without tensor parallelism */
    uint64_t row_pitch_bytes;
    uint64_t staged_bytes; /* rows of expand_x that peers cannot read in place */
    uint64_t summed_bytes; /* tensor-parallel sums of rows; 0 without */
};

bool epx_combine_layout_init(struct epx_combine_layout *layout, const struct epx_combine_sizes *sizes,
                             uint64_t header_bytes);

#endif
