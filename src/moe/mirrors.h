/*
 * Mirrors of a plan: what this rank keeps, in its own arena, of the exchange regions and rows of the ranks on other
 * hosts for which it stands. Peers of this host read them as if they were those ranks'. None in a world on one host.
 */
#ifndef EPX_MOE_MIRRORS_H
#define EPX_MOE_MIRRORS_H

#include "comm/remote.h"
#include "moe/exchange.h"

#include <stdbool.h>
#include <stdint.h>

/* Of one mirror. */
struct epx_mirror_sizes {
    uint64_t exchange_bytes;
    struct {
        int64_t row_capacity; /* 0: no such set */
        uint64_t row_bytes;
        bool scales;
    } sets[EPX_REMOTE_SET_MAX];
};

struct epx_mirrors {
    uint32_t count;
    uint32_t *ranks;                  /* [count] */
    uint8_t **memory;                 /* [count] */
    struct epx_remote_mirror *places; /* [count] */
};

/* Reserves a mirror for every rank this one stands for; pages come when rows do. EPX_ERR_NO_MEMORY; EPX_ERR_UNSUPPORTED
 * when a row is too long to cross. To be ended by fini in any case. */
EPX_NODISCARD enum epx_status epx_mirrors_init(struct epx_mirrors *mirrors, const struct epx_comm *comm,
                                               const struct epx_mirror_sizes *sizes);
void epx_mirrors_fini(struct epx_mirrors *mirrors);

/* Makes the mirror of a rank anew, with other sizes; the old one stays when there is no memory. */
EPX_NODISCARD enum epx_status epx_mirrors_resize(struct epx_mirrors *mirrors, uint32_t rank,
                                                 const struct epx_mirror_sizes *sizes);

/* The mirror of a rank that has one. */
const struct epx_remote_mirror *epx_mirrors_of(const struct epx_mirrors *mirrors, uint32_t rank);

/* Rows [0, row_count) of a mirror's set as an exchange region says it. */
struct epx_published_rows epx_mirror_published(const struct epx_remote_mirror *mirror, uint32_t set, int64_t row_count);

#endif
