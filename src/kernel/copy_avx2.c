#include "kernel/variants.h"

#include <immintrin.h>

#define LINE_BYTES 64
/* Streamed rows are seldom in the cache: their source is fetched this far ahead. */
#define AHEAD_BYTES 1024

struct line {
    __m256i low;
    __m256i high;
};

/* Distance from p to the next line, 0 when it begins one. */
static inline size_t bytes_to_line(const void *p)
{
    return (size_t)(-(uintptr_t)p & (LINE_BYTES - 1));
}

static inline struct line line_load(const char *from)
{
    struct line line = {_mm256_loadu_si256((const __m256i *)(const void *)from),
                        _mm256_loadu_si256((const __m256i *)(const void *)(from + 32))};
    return line;
}

static inline void line_store(char *to, struct line line)
{
    _mm256_storeu_si256((__m256i *)(void *)to, line.low);
    _mm256_storeu_si256((__m256i *)(void *)(to + 32), line.high);
}

static inline void line_stream(char *to, struct line line)
{
    _mm256_stream_si256((__m256i *)(void *)to, line.low);
    _mm256_stream_si256((__m256i *)(void *)(to + 32), line.high);
}

void epx_copy_row__avx2(void *dst, const void *src, size_t bytes)
{
    char *to = dst;
    const char *from = src;
    if (bytes < LINE_BYTES) {
        epx_copy_row__ref(dst, src, bytes);
        return;
    }
    /* First and last line may overlap those between, which begin at a line of dst. */
    size_t i = bytes_to_line(to);
    line_store(to, line_load(from));
    for (; i + 2 * LINE_BYTES <= bytes; i += 2 * LINE_BYTES) {
        struct line a = line_load(from + i);
        struct line b = line_load(from + i + LINE_BYTES);
        line_store(to + i, a);
        line_store(to + i + LINE_BYTES, b);
    }
    for (; i < bytes; i += LINE_BYTES) {
        size_t at = i + LINE_BYTES <= bytes ? i : bytes - LINE_BYTES;
        line_store(to + at, line_load(from + at));
    }
}

/* Fetches four lines further on in the row, if there are as many. */
static inline void fetch_ahead(const char *from, size_t i, size_t bytes)
{
    const char *ahead = from + (i + AHEAD_BYTES + 4 * LINE_BYTES <= bytes ? i + AHEAD_BYTES : i);
    _mm_prefetch(ahead, _MM_HINT_T0);
    _mm_prefetch(ahead + LINE_BYTES, _MM_HINT_T0);
    _mm_prefetch(ahead + 2 * LINE_BYTES, _MM_HINT_T0);
    _mm_prefetch(ahead + 3 * LINE_BYTES, _MM_HINT_T0);
}

/* Only whole lines are streamed: a line in parts costs a read of it. */
void epx_copy_row_streaming__avx2(void *dst, const void *src, size_t bytes)
{
    char *to = dst;
    const char *from = src;
    size_t i = bytes_to_line(to);
    if (bytes < i + LINE_BYTES) {
        epx_copy_row__avx2(dst, src, bytes);
        return;
    }
    epx_copy_row__ref(to, from, i);
    for (; i + 4 * LINE_BYTES <= bytes; i += 4 * LINE_BYTES) {
        fetch_ahead(from, i, bytes);
        struct line a = line_load(from + i);
        struct line b = line_load(from + i + LINE_BYTES);
        struct line c = line_load(from + i + 2 * LINE_BYTES);
        struct line d = line_load(from + i + 3 * LINE_BYTES);
        line_stream(to + i, a);
        line_stream(to + i + LINE_BYTES, b);
        line_stream(to + i + 2 * LINE_BYTES, c);
        line_stream(to + i + 3 * LINE_BYTES, d);
    }
    for (; i + LINE_BYTES <= bytes; i += LINE_BYTES) {
        line_stream(to + i, line_load(from + i));
    }
    epx_copy_row__ref(to + i, from + i, bytes - i);
}
