#include "base/placement.h"
#include "comm/comm.h"
#include "epx/epx.h"
#include "moe/team.h"

static void print_nodes(FILE *out, const struct epx_cpu_map *map, const struct epx_cpu_mask *mask)
{
    uint32_t left = epx_cpu_map_nodes(map, mask);
    (void)fprintf(out, "%-28s %u, cores of each:", "NUMA nodes", left);
    for (int32_t node = 0; left > 0; node++) {
        struct epx_cpu_mask part;
        epx_cpu_map_part(map, mask, node, &part);
        if (epx_cpu_mask_count(&part) > 0) {
            (void)fprintf(out, " %u", epx_cpu_map_cores(map, &part));
            left--;
        }
    }
    (void)fprintf(out, "\n");
}

void epx_host_print(FILE *out)
{
    struct epx_cpu_mask mask;
    if (out == NULL) {
        return;
    }
    (void)epx_cpu_mask_of_thread(0, &mask);
    const struct epx_cpu_map *map = epx_cpu_map_machine();
    const char *reader = epx_cpu_map_reader();
    uint32_t core_count = epx_cpu_map_cores(map, &mask);
    (void)fprintf(out, "%-28s %u\n", "processors", epx_cpu_mask_count(&mask));
    (void)fprintf(out, "%-28s %u\n", "cores", core_count);
    print_nodes(out, map, &mask);
    (void)fprintf(out, "%-28s %s\n", "read with",
                  reader != NULL ? reader : "nothing: built without hwloc, a processor counts as a core");
    (void)fprintf(out, "%-28s %u alone, fewer when ranks share the cores\n", "threads of a rank",
                  epx_team_default_threads(core_count, 1));
    (void)fprintf(out, "%-28s %s\n", "to other hosts", epx_comm_wire_description());
}
