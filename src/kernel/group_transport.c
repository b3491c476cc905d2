#include "kernel/row_format.h"

#include <string.h>

#define GROUP_FP32_ELEMS 8
#define GROUP_FP16_ELEMS 16

static float fp16_round(float value)
{
    return epx_fp32_from_fp16(epx_fp16_from_fp32(value));
}

/* Largest magnitude; a NaN counts as larger than everything. */
static float group_max(const float *group, size_t count)
{
    uint32_t max_bits = 0;
    for (size_t h = 0; h < count; h++) {
        uint32_t bits = epx_fp32_magnitude_bits(group[h]);
        max_bits = bits > max_bits ? bits : max_bits;
    }
    return epx_fp32_from_bits(max_bits);
}

/* int8 of a quotient that passes through half precision. */
static int8_t group_quotient(float value, float scale)
{
    return epx_i8_from_fp32(fp16_round(value / scale));
}

/* A group as it travels: quotients, and the scale in the row format. */
static uint16_t pack_group_bf16(int8_t *quotients, const float *acc, size_t count)
{
    float scale = group_max(acc, count) * (1.0f / 127.0f);
    for (size_t h = 0; h < count; h++) {
        quotients[h] = group_quotient(acc[h], scale);
    }
    return epx_bf16_from_fp32(scale);
}

/* Half precision arithmetic: a result of fp32 arithmetic on two halves, rounded again to half, is the correctly rounded
 * one, since fp32 has more than twice the digits. */
static uint16_t pack_group_fp16(int8_t *quotients, const float *acc, size_t count)
{
    float partial[GROUP_FP16_ELEMS];
    for (size_t h = 0; h < count; h++) {
        partial[h] = fp16_round(acc[h]);
    }
    float scale = fp16_round(group_max(partial, count) * fp16_round(1.0f / 127.0f));
    for (size_t h = 0; h < count; h++) {
        quotients[h] = group_quotient(partial[h], scale);
    }
    return epx_fp16_from_fp32(scale);
}

static void add_group_bf16(float *sum, const int8_t *quotients, uint16_t stored, size_t count)
{
    float scale = epx_fp32_from_bf16(stored);
    for (size_t h = 0; h < count; h++) {
        float product = (float)quotients[h] * scale;
        sum[h] = epx_fp32_canonical(sum[h] + product);
    }
}

static void add_group_fp16(float *sum, const int8_t *quotients, uint16_t stored, size_t count)
{
    float scale = epx_fp32_from_fp16(stored);
    for (size_t h = 0; h < count; h++) {
        float product = fp16_round((float)quotients[h] * scale);
        sum[h] = epx_fp32_canonical(fp16_round(fp16_round(sum[h]) + product));
    }
}

static size_t group_elems(enum epx_row_format format)
{
    return format == EPX_ROW_FP16 ? GROUP_FP16_ELEMS : GROUP_FP32_ELEMS;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

void epx_group8_transport_row(enum epx_row_format format, uint16_t *dst, const uint16_t *src, size_t elems)
{
    for (size_t start = 0; start < elems; start += GROUP_FP32_ELEMS) {
        size_t count = elems - start < GROUP_FP32_ELEMS ? elems - start : GROUP_FP32_ELEMS;
        float group[GROUP_FP32_ELEMS];
        for (size_t h = 0; h < count; h++) {
            group[h] = epx_row_widen(format, src[start + h]);
        }
        float scale = group_max(group, count) * (1.0f / 127.0f);
        float stored = epx_row_widen(format, epx_row_narrow(format, scale));
        for (size_t h = 0; h < count; h++) {
            dst[start + h] = epx_row_narrow(format, (float)group_quotient(group[h], scale) * stored);
        }
    }
}

size_t epx_group_packed_bytes(enum epx_row_format format, size_t elems)
{
    size_t groups = (elems + group_elems(format) - 1) / group_elems(format);
    return groups * sizeof(uint16_t) + elems;
}

void epx_group_pack_row(enum epx_row_format format, void *packed, const float *acc, size_t elems)
{
    size_t step = group_elems(format);
    uint8_t *scales = packed;
    int8_t *quotients = (int8_t *)packed + (elems + step - 1) / step * sizeof(uint16_t);
    for (size_t start = 0; start < elems; start += step) {
        size_t count = min_size(elems - start, step);
        uint16_t stored = format == EPX_ROW_FP16 ? pack_group_fp16(quotients + start, acc + start, count)
                                                 : pack_group_bf16(quotients + start, acc + start, count);
        memcpy(scales + start / step * sizeof stored, &stored, sizeof stored);
    }
}

void epx_group_add_packed_row(enum epx_row_format format, float *sum, const void *packed, size_t elems)
{
    size_t step = group_elems(format);
    const uint8_t *scales = packed;
    const int8_t *quotients = (const int8_t *)packed + (elems + step - 1) / step * sizeof(uint16_t);
    for (size_t start = 0; start < elems; start += step) {
        size_t count = min_size(elems - start, step);
        uint16_t stored;
        memcpy(&stored, scales + start / step * sizeof stored, sizeof stored);
        if (format == EPX_ROW_FP16) {
            add_group_fp16(sum + start, quotients + start, stored, count);
        } else {
            add_group_bf16(sum + start, quotients + start, stored, count);
        }
    }
}

void epx_group_transport_add_row(enum epx_row_format format, float *sum, const float *acc, size_t elems)
{
    size_t step = group_elems(format);
    for (size_t start = 0; start < elems; start += step) {
        int8_t quotients[GROUP_FP16_ELEMS];
        size_t count = min_size(elems - start, step);
        if (format == EPX_ROW_FP16) {
            add_group_fp16(sum + start, quotients, pack_group_fp16(quotients, acc + start, count), count);
        } else {
            add_group_bf16(sum + start, quotients, pack_group_bf16(quotients, acc + start, count), count);
        }
    }
}
