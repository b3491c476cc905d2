/* How far ahead of a weighted sum its rows are fetched: so many streams of short rows are more than a processor
 * foresees by itself. */
#ifndef EPX_KERNEL_FETCH_DISTANCE_H
#define EPX_KERNEL_FETCH_DISTANCE_H

#include <stddef.h>

/* Elements under way, all rows together, 8 KiB: with less the memory waits, with more the first cache loses what is
 * about to be summed. Found by measurement for 2 to 32 rows. */
#define EPX_FETCH_TOTAL_ELEMS 4096
/* The fewest and the most of one row. */
#define EPX_FETCH_MIN_ELEMS 256
#define EPX_FETCH_MAX_ELEMS 1024

/* A multiple of 128. At the start of a row nothing has been fetched ahead: the distance stays a small part of the row.
 */
static inline size_t epx_fetch_distance(size_t row_count, size_t elems)
{
    size_t distance = row_count != 0 ? EPX_FETCH_TOTAL_ELEMS / row_count : EPX_FETCH_MIN_ELEMS;
    distance = distance < elems / 8 ? distance : elems / 8;
    distance = distance < EPX_FETCH_MAX_ELEMS ? distance : EPX_FETCH_MAX_ELEMS;
    distance = distance > EPX_FETCH_MIN_ELEMS ? distance : EPX_FETCH_MIN_ELEMS;
    return distance / 128 * 128;
}

#endif
