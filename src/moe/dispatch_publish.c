/*
 * Before ENTER: this rank routes its own copies and makes its rows readable for its peers.
 */
#include "base/fault.h"
#include "moe/dispatch_plan.h"
#include "moe/routing.h"
#include "moe/view.h"

#include <string.h>

static int32_t *piece_i32(const struct epx_dispatch_plan *plan, uint64_t at)
{
    return (int32_t *)(void *)(plan->exchange + at);
}

static struct epx_routing own_routing(const struct epx_dispatch_plan *plan)
{
    struct epx_routing routing = {
        .offsets = piece_i32(plan, plan->layout.offsets_at),
        .sorted = piece_i32(plan, plan->layout.sorted_at),
        .occurrence = piece_i32(plan, plan->layout.occurrence_at),
    };
    return routing;
}

static enum epx_status route(struct epx_dispatch_run *run)
{
    struct epx_dispatch_plan *plan = run->plan;
    struct epx_routing routing = own_routing(plan);
    int64_t topk = plan->world.topk;
    int32_t *ids = piece_i32(plan, plan->layout.ids_at);
    epx_view_gather(&run->tensors->expert_ids, run->token_count, ids);
    int64_t bad = epx_routing_compute(ids, run->token_count * topk, plan->world.expert_count, &routing);
    if (bad >= 0) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_EXPERT_ID,
                               "rank %lld: expertIds[%lld][%lld] is %d, must be in [0, %lld)",
                               (long long)plan->world.rank, (long long)(bad / topk), (long long)(bad % topk), ids[bad],
                               (long long)plan->world.expert_count);
    }
    return EPX_OK;
}

/* Two-level: for each copy, in the order of `sorted`, the weight of its expert's first place in the token. */
static void publish_weights(struct epx_dispatch_run *run, struct epx_exchange_header *header)
{
    struct epx_dispatch_plan *plan = run->plan;
    const struct epx_routing routing = own_routing(plan);
    const int32_t *ids = piece_i32(plan, plan->layout.ids_at);
    int64_t topk = plan->world.topk;
    uint8_t *weights = plan->exchange + plan->layout.weights_at;
    header->weights_at = plan->layout.weights_at;
    for (int64_t place = 0; place < run->token_count * topk; place++) {
        int64_t copy = routing.sorted[place];
        int64_t first = copy - copy % topk;
        while (ids[first] != ids[copy]) {
            first++;
        }
        const uint8_t *row = epx_view_row(&run->tensors->expert_scales, first / topk);
        uint64_t column = (uint64_t)(first % topk) * (uint64_t)run->tensors->expert_scales.stride[1];
        memcpy(weights + (uint64_t)place * sizeof(float), row + column * sizeof(float), sizeof(float));
    }
}

/* Row of x as dense memory. */
static const uint16_t *token_row(const struct epx_dispatch_run *run, const struct epx_dispatch_lane *lane,
                                 int64_t token)
{
    const struct epx_view *x = &run->tensors->x;
    if (epx_view_rows_direct(x)) {
        return epx_view_row(x, token);
    }
    epx_view_gather_row(x, token, lane->token_row);
    return lane->token_row;
}

static const float *smooth_row(const struct epx_dispatch_run *run, const struct epx_dispatch_lane *lane, int64_t row)
{
    const struct epx_view *scales = &run->tensors->smooth_scales;
    if (epx_view_rows_direct(scales)) {
        return epx_view_row(scales, row);
    }
    epx_view_gather_row(scales, row, lane->smooth_row);
    return lane->smooth_row;
}

/* A set of quantised rows in the own arena. */
struct row_target {
    int8_t *rows;
    float *scales;
};

/* How the rows of a run are quantised by its threads. */
struct quantization {
    const struct epx_dispatch_run *run;
    struct row_target rows;
    struct row_target shared_rows; /* with smooth scales and a shared expert, else null */
};

static void quantize(const struct epx_dispatch_run *run, const struct row_target *target, int64_t place,
                     const uint16_t *row, const float *smooth)
{
    const struct epx_dispatch_plan *plan = run->plan;
    int8_t *dst = target->rows + (uint64_t)place * plan->layout.row_pitch_bytes;
    target->scales[place] =
        run->kernels->quantize_row[plan->request.shape.dtype](dst, row, smooth, (size_t)plan->world.hidden_elems);
}

/* Places [first, end) of one row a copy, since each expert scales in its own way. */
static void quantize_copies(const struct quantization *work, const struct epx_dispatch_lane *lane, int64_t first,
                            int64_t end)
{
    const struct epx_dispatch_run *run = work->run;
    const struct epx_dispatch_plan *plan = run->plan;
    const struct epx_routing routing = own_routing(plan);
    int64_t first_scale_row = plan->world.shared_count > 0 ? 1 : 0;
    for (int64_t expert = 0; expert < plan->world.expert_count; expert++) {
        int64_t place = routing.offsets[expert] > first ? routing.offsets[expert] : first;
        int64_t stop = routing.offsets[expert + 1] < end ? routing.offsets[expert + 1] : end;
        if (place >= stop) {
            continue;
        }
        const float *smooth = smooth_row(run, lane, expert + first_scale_row);
        for (; place < stop; place++) {
            quantize(run, &work->rows, place, token_row(run, lane, routing.sorted[place] / plan->world.topk), smooth);
        }
    }
}

static enum epx_status quantize_lane(void *context, uint32_t lane_index, uint32_t lane_count)
{
    const struct quantization *work = context;
    const struct epx_dispatch_run *run = work->run;
    const struct epx_dispatch_lane *lane = &run->plan->lanes[lane_index];
    int64_t first = epx_team_share(run->token_count, lane_index, lane_count);
    int64_t end = epx_team_share(run->token_count, lane_index + 1, lane_count);
    if (!run->plan->smooth) {
        for (int64_t token = first; token < end; token++) {
            quantize(run, &work->rows, token, token_row(run, lane, token), NULL);
        }
        return EPX_OK;
    }
    int64_t copies = run->token_count * run->plan->world.topk;
    quantize_copies(work, lane, epx_team_share(copies, lane_index, lane_count),
                    epx_team_share(copies, lane_index + 1, lane_count));
    const float *smooth = work->shared_rows.rows != NULL && first < end ? smooth_row(run, lane, 0) : NULL;
    for (int64_t token = first; smooth != NULL && token < end; token++) {
        quantize(run, &work->shared_rows, token, token_row(run, lane, token), smooth);
    }
    return EPX_OK;
}

static struct epx_published_rows published(const struct epx_dispatch_plan *plan, uint64_t rows_at, uint64_t scales_at,
                                           int64_t row_count)
{
    struct epx_published_rows rows = {0};
    if (row_count > 0) {
        uint64_t base = epx_arena_place_of(plan->quantized_rows);
        rows.offset = base + rows_at;
        rows.pitch_bytes = plan->layout.row_pitch_bytes;
        rows.row_count = row_count;
        rows.scales_offset = base + scales_at;
    }
    return rows;
}

static enum epx_status publish_quantized(struct epx_dispatch_run *run, struct epx_exchange_header *header)
{
    struct epx_dispatch_plan *plan = run->plan;
    const struct epx_dispatch_layout *layout = &plan->layout;
    int64_t row_count = plan->smooth ? run->token_count * plan->world.topk : run->token_count;
    struct quantization work = {
        .run = run,
        .rows = {(int8_t *)(plan->quantized_rows + layout->rows_at),
                 (float *)(void *)(plan->quantized_rows + layout->scales_at)},
    };
    header->rows = published(plan, layout->rows_at, layout->scales_at, row_count);
    header->shared_rows = header->rows;
    if (plan->smooth && layout->shared_row_count > 0) {
        work.shared_rows.rows = (int8_t *)(plan->quantized_rows + layout->shared_rows_at);
        work.shared_rows.scales = (float *)(void *)(plan->quantized_rows + layout->shared_scales_at);
        header->shared_rows = published(plan, layout->shared_rows_at, layout->shared_scales_at, run->token_count);
        row_count += run->token_count;
    }
    EPX_TRY(epx_rounds_need(&run->rounds, "the quantised rows", plan->quantized_rows,
                            row_count > 0 ? layout->quantized_bytes : 0));
    const struct epx_team_task task = {.run = quantize_lane, .context = &work};
    uint64_t bytes = (uint64_t)row_count * (uint64_t)plan->world.hidden_elems * sizeof(uint16_t);
    enum epx_status status = epx_team_run(&plan->team, epx_team_lanes(&plan->team, bytes), &task);
    if (status != EPX_OK) {
        return epx_rounds_fail(&run->rounds, status, "%s", epx_error_text());
    }
    run->stats.bytes_read += (int64_t)bytes;
    run->stats.bytes_written += row_count * (int64_t)(plan->row_bytes + sizeof(float));
    return EPX_OK;
}

static bool publish_in_place(struct epx_dispatch_run *run, struct epx_published_rows *rows)
{
    const struct epx_view *x = &run->tensors->x;
    uint64_t bytes;
    if (!epx_view_rows_direct(x) || !epx_view_rows_extent_bytes(x, run->token_count, &bytes) ||
        !epx_arena_offset_of(x->data, bytes, &rows->offset)) {
        return false;
    }
    rows->pitch_bytes = (uint64_t)x->stride[0] * sizeof(uint16_t);
    return true;
}

static enum epx_status publish_plain(struct epx_dispatch_run *run, struct epx_exchange_header *header)
{
    const struct epx_dispatch_plan *plan = run->plan;
    struct epx_published_rows rows = {.row_count = run->token_count};
    if (run->token_count == 0) {
        return EPX_OK;
    }
    if (!publish_in_place(run, &rows)) {
        /* Without staging memory x was in the arena when it was bound. */
        uint8_t *copies = atomic_load_explicit(&plan->plain_rows, memory_order_acquire);
        if (copies == NULL) {
            return epx_rounds_fail(&run->rounds, EPX_ERR_STATE, "rank %lld: the memory of x was freed",
                                   (long long)plan->world.rank);
        }
        rows.offset = epx_arena_place_of(copies);
        rows.pitch_bytes = plan->layout.plain_pitch_bytes;
        EPX_TRY(epx_rounds_need(&run->rounds, "the copy of x", copies, (uint64_t)run->token_count * rows.pitch_bytes));
        for (int64_t token = 0; token < run->token_count; token++) {
            epx_view_gather_row(&run->tensors->x, token, copies + (uint64_t)token * rows.pitch_bytes);
        }
        run->stats.bytes_read += run->token_count * (int64_t)plan->row_bytes;
        run->stats.bytes_written += run->token_count * (int64_t)plan->row_bytes;
    }
    header->rows = rows;
    header->shared_rows = rows;
    return EPX_OK;
}

/* To read memory brings its pages in, too. */
static enum epx_status need_inputs(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_tensors *tensors = run->tensors;
    EPX_TRY(epx_rounds_need_rows(&run->rounds, "x", &tensors->x, run->token_count));
    EPX_TRY(epx_rounds_need_rows(&run->rounds, "expertIds", &tensors->expert_ids, run->token_count));
    if (run->plan->smooth) {
        EPX_TRY(epx_rounds_need_rows(&run->rounds, "scales", &tensors->smooth_scales,
                                     epx_view_row_count(&tensors->smooth_scales)));
    }
    return run->weights ? epx_rounds_need_rows(&run->rounds, "expertScales", &tensors->expert_scales, run->token_count)
                        : EPX_OK;
}

enum epx_status epx_dispatch_publish(struct epx_dispatch_run *run, struct epx_publication *publication)
{
    struct epx_dispatch_plan *plan = run->plan;
    struct epx_exchange_header header;
    EPX_TRY(need_inputs(run));
    EPX_TRY(route(run));
    if (epx_fault("dispatch.route", (int)plan->world.rank)) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_INTERNAL, "rank %lld: fault dispatch.route",
                               (long long)plan->world.rank);
    }
    epx_exchange_header_init(&header, run->token_count);
    header.offsets_at = plan->layout.offsets_at;
    header.sorted_at = plan->layout.sorted_at;
    header.occurrence_at = plan->layout.occurrence_at;
    header.ids_at = plan->layout.ids_at;
    header.part_bytes = plan->part_bytes;
    if (run->weights) {
        publish_weights(run, &header);
    }
    if (plan->quantized) {
        EPX_TRY(publish_quantized(run, &header));
    } else {
        EPX_TRY(publish_plain(run, &header));
    }
    memcpy(plan->exchange, &header, sizeof header);
    publication->bytes = plan->layout.exchange_bytes;
    publication->offset = epx_arena_place_of(plan->exchange);
    run->stats.rows_sent = run->token_count * (plan->world.topk + (plan->world.shared_count > 0 ? 1 : 0));
    return EPX_OK;
}
