#include "moe/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define HEADER_BYTES 192

static struct epx_dispatch_sizes all_options(void)
{
    struct epx_dispatch_sizes sizes = {
        .token_count = 7,
        .topk = 3,
        .expert_count = 10,
        .hidden_elems = 33,
        .count_elems = 20,
        .row_max = 100,
        .quantized = true,
        .smooth = true,
        .shared = true,
        .two_level = true,
        .tp = true,
    };
    return sizes;
}

/* Regions of one block of memory: aligned, in bounds, without overlap. `at` ascending. */
static void assert_regions(const uint64_t *at, const uint64_t *bytes, int count, uint64_t total)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(at[i] % EPX_LAYOUT_ALIGN, 0);
        assert_true(at[i] + bytes[i] <= (i + 1 < count ? at[i + 1] : total));
    }
    assert_int_equal(total % EPX_LAYOUT_ALIGN, 0);
}

static void dispatch_layout__regions_do_not_overlap(void **state)
{
    struct epx_dispatch_sizes sizes = all_options();
    struct epx_dispatch_layout layout;
    (void)state;
    assert_true(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    const uint64_t exchange[] = {
        0, layout.offsets_at, layout.sorted_at, layout.occurrence_at, layout.ids_at, layout.weights_at};
    const uint64_t exchange_bytes[] = {HEADER_BYTES, 11 * 4, 21 * 4, 21 * 4, 21 * 4, 21 * 4};
    assert_regions(exchange, exchange_bytes, 6, layout.exchange_bytes);
    const uint64_t tp[] = {0, layout.tp_counts_at, layout.tp_scales_at, layout.tp_weights_at};
    const uint64_t tp_bytes[] = {HEADER_BYTES, 20 * 4, 100 * 4, 100 * 4};
    assert_regions(tp, tp_bytes, 4, layout.tp_exchange_bytes);
    const uint64_t rows[] = {layout.rows_at, layout.scales_at, layout.shared_rows_at, layout.shared_scales_at};
    const uint64_t rows_bytes[] = {21 * 64, 21 * 4, 7 * 64, 7 * 4};
    assert_int_equal(layout.row_pitch_bytes, 64);
    assert_regions(rows, rows_bytes, 4, layout.quantized_bytes);
    assert_int_equal(layout.plain_pitch_bytes, 128); /* 66 bytes */
    assert_int_equal(layout.plain_bytes, 7 * 128);
}

static void dispatch_layout__only_what_is_needed(void **state)
{
    struct epx_dispatch_sizes sizes = all_options();
    struct epx_dispatch_layout layout;
    (void)state;
    sizes.quantized = false;
    sizes.smooth = false;
    sizes.tp = false;
    sizes.two_level = false;
    assert_true(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    assert_int_equal(layout.quantized_bytes, 0);
    assert_int_equal(layout.tp_exchange_bytes, 0);
    assert_int_equal(layout.weights_at, layout.exchange_bytes);
    sizes.quantized = true;
    assert_true(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    assert_int_equal(layout.row_count, sizes.token_count);
    assert_int_equal(layout.shared_row_count, 0);
}

static void dispatch_layout__empty(void **state)
{
    struct epx_dispatch_sizes sizes = all_options();
    struct epx_dispatch_layout layout;
    (void)state;
    sizes.token_count = 0;
    sizes.row_max = 0;
    assert_true(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    assert_true(layout.exchange_bytes >= HEADER_BYTES + 11 * 4);
    assert_int_equal(layout.plain_bytes, 0);
}

static void dispatch_layout__overflow(void **state)
{
    struct epx_dispatch_layout layout;
    struct epx_dispatch_sizes sizes = all_options();
    (void)state;
    sizes.token_count = INT64_MAX / 2;
    assert_false(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    sizes = all_options();
    sizes.hidden_elems = INT64_MAX;
    assert_false(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    sizes = all_options();
    sizes.expert_count = INT64_MAX;
    assert_false(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    sizes = all_options();
    sizes.row_max = INT64_MAX / 4;
    assert_false(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    sizes = all_options();
    sizes.token_count = -1;
    assert_false(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
    /* Every region fits, their sum does not. */
    sizes = all_options();
    sizes.row_max = INT64_MAX / 8 + 1;
    assert_false(epx_dispatch_layout_init(&layout, &sizes, HEADER_BYTES));
}

static void combine_layout__sizes(void **state)
{
    struct epx_combine_sizes sizes = {.hidden_elems = 33, .count_elems = 20, .row_max = 9, .tp = false};
    struct epx_combine_layout layout;
    (void)state;
    assert_true(epx_combine_layout_init(&layout, &sizes, HEADER_BYTES));
    assert_int_equal(layout.counts_at, 192);
    assert_int_equal(layout.exchange_bytes, 192 + 128);
    assert_int_equal(layout.row_pitch_bytes, 128);
    assert_int_equal(layout.staged_bytes, 9 * 128);
    assert_int_equal(layout.summed_bytes, 0);
    assert_int_equal(layout.tp_exchange_bytes, 0);
    sizes.tp = true;
    assert_true(epx_combine_layout_init(&layout, &sizes, HEADER_BYTES));
    assert_int_equal(layout.summed_bytes, 9 * 128);
    assert_int_equal(layout.tp_exchange_bytes, 192);
    sizes.row_max = INT64_MAX / 100;
    assert_false(epx_combine_layout_init(&layout, &sizes, HEADER_BYTES));
    sizes.row_max = 1;
    sizes.hidden_elems = INT64_MAX / 2;
    assert_false(epx_combine_layout_init(&layout, &sizes, HEADER_BYTES));
}

static void layout_take__limits(void **state)
{
    struct epx_layout layout = {0};
    (void)state;
    assert_int_equal(epx_layout_take(&layout, 1, 1), 0);
    assert_int_equal(epx_layout_take(&layout, 0, 8), 64);
    assert_int_equal(epx_layout_take(&layout, 8, 8), 64);
    assert_int_equal(layout.bytes, 128);
    assert_int_equal(epx_layout_take(&layout, INT64_MAX, 1), 0);
    assert_true(layout.overflowed);
    assert_int_equal(epx_layout_row_pitch(UINT64_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch_layout__regions_do_not_overlap),
        cmocka_unit_test(dispatch_layout__only_what_is_needed),
        cmocka_unit_test(dispatch_layout__empty),
        cmocka_unit_test(dispatch_layout__overflow),
        cmocka_unit_test(combine_layout__sizes),
        cmocka_unit_test(layout_take__limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
