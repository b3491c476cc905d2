/* Dispatch on a rank whose peers lie: in the messages they send, in their exchange regions, in their entries. The first
 * byte chooses what is dispatched; the rest is read in hostile_try.c. */
#include "fuzz/hostile_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct hostile_variant variants[] = {
    {.operation = EPX_OPERATION_DISPATCH},
    {.operation = EPX_OPERATION_DISPATCH, .own = 1, .quantized = true, .global_tokens = 16},
    {.operation = EPX_OPERATION_DISPATCH, .own = 1, .quantized = true, .smooth = true, .shared_ranks = 1},
    {.operation = EPX_OPERATION_DISPATCH, .quantized = true, .smooth = true, .shared_ranks = 1},
    {.operation = EPX_OPERATION_DISPATCH, .two_level = true},
    {.operation = EPX_OPERATION_DISPATCH, .views = true},
    {.operation = EPX_OPERATION_DISPATCH, .own = 1, .shared_ranks = 1, .views = true},
    {.operation = EPX_OPERATION_DISPATCH, .shared_ranks = 2, .own = 1, .views = true},
    {.operation = EPX_OPERATION_DISPATCH, .own = 1, .two_level = true, .quantized = true, .global_tokens = 20},
    {.operation = EPX_OPERATION_DISPATCH, .tp = true},
    {.operation = EPX_OPERATION_DISPATCH, .own = 1, .tp = true, .quantized = true, .smooth = true},
    {.operation = EPX_OPERATION_DISPATCH, .tp = true, .two_level = true},
};

#define VARIANTS (sizeof variants / sizeof variants[0])

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct hostile_world *worlds[VARIANTS];
    if (bytes == 0) {
        return 0;
    }
    struct hostile_world **world = &worlds[data[0] % VARIANTS];
    if (*world == NULL) {
        *world = hostile_open(&variants[data[0] % VARIANTS]);
    }
    hostile_try(*world, data + 1, bytes - 1);
    return 0;
}
