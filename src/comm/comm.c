#include "comm/comm.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/fault.h"
#include "base/process.h"
#include "comm/comm_object.h"
#include "comm/failure.h"
#include "comm/step.h"
#include "comm/world.h"
#include "memory/arena_stray.h"
#include "transport/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum epx_status spec_check(const struct epx_comm_spec *spec)
{
    if (spec->rank_count == 0 || spec->rank_count > EPX_COMM_RANK_MAX) {
        return epx_fail(EPX_ERR_INVALID, "rank_count is %u, must be in [1, %u]", spec->rank_count, EPX_COMM_RANK_MAX);
    }
    if (spec->rank >= spec->rank_count) {
        return epx_fail(EPX_ERR_INVALID, "rank is %u, must be in [0, %u)", spec->rank, spec->rank_count);
    }
    if (spec->server_rank_count != 0 && spec->rank_count % spec->server_rank_count != 0) {
        return epx_fail(EPX_ERR_INVALID, "server_rank_count is %u, must be 0 or divide rank_count %u",
                        spec->server_rank_count, spec->rank_count);
    }
    if (memchr(spec->name, '\0', sizeof spec->name) == NULL) {
        return epx_fail(EPX_ERR_INVALID, "the communicator's name has more than %d characters",
                        EPX_COMM_NAME_BYTES - 1);
    }
    return EPX_OK;
}

static void locks_init(struct epx_comm *comm)
{
    /* None of these can fail with default or monotonic attributes on Linux. */
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&comm->queue_moved, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&comm->queue_lock, NULL);
    (void)pthread_mutex_init(&comm->failure_lock, NULL);
}

static void comm_free(struct epx_comm *comm)
{
    (void)pthread_cond_destroy(&comm->queue_moved);
    (void)pthread_mutex_destroy(&comm->queue_lock);
    (void)pthread_mutex_destroy(&comm->failure_lock);
    if (comm->hosts != NULL) {
        free(comm->arenas);
        epx_hosts_destroy(comm->hosts);
    }
    free(comm->entries);
    free(comm);
}

static enum epx_status comm_allocate(const struct epx_comm_spec *spec, struct epx_comm **out)
{
    uint64_t first_step;
    EPX_TRY(epx_fault_first_step(&first_step));
    struct epx_comm *comm = calloc(1, sizeof *comm);
    if (comm == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a communicator");
    }
    locks_init(comm);
    memcpy(comm->name, spec->name, sizeof comm->name);
    memcpy(comm->key, spec->key, sizeof comm->key);
    comm->rank = spec->rank;
    comm->rank_count = spec->rank_count;
    comm->here_count = spec->rank_count;
    comm->server_rank_count = spec->server_rank_count;
    comm->process = getpid();
    comm->order_tag = epx_step_order_tag(spec->key);
    comm->step = first_step;
    atomic_init(&comm->reserved, first_step);
    comm->ended = first_step;
    atomic_init(&comm->op_timeout_ms, spec->op_timeout_ms);
    comm->entries = calloc(spec->rank_count, sizeof *comm->entries);
    if (comm->entries == NULL) {
        comm_free(comm);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a communicator of %u ranks", spec->rank_count);
    }
    *out = comm;
    return EPX_OK;
}

/* Says what a look from outside needs to know; nothing in this process depends on it. */
static void introduce(const struct epx_comm *comm, const struct epx_comm_spec *spec)
{
    struct epx_process self;
    (void)epx_process_read(getpid(), &self);
    comm->slot->process = (struct epx_control_process){
        .pid = (uint32_t)getpid(),
        .pid_namespace = epx_process_namespace("pid"),
        .time_namespace = epx_process_namespace("time"),
        .start_ticks = self.start_ticks,
        .host = comm->hosts != NULL ? comm->hosts->own_host : 0,
    };
    if (comm->hosts != NULL) {
        (void)snprintf(comm->slot->host_name, sizeof comm->slot->host_name, "%.*s",
                       (int)sizeof comm->slot->host_name - 1, comm->hosts->host_names[comm->hosts->own_host]);
    }
    atomic_store_explicit(&comm->slot->op_timeout_ms, spec->op_timeout_ms, memory_order_relaxed);
    if (comm->rank == 0) {
        const char *what = spec->what != NULL ? spec->what : "";
        (void)snprintf(comm->control->name, EPX_CONTROL_TEXT_BYTES, "%s", spec->name);
        (void)snprintf(comm->control->job, EPX_CONTROL_TEXT_BYTES, "%s", epx_option_text(EPX_OPTION_JOB));
        (void)snprintf(comm->control->origin, EPX_CONTROL_TEXT_BYTES, "%s", what);
    }
}

/* Meets the other ranks of this host and takes the own slot. */
static enum epx_status comm_join(struct epx_comm *comm, const struct epx_comm_spec *spec)
{
    struct epx_bootstrap_request request = {
        .rank = comm->hosts != NULL ? comm->hosts->place_of[spec->rank] : spec->rank,
        .rank_count = comm->here_count,
        .shared_bytes = epx_control_bytes(spec->rank_count),
        .timeout_ms = spec->join_timeout_ms,
        .what = spec->what != NULL ? spec->what : "communicator",
        .names = comm->hosts != NULL ? &comm->hosts->host_ranks[comm->hosts->host_first[comm->hosts->own_host]] : NULL,
        .is_hopeless = spec->is_hopeless,
        .context = spec->context,
    };
    epx_world_host_key(comm, spec->key, request.key);
    EPX_TRY(epx_bootstrap_join(&request, &comm->shared));
    comm->control = comm->shared.shared;
    comm->slot = &comm->control->slots[comm->rank];
    enum epx_status status = epx_control_open(comm->control, comm->rank_count);
    if (status == EPX_OK) {
        status = epx_control_begin(comm->control, comm->step, comm->here_count);
    }
    if (status == EPX_OK) {
        status = epx_world_arenas(comm);
    }
    if (status != EPX_OK) {
        /* The others have joined this rank and are told not to wait for it. */
        atomic_store_explicit(&comm->slot->life, EPX_LIFE_LEFT, memory_order_release);
        epx_bootstrap_result_fini(&comm->shared, comm->here_count);
        comm->control = NULL;
        return status;
    }
    introduce(comm, spec);
    atomic_store_explicit(&comm->slot->since_ns, epx_clock_ns(), memory_order_relaxed);
    atomic_store_explicit(&comm->slot->life, EPX_LIFE_JOINED, memory_order_release);
    return EPX_OK;
}

/* Ends what could not be opened. */
static void comm_abandon(struct epx_comm *comm)
{
    if (comm->control != NULL) {
        atomic_store_explicit(&comm->slot->life, EPX_LIFE_LEFT, memory_order_release);
        epx_word_wake(comm->control);
    }
    epx_world_leave(comm);
    if (comm->control != NULL) {
        epx_bootstrap_result_fini(&comm->shared, comm->here_count);
    }
    comm_free(comm);
}

enum epx_status epx_comm_open(const struct epx_comm_spec *spec, struct epx_comm **out)
{
    EPX_TRY(spec_check(spec));
    struct epx_comm *comm = NULL;
    EPX_TRY(comm_allocate(spec, &comm));
    struct epx_census census = {0};
    enum epx_status status = epx_world_meet(comm, spec, &census);
    if (status == EPX_OK) {
        status = epx_wait_policy_choose(comm->here_count, &comm->policy);
    }
    if (status == EPX_OK) {
        status = comm_join(comm, spec);
    }
    if (status == EPX_OK) {
        status = epx_world_connect(comm, spec, &census);
    }
    epx_census_fini(&census);
    if (status != EPX_OK) {
        comm_abandon(comm);
        return status;
    }
    epx_arena_readers_add();
    *out = comm;
    return EPX_OK;
}

enum epx_status epx_comm_check_process(const struct epx_comm *comm)
{
    if (comm->process != getpid()) {
        return epx_fail(EPX_ERR_STATE, "communicator %s belongs to another process", comm->name);
    }
    return EPX_OK;
}

enum epx_status epx_comm_close(struct epx_comm *comm)
{
    if (comm->process != getpid()) {
        /* A child of fork: slot and mappings are its parent's, and do not exist here; the handles do. */
        epx_world_leave(comm);
        for (uint32_t place = 0; place < comm->here_count; place++) {
            epx_arena_detach(comm->shared.arenas[place]);
        }
        free(comm->shared.arenas);
        comm_free(comm);
        return EPX_OK;
    }
    (void)pthread_mutex_lock(&comm->queue_lock);
    uint64_t unfinished = atomic_load_explicit(&comm->reserved, memory_order_relaxed) - comm->ended;
    (void)pthread_mutex_unlock(&comm->queue_lock);
    if (unfinished != 0) {
        return epx_fail(EPX_ERR_STATE, "communicator %s of rank %u has %llu rounds queued or running", comm->name,
                        comm->rank, (unsigned long long)unfinished);
    }
    atomic_store_explicit(&comm->slot->life, EPX_LIFE_LEFT, memory_order_release);
    /* Who waits for this rank need not sleep its slice out. */
    epx_word_wake(comm->control);
    epx_world_leave(comm);
    epx_bootstrap_result_fini(&comm->shared, comm->here_count);
    epx_arena_readers_remove();
    comm_free(comm);
    return EPX_OK;
}

const char *epx_comm_name(const struct epx_comm *comm)
{
    return comm->name;
}

uint32_t epx_comm_rank(const struct epx_comm *comm)
{
    return comm->rank;
}

uint32_t epx_comm_rank_count(const struct epx_comm *comm)
{
    return comm->rank_count;
}

uint32_t epx_comm_server_rank_count(const struct epx_comm *comm)
{
    return comm->server_rank_count;
}

const void *epx_comm_peer_at(const struct epx_comm *comm, uint32_t rank, uint64_t offset, uint64_t bytes)
{
    return rank < comm->rank_count ? epx_arena_at(comm->arenas[rank], offset, bytes) : NULL;
}

uint32_t epx_comm_process_of(const struct epx_comm *comm, uint32_t rank)
{
    if (rank >= comm->rank_count) {
        return 0;
    }
    return comm->hosts != NULL ? comm->hosts->pids[rank] : epx_arena_owner_pid(comm->arenas[rank]);
}

uint32_t epx_comm_host_count(const struct epx_comm *comm)
{
    return comm->hosts != NULL ? comm->hosts->host_count : 1;
}

uint32_t epx_comm_host_of(const struct epx_comm *comm, uint32_t rank)
{
    return comm->hosts != NULL ? comm->hosts->host_of[rank] : 0;
}

bool epx_comm_is_here(const struct epx_comm *comm, uint32_t rank)
{
    return comm->hosts == NULL || comm->hosts->host_of[rank] == comm->hosts->own_host;
}

const char *epx_comm_wire_description(void)
{
    return epx_wire_description();
}

uint32_t epx_comm_stand_in(const struct epx_comm *comm, uint32_t rank, uint32_t host)
{
    return epx_hosts_stand_in(comm->hosts, rank, host);
}

enum epx_status epx_comm_failure(const struct epx_comm *comm)
{
    EPX_TRY(epx_comm_check_process(comm));
    uint64_t word = atomic_load_explicit(&comm->control->word.value, memory_order_acquire);
    return epx_word_failed(word) == 0 ? EPX_OK : epx_failure_take(comm, word);
}

enum epx_status epx_comm_abort(struct epx_comm *comm, enum epx_status status, const char *text)
{
    EPX_TRY(epx_comm_check_process(comm));
    return epx_failure_force(comm, status, text);
}
