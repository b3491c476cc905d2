#include "comm/census_links.h"

#include "base/clock.h"
#include "base/fault.h"
#include "comm/bootstrap_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MOST_MS 1000

/* ---- The other leaders ----------------------------------------------------------------------------------------- */

static enum epx_status fail_without_root(const struct epx_census_taking *taking, bool gone, const char *why_not)
{
    const struct epx_census_request *request = taking->request;
    return epx_fail(gone ? EPX_ERR_RENDEZVOUS : EPX_ERR_JOIN_TIMEOUT,
                    "%s: rank %u cannot link its host to rank 0 (pid %u) at %s", request->what, request->rank,
                    taking->draft.census.members[0].pid, why_not);
}

/* 1: welcome, 0: to be tried again. */
static int present(const struct epx_census_taking *taking, struct epx_census_reach *reach)
{
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_LINK_BYTES];
    struct epx_census_link link = {.host = taking->draft.census.members[taking->request->rank].host,
                                   .rank = taking->request->rank};
    memcpy(link.run, taking->draft.begin.run, sizeof link.run);
    uint32_t bytes = epx_census_link_encode(&link, frame + EPX_CENSUS_HEAD_BYTES);
    if (epx_census_reach_prove(reach, EPX_CENSUS_ROLE_LEADER, EPX_CENSUS_LINK, frame, bytes) != 0) {
        return 0;
    }
    for (uint64_t now = epx_clock_ns(); now < taking->deadline_ns; now = epx_clock_ns()) {
        int result = epx_census_read(reach->fd, EPX_CENSUS_BIT(EPX_CENSUS_WELCOME), &reach->reader);
        if (result != -EAGAIN) {
            return result == 1;
        }
        struct pollfd poll_fd = {.fd = reach->fd, .events = POLLIN};
        (void)poll(&poll_fd, 1, epx_census_poll_ms(now, taking->deadline_ns, POLL_MOST_MS));
    }
    return 0;
}

static enum epx_status link_to_root(struct epx_census_taking *taking)
{
    const uint16_t port = (uint16_t)taking->draft.begin.link_port;
    for (;;) {
        struct epx_census_reach reach = {.key = taking->request->key,
                                         .role = EPX_CENSUS_ROLE_ROOT,
                                         .address = &taking->request->meeting.root,
                                         .own_ip = taking->request->meeting.own_ip,
                                         .ports = &port,
                                         .port_count = 1,
                                         .deadline_ns = taking->deadline_ns,
                                         .refusal_is_final = true};
        enum epx_census_reached reached = epx_census_reach(&reach);
        if (reached == EPX_CENSUS_UNREACHED_NO_MEMORY) {
            return epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to link a host", taking->request->what);
        }
        if (reached != EPX_CENSUS_REACHED) {
            return fail_without_root(taking, reached == EPX_CENSUS_UNREACHED_GONE, reach.why_not);
        }
        bool welcome = present(taking, &reach) == 1;
        epx_census_reader_fini(&reach.reader);
        if (welcome) {
            taking->draft.census.links[0] = reach.fd;
            return EPX_OK;
        }
        epx_boot_close(reach.fd);
    }
}

/* ---- Entry points ---------------------------------------------------------------------------------------------- */

enum epx_status epx_census_links_make(struct epx_census_taking *taking, int listener)
{
    struct epx_census *census = &taking->draft.census;
    uint32_t rank = taking->request->rank;
    if (epx_census_leader_of(census, census->members[rank].host) != rank) {
        return EPX_OK;
    }
    (void)epx_fault("census_link", (int)rank);
    uint32_t count = rank == 0 ? census->host_count : 1;
    census->links = malloc(count * sizeof *census->links);
    if (census->links == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to link %u hosts", taking->request->what, census->host_count);
    }
    census->link_count = count;
    for (uint32_t host = 0; host < count; host++) {
        census->links[host] = -1;
    }
    if (rank != 0) {
        return link_to_root(taking);
    }
    return epx_census_links_gather(taking, listener);
}

void epx_census_links_close(struct epx_census *census)
{
    for (uint32_t i = 0; i < census->link_count; i++) {
        if (census->links[i] >= 0) {
            epx_boot_close(census->links[i]);
        }
    }
    free(census->links);
    census->links = NULL;
    census->link_count = 0;
}
