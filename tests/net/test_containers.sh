#!/usr/bin/env bash
# Ranks that are each in a container of their own: process, user and mount namespaces, a small /dev/shm, a /tmp and a /run
# that nobody else sees, no pidfds and no look into other processes. On one host they share its network; on several each
# host has one.
. "$(dirname "$0")/lib.sh"
rank=$EPX_BIN_DIR/../tests/epx_env_rank
in_container=$EPX_BIN_DIR/../tests/epx_in_container
export EPX_JOIN_TIMEOUT=60000 EPX_OP_TIMEOUT=60000
net_make 2
net_needs_wire "$rank"
net_forget

# The command is not run in the place of the shell: the first process of a namespace cannot kill itself.
container_body='mount -t tmpfs -o size=64m shm /dev/shm && mount -t tmpfs tmp /tmp && mount -t tmpfs run /run || exit 77
"$@"
exit $?'
# The leak sanitizer stops its process by ptrace.
export ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0"

# container HOST NAME COMMAND…: as net_start
container()
{
    local host=$1 name=$2
    shift 2
    net_start "$host" "$name" unshare --user --map-root-user --mount --pid --fork --kill-child --mount-proc \
        bash -c "$container_body" container "$@"
}
container 0 probe "$in_container" true
net_wait any
[ -z "$(cat "$work"/*.err)" ] || skip_all "no containers here: $(head -n 1 "$work/probe.err")"

# run_world RANKS HOSTS VICTIM WANTED WHAT
run_world()
{
    local r job="containers-$1-$2-$3" root=()
    [ "$2" = 1 ] || root=(EPX_ROOT="$(net_ip 0):60000")
    net_forget
    for ((r = 0; r < $1; r++)); do
        container $((r * $2 / $1)) "rank$r" env EPX_LOG=info EPX_JOB="$job" "${root[@]}" EPX_RANK=$r EPX_WORLD_SIZE="$1" \
            "$in_container" "$rank" $3
    done
    net_wait "$4" "$5"
}

run_world 4 1 "" 0 "four containers of one host"
[ "$(net_lines "^rank [0-9] of 4: 0 wrong elements")" = 4 ] || wrong "four containers of one host: not all are right"
run_world 4 1 2 any "a container of one host is killed"
[ "$(net_lines "rank 2 .*died in|rank 2 .*died after")" = 3 ] || wrong "a container of one host is killed: not all say so"
run_world 4 2 "" 0 "four containers of two hosts"
[ "$(net_lines "^rank [0-9] of 4: 0 wrong elements")" = 4 ] || wrong "four containers of two hosts: not all are right"
[ "$(net_lines " on host .* of 2\), ")" = 4 ] || wrong "four containers of two hosts: not all say that there are two"
run_world 4 2 3 any "a container of two hosts is killed"
[ "$(net_lines "rank 3 .*died in|rank 3 .*died after|rank 3 .*cannot be reached")" = 3 ] ||
    wrong "a container of two hosts is killed: not all say so"
net_expect_nothing "containers"
finish
