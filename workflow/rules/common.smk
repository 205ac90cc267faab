import os
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from transmooth import files
from transmooth.params.load import load
from transmooth.params.messages import ParamsError
from transmooth.params.present import check_logs, check_packages, check_sources, check_tracker, check_weights
from transmooth.plan import Plan
from transmooth.report.terminal import show_results
from transmooth.runtime import closure, session

ROOT = Path(workflow.basedir)


def plan():
    """The study's plan; bad params end Snakemake here, with one line for each fault and nothing started."""
    if unknown := set(config) - {"study"}:
        raise WorkflowError(f"--config takes study=NAME alone, found {', '.join(sorted(unknown))}")
    try:
        check_packages()
        made = Plan(load(str(config["study"]), ROOT))
        check_logs(made.params, ROOT)
        check_tracker(made.study.tracker, f"params/studies/{made.params.name}.yaml: tracker")
        of_weights = {name: path for name in made.networks if (path := made.weights_file(name))}
        to_fetch = check_sources(made.params, made.datasets, ROOT) + check_weights(of_weights)
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


def published_weights(run):
    """The file of a run's first weights, where one is read and there."""
    path = None if run.start else PLAN.weights_file(run.network)
    return str(path) if path and path.is_file() else []


def records_of(report):
    return [PLAN.records(run, evaluation) for run, evaluation in PLAN.evaluations_of(report)]


def cards_of(report):
    return [f"train/{run.path}/model.json" for run in PLAN.runs_of(report)]


def folder(option, path):
    """An option that names the folder of a file, or nothing where there is no file."""
    return f"{option} {os.path.dirname(str(path))}" if path else ""


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
    course="|".join(PLAN.courses) or "none",
    gain="|".join(PLAN.gains) or "none",


localrules:
    all,
    data,
