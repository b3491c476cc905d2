/*
 * What arrives from the ranks for which this one stands. Nothing of it is trusted: it is checked against what this rank
 * does in the round, and fails it when it cannot be right.
 */
#include "comm/remote_state.h"

#include "memory/arena.h"

#include <inttypes.h>
#include <string.h>

/* "rank 5 (host b, pid 4711): `what` is `value`, must be `expected`" */
static void wrong(struct epx_remote *remote, const struct epx_remote_peer *peer, const char *what, uint64_t value,
                  uint64_t expected)
{
    char name[EPX_REMOTE_NAME_BYTES];
    epx_remote_name(remote->comm, peer->rank, name);
    epx_remote_note(remote, EPX_ERR_PROTOCOL,
                    "%s: %s is %" PRIu64 " in a message of %s round %" PRIu64 ", must be %" PRIu64, name, what, value,
                    epx_operation_name((uint32_t)remote->round->operation), remote->round->number, expected);
}

/* Memory for what is about to be written. */
static bool need(struct epx_remote *remote, const struct epx_remote_peer *peer, const void *memory, uint64_t bytes)
{
    enum epx_status status = epx_arena_need(memory, bytes);
    if (status != EPX_OK) {
        epx_remote_note(remote, EPX_ERR_RANK_MEMORY, "rank %u: no memory for what rank %u sends: %s",
                        remote->comm->rank, peer->rank, epx_error_text());
    }
    return status == EPX_OK;
}

/* Whether the peer does what this rank does in this round: else the comparison after ENTER says what differs. */
static bool same_round(const struct epx_remote *remote, const struct epx_remote_entry *entry)
{
    const struct epx_round *round = remote->round;
    const struct epx_control_entry *own = &remote->comm->slot->entries[round->number & 1];
    return remote->offers && entry->round == round->number && entry->operation == (uint32_t)round->operation &&
           memcmp(&entry->agreement, &own->agreement, sizeof own->agreement) == 0;
}

static bool take_mirror(struct epx_remote *remote, struct epx_remote_peer *peer, const struct epx_remote_header *header)
{
    uint64_t bytes = header->total_bytes;
    struct epx_remote_receiver *receiver = &peer->receiver;
    enum epx_status status = EPX_ERR_INTERNAL;
    receiver->mirror = remote->sink.mirror(remote->sink.context, peer->rank, bytes, header->room, &status);
    if (receiver->mirror == NULL) {
        epx_remote_note(remote, status, "%s", epx_error_text());
        return false;
    }
    return need(remote, peer, receiver->mirror->exchange, bytes);
}

/* The first message of a peer in the round; *data and *bytes move on to the exchange region. */
static bool begin_entry(struct epx_remote *remote, struct epx_remote_peer *peer, const struct epx_remote_header *header,
                        const uint8_t **data, uint64_t *bytes)
{
    struct epx_remote_receiver *receiver = &peer->receiver;
    if (*bytes < sizeof receiver->entry.agreement) {
        wrong(remote, peer, "the size of an entry", *bytes, sizeof receiver->entry.agreement);
        return false;
    }
    receiver->entry = (struct epx_remote_entry){header->step, header->round, header->operation, {{0}}};
    memcpy(&receiver->entry.agreement, *data, sizeof receiver->entry.agreement);
    *data += sizeof receiver->entry.agreement;
    *bytes -= sizeof receiver->entry.agreement;
    receiver->exchange_bytes = header->total_bytes;
    receiver->dropped = !same_round(remote, &receiver->entry);
    receiver->stage = EPX_REMOTE_STAGE_REGION;
    return receiver->dropped || header->total_bytes == 0 || take_mirror(remote, peer, header);
}

static void take_entry(struct epx_remote *remote, struct epx_remote_peer *peer, const struct epx_remote_header *header,
                       const uint8_t *data, uint64_t bytes)
{
    struct epx_remote_receiver *receiver = &peer->receiver;
    if (receiver->stage == EPX_REMOTE_STAGE_ENTRY && !begin_entry(remote, peer, header, &data, &bytes)) {
        return;
    }
    if (receiver->stage != EPX_REMOTE_STAGE_REGION) {
        wrong(remote, peer, "the kind", header->kind, EPX_REMOTE_ROWS);
        return;
    }
    uint64_t left = receiver->exchange_bytes - receiver->received_bytes;
    if (header->total_bytes != receiver->exchange_bytes) {
        wrong(remote, peer, "the size of the exchange region", header->total_bytes, receiver->exchange_bytes);
    } else if (header->offset != receiver->received_bytes) {
        wrong(remote, peer, "the place in the exchange region", header->offset, receiver->received_bytes);
    } else if (bytes > left || (bytes == 0 && left > 0)) {
        wrong(remote, peer, "the size of a piece of the exchange region", bytes, left);
    } else {
        if (receiver->mirror != NULL && bytes > 0) {
            memcpy(receiver->mirror->exchange + receiver->received_bytes, data, bytes);
        }
        receiver->received_bytes += bytes;
        receiver->stage = bytes < left ? EPX_REMOTE_STAGE_REGION : EPX_REMOTE_STAGE_ROWS;
    }
}

/* Checks a line of the table and writes the row; its bytes, or 0 when it cannot be. */
static uint64_t take_row(struct epx_remote *remote, struct epx_remote_peer *peer,
                         const struct epx_remote_table_row *row, const uint8_t *data, uint64_t bytes)
{
    uint64_t row_bytes = row->set < EPX_REMOTE_SET_MAX ? remote->source.row_bytes[row->set] : 0;
    if (row_bytes == 0) {
        wrong(remote, peer, "the set of a row", row->set, 0);
        return 0;
    }
    const struct epx_remote_set *set = &peer->receiver.mirror->sets[row->set];
    if (row->index < 0 || row->index >= set->row_capacity) {
        char name[EPX_REMOTE_NAME_BYTES];
        epx_remote_name(remote->comm, peer->rank, name);
        epx_remote_note(remote, EPX_ERR_PROTOCOL, "%s: the index of a row is %d, must be in [0, %lld)", name,
                        row->index, (long long)set->row_capacity);
        return 0;
    }
    if (bytes < row_bytes) {
        wrong(remote, peer, "the size of what is left for a row", bytes, row_bytes);
        return 0;
    }
    uint8_t *dst = set->rows + (uint64_t)row->index * set->pitch_bytes;
    if (!need(remote, peer, dst, row_bytes)) {
        return 0;
    }
    memcpy(dst, data, row_bytes);
    if (set->scales != NULL) {
        if (!need(remote, peer, &set->scales[row->index], sizeof(float))) {
            return 0;
        }
        memcpy(&set->scales[row->index], &row->scale, sizeof(float));
    }
    peer->receiver.row_counts[row->set]++;
    return row_bytes;
}

static void take_rows(struct epx_remote *remote, struct epx_remote_peer *peer, const struct epx_remote_header *header,
                      const uint8_t *data, uint64_t bytes)
{
    struct epx_remote_receiver *receiver = &peer->receiver;
    uint64_t count = header->row_counts[0] <= EPX_REMOTE_BATCH_ROWS && header->row_counts[1] <= EPX_REMOTE_BATCH_ROWS
                         ? header->row_counts[0] + header->row_counts[1]
                         : UINT64_MAX;
    if (receiver->dropped) {
        return;
    }
    if (receiver->stage != EPX_REMOTE_STAGE_ROWS || receiver->mirror == NULL) {
        wrong(remote, peer, "the kind", header->kind,
              receiver->stage == EPX_REMOTE_STAGE_ROWS ? EPX_REMOTE_END : EPX_REMOTE_ENTRY);
        return;
    }
    uint64_t table_bytes = count * sizeof(struct epx_remote_table_row);
    if (count > EPX_REMOTE_BATCH_ROWS || table_bytes > bytes) {
        wrong(remote, peer, "the row count", count, bytes / sizeof(struct epx_remote_table_row));
        return;
    }
    uint64_t at = table_bytes;
    for (uint64_t i = 0; i < count; i++) {
        struct epx_remote_table_row row;
        memcpy(&row, data + i * sizeof row, sizeof row);
        uint64_t taken = take_row(remote, peer, &row, data + at, bytes - at);
        if (taken == 0) {
            return;
        }
        at += taken;
    }
    if (at != bytes) {
        wrong(remote, peer, "the size of a message of rows", bytes, at);
    }
}

static void publish(struct epx_remote *remote, struct epx_remote_peer *peer)
{
    struct epx_remote_receiver *receiver = &peer->receiver;
    struct epx_publication publication = {0};
    if (remote->source.is_back) {
        receiver->stage = EPX_REMOTE_STAGE_OVER;
        return;
    }
    if (receiver->mirror != NULL) {
        publication.bytes = receiver->exchange_bytes;
        if (!epx_arena_offset_of(receiver->mirror->exchange, publication.bytes, &publication.offset)) {
            epx_remote_note(remote, EPX_ERR_INTERNAL, "rank %u: the mirror of rank %u is not in the arena",
                            remote->comm->rank, peer->rank);
            return;
        }
    }
    epx_round_publish_for(remote->round, peer->rank, &receiver->entry, &publication);
    receiver->stage = EPX_REMOTE_STAGE_OVER;
}

static void take_end(struct epx_remote *remote, struct epx_remote_peer *peer, const struct epx_remote_header *header)
{
    struct epx_remote_receiver *receiver = &peer->receiver;
    if (receiver->stage != EPX_REMOTE_STAGE_ROWS) {
        wrong(remote, peer, "the kind", header->kind, EPX_REMOTE_ENTRY);
        return;
    }
    for (uint32_t set = 0; !receiver->dropped && set < EPX_REMOTE_SET_MAX; set++) {
        if (header->row_counts[set] != receiver->row_counts[set]) {
            wrong(remote, peer, "the count of all rows", header->row_counts[set], receiver->row_counts[set]);
            return;
        }
    }
    if (receiver->mirror != NULL &&
        !remote->sink.complete(remote->sink.context, peer->rank, receiver->exchange_bytes, receiver->row_counts)) {
        char name[EPX_REMOTE_NAME_BYTES];
        epx_remote_name(remote->comm, peer->rank, name);
        epx_remote_note(remote, EPX_ERR_PROTOCOL, "%s: the exchange region of %s round %" PRIu64 " cannot be right",
                        name, epx_operation_name((uint32_t)remote->round->operation), remote->round->number);
        return;
    }
    publish(remote, peer);
}

static void take(struct epx_remote *remote, struct epx_remote_peer *peer, const struct epx_remote_header *header,
                 const uint8_t *data, uint64_t bytes)
{
    if (header->step < remote->step || peer->receiver.stage == EPX_REMOTE_STAGE_OVER) {
        wrong(remote, peer, "the step", header->step, remote->step + (header->step == remote->step ? 1 : 0));
    } else if (header->kind == EPX_REMOTE_ENTRY) {
        take_entry(remote, peer, header, data, bytes);
    } else if (peer->receiver.stage == EPX_REMOTE_STAGE_ENTRY) {
        wrong(remote, peer, "the kind", header->kind, EPX_REMOTE_ENTRY);
    } else if (header->kind == EPX_REMOTE_ROWS) {
        take_rows(remote, peer, header, data, bytes);
    } else if (header->kind == EPX_REMOTE_END) {
        take_end(remote, peer, header);
    } else {
        wrong(remote, peer, "the kind", header->kind, EPX_REMOTE_END);
    }
    remote->moves++;
}

bool epx_remote_receive(void *context, uint32_t rank, const uint8_t raw[EPX_WIRE_HEADER_BYTES], const void *data,
                        uint64_t bytes)
{
    const struct epx_comm *comm = context;
    struct epx_remote *remote = comm->hosts != NULL ? comm->hosts->remote : NULL;
    if (remote == NULL || remote->round == NULL) {
        return false;
    }
    struct epx_remote_header header;
    memcpy(&header, raw, sizeof header);
    struct epx_remote_peer *peer =
        rank < comm->rank_count && remote->peer_of[rank] >= 0 ? &remote->peers[remote->peer_of[rank]] : NULL;
    if (peer != NULL && header.magic == EPX_REMOTE_MAGIC && header.step > remote->step) {
        return false; /* that part is still to come here */
    }
    if (peer == NULL || !peer->receiver.exists) {
        epx_remote_note(remote, EPX_ERR_PROTOCOL, "rank %u got a message of rank %u, for which it does not stand",
                        comm->rank, rank);
    } else if (header.magic != EPX_REMOTE_MAGIC) {
        wrong(remote, peer, "the mark", header.magic, EPX_REMOTE_MAGIC);
    } else if (remote->status == EPX_OK) {
        take(remote, peer, &header, data, bytes);
    }
    return true;
}
