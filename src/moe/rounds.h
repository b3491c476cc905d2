/*
 * The rounds of one operation: one in the expert-parallel group and, with tensor parallelism, one in the pair of
 * tensor- parallel peers. Whatever fails one fails both with the same status and text, so that every rank of both
 * expert-parallel groups reports the same cause.
 *
 * After a failure of any function here both rounds are over. The status returned is the one with which the
 * expert-parallel communicator has failed.
 */
#ifndef EPX_MOE_ROUNDS_H
#define EPX_MOE_ROUNDS_H

#include "comm/completion.h"
#include "comm/remote.h"
#include "moe/agreement_fields.h"
#include "moe/request.h"

#include <stdbool.h>

struct epx_rounds { /* caller's memory */
    struct epx_round ep;
    struct epx_round tp;
    bool has_tp;
    bool ep_open;
    bool tp_open;
};

struct epx_rounds_place {
    struct epx_comm *comm;
    struct epx_comm *tp_comm; /* null without */
    uint64_t round;
    uint64_t tp_round;
    enum epx_operation operation;
};

/*
 * Functions with `until_ns` return with *pending when that time passes first; then nothing has changed, and the same
 * call is to be made again, by any thread. Only waits for the expert-parallel group end so: in the pair every wait is
 * for as long as it takes.
 */
EPX_NODISCARD enum epx_status epx_rounds_begin(struct epx_rounds *rounds, const struct epx_rounds_place *place,
                                               uint64_t until_ns, bool *pending);

/* Publishes in the expert-parallel group; what crosses to other hosts, of which there is nothing on one host (see
 * comm/remote.h), and the arrival at ENTER when it has; the wait for ENTER and the comparison of arguments. */
EPX_NODISCARD enum epx_status epx_rounds_publish(struct epx_rounds *rounds, const struct epx_agreement *agreement,
                                                 const struct epx_publication *publication);
EPX_NODISCARD enum epx_status epx_rounds_begin_remote(struct epx_rounds *rounds, const struct epx_remote_source *source,
                                                      const struct epx_remote_sink *sink);
EPX_NODISCARD enum epx_status epx_rounds_await_remote(struct epx_rounds *rounds, uint64_t until_ns, bool *pending);
/* The wait for another wire part, after ENTER. */
EPX_NODISCARD enum epx_status epx_rounds_await_sums(struct epx_rounds *rounds);
EPX_NODISCARD enum epx_status epx_rounds_await_enter(struct epx_rounds *rounds, uint64_t until_ns, bool *pending);

/* epx_round_enter and epx_round_peer of one group's round. */
EPX_NODISCARD enum epx_status epx_rounds_enter(struct epx_rounds *rounds, enum epx_moe_group group,
                                               const struct epx_agreement *agreement,
                                               const struct epx_publication *publication);
EPX_NODISCARD enum epx_status epx_rounds_peer(struct epx_rounds *rounds, enum epx_moe_group group, uint32_t rank,
                                              const void **exchange, uint64_t *bytes);

EPX_NODISCARD enum epx_status epx_rounds_fail(struct epx_rounds *rounds, enum epx_status status, const char *format,
                                              ...) EPX_PRINTF(3, 4);

/* epx_arena_need for memory, or the first rows of a tensor, that the operation is about to write or read; a lack of it
 * fails the round. `what` is the name for the message. */
EPX_NODISCARD enum epx_status epx_rounds_need(struct epx_rounds *rounds, const char *what, const void *memory,
                                              uint64_t bytes);
EPX_NODISCARD enum epx_status epx_rounds_need_rows(struct epx_rounds *rounds, const char *what,
                                                   const struct epx_view *view, int64_t row_count);

/*
 * The last step, DONE, of both rounds, and its end. Everything that can fail on this rank lies before. The pair comes
 * first: a rank whose group has failed does not arrive there, so its peer does not arrive at DONE of the other group,
 * and that group fails too.
 */
EPX_NODISCARD enum epx_status epx_rounds_arrive_done(struct epx_rounds *rounds);
EPX_NODISCARD enum epx_status epx_rounds_await_done(struct epx_rounds *rounds, uint64_t until_ns, bool *pending);
/* After DONE: the next operation may begin. */
void epx_rounds_end(struct epx_rounds *rounds);

#endif
