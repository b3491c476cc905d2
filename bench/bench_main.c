#include "bench_main.h"

#include "bench_environment.h"
#include "bench_json.h"
#include "bench_plot.h"
#include "bench_process.h"
#include "bench_report.h"
#include "bench_run.h"
#include "hosts.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- Grid ---------------------------------------------------------------------------------------------------- */

/* Enough rounds for steady percentiles, few enough that a large point takes seconds: they move this much together. */
#define ROUNDS_BYTES 2e9
#define ROUNDS_MIN   5
#define ROUNDS_MAX   200

static int64_t rounds_for(const struct bench_case *sizes)
{
    double rounds = ROUNDS_BYTES / bench_payload_bytes(sizes, "combine");
    return rounds < ROUNDS_MIN ? ROUNDS_MIN : rounds > ROUNDS_MAX ? ROUNDS_MAX : (int64_t)rounds;
}

/* The smallest multiple of the ranks that is at least 16 and K. */
static int64_t experts_for(const struct bench_case *sizes)
{
    int64_t wanted = sizes->topk > 16 ? sizes->topk : 16;
    return (wanted + sizes->rank_count - 1) / sizes->rank_count * sizes->rank_count;
}

static int64_t pick(const struct bench_list *list, size_t *place)
{
    int64_t value = (int64_t)list->values[*place % list->count];
    *place /= list->count;
    return value;
}

static void complete_case(const struct bench_options *options, struct bench_case *sizes)
{
    sizes->expert_count = sizes->expert_count != 0 ? sizes->expert_count : experts_for(sizes);
    sizes->processes = options->processes;
    sizes->warmup = options->warmup;
    sizes->rounds = options->rounds != 0 ? options->rounds : rounds_for(sizes);
    sizes->seed = (uint64_t)options->seed;
    sizes->skew_us = options->skew_us;
    sizes->product_columns = options->product_columns;
}

/* Every combination, BS changing fastest. False: some do not fit together. */
static bool make_grid(const struct bench_options *options, struct bench_results *results)
{
    size_t count = options->bs.count * options->ranks.count * options->hosts.count * options->hidden.count *
                   options->topk.count * options->experts.count * options->dtype.count * options->quant.count *
                   options->zipf.count * options->cold.count * options->threads.count;
    for (size_t i = 0; i < count; i++) {
        struct bench_case sizes = BENCH_CASE_INIT;
        size_t place = i;
        sizes.token_count = pick(&options->bs, &place);
        sizes.rank_count = pick(&options->ranks, &place);
        sizes.host_count = pick(&options->hosts, &place);
        sizes.hidden_elems = pick(&options->hidden, &place);
        sizes.topk = pick(&options->topk, &place);
        sizes.expert_count = pick(&options->experts, &place);
        sizes.dtype = (enum bench_dtype)pick(&options->dtype, &place);
        sizes.quantize = pick(&options->quant, &place) != 0;
        sizes.zipf = options->zipf.values[place % options->zipf.count];
        place /= options->zipf.count;
        sizes.cold = pick(&options->cold, &place) != 0;
        sizes.threads = pick(&options->threads, &place);
        complete_case(options, &sizes);
        if (!bench_case_check(&sizes)) {
            return false;
        }
        (void)bench_results_add_point(results, &sizes);
    }
    return true;
}

/* ---- Run ----------------------------------------------------------------------------------------------------- */

static void end_by_signal(int number)
{
    bench_run_clear_line();
    (void)fprintf(stderr, "epx bench: ended by signal %d; nothing is left running\n", number);
    (void)fflush(stdout);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

/* As many as the largest point has, for all engines; they are gone when this program is. */
static bool show_hosts(const struct bench_options *options)
{
    struct bench_hosts hosts;
    int64_t most = bench_options_host_max(options);
    return most == 1 || (bench_hosts_make(&hosts, most, "epx bench") && bench_hosts_show(&hosts));
}

static int measure(const struct bench_options *options, struct bench_results *results)
{
    struct bench_run run = {.options = options};
    if (!make_grid(options, results) || !bench_contenders_find(&run.contenders, options)) {
        return 2;
    }
    bench_environment_read(&results->environment);
    bench_process_prepare();
    if (!show_hosts(options)) {
        return 2;
    }
    bench_report_head(&results->environment);
    run.point_count = results->point_count;
    for (; run.point_index < run.point_count; run.point_index++) {
        struct bench_point *point = &results->points[run.point_index];
        bool going = bench_run_point(&run, point);
        bench_report_point(point, options->all_variants);
        if (!going) {
            end_by_signal(bench_process_interrupted());
            return 1;
        }
    }
    return run.failures == 0 ? 0 : 1;
}

static int show(const struct bench_options *options, struct bench_results *results)
{
    if (!bench_json_read(options->from, results)) {
        return 2;
    }
    bench_report_head(&results->environment);
    for (size_t i = 0; i < results->point_count; i++) {
        bench_report_point(&results->points[i], options->all_variants);
    }
    return 0;
}

static int write_all(const struct bench_options *options, const struct bench_results *results,
                     const struct bench_results *before)
{
    bench_report_starts(results);
    bench_report_hosts(results);
    bench_report_foot(results);
    if (options->compare != NULL) {
        bench_report_compare(before, results);
    }
    bool written = options->json == NULL || bench_json_write(options->json, results);
    written = (options->csv == NULL || bench_report_csv(options->csv, results)) && written;
    written = (options->plot == NULL || bench_plot(options->plot, results)) && written;
    return written && fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}

/* Returns only when it cannot. */
static int become_parts(void)
{
    char program[PATH_MAX];
    char *argv[] = {program, NULL};
    if (bench_engine_find("epx-bench-parts", program)) {
        (void)execv(program, argv);
    }
    (void)fprintf(stderr, "epx bench: epx-bench-parts is not there\n");
    return 2;
}

int bench_main(int argc, char **argv)
{
    struct bench_options options;
    struct bench_results results = {.points = NULL};
    struct bench_results before = {.points = NULL};
    bench_options_read(&options, argc, argv);
    if (options.parts) {
        return become_parts();
    }
    if (options.compare != NULL && !bench_json_read(options.compare, &before)) {
        return 2;
    }
    int status = options.from != NULL ? show(&options, &results) : measure(&options, &results);
    if (status != 2) {
        int written = write_all(&options, &results, &before);
        status = status != 0 ? status : written;
    }
    bench_results_fini(&results);
    bench_results_fini(&before);
    return status;
}
