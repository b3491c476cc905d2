/*
 * The control region: the one piece of memory that all ranks of a communicator on a host map. It holds what decides a
 * round (the word), the count of arrivals, and a slot a rank. Integers of fixed width only, no pointers.
 *
 * Rules: a slot is written by its rank alone; the word, the arrivals, the sleepers and the parts change by atomic
 * read-modify-write alone. What is read from another rank's slot is copied out, then checked, then used.
 *
 * In a world on several hosts each host has such a region, with a slot for every rank of the world. The slot of a
 * remote rank is written by this host's agent (agent.h), its entries by the rank here that stands for it (hosts.h).
 */
#ifndef EPX_COMM_CONTROL_REGION_H
#define EPX_COMM_CONTROL_REGION_H

#include "base/status.h"
#include "comm/completion.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two 64-byte lines: processors fetch them in pairs. */
#define EPX_CONTROL_LINE_BYTES 128u

#define EPX_CONTROL_MAGIC   0x45505843u
#define EPX_CONTROL_VERSION 5u

/* Bytes of the texts that say which world it is, with their NUL: a line each; a longer text is cut. */
#define EPX_CONTROL_TEXT_BYTES EPX_CONTROL_LINE_BYTES

/* Bytes of a host's name with its NUL; a longer one is cut. */
#define EPX_CONTROL_HOST_BYTES 32u

/* Who decides what becomes of a step of the world. */
enum epx_decider {
    EPX_DECIDER_HERE = 0,  /* ranks and agent of this host, by compare-and-swap of the word */
    EPX_DECIDER_AGENT = 1, /* another host: ranks here propose, the agent of this host writes what was decided */
};

enum epx_life {
    EPX_LIFE_NONE = 0, /* has not come back from its bootstrap yet */
    EPX_LIFE_JOINED = 1,
    EPX_LIFE_LEFT = 2, /* closed; arrives at no further step */
};

/*
 * What a rank puts up for one round. Writer: the rank, before it arrives at the round's first step. Readers: all ranks,
 * from the end of that step to the end of the round. Order: plain; made visible by the arrival. Entry number & 1 holds
 * round `number`: it is written again two rounds later, when every rank has left the round of its readers, since all
 * have arrived at the first step of the round between.
 */
struct epx_control_entry {
    uint64_t step;  /* the step of the communicator at which the rank entered, from 1 */
    uint64_t round; /* the rank's number of the round, from 1 */
    uint32_t operation;
    uint32_t reserved;
    struct epx_publication publication;
    struct epx_agreement agreement;
    uint8_t pad[24];
};
_Static_assert(sizeof(struct epx_control_entry) == EPX_CONTROL_LINE_BYTES, "an entry fills a line");
_Static_assert(offsetof(struct epx_control_entry, publication) == 24, "layout");
_Static_assert(offsetof(struct epx_control_entry, agreement) == 40, "layout");

/*
 * Why a rank failed the communicator. Writer: the rank, under its private lock, only while the word is not failed;
 * final from the moment the word names the rank. Readers: all ranks, once the word names the rank. Order: made visible
 * by the compare-and-swap of the word (release), read after a load of the word (acquire).
 */
struct epx_control_failure {
    _Atomic uint32_t status; /* relaxed: read once */
    uint32_t reserved;
    char text[EPX_ERROR_TEXT_BYTES];
    uint8_t pad[5 * EPX_CONTROL_LINE_BYTES - EPX_ERROR_TEXT_BYTES - 8];
};
_Static_assert(sizeof(struct epx_control_failure) == 5 * EPX_CONTROL_LINE_BYTES, "layout");

/*
 * Which process a rank runs in, for whoever looks at the region from outside; no rank reads another's. Writer: the
 * rank, before it has joined, of a remote rank the leader here, before the first step; constant then. Namespaces are
 * inode numbers of nsfs, 0 where they cannot be had.
 */
struct epx_control_process {
    uint32_t pid;            /* in the namespace below */
    uint32_t pid_namespace;  /* numbers of processes */
    uint32_t time_namespace; /* clocks: since_ns and start_ticks are those of this one */
    uint32_t host;           /* in a world on several hosts: its number */
    uint64_t start_ticks;    /* when it began, as /proc/<pid>/stat has it: tells it from a later one of the same pid */
};
_Static_assert(sizeof(struct epx_control_process) == 24, "layout");

/* A rank's slot. Writer: the rank. Readers: all ranks. */
struct epx_control_slot {
    /* Line 0: how far the rank is. For checks and messages; what decides is `arrivals` and the word. */
    alignas(EPX_CONTROL_LINE_BYTES) _Atomic uint64_t arrived_step; /* release, after the arrival was counted */
    _Atomic uint64_t activity; /* round << 16 | operation << 8 | phase; relaxed: one value, so never half of two */
    _Atomic uint64_t since_ns; /* CLOCK_MONOTONIC of the last change of activity; relaxed */
    _Atomic uint32_t life;     /* enum epx_life; release, after the last arrived_step */
    uint32_t progress_reserved;
    struct epx_control_process process;
    _Atomic int64_t op_timeout_ms; /* how long the rank waits in a round, < 0: for ever; relaxed, for messages alone */
    char host_name[EPX_CONTROL_HOST_BYTES]; /* "" in a world on one host; written with process */
    _Atomic uint64_t
        heard_ns; /* of a remote rank: CLOCK_MONOTONIC when its host said all this; relaxed, for messages */
    _Atomic uint64_t shrink_wish; /* the latest generation that the rank takes part in, 0: none (see shrink.h);
                                     sequentially consistent: of two that raise theirs one sees both */
    uint8_t progress_pad[EPX_CONTROL_LINE_BYTES - 80 - EPX_CONTROL_HOST_BYTES];

    struct epx_control_entry entries[2];
    struct epx_control_failure failure;
};
_Static_assert(offsetof(struct epx_control_slot, activity) == 8, "layout");
_Static_assert(offsetof(struct epx_control_slot, since_ns) == 16, "layout");
_Static_assert(offsetof(struct epx_control_slot, life) == 24, "layout");
_Static_assert(offsetof(struct epx_control_slot, process) == 32, "layout");
_Static_assert(offsetof(struct epx_control_slot, op_timeout_ms) == 56, "layout");
_Static_assert(offsetof(struct epx_control_slot, host_name) == 64, "layout");
_Static_assert(offsetof(struct epx_control_slot, shrink_wish) == 104, "layout");
_Static_assert(offsetof(struct epx_control_slot, entries) == 1 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control_slot, failure) == 3 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(sizeof(struct epx_control_slot) == 1024, "a slot is a multiple of the line");

/* completed steps << 16 | (0 or 1 + the rank whose failure record is the cause). */
union epx_control_word {
    _Atomic uint64_t value;
    _Atomic uint32_t low; /* what sleepers wait on */
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the futex word is the low half of the control word");
_Static_assert(sizeof(union epx_control_word) == 8, "layout");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared atomics must be lock-free");

struct epx_control {
    /* Line 0. magic << 32 | version << 16 | rank_count. Writer: the first rank that opens (from 0). Constant then. */
    alignas(EPX_CONTROL_LINE_BYTES) _Atomic uint64_t identity;
    _Atomic uint64_t first_step; /* 1 + the steps that count as done from the beginning: see epx_control_begin. Writer:
                                    the first rank that begins (from 0). Constant then */
    uint8_t identity_pad[EPX_CONTROL_LINE_BYTES - 16];

    /* Line 1. Writers: all, by compare-and-swap (sequentially consistent: see sleepers). */
    union epx_control_word word;
    uint8_t word_pad[EPX_CONTROL_LINE_BYTES - 8];

    /* Line 2. Arrivals at steps since creation, all ranks. Writers: all, by fetch-and-add (acquire and release: it
     * carries every rank's memory to whoever completes the step). Step s is complete at rank_count * s. */
    _Atomic uint64_t arrivals;
    uint8_t arrivals_pad[EPX_CONTROL_LINE_BYTES - 8];

    /* Line 3. Ranks about to sleep or asleep on the word. Writers: all, by fetch-and-add. A sleeper raises it and then
     * reads the word; who changes the word does so and then reads it. All four are sequentially consistent, so at least
     * one of the two sees the other, and no sleeper is left behind. A rank killed asleep leaves it raised: then it only
     * costs a system call a step. */
    _Atomic uint32_t sleepers;
    uint8_t sleepers_pad[EPX_CONTROL_LINE_BYTES - 4];

    /* Line 4. Parts of rounds that ranks have begun, all ranks, for pacing alone: nothing depends on it. Writers: all,
     * by fetch-and-add, relaxed. */
    _Atomic uint64_t parts;
    uint8_t parts_pad[EPX_CONTROL_LINE_BYTES - 8];

    /* Lines 5 to 7: which world it is, for whoever looks from outside; no rank reads them. Writer: rank 0, before it
     * has joined; constant then. */
    char name[EPX_CONTROL_TEXT_BYTES];   /* of the communicator */
    char job[EPX_CONTROL_TEXT_BYTES];    /* EPX_JOB, "" without */
    char origin[EPX_CONTROL_TEXT_BYTES]; /* where the ranks have met: "rank table /x/y.json", "token", ... */

    /* Line 8: of a world on several hosts. */
    _Atomic uint64_t world_step; /* the latest step at which ranks here wait for other hosts. Writers: ranks here, all
                                    the same value, before they arrive (release) */
    _Atomic uint64_t proposal; /* 0, or steps completed << 16 | 1 + rank here whose failure record asks for a decision.
                                  Writers: ranks here, from 0; the agent, to 0, when the step was completed after all */
    _Atomic uint32_t decider;  /* enum epx_decider. Writers: the agent; ranks here when the agent is gone */
    _Atomic uint32_t bell;     /* raised after what the agent should see; it sleeps on it */
    _Atomic uint64_t agent_ns; /* CLOCK_MONOTONIC of the agent's latest beat. Writer: the agent; relaxed */
    uint8_t world_pad[EPX_CONTROL_LINE_BYTES - 32];

    /* Line 9: who goes on without those that are lost: generation << 16 | (0 or 1 + the rank whose list it is).
     * Writers: all, by compare-and-swap (sequentially consistent), from one generation to the next. */
    union epx_control_word shrink;
    uint8_t shrink_pad[EPX_CONTROL_LINE_BYTES - 8];

    struct epx_control_slot slots[]; /* rank_count; behind them, two lists a rank: epx_control_list */
};
_Static_assert(offsetof(struct epx_control, word) == 1 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, arrivals) == 2 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, sleepers) == 3 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, parts) == 4 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, name) == 5 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, job) == 6 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, origin) == 7 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, world_step) == 8 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, shrink) == 9 * EPX_CONTROL_LINE_BYTES, "layout");
_Static_assert(offsetof(struct epx_control, slots) == 10 * EPX_CONTROL_LINE_BYTES, "layout");

static inline uint64_t epx_word_make(uint64_t step, uint32_t failed)
{
    return step << 16 | failed;
}

static inline uint64_t epx_word_step(uint64_t word)
{
    return word >> 16;
}

/* 0, or 1 + the failed rank. */
static inline uint32_t epx_word_failed(uint64_t word)
{
    return (uint32_t)(word & 0xFFFFu);
}

static inline uint64_t epx_activity_make(uint64_t round, enum epx_operation operation, enum epx_phase phase)
{
    return round << 16 | (uint64_t)((uint32_t)operation & 0xFFu) << 8 | ((uint32_t)phase & 0xFFu);
}

static inline uint64_t epx_activity_round(uint64_t activity)
{
    return activity >> 16;
}

static inline uint32_t epx_activity_operation(uint64_t activity)
{
    return (uint32_t)(activity >> 8) & 0xFFu;
}

static inline uint32_t epx_activity_phase(uint64_t activity)
{
    return (uint32_t)activity & 0xFFu;
}

/* "dispatch", "ROWS"; a text for every value, so that a peer's may be printed. Static. */
const char *epx_operation_name(uint32_t operation);
const char *epx_phase_name(uint32_t phase);

/* Copies a text of fixed length that another process has written: it ends, and steers no terminal. */
void epx_control_text_copy(char *text, const char *shared, size_t bytes);

/* Ranks in a word of a list, and words of a list, which fills whole lines. */
#define EPX_CONTROL_LIST_RANKS 16u

static inline uint32_t epx_control_list_words(uint32_t rank_count)
{
    uint32_t ranks_per_line = EPX_CONTROL_LINE_BYTES / 8 * EPX_CONTROL_LIST_RANKS;
    return (rank_count + ranks_per_line - 1) / ranks_per_line * (EPX_CONTROL_LINE_BYTES / 8);
}

/*
 * The list that `rank` wrote for a generation of `shrink`: what became of each rank, 4 bits each, enum epx_fate
 * (shrink.h). Writer: the rank. Readers: all ranks, which look at `shrink` once more afterwards: a list is written
 * again two generations later, when `shrink` has moved on. Order: relaxed, between the accesses of `shrink`.
 */
_Atomic uint64_t *epx_control_list(struct epx_control *control, uint32_t rank_count, uint32_t rank,
                                   uint64_t generation);

/* Bytes of the region of a world, a multiple of the page. */
uint64_t epx_control_bytes(uint32_t rank_count);

/* Stamps the zeroed region, or checks the stamp of the rank that was first: EPX_ERR_PROTOCOL. */
EPX_NODISCARD enum epx_status epx_control_open(struct epx_control *control, uint32_t rank_count);

/* Counts first_step steps of here_count ranks as done, once for all ranks; each calls before it arrives anywhere.
 * EPX_ERR_RENDEZVOUS when another rank has begun with another number. */
EPX_NODISCARD enum epx_status epx_control_begin(struct epx_control *control, uint64_t first_step, uint32_t here_count);

/* The stamp that epx_control_open leaves, and its parts. */
static inline uint64_t epx_control_identity(uint32_t rank_count)
{
    return (uint64_t)EPX_CONTROL_MAGIC << 32 | (uint64_t)EPX_CONTROL_VERSION << 16 | rank_count;
}

static inline uint32_t epx_identity_magic(uint64_t identity)
{
    return (uint32_t)(identity >> 32);
}

static inline uint32_t epx_identity_version(uint64_t identity)
{
    return (uint32_t)(identity >> 16) & 0xFFFFu;
}

static inline uint32_t epx_identity_ranks(uint64_t identity)
{
    return (uint32_t)identity & 0xFFFFu;
}

#endif
