#!/usr/bin/env bash
# Compares what the built libraries export with what the public headers declare: check_exports.sh BUILD_DIR
set -eu
cd "$(dirname "$0")/.."
build=$1
bad=0

exported()
{
    nm -D --defined-only "$1" | awk '$2 ~ /[TDBRW]/ {sub(/@.*/, "", $3); print $3}' | sort -u
}

# Functions a header declares: preprocessed by the compiler itself.
declared()
{
    printf '#include <%s>\n' "$@" | gcc -std=c11 -x c -Iinclude -Iinclude/aclnnop -E - |
        awk '/^# [0-9]+ "/ {keep = ($3 ~ /include\/(epx|acl|aclnn|aclnnop|hccl)\//)} keep' |
        grep -v '^#' | tr '\n' ' ' | sed 's/static inline[^{]*{[^}]*}//g' |
        grep -oE '\b(epx_[a-z0-9_]+|[aA]cl[A-Za-z0-9]+|Hccl[A-Za-z0-9]+) *\(' | tr -d ' (' | sort -u
}

compare()
{
    local what=$1 exports=$2 declarations=$3 lost extra
    lost=$(comm -13 "$exports" "$declarations")
    extra=$(comm -23 "$exports" "$declarations")
    if [ -n "$lost" ]; then echo "$what: declared but not exported:" $lost >&2; bad=1; fi
    if [ -n "$extra" ]; then echo "$what: exported but not declared:" $extra >&2; bad=1; fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
declared epx/epx.h > "$work/epx.declared"
exported "$build/libepx.so" | grep -v '^epx_cann_\|^EPX_' > "$work/epx.exported" || true
compare libepx.so "$work/epx.exported" "$work/epx.declared"

declared acl/acl.h aclnn/aclnn_base.h aclnnop/aclnn_moe_distribute_dispatch.h aclnnop/aclnn_moe_distribute_combine.h \
    hccl/hccl.h > "$work/cann.declared"
for name in ascendcl nnopbase opapi hccl; do exported "$build/lib64/lib$name.so"; done | grep -v '^EPX_' |
    sort -u > "$work/cann.exported"
compare "CANN libraries" "$work/cann.exported" "$work/cann.declared"
exit $bad
