#include "comm/control_region.h"

#include <string.h>

#define EPX_CONTROL_PAGE_BYTES 4096u

const char *epx_operation_name(uint32_t operation)
{
    switch (operation) {
    case EPX_OPERATION_NONE: return "no operation";
    case EPX_OPERATION_DISPATCH: return "dispatch";
    case EPX_OPERATION_COMBINE: return "combine";
    case EPX_OPERATION_BARRIER: return "barrier";
    case EPX_OPERATION_RELEASE: return "release";
    default: return "an unknown operation";
    }
}

const char *epx_phase_name(uint32_t phase)
{
    switch (phase) {
    case EPX_PHASE_IDLE: return "IDLE";
    case EPX_PHASE_ENTER: return "ENTER";
    case EPX_PHASE_ROWS: return "ROWS";
    case EPX_PHASE_DONE: return "DONE";
    default: return "UNKNOWN";
    }
}

void epx_control_text_copy(char *text, const char *shared, size_t bytes)
{
    memcpy(text, shared, bytes);
    text[bytes - 1] = '\0';
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7F) {
            *c = '?';
        }
    }
}

_Atomic uint64_t *epx_control_list(struct epx_control *control, uint32_t rank_count, uint32_t rank, uint64_t generation)
{
    _Atomic uint64_t *lists = (_Atomic uint64_t *)(void *)&control->slots[rank_count];
    return lists + (2 * (size_t)rank + (generation & 1)) * epx_control_list_words(rank_count);
}

uint64_t epx_control_bytes(uint32_t rank_count)
{
    /* At most 4096 slots of 1 KiB and lists of 4 KiB: no overflow. */
    uint64_t rank_bytes = sizeof(struct epx_control_slot) + 2 * sizeof(uint64_t) * epx_control_list_words(rank_count);
    uint64_t bytes = sizeof(struct epx_control) + rank_count * rank_bytes;
    return (bytes + EPX_CONTROL_PAGE_BYTES - 1) / EPX_CONTROL_PAGE_BYTES * EPX_CONTROL_PAGE_BYTES;
}

enum epx_status epx_control_open(struct epx_control *control, uint32_t rank_count)
{
    uint64_t identity = epx_control_identity(rank_count);
    uint64_t found = 0;
    if (atomic_compare_exchange_strong(&control->identity, &found, identity) || found == identity) {
        return EPX_OK;
    }
    return epx_fail(EPX_ERR_PROTOCOL, "the control region is stamped %#llx, this rank expects %#llx",
                    (unsigned long long)found, (unsigned long long)identity);
}

enum epx_status epx_control_begin(struct epx_control *control, uint64_t first_step, uint32_t here_count)
{
    uint64_t found = 0;
    uint64_t wanted = first_step + 1;
    if (!atomic_compare_exchange_strong(&control->first_step, &found, wanted) && found != wanted) {
        return epx_fail(EPX_ERR_RENDEZVOUS, "EPX_FAULT_FIRST_STEP is %llu, must be %llu as on another rank",
                        (unsigned long long)first_step, (unsigned long long)(found - 1));
    }
    /* No rank arrives before it has begun: whoever finds something else than 0 finds what another rank put there. */
    uint64_t zero = 0;
    (void)atomic_compare_exchange_strong(&control->word.value, &zero, epx_word_make(first_step, 0));
    zero = 0;
    (void)atomic_compare_exchange_strong(&control->arrivals, &zero, first_step * here_count);
    return EPX_OK;
}
