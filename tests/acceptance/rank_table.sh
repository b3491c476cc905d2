#!/usr/bin/env bash
# Writes a rank table (version 1.0): rank_table.sh SERVERS RANKS_PER_SERVER > table.json
# The addresses are of a block that no machine has (RFC 1112, class E): the ranks are all on this host.
set -eu
servers=$1
per_server=$2
printf '{\n  "version": "1.0",\n  "status": "completed",\n  "server_count": "%d",\n  "server_list": [\n' "$servers"
rank=0
for ((server = 0; server < servers; server++)); do
    printf '    {"server_id": "server%d", "device": [\n' "$server"
    for ((device = 0; device < per_server; device++)); do
        printf '      {"device_id": "%d", "device_ip": "240.0.0.%d", "rank_id": "%d"}' "$device" $((rank + 1)) "$rank"
        [ $((device + 1)) -lt "$per_server" ] && printf ','
        printf '\n'
        rank=$((rank + 1))
    done
    printf '    ]}'
    [ $((server + 1)) -lt "$servers" ] && printf ','
    printf '\n'
done
printf '  ]\n}\n'
