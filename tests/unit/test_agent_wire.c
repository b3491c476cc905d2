/* Messages between agents: what is right comes out as it went in, what is wrong is refused whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "comm/agent_wire.h"
#include "comm/control_region.h"

#define RANKS 300u

static struct epx_agent_message message;
static struct epx_agent_message decoded;

static int64_t decode(size_t bytes)
{
    return epx_agent_message_decode((const uint8_t *)&message, bytes, RANKS, &decoded);
}

static void expect_whole(void)
{
    size_t bytes = epx_agent_message_bytes(&message);
    for (size_t part = 0; part < bytes; part++) {
        assert_int_equal(decode(part), 0);
    }
    assert_int_equal(decode(bytes), (int64_t)bytes);
    assert_memory_equal(&message, &decoded, bytes);
    assert_int_equal(decode(bytes + 7), (int64_t)bytes);
}

static void cause_make(enum epx_agent_kind kind)
{
    memset(&message, 0, sizeof message);
    message.body.cause = (struct epx_agent_cause){.steps = 12, .rank = 299, .status = EPX_ERR_TIMEOUT, .of_world = 1};
    memset(message.body.cause.text, 'x', sizeof message.body.cause.text - 1);
    epx_agent_message_seal(&message, kind);
}

static void status_make(uint32_t count)
{
    memset(&message, 0, sizeof message);
    message.body.status.count = count;
    for (uint32_t i = 0; i < count; i++) {
        message.body.status.places[i] = (struct epx_agent_place){.rank = i,
                                                                 .life = EPX_LIFE_LEFT,
                                                                 .arrived_step = UINT64_MAX,
                                                                 .activity = i,
                                                                 .age_ns = UINT64_MAX,
                                                                 .heard_ns = i};
    }
    epx_agent_message_seal(&message, EPX_AGENT_STATUS);
}

static void decode__every_kind(void **state)
{
    (void)state;
    for (int kind = EPX_AGENT_ARRIVED; kind <= EPX_AGENT_COMPLETE; kind++) {
        memset(&message, 0, sizeof message);
        message.body.step.step = UINT64_C(0x123456789ABC);
        epx_agent_message_seal(&message, (enum epx_agent_kind)kind);
        expect_whole();
    }
    cause_make(EPX_AGENT_PROPOSE);
    expect_whole();
    cause_make(EPX_AGENT_FAILED);
    expect_whole();
    status_make(0);
    expect_whole();
    status_make(EPX_AGENT_STATUS_MAX);
    expect_whole();
    memset(&message, 0, sizeof message);
    epx_agent_message_seal(&message, EPX_AGENT_BYE);
    expect_whole();
}

static void expect_refused(void)
{
    assert_int_equal(decode(sizeof message), -1);
}

static void decode__headers(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < 9; kind++) {
        memset(&message, 0, sizeof message);
        epx_agent_message_seal(&message, EPX_AGENT_BYE);
        message.kind = kind;
        message.body_bytes = kind == EPX_AGENT_BYE ? 1 : 0;
        expect_refused();
    }
    epx_agent_message_seal(&message, EPX_AGENT_BYE);
    message.magic++;
    expect_refused();
    epx_agent_message_seal(&message, EPX_AGENT_BYE);
    message.zero = 1;
    expect_refused();
    /* Known to be wrong before the rest has come. */
    cause_make(EPX_AGENT_FAILED);
    message.body_bytes = UINT32_MAX;
    assert_int_equal(decode(EPX_AGENT_HEADER_BYTES), -1);
}

static void decode__bodies(void **state)
{
    (void)state;
    cause_make(EPX_AGENT_FAILED);
    message.body.cause.rank = RANKS;
    expect_refused();
    cause_make(EPX_AGENT_FAILED);
    message.body.cause.status = EPX_OK;
    expect_refused();
    cause_make(EPX_AGENT_FAILED);
    message.body.cause.status = 123456;
    expect_refused();
    cause_make(EPX_AGENT_FAILED);
    message.body.cause.of_world = 2;
    expect_refused();
    cause_make(EPX_AGENT_FAILED);
    message.body.cause.text[sizeof message.body.cause.text - 1] = 'x';
    expect_refused();
    status_make(2);
    message.body.status.count = 1;
    expect_refused();
    status_make(EPX_AGENT_STATUS_MAX);
    message.body.status.count = UINT32_MAX;
    expect_refused();
    status_make(2);
    message.body.status.places[1].rank = RANKS;
    expect_refused();
    status_make(2);
    message.body.status.places[1].life = EPX_LIFE_LEFT + 1;
    expect_refused();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode__every_kind),
        cmocka_unit_test(decode__headers),
        cmocka_unit_test(decode__bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
