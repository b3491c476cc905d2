/*
 * Bringing the ranks of one world on one host together: a rendezvous on an abstract Unix socket, a star around
 * whichever rank came first. Nothing is left behind after a kill: an abstract name dies with its socket, memory is
 * handed over by descriptor. Identity is the rank; peers must have the same user id (SO_PEERCRED).
 */
#ifndef EPX_COMM_BOOTSTRAP_H
#define EPX_COMM_BOOTSTRAP_H

#include "base/status.h"
#include "memory/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct epx_bootstrap_request {
    uint8_t key[32]; /* what the world's members share: digest of the rank table, a root token, … and of EPX_JOB */
    uint32_t rank;
    uint32_t rank_count;
    uint64_t shared_bytes; /* size of the communicator's control region; equal on all ranks */
    int64_t timeout_ms;
    const char *what; /* for messages: "rank table /x/y.json", … */
    const uint32_t
        *names; /* by rank: what messages call it, where the ranks are some of a larger world; null: itself */
    /* Asked by the caller's thread every few milliseconds: whether a rank will never come. Null: not known. */
    bool (*is_hopeless)(void *context);
    void *context;
};

/* What messages call a rank; one that is none is called what it says. */
static inline uint32_t epx_boot_rank_name(const struct epx_bootstrap_request *request, uint32_t rank)
{
    return request->names != NULL && rank < request->rank_count ? request->names[rank] : rank;
}

/* What every rank gets. */
struct epx_bootstrap_result {
    void *shared; /* the control region, zeroed by its creator, mapped read-write; munmap(shared, shared_bytes) */
    uint64_t shared_bytes;
    struct epx_arena **arenas; /* rank_count references, to be detached; the own one is the process's own arena */
};

/*
 * Blocks until rank_count distinct ranks with the same key and rank_count have joined. The control region comes from a
 * sealed memfd made by the star's centre. Every descriptor is closed on return.
 * EPX_ERR_JOIN_TIMEOUT naming the ranks that are missing; EPX_ERR_PEER_LEFT when it is hopeless; EPX_ERR_RENDEZVOUS
 * (rank held by a live process, named by pid; world size differs, both named); EPX_ERR_NO_MEMORY; EPX_ERR_SYSTEM. Ranks
 * may be processes, threads or both.
 */
EPX_NODISCARD enum epx_status epx_bootstrap_join(const struct epx_bootstrap_request *request,
                                                 struct epx_bootstrap_result *result);

void epx_bootstrap_result_fini(struct epx_bootstrap_result *result, uint32_t rank_count);

#endif
