#include "fuzz/hostile_world.h"

#include "fuzz/hostile_guard.h"
#include "fuzz/hostile_wire.h"
#include "memory/arena.h"
#include "moe/combine_plan.h"
#include "moe/combine_relay.h"
#include "ranks/hosts_world.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS   4
#define TOPK     2
#define HIDDEN   16
#define ROWS     20  /* more than come honestly */
#define TAIL     600 /* entries of ep_recv_counts behind the counts */
#define PER_RANK 2   /* experts of a rank that does not hold the shared one */
#define SIDE_MAX (2 * HOSTILE_RANKS)

/* A rank, its plans and its tensors. Those are not in its arena, and of their sizes and no more. */
struct hostile_side {
    const struct hostile_variant *variant;
    uint32_t rank; /* in its group */
    struct epx_comm *comm;
    struct epx_comm *tp_comm; /* null without */
    struct epx_dispatch_plan *dispatch;
    struct epx_dispatch_binding binding;
    struct epx_combine_plan *combine;
    struct epx_dispatch_tensors in;
    struct epx_combine_tensors back;
};

/* A communicator of the tested rank before the operation. */
struct kept_comm {
    struct epx_comm *comm; /* null: none */
    struct epx_comm state;
    struct epx_remote remote;
    struct epx_remote_peer peers[HOSTILE_RANKS];
    struct epx_wire *wire;
    uint8_t *control;
    uint64_t control_bytes;
};

struct hostile_before {
    struct kept_comm ep;
    struct kept_comm tp;
    bool plan_changed; /* by what a peer has announced */
};

void hostile_require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static struct epx_view tensor(enum epx_dtype dtype, int64_t rows, int64_t columns, size_t elem_bytes)
{
    int64_t elems = rows * (columns > 0 ? columns : 1);
    uint8_t *data = malloc((size_t)elems * elem_bytes);
    hostile_require(data != NULL);
    for (int64_t i = 0; i < elems * (int64_t)elem_bytes; i++) {
        data[i] = (uint8_t)(i * 37 + 11);
    }
    return (struct epx_view){.data = data,
                             .dtype = dtype,
                             .dim_count = columns > 0 ? 2 : 1,
                             .shape = {rows, columns},
                             .stride = {columns > 0 ? columns : 1, columns > 0 ? 1 : 0}};
}

static struct epx_moe_shape shape_of(const struct hostile_variant *variant)
{
    return (struct epx_moe_shape){
        .expert_count = PER_RANK * ((int64_t)HOSTILE_RANKS - variant->shared_ranks),
        .hidden_elems = HIDDEN,
        .topk = TOPK,
        .shared_rank_count = variant->shared_ranks,
        .shared_expert_count = variant->shared_ranks > 0 ? 1 : 0,
        .tp_rank_count = variant->tp ? 2 : 0,
        .global_token_count = variant->global_tokens,
        .dtype = EPX_DTYPE_BF16,
        .quantization = variant->quantized ? EPX_QUANTIZATION_DYNAMIC_INT8 : EPX_QUANTIZATION_NONE,
        .comm_quantization = variant->return_int8 ? EPX_COMM_QUANTIZATION_INT8 : EPX_COMM_QUANTIZATION_NONE,
        .algorithm = variant->two_level ? EPX_ALGORITHM_TWO_LEVEL : EPX_ALGORITHM_FULL_MESH,
    };
}

static void tensors_init(struct hostile_side *side)
{
    const struct hostile_variant *variant = side->variant;
    struct epx_moe_shape shape = shape_of(variant);
    int64_t local = epx_moe_local_expert_count(&shape, HOSTILE_RANKS, side->rank);
    side->in = (struct epx_dispatch_tensors){
        .x = tensor(EPX_DTYPE_BF16, TOKENS, HIDDEN, 2),
        .expert_ids = tensor(EPX_DTYPE_INT32, TOKENS, TOPK, 4),
        .expert_scales = tensor(EPX_DTYPE_FP32, TOKENS, TOPK, 4),
        .expand_x =
            tensor(variant->quantized ? EPX_DTYPE_INT8 : EPX_DTYPE_BF16, ROWS, HIDDEN, variant->quantized ? 1 : 2),
        .expand_idx = tensor(EPX_DTYPE_INT32, (int64_t)TOKENS * TOPK, 0, 4),
        .expert_token_nums = tensor(EPX_DTYPE_INT64, local, 0, 8),
        .ep_recv_counts = tensor(EPX_DTYPE_INT32, 2 * (int64_t)HOSTILE_RANKS * local + TAIL, 0, 4),
        .expand_scales = tensor(EPX_DTYPE_FP32, ROWS, 0, 4),
    };
    if (variant->tp) {
        side->in.tp_recv_counts = tensor(EPX_DTYPE_INT32, 2, 0, 4);
    }
    if (variant->quantized) {
        side->in.dynamic_scales = tensor(EPX_DTYPE_FP32, ROWS, 0, 4);
    }
    if (variant->smooth) {
        side->in.smooth_scales =
            tensor(EPX_DTYPE_FP32, shape.expert_count + (variant->shared_ranks > 0 ? 1 : 0), HIDDEN, 4);
    }
    int32_t *ids = side->in.expert_ids.data;
    for (int32_t copy = 0; copy < TOKENS * TOPK; copy++) {
        ids[copy] = (int32_t)((copy * 3 + (int32_t)side->rank) % shape.expert_count);
        ((float *)side->in.expert_scales.data)[copy] = 0.25f * (float)copy;
    }
    side->back = (struct epx_combine_tensors){
        .expand_x = side->in.expand_x,
        .expert_ids = side->in.expert_ids,
        .expand_idx = side->in.expand_idx,
        .ep_send_counts = side->in.ep_recv_counts,
        .expert_scales = side->in.expert_scales,
        .tp_send_counts = side->in.tp_recv_counts,
        .x = tensor(EPX_DTYPE_BF16, TOKENS, HIDDEN, 2),
    };
}

static void dispatch_plan(struct hostile_side *side)
{
    struct epx_dispatch_tensors bound = side->in;
    const struct epx_dispatch_request request = {.comm = side->comm,
                                                 .tp_comm = side->tp_comm,
                                                 .shape = shape_of(side->variant),
                                                 .token_count = TOKENS,
                                                 .tensors = side->in};
    hostile_require(epx_dispatch_plan_create(&request, &side->dispatch) == EPX_OK);
    if (side->variant->views) {
        static int64_t views[HOSTILE_RANKS][ROWS];
        bound.row_views = (struct epx_view){
            .data = views[side->rank], .dtype = EPX_DTYPE_INT64, .dim_count = 1, .shape = {ROWS}, .stride = {1}};
    }
    hostile_require(epx_dispatch_binding_init(side->dispatch, TOKENS, &bound, &side->binding) == EPX_OK);
}

static void combine_plan(struct hostile_side *side)
{
    const struct epx_combine_request request = {.comm = side->comm,
                                                .tp_comm = side->tp_comm,
                                                .shape = shape_of(side->variant),
                                                .token_count = TOKENS,
                                                .tensors = side->back};
    hostile_require(epx_combine_plan_create(&request, &side->combine) == EPX_OK);
}

static void *dispatch_honestly(void *context)
{
    struct hostile_side *side = context;
    epx_dispatch_binding_reserve(side->dispatch, &side->binding);
    hostile_require(epx_dispatch_binding_run(side->dispatch, &side->binding, NULL) == EPX_OK);
    return NULL;
}

static void *combine_honestly(void *context)
{
    struct hostile_side *side = context;
    epx_combine_plan_reserve(side->combine);
    hostile_require(epx_combine_run(side->combine, NULL) == EPX_OK);
    return NULL;
}

static uint32_t side_count(const struct hostile_variant *variant)
{
    return variant->tp ? SIDE_MAX : HOSTILE_RANKS;
}

static void run_all(struct hostile_side *sides, void *(*run)(void *side))
{
    pthread_t threads[SIDE_MAX];
    uint32_t count = side_count(sides[0].variant);
    for (uint32_t i = 0; i < count; i++) {
        hostile_require(pthread_create(&threads[i], NULL, run, &sides[i]) == 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        hostile_require(pthread_join(threads[i], NULL) == 0);
    }
}

/* Worlds have keys of their own: two for the groups, and one for each tensor-parallel pair. */
static struct hostile_side *sides_open(const struct hostile_variant *variant)
{
    static uint64_t key = 1;
    struct hostile_side *sides = calloc(SIDE_MAX, sizeof *sides);
    hostile_require(sides != NULL);
    for (uint32_t i = 0; i < side_count(variant); i++) {
        uint32_t rank = i % HOSTILE_RANKS;
        const struct hosts_spec ep = {.key = key + i / HOSTILE_RANKS,
                                      .rank = rank,
                                      .rank_count = HOSTILE_RANKS,
                                      .server_rank_count = 2,
                                      .host_of = {0, 0, 1, 1},
                                      .op_timeout_ms = 20000};
        const struct hosts_spec tp = {
            .key = key + 2 + rank, .rank = i / HOSTILE_RANKS, .rank_count = 2, .op_timeout_ms = 20000};
        sides[i] = (struct hostile_side){.variant = variant, .rank = rank, .comm = hosts_open(&ep)};
        sides[i].tp_comm = variant->tp ? hosts_open(&tp) : NULL;
        tensors_init(&sides[i]);
        dispatch_plan(&sides[i]);
    }
    key += 2 + HOSTILE_RANKS;
    return sides;
}

static void comm_keep(struct kept_comm *kept, struct epx_comm *comm)
{
    const struct epx_remote *remote = comm->hosts->remote;
    hostile_require(remote->peer_count <= HOSTILE_RANKS);
    kept->comm = comm;
    kept->state = *comm;
    kept->remote = *remote;
    memcpy(kept->peers, remote->peers, remote->peer_count * sizeof *remote->peers);
    kept->wire = comm->hosts->wire;
    kept->control_bytes = epx_control_bytes(comm->rank_count);
    kept->control = malloc(kept->control_bytes);
    hostile_require(kept->control != NULL);
    memcpy(kept->control, comm->control, kept->control_bytes);
}

static void comm_restore(const struct kept_comm *kept)
{
    struct epx_remote *remote = kept->comm->hosts->remote;
    *kept->comm = kept->state;
    *remote = kept->remote;
    memcpy(remote->peers, kept->peers, remote->peer_count * sizeof *remote->peers);
    kept->comm->hosts->wire = kept->wire;
    memcpy(kept->comm->control, kept->control, kept->control_bytes);
    atomic_store(&kept->comm->control->parts, UINT64_MAX / 2); /* nobody is waited for between parts */
}

static void keep_state(struct hostile_world *world)
{
    const struct hostile_side *side = &world->sides[world->variant->own];
    struct hostile_before *before = calloc(1, sizeof *before);
    hostile_require(before != NULL);
    comm_keep(&before->ep, side->comm);
    if (side->tp_comm != NULL) {
        comm_keep(&before->tp, side->tp_comm);
    }
    world->before = before;
}

static void region_keep(struct hostile_world *world, const struct epx_comm *comm, uint32_t rank, uint64_t round)
{
    struct hostile_region *region = &world->regions[world->region_count++];
    region->entry = &comm->control->slots[rank].entries[round & 1];
    region->honest_entry = *region->entry;
    region->bytes = region->entry->publication.bytes;
    region->memory = epx_arena_at(comm->arenas[rank], region->entry->publication.offset, region->bytes);
    region->honest = malloc(region->bytes);
    hostile_require(region->memory != NULL && region->honest != NULL && region->bytes > 0);
    memcpy(region->honest, region->memory, region->bytes);
}

/* What the peers on the tested rank's host have put up. */
static void keep_regions(struct hostile_world *world, uint64_t round)
{
    const struct hostile_side *side = &world->sides[world->variant->own];
    uint32_t peer = 1 - world->variant->own;
    region_keep(world, side->comm, peer, round);
    region_keep(world, side->comm, peer + 2, round);
    if (side->tp_comm != NULL) {
        region_keep(world, side->tp_comm, 1, round);
    }
}

static bool relay_has_grown(const struct epx_combine_plan *plan)
{
    bool grown = false;
    for (uint32_t i = 0; plan->relay != NULL && i < plan->relay->task_count; i++) {
        grown = grown || plan->relay->tasks[i].token_capacity != TOKENS;
    }
    return grown;
}

/* Mirrors that were made anew for what a peer has announced do not outlive the try. */
static void plan_renew(struct hostile_world *world)
{
    struct hostile_side *side = &world->sides[world->variant->own];
    if (world->variant->operation == EPX_OPERATION_DISPATCH && world->before->plan_changed) {
        epx_dispatch_plan_destroy(side->dispatch);
        dispatch_plan(side);
    } else if (world->variant->operation == EPX_OPERATION_COMBINE &&
               (world->before->plan_changed || relay_has_grown(side->combine))) {
        epx_combine_plan_destroy(side->combine);
        combine_plan(side);
    }
    world->before->plan_changed = false;
}

void hostile_reset(struct hostile_world *world)
{
    comm_restore(&world->before->ep);
    if (world->before->tp.comm != NULL) {
        comm_restore(&world->before->tp);
    }
    for (uint32_t i = 0; i < world->region_count; i++) {
        struct hostile_region *region = &world->regions[i];
        *region->entry = region->honest_entry;
        memcpy(region->memory, region->honest, region->bytes);
    }
    hostile_messages_copy(world);
    plan_renew(world);
}

enum epx_status hostile_run(struct hostile_world *world)
{
    struct hostile_side *side = &world->sides[world->variant->own];
    uint64_t live_bytes[2];
    uint64_t live_count[2];
    enum epx_status status;
    epx_arena_usage(&live_bytes[0], &live_count[0]);
    hostile_wire_play(world);
    if (world->variant->operation == EPX_OPERATION_DISPATCH) {
        epx_dispatch_binding_reserve(side->dispatch, &side->binding);
        status = epx_dispatch_binding_run(side->dispatch, &side->binding, NULL);
    } else {
        epx_combine_plan_reserve(side->combine);
        status = epx_combine_run(side->combine, NULL);
    }
    hostile_wire_play(NULL);
    hostile_guard_check();
    epx_arena_usage(&live_bytes[1], &live_count[1]);
    world->before->plan_changed = live_bytes[0] != live_bytes[1] || live_count[0] != live_count[1];
    return status;
}

/* A digest of what the operation writes. */
static uint64_t outputs_digest(const struct hostile_side *side)
{
    const struct epx_view *dispatched[] = {&side->in.expand_x, &side->in.expand_idx, &side->in.expert_token_nums,
                                           &side->in.ep_recv_counts};
    const struct epx_view *combined[] = {&side->back.x};
    bool is_dispatch = side->variant->operation == EPX_OPERATION_DISPATCH;
    const struct epx_view **views = is_dispatch ? dispatched : combined;
    uint64_t digest = 14695981039346656037u;
    for (size_t i = 0; i < (is_dispatch ? sizeof dispatched / sizeof dispatched[0] : 1); i++) {
        const uint8_t *bytes = views[i]->data;
        int64_t count = views[i]->shape[0] * (views[i]->dim_count == 2 ? views[i]->shape[1] : 1);
        size_t elem_bytes = views[i]->dtype == EPX_DTYPE_INT64   ? 8
                            : views[i]->dtype == EPX_DTYPE_INT32 ? 4
                            : views[i]->dtype == EPX_DTYPE_INT8  ? 1
                                                                 : 2;
        for (size_t at = 0; at < (size_t)count * elem_bytes; at++) {
            digest = (digest ^ bytes[at]) * 1099511628211u;
        }
    }
    return digest;
}

struct hostile_world *hostile_open(const struct hostile_variant *variant)
{
    struct hostile_world *world = calloc(1, sizeof *world);
    hostile_require(world != NULL);
    /* A plan that is made anew does not look at the machine again. */
    (void)setenv("EPX_STREAM_KIB", "1024", 1);
    (void)setenv("EPX_THREADS", "1", 1);
    world->variant = variant;
    world->sides = sides_open(variant);
    world->comm = world->sides[variant->own].comm;
    bool combines = variant->operation == EPX_OPERATION_COMBINE;
    if (combines) {
        run_all(world->sides, dispatch_honestly);
        for (uint32_t i = 0; i < side_count(variant); i++) {
            combine_plan(&world->sides[i]);
        }
    }
    keep_state(world);
    hostile_wire_record(world);
    run_all(world->sides, combines ? combine_honestly : dispatch_honestly);
    hostile_wire_record(NULL);
    keep_regions(world, combines ? 2 : 1);
    uint64_t digest = outputs_digest(&world->sides[variant->own]);
    if (combines) {
        memset(world->sides[variant->own].back.x.data, 0, (size_t)TOKENS * HIDDEN * 2);
    }
    hostile_reset(world);
    hostile_require(hostile_run(world) == EPX_OK);
    hostile_require(outputs_digest(&world->sides[variant->own]) == digest);
    return world;
}
