#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAR_WIDTH 24

static void print_bar(int64_t value, int64_t largest)
{
    int64_t eighths = largest > 0 ? value * BAR_WIDTH * 8 / largest : 0;
    static const char *const parts[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    for (int64_t i = 0; i < BAR_WIDTH; i++) {
        int64_t left = eighths - i * 8;
        (void)fputs(left >= 8 ? "█" : left > 0 ? parts[left] : " ", stdout);
    }
}

static void print_experts(const struct demo_options *options, const struct board *board, int64_t rank)
{
    if (rank < options->shared_ranks) {
        (void)printf(" shared");
        return;
    }
    int64_t first = (rank - options->shared_ranks) * board->local_experts;
    const int64_t *rows = board_expert_rows(board, rank);
    int64_t shown = board->local_experts < 8 ? board->local_experts : 8;
    for (int64_t local = 0; local < shown; local++) {
        (void)printf(" %lld:%lld", (long long)(first + local), (long long)rows[local]);
    }
    if (shown < board->local_experts) {
        (void)printf(" … %lld more", (long long)(board->local_experts - shown));
    }
}

static void print_rows(const struct demo_options *options, const struct board *board)
{
    int64_t largest = 0;
    int64_t total = 0;
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        int64_t rows = board->ranks[rank].rows;
        largest = rows > largest ? rows : largest;
        total += rows;
    }
    (void)printf("\n server rank   rows  %-*s  expert:rows\n", BAR_WIDTH, "");
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        (void)printf(" %6lld %4lld %6lld  ", (long long)(rank / options->ranks_per_server), (long long)rank,
                     (long long)board->ranks[rank].rows);
        print_bar(board->ranks[rank].rows, largest);
        (void)printf(" ");
        print_experts(options, board, rank);
        (void)printf("\n");
    }
    (void)printf(" %6s %4s %6lld\n", "", options->server < 0 ? "all" : "here", (long long)total);
}

static void print_bytes(const char *name, int64_t bytes)
{
    (void)printf(" %-10s %9.2f MiB read from their owners in each round\n", name, (double)bytes / 1048576.0);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Of the slowest rank of each round. */
static void print_phases(const struct demo_options *options, const struct board *board, enum board_form form,
                         uint64_t *slowest)
{
    static const char *const names[BOARD_PHASE_COUNT] = {"dispatch", "  moving rows", "experts", "combine",
                                                         "  moving rows"};
    for (int phase = 0; phase < BOARD_PHASE_COUNT; phase++) {
        memset(slowest, 0, (size_t)options->rounds * sizeof *slowest);
        for (int64_t round = 0; round < options->rounds; round++) {
            for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
                uint64_t spent = board_phase_ns(options, board, rank, round, form)[phase];
                slowest[round] = spent > slowest[round] ? spent : slowest[round];
            }
        }
        size_t middle = (size_t)options->rounds / 2;
        qsort(slowest, (size_t)options->rounds, sizeof *slowest, compare_u64);
        (void)printf(" %-14s %9.0f %9.0f %9.0f\n", names[phase], (double)slowest[middle] / 1e3,
                     (double)slowest[0] / 1e3, (double)slowest[options->rounds - 1] / 1e3);
    }
}

static void print_times(const struct demo_options *options, const struct board *board)
{
    uint64_t *slowest = calloc((size_t)options->rounds, sizeof *slowest);
    if (slowest == NULL) {
        return;
    }
    (void)printf("\n phase             median       min       max   µs, slowest rank of each of %lld rounds\n",
                 (long long)options->rounds);
    print_phases(options, board, BOARD_COPIES, slowest);
    if (options->views) {
        (void)printf(" with row views:\n");
        print_phases(options, board, BOARD_VIEWS, slowest);
    }
    free(slowest);
}

void report_print(const struct demo_options *options, const struct board *board)
{
    int64_t dispatch_bytes[BOARD_FORM_COUNT] = {0};
    int64_t combine_bytes = 0;
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        dispatch_bytes[BOARD_COPIES] += board->ranks[rank].dispatch_bytes[BOARD_COPIES];
        dispatch_bytes[BOARD_VIEWS] += board->ranks[rank].dispatch_bytes[BOARD_VIEWS];
        combine_bytes += board->ranks[rank].combine_bytes;
    }
    print_rows(options, board);
    (void)printf("\n");
    print_bytes("dispatch", dispatch_bytes[BOARD_COPIES]);
    if (options->views) {
        print_bytes("  as views", dispatch_bytes[BOARD_VIEWS]);
    }
    print_bytes("combine", combine_bytes);
    print_times(options, board);
    (void)printf("\n");
}
