#include "base/digest.h"

#include <string.h>

/* First 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[64] = {
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
};

/* First 32 bits of the fractional parts of the square roots of the first 8 primes. */
static const uint32_t initial_words[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                          0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};

static uint32_t rotate_right(uint32_t value, unsigned count)
{
    return (value >> count) | (value << (32 - count));
}

static uint32_t load_big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void store_big_endian(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 24);
    bytes[1] = (uint8_t)(value >> 16);
    bytes[2] = (uint8_t)(value >> 8);
    bytes[3] = (uint8_t)value;
}

static void expand_schedule(const uint8_t *block, uint32_t schedule[64])
{
    for (size_t i = 0; i < 16; i++) {
        schedule[i] = load_big_endian(block + 4 * i);
    }
    for (size_t i = 16; i < 64; i++) {
        uint32_t before = schedule[i - 15];
        uint32_t near = schedule[i - 2];
        uint32_t sigma0 = rotate_right(before, 7) ^ rotate_right(before, 18) ^ (before >> 3);
        uint32_t sigma1 = rotate_right(near, 17) ^ rotate_right(near, 19) ^ (near >> 10);
        schedule[i] = schedule[i - 16] + sigma0 + schedule[i - 7] + sigma1;
    }
}

static void compress_block(uint32_t words[8], const uint8_t *block)
{
    uint32_t schedule[64];
    expand_schedule(block, schedule);
    uint32_t a = words[0], b = words[1], c = words[2], d = words[3];
    uint32_t e = words[4], f = words[5], g = words[6], h = words[7];
    for (size_t i = 0; i < 64; i++) {
        uint32_t sum1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
        uint32_t choice = (e & f) ^ (~e & g);
        uint32_t step1 = h + sum1 + choice + round_constants[i] + schedule[i];
        uint32_t sum0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
        uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
        h = g;
        g = f;
        f = e;
        e = d + step1;
        d = c;
        c = b;
        b = a;
        a = step1 + sum0 + majority;
    }
    words[0] += a;
    words[1] += b;
    words[2] += c;
    words[3] += d;
    words[4] += e;
    words[5] += f;
    words[6] += g;
    words[7] += h;
}

void epx_digest_init(struct epx_digest_state *state)
{
    memset(state, 0, sizeof *state);
    memcpy(state->words, initial_words, sizeof state->words);
}

void epx_digest_update(struct epx_digest_state *state, const void *data, size_t bytes)
{
    const uint8_t *next = data;
    size_t held = (size_t)(state->total_bytes % EPX_DIGEST_BLOCK_BYTES);
    state->total_bytes += bytes;
    while (bytes > 0) {
        size_t piece = EPX_DIGEST_BLOCK_BYTES - held;
        if (piece > bytes) {
            piece = bytes;
        }
        memcpy(state->block + held, next, piece);
        held += piece;
        next += piece;
        bytes -= piece;
        if (held == EPX_DIGEST_BLOCK_BYTES) {
            compress_block(state->words, state->block);
            held = 0;
        }
    }
}

void epx_digest_final(struct epx_digest_state *state, uint8_t out[EPX_DIGEST_BYTES])
{
    static const uint8_t padding[EPX_DIGEST_BLOCK_BYTES] = {0x80};
    uint64_t total_bits = state->total_bytes * 8;
    uint8_t length[8];
    store_big_endian(length, (uint32_t)(total_bits >> 32));
    store_big_endian(length + 4, (uint32_t)total_bits);

    /* One 1 bit, then zeros up to 8 bytes before a block's end, then the length in bits. */
    size_t held = (size_t)(state->total_bytes % EPX_DIGEST_BLOCK_BYTES);
    size_t padding_bytes = held < 56 ? 56 - held : 120 - held;
    epx_digest_update(state, padding, padding_bytes);
    epx_digest_update(state, length, sizeof length);
    for (size_t i = 0; i < 8; i++) {
        store_big_endian(out + 4 * i, state->words[i]);
    }
}

void epx_digest(const void *data, size_t bytes, uint8_t out[EPX_DIGEST_BYTES])
{
    struct epx_digest_state state;
    epx_digest_init(&state);
    epx_digest_update(&state, data, bytes);
    epx_digest_final(&state, out);
}
