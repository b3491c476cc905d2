/*
 * Do the ranks' arguments match? Pure: from copies of what the ranks put up to a text. The text depends on the entries
 * alone, so that it is the same whichever rank composes it.
 */
#ifndef EPX_COMM_AGREEMENT_H
#define EPX_COMM_AGREEMENT_H

#include "comm/completion.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct epx_agreement_entry { /* of one rank, copied out of its slot */
    uint64_t round;          /* 0: the rank arrived at the step without entering a round there */
    uint32_t operation;
    struct epx_agreement agreement;
};

/*
 * Whether all entries are equal. When they are not, `text` tells the first difference, looked for in this order: round
 * number, operation, the fields in their order, the remaining bytes. Rank 0's entry is the reference.
 *
 *   rounds differ: rank 0 is in round 12, rank 3 is in round 13
 *   operation differs in round 12: ranks 0-2 run dispatch, rank 3 runs combine
 *   hidden_elems differs: rank 0 has 7168, ranks 3,5-7 have 4096
 */
bool epx_agreement_equal(const struct epx_agreement_entry *entries, uint32_t rank_count,
                         const struct epx_agreement_field *fields, uint32_t field_count, char *text, size_t text_bytes);

#endif
