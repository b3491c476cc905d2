#!/usr/bin/env bash
# What a rank asks of the kernel once it runs: per operation a constant number of calls (who am I), and waiting. Counted
# as the difference between a long and a short run.
. "$(dirname "$0")/lib.sh"
for engine in epx cann; do
    [ -x "$EPX_BIN_DIR/epx-bench-$engine" ] || skip_all "no epx-bench-$engine is built here"
done
command -v strace >/dev/null || skip_all "no strace here"
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
run 20 strace -f -o "$work/probe" true
[ "$status" = 0 ] || skip_all "strace may not trace here"

# count ENGINE ROUNDS OPTIONS…: "calls name" a line, without the calls of waiting and of the samples that are printed
count()
{
    local engine=$1 rounds=$2
    shift 2
    run 120 strace -f -qq -o "$work/trace" "$EPX_BIN_DIR/epx-bench-$engine" --ranks 2 --bs 8 --hidden 512 --warmup 5 \
        --rounds "$rounds" "$@"
    expect_status 0 "$engine: $rounds rounds under strace"
    awk '$2 !~ /^<\.\.\.|^\+\+\+|^---/ { sub(/\(.*/, "", $2); n[$2]++ }
         END { for (name in n) print n[name], name }' "$work/trace" |
        grep -vwE 'futex|sched_yield|write' | sort -k2 >"$work/calls.$rounds"
}

short=20
long=220
# Two ranks, dispatch and combine.
operations=$(((long - short) * 2 * 2))

# check ENGINE DOORBELL OPTIONS…: twice an operation a rank asks which process it is, and DOORBELL times at most it has
# to do with the doorbell of its stream's worker, each in its own way; what is timed by the clock and not by rounds
# stays far below.
check()
{
    local engine=$1 doorbell=$2
    shift 2
    count "$engine" $short "$@"
    count "$engine" $long "$@"
    join -1 2 -2 2 -a 2 -e 0 -o 0,1.1,2.1 "$work/calls.$short" "$work/calls.$long" >"$work/out"
    [ -s "$work/out" ] || wrong "no call was counted ($engine $*)"
    if ! awk -v n=$operations -v doorbell="$doorbell" '
            { more = $3 - $2; limit = n / 10 }
            $1 == "getpid" { limit = 2.05 * n }
            $1 ~ /^timerfd_[gs]ettime$|^read$|^poll$/ { limit += doorbell * n }
            more > limit { print $1 ": " more " calls in " n " operations"; bad = 1 }
            END { exit bad }' "$work/out" >"$work/err"; then
        wrong "calls of steady operations ($engine $*)"
    fi
}

check epx 0
check epx 0 --quant int8
check epx 0 --private-memory 1
for variant in repeatable first_phase_each_call pair; do
    check cann 1 --variant $variant
done
check cann 1 --variant first_phase_each_call --quant int8
finish
