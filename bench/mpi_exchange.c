#include "mpi_exchange.h"

#include "kernel/kernel.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Errors of MPI calls end the program: that is MPI_COMM_WORLD's error handler as it is set at the start. */

/* ---- Waiting ------------------------------------------------------------------------------------------------- */

/* Until a request is done, and MPI_Wait returns at once: MPICH's own waits keep the core. */
static void yield_until(MPI_Request *request)
{
    int done = 0;
    MPI_Test(request, &done, MPI_STATUS_IGNORE);
    while (done == 0) {
        (void)sched_yield();
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
    }
}

void mpi_exchange_meet(bool yields)
{
    MPI_Request request;
    if (!yields) {
        MPI_Barrier(MPI_COMM_WORLD);
        return;
    }
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    yield_until(&request);
    /* The analyser does not follow the request there. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
    MPI_Wait(&request, MPI_STATUS_IGNORE);
}

/* MPI_Alltoallv of rows to and from all ranks. */
struct rows_move {
    const void *from;
    const int *from_counts;
    const int *from_offsets;
    void *to;
    const int *to_counts;
    const int *to_offsets;
    MPI_Datatype type;
};

static void move_rows(const struct mpi_exchange *exchange, const struct rows_move *rows)
{
    MPI_Request request;
    if (!exchange->yields) {
        MPI_Alltoallv(rows->from, rows->from_counts, rows->from_offsets, rows->type, rows->to, rows->to_counts,
                      rows->to_offsets, rows->type, MPI_COMM_WORLD);
        return;
    }
    MPI_Ialltoallv(rows->from, rows->from_counts, rows->from_offsets, rows->type, rows->to, rows->to_counts,
                   rows->to_offsets, rows->type, MPI_COMM_WORLD, &request);
    yield_until(&request);
    /* The analyser does not follow the request there. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
    MPI_Wait(&request, MPI_STATUS_IGNORE);
}

/* ---- Dispatch ------------------------------------------------------------------------------------------------ */

static void exchange_counts(struct mpi_exchange *exchange)
{
    const struct bench_case *bench = exchange->bench;
    size_t copies = (size_t)(bench->token_count * bench->topk);
    memset(exchange->send_counts, 0, (size_t)bench->expert_count * sizeof *exchange->send_counts);
    for (size_t i = 0; i < copies; i++) {
        exchange->send_counts[exchange->tokens.expert_ids[i]]++;
    }
    if (!exchange->yields) {
        MPI_Alltoall(exchange->send_counts, exchange->local_experts, MPI_INT, exchange->recv_counts,
                     exchange->local_experts, MPI_INT, MPI_COMM_WORLD);
        return;
    }
    MPI_Request request;
    MPI_Ialltoall(exchange->send_counts, exchange->local_experts, MPI_INT, exchange->recv_counts,
                  exchange->local_experts, MPI_INT, MPI_COMM_WORLD, &request);
    yield_until(&request);
    /* The analyser does not follow the request there. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
    MPI_Wait(&request, MPI_STATUS_IGNORE);
}

/* Rows to and from each rank, and where they begin; returns how many arrive. */
static int lay_out(struct mpi_exchange *exchange)
{
    int sent = 0;
    int received = 0;
    for (int r = 0; r < exchange->rank_count; r++) {
        exchange->to_offsets[r] = sent;
        exchange->from_offsets[r] = received;
        for (int l = r * exchange->local_experts; l < (r + 1) * exchange->local_experts; l++) {
            exchange->cursors[l] = sent;
            sent += exchange->send_counts[l];
            received += exchange->recv_counts[l];
        }
        exchange->to_counts[r] = sent - exchange->to_offsets[r];
        exchange->from_counts[r] = received - exchange->from_offsets[r];
    }
    return received;
}

static void permute_plain(struct mpi_exchange *exchange, const struct epx_kernel_table *kernels)
{
    const struct bench_case *bench = exchange->bench;
    for (int64_t t = 0; t < bench->token_count; t++) {
        const uint16_t *token = exchange->tokens.x + t * bench->hidden_elems;
        for (int64_t i = t * bench->topk; i < (t + 1) * bench->topk; i++) {
            int place = exchange->cursors[exchange->tokens.expert_ids[i]]++;
            exchange->places[i] = place;
            kernels->copy_row(exchange->send_rows + (size_t)place * exchange->wire_row_bytes, token,
                              exchange->wire_row_bytes);
        }
    }
}

/* Each token is quantised once, into the row of its first copy, which the others are copied from. */
static void permute_quantized(struct mpi_exchange *exchange, const struct epx_kernel_table *kernels)
{
    const struct bench_case *bench = exchange->bench;
    size_t hidden = (size_t)bench->hidden_elems;
    size_t scale_offset = exchange->wire_row_bytes - sizeof(float);
    for (int64_t t = 0; t < bench->token_count; t++) {
        const uint16_t *token = exchange->tokens.x + (size_t)t * hidden;
        unsigned char *first = NULL;
        for (int64_t i = t * bench->topk; i < (t + 1) * bench->topk; i++) {
            int place = exchange->cursors[exchange->tokens.expert_ids[i]]++;
            unsigned char *row = exchange->send_rows + (size_t)place * exchange->wire_row_bytes;
            exchange->places[i] = place;
            if (first != NULL) {
                kernels->copy_row(row, first, exchange->wire_row_bytes);
                continue;
            }
            first = row;
            float scale = kernels->quantize_row[bench->dtype]((int8_t *)row, token, NULL, hidden);
            memcpy(row + scale_offset, &scale, sizeof scale);
        }
    }
}

/* Received rows from [row, row + count) to [to, ...) of expand_x. */
static void regroup_block(struct mpi_exchange *exchange, const struct epx_kernel_table *kernels, int row, int to,
                          int count)
{
    size_t scale_offset = exchange->wire_row_bytes - sizeof(float);
    for (int i = 0; i < count; i++) {
        const unsigned char *from = exchange->recv_rows + (size_t)(row + i) * exchange->wire_row_bytes;
        kernels->copy_row(exchange->expand_x + (size_t)(to + i) * exchange->received_row_bytes, from,
                          exchange->received_row_bytes);
        if (exchange->bench->quantize) {
            memcpy(&exchange->scales[to + i], from + scale_offset, sizeof(float));
        }
    }
}

/* With one local expert the order by source rank is the final one. */
static bool is_ordered(const struct mpi_exchange *exchange)
{
    return exchange->local_experts == 1;
}

static void regroup(struct mpi_exchange *exchange, const struct epx_kernel_table *kernels)
{
    int to = 0;
    memcpy(exchange->cursors, exchange->from_offsets, (size_t)exchange->rank_count * sizeof *exchange->cursors);
    for (int l = 0; l < exchange->local_experts; l++) {
        int before = to;
        for (int r = 0; r < exchange->rank_count; r++) {
            int count = exchange->recv_counts[r * exchange->local_experts + l];
            if (exchange->expand_x != exchange->recv_rows) {
                regroup_block(exchange, kernels, exchange->cursors[r], to, count);
            }
            exchange->cursors[r] += count;
            to += count;
        }
        exchange->expert_rows[l] = to - before;
    }
}

void mpi_exchange_dispatch(struct mpi_exchange *exchange)
{
    const struct epx_kernel_table *kernels = epx_kernels();
    exchange_counts(exchange);
    exchange->row_count = lay_out(exchange);
    if (exchange->bench->quantize) {
        permute_quantized(exchange, kernels);
    } else {
        permute_plain(exchange, kernels);
    }
    const struct rows_move rows = {.from = exchange->send_rows,
                                   .from_counts = exchange->to_counts,
                                   .from_offsets = exchange->to_offsets,
                                   .to = exchange->recv_rows,
                                   .to_counts = exchange->from_counts,
                                   .to_offsets = exchange->from_offsets,
                                   .type = exchange->wire_row};
    move_rows(exchange, &rows);
    regroup(exchange, kernels);
}

/* ---- Combine ------------------------------------------------------------------------------------------------- */

/* The experts' rows back to the order in which they came. */
static void ungroup(struct mpi_exchange *exchange, const struct epx_kernel_table *kernels)
{
    size_t hidden = (size_t)exchange->bench->hidden_elems;
    const uint16_t *from = exchange->expert_out;
    memcpy(exchange->cursors, exchange->from_offsets, (size_t)exchange->rank_count * sizeof *exchange->cursors);
    for (int l = 0; l < exchange->local_experts; l++) {
        for (int r = 0; r < exchange->rank_count; r++) {
            int count = exchange->recv_counts[r * exchange->local_experts + l];
            for (int i = 0; i < count; i++, from += hidden) {
                kernels->copy_row(exchange->returned_send + (size_t)exchange->cursors[r]++ * hidden, from,
                                  exchange->returned_row_bytes);
            }
        }
    }
}

static void sum_tokens(struct mpi_exchange *exchange, const struct epx_kernel_table *kernels)
{
    const struct bench_case *bench = exchange->bench;
    size_t hidden = (size_t)bench->hidden_elems;
    for (int64_t t = 0; t < bench->token_count; t++) {
        const int *places = exchange->places + t * bench->topk;
        for (int64_t k = 0; k < bench->topk; k++) {
            exchange->summands[k] = exchange->returned_recv + (size_t)places[k] * hidden;
        }
        kernels->weighted_sum_row[bench->dtype](exchange->y + (size_t)t * hidden, exchange->summands,
                                                exchange->tokens.weights + t * bench->topk, (size_t)bench->topk, NULL,
                                                hidden);
    }
}

void mpi_exchange_combine(struct mpi_exchange *exchange)
{
    const struct epx_kernel_table *kernels = epx_kernels();
    if (exchange->returned_send != exchange->expert_out) {
        ungroup(exchange, kernels);
    }
    const struct rows_move rows = {.from = exchange->returned_send,
                                   .from_counts = exchange->from_counts,
                                   .from_offsets = exchange->from_offsets,
                                   .to = exchange->returned_recv,
                                   .to_counts = exchange->to_counts,
                                   .to_offsets = exchange->to_offsets,
                                   .type = exchange->returned_row};
    move_rows(exchange, &rows);
    sum_tokens(exchange, kernels);
}

/* ---- Buffers ------------------------------------------------------------------------------------------------- */

/* Touched, so that no page is first met in a round. At least one element. */
static void *allocate(size_t count, size_t size)
{
    void *memory = NULL;
    size_t bytes = 0;
    count += count == 0 ? 1 : 0;
    if (__builtin_mul_overflow(count, size, &bytes) || posix_memalign(&memory, 64, bytes) != 0) {
        (void)fprintf(stderr, "no memory for %zu elements of %zu bytes\n", count, size);
        MPI_Abort(MPI_COMM_WORLD, 1);
        abort();
    }
    memset(memory, 0, bytes);
    return memory;
}

static MPI_Datatype row_type(size_t bytes)
{
    MPI_Datatype type;
    MPI_Type_contiguous((int)bytes, MPI_BYTE, &type);
    MPI_Type_commit(&type);
    return type;
}

static void create_routing(struct mpi_exchange *exchange)
{
    const struct bench_case *bench = exchange->bench;
    size_t copies = (size_t)(bench->token_count * bench->topk);
    size_t ranks = (size_t)exchange->rank_count;
    size_t experts = (size_t)bench->expert_count;
    exchange->send_counts = allocate(experts, sizeof *exchange->send_counts);
    exchange->recv_counts = allocate(experts, sizeof *exchange->recv_counts);
    exchange->cursors = allocate(experts, sizeof *exchange->cursors);
    exchange->places = allocate(copies, sizeof *exchange->places);
    exchange->to_counts = allocate(ranks, sizeof *exchange->to_counts);
    exchange->to_offsets = allocate(ranks, sizeof *exchange->to_offsets);
    exchange->from_counts = allocate(ranks, sizeof *exchange->from_counts);
    exchange->from_offsets = allocate(ranks, sizeof *exchange->from_offsets);
    exchange->expert_rows = allocate((size_t)exchange->local_experts, sizeof *exchange->expert_rows);
    exchange->summands = allocate((size_t)bench->topk, sizeof *exchange->summands);
}

static void create_rows(struct mpi_exchange *exchange)
{
    const struct bench_case *bench = exchange->bench;
    size_t copies = (size_t)(bench->token_count * bench->topk);
    exchange_counts(exchange);
    size_t arriving = (size_t)lay_out(exchange);
    exchange->send_rows = allocate(copies, exchange->wire_row_bytes);
    exchange->recv_rows = allocate(arriving, exchange->wire_row_bytes);
    exchange->expand_x = exchange->recv_rows;
    if (bench->quantize || !is_ordered(exchange)) {
        exchange->expand_x = allocate(arriving, exchange->received_row_bytes);
    }
    if (bench->quantize) {
        exchange->scales = allocate(arriving, sizeof *exchange->scales);
    }
    exchange->expert_out = allocate(arriving, exchange->returned_row_bytes);
    exchange->returned_send = exchange->expert_out;
    if (!is_ordered(exchange)) {
        exchange->returned_send = allocate(arriving, exchange->returned_row_bytes);
    }
    exchange->returned_recv = allocate(copies, exchange->returned_row_bytes);
    exchange->y = allocate((size_t)bench->token_count, exchange->returned_row_bytes);
}

void mpi_exchange_create(struct mpi_exchange *exchange, const struct bench_case *bench, const struct mpi_tokens *tokens)
{
    size_t hidden = (size_t)bench->hidden_elems;
    *exchange = (struct mpi_exchange){.yields = exchange->yields,
                                      .bench = bench,
                                      .tokens = *tokens,
                                      .rank_count = (int)bench->rank_count,
                                      .local_experts = (int)(bench->expert_count / bench->rank_count),
                                      .returned_row_bytes = hidden * sizeof(uint16_t)};
    exchange->received_row_bytes = bench->quantize ? hidden : hidden * sizeof(uint16_t);
    exchange->wire_row_bytes = bench->quantize
                                   ? (hidden + sizeof(float) - 1) / sizeof(float) * sizeof(float) + sizeof(float)
                                   : hidden * sizeof(uint16_t);
    exchange->wire_row = row_type(exchange->wire_row_bytes);
    exchange->returned_row = row_type(exchange->returned_row_bytes);
    create_routing(exchange);
    create_rows(exchange);
}

void mpi_exchange_destroy(struct mpi_exchange *exchange)
{
    if (exchange->expand_x != exchange->recv_rows) {
        free(exchange->expand_x);
    }
    if (exchange->returned_send != exchange->expert_out) {
        free(exchange->returned_send);
    }
    void *const buffers[] = {
        exchange->send_counts, exchange->recv_counts,   exchange->cursors,          exchange->places,
        exchange->to_counts,   exchange->to_offsets,    exchange->from_counts,      exchange->from_offsets,
        exchange->send_rows,   exchange->recv_rows,     exchange->scales,           exchange->expert_rows,
        exchange->expert_out,  exchange->returned_recv, (void *)exchange->summands, exchange->y};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        free(buffers[i]);
    }
    MPI_Type_free(&exchange->wire_row);
    MPI_Type_free(&exchange->returned_row);
}
