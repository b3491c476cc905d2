#include "cann/tensor_view.h"

#include "base/checked_math.h"

static bool dtype_of(aclDataType type, enum epx_dtype *dtype)
{
    switch (type) {
    case ACL_FLOAT16: *dtype = EPX_DTYPE_FP16; return true;
    case ACL_BF16: *dtype = EPX_DTYPE_BF16; return true;
    case ACL_FLOAT: *dtype = EPX_DTYPE_FP32; return true;
    case ACL_INT8: *dtype = EPX_DTYPE_INT8; return true;
    case ACL_INT32: *dtype = EPX_DTYPE_INT32; return true;
    case ACL_INT64: *dtype = EPX_DTYPE_INT64; return true;
    default: return false;
    }
}

/* One past the largest index into the storage that the view reaches; 0 for a view without elements. */
static bool reach_of(const struct aclTensor *tensor, int64_t *reach)
{
    int64_t last = tensor->offset;
    *reach = 0;
    for (uint32_t i = 0; i < tensor->view_dim_count; i++) {
        if (tensor->view_dims[i] == 0) {
            return tensor->offset >= 0;
        }
        if (!epx_mul_add_i64(tensor->view_dims[i] - 1, tensor->strides[i], last, &last)) {
            return false;
        }
    }
    return epx_add_i64(last, 1, reach);
}

static enum epx_status check_bounds(const struct aclTensor *tensor, const char *name)
{
    int64_t reach;
    for (uint32_t i = 0; i < tensor->view_dim_count; i++) {
        if (tensor->view_dims[i] < 0) {
            return epx_fail(EPX_ERR_SHAPE, "dimension %u of %s is %lld, must be at least 0", i, name,
                            (long long)tensor->view_dims[i]);
        }
        if (tensor->strides[i] < 0) {
            return epx_fail(EPX_ERR_SHAPE, "stride %u of %s is %lld, must be at least 0", i, name,
                            (long long)tensor->strides[i]);
        }
    }
    if (!reach_of(tensor, &reach)) {
        return epx_fail(EPX_ERR_SHAPE, "the view of %s reaches beyond 63 bits", name);
    }
    if (reach > tensor->storage_elems) {
        return epx_fail(EPX_ERR_SHAPE, "the view of %s reaches element %lld of its storage, which has %lld", name,
                        (long long)(reach - 1), (long long)tensor->storage_elems);
    }
    return EPX_OK;
}

enum epx_status epx_cann_tensor_view(const struct aclTensor *tensor, const char *name, struct epx_view *view,
                                     uint64_t *offset_bytes)
{
    enum epx_dtype dtype;
    int64_t offset;
    if (!dtype_of(tensor->data_type, &dtype)) {
        return epx_fail(EPX_ERR_DTYPE, "%s has dtype %d, which no operator takes", name, (int)tensor->data_type);
    }
    if (tensor->view_dim_count < 1 || tensor->view_dim_count > 2) {
        return epx_fail(EPX_ERR_SHAPE, "%s has %u dimensions, must have 1 or 2", name, tensor->view_dim_count);
    }
    EPX_TRY(check_bounds(tensor, name));
    if (!epx_mul_i64(tensor->offset, (int64_t)epx_cann_dtype_bytes(tensor->data_type), &offset)) {
        return epx_fail(EPX_ERR_SHAPE, "offset of %s is %lld elements, beyond 63 bits of bytes", name,
                        (long long)tensor->offset);
    }
    *view = (struct epx_view){.dtype = dtype, .dim_count = tensor->view_dim_count};
    for (uint32_t i = 0; i < tensor->view_dim_count; i++) {
        view->shape[i] = tensor->view_dims[i];
        view->stride[i] = tensor->strides[i];
    }
    void *data = tensor->data; /* once: it may be set meanwhile */
    view->data = data ? (char *)data + offset : NULL;
    *offset_bytes = (uint64_t)offset;
    return EPX_OK;
}
