#include "moe/exchange_choice.h"

/* How many rows of the full mesh must come back from other hosts for one partial sum of the two-level algorithm. The
 * sums need one more meeting of the hosts' ranks, and arithmetic. docs/decisions.md has what was measured. */
#define ROWS_FOR_A_PARTIAL 2.0

static uint32_t ranks_of_host(const struct epx_comm *comm, uint32_t host)
{
    uint32_t count = 0;
    for (uint32_t rank = 0; rank < epx_comm_rank_count(comm); rank++) {
        count += epx_comm_host_of(comm, rank) == host ? 1 : 0;
    }
    return count;
}

/* Whether the ranks of each server are on one host. */
static bool servers_are_inside(const struct epx_comm *comm, uint32_t server_ranks)
{
    for (uint32_t rank = 0; rank < epx_comm_rank_count(comm); rank++) {
        if (epx_comm_host_of(comm, rank) != epx_comm_host_of(comm, rank - rank % server_ranks)) {
            return false;
        }
    }
    return true;
}

/* That at least one of a token's copies goes to a part of all ranks, where each goes anywhere equally. The same bits on
 * every host: no function of the mathematical library. */
static double any_of(double part, int64_t topk)
{
    double none = 1.0;
    for (int64_t k = 0; k < topk; k++) {
        none *= 1.0 - part;
    }
    return 1.0 - none;
}

enum epx_algorithm epx_moe_choose_algorithm(const struct epx_moe_shape *shape, const struct epx_comm *comm)
{
    uint32_t rank_count = epx_comm_rank_count(comm);
    uint32_t server_ranks = epx_comm_server_rank_count(comm);
    if (epx_comm_host_count(comm) == 1 || server_ranks == 0 || rank_count % server_ranks != 0 ||
        !servers_are_inside(comm, server_ranks)) {
        return EPX_ALGORITHM_FULL_MESH;
    }
    double server = (double)server_ranks / rank_count;
    double rows = 0.0;
    double partials = 0.0;
    for (uint32_t host = 0; host < epx_comm_host_count(comm); host++) {
        double home = (double)ranks_of_host(comm, host) / rank_count;
        rows += home * (1.0 - home) * (double)shape->topk;
        partials += home * (1.0 - home) / server * any_of(server, shape->topk);
    }
    return rows >= ROWS_FOR_A_PARTIAL * partials ? EPX_ALGORITHM_TWO_LEVEL : EPX_ALGORITHM_FULL_MESH;
}
