/*
 * Where threads may run: the cores and NUMA nodes behind an affinity mask. The processors of a core (hyperthreads)
 * share its path to memory, so cores are what counts for moving rows. Thread: any.
 */
#ifndef EPX_BASE_PLACEMENT_H
#define EPX_BASE_PLACEMENT_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Kernels are built for fewer processors than this (x86-64: 8192 at most). */
#define EPX_CPU_MAX 8192u

/* Processors by the system's numbers. */
struct epx_cpu_mask {
    cpu_set_t sets[EPX_CPU_MAX / CPU_SETSIZE];
};

/* Where a processor belongs. Both numbers are below EPX_CPU_MAX. */
struct epx_cpu_place {
    uint16_t core; /* lowest processor of its core */
    uint16_t node; /* NUMA node, counted from 0 in the system's order */
};

/* Every processor has a place: one of which nothing is known is a core of its own on node 0. */
struct epx_cpu_map {
    struct epx_cpu_place places[EPX_CPU_MAX];
};

/* The processors of a thread of any process by its id, 0 for the calling one; false, and an empty mask, when they
 * cannot be had. A process's id means its first thread. */
bool epx_cpu_mask_of_thread(pid_t thread, struct epx_cpu_mask *mask);

uint32_t epx_cpu_mask_count(const struct epx_cpu_mask *mask);
bool epx_cpu_mask_equal(const struct epx_cpu_mask *left, const struct epx_cpu_mask *right);
bool epx_cpu_mask_meets(const struct epx_cpu_mask *left, const struct epx_cpu_mask *right);

/* Adds what `more` has. */
void epx_cpu_mask_join(struct epx_cpu_mask *mask, const struct epx_cpu_mask *more);

/* What holds when nothing is known. */
void epx_cpu_map_init(struct epx_cpu_map *map);

/* Reads the machine, or the one that hwloc's `synthetic` text describes; false, and the map as it was initialised, when
 * it cannot be read. Takes milliseconds. HWLOC_XMLFILE and HWLOC_SYNTHETIC stand in for the machine. */
bool epx_cpu_map_read(struct epx_cpu_map *map, const char *synthetic);

/* What the machine is read with: "hwloc 2.9.0"; null when epx was built without. */
const char *epx_cpu_map_reader(void);

/* The machine, read by the first call in this process or in one that it was forked from. Never null. */
const struct epx_cpu_map *epx_cpu_map_machine(void);

/* Cores of which the mask has at least one processor. */
uint32_t epx_cpu_map_cores(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask);

/* NUMA nodes of which the mask has at least one processor. */
uint32_t epx_cpu_map_nodes(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask);

/* The one node of the mask's processors, -1 when there are several or none. */
int32_t epx_cpu_map_node(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask);

/* The part of the mask on a node. */
void epx_cpu_map_part(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask, int32_t node,
                      struct epx_cpu_mask *part);

/* The mask's part on the node of processor `cpu` when that has at least core_count cores, else the whole mask. */
void epx_cpu_map_home(const struct epx_cpu_map *map, const struct epx_cpu_mask *mask, uint32_t cpu, uint32_t core_count,
                      struct epx_cpu_mask *home);

#endif
