/* Wires of one process over its loopback interface. */
#include "net/wire_ends.h"

#include <pthread.h>
#include <unistd.h>

#define MESSAGE_MAX EPX_WIRE_MESSAGE_BYTES_MAX

static void open_pair(struct end *a, struct end *b)
{
    end_open(a);
    end_open(b);
    end_connect(a, 1, b, 2);
    end_connect(b, 2, a, 1);
}

static void close_pair(struct end *a, struct end *b)
{
    epx_wire_close(a->wire);
    epx_wire_close(b->wire);
    assert_int_equal(a->wrong + b->wrong, 0);
}

static void drive(struct end *a, struct end *b)
{
    (void)epx_wire_progress(a->wire);
    (void)epx_wire_progress(b->wire);
}

static void drive_until_received(struct end *a, struct end *b, const uint64_t *received, uint64_t count)
{
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while (*received < count && epx_clock_ns() < until) {
        drive(a, b);
    }
    assert_true(*received >= count);
}

static void drive_until_done(struct end *a, struct end *b, const struct epx_wire_send *send)
{
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while (!send->done && epx_clock_ns() < until) {
        drive(a, b);
    }
    assert_true(send->done);
}

static void test_sizes(void **state)
{
    static const uint64_t around[] = {0, 1, 63, 64, 4095, 4096, 4097, 8192, 65535, 65536, 262144, 524289, MESSAGE_MAX};
    struct end a;
    struct end b;
    uint8_t *data = test_malloc(MESSAGE_MAX);
    (void)state;
    open_pair(&a, &b);
    for (size_t i = 0; i < 3 * sizeof(around) / sizeof(around[0]); i++) {
        uint64_t bytes = around[i / 3] - (around[i / 3] > 0 && i % 3 == 1 ? 1 : 0);
        struct epx_wire_send send;
        struct iovec piece = {.iov_base = data, .iov_len = bytes};
        end_fill(data, a.sent[1], bytes);
        assert_int_equal(end_send(&a, 1, &send, &piece, bytes == 0 && i % 3 == 2 ? 0 : 1), EPX_OK);
        drive_until_done(&a, &b, &send);
        drive_until_received(&a, &b, &b.received[2], i + 1);
    }
    close_pair(&a, &b);
    test_free(data);
}

/* Cuts `bytes` in `count` pieces of unlike lengths, some of them empty. */
static void cut(uint8_t *data, uint64_t bytes, struct iovec *pieces, uint32_t count)
{
    uint64_t from = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t to = i + 1 == count ? bytes : bytes * (i + 1 - (i % 5 == 1)) / count;
        to = to < from ? from : to;
        pieces[i] = (struct iovec){.iov_base = data + from, .iov_len = to - from};
        from = to;
    }
}

static void test_pieces(void **state)
{
    static const uint32_t counts[] = {1, 2, 3, 15, 16, 17, 73, 256, 511, EPX_WIRE_PIECE_MAX};
    static const uint64_t sizes[] = {0, 700, 20000, 258048, MESSAGE_MAX};
    struct end a;
    struct end b;
    struct iovec pieces[EPX_WIRE_PIECE_MAX + 1];
    uint8_t *data = test_malloc(MESSAGE_MAX);
    struct epx_wire_send send;
    (void)state;
    open_pair(&a, &b);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
            end_fill(data, a.sent[1], sizes[k]);
            cut(data, sizes[k], pieces, counts[i]);
            assert_int_equal(end_send(&a, 1, &send, pieces, counts[i]), EPX_OK);
            drive_until_done(&a, &b, &send);
            drive_until_received(&a, &b, &b.received[2], a.sent[1]);
        }
    }
    cut(data, 1000, pieces, EPX_WIRE_PIECE_MAX + 1);
    assert_int_equal(end_send(&a, 1, &send, pieces, EPX_WIRE_PIECE_MAX + 1), EPX_ERR_INVALID);
    assert_true(send.done);
    pieces[0] = (struct iovec){.iov_base = data, .iov_len = MESSAGE_MAX};
    pieces[1] = (struct iovec){.iov_base = data, .iov_len = 1};
    assert_int_equal(end_send(&a, 1, &send, pieces, 2), EPX_ERR_INVALID);
    pieces[1].iov_len = SIZE_MAX;
    assert_int_equal(end_send(&a, 1, &send, pieces, 2), EPX_ERR_INVALID);
    assert_int_equal(end_send(&a, 3, &send, pieces, 1), EPX_ERR_STATE);
    close_pair(&a, &b);
    test_free(data);
}

#define MANY 300u

/* Small ones and large ones without a wait between them, and a receiver that wants none of them yet. */
static void test_order_of_what_is_kept(void **state)
{
    static struct epx_wire_send sends[MANY];
    static struct iovec pieces[MANY];
    struct end a;
    struct end b;
    uint8_t *data = test_malloc((size_t)MANY * 40000);
    (void)state;
    open_pair(&a, &b);
    b.refuses = true;
    for (uint32_t i = 0; i < MANY; i++) {
        uint64_t bytes = i % 3 == 0 ? 40000 : i % 3 == 1 ? 0 : 10 + i;
        pieces[i] = (struct iovec){.iov_base = data + (size_t)i * 40000, .iov_len = bytes};
        end_fill(pieces[i].iov_base, i, bytes);
        assert_int_equal(end_send(&a, 1, &sends[i], &pieces[i], 1), EPX_OK);
        drive(&a, &b);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        drive_until_done(&a, &b, &sends[i]);
    }
    drive_until_received(&a, &b, &b.refusals, 20);
    assert_int_equal(b.received[2], 0);
    b.refuses = false;
    drive_until_received(&a, &b, &b.received[2], MANY);
    close_pair(&a, &b);
    test_free(data);
}

/* What comes before its receiver has connected waits for that. */
static void test_early(void **state)
{
    struct end a;
    struct end b;
    uint8_t data[500];
    struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    struct epx_wire_send send;
    (void)state;
    end_open(&a);
    end_open(&b);
    end_connect(&a, 1, &b, 2);
    end_fill(data, 0, sizeof(data));
    assert_int_equal(end_send(&a, 1, &send, &piece, 1), EPX_OK);
    drive_until_done(&a, &b, &send);
    for (int i = 0; i < 50; i++) {
        drive(&a, &b);
        (void)usleep(1000);
    }
    assert_int_equal(b.received[2], 0);
    end_connect(&b, 2, &a, 1);
    drive_until_received(&a, &b, &b.received[2], 1);
    close_pair(&a, &b);
}

static void test_addresses(void **state)
{
    struct end a;
    struct end b;
    uint8_t bad[EPX_WIRE_ADDRESS_BYTES_MAX + 1] = {0};
    uint32_t bytes = 0;
    (void)state;
    end_open(&a);
    end_open(&b);
    const void *address = epx_wire_address(b.wire, &bytes);
    assert_in_range(bytes, 1, EPX_WIRE_ADDRESS_BYTES_MAX);
    memcpy(bad, address, bytes);
    for (uint32_t i = 0; i < bytes; i++) {
        bad[i] ^= 0x10;
        assert_int_equal(epx_wire_connect(a.wire, 1, bad, bytes, 0), EPX_ERR_INVALID);
        bad[i] ^= 0x10;
        assert_int_equal(epx_wire_connect(a.wire, 1, bad, i, 0), EPX_ERR_INVALID);
    }
    assert_int_equal(epx_wire_connect(a.wire, 1, bad, sizeof(bad), 0), EPX_ERR_INVALID);
    assert_int_equal(epx_wire_connect(a.wire, END_PEERS, address, bytes, 0), EPX_ERR_INVALID);
    end_connect(&a, 1, &b, 2);
    assert_int_equal(epx_wire_connect(a.wire, 1, address, bytes, 0), EPX_ERR_STATE);
    close_pair(&a, &b);

    struct epx_wire *wire = NULL;
    const struct epx_wire_handler handler = {.receive = end_receive, .lost = end_lost};
    assert_int_equal(epx_wire_open("198.51.100.7", &handler, 1, &wire), EPX_ERR_NOT_FOUND);
    assert_null(wire);
    assert_int_equal(epx_wire_open("nowhere", &handler, 1, &wire), EPX_ERR_NOT_FOUND);
    assert_non_null(strstr(epx_wire_description(), "UCX"));
}

/* A peer that says it is another, or one that there is not. */
static void test_wrong_sender(void **state)
{
    struct end a;
    struct end b;
    struct end c;
    struct epx_wire_send send;
    (void)state;
    open_pair(&a, &b);
    end_open(&c);
    end_connect(&c, 0, &b, END_PEERS);
    assert_int_equal(end_send(&c, 0, &send, NULL, 0), EPX_OK);
    drive_until_done(&c, &b, &send);
    for (int i = 0; i < 50; i++) {
        drive(&b, &c);
        (void)usleep(1000);
    }
    epx_wire_close(c.wire);
    /* The right one is served on. */
    assert_int_equal(end_send(&a, 1, &send, NULL, 0), EPX_OK);
    drive_until_received(&a, &b, &b.received[2], 1);
    /* Message 0 of peer 2 again, from another. */
    end_open(&c);
    end_connect(&c, 0, &b, 2);
    struct epx_wire_send again;
    assert_int_equal(end_send(&c, 0, &again, NULL, 0), EPX_OK);
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while (b.lost[2] == 0 && epx_clock_ns() < until) {
        drive(&b, &c);
    }
    assert_int_equal(b.lost[2], 1);
    assert_int_equal(end_send(&b, 2, &again, NULL, 0), EPX_ERR_PEER_DEAD);
    assert_true(again.done);
    close_pair(&a, &b);
    epx_wire_close(c.wire);
}

static void test_close_tells_peer(void **state)
{
    struct end a;
    struct end b;
    static uint8_t data[300000];
    struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    struct epx_wire_send send;
    (void)state;
    open_pair(&a, &b);
    assert_int_equal(end_send(&b, 2, &send, NULL, 0), EPX_OK);
    drive_until_received(&a, &b, &a.received[1], 1);
    end_fill(data, 0, sizeof(data));
    b.refuses = true;
    assert_int_equal(end_send(&a, 1, &send, &piece, 1), EPX_OK);
    drive_until_done(&a, &b, &send);
    epx_wire_close(a.wire);
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while (b.lost[2] == 0 && epx_clock_ns() < until) {
        epx_wire_wait(b.wire, 0, epx_clock_ns() + 100000000);
    }
    assert_int_equal(b.lost[2], 1);
    assert_int_equal(end_send(&b, 2, &send, NULL, 0), EPX_ERR_PEER_DEAD);
    /* What had gone before the end is not lost. */
    b.refuses = false;
    (void)epx_wire_progress(b.wire);
    assert_int_equal(b.received[2], 1);
    assert_int_equal(b.lost[2], 1);
    epx_wire_close(b.wire);
    assert_int_equal(a.wrong + b.wrong, 0);
}

#define IN_FLIGHT 64u

/* The peer does not read: the pipe is full, and the end comes in time nevertheless. */
static void test_close_in_flight(void **state)
{
    static struct epx_wire_send sends[IN_FLIGHT];
    struct end a;
    struct end b;
    struct iovec pieces[20];
    uint8_t *data = test_malloc(MESSAGE_MAX);
    (void)state;
    memset(data, 1, MESSAGE_MAX);
    cut(data, MESSAGE_MAX, pieces, 20);
    open_pair(&a, &b);
    assert_int_equal(end_send(&a, 1, &sends[0], NULL, 0), EPX_OK);
    drive_until_received(&a, &b, &b.received[2], 1);
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        assert_int_equal(end_send(&a, 1, &sends[i], pieces, i % 2 == 0 ? 20 : 10), EPX_OK);
        (void)epx_wire_progress(a.wire);
    }
    assert_false(sends[IN_FLIGHT - 1].done);
    uint64_t from = epx_clock_ns();
    epx_wire_close(a.wire);
    uint64_t took = epx_clock_ns() - from;
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        assert_true(sends[i].done);
    }
    assert_in_range(took / 1000000, 0, 5000);
    epx_wire_close(b.wire);
    test_free(data);
}

#define WORLD      4u
#define FULL_COUNT 64u
#define FULL_BYTES MESSAGE_MAX

struct member {
    struct end end;
    pthread_t thread;
    pthread_barrier_t *barrier;
    uint32_t rank;
    uint32_t world;
    uint32_t count;
    bool finished;
};

/* All sends first, then the waits: nobody reads before it has sent all. */
static void *run_member(void *context)
{
    struct member *self = context;
    struct epx_wire_send *sends = calloc((size_t)self->world * self->count, sizeof(*sends));
    uint8_t *data = calloc(self->count, FULL_BYTES);
    struct iovec *pieces = calloc(self->count, sizeof(*pieces));
    uint64_t until = epx_clock_ns() + 2 * END_WAIT_NS;
    if (sends == NULL || data == NULL || pieces == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < self->count; i++) {
        uint64_t bytes = FULL_BYTES - i;
        pieces[i] = (struct iovec){.iov_base = data + (size_t)i * FULL_BYTES, .iov_len = bytes};
        end_fill(pieces[i].iov_base, i, bytes);
    }
    (void)pthread_barrier_wait(self->barrier);
    bool good = true;
    for (uint32_t i = 0; i < self->count; i++) {
        for (uint32_t peer = 0; peer < self->world; peer++) {
            good &= peer == self->rank ||
                    end_send(&self->end, peer, &sends[peer * self->count + i], &pieces[i], 1) == EPX_OK;
        }
    }
    (void)pthread_barrier_wait(self->barrier);
    for (uint32_t peer = 0; peer < self->world; peer++) {
        while (good && peer != self->rank && epx_clock_ns() < until &&
               (self->end.received[peer] < self->count || !sends[(peer + 1) * self->count - 1].done)) {
            epx_wire_wait(self->end.wire, 0, epx_clock_ns() + 1000000000);
        }
        good &= peer == self->rank || self->end.received[peer] == self->count;
    }
    for (uint32_t i = 0; i < self->world * self->count; i++) {
        good &= i / self->count == self->rank || sends[i].done;
    }
    self->finished = good;
    (void)pthread_barrier_wait(self->barrier);
    epx_wire_close(self->end.wire);
    free(sends);
    free(data);
    free(pieces);
    return NULL;
}

static void run_world(uint32_t world, uint32_t count)
{
    static struct member members[WORLD];
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, world), 0);
    for (uint32_t i = 0; i < world; i++) {
        members[i] = (struct member){.barrier = &barrier, .rank = i, .world = world, .count = count};
        end_open(&members[i].end);
    }
    for (uint32_t i = 0; i < world * world; i++) {
        if (i / world != i % world) {
            end_connect(&members[i / world].end, i % world, &members[i % world].end, i / world);
        }
    }
    for (uint32_t i = 0; i < world; i++) {
        assert_int_equal(pthread_create(&members[i].thread, NULL, run_member, &members[i]), 0);
    }
    for (uint32_t i = 0; i < world; i++) {
        assert_int_equal(pthread_join(members[i].thread, NULL), 0);
    }
    (void)pthread_barrier_destroy(&barrier);
    for (uint32_t i = 0; i < world; i++) {
        assert_true(members[i].finished);
        assert_int_equal(members[i].end.wrong, 0);
    }
}

static void test_full_pipes(void **state)
{
    (void)state;
    run_world(2, FULL_COUNT);
}

static void test_world(void **state)
{
    (void)state;
    run_world(WORLD, 8);
}

/* A sleeping receiver is woken by each message, whenever it comes. */
static void *run_echo(void *context)
{
    struct member *self = context;
    struct epx_wire_send send = {.done = true};
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    for (uint32_t i = 0; i < self->count && epx_clock_ns() < until; i++) {
        while (self->rank == 1 && self->end.received[0] <= i && epx_clock_ns() < until) {
            epx_wire_wait(self->end.wire, i % 7 * 1000, until);
        }
        while (!send.done) {
            (void)epx_wire_progress(self->end.wire);
        }
        self->end.wrong += end_send(&self->end, 1 - self->rank, &send, NULL, 0) != EPX_OK;
        while (self->rank == 0 && self->end.received[1] <= i && epx_clock_ns() < until) {
            epx_wire_wait(self->end.wire, i % 5 * 2000, until);
        }
    }
    self->finished = self->end.received[1 - self->rank] == self->count;
    (void)pthread_barrier_wait(self->barrier);
    epx_wire_close(self->end.wire);
    return NULL;
}

static void test_wake_up(void **state)
{
    static struct member members[2];
    pthread_barrier_t barrier;
    (void)state;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    for (uint32_t i = 0; i < 2; i++) {
        members[i] = (struct member){.barrier = &barrier, .rank = i, .world = 2, .count = 5000};
        end_open(&members[i].end);
    }
    end_connect(&members[0].end, 1, &members[1].end, 0);
    end_connect(&members[1].end, 0, &members[0].end, 1);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&members[i].thread, NULL, run_echo, &members[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(members[i].thread, NULL), 0);
        assert_true(members[i].finished);
        assert_int_equal(members[i].end.wrong, 0);
    }
    (void)pthread_barrier_destroy(&barrier);
}

static void test_wait_ends(void **state)
{
    struct end a;
    (void)state;
    end_open(&a);
    uint64_t until = epx_clock_ns() + 30000000;
    uint64_t give_up = epx_clock_ns() + END_WAIT_NS;
    while (epx_clock_ns() < until) {
        epx_wire_wait(a.wire, 1000, until);
    }
    epx_wire_wait(a.wire, 0, 0);
    epx_wire_wait(a.wire, EPX_NEVER, until);
    assert_true(epx_clock_ns() < give_up);
    epx_wire_close(a.wire);
    epx_wire_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_order_of_what_is_kept),
        cmocka_unit_test(test_early),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_wrong_sender),
        cmocka_unit_test(test_close_tells_peer),
        cmocka_unit_test(test_close_in_flight),
        cmocka_unit_test(test_full_pipes),
        cmocka_unit_test(test_world),
        cmocka_unit_test(test_wake_up),
        cmocka_unit_test(test_wait_ends),
    };
    if (!end_possible()) {
        return END_SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
