#include "transport/wire.h"

bool epx_wire_available(void)
{
    return false;
}

const char *epx_wire_description(void)
{
    return "none (built without UCX)";
}

enum epx_status epx_wire_open(const char *bind_ip, const struct epx_wire_handler *handler, uint32_t peer_max,
                              struct epx_wire **out)
{
    (void)bind_ip;
    (void)handler;
    (void)peer_max;
    *out = NULL;
    return epx_fail(EPX_ERR_UNSUPPORTED, "no connection to other hosts: built without UCX");
}

void epx_wire_close(struct epx_wire *wire)
{
    (void)wire;
}

const void *epx_wire_address(const struct epx_wire *wire, uint32_t *bytes)
{
    (void)wire;
    *bytes = 0;
    return NULL;
}

enum epx_status epx_wire_connect(struct epx_wire *wire, uint32_t peer, const void *address, uint32_t address_bytes,
                                 uint32_t self)
{
    (void)wire;
    (void)address;
    (void)address_bytes;
    (void)self;
    return epx_fail(EPX_ERR_UNSUPPORTED, "no connection to peer %u: built without UCX", peer);
}

enum epx_status epx_wire_send(struct epx_wire *wire, uint32_t peer, struct epx_wire_send *send)
{
    (void)wire;
    send->done = true;
    return epx_fail(EPX_ERR_UNSUPPORTED, "no message to peer %u: built without UCX", peer);
}

bool epx_wire_settled(struct epx_wire *wire)
{
    (void)wire;
    return true;
}

bool epx_wire_progress(struct epx_wire *wire)
{
    (void)wire;
    return false;
}

void epx_wire_wait(struct epx_wire *wire, uint64_t spin_ns, uint64_t until_ns)
{
    (void)wire;
    (void)spin_ns;
    (void)until_ns;
}
