#include "moe/tensor_check.h"

#include "memory/arena.h"
#include "moe/view.h"

void epx_tensor_rule_add(struct epx_tensor_rules *rules, const struct epx_tensor_rule *rule)
{
    rules->rules[rules->count++] = *rule;
}

static enum epx_status form_check(const struct epx_tensor_rule *rule)
{
    const struct epx_view *view = rule->view;
    if (view->dim_count != rule->dim_count) {
        return epx_fail(EPX_ERR_SHAPE, "%s has %u dimensions, must have %u", rule->name, view->dim_count,
                        rule->dim_count);
    }
    if (view->dtype != rule->dtype) {
        return epx_fail(EPX_ERR_DTYPE, "%s has dtype %s, must be %s", rule->name, epx_dtype_name(view->dtype),
                        epx_dtype_name(rule->dtype));
    }
    for (uint32_t dim = 0; dim < view->dim_count; dim++) {
        if (view->shape[dim] < 0) {
            return epx_fail(EPX_ERR_SHAPE, "%s has size %lld in dimension %u, must be >= 0", rule->name,
                            (long long)view->shape[dim], dim);
        }
        if (view->stride[dim] < 0) {
            return epx_fail(EPX_ERR_SHAPE, "%s has stride %lld in dimension %u, must be >= 0", rule->name,
                            (long long)view->stride[dim], dim);
        }
    }
    return EPX_OK;
}

static enum epx_status size_check(const struct epx_tensor_rule *rule)
{
    const struct epx_view *view = rule->view;
    const char *unit = rule->dim_count == 2 ? "rows" : "elements";
    if (view->shape[0] < rule->row_min || view->shape[0] > rule->row_max) {
        return epx_fail(EPX_ERR_SHAPE, "%s has %lld %s, must have %s%lld (%s)", rule->name, (long long)view->shape[0],
                        unit, rule->row_min == rule->row_max ? "" : "at least ", (long long)rule->row_min,
                        rule->row_is);
    }
    if (rule->dim_count == 2 && view->shape[1] != rule->columns) {
        return epx_fail(EPX_ERR_SHAPE, "%s has %lld columns, must have %lld (%s)", rule->name,
                        (long long)view->shape[1], (long long)rule->columns, rule->column_is);
    }
    return EPX_OK;
}

static enum epx_status extent_check(const struct epx_tensor_rule *rule)
{
    const struct epx_view *view = rule->view;
    uint64_t bytes;
    if (!epx_view_extent_bytes(view, &bytes)) {
        return epx_fail(EPX_ERR_SHAPE, "%s: sizes and strides reach beyond the address space", rule->name);
    }
    if (rule->output && epx_view_overlaps_itself(view)) {
        return epx_fail(EPX_ERR_SHAPE, "%s is an output and its elements overlap (strides %lld, %lld)", rule->name,
                        (long long)view->stride[0], (long long)(view->dim_count == 2 ? view->stride[1] : 0));
    }
    return EPX_OK;
}

static enum epx_status rule_check(const struct epx_tensor_rule *rule)
{
    if (!epx_view_present(rule->view)) {
        return rule->optional ? EPX_OK : epx_fail(EPX_ERR_NULL, "%s is null", rule->name);
    }
    EPX_TRY(form_check(rule));
    EPX_TRY(size_check(rule));
    return extent_check(rule);
}

static bool has_memory(const struct epx_view *view)
{
    return epx_view_present(view) && view->data != NULL && !epx_view_empty(view);
}

/* Memory of the arena is as long as its allocation: beyond it lies what belongs to others, or nothing. */
static enum epx_status memory_check(const struct epx_tensor_rule *rule)
{
    uint64_t bytes;
    if (has_memory(rule->view) && epx_view_extent_bytes(rule->view, &bytes) &&
        epx_arena_strays(rule->view->data, bytes)) {
        return epx_fail(EPX_ERR_INVALID, "%s has %llu bytes at %p, which are not all of one live allocation",
                        rule->name, (unsigned long long)bytes, rule->view->data);
    }
    return EPX_OK;
}

static enum epx_status overlap_check(const struct epx_tensor_rules *rules)
{
    for (uint32_t i = 0; i < rules->count; i++) {
        const struct epx_tensor_rule *output = &rules->rules[i];
        for (uint32_t other = 0; output->output && other < rules->count; other++) {
            const struct epx_tensor_rule *rule = &rules->rules[other];
            /* A pair of outputs is looked at once. */
            if (other == i || (rule->output && other > i) || !has_memory(output->view) || !has_memory(rule->view)) {
                continue;
            }
            if (epx_view_overlaps(output->view, rule->view)) {
                return epx_fail(EPX_ERR_INVALID, "%s overlaps %s in memory", output->name, rule->name);
            }
        }
    }
    return EPX_OK;
}

enum epx_status epx_tensor_rules_check(const struct epx_tensor_rules *rules)
{
    for (uint32_t i = 0; i < rules->count; i++) {
        EPX_TRY(rule_check(&rules->rules[i]));
    }
    return overlap_check(rules);
}

enum epx_status epx_tensor_rules_check_memory(const struct epx_tensor_rules *rules)
{
    for (uint32_t i = 0; i < rules->count; i++) {
        EPX_TRY(memory_check(&rules->rules[i]));
    }
    return EPX_OK;
}

const char *epx_tensor_rules_unbound(const struct epx_tensor_rules *rules)
{
    for (uint32_t i = 0; i < rules->count; i++) {
        const struct epx_tensor_rule *rule = &rules->rules[i];
        if (!rule->optional && epx_view_present(rule->view) && rule->view->data == NULL &&
            !epx_view_empty(rule->view)) {
            return rule->name;
        }
    }
    return NULL;
}
