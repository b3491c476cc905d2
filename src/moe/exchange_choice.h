/* Which algorithm, when that is left to the library. Pure. Thread: any. */
#ifndef EPX_MOE_EXCHANGE_CHOICE_H
#define EPX_MOE_EXCHANGE_CHOICE_H

#include "moe/request.h"

/* Two-level between hosts, where the ranks of each server are on one of them and its sums save enough rows; else the
 * full mesh. A function of topk and of where the ranks are: the same on every rank. */
enum epx_algorithm epx_moe_choose_algorithm(const struct epx_moe_shape *shape, const struct epx_comm *comm);

#endif
