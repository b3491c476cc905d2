#!/usr/bin/env bash
# Worlds whose hosts are network namespaces: a process for each rank, which say themselves where they are.
. "$(dirname "$0")/lib.sh"
rank=$EPX_BIN_DIR/../tests/epx_env_rank
root_rank=$EPX_BIN_DIR/../tests/epx_root_rank
export EPX_JOIN_TIMEOUT=60000 EPX_OP_TIMEOUT=60000
net_make 4
net_needs_wire "$rank"

# by_root HOSTS RANKS_EACH [IP]: EPX_ROOT; rank R on host R modulo HOSTS, so that no host has neighbours
by_root()
{
    local r count=$(($1 * $2)) ip=${3:-$(net_ip 0)} what="$1 hosts of $2 ranks by EPX_ROOT"
    net_forget
    for ((r = 0; r < count; r++)); do
        net_start $((r % $1)) "rank$r" env EPX_LOG=info EPX_JOB="root-$1-$2" EPX_ROOT="$ip:60000-60003" \
            EPX_RANK=$r EPX_WORLD_SIZE=$count "$rank"
    done
    net_wait 0 "$what"
    [ "$(net_lines "^rank [0-9]+ of $count: 0 wrong elements")" = $count ] || wrong "$what: not all are right"
    [ "$(net_lines " on host .* of $1\), ")" = $count ] || wrong "$what: not all say that there are $1 hosts"
    net_expect_nothing "$what"
}

# by_info NAME HOSTS_FOUND VARIABLE…: root information made with these variables, two hosts of four ranks. The name of
# the world begins with NAME.
by_info()
{
    local r name=$1 hosts=$2 what="root information with ${*:3}"
    shift 2
    net_forget
    rm -f "$work/root"
    for ((r = 0; r < 8; r++)); do
        net_start $((r / 4)) "rank$r" env EPX_LOG=info "$@" "$root_rank" $r 8 "$work/root"
    done
    net_wait 0 "$what"
    [ "$(net_lines "^rank [0-9] of 8: all met in $name")" = 8 ] || wrong "$what: not all have met in $name"
    # The world, that of the ranks but 0, and those of the even and the odd ones: 8 + 7 + 8.
    [ "$(net_lines " on host .* of $hosts\), ")" = 23 ] || wrong "$what: not all say that there are $hosts hosts"
    net_expect_nothing "$what"
}

for hosts in 2 3 4; do
    for each in 4 8; do
        by_root $hosts $each
    done
done
by_root 2 1
by_info "$(net_ip 0)_60000_" 2 HCCL_IF_IP="$(net_ip 0)"
by_info "10.77.0.10_50000_" 2 HCCL_SOCKET_IFNAME=eth HCCL_IF_BASE_PORT=50000
by_info "10.77.0.10_61001_" 2 HCCL_SOCKET_IFNAME=^docker,veth HCCL_HOST_SOCKET_PORT_RANGE=61001-61003
by_info "10.77.1.10_61000_" 2 EPX_ROOT=10.77.1.10:61000-61003 HCCL_IF_IP="$(net_ip 0)"

# Without any of these all ranks are expected here, and nobody is dialled: rank 1 of another host never comes.
alone()
{
    net_forget
    rm -f "$work/root"
    net_start 0 rank0 env EPX_JOIN_TIMEOUT=500 "$@" "$root_rank" 0 2 "$work/root"
    net_start 1 rank1 env EPX_JOIN_TIMEOUT=500 "$@" "$root_rank" 1 2 "$work/root"
    net_wait 1 "a root on this host alone ($*)"
    [ "$(net_lines "HcclCommInitRootInfo.*: 9 ")" = 2 ] || wrong "a root on this host alone ($*): not both time out"
    net_expect_nothing "a root on this host alone"
}
alone HCCL_IF_BASE_PORT=60000
alone HCCL_IF_IP=10.77.3.3
alone HCCL_IF_IP=127.0.0.1
alone HCCL_SOCKET_IFNAME==eth

# A list of hosts: rank 0's own need not be on it.
by_list()
{
    local r wanted=$1
    net_forget
    printf '%s' "$2" >"$work/list.json"
    for ((r = 0; r < 4; r++)); do
        net_start $((r / 2)) "rank$r" env EPX_JOIN_TIMEOUT=$((wanted == 0 ? 60000 : 1500)) EPX_JOB=list \
            EPX_ROOT="$(net_ip 0):60000" EPX_RANK=$r EPX_WORLD_SIZE=4 HCCL_WHITELIST_DISABLE=0 \
            HCCL_WHITELIST_FILE="$work/list.json" "$rank"
    done
    net_wait "$wanted" "hosts by the list $2"
    net_expect_nothing "hosts by the list $2"
}
by_list 0 '{"host_ip": ["10.77.9.9", "10.77.0.11"], "device_ip": []}'
by_list 1 '{"host_ip": ["10.77.0.12"]}'
[ "$(net_lines "connection from 10.77.0.11:[0-9]+ refused: HCCL_WHITELIST_FILE does not name it")" -ge 2 ] ||
    wrong "a host that is not on the list: nothing is said of it"
[ "$(net_lines "2-3")" -ge 2 ] || wrong "a host that is not on the list: its ranks are not said to be missing"

# IPv4 leads nowhere: rows go by IPv6, too.
if [ "$net_ipv6" = yes ]; then
    for ((host = 0; host < 4; host++)); do
        ip -n "host$host" -4 address flush dev eth0 && ip -n "host$host" address add "10.78.$host.1/32" dev eth0 ||
            wrong "host $host keeps its IPv4 addresses"
    done
    by_root 3 2 "[fd00:77::10]"
fi
finish
