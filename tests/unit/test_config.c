#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"

static void set(enum epx_option_id id, const char *text)
{
    assert_int_equal(setenv(epx_option_describe(id)->name, text, 1), 0);
}

static void unset(enum epx_option_id id)
{
    assert_int_equal(unsetenv(epx_option_describe(id)->name), 0);
}

static void expect_number(enum epx_option_id id, const char *text, int64_t expected)
{
    int64_t value = -77;
    set(id, text);
    enum epx_status status = epx_option_integer(id, &value);
    if (status != EPX_OK || value != expected) {
        fail_msg("%s=\"%s\": status %d, value %lld", epx_option_describe(id)->name, text, (int)status,
                 (long long)value);
    }
    unset(id);
}

/* Refused, with name, text and `limit` in the message, and the output left alone. */
static void expect_refused(enum epx_option_id id, const char *text, const char *limit)
{
    char quoted[128];
    int64_t value = -77;
    set(id, text);
    enum epx_status status = epx_option_integer(id, &value);
    if (status != EPX_ERR_CONFIG || value != -77) {
        fail_msg("%s=\"%s\": status %d, value %lld", epx_option_describe(id)->name, text, (int)status,
                 (long long)value);
    }
    snprintf(quoted, sizeof quoted, "%s is \"%s\"", epx_option_describe(id)->name, text);
    assert_non_null(strstr(epx_error_text(), quoted));
    assert_non_null(strstr(epx_error_text(), limit));
    unset(id);
}

static int clear_environment(void **state)
{
    (void)state;
    for (int id = 0; id < EPX_OPTION_COUNT; id++) {
        unset((enum epx_option_id)id);
    }
    return 0;
}

static void describe__table_is_complete(void **state)
{
    (void)state;
    for (int id = 0; id < EPX_OPTION_COUNT; id++) {
        const struct epx_option *option = epx_option_describe((enum epx_option_id)id);
        assert_non_null(option->name);
        assert_non_null(option->default_text);
        assert_non_null(option->help);
        assert_true(strlen(option->help) > 10);
        assert_true((option->choices != NULL) == (option->kind == EPX_OPTION_CHOICE));
        for (int other = 0; other < id; other++) {
            assert_string_not_equal(option->name, epx_option_describe((enum epx_option_id)other)->name);
        }
    }
}

static void integer__defaults(void **state)
{
    (void)state;
    static const struct {
        enum epx_option_id id;
        int64_t value;
    } defaults[] = {
        {EPX_OPTION_LOG, 2},
        {EPX_OPTION_FAULT_RANK, -1},
        {EPX_OPTION_FAULT_FIRST_STEP, 0},
        {EPX_OPTION_CPU, 4},
        {EPX_OPTION_ARENA_MIB, 0},
        {EPX_OPTION_PRODUCT, 0},
        {EPX_OPTION_DEVICE_COUNT, 16},
        {EPX_OPTION_WAIT, 0},
        {EPX_OPTION_THREADS, 0},
        {EPX_OPTION_THREAD_KIB, 512},
        {EPX_OPTION_STREAM_KIB, -1},
        {EPX_OPTION_PART_KIB, 2048},
        {EPX_OPTION_HCCL_BUFFSIZE, 200},
        {EPX_OPTION_HCCL_CONNECT_TIMEOUT, 120},
        {EPX_OPTION_HCCL_EXEC_TIMEOUT, 1836},
        {EPX_OPTION_HCCL_DETERMINISTIC, 0},
        {EPX_OPTION_HCCL_INTRA_PCIE_ENABLE, 0},
        {EPX_OPTION_HCCL_INTRA_ROCE_ENABLE, 1},
    };
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        int64_t value = -77;
        assert_int_equal(epx_option_integer(defaults[i].id, &value), EPX_OK);
        assert_int_equal(value, defaults[i].value);
        assert_false(epx_option_is_set(defaults[i].id));
        set(defaults[i].id, ""); /* empty is unset */
        assert_false(epx_option_is_set(defaults[i].id));
        value = -77;
        assert_int_equal(epx_option_integer(defaults[i].id, &value), EPX_OK);
        assert_int_equal(value, defaults[i].value);
        unset(defaults[i].id);
    }
}

static void integer__ranges(void **state)
{
    (void)state;
    expect_number(EPX_OPTION_HCCL_CONNECT_TIMEOUT, "120", 120);
    expect_number(EPX_OPTION_HCCL_CONNECT_TIMEOUT, "7200", 7200);
    expect_refused(EPX_OPTION_HCCL_CONNECT_TIMEOUT, "119", "[120, 7200]");
    expect_refused(EPX_OPTION_HCCL_CONNECT_TIMEOUT, "7201", "[120, 7200]");
    expect_number(EPX_OPTION_HCCL_EXEC_TIMEOUT, "0", 0);
    expect_number(EPX_OPTION_HCCL_EXEC_TIMEOUT, "2147483647", 2147483647);
    expect_refused(EPX_OPTION_HCCL_EXEC_TIMEOUT, "2147483648", "[0, 2147483647]");
    expect_number(EPX_OPTION_HCCL_BUFFSIZE, "1", 1);
    expect_number(EPX_OPTION_HCCL_BUFFSIZE, "0000000200", 200);
    expect_refused(EPX_OPTION_HCCL_BUFFSIZE, "00000000200", "[1, ");
    expect_refused(EPX_OPTION_HCCL_BUFFSIZE, "0", "[1, ");
    expect_number(EPX_OPTION_FAULT_RANK, "-1", -1);
    expect_refused(EPX_OPTION_FAULT_RANK, "-2", "[-1, ");
    expect_number(EPX_OPTION_FAULT_FIRST_STEP, "281474976710655", 281474976710655);
    expect_refused(EPX_OPTION_FAULT_FIRST_STEP, "281474976710656", "[0, 281474976710655]");
    expect_refused(EPX_OPTION_RANK, "-1", "[0, ");
    expect_refused(EPX_OPTION_WORLD_SIZE, "0", "[1, ");
}

static void integer__takes_digits_only(void **state)
{
    (void)state;
    static const char *const texts[] = {"x",
                                        "12x",
                                        " 200",
                                        "200 ",
                                        "+200",
                                        "0x80",
                                        "1e3",
                                        "2.0",
                                        "--20",
                                        "-",
                                        "２００",
                                        "200\n",
                                        "99999999999999999999999999"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_refused(EPX_OPTION_HCCL_BUFFSIZE, texts[i], "must be an integer in [1, 4294967295]");
    }
}

static void integer__choices(void **state)
{
    (void)state;
    expect_number(EPX_OPTION_CPU, "ref", 0);
    expect_number(EPX_OPTION_CPU, "avx2", 1);
    expect_number(EPX_OPTION_CPU, "avx512", 2);
    expect_number(EPX_OPTION_CPU, "auto", 4);
    expect_number(EPX_OPTION_PRODUCT, "A3", 2);
    expect_number(EPX_OPTION_PRODUCT, "a2", 1);
    expect_number(EPX_OPTION_HCCL_DETERMINISTIC, "TRUE", 1);
    expect_number(EPX_OPTION_HCCL_DETERMINISTIC, "strict", 2);
    expect_number(EPX_OPTION_HCCL_INTRA_ROCE_ENABLE, "0", 0);
    expect_number(EPX_OPTION_HCCL_INTRA_PCIE_ENABLE, "1", 1);
    expect_refused(EPX_OPTION_CPU, "avx", "ref|avx2|avx512|neon|auto");
    expect_refused(EPX_OPTION_CPU, "avx2|avx512", "ref|avx2|avx512|neon|auto");
    expect_refused(EPX_OPTION_CPU, "|", "ref|avx2|avx512|neon|auto");
    expect_refused(EPX_OPTION_HCCL_DETERMINISTIC, "yes", "false|true|strict");
    expect_refused(EPX_OPTION_HCCL_INTRA_PCIE_ENABLE, "2", "0|1");
}

static void integer__of_a_text_is_a_defect(void **state)
{
    (void)state;
    int64_t value = 0;
    assert_int_equal(epx_option_integer(EPX_OPTION_JOB, &value), EPX_ERR_INTERNAL);
}

static void text__value_or_default(void **state)
{
    (void)state;
    assert_string_equal(epx_option_text(EPX_OPTION_JOB), "");
    set(EPX_OPTION_JOB, "night run");
    assert_string_equal(epx_option_text(EPX_OPTION_JOB), "night run");
    assert_true(epx_option_is_set(EPX_OPTION_JOB));
    assert_string_equal(epx_option_text(EPX_OPTION_CPU), "auto");
}

static void op_timeout__own_variable_first(void **state)
{
    (void)state;
    int64_t timeout_ms = 0;
    assert_int_equal(epx_option_op_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, 1836000);
    set(EPX_OPTION_HCCL_EXEC_TIMEOUT, "2147483647");
    assert_int_equal(epx_option_op_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, 2147483647000);
    set(EPX_OPTION_HCCL_EXEC_TIMEOUT, "0");
    assert_int_equal(epx_option_op_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, -1);
    set(EPX_OPTION_OP_TIMEOUT_MS, "250");
    assert_int_equal(epx_option_op_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, 250);
    set(EPX_OPTION_OP_TIMEOUT_MS, "0");
    assert_int_equal(epx_option_op_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, -1);
    set(EPX_OPTION_OP_TIMEOUT_MS, "soon");
    assert_int_equal(epx_option_op_timeout_ms(&timeout_ms), EPX_ERR_CONFIG);
    assert_non_null(strstr(epx_error_text(), "EPX_OP_TIMEOUT is \"soon\""));
    assert_int_equal(timeout_ms, -1);
}

static void join_timeout__own_variable_first(void **state)
{
    (void)state;
    int64_t timeout_ms = 0;
    assert_int_equal(epx_option_join_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, 120000);
    set(EPX_OPTION_HCCL_CONNECT_TIMEOUT, "5");
    assert_int_equal(epx_option_join_timeout_ms(&timeout_ms), EPX_ERR_CONFIG);
    set(EPX_OPTION_JOIN_TIMEOUT_MS, "1500");
    assert_int_equal(epx_option_join_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, 1500);
    set(EPX_OPTION_JOIN_TIMEOUT_MS, "0");
    assert_int_equal(epx_option_join_timeout_ms(&timeout_ms), EPX_OK);
    assert_int_equal(timeout_ms, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(describe__table_is_complete, clear_environment),
        cmocka_unit_test_setup(integer__defaults, clear_environment),
        cmocka_unit_test_setup(integer__ranges, clear_environment),
        cmocka_unit_test_setup(integer__takes_digits_only, clear_environment),
        cmocka_unit_test_setup(integer__choices, clear_environment),
        cmocka_unit_test_setup(integer__of_a_text_is_a_defect, clear_environment),
        cmocka_unit_test_setup(text__value_or_default, clear_environment),
        cmocka_unit_test_setup(op_timeout__own_variable_first, clear_environment),
        cmocka_unit_test_setup(join_timeout__own_variable_first, clear_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
