/* Which trial a number of a class is: everything follows from the seed. */
#include "faults/campaign.h"

#include "reference/random_source.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static const char *const class_names[CAMPAIGN_CLASS_COUNT] = {
    "host-kill", "host-stop", "net-kill", "net-stop", "net-link", "lack", "calm", "net-calm",
};

static const char *const create_points[] = {"bootstrap_hello", "bootstrap_map", "bootstrap_mapped",
                                            "bootstrap_complete"};
static const char *const census_points[] = {"census_hello", "census_confirm", "census_link"};
static const char *const round_points[] = {"round.begin",    "round.publish", "round.arrive",
                                           "round.last",     "round.wait",    "round.done",
                                           "dispatch.route", "dispatch.rows", "combine.rows"};
static const char *const remote_points[] = {"remote.send", "remote.wait"};

static const char *const link_names[] = {"whole", "slow", "pause", "cut", "break", "silence"};
static const char *const lack_names[] = {"none", "log", "space", "files", "threads"};

#define COUNT(array)        ((int64_t)(sizeof(array) / sizeof((array)[0])))
#define DRAW(random, array) ((array)[random_between((random), 0, COUNT(array) - 1)])

const char *campaign_class_name(enum campaign_class class)
{
    return class_names[class];
}

static bool class_is_net(enum campaign_class class)
{
    return class == CAMPAIGN_NET_KILL || class == CAMPAIGN_NET_STOP || class == CAMPAIGN_NET_LINK ||
           class == CAMPAIGN_NET_CALM;
}

static void draw_hosts(struct random_source *random, struct campaign_trial *trial)
{
    uint32_t hosts = (uint32_t)random_between(random, 2, CAMPAIGN_HOST_MAX);
    trial->rank_count = (uint32_t)random_between(random, hosts, 6);
    trial->host_count = hosts;
    for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
        /* Each host has a rank; hosts are numbered by their lowest. */
        trial->host_of[rank] = rank < hosts ? rank : (uint32_t)random_between(random, 0, hosts - 1);
    }
    if (random_percent(random, 30)) { /* in blocks, as launchers place them */
        for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
            trial->host_of[rank] = rank * hosts / trial->rank_count;
        }
    }
}

static uint32_t ranks_of_host(const struct campaign_trial *trial, uint32_t host)
{
    uint32_t ranks = 0;
    for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
        ranks |= trial->host_of[rank] == host ? 1u << rank : 0;
    }
    return ranks;
}

/* A rank, a leader, rank 0, or all of a host. */
static uint32_t draw_victims(struct random_source *random, const struct campaign_trial *trial, bool *several)
{
    uint32_t any = 1u << random_between(random, 0, trial->rank_count - 1);
    uint32_t host = (uint32_t)random_between(random, 0, trial->host_count - 1);
    uint32_t ranks = ranks_of_host(trial, host);
    int64_t kind = trial->host_count > 1 ? random_between(random, 0, 3) : 0;
    *several = false;
    if (kind == 1) {
        return ranks & (~ranks + 1u);
    }
    if (kind == 3) {
        *several = (ranks & (ranks - 1)) != 0;
        return ranks;
    }
    return kind == 2 ? 1u : any;
}

static void set_point(struct campaign_trial *trial, const char *point, int64_t passage)
{
    (void)snprintf(trial->point, sizeof trial->point, "%s", point);
    trial->passage = (uint32_t)passage;
    trial->way = CAMPAIGN_WAY_POINT;
}

static void draw_create_point(struct random_source *random, struct campaign_trial *trial)
{
    if (trial->host_count > 1 && random_percent(random, 60)) {
        set_point(trial, DRAW(random, census_points), 1);
        return;
    }
    set_point(trial, DRAW(random, create_points), 1);
    if (strcmp(trial->point, "bootstrap_map") == 0) {
        trial->passage = (uint32_t)random_between(random, 1, trial->rank_count);
    }
}

static void draw_harm(struct random_source *random, struct campaign_trial *trial)
{
    bool several;
    int64_t way = random_between(random, 0, 9);
    trial->victims = draw_victims(random, trial, &several);
    if (way < 1) {
        trial->way = CAMPAIGN_WAY_CREATE;
        trial->delay_us = (uint32_t)random_between(random, 0, trial->host_count > 1 ? 150000 : 20000);
    } else if (way < 4 || several) {
        trial->way = CAMPAIGN_WAY_ROUNDS;
        trial->delay_us = (uint32_t)random_between(random, 0, 60000);
    } else if (way < 5) {
        trial->way = CAMPAIGN_WAY_DESTROY;
        trial->round_count = (uint32_t)random_between(random, 0, 4);
        trial->delay_us = (uint32_t)random_between(random, 0, 1500);
    } else if (way < 6) {
        draw_create_point(random, trial);
    } else if (trial->host_count > 1 && way < 8) {
        set_point(trial, DRAW(random, remote_points), random_between(random, 1, 12));
    } else {
        set_point(trial, DRAW(random, round_points), random_between(random, 1, 6));
    }
}

static void draw_link(struct random_source *random, struct campaign_trial *trial)
{
    trial->link = (enum campaign_link)random_between(random, CAMPAIGN_LINK_SLOW, CAMPAIGN_LINK_SILENCE);
    trial->link_host = (uint32_t)random_between(random, 0, trial->host_count - 1);
    trial->delay_us = (uint32_t)random_between(random, 0, 60000);
    trial->host_timeout_ms = 1000 * CAMPAIGN_SLOWNESS;
    trial->op_timeout_ms = random_percent(random, 50) ? 20000 : 2000 * CAMPAIGN_SLOWNESS;
    if (trial->link == CAMPAIGN_LINK_SLOW || trial->link == CAMPAIGN_LINK_PAUSE) {
        trial->host_timeout_ms = 5000 * CAMPAIGN_SLOWNESS;
        trial->op_timeout_ms = 20000;
        trial->round_count = 12;
    }
}

static void draw_lack(struct random_source *random, struct campaign_trial *trial)
{
    if (random_percent(random, 35)) {
        draw_hosts(random, trial);
    }
    trial->lack = (enum campaign_lack)random_between(random, CAMPAIGN_LACK_LOG, CAMPAIGN_LACK_KIND_COUNT - 1);
    trial->lack_at_create = random_percent(random, 60);
    trial->round_count = 6;
    trial->victims = 1u << random_between(random, 0, trial->rank_count - 1);
    trial->join_timeout_ms = 2000 * CAMPAIGN_SLOWNESS;
    trial->op_timeout_ms = 2000 * CAMPAIGN_SLOWNESS;
    switch (trial->lack) {
    case CAMPAIGN_LACK_SPACE: trial->lack_amount = (uint64_t)random_between(random, 1, 64) * MIB; break;
    case CAMPAIGN_LACK_FILES: trial->lack_amount = (uint64_t)random_between(random, 0, 20); break;
    default: break;
    }
}

void campaign_draw(enum campaign_class class, uint32_t number, uint64_t seed, struct campaign_trial *trial)
{
    struct random_source random;
    uint64_t own = random_mix(seed, ((uint64_t) class << 32) + number);
    random_seed(&random, own);
    *trial = (struct campaign_trial){
        .class = class,
        .seed = own,
        .number = number,
        .rank_count = (uint32_t)random_between(&random, 2, CAMPAIGN_RANK_MAX),
        .host_count = 1,
        .stops = class == CAMPAIGN_HOST_STOP || class == CAMPAIGN_NET_STOP,
        .round_count = 0,
        .join_timeout_ms = 1500 * CAMPAIGN_SLOWNESS,
        .op_timeout_ms = 20000,
        .host_timeout_ms = 5000 * CAMPAIGN_SLOWNESS,
        .counts_files = random_percent(&random, 40),
        .wakes_early = random_percent(&random, 50),
    };
    if (class_is_net(class)) {
        draw_hosts(&random, trial);
        trial->join_timeout_ms = 4000 * CAMPAIGN_SLOWNESS;
    }
    if (trial->stops) {
        trial->op_timeout_ms = 500 * CAMPAIGN_SLOWNESS;
        trial->host_timeout_ms = random_percent(&random, 50) ? 1000 * CAMPAIGN_SLOWNESS : 300 * CAMPAIGN_SLOWNESS;
    }
    switch (class) {
    case CAMPAIGN_NET_LINK: draw_link(&random, trial); break;
    case CAMPAIGN_LACK: draw_lack(&random, trial); break;
    case CAMPAIGN_CALM:
    case CAMPAIGN_NET_CALM:
        trial->round_count = (uint32_t)random_between(&random, 1, 8);
        trial->skew_us = random_percent(&random, 30) ? 50000 : (uint32_t)random_between(&random, 0, 5000);
        trial->load = random_percent(&random, 50) ? (uint32_t)random_between(&random, 1, 3) : 0;
        trial->join_timeout_ms = 20000;
        break;
    default: draw_harm(&random, trial); break;
    }
    if (trial->way == CAMPAIGN_WAY_POINT) {
        trial->round_count = 8;
    }
}

void campaign_trial_print(const struct campaign_trial *trial, char *text, size_t text_bytes)
{
    static const char *const ways[] = {"nothing", "point", "in create", "in rounds", "in destroy"};
    char hosts[CAMPAIGN_RANK_MAX + 1] = "";
    char what[128] = "";
    for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
        hosts[rank] = (char)('a' + trial->host_of[rank]);
        hosts[rank + 1] = '\0';
    }
    if (trial->link != CAMPAIGN_LINK_WHOLE) {
        (void)snprintf(what, sizeof what, "links of host %c %s after %u us", 'a' + trial->link_host,
                       link_names[trial->link], trial->delay_us);
    } else if (trial->lack != CAMPAIGN_LACK_NONE) {
        (void)snprintf(what, sizeof what, "ranks %#x lack %s (%llu) %s", trial->victims, lack_names[trial->lack],
                       (unsigned long long)trial->lack_amount, trial->lack_at_create ? "at create" : "in rounds");
    } else if (trial->way != CAMPAIGN_WAY_NONE) {
        (void)snprintf(what, sizeof what, "%s ranks %#x %s %s:%u, %u us", trial->stops ? "stop" : "kill",
                       trial->victims, ways[trial->way], trial->point, trial->passage, trial->delay_us);
    }
    (void)snprintf(text, text_bytes,
                   "%s trial %u: ranks on hosts %s, %s, op %lld ms, host %lld ms, skew %u us, load %u",
                   class_names[trial->class], trial->number, hosts, what, (long long)trial->op_timeout_ms,
                   (long long)trial->host_timeout_ms, trial->skew_us, trial->load);
}
