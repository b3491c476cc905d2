#include "ranks/pair_world.h"

#include <string.h>

#define LOCAL_EXPERT_MAX 4
#define TOPK_MAX         8

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Mostly small: what is shown is in the number of rounds. */
static int64_t draw_hidden(struct random_source *random, int64_t hidden_max)
{
    static const int64_t edges[] = {1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129};
    int64_t choice = random_between(random, 0, 9);
    int64_t hidden = choice < 4   ? random_between(random, 1, 200)
                     : choice < 9 ? edges[random_between(random, 0, (int64_t)(sizeof edges / sizeof *edges) - 1)]
                                  : random_between(random, 200, 1024);
    return min_of(hidden, hidden_max);
}

static void draw_shape(struct ref_shape *shape, struct random_source *random, const struct pair_limits *limits)
{
    int64_t ranks = limits->rank_count;
    memset(shape, 0, sizeof *shape);
    shape->rank_count = ranks;
    shape->tp_count = 1;
    shape->server_rank_count = limits->server_rank_count;
    shape->shared_rank_count = ranks > 1 && random_percent(random, 20) ? random_between(random, 1, ranks - 1) : 0;
    int64_t local_experts = random_between(random, 1, LOCAL_EXPERT_MAX);
    shape->expert_count = local_experts * (ranks - shape->shared_rank_count);
    shape->topk = random_between(random, 1, min_of(shape->expert_count, TOPK_MAX));
    shape->hidden = draw_hidden(random, limits->hidden_max);
    shape->format = random_percent(random, 50) ? REF_FP16 : REF_BF16;
    shape->quantize = random_percent(random, 40);
    shape->two_level = random_percent(random, 25);
    shape->smooth = shape->quantize && !shape->two_level && random_percent(random, 40);
    shape->comm_quantize = random_percent(random, 25);
    shape->token_nums = REF_TOKEN_NUMS_COUNT;
    if (limits->largest) {
        shape->shared_rank_count = 0;
        shape->expert_count = LOCAL_EXPERT_MAX * ranks;
        shape->topk = min_of(shape->expert_count, TOPK_MAX);
        shape->hidden = limits->hidden_max;
        shape->quantize = shape->smooth = false;
        shape->two_level = false;
    }
}

void pair_set_init(struct pair_set *set, const struct pair_limits *limits, uint32_t world_count, uint64_t seed)
{
    struct random_source random;
    int64_t token_counts[PAIR_RANK_MAX];
    random_seed(&random, seed);
    set->largest = limits->largest;
    draw_shape(&set->shape, &random, limits);
    set->token_max = limits->largest ? limits->token_max : random_between(&random, 1, limits->token_max);
    set->world_count = world_count;
    for (uint32_t i = 0; i < world_count; i++) {
        bool is_even = limits->largest || random_percent(&random, 50);
        for (int64_t rank = 0; rank < limits->rank_count; rank++) {
            token_counts[rank] = is_even ? set->token_max : random_between(&random, 0, set->token_max);
        }
        world_init_shaped(&set->worlds[i], &set->shape, token_counts, random_bits(&random));
    }
}

void pair_set_fini(struct pair_set *set)
{
    for (uint32_t i = 0; i < set->world_count; i++) {
        world_fini(&set->worlds[i]);
    }
    set->world_count = 0;
}
