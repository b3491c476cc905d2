#!/usr/bin/env bash
# Ranks on several hosts as launchers start them: processes with the launchers' variables and made-up hosts, which meet over
# loopback.
. "$(dirname "$0")/lib.sh"
rank=$EPX_BIN_DIR/../tests/epx_env_rank
[ -x "$rank" ] || rank=$EPX_TEST_DIR/epx_env_rank
"$EPX_BIN_DIR/epx" info | grep -q '^to other hosts *none' && skip_all "this epx was built without UCX"
export EPX_JOIN_TIMEOUT=20000

# start HOST VARIABLE=VALUE…: a rank on a host, in the background
start()
{
    local host=$1
    shift
    env EPX_HOST_ID="$host" "$@" timeout -k 5 40 "$rank" >"$work/out.$host.$*" 2>&1 &
    pids+=($!)
}

# all_end WHAT STATUS: every rank started ends so
all_end()
{
    for pid in "${pids[@]}"; do
        status=0
        wait "$pid" || status=$?
        [ "$status" = "$2" ] || { cat "$work"/out.* >"$work/out"; wrong "$1: exit status $status, must be $2"; }
    done
    cat "$work"/out.* >"$work/out"
    rm -f "$work"/out.*
    pids=()
}
pids=()
port=$((20000 + $$ % 20000))

# epx run on two machines with the place given by hand.
for r in 0 1 2 3; do
    start "h$((r / 2))" EPX_RANK=$r EPX_WORLD_SIZE=4 EPX_JOB=launch$$ EPX_ROOT=127.0.0.1:$port-$((port + 9))
done
all_end "EPX_ROOT" 0

# torchrun says itself where rank 0 is.
for r in 0 1 2; do
    start "h$((r / 2))" RANK=$r WORLD_SIZE=3 LOCAL_WORLD_SIZE=$((r < 2 ? 2 : 1)) MASTER_ADDR=127.0.0.1 MASTER_PORT=1 \
        TORCHELASTIC_RUN_ID=launch$$ HCCL_IF_BASE_PORT=$((port + 100))
done
all_end "torchrun" 0

# A name that means loopback here is no place for others.
if getent hosts localhost >/dev/null; then
    start h0 RANK=0 WORLD_SIZE=2 LOCAL_WORLD_SIZE=1 MASTER_ADDR=localhost MASTER_PORT=1 TORCHELASTIC_RUN_ID=launch$$
    all_end "torchrun at localhost" 1
    expect_text out 'is "localhost", for which this host knows loopback addresses alone' "torchrun at localhost"
fi

# srun gives a list of hosts.
for r in 0 1; do
    start "h$r" SLURM_PROCID=$r SLURM_NTASKS=2 SLURM_NNODES=2 SLURM_JOB_ID=launch$$ SLURM_STEP_ID=0 \
        "SLURM_STEP_NODELIST=127.0.0.[1-2,4]" HCCL_HOST_SOCKET_PORT_RANGE=$((port + 200))-$((port + 210))
done
all_end "srun" 0

# mpirun does not.
for r in 0 1; do
    start "h$r" OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_SIZE=1 PMIX_NAMESPACE=launch$$
done
all_end "mpirun without a place" 1
expect_text out "OMPI_COMM_WORLD_LOCAL_SIZE says that the ranks are on several hosts: EPX_ROOT must say" "mpirun without a place"
for r in 0 1; do
    start "h$r" OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_SIZE=1 PMIX_NAMESPACE=launch$$ \
        EPX_ROOT=127.0.0.1:$((port + 300))
done
all_end "mpirun" 0

# A place that is none, and one where nobody is.
start h0 EPX_RANK=0 EPX_WORLD_SIZE=2 EPX_JOB=launch$$ EPX_ROOT=nowhere
all_end "a place that is none" 1
expect_text out 'EPX_ROOT is "nowhere", must be ADDRESS:PORT' "a place that is none"
start h1 EPX_RANK=1 EPX_WORLD_SIZE=2 EPX_JOB=launch$$ EPX_ROOT=127.0.0.1:1 EPX_JOIN_TIMEOUT=500
all_end "a place where nobody is" 1
expect_text out "127.0.0.1" "a place where nobody is"
finish
