#include "comm/remote.h"

#include "base/clock.h"
#include "base/fault.h"
#include "comm/failure.h"
#include "comm/health.h"
#include "comm/remote_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* When a peer is lost its own host may know better why, within two slices, and says so on the way that failures take:
 * it is given this many slices to do so. */
#define LOST_SLICES 10u
/* A look that comes late by more slices than these: this process itself was stopped, not just slow. */
#define STOPPED_SLICES 10u

static void state_free(struct epx_remote *remote)
{
    for (uint32_t i = 0; remote->peers != NULL && i < remote->peer_count; i++) {
        free(remote->peers[i].sender.slots);
    }
    free(remote->peers);
    free(remote->peer_of);
    free(remote);
}

static struct epx_remote_peer *peer_add(struct epx_remote *remote, uint32_t rank)
{
    if (remote->peer_of[rank] < 0) {
        remote->peer_of[rank] = (int32_t)remote->peer_count;
        remote->peers[remote->peer_count++].rank = rank;
    }
    return &remote->peers[remote->peer_of[rank]];
}

/* Who stands for this rank, and for whom it stands. */
static bool peers_fill(struct epx_remote *remote)
{
    const struct epx_comm *comm = remote->comm;
    const struct epx_hosts *hosts = comm->hosts;
    for (uint32_t host = 0; host < hosts->host_count; host++) {
        if (host == hosts->own_host) {
            continue;
        }
        peer_add(remote, epx_comm_stand_in(comm, comm->rank, host))->stands_for_this = true;
    }
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        if (!epx_comm_is_here(comm, rank) && epx_comm_stand_in(comm, rank, hosts->own_host) == comm->rank) {
            peer_add(remote, rank)->stood_for = true;
        }
    }
    for (uint32_t i = 0; i < remote->peer_count; i++) {
        struct epx_remote_sender *sender = &remote->peers[i].sender;
        sender->slots = calloc(EPX_REMOTE_SLOT_COUNT, sizeof *sender->slots);
        if (sender->slots == NULL) {
            return false;
        }
    }
    return true;
}

enum epx_status epx_remote_create(struct epx_comm *comm)
{
    struct epx_remote *remote = calloc(1, sizeof *remote);
    bool made = false;
    if (remote != NULL) {
        remote->comm = comm;
        remote->peers = calloc(comm->rank_count, sizeof *remote->peers);
        remote->peer_of = malloc(comm->rank_count * sizeof *remote->peer_of);
        if (remote->peers != NULL && remote->peer_of != NULL) {
            memset(remote->peer_of, 0xFF, comm->rank_count * sizeof *remote->peer_of);
            made = peers_fill(remote);
        }
    }
    if (!made) {
        if (remote != NULL) {
            state_free(remote);
        }
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a communicator of %u ranks on %u hosts", comm->rank_count,
                        comm->hosts->host_count);
    }
    comm->hosts->remote = remote;
    return EPX_OK;
}

void epx_remote_destroy(struct epx_comm *comm)
{
    if (comm->hosts != NULL && comm->hosts->remote != NULL) {
        state_free(comm->hosts->remote);
        comm->hosts->remote = NULL;
    }
}

static void lose(void *context, uint32_t rank, const char *reason)
{
    const struct epx_comm *comm = context;
    struct epx_remote *remote = comm->hosts != NULL ? comm->hosts->remote : NULL;
    if (remote == NULL || rank >= comm->rank_count || remote->peer_of[rank] < 0) {
        return;
    }
    struct epx_remote_peer *peer = &remote->peers[remote->peer_of[rank]];
    if (!peer->lost) {
        peer->lost = true;
        (void)snprintf(peer->reason, sizeof peer->reason, "%s", reason);
    }
}

struct epx_wire_handler epx_remote_handler(struct epx_comm *comm)
{
    return (struct epx_wire_handler){.context = comm, .receive = epx_remote_receive, .lost = lose};
}

void epx_remote_note(struct epx_remote *remote, enum epx_status status, const char *format, ...)
{
    if (remote->status != EPX_OK) {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(remote->text, sizeof remote->text, format, args);
    va_end(args);
    remote->status = status;
}

/*
 * Ends the round with the communicator's failure. Messages that are still on their way are cancelled, for the memory
 * behind them is the caller's from here on; as no later round can succeed, the wire goes with them. First of all the
 * cause is settled: peers that see the wire closed look for it.
 */
static enum epx_status give_up(struct epx_remote *remote, enum epx_status status, const char *text)
{
    struct epx_hosts *hosts = remote->comm->hosts;
    struct epx_round *round = remote->round;
    enum epx_status first = epx_failure_force(remote->comm, status, text);
    remote->round = NULL;
    epx_wire_close(hosts->wire);
    hosts->wire = NULL;
    return epx_round_fail(round, first, "%s", text);
}

/* A peer that is lost before all is sent and received; null: none. */
static const struct epx_remote_peer *find_lost(const struct epx_remote *remote)
{
    for (uint32_t i = 0; i < remote->peer_count; i++) {
        const struct epx_remote_peer *peer = &remote->peers[i];
        bool received = !peer->receiver.exists || peer->receiver.stage == EPX_REMOTE_STAGE_OVER;
        if (peer->lost && !(received && epx_remote_sent(peer))) {
            return peer;
        }
    }
    return NULL;
}

/* A peer is lost for good: notes it when nobody has told a better reason meanwhile. */
static void examine_lost(struct epx_remote *remote, uint64_t now_ns)
{
    const struct epx_remote_peer *peer = find_lost(remote);
    if (peer == NULL) {
        return;
    }
    if (remote->lost_ns == 0) {
        remote->lost_ns = now_ns;
    }
    if (now_ns - remote->lost_ns >= LOST_SLICES * remote->comm->policy.slice_ns) {
        char name[EPX_REMOTE_NAME_BYTES];
        epx_remote_name(remote->comm, peer->rank, name);
        epx_remote_note(remote, EPX_ERR_PEER_DEAD, "%s cannot be reached: %s", name, peer->reason);
    }
}

static void set_deadline(struct epx_remote *remote)
{
    int64_t timeout_ms = atomic_load_explicit(&remote->comm->op_timeout_ms, memory_order_relaxed);
    remote->deadline_ns = epx_deadline_after_ms(timeout_ms);
}

/* Looks for a reason to end the wait, once a slice: a rank of this host is gone, or the deadline has passed. */
static void examine(struct epx_remote *remote, uint64_t now_ns)
{
    struct epx_comm *comm = remote->comm;
    char text[EPX_ERROR_TEXT_BYTES];
    /* That time, in which the others may have been stopped, too, counts against nobody. */
    if (now_ns > remote->check_ns + STOPPED_SLICES * comm->policy.slice_ns && remote->deadline_ns != EPX_NEVER) {
        remote->deadline_ns += now_ns - remote->check_ns;
    }
    remote->check_ns = now_ns + comm->policy.slice_ns;
    uint64_t activity = atomic_load_explicit(&comm->slot->activity, memory_order_relaxed);
    enum epx_status status = epx_health_examine(comm, remote->step, activity, text, sizeof text);
    if (status == EPX_OK && now_ns >= remote->deadline_ns &&
        !epx_health_is_unsure(comm, remote->step, remote->deadline_ns)) {
        epx_remote_blame(remote, now_ns, text, sizeof text);
        if (text[0] == '\0') {
            (void)snprintf(text, sizeof text, "rank %u cannot get rid of what it sends to other hosts", comm->rank);
        }
        status = EPX_ERR_TIMEOUT;
    }
    if (status != EPX_OK) {
        epx_remote_note(remote, status, "%s", text);
    }
}

static bool complete(const struct epx_remote *remote)
{
    for (uint32_t i = 0; i < remote->peer_count; i++) {
        const struct epx_remote_peer *peer = &remote->peers[i];
        if ((peer->receiver.exists && peer->receiver.stage != EPX_REMOTE_STAGE_OVER) || !epx_remote_sent(peer)) {
            return false;
        }
    }
    return true;
}

static void peer_begin(struct epx_remote *remote, struct epx_remote_peer *peer)
{
    struct epx_remote_sender *sender = &peer->sender;
    struct epx_remote_receiver *receiver = &peer->receiver;
    bool is_back = remote->source.is_back;
    *receiver = (struct epx_remote_receiver){.exists = is_back ? peer->stands_for_this : peer->stood_for};
    *sender =
        (struct epx_remote_sender){.exists = is_back ? peer->stood_for : peer->stands_for_this, .slots = sender->slots};
    if (sender->exists && remote->offers) {
        sender->exchange =
            remote->source.exchange(remote->source.context, peer->rank, &sender->exchange_bytes, &sender->room);
    }
}

/* Rows of a message: as many as fit whatever set they are of. */
static uint32_t batch_rows(const struct epx_remote_source *source)
{
    uint32_t longest = source->row_bytes[0] > source->row_bytes[1] ? source->row_bytes[0] : source->row_bytes[1];
    if (longest == 0) {
        return 0;
    }
    uint32_t bytes = longest + (uint32_t)sizeof(struct epx_remote_table_row);
    uint32_t rows = bytes < EPX_REMOTE_BATCH_BYTES ? EPX_REMOTE_BATCH_BYTES / bytes : 1;
    return rows < EPX_REMOTE_BATCH_ROWS ? rows : EPX_REMOTE_BATCH_ROWS;
}

enum epx_status epx_remote_begin(struct epx_round *round, const struct epx_remote_source *source,
                                 const struct epx_remote_sink *sink)
{
    struct epx_comm *comm = round->comm;
    if (comm->hosts == NULL || round->is_over) {
        return EPX_OK;
    }
    struct epx_remote *remote = comm->hosts->remote;
    if (comm->hosts->wire == NULL) {
        return epx_round_fail(round, EPX_ERR_INTERNAL, "rank %u: the wire to other hosts is closed", comm->rank);
    }
    remote->offers = source != NULL && sink != NULL;
    remote->source = remote->offers ? *source : (struct epx_remote_source){0};
    remote->sink = remote->offers ? *sink : (struct epx_remote_sink){0};
    remote->batch_rows = batch_rows(&remote->source);
    remote->round = round;
    remote->step = comm->step + 1;
    remote->status = EPX_OK;
    remote->since_ns = epx_clock_ns();
    remote->check_ns = remote->since_ns + comm->policy.slice_ns;
    remote->lost_ns = 0;
    set_deadline(remote);
    for (uint32_t i = 0; i < remote->peer_count; i++) {
        peer_begin(remote, &remote->peers[i]);
    }
    return EPX_OK;
}

/* Moves what can be moved; false when nothing can, and nothing has since *seen. */
static bool move(struct epx_remote *remote, uint64_t *seen)
{
    epx_remote_post(remote);
    bool moved = epx_wire_progress(remote->comm->hosts->wire);
    if (remote->moves != *seen) {
        *seen = remote->moves;
        set_deadline(remote);
        return true;
    }
    return moved;
}

/* Until all is there, the round cannot go on, or the caller wants to be back (*pending). */
static enum epx_status wait(struct epx_remote *remote, uint64_t until_ns, bool *pending)
{
    struct epx_comm *comm = remote->comm;
    uint64_t seen = remote->moves;
    for (;;) {
        bool moved = move(remote, &seen);
        if (remote->status != EPX_OK) {
            return give_up(remote, remote->status, remote->text);
        }
        if (epx_comm_failed(comm)) {
            return give_up(remote, EPX_ERR_INTERNAL, "the communicator has failed"); /* with the cause that is known */
        }
        if (complete(remote)) {
            return EPX_OK;
        }
        uint64_t now_ns = epx_clock_ns();
        if (!moved) {
            examine_lost(remote, now_ns);
        }
        if (now_ns >= remote->check_ns || now_ns >= remote->deadline_ns) {
            examine(remote, now_ns);
        }
        if (until_ns != EPX_NEVER && now_ns >= until_ns) {
            *pending = true;
            return EPX_OK;
        }
        if (!moved && remote->status == EPX_OK) {
            bool is_due_first = remote->deadline_ns > now_ns && remote->deadline_ns < remote->check_ns;
            uint64_t wake_ns = is_due_first ? remote->deadline_ns : remote->check_ns;
            epx_wire_wait(comm->hosts->wire, comm->policy.spin_ns, wake_ns < until_ns ? wake_ns : until_ns);
            (void)epx_fault("remote.wait", (int)comm->rank);
        }
    }
}

enum epx_status epx_remote_await(struct epx_round *round, uint64_t until_ns, bool *pending)
{
    struct epx_comm *comm = round->comm;
    *pending = false;
    if (comm->hosts == NULL || comm->hosts->remote->round == NULL) {
        return EPX_OK;
    }
    struct epx_remote *remote = comm->hosts->remote;
    EPX_TRY(wait(remote, until_ns, pending));
    if (!*pending) {
        remote->round = NULL;
        round->waited_ns[remote->source.is_back ? EPX_PHASE_ROWS : EPX_PHASE_ENTER] +=
            epx_clock_ns() - remote->since_ns;
    }
    return EPX_OK;
}

enum epx_status epx_remote_enter(struct epx_round *round)
{
    bool pending;
    EPX_TRY(epx_remote_begin(round, NULL, NULL));
    return epx_remote_await(round, EPX_NEVER, &pending);
}
