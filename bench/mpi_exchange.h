/*
 * Dispatch and combine as users of MPI write them: counts by MPI_Alltoall, rows permuted by destination, MPI_Alltoallv,
 * rows regrouped by (local expert, source rank, token, k); the combine the other way, then the weighted sum.
 *
 * Every buffer is there and touched before the first round. Receive buffers hold what the case's routing brings, which
 * is asked of the peers at creation.
 */
#ifndef EPX_BENCH_MPI_EXCHANGE_H
#define EPX_BENCH_MPI_EXCHANGE_H

#include "case.h"

#include <mpi.h>

/* What a rank brings, the caller's: it stays until the exchange is destroyed. */
struct mpi_tokens {
    const uint16_t *x;         /* (BS, H) */
    const int32_t *expert_ids; /* (BS, K) */
    const float *weights;      /* (BS, K) */
};

struct mpi_exchange {
    const struct bench_case *bench;
    int rank_count;
    int local_experts;
    bool yields; /* waiting ranks give their core away: there are more ranks than cores, on several hosts */
    size_t received_row_bytes; /* of expand_x */
    size_t wire_row_bytes;     /* of a dispatched row: with quantisation its scale follows it, 4-byte aligned */
    size_t returned_row_bytes;
    MPI_Datatype wire_row;
    MPI_Datatype returned_row;

    struct mpi_tokens tokens;

    int *send_counts; /* (E): rows for each expert */
    int *recv_counts; /* (W, L): rows from each rank for each local expert */
    int *cursors;     /* (E) */
    int *places;      /* (BS, K): row of send_rows */
    int *to_counts;   /* (W), rows, as are the next three */
    int *to_offsets;
    int *from_counts;
    int *from_offsets;
    unsigned char *send_rows; /* by expert, then token and k */
    unsigned char *recv_rows; /* by source rank, then local expert, token and k */

    int row_count;           /* what arrived */
    unsigned char *expand_x; /* recv_rows itself where that has the order already */
    float *scales;           /* with quantisation */
    int64_t *expert_rows;    /* (L): rows of each local expert */

    uint16_t *expert_out;      /* to be filled from expand_x before a combine */
    uint16_t *returned_send;   /* expert_out itself where that has the order already */
    uint16_t *returned_recv;   /* in the order of send_rows */
    const uint16_t **summands; /* (K) */
    uint16_t *y;               /* (BS, H), the combine's result */
};

/* Collective. */
void mpi_exchange_meet(bool yields);

/* Collective. Ends the program with MPI_Abort when memory lacks. `yields` is set before. */
void mpi_exchange_create(struct mpi_exchange *exchange, const struct bench_case *bench,
                         const struct mpi_tokens *tokens);
void mpi_exchange_destroy(struct mpi_exchange *exchange);

/* Collective. Nothing is kept from one round to the next. */
void mpi_exchange_dispatch(struct mpi_exchange *exchange);

/* Collective. Takes counts and places of the last dispatch, as these pipelines do. */
void mpi_exchange_combine(struct mpi_exchange *exchange);

#endif
