/*
 * Arenas: memory of a process that its peers on the host can map.
 *
 * A process has at most one own arena: a sparse memfd (sealed against shrinking, close-on-exec, not dumped, not
 * inherited by fork), mapped once, grown by offset. Peers map the whole reserve once per pair of processes. The owner
 * populates pages when it allocates, or reserves and populates them before it writes, so that a lack of memory is a
 * status and never a signal. The first page is the arena's header.
 */
#ifndef EPX_MEMORY_ARENA_H
#define EPX_MEMORY_ARENA_H

#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct epx_arena_id {
    uint64_t words[2]; /* random */
};

/* First bytes of every arena. Writer: the owning process. Readers: peers. */
struct epx_arena_header {
    uint32_t magic;
    uint32_t version;
    struct epx_arena_id id;
    uint64_t reserve_bytes; /* constant */
    _Atomic uint64_t
        committed_bytes; /* release by the owner; only rises; offsets below lie in the file and can be read */
    /* Robust futex word of the owner's watch thread: its thread id while the process lives; the kernel sets
     * FUTEX_OWNER_DIED when the process ends, even while it is a zombie. */
    _Atomic uint32_t life;
    uint32_t pid; /* in the owner's pid namespace: for messages only */
};

#define EPX_ARENA_MAGIC   0x41585045u
#define EPX_ARENA_VERSION 1u

/* Creates the process's own arena when there is none. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM. Thread: any. */
EPX_NODISCARD enum epx_status epx_arena_open_own(void);

/* Identity, descriptor (to be handed to peers; stays the arena's) and reserve of the own arena, which must be open. */
void epx_arena_own_info(struct epx_arena_id *id, int *fd, uint64_t *reserve_bytes);

/*
 * Allocates from the own arena (opens it at need). `align` is a power of two, 64 at least is used; the memory is zeroed
 * and populated. bytes 0 gives a distinct pointer. EPX_ERR_NO_MEMORY when the arena's reserve, a limit of the process
 * (RLIMIT_AS, RLIMIT_FSIZE, memory cgroup) or the machine is exhausted; nothing is left behind then. Thread: any.
 */
EPX_NODISCARD enum epx_status epx_arena_alloc(size_t bytes, size_t align, void **out);

/* The same for memory that is written after epx_arena_need alone: reads as zeros, and has no pages before (below
 * 1 MiB it has all). The limits are checked all the same, together with what the process's earlier reservations have
 * not taken yet. */
EPX_NODISCARD enum epx_status epx_arena_reserve(size_t bytes, size_t align, void **out);

/* Frees what one of them gave. EPX_ERR_NOT_FOUND when `pointer` is not the start of a live allocation. */
EPX_NODISCARD enum epx_status epx_arena_free(void *pointer);

/* Brings in the pages of [pointer, pointer + bytes), which lies in one allocation, where it is reserved; other memory
 * is left alone. To be called before a read, too: it brings pages in as a write does. EPX_ERR_NO_MEMORY,
 * EPX_ERR_SYSTEM. In the data path: a few loads, no lock when nothing is missing. Thread: any. */
EPX_NODISCARD enum epx_status epx_arena_need(const void *pointer, uint64_t bytes);

/* Whether [pointer, pointer + bytes) lies inside one live allocation of the own arena; then *offset is its place. In
 * the data path: no lock for memory outside, nor for what this thread has been told since the latest free. Thread: any.
 */
bool epx_arena_offset_of(const void *pointer, size_t bytes, uint64_t *offset);

/* The place of memory that is known to be an allocation of the own arena, or in one. Does not lock. */
uint64_t epx_arena_place_of(const void *pointer);

/* Whether [pointer, pointer + bytes), bytes > 0, has a part in the own arena's address range and does not lie inside
 * one live allocation: freed, never allocated, or reaching into what is another's. */
bool epx_arena_strays(const void *pointer, size_t bytes);

/* What reservations have not taken yet. */
uint64_t epx_arena_promised_bytes(void);

/* Bytes in live allocations and the number of them. */
void epx_arena_usage(uint64_t *live_bytes, uint64_t *live_count);

/* A mapped arena, own or peer's; reference counted per process by id. */
struct epx_arena;

/*
 * Maps the arena behind `fd` (header checked: magic, version, id, reserve against the file) or takes one more reference
 * when this process has it mapped already; the own arena is never mapped twice. The descriptor stays the caller's.
 * EPX_ERR_PROTOCOL, EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM. Thread: any.
 */
EPX_NODISCARD enum epx_status epx_arena_attach(int fd, const struct epx_arena_id *id, struct epx_arena **out);

/* A reference to a mapped arena without a descriptor; null when it is not mapped (the own one always is, once open). */
struct epx_arena *epx_arena_attach_by_id(const struct epx_arena_id *id);

void epx_arena_detach(struct epx_arena *arena);

/* Address of [offset, offset + bytes) in a mapped arena, null when it is outside the committed part, or outside the
 * file whatever its owner claims. Does not lock. */
void *epx_arena_at(const struct epx_arena *arena, uint64_t offset, uint64_t bytes);

/* Whether the owner's process has ended (see header.life). Does not lock. */
bool epx_arena_owner_dead(const struct epx_arena *arena);

/* The owner's pid as it knows it. */
uint32_t epx_arena_owner_pid(const struct epx_arena *arena);

#endif
