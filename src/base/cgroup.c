#include "base/cgroup.h"

#include "base/text_file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whole texts of the largest files read here; a longer mount table loses its tail. */
#define TABLE_BYTES 65536
#define STAT_BYTES  8192

/* What differs between the two versions. */
struct version {
    const char *filesystem;
    const char *limit_file;
    const char *usage_file;
    const char *cache_name; /* line of memory.stat: page cache that is not in use */
};

static const struct version version_1 = {"cgroup", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                         "total_inactive_file"};
static const struct version version_2 = {"cgroup2", "memory.max", "memory.current", "inactive_file"};

/* Whether `word` is one of the comma separated words in [list, list + length). */
static bool list_has(const char *list, size_t length, const char *word)
{
    size_t word_length = strlen(word);
    for (size_t i = 0; i < length;) {
        size_t end = i;
        while (end < length && list[end] != ',') {
            end++;
        }
        if (end - i == word_length && memcmp(list + i, word, word_length) == 0) {
            return true;
        }
        i = end + 1;
    }
    return false;
}

static bool join(char path[PATH_MAX], const char *first, const char *second, const char *third)
{
    int length = snprintf(path, PATH_MAX, "%s%s%s", first, second, third);
    return length >= 0 && length < PATH_MAX;
}

/*
 * The group's path from /proc/self/cgroup, whose lines are "<id>:<controllers>:<path>"; version 2 has id 0 and no
 * controllers.
 */
static bool find_group(char *table, const struct version *version, char group[PATH_MAX])
{
    char *rest = NULL;
    for (char *line = strtok_r(table, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        const char *controllers = strchr(line, ':');
        const char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL) {
            continue;
        }
        size_t length = (size_t)(path - controllers - 1);
        bool wanted =
            version == &version_2 ? strncmp(line, "0::", 3) == 0 : list_has(controllers + 1, length, "memory");
        if (wanted) {
            return join(group, path + 1, "", "");
        }
    }
    return false;
}

/* Spaces, tabs, newlines and backslashes of a path are written as \ooo in the mount table. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' && from[3] >= '0' &&
            from[3] <= '7') {
            *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/*
 * Where the version's memory hierarchy is mounted, and which group is the mount's root, from /proc/self/mountinfo:
 * "id parent major:minor root mount-point options [tags…] - filesystem source super-options".
 */
static bool find_mount(char *table, const struct version *version, char mount_root[PATH_MAX],
                       char mount_point[PATH_MAX])
{
    char *rest = NULL;
    for (char *line = strtok_r(table, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        char *separator = strstr(line, " - ");
        if (separator == NULL) {
            continue;
        }
        char filesystem[64];
        char super_options[512];
        if (sscanf(separator + 3, "%63s %*s %511s", filesystem, super_options) != 2 ||
            strcmp(filesystem, version->filesystem) != 0 ||
            (version == &version_1 && !list_has(super_options, strlen(super_options), "memory"))) {
            continue;
        }
        _Static_assert(PATH_MAX == 4096, "the widths of the scan below");
        if (sscanf(line, "%*s %*s %*s %4095s %4095s", mount_root, mount_point) == 2) {
            unescape(mount_root);
            unescape(mount_point);
            return true;
        }
    }
    return false;
}

static uint64_t level_headroom_bytes(const char *directory, const struct version *version)
{
    char path[PATH_MAX];
    char text[STAT_BYTES];
    if (!join(path, directory, "/", version->limit_file) || !epx_text_file_read(path, text, sizeof text)) {
        return EPX_CGROUP_UNLIMITED;
    }
    if (text[0] < '0' || text[0] > '9') { /* "max" */
        return EPX_CGROUP_UNLIMITED;
    }
    uint64_t limit = strtoull(text, NULL, 10);
    if (limit >= INT64_MAX / 4096 * 4096) { /* how version 1 writes "none" */
        return EPX_CGROUP_UNLIMITED;
    }
    if (!join(path, directory, "/", version->usage_file) || !epx_text_file_read(path, text, sizeof text)) {
        return EPX_CGROUP_UNLIMITED;
    }
    uint64_t usage = strtoull(text, NULL, 10);
    uint64_t cache = 0;
    if (join(path, directory, "/memory.stat", "") && epx_text_file_read(path, text, sizeof text) &&
        epx_text_number_of(text, version->cache_name, &cache)) {
        usage = usage > cache ? usage - cache : 0;
    }
    return limit > usage ? limit - usage : 0;
}

/* The part of `group` below the mount's root; "" when the mount does not show the group. */
static const char *group_below(const char *group, const char *mount_root)
{
    size_t length = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    if (strncmp(group, mount_root, length) != 0 || group[length] != '/' || strstr(group, "/..") != NULL) {
        return "";
    }
    return group[length + 1] == '\0' ? "" : group + length;
}

static uint64_t version_headroom_bytes(const char *root, const struct version *version, char *table)
{
    char group[PATH_MAX];
    char mount_root[PATH_MAX];
    char directory[PATH_MAX];
    char path[PATH_MAX];
    if (!join(path, root, "/proc/self/cgroup", "") || !epx_text_file_read(path, table, TABLE_BYTES) ||
        !find_group(table, version, group)) {
        return EPX_CGROUP_UNLIMITED;
    }
    if (!join(path, root, "/proc/self/mountinfo", "") || !epx_text_file_read(path, table, TABLE_BYTES) ||
        !find_mount(table, version, mount_root, path)) {
        return EPX_CGROUP_UNLIMITED;
    }
    size_t top_length = strlen(root) + strlen(path);
    if (!join(directory, root, path, group_below(group, mount_root))) {
        return EPX_CGROUP_UNLIMITED;
    }
    uint64_t headroom = level_headroom_bytes(directory, version);
    while (strlen(directory) > top_length) {
        *strrchr(directory, '/') = '\0';
        uint64_t level = level_headroom_bytes(directory, version);
        headroom = level < headroom ? level : headroom;
    }
    return headroom;
}

uint64_t epx_cgroup_memory_headroom_bytes(const char *root)
{
    char *table = malloc(TABLE_BYTES);
    if (table == NULL) {
        return EPX_CGROUP_UNLIMITED;
    }
    uint64_t first = version_headroom_bytes(root, &version_1, table);
    uint64_t second = version_headroom_bytes(root, &version_2, table);
    free(table);
    return first < second ? first : second;
}
