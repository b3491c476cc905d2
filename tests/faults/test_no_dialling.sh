#!/usr/bin/env bash
# The addresses in a rank table are never dialled: under strace a whole run creates no socket but local ones.
. "$(dirname "$0")/../cli/lib.sh"
demo=$EPX_BIN_DIR/epx-demo
[ -x "$demo" ] || skip_all "no epx-demo is built here"
command -v strace >/dev/null || skip_all "no strace here"
# A traced process cannot look for leaks.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
run 20 strace -f -o "$work/probe" -e trace=network true
[ "$status" = 0 ] || skip_all "strace may not trace here"

run 120 strace -f -o "$work/trace" -e trace=network "$demo" --servers 2 --ranks 2 --tokens 4 --hidden 64 --topk 2 \
    --experts 4 --ffn 4 --rounds 2 --quiet
expect_status 0 "epx-demo under strace"
expect_text out "verified: 4/4 ranks, 0 wrong elements" "epx-demo under strace"
# The trace is one: ranks meet over local sockets. Netlink is the kernel, asked for this machine's own addresses.
grep -q 'socket(AF_UNIX' "$work/trace" || wrong "the trace shows no local socket"
if grep -E 'socket\((AF_INET|AF_INET6|AF_PACKET)|sa_family=AF_INET|connect\([0-9]+, \{sa_family=AF_NETLINK' "$work/trace" >"$work/out"; then
    wrong "sockets that are not local"
fi
finish
