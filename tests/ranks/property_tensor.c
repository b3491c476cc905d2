#include "ranks/property_tensor.h"

#include "memory/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t element_bytes(enum epx_dtype dtype)
{
    static const uint64_t bytes[EPX_DTYPE_COUNT] = {2, 2, 4, 1, 4, 8};
    return bytes[dtype];
}

static int64_t columns_of(const struct epx_view *view)
{
    return view->dim_count == 2 ? view->shape[1] : 1;
}

static uint64_t element_place(const struct property_tensor *tensor, int64_t index)
{
    const struct epx_view *view = &tensor->view;
    int64_t columns = columns_of(view);
    int64_t place = index / columns * view->stride[0];
    if (view->dim_count == 2) {
        place += index % columns * view->stride[1];
    }
    return tensor->guard_bytes + (uint64_t)place * element_bytes(view->dtype);
}

void property_tensor_layout(struct property_tensor *tensor, struct random_source *random, const char *name,
                            enum epx_dtype dtype, uint32_t dim_count, int64_t rows, int64_t columns, bool dense,
                            bool is_output)
{
    int64_t step = !dense && random_percent(random, 25) ? random_between(random, 2, 3) : 1;
    int64_t gap = !dense && random_percent(random, 50) ? random_between(random, 1, 40) : 0;
    memset(tensor, 0, sizeof *tensor);
    tensor->name = name;
    tensor->is_output = is_output;
    tensor->view.dtype = dtype;
    tensor->view.dim_count = dim_count;
    tensor->view.shape[0] = rows;
    tensor->view.stride[0] = step;
    if (dim_count == 2) {
        tensor->view.shape[1] = columns;
        tensor->view.stride[1] = step;
        tensor->view.stride[0] = columns * step + gap;
    }
    uint64_t bytes = element_bytes(dtype);
    tensor->guard_bytes = dense ? 64 : 64 + bytes * (uint64_t)random_between(random, 0, 8);
    if (!dense && random_percent(random, 20)) {
        tensor->guard_bytes++; /* elements that are not aligned */
    }
    tensor->storage_bytes = 2 * tensor->guard_bytes + bytes * (uint64_t)(rows * tensor->view.stride[0]);
}

enum epx_status property_tensor_adopt(struct property_tensor *tensor, struct random_source *random, void *storage)
{
    tensor->storage = storage;
    tensor->expected = malloc(tensor->storage_bytes);
    if (storage == NULL || tensor->expected == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "test: no memory for %s", tensor->name);
    }
    for (uint64_t i = 0; i < tensor->storage_bytes; i += 8) {
        uint64_t bits = random_bits(random);
        uint64_t rest = tensor->storage_bytes - i;
        memcpy(tensor->storage + i, &bits, rest < 8 ? rest : 8);
    }
    memcpy(tensor->expected, tensor->storage, tensor->storage_bytes);
    tensor->view.data = tensor->storage + tensor->guard_bytes;
    return EPX_OK;
}

enum epx_status property_tensor_allocate(struct property_tensor *tensor, struct random_source *random,
                                         enum property_memory memory)
{
    void *storage;
    if (tensor->view.dim_count == 0) {
        return EPX_OK;
    }
    tensor->in_arena =
        memory == PROPERTY_MEMORY_ARENA || (memory == PROPERTY_MEMORY_MIXED && random_percent(random, 50));
    if (tensor->in_arena) {
        EPX_TRY(epx_arena_alloc(tensor->storage_bytes, 64, &storage));
    } else {
        storage = malloc(tensor->storage_bytes);
    }
    return property_tensor_adopt(tensor, random, storage);
}

void property_tensor_free(struct property_tensor *tensor)
{
    if (tensor->in_arena && tensor->storage != NULL) {
        if (epx_arena_free(tensor->storage) != EPX_OK) {
            fprintf(stderr, "%s: %s\n", tensor->name, epx_error_text());
            abort();
        }
    } else {
        free(tensor->storage);
    }
    free(tensor->expected);
    tensor->storage = NULL;
    tensor->expected = NULL;
    tensor->view.data = NULL;
}

void property_tensor_expect(struct property_tensor *tensor, int64_t first, const void *values, int64_t element_count,
                            const uint8_t *mask)
{
    uint64_t bytes = element_bytes(tensor->view.dtype);
    const uint8_t *source = values;
    for (int64_t i = 0; i < element_count; i++) {
        uint64_t place = element_place(tensor, first + i);
        for (uint64_t byte = 0; byte < bytes; byte++) {
            uint64_t at = (uint64_t)i * bytes + byte;
            if (mask == NULL || mask[at] != 0) {
                tensor->expected[place + byte] = source[at];
            }
        }
    }
}

void property_tensor_fill(struct property_tensor *tensor, const void *values, int64_t element_count)
{
    property_tensor_expect(tensor, 0, values, element_count, NULL);
    memcpy(tensor->storage, tensor->expected, tensor->storage_bytes);
}

/* The element that a byte of storage belongs to; -1: none. */
static int64_t element_at(const struct property_tensor *tensor, uint64_t byte)
{
    int64_t count = tensor->view.shape[0] * columns_of(&tensor->view);
    for (int64_t i = 0; i < count; i++) {
        uint64_t place = element_place(tensor, i);
        if (byte >= place && byte < place + element_bytes(tensor->view.dtype)) {
            return i;
        }
    }
    return -1;
}

static void describe(const struct property_tensor *tensor, uint64_t byte, int64_t element, char *text,
                     uint64_t text_bytes)
{
    if (element < 0) {
        snprintf(text, text_bytes, "%s: byte %lld from element 0, which is no element, changed", tensor->name,
                 (long long)byte - (long long)tensor->guard_bytes);
        return;
    }
    uint64_t place = element_place(tensor, element);
    uint64_t actual = 0;
    uint64_t expected = 0;
    memcpy(&actual, tensor->storage + place, element_bytes(tensor->view.dtype));
    memcpy(&expected, tensor->expected + place, element_bytes(tensor->view.dtype));
    int64_t columns = columns_of(&tensor->view);
    snprintf(text, text_bytes, "%s[%lld][%lld] is %#llx, must be %#llx (shape %lld,%lld stride %lld,%lld %s)",
             tensor->name, (long long)(element / columns), (long long)(element % columns), (unsigned long long)actual,
             (unsigned long long)expected, (long long)tensor->view.shape[0], (long long)columns,
             (long long)tensor->view.stride[0], (long long)tensor->view.stride[1],
             tensor->in_arena ? "arena" : "private");
}

bool property_tensor_check(const struct property_tensor *tensor, bool elements_too, char *text, uint64_t text_bytes)
{
    if (tensor->storage == NULL || memcmp(tensor->storage, tensor->expected, tensor->storage_bytes) == 0) {
        return true;
    }
    for (uint64_t byte = 0; byte < tensor->storage_bytes; byte++) {
        if (tensor->storage[byte] == tensor->expected[byte]) {
            continue;
        }
        int64_t element = element_at(tensor, byte);
        if (element < 0 || elements_too || !tensor->is_output) {
            describe(tensor, byte, element, text, text_bytes);
            return false;
        }
    }
    return true;
}
