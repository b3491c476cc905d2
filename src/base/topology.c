#include "base/topology.h"

#include "base/cgroup.h"
#include "base/config.h"
#include "base/digest.h"
#include "base/placement.h"
#include "base/text_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define CACHE_GUESS_BYTES (UINT64_C(16) << 20)

_Static_assert(sizeof(struct epx_host_id) == EPX_DIGEST_BYTES, "a host id is a digest");

uint32_t epx_topology_cpu_count(void)
{
    struct epx_cpu_mask mask;
    uint32_t count = epx_cpu_mask_of_thread(0, &mask) ? epx_cpu_mask_count(&mask) : 0;
    return count > 0 ? count : 1;
}

uint64_t epx_topology_cache_bytes(void)
{
    char path[] = "/sys/devices/system/cpu/cpu0/cache/index3/size";
    for (char level = '3'; level >= '1'; level--) {
        char text[64];
        path[sizeof "/sys/devices/system/cpu/cpu0/cache/index" - 1] = level;
        unsigned long kib = epx_text_file_read(path, text, sizeof text) ? strtoul(text, NULL, 10) : 0;
        if (kib > 0 && kib < UINT32_MAX) {
            return (uint64_t)kib * 1024;
        }
    }
    return CACHE_GUESS_BYTES;
}

uint64_t epx_topology_memory_total_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

uint64_t epx_topology_memory_headroom_bytes(void)
{
    char text[8192];
    uint64_t available_kib;
    uint64_t headroom = epx_topology_memory_total_bytes();
    if (epx_text_file_read("/proc/meminfo", text, sizeof text) &&
        epx_text_number_of(text, "MemAvailable:", &available_kib)) {
        headroom = available_kib * 1024;
    }
    uint64_t group = epx_cgroup_memory_headroom_bytes("");
    return group < headroom ? group : headroom;
}

/* Every part goes in with its terminating NUL, so that no two lists of parts read alike. */
static void append_text(struct epx_digest_state *state, const char *text)
{
    epx_digest_update(state, text, strlen(text) + 1);
}

void epx_topology_host_id(struct epx_host_id *id)
{
    struct epx_digest_state state;
    epx_digest_init(&state);
    if (epx_option_is_set(EPX_OPTION_HOST_ID)) {
        append_text(&state, "given");
        append_text(&state, epx_option_text(EPX_OPTION_HOST_ID));
        epx_digest_final(&state, id->bytes);
        return;
    }
    char boot_id[64];
    struct utsname names;
    if (epx_text_file_read("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id)) {
        append_text(&state, "boot");
        append_text(&state, boot_id);
    } else if (uname(&names) == 0) {
        append_text(&state, "name");
        append_text(&state, names.nodename);
    }
    struct stat network;
    if (stat("/proc/self/ns/net", &network) == 0) {
        uint64_t namespace_id[2] = {network.st_dev, network.st_ino};
        epx_digest_update(&state, namespace_id, sizeof namespace_id);
    }
    epx_digest_final(&state, id->bytes);
}
