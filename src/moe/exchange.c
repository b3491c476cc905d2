#include "moe/exchange.h"

#include "base/checked_math.h"

#include <string.h>

void epx_exchange_header_init(struct epx_exchange_header *header, int64_t token_count)
{
    memset(header, 0, sizeof *header);
    header->magic = EPX_EXCHANGE_MAGIC;
    header->header_bytes = sizeof *header;
    header->token_count = token_count;
}

bool epx_exchange_read(const void *exchange, uint64_t bytes, struct epx_exchange_header *header)
{
    if (bytes < sizeof *header) {
        return false;
    }
    memcpy(header, exchange, sizeof *header);
    /* Nothing below may look at the shared bytes again. */
    __asm__ volatile("" ::: "memory");
    return header->magic == EPX_EXCHANGE_MAGIC && header->header_bytes == sizeof *header && header->token_count >= 0 &&
           header->token_count <= INT32_MAX;
}

const void *epx_exchange_piece(const void *exchange, uint64_t bytes, uint64_t at, int64_t count)
{
    int64_t piece_bytes;
    if (at < sizeof(struct epx_exchange_header) || at > bytes || !epx_mul_i64(count, 4, &piece_bytes) ||
        (uint64_t)piece_bytes > bytes - at) {
        return NULL;
    }
    const uint8_t *piece = (const uint8_t *)exchange + at;
    return (uintptr_t)piece % sizeof(int32_t) == 0 ? piece : NULL;
}

bool epx_rows_resolve(const struct epx_comm *comm, int64_t rank, const struct epx_published_rows *published,
                      uint64_t row_bytes, struct epx_rows *rows)
{
    int64_t extent;
    memset(rows, 0, sizeof *rows);
    if (published->row_count == 0) {
        return true;
    }
    if (published->row_count < 0 || published->pitch_bytes > INT64_MAX || row_bytes > INT64_MAX ||
        !epx_mul_add_i64(published->row_count - 1, (int64_t)published->pitch_bytes, (int64_t)row_bytes, &extent)) {
        return false;
    }
    rows->first = epx_comm_peer_at(comm, (uint32_t)rank, published->offset, (uint64_t)extent);
    rows->pitch_bytes = published->pitch_bytes;
    rows->row_count = published->row_count;
    if (rows->first == NULL) {
        return false;
    }
    if (published->scales_offset != 0) {
        int64_t scale_bytes;
        if (!epx_mul_i64(published->row_count, (int64_t)sizeof(float), &scale_bytes)) {
            return false;
        }
        rows->scales = epx_comm_peer_at(comm, (uint32_t)rank, published->scales_offset, (uint64_t)scale_bytes);
        return rows->scales != NULL && (uintptr_t)rows->scales % sizeof(float) == 0;
    }
    return true;
}
