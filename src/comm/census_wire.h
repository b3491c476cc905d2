/*
 * Frames of the census: a head and the body of its kind, over a stream. Integers have fixed width and are little
 * endian. Every length and value is checked before use. Pure: no function here touches a socket.
 *
 * Whoever connects greets with a nonce; the door answers with its own and proves that it knows the world's key; the
 * visitor's next frame (HELLO, LINK) ends in its own proof, over both nonces and that frame.
 */
#ifndef EPX_COMM_CENSUS_WIRE_H
#define EPX_COMM_CENSUS_WIRE_H

#include "comm/census.h"
#include "comm/rank_set.h"

#include <stddef.h>

#define EPX_CENSUS_VERSION         1u
#define EPX_CENSUS_HEAD_BYTES      12u
#define EPX_CENSUS_NONCE_BYTES     32u
#define EPX_CENSUS_PROOF_BYTES     32u
#define EPX_CENSUS_RUN_BYTES       32u
#define EPX_CENSUS_HELLO_MIN       156u /* a hello's body without a card: 124 bytes and the proof */
#define EPX_CENSUS_CHALLENGE_BYTES (EPX_CENSUS_NONCE_BYTES + EPX_CENSUS_PROOF_BYTES)
#define EPX_CENSUS_LINK_BYTES      72u
#define EPX_CENSUS_BEGIN_BYTES     48u
#define EPX_CENSUS_MISSING_BYTES   (4u + EPX_COMM_RANK_MAX / 8u)
#define EPX_CENSUS_FAILURE_BYTES   (4u + EPX_ERROR_TEXT_BYTES)
#define EPX_CENSUS_NAME_MAX        512u   /* names in one HOSTS */
#define EPX_CENSUS_BODY_MAX        65536u /* of any frame */

enum epx_census_kind {
    /* visitor to door */
    EPX_CENSUS_GREET = 1,     /* nonce */
    EPX_CENSUS_CHALLENGE = 2, /* door to visitor: nonce, proof */
    EPX_CENSUS_HELLO = 3,     /* a rank to the centre */
    EPX_CENSUS_LINK = 4,      /* a leader to rank 0 */
    EPX_CENSUS_CONFIRM = 5,   /* the rank has the whole census */
    /* door to visitor */
    EPX_CENSUS_MISSING = 6,
    EPX_CENSUS_BEGIN = 7, /* the census follows: HOSTS, then MEMBERS, each in order */
    EPX_CENSUS_HOSTS = 8,
    EPX_CENSUS_MEMBERS = 9,
    EPX_CENSUS_COMPLETE = 10, /* every rank has the whole census */
    EPX_CENSUS_WELCOME = 11,  /* the link stands; what follows is no frame of the census */
    EPX_CENSUS_FAILURE = 12,
    EPX_CENSUS_KIND_END,
};

#define EPX_CENSUS_BIT(kind) (1u << (kind))

struct epx_census_head {
    uint32_t kind;
    uint32_t body_bytes;
};

enum epx_census_head_check {
    EPX_CENSUS_HEAD_VALID,
    EPX_CENSUS_HEAD_FOREIGN, /* not of this protocol, or a length that its kind cannot have */
    EPX_CENSUS_HEAD_VERSION, /* of this protocol in another version */
};

struct epx_census_hello {
    uint32_t rank;
    uint32_t rank_count;
    uint32_t pid;
    uint32_t link_port; /* of rank 0: where leaders link; others 0 */
    uint64_t instance;  /* of one call of epx_census_take, drawn at random */
    uint8_t host_id[32];
    char host_name[EPX_CENSUS_NAME_BYTES];
    uint32_t card_bytes;
    const uint8_t *card; /* in the body */
};

struct epx_census_link {
    uint32_t host;
    uint32_t rank;
    uint8_t run[EPX_CENSUS_RUN_BYTES];
};

enum epx_census_phase {
    EPX_CENSUS_GATHERING = 0,  /* missing: ranks that have not reported */
    EPX_CENSUS_CONFIRMING = 1, /* missing: ranks that have not confirmed */
};

struct epx_census_missing {
    uint32_t phase;
    struct epx_rank_set ranks;
};

struct epx_census_failure {
    uint32_t status;
    char text[EPX_ERROR_TEXT_BYTES];
};

struct epx_census_begin {
    uint32_t rank_count;
    uint32_t host_count;
    uint32_t link_port;
    uint32_t card_bytes; /* of all cards */
    uint8_t run[EPX_CENSUS_RUN_BYTES];
};

enum epx_census_role { /* who proves; so that no proof serves for another */
                       EPX_CENSUS_ROLE_CENTRE = 1,
                       EPX_CENSUS_ROLE_MEMBER = 2,
                       EPX_CENSUS_ROLE_ROOT = 3,
                       EPX_CENSUS_ROLE_LEADER = 4,
};

struct epx_census_nonces {
    uint8_t visitor[EPX_CENSUS_NONCE_BYTES];
    uint8_t door[EPX_CENSUS_NONCE_BYTES];
};

static inline uint32_t epx_census_get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void epx_census_put_u32(uint8_t *at, uint32_t value)
{
    for (uint32_t i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

/* HMAC-SHA256 of role, nonces and data under the world's key. */
void epx_census_prove(const uint8_t key[32], enum epx_census_role role, const struct epx_census_nonces *nonces,
                      const void *data, size_t bytes, uint8_t proof[EPX_CENSUS_PROOF_BYTES]);
/* Takes the same time for every wrong proof. */
bool epx_census_proof_is(const uint8_t proof[EPX_CENSUS_PROOF_BYTES], const uint8_t expected[EPX_CENSUS_PROOF_BYTES]);

/* Whether it is a non-empty text in printable ASCII without spaces, ended and filled up with NULs. */
bool epx_census_name_is_valid(const char name[EPX_CENSUS_NAME_BYTES]);

void epx_census_head_encode(uint8_t head[EPX_CENSUS_HEAD_BYTES], enum epx_census_kind kind, uint32_t body_bytes);
/* *out is valid only with EPX_CENSUS_HEAD_VALID; its length fits its kind then. */
enum epx_census_head_check epx_census_head_decode(const uint8_t head[EPX_CENSUS_HEAD_BYTES],
                                                  struct epx_census_head *out);

/* Each writes a body and returns its bytes; a proof at its end is the caller's to fill in. */
uint32_t epx_census_hello_encode(const struct epx_census_hello *hello, uint8_t *body);
uint32_t epx_census_link_encode(const struct epx_census_link *link, uint8_t *body);
uint32_t epx_census_missing_encode(const struct epx_census_missing *missing, uint8_t *body);
uint32_t epx_census_failure_encode(enum epx_status status, const char *text, uint8_t *body);
uint32_t epx_census_begin_encode(const struct epx_census_begin *begin, uint8_t *body);

/* Each checks a body whose head was valid; false when any value is outside its range. */
bool epx_census_hello_decode(const uint8_t *body, uint32_t bytes, struct epx_census_hello *out);
bool epx_census_link_decode(const uint8_t *body, uint32_t bytes, struct epx_census_link *out);
bool epx_census_missing_decode(const uint8_t *body, uint32_t bytes, struct epx_census_missing *out);
bool epx_census_failure_decode(const uint8_t *body, uint32_t bytes, struct epx_census_failure *out);
bool epx_census_begin_decode(const uint8_t *body, uint32_t bytes, struct epx_census_begin *out);

#endif
