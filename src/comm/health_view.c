#include "comm/health_view.h"

#include <inttypes.h>
#include <stdio.h>

#define RANKS_TEXT_BYTES 160
#define NAME_TEXT_BYTES  96
/* Hosts say where their ranks are five times a second; who has not for so long is stopped, or cannot be reached. */
#define SILENT_NS 600000000u
/* From here on it is soon known whether it is silent. */
#define DOUBT_NS 250000000u

static const struct epx_control_slot *slot_of(const struct epx_health_view *view, uint32_t rank)
{
    return &view->control->slots[rank];
}

uint64_t epx_health_view_activity(const struct epx_health_view *view, uint32_t rank)
{
    return atomic_load_explicit(&slot_of(view, rank)->activity, memory_order_relaxed);
}

/* Acquire: a rank that is seen as left is seen with its last arrival. */
static uint32_t life_of(const struct epx_health_view *view, uint32_t rank)
{
    return atomic_load_explicit(&slot_of(view, rank)->life, memory_order_acquire);
}

bool epx_health_view_arrived(const struct epx_health_view *view, uint32_t rank, uint64_t step)
{
    return atomic_load_explicit(&slot_of(view, rank)->arrived_step, memory_order_acquire) >= step;
}

/* "rank 5 (pid 4711)", in a world on several hosts "rank 5 (host b, pid 4711)" */
static void rank_name(const struct epx_health_view *view, uint32_t rank, char *text, size_t text_bytes)
{
    char host[EPX_CONTROL_HOST_BYTES];
    epx_control_text_copy(host, slot_of(view, rank)->host_name, sizeof host);
    (void)snprintf(text, text_bytes, "rank %u (%s%s%spid %u)", rank, host[0] != '\0' ? "host " : "", host,
                   host[0] != '\0' ? ", " : "", view->process_of(view, rank));
}

/* One rank by its name, or "ranks 5-7" */
static void ranks_name(const struct epx_health_view *view, const struct epx_rank_set *set, char *text,
                       size_t text_bytes)
{
    if (epx_rank_set_count(set) != 1) {
        epx_rank_set_print(set, text, text_bytes);
        return;
    }
    rank_name(view, epx_rank_set_first(set), text, text_bytes);
}

/* "dispatch round 812" */
static void round_name(uint64_t activity, char *text, size_t text_bytes)
{
    (void)snprintf(text, text_bytes, "%s round %" PRIu64, epx_operation_name(epx_activity_operation(activity)),
                   epx_activity_round(activity));
}

void epx_health_place(uint64_t activity, char *text, size_t text_bytes)
{
    char round[NAME_TEXT_BYTES];
    round_name(activity, round, sizeof round);
    if (epx_activity_round(activity) == 0) {
        (void)snprintf(text, text_bytes, "before its first round");
    } else if (epx_activity_phase(activity) == EPX_PHASE_IDLE) {
        (void)snprintf(text, text_bytes, "after %s", round);
    } else {
        (void)snprintf(text, text_bytes, "in %s (phase %s)", round, epx_phase_name(epx_activity_phase(activity)));
    }
}

/* "rank 5 (pid 4711) died in dispatch round 812 (phase ROWS)[; combine round 813 needs it][; also ranks 6-7]" */
static void loss_print(const struct epx_health_view *view, const struct epx_rank_set *lost, const char *verb,
                       uint64_t own, char *text, size_t text_bytes)
{
    uint32_t rank = epx_rank_set_first(lost);
    uint64_t activity = epx_health_view_activity(view, rank);
    char place[2 * NAME_TEXT_BYTES];
    char needed[2 * NAME_TEXT_BYTES] = "";
    char others[RANKS_TEXT_BYTES + NAME_TEXT_BYTES] = "";
    epx_health_place(activity, place, sizeof place);
    if (epx_activity_phase(activity) == EPX_PHASE_IDLE && epx_activity_round(own) != 0) {
        char round[NAME_TEXT_BYTES];
        round_name(own, round, sizeof round);
        (void)snprintf(needed, sizeof needed, "; %s needs it", round);
    }
    struct epx_rank_set rest = {0};
    for (uint32_t other = rank + 1; other < view->rank_count; other++) {
        if (epx_rank_set_has(lost, other)) {
            epx_rank_set_add(&rest, other);
        }
    }
    if (epx_rank_set_count(&rest) > 0) {
        char ranks[RANKS_TEXT_BYTES];
        epx_rank_set_print(&rest, ranks, sizeof ranks);
        (void)snprintf(others, sizeof others, "; also %s", ranks);
    }
    char name[NAME_TEXT_BYTES];
    rank_name(view, rank, name, sizeof name);
    (void)snprintf(text, text_bytes, "%s %s %s%s%s", name, verb, place, needed, others);
}

enum epx_status epx_health_view_examine(const struct epx_health_view *view, uint64_t step, uint64_t needed, char *text,
                                        size_t text_bytes)
{
    struct epx_rank_set left = {0};
    struct epx_rank_set dead = {0};
    for (uint32_t rank = 0; rank < view->rank_count; rank++) {
        /* A rank that left has ended its rounds properly; what its process does later is nobody's concern. Death is
         * looked at first: whose process is seen dead is seen with all it has said. */
        bool ended = view->is_dead(view, rank);
        if (life_of(view, rank) == EPX_LIFE_LEFT) {
            if (!epx_health_view_arrived(view, rank, step)) {
                epx_rank_set_add(&left, rank);
            }
        } else if (ended) {
            epx_rank_set_add(&dead, rank);
        }
    }
    if (epx_rank_set_count(&dead) > 0) {
        loss_print(view, &dead, "died", needed, text, text_bytes);
        return EPX_ERR_PEER_DEAD;
    }
    if (epx_rank_set_count(&left) > 0) {
        loss_print(view, &left, "left the communicator", needed, text, text_bytes);
        return EPX_ERR_PEER_LEFT;
    }
    return EPX_OK;
}

/* In a world on several hosts a rank that has begun the round may itself wait for one of another host that has not:
 * then only those that have not are late. */
static void spare_begun(const struct epx_health_view *view, struct epx_rank_set *late, struct epx_rank_set *waiting)
{
    uint64_t round = epx_activity_round(epx_health_view_activity(view, view->rank));
    struct epx_rank_set begun = {0};
    struct epx_rank_set rest = {0};
    for (uint32_t rank = 0; rank < view->rank_count; rank++) {
        if (epx_rank_set_has(late, rank)) {
            uint64_t activity = epx_health_view_activity(view, rank);
            bool is_inside = epx_activity_round(activity) == round && epx_activity_phase(activity) != EPX_PHASE_IDLE;
            epx_rank_set_add(is_inside ? &begun : &rest, rank);
        }
    }
    for (uint32_t rank = 0; epx_rank_set_count(&rest) > 0 && rank < view->rank_count; rank++) {
        if (epx_rank_set_has(&begun, rank)) {
            epx_rank_set_add(waiting, rank);
        }
    }
    *late = epx_rank_set_count(&rest) > 0 ? rest : *late;
}

static uint32_t host_of(const struct epx_health_view *view, uint32_t rank)
{
    return slot_of(view, rank)->process.host;
}

/* And of these only the ones farthest behind, for which the others of their host may wait. */
static void spare_ahead(const struct epx_health_view *view, struct epx_rank_set *late, struct epx_rank_set *waiting)
{
    uint64_t least = UINT64_MAX;
    struct epx_rank_set last = {0};
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t rank = 0; rank < view->rank_count; rank++) {
            uint64_t step = atomic_load_explicit(&slot_of(view, rank)->arrived_step, memory_order_acquire);
            if (!epx_rank_set_has(late, rank)) {
                continue;
            }
            if (pass == 0) {
                least = step < least ? step : least;
            } else {
                epx_rank_set_add(step <= least ? &last : waiting, rank);
            }
        }
    }
    *late = epx_rank_set_count(&last) > 0 ? last : *late;
}

/* Who has said nothing yet may not have begun. */
static bool is_silent(uint64_t heard_ns, uint64_t now_ns)
{
    return heard_ns != 0 && now_ns > heard_ns + SILENT_NS;
}

/* A host whose agent says nothing, with since when: the own one, or that of a late rank. False: none. */
static bool find_silent(const struct epx_health_view *view, const struct epx_rank_set *late, uint64_t now_ns,
                        uint32_t *host, uint64_t *heard_ns)
{
    *host = host_of(view, view->rank);
    *heard_ns = atomic_load_explicit(&view->control->agent_ns, memory_order_relaxed);
    if (is_silent(*heard_ns, now_ns)) {
        return true;
    }
    for (uint32_t rank = 0; rank < view->rank_count; rank++) {
        if (epx_rank_set_has(late, rank) && host_of(view, rank) != host_of(view, view->rank)) {
            *host = host_of(view, rank);
            *heard_ns = atomic_load_explicit(&slot_of(view, rank)->heard_ns, memory_order_relaxed);
            if (is_silent(*heard_ns, now_ns)) {
                return true;
            }
        }
    }
    return false;
}

bool epx_health_view_blame_silence(const struct epx_health_view *view, const struct epx_rank_set *late, uint64_t now_ns,
                                   double waited_s, char *text, size_t text_bytes)
{
    struct epx_rank_set ranks = {0};
    char leader[NAME_TEXT_BYTES];
    char spoken_for[RANKS_TEXT_BYTES];
    char place[EPX_HEALTH_PLACE_BYTES];
    uint32_t host;
    uint64_t heard_ns;
    if (!find_silent(view, late, now_ns, &host, &heard_ns)) {
        return false;
    }
    for (uint32_t rank = 0; rank < view->rank_count; rank++) {
        if (host_of(view, rank) == host) {
            epx_rank_set_add(&ranks, rank);
        }
    }
    rank_name(view, epx_rank_set_first(&ranks), leader, sizeof leader);
    epx_rank_set_print(&ranks, spoken_for, sizeof spoken_for);
    epx_health_place(epx_health_view_activity(view, view->rank), place, sizeof place);
    (void)snprintf(text, text_bytes,
                   "%s, which speaks for %s, has been silent for %.1f s; rank %u has waited %.1f s %s", leader,
                   spoken_for, (double)(now_ns - heard_ns) / 1e9, view->rank, waited_s, place);
    return true;
}

static bool is_doubtful(uint64_t heard_ns, uint64_t now_ns)
{
    return now_ns > heard_ns + DOUBT_NS && now_ns <= heard_ns + SILENT_NS;
}

/* Whether some ranks are late that have all begun the own rank's round: some may themselves wait for another host, and
 * know better than this rank for whom. */
static bool others_know(const struct epx_health_view *view, uint64_t step)
{
    uint64_t round = epx_activity_round(epx_health_view_activity(view, view->rank));
    uint32_t late_count = 0;
    for (uint32_t rank = 0; rank < view->rank_count; rank++) {
        uint64_t activity = epx_health_view_activity(view, rank);
        if (epx_health_view_arrived(view, rank, step)) {
            continue;
        }
        late_count++;
        if (rank == view->rank || epx_activity_round(activity) != round ||
            epx_activity_phase(activity) != EPX_PHASE_ENTER) {
            return false;
        }
    }
    return late_count > 1;
}

bool epx_health_view_is_unsure(const struct epx_health_view *view, uint64_t step, uint64_t now_ns)
{
    if (slot_of(view, view->rank)->host_name[0] == '\0') {
        return false;
    }
    for (uint32_t rank = 0; rank < view->rank_count; rank++) {
        if (host_of(view, rank) != host_of(view, view->rank) && !epx_health_view_arrived(view, rank, step) &&
            is_doubtful(atomic_load_explicit(&slot_of(view, rank)->heard_ns, memory_order_relaxed), now_ns)) {
            return true;
        }
    }
    return is_doubtful(atomic_load_explicit(&view->control->agent_ns, memory_order_relaxed), now_ns) ||
           others_know(view, step);
}

void epx_health_view_blame(const struct epx_health_view *view, uint64_t step, uint64_t since_ns, uint64_t now_ns,
                           char *text, size_t text_bytes)
{
    struct epx_rank_set late = {0};
    struct epx_rank_set waiting = {0};
    for (uint32_t rank = 0; rank < view->rank_count; rank++) {
        epx_rank_set_add(epx_health_view_arrived(view, rank, step) ? &waiting : &late, rank);
    }
    if (epx_rank_set_count(&late) == 0) {
        (void)snprintf(text, text_bytes, "%s", "");
        return;
    }
    double waited_s = now_ns > since_ns ? (double)(now_ns - since_ns) / 1e9 : 0.0;
    if (slot_of(view, view->rank)->host_name[0] != '\0') {
        if (epx_health_view_blame_silence(view, &late, now_ns, waited_s, text, text_bytes)) {
            return;
        }
        spare_begun(view, &late, &waiting);
        spare_ahead(view, &late, &waiting);
    }
    uint64_t activity = epx_health_view_activity(view, view->rank);
    char who[RANKS_TEXT_BYTES];
    char others[RANKS_TEXT_BYTES];
    char what[NAME_TEXT_BYTES];
    char round[NAME_TEXT_BYTES];
    ranks_name(view, &late, who, sizeof who);
    epx_rank_set_print(&waiting, others, sizeof others);
    round_name(activity, round, sizeof round);
    if (epx_activity_phase(activity) == EPX_PHASE_ENTER) {
        (void)snprintf(what, sizeof what, "entered");
    } else {
        (void)snprintf(what, sizeof what, "reached phase %s of", epx_phase_name(epx_activity_phase(activity)));
    }
    (void)snprintf(text, text_bytes, "%s %s not %s %s; %s %s waited %.1f s", who,
                   epx_rank_set_count(&late) == 1 ? "has" : "have", what, round, others,
                   epx_rank_set_count(&waiting) == 1 ? "has" : "have", waited_s);
}

uint64_t epx_health_view_for_ns(const struct epx_health_view *view, uint32_t rank, uint64_t now_ns)
{
    uint64_t since_ns = atomic_load_explicit(&slot_of(view, rank)->since_ns, memory_order_relaxed);
    return since_ns != 0 && now_ns > since_ns ? now_ns - since_ns : 0;
}
