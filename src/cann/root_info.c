#include "cann/root_info.h"

#include "base/digest.h"
#include "cann/acl_state.h"
#include "cann/hccl_config.h"
#include "comm/meeting.h"
#include "comm/meeting_address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define ROOT_INFO_MAGIC   "EPXROOT"
#define ROOT_INFO_VERSION 2u

/* The start of the 4108 bytes; the rest is zero. */
struct epx_root_info_bytes {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    struct epx_root_info info;
    uint8_t checksum[EPX_DIGEST_BYTES]; /* of all before it */
};
static_assert(sizeof(struct epx_root_info_bytes) <= HCCL_ROOT_INFO_BYTES, "root information does not fit");
static_assert(offsetof(struct epx_root_info_bytes, checksum) == 16 + sizeof(struct epx_root_info), "no padding");

/* Microseconds of the day's clock, never the same twice in a process: two roots of one device have different names. */
static uint64_t distinct_time_us(void)
{
    static _Atomic uint64_t latest;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t time_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    uint64_t before = atomic_load(&latest);
    uint64_t chosen;
    do {
        chosen = time_us > before ? time_us : before + 1;
    } while (!atomic_compare_exchange_weak(&latest, &before, chosen));
    return chosen;
}

static void place_note(const struct epx_meeting *meeting, struct epx_root_info *info)
{
    bool is_v4 = meeting->root.any.sa_family == AF_INET;
    info->ip_bytes = is_v4 ? sizeof meeting->root.v4.sin_addr : sizeof meeting->root.v6.sin6_addr;
    memcpy(info->ip, is_v4 ? (const void *)&meeting->root.v4.sin_addr : (const void *)&meeting->root.v6.sin6_addr,
           info->ip_bytes);
    info->port_count = (uint16_t)meeting->port_count;
    memcpy(info->ports, meeting->ports, meeting->port_count * sizeof meeting->ports[0]);
}

bool epx_root_info_meeting(const struct epx_root_info *info, struct epx_meeting *meeting)
{
    memset(meeting, 0, sizeof *meeting);
    if (info->ip_bytes == 0) {
        return false;
    }
    if (info->ip_bytes == sizeof meeting->root.v4.sin_addr) {
        meeting->root.v4.sin_family = AF_INET;
        memcpy(&meeting->root.v4.sin_addr, info->ip, info->ip_bytes);
    } else {
        meeting->root.v6.sin6_family = AF_INET6;
        memcpy(&meeting->root.v6.sin6_addr, info->ip, info->ip_bytes);
    }
    meeting->port_count = info->port_count;
    memcpy(meeting->ports, info->ports, info->port_count * sizeof info->ports[0]);
    epx_address_port_set(&meeting->root, meeting->ports[0]);
    epx_meeting_own_ip(meeting);
    return true;
}

/* What the name begins with: the place's address, else what it would be. */
static void name_address(const struct epx_root_info *info, char text[INET6_ADDRSTRLEN])
{
    if (info->ip_bytes == 0) {
        snprintf(text, INET6_ADDRSTRLEN, "%s", epx_hccl_own_address());
    } else {
        (void)inet_ntop(info->ip_bytes == 4 ? AF_INET : AF_INET6, info->ip, text, INET6_ADDRSTRLEN);
    }
}

enum epx_status epx_root_info_create(int32_t device, bool local, struct epx_root_info *info)
{
    int32_t number;
    bool meets = false;
    struct epx_meeting meeting;
    char address[INET6_ADDRSTRLEN];
    EPX_TRY(epx_cann_device_number(device, &number));
    memset(info, 0, sizeof *info);
    if (getrandom(info->key, sizeof info->key, 0) != (ssize_t)sizeof info->key) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "no random bytes for root information");
    }
    if (!local) {
        EPX_TRY(epx_meeting_choose_here(&meeting, &meets));
    }
    if (meets) {
        place_note(&meeting, info);
    }
    name_address(info, address);
    snprintf(info->name, sizeof info->name, "%s_%" PRIu32 "_%" PRId32 "_%" PRIu64, address,
             meets ? (uint32_t)info->ports[0] : epx_hccl_own_port(), number, distinct_time_us());
    return EPX_OK;
}

static void bytes_checksum(const struct epx_root_info_bytes *bytes, uint8_t out[EPX_DIGEST_BYTES])
{
    epx_digest(bytes, offsetof(struct epx_root_info_bytes, checksum), out);
}

void epx_root_info_pack(const struct epx_root_info *info, HcclRootInfo *out)
{
    struct epx_root_info_bytes bytes = {.magic = ROOT_INFO_MAGIC, .version = ROOT_INFO_VERSION, .info = *info};
    bytes_checksum(&bytes, bytes.checksum);
    memset(out, 0, sizeof *out);
    memcpy(out->internal, &bytes, sizeof bytes);
}

static bool info_is_sound(const struct epx_root_info *info)
{
    bool placed = (info->ip_bytes == 4 || info->ip_bytes == 16) && info->port_count >= 1 &&
                  info->port_count <= EPX_CENSUS_PORT_MAX;
    return memchr(info->name, '\0', sizeof info->name) && (placed || info->ip_bytes == 0);
}

enum epx_status epx_root_info_unpack(const HcclRootInfo *packed, struct epx_root_info *info)
{
    struct epx_root_info_bytes bytes;
    uint8_t checksum[EPX_DIGEST_BYTES];
    memcpy(&bytes, packed->internal, sizeof bytes);
    bytes_checksum(&bytes, checksum);
    if (memcmp(bytes.magic, ROOT_INFO_MAGIC, sizeof bytes.magic) != 0) {
        return epx_fail(EPX_ERR_INVALID, "rootInfo is not what HcclGetRootInfo gave: it does not start with %s",
                        ROOT_INFO_MAGIC);
    }
    if (bytes.version != ROOT_INFO_VERSION) {
        return epx_fail(EPX_ERR_INVALID, "rootInfo is of version %" PRIu32 ", must be %u", bytes.version,
                        ROOT_INFO_VERSION);
    }
    if (memcmp(bytes.checksum, checksum, sizeof checksum) != 0 || !info_is_sound(&bytes.info)) {
        return epx_fail(EPX_ERR_INVALID, "rootInfo has been changed since HcclGetRootInfo gave it");
    }
    *info = bytes.info;
    return EPX_OK;
}
