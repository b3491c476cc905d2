/* Nothing in the control region is trusted: a made-up region, seen by one rank of it. */
#include "base/clock.h"
#include "comm/comm_object.h"
#include "comm/failure.h"
#include "comm/shrink.h"
#include "comm/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define RANKS 3u

static struct epx_comm *made_up_comm(void)
{
    struct epx_comm *comm = calloc(1, sizeof *comm);
    assert_non_null(comm);
    size_t bytes = (size_t)epx_control_bytes(RANKS);
    comm->control = aligned_alloc(EPX_CONTROL_LINE_BYTES, bytes);
    assert_non_null(comm->control);
    memset(comm->control, 0, bytes);
    comm->rank_count = RANKS;
    comm->here_count = RANKS;
    comm->rank = 0;
    comm->slot = &comm->control->slots[0];
    comm->order_tag = epx_step_order_tag((const uint8_t[32]){0});
    atomic_init(&comm->op_timeout_ms, -1);
    (void)pthread_mutex_init(&comm->failure_lock, NULL);
    return comm;
}

static void drop_comm(struct epx_comm *comm)
{
    (void)pthread_mutex_destroy(&comm->failure_lock);
    free(comm->control);
    free(comm);
}

static void open__stamp(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    assert_int_equal(epx_control_open(comm->control, RANKS), EPX_OK);
    assert_int_equal(epx_control_open(comm->control, RANKS), EPX_OK);
    assert_int_equal(epx_control_open(comm->control, RANKS + 1), EPX_ERR_PROTOCOL);
    atomic_store(&comm->control->identity, UINT64_C(0x1234));
    assert_int_equal(epx_control_open(comm->control, RANKS), EPX_ERR_PROTOCOL);
    drop_comm(comm);
}

static void begin__counts_once(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    struct epx_control *control = comm->control;
    const uint64_t first_step = (UINT64_C(1) << 32) - 1;
    assert_int_equal(epx_control_begin(control, first_step, RANKS), EPX_OK);
    assert_int_equal(atomic_load(&control->word.value), epx_word_make(first_step, 0));
    assert_int_equal(atomic_load(&control->arrivals), first_step * RANKS);
    /* A rank that begins when others have gone on, or failed, changes nothing. */
    atomic_fetch_add(&control->arrivals, 1);
    atomic_store(&control->word.value, epx_word_make(first_step, 2));
    assert_int_equal(epx_control_begin(control, first_step, RANKS), EPX_OK);
    assert_int_equal(atomic_load(&control->word.value), epx_word_make(first_step, 2));
    assert_int_equal(atomic_load(&control->arrivals), first_step * RANKS + 1);
    assert_int_equal(epx_control_begin(control, first_step + 1, RANKS), EPX_ERR_RENDEZVOUS);
    assert_int_equal(epx_control_begin(control, 0, RANKS), EPX_ERR_RENDEZVOUS);
    drop_comm(comm);
}

static void begin__from_zero(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    assert_int_equal(epx_control_begin(comm->control, 0, RANKS), EPX_OK);
    assert_int_equal(atomic_load(&comm->control->word.value), 0);
    assert_int_equal(atomic_load(&comm->control->arrivals), 0);
    assert_int_equal(epx_control_begin(comm->control, 5, RANKS), EPX_ERR_RENDEZVOUS);
    drop_comm(comm);
}

static void take__record_of_the_rank(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    struct epx_control_failure *record = &comm->control->slots[1].failure;
    atomic_store(&record->status, EPX_ERR_CAPACITY);
    (void)strcpy(record->text, "no room");
    assert_int_equal(epx_failure_take(comm, epx_word_make(7, 2)), EPX_ERR_CAPACITY);
    assert_string_equal(epx_error_text(), "no room");
    drop_comm(comm);
}

static void take__unterminated_and_unprintable_text(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    struct epx_control_failure *record = &comm->control->slots[1].failure;
    atomic_store(&record->status, EPX_ERR_COUNTS);
    memset(record->text, 'x', sizeof record->text);
    memset(record->pad, 'y', sizeof record->pad);
    record->text[1] = '\x1b';
    record->text[2] = '\n';
    assert_int_equal(epx_failure_take(comm, epx_word_make(7, 2)), EPX_ERR_COUNTS);
    assert_int_equal(strlen(epx_error_text()), EPX_ERROR_TEXT_BYTES - 1);
    assert_memory_equal(epx_error_text(), "x??x", 4);
    drop_comm(comm);
}

static void take__failure_without_a_text(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    atomic_store(&comm->control->slots[1].failure.status, EPX_ERR_COUNTS);
    assert_int_equal(epx_failure_take(comm, epx_word_make(7, 2)), EPX_ERR_COUNTS);
    assert_string_equal(epx_error_text(), "rank 1 failed and has not said why");
    drop_comm(comm);
}

static void take__impossible_rank_or_status(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    assert_int_equal(epx_failure_take(comm, epx_word_make(7, RANKS + 1)), EPX_ERR_PROTOCOL);
    assert_string_equal(epx_error_text(), "the control word names rank 3 as failed, there are 3 ranks");
    assert_int_equal(epx_failure_take(comm, epx_word_make(7, 2)), EPX_ERR_PROTOCOL);
    assert_string_equal(epx_error_text(), "rank 1 failed with the unknown status 0");
    atomic_store(&comm->control->slots[1].failure.status, 4711);
    assert_int_equal(epx_failure_take(comm, epx_word_make(7, 2)), EPX_ERR_PROTOCOL);
    drop_comm(comm);
}

static void offer__only_at_its_step(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    atomic_store(&comm->control->word.value, epx_word_make(8, 0));
    epx_failure_offer(comm, 7, EPX_ERR_TIMEOUT, "too late");
    assert_int_equal(atomic_load(&comm->control->word.value), epx_word_make(8, 0));
    epx_failure_offer(comm, 8, EPX_ERR_TIMEOUT, "in time");
    assert_int_equal(atomic_load(&comm->control->word.value), epx_word_make(8, 1));
    epx_failure_offer(comm, 8, EPX_ERR_COUNTS, "second");
    assert_int_equal(epx_failure_force(comm, EPX_ERR_COUNTS, "third"), EPX_ERR_TIMEOUT);
    assert_string_equal(epx_error_text(), "in time");
    drop_comm(comm);
}

static enum epx_status step_pass(struct epx_comm *comm, uint64_t *waited_ns)
{
    bool pending;
    EPX_TRY(epx_step_arrive(comm, true));
    return epx_step_await(comm, EPX_NEVER, waited_ns, &pending);
}

/* A word that is ahead of this rank, or behind it, and a count that is too high. */
static void pass__impossible_word(void **state)
{
    (void)state;
    static const uint64_t steps[] = {0, 3, 9, UINT64_C(1) << 47};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct epx_comm *comm = made_up_comm();
        uint64_t waited_ns = 0;
        comm->step = 5;
        atomic_store(&comm->control->arrivals, RANKS * 5);
        atomic_store(&comm->control->word.value, epx_word_make(steps[i], 0));
        assert_int_equal(step_pass(comm, &waited_ns), EPX_ERR_PROTOCOL);
        assert_int_equal(epx_word_failed(atomic_load(&comm->control->word.value)), 1);
        drop_comm(comm);
    }
    struct epx_comm *comm = made_up_comm();
    uint64_t waited_ns = 0;
    atomic_store(&comm->control->arrivals, RANKS);
    assert_int_equal(step_pass(comm, &waited_ns), EPX_ERR_PROTOCOL);
    drop_comm(comm);
}

/* The others have arrived and said nothing more: this rank's own arrival completes the step. */
static void pass__last_to_arrive(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    uint64_t waited_ns = 0;
    atomic_store(&comm->control->arrivals, RANKS - 1);
    assert_int_equal(step_pass(comm, &waited_ns), EPX_OK);
    assert_int_equal(atomic_load(&comm->control->word.value), epx_word_make(1, 0));
    assert_int_equal(comm->step, 1);
    assert_int_equal(atomic_load(&comm->slot->arrived_step), 1);
    drop_comm(comm);
}

static void activity__round_trip(void **state)
{
    (void)state;
    uint64_t activity = epx_activity_make(UINT64_C(0xFFFFFFFFFFFF), EPX_OPERATION_BARRIER, EPX_PHASE_DONE);
    assert_int_equal(epx_activity_round(activity), UINT64_C(0xFFFFFFFFFFFF));
    assert_string_equal(epx_operation_name(epx_activity_operation(activity)), "barrier");
    assert_string_equal(epx_phase_name(epx_activity_phase(activity)), "DONE");
    assert_string_equal(epx_operation_name(250), "an unknown operation");
    assert_string_equal(epx_phase_name(250), "UNKNOWN");
}

static enum epx_status shrink_with(struct epx_comm *comm, uint64_t word)
{
    const struct epx_shrink_request request = {.timeout_ms = 10};
    struct epx_comm *next = NULL;
    uint8_t fates[RANKS];
    atomic_store(&comm->control->shrink.value, word);
    return epx_shrink_run(comm, &request, fates, &next);
}

/* A rank that has taken part in generation 1 and calls again, whatever that is said to have decided. */
static void shrink__made_up_decisions(void **state)
{
    (void)state;
    struct epx_comm *comm = made_up_comm();
    comm->process = getpid();
    comm->shrink_generation = 1;
    atomic_store(&comm->control->word.value, epx_word_make(0, 2));
    assert_int_equal(shrink_with(comm, epx_word_make(1, RANKS + 1)), EPX_ERR_PROTOCOL);
    assert_string_equal(epx_error_text(), "rank 3 of 3 is said to have decided who goes on");
    assert_int_equal(shrink_with(comm, epx_word_make(1, 0)), EPX_ERR_PROTOCOL);
    atomic_store(epx_control_list(comm->control, RANKS, 1, 1), 0x700);
    assert_int_equal(shrink_with(comm, epx_word_make(1, 2)), EPX_ERR_PROTOCOL);
    assert_string_equal(epx_error_text(), "rank 1 decided the unknown fate 7");
    atomic_store(epx_control_list(comm->control, RANKS, 1, 1), EPX_SHRINK_SILENT);
    assert_int_equal(shrink_with(comm, epx_word_make(1, 2)), EPX_ERR_PEER_LEFT);
    assert_int_equal(shrink_with(comm, epx_word_make(2, 2)), EPX_ERR_PEER_LEFT);
    struct epx_hosts hosts = {.host_count = 2};
    comm->hosts = &hosts;
    assert_int_equal(shrink_with(comm, 0), EPX_ERR_UNSUPPORTED);
    drop_comm(comm);
}

static void list__lies_behind_the_slots(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 16, 17, 256, 257, EPX_COMM_RANK_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t count = counts[i];
        size_t bytes = (size_t)epx_control_bytes(count);
        struct epx_control *control = aligned_alloc(EPX_CONTROL_LINE_BYTES, bytes);
        assert_non_null(control);
        size_t first = (size_t)((char *)epx_control_list(control, count, 0, 0) - (char *)control);
        size_t last = (size_t)((char *)epx_control_list(control, count, count - 1, 1) - (char *)control);
        assert_true(first >= sizeof *control + count * sizeof(struct epx_control_slot));
        assert_int_equal(first % EPX_CONTROL_LINE_BYTES, 0);
        assert_true((count + 15) / 16 <= epx_control_list_words(count));
        assert_true(last + 8 * epx_control_list_words(count) <= bytes);
        assert_ptr_equal(epx_control_list(control, count, 0, 2), epx_control_list(control, count, 0, 0));
        free(control);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shrink__made_up_decisions),
        cmocka_unit_test(list__lies_behind_the_slots),
        cmocka_unit_test(open__stamp),
        cmocka_unit_test(begin__counts_once),
        cmocka_unit_test(begin__from_zero),
        cmocka_unit_test(take__record_of_the_rank),
        cmocka_unit_test(take__unterminated_and_unprintable_text),
        cmocka_unit_test(take__failure_without_a_text),
        cmocka_unit_test(take__impossible_rank_or_status),
        cmocka_unit_test(offer__only_at_its_step),
        cmocka_unit_test(pass__impossible_word),
        cmocka_unit_test(pass__last_to_arrive),
        cmocka_unit_test(activity__round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
