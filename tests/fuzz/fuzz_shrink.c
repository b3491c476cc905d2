/*
 * Any bytes as what other ranks have put up when survivors decide who goes on: the word, wishes, lists. The decision
 * that is read has known fates and this rank in it, or is refused with a text; an own one is one that can be read.
 */
#include "comm/shrink.c" /* what reads the lists is its own */
#include "memory/arena.h"

#define RANKS 5u
#define OWN   2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static struct epx_comm *comm_make(void)
{
    static struct epx_comm comm;
    static struct epx_arena *arenas[RANKS];
    struct epx_arena_id id;
    uint64_t reserve_bytes;
    int fd;
    if (comm.control != NULL) {
        return &comm;
    }
    require(epx_arena_open_own() == EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        arenas[rank] = epx_arena_attach_by_id(&id);
    }
    comm.rank = OWN;
    comm.rank_count = RANKS;
    comm.here_count = RANKS;
    comm.arenas = arenas;
    comm.control = aligned_alloc(4096, (epx_control_bytes(RANKS) + 4095) / 4096 * 4096);
    require(comm.control != NULL);
    comm.slot = &comm.control->slots[OWN];
    comm.policy.slice_ns = 1000000;
    return &comm;
}

/* What the bytes begin with; lists of the other ranks follow, two a rank. */
struct input {
    uint64_t word;
    uint64_t wishes[RANKS];
    uint8_t lives[RANKS];
    uint8_t generation;
    uint8_t excludes;
};

static void region_fill(struct epx_comm *comm, const struct input *input, const uint8_t *data, size_t bytes)
{
    memset(comm->control, 0, epx_control_bytes(RANKS));
    require(epx_control_open(comm->control, RANKS) == EPX_OK);
    atomic_store(&comm->control->shrink.value, input->word);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        atomic_store(&comm->control->slots[rank].shrink_wish, rank == OWN ? 0 : input->wishes[rank]);
        atomic_store(&comm->control->slots[rank].life, input->lives[rank]);
        for (uint64_t list = 0; list < 2; list++) {
            uint64_t word = 0;
            memcpy(&word, data, bytes < sizeof word ? bytes : sizeof word);
            atomic_store(epx_control_list(comm->control, RANKS, rank, list), word);
            data += bytes < sizeof word ? bytes : sizeof word;
            bytes -= bytes < sizeof word ? bytes : sizeof word;
        }
    }
}

static void check_fates(const uint8_t fates[RANKS])
{
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        require(fates[rank] <= EPX_SHRINK_EXCLUDED);
    }
    require(fates[OWN] == EPX_SHRINK_MEMBER);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct epx_comm *comm = comm_make();
    struct input input;
    uint8_t base[RANKS];
    uint8_t fates[RANKS];
    memset(&input, 0, sizeof input);
    size_t used = bytes < sizeof input ? bytes : sizeof input;
    memcpy(&input, data, used);
    region_fill(comm, &input, data + used, bytes - used);
    uint32_t exclude[1] = {input.excludes % RANKS};
    const struct epx_shrink_request request = {.timeout_ms = 0, .exclude = exclude, .exclude_count = exclude[0] != OWN};
    struct epx_shrink shrink = {.comm = comm, .request = &request, .base = base, .fates = fates};
    comm->shrink_generation = input.generation;
    epx_error_text_set("");
    if (decide(&shrink) == EPX_OK) {
        require(shrink.generation == (uint64_t)input.generation + 1);
        check_fates(fates);
        check_fates(base);
    } else {
        require(epx_error_text()[0] != '\0');
    }
    return 0;
}
