/*
 * Strided tensor views (struct epx_view): sizes, extents, overlap, and moving elements between a view and dense memory.
 * Pure. Elements are copied bytewise, so that a view may have any alignment. Thread: any.
 */
#ifndef EPX_MOE_VIEW_H
#define EPX_MOE_VIEW_H

#include "moe/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of one element, 0 for a value outside the enum. */
size_t epx_dtype_bytes(enum epx_dtype dtype);

/* "bfloat16", …; "unknown" for a value outside the enum. */
const char *epx_dtype_name(enum epx_dtype dtype);

static inline bool epx_view_present(const struct epx_view *view)
{
    return view->dim_count != 0;
}

/* Present and with an address. */
static inline bool epx_view_given(const struct epx_view *view)
{
    return view->dim_count != 0 && view->data != NULL;
}

/* Rows of a 2-D view, elements of a 1-D one; elements of a row (1 for a 1-D view). */
static inline int64_t epx_view_row_count(const struct epx_view *view)
{
    return view->shape[0];
}

static inline int64_t epx_view_row_elems(const struct epx_view *view)
{
    return view->dim_count == 2 ? view->shape[1] : 1;
}

bool epx_view_empty(const struct epx_view *view);

/*
 * Bytes from element 0 to the end of the last element of the first `row_count` rows; 0 when there is no element. False
 * when a size or stride is negative or the result (or the end address) does not fit. row_count <= shape[0].
 */
bool epx_view_rows_extent_bytes(const struct epx_view *view, int64_t row_count, uint64_t *bytes);

/* Same for all rows. */
bool epx_view_extent_bytes(const struct epx_view *view, uint64_t *bytes);

/* Whether the elements of each row lie side by side. */
bool epx_view_rows_dense(const struct epx_view *view);

/* Whether kernels can work on the rows where they are: elements side by side, and aligned. */
bool epx_view_rows_direct(const struct epx_view *view);

/* Whether all elements lie side by side in row-major order. */
bool epx_view_dense(const struct epx_view *view);

/*
 * Whether two of a view's own elements may share memory. Exact when one stride spans the other dimension, which every
 * slice, transpose or step of a dense tensor satisfies; true otherwise. The extent must fit.
 */
bool epx_view_overlaps_itself(const struct epx_view *view);

/*
 * Whether two views may share memory. Exact for dense views and for column slices of rows with the same stride; true
 * for other views whose extents meet. Both extents must fit.
 */
bool epx_view_overlaps(const struct epx_view *a, const struct epx_view *b);

/* Address of a row's first element. */
void *epx_view_row(const struct epx_view *view, int64_t row);

/* Row of a view to or from dense memory. */
void epx_view_gather_row(const struct epx_view *view, int64_t row, void *dst);
void epx_view_scatter_row(const struct epx_view *view, int64_t row, const void *src);

/* The first `row_count` rows, row-major, to or from dense memory. */
void epx_view_gather(const struct epx_view *view, int64_t row_count, void *dst);
void epx_view_scatter(const struct epx_view *view, int64_t row_count, const void *src);

#endif
