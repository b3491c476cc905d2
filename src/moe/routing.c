#include "moe/routing.h"

#include <string.h>

int64_t epx_routing_compute(const int32_t *ids, int64_t copy_count, int64_t expert_count,
                            const struct epx_routing *routing)
{
    int32_t *offsets = routing->offsets;
    memset(offsets, 0, ((size_t)expert_count + 1) * sizeof *offsets);
    for (int64_t j = 0; j < copy_count; j++) {
        if (ids[j] < 0 || ids[j] >= expert_count) {
            return j;
        }
        routing->occurrence[j] = offsets[ids[j] + 1]++;
    }
    for (int64_t expert = 0; expert < expert_count; expert++) {
        offsets[expert + 1] += offsets[expert];
    }
    for (int64_t j = 0; j < copy_count; j++) {
        routing->sorted[offsets[ids[j]] + routing->occurrence[j]] = (int32_t)j;
    }
    return -1;
}
