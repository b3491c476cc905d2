#include "base/placement.h"

#include "base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

_Static_assert(EPX_CPU_MAX <= UINT16_MAX, "places are 16-bit numbers");
_Static_assert(sizeof(struct epx_cpu_mask) == EPX_CPU_MAX / 8, "a mask has a bit for every processor");

static struct epx_cpu_map machine;
static atomic_bool machine_is_read;
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* A fork waits for the end of reading: the child would inherit the reader's locks, held by nobody. */
static void before_fork(void)
{
    (void)pthread_mutex_lock(&reading);
}

static void after_fork(void)
{
    (void)pthread_mutex_unlock(&reading);
}

static void register_fork(void)
{
    if (pthread_atfork(before_fork, after_fork, after_fork) != 0) {
        epx_log(EPX_LOG_WARN, "fork handlers cannot be registered: a process forked at this moment may hang");
    }
}

static bool mask_has(const struct epx_cpu_mask *mask, uint32_t cpu)
{
    return CPU_ISSET_S(cpu, sizeof *mask, mask->sets);
}

/* All processors of the mask are below this. */
static uint32_t mask_end(const struct epx_cpu_mask *mask)
{
    uint32_t end = EPX_CPU_MAX / CPU_SETSIZE;
    while (end > 0 && CPU_COUNT(&mask->sets[end - 1]) == 0) {
        end--;
    }
    return end * CPU_SETSIZE;
}

static void mask_add(struct epx_cpu_mask *mask, uint32_t cpu)
{
    CPU_SET_S(cpu, sizeof *mask, mask->sets);
}

bool epx_cpu_mask_of_thread(pid_t thread, struct epx_cpu_mask *mask)
{
    memset(mask, 0, sizeof *mask);
    return sched_getaffinity(thread, sizeof *mask, mask->sets) == 0;
}

uint32_t epx_cpu_mask_count(const struct epx_cpu_mask *mask)
{
    return (uint32_t)CPU_COUNT_S(sizeof *mask, mask->sets);
}

bool epx_cpu_mask_equal(const struct epx_cpu_mask *left, const struct epx_cpu_mask *right)
{
    return CPU_EQUAL_S(sizeof *left, left->sets, right->sets);
}

bool epx_cpu_mask_meets(const struct epx_cpu_mask *left, const struct epx_cpu_mask *right)
{
    struct epx_cpu_mask both;
    CPU_AND_S(sizeof both, both.sets, left->sets, right->sets);
    return epx_cpu_mask_count(&both) > 0;
}

void epx_cpu_mask_join(struct epx_cpu_mask *mask, const struct epx_cpu_mask *more)
{
    CPU_OR_S(sizeof *mask, mask->sets, mask->sets, more->sets);
}

void epx_cpu_map_init(struct epx_cpu_map *map)
{
    for (uint32_t cpu = 0; cpu < EPX_CPU_MAX; cpu++) {
        map->places[cpu] = (struct epx_cpu_place){.core = (uint16_t)cpu, .node = 0};
    }
}

static void read_machine(void)
{
    if (!epx_cpu_map_read(&machine, NULL) && epx_cpu_map_reader() != NULL) {
        epx_log(EPX_LOG_WARN, "%s cannot read this machine: its processors count as cores of one NUMA node",
                epx_cpu_map_reader());
    }
}

const struct epx_cpu_map *epx_cpu_map_machine(void)
{
    (void)pthread_once(&fork_once, register_fork);
    if (!atomic_load_explicit(&machine_is_read, memory_order_acquire)) {
        (void)pthread_mutex_lock(&reading);
        if (!atomic_load_explicit(&machine_is_read, memory_order_relaxed)) {
            read_machine();
            atomic_store_explicit(&machine_is_read, true, memory_order_release);
        }
        (void)pthread_mutex_unlock(&reading);
    }
    return &machine;
}

uint32_t epx_cpu_map_cores(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask)
{
    struct epx_cpu_mask cores = {0};
    uint32_t end = mask_end(mask);
    for (uint32_t cpu = 0; cpu < end; cpu++) {
        if (mask_has(mask, cpu)) {
            mask_add(&cores, map->places[cpu].core);
        }
    }
    return epx_cpu_mask_count(&cores);
}

uint32_t epx_cpu_map_nodes(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask)
{
    struct epx_cpu_mask nodes = {0};
    uint32_t end = mask_end(mask);
    for (uint32_t cpu = 0; cpu < end; cpu++) {
        if (mask_has(mask, cpu)) {
            mask_add(&nodes, map->places[cpu].node);
        }
    }
    return epx_cpu_mask_count(&nodes);
}

int32_t epx_cpu_map_node(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask)
{
    int32_t node = -1;
    uint32_t end = mask_end(mask);
    for (uint32_t cpu = 0; cpu < end; cpu++) {
        if (!mask_has(mask, cpu)) {
            continue;
        }
        if (node >= 0 && node != map->places[cpu].node) {
            return -1;
        }
        node = map->places[cpu].node;
    }
    return node;
}

void epx_cpu_map_part(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask, int32_t node,
                      struct epx_cpu_mask *part)
{
    memset(part, 0, sizeof *part);
    uint32_t end = mask_end(mask);
    for (uint32_t cpu = 0; cpu < end; cpu++) {
        if (mask_has(mask, cpu) && map->places[cpu].node == node) {
            mask_add(part, cpu);
        }
    }
}

void epx_cpu_map_home(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask, uint32_t cpu, uint32_t core_count,
                      struct epx_cpu_mask *home)
{
    *home = *mask;
    if (cpu < EPX_CPU_MAX && epx_cpu_map_node(map, mask) < 0) {
        struct epx_cpu_mask part;
        epx_cpu_map_part(map, mask, map->places[cpu].node, &part);
        if (epx_cpu_map_cores(map, &part) >= core_count) {
            *home = part;
        }
    }
}
