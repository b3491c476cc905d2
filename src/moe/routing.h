/*
 * From expert ids to the order in which copies travel. Pure. Thread: any.
 *
 * A copy is a (token, k) pair with flat index j = token * topk + k.
 */
#ifndef EPX_MOE_ROUTING_H
#define EPX_MOE_ROUTING_H

#include <stdint.h>

struct epx_routing {
    int32_t *offsets;    /* [expert_count + 1]: where an expert's copies start in `sorted`; the last is copy_count */
    int32_t *sorted;     /* [copy_count]: flat indices by expert, ascending inside an expert */
    int32_t *occurrence; /* [copy_count], by flat index: earlier copies with the same expert */
};

/*
 * Fills all three arrays and returns -1, or returns the flat index of the first id outside [0, expert_count) with the
 * arrays undefined. copy_count <= INT32_MAX.
 */
int64_t epx_routing_compute(const int32_t *ids, int64_t copy_count, int64_t expert_count,
                            const struct epx_routing *routing);

#endif
