#include "bench_plot.h"

#include "bench_contenders.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PANEL_MAX 24

#define LINE_MAX_COUNT 12

struct line {
    const char *engine;
    const char *variant; /* "": the best in each point */
};

/* One panel: one operation over BS, all else being equal. */
struct panel {
    const char *operation;
    const struct bench_case *sizes; /* of its first point; BS differs */
};

static bool same_but_tokens(const struct bench_case *a, const struct bench_case *b)
{
    return a->rank_count == b->rank_count && a->host_count == b->host_count && a->hidden_elems == b->hidden_elems &&
           a->topk == b->topk && a->expert_count == b->expert_count && a->dtype == b->dtype &&
           a->quantize == b->quantize && a->zipf == b->zipf && a->cold == b->cold && a->threads == b->threads;
}

static size_t find_panels(const struct bench_results *results, struct panel *panels)
{
    static const char *const operations[] = {"dispatch", "combine"};
    size_t count = 0;
    for (size_t i = 0; i < results->point_count; i++) {
        const struct bench_case *sizes = &results->points[i].sizes;
        bool known = false;
        for (size_t j = 0; j < count; j++) {
            known = known || same_but_tokens(panels[j].sizes, sizes);
        }
        for (size_t j = 0; !known && j < 2 && count < PANEL_MAX; j++) {
            panels[count++] = (struct panel){.operation = operations[j], .sizes = sizes};
        }
    }
    return count;
}

static bool is_best_alone(const char *engine)
{
    return strcmp(engine, "floor") == 0 || strcmp(engine, "mpi") == 0;
}

/* The lines of one engine that are not known yet; number of lines then. */
static size_t add_lines(const struct bench_point *point, const char *operation, const char *engine, struct line *lines,
                        size_t count)
{
    for (size_t i = 0; i < point->series_count; i++) {
        const struct bench_series *series = &point->series[i];
        const char *variant = is_best_alone(engine) ? "" : series->variant;
        bool known = strcmp(series->operation, operation) != 0 || strcmp(series->engine, engine) != 0;
        for (size_t j = 0; j < count; j++) {
            known = known || (strcmp(lines[j].engine, engine) == 0 && strcmp(lines[j].variant, variant) == 0);
        }
        if (!known && count < LINE_MAX_COUNT) {
            lines[count++] = (struct line){.engine = engine, .variant = variant};
        }
    }
    return count;
}

static size_t find_lines(const struct bench_results *results, const struct panel *panel, struct line *lines)
{
    static const char *const engines[] = {"floor", "epx", "cann", "mpi", "wire"};
    size_t count = 0;
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        for (size_t j = 0; j < results->point_count; j++) {
            if (same_but_tokens(&results->points[j].sizes, panel->sizes)) {
                count = add_lines(&results->points[j], panel->operation, engines[i], lines, count);
            }
        }
    }
    return count;
}

static const struct bench_series *series_of_line(const struct bench_point *point, const struct panel *panel,
                                                 const struct line *line)
{
    if (is_best_alone(line->engine)) {
        return bench_point_best(point, panel->operation, line->engine);
    }
    return bench_point_find(point, panel->operation, line->engine, line->variant);
}

static void put_data(FILE *out, const struct bench_results *results, const struct panel *panel, const struct line *line,
                     size_t index)
{
    (void)fprintf(out, "$line%zu << EOD\n", index);
    for (size_t i = 0; i < results->point_count; i++) {
        const struct bench_point *point = &results->points[i];
        const struct bench_series *series =
            same_but_tokens(&point->sizes, panel->sizes) ? series_of_line(point, panel, line) : NULL;
        if (series != NULL) {
            struct bench_figures figures = bench_series_figures(point, series);
            (void)fprintf(out, "%" PRId64 " %.6g %.6g %.6g\n", point->sizes.token_count, figures.p50_ns / 1e3,
                          figures.p50_spread_ns.min / 1e3, figures.p50_spread_ns.max / 1e3);
        }
    }
    (void)fprintf(out, "EOD\n");
}

/* A little room at both sides, also of a single point. */
static void put_range(FILE *out, const struct bench_results *results, const struct panel *panel)
{
    int64_t least = panel->sizes->token_count;
    int64_t most = least;
    for (size_t i = 0; i < results->point_count; i++) {
        const struct bench_case *sizes = &results->points[i].sizes;
        if (same_but_tokens(sizes, panel->sizes)) {
            least = sizes->token_count < least ? sizes->token_count : least;
            most = sizes->token_count > most ? sizes->token_count : most;
        }
    }
    (void)fprintf(out, "set xrange [%g:%g]\n", (double)least / 1.5, (double)most * 1.5);
}

static void put_panel(FILE *out, const struct bench_results *results, const struct panel *panel)
{
    struct line lines[LINE_MAX_COUNT];
    const struct bench_case *sizes = panel->sizes;
    size_t count = find_lines(results, panel, lines);
    for (size_t i = 0; i < count; i++) {
        put_data(out, results, panel, &lines[i], i);
    }
    put_range(out, results, panel);
    (void)fprintf(out,
                  "set title \"%s, %" PRId64 " ranks on %" PRId64 ", H %" PRId64 ", K %" PRId64 ", E %" PRId64
                  ", %s%s%s%s\"\n",
                  panel->operation, sizes->rank_count, sizes->host_count, sizes->hidden_elems, sizes->topk,
                  sizes->expert_count, sizes->dtype == BENCH_BF16 ? "bf16" : "fp16", sizes->quantize ? " int8" : "",
                  sizes->zipf > 0.0 ? " zipf" : "", sizes->cold ? " cold" : "");
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(out, "%s $line%zu using 1:2:3:4 with yerrorlines linestyle %zu title \"%s %s\" noenhanced",
                      i == 0 ? "plot" : ",", i, i + 1, lines[i].engine, lines[i].variant);
    }
    (void)fprintf(out, "\n");
}

static void put_picture(FILE *out, const struct bench_results *results, const char *terminal, const char *suffix,
                        const char *prefix)
{
    struct panel panels[PANEL_MAX];
    size_t count = find_panels(results, panels);
    size_t columns = count > 1 ? 2 : 1;
    size_t rows = (count + columns - 1) / columns;
    (void)fprintf(out, "set terminal %s size %zu,%zu\nset output \"", terminal, 640 * columns, 420 * rows);
    for (const char *next = prefix; *next != '\0'; next++) {
        (void)fprintf(out, *next == '"' || *next == '\\' ? "\\%c" : "%c", *next);
    }
    (void)fprintf(out,
                  "%s\"\nset multiplot layout %zu,%zu title \"epx bench %s, %s\" noenhanced\n"
                  "set logscale xy\nset grid\nset key left top\nset xlabel \"BS, tokens of a rank\"\n"
                  "set ylabel \"makespan, us (median, least, most)\"\n"
                  "set style line 1 lc rgb \"#999999\" pt 1\nset style line 2 lc rgb \"#0060ad\" pt 7\n"
                  "set style line 3 lc rgb \"#2ca02c\" pt 5\nset style line 4 lc rgb \"#d62728\" pt 9\n"
                  "set style line 5 lc rgb \"#9467bd\" pt 13\n",
                  suffix, rows, columns, results->environment.version, results->environment.processor);
    for (size_t i = 0; i < count; i++) {
        put_panel(out, results, &panels[i]);
    }
    (void)fprintf(out, "unset multiplot\nset output\nreset\n");
}

bool bench_plot(const char *prefix, const struct bench_results *results)
{
    if (!bench_in_path("gnuplot")) {
        (void)fprintf(stderr, "epx bench: --plot is '%s', but gnuplot is not there (Debian: gnuplot-nox)\n", prefix);
        return false;
    }
    void (*old_handler)(int) = signal(SIGPIPE, SIG_IGN);
    FILE *out = popen("gnuplot -", "we");
    bool drawn = false;
    if (out != NULL) {
        put_picture(out, results, "pngcairo", ".png", prefix);
        put_picture(out, results, "svg", ".svg", prefix);
        drawn = pclose(out) == 0;
    }
    (void)signal(SIGPIPE, old_handler);
    if (!drawn) {
        (void)fprintf(stderr, "epx bench: --plot is '%s', which gnuplot could not draw\n", prefix);
    }
    return drawn;
}
