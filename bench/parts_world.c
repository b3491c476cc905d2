#include "parts_world.h"

#include "base/clock.h"
#include "comm/health.h"
#include "comm/step.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define OP_TIMEOUT_MS 60000

/* ---- World --------------------------------------------------------------------------------------------------- */

/* A header alone, of a process that lives. Each on a page of its own, as those of real peers. */
static bool write_arena(int fd, const struct epx_arena_id *id, size_t page_bytes)
{
    if (ftruncate(fd, (off_t)page_bytes) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        return false;
    }
    struct epx_arena_header *header = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED) {
        return false;
    }
    header->magic = EPX_ARENA_MAGIC;
    header->version = EPX_ARENA_VERSION;
    header->id = *id;
    header->reserve_bytes = page_bytes;
    header->pid = (uint32_t)getpid();
    atomic_store(&header->committed_bytes, page_bytes);
    atomic_store(&header->life, (uint32_t)getpid());
    (void)munmap(header, page_bytes);
    return true;
}

static bool make_arena(uint32_t rank, struct epx_arena **out)
{
    static uint64_t made;
    const struct epx_arena_id id = {.words = {++made, rank}};
    int fd = memfd_create("epx-bench-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool good = fd >= 0 && write_arena(fd, &id, (size_t)sysconf(_SC_PAGESIZE));
    if (!good) {
        (void)fprintf(stderr, "epx-bench-parts: no memory for rank %u: %s\n", rank, strerror(errno));
    } else if (epx_arena_attach(fd, &id, out) != EPX_OK) {
        (void)fprintf(stderr, "epx-bench-parts: memory of rank %u: %s\n", rank, epx_error_text());
        good = false;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return good;
}

static bool allocate(struct epx_comm *comm)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t bytes = epx_control_bytes(comm->rank_count);
    comm->control = aligned_alloc(page_bytes, (bytes + page_bytes - 1) / page_bytes * page_bytes);
    comm->entries = calloc(comm->rank_count, sizeof *comm->entries);
    comm->shared.arenas = calloc(comm->rank_count, sizeof(struct epx_arena *));
    comm->arenas = comm->shared.arenas;
    if (comm->control == NULL || comm->entries == NULL || comm->shared.arenas == NULL) {
        (void)fprintf(stderr, "epx-bench-parts: no memory for %u ranks\n", comm->rank_count);
        return false;
    }
    memset(comm->control, 0, bytes);
    return true;
}

bool parts_world_create(struct parts_world *world, uint32_t rank_count)
{
    static const uint8_t key[32] = {1};
    memset(world, 0, sizeof *world);
    struct epx_comm *comm = &world->comm;
    (void)snprintf(comm->name, sizeof comm->name, "parts");
    comm->rank_count = rank_count;
    comm->here_count = rank_count;
    comm->server_rank_count = rank_count;
    comm->process = getpid();
    comm->order_tag = epx_step_order_tag(key);
    atomic_init(&comm->op_timeout_ms, OP_TIMEOUT_MS);
    (void)pthread_mutex_init(&comm->queue_lock, NULL);
    (void)pthread_cond_init(&comm->queue_moved, NULL);
    (void)pthread_mutex_init(&comm->failure_lock, NULL);
    bool good = allocate(comm);
    if (good && (epx_wait_policy_choose(rank_count, &comm->policy) != EPX_OK ||
                 epx_control_open(comm->control, rank_count) != EPX_OK)) {
        (void)fprintf(stderr, "epx-bench-parts: %s\n", epx_error_text());
        good = false;
    }
    for (uint32_t rank = 0; good && rank < rank_count; rank++) {
        atomic_store(&comm->control->slots[rank].life, EPX_LIFE_JOINED);
        good = make_arena(rank, &comm->shared.arenas[rank]);
    }
    if (!good) {
        parts_world_destroy(world);
        return false;
    }
    comm->slot = &comm->control->slots[0];
    parts_agreement_build(world, &world->agreement);
    return true;
}

void parts_world_destroy(struct parts_world *world)
{
    struct epx_comm *comm = &world->comm;
    for (uint32_t rank = 0; comm->shared.arenas != NULL && rank < comm->rank_count; rank++) {
        epx_arena_detach(comm->shared.arenas[rank]);
    }
    free(comm->shared.arenas);
    free(comm->entries);
    free(comm->control);
    (void)pthread_mutex_destroy(&comm->queue_lock);
    (void)pthread_cond_destroy(&comm->queue_moved);
    (void)pthread_mutex_destroy(&comm->failure_lock);
}

void parts_agreement_build(const struct parts_world *world, struct epx_agreement *agreement)
{
    const struct epx_moe_shape shape = {.expert_count = (int64_t)world->comm.rank_count, .hidden_elems = 7168};
    const struct epx_moe_world sizes = {.rank_count = (int64_t)world->comm.rank_count};
    epx_moe_agreement_init(agreement, &shape, &sizes, false, EPX_MOE_GROUP_EP);
    epx_moe_agreement_set_views(agreement, false, 0);
}

/* ---- Rounds -------------------------------------------------------------------------------------------------- */

void parts_others_enter(struct parts_world *world)
{
    struct epx_comm *comm = &world->comm;
    uint64_t number = epx_round_reserve(comm);
    uint64_t step = comm->step + 1;
    for (uint32_t rank = 1; rank < comm->rank_count; rank++) {
        struct epx_control_slot *slot = &comm->control->slots[rank];
        slot->entries[number & 1] = (struct epx_control_entry){
            .step = step, .round = number, .operation = EPX_OPERATION_DISPATCH, .agreement = world->agreement};
        atomic_store(&slot->activity, epx_activity_make(number, EPX_OPERATION_DISPATCH, EPX_PHASE_ENTER));
        atomic_store(&slot->arrived_step, step);
    }
    (void)atomic_fetch_add(&comm->control->arrivals, comm->rank_count - 1);
}

enum epx_status parts_round_enter(struct parts_world *world)
{
    const struct epx_publication publication = {0};
    struct epx_agreement agreement;
    bool pending = false;
    const struct epx_rounds_place place = {
        .comm = &world->comm, .round = world->comm.reserved, .operation = EPX_OPERATION_DISPATCH};
    EPX_TRY(epx_rounds_begin(&world->rounds, &place, EPX_NEVER, &pending));
    parts_agreement_build(world, &agreement);
    EPX_TRY(epx_rounds_publish(&world->rounds, &agreement, &publication));
    EPX_TRY(epx_rounds_await_remote(&world->rounds, EPX_NEVER, &pending));
    return epx_rounds_await_enter(&world->rounds, EPX_NEVER, &pending);
}

enum epx_status parts_round_leave(struct parts_world *world)
{
    struct epx_comm *comm = &world->comm;
    bool pending = false;
    (void)atomic_fetch_add(&comm->control->arrivals, comm->rank_count - 1);
    EPX_TRY(epx_rounds_arrive_done(&world->rounds));
    EPX_TRY(epx_rounds_await_done(&world->rounds, EPX_NEVER, &pending));
    epx_rounds_end(&world->rounds);
    return EPX_OK;
}

enum epx_status parts_round_compare(struct parts_world *world)
{
    uint32_t field_count = 0;
    const struct epx_agreement_field *fields = epx_moe_agreement_fields(&field_count);
    return epx_round_agree(&world->rounds.ep, fields, field_count);
}

enum epx_status parts_look(struct parts_world *world)
{
    struct epx_comm *comm = &world->comm;
    char text[EPX_ERROR_TEXT_BYTES];
    uint64_t activity = atomic_load(&comm->slot->activity);
    enum epx_status status = epx_health_examine(comm, comm->step + 1, activity, text, sizeof text);
    return status == EPX_OK ? EPX_OK : epx_fail(status, "%s", text);
}
