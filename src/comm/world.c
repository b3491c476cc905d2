#include "comm/world.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/process.h"
#include "comm/agent.h"
#include "comm/failure.h"
#include "comm/meeting_address.h"
#include "comm/remote_state.h"
#include "comm/step.h"
#include "comm/whitelist.h"
#include "transport/wire.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Between two looks at the wire while a world is made. */
#define PIECE_NS 1000000u

/* A key for one purpose, from the world's. */
static void key_make(const char *purpose, const uint8_t key[32], const void *more, size_t more_bytes, uint8_t out[32])
{
    struct epx_digest_state state;
    epx_digest_init(&state);
    epx_digest_update(&state, purpose, strlen(purpose) + 1);
    epx_digest_update(&state, key, 32);
    epx_digest_update(&state, more, more_bytes);
    epx_digest_final(&state, out);
}

/* What a rank tells all others: how it reaches the meeting, and the address of its wire. */
struct card {
    char own_ip[EPX_CENSUS_IP_BYTES];
    uint8_t wire[EPX_WIRE_ADDRESS_BYTES_MAX];
};
static_assert(sizeof(struct card) <= EPX_CENSUS_CARD_BYTES_MAX, "a card does not fit");

static void card_fill(struct epx_census_request *request, const struct epx_wire *wire, struct card *card)
{
    uint32_t wire_bytes = 0;
    memset(card, 0, sizeof *card);
    memcpy(card->own_ip, request->meeting.own_ip, sizeof card->own_ip);
    if (wire != NULL) {
        const void *address = epx_wire_address(wire, &wire_bytes);
        memcpy(card->wire, address, wire_bytes);
    }
    request->card = card;
    request->card_bytes = (uint32_t)offsetof(struct card, wire) + wire_bytes;
}

static enum epx_status census_take(const struct epx_comm_spec *spec, const struct epx_wire *wire,
                                   struct epx_census *census)
{
    struct epx_census_request request = {
        .rank = spec->rank,
        .rank_count = spec->rank_count,
        .timeout_ms = spec->join_timeout_ms,
        .what = spec->what != NULL ? spec->what : "communicator",
        .meeting = *spec->meeting,
    };
    key_make("census", spec->key, epx_option_text(EPX_OPTION_JOB), strlen(epx_option_text(EPX_OPTION_JOB)),
             request.key);
    EPX_TRY(epx_census_host(request.host_id, request.host_name));
    struct card card;
    struct epx_whitelist admitted = {.enabled = false};
    card_fill(&request, wire, &card);
    if (spec->rank == 0) {
        EPX_TRY(epx_whitelist_load(&admitted));
    }
    request.admitted = &admitted;
    enum epx_status status = epx_census_take(&request, census);
    epx_whitelist_fini(&admitted);
    return status;
}

/* What is needed of the census later. */
static void hosts_note(struct epx_hosts *hosts, const struct epx_meeting *meeting, const struct epx_census *census)
{
    hosts->meeting = *meeting;
    for (uint32_t host = 0; host < hosts->host_count; host++) {
        const struct epx_census_member *leader = &census->members[epx_hosts_leader(hosts, host)];
        if (leader->card_bytes >= sizeof hosts->host_ips[host]) {
            memcpy(hosts->host_ips[host], leader->card, sizeof hosts->host_ips[host] - 1);
        }
    }
}

enum epx_status epx_world_meet(struct epx_comm *comm, const struct epx_comm_spec *spec, struct epx_census *census)
{
    if (spec->meeting == NULL) {
        return EPX_OK;
    }
    struct epx_wire *wire = NULL;
    const struct epx_wire_handler handler = epx_remote_handler(comm);
    if (epx_wire_available()) {
        EPX_TRY(epx_wire_open(spec->meeting->own_ip, &handler, spec->rank_count, &wire));
    }
    enum epx_status status = census_take(spec, wire, census);
    if (status == EPX_OK && census->host_count > 1) {
        status = wire != NULL ? epx_hosts_create(census, spec->rank, &comm->hosts)
                              : epx_fail(EPX_ERR_UNSUPPORTED, "the ranks are on %u hosts, and this epx has no wire: %s",
                                         census->host_count, epx_wire_description());
    }
    if (comm->hosts == NULL) {
        epx_wire_close(wire); /* one host, or a failure */
        return status;
    }
    int64_t silence_ms = 0;
    comm->hosts->wire = wire;
    hosts_note(comm->hosts, spec->meeting, census);
    EPX_TRY(epx_option_integer(EPX_OPTION_HOST_TIMEOUT_MS, &silence_ms));
    comm->hosts->silence_ns = (uint64_t)silence_ms * 1000000u;
    comm->here_count = comm->hosts->here_count;
    return epx_remote_create(comm);
}

void epx_world_host_key(const struct epx_comm *comm, const uint8_t key[32], uint8_t host_key[32])
{
    if (comm->hosts == NULL) {
        memcpy(host_key, key, 32);
        return;
    }
    key_make("host", key, &comm->hosts->own_host, sizeof comm->hosts->own_host, host_key);
}

enum epx_status epx_world_arenas(struct epx_comm *comm)
{
    const struct epx_hosts *hosts = comm->hosts;
    if (hosts == NULL) {
        comm->arenas = comm->shared.arenas;
        return EPX_OK;
    }
    comm->arenas = calloc(comm->rank_count, sizeof(struct epx_arena *));
    if (comm->arenas == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the arenas of %u ranks", comm->rank_count);
    }
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        comm->arenas[rank] = comm->shared.arenas[hosts->place_of[rank] % hosts->here_count];
    }
    return EPX_OK;
}

/* Whether this rank and `other`, of another host, exchange messages: one stands for the other. */
static bool exchanges_with(const struct epx_comm *comm, uint32_t other)
{
    const struct epx_hosts *hosts = comm->hosts;
    return !epx_comm_is_here(comm, other) && (epx_hosts_stand_in(hosts, comm->rank, hosts->host_of[other]) == other ||
                                              epx_hosts_stand_in(hosts, other, hosts->own_host) == comm->rank);
}

static enum epx_status wires_connect(struct epx_comm *comm, const struct epx_census *census)
{
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        const struct epx_census_member *member = &census->members[rank];
        const uint32_t wire_at = offsetof(struct card, wire);
        if (!exchanges_with(comm, rank)) {
            continue;
        }
        if (member->card_bytes < wire_at) {
            return epx_fail(EPX_ERR_PROTOCOL, "rank %u says nothing of its wire", rank);
        }
        enum epx_status status =
            epx_wire_connect(comm->hosts->wire, rank, member->card + wire_at, member->card_bytes - wire_at, comm->rank);
        if (status != EPX_OK) {
            char name[EPX_REMOTE_NAME_BYTES];
            char why[EPX_ERROR_TEXT_BYTES];
            (void)snprintf(why, sizeof why, "%s", epx_error_text());
            epx_remote_name(comm, rank, name);
            return epx_fail(status, "%s cannot be reached: %.*s", name, (int)sizeof why - 200, why);
        }
    }
    return EPX_OK;
}

/* The leader says where the ranks of other hosts are, for messages and for a look from outside; those here have said it
 * of themselves. */
static void hosts_introduce(struct epx_comm *comm)
{
    const struct epx_hosts *hosts = comm->hosts;
    bool leads = epx_hosts_leader(hosts, hosts->own_host) == comm->rank;
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        struct epx_control_slot *slot = &comm->control->slots[rank];
        uint32_t host = hosts->host_of[rank];
        if (!leads || epx_comm_is_here(comm, rank)) {
            continue;
        }
        (void)snprintf(slot->host_name, sizeof slot->host_name, "%.*s", (int)sizeof slot->host_name - 1,
                       hosts->host_names[host]);
        slot->process.host = host;
        slot->process.pid = hosts->pids[rank];
        slot->process.time_namespace = epx_process_namespace("time"); /* the agent writes this host's time */
    }
}

/* Until the own connections stand, are lost, or the world has failed. Not for ever: when a peer is stopped, all others
 * come to the step at which they meet, and then it is known who has not. */
static void wires_settle(struct epx_comm *comm)
{
    struct epx_wire *wire = comm->hosts->wire;
    uint64_t until_ns = epx_clock_ns() + comm->hosts->silence_ns;
    while (!epx_wire_settled(wire) && !epx_comm_failed(comm) && epx_clock_ns() < until_ns) {
        epx_wire_wait(wire, 0, epx_clock_ns() + PIECE_NS);
    }
}

/* A step of the creation. Meanwhile the wire moves: others need its answers. */
static enum epx_status meet(struct epx_comm *comm, bool is_world)
{
    bool pending = true;
    uint64_t waited_ns = 0;
    EPX_TRY(epx_step_arrive(comm, is_world));
    while (pending) {
        (void)epx_wire_progress(comm->hosts->wire);
        EPX_TRY(epx_step_await(comm, epx_clock_ns() + PIECE_NS, &waited_ns, &pending));
    }
    return EPX_OK;
}

/* First a step of this host, at which the leader arrives with its agent at work: so no rank here decides alone any more
 * when the other hosts count on this one. Then one of the whole world: who has passed it is connected, and so are all
 * others. */
static enum epx_status all_meet(struct epx_comm *comm, const struct epx_comm_spec *spec)
{
    wires_settle(comm);
    atomic_store_explicit(&comm->op_timeout_ms, spec->join_timeout_ms, memory_order_relaxed);
    EPX_TRY(meet(comm, false));
    EPX_TRY(meet(comm, true));
    atomic_store_explicit(&comm->op_timeout_ms, spec->op_timeout_ms, memory_order_relaxed);
    return EPX_OK;
}

enum epx_status epx_comm_sub_meeting(const struct epx_comm *comm, const uint32_t *ranks, uint32_t count,
                                     struct epx_meeting *meeting, bool *meets)
{
    const struct epx_hosts *hosts = comm->hosts;
    *meets = false;
    for (uint32_t i = 1; i < count; i++) {
        *meets = *meets || epx_comm_host_of(comm, ranks[i]) != epx_comm_host_of(comm, ranks[0]);
    }
    if (!*meets) {
        return EPX_OK;
    }
    *meeting = hosts->meeting;
    uint32_t host = hosts->host_of[ranks[0]];
    if (host != 0 && !epx_address_read(hosts->host_ips[host], &meeting->root)) {
        return epx_fail(EPX_ERR_NOT_FOUND, "rank %u on host %s has not said at which address it can be met", ranks[0],
                        hosts->host_names[host]);
    }
    epx_address_port_set(&meeting->root, meeting->ports[0]);
    epx_meeting_own_ip(meeting);
    return EPX_OK;
}

static enum epx_status connect_all(struct epx_comm *comm, const struct epx_comm_spec *spec, struct epx_census *census)
{
    struct epx_hosts *hosts = comm->hosts;
    hosts_introduce(comm);
    EPX_TRY(wires_connect(comm, census));
    if (epx_hosts_leader(hosts, hosts->own_host) == comm->rank) {
        uint32_t link_count = census->link_count;
        census->link_count = 0; /* the agent's from here on, after a failure too */
        EPX_TRY(epx_agent_start(comm, census->links, link_count, &hosts->agent));
    }
    return all_meet(comm, spec);
}

/* The others wait for this rank: they are told why it cannot go on. */
static enum epx_status tell_failure(struct epx_comm *comm, enum epx_status status)
{
    char text[EPX_ERROR_TEXT_BYTES];
    if (epx_comm_failed(comm)) {
        return status;
    }
    (void)snprintf(text, sizeof text, "%s", epx_error_text());
    return epx_failure_force(comm, status, text);
}

enum epx_status epx_world_connect(struct epx_comm *comm, const struct epx_comm_spec *spec, struct epx_census *census)
{
    const struct epx_hosts *hosts = comm->hosts;
    if (hosts == NULL) {
        return EPX_OK;
    }
    enum epx_status status = connect_all(comm, spec, census);
    if (status != EPX_OK) {
        return tell_failure(comm, status);
    }
    epx_log(EPX_LOG_INFO, "%s: rank %u on host %s (%u of %u), %s between hosts", comm->name, comm->rank,
            hosts->host_names[hosts->own_host], hosts->own_host, hosts->host_count, epx_wire_description());
    return EPX_OK;
}

void epx_world_leave(struct epx_comm *comm)
{
    struct epx_hosts *hosts = comm->hosts;
    if (hosts == NULL) {
        return;
    }
    if (comm->process == getpid() && hosts->agent != NULL) {
        epx_agent_stop(hosts->agent);
    }
    hosts->agent = NULL;
    epx_wire_close(hosts->wire);
    hosts->wire = NULL;
    epx_remote_destroy(comm);
}
