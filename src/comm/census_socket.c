#include "comm/census_socket.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_KIND (SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
#define BACKLOG     4096

/* A host that vanishes without a word is noticed by the kernel after about idle + interval * count seconds. */
#define KEEPALIVE_IDLE_S     5
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT      4

int epx_census_poll_ms(uint64_t now_ns, uint64_t deadline_ns, int most)
{
    if (now_ns >= deadline_ns) {
        return 0;
    }
    uint64_t span_ms = (deadline_ns - now_ns) / 1000000u + 1;
    return span_ms < (uint64_t)most ? (int)span_ms : most;
}

/* ---- Addresses ------------------------------------------------------------------------------------------------- */

static socklen_t address_bytes(const union epx_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

static void set_port(union epx_address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6) {
        address->v6.sin6_port = htons(port);
    } else {
        address->v4.sin_port = htons(port);
    }
}

union epx_address epx_census_address_at(const union epx_address *address, uint16_t port)
{
    union epx_address other = *address;
    set_port(&other, port);
    return other;
}

void epx_census_address_print(const union epx_address *address, char text[EPX_CENSUS_PEER_TEXT_BYTES])
{
    char host[EPX_CENSUS_PEER_TEXT_BYTES - 2];
    bool is_v6 = address->any.sa_family == AF_INET6;
    if (getnameinfo(&address->any, address_bytes(address), host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0) {
        (void)snprintf(host, sizeof host, "?");
    }
    (void)snprintf(text, EPX_CENSUS_PEER_TEXT_BYTES, is_v6 ? "[%s]" : "%s", host);
}

void epx_census_peer_print(int fd, char text[EPX_CENSUS_PEER_TEXT_BYTES])
{
    union epx_address address;
    socklen_t bytes = sizeof address;
    memset(&address, 0, sizeof address);
    if (getpeername(fd, &address.any, &bytes) != 0) {
        (void)snprintf(text, EPX_CENSUS_PEER_TEXT_BYTES, "?");
        return;
    }
    epx_census_address_print(&address, text);
    uint16_t port = ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
    size_t used = strlen(text);
    (void)snprintf(text + used, EPX_CENSUS_PEER_TEXT_BYTES - used, ":%u", port);
}

/* ---- Making connections ---------------------------------------------------------------------------------------- */

static void set_option(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

static void tune(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
}

static int close_with_errno(int fd)
{
    int error = errno;
    (void)close(fd);
    return -error;
}

int epx_census_listen(const union epx_address *address, uint16_t *port)
{
    union epx_address own = epx_census_address_at(address, *port);
    socklen_t bytes = sizeof own;
    int fd = socket(own.any.sa_family, SOCKET_KIND, IPPROTO_TCP);
    if (fd < 0) {
        return -errno;
    }
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, &own.any, address_bytes(&own)) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, &own.any, &bytes) != 0) {
        return close_with_errno(fd);
    }
    *port = ntohs(own.any.sa_family == AF_INET6 ? own.v6.sin6_port : own.v4.sin_port);
    return fd;
}

int epx_census_accept(int listener, const struct epx_whitelist *list)
{
    int fd;
    /* A connection that was given up while it waited is none. */
    do {
        fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0) {
        return -errno;
    }
    if (!epx_whitelist_admits(list, fd)) {
        char peer[EPX_CENSUS_PEER_TEXT_BYTES];
        epx_census_peer_print(fd, peer);
        epx_log(EPX_LOG_WARN, "connection from %s refused: HCCL_WHITELIST_FILE does not name it", peer);
        (void)close(fd);
        return -EPERM;
    }
    tune(fd);
    return fd;
}

/* An address that this host does not have (it is behind a translation) leaves the source to routing. */
static int bind_own(int fd, sa_family_t family, const char *own_ip)
{
    union epx_address own;
    memset(&own, 0, sizeof own);
    own.any.sa_family = family;
    void *place = family == AF_INET6 ? (void *)&own.v6.sin6_addr : (void *)&own.v4.sin_addr;
    if (own_ip[0] == '\0' || inet_pton(family, own_ip, place) != 1) {
        return 0;
    }
    set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return bind(fd, &own.any, address_bytes(&own)) == 0 || errno == EADDRNOTAVAIL ? 0 : -1;
}

int epx_census_connect(const union epx_address *address, const char *own_ip)
{
    int fd = socket(address->any.sa_family, SOCKET_KIND, IPPROTO_TCP);
    if (fd < 0) {
        return -errno;
    }
    tune(fd);
    if (bind_own(fd, address->any.sa_family, own_ip) != 0 ||
        (connect(fd, &address->any, address_bytes(address)) != 0 && errno != EINPROGRESS)) {
        return close_with_errno(fd);
    }
    return fd;
}

/* Two ends that look for each other on this host can meet in one socket: the kernel connects a port to itself when the
 * source that it picks is the port that is asked for. */
static bool is_connected_to_itself(int fd)
{
    union epx_address own;
    union epx_address other;
    socklen_t own_bytes = sizeof own;
    socklen_t other_bytes = sizeof other;
    return getsockname(fd, &own.any, &own_bytes) == 0 && getpeername(fd, &other.any, &other_bytes) == 0 &&
           own_bytes == other_bytes && memcmp(&own, &other, own_bytes) == 0;
}

int epx_census_connect_result(int fd)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) {
        return -errno;
    }
    return error == 0 && is_connected_to_itself(fd) ? -ECONNREFUSED : -error;
}

bool epx_census_has_hung_up(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* ---- Frames ---------------------------------------------------------------------------------------------------- */

ssize_t epx_census_send(int fd, const void *data, size_t bytes)
{
    ssize_t sent;
    do {
        sent = send(fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

int epx_census_send_frame(int fd, enum epx_census_kind kind, uint8_t *frame, uint32_t body_bytes)
{
    epx_census_head_encode(frame, kind, body_bytes);
    ssize_t sent = epx_census_send(fd, frame, EPX_CENSUS_HEAD_BYTES + body_bytes);
    if (sent < 0) {
        return (int)sent;
    }
    return (size_t)sent == EPX_CENSUS_HEAD_BYTES + body_bytes ? 0 : -EAGAIN;
}

static int receive(int fd, void *data, size_t bytes)
{
    ssize_t got;
    do {
        got = recv(fd, data, bytes, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == ECONNRESET || errno == EPIPE || errno == ETIMEDOUT ? 0 : -errno;
    }
    return (int)got;
}

/* Makes room for the body when the head is whole: zero or a negative errno. */
static int take_head(struct epx_census_reader *reader, uint32_t kinds)
{
    enum epx_census_head_check check = epx_census_head_decode(reader->head_bytes, &reader->head);
    if (check != EPX_CENSUS_HEAD_VALID || (kinds & EPX_CENSUS_BIT(reader->head.kind)) == 0) {
        return check == EPX_CENSUS_HEAD_VERSION ? -EPROTO : -EBADMSG;
    }
    if (reader->capacity < reader->head.body_bytes) {
        free(reader->body);
        reader->body = malloc(reader->head.body_bytes);
        reader->capacity = reader->body != NULL ? reader->head.body_bytes : 0;
    }
    return reader->capacity < reader->head.body_bytes ? -ENOMEM : 0;
}

int epx_census_read(int fd, uint32_t kinds, struct epx_census_reader *reader)
{
    while (reader->got < EPX_CENSUS_HEAD_BYTES) {
        int got = receive(fd, reader->head_bytes + reader->got, EPX_CENSUS_HEAD_BYTES - reader->got);
        if (got <= 0) {
            return got;
        }
        reader->got += (uint32_t)got;
        int error = reader->got == EPX_CENSUS_HEAD_BYTES ? take_head(reader, kinds) : 0;
        if (error != 0) {
            return error;
        }
    }
    uint32_t frame_bytes = EPX_CENSUS_HEAD_BYTES + reader->head.body_bytes;
    while (reader->got < frame_bytes) {
        int got = receive(fd, reader->body + (reader->got - EPX_CENSUS_HEAD_BYTES), frame_bytes - reader->got);
        if (got <= 0) {
            return got;
        }
        reader->got += (uint32_t)got;
    }
    reader->got = 0;
    return 1;
}

void epx_census_reader_fini(struct epx_census_reader *reader)
{
    free(reader->body);
    *reader = (struct epx_census_reader){.got = 0};
}
