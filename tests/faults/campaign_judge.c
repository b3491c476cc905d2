/* What must hold after a trial. */
#include "faults/campaign.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- Ranks in a text ------------------------------------------------------------------------------------------------
 */

/* "0-4,6" to bits. */
static uint32_t parse_ranks(const char *text)
{
    uint32_t ranks = 0;
    while (isdigit((unsigned char)*text)) {
        char *end;
        unsigned long first = strtoul(text, &end, 10);
        unsigned long last = *end == '-' && isdigit((unsigned char)end[1]) ? strtoul(end + 1, &end, 10) : first;
        for (unsigned long rank = first; rank <= last && rank < CAMPAIGN_RANK_MAX; rank++) {
            ranks |= 1u << rank;
        }
        text = *end == ',' ? end + 1 + (end[1] == ' ') : end;
    }
    return ranks;
}

/* The list behind the next "rank " or "ranks "; *text moves behind the word. */
static uint32_t next_ranks(const char **text)
{
    const char *found = *text;
    while ((found = strstr(found, "rank")) != NULL) {
        found += 4;
        const char *list = found + (*found == 's');
        if (*list == ' ' && isdigit((unsigned char)list[1])) {
            *text = list;
            return parse_ranks(list + 1);
        }
    }
    return 0;
}

/* Whom a text blames: the first ranks that it names, and those that it adds. */
static uint32_t blamed_by(const char *text)
{
    const char *also = strstr(text, "; also rank");
    const char *missing = strstr(text, "missing rank");
    text = missing != NULL ? missing : text;
    uint32_t ranks = next_ranks(&text);
    return also != NULL ? ranks | next_ranks(&also) : ranks;
}

static uint32_t all_named_by(const char *text)
{
    uint32_t ranks = 0;
    for (uint32_t more = next_ranks(&text); more != 0; more = next_ranks(&text)) {
        ranks |= more;
    }
    return ranks;
}

/* ---- What must hold
 * --------------------------------------------------------------------------------------------------- */

struct judging {
    const struct campaign_board *board;
    const struct campaign_trial *trial;
    const struct campaign_outcome *outcome;
    struct campaign_verdict *verdict;
};

__attribute__((format(printf, 3, 4))) static void complain(const struct judging *judging, bool *flag,
                                                           const char *format, ...)
{
    char *why = judging->verdict->why;
    size_t used = strlen(why);
    va_list args;
    *flag = false;
    va_start(args, format);
    (void)vsnprintf(why + used, sizeof judging->verdict->why - used, format, args);
    va_end(args);
}

static bool survives(const struct judging *judging, uint32_t rank)
{
    return judging->trial->lack != CAMPAIGN_LACK_NONE || !campaign_is_victim(judging->trial, rank);
}

/* Whether the rank's answer is of the whole world: not the lack of it that it found for itself. */
static bool is_common(const struct judging *judging, uint32_t rank)
{
    const struct campaign_report *report = &judging->board->reports[rank];
    return survives(judging, rank) && report->status >= EPX_ERR_MISMATCH && strcmp(report->call, "create") != 0;
}

/* Ranks that may be blamed by `rank`. */
static uint32_t guilty_for(const struct campaign_trial *trial, uint32_t rank)
{
    uint32_t guilty = trial->victims;
    for (uint32_t other = 0; other < trial->rank_count && trial->link != CAMPAIGN_LINK_WHOLE; other++) {
        bool is_cut_off = trial->host_of[other] == trial->link_host;
        guilty |= is_cut_off != (trial->host_of[rank] == trial->link_host) ? 1u << other : 0;
    }
    return guilty;
}

static uint32_t leader_of(const struct campaign_trial *trial, uint32_t host)
{
    uint32_t rank = 0;
    while (trial->host_of[rank] != host) {
        rank++;
    }
    return rank;
}

/* A leader that cannot link its host gives up without a word to those that wait for it: rank 0 to the hosts that have
 * linked, another one to the ranks of its host. They can name no other. */
static uint32_t leaders_of(const struct campaign_trial *trial)
{
    uint32_t leaders = 0;
    for (uint32_t host = 0; host < trial->host_count; host++) {
        leaders |= 1u << leader_of(trial, host);
    }
    return leaders;
}

static void judge_name(const struct judging *judging, uint32_t rank)
{
    const struct campaign_report *report = &judging->board->reports[rank];
    uint32_t guilty = guilty_for(judging->trial, rank);
    bool is_own = judging->trial->lack != CAMPAIGN_LACK_NONE && campaign_is_victim(judging->trial, rank);
    uint32_t blamed = blamed_by(report->text);
    bool right = blamed != 0 && (blamed & ~guilty) == 0;
    if (strcmp(report->call, "create") == 0) {
        guilty |= strcmp(judging->trial->point, "census_link") == 0 ? leaders_of(judging->trial) : 0;
        right = (all_named_by(report->text) & guilty) != 0;
    }
    if (is_own) {
        right = report->text[0] != '\0' && report->status < EPX_ERR_INTERNAL;
    }
    if (!right) {
        complain(judging, &judging->verdict->named, "  rank %u names the wrong one (%#x of %#x)\n", rank, blamed,
                 guilty);
    }
}

/* Whether the protocol promises that two ranks learn the same: on one host always; on two when the leaders of both and
 * of host 0 live and reach each other. */
static bool learn_the_same(const struct campaign_trial *trial, uint32_t a, uint32_t b)
{
    uint32_t hosts[] = {trial->host_of[a], trial->host_of[b], 0};
    if (hosts[0] == hosts[1]) {
        return true;
    }
    for (uint32_t i = 0; i < 3; i++) {
        if ((trial->lack == CAMPAIGN_LACK_NONE && campaign_is_victim(trial, leader_of(trial, hosts[i]))) ||
            (trial->link != CAMPAIGN_LINK_WHOLE && hosts[i] == trial->link_host)) {
            return false;
        }
    }
    return true;
}

static void judge_sameness(const struct judging *judging)
{
    const struct campaign_trial *trial = judging->trial;
    for (uint32_t a = 0; a < trial->rank_count; a++) {
        for (uint32_t b = a + 1; b < trial->rank_count; b++) {
            const struct campaign_report *one = &judging->board->reports[a];
            const struct campaign_report *other = &judging->board->reports[b];
            if (is_common(judging, a) && is_common(judging, b) && learn_the_same(trial, a, b) &&
                (one->status != other->status || strcmp(one->text, other->text) != 0)) {
                complain(judging, &judging->verdict->same, "  ranks %u and %u learned different things\n", a, b);
                return;
            }
        }
    }
}

static double limit_ms(const struct campaign_trial *trial)
{
    int64_t limit = CAMPAIGN_GRACE_MS;
    if (trial->way == CAMPAIGN_WAY_CREATE || strstr(trial->point, "bootstrap") != NULL ||
        strstr(trial->point, "census") != NULL || trial->lack != CAMPAIGN_LACK_NONE) {
        limit += trial->join_timeout_ms;
    }
    if (trial->stops || trial->lack != CAMPAIGN_LACK_NONE) {
        limit += trial->op_timeout_ms;
    }
    return (double)(trial->link != CAMPAIGN_LINK_WHOLE ? limit + trial->host_timeout_ms : limit);
}

static void judge_survivor(const struct judging *judging, uint32_t rank)
{
    const struct campaign_trial *trial = judging->trial;
    const struct campaign_report *report = &judging->board->reports[rank];
    struct campaign_verdict *verdict = judging->verdict;
    if (report->again_status != EPX_OK) {
        complain(judging, &verdict->again, "  rank %u in the next world: status %d, %s\n", rank, report->again_status,
                 report->again_text);
    }
    if (report->files_more > 0 || report->threads_more > 0) {
        complain(judging, &verdict->clean, "  rank %u has %d more descriptors, %d more threads\n", rank,
                 report->files_more, report->threads_more);
    }
    if (verdict->unneeded) {
        return;
    }
    double took_ms = ((double)report->ended_ns - (double)judging->outcome->hit_ns) / 1e6;
    if (judging->outcome->hit_ns != 0) {
        verdict->took_ms = took_ms > verdict->took_ms ? took_ms : verdict->took_ms;
    }
    if (report->status == EPX_OK) {
        complain(judging, &verdict->detected, "  rank %u noticed nothing\n", rank);
    } else if (judging->outcome->hit_ns != 0 && took_ms > limit_ms(trial)) {
        complain(judging, &verdict->detected, "  rank %u knew after %.0f ms\n", rank, took_ms);
    }
    if (report->status != EPX_OK) {
        judge_name(judging, rank);
    }
}

/* A stopped rank that goes on learns that it is out, unless nobody needed it. */
static void judge_woken(const struct judging *judging, uint32_t rank)
{
    const struct campaign_report *report = &judging->board->reports[rank];
    if (judging->trial->stops && !judging->verdict->unneeded && judging->trial->way != CAMPAIGN_WAY_DESTROY &&
        (judging->outcome->hit >> rank & 1u) != 0 && report->status == EPX_OK) {
        complain(judging, &judging->verdict->detected, "  rank %u, stopped and woken, noticed nothing\n", rank);
    }
}

static bool everybody_is_well(const struct judging *judging)
{
    for (uint32_t rank = 0; rank < judging->trial->rank_count; rank++) {
        if (survives(judging, rank) && judging->board->reports[rank].status != EPX_OK) {
            return false;
        }
    }
    return true;
}

static bool harm_is_certain(const struct campaign_trial *trial)
{
    return trial->way == CAMPAIGN_WAY_CREATE || trial->way == CAMPAIGN_WAY_ROUNDS ||
           trial->way == CAMPAIGN_WAY_DESTROY || trial->link >= CAMPAIGN_LINK_CUT;
}

static bool harm_is_none(const struct campaign_trial *trial)
{
    return trial->class == CAMPAIGN_CALM || trial->class == CAMPAIGN_NET_CALM || trial->lack == CAMPAIGN_LACK_LOG ||
           trial->link == CAMPAIGN_LINK_SLOW || trial->link == CAMPAIGN_LINK_PAUSE;
}

static void print_reports(const struct judging *judging)
{
    bool ignored;
    for (uint32_t rank = 0; rank < judging->trial->rank_count; rank++) {
        const struct campaign_report *report = &judging->board->reports[rank];
        double took_ms = report->ended_ns == 0 || judging->outcome->hit_ns == 0
                             ? 0
                             : ((double)report->ended_ns - (double)judging->outcome->hit_ns) / 1e6;
        complain(judging, &ignored, "  rank %u%s: %s gives %d after %.0f ms, %llu rounds: %.110s\n", rank,
                 survives(judging, rank) ? "" : " (victim)", report->call, report->status, took_ms,
                 (unsigned long long)report->rounds, report->text);
    }
}

void campaign_judge(const struct campaign_board *board, const struct campaign_outcome *outcome,
                    struct campaign_verdict *verdict)
{
    const struct campaign_trial *trial = &board->trial;
    const struct judging judging = {board, trial, outcome, verdict};
    *verdict = (struct campaign_verdict){
        .detected = true, .named = true, .same = true, .clean = true, .again = true, .took_ms = 0};
    for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
        verdict->skipped = verdict->skipped || board->reports[rank].limit_refused;
    }
    verdict->unneeded =
        outcome->hung == 0 && outcome->crashed == 0 && !harm_is_certain(trial) && everybody_is_well(&judging);
    if ((harm_is_none(trial) || (trial->way == CAMPAIGN_WAY_POINT && outcome->hit == 0)) && !verdict->unneeded) {
        complain(&judging, &verdict->detected, "  a failure without a cause\n");
    }
    if (outcome->hung != 0) {
        complain(&judging, &verdict->detected, "  ranks %#x hang\n", outcome->hung);
    }
    if (outcome->crashed != 0 || outcome->left[0] != '\0') {
        complain(&judging, &verdict->clean, "  ranks %#x crashed; %s\n", outcome->crashed, outcome->left);
    }
    for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
        if (survives(&judging, rank) && ((outcome->hung | outcome->crashed) >> rank & 1u) == 0) {
            judge_survivor(&judging, rank);
        } else {
            judge_woken(&judging, rank);
        }
    }
    judge_sameness(&judging);
    if (verdict->why[0] != '\0') {
        print_reports(&judging);
    }
}
