# How jobs start, and what this Snakemake holds while it lives.
import atexit

from transmooth.runtime import gpus


def launch(processes):
    """What starts a job's program (`params.program`): nothing for one process, `accelerate launch` for several.

    A function of `resources`, because Snakemake leaves such params out of what re-runs a job: whether a machine has
    GPUs, and over how many nodes a profile spreads the processes, changes no result.
    """

    def command(wildcards, resources):
        accelerate, count = "../../workflow/accelerate", processes(wildcards)
        if (nodes := min(resources.get("nodes", 1), count)) > 1:
            return f"sh {accelerate}/nodes.sh {nodes} {count}"
        lease = f"python -m transmooth.runtime.gpus {count} {SHARES}" if GPUS else ""
        if count == 1:
            return lease
        return f"{lease} accelerate launch --config_file {accelerate}/local.yaml --num_processes {count} --no_python"

    return command


GPUS = gpus.present()
# None where jobs go to a cluster.
CORES = workflow.global_resources["_cores"].value
if CORES and "gpu" not in workflow.global_resources:
    # Without GPUs the cores are the only limit.
    workflow.global_resources["gpu"] = len(GPUS) or CORES
# How many jobs have one GPU together: `snakemake --resources gpu=8` on a machine with one lets eight share it.
ASKED = workflow.global_resources.get("gpu")
SHARES = max(1, -(-ASKED.value // len(GPUS))) if GPUS and ASKED else 1

if workflow.is_main_process:
    OURS = (ROOT / "results" / PLAN.params.name, PLAN.outputs, [prepared(dataset) for dataset in PLAN.datasets])
    ALIVE = session.hold_folder(OURS[0], ROOT, *OURS[1:])
    if not workflow.dryrun:
        atexit.register(session.exit_as_stopped)  # after what is registered later
        atexit.register(session.give_to_dvc, *OURS)
if workflow.remote_exec and "SLURM_STEP_ID" not in os.environ:
    # On a node of a cluster, where hooks do not run: once for all jobs of an allocation, each of which is a step with a
    # Snakemake of its own.  The address that Slurm copied from where it was submitted is of a server that is elsewhere.
    session.start_fork_server()
