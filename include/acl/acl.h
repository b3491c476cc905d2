/*
 * Start and end of the runtime. Includes the whole acl interface.
 *
 * Thread: every function may be called from any thread. A process that forks leaves the child without devices, streams
 * and communicators; the child may start with aclInit.
 * Source: public headers and interface pages of CANN 8.
 * Differs: as stated at each function.
 */
#ifndef ACL_ACL_H
#define ACL_ACL_H

#include "acl_mdl.h"
#include "acl_op.h"
#include "acl_rt.h"

#define ACL_MAJOR_VERSION 1
#define ACL_MINOR_VERSION 17
#define ACL_PATCH_VERSION 0

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Starts the runtime.
 * configPath: null, or the path of a JSON file. Its content is not used.
 * Errors: 100002 the runtime was started before and not ended since (the reference count rises all the same); 100003
 * the file cannot be read; 100006 it is not JSON.
 * Owner: none.
 * Differs: no key of the file has an effect.
 */
ACL_FUNC_VISIBILITY aclError aclInit(const char *configPath);

/*
 * Ends the runtime whatever the reference count. Devices, contexts, streams and communicators that the program left
 * stay valid until the process ends.
 * Errors: 100037 the runtime is not started.
 * Owner: none.
 * Differs: returns at once.
 */
ACL_FUNC_VISIBILITY aclError aclFinalize(void);

/*
 * Gives one reference back and ends the runtime with the last one.
 * refCount: out, the references that are left; null is allowed.
 * Errors: 100037 the runtime is not started.
 * Owner: none.
 * Differs: none.
 */
ACL_FUNC_VISIBILITY aclError aclFinalizeReference(uint64_t *refCount);

/*
 * The version of this interface: ACL_MAJOR_VERSION, ACL_MINOR_VERSION, ACL_PATCH_VERSION.
 * Errors: 100000 a pointer is null.
 * Owner: none.
 * Differs: none.
 */
ACL_FUNC_VISIBILITY aclError aclrtGetVersion(int32_t *majorVersion, int32_t *minorVersion, int32_t *patchVersion);

/*
 * The text of the calling thread's last refused call, "<code>: <what is wrong, with value and limit>", and forgets it;
 * null when there is none.
 * Errors: none.
 * Owner: the library; valid until the thread's next call of this function.
 * Differs: none.
 */
ACL_FUNC_VISIBILITY const char *aclGetRecentErrMsg(void);

#ifdef __cplusplus
}
#endif

#endif
