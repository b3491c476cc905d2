#include "base/placement.h"

#include <hwloc.h>

/* Nothing but processors, cores and memory is looked for, and no thread is moved from processor to processor for it.
 * NUMA nodes have their places below groups and packages: without those, each node would get all processors. */
static bool choose_what_to_read(hwloc_topology_t topology, const char *synthetic)
{
    return hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE) == 0 &&
           hwloc_topology_set_type_filter(topology, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL) == 0 &&
           hwloc_topology_set_type_filter(topology, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL) == 0 &&
           hwloc_topology_set_type_filter(topology, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE) == 0 &&
           hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING) == 0 &&
           (synthetic == NULL || hwloc_topology_set_synthetic(topology, synthetic) == 0);
}

static void place_cores(struct epx_cpu_map *map, hwloc_topology_t topology)
{
    hwloc_obj_t core = NULL;
    while ((core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core)) != NULL) {
        int first = hwloc_bitmap_first(core->cpuset);
        for (int cpu = first; cpu >= 0 && cpu < (int)EPX_CPU_MAX; cpu = hwloc_bitmap_next(core->cpuset, cpu)) {
            map->places[cpu].core = (uint16_t)first;
        }
    }
}

/* Backwards, so that a processor with memory of several kinds belongs to the first node, which is its ordinary one. */
static void place_nodes(struct epx_cpu_map *map, hwloc_topology_t topology)
{
    hwloc_obj_t node = NULL;
    int node_count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
    for (int i = (node_count < (int)EPX_CPU_MAX ? node_count : (int)EPX_CPU_MAX) - 1; i >= 0; i--) {
        node = hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, (unsigned)i);
        for (int cpu = hwloc_bitmap_first(node->cpuset); cpu >= 0 && cpu < (int)EPX_CPU_MAX;
             cpu = hwloc_bitmap_next(node->cpuset, cpu)) {
            map->places[cpu].node = (uint16_t)i;
        }
    }
}

bool epx_cpu_map_read(struct epx_cpu_map *map, const char *synthetic)
{
    hwloc_topology_t topology;
    epx_cpu_map_init(map);
    if (hwloc_topology_init(&topology) != 0) {
        return false;
    }
    bool good = choose_what_to_read(topology, synthetic) && hwloc_topology_load(topology) == 0;
    if (good) {
        place_cores(map, topology);
        place_nodes(map, topology);
    }
    hwloc_topology_destroy(topology);
    return good;
}

const char *epx_cpu_map_reader(void)
{
    return "hwloc " HWLOC_VERSION;
}
