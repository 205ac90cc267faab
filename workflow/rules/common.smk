import atexit
import os
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from transmooth import files
from transmooth.params.load import load
from transmooth.params.messages import ParamsError
from transmooth.params.present import check_logs, check_sources
from transmooth.plan import Plan
from transmooth.report.terminal import show_results
from transmooth.runtime import closure, gpus, session

ROOT = Path(workflow.basedir)


def plan():
    """The study's plan; bad params end Snakemake here, with one line for each fault and nothing started."""
    if unknown := set(config) - {"study"}:
        raise WorkflowError(f"--config takes study=NAME alone, found {', '.join(sorted(unknown))}")
    try:
        made = Plan(load(str(config["study"]), ROOT))
        check_logs(made.params, ROOT)
        to_fetch = check_sources(made.params, made.datasets, ROOT)
    except ParamsError as error:
        raise WorkflowError(str(error))
    networks = {name: spec.text for name, spec in made.networks.items()}
    if faults := session.check_networks(networks, files.user_cache() / "networks"):
        raise WorkflowError("\n".join(f"params/studies/{made.params.name}.yaml: network {fault}" for fault in faults))
    return made, to_fetch


PLAN, TO_FETCH = plan()
if TO_FETCH:
    logger.warning("\n".join(TO_FETCH))


def run(wildcards):
    if wildcards.run not in PLAN.runs:
        raise WorkflowError(f"{wildcards.run}: no run of the study {PLAN.params.name}")
    return PLAN.runs[wildcards.run]


# Snakemake asks for each job several times, and for each shard.
digest = cache(closure.digest)


@cache
def evaluate_spec(path, evaluation):
    return PLAN.evaluate_spec(PLAN.runs[path], evaluation).text


def prepared(dataset):
    return f"../../{PLAN.prepared(dataset)}"


def weights(run):
    """The weights of a run, or nothing where there is no run."""
    return f"train/{run.path}/model.safetensors" if run else []


def records_of(report):
    return [PLAN.records(run, evaluation) for run, evaluation in PLAN.evaluations_of(report)]


def cards_of(report):
    return [f"train/{run.path}/model.json" for run in PLAN.runs_of(report)]


def folder(option, path):
    """An option that names the folder of a file, or nothing where there is no file."""
    return f"{option} {os.path.dirname(str(path))}" if path else ""


def launch(processes):
    """What starts a job's program (`params.program`): nothing for one process, `accelerate launch` for several.

    A function of `resources`, because Snakemake leaves such params out of what re-runs a job: whether a machine has
    GPUs, and over how many nodes a profile spreads the processes, changes no result.
    """

    def command(wildcards, resources):
        accelerate, count = "../../workflow/accelerate", processes(wildcards)
        if (nodes := min(resources.get("nodes", 1), count)) > 1:
            return f"sh {accelerate}/nodes.sh {nodes} {count}"
        lease = f"python -m transmooth.runtime.gpus {count}" if GPUS else ""
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

if workflow.is_main_process:
    OURS = (ROOT / "results" / PLAN.params.name, PLAN.outputs, [prepared(dataset) for dataset in PLAN.datasets])
    ALIVE = session.hold_folder(OURS[0], ROOT, *OURS[1:])
    if not workflow.dryrun:
        atexit.register(session.give_to_dvc, *OURS)
if workflow.remote_exec and "SLURM_STEP_ID" not in os.environ:
    # On a node of a cluster, where hooks do not run: once for all jobs of an allocation, each of which is a step with a
    # Snakemake of its own.  The address that Slurm copied from where it was submitted is of a server that is elsewhere.
    session.start_fork_server()


wildcard_constraints:
    home="data|external",
    dataset="[a-z0-9_]+",
    run=r"[a-z0-9_]+(/[a-z0-9_]+@[a-z0-9_]+)+/\d+",
    evaluation="[a-z0-9_]+",
    shard=r"\d+",
    shards=r"\d+",
    table="|".join(PLAN.tables) or "none",
    figure="|".join(PLAN.figures) or "none",
    shift="|".join(PLAN.shifts) or "none",


localrules:
    all,
    data,
