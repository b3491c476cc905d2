#include "moe/rounds.h"

#include "base/clock.h"
#include "base/sanitizer.h"
#include "memory/arena.h"
#include "moe/view.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static struct epx_round *round_of(struct epx_rounds *rounds, enum epx_moe_group group)
{
    return group == EPX_MOE_GROUP_EP ? &rounds->ep : &rounds->tp;
}

/* The round of `group` has ended with `status` and the thread's text: ends the other one the same way. */
static enum epx_status spread(struct epx_rounds *rounds, enum epx_moe_group group, enum epx_status status)
{
    char text[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", epx_error_text());
    if (group == EPX_MOE_GROUP_TP) {
        rounds->tp_open = false;
        if (rounds->ep_open) {
            rounds->ep_open = false;
            return epx_round_fail(&rounds->ep, status, "%s", text);
        }
        return status;
    }
    rounds->ep_open = false;
    if (rounds->tp_open) {
        rounds->tp_open = false;
        enum epx_status tp_status = epx_round_fail(&rounds->tp, status, "%s", text);
        (void)tp_status; /* what counts is the cause in the expert-parallel group */
        epx_error_text_set(text);
    }
    return status;
}

/*
 * What was read of peers counts only if no group had failed by then: a rank whose round has failed may free its memory,
 * and then it may hold anything. To be asked before anything that was read of one group is acted on in the other; a
 * group itself looks at its word at every step.
 */
static enum epx_status check_unfailed(struct epx_rounds *rounds)
{
#if !EPX_THREAD_SANITIZER                      /* it knows no fences */
    atomic_thread_fence(memory_order_acquire); /* the reads come before the look at the words */
#endif
    for (int i = 0; i < 2; i++) {
        enum epx_moe_group group = i == 0 ? EPX_MOE_GROUP_EP : EPX_MOE_GROUP_TP;
        struct epx_round *round = round_of(rounds, group);
        bool is_open = i == 0 ? rounds->ep_open : rounds->tp_open;
        if (is_open && epx_comm_failure(round->comm) != EPX_OK) {
            /* The first cause stands, whatever is given here. */
            return spread(rounds, group, epx_round_fail(round, EPX_ERR_INTERNAL, "the group has failed"));
        }
    }
    return EPX_OK;
}

enum epx_status epx_rounds_begin(struct epx_rounds *rounds, const struct epx_rounds_place *place, uint64_t until_ns,
                                 bool *pending)
{
    rounds->has_tp = place->tp_comm != NULL;
    rounds->tp_open = false;
    rounds->ep_open = false;
    enum epx_status status = epx_round_begin_until(&rounds->ep, place->comm, place->round, place->operation,
                                                   rounds->has_tp ? EPX_NEVER : until_ns, pending);
    if (*pending) {
        return EPX_OK;
    }
    rounds->ep_open = status == EPX_OK;
    if (!rounds->has_tp) {
        return status;
    }
    /* Every reserved number is begun, also when the other group has failed already. */
    char text[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", epx_error_text());
    enum epx_status tp_status = epx_round_begin(&rounds->tp, place->tp_comm, place->tp_round, place->operation);
    rounds->tp_open = tp_status == EPX_OK;
    if (status != EPX_OK) {
        epx_error_text_set(text);
        return spread(rounds, EPX_MOE_GROUP_EP, status);
    }
    return tp_status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_TP, tp_status);
}

enum epx_status epx_rounds_enter(struct epx_rounds *rounds, enum epx_moe_group group,
                                 const struct epx_agreement *agreement, const struct epx_publication *publication)
{
    uint32_t field_count;
    const struct epx_agreement_field *fields = epx_moe_agreement_fields(&field_count);
    EPX_TRY(check_unfailed(rounds));
    enum epx_status status = epx_round_enter(round_of(rounds, group), agreement, fields, field_count, publication);
    return status == EPX_OK ? EPX_OK : spread(rounds, group, status);
}

enum epx_status epx_rounds_publish(struct epx_rounds *rounds, const struct epx_agreement *agreement,
                                   const struct epx_publication *publication)
{
    enum epx_status status = epx_round_publish(&rounds->ep, agreement, publication);
    return status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_EP, status);
}

enum epx_status epx_rounds_begin_remote(struct epx_rounds *rounds, const struct epx_remote_source *source,
                                        const struct epx_remote_sink *sink)
{
    enum epx_status status = epx_remote_begin(&rounds->ep, source, sink);
    return status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_EP, status);
}

enum epx_status epx_rounds_await_remote(struct epx_rounds *rounds, uint64_t until_ns, bool *pending)
{
    enum epx_status status = epx_remote_await(&rounds->ep, until_ns, pending);
    if (*pending) {
        return EPX_OK;
    }
    if (status == EPX_OK) {
        status = epx_round_arrive(&rounds->ep, EPX_PHASE_ENTER);
    }
    return status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_EP, status);
}

enum epx_status epx_rounds_await_sums(struct epx_rounds *rounds)
{
    bool pending;
    enum epx_status status = epx_remote_await(&rounds->ep, EPX_NEVER, &pending);
    return status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_EP, status);
}

enum epx_status epx_rounds_await_enter(struct epx_rounds *rounds, uint64_t until_ns, bool *pending)
{
    uint32_t field_count;
    const struct epx_agreement_field *fields = epx_moe_agreement_fields(&field_count);
    enum epx_status status = epx_round_await(&rounds->ep, until_ns, pending);
    if (*pending) {
        return EPX_OK;
    }
    if (status == EPX_OK) {
        status = epx_round_agree(&rounds->ep, fields, field_count);
    }
    return status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_EP, status);
}

enum epx_status epx_rounds_peer(struct epx_rounds *rounds, enum epx_moe_group group, uint32_t rank,
                                const void **exchange, uint64_t *bytes)
{
    enum epx_status status = epx_round_peer(round_of(rounds, group), rank, exchange, bytes);
    return status == EPX_OK ? EPX_OK : spread(rounds, group, status);
}

enum epx_status epx_rounds_fail(struct epx_rounds *rounds, enum epx_status status, const char *format, ...)
{
    char text[EPX_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    EPX_TRY(check_unfailed(rounds));
    if (rounds->tp_open) {
        rounds->tp_open = false;
        status = epx_round_fail(&rounds->tp, status, "%s", text);
        (void)snprintf(text, sizeof text, "%s", epx_error_text());
    }
    rounds->ep_open = false;
    return epx_round_fail(&rounds->ep, status, "%s", text);
}

enum epx_status epx_rounds_need(struct epx_rounds *rounds, const char *what, const void *memory, uint64_t bytes)
{
    enum epx_status status = epx_arena_need(memory, bytes);
    if (status != EPX_OK) {
        char text[EPX_ERROR_TEXT_BYTES];
        (void)snprintf(text, sizeof text, "%s", epx_error_text());
        status = epx_rounds_fail(rounds, EPX_ERR_RANK_MEMORY, "rank %u: no memory for %s: %s",
                                 epx_comm_rank(rounds->ep.comm), what, text);
    }
    return status;
}

enum epx_status epx_rounds_need_rows(struct epx_rounds *rounds, const char *what, const struct epx_view *view,
                                     int64_t row_count)
{
    uint64_t bytes;
    if (row_count == 0 || !epx_view_rows_extent_bytes(view, row_count, &bytes)) {
        return EPX_OK; /* sizes were checked when the tensor was bound */
    }
    return epx_rounds_need(rounds, what, view->data, bytes);
}

enum epx_status epx_rounds_arrive_done(struct epx_rounds *rounds)
{
    if (rounds->has_tp) {
        enum epx_status status = epx_round_step(&rounds->tp, EPX_PHASE_DONE);
        if (status != EPX_OK) {
            return spread(rounds, EPX_MOE_GROUP_TP, status);
        }
        rounds->tp_open = false;
        epx_round_end(&rounds->tp);
    }
    enum epx_status status = epx_round_arrive(&rounds->ep, EPX_PHASE_DONE);
    return status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_EP, status);
}

enum epx_status epx_rounds_await_done(struct epx_rounds *rounds, uint64_t until_ns, bool *pending)
{
    enum epx_status status = epx_round_await(&rounds->ep, until_ns, pending);
    return status == EPX_OK ? EPX_OK : spread(rounds, EPX_MOE_GROUP_EP, status);
}

void epx_rounds_end(struct epx_rounds *rounds)
{
    rounds->ep_open = false;
    epx_round_end(&rounds->ep);
}
