/*
 * The threads that move the rows of one operation: its own and some of the process's workers. Work falls into lanes,
 * each with scratch memory of its own, and the lowest lane that failed says why.
 */
#ifndef EPX_MOE_TEAM_H
#define EPX_MOE_TEAM_H

#include "base/status.h"
#include "comm/comm.h"

#include <stdint.h>

struct epx_team_failure {
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
};

/* Of a plan. */
struct epx_team {
    uint32_t thread_count;             /* lanes at most, at least 1 */
    uint64_t lane_bytes;               /* what is worth the wake-up of a thread */
    struct epx_team_failure *failures; /* [thread_count] */
};

/* Threads of a rank that shares so many cores with others, rank_count in all: its part, 1 to 8. */
uint32_t epx_team_default_threads(uint32_t core_count, uint32_t rank_count);

/*
 * As many threads as EPX_THREADS says; by default the calling thread's cores divided by the ranks of `comm` that share
 * them, each of which stands for tp_rank_count ranks. Starts the workers that this takes. EPX_ERR_CONFIG,
 * EPX_ERR_NO_MEMORY.
 */
EPX_NODISCARD enum epx_status epx_team_init(struct epx_team *team, const struct epx_comm *comm, uint32_t tp_rank_count);
void epx_team_fini(struct epx_team *team);

/* Lanes that are worth their wake-ups for work on so many bytes. */
uint32_t epx_team_lanes(const struct epx_team *team, uint64_t bytes);

struct epx_team_task {
    /* Does lane `lane` of lane_count. A failure's text is the calling thread's. */
    enum epx_status (*run)(void *context, uint32_t lane, uint32_t lane_count);
    void *context;
};

/* Runs all lanes; the status of the lowest one that failed, with its text. */
EPX_NODISCARD enum epx_status epx_team_run(struct epx_team *team, uint32_t lane_count,
                                           const struct epx_team_task *task);

/* Where the share of a lane in `count` things begins; lane_count gives `count`. */
static inline int64_t epx_team_share(int64_t count, uint32_t lane, uint32_t lane_count)
{
    return count / lane_count * lane + count % lane_count * lane / lane_count;
}

#endif
