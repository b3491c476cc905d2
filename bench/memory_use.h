/* What a process takes of the machine's memory. Thread: any. */
#ifndef EPX_BENCH_MEMORY_USE_H
#define EPX_BENCH_MEMORY_USE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_memory_use {     /* of this process */
    int64_t resident_bytes;   /* its share: a page that n processes map counts as the n-th part (Pss) */
    int64_t page_table_bytes; /* the kernel's, on top of that */
};

/* False when the kernel does not say, which is said on standard error. */
bool bench_memory_use_read(struct bench_memory_use *use);

/* Bytes of [data, data + bytes) whose pages are in memory. */
size_t bench_memory_present(const void *data, size_t bytes);

#endif
