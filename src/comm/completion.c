#include "comm/completion.h"

#include "base/clock.h"
#include "base/fault.h"
#include "comm/comm_object.h"
#include "comm/failure.h"
#include "comm/health.h"
#include "comm/remote.h"
#include "comm/step.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Longest sleep of a rank that waits for its own earlier round, between two looks at the others. */
#define TURN_SLICE_NS 10000000u

/* Exchange regions come from arenas, whose allocations are aligned to this. */
#define EXCHANGE_ALIGN 64u

static void activity_set(const struct epx_round *round, enum epx_phase phase)
{
    struct epx_control_slot *slot = round->comm->slot;
    uint64_t activity = epx_activity_make(round->number, round->operation, phase);
    atomic_store_explicit(&slot->since_ns, epx_clock_ns(), memory_order_relaxed);
    atomic_store_explicit(&slot->activity, activity, memory_order_relaxed);
}

static void count_ended(struct epx_comm *comm)
{
    (void)pthread_mutex_lock(&comm->queue_lock);
    comm->ended++;
    comm->idle_since_ns = 0;
    (void)pthread_cond_broadcast(&comm->queue_moved);
    (void)pthread_mutex_unlock(&comm->queue_lock);
}

static void round_over(struct epx_round *round)
{
    activity_set(round, EPX_PHASE_IDLE);
    round->is_over = true;
    count_ended(round->comm);
}

static enum epx_status check_running(const struct epx_round *round)
{
    if (round->is_over) {
        return epx_fail(EPX_ERR_STATE, "%s round %" PRIu64 " is over", epx_operation_name(round->operation),
                        round->number);
    }
    return EPX_OK;
}

static void turn_sleep(struct epx_comm *comm, uint64_t limit_ns)
{
    uint64_t until_ns = epx_clock_ns() + TURN_SLICE_NS;
    until_ns = until_ns < limit_ns ? until_ns : limit_ns;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
    (void)pthread_cond_timedwait(&comm->queue_moved, &comm->queue_lock, &until);
}

/*
 * Why the turn will not come, with the text; EPX_OK: nothing speaks against it. With queue_lock held. While the earlier
 * round runs nothing is its fault: the waits of that round have deadlines and look at the others. While none runs, this
 * wait is the one that watches, in however many pieces it is made.
 */
static enum epx_status turn_examine(const struct epx_round *round, char *text, size_t text_bytes)
{
    struct epx_comm *comm = round->comm;
    if (comm->begun > comm->ended) {
        return EPX_OK;
    }
    uint64_t activity = epx_activity_make(round->number, round->operation, EPX_PHASE_ENTER);
    EPX_TRY(epx_health_examine(comm, comm->step + 1, activity, text, text_bytes));
    int64_t timeout_ms = atomic_load_explicit(&comm->op_timeout_ms, memory_order_relaxed);
    uint64_t now_ns = epx_clock_ns();
    if (comm->idle_since_ns == 0) {
        comm->idle_since_ns = now_ns;
    }
    uint64_t waited_ns = now_ns - comm->idle_since_ns;
    if (timeout_ms < 0 || waited_ns / 1000000u < (uint64_t)timeout_ms) {
        return EPX_OK;
    }
    (void)snprintf(text, text_bytes, "%s round %" PRIu64 " of rank %u has waited %.1f s for its round %" PRIu64,
                   epx_operation_name(round->operation), round->number, comm->rank, (double)waited_ns / 1e9,
                   comm->ended + 1);
    return EPX_ERR_TIMEOUT;
}

/* Waits, with queue_lock held, until the round's turn has come, the communicator has failed, until_ns has passed
 * (*pending), or the turn will not come, which alone is not EPX_OK. After a failure rounds end in any order, so the
 * failure is looked at first. */
static enum epx_status turn_wait(const struct epx_round *round, uint64_t until_ns, bool *pending, char *text,
                                 size_t text_bytes)
{
    struct epx_comm *comm = round->comm;
    while (!epx_comm_failed(comm)) {
        if (comm->ended + 1 >= round->number) {
            comm->begun = round->number;
            return EPX_OK;
        }
        EPX_TRY(turn_examine(round, text, text_bytes));
        if (until_ns != EPX_NEVER && epx_clock_ns() >= until_ns) {
            *pending = true;
            return EPX_OK;
        }
        turn_sleep(comm, until_ns);
    }
    return EPX_OK;
}

static enum epx_status turn_take(const struct epx_round *round, uint64_t until_ns, bool *pending)
{
    struct epx_comm *comm = round->comm;
    char text[EPX_ERROR_TEXT_BYTES];
    (void)pthread_mutex_lock(&comm->queue_lock);
    enum epx_status status = turn_wait(round, until_ns, pending, text, sizeof text);
    (void)pthread_mutex_unlock(&comm->queue_lock);
    if (status != EPX_OK) {
        return epx_failure_force(comm, status, text);
    }
    if (*pending) {
        return EPX_OK;
    }
    uint64_t word = atomic_load_explicit(&comm->control->word.value, memory_order_acquire);
    return epx_word_failed(word) == 0 ? EPX_OK : epx_failure_take(comm, word);
}

static void entry_publish(const struct epx_round *round, const struct epx_agreement *agreement,
                          const struct epx_publication *publication)
{
    struct epx_control_entry *entry = &round->comm->slot->entries[round->number & 1];
    entry->step = round->comm->step + 1;
    entry->round = round->number;
    entry->operation = round->operation;
    entry->agreement = *agreement;
    entry->publication = publication != NULL ? *publication : (struct epx_publication){0};
}

/* What a rank put up at the step just passed. A rank that is in another round has it in the other entry. */
static void entry_copy(const struct epx_round *round, uint32_t rank, struct epx_agreement_entry *copy)
{
    const struct epx_control_entry *entries = round->comm->control->slots[rank].entries;
    *copy = (struct epx_agreement_entry){0};
    for (uint64_t i = 0; i < 2; i++) {
        const struct epx_control_entry *entry = &entries[(round->number + i) & 1];
        if (entry->step == round->comm->step) {
            copy->round = entry->round;
            copy->operation = entry->operation;
            copy->agreement = entry->agreement;
            return;
        }
    }
}

static enum epx_status fail_with(struct epx_round *round, enum epx_status status, const char *text)
{
    enum epx_status first = epx_failure_force(round->comm, status, text);
    round_over(round);
    return first;
}

uint64_t epx_round_reserve(struct epx_comm *comm)
{
    return atomic_fetch_add_explicit(&comm->reserved, 1, memory_order_relaxed) + 1;
}

enum epx_status epx_round_begin_until(struct epx_round *round, struct epx_comm *comm, uint64_t number,
                                      enum epx_operation operation, uint64_t until_ns, bool *pending)
{
    *pending = false;
    *round = (struct epx_round){.comm = comm, .number = number, .operation = operation};
    /* A child of fork goes no further: the lock may have been held at the fork. */
    uint64_t reserved = atomic_load_explicit(&comm->reserved, memory_order_relaxed);
    if (number == 0 || comm->process != getpid() || number > reserved) {
        round->is_over = true;
        return epx_fail(EPX_ERR_STATE, "round %" PRIu64 " was not reserved on communicator %s of this process", number,
                        comm->name);
    }
    enum epx_status status = turn_take(round, until_ns, pending);
    if (*pending) {
        return EPX_OK;
    }
    if (status != EPX_OK) {
        round->is_over = true;
        count_ended(comm);
        return status;
    }
    activity_set(round, EPX_PHASE_ENTER);
    comm->paces = true;
    if (epx_fault("round.begin", (int)comm->rank)) {
        return fail_with(round, EPX_ERR_INTERNAL, "fault point round.begin");
    }
    return EPX_OK;
}

enum epx_status epx_round_begin(struct epx_round *round, struct epx_comm *comm, uint64_t number,
                                enum epx_operation operation)
{
    bool pending;
    return epx_round_begin_until(round, comm, number, operation, EPX_NEVER, &pending);
}

enum epx_status epx_round_publish(struct epx_round *round, const struct epx_agreement *agreement,
                                  const struct epx_publication *publication)
{
    EPX_TRY(check_running(round));
    if (epx_fault("round.publish", (int)round->comm->rank)) {
        return fail_with(round, EPX_ERR_INTERNAL, "fault point round.publish");
    }
    entry_publish(round, agreement, publication);
    return EPX_OK;
}

void epx_round_publish_for(struct epx_round *round, uint32_t rank, const struct epx_remote_entry *remote,
                           const struct epx_publication *publication)
{
    struct epx_control_entry *entry = &round->comm->control->slots[rank].entries[remote->round & 1];
    entry->step = remote->step;
    entry->round = remote->round;
    entry->operation = remote->operation;
    entry->agreement = remote->agreement;
    entry->publication = *publication;
}

enum epx_status epx_round_arrive(struct epx_round *round, enum epx_phase phase)
{
    EPX_TRY(check_running(round));
    activity_set(round, phase);
    round->phase = phase;
    bool is_last = phase == EPX_PHASE_DONE || round->operation == EPX_OPERATION_BARRIER;
    enum epx_status status = epx_step_arrive(round->comm, is_last);
    if (status != EPX_OK) {
        round_over(round);
    }
    return status;
}

enum epx_status epx_round_await(struct epx_round *round, uint64_t until_ns, bool *pending)
{
    *pending = false;
    EPX_TRY(check_running(round));
    size_t phase_count = sizeof round->waited_ns / sizeof round->waited_ns[0];
    uint64_t *waited_ns = &round->waited_ns[(size_t)round->phase % phase_count];
    enum epx_status status = epx_step_await(round->comm, until_ns, waited_ns, pending);
    if (status != EPX_OK) {
        round_over(round);
        return status;
    }
    if (!*pending) {
        /* What comes after ENTER is the rows, and after them the end. */
        activity_set(round, round->phase == EPX_PHASE_ENTER ? EPX_PHASE_ROWS : EPX_PHASE_DONE);
    }
    return EPX_OK;
}

enum epx_status epx_round_agree(struct epx_round *round, const struct epx_agreement_field *fields, uint32_t field_count)
{
    EPX_TRY(check_running(round));
    struct epx_comm *comm = round->comm;
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        entry_copy(round, rank, &comm->entries[rank]);
    }
    char text[EPX_ERROR_TEXT_BYTES];
    if (!epx_agreement_equal(comm->entries, comm->rank_count, fields, field_count, text, sizeof text)) {
        return fail_with(round, EPX_ERR_MISMATCH, text);
    }
    return EPX_OK;
}

enum epx_status epx_round_enter(struct epx_round *round, const struct epx_agreement *agreement,
                                const struct epx_agreement_field *fields, uint32_t field_count,
                                const struct epx_publication *publication)
{
    EPX_TRY(epx_round_publish(round, agreement, publication));
    EPX_TRY(epx_remote_enter(round));
    EPX_TRY(epx_round_step(round, EPX_PHASE_ENTER));
    return epx_round_agree(round, fields, field_count);
}

enum epx_status epx_round_step(struct epx_round *round, enum epx_phase phase)
{
    bool pending;
    EPX_TRY(epx_round_arrive(round, phase));
    return epx_round_await(round, EPX_NEVER, &pending);
}

enum epx_status epx_round_fail(struct epx_round *round, enum epx_status status, const char *format, ...)
{
    EPX_TRY(check_running(round));
    char text[EPX_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail_with(round, status, text);
}

void epx_round_end(struct epx_round *round)
{
    if (!round->is_over) {
        round_over(round);
    }
}

enum epx_status epx_round_peer(struct epx_round *round, uint32_t rank, const void **exchange, uint64_t *bytes)
{
    EPX_TRY(check_running(round));
    struct epx_comm *comm = round->comm;
    *exchange = NULL;
    *bytes = 0;
    if (rank >= comm->rank_count) {
        return epx_round_fail(round, EPX_ERR_INTERNAL, "no rank %u among %u", rank, comm->rank_count);
    }
    struct epx_publication publication = comm->control->slots[rank].entries[round->number & 1].publication;
    if (publication.bytes == 0) {
        return EPX_OK;
    }
    const void *address = epx_comm_peer_at(comm, rank, publication.offset, publication.bytes);
    if (address == NULL || publication.offset % EXCHANGE_ALIGN != 0) {
        return epx_round_fail(round, EPX_ERR_PROTOCOL,
                              "rank %u published an exchange region of %" PRIu64 " bytes at offset %" PRIu64
                              " that is not in its arena",
                              rank, publication.bytes, publication.offset);
    }
    *exchange = address;
    *bytes = publication.bytes;
    return EPX_OK;
}

void epx_round_pace(struct epx_round *round)
{
    epx_step_pace(round->comm);
}

void epx_round_skip(struct epx_round *round, uint64_t parts)
{
    round->comm->parts += parts;
    atomic_fetch_add_explicit(&round->comm->control->parts, parts, memory_order_relaxed);
}
