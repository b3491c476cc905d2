#include "comm/agreement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define RANKS 8u

static const char *const dtype_names[] = {"fp16", "bf16"};

static const struct epx_agreement_field fields[] = {
    {.name = "hidden_elems", .offset = 0, .width = 8},
    {.name = "topk", .offset = 8, .width = 4},
    {.name = "dtype", .offset = 12, .width = 1, .value_names = dtype_names, .value_name_count = 2},
    {.name = "bias", .offset = 14, .width = 2, .is_signed = 1},
};

static void fill(struct epx_agreement_entry *entries)
{
    memset(entries, 0, RANKS * sizeof *entries);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        uint64_t hidden = 7168;
        uint32_t topk = 8;
        entries[rank].round = 12;
        entries[rank].operation = EPX_OPERATION_DISPATCH;
        memcpy(&entries[rank].agreement.bytes[0], &hidden, sizeof hidden);
        memcpy(&entries[rank].agreement.bytes[8], &topk, sizeof topk);
        entries[rank].agreement.bytes[12] = 1;
    }
}

static void set_hidden(struct epx_agreement_entry *entry, uint64_t value)
{
    memcpy(&entry->agreement.bytes[0], &value, sizeof value);
}

static void expect_difference(const struct epx_agreement_entry *entries, const char *expected)
{
    char text[EPX_ERROR_TEXT_BYTES];
    assert_false(epx_agreement_equal(entries, RANKS, fields, 4, text, sizeof text));
    assert_string_equal(text, expected);
}

static void equal__all_alike(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    char text[EPX_ERROR_TEXT_BYTES];
    fill(entries);
    assert_true(epx_agreement_equal(entries, RANKS, fields, 4, text, sizeof text));
    assert_true(epx_agreement_equal(entries, 1, fields, 4, text, sizeof text));
}

static void equal__one_rank(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    fill(entries);
    set_hidden(&entries[3], 4096);
    expect_difference(entries, "hidden_elems differs: rank 0 has 7168, rank 3 has 4096");
}

static void equal__several_ranks_and_values(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    fill(entries);
    for (uint32_t rank = 3; rank < RANKS; rank++) {
        set_hidden(&entries[rank], rank == 4 ? 7168 : 4096);
    }
    expect_difference(entries, "hidden_elems differs: rank 0 has 7168, ranks 3,5-7 have 4096");
    set_hidden(&entries[6], UINT64_MAX);
    expect_difference(entries, "hidden_elems differs: rank 0 has 7168, ranks 3,5,7 have 4096, rank 6 has "
                               "18446744073709551615");
}

static void equal__first_field_wins(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    fill(entries);
    entries[1].agreement.bytes[12] = 0;
    expect_difference(entries, "dtype differs: rank 0 has bf16, rank 1 has fp16");
    entries[2].agreement.bytes[8] = 9;
    expect_difference(entries, "topk differs: rank 0 has 8, rank 2 has 9");
}

static void equal__unnamed_value_and_sign(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    fill(entries);
    entries[7].agreement.bytes[12] = 200;
    expect_difference(entries, "dtype differs: rank 0 has bf16, rank 7 has 200");
    fill(entries);
    entries[7].agreement.bytes[14] = 0xFE;
    entries[7].agreement.bytes[15] = 0xFF;
    expect_difference(entries, "bias differs: rank 0 has 0, rank 7 has -2");
}

static void equal__byte_without_field(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    fill(entries);
    entries[5].agreement.bytes[63] = 7;
    expect_difference(entries, "byte 63 of the arguments differs: rank 0 has 0, rank 5 has 7");
}

static void equal__operations(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    fill(entries);
    entries[3].operation = EPX_OPERATION_COMBINE;
    set_hidden(&entries[3], 1);
    expect_difference(entries, "operation differs in round 12: ranks 0-2,4-7 run dispatch, rank 3 runs combine");
    entries[3].operation = 77;
    expect_difference(entries,
                      "operation differs in round 12: ranks 0-2,4-7 run dispatch, rank 3 runs an unknown operation");
}

static void equal__rounds(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    fill(entries);
    entries[3].round = 13;
    expect_difference(entries, "rounds differ: ranks 0-2,4-7 are in round 12, rank 3 is in round 13");
    entries[3].round = 0;
    expect_difference(entries, "rounds differ: ranks 0-2,4-7 are in round 12, rank 3 is not at the start of a round");
}

/* A field table that reaches outside the 64 bytes reads nothing there. */
static void equal__field_out_of_bounds(void **state)
{
    (void)state;
    const struct epx_agreement_field wild[] = {{.name = "wild", .offset = 62, .width = 8}};
    struct epx_agreement_entry entries[RANKS];
    char text[EPX_ERROR_TEXT_BYTES];
    fill(entries);
    entries[1].agreement.bytes[63] = 1;
    assert_false(epx_agreement_equal(entries, RANKS, wild, 1, text, sizeof text));
    assert_string_equal(text, "wild differs: rank 0 has 0, rank 1 has 256");
}

static void equal__text_is_cut(void **state)
{
    (void)state;
    struct epx_agreement_entry entries[RANKS];
    char text[16];
    fill(entries);
    set_hidden(&entries[3], 4096);
    memset(text, 'x', sizeof text);
    assert_false(epx_agreement_equal(entries, RANKS, fields, 4, text, 10));
    assert_string_equal(text, "hidden_el");
    assert_int_equal(text[10], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal__all_alike),
        cmocka_unit_test(equal__one_rank),
        cmocka_unit_test(equal__several_ranks_and_values),
        cmocka_unit_test(equal__first_field_wins),
        cmocka_unit_test(equal__unnamed_value_and_sign),
        cmocka_unit_test(equal__byte_without_field),
        cmocka_unit_test(equal__operations),
        cmocka_unit_test(equal__rounds),
        cmocka_unit_test(equal__field_out_of_bounds),
        cmocka_unit_test(equal__text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
