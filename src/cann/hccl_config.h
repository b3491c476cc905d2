/*
 * What a communicator is made with: the environment's HCCL_ variables and the program's HcclCommConfig. The latter's
 * fields come before the former; a field counts from the version of the struct that has it. Thread: any.
 */
#ifndef EPX_CANN_HCCL_CONFIG_H
#define EPX_CANN_HCCL_CONFIG_H

#include "base/status.h"

#include "hccl/hccl_types.h"

#include <stdint.h>

struct epx_hccl_choice {
    char name[COMM_NAME_MAX_LENGTH]; /* "": to be chosen */
    uint32_t buffer_mib;
    int64_t join_timeout_ms; /* -1: for ever */
    int64_t op_timeout_ms;   /* -1: for ever */
};

/*
 * Checks every HCCL_ variable that has a rule, used here or not, and `config` (null: none).
 * EPX_ERR_CONFIG, EPX_ERR_INVALID; the text names variable or field, value and what is allowed.
 */
EPX_NODISCARD enum epx_status epx_hccl_choice_read(const HcclCommConfig *config, struct epx_hccl_choice *choice);

/* HCCL_IF_IP or 127.0.0.1, and HCCL_IF_BASE_PORT or 60000: parts of a chosen name. Static text or the environment's. */
const char *epx_hccl_own_address(void);
uint32_t epx_hccl_own_port(void);

#endif
