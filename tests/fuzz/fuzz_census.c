/* Any bytes as frames of the census, one behind the other: refused, or frames whose every value is in its range and
 * that are written as they were read; and a census put together of them keeps within what it has announced. */
#include "comm/census_draft.h"

#include <stdlib.h>
#include <string.h>

/* More cards than that prove nothing and take time. */
#define FUZZ_CARDS_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void try_body(const struct epx_census_head *head, const uint8_t *body)
{
    static uint8_t again[EPX_CENSUS_BODY_MAX];
    struct epx_census_hello hello;
    struct epx_census_link link;
    struct epx_census_missing missing;
    struct epx_census_failure failure;
    uint32_t bytes = head->body_bytes;
    if (head->kind == EPX_CENSUS_HELLO && epx_census_hello_decode(body, bytes, &hello)) {
        require(hello.rank < hello.rank_count && hello.rank_count <= EPX_COMM_RANK_MAX);
        require(epx_census_hello_encode(&hello, again) == bytes);
        require(memcmp(again, body, bytes - EPX_CENSUS_PROOF_BYTES) == 0);
    } else if (head->kind == EPX_CENSUS_LINK && epx_census_link_decode(body, bytes, &link)) {
        require(link.host >= 1 && link.host <= link.rank && link.rank < EPX_COMM_RANK_MAX);
        require(epx_census_link_encode(&link, again) == bytes);
        require(memcmp(again, body, bytes - EPX_CENSUS_PROOF_BYTES) == 0);
    } else if (head->kind == EPX_CENSUS_MISSING && epx_census_missing_decode(body, bytes, &missing)) {
        require(epx_census_missing_encode(&missing, again) == bytes && memcmp(again, body, bytes) == 0);
    } else if (head->kind == EPX_CENSUS_FAILURE && epx_census_failure_decode(body, bytes, &failure)) {
        require(failure.status != EPX_OK && strlen(failure.text) < sizeof failure.text);
    }
}

/* Whether the draft is still to be fed. */
static bool try_draft(struct epx_census_draft *draft, const struct epx_census_head *head, const uint8_t *body)
{
    struct epx_census_begin begin;
    uint32_t rank_count = draft->census.rank_count;
    if (head->kind == EPX_CENSUS_BEGIN && rank_count == 0) {
        if (!epx_census_begin_decode(body, head->body_bytes, &begin) || begin.card_bytes > FUZZ_CARDS_MAX) {
            return false;
        }
        rank_count = begin.rank_count;
    }
    if (epx_census_draft_take(draft, rank_count, head, body) != 0) {
        return false;
    }
    if (epx_census_draft_is_whole(draft)) {
        for (uint32_t r = 0; r < rank_count; r++) {
            const struct epx_census_member *member = &draft->census.members[r];
            require(member->host < draft->census.host_count && member->card >= draft->cards);
            require(member->card + member->card_bytes <= draft->cards + draft->begin.card_bytes);
            require(epx_census_name_is_valid(draft->census.host_names[member->host]));
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct epx_census_draft draft = {.cards = NULL};
    struct epx_census_head head;
    bool feeds = true;
    while (bytes >= EPX_CENSUS_HEAD_BYTES && epx_census_head_decode(data, &head) == EPX_CENSUS_HEAD_VALID) {
        require(head.body_bytes <= EPX_CENSUS_BODY_MAX);
        if (bytes - EPX_CENSUS_HEAD_BYTES < head.body_bytes) {
            break;
        }
        /* A copy of its own, so that a byte read beyond it is seen. */
        uint8_t *body = malloc(head.body_bytes);
        if (body == NULL) {
            break;
        }
        memcpy(body, data + EPX_CENSUS_HEAD_BYTES, head.body_bytes);
        try_body(&head, body);
        feeds = feeds && try_draft(&draft, &head, body);
        free(body);
        data += EPX_CENSUS_HEAD_BYTES + head.body_bytes;
        bytes -= EPX_CENSUS_HEAD_BYTES + head.body_bytes;
    }
    epx_census_draft_fini(&draft);
    return 0;
}
