/*
 * Two-level combine between hosts: a host sums, for tokens of other hosts, what its servers return, and sends one row a
 * token and server. Before ENTER a rank sends ids, slots and weights of its tokens to its stand-ins; after ENTER each
 * of those computes the partials from the rows of its host and sends them back; then the tokens' rank adds them up.
 *
 * Only where every server lies on one host; else, and with full mesh, the rows themselves cross (combine_remote.c).
 */
#ifndef EPX_MOE_COMBINE_RELAY_H
#define EPX_MOE_COMBINE_RELAY_H

#include "moe/combine_plan.h"

/* The copies of some rank's tokens, and the rows that come back to it from the experts of this host. */
struct epx_combine_copies {
    const int32_t *ids;                     /* [copies], each below expert_count */
    const int32_t *slots;                   /* [copies]: row inside the expert's block */
    const float *weights;                   /* [copies] */
    const struct epx_combine_block *blocks; /* [expert_count] */
    int64_t rank;                           /* for messages */
};

/* Tokens of one remote rank, relayed by this one. */
struct epx_combine_relay_task {
    uint32_t rank;
    int64_t token_capacity;
    int64_t token_count; /* of the run */
    int32_t *ids;        /* [token_capacity * topk], copied out and checked */
    int32_t *slots;
    float *weights;
    struct epx_combine_block *blocks; /* [expert_count]; those of this host are filled */
    uint8_t *rows;                    /* [token_capacity][servers here], pitch_bytes each */
    uint8_t *is_made;                 /* same places */
    int64_t sent_tokens;              /* what is sent in place of an exchange region */
};

/* Partials of own tokens from one other host. */
struct epx_combine_relay_home {
    uint8_t *memory;
    struct epx_remote_mirror mirror;
};

struct epx_combine_relay {
    uint32_t own_host;
    uint32_t host_count;
    int64_t server_count;
    uint32_t *server_host; /* by server */
    int64_t *server_place; /* by server: among the servers of its host */
    int64_t *host_servers; /* by host */
    uint64_t row_bytes;    /* of a partial as it crosses */
    uint64_t pitch_bytes;
    uint32_t task_count;
    struct epx_combine_relay_task *tasks;
    struct epx_combine_relay_home *homes; /* by host */
};

/* plan->relay, where it is of use. EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_combine_relay_create(struct epx_combine_plan *plan);
void epx_combine_relay_destroy(struct epx_combine_plan *plan);

/* The task of a remote rank, with room for so many tokens. */
EPX_NODISCARD enum epx_status epx_combine_relay_prepare(struct epx_combine_plan *plan, uint32_t rank, int64_t tokens);

/* Takes the copies of a remote rank from its mirrored exchange region; false when they cannot be right. */
bool epx_combine_relay_take(struct epx_combine_plan *plan, uint32_t rank, const void *exchange, uint64_t bytes,
                            const struct epx_exchange_header *header);

/* After collect: computes what other hosts ask for, sends it, takes in what this rank asked for. Waits. */
EPX_NODISCARD enum epx_status epx_combine_relay_run(struct epx_combine_run *run);

/* Partials of one token of a task, all servers here. two_level_sum.c */
EPX_NODISCARD enum epx_status epx_combine_relay_token(struct epx_combine_lane *lane,
                                                      struct epx_combine_relay_task *task, int64_t token);

/* The partial of an own token from a server of another host; null: the server is here, or nothing is relayed. */
static inline const void *epx_combine_relayed_row(const struct epx_combine_plan *plan, int64_t token, int64_t server)
{
    const struct epx_combine_relay *relay = plan->relay;
    if (relay == NULL || relay->server_host[server] == relay->own_host) {
        return NULL;
    }
    uint32_t host = relay->server_host[server];
    int64_t row = token * relay->host_servers[host] + relay->server_place[server];
    return relay->homes[host].mirror.sets[0].rows + (uint64_t)row * relay->pitch_bytes;
}

#endif
