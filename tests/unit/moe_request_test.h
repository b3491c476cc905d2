/*
 * Requests for tests of the checks: communicators of four ranks (and pairs) in this process, and tensors whose
 * addresses are numbers, since a check never looks at what a tensor holds.
 */
#ifndef EPX_TESTS_MOE_REQUEST_TEST_H
#define EPX_TESTS_MOE_REQUEST_TEST_H

#include "epx/objects.h"
#include "moe/request.h"
#include "moe/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TEST_RANKS 4

static struct epx_communicator *test_world[TEST_RANKS];
static struct epx_communicator *test_pair[2];

static inline int test_comms_open(void **state)
{
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    (void)state;
    config.server_rank_count = 2;
    return epx_comm_create_local(TEST_RANKS, &config, test_world) == EPX_OK &&
                   epx_comm_create_local(2, NULL, test_pair) == EPX_OK
               ? 0
               : -1;
}

static inline int test_comms_close(void **state)
{
    (void)state;
    for (int i = 0; i < TEST_RANKS; i++) {
        assert_int_equal(epx_comm_destroy(test_world[i]), EPX_OK);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(epx_comm_destroy(test_pair[i]), EPX_OK);
    }
    return 0;
}

/* Tensors far from each other, from this address on. */
#define TEST_TENSOR_BYTES ((uintptr_t)1 << 20)

static inline void *test_address(int index)
{
    return (void *)(((uintptr_t)1 << 32) + (uintptr_t)index * TEST_TENSOR_BYTES);
}

static inline struct epx_view test_matrix(int index, enum epx_dtype dtype, int64_t rows, int64_t columns)
{
    struct epx_view view = {
        .data = test_address(index), .dtype = dtype, .dim_count = 2, .shape = {rows, columns}, .stride = {columns, 1}};
    return view;
}

static inline struct epx_view test_vector(int index, enum epx_dtype dtype, int64_t elems)
{
    struct epx_view view = {
        .data = test_address(index), .dtype = dtype, .dim_count = 1, .shape = {elems}, .stride = {1}};
    return view;
}

/* E = 8 on 4 ranks, K = 3, H = 16, BS = 5. */
static inline struct epx_moe_shape test_shape(void)
{
    struct epx_moe_shape shape = {.expert_count = 8, .hidden_elems = 16, .topk = 3, .dtype = EPX_DTYPE_BF16};
    return shape;
}

/* A field of a request that is set to a value, and what must come of it. */
struct refusal {
    size_t offset;
    size_t bytes; /* 4 or 8 */
    int64_t value;
    enum epx_status status;
    const char *text;
};

static inline void refusal_apply(void *request, const struct refusal *refusal)
{
    int32_t narrow = (int32_t)refusal->value;
    const void *from = refusal->bytes == 4 ? (const void *)&narrow : (const void *)&refusal->value;
    memcpy((char *)request + refusal->offset, from, refusal->bytes);
}

static inline void refusal_check(const struct refusal *refusal, enum epx_status status)
{
    if (status != refusal->status || (status != EPX_OK && strstr(epx_error_text(), refusal->text) == NULL)) {
        fail_msg("offset %zu = %lld: status %d text \"%s\", must be %d with \"%s\"", refusal->offset,
                 (long long)refusal->value, (int)status, epx_error_text(), (int)refusal->status, refusal->text);
    }
}

#endif
