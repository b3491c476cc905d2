#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "memory/arena_extent.h"

#define START 4096u
#define UNITS 400u /* the property test works on a line of this many units of 64 bytes */
#define UNIT  64u

/* Extents lie end to end, are not empty, and no two neighbours could be one. */
static void expect_well_formed(const struct epx_extents *extents, uint64_t start)
{
    uint64_t next = start;
    for (size_t i = 0; i < extents->count; i++) {
        const struct epx_extent *item = &extents->items[i];
        assert_int_equal(item->offset, next);
        assert_true(item->bytes > 0);
        assert_true(item->used_bytes <= item->bytes);
        if (i > 0 && item->state == item[-1].state) {
            assert_true(item->state == EPX_EXTENT_LIVE || item->state == EPX_EXTENT_PENDING);
        }
        next += item->bytes;
    }
    assert_int_equal(extents->end, next);
}

static void extents__extend_makes_one_hole(void **state)
{
    (void)state;
    struct epx_extents extents;
    epx_extents_init(&extents, START);
    assert_null(epx_extents_at(&extents, START));
    assert_true(epx_extents_reserve(&extents, 2));
    epx_extents_extend(&extents, 1000);
    epx_extents_extend(&extents, 24);
    expect_well_formed(&extents, START);
    assert_int_equal(extents.count, 1);
    assert_null(epx_extents_at(&extents, START - 1));
    assert_null(epx_extents_at(&extents, START + 1024));
    assert_int_equal(epx_extents_at(&extents, START + 1023)->offset, START);
    epx_extents_fini(&extents);
}

static void extents__find_is_first_fit_and_aligned(void **state)
{
    (void)state;
    struct epx_extents extents;
    epx_extents_init(&extents, START);
    assert_true(epx_extents_reserve(&extents, 8));
    epx_extents_extend(&extents, 16384);
    epx_extents_assign(&extents, START + 64, 128, EPX_EXTENT_LIVE);
    epx_extents_assign(&extents, START + 192, 512, EPX_EXTENT_FREE);
    uint64_t offset = 0;
    assert_true(epx_extents_find(&extents, EPX_EXTENT_HOLE, 64, 64, &offset));
    assert_int_equal(offset, START);
    assert_true(epx_extents_find(&extents, EPX_EXTENT_HOLE, 65, 64, &offset));
    assert_int_equal(offset, START + 704);
    assert_true(epx_extents_find(&extents, EPX_EXTENT_HOLE, 65, 4096, &offset));
    assert_int_equal(offset, 2 * START);
    assert_true(epx_extents_find(&extents, EPX_EXTENT_FREE, 448, 256, &offset));
    assert_int_equal(offset, START + 256);
    assert_false(epx_extents_find(&extents, EPX_EXTENT_FREE, 449, 256, &offset));
    assert_false(epx_extents_find(&extents, EPX_EXTENT_HOLE, UINT64_MAX, 64, &offset));
    assert_int_equal(offset, START + 256);
    epx_extents_fini(&extents);
}

/* Random assignments inside single extents, against a line of units that is painted. */
static void extents__assign_like_a_painted_line(void **state)
{
    (void)state;
    const unsigned seed = (unsigned)epx_clock_ns();
    print_message("seed %u\n", seed);
    unsigned random = seed;
    static const enum epx_extent_state states[] = {EPX_EXTENT_LIVE, EPX_EXTENT_PENDING, EPX_EXTENT_FREE,
                                                   EPX_EXTENT_HOLE};
    enum epx_extent_state line[UNITS];
    struct epx_extents extents;
    epx_extents_init(&extents, 0);
    assert_true(epx_extents_reserve(&extents, 1));
    epx_extents_extend(&extents, UNITS * UNIT);
    for (size_t i = 0; i < UNITS; i++) {
        line[i] = EPX_EXTENT_HOLE;
    }
    for (size_t step = 0; step < 5000; step++) {
        size_t first = (size_t)rand_r(&random) % UNITS;
        const struct epx_extent *extent = epx_extents_at(&extents, first * UNIT);
        size_t most = (size_t)(extent->offset + extent->bytes) / UNIT - first;
        size_t count = 1 + (size_t)rand_r(&random) % most;
        enum epx_extent_state paint = states[rand_r(&random) % 4];
        assert_true(epx_extents_reserve(&extents, 2));
        epx_extents_assign(&extents, first * UNIT, count * UNIT, paint);
        for (size_t i = 0; i < count; i++) {
            line[first + i] = paint;
        }
        expect_well_formed(&extents, 0);
        for (size_t i = 0; i < UNITS; i++) {
            assert_int_equal(epx_extents_at(&extents, i * UNIT + UNIT - 1)->state, line[i]);
        }
    }
    epx_extents_fini(&extents);
}

/* Places of free memory and holes in turn, against the same search on a line of units. */
static void extents__runs_like_a_painted_line(void **state)
{
    (void)state;
    uint64_t seed = epx_clock_ns();
    print_message("seed %llu\n", (unsigned long long)seed);
    srand48((long)seed);
    for (int round = 0; round < 2000; round++) {
        struct epx_extents extents;
        enum epx_extent_state line[UNITS];
        epx_extents_init(&extents, 0);
        assert_true(epx_extents_reserve(&extents, UNITS));
        epx_extents_extend(&extents, UNITS * UNIT);
        for (size_t i = 0; i < UNITS; i++) {
            line[i] = EPX_EXTENT_HOLE;
        }
        for (int piece = 0; piece < 30; piece++) {
            size_t first = (size_t)lrand48() % UNITS;
            enum epx_extent_state paint = lrand48() % 3 == 0 ? EPX_EXTENT_LIVE : EPX_EXTENT_FREE;
            if (line[first] == EPX_EXTENT_HOLE) {
                epx_extents_assign(&extents, first * UNIT, UNIT, paint);
                line[first] = paint;
            }
        }
        size_t wanted = 1 + (size_t)lrand48() % 40;
        size_t align = (size_t)1 << (lrand48() % 4);
        size_t place = 0;
        for (size_t run = 0; place + run < UNITS && run < wanted;) {
            bool usable = line[place + run] == EPX_EXTENT_HOLE || line[place + run] == EPX_EXTENT_FREE;
            run = usable ? run + 1 : 0;
            place = usable ? place : place + align;
        }
        uint64_t offset;
        bool found = epx_extents_find_run(&extents, wanted * UNIT, align * UNIT, &offset);
        assert_int_equal(found, place + wanted <= UNITS);
        if (found) {
            assert_int_equal(offset, place * UNIT);
            epx_extents_take_run(&extents, offset, wanted * UNIT);
            for (size_t i = place; i < place + wanted; i++) {
                line[i] = EPX_EXTENT_PENDING;
            }
            expect_well_formed(&extents, 0);
            assert_int_equal(epx_extents_at(&extents, offset)->bytes, wanted * UNIT);
            for (size_t i = 0; i < UNITS; i++) {
                assert_int_equal(epx_extents_at(&extents, i * UNIT)->state, line[i]);
            }
        }
        epx_extents_fini(&extents);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents__extend_makes_one_hole),
        cmocka_unit_test(extents__find_is_first_fit_and_aligned),
        cmocka_unit_test(extents__assign_like_a_painted_line),
        cmocka_unit_test(extents__runs_like_a_painted_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
