#include "comm/census_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static int answer_greeting(int fd, const struct epx_census_door *door, struct epx_census_visitor *visitor)
{
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_CHALLENGE_BYTES];
    uint8_t *body = frame + EPX_CENSUS_HEAD_BYTES;
    memcpy(visitor->nonces.visitor, visitor->reader.body, EPX_CENSUS_NONCE_BYTES);
    if (getrandom(visitor->nonces.door, EPX_CENSUS_NONCE_BYTES, 0) != EPX_CENSUS_NONCE_BYTES) {
        return -EIO;
    }
    visitor->greeted = true;
    memcpy(body, visitor->nonces.door, EPX_CENSUS_NONCE_BYTES);
    epx_census_prove(door->key, door->role, &visitor->nonces, NULL, 0, body + EPX_CENSUS_NONCE_BYTES);
    return epx_census_send_frame(fd, EPX_CENSUS_CHALLENGE, frame, EPX_CENSUS_CHALLENGE_BYTES) == 0 ? 0 : -EPIPE;
}

int epx_census_visitor_read(int fd, const struct epx_census_door *door, struct epx_census_visitor *visitor)
{
    if (!visitor->greeted) {
        int result = epx_census_read(fd, EPX_CENSUS_BIT(EPX_CENSUS_GREET), &visitor->reader);
        if (result == 1) {
            result = answer_greeting(fd, door, visitor);
            result = result == 0 ? -EAGAIN : result;
        }
        return result;
    }
    int result = epx_census_read(fd, EPX_CENSUS_BIT(door->expected), &visitor->reader);
    if (result != 1) {
        return result;
    }
    uint8_t proof[EPX_CENSUS_PROOF_BYTES];
    uint32_t proven_bytes = visitor->reader.head.body_bytes - EPX_CENSUS_PROOF_BYTES;
    epx_census_prove(door->key, door->visitor_role, &visitor->nonces, visitor->reader.body, proven_bytes, proof);
    return epx_census_proof_is(visitor->reader.body + proven_bytes, proof) ? 1 : -EACCES;
}

const char *epx_census_read_error(int error)
{
    switch (error) {
    case 0: return "closed before it had said who it is";
    case -EBADMSG: return "does not speak this protocol";
    case -EPROTO: return "speaks another version of this protocol";
    case -EACCES: return "does not have the key of this world";
    default: return strerrordesc_np(-error);
    }
}
