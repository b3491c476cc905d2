#include "comm/region_find.h"

#include "base/text_file.h"
#include "comm/bootstrap_shared.h"
#include "comm/comm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATH_BYTES 128
#define MAPS_NAME  "/memfd:" EPX_BOOT_SHARED_NAME " (deleted)"

/* "7f01…-7f02… rw-s 00000000 00:01 2057   /memfd:epx-control (deleted)"; the part at offset 0 is the region. */
static bool line_parse(const char *line, struct epx_region *region)
{
    uint64_t offset = 0;
    uint64_t major = 0;
    uint64_t minor = 0;
    int name_at = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64 " %" SCNx64 ":%" SCNx64 " %" SCNu64 " %n", &region->begin,
               &region->end, &offset, &major, &minor, &region->inode, &name_at) != 6) {
        return false;
    }
    region->device = major << 32 | minor;
    return offset == 0 && region->end > region->begin && strcmp(line + name_at, MAPS_NAME) == 0;
}

static bool is_same(const struct epx_region *left, const struct epx_region *right)
{
    return left->device == right->device && left->inode == right->inode;
}

static bool list_has(const struct epx_region_list *list, const struct epx_region *region)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (is_same(&list->regions[i], region)) {
            return true;
        }
    }
    return false;
}

static enum epx_status list_append(struct epx_region_list *list, const struct epx_region *region)
{
    struct epx_region *grown = realloc(list->regions, (list->count + (size_t)1) * sizeof *grown);
    if (grown == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a list of control regions");
    }
    grown[list->count] = *region;
    list->regions = grown;
    list->count++;
    return EPX_OK;
}

/* Why a process of the same user may not be read all the same, "" for no reason known. */
static const char *yama_reason(void)
{
    char scope[8] = "";
    if (!epx_text_file_read("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof scope)) {
        return "";
    }
    switch (scope[0]) {
    case '1': return "; kernel.yama.ptrace_scope is 1: only an ancestor of the process, or CAP_SYS_PTRACE, may read it";
    case '2': return "; kernel.yama.ptrace_scope is 2: only CAP_SYS_PTRACE may read it";
    case '3': return "; kernel.yama.ptrace_scope is 3: nobody may read it this way";
    default: return "";
    }
}

static enum epx_region_access refused(int error, const char *call)
{
    if (error == ESRCH || error == ENOENT || error == EFAULT) {
        return EPX_REGION_GONE;
    }
    (void)epx_fail_errno(EPX_ERR_SYSTEM, error, "may not be read (that takes the same user, or CAP_SYS_PTRACE%s): %s",
                         yama_reason(), call);
    return EPX_REGION_DENIED;
}

static enum epx_status lines_read(FILE *maps, pid_t pid, struct epx_region_list *list, int *error)
{
    char *line = NULL;
    size_t line_bytes = 0;
    enum epx_status status = EPX_OK;
    errno = 0;
    while (status == EPX_OK && getline(&line, &line_bytes, maps) >= 0) {
        struct epx_region region = {.pid = pid};
        line[strcspn(line, "\n")] = '\0';
        if (line_parse(line, &region) && !list_has(list, &region)) {
            status = list_append(list, &region);
        }
        errno = 0;
    }
    *error = errno;
    free(line);
    return status;
}

enum epx_status epx_region_list_add(struct epx_region_list *list, pid_t pid, enum epx_region_access *access)
{
    char path[PATH_BYTES];
    int error = 0;
    *access = EPX_REGION_GOOD;
    (void)snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (maps == NULL) {
        *access = refused(errno, path);
        return EPX_OK;
    }
    enum epx_status status = lines_read(maps, pid, list, &error);
    (void)fclose(maps);
    if (error != 0) {
        *access = refused(error, path);
    }
    return status;
}

void epx_region_list_fini(struct epx_region_list *list)
{
    free(list->regions);
    *list = (struct epx_region_list){0};
}

uint64_t epx_region_bytes(const struct epx_region *region)
{
    uint64_t most = epx_control_bytes(EPX_COMM_RANK_MAX);
    uint64_t bytes = region->end - region->begin;
    return bytes < most ? bytes : most;
}

/* The mapping's file, for those who may open it: root, mostly. */
static bool copy_file(const struct epx_region *region, void *copy, uint64_t bytes)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)region->pid, region->begin,
                   region->end);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    uint64_t done = 0;
    ssize_t got = 1;
    while (done < bytes && (got > 0 || errno == EINTR)) {
        got = pread(fd, (char *)copy + done, bytes - done, (off_t)done);
        done += got > 0 ? (uint64_t)got : 0;
        if (got == 0) {
            break;
        }
    }
    (void)close(fd);
    return done == bytes;
}

enum epx_region_access epx_region_copy(const struct epx_region *region, struct epx_control *copy)
{
    uint64_t bytes = epx_region_bytes(region);
    if (copy_file(region, copy, bytes)) {
        return EPX_REGION_GOOD;
    }
    struct iovec here = {.iov_base = copy, .iov_len = bytes};
    /* An address of the other process, which is never used in this one. */
    struct iovec there = {.iov_base = (void *)(uintptr_t)region->begin, .iov_len = bytes};
    ssize_t got = process_vm_readv(region->pid, &here, 1, &there, 1, 0);
    if (got < 0) {
        return refused(errno, "process_vm_readv");
    }
    return (uint64_t)got == bytes ? EPX_REGION_GOOD : EPX_REGION_GONE;
}
