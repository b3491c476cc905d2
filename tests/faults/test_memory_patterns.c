/*
 * Tensors in any memory that a program may have: heap, arena, stack, private and shared mappings, files, memory that
 * may only be read (inputs), and all of them ending at a page that may not be touched, so that one byte too far is a
 * fault. Every result is compared with what the arguments say it must be. EPX_TEST_SEED replays a run.
 */
#include "epx/epx.h"
#include "limits.h"

#include <pthread.h>

#define RANK_COUNT    2
#define EXPERTS       4
#define LOCAL_EXPERTS (EXPERTS / RANK_COUNT)
#define TOKEN_MAX     5
#define TOPK          2
#define HIDDEN        72 /* no multiple of a vector */
#define ROW_MAX       (RANK_COUNT * TOKEN_MAX * TOPK)
#define BLOCKS        (RANK_COUNT * LOCAL_EXPERTS)

enum place {
    PLACE_ARENA,
    PLACE_HEAP,
    PLACE_STACK,
    PLACE_GUARDED,        /* private mapping, its end at the guard */
    PLACE_SHARED_GUARDED, /* shared mapping, its end at the guard */
    PLACE_FILE_PRIVATE,   /* of a file */
    PLACE_FILE_SHARED,
    PLACE_READ_ONLY, /* inputs alone: from here on */
    PLACE_READ_ONLY_FILE,
    PLACE_COUNT
};

struct buffer {
    enum place place;
    uint8_t *data;
    size_t bytes;
    uint8_t *mapping; /* with its guard */
    size_t mapping_bytes;
};

enum tensor {
    T_X,
    T_IDS,
    T_WEIGHTS,
    T_EXPERT_OUT, /* input of combine */
    T_INPUTS,
    T_ROWS = T_INPUTS,
    T_ROW_SCALES,
    T_IDX,
    T_NUMS,
    T_COUNTS,
    T_ROW_WEIGHTS,
    T_OUT,
    T_COUNT
};

#define STACK_BYTES 65536

struct rank {
    struct epx_communicator *comm;
    uint32_t rank;
    unsigned seed;
    bool int8;
    bool two_level;
    int64_t token_count;
    struct buffer buffers[T_COUNT];
    char wrong[300]; /* "" when all was right */
};

static unsigned master_seed;

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static int anonymous_file(size_t bytes)
{
    char path[] = "/tmp/epx-patterns-XXXXXX";
    int fd = mkstemp(path);
    if (fd >= 0 && (unlink(path) != 0 || ftruncate(fd, (off_t)bytes) != 0)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* `bytes` that end at a page which may not be touched. */
static bool map_guarded(struct buffer *buffer, int flags, bool of_file)
{
    size_t page = page_bytes();
    size_t used = (buffer->bytes + page - 1) / page * page;
    int fd = of_file ? anonymous_file(used + page) : -1;
    buffer->mapping_bytes = used + page;
    buffer->mapping = mmap(NULL, buffer->mapping_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (buffer->mapping == MAP_FAILED || mprotect(buffer->mapping + used, page, PROT_NONE) != 0) {
        return false;
    }
    buffer->data = buffer->mapping + used - buffer->bytes;
    return true;
}

/* `stack` is room of the calling rank. */
static bool buffer_make(struct buffer *buffer, enum place place, size_t bytes, uint8_t **stack)
{
    *buffer = (struct buffer){.place = place, .bytes = (bytes + 7) / 8 * 8};
    switch (place) {
    case PLACE_ARENA: return epx_memory_alloc(buffer->bytes, (void **)&buffer->data) == EPX_OK;
    case PLACE_HEAP: buffer->data = malloc(buffer->bytes); return buffer->data != NULL;
    case PLACE_STACK:
        buffer->data = *stack;
        *stack += buffer->bytes;
        return true;
    case PLACE_GUARDED:
    case PLACE_READ_ONLY: return map_guarded(buffer, MAP_PRIVATE | MAP_ANONYMOUS, false);
    case PLACE_SHARED_GUARDED: return map_guarded(buffer, MAP_SHARED | MAP_ANONYMOUS, false);
    case PLACE_FILE_PRIVATE: return map_guarded(buffer, MAP_PRIVATE, true);
    case PLACE_FILE_SHARED:
    case PLACE_READ_ONLY_FILE: return map_guarded(buffer, MAP_SHARED, true);
    case PLACE_COUNT: break;
    }
    return false;
}

static bool buffer_seal(const struct buffer *buffer)
{
    if (buffer->place < PLACE_READ_ONLY) {
        return true;
    }
    return mprotect(buffer->mapping, buffer->mapping_bytes - page_bytes(), PROT_READ) == 0;
}

static void buffer_free(struct buffer *buffer)
{
    if (buffer->place == PLACE_ARENA) {
        (void)epx_memory_free(buffer->data);
    } else if (buffer->place == PLACE_HEAP) {
        free(buffer->data);
    } else if (buffer->mapping != NULL) {
        (void)munmap(buffer->mapping, buffer->mapping_bytes);
    }
}

static void wrong(struct rank *self, const char *what, int64_t at, double is, double must)
{
    if (self->wrong[0] == '\0') {
        (void)snprintf(self->wrong, sizeof self->wrong, "rank %u: %s[%lld] is %g, must be %g (%s)", self->rank, what,
                       (long long)at, is, must, epx_last_error());
    }
}

/* ---- What is right --------------------------------------------------------------------------------------------- */

/* A small whole number, so that it and its halves are exact in 16 bits. */
static float value_of(uint32_t rank, int64_t token, int64_t elem)
{
    return (float)((int64_t)(rank * 31 + (uint32_t)token * 17 + (uint32_t)elem * 5) % 61 - 30);
}

/* Each token goes to two experts. */
static int32_t expert_of(uint32_t rank, int64_t token, int64_t k)
{
    return (int32_t)(((int64_t)rank + token * 3 + k * 2) % EXPERTS);
}

static float bf16_value(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static uint16_t bf16_bits(float value)
{
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    return (uint16_t)(wide >> 16);
}

static void fill_inputs(struct rank *self)
{
    uint16_t *x = (uint16_t *)(void *)self->buffers[T_X].data;
    int32_t *ids = (int32_t *)(void *)self->buffers[T_IDS].data;
    float *weights = (float *)(void *)self->buffers[T_WEIGHTS].data;
    for (int64_t t = 0; t < self->token_count; t++) {
        for (int64_t h = 0; h < HIDDEN; h++) {
            x[t * HIDDEN + h] = bf16_bits(value_of(self->rank, t, h));
        }
        for (int64_t k = 0; k < TOPK; k++) {
            ids[t * TOPK + k] = expert_of(self->rank, t, k);
            weights[t * TOPK + k] = k == 0 ? 0.5f : 1.5f;
        }
    }
}

/* Element of a received row. */
static float row_value(const struct rank *self, int64_t row, int64_t elem)
{
    if (self->int8) {
        const float *scales = (const float *)(const void *)self->buffers[T_ROW_SCALES].data;
        return (float)((const int8_t *)self->buffers[T_ROWS].data)[row * HIDDEN + elem] * scales[row];
    }
    return bf16_value(((const uint16_t *)(const void *)self->buffers[T_ROWS].data)[row * HIDDEN + elem]);
}

static void check_row(struct rank *self, int64_t row, uint32_t source, int64_t token)
{
    float largest = 0;
    for (int64_t h = 0; h < HIDDEN; h++) {
        float size = value_of(source, token, h) < 0 ? -value_of(source, token, h) : value_of(source, token, h);
        largest = size > largest ? size : largest;
    }
    float allowed = self->int8 ? largest / 127.0f * 0.51f : 0;
    for (int64_t h = 0; h < HIDDEN; h++) {
        float must = value_of(source, token, h);
        float is = row_value(self, row, h);
        if (!(is >= must - allowed && is <= must + allowed)) {
            wrong(self, "expand_x", row * HIDDEN + h, (double)is, (double)must);
        }
    }
}

/* Rows by local expert, source rank, token. The two worlds have equal token counts on both ranks. */
static void check_dispatch(struct rank *self)
{
    const int32_t *counts = (const int32_t *)(const void *)self->buffers[T_COUNTS].data;
    const int64_t *nums = (const int64_t *)(const void *)self->buffers[T_NUMS].data;
    int64_t row = 0;
    for (int32_t local = 0; local < LOCAL_EXPERTS; local++) {
        int64_t first = row;
        for (uint32_t source = 0; source < RANK_COUNT; source++) {
            for (int64_t copy = 0; copy < self->token_count * TOPK; copy++) {
                int32_t expert = (int32_t)self->rank * LOCAL_EXPERTS + local;
                if (expert_of(source, copy / TOPK, copy % TOPK) == expert) {
                    check_row(self, row++, source, copy / TOPK);
                }
            }
            if (counts[local * RANK_COUNT + (int32_t)source] != row) {
                wrong(self, "ep_recv_counts", local * RANK_COUNT + (int32_t)source,
                      counts[local * RANK_COUNT + (int32_t)source], (double)row);
            }
        }
        if (nums[local] != row - first) {
            wrong(self, "expert_token_nums", local, (double)nums[local], (double)(row - first));
        }
    }
}

/* Experts that return what came, from its exact value; combine then gives twice the token. */
static void run_experts(struct rank *self)
{
    uint16_t *out = (uint16_t *)(void *)self->buffers[T_EXPERT_OUT].data;
    int64_t row = 0;
    for (int32_t local = 0; local < LOCAL_EXPERTS; local++) {
        for (uint32_t source = 0; source < RANK_COUNT; source++) {
            for (int64_t copy = 0; copy < self->token_count * TOPK; copy++) {
                int32_t expert = (int32_t)self->rank * LOCAL_EXPERTS + local;
                for (int64_t h = 0; expert_of(source, copy / TOPK, copy % TOPK) == expert && h < HIDDEN; h++) {
                    out[row * HIDDEN + h] = bf16_bits(value_of(source, copy / TOPK, h));
                }
                row += expert_of(source, copy / TOPK, copy % TOPK) == expert;
            }
        }
    }
}

static void check_combine(struct rank *self)
{
    const uint16_t *out = (const uint16_t *)(const void *)self->buffers[T_OUT].data;
    for (int64_t i = 0; i < self->token_count * HIDDEN; i++) {
        float must = 2.0f * value_of(self->rank, i / HIDDEN, i % HIDDEN);
        if (bf16_value(out[i]) != must) {
            wrong(self, "x", i, (double)bf16_value(out[i]), (double)must);
        }
    }
}

/* ---- One round ------------------------------------------------------------------------------------------------- */

static size_t tensor_bytes(const struct rank *self, enum tensor tensor)
{
    size_t tokens = (size_t)self->token_count;
    switch (tensor) {
    case T_X:
    case T_OUT: return tokens * HIDDEN * 2;
    case T_IDS:
    case T_WEIGHTS:
    case T_IDX: return tokens * TOPK * 4;
    case T_EXPERT_OUT: return (size_t)ROW_MAX * HIDDEN * 2;
    case T_ROWS: return (size_t)ROW_MAX * HIDDEN * (self->int8 ? 1 : 2);
    case T_ROW_SCALES:
    case T_ROW_WEIGHTS: return (size_t)ROW_MAX * 4;
    case T_NUMS: return LOCAL_EXPERTS * 8;
    case T_COUNTS: return BLOCKS * 4;
    case T_COUNT: break;
    }
    return 0;
}

static bool make_buffers(struct rank *self, uint8_t *stack)
{
    for (int t = 0; t < T_COUNT; t++) {
        unsigned places = t < T_INPUTS ? PLACE_COUNT : PLACE_READ_ONLY;
        enum place place = (enum place)((unsigned)rand_r(&self->seed) % places);
        struct buffer *buffer = &self->buffers[t];
        if (!buffer_make(buffer, place, tensor_bytes(self, (enum tensor)t), &stack)) {
            wrong(self, "memory of tensor", t, place, 0);
            return false;
        }
        memset(buffer->data, 0x5A, buffer->bytes);
    }
    return true;
}

static struct epx_plan *make_plan(struct rank *self)
{
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    struct epx_plan *plan = NULL;
    moe.expert_count = EXPERTS;
    moe.hidden_elems = HIDDEN;
    moe.topk = TOPK;
    moe.token_max = TOKEN_MAX;
    moe.recv_row_max = ROW_MAX;
    moe.quantization = self->int8 ? EPX_ROWS_INT8 : EPX_ROWS_PLAIN;
    moe.exchange = self->two_level ? EPX_EXCHANGE_TWO_LEVEL : EPX_EXCHANGE_FULL_MESH;
    if (epx_plan_create(self->comm, &moe, &plan) != EPX_OK) {
        wrong(self, "epx_plan_create", 0, 1, 0);
    }
    return plan;
}

static void exchange(struct rank *self, struct epx_plan *plan)
{
    struct buffer *buffers = self->buffers;
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    dispatch.token_count = combine.token_count = self->token_count;
    dispatch.x = buffers[T_X].data;
    dispatch.expert_ids = combine.expert_ids = (const int32_t *)(const void *)buffers[T_IDS].data;
    dispatch.expert_scales = combine.expert_scales = (const float *)(const void *)buffers[T_WEIGHTS].data;
    dispatch.expand_x = buffers[T_ROWS].data;
    dispatch.dynamic_scales = (float *)(void *)buffers[T_ROW_SCALES].data;
    dispatch.expand_idx = (int32_t *)(void *)buffers[T_IDX].data;
    dispatch.expert_token_nums = (int64_t *)(void *)buffers[T_NUMS].data;
    dispatch.ep_recv_counts = (int32_t *)(void *)buffers[T_COUNTS].data;
    dispatch.expand_scales = (float *)(void *)buffers[T_ROW_WEIGHTS].data;
    combine.expand_x = buffers[T_EXPERT_OUT].data;
    combine.expand_idx = dispatch.expand_idx;
    combine.ep_send_counts = dispatch.ep_recv_counts;
    combine.x = buffers[T_OUT].data;
    enum epx_status status = epx_dispatch(plan, &dispatch);
    if (status != EPX_OK) {
        wrong(self, "epx_dispatch", 0, status, 0);
        return;
    }
    check_dispatch(self);
    run_experts(self);
    if (!buffer_seal(&buffers[T_EXPERT_OUT])) {
        wrong(self, "mprotect", T_EXPERT_OUT, 1, 0);
    }
    status = epx_combine(plan, &combine);
    if (status != EPX_OK) {
        wrong(self, "epx_combine", 0, status, 0);
        return;
    }
    check_combine(self);
}

static void *rank_main(void *context)
{
    struct rank *self = context;
    uint64_t stack[STACK_BYTES / 8];
    struct epx_plan *plan = make_plan(self);
    if (plan != NULL && make_buffers(self, (uint8_t *)stack)) {
        fill_inputs(self);
        for (int t = T_X; t <= T_WEIGHTS; t++) {
            if (!buffer_seal(&self->buffers[t])) {
                wrong(self, "mprotect", t, 1, 0);
            }
        }
        exchange(self, plan);
    }
    for (int t = 0; t < T_COUNT; t++) {
        buffer_free(&self->buffers[t]);
    }
    epx_plan_destroy(plan);
    return NULL;
}

static void run_case(struct epx_communicator **comms, unsigned *seed)
{
    struct rank ranks[RANK_COUNT];
    pthread_t threads[RANK_COUNT];
    bool int8 = rand_r(seed) % 2 == 0;
    bool two_level = rand_r(seed) % 3 == 0;
    int64_t token_count = rand_r(seed) % (TOKEN_MAX + 1);
    for (uint32_t i = 0; i < RANK_COUNT; i++) {
        ranks[i] = (struct rank){.comm = comms[i],
                                 .rank = i,
                                 .seed = (unsigned)rand_r(seed),
                                 .int8 = int8,
                                 .two_level = two_level,
                                 .token_count = token_count};
        assert_int_equal(pthread_create(&threads[i], NULL, rank_main, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < RANK_COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (uint32_t i = 0; i < RANK_COUNT; i++) {
        if (ranks[i].wrong[0] != '\0') {
            fail_msg("int8 %d, two-level %d: %s", int8, two_level, ranks[i].wrong);
        }
    }
}

static void exchange__tensors_in_any_memory(void **state)
{
    (void)state;
    struct epx_communicator *comms[RANK_COUNT];
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    config.op_timeout_ms = 20000;
    assert_int_equal(epx_comm_create_local(RANK_COUNT, &config, comms), EPX_OK);
    const char *cases = getenv("EPX_TEST_CASES");
    unsigned seed = master_seed;
    for (int i = cases != NULL ? atoi(cases) : 400; i > 0; i--) {
        run_case(comms, &seed);
    }
    for (uint32_t i = 0; i < RANK_COUNT; i++) {
        assert_int_equal(epx_comm_destroy(comms[i]), EPX_OK);
    }
}

/* ---- Tensors that leave their allocation ----------------------------------------------------------------------- */

struct solo {
    struct epx_communicator *comm;
    struct epx_plan *plan;
    uint16_t x[TOKEN_MAX * HIDDEN];
    uint16_t rows[TOKEN_MAX * HIDDEN];
    int32_t ids[TOKEN_MAX];
    int32_t idx[TOKEN_MAX];
    int64_t nums[1];
    int32_t counts[1];
    struct epx_dispatch_args args;
};

static void solo_open(struct solo *solo)
{
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    moe.expert_count = 1;
    moe.hidden_elems = HIDDEN;
    moe.topk = 1;
    moe.token_max = TOKEN_MAX;
    if (epx_comm_create_local(1, NULL, &solo->comm) != EPX_OK ||
        epx_plan_create(solo->comm, &moe, &solo->plan) != EPX_OK) {
        (void)fprintf(stderr, "%s\n", epx_last_error());
        _exit(9);
    }
    solo->args = (struct epx_dispatch_args)EPX_DISPATCH_ARGS_INIT;
    solo->args.token_count = TOKEN_MAX;
    solo->args.x = solo->x;
    solo->args.expert_ids = solo->ids;
    solo->args.expand_x = solo->rows;
    solo->args.expand_idx = solo->idx;
    solo->args.expert_token_nums = solo->nums;
    solo->args.ep_recv_counts = solo->counts;
}

#define TENSOR_BYTES sizeof(((struct solo *)0)->x)

/* The last bytes of the arena that are there: nothing but what lies before them may be touched. */
static uint8_t *last_bytes(size_t bytes)
{
    uint8_t *memory = NULL;
    uint8_t *last = NULL;
    while (epx_memory_alloc(4096, (void **)&memory) == EPX_OK) {
        last = memory > last ? memory : last;
    }
    return last + 4096 - bytes;
}

static void read_across_the_end(struct solo *solo)
{
    solo->args.x = last_bytes(100);
}

static void write_across_the_end(struct solo *solo)
{
    solo->args.expand_x = last_bytes(100);
}

static void ids_across_the_end(struct solo *solo)
{
    solo->args.expert_ids = (const int32_t *)(const void *)last_bytes(8);
}

/* A tensor in an arena of which not all is there. */
static int refuse_in_child(void (*place)(struct solo *solo))
{
    (void)fflush(NULL);
    pid_t parent = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static struct solo solo;
        limit_child_begin(parent);
        (void)setenv("EPX_ARENA_MIB", "4", 1);
        solo_open(&solo);
        place(&solo);
        enum epx_status status = epx_dispatch(solo.plan, &solo.args);
        _exit(status == EPX_OK ? 1 : status >= EPX_ERR_MISMATCH ? 2 : 0);
    }
    int code = 0;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    return code;
}

static void arena__tensor_leaves_it(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        void (*place)(struct solo *solo);
    } cases[] = {{"x", read_across_the_end}, {"expand_x", write_across_the_end}, {"expert_ids", ids_across_the_end}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int code = refuse_in_child(cases[i].place);
        if (WIFSIGNALED(code)) {
            fail_msg("%s beyond the arena's end: signal %d", cases[i].what, WTERMSIG(code));
        }
        if (WEXITSTATUS(code) != 0) {
            fail_msg("%s beyond the arena's end is taken (%d)", cases[i].what, WEXITSTATUS(code));
        }
    }
}

/* One allocation may not be written through another's pointer; two neighbours' memory is the program's, though. */
static void arena__tensor_leaves_its_allocation(void **state)
{
    (void)state;
    static struct solo solo;
    uint8_t *parts[3];
    solo_open(&solo);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(epx_memory_alloc(TENSOR_BYTES - TENSOR_BYTES % 64, (void **)&parts[i]), EPX_OK);
        memset(parts[i], i + 1, TENSOR_BYTES - TENSOR_BYTES % 64);
    }
    solo.args.expand_x = parts[0] + 128;
    enum epx_status status = epx_dispatch(solo.plan, &solo.args);
    if (status == EPX_OK) {
        fail_msg("an output that begins in one allocation and ends in the next is written");
    }
    for (size_t i = 0; i < 3 * (TENSOR_BYTES - TENSOR_BYTES % 64); i++) {
        assert_int_equal(parts[i / (TENSOR_BYTES - TENSOR_BYTES % 64)][i % (TENSOR_BYTES - TENSOR_BYTES % 64)],
                         i / (TENSOR_BYTES - TENSOR_BYTES % 64) + 1);
    }
    solo.args.expand_x = solo.rows;
    assert_int_equal(epx_dispatch(solo.plan, &solo.args), EPX_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(epx_memory_free(parts[i]), EPX_OK);
    }
    epx_plan_destroy(solo.plan);
    assert_int_equal(epx_comm_destroy(solo.comm), EPX_OK);
}

/* Freed memory is nobody's tensor. */
static void arena__tensor_was_freed(void **state)
{
    (void)state;
    static struct solo solo;
    void *memory = NULL;
    solo_open(&solo);
    assert_int_equal(epx_memory_alloc(TENSOR_BYTES, &memory), EPX_OK);
    solo.args.expand_x = memory;
    assert_int_equal(epx_dispatch(solo.plan, &solo.args), EPX_OK);
    assert_int_equal(epx_memory_free(memory), EPX_OK);
    assert_int_not_equal(epx_dispatch(solo.plan, &solo.args), EPX_OK);
    solo.args.expand_x = solo.rows;
    assert_int_equal(epx_dispatch(solo.plan, &solo.args), EPX_OK);
    epx_plan_destroy(solo.plan);
    assert_int_equal(epx_comm_destroy(solo.comm), EPX_OK);
}

int main(void)
{
    const char *seed = getenv("EPX_TEST_SEED");
    master_seed = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL) ^ (unsigned)getpid();
    print_message("EPX_TEST_SEED=%u\n", master_seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena__tensor_leaves_it),
        cmocka_unit_test(arena__tensor_leaves_its_allocation),
        cmocka_unit_test(arena__tensor_was_freed),
        cmocka_unit_test(exchange__tensors_in_any_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
