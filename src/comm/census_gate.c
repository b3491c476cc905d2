#include "comm/census_links.h"

#include "base/clock.h"
#include "base/log.h"
#include "comm/bootstrap_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define STRANGER_MAX     32u  /* connections beyond one for each host */
#define PROOF_TIMEOUT_MS 2000 /* a connection that has not proved itself by then is dropped */
#define POLL_MOST_MS     1000
#define ACCEPT_MAX       64

struct guest {
    int fd; /* -1: the place is free */
    uint32_t poll;
    struct epx_census_visitor visitor;
};

struct gate {
    const struct epx_census_taking *taking;
    struct epx_census *census;
    int listener;
    uint32_t capacity;
    struct guest *guests; /* who has not proved itself yet */
    struct pollfd *polls; /* listener, then the guests */
    uint32_t linked_count;
    enum epx_status failure;
};

uint32_t epx_census_leader_of(const struct epx_census *census, uint32_t host)
{
    uint32_t rank = 0;
    while (census->members[rank].host != host) {
        rank++;
    }
    return rank;
}

static void drop(struct gate *gate, struct guest *guest, const char *reason)
{
    char peer[EPX_CENSUS_PEER_TEXT_BYTES];
    epx_census_peer_print(guest->fd, peer);
    epx_log(EPX_LOG_INFO, "links of %s: connection from %s refused: %s", gate->taking->request->what, peer, reason);
    epx_boot_close(guest->fd);
    guest->fd = -1;
    epx_census_reader_fini(&guest->visitor.reader);
}

/* A free place, or that of the guest who has been there longest. */
static struct guest *make_place(struct gate *gate)
{
    struct guest *oldest = &gate->guests[0];
    for (uint32_t g = 0; g < gate->capacity; g++) {
        struct guest *guest = &gate->guests[g];
        if (guest->fd < 0) {
            return guest;
        }
        if (guest->visitor.deadline_ns < oldest->visitor.deadline_ns) {
            oldest = guest;
        }
    }
    drop(gate, oldest, "gives way to a later one");
    return oldest;
}

static void accept_guests(struct gate *gate)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
        int fd = epx_census_accept(gate->listener, gate->taking->request->admitted);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            gate->failure = epx_fail_errno(EPX_ERR_SYSTEM, -fd, "%s: rank 0 cannot take the links of %u hosts",
                                           gate->taking->request->what, gate->census->host_count);
        }
        if (fd < 0) {
            return;
        }
        struct guest *place = make_place(gate);
        *place = (struct guest){.fd = fd, .visitor = {.deadline_ns = epx_deadline_after_ms(PROOF_TIMEOUT_MS)}};
    }
}

static void take_link(struct gate *gate, struct guest *guest)
{
    const struct epx_census *census = gate->census;
    const struct epx_census_reader *reader = &guest->visitor.reader;
    struct epx_census_link link;
    if (!epx_census_link_decode(reader->body, reader->head.body_bytes, &link) || link.host >= census->host_count ||
        link.rank != epx_census_leader_of(census, link.host) ||
        memcmp(link.run, gate->taking->draft.begin.run, sizeof link.run) != 0) {
        drop(gate, guest, "not a leader of this census");
        return;
    }
    int *place = &census->links[link.host];
    if (*place >= 0 && !epx_census_has_hung_up(*place)) {
        drop(gate, guest, "its host is linked already");
        return;
    }
    uint8_t frame[EPX_CENSUS_HEAD_BYTES];
    if (epx_census_send_frame(guest->fd, EPX_CENSUS_WELCOME, frame, 0) != 0) {
        drop(gate, guest, "cannot be sent to");
        return;
    }
    gate->linked_count += *place < 0;
    if (*place >= 0) {
        epx_boot_close(*place);
    }
    *place = guest->fd;
    guest->fd = -1;
    epx_census_reader_fini(&guest->visitor.reader);
}

static void read_guest(struct gate *gate, struct guest *guest)
{
    const struct epx_census_door door = {.key = gate->taking->request->key,
                                         .role = EPX_CENSUS_ROLE_ROOT,
                                         .visitor_role = EPX_CENSUS_ROLE_LEADER,
                                         .expected = EPX_CENSUS_LINK};
    int result = epx_census_visitor_read(guest->fd, &door, &guest->visitor);
    if (result == 1) {
        take_link(gate, guest);
    } else if (result != -EAGAIN) {
        drop(gate, guest, epx_census_read_error(result));
    }
}

static void serve_guests(struct gate *gate)
{
    uint64_t now = epx_clock_ns();
    uint64_t next = gate->taking->deadline_ns;
    nfds_t count = 1;
    gate->polls[0] = (struct pollfd){.fd = gate->listener, .events = POLLIN};
    for (uint32_t g = 0; g < gate->capacity; g++) {
        struct guest *guest = &gate->guests[g];
        if (guest->fd >= 0 && now >= guest->visitor.deadline_ns) {
            drop(gate, guest, "has not said who it is in time");
        }
        guest->poll = 0;
        if (guest->fd >= 0) {
            next = guest->visitor.deadline_ns < next ? guest->visitor.deadline_ns : next;
            guest->poll = (uint32_t)count;
            gate->polls[count++] = (struct pollfd){.fd = guest->fd, .events = POLLIN};
        }
    }
    if (poll(gate->polls, count, epx_census_poll_ms(now, next, POLL_MOST_MS)) <= 0) {
        return;
    }
    for (uint32_t g = 0; g < gate->capacity; g++) {
        if (gate->guests[g].poll != 0 && gate->polls[gate->guests[g].poll].revents != 0) {
            read_guest(gate, &gate->guests[g]);
        }
    }
    if (gate->polls[0].revents != 0) {
        accept_guests(gate);
    }
}

static enum epx_status fail_late(const struct gate *gate)
{
    const struct epx_census *census = gate->census;
    const struct epx_census_request *request = gate->taking->request;
    uint32_t host = 1;
    while (host + 1 < census->host_count && census->links[host] >= 0) {
        host++;
    }
    uint32_t leader = epx_census_leader_of(census, host);
    return epx_fail(EPX_ERR_JOIN_TIMEOUT,
                    "%s: %u of %u hosts have not linked to rank 0 within %.1f s, first of them host %u (%s): its rank "
                    "%u (pid %u) is to do it",
                    request->what, census->host_count - 1 - gate->linked_count, census->host_count - 1,
                    (double)request->timeout_ms / 1000.0, host, census->host_names[host], leader,
                    census->members[leader].pid);
}

static enum epx_status accept_links(struct gate *gate)
{
    while (gate->linked_count + 1 < gate->census->host_count) {
        if (epx_clock_ns() >= gate->taking->deadline_ns) {
            return fail_late(gate);
        }
        serve_guests(gate);
        EPX_TRY(gate->failure);
    }
    return EPX_OK;
}

enum epx_status epx_census_links_gather(struct epx_census_taking *taking, int listener)
{
    struct epx_census *census = &taking->draft.census;
    struct gate gate = {.taking = taking,
                        .census = census,
                        .listener = listener,
                        .capacity = census->host_count + STRANGER_MAX,
                        .failure = EPX_OK};
    gate.guests = calloc(gate.capacity, sizeof *gate.guests);
    gate.polls = calloc(1 + (size_t)gate.capacity, sizeof *gate.polls);
    enum epx_status status = EPX_OK;
    if (gate.guests == NULL || gate.polls == NULL) {
        status =
            epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to link %u hosts", taking->request->what, census->host_count);
    } else {
        for (uint32_t g = 0; g < gate.capacity; g++) {
            gate.guests[g].fd = -1;
        }
        status = accept_links(&gate);
        for (uint32_t g = 0; g < gate.capacity; g++) {
            if (gate.guests[g].fd >= 0) {
                drop(&gate, &gate.guests[g], "every host is linked");
            }
        }
    }
    free(gate.guests);
    free(gate.polls);
    return status;
}
