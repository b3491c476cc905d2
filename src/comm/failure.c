#include "comm/failure.h"

#include "base/fault.h"
#include "base/futex.h"
#include "memory/arena_stray.h"

#include <stdio.h>
#include <string.h>

static bool status_is_failure(uint32_t status)
{
    return status != EPX_OK &&
           strcmp(epx_status_phrase((enum epx_status)status), epx_status_phrase((enum epx_status) - 1)) != 0;
}

enum epx_status epx_failure_read(const struct epx_control *control, uint32_t rank_count, uint64_t word)
{
    uint32_t rank = epx_word_failed(word) - 1;
    if (rank >= rank_count) {
        return epx_fail(EPX_ERR_PROTOCOL, "the control word names rank %u as failed, there are %u ranks", rank,
                        rank_count);
    }
    const struct epx_control_failure *record = &control->slots[rank].failure;
    uint32_t status = atomic_load_explicit(&record->status, memory_order_relaxed);
    if (!status_is_failure(status)) {
        return epx_fail(EPX_ERR_PROTOCOL, "rank %u failed with the unknown status %u", rank, status);
    }
    char text[EPX_ERROR_TEXT_BYTES];
    epx_control_text_copy(text, record->text, sizeof text);
    epx_error_text_set(text);
    return (enum epx_status)status;
}

enum epx_status epx_failure_take(const struct epx_comm *comm, uint64_t word)
{
    epx_arena_readers_stray();
    return epx_failure_read(comm->control, comm->rank_count, word);
}

void epx_word_wake(struct epx_control *control)
{
    if (atomic_load_explicit(&control->sleepers, memory_order_seq_cst) != 0) {
        epx_futex_wake_all(&control->word.low);
    }
}

void epx_failure_offer(struct epx_comm *comm, uint64_t step, enum epx_status status, const char *text)
{
    struct epx_control *control = comm->control;
    uint64_t expected = epx_word_make(step, 0);
    bool changed = false;
    /* Nobody reads the record before the word names this rank, and from then on it never changes: it is written under
     * the lock, only while the word is not failed. So an offer that came too late may be followed by another one. */
    (void)pthread_mutex_lock(&comm->failure_lock);
    if (atomic_load_explicit(&control->word.value, memory_order_acquire) == expected) {
        struct epx_control_failure *record = &comm->slot->failure;
        atomic_store_explicit(&record->status, (uint32_t)status, memory_order_relaxed);
        (void)snprintf(record->text, sizeof record->text, "%s", text);
        (void)epx_fault("round.fail", (int)comm->rank);
        changed = atomic_compare_exchange_strong(&control->word.value, &expected, epx_word_make(step, comm->rank + 1));
    }
    (void)pthread_mutex_unlock(&comm->failure_lock);
    if (changed) {
        epx_word_wake(control);
    }
}

enum epx_status epx_failure_force(struct epx_comm *comm, enum epx_status status, const char *text)
{
    /* Another try only when a step was completed in between: that needs an arrival of every rank, this one included. */
    for (;;) {
        uint64_t word = atomic_load_explicit(&comm->control->word.value, memory_order_acquire);
        if (epx_word_failed(word) != 0) {
            return epx_failure_take(comm, word);
        }
        epx_failure_offer(comm, epx_word_step(word), status, text);
    }
}
