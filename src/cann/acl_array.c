/* Scalars, arrays and lists. All but tensors have one form: a size and that many bytes. */
#include "cann/acl_error.h"
#include "cann/acl_state.h"
#include "cann/exports_acl.h"
#include "cann/object_set.h"

#include "aclnn/opdev/op_errno.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct aclScalar {
    aclDataType data_type;
    uint8_t value[16];
};

/* aclIntArray, aclFloatArray, aclBoolArray, aclTensorList and aclScalarList are this. */
struct array {
    uint64_t count;
    max_align_t entries[];
};

static void report_no_memory(void)
{
    (void)epx_cann_refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "no memory for an object");
}

static struct array *array_create(const void *values, uint64_t count, size_t entry_bytes, enum epx_object_kind kind)
{
    uint64_t bytes;
    if (count > 0 && !values) {
        (void)epx_cann_refuse(ACLNN_ERR_PARAM_NULLPTR, "value is null, size is %llu", (unsigned long long)count);
        return NULL;
    }
    if (__builtin_mul_overflow(count, entry_bytes, &bytes) || bytes > SIZE_MAX / 2) {
        report_no_memory();
        return NULL;
    }
    struct array *array = malloc(sizeof *array + bytes);
    if (array) {
        array->count = count;
        if (count > 0) {
            memcpy(array->entries, values, bytes);
        }
    }
    if (!array || !epx_object_add(array, kind)) {
        free(array);
        report_no_memory();
        return NULL;
    }
    return array;
}

/* Takes the object out of the set, so that only one thread gets to free it; null when it is not there. */
static void *take(const void *object, enum epx_object_kind kind)
{
    return epx_object_remove(object, kind) ? (void *)(uintptr_t)object : NULL;
}

static aclnnStatus refuse_unknown(const void *object)
{
    return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "%p is no such object, or has been destroyed", object);
}

static aclnnStatus destroy(const void *object, enum epx_object_kind kind)
{
    if (!object) {
        return ACLNN_SUCCESS;
    }
    void *taken = take(object, kind);
    if (!taken) {
        return refuse_unknown(object);
    }
    free(taken);
    return ACLNN_SUCCESS;
}

/* What the functions that ask for a size call their first parameter. */
static const char *parameter_name(enum epx_object_kind kind)
{
    switch (kind) {
    case EPX_OBJECT_TENSOR_LIST: return "tensorList";
    case EPX_OBJECT_SCALAR_LIST: return "scalarList";
    default: return "array";
    }
}

static aclnnStatus array_size(const void *object, enum epx_object_kind kind, uint64_t *size)
{
    if (!object || !size) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_NULLPTR, "%s is null", object ? "size" : parameter_name(kind));
    }
    if (!epx_object_alive(object, kind)) {
        return refuse_unknown(object);
    }
    *size = ((const struct array *)object)->count;
    return ACLNN_SUCCESS;
}

aclScalar *epx_cann_aclCreateScalar(void *value, aclDataType dataType)
{
    size_t bytes = epx_cann_dtype_bytes(dataType);
    if (!value) {
        (void)epx_cann_refuse(ACLNN_ERR_PARAM_NULLPTR, "value is null");
        return NULL;
    }
    if (bytes == 0) {
        (void)epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "dataType is %d, which has no whole number of bytes",
                              (int)dataType);
        return NULL;
    }
    aclScalar *scalar = calloc(1, sizeof *scalar);
    if (scalar) {
        scalar->data_type = dataType;
        memcpy(scalar->value, value, bytes);
    }
    if (!scalar || !epx_object_add(scalar, EPX_OBJECT_SCALAR)) {
        free(scalar);
        report_no_memory();
        return NULL;
    }
    return scalar;
}

aclIntArray *epx_cann_aclCreateIntArray(const int64_t *value, uint64_t size)
{
    return (aclIntArray *)array_create(value, size, sizeof *value, EPX_OBJECT_INT_ARRAY);
}

aclFloatArray *epx_cann_aclCreateFloatArray(const float *value, uint64_t size)
{
    return (aclFloatArray *)array_create(value, size, sizeof *value, EPX_OBJECT_FLOAT_ARRAY);
}

aclBoolArray *epx_cann_aclCreateBoolArray(const bool *value, uint64_t size)
{
    return (aclBoolArray *)array_create(value, size, sizeof *value, EPX_OBJECT_BOOL_ARRAY);
}

/* Whether every entry of a list to be is an object of the kind. */
static bool check_entries(const void *const *entries, uint64_t count, enum epx_object_kind kind)
{
    for (uint64_t i = 0; entries && i < count; i++) {
        if (!epx_object_alive(entries[i], kind)) {
            (void)epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "value[%llu] is %p, no such object", (unsigned long long)i,
                                  entries[i]);
            return false;
        }
    }
    return true;
}

aclTensorList *epx_cann_aclCreateTensorList(const aclTensor *const *value, uint64_t size)
{
    if (!check_entries((const void *const *)value, size, EPX_OBJECT_TENSOR)) {
        return NULL;
    }
    return (aclTensorList *)array_create(value, size, sizeof(void *), EPX_OBJECT_TENSOR_LIST);
}

aclScalarList *epx_cann_aclCreateScalarList(const aclScalar *const *value, uint64_t size)
{
    if (!check_entries((const void *const *)value, size, EPX_OBJECT_SCALAR)) {
        return NULL;
    }
    return (aclScalarList *)array_create(value, size, sizeof(void *), EPX_OBJECT_SCALAR_LIST);
}

aclnnStatus epx_cann_aclDestroyScalar(const aclScalar *scalar)
{
    return destroy(scalar, EPX_OBJECT_SCALAR);
}

aclnnStatus epx_cann_aclDestroyIntArray(const aclIntArray *array)
{
    return destroy(array, EPX_OBJECT_INT_ARRAY);
}

aclnnStatus epx_cann_aclDestroyFloatArray(const aclFloatArray *array)
{
    return destroy(array, EPX_OBJECT_FLOAT_ARRAY);
}

aclnnStatus epx_cann_aclDestroyBoolArray(const aclBoolArray *array)
{
    return destroy(array, EPX_OBJECT_BOOL_ARRAY);
}

/* Entries that the program has destroyed by itself are gone already, which is no error of the list's. */
aclnnStatus epx_cann_aclDestroyTensorList(const aclTensorList *array)
{
    if (!array) {
        return ACLNN_SUCCESS;
    }
    struct array *list = take(array, EPX_OBJECT_TENSOR_LIST);
    if (!list) {
        return refuse_unknown(array);
    }
    const aclTensor *const *entries = (const void *)list->entries;
    for (uint64_t i = 0; i < list->count; i++) {
        if (epx_object_alive(entries[i], EPX_OBJECT_TENSOR)) {
            (void)epx_cann_aclDestroyTensor(entries[i]);
        }
    }
    free(list);
    return ACLNN_SUCCESS;
}

aclnnStatus epx_cann_aclDestroyScalarList(const aclScalarList *array)
{
    if (!array) {
        return ACLNN_SUCCESS;
    }
    struct array *list = take(array, EPX_OBJECT_SCALAR_LIST);
    if (!list) {
        return refuse_unknown(array);
    }
    const aclScalar *const *entries = (const void *)list->entries;
    for (uint64_t i = 0; i < list->count; i++) {
        free(take(entries[i], EPX_OBJECT_SCALAR));
    }
    free(list);
    return ACLNN_SUCCESS;
}

aclnnStatus epx_cann_aclGetIntArraySize(const aclIntArray *array, uint64_t *size)
{
    return array_size(array, EPX_OBJECT_INT_ARRAY, size);
}

aclnnStatus epx_cann_aclGetFloatArraySize(const aclFloatArray *array, uint64_t *size)
{
    return array_size(array, EPX_OBJECT_FLOAT_ARRAY, size);
}

aclnnStatus epx_cann_aclGetBoolArraySize(const aclBoolArray *array, uint64_t *size)
{
    return array_size(array, EPX_OBJECT_BOOL_ARRAY, size);
}

aclnnStatus epx_cann_aclGetTensorListSize(const aclTensorList *tensorList, uint64_t *size)
{
    return array_size(tensorList, EPX_OBJECT_TENSOR_LIST, size);
}

aclnnStatus epx_cann_aclGetScalarListSize(const aclScalarList *scalarList, uint64_t *size)
{
    return array_size(scalarList, EPX_OBJECT_SCALAR_LIST, size);
}
