/*
 * Sizes and conversions of element types.
 *
 * Owner: none. Thread: any. Source: public headers of CANN 8. Differs: none.
 */
#ifndef ACL_ACL_BASE_H
#define ACL_ACL_BASE_H

#include "acl_base_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of one element; 0 for a type without a whole number of bytes, a string, and an unknown value. Errors: none. */
ACL_FUNC_VISIBILITY size_t aclDataTypeSize(aclDataType dataType);

/* The value of a half precision number; exact. Errors: none. */
ACL_FUNC_VISIBILITY float aclFloat16ToFloat(aclFloat16 value);

/* The nearest half precision number, ties to even; overflow gives infinity, every NaN is 0x7E00. Errors: none. */
ACL_FUNC_VISIBILITY aclFloat16 aclFloatToFloat16(float value);

#ifdef __cplusplus
}
#endif

#endif
