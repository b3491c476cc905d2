#include "moe/layout.h"

#include "base/checked_math.h"

#include <string.h>

uint64_t epx_layout_take(struct epx_layout *layout, int64_t count, uint64_t elem_bytes)
{
    uint64_t place = layout->bytes;
    int64_t bytes;
    int64_t end;
    uint64_t rounded;
    if (elem_bytes > INT64_MAX || place > INT64_MAX || !epx_mul_i64(count, (int64_t)elem_bytes, &bytes) ||
        !epx_add_i64((int64_t)place, bytes, &end) || !epx_round_up_u64((uint64_t)end, EPX_LAYOUT_ALIGN, &rounded) ||
        rounded > INT64_MAX) {
        layout->overflowed = true;
        return 0;
    }
    layout->bytes = rounded;
    return place;
}

uint64_t epx_layout_row_pitch(uint64_t row_bytes)
{
    uint64_t pitch;
    return epx_round_up_u64(row_bytes, EPX_LAYOUT_ALIGN, &pitch) ? pitch : 0;
}

static bool lay_out_exchange(struct epx_dispatch_layout *layout, const struct epx_dispatch_sizes *sizes,
                             int64_t copy_count, uint64_t header_bytes)
{
    struct epx_layout region = {0};
    (void)epx_layout_take(&region, 1, header_bytes);
    layout->offsets_at = epx_layout_take(&region, sizes->expert_count + 1, sizeof(int32_t));
    layout->sorted_at = epx_layout_take(&region, copy_count, sizeof(int32_t));
    layout->occurrence_at = epx_layout_take(&region, copy_count, sizeof(int32_t));
    layout->ids_at = epx_layout_take(&region, copy_count, sizeof(int32_t));
    layout->weights_at = epx_layout_take(&region, sizes->two_level ? copy_count : 0, sizeof(float));
    layout->exchange_bytes = region.bytes;
    return !region.overflowed;
}

static bool lay_out_tp_exchange(struct epx_dispatch_layout *layout, const struct epx_dispatch_sizes *sizes,
                                uint64_t header_bytes)
{
    struct epx_layout region = {0};
    if (!sizes->tp) {
        return true;
    }
    (void)epx_layout_take(&region, 1, header_bytes);
    layout->tp_counts_at = epx_layout_take(&region, sizes->count_elems, sizeof(int32_t));
    layout->tp_scales_at = epx_layout_take(&region, sizes->quantized ? sizes->row_max : 0, sizeof(float));
    layout->tp_weights_at = epx_layout_take(&region, sizes->two_level ? sizes->row_max : 0, sizeof(float));
    layout->tp_exchange_bytes = region.bytes;
    return !region.overflowed;
}

static bool lay_out_quantized(struct epx_dispatch_layout *layout, const struct epx_dispatch_sizes *sizes,
                              int64_t copy_count)
{
    struct epx_layout region = {0};
    if (!sizes->quantized) {
        return true;
    }
    layout->row_pitch_bytes = epx_layout_row_pitch((uint64_t)sizes->hidden_elems);
    layout->row_count = sizes->smooth ? copy_count : sizes->token_count;
    layout->rows_at = epx_layout_take(&region, layout->row_count, layout->row_pitch_bytes);
    layout->scales_at = epx_layout_take(&region, layout->row_count, sizeof(float));
    layout->shared_row_count = sizes->smooth && sizes->shared ? sizes->token_count : 0;
    layout->shared_rows_at = epx_layout_take(&region, layout->shared_row_count, layout->row_pitch_bytes);
    layout->shared_scales_at = epx_layout_take(&region, layout->shared_row_count, sizeof(float));
    layout->quantized_bytes = region.bytes;
    return !region.overflowed;
}

/* Pitch and bytes of rows of 16-bit elements. */
static bool lay_out_rows(int64_t row_count, int64_t elems, uint64_t *pitch, uint64_t *bytes)
{
    struct epx_layout region = {0};
    int64_t row_bytes;
    if (!epx_mul_i64(elems, (int64_t)sizeof(uint16_t), &row_bytes)) {
        return false;
    }
    *pitch = epx_layout_row_pitch((uint64_t)row_bytes);
    (void)epx_layout_take(&region, row_count, *pitch);
    *bytes = region.bytes;
    return !region.overflowed;
}

bool epx_dispatch_layout_init(struct epx_dispatch_layout *layout, const struct epx_dispatch_sizes *sizes,
                              uint64_t header_bytes)
{
    int64_t copy_count;
    memset(layout, 0, sizeof *layout);
    return sizes->hidden_elems >= 0 && sizes->expert_count >= 0 && sizes->expert_count < INT64_MAX &&
           epx_mul_i64(sizes->token_count, sizes->topk, &copy_count) &&
           lay_out_exchange(layout, sizes, copy_count, header_bytes) &&
           lay_out_tp_exchange(layout, sizes, header_bytes) && lay_out_quantized(layout, sizes, copy_count) &&
           lay_out_rows(sizes->token_count, sizes->hidden_elems, &layout->plain_pitch_bytes, &layout->plain_bytes);
}

bool epx_combine_layout_init(struct epx_combine_layout *layout, const struct epx_combine_sizes *sizes,
                             uint64_t header_bytes)
{
    struct epx_layout region = {0};
    memset(layout, 0, sizeof *layout);
    (void)epx_layout_take(&region, 1, header_bytes);
    layout->tp_exchange_bytes = sizes->tp ? region.bytes : 0;
    layout->counts_at = epx_layout_take(&region, sizes->count_elems, sizeof(int32_t));
    layout->exchange_bytes = region.bytes;
    if (region.overflowed ||
        !lay_out_rows(sizes->row_max, sizes->hidden_elems, &layout->row_pitch_bytes, &layout->staged_bytes)) {
        return false;
    }
    layout->summed_bytes = sizes->tp ? layout->staged_bytes : 0;
    return true;
}
