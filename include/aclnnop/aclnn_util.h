/*
 * Visibility of the operators' functions.
 *
 * Source: public headers of CANN 8.
 */
#ifndef ACLNNOP_ACLNN_UTIL_H
#define ACLNNOP_ACLNN_UTIL_H

#include <stdint.h>

#define ACLNN_API __attribute__((visibility("default")))

#endif
