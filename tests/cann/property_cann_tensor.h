/*
 * Tensors of the CANN door for tests: those of ranks/property_tensor.h in memory of the door's allocators, behind a
 * handle whose storage, offset and strides are drawn. A tensor may have a second storage, which every second run of a
 * repeatable executor is given.
 */
#ifndef EPX_TESTS_PROPERTY_CANN_TENSOR_H
#define EPX_TESTS_PROPERTY_CANN_TENSOR_H

#include "cann/exports_acl.h"
#include "cann/exports_aclnn.h"
#include "ranks/property_tensor.h"

#include <stdbool.h>
#include <stdint.h>

struct property_cann_storage {
    struct property_tensor tensor; /* storage null: there is none */
    int kind;                      /* which allocator's */
};

struct property_cann_tensor {
    struct property_cann_storage storages[2];
    aclDataType data_type;
    int64_t dims[2];
    uint32_t dim_count;
    bool by_offset;    /* element 0 is reached by an offset into the storage, or else is its start */
    bool is_decoy;     /* nothing of it is read or written: any dtype and shape */
    bool is_nowhere;   /* a decoy without memory */
    aclTensor *handle; /* null: absent */
};

/* As property_tensor_layout. */
void property_cann_layout(struct property_cann_tensor *tensor, struct random_source *random, const char *name,
                          enum epx_dtype dtype, uint32_t dim_count, int64_t rows, int64_t columns, bool dense,
                          bool is_output);

/* A tensor that the operation must leave alone, of whatever dtype and shape. */
void property_cann_decoy(struct property_cann_tensor *tensor, struct random_source *random, const char *name);

/* Memory and handle; the second storage as well where asked for. Nothing for an absent tensor. False: no memory, or the
 * handle was refused. */
bool property_cann_tensor_create(struct property_cann_tensor *tensor, struct random_source *random, bool two_storages);
void property_cann_tensor_destroy(struct property_cann_tensor *tensor);
void property_cann_handle_destroy(struct property_cann_tensor *tensor);

/* What a program would give for the tensor's address in a run: start of a storage. */
void *property_cann_tensor_base(const struct property_cann_tensor *tensor, int which);

/* As those of property_tensor.h, in every storage; _expect in those that a run wrote. */
void property_cann_tensor_fill(struct property_cann_tensor *tensor, const void *values, int64_t element_count);
void property_cann_tensor_expect(struct property_cann_tensor *tensor, int storage_count, int64_t first,
                                 const void *values, int64_t element_count, const uint8_t *mask);
bool property_cann_tensor_check(const struct property_cann_tensor *tensor, bool elements_too, char *text,
                                uint64_t text_bytes);

#endif
