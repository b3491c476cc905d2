/*
 * Worlds that lose ranks: processes of door 1 that exchange tokens and check each bit, and go on without those that are
 * lost.
 */
#ifndef EPX_TESTS_SHRINK_WORLD_H
#define EPX_TESTS_SHRINK_WORLD_H

#include "epx/epx.h"
#include "ranks/rank_world.h"

#define SHRINK_TOKENS  3
#define SHRINK_HIDDEN  8
#define SHRINK_TOPK    2
#define SHRINK_LOCAL   2 /* experts of a rank */
#define SHRINK_ROW_MAX (WORLD_RANK_MAX * SHRINK_TOKENS * SHRINK_TOPK)

/* What ranks say to the parent, in shared memory; ranks are those of the first communicator. */
struct shrink_notes {
    uint32_t member_count[WORLD_RANK_MAX];                    /* of the rank's last communicator */
    uint32_t members[WORLD_RANK_MAX][WORLD_RANK_MAX];         /* first ranks of its ranks */
    enum epx_rank_fate fates[WORLD_RANK_MAX][WORLD_RANK_MAX]; /* of all first ranks, as the rank has been told */
    _Atomic uint64_t ready_ns[WORLD_RANK_MAX];                /* end of the first exchange of its last one */
};

static struct shrink_notes *shrink_notes;

/* One rank's way through its communicators. */
struct shrink_rank {
    struct epx_communicator *comm;
    uint32_t count; /* ranks of comm */
    uint32_t first; /* the own rank in the first communicator */
};

/* ---- An exchange and its judge ---------------------------------------------------------------------------------- */

/* bf16 of a small integer, exact. */
static inline uint16_t shrink_value(uint32_t rank, uint32_t token, uint32_t h)
{
    float value = (float)(1 + rank * 8 + token + h % 2);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static inline int32_t shrink_expert(uint32_t count, uint32_t rank, uint32_t token, uint32_t k)
{
    return (int32_t)((rank * 5 + token * 3 + k) % (count * SHRINK_LOCAL));
}

struct shrink_tensors {
    uint16_t x[SHRINK_TOKENS][SHRINK_HIDDEN];
    uint16_t expand_x[SHRINK_ROW_MAX][SHRINK_HIDDEN];
    uint16_t sum[SHRINK_TOKENS][SHRINK_HIDDEN];
    int32_t ids[SHRINK_TOKENS][SHRINK_TOPK];
    int32_t expand_idx[SHRINK_TOKENS * SHRINK_TOPK];
    int64_t nums[SHRINK_LOCAL];
    int32_t counts[WORLD_RANK_MAX * SHRINK_LOCAL];
    float weights[SHRINK_TOKENS * SHRINK_TOPK];
};

/* Every row of the rank, in the order of the specification. */
static inline bool shrink_rows_right(const struct shrink_tensors *t, uint32_t count, uint32_t rank)
{
    uint32_t row = 0;
    for (uint32_t local = 0; local < SHRINK_LOCAL; local++) {
        for (uint32_t from = 0; from < count; from++) {
            for (uint32_t copy = 0; copy < SHRINK_TOKENS * SHRINK_TOPK; copy++) {
                uint32_t token = copy / SHRINK_TOPK;
                int32_t expert = shrink_expert(count, from, token, copy % SHRINK_TOPK);
                if (expert != (int32_t)(rank * SHRINK_LOCAL + local)) {
                    continue;
                }
                for (uint32_t h = 0; h < SHRINK_HIDDEN; h++) {
                    if (t->expand_x[row][h] != shrink_value(from, token, h)) {
                        return false;
                    }
                }
                row++;
            }
            if (t->counts[local * count + from] != (int32_t)row) {
                return false;
            }
        }
    }
    return true;
}

static inline void shrink_fill(struct shrink_tensors *t, uint32_t count, uint32_t rank)
{
    memset(t, 0x7B, sizeof *t);
    for (uint32_t token = 0; token < SHRINK_TOKENS; token++) {
        for (uint32_t h = 0; h < SHRINK_HIDDEN; h++) {
            t->x[token][h] = shrink_value(rank, token, h);
        }
        for (uint32_t k = 0; k < SHRINK_TOPK; k++) {
            t->ids[token][k] = shrink_expert(count, rank, token, k);
            t->weights[token * SHRINK_TOPK + k] = 0.5f;
        }
    }
}

/* Dispatch and combine, through experts that change nothing. *right: whether all of it is as it must be. */
static inline enum epx_status shrink_exchange(struct epx_plan *plan, uint32_t count, uint32_t rank, bool *right)
{
    struct shrink_tensors t;
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    shrink_fill(&t, count, rank);
    dispatch.token_count = combine.token_count = SHRINK_TOKENS;
    dispatch.x = t.x;
    dispatch.expert_ids = combine.expert_ids = t.ids[0];
    dispatch.expand_x = t.expand_x;
    dispatch.expand_idx = t.expand_idx;
    dispatch.expert_token_nums = t.nums;
    dispatch.ep_recv_counts = t.counts;
    combine.expand_x = t.expand_x;
    combine.expand_idx = t.expand_idx;
    combine.ep_send_counts = t.counts;
    combine.expert_scales = t.weights;
    combine.x = t.sum;
    *right = true;
    EPX_TRY(epx_dispatch(plan, &dispatch));
    *right = shrink_rows_right(&t, count, rank);
    EPX_TRY(epx_combine(plan, &combine));
    *right = *right && memcmp(t.sum, t.x, sizeof t.x) == 0;
    return EPX_OK;
}

static inline enum epx_status shrink_plan(const struct shrink_rank *self, struct epx_plan **plan)
{
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = self->count * SHRINK_LOCAL;
    config.hidden_elems = SHRINK_HIDDEN;
    config.topk = SHRINK_TOPK;
    config.token_max = SHRINK_TOKENS;
    config.recv_row_max = SHRINK_ROW_MAX;
    return epx_plan_create(self->comm, &config, plan);
}

/* ---- A rank ----------------------------------------------------------------------------------------------------- */

static inline enum epx_status shrink_join(struct world *world, uint32_t rank, struct shrink_rank *self)
{
    struct epx_token token = {{0}};
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    memcpy(token.bytes, world->key, sizeof world->key);
    config.join_timeout_ms = 30000;
    config.op_timeout_ms = world->op_timeout_ms;
    self->first = rank;
    self->count = world->rank_count;
    shrink_notes->member_count[rank] = self->count;
    for (uint32_t i = 0; i < self->count; i++) {
        shrink_notes->members[rank][i] = i;
    }
    return epx_comm_create_from_token(&token, world->rank_count, rank, &config, &self->comm);
}

/* Goes on without the lost; the old communicator is destroyed with success only. */
static inline enum epx_status shrink_go_on(struct shrink_rank *self, int64_t timeout_ms)
{
    enum epx_rank_fate fates[WORLD_RANK_MAX];
    uint32_t old_ranks[WORLD_RANK_MAX];
    uint32_t *members = shrink_notes->members[self->first];
    struct epx_shrink_config config = EPX_SHRINK_CONFIG_INIT;
    struct epx_shrink_report report = EPX_SHRINK_REPORT_INIT;
    struct epx_communicator *next = NULL;
    config.timeout_ms = timeout_ms;
    report.fates = fates;
    report.old_ranks = old_ranks;
    EPX_TRY(epx_comm_shrink(self->comm, &config, &next, &report));
    if (report.rank_count + report.lost_count != self->count || epx_comm_size_of(next) != report.rank_count ||
        members[old_ranks[epx_comm_rank_of(next)]] != self->first) {
        return EPX_ERR_INTERNAL;
    }
    for (uint32_t i = 0; i < self->count; i++) {
        shrink_notes->fates[self->first][members[i]] = fates[i];
    }
    for (uint32_t i = 0; i < report.rank_count; i++) {
        members[i] = members[old_ranks[i]];
    }
    EPX_TRY(epx_comm_destroy(self->comm));
    self->comm = next;
    self->count = report.rank_count;
    shrink_notes->member_count[self->first] = self->count;
    return EPX_OK;
}

/* Exchanges until the communicator fails, or `rounds` are complete. *right is false when a result was wrong. */
static inline enum epx_status shrink_rounds(struct world *world, struct shrink_rank *self, uint64_t rounds, bool *right)
{
    struct epx_plan *plan;
    EPX_TRY(shrink_plan(self, &plan));
    enum epx_status status = EPX_OK;
    *right = true;
    for (uint64_t n = 0; n < rounds && status == EPX_OK && *right; n++) {
        status = shrink_exchange(plan, self->count, epx_comm_rank_of(self->comm), right);
        atomic_fetch_add(&world->reports[self->first].rounds, status == EPX_OK);
        if (status == EPX_OK && n == 0) {
            atomic_store(&shrink_notes->ready_ns[self->first], epx_clock_ns());
        }
    }
    char text[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", epx_last_error());
    epx_plan_destroy(plan);
    epx_error_text_set(text);
    return status;
}

/* ---- The parent ------------------------------------------------------------------------------------------------- */

static inline struct world *shrink_world_create(uint32_t rank_count, int64_t op_timeout_ms)
{
    void *memory = mmap(NULL, sizeof *shrink_notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    shrink_notes = memory;
    return world_create(rank_count, op_timeout_ms);
}

static inline void shrink_world_destroy(struct world *world)
{
    world_destroy(world);
    assert_int_equal(munmap(shrink_notes, sizeof *shrink_notes), 0);
}

/* Collects all processes; those of `killed` must have been, the others must have ended well. */
static inline void shrink_finish(struct world *world, uint32_t killed)
{
    uint64_t deadline_ns = epx_deadline_after_ms(WORLD_LIMIT_MS);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        int code = 0;
        pid_t done;
        while ((done = waitpid(world->reports[rank].pid, &code, WNOHANG)) == 0 && epx_clock_ns() < deadline_ns) {
            sleep_us(500);
        }
        if (done == 0) {
            (void)kill(world->reports[rank].pid, SIGKILL);
            (void)waitpid(world->reports[rank].pid, &code, 0);
            fail_msg("rank %u did not end", rank);
        }
        assert_int_equal(WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL, killed >> rank & 1);
        assert_int_equal(world->reports[rank].wrong_line, 0);
        assert_true((killed >> rank & 1) != 0 || WEXITSTATUS(code) == 0);
    }
}

/* Whether every rank of the set has ended up with exactly the ranks of the set. */
static inline void shrink_expect_members(const struct world *world, uint32_t members)
{
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        uint32_t found = 0;
        for (uint32_t i = 0; (members >> rank & 1) != 0 && i < shrink_notes->member_count[rank]; i++) {
            found |= 1u << shrink_notes->members[rank][i];
        }
        assert_int_equal(found, (members >> rank & 1) != 0 ? members : 0);
    }
}

#endif
