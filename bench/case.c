#include "case.h"

#include "numbers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Options ------------------------------------------------------------------------------------------------- */

struct number_option {
    const char *name;
    size_t offset; /* of an int64_t in struct bench_case */
    int64_t low;
    int64_t high;
};

static const struct number_option number_options[] = {
    {"ranks", offsetof(struct bench_case, rank_count), 1, 4096},
    {"hosts", offsetof(struct bench_case, host_count), 1, BENCH_HOST_MAX},
    {"bs", offsetof(struct bench_case, token_count), 1, 1 << 20},
    {"hidden", offsetof(struct bench_case, hidden_elems), 1, 1 << 20},
    {"topk", offsetof(struct bench_case, topk), 1, 4096},
    {"experts", offsetof(struct bench_case, expert_count), 1, 65536},
    {"threads", offsetof(struct bench_case, threads), 0, 1024},
    {"warmup", offsetof(struct bench_case, warmup), 0, 1000000},
    {"rounds", offsetof(struct bench_case, rounds), 1, 1000000},
    {"skew-us", offsetof(struct bench_case, skew_us), 0, 10000000},
};

static int refuse(const char *name, const char *value, const char *must)
{
    (void)fprintf(stderr, "--%s is '%s', must be %s\n", name, value, must);
    return -1;
}

static int read_number(const char *name, const char *value, int64_t low, int64_t high, int64_t *out)
{
    char *end = NULL;
    char range[64];
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || number < low || number > high) {
        (void)snprintf(range, sizeof range, "in [%lld, %lld]", (long long)low, (long long)high);
        return refuse(name, value, range);
    }
    *out = number;
    return 1;
}

static int read_choice(const char *name, const char *value, const char *off, const char *on, bool *out)
{
    char choices[64];
    if (strcmp(value, off) != 0 && strcmp(value, on) != 0) {
        (void)snprintf(choices, sizeof choices, "%s or %s", off, on);
        return refuse(name, value, choices);
    }
    *out = strcmp(value, on) == 0;
    return 1;
}

static int read_zipf(const char *value, double *out)
{
    char *end = NULL;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !(number >= 0.0 && number <= 8.0)) {
        return refuse("zipf", value, "in [0, 8]");
    }
    *out = number;
    return 1;
}

static int read_dtype(const char *value, struct bench_case *bench)
{
    bool bf16 = false;
    int result = read_choice("dtype", value, "fp16", "bf16", &bf16);
    if (result == 1) {
        bench->dtype = bf16 ? BENCH_BF16 : BENCH_FP16;
    }
    return result;
}

/* 0: not one of a case's names. */
static int read_value(struct bench_case *bench, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof number_options / sizeof number_options[0]; i++) {
        const struct number_option *option = &number_options[i];
        if (strcmp(name, option->name) == 0) {
            return read_number(name, value, option->low, option->high,
                               (int64_t *)(void *)((char *)bench + option->offset));
        }
    }
    if (strcmp(name, "dtype") == 0) {
        return read_dtype(value, bench);
    }
    if (strcmp(name, "quant") == 0) {
        return read_choice(name, value, "none", "int8", &bench->quantize);
    }
    if (strcmp(name, "cold") == 0) {
        return read_choice(name, value, "0", "1", &bench->cold);
    }
    if (strcmp(name, "processes") == 0) {
        return read_choice(name, value, "0", "1", &bench->processes);
    }
    if (strcmp(name, "check") == 0) {
        return read_choice(name, value, "0", "1", &bench->check);
    }
    if (strcmp(name, "cpu-time") == 0) {
        return read_choice(name, value, "0", "1", &bench->cpu_time);
    }
    if (strcmp(name, "zipf") == 0) {
        return read_zipf(value, &bench->zipf);
    }
    if (strcmp(name, "seed") == 0) {
        int64_t seed = 0;
        int result = read_number(name, value, 0, INT64_MAX, &seed);
        bench->seed = result == 1 ? (uint64_t)seed : bench->seed;
        return result;
    }
    return 0;
}

static bool is_option(const char *name)
{
    static const char *const others[] = {"dtype", "quant", "cold", "processes", "check", "cpu-time", "zipf", "seed"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(name, others[i]) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof number_options / sizeof number_options[0]; i++) {
        if (strcmp(name, number_options[i].name) == 0) {
            return true;
        }
    }
    return false;
}

int bench_case_option(struct bench_case *bench, int argc, char **argv, int *at)
{
    const char *name = argv[*at];
    if (strncmp(name, "--", 2) != 0) {
        return 0;
    }
    if (*at + 1 < argc) {
        int result = read_value(bench, name + 2, argv[*at + 1]);
        *at += result == 1 ? 2 : 0;
        return result;
    }
    if (!is_option(name + 2)) {
        return 0;
    }
    (void)fprintf(stderr, "%s needs a value\n", name);
    return -1;
}

bool bench_case_check(const struct bench_case *bench)
{
    if (bench->expert_count % bench->rank_count != 0) {
        (void)fprintf(stderr, "--experts is %lld, must be a multiple of the %lld ranks\n",
                      (long long)bench->expert_count, (long long)bench->rank_count);
        return false;
    }
    if (bench->topk > bench->expert_count) {
        (void)fprintf(stderr, "--topk is %lld, must be at most the %lld experts\n", (long long)bench->topk,
                      (long long)bench->expert_count);
        return false;
    }
    int64_t rows = bench->rank_count * bench->token_count * bench->topk; /* at most 2^44, by the limit of each */
    if (rows > INT32_MAX) {
        (void)fprintf(stderr, "--ranks * --bs * --topk is %lld rows, must be at most %d\n", (long long)rows, INT32_MAX);
        return false;
    }
    if (bench->host_count > bench->rank_count) {
        (void)fprintf(stderr, "--hosts is %lld, must be at most the %lld ranks\n", (long long)bench->host_count,
                      (long long)bench->rank_count);
        return false;
    }
    if (bench->host_count > 1 && !bench->processes) {
        (void)fprintf(stderr, "--hosts is %lld, must be 1 with --processes 0: threads are on one host\n",
                      (long long)bench->host_count);
        return false;
    }
    if (bench->product_columns != 0 && !bench->processes) {
        (void)fprintf(stderr, "--product is %lld, must be 0 with --processes 0: serial OpenBLAS serves one thread\n",
                      (long long)bench->product_columns);
        return false;
    }
    return true;
}

/* ---- Inputs -------------------------------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood 2014): every state gives a good number, so that streams need no warming up. */
static uint64_t next_random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In (0, 1]. */
static double next_unit(uint64_t *state)
{
    return (double)((next_random(state) >> 11) + 1) * 0x1p-53;
}

static uint64_t stream_of(const struct bench_case *bench, uint64_t purpose, int64_t rank)
{
    uint64_t state = bench->seed;
    uint64_t mixed = next_random(&state) ^ (purpose << 48) ^ (uint64_t)rank;
    return next_random(&mixed);
}

void bench_inputs_tokens(const struct bench_case *bench, int64_t rank, uint16_t *x)
{
    uint64_t state = stream_of(bench, 1, rank);
    int mantissa_bits = bench->dtype == BENCH_BF16 ? 7 : 10;
    int bias = bench->dtype == BENCH_BF16 ? 127 : 15;
    for (int64_t token = 0; token < bench->token_count; token++) {
        int row_exponent = bias + (int)(next_random(&state) % 9) - 4;
        uint16_t *row = x + token * bench->hidden_elems;
        for (int64_t h = 0; h < bench->hidden_elems; h += 3) {
            uint64_t bits = next_random(&state); /* 21 bits an element: sign, two of the exponent, mantissa */
            for (int64_t i = h; i < h + 3 && i < bench->hidden_elems; i++, bits >>= 21) {
                int exponent = row_exponent - (int)(bits >> 1 & 3);
                int mantissa = (int)(bits >> 3 & 0x3ff) & ((1 << mantissa_bits) - 1);
                row[i] = (uint16_t)((int)(bits & 1) << 15 | exponent << mantissa_bits | mantissa);
            }
        }
    }
}

/* Popularity of each expert: 1 / place^zipf, the places being a permutation that all ranks share. */
static void make_popularity(const struct bench_case *bench, double *popularity)
{
    uint64_t state = stream_of(bench, 2, 0);
    for (int64_t expert = 0; expert < bench->expert_count; expert++) {
        popularity[expert] = pow((double)(expert + 1), -bench->zipf);
    }
    for (int64_t left = bench->expert_count; left > 1; left--) {
        int64_t other = (int64_t)(next_random(&state) % (uint64_t)left);
        double kept = popularity[left - 1];
        popularity[left - 1] = popularity[other];
        popularity[other] = kept;
    }
}

/* K distinct experts, drawn one after the other by popularity: those with the K earliest arrivals of exponential clocks
 * that run at the popularities. */
static void draw_experts(const struct bench_case *bench, const double *popularity, double *arrivals, uint64_t *state,
                         int32_t *ids)
{
    for (int64_t expert = 0; expert < bench->expert_count; expert++) {
        arrivals[expert] = -log(next_unit(state)) / popularity[expert];
    }
    for (int64_t k = 0; k < bench->topk; k++) {
        int64_t first = 0;
        for (int64_t expert = 1; expert < bench->expert_count; expert++) {
            first = arrivals[expert] < arrivals[first] ? expert : first;
        }
        arrivals[first] = INFINITY;
        ids[k] = (int32_t)first;
    }
}

void bench_inputs_routing(const struct bench_case *bench, int64_t rank, int32_t *expert_ids, float *weights)
{
    double *popularity = malloc(2 * (size_t)bench->expert_count * sizeof *popularity);
    if (popularity == NULL) {
        (void)fprintf(stderr, "no memory for the routing of rank %lld\n", (long long)rank);
        abort();
    }
    make_popularity(bench, popularity);
    uint64_t state = stream_of(bench, 3, rank);
    for (int64_t token = 0; token < bench->token_count; token++) {
        float *token_weights = weights + token * bench->topk;
        draw_experts(bench, popularity, popularity + bench->expert_count, &state, expert_ids + token * bench->topk);
        float sum = 0.0f;
        for (int64_t k = 0; k < bench->topk; k++) {
            token_weights[k] = 0.1f + (float)next_unit(&state);
            sum += token_weights[k];
        }
        for (int64_t k = 0; k < bench->topk; k++) {
            token_weights[k] /= sum;
        }
    }
    free(popularity);
}

void bench_inputs_weights(const struct bench_case *bench, float *weights)
{
    uint64_t state = stream_of(bench, 4, 0);
    for (int64_t i = 0; i < bench->hidden_elems * bench->product_columns; i++) {
        weights[i] = (float)(int32_t)(next_random(&state) >> 40) * 0x1p-23f - 1.0f;
    }
}

/* ---- Experts ------------------------------------------------------------------------------------------------- */

void bench_expert_row(const struct bench_case *bench, int64_t expert, const void *row, float scale, uint16_t *out)
{
    uint16_t flip = (uint16_t)(expert % 2 << 15);
    if (!bench->quantize) {
        const uint16_t *plain = row;
        for (int64_t h = 0; h < bench->hidden_elems; h++) {
            out[h] = plain[h] ^ flip;
        }
        return;
    }
    const int8_t *quantized = row;
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        float value = (float)quantized[h] * scale;
        out[h] = bench_round(bench, value) ^ flip;
    }
}

/* ---- Digests ------------------------------------------------------------------------------------------------- */

uint64_t bench_digest(uint64_t digest, const void *data, size_t bytes)
{
    const unsigned char *next = data;
    uint64_t word = 0;
    for (; bytes >= sizeof word; bytes -= sizeof word, next += sizeof word) {
        memcpy(&word, next, sizeof word);
        digest = (digest ^ word) * UINT64_C(0x100000001b3);
        digest ^= digest >> 32; /* or the upper bits of a word would never meet the lower ones */
    }
    for (; bytes > 0; bytes--, next++) {
        digest = (digest ^ *next) * UINT64_C(0x100000001b3);
    }
    return digest;
}
