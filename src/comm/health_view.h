/*
 * How a control region is read by people: who is missing, and why. The same for a rank of the world, which looks at the
 * shared region, and for a look from outside, which has a copy of it. Reads slots, writes nothing; what a slot says is
 * never used as more than a number. Thread: any.
 */
#ifndef EPX_COMM_HEALTH_VIEW_H
#define EPX_COMM_HEALTH_VIEW_H

#include "base/status.h"
#include "comm/control_region.h"
#include "comm/rank_set.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that hold any place of epx_health_place. */
#define EPX_HEALTH_PLACE_BYTES 128

struct epx_health_view {
    const struct epx_control *control;
    uint32_t rank_count;
    uint32_t rank;     /* whose wait it is */
    const void *owner; /* for the two below */
    bool (*is_dead)(const struct epx_health_view *view, uint32_t rank);
    uint32_t (*process_of)(const struct epx_health_view *view, uint32_t rank);
};

/* See epx_health_examine and epx_health_blame. */
EPX_NODISCARD enum epx_status epx_health_view_examine(const struct epx_health_view *view, uint64_t step,
                                                      uint64_t needed, char *text, size_t text_bytes);
void epx_health_view_blame(const struct epx_health_view *view, uint64_t step, uint64_t since_ns, uint64_t now_ns,
                           char *text, size_t text_bytes);

/* In a world on several hosts, at a deadline: whether it is known better a little later who is late at `step`, for a
 * host may be silent, or others here wait for ranks that this one does not see. */
bool epx_health_view_is_unsure(const struct epx_health_view *view, uint64_t step, uint64_t now_ns);

/* Of ranks whose host says nothing it is not known where they are; its leader is to blame. False: no such host. */
bool epx_health_view_blame_silence(const struct epx_health_view *view, const struct epx_rank_set *late, uint64_t now_ns,
                                   double waited_s, char *text, size_t text_bytes);

uint64_t epx_health_view_activity(const struct epx_health_view *view, uint32_t rank);
bool epx_health_view_arrived(const struct epx_health_view *view, uint32_t rank, uint64_t step);

/* How long the rank has been where it is, 0 when its clock says nothing. */
uint64_t epx_health_view_for_ns(const struct epx_health_view *view, uint32_t rank, uint64_t now_ns);

/* "in dispatch round 812 (phase ROWS)", "after dispatch round 811", "before its first round" */
void epx_health_place(uint64_t activity, char *text, size_t text_bytes);

#endif
