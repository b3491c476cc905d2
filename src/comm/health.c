#include "comm/health.h"

#include "base/clock.h"

/* How much longer than its deadline a rank waits to know whom to blame. */
#define GRACE_NS 400000000u

static bool is_dead(const struct epx_health_view *view, uint32_t rank)
{
    const struct epx_comm *comm = view->owner;
    return rank != comm->rank && epx_comm_is_here(comm, rank) && epx_arena_owner_dead(comm->arenas[rank]);
}

static uint32_t process_of(const struct epx_health_view *view, uint32_t rank)
{
    const struct epx_comm *comm = view->owner;
    return epx_comm_process_of(comm, rank);
}

static struct epx_health_view view_of(const struct epx_comm *comm)
{
    return (struct epx_health_view){
        .control = comm->control,
        .rank_count = comm->rank_count,
        .rank = comm->rank,
        .owner = comm,
        .is_dead = is_dead,
        .process_of = process_of,
    };
}

enum epx_status epx_health_examine(const struct epx_comm *comm, uint64_t step, uint64_t needed, char *text,
                                   size_t text_bytes)
{
    struct epx_health_view view = view_of(comm);
    return epx_health_view_examine(&view, step, needed, text, text_bytes);
}

void epx_health_blame(const struct epx_comm *comm, uint64_t step, uint64_t since_ns, char *text, size_t text_bytes)
{
    struct epx_health_view view = view_of(comm);
    epx_health_view_blame(&view, step, since_ns, epx_clock_ns(), text, text_bytes);
}

bool epx_health_is_unsure(const struct epx_comm *comm, uint64_t step, uint64_t deadline_ns)
{
    struct epx_health_view view = view_of(comm);
    uint64_t now_ns = epx_clock_ns();
    return now_ns < deadline_ns + GRACE_NS && epx_health_view_is_unsure(&view, step, now_ns);
}

bool epx_health_blame_silence(const struct epx_comm *comm, const struct epx_rank_set *late, uint64_t since_ns,
                              char *text, size_t text_bytes)
{
    struct epx_health_view view = view_of(comm);
    uint64_t now_ns = epx_clock_ns();
    return epx_health_view_blame_silence(&view, late, now_ns, (double)(now_ns - since_ns) / 1e9, text, text_bytes);
}

void epx_comm_blame(const struct epx_comm *comm, char *text, size_t text_bytes)
{
    if (text_bytes == 0) {
        return;
    }
    text[0] = '\0';
    if (epx_comm_check_process(comm) != EPX_OK) {
        return;
    }
    uint64_t step = atomic_load_explicit(&comm->wait_step, memory_order_acquire);
    uint64_t since_ns = atomic_load_explicit(&comm->wait_since_ns, memory_order_acquire);
    if (step == 0) {
        return;
    }
    epx_health_blame(comm, step, since_ns, text, text_bytes);
    /* The wait may have ended meanwhile: then the line is about another one, or half of each. */
    if (atomic_load_explicit(&comm->wait_step, memory_order_acquire) != step) {
        text[0] = '\0';
    }
}
