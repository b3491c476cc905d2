#include "cann/property_cann_tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum allocator {
    ALLOCATOR_DEVICE,
    ALLOCATOR_HOST,
    ALLOCATOR_PRIVATE,
};

static aclDataType data_type_of(enum epx_dtype dtype)
{
    switch (dtype) {
    case EPX_DTYPE_FP16: return ACL_FLOAT16;
    case EPX_DTYPE_BF16: return ACL_BF16;
    case EPX_DTYPE_FP32: return ACL_FLOAT;
    case EPX_DTYPE_INT8: return ACL_INT8;
    case EPX_DTYPE_INT32: return ACL_INT32;
    default: return ACL_INT64;
    }
}

void property_cann_layout(struct property_cann_tensor *tensor, struct random_source *random, const char *name,
                          enum epx_dtype dtype, uint32_t dim_count, int64_t rows, int64_t columns, bool dense,
                          bool is_output)
{
    memset(tensor, 0, sizeof *tensor);
    property_tensor_layout(&tensor->storages[0].tensor, random, name, dtype, dim_count, rows, columns, dense,
                           is_output);
    tensor->data_type = data_type_of(dtype);
    tensor->dims[0] = rows;
    tensor->dims[1] = columns;
    tensor->dim_count = dim_count;
    tensor->by_offset = random_percent(random, 50);
}

void property_cann_decoy(struct property_cann_tensor *tensor, struct random_source *random, const char *name)
{
    static const aclDataType types[] = {ACL_DOUBLE, ACL_BOOL,   ACL_INT8,       ACL_UINT16, ACL_FLOAT16,
                                        ACL_INT64,  ACL_STRING, ACL_COMPLEX128, ACL_INT4,   ACL_FLOAT};
    property_cann_layout(tensor, random, name, EPX_DTYPE_INT8, 1, random_between(random, 0, 100), 1, true, false);
    tensor->data_type = types[random_between(random, 0, (int64_t)(sizeof types / sizeof *types) - 1)];
    tensor->dims[0] = random_between(random, 0, 9);
    tensor->dims[1] = random_between(random, 0, 1);
    tensor->dim_count = (uint32_t)random_between(random, 0, 2);
    tensor->is_decoy = true;
    tensor->is_nowhere = random_percent(random, 25);
}

static bool storage_allocate(struct property_cann_storage *storage, struct random_source *random)
{
    struct property_tensor *tensor = &storage->tensor;
    void *memory = NULL;
    storage->kind = (int)random_between(random, ALLOCATOR_DEVICE, ALLOCATOR_PRIVATE);
    if (storage->kind == ALLOCATOR_DEVICE) {
        if (epx_cann_aclrtMalloc(&memory, tensor->storage_bytes, ACL_MEM_MALLOC_HUGE_FIRST) != ACL_SUCCESS) {
            return false;
        }
    } else if (storage->kind == ALLOCATOR_HOST) {
        if (epx_cann_aclrtMallocHost(&memory, tensor->storage_bytes) != ACL_SUCCESS) {
            return false;
        }
    } else {
        memory = malloc(tensor->storage_bytes);
    }
    return property_tensor_adopt(tensor, random, memory) == EPX_OK;
}

static void storage_free(struct property_cann_storage *storage)
{
    struct property_tensor *tensor = &storage->tensor;
    if (tensor->storage != NULL && storage->kind != ALLOCATOR_PRIVATE) {
        aclError code = storage->kind == ALLOCATOR_DEVICE ? epx_cann_aclrtFree(tensor->storage)
                                                          : epx_cann_aclrtFreeHost(tensor->storage);
        if (code != ACL_SUCCESS) {
            fprintf(stderr, "%s: freeing it gave %d\n", tensor->name, (int)code);
            abort();
        }
        tensor->storage = NULL;
    }
    property_tensor_free(tensor);
}

/* Bytes from the start of the memory to what is called the storage. */
static uint64_t base_bytes(const struct property_cann_tensor *tensor)
{
    const uint64_t guard = tensor->storages[0].tensor.guard_bytes;
    return tensor->by_offset ? guard % epx_cann_aclDataTypeSize(tensor->data_type) : guard;
}

void *property_cann_tensor_base(const struct property_cann_tensor *tensor, int which)
{
    return tensor->storages[which].tensor.storage + base_bytes(tensor);
}

static aclTensor *decoy_handle(const struct property_cann_tensor *tensor)
{
    void *data = tensor->is_nowhere ? NULL : tensor->storages[0].tensor.storage;
    return epx_cann_aclCreateTensor(tensor->dims, tensor->dim_count, tensor->data_type, NULL, 0, ACL_FORMAT_ND,
                                    tensor->dims, tensor->dim_count, data);
}

static aclTensor *handle_create(const struct property_cann_tensor *tensor, struct random_source *random)
{
    const struct property_tensor *kept = &tensor->storages[0].tensor;
    const int64_t unit = (int64_t)epx_cann_aclDataTypeSize(tensor->data_type);
    const int64_t offset = tensor->by_offset ? (int64_t)kept->guard_bytes / unit : 0;
    const int64_t elems = ((int64_t)kept->storage_bytes - (int64_t)base_bytes(tensor)) / unit;
    const int64_t columns = tensor->dim_count == 2 ? tensor->dims[1] : 1;
    const bool dense = kept->view.stride[0] == columns && (tensor->dim_count == 1 || kept->view.stride[1] == 1);
    const int64_t *strides = dense && random_percent(random, 50) ? NULL : kept->view.stride;
    if (offset == 0 && dense && random_percent(random, 50)) {
        return epx_cann_aclCreateTensor(tensor->dims, tensor->dim_count, tensor->data_type, strides, 0, ACL_FORMAT_ND,
                                        tensor->dims, tensor->dim_count, property_cann_tensor_base(tensor, 0));
    }
    return epx_cann_aclCreateTensor(tensor->dims, tensor->dim_count, tensor->data_type, strides, offset, ACL_FORMAT_ND,
                                    &elems, 1, property_cann_tensor_base(tensor, 0));
}

bool property_cann_tensor_create(struct property_cann_tensor *tensor, struct random_source *random, bool two_storages)
{
    if (tensor->storages[0].tensor.view.dim_count == 0) {
        return true;
    }
    if (two_storages && !tensor->is_decoy) {
        tensor->storages[1].tensor = tensor->storages[0].tensor;
        if (!storage_allocate(&tensor->storages[1], random)) {
            return false;
        }
    }
    if (!storage_allocate(&tensor->storages[0], random)) {
        return false;
    }
    tensor->handle = tensor->is_decoy ? decoy_handle(tensor) : handle_create(tensor, random);
    return tensor->handle != NULL;
}

void property_cann_handle_destroy(struct property_cann_tensor *tensor)
{
    if (tensor->handle != NULL && epx_cann_aclDestroyTensor(tensor->handle) != 0) {
        fprintf(stderr, "%s: its handle cannot be destroyed\n", tensor->storages[0].tensor.name);
        abort();
    }
    tensor->handle = NULL;
}

void property_cann_tensor_destroy(struct property_cann_tensor *tensor)
{
    property_cann_handle_destroy(tensor);
    storage_free(&tensor->storages[0]);
    storage_free(&tensor->storages[1]);
}

void property_cann_tensor_fill(struct property_cann_tensor *tensor, const void *values, int64_t element_count)
{
    for (int i = 0; i < 2; i++) {
        if (tensor->storages[i].tensor.storage != NULL && !tensor->is_decoy) {
            property_tensor_fill(&tensor->storages[i].tensor, values, element_count);
        }
    }
}

void property_cann_tensor_expect(struct property_cann_tensor *tensor, int storage_count, int64_t first,
                                 const void *values, int64_t element_count, const uint8_t *mask)
{
    for (int i = 0; i < storage_count; i++) {
        if (tensor->storages[i].tensor.storage != NULL && !tensor->is_decoy) {
            property_tensor_expect(&tensor->storages[i].tensor, first, values, element_count, mask);
        }
    }
}

bool property_cann_tensor_check(const struct property_cann_tensor *tensor, bool elements_too, char *text,
                                uint64_t text_bytes)
{
    return property_tensor_check(&tensor->storages[0].tensor, elements_too, text, text_bytes) &&
           property_tensor_check(&tensor->storages[1].tensor, elements_too, text, text_bytes);
}
