/*
 * The control region's file while a world starts: the control region itself and, on a page of its own behind it, the
 * verdict on the start. The verdict is what makes success agreed: the centre says COMPLETE only after every rank has
 * mapped everything, a rank that has said so and gives up says GIVEN_UP, the first word stands. So a centre that dies
 * while it spreads the news leaves no rank in doubt.
 */
#ifndef EPX_COMM_BOOTSTRAP_SHARED_H
#define EPX_COMM_BOOTSTRAP_SHARED_H

#include "base/status.h"

#include <stdatomic.h>
#include <stdint.h>

enum epx_boot_verdict {
    EPX_BOOT_PENDING = 0,
    EPX_BOOT_COMPLETED = 1, /* by the centre */
    EPX_BOOT_GIVEN_UP = 2,  /* by any rank */
};

/* On a page of its own. Writers: centre and ranks, once, by compare-and-swap (acq_rel). Readers: ranks (acquire). */
struct epx_boot_verdict_page {
    _Atomic uint32_t verdict;
};

/* What the file is called in /proc/<pid>/maps: "/memfd:" and this. */
#define EPX_BOOT_SHARED_NAME "epx-control"

/* Largest control region, so that sizes cannot overflow. */
#define EPX_BOOT_SHARED_BYTES_MAX ((uint64_t)1 << 40)

/* A zeroed, populated file, sealed against any change of size. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM. */
EPX_NODISCARD enum epx_status epx_boot_shared_create(uint64_t shared_bytes, int *fd);

/* Maps what a peer handed over as such a file; a forked child does not inherit it. EPX_ERR_PROTOCOL (size or seals),
 * EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_boot_shared_map(int fd, uint64_t shared_bytes, void **shared);
EPX_NODISCARD enum epx_status epx_boot_verdict_map(int fd, uint64_t shared_bytes, struct epx_boot_verdict_page **page);
void epx_boot_verdict_unmap(struct epx_boot_verdict_page *page);

/* Says `verdict` unless one stands already; returns the one that stands. */
enum epx_boot_verdict epx_boot_verdict_say(struct epx_boot_verdict_page *page, enum epx_boot_verdict verdict);

#endif
