#include "bootstrap_world.h"

/* ---- Deaths, failures and strangers ---------------------------------------------------------------------------- */

static void join__killed_centre_is_replaced(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(5);
    struct task tasks[5];
    pid_t centre = fork_ranks(key, 0, 0, 5, PATIENCE_MS, outcomes);
    wait_until_bound(key);
    for (uint32_t r = 1; r < 3; r++) {
        start_thread(&tasks[r], make_request(key, r, 5, PATIENCE_MS), &outcomes[r]);
    }
    wait_until_joined(key, 5, 3, 1);
    wait_until_joined(key, 5, 3, 2);
    assert_int_equal(kill(centre, SIGKILL), 0);
    assert_int_equal(waitpid(centre, NULL, 0), centre);
    start_thread(&tasks[0], make_request(key, 0, 5, PATIENCE_MS), &outcomes[0]);
    start_thread(&tasks[3], make_request(key, 3, 5, PATIENCE_MS), &outcomes[3]);
    start_thread(&tasks[4], make_request(key, 4, 5, PATIENCE_MS), &outcomes[4]);
    for (uint32_t r = 0; r < 5; r++) {
        end_thread(&tasks[r]);
    }
    must_be_ok(outcomes, 5);
    free_outcomes(outcomes, 5);
}

struct crowd { /* ranks 0 and 1 of 3 as threads; rank 2 is played by hand */
    uint8_t key[32];
    struct outcome *outcomes;
    struct task tasks[3];
    int fd;
};

static void start_crowd(struct crowd *crowd, int64_t timeout_ms)
{
    make_key(crowd->key);
    crowd->outcomes = make_outcomes(3);
    start_thread(&crowd->tasks[0], make_request(crowd->key, 0, 3, timeout_ms), &crowd->outcomes[0]);
    wait_until_bound(crowd->key);
    start_thread(&crowd->tasks[1], make_request(crowd->key, 1, 3, timeout_ms), &crowd->outcomes[1]);
    crowd->fd = raw_connect(crowd->key);
    raw_hello(crowd->fd, 2, 3);
    assert_int_equal(raw_receive(crowd->fd), EPX_BOOT_ASSEMBLED);
}

static void join__failure_of_one_rank_is_told_to_all(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd, PATIENCE_MS);
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_FAILURE);
    message.body.failure.status = EPX_ERR_NO_MEMORY;
    (void)snprintf(message.body.failure.text, sizeof message.body.failure.text, "no address space");
    assert_int_equal(epx_boot_send(crowd.fd, &message, NULL, 0), 0);
    char expected[128];
    (void)snprintf(expected, sizeof expected, WHAT ": rank 2 (pid %d): no address space", (int)getpid());
    for (uint32_t r = 0; r < 2; r++) {
        end_thread(&crowd.tasks[r]);
        must_fail(&crowd.outcomes[r], EPX_ERR_NO_MEMORY, expected);
    }
    epx_boot_close(crowd.fd);
    free_outcomes(crowd.outcomes, 3);
}

static void join__death_while_mapping_is_made_good(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd, PATIENCE_MS);
    (void)usleep(100000);
    epx_boot_close(crowd.fd);
    start_thread(&crowd.tasks[2], make_request(crowd.key, 2, 3, PATIENCE_MS), &crowd.outcomes[2]);
    for (uint32_t r = 0; r < 3; r++) {
        end_thread(&crowd.tasks[r]);
    }
    must_be_ok(crowd.outcomes, 3);
    free_outcomes(crowd.outcomes, 3);
}

static void join__nobody_succeeds_without_all_mapped(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd, 700);
    for (uint32_t r = 0; r < 2; r++) {
        end_thread(&crowd.tasks[r]);
    }
    /* Whoever ends second may find the gathering of a new attempt; rank 2 is to blame in either case. */
    for (uint32_t r = 0; r < 2; r++) {
        assert_int_equal(crowd.outcomes[r].status, EPX_ERR_JOIN_TIMEOUT);
    }
    assert_true(strstr(crowd.outcomes[0].text, "late ranks 2") != NULL ||
                strstr(crowd.outcomes[1].text, "late ranks 2") != NULL);
    epx_boot_close(crowd.fd);
    free_outcomes(crowd.outcomes, 3);
}

static void join__messages_out_of_turn_drop_the_rank(void **state)
{
    (void)state;
    static const enum epx_boot_kind kinds[] = {EPX_BOOT_GET_ROSTER, EPX_BOOT_WANT,      EPX_BOOT_MAPPED,
                                               EPX_BOOT_COMPLETE,   EPX_BOOT_ASSEMBLED, EPX_BOOT_QUERY};
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct epx_boot_message message;
        int fd = raw_connect(key);
        epx_boot_message_init(&message, kinds[i]);
        message.body.items.count = 1;
        if (kinds[i] != EPX_BOOT_QUERY) {
            message.body.get_roster.first = 1;
        }
        assert_int_equal(epx_boot_send(fd, &message, NULL, 0), 0);
        assert_int_equal(raw_receive(fd), 0);
        epx_boot_close(fd);
    }
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    free_outcomes(outcomes, 2);
}

static void join__garbage_is_dropped(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 8, 48, 524, 1040, 5000};
    uint8_t key[32];
    uint8_t garbage[5000];
    make_key(key);
    memset(garbage, 0xa5, sizeof garbage);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int fd = raw_connect(key);
        assert_int_equal(send(fd, garbage, sizes[i], MSG_NOSIGNAL), (ssize_t)sizes[i]);
        assert_int_equal(raw_receive(fd), 0);
        epx_boot_close(fd);
    }
    /* A hello without its arena. */
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_HELLO);
    message.body.hello = (struct epx_boot_hello){.rank = 1, .rank_count = 2, .shared_bytes = sizeof(struct board)};
    int fd = raw_connect(key);
    assert_int_equal(epx_boot_send(fd, &message, NULL, 0), 0);
    assert_int_equal(raw_receive(fd), 0);
    epx_boot_close(fd);
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    free_outcomes(outcomes, 2);
}

/* Says hello as rank 1 with the arena of rank 0's process: one death would stand for two processes, or for none. */
static int pose_with_arena(const uint8_t key[32], const struct epx_arena_id *id, int arena_fd)
{
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_HELLO);
    message.body.hello = (struct epx_boot_hello){
        .rank = 1, .rank_count = 2, .shared_bytes = sizeof(struct board), .pid = (uint32_t)getpid(), .arena = *id};
    int fd = raw_connect(key);
    if (epx_boot_send(fd, &message, &arena_fd, 1) != 0) {
        return 2;
    }
    return raw_receive(fd) == 0 ? 0 : 1;
}

static void join__arena_of_another_process_is_refused(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    struct epx_arena_id id;
    int arena_fd;
    uint64_t reserve_bytes;
    make_key(key);
    assert_int_equal(epx_arena_open_own(), EPX_OK);
    epx_arena_own_info(&id, &arena_fd, &reserve_bytes);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(pose_with_arena(key, &id, STDERR_FILENO));
    }
    int code = 0;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_int_equal(code, 0);
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    free_outcomes(outcomes, 2);
}

/* Another user has taken the name: said at once, and to whom it belongs. */
static void join__meeting_point_of_another_user_is_refused(void **state)
{
    (void)state;
    NEEDS_FORK();
    if (geteuid() != 0) {
        skip();
    }
    uint8_t key[32];
    struct epx_boot_name name;
    make_key(key);
    epx_boot_name_make(key, &name);
    struct outcome *outcomes = make_outcomes(1);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(60);
        if (setuid(65534) == 0 && epx_boot_listen(&name, 16) >= 0) {
            pause();
        }
        _exit(1);
    }
    wait_until_bound(key);
    struct task task;
    start_thread(&task, make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    end_thread(&task);
    char expected[128];
    (void)snprintf(expected, sizeof expected, "the meeting point is held by user 65534 (pid %d), this is user 0",
                   (int)pid);
    must_fail(&outcomes[0], EPX_ERR_RENDEZVOUS, expected);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    free_outcomes(outcomes, 1);
}

/* More silent connections than the centre takes: they are dropped and the ranks behind them get their turn. */
static void join__silent_connections_are_dropped(void **state)
{
    (void)state;
    enum { SILENT = 100 };
    uint8_t key[32];
    int fds[SILENT];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    uint64_t begin = epx_clock_ns();
    struct epx_boot_name name;
    epx_boot_name_make(key, &name);
    fds[0] = raw_connect(key);
    for (int i = 1; i < SILENT; i++) {
        fds[i] = epx_boot_connect(&name);
    }
    assert_int_equal(raw_receive(fds[0]), 0);
    assert_in_range((epx_clock_ns() - begin) / 1000000u, 1900, 30000);
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    for (int i = 0; i < SILENT; i++) {
        if (fds[i] >= 0) {
            epx_boot_close(fds[i]);
        }
    }
    free_outcomes(outcomes, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCHED(join__killed_centre_is_replaced),
        WATCHED(join__failure_of_one_rank_is_told_to_all),
        WATCHED(join__death_while_mapping_is_made_good),
        WATCHED(join__nobody_succeeds_without_all_mapped),
        WATCHED(join__messages_out_of_turn_drop_the_rank),
        WATCHED(join__garbage_is_dropped),
        WATCHED(join__silent_connections_are_dropped),
        WATCHED(join__arena_of_another_process_is_refused),
        WATCHED(join__meeting_point_of_another_user_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
