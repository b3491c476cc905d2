#include "moe/team.h"

#include "base/config.h"
#include "base/float_environment.h"
#include "base/topology.h"
#include "runtime/workers.h"

#include <stdio.h>
#include <stdlib.h>

/* More do not help: a few cores take all of a machine's memory bandwidth. */
#define AUTO_THREADS_MAX 8u

struct call {
    struct epx_team *team;
    const struct epx_team_task *task;
    uint32_t lane_count;
};

static void run_lane(void *context, uint32_t lane)
{
    const struct call *call = context;
    struct epx_team_failure *failure = &call->team->failures[lane];
    uint64_t environment = epx_float_environment_default(); /* a worker has its creator's */
    failure->status = call->task->run(call->task->context, lane, call->lane_count);
    epx_float_environment_restore(environment);
    if (failure->status != EPX_OK) {
        (void)snprintf(failure->text, sizeof failure->text, "%s", epx_error_text());
    }
}

enum epx_status epx_team_init(struct epx_team *team, int64_t rank_count)
{
    int64_t threads;
    int64_t lane_kib;
    EPX_TRY(epx_option_integer(EPX_OPTION_THREADS, &threads));
    EPX_TRY(epx_option_integer(EPX_OPTION_THREAD_KIB, &lane_kib));
    team->lane_bytes = (uint64_t)lane_kib * 1024;
    if (threads == 0) {
        threads = epx_topology_cpu_count() / rank_count;
        threads = threads > AUTO_THREADS_MAX ? AUTO_THREADS_MAX : threads < 1 ? 1 : threads;
    }
    team->thread_count = (uint32_t)threads;
    team->failures = calloc(team->thread_count, sizeof *team->failures);
    if (team->failures == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for %lld threads of an operation", (long long)threads);
    }
    epx_workers_prepare(team->thread_count - 1);
    return EPX_OK;
}

void epx_team_fini(struct epx_team *team)
{
    free(team->failures);
}

uint32_t epx_team_lanes(const struct epx_team *team, uint64_t bytes)
{
    uint64_t lanes = bytes / team->lane_bytes;
    return lanes < 1 ? 1 : lanes < team->thread_count ? (uint32_t)lanes : team->thread_count;
}

enum epx_status epx_team_run(struct epx_team *team, uint32_t lane_count, const struct epx_team_task *task)
{
    if (lane_count == 1) {
        return task->run(task->context, 0, 1);
    }
    struct call call = {.team = team, .task = task, .lane_count = lane_count};
    epx_workers_run(lane_count, run_lane, &call);
    for (uint32_t lane = 0; lane < lane_count; lane++) {
        if (team->failures[lane].status != EPX_OK) {
            epx_error_text_set(team->failures[lane].text);
            return team->failures[lane].status;
        }
    }
    return EPX_OK;
}
