/*
 * One rank on its way into a smaller communicator: shrink.c decides who takes part, shrink_meet.c brings them together.
 */
#ifndef EPX_COMM_SHRINK_OBJECT_H
#define EPX_COMM_SHRINK_OBJECT_H

#include "comm/comm_object.h"
#include "comm/shrink.h"

struct epx_shrink {
    struct epx_comm *comm;
    const struct epx_shrink_request *request;
    uint64_t generation; /* that is being decided, or has been */
    uint8_t *base;       /* fates of the generation before, by old rank */
    uint8_t *fates;      /* of this one */
    bool lost;           /* a member of this generation will not come to the meeting */
};

/* What became of a rank as this rank sees it now: EPX_SHRINK_MEMBER when it takes part in the generation. */
enum epx_fate epx_shrink_look(const struct epx_shrink *shrink, uint32_t rank);

/* Opens the communicator of the members. EPX_ERR_PEER_LEFT with `lost` when one of them does not come; else the errors
 * of epx_comm_open. */
EPX_NODISCARD enum epx_status epx_shrink_meet(struct epx_shrink *shrink, struct epx_comm **out);

#endif
