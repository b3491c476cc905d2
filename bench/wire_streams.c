#include "wire_streams.h"

#include "crossing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of the rank at place 0 of each host; below those that sockets get without asking. */
#define PORT_FIRST 20000

/* At most so much in one call, so that both directions go on. */
#define PIECE_BYTES ((int64_t)256 << 10)

/* ---- Who carries what ---------------------------------------------------------------------------------------- */

/* The first rank of a host; of the host after the last, all ranks. */
static int64_t first_rank(const struct bench_case *bench, int64_t host)
{
    int64_t rank = 0;
    while (rank < bench->rank_count && bench_case_host(bench, rank) < host) {
        rank++;
    }
    return rank;
}

static int64_t rank_count(const struct bench_case *bench, int64_t host)
{
    return first_rank(bench, host + 1) - first_rank(bench, host);
}

/* Bytes from host `from` to host `to` that the stream at `place` carries. */
static int64_t share(const struct bench_case *bench, const int64_t *rows, int64_t from, int64_t to, int64_t place)
{
    int64_t streams = rank_count(bench, from) < rank_count(bench, to) ? rank_count(bench, from) : rank_count(bench, to);
    int64_t first = first_rank(bench, from);
    int64_t sum = 0;
    for (int64_t i = place; i < rank_count(bench, from); i += streams) {
        sum += rows[(first + i) * bench->host_count + to];
    }
    return sum;
}

static bool set_sizes(struct wire_rank *rank, int64_t home, int64_t place)
{
    const struct bench_case *bench = rank->member->world->bench;
    for (int combine = 0; combine < 2; combine++) {
        int64_t *rows = calloc((size_t)(bench->rank_count * bench->host_count), sizeof *rows);
        if (rows == NULL) {
            return false;
        }
        enum bench_crossing crossing = combine != 0 ? BENCH_CROSSING_COMBINE : BENCH_CROSSING_DISPATCH;
        bench_crossing_rows(bench, crossing, rows);
        int64_t row_bytes = bench_crossing_row_bytes(bench, crossing);
        for (int64_t i = 0; i < rank->stream_count; i++) {
            struct wire_stream *stream = &rank->streams[i];
            stream->out_bytes[combine] = share(bench, rows, home, stream->host, place) * row_bytes;
            stream->in_bytes[combine] = share(bench, rows, stream->host, home, place) * row_bytes;
        }
        free(rows);
    }
    for (int64_t i = 0; i < rank->stream_count; i++) {
        struct wire_stream *stream = &rank->streams[i];
        stream->out_bytes[WIRE_STREAM] = place == 0 && home == 0 && stream->host == 1 ? BENCH_STREAM_BYTES : 0;
        stream->in_bytes[WIRE_STREAM] = place == 0 && home == 1 && stream->host == 0 ? BENCH_STREAM_BYTES : 0;
    }
    return true;
}

static int64_t longest(const int64_t bytes[WIRE_OPERATION_COUNT])
{
    int64_t most = 1;
    for (int i = 0; i < WIRE_OPERATION_COUNT; i++) {
        most = bytes[i] > most ? bytes[i] : most;
    }
    return most;
}

/* Touched, so that no page is first met in an operation. */
static bool allocate(struct wire_rank *rank)
{
    int64_t out = 1;
    bool made = true;
    for (int64_t i = 0; i < rank->stream_count; i++) {
        struct wire_stream *stream = &rank->streams[i];
        int64_t bytes = longest(stream->in_bytes);
        out = longest(stream->out_bytes) > out ? longest(stream->out_bytes) : out;
        stream->in = malloc((size_t)bytes);
        made = made && stream->in != NULL;
        if (stream->in != NULL) {
            memset(stream->in, 0, (size_t)bytes);
        }
    }
    rank->out = malloc((size_t)out);
    if (rank->out != NULL) {
        memset(rank->out, rank->mark, (size_t)out);
    }
    return made && rank->out != NULL;
}

/* ---- Connections --------------------------------------------------------------------------------------------- */

static struct sockaddr_in address_of(int64_t host, int64_t place)
{
    char text[BENCH_ADDRESS_BYTES];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(PORT_FIRST + place))};
    bench_hosts_address(host, text);
    (void)inet_pton(AF_INET, text, &address.sin_addr);
    return address;
}

static int listen_at(int64_t host, int64_t place)
{
    const struct sockaddr_in address = address_of(host, place);
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener >= 0 &&
        (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
         bind(listener, (const void *)&address, sizeof address) != 0 || listen(listener, BENCH_HOST_MAX) != 0)) {
        (void)close(listener);
        listener = -1;
    }
    return listener;
}

/* To a lower host; it is told who comes. */
static int connect_to(int64_t host, int64_t place, int64_t home)
{
    const struct sockaddr_in address = address_of(host, place);
    unsigned char name = (unsigned char)home;
    int end = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (end >= 0 && (connect(end, (const void *)&address, sizeof address) != 0 || send(end, &name, 1, 0) != 1)) {
        (void)close(end);
        end = -1;
    }
    return end;
}

/* From a higher host. */
static bool accept_one(struct wire_rank *rank, int listener)
{
    unsigned char name = 0;
    int end = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    bool named = end >= 0 && recv(end, &name, 1, MSG_WAITALL) == 1;
    for (int64_t i = 0; named && i < rank->stream_count; i++) {
        if (rank->streams[i].host == name && rank->streams[i].socket < 0) {
            rank->streams[i].socket = end;
            return true;
        }
    }
    if (end >= 0) {
        (void)close(end);
    }
    return false;
}

static bool connect_all(struct wire_rank *rank, int64_t home, int64_t place, int listener)
{
    bool connected = listener >= 0;
    bench_meet(rank->member); /* all listen, or nobody goes on */
    for (int64_t i = 0; connected && i < rank->stream_count; i++) {
        if (rank->streams[i].host < home) {
            rank->streams[i].socket = connect_to(rank->streams[i].host, place, home);
            connected = rank->streams[i].socket >= 0;
        }
    }
    for (int64_t i = 0; connected && i < rank->stream_count; i++) {
        if (rank->streams[i].host > home) {
            connected = accept_one(rank, listener);
        }
    }
    for (int64_t i = 0; connected && i < rank->stream_count; i++) {
        int one = 1;
        connected = setsockopt(rank->streams[i].socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0;
    }
    return connected;
}

bool wire_rank_open(struct wire_rank *rank, struct bench_member *member)
{
    const struct bench_case *bench = member->world->bench;
    int64_t home = bench_case_host(bench, member->rank);
    int64_t place = member->rank - first_rank(bench, home);
    *rank = (struct wire_rank){.member = member, .mark = (unsigned char)(home + 1)};
    for (int64_t host = 0; host < bench->host_count; host++) {
        if (host != home && place < rank_count(bench, host)) {
            rank->streams[rank->stream_count++] = (struct wire_stream){.host = host, .socket = -1};
        }
    }
    int listener = listen_at(home, place);
    bool opened = connect_all(rank, home, place, listener);
    if (listener >= 0) {
        (void)close(listener);
    }
    if (!opened) {
        (void)fprintf(stderr, "epx-bench-wire: rank %lld cannot connect: %s\n", (long long)member->rank,
                      strerror(errno));
        return false;
    }
    if (!set_sizes(rank, home, place) || !allocate(rank)) {
        (void)fprintf(stderr, "epx-bench-wire: no memory for rank %lld\n", (long long)member->rank);
        return false;
    }
    return true;
}

void wire_rank_close(struct wire_rank *rank)
{
    for (int64_t i = 0; i < rank->stream_count; i++) {
        (void)close(rank->streams[i].socket);
        free(rank->streams[i].in);
    }
    free(rank->out);
}

/* ---- Operations ---------------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What `result` of a call says: bytes moved, 0 if none can be, -1 that the stream is broken. */
static int64_t moved_bytes(ssize_t result)
{
    if (result > 0) {
        return result;
    }
    return result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? 0 : -1;
}

/* Moves what can be moved now. Returns bytes, -1: broken. */
static int64_t move(struct wire_rank *rank, struct wire_stream *stream, enum wire_operation operation)
{
    int64_t sent = 0;
    int64_t got = 0;
    if (stream->out_left > 0) {
        int64_t at = stream->out_bytes[operation] - stream->out_left;
        sent = moved_bytes(send(stream->socket, rank->out + at, (size_t)least(stream->out_left, PIECE_BYTES),
                                MSG_DONTWAIT | MSG_NOSIGNAL));
    }
    if (sent >= 0 && stream->in_left > 0) {
        int64_t at = stream->in_bytes[operation] - stream->in_left;
        got = moved_bytes(
            recv(stream->socket, stream->in + at, (size_t)least(stream->in_left, PIECE_BYTES), MSG_DONTWAIT));
    }
    if (sent < 0 || got < 0) {
        return -1;
    }
    stream->out_left -= sent;
    stream->in_left -= got;
    return sent + got;
}

static void wait_for_any(const struct wire_rank *rank)
{
    struct pollfd watched[BENCH_HOST_MAX];
    nfds_t count = 0;
    for (int64_t i = 0; i < rank->stream_count; i++) {
        const struct wire_stream *stream = &rank->streams[i];
        short events = (short)((stream->out_left > 0 ? POLLOUT : 0) | (stream->in_left > 0 ? POLLIN : 0));
        if (events != 0) {
            watched[count++] = (struct pollfd){.fd = stream->socket, .events = events};
        }
    }
    (void)poll(watched, count, -1);
}

bool wire_rank_run(struct wire_rank *rank, enum wire_operation operation)
{
    int64_t left = 0;
    for (int64_t i = 0; i < rank->stream_count; i++) {
        struct wire_stream *stream = &rank->streams[i];
        stream->out_left = stream->out_bytes[operation];
        stream->in_left = stream->in_bytes[operation];
        left += stream->out_left + stream->in_left;
    }
    while (left > 0) {
        int64_t before = left;
        for (int64_t i = 0; i < rank->stream_count; i++) {
            int64_t moved = move(rank, &rank->streams[i], operation);
            if (moved < 0) {
                (void)fprintf(stderr, "epx-bench-wire: rank %lld: a stream broke: %s\n", (long long)rank->member->rank,
                              strerror(errno));
                return false;
            }
            left -= moved;
        }
        if (left == before && !rank->member->world->spin) {
            wait_for_any(rank);
        }
    }
    return true;
}

int64_t wire_rank_wrong(const struct wire_rank *rank, enum wire_operation operation)
{
    int64_t wrong = 0;
    for (int64_t i = 0; i < rank->stream_count; i++) {
        const struct wire_stream *stream = &rank->streams[i];
        for (int64_t at = 0; at < stream->in_bytes[operation]; at++) {
            wrong += stream->in[at] != (unsigned char)(stream->host + 1);
        }
    }
    return wrong;
}
