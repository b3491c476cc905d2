/*
 * How functions of the door refuse: a code of their own choice with a text. Where an epx status decides, see
 * status_map.h. Thread: any.
 */
#ifndef EPX_CANN_ACL_ERROR_H
#define EPX_CANN_ACL_ERROR_H

#include "base/status.h"
#include "cann/status_map.h"

/* Reports `code` with a text; returns `code`. */
int epx_cann_refuse(int code, const char *format, ...) EPX_PRINTF(2, 3);

/* Reports the code of a failure whose text is the thread's epx_error_text(); EPX_OK reports nothing. */
aclError epx_cann_acl_result(enum epx_status status);

#endif
