#include "cann/acl_error.h"
#include "cann/acl_state.h"
#include "cann/exports_acl.h"
#include "cann/object_set.h"

#include "aclnn/opdev/op_errno.h"
#include "base/checked_math.h"
#include "base/float16.h"

#include <stdlib.h>
#include <string.h>

#define DIMS_MAX 8u

/* What a program says about a tensor. */
struct description {
    const int64_t *view_dims;
    uint64_t view_dim_count;
    aclDataType data_type;
    const int64_t *stride; /* null: dense, row major */
    int64_t offset;
    aclFormat format;
    const int64_t *storage_dims;
    uint64_t storage_dim_count;
    void *data;
};

size_t epx_cann_dtype_bytes(aclDataType type)
{
    switch (type) {
    case ACL_INT8:
    case ACL_UINT8:
    case ACL_BOOL:
    case ACL_HIFLOAT8:
    case ACL_FLOAT8_E5M2:
    case ACL_FLOAT8_E4M3FN:
    case ACL_FLOAT8_E8M0: return 1;
    case ACL_FLOAT16:
    case ACL_BF16:
    case ACL_INT16:
    case ACL_UINT16: return 2;
    case ACL_FLOAT:
    case ACL_INT32:
    case ACL_UINT32:
    case ACL_COMPLEX32: return 4;
    case ACL_INT64:
    case ACL_UINT64:
    case ACL_DOUBLE:
    case ACL_COMPLEX64: return 8;
    case ACL_COMPLEX128: return 16;
    default: return 0;
    }
}

size_t epx_cann_aclDataTypeSize(aclDataType dataType)
{
    return epx_cann_dtype_bytes(dataType);
}

float epx_cann_aclFloat16ToFloat(aclFloat16 value)
{
    return epx_fp32_from_fp16(value);
}

aclFloat16 epx_cann_aclFloatToFloat16(float value)
{
    return epx_fp16_from_fp32(value);
}

static bool dtype_known(aclDataType type)
{
    switch (type) {
    case ACL_DT_UNDEFINED:
    case ACL_STRING:
    case ACL_INT4:
    case ACL_UINT1:
    case ACL_FLOAT6_E3M2:
    case ACL_FLOAT6_E2M3:
    case ACL_FLOAT4_E2M1:
    case ACL_FLOAT4_E1M2: return true;
    default: return epx_cann_dtype_bytes(type) > 0;
    }
}

static bool format_known(aclFormat format)
{
    switch (format) {
    case ACL_FORMAT_UNDEFINED:
    case ACL_FORMAT_NCHW:
    case ACL_FORMAT_NHWC:
    case ACL_FORMAT_ND:
    case ACL_FORMAT_NC1HWC0:
    case ACL_FORMAT_FRACTAL_Z:
    case ACL_FORMAT_NC1HWC0_C04:
    case ACL_FORMAT_HWCN:
    case ACL_FORMAT_NDHWC:
    case ACL_FORMAT_FRACTAL_NZ:
    case ACL_FORMAT_NCDHW:
    case ACL_FORMAT_NDC1HWC0:
    case ACL_FRACTAL_Z_3D:
    case ACL_FORMAT_NC:
    case ACL_FORMAT_NCL:
    case ACL_FORMAT_FRACTAL_NZ_C0_16:
    case ACL_FORMAT_FRACTAL_NZ_C0_32:
    case ACL_FORMAT_FRACTAL_NZ_C0_2:
    case ACL_FORMAT_FRACTAL_NZ_C0_4:
    case ACL_FORMAT_FRACTAL_NZ_C0_8: return true;
    default: return false;
    }
}

/* Copies a list of dimensions; *elems is their product. */
static enum epx_status copy_dims(const char *name, const int64_t *dims, uint64_t count, int64_t *out, int64_t *elems)
{
    if (count > DIMS_MAX) {
        return epx_fail(EPX_ERR_INVALID, "%sNum is %llu, must be at most %u", name, (unsigned long long)count,
                        DIMS_MAX);
    }
    if (count > 0 && !dims) {
        return epx_fail(EPX_ERR_INVALID, "%s is null, %sNum is %llu", name, name, (unsigned long long)count);
    }
    int64_t product = 1;
    bool has_zero = false;
    for (uint64_t i = 0; i < count; i++) {
        has_zero = has_zero || dims[i] == 0;
        /* A zero must not hide that the others do not fit. */
        if (dims[i] < 0 || !epx_mul_i64(product, dims[i] == 0 ? 1 : dims[i], &product)) {
            return epx_fail(EPX_ERR_INVALID, "%s[%llu] is %lld: %s", name, (unsigned long long)i, (long long)dims[i],
                            dims[i] < 0 ? "must be at least 0" : "the number of elements is beyond 63 bits");
        }
        out[i] = dims[i];
    }
    *elems = has_zero ? 0 : product;
    return EPX_OK;
}

static enum epx_status copy_strides(const int64_t *stride, const struct aclTensor *tensor, int64_t *out)
{
    int64_t dense = 1;
    for (uint32_t i = tensor->view_dim_count; i-- > 0;) {
        out[i] = stride ? stride[i] : dense;
        if (out[i] < 0) {
            return epx_fail(EPX_ERR_INVALID, "stride[%u] is %lld, must be at least 0", i, (long long)out[i]);
        }
        if (!epx_mul_i64(dense, epx_max_i64(tensor->view_dims[i], 1), &dense)) {
            return epx_fail(EPX_ERR_INVALID, "the view's number of elements is beyond 63 bits");
        }
    }
    return EPX_OK;
}

/* Every element of the view must lie in the storage. */
static enum epx_status check_extent(const struct aclTensor *tensor, int64_t view_elems)
{
    int64_t bytes;
    if (!epx_mul_i64(tensor->storage_elems, epx_max_i64((int64_t)epx_cann_dtype_bytes(tensor->data_type), 1), &bytes)) {
        return epx_fail(EPX_ERR_INVALID, "storageDims: the number of bytes is beyond 63 bits");
    }
    if (tensor->offset < 0 || tensor->offset > tensor->storage_elems) {
        return epx_fail(EPX_ERR_INVALID, "offset is %lld, must be in [0, %lld]", (long long)tensor->offset,
                        (long long)tensor->storage_elems);
    }
    if (view_elems == 0) {
        return EPX_OK;
    }
    int64_t last = tensor->offset;
    for (uint32_t i = 0; i < tensor->view_dim_count; i++) {
        if (!epx_mul_add_i64(tensor->view_dims[i] - 1, tensor->strides[i], last, &last)) {
            return epx_fail(EPX_ERR_INVALID, "stride[%u] is %lld: the last element's place is beyond 63 bits", i,
                            (long long)tensor->strides[i]);
        }
    }
    if (last >= tensor->storage_elems) {
        return epx_fail(EPX_ERR_INVALID, "the view's last element is %lld, the storage has %lld", (long long)last,
                        (long long)tensor->storage_elems);
    }
    return EPX_OK;
}

/* *out is set on success only. */
static enum epx_status describe(const struct description *given, struct aclTensor *out)
{
    struct aclTensor tensor = {.magic = EPX_CANN_TENSOR_MAGIC,
                               .data_type = given->data_type,
                               .format = given->format,
                               .offset = given->offset,
                               .data = given->data};
    int64_t view_elems = 0;
    if (!dtype_known(given->data_type)) {
        return epx_fail(EPX_ERR_INVALID, "dataType is %d, which is unknown", (int)given->data_type);
    }
    if (!format_known(given->format)) {
        return epx_fail(EPX_ERR_INVALID, "format is %d, which is unknown", (int)given->format);
    }
    EPX_TRY(copy_dims("viewDims", given->view_dims, given->view_dim_count, tensor.view_dims, &view_elems));
    EPX_TRY(copy_dims("storageDims", given->storage_dims, given->storage_dim_count, tensor.storage_dims,
                      &tensor.storage_elems));
    tensor.view_dim_count = (uint32_t)given->view_dim_count;
    tensor.storage_dim_count = (uint32_t)given->storage_dim_count;
    EPX_TRY(copy_strides(given->stride, &tensor, tensor.strides));
    EPX_TRY(check_extent(&tensor, view_elems));
    *out = tensor;
    return EPX_OK;
}

/* 0, or the code that was reported. */
static aclnnStatus check_tensor(const aclTensor *tensor)
{
    if (!tensor) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_NULLPTR, "tensor is null");
    }
    if (!epx_object_alive(tensor, EPX_OBJECT_TENSOR)) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "%p is no tensor, or has been destroyed", (const void *)tensor);
    }
    return ACLNN_SUCCESS;
}

/* The same, with a pointer for a result. */
static aclnnStatus check_query(const aclTensor *tensor, const void *result, const char *name)
{
    aclnnStatus code = check_tensor(tensor);
    if (code == ACLNN_SUCCESS && !result) {
        code = epx_cann_refuse(ACLNN_ERR_PARAM_NULLPTR, "%s is null", name);
    }
    return code;
}

aclTensor *epx_cann_aclCreateTensor(const int64_t *viewDims, uint64_t viewDimsNum, aclDataType dataType,
                                    const int64_t *stride, int64_t offset, aclFormat format, const int64_t *storageDims,
                                    uint64_t storageDimsNum, void *tensorData)
{
    const struct description given = {viewDims, viewDimsNum, dataType,       stride,    offset,
                                      format,   storageDims, storageDimsNum, tensorData};
    struct aclTensor described;
    enum epx_status status = describe(&given, &described);
    if (status != EPX_OK) {
        (void)epx_cann_report(ACLNN_ERR_PARAM_INVALID, NULL);
        return NULL;
    }
    struct aclTensor *tensor = malloc(sizeof *tensor);
    if (tensor) {
        *tensor = described;
    }
    if (!tensor || !epx_object_add(tensor, EPX_OBJECT_TENSOR)) {
        free(tensor);
        (void)epx_cann_refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "no memory for a tensor");
        return NULL;
    }
    return tensor;
}

aclnnStatus epx_cann_aclInitTensor(aclTensor *tensor, const int64_t *viewDims, uint64_t viewDimsNum,
                                   aclDataType dataType, const int64_t *stride, int64_t offset, aclFormat format,
                                   const int64_t *storageDims, uint64_t storageDimsNum, void *tensorDataAddr)
{
    const struct description given = {viewDims, viewDimsNum, dataType,       stride,        offset,
                                      format,   storageDims, storageDimsNum, tensorDataAddr};
    aclnnStatus code = check_tensor(tensor);
    if (code == ACLNN_SUCCESS && describe(&given, tensor) != EPX_OK) {
        code = epx_cann_report(ACLNN_ERR_PARAM_INVALID, NULL);
    }
    return code;
}

aclnnStatus epx_cann_aclDestroyTensor(const aclTensor *tensor)
{
    if (!tensor) {
        return ACLNN_SUCCESS;
    }
    if (!epx_object_remove(tensor, EPX_OBJECT_TENSOR)) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "%p is no tensor, or has been destroyed", (const void *)tensor);
    }
    aclTensor *removed = (aclTensor *)(uintptr_t)tensor;
    removed->magic = 0;
    free(removed);
    return ACLNN_SUCCESS;
}

/* A copy of `count` numbers in memory of its own. */
static aclnnStatus hand_out(const int64_t *numbers, uint32_t count, int64_t **out, uint64_t *out_count)
{
    int64_t *copy = NULL;
    if (count > 0) {
        copy = malloc(count * sizeof *copy);
        if (!copy) {
            return epx_cann_refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "no memory for %u dimensions", count);
        }
        memcpy(copy, numbers, count * sizeof *copy);
    }
    *out = copy;
    *out_count = count;
    return ACLNN_SUCCESS;
}

aclnnStatus epx_cann_aclGetViewShape(const aclTensor *tensor, int64_t **viewDims, uint64_t *viewDimsNum)
{
    aclnnStatus code = check_query(tensor, viewDims, "viewDims");
    if (code == ACLNN_SUCCESS) {
        code = check_query(tensor, viewDimsNum, "viewDimsNum");
    }
    return code == ACLNN_SUCCESS ? hand_out(tensor->view_dims, tensor->view_dim_count, viewDims, viewDimsNum) : code;
}

aclnnStatus epx_cann_aclGetStorageShape(const aclTensor *tensor, int64_t **storageDims, uint64_t *storageDimsNum)
{
    aclnnStatus code = check_query(tensor, storageDims, "storageDims");
    if (code == ACLNN_SUCCESS) {
        code = check_query(tensor, storageDimsNum, "storageDimsNum");
    }
    return code == ACLNN_SUCCESS
               ? hand_out(tensor->storage_dims, tensor->storage_dim_count, storageDims, storageDimsNum)
               : code;
}

aclnnStatus epx_cann_aclGetViewStrides(const aclTensor *tensor, int64_t **stridesValue, uint64_t *stridesNum)
{
    aclnnStatus code = check_query(tensor, stridesValue, "stridesValue");
    if (code == ACLNN_SUCCESS) {
        code = check_query(tensor, stridesNum, "stridesNum");
    }
    return code == ACLNN_SUCCESS ? hand_out(tensor->strides, tensor->view_dim_count, stridesValue, stridesNum) : code;
}

aclnnStatus epx_cann_aclGetViewOffset(const aclTensor *tensor, int64_t *offset)
{
    aclnnStatus code = check_query(tensor, offset, "offset");
    if (code == ACLNN_SUCCESS) {
        *offset = tensor->offset;
    }
    return code;
}

aclnnStatus epx_cann_aclGetFormat(const aclTensor *tensor, aclFormat *format)
{
    aclnnStatus code = check_query(tensor, format, "format");
    if (code == ACLNN_SUCCESS) {
        *format = tensor->format;
    }
    return code;
}

aclnnStatus epx_cann_aclGetDataType(const aclTensor *tensor, aclDataType *dataType)
{
    aclnnStatus code = check_query(tensor, dataType, "dataType");
    if (code == ACLNN_SUCCESS) {
        *dataType = tensor->data_type;
    }
    return code;
}

aclnnStatus epx_cann_aclSetRawTensorAddr(aclTensor *tensor, void *addr)
{
    aclnnStatus code = check_tensor(tensor);
    if (code == ACLNN_SUCCESS) {
        tensor->data = addr;
    }
    return code;
}

aclnnStatus epx_cann_aclGetRawTensorAddr(const aclTensor *tensor, void **addr)
{
    aclnnStatus code = check_query(tensor, addr, "addr");
    if (code == ACLNN_SUCCESS) {
        *addr = tensor->data;
    }
    return code;
}
