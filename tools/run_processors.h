/* The processors that this program may use, and each rank's share of them. */
#ifndef EPX_TOOLS_RUN_PROCESSORS_H
#define EPX_TOOLS_RUN_PROCESSORS_H

#include <stdbool.h>
#include <stdint.h>

struct run_processors {
    uint32_t count;
    uint32_t *numbers; /* ascending */
};

/* False: errno says why. */
bool run_processors_init(struct run_processors *processors);
void run_processors_fini(struct run_processors *processors);

/* Binds the calling process to the share of a rank: all processors are given out, in order, and shares differ by one at
 * most; more ranks than processors share them, again in order. False: errno says why. */
bool run_processors_bind(const struct run_processors *processors, uint32_t rank, uint32_t rank_count);

#endif
