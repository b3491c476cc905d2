/*
 * Random worlds that the products A2 and A3 allow, through the CANN door under those products: what the interface page
 * calls valid is accepted, and its results are the reference's.
 */
#include "cann/property_cann_run.h"
#include "cann/property_cann_threads.h"

#include <stdlib.h>
#include <string.h>

#define CASE_COUNT 24
#define SERVER     8
#define A2_UNEQUAL 256 /* BS that globalBs stands for where ranks differ */
#define A3_HIDDEN  7168

static enum epx_product product_of(int64_t number)
{
    return number % 2 == 0 ? EPX_PRODUCT_A2 : EPX_PRODUCT_A3;
}

/* What both products allow; W, TP, S are there. */
static void draw_common(struct ref_shape *shape, struct random_source *random, int64_t local_max)
{
    const int64_t moe_ranks = shape->rank_count - shape->shared_rank_count;
    shape->expert_count = moe_ranks * random_between(random, 1, shape->tp_count == 2 ? 1 : local_max);
    shape->topk = random_between(random, 1, shape->expert_count < 8 ? shape->expert_count : 8);
    shape->format = random_percent(random, 50) ? REF_FP16 : REF_BF16;
    shape->quantize = random_percent(random, 50);
    shape->smooth = shape->quantize && random_percent(random, 50);
    shape->token_nums = random_percent(random, 50) ? REF_TOKEN_NUMS_PREFIX : REF_TOKEN_NUMS_COUNT;
}

static void draw_token_counts(struct random_source *random, int64_t *counts, int64_t rank_count, int64_t most,
                              bool equal)
{
    const int64_t common = random_between(random, 1, most);
    for (int64_t i = 0; i < rank_count; i++) {
        counts[i] = equal ? common : random_between(random, 1, most);
    }
    counts[0] = equal ? common : most;
}

static void draw_a2(struct ref_shape *shape, struct random_source *random, int64_t *counts)
{
    const bool equal = random_percent(random, 60);
    draw_common(shape, random, 3);
    shape->hidden = equal && random_percent(random, 15) ? 7168 : 32 * random_between(random, 1, 6);
    shape->two_level = random_percent(random, 40);
    shape->comm_quantize = shape->two_level && random_percent(random, 50);
    draw_token_counts(random, counts, shape->rank_count, shape->hidden == 7168 ? 2 : 6, equal);
    if (!equal) {
        shape->global_token_count = A2_UNEQUAL * shape->rank_count;
    } else if (random_percent(random, 50)) {
        shape->global_token_count = counts[0] * shape->rank_count;
    }
}

static void draw_a3(struct ref_shape *shape, struct random_source *random, int64_t *counts)
{
    const bool equal = random_percent(random, 60);
    const int64_t shared_max = shape->rank_count / 2;
    do {
        shape->shared_rank_count = random_percent(random, 50) ? 0 : random_between(random, 1, shared_max);
    } while (shape->shared_rank_count != 0 && shape->rank_count % shape->shared_rank_count != 0);
    draw_common(shape, random, 2);
    shape->hidden = A3_HIDDEN;
    shape->comm_quantize = shape->tp_count == 1 && random_percent(random, 30);
    draw_token_counts(random, counts, shape->rank_count * shape->tp_count, 2, equal || shape->shared_rank_count != 0);
    if (!equal || random_percent(random, 50)) {
        shape->global_token_count = shape->rank_count * (2 + random_between(random, 0, 1));
    }
}

static void draw_world(const struct property_case *test, struct random_source *random, struct world *world)
{
    int64_t counts[PROPERTY_CANN_RANK_MAX];
    struct ref_shape shape = {.rank_count = test->limits.rank_count,
                              .tp_count = test->limits.tp_count,
                              .server_rank_count = test->limits.server_rank_count};
    if (product_of(test->number) == EPX_PRODUCT_A2) {
        draw_a2(&shape, random, counts);
    } else {
        draw_a3(&shape, random, counts);
    }
    world_init_shaped(world, &shape, counts, random_bits(random));
    while (shape.two_level && world->tokens[0].expert_scales == NULL) {
        world_fini(world); /* A2 wants weights with this algorithm */
        world_init_shaped(world, &shape, counts, random_bits(random));
    }
    world->expand_scales_given = true;
    property_cann_chain_rows(world);
}

static void draw_case(struct property_case *test, const struct property_options *options, int64_t number)
{
    struct random_source random;
    memset(test, 0, sizeof *test);
    test->seed = options->seed;
    test->number = number;
    random_seed(&random, random_mix(options->seed, (uint64_t)number));
    const bool is_a2 = product_of(number) == EPX_PRODUCT_A2;
    test->limits.tp_count = !is_a2 && random_percent(&random, 40) ? 2 : 1;
    test->limits.rank_count = is_a2 || (test->limits.tp_count == 1 && random_percent(&random, 40)) ? 16 : 8;
    test->limits.server_rank_count = SERVER;
    test->rank_count = test->limits.rank_count * test->limits.tp_count;
    test->world_count = 2;
    for (int64_t i = 0; i < test->world_count; i++) {
        draw_world(test, &random, &test->worlds[i]);
    }
}

static void run_case(const struct property_case *test, struct property_report *reports)
{
    setenv("EPX_PRODUCT", product_of(test->number) == EPX_PRODUCT_A2 ? "A2" : "A3", 1);
    property_cann_run_threads(test, product_of(test->number), reports);
}

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_cann_products",
        .case_count = CASE_COUNT,
        .rank_max = PROPERTY_CANN_RANK_MAX,
        .init = draw_case,
        .run = run_case,
    };
    property_cann_environment_set();
    unsetenv("HCCL_BUFFSIZE");
    const int code = property_main(argc, argv, &program);
    property_cann_threads_print(program.name);
    return code;
}
