#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"

static void expect_digest(const uint8_t digest[EPX_DIGEST_BYTES], const char *hex)
{
    char text[2 * EPX_DIGEST_BYTES + 1];
    for (size_t i = 0; i < EPX_DIGEST_BYTES; i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    assert_string_equal(text, hex);
}

static void expect_text_digest(const char *message, const char *hex)
{
    uint8_t digest[EPX_DIGEST_BYTES];
    epx_digest(message, strlen(message), digest);
    expect_digest(digest, hex);
}

/* The messages and digests are those of the NIST example files for FIPS 180-4. */
static void digest__published_vectors(void **state)
{
    (void)state;
    expect_text_digest("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_text_digest("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_text_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect_text_digest(
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopq"
        "rstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    uint8_t digest[EPX_DIGEST_BYTES];
    epx_digest(NULL, 0, digest);
    expect_digest(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void digest__million_letters_in_uneven_pieces(void **state)
{
    (void)state;
    char letters[997];
    memset(letters, 'a', sizeof letters);
    struct epx_digest_state digest_state;
    epx_digest_init(&digest_state);
    for (size_t left = 1000000; left > 0;) {
        size_t piece = left < sizeof letters ? left : sizeof letters;
        epx_digest_update(&digest_state, letters, piece);
        left -= piece;
    }
    uint8_t digest[EPX_DIGEST_BYTES];
    epx_digest_final(&digest_state, digest);
    expect_digest(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Lengths around the places where the padding takes a block more, against the same bytes in two pieces. */
static void digest__pieces_do_not_matter(void **state)
{
    (void)state;
    uint8_t message[200];
    for (size_t i = 0; i < sizeof message; i++) {
        message[i] = (uint8_t)(i * 7 + 1);
    }
    uint8_t previous[EPX_DIGEST_BYTES] = {0};
    for (size_t bytes = 0; bytes <= sizeof message; bytes++) {
        uint8_t whole[EPX_DIGEST_BYTES];
        epx_digest(message, bytes, whole);
        assert_memory_not_equal(whole, previous, sizeof whole);
        memcpy(previous, whole, sizeof whole);
        for (size_t cut = 0; cut <= bytes; cut++) {
            struct epx_digest_state digest_state;
            uint8_t pieces[EPX_DIGEST_BYTES];
            epx_digest_init(&digest_state);
            epx_digest_update(&digest_state, message, cut);
            epx_digest_update(&digest_state, message + cut, bytes - cut);
            epx_digest_final(&digest_state, pieces);
            assert_memory_equal(whole, pieces, sizeof whole);
        }
    }
}

/* sha256sum of n bytes 'a' for the lengths at which the padding changes shape. */
static void digest__padding_boundaries(void **state)
{
    (void)state;
    static const struct {
        size_t bytes;
        const char *hex;
    } cases[] = {
        {1, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},
        {54, "a3f01b6939256127582ac8ae9fb47a382a244680806a3f613a118851c1ca1d47"},
        {55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
        {56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
        {57, "f13b2d724659eb3bf47f2dd6af1accc87b81f09f59f2b75e5c0bed6589dfe8c6"},
        {63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"},
        {64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
        {65, "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"},
        {119, "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb"},
        {120, "2f3d335432c70b580af0e8e1b3674a7c020d683aa5f73aaaedfdc55af904c21c"},
        {127, "c57e9278af78fa3cab38667bef4ce29d783787a2f731d4e12200270f0c32320a"},
        {128, "6836cf13bac400e9105071cd6af47084dfacad4e5e302c94bfed24e013afb73e"},
    };
    char letters[128];
    memset(letters, 'a', sizeof letters);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t digest[EPX_DIGEST_BYTES];
        epx_digest(letters, cases[i].bytes, digest);
        expect_digest(digest, cases[i].hex);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digest__published_vectors),
        cmocka_unit_test(digest__million_letters_in_uneven_pieces),
        cmocka_unit_test(digest__pieces_do_not_matter),
        cmocka_unit_test(digest__padding_boundaries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
