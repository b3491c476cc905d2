#!/usr/bin/env bash
# Worlds whose hosts are network namespaces and which meet by the addresses of a rank table: the demo, one for each
# server, each of which checks the results of its ranks.
. "$(dirname "$0")/lib.sh"
demo=$EPX_BIN_DIR/epx-demo
[ -x "$demo" ] || skip_all "no epx-demo is built here"
net_make 4
net_needs_wire "$EPX_BIN_DIR/../tests/epx_env_rank"

# demos RANKS "HOST_OF_SERVER…" FLAG…
demos()
{
    local each=$1 hosts=($2) server what="a table of servers on hosts $2, of $1 ranks, $*"
    local servers=${#hosts[@]}
    shift 2
    net_forget
    net_table "${hosts[@]}" -- "$each" >"$work/table.json"
    for ((server = 0; server < servers; server++)); do
        net_start "${hosts[$server]}" "server$server" env EPX_LOG=info "$demo" --rank-table "$work/table.json" \
            --servers "$servers" --server "$server" --ranks "$each" --experts $((servers * each * 2)) --tokens 5 \
            --hidden 96 --topk 4 --ffn 8 --rounds 3 --quiet "$@"
    done
    net_wait 0 "$what"
    [ "$(net_lines "^verified: $each/$each ranks, 0 wrong elements")" = "$servers" ] || wrong "$what: not all are right"
    hosts=$(printf '%s\n' "${hosts[@]}" | sort -u | wc -l)
    [ "$(net_lines " on host .* of $hosts\), ")" = $((servers * each)) ] ||
        wrong "$what: not all say that there are $hosts hosts"
    net_expect_nothing "$what"
}

demos 4 "0 1"
demos 8 "1 0" --quant int8
demos 4 "0 1 2" --views
demos 5 "2 1 0" --return-quant int8
demos 4 "3 2 1 0" --quant int8 --smooth --dtype fp16
demos 4 "0 1" --exchange two-level
# Servers that share a host are one host.
demos 4 "0 0 1" --quant int8
demos 4 "0 1 0 1" --exchange two-level
# All servers on one host: its addresses are met, and no wire is needed.
net_forget
net_table 2 2 -- 4 >"$work/table.json"
net_start 2 both "$demo" --rank-table "$work/table.json" --ranks 4 --tokens 3 --hidden 32 --ffn 4 --rounds 2 --quiet
net_wait 0 "two servers on one host"
[ "$(net_lines "^verified: 8/8 ranks, 0 wrong elements")" = 1 ] || wrong "two servers on one host: not all are right"
net_expect_nothing "two servers on one host"
# A table of other addresses is one of this host, and nobody is dialled.
net_forget
sed 's/10\.77\./240.77./g' "$work/table.json" >"$work/elsewhere.json"
net_start 1 elsewhere "$demo" --rank-table "$work/elsewhere.json" --ranks 4 --tokens 3 --hidden 32 --ffn 4 \
    --rounds 2 --quiet
net_wait 0 "a table of other addresses"
[ "$(net_lines "^verified: 8/8 ranks, 0 wrong elements")" = 1 ] || wrong "a table of other addresses: not all are right"
net_expect_nothing "a table of other addresses"
finish
