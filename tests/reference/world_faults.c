#include "reference/world_faults.h"

static const char *const fault_names[WORLD_FAULT_COUNT] = {
    "none",         "dispatch-id",    "dispatch-capacity", "combine-id", "combine-slot",
    "combine-rows", "combine-counts", "combine-shared",    "combine-tp",
};

const char *world_fault_name(enum world_fault fault)
{
    return fault_names[fault];
}

/* The faults of rare shapes get a larger share of them. */
enum world_fault world_fault_draw(const struct ref_shape *shape, struct random_source *random)
{
    if (shape->shared_rank_count > 0 && random_percent(random, 30)) {
        return WORLD_FAULT_COMBINE_SHARED;
    }
    if (shape->tp_count == 2 && random_percent(random, 30)) {
        return WORLD_FAULT_COMBINE_TP;
    }
    if (!shape->two_level && random_percent(random, 20)) {
        return WORLD_FAULT_COMBINE_SLOT;
    }
    return (enum world_fault)random_between(random, 1, WORLD_FAULT_COMBINE_COUNTS);
}

/* A rank that has tokens, from a random one on; -1: none. */
static int64_t rank_with_tokens(const struct world *world, struct random_source *random)
{
    int64_t start = random_between(random, 0, world->world_size - 1);
    for (int64_t i = 0; i < world->world_size; i++) {
        int64_t index = (start + i) % world->world_size;
        if (world->tokens[index].token_count > 0) {
            return index;
        }
    }
    return -1;
}

static void spoil_id(const struct world *world, struct random_source *random, int32_t *ids, int64_t token_count)
{
    int64_t expert_count = world->shape.expert_count;
    int64_t bad[] = {-1, expert_count, INT32_MIN, INT32_MAX, expert_count + random_between(random, 1, 1000)};
    int64_t place = random_between(random, 0, token_count * world->shape.topk - 1);
    ids[place] = (int32_t)bad[random_between(random, 0, 4)];
}

static int64_t fullest_rank(const struct world *world)
{
    int64_t fullest = 0;
    for (int64_t i = 0; i < world->world_size; i++) {
        fullest = world->received[i].row_count > world->received[fullest].row_count ? i : fullest;
    }
    return fullest;
}

bool world_spoil_tokens(struct world *world, struct random_source *random)
{
    int64_t victim = rank_with_tokens(world, random);
    int64_t fullest = fullest_rank(world);
    if (world->fault == WORLD_FAULT_DISPATCH_ID && victim >= 0) {
        spoil_id(world, random, world->tokens[victim].expert_ids, world->tokens[victim].token_count);
        return true;
    }
    if (world->fault == WORLD_FAULT_DISPATCH_CAPACITY && world->received[fullest].row_count > 0) {
        world->tokens[fullest].row_capacity = world->received[fullest].row_count - 1;
        return true;
    }
    return false;
}

/* Moves the end of a shared rank's own rows, or of a source's, by one row. */
static void spoil_shared_counts(const struct world *world, struct random_source *random)
{
    const struct ref_shape *shape = &world->shape;
    if (shape->shared_rank_count == 0) {
        return;
    }
    int64_t group = random_between(random, 0, shape->tp_count - 1);
    int64_t victim = group * shape->rank_count + random_between(random, 0, shape->shared_rank_count - 1);
    int64_t last = shape->rank_count - 2;
    bool of_source = last >= shape->shared_rank_count && random_percent(random, 75);
    int64_t block = of_source ? random_between(random, shape->shared_rank_count, last) : shape->shared_rank_count - 1;
    int32_t *counts = (int32_t *)(uintptr_t)world->returns[victim].ep_send_counts;
    if (counts[block] < counts[block + 1]) {
        counts[block]++;
    } else if (counts[block] > (block == 0 ? 0 : counts[block - 1])) {
        counts[block]--;
    }
}

void world_spoil_returns(struct world *world, struct random_source *random)
{
    int64_t victim = rank_with_tokens(world, random);
    if (victim < 0) {
        return;
    }
    struct ref_returns *rank = &world->returns[victim];
    int64_t copies = rank->token_count * world->shape.topk;
    int32_t *counts = (int32_t *)(uintptr_t)rank->ep_send_counts;
    int64_t own_blocks = world->received[victim].count_elems / world->shape.tp_count;
    switch (world->fault) {
    case WORLD_FAULT_COMBINE_ID:
        spoil_id(world, random, (int32_t *)(uintptr_t)rank->expert_ids, rank->token_count);
        break;
    case WORLD_FAULT_COMBINE_SLOT:
        if (rank->expand_idx != NULL) {
            int32_t *slots = (int32_t *)(uintptr_t)rank->expand_idx;
            int64_t place = random_between(random, 0, copies - 1);
            slots[place] = random_percent(random, 50) ? -1 : (int32_t)copies;
        }
        break;
    case WORLD_FAULT_COMBINE_ROWS:
        rank->row_capacity = world->received[victim].row_count - 1;
        if (rank->row_capacity < 0) {
            rank->row_capacity = 0;
        }
        break;
    case WORLD_FAULT_COMBINE_COUNTS:
        if (own_blocks > 1) {
            int64_t block = random_between(random, 1, own_blocks - 1);
            counts[block] = counts[block - 1] - 1;
        }
        break;
    case WORLD_FAULT_COMBINE_SHARED: spoil_shared_counts(world, random); break;
    case WORLD_FAULT_COMBINE_TP:
        if (rank->tp_send_counts != NULL) {
            int32_t *tp_counts = (int32_t *)(uintptr_t)rank->tp_send_counts;
            tp_counts[random_between(random, 0, 1)] += random_percent(random, 50) ? 1 : -1;
        }
        break;
    default: break;
    }
}
