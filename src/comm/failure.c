#include "comm/failure.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/futex.h"
#include "comm/agent.h"
#include "memory/arena_stray.h"

#include <stdio.h>
#include <string.h>

bool epx_failure_status_exists(uint32_t status)
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
    if (!epx_failure_status_exists(status)) {
        return epx_fail(EPX_ERR_PROTOCOL, "rank %u failed with the unknown status %u", rank, status);
    }
    char text[EPX_ERROR_TEXT_BYTES];
    epx_control_text_copy(text, record->text, sizeof text);
    if (text[0] == '\0') {
        return epx_fail((enum epx_status)status, "rank %u failed and has not said why", rank);
    }
    epx_error_text_set(text);
    return (enum epx_status)status;
}

enum epx_status epx_failure_take(const struct epx_comm *comm, uint64_t word)
{
    epx_arena_readers_stray();
    if (comm->hosts != NULL && comm->hosts->agent != NULL) {
        epx_agent_settle(comm->hosts->agent);
    }
    return epx_failure_read(comm->control, comm->rank_count, word);
}

void epx_word_wake(struct epx_control *control)
{
    if (atomic_load_explicit(&control->sleepers, memory_order_seq_cst) != 0) {
        epx_futex_wake_all(&control->word.low);
    }
}

bool epx_word_complete(struct epx_control *control, uint64_t step)
{
    uint64_t expected = epx_word_make(step - 1, 0);
    if (!atomic_compare_exchange_strong(&control->word.value, &expected, epx_word_make(step, 0))) {
        return false;
    }
    epx_word_wake(control);
    return true;
}

static void record_write(struct epx_comm *comm, enum epx_status status, const char *text)
{
    struct epx_control_failure *record = &comm->slot->failure;
    atomic_store_explicit(&record->status, (uint32_t)status, memory_order_relaxed);
    (void)snprintf(record->text, sizeof record->text, "%s", text);
}

void epx_bell_ring(struct epx_control *control)
{
    (void)atomic_fetch_add(&control->bell, 1);
    epx_futex_wake_all(&control->bell);
}

/* Whether this host's agent can say what was decided: its rank is there, and it is not stopped. */
static bool agent_lives(const struct epx_comm *comm)
{
    uint32_t leader = epx_hosts_leader(comm->hosts, comm->hosts->own_host);
    uint32_t life = atomic_load_explicit(&comm->control->slots[leader].life, memory_order_acquire);
    uint64_t beat_ns = atomic_load_explicit(&comm->control->agent_ns, memory_order_relaxed);
    if (life == EPX_LIFE_LEFT || (leader != comm->rank && epx_arena_owner_dead(comm->arenas[leader]))) {
        return false;
    }
    return epx_clock_ns() < beat_ns + 2 * comm->hosts->silence_ns; /* host 0 has lost this host long before */
}

/* Whether another host decides, and this host's agent lives to say what it has decided. */
static bool decided_elsewhere(struct epx_comm *comm)
{
    if (comm->hosts == NULL ||
        atomic_load_explicit(&comm->control->decider, memory_order_acquire) != EPX_DECIDER_AGENT) {
        return false;
    }
    if (agent_lives(comm)) {
        return true;
    }
    atomic_store_explicit(&comm->control->decider, EPX_DECIDER_HERE, memory_order_release);
    return false;
}

/* Whether this rank's record is what it proposed: host 0 may decide so yet, in words that then are final. Also of a
 * proposal that has become void, when the agent died before it took it back. */
static bool is_proposed(const struct epx_comm *comm)
{
    uint64_t proposal = atomic_load_explicit(&comm->control->proposal, memory_order_acquire);
    return epx_word_failed(proposal) == comm->rank + 1;
}

/* Asks for a decision, unless somebody here has asked already: then that one is the cause. */
static void propose(struct epx_comm *comm, uint64_t step, enum epx_status status, const char *text)
{
    struct epx_control *control = comm->control;
    uint64_t expected = 0;
    (void)pthread_mutex_lock(&comm->failure_lock);
    if (atomic_load_explicit(&control->word.value, memory_order_acquire) == epx_word_make(step, 0) &&
        atomic_load_explicit(&control->proposal, memory_order_acquire) == 0) {
        record_write(comm, status, text);
        (void)atomic_compare_exchange_strong(&control->proposal, &expected, epx_word_make(step, comm->rank + 1));
    }
    (void)pthread_mutex_unlock(&comm->failure_lock);
    epx_bell_ring(control);
}

void epx_failure_offer(struct epx_comm *comm, uint64_t step, enum epx_status status, const char *text)
{
    struct epx_control *control = comm->control;
    if (decided_elsewhere(comm)) {
        propose(comm, step, status, text);
        return;
    }
    uint64_t expected = epx_word_make(step, 0);
    bool changed = false;
    /* Nobody reads the record before the word names this rank, and from then on it never changes: it is written under
     * the lock, only while the word is not failed. So an offer that came too late may be followed by another one. */
    (void)pthread_mutex_lock(&comm->failure_lock);
    if (atomic_load_explicit(&control->word.value, memory_order_acquire) == expected) {
        if (!is_proposed(comm)) {
            record_write(comm, status, text);
        }
        (void)epx_fault("round.fail", (int)comm->rank);
        changed = atomic_compare_exchange_strong(&control->word.value, &expected, epx_word_make(step, comm->rank + 1));
    }
    (void)pthread_mutex_unlock(&comm->failure_lock);
    if (changed) {
        epx_word_wake(control);
        if (comm->hosts != NULL) {
            epx_bell_ring(control);
        }
    }
}

/* After a proposal the word changes soon: an agent that hears nothing for a while decides by itself. */
static void decision_await(struct epx_comm *comm, uint64_t word)
{
    struct epx_control *control = comm->control;
    (void)atomic_fetch_add(&control->sleepers, 1);
    if (atomic_load(&control->word.value) == word) {
        epx_futex_wait(&control->word.low, (uint32_t)word, epx_clock_ns() + comm->policy.slice_ns);
    }
    (void)atomic_fetch_sub(&control->sleepers, 1);
}

enum epx_status epx_failure_force(struct epx_comm *comm, enum epx_status status, const char *text)
{
    /* Another try only when a step was completed in between: that needs an arrival of every rank, this one included; or
     * while another host has not decided. */
    for (;;) {
        uint64_t word = atomic_load_explicit(&comm->control->word.value, memory_order_acquire);
        if (epx_word_failed(word) != 0) {
            return epx_failure_take(comm, word);
        }
        epx_failure_offer(comm, epx_word_step(word), status, text);
        if (comm->hosts != NULL) {
            decision_await(comm, word);
        }
    }
}
