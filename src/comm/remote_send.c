/*
 * What this rank sends to those that stand for it. Rows are sent from where they are.
 */
#include "comm/remote_state.h"

#include "base/fault.h"

#include <stdio.h>
#include <string.h>

static void add_piece(struct epx_remote_slot *slot, const void *address, uint64_t bytes)
{
    struct epx_wire_send *send = &slot->send;
    if (send->piece_count > 0) {
        struct iovec *last = &slot->pieces[send->piece_count - 1];
        if ((const uint8_t *)last->iov_base + last->iov_len == address) {
            last->iov_len += bytes;
            return;
        }
    }
    slot->pieces[send->piece_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)address, .iov_len = bytes};
}

static void put_entry(const struct epx_remote *remote, struct epx_remote_peer *peer, struct epx_remote_slot *slot,
                      struct epx_remote_header *header)
{
    struct epx_remote_sender *sender = &peer->sender;
    const struct epx_control_slot *own = remote->comm->slot;
    uint64_t room = EPX_WIRE_MESSAGE_BYTES_MAX;
    header->kind = EPX_REMOTE_ENTRY;
    header->total_bytes = sender->exchange_bytes;
    header->offset = sender->sent_bytes;
    header->room = sender->room;
    if (sender->stage == EPX_REMOTE_STAGE_ENTRY) {
        add_piece(slot, &own->entries[remote->round->number & 1].agreement, sizeof(struct epx_agreement));
        room -= sizeof(struct epx_agreement);
    }
    uint64_t left = sender->exchange_bytes - sender->sent_bytes;
    uint64_t bytes = left < room ? left : room;
    if (bytes > 0) {
        add_piece(slot, sender->exchange + sender->sent_bytes, bytes);
    }
    sender->sent_bytes += bytes;
    sender->stage = bytes < left ? EPX_REMOTE_STAGE_REGION : EPX_REMOTE_STAGE_ROWS;
}

/* The next rows; without any, the end. */
static void put_rows(struct epx_remote *remote, struct epx_remote_peer *peer, struct epx_remote_slot *slot,
                     struct epx_remote_header *header)
{
    struct epx_remote_sender *sender = &peer->sender;
    const struct epx_remote_source *source = &remote->source;
    uint32_t count = 0;
    if (remote->batch_rows > 0) {
        count = source->rows(source->context, peer->rank, &sender->cursor, remote->rows, remote->batch_rows);
    }
    if (count == 0) {
        header->kind = EPX_REMOTE_END;
        memcpy(header->row_counts, sender->row_counts, sizeof header->row_counts);
        sender->stage = EPX_REMOTE_STAGE_OVER;
        return;
    }
    header->kind = EPX_REMOTE_ROWS;
    add_piece(slot, slot->table, count * sizeof slot->table[0]);
    for (uint32_t i = 0; i < count; i++) {
        const struct epx_remote_row *row = &remote->rows[i];
        float scale = source->has_scales[row->set] ? row->scale : 0.0f;
        slot->table[i] = (struct epx_remote_table_row){.set = row->set, .index = row->index, .scale = scale};
        add_piece(slot, row->address, source->row_bytes[row->set]);
        header->row_counts[row->set]++;
        sender->row_counts[row->set]++;
    }
}

static struct epx_remote_slot *free_slot(struct epx_remote *remote, struct epx_remote_peer *peer)
{
    struct epx_remote_slot *found = NULL;
    for (uint32_t i = 0; i < EPX_REMOTE_SLOT_COUNT; i++) {
        struct epx_remote_slot *slot = &peer->sender.slots[i];
        if (slot->busy && slot->send.done) {
            slot->busy = false;
            remote->moves++;
        }
        found = slot->busy ? found : slot;
    }
    return found;
}

/* A loss is told, with its reason, by the wire's next progress. */
static void note_refusal(struct epx_remote *remote, enum epx_status status)
{
    if (status != EPX_ERR_PEER_DEAD) {
        epx_remote_note(remote, status, "%s", epx_error_text());
    }
}

/* One message to a peer; false when there is none, or no room for it. */
static bool post_one(struct epx_remote *remote, struct epx_remote_peer *peer)
{
    struct epx_remote_sender *sender = &peer->sender;
    struct epx_remote_slot *slot = sender->exists ? free_slot(remote, peer) : NULL;
    if (slot == NULL || peer->lost || sender->stage == EPX_REMOTE_STAGE_OVER) {
        return false;
    }
    struct epx_remote_header header = {
        .magic = EPX_REMOTE_MAGIC,
        .operation = (uint16_t)remote->round->operation,
        .step = remote->step,
        .round = remote->round->number,
    };
    slot->send = (struct epx_wire_send){.pieces = slot->pieces};
    if (sender->stage == EPX_REMOTE_STAGE_ROWS) {
        put_rows(remote, peer, slot, &header);
    } else {
        put_entry(remote, peer, slot, &header);
    }
    memcpy(slot->send.header, &header, sizeof header);
    (void)epx_fault("remote.send", (int)remote->comm->rank);
    slot->busy = true;
    enum epx_status status = epx_wire_send(remote->comm->hosts->wire, peer->rank, &slot->send);
    if (status != EPX_OK) {
        slot->busy = false;
        sender->stage = EPX_REMOTE_STAGE_ENTRY; /* not sent, and never will be */
        note_refusal(remote, status);
        return false;
    }
    remote->moves++;
    return true;
}

void epx_remote_post(struct epx_remote *remote)
{
    bool posted = true;
    while (posted && remote->status == EPX_OK) {
        posted = false;
        for (uint32_t i = 0; i < remote->peer_count && remote->status == EPX_OK; i++) {
            posted = post_one(remote, &remote->peers[i]) || posted;
        }
    }
}

bool epx_remote_sent(const struct epx_remote_peer *peer)
{
    const struct epx_remote_sender *sender = &peer->sender;
    if (!sender->exists) {
        return true;
    }
    for (uint32_t i = 0; i < EPX_REMOTE_SLOT_COUNT; i++) {
        if (sender->slots[i].busy && !sender->slots[i].send.done) {
            return false;
        }
    }
    return sender->stage == EPX_REMOTE_STAGE_OVER;
}
