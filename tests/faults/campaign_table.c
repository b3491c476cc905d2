/* The figures of the classes: for a terminal, as JSON, as Markdown. */
#include "faults/campaign.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const double *one = a;
    const double *other = b;
    return (*one > *other) - (*one < *other);
}

static double quantile(const struct campaign_figures *figures, double part)
{
    if (figures->needed == 0) {
        return 0;
    }
    uint32_t place = (uint32_t)(part * (double)figures->needed);
    return figures->took_ms[place < figures->needed ? place : figures->needed - 1];
}

void campaign_figures_add(struct campaign_figures *figures, const struct campaign_verdict *verdict)
{
    if (verdict->skipped) {
        figures->skipped++;
        return;
    }
    figures->trials++;
    figures->failed += verdict->why[0] != '\0';
    figures->detected += verdict->detected;
    figures->named += verdict->named;
    figures->same += verdict->same;
    figures->clean += verdict->clean;
    figures->again += verdict->again;
    if (verdict->unneeded) {
        return;
    }
    double *more = realloc(figures->took_ms, (figures->needed + 1) * sizeof *more);
    if (more == NULL) {
        exit(2);
    }
    figures->took_ms = more;
    figures->took_ms[figures->needed++] = verdict->took_ms;
    qsort(figures->took_ms, figures->needed, sizeof *figures->took_ms, compare);
}

static void print_rows(const struct campaign_figures *figures, FILE *out)
{
    for (uint32_t class = 0; class < CAMPAIGN_CLASS_COUNT; class ++) {
        const struct campaign_figures *row = &figures[class];
        if (row->trials + row->skipped > 0) {
            (void)fprintf(out, "| %-9s | %6u | %7u | %6u | %8u | %5u | %4u | %5u | %9u | %6.1f | %6.1f | %6.1f |\n",
                          campaign_class_name((enum campaign_class) class), row->trials, row->skipped, row->needed,
                          row->detected, row->named, row->same, row->clean, row->again, quantile(row, 0.5),
                          quantile(row, 0.99), quantile(row, 1));
        }
    }
}

void campaign_figures_print(const struct campaign_figures *figures, FILE *out)
{
    (void)fprintf(out,
                  "\n| class     | trials | skipped | harmed | detected | named | same | clean | new world | p50 ms "
                  "| p99 ms | max ms |\n"
                  "|-----------|--------|---------|--------|----------|-------|------|-------|-----------|--------"
                  "|--------|--------|\n");
    print_rows(figures, out);
}

static void write_json(const struct campaign_figures *figures, uint64_t seed, FILE *out)
{
    const char *comma = "";
    (void)fprintf(out, "{\"seed\": %llu, \"classes\": [", (unsigned long long)seed);
    for (uint32_t class = 0; class < CAMPAIGN_CLASS_COUNT; class ++) {
        const struct campaign_figures *row = &figures[class];
        (void)fprintf(out,
                      "%s\n {\"class\": \"%s\", \"trials\": %u, \"skipped\": %u, \"failed\": %u, \"harmed\": %u, "
                      "\"detected\": %u, \"named\": %u, \"same\": %u, \"clean\": %u, \"new_world\": %u, \"p50_ms\": "
                      "%.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}",
                      comma, campaign_class_name((enum campaign_class) class), row->trials, row->skipped, row->failed,
                      row->needed, row->detected, row->named, row->same, row->clean, row->again, quantile(row, 0.5),
                      quantile(row, 0.99), quantile(row, 1));
        comma = ",";
    }
    (void)fprintf(out, "\n]}\n");
}

bool campaign_figures_write(const struct campaign_figures *figures, uint64_t seed, const char *path)
{
    FILE *out = fopen(path, "we");
    if (out == NULL) {
        perror(path);
        return false;
    }
    size_t length = strlen(path);
    if (length >= 5 && strcmp(path + length - 5, ".json") == 0) {
        write_json(figures, seed, out);
    } else {
        campaign_figures_print(figures, out);
    }
    return fclose(out) == 0;
}
