#include "moe/team.h"

#include "base/config.h"
#include "base/float_environment.h"
#include "base/placement.h"
#include "runtime/workers.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

/* Whether a rank may run where `own` allows it. Assumed of the ranks of this process, any of whose threads may be
 * theirs, and of those whose mask cannot be had. */
static bool shares(const struct epx_comm *comm, uint32_t rank, const struct epx_cpu_mask *own)
{
    struct epx_cpu_mask mask;
    uint32_t process = epx_comm_process_of(comm, rank);
    return process == (uint32_t)getpid() || !epx_cpu_mask_of_thread((pid_t)process, &mask) ||
           epx_cpu_mask_meets(&mask, own);
}

static uint32_t default_threads(const struct epx_comm *comm, uint32_t tp_rank_count)
{
    struct epx_cpu_mask own;
    uint32_t rank_count = 0;
    (void)epx_cpu_mask_of_thread(0, &own);
    uint32_t cpu_count = epx_cpu_mask_count(&own);
    if (cpu_count > 1) {
        for (uint32_t rank = 0; rank < epx_comm_rank_count(comm); rank++) {
            rank_count += shares(comm, rank, &own) ? tp_rank_count : 0;
        }
    }
    /* There are no more cores than processors: the machine is read only where that can change the answer. */
    uint32_t threads = epx_team_default_threads(cpu_count, rank_count);
    return threads == 1 ? 1 : epx_team_default_threads(epx_cpu_map_cores(epx_cpu_map_machine(), &own), rank_count);
}

uint32_t epx_team_default_threads(uint32_t core_count, uint32_t rank_count)
{
    uint32_t threads = rank_count > 0 ? core_count / rank_count : 1;
    return threads > AUTO_THREADS_MAX ? AUTO_THREADS_MAX : threads < 1 ? 1 : threads;
}

enum epx_status epx_team_init(struct epx_team *team, const struct epx_comm *comm, uint32_t tp_rank_count)
{
    int64_t threads;
    int64_t lane_kib;
    EPX_TRY(epx_option_integer(EPX_OPTION_THREADS, &threads));
    EPX_TRY(epx_option_integer(EPX_OPTION_THREAD_KIB, &lane_kib));
    team->lane_bytes = (uint64_t)lane_kib * 1024;
    if (threads == 0) {
        threads = default_threads(comm, tp_rank_count);
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
