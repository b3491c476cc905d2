#include "comm/jobs.h"
#include "epx/epx.h"
#include "epx/objects.h"

#include <limits.h>

static enum epx_jobs_found jobs_found(const struct epx_jobs *jobs)
{
    enum epx_jobs_found found = EPX_JOBS_NONE;
    for (uint32_t i = 0; i < jobs->refusal_count; i++) {
        switch (jobs->refusals[i].status) {
        case EPX_ERR_PROTOCOL: return EPX_JOBS_FAILED;
        case EPX_ERR_SYSTEM: found = found == EPX_JOBS_NONE ? EPX_JOBS_DENIED : found; break;
        default: found = EPX_JOBS_HEALTHY; break;
        }
    }
    for (uint32_t i = 0; i < jobs->page_count; i++) {
        if (!jobs->pages[i].is_healthy) {
            return EPX_JOBS_FAILED;
        }
        found = EPX_JOBS_HEALTHY;
    }
    return found;
}

enum epx_status epx_jobs_print(FILE *out, const struct epx_jobs_config *config, enum epx_jobs_found *found)
{
    struct epx_jobs_config resolved;
    struct epx_jobs jobs;
    if (out == NULL || found == NULL || config == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", out == NULL ? "out" : config == NULL ? "config" : "found");
    }
    EPX_TRY(epx_struct_read(&resolved, sizeof resolved, sizeof resolved, config, "config"));
    if (resolved.pid < 0 || resolved.pid > INT_MAX) {
        return epx_fail(EPX_ERR_INVALID, "pid is %lld, must be in [0, %d]", (long long)resolved.pid, INT_MAX);
    }
    struct epx_jobs_query query = {.pid = (pid_t)resolved.pid, .job = resolved.job};
    EPX_TRY(epx_jobs_find(&query, &jobs));
    if (resolved.json != 0) {
        epx_jobs_print_json(&jobs, out);
    } else if (query.pid == 0 && query.job == NULL) {
        epx_jobs_print_list(&jobs, out);
    } else {
        epx_jobs_print_ranks(&jobs, out);
    }
    *found = jobs_found(&jobs);
    epx_jobs_fini(&jobs);
    return EPX_OK;
}
