/* The wire part of rounds, seen by rank 0 on host a. Ranks 1 and 2 on host b are the test's: it says what they send. */
#include "comm/comm_object.h"
#include "comm/remote_state.h"
#include "ranks/hosts_world.h"

#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROW_BYTES    3000u
#define ROW_COUNT    700
#define REGION_BYTES ((2u << 20) + 100u)
#define TIMEOUT_MS   20000

struct scene {
    uint64_t key;
    struct epx_comm *comm;
    struct epx_round round;
    struct epx_agreement agreement;
    /* What rank 0 sends. */
    uint8_t *region;
    uint8_t *rows;
    uint32_t hosts_asked;
    /* What it has received. */
    struct epx_remote_mirror mirrors[3];
    uint64_t completed[3];
    bool refuses;
    bool disbelieves;
};

static const void *exchange_for(void *context, uint32_t host, uint64_t *bytes, uint64_t *room)
{
    struct scene *scene = context;
    assert_int_equal(host, 1);
    scene->hosts_asked++;
    *bytes = REGION_BYTES;
    *room = ROW_COUNT;
    return scene->region;
}

/* Every other row, so that no two lie side by side. */
static uint32_t rows_for(void *context, uint32_t host, uint64_t *cursor, struct epx_remote_row *rows, uint32_t max)
{
    const struct scene *scene = context;
    uint32_t count = 0;
    assert_int_equal(host, 1);
    for (; *cursor < ROW_COUNT && count < max; *cursor += 2) {
        rows[count++] = (struct epx_remote_row){
            .index = (int32_t)*cursor, .address = scene->rows + *cursor * ROW_BYTES, .scale = (float)*cursor};
    }
    return count;
}

static const struct epx_remote_mirror *mirror_of(void *context, uint32_t rank, uint64_t bytes, uint64_t room,
                                                 enum epx_status *status)
{
    const struct scene *scene = context;
    assert_int_equal(room, ROW_COUNT);
    if (scene->refuses || bytes > scene->mirrors[rank].exchange_capacity) {
        *status = epx_fail(EPX_ERR_CAPACITY, "no room for rank %u", rank);
        return NULL;
    }
    return &scene->mirrors[rank];
}

static bool complete(void *context, uint32_t rank, uint64_t bytes, const uint64_t row_counts[EPX_REMOTE_SET_MAX])
{
    struct scene *scene = context;
    scene->completed[rank] = bytes;
    assert_int_equal(row_counts[1], 0);
    return !scene->disbelieves;
}

static uint8_t *reserve(uint64_t bytes)
{
    void *memory = NULL;
    assert_int_equal(epx_arena_reserve(bytes, 64, &memory), EPX_OK);
    return memory;
}

static void set_up(struct scene *scene, int64_t timeout_ms)
{
    static uint64_t key = 77;
    *scene = (struct scene){.key = key++, .agreement = {{1, 2, 3}}};
    const struct hosts_spec spec = {
        .key = scene->key, .rank_count = 3, .host_of = {0, 1, 1}, .op_timeout_ms = timeout_ms};
    scene->comm = hosts_open(&spec);
    scene->region = malloc(REGION_BYTES);
    scene->rows = malloc((size_t)ROW_COUNT * ROW_BYTES);
    assert_non_null(scene->region);
    assert_non_null(scene->rows);
    for (uint32_t i = 0; i < REGION_BYTES; i++) {
        scene->region[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (uint32_t i = 0; i < ROW_COUNT * ROW_BYTES; i++) {
        scene->rows[i] = (uint8_t)(i * 5 + i / 3000);
    }
    for (uint32_t rank = 1; rank < 3; rank++) {
        struct epx_remote_mirror *mirror = &scene->mirrors[rank];
        mirror->exchange = reserve(REGION_BYTES);
        mirror->exchange_capacity = REGION_BYTES;
        mirror->sets[0] = (struct epx_remote_set){.rows = reserve((uint64_t)ROW_COUNT * 3008),
                                                  .pitch_bytes = 3008,
                                                  .row_capacity = ROW_COUNT,
                                                  .scales = (float *)(void *)reserve(ROW_COUNT * sizeof(float))};
    }
}

static void tear_down(struct scene *scene)
{
    hosts_close(scene->comm);
    for (uint32_t rank = 1; rank < 3; rank++) {
        assert_int_equal(epx_arena_free(scene->mirrors[rank].exchange), EPX_OK);
        assert_int_equal(epx_arena_free(scene->mirrors[rank].sets[0].rows), EPX_OK);
        assert_int_equal(epx_arena_free(scene->mirrors[rank].sets[0].scales), EPX_OK);
    }
    free(scene->region);
    free(scene->rows);
}

static void begin(struct scene *scene)
{
    const struct epx_publication publication = {0};
    const struct epx_remote_source source = {
        .context = scene,
        .exchange = exchange_for,
        .rows = rows_for,
        .row_bytes = {ROW_BYTES},
        .has_scales = {true},
    };
    const struct epx_remote_sink sink = {.context = scene, .mirror = mirror_of, .complete = complete};
    uint64_t number = epx_round_reserve(scene->comm);
    assert_int_equal(epx_round_begin(&scene->round, scene->comm, number, EPX_OPERATION_DISPATCH), EPX_OK);
    assert_int_equal(epx_round_publish(&scene->round, &scene->agreement, &publication), EPX_OK);
    assert_int_equal(epx_remote_begin(&scene->round, &source, &sink), EPX_OK);
}

static enum epx_status await(struct scene *scene)
{
    bool pending = true;
    enum epx_status status = epx_remote_await(&scene->round, EPX_NEVER, &pending);
    assert_false(pending);
    return status;
}

static bool is_pending(struct scene *scene)
{
    bool pending = false;
    assert_int_equal(epx_remote_await(&scene->round, epx_clock_ns() + 2000000u, &pending), EPX_OK);
    return pending;
}

static void end(struct scene *scene)
{
    assert_int_equal(epx_round_step(&scene->round, EPX_PHASE_ENTER), EPX_OK);
    epx_round_end(&scene->round);
}

static struct epx_remote_header header_of(uint64_t step, enum epx_remote_kind kind)
{
    return (struct epx_remote_header){.magic = EPX_REMOTE_MAGIC,
                                      .kind = (uint16_t)kind,
                                      .operation = EPX_OPERATION_DISPATCH,
                                      .step = step,
                                      .round = step,
                                      .room = ROW_COUNT};
}

static void send_entry(const struct scene *scene, uint32_t rank, const struct epx_remote_header *header, uint64_t first,
                       uint64_t bytes)
{
    static uint8_t data[EPX_WIRE_MESSAGE_BYTES_MAX];
    memcpy(data, &scene->agreement, sizeof scene->agreement);
    memcpy(data + sizeof scene->agreement, scene->region + first, bytes);
    hosts_send(scene->key, rank, 0, header, data, sizeof scene->agreement + bytes);
}

/* A region of 300 bytes in two pieces. */
static void send_region(const struct scene *scene, uint32_t rank, uint64_t step)
{
    struct epx_remote_header header = header_of(step, EPX_REMOTE_ENTRY);
    header.total_bytes = 300;
    send_entry(scene, rank, &header, 0, 200);
    header.offset = 200;
    hosts_send(scene->key, rank, 0, &header, scene->region + 200, 100);
}

static void send_row(const struct scene *scene, uint32_t rank, uint64_t step, int32_t index, uint32_t set,
                     uint64_t bytes)
{
    static uint8_t data[sizeof(struct epx_remote_table_row) + 2 * ROW_BYTES];
    struct epx_remote_header header = header_of(step, EPX_REMOTE_ROWS);
    const struct epx_remote_table_row row = {.set = set, .index = index, .scale = 2.5f};
    header.row_counts[0] = 1;
    memcpy(data, &row, sizeof row);
    memcpy(data + sizeof row, scene->rows + 5 * ROW_BYTES, bytes);
    hosts_send(scene->key, rank, 0, &header, data, sizeof row + bytes);
}

static void send_end(const struct scene *scene, uint32_t rank, uint64_t step, uint64_t rows)
{
    struct epx_remote_header header = header_of(step, EPX_REMOTE_END);
    header.row_counts[0] = rows;
    hosts_send(scene->key, rank, 0, &header, NULL, 0);
}

static void send_all(const struct scene *scene, uint32_t rank, uint64_t step)
{
    send_region(scene, rank, step);
    send_row(scene, rank, step, 699, 0, ROW_BYTES);
    send_end(scene, rank, step, 1);
}

/* What rank 1 gets: the whole region, every row once with its scale, the count. */
static void assert_sent(struct scene *scene)
{
    static uint8_t data[EPX_WIRE_MESSAGE_BYTES_MAX];
    struct epx_remote_header header;
    uint32_t from;
    uint64_t bytes;
    uint64_t region = 0;
    uint64_t rows = 0;
    bool ended = false;
    while (hosts_take(scene->key, 1, &from, &header, data, &bytes)) {
        assert_int_equal(from, 0);
        assert_false(ended);
        assert_int_equal(header.step, 1);
        assert_true(bytes <= EPX_WIRE_MESSAGE_BYTES_MAX);
        if (header.kind == EPX_REMOTE_ENTRY) {
            uint64_t skip = region == 0 ? sizeof scene->agreement : 0;
            assert_memory_equal(data, region == 0 ? (const void *)&scene->agreement : scene->region + region, 64);
            assert_int_equal(header.offset, region);
            assert_memory_equal(data + skip, scene->region + region, bytes - skip);
            region += bytes - skip;
        } else if (header.kind == EPX_REMOTE_ROWS) {
            uint64_t count = header.row_counts[0];
            assert_int_equal(region, REGION_BYTES);
            assert_int_equal(bytes, count * (sizeof(struct epx_remote_table_row) + ROW_BYTES));
            for (uint64_t i = 0; i < count; i++, rows++) {
                struct epx_remote_table_row row;
                memcpy(&row, data + i * sizeof row, sizeof row);
                assert_int_equal(row.index, 2 * rows);
                assert_true(row.scale == (float)(2 * rows));
                assert_memory_equal(data + count * sizeof row + i * ROW_BYTES, scene->rows + 2 * rows * ROW_BYTES,
                                    ROW_BYTES);
            }
        } else {
            assert_int_equal(header.row_counts[0], ROW_COUNT / 2);
            ended = true;
        }
    }
    assert_true(ended);
    assert_int_equal(rows, ROW_COUNT / 2);
    assert_false(hosts_take(scene->key, 2, &from, &header, data, &bytes));
}

static void remote__sends_all_and_takes_all_in(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    begin(&scene);
    assert_true(is_pending(&scene));
    send_all(&scene, 2, 1);
    assert_true(is_pending(&scene));
    send_all(&scene, 1, 1);
    assert_int_equal(await(&scene), EPX_OK);
    assert_int_equal(scene.hosts_asked, 1);
    assert_sent(&scene);
    for (uint32_t rank = 1; rank < 3; rank++) {
        const struct epx_control_entry *entry = &scene.comm->control->slots[rank].entries[1];
        const struct epx_remote_mirror *mirror = &scene.mirrors[rank];
        uint64_t offset;
        assert_int_equal(scene.completed[rank], 300);
        assert_memory_equal(mirror->exchange, scene.region, 300);
        assert_memory_equal(mirror->sets[0].rows + 699 * 3008, scene.rows + 5 * ROW_BYTES, ROW_BYTES);
        assert_true(mirror->sets[0].scales[699] == 2.5f);
        assert_true(epx_arena_offset_of(mirror->exchange, 300, &offset));
        assert_int_equal(entry->publication.offset, offset);
        assert_int_equal(entry->publication.bytes, 300);
        assert_int_equal(entry->step, 1);
        assert_int_equal(entry->round, 1);
        assert_int_equal(entry->operation, EPX_OPERATION_DISPATCH);
        assert_memory_equal(&entry->agreement, &scene.agreement, sizeof scene.agreement);
    }
    end(&scene);
    tear_down(&scene);
}

static void remote__later_rounds_wait(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    for (uint64_t step = 1; step <= 3; step++) {
        send_all(&scene, 1, step);
    }
    begin(&scene);
    assert_true(is_pending(&scene));
    for (uint64_t step = 1; step <= 3; step++) {
        if (step > 1) {
            scene.completed[1] = 0;
            begin(&scene);
        }
        send_all(&scene, 2, step);
        assert_int_equal(await(&scene), EPX_OK);
        assert_int_equal(scene.completed[1], 300);
        assert_int_equal(scene.comm->control->slots[1].entries[step & 1].step, step);
        end(&scene);
    }
    tear_down(&scene);
}

static void remote__sends_keep_their_memory_until_they_are_done(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    hosts_hold(scene.comm, true);
    begin(&scene);
    send_all(&scene, 1, 1);
    send_all(&scene, 2, 1);
    assert_true(is_pending(&scene));
    assert_int_equal(hosts_unsent(scene.comm), EPX_REMOTE_SLOT_COUNT);
    hosts_hold(scene.comm, false);
    assert_int_equal(await(&scene), EPX_OK);
    assert_int_equal(hosts_unsent(scene.comm), 0);
    assert_sent(&scene);
    end(&scene);
    tear_down(&scene);
}

/* Each sends what cannot be right after nothing else of rank 1. */
static void wrong_mark(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    header.magic++;
    send_entry(scene, 1, &header, 0, 0);
}

static void wrong_short_entry(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    hosts_send(scene->key, 1, 0, &header, scene->region, 63);
}

static void wrong_kind(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_END + 1);
    send_region(scene, 1, 1);
    hosts_send(scene->key, 1, 0, &header, NULL, 0);
}

static void wrong_first(const struct scene *scene)
{
    send_end(scene, 1, 1, 0);
}

static void wrong_long_piece(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    header.total_bytes = 300;
    send_entry(scene, 1, &header, 0, 301);
}

static void wrong_piece_place(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    header.total_bytes = 300;
    send_entry(scene, 1, &header, 0, 200);
    header.offset = 100;
    hosts_send(scene->key, 1, 0, &header, scene->region, 100);
}

static void wrong_piece_total(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    header.total_bytes = 300;
    send_entry(scene, 1, &header, 0, 200);
    header.offset = 200;
    header.total_bytes = 400;
    hosts_send(scene->key, 1, 0, &header, scene->region, 100);
}

static void wrong_early_row(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    header.total_bytes = 300;
    send_entry(scene, 1, &header, 0, 200);
    send_row(scene, 1, 1, 0, 0, ROW_BYTES);
}

static void wrong_index(const struct scene *scene)
{
    send_region(scene, 1, 1);
    send_row(scene, 1, 1, ROW_COUNT, 0, ROW_BYTES);
}

static void wrong_negative_index(const struct scene *scene)
{
    send_region(scene, 1, 1);
    send_row(scene, 1, 1, -1, 0, ROW_BYTES);
}

static void wrong_set(const struct scene *scene)
{
    send_region(scene, 1, 1);
    send_row(scene, 1, 1, 0, 1, ROW_BYTES);
}

static void wrong_high_set(const struct scene *scene)
{
    send_region(scene, 1, 1);
    send_row(scene, 1, 1, 0, 1000, ROW_BYTES);
}

static void wrong_short_row(const struct scene *scene)
{
    send_region(scene, 1, 1);
    send_row(scene, 1, 1, 0, 0, ROW_BYTES - 1);
}

static void wrong_long_row(const struct scene *scene)
{
    send_region(scene, 1, 1);
    send_row(scene, 1, 1, 0, 0, ROW_BYTES + 1);
}

static void wrong_row_count(const struct scene *scene)
{
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ROWS);
    header.row_counts[0] = 1;
    header.row_counts[1] = UINT64_MAX;
    send_region(scene, 1, 1);
    hosts_send(scene->key, 1, 0, &header, scene->rows, ROW_BYTES);
}

static void wrong_end(const struct scene *scene)
{
    send_region(scene, 1, 1);
    send_row(scene, 1, 1, 0, 0, ROW_BYTES);
    send_end(scene, 1, 1, 2);
}

static void wrong_after_end(const struct scene *scene)
{
    send_all(scene, 1, 1);
    send_end(scene, 1, 1, 1);
}

static void wrong_step(const struct scene *scene)
{
    send_all(scene, 1, 0);
}

static void remote__what_cannot_be_right_fails_the_round(void **state)
{
    static const struct {
        void (*send)(const struct scene *scene);
        const char *text;
    } cases[] = {
        {wrong_mark, "the mark is"},
        {wrong_short_entry, "the size of an entry is 63"},
        {wrong_kind, "the kind is 4"},
        {wrong_first, "the kind is 3"},
        {wrong_long_piece, "the size of a piece of the exchange region is 301"},
        {wrong_piece_place, "the place in the exchange region is 100"},
        {wrong_piece_total, "the size of the exchange region is 400"},
        {wrong_early_row, "the kind is 2"},
        {wrong_index, "the index of a row is 700, must be in [0, 700)"},
        {wrong_negative_index, "the index of a row is -1"},
        {wrong_set, "the set of a row is 1"},
        {wrong_high_set, "the set of a row is 1000"},
        {wrong_short_row, "must be 3000"},
        {wrong_long_row, "the size of a message of rows is 3013"},
        {wrong_row_count, "the row count is"},
        {wrong_end, "the count of all rows is 2"},
        {wrong_after_end, "the step is 1"},
        {wrong_step, "the step is 0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scene scene;
        set_up(&scene, TIMEOUT_MS);
        begin(&scene);
        cases[i].send(&scene);
        assert_int_equal(await(&scene), EPX_ERR_PROTOCOL);
        if (strstr(epx_error_text(), cases[i].text) == NULL ||
            strstr(epx_error_text(), "rank 1 (host b, pid 1001): ") == NULL) {
            fail_msg("case %zu: \"%s\" has no \"%s\"", i, epx_error_text(), cases[i].text);
        }
        assert_true(scene.round.is_over);
        assert_int_equal(epx_comm_failure(scene.comm), EPX_ERR_PROTOCOL);
        tear_down(&scene);
    }
}

static void remote__a_stranger_fails_the_round(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    begin(&scene);
    send_all(&scene, 7, 1);
    assert_int_equal(await(&scene), EPX_ERR_PROTOCOL);
    assert_non_null(strstr(epx_error_text(), "rank 7, for which it does not stand"));
    tear_down(&scene);
}

static void remote__the_sink_has_a_say(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    scene.refuses = true;
    begin(&scene);
    send_all(&scene, 1, 1);
    assert_int_equal(await(&scene), EPX_ERR_CAPACITY);
    assert_string_equal(epx_error_text(), "no room for rank 1");
    tear_down(&scene);

    set_up(&scene, TIMEOUT_MS);
    scene.disbelieves = true;
    begin(&scene);
    send_all(&scene, 1, 1);
    assert_int_equal(await(&scene), EPX_ERR_PROTOCOL);
    assert_non_null(strstr(epx_error_text(), "the exchange region of dispatch round 1 cannot be right"));
    tear_down(&scene);
}

/* The peer runs something else: its entry is put up, its rows are not looked at, the comparison names it. */
static void remote__another_operation_is_a_mismatch(void **state)
{
    struct scene scene;
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    begin(&scene);
    send_all(&scene, 2, 1);
    header.operation = EPX_OPERATION_COMBINE;
    header.total_bytes = 10;
    send_entry(&scene, 1, &header, 0, 10);
    send_row(&scene, 1, 1, 100000, 9, 17);
    send_end(&scene, 1, 1, 1);
    assert_int_equal(await(&scene), EPX_OK);
    assert_int_equal(scene.completed[1], 0);
    assert_int_equal(scene.comm->control->slots[1].entries[1].publication.bytes, 0);
    assert_int_equal(epx_round_step(&scene.round, EPX_PHASE_ENTER), EPX_OK);
    assert_int_equal(epx_round_agree(&scene.round, NULL, 0), EPX_ERR_MISMATCH);
    assert_string_equal(epx_error_text(), "operation differs in round 1: ranks 0,2 run dispatch, rank 1 runs combine");
    tear_down(&scene);
}

static void remote__a_lost_peer_fails_the_round(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    begin(&scene);
    send_all(&scene, 1, 1);
    assert_true(is_pending(&scene));
    hosts_lose(scene.key, 0, 2);
    assert_int_equal(await(&scene), EPX_ERR_PEER_DEAD);
    assert_string_equal(epx_error_text(), "rank 2 (host b, pid 1002) cannot be reached: the cable is cut");
    assert_null(scene.comm->hosts->wire);
    tear_down(&scene);
}

/* Who has sent and taken all may go; the next round needs it. */
static void remote__a_peer_lost_later_fails_the_next_round(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    begin(&scene);
    send_all(&scene, 1, 1);
    const struct epx_remote *remote = scene.comm->hosts->remote;
    const struct epx_remote_peer *peer = &remote->peers[remote->peer_of[1]];
    while (!epx_remote_sent(peer) || peer->receiver.stage != EPX_REMOTE_STAGE_OVER) {
        assert_true(is_pending(&scene));
    }
    hosts_lose(scene.key, 0, 1);
    assert_true(is_pending(&scene));
    send_all(&scene, 2, 1);
    assert_int_equal(await(&scene), EPX_OK);
    end(&scene);
    begin(&scene);
    send_all(&scene, 2, 2);
    assert_int_equal(await(&scene), EPX_ERR_PEER_DEAD);
    assert_string_equal(epx_error_text(), "rank 1 (host b, pid 1001) cannot be reached: the cable is cut");
    tear_down(&scene);
}

static void remote__lateness_has_a_name(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, 100);
    begin(&scene);
    send_all(&scene, 2, 1);
    assert_int_equal(await(&scene), EPX_ERR_TIMEOUT);
    assert_ptr_equal(strstr(epx_error_text(), "rank 1 (host b, pid 1001) has not entered dispatch round 1; ranks 0,2 "
                                              "have waited 0."),
                     epx_error_text());
    tear_down(&scene);

    set_up(&scene, 100);
    begin(&scene);
    send_region(&scene, 1, 1);
    send_region(&scene, 2, 1);
    assert_int_equal(await(&scene), EPX_ERR_TIMEOUT);
    assert_ptr_equal(
        strstr(epx_error_text(), "ranks 1-2 have not sent all rows of dispatch round 1; rank 0 has waited"),
        epx_error_text());
    tear_down(&scene);

    set_up(&scene, 100);
    hosts_hold(scene.comm, true);
    begin(&scene);
    send_all(&scene, 1, 1);
    send_all(&scene, 2, 1);
    assert_int_equal(await(&scene), EPX_ERR_TIMEOUT);
    assert_ptr_equal(strstr(epx_error_text(), "rank 1 (host b, pid 1001) has not taken all rows of dispatch round 1;"),
                     epx_error_text());
    tear_down(&scene);
}

static void *abort_later(void *context)
{
    struct epx_comm *comm = context;
    struct timespec time = {.tv_nsec = 30000000};
    (void)nanosleep(&time, NULL);
    enum epx_status status = epx_comm_abort(comm, EPX_ERR_INTERNAL, "enough");
    assert_int_equal(status, EPX_ERR_INTERNAL);
    return NULL;
}

static void remote__a_failure_ends_the_wait_and_the_sends(void **state)
{
    struct scene scene;
    pthread_t thread;
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    hosts_hold(scene.comm, true);
    begin(&scene);
    assert_true(is_pending(&scene));
    assert_int_equal(pthread_create(&thread, NULL, abort_later, scene.comm), 0);
    assert_int_equal(await(&scene), EPX_ERR_INTERNAL);
    assert_string_equal(epx_error_text(), "enough");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_null(scene.comm->hosts->wire);
    assert_true(scene.round.is_over);
    tear_down(&scene);
}

/* Rounds without rows: barriers and releases. */
static void remote__enter_sends_entries_alone(void **state)
{
    struct scene scene;
    struct epx_remote_header header = header_of(1, EPX_REMOTE_ENTRY);
    (void)state;
    set_up(&scene, TIMEOUT_MS);
    uint64_t number = epx_round_reserve(scene.comm);
    header.operation = EPX_OPERATION_BARRIER;
    for (uint32_t rank = 1; rank < 3; rank++) {
        send_entry(&scene, rank, &header, 0, 0);
        send_end(&scene, rank, 1, 0);
    }
    assert_int_equal(epx_round_begin(&scene.round, scene.comm, number, EPX_OPERATION_BARRIER), EPX_OK);
    assert_int_equal(epx_round_enter(&scene.round, &scene.agreement, NULL, 0, NULL), EPX_OK);
    epx_round_end(&scene.round);
    tear_down(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remote__sends_all_and_takes_all_in),
        cmocka_unit_test(remote__later_rounds_wait),
        cmocka_unit_test(remote__sends_keep_their_memory_until_they_are_done),
        cmocka_unit_test(remote__what_cannot_be_right_fails_the_round),
        cmocka_unit_test(remote__a_stranger_fails_the_round),
        cmocka_unit_test(remote__the_sink_has_a_say),
        cmocka_unit_test(remote__another_operation_is_a_mismatch),
        cmocka_unit_test(remote__a_lost_peer_fails_the_round),
        cmocka_unit_test(remote__a_peer_lost_later_fails_the_next_round),
        cmocka_unit_test(remote__lateness_has_a_name),
        cmocka_unit_test(remote__a_failure_ends_the_wait_and_the_sends),
        cmocka_unit_test(remote__enter_sends_entries_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
