/*
 * Connections between the hosts of a trial, by way of a process of ours: connect() and listen() of this program stand
 * before those of the C library, for UCX too, and lead every connection of a rank through the relay, which knows which
 * hosts its ends are on. Loopback only.
 */
#include "faults/campaign.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAIR_MAX     512u
#define BUFFER_BYTES 65536u
#define SLOW_NS      UINT64_C(20000000)

/* ---- In a rank -------------------------------------------------------------------------------------------------- */

static struct campaign_board *used_board;
static uint32_t used_host;

void campaign_relay_use(struct campaign_board *board, uint32_t host)
{
    used_host = host;
    used_board = board;
}

static uint32_t relay_port(struct campaign_relay *relay, uint32_t target)
{
    uint64_t key = (uint64_t)(used_host + 1) << 32 | target;
    for (uint32_t i = 0; i < CAMPAIGN_RELAY_MAX; i++) {
        uint64_t found = 0;
        if (atomic_compare_exchange_strong(&relay->entries[i].key, &found, key) || found == key) {
            return relay->entries[i].port;
        }
    }
    return target;
}

__attribute__((visibility("default"))) int connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
    struct sockaddr_in other;
    if (used_board != NULL && address->sa_family == AF_INET && bytes >= sizeof other) {
        memcpy(&other, address, sizeof other);
        int type = 0;
        socklen_t type_bytes = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) == 0 && type == SOCK_STREAM) {
            other.sin_port = htons((uint16_t)relay_port(&used_board->relay, ntohs(other.sin_port)));
        }
        return (int)syscall(SYS_connect, fd, &other, sizeof other);
    }
    return (int)syscall(SYS_connect, fd, address, bytes);
}

__attribute__((visibility("default"))) int listen(int fd, int backlog)
{
    struct sockaddr_in own = {0};
    socklen_t bytes = sizeof own;
    if (used_board != NULL && getsockname(fd, (struct sockaddr *)&own, &bytes) == 0 && own.sin_family == AF_INET) {
        atomic_store(&used_board->relay.port_hosts[ntohs(own.sin_port)], used_host + 1);
    }
    return (int)syscall(SYS_listen, fd, backlog);
}

/* ---- The relay -------------------------------------------------------------------------------------------------- */

struct flow { /* one direction */
    uint8_t *bytes;
    size_t used;
    uint64_t due_ns;
    bool ended; /* its source sends no more */
};

struct pair {
    int fds[2];
    bool crosses;         /* into the host that is cut off, or out of it */
    struct flow flows[2]; /* out of fds[i] */
};

struct relay {
    struct campaign_board *board;
    int listeners[CAMPAIGN_RELAY_MAX];
    struct pair pairs[PAIR_MAX];
    uint32_t pair_count;
    uint32_t cuts; /* done */
};

static enum campaign_link mode_of(const struct relay *relay)
{
    return (enum campaign_link)atomic_load(&relay->board->relay.mode);
}

static int loopback_listener(uint32_t *port)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof own;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, bytes) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &bytes) != 0) {
        perror("campaign: relay");
        _exit(1);
    }
    *port = ntohs(own.sin_port);
    return fd;
}

static void pair_end(struct relay *relay, uint32_t i)
{
    struct pair *pair = &relay->pairs[i];
    for (uint32_t side = 0; side < 2; side++) {
        (void)close(pair->fds[side]);
        free(pair->flows[side].bytes);
    }
    relay->pairs[i] = relay->pairs[--relay->pair_count];
}

static void pair_begin(struct relay *relay, uint32_t entry)
{
    const struct campaign_trial *trial = &relay->board->trial;
    uint64_t key = atomic_load(&relay->board->relay.entries[entry].key);
    struct sockaddr_in target = {
        .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons((uint16_t)(key & 0xFFFFu))};
    uint32_t from = (uint32_t)(key >> 32) - 1;
    uint32_t to = atomic_load(&relay->board->relay.port_hosts[key & 0xFFFFu]) - 1;
    int near = accept4(relay->listeners[entry], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool crosses = from != to && (from == trial->link_host || to == trial->link_host);
    bool refused = crosses && mode_of(relay) == CAMPAIGN_LINK_CUT;
    if (near < 0 || far < 0 || refused || relay->pair_count == PAIR_MAX ||
        syscall(SYS_connect, far, &target, sizeof target) != 0) {
        (void)close(near);
        (void)close(far);
        return;
    }
    int one = 1;
    (void)setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct pair *pair = &relay->pairs[relay->pair_count++];
    *pair = (struct pair){.fds = {near, far}, .crosses = crosses};
    pair->flows[0].bytes = malloc(BUFFER_BYTES);
    pair->flows[1].bytes = malloc(BUFFER_BYTES);
}

/* False: the connection is over. */
static bool flow_move(struct pair *pair, uint32_t side, bool slow, uint64_t now_ns)
{
    struct flow *flow = &pair->flows[side];
    int out = pair->fds[1 - side];
    if (!flow->ended && flow->used < BUFFER_BYTES) {
        ssize_t count = recv(pair->fds[side], flow->bytes + flow->used, BUFFER_BYTES - flow->used, MSG_DONTWAIT);
        if (count == 0) {
            flow->ended = true;
        } else if (count < 0 && errno != EAGAIN && errno != EINTR) {
            return false;
        } else if (count > 0) {
            flow->due_ns = flow->used == 0 ? now_ns + (slow ? SLOW_NS : 0) : flow->due_ns;
            flow->used += (size_t)count;
        }
    }
    if (flow->used > 0 && now_ns >= flow->due_ns) {
        ssize_t count = send(out, flow->bytes, flow->used, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno != EAGAIN && errno != EINTR) {
            return false;
        }
        if (count > 0) {
            flow->used -= (size_t)count;
            memmove(flow->bytes, flow->bytes + count, flow->used);
        }
    }
    if (flow->ended && flow->used == 0) {
        (void)shutdown(out, SHUT_WR);
    }
    return true;
}

static bool pair_move(struct pair *pair, enum campaign_link mode, uint64_t now_ns)
{
    bool still = pair->crosses && (mode == CAMPAIGN_LINK_SILENCE || mode == CAMPAIGN_LINK_PAUSE);
    bool slow = pair->crosses && mode == CAMPAIGN_LINK_SLOW;
    if (still) {
        return true;
    }
    return flow_move(pair, 0, slow, now_ns) && flow_move(pair, 1, slow, now_ns) &&
           !(pair->flows[0].ended && pair->flows[1].ended && pair->flows[0].used + pair->flows[1].used == 0);
}

/* Half of the cuts are seen as an end, half as an error. */
static void cut(struct relay *relay)
{
    struct linger at_once = {.l_onoff = 1};
    for (uint32_t i = relay->pair_count; i-- > 0;) {
        struct pair *pair = &relay->pairs[i];
        if (pair->crosses) {
            for (uint32_t side = 0; side < 2 && relay->board->trial.seed % 2 == 0; side++) {
                (void)setsockopt(pair->fds[side], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            }
            pair_end(relay, i);
        }
    }
}

static void relay_wait(const struct relay *relay)
{
    struct pollfd polls[CAMPAIGN_RELAY_MAX + 2 * PAIR_MAX];
    nfds_t count = 0;
    bool waits_for_all = mode_of(relay) == CAMPAIGN_LINK_WHOLE;
    for (uint32_t i = 0; i < CAMPAIGN_RELAY_MAX; i++) {
        polls[count++] = (struct pollfd){.fd = relay->listeners[i], .events = POLLIN};
    }
    for (uint32_t i = 0; i < relay->pair_count; i++) {
        const struct pair *pair = &relay->pairs[i];
        for (uint32_t side = 0; side < 2 && (waits_for_all || !pair->crosses); side++) {
            short in = pair->flows[side].ended || pair->flows[side].used == BUFFER_BYTES ? 0 : POLLIN;
            short out = pair->flows[1 - side].used > 0 ? POLLOUT : 0;
            polls[count++] = (struct pollfd){.fd = in + out != 0 ? pair->fds[side] : -1, .events = (short)(in | out)};
        }
    }
    (void)poll(polls, count, waits_for_all ? 5 : 1);
}

_Noreturn void campaign_relay_main(struct campaign_board *board)
{
    static struct relay relay;
    relay.board = board;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (uint32_t i = 0; i < CAMPAIGN_RELAY_MAX; i++) {
        relay.listeners[i] = loopback_listener(&board->relay.entries[i].port);
    }
    atomic_store(&board->relay.ready, 1);
    while (getppid() == board->parent) {
        relay_wait(&relay);
        if (relay.cuts != atomic_load(&board->relay.cuts)) {
            relay.cuts = atomic_load(&board->relay.cuts);
            cut(&relay);
        }
        for (uint32_t i = 0; i < CAMPAIGN_RELAY_MAX; i++) {
            struct pollfd poll_fd = {.fd = relay.listeners[i], .events = POLLIN};
            if (atomic_load(&board->relay.entries[i].key) != 0 && poll(&poll_fd, 1, 0) == 1) {
                pair_begin(&relay, i);
            }
        }
        uint64_t now_ns = campaign_now_ns();
        for (uint32_t i = relay.pair_count; i-- > 0;) {
            if (!pair_move(&relay.pairs[i], mode_of(&relay), now_ns)) {
                pair_end(&relay, i);
            }
        }
    }
    _exit(0);
}
