#!/usr/bin/env bash
# What a rank asks of the kernel once it runs: per operation a constant number of calls (who am I), and waiting. Counted
# as the difference between a long and a short run.
. "$(dirname "$0")/lib.sh"
engine=$EPX_BIN_DIR/epx-bench-epx
[ -x "$engine" ] || skip_all "no epx-bench-epx is built here"
command -v strace >/dev/null || skip_all "no strace here"
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
run 20 strace -f -o "$work/probe" true
[ "$status" = 0 ] || skip_all "strace may not trace here"

# count ROUNDS OPTIONS…: "calls name" a line, without the calls of waiting and of the samples that are printed
count()
{
    local rounds=$1
    shift
    run 120 strace -f -qq -o "$work/trace" "$engine" --ranks 2 --bs 8 --hidden 512 --warmup 5 --rounds "$rounds" "$@"
    expect_status 0 "$rounds rounds under strace"
    awk '$2 !~ /^<\.\.\.|^\+\+\+|^---/ { sub(/\(.*/, "", $2); n[$2]++ }
         END { for (name in n) print n[name], name }' "$work/trace" |
        grep -vwE 'futex|sched_yield|write' | sort -k2 >"$work/calls.$rounds"
}

short=20
long=220
# Two ranks, dispatch and combine.
operations=$(((long - short) * 2 * 2))
for options in "" "--quant int8" "--private-memory 1"; do
    # shellcheck disable=SC2086
    count $short $options
    # shellcheck disable=SC2086
    count $long $options
    join -1 2 -2 2 -a 2 -e 0 -o 0,1.1,2.1 "$work/calls.$short" "$work/calls.$long" >"$work/out"
    [ -s "$work/out" ] || wrong "no call was counted ($options)"
    # Twice an operation a rank asks which process it is; what is timed by the clock and not by rounds stays far below.
    if ! awk -v n=$operations '{ more = $3 - $2; limit = $1 == "getpid" ? 2.05 * n : n / 10
                                 if (more > limit) { print $1 ": " more " calls in " n " operations"; bad = 1 } }
                               END { exit bad }' "$work/out" >"$work/err"; then
        wrong "calls of steady operations ($options)"
    fi
done
finish
