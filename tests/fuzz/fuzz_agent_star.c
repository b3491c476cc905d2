/*
 * Any bytes as what other hosts' agents send, to the agent of host 0 or of another: what it does with messages that are
 * well-formed and yet wrong. Whatever comes, the word goes from one step to the next or to failed, a cause has a rank
 * and a text, and records and places of ranks here are not touched.
 */
#include "comm/agent.c" /* its functions are its own */
#include "comm/control_region.h"

#include <limits.h>

#define RANKS       4u
#define HOSTS       2u
#define RECORD_MARK "of the rank itself"
/* A descriptor that is none: what is sent goes nowhere. */
#define NOWHERE (INT_MAX / 2)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static struct {
    struct epx_comm comm;
    struct epx_hosts hosts;
    struct epx_control *control;
    struct epx_agent agent;
    struct epx_agent_link link;
    uint8_t in[2 * sizeof(struct epx_agent_message)];
    uint8_t out[EPX_AGENT_OUT_BYTES];
} scene;

/* Ranks 0 and 1 on host 0, 2 and 3 on host 1. */
static void hosts_init(uint32_t own_host)
{
    static uint32_t host_of[RANKS] = {0, 0, 1, 1};
    static uint32_t place_of[RANKS] = {0, 1, 0, 1};
    static uint32_t host_first[HOSTS + 1] = {0, 2, 4};
    static uint32_t host_ranks[RANKS] = {0, 1, 2, 3};
    static uint32_t pids[RANKS] = {1000, 1001, 1002, 1003};
    static char names[HOSTS][EPX_CENSUS_NAME_BYTES] = {"a", "b"};
    scene.hosts = (struct epx_hosts){.host_count = HOSTS,
                                     .own_host = own_host,
                                     .here_count = 2,
                                     .host_of = host_of,
                                     .place_of = place_of,
                                     .host_first = host_first,
                                     .host_ranks = host_ranks,
                                     .pids = pids,
                                     .host_names = names,
                                     .silence_ns = 1000000000u};
}

static void scene_init(uint32_t own_host, uint64_t world_step, bool has_arrived)
{
    if (scene.control == NULL) {
        scene.control = aligned_alloc(4096, (epx_control_bytes(RANKS) + 4095) / 4096 * 4096);
        require(scene.control != NULL);
    }
    memset(scene.control, 0, epx_control_bytes(RANKS));
    require(epx_control_open(scene.control, RANKS) == EPX_OK);
    hosts_init(own_host);
    scene.comm.rank = own_host * 2;
    scene.comm.rank_count = RANKS;
    scene.comm.here_count = 2;
    scene.comm.hosts = &scene.hosts;
    scene.comm.control = scene.control;
    scene.comm.slot = &scene.control->slots[scene.comm.rank];
    for (uint32_t rank = own_host * 2; rank < own_host * 2 + 2; rank++) {
        atomic_store(&scene.control->slots[rank].failure.status, EPX_ERR_COUNTS);
        strcpy(scene.control->slots[rank].failure.text, RECORD_MARK);
        atomic_store(&scene.control->slots[rank].life, EPX_LIFE_JOINED);
        atomic_store(&scene.control->slots[rank].activity, 0x1234);
    }
    atomic_store(&scene.control->word.value, epx_word_make(world_step > 0 ? world_step - 1 : 0, 0));
    atomic_store(&scene.control->world_step, world_step);
    atomic_store(&scene.control->arrivals, has_arrived ? world_step * 2 : 0);
    scene.link = (struct epx_agent_link){.fd = NOWHERE, .host = 1 - own_host, .in = scene.in, .out = scene.out};
    scene.agent = (struct epx_agent){.comm = &scene.comm,
                                     .decides = own_host == 0,
                                     .limit_ns = 1000000000u,
                                     .beat_ns = 200000000u,
                                     .link_count = 1,
                                     .links = &scene.link,
                                     .next_beat_ns = EPX_NEVER};
}

static void check(uint32_t own_host, uint64_t step_before)
{
    uint64_t word = atomic_load(&scene.control->word.value);
    uint32_t failed = epx_word_failed(word);
    require(epx_word_step(word) == step_before || epx_word_step(word) == step_before + 1);
    require(failed <= RANKS);
    if (failed != 0) {
        const struct epx_control_failure *record = &scene.control->slots[failed - 1].failure;
        require(memchr(record->text, '\0', sizeof record->text) != NULL);
    }
    for (uint32_t rank = own_host * 2; rank < own_host * 2 + 2; rank++) {
        const struct epx_control_slot *slot = &scene.control->slots[rank];
        require(strcmp(slot->failure.text, RECORD_MARK) == 0);
        require(atomic_load(&slot->life) == EPX_LIFE_JOINED && atomic_load(&slot->activity) == 0x1234);
    }
}

/* As much as there is room for, as a socket would give it. */
static void feed(const uint8_t *data, size_t bytes)
{
    while (scene.link.fd >= 0) {
        size_t room = sizeof scene.in - scene.link.in_used;
        size_t count = bytes < room ? bytes : room;
        memcpy(scene.in + scene.link.in_used, data, count);
        scene.link.in_used += count;
        data += count;
        bytes -= count;
        bool any = false;
        while (epx_agent_link_take(&scene.link, RANKS, &scene.agent.message)) {
            on_message(&scene.agent, &scene.link, epx_clock_ns());
            any = true;
        }
        if (!any && count == 0) {
            break;
        }
    }
}

/* The first byte: whose agent it is, the step of the world, whether the ranks here have arrived, a proposal. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0) {
        return 0;
    }
    uint32_t own_host = data[0] & 1;
    uint64_t world_step = data[0] >> 1 & 3;
    if (scene.control == NULL) {
        (void)setenv("EPX_LOG", "none", 1);
    }
    scene_init(own_host, world_step, (data[0] & 8) != 0);
    uint64_t step_before = epx_word_step(atomic_load(&scene.control->word.value));
    if ((data[0] & 16) != 0) {
        atomic_store(&scene.control->proposal, epx_word_make(step_before, own_host * 2 + 1));
    }
    look(&scene.agent);
    feed(data + 1, bytes - 1);
    look(&scene.agent);
    if (scene.link.fd < 0) {
        look_at_losses(&scene.agent);
    }
    tell_places(&scene.agent, &scene.link);
    check(own_host, step_before);
    epx_agent_link_lose(&scene.link, "over");
    return 0;
}
