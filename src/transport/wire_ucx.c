#include "transport/wire_ucx.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What a wire of few peers takes. */
#define DESCRIPTOR_COUNT 32u

/* How long the end of a wire waits for what is on its way, and then for UCX to give it up. */
#define FLUSH_NS  400000000u
#define GIVEUP_NS 300000000u

static enum epx_status open_context(struct epx_wire *wire, const char *bind_ip)
{
    const struct epx_ucx *ucx = wire->ucx;
    ucp_config_t *config = NULL;
    ucs_status_t status = ucx->ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK) {
        return epx_wire_fail_ucx(wire, "read its settings", status);
    }
    enum epx_status result = epx_ucx_configure(ucx, bind_ip, config);
    if (result == EPX_OK) {
        ucp_params_t params = {
            .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS,
            .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
            .estimated_num_eps = wire->peer_max,
        };
        status = ucx->ucp_init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &wire->context);
        if (status != UCS_OK) {
            result = epx_wire_fail_ucx(wire, "start", status);
        }
    }
    ucx->ucp_config_release(config);
    return result;
}

static enum epx_status open_worker(struct epx_wire *wire)
{
    const struct epx_ucx *ucx = wire->ucx;
    ucp_worker_params_t params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    ucs_status_t status = ucx->ucp_worker_create(wire->context, &params, &wire->worker);
    if (status != UCS_OK) {
        return epx_wire_fail_ucx(wire, "open a connection point", status);
    }
    status = ucx->ucp_worker_get_efd(wire->worker, &wire->event_fd);
    if (status != UCS_OK) {
        return epx_wire_fail_ucx(wire, "wake a sleeping thread", status);
    }
    ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS | UCP_AM_HANDLER_PARAM_FIELD_CB |
                      UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = EPX_WIRE_MESSAGE_ID,
        .flags = UCP_AM_FLAG_WHOLE_MSG,
        .cb = epx_wire_on_message,
        .arg = wire,
    };
    status = ucx->ucp_worker_set_am_recv_handler(wire->worker, &handler);
    return status == UCS_OK ? EPX_OK : epx_wire_fail_ucx(wire, "receive messages", status);
}

static enum epx_status open_all(struct epx_wire *wire, const char *bind_ip)
{
    wire->peers = calloc(wire->peer_max > 0 ? wire->peer_max : 1, sizeof(*wire->peers));
    if (wire->peers == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the connections to %u peers", wire->peer_max);
    }
    for (uint32_t i = 0; i < wire->peer_max; i++) {
        wire->peers[i].wire = wire;
        wire->peers[i].number = i;
    }
    EPX_TRY(epx_ucx_settings_begin(bind_ip));
    enum epx_status status = open_context(wire, bind_ip);
    if (status == EPX_OK) {
        status = open_worker(wire);
    }
    epx_ucx_settings_end();
    return status == EPX_OK ? epx_wire_make_address(wire) : status;
}

static void on_ended(void *request, ucs_status_t status, void *user_data)
{
    struct epx_wire *wire = user_data;
    (void)status;
    wire->request_count--;
    wire->ucx->ucp_request_free(request);
}

static ucp_request_param_t ending(struct epx_wire *wire, uint32_t flags)
{
    return (ucp_request_param_t){
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS,
        .flags = flags,
        .cb.send = on_ended,
        .user_data = wire,
    };
}

static void cut(struct epx_wire_peer *peer)
{
    struct epx_wire *wire = peer->wire;
    ucp_ep_h endpoint = peer->endpoint;
    if (endpoint == NULL) {
        return;
    }
    peer->endpoint = NULL;
    ucp_request_param_t param = ending(wire, UCP_EP_CLOSE_FLAG_FORCE);
    wire->request_count++;
    if (!UCS_PTR_IS_PTR(wire->ucx->ucp_ep_close_nbx(endpoint, &param))) {
        wire->request_count--;
    }
}

/* Cuts what is lost and tells it. */
static bool settle(struct epx_wire *wire)
{
    struct epx_wire_peer *peer = NULL;
    bool any = false;
    while ((peer = wire->losing) != NULL) {
        wire->losing = peer->next_losing;
        cut(peer);
        wire->handler.lost(wire->handler.context, peer->number, peer->reason);
        any = true;
    }
    return any;
}

static void progress_until_ended(struct epx_wire *wire, uint64_t until_ns, bool with_sends)
{
    while ((wire->request_count > 0 || (with_sends && (wire->sending != NULL || wire->receive_count > 0))) &&
           epx_clock_ns() < until_ns) {
        if (wire->ucx->ucp_worker_progress(wire->worker) == 0 && wire->ucx->ucp_worker_arm(wire->worker) == UCS_OK) {
            struct pollfd event = {.fd = wire->event_fd, .events = POLLIN};
            (void)poll(&event, 1, 1);
        }
    }
}

/* A flush ends when all endpoints are connected and all is sent. */
static void flush_begin(struct epx_wire *wire)
{
    ucp_request_param_t param = ending(wire, 0);
    wire->request_count++;
    if (!UCS_PTR_IS_PTR(wire->ucx->ucp_worker_flush_nbx(wire->worker, &param))) {
        wire->request_count--;
    }
}

static void close_worker(struct epx_wire *wire)
{
    flush_begin(wire);
    progress_until_ended(wire, epx_clock_ns() + FLUSH_NS, false);
    for (uint32_t i = 0; i < wire->peer_max; i++) {
        cut(&wire->peers[i]);
    }
    progress_until_ended(wire, epx_clock_ns() + GIVEUP_NS, true);
    wire->ucx->ucp_worker_destroy(wire->worker);
}

static void destroy(struct epx_wire *wire)
{
    wire->closing = true;
    if (wire->worker != NULL) {
        close_worker(wire);
    }
    if (wire->context != NULL) {
        wire->ucx->ucp_cleanup(wire->context);
    }
    while (wire->sending != NULL) {
        epx_wire_end_send(wire->sending);
    }
    if (wire->peers != NULL) {
        epx_wire_forget_kept(wire);
    }
    free(wire->peers);
    free(wire->address);
    free(wire);
}

void epx_wire_close(struct epx_wire *wire)
{
    if (wire != NULL && wire->owner == getpid()) {
        destroy(wire);
    }
}

static void *do_nothing(void *context)
{
    return context;
}

/* UCX has lasting damage, or ends the process, when it cannot have the descriptors of a worker. */
static enum epx_status try_descriptors(void)
{
    int fds[DESCRIPTOR_COUNT];
    uint32_t count = 0;
    int error = 0;
    while (count < DESCRIPTOR_COUNT && error == 0) {
        fds[count] = count == 0 ? eventfd(0, EFD_CLOEXEC) : fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
        error = fds[count] < 0 ? errno : 0;
        count += error == 0;
    }
    while (count > 0) {
        (void)close(fds[--count]);
    }
    return error == 0 ? EPX_OK
                      : epx_fail_errno(EPX_ERR_SYSTEM, error, "UCX needs %u descriptors (ulimit -n)", DESCRIPTOR_COUNT);
}

/* UCX ends the process when the thread that it needs cannot be started. */
static enum epx_status try_thread(void)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, do_nothing, NULL);
    if (error != 0) {
        return epx_fail_errno(epx_status_of_thread_error(error), error, "the thread that UCX needs cannot be created");
    }
    (void)pthread_join(thread, NULL);
    return EPX_OK;
}

enum epx_status epx_wire_open(const char *bind_ip, const struct epx_wire_handler *handler, uint32_t peer_max,
                              struct epx_wire **out)
{
    const struct epx_ucx *ucx = NULL;
    int64_t way = 0;
    sigset_t all;
    sigset_t before;
    *out = NULL;
    EPX_TRY(epx_option_integer(EPX_OPTION_WIRE, &way));
    EPX_TRY(epx_ucx_load(&ucx));
    struct epx_wire *wire = calloc(1, sizeof(*wire));
    if (wire == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the connection to other hosts");
    }
    wire->ucx = ucx;
    wire->handler = *handler;
    wire->owner = getpid();
    wire->peer_max = peer_max;
    /* UCX starts a thread: the program's signals are not for it. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    enum epx_status status = try_descriptors();
    if (status == EPX_OK) {
        status = try_thread();
    }
    if (status == EPX_OK) {
        status = open_all(wire, bind_ip);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != EPX_OK) {
        destroy(wire);
        return status;
    }
    *out = wire;
    return EPX_OK;
}

const void *epx_wire_address(const struct epx_wire *wire, uint32_t *bytes)
{
    *bytes = wire->address_bytes;
    return wire->address;
}

bool epx_wire_settled(struct epx_wire *wire)
{
    if (!wire->settling) {
        wire->settling = true;
        flush_begin(wire);
    }
    if (wire->request_count > 0) {
        return false;
    }
    wire->settling = false;
    return true;
}

bool epx_wire_progress(struct epx_wire *wire)
{
    bool any = wire->ucx->ucp_worker_progress(wire->worker) != 0;
    any |= epx_wire_offer_kept(wire);
    any |= settle(wire);
    any |= wire->happened;
    wire->happened = false;
    return any;
}

void epx_wire_wait(struct epx_wire *wire, uint64_t spin_ns, uint64_t until_ns)
{
    uint64_t now = epx_clock_ns();
    uint64_t spin_until = until_ns > now && spin_ns < until_ns - now ? now + spin_ns : until_ns;
    do {
        if (epx_wire_progress(wire)) {
            return;
        }
        now = epx_clock_ns();
    } while (now < spin_until);
    if (now >= until_ns || wire->ucx->ucp_worker_arm(wire->worker) != UCS_OK) {
        return;
    }
    struct timespec left = {.tv_sec = (time_t)((until_ns - now) / 1000000000u),
                            .tv_nsec = (long)((until_ns - now) % 1000000000u)};
    struct pollfd event = {.fd = wire->event_fd, .events = POLLIN};
    if (ppoll(&event, 1, until_ns == EPX_NEVER ? NULL : &left, NULL) > 0) {
        (void)epx_wire_progress(wire);
    }
}
