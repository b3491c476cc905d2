/*
 * The fault campaign: trials drawn from a seed, each a world of ranks as processes to which one thing happens, and a
 * verdict on what the survivors made of it. What is shared by its files:
 *   campaign_draw   which trial
 *   campaign_rank   what a rank does
 *   campaign_world  starts the ranks, does the harm, waits
 *   campaign_relay  connections between hosts that can be delayed, cut and silenced
 *   campaign_judge  what must hold afterwards
 *   campaign_table  the figures of a class
 */
#ifndef EPX_TESTS_FAULTS_CAMPAIGN_H
#define EPX_TESTS_FAULTS_CAMPAIGN_H

#include "epx/epx.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define CAMPAIGN_RANK_MAX   8u
#define CAMPAIGN_HOST_MAX   3u
#define CAMPAIGN_RELAY_MAX  128u
#define CAMPAIGN_TEXT_BYTES 512u

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAMPAIGN_SLOWNESS 4u
#else
#define CAMPAIGN_SLOWNESS 1u
#endif

/* No rank of any trial takes longer: it hangs. */
#define CAMPAIGN_LIMIT_MS (30000u * CAMPAIGN_SLOWNESS)
/* What a failure may take to be known beyond the deadline that it needs. */
#define CAMPAIGN_GRACE_MS (5000u * CAMPAIGN_SLOWNESS)

enum campaign_class {
    CAMPAIGN_HOST_KILL,
    CAMPAIGN_HOST_STOP,
    CAMPAIGN_NET_KILL,
    CAMPAIGN_NET_STOP,
    CAMPAIGN_NET_LINK,
    CAMPAIGN_LACK,
    CAMPAIGN_CALM,
    CAMPAIGN_NET_CALM,
    CAMPAIGN_CLASS_COUNT,
};

enum campaign_way { /* how the victims are hit */
                    CAMPAIGN_WAY_NONE,
                    CAMPAIGN_WAY_POINT,   /* at a fault point, by themselves */
                    CAMPAIGN_WAY_CREATE,  /* from outside, while the world is being made */
                    CAMPAIGN_WAY_ROUNDS,  /* from outside, during rounds */
                    CAMPAIGN_WAY_DESTROY, /* by a thread of their own, while they leave */
};

enum campaign_link { /* what happens to the connections of one host */
                     CAMPAIGN_LINK_WHOLE,
                     CAMPAIGN_LINK_SLOW,    /* all that passes is late */
                     CAMPAIGN_LINK_PAUSE,   /* nothing passes, for less than the time after which a host is lost */
                     CAMPAIGN_LINK_CUT,     /* connections end, no new ones */
                     CAMPAIGN_LINK_BREAK,   /* connections end, new ones can be made */
                     CAMPAIGN_LINK_SILENCE, /* nothing passes, and nothing ends */
};

enum campaign_lack {
    CAMPAIGN_LACK_NONE,
    CAMPAIGN_LACK_LOG,     /* standard error is a full disk */
    CAMPAIGN_LACK_SPACE,   /* RLIMIT_AS */
    CAMPAIGN_LACK_FILES,   /* RLIMIT_NOFILE */
    CAMPAIGN_LACK_THREADS, /* RLIMIT_NPROC */
    CAMPAIGN_LACK_KIND_COUNT,
};

struct campaign_trial {
    enum campaign_class class;
    uint64_t seed; /* of this trial */
    uint32_t number;
    uint32_t rank_count;
    uint32_t host_count;
    uint32_t host_of[CAMPAIGN_RANK_MAX];
    enum campaign_way way;
    bool stops;       /* SIGSTOP, else SIGKILL */
    uint32_t victims; /* a bit a rank */
    char point[32];
    uint32_t passage;
    uint32_t delay_us; /* of an outside hit */
    enum campaign_link link;
    uint32_t link_host; /* the one that is cut off */
    enum campaign_lack lack;
    uint64_t lack_amount;
    bool lack_at_create;  /* else before the first operation */
    uint32_t round_count; /* 0: until something fails */
    uint32_t skew_us;     /* longest pause before an operation */
    uint32_t load;        /* processes that keep cores busy */
    bool counts_files;    /* descriptors and threads before and after */
    bool wakes_early;     /* stopped ranks go on before the survivors meet again */
    int64_t join_timeout_ms;
    int64_t op_timeout_ms;
    int64_t host_timeout_ms;
};

struct campaign_report { /* of a rank; written by it */
    int status;          /* of the first call that failed */
    char call[24];
    char text[CAMPAIGN_TEXT_BYTES];
    uint64_t ended_ns;
    _Atomic uint32_t ended;
    int again_status; /* of the world of survivors */
    char again_text[CAMPAIGN_TEXT_BYTES];
    int32_t files_more; /* left by the world that failed */
    int32_t threads_more;
    bool limit_refused; /* the limit could not be set */
    uint64_t rounds;
};

struct campaign_relay_entry {
    uint32_t port;        /* of the relay */
    _Atomic uint64_t key; /* 1 + host that connects << 32 | port that it wants; 0: free */
};

struct campaign_relay { /* shared by all processes of a trial */
    _Atomic uint32_t ready;
    _Atomic uint32_t mode;              /* enum campaign_link */
    _Atomic uint32_t cuts;              /* how often connections were ended */
    _Atomic uint32_t port_hosts[65536]; /* 1 + host that listens */
    struct campaign_relay_entry entries[CAMPAIGN_RELAY_MAX];
};

struct campaign_board { /* shared by all processes of a trial */
    struct campaign_trial trial;
    struct epx_token token;
    struct epx_token again_token;
    uint32_t again_ranks[CAMPAIGN_RANK_MAX]; /* UINT32_MAX: not of that world */
    uint32_t again_count;
    char root[64];
    char again_root[64];
    pid_t parent;
    _Atomic uint32_t created; /* ranks */
    _Atomic uint32_t again;   /* 1: the survivors may meet */
    struct campaign_report reports[CAMPAIGN_RANK_MAX];
    struct campaign_relay relay;
};

struct campaign_outcome {
    uint32_t hit; /* victims that were, a bit a rank */
    uint64_t hit_ns;
    uint32_t hung;    /* ranks that had to be ended */
    uint32_t crashed; /* that ended otherwise than they should */
    char left[128];   /* what was left behind */
};

struct campaign_verdict {
    bool detected; /* by all survivors, or nobody needed the victim any more */
    bool unneeded; /* the victim was not hit, or nobody needed it */
    bool named;
    bool same; /* status and text, where the protocol promises it */
    bool clean;
    bool again;
    bool skipped;
    double took_ms; /* until the last survivor knew */
    char why[1024];
};

struct campaign_figures {
    uint32_t trials, skipped, failed, needed, detected, named, same, clean, again;
    double *took_ms; /* of trials that were needed */
};

static inline bool campaign_is_victim(const struct campaign_trial *trial, uint32_t rank)
{
    return (trial->victims >> rank & 1u) != 0;
}

const char *campaign_class_name(enum campaign_class class);
/* Whether this build and machine can do it; else why not. */
const char *campaign_class_lacks(enum campaign_class class);
void campaign_draw(enum campaign_class class, uint32_t number, uint64_t seed, struct campaign_trial *trial);
void campaign_trial_print(const struct campaign_trial *trial, char *text, size_t text_bytes);

uint64_t campaign_now_ns(void);
void campaign_sleep_us(uint64_t us);

/* In a child; ends the process. */
_Noreturn void campaign_rank_main(struct campaign_board *board, uint32_t rank);

/* In a child; ends with its parent. */
_Noreturn void campaign_relay_main(struct campaign_board *board);
/* In a rank: its connections go by way of the relay. */
void campaign_relay_use(struct campaign_board *board, uint32_t host);

void campaign_world_run(struct campaign_board *board, struct campaign_outcome *outcome);

void campaign_judge(const struct campaign_board *board, const struct campaign_outcome *outcome,
                    struct campaign_verdict *verdict);

void campaign_figures_add(struct campaign_figures *figures, const struct campaign_verdict *verdict);
void campaign_figures_print(const struct campaign_figures *figures, FILE *out);
bool campaign_figures_write(const struct campaign_figures *figures, uint64_t seed, const char *path);

#endif
