#include "comm/status_page.h"

#include "comm/failure.h"
#include "comm/rank_set.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the interpreter of health_view.h asks for; the view's owner is the page. */

static bool is_dead(const struct epx_health_view *view, uint32_t rank)
{
    const struct epx_status_page *page = view->owner;
    return page->ranks[rank].life == EPX_RANK_DIED;
}

static uint32_t process_of(const struct epx_health_view *view, uint32_t rank)
{
    const struct epx_status_page *page = view->owner;
    return page->ranks[rank].pid;
}

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

enum epx_status epx_status_page_check(const struct epx_control *copy, uint64_t bytes, uint32_t *rank_count)
{
    if (bytes < sizeof *copy) {
        return epx_fail(EPX_ERR_PROTOCOL, "the control region has %llu bytes, a header alone has %zu",
                        (unsigned long long)bytes, sizeof *copy);
    }
    uint64_t identity = load(&copy->identity);
    uint32_t ranks = epx_identity_ranks(identity);
    if (identity == 0) {
        return epx_fail(EPX_ERR_STATE, "the communicator is still being made: not all of its ranks have come");
    }
    if (epx_identity_magic(identity) != EPX_CONTROL_MAGIC) {
        return epx_fail(EPX_ERR_PROTOCOL, "the control region is stamped %#llx, which is none of epx",
                        (unsigned long long)identity);
    }
    if (epx_identity_version(identity) != EPX_CONTROL_VERSION) {
        return epx_fail(EPX_ERR_PROTOCOL, "the control region has layout version %u, this epx reads version %u",
                        epx_identity_version(identity), EPX_CONTROL_VERSION);
    }
    if (ranks == 0 || ranks > EPX_COMM_RANK_MAX || bytes < epx_control_bytes(ranks)) {
        return epx_fail(EPX_ERR_PROTOCOL, "the control region has %llu bytes and says that it has %u ranks",
                        (unsigned long long)bytes, ranks);
    }
    *rank_count = ranks;
    return EPX_OK;
}

static bool is_pid_here(const struct epx_control_process *process)
{
    return process->pid_namespace != 0 && process->pid_namespace == epx_process_namespace("pid");
}

static bool is_clock_here(const struct epx_control_process *process)
{
    return process->time_namespace == epx_process_namespace("time");
}

void epx_status_page_look(const struct epx_control *copy, uint32_t rank_count, struct epx_process *processes)
{
    for (uint32_t rank = 0; rank < rank_count; rank++) {
        const struct epx_control_process *said = &copy->slots[rank].process;
        struct epx_process *found = &processes[rank];
        *found = (struct epx_process){.state = EPX_PROCESS_UNKNOWN};
        if (said->pid == 0 || said->pid > INT_MAX || !is_pid_here(said)) {
            continue;
        }
        (void)epx_process_read((pid_t)said->pid, found);
        /* A later process with the same number. */
        if (is_clock_here(said) && said->start_ticks != 0 && found->start_ticks != 0 &&
            said->start_ticks != found->start_ticks) {
            found->state = EPX_PROCESS_GONE;
        }
    }
}

static enum epx_rank_life life_of(uint32_t life, enum epx_process_state state)
{
    if (life == EPX_LIFE_LEFT) {
        return EPX_RANK_LEFT;
    }
    switch (state) {
    case EPX_PROCESS_GONE: return EPX_RANK_DIED;
    case EPX_PROCESS_STOPPED: return EPX_RANK_STOPPED;
    case EPX_PROCESS_LIVES: return life == EPX_LIFE_JOINED ? EPX_RANK_ALIVE : EPX_RANK_JOINING;
    case EPX_PROCESS_UNKNOWN: break;
    }
    return life == EPX_LIFE_JOINED ? EPX_RANK_JOINED : EPX_RANK_JOINING;
}

static void ranks_read(const struct epx_health_view *view, uint64_t now_ns, const struct epx_process *processes,
                       struct epx_status_page *page)
{
    for (uint32_t rank = 0; rank < page->rank_count; rank++) {
        const struct epx_control_slot *slot = &view->control->slots[rank];
        uint64_t activity = epx_health_view_activity(view, rank);
        bool is_inside = epx_activity_round(activity) != 0 && epx_activity_phase(activity) != EPX_PHASE_IDLE;
        uint32_t life = atomic_load_explicit(&slot->life, memory_order_relaxed);
        page->ranks[rank] = (struct epx_status_rank){
            .pid = slot->process.pid,
            .is_pid_here = is_pid_here(&slot->process),
            .life = life_of(life, processes[rank].state),
            .activity = activity,
            .waits = page->failed == 0 && is_inside && epx_health_view_arrived(view, rank, page->step_count + 1),
            .has_clock = is_clock_here(&slot->process) && load(&slot->since_ns) != 0,
            .for_ns = epx_health_view_for_ns(view, rank, now_ns),
        };
        epx_control_text_copy(page->ranks[rank].host, slot->host_name, sizeof page->ranks[rank].host);
    }
}

/* The rank that has waited longest, whose deadline is the first to pass; rank_count when none waits. */
static uint32_t longest_wait(const struct epx_status_page *page)
{
    uint32_t longest = page->rank_count;
    for (uint32_t rank = 0; rank < page->rank_count; rank++) {
        const struct epx_status_rank *other = &page->ranks[rank];
        if (other->waits && (longest == page->rank_count || other->for_ns > page->ranks[longest].for_ns)) {
            longest = rank;
        }
    }
    return longest;
}

static void late_print(const struct epx_health_view *view, struct epx_status_page *page)
{
    struct epx_rank_set late = {0};
    for (uint32_t rank = 0; rank < page->rank_count; rank++) {
        if (!epx_health_view_arrived(view, rank, page->step_count + 1)) {
            epx_rank_set_add(&late, rank);
        }
    }
    if (epx_rank_set_count(&late) > 0) {
        epx_rank_set_print(&late, page->late, sizeof page->late);
    }
}

/* What the rank that has waited longest would say if its wait ended now, and whether it would end. */
static void wait_read(struct epx_health_view *view, uint64_t now_ns, struct epx_status_page *page)
{
    uint64_t step = page->step_count + 1;
    view->rank = longest_wait(page);
    if (view->rank == page->rank_count) {
        return;
    }
    const struct epx_status_rank *rank = &page->ranks[view->rank];
    const struct epx_control_slot *slot = &view->control->slots[view->rank];
    late_print(view, page);
    if (page->late[0] == '\0') {
        return;
    }
    if (epx_health_view_examine(view, step, rank->activity, page->blame, sizeof page->blame) != EPX_OK) {
        page->is_overdue = true;
        return;
    }
    int64_t timeout_ms = atomic_load_explicit(&slot->op_timeout_ms, memory_order_relaxed);
    epx_health_view_blame(view, step, rank->has_clock ? load(&slot->since_ns) : now_ns, now_ns, page->blame,
                          sizeof page->blame);
    page->is_overdue = timeout_ms >= 0 && rank->has_clock && rank->for_ns / 1000000u >= (uint64_t)timeout_ms;
}

static void failure_read(const struct epx_control *copy, uint64_t word, struct epx_status_page *page)
{
    page->failure = epx_failure_read(copy, page->rank_count, word);
    (void)snprintf(page->failure_text, sizeof page->failure_text, "%s", epx_error_text());
}

static bool has_dead(const struct epx_status_page *page)
{
    for (uint32_t rank = 0; rank < page->rank_count; rank++) {
        if (page->ranks[rank].life == EPX_RANK_DIED) {
            return true;
        }
    }
    return false;
}

enum epx_status epx_status_page_read(const struct epx_control *copy, uint64_t bytes, uint64_t now_ns,
                                     const struct epx_process *processes, uint32_t rank_count,
                                     struct epx_status_page *page)
{
    uint32_t found = 0;
    *page = (struct epx_status_page){0};
    EPX_TRY(epx_status_page_check(copy, bytes, &found));
    if (found != rank_count) {
        return epx_fail(EPX_ERR_PROTOCOL, "the control region had %u ranks and now has %u", rank_count, found);
    }
    page->ranks = calloc(rank_count, sizeof *page->ranks);
    if (page->ranks == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the status of %u ranks", rank_count);
    }
    uint64_t word = load(&copy->word.value);
    page->rank_count = rank_count;
    page->step_count = epx_word_step(word);
    page->failed = epx_word_failed(word);
    epx_control_text_copy(page->name, copy->name, sizeof page->name);
    epx_control_text_copy(page->job, copy->job, sizeof page->job);
    epx_control_text_copy(page->origin, copy->origin, sizeof page->origin);
    struct epx_health_view view = {
        .control = copy, .rank_count = rank_count, .owner = page, .is_dead = is_dead, .process_of = process_of};
    ranks_read(&view, now_ns, processes, page);
    if (page->failed != 0) {
        failure_read(copy, word, page);
    } else {
        wait_read(&view, now_ns, page);
    }
    page->is_healthy = page->failed == 0 && !page->is_overdue && !has_dead(page);
    return EPX_OK;
}

void epx_status_page_fini(struct epx_status_page *page)
{
    free(page->ranks);
    page->ranks = NULL;
}
