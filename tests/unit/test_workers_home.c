/* Where workers run. The linker sends what the pool asks about the host to this made-up one, two nodes of four cores,
 * and what it says about threads is kept. */
#include "runtime/workers.h"

#include "base/placement.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "child_process.h"

#define NODE_CORES 4u
#define CORES      8u

static struct epx_cpu_map machine;
static struct epx_cpu_mask own; /* of the thread that asks */
static int own_cpu;
static struct epx_cpu_mask given[16]; /* to threads, in order */
static pthread_t given_to[16];
static uint32_t given_count;

const struct epx_cpu_map *__wrap_epx_cpu_map_machine(void);
const struct epx_cpu_map *__wrap_epx_cpu_map_machine(void)
{
    return &machine;
}

bool __wrap_epx_cpu_mask_of_thread(pid_t thread, struct epx_cpu_mask *mask);
bool __wrap_epx_cpu_mask_of_thread(pid_t thread, struct epx_cpu_mask *mask)
{
    CHILD_EXPECT(thread == 0);
    *mask = own;
    return epx_cpu_mask_count(&own) > 0;
}

int __wrap_sched_getcpu(void);
int __wrap_sched_getcpu(void)
{
    return own_cpu;
}

int __wrap_pthread_setaffinity_np(pthread_t thread, size_t bytes, const cpu_set_t *set);
int __wrap_pthread_setaffinity_np(pthread_t thread, size_t bytes, const cpu_set_t *set)
{
    CHILD_EXPECT(bytes == sizeof given[0]);
    CHILD_EXPECT(given_count < 16);
    CHILD_EXPECT(!pthread_equal(thread, pthread_self())); /* the program's thread is never moved */
    given_to[given_count] = thread;
    memcpy(&given[given_count++], set, bytes);
    return 0;
}

static struct epx_cpu_mask cores(size_t first, size_t end)
{
    struct epx_cpu_mask mask = {0};
    for (size_t cpu = first; cpu < end; cpu++) {
        CPU_SET_S(cpu, sizeof mask, mask.sets);
    }
    return mask;
}

static void make_machine(uint32_t node_cores)
{
    epx_cpu_map_init(&machine);
    for (uint32_t cpu = 0; cpu < CORES; cpu++) {
        machine.places[cpu].node = (uint16_t)(cpu / node_cores);
    }
    given_count = 0;
}

static void prepare(struct epx_cpu_mask mask, int cpu, uint32_t helper_count)
{
    own = mask;
    own_cpu = cpu;
    given_count = 0;
    epx_workers_prepare(helper_count);
}

static void expect_given(uint32_t index, struct epx_cpu_mask expected)
{
    CHILD_EXPECT(index < given_count);
    CHILD_EXPECT(epx_cpu_mask_equal(&given[index], &expected));
}

static void on_one_node(void)
{
    make_machine(CORES);
    prepare(cores(0, CORES), 1, 3);
    CHILD_EXPECT(epx_workers_count() == 3);
    CHILD_EXPECT(given_count == 0); /* the mask that they inherit is right */
    prepare(cores(0, CORES), 7, 3);
    CHILD_EXPECT(given_count == 0);
}

static void on_the_node_of_the_caller(void)
{
    make_machine(NODE_CORES);
    prepare(cores(0, CORES), 5, 3);
    CHILD_EXPECT(given_count == 3);
    for (uint32_t i = 0; i < 3; i++) {
        expect_given(i, cores(NODE_CORES, CORES));
        CHILD_EXPECT(!(i > 0 && pthread_equal(given_to[i], given_to[i - 1])));
    }
    prepare(cores(0, CORES), 6, 3);
    CHILD_EXPECT(given_count == 0); /* nothing is new */
}

static void on_both_nodes_for_callers_of_both(void)
{
    make_machine(NODE_CORES);
    prepare(cores(0, CORES), 0, 2);
    expect_given(1, cores(0, NODE_CORES));
    prepare(cores(0, CORES), 5, 3);
    CHILD_EXPECT(given_count == 2); /* the two that there were; the third inherits as much */
    expect_given(0, cores(0, CORES));
    expect_given(1, cores(0, CORES));
}

static void with_callers_bound_by_the_program(void)
{
    make_machine(NODE_CORES);
    prepare(cores(0, 2), 1, 1);
    CHILD_EXPECT(given_count == 0);
    prepare(cores(6, 8), 7, 1);
    CHILD_EXPECT(given_count == 1);
    struct epx_cpu_mask both = cores(0, 2);
    struct epx_cpu_mask second = cores(6, 8);
    epx_cpu_mask_join(&both, &second);
    expect_given(0, both);
    prepare(cores(6, 8), 7, 2);
    CHILD_EXPECT(given_count == 1); /* the new one, which has inherited less */
    expect_given(0, both);
}

static void over_all_when_a_node_is_too_small(void)
{
    make_machine(NODE_CORES);
    prepare(cores(0, CORES), 5, 4);
    CHILD_EXPECT(epx_workers_count() == 4);
    CHILD_EXPECT(given_count == 0);
}

static void where_nothing_is_known(void)
{
    make_machine(NODE_CORES);
    prepare(cores(0, 0), -1, 1);
    CHILD_EXPECT(epx_workers_count() == 1);
    CHILD_EXPECT(given_count == 0);
    prepare(cores(0, CORES), -1, 2);
    CHILD_EXPECT(epx_workers_count() == 2);
    CHILD_EXPECT(given_count == 1); /* the first */
    expect_given(0, cores(0, CORES));
}

static void for_nobody(void)
{
    make_machine(NODE_CORES);
    prepare(cores(0, CORES), 5, 0);
    CHILD_EXPECT(epx_workers_count() == 0);
    prepare(cores(0, CORES), 5, 1000);
    CHILD_EXPECT(epx_workers_count() == EPX_WORKERS_MAX - 1);
}

/* A pool begins anew in a child of fork. */
#define IN_CHILD(name)                                                                                                 \
    static void prepare__##name(void **state)                                                                          \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        run_in_child(name);                                                                                            \
    }

IN_CHILD(on_one_node)
IN_CHILD(on_the_node_of_the_caller)
IN_CHILD(on_both_nodes_for_callers_of_both)
IN_CHILD(with_callers_bound_by_the_program)
IN_CHILD(over_all_when_a_node_is_too_small)
IN_CHILD(where_nothing_is_known)
IN_CHILD(for_nobody)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepare__on_one_node),
        cmocka_unit_test(prepare__on_the_node_of_the_caller),
        cmocka_unit_test(prepare__on_both_nodes_for_callers_of_both),
        cmocka_unit_test(prepare__with_callers_bound_by_the_program),
        cmocka_unit_test(prepare__over_all_when_a_node_is_too_small),
        cmocka_unit_test(prepare__where_nothing_is_known),
        cmocka_unit_test(prepare__for_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
