/*
 * What a copy of a control region says, for a look from outside. The copy may be damaged, or of something else: every
 * value is checked before it is used. Thread: any.
 */
#ifndef EPX_COMM_STATUS_PAGE_H
#define EPX_COMM_STATUS_PAGE_H

#include "base/process.h"
#include "base/status.h"
#include "comm/control_region.h"
#include "comm/health_view.h"

#include <stdbool.h>
#include <stdint.h>

enum epx_rank_life {
    EPX_RANK_JOINING = 0,
    EPX_RANK_ALIVE = 1,
    EPX_RANK_STOPPED = 2, /* alive, and stopped by a signal or a debugger */
    EPX_RANK_JOINED = 3,  /* has joined; whether its process lives is not known */
    EPX_RANK_LEFT = 4,
    EPX_RANK_DIED = 5,
};

struct epx_status_rank {
    uint32_t pid;     /* as the rank knows it */
    bool is_pid_here; /* a pid of the looking process's namespace, too */
    enum epx_rank_life life;
    uint64_t activity;
    bool waits;     /* at the step that is not complete */
    bool has_clock; /* for_ns can be told */
    uint64_t for_ns;
    char host[EPX_CONTROL_HOST_BYTES]; /* "" in a world on one host */
};

struct epx_status_page {
    char name[EPX_CONTROL_TEXT_BYTES];
    char job[EPX_CONTROL_TEXT_BYTES];
    char origin[EPX_CONTROL_TEXT_BYTES];
    uint32_t rank_count;
    uint64_t step_count; /* completed */
    uint32_t failed;     /* 0, or 1 + the rank whose record is the cause */
    enum epx_status failure;
    char failure_text[EPX_ERROR_TEXT_BYTES];
    char late[160];                   /* "ranks 5-7": whom the ranks that wait wait for; "" when none waits */
    char blame[EPX_ERROR_TEXT_BYTES]; /* what a wait that ended now would say; "" when none waits */
    bool is_overdue;                  /* and that it would end now */
    bool is_healthy;                  /* not failed, not overdue, nobody died */
    struct epx_status_rank *ranks;    /* rank_count */
};

/* Whether the copy is a control region of this layout, whole: its rank count; EPX_ERR_PROTOCOL;
 * EPX_ERR_STATE while nobody has stamped it yet. */
EPX_NODISCARD enum epx_status epx_status_page_check(const struct epx_control *copy, uint64_t bytes,
                                                    uint32_t *rank_count);

/*
 * The processes behind the ranks of a checked copy, rank_count of them. To be looked at before the copy that is read:
 * then whose process is seen dead is seen with all it has said.
 */
void epx_status_page_look(const struct epx_control *copy, uint32_t rank_count, struct epx_process *processes);

/* Reads a copy; on failure nothing is to be freed. As epx_status_page_check, and EPX_ERR_PROTOCOL when it has not
 * rank_count ranks; EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_status_page_read(const struct epx_control *copy, uint64_t bytes, uint64_t now_ns,
                                                   const struct epx_process *processes, uint32_t rank_count,
                                                   struct epx_status_page *page);

void epx_status_page_fini(struct epx_status_page *page);

#endif
