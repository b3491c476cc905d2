/* Worlds looked at from outside: one with a stopped rank, with a killed one, of threads, and by name. */
#include "ranks/rank_world.h"

#include "comm/jobs.h"
#include "comm/region_find.h"

#include <fcntl.h>

#define NOBODY UINT32_MAX
#define JOB    "test-jobs"

/* Whether this process may read its children; a machine can forbid it. */
static bool may_read(pid_t pid)
{
    struct epx_jobs jobs;
    struct epx_jobs_query query = {.pid = pid};
    assert_int_equal(epx_jobs_find(&query, &jobs), EPX_OK);
    bool may = jobs.refusal_count == 0 || jobs.refusals[0].status != EPX_ERR_SYSTEM;
    epx_jobs_fini(&jobs);
    return may;
}

static void world_kill(struct world *world)
{
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        (void)kill(world->reports[rank].pid, SIGKILL);
        (void)waitpid(world->reports[rank].pid, NULL, 0);
    }
    world_destroy(world);
}

/* Looks until `done` is true of the one world of the process. The caller ends *jobs. */
static const struct epx_status_page *look_until(pid_t pid, bool (*done)(const struct epx_status_page *),
                                                struct epx_jobs *jobs)
{
    uint64_t deadline_ns = epx_deadline_after_ms(WORLD_LIMIT_MS);
    struct epx_jobs_query query = {.pid = pid};
    for (;;) {
        assert_int_equal(epx_jobs_find(&query, jobs), EPX_OK);
        assert_true(jobs->page_count <= 1);
        if (jobs->page_count == 1 && done(&jobs->pages[0])) {
            return &jobs->pages[0];
        }
        epx_jobs_fini(jobs);
        assert_true(epx_clock_ns() < deadline_ns);
        sleep_us(2000);
    }
}

static bool three_wait(const struct epx_status_page *page)
{
    return page->ranks[2].life == EPX_RANK_STOPPED && page->ranks[0].waits && page->ranks[1].waits &&
           page->ranks[3].waits;
}

static bool has_failed(const struct epx_status_page *page)
{
    return page->failed != 0;
}

static bool one_died(const struct epx_status_page *page)
{
    return page->ranks[1].life == EPX_RANK_DIED;
}

/* Rank 2 stops itself between ENTER and ROWS of its second round. */
static void stopping_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_OK);
    RANK_CHECK(epx_round_begin(&round, comm, epx_round_reserve(comm), EPX_OPERATION_DISPATCH) == EPX_OK);
    RANK_CHECK(epx_round_enter(&round, &agreement, NULL, 0, NULL) == EPX_OK);
    if (rank == 2) {
        RANK_CHECK(raise(SIGSTOP) == 0);
    }
    RANK_CHECK(epx_round_step(&round, EPX_PHASE_ROWS) == EPX_OK);
    RANK_CHECK(epx_round_step(&round, EPX_PHASE_DONE) == EPX_OK);
    epx_round_end(&round);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

/* What all of them see stays what it was: nothing that the ranks have written has changed through the looks. */
static void expect_untouched(pid_t pid)
{
    enum epx_region_access access = EPX_REGION_GONE;
    struct epx_region_list list = {0};
    struct epx_control *copies[2];
    assert_int_equal(epx_region_list_add(&list, pid, &access), EPX_OK);
    assert_int_equal(list.count, 1);
    size_t bytes = (size_t)epx_region_bytes(&list.regions[0]);
    for (int i = 0; i < 2; i++) {
        copies[i] = aligned_alloc(EPX_CONTROL_LINE_BYTES, bytes);
        assert_non_null(copies[i]);
        assert_int_equal(epx_region_copy(&list.regions[0], copies[i]), EPX_REGION_GOOD);
        assert_true(may_read(pid));
    }
    assert_int_equal(atomic_load(&copies[0]->word.value), atomic_load(&copies[1]->word.value));
    assert_int_equal(atomic_load(&copies[0]->arrivals), atomic_load(&copies[1]->arrivals));
    assert_memory_equal(copies[0]->slots, copies[1]->slots, bytes - sizeof *copies[0]);
    free(copies[0]);
    free(copies[1]);
    epx_region_list_fini(&list);
}

static void stopped_rank_is_named(void **state)
{
    (void)state;
    char prefix[160];
    struct epx_jobs jobs;
    struct world *world = world_create(4, -1);
    world_start(world, stopping_rank);
    if (!may_read(world->reports[0].pid)) {
        world_kill(world);
        skip();
    }
    const struct epx_status_page *page = look_until(world->reports[0].pid, three_wait, &jobs);
    (void)snprintf(prefix, sizeof prefix,
                   "rank 2 (pid %d) has not reached phase ROWS of dispatch round 2; ranks 0-1,3 have waited ",
                   (int)world->reports[2].pid);
    assert_memory_equal(page->blame, prefix, strlen(prefix));
    assert_string_equal(page->late, "rank 2");
    assert_string_equal(page->name, "test");
    assert_string_equal(page->job, JOB);
    assert_string_equal(page->origin, "test world");
    assert_int_equal(page->step_count, 4);
    assert_true(page->is_healthy && !page->is_overdue);
    for (uint32_t rank = 0; rank < 4; rank++) {
        assert_int_equal(page->ranks[rank].pid, world->reports[rank].pid);
        assert_int_equal(epx_activity_round(page->ranks[rank].activity), 2);
        assert_int_equal(page->ranks[rank].life, rank == 2 ? EPX_RANK_STOPPED : EPX_RANK_ALIVE);
    }
    epx_jobs_fini(&jobs);
    expect_untouched(world->reports[1].pid);
    /* By name: once, and not under another. */
    struct epx_jobs_query query = {.job = JOB};
    assert_int_equal(epx_jobs_find(&query, &jobs), EPX_OK);
    assert_int_equal(jobs.page_count, 1);
    epx_jobs_fini(&jobs);
    query.job = JOB "-other";
    assert_int_equal(epx_jobs_find(&query, &jobs), EPX_OK);
    assert_int_equal(jobs.page_count, 0);
    epx_jobs_fini(&jobs);
    assert_int_equal(kill(world->reports[2].pid, SIGCONT), 0);
    world_finish(world, NOBODY);
    world_destroy(world);
}

/* After a round, rank 1 waits to be killed; the others ask for another round when they are told to. */
static void killed_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_DISPATCH) == EPX_OK);
    (void)atomic_fetch_add(&world->reports[rank].rounds, 1);
    while (rank == 1 || atomic_load(&world->stage) == 0) {
        sleep_us(1000);
    }
    RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_ERR_PEER_DEAD);
    while (atomic_load(&world->stage) == 1) {
        sleep_us(1000);
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void killed_rank_is_named(void **state)
{
    (void)state;
    char prefix[160];
    struct epx_jobs jobs;
    struct world *world = world_create(3, -1);
    world_start(world, killed_rank);
    if (!may_read(world->reports[0].pid)) {
        world_kill(world);
        skip();
    }
    for (uint32_t rank = 0; rank < 3; rank++) {
        world_await(&world->reports[rank].rounds, 1);
    }
    assert_int_equal(kill(world->reports[1].pid, SIGKILL), 0);
    /* Nobody has asked for it yet. */
    const struct epx_status_page *page = look_until(world->reports[0].pid, one_died, &jobs);
    assert_int_equal(page->failed, 0);
    assert_string_equal(page->blame, "");
    assert_false(page->is_healthy);
    epx_jobs_fini(&jobs);
    atomic_store(&world->stage, 1);
    page = look_until(world->reports[2].pid, has_failed, &jobs);
    (void)snprintf(prefix, sizeof prefix, "rank 1 (pid %d) died after dispatch round 1; combine round 2 needs it",
                   (int)world->reports[1].pid);
    assert_int_equal(page->failure, EPX_ERR_PEER_DEAD);
    assert_string_equal(page->failure_text, prefix);
    assert_int_equal(page->ranks[1].life, EPX_RANK_DIED);
    assert_int_equal(page->ranks[0].life, EPX_RANK_ALIVE);
    assert_false(page->is_healthy);
    epx_jobs_fini(&jobs);
    atomic_store(&world->stage, 2);
    world_finish(world, 1);
    world_destroy(world);
}

/* Ranks that are threads, looked at from their own process while rounds go on. */
static void thread_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_jobs_query query = {.pid = getpid()};
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    for (int i = 0; i < 50; i++) {
        RANK_CHECK(world_round(comm, EPX_OPERATION_DISPATCH) == EPX_OK);
        if (rank == 0 && i % 10 == 0) {
            struct epx_jobs jobs;
            RANK_CHECK(epx_jobs_find(&query, &jobs) == EPX_OK);
            RANK_CHECK(jobs.page_count == 1 && jobs.pages[0].rank_count == 4 && jobs.pages[0].is_healthy);
            for (uint32_t other = 0; other < 4; other++) {
                RANK_CHECK(jobs.pages[0].ranks[other].pid == (uint32_t)getpid());
                RANK_CHECK(jobs.pages[0].ranks[other].life == EPX_RANK_ALIVE);
            }
            epx_jobs_fini(&jobs);
        }
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void threads_of_one_process(void **state)
{
    (void)state;
    struct world *world = world_create(4, -1);
    world_run_threads(world, thread_rank);
    world_destroy(world);
}

/* A process that says it has a control region, and has something else there. */
static void garbage_is_refused(void **state)
{
    (void)state;
    struct epx_jobs jobs;
    struct epx_jobs_query query = {.pid = getpid()};
    int fd = memfd_create("epx-control", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 8192), 0);
    unsigned char *bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    memset(bytes, 0xA5, 8192);
    assert_int_equal(close(fd), 0);
    assert_int_equal(epx_jobs_find(&query, &jobs), EPX_OK);
    assert_int_equal(jobs.page_count, 0);
    assert_int_equal(jobs.refusal_count, 1);
    assert_int_equal(jobs.refusals[0].status, EPX_ERR_PROTOCOL);
    epx_jobs_fini(&jobs);
    assert_int_equal(munmap(bytes, 8192), 0);
    assert_int_equal(epx_jobs_find(&query, &jobs), EPX_OK);
    assert_int_equal(jobs.refusal_count, 0);
    epx_jobs_fini(&jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_rank_is_named),
        cmocka_unit_test(killed_rank_is_named),
        cmocka_unit_test(threads_of_one_process),
        cmocka_unit_test(garbage_is_refused),
    };
    (void)setenv("EPX_JOB", JOB, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
