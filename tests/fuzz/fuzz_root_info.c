/* Any bytes as root information: refused with a text, or values in their ranges that are packed as they were read. The
 * first byte chooses between bytes as they are, and values that were packed and then changed in one place. */
#include "cann/root_info.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* The changed place, which follows the first byte. */
struct change {
    uint16_t at;
    uint8_t flips;
};

static void packed_make(const uint8_t *data, size_t bytes, HcclRootInfo *packed)
{
    struct epx_root_info info;
    struct change change = {0};
    memset(&info, 0, sizeof info);
    memcpy(&change, data, bytes < sizeof change ? bytes : sizeof change);
    data += bytes < sizeof change ? bytes : sizeof change;
    bytes -= bytes < sizeof change ? bytes : sizeof change;
    memcpy(&info, data, bytes < sizeof info ? bytes : sizeof info);
    epx_root_info_pack(&info, packed);
    packed->internal[change.at % sizeof packed->internal] ^= (char)change.flips;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static HcclRootInfo packed;
    static HcclRootInfo again;
    struct epx_root_info info;
    struct epx_meeting meeting;
    if (bytes == 0) {
        return 0;
    }
    memset(&packed, 0, sizeof packed);
    if ((data[0] & 1) != 0) {
        packed_make(data + 1, bytes - 1, &packed);
    } else {
        memcpy(&packed, data + 1, bytes - 1 < sizeof packed ? bytes - 1 : sizeof packed);
    }
    epx_error_text_set("");
    if (epx_root_info_unpack(&packed, &info) != EPX_OK) {
        require(epx_error_text()[0] != '\0');
        return 0;
    }
    require(memchr(info.name, '\0', sizeof info.name) != NULL);
    if (epx_root_info_meeting(&info, &meeting)) {
        require(meeting.root.any.sa_family == (info.ip_bytes == 4 ? AF_INET : AF_INET6));
        require(meeting.port_count >= 1 && meeting.port_count <= EPX_CENSUS_PORT_MAX);
    } else {
        require(info.ip_bytes == 0);
    }
    epx_root_info_pack(&info, &again);
    require(epx_root_info_unpack(&again, &info) == EPX_OK);
    return 0;
}
