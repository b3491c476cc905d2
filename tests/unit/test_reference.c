/*
 * The reference against worked examples and values computed by hand: it judges the library, so nothing of the library
 * is used here.
 */
#include "reference/reference.h"

#include "reference/reference_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- Conversions ---- */

/* bf16 is the upper half of fp32. */
static void widen__every_bf16(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000u; bits++) {
        float value = ref_widen(REF_BF16, (uint16_t)bits);
        if ((bits & 0x7FFFu) > 0x7F80u) {
            assert_true(isnan(value));
        } else {
            assert_int_equal(bits_of(value), bits << 16);
        }
    }
}

/* By moving the fields: 112 is the difference of the biases, 2^-24 the unit of subnormals. */
static void widen__every_fp16(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000u; bits++) {
        float value = ref_widen(REF_FP16, (uint16_t)bits);
        uint32_t sign = (bits & 0x8000u) << 16;
        uint32_t rest = bits & 0x7FFFu;
        if (rest > 0x7C00u) {
            assert_true(isnan(value));
        } else if (rest == 0x7C00u) {
            assert_int_equal(bits_of(value), sign | 0x7F800000u);
        } else if (rest < 0x400u) {
            assert_int_equal(bits_of(value), sign | bits_of((float)rest * 0x1p-24f));
        } else {
            assert_int_equal(bits_of(value), sign | ((rest << 13) + (112u << 23)));
        }
    }
}

/*
 * Between two neighbours of the format everything below the middle goes down, everything above up, the middle to the
 * even one: together with monotony that is every fp32 value. The neighbour of the largest finite value is the power of
 * two that the format lacks; what would round to it becomes infinity.
 */
static void narrow__every_neighbour_and_middle(void **state)
{
    (void)state;
    for (int format = 0; format < 2; format++) {
        uint32_t infinity = format == REF_FP16 ? 0x7C00u : 0x7F80u;
        for (uint32_t bits = 0; bits < infinity; bits++) {
            double low = (double)ref_widen((enum ref_format)format, (uint16_t)bits);
            double high = bits + 1 == infinity ? (format == REF_FP16 ? 0x1p16 : 0x1p128)
                                               : (double)ref_widen((enum ref_format)format, (uint16_t)(bits + 1));
            double middle = (low + high) / 2.0;
            uint32_t even = (bits & 1u) != 0 ? bits + 1 : bits;
            for (int negative = 0; negative < 2; negative++) {
                double sign = negative ? -1.0 : 1.0;
                uint32_t mark = negative ? 0x8000u : 0;
                enum ref_format f = (enum ref_format)format;
                assert_int_equal(ref_narrow(f, sign * low), mark | bits);
                assert_int_equal(ref_narrow(f, sign * middle), mark | even);
                assert_int_equal(ref_narrow(f, sign * nextafter(middle, low)), mark | bits);
                assert_int_equal(ref_narrow(f, sign * nextafter(middle, high)), mark | (bits + 1));
            }
        }
    }
}

static void narrow__not_a_number(void **state)
{
    (void)state;
    assert_int_equal(ref_narrow(REF_FP16, -(double)NAN), 0x7E00);
    assert_int_equal(ref_narrow(REF_BF16, -(double)NAN), 0x7FC0);
    assert_int_equal(ref_narrow(REF_FP16, -(double)INFINITY), 0xFC00);
    assert_int_equal(ref_narrow(REF_BF16, (double)INFINITY), 0x7F80);
    assert_int_equal(ref_narrow(REF_FP16, 70000.0), 0x7C00);
    assert_int_equal(ref_narrow(REF_FP16, 0x1p20), 0x7C00);
    assert_int_equal(ref_narrow(REF_FP16, -(double)from_bits(0x7F7FFFFFu)), 0xFC00);
    assert_int_equal(ref_narrow(REF_BF16, (double)from_bits(0x7F7FFFFFu)), 0x7F80);
}

/* The rule for bf16 sums as bits of fp32: half a step is added to the magnitude, the rest cut off. */
static void half_away__many_bits(void **state)
{
    (void)state;
    for (uint64_t bits = 0; bits < 0x100000000u; bits += 1021) {
        float value = from_bits((uint32_t)bits);
        if (isnan(value)) {
            assert_int_equal(ref_bf16_half_away((double)value), 0x7FC0);
        } else {
            assert_int_equal(ref_bf16_half_away((double)value), (uint32_t)(bits + 0x8000u) >> 16);
        }
    }
    assert_int_equal(ref_bf16_half_away((double)from_bits(0x3F808000u)), 0x3F81); /* a tie, to the odd one */
    assert_int_equal(ref_bf16_half_away((double)from_bits(0xBF808000u)), 0xBF81);
}

static void round_even__ties(void **state)
{
    (void)state;
    static const double cases[][2] = {{0.5, 0.0},   {1.5, 2.0},   {2.5, 2.0},    {-0.5, 0.0},
                                      {-1.5, -2.0}, {-2.5, -2.0}, {2.4999, 2.0}, {-126.5, -126.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(ref_round_even(cases[i][0]) == cases[i][1]);
    }
    assert_int_equal(ref_saturate_int8(126.5), 126);
    assert_int_equal(ref_saturate_int8(127.5), 127);
    assert_int_equal(ref_saturate_int8((double)INFINITY), 127);
    assert_int_equal(ref_saturate_int8(-(double)INFINITY), -128);
    assert_int_equal(ref_saturate_int8((double)NAN), 0);
}

/* ---- Quantisation ---- */

/* m = 4: d = 31.75; 1 -> 31.75 -> 32, -2 -> -63.5 -> -64 (tie to even), 0.25 -> 7.9375 -> 8; 1 / 31.75. */
static void quantize__by_hand(void **state)
{
    (void)state;
    const uint16_t row[] = {0x4080, 0x3F80, 0xC000, 0x3E80}; /* bf16 4, 1, -2, 0.25 */
    const int8_t expected[] = {127, 32, -64, 8};
    int8_t dst[4];
    float scale = ref_quantize_row(REF_BF16, dst, row, NULL, 4);
    assert_memory_equal(dst, expected, 4);
    assert_int_equal(bits_of(scale), bits_of(1.0f / 31.75f));
}

/* Smoothed: 4, 0.5, -1, 1: d = 31.75: 127, 15.875 -> 16, -31.75 -> -32, 32. */
static void quantize__smooth(void **state)
{
    (void)state;
    const uint16_t row[] = {0x4400, 0x3C00, 0xC000, 0x3400}; /* fp16 4, 1, -2, 0.25 */
    const float smooth[] = {1.0f, 0.5f, 0.5f, 4.0f};
    const int8_t expected[] = {127, 16, -32, 32};
    int8_t dst[4];
    float scale = ref_quantize_row(REF_FP16, dst, row, smooth, 4);
    assert_memory_equal(dst, expected, 4);
    assert_int_equal(bits_of(scale), bits_of(1.0f / 31.75f));
}

static void quantize__special_rows(void **state)
{
    (void)state;
    const int8_t zeros[3] = {0, 0, 0};
    int8_t dst[3];
    const uint16_t zero_row[] = {0x0000, 0x8000, 0x0000};
    assert_int_equal(bits_of(ref_quantize_row(REF_BF16, dst, zero_row, NULL, 3)), 0);
    assert_memory_equal(dst, zeros, 3);
    const uint16_t infinite_row[] = {0x3F80, 0xFF80, 0xBF80};
    assert_int_equal(bits_of(ref_quantize_row(REF_BF16, dst, infinite_row, NULL, 3)), 0x7F800000);
    assert_memory_equal(dst, zeros, 3);
    const uint16_t nan_row[] = {0x3F80, 0xFFC1, 0x7F80};
    assert_int_equal(bits_of(ref_quantize_row(REF_BF16, dst, nan_row, NULL, 3)), 0x7FC00000);
    assert_memory_equal(dst, zeros, 3);
    assert_int_equal(bits_of(ref_quantize_row(REF_BF16, dst, zero_row, NULL, 0)), 0); /* no element: maximum 0 */
}

/* bf16 subnormals: 127 / 2^-133 overflows, so d is infinite. fp16 subnormals are normal in fp32: d = 127 * 2^23. */
static void quantize__subnormal_rows(void **state)
{
    (void)state;
    int8_t dst[3];
    const uint16_t tiny[] = {0x0001, 0x8001, 0x0000};
    const int8_t saturated[] = {127, -128, 0};
    assert_int_equal(bits_of(ref_quantize_row(REF_BF16, dst, tiny, NULL, 3)), 0);
    assert_memory_equal(dst, saturated, 3);
    const uint16_t small[] = {0x0002, 0x8001, 0x0000};
    const int8_t half[] = {127, -64, 0}; /* -63.5 */
    float scale = ref_quantize_row(REF_FP16, dst, small, NULL, 3);
    assert_memory_equal(dst, half, 3);
    assert_int_equal(bits_of(scale), bits_of(1.0f / (127.0f / 0x1p-23f)));
}

/* ---- Rows on their way back ---- */

/* bf16 group 127, 1, 0.5, -63.5 with s = 1: q = 127, 1, 0 (0.5 to even), -64; the second group is shorter: 2 alone. */
static void group8__by_hand(void **state)
{
    (void)state;
    uint16_t row[9] = {0x42FE, 0x3F80, 0x3F00, 0xC27E, 0, 0, 0, 0x8000, 0x4000};
    uint16_t dst[9];
    ref_group8_row(REF_BF16, dst, row, 9);
    const float inverse = 1.0f / 127.0f;
    float stored = ref_widen(REF_BF16, ref_narrow(REF_BF16, (double)(127.0f * inverse)));
    assert_true(stored == 1.0f);
    const uint16_t first[8] = {0x42FE, 0x3F80, 0x0000, 0xC280, 0, 0, 0, 0};
    assert_memory_equal(dst, first, sizeof first);
    /* s = 2/127 = 0x3C810204; to bf16 0x3C81 = 0.01575; 127 * 0.01574707 = 1.99987793 -> bf16 2. */
    assert_int_equal(ref_narrow(REF_BF16, (double)(2.0f * inverse)), 0x3C81);
    assert_int_equal(dst[8], 0x4000);
}

static void group8__special_groups(void **state)
{
    (void)state;
    uint16_t row[24] = {0};
    uint16_t dst[24];
    row[0] = 0x7F80; /* an infinity spoils its group */
    row[1] = 0x3F80;
    row[9] = 0xFFC1; /* so does a NaN */
    row[17] = 0x0001;
    ref_group8_row(REF_BF16, dst, row, 24);
    for (int h = 0; h < 16; h++) {
        assert_int_equal(dst[h], 0x7FC0);
    }
    /* s = 2^-133 / 127 in units of 2^-149: 516.03 -> 516; 65536 / 516 = 127.007 -> half 127 -> 127; stored in units of
     * 2^-133: 0.0079 -> 0. */
    for (int h = 16; h < 24; h++) {
        assert_int_equal(dst[h], 0);
    }
}

static void tp_sum__by_hand(void **state)
{
    (void)state;
    /* bf16: 1 + 2^-8 is half way between 1 and 1 + 2^-7: away from zero. -1 - 2^-8 likewise. infinity - infinity. */
    const uint16_t a[] = {0x3F80, 0xBF80, 0x7F80, 0x7F7F};
    const uint16_t b[] = {0x3B80, 0xBB80, 0xFF80, 0x7F7F};
    const uint16_t expected[] = {0x3F81, 0xBF81, 0x7FC0, 0x7F80};
    uint16_t dst[4];
    ref_tp_sum_row(REF_BF16, dst, a, b, 4);
    assert_memory_equal(dst, expected, sizeof dst);
    /* fp16: 1 + 2^-11 is a tie: to even, down; 65504 + 16 is the middle to infinity: up; 65504 + 15.99 stays. */
    const uint16_t c[] = {0x3C00, 0x7BFF, 0x7BFF, 0x0001};
    const uint16_t d[] = {0x1000, 0x4C00, 0x4BFF, 0x8001};
    const uint16_t halves[] = {0x3C00, 0x7C00, 0x7BFF, 0x0000};
    ref_tp_sum_row(REF_FP16, dst, c, d, 4);
    assert_memory_equal(dst, halves, sizeof dst);
}

/* fp16 partials in half arithmetic: p = 127, 1: half(1/127) = 0x2008 = 0.00787354; half(127 * it) = 0.99993896 ->
 * 0x3C00 = 1; codes 127 and 1; sums 127 + 0.5 and 1 + 0. */
static void partial__transported_fp16(void **state)
{
    (void)state;
    const float acc[2] = {127.0f, 1.0f};
    float sum[2] = {0.5f, 0.0f};
    assert_int_equal(ref_narrow(REF_FP16, 1.0 / 127.0), 0x2008);
    assert_int_equal(ref_narrow(REF_FP16, 127.0 * (double)ref_widen(REF_FP16, 0x2008)), 0x3C00);
    ref_add_partial_row(REF_FP16, true, sum, acc, 2);
    assert_true(sum[0] == 127.5f);
    assert_true(sum[1] == 1.0f);
    /* Groups of 16: next to 127, 0.5 is lost at place 15; at place 16 it is in the next group and stays. */
    float long_acc[17] = {[0] = 127.0f, [15] = 0.5f, [16] = 0.5f};
    float long_sum[17] = {0.0f};
    ref_add_partial_row(REF_FP16, true, long_sum, long_acc, 17);
    assert_true(long_sum[15] == 0.0f);
    assert_true(long_sum[16] != 0.0f);
}

/* bf16 partials: plain ones are rounded before they are added; transported ones are not. */
static void partial__bf16(void **state)
{
    (void)state;
    const float acc[1] = {1.0f + 0x1p-9f};
    float sum[1] = {0x1p-9f};
    ref_add_partial_row(REF_BF16, false, sum, acc, 1);
    assert_true(sum[0] == 1.0f + 0x1p-9f);
    const float inverse = 1.0f / 127.0f;
    float stored = ref_widen(REF_BF16, ref_narrow(REF_BF16, (double)(acc[0] * inverse)));
    float expected = 127.0f * stored;
    sum[0] = 0.0f;
    ref_add_partial_row(REF_BF16, true, sum, acc, 1);
    assert_true(sum[0] == expected);
    assert_true(sum[0] != 1.0f);
}

/* ---- Dispatch ---- */

static void assert_i32(const int32_t *actual, const int32_t *expected, size_t count)
{
    assert_memory_equal(actual, expected, count * sizeof *expected);
}

static void assert_i64(const int64_t *actual, const int64_t *expected, size_t count)
{
    assert_memory_equal(actual, expected, count * sizeof *expected);
}

/* Row contents of the examples: 0x100 * rank + token. */
static void number_rows(struct ref_tokens *tokens, int64_t rank_count, int64_t hidden)
{
    for (int64_t rank = 0; rank < rank_count; rank++) {
        tokens[rank].row_capacity = INT64_MAX;
        tokens[rank].x = ref_alloc(tokens[rank].token_count * hidden, sizeof(uint16_t));
        for (int64_t i = 0; i < tokens[rank].token_count * hidden; i++) {
            tokens[rank].x[i] = (uint16_t)(0x100 * rank + i / hidden);
        }
    }
}

static void release(struct ref_tokens *tokens, struct ref_received *received, int64_t rank_count)
{
    for (int64_t rank = 0; rank < rank_count; rank++) {
        free(tokens[rank].x);
        ref_received_free(&received[rank]);
    }
}

/* docs/operators.md 1.6 */
static void dispatch__mini_golden(void **state)
{
    (void)state;
    int32_t ids[2][4] = {{0, 2, 2, 3}, {3, 0, 1, 2}};
    struct ref_shape shape = {.rank_count = 2, .tp_count = 1, .expert_count = 4, .hidden = 1, .topk = 2};
    struct ref_tokens tokens[2] = {{.token_count = 2, .expert_ids = ids[0]}, {.token_count = 2, .expert_ids = ids[1]}};
    struct ref_received received[2];
    struct ref_error error;
    number_rows(tokens, 2, 1);
    for (int kind = 0; kind < 2; kind++) {
        shape.token_nums = (enum ref_token_nums)kind;
        assert_int_equal(ref_dispatch(&shape, tokens, received, &error), REF_OK);
        const uint16_t rows0[] = {0x000, 0x100, 0x101};
        const uint16_t rows1[] = {0x000, 0x001, 0x101, 0x001, 0x100};
        const int64_t nums[2][2][2] = {{{2, 3}, {3, 5}}, {{2, 1}, {3, 2}}};
        assert_int_equal(received[0].row_count, 3);
        assert_int_equal(received[1].row_count, 5);
        assert_memory_equal(received[0].expand_x, rows0, sizeof rows0);
        assert_memory_equal(received[1].expand_x, rows1, sizeof rows1);
        assert_i32(received[0].ep_recv_counts, (const int32_t[]){1, 2, 2, 3}, 4);
        assert_i32(received[1].ep_recv_counts, (const int32_t[]){2, 3, 4, 5}, 4);
        assert_i32(received[0].expand_idx, (const int32_t[]){0, 0, 1, 0}, 4);
        assert_i32(received[1].expand_idx, (const int32_t[]){0, 0, 0, 0}, 4);
        assert_i64(received[0].expert_token_nums, nums[kind][0], 2);
        assert_i64(received[1].expert_token_nums, nums[kind][1], 2);
        assert_null(received[0].dynamic_scales);
        assert_null(received[0].tp_recv_counts);
        assert_null(received[0].expand_scales);
        ref_received_free(&received[0]);
        ref_received_free(&received[1]);
    }
    release(tokens, received, 2);
}

/* docs/operators.md 1.2 */
static void dispatch__shared_example(void **state)
{
    (void)state;
    int32_t ids[4][3] = {{0, 0, 1}, {0, 1, 1}, {1, 1, 1}, {0, 0, 0}};
    struct ref_shape shape = {
        .rank_count = 4, .tp_count = 1, .expert_count = 2, .shared_rank_count = 2, .hidden = 2, .topk = 1};
    struct ref_tokens tokens[4];
    struct ref_received received[4];
    struct ref_error error;
    for (int rank = 0; rank < 4; rank++) {
        tokens[rank] = (struct ref_tokens){.token_count = 3, .expert_ids = ids[rank]};
    }
    number_rows(tokens, 4, 2);
    assert_int_equal(ref_dispatch(&shape, tokens, received, &error), REF_OK);
    const uint16_t rows0[] = {0, 0, 1, 1, 2, 2, 0x200, 0x200, 0x300, 0x300, 0x301, 0x301};
    const uint16_t rows1[] = {0x100, 0x100, 0x101, 0x101, 0x102, 0x102, 0x201, 0x201, 0x202, 0x202, 0x302, 0x302};
    assert_int_equal(received[0].row_count, 6);
    assert_int_equal(received[1].row_count, 6);
    assert_memory_equal(received[0].expand_x, rows0, sizeof rows0);
    assert_memory_equal(received[1].expand_x, rows1, sizeof rows1);
    assert_i32(received[0].ep_recv_counts, (const int32_t[]){1, 3, 4, 6}, 4);
    assert_i32(received[1].ep_recv_counts, (const int32_t[]){2, 3, 5, 6}, 4);
    assert_i64(received[0].expert_token_nums, (const int64_t[]){6}, 1);
    /* Shared ranks are sources of MoE copies like everybody else: expert 0 lives on rank 2. */
    assert_i32(received[2].ep_recv_counts, (const int32_t[]){2, 3, 3, 6}, 4);
    assert_i32(received[0].expand_idx, (const int32_t[]){0, 1, 0}, 3);
    release(tokens, received, 4);
}

/* Every token of a rank goes to exactly one shared rank, by the other form of the rule: s = ceil((t+1+q)S/BS) - 1 - e.
 */
static void shared_interval__partition(void **state)
{
    (void)state;
    for (int64_t shared = 1; shared <= 7; shared++) {
        for (int64_t count = 0; count <= 20; count++) {
            for (int64_t source = shared; source < shared + 12; source++) {
                int64_t next = 0;
                for (int64_t s = 0; s < shared; s++) {
                    int64_t first;
                    int64_t tokens;
                    ref_shared_interval(shared, count, s, source, &first, &tokens);
                    assert_int_equal(first, next);
                    for (int64_t t = first; t < first + tokens; t++) {
                        int64_t q = source * count / shared;
                        assert_int_equal(((t + 1 + q) * shared + count - 1) / count - 1 - source, s);
                    }
                    next = first + tokens;
                }
                assert_int_equal(next, count);
            }
        }
    }
}

/* W = 1, two groups: the peer's rows and counts follow the own ones on both ranks. */
static void dispatch__tensor_parallel(void **state)
{
    (void)state;
    int32_t ids[2][3] = {{1, 0, 1}, {0, 0, 1}};
    struct ref_shape shape = {.rank_count = 1, .tp_count = 2, .expert_count = 2, .hidden = 1, .topk = 1};
    struct ref_tokens tokens[2] = {{.token_count = 3, .expert_ids = ids[0]}, {.token_count = 2, .expert_ids = ids[1]}};
    struct ref_received received[2];
    struct ref_error error;
    number_rows(tokens, 2, 1);
    assert_int_equal(ref_dispatch(&shape, tokens, received, &error), REF_OK);
    const uint16_t rows0[] = {0x001, 0x000, 0x002, 0x100, 0x101};
    const uint16_t rows1[] = {0x100, 0x101, 0x001, 0x000, 0x002};
    assert_memory_equal(received[0].expand_x, rows0, sizeof rows0);
    assert_memory_equal(received[1].expand_x, rows1, sizeof rows1);
    assert_i32(received[0].ep_recv_counts, (const int32_t[]){1, 3, 2, 2}, 4);
    assert_i32(received[1].ep_recv_counts, (const int32_t[]){2, 2, 1, 3}, 4);
    assert_i32(received[0].tp_recv_counts, (const int32_t[]){3, 2}, 2);
    assert_i32(received[1].tp_recv_counts, (const int32_t[]){3, 2}, 2);
    assert_i64(received[0].expert_token_nums, (const int64_t[]){3, 5}, 2);
    assert_i64(received[1].expert_token_nums, (const int64_t[]){3, 5}, 2);
    release(tokens, received, 2);
}

/* Two servers of one rank each, E = 2, K = 2, BS = 2, gBs = 4. */
static void dispatch__two_level_tail(void **state)
{
    (void)state;
    int32_t ids[2][4] = {{0, 0, 1, 0}, {1, 1, 0, 1}};
    float weights[2][4] = {{0.1f, 0.2f, 0.3f, 0.4f}, {0.5f, 0.6f, 0.7f, 0.8f}};
    struct ref_shape shape = {.rank_count = 2,
                              .tp_count = 1,
                              .server_rank_count = 1,
                              .expert_count = 2,
                              .hidden = 1,
                              .topk = 2,
                              .two_level = true};
    struct ref_tokens tokens[2];
    struct ref_received received[2];
    struct ref_error error;
    for (int rank = 0; rank < 2; rank++) {
        tokens[rank] = (struct ref_tokens){.token_count = 2,
                                           .tail_room_bytes = 8 * 4 * 2 * 2,
                                           .expert_ids = ids[rank],
                                           .expert_scales = weights[rank]};
    }
    number_rows(tokens, 2, 1);
    assert_int_equal(ref_dispatch(&shape, tokens, received, &error), REF_OK);
    assert_null(received[0].expand_idx);
    /* Rows of rank 0: (0,t0,k0) (0,t0,k1) (0,t1,k1) (1,t1,k0); the repeated expert has the first weight twice. */
    const float scales[] = {0.1f, 0.1f, 0.4f, 0.7f};
    assert_int_equal(received[0].row_count, 4);
    assert_memory_equal(received[0].expand_scales, scales, sizeof scales);
    /* innerCnt: slots of 4 int16: rank 0 (BS 2; tokens 2, 1), rank 1 (BS 2; tokens 0, 1). */
    const int16_t counts[8] = {2, 2, 1, 0, 2, 0, 1, 0};
    assert_memory_equal(received[0].tail, counts, sizeof counts);
    const uint8_t written[16] = {1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0};
    assert_memory_equal(received[0].tail_written, written, sizeof written);
    /* innerOffset: slots of 8 int32, 4 of them written. */
    const int32_t offsets[16] = {0, 1, 2, -1, 0, 0, 0, 0, -1, -1, 0, -1, 0, 0, 0, 0};
    assert_memory_equal(received[0].tail + 16, offsets, sizeof offsets);
    assert_int_equal(received[0].tail_written[16 + 16], 0);
    /* outerCnt and outerOffset of rank 0: t0 to server 0; t1 to both, its second on server 0, its first on server 1. */
    const int32_t outer[6] = {1, 2, 0, -1, 1, 2};
    assert_memory_equal(received[0].tail + 80, outer, sizeof outer);
    assert_int_equal(received[0].tail_written[80 + 24], 0);
    release(tokens, received, 2);
}

/* One token, one server, gBs = 1: the third copy for expert 0 has the entry of expert 2's first: both are there. */
static void dispatch__two_level_tail_equal_entries(void **state)
{
    (void)state;
    int32_t ids[4] = {0, 2, 0, 0};
    struct ref_shape shape = {.rank_count = 1,
                              .tp_count = 1,
                              .server_rank_count = 1,
                              .expert_count = 3,
                              .hidden = 1,
                              .topk = 4,
                              .two_level = true};
    struct ref_tokens tokens[1] = {{.token_count = 1, .tail_room_bytes = 18, .expert_ids = ids}};
    struct ref_received received[1];
    struct ref_error error;
    number_rows(tokens, 1, 1);
    assert_int_equal(ref_dispatch(&shape, tokens, received, &error), REF_OK);
    assert_null(received[0].expand_scales);
    /* innerCnt: BS 1, then 4 copies at byte 2, over which innerOffset is written. */
    const int16_t count = 1;
    const int32_t entries[4] = {0, 1, 2, 2};
    assert_memory_equal(received[0].tail, &count, sizeof count);
    assert_memory_equal(received[0].tail + 2, entries, sizeof entries);
    /* Room ends here: outerCnt is left out. */
    assert_int_equal(received[0].tail_bytes, 18);
    release(tokens, received, 1);
}

static void dispatch__errors(void **state)
{
    (void)state;
    int32_t ids[2][4] = {{0, 1, 1, 1}, {1, 0, 2, -1}};
    struct ref_shape shape = {.rank_count = 2, .tp_count = 1, .expert_count = 2, .hidden = 1, .topk = 2};
    struct ref_tokens tokens[2] = {{.token_count = 2, .expert_ids = ids[0]}, {.token_count = 2, .expert_ids = ids[1]}};
    struct ref_received received[2];
    struct ref_error error;
    number_rows(tokens, 2, 1);
    assert_int_equal(ref_dispatch(&shape, tokens, received, &error), REF_BAD_EXPERT_ID);
    assert_int_equal(error.rank, 1);
    assert_int_equal(error.token, 1);
    assert_int_equal(error.slot, 0);
    assert_int_equal(error.value, 2);
    ids[1][2] = ids[1][3] = 1;
    tokens[1].row_capacity = 5;
    assert_int_equal(ref_dispatch(&shape, tokens, received, &error), REF_CAPACITY);
    assert_int_equal(error.rank, 1);
    assert_int_equal(error.value, 6);
    release(tokens, received, 2);
}

/* ---- Combine ---- */

/* One rank, three experts with one row each. */
static uint16_t combine_three(const struct ref_shape *shape, const uint16_t *rows, const float *weights)
{
    const int32_t ids[3] = {2, 0, 1};
    const int32_t idx[3] = {0, 0, 0};
    const int32_t counts[3] = {1, 2, 3};
    struct ref_returns returns = {.token_count = 1,
                                  .row_capacity = 3,
                                  .expand_x = rows,
                                  .expert_ids = ids,
                                  .expert_scales = weights,
                                  .expand_idx = idx,
                                  .ep_send_counts = counts};
    struct ref_error error;
    uint16_t *x[1];
    assert_int_equal(ref_combine(shape, &returns, x, &error), REF_OK);
    uint16_t result = x[0][0];
    free(x[0]);
    return result;
}

/*
 * Terms in the order of k, each product and sum rounded to fp32: 2^24 + 1 - 2^24. k order: expert 2 (2^24), 0 (1),
 * 1 (-2^24): (2^24 + 1) rounds to 2^24, the result is 0. In expert order 1 - 2^24 + 2^24 it would be 1.
 */
static void combine__order_and_rounding(void **state)
{
    (void)state;
    struct ref_shape shape = {.rank_count = 1,
                              .tp_count = 1,
                              .server_rank_count = 1,
                              .expert_count = 3,
                              .hidden = 1,
                              .topk = 3,
                              .format = REF_BF16};
    const uint16_t rows[3] = {0x3F80, 0xBF80, 0x3F80}; /* 1, -1, 1 */
    const float weights[3] = {0x1p24f, 1.0f, 0x1p24f};
    assert_int_equal(combine_three(&shape, rows, weights), 0x0000);
    shape.two_level = true;
    assert_int_equal(combine_three(&shape, rows, weights), 0x3F80);
    /* Never fused: (1 + 2^-7)(1 + 2^-23) rounds to 1 + 2^-7 + 2^-23; with its opposite the sum is 0, where a fused one
     * would leave 2^-30. Experts 2 (k = 0) and 0 (k = 1). */
    shape.two_level = false;
    const uint16_t opposite[3] = {0x3F81, 0x0000, 0xBF81};
    const float factors[3] = {1.0f + 0x1p-23f, 1.0f + 0x1p-23f, 0.0f};
    assert_int_equal(combine_three(&shape, opposite, factors), 0x0000);
    const uint16_t negative_zero[3] = {0x8000, 0x8000, 0x8000};
    const float ones[3] = {1.0f, 1.0f, 1.0f};
    assert_int_equal(combine_three(&shape, negative_zero, ones), 0x0000);
    const uint16_t nan_row[3] = {0xFFC1, 0x0000, 0x0000};
    assert_int_equal(combine_three(&shape, nan_row, ones), 0x7FC0);
}

/* Two servers of one rank: each partial is rounded to bf16 before the sum; the full mesh keeps both halves of a bit. */
static void combine__two_level_partials(void **state)
{
    (void)state;
    const int32_t ids[2][2] = {{0, 1}, {0, 0}};
    const int32_t idx[2] = {0, 0};
    const int32_t counts[2][2] = {{1, 1}, {1, 1}};
    const float weights[2] = {1.0f + 0x1p-8f, 0x1p-8f};
    const uint16_t row[1] = {0x3F80};
    struct ref_shape shape = {.rank_count = 2,
                              .tp_count = 1,
                              .server_rank_count = 1,
                              .expert_count = 2,
                              .hidden = 1,
                              .topk = 2,
                              .format = REF_BF16};
    struct ref_returns returns[2];
    struct ref_error error;
    uint16_t *x[2];
    for (int rank = 0; rank < 2; rank++) {
        returns[rank] = (struct ref_returns){.token_count = rank == 0 ? 1 : 0,
                                             .row_capacity = 1,
                                             .expand_x = row,
                                             .expert_ids = ids[rank],
                                             .expert_scales = weights,
                                             .expand_idx = idx,
                                             .ep_send_counts = counts[rank]};
    }
    /* Full mesh: 1 + 2^-8 + 2^-8 = 1 + 2^-7 = 0x3F81. */
    assert_int_equal(ref_combine(&shape, returns, x, &error), REF_OK);
    assert_int_equal(x[0][0], 0x3F81);
    free(x[0]);
    free(x[1]);
    /* Partials: bf16(1 + 2^-8) = 1 (tie to even); 1 + 2^-8 = tie again: 1. */
    shape.two_level = true;
    assert_int_equal(ref_combine(&shape, returns, x, &error), REF_OK);
    assert_int_equal(x[0][0], 0x3F80);
    free(x[0]);
    free(x[1]);
    /* Both experts on one server: one partial, as the full mesh. */
    shape.server_rank_count = 2;
    assert_int_equal(ref_combine(&shape, returns, x, &error), REF_OK);
    assert_int_equal(x[0][0], 0x3F81);
    free(x[0]);
    free(x[1]);
}

/* W = 1, two groups: row i of the peer's second part is added to own row i, with the rounding of bf16 sums. */
static void combine__tensor_parallel(void **state)
{
    (void)state;
    const int32_t ids[1] = {0};
    const int32_t idx[1] = {0};
    const int32_t counts[2] = {1, 1};
    const int32_t tp_counts[2] = {1, 1};
    const float weights[1] = {1.0f};
    const uint16_t rows[2][2] = {{0x3F80, 0x4000}, {0x4080, 0x3B80}}; /* 1, 2 | 4, 2^-8 */
    struct ref_shape shape = {
        .rank_count = 1, .tp_count = 2, .expert_count = 1, .hidden = 1, .topk = 1, .format = REF_BF16};
    struct ref_returns returns[2];
    struct ref_error error;
    uint16_t *x[2];
    for (int group = 0; group < 2; group++) {
        returns[group] = (struct ref_returns){.token_count = 1,
                                              .row_capacity = 2,
                                              .expand_x = rows[group],
                                              .expert_ids = ids,
                                              .expert_scales = weights,
                                              .expand_idx = idx,
                                              .ep_send_counts = counts,
                                              .tp_send_counts = tp_counts};
    }
    assert_int_equal(ref_combine(&shape, returns, x, &error), REF_OK);
    assert_int_equal(x[0][0], 0x3F81); /* 1 + 2^-8, away from zero */
    assert_int_equal(x[1][0], 0x40C0); /* 4 + 2 */
    free(x[0]);
    free(x[1]);
}

/* W = 3, S = 1: the shared row comes last with weight 1, on the shared rank from its own rows. */
static void combine__shared(void **state)
{
    (void)state;
    /* Rank 0 holds the shared expert: own token, then one of rank 1 and one of rank 2. */
    const uint16_t shared_rows[3] = {0x3F80, 0x4000, 0x4040}; /* 1, 2, 3 */
    const uint16_t moe_rows[3] = {0x4120, 0x4120, 0x4120};    /* 10 each */
    const int32_t shared_counts[3] = {1, 2, 3};
    const int32_t moe_counts[2][3] = {{1, 2, 3}, {0, 0, 0}};
    const int32_t ids[1] = {0};
    const int32_t idx[1] = {0};
    const float weights[1] = {2.0f};
    struct ref_shape shape = {.rank_count = 3,
                              .tp_count = 1,
                              .expert_count = 2,
                              .shared_rank_count = 1,
                              .hidden = 1,
                              .topk = 1,
                              .format = REF_BF16};
    struct ref_returns returns[3];
    struct ref_error error;
    uint16_t *x[3];
    for (int rank = 0; rank < 3; rank++) {
        returns[rank] = (struct ref_returns){.token_count = 1,
                                             .row_capacity = 3,
                                             .expand_x = rank == 0 ? shared_rows : moe_rows,
                                             .expert_ids = ids,
                                             .expert_scales = weights,
                                             .expand_idx = idx,
                                             .ep_send_counts = rank == 0 ? shared_counts : moe_counts[rank - 1]};
    }
    assert_int_equal(ref_combine(&shape, returns, x, &error), REF_OK);
    assert_int_equal(x[0][0], 0x41A8); /* 21 */
    assert_int_equal(x[1][0], 0x41B0); /* 22 */
    assert_int_equal(x[2][0], 0x41B8); /* 23 */
    for (int rank = 0; rank < 3; rank++) {
        free(x[rank]);
    }
    returns[2].row_capacity = -1;
    assert_int_equal(ref_combine(&shape, returns, x, &error), REF_BAD_COUNTS);
    assert_int_equal(error.rank, 2);
    returns[2].row_capacity = 3;
    const int32_t outside[1] = {1};
    returns[1].expand_idx = outside;
    assert_int_equal(ref_combine(&shape, returns, x, &error), REF_BAD_COUNTS);
    assert_int_equal(error.rank, 1);
    assert_int_equal(error.token, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widen__every_bf16),
        cmocka_unit_test(widen__every_fp16),
        cmocka_unit_test(narrow__every_neighbour_and_middle),
        cmocka_unit_test(narrow__not_a_number),
        cmocka_unit_test(half_away__many_bits),
        cmocka_unit_test(round_even__ties),
        cmocka_unit_test(quantize__by_hand),
        cmocka_unit_test(quantize__smooth),
        cmocka_unit_test(quantize__special_rows),
        cmocka_unit_test(quantize__subnormal_rows),
        cmocka_unit_test(group8__by_hand),
        cmocka_unit_test(group8__special_groups),
        cmocka_unit_test(tp_sum__by_hand),
        cmocka_unit_test(partial__transported_fp16),
        cmocka_unit_test(partial__bf16),
        cmocka_unit_test(dispatch__mini_golden),
        cmocka_unit_test(dispatch__shared_example),
        cmocka_unit_test(shared_interval__partition),
        cmocka_unit_test(dispatch__tensor_parallel),
        cmocka_unit_test(dispatch__two_level_tail),
        cmocka_unit_test(dispatch__two_level_tail_equal_entries),
        cmocka_unit_test(dispatch__errors),
        cmocka_unit_test(combine__order_and_rounding),
        cmocka_unit_test(combine__two_level_partials),
        cmocka_unit_test(combine__tensor_parallel),
        cmocka_unit_test(combine__shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
