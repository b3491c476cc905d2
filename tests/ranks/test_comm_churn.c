/* Communicators that come and go: nothing may stay behind, in the process or in its arena. */
#include "rank_world.h"

#include "memory/arena.h"

#include <dirent.h>
#include <malloc.h>

#define RANKS     4u
#define CREATIONS (300u / WORLD_SLOWNESS)
#define WARM_UP   20u
/* Heaps of threads grow and are trimmed; a sanitizer keeps books of its own. */
#define MAPS_SLACK (WORLD_SLOWNESS > 1 ? 1000 : 6)
#define HEAP_SLACK 65536

struct footprint {
    long descriptors;
    long mappings;
    long threads;
    long heap_bytes;
    long live_bytes;
    long live_count;
};

static long count_entries(const char *path)
{
    long count = 0;
    DIR *directory = opendir(path);
    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return count;
}

static long count_lines(const char *path)
{
    long count = 0;
    FILE *file = fopen(path, "r");
    for (int c = 0; file != NULL && (c = fgetc(file)) != EOF;) {
        count += c == '\n';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return count;
}

static struct footprint take_footprint(void)
{
    uint64_t live_bytes = 0;
    uint64_t live_count = 0;
    epx_arena_usage(&live_bytes, &live_count);
    return (struct footprint){
        .descriptors = count_entries("/proc/self/fd"),
        .mappings = count_lines("/proc/self/maps"),
        .threads = count_entries("/proc/self/task"),
        .heap_bytes = (long)mallinfo2().uordblks,
        .live_bytes = (long)live_bytes,
        .live_count = (long)live_count,
    };
}

static bool is_flat(const struct footprint *before, const struct footprint *after)
{
    bool flat = after->descriptors == before->descriptors && after->threads == before->threads &&
                after->mappings <= before->mappings + MAPS_SLACK &&
                after->heap_bytes <= before->heap_bytes + HEAP_SLACK && after->live_bytes == before->live_bytes &&
                after->live_count == before->live_count;
    if (!flat) {
        (void)fprintf(stderr,
                      "descriptors %ld -> %ld, mappings %ld -> %ld, threads %ld -> %ld, heap %ld -> %ld, arena %ld -> "
                      "%ld bytes in %ld -> %ld\n",
                      before->descriptors, after->descriptors, before->mappings, after->mappings, before->threads,
                      after->threads, before->heap_bytes, after->heap_bytes, before->live_bytes, after->live_bytes,
                      before->live_count, after->live_count);
    }
    return flat;
}

/* Waits until all ranks have come here for the n-th time, n from 1. A rank that failed lets the others run into it. */
static void gather(struct world *world, uint64_t n)
{
    uint64_t deadline_ns = epx_deadline_after_ms(WORLD_LIMIT_MS);
    (void)atomic_fetch_add(&world->stage, 1);
    while (atomic_load(&world->stage) < n * world->rank_count && epx_clock_ns() < deadline_ns) {
        sleep_us(100);
    }
}

/* Of the threads of one process one looks, so that none counts another's descriptors. */
static struct footprint look(const struct world *world, uint32_t rank)
{
    return world->variant == 1 && rank != 0 ? (struct footprint){0} : take_footprint();
}

/* Every other communicator fails before it is closed; every third is closed while another one uses the same arenas. */
static void churning_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *kept = NULL;
    struct footprint before = {0};
    for (uint32_t n = 0; n < CREATIONS; n++) {
        struct epx_comm *comm = NULL;
        if (n == WARM_UP) {
            gather(world, 1);
            before = look(world, rank);
            gather(world, 2);
        }
        RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
        RANK_CHECK(world_round(comm, EPX_OPERATION_BARRIER) == EPX_OK);
        if (n % 3 == 0) {
            kept = comm;
            continue;
        }
        if (n % 2 == 0) {
            RANK_CHECK(epx_comm_abort(comm, EPX_ERR_ABORTED, "enough") == EPX_ERR_ABORTED);
            RANK_CHECK(world_round(comm, EPX_OPERATION_BARRIER) == EPX_ERR_ABORTED);
        }
        RANK_CHECK(epx_comm_close(comm) == EPX_OK);
        if (kept != NULL) {
            RANK_CHECK(world_round(kept, EPX_OPERATION_BARRIER) == EPX_OK);
            RANK_CHECK(epx_comm_close(kept) == EPX_OK);
            kept = NULL;
        }
    }
    RANK_CHECK(kept == NULL || epx_comm_close(kept) == EPX_OK);
    gather(world, 3);
    struct footprint after = look(world, rank);
    gather(world, 4);
    RANK_CHECK(is_flat(&before, &after));
}

static void churn__processes(void **state)
{
    (void)state;
    struct world *world = world_create(RANKS, 30000);
    world_run(world, churning_rank);
    world_destroy(world);
}

static void churn__threads(void **state)
{
    (void)state;
    struct world *world = world_create(RANKS, 30000);
    world->variant = 1;
    world_run_threads(world, churning_rank);
    world_destroy(world);
}

/* A start that fails leaves nothing either. */
static void failing_rank(struct world *world, uint32_t rank)
{
    struct footprint before = {0};
    for (uint32_t n = 0; n < 40; n++) {
        struct epx_comm *comm = NULL;
        struct epx_comm_spec spec = {
            .rank = 0, .rank_count = 2, .join_timeout_ms = 5, .op_timeout_ms = 100, .what = "nobody's world"};
        memcpy(spec.key, world->key, sizeof spec.key);
        if (n == 5) {
            before = take_footprint();
        }
        RANK_CHECK(epx_comm_open(&spec, &comm) == EPX_ERR_JOIN_TIMEOUT);
    }
    struct footprint after = take_footprint();
    RANK_CHECK(is_flat(&before, &after));
}

static void churn__failed_starts(void **state)
{
    (void)state;
    struct world *world = world_create(1, 1000);
    world_run(world, failing_rank);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(churn__processes),
        cmocka_unit_test(churn__threads),
        cmocka_unit_test(churn__failed_starts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
