/*
 * epx-bench-ways [MIB [BYTES…]]: the ways in which UCX can move messages between two hosts over TCP, from ready memory
 * to where they belong, in one direction: active messages, tagged messages, puts into the receiver's memory; copied by
 * UCX, sent from where they lie, or fetched by the receiver. Hosts are network namespaces (hosts.h). Prints a table:
 * GB/s of MIB (64) by the median of 5 rounds, for messages of BYTES each (4096, 57344, 262144, 1048576). Exit status: 0
 * all arrived right; 1 a way failed or moved wrong bytes; 2 wrong command line; 77 no hosts here.
 */
#include "hosts.h"
#include "round.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucp/api/ucp.h>
#include <unistd.h>

#define ROUNDS        5
#define WINDOW        16 /* messages on their way at a time */
#define ADDRESS_BYTES 4096
#define HEADER_BYTES  80 /* of an active message, as the library's */
#define LIMIT_S       120
#define MIB_MAX       1024

enum kind { KIND_MESSAGE, KIND_TAG, KIND_PUT };

static const struct way {
    const char *name;
    enum kind kind;
    const char *rndv; /* bytes from which the receiver fetches */
    const char *zcopy;
} ways[] = {
    {"active message, copied", KIND_MESSAGE, "inf", "inf"},
    {"active message, from its place", KIND_MESSAGE, "inf", "0"},
    {"active message, fetched", KIND_MESSAGE, "0", "auto"},
    {"tagged, copied", KIND_TAG, "inf", "inf"},
    {"tagged, from its place", KIND_TAG, "inf", "0"},
    {"tagged, fetched", KIND_TAG, "0", "auto"},
    {"put", KIND_PUT, "auto", "auto"},
};
#define WAY_COUNT (sizeof(ways) / sizeof(ways[0]))

struct shared { /* of both processes */
    atomic_int arrived;
    atomic_int sent; /* rounds of puts that are where they belong */
    size_t address_bytes[2];
    uint8_t address[2][ADDRESS_BYTES];
    size_t key_bytes;
    uint8_t key[ADDRESS_BYTES];
    uint64_t place; /* the receiver's memory, as it calls it */
    double gb_per_s[ROUNDS];
};

struct end { /* a process */
    const struct way *way;
    struct shared *shared;
    int side; /* 0 sends */
    size_t bytes;
    size_t count;
    uint8_t *memory;
    uint8_t *headers; /* of active messages; each stays until its message is sent */
    int waits;        /* for the other end, so far */
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_ep_h endpoint;
    ucp_mem_h region;
    ucp_rkey_h key;
    size_t pending; /* sends, or receives, under way */
    size_t done;    /* messages of this round that are here */
    bool failed;
};

static bool check(struct end *end, const char *what, ucs_status_t status)
{
    if (status != UCS_OK) {
        (void)fprintf(stderr, "epx-bench-ways: %s: %s: %s\n", end->way->name, what, ucs_status_string(status));
        end->failed = true;
    }
    return status == UCS_OK;
}

static void meet(struct end *end)
{
    atomic_fetch_add(&end->shared->arrived, 1);
    end->waits++;
    while (atomic_load(&end->shared->arrived) < 2 * end->waits) {
        (void)ucp_worker_progress(end->worker);
        (void)sched_yield();
    }
}

/* ---- Messages ------------------------------------------------------------------------------------------------ */

static void on_fetched(void *request, ucs_status_t status, size_t bytes, void *context)
{
    struct end *end = context;
    (void)bytes;
    (void)check(end, "fetch", status);
    end->done++;
    ucp_request_free(request);
}

static ucs_status_t on_message(void *context, const void *header, size_t header_bytes, void *data, size_t bytes,
                               const ucp_am_recv_param_t *param)
{
    struct end *end = context;
    size_t index = 0;
    memcpy(&index, header, sizeof index);
    if (header_bytes != HEADER_BYTES || index >= end->count || bytes != end->bytes) {
        end->failed = true;
        return UCS_OK;
    }
    if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0) {
        memcpy(end->memory + index * bytes, data, bytes);
        end->done++;
        return UCS_OK;
    }
    ucp_request_param_t how = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
        .cb.recv_am = on_fetched,
        .user_data = end,
    };
    (void)ucp_am_recv_data_nbx(end->worker, data, end->memory + index * bytes, bytes, &how);
    return UCS_INPROGRESS;
}

static void on_sent(void *request, ucs_status_t status, void *context)
{
    struct end *end = context;
    (void)check(end, "send", status);
    end->pending--;
    ucp_request_free(request);
}

static void on_tagged(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info, void *context)
{
    struct end *end = context;
    (void)info;
    (void)check(end, "receive", status);
    end->pending--;
    end->done++;
    ucp_request_free(request);
}

static void send_one(struct end *end, size_t index)
{
    uint8_t *header = end->headers + index * HEADER_BYTES;
    const uint8_t *from = end->memory + index * end->bytes;
    ucp_request_param_t how = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = on_sent,
        .user_data = end,
    };
    ucs_status_ptr_t request = NULL;
    switch (end->way->kind) {
    case KIND_MESSAGE:
        memcpy(header, &index, sizeof index);
        request = ucp_am_send_nbx(end->endpoint, 0, header, HEADER_BYTES, from, end->bytes, &how);
        break;
    case KIND_TAG: request = ucp_tag_send_nbx(end->endpoint, from, end->bytes, index, &how); break;
    case KIND_PUT:
        request = ucp_put_nbx(end->endpoint, from, end->bytes, end->shared->place + index * end->bytes, end->key, &how);
        break;
    }
    end->pending += UCS_PTR_IS_PTR(request) ? 1 : 0;
    if (UCS_PTR_IS_ERR(request)) {
        (void)check(end, "send", UCS_PTR_STATUS(request));
    }
}

static void expect_one(struct end *end, size_t index)
{
    ucp_request_param_t how = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
        .cb.recv = on_tagged,
        .user_data = end,
    };
    end->pending++;
    (void)ucp_tag_recv_nbx(end->worker, end->memory + index * end->bytes, end->bytes, index, UINT64_MAX, &how);
}

/* Begins the next message when there is room for it, and moves what is under way. */
static void advance(struct end *end, size_t *next, void (*begin)(struct end *, size_t))
{
    if (begin != NULL && *next < end->count && end->pending < WINDOW) {
        begin(end, (*next)++);
    }
    if (ucp_worker_progress(end->worker) == 0) {
        (void)sched_yield();
    }
}

/* All that is sent is there. */
static void finish_puts(struct end *end)
{
    ucp_request_param_t how = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = on_sent,
        .user_data = end,
    };
    end->pending += UCS_PTR_IS_PTR(ucp_ep_flush_nbx(end->endpoint, &how)) ? 1 : 0;
    while (end->pending > 0 && !end->failed) {
        (void)ucp_worker_progress(end->worker);
    }
    atomic_fetch_add(&end->shared->sent, 1);
}

static void run_sender(struct end *end)
{
    size_t next = 0;
    while ((next < end->count || end->pending > 0) && !end->failed) {
        advance(end, &next, send_one);
    }
    if (end->way->kind == KIND_PUT) {
        finish_puts(end);
    }
}

static void run_receiver(struct end *end, int round)
{
    size_t next = 0;
    end->done = 0;
    while (!end->failed &&
           (end->way->kind == KIND_PUT ? atomic_load(&end->shared->sent) <= round : end->done < end->count)) {
        advance(end, &next, end->way->kind == KIND_TAG ? expect_one : NULL);
    }
}

/* ---- A process ----------------------------------------------------------------------------------------------- */

static uint8_t byte_of(size_t index, int round)
{
    return (uint8_t)(index * 31 + (size_t)round * 7 + 1);
}

static void fill(struct end *end, int round)
{
    for (size_t i = 0; i < end->count; i++) {
        memset(end->memory + i * end->bytes, end->side == 0 ? byte_of(i, round) : 0, end->bytes);
    }
}

static void compare(struct end *end, int round)
{
    for (size_t i = 0; i < end->count && !end->failed; i++) {
        const uint8_t *message = end->memory + i * end->bytes;
        if (message[0] != byte_of(i, round) || memcmp(message, message + 1, end->bytes - 1) != 0) {
            (void)fprintf(stderr, "epx-bench-ways: %s: message %zu of round %d is wrong\n", end->way->name, i, round);
            end->failed = true;
        }
    }
}

static bool open_worker(struct end *end)
{
    const uint64_t features[] = {
        [KIND_MESSAGE] = UCP_FEATURE_AM, [KIND_TAG] = UCP_FEATURE_TAG, [KIND_PUT] = UCP_FEATURE_RMA};
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = features[end->way->kind]};
    ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS | UCP_AM_HANDLER_PARAM_FIELD_CB |
                      UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = 0,
        .flags = UCP_AM_FLAG_WHOLE_MSG,
        .cb = on_message,
        .arg = end,
    };
    return check(end, "start", ucp_init(&params, NULL, &end->context)) &&
           check(end, "worker", ucp_worker_create(end->context, &worker, &end->worker)) &&
           (end->way->kind != KIND_MESSAGE ||
            check(end, "handler", ucp_worker_set_am_recv_handler(end->worker, &handler)));
}

static bool tell(struct end *end)
{
    ucp_address_t *address = NULL;
    void *key = NULL;
    struct shared *shared = end->shared;
    size_t *bytes = &shared->address_bytes[end->side];
    if (!check(end, "address", ucp_worker_get_address(end->worker, &address, bytes)) || *bytes > ADDRESS_BYTES) {
        return false;
    }
    memcpy(shared->address[end->side], address, *bytes);
    ucp_worker_release_address(end->worker, address);
    if (end->way->kind != KIND_PUT || end->side == 0) {
        return true;
    }
    ucp_mem_map_params_t params = {.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
                                   .address = end->memory,
                                   .length = end->bytes * end->count};
    if (!check(end, "memory", ucp_mem_map(end->context, &params, &end->region)) ||
        !check(end, "key", ucp_rkey_pack(end->context, end->region, &key, &shared->key_bytes)) ||
        shared->key_bytes > ADDRESS_BYTES) {
        return false;
    }
    memcpy(shared->key, key, shared->key_bytes);
    ucp_rkey_buffer_release(key);
    shared->place = (uint64_t)(uintptr_t)end->memory;
    return true;
}

static bool reach(struct end *end)
{
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
                              .address = (const ucp_address_t *)(const void *)end->shared->address[1 - end->side]};
    return check(end, "connect", ucp_ep_create(end->worker, &params, &end->endpoint)) &&
           (end->way->kind != KIND_PUT || end->side == 1 ||
            check(end, "key", ucp_ep_rkey_unpack(end->endpoint, end->shared->key, &end->key)));
}

static void run_rounds(struct end *end)
{
    for (int round = -1; round < ROUNDS && !end->failed; round++) { /* the first one finds connections and pages */
        fill(end, round);
        meet(end);
        uint64_t start = bench_now_ns();
        if (end->side == 0) {
            run_sender(end);
        } else {
            run_receiver(end, round + 1);
        }
        if (round >= 0 && end->side == 1) {
            end->shared->gb_per_s[round] = (double)(end->count * end->bytes) / (double)(bench_now_ns() - start);
        }
        meet(end);
        if (end->side == 1) {
            compare(end, round);
        }
    }
}

/* Nothing is closed: the process ends. */
static int run_end(struct end *end, const struct bench_hosts *hosts)
{
    (void)alarm(LIMIT_S);
    if (!bench_hosts_enter(hosts, end->side) || setenv("UCX_TLS", "tcp", 0) != 0 ||
        setenv("UCX_NET_DEVICES", BENCH_HOST_INTERFACE, 0) != 0 || setenv("UCX_TCP_TX_SEG_SIZE", "64k", 0) != 0 ||
        setenv("UCX_TCP_RX_SEG_SIZE", "128k", 0) != 0 || setenv("UCX_RNDV_THRESH", end->way->rndv, 1) != 0 ||
        setenv("UCX_ZCOPY_THRESH", end->way->zcopy, 1) != 0) {
        return 1;
    }
    end->memory = malloc(end->bytes * end->count);
    end->headers = calloc(end->count, HEADER_BYTES);
    if (end->memory == NULL || end->headers == NULL || !open_worker(end) || !tell(end)) {
        return 1;
    }
    meet(end);
    if (!reach(end)) {
        return 1;
    }
    run_rounds(end);
    return end->failed ? 1 : 0;
}

/* ---- All ------------------------------------------------------------------------------------------------------ */

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

/* GB/s; negative: failed. */
static double measure(const struct way *way, size_t bytes, size_t total, const struct bench_hosts *hosts,
                      struct shared *shared)
{
    pid_t pids[2];
    bool right = true;
    memset(shared, 0, sizeof *shared);
    (void)fflush(stdout); /* or the children might print it again */
    for (int side = 0; side < 2; side++) {
        pids[side] = fork();
        if (pids[side] == 0) {
            struct end end = {.way = way, .shared = shared, .side = side, .bytes = bytes, .count = total / bytes};
            _exit(run_end(&end, hosts));
        }
    }
    for (int i = 0; i < 2; i++) {
        int status = 0;
        pid_t ended = pids[0] > 0 && pids[1] > 0 ? wait(&status) : -1;
        if (ended < 0 || status != 0) { /* the other one would wait for it */
            right = false;
            for (int side = 0; side < 2; side++) {
                if (pids[side] > 0 && pids[side] != ended) {
                    (void)kill(pids[side], SIGKILL);
                }
            }
        }
    }
    qsort(shared->gb_per_s, ROUNDS, sizeof shared->gb_per_s[0], by_value);
    return right ? shared->gb_per_s[ROUNDS / 2] : -1.0;
}

static bool read_number(const char *text, long minimum, long maximum, size_t *out)
{
    char *rest = NULL;
    errno = 0;
    long value = strtol(text, &rest, 10);
    if (errno != 0 || rest == text || *rest != '\0' || value < minimum || value > maximum) {
        (void)fprintf(stderr, "epx-bench-ways: '%s' is no number in [%ld, %ld]\n", text, minimum, maximum);
        return false;
    }
    *out = (size_t)value;
    return true;
}

enum { SIZE_MAX_COUNT = 16 };

int main(int argc, char **argv)
{
    size_t mib = 64;
    size_t sizes[SIZE_MAX_COUNT] = {4096, 57344, 262144, 1048576};
    size_t size_count = 4;
    struct bench_hosts hosts;
    int result = 0;
    if (argc > 2 + SIZE_MAX_COUNT || (argc > 1 && !read_number(argv[1], 1, MIB_MAX, &mib))) {
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        if (!read_number(argv[i], 1, (long)mib << 20, &sizes[i - 2])) {
            return 2;
        }
        size_count = (size_t)i - 1;
    }
    if (!bench_hosts_make(&hosts, 2, "epx-bench-ways")) {
        return 77;
    }
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("epx-bench-ways: mmap");
        return 1;
    }
    (void)printf("| %-32s |", "GB/s, by bytes of a message");
    for (size_t i = 0; i < size_count; i++) {
        (void)printf(" %7zu |", sizes[i]);
    }
    (void)printf("\n|---|%.*s\n", (int)(4 * size_count),
                 "---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (size_t way = 0; way < WAY_COUNT; way++) {
        (void)printf("| %-32s |", ways[way].name);
        for (size_t i = 0; i < size_count; i++) {
            double speed = measure(&ways[way], sizes[i], mib << 20, &hosts, shared);
            result = speed < 0 ? 1 : result;
            (void)printf(" %7.2f |", speed);
            (void)fflush(stdout);
        }
        (void)printf("\n");
    }
    return result;
}
