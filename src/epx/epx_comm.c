#include "base/clock.h"
#include "base/config.h"
#include "base/digest.h"
#include "base/futex.h"
#include "base/thread.h"
#include "comm/meeting.h"
#include "comm/rank_table.h"
#include "epx/launcher.h"
#include "epx/objects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* What a kind of creation brings. */
struct creation {
    uint8_t key[32];
    uint32_t rank;
    uint32_t rank_count;
    uint32_t server_rank_count; /* unless the config says otherwise */
    const char *what;
    const struct epx_rank_table *table; /* null without */
    const struct epx_launch *launch;    /* null without */
    bool is_local;                      /* all ranks are in this process */
};

enum epx_status epx_communicator_new(struct epx_communicator **out)
{
    struct epx_communicator *communicator = calloc(1, sizeof *communicator);
    if (communicator == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a communicator");
    }
    communicator->magic = EPX_COMMUNICATOR_MAGIC;
    atomic_init(&communicator->references, 1);
    communicator->process = getpid();
    *out = communicator;
    return EPX_OK;
}

void epx_communicator_release(struct epx_communicator *communicator)
{
    if (atomic_fetch_sub(&communicator->references, 1) == 1) {
        communicator->magic = 0;
        free(communicator);
    }
}

enum epx_status epx_communicator_check(const struct epx_communicator *communicator)
{
    if (communicator == NULL) {
        return epx_fail(EPX_ERR_NULL, "the communicator is null");
    }
    if (communicator->magic != EPX_COMMUNICATOR_MAGIC) {
        return epx_fail(EPX_ERR_INVALID, "not a communicator");
    }
    if (communicator->comm == NULL) {
        return epx_fail(EPX_ERR_STATE, "the communicator has been destroyed");
    }
    if (communicator->process != getpid()) {
        return epx_fail(EPX_ERR_STATE, "the communicator belongs to process %d, from before the fork",
                        (int)communicator->process);
    }
    return EPX_OK;
}

static enum epx_status timeout_resolve(const char *name, int64_t *timeout_ms,
                                       enum epx_status (*from_environment)(int64_t *))
{
    if (*timeout_ms < -1) {
        return epx_fail(EPX_ERR_INVALID, "%s is %lld, must be >= 0 or -1 (for ever)", name, (long long)*timeout_ms);
    }
    return *timeout_ms == 0 ? from_environment(timeout_ms) : EPX_OK;
}

static enum epx_status config_resolve(const struct epx_comm_config *given, struct epx_comm_config *config)
{
    static const struct epx_comm_config chosen = EPX_COMM_CONFIG_INIT;
    EPX_TRY(epx_struct_read(config, sizeof *config, sizeof *config, given != NULL ? given : &chosen, "config"));
    EPX_TRY(timeout_resolve("join_timeout_ms", &config->join_timeout_ms, epx_option_join_timeout_ms));
    EPX_TRY(timeout_resolve("op_timeout_ms", &config->op_timeout_ms, epx_option_op_timeout_ms));
    if (config->name == NULL) {
        config->name = "epx";
    }
    if (strnlen(config->name, EPX_COMM_NAME_BYTES) == EPX_COMM_NAME_BYTES) {
        return epx_fail(EPX_ERR_INVALID, "name has more than %d characters", EPX_COMM_NAME_BYTES - 1);
    }
    return EPX_OK;
}

/* Ranks that a launcher has put on several hosts. */
static enum epx_status meet_by_launch(const struct epx_launch *launch, struct epx_meeting *meeting)
{
    if (launch->root[0] == '\0') {
        return epx_fail(EPX_ERR_CONFIG,
                        "%s says that the ranks are on several hosts: EPX_ROOT must say where they meet, as an address "
                        "and a port of rank 0's host",
                        launch->why);
    }
    return epx_meeting_at(launch->root, meeting);
}

static enum epx_status create(const struct creation *creation, const struct epx_comm_config *config,
                              struct epx_communicator **out)
{
    struct epx_comm_spec spec = {
        .rank = creation->rank,
        .rank_count = creation->rank_count,
        .server_rank_count = config->server_rank_count != 0 ? config->server_rank_count : creation->server_rank_count,
        .join_timeout_ms = config->join_timeout_ms,
        .op_timeout_ms = config->op_timeout_ms,
        .what = creation->what,
    };
    struct epx_meeting meeting;
    bool meets = false;
    if (!creation->is_local) {
        EPX_TRY(epx_meeting_choose(creation->table, &meeting, &meets));
    }
    if (!meets && creation->launch != NULL && creation->launch->has_hosts) {
        EPX_TRY(meet_by_launch(creation->launch, &meeting));
        meets = true;
    }
    spec.meeting = meets ? &meeting : NULL;
    memcpy(spec.key, creation->key, sizeof spec.key);
    (void)snprintf(spec.name, sizeof spec.name, "%s", config->name);
    struct epx_communicator *communicator;
    EPX_TRY(epx_communicator_new(&communicator));
    enum epx_status status = epx_comm_open(&spec, &communicator->comm);
    if (status != EPX_OK) {
        free(communicator);
        return status;
    }
    *out = communicator;
    return EPX_OK;
}

/* Ranks of a server when all are equal and consecutive, as the loader has checked; 0 when they differ. */
static uint32_t table_server_ranks(const struct epx_rank_table *table)
{
    for (uint32_t i = 1; i < table->server_count; i++) {
        if (table->servers[i].rank_count != table->servers[0].rank_count) {
            return 0;
        }
    }
    return table->servers[0].rank_count;
}

static enum epx_status create_from_loaded(const char *path, const struct epx_rank_table *table, uint32_t rank,
                                          const struct epx_comm_config *config, struct epx_communicator **out)
{
    char what[256];
    struct creation creation = {
        .rank = rank,
        .rank_count = table->rank_count,
        .server_rank_count = table_server_ranks(table),
        .what = what,
        .table = table,
    };
    if (rank >= table->rank_count) {
        return epx_fail(EPX_ERR_INVALID, "rank is %u, must be in [0, %u) as %s has it", rank, table->rank_count, path);
    }
    (void)snprintf(what, sizeof what, "rank table %s", path);
    memcpy(creation.key, table->digest, sizeof creation.key);
    return create(&creation, config, out);
}

static enum epx_status create_from_path(const char *path, uint32_t rank, const struct epx_comm_config *config,
                                        struct epx_communicator **out)
{
    struct epx_rank_table table;
    int64_t wait_ms = config->join_timeout_ms < 0 ? INT64_MAX : config->join_timeout_ms;
    EPX_TRY(epx_rank_table_load(path, wait_ms, &table));
    enum epx_status status = create_from_loaded(path, &table, rank, config, out);
    epx_rank_table_fini(&table);
    return status;
}

enum epx_status epx_comm_create_from_table(const char *path, uint32_t rank, const struct epx_comm_config *config,
                                           struct epx_communicator **out)
{
    struct epx_comm_config resolved;
    if (path == NULL || out == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", path == NULL ? "path" : "out");
    }
    EPX_TRY(config_resolve(config, &resolved));
    return create_from_path(path, rank, &resolved, out);
}

enum epx_status epx_comm_create_from_env(const struct epx_comm_config *config, struct epx_communicator **out)
{
    struct epx_comm_config resolved;
    struct epx_launch launch;
    char what[128];
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    EPX_TRY(config_resolve(config, &resolved));
    EPX_TRY(epx_launch_read(&launch));
    if (launch.rank_table != NULL) {
        return create_from_path(launch.rank_table, launch.rank, &resolved, out);
    }
    struct creation creation = {
        .rank = launch.rank,
        .rank_count = launch.rank_count,
        .server_rank_count = launch.rank_count,
        .what = what,
        .launch = &launch,
    };
    (void)snprintf(what, sizeof what, "world of %s", launch.launcher);
    memcpy(creation.key, launch.key, sizeof creation.key);
    return create(&creation, &resolved, out);
}

enum epx_status epx_token_create(struct epx_token *token)
{
    if (token == NULL) {
        return epx_fail(EPX_ERR_NULL, "token is null");
    }
    if (getrandom(token->bytes, sizeof token->bytes, 0) != (ssize_t)sizeof token->bytes) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "getrandom");
    }
    return EPX_OK;
}

static void token_key(const struct epx_token *token, uint8_t key[32])
{
    struct epx_digest_state state;
    epx_digest_init(&state);
    epx_digest_update(&state, "epx token", sizeof "epx token");
    epx_digest_update(&state, token->bytes, sizeof token->bytes);
    epx_digest_final(&state, key);
}

enum epx_status epx_comm_create_from_token(const struct epx_token *token, uint32_t rank_count, uint32_t rank,
                                           const struct epx_comm_config *config, struct epx_communicator **out)
{
    struct epx_comm_config resolved;
    struct creation creation = {
        .rank = rank, .rank_count = rank_count, .server_rank_count = rank_count, .what = "token"};
    if (token == NULL || out == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", token == NULL ? "token" : "out");
    }
    EPX_TRY(config_resolve(config, &resolved));
    token_key(token, creation.key);
    return create(&creation, &resolved, out);
}

/* One of the threads that create the ranks of this process. They start together: a rank whose thread could not be made
 * would be waited for until the deadline. */
struct local_rank {
    pthread_t thread;
    struct creation creation;
    const struct epx_comm_config *config;
    _Atomic uint32_t *go; /* 0: wait, 1: create, 2: give up */
    struct epx_communicator *communicator;
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
};

static void *local_rank_main(void *context)
{
    struct local_rank *local = context;
    while (atomic_load(local->go) == 0) {
        epx_futex_wait(local->go, 0, EPX_NEVER);
    }
    if (atomic_load(local->go) == 1) {
        local->status = create(&local->creation, local->config, &local->communicator);
        (void)snprintf(local->text, sizeof local->text, "%s", epx_error_text());
    }
    return NULL;
}

/* How many were started; *error says why not all. */
static uint32_t start_threads(struct local_rank *ranks, uint32_t rank_count, int *error)
{
    uint32_t started = 0;
    *error = 0;
    while (started < rank_count && *error == 0) {
        *error = epx_thread_start(&ranks[started].thread, 0, local_rank_main, &ranks[started]);
        started += *error == 0;
    }
    return started;
}

/* The first, unless another is the reason why it waited in vain. */
static enum epx_status first_failure(const struct local_rank *ranks, uint32_t rank_count)
{
    enum epx_status status = EPX_OK;
    for (uint32_t i = 0; i < rank_count && (status == EPX_OK || status == EPX_ERR_JOIN_TIMEOUT); i++) {
        if (ranks[i].status != EPX_OK && (status == EPX_OK || ranks[i].status != EPX_ERR_JOIN_TIMEOUT)) {
            epx_error_text_set(ranks[i].text);
            status = ranks[i].status;
        }
    }
    return status;
}

/* Runs the threads to their end; the first failure with its text. */
static enum epx_status run_threads(struct local_rank *ranks, uint32_t rank_count, _Atomic uint32_t *go)
{
    int error;
    uint32_t started = start_threads(ranks, rank_count, &error);
    atomic_store(go, started == rank_count ? 1u : 2u);
    epx_futex_wake_all(go);
    for (uint32_t i = 0; i < started; i++) {
        (void)pthread_join(ranks[i].thread, NULL);
    }
    if (started < rank_count) {
        return epx_fail_errno(epx_status_of_thread_error(error), error, "no thread for rank %u of %u", started,
                              rank_count);
    }
    return first_failure(ranks, rank_count);
}

static void destroy_created(struct local_rank *ranks, uint32_t rank_count)
{
    char text[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", epx_error_text());
    for (uint32_t i = 0; i < rank_count; i++) {
        enum epx_status status = epx_comm_destroy(ranks[i].communicator);
        (void)status; /* nothing runs on it */
    }
    epx_error_text_set(text);
}

enum epx_status epx_comm_create_local(uint32_t rank_count, const struct epx_comm_config *config,
                                      struct epx_communicator **comms)
{
    struct epx_comm_config resolved;
    struct epx_token token;
    struct creation creation = {
        .rank_count = rank_count, .server_rank_count = rank_count, .what = "local ranks", .is_local = true};
    _Atomic uint32_t go = 0;
    if (comms == NULL) {
        return epx_fail(EPX_ERR_NULL, "comms is null");
    }
    if (rank_count == 0 || rank_count > EPX_COMM_RANK_MAX) {
        return epx_fail(EPX_ERR_INVALID, "rank_count is %u, must be in [1, %u]", rank_count, EPX_COMM_RANK_MAX);
    }
    EPX_TRY(config_resolve(config, &resolved));
    EPX_TRY(epx_token_create(&token));
    token_key(&token, creation.key);
    struct local_rank *ranks = calloc(rank_count, sizeof *ranks);
    if (ranks == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for %u local ranks", rank_count);
    }
    for (uint32_t i = 0; i < rank_count; i++) {
        creation.rank = i;
        ranks[i].creation = creation;
        ranks[i].config = &resolved;
        ranks[i].go = &go;
    }
    enum epx_status status = run_threads(ranks, rank_count, &go);
    if (status != EPX_OK) {
        destroy_created(ranks, rank_count);
    }
    for (uint32_t i = 0; status == EPX_OK && i < rank_count; i++) {
        comms[i] = ranks[i].communicator;
    }
    free(ranks);
    return status;
}

enum epx_status epx_comm_destroy(struct epx_communicator *comm)
{
    if (comm == NULL) {
        return EPX_OK;
    }
    if (comm->magic != EPX_COMMUNICATOR_MAGIC || comm->comm == NULL) {
        return epx_fail(EPX_ERR_INVALID, "not a communicator");
    }
    EPX_TRY(epx_views_check_left(comm));
    epx_views_set_closing(comm, true);
    enum epx_status status = epx_comm_close(comm->comm);
    if (status != EPX_OK) {
        epx_views_set_closing(comm, false);
        return status;
    }
    epx_views_forget(comm);
    comm->comm = NULL;
    /* A child of fork has its parent's stream without the thread behind it. */
    if (comm->stream != NULL && comm->process == getpid()) {
        epx_stream_destroy(comm->stream);
    }
    epx_communicator_release(comm);
    return EPX_OK;
}

uint32_t epx_comm_rank_of(const struct epx_communicator *comm)
{
    return epx_communicator_check(comm) == EPX_OK ? epx_comm_rank(comm->comm) : UINT32_MAX;
}

uint32_t epx_comm_size_of(const struct epx_communicator *comm)
{
    return epx_communicator_check(comm) == EPX_OK ? epx_comm_rank_count(comm->comm) : 0;
}
