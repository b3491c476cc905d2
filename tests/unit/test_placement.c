/* Cores and NUMA nodes behind a mask: on machines described by hwloc's synthetic texts, and on this one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/placement.h"
#include "base/sanitizer.h"

#include "epx/epx.h"

#include "child_process.h"

#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>

/* Two nodes of four cores of two hyperthreads: processors 2i and 2i + 1 are core i. */
#define TWO_NODES "node:2 core:4 pu:2"
/* The same, numbered as Linux does it: processors i and i + 8 are core i. */
#define TWO_NODES_LINUX "node:2 core:4 pu:2(indexes=2*8:1*2)"

static struct epx_cpu_map map;

static void read_machine(const char *synthetic)
{
    if (epx_cpu_map_reader() == NULL) {
        skip(); /* built without hwloc */
    }
    assert_true(epx_cpu_map_read(&map, synthetic));
}

/* Processors [first, end) in steps. */
static struct epx_cpu_mask mask_of(size_t first, size_t end, size_t step)
{
    struct epx_cpu_mask mask = {0};
    for (size_t cpu = first; cpu < end; cpu += step) {
        CPU_SET_S(cpu, sizeof mask, mask.sets);
    }
    return mask;
}

static void expect_counts(const struct epx_cpu_mask *mask, uint32_t cores, uint32_t nodes, int32_t node)
{
    assert_int_equal(epx_cpu_map_cores(&map, mask), cores);
    assert_int_equal(epx_cpu_map_nodes(&map, mask), nodes);
    assert_int_equal(epx_cpu_map_node(&map, mask), node);
}

/* ---- Masks ---- */

static void mask__joins_meets_and_counts(void **state)
{
    (void)state;
    struct epx_cpu_mask low = mask_of(0, 8, 1);
    struct epx_cpu_mask high = mask_of(EPX_CPU_MAX - 4, EPX_CPU_MAX, 1);
    struct epx_cpu_mask both = low;
    assert_false(epx_cpu_mask_meets(&low, &high));
    epx_cpu_mask_join(&both, &high);
    assert_int_equal(epx_cpu_mask_count(&both), 12);
    assert_true(epx_cpu_mask_meets(&both, &high));
    assert_false(epx_cpu_mask_equal(&both, &low));
    struct epx_cpu_mask again = mask_of(0, 8, 1);
    assert_true(epx_cpu_mask_equal(&again, &low));
}

static void mask__of_nobody_is_empty(void **state)
{
    (void)state;
    struct epx_cpu_mask mask = mask_of(0, 8, 1);
    assert_false(epx_cpu_mask_of_thread(-1, &mask));
    assert_int_equal(epx_cpu_mask_count(&mask), 0);
}

/* ---- A map of which nothing is known ---- */

static void init__counts_processors(void **state)
{
    (void)state;
    epx_cpu_map_init(&map);
    struct epx_cpu_mask mask = mask_of(3, EPX_CPU_MAX, 5);
    expect_counts(&mask, epx_cpu_mask_count(&mask), 1, 0);
    struct epx_cpu_mask last = mask_of(EPX_CPU_MAX - 1, EPX_CPU_MAX, 1);
    expect_counts(&last, 1, 1, 0);
    struct epx_cpu_mask empty = {0};
    expect_counts(&empty, 0, 0, -1);
}

/* ---- Made-up machines ---- */

static void cores__hyperthreads_count_once(void **state)
{
    (void)state;
    read_machine(TWO_NODES);
    struct epx_cpu_mask all = mask_of(0, 16, 1);
    struct epx_cpu_mask halves = mask_of(0, 16, 2);
    struct epx_cpu_mask core = mask_of(2, 4, 1);
    struct epx_cpu_mask half_core = mask_of(3, 4, 1);
    struct epx_cpu_mask across_cores = mask_of(3, 5, 1);
    expect_counts(&all, 8, 2, -1);
    expect_counts(&halves, 8, 2, -1);
    expect_counts(&core, 1, 1, 0);
    expect_counts(&half_core, 1, 1, 0);
    expect_counts(&across_cores, 2, 1, 0);
}

static void cores__follow_the_numbers_of_the_system(void **state)
{
    (void)state;
    read_machine(TWO_NODES_LINUX);
    struct epx_cpu_mask first = mask_of(0, 4, 1);
    struct epx_cpu_mask first_threads = mask_of(0, 8, 1);
    struct epx_cpu_mask siblings = mask_of(1, 10, 8);
    struct epx_cpu_mask second_node = mask_of(12, 16, 1);
    struct epx_cpu_mask spanning = mask_of(11, 13, 1);
    expect_counts(&first, 4, 1, 0);
    expect_counts(&first_threads, 8, 2, -1);
    expect_counts(&siblings, 1, 1, 0);
    expect_counts(&second_node, 4, 1, 1);
    expect_counts(&spanning, 2, 2, -1);
}

static void cores__processors_beyond_the_machine_stand_alone(void **state)
{
    (void)state;
    read_machine(TWO_NODES);
    struct epx_cpu_mask mask = mask_of(14, 20, 1);
    expect_counts(&mask, 5, 2, -1);
}

static void read__many_processors(void **state)
{
    (void)state;
    read_machine("package:4 node:2 core:160 pu:2");
    struct epx_cpu_mask all = mask_of(0, 2560, 1);
    struct epx_cpu_mask last = mask_of(2240, 2560, 1);
    expect_counts(&all, 1280, 8, -1);
    expect_counts(&last, 160, 1, 7);
}

static void read__memory_beside_cores(void **state)
{
    (void)state;
    read_machine("package:2 [numa] [numa] core:2 pu:1");
    struct epx_cpu_mask first = mask_of(0, 2, 1);
    struct epx_cpu_mask all = mask_of(0, 4, 1);
    assert_int_equal(epx_cpu_map_node(&map, &first), 0);
    assert_int_equal(epx_cpu_map_nodes(&map, &all), 2);
}

/* ---- The files of a made-up kernel: two packages, four nodes of two cores, processors i and i + 8 are core i ---- */

static char root[] = "/tmp/epx-placement-XXXXXX";

__attribute__((format(printf, 2, 3))) static void write_file(const char *path, const char *format, ...)
{
    char name[256];
    va_list arguments;
    assert_in_range(snprintf(name, sizeof name, "%s/%s", root, path), 1, sizeof name - 1);
    for (char *slash = strchr(name + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(name, 0700);
        *slash = '/';
    }
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
    assert_int_equal(fclose(file), 0);
}

static void write_cpu(unsigned cpu)
{
    static const char *const files[] = {"core_id",   "physical_package_id", "thread_siblings",
                                        "core_cpus", "core_siblings",       "package_cpus"};
    unsigned core = cpu % 8;
    unsigned texts[] = {core, core / 4, 0x101u << core, 0x101u << core, 0xF0Fu << core / 4 * 4, 0xF0Fu << core / 4 * 4};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/topology/%s", cpu, files[i]);
        write_file(path, i < 2 ? "%u\n" : "%08x\n", texts[i]);
    }
}

static int remove_entry(const char *path, const struct stat *entry, int kind, struct FTW *place)
{
    (void)entry;
    (void)kind;
    (void)place;
    return remove(path);
}

static void read__files_of_the_kernel(void **state)
{
    (void)state;
    if (epx_cpu_map_reader() == NULL) {
        skip();
    }
    assert_non_null(mkdtemp(root));
    write_file("proc/cpuinfo", "\n");
    write_file("sys/devices/system/cpu/online", "0-15\n");
    write_file("sys/devices/system/cpu/possible", "0-15\n");
    write_file("sys/devices/system/node/online", "0-3\n");
    for (unsigned cpu = 0; cpu < 16; cpu++) {
        write_cpu(cpu);
    }
    for (unsigned node = 0; node < 4; node++) {
        char path[64];
        snprintf(path, sizeof path, "sys/devices/system/node/node%u/cpumap", node);
        write_file(path, "%08x\n", 0x303u << 2 * node);
    }
    setenv("HWLOC_FSROOT", root, 1);
    bool good = epx_cpu_map_read(&map, NULL);
    unsetenv("HWLOC_FSROOT");
    assert_int_equal(nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
    assert_true(good);
    for (unsigned cpu = 0; cpu < 16; cpu++) {
        assert_int_equal(map.places[cpu].core, cpu % 8);
        assert_int_equal(map.places[cpu].node, cpu % 8 / 2);
    }
}

static void read__refuses_what_it_does_not_understand(void **state)
{
    (void)state;
    if (epx_cpu_map_reader() == NULL) {
        skip();
    }
    memset(&map, 0xFF, sizeof map);
    assert_false(epx_cpu_map_read(&map, "nothing of this kind"));
    struct epx_cpu_mask mask = mask_of(0, 8, 1);
    expect_counts(&mask, 8, 1, 0);
}

static void part__is_what_lies_on_the_node(void **state)
{
    (void)state;
    read_machine(TWO_NODES_LINUX);
    struct epx_cpu_mask mask = mask_of(2, 14, 1);
    struct epx_cpu_mask part;
    epx_cpu_map_part(&map, &mask, 0, &part);
    struct epx_cpu_mask expected = mask_of(2, 4, 1);
    struct epx_cpu_mask siblings = mask_of(8, 12, 1);
    epx_cpu_mask_join(&expected, &siblings);
    assert_true(epx_cpu_mask_equal(&part, &expected));
    assert_int_equal(epx_cpu_map_cores(&map, &part), 4);
    epx_cpu_map_part(&map, &mask, 2, &part);
    assert_int_equal(epx_cpu_mask_count(&part), 0);
}

static void expect_home(const struct epx_cpu_mask *mask, uint32_t cpu, uint32_t core_count,
                        const struct epx_cpu_mask *expected)
{
    struct epx_cpu_mask home;
    epx_cpu_map_home(&map, mask, cpu, core_count, &home);
    assert_true(epx_cpu_mask_equal(&home, expected));
}

static void home__is_the_node_of_the_processor(void **state)
{
    (void)state;
    read_machine(TWO_NODES);
    struct epx_cpu_mask all = mask_of(0, 16, 1);
    struct epx_cpu_mask first = mask_of(0, 8, 1);
    struct epx_cpu_mask second = mask_of(8, 16, 1);
    struct epx_cpu_mask uneven = mask_of(6, 16, 1);
    struct epx_cpu_mask one_core = mask_of(8, 10, 1);
    expect_home(&all, 7, 4, &first);
    expect_home(&all, 8, 4, &second);
    expect_home(&all, 8, 5, &all);           /* more threads than the node has cores */
    expect_home(&uneven, 7, 2, &uneven);     /* one core of the mask is there */
    expect_home(&uneven, 15, 2, &second);    /* four are there */
    expect_home(&one_core, 8, 8, &one_core); /* nothing to choose */
    expect_home(&second, 0, 1, &second);     /* the processor is not the mask's any more */
    expect_home(&all, EPX_CPU_MAX, 2, &all); /* the processor is not known */
    expect_home(&uneven, 4000, 2, &uneven);  /* it is on no node of the machine: on the first, by default */
}

/* ---- This machine ---- */

static bool read_first_number(const char *format, size_t cpu, unsigned long *number)
{
    char path[128];
    snprintf(path, sizeof path, format, cpu);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    bool good = fscanf(file, "%lu", number) == 1;
    fclose(file);
    return good;
}

/* The cores of the mask as the kernel's own files have them. */
static uint32_t count_cores(const struct epx_cpu_mask *mask)
{
    struct epx_cpu_mask cores = {0};
    for (size_t cpu = 0; cpu < EPX_CPU_MAX; cpu++) {
        unsigned long first = cpu;
        if (CPU_ISSET_S(cpu, sizeof *mask, mask->sets)) {
            if (!read_first_number("/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu, &first)) {
                return 0;
            }
            CPU_SET_S(first, sizeof cores, cores.sets);
        }
    }
    return epx_cpu_mask_count(&cores);
}

static void machine__agrees_with_the_system(void **state)
{
    (void)state;
    cpu_set_t affinity;
    struct epx_cpu_mask mask;
    assert_int_equal(sched_getaffinity(0, sizeof affinity, &affinity), 0);
    assert_true(epx_cpu_mask_of_thread(0, &mask));
    assert_int_equal(epx_cpu_mask_count(&mask), CPU_COUNT(&affinity));
    assert_memory_equal(mask.sets, &affinity, sizeof affinity);
    const struct epx_cpu_map *machine = epx_cpu_map_machine();
    uint32_t cores = epx_cpu_map_cores(machine, &mask);
    assert_in_range(cores, 1, epx_cpu_mask_count(&mask));
    assert_in_range(epx_cpu_map_nodes(machine, &mask), 1, cores);
    if (epx_cpu_map_reader() != NULL && count_cores(&mask) != 0) {
        assert_int_equal(cores, count_cores(&mask));
    }
}

static void machine__is_read_once(void **state)
{
    (void)state;
    const struct epx_cpu_map *machine = epx_cpu_map_machine();
    struct epx_cpu_map before = *machine;
    setenv("HWLOC_SYNTHETIC", TWO_NODES, 1);
    assert_ptr_equal(epx_cpu_map_machine(), machine);
    assert_memory_equal(&before, machine, sizeof before);
    unsetenv("HWLOC_SYNTHETIC");
}

static struct epx_cpu_map inherited;

static void compare_in_child(void)
{
    CHILD_EXPECT(memcmp(epx_cpu_map_machine(), &inherited, sizeof inherited) == 0);
}

static void machine__survives_a_fork(void **state)
{
    (void)state;
    inherited = *epx_cpu_map_machine();
    run_in_child(compare_in_child);
}

static void *read_in_thread(void *argument)
{
    pthread_barrier_wait(argument);
    return (void *)(uintptr_t)epx_cpu_map_machine();
}

static void fork_while_reading(void)
{
    pthread_barrier_t barrier;
    pthread_t thread;
    CHILD_EXPECT(setenv("HWLOC_SYNTHETIC", "node:4 core:64 pu:2", 1) == 0);
    CHILD_EXPECT(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHILD_EXPECT(pthread_create(&thread, NULL, read_in_thread, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 10; i++) {
        pid_t pid = fork();
        CHILD_EXPECT(pid >= 0);
        if (pid == 0) {
            alarm(60);
            _exit(epx_cpu_map_machine()->places[257].core == 256 && epx_cpu_map_machine()->places[257].node == 2 ? 0
                                                                                                                 : 1);
        }
        int status = 0;
        CHILD_EXPECT(waitpid(pid, &status, 0) == pid);
        CHILD_EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    CHILD_EXPECT(pthread_join(thread, NULL) == 0);
    CHILD_EXPECT(pthread_barrier_destroy(&barrier) == 0);
}

/* Before anything has read the machine in this process. */
static void machine__survives_a_fork_while_it_is_read(void **state)
{
    (void)state;
    if (epx_cpu_map_reader() == NULL || EPX_THREAD_SANITIZER) {
        skip(); /* ThreadSanitizer takes the parent's threads for threads that the child has lost */
    }
    run_in_child(fork_while_reading);
}

static void host_print__says_it(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    struct epx_cpu_mask mask;
    epx_host_print(NULL);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    epx_host_print(out);
    assert_int_equal(fclose(out), 0);
    assert_true(epx_cpu_mask_of_thread(0, &mask));
    unsigned processors = 0;
    assert_int_equal(sscanf(text, "processors %u", &processors), 1);
    assert_int_equal(processors, epx_cpu_mask_count(&mask));
    assert_non_null(strstr(text, epx_cpu_map_reader() != NULL ? epx_cpu_map_reader() : "without hwloc"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machine__survives_a_fork_while_it_is_read), /* first: see there */
        cmocka_unit_test(mask__joins_meets_and_counts),
        cmocka_unit_test(mask__of_nobody_is_empty),
        cmocka_unit_test(init__counts_processors),
        cmocka_unit_test(cores__hyperthreads_count_once),
        cmocka_unit_test(cores__follow_the_numbers_of_the_system),
        cmocka_unit_test(cores__processors_beyond_the_machine_stand_alone),
        cmocka_unit_test(read__many_processors),
        cmocka_unit_test(read__memory_beside_cores),
        cmocka_unit_test(read__files_of_the_kernel),
        cmocka_unit_test(read__refuses_what_it_does_not_understand),
        cmocka_unit_test(part__is_what_lies_on_the_node),
        cmocka_unit_test(home__is_the_node_of_the_processor),
        cmocka_unit_test(machine__agrees_with_the_system),
        cmocka_unit_test(machine__is_read_once),
        cmocka_unit_test(machine__survives_a_fork),
        cmocka_unit_test(host_print__says_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
