/*
 * Which table is chosen, that a table is complete, that the variants agree with `ref` also when a program has switched
 * subnormals off. With `--time`: no test, but bytes a second of each kernel.
 */
#include "kernels/kernel_test.h"
#include "kernels/kernel_timing.h"

#include <stdio.h>
#include <sys/wait.h>

static const char *const all_isas[] = {"avx512", "avx2", "neon", "ref"}; /* best first */

static const char *best_isa(void)
{
    size_t i = 0;
    while (epx_kernels_by_name(all_isas[i]) == NULL) {
        i++;
    }
    return all_isas[i];
}

/* The choice is made once in a process: a child makes it. Returns the bytes of its warnings. */
static size_t check_choice(const char *value, const char *expected)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (value != NULL) {
            setenv("EPX_CPU", value, 1);
        } else {
            unsetenv("EPX_CPU");
        }
        const struct epx_kernel_table *table = epx_kernels();
        _exit(strcmp(table->isa, expected) == 0 && table == epx_kernels() ? 0 : 1);
    }
    close(ends[1]);
    char text[512];
    size_t used = 0;
    ssize_t got = 1;
    while (got > 0 && used < sizeof text) {
        got = read(ends[0], text + used, sizeof text - used);
        used += got > 0 ? (size_t)got : 0;
    }
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("EPX_CPU=%s: not %s", value != NULL ? value : "(unset)", expected);
    }
    return used;
}

static void kernels__chosen_by_environment(void **state)
{
    (void)state;
    assert_int_equal(check_choice(NULL, best_isa()), 0);
    assert_int_equal(check_choice("", best_isa()), 0);
    assert_int_equal(check_choice("auto", best_isa()), 0);
    assert_true(check_choice("mmx", best_isa()) > 0);
    assert_true(check_choice("AVX2", best_isa()) > 0);
    for (size_t i = 0; i < sizeof all_isas / sizeof all_isas[0]; i++) {
        if (epx_kernels_by_name(all_isas[i]) != NULL) {
            assert_int_equal(check_choice(all_isas[i], all_isas[i]), 0);
        } else {
            assert_true(check_choice(all_isas[i], best_isa()) > 0);
        }
    }
}

static void kernels_by_name__unknown_is_null(void **state)
{
    (void)state;
    assert_null(epx_kernels_by_name("mmx"));
    assert_null(epx_kernels_by_name(""));
    assert_null(epx_kernels_by_name("auto"));
}

static void table__is_complete(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    assert_non_null(table->copy_row);
    assert_non_null(table->copy_row_streaming);
    assert_non_null(table->dequantize_row);
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        assert_non_null(table->quantize_row[format]);
        assert_non_null(table->weighted_sum_row[format]);
        assert_non_null(table->weighted_sum_row_streaming[format]);
    }
}

enum { MIXED_ELEMS = 1000, MIXED_ROWS = 3 };

static uint16_t mixed_rows[MIXED_ROWS][MIXED_ELEMS];
static float mixed_smooth[MIXED_ELEMS];

struct results {
    int8_t quantized[2][MIXED_ELEMS];
    float scales[2];
    uint16_t sum[MIXED_ELEMS];
    uint16_t streamed_sum[MIXED_ELEMS];
    float dequantized[MIXED_ELEMS];
};

static void run_all(const struct epx_kernel_table *table, enum epx_row_format format, struct results *results)
{
    const uint16_t *rows[MIXED_ROWS] = {mixed_rows[0], mixed_rows[1], mixed_rows[2]};
    const float weights[MIXED_ROWS] = {0x1p-126f, 0.7f, -0x1.8p-120f};
    memset(results, 0, sizeof *results);
    results->scales[0] = table->quantize_row[format](results->quantized[0], rows[0], NULL, MIXED_ELEMS);
    results->scales[1] = table->quantize_row[format](results->quantized[1], rows[0], mixed_smooth, MIXED_ELEMS);
    table->weighted_sum_row[format](results->sum, rows, weights, MIXED_ROWS, rows[0], MIXED_ELEMS);
    table->weighted_sum_row_streaming[format](results->streamed_sum, rows, weights, MIXED_ROWS, rows[0], MIXED_ELEMS);
    epx_kernel_store_fence();
    table->dequantize_row(results->dequantized, results->quantized[0], 0x1p-130f, MIXED_ELEMS);
}

static void set_flush_to_zero(bool on)
{
#if defined(__x86_64__)
    /* Bits 15 and 6 of MXCSR; 0x1F80 is its state at the start of a program. */
    __builtin_ia32_ldmxcsr(on ? 0x1F80u | 0x8040u : 0x1F80u);
#elif defined(__aarch64__)
    /* FPCR: FZ and FZ16 switch subnormals off, DN makes every NaN result the default one. 0 is the state at the start
     * of a program. */
    uint64_t control = on ? 1u << 24 | 1u << 19 | 1u << 25 : 0;
    __asm__ volatile("msr fpcr, %0" ::"r"(control) : "memory");
#else
#error "how subnormals are switched off here"
#endif
}

static bool are_subnormals_off(void)
{
    volatile float smallest_normal = 0x1p-126f;
    volatile float half = smallest_normal * 0.5f;
    return bits_of(half) == 0;
}

static void table__same_bits_as_ref_with_subnormals_off(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    static struct results expected;
    static struct results actual;
    uint64_t seed = 31;
    for (int centre = -136; centre < 10; centre++) {
        enum epx_row_format format = centre % 2 == 0 ? EPX_ROW_BF16 : EPX_ROW_FP16;
        for (size_t i = 0; i < MIXED_ROWS; i++) {
            random_row(format, mixed_rows[i], MIXED_ELEMS, &seed, format == EPX_ROW_BF16 ? centre : centre / 6, 4);
        }
        for (size_t h = 0; h < MIXED_ELEMS; h++) {
            mixed_smooth[h] = random_float(&seed, format == EPX_ROW_BF16 ? 0 : centre, 3);
        }
        for (int off = 0; off < 2; off++) {
            set_flush_to_zero(off != 0);
            assert_int_equal(are_subnormals_off(), off);
            run_all(epx_kernels_by_name("ref"), format, &expected);
            run_all(table, format, &actual);
            set_flush_to_zero(false);
            assert_memory_equal(&actual, &expected, sizeof expected);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--time") == 0) {
        print_times(all_isas, sizeof all_isas / sizeof all_isas[0]);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels__chosen_by_environment),
        cmocka_unit_test(kernels_by_name__unknown_is_null),
        EACH_VARIANT(table__is_complete),
        EACH_VARIANT(table__same_bits_as_ref_with_subnormals_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
