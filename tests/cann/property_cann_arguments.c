/* What both operators are given that a world leaves open, and the rows of dispatch for combine. */
#include "cann/property_cann_run.h"

#include <stdlib.h>
#include <string.h>

int64_t property_cann_shared_expert_num(const struct world *world)
{
    return world->shape.shared_rank_count > 0 ? 1 : (int64_t)(world->seed & 1u);
}

int64_t property_cann_tp_world_size(const struct world *world)
{
    return world->shape.tp_count == 2 ? 2 : (int64_t)(world->seed >> 1 & 1u);
}

const char *property_cann_group_tp(struct property_cann_run *run)
{
    static const char *const unused[] = {"", NULL, "no such group"};
    return run->place->tp_comm != NULL ? run->place->tp_name : unused[random_between(&run->random, 0, 2)];
}

int64_t property_cann_tp_rank_id(struct property_cann_run *run)
{
    static const int64_t unused[] = {0, 1, -1, INT64_MAX};
    if (run->place->tp_comm != NULL) {
        return run->place->group;
    }
    return run->place->owner->product == EPX_PRODUCT_A3 ? 0 : unused[random_between(&run->random, 0, 3)];
}

int64_t property_cann_rows(const struct property_cann_run *run, int64_t rows)
{
    const struct ref_shape *shape = &run->world->shape;
    const int64_t tokens = run->world->tokens[run->place->index].token_count;
    const int64_t all = shape->global_token_count != 0 ? shape->global_token_count : tokens * shape->rank_count;
    const int64_t local = ref_local_expert_count(shape, run->place->group_rank);
    if (run->place->owner->product == EPX_PRODUCT_HOST) {
        return rows;
    }
    const bool shared = run->place->group_rank < shape->shared_rank_count;
    const int64_t page = shared ? all / shape->shared_rank_count : all * (local < shape->topk ? local : shape->topk);
    return page * shape->tp_count > rows ? page * shape->tp_count : rows;
}

int64_t property_cann_more(struct property_cann_run *run, int64_t most)
{
    const int64_t more = random_between(&run->random, 0, most);
    return run->place->owner->product == EPX_PRODUCT_A3 ? 0 : more;
}

bool property_cann_dense(struct property_cann_run *run)
{
    return random_percent(&run->random, 50);
}

void property_cann_ignored(struct property_cann_run *run, struct property_cann_tensor *tensor, const char *name,
                           bool required)
{
    if (required || random_percent(&run->random, 60)) {
        property_cann_decoy(tensor, &run->random, name);
    }
}

void property_cann_ignored_tp_counts(struct property_cann_run *run, struct property_cann_tensor *tensor,
                                     const char *name, bool required)
{
    property_cann_ignored(run, tensor, name, required);
    if (run->place->owner->product == EPX_PRODUCT_A3 && property_cann_tp_world_size(run->world) == 1) {
        tensor->dims[0] = 1;
        tensor->dim_count = 1;
    }
}

int property_cann_storage_count(const struct property_cann_run *run)
{
    return run->plan.repeatable && run->plan.moves && run->plan.repeats > 1 ? 2 : 1;
}

/* ---- Rows of dispatch for combine -------------------------------------------------------------------------------- */

bool property_cann_rows_chained(const struct world *world, int64_t index)
{
    return world->fault == WORLD_FAULT_NONE && !world->shape.quantize &&
           (random_mix(world->seed, 5000 + (uint64_t)index) & 1u) != 0;
}

void property_cann_chain_rows(struct world *world)
{
    bool any = false;
    for (int64_t i = 0; i < world->world_size; i++) {
        if (property_cann_rows_chained(world, i) && world->received[i].row_count > 0) {
            memcpy((void *)(uintptr_t)world->returns[i].expand_x, world->received[i].expand_x,
                   (size_t)(world->received[i].row_count * world->shape.hidden) * sizeof(uint16_t));
            any = true;
        }
    }
    if (!any) {
        return;
    }
    for (int64_t i = 0; i < world->world_size; i++) {
        free(world->x[i]);
        world->x[i] = NULL;
    }
    ref_combine(&world->shape, world->returns, world->x, &world->combine_error);
}
