# Shared by the tests that make hosts of network namespaces: source it first. The script runs once more in a mount and a
# process namespace of its own (and, not as root, in a user namespace): its network namespaces have names there alone,
# under a file system of their own, and all of it goes with the last process, in whatever way the script ends.
if [ "${NET_INSIDE:-}" != yes ]; then
    command -v ip >/dev/null && command -v unshare >/dev/null && command -v nsenter >/dev/null || {
        echo "SKIPPED: no ip (iproute2), unshare or nsenter (util-linux) here"
        exit 77
    }
    net_unshare="unshare --mount --net --pid --fork --kill-child --mount-proc"
    [ "$(id -u)" = 0 ] || net_unshare="$net_unshare --user --map-root-user"
    if ! net_reason=$($net_unshare sh -c 'mount -t tmpfs net /run && mkdir /run/netns && ip netns add probe &&
            ip link add name probe type bridge && ip link add name here type veth peer name there netns probe' 2>&1); then
        echo "SKIPPED: no network namespaces here: $(printf '%s' "$net_reason" | tail -n 1)"
        exit 77
    fi
    # shellcheck disable=SC2086
    NET_INSIDE=yes NET_SHARED=${EPX_SHARED:-} exec $net_unshare bash "$0" "$@"
fi
unset NET_INSIDE
mount -t tmpfs net /run && mkdir /run/netns /run/work || exit 1
export TMPDIR=/run/work
. "$(dirname "${BASH_SOURCE[0]}")/../cli/lib.sh"
# The leak sanitizer guesses where a loaded library has its thread-local memory, and now and then wrongly.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}intercept_tls_get_addr=0"
net_count=0
net_ipv6=yes
net_jobs=()

# net_make COUNT: hosts 0 to COUNT - 1, joined by a bridge in the script's own namespace. Host N is 10.77.0.(10 + N),
# 10.77.1.(10 + N) and, where there is IPv6 (net_ipv6), fd00:77::(10 + N).
net_make()
{
    local n
    ip link set lo up && ip link add name bridge type bridge && ip link set bridge up || wrong "no bridge"
    for ((n = 0; n < $1; n++)); do
        ip netns add "host$n" && ip link add "to$n" type veth peer name eth0 netns "host$n" &&
            ip link set "to$n" master bridge up && ip -n "host$n" link set lo up &&
            ip -n "host$n" address add "10.77.0.$((10 + n))/16" dev eth0 &&
            ip -n "host$n" address add "10.77.1.$((10 + n))/16" dev eth0 &&
            ip -n "host$n" link set eth0 up || wrong "host $n cannot be made"
        ip -n "host$n" address add "fd00:77::$((10 + n))/64" dev eth0 nodad 2>/dev/null || net_ipv6=no
    done
    net_count=$1
}

net_ip() { echo "10.77.0.$((10 + $1))"; }

# net_at HOST COMMAND…: on that host
net_at()
{
    local host=$1
    shift
    nsenter --net="/run/netns/host$host" -- "$@"
}

# net_start HOST NAME COMMAND…: in the background, for at most 120 s; what it says goes to $work/NAME.out and .err
net_start()
{
    local host=$1 name=$2
    shift 2
    nsenter --net="/run/netns/host$host" -- timeout -k 5 120 "$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null &
    net_jobs+=("$! $name")
}

# net_wait WANTED WHAT: until all have ended, each with that exit status ("any": with whatever)
net_wait()
{
    local job state
    for job in "${net_jobs[@]}"; do
        state=0
        wait "${job%% *}" || state=$?
        if [ "$1" != any ] && [ "$state" != "$1" ]; then
            cp "$work/${job#* }.out" "$work/out"
            cp "$work/${job#* }.err" "$work/err"
            wrong "$2: exit status of ${job#* } is $state, must be $1"
        fi
    done
    net_jobs=()
}

# net_lines PATTERN: how many lines of what the commands have said match
net_lines() { cat "$work"/*.out "$work"/*.err | grep -cE -- "$1"; }

net_forget() { rm -f "$work"/*.out "$work"/*.err; }

# net_table HOST_OF_SERVER… -- RANKS: a rank table whose servers, of RANKS each, are on these hosts. Two servers of one
# host have different addresses of it.
net_table()
{
    local hosts=() seen=(0 0 0 0) host server device rank=0 comma=""
    while [ "$1" != -- ]; do
        hosts+=("$1")
        shift
    done
    printf '{"version":"1.0","status":"completed","server_count":"%d","server_list":[' "${#hosts[@]}"
    for server in "${!hosts[@]}"; do
        host=${hosts[$server]}
        printf '%s{"server_id":"10.77.%d.%d","device":[' "$comma" "$((seen[host]++))" "$((10 + host))"
        for ((device = 0; device < $2; device++, rank++)); do
            [ "$device" = 0 ] || printf ','
            printf '{"device_id":"%d","device_ip":"240.0.%d.%d","rank_id":"%d"}' \
                "$device" "$server" "$((device + 1))" "$rank"
        done
        printf ']}'
        comma=","
    done
    printf ']}\n'
}

# net_expect_nothing WHAT: no process but this script's, no socket of any kind on the hosts. What has ended may take a
# moment; connections in TIME-WAIT are the kernel's.
net_expect_nothing()
{
    local try left
    for ((try = 0; try < 50; try++)); do
        left=$(net_left)
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    printf '%s\n' "$left" >"$work/out"
    wrong "$1: something is left"
}

net_left()
{
    local n pid
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        [ "$pid" = 1 ] || [ "$pid" = "$BASHPID" ] || [ ! -r "/proc/$pid/cmdline" ] ||
            tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null
    done
    for ((n = 0; n < net_count; n++)); do
        net_at "$n" sh -c 'cd /proc/net && tail -n +2 -q tcp tcp6 udp udp6 2>/dev/null |
            grep -vE "^ *[0-9]+: [^ ]+ [^ ]+ 06 "; tail -n +2 /proc/net/unix'
    done
}

# net_needs_wire RANK: skips where the library knows one host only
net_needs_wire()
{
    net_start 0 rank0 env EPX_JOB=wire EPX_ROOT="$(net_ip 0):60000" EPX_RANK=0 EPX_WORLD_SIZE=2 "$1"
    net_start 1 rank1 env EPX_JOB=wire EPX_ROOT="$(net_ip 0):60000" EPX_RANK=1 EPX_WORLD_SIZE=2 "$1"
    net_wait any
    [ "$(net_lines "this epx has no wire")" = 0 ] || skip_all "this epx has no wire between hosts"
}
