#!/usr/bin/env bash
# One host, more and more ranks: time and memory of dispatch and combine with BS 8, H 7168, K 8, bf16, one expert a rank
# (16 for fewer ranks). Prints a table; memory is the sum of the proportional set sizes of all ranks while they run.
#   bench/scale.sh BIN_DIR [processes|threads] [RANKS…]
set -u
bin=${1:?usage: scale.sh BIN_DIR [processes|threads] [RANKS...]}
way=${2:-processes}
[ $# -gt 2 ] && shift 2 || set -- 2 8 16 32 64 144 288
case $way in
processes) processes=1 ;;
threads) processes=0 ;;
*) echo "scale.sh: '$way' is neither processes nor threads" >&2 && exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Proportional set size, KiB, of a process and its children.
memory_kib()
{
    local pid
    for pid in "$1" $(pgrep -P "$1"); do
        cat "/proc/$pid/smaps_rollup" 2>/dev/null
    done | awk '/^Pss:/ { kib += $2 } END { print kib + 0 }'
}

# median OPERATION
median()
{
    grep "\"operation\":\"$1\"" "$work/records" | grep -o '"makespan_ns":[0-9]*' | cut -d: -f2 | sort -n |
        awk '{ ns[NR] = $1 } END { printf "%.2f", ns[int((NR + 1) / 2)] / 1e6 }'
}

summary() { grep '"record":"summary"' "$work/records" | grep -oE "\"$1\":[0-9]+" | cut -d: -f2; }

echo "| W, $way | create ms | plan ms | first dispatch / combine ms | dispatch ms | combine ms | memory MiB | a rank MiB |"
echo "|---|---|---|---|---|---|---|---|"
for ranks in "$@"; do
    experts=$((ranks > 16 ? ranks : 16))
    "$bin/epx-bench-epx" --ranks "$ranks" --bs 8 --experts "$experts" --processes "$processes" --warmup 3 --rounds 15 \
        >"$work/records" &
    engine=$!
    peak=0
    while kill -0 "$engine" 2>/dev/null; do
        now=$(memory_kib "$engine")
        [ "$now" -gt "$peak" ] && peak=$now
        sleep 0.02
    done
    wait "$engine" || { echo "scale.sh: $ranks ranks: exit status $?" >&2 && exit 1; }
    awk -v w="$ranks" -v create="$(summary create_ns)" -v plan="$(summary plan_ns)" -v fd="$(summary first_dispatch_ns)" \
        -v fc="$(summary first_combine_ns)" -v d="$(median dispatch)" -v c="$(median combine)" -v kib="$peak" 'BEGIN {
        printf "| %d | %.1f | %.2f | %.2f / %.2f | %s | %s | %.0f | %.1f |\n", w, create / 1e6, plan / 1e6, fd / 1e6, fc / 1e6, d, c,
               kib / 1024, kib / 1024 / w }'
done
