#include "floor_layout.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE_BYTES 4096

static bool create_routing(const struct floor_layout *layout, struct floor_rank *rank, int64_t index)
{
    const struct bench_case *bench = layout->bench;
    size_t copies = (size_t)(bench->token_count * bench->topk);
    rank->expert_ids = malloc(copies * sizeof *rank->expert_ids);
    rank->weights = malloc(copies * sizeof *rank->weights);
    rank->places = malloc(copies * sizeof *rank->places);
    rank->expert_rows = calloc((size_t)layout->local_experts, sizeof *rank->expert_rows);
    if (rank->expert_ids == NULL || rank->weights == NULL || rank->places == NULL || rank->expert_rows == NULL) {
        return false;
    }
    bench_inputs_routing(bench, index, rank->expert_ids, rank->weights);
    return true;
}

static int64_t copies_of(const struct bench_case *bench)
{
    return bench->token_count * bench->topk;
}

static void count_rows(struct floor_layout *layout)
{
    for (int64_t source = 0; source < layout->bench->rank_count; source++) {
        for (int64_t i = 0; i < copies_of(layout->bench); i++) {
            int64_t expert = layout->ranks[source].expert_ids[i];
            struct floor_rank *owner = &layout->ranks[expert / layout->local_experts];
            owner->expert_rows[expert % layout->local_experts]++;
            owner->row_count++;
        }
    }
}

/* First row of every expert in its owner's expandX. */
static void start_experts(const struct floor_layout *layout, int64_t *next_row)
{
    for (int64_t rank = 0; rank < layout->bench->rank_count; rank++) {
        int64_t row = 0;
        for (int64_t local = 0; local < layout->local_experts; local++) {
            next_row[rank * layout->local_experts + local] = row;
            row += layout->ranks[rank].expert_rows[local];
        }
    }
}

static bool place_rows(struct floor_layout *layout)
{
    const struct bench_case *bench = layout->bench;
    int64_t *next_row = malloc((size_t)bench->expert_count * sizeof *next_row);
    for (int64_t rank = 0; next_row != NULL && rank < bench->rank_count; rank++) {
        struct floor_rank *owner = &layout->ranks[rank];
        owner->rows = malloc((size_t)(owner->row_count + 1) * sizeof *owner->rows);
        if (owner->rows == NULL) {
            free(next_row);
            return false;
        }
    }
    if (next_row == NULL) {
        return false;
    }
    start_experts(layout, next_row);
    for (int64_t source = 0; source < bench->rank_count; source++) {
        for (int64_t i = 0; i < copies_of(bench); i++) {
            int64_t expert = layout->ranks[source].expert_ids[i];
            int64_t row = next_row[expert]++;
            layout->ranks[source].places[i] = (int32_t)row;
            layout->ranks[expert / layout->local_experts].rows[row] =
                (struct floor_row){.source = (int32_t)source, .token = (int32_t)(i / bench->topk)};
        }
    }
    free(next_row);
    return true;
}

static size_t reserve(size_t *next, size_t bytes)
{
    size_t at = *next;
    *next += (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return at;
}

static void lay_out(struct floor_layout *layout)
{
    const struct bench_case *bench = layout->bench;
    size_t hidden = (size_t)bench->hidden_elems;
    size_t tokens = (size_t)bench->token_count;
    size_t next = 0;
    for (int64_t rank = 0; rank < bench->rank_count; rank++) {
        struct floor_rank *mine = &layout->ranks[rank];
        size_t rows = (size_t)mine->row_count;
        mine->x = reserve(&next, tokens * hidden * sizeof(uint16_t));
        mine->quantized = reserve(&next, bench->quantize ? tokens * hidden : 0);
        mine->scales = reserve(&next, bench->quantize ? tokens * sizeof(float) : 0);
        mine->row_scales = reserve(&next, bench->quantize ? rows * sizeof(float) : 0);
        mine->expand_x = reserve(&next, rows * layout->row_bytes);
        mine->expert_out = reserve(&next, rows * hidden * sizeof(uint16_t));
        mine->y = reserve(&next, tokens * hidden * sizeof(uint16_t));
    }
    layout->shared_bytes = next;
}

bool floor_layout_create(struct floor_layout *layout, const struct bench_case *bench)
{
    *layout = (struct floor_layout){.bench = bench,
                                    .local_experts = bench->expert_count / bench->rank_count,
                                    .row_bytes = (size_t)bench->hidden_elems * (bench->quantize ? 1 : sizeof(uint16_t)),
                                    .ranks = calloc((size_t)bench->rank_count, sizeof *layout->ranks)};
    bool made = layout->ranks != NULL;
    for (int64_t rank = 0; made && rank < bench->rank_count; rank++) {
        made = create_routing(layout, &layout->ranks[rank], rank);
    }
    if (made) {
        count_rows(layout);
        made = place_rows(layout);
    }
    if (!made) {
        (void)fprintf(stderr, "no memory for the row lists\n");
        floor_layout_destroy(layout);
        return false;
    }
    lay_out(layout);
    return true;
}

void floor_layout_destroy(struct floor_layout *layout)
{
    for (int64_t rank = 0; layout->ranks != NULL && rank < layout->bench->rank_count; rank++) {
        free(layout->ranks[rank].expert_ids);
        free(layout->ranks[rank].weights);
        free(layout->ranks[rank].places);
        free(layout->ranks[rank].expert_rows);
        free(layout->ranks[rank].rows);
    }
    free(layout->ranks);
    layout->ranks = NULL;
}
