/*
 * The functions behind epx_kernel_table, one set for each instruction set. Files of one instruction set are compiled
 * with its flags: all their helpers are static, so that the linker can never choose their copy of a function for a
 * processor without it. A row too short for a set's vectors goes to the next narrower set.
 */
#ifndef EPX_KERNEL_VARIANTS_H
#define EPX_KERNEL_VARIANTS_H

#include "kernel/kernel.h"

#define EPX_KERNEL_VARIANT_DECLARE(isa)                                                                                \
    void epx_copy_row__##isa(void *dst, const void *src, size_t bytes);                                                \
    void epx_copy_row_streaming__##isa(void *dst, const void *src, size_t bytes);                                      \
    float epx_quantize_row_fp16_i8__##isa(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems);        \
    float epx_quantize_row_bf16_i8__##isa(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems);        \
    void epx_weighted_sum_row_fp16__##isa(uint16_t *dst, const uint16_t *const *rows, const float *weights,            \
                                          size_t row_count, const uint16_t *plain_row, size_t elems);                  \
    void epx_weighted_sum_row_bf16__##isa(uint16_t *dst, const uint16_t *const *rows, const float *weights,            \
                                          size_t row_count, const uint16_t *plain_row, size_t elems);                  \
    void epx_weighted_sum_row_streaming_fp16__##isa(uint16_t *dst, const uint16_t *const *rows, const float *weights,  \
                                                    size_t row_count, const uint16_t *plain_row, size_t elems);        \
    void epx_weighted_sum_row_streaming_bf16__##isa(uint16_t *dst, const uint16_t *const *rows, const float *weights,  \
                                                    size_t row_count, const uint16_t *plain_row, size_t elems);        \
    void epx_dequantize_row__##isa(float *dst, const int8_t *src, float scale, size_t elems)

EPX_KERNEL_VARIANT_DECLARE(ref);
#if defined(__x86_64__)
EPX_KERNEL_VARIANT_DECLARE(avx2);
EPX_KERNEL_VARIANT_DECLARE(avx512);
#elif defined(__aarch64__)
EPX_KERNEL_VARIANT_DECLARE(neon);
#endif

#endif
