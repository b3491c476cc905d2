/* The judge: the whole world computed again by the single-process reference. */
#ifndef EPX_DEMO_VERIFY_H
#define EPX_DEMO_VERIFY_H

#include "board.h"

struct verdict {
    int64_t ranks_right;
    int64_t wrong_elements; /* of the outputs of combine, all ranks */
    int64_t checked_elements;
    int64_t wrong_dispatches; /* ranks whose received rows, scales or counts differ from the reference's */
    int64_t rounds_that_differ;
};

/* `progress` is called with the part done, 0 .. 1; null allowed. 0, or -1 with a message on standard error. */
int verify_world(const struct demo_options *options, const struct board *board, void (*progress)(double part),
                 struct verdict *verdict);

#endif
