/*
 * Start and end of the operator layer. Programs need neither: every operator works without.
 *
 * Owner: none. Thread: any. Source: public headers of CANN 8. Differs: none.
 */
#ifndef ACLNN_ACLNN_BASE_H
#define ACLNN_ACLNN_BASE_H

#include "aclnn/acl_meta.h"

#ifdef __cplusplus
extern "C" {
#endif

/* configPath: null, or the path of a JSON file, whose content is not used. Errors: 161002 it cannot be read or is not
 * JSON. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnInit(const char *configPath);

/* Errors: none. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnFinalize(void);

#ifdef __cplusplus
}
#endif

#endif
