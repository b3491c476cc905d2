#!/usr/bin/env bash
# The vendor page's two-server program, unchanged, on two hosts that are network namespaces: its rank table has their
# addresses. EPX_SHARED is the folder that has the program.
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")/.." && pwd)
program=${NET_SHARED:-$here/../../shared}/acceptance/two-server-demo
[ -d "$program" ] || skip_all "no folder $program"
command -v g++ >/dev/null || skip_all "no g++ here"
net_make 2
net_needs_wire "$EPX_BIN_DIR/../tests/epx_env_rank"
run 120 cmake --install "$EPX_BIN_DIR/.." --prefix "$work/prefix"
expect_status 0 "installation"
run 300 bash "$here/acceptance/build_two_server.sh" "$work/prefix" "$program" "$work"
expect_status 0 "building the program"
# shellcheck disable=SC1091
source "$work/prefix/latest/bin/setenv.bash"
# The program reads no variable of ours, and looks for a file of this name.
net_table 0 1 -- 8 >"$work/rank_table_m2.json"
export RANK_TABLE_FILE=$work/rank_table_m2.json
cd "$work" || exit 1

# two_servers WHAT VARIABLE…
two_servers()
{
    local what=$1
    shift
    net_forget
    net_start 0 first env EPX_LOG=info FIRST_RANK_ID=0 "$@" ./combineDemo
    net_start 1 second env EPX_LOG=info FIRST_RANK_ID=8 "$@" ./combineDemo
    net_wait 0 "$what"
    [ "$(net_lines "aclnnMoeDistributeCombine execute successfully")" = 16 ] || wrong "$what: not sixteen successes"
    [ "$(net_lines " on host .* of 2\), ")" -ge 16 ] || wrong "$what: not all say that there are 2 hosts"
    net_expect_nothing "$what"
}
for round in 1 2 3; do
    two_servers "the two-server program, round $round"
done
two_servers "the two-server program on A2" EPX_PRODUCT=A2
two_servers "the two-server program, two levels" HCCL_INTRA_PCIE_ENABLE=1 HCCL_INTRA_ROCE_ENABLE=0
finish
