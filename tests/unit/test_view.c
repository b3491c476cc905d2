#include "moe/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct epx_view matrix(void *data, enum epx_dtype dtype, int64_t rows, int64_t columns, int64_t row_stride,
                              int64_t column_stride)
{
    struct epx_view view = {
        .data = data, .dtype = dtype, .dim_count = 2, .shape = {rows, columns}, .stride = {row_stride, column_stride}};
    return view;
}

static struct epx_view vector(void *data, enum epx_dtype dtype, int64_t elems, int64_t stride)
{
    struct epx_view view = {.data = data, .dtype = dtype, .dim_count = 1, .shape = {elems}, .stride = {stride}};
    return view;
}

static void dtype__bytes_and_names(void **state)
{
    (void)state;
    assert_int_equal(epx_dtype_bytes(EPX_DTYPE_BF16), 2);
    assert_int_equal(epx_dtype_bytes(EPX_DTYPE_INT64), 8);
    assert_int_equal(epx_dtype_bytes((enum epx_dtype)99), 0);
    assert_string_equal(epx_dtype_name(EPX_DTYPE_INT8), "int8");
    assert_string_equal(epx_dtype_name((enum epx_dtype)99), "unknown");
    assert_string_equal(epx_dtype_name((enum epx_dtype) - 1), "unknown");
}

static void extent__sizes(void **state)
{
    uint64_t bytes = 1;
    struct epx_view view = matrix((void *)64, EPX_DTYPE_FP16, 3, 4, 10, 2);
    (void)state;
    assert_true(epx_view_extent_bytes(&view, &bytes));
    assert_int_equal(bytes, (2 * 10 + 3 * 2 + 1) * 2);
    assert_true(epx_view_rows_extent_bytes(&view, 1, &bytes));
    assert_int_equal(bytes, (3 * 2 + 1) * 2);
    assert_true(epx_view_rows_extent_bytes(&view, 0, &bytes));
    assert_int_equal(bytes, 0);
    view = matrix((void *)64, EPX_DTYPE_FP16, 1000, 1000, 0, 0);
    assert_true(epx_view_extent_bytes(&view, &bytes));
    assert_int_equal(bytes, 2);
    view = vector((void *)64, EPX_DTYPE_INT64, 0, 7);
    assert_true(epx_view_extent_bytes(&view, &bytes));
    assert_int_equal(bytes, 0);
}

static void extent__does_not_fit(void **state)
{
    uint64_t bytes;
    struct epx_view view = matrix(NULL, EPX_DTYPE_FP32, INT64_MAX, INT64_MAX, INT64_MAX, 1);
    (void)state;
    assert_false(epx_view_extent_bytes(&view, &bytes));
    view = vector(NULL, EPX_DTYPE_INT64, INT64_MAX / 4, 1);
    assert_false(epx_view_extent_bytes(&view, &bytes));
    view = vector((void *)(UINTPTR_MAX - 8), EPX_DTYPE_INT64, 2, 1);
    assert_false(epx_view_extent_bytes(&view, &bytes));
    view = vector((void *)64, EPX_DTYPE_INT64, 2, -1);
    assert_false(epx_view_extent_bytes(&view, &bytes));
    view = vector((void *)64, EPX_DTYPE_INT64, -2, 1);
    assert_false(epx_view_extent_bytes(&view, &bytes));
    view = matrix((void *)64, EPX_DTYPE_INT8, 2, 2, 2, -1);
    assert_false(epx_view_extent_bytes(&view, &bytes));
}

static void dense__rows_and_all(void **state)
{
    struct epx_view view = matrix(NULL, EPX_DTYPE_FP16, 3, 4, 4, 1);
    (void)state;
    assert_true(epx_view_rows_dense(&view) && epx_view_dense(&view));
    view.stride[0] = 9;
    assert_true(epx_view_rows_dense(&view) && !epx_view_dense(&view));
    view.stride[1] = 2;
    assert_false(epx_view_rows_dense(&view) || epx_view_dense(&view));
    /* Strides of dimensions with one element say nothing. */
    view = matrix(NULL, EPX_DTYPE_FP16, 3, 1, 1, 77);
    assert_true(epx_view_rows_dense(&view) && epx_view_dense(&view));
    view = matrix(NULL, EPX_DTYPE_FP16, 1, 4, 77, 1);
    assert_true(epx_view_dense(&view));
    view = vector(NULL, EPX_DTYPE_FP16, 3, 2);
    assert_false(epx_view_dense(&view));
}

static void overlaps_itself__cases(void **state)
{
    struct epx_view view = matrix(NULL, EPX_DTYPE_FP16, 3, 4, 4, 1);
    (void)state;
    assert_false(epx_view_overlaps_itself(&view));
    view = matrix(NULL, EPX_DTYPE_FP16, 3, 4, 3, 1);
    assert_true(epx_view_overlaps_itself(&view));
    view = matrix(NULL, EPX_DTYPE_FP16, 3, 4, 0, 1);
    assert_true(epx_view_overlaps_itself(&view));
    view = matrix(NULL, EPX_DTYPE_FP16, 3, 4, 1, 3); /* transposed */
    assert_false(epx_view_overlaps_itself(&view));
    view = matrix(NULL, EPX_DTYPE_FP16, 3, 4, 1, 2);
    assert_true(epx_view_overlaps_itself(&view));
    view = matrix(NULL, EPX_DTYPE_FP16, 1, 4, 0, 1);
    assert_false(epx_view_overlaps_itself(&view));
    view = matrix(NULL, EPX_DTYPE_FP16, 0, 4, 0, 0);
    assert_false(epx_view_overlaps_itself(&view));
    view = vector(NULL, EPX_DTYPE_FP16, 2, 0);
    assert_true(epx_view_overlaps_itself(&view));
}

/* Against marking every byte: all pairs of small views in one buffer must be told apart, or be called overlapping. For
 * slices with one stride and for dense views the answer must be exact. */
static void overlaps__against_bytes(void **state)
{
    static uint8_t buffer[128];
    static const int64_t strides[][2] = {{4, 1}, {8, 1}, {8, 2}, {5, 1}};
    (void)state;
    for (int a_kind = 0; a_kind < 4; a_kind++) {
        for (int b_kind = 0; b_kind < 4; b_kind++) {
            for (int64_t distance = 0; distance < 48; distance++) {
                struct epx_view a = matrix(buffer + 24, EPX_DTYPE_INT8, 4, 4, strides[a_kind][0], strides[a_kind][1]);
                struct epx_view b =
                    matrix(buffer + distance, EPX_DTYPE_INT8, 3, 3, strides[b_kind][0], strides[b_kind][1]);
                uint8_t marks[128] = {0};
                bool meet = false;
                for (int64_t i = 0; i < 16; i++) {
                    marks[24 + i / 4 * a.stride[0] + i % 4 * a.stride[1]] = 1;
                }
                for (int64_t i = 0; i < 9; i++) {
                    meet = meet || marks[distance + i / 3 * b.stride[0] + i % 3 * b.stride[1]] != 0;
                }
                bool exact = a_kind == b_kind && a.stride[1] == 1 && b.stride[1] == 1;
                if (meet) {
                    assert_true(epx_view_overlaps(&a, &b));
                    assert_true(epx_view_overlaps(&b, &a));
                } else if (exact && a.stride[0] == 8 && (distance % 8 == 4 || distance % 8 == 5)) {
                    assert_false(epx_view_overlaps(&a, &b));
                    assert_false(epx_view_overlaps(&b, &a));
                }
            }
        }
    }
}

static void overlaps__neighbours_and_empty(void **state)
{
    static uint8_t buffer[64];
    struct epx_view a = vector(buffer, EPX_DTYPE_INT32, 4, 1);
    struct epx_view b = vector(buffer + 16, EPX_DTYPE_INT32, 4, 1);
    (void)state;
    assert_false(epx_view_overlaps(&a, &b));
    b.data = buffer + 15;
    assert_true(epx_view_overlaps(&a, &b));
    b.shape[0] = 0;
    assert_false(epx_view_overlaps(&a, &b));
}

static void gather_scatter__all_widths(void **state)
{
    static const enum epx_dtype dtypes[] = {EPX_DTYPE_INT8, EPX_DTYPE_BF16, EPX_DTYPE_FP32, EPX_DTYPE_INT64};
    (void)state;
    for (size_t d = 0; d < 4; d++) {
        for (int64_t step = 1; step <= 3; step++) {
            size_t width = epx_dtype_bytes(dtypes[d]);
            uint8_t storage[512];
            uint8_t before[512];
            uint8_t dense[512];
            uint8_t expected[512];
            for (size_t i = 0; i < sizeof storage; i++) {
                storage[i] = (uint8_t)(i * 7 + i / 256);
            }
            memcpy(before, storage, sizeof storage);
            /* One byte off any alignment. */
            struct epx_view view = matrix(storage + 1, dtypes[d], 3, 4, 4 * step + 2, step);
            for (size_t i = 0; i < 12; i++) {
                size_t place = (i / 4 * (size_t)view.stride[0] + i % 4 * (size_t)step) * width;
                memcpy(expected + i * width, storage + 1 + place, width);
            }
            epx_view_gather(&view, 3, dense);
            assert_memory_equal(dense, expected, 12 * width);
            epx_view_scatter(&view, 3, expected);
            assert_memory_equal(storage, before, sizeof storage);
            /* Every element changes, and nothing between them does. */
            memset(dense, 0xEE, sizeof dense);
            epx_view_scatter(&view, 3, dense);
            size_t changed = 0;
            for (size_t i = 0; i < sizeof storage; i++) {
                changed += storage[i] != before[i];
                assert_true(storage[i] == before[i] || storage[i] == 0xEE);
            }
            assert_true(changed > 10 * width && changed <= 12 * width);
        }
    }
}

static void gather__vector(void **state)
{
    int32_t values[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    int32_t dense[4] = {-1, -1, -1, -1};
    struct epx_view view = vector(values, EPX_DTYPE_INT32, 3, 4);
    (void)state;
    epx_view_gather(&view, 3, dense);
    assert_int_equal(dense[0], 0);
    assert_int_equal(dense[1], 4);
    assert_int_equal(dense[2], 8);
    assert_int_equal(dense[3], -1);
    epx_view_gather(&view, 0, NULL);
    view.stride[0] = 1;
    epx_view_gather(&view, 0, NULL);
}

/* Kernels read elements, not bytes: a row may lie side by side and still be out of step. */
static void direct__dense_and_aligned(void **state)
{
    struct epx_view view = matrix((void *)64, EPX_DTYPE_BF16, 3, 4, 10, 1);
    (void)state;
    assert_true(epx_view_rows_direct(&view));
    view.data = (void *)65;
    assert_true(epx_view_rows_dense(&view));
    assert_false(epx_view_rows_direct(&view));
    view.dtype = EPX_DTYPE_INT8;
    assert_true(epx_view_rows_direct(&view));
    view.stride[1] = 2;
    assert_false(epx_view_rows_direct(&view));
    view = matrix((void *)66, EPX_DTYPE_FP32, 3, 4, 4, 1);
    assert_false(epx_view_rows_direct(&view));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(direct__dense_and_aligned),
        cmocka_unit_test(dtype__bytes_and_names),
        cmocka_unit_test(extent__sizes),
        cmocka_unit_test(extent__does_not_fit),
        cmocka_unit_test(dense__rows_and_all),
        cmocka_unit_test(overlaps_itself__cases),
        cmocka_unit_test(overlaps__against_bytes),
        cmocka_unit_test(overlaps__neighbours_and_empty),
        cmocka_unit_test(gather_scatter__all_widths),
        cmocka_unit_test(gather__vector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
