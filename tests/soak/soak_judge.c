#include "soak/soak.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/*
 * How much more the median of the last third may be than that of the second; the first third is for what a process
 * takes once (stacks, spare requests, the heap's highest mark). All samples are taken between two plans, in a
 * communicator; one in which nothing has been started yet lacks a thread, its descriptor and a queue.
 * Memory, a rank: holes of heap and arena differ with the shapes that were drawn, and the arena keeps the pages of its
 * fullest moment. Heap and arena know to the byte what was given: that queue, and nothing. So what is lost there shows
 * at once, and what is lost beside them passes the limit of memory at a byte a pair in two million pairs. Mappings, a
 * process: the heap splits and joins some. Files: none is made.
 */
static const struct {
    const char *name;
    int64_t growth_max;
    bool by_rank; /* the limit is one rank's */
} quantities[SOAK_QUANTITY_COUNT] = {
    [SOAK_MEMORY] = {"KiB of memory", 512, true},
    [SOAK_HEAP] = {"bytes of heap given", 2048, true},
    [SOAK_ARENA] = {"bytes of arena given", 0, true},
    [SOAK_DESCRIPTORS] = {"descriptors", 1, true},
    [SOAK_THREADS] = {"threads", 1, true},
    [SOAK_MAPPINGS] = {"mappings", 8, false},
    [SOAK_ENTRIES] = {"files in /dev/shm and /tmp", 0, false},
};

static int compare(const void *left, const void *right)
{
    const int64_t *a = left;
    const int64_t *b = right;
    return (*a > *b) - (*a < *b);
}

static int64_t median(const struct soak_sample *samples, uint32_t first, uint32_t end, enum soak_quantity quantity)
{
    int64_t values[SOAK_SAMPLE_MAX];
    for (uint32_t i = first; i < end; i++) {
        values[i - first] = samples[i].values[quantity];
    }
    qsort(values, end - first, sizeof values[0], compare);
    return values[(end - first) / 2];
}

static int64_t highest(const struct soak_sample *samples, uint32_t count, enum soak_quantity quantity)
{
    int64_t value = samples[0].values[quantity];
    for (uint32_t i = 1; i < count; i++) {
        value = samples[i].values[quantity] > value ? samples[i].values[quantity] : value;
    }
    return value;
}

static bool is_judged(const struct soak_options *options, enum soak_quantity quantity)
{
    bool is_memory = quantity == SOAK_MEMORY || quantity == SOAK_HEAP || quantity == SOAK_MAPPINGS;
    return (!is_memory || options->judges_memory) && (quantity != SOAK_ENTRIES || options->judges_entries);
}

static void judge_process(const struct soak_board *board, uint32_t process, uint32_t rank_count, char *text,
                          size_t text_bytes)
{
    const struct soak_sample *samples = board->samples[process];
    uint32_t count = board->sample_count;
    for (int i = 0; i < SOAK_QUANTITY_COUNT; i++) {
        enum soak_quantity quantity = (enum soak_quantity)i;
        int64_t limit = quantities[i].growth_max * (quantities[i].by_rank ? rank_count : 1);
        int64_t before = median(samples, count / 3, 2 * count / 3, quantity);
        int64_t after = median(samples, 2 * count / 3, count, quantity);
        size_t used = strlen(text);
        if (is_judged(&board->options, quantity) && (after > before + limit || after < 0)) {
            (void)snprintf(text + used, text_bytes - used,
                           "process %u: %lld %s in the last third, %lld in the second; the limit is %lld more\n",
                           process, (long long)after, quantities[i].name, (long long)before, (long long)limit);
        }
    }
}

bool soak_judge(const struct soak_board *board, uint32_t process_count, char *text, size_t text_bytes)
{
    text[0] = '\0';
    if (board->sample_count < SOAK_SAMPLE_MIN) {
        (void)snprintf(text, text_bytes, "%u samples, %u are needed to judge\n", board->sample_count, SOAK_SAMPLE_MIN);
        return false;
    }
    for (uint32_t process = 0; process < process_count; process++) {
        judge_process(board, process, board->options.rank_count / process_count, text, text_bytes);
    }
    return text[0] == '\0';
}

/* Of all processes together. */
static int64_t total(const struct soak_board *board, uint32_t process_count, uint32_t sample,
                     enum soak_quantity quantity)
{
    int64_t sum = 0;
    for (uint32_t process = 0; process < process_count; process++) {
        sum += board->samples[process][sample].values[quantity];
    }
    return sum;
}

static void row_print(const struct soak_board *board, uint32_t process_count, enum soak_quantity quantity, FILE *out)
{
    uint32_t count = board->sample_count;
    int64_t most = 0;
    int64_t of_one = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t sum = total(board, process_count, i, quantity);
        most = sum > most ? sum : most;
    }
    for (uint32_t process = 0; process < process_count; process++) {
        int64_t value = highest(board->samples[process], count, quantity);
        of_one = value > of_one ? value : of_one;
    }
    (void)fprintf(out, "| %s | %lld | %lld | %lld | %lld | %lld |\n", quantities[quantity].name,
                  (long long)total(board, process_count, 0, quantity),
                  (long long)total(board, process_count, count / 3, quantity),
                  (long long)total(board, process_count, count - 1, quantity), (long long)most, (long long)of_one);
}

void soak_table_print(const struct soak_board *board, uint32_t process_count, double seconds, FILE *out)
{
    const struct soak_report *report = &board->reports[0];
    uint64_t pairs = atomic_load(&report->pairs);
    (void)fprintf(out,
                  "%llu pairs of dispatch and combine by %u ranks as %s in %.0f s, %.0f pairs/s; seed %llu\n\n"
                  "%llu plans, %llu communicators, %llu steps; the futex word wrapped %llu times, the low half of the "
                  "count of steps %llu times. Outputs: %016llx\n\n",
                  (unsigned long long)pairs, board->options.rank_count,
                  board->options.threads ? "threads" : "processes", seconds, (double)pairs / seconds,
                  (unsigned long long)board->options.seed, (unsigned long long)report->plans,
                  (unsigned long long)report->communicators, (unsigned long long)report->steps,
                  (unsigned long long)report->low_wraps, (unsigned long long)report->half_wraps,
                  (unsigned long long)report->hash);
    if (board->sample_count == 0) {
        return;
    }
    (void)fprintf(out,
                  "| all processes, %u samples | first | after a third | last | most | most of one |\n"
                  "|---|---:|---:|---:|---:|---:|\n",
                  board->sample_count);
    for (int i = 0; i < SOAK_QUANTITY_COUNT; i++) {
        row_print(board, process_count, (enum soak_quantity)i, out);
    }
}
