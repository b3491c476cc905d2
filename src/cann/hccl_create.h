/*
 * Makes one communicator of the CANN door. What is common to all ways in: rank table, root information, one process.
 */
#ifndef EPX_CANN_HCCL_CREATE_H
#define EPX_CANN_HCCL_CREATE_H

#include "cann/hccl_config.h"
#include "cann/root_info.h"

#include "base/status.h"

#include "hccl/hccl_types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct epx_meeting;

struct epx_hccl_creation {
    uint8_t key[32]; /* what the ranks meet by */
    const char *name;
    uint32_t rank;
    uint32_t rank_count;
    uint32_t server_rank_count;
    int32_t device;
    bool is_sub;
    struct epx_hccl_choice choice;     /* its name, if any, replaces the other */
    const char *what;                  /* for messages */
    const struct epx_meeting *meeting; /* null: all ranks are on this host */
};

/* Joins and registers. Collective. Errors: those of epx_comm_open; EPX_ERR_INVALID when a name that the program chose
 * is taken by a communicator of this rank and device. */
EPX_NODISCARD enum epx_status epx_hccl_create(const struct epx_hccl_creation *creation, HcclComm *comm);

/* The key of a world: digest of what kind it is and of the bytes that its ranks share. */
void epx_hccl_key(const char *kind, const void *bytes, size_t byte_count, uint8_t key[32]);

/* Ranks of a server where no rank table says: 8, as on the device, in a world that is a multiple of it; else all. */
uint32_t epx_hccl_default_server_rank_count(uint32_t rank_count);

/* The world that meets at a root, in the network when the information says where: rank, rank_count, device and choice
 * are given, the rest is filled. Collective. */
EPX_NODISCARD enum epx_status epx_hccl_join_root(struct epx_hccl_creation *creation, const struct epx_root_info *info,
                                                 HcclComm *comm);

/* EPX_ERR_INVALID unless rank < rank_count <= EPX_COMM_RANK_MAX; `count_name` is for the message. */
EPX_NODISCARD enum epx_status epx_hccl_check_world(uint32_t rank_count, uint32_t rank, const char *count_name);

/* How an hccl function ends. The text is the thread's; a code of the function's own choice is refuse_as's. */
HcclResult epx_hccl_refuse(enum epx_status status);
HcclResult epx_hccl_refuse_as(HcclResult result);
HcclResult epx_hccl_refuse_null(const char *name);
HcclResult epx_hccl_answer(enum epx_status status);

#endif
