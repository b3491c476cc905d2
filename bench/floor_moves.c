#include "floor_moves.h"

static enum epx_row_format format_of(const struct bench_case *bench)
{
    return bench->dtype == BENCH_BF16 ? EPX_ROW_BF16 : EPX_ROW_FP16;
}

static const struct floor_rank *peer_of(const struct floor_member *rank, int64_t peer)
{
    return &rank->layout->ranks[peer];
}

struct share {
    int64_t first;
    int64_t end;
};

/* This worker's part of `count` tokens or rows. */
static struct share share_of(const struct floor_member *rank, int64_t count)
{
    int64_t workers = rank->worker_count;
    return (struct share){.first = count * rank->worker / workers, .end = count * (rank->worker + 1) / workers};
}

/* ---- Operations ---------------------------------------------------------------------------------------------- */

static void quantize_token(const struct floor_member *rank, int64_t token)
{
    const struct bench_case *bench = rank->layout->bench;
    size_t at = (size_t)(token * bench->hidden_elems);
    float *scales = (float *)(void *)(rank->tensors + rank->mine->scales);
    scales[token] = rank->kernels->quantize_row[format_of(bench)](
        (int8_t *)rank->tensors + rank->mine->quantized + at,
        (const uint16_t *)(const void *)(rank->tensors + rank->mine->x) + at, NULL, (size_t)bench->hidden_elems);
}

/* The row that travels for a token, in its owner's memory. */
static const char *travelling_row(const struct floor_member *rank, const struct floor_rank *owner, int64_t token)
{
    size_t first = rank->layout->bench->quantize ? owner->quantized : owner->x;
    return rank->tensors + first + (size_t)token * rank->layout->row_bytes;
}

static void pull_rows(const struct floor_member *rank, bool streaming)
{
    const struct floor_layout *layout = rank->layout;
    float *row_scales = (float *)(void *)(rank->tensors + rank->mine->row_scales);
    struct share rows = share_of(rank, rank->mine->row_count);
    char *to = rank->tensors + rank->mine->expand_x + (size_t)rows.first * layout->row_bytes;
    for (int64_t row = rows.first; row < rows.end; row++, to += layout->row_bytes) {
        const struct floor_row *wanted = &rank->mine->rows[row];
        const struct floor_rank *owner = peer_of(rank, wanted->source);
        const char *from = travelling_row(rank, owner, wanted->token);
        if (streaming) {
            rank->kernels->copy_row_streaming(to, from, layout->row_bytes);
        } else {
            rank->kernels->copy_row(to, from, layout->row_bytes);
        }
        if (layout->bench->quantize) {
            row_scales[row] = ((const float *)(const void *)(rank->tensors + owner->scales))[wanted->token];
        }
    }
}

static void push_token(const struct floor_member *rank, int64_t token)
{
    const struct floor_layout *layout = rank->layout;
    const struct bench_case *bench = layout->bench;
    const char *from = travelling_row(rank, rank->mine, token);
    const float *scales = (const float *)(const void *)(rank->tensors + rank->mine->scales);
    for (int64_t i = token * bench->topk; i < (token + 1) * bench->topk; i++) {
        const struct floor_rank *owner = peer_of(rank, rank->mine->expert_ids[i] / layout->local_experts);
        int64_t place = rank->mine->places[i];
        rank->kernels->copy_row_streaming(rank->tensors + owner->expand_x + (size_t)place * layout->row_bytes, from,
                                          layout->row_bytes);
        if (bench->quantize) {
            ((float *)(void *)(rank->tensors + owner->row_scales))[place] = scales[token];
        }
    }
}

void floor_dispatch(const struct floor_member *rank, enum floor_variant variant)
{
    const struct bench_case *bench = rank->layout->bench;
    struct share tokens = share_of(rank, bench->token_count);
    for (int64_t token = tokens.first; bench->quantize && variant != FLOOR_PUSH_NT && token < tokens.end; token++) {
        quantize_token(rank, token);
    }
    bench_meet(rank->member);
    if (variant != FLOOR_PUSH_NT) {
        pull_rows(rank, variant == FLOOR_PULL_NT);
    }
    for (int64_t token = tokens.first; variant == FLOOR_PUSH_NT && token < tokens.end; token++) {
        if (bench->quantize) {
            quantize_token(rank, token);
        }
        push_token(rank, token);
    }
    epx_kernel_store_fence();
    bench_meet(rank->member);
}

void floor_combine(const struct floor_member *rank, bool streaming)
{
    const struct bench_case *bench = rank->layout->bench;
    uint16_t *y = (uint16_t *)(void *)(rank->tensors + rank->mine->y);
    struct share tokens = share_of(rank, bench->token_count);
    bench_meet(rank->member);
    for (int64_t token = tokens.first; token < tokens.end; token++) {
        int64_t first = token * bench->topk;
        for (int64_t k = 0; k < bench->topk; k++) {
            const struct floor_rank *owner =
                peer_of(rank, rank->mine->expert_ids[first + k] / rank->layout->local_experts);
            rank->summands[k] = (const uint16_t *)(const void *)(rank->tensors + owner->expert_out) +
                                rank->mine->places[first + k] * bench->hidden_elems;
        }
        (streaming ? rank->kernels->weighted_sum_row_streaming : rank->kernels->weighted_sum_row)[format_of(bench)](
            y + token * bench->hidden_elems, rank->summands, rank->mine->weights + first, (size_t)bench->topk, NULL,
            (size_t)bench->hidden_elems);
    }
    epx_kernel_store_fence();
    bench_meet(rank->member);
}

/* What the layers around an exchange do is done by the first worker. */
void floor_experts(const struct floor_member *rank)
{
    const struct floor_layout *layout = rank->layout;
    const float *row_scales = (const float *)(const void *)(rank->tensors + rank->mine->row_scales);
    uint16_t *out = (uint16_t *)(void *)(rank->tensors + rank->mine->expert_out);
    int64_t row = 0;
    for (int64_t local = 0; rank->worker == 0 && local < layout->local_experts; local++) {
        int64_t expert = rank->index * layout->local_experts + local;
        for (int64_t i = 0; i < rank->mine->expert_rows[local]; i++, row++) {
            bench_expert_row(layout->bench, expert,
                             rank->tensors + rank->mine->expand_x + (size_t)row * layout->row_bytes,
                             layout->bench->quantize ? row_scales[row] : 1.0f, out + row * layout->bench->hidden_elems);
        }
    }
}

void floor_touch(const struct floor_member *rank)
{
    const struct bench_case *bench = rank->layout->bench;
    if (rank->worker == 0) {
        bench_touch(rank->tensors + rank->mine->x,
                    (size_t)(bench->token_count * bench->hidden_elems) * sizeof(uint16_t));
    }
}
