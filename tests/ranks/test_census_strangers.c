#include "census_world.h"

/* Ranks 0 and 1 of 4 wait on two hosts; ranks 2 and 3 come after whatever the test does to those, and all must get
 * through. */
struct crowd {
    struct world world;
    struct outcome *outcomes;
    struct task tasks[4];
    uint16_t port; /* the centre's */
};

static void start_crowd(struct crowd *crowd)
{
    crowd->world = make_world(4);
    crowd->world.host_tags[1] = 1;
    crowd->outcomes = make_outcomes(4);
    for (uint32_t r = 0; r < 2; r++) {
        start_thread(&crowd->tasks[r], &crowd->world, r, PATIENCE_MS, &crowd->outcomes[r]);
    }
    struct epx_census_reach reach = raw_reach(&crowd->world);
    crowd->port = reach.port;
    raw_end(&reach);
    wait_until_missing(&crowd->world, 2, "rank 3");
}

static void end_crowd(struct crowd *crowd)
{
    for (uint32_t r = 2; r < 4; r++) {
        start_thread(&crowd->tasks[r], &crowd->world, r, PATIENCE_MS, &crowd->outcomes[r]);
    }
    for (uint32_t r = 0; r < 4; r++) {
        end_thread(&crowd->tasks[r]);
    }
    must_be_ok(crowd->outcomes, 4);
    free_outcomes(crowd->outcomes, 4);
}

/* Whether the other end closes within a time that a census has to spare. */
static bool is_closed(int fd)
{
    uint8_t bytes[256];
    uint64_t deadline = epx_deadline_after_ms(PATIENCE_MS);
    while (epx_clock_ns() < deadline) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        (void)poll(&poll_fd, 1, 1000);
        ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            return true;
        }
    }
    return false;
}

static void send_all(int fd, const void *data, size_t bytes)
{
    ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
    (void)sent; /* the centre may have closed already */
}

/* ---- Strangers at the centre ----------------------------------------------------------------------------------- */

static void strangers__garbage_and_lengths(void **state)
{
    (void)state;
    struct crowd crowd;
    uint8_t garbage[5000];
    memset(garbage, 0xa5, sizeof garbage);
    start_crowd(&crowd);
    int fd = raw_connect_to(crowd.port);
    send_all(fd, garbage, sizeof garbage);
    assert_true(is_closed(fd));
    (void)close(fd);
    fd = raw_connect_to(crowd.port);
    send_all(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    assert_true(is_closed(fd));
    (void)close(fd);
    static const uint32_t lengths[] = {0, 31, 33, 65536, 0x7fffffff, UINT32_MAX};
    for (uint32_t kind = 0; kind < EPX_CENSUS_KIND_END + 2; kind++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            uint8_t head[EPX_CENSUS_HEAD_BYTES];
            epx_census_head_encode(head, (enum epx_census_kind)kind, lengths[i]);
            fd = raw_connect_to(crowd.port);
            send_all(fd, head, sizeof head);
            assert_true(is_closed(fd));
            (void)close(fd);
        }
    }
    end_crowd(&crowd);
}

static void strangers__wrong_proofs_and_hellos(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd);
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_HELLO_MIN];
    struct epx_census_hello hello = {.rank = 2, .rank_count = 4, .pid = 1, .host_name = "x"};
    /* A proof of another role, of another hello, none. */
    for (int wrong = 0; wrong < 3; wrong++) {
        struct epx_census_reach reach = raw_reach(&crowd.world);
        uint32_t bytes = epx_census_hello_encode(&hello, frame + EPX_CENSUS_HEAD_BYTES);
        enum epx_census_role role = wrong == 0 ? EPX_CENSUS_ROLE_CENTRE : EPX_CENSUS_ROLE_MEMBER;
        if (wrong < 2) {
            uint8_t *proof = frame + EPX_CENSUS_HEAD_BYTES + bytes - EPX_CENSUS_PROOF_BYTES;
            epx_census_prove(crowd.world.key, role, &reach.nonces, frame + EPX_CENSUS_HEAD_BYTES,
                             bytes - EPX_CENSUS_PROOF_BYTES, proof);
            frame[EPX_CENSUS_HEAD_BYTES] ^= (uint8_t)(wrong == 1);
        }
        (void)epx_census_send_frame(reach.fd, EPX_CENSUS_HELLO, frame, bytes);
        assert_int_equal(raw_read(&reach), 0);
        raw_end(&reach);
    }
    /* A right proof of a hello that cannot be right. */
    hello.host_name[1] = '\n';
    struct epx_census_reach reach = raw_reach(&crowd.world);
    uint32_t bytes = epx_census_hello_encode(&hello, frame + EPX_CENSUS_HEAD_BYTES);
    assert_int_equal(epx_census_reach_prove(&reach, EPX_CENSUS_ROLE_MEMBER, EPX_CENSUS_HELLO, frame, bytes), 0);
    assert_int_equal(raw_read(&reach), 0);
    raw_end(&reach);
    end_crowd(&crowd);
}

static void strangers__words_out_of_turn_drop_a_member(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd);
    for (uint32_t kind = EPX_CENSUS_GREET; kind < EPX_CENSUS_KIND_END; kind++) {
        uint8_t head[EPX_CENSUS_HEAD_BYTES];
        struct epx_census_reach reach = raw_reach(&crowd.world);
        /* Rank 1 by hand is refused, since it is there; rank 0 always. */
        raw_hello(&crowd.world, &reach, kind % 2, kind);
        assert_int_equal(raw_read(&reach), EPX_CENSUS_FAILURE);
        epx_census_head_encode(head, (enum epx_census_kind)kind, 0);
        send_all(reach.fd, head, sizeof head);
        assert_true(is_closed(reach.fd));
        raw_end(&reach);
    }
    struct epx_census_reach reach = raw_reach(&crowd.world);
    raw_hello(&crowd.world, &reach, 2, 7);
    assert_int_equal(raw_read(&reach), EPX_CENSUS_MISSING);
    send_all(reach.fd, "no frame at all", 15);
    assert_true(is_closed(reach.fd));
    raw_end(&reach);
    end_crowd(&crowd);
}

/* More silent connections than there are places: the oldest give way, and those that stay are dropped in time. */
static void strangers__silent_crowd(void **state)
{
    (void)state;
    enum { SILENT = 150 };
    struct crowd crowd;
    int fds[SILENT];
    start_crowd(&crowd);
    for (int i = 0; i < SILENT; i++) {
        fds[i] = raw_connect_to(crowd.port);
        assert_true(fds[i] >= 0);
    }
    assert_true(is_closed(fds[0]));
    assert_true(is_closed(fds[SILENT - 1]));
    for (int i = 0; i < SILENT; i++) {
        (void)close(fds[i]);
    }
    end_crowd(&crowd);
}

struct pest { /* keeps on knocking until it is stopped */
    uint16_t ports[PORT_COUNT];
    _Atomic bool stop;
    pthread_t thread;
};

/* Silent connections, and one that sends a right greeting byte by byte. */
static void *pester(void *argument)
{
    struct pest *pest = argument;
    uint8_t greeting[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_NONCE_BYTES] = {0};
    int fds[32];
    uint32_t count = 0;
    epx_census_head_encode(greeting, EPX_CENSUS_GREET, EPX_CENSUS_NONCE_BYTES);
    for (uint32_t i = 0; i < 32; i++) {
        fds[i] = -1;
    }
    while (!pest->stop) {
        uint32_t place = count % 32;
        if (fds[place] >= 0) {
            (void)close(fds[place]);
        }
        fds[place] = raw_connect_to(pest->ports[count % PORT_COUNT]);
        for (uint32_t i = 0; i < 32; i++) {
            if (fds[i] >= 0) {
                send_all(fds[i], &greeting[count % sizeof greeting], 1);
            }
        }
        count++;
        (void)usleep(500);
    }
    for (uint32_t i = 0; i < 32; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    return NULL;
}

static void strangers__start_among_pests(void **state)
{
    (void)state;
    struct world world = make_world(16);
    struct outcome *outcomes = make_outcomes(16);
    struct pest pests[3];
    for (int i = 0; i < 3; i++) {
        memcpy(pests[i].ports, world.meeting.ports, sizeof pests[i].ports);
        pests[i].stop = false;
        assert_int_equal(pthread_create(&pests[i].thread, NULL, pester, &pests[i]), 0);
    }
    for (uint32_t r = 0; r < 16; r++) {
        world.host_tags[r] = (uint8_t)(r % 4);
    }
    run_threads(&world, 0, PATIENCE_MS, outcomes);
    for (int i = 0; i < 3; i++) {
        pests[i].stop = true;
        assert_int_equal(pthread_join(pests[i].thread, NULL), 0);
    }
    must_be_ok(outcomes, 16);
    free_outcomes(outcomes, 16);
}

/* ---- Strangers at the ports ------------------------------------------------------------------------------------ */

struct speaker { /* answers everyone with the same words */
    int listener;
    _Atomic bool stop;
    pthread_t thread;
};

static void *speak(void *argument)
{
    struct speaker *speaker = argument;
    while (!speaker->stop) {
        struct pollfd poll_fd = {.fd = speaker->listener, .events = POLLIN};
        if (poll(&poll_fd, 1, 20) == 1) {
            int fd = accept4(speaker->listener, NULL, NULL, SOCK_CLOEXEC);
            send_all(fd, "220 mail.example.org ready for whatever you have to say\r\n", 57);
            (void)close(fd);
        }
    }
    return NULL;
}

static void ports__silent_and_foreign_ones_are_passed_over(void **state)
{
    (void)state;
    struct world world = make_world(4);
    struct outcome *outcomes = make_outcomes(4);
    struct speaker speaker = {.listener = raw_listen(world.meeting.ports[1])};
    int silent = raw_listen(world.meeting.ports[0]);
    assert_int_equal(pthread_create(&speaker.thread, NULL, speak, &speaker), 0);
    world.host_tags[2] = 1;
    struct task member;
    start_thread(&member, &world, 3, PATIENCE_MS, &outcomes[3]);
    run_rank(&world, 1, 1500, &outcomes[1]);
    must_fail(&outcomes[1], EPX_ERR_JOIN_TIMEOUT, "does not speak this protocol");
    struct task tasks[3];
    for (uint32_t r = 0; r < 3; r++) {
        start_thread(&tasks[r], &world, r, PATIENCE_MS, &outcomes[r]);
    }
    for (uint32_t r = 0; r < 3; r++) {
        end_thread(&tasks[r]);
    }
    end_thread(&member);
    speaker.stop = true;
    assert_int_equal(pthread_join(speaker.thread, NULL), 0);
    (void)close(silent);
    (void)close(speaker.listener);
    must_be_ok(outcomes, 4);
    free_outcomes(outcomes, 4);
}

static void ports__all_taken(void **state)
{
    (void)state;
    struct world world = make_world(2);
    struct outcome *outcomes = make_outcomes(2);
    int fds[PORT_COUNT];
    for (uint32_t p = 0; p < PORT_COUNT; p++) {
        fds[p] = raw_listen(world.meeting.ports[p]);
    }
    run_rank(&world, 0, 300, &outcomes[0]);
    must_fail(&outcomes[0], EPX_ERR_SYSTEM, "rank 0 cannot listen at 127.0.0.1 ports");
    for (uint32_t p = 0; p < PORT_COUNT; p++) {
        (void)close(fds[p]);
    }
    free_outcomes(outcomes, 2);
}

/* ---- Links ----------------------------------------------------------------------------------------------------- */

/* Goes through the census as rank 2 on a host of its own, by hand: rank 0 then waits for its link. */
static struct epx_census_begin confirm_by_hand(const struct world *world)
{
    struct epx_census_reach reach = raw_reach(world);
    struct epx_census_begin begin = {.rank_count = 0};
    uint8_t head[EPX_CENSUS_HEAD_BYTES];
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_HELLO_MIN];
    struct epx_census_hello hello = {
        .rank = 2, .rank_count = 3, .pid = 1, .instance = 5, .host_id = {0xee}, .host_name = "byhand"};
    uint32_t bytes = epx_census_hello_encode(&hello, frame + EPX_CENSUS_HEAD_BYTES);
    assert_int_equal(epx_census_reach_prove(&reach, EPX_CENSUS_ROLE_MEMBER, EPX_CENSUS_HELLO, frame, bytes), 0);
    uint32_t kind = raw_read(&reach);
    while (kind != EPX_CENSUS_MEMBERS) {
        if (kind == EPX_CENSUS_BEGIN) {
            assert_true(epx_census_begin_decode(reach.reader.body, reach.reader.head.body_bytes, &begin));
        }
        kind = raw_read(&reach);
    }
    assert_int_equal(epx_census_send_frame(reach.fd, EPX_CENSUS_CONFIRM, head, 0), 0);
    while (raw_read(&reach) != EPX_CENSUS_COMPLETE) {
    }
    raw_end(&reach);
    return begin;
}

static int present_by_hand(const struct world *world, const struct epx_census_begin *begin, struct epx_census_link link)
{
    const uint16_t port = (uint16_t)begin->link_port;
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_LINK_BYTES];
    struct epx_census_reach reach = {.key = world->key,
                                     .role = EPX_CENSUS_ROLE_ROOT,
                                     .address = &world->meeting.root,
                                     .own_ip = "",
                                     .ports = &port,
                                     .port_count = 1,
                                     .deadline_ns = epx_deadline_after_ms(PATIENCE_MS)};
    assert_int_equal(epx_census_reach(&reach), EPX_CENSUS_REACHED);
    uint32_t bytes = epx_census_link_encode(&link, frame + EPX_CENSUS_HEAD_BYTES);
    assert_int_equal(epx_census_reach_prove(&reach, EPX_CENSUS_ROLE_LEADER, EPX_CENSUS_LINK, frame, bytes), 0);
    bool welcome = raw_read(&reach) == EPX_CENSUS_WELCOME;
    epx_census_reader_fini(&reach.reader);
    if (welcome) {
        return reach.fd;
    }
    (void)close(reach.fd);
    return -1;
}

/* Rank 0 alone is watched, since rank 2 is no rank of the test's own. */
static void *take_as_root(void *argument)
{
    struct task *task = argument;
    uint8_t card[EPX_CENSUS_CARD_BYTES_MAX];
    struct epx_census_request request = make_request(&task->world, task->rank, task->timeout_ms, card);
    struct epx_census census;
    task->outcome->status = epx_census_take(&request, &census);
    (void)snprintf(task->outcome->text, sizeof task->outcome->text, "%s", epx_error_text());
    if (task->outcome->status == EPX_OK) {
        epx_census_fini(&census);
    }
    return NULL;
}

static void start_pair(struct world *world, struct outcome *outcomes, struct task *tasks, int64_t timeout_ms)
{
    *world = make_world(3);
    for (uint32_t r = 0; r < 2; r++) {
        tasks[r] = (struct task){.world = *world, .rank = r, .timeout_ms = timeout_ms, .outcome = &outcomes[r]};
        assert_int_equal(pthread_create(&tasks[r].thread, NULL, take_as_root, &tasks[r]), 0);
    }
}

static void links__only_the_leaders_of_this_census(void **state)
{
    (void)state;
    struct world world;
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_pair(&world, outcomes, tasks, PATIENCE_MS);
    struct epx_census_begin begin = confirm_by_hand(&world);
    struct epx_census_link right = {.host = 1, .rank = 2};
    memcpy(right.run, begin.run, sizeof right.run);
    struct epx_census_link wrong = right;
    wrong.run[0] ^= 1;
    assert_int_equal(present_by_hand(&world, &begin, wrong), -1);
    wrong = right;
    wrong.rank = 1;
    assert_int_equal(present_by_hand(&world, &begin, wrong), -1);
    wrong.host = 2;
    wrong.rank = 2;
    assert_int_equal(present_by_hand(&world, &begin, wrong), -1);
    int silent = raw_connect_to((uint16_t)begin.link_port);
    int noisy = raw_connect_to((uint16_t)begin.link_port);
    send_all(noisy, "what is this?", 13);
    assert_true(is_closed(noisy));
    int fd = present_by_hand(&world, &begin, right);
    assert_true(fd >= 0);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    (void)close(fd);
    (void)close(silent);
    (void)close(noisy);
    free_outcomes(outcomes, 2);
}

static void links__missing_host_is_named(void **state)
{
    (void)state;
    struct world world;
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_pair(&world, outcomes, tasks, 3000);
    (void)confirm_by_hand(&world);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    assert_int_equal(outcomes[1].status, EPX_OK);
    must_fail(&outcomes[0], EPX_ERR_JOIN_TIMEOUT,
              "1 of 1 hosts have not linked to rank 0 within 3.0 s, first of them host 1 (byhand): its rank 2 (pid 1)");
    free_outcomes(outcomes, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCHED(strangers__garbage_and_lengths),
        WATCHED(strangers__wrong_proofs_and_hellos),
        WATCHED(strangers__words_out_of_turn_drop_a_member),
        WATCHED(strangers__silent_crowd),
        WATCHED(strangers__start_among_pests),
        WATCHED(ports__silent_and_foreign_ones_are_passed_over),
        WATCHED(ports__all_taken),
        WATCHED(links__only_the_leaders_of_this_census),
        WATCHED(links__missing_host_is_named),
    };
    /* What is refused here is logged, which is not to be read. */
    (void)setenv("EPX_LOG", "error", 0);
    return cmocka_run_group_tests_name("census_strangers", tests, start_one_thread, NULL);
}
