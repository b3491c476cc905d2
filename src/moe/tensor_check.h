/*
 * Rules for one operation's tensors, as a table: which are there, dtype, shape, and that outputs share no memory with
 * anything. Pure, but for the question whose the arena's memory is. Thread: any.
 */
#ifndef EPX_MOE_TENSOR_CHECK_H
#define EPX_MOE_TENSOR_CHECK_H

#include "base/status.h"
#include "moe/request.h"

#include <stdbool.h>
#include <stdint.h>

#define EPX_TENSOR_RULES_MAX 12u

struct epx_tensor_rule {
    const char *name; /* as the interface page spells it */
    struct epx_view *view;
    enum epx_dtype dtype;
    uint32_t dim_count;
    int64_t row_min;    /* rows of a 2-D tensor, elements of a 1-D one */
    int64_t row_max;    /* row_min for an exact size */
    int64_t columns;    /* exact; 2-D */
    const char *row_is; /* what row_min stands for: "BS", "BS * K", … */
    const char *column_is;
    bool optional;
    bool output;
};

struct epx_tensor_rules {
    struct epx_tensor_rule rules[EPX_TENSOR_RULES_MAX];
    uint32_t count;
};

/* Appends a rule; `rules` has room. */
void epx_tensor_rule_add(struct epx_tensor_rules *rules, const struct epx_tensor_rule *rule);

/*
 * Every rule in order. EPX_ERR_NULL (absent and not optional), EPX_ERR_SHAPE (dimensions, sizes, strides, an extent
 * that does not fit the address space, an output that overlaps itself), EPX_ERR_DTYPE; then EPX_ERR_INVALID for an
 * output that overlaps another tensor. Views without an address are left out of the last.
 */
EPX_NODISCARD enum epx_status epx_tensor_rules_check(const struct epx_tensor_rules *rules);

/* EPX_ERR_INVALID for a tensor that meets the own arena and is not inside one live allocation. For addresses that are
 * to be used: those of a plan may be replaced before. */
EPX_NODISCARD enum epx_status epx_tensor_rules_check_memory(const struct epx_tensor_rules *rules);

/* The first present, not optional, not empty view without an address: its name; null when there is none. */
const char *epx_tensor_rules_unbound(const struct epx_tensor_rules *rules);

#endif
