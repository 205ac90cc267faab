# nodes.sh NODES PROCESSES PROGRAM …: the program as PROCESSES processes over the NODES nodes of this Slurm job, with one
# `accelerate launch` a node.  Runs on the first node, which is where the processes meet.
nodes=$1 processes=$2
shift 2
unset TRANSMOOTH_WARM       # that server is on this node alone
export MEET_AT="--main_process_ip $(hostname) --main_process_port $((20000 + SLURM_JOB_ID % 12000))"
exec srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=1 sh -c '
    exec accelerate launch --config_file ../../workflow/accelerate/local.yaml $MEET_AT --machine_rank "$SLURM_NODEID" \
        --no_python "$@"' sh --num_machines "$nodes" --num_processes "$processes" "$@"
