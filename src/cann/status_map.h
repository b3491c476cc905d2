/*
 * The only place with CANN's numbers: from epx's status to what each family of functions returns. docs/cann.md lists
 * it.
 */
#ifndef EPX_CANN_STATUS_MAP_H
#define EPX_CANN_STATUS_MAP_H

#include "base/status.h"

#include "acl/acl_base.h"
#include "aclnn/acl_meta.h"
#include "hccl/hccl_types.h"

/* acl and aclrt functions. Each failed-round status (40s) has a 507xxx code of its own. */
aclError epx_cann_acl_error(enum epx_status status);

/* First phase of aclnn operators: 161001, 161002, 561002, … */
aclnnStatus epx_cann_aclnn_status(enum epx_status status);

/* hccl functions. */
HcclResult epx_cann_hccl_result(enum epx_status status);

/* Stores the text that the calling thread's next aclGetRecentErrMsg returns: "<code>: <text>". Every refusal of the
 * door passes here, once, with the text of epx_error_text() when `text` is null. Returns `code`. */
int epx_cann_report(int code, const char *text);

#endif
