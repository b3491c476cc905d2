#include "moe/shared_rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_interval(int64_t shared_rank, int64_t source, int64_t tokens, int64_t shared, int64_t first,
                            int64_t end)
{
    struct epx_token_interval interval = epx_shared_rows_interval(shared_rank, source, tokens, shared);
    assert_int_equal(interval.first, first);
    assert_int_equal(interval.end, end);
}

/* operators.md 2.2: W = 4, S = 2, BS = 3. */
static void shared_rows__worked_example(void **state)
{
    (void)state;
    assert_interval(0, 2, 3, 2, 0, 1);
    assert_interval(0, 3, 3, 2, 0, 2);
    assert_interval(1, 2, 3, 2, 1, 3);
    assert_interval(1, 3, 3, 2, 2, 3);
    assert_int_equal(epx_shared_rows_pseudo_count(0, 0, 3, 2), 1);
    assert_int_equal(epx_shared_rows_pseudo_count(1, 0, 3, 2), 2);
    assert_int_equal(epx_shared_rows_pseudo_count(0, 1, 3, 2), 2);
    assert_int_equal(epx_shared_rows_pseudo_count(1, 1, 3, 2), 1);
}

/* The other form of 2.2: token t of e goes to s = ceil((t + 1 + q) * S / BS) - 1 - e, q = floor(e * BS / S). */
static void shared_rows__each_token_goes_to_one_rank(void **state)
{
    (void)state;
    for (int64_t shared = 1; shared <= 9; shared++) {
        for (int64_t source = shared; source < shared + 12; source++) {
            for (int64_t tokens = 1; tokens <= 20; tokens++) {
                int64_t q = source * tokens / shared;
                for (int64_t t = 0; t < tokens; t++) {
                    int64_t expected = ((t + 1 + q) * shared + tokens - 1) / tokens - 1 - source;
                    int64_t found = 0;
                    for (int64_t s = 0; s < shared; s++) {
                        struct epx_token_interval interval = epx_shared_rows_interval(s, source, tokens, shared);
                        if (t >= interval.first && t < interval.end) {
                            assert_int_equal(s, expected);
                            found++;
                        }
                    }
                    assert_int_equal(found, 1);
                }
            }
        }
    }
}

static void shared_rows__pseudo_counts_add_up(void **state)
{
    (void)state;
    for (int64_t shared = 1; shared <= 9; shared++) {
        for (int64_t tokens = 0; tokens <= 30; tokens++) {
            for (int64_t rank = 0; rank < shared; rank++) {
                int64_t total = 0;
                for (int64_t i = 0; i < shared; i++) {
                    int64_t count = epx_shared_rows_pseudo_count(i, rank, tokens, shared);
                    assert_true(count >= 0);
                    total += count;
                }
                assert_int_equal(total, tokens);
            }
        }
    }
}

static void shared_rows__no_tokens(void **state)
{
    (void)state;
    assert_interval(1, 4, 0, 3, 0, 0);
}

/* Where a 64-bit product of place and tokens would wrap, were it formed before the division. */
static void shared_rows__largest_domain(void **state)
{
    int64_t tokens = (INT64_C(1) << 49) - 1;
    int64_t shared = 4095;
    int64_t covered = 0;
    (void)state;
    for (int64_t s = 0; s < shared; s++) {
        struct epx_token_interval interval = epx_shared_rows_interval(s, 4095, tokens, shared);
        assert_int_equal(interval.first, covered);
        assert_true(interval.end >= interval.first);
        covered = interval.end;
    }
    assert_int_equal(covered, tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_rows__worked_example),       cmocka_unit_test(shared_rows__each_token_goes_to_one_rank),
        cmocka_unit_test(shared_rows__pseudo_counts_add_up), cmocka_unit_test(shared_rows__no_tokens),
        cmocka_unit_test(shared_rows__largest_domain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
