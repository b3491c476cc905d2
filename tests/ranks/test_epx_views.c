/* Row views of door 1: what they show, how long, and what is refused meanwhile. */
#include "ranks/epx_door.h"

#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 20

struct shown {
    struct golden *golden;
    const void *rows[GOLDEN_ROWS];
    float scales[GOLDEN_ROWS];
};

static struct epx_dispatch_views_args views_args(struct shown *shown)
{
    struct epx_dispatch_views_args args = EPX_DISPATCH_VIEWS_ARGS_INIT;
    args.token_count = GOLDEN_TOKENS;
    args.x = shown->golden->x;
    args.expert_ids = shown->golden->ids;
    args.rows = shown->rows;
    args.dynamic_scales = shown->scales;
    args.expand_idx = shown->golden->expand_idx;
    args.expert_token_nums = shown->golden->nums;
    args.ep_recv_counts = shown->golden->counts;
    return args;
}

static int64_t row_count(const struct rank *rank)
{
    return rank->index == 0 ? 3 : 5;
}

/* What expand_x would hold. */
static void pack(const struct rank *rank, struct shown *shown)
{
    for (int64_t row = 0; row < row_count(rank); row++) {
        memcpy(shown->golden->expand_x[row], shown->rows[row], sizeof shown->golden->expand_x[row]);
    }
}

static bool open_shown(struct rank *rank, bool in_arena, struct shown *shown)
{
    void *memory = NULL;
    memset(shown, GUARD, sizeof *shown);
    if (in_arena && epx_memory_alloc(sizeof(struct golden), &memory) != EPX_OK) {
        return false;
    }
    shown->golden = in_arena ? memory : malloc(sizeof(struct golden));
    if (shown->golden != NULL) {
        golden_fill(shown->golden, rank->index);
    }
    return shown->golden != NULL;
}

static bool close_shown(struct shown *shown, bool in_arena)
{
    if (in_arena) {
        return epx_memory_free(shown->golden) == EPX_OK;
    }
    free(shown->golden);
    return true;
}

/* ---- What is shown --------------------------------------------------------------------------------------------- */

/* Tokens of this rank in the arena are shown where they are. */
static void check_own_rows(struct rank *rank, const struct shown *shown)
{
    for (int64_t row = 0; row < row_count(rank); row++) {
        const int *from = golden_rows[rank->index][row];
        if (from[0] == (int)rank->index) {
            RANK_CHECK(shown->rows[row] == shown->golden->x[from[1]]);
        }
    }
}

static void show_and_combine(struct rank *rank, struct epx_plan *plan, struct shown *shown)
{
    const void *untouched;
    memset(&untouched, GUARD, sizeof untouched);
    golden_fill(shown->golden, rank->index);
    struct epx_dispatch_views_args dispatch = views_args(shown);
    struct epx_combine_args combine = golden_combine_args(shown->golden);
    RANK_CHECK(epx_dispatch_views(plan, &dispatch) == EPX_OK);
    for (int64_t row = row_count(rank); row < GOLDEN_ROWS; row++) {
        RANK_CHECK(shown->rows[row] == untouched);
    }
    pack(rank, shown);
    golden_check_dispatch(rank, shown->golden);
    if (rank->wrong_line == 0) {
        RANK_CHECK(epx_combine(plan, &combine) == EPX_OK);
        golden_check_combine(rank, shown->golden);
    }
}

static void show_golden(struct rank *rank, bool in_arena)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    struct shown shown;
    RANK_CHECK(open_shown(rank, in_arena, &shown));
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    for (int repeat = 0; repeat < 3 && rank->wrong_line == 0; repeat++) {
        show_and_combine(rank, plan, &shown);
    }
    RANK_CHECK(rank->wrong_line == 0);
    if (in_arena) {
        check_own_rows(rank, &shown);
    }
    int64_t copied = in_arena ? 0 : (int64_t)sizeof shown.golden->x;
    RANK_CHECK(epx_plan_stats(plan, &stats) == EPX_OK);
    RANK_CHECK(stats.dispatch_rows_received == row_count(rank) && stats.dispatch_bytes_read == copied);
    RANK_CHECK(stats.dispatch_bytes_written == copied + row_count(rank) * (int64_t)sizeof(void *));
    epx_plan_destroy(plan);
    RANK_CHECK(close_shown(&shown, in_arena));
}

static void show_from_arena(struct rank *rank)
{
    show_golden(rank, true);
}

static void show_from_private(struct rank *rank)
{
    show_golden(rank, false);
}

static void golden__arena_memory(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, show_from_arena);
}

static void golden__private_memory(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, show_from_private);
}

/* An x that does not lie as its elements want it is shown as a copy that does. */
static void show_unaligned(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct shown shown;
    void *memory;
    RANK_CHECK(open_shown(rank, true, &shown));
    RANK_CHECK(epx_memory_alloc(sizeof shown.golden->x + 1, &memory) == EPX_OK);
    memcpy((char *)memory + 1, shown.golden->x, sizeof shown.golden->x);
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    struct epx_dispatch_views_args args = views_args(&shown);
    args.x = (char *)memory + 1;
    RANK_CHECK(epx_dispatch_views(plan, &args) == EPX_OK);
    for (int64_t row = 0; row < row_count(rank); row++) {
        RANK_CHECK((uintptr_t)shown.rows[row] % sizeof(uint16_t) == 0);
    }
    pack(rank, &shown);
    golden_check_dispatch(rank, shown.golden);
    RANK_CHECK(rank->wrong_line == 0 && epx_views_release(plan) == EPX_OK);
    epx_plan_destroy(plan);
    RANK_CHECK(epx_memory_free(memory) == EPX_OK && close_shown(&shown, true));
}

static void golden__unaligned_tokens(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, show_unaligned);
}

/* No tokens anywhere: nothing to write, so no address is needed for it. */
static void show_nothing(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    int64_t nums[2] = {-1, -1};
    int32_t counts[4] = {-1, -1, -1, -1};
    config.token_max = 0;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK && epx_plan_recv_row_max(plan) == 0);
    struct epx_dispatch_views_args args = EPX_DISPATCH_VIEWS_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    args.expert_token_nums = nums;
    args.ep_recv_counts = counts;
    combine.ep_send_counts = counts;
    RANK_CHECK(epx_dispatch_views(plan, &args) == EPX_OK);
    RANK_CHECK(nums[0] == 0 && nums[1] == 0 && counts[3] == 0);
    RANK_CHECK(epx_dispatch_views(plan, &args) == EPX_ERR_STATE);
    RANK_CHECK(epx_combine(plan, &combine) == EPX_OK);
    epx_plan_destroy(plan);
}

static void worlds__without_tokens(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, show_nothing);
}

/* ---- Life-time -------------------------------------------------------------------------------------------------- */

#define STREAM_HIDDEN 600
#define STREAM_TOKENS 6
#define STREAM_TOPK   3

/* Every element of a token in a round: what is shown is known without looking at the sender. */
static uint16_t stream_value(int round, uint32_t rank, int64_t token)
{
    return (uint16_t)(0x3F80 + (round * 29 + (int)rank * 7 + (int)token) % 113);
}

struct stream {
    struct epx_plan *plan;
    uint16_t *x; /* overwritten as soon as the round has ended */
    uint16_t *packed;
    const void **rows;
    float *scales;
    int32_t ids[STREAM_TOKENS * STREAM_TOPK];
    int32_t idx[STREAM_TOKENS * STREAM_TOPK];
    float weights[STREAM_TOKENS * STREAM_TOPK];
    int64_t nums[1];
    int32_t counts[RANK_MAX];
    int64_t row_max;
    bool int8;
};

static void stream_dispatch(struct rank *rank, struct stream *stream, int round)
{
    struct epx_dispatch_views_args args = EPX_DISPATCH_VIEWS_ARGS_INIT;
    for (int64_t i = 0; i < STREAM_TOKENS * STREAM_HIDDEN; i++) {
        stream->x[i] = stream_value(round, rank->index, i / STREAM_HIDDEN);
    }
    args.token_count = STREAM_TOKENS;
    args.x = stream->x;
    args.expert_ids = stream->ids;
    args.rows = stream->rows;
    args.dynamic_scales = stream->scales;
    args.expand_idx = stream->idx;
    args.expert_token_nums = stream->nums;
    args.ep_recv_counts = stream->counts;
    if (round % 3 == 2) {
        struct epx_request *request;
        RANK_CHECK(epx_dispatch_views_start(stream->plan, &args, &request) == EPX_OK);
        RANK_CHECK(epx_wait(&request, -1) == EPX_OK);
        return;
    }
    RANK_CHECK(epx_dispatch_views(stream->plan, &args) == EPX_OK);
}

/* The rows of source s are its tokens in their order, as often as they come. All elements of a row are equal, and the
 * largest quantises to 127. */
static void stream_look(struct rank *rank, struct stream *stream, int round)
{
    int64_t row = 0;
    RANK_CHECK(stream->counts[rank->count - 1] == STREAM_TOKENS * STREAM_TOPK);
    for (uint32_t source = 0; source < rank->count; source++) {
        for (; row < stream->counts[source]; row++) {
            const uint16_t *halves = stream->rows[row];
            const int8_t *bytes = stream->rows[row];
            int64_t token = -1;
            for (int64_t t = 0; t < STREAM_TOKENS && token < 0; t++) {
                bool same = stream->int8 || halves[0] == stream_value(round, source, t);
                token = same ? t : -1;
            }
            RANK_CHECK(token >= 0);
            for (int64_t h = 0; h < STREAM_HIDDEN; h++) {
                RANK_CHECK(stream->int8 ? bytes[h] == 127 : halves[h] == halves[0]);
            }
            uint16_t value = stream->int8 ? 0x3F80 : halves[0];
            for (int64_t h = 0; h < STREAM_HIDDEN; h++) {
                stream->packed[row * STREAM_HIDDEN + h] = value;
            }
        }
    }
}

static void stream_combine(struct rank *rank, struct stream *stream, int round)
{
    struct epx_combine_args args = EPX_COMBINE_ARGS_INIT;
    args.token_count = STREAM_TOKENS;
    args.expand_x = stream->packed;
    args.expert_ids = stream->ids;
    args.expand_idx = stream->idx;
    args.ep_send_counts = stream->counts;
    args.expert_scales = stream->weights;
    args.x = stream->x; /* in place: nobody looks at it any more when it is written */
    if (round % 4 == 3) {
        struct epx_request *request;
        RANK_CHECK(epx_combine_start(stream->plan, &args, &request) == EPX_OK);
        RANK_CHECK(epx_wait(&request, -1) == EPX_OK);
    } else if (round % 5 == 4) {
        RANK_CHECK(epx_views_release(stream->plan) == EPX_OK);
    } else {
        RANK_CHECK(epx_combine(stream->plan, &args) == EPX_OK);
    }
    memset(stream->x, 0xFF, STREAM_TOKENS * STREAM_HIDDEN * sizeof *stream->x);
}

static void stream_rounds(struct rank *rank, bool in_arena, bool int8)
{
    struct stream stream = {.int8 = int8};
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    size_t x_bytes = STREAM_TOKENS * STREAM_HIDDEN * sizeof(uint16_t);
    void *memory = NULL;
    config.expert_count = rank->count;
    config.hidden_elems = STREAM_HIDDEN;
    config.topk = STREAM_TOPK;
    config.token_max = STREAM_TOKENS;
    config.quantization = int8 ? EPX_ROWS_INT8 : EPX_ROWS_PLAIN;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &stream.plan) == EPX_OK);
    stream.row_max = STREAM_TOKENS * STREAM_TOPK;
    RANK_CHECK(!in_arena || epx_memory_alloc(x_bytes, &memory) == EPX_OK);
    stream.x = in_arena ? memory : malloc(x_bytes);
    stream.rows = calloc((size_t)epx_plan_recv_row_max(stream.plan), sizeof *stream.rows);
    stream.scales = calloc((size_t)epx_plan_recv_row_max(stream.plan), sizeof *stream.scales);
    stream.packed = calloc((size_t)epx_plan_recv_row_max(stream.plan) * STREAM_HIDDEN, sizeof *stream.packed);
    RANK_CHECK(stream.x != NULL && stream.rows != NULL && stream.scales != NULL && stream.packed != NULL);
    for (int i = 0; i < STREAM_TOKENS * STREAM_TOPK; i++) {
        stream.ids[i] = (int32_t)((rank->index + (uint32_t)i) % rank->count);
        stream.weights[i] = 1.0f;
    }
    for (int round = 0; round < ROUNDS && rank->wrong_line == 0; round++) {
        stream_dispatch(rank, &stream, round);
        /* The slow ones still look when the fast ones have entered combine. */
        if ((uint32_t)round % rank->count == rank->index) {
            (void)usleep(2000);
        }
        if (rank->wrong_line == 0) {
            stream_look(rank, &stream, round);
        }
        if (rank->wrong_line == 0) {
            stream_combine(rank, &stream, round);
        }
    }
    RANK_CHECK(rank->wrong_line == 0);
    epx_plan_destroy(stream.plan);
    if (in_arena) {
        RANK_CHECK(epx_memory_free(stream.x) == EPX_OK);
    } else {
        free(stream.x);
    }
    free(stream.rows);
    free(stream.scales);
    free(stream.packed);
}

static void stream_plain_arena(struct rank *rank)
{
    stream_rounds(rank, true, false);
}

static void stream_plain_private(struct rank *rank)
{
    stream_rounds(rank, false, false);
}

static void stream_int8(struct rank *rank)
{
    stream_rounds(rank, true, true);
}

static void lifetime__threads(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(3, ranks, stream_plain_arena);
    run_local(3, ranks, stream_plain_private);
    run_local(3, ranks, stream_int8);
}

/* All ranks of a scenario as processes; the first that is wrong is named. */
static void run_processes(uint32_t count, void (*scenario)(struct rank *))
{
    struct epx_token token;
    pid_t children[RANK_MAX];
    assert_int_equal(epx_token_create(&token), EPX_OK);
    for (uint32_t i = 0; i < count; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            struct rank rank = {.index = i, .count = count};
            if (epx_comm_create_from_token(&token, count, i, NULL, &rank.comm) != EPX_OK) {
                _exit(2);
            }
            scenario(&rank);
            _exit(rank.wrong_line != 0 || epx_comm_destroy(rank.comm) != EPX_OK ? 1 : 0);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        int code;
        assert_int_equal(waitpid(children[i], &code, 0), children[i]);
        assert_int_equal(code, 0);
    }
}

static void lifetime__processes(void **state)
{
    (void)state;
    run_processes(2, show_from_arena);
    run_processes(3, stream_plain_arena);
    run_processes(3, stream_plain_private);
    run_processes(3, stream_int8);
}

static pthread_barrier_t meeting;

/* Rank 0 forgets its plan and fills what memory it gets: rank 1 still sees what it was shown. */
static void forget_plan(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct shown shown;
    void *filler[64];
    RANK_CHECK(open_shown(rank, false, &shown));
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    struct epx_dispatch_views_args args = views_args(&shown);
    RANK_CHECK(epx_dispatch_views(plan, &args) == EPX_OK);
    if (rank->index == 0) {
        epx_plan_destroy(plan);
        for (int i = 0; i < 64; i++) {
            RANK_CHECK(epx_memory_alloc(sizeof shown.golden->x, &filler[i]) == EPX_OK);
            memset(filler[i], 0xFF, sizeof shown.golden->x);
        }
        for (int i = 0; i < 64; i++) {
            RANK_CHECK(epx_memory_free(filler[i]) == EPX_OK);
        }
    }
    (void)pthread_barrier_wait(&meeting);
    pack(rank, &shown);
    golden_check_dispatch(rank, shown.golden);
    (void)pthread_barrier_wait(&meeting);
    if (rank->index == 0) {
        /* Nobody can end these views; the communicator may go. */
        RANK_CHECK(rank->wrong_line == 0 && epx_comm_destroy(rank->comm) == EPX_OK);
    } else {
        RANK_CHECK(rank->wrong_line == 0 && epx_comm_destroy(rank->comm) == EPX_ERR_STATE);
        epx_plan_destroy(plan);
        RANK_CHECK(epx_comm_destroy(rank->comm) == EPX_OK);
    }
    RANK_CHECK(close_shown(&shown, false));
}

static void lifetime__plan_destroyed(void **state)
{
    struct epx_communicator *comms[2];
    struct rank ranks[RANK_MAX];
    (void)state;
    assert_int_equal(pthread_barrier_init(&meeting, NULL, 2), 0);
    assert_int_equal(epx_comm_create_local(2, NULL, comms), EPX_OK);
    run_ranks(2, comms, ranks, forget_plan);
    (void)pthread_barrier_destroy(&meeting);
}

/* ---- What is refused -------------------------------------------------------------------------------------------- */

static void refuse_meanwhile(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_plan *other;
    struct epx_request *request = NULL;
    struct shown shown;
    RANK_CHECK(open_shown(rank, true, &shown));
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    RANK_CHECK(epx_plan_create(rank->comm, &config, &other) == EPX_OK);
    struct epx_dispatch_views_args views = views_args(&shown);
    struct epx_dispatch_args copies = golden_dispatch_args(shown.golden);
    struct epx_combine_args combine = golden_combine_args(shown.golden);
    RANK_CHECK(epx_views_release(plan) == EPX_ERR_STATE);
    RANK_CHECK(strcmp(epx_last_error(), "no row views of the plan are out") == 0);
    views.rows = NULL;
    RANK_CHECK(epx_dispatch_views(plan, &views) == EPX_ERR_NULL && strcmp(epx_last_error(), "rows is null") == 0);
    views.rows = shown.rows;
    RANK_CHECK(epx_dispatch_views(plan, &views) == EPX_OK);
    RANK_CHECK(epx_dispatch_views(plan, &views) == EPX_ERR_STATE);
    RANK_CHECK(strstr(epx_last_error(), "row views of dispatch round 1 are out") != NULL);
    RANK_CHECK(epx_dispatch(plan, &copies) == EPX_ERR_STATE);
    RANK_CHECK(epx_dispatch_start(plan, &copies, &request) == EPX_ERR_STATE && request == NULL);
    RANK_CHECK(epx_dispatch_views_start(plan, &views, &request) == EPX_ERR_STATE && request == NULL);
    RANK_CHECK(epx_memory_free(shown.golden) == EPX_ERR_STATE);
    RANK_CHECK(epx_comm_destroy(rank->comm) == EPX_ERR_STATE);
    /* Wrong arguments do not end them. */
    combine.token_count = -1;
    RANK_CHECK(epx_combine(plan, &combine) == EPX_ERR_INVALID && epx_dispatch(plan, &copies) == EPX_ERR_STATE);
    combine.token_count = GOLDEN_TOKENS;
    /* Another plan has nothing to do with it. */
    RANK_CHECK(epx_dispatch(other, &copies) == EPX_OK);
    golden_check_dispatch(rank, shown.golden);
    RANK_CHECK(epx_combine(other, &combine) == EPX_OK);
    RANK_CHECK(epx_memory_free(shown.golden) == EPX_ERR_STATE);
    memset(shown.golden->expand_x, 0, sizeof shown.golden->expand_x);
    pack(rank, &shown);
    RANK_CHECK(epx_combine(plan, &combine) == EPX_OK);
    golden_check_combine(rank, shown.golden);
    RANK_CHECK(epx_dispatch(plan, &copies) == EPX_OK && epx_dispatch_views(plan, &views) == EPX_OK);
    RANK_CHECK(epx_views_release(plan) == EPX_OK && epx_views_release(plan) == EPX_ERR_STATE);
    epx_plan_destroy(plan);
    epx_plan_destroy(other);
    RANK_CHECK(close_shown(&shown, true));
}

static void refused__meanwhile(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, refuse_meanwhile);
}

/* Started ones come first, and views that nobody has waited for can be ended. */
static void release_started(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_request *requests[2];
    struct shown shown;
    RANK_CHECK(open_shown(rank, true, &shown));
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    struct epx_dispatch_views_args views = views_args(&shown);
    struct epx_dispatch_args copies = golden_dispatch_args(shown.golden);
    for (int repeat = 0; repeat < 5; repeat++) {
        RANK_CHECK(epx_dispatch_views_start(plan, &views, &requests[0]) == EPX_OK);
        RANK_CHECK(epx_views_release(plan) == EPX_OK);
        RANK_CHECK(epx_dispatch_start(plan, &copies, &requests[1]) == EPX_OK);
        RANK_CHECK(epx_wait(&requests[1], -1) == EPX_OK && epx_wait(&requests[0], -1) == EPX_OK);
        golden_check_dispatch(rank, shown.golden);
        RANK_CHECK(rank->wrong_line == 0);
    }
    epx_plan_destroy(plan);
    RANK_CHECK(close_shown(&shown, true));
}

static void release__of_started(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, release_started);
}

/* int8 rows are the library's: x is free at once. */
static void free_early(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct shown shown;
    void *x;
    RANK_CHECK(open_shown(rank, false, &shown));
    RANK_CHECK(epx_memory_alloc(sizeof shown.golden->x, &x) == EPX_OK);
    memcpy(x, shown.golden->x, sizeof shown.golden->x);
    config.quantization = EPX_ROWS_INT8;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    struct epx_dispatch_views_args args = views_args(&shown);
    args.x = x;
    RANK_CHECK(epx_dispatch_views(plan, &args) == EPX_OK);
    memset(x, 0xFF, sizeof shown.golden->x);
    RANK_CHECK(epx_memory_free(x) == EPX_OK);
    for (int64_t row = 0; row < row_count(rank); row++) {
        const int *from = golden_rows[rank->index][row];
        const int8_t *values = shown.rows[row];
        /* The last element is the largest. */
        uint32_t bits = (uint32_t)golden_value((uint32_t)from[0], from[1], GOLDEN_HIDDEN - 1) << 16;
        float largest;
        memcpy(&largest, &bits, sizeof largest);
        float back = (float)values[GOLDEN_HIDDEN - 1] * shown.scales[row];
        RANK_CHECK(values[GOLDEN_HIDDEN - 1] == 127 && back > largest * 0.999f && back < largest * 1.001f);
    }
    RANK_CHECK(epx_views_release(plan) == EPX_OK);
    epx_plan_destroy(plan);
    RANK_CHECK(close_shown(&shown, false));
}

static void int8__tokens_are_free(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, free_early);
}

/* A child of fork has no part in it. */
static void fork_meanwhile(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct shown shown;
    int code = -1;
    RANK_CHECK(open_shown(rank, true, &shown));
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    struct epx_dispatch_views_args args = views_args(&shown);
    RANK_CHECK(epx_dispatch_views(plan, &args) == EPX_OK);
    if (rank->index == 0) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            bool good = epx_memory_free(shown.golden) == EPX_ERR_NOT_FOUND && epx_views_release(plan) == EPX_ERR_STATE;
            epx_plan_destroy(plan);
            _exit(good && epx_comm_destroy(rank->comm) == EPX_OK ? 0 : 1);
        }
        RANK_CHECK(waitpid(child, &code, 0) == child && code == 0);
        RANK_CHECK(epx_memory_free(shown.golden) == EPX_ERR_STATE);
    }
    RANK_CHECK(epx_views_release(plan) == EPX_OK);
    epx_plan_destroy(plan);
    RANK_CHECK(close_shown(&shown, true));
}

static void fork__meanwhile(void **state)
{
    (void)state;
    run_processes(2, fork_meanwhile);
}

/* ---- Disagreement ----------------------------------------------------------------------------------------------- */

/* Every rank has the same status and text in rank->status and rank->text. */
static void note(struct rank *rank, enum epx_status status)
{
    rank->status = status;
    (void)snprintf(rank->text, sizeof rank->text, "%s", epx_last_error());
}

static void differ(struct rank *rank, struct epx_plan *plan, struct epx_plan *other, struct shown *shown, int way)
{
    struct epx_dispatch_views_args views = views_args(shown);
    struct epx_dispatch_args copies = golden_dispatch_args(shown->golden);
    struct epx_combine_args combine = golden_combine_args(shown->golden);
    bool odd = rank->index == 1;
    if (way == 0) {
        note(rank, odd ? epx_dispatch(plan, &copies) : epx_dispatch_views(plan, &views));
        return;
    }
    RANK_CHECK(epx_dispatch_views(plan, &views) == EPX_OK);
    pack(rank, shown);
    if (way == 1) {
        note(rank, epx_combine(odd ? other : plan, &combine));
    } else {
        note(rank, odd ? epx_views_release(plan) : epx_combine(plan, &combine));
    }
    if (odd && way == 1) {
        /* What the failure means for views that it did not end: they are over, and nothing else is wrong. */
        RANK_CHECK(epx_dispatch_views(plan, &views) == EPX_ERR_MISMATCH);
        RANK_CHECK(epx_memory_free(shown->golden) == EPX_OK);
        shown->golden = NULL;
    }
}

static void differ_in(struct rank *rank, int way)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_plan *other;
    struct shown shown;
    RANK_CHECK(open_shown(rank, true, &shown));
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    RANK_CHECK(epx_plan_create(rank->comm, &config, &other) == EPX_OK);
    differ(rank, plan, other, &shown, way);
    RANK_CHECK(rank->wrong_line == 0);
    RANK_CHECK(epx_comm_destroy(rank->comm) == EPX_OK);
    epx_plan_destroy(plan);
    epx_plan_destroy(other);
    RANK_CHECK(close_shown(&shown, true));
}

static void differ_in_form(struct rank *rank)
{
    differ_in(rank, 0);
}

static void differ_in_plan(struct rank *rank)
{
    differ_in(rank, 1);
}

static void differ_in_end(struct rank *rank)
{
    differ_in(rank, 2);
}

static void expect_mismatch(void (*scenario)(struct rank *), const char *text)
{
    struct epx_communicator *comms[2];
    struct rank ranks[RANK_MAX];
    assert_int_equal(epx_comm_create_local(2, NULL, comms), EPX_OK);
    run_ranks(2, comms, ranks, scenario);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ranks[i].status, EPX_ERR_MISMATCH);
        assert_string_equal(ranks[i].text, text);
    }
}

static void mismatch__forms_and_ends(void **state)
{
    (void)state;
    expect_mismatch(differ_in_form, "form of dispatch differs: rank 0 has views, rank 1 has copies");
    expect_mismatch(differ_in_plan, "dispatch round whose row views end differs: rank 0 has 1, rank 1 has 0");
    expect_mismatch(differ_in_end, "operation differs in round 2: rank 0 runs combine, rank 1 runs release");
}

/* ---- Failures --------------------------------------------------------------------------------------------------- */

static void overflow(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct shown shown;
    RANK_CHECK(open_shown(rank, true, &shown));
    config.recv_row_max = rank->index == 1 ? 4 : 3;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    struct epx_dispatch_views_args args = views_args(&shown);
    note(rank, epx_dispatch_views(plan, &args));
    const void *untouched;
    memset(&untouched, GUARD, sizeof untouched);
    RANK_CHECK(rank->index == 0 || shown.rows[0] == untouched);
    RANK_CHECK(epx_views_release(plan) == EPX_ERR_CAPACITY);
    epx_plan_destroy(plan);
    RANK_CHECK(close_shown(&shown, true));
}

static void failure__more_rows_than_hold(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, overflow);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ranks[i].status, EPX_ERR_CAPACITY);
        assert_string_equal(ranks[i].text, "rank 1 receives 5 rows, rows holds 4");
    }
}

/* Rank 1 exits without a word; what it showed can still be read, and combine says what happened. */
static void one_exits(struct rank *rank)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct shown shown;
    RANK_CHECK(open_shown(rank, true, &shown));
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    struct epx_dispatch_views_args args = views_args(&shown);
    struct epx_combine_args combine = golden_combine_args(shown.golden);
    RANK_CHECK(epx_dispatch_views(plan, &args) == EPX_OK);
    if (rank->index == 1) {
        _exit(0);
    }
    (void)usleep(50000);
    pack(rank, &shown);
    golden_check_dispatch(rank, shown.golden);
    RANK_CHECK(rank->wrong_line == 0 && epx_combine(plan, &combine) == EPX_ERR_PEER_DEAD);
    pack(rank, &shown); /* readable until the communicator is destroyed */
    epx_plan_destroy(plan);
    RANK_CHECK(close_shown(&shown, true));
}

static void failure__peer_exits(void **state)
{
    (void)state;
    run_processes(2, one_exits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* Processes first: they are forked before this one has threads. */
        cmocka_unit_test(lifetime__processes),      cmocka_unit_test(fork__meanwhile),
        cmocka_unit_test(failure__peer_exits),      cmocka_unit_test(golden__arena_memory),
        cmocka_unit_test(golden__private_memory),   cmocka_unit_test(golden__unaligned_tokens),
        cmocka_unit_test(worlds__without_tokens),   cmocka_unit_test(lifetime__threads),
        cmocka_unit_test(lifetime__plan_destroyed), cmocka_unit_test(int8__tokens_are_free),
        cmocka_unit_test(refused__meanwhile),       cmocka_unit_test(release__of_started),
        cmocka_unit_test(mismatch__forms_and_ends), cmocka_unit_test(failure__more_rows_than_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
