#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench_results.h"
#include "bench_stats.h"

#include <math.h>

static void assert_near(double actual, double expected)
{
    if (!(fabs(actual - expected) <= 1e-9 * fabs(expected) + 1e-12)) {
        fail_msg("%.12g, must be %.12g", actual, expected);
    }
}

static void percentile__lies_between_neighbours(void **state)
{
    (void)state;
    double values[] = {40.0, 10.0, 30.0, 20.0};
    assert_near(bench_percentile(values, 4, 0.0), 10.0);
    assert_near(bench_percentile(values, 4, 0.5), 25.0);
    assert_near(bench_percentile(values, 4, 0.9), 37.0);
    assert_near(bench_percentile(values, 4, 1.0), 40.0);
    assert_near(bench_percentile(values, 1, 0.99), 10.0);
    assert_true(isnan(bench_percentile(values, 0, 0.5)));
}

static void spread__has_quartiles_of_any_order(void **state)
{
    (void)state;
    double values[] = {9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0};
    struct bench_spread spread = bench_spread_of(values, 9);
    assert_near(spread.median, 5.0);
    assert_near(spread.min, 1.0);
    assert_near(spread.max, 9.0);
    assert_near(spread.lower_quartile, 3.0);
    assert_near(spread.upper_quartile, 7.0);
    assert_true(isnan(bench_spread_of(values, 0).median));
}

static struct bench_spread spread_around(double lower, double median, double upper)
{
    return (struct bench_spread){.median = median, .lower_quartile = lower, .upper_quartile = upper};
}

static void moved__needs_both_medians_outside(void **state)
{
    (void)state;
    struct bench_spread before = spread_around(95.0, 100.0, 105.0);
    struct bench_spread slower = spread_around(115.0, 120.0, 125.0);
    struct bench_spread faster = spread_around(75.0, 80.0, 85.0);
    assert_true(bench_spread_moved(&before, &slower, 0.05));
    assert_true(bench_spread_moved(&slower, &before, 0.05));
    assert_true(bench_spread_moved(&before, &faster, 0.05));
    assert_false(bench_spread_moved(&before, &before, 0.05));
    /* 110 lies within 105 + 5 %; 120 does not, but 100 lies within the other's wide quartiles. */
    struct bench_spread near = spread_around(109.0, 110.0, 111.0);
    struct bench_spread wide = spread_around(90.0, 120.0, 150.0);
    assert_false(bench_spread_moved(&before, &near, 0.05));
    assert_true(bench_spread_moved(&before, &near, 0.01));
    assert_false(bench_spread_moved(&before, &wide, 0.05));
    assert_false(bench_spread_moved(&wide, &before, 0.05));
}

static void difference__is_a_part_of_the_smaller(void **state)
{
    (void)state;
    assert_near(bench_difference(100.0, 120.0), 0.2);
    assert_near(bench_difference(120.0, 100.0), 0.2);
    assert_true(isnan(bench_difference(NAN, 1.0)));
}

/* Processor time is a quarter of the makespan. */
static void add_samples_of(struct bench_point *point, const char *operation, const char *engine, const char *variant,
                           int64_t repeat, const double *samples, size_t count)
{
    struct bench_series *series = bench_point_series(point, operation, engine, variant);
    for (size_t i = 0; i < count; i++) {
        const struct bench_times times = {.makespan_ns = samples[i], .max_ns = samples[i], .cpu_ns = samples[i] / 4.0};
        bench_repeat_add(bench_series_repeat(series, repeat), &times);
    }
}

static void add_samples(struct bench_point *point, const char *engine, const char *variant, int64_t repeat,
                        const double *samples, size_t count)
{
    add_samples_of(point, "dispatch", engine, variant, repeat, samples, count);
}

/* Two repeats on a machine that becomes half as fast: the ratios are of each repeat's own floor and MPI. */
static void figures__relate_within_a_repeat(void **state)
{
    (void)state;
    struct bench_results results = {.points = NULL};
    struct bench_case sizes = BENCH_CASE_INIT;
    struct bench_point *point = bench_results_add_point(&results, &sizes);
    add_samples(point, "floor", "pull", 0, (double[]){100, 100, 100}, 3);
    add_samples(point, "floor", "push_nt", 0, (double[]){80, 70, 90}, 3);
    add_samples(point, "floor", "pull", 1, (double[]){160, 160, 160}, 3);
    add_samples(point, "floor", "push_nt", 1, (double[]){200, 200, 200}, 3);
    add_samples(point, "epx", "in-place", 0, (double[]){100, 50, 150}, 3);
    add_samples(point, "epx", "in-place", 1, (double[]){320, 320, 320}, 3);
    add_samples(point, "mpi", "a", 0, (double[]){900, 900}, 2);
    add_samples(point, "mpi", "b", 0, (double[]){400, 400}, 2);
    add_samples(point, "mpi", "a", 1, (double[]){1600, 1600}, 2);
    bench_point_relate(point);

    struct bench_figures epx = bench_series_figures(point, bench_point_series(point, "dispatch", "epx", "in-place"));
    assert_near(epx.p50_ns, 210.0);
    assert_near(epx.p50_spread_ns.min, 100.0);
    assert_near(epx.cpu_ns, 52.5);
    assert_true(isnan(epx.to_copying.median));
    assert_near(epx.floor_percent.min, 50.0);
    assert_near(epx.floor_percent.max, 80.0);
    assert_near(epx.floor_percent.median, 65.0);
    assert_near(epx.mpi_times.min, 4.0);
    assert_near(epx.mpi_times.max, 5.0);
    assert_near(epx.gb_per_s, 16.0 * 64 * 8 * 7168 * 2 / 210.0);
    assert_string_equal(bench_point_best(point, "dispatch", "mpi")->variant, "b");
    assert_null(bench_point_best(point, "combine", "mpi"));
    bench_results_fini(&results);
}

/* Only where the reading of rows is in both times: not of a dispatch alone. */
static void figures__compare_views_with_copies_within_a_repeat(void **state)
{
    (void)state;
    struct bench_point point = {.sizes = BENCH_CASE_INIT};
    static const char *const operations[] = {"dispatch", "dispatch+product", "product"};
    for (int i = 0; i < 3; i++) {
        add_samples_of(&point, operations[i], "epx", "in-place", 0, (double[]){100, 100}, 2);
        add_samples_of(&point, operations[i], "epx", "views", 0, (double[]){80, 80}, 2);
        add_samples_of(&point, operations[i], "epx", "in-place", 1, (double[]){200, 200}, 2);
        add_samples_of(&point, operations[i], "epx", "views", 1, (double[]){180, 180}, 2);
    }
    add_samples_of(&point, "product", "cann", "views", 0, (double[]){80, 80}, 2);
    bench_point_relate(&point);
    for (int i = 0; i < 3; i++) {
        struct bench_figures views =
            bench_series_figures(&point, bench_point_series(&point, operations[i], "epx", "views"));
        struct bench_figures copies =
            bench_series_figures(&point, bench_point_series(&point, operations[i], "epx", "in-place"));
        assert_true(isnan(copies.to_copying.median));
        if (i == 0) {
            assert_true(isnan(views.to_copying.median));
            continue;
        }
        assert_near(views.to_copying.median, 0.85);
        assert_near(views.to_copying.min, 0.8);
        assert_near(views.to_copying.max, 0.9);
    }
    assert_true(
        isnan(bench_series_figures(&point, bench_point_series(&point, "product", "cann", "views")).to_copying.median));
    bench_point_fini(&point);
}

static void figures__without_a_floor_are_unknown(void **state)
{
    (void)state;
    struct bench_point point = {.sizes = BENCH_CASE_INIT};
    add_samples(&point, "epx", "in-place", 0, (double[]){100}, 1);
    bench_point_relate(&point);
    struct bench_figures figures = bench_series_figures(&point, &point.series[0]);
    assert_near(figures.p50_ns, 100.0);
    assert_true(isnan(figures.floor_percent.median));
    assert_true(isnan(figures.mpi_times.median));
    bench_point_fini(&point);
}

static void payload__counts_delivered_rows(void **state)
{
    (void)state;
    struct bench_case sizes = BENCH_CASE_INIT;
    sizes.rank_count = 2;
    sizes.token_count = 3;
    sizes.topk = 4;
    sizes.hidden_elems = 10;
    assert_near(bench_payload_bytes(&sizes, "dispatch"), 480.0);
    assert_near(bench_payload_bytes(&sizes, "combine"), 480.0);
    sizes.quantize = true;
    assert_near(bench_payload_bytes(&sizes, "dispatch"), 240.0);
    assert_near(bench_payload_bytes(&sizes, "round_trip"), 720.0);
    assert_near(bench_payload_bytes(&sizes, "dispatch+product"), 240.0);
    assert_near(bench_payload_bytes(&sizes, "product"), 240.0);
}

static void merge__adds_samples_to_a_repeat(void **state)
{
    (void)state;
    struct bench_point to = {.sizes = BENCH_CASE_INIT};
    struct bench_point from = {.sizes = BENCH_CASE_INIT};
    add_samples(&from, "epx", "in-place", 0, (double[]){7, 9}, 2);
    (void)bench_point_outcome(&from, "epx", "in-place");
    bench_point_merge(&to, &from, 5);
    assert_int_equal(from.series_count, 1);
    assert_int_equal(from.series[0].repeats[0].count, 2);
    assert_int_equal(to.outcome_count, 1);
    const struct bench_repeat *repeat = bench_series_repeat(&to.series[0], 5);
    assert_int_equal(to.series[0].repeat_count, 1);
    assert_int_equal(repeat->count, 2);
    assert_near(repeat->times[1].makespan_ns, 9.0);
    assert_near(repeat->times[1].cpu_ns, 2.25);
    bench_point_merge(&to, &from, 5);
    assert_int_equal(to.series_count, 1);
    assert_int_equal(to.outcome_count, 1);
    assert_int_equal(to.series[0].repeat_count, 1);
    assert_int_equal(to.series[0].repeats[0].count, 4);
    bench_point_fini(&from);
    bench_point_fini(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentile__lies_between_neighbours),
        cmocka_unit_test(spread__has_quartiles_of_any_order),
        cmocka_unit_test(moved__needs_both_medians_outside),
        cmocka_unit_test(difference__is_a_part_of_the_smaller),
        cmocka_unit_test(figures__relate_within_a_repeat),
        cmocka_unit_test(figures__compare_views_with_copies_within_a_repeat),
        cmocka_unit_test(figures__without_a_floor_are_unknown),
        cmocka_unit_test(payload__counts_delivered_rows),
        cmocka_unit_test(merge__adds_samples_to_a_repeat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
