#!/usr/bin/env bash
# The epx command: what it prints, its exit status, and that a lost output is not called a success.
. "$(dirname "$0")/lib.sh"
epx=$EPX_BIN_DIR/epx
source_dir=$(cd "$(dirname "$0")/../.." && pwd)

run 10 "$epx" version
expect_status 0 "epx version"
grep -qxE 'epx [0-9]+\.[0-9]+\.[0-9]+' "$work/out" || wrong "epx version: not a version"
cp "$work/out" "$work/version"
run 10 "$epx" --version
expect_status 0 "epx --version"
cmp -s "$work/out" "$work/version" || wrong "epx --version says something else than epx version"

# Every option of the table, as the table's source has it.
run 10 "$epx" info
expect_status 0 "epx info"
count=0
for name in $(grep -oE '\.name = "[A-Z_]+"' "$source_dir/src/base/config.c" | cut -d'"' -f2); do
    count=$((count + 1))
    [ "$(grep -c "^$name " "$work/out")" = 1 ] || wrong "epx info: $name is not there once"
    grep -E "^$name " "$work/out" | grep -q ' default ' || wrong "epx info: $name is not said to be the default"
done
[ "$count" -ge 20 ] || wrong "the table of options has $count names"

# What the process may use of the host.
for name in processors cores 'NUMA nodes' 'read with' 'threads of a rank' 'to other hosts'; do
    [ "$(grep -c "^$name  " "$work/out")" = 1 ] || wrong "epx info: '$name' is not there once"
done
[ "$(awk '$1 == "processors" {print $2}' "$work/out")" = "$(nproc)" ] || wrong "epx info: processors are not $(nproc)"
cpu=$(taskset -cp $$ | sed 's/.*: *//; s/[-,].*//')
run 10 taskset -c "$cpu" "$epx" info
expect_status 0 "epx info on one processor"
for line in 'processors +1' 'cores +1' 'NUMA nodes +1, cores of each: 1' 'threads of a rank +1 .*'; do
    grep -qxE "$line" "$work/out" || wrong "epx info on one processor: no line '$line'"
done
# Two hyperthreads are one core, where a made-up machine can be read and this one has its processors.
if grep -q '^read with  *hwloc' "$work/out" && taskset -c 0-1 true 2>/dev/null; then
    HWLOC_SYNTHETIC='node:1 core:4 pu:2' run 10 taskset -c 0-1 "$epx" info
    expect_status 0 "epx info on two hyperthreads"
    for line in 'processors +2' 'cores +1' 'threads of a rank +1 .*'; do
        grep -qxE "$line" "$work/out" || [ "$(nproc)" = 1 ] || wrong "epx info on two hyperthreads: no line '$line'"
    done
fi

# A value is shown with where it comes from, a wrong one too.
export EPX_ARENA_MIB=123 EPX_PRODUCT=A3 EPX_JOB='a b' HCCL_BUFFSIZE=none
run 10 "$epx" info
expect_status 0 "epx info with an environment"
for value in 'EPX_ARENA_MIB +123 +environment ' 'EPX_PRODUCT +A3 +environment ' 'EPX_JOB +a b +environment ' \
    'HCCL_BUFFSIZE +none +environment ' 'EPX_CPU +auto +default '; do
    grep -qE "^$value" "$work/out" || wrong "epx info: no line '$value'"
done
unset EPX_ARENA_MIB EPX_PRODUCT EPX_JOB HCCL_BUFFSIZE

# Usage: on request a success on standard output, else an error on standard error.
for flag in --help -h; do
    run 10 "$epx" "$flag"
    expect_status 0 "epx $flag"
    expect_text out usage: "epx $flag"
    [ ! -s "$work/err" ] || wrong "epx $flag writes errors"
done
run 10 "$epx"
expect_status 2 "epx alone"
expect_text err usage: "epx alone"
run 10 "$epx" nothing
expect_status 2 "epx nothing"
expect_text err "'nothing'" "epx nothing"
[ ! -s "$work/out" ] || wrong "epx nothing writes to standard output"
run 10 "$epx" info more
expect_status 2 "epx info more"
run 10 "$epx" ''
expect_status 2 "epx with an empty command"

# Output that is lost.
: >"$work/out"
for command in info version --help; do
    status=0
    "$epx" "$command" >&- 2>"$work/err" || status=$?
    [ "$status" != 0 ] || wrong "epx $command into a closed output: exit status 0"
    [ "$status" -lt 128 ] || wrong "epx $command into a closed output: exit status $status"
    if [ -w /dev/full ]; then
        status=0
        "$epx" "$command" >/dev/full 2>"$work/err" || status=$?
        [ "$status" != 0 ] || wrong "epx $command onto a full device: exit status 0"
    fi
done
finish
