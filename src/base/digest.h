/*
 * SHA-256 (FIPS 180-4): names for contents. Two ranks that hold the same bytes compute the same digest. Thread: any.
 */
#ifndef EPX_BASE_DIGEST_H
#define EPX_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define EPX_DIGEST_BYTES       32
#define EPX_DIGEST_BLOCK_BYTES 64

struct epx_digest_state { /* caller's memory */
    uint32_t words[8];
    uint64_t total_bytes;
    uint8_t block[EPX_DIGEST_BLOCK_BYTES]; /* the first total_bytes % 64 bytes wait for the block to fill */
};

void epx_digest_init(struct epx_digest_state *state);

/* Appends `bytes` bytes; `data` may be null when bytes is 0. */
void epx_digest_update(struct epx_digest_state *state, const void *data, size_t bytes);

/* Writes the digest of all that was appended. The state must be initialised again before another use. */
void epx_digest_final(struct epx_digest_state *state, uint8_t out[EPX_DIGEST_BYTES]);

/* The digest of one piece of memory. */
void epx_digest(const void *data, size_t bytes, uint8_t out[EPX_DIGEST_BYTES]);

#endif
