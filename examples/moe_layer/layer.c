#include "layer.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64: the state advances by a constant, so that every stream is replayable from its seed. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t value = (*state += 0x9E3779B97F4A7C15u);
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
    return value ^ (value >> 31);
}

static float next_signed_unit(uint64_t *state) /* [-1, 1) */
{
    return (float)((int64_t)(next_random(state) >> 40) - (INT64_C(1) << 23)) * 0x1p-23f;
}

static uint64_t stream_seed(const struct demo_options *options, uint64_t kind, uint64_t index)
{
    uint64_t state = options->seed * 0xD1342543DE82EF95u + kind * 0x2545F4914F6CDD1Du + index;
    return next_random(&state);
}

static float widen_fp16(uint16_t value)
{
    int exponent = (value >> 10) & 0x1F;
    float mantissa = (float)(value & 0x3FF);
    float magnitude = exponent == 0x1F ? (mantissa == 0 ? INFINITY : NAN)
                      : exponent == 0  ? ldexpf(mantissa, -24)
                                       : ldexpf(mantissa + 1024.0f, exponent - 25);
    return (value & 0x8000) != 0 ? -magnitude : magnitude;
}

static uint16_t narrow_fp16(float value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    float magnitude = fabsf(value);
    if (isnan(value)) {
        return 0x7E00;
    }
    if (magnitude == 0) {
        return sign;
    }
    if (magnitude >= 65520.0f) {
        return (uint16_t)(sign | 0x7C00);
    }
    int exponent = 0;
    (void)frexpf(magnitude, &exponent); /* magnitude = m * 2^exponent, m in [0.5, 1) */
    int step = exponent - 11 < -24 ? -24 : exponent - 11;
    float steps = rintf(ldexpf(magnitude, -step)); /* to nearest even, at most 2048 */
    uint32_t bits = step == -24 ? (uint32_t)steps : ((uint32_t)(step + 24) << 10) + (uint32_t)steps;
    return (uint16_t)(sign | bits);
}

static float widen(const struct demo_options *options, uint16_t value)
{
    if (options->fp16) {
        return widen_fp16(value);
    }
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static uint16_t narrow(const struct demo_options *options, float value)
{
    if (options->fp16) {
        return narrow_fp16(value);
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

static void make_routing(const struct demo_options *options, uint64_t *state, int32_t *ids, float *weights)
{
    float logits_sum = 0;
    for (int64_t k = 0; k < options->topk; k++) {
        bool taken = true;
        while (taken) {
            ids[k] = (int32_t)(next_random(state) % (uint64_t)options->experts);
            taken = false;
            for (int64_t i = 0; i < k; i++) {
                taken = taken || ids[i] == ids[k];
            }
        }
        weights[k] = expf(2.0f * next_signed_unit(state));
        logits_sum += weights[k];
    }
    for (int64_t k = 0; k < options->topk; k++) {
        weights[k] /= logits_sum;
    }
}

void layer_make_inputs(const struct demo_options *options, int64_t rank, uint16_t *x, int32_t *expert_ids,
                       float *weights)
{
    uint64_t state = stream_seed(options, 1, (uint64_t)rank);
    for (int64_t token = 0; token < options->tokens; token++) {
        float magnitude = (float)(1 + (rank * 131 + token * 37) % 251) / 251.0f;
        for (int64_t h = 0; h < options->hidden; h++) {
            x[token * options->hidden + h] = narrow(options, magnitude * next_signed_unit(&state));
        }
        make_routing(options, &state, expert_ids + token * options->topk, weights + token * options->topk);
    }
}

void layer_make_smooth_scales(const struct demo_options *options, int64_t rows, float *scales)
{
    uint64_t state = stream_seed(options, 2, 0);
    for (int64_t i = 0; i < rows * options->hidden; i++) {
        scales[i] = 1.0f + 0.5f * next_signed_unit(&state);
    }
}

void layer_expert_destroy(struct layer_expert *expert)
{
    if (expert != NULL) {
        free(expert->gate);
        free(expert->up);
        free(expert->down);
        free(expert);
    }
}

struct layer_expert *layer_expert_create(const struct demo_options *options)
{
    size_t elems = (size_t)options->hidden * (size_t)options->ffn;
    struct layer_expert *expert = calloc(1, sizeof *expert);
    if (expert == NULL) {
        return NULL;
    }
    expert->gate = malloc(elems * sizeof(float));
    expert->up = malloc(elems * sizeof(float));
    expert->down = malloc(elems * sizeof(float));
    if (expert->gate == NULL || expert->up == NULL || expert->down == NULL) {
        layer_expert_destroy(expert);
        return NULL;
    }
    return expert;
}

void layer_expert_make(const struct demo_options *options, int64_t expert_id, struct layer_expert *expert)
{
    uint64_t state = stream_seed(options, 3, (uint64_t)expert_id);
    float in_scale = 2.0f / sqrtf((float)options->hidden);
    float out_scale = 2.0f / sqrtf((float)options->ffn);
    size_t elems = (size_t)options->hidden * (size_t)options->ffn;
    for (size_t i = 0; i < elems; i++) {
        expert->gate[i] = in_scale * next_signed_unit(&state);
        expert->up[i] = in_scale * next_signed_unit(&state);
        expert->down[i] = out_scale * next_signed_unit(&state);
    }
}

size_t layer_scratch_elems(const struct demo_options *options, int64_t rows)
{
    return (size_t)rows * (size_t)(options->hidden + 2 * options->ffn);
}

static void widen_rows(const struct demo_options *options, const struct layer_rows *in, float *out)
{
    size_t row_bytes = (size_t)options->hidden * (options->int8_rows ? 1 : 2);
    for (int64_t row = 0; row < in->count; row++) {
        const void *from = in->dense != NULL ? (const char *)in->dense + (size_t)row * row_bytes : in->views[row];
        float *to = out + row * options->hidden;
        for (int64_t h = 0; h < options->hidden; h++) {
            to[h] = options->int8_rows ? (float)((const int8_t *)from)[h] * in->scales[row]
                                       : widen(options, ((const uint16_t *)from)[h]);
        }
    }
}

void layer_expert_run(const struct demo_options *options, const struct layer_expert *expert,
                      const struct layer_rows *in, uint16_t *out, float *scratch)
{
    int64_t rows = in->count;
    if (rows == 0) {
        return;
    }
    int m = (int)rows;
    int h = (int)options->hidden;
    int f = (int)options->ffn;
    float *wide = scratch;
    float *gate = wide + rows * options->hidden;
    float *up = gate + rows * options->ffn;
    widen_rows(options, in, wide);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, f, h, 1.0f, wide, h, expert->gate, f, 0.0f, gate, f);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, f, h, 1.0f, wide, h, expert->up, f, 0.0f, up, f);
    for (int64_t i = 0; i < rows * options->ffn; i++) {
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, h, f, 1.0f, gate, f, expert->down, h, 0.0f, wide, h);
    for (int64_t i = 0; i < rows * options->hidden; i++) {
        out[i] = narrow(options, wide[i]);
    }
}
