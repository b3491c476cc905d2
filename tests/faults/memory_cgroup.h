/* A memory cgroup of a test's own, version 1 or 2, below the one that the test runs in. */
#ifndef EPX_TESTS_FAULTS_MEMORY_CGROUP_H
#define EPX_TESTS_FAULTS_MEMORY_CGROUP_H

#include "limits.h"

struct memory_cgroup {
    char path[512];
    size_t limit_bytes;
    char reason[256]; /* why there is none */
};

static inline bool memory_cgroup_write(const struct memory_cgroup *group, const char *file, const char *text)
{
    char path[640];
    (void)snprintf(path, sizeof path, "%s/%s", group->path, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        (void)close(fd);
    }
    return written;
}

/* The own group's path in the hierarchy of a version (1: that of the memory controller); false when there is none. */
static inline bool memory_cgroup_own_path(int version, char *path, size_t path_bytes)
{
    char line[512];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        char *name = strchr(line, ':');
        char *group = name != NULL ? strchr(name + 1, ':') : NULL;
        if (group == NULL) {
            continue;
        }
        line[strcspn(line, "\n")] = '\0';
        *group++ = '\0';
        found = version == 2 ? name[1] == '\0' : strcmp(name + 1, "memory") == 0;
        if (found) {
            (void)snprintf(path, path_bytes, "%s", strcmp(group, "/") == 0 ? "" : group);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static inline bool memory_cgroup_try(struct memory_cgroup *group, int version, const char *mount_point)
{
    char own[256];
    char text[32];
    if (!memory_cgroup_own_path(version, own, sizeof own)) {
        return false;
    }
    (void)snprintf(group->path, sizeof group->path, "%s%s/epx-test-%d", mount_point, own, (int)getpid());
    if (mkdir(group->path, 0755) != 0) {
        (void)snprintf(group->reason, sizeof group->reason, "%.180s: %s", group->path, strerror(errno));
        return false;
    }
    (void)snprintf(text, sizeof text, "%zu", group->limit_bytes);
    if (memory_cgroup_write(group, version == 2 ? "memory.max" : "memory.limit_in_bytes", text)) {
        return true;
    }
    (void)snprintf(group->reason, sizeof group->reason, "%.180s has no limit to set", group->path);
    (void)rmdir(group->path);
    return false;
}

/* False with a reason where it is not permitted. */
static inline bool memory_cgroup_create(struct memory_cgroup *group, size_t limit_bytes)
{
    *group = (struct memory_cgroup){.limit_bytes = limit_bytes, .reason = "no memory hierarchy"};
    return memory_cgroup_try(group, 1, "/sys/fs/cgroup/memory") || memory_cgroup_try(group, 2, "/sys/fs/cgroup") ||
           memory_cgroup_try(group, 2, "/sys/fs/cgroup/unified");
}

/* The calling process. */
static inline bool memory_cgroup_enter(const struct memory_cgroup *group)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%d", (int)getpid());
    return memory_cgroup_write(group, "cgroup.procs", text);
}

/* All processes that were in it must have been waited for. */
static inline void memory_cgroup_destroy(const struct memory_cgroup *group)
{
    for (int tries = 0; tries < 100 && rmdir(group->path) != 0; tries++) {
        limit_sleep_ms(10);
    }
    assert_int_not_equal(access(group->path, F_OK), 0);
}

#endif
