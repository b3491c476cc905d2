/*
 * Objects of the acl runtime as the rest of the door sees them. Handles are looked up in registries before use:
 * programs pass uninitialised and destroyed ones.
 */
#ifndef EPX_CANN_ACL_STATE_H
#define EPX_CANN_ACL_STATE_H

#include "acl/acl_rt.h"
#include "aclnn/acl_meta.h"
#include "base/status.h"
#include "runtime/stream.h"

#include <stdbool.h>

/* Current device of the calling thread; EPX_ERR_STATE when there is no context. */
EPX_NODISCARD enum epx_status epx_cann_current_device(int32_t *device);

/* The machine's number of a device: another one where ASCEND_RT_VISIBLE_DEVICES shows some only. EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_cann_device_number(int32_t device, int32_t *number);

/*
 * The engine stream behind a handle (null: the default stream of the current context) and its device. The stream cannot
 * be destroyed until epx_cann_stream_release. EPX_ERR_NOT_FOUND for an unknown handle, EPX_ERR_STATE without a context.
 */
EPX_NODISCARD enum epx_status epx_cann_stream_acquire(aclrtStream handle, struct epx_stream **stream, int32_t *device);
void epx_cann_stream_release(struct epx_stream *stream);

/* One aclTensor. Owner: the program, from aclCreateTensor to aclDestroyTensor. */
struct aclTensor {
    uint64_t magic; /* EPX_CANN_TENSOR_MAGIC while alive */
    aclDataType data_type;
    aclFormat format;
    uint32_t view_dim_count;
    uint32_t storage_dim_count;
    int64_t view_dims[8];
    int64_t strides[8]; /* elements */
    int64_t offset;     /* elements */
    int64_t storage_dims[8];
    int64_t storage_elems; /* product of storage_dims, checked */
    void *_Atomic data;    /* start of the storage; programs set it from any thread */
};
#define EPX_CANN_TENSOR_MAGIC 0x5450584e4e4c4341ull

/* Bytes of one element, 0 for a dtype that has no whole bytes. */
size_t epx_cann_dtype_bytes(aclDataType type);

/* True once per call site and process: for warnings that are written once. */
bool epx_cann_first_time(_Atomic bool *flag);

/* Called when the process forked: the child starts without devices, streams and communicators. Registered once. */
void epx_cann_state_reset_after_fork(void);

/* Registers it, at the first call. */
void epx_cann_state_watch_forks(void);

#endif
