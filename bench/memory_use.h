/* What a process takes of the machine's memory. Thread: any. */
#ifndef EPX_BENCH_MEMORY_USE_H
#define EPX_BENCH_MEMORY_USE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of this process. Pages of files (code) are left out: their shares change with what other programs of the host map. */
struct bench_memory_use {
    int64_t resident_bytes;   /* its share: a page that n processes map counts as the n-th part (Pss) */
    int64_t page_table_bytes; /* the kernel's, on top of that */
};

/* False when the kernel does not say, which is said on standard error. */
bool bench_memory_use_read(struct bench_memory_use *use);

/* Bytes of [data, data + bytes) whose pages are in memory. */
size_t bench_memory_present(const void *data, size_t bytes);

#endif
