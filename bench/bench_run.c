#include "bench_run.h"

#include "bench_json.h"
#include "bench_process.h"
#include "round.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Floors around a repeat that differ by more say that the machine changed meanwhile. */
#define FLOOR_DIFFERENCE_MAX 0.20

/* Repeats of a point that may be done again because of that. */
#define AGAIN_MAX 4

/* Seconds between lines of progress where there is no terminal. */
#define PROGRESS_SECONDS 10

struct progress {
    const struct bench_run *run;
    const struct bench_case *sizes;
    const struct bench_contender *contender;
    int64_t repeat;
};

struct point_run {
    struct bench_run *run;
    struct bench_point *point;
    struct bench_point floor; /* the latest run of the floor; of no series: there is no floor */
    struct progress progress;
};

/* ---- Progress ------------------------------------------------------------------------------------------------ */

void bench_run_clear_line(void)
{
    if (isatty(STDERR_FILENO)) {
        (void)fprintf(stderr, "\r\033[K");
    }
}

static void show_progress(void *context)
{
    static uint64_t last_ns;
    const struct progress *progress = context;
    bool terminal = isatty(STDERR_FILENO) != 0;
    uint64_t now_ns = bench_now_ns();
    last_ns = last_ns == 0 ? now_ns : last_ns;
    if (!terminal && now_ns - last_ns < PROGRESS_SECONDS * UINT64_C(1000000000)) {
        return;
    }
    last_ns = now_ns;
    (void)fprintf(stderr, "%spoint %zu/%zu (%lld ranks, %lld hosts, BS %lld, %s), repeat %lld/%lld: %s %s%s",
                  terminal ? "\r\033[K" : "epx bench: ", progress->run->point_index + 1, progress->run->point_count,
                  (long long)progress->sizes->rank_count, (long long)progress->sizes->host_count,
                  (long long)progress->sizes->token_count,
                  progress->sizes->quantize              ? "int8"
                  : progress->sizes->dtype == BENCH_BF16 ? "bf16"
                                                         : "fp16",
                  (long long)progress->repeat + 1, (long long)progress->run->options->repeats,
                  bench_engine_names[progress->contender->kind], progress->contender->variant, terminal ? "" : "\n");
}

/* ---- One engine ---------------------------------------------------------------------------------------------- */

static void fail(struct bench_run *run, struct bench_contender *contender, const char *why)
{
    bench_run_clear_line();
    (void)fprintf(stderr, "epx bench: %s %s is not measured any more: %s\n", bench_engine_names[contender->kind],
                  contender->variant, why);
    contender->out = true;
    /* Not every build of MPI has every transport. */
    run->failures += contender->kind != BENCH_MPI || run->options->mpi != NULL;
}

/* Adds what it measured to repeat 0 of `into`, which is left as it was when the engine fails. False: a signal. */
static bool run_contender(struct point_run *now, struct bench_contender *contender, struct bench_point *into)
{
    struct bench_command command;
    struct bench_output output;
    struct bench_case sizes = now->point->sizes;
    sizes.check = now->progress.repeat == 0; /* from then on digests are enough */
    now->progress.contender = contender;
    show_progress(&now->progress);
    bench_contender_command(contender, &sizes, now->run->options->round_trip, &command);
    enum bench_end end =
        bench_process_run(command.argv, (double)now->run->options->limit_s, show_progress, &now->progress, &output);
    struct bench_point taken = {.sizes = now->point->sizes};
    if (end == BENCH_FAILED || end == BENCH_HUNG) {
        fail(now->run, contender, output.why);
    } else if (end == BENCH_ENDED) {
        if (bench_json_take_records(&taken, output.text, output.bytes)) {
            bench_point_merge(into, &taken, 0);
        } else {
            fail(now->run, contender, "its output cannot be used");
        }
    }
    bench_point_fini(&taken);
    free(output.text);
    return end != BENCH_INTERRUPTED;
}

/* What is run around the others. */
static enum bench_engine_kind floor_of(const struct bench_point *point)
{
    return point->sizes.host_count > 1 ? BENCH_WIRE : BENCH_FLOOR;
}

static struct bench_contender *find_floor(struct bench_run *run, const struct bench_point *point)
{
    for (size_t i = 0; i < run->contenders.count; i++) {
        struct bench_contender *contender = &run->contenders.list[i];
        if (contender->kind == floor_of(point) && !contender->out) {
            return contender;
        }
    }
    return NULL;
}

static bool run_floor(struct point_run *now, struct bench_point *into)
{
    struct bench_contender *floor = find_floor(now->run, now->point);
    return floor == NULL || run_contender(now, floor, into);
}

/* ---- Results of engines against each other ------------------------------------------------------------------- */

static void complain(struct bench_run *run, const struct bench_case *sizes, const char *text)
{
    bench_run_clear_line();
    (void)fprintf(stderr, "epx bench: wrong results (%lld ranks, BS %lld): %s\n", (long long)sizes->rank_count,
                  (long long)sizes->token_count, text);
    run->failures++;
}

static const char *digest_of(const struct bench_outcome *outcome, const char *operation)
{
    return strcmp(operation, "dispatch") == 0  ? outcome->dispatch_digest
           : strcmp(operation, "combine") == 0 ? outcome->combine_digest
                                               : outcome->product_digest;
}

/* Two-level sums are rounded once more. */
static bool same_bits(const struct bench_outcome *outcome, const struct bench_outcome *other, const char *operation)
{
    return strcmp(operation, "combine") != 0 ||
           bench_is_two_level(outcome->variant) == bench_is_two_level(other->variant);
}

/* An engine's digest, if it has one, is that of the first that must have the same. */
static void check_digest(struct bench_run *run, const struct bench_point *point, const struct bench_outcome *outcome,
                         const char *operation)
{
    char text[512];
    const char *digest = digest_of(outcome, operation);
    const struct bench_outcome *first = NULL;
    const char *first_digest = "";
    for (size_t i = 0; i < point->outcome_count && *first_digest == '\0'; i++) {
        first = &point->outcomes[i];
        first_digest = same_bits(outcome, first, operation) ? digest_of(first, operation) : "";
    }
    if (*digest != '\0' && strcmp(digest, first_digest) != 0) {
        (void)snprintf(text, sizeof text, "the %s of %s %s has digest %s, that of %s %s has %s", operation,
                       outcome->engine, outcome->variant, digest, first->engine, first->variant, first_digest);
        complain(run, &point->sizes, text);
    }
}

/* All engines are given the same inputs, so they must give the same bytes, but for sums of two levels. */
static void check_outcomes(struct bench_run *run, const struct bench_point *point)
{
    char text[256];
    for (size_t i = 0; i < point->outcome_count; i++) {
        const struct bench_outcome *outcome = &point->outcomes[i];
        if (outcome->facts[BENCH_WRONG] > 0) {
            (void)snprintf(text, sizeof text, "%lld rows of %s %s are not what they must be",
                           (long long)outcome->facts[BENCH_WRONG], outcome->engine, outcome->variant);
            complain(run, &point->sizes, text);
        }
        check_digest(run, point, outcome, "dispatch");
        check_digest(run, point, outcome, "combine");
        check_digest(run, point, outcome, "product");
    }
}

/* ---- Repeats ------------------------------------------------------------------------------------------------- */

static double best_floor_ns(const struct bench_point *floor, const char *operation)
{
    const struct bench_series *best = bench_point_best(floor, operation, bench_engine_names[floor_of(floor)]);
    return best != NULL ? bench_repeat_percentile(&best->repeats[0], 0.5) : NAN;
}

static bool floors_differ(const struct bench_point *before, const struct bench_point *after)
{
    static const char *const operations[] = {"dispatch", "combine", "round_trip"};
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (bench_difference(best_floor_ns(before, operations[i]), best_floor_ns(after, operations[i])) >
            FLOOR_DIFFERENCE_MAX) {
            return true; /* not for NaN: there is no such floor */
        }
    }
    return false;
}

/* Everybody but the floor, another one first in each repeat. */
static bool run_others(struct point_run *now, struct bench_point *into)
{
    struct bench_contenders *contenders = &now->run->contenders;
    for (size_t i = 0; i < contenders->count; i++) {
        struct bench_contender *contender = &contenders->list[(i + (size_t)now->progress.repeat) % contenders->count];
        bool runs = contender->kind != floor_of(now->point) && !contender->out &&
                    bench_contender_fits(contender, &now->point->sizes);
        if (runs && !run_contender(now, contender, into)) {
            return false;
        }
    }
    return true;
}

/* The floor after a repeat is the floor before the next. False: a signal. */
static bool run_repeat(struct point_run *now, bool may_refuse, bool *refused)
{
    struct bench_point taken = {.sizes = now->point->sizes};
    struct bench_point after = {.sizes = now->point->sizes};
    *refused = false;
    bool going = run_others(now, &taken) && run_floor(now, &after);
    if (going) {
        bool differ = floors_differ(&now->floor, &after);
        *refused = differ && may_refuse;
        now->point->repeats_refused += *refused;
        now->point->repeats_unsteady += differ && !may_refuse;
        if (!*refused) {
            bench_point_merge(&taken, &now->floor, 0);
            bench_point_merge(&taken, &after, 0);
            check_outcomes(now->run, &taken);
            bench_point_merge(now->point, &taken, now->progress.repeat);
        }
    }
    bench_point_fini(&taken);
    bench_point_fini(&now->floor);
    now->floor = after;
    return going;
}

bool bench_run_point(struct bench_run *run, struct bench_point *point)
{
    struct point_run now = {.run = run, .point = point, .floor = {.sizes = point->sizes}};
    now.progress = (struct progress){.run = run, .sizes = &point->sizes};
    bool going = run_floor(&now, &now.floor);
    int64_t again = 0;
    while (going && now.progress.repeat < run->options->repeats) {
        bool refused = false;
        going = run_repeat(&now, again < AGAIN_MAX, &refused);
        again += refused;
        now.progress.repeat += !refused;
    }
    bench_point_fini(&now.floor);
    bench_run_clear_line();
    bench_point_relate(point);
    return going;
}
