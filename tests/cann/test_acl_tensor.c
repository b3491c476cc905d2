/* aclTensor and its relations: each function with each of its errors. */
#include "cann/acl_state.h"
#include "cann/exports_acl.h"
#include "cann/object_set.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HUGE_DIM ((int64_t)1 << 40)

static aclTensor *create(const int64_t *view, uint64_t view_count, const int64_t *stride, int64_t offset,
                         const int64_t *storage, uint64_t storage_count)
{
    return epx_cann_aclCreateTensor(view, view_count, ACL_BF16, stride, offset, ACL_FORMAT_ND, storage, storage_count,
                                    NULL);
}

static void expect_list(aclnnStatus code, int64_t *dims, uint64_t count, const int64_t *wanted, uint64_t wanted_count)
{
    assert_int_equal(code, 0);
    assert_int_equal(count, wanted_count);
    if (wanted_count > 0) {
        assert_memory_equal(dims, wanted, wanted_count * sizeof *wanted);
    } else {
        assert_null(dims);
    }
    free(dims);
}

static void tensor__keeps_what_it_was_given(void **state)
{
    (void)state;
    const int64_t view[] = {3, 4};
    const int64_t stride[] = {10, 2};
    const int64_t storage[] = {5, 10};
    int data = 0;
    int64_t *dims = NULL;
    uint64_t count = 0;
    int64_t offset = 0;
    aclFormat format = ACL_FORMAT_UNDEFINED;
    aclDataType type = ACL_DT_UNDEFINED;
    void *address = NULL;
    aclTensor *tensor = epx_cann_aclCreateTensor(view, 2, ACL_FLOAT16, stride, 13, ACL_FORMAT_ND, storage, 2, &data);
    assert_non_null(tensor);
    aclnnStatus code = epx_cann_aclGetViewShape(tensor, &dims, &count);
    expect_list(code, dims, count, view, 2);
    code = epx_cann_aclGetViewStrides(tensor, &dims, &count);
    expect_list(code, dims, count, stride, 2);
    code = epx_cann_aclGetStorageShape(tensor, &dims, &count);
    expect_list(code, dims, count, storage, 2);
    assert_int_equal(epx_cann_aclGetViewOffset(tensor, &offset), 0);
    assert_int_equal(offset, 13);
    assert_int_equal(epx_cann_aclGetFormat(tensor, &format), 0);
    assert_int_equal(format, ACL_FORMAT_ND);
    assert_int_equal(epx_cann_aclGetDataType(tensor, &type), 0);
    assert_int_equal(type, ACL_FLOAT16);
    assert_int_equal(epx_cann_aclGetRawTensorAddr(tensor, &address), 0);
    assert_ptr_equal(address, &data);
    assert_int_equal(epx_cann_aclSetRawTensorAddr(tensor, &address), 0);
    assert_int_equal(epx_cann_aclGetRawTensorAddr(tensor, &address), 0);
    assert_ptr_equal(address, &address);
    assert_int_equal(tensor->magic, EPX_CANN_TENSOR_MAGIC);
    assert_int_equal(tensor->storage_elems, 50);
    assert_int_equal(epx_cann_aclDestroyTensor(tensor), 0);
}

static void tensor__without_strides_is_dense(void **state)
{
    (void)state;
    const int64_t dims[] = {2, 3, 4};
    const int64_t wanted[] = {12, 4, 1};
    int64_t *strides = NULL;
    uint64_t count = 0;
    aclTensor *tensor = create(dims, 3, NULL, 0, dims, 3);
    assert_non_null(tensor);
    aclnnStatus code = epx_cann_aclGetViewStrides(tensor, &strides, &count);
    expect_list(code, strides, count, wanted, 3);
    assert_int_equal(epx_cann_aclDestroyTensor(tensor), 0);

    tensor = create(NULL, 0, NULL, 0, NULL, 0); /* one element */
    assert_non_null(tensor);
    assert_int_equal(tensor->storage_elems, 1);
    code = epx_cann_aclGetViewShape(tensor, &strides, &count);
    expect_list(code, strides, count, NULL, 0);
    assert_int_equal(epx_cann_aclDestroyTensor(tensor), 0);
}

static void tensor__views_inside_the_storage(void **state)
{
    (void)state;
    const int64_t whole[] = {4, 6};
    const int64_t part[] = {2, 3};
    const int64_t rows[] = {12, 2};
    const int64_t repeated[] = {0, 1};
    const int64_t empty[] = {0, 6};
    const int64_t flat[] = {24};
    const int64_t eight[] = {1, 1, 1, 1, 1, 1, 1, 24};
    aclTensor *good[] = {
        create(whole, 2, NULL, 0, whole, 2), create(whole, 2, NULL, 0, flat, 1),
        create(part, 2, rows, 7, whole, 2),  create(part, 2, repeated, 0, flat, 1),
        create(empty, 2, NULL, 0, whole, 2), create(empty, 2, NULL, 24, whole, 2),
        create(empty, 2, NULL, 0, empty, 2), create(eight, 8, NULL, 0, eight, 8),
        create(whole, 2, NULL, 0, eight, 8),
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_non_null(good[i]);
        assert_int_equal(epx_cann_aclDestroyTensor(good[i]), 0);
    }
}

static void tensor__refuses(void **state)
{
    (void)state;
    const int64_t whole[] = {4, 6};
    const int64_t negative[] = {4, -1};
    const int64_t backwards[] = {6, -1};
    const int64_t far[] = {INT64_MAX, 1};
    const int64_t large[] = {HUGE_DIM, HUGE_DIM};
    const int64_t hidden[] = {0, HUGE_DIM, HUGE_DIM};
    const int64_t bytes[] = {INT64_MAX};
    const int64_t part[] = {2, 3};
    const int64_t rows[] = {12, 2};
    const int64_t nine[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const aclTensor *bad[] = {
        create(nine, 9, NULL, 0, whole, 2),
        create(whole, 2, NULL, 0, nine, 9),
        create(nine, UINT64_MAX, NULL, 0, nine, 1),
        create(NULL, 2, NULL, 0, whole, 2),
        create(whole, 2, NULL, 0, NULL, 2),
        create(negative, 2, NULL, 0, whole, 2),
        create(whole, 2, NULL, 0, negative, 2),
        create(whole, 2, backwards, 0, whole, 2),
        create(whole, 2, far, 0, whole, 2),
        create(large, 2, NULL, 0, whole, 2),
        create(hidden, 3, NULL, 0, whole, 2),
        create(whole, 2, NULL, 0, large, 2),
        create(whole, 2, NULL, 0, hidden, 3),
        create(bytes, 1, NULL, 0, bytes, 1),
        create(whole, 2, NULL, -1, whole, 2),
        create(whole, 2, NULL, 1, whole, 2),
        create(whole, 2, NULL, INT64_MAX, whole, 2),
        create(part, 2, rows, 8, whole, 2),
        create(whole, 2, NULL, 0, part, 2),
        epx_cann_aclCreateTensor(whole, 2, (aclDataType)5, NULL, 0, ACL_FORMAT_ND, whole, 2, NULL),
        epx_cann_aclCreateTensor(whole, 2, (aclDataType)99, NULL, 0, ACL_FORMAT_ND, whole, 2, NULL),
        epx_cann_aclCreateTensor(whole, 2, ACL_INT8, NULL, 0, (aclFormat)99, whole, 2, NULL),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(bad[i]);
    }
    assert_null(create(whole, 2, NULL, 5, whole, 2));
    const char *text = epx_cann_aclGetRecentErrMsg();
    assert_non_null(text);
    assert_non_null(strstr(text, "28"));
    assert_non_null(strstr(text, "24"));
}

static void tensor__init_again(void **state)
{
    (void)state;
    const int64_t before[] = {4, 6};
    const int64_t after[] = {5};
    int64_t *dims = NULL;
    uint64_t count = 0;
    aclTensor *tensor = create(before, 2, NULL, 0, before, 2);
    assert_int_equal(epx_cann_aclInitTensor(NULL, after, 1, ACL_INT32, NULL, 0, ACL_FORMAT_ND, after, 1, NULL), 161001);
    assert_int_equal(epx_cann_aclInitTensor(tensor, after, 1, ACL_INT32, NULL, 9, ACL_FORMAT_ND, after, 1, NULL),
                     161002);
    aclnnStatus code = epx_cann_aclGetViewShape(tensor, &dims, &count);
    expect_list(code, dims, count, before, 2); /* a refusal changes nothing */
    assert_int_equal(epx_cann_aclInitTensor(tensor, after, 1, ACL_INT32, NULL, 0, ACL_FORMAT_ND, after, 1, &count), 0);
    code = epx_cann_aclGetViewShape(tensor, &dims, &count);
    expect_list(code, dims, count, after, 1);
    assert_int_equal(epx_cann_aclDestroyTensor(tensor), 0);
    assert_int_equal(epx_cann_aclInitTensor(tensor, after, 1, ACL_INT32, NULL, 0, ACL_FORMAT_ND, after, 1, NULL),
                     161002);
}

static void tensor__handles(void **state)
{
    (void)state;
    const int64_t dims[] = {4};
    int64_t number[4] = {0};
    int64_t *list = NULL;
    uint64_t count = 0;
    aclFormat format;
    aclDataType type;
    void *address;
    aclTensor *dead = create(dims, 1, NULL, 0, dims, 1);
    assert_int_equal(epx_cann_aclDestroyTensor(NULL), 0);
    assert_int_equal(epx_cann_aclDestroyTensor(dead), 0);
    const void *bad[] = {NULL, dead, number, (void *)8, (void *)~(uintptr_t)7};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const aclTensor *tensor = bad[i];
        const aclnnStatus code = tensor ? 161002 : 161001;
        assert_int_equal(epx_cann_aclGetViewShape(tensor, &list, &count), code);
        assert_int_equal(epx_cann_aclGetStorageShape(tensor, &list, &count), code);
        assert_int_equal(epx_cann_aclGetViewStrides(tensor, &list, &count), code);
        assert_int_equal(epx_cann_aclGetViewOffset(tensor, number), code);
        assert_int_equal(epx_cann_aclGetFormat(tensor, &format), code);
        assert_int_equal(epx_cann_aclGetDataType(tensor, &type), code);
        assert_int_equal(epx_cann_aclGetRawTensorAddr(tensor, &address), code);
        assert_int_equal(epx_cann_aclSetRawTensorAddr((aclTensor *)(uintptr_t)bad[i], NULL), code);
        assert_int_equal(epx_cann_aclDestroyTensor(tensor), tensor ? 161002 : 0);
    }
    aclTensor *tensor = create(dims, 1, NULL, 0, dims, 1);
    assert_int_equal(epx_cann_aclGetViewShape(tensor, NULL, &count), 161001);
    assert_int_equal(epx_cann_aclGetViewShape(tensor, &list, NULL), 161001);
    assert_int_equal(epx_cann_aclGetStorageShape(tensor, NULL, &count), 161001);
    assert_int_equal(epx_cann_aclGetStorageShape(tensor, &list, NULL), 161001);
    assert_int_equal(epx_cann_aclGetViewStrides(tensor, NULL, &count), 161001);
    assert_int_equal(epx_cann_aclGetViewStrides(tensor, &list, NULL), 161001);
    assert_int_equal(epx_cann_aclGetViewOffset(tensor, NULL), 161001);
    assert_int_equal(epx_cann_aclGetFormat(tensor, NULL), 161001);
    assert_int_equal(epx_cann_aclGetDataType(tensor, NULL), 161001);
    assert_int_equal(epx_cann_aclGetRawTensorAddr(tensor, NULL), 161001);
    assert_int_equal(epx_cann_aclDestroyTensor(tensor), 0);
}

static void arrays__create_size_destroy(void **state)
{
    (void)state;
    const int64_t integers[] = {1, 2, 3};
    const float floats[] = {1, 2};
    const bool bools[] = {true, false, true, true, false};
    uint64_t size = 77;
    aclIntArray *integer_array = epx_cann_aclCreateIntArray(integers, 3);
    aclFloatArray *float_array = epx_cann_aclCreateFloatArray(floats, 2);
    aclBoolArray *bool_array = epx_cann_aclCreateBoolArray(bools, 5);
    aclIntArray *empty = epx_cann_aclCreateIntArray(NULL, 0);
    assert_non_null(integer_array);
    assert_non_null(float_array);
    assert_non_null(bool_array);
    assert_non_null(empty);
    assert_int_equal(epx_cann_aclGetIntArraySize(integer_array, &size), 0);
    assert_int_equal(size, 3);
    assert_int_equal(epx_cann_aclGetFloatArraySize(float_array, &size), 0);
    assert_int_equal(size, 2);
    assert_int_equal(epx_cann_aclGetBoolArraySize(bool_array, &size), 0);
    assert_int_equal(size, 5);
    assert_int_equal(epx_cann_aclGetIntArraySize(empty, &size), 0);
    assert_int_equal(size, 0);
    assert_int_equal(epx_cann_aclGetIntArraySize(integer_array, NULL), 161001);
    assert_int_equal(epx_cann_aclGetIntArraySize(NULL, &size), 161001);
    assert_int_equal(epx_cann_aclGetIntArraySize((aclIntArray *)float_array, &size), 161002);
    assert_int_equal(epx_cann_aclDestroyIntArray((aclIntArray *)float_array), 161002);
    assert_int_equal(epx_cann_aclDestroyFloatArray((aclFloatArray *)integers), 161002);
    assert_int_equal(epx_cann_aclDestroyIntArray(integer_array), 0);
    assert_int_equal(epx_cann_aclDestroyIntArray(integer_array), 161002);
    assert_int_equal(epx_cann_aclGetIntArraySize(integer_array, &size), 161002);
    assert_int_equal(epx_cann_aclDestroyIntArray(empty), 0);
    assert_int_equal(epx_cann_aclDestroyFloatArray(float_array), 0);
    assert_int_equal(epx_cann_aclDestroyBoolArray(bool_array), 0);
    assert_int_equal(epx_cann_aclDestroyIntArray(NULL), 0);
    assert_int_equal(epx_cann_aclDestroyFloatArray(NULL), 0);
    assert_int_equal(epx_cann_aclDestroyBoolArray(NULL), 0);
    assert_null(epx_cann_aclCreateIntArray(NULL, 1));
    assert_null(epx_cann_aclCreateFloatArray(NULL, 1));
    assert_null(epx_cann_aclCreateBoolArray(NULL, 1));
    assert_null(epx_cann_aclCreateIntArray(integers, UINT64_MAX));
    assert_null(epx_cann_aclCreateIntArray(integers, (uint64_t)1 << 61));
}

static void scalars__create_destroy(void **state)
{
    (void)state;
    double value[2] = {1.5, 2.5};
    aclScalar *scalar = epx_cann_aclCreateScalar(value, ACL_COMPLEX128);
    assert_non_null(scalar);
    assert_int_equal(epx_cann_aclDestroyScalar(scalar), 0);
    assert_int_equal(epx_cann_aclDestroyScalar(scalar), 161002);
    assert_int_equal(epx_cann_aclDestroyScalar(NULL), 0);
    assert_null(epx_cann_aclCreateScalar(NULL, ACL_FLOAT));
    assert_null(epx_cann_aclCreateScalar(value, ACL_STRING));
    assert_null(epx_cann_aclCreateScalar(value, ACL_DT_UNDEFINED));
}

static void lists__own_their_entries(void **state)
{
    (void)state;
    const int64_t dims[] = {4};
    double value = 1;
    uint64_t size = 0;
    const aclTensor *tensors[] = {create(dims, 1, NULL, 0, dims, 1), create(dims, 1, NULL, 0, dims, 1),
                                  create(dims, 1, NULL, 0, dims, 1)};
    const aclScalar *scalars[] = {epx_cann_aclCreateScalar(&value, ACL_DOUBLE),
                                  epx_cann_aclCreateScalar(&value, ACL_DOUBLE)};
    aclTensorList *tensor_list = epx_cann_aclCreateTensorList(tensors, 3);
    aclScalarList *scalar_list = epx_cann_aclCreateScalarList(scalars, 2);
    assert_non_null(tensor_list);
    assert_non_null(scalar_list);
    assert_int_equal(epx_cann_aclGetTensorListSize(tensor_list, &size), 0);
    assert_int_equal(size, 3);
    assert_int_equal(epx_cann_aclGetScalarListSize(scalar_list, &size), 0);
    assert_int_equal(size, 2);
    assert_int_equal(epx_cann_aclGetTensorListSize(NULL, &size), 161001);
    assert_int_equal(epx_cann_aclGetScalarListSize(scalar_list, NULL), 161001);
    assert_int_equal(epx_cann_aclDestroyTensor(tensors[1]), 0); /* a program that destroys both */
    assert_int_equal(epx_cann_aclDestroyTensorList(tensor_list), 0);
    assert_int_equal(epx_cann_aclDestroyTensorList(tensor_list), 161002);
    assert_int_equal(epx_cann_aclDestroyTensor(tensors[0]), 161002);
    assert_int_equal(epx_cann_aclDestroyScalarList(scalar_list), 0);
    assert_int_equal(epx_cann_aclDestroyScalarList(scalar_list), 161002);
    assert_int_equal(epx_cann_aclDestroyScalar(scalars[0]), 161002);
    assert_int_equal(epx_cann_aclDestroyTensorList(NULL), 0);
    assert_int_equal(epx_cann_aclDestroyScalarList(NULL), 0);
    assert_null(epx_cann_aclCreateTensorList(tensors, 3)); /* entries are dead */
    assert_null(epx_cann_aclCreateTensorList(NULL, 3));
    assert_null(epx_cann_aclCreateScalarList(NULL, 1));
    const aclTensor *absent[] = {NULL};
    assert_null(epx_cann_aclCreateTensorList(absent, 1));
    tensor_list = epx_cann_aclCreateTensorList(NULL, 0);
    assert_non_null(tensor_list);
    assert_int_equal(epx_cann_aclDestroyTensorList(tensor_list), 0);
}

#define MANY 3000

/* In an order that makes the table close gaps of every kind. */
static void *create_and_destroy(void *argument)
{
    const int64_t dims[] = {4};
    aclTensor **tensors = argument;
    for (uint32_t i = 0; i < MANY; i++) {
        tensors[i] = create(dims, 1, NULL, 0, dims, 1);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        const uint32_t at = i * 7u % MANY;
        if (!epx_object_alive(tensors[at], EPX_OBJECT_TENSOR) || epx_cann_aclDestroyTensor(tensors[at]) != 0) {
            return argument;
        }
        const uint32_t other = (i + 1) * 7u % MANY;
        if (i + 1 < MANY && !epx_object_alive(tensors[other], EPX_OBJECT_TENSOR)) {
            return argument;
        }
    }
    return NULL;
}

static void tensors__many_from_many_threads(void **state)
{
    (void)state;
    static aclTensor *tensors[4][MANY];
    pthread_t threads[4];
    void *failed = NULL;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, create_and_destroy, tensors[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensor__keeps_what_it_was_given),
        cmocka_unit_test(tensor__without_strides_is_dense),
        cmocka_unit_test(tensor__views_inside_the_storage),
        cmocka_unit_test(tensor__refuses),
        cmocka_unit_test(tensor__init_again),
        cmocka_unit_test(tensor__handles),
        cmocka_unit_test(arrays__create_size_destroy),
        cmocka_unit_test(scalars__create_destroy),
        cmocka_unit_test(lists__own_their_entries),
        cmocka_unit_test(tensors__many_from_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
