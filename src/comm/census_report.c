#include "comm/census_star.h"

#include "base/clock.h"

#define REPORT_INTERVAL_NS 100000000u

/* Ranks that never came; when all have come and some have left, those. */
static void make_report(const struct epx_census_centre *centre, struct epx_census_missing *report)
{
    uint32_t rank_count = centre->request->rank_count;
    *report =
        (struct epx_census_missing){.phase = centre->frames != NULL ? EPX_CENSUS_CONFIRMING : EPX_CENSUS_GATHERING};
    for (uint32_t r = 0; r < rank_count; r++) {
        uint32_t holder = centre->holders[r];
        bool done = centre->frames != NULL ? holder != EPX_CENSUS_NOBODY && centre->guests[holder].confirmed
                                           : epx_rank_set_has(&centre->seen, r);
        if (!done) {
            epx_rank_set_add(&report->ranks, r);
        }
    }
    for (uint32_t r = 0; epx_rank_set_count(&centre->seen) == rank_count && centre->frames == NULL && r < rank_count;
         r++) {
        if (centre->holders[r] == EPX_CENSUS_NOBODY) {
            epx_rank_set_add(&report->ranks, r);
        }
    }
}

void epx_census_report(struct epx_census_centre *centre, bool last)
{
    uint64_t now = epx_clock_ns();
    if (centre->complete || (now < centre->report_ns && !last)) {
        return;
    }
    struct epx_census_missing report;
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_MISSING_BYTES];
    make_report(centre, &report);
    uint32_t bytes = epx_census_missing_encode(&report, frame + EPX_CENSUS_HEAD_BYTES);
    for (uint32_t g = 0; g < centre->capacity && !centre->over; g++) {
        struct epx_census_guest *guest = &centre->guests[g];
        if (guest->fd >= 0 && guest->joined && (guest->report_due || last) && epx_census_guest_is_idle(centre, guest)) {
            guest->report_due = false;
            epx_census_guest_put(guest, EPX_CENSUS_MISSING, frame, bytes);
            epx_census_guest_flush(centre, guest);
        }
    }
    centre->report_ns = now + REPORT_INTERVAL_NS;
}
