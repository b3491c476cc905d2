#include "comm/jobs.h"

#include "base/clock.h"
#include "base/config.h"
#include "comm/region_find.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 64

struct search {
    const struct epx_jobs_query *query;
    struct epx_jobs *jobs;
    struct epx_region_list seen;
};

static enum epx_status refusal_add(struct epx_jobs *jobs, pid_t pid, enum epx_status why)
{
    struct epx_jobs_refusal *grown = realloc(jobs->refusals, (jobs->refusal_count + (size_t)1) * sizeof *grown);
    if (grown == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a list of worlds");
    }
    struct epx_jobs_refusal *refusal = &grown[jobs->refusal_count++];
    *refusal = (struct epx_jobs_refusal){.pid = pid, .status = why};
    (void)snprintf(refusal->text, sizeof refusal->text, "%s", epx_error_text());
    jobs->refusals = grown;
    return EPX_OK;
}

static enum epx_status page_add(struct epx_jobs *jobs, const struct epx_status_page *page)
{
    struct epx_status_page *grown = realloc(jobs->pages, (jobs->page_count + (size_t)1) * sizeof *grown);
    if (grown == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a list of worlds");
    }
    grown[jobs->page_count++] = *page;
    jobs->pages = grown;
    return EPX_OK;
}

/* Whether the process was started with EPX_JOB=job; the only thing to go by where its memory may not be read. */
static bool environment_has(pid_t pid, const char *job)
{
    char path[PATH_BYTES];
    char *entry = NULL;
    size_t entry_bytes = 0;
    bool has = false;
    const char *name = epx_option_describe(EPX_OPTION_JOB)->name;
    size_t name_length = strlen(name);
    (void)snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *environment = fopen(path, "re");
    if (environment == NULL) {
        return false;
    }
    while (!has && getdelim(&entry, &entry_bytes, '\0', environment) >= 0) {
        has = strncmp(entry, name, name_length) == 0 && entry[name_length] == '=' &&
              strcmp(entry + name_length + 1, job) == 0;
    }
    free(entry);
    (void)fclose(environment);
    return has;
}

static bool is_asked_for(const struct search *search, const struct epx_status_page *page)
{
    /* A longer name has been cut. */
    const char *job = search->query->job;
    return job == NULL || strncmp(page->job, job, sizeof page->job - 1) == 0;
}

static enum epx_status page_keep(struct search *search, struct epx_status_page *page)
{
    enum epx_status status = EPX_OK;
    if (is_asked_for(search, page)) {
        status = page_add(search->jobs, page);
        if (status == EPX_OK) {
            return EPX_OK;
        }
    }
    epx_status_page_fini(page);
    return status;
}

/* Two copies: the processes that the first one names are looked at before the second one, which is read, is made. */
static enum epx_status copies_read(struct search *search, const struct epx_region *region, struct epx_control *copy,
                                   enum epx_region_access *access)
{
    uint64_t bytes = epx_region_bytes(region);
    uint32_t rank_count = 0;
    struct epx_status_page page;
    *access = epx_region_copy(region, copy);
    if (*access != EPX_REGION_GOOD) {
        return EPX_OK;
    }
    EPX_TRY(epx_status_page_check(copy, bytes, &rank_count));
    struct epx_process *processes = calloc(rank_count, sizeof *processes);
    if (processes == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the processes of %u ranks", rank_count);
    }
    epx_status_page_look(copy, rank_count, processes);
    *access = epx_region_copy(region, copy);
    enum epx_status status = EPX_OK;
    if (*access == EPX_REGION_GOOD) {
        status = epx_status_page_read(copy, bytes, epx_clock_ns(), processes, rank_count, &page);
        if (status == EPX_OK) {
            status = page_keep(search, &page);
        }
    }
    free(processes);
    return status;
}

static enum epx_status refusal_keep(struct search *search, pid_t pid, enum epx_status why)
{
    const char *job = search->query->job;
    return job == NULL || environment_has(pid, job) ? refusal_add(search->jobs, pid, why) : EPX_OK;
}

/* A region that is gone is no longer seen: another process may have it still. */
static enum epx_status region_read(struct search *search, struct epx_region *seen)
{
    struct epx_region region = *seen;
    enum epx_region_access access = EPX_REGION_GOOD;
    size_t bytes = ((size_t)epx_region_bytes(&region) / EPX_CONTROL_LINE_BYTES + 1) * EPX_CONTROL_LINE_BYTES;
    struct epx_control *copy = aligned_alloc(EPX_CONTROL_LINE_BYTES, bytes);
    if (copy == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a copy of %zu bytes", bytes);
    }
    enum epx_status status = copies_read(search, &region, copy, &access);
    free(copy);
    if (status == EPX_ERR_PROTOCOL || status == EPX_ERR_STATE) {
        return refusal_keep(search, region.pid, status);
    }
    if (access == EPX_REGION_GONE) {
        seen->device = 0;
        seen->inode = 0;
    }
    return status == EPX_OK && access == EPX_REGION_DENIED ? refusal_keep(search, region.pid, EPX_ERR_SYSTEM) : status;
}

/* With `asked`, a process that may not be looked at at all is told of; else it is nobody's known to run epx. */
static enum epx_status process_read(struct search *search, pid_t pid, bool asked)
{
    enum epx_region_access access = EPX_REGION_GOOD;
    uint32_t first = search->seen.count;
    EPX_TRY(epx_region_list_add(&search->seen, pid, &access));
    if (access == EPX_REGION_DENIED && asked) {
        return refusal_add(search->jobs, pid, EPX_ERR_SYSTEM);
    }
    for (uint32_t i = first; i < search->seen.count; i++) {
        EPX_TRY(region_read(search, &search->seen.regions[i]));
    }
    return EPX_OK;
}

/* 0 for what is no process. */
static pid_t pid_of(const char *name)
{
    char *end = NULL;
    if (!isdigit((unsigned char)name[0])) {
        return 0;
    }
    errno = 0;
    long pid = strtol(name, &end, 10);
    return errno == 0 && *end == '\0' && pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

static enum epx_status all_read(struct search *search)
{
    DIR *proc = opendir("/proc");
    enum epx_status status = EPX_OK;
    if (proc == NULL) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "/proc");
    }
    for (struct dirent *entry = readdir(proc); entry != NULL && status == EPX_OK; entry = readdir(proc)) {
        struct stat info;
        pid_t pid = pid_of(entry->d_name);
        if (pid > 0 && fstatat(dirfd(proc), entry->d_name, &info, 0) == 0 && info.st_uid == geteuid()) {
            status = process_read(search, pid, false);
        }
    }
    (void)closedir(proc);
    return status;
}

enum epx_status epx_jobs_find(const struct epx_jobs_query *query, struct epx_jobs *jobs)
{
    struct search search = {.query = query, .jobs = jobs};
    *jobs = (struct epx_jobs){0};
    enum epx_status status = query->pid != 0 ? process_read(&search, query->pid, true) : all_read(&search);
    epx_region_list_fini(&search.seen);
    if (status != EPX_OK) {
        epx_jobs_fini(jobs);
    }
    return status;
}

void epx_jobs_fini(struct epx_jobs *jobs)
{
    for (uint32_t i = 0; i < jobs->page_count; i++) {
        epx_status_page_fini(&jobs->pages[i]);
    }
    free(jobs->pages);
    free(jobs->refusals);
    *jobs = (struct epx_jobs){0};
}
