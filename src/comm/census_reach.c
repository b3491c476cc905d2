#include "comm/census_reach.h"

#include "base/clock.h"
#include "comm/bootstrap_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PAUSE_FIRST_NS 20000000u /* between two attempts at a port; doubled up to the last */
#define PAUSE_LAST_NS  200000000u
/* A port that has not proved itself by then is tried again; doubled up to the last, for a centre that is busy. */
#define SILENCE_FIRST_NS UINT64_C(1000000000)
#define SILENCE_LAST_NS  UINT64_C(8000000000)
#define POLL_MOST_MS     1000

enum phase {
    PHASE_PAUSE,
    PHASE_CONNECT,
    PHASE_CHALLENGE,
};

struct attempt { /* at one port */
    enum phase phase;
    int fd;
    int error; /* of the last attempt that ended, a positive errno: EACCES, EPROTO, EBADMSG as epx_census_read_error */
    bool polled;
    uint64_t until_ns; /* end of the phase */
    uint64_t pause_ns;
    uint64_t silence_ns;
    struct epx_census_nonces nonces;
    struct epx_census_reader reader;
};

struct attempts {
    struct epx_census_reach *reach;
    struct attempt *ports;
    struct pollfd *polls;
};

static void end_attempt(struct attempt *attempt, int error)
{
    if (attempt->fd >= 0) {
        epx_boot_close(attempt->fd);
        attempt->fd = -1;
    }
    epx_census_reader_fini(&attempt->reader);
    attempt->error = error;
    attempt->phase = PHASE_PAUSE;
    attempt->until_ns = epx_clock_ns() + attempt->pause_ns;
    attempt->pause_ns = attempt->pause_ns * 2 < PAUSE_LAST_NS ? attempt->pause_ns * 2 : PAUSE_LAST_NS;
}

static void begin_attempt(const struct epx_census_reach *reach, struct attempt *attempt, uint16_t port)
{
    union epx_address address = epx_census_address_at(reach->address, port);
    attempt->fd = epx_census_connect(&address, reach->own_ip);
    if (attempt->fd < 0) {
        end_attempt(attempt, -attempt->fd);
        return;
    }
    attempt->phase = PHASE_CONNECT;
    attempt->until_ns = epx_clock_ns() + attempt->silence_ns;
}

static void greet(struct attempt *attempt)
{
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_NONCE_BYTES];
    int result = epx_census_connect_result(attempt->fd);
    if (result == 0 && getrandom(attempt->nonces.visitor, EPX_CENSUS_NONCE_BYTES, 0) != EPX_CENSUS_NONCE_BYTES) {
        result = -EIO;
    }
    if (result == 0) {
        memcpy(frame + EPX_CENSUS_HEAD_BYTES, attempt->nonces.visitor, EPX_CENSUS_NONCE_BYTES);
        result = epx_census_send_frame(attempt->fd, EPX_CENSUS_GREET, frame, EPX_CENSUS_NONCE_BYTES);
    }
    if (result != 0) {
        end_attempt(attempt, -result);
        return;
    }
    attempt->phase = PHASE_CHALLENGE;
}

/* Whether the door has proved itself. */
static bool take_challenge(const struct epx_census_reach *reach, struct attempt *attempt)
{
    uint8_t proof[EPX_CENSUS_PROOF_BYTES];
    int result = epx_census_read(attempt->fd, EPX_CENSUS_BIT(EPX_CENSUS_CHALLENGE), &attempt->reader);
    if (result == -EAGAIN) {
        return false;
    }
    if (result != 1) {
        end_attempt(attempt, result == 0 ? ECONNRESET : -result);
        return false;
    }
    memcpy(attempt->nonces.door, attempt->reader.body, EPX_CENSUS_NONCE_BYTES);
    epx_census_prove(reach->key, reach->role, &attempt->nonces, NULL, 0, proof);
    if (!epx_census_proof_is(attempt->reader.body + EPX_CENSUS_NONCE_BYTES, proof)) {
        end_attempt(attempt, EACCES);
        return false;
    }
    return true;
}

static void wait_for_ports(struct attempts *attempts, uint64_t now)
{
    nfds_t count = 0;
    uint64_t next = attempts->reach->deadline_ns;
    for (uint32_t p = 0; p < attempts->reach->port_count; p++) {
        struct attempt *attempt = &attempts->ports[p];
        next = attempt->until_ns < next ? attempt->until_ns : next;
        attempt->polled = attempt->phase != PHASE_PAUSE;
        if (attempt->polled) {
            short events = attempt->phase == PHASE_CONNECT ? POLLOUT : POLLIN;
            attempts->polls[count++] = (struct pollfd){.fd = attempt->fd, .events = events};
        }
    }
    if (poll(attempts->polls, count, epx_census_poll_ms(now, next, POLL_MOST_MS)) < 0) {
        for (nfds_t p = 0; p < count; p++) {
            attempts->polls[p].revents = 0;
        }
    }
}

/* Whether this port's door has proved itself. */
static bool move(struct attempts *attempts, uint32_t p, short events)
{
    struct attempt *attempt = &attempts->ports[p];
    if (attempt->phase == PHASE_CONNECT && events != 0) {
        greet(attempt);
    } else if (attempt->phase == PHASE_CHALLENGE && events != 0 && take_challenge(attempts->reach, attempt)) {
        return true;
    }
    if (epx_clock_ns() >= attempt->until_ns) {
        if (attempt->phase == PHASE_PAUSE) {
            begin_attempt(attempts->reach, attempt, attempts->reach->ports[p]);
        } else {
            end_attempt(attempt, ETIMEDOUT);
            attempt->silence_ns = attempt->silence_ns * 2 < SILENCE_LAST_NS ? attempt->silence_ns * 2 : SILENCE_LAST_NS;
        }
    }
    return false;
}

static bool all_refuse(const struct attempts *attempts)
{
    for (uint32_t p = 0; p < attempts->reach->port_count; p++) {
        if (attempts->ports[p].error != ECONNREFUSED) {
            return false;
        }
    }
    return true;
}

static void take_over(struct epx_census_reach *reach, struct attempt *attempt, uint16_t port)
{
    reach->fd = attempt->fd;
    reach->port = port;
    reach->nonces = attempt->nonces;
    reach->reader = attempt->reader;
    attempt->fd = -1;
    attempt->reader = (struct epx_census_reader){.got = 0};
}

static enum epx_census_reached try_until_deadline(struct attempts *attempts)
{
    struct epx_census_reach *reach = attempts->reach;
    for (;;) {
        uint64_t now = epx_clock_ns();
        if (now >= reach->deadline_ns) {
            return EPX_CENSUS_UNREACHED_LATE;
        }
        wait_for_ports(attempts, now);
        nfds_t polled = 0;
        for (uint32_t p = 0; p < reach->port_count; p++) {
            short events = attempts->ports[p].polled ? attempts->polls[polled++].revents : 0;
            if (move(attempts, p, events)) {
                take_over(reach, &attempts->ports[p], reach->ports[p]);
                return EPX_CENSUS_REACHED;
            }
        }
        if (reach->refusal_is_final && all_refuse(attempts)) {
            return EPX_CENSUS_UNREACHED_GONE;
        }
    }
}

/* "10.1.2.3 ports 60000-60031: Connection refused; port 60004 does not have the key of this world" */
static void say_why_not(const struct attempts *attempts)
{
    struct epx_census_reach *reach = attempts->reach;
    char address[EPX_CENSUS_PEER_TEXT_BYTES];
    int plain = 0;
    uint32_t strange = reach->port_count;
    for (uint32_t p = 0; p < reach->port_count; p++) {
        int error = attempts->ports[p].error;
        bool is_strange = error == EACCES || error == EPROTO || error == EBADMSG;
        if (is_strange && (strange == reach->port_count || error == EACCES)) {
            strange = p;
        } else if (!is_strange && error != 0 && (plain == 0 || plain == ECONNREFUSED)) {
            plain = error;
        }
    }
    epx_census_address_print(reach->address, address);
    size_t room = sizeof reach->why_not;
    size_t used = (size_t)snprintf(reach->why_not, room, "%s port%s %u", address, reach->port_count == 1 ? "" : "s",
                                   reach->ports[0]);
    if (reach->port_count > 1) {
        uint32_t last = reach->ports[reach->port_count - 1];
        bool is_range = last == reach->ports[0] + reach->port_count - 1;
        used += (size_t)snprintf(reach->why_not + used, room - used, is_range ? "-%u" : " … %u", last);
    }
    if (plain != 0 || strange == reach->port_count) {
        const char *reason = plain == 0 || plain == ETIMEDOUT ? "no answer" : strerrordesc_np(plain);
        used += (size_t)snprintf(reach->why_not + used, room - used, ": %s", reason);
    }
    if (strange < reach->port_count) {
        (void)snprintf(reach->why_not + used, room - used, "%s port %u %s", plain != 0 ? ";" : ":",
                       reach->ports[strange], epx_census_read_error(-attempts->ports[strange].error));
    }
}

enum epx_census_reached epx_census_reach(struct epx_census_reach *reach)
{
    struct attempts attempts = {.reach = reach,
                                .ports = calloc(reach->port_count, sizeof *attempts.ports),
                                .polls = calloc(reach->port_count, sizeof *attempts.polls)};
    enum epx_census_reached reached = EPX_CENSUS_UNREACHED_NO_MEMORY;
    reach->fd = -1;
    if (attempts.ports != NULL && attempts.polls != NULL) {
        for (uint32_t p = 0; p < reach->port_count; p++) {
            attempts.ports[p].fd = -1;
            attempts.ports[p].pause_ns = PAUSE_FIRST_NS;
            attempts.ports[p].silence_ns = SILENCE_FIRST_NS;
        }
        reached = try_until_deadline(&attempts);
        say_why_not(&attempts);
        for (uint32_t p = 0; p < reach->port_count; p++) {
            end_attempt(&attempts.ports[p], 0);
        }
    }
    free(attempts.ports);
    free(attempts.polls);
    return reached;
}

int epx_census_reach_prove(const struct epx_census_reach *reach, enum epx_census_role own_role,
                           enum epx_census_kind kind, uint8_t *frame, uint32_t body_bytes)
{
    uint8_t *body = frame + EPX_CENSUS_HEAD_BYTES;
    uint32_t proven_bytes = body_bytes - EPX_CENSUS_PROOF_BYTES;
    epx_census_prove(reach->key, own_role, &reach->nonces, body, proven_bytes, body + proven_bytes);
    return epx_census_send_frame(reach->fd, kind, frame, body_bytes);
}
