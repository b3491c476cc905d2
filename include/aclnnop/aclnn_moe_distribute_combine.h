/*
 * aclnnMoeDistributeCombine: brings the experts' rows back and sums them with each token's weights; the inverse of
 * aclnnMoeDistributeDispatch, whose header has the symbols and the rules that both operators share.
 *
 * The combine is a function of the tensors it is given and of nothing remembered from a dispatch.
 */
#ifndef ACLNNOP_ACLNN_MOE_DISTRIBUTE_COMBINE_H
#define ACLNNOP_ACLNN_MOE_DISTRIBUTE_COMBINE_H

#ifdef __cplusplus
#include <string>
#endif

#include "aclnn/aclnn_base.h"
#include "aclnn_util.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * First phase of the combine: checks the arguments and makes an executor.
 *
 *   x[t] = sum over k, ascending, of row(t, k) * expertScales[t][k], then the shared expert's row with weight 1 (S > 0)
 * in FLOAT32 from +0, each product and each sum rounded, the result rounded once to the dtype, ties to even. The
 * two-level exchange sums per server first and rounds these partial sums to the dtype, then adds them by ascending
 * server.
 *
 * Shapes. All tensors have format ND and may be strided views; x must not overlap another tensor.
 *   expandX            in   (A, H)       FLOAT16 or BF16: the experts' outputs, in the rows of the dispatch
 *   expertIds          in   (BS, K)      INT32: as in the dispatch
 *   expandIdx          in   (BS * K,)    INT32: the dispatch's; not read by the two-level exchange
 *   epSendCounts       in   (W * L * T,) INT32 at least: the dispatch's epRecvCounts
 *   expertScales       in   (BS, K)      FLOAT32: weights
 *   tpSendCounts       in   (2,)         INT32: the dispatch's tpRecvCounts with tpWorldSize 2; else not read, may be
 *                                        null (under A3 of one element where it is given with tpWorldSize 1)
 *   xActiveMask        in   any          BOOL, reserved: ignored with a warning in the log
 *   activationScale    in   any          reserved: ignored
 *   weightScale        in   any          reserved: ignored
 *   groupList          in   any          reserved: ignored
 *   expandScales       in   (A,)         FLOAT32: the dispatch's; not read, but to be given to A2's two-level exchange
 *   x                  out  (BS, H)      dtype of expandX; more rows than BS are left alone, under A3 refused
 *
 * Attributes: those of the dispatch that have the same name have the same meaning, range and value as there.
 *   outDtype, groupListType              0; ignored
 *   commQuantMode                        0: rows travel as they are; 2: as INT8 with a scale for every 8 elements
 *
 * Valid on return of the stream's synchronisation: all BS rows of x; nothing else is written. Peers do not read
 * expandX any more.
 *
 * workspaceSize: out, bytes; may be 0. executor: out; the second phase uses it up unless it is made repeatable.
 *
 * Errors:
 *   161001  expandX, expertIds, expandIdx, epSendCounts, expertScales or x is null; workspaceSize or executor is null;
 *           groupEp is null or empty
 *   161002  groupEp is longer than 127 bytes; groupTp is, with TP or under A3; a tensor that is used has an unsupported
 *           dtype, or is no tensor (destroyed)
 *   561002  a shape, a stride, a format or an attribute is out of range; groupTp is null, empty or equal to groupEp,
 *           or tpSendCounts is null, with TP; commQuantMode 2 under A3 with TP, or under A2 without the two-level
 *           exchange; x overlaps another tensor; under A2 the two-level exchange lacks expandScales; xActiveMask is
 *           given under A3; HCCL_BUFFSIZE is too small under A2 or A3
 *   361001  a group is no communicator of this rank, or has another size; EPX_PRODUCT has another value
 *   207001  no memory
 * A communicator that has failed is not refused here: the stream's synchronisation reports it.
 * At the stream's synchronisation, on every rank of the group, x being invalid everywhere: 507xxx, one code each
 * (docs/cann.md), for an expert id outside [0, E); counts that fall, contradict each other or exceed expandX; ranks
 * that disagree on an argument or on the order of calls; a rank that ended, or left the communicator, before the
 * exchange; a rank that did not come within HCCL_EXEC_TIMEOUT.
 *
 * Owner: the executor is the library's until the second phase used it up, a repeatable one the program's.
 * Thread: any, with the rank's device current; one call at a time per communicator.
 * Source: interface page aclnnMoeDistributeCombine (first version of the operator), CANN 8.
 * Differs: wider ranges unless EPX_PRODUCT is A2 or A3; unused optional tensors may be anything; weights are always
 * taken from expertScales; bad ids and counts are errors and not undefined.
 */
ACLNN_API aclnnStatus aclnnMoeDistributeCombineGetWorkspaceSize(
    const aclTensor *expandX, const aclTensor *expertIds, const aclTensor *expandIdx, const aclTensor *epSendCounts,
    const aclTensor *expertScales, const aclTensor *tpSendCounts, const aclTensor *xActiveMask,
    const aclTensor *activationScale, const aclTensor *weightScale, const aclTensor *groupList,
    const aclTensor *expandScales, const char *groupEp, int64_t epWorldSize, int64_t epRankId, int64_t moeExpertNum,
    const char *groupTp, int64_t tpWorldSize, int64_t tpRankId, int64_t expertShardType, int64_t sharedExpertNum,
    int64_t sharedExpertRankNum, int64_t globalBs, int64_t outDtype, int64_t commQuantMode, int64_t groupListType,
    aclTensor *x, uint64_t *workspaceSize, aclOpExecutor **executor);

/*
 * Second phase of the combine: queues the exchange on a stream.
 *
 * workspace, workspaceSize: not used, may be null and 0. stream: null means the current context's default one.
 * dtype, rows valid on return: none here; see the first phase.
 * Errors:
 *   161001  a tensor that is used has no address
 *   161002  executor was made for another operator, and is not used up by this call
 *   561002  addresses given since the first phase make an output overlap another tensor
 *   561103  executor is null, is none, or was used up
 *   361001  stream is none; a communicator was destroyed since the first phase; a thread cannot be started
 *   207001  no memory
 * Owner: executor is used up, with success or not, unless it was made repeatable.
 * Thread: as the first phase. Source: as the first phase.
 * Differs: none.
 */
ACLNN_API aclnnStatus aclnnMoeDistributeCombine(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor,
                                                aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif
