#include "kernels/kernel_test.h"

typedef void copy_function(void *dst, const void *src, size_t bytes);

static void check_copy(copy_function *copy, struct fence *from, struct fence *to, size_t bytes, bool from_end,
                       size_t src_offset, size_t dst_offset)
{
    uint64_t seed = bytes * 131 + src_offset * 17 + dst_offset;
    uint8_t *src = fence_place(from, bytes, from_end, src_offset);
    uint8_t *dst = fence_place(to, bytes, from_end, dst_offset);
    for (size_t i = 0; i < bytes; i++) {
        src[i] = (uint8_t)random_next(&seed);
    }
    copy(dst, src, bytes);
    epx_kernel_store_fence();
    assert_memory_equal(dst, src, bytes);
    fence_check(to, dst, bytes);
}

static void check_all_copies(copy_function *copy)
{
    struct fence from = fence_create(4096);
    struct fence to = fence_create(4096);
    for (size_t bytes = 0; bytes <= 300; bytes++) {
        for (size_t offset = 0; offset < 65; offset++) {
            check_copy(copy, &from, &to, bytes, false, 0, offset);
            check_copy(copy, &from, &to, bytes, true, offset, 0);
        }
    }
    for (size_t bytes = 301; bytes < 1300; bytes += 17) {
        check_copy(copy, &from, &to, bytes, false, bytes % 31, bytes % 67);
        check_copy(copy, &from, &to, bytes, true, bytes % 13, bytes % 64);
    }
    fence_destroy(&from);
    fence_destroy(&to);
}

static void check_long_copies(copy_function *copy)
{
    struct fence from = fence_create(4 * HIDDEN_ELEMS + 128);
    struct fence to = fence_create(4 * HIDDEN_ELEMS + 128);
    for (size_t offset = 0; offset < 128; offset++) {
        check_copy(copy, &from, &to, 2 * HIDDEN_ELEMS, false, 0, offset);
        check_copy(copy, &from, &to, 2 * HIDDEN_ELEMS, true, offset, offset / 2);
        check_copy(copy, &from, &to, 4 * HIDDEN_ELEMS - offset, false, offset, 0);
    }
    fence_destroy(&from);
    fence_destroy(&to);
}

static void copy_row(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    check_all_copies(table->copy_row);
    check_long_copies(table->copy_row);
    table->copy_row(NULL, NULL, 0);
}

static void copy_row_streaming(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    check_all_copies(table->copy_row_streaming);
    check_long_copies(table->copy_row_streaming);
    table->copy_row_streaming(NULL, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {EACH_VARIANT(copy_row), EACH_VARIANT(copy_row_streaming)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
