#include "moe/routing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COPY_MAX   64
#define EXPERT_MAX 16

struct arrays {
    int32_t offsets[EXPERT_MAX + 2];
    int32_t sorted[COPY_MAX + 1];
    int32_t occurrence[COPY_MAX + 1];
};

#define GUARD 0x5A5A5A5A

static int64_t compute(const int32_t *ids, int64_t copies, int64_t experts, struct arrays *arrays)
{
    struct epx_routing routing = {arrays->offsets, arrays->sorted, arrays->occurrence};
    arrays->offsets[experts + 1] = GUARD;
    arrays->sorted[copies] = GUARD;
    arrays->occurrence[copies] = GUARD;
    return epx_routing_compute(ids, copies, experts, &routing);
}

static void routing_compute__worked_example(void **state)
{
    static const int32_t ids[] = {0, 2, 2, 3};
    static const int32_t offsets[] = {0, 1, 1, 3, 4};
    static const int32_t sorted[] = {0, 1, 2, 3};
    static const int32_t occurrence[] = {0, 0, 1, 0};
    struct arrays arrays;
    (void)state;
    assert_int_equal(compute(ids, 4, 4, &arrays), -1);
    assert_memory_equal(arrays.offsets, offsets, sizeof offsets);
    assert_memory_equal(arrays.sorted, sorted, sizeof sorted);
    assert_memory_equal(arrays.occurrence, occurrence, sizeof occurrence);
}

static void routing_compute__sorted_is_stable(void **state)
{
    static const int32_t ids[] = {3, 1, 3, 1, 0, 3, 1};
    static const int32_t sorted[] = {4, 1, 3, 6, 0, 2, 5};
    static const int32_t occurrence[] = {0, 0, 1, 1, 0, 2, 2};
    struct arrays arrays;
    (void)state;
    assert_int_equal(compute(ids, 7, 4, &arrays), -1);
    assert_memory_equal(arrays.sorted, sorted, sizeof sorted);
    assert_memory_equal(arrays.occurrence, occurrence, sizeof occurrence);
}

static void routing_compute__no_copies(void **state)
{
    struct arrays arrays;
    (void)state;
    assert_int_equal(compute(NULL, 0, 3, &arrays), -1);
    for (int expert = 0; expert <= 3; expert++) {
        assert_int_equal(arrays.offsets[expert], 0);
    }
    assert_int_equal(arrays.sorted[0], GUARD);
}

static void routing_compute__first_bad_id(void **state)
{
    static const int32_t too_large[] = {0, 3, 4, -1};
    static const int32_t negative[] = {0, -1, 4, 2};
    static const int32_t extreme[] = {INT32_MIN};
    struct arrays arrays;
    (void)state;
    assert_int_equal(compute(too_large, 4, 4, &arrays), 2);
    assert_int_equal(compute(negative, 4, 4, &arrays), 1);
    assert_int_equal(compute(extreme, 1, 4, &arrays), 0);
    assert_int_equal(compute(too_large, 2, 4, &arrays), -1);
}

/* Against a count by hand, quadratic: for each copy the number of earlier ones with its expert, and those before it in
 * the order of (expert, index). */
static void routing_compute__random(void **state)
{
    uint32_t seed = 7;
    (void)state;
    for (int round = 0; round < 300; round++) {
        int32_t ids[COPY_MAX];
        struct arrays arrays;
        int64_t copies = round % (COPY_MAX + 1);
        int64_t experts = 1 + round % EXPERT_MAX;
        for (int64_t j = 0; j < copies; j++) {
            seed = seed * 1664525u + 1013904223u;
            ids[j] = (int32_t)((seed >> 16) % (uint32_t)experts);
        }
        assert_int_equal(compute(ids, copies, experts, &arrays), -1);
        for (int64_t j = 0; j < copies; j++) {
            int32_t earlier = 0;
            int32_t place = 0;
            for (int64_t i = 0; i < copies; i++) {
                earlier += i < j && ids[i] == ids[j];
                place += ids[i] < ids[j] || (ids[i] == ids[j] && i < j);
            }
            assert_int_equal(arrays.occurrence[j], earlier);
            assert_int_equal(arrays.sorted[place], j);
        }
        assert_int_equal(arrays.offsets[experts], copies);
        assert_int_equal(arrays.offsets[experts + 1], GUARD);
        assert_int_equal(arrays.sorted[copies], GUARD);
        assert_int_equal(arrays.occurrence[copies], GUARD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routing_compute__worked_example), cmocka_unit_test(routing_compute__sorted_is_stable),
        cmocka_unit_test(routing_compute__no_copies),      cmocka_unit_test(routing_compute__first_bad_id),
        cmocka_unit_test(routing_compute__random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
