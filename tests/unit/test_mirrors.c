/* Mirrors of ranks on other hosts, and what is refused where a world has several. */
#include "moe/mirrors.h"

#include "moe/shape.h"
#include "ranks/hosts_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct epx_comm *open_rank(uint64_t key, uint32_t rank, uint32_t rank_count)
{
    const struct hosts_spec spec = {.key = key,
                                    .rank = rank,
                                    .rank_count = rank_count,
                                    .server_rank_count = rank_count,
                                    .host_of = {0, 1, 1, 0, 1},
                                    .op_timeout_ms = 1000};
    return hosts_open(&spec);
}

static struct epx_mirror_sizes some_sizes(int64_t rows)
{
    struct epx_mirror_sizes sizes = {.exchange_bytes = 1000};
    sizes.sets[0].row_capacity = rows;
    sizes.sets[0].row_bytes = 100;
    sizes.sets[0].scales = true;
    return sizes;
}

/* Host 0 has ranks 0 and 3, host 1 has 1, 2 and 4: rank 0 stands for the first and the third of host 1. */
static void mirrors__are_of_the_ranks_it_stands_for(void **state)
{
    static const uint32_t counts[] = {2, 1, 1, 1, 0};
    const struct epx_mirror_sizes sizes = some_sizes(7);
    struct epx_comm *comms[5];
    (void)state;
    for (uint32_t rank = 0; rank < 5; rank++) {
        struct epx_mirrors mirrors;
        comms[rank] = open_rank(9001, rank, 5);
        assert_int_equal(epx_mirrors_init(&mirrors, comms[rank], &sizes), EPX_OK);
        assert_int_equal(mirrors.count, counts[rank]);
        assert_true((epx_mirrors_of(&mirrors, 1) != NULL) == (rank == 0));
        assert_true((epx_mirrors_of(&mirrors, 4) != NULL) == (rank == 0));
        assert_true((epx_mirrors_of(&mirrors, 2) != NULL) == (rank == 3));
        assert_true((epx_mirrors_of(&mirrors, 0) != NULL) == (rank == 1));
        assert_true((epx_mirrors_of(&mirrors, 3) != NULL) == (rank == 2));
        epx_mirrors_fini(&mirrors);
    }
    for (uint32_t rank = 0; rank < 5; rank++) {
        hosts_close(comms[rank]);
    }
}

static void assert_published(const struct epx_remote_mirror *mirror, int64_t rows)
{
    uint64_t offset;
    const struct epx_remote_set *set = &mirror->sets[0];
    const struct epx_published_rows published = epx_mirror_published(mirror, 0, rows);
    assert_int_equal(set->row_capacity, rows);
    assert_int_equal(published.row_count, rows);
    assert_int_equal(published.pitch_bytes, 128);
    assert_true(epx_arena_offset_of(set->rows, (size_t)rows * 128, &offset));
    assert_int_equal(published.offset, offset);
    assert_true(epx_arena_offset_of(set->scales, (size_t)rows * sizeof(float), &offset));
    assert_int_equal(published.scales_offset, offset);
    assert_int_equal(epx_mirror_published(mirror, 0, 0).row_count, 0);
    assert_int_equal(mirror->sets[1].row_capacity, 0);
}

static void mirrors__can_be_resized(void **state)
{
    struct epx_mirror_sizes sizes = some_sizes(7);
    struct epx_comm *comm = open_rank(9002, 0, 5);
    struct epx_mirrors mirrors;
    uint64_t live_before;
    uint64_t live_after;
    uint64_t count;
    (void)state;
    epx_arena_usage(&live_before, &count);
    assert_int_equal(epx_mirrors_init(&mirrors, comm, &sizes), EPX_OK);
    assert_published(epx_mirrors_of(&mirrors, 1), 7);
    sizes = some_sizes(50);
    assert_int_equal(epx_mirrors_resize(&mirrors, 1, &sizes), EPX_OK);
    assert_published(epx_mirrors_of(&mirrors, 1), 50);
    assert_published(epx_mirrors_of(&mirrors, 4), 7);
    sizes = some_sizes(INT64_MAX / 10);
    assert_int_equal(epx_mirrors_resize(&mirrors, 1, &sizes), EPX_ERR_NO_MEMORY);
    assert_published(epx_mirrors_of(&mirrors, 1), 50);
    epx_mirrors_fini(&mirrors);
    epx_arena_usage(&live_after, &count);
    assert_int_equal(live_before, live_after);
    hosts_close(comm);
}

static void mirrors__refuse_rows_that_cannot_cross(void **state)
{
    struct epx_mirror_sizes sizes = some_sizes(1);
    struct epx_comm *comm = open_rank(9003, 0, 2);
    struct epx_mirrors mirrors;
    (void)state;
    sizes.sets[0].row_bytes = EPX_REMOTE_ROW_BYTES_MAX;
    assert_int_equal(epx_mirrors_init(&mirrors, comm, &sizes), EPX_OK);
    epx_mirrors_fini(&mirrors);
    sizes.sets[0].row_bytes++;
    assert_int_equal(epx_mirrors_init(&mirrors, comm, &sizes), EPX_ERR_UNSUPPORTED);
    assert_string_equal(epx_error_text(), "a row has 524289 bytes, must have at most 524288 to go to another host");
    epx_mirrors_fini(&mirrors);
    hosts_close(comm);
}

static void shape__tensor_parallel_peers_are_on_one_host(void **state)
{
    const struct epx_moe_shape shape = {
        .expert_count = 2, .hidden_elems = 8, .topk = 1, .tp_rank_count = 2, .dtype = EPX_DTYPE_BF16};
    struct epx_comm *comm = open_rank(9004, 0, 2);
    struct epx_moe_world world;
    (void)state;
    assert_int_equal(epx_moe_shape_check(&shape, 1, comm, comm, &world), EPX_ERR_UNSUPPORTED);
    assert_string_equal(epx_error_text(), "the ranks of groupTp are on 2 hosts, must be on one");
    hosts_close(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mirrors__are_of_the_ranks_it_stands_for),
        cmocka_unit_test(mirrors__can_be_resized),
        cmocka_unit_test(mirrors__refuse_rows_that_cannot_cross),
        cmocka_unit_test(shape__tensor_parallel_peers_are_on_one_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
