#include "kernel/kernel.h"

#include "base/config.h"
#include "base/log.h"
#include "kernel/variants.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define VARIANT_TABLE(name)                                                                                            \
    {                                                                                                                  \
        .isa = #name, .copy_row = epx_copy_row__##name, .copy_row_streaming = epx_copy_row_streaming__##name,          \
        .quantize_row =                                                                                                \
            {[EPX_ROW_FP16] = epx_quantize_row_fp16_i8__##name, [EPX_ROW_BF16] = epx_quantize_row_bf16_i8__##name},    \
        .weighted_sum_row =                                                                                            \
            {[EPX_ROW_FP16] = epx_weighted_sum_row_fp16__##name, [EPX_ROW_BF16] = epx_weighted_sum_row_bf16__##name},  \
        .weighted_sum_row_streaming = {[EPX_ROW_FP16] = epx_weighted_sum_row_streaming_fp16__##name,                   \
                                       [EPX_ROW_BF16] = epx_weighted_sum_row_streaming_bf16__##name},                  \
        .dequantize_row = epx_dequantize_row__##name,                                                                  \
    }

struct variant {
    struct epx_kernel_table table;
    bool (*is_supported)(void);
};

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
/* __builtin_cpu_supports also asks whether the operating system saves the registers. It has no word for F16C with
 * every compiler; F16C uses the same registers as AVX2. */
static bool has_avx2(void)
{
    unsigned int eax;
    unsigned int ebx;
    unsigned int ecx;
    unsigned int edx;
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

/* Best first. */
static const struct variant variants[] = {
#if defined(__x86_64__)
    {VARIANT_TABLE(avx512), has_avx512},
    {VARIANT_TABLE(avx2), has_avx2},
#elif defined(__aarch64__)
    {VARIANT_TABLE(neon), always},
#endif
    {VARIANT_TABLE(ref), always},
};

static const struct epx_kernel_table *chosen_table;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

static void choose_table(void)
{
    const char *isa = epx_option_text(EPX_OPTION_CPU);
    if (strcmp(isa, "auto") != 0) {
        chosen_table = epx_kernels_by_name(isa);
    }
    for (size_t i = 0; chosen_table == NULL; i++) {
        if (variants[i].is_supported()) {
            chosen_table = &variants[i].table;
        }
    }
    if (strcmp(isa, "auto") != 0 && strcmp(isa, chosen_table->isa) != 0) {
        epx_log(EPX_LOG_WARN, "EPX_CPU=%s is not available on this machine, using %s", isa, chosen_table->isa);
    }
}

const struct epx_kernel_table *epx_kernels_by_name(const char *isa)
{
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        if (strcmp(isa, variants[i].table.isa) == 0) {
            return variants[i].is_supported() ? &variants[i].table : NULL;
        }
    }
    return NULL;
}

const struct epx_kernel_table *epx_kernels(void)
{
    pthread_once(&chosen_once, choose_table);
    return chosen_table;
}

void epx_kernel_store_fence(void)
{
#if defined(__x86_64__)
    __asm__ volatile("sfence" ::: "memory");
#endif
    /* Elsewhere no variant bypasses the cache: the release-store that publishes the row is enough. */
}
