#include "moe/view.h"

#include "base/checked_math.h"

#include <string.h>

size_t epx_dtype_bytes(enum epx_dtype dtype)
{
    switch (dtype) {
    case EPX_DTYPE_FP16:
    case EPX_DTYPE_BF16: return 2;
    case EPX_DTYPE_FP32:
    case EPX_DTYPE_INT32: return 4;
    case EPX_DTYPE_INT8: return 1;
    case EPX_DTYPE_INT64: return 8;
    case EPX_DTYPE_COUNT: break;
    }
    return 0;
}

const char *epx_dtype_name(enum epx_dtype dtype)
{
    static const char *const names[EPX_DTYPE_COUNT] = {"float16", "bfloat16", "float32", "int8", "int32", "int64"};
    return (unsigned)dtype < EPX_DTYPE_COUNT ? names[dtype] : "unknown";
}

bool epx_view_empty(const struct epx_view *view)
{
    return view->shape[0] == 0 || epx_view_row_elems(view) == 0;
}

bool epx_view_rows_extent_bytes(const struct epx_view *view, int64_t row_count, uint64_t *bytes)
{
    int64_t row_elems = epx_view_row_elems(view);
    int64_t last_column = 0;
    int64_t elems;
    int64_t total;
    if (row_count < 0 || row_elems < 0 || view->stride[0] < 0) {
        return false;
    }
    if (row_count == 0 || row_elems == 0) {
        *bytes = 0;
        return true;
    }
    if (view->dim_count == 2 && !epx_mul_i64(row_elems - 1, view->stride[1], &last_column)) {
        return false;
    }
    if (!epx_mul_add_i64(row_count - 1, view->stride[0], last_column, &elems) || !epx_add_i64(elems, 1, &elems) ||
        !epx_mul_i64(elems, (int64_t)epx_dtype_bytes(view->dtype), &total)) {
        return false;
    }
    if ((uint64_t)total > UINTPTR_MAX - (uintptr_t)view->data) {
        return false;
    }
    *bytes = (uint64_t)total;
    return true;
}

bool epx_view_extent_bytes(const struct epx_view *view, uint64_t *bytes)
{
    return epx_view_rows_extent_bytes(view, view->shape[0], bytes);
}

bool epx_view_rows_dense(const struct epx_view *view)
{
    return view->dim_count == 2 ? view->stride[1] == 1 || view->shape[1] <= 1 : true;
}

bool epx_view_rows_direct(const struct epx_view *view)
{
    /* Rows are whole elements apart: what holds for the first one holds for all. */
    size_t elem_bytes = epx_dtype_bytes(view->dtype);
    return elem_bytes != 0 && epx_view_rows_dense(view) && (uintptr_t)view->data % elem_bytes == 0;
}

bool epx_view_dense(const struct epx_view *view)
{
    if (!epx_view_rows_dense(view)) {
        return false;
    }
    return view->shape[0] <= 1 || view->stride[0] == epx_view_row_elems(view);
}

bool epx_view_overlaps_itself(const struct epx_view *view)
{
    /* A dimension of one element needs no stride; two dimensions must nest. */
    bool moves_row = view->shape[0] > 1;
    bool moves_column = epx_view_row_elems(view) > 1;
    if (epx_view_empty(view)) {
        return false;
    }
    if ((moves_row && view->stride[0] == 0) || (moves_column && view->stride[1] == 0)) {
        return true;
    }
    if (!moves_row || !moves_column) {
        return false;
    }
    int64_t row_span = (view->shape[1] - 1) * view->stride[1];
    int64_t column_span = (view->shape[0] - 1) * view->stride[0];
    return view->stride[0] <= row_span && view->stride[1] <= column_span;
}

/* Whether two column slices of rows `pitch` bytes apart, each `row_bytes` wide, share no byte in any row. */
static bool slices_disjoint(uintptr_t a, uint64_t a_row_bytes, uintptr_t b, uint64_t b_row_bytes, uint64_t pitch)
{
    uint64_t distance = b >= a ? (b - a) % pitch : (pitch - (a - b) % pitch) % pitch;
    return a_row_bytes <= distance && b_row_bytes <= pitch - distance;
}

static bool is_slice(const struct epx_view *view, uint64_t pitch, uint64_t *row_bytes)
{
    return epx_view_rows_extent_bytes(view, 1, row_bytes) && *row_bytes <= pitch;
}

bool epx_view_overlaps(const struct epx_view *a, const struct epx_view *b)
{
    uint64_t a_bytes = 0;
    uint64_t b_bytes = 0;
    uintptr_t a_start = (uintptr_t)a->data;
    uintptr_t b_start = (uintptr_t)b->data;
    if (!epx_view_extent_bytes(a, &a_bytes) || !epx_view_extent_bytes(b, &b_bytes)) {
        return true;
    }
    if (a_bytes == 0 || b_bytes == 0 || a_start + a_bytes <= b_start || b_start + b_bytes <= a_start) {
        return false;
    }
    uint64_t a_pitch = (uint64_t)a->stride[0] * epx_dtype_bytes(a->dtype);
    uint64_t b_pitch = (uint64_t)b->stride[0] * epx_dtype_bytes(b->dtype);
    uint64_t a_row_bytes;
    uint64_t b_row_bytes;
    if (a->shape[0] <= 1 || b->shape[0] <= 1 || a_pitch != b_pitch || a_pitch == 0 ||
        !is_slice(a, a_pitch, &a_row_bytes) || !is_slice(b, b_pitch, &b_row_bytes)) {
        return true;
    }
    return !slices_disjoint(a_start, a_row_bytes, b_start, b_row_bytes, a_pitch);
}

void *epx_view_row(const struct epx_view *view, int64_t row)
{
    return (uint8_t *)view->data + (uint64_t)row * (uint64_t)view->stride[0] * epx_dtype_bytes(view->dtype);
}

/* `count` elements of `width` bytes; pitches in bytes. A constant width lets the compiler copy in registers. */
static inline void copy_fixed(uint8_t *dst, uint64_t dst_pitch, const uint8_t *src, uint64_t src_pitch, int64_t count,
                              size_t width)
{
    for (int64_t i = 0; i < count; i++) {
        memcpy(dst, src, width);
        dst += dst_pitch;
        src += src_pitch;
    }
}

static void copy_elems(void *dst, uint64_t dst_pitch, const void *src, uint64_t src_pitch, int64_t count, size_t width)
{
    if (dst_pitch == width && src_pitch == width) {
        if (count > 0) {
            memcpy(dst, src, (size_t)count * width);
        }
        return;
    }
    switch (width) {
    case 1: copy_fixed(dst, dst_pitch, src, src_pitch, count, 1); break;
    case 2: copy_fixed(dst, dst_pitch, src, src_pitch, count, 2); break;
    case 4: copy_fixed(dst, dst_pitch, src, src_pitch, count, 4); break;
    default: copy_fixed(dst, dst_pitch, src, src_pitch, count, 8); break;
    }
}

static uint64_t column_pitch_bytes(const struct epx_view *view)
{
    size_t width = epx_dtype_bytes(view->dtype);
    return view->dim_count == 2 ? (uint64_t)view->stride[1] * width : width;
}

void epx_view_gather_row(const struct epx_view *view, int64_t row, void *dst)
{
    size_t width = epx_dtype_bytes(view->dtype);
    copy_elems(dst, width, epx_view_row(view, row), column_pitch_bytes(view), epx_view_row_elems(view), width);
}

void epx_view_scatter_row(const struct epx_view *view, int64_t row, const void *src)
{
    size_t width = epx_dtype_bytes(view->dtype);
    copy_elems(epx_view_row(view, row), column_pitch_bytes(view), src, width, epx_view_row_elems(view), width);
}

void epx_view_gather(const struct epx_view *view, int64_t row_count, void *dst)
{
    size_t width = epx_dtype_bytes(view->dtype);
    if (view->dim_count == 1) {
        copy_elems(dst, width, view->data, (uint64_t)view->stride[0] * width, row_count, width);
        return;
    }
    uint64_t row_bytes = (uint64_t)view->shape[1] * width;
    for (int64_t row = 0; row < row_count; row++) {
        epx_view_gather_row(view, row, (uint8_t *)dst + (uint64_t)row * row_bytes);
    }
}

void epx_view_scatter(const struct epx_view *view, int64_t row_count, const void *src)
{
    size_t width = epx_dtype_bytes(view->dtype);
    if (view->dim_count == 1) {
        copy_elems(view->data, (uint64_t)view->stride[0] * width, src, width, row_count, width);
        return;
    }
    uint64_t row_bytes = (uint64_t)view->shape[1] * width;
    for (int64_t row = 0; row < row_count; row++) {
        epx_view_scatter_row(view, row, (const uint8_t *)src + (uint64_t)row * row_bytes);
    }
}
