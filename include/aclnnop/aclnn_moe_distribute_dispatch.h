/*
 * aclnnMoeDistributeDispatch: sends every token to the ranks that own its experts, quantised on the way if asked.
 *
 * Symbols (letters of the interface page):
 *   W  epWorldSize, r epRankId          E  moeExpertNum          S  sharedExpertRankNum: ranks [0, S) hold the shared
 *   BS tokens of this rank              H  elements of a token      expert, each a copy of it
 *   K  experts of a token               L  E / (W - S), experts of a rank r >= S; 1 for r < S
 *   G  globalBs, or BS * W when it is 0 A  rows that expandX holds; T max(tpWorldSize, 1)
 *
 * An operator is called in two phases. The first checks the arguments and makes an executor; it never reads tensor
 * data. The second queues the exchange on a stream and returns. The tensors' memory, the workspace and the communicator
 * must stay until the stream has been synchronised; the aclTensor handles may go after the first phase.
 *
 * The exchange is collective: all ranks of the group must queue it, in the same order as their other operations on the
 * group. When the stream has been synchronised with success the outputs are final and no peer uses this rank's
 * tensors.
 */
#ifndef ACLNNOP_ACLNN_MOE_DISTRIBUTE_DISPATCH_H
#define ACLNNOP_ACLNN_MOE_DISTRIBUTE_DISPATCH_H

#ifdef __cplusplus
#include <string>
#endif

#include "aclnn/aclnn_base.h"
#include "aclnn_util.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * First phase of the dispatch: checks the arguments and makes an executor.
 *
 * Shapes. All tensors have format ND and may be strided views; the memory of an output must not overlap that of any
 * other tensor.
 *   x                  in   (BS, H)      FLOAT16 or BF16: the tokens; more rows than BS are ignored
 *   expertIds          in   (BS, K)      INT32: each in [0, E); the same expert may be named twice: two rows
 *   scales             in   (E, H), with S > 0 (E + 1, H) and row 0 for the shared expert; (E + sharedExpertNum, H) is
 *                           accepted with S = 0. FLOAT32: smooth scales, with quantMode 2 only; null: none
 *   xActiveMask        in   any          BOOL, reserved: ignored with a warning in the log
 *   expertScales       in   (BS, K)      FLOAT32 weights: read by the two-level exchange only; else may be null
 *   expandX            out  (A, H)       dtype of x; INT8 with quantMode 2. T * A rows with TP. As many rows as arrive:
 *                                        with distinct ids a token at most G * min(L, K) for r >= S, G / S for r < S,
 *                                        which A2 and A3 ask for
 *   dynamicScales      out  (A,)         FLOAT32, with quantMode 2, (T * A,) with TP; else may be null, never written
 *   expandIdx          out  (BS * K,)    INT32: for the combine
 *   expertTokenNums    out  (L,)         INT64
 *   epRecvCounts       out  (W * L * T,) INT32 at least: for the combine
 *   tpRecvCounts       out  (2,)         INT32 with tpWorldSize 2; else any tensor, never written (under A3 of one
 *                                        element with tpWorldSize 1)
 *   expandScales       out  (A,)         FLOAT32, written by the two-level exchange; else may be null
 *
 * Attributes.
 *   groupEp, epWorldSize, epRankId       the communicator (HcclGetCommName), its size and this rank in it
 *   moeExpertNum                         divisible by W - S
 *   groupTp, tpWorldSize, tpRankId       the pair of ranks that share rows; tpWorldSize 0 or 1: none ("", 0, 0)
 *   expertShardType                      0: shared-expert ranks come first
 *   sharedExpertNum                      0 or 1; 1 when S > 0
 *   sharedExpertRankNum                  0 or smaller than W; under A3 a divisor of W smaller than W - 1, under A2 0
 *   quantMode                            0: rows are bit copies; 2: INT8, one scale a row
 *   globalBs                             0 when all ranks have the same BS; else at least W times the largest BS, and
 *                                        under A2 and A3 a multiple of W
 *   expertTokenNumsType                  0: expertTokenNums are running totals; 1: counts
 * group, sizes, quantMode and globalBs must be equal on all ranks; BS may differ between ranks.
 * EPX_PRODUCT A2 or A3 narrows the ranges to those of the interface page (docs/cann.md has the table).
 *
 * Valid on return of the stream's synchronisation:
 *   n = epRecvCounts[W * L - 1] is the number of rows that arrived (with TP the peer's rows follow them).
 *   expandX, dynamicScales: rows [0, n), ordered by local expert, then source rank, then the token's place and k;
 *     on a rank r < S its own tokens first, then by source rank. Later rows keep what they held.
 *   dynamicScales: what an INT8 row is multiplied by to get the token back.
 *   expandIdx[t * K + k]: how many earlier (t, k) of this rank name the same expert. The two-level exchange leaves it.
 *   expertTokenNums: all L elements.
 *   epRecvCounts: elements [0, W * L), running totals over (local expert, source rank); with TP the peer's follow in
 *     [W * L, 2 * W * L). The two-level exchange also writes the tail that the interface page asks for where the tensor
 *     has room; it means nothing to programs.
 *   tpRecvCounts: with TP, own rows at tpRankId, the peer's at the other place.
 *   expandScales: rows [0, n) with the two-level exchange.
 * The two-level exchange is chosen by HCCL_INTRA_PCIE_ENABLE=1 together with HCCL_INTRA_ROCE_ENABLE=0, read here.
 *
 * workspaceSize: out, bytes; may be 0. executor: out; the second phase uses it up unless it is made repeatable.
 *
 * Errors:
 *   161001  x, expertIds, expandX, expandIdx, expertTokenNums, tpRecvCounts or epRecvCounts is null; dynamicScales is
 *           null with quantMode 2; workspaceSize or executor is null; groupEp is null, empty, or longer than 127 bytes;
 *           groupTp is longer than 127 bytes, with TP or under A3
 *   161002  a tensor that is used has an unsupported dtype, or is no tensor (destroyed)
 *   561002  a shape, a stride, a format or an attribute is out of range; scales is given with quantMode 0; groupTp is
 *           null, empty or equal to groupEp with TP; an output overlaps another tensor; under A2 the two-level exchange
 *           lacks expertScales or expandScales; xActiveMask is given under A3; HCCL_BUFFSIZE is too small under A2, A3
 *   361001  a group is no communicator of this rank, or has another size; EPX_PRODUCT has another value
 *   207001  no memory
 * A communicator that has failed is not refused here: the stream's synchronisation reports it.
 * At the stream's synchronisation, on every rank of the group, the outputs being invalid everywhere: 507xxx, one code
 * each (docs/cann.md), for an expert id outside [0, E); more rows than expandX holds; ranks that disagree on an
 * argument or on the order of calls; a rank that ended, or left the communicator, before the exchange; a rank that did
 * not come within HCCL_EXEC_TIMEOUT.
 *
 * Owner: the executor is the library's until the second phase used it up, a repeatable one the program's.
 * Thread: any, with the rank's device current; one call at a time per communicator.
 * Source: interface page aclnnMoeDistributeDispatch (first version of the operator), CANN 8.
 * Differs: wider ranges unless EPX_PRODUCT is A2 or A3; unused optional tensors may be anything; a short epRecvCounts
 * is accepted; bad ids and too many rows are errors and not undefined.
 */
ACLNN_API aclnnStatus aclnnMoeDistributeDispatchGetWorkspaceSize(
    const aclTensor *x, const aclTensor *expertIds, const aclTensor *scales, const aclTensor *xActiveMask,
    const aclTensor *expertScales, const char *groupEp, int64_t epWorldSize, int64_t epRankId, int64_t moeExpertNum,
    const char *groupTp, int64_t tpWorldSize, int64_t tpRankId, int64_t expertShardType, int64_t sharedExpertNum,
    int64_t sharedExpertRankNum, int64_t quantMode, int64_t globalBs, int64_t expertTokenNumsType, aclTensor *expandX,
    aclTensor *dynamicScales, aclTensor *expandIdx, aclTensor *expertTokenNums, aclTensor *epRecvCounts,
    aclTensor *tpRecvCounts, aclTensor *expandScales, uint64_t *workspaceSize, aclOpExecutor **executor);

/*
 * Second phase of the dispatch: queues the exchange on a stream.
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
ACLNN_API aclnnStatus aclnnMoeDistributeDispatch(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor,
                                                 aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif
