#include "ranks/hosts_world.h"

#include "base/clock.h"
#include "comm/failure.h"
#include "comm/remote.h"
#include "comm/step.h"
#include "transport/wire.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PENDING_MAX 256u
#define WAIT_NS     200000

struct message {
    struct message *next;
    uint32_t from;
    uint8_t header[EPX_WIRE_HEADER_BYTES];
    uint64_t bytes;
    uint8_t data[];
};

/* One for each (world, rank), for as long as the program runs: sends to a rank that has closed go nowhere. */
struct mailbox {
    struct mailbox *next;
    uint64_t key;
    uint32_t rank;
    struct message *first;
    bool lost[HOSTS_RANK_MAX]; /* who cannot be reached from here */
};

struct epx_wire {
    struct epx_wire_handler handler;
    struct mailbox *box;
    bool held;
    bool told[HOSTS_RANK_MAX];
    struct {
        struct epx_wire_send *send;
        uint32_t peer;
    } pending[PENDING_MAX];
    uint32_t pending_count;
};

struct host_region {
    struct host_region *next;
    uint64_t key;
    uint32_t host;
    uint32_t left; /* ranks that have closed */
    struct epx_control *control;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static struct mailbox *boxes;
static struct host_region *regions;

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* The functions below with `_locked` are called under the lock. */
static struct mailbox *box_locked(uint64_t key, uint32_t rank)
{
    struct mailbox *box = boxes;
    while (box != NULL && (box->key != key || box->rank != rank)) {
        box = box->next;
    }
    if (box == NULL) {
        box = must(calloc(1, sizeof *box));
        box->key = key;
        box->rank = rank;
        box->next = boxes;
        boxes = box;
    }
    return box;
}

static void put_locked(struct mailbox *box, struct message *message)
{
    struct message **end = &box->first;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = message;
    (void)pthread_cond_broadcast(&moved);
}

static struct message *message_create(uint32_t from, const void *header, uint64_t bytes)
{
    struct message *message = must(calloc(1, sizeof *message + bytes));
    message->from = from;
    memcpy(message->header, header, sizeof message->header);
    message->bytes = bytes;
    return message;
}

void hosts_send(uint64_t key, uint32_t from, uint32_t to, const void *header, const void *data, uint64_t bytes)
{
    struct message *message = message_create(from, header, bytes);
    if (bytes > 0) {
        memcpy(message->data, data, bytes);
    }
    (void)pthread_mutex_lock(&lock);
    put_locked(box_locked(key, to), message);
    (void)pthread_mutex_unlock(&lock);
}

bool hosts_take(uint64_t key, uint32_t to, uint32_t *from, void *header, void *data, uint64_t *bytes)
{
    (void)pthread_mutex_lock(&lock);
    struct mailbox *box = box_locked(key, to);
    struct message *message = box->first;
    if (message != NULL) {
        box->first = message->next;
    }
    (void)pthread_mutex_unlock(&lock);
    if (message == NULL) {
        return false;
    }
    *from = message->from;
    memcpy(header, message->header, sizeof message->header);
    memcpy(data, message->data, message->bytes);
    *bytes = message->bytes;
    free(message);
    return true;
}

void hosts_lose(uint64_t key, uint32_t from, uint32_t rank)
{
    (void)pthread_mutex_lock(&lock);
    box_locked(key, from)->lost[rank] = true;
    (void)pthread_cond_broadcast(&moved);
    (void)pthread_mutex_unlock(&lock);
}

void hosts_hold(struct epx_comm *comm, bool hold)
{
    comm->hosts->wire->held = hold;
}

uint32_t hosts_unsent(const struct epx_comm *comm)
{
    return comm->hosts->wire != NULL ? comm->hosts->wire->pending_count : 0;
}

bool epx_wire_available(void)
{
    return true;
}

const char *epx_wire_description(void)
{
    return "queues of the test";
}

enum epx_status epx_wire_open(const char *bind_ip, const struct epx_wire_handler *handler, uint32_t peer_max,
                              struct epx_wire **out)
{
    (void)bind_ip;
    (void)peer_max;
    struct epx_wire *wire = must(calloc(1, sizeof *wire));
    wire->handler = *handler;
    *out = wire;
    return EPX_OK;
}

void epx_wire_close(struct epx_wire *wire)
{
    for (uint32_t i = 0; wire != NULL && i < wire->pending_count; i++) {
        wire->pending[i].send->done = true;
    }
    free(wire);
}

const void *epx_wire_address(const struct epx_wire *wire, uint32_t *bytes)
{
    *bytes = sizeof wire->box->rank;
    return &wire->box->rank;
}

enum epx_status epx_wire_connect(struct epx_wire *wire, uint32_t peer, const void *address, uint32_t address_bytes,
                                 uint32_t self)
{
    (void)wire;
    (void)peer;
    (void)address;
    (void)address_bytes;
    (void)self;
    return EPX_OK;
}

enum epx_status epx_wire_send(struct epx_wire *wire, uint32_t peer, struct epx_wire_send *send)
{
    (void)pthread_mutex_lock(&lock);
    bool lost = wire->box->lost[peer];
    (void)pthread_mutex_unlock(&lock);
    if (lost) {
        return epx_fail(EPX_ERR_PEER_DEAD, "the cable is cut");
    }
    if (wire->pending_count == PENDING_MAX || send->piece_count > EPX_WIRE_PIECE_MAX) {
        abort();
    }
    send->done = false;
    wire->pending[wire->pending_count].send = send;
    wire->pending[wire->pending_count++].peer = peer;
    return EPX_OK;
}

/* What is sent is read here, not when it was handed over. */
static struct message *message_of(const struct epx_wire *wire, const struct epx_wire_send *send)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < send->piece_count; i++) {
        bytes += send->pieces[i].iov_len;
    }
    if (bytes > EPX_WIRE_MESSAGE_BYTES_MAX) {
        abort();
    }
    struct message *message = message_create(wire->box->rank, send->header, bytes);
    uint64_t at = 0;
    for (uint32_t i = 0; i < send->piece_count; i++) {
        memcpy(message->data + at, send->pieces[i].iov_base, send->pieces[i].iov_len);
        at += send->pieces[i].iov_len;
    }
    return message;
}

static bool progress_sends(struct epx_wire *wire)
{
    uint32_t count = wire->held ? 0 : wire->pending_count;
    for (uint32_t i = 0; i < count; i++) {
        struct message *message = message_of(wire, wire->pending[i].send);
        (void)pthread_mutex_lock(&lock);
        put_locked(box_locked(wire->box->key, wire->pending[i].peer), message);
        (void)pthread_mutex_unlock(&lock);
        wire->pending[i].send->done = true;
    }
    wire->pending_count -= count;
    return count > 0;
}

static struct message *next_message(struct epx_wire *wire, const bool blocked[HOSTS_RANK_MAX])
{
    (void)pthread_mutex_lock(&lock);
    struct message *message = wire->box->first;
    while (message != NULL && blocked[message->from]) {
        message = message->next;
    }
    (void)pthread_mutex_unlock(&lock);
    return message;
}

static void remove_message(struct epx_wire *wire, struct message *message)
{
    (void)pthread_mutex_lock(&lock);
    struct message **place = &wire->box->first;
    while (*place != message) {
        place = &(*place)->next;
    }
    *place = message->next;
    (void)pthread_mutex_unlock(&lock);
    free(message);
}

bool epx_wire_settled(struct epx_wire *wire)
{
    (void)wire;
    return true;
}

bool epx_wire_progress(struct epx_wire *wire)
{
    bool any = progress_sends(wire);
    bool blocked[HOSTS_RANK_MAX] = {false};
    struct message *message;
    while ((message = next_message(wire, blocked)) != NULL) {
        if (wire->handler.receive(wire->handler.context, message->from, message->header, message->data,
                                  message->bytes)) {
            remove_message(wire, message);
            any = true;
        } else {
            blocked[message->from] = true;
        }
    }
    for (uint32_t rank = 0; rank < HOSTS_RANK_MAX; rank++) {
        (void)pthread_mutex_lock(&lock);
        bool lost = wire->box->lost[rank];
        (void)pthread_mutex_unlock(&lock);
        if (lost && !wire->told[rank]) {
            wire->told[rank] = true;
            wire->handler.lost(wire->handler.context, rank, "the cable is cut");
        }
    }
    return any;
}

/* Returns early: a message may have come just before. */
void epx_wire_wait(struct epx_wire *wire, uint64_t spin_ns, uint64_t until_ns)
{
    (void)wire;
    (void)spin_ns;
    (void)until_ns;
    struct timespec time;
    (void)clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += WAIT_NS;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&lock);
    (void)pthread_cond_timedwait(&moved, &lock, &time);
    (void)pthread_mutex_unlock(&lock);
}

static struct host_region *region_join(uint64_t key, uint32_t host, uint32_t rank_count)
{
    (void)pthread_mutex_lock(&lock);
    struct host_region *region = regions;
    while (region != NULL && (region->key != key || region->host != host)) {
        region = region->next;
    }
    if (region == NULL) {
        size_t bytes = epx_control_bytes(rank_count);
        region = must(calloc(1, sizeof *region));
        region->key = key;
        region->host = host;
        region->control = must(aligned_alloc(4096, bytes));
        memset(region->control, 0, bytes);
        region->next = regions;
        regions = region;
    }
    (void)pthread_mutex_unlock(&lock);
    return region;
}

/* There are no agents: hosts do not wait for each other at the end of a round. */
void __wrap_epx_bell_ring(struct epx_control *control);
void __wrap_epx_bell_ring(struct epx_control *control)
{
    uint64_t step = atomic_load(&control->world_step);
    uint64_t expected = epx_word_make(step - 1, 0);
    if (atomic_compare_exchange_strong(&control->word.value, &expected, epx_word_make(step, 0))) {
        epx_word_wake(control);
    }
}

/* A region whose ranks have all closed is gone; ranks that come later belong to another world. */
static void region_leave(uint64_t key, uint32_t host, uint32_t ranks_here, struct epx_control *control)
{
    (void)pthread_mutex_lock(&lock);
    struct host_region **place = &regions;
    while ((*place)->key != key || (*place)->host != host || (*place)->control != control) {
        place = &(*place)->next;
    }
    struct host_region *region = *place;
    region->left++;
    if (region->left == ranks_here) {
        *place = region->next;
        free(region->control);
        free(region);
    }
    (void)pthread_mutex_unlock(&lock);
}

static void hosts_fill(struct epx_hosts *hosts, const struct hosts_spec *spec)
{
    const uint32_t count = spec->rank_count;
    hosts->host_of = must(calloc(count, sizeof *hosts->host_of));
    hosts->place_of = must(calloc(count, sizeof *hosts->place_of));
    hosts->host_ranks = must(calloc(count, sizeof *hosts->host_ranks));
    hosts->pids = must(calloc(count, sizeof *hosts->pids));
    for (uint32_t rank = 0; rank < count; rank++) {
        hosts->host_of[rank] = spec->host_of[rank];
        hosts->pids[rank] = 1000 + rank;
        hosts->host_count = spec->host_of[rank] >= hosts->host_count ? spec->host_of[rank] + 1 : hosts->host_count;
    }
    hosts->host_first = must(calloc(hosts->host_count + 1, sizeof *hosts->host_first));
    hosts->host_names = must(calloc(hosts->host_count, sizeof *hosts->host_names));
    uint32_t next = 0;
    for (uint32_t host = 0; host < hosts->host_count; host++) {
        (void)snprintf(hosts->host_names[host], sizeof hosts->host_names[host], "%c", 'a' + (int)host);
        hosts->host_first[host] = next;
        for (uint32_t rank = 0; rank < count; rank++) {
            if (spec->host_of[rank] == host) {
                hosts->place_of[rank] = next - hosts->host_first[host];
                hosts->host_ranks[next++] = rank;
            }
        }
    }
    hosts->host_first[hosts->host_count] = next;
    hosts->own_host = spec->host_of[spec->rank];
    hosts->here_count = hosts->host_first[hosts->own_host + 1] - hosts->host_first[hosts->own_host];
}

static void arenas_take(struct epx_comm *comm)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve;
    if (epx_arena_open_own() != EPX_OK) {
        abort();
    }
    epx_arena_own_info(&id, &fd, &reserve);
    comm->arenas = must(calloc(comm->rank_count, sizeof(struct epx_arena *)));
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        comm->arenas[rank] = must(epx_arena_attach_by_id(&id));
    }
}

struct epx_comm *hosts_open(const struct hosts_spec *spec)
{
    struct epx_comm *comm = must(calloc(1, sizeof *comm));
    uint8_t tag[32] = {(uint8_t)(spec->key ^ spec->key >> 8 ^ spec->key >> 16)};
    comm->rank = spec->rank;
    comm->rank_count = spec->rank_count;
    comm->server_rank_count = spec->server_rank_count;
    comm->process = getpid();
    comm->order_tag = epx_step_order_tag(tag);
    atomic_init(&comm->op_timeout_ms, spec->op_timeout_ms);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&comm->queue_moved, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&comm->queue_lock, NULL);
    (void)pthread_mutex_init(&comm->failure_lock, NULL);
    (void)snprintf(comm->name, sizeof comm->name, "hosts");
    comm->entries = must(calloc(spec->rank_count, sizeof *comm->entries));
    comm->hosts = must(calloc(1, sizeof *comm->hosts));
    hosts_fill(comm->hosts, spec);
    comm->here_count = comm->hosts->here_count;
    arenas_take(comm);
    comm->control = region_join(spec->key, comm->hosts->own_host, spec->rank_count)->control;
    comm->slot = &comm->control->slots[comm->rank];
    const struct epx_wire_handler handler = epx_remote_handler(comm);
    if (epx_control_open(comm->control, comm->rank_count) != EPX_OK ||
        epx_wait_policy_choose(comm->here_count, &comm->policy) != EPX_OK ||
        epx_wire_open("", &handler, comm->rank_count, &comm->hosts->wire) != EPX_OK ||
        epx_remote_create(comm) != EPX_OK) {
        abort();
    }
    (void)pthread_mutex_lock(&lock);
    comm->hosts->wire->box = box_locked(spec->key, spec->rank);
    (void)pthread_mutex_unlock(&lock);
    atomic_store(&comm->slot->life, EPX_LIFE_JOINED);
    return comm;
}

void hosts_close(struct epx_comm *comm)
{
    struct epx_hosts *hosts = comm->hosts;
    uint64_t key = 0;
    if (comm->reserved != comm->ended) {
        abort();
    }
    (void)pthread_mutex_lock(&lock);
    for (struct host_region *region = regions; region != NULL; region = region->next) {
        key = region->control == comm->control ? region->key : key;
    }
    (void)pthread_mutex_unlock(&lock);
    epx_wire_close(hosts->wire);
    epx_remote_destroy(comm);
    atomic_store(&comm->slot->life, EPX_LIFE_LEFT);
    region_leave(key, hosts->own_host, hosts->here_count, comm->control);
    for (uint32_t rank = 0; rank < comm->rank_count; rank++) {
        epx_arena_detach(comm->arenas[rank]);
    }
    free(comm->arenas);
    (void)pthread_cond_destroy(&comm->queue_moved);
    (void)pthread_mutex_destroy(&comm->queue_lock);
    (void)pthread_mutex_destroy(&comm->failure_lock);
    epx_hosts_destroy(hosts);
    free(comm->entries);
    free(comm);
}
