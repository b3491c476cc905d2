/*
 * The two-level sum: one partial per server, then the servers.
 */
#include "reference/reference_internal.h"

#include <stdlib.h>

/* The copy of `token` on `server` with the smallest (expert in server, slot) above (*expert, *slot); -1: none. */
static int64_t next_copy(const struct ref_shape *shape, const struct ref_returns *home, int64_t token, int64_t server,
                         int64_t *expert, int64_t *slot)
{
    int64_t found = -1;
    int64_t best_expert = INT64_MAX;
    int64_t best_slot = INT64_MAX;
    for (int64_t j = token * shape->topk; j < (token + 1) * shape->topk; j++) {
        int64_t id = home->expert_ids[j];
        if (ref_server_of(shape, ref_owner_of(shape, id)) != server) {
            continue;
        }
        int64_t in_server = ref_index_in_server(shape, id);
        int64_t occurrence = ref_occurrence(home->expert_ids, j);
        bool after = in_server > *expert || (in_server == *expert && occurrence > *slot);
        bool better = in_server < best_expert || (in_server == best_expert && occurrence < best_slot);
        if (after && better) {
            found = j;
            best_expert = in_server;
            best_slot = occurrence;
        }
    }
    *expert = best_expert;
    *slot = best_slot;
    return found;
}

void ref_sum_two_level(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index, int64_t token,
                       float *sum)
{
    int64_t rank = index % shape->rank_count;
    const struct ref_returns *home = &returns[index];
    uint16_t *row = ref_alloc(shape->hidden, sizeof *row);
    float *partial = ref_alloc(shape->hidden, sizeof *partial);
    for (int64_t server = 0; server < shape->rank_count / shape->server_rank_count; server++) {
        int64_t in_server = -1;
        int64_t slot = -1;
        bool any = false;
        int64_t j;
        while ((j = next_copy(shape, home, token, server, &in_server, &slot)) >= 0) {
            int64_t expert = home->expert_ids[j];
            int64_t owner = index - rank + ref_owner_of(shape, expert);
            int64_t first;
            int64_t count;
            ref_block(&returns[owner], ref_local_index_of(shape, expert) * shape->rank_count + rank, &first, &count);
            ref_returned_row(shape, returns, owner, first + slot, row);
            for (int64_t h = 0; !any && h < shape->hidden; h++) {
                partial[h] = -0.0f; /* -0 + product is the product, its sign included */
            }
            any = true;
            ref_add_weighted_row(shape->format, partial, row, home->expert_scales[j], shape->hidden);
        }
        if (any) {
            ref_add_partial_row(shape->format, shape->comm_quantize, sum, partial, shape->hidden);
        }
    }
    free(row);
    free(partial);
}
