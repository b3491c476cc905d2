#include "comm/shrink.h"
#include "epx/objects.h"

#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 1000

_Static_assert((int)EPX_FATE_MEMBER == (int)EPX_SHRINK_MEMBER && (int)EPX_FATE_DEAD == (int)EPX_SHRINK_DEAD &&
                   (int)EPX_FATE_LEFT == (int)EPX_SHRINK_LEFT && (int)EPX_FATE_SILENT == (int)EPX_SHRINK_SILENT &&
                   (int)EPX_FATE_EXCLUDED == (int)EPX_SHRINK_EXCLUDED,
               "fates have the same numbers inside");

/* ---- The new communicator --------------------------------------------------------------------------------------- */

static enum epx_status request_read(const struct epx_shrink_config *given, struct epx_shrink_request *request)
{
    static const struct epx_shrink_config chosen = EPX_SHRINK_CONFIG_INIT;
    struct epx_shrink_config config;
    EPX_TRY(epx_struct_read(&config, sizeof config, sizeof config, given != NULL ? given : &chosen, "config"));
    if (config.timeout_ms < -1) {
        return epx_fail(EPX_ERR_INVALID, "timeout_ms is %lld, must be >= 0 or -1 (for ever)",
                        (long long)config.timeout_ms);
    }
    if (config.exclude == NULL && config.exclude_count > 0) {
        return epx_fail(EPX_ERR_NULL, "exclude is null, exclude_count is %u", config.exclude_count);
    }
    *request = (struct epx_shrink_request){
        .timeout_ms = config.timeout_ms == 0 ? TIMEOUT_MS : config.timeout_ms,
        .exclude = config.exclude,
        .exclude_count = config.exclude_count,
    };
    return EPX_OK;
}

static void report_fill(struct epx_shrink_report *report, const uint8_t *fates, uint32_t rank_count)
{
    report->rank_count = 0;
    for (uint32_t rank = 0; rank < rank_count; rank++) {
        if (report->fates != NULL) {
            report->fates[rank] = (enum epx_rank_fate)fates[rank];
        }
        if (fates[rank] == EPX_SHRINK_MEMBER && report->old_ranks != NULL) {
            report->old_ranks[report->rank_count] = rank;
        }
        report->rank_count += fates[rank] == EPX_SHRINK_MEMBER;
    }
    report->lost_count = rank_count - report->rank_count;
}

enum epx_status epx_comm_shrink(struct epx_communicator *old, const struct epx_shrink_config *config,
                                struct epx_communicator **out, struct epx_shrink_report *report)
{
    struct epx_shrink_request request;
    struct epx_shrink_report checked;
    EPX_TRY(epx_communicator_check(old));
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    EPX_TRY(request_read(config, &request));
    if (report != NULL) {
        EPX_TRY(epx_struct_read(&checked, sizeof checked, sizeof checked, report, "report"));
    }
    uint32_t rank_count = epx_comm_rank_count(old->comm);
    struct epx_communicator *communicator;
    EPX_TRY(epx_communicator_new(&communicator));
    uint8_t *fates = malloc(rank_count);
    enum epx_status status = fates != NULL ? epx_shrink_run(old->comm, &request, fates, &communicator->comm)
                                           : epx_fail(EPX_ERR_NO_MEMORY, "no memory for %u fates", rank_count);
    if (status == EPX_OK) {
        *out = communicator;
        if (report != NULL) {
            report_fill(report, fates, rank_count);
        }
    } else {
        epx_communicator_release(communicator);
    }
    free(fates);
    return status;
}

/* ---- What it means for experts and tokens ------------------------------------------------------------------------ */

static enum epx_status world_check(const struct epx_experts_lost_args *args)
{
    if (args->rank_count == 0 || args->rank_count > EPX_COMM_RANK_MAX) {
        return epx_fail(EPX_ERR_INVALID, "rank_count is %u, must be in [1, %u]", args->rank_count, EPX_COMM_RANK_MAX);
    }
    if (args->shared_rank_count < 0 || args->shared_rank_count >= args->rank_count) {
        return epx_fail(EPX_ERR_INVALID, "shared_rank_count is %lld, must be in [0, %u)",
                        (long long)args->shared_rank_count, args->rank_count);
    }
    int64_t owner_count = args->rank_count - args->shared_rank_count;
    if (args->expert_count < 1 || args->expert_count > INT32_MAX || args->expert_count % owner_count != 0) {
        return epx_fail(EPX_ERR_INVALID, "expert_count is %lld, must be positive, divisible by %lld and at most %d",
                        (long long)args->expert_count, (long long)owner_count, INT32_MAX);
    }
    if (args->fates == NULL) {
        return epx_fail(EPX_ERR_NULL, "fates is null");
    }
    for (uint32_t rank = 0; rank < args->rank_count; rank++) {
        if ((uint32_t)args->fates[rank] > EPX_FATE_EXCLUDED) {
            return epx_fail(EPX_ERR_INVALID, "fates[%u] is %u, must be in [0, %d]", rank, (uint32_t)args->fates[rank],
                            EPX_FATE_EXCLUDED);
        }
    }
    return EPX_OK;
}

static enum epx_status tokens_check(const struct epx_experts_lost_args *args)
{
    if (args->token_count == 0) {
        return EPX_OK;
    }
    if (args->topk < 1 || args->topk > args->expert_count) {
        return epx_fail(EPX_ERR_INVALID, "K is %lld, must be in [1, %lld]", (long long)args->topk,
                        (long long)args->expert_count);
    }
    if (args->token_count < 0 || args->token_count > INT32_MAX / args->topk) {
        return epx_fail(EPX_ERR_INVALID, "BS is %lld, must be in [0, %lld]", (long long)args->token_count,
                        (long long)(INT32_MAX / args->topk));
    }
    if (args->expert_ids == NULL) {
        return epx_fail(EPX_ERR_NULL, "expertIds is null");
    }
    for (int64_t copy = 0; copy < args->token_count * args->topk; copy++) {
        int32_t id = args->expert_ids[copy];
        if (id < 0 || id >= args->expert_count) {
            return epx_fail(EPX_ERR_INVALID, "expertIds[%lld][%lld] is %d, must be in [0, %lld)",
                            (long long)(copy / args->topk), (long long)(copy % args->topk), id,
                            (long long)args->expert_count);
        }
    }
    return EPX_OK;
}

static bool is_lost(const struct epx_experts_lost_args *args, int64_t expert)
{
    int64_t local_count = args->expert_count / (args->rank_count - args->shared_rank_count);
    return args->fates[args->shared_rank_count + expert / local_count] != EPX_FATE_MEMBER;
}

static void experts_mark(struct epx_experts_lost_args *args)
{
    args->expert_lost_count = 0;
    for (int64_t expert = 0; expert < args->expert_count; expert++) {
        bool lost = is_lost(args, expert);
        args->expert_lost_count += lost;
        if (args->experts != NULL) {
            args->experts[expert] = lost;
        }
    }
}

static void copies_mark(struct epx_experts_lost_args *args)
{
    args->copy_lost_count = 0;
    args->token_lost_count = 0;
    for (int64_t token = 0; token < args->token_count; token++) {
        int64_t before = args->copy_lost_count;
        for (int64_t copy = token * args->topk; copy < (token + 1) * args->topk; copy++) {
            bool lost = is_lost(args, args->expert_ids[copy]);
            args->copy_lost_count += lost;
            if (args->copies != NULL) {
                args->copies[copy] = lost;
            }
        }
        args->token_lost_count += args->copy_lost_count > before;
    }
}

enum epx_status epx_experts_lost(struct epx_experts_lost_args *args)
{
    struct epx_experts_lost_args known;
    EPX_TRY(epx_struct_read(&known, sizeof known, sizeof known, args, "args"));
    EPX_TRY(world_check(args));
    EPX_TRY(tokens_check(args));
    experts_mark(args);
    copies_mark(args);
    return EPX_OK;
}
