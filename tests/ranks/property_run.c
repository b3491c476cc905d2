#include "ranks/property_run.h"

#include "ranks/property_tensor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool property_report_set(struct property_report *report, const char *format, ...)
{
    if (report->text[0] == '\0') {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(report->text, sizeof report->text, format, args);
        va_end(args);
    }
    return false;
}

void property_shape_of(const struct world *world, struct epx_moe_shape *shape)
{
    const struct ref_shape *from = &world->shape;
    *shape = (struct epx_moe_shape){
        .expert_count = from->expert_count,
        .hidden_elems = from->hidden,
        .topk = from->topk,
        .shared_rank_count = from->shared_rank_count,
        .shared_expert_count = from->shared_rank_count > 0 ? 1 : (int64_t)(world->seed & 1u),
        .tp_rank_count = from->tp_count == 2 ? 2 : (int64_t)(world->seed >> 1 & 1u),
        .global_token_count = from->global_token_count,
        .dtype = from->format == REF_FP16 ? EPX_DTYPE_FP16 : EPX_DTYPE_BF16,
        .quantization = from->quantize ? EPX_QUANTIZATION_DYNAMIC_INT8 : EPX_QUANTIZATION_NONE,
        .comm_quantization = from->comm_quantize ? EPX_COMM_QUANTIZATION_INT8 : EPX_COMM_QUANTIZATION_NONE,
        .algorithm = from->two_level ? EPX_ALGORITHM_TWO_LEVEL : EPX_ALGORITHM_FULL_MESH,
    };
}

int property_run_count(const struct world *world)
{
    return 1 + (int)(world->seed >> 8 & 1u);
}

int64_t property_planned_tokens(const struct property_rank *rank, struct random_source *random, bool more_allowed)
{
    const struct ref_shape *shape = &rank->world->shape;
    int64_t token_count = rank->world->tokens[rank->index].token_count;
    int64_t more = random_between(random, 0, 3);
    int64_t limit = shape->global_token_count / shape->rank_count;
    if (!more_allowed) {
        return token_count;
    }
    return shape->global_token_count == 0 || token_count + more <= limit ? token_count + more : limit;
}

/* The text must name the wrong id's place and value, and nothing that is not there. */
static bool text_names_id(const char *text, const struct ref_error *expected)
{
    char place[96];
    (void)snprintf(place, sizeof place, "[%lld][%lld] is %lld,", (long long)expected->token, (long long)expected->slot,
                   (long long)expected->value);
    return strstr(text, place) != NULL;
}

bool property_status_check(const struct property_rank *rank, const char *what, enum epx_status status,
                           const struct ref_error *expected)
{
    static const enum epx_status statuses[] = {
        [REF_OK] = EPX_OK,
        [REF_BAD_EXPERT_ID] = EPX_ERR_EXPERT_ID,
        [REF_CAPACITY] = EPX_ERR_CAPACITY,
        [REF_BAD_COUNTS] = EPX_ERR_COUNTS,
    };
    if (status != statuses[expected->status]) {
        return property_report_set(rank->report, "%s: status %d (%s), must be %d; text \"%s\"", what, (int)status,
                                   epx_status_phrase(status), (int)statuses[expected->status],
                                   status == EPX_OK ? "" : epx_error_text());
    }
    if (expected->status == REF_BAD_EXPERT_ID && !text_names_id(epx_error_text(), expected)) {
        return property_report_set(rank->report, "%s: text \"%s\" does not name [%lld][%lld] is %lld", what,
                                   epx_error_text(), (long long)expected->token, (long long)expected->slot,
                                   (long long)expected->value);
    }
    return true;
}

bool property_tensors_check(const struct property_rank *rank, const char *what, const struct property_tensor *tensors,
                            int64_t count, bool failed)
{
    char text[PROPERTY_TEXT_BYTES / 2];
    for (int64_t i = 0; i < count; i++) {
        if (!property_tensor_check(&tensors[i], !failed, text, sizeof text)) {
            return property_report_set(rank->report, "%s: %s", what, text);
        }
    }
    return true;
}
