/*
 * Tensors for tests: a drawn layout (dense, rows with gaps, columns with gaps), memory of a drawn kind with a guard on
 * both sides, and an image of what all of it must hold.
 */
#ifndef EPX_TESTS_PROPERTY_TENSOR_H
#define EPX_TESTS_PROPERTY_TENSOR_H

#include "moe/request.h"
#include "reference/random_source.h"

#include <stdbool.h>
#include <stdint.h>

enum property_memory {
    PROPERTY_MEMORY_ARENA,
    PROPERTY_MEMORY_PRIVATE,
    PROPERTY_MEMORY_MIXED, /* drawn for each tensor */
};

struct property_tensor {
    const char *name;
    struct epx_view view; /* dim_count 0: absent */
    bool is_output;
    uint64_t guard_bytes;
    uint64_t storage_bytes;
    bool in_arena;
    uint8_t *storage;
    uint8_t *expected; /* image of storage */
};

/* Draws strides for a tensor of `rows` elements (dim_count 1) or (rows, columns). `dense`: none. */
void property_tensor_layout(struct property_tensor *tensor, struct random_source *random, const char *name,
                            enum epx_dtype dtype, uint32_t dim_count, int64_t rows, int64_t columns, bool dense,
                            bool is_output);

/* Allocates storage full of drawn bytes; sets view.data. */
enum epx_status property_tensor_allocate(struct property_tensor *tensor, struct random_source *random,
                                         enum property_memory memory);
void property_tensor_free(struct property_tensor *tensor);

/* The same with memory of the caller's, storage_bytes from malloc or from elsewhere: the latter is the caller's to
 * free, who sets storage to null before property_tensor_free. */
enum epx_status property_tensor_adopt(struct property_tensor *tensor, struct random_source *random, void *storage);

/* The first element_count elements (row-major) of an input: written to storage and image. */
void property_tensor_fill(struct property_tensor *tensor, const void *values, int64_t element_count);

/* The first element_count elements that an output must hold; 1 in `mask` (null: everywhere) where a byte is written. */
void property_tensor_expect(struct property_tensor *tensor, int64_t first, const void *values, int64_t element_count,
                            const uint8_t *mask);

/* Compares all of storage with the image; elements_too false: only what is not an element, and inputs. On a difference
 * writes what and where to text. */
bool property_tensor_check(const struct property_tensor *tensor, bool elements_too, char *text, uint64_t text_bytes);

#endif
