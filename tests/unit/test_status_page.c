/* What a copy of a control region is taken for: a good one, one of a container, a damaged one, any bytes. */
#include "base/clock.h"
#include "comm/jobs.h"
#include "comm/status_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define RANKS    3u
#define SECOND   UINT64_C(1000000000)
#define NOW_NS   (100 * SECOND)
#define GARBAGE  4000
#define OTHER_NS 7u

static struct epx_control *made_up(void)
{
    struct epx_control *control = aligned_alloc(EPX_CONTROL_LINE_BYTES, (size_t)epx_control_bytes(RANKS));
    struct epx_process self;
    assert_non_null(control);
    memset(control, 0, (size_t)epx_control_bytes(RANKS));
    assert_true(epx_process_read(getpid(), &self));
    assert_int_equal(self.state, EPX_PROCESS_LIVES);
    assert_int_equal(epx_control_open(control, RANKS), EPX_OK);
    (void)strcpy(control->name, "made up");
    (void)strcpy(control->job, "j");
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        struct epx_control_slot *slot = &control->slots[rank];
        slot->process.pid = (uint32_t)getpid();
        slot->process.pid_namespace = epx_process_namespace("pid");
        slot->process.time_namespace = epx_process_namespace("time");
        slot->process.start_ticks = self.start_ticks;
        atomic_store(&slot->life, EPX_LIFE_JOINED);
        atomic_store(&slot->op_timeout_ms, -1);
        atomic_store(&slot->since_ns, NOW_NS - 5 * SECOND);
    }
    return control;
}

/* Ranks 0 and 1 wait in dispatch round 7 for rank 2, which is at its rows: 5 steps are complete. */
static struct epx_control *made_up_wait(void)
{
    struct epx_control *control = made_up();
    atomic_store(&control->word.value, epx_word_make(5, 0));
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        struct epx_control_slot *slot = &control->slots[rank];
        enum epx_phase phase = rank == 2 ? EPX_PHASE_ROWS : EPX_PHASE_DONE;
        atomic_store(&slot->arrived_step, rank == 2 ? 5 : 6);
        atomic_store(&slot->activity, epx_activity_make(7, EPX_OPERATION_DISPATCH, phase));
    }
    return control;
}

static struct epx_status_page page_of(const struct epx_control *control)
{
    struct epx_process processes[RANKS];
    struct epx_status_page page;
    uint32_t rank_count = 0;
    assert_int_equal(epx_status_page_check(control, epx_control_bytes(RANKS), &rank_count), EPX_OK);
    assert_int_equal(rank_count, RANKS);
    epx_status_page_look(control, RANKS, processes);
    assert_int_equal(epx_status_page_read(control, epx_control_bytes(RANKS), NOW_NS, processes, RANKS, &page), EPX_OK);
    return page;
}

static void read__nobody_waits(void **state)
{
    (void)state;
    struct epx_control *control = made_up();
    struct epx_status_page page = page_of(control);
    assert_string_equal(page.name, "made up");
    assert_string_equal(page.job, "j");
    assert_string_equal(page.blame, "");
    assert_true(page.is_healthy);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        assert_int_equal(page.ranks[rank].life, EPX_RANK_ALIVE);
        assert_true(page.ranks[rank].is_pid_here);
        assert_int_equal(page.ranks[rank].for_ns, 5 * SECOND);
    }
    epx_status_page_fini(&page);
    free(control);
}

static void read__wait_and_deadline(void **state)
{
    (void)state;
    char expected[160];
    struct epx_control *control = made_up_wait();
    struct epx_status_page page = page_of(control);
    (void)snprintf(expected, sizeof expected,
                   "rank 2 (pid %d) has not reached phase DONE of dispatch round 7; ranks 0-1 have waited 5.0 s",
                   (int)getpid());
    assert_string_equal(page.blame, expected);
    assert_string_equal(page.late, "rank 2");
    assert_true(page.ranks[0].waits && page.ranks[1].waits && !page.ranks[2].waits);
    assert_false(page.is_overdue);
    assert_true(page.is_healthy);
    epx_status_page_fini(&page);
    /* The one that has waited longest is the one whose deadline counts. */
    atomic_store(&control->slots[1].since_ns, NOW_NS - 9 * SECOND);
    atomic_store(&control->slots[0].op_timeout_ms, 1);
    atomic_store(&control->slots[1].op_timeout_ms, 9001);
    page = page_of(control);
    assert_false(page.is_overdue);
    epx_status_page_fini(&page);
    atomic_store(&control->slots[1].op_timeout_ms, 9000);
    page = page_of(control);
    assert_true(page.is_overdue);
    assert_false(page.is_healthy);
    epx_status_page_fini(&page);
    free(control);
}

static void read__failure(void **state)
{
    (void)state;
    struct epx_control *control = made_up_wait();
    atomic_store(&control->word.value, epx_word_make(5, 2));
    atomic_store(&control->slots[1].failure.status, EPX_ERR_CAPACITY);
    (void)strcpy(control->slots[1].failure.text, "no \x1b room");
    struct epx_status_page page = page_of(control);
    assert_int_equal(page.failed, 2);
    assert_int_equal(page.failure, EPX_ERR_CAPACITY);
    assert_string_equal(page.failure_text, "no ? room");
    assert_string_equal(page.blame, "");
    assert_false(page.is_healthy);
    epx_status_page_fini(&page);
    atomic_store(&control->word.value, epx_word_make(5, RANKS + 1));
    page = page_of(control);
    assert_int_equal(page.failure, EPX_ERR_PROTOCOL);
    epx_status_page_fini(&page);
    free(control);
}

/* A pid that is another process's by now, and one that is of another namespace. */
static void read__whose_process(void **state)
{
    (void)state;
    struct epx_control *control = made_up_wait();
    control->slots[2].process.start_ticks += 1;
    struct epx_status_page page = page_of(control);
    assert_int_equal(page.ranks[2].life, EPX_RANK_DIED);
    assert_true(page.is_overdue);
    assert_non_null(strstr(page.blame, " died in dispatch round 7 (phase ROWS)"));
    epx_status_page_fini(&page);
    control->slots[2].process.pid_namespace = OTHER_NS;
    control->slots[1].process.time_namespace = OTHER_NS;
    page = page_of(control);
    assert_int_equal(page.ranks[2].life, EPX_RANK_JOINED);
    assert_false(page.ranks[2].is_pid_here);
    assert_false(page.ranks[1].has_clock);
    assert_true(page.is_healthy);
    struct epx_jobs jobs = {.pages = &page, .page_count = 1};
    char text[4096] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    epx_jobs_print_ranks(&jobs, out);
    (void)fclose(out);
    assert_non_null(strstr(text, "pid namespace"));
    assert_non_null(strstr(text, "time namespace"));
    epx_status_page_fini(&page);
    free(control);
}

static void check__other_layouts(void **state)
{
    (void)state;
    struct epx_control *control = made_up();
    uint32_t ranks = 0;
    uint64_t bytes = epx_control_bytes(RANKS);
    assert_int_equal(epx_status_page_check(control, sizeof *control - 1, &ranks), EPX_ERR_PROTOCOL);
    assert_int_equal(epx_status_page_check(control, bytes - 1, &ranks), EPX_ERR_PROTOCOL);
    atomic_store(&control->identity, epx_control_identity(RANKS) - (1u << 16));
    assert_int_equal(epx_status_page_check(control, bytes, &ranks), EPX_ERR_PROTOCOL);
    assert_non_null(strstr(epx_error_text(), "layout version 4"));
    atomic_store(&control->identity, epx_control_identity(0));
    assert_int_equal(epx_status_page_check(control, bytes, &ranks), EPX_ERR_PROTOCOL);
    atomic_store(&control->identity, epx_control_identity(0xFFFF));
    assert_int_equal(epx_status_page_check(control, bytes, &ranks), EPX_ERR_PROTOCOL);
    atomic_store(&control->identity, UINT64_C(0x1234));
    assert_int_equal(epx_status_page_check(control, bytes, &ranks), EPX_ERR_PROTOCOL);
    atomic_store(&control->identity, 0);
    assert_int_equal(epx_status_page_check(control, bytes, &ranks), EPX_ERR_STATE);
    free(control);
}

static void json__any_text(void **state)
{
    (void)state;
    struct epx_control *control = made_up();
    (void)strcpy(control->name, "a\"b\\c\n\xC3\xA9\xFF\xE4\xBD\xA0\xE4");
    struct epx_status_page page = page_of(control);
    struct epx_jobs jobs = {.pages = &page, .page_count = 1};
    char text[4096] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    epx_jobs_print_json(&jobs, out);
    (void)fclose(out);
    assert_non_null(strstr(text, "\"name\":\"a\\\"b\\\\c?\xC3\xA9?\xE4\xBD\xA0?\""));
    epx_status_page_fini(&page);
    free(control);
}

static void print_all(struct epx_status_page *page)
{
    struct epx_jobs jobs = {.pages = page, .page_count = 1};
    FILE *out = fopen("/dev/null", "w");
    assert_non_null(out);
    epx_jobs_print_ranks(&jobs, out);
    epx_jobs_print_list(&jobs, out);
    epx_jobs_print_json(&jobs, out);
    (void)fclose(out);
}

/* Every byte random behind a good stamp; the block is no longer than it says, so that a sanitizer sees a read beyond.
 */
static void read__garbage(void **state)
{
    (void)state;
    unsigned seed = 1;
    size_t bytes = (size_t)epx_control_bytes(RANKS);
    for (int i = 0; i < GARBAGE; i++) {
        struct epx_control *control = aligned_alloc(EPX_CONTROL_LINE_BYTES, bytes);
        struct epx_process processes[RANKS];
        struct epx_status_page page;
        assert_non_null(control);
        for (size_t byte = 0; byte < bytes; byte++) {
            ((unsigned char *)control)[byte] = (unsigned char)(rand_r(&seed) >> 8);
        }
        atomic_store(&control->identity, epx_control_identity(RANKS));
        /* Sometimes a failed word, sometimes a wait. */
        if (i % 2 == 0) {
            atomic_store(&control->word.value, epx_word_make((uint64_t)i, (uint32_t)i % 6));
        }
        epx_status_page_look(control, RANKS, processes);
        assert_int_equal(epx_status_page_read(control, bytes, NOW_NS, processes, RANKS, &page), EPX_OK);
        print_all(&page);
        epx_status_page_fini(&page);
        free(control);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read__nobody_waits),   cmocka_unit_test(read__wait_and_deadline),
        cmocka_unit_test(read__failure),        cmocka_unit_test(read__whose_process),
        cmocka_unit_test(check__other_layouts), cmocka_unit_test(json__any_text),
        cmocka_unit_test(read__garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
