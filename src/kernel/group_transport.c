#include "kernel/row_format.h"

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

/* int8 of a quotient that passes through half precision, as fp32. */
static float group_quotient(float value, float scale)
{
    return (float)epx_i8_from_fp32(fp16_round(value / scale));
}

static void add_group_bf16(float *sum, const float *acc, size_t count)
{
    float scale = group_max(acc, count) * (1.0f / 127.0f);
    float stored = epx_fp32_from_bf16(epx_bf16_from_fp32(scale));
    for (size_t h = 0; h < count; h++) {
        float product = group_quotient(acc[h], scale) * stored;
        sum[h] = epx_fp32_canonical(sum[h] + product);
    }
}

/* Half precision arithmetic: a result of fp32 arithmetic on two halves, rounded again to half, is the correctly rounded
 * one, since fp32 has more than twice the digits. */
static void add_group_fp16(float *sum, const float *acc, size_t count)
{
    float partial[GROUP_FP16_ELEMS];
    for (size_t h = 0; h < count; h++) {
        partial[h] = fp16_round(acc[h]);
    }
    float scale = fp16_round(group_max(partial, count) * fp16_round(1.0f / 127.0f));
    for (size_t h = 0; h < count; h++) {
        float product = fp16_round(group_quotient(partial[h], scale) * scale);
        sum[h] = epx_fp32_canonical(fp16_round(fp16_round(sum[h]) + product));
    }
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
            dst[start + h] = epx_row_narrow(format, group_quotient(group[h], scale) * stored);
        }
    }
}

void epx_group_transport_add_row(enum epx_row_format format, float *sum, const float *acc, size_t elems)
{
    size_t group_elems = format == EPX_ROW_FP16 ? GROUP_FP16_ELEMS : GROUP_FP32_ELEMS;
    for (size_t start = 0; start < elems; start += group_elems) {
        size_t count = elems - start < group_elems ? elems - start : group_elems;
        if (format == EPX_ROW_FP16) {
            add_group_fp16(sum + start, acc + start, count);
        } else {
            add_group_bf16(sum + start, acc + start, count);
        }
    }
}
