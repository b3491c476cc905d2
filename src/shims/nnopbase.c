/*
 * libnnopbase: tensors, scalars, arrays, lists and executors.
 */
#include "cann/exports_acl.h"
#include "cann/exports_aclnn.h"

aclTensor *aclCreateTensor(const int64_t *viewDims, uint64_t viewDimsNum, aclDataType dataType, const int64_t *stride,
                           int64_t offset, aclFormat format, const int64_t *storageDims, uint64_t storageDimsNum,
                           void *tensorData)
{
    return epx_cann_aclCreateTensor(viewDims, viewDimsNum, dataType, stride, offset, format, storageDims,
                                    storageDimsNum, tensorData);
}

aclnnStatus aclInitTensor(aclTensor *tensor, const int64_t *viewDims, uint64_t viewDimsNum, aclDataType dataType,
                          const int64_t *stride, int64_t offset, aclFormat format, const int64_t *storageDims,
                          uint64_t storageDimsNum, void *tensorDataAddr)
{
    return epx_cann_aclInitTensor(tensor, viewDims, viewDimsNum, dataType, stride, offset, format, storageDims,
                                  storageDimsNum, tensorDataAddr);
}

aclScalar *aclCreateScalar(void *value, aclDataType dataType)
{
    return epx_cann_aclCreateScalar(value, dataType);
}

aclIntArray *aclCreateIntArray(const int64_t *value, uint64_t size)
{
    return epx_cann_aclCreateIntArray(value, size);
}

aclFloatArray *aclCreateFloatArray(const float *value, uint64_t size)
{
    return epx_cann_aclCreateFloatArray(value, size);
}

aclBoolArray *aclCreateBoolArray(const bool *value, uint64_t size)
{
    return epx_cann_aclCreateBoolArray(value, size);
}

aclTensorList *aclCreateTensorList(const aclTensor *const *value, uint64_t size)
{
    return epx_cann_aclCreateTensorList(value, size);
}

aclScalarList *aclCreateScalarList(const aclScalar *const *value, uint64_t size)
{
    return epx_cann_aclCreateScalarList(value, size);
}

aclnnStatus aclDestroyTensor(const aclTensor *tensor)
{
    return epx_cann_aclDestroyTensor(tensor);
}

aclnnStatus aclDestroyScalar(const aclScalar *scalar)
{
    return epx_cann_aclDestroyScalar(scalar);
}

aclnnStatus aclDestroyIntArray(const aclIntArray *array)
{
    return epx_cann_aclDestroyIntArray(array);
}

aclnnStatus aclDestroyFloatArray(const aclFloatArray *array)
{
    return epx_cann_aclDestroyFloatArray(array);
}

aclnnStatus aclDestroyBoolArray(const aclBoolArray *array)
{
    return epx_cann_aclDestroyBoolArray(array);
}

aclnnStatus aclDestroyTensorList(const aclTensorList *array)
{
    return epx_cann_aclDestroyTensorList(array);
}

aclnnStatus aclDestroyScalarList(const aclScalarList *array)
{
    return epx_cann_aclDestroyScalarList(array);
}

aclnnStatus aclGetViewShape(const aclTensor *tensor, int64_t **viewDims, uint64_t *viewDimsNum)
{
    return epx_cann_aclGetViewShape(tensor, viewDims, viewDimsNum);
}

aclnnStatus aclGetStorageShape(const aclTensor *tensor, int64_t **storageDims, uint64_t *storageDimsNum)
{
    return epx_cann_aclGetStorageShape(tensor, storageDims, storageDimsNum);
}

aclnnStatus aclGetViewStrides(const aclTensor *tensor, int64_t **stridesValue, uint64_t *stridesNum)
{
    return epx_cann_aclGetViewStrides(tensor, stridesValue, stridesNum);
}

aclnnStatus aclGetViewOffset(const aclTensor *tensor, int64_t *offset)
{
    return epx_cann_aclGetViewOffset(tensor, offset);
}

aclnnStatus aclGetFormat(const aclTensor *tensor, aclFormat *format)
{
    return epx_cann_aclGetFormat(tensor, format);
}

aclnnStatus aclGetDataType(const aclTensor *tensor, aclDataType *dataType)
{
    return epx_cann_aclGetDataType(tensor, dataType);
}

aclnnStatus aclGetIntArraySize(const aclIntArray *array, uint64_t *size)
{
    return epx_cann_aclGetIntArraySize(array, size);
}

aclnnStatus aclGetFloatArraySize(const aclFloatArray *array, uint64_t *size)
{
    return epx_cann_aclGetFloatArraySize(array, size);
}

aclnnStatus aclGetBoolArraySize(const aclBoolArray *array, uint64_t *size)
{
    return epx_cann_aclGetBoolArraySize(array, size);
}

aclnnStatus aclGetTensorListSize(const aclTensorList *tensorList, uint64_t *size)
{
    return epx_cann_aclGetTensorListSize(tensorList, size);
}

aclnnStatus aclGetScalarListSize(const aclScalarList *scalarList, uint64_t *size)
{
    return epx_cann_aclGetScalarListSize(scalarList, size);
}

aclnnStatus aclSetRawTensorAddr(aclTensor *tensor, void *addr)
{
    return epx_cann_aclSetRawTensorAddr(tensor, addr);
}

aclnnStatus aclGetRawTensorAddr(const aclTensor *tensor, void **addr)
{
    return epx_cann_aclGetRawTensorAddr(tensor, addr);
}

aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor *executor)
{
    return epx_cann_aclSetAclOpExecutorRepeatable(executor);
}

aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor *executor)
{
    return epx_cann_aclDestroyAclOpExecutor(executor);
}

aclnnStatus aclSetInputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_aclSetInputTensorAddr(executor, index, tensor, addr);
}

aclnnStatus aclSetOutputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_aclSetOutputTensorAddr(executor, index, tensor, addr);
}

aclnnStatus aclSetTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_aclSetTensorAddr(executor, index, tensor, addr);
}

aclnnStatus aclSetDynamicInputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                         aclTensorList *tensors, void *addr)
{
    return epx_cann_aclSetDynamicInputTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus aclSetDynamicOutputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                          aclTensorList *tensors, void *addr)
{
    return epx_cann_aclSetDynamicOutputTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus aclSetDynamicTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                    aclTensorList *tensors, void *addr)
{
    return epx_cann_aclSetDynamicTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus AclSetInputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_AclSetInputTensorAddr(executor, index, tensor, addr);
}

aclnnStatus AclSetOutputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_AclSetOutputTensorAddr(executor, index, tensor, addr);
}

aclnnStatus AclSetTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_AclSetTensorAddr(executor, index, tensor, addr);
}

aclnnStatus AclSetDynamicInputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                         aclTensorList *tensors, void *addr)
{
    return epx_cann_AclSetDynamicInputTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus AclSetDynamicOutputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                          aclTensorList *tensors, void *addr)
{
    return epx_cann_AclSetDynamicOutputTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus AclSetDynamicTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                    aclTensorList *tensors, void *addr)
{
    return epx_cann_AclSetDynamicTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus aclnnInit(const char *configPath)
{
    return epx_cann_aclnnInit(configPath);
}

aclnnStatus aclnnFinalize(void)
{
    return epx_cann_aclnnFinalize();
}
