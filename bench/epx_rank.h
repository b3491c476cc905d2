/*
 * One rank as a program written for epx/epx.h has it: a communicator, a plan, tensors, and the two operators. Functions
 * return 0, or say on standard error what fails, with the library's text. Thread: one thread a rank.
 */
#ifndef EPX_BENCH_EPX_RANK_H
#define EPX_BENCH_EPX_RANK_H

#include "case.h"
#include "epx/epx.h"
#include "product.h"

struct epx_rank {
    const struct bench_case *bench;
    int64_t rank;
    bool private_memory; /* tensors in memory of malloc, which peers cannot read in place */
    bool views;          /* the dispatch gives addresses of rows, which the experts read where they are */
    bool two_level;      /* the exchange, a host being a server */
    int64_t local_experts;
    int64_t row_max; /* A: what can arrive at most */
    struct epx_communicator *comm;
    struct epx_plan *plan;
    struct epx_dispatch_args dispatch;
    const void **row_views; /* (A), in place of expand_x */
    struct epx_combine_args combine;
    uint16_t *x;
    uint16_t *expert_out;
};

/* Collective: the communicator of all that hold the token. */
int epx_rank_join(struct epx_rank *rank, const struct epx_token *token);

int epx_rank_plan(struct epx_rank *rank);

/* Tensors, with the case's inputs in them. They end with the process. */
int epx_rank_allocate(struct epx_rank *rank);

int epx_rank_dispatch(struct epx_rank *rank);
int epx_rank_combine(struct epx_rank *rank);

/* Ends row views where no combine follows; nothing without views. */
int epx_rank_release(struct epx_rank *rank);

/* What the last dispatch brought: number of rows, bytes of each, where row `row` is. */
int64_t epx_rank_row_count(const struct epx_rank *rank);
size_t epx_rank_row_bytes(const struct epx_rank *rank);
const void *epx_rank_row(const struct epx_rank *rank, int64_t row);

/* The same for the first product of the experts. */
struct bench_product_rows epx_rank_product_rows(const struct epx_rank *rank);

/* Before the program itself writes the first `bytes` of a tensor for received rows. */
int epx_rank_need(struct epx_rank *rank, const void *tensor, size_t bytes);

/* Fills expert_out from it. */
int epx_rank_experts(struct epx_rank *rank);

/* Bytes of the tensors that are in memory: of a large one, the pages that something was written to. */
int64_t epx_rank_tensor_bytes(const struct epx_rank *rank);

/* Plan and communicator; all ranks have left their last operation. */
int epx_rank_end(struct epx_rank *rank);

/* Says what fails, with the library's text; 1. */
int epx_rank_failed(const struct epx_rank *rank, const char *what);

#endif
