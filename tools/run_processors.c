#include "run_processors.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

/* More than any kernel is built for. */
#define PROCESSOR_MAX 65536

static void list_set(struct run_processors *processors, const cpu_set_t *set, size_t bytes)
{
    for (uint32_t i = 0; i < PROCESSOR_MAX; i++) {
        if (CPU_ISSET_S(i, bytes, set)) {
            processors->numbers[processors->count++] = i;
        }
    }
}

bool run_processors_init(struct run_processors *processors)
{
    size_t bytes = CPU_ALLOC_SIZE(PROCESSOR_MAX);
    cpu_set_t *set = CPU_ALLOC(PROCESSOR_MAX);
    *processors = (struct run_processors){.count = 0};
    if (set == NULL) {
        return false;
    }
    CPU_ZERO_S(bytes, set);
    if (sched_getaffinity(0, bytes, set) == 0) {
        processors->numbers = calloc((size_t)CPU_COUNT_S(bytes, set), sizeof *processors->numbers);
    }
    if (processors->numbers != NULL) {
        list_set(processors, set, bytes);
    }
    CPU_FREE(set);
    return processors->numbers != NULL;
}

void run_processors_fini(struct run_processors *processors)
{
    free(processors->numbers);
    *processors = (struct run_processors){.count = 0};
}

bool run_processors_bind(const struct run_processors *processors, uint32_t rank, uint32_t rank_count)
{
    size_t bytes = CPU_ALLOC_SIZE(PROCESSOR_MAX);
    cpu_set_t *set = CPU_ALLOC(PROCESSOR_MAX);
    if (set == NULL) {
        errno = ENOMEM;
        return false;
    }
    CPU_ZERO_S(bytes, set);
    uint64_t first = (uint64_t)rank * processors->count / rank_count;
    uint64_t end = ((uint64_t)rank + 1) * processors->count / rank_count;
    end = end > first ? end : first + 1;
    for (uint64_t i = first; i < end; i++) {
        CPU_SET_S(processors->numbers[i], bytes, set);
    }
    int result = sched_setaffinity(0, bytes, set);
    CPU_FREE(set);
    return result == 0;
}
