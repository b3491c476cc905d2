/*
 * The whole census as frames: made of the ranks' records by the centre, put together again by each rank. Pure.
 */
#ifndef EPX_COMM_CENSUS_DRAFT_H
#define EPX_COMM_CENSUS_DRAFT_H

#include "comm/census_wire.h"

struct epx_census_record { /* what the centre knows of a rank */
    uint8_t host_id[32];
    char host_name[EPX_CENSUS_NAME_BYTES];
    uint32_t pid;
    uint32_t card_bytes;
    uint8_t *card; /* malloc; null when empty */
};

/* Frames BEGIN, HOSTS…, MEMBERS… one behind the other, for free(). False: no memory. */
bool epx_census_frames_make(const struct epx_census_record *records, uint32_t rank_count, uint32_t link_port,
                            const uint8_t run[EPX_CENSUS_RUN_BYTES], uint8_t **frames, size_t *bytes);

struct epx_census_draft {
    struct epx_census census; /* members and host_names while the draft has begun */
    struct epx_census_begin begin;
    uint32_t named_count;  /* hosts whose names have come */
    uint32_t member_count; /* members that have come */
    uint32_t hosts_met;    /* hosts of those members */
    uint32_t cards_used;   /* bytes */
    uint8_t *cards;
};

/* Takes one of those frames, the head of which was valid. Zero; -EBADMSG: cannot be right; -ENOMEM. */
int epx_census_draft_take(struct epx_census_draft *draft, uint32_t rank_count, const struct epx_census_head *head,
                          const uint8_t *body);
bool epx_census_draft_is_whole(const struct epx_census_draft *draft);
void epx_census_draft_fini(struct epx_census_draft *draft);

#endif
