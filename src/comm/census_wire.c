#include "comm/census_wire.h"

#include "base/digest.h"

#include <string.h>

#define MAGIC 0x43585045u /* "EPXC" */

/* The shortest and longest body of each kind. */
static const struct {
    uint32_t minimum;
    uint32_t maximum;
} body_bytes[EPX_CENSUS_KIND_END] = {
    [EPX_CENSUS_GREET] = {EPX_CENSUS_NONCE_BYTES, EPX_CENSUS_NONCE_BYTES},
    [EPX_CENSUS_CHALLENGE] = {EPX_CENSUS_CHALLENGE_BYTES, EPX_CENSUS_CHALLENGE_BYTES},
    [EPX_CENSUS_HELLO] = {EPX_CENSUS_HELLO_MIN, EPX_CENSUS_HELLO_MIN + EPX_CENSUS_CARD_BYTES_MAX},
    [EPX_CENSUS_LINK] = {EPX_CENSUS_LINK_BYTES, EPX_CENSUS_LINK_BYTES},
    [EPX_CENSUS_CONFIRM] = {0, 0},
    [EPX_CENSUS_MISSING] = {EPX_CENSUS_MISSING_BYTES, EPX_CENSUS_MISSING_BYTES},
    [EPX_CENSUS_BEGIN] = {EPX_CENSUS_BEGIN_BYTES, EPX_CENSUS_BEGIN_BYTES},
    [EPX_CENSUS_HOSTS] = {8 + EPX_CENSUS_NAME_BYTES, 8 + EPX_CENSUS_NAME_MAX *EPX_CENSUS_NAME_BYTES},
    [EPX_CENSUS_MEMBERS] = {8 + 12, EPX_CENSUS_BODY_MAX},
    [EPX_CENSUS_COMPLETE] = {0, 0},
    [EPX_CENSUS_WELCOME] = {0, 0},
    [EPX_CENSUS_FAILURE] = {EPX_CENSUS_FAILURE_BYTES, EPX_CENSUS_FAILURE_BYTES},
};

/* ---- Numbers and proofs ---------------------------------------------------------------------------------------- */

static uint64_t get_u64(const uint8_t *at)
{
    return (uint64_t)epx_census_get_u32(at) | (uint64_t)epx_census_get_u32(at + 4) << 32;
}

static void put_u64(uint8_t *at, uint64_t value)
{
    epx_census_put_u32(at, (uint32_t)value);
    epx_census_put_u32(at + 4, (uint32_t)(value >> 32));
}

/* The hash of HMAC begins with a block of the key under this pad. */
static void begin_with_key(struct epx_digest_state *state, const uint8_t key[32], uint8_t pad)
{
    uint8_t block[EPX_DIGEST_BLOCK_BYTES];
    memset(block, pad, sizeof block);
    for (size_t i = 0; i < 32; i++) {
        block[i] ^= key[i];
    }
    epx_digest_init(state);
    epx_digest_update(state, block, sizeof block);
}

void epx_census_prove(const uint8_t key[32], enum epx_census_role role, const struct epx_census_nonces *nonces,
                      const void *data, size_t bytes, uint8_t proof[EPX_CENSUS_PROOF_BYTES])
{
    struct epx_digest_state state;
    uint8_t inner[EPX_DIGEST_BYTES];
    uint8_t role_bytes[4];
    epx_census_put_u32(role_bytes, role);
    begin_with_key(&state, key, 0x36);
    epx_digest_update(&state, role_bytes, sizeof role_bytes);
    epx_digest_update(&state, nonces, sizeof *nonces);
    epx_digest_update(&state, data, bytes);
    epx_digest_final(&state, inner);
    begin_with_key(&state, key, 0x5c);
    epx_digest_update(&state, inner, sizeof inner);
    epx_digest_final(&state, proof);
}

bool epx_census_proof_is(const uint8_t proof[EPX_CENSUS_PROOF_BYTES], const uint8_t expected[EPX_CENSUS_PROOF_BYTES])
{
    uint8_t difference = 0;
    for (size_t i = 0; i < EPX_CENSUS_PROOF_BYTES; i++) {
        difference = (uint8_t)(difference | (proof[i] ^ expected[i]));
    }
    return difference == 0;
}

bool epx_census_name_is_valid(const char name[EPX_CENSUS_NAME_BYTES])
{
    size_t length = strnlen(name, EPX_CENSUS_NAME_BYTES);
    if (length == 0 || length == EPX_CENSUS_NAME_BYTES) {
        return false;
    }
    for (size_t i = 0; i < EPX_CENSUS_NAME_BYTES; i++) {
        if (i < length ? name[i] <= ' ' || name[i] > '~' : name[i] != '\0') {
            return false;
        }
    }
    return true;
}

/* ---- Heads ----------------------------------------------------------------------------------------------------- */

void epx_census_head_encode(uint8_t head[EPX_CENSUS_HEAD_BYTES], enum epx_census_kind kind, uint32_t bytes)
{
    epx_census_put_u32(head, MAGIC);
    epx_census_put_u32(head + 4, EPX_CENSUS_VERSION | (uint32_t)kind << 16);
    epx_census_put_u32(head + 8, bytes);
}

enum epx_census_head_check epx_census_head_decode(const uint8_t head[EPX_CENSUS_HEAD_BYTES],
                                                  struct epx_census_head *out)
{
    if (epx_census_get_u32(head) != MAGIC) {
        return EPX_CENSUS_HEAD_FOREIGN;
    }
    uint32_t version_and_kind = epx_census_get_u32(head + 4);
    if ((version_and_kind & 0xffffu) != EPX_CENSUS_VERSION) {
        return EPX_CENSUS_HEAD_VERSION;
    }
    out->kind = version_and_kind >> 16;
    out->body_bytes = epx_census_get_u32(head + 8);
    bool valid = out->kind >= EPX_CENSUS_GREET && out->kind < EPX_CENSUS_KIND_END &&
                 out->body_bytes >= body_bytes[out->kind].minimum && out->body_bytes <= body_bytes[out->kind].maximum;
    return valid ? EPX_CENSUS_HEAD_VALID : EPX_CENSUS_HEAD_FOREIGN;
}

/* ---- Bodies ---------------------------------------------------------------------------------------------------- */

uint32_t epx_census_hello_encode(const struct epx_census_hello *hello, uint8_t *body)
{
    epx_census_put_u32(body, hello->rank);
    epx_census_put_u32(body + 4, hello->rank_count);
    epx_census_put_u32(body + 8, hello->pid);
    epx_census_put_u32(body + 12, hello->link_port);
    put_u64(body + 16, hello->instance);
    memcpy(body + 24, hello->host_id, sizeof hello->host_id);
    memcpy(body + 56, hello->host_name, sizeof hello->host_name);
    epx_census_put_u32(body + 120, hello->card_bytes);
    if (hello->card_bytes > 0) {
        memcpy(body + 124, hello->card, hello->card_bytes);
    }
    return EPX_CENSUS_HELLO_MIN + hello->card_bytes;
}

bool epx_census_hello_decode(const uint8_t *body, uint32_t bytes, struct epx_census_hello *out)
{
    if (bytes < EPX_CENSUS_HELLO_MIN) {
        return false;
    }
    out->rank = epx_census_get_u32(body);
    out->rank_count = epx_census_get_u32(body + 4);
    out->pid = epx_census_get_u32(body + 8);
    out->link_port = epx_census_get_u32(body + 12);
    out->instance = get_u64(body + 16);
    memcpy(out->host_id, body + 24, sizeof out->host_id);
    memcpy(out->host_name, body + 56, sizeof out->host_name);
    out->card_bytes = epx_census_get_u32(body + 120);
    out->card = body + 124;
    return out->rank_count >= 1 && out->rank_count <= EPX_COMM_RANK_MAX && out->rank < out->rank_count &&
           out->pid <= INT32_MAX && (out->rank == 0 ? out->link_port - 1u < UINT16_MAX : out->link_port == 0) &&
           epx_census_name_is_valid(out->host_name) && out->card_bytes <= EPX_CENSUS_CARD_BYTES_MAX &&
           bytes == EPX_CENSUS_HELLO_MIN + out->card_bytes;
}

uint32_t epx_census_link_encode(const struct epx_census_link *link, uint8_t *body)
{
    epx_census_put_u32(body, link->host);
    epx_census_put_u32(body + 4, link->rank);
    memcpy(body + 8, link->run, sizeof link->run);
    return EPX_CENSUS_LINK_BYTES;
}

bool epx_census_link_decode(const uint8_t *body, uint32_t bytes, struct epx_census_link *out)
{
    if (bytes != EPX_CENSUS_LINK_BYTES) {
        return false;
    }
    out->host = epx_census_get_u32(body);
    out->rank = epx_census_get_u32(body + 4);
    memcpy(out->run, body + 8, sizeof out->run);
    return out->host >= 1 && out->host < EPX_COMM_RANK_MAX && out->rank >= out->host && out->rank < EPX_COMM_RANK_MAX;
}

uint32_t epx_census_missing_encode(const struct epx_census_missing *missing, uint8_t *body)
{
    epx_census_put_u32(body, missing->phase);
    for (size_t w = 0; w < EPX_COMM_RANK_MAX / 64; w++) {
        put_u64(body + 4 + 8 * w, missing->ranks.words[w]);
    }
    return EPX_CENSUS_MISSING_BYTES;
}

bool epx_census_missing_decode(const uint8_t *body, uint32_t bytes, struct epx_census_missing *out)
{
    if (bytes != EPX_CENSUS_MISSING_BYTES) {
        return false;
    }
    out->phase = epx_census_get_u32(body);
    for (size_t w = 0; w < EPX_COMM_RANK_MAX / 64; w++) {
        out->ranks.words[w] = get_u64(body + 4 + 8 * w);
    }
    return out->phase <= EPX_CENSUS_CONFIRMING;
}

uint32_t epx_census_failure_encode(enum epx_status status, const char *text, uint8_t *body)
{
    epx_census_put_u32(body, status);
    memset(body + 4, 0, EPX_ERROR_TEXT_BYTES);
    memcpy(body + 4, text, strnlen(text, EPX_ERROR_TEXT_BYTES - 1));
    return EPX_CENSUS_FAILURE_BYTES;
}

bool epx_census_failure_decode(const uint8_t *body, uint32_t bytes, struct epx_census_failure *out)
{
    if (bytes != EPX_CENSUS_FAILURE_BYTES) {
        return false;
    }
    out->status = epx_census_get_u32(body);
    memcpy(out->text, body + 4, sizeof out->text);
    return out->status > EPX_OK && out->status <= EPX_ERR_INTERNAL &&
           strcmp(epx_status_phrase((enum epx_status)out->status), "unknown status") != 0 &&
           memchr(out->text, '\0', sizeof out->text) != NULL;
}

uint32_t epx_census_begin_encode(const struct epx_census_begin *begin, uint8_t *body)
{
    epx_census_put_u32(body, begin->rank_count);
    epx_census_put_u32(body + 4, begin->host_count);
    epx_census_put_u32(body + 8, begin->link_port);
    epx_census_put_u32(body + 12, begin->card_bytes);
    memcpy(body + 16, begin->run, sizeof begin->run);
    return EPX_CENSUS_BEGIN_BYTES;
}

bool epx_census_begin_decode(const uint8_t *body, uint32_t bytes, struct epx_census_begin *out)
{
    if (bytes != EPX_CENSUS_BEGIN_BYTES) {
        return false;
    }
    out->rank_count = epx_census_get_u32(body);
    out->host_count = epx_census_get_u32(body + 4);
    out->link_port = epx_census_get_u32(body + 8);
    out->card_bytes = epx_census_get_u32(body + 12);
    memcpy(out->run, body + 16, sizeof out->run);
    return out->rank_count >= 1 && out->rank_count <= EPX_COMM_RANK_MAX && out->host_count >= 1 &&
           out->host_count <= out->rank_count && out->link_port - 1u < UINT16_MAX &&
           out->card_bytes <= out->rank_count * EPX_CENSUS_CARD_BYTES_MAX;
}
