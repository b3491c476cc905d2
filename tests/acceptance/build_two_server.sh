#!/usr/bin/env bash
# Builds the vendor page's two-server program, unchanged, against an installed tree: build_two_server.sh PREFIX SOURCE_DIR
# WORK_DIR. With its own script; only cann_path is set, as the script asks.
set -eu
cp "$2/aclnnCombineDemo.cpp" "$3/"
sed "s|^cann_path=.*|cann_path=\"$1\"|" "$2/buildCombine.sh" >"$3/buildCombine.sh"
# shellcheck disable=SC1091
source "$1/latest/bin/setenv.bash"
cd "$3"
bash buildCombine.sh
