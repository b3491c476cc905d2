/* How much memory a rank on another host can make this one reserve: as much as what it sends can need. */
#include "comm/comm_object.h"
#include "comm/remote_state.h"
#include "moe/exchange.h"
#include "moe/layout.h"
#include "moe/request.h"
#include "ranks/hosts_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define RANKS  4u /* 0 and 1 on host 0, 2 and 3 on host 1 */
#define TOKENS 2
#define HIDDEN 16
#define ROWS   32

static const struct epx_moe_shape shape = {.expert_count = RANKS,
                                           .hidden_elems = HIDDEN,
                                           .topk = 1,
                                           .dtype = EPX_DTYPE_BF16,
                                           .algorithm = EPX_ALGORITHM_TWO_LEVEL};

static struct {
    uint16_t x[TOKENS][HIDDEN];
    int32_t ids[TOKENS];
    float weights[TOKENS];
    uint16_t expand_x[ROWS][HIDDEN];
    int64_t token_nums[1];
    int32_t counts[RANKS];
    uint16_t out[TOKENS][HIDDEN];
} memory;

static struct epx_view view(void *data, enum epx_dtype dtype, int64_t rows, int64_t columns)
{
    return (struct epx_view){.data = data,
                             .dtype = dtype,
                             .dim_count = columns > 0 ? 2 : 1,
                             .shape = {rows, columns},
                             .stride = {columns > 0 ? columns : 1, 1}};
}

static struct epx_comm *open_rank(uint64_t key)
{
    const struct hosts_spec spec = {
        .key = key, .rank_count = RANKS, .server_rank_count = 2, .host_of = {0, 0, 1, 1}, .op_timeout_ms = 20000};
    return hosts_open(&spec);
}

/* The entry of rank 2 in round 1, as the same call has it, with so many bytes of exchange region and such a room. */
static void send_entry(const struct epx_comm *comm, uint64_t key, enum epx_operation operation, uint64_t bytes,
                       uint64_t room)
{
    uint8_t data[sizeof(struct epx_agreement) + 64] = {0};
    const struct epx_remote_header header = {.magic = EPX_REMOTE_MAGIC,
                                             .kind = EPX_REMOTE_ENTRY,
                                             .operation = (uint16_t)operation,
                                             .step = 1,
                                             .round = 1,
                                             .total_bytes = bytes,
                                             .room = room};
    memcpy(data, &comm->slot->entries[1].agreement, sizeof(struct epx_agreement));
    hosts_send(key, 2, 0, &header, data, sizeof data);
}

static uint64_t dispatch_region_bytes(int64_t tokens)
{
    struct epx_dispatch_layout layout;
    const struct epx_dispatch_sizes sizes = {
        .token_count = tokens, .topk = 1, .expert_count = RANKS, .hidden_elems = HIDDEN, .two_level = true};
    assert_true(epx_dispatch_layout_init(&layout, &sizes, sizeof(struct epx_exchange_header)));
    return layout.exchange_bytes;
}

/* Whether the entry was taken; the operation fails in the end, for nothing follows. */
static bool dispatch_takes(uint64_t key, uint64_t bytes, uint64_t room)
{
    struct epx_comm *comm = open_rank(key);
    struct epx_dispatch_binding binding;
    struct epx_dispatch_plan *plan;
    enum epx_status status;
    const struct epx_dispatch_request request = {
        .comm = comm,
        .shape = shape,
        .token_count = TOKENS,
        .tensors = {.x = view(memory.x, EPX_DTYPE_BF16, TOKENS, HIDDEN),
                    .expert_ids = view(memory.ids, EPX_DTYPE_INT32, TOKENS, 1),
                    .expand_x = view(memory.expand_x, EPX_DTYPE_BF16, ROWS, HIDDEN),
                    .expert_token_nums = view(memory.token_nums, EPX_DTYPE_INT64, 1, 0),
                    .ep_recv_counts = view(memory.counts, EPX_DTYPE_INT32, RANKS, 0)}};
    assert_int_equal(epx_dispatch_plan_create(&request, &plan), EPX_OK);
    assert_int_equal(epx_dispatch_binding_init(plan, TOKENS, &request.tensors, &binding), EPX_OK);
    epx_dispatch_binding_reserve(plan, &binding);
    assert_false(epx_dispatch_binding_advance(plan, &binding, 1, NULL, &status));
    send_entry(comm, key, EPX_OPERATION_DISPATCH, bytes, room);
    bool over = epx_dispatch_binding_advance(plan, &binding, 1, NULL, &status);
    if (!over) {
        assert_int_equal(epx_comm_abort(comm, EPX_ERR_ABORTED, "seen enough"), EPX_ERR_ABORTED);
        assert_true(epx_dispatch_binding_advance(plan, &binding, 1, NULL, &status));
    } else {
        assert_int_equal(status, EPX_ERR_PROTOCOL);
    }
    epx_dispatch_plan_destroy(plan);
    hosts_close(comm);
    return !over;
}

static bool combine_takes(uint64_t key, uint64_t bytes, uint64_t room)
{
    struct epx_comm *comm = open_rank(key);
    struct epx_combine_binding binding;
    struct epx_combine_plan *plan;
    enum epx_status status;
    const struct epx_combine_request request = {
        .comm = comm,
        .shape = shape,
        .token_count = TOKENS,
        .tensors = {.expand_x = view(memory.expand_x, EPX_DTYPE_BF16, ROWS, HIDDEN),
                    .expert_ids = view(memory.ids, EPX_DTYPE_INT32, TOKENS, 1),
                    .ep_send_counts = view(memory.counts, EPX_DTYPE_INT32, RANKS, 0),
                    .expert_scales = view(memory.weights, EPX_DTYPE_FP32, TOKENS, 1),
                    .x = view(memory.out, EPX_DTYPE_BF16, TOKENS, HIDDEN)}};
    memset(memory.counts, 0, sizeof memory.counts);
    assert_int_equal(epx_combine_plan_create(&request, &plan), EPX_OK);
    assert_int_equal(epx_combine_binding_init(plan, TOKENS, &request.tensors, &binding), EPX_OK);
    epx_combine_binding_reserve(plan, &binding);
    assert_false(epx_combine_binding_advance(plan, &binding, 1, NULL, &status));
    send_entry(comm, key, EPX_OPERATION_COMBINE, bytes, room);
    bool over = epx_combine_binding_advance(plan, &binding, 1, NULL, &status);
    if (!over) {
        assert_int_equal(epx_comm_abort(comm, EPX_ERR_ABORTED, "seen enough"), EPX_ERR_ABORTED);
        assert_true(epx_combine_binding_advance(plan, &binding, 1, NULL, &status));
    } else {
        assert_int_equal(status, EPX_ERR_PROTOCOL);
    }
    epx_combine_plan_destroy(plan);
    hosts_close(comm);
    return !over;
}

static void room__of_dispatch_has_a_region_for_its_tokens(void **state)
{
    (void)state;
    assert_true(dispatch_takes(9101, dispatch_region_bytes(TOKENS), TOKENS));
    assert_true(dispatch_takes(9102, dispatch_region_bytes(1000), 1000));
    assert_false(dispatch_takes(9103, dispatch_region_bytes(TOKENS), 1000));
    assert_non_null(strstr(epx_error_text(), "for 1000 tokens in dispatch, must be"));
    assert_false(dispatch_takes(9104, dispatch_region_bytes(1000) + 64, 1000));
    /* More than there can be is not asked for. */
    assert_true(dispatch_takes(9105, dispatch_region_bytes(TOKENS), UINT64_MAX));
}

static void room__of_combine_has_copies_of_its_tokens(void **state)
{
    (void)state;
    const uint64_t tokens = 1000;
    const uint64_t copies_bytes = 3 * ((4 * tokens + 63) / 64 * 64);
    assert_true(combine_takes(9111, 256, 0));
    assert_true(combine_takes(9112, copies_bytes, tokens << 32));
    assert_false(combine_takes(9113, copies_bytes - 1, tokens << 32));
    assert_non_null(strstr(epx_error_text(), "for 1000 tokens in combine, too few"));
    assert_false(combine_takes(9114, 256, (uint64_t)INT32_MAX << 32));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room__of_dispatch_has_a_region_for_its_tokens),
        cmocka_unit_test(room__of_combine_has_copies_of_its_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
