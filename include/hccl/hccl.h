/*
 * Communicators and what runs on them. Includes hccl/hccl_comm.h, which makes and ends communicators.
 *
 * Source: public headers and interface pages of CANN 8.
 * Differs: of the operations only the barrier is offered.
 */
#ifndef HCCL_HCCL_H
#define HCCL_HCCL_H

#include "acl/acl.h"
#include "hccl/hccl_comm.h"
#include "hccl/hccl_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Queues a barrier: the stream goes on when the streams of all ranks have come to it. Does not wait.
 * Errors: 2 comm or stream is null; 1 comm or stream is none, or they are of different devices; 3 no memory. A rank
 * that does not come or has ended is an error of the stream's synchronisation.
 * Owner: none.
 * Thread: any, one call at a time per communicator.
 * Source: public headers and interface pages of CANN 8.
 * Differs: none.
 */
HCCL_API_ HcclResult HcclBarrier(HcclComm comm, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif
