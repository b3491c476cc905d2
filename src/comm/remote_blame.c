/*
 * Whom the wire part of a round waits for, in words.
 */
#include "comm/health.h"
#include "comm/rank_set.h"
#include "comm/remote_state.h"

#include <inttypes.h>
#include <stdio.h>

#define RANKS_TEXT_BYTES 160

/* What a peer still owes, the gravest first. */
enum debt {
    DEBT_ENTRY, /* has sent nothing */
    DEBT_ROWS,  /* has not sent all */
    DEBT_ROOM,  /* has not taken all that was sent */
    DEBT_NONE,
};

static enum debt debt_of(const struct epx_remote_peer *peer)
{
    const struct epx_remote_receiver *receiver = &peer->receiver;
    if (receiver->exists && receiver->stage != EPX_REMOTE_STAGE_OVER) {
        return receiver->stage == EPX_REMOTE_STAGE_ENTRY ? DEBT_ENTRY : DEBT_ROWS;
    }
    return epx_remote_sent(peer) ? DEBT_NONE : DEBT_ROOM;
}

void epx_remote_name(const struct epx_comm *comm, uint32_t rank, char name[EPX_REMOTE_NAME_BYTES])
{
    const struct epx_hosts *hosts = comm->hosts;
    (void)snprintf(name, EPX_REMOTE_NAME_BYTES, "rank %u (host %.63s, pid %u)", rank,
                   hosts->host_names[hosts->host_of[rank]], hosts->pids[rank]);
}

void epx_remote_blame(const struct epx_remote *remote, uint64_t now_ns, char *text, size_t text_bytes)
{
    const char *const owed[] = {remote->source.is_back ? "sent sums of" : "entered", "sent all rows of",
                                "taken all rows of"};
    const struct epx_comm *comm = remote->comm;
    enum debt worst = DEBT_NONE;
    for (uint32_t i = 0; i < remote->peer_count; i++) {
        enum debt debt = debt_of(&remote->peers[i]);
        worst = debt < worst ? debt : worst;
    }
    text[0] = '\0';
    if (worst == DEBT_NONE) {
        return;
    }
    struct epx_rank_set late = {0};
    struct epx_rank_set waiting = {0};
    epx_rank_set_add(&waiting, comm->rank);
    for (uint32_t i = 0; i < remote->peer_count; i++) {
        const struct epx_remote_peer *peer = &remote->peers[i];
        enum debt debt = debt_of(peer);
        if (debt == worst) {
            epx_rank_set_add(&late, peer->rank);
        } else if (debt == DEBT_NONE && peer->receiver.exists) {
            epx_rank_set_add(&waiting, peer->rank);
        }
    }
    if (epx_health_blame_silence(comm, &late, remote->since_ns, text, text_bytes)) {
        return;
    }
    char who[RANKS_TEXT_BYTES];
    char others[RANKS_TEXT_BYTES];
    bool one = epx_rank_set_count(&late) == 1;
    if (one) {
        epx_remote_name(comm, epx_rank_set_first(&late), who);
    } else {
        epx_rank_set_print(&late, who, sizeof who);
    }
    epx_rank_set_print(&waiting, others, sizeof others);
    (void)snprintf(text, text_bytes, "%s %s not %s %s round %" PRIu64 "; %s %s waited %.1f s", who,
                   one ? "has" : "have", owed[worst], epx_operation_name((uint32_t)remote->round->operation),
                   remote->round->number, others, epx_rank_set_count(&waiting) == 1 ? "has" : "have",
                   (double)(now_ns - remote->since_ns) / 1e9);
}
