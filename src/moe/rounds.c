#include "moe/rounds.h"

#include <stdarg.h>
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

enum epx_status epx_rounds_begin(struct epx_rounds *rounds, const struct epx_rounds_place *place)
{
    rounds->has_tp = place->tp_comm != NULL;
    rounds->tp_open = false;
    enum epx_status status = epx_round_begin(&rounds->ep, place->comm, place->round, place->operation);
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
    enum epx_status status = epx_round_enter(round_of(rounds, group), agreement, fields, field_count, publication);
    return status == EPX_OK ? EPX_OK : spread(rounds, group, status);
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
    if (rounds->tp_open) {
        rounds->tp_open = false;
        status = epx_round_fail(&rounds->tp, status, "%s", text);
        (void)snprintf(text, sizeof text, "%s", epx_error_text());
    }
    rounds->ep_open = false;
    return epx_round_fail(&rounds->ep, status, "%s", text);
}

static enum epx_status done(struct epx_rounds *rounds, enum epx_moe_group group)
{
    enum epx_status status = epx_round_step(round_of(rounds, group), EPX_PHASE_DONE);
    return status == EPX_OK ? EPX_OK : spread(rounds, group, status);
}

enum epx_status epx_rounds_finish(struct epx_rounds *rounds)
{
    if (rounds->has_tp) {
        EPX_TRY(done(rounds, EPX_MOE_GROUP_TP));
        rounds->tp_open = false;
        epx_round_end(&rounds->tp);
    }
    EPX_TRY(done(rounds, EPX_MOE_GROUP_EP));
    rounds->ep_open = false;
    epx_round_end(&rounds->ep);
    return EPX_OK;
}
