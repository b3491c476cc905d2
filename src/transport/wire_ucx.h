/*
 * What the files of the UCX wire share. Beside ucp_* nothing here is called by anybody else.
 *
 * A message is one UCX active message: epx_wire_send.header and .frame as its header, the pieces as its data.
 */
#ifndef EPX_TRANSPORT_WIRE_UCX_H
#define EPX_TRANSPORT_WIRE_UCX_H

#include "transport/wire.h"

#include <sys/types.h>
#include <ucp/api/ucp.h>

#define EPX_WIRE_FRAME_MAGIC 0x45505857u
#define EPX_WIRE_MESSAGE_ID  0u

struct epx_wire_frame { /* what travels before the data; header and frame of struct epx_wire_send */
    uint8_t header[EPX_WIRE_HEADER_BYTES];
    uint32_t magic;
    uint32_t self; /* the receiver's number for the sender */
    uint64_t sequence;
};

#define EPX_WIRE_FRAME_BYTES sizeof(struct epx_wire_frame)

/* UCX's calls; loaded once a process. */
#define EPX_UCX_CALLS(call)                                                                                            \
    call(ucp_get_version_string) call(ucp_config_read) call(ucp_config_modify) call(ucp_config_release)                \
        call(ucp_init_version) call(ucp_cleanup) call(ucp_worker_create) call(ucp_worker_destroy)                      \
            call(ucp_worker_get_address) call(ucp_worker_release_address) call(ucp_worker_progress)                    \
                call(ucp_worker_get_efd) call(ucp_worker_arm) call(ucp_worker_set_am_recv_handler)                     \
                    call(ucp_worker_flush_nbx) call(ucp_ep_create) call(ucp_ep_close_nbx) call(ucp_am_send_nbx)        \
                        call(ucp_am_recv_data_nbx) call(ucp_request_free) call(ucs_status_string)
struct epx_ucx {
#define EPX_UCX_FIELD(name) __typeof__(&(name)) name; /* NOLINT(bugprone-macro-parentheses) */
    EPX_UCX_CALLS(EPX_UCX_FIELD)
#undef EPX_UCX_FIELD
};

enum epx_wire_message_state {
    EPX_WIRE_ARRIVING, /* UCX writes to it */
    EPX_WIRE_WHOLE,
    EPX_WIRE_BROKEN,
};

struct epx_wire_message { /* that is not wanted yet, or not whole, or before its turn */
    struct epx_wire_message *next;
    struct epx_wire *wire;
    struct epx_wire_peer *peer;
    uint64_t sequence;
    uint64_t bytes;
    enum epx_wire_message_state state;
    bool large; /* of the pool of large ones */
    uint8_t header[EPX_WIRE_HEADER_BYTES];
    uint8_t data[];
};

struct epx_wire_peer {
    struct epx_wire *wire;
    uint32_t number;
    uint32_t self;
    ucp_ep_h endpoint;
    bool connected;
    bool lost;    /* nothing is sent any more; `reason` */
    bool bad;     /* nothing of it is believed any more */
    bool waiting; /* in the wire's list of those with kept messages */
    const char *reason;
    uint64_t sent; /* messages */
    uint64_t offered;
    struct epx_wire_message *kept; /* by sequence */
    struct epx_wire_peer *next_waiting, *next_losing;
};

struct epx_wire_pool {
    struct epx_wire_message *free;
    uint32_t free_count;
};

struct epx_wire {
    const struct epx_ucx *ucx;
    struct epx_wire_handler handler;
    pid_t owner;
    bool closing;
    ucp_context_h context;
    ucp_worker_h worker;
    int event_fd;
    void *address; /* struct epx_wire_address and UCX's own */
    uint32_t address_bytes;
    uint32_t peer_max;
    struct epx_wire_peer *peers;
    struct epx_wire_peer *waiting, *losing;
    struct epx_wire_send *sending; /* not done */
    uint32_t request_count;        /* closings and flushes of UCX under way */
    bool settling;                 /* a flush waits for all connections */
    uint32_t receive_count;        /* receptions of UCX under way */
    struct epx_wire_pool small, large;
    bool happened; /* since the last look */
};

/* wire_ucx_load.c */
EPX_NODISCARD enum epx_status epx_ucx_load(const struct epx_ucx **out);

/* wire_ucx_environment.c: until _end, UCX finds `settings` ("NAME=value", static) in the environment where the user has
 * not set them. The array of the environment is replaced, whole: setenv would pull it away under a getenv of another
 * thread. Only one at a time in a process: a second waits. EPX_ERR_NO_MEMORY: nothing begun. */
EPX_NODISCARD enum epx_status epx_ucx_environment_begin(const char *const *settings, size_t count);
void epx_ucx_environment_end(void);
/* Whether the user has set the name of "NAME=value". Not to be called between _begin and _end. */
bool epx_ucx_environment_has(const char *setting);

/* wire_ucx_settings.c: what the user has not set in the environment is set for `bind_ip`. Between _begin and _end UCX
 * is opened: it reads a transport's own settings when it opens the transport, and has no call for them. */
EPX_NODISCARD enum epx_status epx_ucx_settings_begin(const char *bind_ip);
void epx_ucx_settings_end(void);
EPX_NODISCARD enum epx_status epx_ucx_configure(const struct epx_ucx *ucx, const char *bind_ip, ucp_config_t *config);

/* wire_ucx_send.c: beside connecting and sending */
enum epx_status epx_wire_fail_ucx(const struct epx_wire *wire, const char *what, ucs_status_t status);
EPX_NODISCARD enum epx_status epx_wire_make_address(struct epx_wire *wire);
void epx_wire_end_send(struct epx_wire_send *send);

/* wire_ucx_receive.c */
ucs_status_t epx_wire_on_message(void *context, const void *header, size_t header_bytes, void *data, size_t bytes,
                                 const ucp_am_recv_param_t *param);
/* Offers what is kept; true when some was taken. */
bool epx_wire_offer_kept(struct epx_wire *wire);
/* Whatever is kept or free, when UCX has ended. */
void epx_wire_forget_kept(struct epx_wire *wire);
/* `bad`: what the peer has sent is wrong; else it is only gone. The loss is told by the next progress, or
 * by the first after the connection was asked for. */
void epx_wire_break(struct epx_wire_peer *peer, const char *reason, bool bad);
void epx_wire_tell_later(struct epx_wire_peer *peer);

#endif
