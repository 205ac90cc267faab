import hashlib
from pathlib import Path

from snakemake.exceptions import WorkflowError

from transmooth import params
from transmooth.plan import Plan, Run

ROOT = Path(workflow.basedir)


def plan():
    """The study's plan; bad params end Snakemake here, with one line for each fault and nothing started."""
    if unknown := set(config) - {"study"}:
        raise WorkflowError(f"--config takes study=NAME alone, found {', '.join(sorted(unknown))}")
    try:
        made = Plan(params.load(str(config["study"]), ROOT))
        params.check_sources(made.params, made.datasets, ROOT)
    except params.ParamsError as error:
        raise WorkflowError(str(error))
    return made


PLAN = plan()
STUDY = PLAN.study


def code(*patterns):
    """A hash of the sources that a job's result depends on, as a param.

    As an input they would be compared by time first, and git and DVC restore files with arbitrary times.  After a
    change that cannot alter results: `snakemake --touch`.
    """
    folder = ROOT / "src" / "transmooth"
    sources = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


TRAIN_CODE = code(
    "train.py", "noise.py", "checkpoint.py", "models/*.py", "objectives/*.py", "data/augment.py", "data/loader.py", "data/order.py"
)


def run_of(wildcards):
    return Run(wildcards.pretrain, wildcards.dataset, wildcards.finetune, int(wildcards.seed))


def launch(processes):
    """How a job starts: `accelerate launch` for several processes; for one, the same command without its start-up."""
    if processes == 1:
        return "python -m transmooth"
    return (
        "accelerate launch --config_file ../../workflow/accelerate/local.yaml"
        f" --num_processes {processes} -m transmooth"
    )


def gpus():
    """GPUs that jobs may share out; without any, the cores are the only limit."""
    found = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    return found or workflow.cores or 1


if "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = gpus()


def show_results():
    from transmooth.report.terminal import show

    show(Path.cwd(), PLAN.tables, PLAN.figures)


wildcard_constraints:
    pretrain="[a-z0-9_]+",
    dataset="[a-z0-9_]+",
    finetune="[a-z0-9_]+",
    seed=r"\d+",
    table="|".join(PLAN.tables) or "none",
    figure="|".join(PLAN.figures) or "none",


scattergather:
    shards=STUDY.certify.shards,


localrules:
    all,
    data,
