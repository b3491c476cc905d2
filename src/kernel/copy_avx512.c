#include "kernel/variants.h"

#include <immintrin.h>

#define LINE_BYTES 64
/* Streamed rows are seldom in the cache: their source is fetched this far ahead. */
#define AHEAD_BYTES 1024

/* Distance from p to the next line, 0 when it begins one. */
static inline size_t bytes_to_line(const void *p)
{
    return (size_t)(-(uintptr_t)p & (LINE_BYTES - 1));
}

void epx_copy_row__avx512(void *dst, const void *src, size_t bytes)
{
    char *to = dst;
    const char *from = src;
    if (bytes < LINE_BYTES) {
        epx_copy_row__ref(dst, src, bytes);
        return;
    }
    /* First and last line may overlap those between, which begin at a line of dst. */
    size_t i = bytes_to_line(to);
    _mm512_storeu_si512(to, _mm512_loadu_si512(from));
    for (; i + 4 * LINE_BYTES <= bytes; i += 4 * LINE_BYTES) {
        __m512i a = _mm512_loadu_si512(from + i);
        __m512i b = _mm512_loadu_si512(from + i + LINE_BYTES);
        __m512i c = _mm512_loadu_si512(from + i + 2 * LINE_BYTES);
        __m512i d = _mm512_loadu_si512(from + i + 3 * LINE_BYTES);
        _mm512_store_si512(to + i, a);
        _mm512_store_si512(to + i + LINE_BYTES, b);
        _mm512_store_si512(to + i + 2 * LINE_BYTES, c);
        _mm512_store_si512(to + i + 3 * LINE_BYTES, d);
    }
    for (; i < bytes; i += LINE_BYTES) {
        size_t at = i + LINE_BYTES <= bytes ? i : bytes - LINE_BYTES;
        _mm512_storeu_si512(to + at, _mm512_loadu_si512(from + at));
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
void epx_copy_row_streaming__avx512(void *dst, const void *src, size_t bytes)
{
    char *to = dst;
    const char *from = src;
    size_t i = bytes_to_line(to);
    if (bytes < i + LINE_BYTES) {
        epx_copy_row__avx512(dst, src, bytes);
        return;
    }
    epx_copy_row__ref(to, from, i);
    for (; i + 4 * LINE_BYTES <= bytes; i += 4 * LINE_BYTES) {
        fetch_ahead(from, i, bytes);
        __m512i a = _mm512_loadu_si512(from + i);
        __m512i b = _mm512_loadu_si512(from + i + LINE_BYTES);
        __m512i c = _mm512_loadu_si512(from + i + 2 * LINE_BYTES);
        __m512i d = _mm512_loadu_si512(from + i + 3 * LINE_BYTES);
        _mm512_stream_si512((void *)(to + i), a);
        _mm512_stream_si512((void *)(to + i + LINE_BYTES), b);
        _mm512_stream_si512((void *)(to + i + 2 * LINE_BYTES), c);
        _mm512_stream_si512((void *)(to + i + 3 * LINE_BYTES), d);
    }
    for (; i + LINE_BYTES <= bytes; i += LINE_BYTES) {
        _mm512_stream_si512((void *)(to + i), _mm512_loadu_si512(from + i));
    }
    epx_copy_row__ref(to + i, from + i, bytes - i);
}
