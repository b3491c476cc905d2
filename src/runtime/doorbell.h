/*
 * Timers on which a thread sleeps and that other threads set: a thread that is to wake later need not be woken to be
 * told so. A process has EPX_DOORBELLS_MAX of them at most, each a descriptor; a forked child has none. Thread: any.
 */
#ifndef EPX_RUNTIME_DOORBELL_H
#define EPX_RUNTIME_DOORBELL_H

#include <stdint.h>

/* Few, since programs make streams by the hundred and need their descriptors for themselves. */
#define EPX_DOORBELLS_MAX 64

/* A number, or -1 when the process has no more descriptors, or doorbells, to give. Touches no error text. */
int epx_doorbell_open(void);
void epx_doorbell_close(int bell);

/* Rings once after delay_ns, and not at an earlier set time any more. */
void epx_doorbell_ring(int bell, uint64_t delay_ns);

enum epx_doorbell_call {
    EPX_DOORBELL_RANG,
    EPX_DOORBELL_SILENT, /* not within EPX_DOORBELL_PATIENCE_MS */
    EPX_DOORBELL_LOST,   /* the descriptor was closed behind the library's back: it is none of its own any more */
};

/* A bell that the program has closed under a sleeper never rings: nobody sleeps longer on one. */
#define EPX_DOORBELL_PATIENCE_MS 1000

/* Sleeps until it rings, or returns at once when it has rung since the last call. */
enum epx_doorbell_call epx_doorbell_await(int bell);

#endif
