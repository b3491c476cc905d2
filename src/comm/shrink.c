#include "comm/shrink.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/futex.h"
#include "base/log.h"
#include "comm/failure.h"
#include "comm/rank_set.h"
#include "comm/shrink_object.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANKS_TEXT_BYTES 160
/* Meetings that end by their deadline though no member is lost, before the caller is told. */
#define VAIN_MAX 4u
/* A look that comes late by more slices than these: this process itself was stopped, not just slow. */
#define STOPPED_SLICES 10u
#define FATE_BITS      (64u / EPX_CONTROL_LIST_RANKS)

/* ---- Lists ----------------------------------------------------------------------------------------------------- */

static void list_write(const struct epx_shrink *shrink)
{
    struct epx_comm *comm = shrink->comm;
    _Atomic uint64_t *list = epx_control_list(comm->control, comm->rank_count, comm->rank, shrink->generation);
    for (uint32_t first = 0; first < comm->rank_count; first += EPX_CONTROL_LIST_RANKS) {
        uint64_t word = 0;
        for (uint32_t i = 0; i < EPX_CONTROL_LIST_RANKS && first + i < comm->rank_count; i++) {
            word |= (uint64_t)shrink->fates[first + i] << (i * FATE_BITS);
        }
        atomic_store_explicit(&list[first / EPX_CONTROL_LIST_RANKS], word, memory_order_release);
    }
}

static uint8_t list_get(const _Atomic uint64_t *list, uint32_t rank)
{
    uint64_t word = atomic_load_explicit(&list[rank / EPX_CONTROL_LIST_RANKS], memory_order_acquire);
    return word >> (rank % EPX_CONTROL_LIST_RANKS * FATE_BITS) & ((1u << FATE_BITS) - 1);
}

static enum epx_status fail_left_out(const struct epx_comm *comm)
{
    return epx_fail(EPX_ERR_PEER_LEFT,
                    "the other ranks of communicator %s go on without rank %u, which had not called in time "
                    "or was excluded",
                    comm->name, comm->rank);
}

/* The fates that `word` stands for. Where the word has moved on, the others have done so without this rank. */
static enum epx_status list_read(const struct epx_comm *comm, uint64_t word, uint8_t *fates)
{
    uint32_t decider = epx_word_failed(word) - 1;
    if (epx_word_step(word) == 0) {
        memset(fates, EPX_SHRINK_MEMBER, comm->rank_count);
        return EPX_OK;
    }
    if (decider >= comm->rank_count) {
        return epx_fail(EPX_ERR_PROTOCOL, "rank %u of %u is said to have decided who goes on", decider,
                        comm->rank_count);
    }
    const _Atomic uint64_t *list = epx_control_list(comm->control, comm->rank_count, decider, epx_word_step(word));
    uint8_t worst = EPX_SHRINK_MEMBER;
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        fates[rank] = list_get(list, rank);
        worst = fates[rank] > worst ? fates[rank] : worst;
    }
    if (atomic_load(&comm->control->shrink.value) != word) {
        return fail_left_out(comm);
    }
    if (worst > EPX_SHRINK_EXCLUDED) {
        return epx_fail(EPX_ERR_PROTOCOL, "rank %u decided the unknown fate %u", decider, worst);
    }
    return fates[comm->rank] == EPX_SHRINK_MEMBER ? EPX_OK : fail_left_out(comm);
}

/* ---- Deciding -------------------------------------------------------------------------------------------------- */

enum epx_fate epx_shrink_look(const struct epx_shrink *shrink, uint32_t rank)
{
    const struct epx_comm *comm = shrink->comm;
    const struct epx_control_slot *slot = &comm->control->slots[rank];
    if (rank == comm->rank) {
        return EPX_SHRINK_MEMBER;
    }
    /* Death first: whose process is seen dead is seen with all it has said. */
    bool dead = epx_arena_owner_dead(comm->arenas[rank]);
    if (atomic_load_explicit(&slot->life, memory_order_acquire) == EPX_LIFE_LEFT) {
        return EPX_SHRINK_LEFT;
    }
    if (dead) {
        return EPX_SHRINK_DEAD;
    }
    return atomic_load(&slot->shrink_wish) >= shrink->generation ? EPX_SHRINK_MEMBER : EPX_SHRINK_SILENT;
}

static void exclude(struct epx_shrink *shrink, uint32_t rank)
{
    bool undecided = shrink->fates[rank] == EPX_SHRINK_MEMBER || shrink->fates[rank] == EPX_SHRINK_SILENT;
    if (undecided && shrink->base[rank] == EPX_SHRINK_MEMBER) {
        shrink->fates[rank] = EPX_SHRINK_EXCLUDED;
    }
}

/* A rank that anybody who takes part excludes is out; each has said whom it excludes before it took part. */
static void take_exclusions(struct epx_shrink *shrink)
{
    const struct epx_comm *comm = shrink->comm;
    for (uint32_t from = 0; from < comm->rank_count; from++) {
        if (atomic_load(&comm->control->slots[from].shrink_wish) != shrink->generation) {
            continue;
        }
        const _Atomic uint64_t *list = epx_control_list(comm->control, comm->rank_count, from, shrink->generation);
        for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
            if (list_get(list, rank) == EPX_SHRINK_EXCLUDED) {
                exclude(shrink, rank);
            }
        }
    }
}

/* Fills the fates as they are now; whether there is nobody left to wait for. */
static bool examine(struct epx_shrink *shrink)
{
    bool settled = true;
    for (uint32_t rank = 0; rank < shrink->comm->rank_count; rank++) {
        shrink->fates[rank] = shrink->base[rank];
        if (shrink->base[rank] == EPX_SHRINK_MEMBER) {
            shrink->fates[rank] = (uint8_t)epx_shrink_look(shrink, rank);
        }
    }
    take_exclusions(shrink);
    for (uint32_t rank = 0; rank < shrink->comm->rank_count; rank++) {
        settled = settled && (shrink->fates[rank] != EPX_SHRINK_SILENT || shrink->base[rank] == EPX_SHRINK_SILENT);
    }
    return settled;
}

/* Says whom this rank excludes, and then that it takes part. */
static void take_part(struct epx_shrink *shrink)
{
    struct epx_comm *comm = shrink->comm;
    memset(shrink->fates, EPX_SHRINK_MEMBER, comm->rank_count);
    for (uint32_t i = 0; i < shrink->request->exclude_count; i++) {
        shrink->fates[shrink->request->exclude[i]] = EPX_SHRINK_EXCLUDED;
    }
    list_write(shrink);
    comm->shrink_generation = shrink->generation;
    /* Sequentially consistent, like the loads of those of the others: the last to say so sees all, and decides. */
    atomic_store(&comm->slot->shrink_wish, shrink->generation);
    (void)epx_fault("shrink.wish", (int)comm->rank);
}

static void offer(struct epx_shrink *shrink, uint64_t word)
{
    struct epx_comm *comm = shrink->comm;
    list_write(shrink);
    (void)epx_fault("shrink.decide", (int)comm->rank);
    if (atomic_compare_exchange_strong(&comm->control->shrink.value, &word,
                                       epx_word_make(shrink->generation, comm->rank + 1))) {
        epx_futex_wake_all(&comm->control->shrink.low);
    }
}

/* Waits for the decision on the generation that follows `word`, and takes it when nobody else has. */
static uint64_t await_decision(struct epx_shrink *shrink, uint64_t word)
{
    union epx_control_word *shared = &shrink->comm->control->shrink;
    uint64_t slice_ns = shrink->comm->policy.slice_ns;
    uint64_t deadline_ns = epx_deadline_after_ms(shrink->request->timeout_ms);
    uint64_t look_ns = epx_clock_ns();
    uint64_t found;
    while ((found = atomic_load(&shared->value)) == word) {
        uint64_t now_ns = epx_clock_ns();
        if (deadline_ns != EPX_NEVER && now_ns > look_ns + STOPPED_SLICES * slice_ns) {
            deadline_ns += now_ns - look_ns;
        }
        look_ns = now_ns + slice_ns;
        if (examine(shrink) || now_ns >= deadline_ns) {
            offer(shrink, word);
        } else {
            epx_futex_wait(&shared->low, (uint32_t)word, look_ns < deadline_ns ? look_ns : deadline_ns);
        }
    }
    return found;
}

/* One generation: who is in it, the same for all of them. */
static enum epx_status decide(struct epx_shrink *shrink)
{
    struct epx_comm *comm = shrink->comm;
    uint64_t word = atomic_load(&comm->control->shrink.value);
    if (epx_word_step(word) != comm->shrink_generation) {
        return fail_left_out(comm);
    }
    EPX_TRY(list_read(comm, word, shrink->base));
    shrink->generation = comm->shrink_generation + 1;
    shrink->lost = false;
    take_part(shrink);
    word = await_decision(shrink, word);
    if (epx_word_step(word) != shrink->generation) {
        return fail_left_out(comm);
    }
    return list_read(comm, word, shrink->fates);
}

/* ---- All of it ------------------------------------------------------------------------------------------------- */

static enum epx_status check(const struct epx_comm *comm, const struct epx_shrink_request *request)
{
    EPX_TRY(epx_comm_check_process(comm));
    if (comm->hosts != NULL) {
        return epx_fail(EPX_ERR_UNSUPPORTED, "communicator %s is on %u hosts: only those of one host can be shrunk",
                        comm->name, comm->hosts->host_count);
    }
    if (comm->shrunk) {
        return epx_fail(EPX_ERR_STATE, "communicator %s has been shrunk already", comm->name);
    }
    for (uint32_t i = 0; i < request->exclude_count; i++) {
        if (request->exclude[i] >= comm->rank_count || request->exclude[i] == comm->rank) {
            return epx_fail(EPX_ERR_INVALID, "exclude[%u] is %u, must be in [0, %u) and not the own rank %u", i,
                            request->exclude[i], comm->rank_count, comm->rank);
        }
    }
    if (request->exclude_count == 0 && !epx_comm_failed(comm)) {
        return epx_fail(EPX_ERR_STATE, "communicator %s has not failed, and no rank is to be excluded", comm->name);
    }
    return EPX_OK;
}

static void ranks_print(const struct epx_comm *comm, const uint8_t *fates, enum epx_fate fate, char *text)
{
    struct epx_rank_set set = {0};
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        if (fates[rank] == fate) {
            epx_rank_set_add(&set, rank);
        }
    }
    epx_rank_set_print(&set, text, RANKS_TEXT_BYTES);
}

/* Those that may still live are named: whoever runs the job may want to end them. */
static void tell(const struct epx_comm *comm, const struct epx_comm *next, const uint8_t *fates)
{
    char silent[RANKS_TEXT_BYTES];
    char excluded[RANKS_TEXT_BYTES];
    bool any = memchr(fates, EPX_SHRINK_SILENT, comm->rank_count) != NULL;
    ranks_print(comm, fates, EPX_SHRINK_SILENT, silent);
    ranks_print(comm, fates, EPX_SHRINK_EXCLUDED, excluded);
    epx_log(any && next->rank == 0 ? EPX_LOG_WARN : EPX_LOG_INFO,
            "%s: rank %u goes on as rank %u of %u; without answer: %s; excluded: %s", comm->name, comm->rank,
            next->rank, next->rank_count, silent, excluded);
}

/* Operations of the others that are under way end, too. */
static void fail_on_purpose(struct epx_comm *comm, const struct epx_shrink_request *request)
{
    struct epx_rank_set set = {0};
    char ranks[RANKS_TEXT_BYTES];
    char text[EPX_ERROR_TEXT_BYTES];
    for (uint32_t i = 0; i < request->exclude_count; i++) {
        epx_rank_set_add(&set, request->exclude[i]);
    }
    epx_rank_set_print(&set, ranks, sizeof ranks);
    (void)snprintf(text, sizeof text, "rank %u goes on without %s", comm->rank, ranks);
    enum epx_status first = epx_failure_force(comm, EPX_ERR_ABORTED, text);
    (void)first; /* any cause will do */
}

static enum epx_status run(struct epx_shrink *shrink, struct epx_comm **out)
{
    uint32_t vain = 0;
    for (;;) {
        EPX_TRY(decide(shrink));
        enum epx_status status = epx_shrink_meet(shrink, out);
        if (status == EPX_OK) {
            shrink->comm->shrunk = true;
            tell(shrink->comm, *out, shrink->fates);
            return EPX_OK;
        }
        vain += !shrink->lost;
        if (!shrink->lost && (status != EPX_ERR_JOIN_TIMEOUT || vain == VAIN_MAX)) {
            return status;
        }
    }
}

enum epx_status epx_shrink_run(struct epx_comm *comm, const struct epx_shrink_request *request, uint8_t *fates,
                               struct epx_comm **out)
{
    EPX_TRY(check(comm, request));
    struct epx_shrink shrink = {.comm = comm, .request = request, .fates = fates};
    shrink.base = malloc(comm->rank_count);
    if (shrink.base == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the fates of %u ranks", comm->rank_count);
    }
    if (!epx_comm_failed(comm)) {
        fail_on_purpose(comm, request);
    }
    enum epx_status status = run(&shrink, out);
    free(shrink.base);
    return status;
}
