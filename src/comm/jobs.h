/*
 * The epx worlds of this host, looked at from outside: found, copied, read and printed. Thread: any.
 */
#ifndef EPX_COMM_JOBS_H
#define EPX_COMM_JOBS_H

#include "base/status.h"
#include "comm/status_page.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct epx_jobs_query {
    pid_t pid;       /* all worlds of this process; 0: all processes of this user */
    const char *job; /* worlds of this EPX_JOB alone; null: all */
};

/* A world that was found and could not be read. */
struct epx_jobs_refusal {
    pid_t pid;
    enum epx_status status; /* EPX_ERR_SYSTEM: not permitted; EPX_ERR_PROTOCOL: damaged, or of another version;
                               EPX_ERR_STATE: still being made */
    char text[EPX_ERROR_TEXT_BYTES];
};

struct epx_jobs {
    struct epx_status_page *pages;
    uint32_t page_count;
    struct epx_jobs_refusal *refusals;
    uint32_t refusal_count;
};

/* Every world once, whichever of its processes it was found in. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM (no /proc). */
EPX_NODISCARD enum epx_status epx_jobs_find(const struct epx_jobs_query *query, struct epx_jobs *jobs);
void epx_jobs_fini(struct epx_jobs *jobs);

/* For people: every rank of every world; a line a world; for programs: one line of JSON. */
void epx_jobs_print_ranks(const struct epx_jobs *jobs, FILE *out);
void epx_jobs_print_list(const struct epx_jobs *jobs, FILE *out);
void epx_jobs_print_json(const struct epx_jobs *jobs, FILE *out);

#endif
