#include "comm/census_draft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- Heads and proofs ------------------------------------------------------------------------------------------ */

static void head__kinds_and_lengths(void **state)
{
    (void)state;
    static const uint32_t bounds[EPX_CENSUS_KIND_END][2] = {{1, 0}, {32, 32},   {64, 64},  {156, 4252}, {72, 72},
                                                            {0, 0}, {516, 516}, {48, 48},  {72, 32776}, {20, 65536},
                                                            {0, 0}, {0, 0},     {516, 516}};
    for (uint32_t kind = 0; kind < EPX_CENSUS_KIND_END + 2; kind++) {
        for (uint32_t bytes = 0; bytes < 70000; bytes++) {
            uint8_t head[EPX_CENSUS_HEAD_BYTES];
            struct epx_census_head out;
            bool fits = kind < EPX_CENSUS_KIND_END && bytes >= bounds[kind][0] && bytes <= bounds[kind][1];
            epx_census_head_encode(head, (enum epx_census_kind)kind, bytes);
            enum epx_census_head_check check = epx_census_head_decode(head, &out);
            if (check != (fits ? EPX_CENSUS_HEAD_VALID : EPX_CENSUS_HEAD_FOREIGN)) {
                fail_msg("kind %u with %u bytes: %d", kind, bytes, (int)check);
            }
        }
    }
}

static void head__magic_and_version(void **state)
{
    (void)state;
    uint8_t head[EPX_CENSUS_HEAD_BYTES];
    struct epx_census_head out;
    static const uint8_t expected[EPX_CENSUS_HEAD_BYTES] = {'E', 'P', 'X', 'C', 1, 0, 1, 0, 32, 0, 0, 0};
    epx_census_head_encode(head, EPX_CENSUS_GREET, 32);
    assert_memory_equal(head, expected, sizeof head);
    assert_int_equal(epx_census_head_decode(head, &out), EPX_CENSUS_HEAD_VALID);
    head[4] = 2;
    assert_int_equal(epx_census_head_decode(head, &out), EPX_CENSUS_HEAD_VERSION);
    head[3] = 'D';
    assert_int_equal(epx_census_head_decode(head, &out), EPX_CENSUS_HEAD_FOREIGN);
}

/* Against HMAC-SHA256 computed elsewhere: key 0..31, message: role 2, 32 bytes 0xaa, 32 bytes 0xbb, "hello". */
static void proof__is_hmac_sha256(void **state)
{
    (void)state;
    static const uint8_t expected[EPX_CENSUS_PROOF_BYTES] = {
        0xf6, 0xe8, 0xea, 0x78, 0xcf, 0xb3, 0x76, 0x4b, 0xc2, 0x7a, 0xc6, 0xf5, 0xb0, 0x2c, 0x1d, 0x62,
        0x4f, 0x40, 0x9c, 0xf2, 0x18, 0x12, 0xdd, 0xa6, 0xc8, 0xf8, 0x7e, 0x77, 0x07, 0x71, 0x24, 0x80};
    struct epx_census_nonces nonces;
    uint8_t key[32];
    uint8_t proof[EPX_CENSUS_PROOF_BYTES];
    for (uint8_t i = 0; i < 32; i++) {
        key[i] = i;
    }
    memset(nonces.visitor, 0xaa, sizeof nonces.visitor);
    memset(nonces.door, 0xbb, sizeof nonces.door);
    epx_census_prove(key, EPX_CENSUS_ROLE_MEMBER, &nonces, "hello", 5, proof);
    assert_memory_equal(proof, expected, sizeof proof);
    assert_true(epx_census_proof_is(proof, expected));
    proof[31] ^= 0x80;
    assert_false(epx_census_proof_is(proof, expected));
}

/* ---- Bodies ---------------------------------------------------------------------------------------------------- */

static const struct epx_census_hello good_hello = {.rank = 3,
                                                   .rank_count = 4,
                                                   .pid = 9,
                                                   .instance = UINT64_C(0x1122334455667788),
                                                   .host_id = {1, 2},
                                                   .host_name = "a-b.c",
                                                   .card_bytes = 4,
                                                   .card = (const uint8_t *)"card"};

static bool survives(struct epx_census_hello hello, uint32_t lengthened)
{
    uint8_t body[300] = {0};
    struct epx_census_hello out;
    uint32_t bytes = epx_census_hello_encode(&hello, body);
    bool fine = epx_census_hello_decode(body, bytes + lengthened, &out);
    if (fine) {
        assert_int_equal(out.rank, hello.rank);
        assert_int_equal(out.rank_count, hello.rank_count);
        assert_int_equal(out.pid, hello.pid);
        assert_int_equal(out.link_port, hello.link_port);
        assert_true(out.instance == hello.instance);
        assert_memory_equal(out.host_id, hello.host_id, 32);
        assert_string_equal(out.host_name, hello.host_name);
        assert_int_equal(out.card_bytes, hello.card_bytes);
        assert_memory_equal(out.card, hello.card, hello.card_bytes);
    }
    return fine;
}

static void hello__values(void **state)
{
    (void)state;
    assert_true(survives(good_hello, 0));
    assert_false(survives(good_hello, 1));
#define REFUSED(change)                                                                                                \
    do {                                                                                                               \
        struct epx_census_hello hello = good_hello;                                                                    \
        hello.change;                                                                                                  \
        assert_false(survives(hello, 0));                                                                              \
    } while (0)
    REFUSED(rank = 4);
    REFUSED(rank_count = 0);
    REFUSED(rank_count = 4097);
    REFUSED(pid = 0x80000000u);
    REFUSED(link_port = 1);
    REFUSED(rank = 0);
    REFUSED(host_name[0] = '\0');
    REFUSED(host_name[2] = ' ');
    REFUSED(host_name[2] = '\x7f');
    REFUSED(host_name[63] = 'x');
#undef REFUSED
    struct epx_census_hello root = good_hello;
    root.rank = 0;
    root.link_port = 65535;
    assert_true(survives(root, 0));
    root.link_port = 65536;
    assert_false(survives(root, 0));
}

static void failure__status_and_text(void **state)
{
    (void)state;
    uint8_t body[EPX_CENSUS_FAILURE_BYTES];
    char longest[1000];
    struct epx_census_failure out;
    memset(longest, 'y', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(epx_census_failure_encode(EPX_ERR_RENDEZVOUS, longest, body), sizeof body);
    assert_true(epx_census_failure_decode(body, sizeof body, &out));
    assert_int_equal(out.status, EPX_ERR_RENDEZVOUS);
    assert_int_equal(strlen(out.text), EPX_ERROR_TEXT_BYTES - 1);
    memset(body + 4, 'y', EPX_ERROR_TEXT_BYTES);
    assert_false(epx_census_failure_decode(body, sizeof body, &out));
    (void)epx_census_failure_encode(EPX_OK, "", body);
    assert_false(epx_census_failure_decode(body, sizeof body, &out));
    (void)epx_census_failure_encode((enum epx_status)9, "", body);
    assert_false(epx_census_failure_decode(body, sizeof body, &out));
}

/* ---- The whole census ------------------------------------------------------------------------------------------ */

#define RANKS 40

static struct epx_census_record records[RANKS];

static uint8_t *make_frames(size_t *bytes)
{
    static const uint8_t run[EPX_CENSUS_RUN_BYTES] = {7};
    static uint8_t card[EPX_CENSUS_CARD_BYTES_MAX];
    uint8_t *frames = NULL;
    for (uint32_t r = 0; r < RANKS; r++) {
        records[r] = (struct epx_census_record){
            .host_id = {(uint8_t)(r % 7 == 0)}, .host_name = "n", .pid = r + 1, .card_bytes = r * 100, .card = card};
    }
    assert_true(epx_census_frames_make(records, RANKS, 1234, run, &frames, bytes));
    return frames;
}

/* Feeds frames until one is refused: how many were taken. */
static uint32_t feed(struct epx_census_draft *draft, const uint8_t *frames, size_t bytes)
{
    uint32_t count = 0;
    struct epx_census_head head;
    while (bytes > 0) {
        assert_int_equal(epx_census_head_decode(frames, &head), EPX_CENSUS_HEAD_VALID);
        if (epx_census_draft_take(draft, RANKS, &head, frames + EPX_CENSUS_HEAD_BYTES) != 0) {
            return count;
        }
        count++;
        frames += EPX_CENSUS_HEAD_BYTES + head.body_bytes;
        bytes -= EPX_CENSUS_HEAD_BYTES + head.body_bytes;
    }
    return count;
}

static void census__goes_through(void **state)
{
    (void)state;
    size_t bytes = 0;
    uint8_t *frames = make_frames(&bytes);
    struct epx_census_draft draft = {.cards = NULL};
    /* 78000 bytes of cards: two frames of members. */
    assert_int_equal(feed(&draft, frames, bytes), 4);
    assert_true(epx_census_draft_is_whole(&draft));
    assert_int_equal(draft.census.host_count, 2);
    assert_int_equal(draft.begin.link_port, 1234);
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_int_equal(draft.census.members[r].host, r % 7 != 0);
        assert_int_equal(draft.census.members[r].pid, r + 1);
        assert_int_equal(draft.census.members[r].card_bytes, r * 100);
    }
    epx_census_draft_fini(&draft);
    free(frames);
}

/* A census with one 32-bit word of its frames changed: taken up to there. */
static void census__damage_is_seen(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset;
        uint32_t value;
        uint32_t taken;
    } damages[] = {
        {12, 41, 0},         /* rank_count is another */
        {16, 41, 0},         /* more hosts than ranks */
        {20, 0, 0},          /* no port */
        {24, 163841, 0},     /* cards of 40 ranks do not take that much */
        {24, 77999, 3},      /* less than the cards take */
        {24, 78001, 3},      /* more */
        {60 + 12, 1, 1},     /* hosts do not begin at 0 */
        {60 + 16, 1, 1},     /* one name, but bytes of two */
        {60 + 16, 3, 1},     /* three hosts */
        {60 + 20, 0x0a, 1},  /* a name with a line feed */
        {208 + 12, 1, 2},    /* members do not begin at 0 */
        {208 + 16, 0, 2},    /* none */
        {208 + 16, 41, 2},   /* too many */
        {208 + 20, 1, 2},    /* rank 0 on host 1 */
        {208 + 24, ~0u, 2},  /* no pid */
        {208 + 28, 4097, 2}, /* a card too long */
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        size_t bytes = 0;
        uint8_t *frames = make_frames(&bytes);
        struct epx_census_draft draft = {.cards = NULL};
        epx_census_put_u32(frames + damages[i].offset, damages[i].value);
        uint32_t taken = feed(&draft, frames, bytes);
        if (taken != damages[i].taken) {
            fail_msg("damage %u: %u frames were taken, must be %u", (unsigned)i, taken, damages[i].taken);
        }
        epx_census_draft_fini(&draft);
        free(frames);
    }
}

static void census__frames_out_of_turn(void **state)
{
    (void)state;
    size_t bytes = 0;
    uint8_t *frames = make_frames(&bytes);
    struct epx_census_draft draft = {.cards = NULL};
    assert_int_equal(feed(&draft, frames + 60, 148), 0); /* hosts before the beginning */
    assert_int_equal(feed(&draft, frames, 60), 1);
    assert_int_equal(feed(&draft, frames, 60), 0);                /* a second beginning */
    assert_int_equal(feed(&draft, frames + 208, bytes - 208), 0); /* members before the hosts */
    assert_int_equal(feed(&draft, frames + 60, 148), 1);
    assert_int_equal(feed(&draft, frames + 60, 148), 0); /* the hosts again */
    assert_int_equal(feed(&draft, frames + 208, bytes - 208), 2);
    assert_int_equal(feed(&draft, frames + 208, bytes - 208), 0);
    epx_census_draft_fini(&draft);
    free(frames);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head__kinds_and_lengths),  cmocka_unit_test(head__magic_and_version),
        cmocka_unit_test(proof__is_hmac_sha256),    cmocka_unit_test(hello__values),
        cmocka_unit_test(failure__status_and_text), cmocka_unit_test(census__goes_through),
        cmocka_unit_test(census__damage_is_seen),   cmocka_unit_test(census__frames_out_of_turn),
    };
    return cmocka_run_group_tests_name("census_wire", tests, NULL, NULL);
}
