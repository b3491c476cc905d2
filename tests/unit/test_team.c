/* Threads of a rank by default: its cores divided by the ranks that share them. The linker sends what the team asks
 * about the host and the communicator to this made-up host: two nodes of 16 cores of two hyperthreads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/placement.h"
#include "moe/team.h"
#include "runtime/workers.h"

#define CORES     32u
#define NODE      16u
#define FIRST_PID 1000u

struct rank {
    uint32_t process;
    bool hidden; /* its mask cannot be had */
    struct epx_cpu_mask mask;
};

static struct epx_cpu_map machine;
static uint32_t machine_reads;
static struct rank ranks[64];
static uint32_t rank_count;
static uint32_t helpers_asked;

const struct epx_cpu_map *__wrap_epx_cpu_map_machine(void);
const struct epx_cpu_map *__wrap_epx_cpu_map_machine(void)
{
    machine_reads++;
    return &machine;
}

bool __wrap_epx_cpu_mask_of_thread(pid_t thread, struct epx_cpu_mask *mask);
bool __wrap_epx_cpu_mask_of_thread(pid_t thread, struct epx_cpu_mask *mask)
{
    memset(mask, 0, sizeof *mask);
    for (uint32_t i = 0; i < rank_count; i++) {
        if ((thread == 0 && i == 0) || (pid_t)ranks[i].process == thread) {
            *mask = ranks[i].mask;
            return !ranks[i].hidden;
        }
    }
    return false;
}

uint32_t __wrap_epx_comm_rank_count(const struct epx_comm *comm);
uint32_t __wrap_epx_comm_rank_count(const struct epx_comm *comm)
{
    (void)comm;
    return rank_count;
}

uint32_t __wrap_epx_comm_process_of(const struct epx_comm *comm, uint32_t rank);
uint32_t __wrap_epx_comm_process_of(const struct epx_comm *comm, uint32_t rank)
{
    (void)comm;
    return ranks[rank].process;
}

void __wrap_epx_workers_prepare(uint32_t helper_count);
void __wrap_epx_workers_prepare(uint32_t helper_count)
{
    helpers_asked = helper_count;
}

/* Both hyperthreads of cores [first, end): processors i and i + CORES are core i. */
static struct epx_cpu_mask cores(size_t first, size_t end)
{
    struct epx_cpu_mask mask = {0};
    for (size_t core = first; core < end; core++) {
        CPU_SET_S(core, sizeof mask, mask.sets);
        CPU_SET_S(core + CORES, sizeof mask, mask.sets);
    }
    return mask;
}

/* Rank 0 is the one that asks; every rank a process of its own, free to run anywhere. */
static void make_world(uint32_t count)
{
    epx_cpu_map_init(&machine);
    for (uint32_t cpu = 0; cpu < 2 * CORES; cpu++) {
        machine.places[cpu].core = (uint16_t)(cpu % CORES);
        machine.places[cpu].node = (uint16_t)(cpu % CORES / NODE);
    }
    rank_count = count;
    for (uint32_t i = 0; i < count; i++) {
        ranks[i] = (struct rank){.process = i == 0 ? (uint32_t)getpid() : FIRST_PID + i, .mask = cores(0, CORES)};
    }
    machine_reads = 0;
    unsetenv("EPX_THREADS");
}

static void expect_threads(uint32_t tp_rank_count, uint32_t threads)
{
    struct epx_team team;
    assert_int_equal(epx_team_init(&team, NULL, tp_rank_count), EPX_OK);
    assert_int_equal(team.thread_count, threads);
    assert_int_equal(helpers_asked, threads - 1);
    epx_team_fini(&team);
}

static void default_threads__is_a_part(void **state)
{
    (void)state;
    assert_int_equal(epx_team_default_threads(8, 1), 8);
    assert_int_equal(epx_team_default_threads(100, 1), 8);
    assert_int_equal(epx_team_default_threads(8, 3), 2);
    assert_int_equal(epx_team_default_threads(2, 16), 1);
    assert_int_equal(epx_team_default_threads(0, 1), 1);
    assert_int_equal(epx_team_default_threads(1, 0), 1);
}

static void init__shares_the_cores_of_all(void **state)
{
    (void)state;
    make_world(8);
    expect_threads(1, 4); /* 32 cores, not 64 processors */
    expect_threads(2, 2);
    make_world(16);
    expect_threads(1, 2);
}

static void init__does_not_share_with_ranks_bound_elsewhere(void **state)
{
    (void)state;
    make_world(8);
    for (size_t i = 0; i < 8; i++) {
        ranks[i].mask = i % 2 == 0 ? cores(0, NODE) : cores(NODE, CORES);
    }
    expect_threads(1, 4); /* 16 cores of four ranks */
    for (size_t i = 0; i < 8; i++) {
        ranks[i].mask = cores(4 * i, 4 * i + 4);
    }
    expect_threads(1, 4);
    ranks[5].mask = cores(3, 5);
    expect_threads(1, 2);
}

static void init__shares_with_ranks_of_which_nothing_is_known(void **state)
{
    (void)state;
    make_world(4);
    for (size_t i = 0; i < 4; i++) {
        ranks[i].mask = cores(4 * i, 4 * i + 4);
    }
    expect_threads(1, 4);
    ranks[2].hidden = true;
    expect_threads(1, 2);
    ranks[3].process = ranks[0].process; /* another thread of this process */
    expect_threads(1, 1);
}

static void init__reads_the_machine_only_for_an_answer(void **state)
{
    (void)state;
    make_world(64);
    expect_threads(1, 1);
    assert_int_equal(machine_reads, 0);
    make_world(4);
    memset(&ranks[0].mask, 0, sizeof ranks[0].mask);
    CPU_SET_S(3, sizeof ranks[0].mask, ranks[0].mask.sets);
    expect_threads(1, 1);
    assert_int_equal(machine_reads, 0);
    make_world(4);
    ranks[0].hidden = true;
    memset(&ranks[0].mask, 0, sizeof ranks[0].mask);
    expect_threads(1, 1);
    assert_int_equal(machine_reads, 0);
    make_world(40);
    expect_threads(1, 1); /* 64 processors are enough for 40 ranks, 32 cores are not for two threads each */
    make_world(32);
    expect_threads(1, 1);
    assert_int_equal(machine_reads, 1);
}

static void init__obeys_the_option(void **state)
{
    (void)state;
    make_world(64);
    setenv("EPX_THREADS", "5", 1);
    expect_threads(1, 5);
    make_world(1);
    setenv("EPX_THREADS", "1", 1);
    expect_threads(1, 1);
    setenv("EPX_THREADS", "65", 1);
    struct epx_team team;
    assert_int_equal(epx_team_init(&team, NULL, 1), EPX_ERR_CONFIG);
    unsetenv("EPX_THREADS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_threads__is_a_part),
        cmocka_unit_test(init__shares_the_cores_of_all),
        cmocka_unit_test(init__does_not_share_with_ranks_bound_elsewhere),
        cmocka_unit_test(init__shares_with_ranks_of_which_nothing_is_known),
        cmocka_unit_test(init__reads_the_machine_only_for_an_answer),
        cmocka_unit_test(init__obeys_the_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
