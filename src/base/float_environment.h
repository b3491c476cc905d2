/*
 * The calling thread's control of floating-point arithmetic: rounding, and whether subnormal numbers count. Programs
 * change it (to flush subnormals, say), and results must not depend on it. Thread: the caller's own state.
 */
#ifndef EPX_BASE_FLOAT_ENVIRONMENT_H
#define EPX_BASE_FLOAT_ENVIRONMENT_H

#include <stdint.h>

/* As every thread has it at its start by default: to nearest even, subnormal numbers as they are, no trap. Returns what
 * was before, for epx_float_environment_restore. */
static inline uint64_t epx_float_environment_default(void)
{
#if defined(__x86_64__)
    uint32_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1f80);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(0)));
    return before;
#else
#error "no access to the floating-point environment of this processor"
#endif
}

static inline void epx_float_environment_restore(uint64_t before)
{
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((uint32_t)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#endif
}

#endif
