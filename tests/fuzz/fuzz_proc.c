/*
 * Any bytes as the files of the kernel that are read about other processes and this one's memory group: maps, stat,
 * cgroup, mountinfo, memory.stat. The first byte chooses. Names in them are other people's.
 */
#include "base/cgroup.c" /* what reads the texts is its own */
#include "base/process.c"

#undef PATH_BYTES
#define list_has region_list_has /* of that file */
#include "comm/region_find.c"
#undef list_has

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void try_maps(char *text, size_t bytes)
{
    struct epx_region_list list = {0};
    int error = 0;
    FILE *maps = fmemopen(text, bytes > 0 ? bytes : 1, "r");
    require(maps != NULL);
    require(lines_read(maps, 4711, &list, &error) == EPX_OK);
    (void)fclose(maps);
    for (uint32_t i = 0; i < list.count; i++) {
        require(list.regions[i].end > list.regions[i].begin && list.regions[i].pid == 4711);
        require(epx_region_bytes(&list.regions[i]) <= epx_control_bytes(EPX_COMM_RANK_MAX));
    }
    epx_region_list_fini(&list);
}

static void try_stat(const char *text)
{
    struct epx_process process = {.state = EPX_PROCESS_UNKNOWN};
    if (stat_parse(text, &process)) {
        require(process.state != EPX_PROCESS_UNKNOWN && strchr(text, ')') != NULL);
    }
}

static void try_group(char *text, const struct version *version)
{
    static char group[PATH_MAX];
    if (find_group(text, version, group)) {
        require(memchr(group, '\0', sizeof group) != NULL);
        const char *below = group_below(group, "/");
        require(below[0] == '\0' || below[0] == '/');
        require(strstr(below, "/..") == NULL);
    }
}

static void try_mount(char *text, const struct version *version)
{
    static char mount_root[PATH_MAX];
    static char mount_point[PATH_MAX];
    if (find_mount(text, version, mount_root, mount_point)) {
        require(memchr(mount_root, '\0', sizeof mount_root) != NULL);
        require(memchr(mount_point, '\0', sizeof mount_point) != NULL);
        (void)group_below("/a/b", mount_root);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint64_t value;
    if (bytes == 0) {
        return 0;
    }
    char *text = malloc(bytes);
    require(text != NULL);
    memcpy(text, data + 1, bytes - 1);
    text[bytes - 1] = '\0';
    switch (data[0] % 7) {
    case 0: try_maps(text, bytes - 1); break;
    case 1: try_stat(text); break;
    case 2: try_group(text, &version_1); break;
    case 3: try_group(text, &version_2); break;
    case 4: try_mount(text, &version_1); break;
    case 5: try_mount(text, &version_2); break;
    default: (void)epx_text_number_of(text, "inactive_file", &value); break;
    }
    free(text);
    return 0;
}
