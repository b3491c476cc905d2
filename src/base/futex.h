/*
 * Wait and wake on a 32-bit word that other processes may share. Thread: any.
 */
#ifndef EPX_BASE_FUTEX_H
#define EPX_BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * Sleeps while *word == expected, at most until `deadline_ns` (epx_clock_ns; EPX_NEVER for no limit). Returns at a
 * wake, at a changed word, at a signal and at the deadline alike: the caller looks again.
 */
void epx_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns);

/* Wakes every sleeper on `word`. */
void epx_futex_wake_all(_Atomic uint32_t *word);

/* A hint to the processor inside a spinning loop. */
static inline void epx_cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
