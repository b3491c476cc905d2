/*
 * Every function of epx/epx.h with arguments that no program should give: null, foreign memory for a handle, sizes that
 * are negative or near the largest number, structs of the wrong size, tensors that overlap, combinations that do not
 * fit. Whatever comes, the answer is a status with a text, and a right call works afterwards. Worlds have one rank, so
 * that nothing waits. EPX_TEST_SEED replays a run, EPX_TEST_CASES makes it longer.
 */
#include "epx/epx.h"
#include "limits.h"

#include <limits.h>

#define CASES_DEFAULT 6000u
#define BIG_BYTES     8192 /* room behind a struct whose size is a lie */
#define WINDOW_BYTES  ((size_t)64 << 10)

#define HIDDEN      16
#define TOKEN_COUNT 3
#define TOPK        2
#define EXPERTS     4
#define ROWS        (TOKEN_COUNT * TOPK)

struct fixture {
    unsigned seed;
    unsigned cases;
    FILE *sink;
    unsigned successes; /* of operations: not everything may be refused */
    unsigned views_shown;
    struct epx_communicator *comm;
    struct epx_plan *plan;
    uint8_t *window; /* random tensors lie in here: in the arena, or not */
    uint8_t *arena_window;
    uint8_t *heap_window;
    uint64_t foreign[512]; /* never a handle */
};

static struct fixture fix;

static unsigned pick(unsigned limit)
{
    return (unsigned)rand_r(&fix.seed) % limit;
}

static int64_t odd_number(void)
{
    static const int64_t numbers[] = {0,
                                      1,
                                      -1,
                                      2,
                                      3,
                                      4,
                                      16,
                                      255,
                                      4096,
                                      65537,
                                      INT32_MAX,
                                      INT32_MAX - 1LL,
                                      INT32_MAX + 1LL,
                                      INT32_MIN,
                                      UINT32_MAX,
                                      UINT32_MAX + 1LL,
                                      1LL << 40,
                                      1LL << 46,
                                      1LL << 61,
                                      1LL << 62,
                                      INT64_MAX,
                                      INT64_MAX - 1,
                                      INT64_MAX / 2,
                                      INT64_MAX / 7,
                                      INT64_MIN,
                                      INT64_MIN + 1};
    unsigned which = pick(sizeof numbers / sizeof numbers[0] + 2);
    if (which < sizeof numbers / sizeof numbers[0]) {
        return numbers[which];
    }
    return (int64_t)((uint64_t)rand_r(&fix.seed) << 33 ^ (uint64_t)rand_r(&fix.seed) << 11 ^
                     (uint64_t)rand_r(&fix.seed));
}

static size_t odd_size(size_t right)
{
    const size_t sizes[] = {
        0, 1, 7, 8, right - 1, right + 1, right + 64, right + 96, right + 4096, right + 4097, 1 << 20, SIZE_MAX};
    return sizes[pick(sizeof sizes / sizeof sizes[0])];
}

static void expect_known(enum epx_status status, const char *what)
{
    if (status == EPX_OK) {
        return;
    }
    bool known = (status >= EPX_ERR_NULL && status <= EPX_ERR_CONFIG) ||
                 (status >= EPX_ERR_NO_MEMORY && status <= EPX_ERR_SYNTAX) ||
                 (status >= EPX_ERR_RANK_TABLE && status <= EPX_ERR_JOIN_TIMEOUT) ||
                 (status >= EPX_ERR_MISMATCH && status <= EPX_ERR_RANK_MEMORY);
    if (!known) {
        fail_msg("%s gives %d: %s", what, (int)status, epx_last_error());
    }
    if (epx_last_error()[0] == '\0') {
        fail_msg("%s gives %d without a text", what, (int)status);
    }
}

/* ---- A world that works ---------------------------------------------------------------------------------------- */

static void right_config(struct epx_moe_config *moe)
{
    *moe = (struct epx_moe_config)EPX_MOE_CONFIG_INIT;
    moe->expert_count = EXPERTS;
    moe->hidden_elems = HIDDEN;
    moe->topk = TOPK;
    moe->token_max = TOKEN_COUNT;
}

struct tensors {
    uint16_t x[TOKEN_COUNT * HIDDEN];
    uint16_t rows[ROWS * HIDDEN];
    uint16_t out[TOKEN_COUNT * HIDDEN];
    int32_t ids[TOKEN_COUNT * TOPK];
    float weights[TOKEN_COUNT * TOPK];
    int32_t idx[TOKEN_COUNT * TOPK];
    int64_t nums[EXPERTS];
    int32_t counts[EXPERTS];
};

static void right_args(struct tensors *given, struct epx_dispatch_args *dispatch, struct epx_combine_args *combine)
{
    *dispatch = (struct epx_dispatch_args)EPX_DISPATCH_ARGS_INIT;
    *combine = (struct epx_combine_args)EPX_COMBINE_ARGS_INIT;
    dispatch->token_count = combine->token_count = TOKEN_COUNT;
    dispatch->x = given->x;
    dispatch->expert_ids = combine->expert_ids = given->ids;
    dispatch->expand_x = given->rows;
    combine->expand_x = given->rows;
    dispatch->expand_idx = given->idx;
    combine->expand_idx = given->idx;
    dispatch->expert_token_nums = given->nums;
    dispatch->ep_recv_counts = given->counts;
    combine->ep_send_counts = given->counts;
    combine->expert_scales = given->weights;
    combine->x = given->out;
}

static struct tensors tensors; /* of the last right call */

static void expect_world_works(void)
{
    struct epx_dispatch_args dispatch;
    struct epx_combine_args combine;
    memset(&tensors, 0, sizeof tensors);
    for (int i = 0; i < TOKEN_COUNT * HIDDEN; i++) {
        tensors.x[i] = (uint16_t)(0x3F80 + i);
    }
    for (int i = 0; i < TOKEN_COUNT * TOPK; i++) {
        tensors.ids[i] = (3 * i) % EXPERTS;
        tensors.weights[i] = 0.5f;
    }
    right_args(&tensors, &dispatch, &combine);
    if (epx_dispatch(fix.plan, &dispatch) != EPX_OK || epx_combine(fix.plan, &combine) != EPX_OK) {
        fail_msg("a right call fails: %s", epx_last_error());
    }
    assert_memory_equal(tensors.x, tensors.out, sizeof tensors.x);
}

static void open_world(void)
{
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_moe_config moe;
    right_config(&moe);
    config.join_timeout_ms = 20000;
    if (epx_comm_create_local(1, &config, &fix.comm) != EPX_OK ||
        epx_plan_create(fix.comm, &moe, &fix.plan) != EPX_OK) {
        fail_msg("%s", epx_last_error());
    }
}

static void close_world(void)
{
    /* In either order. */
    if (pick(2) == 0) {
        assert_int_equal(epx_comm_destroy(fix.comm), EPX_OK);
        epx_plan_destroy(fix.plan);
    } else {
        epx_plan_destroy(fix.plan);
        assert_int_equal(epx_comm_destroy(fix.comm), EPX_OK);
    }
}

/* After a failed round the communicator stays failed, and a new one works. */
static void after_round(enum epx_status status)
{
    if (status >= EPX_ERR_MISMATCH) {
        close_world();
        open_world();
    }
}

static void *foreign(void)
{
    for (size_t i = 0; i < sizeof fix.foreign / sizeof fix.foreign[0]; i++) {
        fix.foreign[i] = pick(3) == 0 ? 0 : (uint64_t)odd_number();
    }
    return fix.foreign;
}

/* ---- Functions without a world --------------------------------------------------------------------------------- */

static void fuzz_texts(void)
{
    assert_non_null(epx_version());
    assert_non_null(epx_last_error());
    const char *text = epx_status_text((enum epx_status)(int)odd_number());
    assert_non_null(text);
    assert_true(text[0] != '\0');
    epx_options_print(pick(2) == 0 ? NULL : fix.sink);
}

static void fuzz_memory(void)
{
    void *memory = NULL;
    size_t bytes = (size_t)odd_number();
    enum epx_status status = epx_memory_alloc(bytes, pick(8) == 0 ? NULL : &memory);
    expect_known(status, "epx_memory_alloc");
    if (status == EPX_OK) {
        assert_non_null(memory);
        memset(memory, 0xA5, bytes);
        if (bytes > 1) {
            assert_int_equal(epx_memory_free((char *)memory + 1), EPX_ERR_NOT_FOUND);
        }
        assert_int_equal(epx_memory_free(memory), EPX_OK);
        assert_int_equal(epx_memory_free(memory), EPX_ERR_NOT_FOUND);
    }
    assert_int_equal(epx_memory_free(NULL), EPX_OK);
    assert_int_equal(epx_memory_free(foreign()), EPX_ERR_NOT_FOUND);
    void *nowhere = (void *)((uintptr_t)odd_number() | 1);
    assert_int_equal(epx_memory_free(nowhere), EPX_ERR_NOT_FOUND);
}

/* A configuration, right or not; null sometimes. `storage` has BIG_BYTES. */
static const struct epx_comm_config *odd_comm_config(void *storage, bool *waits)
{
    static char long_name[300];
    static const int64_t timeouts[] = {0, 1, 20, -1, -2, INT64_MIN, INT64_MAX, INT64_MAX / 1000000};
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    config.join_timeout_ms = timeouts[pick(8)];
    config.op_timeout_ms = timeouts[pick(8)];
    *waits = config.join_timeout_ms == -1 || config.join_timeout_ms > 20;
    config.server_rank_count = pick(3) == 0 ? (uint32_t)odd_number() : 0;
    memset(long_name, 'n', sizeof long_name - 1);
    config.name = pick(3) == 0 ? NULL : pick(2) == 0 ? long_name + pick(300) : "%s%n";
    memset(storage, pick(4) == 0 ? 0x5A : 0, BIG_BYTES);
    if (pick(4) == 0) {
        config.struct_bytes = odd_size(sizeof config);
    }
    memcpy(storage, &config, sizeof config);
    if (pick(8) == 0) {
        *waits = false;
        return NULL;
    }
    return storage;
}

static void expect_communicator(enum epx_status status, struct epx_communicator *comm, const char *what)
{
    expect_known(status, what);
    if (status == EPX_OK) {
        assert_non_null(comm);
        assert_int_equal(epx_comm_rank_of(comm), 0);
        assert_int_equal(epx_comm_size_of(comm), 1);
        assert_int_equal(epx_comm_destroy(comm), EPX_OK);
    } else {
        assert_null(comm);
    }
}

static void fuzz_create_local(void)
{
    uint8_t storage[BIG_BYTES];
    struct epx_communicator *comms[4] = {NULL};
    static const uint32_t counts[] = {0, 1, 1, 1, 4097, INT32_MAX, UINT32_MAX};
    bool waits;
    const struct epx_comm_config *config = odd_comm_config(storage, &waits);
    enum epx_status status = epx_comm_create_local(counts[pick(7)], config, pick(10) == 0 ? NULL : comms);
    expect_communicator(status, comms[0], "epx_comm_create_local");
}

static void fuzz_create_from_token(void)
{
    uint8_t storage[BIG_BYTES];
    struct epx_communicator *comm = NULL;
    struct epx_token token;
    bool waits;
    const struct epx_comm_config *config = odd_comm_config(storage, &waits);
    expect_known(epx_token_create(pick(8) == 0 ? NULL : &token), "epx_token_create");
    memset(&token, (int)pick(256), 8 * pick(2));
    uint32_t rank_count = waits || pick(2) == 0 ? 1 : (uint32_t)odd_number();
    uint32_t rank = pick(2) == 0 ? 0 : (uint32_t)odd_number();
    enum epx_status status = epx_comm_create_from_token(pick(10) == 0 ? NULL : &token, rank_count, rank, config,
                                                        pick(10) == 0 ? NULL : &comm);
    expect_communicator(status, comm, "epx_comm_create_from_token");
}

static const char one_rank_table[] =
    "{\"status\":\"completed\",\"version\":\"1.0\",\"server_count\":\"1\",\"server_list\":"
    "[{\"server_id\":\"10.0.0.1\",\"device\":[{\"device_id\":\"0\",\"device_ip\":"
    "\"192.0.2.1\",\"rank_id\":\"0\"}]}]}";

static void fuzz_create_from_table(void)
{
    char path[] = "/tmp/epx-fuzz-XXXXXX";
    uint8_t storage[BIG_BYTES];
    struct epx_communicator *comm = NULL;
    bool waits;
    const struct epx_comm_config *config = odd_comm_config(storage, &waits);
    int fd = mkstemp(path);
    char text[sizeof one_rank_table];
    assert_true(fd >= 0);
    memcpy(text, one_rank_table, sizeof text);
    bool whole = pick(2) == 0;
    if (!whole) {
        text[pick(sizeof text - 1)] = (char)pick(256);
    }
    size_t bytes = whole || pick(2) == 0 ? sizeof text - 1 : pick(sizeof text);
    assert_int_equal(write(fd, text, bytes), bytes);
    assert_int_equal(close(fd), 0);
    const char *const paths[] = {path, path, path, path, "", "/", "/nowhere/at/all", "/dev/null", NULL};
    /* Who waits for a table for ever gets one. */
    const char *chosen = !waits ? paths[pick(9)] : whole ? path : NULL;
    enum epx_status status = epx_comm_create_from_table(chosen, pick(3) == 0 ? (uint32_t)odd_number() : 0, config,
                                                        pick(10) == 0 ? NULL : &comm);
    assert_int_equal(unlink(path), 0);
    expect_communicator(status, comm, "epx_comm_create_from_table");
}

static void fuzz_create_from_env(void)
{
    static const char *const values[] = {"",   "0", "1", "-1", "4096", "4097", "99999999999999999999", "1x", " 1",
                                         "%n", "1", "1", "0",  "0",    "\xFF"};
    static const char *const names[] = {"EPX_RANK", "EPX_WORLD_SIZE", "EPX_JOB", "RANK", "WORLD_SIZE", "SLURM_PROCID"};
    uint8_t storage[BIG_BYTES];
    struct epx_communicator *comm = NULL;
    bool waits;
    const struct epx_comm_config *config = odd_comm_config(storage, &waits);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (pick(4) != 0) {
            (void)setenv(names[i], values[pick(15)], 1);
        }
    }
    if (waits) {
        (void)setenv("EPX_WORLD_SIZE", "1", 1);
        (void)setenv("EPX_RANK", "0", 1);
    }
    enum epx_status status = epx_comm_create_from_env(config, pick(10) == 0 ? NULL : &comm);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)unsetenv(names[i]);
    }
    expect_communicator(status, comm, "epx_comm_create_from_env");
}

/* ---- Handles --------------------------------------------------------------------------------------------------- */

static void fuzz_handles(void)
{
    struct epx_communicator *comm = pick(2) == 0 ? NULL : foreign();
    struct epx_plan *plan = pick(2) == 0 ? NULL : foreign();
    struct epx_request *request = pick(2) == 0 ? NULL : foreign();
    struct epx_moe_config moe;
    struct epx_plan *made = NULL;
    struct epx_request *started = NULL;
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    right_config(&moe);
    assert_int_equal(epx_comm_destroy(comm) == EPX_OK, comm == NULL);
    assert_int_equal(epx_comm_rank_of(comm), UINT32_MAX);
    assert_int_equal(epx_comm_size_of(comm), 0);
    assert_int_not_equal(epx_plan_create(comm, &moe, &made), EPX_OK);
    epx_plan_destroy(plan);
    epx_plan_print(plan, fix.sink);
    assert_int_equal(epx_plan_recv_row_max(plan), 0);
    assert_int_equal(epx_plan_local_expert_count(plan), 0);
    assert_int_not_equal(epx_plan_stats(plan, &stats), EPX_OK);
    assert_int_not_equal(epx_dispatch(plan, &dispatch), EPX_OK);
    assert_int_not_equal(epx_combine(plan, &combine), EPX_OK);
    assert_int_not_equal(epx_dispatch_start(plan, &dispatch, &started), EPX_OK);
    assert_int_not_equal(epx_combine_start(plan, &combine, &started), EPX_OK);
    struct epx_dispatch_views_args views = EPX_DISPATCH_VIEWS_ARGS_INIT;
    assert_int_not_equal(epx_dispatch_views(plan, &views), EPX_OK);
    assert_int_not_equal(epx_dispatch_views_start(plan, &views, &started), EPX_OK);
    assert_int_not_equal(epx_views_release(plan), EPX_OK);
    assert_int_not_equal(epx_wait(&request, odd_number()), EPX_OK);
    assert_true(made == NULL && started == NULL);
}

/* ---- Plans ----------------------------------------------------------------------------------------------------- */

static void set_odd_enum(void *member)
{
    int value = (int)odd_number();
    memcpy(member, &value, sizeof value);
}

static void spoil_config(struct epx_moe_config *moe)
{
    switch (pick(14)) {
    case 0: moe->expert_count = odd_number(); break;
    case 1: moe->hidden_elems = odd_number(); break;
    case 2: moe->topk = odd_number(); break;
    case 3: moe->shared_rank_count = odd_number(); break;
    case 4: set_odd_enum(&moe->dtype); break;
    case 5: set_odd_enum(&moe->quantization); break;
    case 6: set_odd_enum(&moe->return_quantization); break;
    case 7: set_odd_enum(&moe->exchange); break;
    case 8: moe->token_max = odd_number(); break;
    case 9: moe->recv_row_max = odd_number(); break;
    case 10: moe->smooth_scales = (int)odd_number(); break;
    case 11: moe->quantization = EPX_ROWS_INT8; break;
    case 12: moe->return_quantization = EPX_RETURN_INT8; break;
    case 13: moe->exchange = EPX_EXCHANGE_TWO_LEVEL; break;
    default: break;
    }
}

static void fuzz_plan(void)
{
    union {
        struct epx_moe_config moe;
        uint8_t bytes[BIG_BYTES];
    } given;
    struct epx_plan *plan = NULL;
    memset(&given, pick(4) == 0 ? 0x5A : 0, sizeof given);
    right_config(&given.moe);
    for (unsigned i = pick(5); i > 0; i--) {
        spoil_config(&given.moe);
    }
    if (pick(6) == 0) {
        given.moe.struct_bytes = odd_size(sizeof given.moe);
    }
    enum epx_status status = epx_plan_create(fix.comm, pick(20) == 0 ? NULL : &given.moe, pick(20) == 0 ? NULL : &plan);
    expect_known(status, "epx_plan_create");
    assert_int_equal(status == EPX_OK, plan != NULL);
    if (plan != NULL) {
        assert_true(epx_plan_recv_row_max(plan) >= 0);
        assert_true(epx_plan_local_expert_count(plan) > 0);
        epx_plan_print(plan, pick(4) == 0 ? NULL : fix.sink);
        epx_plan_destroy(plan);
    }
}

static void fuzz_stats(void)
{
    union {
        struct epx_stats stats;
        uint8_t bytes[BIG_BYTES];
    } given;
    memset(&given, 0x5A, sizeof given);
    given.stats.struct_bytes = pick(2) == 0 ? sizeof given.stats : odd_size(sizeof given.stats);
    size_t bytes = given.stats.struct_bytes;
    enum epx_status status = epx_plan_stats(fix.plan, pick(10) == 0 ? NULL : &given.stats);
    expect_known(status, "epx_plan_stats");
    if (status == EPX_OK) {
        assert_true(bytes >= sizeof given.stats && bytes <= sizeof given);
        assert_true(bytes == sizeof given || given.bytes[bytes] == 0x5A);
    }
}

/* ---- Operations ------------------------------------------------------------------------------------------------ */

/* A place in a window so small that tensors often meet; null sometimes. All that a right plan touches fits behind. */
static void *odd_place(void)
{
    return pick(24) == 0 ? NULL : fix.window + 8 * pick(WINDOW_BYTES / 2 / 8);
}

static int64_t odd_token_count(void)
{
    return pick(3) == 0 ? odd_number() : (int64_t)pick(TOKEN_COUNT + 1);
}

static void fill_window(void)
{
    fix.window = pick(2) == 0 ? fix.arena_window : fix.heap_window;
    for (size_t i = 0; i < WINDOW_BYTES; i += sizeof(int32_t)) {
        /* Most words are valid expert ids, most windows have only such. */
        int32_t word = pick(4000) == 0 ? (int32_t)odd_number() : (int32_t)pick(EXPERTS);
        memcpy(fix.window + i, &word, sizeof word);
    }
}

static void odd_dispatch(struct epx_dispatch_args *args)
{
    *args = (struct epx_dispatch_args)EPX_DISPATCH_ARGS_INIT;
    args->token_count = odd_token_count();
    args->x = odd_place();
    args->expert_ids = odd_place();
    args->expert_scales = odd_place();
    args->smooth_scales = pick(3) == 0 ? odd_place() : NULL;
    args->expand_x = odd_place();
    args->dynamic_scales = odd_place();
    args->expand_idx = odd_place();
    args->expert_token_nums = odd_place();
    args->ep_recv_counts = odd_place();
    args->expand_scales = odd_place();
}

static void odd_combine(struct epx_combine_args *args)
{
    *args = (struct epx_combine_args)EPX_COMBINE_ARGS_INIT;
    args->token_count = odd_token_count();
    args->expand_x = odd_place();
    /* What does not come from a dispatch is refused: mostly it does. */
    args->expert_ids = pick(6) == 0 ? odd_place() : tensors.ids;
    args->expand_idx = pick(6) == 0 ? odd_place() : tensors.idx;
    args->ep_send_counts = pick(6) == 0 ? odd_place() : tensors.counts;
    args->expert_scales = odd_place();
    args->x = odd_place();
}

static bool meet(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    uintptr_t first = (uintptr_t)a;
    uintptr_t second = (uintptr_t)b;
    return a != NULL && b != NULL && a_bytes > 0 && b_bytes > 0 && first < second + b_bytes && second < first + a_bytes;
}

/* Whether what the operation writes meets anything else that it touches. */
static bool dispatch_overlaps(const struct epx_dispatch_args *args, size_t rows_bytes)
{
    size_t tokens = (size_t)args->token_count;
    const struct {
        const void *at;
        size_t bytes;
        bool written;
    } parts[] = {{args->x, tokens * HIDDEN * 2, false},        {args->expert_ids, tokens * TOPK * 4, false},
                 {args->expand_x, rows_bytes, true},           {args->expand_idx, tokens * TOPK * 4, true},
                 {args->expert_token_nums, EXPERTS * 8, true}, {args->ep_recv_counts, EXPERTS * 4, true}};
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            if (i != j && parts[i].written && meet(parts[i].at, parts[i].bytes, parts[j].at, parts[j].bytes)) {
                return true;
            }
        }
    }
    return false;
}

static bool combine_overlaps(const struct epx_combine_args *args)
{
    size_t tokens = (size_t)args->token_count;
    size_t out_bytes = tokens * HIDDEN * 2;
    return meet(args->x, out_bytes, args->expand_x, (size_t)ROWS * HIDDEN * 2) ||
           meet(args->x, out_bytes, args->expert_ids, tokens * TOPK * 4) ||
           meet(args->x, out_bytes, args->expand_idx, tokens * TOPK * 4) ||
           meet(args->x, out_bytes, args->ep_send_counts, EXPERTS * 4) ||
           meet(args->x, out_bytes, args->expert_scales, tokens * TOPK * 4);
}

static enum epx_status wait_in_vain_and_then_not(enum epx_status started, struct epx_request *request)
{
    if (started != EPX_OK) {
        assert_null(request);
        return started;
    }
    assert_int_equal(epx_wait(&request, INT64_MIN), EPX_ERR_INVALID);
    assert_int_equal(epx_wait(&request, -2), EPX_ERR_INVALID);
    return epx_wait(&request, pick(2) == 0 ? -1 : INT64_MAX);
}

/* All that is shown can be read, and nothing else of the plan works until it has been given back. */
static void use_views(const struct epx_dispatch_views_args *args)
{
    struct epx_dispatch_args copies;
    struct epx_combine_args combine;
    volatile uint8_t sum = 0;
    for (int64_t row = 0; row < args->token_count * TOPK; row++) {
        const uint8_t *address;
        memcpy(&address, (const char *)args->rows + (size_t)row * sizeof address, sizeof address);
        for (size_t i = 0; i < HIDDEN * sizeof(uint16_t); i++) {
            sum = (uint8_t)(sum + address[i]);
        }
    }
    right_args(&tensors, &copies, &combine);
    assert_int_equal(epx_dispatch(fix.plan, &copies), EPX_ERR_STATE);
    assert_int_equal(epx_comm_destroy(fix.comm), EPX_ERR_STATE);
    if (fix.window == fix.arena_window && args->token_count > 0) {
        assert_int_equal(epx_memory_free(fix.arena_window), EPX_ERR_STATE);
    }
    assert_int_equal(epx_views_release(fix.plan), EPX_OK);
    fix.views_shown++;
}

/* Arguments of either form: they lie alike. */
union dispatch_given {
    struct epx_dispatch_args args;
    struct epx_dispatch_views_args views;
    uint8_t bytes[BIG_BYTES];
};
_Static_assert(offsetof(struct epx_dispatch_args, expand_x) == offsetof(struct epx_dispatch_views_args, rows) &&
                   sizeof(struct epx_dispatch_args) == sizeof(struct epx_dispatch_views_args),
               "alike");

static enum epx_status dispatch_somehow(const union dispatch_given *given, bool views)
{
    struct epx_request *request = NULL;
    struct epx_request **out = pick(20) == 0 ? NULL : &request;
    if (pick(3) != 0) {
        return views ? epx_dispatch_views(fix.plan, given != NULL ? &given->views : NULL)
                     : epx_dispatch(fix.plan, given != NULL ? &given->args : NULL);
    }
    enum epx_status status = views ? epx_dispatch_views_start(fix.plan, given != NULL ? &given->views : NULL, out)
                                   : epx_dispatch_start(fix.plan, given != NULL ? &given->args : NULL, out);
    return wait_in_vain_and_then_not(status, request);
}

static void fuzz_dispatch(void)
{
    union dispatch_given given;
    bool views = pick(2) == 0;
    fill_window();
    memset(&given, pick(4) == 0 ? 0x5A : 0, sizeof given);
    odd_dispatch(&given.args);
    if (pick(8) == 0) {
        given.args.struct_bytes = odd_size(sizeof given.args);
    }
    bool is_given = pick(40) != 0;
    enum epx_status status = dispatch_somehow(is_given ? &given : NULL, views);
    expect_known(status, "epx_dispatch");
    if (status == EPX_OK) {
        assert_true(is_given && given.args.token_count >= 0 && given.args.token_count <= TOKEN_COUNT);
        assert_false(dispatch_overlaps(&given.args, ROWS * (views ? sizeof(void *) : HIDDEN * sizeof(uint16_t))));
        fix.successes++;
    }
    if (views && status == EPX_OK) {
        use_views(&given.views);
    } else {
        assert_int_not_equal(epx_views_release(fix.plan), EPX_OK);
    }
    after_round(status);
}

static void fuzz_combine(void)
{
    union {
        struct epx_combine_args args;
        uint8_t bytes[BIG_BYTES];
    } given;
    struct epx_request *request = NULL;
    fill_window();
    memset(&given, pick(4) == 0 ? 0x5A : 0, sizeof given);
    odd_combine(&given.args);
    if (pick(8) == 0) {
        given.args.struct_bytes = odd_size(sizeof given.args);
    }
    const struct epx_combine_args *args = pick(40) == 0 ? NULL : &given.args;
    enum epx_status status;
    if (pick(3) == 0) {
        status = epx_combine_start(fix.plan, args, pick(20) == 0 ? NULL : &request);
        status = wait_in_vain_and_then_not(status, request);
    } else {
        status = epx_combine(fix.plan, args);
    }
    expect_known(status, "epx_combine");
    if (status == EPX_OK) {
        assert_true(args != NULL && args->token_count >= 0 && args->token_count <= TOKEN_COUNT);
        assert_false(combine_overlaps(args));
        fix.successes++;
    }
    after_round(status);
}

/* ---- Tests ----------------------------------------------------------------------------------------------------- */

static void run_cases(void (*fuzz)(void), unsigned cases)
{
    for (unsigned i = 0; i < cases; i++) {
        fuzz();
        if (i % 16 == 0) {
            expect_world_works();
        }
    }
    expect_world_works();
}

static void fuzz__texts_and_memory(void **state)
{
    (void)state;
    run_cases(fuzz_texts, fix.cases / 20);
    run_cases(fuzz_memory, fix.cases / 4);
}

static void fuzz__creation(void **state)
{
    (void)state;
    run_cases(fuzz_create_local, fix.cases / 20);
    run_cases(fuzz_create_from_token, fix.cases / 20);
    run_cases(fuzz_create_from_table, fix.cases / 20);
    run_cases(fuzz_create_from_env, fix.cases / 20);
}

static void fuzz__handles(void **state)
{
    (void)state;
    run_cases(fuzz_handles, fix.cases / 10);
}

static void fuzz__plans(void **state)
{
    (void)state;
    run_cases(fuzz_plan, fix.cases);
    run_cases(fuzz_stats, fix.cases / 10);
}

static void fuzz__operations(void **state)
{
    (void)state;
    run_cases(fuzz_dispatch, 2 * fix.cases);
    print_message("%u of %u dispatches worked, %u with row views\n", fix.successes, 2 * fix.cases, fix.views_shown);
    assert_true(fix.successes - fix.views_shown > fix.cases / 50 && fix.views_shown > fix.cases / 50);
    fix.successes = 0;
    run_cases(fuzz_combine, fix.cases);
    print_message("%u of %u combines worked\n", fix.successes, fix.cases);
    assert_true(fix.successes > fix.cases / 50);
}

static void fuzz__destroyed_communicator(void **state)
{
    (void)state;
    struct epx_moe_config moe;
    struct epx_plan *plan = NULL;
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    right_config(&moe);
    assert_int_equal(epx_comm_destroy(fix.comm), EPX_OK);
    /* The plan keeps what it needs to say so. */
    assert_int_equal(epx_dispatch(fix.plan, &dispatch), EPX_ERR_STATE);
    assert_int_equal(epx_comm_rank_of(fix.comm), UINT32_MAX);
    assert_int_not_equal(epx_comm_destroy(fix.comm), EPX_OK);
    assert_int_equal(epx_plan_create(fix.comm, &moe, &plan), EPX_ERR_STATE);
    assert_int_equal(epx_plan_stats(fix.plan, &stats), EPX_OK);
    epx_plan_print(fix.plan, fix.sink);
    epx_plan_destroy(fix.plan);
    open_world();
    expect_world_works();
}

static int setup(void **state)
{
    (void)state;
    const char *seed = getenv("EPX_TEST_SEED");
    const char *cases = getenv("EPX_TEST_CASES");
    fix.seed = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL) ^ (unsigned)getpid();
    fix.cases = cases != NULL ? (unsigned)strtoul(cases, NULL, 10) : CASES_DEFAULT / (limit_sanitized() ? 8u : 1u);
    print_message("EPX_TEST_SEED=%u EPX_TEST_CASES=%u\n", fix.seed, fix.cases);
    fix.sink = fopen("/dev/null", "w");
    fix.heap_window = malloc(WINDOW_BYTES);
    return fix.sink == NULL || fix.heap_window == NULL ||
           epx_memory_alloc(WINDOW_BYTES, (void **)&fix.arena_window) != EPX_OK;
}

static int setup_world(void **state)
{
    (void)state;
    open_world();
    return 0;
}

static int teardown_world(void **state)
{
    (void)state;
    close_world();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)fclose(fix.sink);
    free(fix.heap_window);
    return epx_memory_free(fix.arena_window) == EPX_OK ? 0 : 1;
}

int main(void)
{
    (void)setenv("EPX_LOG", "none", 1);
    (void)setenv("EPX_ARENA_MIB", "64", 1);
    (void)setenv("EPX_JOIN_TIMEOUT", "20", 1);
    (void)setenv("EPX_OP_TIMEOUT", "5000", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fuzz__texts_and_memory, setup_world, teardown_world),
        cmocka_unit_test_setup_teardown(fuzz__creation, setup_world, teardown_world),
        cmocka_unit_test_setup_teardown(fuzz__handles, setup_world, teardown_world),
        cmocka_unit_test_setup_teardown(fuzz__plans, setup_world, teardown_world),
        cmocka_unit_test_setup_teardown(fuzz__operations, setup_world, teardown_world),
        cmocka_unit_test_setup_teardown(fuzz__destroyed_communicator, setup_world, teardown_world),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
