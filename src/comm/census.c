#include "comm/census.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/log.h"
#include "base/topology.h"
#include "comm/bootstrap_attempt.h"
#include "comm/census_centre.h"
#include "comm/census_links.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PAUSE_FIRST_NS 20000000u /* between two attempts; doubled up to the last */
#define PAUSE_LAST_NS  200000000u
#define PROBE_MS       300 /* for another rank 0 at a port before the own one */

struct root { /* what rank 0 has beyond other ranks */
    int listener;
    int link_listener;
    uint32_t port_index; /* of the meeting's ports */
};

static uint64_t pause_between(uint64_t pause_ns)
{
    epx_boot_pause_ns(pause_ns);
    return pause_ns * 2 < PAUSE_LAST_NS ? pause_ns * 2 : PAUSE_LAST_NS;
}

/* ---- Rank 0 ---------------------------------------------------------------------------------------------------- */

static enum epx_status fail_to_listen(const struct epx_census_taking *taking, int error)
{
    const struct epx_meeting *meeting = &taking->request->meeting;
    char address[EPX_CENSUS_PEER_TEXT_BYTES];
    epx_census_address_print(&meeting->root, address);
    return epx_fail_errno(EPX_ERR_SYSTEM, error, "%s: rank 0 cannot listen at %s ports %u-%u", taking->request->what,
                          address, meeting->ports[0], meeting->ports[meeting->port_count - 1]);
}

/* At the first port that is free; while none is, until the deadline. */
static enum epx_status open_door(const struct epx_census_taking *taking, struct root *root)
{
    const struct epx_meeting *meeting = &taking->request->meeting;
    uint64_t pause_ns = PAUSE_FIRST_NS;
    for (;;) {
        for (uint32_t p = 0; p < meeting->port_count; p++) {
            uint16_t port = meeting->ports[p];
            root->listener = epx_census_listen(&meeting->root, &port);
            root->port_index = p;
            if (root->listener >= 0) {
                return EPX_OK;
            }
            if (root->listener != -EADDRINUSE) {
                return fail_to_listen(taking, -root->listener);
            }
        }
        if (epx_clock_ns() >= taking->deadline_ns) {
            return fail_to_listen(taking, EADDRINUSE);
        }
        pause_ns = pause_between(pause_ns);
    }
}

static enum epx_status open_doors(struct epx_census_taking *taking, struct root *root)
{
    uint16_t link_port = 0;
    EPX_TRY(open_door(taking, root));
    root->link_listener = epx_census_listen(&taking->request->meeting.root, &link_port);
    if (root->link_listener < 0) {
        return fail_to_listen(taking, -root->link_listener);
    }
    taking->link_port = link_port;
    return EPX_OK;
}

/* Another rank 0 of this world would be at an earlier port: it refuses this one then. */
static enum epx_status probe_earlier_ports(struct epx_census_taking *taking, const struct root *root)
{
    if (root->port_index == 0) {
        return EPX_OK;
    }
    uint64_t deadline_ns = epx_deadline_after_ms(PROBE_MS);
    deadline_ns = deadline_ns < taking->deadline_ns ? deadline_ns : taking->deadline_ns;
    enum epx_census_attempt attempt =
        epx_census_attempt_run(taking, taking->request->meeting.ports, root->port_index, deadline_ns);
    return attempt == EPX_CENSUS_FAILED ? taking->failure : EPX_OK;
}

static enum epx_census_attempt attempt_as_root(struct epx_census_taking *taking, const struct root *root)
{
    struct epx_census_centre *centre = NULL;
    enum epx_status status = epx_census_centre_start(taking, root->listener, &centre);
    if (status != EPX_OK) {
        return epx_census_fail(taking, status);
    }
    const uint16_t *port = &taking->request->meeting.ports[root->port_index];
    enum epx_census_attempt attempt = epx_census_attempt_run(taking, port, 1, taking->deadline_ns);
    epx_census_centre_stop(centre);
    return attempt;
}

/* ---- All ranks ------------------------------------------------------------------------------------------------- */

static enum epx_status attempt_until_deadline(struct epx_census_taking *taking, const struct root *root)
{
    const struct epx_meeting *meeting = &taking->request->meeting;
    uint64_t pause_ns = PAUSE_FIRST_NS;
    for (;;) {
        enum epx_census_attempt attempt =
            taking->request->rank == 0
                ? attempt_as_root(taking, root)
                : epx_census_attempt_run(taking, meeting->ports, meeting->port_count, taking->deadline_ns);
        if (attempt == EPX_CENSUS_DONE) {
            return EPX_OK;
        }
        if (attempt == EPX_CENSUS_FAILED) {
            return taking->failure;
        }
        if (attempt == EPX_CENSUS_LATE || epx_clock_ns() >= taking->deadline_ns) {
            return epx_census_fail_late(taking);
        }
        pause_ns = pause_between(pause_ns);
    }
}

static enum epx_status take(struct epx_census_taking *taking, struct root *root)
{
    if (taking->request->rank == 0) {
        EPX_TRY(open_doors(taking, root));
        EPX_TRY(probe_earlier_ports(taking, root));
    }
    EPX_TRY(attempt_until_deadline(taking, root));
    return epx_census_links_make(taking, root->link_listener);
}

static enum epx_status check_meeting(const struct epx_census_request *request)
{
    const struct epx_meeting *meeting = &request->meeting;
    sa_family_t family = meeting->root.any.sa_family;
    union {
        struct in_addr v4;
        struct in6_addr v6;
    } own;
    if (family != AF_INET && family != AF_INET6) {
        return epx_fail(EPX_ERR_INVALID, "%s: address family of the meeting is %u, must be IPv4 (%u) or IPv6 (%u)",
                        request->what, family, AF_INET, AF_INET6);
    }
    if (meeting->port_count < 1 || meeting->port_count > EPX_CENSUS_PORT_MAX) {
        return epx_fail(EPX_ERR_INVALID, "%s: port_count is %u, must be in [1, %u]", request->what, meeting->port_count,
                        EPX_CENSUS_PORT_MAX);
    }
    for (uint32_t p = 0; p < meeting->port_count; p++) {
        if (meeting->ports[p] == 0) {
            return epx_fail(EPX_ERR_INVALID, "%s: ports[%u] is 0, must be in [1, 65535]", request->what, p);
        }
    }
    if (memchr(meeting->own_ip, '\0', sizeof meeting->own_ip) == NULL ||
        (meeting->own_ip[0] != '\0' && inet_pton(family, meeting->own_ip, &own) != 1)) {
        return epx_fail(EPX_ERR_INVALID, "%s: own_ip \"%.63s\" is not an address of the meeting's family",
                        request->what, meeting->own_ip);
    }
    return EPX_OK;
}

static enum epx_status check_request(const struct epx_census_request *request)
{
    if (request->rank_count < 1 || request->rank_count > EPX_COMM_RANK_MAX) {
        return epx_fail(EPX_ERR_INVALID, "%s: rank_count is %u, must be in [1, %u]", request->what, request->rank_count,
                        EPX_COMM_RANK_MAX);
    }
    if (request->rank >= request->rank_count) {
        return epx_fail(EPX_ERR_INVALID, "%s: rank is %u, must be in [0, %u)", request->what, request->rank,
                        request->rank_count);
    }
    if (request->card_bytes > EPX_CENSUS_CARD_BYTES_MAX) {
        return epx_fail(EPX_ERR_INVALID, "%s: card_bytes is %u, must be in [0, %u]", request->what, request->card_bytes,
                        EPX_CENSUS_CARD_BYTES_MAX);
    }
    if (!epx_census_name_is_valid(request->host_name)) {
        return epx_fail(EPX_ERR_INVALID, "%s: host_name must be printable ASCII without spaces, 1 to %u characters",
                        request->what, EPX_CENSUS_NAME_BYTES - 1);
    }
    return check_meeting(request);
}

/* ---- Entry points ---------------------------------------------------------------------------------------------- */

enum epx_status epx_census_host(uint8_t host_id[32], char name[EPX_CENSUS_NAME_BYTES])
{
    struct epx_host_id id;
    epx_topology_host_id(&id);
    memcpy(host_id, id.bytes, sizeof id.bytes);
    memset(name, 0, EPX_CENSUS_NAME_BYTES);
    if (epx_option_is_set(EPX_OPTION_HOST_ID)) {
        (void)strncpy(name, epx_option_text(EPX_OPTION_HOST_ID), EPX_CENSUS_NAME_BYTES - 1);
    } else if (gethostname(name, EPX_CENSUS_NAME_BYTES - 1) != 0 && errno != ENAMETOOLONG) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "gethostname");
    }
    size_t length = strnlen(name, EPX_CENSUS_NAME_BYTES - 1);
    memset(name + length, 0, EPX_CENSUS_NAME_BYTES - length);
    for (size_t i = 0; i < length; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            name[i] = '?';
        }
    }
    if (length == 0) {
        name[0] = '?';
    }
    return EPX_OK;
}

enum epx_status epx_census_take(const struct epx_census_request *request, struct epx_census *census)
{
    *census = (struct epx_census){.rank_count = 0};
    EPX_TRY(check_request(request));
    struct epx_census_taking taking = {.request = request, .deadline_ns = epx_deadline_after_ms(request->timeout_ms)};
    struct root root = {.listener = -1, .link_listener = -1};
    if (getrandom(&taking.instance, sizeof taking.instance, 0) != (ssize_t)sizeof taking.instance) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "%s: getrandom", request->what);
    }
    enum epx_status status = take(&taking, &root);
    if (root.listener >= 0) {
        epx_boot_close(root.listener);
    }
    if (root.link_listener >= 0) {
        epx_boot_close(root.link_listener);
    }
    if (status == EPX_OK) {
        *census = taking.draft.census;
        return EPX_OK;
    }
    epx_census_links_close(&taking.draft.census);
    epx_census_draft_fini(&taking.draft);
    return status;
}

void epx_census_fini(struct epx_census *census)
{
    epx_census_links_close(census);
    free(census->members);
    free(census->host_names);
    *census = (struct epx_census){.rank_count = 0};
}
