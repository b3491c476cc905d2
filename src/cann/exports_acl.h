/*
 * The acl, aclrt and acl_meta functions as the door implements them: the program's name with epx_cann_ before it. The
 * small libraries forward to these; tests call them. What each does is said in the public header of its name.
 */
#ifndef EPX_CANN_EXPORTS_ACL_H
#define EPX_CANN_EXPORTS_ACL_H

#include "acl/acl.h"
#include "aclnn/aclnn_base.h"

extern __typeof__(aclDataTypeSize) epx_cann_aclDataTypeSize;
extern __typeof__(aclFloat16ToFloat) epx_cann_aclFloat16ToFloat;
extern __typeof__(aclFloatToFloat16) epx_cann_aclFloatToFloat16;
extern __typeof__(aclInit) epx_cann_aclInit;
extern __typeof__(aclFinalize) epx_cann_aclFinalize;
extern __typeof__(aclFinalizeReference) epx_cann_aclFinalizeReference;
extern __typeof__(aclrtGetVersion) epx_cann_aclrtGetVersion;
extern __typeof__(aclGetRecentErrMsg) epx_cann_aclGetRecentErrMsg;
extern __typeof__(aclrtSetDevice) epx_cann_aclrtSetDevice;
extern __typeof__(aclrtResetDevice) epx_cann_aclrtResetDevice;
extern __typeof__(aclrtGetDevice) epx_cann_aclrtGetDevice;
extern __typeof__(aclrtGetDeviceCount) epx_cann_aclrtGetDeviceCount;
extern __typeof__(aclrtGetRunMode) epx_cann_aclrtGetRunMode;
extern __typeof__(aclrtGetSocName) epx_cann_aclrtGetSocName;
extern __typeof__(aclrtSynchronizeDevice) epx_cann_aclrtSynchronizeDevice;
extern __typeof__(aclrtCreateContext) epx_cann_aclrtCreateContext;
extern __typeof__(aclrtDestroyContext) epx_cann_aclrtDestroyContext;
extern __typeof__(aclrtSetCurrentContext) epx_cann_aclrtSetCurrentContext;
extern __typeof__(aclrtGetCurrentContext) epx_cann_aclrtGetCurrentContext;
extern __typeof__(aclrtCreateStream) epx_cann_aclrtCreateStream;
extern __typeof__(aclrtCreateStreamWithConfig) epx_cann_aclrtCreateStreamWithConfig;
extern __typeof__(aclrtDestroyStream) epx_cann_aclrtDestroyStream;
extern __typeof__(aclrtSynchronizeStream) epx_cann_aclrtSynchronizeStream;
extern __typeof__(aclrtSynchronizeStreamWithTimeout) epx_cann_aclrtSynchronizeStreamWithTimeout;
extern __typeof__(aclrtStreamQuery) epx_cann_aclrtStreamQuery;
extern __typeof__(aclrtStreamAbort) epx_cann_aclrtStreamAbort;
extern __typeof__(aclrtCreateEvent) epx_cann_aclrtCreateEvent;
extern __typeof__(aclrtCreateEventWithFlag) epx_cann_aclrtCreateEventWithFlag;
extern __typeof__(aclrtDestroyEvent) epx_cann_aclrtDestroyEvent;
extern __typeof__(aclrtRecordEvent) epx_cann_aclrtRecordEvent;
extern __typeof__(aclrtStreamWaitEvent) epx_cann_aclrtStreamWaitEvent;
extern __typeof__(aclrtSynchronizeEvent) epx_cann_aclrtSynchronizeEvent;
extern __typeof__(aclrtQueryEventStatus) epx_cann_aclrtQueryEventStatus;
extern __typeof__(aclrtEventElapsedTime) epx_cann_aclrtEventElapsedTime;
extern __typeof__(aclrtMalloc) epx_cann_aclrtMalloc;
extern __typeof__(aclrtMallocAlign32) epx_cann_aclrtMallocAlign32;
extern __typeof__(aclrtMallocCached) epx_cann_aclrtMallocCached;
extern __typeof__(aclrtFree) epx_cann_aclrtFree;
extern __typeof__(aclrtMallocHost) epx_cann_aclrtMallocHost;
extern __typeof__(aclrtFreeHost) epx_cann_aclrtFreeHost;
extern __typeof__(aclrtMemcpy) epx_cann_aclrtMemcpy;
extern __typeof__(aclrtMemcpyAsync) epx_cann_aclrtMemcpyAsync;
extern __typeof__(aclrtMemset) epx_cann_aclrtMemset;
extern __typeof__(aclrtMemsetAsync) epx_cann_aclrtMemsetAsync;
extern __typeof__(aclrtGetMemInfo) epx_cann_aclrtGetMemInfo;

extern __typeof__(aclCreateTensor) epx_cann_aclCreateTensor;
extern __typeof__(aclInitTensor) epx_cann_aclInitTensor;
extern __typeof__(aclCreateScalar) epx_cann_aclCreateScalar;
extern __typeof__(aclCreateIntArray) epx_cann_aclCreateIntArray;
extern __typeof__(aclCreateFloatArray) epx_cann_aclCreateFloatArray;
extern __typeof__(aclCreateBoolArray) epx_cann_aclCreateBoolArray;
extern __typeof__(aclCreateTensorList) epx_cann_aclCreateTensorList;
extern __typeof__(aclCreateScalarList) epx_cann_aclCreateScalarList;
extern __typeof__(aclDestroyTensor) epx_cann_aclDestroyTensor;
extern __typeof__(aclDestroyScalar) epx_cann_aclDestroyScalar;
extern __typeof__(aclDestroyIntArray) epx_cann_aclDestroyIntArray;
extern __typeof__(aclDestroyFloatArray) epx_cann_aclDestroyFloatArray;
extern __typeof__(aclDestroyBoolArray) epx_cann_aclDestroyBoolArray;
extern __typeof__(aclDestroyTensorList) epx_cann_aclDestroyTensorList;
extern __typeof__(aclDestroyScalarList) epx_cann_aclDestroyScalarList;
extern __typeof__(aclGetViewShape) epx_cann_aclGetViewShape;
extern __typeof__(aclGetStorageShape) epx_cann_aclGetStorageShape;
extern __typeof__(aclGetViewStrides) epx_cann_aclGetViewStrides;
extern __typeof__(aclGetViewOffset) epx_cann_aclGetViewOffset;
extern __typeof__(aclGetFormat) epx_cann_aclGetFormat;
extern __typeof__(aclGetDataType) epx_cann_aclGetDataType;
extern __typeof__(aclGetIntArraySize) epx_cann_aclGetIntArraySize;
extern __typeof__(aclGetFloatArraySize) epx_cann_aclGetFloatArraySize;
extern __typeof__(aclGetBoolArraySize) epx_cann_aclGetBoolArraySize;
extern __typeof__(aclGetTensorListSize) epx_cann_aclGetTensorListSize;
extern __typeof__(aclGetScalarListSize) epx_cann_aclGetScalarListSize;
extern __typeof__(aclSetRawTensorAddr) epx_cann_aclSetRawTensorAddr;
extern __typeof__(aclGetRawTensorAddr) epx_cann_aclGetRawTensorAddr;
extern __typeof__(aclnnInit) epx_cann_aclnnInit;
extern __typeof__(aclnnFinalize) epx_cann_aclnnFinalize;

#endif
