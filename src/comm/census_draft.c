#include "comm/census_draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES  8u  /* a list's first index and count */
#define ENTRY_BYTES 12u /* a member's host, pid and bytes of its card, which follows */

/* ---- Making ---------------------------------------------------------------------------------------------------- */

struct hosts {
    uint32_t count;
    uint32_t *of_rank;
    uint32_t *first_rank; /* by host */
};

static void number_hosts(const struct epx_census_record *records, uint32_t rank_count, struct hosts *hosts)
{
    for (uint32_t r = 0; r < rank_count; r++) {
        uint32_t host = 0;
        while (host < hosts->count &&
               memcmp(records[hosts->first_rank[host]].host_id, records[r].host_id, sizeof records[r].host_id) != 0) {
            host++;
        }
        if (host == hosts->count) {
            hosts->first_rank[hosts->count++] = r;
        }
        hosts->of_rank[r] = host;
    }
}

struct writer {
    uint8_t *frames;
    size_t used;
};

/* Begins a frame with a list; end_list() writes its head. */
static uint8_t *begin_list(struct writer *writer)
{
    return writer->frames + writer->used + EPX_CENSUS_HEAD_BYTES + LIST_BYTES;
}

static void end_list(struct writer *writer, enum epx_census_kind kind, uint32_t first, uint32_t end,
                     const uint8_t *tail)
{
    uint8_t *head = writer->frames + writer->used;
    uint8_t *list = head + EPX_CENSUS_HEAD_BYTES;
    epx_census_put_u32(list, first);
    epx_census_put_u32(list + 4, end - first);
    epx_census_head_encode(head, kind, (uint32_t)(tail - list));
    writer->used = (size_t)(tail - writer->frames);
}

static void write_begin(struct writer *writer, const struct epx_census_begin *begin)
{
    epx_census_head_encode(writer->frames, EPX_CENSUS_BEGIN, EPX_CENSUS_BEGIN_BYTES);
    writer->used = EPX_CENSUS_HEAD_BYTES + epx_census_begin_encode(begin, writer->frames + EPX_CENSUS_HEAD_BYTES);
}

static void write_hosts(struct writer *writer, const struct epx_census_record *records, const struct hosts *hosts)
{
    for (uint32_t first = 0; first < hosts->count;) {
        uint8_t *at = begin_list(writer);
        uint32_t host = first;
        for (; host < hosts->count && host - first < EPX_CENSUS_NAME_MAX; host++) {
            memcpy(at, records[hosts->first_rank[host]].host_name, EPX_CENSUS_NAME_BYTES);
            at += EPX_CENSUS_NAME_BYTES;
        }
        end_list(writer, EPX_CENSUS_HOSTS, first, host, at);
        first = host;
    }
}

static void write_members(struct writer *writer, const struct epx_census_record *records, uint32_t rank_count,
                          const struct hosts *hosts)
{
    for (uint32_t first = 0; first < rank_count;) {
        uint8_t *start = begin_list(writer);
        uint8_t *at = start;
        uint32_t rank = first;
        for (; rank < rank_count; rank++) {
            const struct epx_census_record *record = &records[rank];
            if ((size_t)(at - start) + ENTRY_BYTES + record->card_bytes > EPX_CENSUS_BODY_MAX - LIST_BYTES) {
                break;
            }
            epx_census_put_u32(at, hosts->of_rank[rank]);
            epx_census_put_u32(at + 4, record->pid);
            epx_census_put_u32(at + 8, record->card_bytes);
            at += ENTRY_BYTES;
            if (record->card_bytes > 0) {
                memcpy(at, record->card, record->card_bytes);
                at += record->card_bytes;
            }
        }
        end_list(writer, EPX_CENSUS_MEMBERS, first, rank, at);
        first = rank;
    }
}

bool epx_census_frames_make(const struct epx_census_record *records, uint32_t rank_count, uint32_t link_port,
                            const uint8_t run[EPX_CENSUS_RUN_BYTES], uint8_t **frames, size_t *bytes)
{
    struct epx_census_begin begin = {.rank_count = rank_count, .link_port = link_port};
    memcpy(begin.run, run, sizeof begin.run);
    for (uint32_t r = 0; r < rank_count; r++) {
        begin.card_bytes += records[r].card_bytes;
    }
    /* At most: a name and a frame of each list for every rank. */
    size_t most = EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_BEGIN_BYTES + begin.card_bytes +
                  (size_t)rank_count * (2 * (EPX_CENSUS_HEAD_BYTES + LIST_BYTES) + EPX_CENSUS_NAME_BYTES + ENTRY_BYTES);
    struct hosts hosts = {.of_rank = malloc(rank_count * sizeof *hosts.of_rank),
                          .first_rank = malloc(rank_count * sizeof *hosts.first_rank)};
    struct writer writer = {.frames = malloc(most)};
    bool have_memory = hosts.of_rank != NULL && hosts.first_rank != NULL && writer.frames != NULL;
    if (have_memory) {
        number_hosts(records, rank_count, &hosts);
        begin.host_count = hosts.count;
        write_begin(&writer, &begin);
        write_hosts(&writer, records, &hosts);
        write_members(&writer, records, rank_count, &hosts);
        *frames = writer.frames;
        *bytes = writer.used;
    } else {
        free(writer.frames);
    }
    free(hosts.of_rank);
    free(hosts.first_rank);
    return have_memory;
}

/* ---- Putting together ------------------------------------------------------------------------------------------ */

void epx_census_draft_fini(struct epx_census_draft *draft)
{
    free(draft->census.members);
    free(draft->census.host_names);
    *draft = (struct epx_census_draft){.cards = NULL};
}

static int take_begin(struct epx_census_draft *draft, uint32_t rank_count, const uint8_t *body, uint32_t bytes)
{
    struct epx_census_begin begin;
    if (draft->census.members != NULL || !epx_census_begin_decode(body, bytes, &begin) ||
        begin.rank_count != rank_count) {
        return -EBADMSG;
    }
    draft->begin = begin;
    size_t member_bytes = begin.rank_count * sizeof *draft->census.members;
    draft->census.members = calloc(1, member_bytes + begin.card_bytes);
    draft->census.host_names = calloc(begin.host_count, sizeof *draft->census.host_names);
    if (draft->census.members == NULL || draft->census.host_names == NULL) {
        epx_census_draft_fini(draft);
        return -ENOMEM;
    }
    draft->cards = (uint8_t *)draft->census.members + member_bytes;
    draft->census.rank_count = begin.rank_count;
    draft->census.host_count = begin.host_count;
    return 0;
}

/* Whether a list goes on where the last one ended and stays within `limit`. */
static bool list_fits(const uint8_t *body, uint32_t expected_first, uint32_t limit, uint32_t *count)
{
    uint32_t first = epx_census_get_u32(body);
    *count = epx_census_get_u32(body + 4);
    return first == expected_first && *count >= 1 && *count <= limit - first;
}

static int take_hosts(struct epx_census_draft *draft, const uint8_t *body, uint32_t bytes)
{
    uint32_t count = 0;
    if (!list_fits(body, draft->named_count, draft->census.host_count, &count) ||
        bytes != LIST_BYTES + count * EPX_CENSUS_NAME_BYTES) {
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < count; i++) {
        char *name = draft->census.host_names[draft->named_count];
        memcpy(name, body + LIST_BYTES + (size_t)i * EPX_CENSUS_NAME_BYTES, EPX_CENSUS_NAME_BYTES);
        if (!epx_census_name_is_valid(name)) {
            return -EBADMSG;
        }
        draft->named_count++;
    }
    return 0;
}

/* Bytes that the member at the front of `left` bytes takes, 0 when it cannot be right. Hosts are numbered in the order
 * of their lowest ranks. */
static uint32_t take_member(struct epx_census_draft *draft, const uint8_t *at, uint32_t left)
{
    if (left < ENTRY_BYTES) {
        return 0;
    }
    struct epx_census_member member = {.host = epx_census_get_u32(at),
                                       .pid = epx_census_get_u32(at + 4),
                                       .card = draft->cards + draft->cards_used,
                                       .card_bytes = epx_census_get_u32(at + 8)};
    if (member.host > draft->hosts_met || member.host >= draft->census.host_count || member.pid > INT32_MAX ||
        member.card_bytes > EPX_CENSUS_CARD_BYTES_MAX || member.card_bytes > left - ENTRY_BYTES ||
        member.card_bytes > draft->begin.card_bytes - draft->cards_used) {
        return 0;
    }
    memcpy(draft->cards + draft->cards_used, at + ENTRY_BYTES, member.card_bytes);
    draft->cards_used += member.card_bytes;
    draft->hosts_met += member.host == draft->hosts_met;
    draft->census.members[draft->member_count++] = member;
    return ENTRY_BYTES + member.card_bytes;
}

static int take_members(struct epx_census_draft *draft, const uint8_t *body, uint32_t bytes)
{
    uint32_t count = 0;
    uint32_t used = LIST_BYTES;
    if (!list_fits(body, draft->member_count, draft->census.rank_count, &count)) {
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t taken = take_member(draft, body + used, bytes - used);
        if (taken == 0) {
            return -EBADMSG;
        }
        used += taken;
    }
    bool last = draft->member_count == draft->census.rank_count;
    bool complete = draft->hosts_met == draft->census.host_count && draft->cards_used == draft->begin.card_bytes;
    return used == bytes && (!last || complete) ? 0 : -EBADMSG;
}

int epx_census_draft_take(struct epx_census_draft *draft, uint32_t rank_count, const struct epx_census_head *head,
                          const uint8_t *body)
{
    if (head->kind == EPX_CENSUS_BEGIN) {
        return take_begin(draft, rank_count, body, head->body_bytes);
    }
    bool begun = draft->census.members != NULL;
    if (begun && head->kind == EPX_CENSUS_HOSTS) {
        return take_hosts(draft, body, head->body_bytes);
    }
    if (begun && head->kind == EPX_CENSUS_MEMBERS && draft->named_count == draft->census.host_count) {
        return take_members(draft, body, head->body_bytes);
    }
    return -EBADMSG;
}

bool epx_census_draft_is_whole(const struct epx_census_draft *draft)
{
    return draft->census.members != NULL && draft->member_count == draft->census.rank_count;
}
