#!/usr/bin/env bash
# One host, more and more ranks: time and memory of dispatch and combine with BS 8, H 7168, K 8, bf16, one expert a rank
# (16 for fewer ranks). Two runs for each number of ranks: one is timed, the other says what memory it has taken after
# its rounds, when all ranks stand still. Prints a table.
#   bench/scale.sh BIN_DIR [processes|threads] [RANKS…]
# BS, HIDDEN and ROUNDS of the environment are taken in place of 8, 7168 and 15.
#
#   resident     sum of the ranks' proportional set sizes (Pss), without pages of files, which the host's programs share
#   tensors      of it the caller's tensors: their pages that are there, so only rows that arrived
#   less         resident without tensors, and without what the ranks had before they called the library
#   page tables  of all ranks (VmPTE); they come on top of it
set -u
bin=${1:?usage: scale.sh BIN_DIR [processes|threads] [RANKS...]}
way=${2:-processes}
[ $# -gt 2 ] && shift 2 || set -- 2 8 16 32 64 144 288
case $way in
processes) processes=1 ;;
threads) processes=0 ;;
*) echo "scale.sh: '$way' is neither processes nor threads" >&2 && exit 2 ;;
esac
for ranks in "$@"; do
    case $ranks in
    '' | 0* | *[!0-9]*) echo "scale.sh: '$ranks' is no number of ranks" >&2 && exit 2 ;;
    esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# engine RECORDS OPTION…
engine()
{
    local records=$work/$1
    shift
    "$bin/epx-bench-epx" --ranks "$ranks" --bs "${BS:-8}" --hidden "${HIDDEN:-7168}" --experts "$experts" \
        --processes "$processes" --check 0 "$@" >"$records" || {
        echo "scale.sh: $ranks ranks: exit status $?" >&2
        exit 1
    }
}

# median OPERATION
median()
{
    grep "\"operation\":\"$1\"" "$work/times" | grep -o '"makespan_ns":[0-9]*' | cut -d: -f2 | sort -n |
        awk '{ ns[NR] = $1 } END { printf "%.2f", ns[int((NR + 1) / 2)] / 1e6 }'
}

# number RECORDS KIND FIELD
number() { grep "\"record\":\"$2\"" "$work/$1" | grep -oE "\"$3\":[0-9]+" | cut -d: -f2; }

echo "| W, $way | create ms | plan ms | first dispatch / combine ms | dispatch ms | combine ms | resident MiB | tensors MiB | less MiB | less, a rank MiB | page tables MiB |"
echo "|---|---|---|---|---|---|---|---|---|---|---|"
for ranks in "$@"; do
    experts=$((ranks > 16 ? ranks : 16))
    engine times --warmup 3 --rounds "${ROUNDS:-15}"
    engine memory --warmup 1 --rounds 2 --memory 1
    awk -v w="$ranks" -v create="$(number times summary create_ns)" -v plan="$(number times summary plan_ns)" \
        -v fd="$(number times summary first_dispatch_ns)" -v fc="$(number times summary first_combine_ns)" \
        -v d="$(median dispatch)" -v c="$(median combine)" -v resident="$(number memory memory resident_bytes)" \
        -v tensors="$(number memory memory tensor_bytes)" -v before="$(number memory memory before_bytes)" \
        -v tables="$(number memory memory page_table_bytes)" 'BEGIN {
        less = resident - tensors - before
        mib = 1048576
        printf "| %d | %.1f | %.2f | %.2f / %.2f | %s | %s | %.1f | %.1f | %.1f | %.2f | %.1f |\n", w, create / 1e6,
               plan / 1e6, fd / 1e6, fc / 1e6, d, c, resident / mib, tensors / mib, less / mib, less / mib / w,
               tables / mib }'
done
